//! Compaction: segments that were closed in order get their compressed form.
//!
//! Each block is decoded as soon as it is made and held against the segment byte for byte. The compressed file is written
//! under another name and synced, read back and held against what was decoded, and only then takes the segment's name, in one
//! step: at every moment the name stands for the one or the other, and both say the same. Readers that have the native file
//! open keep it. A crash leaves an unfinished file, which the next compaction or the next writer removes; what was compacted up
//! to there stays, so that the same call again goes on.
//!
//! A journal can be compacted while it has a writer: nobody writes to a sealed segment. The newest one is compacted only
//! when no writer has the journal open.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use semj_blocks::{BlockHeader, Codec, Compressor, EncodeError, Layout, Method, ZLIB_LEVEL, ZSTD_LEVEL};
use semj_format::journal_header::{FLAG_COMPRESSED, FLAG_SEALED, FLAG_THINNED};
use semj_format::{JournalHeader, SegmentOpen};
use semj_recovery::Scanner;

use crate::committer::Committer;
use crate::compressed::{self, CompressedMap};
use crate::directory;
use crate::error::Error;
use crate::medium::{Disk, LockOutcome, Map, Medium};
use crate::replace;
use crate::request;
use crate::retention;
use crate::segment::Segment;

/// What is compacted, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Default: zstd.
    pub codec: Codec,
    /// Only segments that were ended longer ago.
    pub older_than: Option<Duration>,
    /// Bytes of segments that are read in a second at most.
    pub rate: Option<u64>,
}

/// How far a compaction has come, in bytes of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionProgress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes of all that are to be compacted.
    pub total: u64,
}

/// A segment that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SkippedSegment {
    /// The segment's number.
    pub number: u64,
    /// The file's name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What became of a compaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactionReport {
    /// Segments that were compacted, or would be.
    pub compacted: u64,
    /// Bytes that they used before …
    pub bytes_before: u64,
    /// … and use now; 0 in a plan.
    pub bytes_after: u64,
    /// Segments that had been compacted before.
    pub kept: u64,
    /// Segments that are open, too young, or did not end in order: nothing is wrong with leaving them.
    pub waiting: u64,
    /// Segments that could have been compacted and were not.
    pub skipped: Vec<SkippedSegment>,
    /// Whether somebody told it to stop.
    pub is_interrupted: bool,
    /// Whether the journal's writer did not answer when it was told. It keeps the files of before open, and their room on the
    /// disk is not free before it ends; nothing else is wrong.
    pub is_unadopted: bool,
}

/// Compacts the journal in a directory, whether it is in use or not. `progress` is called often, and ends it with
/// [`ControlFlow::Break`]: what is done stays. If a process has the journal open for writing it is told, so that it lets
/// go of the files of before.
///
/// # Errors
///
/// No journal there, [`Error::Compacting`], an I/O error. Every segment is there then, in the one form or the other. A segment
/// that is damaged is no error, but is skipped.
pub fn compact(
    dir: impl AsRef<Path>,
    compaction: &Compaction,
    progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
) -> Result<CompactionReport, Error> {
    compact_on(&Disk, dir.as_ref(), compaction, progress)
}

/// [`compact`] on another medium.
///
/// # Errors
///
/// As [`compact`].
pub fn compact_on(
    medium: &dyn Medium,
    dir: &Path,
    compaction: &Compaction,
    progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
) -> Result<CompactionReport, Error> {
    let segments = segments(medium, dir)?;
    let _lock = replace::lock(medium, dir)?;
    let plan = Plan::make(medium, dir, compaction, &segments, Newest::UnlessWritten)?;
    let mut report = plan.run(medium, dir, compaction, &mut Others { medium, dir }, progress)?;
    if report.compacted > 0 {
        report.is_unadopted = !request::tell_of_compaction(medium, dir)?;
    }
    Ok(report)
}

/// What [`compact`] would do now. Takes no lock and changes nothing.
///
/// # Errors
///
/// No journal there, an I/O error.
pub fn plan_compaction(dir: impl AsRef<Path>, compaction: &Compaction) -> Result<CompactionReport, Error> {
    let dir = dir.as_ref();
    let segments = segments(&Disk, dir)?;
    // Only looked at: who may read the journal may ask, and nobody who opens it meanwhile finds it in use.
    let newest = if request::has_writer(&Disk, dir) { Newest::Stays } else { Newest::UnlessWritten };
    let Plan { todo, mut report } = Plan::make(&Disk, dir, compaction, &segments, newest)?;
    report.compacted = todo.len() as u64;
    report.bytes_before = todo.iter().map(|todo| todo.size).sum();
    Ok(report)
}

/// Compacts what is due of a journal that this process writes to, but for some segments.
pub(crate) fn compact_own(
    committer: &Committer,
    compaction: &Compaction,
    passed_over: &BTreeSet<u64>,
    progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
) -> Result<CompactionReport, Error> {
    let (medium, dir) = (&*committer.medium, committer.dir());
    let segments = segments(medium, dir)?;
    let _lock = replace::lock(medium, dir)?;
    let mut plan = Plan::make(medium, dir, compaction, &segments, Newest::Stays)?;
    plan.todo.retain(|todo| !passed_over.contains(&todo.number));
    plan.run(medium, dir, compaction, &mut Own(committer), progress)
}

/// The number of the newest segment that has ended.
pub(crate) fn newest_ended(committer: &Committer) -> Option<u64> {
    let segments = committer.segments().snapshot();
    segments.iter().nth_back(1).map(|segment| segment.number())
}

/// Takes up the compressed files that somebody else has put in the places of this journal's segments.
pub(crate) fn adopt(committer: &Committer) -> Result<(), Error> {
    let segments = committer.segments().snapshot();
    let ended = segments.iter().take(segments.len().saturating_sub(1));
    for segment in ended.filter(|segment| !segment.is_compressed()) {
        let path = segment.path();
        match committer.medium.open(path, false).and_then(|file| file.map()) {
            // It was retired.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            map => take_up(committer, segment, map.map_err(Error::io("map", path))?),
        }
    }
    Ok(())
}

/// Puts a compressed file in the place of the native one, for all who look at the segment from now on.
fn take_up(committer: &Committer, segment: &Arc<Segment>, map: Box<dyn Map>) {
    if let Ok(compressed) = CompressedMap::found(map)
        && compressed.is_of(&segment.opening, segment.end())
    {
        committer.segments().replace(Arc::new(segment.with_map(Box::new(compressed))));
    }
}

fn segments(medium: &dyn Medium, dir: &Path) -> Result<Vec<(u64, String)>, Error> {
    let segments = directory::segments(medium.list(dir).map_err(Error::io("list", dir))?);
    if segments.is_empty() {
        return Err(Error::NoJournal { dir: dir.to_owned() });
    }
    Ok(segments)
}

/// The lock that a writer has as long as it has the journal open.
fn writer_lock(medium: &dyn Medium, dir: &Path) -> Result<LockOutcome, Error> {
    let path = dir.join(directory::LOCK);
    medium.lock(&path).map_err(Error::io("lock", &path))
}

/// What becomes of the segment behind which there is none. It can be the one that a writer goes on from, and tells others of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newest {
    Stays,
    /// It is compacted if nobody has the journal open for writing when it gets its new file.
    UnlessWritten,
}

/// Who else has to do with the segments that are compacted.
trait Owner {
    /// Whether a segment is still one of the journal's.
    fn has(&self, number: u64) -> bool;
    /// Its file has another form now.
    fn has_changed(&mut self, number: u64, file: Box<dyn Map>);
    /// What became of the name that it has.
    fn or_fail(&self, named: Result<(), Error>) -> Result<(), Error>;
}

/// The journal is another process's, if anybody's.
struct Others<'a> {
    medium: &'a dyn Medium,
    dir: &'a Path,
}

impl Owner for Others<'_> {
    /// By what the journal says: its writer removes files only behind the record that says so.
    fn has(&self, number: u64) -> bool {
        !retention::is_retired(self.medium, self.dir, number)
    }

    fn has_changed(&mut self, _: u64, _: Box<dyn Map>) {}

    fn or_fail(&self, named: Result<(), Error>) -> Result<(), Error> {
        named
    }
}

/// The journal is this process's own.
struct Own<'a>(&'a Committer);

impl Owner for Own<'_> {
    fn has(&self, number: u64) -> bool {
        self.0.segments().snapshot().iter().any(|segment| segment.number() == number)
    }

    fn has_changed(&mut self, number: u64, file: Box<dyn Map>) {
        let segments = self.0.segments().snapshot();
        if let Some(segment) = segments.iter().find(|segment| segment.number() == number) {
            take_up(self.0, segment, file);
        }
    }

    /// Behind a sync of the directory that fails, nothing is known of the names that the journal has made.
    fn or_fail(&self, named: Result<(), Error>) -> Result<(), Error> {
        self.0.or_fail(named)
    }
}

/// A segment that is to be compacted.
#[derive(Debug)]
struct Todo {
    number: u64,
    name: String,
    is_newest: bool,
    map: Box<dyn Map>,
    /// Behind it there are zeros.
    data_end: usize,
    /// Bytes up to its end.
    size: u64,
}

/// What is to be done, and what is counted already.
#[derive(Debug)]
struct Plan {
    todo: Vec<Todo>,
    report: CompactionReport,
}

impl Plan {
    fn make(
        medium: &dyn Medium,
        dir: &Path,
        compaction: &Compaction,
        segments: &[(u64, String)],
        newest: Newest,
    ) -> Result<Self, Error> {
        let mut report = CompactionReport::default();
        let mut todo = Vec::new();
        let now_ns = medium.clock_anchor().wall_clock_ns;
        for (place, (number, name)) in segments.iter().enumerate() {
            let path = dir.join(name);
            let file = match medium.open(&path, false) {
                // It was retired.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(Error::io("open", &path))?,
            };
            let data_end = file.data_end().map_err(Error::io("seek in", &path))?;
            let map = file.map().map_err(Error::io("map", &path))?;
            let data_end = usize::try_from(data_end).map_or(map.size(), |end| end.min(map.size()));
            let next = segments.get(place + 1);
            let is_young = |limit| {
                let began = |name| opening(medium, dir, name).map(|opening| opening.wall_clock_ns);
                // It ended when the next one began.
                let ended_ns = next.and_then(|(_, next)| began(next)).or_else(|| began(name));
                let age = ended_ns.and_then(|ended| u64::try_from(now_ns.saturating_sub(ended)).ok());
                age.is_none_or(|age| Duration::from_nanos(age) <= limit)
            };
            match JournalHeader::parse(map.bytes(0..JournalHeader::SIZE)) {
                Ok(header) if header.flags & FLAG_COMPRESSED != 0 => report.kept += 1,
                Ok(header) if header.flags & !FLAG_THINNED != FLAG_SEALED => report.waiting += 1,
                Ok(_) if next.is_none() && newest == Newest::Stays => report.waiting += 1,
                Ok(_) if compaction.older_than.is_some_and(is_young) => report.waiting += 1,
                Ok(header) => {
                    let (number, name, is_newest) = (*number, name.clone(), next.is_none());
                    todo.push(Todo { number, name, is_newest, map, data_end, size: header.journal_size });
                }
                Err(error) => {
                    let (number, name, reason) = (*number, name.clone(), error.to_string());
                    report.skipped.push(SkippedSegment { number, name, reason });
                }
            }
        }
        Ok(Self { todo, report })
    }

    fn run(
        self,
        medium: &dyn Medium,
        dir: &Path,
        compaction: &Compaction,
        owner: &mut dyn Owner,
        progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
    ) -> Result<CompactionReport, Error> {
        let Self { todo, mut report } = self;
        let total = todo.iter().map(|todo| todo.size).sum();
        let mut pace = Pace { started: Instant::now(), rate: compaction.rate, done: 0, total, progress };
        for todo in todo {
            let Todo { name, size, .. } = &todo;
            let before = pace.done;
            match compact_one(medium, dir, &todo, compaction.codec, owner, &mut pace)? {
                Done::Compacted(packed) => {
                    tracing::info!(name, size, packed, "segment compacted");
                    report.compacted += 1;
                    report.bytes_before += size;
                    report.bytes_after += packed;
                }
                Done::Skipped(reason) => {
                    tracing::warn!(name, reason, "segment not compacted");
                    report.skipped.push(SkippedSegment { number: todo.number, name: name.clone(), reason });
                }
                Done::Gone => {}
                Done::Written => report.waiting += 1,
                Done::Interrupted => {
                    report.is_interrupted = true;
                    break;
                }
            }
            pace.done = before + size;
        }
        Ok(report)
    }
}

/// The SegmentOpen of a segment, where it can be read.
fn opening(medium: &dyn Medium, dir: &Path, name: &str) -> Option<SegmentOpen> {
    let map = compressed::unpacking(medium.open(&dir.join(name), false).and_then(|file| file.map()).ok()?);
    let scanner = Scanner::without_header(map.bytes(0..map.size()), 0).ok()?;
    Some(*scanner.opening())
}

/// How fast it may go, and whether it may go on.
struct Pace<'a> {
    started: Instant,
    rate: Option<u64>,
    /// Bytes that were compressed and held against what came out.
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
}

impl Pace<'_> {
    /// Takes note of bytes that are done, and waits if they came too soon.
    fn advance(&mut self, bytes: u64) -> ControlFlow<()> {
        self.done += bytes;
        if let Some(rate) = self.rate.filter(|rate| *rate > 0) {
            let due = Duration::from_secs_f64(self.done as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        (self.progress)(CompactionProgress { done: self.done, total: self.total })
    }
}

enum Done {
    /// To so many bytes.
    Compacted(u64),
    Skipped(String),
    /// The segment was retired meanwhile.
    Gone,
    /// It is the newest one, and somebody has opened the journal for writing.
    Written,
    Interrupted,
}

fn compact_one(
    medium: &dyn Medium,
    dir: &Path,
    todo: &Todo,
    codec: Codec,
    owner: &mut dyn Owner,
    pace: &mut Pace<'_>,
) -> Result<Done, Error> {
    let Todo { number, name, is_newest, map, data_end, size } = todo;
    let path = dir.join(name);
    // Behind it the file has zeros, which need not be read to be known.
    let native = Native { bytes: map.bytes(0..*data_end), size: map.size() as u64 };
    let packed = match pack(native, codec, pace) {
        Ok(Some(packed)) => packed,
        Ok(None) => return Ok(Done::Interrupted),
        Err(EncodeError::NotGivenBack { source, .. }) if map.is_intact() => {
            return Err(Error::NotGivenBack { path, source });
        }
        Err(EncodeError::NotGivenBack { .. }) => return Err(Error::changed(&path, &**map)),
        Err(error) => return Ok(Done::Skipped(error.to_string())),
    };
    if packed.len() as u64 >= *size {
        return Ok(Done::Skipped(format!("it would grow from {size} to {} bytes", packed.len())));
    }
    // What is gone from the file reads as zeros, and would be compressed as such.
    if !map.is_intact() {
        return Err(Error::changed(&path, &**map));
    }
    let unfinished = dir.join(directory::compressing(name));
    let written = replace::write_like(medium, &unfinished, &path, &packed);
    let mapped = written.and_then(|file| file.map().map_err(Error::io("map", &unfinished)));
    let written = mapped.and_then(|file| {
        let is_read_back = file.bytes(0..file.size()) == packed && file.is_intact();
        if is_read_back { Ok(file) } else { Err(Error::NotGivenBack { path: path.clone(), source: None }) }
    });
    let is_there = || owner.has(*number) && medium.open(&path, false).is_ok();
    match written {
        Ok(file) if is_there() => {
            // While this has it no writer comes, who would have the file of before mapped, and tell others of it.
            let lock = match is_newest.then(|| writer_lock(medium, dir)).transpose()? {
                Some(LockOutcome::Held(_)) => {
                    drop(medium.remove(&unfinished));
                    return Ok(Done::Written);
                }
                lock => lock,
            };
            medium.rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
            // A sync can take long, and who opens a journal does not wait for a lock. A writer that comes before it finds the new
            // file, which is durable, and goes on from the same end; what it writes has a name only behind a sync of this
            // directory, which covers the rename too. If power is lost before either, the name stands for the one file or the
            // other, and both say the same.
            drop(lock);
            owner.or_fail(medium.sync_dir(dir).map_err(Error::io("sync", dir)))?;
            if !owner.has(*number) {
                // It was retired, and perhaps removed already. What says so may have no more than a name that a loss of power
                // takes away again; if that can't be made durable, the next open removes the file.
                if medium.sync_dir(dir).is_ok() {
                    drop(medium.remove(&path));
                }
                return Ok(Done::Gone);
            }
            owner.has_changed(*number, file);
            Ok(Done::Compacted(packed.len() as u64))
        }
        not_taken => {
            // If that fails too, the next compaction does it. The segment's name stands for what it did.
            drop(medium.remove(&unfinished));
            not_taken.map(|_| Done::Gone)
        }
    }
}

/// A segment's file, of which the bytes that are not given are zero.
#[derive(Clone, Copy)]
struct Native<'a> {
    bytes: &'a [u8],
    size: u64,
}

/// The compressed file, of which it is certain that it gives the segment back; `None` if it was interrupted.
fn pack(native: Native<'_>, codec: Codec, pace: &mut Pace<'_>) -> Result<Option<Vec<u8>>, EncodeError> {
    let mut compressor = Compressor::new(native.bytes, native.size, codec)?.proving();
    let mut before = compressor.done();
    while compressor.step()? {
        let done = compressor.done();
        if pace.advance((done - before) as u64).is_break() {
            return Ok(None);
        }
        before = done;
    }
    compressor.finish().map(Some)
}

/// The compressed form of a segment whose native file this would be.
pub(crate) fn pack_at_once(native: &[u8], codec: Codec) -> Result<Vec<u8>, EncodeError> {
    Compressor::new(native, native.len() as u64, codec)?.proving().finish()
}

/// The codec that a compressed segment's file was made with; of one with levels, the usual one.
pub(crate) fn codec_of(medium: &dyn Medium, path: &Path) -> Option<Codec> {
    let map = medium.open(path, false).and_then(|file| file.map()).ok()?;
    let file = map.bytes(0..map.size());
    let first = Layout::parse(file).ok()?.file_range(0)?;
    let (_, method, _) = BlockHeader::parse(file.get(first)?).ok()?;
    Some(match method {
        Method::None => Codec::None,
        Method::Zlib => Codec::Zlib(ZLIB_LEVEL),
        Method::Lz4 => Codec::Lz4,
        Method::Zstd => Codec::Zstd(ZSTD_LEVEL),
        Method::Snappy => Codec::Snappy,
    })
}
