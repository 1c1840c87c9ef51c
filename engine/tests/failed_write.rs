//! One write fails and all others succeed: nothing may be written behind what was not.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use semj::medium::{ClockAnchor, Disk, File, LockOutcome, Map, Medium};
use semj::{Event, EventType, Journal, Options};

/// The machine's disk, but for one write.
#[derive(Debug)]
struct FailingDisk {
    writes_left: Arc<AtomicI64>,
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn File>,
    writes_left: Arc<AtomicI64>,
}

impl FailingDisk {
    fn file(&self, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(FailingFile { file: file?, writes_left: Arc::clone(&self.writes_left) }))
    }
}

impl Medium for FailingDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        self.file(Disk.create(path, size))
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        self.file(Disk.open(path, writable))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.link(from, to)
    }
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.clone_file(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        Disk.lock(path)
    }
    fn monotonic_ns(&self) -> i64 {
        Disk.monotonic_ns()
    }
    fn clock_anchor(&self) -> ClockAnchor {
        Disk.clock_anchor()
    }
    fn boot_id(&self) -> [u8; 16] {
        Disk.boot_id()
    }
    fn cpu_id(&self) -> u32 {
        Disk.cpu_id()
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }
}

impl File for FailingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::other("this one write fails"));
        }
        self.file.write_at(offset, bytes)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn release_from(&self, offset: u64) -> io::Result<()> {
        self.file.release_from(offset)
    }
    fn map(&self) -> io::Result<Box<dyn Map>> {
        self.file.map()
    }
}

#[test]
fn after_a_failed_write_nobody_writes_and_the_journal_opens_with_all_that_was_acknowledged() {
    for writes in 3..40 {
        let dir = tempfile::tempdir().unwrap();
        let medium = Arc::new(FailingDisk { writes_left: Arc::new(AtomicI64::new(writes)) });
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
