//! One write fails and all others succeed: nothing may be written behind what was not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use semj::medium::File;
use semj::{CommitOn, Event, EventType, Journal, OpenMode, Options, Reader, Retention};
use semj_tests::quirk::{Quirk, QuirkyDisk};

/// The machine's disk, but for one write.
#[derive(Debug)]
struct FailingWrite {
    writes_left: AtomicI64,
}

impl Quirk for FailingWrite {
    fn write_at(&self, file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::other("this one write fails"));
        }
        file.write_at(offset, bytes)
    }
}

#[test]
fn after_a_failed_write_nobody_writes_and_the_journal_opens_with_all_that_was_acknowledged() {
    for writes in 3..40 {
        let dir = tempfile::tempdir().unwrap();
        let medium = Arc::new(QuirkyDisk::new(FailingWrite { writes_left: AtomicI64::new(writes) }));
        let options = Options { segment_size: 256 << 10, ..Options::default() };
        let acknowledged = AtomicU64::new(0);
        if let Ok(journal) = Journal::open_on(medium, dir.path(), options) {
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&[7; 3000]);
                        // The write that fails may be one that does not matter, such as a sidecar's.
                        for id in (0..100).map_while(|_| journal.emit_durable(&event).ok()) {
                            acknowledged.fetch_max(id, Ordering::SeqCst);
                        }
                    });
                }
            });
            let stopped = journal.emit_durable(&Event::new(EventType::SYSTEM_SYNC)).is_err();
            assert_eq!(stopped, journal.sync().is_err(), "what has stopped stays so");
        }
        let journal = Journal::open(dir.path(), Options::default());
        let journal = journal.unwrap_or_else(|error| unreachable!("write {writes} failed: {error}"));
        let ids: Vec<_> = journal.reader().iter(..).map(|record| record.unwrap().event_id()).collect();
        assert!(ids.iter().copied().eq(1..=ids.len() as u64), "write {writes} failed");
        assert!(ids.len() as u64 >= acknowledged.load(Ordering::SeqCst), "write {writes} failed");
    }
}

#[test]
fn a_recovery_that_has_stopped_half_way_is_made_again_with_the_same_result() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { max_segments: Some(5), ..Retention::default() };
    let open = |mode, retention| Options {
        mode,
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        retention,
        ..Options::default()
    };
    // Each rotation retires a segment, so only the newest says behind which one the journal begins.
    let journal = Journal::open(dir.path(), open(OpenMode::Strict, retention)).unwrap();
    let payload = |n: u64| format!("event number {n:04}").into_bytes();
    for n in 1..=60 {
        journal.emit_durable(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload(n))).unwrap();
        if n % 5 == 0 {
            journal.rotate().unwrap();
        }
    }
    journal.close().unwrap();
    let ids = |dir: &std::path::Path, mode| -> Vec<u64> {
        Reader::open(dir, mode).unwrap().iter(..).map(|record| record.unwrap().event_id()).collect()
    };
    let whole = ids(dir.path(), OpenMode::Strict);
    // An event in the middle of the second segment that is left.
    let rotten = whole[0] + 7;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        let Ok(mut bytes) = std::fs::read(&path) else { continue };
        let at = bytes.windows(17).position(|bytes| bytes == payload(rotten));
        if let Some(at) = at.filter(|_| path.extension().is_some_and(|extension| extension == "semj")) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let kept: Vec<_> = whole.iter().copied().filter(|id| *id < rotten).collect();
    assert_eq!(ids(dir.path(), OpenMode::PointInTime), kept);
    for writes in 1.. {
        let copy = semj_tests::crash::copy(dir.path()).unwrap();
        let medium = Arc::new(QuirkyDisk::new(FailingWrite { writes_left: AtomicI64::new(writes) }));
        let options = || open(OpenMode::PointInTime, Retention::default());
        let is_done = Journal::open_on(medium, copy.path(), options()).is_ok();
        assert_eq!(ids(copy.path(), OpenMode::PointInTime), kept, "write {writes} failed");
        Journal::open(copy.path(), options()).unwrap().close().unwrap();
        assert_eq!(ids(copy.path(), OpenMode::Strict), kept, "write {writes} failed");
        if is_done {
            break;
        }
    }
}
