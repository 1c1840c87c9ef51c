//! The seam: everything the engine asks of the world goes through these traits.
//!
//! The engine calls no file system, clock or random source but through [`Medium`], so that a test can put a
//! simulated disk under it which loses power at any step. [`Disk`] is the real one. (An emission reads the clock of a
//! medium that has none of its own without calling it: [`Medium::has_process_clock`].)
//!
//! What the engine relies on, and a simulated medium must model:
//!
//! * Written bytes are seen by maps of the same file at once, and are durable only after a sync of the file.
//! * A new, renamed or removed name is durable only after a sync of the directory.
//! * After a failed sync nothing is known of the bytes it was to make durable.

mod changes;
pub(crate) mod clock;
mod disk;
mod sigbus;

use std::borrow::Cow;
use std::fmt::Debug;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

pub use disk::Disk;

/// Two clocks read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnchor {
    /// CLOCK_REALTIME: nanoseconds since 1970.
    pub wall_clock_ns: i64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: i64,
}

/// A moment on a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: i64,
    /// The processor.
    pub cpu_id: u32,
}

/// Whether a lock was had.
#[derive(Debug)]
pub enum LockOutcome {
    /// It was; it is given back when this is dropped.
    Acquired(Box<dyn Debug + Send + Sync>),
    /// Somebody else has it: the process that wrote its id into the file, where that can be read.
    Held(Option<u32>),
}

/// Files, directories, clocks.
pub trait Medium: Debug + Send + Sync {
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Creates a directory and those above it, durably. One that exists is no error.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a file of this size, all of it backed by the disk, all zero. A file of this name is replaced.
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>>;
    /// Opens a file for reading and, if `writable`, for writing.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>>;
    /// Gives a file another name, in place of a file that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name, on the same file system. A file that has that name is an error.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a file of this name, in place of one that has it, that shares the blocks of another until either is written
    /// to. Nobody but its owner may read it yet. Many file systems can't.
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file the permissions of another, and its owner and group where that may be done. A medium may have none.
    fn take_after(&self, _path: &Path, _model: &Path) -> io::Result<()> {
        Ok(())
    }
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Begins to watch the files of a directory for changes. Where nobody tells of them, that is looking now and then.
    fn watch(&self, _dir: &Path) -> io::Result<Box<dyn Changes>> {
        Ok(Box::new(changes::Looks))
    }
    /// Takes the lock of this file without waiting, and writes this process's id into it.
    fn lock(&self, path: &Path) -> io::Result<LockOutcome>;
    /// Whether somebody has the lock. A medium that can't just look takes it for a moment.
    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        Ok(matches!(self.lock(path)?, LockOutcome::Held(_)))
    }

    /// Nanoseconds of CLOCK_MONOTONIC.
    fn monotonic_ns(&self) -> i64;
    /// When and where the caller runs, as cheaply as that can be had: for each event.
    fn now(&self) -> Now {
        Now { monotonic_ns: self.monotonic_ns(), cpu_id: self.cpu_id() }
    }
    /// Whether [`Medium::now`] is this process's clock, as [`Disk`]'s is: an emission then reads that and does not call
    /// the medium. One with a clock of its own leaves this false.
    fn has_process_clock(&self) -> bool {
        false
    }
    /// Called now and then while events come in, for a medium that has to keep [`Medium::now`] right.
    fn keep_time(&self) {}
    /// Both clocks, read as close together as can be.
    fn clock_anchor(&self) -> ClockAnchor;
    /// Which boot of the machine the monotonic clock belongs to; zero where that is not known.
    fn boot_id(&self) -> [u8; 16];
    /// The processor that the caller runs on.
    fn cpu_id(&self) -> u32;
    /// Called by a thread whose work nobody waits for.
    fn give_way(&self) {}
    /// Called by a thread that works little at a time and should begin soon when it is woken, however busy the others are.
    fn take_short_turns(&self) {}
    /// How many threads may read at the same time.
    fn threads(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }
    /// 16 random bytes.
    fn random(&self) -> io::Result<[u8; 16]>;
}

/// Waits for changes.
pub trait Changes: Debug + Send {
    /// Returns when a file was written to or got a name since the last call, or after so long. Whether there was, or may
    /// have been, such a change.
    fn wait(&mut self, at_most: Duration) -> io::Result<bool>;
}

/// An open file.
pub trait File: Debug + Send + Sync {
    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;
    /// Whether the file has another name by [`Medium::link`]: what is written to it stands in that one too.
    fn has_other_names(&self) -> io::Result<bool>;
    /// An offset behind which all bytes are zero, as far as that is known without reading them; the size if it is not.
    fn data_end(&self) -> io::Result<u64> {
        self.size()
    }
    /// Reads what stands at `offset`, as much as comes at once; 0 bytes at the end of the file.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Has the disk begin to write the bytes of a range, where it can be told to, and does not wait for it. Whether that
    /// succeeds, [`File::sync_data`] says.
    fn start_write(&self, _range: Range<u64>) {}
    /// Has what is on the disk leave the cache, where there is one and nobody has it mapped: whoever reads it waits for the disk.
    fn evict(&self) {}
    /// Makes the bytes durable, and what is needed to read them back.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes bytes and all metadata durable.
    fn sync_all(&self) -> io::Result<()>;
    /// Gives the space from `offset` on back to the disk. The size stays, the bytes read zero.
    fn release_from(&self, offset: u64) -> io::Result<()>;
    /// Maps the whole file for reading.
    fn map(&self) -> io::Result<Box<dyn Map>>;
}

/// A file in memory, for reading.
pub trait Map: Debug + Send + Sync {
    /// Bytes of the map.
    fn size(&self) -> usize;
    /// The bytes of a range, clipped to the map.
    ///
    /// The caller asks for ranges that nobody writes to any more: what the journal has published, or a file
    /// that has no writer.
    fn bytes(&self, range: Range<usize>) -> &[u8];
    /// The bytes of a range, for who looks at them once: where the file is far away they are fetched and not kept.
    fn read(&self, range: Range<usize>) -> io::Result<Cow<'_, [u8]>> {
        Ok(Cow::Borrowed(self.bytes(range)))
    }
    /// What has kept bytes from being read that are missing from what was given.
    fn failure(&self) -> Option<io::Error> {
        None
    }
    /// Where the bytes end that are in memory as one piece with those at `offset`. A map that is not of the file itself may
    /// have several pieces, with whole records in each but the first, which begins with the header; [`Map::bytes`] then
    /// gives no more than is in the piece where a range begins.
    fn piece_end(&self, _offset: usize) -> usize {
        self.size()
    }
    /// A piece before which there is no event with this id or a higher one, where that is known of a segment's bytes without
    /// looking at them.
    fn seek(&self, _event_id: u64) -> Option<usize> {
        None
    }
    /// Bytes of the file, where these here are not the file's own but were compressed there.
    fn packed_size(&self) -> Option<usize> {
        None
    }
    /// Whether the file is one that was compressed and is damaged, and these bytes are what could be made of it.
    fn is_restored(&self) -> bool {
        false
    }
    /// Has the map's pages leave the process's page table, if there is one. They come back when they are read.
    fn unload(&self) {}
    /// The same with nothing in memory, if that is another thing: what is borrowed from this one stays where it is.
    fn anew(&self) -> Option<Box<dyn Map>> {
        None
    }
    /// Whether everything that was read through the map up to now was in the file. When somebody else makes the file
    /// shorter, what is gone reads as zeros, and this says so behind the read. It can't know of bytes that are gone
    /// between the file's new end and the end of that page.
    fn is_intact(&self) -> bool;
    /// Bytes that the mapped file, whose name is or was `path`, has now.
    fn file_size(&self, path: &Path) -> io::Result<u64>;
}
