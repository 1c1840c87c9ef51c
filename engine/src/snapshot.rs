//! Snapshots: a journal as it is at one commit, in a directory of its own, while its writer goes on.
//!
//! A snapshot is a journal like any other. Segments that have reached their ends are never written again, so that their files
//! can be shared; what is copied is the segment that is written, up to a commit, with a header that says that it ends there.
//!
//! The order makes a snapshot that was cut short known as such. A new one gets its watermark first: before the last segment is
//! there, the journal proves less than the watermark says. An earlier one that is brought forward gets it last, and is the
//! earlier one, or something in between, until then; where the journal has retired all that the earlier one had, or events
//! were taken out of segments, what is in between may need a salvage to be read. In any case the same call again completes it.

use std::path::Path;
use std::{fs, io};

use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Commit, Digest, JournalHeader, Records, WatermarkFile, control};
use semj_recovery::{Effort, OpenMode, Proof, Scanner, SegmentReport, Tip};

use crate::compressed;
use crate::directory;
use crate::error::Error;
use crate::examine::{self, Found};
use crate::medium::{Disk, LockOutcome, Map, Medium};
use crate::replace::{create_like, take_after};
use crate::retention;
use crate::sidecar;
use crate::watermark::{self, Mark, WatermarkWriter};

/// How often it is begun anew when the writer retires segments meanwhile.
const RETRIES: usize = 4;
/// Bytes that are copied at once.
const COPY_SIZE: usize = 1 << 20;

/// How segments that have reached their ends come into a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotMethod {
    /// As cheaply as the file systems allow it: shared blocks, or else a second name, or else a copy.
    #[default]
    Auto,
    /// As files that share blocks until one is written to (FICLONE): on XFS, Btrfs, bcachefs.
    Reflink,
    /// As second names of the same files, on the same file system: damage to one is damage to both.
    Link,
    /// As copies.
    Copy,
}

/// How a snapshot is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// How segments come into it. Default: [`SnapshotMethod::Auto`].
    pub method: SnapshotMethod,
    /// How much of the journal and then of the snapshot is proven. Default: [`Proof::Newest`].
    pub proof: Proof,
}

/// How far a snapshot has come, in bytes of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotProgress {
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that it will have.
    pub total: u64,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Segments that an earlier snapshot had already.
    pub kept: u64,
    /// Segments that share their blocks with the journal's.
    pub cloned: u64,
    /// Segments that are second names of the journal's.
    pub linked: u64,
    /// Segments that were copied.
    pub copied: u64,
    /// Bytes that were copied.
    pub bytes_copied: u64,
    /// Segments that the journal has retired since the earlier snapshot, and that were removed here too.
    pub removed: u64,
    /// Bytes of all segments.
    pub bytes: u64,
    /// Events in it.
    pub events: u64,
    /// Where it ends.
    pub tip: Tip,
}

/// Takes a snapshot of the journal in `dir`, which may be in use by any process, into the directory `target`: a new one, or
/// one with an earlier snapshot of the same journal, which is brought forward. It is durable on return.
///
/// # Errors
///
/// No journal there, damage; [`Error::NotASnapshot`] if something else is in `target`; an I/O error. What was done up to there
/// stays, and the same call goes on with it.
pub fn snapshot(
    dir: impl AsRef<Path>,
    target: impl AsRef<Path>,
    options: SnapshotOptions,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotReport, Error> {
    let (dir, target) = (dir.as_ref(), target.as_ref());
    if let (Ok(journal), Ok(there)) = (fs::canonicalize(dir), fs::canonicalize(target))
        && journal == there
    {
        return Err(Error::not_a_snapshot(target, ".", "it is the journal itself"));
    }
    snapshot_on(&Disk, dir, target, options, progress)
}

/// [`snapshot`] on another medium.
///
/// # Errors
///
/// As [`snapshot`].
pub fn snapshot_on(
    medium: &dyn Medium,
    dir: &Path,
    target: &Path,
    options: SnapshotOptions,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotReport, Error> {
    let sync = |newest: &SegmentReport| {
        let path = dir.join(&newest.name);
        let file = medium.open(&path, false).map_err(Error::io("open", &path))?;
        file.sync_data().map_err(Error::io("sync", &path))?;
        medium.sync_dir(dir).map_err(Error::io("sync", dir))
    };
    snapshot_with(medium, dir, target, options, &sync, progress)
}

/// [`snapshot_on`], with how to make durable what was found of the segment that is written.
pub(crate) fn snapshot_with(
    medium: &dyn Medium,
    dir: &Path,
    target: &Path,
    options: SnapshotOptions,
    sync: &dyn Fn(&SegmentReport) -> Result<(), Error>,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotReport, Error> {
    let _span = tracing::info_span!("snapshot", dir = %dir.display(), target = %target.display()).entered();
    let mut retries = RETRIES;
    loop {
        match take(medium, dir, target, options, sync, progress) {
            Err(Error::Io { source, .. }) if retries > 0 && source.kind() == io::ErrorKind::NotFound => {
                retries -= 1;
            }
            // Events were taken out of a segment meanwhile, and what says so is in one that was not found.
            Err(Error::Changed { .. }) if retries > 0 => retries -= 1,
            other => return other,
        }
    }
}

/// Makes a journal of a snapshot in a directory that has none. Every byte of both is verified.
///
/// # Errors
///
/// As [`snapshot`]; [`Error::NotEmpty`] if there is a journal already.
pub fn restore(
    snapshot: impl AsRef<Path>,
    dir: impl AsRef<Path>,
    method: SnapshotMethod,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotReport, Error> {
    let (medium, snapshot, dir) = (&Disk, snapshot.as_ref(), dir.as_ref());
    let names = match medium.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(Error::io("list", dir))?,
    };
    // What a restore that was cut short has left is not known from a journal that is damaged: it has to be removed.
    if names.iter().any(|name| directory::segment_number(name).is_some() || name == directory::WATERMARK) {
        return Err(Error::NotEmpty { dir: dir.to_owned() });
    }
    snapshot_on(medium, snapshot, dir, SnapshotOptions { method, proof: Proof::Everything }, progress)
}

fn take(
    medium: &dyn Medium,
    dir: &Path,
    target: &Path,
    options: SnapshotOptions,
    sync: &dyn Fn(&SegmentReport) -> Result<(), Error>,
    progress: &mut dyn FnMut(SnapshotProgress),
) -> Result<SnapshotReport, Error> {
    let effort = Effort { proof: options.proof, threads: medium.threads() };
    let found = examine::examine_dir(medium, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    let report = &found.report;
    let tip = report.tip.ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
    if medium.list(dir).map_err(Error::io("list", dir))?.iter().any(|name| name == directory::UNRETIRED) {
        return Err(Error::Unretired { dir: dir.to_owned() });
    }
    medium.create_dir(target).map_err(Error::io("create", target))?;
    let lock_path = target.join(directory::LOCK);
    let _lock = match medium.lock(&lock_path).map_err(Error::io("lock", &lock_path))? {
        LockOutcome::Acquired(lock) => lock,
        LockOutcome::Held(pid) => return Err(Error::Locked { dir: target.to_owned(), pid }),
    };
    let earlier = Earlier::in_dir(medium, target, &found)?;
    let mark = mark(&found, tip);
    if earlier.is_none() {
        WatermarkWriter::open(medium, target, &WatermarkFile::default(), &mark)?;
        let [ours, theirs] = [dir, target].map(|dir| dir.join(directory::WATERMARK));
        if let Err(error) = medium.take_after(&theirs, &ours) {
            tracing::debug!(%error, path = %theirs.display(), "it stays whose it is");
        }
    } else {
        // A name that an earlier call gave may not be on the disk, and those that follow must not come there before it.
        medium.sync_dir(target).map_err(Error::io("sync", target))?;
    }
    let mut taker = Taker {
        medium,
        dir,
        target,
        method: options.method,
        report: SnapshotReport {
            kept: 0,
            cloned: 0,
            linked: 0,
            copied: 0,
            bytes_copied: 0,
            removed: 0,
            bytes: report.segments.iter().map(|segment| segment.end as u64).sum(),
            events: report.events(),
            tip,
        },
        done: 0,
        progress,
    };
    if let Some(newest) = report.segments.last().filter(|newest| !newest.is_final()) {
        // What a crash could still take from the journal would be in the snapshot alone, and no later one could follow it.
        sync(newest)?;
    }
    // Those that events were taken out of since come last, behind the records that say so.
    let is_later = |segment: &SegmentReport| earlier.complete.contains(&segment.name);
    let places = report.segments.iter().enumerate();
    let later = places.clone().filter(|(_, segment)| is_later(segment));
    for (place, segment) in places.filter(|(_, segment)| !is_later(segment)).chain(later) {
        if earlier.has(medium, target, segment)? {
            taker.report.kept += 1;
            taker.advance(segment.end as u64);
        } else if let Some(map) = found.map(place) {
            taker.put(segment, map)?;
        }
    }
    if !earlier.is_none() {
        let before = watermark::read(medium, target)?;
        WatermarkWriter::open(medium, target, &before, &mark)?;
        retention::remove_files(medium, target, earlier.retired.iter().map(String::as_str))?;
        taker.report.removed = earlier.retired.len() as u64;
    }
    let taken = taker.report;
    let made = examine::examine_dir(medium, target, OpenMode::Strict, effort)?.accepted(target)?;
    let is_same =
        |made: Tip| (made.segment_number, made.end, made.digest) == (tip.segment_number, tip.end, tip.digest);
    if !made.report.tip.is_some_and(is_same) {
        let newest = report.segments.last().map(|segment| segment.name.clone()).unwrap_or_default();
        return Err(Error::not_a_snapshot(target, &newest, "it is not what was put there"));
    }
    tracing::info!(?taken, "snapshot taken");
    Ok(taken)
}

/// That everything up to here was durable.
fn mark(found: &Found, tip: Tip) -> Mark {
    Mark {
        journal_uuid: tip.journal_uuid,
        epoch: found.report.highest_epoch,
        segment_number: tip.segment_number,
        end: tip.end as u64,
        commit_sequence: tip.commit_sequence,
        last_event_id: tip.last_event_id,
        digest: tip.digest,
    }
}

/// What an earlier snapshot has left in the target.
struct Earlier {
    /// Files of segments that the journal has too.
    names: Vec<String>,
    /// Those of them that have the segment's own end.
    complete: Vec<String>,
    /// Files of segments that the journal has retired since.
    retired: Vec<String>,
}

impl Earlier {
    /// Looks whether what is there is of this journal, and nothing that it does not have.
    fn in_dir(medium: &dyn Medium, target: &Path, found: &Found) -> Result<Self, Error> {
        let mut earlier = Self { names: Vec::new(), complete: Vec::new(), retired: Vec::new() };
        let all = medium.list(target).map_err(Error::io("list", target))?;
        let segments = &found.report.segments;
        let journal_uuid = found.report.tip.map(|tip| tip.journal_uuid);
        // It may be all that is left of another journal.
        if watermark::read(medium, target)?.newest.is_some_and(|mark| Some(mark.journal_uuid) != journal_uuid)
        {
            return Err(Error::not_a_snapshot(target, directory::WATERMARK, "it is of another journal"));
        }
        // What it lost in another way may be nowhere but here.
        let retired_upto = found.report.retired.map_or(0, |retired| retired.segment_number);
        for (number, name) in directory::segments(all.clone()) {
            let path = target.join(&name);
            let refuse = |what| Err(Error::not_a_snapshot(target, &name, what));
            let map = native_map(medium, &path)?;
            let Ok(scanner) = Scanner::without_header(map.bytes(0..map.size()), 0) else {
                return refuse("its beginning is damaged");
            };
            let opening = *scanner.opening();
            let place = segments.iter().position(|segment| segment.name == name);
            match place.and_then(|place| Some((segments.get(place)?, found.map(place)?))) {
                None if number <= retired_upto && Some(opening.journal_uuid) == journal_uuid => {
                    earlier.retired.push(name);
                }
                None => return refuse("the journal has no such segment"),
                Some((segment, source)) => {
                    let end_digest = place.and_then(|place| found.report.end_digest(place));
                    let agreed = agree(&*map, source, segment, end_digest);
                    let agreed = agreed.filter(|_| segment.opening == Some(opening));
                    match agreed {
                        None => return refuse("the journal's segment of this name is another"),
                        Some(Agreed::Whole) => earlier.complete.push(name.clone()),
                        Some(Agreed::Part) => {}
                    }
                    earlier.names.push(name);
                }
            }
        }
        for name in all.iter().filter(|name| directory::is_unfinished_copy(name)) {
            let path = target.join(name);
            medium.remove(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(earlier)
    }

    fn is_none(&self) -> bool {
        self.names.is_empty() && self.retired.is_empty()
    }

    /// Whether a segment is there as a whole, up to the same end.
    fn has(&self, medium: &dyn Medium, target: &Path, segment: &SegmentReport) -> Result<bool, Error> {
        if !self.names.contains(&segment.name) {
            return Ok(false);
        }
        Ok(match native_header(medium, &target.join(&segment.name))? {
            // Where the journal's own has lost its end, the one that is here may have it.
            Some(header) => {
                header.flags & (FLAG_SEALED | FLAG_CUT) != 0 && header.journal_size == segment.end as u64
            }
            // A header that is known to be damaged was copied as it is, with all that is behind it.
            None => segment.header.is_none(),
        })
    }
}

/// The native bytes of a segment's file.
fn native_map(medium: &dyn Medium, path: &Path) -> Result<Box<dyn Map>, Error> {
    let file = medium.open(path, false).map_err(Error::io("open", path))?;
    Ok(compressed::unpacking(file.map().map_err(Error::io("map", path))?))
}

/// The header that they begin with, if it is right.
fn native_header(medium: &dyn Medium, path: &Path) -> Result<Option<JournalHeader>, Error> {
    Ok(JournalHeader::parse(native_map(medium, path)?.bytes(0..JournalHeader::SIZE)).ok())
}

/// What two files of a segment have in common.
enum Agreed {
    /// The beginning, up to the end of the one in the target.
    Part,
    /// The segment's own end, before or after events were taken out of it.
    Whole,
}

/// By the digest of the Commit or seal at the end of the file that is in the target.
fn agree(
    target: &dyn Map,
    source: &dyn Map,
    segment: &SegmentReport,
    end_digest: Option<Digest>,
) -> Option<Agreed> {
    let end = match JournalHeader::parse(target.bytes(0..JournalHeader::SIZE)) {
        Ok(header) => usize::try_from(header.journal_size).ok()?,
        Err(_) => segment.end,
    };
    let start = end.checked_sub(32).filter(|_| target.size() >= end)?;
    let found = target.bytes(start..end);
    // As the next segment goes on from it: the journal's own may have lost its end since.
    let has_end = end_digest.is_some_and(|digest| found == digest.0);
    if has_end && (segment.is_sealed || !segment.damaged.is_empty() || is_thinned(segment)) {
        return Some(Agreed::Whole);
    }
    // Where the segment's end is known to be lost, its file may end before.
    let there = source.bytes(start..end);
    let is_same = found.starts_with(there) && found.get(there.len()..).is_some_and(is_zero);
    let is_part = end <= segment.end && is_same || is_thinned(segment) && has_commit(source, found);
    is_part.then_some(Agreed::Part)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Whether events were taken out of it: nothing in it stands where it stood.
fn is_thinned(segment: &SegmentReport) -> bool {
    segment.header.is_some_and(|header| header.flags & FLAG_THINNED != 0)
}

/// Whether a segment has a Commit with this digest.
fn has_commit(segment: &dyn Map, digest: &[u8]) -> bool {
    let mut start = 0;
    while start < segment.size() {
        let end = segment.piece_end(start);
        let records =
            Records::new(segment.bytes(start..end), if start == 0 { JournalHeader::SIZE } else { 0 });
        let mut commits = records.map_while(|found| control::parse::<Commit>(&found.ok()?.1).ok());
        if commits.any(|commit| commit.is_some_and(|commit| commit.digest.0 == digest)) {
            return true;
        }
        start = end;
    }
    false
}

struct Taker<'a> {
    medium: &'a dyn Medium,
    dir: &'a Path,
    target: &'a Path,
    method: SnapshotMethod,
    report: SnapshotReport,
    done: u64,
    progress: &'a mut dyn FnMut(SnapshotProgress),
}

impl Taker<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(SnapshotProgress { done: self.done, total: self.report.bytes });
    }

    /// Puts a segment into the target, durably.
    fn put(&mut self, segment: &SegmentReport, map: &dyn Map) -> Result<(), Error> {
        let (medium, name) = (self.medium, &segment.name);
        let (source, target) = (self.dir.join(name), self.target.join(name));
        let unfinished = self.target.join(directory::copying(name));
        // One that is not final is written once more.
        let shared = if segment.is_final() { self.share(&source, &unfinished)? } else { None };
        if shared.is_some() && !self.is_of(segment, &unfinished)? {
            medium.remove(&unfinished).map_err(Error::io("remove", &unfinished))?;
            return Err(Error::changed(&source, map));
        }
        match shared {
            Some(Shared::Cloned) => {
                let file = medium.open(&unfinished, false).map_err(Error::io("open", &unfinished))?;
                file.sync_all().map_err(Error::io("sync", &unfinished))?;
                self.report.cloned += 1;
                self.advance(segment.end as u64);
            }
            Some(Shared::Linked) => {
                self.report.linked += 1;
                self.advance(segment.end as u64);
            }
            None => {
                self.copy(segment, map, &unfinished)?;
                self.report.copied += 1;
                self.report.bytes_copied += segment.end as u64;
            }
        }
        medium.rename(&unfinished, &target).map_err(Error::io("rename", &unfinished))?;
        if segment.is_final() {
            self.put_sidecar(&source, &target);
        }
        medium.sync_dir(self.target).map_err(Error::io("sync", self.target))
    }

    /// Whether a file is the one that was examined, and not one that has taken its name since.
    fn is_of(&self, segment: &SegmentReport, path: &Path) -> Result<bool, Error> {
        let found = native_header(self.medium, path)?;
        let figures = |header: JournalHeader| (header.journal_size, header.total_events, header.flags);
        Ok(found.map(figures) == segment.header.map(figures))
    }

    /// Has a file share what another has, if it can and may. One whose name is gone, because it was retired meanwhile, is
    /// still there as long as it is mapped, to be copied.
    fn share(&self, source: &Path, unfinished: &Path) -> Result<Option<Shared>, Error> {
        use SnapshotMethod::{Auto, Copy, Link, Reflink};
        if matches!(self.method, Auto | Reflink) {
            match self.medium.clone_file(source, unfinished) {
                Ok(()) => {
                    take_after(self.medium, unfinished, source)?;
                    return Ok(Some(Shared::Cloned));
                }
                Err(error) if self.method == Reflink => return Err(Error::io("clone", source)(error)),
                // What it may have left is in a link's way.
                Err(_) => drop(self.medium.remove(unfinished)),
            }
        }
        if matches!(self.method, Auto | Link) {
            match self.medium.link(source, unfinished) {
                Ok(()) => return Ok(Some(Shared::Linked)),
                Err(error) if self.method == Link => return Err(Error::io("link", source)(error)),
                Err(error) => tracing::debug!(%error, source = %source.display(), "not linked, but copied"),
            }
        }
        debug_assert!(matches!(self.method, Auto | Copy));
        Ok(None)
    }

    /// Copies a segment up to its end, which its header then names.
    fn copy(&mut self, segment: &SegmentReport, map: &dyn Map, unfinished: &Path) -> Result<(), Error> {
        let write = |error| Error::io("write", unfinished)(error);
        let source = self.dir.join(&segment.name);
        let file = create_like(self.medium, unfinished, &source, segment.end as u64)?;
        // A compressed segment is copied as what it was made from.
        let mut start = 0;
        while start < segment.end {
            let map_anew = map.anew();
            let map = map_anew.as_deref().unwrap_or(map);
            if start >= map.size()
                && segment.damaged.iter().any(|of| of.start <= start && segment.end <= of.end)
            {
                // That this is lost is known, and the new file has zeros there.
                self.advance((segment.end - start) as u64);
                break;
            }
            let end = segment.end.min(start + COPY_SIZE).min(map.piece_end(start));
            let bytes = map.bytes(start..end);
            if bytes.is_empty() || bytes.len() < end - start {
                return Err(Error::changed(&source, map));
            }
            file.write_at(start as u64, bytes).map_err(write)?;
            self.advance((end - start) as u64);
            start = end;
        }
        if !map.is_intact() {
            return Err(Error::changed(&source, map));
        }
        if let Some(header) = segment.final_header().filter(|_| !segment.is_final()) {
            file.write_at(0, &header.encode()).map_err(write)?;
        }
        file.sync_all().map_err(Error::io("sync", unfinished))
    }

    /// A sidecar is only there to make things faster.
    fn put_sidecar(&self, source: &Path, target: &Path) {
        let Some(map) = sidecar::map(self.medium, source) else { return };
        let bytes = map.bytes(0..map.size()).to_vec();
        let (unfinished, path) = (sidecar::unfinished(target), directory::sidecar(target));
        if let Err(error) = sidecar::write_as(self.medium, &unfinished, &path, source, &bytes) {
            tracing::debug!(%error, path = %path.display(), "sidecar not taken along");
        }
    }
}

enum Shared {
    Cloned,
    Linked,
}
