//! Compaction by rule: events are taken out of segments that have ended, and the chain proves what is left.
//!
//! In the place of a run of events stands one record with the roots of the subtrees that their leaves made up, so that the
//! root of their commit comes out as it was. A Compacted record in the first group of a new segment says first of which
//! segment how many events go, of which types. When that is durable the segment's file is replaced: the new one is made
//! under another name, held against the old one's digests as a whole, synced, and renamed. After a crash in between either
//! the old content is there or the new one, and the record says what may be gone. Where the old one was compressed the new one
//! is too.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use semj_format::control::{
    Body as _, Compacted, CompactedKind, GapType, PreviousEnd, Thinned, missing_upto,
};
use semj_format::digest::MerkleTree;
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Digest, EventType, JournalHeader, Priority, Record, SegmentOpen};
use semj_recovery::{Extent, ScanEnd, Scanner};

use crate::committer::Committer;
use crate::compaction;
use crate::compressed;
use crate::directory;
use crate::error::Error;
use crate::medium::{Disk, Medium};
use crate::progress::Progress;
use crate::reader::Reader;
use crate::replace;
use crate::request;
use crate::retention::{self, Needs};
use crate::segment::{Figures, Segment};

/// Statements that one new segment makes at most: they stand in its first group.
const STATEMENTS_MAX: usize = 32;

/// Which events are taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThinRule {
    /// Events of these types; of all if it is empty.
    pub types: Vec<EventType>,
    /// Events of this priority and of less urgent ones. Those that were imported can have any number: 0 takes all.
    pub priority: Priority,
    /// Events that happened longer ago, by the clocks that each segment has noted.
    pub older_than: Duration,
    /// Keep those of them whose id is a multiple of this, and drop the others; `None` drops all.
    pub keep_one_in: Option<u64>,
}

impl Default for ThinRule {
    /// All events, however old they are.
    fn default() -> Self {
        Self { types: Vec::new(), priority: Priority(0), older_than: Duration::ZERO, keep_one_in: None }
    }
}

impl ThinRule {
    fn takes(&self, record: &Record<'_>, age_ns: i64) -> bool {
        (self.types.is_empty() || self.types.contains(&record.event_type()))
            && Priority(record.event_priority()) >= self.priority
            && u64::try_from(age_ns).is_ok_and(|age| u128::from(age) >= self.older_than.as_nanos())
            && self.keep_one_in.is_none_or(|n| n == 0 || !record.event_id().is_multiple_of(n))
    }
}

/// What was, or would be, taken out of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThinReport {
    /// Segments of which something goes.
    pub segments: u64,
    /// Events that go.
    pub events: u64,
    /// Bytes of the disk by which the segments get shorter, compressed ones by what they are compressed to.
    pub bytes: u64,
    /// How many of which types.
    pub types: BTreeMap<EventType, u64>,
    /// Segments that hold events which would go, and stay as they are.
    pub skipped: Vec<ThinSkipped>,
}

/// A segment of which nothing can be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThinSkipped {
    /// The name of its file.
    pub name: String,
    /// Why it stays as it is.
    pub reason: &'static str,
    /// How many of its events would go.
    pub events: u64,
}

/// The rules, and what they are held against.
#[derive(Clone, Copy)]
struct Thinner<'a> {
    rules: &'a [ThinRule],
    now_ns: i64,
    /// Events from this id on stay.
    lowest_needed: Option<u64>,
}

impl Thinner<'_> {
    fn takes(&self, opening: &SegmentOpen, record: &Record<'_>) -> bool {
        let age_ns = self.now_ns.saturating_sub(opening.wall_clock_of(record.ktime_ns()));
        !record.is_control()
            && self.lowest_needed.is_none_or(|lowest| record.event_id() < lowest)
            && self.rules.iter().any(|rule| rule.takes(record, age_ns))
    }
}

/// What is counted of one segment.
#[derive(Default)]
struct Count {
    /// Events that were taken out, now and before.
    events: u64,
    /// Of them, those that go now.
    now: u64,
    bytes_now: u64,
    records: u64,
    first_event_id: u64,
    last_event_id: u64,
    types: BTreeMap<u32, u64>,
}

impl Count {
    fn see(&mut self, first: u64, last: u64) {
        self.first_event_id = if self.first_event_id == 0 { first } else { self.first_event_id.min(first) };
        self.last_event_id = self.last_event_id.max(last);
    }

    fn of(segment: &Segment, thinner: Thinner<'_>) -> Result<Self, Error> {
        let mut count = Self::default();
        segment.read_all(|_, record| {
            if let Some(gone) = Thinned::parse(record) {
                count.events += u64::from(gone.event_count);
                count.see(gone.first_event_id, gone.last_event_id);
            } else if thinner.takes(&segment.opening, record) {
                count.events += 1;
                count.now += 1;
                count.bytes_now += record.len() as u64;
                count.see(record.event_id(), record.event_id());
                *count.types.entry(record.event_type().0).or_default() += 1;
            }
            count.records += 1;
        })?;
        Ok(count)
    }

    /// The body of the record that says it, with the types that go now.
    fn statement(&self, next: &SegmentOpen, now_ns: i64) -> Vec<u8> {
        let compacted = Compacted {
            kind: CompactedKind::Thinned.code(),
            reason: 0,
            segment_number: next.previous_segment,
            end_offset: next.previous_end_offset,
            commit_sequence: next.next_commit_sequence.wrapping_sub(1),
            segment_count: 1,
            event_count: self.events,
            record_count: self.now,
            byte_count: self.bytes_now,
            first_event_id: self.first_event_id,
            last_event_id: self.last_event_id,
            end: next.previous_end,
            // There are no more than the 72 that have names, and others by their numbers: a segment of 64 MiB has as many
            // as it has. What is not listed is in the sum.
            type_count: self.types.len().min(TYPES_MAX) as u32,
            wall_clock_ns: now_ns,
            digest: next.previous_digest,
        };
        let mut body = compacted.encode().to_vec();
        for (event_type, event_count) in self.types.iter().take(TYPES_MAX) {
            let gone = GapType { event_type: *event_type, reserved: 0, event_count: *event_count };
            body.extend_from_slice(&gone.encode());
        }
        body
    }
}

/// Types that one statement lists at most.
const TYPES_MAX: usize = 80;

/// Segments of which something may go: whole, and with one behind them that says where they end, and as it says.
fn candidates(segments: &[Arc<Segment>]) -> impl Iterator<Item = (&Arc<Segment>, &SegmentOpen)> {
    with_next(segments).filter(|(segment, next)| obstacle(segment, next).is_none())
}

/// The segments that have ended, and what the next ones say.
fn with_next(segments: &[Arc<Segment>]) -> impl Iterator<Item = (&Arc<Segment>, &SegmentOpen)> {
    segments.iter().zip(segments.iter().skip(1)).map(|(segment, next)| (segment, &next.opening))
}

/// Why nothing can be taken out of a segment, so that what is left could be proven.
fn obstacle(segment: &Segment, next: &SegmentOpen) -> Option<&'static str> {
    let is_named = next.previous_segment == segment.number() && segment.ends_with(&next.previous_digest);
    match (segment.is_whole(), is_named) {
        (false, _) => Some(DAMAGED),
        (true, false) => Some("the segment behind it does not say where it ends"),
        (true, true) => None,
    }
}

/// The segments that stay as they are, if they hold events that would go.
fn skipped(segments: &[Arc<Segment>], thinner: Thinner<'_>) -> Vec<ThinSkipped> {
    let obstacles =
        with_next(segments).filter_map(|(segment, next)| Some((segment, obstacle(segment, next)?)));
    obstacles.filter_map(|(segment, reason)| ThinSkipped::of(segment, reason, thinner)).collect()
}

/// Why nothing goes of a segment with damage.
const DAMAGED: &str = "a part of it is damaged";

impl ThinSkipped {
    /// If the segment holds events that would go.
    fn of(segment: &Segment, reason: &'static str, thinner: Thinner<'_>) -> Option<Self> {
        // More damage, that nobody has recorded, is what its readers are told of.
        let events = Count::of(segment, thinner).map_or(0, |count| count.now);
        let name = segment.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        (events > 0).then_some(Self { name, reason, events })
    }
}

/// Takes events out of the segments of a journal that is open for writing.
pub(crate) fn thin(
    committer: &Committer,
    segments: &[Arc<Segment>],
    rules: &[ThinRule],
    lowest_needed: Option<u64>,
    progress: &Progress,
) -> Result<ThinReport, Error> {
    let now_ns = committer.medium.clock_anchor().wall_clock_ns;
    let thinner = Thinner { rules, now_ns, lowest_needed };
    let mut report = ThinReport { skipped: skipped(segments, thinner), ..ThinReport::default() };
    let mut due = Vec::new();
    progress.begin(candidates(segments).map(|(segment, _)| segment.end() as u64).sum());
    for (segment, next) in candidates(segments) {
        let count = Count::of(segment, thinner)?;
        progress.advance(segment.end() as u64);
        if count.now > 0 {
            progress.grow(segment.end() as u64);
            due.push((segment, next, count.statement(next, now_ns), count));
        }
    }
    let mut sizes = Sizes::default();
    for batch in due.chunks(STATEMENTS_MAX) {
        let notes: Vec<_> = batch.iter().map(|(.., body, _)| (Compacted::EVENT_TYPE, body.clone())).collect();
        committer.rotate(None, &notes)?;
        for (segment, next, _, count) in batch {
            let replaced = replace(committer, segment, next, thinner)?;
            progress.advance(segment.end() as u64);
            let Some(size) = replaced else { continue };
            report.segments += 1;
            report.events += count.now;
            sizes.add(segment, size);
            for (event_type, events) in &count.types {
                *report.types.entry(EventType(*event_type)).or_default() += events;
            }
        }
    }
    Ok(ThinReport { bytes: sizes.shorter(), ..report })
}

/// What segments take of the disk.
#[derive(Default)]
struct Sizes {
    before: u64,
    after: u64,
}

impl Sizes {
    fn add(&mut self, segment: &Segment, after: usize) {
        self.before += segment.stored_size();
        self.after += after as u64;
    }

    /// One can get longer: it counts against the others.
    fn shorter(&self) -> u64 {
        self.before.saturating_sub(self.after)
    }
}

/// Replaces the file of a segment by one without the events. Gives how many bytes that one has; `None` if the segment was retired
/// meanwhile.
fn replace(
    committer: &Committer,
    segment: &Arc<Segment>,
    next: &SegmentOpen,
    thinner: Thinner<'_>,
) -> Result<Option<usize>, Error> {
    let medium = &*committer.medium;
    let Made { native, packed } = Made::of(medium, segment, is_sealed(next), thinner)?;
    let bytes = packed.as_ref().unwrap_or(&native).as_slice();
    let name = segment.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let unfinished = committer.dir().join(directory::copying(name));
    let file = replace::write_like(medium, &unfinished, segment.path(), bytes)?;
    let map = file.map().map_err(Error::io("map", &unfinished))?;
    let is_read_back = map.bytes(0..map.size()) == bytes && map.is_intact();
    let map = compressed::unpacking(map);
    let is_right = is_read_back && map.packed_size().is_some() == packed.is_some();
    if !is_right || !is_the_same(&native, next) {
        drop(medium.remove(&unfinished));
        return Err(segment.changed());
    }
    let is_kept = || committer.segments().snapshot().iter().any(|kept| kept.number() == segment.number());
    if !is_kept() {
        drop(medium.remove(&unfinished));
        return Ok(None);
    }
    // Of what was before.
    drop(medium.remove(&directory::sidecar(segment.path())));
    // What fails up to here leaves the journal as it is. From here on nothing is known of its files.
    let renamed = medium.rename(&unfinished, segment.path()).map_err(Error::io("rename", &unfinished));
    let named =
        renamed.and_then(|()| medium.sync_dir(committer.dir()).map_err(Error::io("sync", committer.dir())));
    committer.or_fail(named)?;
    if !is_kept() {
        // It was retired, and its file may have been removed before this one got the name.
        drop(medium.remove(segment.path()));
        return Ok(None);
    }
    let extents = vec![Extent { start: JournalHeader::SIZE, end: native.len() }];
    let figures =
        segment.figures().unwrap_or(Figures { records: 0, events: 0, first_event_id: 0, last_event_id: 0 });
    let path = segment.path().to_owned();
    let made = Arc::new(Segment::found(segment.opening, path, map, extents, figures, true, None)?);
    // Without what was decoded to make its index.
    committer.segments().replace(made.anew());
    tracing::info!(segment = name, from = segment.stored_size(), to = bytes.len(), "events taken out");
    Ok(Some(bytes.len()))
}

/// What takes the place of a segment's file.
struct Made {
    native: Vec<u8>,
    /// The compressed form, where the segment has one and it is the shorter one.
    packed: Option<Vec<u8>>,
}

impl Made {
    fn of(
        medium: &dyn Medium,
        segment: &Segment,
        is_sealed: bool,
        thinner: Thinner<'_>,
    ) -> Result<Self, Error> {
        let native = thinned(segment, is_sealed, thinner)?;
        let packed = segment.is_compressed().then(|| {
            let codec = compaction::codec_of(medium, segment.path()).unwrap_or_default();
            compaction::pack_at_once(&native, codec)
        });
        let packed = match packed.transpose() {
            Ok(packed) => packed.filter(|packed| packed.len() < native.len()),
            Err(error) => {
                // The native form says the same.
                tracing::warn!(segment = segment.number(), %error, "a segment is not compressed any more");
                None
            }
        };
        Ok(Self { native, packed })
    }

    fn size(&self) -> usize {
        self.packed.as_ref().unwrap_or(&self.native).len()
    }
}

/// The file of a segment without the events.
fn thinned(segment: &Segment, is_sealed: bool, thinner: Thinner<'_>) -> Result<Vec<u8>, Error> {
    let mut out = vec![0; JournalHeader::SIZE];
    let mut run = Run::default();
    let mut records = 0u64;
    // Leaves of the group so far.
    let mut place = 0u64;
    let mut next_event_id = segment.opening.next_event_id;
    segment.read_all(|_, record| {
        if thinner.takes(&segment.opening, record) {
            run.push(record, place);
            place += 1;
            return;
        }
        if record.is_control() && record.event_type() == EventType::JOURNAL_GAP {
            next_event_id = next_event_id.max(missing_upto(record).saturating_add(1));
        }
        records += run.end(&mut out) + 1;
        out.extend_from_slice(record.bytes());
        place = match Thinned::parse(record) {
            Some(gone) => place + u64::from(gone.event_count),
            None if record.is_control() && record.event_type() == EventType::JOURNAL_COMMIT => 0,
            None => place + 1,
        };
    })?;
    if let Some(figures) = segment.figures() {
        next_event_id = next_event_id.max(figures.last_event_id + 1);
    }
    let end_flag = if is_sealed { FLAG_SEALED } else { FLAG_CUT };
    let header = JournalHeader::new(records, next_event_id, out.len() as u64, end_flag | FLAG_THINNED);
    if let Some(place) = out.first_chunk_mut() {
        *place = header.encode();
    }
    Ok(out)
}

/// Events that stand back to back and go.
#[derive(Default)]
struct Run {
    place: u64,
    leaves: Vec<Digest>,
    bytes: u64,
    first_event_id: u64,
    last_event_id: u64,
    ktime_ns: i64,
}

impl Run {
    fn push(&mut self, record: &Record<'_>, place: u64) {
        let id = record.event_id();
        if self.leaves.is_empty() {
            *self = Self {
                place,
                first_event_id: id,
                last_event_id: id,
                ktime_ns: record.ktime_ns(),
                ..Self::default()
            };
        }
        self.leaves.push(record.leaf());
        self.bytes += record.len() as u64;
        self.first_event_id = self.first_event_id.min(id);
        self.last_event_id = self.last_event_id.max(id);
    }

    /// Writes the record in their place. Gives how many records that are: 1, or 0 for a run of none.
    fn end(&mut self, out: &mut Vec<u8>) -> u64 {
        let Self { place, leaves, bytes, first_event_id, last_event_id, ktime_ns } = std::mem::take(self);
        if leaves.is_empty() {
            return 0;
        }
        let mut rest = leaves.as_slice();
        let roots: Vec<_> = Thinned::levels(place, leaves.len() as u64)
            .map(|level| {
                let (subtree, behind) = rest.split_at(rest.len().min(1 << level));
                rest = behind;
                let mut tree = MerkleTree::new();
                subtree.iter().for_each(|leaf| tree.push(*leaf));
                tree.root()
            })
            .collect();
        let body = Thinned {
            first_event_id,
            last_event_id,
            byte_count: bytes,
            event_count: leaves.len() as u32,
            subtree_count: roots.len() as u32,
        };
        let mut payload = body.encode().to_vec();
        roots.iter().for_each(|root| payload.extend_from_slice(&root.0));
        // Some dozen digests are well below every limit.
        out.extend_from_slice(&Thinned::draft(&payload, ktime_ns).to_vec().unwrap_or_default());
        1
    }
}

/// Whether a file proves itself, and ends as the segment did that the next one goes on from.
fn is_the_same(bytes: &[u8], next: &SegmentOpen) -> bool {
    let Ok(mut scanner) = Scanner::new(bytes, 0) else { return false };
    while scanner.next_group().is_some() {}
    matches!(scanner.end(), Some(ScanEnd::Sealed(_))) == is_sealed(next)
        && scanner.offset() == bytes.len()
        && scanner.original_offset() == next.previous_end_offset
        && scanner.totals().digest == next.previous_digest
}

/// What rules would take out of the journal in a directory, in use or not. Changes nothing.
///
/// # Errors
///
/// No journal there, damage, an I/O error; an error that `needs` gives.
pub fn plan_thinning(
    dir: impl AsRef<Path>,
    rules: &[ThinRule],
    needs: Option<&Needs>,
) -> Result<ThinReport, Error> {
    plan_thinning_watched(dir, rules, needs, &Progress::default())
}

/// [`plan_thinning`], and how far it has come.
///
/// # Errors
///
/// As [`plan_thinning`].
pub fn plan_thinning_watched(
    dir: impl AsRef<Path>,
    rules: &[ThinRule],
    needs: Option<&Needs>,
    progress: &Progress,
) -> Result<ThinReport, Error> {
    let looked_at = LookedAt::open(dir.as_ref(), rules, needs)?;
    let mut report = ThinReport { skipped: looked_at.skipped(), ..ThinReport::default() };
    let mut sizes = Sizes::default();
    looked_at.each_candidate(progress, |segment, is_sealed| {
        let count = Count::of(segment, looked_at.thinner)?;
        report.segments += u64::from(count.now > 0);
        report.events += count.now;
        if count.now > 0 {
            sizes.add(segment, Made::of(&Disk, segment, is_sealed, looked_at.thinner)?.size());
        }
        for (event_type, events) in count.types {
            *report.types.entry(EventType(event_type)).or_default() += events;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ThinReport { bytes: sizes.shorter(), ..report })
}

/// What a thinning would report that takes nothing out of the journal in a directory, in use or not; `None` if it would take
/// something, which is known with the first segment of which something would go. Changes nothing.
///
/// # Errors
///
/// As [`plan_thinning`].
pub fn nothing_to_thin(
    dir: impl AsRef<Path>,
    rules: &[ThinRule],
    needs: Option<&Needs>,
    progress: &Progress,
) -> Result<Option<ThinReport>, Error> {
    let looked_at = LookedAt::open(dir.as_ref(), rules, needs)?;
    let mut is_any = false;
    looked_at.each_candidate(progress, |segment, _| {
        is_any = Count::of(segment, looked_at.thinner)?.now > 0;
        Ok(if is_any { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok((!is_any).then(|| ThinReport { skipped: looked_at.skipped(), ..ThinReport::default() }))
}

/// A journal that is looked at, and what is looked for.
struct LookedAt<'a> {
    reader: Reader,
    thinner: Thinner<'a>,
    /// Whether somebody writes to it, so that the newest segment goes on.
    has_writer: bool,
}

impl<'a> LookedAt<'a> {
    fn open(dir: &Path, rules: &'a [ThinRule], needs: Option<&Needs>) -> Result<Self, Error> {
        let reader = Reader::open_newest(dir, semj_recovery::OpenMode::Strict)?;
        let now_ns = Disk.clock_anchor().wall_clock_ns;
        let lowest_needed = retention::lowest_of_others(&Disk, dir, needs)?;
        let has_writer = request::has_writer(&Disk, dir);
        Ok(Self { reader, thinner: Thinner { rules, now_ns, lowest_needed }, has_writer })
    }

    /// The newest segment of a journal that nobody writes to: it has ended, and has one behind it as soon as the journal is opened.
    fn newest(&self) -> Option<&Arc<Segment>> {
        self.reader.segments().last().filter(|_| !self.has_writer)
    }

    fn skipped(&self) -> Vec<ThinSkipped> {
        let mut skipped = skipped(self.reader.segments(), self.thinner);
        let damaged = self.newest().filter(|newest| !newest.is_whole());
        skipped.extend(damaged.and_then(|newest| ThinSkipped::of(newest, DAMAGED, self.thinner)));
        skipped
    }

    /// Looks at the segments of which something may go; with whether they are sealed.
    fn each_candidate(
        &self,
        progress: &Progress,
        mut look: impl FnMut(&Segment, bool) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let all = self.reader.segments();
        let newest = self.newest().filter(|newest| newest.is_whole());
        let is_closed = self.reader.report().is_closed();
        let ended = candidates(all).map(|(segment, next)| (segment, is_sealed(next)));
        let segments: Vec<_> = ended.chain(newest.map(|newest| (newest, is_closed))).collect();
        progress.begin(segments.iter().map(|(segment, _)| segment.end() as u64).sum());
        for (segment, is_sealed) in segments {
            if look(segment, is_sealed)?.is_break() {
                break;
            }
            progress.advance(segment.end() as u64);
        }
        Ok(())
    }
}

/// Whether a segment has a seal, as the next one says.
fn is_sealed(next: &SegmentOpen) -> bool {
    next.previous_end == PreviousEnd::Sealed.code()
}
