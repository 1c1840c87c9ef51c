//! The real medium: the kernel's file systems and clocks. The only file that calls them.
//!
//! Bytes are written with `pwrite` and read through read-only maps: on Linux both see the same page cache. A
//! failed write is then an error code and never a signal, no stray store can reach the journal, and a sync
//! writes no more than was written (ARCHITECTURE.md, "Why pwrite").

use std::fs::{self, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{FallocateFlags, OFlags, SeekFrom, fallocate, seek};
use rustix::io::{Errno, retry_on_intr};
use rustix::time::{ClockId, clock_gettime};

use super::changes::{Looks, Notices};
use super::sigbus::Watch;
use super::{Changes, ClockAnchor, File, LockOutcome, Map, Medium, Now, clock};

/// Who may read, write and execute a file, in its mode.
const ACCESS: u32 = 0o777;
/// A mode by which nobody but the owner may read or write.
const OWNER_ONLY: u32 = 0o600;
/// How long whoever finds a lock held waits before it looks once more.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
/// A turn of a thread that takes short ones: the shortest that Linux has (6.12 and later, sched_setattr(2): `sched_runtime` of a
/// thread under SCHED_OTHER). Who asks for less at a time is let in earlier.
#[cfg(target_os = "linux")]
const TURN_NS: u64 = 100_000;

/// The machine's own file systems and clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Medium for Disk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none that the engine gave.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<_> =
            dir.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.is_dir()).collect();
        let sync_parent = |path: &Path| {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync_dir(parent.unwrap_or(Path::new(".")))
        };
        if missing.is_empty() {
            // Whoever made it may have died before its name was durable. Where the directory above may not be opened, or is of a
            // file system that is not written to, it is somebody else's matter.
            use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
            let is_others =
                |kind| matches!(kind, InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported);
            return match sync_parent(dir) {
                Err(error) if is_others(error.kind()) => Ok(()),
                synced => synced,
            };
        }
        // Each level that is new becomes durable in the one above it.
        for path in missing.into_iter().rev() {
            match fs::create_dir(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if !path.is_dir() {
                        return Err(io::ErrorKind::NotADirectory.into());
                    }
                }
                other => other?,
            }
            sync_parent(path)?;
        }
        Ok(())
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        if size > 0
            && let Err(error) = retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, size))
        {
            // It may have taken all the space that was left.
            drop(fs::remove_file(path));
            return Err(error.into());
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        // A pipe of this name is not waited for.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(writable).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        Ok(Box::new(DiskFile { file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        let source = fs::File::open(from)?;
        match fs::remove_file(to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        let target = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(to)?;
        rustix::fs::ioctl_ficlone(&target, &source)?;
        Ok(())
    }

    fn take_after(&self, path: &Path, model: &Path) -> io::Result<()> {
        // Who may write to the directory can have put another name's file in its place: that is not to be given away.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let (found, wanted) = (file.metadata()?, fs::metadata(model)?);
        if !found.is_file() || found.nlink() > 1 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file of its own"));
        }
        if found.mode() & ACCESS != wanted.mode() & ACCESS {
            match file.set_permissions(fs::Permissions::from_mode(wanted.mode() & ACCESS)) {
                // Whoever made it may do that, but where the file system has no permissions.
                Err(error) if is_refused(&error) => {}
                set => set?,
            }
        }
        let (owner, group) = (wanted.uid(), wanted.gid());
        if (found.uid(), found.gid()) != (owner, group) && fchown(&file, Some(owner), Some(group)).is_err() {
            // Who may not give it away can still have it belong to a group of its own; else it stays whose it is.
            drop(fchown(&file, None, Some(group)));
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    #[cfg(target_os = "linux")]
    fn watch(&self, dir: &Path) -> io::Result<Box<dyn Changes>> {
        match Notices::new(dir) {
            Ok(notices) => Ok(Box::new(notices)),
            // The user has none left: it is done without.
            Err(Errno::MFILE | Errno::NOSPC) => Ok(Box::new(Looks)),
            Err(error) => Err(error.into()),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut locked = fs2::FileExt::try_lock_exclusive(&file);
        if locked.as_ref().is_err_and(is_contended) {
            // Somebody may only look whether it is held.
            std::thread::sleep(LOCK_PAUSE);
            locked = fs2::FileExt::try_lock_exclusive(&file);
        }
        match locked {
            Ok(()) => {}
            Err(error) if is_contended(&error) => {
                let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                return Ok(LockOutcome::Held(pid));
            }
            Err(error) => return Err(error),
        }
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        Ok(LockOutcome::Acquired(Box::new(DiskLock {
            file,
            path: path.to_owned(),
            process_id: std::process::id(),
        })))
    }

    fn is_locked(&self, path: &Path) -> io::Result<bool> {
        let file = match fs::File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            file => file?,
        };
        match fs2::FileExt::try_lock_shared(&file) {
            Ok(()) => fs2::FileExt::unlock(&file).map(|()| false),
            Err(error) if is_contended(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn monotonic_ns(&self) -> i64 {
        clock::kernel_ns()
    }

    fn now(&self) -> Now {
        clock::now()
    }

    fn has_process_clock(&self) -> bool {
        true
    }

    fn keep_time(&self) {
        clock::adjust();
    }

    fn clock_anchor(&self) -> ClockAnchor {
        ClockAnchor {
            wall_clock_ns: clock::nanoseconds(clock_gettime(ClockId::Realtime)),
            monotonic_ns: self.monotonic_ns(),
        }
    }

    fn boot_id(&self) -> [u8; 16] {
        let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
    }

    fn cpu_id(&self) -> u32 {
        clock::cpu_id()
    }

    fn threads(&self) -> NonZeroUsize {
        std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
    }

    fn give_way(&self) {
        #[cfg(target_os = "linux")]
        {
            let none = libc::sched_param { sched_priority: 0 };
            // SAFETY: 0 is the calling thread, and the pointer is to a parameter that lives through the call.
            if unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const none) } != 0 {
                let error = io::Error::last_os_error();
                tracing::debug!(%error, "a thread that should give way keeps its priority");
            }
        }
    }

    fn take_short_turns(&self) {
        #[cfg(target_os = "linux")]
        {
            // SAFETY: it is all numbers, for which zero is a value.
            let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
            let size = size_of::<libc::sched_attr>();
            // What else is set stays as it is: the process may have a niceness of its own.
            // SAFETY: 0 is the calling thread, and the pointer is to attributes of that size that live through the call.
            let got = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) };
            if got != 0 || attributes.sched_policy != libc::SCHED_OTHER as u32 {
                return;
            }
            attributes.sched_runtime = TURN_NS;
            // SAFETY: as above.
            let done = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
            if done != 0 {
                let error = io::Error::last_os_error();
                tracing::debug!(%error, "a thread that should take short turns takes long ones");
            }
        }
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut bytes = [0; 16];
        // Up to 256 bytes come at once or not at all, says getrandom(2).
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        Ok(bytes)
    }
}

fn is_contended(error: &io::Error) -> bool {
    error.raw_os_error() == fs2::lock_contended_error().raw_os_error()
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Holds the lock until it is dropped.
#[derive(Debug)]
struct DiskLock {
    file: fs::File,
    path: PathBuf,
    /// Who took it.
    process_id: u32,
}

impl Drop for DiskLock {
    fn drop(&mut self) {
        // One that was forked from this one would give back what is not its own.
        if std::process::id() != self.process_id {
            return;
        }
        // Closing the file is not enough: a child process that was just forked has it open too until it executes its
        // program, and would keep the lock.
        match fs2::FileExt::unlock(&self.file) {
            Ok(()) => tracing::trace!(path = %self.path.display(), "lock given back"),
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "lock not given back"),
        }
    }
}

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
}

impl File for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn has_other_names(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 1)
    }

    fn data_end(&self) -> io::Result<u64> {
        let size = self.size()?;
        // Space that is reserved and was not written counts as a hole.
        let Ok(hole) = seek(&self.file, SeekFrom::Hole(0)) else { return Ok(size) };
        match seek(&self.file, SeekFrom::Data(hole)) {
            Err(rustix::io::Errno::NXIO) => Ok(hole),
            _ => Ok(size),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.read_at(offset, bytes),
            other => other,
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn start_write(&self, range: Range<u64>) {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd as _;
            let (start, size) = (range.start.cast_signed(), (range.end - range.start).cast_signed());
            // SAFETY: takes no memory. With this flag it neither waits nor takes note of an error, which the next sync
            // still gives. What it answers says nothing that matters.
            unsafe {
                libc::sync_file_range(self.file.as_raw_fd(), start, size, libc::SYNC_FILE_RANGE_WRITE);
            }
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    fn evict(&self) {
        // Whatever comes of it, the bytes stay what they are.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn release_from(&self, offset: u64) -> io::Result<()> {
        let size = self.size()?;
        if offset >= size {
            return Ok(());
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| fallocate(&self.file, hole, offset, size - offset)) {
            // A file system without holes keeps the space; the bytes were zero before.
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            other => Ok(other?),
        }
    }

    fn map(&self) -> io::Result<Box<dyn Map>> {
        let size = usize::try_from(self.size()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if size == 0 {
            return Ok(Box::new(DiskMap { map: None, inode: 0 }));
        }
        let inode = self.file.metadata()?.ino();
        // SAFETY: the map is read-only, and `bytes` below is its only way out. The engine asks there only for
        // bytes that it has published, which it never writes again, and never makes a file shorter. If another program
        // makes it shorter, the watch turns what is gone into zeros. One that writes into a journal's file is outside
        // of what can be kept safe with a map, as for every program that maps a file.
        let map = unsafe { MmapOptions::new().len(size).map(&self.file)? };
        let watch = Watch::new(map.as_ptr() as usize, map.len());
        Ok(Box::new(DiskMap { map: Some((watch, map)), inode }))
    }
}

#[derive(Debug)]
struct DiskMap {
    /// Nothing can be mapped of an empty file. The watch is dropped first.
    map: Option<(Watch, Mmap)>,
    /// What tells the file from another one that has got its name.
    inode: u64,
}

impl Map for DiskMap {
    fn size(&self) -> usize {
        self.map.as_ref().map_or(0, |(_, map)| map.len())
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let Some((_, map)) = &self.map else { return &[] };
        let end = range.end.min(map.len());
        let start = range.start.min(end);
        // SAFETY: start <= end <= the map's length, so the range lies in the map, which lives as long as
        // `self`. A slice of the whole map would also cover bytes that are still being written.
        unsafe { std::slice::from_raw_parts(map.as_ptr().add(start), end - start) }
    }

    fn unload(&self) {
        #[cfg(target_os = "linux")]
        if let Some((_, map)) = &self.map {
            // SAFETY: the map is a shared one of a file, and nobody writes through it. Whoever holds bytes of it finds the same
            // ones there, read from the file anew. What stands in for bytes that the file has lost is zero and stays so.
            drop(unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) });
        }
    }

    fn is_intact(&self) -> bool {
        self.map.as_ref().is_none_or(|(watch, _)| watch.is_intact())
    }

    fn file_size(&self, path: &Path) -> io::Result<u64> {
        let metadata = fs::metadata(path)?;
        let is_same = metadata.ino() == self.inode;
        // The file has no name any more, and nobody makes it shorter.
        Ok(if is_same { metadata.len() } else { self.size() as u64 })
    }
}
