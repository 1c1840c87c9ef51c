//! Which segments a journal gives up, and what it says of them.
//!
//! Segments go from the oldest on, as a whole. A Compacted record in the first group of the next segment says up to which
//! one and where that ended; when that segment has its name on the disk the journal begins behind them, and only then are
//! their files removed. After a crash in between the next open removes what is left.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use semj_format::control::{Body as _, Compacted, CompactedKind};
use semj_format::{Digest, EventType, SegmentOpen};
use semj_recovery::{Effort, OpenMode, Proof, Scanner, SegmentReport, retired_before};

use crate::compressed;
use crate::error::Error;
use crate::examine;
use crate::medium::{Disk, Medium};
use crate::progress::Progress;
use crate::segment::{Figures, Segment};
use crate::writer::SEGMENT_SIZE_MIN;
use crate::{consumer, directory, request};

/// How much of a journal is kept. What passes any of these limits goes, whole segments, the oldest first; the segment that
/// is written and the one before it always stay.
///
/// Each open begins a segment, so that a program that starts again and again leaves segments without events. They count for no
/// `max_segments` and go along with the one before them. However many they are, the last segment that holds events stays, unless
/// it is too old.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Bytes of all segments: of those that have ended what is used of them, or of their compressed files; of the one that is
    /// written its whole file.
    /// Sidecars come on top.
    pub max_bytes: Option<u64>,
    /// How long ago a segment was ended.
    pub max_age: Option<Duration>,
    /// Segments that hold events, or held some before they were taken out, and the one that is written.
    pub max_segments: Option<u64>,
    /// Events from this id on stay, whatever the limits are: those that are not archived yet, say.
    pub keeps_from: Option<u64>,
    /// Whether segments go that a [`Consumer`](crate::Consumer) or somebody outside still needs, as
    /// [`Options::needs`](crate::Options::needs) has it.
    pub ignores_needs: bool,
}

impl Retention {
    /// Whether anything may ever go.
    pub const fn is_any(&self) -> bool {
        self.max_bytes.is_some() || self.max_age.is_some() || self.max_segments.is_some()
    }
}

/// Asks somebody outside of the journal from which event id on events are still needed; `None` if none are.
#[derive(Clone)]
pub struct Needs(Arc<dyn Fn() -> Result<Option<u64>, Error> + Send + Sync>);

impl Needs {
    /// By this function. It is called when a segment is full, on the thread that appends, and by whoever retires something, while
    /// nothing can be appended: it must not wait for long. After
    /// an error nothing is given up, and whoever asked for that gets it.
    pub fn new(lowest: impl Fn() -> Result<Option<u64>, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lowest))
    }

    pub(crate) fn lowest(&self) -> Result<Option<u64>, Error> {
        (self.0)()
    }
}

impl fmt::Debug for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needs")
    }
}

/// The lowest id that has to stay: what a consumer, or somebody outside, needs, where the retention heeds that, and what it
/// keeps itself.
pub(crate) fn lowest_needed(
    medium: &dyn Medium,
    dir: &Path,
    retention: &Retention,
    needs: Option<&Needs>,
) -> Result<Option<u64>, Error> {
    let lowest = if retention.ignores_needs { None } else { lowest_of_others(medium, dir, needs)? };
    Ok([lowest, retention.keeps_from].into_iter().flatten().min())
}

/// The lowest id that a consumer, or somebody outside, needs.
pub(crate) fn lowest_of_others(
    medium: &dyn Medium,
    dir: &Path,
    needs: Option<&Needs>,
) -> Result<Option<u64>, Error> {
    let outside = needs.map_or(Ok(None), Needs::lowest)?;
    let consumers = consumer::lowest_needed(medium, dir)?;
    Ok([outside, consumers].into_iter().flatten().min())
}

/// A segment that has reached its end.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) segment_number: u64,
    pub(crate) name: String,
    /// Of the records, up to its end.
    bytes: u64,
    /// Of the disk.
    stored_size: u64,
    records: u64,
    events: u64,
    first_event_id: u64,
    last_event_id: u64,
    end: u32,
    end_offset: u64,
    commit_sequence: u64,
    digest: Digest,
    /// When it was ended, or a little later. CLOCK_REALTIME.
    ended_ns: i64,
}

impl Ended {
    /// By what the segment behind it says. Where one between them is lost, it is that one's end, and what is said of it is
    /// said of both.
    fn new(name: String, bytes: u64, stored_size: u64, figures: Figures, next: &SegmentOpen) -> Self {
        let Figures { records, events, first_event_id, last_event_id } = figures;
        Self {
            segment_number: next.previous_segment,
            name,
            bytes,
            stored_size,
            records,
            events,
            first_event_id,
            last_event_id,
            end: next.previous_end,
            end_offset: next.previous_end_offset,
            commit_sequence: next.next_commit_sequence.wrapping_sub(1),
            digest: next.previous_digest,
            ended_ns: next.wall_clock_ns,
        }
    }

    /// The segments before the last one, of a list that a writer has. One of which something is not known ends the list.
    pub(crate) fn of_segments(segments: &[Arc<Segment>]) -> Vec<Self> {
        let pairs = segments.iter().zip(segments.iter().skip(1));
        pairs
            .map_while(|(segment, next)| {
                let name = segment.path().file_name()?.to_str()?.to_owned();
                let (bytes, stored_size) = (segment.end() as u64, segment.stored_size());
                Some(Self::new(name, bytes, stored_size, segment.figures()?, &next.opening))
            })
            .collect()
    }

    /// The segments before the last one of a journal that was found.
    pub(crate) fn of_reports(segments: &[SegmentReport]) -> Vec<Self> {
        let pairs = segments.iter().zip(segments.iter().skip(1));
        pairs
            .map_while(|(segment, next)| {
                let figures = Figures::of(segment);
                let (bytes, stored_size) = (segment.end as u64, segment.stored_size());
                Some(Self::new(segment.name.clone(), bytes, stored_size, figures, &next.opening?))
            })
            .collect()
    }
}

/// What stays in any case.
///
/// Who is asked to retire something looks twice: whether the limits are passed as the journal is, and what goes then so that
/// they are not when there is one segment more, which says so. That segment alone is no reason: each further call would
/// retire one for the sake of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    /// Those of them that [`Retention::max_segments`] counts.
    counted: u64,
    /// Whether one of them holds events, so that none of the others has to stay for that.
    has_events: bool,
}

impl Rest {
    /// The newest segment as it is, which is written.
    pub(crate) const fn written(bytes: u64, has_events: bool) -> Self {
        Self { bytes, segments: 1, counted: 1, has_events }
    }

    /// The newest segment as it is, which nobody writes.
    const fn ended(bytes: u64, has_events: bool) -> Self {
        Self { bytes, segments: 1, counted: has_events as u64, has_events }
    }

    /// The segment that has just ended, and the one behind it, which is written.
    pub(crate) const fn new(ended_bytes: u64, has_events: bool, next_bytes: u64) -> Self {
        let counted = 1 + has_events as u64;
        Self { bytes: ended_bytes + next_bytes, segments: 2, counted, has_events }
    }

    /// The newest segment that was found, and the one behind it.
    pub(crate) fn behind(newest: Option<&SegmentReport>, next_bytes: u64) -> Self {
        let (bytes, has_events) = newest.map_or((0, false), |newest| (newest.end as u64, has_events(newest)));
        Self::new(bytes, has_events, next_bytes)
    }
}

/// Whether there were ever events in it.
fn has_events(segment: &SegmentReport) -> bool {
    segment.totals.events > 0
}

/// How many of the first segments go, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) count: usize,
    /// As [`Compacted::reason`] has it.
    pub(crate) reason: u32,
    /// Segments that would go too if nobody needed them.
    pub(crate) held_back: usize,
}

impl Plan {
    /// What a retention lets go of these segments, oldest first.
    pub(crate) fn new(
        ended: &[Ended],
        rest: Rest,
        retention: &Retention,
        now_ns: i64,
        lowest_needed: Option<u64>,
    ) -> Self {
        let mut bytes = rest.bytes + ended.iter().map(|segment| segment.stored_size).sum::<u64>();
        let mut counted = rest.counted + ended.iter().filter(|segment| segment.events > 0).count() as u64;
        // What comes behind it is no reason to be left without any.
        let last_events = ended.iter().rposition(|segment| segment.events > 0).filter(|_| !rest.has_events);
        let mut plan = Self::default();
        for (place, segment) in ended.iter().enumerate() {
            let age = u64::try_from(now_ns.saturating_sub(segment.ended_ns)).map(Duration::from_nanos);
            let is_last = last_events == Some(place);
            let passed = [
                (Compacted::BYTES, !is_last && retention.max_bytes.is_some_and(|max| bytes > max)),
                (Compacted::AGE, retention.max_age.is_some_and(|max| age.is_ok_and(|age| age > max))),
                (Compacted::SEGMENTS, !is_last && retention.max_segments.is_some_and(|max| counted > max)),
            ];
            let reason = passed.iter().filter(|(_, is_passed)| *is_passed).fold(0, |all, (bit, _)| all | bit);
            // All before it go, or would.
            let goes_along = segment.events == 0 && place > 0;
            if reason == 0 && !goes_along {
                break;
            }
            let is_needed = lowest_needed.is_some_and(|lowest| lowest <= segment.last_event_id);
            if is_needed || plan.held_back > 0 {
                plan.held_back += 1;
            } else {
                plan.count += 1;
                plan.reason |= reason;
            }
            bytes -= segment.stored_size;
            counted -= u64::from(segment.events > 0);
        }
        plan
    }

    /// The one that takes more.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.count > self.count { other } else { self }
    }

    /// What the journal says when these segments have gone, behind what it said before.
    pub(crate) fn statement(
        &self,
        ended: &[Ended],
        before: Option<&Compacted>,
        now_ns: i64,
    ) -> Option<Compacted> {
        let gone = ended.get(..self.count)?;
        let last = gone.last()?;
        let sum = |of: fn(&Ended) -> u64, before: u64| gone.iter().map(of).fold(before, u64::saturating_add);
        let before = |of: fn(&Compacted) -> u64| before.map_or(0, of);
        let first_ids = gone.iter().map(|segment| segment.first_event_id);
        let first_event_id = [before(|b| b.first_event_id)].into_iter().chain(first_ids).find(|id| *id != 0);
        let last_ids = gone.iter().map(|segment| segment.last_event_id);
        Some(Compacted {
            kind: CompactedKind::Retired.code(),
            reason: self.reason,
            segment_number: last.segment_number,
            end_offset: last.end_offset,
            commit_sequence: last.commit_sequence,
            segment_count: before(|b| b.segment_count).saturating_add(gone.len() as u64),
            event_count: sum(|segment| segment.events, before(|b| b.event_count)),
            record_count: sum(|segment| segment.records, before(|b| b.record_count)),
            byte_count: sum(|segment| segment.bytes, before(|b| b.byte_count)),
            first_event_id: first_event_id.unwrap_or(0),
            last_event_id: last_ids.fold(before(|b| b.last_event_id), u64::max),
            end: last.end,
            type_count: 0,
            wall_clock_ns: now_ns,
            digest: last.digest,
        })
    }
}

/// The record that says it, for a segment's first group.
pub(crate) fn note(retired: &Compacted) -> (EventType, Vec<u8>) {
    (Compacted::EVENT_TYPE, retired.encode().to_vec())
}

/// Removes the files of retired segments, oldest first, with their sidecars. What can't be removed stays until the next
/// open: the journal does not begin with it any more. A sync that fails is a failure, as everywhere.
pub(crate) fn remove_files<'a>(
    medium: &dyn Medium,
    dir: &Path,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<(), Error> {
    let mut removed = 0u32;
    let remove = |path: &Path| match medium.remove(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "the file of a retired segment was not removed");
            false
        }
        _ => true,
    };
    for name in names {
        let path = dir.join(name);
        removed += u32::from(remove(&path));
        remove(&directory::sidecar(&path));
    }
    if removed > 0 {
        medium.sync_dir(dir).map_err(Error::io("sync", dir))?;
        tracing::info!(segments = removed, "retired segments removed");
    }
    Ok(())
}

/// Whether a journal's newest segment says that the one of this number was retired. What can't be read says nothing, and in a copy
/// that has what was retired too no such record counts.
pub(crate) fn is_retired(medium: &dyn Medium, dir: &Path, segment_number: u64) -> bool {
    let upto = || {
        let names = medium.list(dir).ok()?;
        if names.iter().any(|name| name == directory::UNRETIRED) {
            return None;
        }
        let names = directory::segments(names);
        let (newest, name) = names.last().filter(|(newest, _)| *newest > segment_number)?;
        let map =
            compressed::unpacking(medium.open(&dir.join(name), false).and_then(|file| file.map()).ok()?);
        let said = retired_before(Scanner::without_header(map.bytes(0..map.size()), 0).ok()?)?;
        said.iter().map(|retired| retired.segment_number).filter(|upto| upto < newest).max()
    };
    upto().is_some_and(|upto| upto >= segment_number)
}

/// A segment, as a retention sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetiringSegment {
    /// The file's name.
    pub name: String,
    /// The segment's number.
    pub segment_number: u64,
    /// Bytes that it takes of the disk, up to its end.
    pub bytes: u64,
    /// Events in it.
    pub events: u64,
    /// The lowest id among them, 0 where there are none.
    pub first_event_id: u64,
    /// The highest id.
    pub last_event_id: u64,
    /// When the one behind it was begun, nanoseconds since 1970.
    pub ended_ns: i64,
}

impl RetiringSegment {
    fn new(ended: &Ended) -> Self {
        Self {
            name: ended.name.clone(),
            segment_number: ended.segment_number,
            bytes: ended.stored_size,
            events: ended.events,
            first_event_id: ended.first_event_id,
            last_event_id: ended.last_event_id,
            ended_ns: ended.ended_ns,
        }
    }
}

/// What a retention would take of a journal: nothing, where it is within the limits as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetentionPlan {
    /// Segments that would go, oldest first.
    pub retiring: Vec<RetiringSegment>,
    /// Segments that would go too if nobody needed what is in them.
    pub held_back: Vec<RetiringSegment>,
    /// Segments behind them that have ended, and pass no limit.
    pub staying: Vec<RetiringSegment>,
    /// Segments that there would be then; the one that says what was retired is among them, where something was.
    pub kept_segments: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// What was retired before.
    pub retired: Option<Compacted>,
}

impl RetentionPlan {
    /// Proves every byte of what would go, in the journal in `dir` that the plan was made of. A retention itself looks at none
    /// of it.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]; the journal can't be read.
    pub fn prove(&self, dir: impl AsRef<Path>) -> Result<(), Error> {
        self.prove_watched(dir, &Progress::default())
    }

    /// [`RetentionPlan::prove`], and how far it has come.
    ///
    /// # Errors
    ///
    /// As [`RetentionPlan::prove`].
    pub fn prove_watched(&self, dir: impl AsRef<Path>, progress: &Progress) -> Result<(), Error> {
        let Some(last) = self.retiring.last() else { return Ok(()) };
        let (medium, dir) = (&Disk, dir.as_ref());
        let effort = Effort { proof: Proof::Through(last.segment_number), threads: medium.threads() };
        examine::examine_dir_watched(medium, dir, OpenMode::Strict, effort, progress)?.accepted(dir).map(drop)
    }

    /// The limits that the plan was made by, so that no event goes but those of the plan. Who carries it out makes a plan of its
    /// own, later: more may pass the limits by then, which was not looked at and not proven. What may go besides is what has
    /// ended since and holds no events, behind the last one of the plan.
    #[must_use]
    pub fn bounded(&self, retention: &Retention) -> Retention {
        // Of segments without events this is 0, and all events stay.
        let last = self.retiring.iter().map(|segment| segment.last_event_id).max().unwrap_or(0);
        let bounds = [retention.keeps_from, last.checked_add(1)];
        Retention { keeps_from: bounds.into_iter().flatten().min(), ..retention.clone() }
    }
}

/// What a retention would take of the journal in a directory, in use or not. Changes nothing.
///
/// # Errors
///
/// No journal there, damage, an I/O error; an error that `needs` gives.
pub fn plan_retention(
    dir: impl AsRef<Path>,
    retention: &Retention,
    needs: Option<&Needs>,
) -> Result<RetentionPlan, Error> {
    plan_retention_on(&Disk, dir.as_ref(), retention, needs)
}

/// [`plan_retention`] on another medium.
///
/// # Errors
///
/// As [`plan_retention`].
pub fn plan_retention_on(
    medium: &dyn Medium,
    dir: &Path,
    retention: &Retention,
    needs: Option<&Needs>,
) -> Result<RetentionPlan, Error> {
    let effort = Effort { proof: Proof::Newest, threads: medium.threads() };
    let found = examine::examine_dir(medium, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    let report = &found.report;
    let segments = report.kept_segments();
    let ended = Ended::of_reports(segments);
    let lowest = lowest_needed(medium, dir, retention, needs)?;
    let now_ns = medium.clock_anchor().wall_clock_ns;
    let newest = segments.last();
    let newest_end = newest.map_or(0, |newest| newest.end as u64);
    // One that is written has its room; any other is closed by who opens the journal.
    let is_written = !report.is_closed() && request::has_writer(medium, dir);
    let written = newest.filter(|_| is_written).map(|newest| newest.file_size as u64);
    let mut rest = match written {
        Some(size) => Rest::written(size, newest.is_some_and(has_events)),
        None => Rest::ended(newest_end, newest.is_some_and(has_events)),
    };
    let mut plan = Plan::new(&ended, rest, retention, now_ns, lowest);
    if plan.count > 0 {
        // What is retired is said in a new segment, behind the newest one. It is as large as the one that is written, or is
        // closed at once.
        rest = Rest::behind(newest, written.unwrap_or(SEGMENT_SIZE_MIN));
        plan = Plan::new(&ended, rest, retention, now_ns, lowest);
    }
    let (retiring, kept) = ended.split_at(plan.count);
    let of = |segments: &[Ended]| segments.iter().map(RetiringSegment::new).collect();
    let (held_back, staying) = kept.split_at(plan.held_back);
    Ok(RetentionPlan {
        retiring: of(retiring),
        held_back: of(held_back),
        staying: of(staying),
        kept_segments: rest.segments + kept.len() as u64,
        kept_bytes: rest.bytes + kept.iter().map(|segment| segment.stored_size).sum::<u64>(),
        retired: report.retired,
    })
}

#[cfg(test)]
mod tests {
    use semj_format::control::PreviousEnd;

    use super::*;

    /// Segments of 100 bytes and 10 events, ended at 10, 20, … seconds.
    fn segments(count: u64) -> Vec<Ended> {
        let ended = |i: u64| Ended {
            segment_number: i,
            name: directory::segment_name(i, i * 10 - 9),
            bytes: 100,
            stored_size: 100,
            records: 12,
            events: 10,
            first_event_id: i * 10 - 9,
            last_event_id: i * 10,
            end: PreviousEnd::Sealed.code(),
            end_offset: 100,
            commit_sequence: i * 2,
            digest: Digest([i as u8; 32]),
            ended_ns: i as i64 * 10_000_000_000,
        };
        (1..=count).map(ended).collect()
    }

    fn plan(count: u64, retention: &Retention, lowest_needed: Option<u64>) -> (usize, u32, usize) {
        let rest = Rest::new(50, true, 100);
        let plan = Plan::new(&segments(count), rest, retention, 60_000_000_000, lowest_needed);
        (plan.count, plan.reason, plan.held_back)
    }

    #[test]
    fn what_passes_a_limit_goes_and_no_more() {
        let limits = Retention::default();
        assert_eq!(plan(5, &limits, None), (0, 0, 0));
        let bytes = |max| Retention { max_bytes: Some(max), ..Retention::default() };
        assert_eq!(plan(5, &bytes(650), None), (0, 0, 0));
        assert_eq!(plan(5, &bytes(649), None), (1, Compacted::BYTES, 0));
        assert_eq!(plan(5, &bytes(450), None), (2, Compacted::BYTES, 0));
        assert_eq!(plan(5, &bytes(0), None), (5, Compacted::BYTES, 0));
        let count = |max| Retention { max_segments: Some(max), ..Retention::default() };
        assert_eq!(plan(5, &count(7), None), (0, 0, 0));
        assert_eq!(plan(5, &count(3), None), (4, Compacted::SEGMENTS, 0));
        let age = |seconds| Retention { max_age: Some(Duration::from_secs(seconds)), ..Retention::default() };
        assert_eq!(plan(5, &age(50), None), (0, 0, 0));
        assert_eq!(plan(5, &age(49), None), (1, Compacted::AGE, 0));
        assert_eq!(plan(9, &age(0), None), (5, Compacted::AGE, 0), "what ended in the future is not old");
        let both = Retention { max_bytes: Some(649), ..count(4) };
        assert_eq!(plan(5, &both, None), (3, Compacted::BYTES | Compacted::SEGMENTS, 0));
    }

    /// Segments of which those with these numbers hold no events.
    fn segments_but(count: u64, empty: &[u64]) -> Vec<Ended> {
        let mut segments = segments(count);
        for segment in segments.iter_mut().filter(|segment| empty.contains(&segment.segment_number)) {
            (segment.events, segment.first_event_id, segment.last_event_id) = (0, 0, 0);
        }
        segments
    }

    #[test]
    fn segments_without_events_do_not_count_and_go_along_with_those_before_them() {
        let plan = |empty: &[u64], has_events, retention: &Retention, lowest_needed| {
            let (segments, rest) = (segments_but(6, empty), Rest::new(50, has_events, 100));
            let plan = Plan::new(&segments, rest, retention, 70_000_000_000, lowest_needed);
            (plan.count, plan.held_back)
        };
        let count = |max| Retention { max_segments: Some(max), ..Retention::default() };
        // Four with events, and the one that is written.
        assert_eq!(plan(&[2, 3], false, &count(5), None), (0, 0));
        assert_eq!(plan(&[2, 3], true, &count(6), None), (0, 0));
        assert_eq!(plan(&[2, 3], false, &count(4), None), (3, 0));
        assert_eq!(plan(&[2, 3], false, &count(3), None), (4, 0));
        assert_eq!(plan(&[2, 3], false, &count(4), Some(1)), (0, 3));
        assert_eq!(plan(&[1, 2], false, &count(5), None), (0, 0), "nothing before them goes");
        assert_eq!(plan(&[1, 2], false, &count(4), None), (3, 0));
        // However many come behind the last one.
        for none in [count(0), Retention { max_bytes: Some(0), ..Retention::default() }] {
            assert_eq!(plan(&[3, 4, 5, 6], false, &none, None), (1, 0));
            assert_eq!(plan(&[3, 4, 5, 6], true, &none, None), (6, 0));
            assert_eq!(plan(&[1, 2, 3, 4, 5, 6], false, &none, None), (6, 0), "there is none to stay");
        }
        let age = Retention { max_age: Some(Duration::from_secs(49)), ..Retention::default() };
        assert_eq!(plan(&[3, 4, 5, 6], false, &age, None), (6, 0), "what is too old does not stay");
    }

    #[test]
    fn what_somebody_needs_stays_and_all_behind_it() {
        let limit = Retention { max_segments: Some(3), ..Retention::default() };
        assert_eq!(plan(5, &limit, Some(1)), (0, 0, 4));
        assert_eq!(plan(5, &limit, Some(20)), (1, Compacted::SEGMENTS, 3));
        assert_eq!(plan(5, &limit, Some(21)), (2, Compacted::SEGMENTS, 2));
        assert_eq!(plan(5, &limit, Some(41)), (4, Compacted::SEGMENTS, 0));
    }

    #[test]
    fn no_event_behind_those_of_a_plan_goes_by_its_bounded_limits() {
        let ended = segments_but(7, &[1, 4]);
        let limits = |keeps_from| Retention { max_segments: Some(1), keeps_from, ..Retention::default() };
        let goes = |count: usize, keeps_from| {
            let plan = RetentionPlan {
                retiring: ended.iter().take(count).map(RetiringSegment::new).collect(),
                held_back: Vec::new(),
                staying: Vec::new(),
                kept_segments: 0,
                kept_bytes: 0,
                retired: None,
            };
            let bounded = plan.bounded(&limits(keeps_from));
            assert_eq!(bounded.max_segments, Some(1));
            let rest = Rest::new(50, true, 100);
            Plan::new(&ended, rest, &bounded, 0, bounded.keeps_from).count
        };
        assert_eq!(goes(2, None), 2);
        // One without events goes along.
        assert_eq!((goes(3, None), goes(4, None)), (4, 4));
        assert_eq!(goes(1, None), 1, "none that holds events");
        assert_eq!(goes(6, Some(u64::MAX)), 6);
        assert_eq!(goes(6, Some(21)), 2, "what was to stay stays");
    }

    #[test]
    fn a_statement_sums_up_all_that_was_ever_retired() {
        let ended = segments(5);
        let plan = Plan { count: 2, reason: Compacted::AGE, held_back: 0 };
        let first = plan.statement(&ended, None, 7).unwrap();
        assert_eq!((first.segment_number, first.segment_count, first.event_count), (2, 2, 20));
        assert_eq!((first.first_event_id, first.last_event_id, first.byte_count), (1, 20, 200));
        assert_eq!((first.commit_sequence, first.digest, first.end), (4, Digest([2; 32]), 1));
        let second = plan.statement(&ended[2..], Some(&first), 8).unwrap();
        assert_eq!((second.segment_number, second.segment_count, second.event_count), (4, 4, 40));
        assert_eq!((second.first_event_id, second.last_event_id, second.record_count), (1, 40, 48));
        assert_eq!(Plan::default().statement(&ended, Some(&first), 9), None);
    }
}
