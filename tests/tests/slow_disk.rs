//! A disk that is slower than those who emit.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use semj::medium::File;
use semj::{Event, EventType, Journal, Options};
use semj_tests::quirk::{Quirk, QuirkyDisk};

/// The machine's disk, but each write takes a while.
#[derive(Debug)]
struct SlowWrites;

impl Quirk for SlowWrites {
    fn write_at(&self, file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        std::thread::sleep(Duration::from_millis(5));
        file.write_at(offset, bytes)
    }
}

#[test]
fn who_waits_for_durability_does_not_wait_for_what_others_emit_meanwhile() {
    const EVENTS_MAX: u64 = 200_000;
    let dir = tempfile::tempdir().unwrap();
    // A round of appending ends where sixteen segments wait for the disk, and the buffer, which is never empty, holds twice that.
    let options = Options { segment_size: 256 << 10, buffer_events: 16_384, ..Options::default() };
    let journal = Journal::open_on(Arc::new(QuirkyDisk::new(SlowWrites)), dir.path(), options).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let emit = || {
            let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&[7; 300]);
            let emits = || !is_done.load(Ordering::Relaxed) && journal.emit(&event).is_ok();
            (0..EVENTS_MAX).take_while(|_| emits()).count() as u64
        };
        let producers = [scope.spawn(emit), scope.spawn(emit)];
        while journal.stats().waits == 0 {
            std::thread::yield_now();
        }
        let results = [(); 2].map(|()| journal.sync());
        is_done.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
        for producer in producers {
            assert!(producer.join().unwrap() < EVENTS_MAX, "two syncs lasted as long as anybody emitted");
        }
    });
}
