//! A simulated disk: files and directories in memory, with everything that a real disk may do at a power cut.
//!
//! * A written page is in the page cache, and on the disk in any of the versions it had since the last sync of
//!   its file: writeback may have happened after any write, in any order, or not at all. A crash picks a version
//!   for each page by itself, and may tear a page at its 512-byte sectors.
//! * A new size, a created, renamed or removed name is an operation of its own, durable after a sync of the file
//!   or the directory. Those not yet durable are kept or lost by a crash, in order or each by itself.
//! * A sync may fail in either of the ways that kernels have: the pages are marked clean and kept in memory
//!   though they are not on the disk, or they are dropped. The next sync says that all is well.
//! * A write may fail half-way, between two sectors; a file's creation may find the disk full.
//! * The power may fail at any step: every operation from then on is an error.
//!
//! Everything is decided by one seed.

use std::cell::UnsafeCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use semj::medium::{ClockAnchor, File, LockOutcome, Map, Medium};

use crate::random::Random;

const PAGE_SIZE: usize = 4096;
const SECTOR_SIZE: usize = 512;

/// The places at which the engine makes something durable. Leaving one out must lose something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// The sync of a segment before it gets its name.
    SegmentCreation,
    /// That a segment gets its name when it is written, and not before.
    RenameOrder,
    /// The sync of the journal's directory.
    Directory,
    /// The sync of what was appended or sealed.
    Data,
    /// The sync of a header whose figures became final.
    Header,
    /// The sync of the prefix that recovery keeps.
    RecoveredPrefix,
    /// The sync of bytes in quarantine.
    QuarantineFile,
    /// The sync of the quarantine's directory.
    QuarantineDirectory,
    /// The sync of the watermark.
    Watermark,
    /// The sync of a compressed segment before it takes the native one's name.
    Compressed,
}

impl Barrier {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SegmentCreation,
        Self::RenameOrder,
        Self::Directory,
        Self::Data,
        Self::Header,
        Self::RecoveredPrefix,
        Self::QuarantineFile,
        Self::QuarantineDirectory,
        Self::Watermark,
        Self::Compressed,
    ];
}

/// How a sync fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncFailure {
    /// The pages stay in memory and are marked clean, though they are not on the disk.
    KeptClean,
    /// The pages are dropped: what is read next comes from the disk.
    Dropped,
}

/// What is to go wrong, and when. Steps are counted from the disk's creation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// The power fails at this step.
    pub power_cut_at: Option<u64>,
    /// The first sync from this step on fails.
    pub sync_fails_at: Option<(u64, SyncFailure)>,
    /// The first sync of a directory from this step on fails: what it would make durable may be so or not.
    pub dir_sync_fails_at: Option<u64>,
    /// The first write from this step on fails half-way.
    pub write_fails_at: Option<u64>,
    /// The first creation from this step on finds the disk full.
    pub full_at: Option<u64>,
    /// This barrier does nothing and says that it did.
    pub left_out: Option<Barrier>,
}

/// Bytes that maps point to. They never move, and what a map shows of them changes as the file does.
struct Memory(Box<[UnsafeCell<u8>]>);

// SAFETY: the bytes are written under the disk's mutex only, and the engine reads through a map only what it has
// published, which it never writes again; the simulation drives the engine on one thread.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(bytes: Vec<u8>) -> Arc<Self> {
        let bytes: *mut [u8] = Box::into_raw(bytes.into_boxed_slice());
        // SAFETY: an UnsafeCell<u8> has the layout of a u8, and the allocation is this box's alone.
        Arc::new(Self(unsafe { Box::from_raw(bytes as *mut [UnsafeCell<u8>]) }))
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let end = range.end.min(self.0.len());
        let start = range.start.min(end);
        let cells = &self.0[start..end];
        // SAFETY: an UnsafeCell<u8> has the layout of a u8, and the slice lies in the allocation. Nobody writes
        // to the range while the slice lives: see above.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    fn write(&self, offset: usize, bytes: &[u8]) {
        let cells = &self.0[offset..offset + bytes.len()];
        // SAFETY: the cells lie in the allocation and may be written to through a shared reference; the disk's
        // mutex is held, and no slice over them is in use: see above.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), UnsafeCell::raw_get(cells.as_ptr()), bytes.len());
        };
    }
}

/// A page that is in memory as it is not on the disk.
#[derive(Clone)]
struct Page {
    durable: Vec<u8>,
    /// The versions that it had since the last sync, oldest first. Empty for a page that a failed sync has left
    /// in memory and called clean: no further sync writes it.
    dirty: Vec<Vec<u8>>,
}

impl Page {
    /// The bytes of one of its versions, of which the durable one is the first.
    fn version(&self, pick: u64) -> &[u8] {
        (pick as usize).checked_sub(1).and_then(|pick| self.dirty.get(pick)).unwrap_or(&self.durable)
    }
}

/// A file. Its content in memory is what reads and maps see.
struct Inode {
    memory: Arc<Memory>,
    /// The memory belongs to another disk too, and is copied before it is written to.
    is_shared: bool,
    durable_size: usize,
    /// The pages that are not on the disk as they are in memory.
    pages: BTreeMap<usize, Page>,
}

impl Inode {
    fn empty(size: usize) -> Self {
        Self { memory: Memory::new(vec![0; size]), is_shared: false, durable_size: 0, pages: BTreeMap::new() }
    }

    fn size(&self) -> usize {
        self.memory.0.len()
    }

    fn page(&self, page: usize) -> Vec<u8> {
        self.memory.bytes(page * PAGE_SIZE..(page + 1) * PAGE_SIZE).to_vec()
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if std::mem::take(&mut self.is_shared) {
            self.memory = Memory::new(self.memory.bytes(0..self.size()).to_vec());
        }
        let pages = offset / PAGE_SIZE..=(offset + bytes.len() - 1) / PAGE_SIZE;
        for page in pages.clone() {
            let durable = self.page(page);
            self.pages.entry(page).or_insert(Page { durable, dirty: Vec::new() });
        }
        self.memory.write(offset, bytes);
        for page in pages {
            let version = self.page(page);
            let Some(content) = self.pages.get_mut(&page) else { continue };
            // The same bytes again are no other version of the page.
            if content.dirty.last().unwrap_or(&content.durable) != &version {
                content.dirty.push(version);
            } else if content.dirty.is_empty() {
                self.pages.remove(&page);
            }
        }
    }

    fn sync(&mut self) {
        self.pages.retain(|_, page| page.dirty.is_empty());
        self.durable_size = self.size();
    }

    fn fail_sync(&mut self, failure: SyncFailure) {
        for (page, content) in &mut self.pages {
            content.dirty.clear();
            if failure == SyncFailure::Dropped {
                self.memory.write(page * PAGE_SIZE, &content.durable);
            }
        }
        if failure == SyncFailure::Dropped {
            self.pages.clear();
        }
    }

    /// What a power cut leaves of the file.
    fn after_power_cut(&mut self, choices: &mut Choices<'_>) -> Self {
        let size = if self.durable_size == self.size() || choices.pick(2) == 0 {
            self.durable_size
        } else {
            self.size()
        };
        if self.pages.is_empty() && size == self.size() {
            self.is_shared = true;
            let memory = Arc::clone(&self.memory);
            return Self { memory, is_shared: true, durable_size: size, pages: BTreeMap::new() };
        }
        let mut bytes = self.memory.bytes(0..self.size()).to_vec();
        for (page, content) in &self.pages {
            let versions = content.dirty.len() as u64 + 1;
            let is_torn = choices.tears_pages() && choices.pick(4) == 0;
            let mut pick = choices.pick(versions);
            let target = &mut bytes[page * PAGE_SIZE..];
            for sector in (0..content.durable.len()).step_by(SECTOR_SIZE) {
                if is_torn {
                    pick = choices.pick(versions);
                }
                let version = content.version(pick);
                let end = version.len().min(sector + SECTOR_SIZE);
                target[sector..end].copy_from_slice(&version[sector..end]);
            }
        }
        bytes.truncate(size);
        Self { memory: Memory::new(bytes), is_shared: false, durable_size: size, pages: BTreeMap::new() }
    }
}

/// What a power cut leaves is a row of choices: taken at random, or all of them one after the other.
pub enum Choices<'a> {
    /// By this generator.
    Random(&'a mut Random),
    /// By an odometer.
    Each(&'a mut Odometer),
}

impl Choices<'_> {
    fn pick(&mut self, options: u64) -> u64 {
        match self {
            Self::Random(random) => random.below(options),
            Self::Each(odometer) => odometer.pick(options),
        }
    }

    /// Torn pages are for the random choices: there are too many ways to tear one.
    const fn tears_pages(&self) -> bool {
        matches!(self, Self::Random(_))
    }
}

/// Goes through every row of choices: each run takes the digits in turn, and between two runs the last digit
/// that can grow is moved on.
#[derive(Debug, Default)]
pub struct Odometer {
    digits: Vec<(u64, u64)>,
    at: usize,
}

impl Odometer {
    fn pick(&mut self, options: u64) -> u64 {
        if self.at == self.digits.len() {
            self.digits.push((0, options));
        }
        self.at += 1;
        self.digits[self.at - 1].0
    }

    /// Moves on to the next row of choices; false when all were taken.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((digit, options)) = self.digits.pop() {
            if digit + 1 < options {
                self.digits.push((digit + 1, options));
                return true;
            }
        }
        false
    }
}

/// A change to a name that is not durable yet.
#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    removed: Option<PathBuf>,
    added: Option<(PathBuf, usize)>,
}

#[derive(Default)]
struct State {
    random: Random,
    steps: u64,
    clock_ns: i64,
    faults: Faults,
    has_power: bool,
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
}

impl State {
    /// Counts a step; an error if the power is off.
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        if self.faults.power_cut_at.is_some_and(|at| self.steps >= at) {
            self.has_power = false;
        }
        if self.has_power { Ok(()) } else { Err(io::Error::other("the power is off")) }
    }

    /// Whether a fault that is due at some step is due now; it happens once.
    fn is_due(at: &mut Option<u64>, steps: u64) -> bool {
        at.take_if(|at| steps >= *at).is_some()
    }

    fn change_name(&mut self, change: NameChange) {
        Self::apply(&mut self.names, &change);
        self.name_changes.push(change);
    }

    fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
        if let Some(removed) = &change.removed {
            names.remove(removed);
        }
        if let Some((added, inode)) = &change.added {
            names.insert(added.clone(), *inode);
        }
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// See the module. Clones share the disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedDisk").field("steps", &self.steps()).finish_non_exhaustive()
    }
}

impl SimulatedDisk {
    /// An empty disk whose behaviour follows from the seed.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let state =
            State { random: Random::new(seed), has_power: true, clock_ns: 1, faults, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Operations so far.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// What is to go wrong from here on. Steps are counted from here too.
    pub fn set_faults(&self, faults: Faults) {
        let mut state = self.lock();
        state.steps = 0;
        state.faults = faults;
    }

    /// How many things are still to go wrong, power cuts apart.
    pub fn faults_left(&self) -> u32 {
        let state = self.lock();
        let faults = &state.faults;
        u32::from(faults.sync_fails_at.is_some())
            + u32::from(faults.dir_sync_fails_at.is_some())
            + u32::from(faults.write_fails_at.is_some())
            + u32::from(faults.full_at.is_some())
    }

    /// Lets nothing reach the disk any more.
    pub fn turn_off(&self) {
        self.lock().has_power = false;
    }

    /// Lets the disk work again, with everything that is in memory: only a process has died.
    pub fn turn_on(&self) {
        self.lock().has_power = true;
    }

    /// Whether the power has failed.
    pub fn has_power(&self) -> bool {
        self.lock().has_power
    }

    /// Pages that are not on the disk as they are in memory.
    pub fn dirty_pages(&self) -> usize {
        self.lock().inodes.iter().map(|inode| inode.pages.len()).sum()
    }

    /// A disk as this one may be after a power cut now. What is random on it from there on follows from the
    /// seed.
    pub fn after_power_cut(&self, choices: &mut Choices<'_>, seed: u64) -> Self {
        let mut state = self.lock();
        let mut names = state.durable_names.clone();
        // A journalling file system keeps the order of its changes; another may not.
        let in_order = choices.pick(2) == 0;
        let mut kept = if in_order { choices.pick(state.name_changes.len() as u64 + 1) } else { 0 };
        for change in &state.name_changes {
            if if in_order { kept > 0 } else { choices.pick(2) == 0 } {
                State::apply(&mut names, change);
            }
            kept = kept.saturating_sub(1);
        }
        // What no name leads to is gone, and needs no choice.
        let used: BTreeSet<usize> = names.values().copied().collect();
        let inodes = state
            .inodes
            .iter_mut()
            .enumerate()
            .map(
                |(i, inode)| {
                    if used.contains(&i) { inode.after_power_cut(choices) } else { Inode::empty(0) }
                },
            )
            .collect();
        let state = State {
            random: Random::new(seed),
            has_power: true,
            clock_ns: state.clock_ns,
            inodes,
            durable_names: names.clone(),
            names,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Flips a bit of a file, on the disk and in memory.
    pub fn flip(&self, path: &Path, bit: u64) {
        let mut state = self.lock();
        if let Ok(inode) = state.find(path) {
            let inode = &mut state.inodes[inode];
            let at = (bit / 8) as usize;
            let flipped =
                inode.memory.bytes(at..at + 1).iter().map(|byte| byte ^ 1 << (bit % 8)).collect::<Vec<_>>();
            inode.write(at, &flipped);
            inode.sync();
        }
    }

    /// Takes a name away.
    pub fn lose(&self, path: &Path) {
        let mut state = self.lock();
        state.names.remove(path);
        state.durable_names.remove(path);
    }

    /// The names and contents of the files in a directory, as a reader sees them.
    pub fn files(&self, dir: &Path) -> Vec<(String, Vec<u8>)> {
        let state = self.lock();
        let in_dir = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        in_dir
            .map(|(path, inode)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let inode = &state.inodes[*inode];
                (name, inode.memory.bytes(0..inode.size()).to_vec())
            })
            .collect()
    }
}

impl Medium for SimulatedDisk {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.step()?;
        let mut names: Vec<String> = state
            .names
            .keys()
            .filter_map(|path| path.strip_prefix(dir).ok()?.components().next())
            .map(|first| first.as_os_str().to_string_lossy().into_owned())
            .collect();
        names.dedup();
        Ok(names)
    }

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        // Directories are there as soon as a file in them is; the engine makes them durable before that.
        self.lock().step()
    }

    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.step()?;
        let steps = state.steps;
        if State::is_due(&mut state.faults.full_at, steps) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let inode = state.inodes.len();
        state.inodes.push(Inode::empty(size as usize));
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        let early = path.to_str().and_then(|path| path.strip_suffix(".semj.tmp"));
        match early.filter(|_| state.faults.left_out == Some(Barrier::RenameOrder)) {
            Some(stem) => {
                let name = PathBuf::from(format!("{stem}.semj"));
                state.names.insert(path.to_owned(), inode);
                state.change_name(NameChange { dir, removed: None, added: Some((name, inode)) });
            }
            None => {
                state.change_name(NameChange { dir, removed: None, added: Some((path.to_owned(), inode)) });
            }
        }
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            inode,
            path: path.to_owned(),
            last_write: Mutex::new(0),
        }))
    }

    fn open(&self, path: &Path, _writable: bool) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.step()?;
        let inode = state.find(path)?;
        Ok(Box::new(SimulatedFile {
            disk: self.clone(),
            inode,
            path: path.to_owned(),
            last_write: Mutex::new(0),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let inode = state.find(from)?;
        let dir = from.parent().unwrap_or(Path::new("")).to_owned();
        let target_dir = to.parent().unwrap_or(Path::new("")).to_owned();
        let added = Some((to.to_owned(), inode));
        if dir == target_dir {
            state.change_name(NameChange { dir, removed: Some(from.to_owned()), added });
        } else {
            // Between directories the new name and the old one are durable by themselves.
            state.change_name(NameChange { dir: target_dir, removed: None, added });
            state.change_name(NameChange { dir, removed: Some(from.to_owned()), added: None });
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let inode = state.find(from)?;
        if state.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let dir = to.parent().unwrap_or(Path::new("")).to_owned();
        state.change_name(NameChange { dir, removed: None, added: Some((to.to_owned(), inode)) });
        Ok(())
    }

    fn clone_file(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        self.lock().step()?;
        Err(io::ErrorKind::Unsupported.into())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        state.find(path)?;
        let dir = path.parent().unwrap_or(Path::new("")).to_owned();
        state.change_name(NameChange { dir, removed: Some(path.to_owned()), added: None });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.step()?;
        let is_quarantine = dir.file_name().is_some_and(|name| name == "quarantine");
        let barrier = if is_quarantine { Barrier::QuarantineDirectory } else { Barrier::Directory };
        if state.faults.left_out == Some(barrier) {
            return Ok(());
        }
        let steps = state.steps;
        if State::is_due(&mut state.faults.dir_sync_fails_at, steps) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.name_changes).into_iter().partition(|change| change.dir == dir);
        state.name_changes = rest;
        for change in &synced {
            State::apply(&mut state.durable_names, change);
        }
        Ok(())
    }

    fn lock(&self, _path: &Path) -> io::Result<LockOutcome> {
        self.lock().step()?;
        Ok(LockOutcome::Acquired(Box::new(())))
    }

    fn monotonic_ns(&self) -> i64 {
        let mut state = self.lock();
        state.clock_ns += 1000;
        state.clock_ns
    }

    fn clock_anchor(&self) -> ClockAnchor {
        let monotonic_ns = self.monotonic_ns();
        ClockAnchor { wall_clock_ns: 1_700_000_000_000_000_000 + monotonic_ns, monotonic_ns }
    }

    fn boot_id(&self) -> [u8; 16] {
        [1; 16]
    }

    fn cpu_id(&self) -> u32 {
        0
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        let mut state = self.lock();
        let [high, low] = [state.random.next(), state.random.next()];
        Ok((u128::from(high) << 64 | u128::from(low)).to_le_bytes())
    }
}

struct SimulatedFile {
    disk: SimulatedDisk,
    inode: usize,
    path: PathBuf,
    /// Offset of the last write, by which the sync of a header is known.
    last_write: Mutex<u64>,
}

impl std::fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SimulatedFile {
    fn sync(&self, is_all: bool) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step()?;
        let last_write = *self.last_write.lock().unwrap_or_else(PoisonError::into_inner);
        let in_quarantine =
            self.path.parent().and_then(Path::file_name).is_some_and(|name| name == "quarantine");
        let is_unfinished = self.path.extension().is_some_and(|extension| extension == "tmp");
        let is_watermark = self.path.file_stem().is_some_and(|name| name == "WATERMARK");
        let is_compressed =
            self.path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".compact.semj.tmp"));
        let barrier = match (in_quarantine, is_unfinished, is_all) {
            _ if is_compressed => Barrier::Compressed,
            _ if is_watermark => Barrier::Watermark,
            (true, ..) => Barrier::QuarantineFile,
            (_, true, true) => Barrier::SegmentCreation,
            (_, false, true) => Barrier::RecoveredPrefix,
            (_, _, false) if last_write == 0 => Barrier::Header,
            (_, _, false) => Barrier::Data,
        };
        if state.faults.left_out == Some(barrier) {
            return Ok(());
        }
        let steps = state.steps;
        if let Some((_, failure)) = state.faults.sync_fails_at.take_if(|(at, _)| steps >= *at) {
            state.inodes[self.inode].fail_sync(failure);
            return Err(io::Error::from_raw_os_error(5));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }
}

impl File for SimulatedFile {
    fn size(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.step()?;
        Ok(state.inodes[self.inode].size() as u64)
    }

    fn has_other_names(&self) -> io::Result<bool> {
        let mut state = self.disk.lock();
        state.step()?;
        let names = state.names.values().filter(|inode| **inode == self.inode);
        Ok(names.take(2).count() > 1)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.step()?;
        // A read may always give less than was asked for.
        let some = 1 + state.random.below(bytes.len().max(1) as u64) as usize;
        let found =
            state.inodes[self.inode].memory.bytes(offset as usize..offset as usize + some.min(bytes.len()));
        bytes[..found.len()].copy_from_slice(found);
        Ok(found.len())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step()?;
        *self.last_write.lock().unwrap_or_else(PoisonError::into_inner) = offset;
        let steps = state.steps;
        let fails = State::is_due(&mut state.faults.write_fails_at, steps);
        // A failing device gives up between two sectors.
        let sector_end = (offset as usize + bytes.len() / 2) / SECTOR_SIZE * SECTOR_SIZE;
        let written = if fails { &bytes[..sector_end.saturating_sub(offset as usize)] } else { bytes };
        state.inodes[self.inode].write(offset as usize, written);
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(false)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(true)
    }

    fn release_from(&self, offset: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.step()?;
        let inode = &mut state.inodes[self.inode];
        let size = inode.size();
        // Only what is not zero already changes.
        let tail = inode.memory.bytes(offset as usize..size);
        let used = tail.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        inode.write(offset as usize, &vec![0; used]);
        Ok(())
    }

    fn map(&self) -> io::Result<Box<dyn Map>> {
        let mut state = self.disk.lock();
        state.step()?;
        Ok(Box::new(SimulatedMap { memory: Arc::clone(&state.inodes[self.inode].memory) }))
    }
}

struct SimulatedMap {
    memory: Arc<Memory>,
}

impl std::fmt::Debug for SimulatedMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedMap").field("size", &self.size()).finish()
    }
}

impl Map for SimulatedMap {
    fn size(&self) -> usize {
        self.memory.0.len()
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.memory.bytes(range)
    }

    fn is_intact(&self) -> bool {
        true
    }

    fn file_size(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.size() as u64)
    }
}
