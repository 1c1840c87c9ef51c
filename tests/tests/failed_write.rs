//! One write fails and all others succeed: nothing may be written behind what was not.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use semj::medium::File;
use semj::{Event, EventType, Journal, Options};
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
