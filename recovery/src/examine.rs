//! Examines a whole journal: each segment by itself, then one against the other, the last against the watermark.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use semj_format::control::{DamagedRange, PreviousEnd};
use semj_format::{JournalHeader, SegmentOpen, Watermark, WatermarkFile};

use crate::decision::Verdict;
use crate::fault::{Fault, FaultKind};
use crate::known::KnownDamage;
use crate::placement;
use crate::report::{OpenMode, Packed, Report, SegmentInput, SegmentReport, Tip, is_own_mark};
use crate::retired::{Beginning, Thinned};
use crate::scanner::Scanner;
use crate::segment::{self, Examined, Follows, examine_segment, trusted_segment};
use crate::trust::Proof;

/// Examines the segments of a journal, which come in the order of their numbers, and holds their end against its
/// watermark (the default one where it has none). Of a journal that has a writer, the watermark has to be read
/// before the segments.
pub fn examine(inputs: &[SegmentInput<'_>], watermark: WatermarkFile, mode: OpenMode) -> Report {
    examine_with(inputs, watermark, mode, Effort::EVERYTHING)
}

/// How an examination goes about its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How much is proven. In the modes that repair, and of segments with known damage, it is everything.
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
    let beginning = Beginning::of(inputs);
    let is_part = beginning.is_some();
    examine_from(inputs, beginning, is_part, watermark, mode, effort)
}

/// [`examine_with`] of a copy that has retired segments too, or only some segments, such as an archive gives: no Compacted
/// retires anything in it, and what was before its first segment is not asked for, nor who says that events were taken out.
pub fn examine_unretired(
    inputs: &[SegmentInput<'_>],
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
) -> Report {
    examine_from(inputs, None, true, watermark, mode, effort)
}

/// One segment by itself, with what others say of it: the SegmentOpen of the one behind it, if there is one, and the damage that
/// is recorded. Every byte is looked at. What stands before it, and whether anything says that it lacks events, is not.
pub fn examine_alone(
    input: &SegmentInput<'_>,
    next: Option<&SegmentOpen>,
    damage: &[DamagedRange],
) -> SegmentReport {
    let follows = next.map_or(Follows::Nothing, Follows::Segment);
    examine_segment(input, 0, follows, &KnownDamage::new(damage), OpenMode::Strict, false).segment
}

/// What proves itself in one file, whatever stands before or behind it: in a segment, also one whose SegmentOpen can't be read, or
/// in what was cut off from behind the end of one. Of a file whose SegmentOpen can't be read, the report has one in which little but
/// the epoch is right, and no clocks: `boot_id` and both times are zero. Nothing is kept of a file in which nothing proves itself.
pub fn examine_file(input: &SegmentInput<'_>) -> Report {
    let segment = segment::examine_file(input);
    let kept = segment.opening.filter(|_| !segment.extents.is_empty());
    Report {
        mode: OpenMode::Salvage,
        watermark: WatermarkFile::default(),
        retired: None,
        thinned: Vec::new(),
        known_damage: Vec::new(),
        leftovers: Vec::new(),
        kept: usize::from(kept.is_some()),
        tip: kept.map(|opening| Tip::of(&segment, &opening)),
        highest_epoch: segment.opening.map_or(0, |opening| opening.epoch),
        highest_segment_number: segment.number,
        highest_event_id: segment.totals.last_event_id,
        segments: vec![segment],
    }
}

fn examine_from(
    inputs: &[SegmentInput<'_>],
    beginning: Option<Beginning>,
    is_part: bool,
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
) -> Report {
    let (leftovers, inputs) = inputs.split_at(beginning.map_or(0, |beginning| beginning.leftovers));
    // What says that events were taken out may be in a segment that is not here.
    let is_unretired = is_part && beginning.is_none();
    let known = KnownDamage::of(inputs);
    let thinned = Thinned::of(inputs);
    let openings: Vec<_> = inputs.iter().map(|input| opening(input, &known, mode)).collect();
    let mut placed = match mode {
        OpenMode::Strict | OpenMode::PointInTime => vec![true; inputs.len()],
        OpenMode::Salvage => placement::places(inputs, &openings),
    };
    // A later open has looked at what an earlier epoch's watermark says, and decided about it; that of another journal it would
    // have replaced.
    let newest_mark = watermark.newest.as_ref();
    let mark = newest_mark.filter(|mark| {
        let mut of_it = openings.iter().flatten().filter(|opening| opening.journal_uuid == mark.journal_uuid);
        of_it.all(|opening| opening.epoch <= mark.epoch)
    });
    let own_mark = newest_mark.filter(|mark| is_own_mark(mark, openings.iter().flatten()));
    let mut report = Report {
        mode,
        watermark,
        retired: beginning.map(|beginning| beginning.retired),
        leftovers: leftovers.iter().map(|input| input.name.to_owned()).collect(),
        thinned: thinned.bodies.clone(),
        known_damage: known.ranges().to_vec(),
        segments: Vec::new(),
        kept: inputs.len(),
        tip: None,
        highest_epoch: own_mark.map_or(0, |mark| mark.epoch),
        highest_segment_number: own_mark.map_or(0, |mark| mark.segment_number),
        highest_event_id: own_mark.map_or(0, |mark| mark.last_event_id),
    };
    let context =
        Context { openings, mark: mark.copied(), known, thinned, is_part, is_unretired, mode, effort };
    // What a segment was held against may have no place itself; then it is judged again without that.
    while examine_placed(inputs, &context, &mut placed, &mut report) {}
    match mode {
        OpenMode::Strict => {}
        OpenMode::PointInTime => cut_at_first_fault(&mut report),
        // The journal goes on from a segment that says where it stands; behind one that does not, nothing could.
        OpenMode::Salvage => {
            let is_placed = |segment: &SegmentReport| segment.opening.is_some();
            report.kept = report.segments.iter().rposition(is_placed).map_or(0, |last| last + 1);
        }
    }
    report.tip =
        report.kept_segments().last().and_then(|segment| Some(Tip::of(segment, segment.opening.as_ref()?)));
    report
}

/// What is known of a journal before its segments are examined, and how that is to be done.
struct Context {
    openings: Vec<Option<SegmentOpen>>,
    mark: Option<Watermark>,
    known: KnownDamage,
    thinned: Thinned,
    is_part: bool,
    is_unretired: bool,
    mode: OpenMode,
    effort: Effort,
}

/// Examines the segments. Whether a salvage has found that one has no place which was thought to have one.
fn examine_placed(
    inputs: &[SegmentInput<'_>],
    context: &Context,
    placed: &mut [bool],
    report: &mut Report,
) -> bool {
    let Context { openings, mark, known, thinned, mode, .. } = context;
    let mode = *mode;
    report.segments = Vec::with_capacity(inputs.len());
    let places = &*placed;
    let examine_one = |i: usize, input: &SegmentInput<'_>, last_event_id: u64| {
        let follows = follows(i, openings, places, mark.as_ref(), known, mode);
        let opening = openings.get(i).and_then(Option::as_ref);
        // Who repairs looks at everything; and what is damaged is not what was proven once.
        let trusts = mode == OpenMode::Strict
            && opening.is_some_and(|opening| {
                context.effort.proof.trusts(opening.segment_number) && !known.is_any(opening.segment_number)
            });
        let trusted = trusts.then(|| trusted_segment(input, last_event_id, follows)).flatten();
        trusted.unwrap_or_else(|| {
            // All of it is there only as long as it is looked at.
            let unpacked = input.packed.map(Packed::unpack);
            let bytes = unpacked.as_deref().unwrap_or(input.bytes);
            let native = SegmentInput { bytes, packed: None, ..*input };
            let mut examined = examine_segment(&native, last_event_id, follows, known, mode, trusts);
            examined.segment.packed_size = input.packed.map(Packed::packed_size);
            if let Some(backing) = input.backing {
                backing.seen();
            }
            examined
        })
    };
    let mut ahead = examine_ahead(inputs, context.effort.threads, &examine_one);
    let mut unplaced = Vec::new();
    let mut previous: Option<SegmentReport> = None;
    for (i, input) in inputs.iter().enumerate() {
        let last_event_id = previous.as_ref().map_or(0, |previous| previous.totals.last_event_id);
        // What was found without the ids before it holds if its own bound is above them.
        let is_bounded = |examined: &Examined| {
            examined.segment.opening.is_some_and(|opening| opening.next_event_id > last_event_id)
        };
        let found = ahead.get_mut(i).and_then(Option::take).filter(is_bounded);
        let examined = found.unwrap_or_else(|| examine_one(i, input, last_event_id));
        let mut segment = examined.segment;
        report.highest_epoch = report.highest_epoch.max(examined.highest_epoch);
        report.highest_segment_number =
            report.highest_segment_number.max(segment.number).max(input.number.unwrap_or(0));
        report.highest_event_id =
            report.highest_event_id.max(segment.totals.last_event_id).max(examined.highest_event_id);
        thinned.judge(input, &mut segment, !context.is_unretired);
        hold_against_previous(input, &mut segment, previous.as_ref(), context.is_part, known, mode);
        let was_placed = places.get(i).is_none_or(|placed| *placed);
        let is_placed = was_placed && !examined.contradicts_the_chain;
        if mode == OpenMode::Salvage && !is_placed && segment.verdict != Verdict::Unsupported {
            segment.give_up(input, last_event_id);
            if was_placed && openings.get(i).is_some_and(Option::is_some) {
                unplaced.push(i);
            }
        }
        if mode != OpenMode::Salvage || segment.opening.is_some() {
            previous = Some(segment.clone());
        }
        report.segments.push(segment);
    }
    for i in &unplaced {
        if let Some(placed) = placed.get_mut(*i) {
            *placed = false;
        }
    }
    !unplaced.is_empty()
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

/// The SegmentOpen of a file, where it is right, and with it the header. That is not needed for a salvage, and not
/// where it is known to be damaged.
fn opening(input: &SegmentInput<'_>, known: &KnownDamage, mode: OpenMode) -> Option<SegmentOpen> {
    if let Ok(scanner) = input.scanner(0) {
        return Some(*scanner.opening());
    }
    let is_known_or_salvaged =
        |opening: &SegmentOpen| mode == OpenMode::Salvage || known.covers_header(opening.segment_number);
    let scanner = Scanner::without_header(input.bytes, 0).ok()?;
    Some(*scanner.opening()).filter(is_known_or_salvaged)
}

/// What is known of the journal behind the i-th file.
fn follows<'a>(
    i: usize,
    openings: &'a [Option<SegmentOpen>],
    placed: &[bool],
    mark: Option<&'a Watermark>,
    known: &KnownDamage,
    mode: OpenMode,
) -> Follows<'a> {
    let behind = openings.get(i + 1..).unwrap_or_default();
    let Some(first) = behind.first() else {
        return mark.map_or(Follows::Nothing, Follows::Mark);
    };
    let next = match mode {
        OpenMode::Strict | OpenMode::PointInTime => first.as_ref(),
        OpenMode::Salvage => {
            let placed_behind = placed.iter().skip(i + 1);
            let mut next = behind.iter().zip(placed_behind).filter(|(_, is_placed)| **is_placed);
            next.next().and_then(|(opening, _)| opening.as_ref())
        }
    };
    let number = openings.get(i).and_then(|opening| Some(opening.as_ref()?.segment_number));
    // The segment that it does follow is lost: it says nothing of this one.
    let is_behind_a_lost_one = |next: &SegmentOpen| {
        number.is_some_and(|number| number < next.previous_segment)
            && (mode == OpenMode::Salvage || known.covers_segment_before(next))
    };
    match next {
        Some(next) if is_behind_a_lost_one(next) => Follows::Lost,
        Some(next) => Follows::Segment(next),
        None => Follows::Nothing,
    }
}

/// Examines the segments on several threads, each without knowing the ids in those before. Empty where one thread is to do
/// it, or there is only one to examine.
fn examine_ahead(
    inputs: &[SegmentInput<'_>],
    threads: NonZeroUsize,
    examine_one: &(impl Fn(usize, &SegmentInput<'_>, u64) -> Examined + Sync),
) -> Vec<Option<Examined>> {
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

/// Holds a segment's name and beginning against what stands before it. Of a part of a journal the first one has nothing before
/// it; where segments were retired, it was held against what is said of them already.
fn hold_against_previous(
    input: &SegmentInput<'_>,
    segment: &mut SegmentReport,
    previous: Option<&SegmentReport>,
    is_part: bool,
    known: &KnownDamage,
    mode: OpenMode,
) {
    let Some(opening) = segment.opening else { return };
    let fault = |field, found, expected| {
        let offset = JournalHeader::SIZE as u64;
        Fault { offset, kind: FaultKind::Figure { field, found, expected } }
    };
    // A file that is looked at alone has no neighbours that it could contradict.
    let Some(number) = input.number else { return };
    if number != opening.segment_number {
        let field = "segment_number of a file so named";
        segment.fault = Some(fault(field, opening.segment_number, number));
        segment.verdict = Verdict::Corrupt;
        return;
    }
    let offset = JournalHeader::SIZE as u64;
    let missing =
        Fault { offset, kind: FaultKind::MissingSegment { segment_number: opening.previous_segment } };
    let link_fault = match previous {
        None if opening.previous_end != PreviousEnd::None.code() && !is_part => missing,
        Some(previous) if previous.opening.is_some() && opening.previous_segment > previous.number => missing,
        // Where the opening before is bad, its own verdict says so.
        Some(previous) if previous.opening.is_some() && opening.previous_segment != previous.number => {
            fault("previous_segment", opening.previous_segment, previous.number)
        }
        _ => {
            segment.lost_before = known.lost_newest_before(&opening);
            if segment.lost_before.is_some() && segment.verdict.is_good() && !has_new_damage(segment) {
                segment.verdict = Verdict::KnownDamage;
            }
            return;
        }
    };
    let is_missing = previous.is_none_or(|previous| previous.number < opening.previous_segment);
    let is_known = is_missing && known.covers_segment_before(&opening);
    if is_known || (is_missing && mode == OpenMode::Salvage) {
        segment.lost_before = Some(DamagedRange {
            segment_number: opening.previous_segment,
            offset: 0,
            length: opening.previous_end_offset,
        });
    }
    match (is_known, segment.verdict.is_good() && !has_new_damage(segment)) {
        (true, true) => {
            segment.verdict = Verdict::KnownDamage;
            segment.fault = segment.fault.or(Some(link_fault));
        }
        // Something else is wrong with it, and is said.
        (true, false) => {}
        (false, _) => {
            segment.verdict = Verdict::Corrupt;
            segment.fault = Some(link_fault);
        }
    }
}

/// Whether a salvage has passed over damage that nobody has recorded, which is to be.
fn has_new_damage(segment: &SegmentReport) -> bool {
    !segment.damaged.is_empty() && segment.verdict != Verdict::KnownDamage
}
