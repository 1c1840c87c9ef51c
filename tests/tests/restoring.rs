//! A damaged compressed segment is restored, wherever the power goes or a write fails meanwhile: nothing of it is lost, and the file
//! that it was is kept.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use semj::{
    Codec, CommitOn, Compaction, Error, Event, EventType, Journal, OpenMode, Options, Proof, Reader,
    compact_on,
};
use semj_tests::disk::{Choices, Faults, SimulatedDisk, SyncFailure};
use semj_tests::random::Random;

const DIR: &str = "/journal";
const EVENTS: u64 = 2000;

fn open(disk: &SimulatedDisk, mode: OpenMode) -> Result<Journal, Error> {
    let options = Options {
        segment_size: 256 << 10,
        buffer_events: 64,
        commit_on: CommitOn::CallersThread,
        mode,
        ..Options::default()
    };
    Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// A compressed journal, closed, of which two segments are damaged, the newest one too; and what their files are.
fn damaged(seed: u64) -> (SimulatedDisk, Vec<Vec<u8>>) {
    let disk = SimulatedDisk::new(seed, Faults::default());
    let journal = open(&disk, OpenMode::Strict).unwrap();
    for n in 0..EVENTS {
        let payload = [n as u8; 200];
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).path("/a/file").payload(&payload)).unwrap();
    }
    journal.close().unwrap();
    let dir = Path::new(DIR);
    let compaction = Compaction { codec: Codec::Lz4, ..Compaction::default() };
    let done = compact_on(&disk, dir, &compaction, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(done.compacted >= 3 && done.skipped.is_empty(), "{done:?}");
    let segments = || disk.files(dir).into_iter().filter(|(name, _)| name.ends_with(".semj"));
    let count = segments().count();
    let mut files = Vec::new();
    // In the seal, and in the header.
    for (place, at_end) in [(1, true), (count - 1, false)] {
        let (name, bytes) = segments().nth(place).unwrap();
        let at = if at_end { bytes.len() - 40 } else { 30 };
        disk.flip(&dir.join(&name), at as u64 * 8);
        files.push(segments().nth(place).unwrap().1);
    }
    (disk, files)
}

/// What must hold behind a salvage, whatever came before it.
fn check(disk: &SimulatedDisk, files: &[Vec<u8>], what: &str) {
    let done = open(disk, OpenMode::Salvage).and_then(Journal::close);
    assert!(done.is_ok(), "{what}: {done:?}");
    let reader = Reader::open_on(disk, Path::new(DIR), OpenMode::Strict, Proof::Everything);
    let events = reader.map(|reader| reader.iter(..).filter(Result::is_ok).count() as u64);
    assert!(matches!(events, Ok(EVENTS)), "{what}: {events:?}");
    let kept = disk.files(&Path::new(DIR).join("quarantine"));
    for file in files {
        assert!(kept.iter().any(|(_, bytes)| bytes == file), "{what}: the damaged file is kept");
    }
}

#[test]
fn the_power_may_go_at_any_step() {
    let mut cuts = 0;
    for step in 1.. {
        let (disk, files) = damaged(step);
        disk.set_faults(Faults { power_cut_at: Some(step), ..Faults::default() });
        let is_done = open(&disk, OpenMode::Salvage).and_then(Journal::close).is_ok();
        if is_done && disk.has_power() {
            break;
        }
        cuts += 1;
        for seed in 0..6 {
            let mut random = Random::new(step * 100 + seed);
            let left = disk.after_power_cut(&mut Choices::Random(&mut random), seed);
            check(&left, &files, &format!("step {step}, seed {seed}"));
        }
    }
    assert!(cuts > 20, "{cuts} steps");
}

#[test]
fn any_write_creation_or_sync_may_fail() {
    let mut failures = 0;
    for step in 1..200 {
        for faults in [
            Faults { write_fails_at: Some(step), ..Faults::default() },
            Faults { full_at: Some(step), ..Faults::default() },
            Faults { sync_fails_at: Some((step, SyncFailure::KeptClean)), ..Faults::default() },
            Faults { sync_fails_at: Some((step, SyncFailure::Dropped)), ..Faults::default() },
        ] {
            let (disk, files) = damaged(step);
            disk.set_faults(faults);
            let done = open(&disk, OpenMode::Salvage).and_then(Journal::close);
            if disk.faults_left() > 0 {
                continue;
            }
            failures += u64::from(done.is_err());
            disk.set_faults(Faults::default());
            check(&disk, &files, &format!("{faults:?}"));
        }
    }
    assert!(failures > 10, "{failures} failures");
}
