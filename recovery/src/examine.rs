//! Examines a whole journal: each segment by itself, then one against the other, the last against the watermark.

use std::cmp;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use semj_format::control::{self, DamagedRange, PreviousEnd};
use semj_format::journal_header::FLAG_CUT;
use semj_format::{
    ControlError, Digest, HeaderError, JournalHeader, Recovered, SegmentOpen, Watermark, WatermarkFile,
};

use crate::decision::{Verdict, decide};
use crate::evidence::{End, Evidence, Link, durable_behind, find_behind};
use crate::fault::{Fault, FaultKind};
use crate::salvage;
use crate::scanner::{ScanEnd, Scanner, Totals, is_zero};
use crate::trust::{self, NamedEnd, Proof, Trusted};

/// What to do about a journal that is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// A torn tail is cut, because a crash leaves one; anything else is an error and changes nothing.
    #[default]
    Strict,
    /// The journal is cut at the first fault, whatever it is: what is kept is a prefix of what was written.
    PointInTime,
    /// Everything that proves itself is kept, before and behind damage; what is lost is recorded.
    Salvage,
}

impl OpenMode {
    /// The mode's number in a Recovered record.
    pub const fn code(self) -> u32 {
        match self {
            Self::Strict => 0,
            Self::PointInTime => 1,
            Self::Salvage => 2,
        }
    }
}

/// A range of bytes in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Extent {
    /// Bytes in the range.
    pub const fn size(&self) -> usize {
        self.end - self.start
    }

    /// Appends a range, into the last one where it touches it.
    pub(crate) fn push(extents: &mut Vec<Self>, next: Self) {
        match extents.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ if next.size() > 0 => extents.push(next),
            _ => {}
        }
    }
}

/// One segment's file.
#[derive(Clone, Copy, Debug)]
pub struct SegmentInput<'a> {
    /// The file's name, for the report.
    pub name: &'a str,
    /// The segment's number by its file name, where the name says one.
    pub number: Option<u64>,
    /// The file, up to an offset behind which it has only zeros.
    pub bytes: &'a [u8],
    /// Bytes of the whole file.
    pub file_size: usize,
}

impl<'a> SegmentInput<'a> {
    /// A whole file.
    pub const fn new(name: &'a str, number: Option<u64>, bytes: &'a [u8]) -> Self {
        Self { name, number, bytes, file_size: bytes.len() }
    }
}

/// What one segment proves.
#[derive(Clone, Debug)]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// The segment's number: its own word for it, or that of its name where it has none.
    pub number: u64,
    /// Bytes of the file.
    pub file_size: usize,
    /// The journal header, where it is right.
    pub header: Option<JournalHeader>,
    /// The SegmentOpen, where it is right.
    pub opening: Option<SegmentOpen>,
    /// Where the records stand that belong to the journal, in order. Between these offsets records stand
    /// back to back, each with a right checksum.
    pub extents: Vec<Extent>,
    /// What those come to.
    pub totals: Totals,
    /// Offset behind the last commit or the seal.
    pub end: usize,
    /// Offset up to which the segment's own commits say that it was durable.
    pub synced_end: usize,
    /// Whether a right seal stands there.
    pub is_sealed: bool,
    /// Non-zero bytes behind the end that are no part of the journal.
    pub tail: Option<Extent>,
    /// What is damaged between offset 0 and the end.
    pub damaged: Vec<Extent>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
    /// What it all means.
    pub verdict: Verdict,
    /// Whether every byte was held against checksums and digests now, and not when it was made durable only.
    pub is_verified: bool,
}

/// Where a writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The journal's UUID.
    pub journal_uuid: [u8; 16],
    /// The last segment that is kept.
    pub segment_number: u64,
    /// How that segment ends, for the next SegmentOpen.
    pub previous_end: PreviousEnd,
    /// Where it ends.
    pub end: usize,
    /// The digest there.
    pub digest: Digest,
    /// The last commit's sequence number.
    pub commit_sequence: u64,
    /// The highest id that is kept.
    pub last_event_id: u64,
}

/// What a journal proves, and the plan that follows from it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub mode: OpenMode,
    /// What the journal's watermark says of how far it was durable.
    pub watermark: WatermarkFile,
    /// The segments, in their order.
    pub segments: Vec<SegmentReport>,
    /// How many of them are kept: all; in [`OpenMode::PointInTime`] those up to the first fault, in
    /// [`OpenMode::Salvage`] those up to the last one whose SegmentOpen is right.
    pub kept: usize,
    /// The end of what is kept; `None` where nothing is.
    pub tip: Option<Tip>,
    /// The highest epoch that was seen, kept or not.
    pub highest_epoch: u64,
    /// The highest segment number that was seen, kept or not.
    pub highest_segment_number: u64,
    /// The highest event id that anything speaks of, kept or not.
    pub highest_event_id: u64,
}

impl Report {
    /// The first segment that forbids to open the journal in this mode.
    pub fn refusal(&self) -> Option<&SegmentReport> {
        self.segments.iter().find(|segment| match self.mode {
            OpenMode::Strict => !segment.verdict.is_good(),
            OpenMode::PointInTime | OpenMode::Salvage => segment.verdict == Verdict::Unsupported,
        })
    }

    /// The segments that are kept.
    pub fn kept_segments(&self) -> &[SegmentReport] {
        self.segments.get(..self.kept).unwrap_or(&self.segments)
    }

    /// Events of the segments that are kept.
    pub fn events(&self) -> u64 {
        self.kept_segments().iter().map(|segment| segment.totals.events).sum()
    }

    /// Whether nothing that was committed is missing, as far as the bytes can tell.
    pub fn is_whole(&self) -> bool {
        !self.is_gone() && self.segments.iter().all(|segment| segment.verdict.is_good())
    }

    /// Whether there was a journal of which no segment is left.
    pub fn is_gone(&self) -> bool {
        self.segments.is_empty() && self.watermark.newest.is_some()
    }

    /// Whether the newest segment was closed in order.
    pub fn is_closed(&self) -> bool {
        self.segments.last().is_none_or(|segment| segment.is_sealed)
    }
}

/// Examines the segments of a journal, which come in the order of their numbers, and holds their end against its
/// watermark (the default one where it has none). Of a journal that has a writer, the watermark has to be read
/// before the segments.
pub fn examine(inputs: &[SegmentInput<'_>], watermark: WatermarkFile, mode: OpenMode) -> Report {
    examine_with(inputs, watermark, mode, Effort::EVERYTHING)
}

/// How an examination goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How much is proven. In the modes that repair it is everything.
    pub proof: Proof,
    /// How many threads scan segments at the same time.
    pub threads: NonZeroUsize,
}

impl Effort {
    /// Everything, on the caller's thread.
    pub const EVERYTHING: Self = Self { proof: Proof::Everything, threads: NonZeroUsize::MIN };
}

/// [`examine`], with a choice of how. The report is the same for any number of threads.
pub fn examine_with(
    inputs: &[SegmentInput<'_>],
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
) -> Report {
    let openings: Vec<_> =
        inputs.iter().map(|input| Scanner::new(input.bytes, 0).map(|scanner| *scanner.opening())).collect();
    let known = known_damage(inputs);
    // A later open has looked at what an earlier epoch's watermark says, and decided about it.
    let newest_mark = watermark.newest.as_ref();
    let mark =
        newest_mark.filter(|mark| openings.iter().flatten().all(|opening| opening.epoch <= mark.epoch));
    let mut report = Report {
        mode,
        watermark,
        segments: Vec::with_capacity(inputs.len()),
        kept: inputs.len(),
        tip: None,
        highest_epoch: newest_mark.map_or(0, |mark| mark.epoch),
        highest_segment_number: newest_mark.map_or(0, |mark| mark.segment_number),
        highest_event_id: newest_mark.map_or(0, |mark| mark.last_event_id),
    };
    let examine_one = |i: usize, input: &SegmentInput<'_>, last_event_id: u64| {
        let follows = match openings.get(i + 1) {
            Some(Ok(next)) => Follows::Segment(next),
            Some(Err(_)) => Follows::Nothing,
            None => mark.map_or(Follows::Nothing, Follows::Mark),
        };
        // Who repairs looks at everything.
        let trusts =
            effort.proof == Proof::Newest && mode == OpenMode::Strict && !is_known(&known, openings.get(i));
        match trusts.then(|| trusted_segment(input, last_event_id, follows)).flatten() {
            Some(segment) => (segment, last_event_id),
            None => examine_segment(input, last_event_id, follows, &known, mode, trusts),
        }
    };
    let mut ahead = examine_ahead(inputs, effort.threads, &examine_one);
    let mut previous: Option<SegmentReport> = None;
    for (i, input) in inputs.iter().enumerate() {
        let last_event_id = previous.as_ref().map_or(0, |previous| previous.totals.last_event_id);
        // What was found without the ids before it holds if its own bound is above them.
        let is_bounded =
            matches!(openings.get(i), Some(Ok(opening)) if opening.next_event_id > last_event_id);
        let found = ahead.get_mut(i).and_then(Option::take).filter(|_| is_bounded);
        let (mut segment, highest_behind) = found.unwrap_or_else(|| examine_one(i, input, last_event_id));
        if let Some(fault) = link_fault(input, &segment, previous.as_ref()) {
            segment.fault = Some(fault);
            segment.verdict = Verdict::Corrupt;
        }
        report.highest_epoch =
            report.highest_epoch.max(segment.opening.as_ref().map_or(0, |opening| opening.epoch));
        report.highest_segment_number =
            report.highest_segment_number.max(segment.number).max(input.number.unwrap_or(0));
        report.highest_event_id =
            report.highest_event_id.max(segment.totals.last_event_id).max(highest_behind);
        previous = Some(segment.clone());
        report.segments.push(segment);
    }
    match mode {
        OpenMode::Strict => {}
        OpenMode::PointInTime => cut_at_first_fault(&mut report),
        // The journal goes on from a segment that says where it stands; behind one that does not, nothing could.
        OpenMode::Salvage => {
            let is_placed = |segment: &SegmentReport| segment.opening.is_some();
            report.kept = report.segments.iter().rposition(is_placed).map_or(0, |last| last + 1);
        }
    }
    report.tip = report.kept_segments().last().and_then(|segment| {
        let opening = segment.opening.as_ref()?;
        Some(Tip {
            journal_uuid: opening.journal_uuid,
            segment_number: segment.number,
            previous_end: if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut },
            end: segment.end,
            digest: segment.totals.digest,
            commit_sequence: segment.totals.commit_sequence,
            last_event_id: segment.totals.last_event_id,
        })
    });
    report
}

/// A point in time ends at the first fault. A segment whose opening is bad, or which does not continue the one
/// before, has nothing before its fault.
fn cut_at_first_fault(report: &mut Report) {
    let Some(bad) = report.segments.iter().position(|segment| !segment.verdict.is_good()) else {
        return;
    };
    let has_prefix = report.segments.get(bad).is_some_and(|segment| {
        segment.totals.commits > 0
            && segment.fault.is_some_and(|fault| fault.offset > JournalHeader::SIZE as u64)
    });
    report.kept = bad + usize::from(has_prefix);
}

/// Damage that earlier opens recorded. The records stand in the first group of a segment.
fn known_damage(inputs: &[SegmentInput<'_>]) -> Vec<DamagedRange> {
    let first_groups = inputs.iter().filter_map(|input| Scanner::new(input.bytes, 0).ok()?.next_group());
    first_groups
        .flat_map(|group| group.records())
        .filter(|(_, record)| matches!(control::parse::<Recovered>(record), Ok(Some(_))))
        .flat_map(|(_, record)| control::damaged_ranges(&record))
        .collect()
}

/// What is known of the journal behind a segment.
#[derive(Clone, Copy)]
enum Follows<'a> {
    /// The next segment, by its SegmentOpen.
    Segment(&'a SegmentOpen),
    /// No segment, but how far the journal was durable.
    Mark(&'a Watermark),
    Nothing,
}

impl<'a> Follows<'a> {
    const fn segment(self) -> Option<&'a SegmentOpen> {
        match self {
            Self::Segment(next) => Some(next),
            Self::Mark(_) | Self::Nothing => None,
        }
    }

    /// Whether the watermark says that more of this very segment was durable than was accepted.
    fn has_durable_behind(self, scanner: &Scanner<'_>) -> bool {
        matches!(self, Self::Mark(mark) if mark.segment_number == scanner.opening().segment_number
            && mark.end > scanner.offset() as u64)
    }
}

/// Examines the segments on several threads, each without knowing the ids in those before. Empty where one thread is to do
/// it, or there is only one to examine.
fn examine_ahead(
    inputs: &[SegmentInput<'_>],
    threads: NonZeroUsize,
    examine_one: &(impl Fn(usize, &SegmentInput<'_>, u64) -> (SegmentReport, u64) + Sync),
) -> Vec<Option<(SegmentReport, u64)>> {
    let threads = threads.get().min(inputs.len());
    if threads < 2 {
        return Vec::new();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut found = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            match inputs.get(i) {
                Some(input) => found.push((i, examine_one(i, input, 0))),
                None => return found,
            }
        }
    };
    let mut ahead: Vec<_> = inputs.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        // What a thread that panicked has not brought is examined again, and panics again.
        all.extend(others.into_iter().filter_map(|other| other.join().ok()).flatten());
        for (i, found) in all {
            if let Some(place) = ahead.get_mut(i) {
                *place = Some(found);
            }
        }
    });
    ahead
}

/// Whether an earlier open has recorded damage of this segment.
fn is_known(known: &[DamagedRange], opening: Option<&Result<SegmentOpen, Fault>>) -> bool {
    matches!(opening, Some(Ok(opening)) if known.iter().any(|range| range.segment_number == opening.segment_number))
}

/// A segment that was proven when it was sealed or cut, and that nothing contradicts.
fn trusted_segment(
    input: &SegmentInput<'_>,
    last_event_id: u64,
    follows: Follows<'_>,
) -> Option<SegmentReport> {
    let named = match follows {
        Follows::Segment(next) => NamedEnd::of_segment(next),
        Follows::Mark(mark) => NamedEnd::of_mark(mark),
        Follows::Nothing => return None,
    };
    let scanner = Scanner::new(input.bytes, last_event_id).ok()?;
    let Trusted { totals, end, is_sealed } = trust::whole_segment(&scanner, &named)?;
    Some(SegmentReport {
        name: input.name.to_owned(),
        number: scanner.opening().segment_number,
        file_size: input.file_size,
        header: Some(*scanner.header()),
        opening: Some(*scanner.opening()),
        extents: vec![Extent { start: JournalHeader::SIZE, end }],
        totals,
        end,
        synced_end: end,
        is_sealed,
        tail: None,
        damaged: Vec::new(),
        fault: None,
        verdict: Verdict::Whole,
        is_verified: false,
    })
}

/// One segment by itself, and the highest event id that anything behind its end speaks of. Where `trusts`, what stands
/// before the watermark is taken as proven.
fn examine_segment(
    input: &SegmentInput<'_>,
    last_event_id: u64,
    follows: Follows<'_>,
    known: &[DamagedRange],
    mode: OpenMode,
    trusts: bool,
) -> (SegmentReport, u64) {
    let next = follows.segment();
    let scanner = match Scanner::new(input.bytes, last_event_id) {
        Ok(scanner) => scanner,
        Err(fault) => return (bad_opening(input, last_event_id, fault), last_event_id),
    };
    let header = *scanner.header();
    let opening = *scanner.opening();
    let cut = next.filter(|next| next.previous_end == PreviousEnd::Cut.code());
    let cut_offset = cut.map(|next| next.previous_end_offset);
    let limit =
        cut_offset.or((next.is_none() && header.flags & FLAG_CUT != 0).then_some(header.journal_size));
    let mut scanner = match limit.and_then(|offset| usize::try_from(offset).ok()) {
        Some(offset) => scanner.stop_at(offset),
        None => scanner,
    };

    let is_known = known.iter().any(|range| range.segment_number == opening.segment_number);
    let mut is_verified = true;
    let mut extents = Vec::new();
    if let (true, Follows::Mark(mark)) = (trusts, follows)
        && let Some(prefix) = trust::marked_prefix(&scanner, &NamedEnd::of_mark(mark))
    {
        extents.push(Extent { start: JournalHeader::SIZE, end: prefix.end });
        scanner.trust(prefix.end, prefix.totals);
        is_verified = false;
    }
    let mut damaged = Vec::new();
    let mut first_stop: Option<Stop> = None;
    loop {
        let start = scanner.offset();
        while scanner.next_group().is_some() {}
        Extent::push(&mut extents, Extent { start, end: scanner.offset() });
        // `next_group` ends only where it has set an end.
        let end = scanner.end().unwrap_or(ScanEnd::Zeros);
        let is_open = matches!(end, ScanEnd::Zeros | ScanEnd::Torn(_) | ScanEnd::Broken(_));
        let durable = is_open && (durable_behind(&scanner) || follows.has_durable_behind(&scanner));
        if durable {
            // A live writer may have gone on between the two looks: what seemed to be missing before a later
            // commit is there by now. Bytes that nobody writes to give the same result again.
            scanner.look_again();
            if let Some(group) = scanner.next_group() {
                Extent::push(&mut extents, Extent { start: group.start, end: group.end });
                continue;
            }
        }
        let stop = Stop::new(&scanner, end, durable, follows);
        let go_on = is_open && (mode == OpenMode::Salvage || is_known);
        first_stop.get_or_insert(stop);
        let damage_start = scanner.offset();
        match go_on.then(|| salvage::resume(&mut scanner)).flatten() {
            Some(kept) => {
                let mut at = damage_start;
                for extent in kept {
                    Extent::push(&mut damaged, Extent { start: at, end: extent.start });
                    at = extent.end;
                    Extent::push(&mut extents, extent);
                }
            }
            None => {
                let is_plain = stop.fault.is_none() && damaged.is_empty();
                if !is_verified && (!is_plain || matches!(end, ScanEnd::Sealed(_))) {
                    // What is wrong may be wrong because of what was not looked at; and a seal speaks of all of it.
                    return examine_segment(input, last_event_id, follows, known, mode, false);
                }
                let first = first_stop.unwrap_or(stop);
                let found = Found { extents, damaged, first, last: stop, known, is_verified };
                return finish(input, &header, &opening, &scanner, found);
            }
        }
    }
}

/// What the scan came to where it stopped.
#[derive(Clone, Copy)]
struct Stop {
    evidence: Evidence,
    end: ScanEnd,
    fault: Option<Fault>,
}

impl Stop {
    fn new(scanner: &Scanner<'_>, end: ScanEnd, durable_behind: bool, follows: Follows<'_>) -> Self {
        let kind = End::of(&end);
        let missing = match follows {
            Follows::Mark(mark) => missing(mark, scanner, kind),
            Follows::Segment(_) | Follows::Nothing => None,
        };
        let link = match follows {
            Follows::Segment(next) if links(next, scanner, kind) => Link::Matches,
            Follows::Segment(_) => Link::Differs,
            Follows::Mark(_) | Follows::Nothing if missing.is_some() => Link::Missing,
            Follows::Mark(_) | Follows::Nothing => Link::Newest,
        };
        let opening_is_good = scanner.totals().commits > 0 || kind == End::Unsupported;
        let evidence = Evidence { opening_is_good, end: kind, durable_behind, link };
        let ends_early = |but| Fault { offset: scanner.offset() as u64, kind: FaultKind::EndsEarly { but } };
        let at = |kind| Fault { offset: scanner.offset() as u64, kind };
        let fault = end.fault().or(missing.map(at)).or(match (link, kind) {
            (Link::Differs | Link::Matches, End::Zeros) => {
                Some(ends_early("the segment behind it says that it goes on"))
            }
            (Link::Differs, _) => Some(ends_early("the segment behind it names another end or digest")),
            (Link::Newest, End::Zeros) if durable_behind => {
                Some(ends_early("its header, a later commit or the watermark says that more was durable"))
            }
            _ if !opening_is_good => Some(ends_early("its first group has no commit before that")),
            _ => None,
        });
        Self { evidence, end, fault }
    }
}

/// What the watermark says of this end, the newest segment's, that is not so.
fn missing(mark: &Watermark, scanner: &Scanner<'_>, end: End) -> Option<FaultKind> {
    let opening = scanner.opening();
    let ends_early = |but| Some(FaultKind::EndsEarly { but });
    if mark.journal_uuid != opening.journal_uuid {
        return ends_early("the watermark is that of another journal");
    }
    if mark.epoch > opening.epoch || mark.segment_number > opening.segment_number {
        return ends_early("the watermark says that segments behind it were durable");
    }
    if mark.segment_number < opening.segment_number {
        return None;
    }
    match mark.end.cmp(&(scanner.offset() as u64)) {
        // Where the end is an open one, what stands behind it decides.
        cmp::Ordering::Greater if matches!(end, End::Sealed | End::Cut) => {
            ends_early("the watermark says that more was durable")
        }
        cmp::Ordering::Equal if mark.digest != scanner.totals().digest => Some(FaultKind::Digest {
            field: "the digest up to here",
            found: scanner.totals().digest,
            expected: mark.digest,
        }),
        _ => None,
    }
}

/// Whether the next SegmentOpen continues what was found here.
fn links(next: &SegmentOpen, scanner: &Scanner<'_>, end: End) -> bool {
    let totals = scanner.totals();
    let opening = scanner.opening();
    let previous_end = match end {
        End::Sealed => PreviousEnd::Sealed,
        _ => PreviousEnd::Cut,
    };
    next.journal_uuid == opening.journal_uuid
        && next.previous_segment == opening.segment_number
        && next.previous_end == previous_end.code()
        && next.previous_end_offset == scanner.offset() as u64
        && next.previous_digest == totals.digest
        && next.next_commit_sequence == totals.commit_sequence.wrapping_add(1)
        && next.epoch >= opening.epoch
        && next.segment_number > opening.segment_number
}

struct Found<'a> {
    extents: Vec<Extent>,
    damaged: Vec<Extent>,
    first: Stop,
    last: Stop,
    known: &'a [DamagedRange],
    is_verified: bool,
}

fn finish(
    input: &SegmentInput<'_>,
    header: &JournalHeader,
    opening: &SegmentOpen,
    scanner: &Scanner<'_>,
    found: Found<'_>,
) -> (SegmentReport, u64) {
    let bytes = input.bytes;
    let number = opening.segment_number;
    let all_known = !found.damaged.is_empty()
        && found.damaged.iter().all(|damage| {
            found.known.iter().any(|range| {
                range.segment_number == number
                    && range.offset <= damage.start as u64
                    && damage.end as u64 <= range.offset.saturating_add(range.length)
            })
        });
    let verdict = match (all_known, decide(&found.last.evidence)) {
        (true, verdict) if verdict.is_good() => Verdict::KnownDamage,
        (true, verdict) => verdict,
        (false, _) => decide(&found.first.evidence),
    };
    let end = scanner.offset();
    let is_sealed = matches!(found.last.end, ScanEnd::Sealed(_));
    let behind = bytes.get(end..).unwrap_or_default();
    let is_linked = found.last.evidence.link == Link::Matches;
    let tail = (!is_sealed && !is_linked && !is_zero(behind)).then(|| {
        let zeros = behind.iter().rev().take_while(|byte| **byte == 0).count();
        Extent { start: end, end: bytes.len() - zeros }
    });
    let mut highest_id = scanner.totals().last_event_id;
    if tail.is_some() {
        for (_, found) in find_behind(bytes, end, Some(opening.epoch), scanner.totals().commit_sequence) {
            if let crate::evidence::Found::Commit(commit) = found {
                highest_id = highest_id.max(commit.last_event_id);
            }
        }
    }
    let report = SegmentReport {
        name: input.name.to_owned(),
        number,
        file_size: input.file_size,
        header: Some(*header),
        opening: Some(*opening),
        extents: found.extents,
        totals: *scanner.totals(),
        end,
        synced_end: scanner.synced_end(),
        is_sealed,
        tail,
        damaged: found.damaged,
        fault: found.first.fault,
        verdict,
        is_verified: found.is_verified,
    };
    (report, highest_id)
}

/// A segment whose header or SegmentOpen can't be read: nothing in it can be placed in the journal.
fn bad_opening(input: &SegmentInput<'_>, last_event_id: u64, fault: Fault) -> SegmentReport {
    let evidence = Evidence {
        opening_is_good: matches!(
            fault.kind,
            FaultKind::Control(ControlError::Version { .. }) | FaultKind::Header(HeaderError::Version { .. })
        ),
        end: End::Unsupported,
        durable_behind: false,
        link: Link::Newest,
    };
    let totals = Totals {
        records: 0,
        events: 0,
        commits: 0,
        first_event_id: 0,
        last_event_id,
        commit_sequence: 0,
        synced_upto: 0,
        digest: Digest::ZERO,
    };
    let mut damaged = Vec::new();
    Extent::push(&mut damaged, Extent { start: 0, end: input.bytes.len() });
    SegmentReport {
        name: input.name.to_owned(),
        number: input.number.unwrap_or(0),
        file_size: input.file_size,
        header: JournalHeader::parse(input.bytes).ok(),
        opening: None,
        extents: Vec::new(),
        totals,
        end: 0,
        synced_end: 0,
        is_sealed: false,
        tail: None,
        damaged,
        fault: Some(fault),
        verdict: decide(&evidence),
        is_verified: true,
    }
}

/// What a segment's name or beginning says that contradicts what stands before it.
fn link_fault(
    input: &SegmentInput<'_>,
    segment: &SegmentReport,
    previous: Option<&SegmentReport>,
) -> Option<Fault> {
    let opening = segment.opening.as_ref()?;
    let fault = |field, found, expected| {
        let offset = JournalHeader::SIZE as u64;
        Some(Fault { offset, kind: FaultKind::Figure { field, found, expected } })
    };
    if let Some(number) = input.number.filter(|number| *number != opening.segment_number) {
        return fault("segment_number of a file so named", opening.segment_number, number);
    }
    // A file that is looked at alone has no neighbours that it could contradict.
    input.number?;
    match previous {
        None if opening.previous_end != PreviousEnd::None.code() => {
            fault("previous_segment of the first segment here", opening.previous_segment, 0)
        }
        // Where the opening before is bad, its own verdict says so.
        Some(previous) if previous.opening.is_some() && opening.previous_segment != previous.number => {
            fault("previous_segment", opening.previous_segment, previous.number)
        }
        _ => None,
    }
}
