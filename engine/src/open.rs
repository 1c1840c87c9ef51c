//! Opening a directory for writing: what has to be done before a writer goes on.

use std::io;
use std::path::Path;
use std::sync::Arc;

use semj_format::control::{self, Compacted, PreviousEnd};
use semj_format::{Digest, EventType};
use semj_recovery::{Effort, OpenMode, Report, SegmentReport};

use crate::directory;
use crate::error::Error;
use crate::examine::{Found, examine_dir_watched};
use crate::medium::{Map, Medium};
use crate::notes::{self, given_up_tail};
use crate::progress::Progress;
use crate::quarantine::Quarantine;
use crate::replace;
use crate::request;
use crate::retention::{self, Ended, Needs, Plan, Rest, Retention};
use crate::segment::Segment;
use crate::unpack;
use crate::watermark::WatermarkWriter;
use crate::writer::{Chain, NewSegment, Previous, SegmentWriter, finish_header, release_behind};

/// Records of what was taken out of segments that one new segment repeats, however small it is.
pub(crate) const THINNED_MAX: usize = 64;
/// Of a larger one, the part that they may take.
const THINNED_PART: u64 = 8;

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
    let gap = notes::gap(&report, given);
    let next_event_id = next(gap.map_or(given, |gap| gap.last_event_id.max(given)), "event ids")?;

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
        clock_offset_ns: None,
    };
    // Who compacts a segment meanwhile would put it back in its place, or another file in that of the one that is written here.
    let _compaction = match found.gives_up_files() {
        true => Some(replace::lock(medium, dir)?),
        false => None,
    };
    remove_unfinished(medium, dir)?;
    let mut quarantine = Quarantine::new(medium, dir, epoch);
    let prepared = prepare(medium, dir, &mut found, &mut quarantine);
    let quarantined_bytes = prepared.inspect_err(|_| quarantine.take_back())?;

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
    let said = notes::of_open(&report, tip, gap, quarantined_bytes, segment_size);
    let mut said = said.inspect_err(|_| quarantine.take_back())?;
    said.extend(retired.as_ref().map(retention::note));
    let mut thinned = notes::of_thinning(&report);
    let fitting = segment_size / THINNED_PART / control::record_size::<Compacted>() as u64;
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX).max(THINNED_MAX);
    let unsaid = thinned.split_off(thinned.len().min(fitting));
    said.extend(thinned);
    let begun = SegmentWriter::begin(new, &said, &mut chain);
    let begun = begun.and_then(|(writer, naming)| naming.sync().map(|()| (writer, naming)));
    let (writer, naming) = begun.inspect_err(|_| quarantine.take_back())?;
    // From here on it may be there, and what it says of the segment before gives up what stands behind that one's end.
    naming.give_name(medium, dir)?;
    chain.synced_upto = chain.commit_sequence;
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

impl Found {
    /// Whether files of segments that have ended are moved, or others take their places.
    fn gives_up_files(&self) -> bool {
        let kept = self.report.kept_segments();
        self.report.kept < self.report.segments.len()
            || kept.iter().zip(&self.maps).any(|(segment, map)| {
                segment.opening.is_none()
                    || map.is_restored()
                    || map.packed_size().is_some() && !segment.is_final()
            })
    }
}

/// Has each segment that gets another end in a native file of its own, what stands behind those ends in quarantine, and what is
/// kept of the newest one durable. Gives how many bytes the new segment says were put into quarantine.
fn prepare(
    medium: &dyn Medium,
    dir: &Path,
    found: &mut Found,
    quarantine: &mut Quarantine<'_>,
) -> Result<u64, Error> {
    let Found { report, maps } = found;
    for (segment, map) in report.kept_segments().iter().zip(&mut *maps) {
        if segment.opening.is_none() || segment.is_final() && !map.is_restored() {
            continue;
        }
        if map.is_restored() || map.packed_size().is_some() {
            quarantine.keep_file(segment)?;
            *map = unpack::write_native(medium, dir, &segment.name, &**map, || quarantine.is_replaced())?;
        } else if segment.final_header().is_some() && has_other_names(medium, &dir.join(&segment.name))? {
            // A snapshot shares it, or the journal that this is a snapshot of, and is not to lose what is cut off here.
            *map = unpack::write_native(medium, dir, &segment.name, &**map, || ())?;
        }
    }
    let mut quarantined_bytes = 0;
    // Not only behind the newest: where a salvage has lost what says how a segment goes on, that one ends before its time.
    for (segment, map) in report.kept_segments().iter().zip(&*maps) {
        if let Some(tail) = given_up_tail(segment) {
            quarantine.keep_tail(segment, map.bytes(tail.start..tail.end))?;
            quarantined_bytes += tail.size() as u64;
        }
    }
    let newest = report.kept_segments().last().zip(maps.get(report.kept.wrapping_sub(1)));
    if let Some((segment, map)) = newest
        && !segment.is_final()
    {
        make_durable(medium, dir, segment, &**map)?;
    }
    Ok(quarantined_bytes)
}

fn has_other_names(medium: &dyn Medium, path: &Path) -> Result<bool, Error> {
    let file = medium.open(path, false).map_err(Error::io("open", path))?;
    file.has_other_names().map_err(Error::io("look at", path))
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

/// Makes the headers of segments final that a crash or a cut left as they were at creation.
fn finish_old_headers(medium: &dyn Medium, dir: &Path, report: &Report) -> Result<(), Error> {
    for segment in report.kept_segments().iter().filter(|segment| !segment.is_final()) {
        let Some(header) = segment.final_header() else { continue };
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
        match replace::lock(medium, dir) {
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
