//! A disk that writes other bytes than it was told to: a compacted segment never takes the place of a native one then.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use semj::medium::{ClockAnchor, Disk, File, LockOutcome, Map, Medium};
use semj::{Compaction, Error, Event, EventType, Journal, OpenMode, Options, Reader, compact_on};

/// Flips a bit of what is written to files that it creates.
#[derive(Debug)]
struct Lying {
    bit: u64,
}

#[derive(Debug)]
struct LyingFile {
    file: Box<dyn File>,
    bit: u64,
}

impl File for LyingFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = bytes.to_vec();
        let at = (self.bit / 8) as usize % bytes.len();
        written[at] ^= 1 << (self.bit % 8);
        self.file.write_at(offset, &written)
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

impl Medium for Lying {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        Ok(Box::new(LyingFile { file: Disk.create(path, size)?, bit: self.bit }))
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        Disk.open(path, writable)
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

/// The segments and whatever else has a name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.contains(".semj"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_compacted_segment_that_reads_back_otherwise_does_not_take_the_native_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { segment_size: 1 << 20, ..Options::default() }).unwrap();
    for id in 1..=3_000u64 {
        let payload = format!("{{\"bytes\":{}}}", id * 17 % 5000);
        let event = Event::new(EventType::FILESYSTEM_WRITE).path("/project/a.rs").payload(payload.as_bytes());
        assert_eq!(journal.emit(&event).unwrap(), id);
    }
    journal.close().unwrap();
    let before = files(dir.path());
    // In the header, in a block, and somewhere.
    for bit in [3, 52 * 8, 200 * 8 + 5, 4_001 * 8, u64::MAX / 8 * 8] {
        let found =
            compact_on(
                &Lying { bit },
                dir.path(),
                &Compaction::default(),
                &mut |_| ControlFlow::Continue(()),
            );
        assert!(matches!(found, Err(Error::NotGivenBack { .. })), "bit {bit}: {found:?}");
        assert!(files(dir.path()) == before, "bit {bit}");
    }
    let done = compact_on(&Disk, dir.path(), &Compaction::default(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(done.unwrap().compacted, 1);
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.iter(..).filter(Result::is_ok).count(), 3_000);
}
