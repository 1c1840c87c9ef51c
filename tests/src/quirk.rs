//! The machine's disk, which does some things otherwise.

use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semj::medium::{ClockAnchor, Disk, File, LockOutcome, Map, Medium};

/// What is done otherwise. What isn't overridden is as on the machine's disk.
pub trait Quirk: Debug + Send + Sync + 'static {
    /// Writes to a file.
    ///
    /// # Errors
    ///
    /// As [`File::write_at`].
    fn write_at(&self, file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_at(offset, bytes)
    }
    /// Has a file leave the cache.
    fn evict(&self, file: &dyn File, _path: &Path) {
        file.evict();
    }
    /// Gives a file another name.
    ///
    /// # Errors
    ///
    /// As [`Medium::rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    ///
    /// As [`Medium::sync_dir`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    /// Nanoseconds of the monotonic clock.
    fn monotonic_ns(&self) -> i64 {
        Disk.monotonic_ns()
    }
}

/// The machine's disk with a quirk.
#[derive(Debug)]
pub struct QuirkyDisk<Q>(pub Arc<Q>);

#[derive(Debug)]
struct QuirkyFile<Q> {
    file: Box<dyn File>,
    path: PathBuf,
    quirk: Arc<Q>,
}

impl<Q: Quirk> QuirkyDisk<Q> {
    /// A disk with this quirk.
    pub fn new(quirk: Q) -> Self {
        Self(Arc::new(quirk))
    }

    fn file(&self, path: &Path, file: io::Result<Box<dyn File>>) -> io::Result<Box<dyn File>> {
        Ok(Box::new(QuirkyFile { file: file?, path: path.to_owned(), quirk: Arc::clone(&self.0) }))
    }
}

impl<Q: Quirk> Medium for QuirkyDisk<Q> {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        self.file(path, Disk.create(path, size))
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        self.file(path, Disk.open(path, writable))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
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
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        Disk.lock(path)
    }
    fn monotonic_ns(&self) -> i64 {
        self.0.monotonic_ns()
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

impl<Q: Quirk> File for QuirkyFile<Q> {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn has_other_names(&self) -> io::Result<bool> {
        self.file.has_other_names()
    }
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.quirk.write_at(&*self.file, offset, bytes)
    }
    fn start_write(&self, range: Range<u64>) {
        self.file.start_write(range);
    }
    fn evict(&self) {
        self.quirk.evict(&*self.file, &self.path);
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
