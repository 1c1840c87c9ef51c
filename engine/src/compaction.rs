//! Compaction: segments that were closed in order get their compressed form.
//!
//! The compressed file is written under another name and synced, read back, decoded and held against the segment byte for
//! byte, and only then takes the segment's name, in one step: at every moment the name stands for the one or the other, and
//! both say the same. Readers that have the native file open keep it. A crash leaves an unfinished file, which the next
//! compaction or the next writer removes; what was compacted up to there stays, so that the same call again goes on.
//!
//! A journal can be compacted while it has a writer: nobody writes to a sealed segment. The newest one is compacted only
//! when no writer has the journal open.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use semj_blocks::{BlockDecoder, Codec, Compressor, DecodeError, EncodeError, Layout};
use semj_format::journal_header::{FLAG_COMPRESSED, FLAG_SEALED, FLAG_THINNED};
use semj_format::{JournalHeader, SegmentOpen};
use semj_recovery::Scanner;

use crate::compressed;
use crate::directory;
use crate::error::Error;
use crate::medium::{Disk, LockOutcome, Map, Medium};

/// What is compacted, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// Default: zstd.
    pub codec: Codec,
    /// Only segments that were ended longer ago.
    pub older_than: Option<Duration>,
    /// Bytes of segments that are read in a second at most.
    pub rate: Option<u64>,
    /// Only says what would be compacted.
    pub is_dry_run: bool,
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
    /// … and use now; 0 in a dry run.
    pub bytes_after: u64,
    /// Segments that had been compacted before.
    pub kept: u64,
    /// Segments that are open, too young, or did not end in order: nothing is wrong with leaving them.
    pub waiting: u64,
    /// Segments that could have been compacted and were not.
    pub skipped: Vec<SkippedSegment>,
    /// Whether somebody told it to stop.
    pub is_interrupted: bool,
}

/// Compacts the journal in a directory, whether it is in use or not. `progress` is called often, and ends it with
/// [`ControlFlow::Break`]: what is done stays.
///
/// # Errors
///
/// No journal there, [`Error::Compacting`], an I/O error. Every segment is there then, in the one form or the other. A segment
/// that is damaged is no error, but is skipped.
pub fn compact(
    dir: impl AsRef<Path>,
    compaction: Compaction,
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
    compaction: Compaction,
    progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
) -> Result<CompactionReport, Error> {
    let _span = tracing::info_span!("compact", dir = %dir.display()).entered();
    let names = medium.list(dir).map_err(Error::io("list", dir))?;
    let segments = directory::segments(names.clone());
    if segments.is_empty() {
        return Err(Error::NoJournal { dir: dir.to_owned() });
    }
    let _lock = match compaction.is_dry_run {
        true => None,
        false => Some(lock(medium, dir)?),
    };
    if !compaction.is_dry_run {
        for name in names.iter().filter(|name| directory::is_compressing(name)) {
            let path = dir.join(name);
            medium.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    let writer_lock = dir.join(directory::LOCK);
    // While this has it no writer comes and takes the newest segment for the one that it goes on from.
    let newest_lock = match medium.lock(&writer_lock).map_err(Error::io("lock", &writer_lock))? {
        LockOutcome::Acquired(lock) => Some(lock),
        LockOutcome::Held(_) => None,
    };
    let mut report = CompactionReport::default();
    let mut plan = Vec::new();
    let mut openings =
        segments.iter().skip(1).map(|(_, name)| opening(medium, dir, name)).collect::<Vec<_>>();
    openings.push(None);
    let now_ns = medium.clock_anchor().wall_clock_ns;
    for ((_, name), next) in segments.iter().zip(openings) {
        let path = dir.join(name);
        let map = medium.open(&path, false).and_then(|file| file.map()).map_err(Error::io("map", &path))?;
        let header = JournalHeader::parse(map.bytes(0..JournalHeader::SIZE));
        let is_newest = segments.last().is_some_and(|(_, last)| last == name);
        let ended_ns = next.or_else(|| opening(medium, dir, name)).map(|opening| opening.wall_clock_ns);
        let is_young = compaction.older_than.is_some_and(|limit| {
            let age = ended_ns.and_then(|ended| u64::try_from(now_ns.saturating_sub(ended)).ok());
            age.is_none_or(|age| Duration::from_nanos(age) <= limit)
        });
        match header {
            Ok(header) if header.flags & FLAG_COMPRESSED != 0 => report.kept += 1,
            Ok(header) if header.flags & !FLAG_THINNED != FLAG_SEALED || is_young => report.waiting += 1,
            Ok(_) if is_newest && newest_lock.is_none() => report.waiting += 1,
            Ok(header) => plan.push((name, map, header.journal_size)),
            Err(error) => {
                report.skipped.push(SkippedSegment { name: name.clone(), reason: error.to_string() });
            }
        }
    }
    let total = plan.iter().map(|(_, _, size)| size).sum();
    if !plan.iter().any(|(name, ..)| segments.last().is_some_and(|(_, last)| last == *name)) {
        drop(newest_lock);
    }
    let mut pace = Pace { started: Instant::now(), rate: compaction.rate, done: 0, total, progress };
    for (name, map, size) in plan {
        if compaction.is_dry_run {
            report.compacted += 1;
            report.bytes_before += size;
            continue;
        }
        let before = pace.done;
        match compact_one(medium, dir, name, &*map, compaction.codec, &mut pace) {
            Ok(Done::Compacted(packed)) => {
                tracing::info!(name, size, packed, "segment compacted");
                report.compacted += 1;
                report.bytes_before += size;
                report.bytes_after += packed;
            }
            Ok(Done::Skipped(reason)) => {
                tracing::warn!(name, reason, "segment not compacted");
                report.skipped.push(SkippedSegment { name: name.clone(), reason });
            }
            Ok(Done::Interrupted) => {
                report.is_interrupted = true;
                break;
            }
            Err(error) => return Err(error),
        }
        pace.done = before + size;
    }
    Ok(report)
}

fn lock(medium: &dyn Medium, dir: &Path) -> Result<Box<dyn std::fmt::Debug + Send + Sync>, Error> {
    let path = dir.join(directory::COMPACTION_LOCK);
    match medium.lock(&path).map_err(Error::io("lock", &path))? {
        LockOutcome::Acquired(lock) => Ok(lock),
        LockOutcome::Held(pid) => Err(Error::Compacting { dir: dir.to_owned(), pid }),
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
    Interrupted,
}

fn compact_one(
    medium: &dyn Medium,
    dir: &Path,
    name: &str,
    map: &dyn Map,
    codec: Codec,
    pace: &mut Pace<'_>,
) -> Result<Done, Error> {
    let path = dir.join(name);
    let native = map.bytes(0..map.size());
    let packed = match pack(native, codec, pace) {
        Ok(Some(packed)) => packed,
        Ok(None) => return Ok(Done::Interrupted),
        Err(error) => return Ok(Done::Skipped(error.to_string())),
    };
    let end = JournalHeader::parse(native).map_or(0, |header| header.journal_size);
    if packed.len() as u64 >= end {
        return Ok(Done::Skipped(format!("it would grow from {end} to {} bytes", packed.len())));
    }
    // What is gone from the file reads as zeros, and would be compressed as such.
    if !map.is_intact() {
        return Err(Error::changed(&path, map));
    }
    let unfinished = dir.join(directory::compressing(name));
    let done = put(medium, dir, &path, &unfinished, native, &packed);
    if done.is_err() {
        // If that fails too, the next compaction does it. The segment's name stands for what it did, or for what was just
        // verified.
        drop(medium.remove(&unfinished));
    }
    done.map(|()| Done::Compacted(packed.len() as u64))
}

/// The compressed file; `None` if it was interrupted.
fn pack(native: &[u8], codec: Codec, pace: &mut Pace<'_>) -> Result<Option<Vec<u8>>, EncodeError> {
    let mut compressor = Compressor::new(native, native.len() as u64, codec)?;
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

/// Puts the compressed file in the place of the segment, when it is durable and has given the segment back.
fn put(
    medium: &dyn Medium,
    dir: &Path,
    path: &Path,
    unfinished: &Path,
    native: &[u8],
    packed: &[u8],
) -> Result<(), Error> {
    let file = medium.create(unfinished, packed.len() as u64).map_err(Error::io("create", unfinished))?;
    file.write_at(0, packed).map_err(Error::io("write", unfinished))?;
    file.sync_all().map_err(Error::io("sync", unfinished))?;
    let map = file.map().map_err(Error::io("map", unfinished))?;
    let written = map.bytes(0..map.size());
    let given_back = gives_back(written, native);
    if given_back != Ok(true) || !map.is_intact() {
        return Err(Error::NotGivenBack { path: path.to_owned(), source: given_back.err() });
    }
    medium.rename(unfinished, path).map_err(Error::io("rename", unfinished))?;
    medium.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Whether a compressed file decodes to these bytes and nothing but zeros behind them.
fn gives_back(packed: &[u8], native: &[u8]) -> Result<bool, DecodeError> {
    let layout = Layout::parse(packed)?;
    layout.verify_digest(packed)?;
    let seal = layout.seal();
    let mut is_same = seal.native_size == native.len() as u64
        && native.get(..JournalHeader::SIZE) == Some(&seal.native_header[..]);
    let mut decoder = BlockDecoder::default();
    let mut out = Vec::new();
    let mut end = JournalHeader::SIZE;
    for block in 0..layout.entries().len() {
        let Some(range) = layout.native_range(block) else { return Ok(false) };
        out.resize(range.len(), 0);
        layout.decode(packed, block, &mut decoder, &mut out)?;
        is_same &= native.get(range.clone()) == Some(&out[..]);
        end = range.end;
    }
    Ok(is_same && native.get(end..).is_some_and(|behind| behind.iter().all(|byte| *byte == 0)))
}
