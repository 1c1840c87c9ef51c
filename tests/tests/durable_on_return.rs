//! What is durable when a call returns is there after the worst that a loss of power can do: nothing is kept that was not
//! synced, neither bytes nor names.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use semj::{
    CommitOn, Compaction, Event, EventType, Journal, OpenMode, Options, Proof, Reader, SnapshotMethod,
    SnapshotOptions, SyncPolicy, compact_on, snapshot_on,
};
use semj_format::JournalHeader;
use semj_format::journal_header::FLAG_COMPRESSED;
use semj_tests::disk::{Choices, Faults, Odometer, SimulatedDisk};

const JOURNAL: &str = "/journal";
const SNAPSHOT: &str = "/snapshot";
/// More than two segments of them.
const EVENTS: u64 = 1500;

fn open(disk: &SimulatedDisk) -> Journal {
    let options = Options {
        segment_size: 256 << 10,
        buffer_events: 64,
        commit_on: CommitOn::CallersThread,
        sync_policy: SyncPolicy::None,
        ..Options::default()
    };
    Journal::open_on(Arc::new(disk.clone()), Path::new(JOURNAL), options).unwrap()
}

fn emit(journal: &Journal) {
    for _ in 0..EVENTS {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).path("/a/file").payload(&[7; 300])).unwrap();
    }
}

/// The first of all choices keeps nothing.
fn worst(disk: &SimulatedDisk) -> SimulatedDisk {
    disk.after_power_cut(&mut Choices::Each(&mut Odometer::default()), 1)
}

fn events(disk: &SimulatedDisk, dir: &str) -> u64 {
    let reader = Reader::open_on(disk, Path::new(dir), OpenMode::Strict, Proof::Everything).unwrap();
    reader.iter(..).collect::<Result<Vec<_>, _>>().unwrap().len() as u64
}

#[test]
fn a_snapshot_is_durable_with_what_it_has_of_the_segment_that_is_written() {
    for method in [SnapshotMethod::Auto, SnapshotMethod::Copy] {
        let disk = SimulatedDisk::new(1, Faults::default());
        let journal = open(&disk);
        // The second time it is brought forward.
        for _ in 0..2 {
            emit(&journal);
            let options = SnapshotOptions { method, ..SnapshotOptions::default() };
            let [dir, target] = [JOURNAL, SNAPSHOT].map(Path::new);
            let taken = snapshot_on(&disk, dir, target, options, &mut |_| ()).unwrap();
            assert!(
                taken.tip.last_event_id > journal.stats().last_durable_id,
                "there was nothing to make durable"
            );
            let left = worst(&disk);
            assert_eq!(events(&left, SNAPSHOT), taken.events);
            // Else the journal would go on with other events behind those that it lost, and no later snapshot could follow.
            assert!(events(&left, JOURNAL) >= taken.events, "the snapshot alone has the newest");
        }
    }
}

#[test]
fn a_compaction_is_durable() {
    let disk = SimulatedDisk::new(1, Faults::default());
    let journal = open(&disk);
    emit(&journal);
    journal.close().unwrap();
    let dir = Path::new(JOURNAL);
    let done = compact_on(&disk, dir, &Compaction::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(done.compacted >= 3, "{done:?}");
    let left = worst(&disk);
    let files = left.files(dir);
    let headers = files
        .iter()
        .filter(|(name, _)| name.ends_with(".semj"))
        .map(|(_, bytes)| JournalHeader::parse(&bytes[..JournalHeader::SIZE]).unwrap());
    assert_eq!(headers.filter(|header| header.flags & FLAG_COMPRESSED != 0).count() as u64, done.compacted);
    assert_eq!(events(&left, JOURNAL), EVENTS);
}
