//! What an open puts into quarantine, and what it must not touch on the way: files that a snapshot shares, and the disk's space where
//! nothing comes of the open.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semj::{
    CommitOn, Error, Event, EventType, Journal, OpenMode, Options, SnapshotMethod, SnapshotOptions, snapshot,
};
use semj_tests::disk::{Faults, SimulatedDisk};

const EVENTS: u64 = 3000;

fn options(mode: OpenMode) -> Options {
    Options {
        segment_size: 256 << 10,
        buffer_events: 64,
        commit_on: CommitOn::CallersThread,
        mode,
        ..Options::default()
    }
}

fn emit(journal: &Journal, count: u64) {
    for n in 0..count {
        let payload = [n as u8; 200];
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).path("/a/file").payload(&payload)).unwrap();
    }
}

fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Where a segment's last commit or seal begins to be damaged, and one in its middle.
fn damages(bytes: &[u8]) -> [usize; 2] {
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    [end - 200, end / 2]
}

#[test]
fn what_a_snapshot_shares_is_not_cut_by_a_recovery_of_the_other_one() {
    for mode in [OpenMode::PointInTime, OpenMode::Salvage] {
        for case in 0..8 {
            let [is_newest, is_snapshot, is_middle] = [1, 2, 4].map(|bit| case & bit != 0);
            let place = usize::from(is_middle);
            let what = format!("{mode:?}, newest: {is_newest}, snapshot: {is_snapshot}, place {place}");
            let parent = tempfile::tempdir().unwrap();
            let [dir, target] = ["journal", "snapshot"].map(|name| parent.path().join(name));
            let journal = Journal::open(&dir, options(OpenMode::Strict)).unwrap();
            emit(&journal, EVENTS);
            journal.close().unwrap();
            let method = SnapshotOptions { method: SnapshotMethod::Link, ..SnapshotOptions::default() };
            let taken = snapshot(&dir, &target, method, &mut |_| ()).unwrap();
            assert!(taken.linked >= 3, "{what}: {taken:?}");

            let segments = files(&target);
            let at = if is_newest { segments.len() - 1 } else { 1 };
            let (path, mut bytes) = segments.into_iter().nth(at).unwrap();
            let damage = damages(&bytes)[place];
            bytes[damage] ^= 1;
            // In place: both have it.
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[damage..=damage], damage as u64).unwrap();
            let both = [files(&dir), files(&target)];
            let before = |of: &Path| if of == dir { both[0].clone() } else { both[1].clone() };

            // Whichever of the two is recovered: the other one stays as it is.
            let (recovered, other) = if is_snapshot { (&target, &dir) } else { (&dir, &target) };
            Journal::open(recovered, options(mode)).unwrap().close().unwrap();
            assert!(files(other) == before(other), "{what}");
            Journal::open(recovered, options(OpenMode::Strict)).unwrap().close().unwrap();
        }
    }
}

const DIR: &str = "/journal";

/// A journal whose writer is gone, with a torn group at its end.
fn torn(seed: u64) -> SimulatedDisk {
    let disk = SimulatedDisk::new(seed, Faults::default());
    let journal = open(&disk, OpenMode::Strict).unwrap();
    emit(&journal, EVENTS);
    journal.sync().unwrap();
    emit(&journal, 20);
    disk.set_faults(Faults { write_fails_at: Some(1), ..Faults::default() });
    assert!(journal.sync().is_err());
    disk.set_faults(Faults::default());
    drop(journal);
    disk
}

fn open(disk: &SimulatedDisk, mode: OpenMode) -> Result<Journal, Error> {
    Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options(mode))
}

#[test]
fn an_open_of_which_nothing_comes_leaves_nothing_in_quarantine() {
    let quarantined = |disk: &SimulatedDisk| disk.files(&Path::new(DIR).join("quarantine")).len();
    let (mut failures, mut steps) = (0, 0);
    for after in 1.. {
        let all_faults = [
            Faults { full_at: Some(after), ..Faults::default() },
            Faults { write_fails_at: Some(after), ..Faults::default() },
            Faults { dir_sync_fails_at: Some(after), ..Faults::default() },
        ];
        let is_over = all_faults.map(|faults| {
            let disk = torn(after);
            disk.set_faults(faults);
            let opened = open(&disk, OpenMode::Strict);
            let is_met = disk.faults_left() == 0;
            disk.set_faults(Faults::default());
            let Err(error) = opened else {
                // What came behind the new segment's name is another matter: it says what is in quarantine.
                return !is_met;
            };
            failures += 1;
            let segments = disk.files(Path::new(DIR));
            let has_new = segments.iter().filter(|(name, _)| name.ends_with(".semj")).count();
            let expected = if has_new > segment_count() { 1 } else { 0 };
            assert_eq!(quarantined(&disk), expected, "{faults:?}: {error}");
            open(&disk, OpenMode::Strict).unwrap().close().unwrap();
            assert_eq!(quarantined(&disk), 1, "{faults:?}");
            false
        });
        steps = after;
        if is_over == [true; 3] {
            break;
        }
    }
    assert!(failures > 4, "{failures} failures in {steps} steps");
}

/// Segments of a journal as [`torn`] makes it.
fn segment_count() -> usize {
    let names = torn(1).files(Path::new(DIR));
    names.iter().filter(|(name, _)| name.ends_with(".semj")).count()
}
