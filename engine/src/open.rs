//! Opening a directory: what is there, what it proves, and for a writer what has to be done before it goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use semj_format::control::{self, Compacted, CompactedKind, DamagedRange, GapReason, PreviousEnd};
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Digest, EventType, Gap, JournalHeader, Recovered, WatermarkFile};
use semj_recovery::{
    Backing, Effort, Extent, OpenMode, Packed, Proof, Report, SegmentInput, SegmentReport, Tip,
    examine_unretired, examine_with,
};

use crate::compaction;
use crate::compressed::CompressedMap;
use crate::directory;
use crate::error::Error;
use crate::medium::{Disk, Map, Medium};
use crate::progress::Progress;
use crate::quarantine::Quarantine;
use crate::request;
use crate::restored;
use crate::retention::{self, Ended, Figures, Needs, Plan, Rest, Retention};
use crate::segment::Segment;
use crate::sidecar;
use crate::unpack;
use crate::watermark::{self, WatermarkWriter};
use crate::writer::{Chain, NewSegment, Previous, SegmentWriter, finish_header, release_behind};

/// How often a reader looks again at a journal whose files or headers change under it.
const LIVE_RETRIES: usize = 2;
/// And at one whose files are removed under it, which costs less.
const LISTING_RETRIES: usize = 16;
/// How often a header is looked at until it is right.
const HEADER_LOOKS: usize = 8;
/// Records of what was taken out of segments that one new segment repeats, however small it is.
pub(crate) const THINNED_MAX: usize = 64;
/// Of a larger one, the part that they may take.
const THINNED_PART: u64 = 8;
/// Damaged ranges that one Recovered record lists.
const DAMAGED_RANGES_MAX: usize = (48 << 10) / DamagedRange::SIZE;
/// Of a new segment, the part that such records may take.
const DAMAGED_RANGES_PART: u64 = 4;

/// The segments of a directory, mapped and examined.
#[derive(Debug)]
pub(crate) struct Found {
    maps: Vec<Box<dyn Map>>,
    pub(crate) report: Report,
}

/// Examines the journal in a directory and gives what it proves, whatever that is. Takes no lock and changes no
/// byte; every record's checksum and every commit's and seal's digests are verified.
///
/// # Errors
///
/// No journal there, or an I/O error; damage is no error but what the report is about.
pub fn examine_journal(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    examine_journal_watched(dir, mode, &Progress::default())
}

/// [`examine_journal`], and how far it has come.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_journal_watched(
    dir: impl AsRef<Path>,
    mode: OpenMode,
    progress: &Progress,
) -> Result<Report, Error> {
    let dir = dir.as_ref();
    let effort = Effort { proof: Proof::Everything, threads: Disk.threads() };
    Ok(examine_dir_watched(&Disk, dir, mode, effort, progress)?.of_some(dir)?.report)
}

/// [`examine_journal`] of a directory that was copied file by file while the journal was in use. Its watermark may have been
/// copied behind its segments, and is left out of account: what is missing at the end is not noticed. A
/// [`crate::snapshot()`] is a copy without that.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_copy(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    examine_copy_watched(dir, mode, &Progress::default())
}

/// [`examine_copy`], and how far it has come.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_copy_watched(
    dir: impl AsRef<Path>,
    mode: OpenMode,
    progress: &Progress,
) -> Result<Report, Error> {
    let dir = dir.as_ref();
    let effort = Effort { proof: Proof::Everything, threads: Disk.threads() };
    Ok(examine_files(&Disk, dir, WatermarkFile::default(), mode, effort, progress)?.of_some(dir)?.report)
}

/// [`examine_journal`] of a directory as it will be when its file [`UNRETIRED`](crate::UNRETIRED) is gone, for who is about to
/// remove that.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_unmarked(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    let (medium, dir) = (&Disk, dir.as_ref());
    let effort = Effort { proof: Proof::Everything, threads: medium.threads() };
    let watermark = watermark::read(medium, dir)?;
    let mut names = medium.list(dir).map_err(Error::io("list", dir))?;
    names.retain(|name| name != directory::UNRETIRED);
    let progress = Progress::default();
    Ok(examine_names(medium, dir, names, watermark, mode, effort, &progress)?.of_some(dir)?.report)
}

/// What proves itself in one file, and its native bytes: in a segment, which may be compressed or in quarantine, or in what was cut
/// off from one.
pub(crate) fn examine_file(medium: &dyn Medium, path: &Path) -> Result<(Report, Box<dyn Map>), Error> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let number = directory::segment_number(&name).or_else(|| Some(directory::quarantined(&name)?.0));
    let input = |bytes| SegmentInput::new(&name, number, bytes);
    let file = medium.open(path, false).map_err(Error::io("open", path))?;
    let map = file.map().map_err(Error::io("map", path))?;
    let (mut report, map): (_, Box<dyn Map>) = match CompressedMap::found(map) {
        Ok(compressed) => (semj_recovery::examine_file(&input(&compressed.unpack())), Box::new(compressed)),
        Err(map) => {
            let map = restored::restoring(map);
            (semj_recovery::examine_file(&input(map.bytes(0..map.size()))), map)
        }
    };
    if let (Some(segment), Some(packed_size)) = (report.segments.first_mut(), map.packed_size()) {
        segment.packed_size = Some(packed_size as u64);
    }
    match map.failure() {
        Some(error) => Err(Error::io("read", path)(error)),
        None if !map.is_intact() => Err(Error::changed(path, &*map)),
        None => Ok((report, map)),
    }
}

/// Looks at a directory without changing it.
pub(crate) fn examine_dir(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
) -> Result<Found, Error> {
    examine_dir_watched(medium, dir, mode, effort, &Progress::default())
}

/// The same, and how far it has come.
pub(crate) fn examine_dir_watched(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let mut retries = LIVE_RETRIES;
    let mut listings = LISTING_RETRIES;
    loop {
        match try_examine_dir(medium, dir, mode, effort, progress) {
            Ok(found) if retries > 0 && has_bad_header(&found.report) => retries -= 1,
            // A writer has removed what it retired while this looked, or put a segment behind the last one.
            Ok(found)
                if listings > 0 && !found.report.is_whole() && found.has_other_names(medium, dir)? =>
            {
                listings -= 1;
            }
            // A recovery that goes on at the same time moves segments and then the watermark.
            Ok(found)
                if retries > 0
                    && !found.report.is_whole()
                    && watermark::read(medium, dir)? != found.report.watermark =>
            {
                retries -= 1;
            }
            Err(Error::Io { source, .. }) if listings > 0 && source.kind() == io::ErrorKind::NotFound => {
                listings -= 1;
            }
            other => return other,
        }
    }
}

/// A header is the one part of a segment that is written twice; a reader may see it half written.
fn has_bad_header(report: &Report) -> bool {
    let bad = report.segments.iter().filter(|segment| !segment.verdict.is_good());
    let faults = bad.filter_map(|segment| segment.fault);
    faults.map(|fault| fault.offset).any(|offset| offset < JournalHeader::SIZE as u64)
}

fn try_examine_dir(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    // Before the segments: what it says was durable then is there now.
    let watermark = watermark::read(medium, dir)?;
    examine_files(medium, dir, watermark, mode, effort, progress)
}

fn examine_files(
    medium: &dyn Medium,
    dir: &Path,
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let names = medium.list(dir).map_err(Error::io("list", dir))?;
    examine_names(medium, dir, names, watermark, mode, effort, progress)
}

/// Examines the segments among these names.
fn examine_names(
    medium: &dyn Medium,
    dir: &Path,
    names: Vec<String>,
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let is_unretired = names.iter().any(|name| name == directory::UNRETIRED);
    let names = directory::segments(names);
    let mut maps: Vec<Box<dyn Map>> = Vec::with_capacity(names.len());
    let mut packed = Vec::with_capacity(names.len());
    let mut ends = Vec::with_capacity(names.len());
    let mut headers = Vec::with_capacity(names.len());
    for (_, name) in &names {
        let path = dir.join(name);
        let file = medium.open(&path, false).map_err(Error::io("open", &path))?;
        let map = file.map().map_err(Error::io("map", &path))?;
        let map = match CompressedMap::found(map) {
            Ok(compressed) => {
                headers.push(Some(compressed.native_header()));
                ends.push(compressed.size() as u64);
                packed.push(Some(compressed.clone()));
                maps.push(Box::new(compressed));
                continue;
            }
            Err(map) => map,
        };
        packed.push(None);
        let map = match mode {
            OpenMode::Strict => map,
            OpenMode::PointInTime | OpenMode::Salvage => restored::restoring(map),
        };
        // Before the end: what it says is there then.
        headers.push(header(&*map));
        // Behind the map, so that a live writer's bytes in the map are not taken for zeros.
        ends.push(match map.is_restored() {
            true => map.size() as u64,
            false => file.data_end().map_err(Error::io("seek in", &path))?,
        });
        maps.push(map);
    }
    // What is not to be proven is mostly not read, but for the end of the newest.
    let is_read = |i: usize, number: u64| i + 1 == names.len() || !effort.proof.trusts(number);
    let read = names.iter().zip(&ends).enumerate().filter(|(i, ((number, _), _))| is_read(*i, *number));
    progress.begin(read.map(|(_, (_, end))| end).sum());
    let watched: Vec<_> =
        maps.iter().zip(&ends).map(|(map, bytes)| Watched { map: &**map, bytes: *bytes, progress }).collect();
    let inputs: Vec<_> = names
        .iter()
        .zip(watched.iter().zip(&packed).zip(ends.iter().zip(headers)))
        .map(|((number, name), ((watched, packed), (end, header)))| {
            let map = watched.map;
            let file_size = map.size();
            let data = usize::try_from(*end).map_or(file_size, |end| end.min(file_size));
            let packed = packed.as_ref().map(|packed| packed as &dyn Packed);
            let bytes = map.bytes(0..data);
            let backing = Some(watched as &dyn Backing);
            SegmentInput { name, number: Some(*number), bytes, file_size, header, packed, backing }
        })
        .collect();
    let examine = if is_unretired { examine_unretired } else { examine_with };
    let report = examine(&inputs, watermark, mode, effort);
    if let Some(((_, name), map)) =
        names.iter().zip(&maps).find(|(_, map)| !map.is_intact() || map.failure().is_some())
    {
        return Err(Error::changed(&dir.join(name), &**map));
    }
    maps.drain(..report.leftovers.len());
    Ok(Found { maps, report })
}

/// A segment's map while it is examined.
#[derive(Debug)]
struct Watched<'a> {
    map: &'a dyn Map,
    bytes: u64,
    progress: &'a Progress,
}

/// Who examines a segment is done with most of it. The pages that it has mapped go now, on several threads, and not one
/// segment after the other when the maps do.
impl Backing for Watched<'_> {
    fn seen(&self) {
        self.map.unload();
        self.progress.advance(self.bytes);
    }
}

/// A segment's header, which is the one part that is written twice: one that is not right is looked at again.
fn header(map: &dyn Map) -> Option<[u8; JournalHeader::SIZE]> {
    let mut header = None;
    for _ in 0..HEADER_LOOKS {
        header = map.bytes(0..JournalHeader::SIZE).first_chunk().copied();
        if header.is_none_or(|header| JournalHeader::parse(&header).is_ok()) {
            break;
        }
        std::thread::yield_now();
    }
    header
}

impl Found {
    /// The file of a segment that is kept.
    pub(crate) fn map(&self, place: usize) -> Option<&dyn Map> {
        self.maps.get(place).map(|map| &**map)
    }

    /// Whether the directory has other segments by now.
    fn has_other_names(&self, medium: &dyn Medium, dir: &Path) -> Result<bool, Error> {
        let names = directory::segments(medium.list(dir).map_err(Error::io("list", dir))?);
        let found = self.report.leftovers.iter().chain(self.report.segments.iter().map(|s| &s.name));
        Ok(!names.iter().map(|(_, name)| name).eq(found))
    }

    /// The same, if there is any segment.
    pub(crate) fn of_some(self, dir: &Path) -> Result<Self, Error> {
        match (self.report.segments.is_empty(), self.report.watermark.newest) {
            (true, Some(watermark)) => Err(Error::gone(dir, &watermark)),
            (true, None) => Err(Error::NoJournal { dir: dir.to_owned() }),
            (false, _) => Ok(self),
        }
    }

    /// The same, if the mode accepts what was found.
    pub(crate) fn accepted(self, dir: &Path) -> Result<Self, Error> {
        if let (true, Some(watermark)) = (self.report.is_gone(), self.report.watermark.newest)
            && self.report.mode == OpenMode::Strict
        {
            return Err(Error::gone(dir, &watermark));
        }
        match self.report.refusal() {
            Some(_) => Err(Error::Damaged { dir: dir.to_owned(), report: Box::new(self.report) }),
            None => Ok(self),
        }
    }

    /// The segments that are kept, for reading.
    pub(crate) fn into_segments(self, medium: &dyn Medium, dir: &Path) -> Result<Vec<Arc<Segment>>, Error> {
        let kept = self.report.kept_segments().iter().zip(self.maps);
        kept.filter_map(|(report, map)| {
            let path = dir.join(&report.name);
            let opening = report.opening?;
            let extents = report.extents.clone();
            let sidecar = sidecar::map(medium, &path);
            let figures = Figures::of(report);
            Some(
                Segment::found(opening, path, map, extents, figures, report.is_verified, sidecar)
                    .map(Arc::new),
            )
        })
        .collect()
    }
}

/// A journal that is ready to be written to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) report: Report,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) writer: SegmentWriter,
    pub(crate) watermark: WatermarkWriter,
    pub(crate) chain: Chain,
    pub(crate) next_event_id: u64,
    /// What the journal begins behind.
    pub(crate) retired: Option<Compacted>,
    /// Records that say what was taken out of segments, which were given up and did not all find room in the new segment.
    pub(crate) unsaid: Vec<(EventType, Vec<u8>)>,
}

/// How a directory is opened for writing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) mode: OpenMode,
    pub(crate) effort: Effort,
    pub(crate) segment_size: u64,
    pub(crate) retention: &'a Retention,
    pub(crate) needs: Option<&'a Needs>,
    /// How far the examination has come.
    pub(crate) progress: &'a Progress,
}

/// Opens a directory for writing. The caller holds its lock.
///
/// The order of the steps is what makes a crash between any two of them harmless: nothing is taken from the
/// journal before it is safe in quarantine, and the segment that says where the journal was cut is durable
/// before the cut-off bytes, or the segments behind them, are given up. Those may be the only ones to say what was
/// retired, thinned or damaged before, which the new one says again.
pub(crate) fn open_for_writing(
    medium: &dyn Medium,
    dir: &Path,
    opening: Opening<'_>,
) -> Result<Opened, Error> {
    let Opening { mode, effort, segment_size, progress, .. } = opening;
    // A writer would retire them again.
    if medium.list(dir).map_err(Error::io("list", dir))?.iter().any(|name| name == directory::UNRETIRED) {
        return Err(Error::Unretired { dir: dir.to_owned() });
    }
    let mut found = examine_dir_watched(medium, dir, mode, effort, progress)?.accepted(dir)?;
    let report = found.report.clone();
    let quarantined = Quarantine::numbers(medium, dir)?;
    let epoch = next(report.highest_epoch.max(quarantined.epoch), "epochs")?;
    let number = next(report.highest_segment_number.max(quarantined.segment_number), "segment numbers")?;
    if number > directory::SEGMENT_NUMBER_MAX {
        return Err(Error::Exhausted { what: "segment numbers" });
    }
    next(report.tip.map_or(0, |tip| tip.commit_sequence), "commit numbers")?;
    let given = report.tip.map_or(0, |tip| tip.next_event_id - 1);
    let gap = gap(&report, given);
    let next_event_id = next(gap.map_or(given, |gap| gap.last_event_id.max(given)), "event ids")?;

    remove_unfinished(medium, dir)?;
    let quarantine = Quarantine::new(medium, dir, epoch);
    for (segment, map) in report.kept_segments().iter().zip(&mut found.maps) {
        let is_rewritten = map.is_restored() || map.packed_size().is_some() && !segment.is_final();
        if is_rewritten && segment.opening.is_some() {
            quarantine.keep_file(segment)?;
            *map = unpack::write_native(medium, dir, &segment.name, &**map)?;
        }
    }
    let mut quarantined_bytes = 0;
    // Not only behind the newest: where a salvage has lost what says how a segment goes on, that one ends before its time.
    for (segment, map) in report.kept_segments().iter().zip(&found.maps) {
        if let Some(tail) = given_up_tail(segment) {
            quarantine.keep_tail(segment, map.bytes(tail.start..tail.end))?;
            quarantined_bytes += tail.size() as u64;
        }
    }
    let newest = report.kept_segments().last().zip(found.maps.get(report.kept.wrapping_sub(1)));
    if let Some((segment, map)) = newest
        && !segment.is_final()
    {
        make_durable(medium, dir, segment, &**map)?;
    }

    let tip = report.tip;
    let mut chain = Chain {
        journal_uuid: match tip {
            Some(tip) => tip.journal_uuid,
            None => new_uuid(medium.random().map_err(Error::io("get random bytes for", dir))?),
        },
        epoch,
        process_id: std::process::id(),
        commit_sequence: tip.map_or(0, |tip| tip.commit_sequence),
        digest: tip.map_or(Digest::ZERO, |tip| tip.digest),
        synced_upto: tip.map_or(0, |tip| tip.commit_sequence),
    };
    let new = NewSegment {
        medium,
        dir,
        size: segment_size,
        number,
        next_event_id,
        previous: Previous {
            segment_number: tip.map_or(0, |tip| tip.segment_number),
            end: tip.map_or(PreviousEnd::None, |tip| tip.previous_end),
            end_offset: tip.map_or(0, |tip| tip.end as u64),
        },
        spare: None,
    };
    let retiring = retire(medium, dir, &report, opening);
    let retired = retiring.statement.or(report.retired);
    let mut notes = notes(&report, tip, gap, quarantined_bytes, segment_size)?;
    notes.extend(retired.as_ref().map(retention::note));
    let mut thinned = thinned_notes(&report);
    let fitting = segment_size / THINNED_PART / control::record_size::<Compacted>() as u64;
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX).max(THINNED_MAX);
    let unsaid = thinned.split_off(thinned.len().min(fitting));
    notes.extend(thinned);
    let writer = SegmentWriter::create(new, &notes, &mut chain)?;
    for (i, segment) in report.segments.iter().enumerate().rev() {
        // A salvage may keep what stands behind a file that has no place in the journal.
        if i >= report.kept || segment.opening.is_none() {
            quarantine.take_segment(segment)?;
        }
    }
    finish_old_headers(medium, dir, &report)?;
    let mark = writer.mark(&chain, next_event_id - 1);
    let watermark = WatermarkWriter::open(medium, dir, &report.watermark, &mark)?;

    let mut segments = found.into_segments(medium, dir)?;
    segments.drain(..retiring.count);
    segments.push(Arc::clone(writer.segment()));
    // The watermark speaks of the new segment, so that a journal without the old ones is none that is gone.
    let gone = report.segments.iter().take(retiring.count).map(|segment| &segment.name);
    retention::remove_files(medium, dir, report.leftovers.iter().chain(gone).map(String::as_str))?;
    Ok(Opened { report, segments, writer, watermark, chain, next_event_id, retired, unsaid })
}

/// What an open retires.
#[derive(Default)]
struct Retiring {
    count: usize,
    statement: Option<Compacted>,
}

/// What is retired of a journal that was found whole. Of one that is not, nothing goes that somebody may want to look at.
fn retire(medium: &dyn Medium, dir: &Path, report: &Report, opening: Opening<'_>) -> Retiring {
    if !opening.retention.is_any() {
        return Retiring::default();
    }
    if !report.is_whole() || report.kept < report.segments.len() {
        tracing::warn!("nothing is retired of a journal that was not found whole");
        return Retiring::default();
    }
    let lowest_needed = match retention::lowest_needed(medium, dir, opening.retention, opening.needs) {
        Ok(lowest) => lowest,
        Err(error) => {
            tracing::warn!(%error, "nothing is retired: what is needed is not known");
            return Retiring::default();
        }
    };
    let ended = Ended::of_reports(report.kept_segments());
    let rest = Rest::behind(report.kept_segments().last(), opening.segment_size);
    let now_ns = medium.clock_anchor().wall_clock_ns;
    let plan = Plan::new(&ended, rest, opening.retention, now_ns, lowest_needed);
    Retiring { count: plan.count, statement: plan.statement(&ended, report.retired.as_ref(), now_ns) }
}

/// The number after `number`. Only a forged journal has used them up.
fn next(number: u64, what: &'static str) -> Result<u64, Error> {
    // The last one is left, so that the number after it exists too.
    number.checked_add(1).filter(|next| *next < u64::MAX).ok_or(Error::Exhausted { what })
}

/// Makes what was read of the newest segment durable.
///
/// It may have been in memory only, and worse: after a sync that failed, the kernel calls pages clean that never
/// reached the disk, and a further sync does nothing for them and says that all is well. So what no commit calls
/// durable is written again, the same bytes in the same place, which makes its pages dirty, and then synced.
fn make_durable(
    medium: &dyn Medium,
    dir: &Path,
    segment: &SegmentReport,
    map: &dyn Map,
) -> Result<(), Error> {
    let path = dir.join(&segment.name);
    let file = medium.open(&path, true).map_err(Error::io("open", &path))?;
    // A copy, because nobody may write to what a slice of the map shows.
    let unproven = map.bytes(segment.synced_end..segment.end).to_vec();
    file.write_at(segment.synced_end as u64, &unproven).map_err(Error::io("write", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))?;
    medium.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// What stands behind a segment's end and goes when its header says so.
fn given_up_tail(segment: &SegmentReport) -> Option<Extent> {
    segment.tail.filter(|_| segment.opening.is_some() && !segment.is_final())
}

/// What is lost behind a segment's end that no other names: what stands there and goes, and what its header says was there. That
/// counts until the header says otherwise, which it does last of all, and not where a damaged record keeps it from being made final.
fn given_up(segment: &SegmentReport) -> Option<Extent> {
    let tail = given_up_tail(segment);
    let claims = |header: &JournalHeader| header.flags & (FLAG_SEALED | FLAG_CUT) != 0;
    let header = segment.header.filter(claims).filter(|_| segment.opening.is_some() && !segment.is_final());
    let said = header.and_then(|header| usize::try_from(header.journal_size).ok());
    let end = tail.map_or(0, |tail| tail.end).max(said.unwrap_or(0));
    (end > segment.end).then_some(Extent { start: segment.end, end })
}

/// The control records that tell what this open found and did.
fn notes(
    report: &Report,
    tip: Option<Tip>,
    gap: Option<Gap>,
    quarantined_bytes: u64,
    segment_size: u64,
) -> Result<Vec<(EventType, Vec<u8>)>, Error> {
    let mut notes = Vec::new();
    // Where segments are given up, the records of damage that is known may be in them.
    let all_is_kept = report.kept == report.segments.len()
        && report.segments.iter().all(|segment| segment.opening.is_some());
    let kept = report.kept_segments();
    let range_of = |segment: &SegmentReport, extent: Extent| DamagedRange {
        segment_number: segment.number,
        offset: extent.start as u64,
        length: extent.size() as u64,
    };
    let mut new_damage = Vec::new();
    for (i, segment) in kept.iter().enumerate().filter(|(_, segment)| segment.opening.is_some()) {
        if !all_is_kept || segment.verdict != semj_recovery::Verdict::KnownDamage {
            new_damage.extend(segment.lost_before);
            new_damage.extend(segment.damaged.iter().map(|damage| range_of(segment, *damage)));
        }
        if let Some(next) = kept.get(i + 1) {
            // Where the next one goes on from this one, it names the end.
            let is_named = next.opening.is_some_and(|opening| opening.previous_segment == segment.number);
            let lost = if is_named { given_up_tail(segment) } else { given_up(segment) };
            new_damage.extend(lost.map(|lost| range_of(segment, lost)));
        }
    }
    new_damage.extend(lost_newest(report));
    if let Some(newest) = kept.last()
        && (!newest.is_sealed || !new_damage.is_empty())
    {
        let fitting = segment_size / DAMAGED_RANGES_PART / DamagedRange::SIZE as u64;
        if new_damage.len() as u64 > fitting {
            // Those of a segment become one, which claims more damage than there is, but never less.
            new_damage.dedup_by(|next, before| {
                let is_one = next.segment_number == before.segment_number;
                if is_one {
                    before.length = next.offset + next.length - before.offset;
                }
                is_one
            });
        }
        if new_damage.len() as u64 > fitting {
            return Err(Error::Exhausted { what: "room in a segment of this size for what is damaged" });
        }
        // One that lists nothing says where the journal was cut.
        let mut lists: Vec<_> = new_damage.chunks(DAMAGED_RANGES_MAX).collect();
        if lists.is_empty() {
            lists.push(&[]);
        }
        for ranges in lists {
            let recovered = Recovered {
                segment_number: newest.number,
                commit_sequence: tip.map_or(0, |tip| tip.commit_sequence),
                cut_offset: newest.end as u64,
                quarantined_bytes,
                kept_events: report.events(),
                mode: report.mode.code(),
                verdict: newest.verdict.code(),
                range_count: ranges.len() as u32,
                reserved: 0,
            };
            let mut body = recovered.encode().to_vec();
            ranges.iter().for_each(|range| body.extend_from_slice(&range.encode()));
            notes.push((EventType::JOURNAL_RECOVERED, body));
        }
    }
    if let Some(gap) = gap {
        notes.push((EventType::JOURNAL_GAP, gap.encode().to_vec()));
    }
    Ok(notes)
}

/// What a salvage has found nothing of behind the last segment that is kept, or nothing that has a place in the journal. None of
/// the segments says that it is lost.
fn lost_newest(report: &Report) -> Vec<DamagedRange> {
    let kept = report.kept_segments().last().map_or(0, |newest| newest.number);
    if report.mode != OpenMode::Salvage {
        return Vec::new();
    }
    let given_up = report.segments.iter().skip(report.kept).filter(|segment| segment.number > kept);
    let mut lost: Vec<_> = given_up
        .map(|segment| DamagedRange {
            segment_number: segment.number,
            offset: 0,
            length: (segment.file_size as u64).max(1),
        })
        .collect();
    if let Some(mark) = report.watermark.newest
        && mark.segment_number > kept
        && report.segments.iter().all(|segment| segment.number != mark.segment_number)
    {
        lost.push(DamagedRange { segment_number: mark.segment_number, offset: 0, length: mark.end });
    }
    lost
}

/// Where segments are given up, the records of what was taken out of others may be in them, which must not seem to lack
/// events. Their types are left out: there may be many.
fn thinned_notes(report: &Report) -> Vec<(EventType, Vec<u8>)> {
    let all_is_kept = report.kept == report.segments.len()
        && report.segments.iter().all(|segment| segment.opening.is_some());
    let said: Vec<_> =
        report.thinned.iter().filter_map(|body| body.first_chunk()).map(Compacted::decode).collect();
    // What nothing says any more of a segment as it ends now, is taken from the segment itself.
    let of_segment = |segment: &SegmentReport| {
        let thinned = segment.totals.thinned;
        let is_said = said.iter().any(|said| {
            (said.segment_number, said.digest) == (segment.number, segment.totals.digest)
                && said.event_count >= thinned.events
        });
        let is_thinned = thinned != Default::default();
        (report.mode != OpenMode::Strict && !is_said && is_thinned).then(|| Compacted {
            kind: CompactedKind::Thinned.code(),
            reason: 0,
            segment_number: segment.number,
            end_offset: segment.original_end(),
            commit_sequence: segment.totals.commit_sequence,
            segment_count: 1,
            event_count: thinned.events,
            record_count: 0,
            byte_count: 0,
            first_event_id: segment.totals.first_event_id,
            last_event_id: segment.totals.last_event_id,
            end: if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut }.code(),
            type_count: 0,
            wall_clock_ns: 0,
            digest: segment.totals.digest,
        })
    };
    let kept = report.kept_segments();
    let is_kept =
        |said: &&Compacted| !all_is_kept && kept.iter().any(|segment| segment.number == said.segment_number);
    let bodies = said.iter().filter(is_kept).copied().chain(kept.iter().filter_map(of_segment));
    bodies
        .map(|body| (EventType::JOURNAL_COMPACTED, Compacted { type_count: 0, ..body }.encode().to_vec()))
        .collect()
}

/// The ids behind the kept end that something in the journal speaks of. They may have been acknowledged, so
/// they are not given again; after a torn tail, which nobody was told was durable, they are.
fn gap(report: &Report, last_given_id: u64) -> Option<Gap> {
    let lost =
        report.mode != OpenMode::Strict && !report.is_whole() && report.highest_event_id > last_given_id;
    lost.then_some(Gap {
        first_event_id: last_given_id + 1,
        last_event_id: report.highest_event_id,
        event_count: 0,
        reason: GapReason::Damaged.code(),
        type_count: 0,
    })
}

/// The header of a segment that ends where it does, with its final figures. Behind damage a walk by sizes gets lost;
/// figures that speak of records there would not be true.
pub(crate) fn final_header(segment: &SegmentReport) -> Option<JournalHeader> {
    let end_flag = if segment.is_sealed { FLAG_SEALED } else { FLAG_CUT };
    let totals = &segment.totals;
    let flags = if totals.thinned.events > 0 { end_flag | FLAG_THINNED } else { end_flag };
    let can_be = segment.header.is_some() && segment.damaged.is_empty();
    can_be.then(|| JournalHeader::new(totals.records_left(), totals.next_event_id, segment.end as u64, flags))
}

/// Makes the headers of segments final that a crash or a cut left as they were at creation.
fn finish_old_headers(medium: &dyn Medium, dir: &Path, report: &Report) -> Result<(), Error> {
    for segment in report.kept_segments().iter().filter(|segment| !segment.is_final()) {
        let Some(header) = final_header(segment) else { continue };
        let path = dir.join(&segment.name);
        let file = medium.open(&path, true).map_err(Error::io("open", &path))?;
        finish_header(&*file, &path, &header)?;
        release_behind(&*file, &path, &header)?;
    }
    Ok(())
}

/// Removes segments whose creation was cut short, which never had a name that counts, and requests to a writer that is gone.
fn remove_unfinished(medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
    let mut names = medium.list(dir).map_err(Error::io("list", dir))?;
    // Somebody may be at these, who needs no writer.
    if names.extract_if(.., |name| directory::is_compressing(name)).count() > 0 {
        match compaction::lock(medium, dir) {
            Ok(_) | Err(Error::Compacting { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    for name in names {
        if name == directory::REQUEST {
            request::turn_down(medium, dir)?;
            continue;
        }
        let is_watermark = name == directory::WATERMARK_UNFINISHED;
        if is_watermark || directory::is_unfinished(&name) || directory::is_unfinished_request(&name) {
            let path = dir.join(name);
            match medium.remove(&path) {
                // Who makes it may have finished it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(Error::io("remove", &path))?,
            }
        }
    }
    Ok(())
}

/// Version 4 of RFC 9562: 122 random bits.
fn new_uuid(mut random: [u8; 16]) -> [u8; 16] {
    random[6] = random[6] & 0x0F | 0x40;
    random[8] = random[8] & 0x3F | 0x80;
    random
}
