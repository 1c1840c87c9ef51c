//! Examines a whole journal: each segment by itself, then one against the other, the last against the watermark.

use std::cmp;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

use semj_format::control::{Compacted, DamagedRange, PreviousEnd};
use semj_format::journal_header::FLAG_CUT;
use semj_format::{ControlError, Digest, HeaderError, JournalHeader, SegmentOpen, Watermark, WatermarkFile};

use crate::decision::{Verdict, decide};
use crate::evidence::{End, Evidence, Found, Link, durable_behind, find_behind};
use crate::fault::{Fault, FaultKind};
use crate::known::{HEADER, KnownDamage};
use crate::placement;
use crate::retired::{Beginning, Thinned};
use crate::salvage::Resumption;
use crate::scanner::{Gaps, ScanEnd, Scanner, Thinning, Totals, is_zero};
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

/// A segment that is kept in another form than its own bytes, which can be had from it.
pub trait Packed: std::fmt::Debug + Sync {
    /// Bytes of that form.
    fn packed_size(&self) -> u64;
    /// The record that the segment ends with.
    fn last_record(&self) -> &[u8];
    /// The segment's bytes up to its end. What can't be had of them is zero.
    fn unpack(&self) -> Vec<u8>;
}

/// What holds a segment's bytes, and need not have them at hand once they were looked at.
pub trait Backing: std::fmt::Debug + Sync {
    /// Whoever examined the segment has seen its bytes. They stay what they are, and few of them are looked at again.
    fn seen(&self);
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
    /// The header as it was before the file's end was looked for. A live writer makes it final behind everything else, and it
    /// would then speak of bytes that are not looked at. `None`: as it stands in the bytes.
    pub header: Option<[u8; JournalHeader::SIZE]>,
    /// Where `bytes` are only those of the first group, and perhaps some more: how to come to the others.
    pub packed: Option<&'a dyn Packed>,
    /// Whom to tell that the bytes were seen.
    pub backing: Option<&'a dyn Backing>,
}

impl<'a> SegmentInput<'a> {
    /// A whole file.
    pub const fn new(name: &'a str, number: Option<u64>, bytes: &'a [u8]) -> Self {
        Self { name, number, bytes, file_size: bytes.len(), header: None, packed: None, backing: None }
    }

    /// Bytes that there are.
    fn size(&self) -> usize {
        if self.packed.is_some() { self.file_size } else { self.bytes.len() }
    }

    /// The bytes that the header is read from.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        self.header.as_ref().map_or(self.bytes, |header| header)
    }

    /// A scanner that begins at its beginning.
    fn scanner(&self, last_event_id: u64) -> Result<Scanner<'a>, Fault> {
        Scanner::with_header(self.header_bytes(), self.bytes, last_event_id)
    }
}

/// What one segment proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// The segment's number: its own word for it, or that of its name where it has none.
    pub number: u64,
    /// Bytes of the file, or of the file that it was made from by compressing it.
    pub file_size: usize,
    /// Bytes of its compressed form, if that is what it is kept in.
    pub packed_size: Option<u64>,
    /// The journal header, where it is right.
    pub header: Option<JournalHeader>,
    /// The SegmentOpen, where it is right and, in [`OpenMode::Salvage`], the segment has a place in the journal.
    pub opening: Option<SegmentOpen>,
    /// Where the records stand that belong to the journal, in order. Between these offsets records stand
    /// back to back, each with a right checksum.
    pub extents: Vec<Extent>,
    /// What those come to.
    pub totals: Totals,
    /// Events that are recorded as missing; of what is trusted nothing is known.
    pub gaps: Gaps,
    /// Offset behind the last commit or the seal; where these are damaged, the end that the following segment names,
    /// which may be behind the file's.
    pub end: usize,
    /// Offset up to which the segment's own commits say that it was durable.
    pub synced_end: usize,
    /// Whether a right seal stands there.
    pub is_sealed: bool,
    /// Non-zero bytes behind the end that are no part of the journal.
    pub tail: Option<Extent>,
    /// What is damaged between offset 0 and the end.
    pub damaged: Vec<Extent>,
    /// The segment that should stand before this one and is lost as a whole, where that is known or salvaged.
    pub lost_before: Option<DamagedRange>,
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
    /// Where it ends, or ended before events were taken out.
    pub end: usize,
    /// The digest there.
    pub digest: Digest,
    /// The last commit's sequence number.
    pub commit_sequence: u64,
    /// The highest id that is kept.
    pub last_event_id: u64,
    /// The id that comes next: behind that one, and behind those that Gaps say are missing.
    pub next_event_id: u64,
}

/// What a journal proves, and the plan that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was asked for.
    pub mode: OpenMode,
    /// What the journal's watermark says of how far it was durable.
    pub watermark: WatermarkFile,
    /// What the journal begins behind, where segments were retired: the first segment here goes on from it.
    pub retired: Option<Compacted>,
    /// Bodies of the records that say which events were taken out of segments that are left.
    pub thinned: Vec<Vec<u8>>,
    /// Names of files of retired segments, which are none of the journal's any more and are to be removed.
    pub leftovers: Vec<String>,
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

    /// Events that the records of the kept segments say are missing, as far as these were looked at.
    pub fn gaps(&self) -> Gaps {
        self.kept_segments().iter().map(|segment| segment.gaps).fold(Gaps::default(), Gaps::plus)
    }

    /// Events of the segments that are kept, without those that were taken out since.
    pub fn events(&self) -> u64 {
        self.kept_segments().iter().map(SegmentReport::events).sum()
    }

    /// The digest that a segment ends with, as the one behind it goes on from it: where the segment's own end is known to be lost,
    /// its totals have another. `None` if there is no such segment.
    pub fn end_digest(&self, place: usize) -> Option<Digest> {
        let segment = self.segments.get(place)?;
        let next = self.segments.get(place + 1).and_then(|next| next.opening);
        let next = next.filter(|next| {
            (next.previous_segment, next.previous_end_offset) == (segment.number, segment.original_end())
        });
        Some(next.map_or(segment.totals.digest, |next| next.previous_digest))
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
    // A later open has looked at what an earlier epoch's watermark says, and decided about it.
    let newest_mark = watermark.newest.as_ref();
    let mark =
        newest_mark.filter(|mark| openings.iter().flatten().all(|opening| opening.epoch <= mark.epoch));
    let mut report = Report {
        mode,
        watermark,
        retired: beginning.map(|beginning| beginning.retired),
        leftovers: leftovers.iter().map(|input| input.name.to_owned()).collect(),
        thinned: thinned.bodies.clone(),
        segments: Vec::new(),
        kept: inputs.len(),
        tip: None,
        highest_epoch: newest_mark.map_or(0, |mark| mark.epoch),
        highest_segment_number: newest_mark.map_or(0, |mark| mark.segment_number),
        highest_event_id: newest_mark.map_or(0, |mark| mark.last_event_id),
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
    report.tip = report.kept_segments().last().and_then(|segment| {
        let opening = segment.opening.as_ref()?;
        Some(Tip {
            journal_uuid: opening.journal_uuid,
            segment_number: segment.number,
            previous_end: if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut },
            end: usize::try_from(segment.original_end()).unwrap_or(segment.end),
            digest: segment.totals.digest,
            commit_sequence: segment.totals.commit_sequence,
            last_event_id: segment.totals.last_event_id,
            next_event_id: segment.totals.next_event_id,
        })
    });
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
    next.filter(|next| !is_behind_a_lost_one(next)).map_or(Follows::Nothing, Follows::Segment)
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
    /// Whether the segment behind the one that was opened so goes on from one that should stand between the two.
    const fn is_behind_another(self, opening: &SegmentOpen) -> bool {
        matches!(self, Self::Segment(next) if next.previous_segment > opening.segment_number)
    }

    const fn segment(self) -> Option<&'a SegmentOpen> {
        match self {
            Self::Segment(next) => Some(next),
            Self::Mark(_) | Self::Nothing => None,
        }
    }

    /// Whether the watermark says that more of this very segment was durable than was accepted.
    fn has_durable_behind(self, scanner: &Scanner<'_>) -> bool {
        matches!(self, Self::Mark(mark) if mark.segment_number == scanner.opening().segment_number
            && mark.end > scanner.original_offset())
    }
}

/// What one segment is by itself.
struct Examined {
    segment: SegmentReport,
    /// The highest event id that anything in it speaks of, its end or what stands behind that, and the highest epoch.
    highest_event_id: u64,
    highest_epoch: u64,
    /// No commit of it is right, or the following segment goes on from another end.
    contradicts_the_chain: bool,
    /// What is wrong with the header's figures, where everything else is right up to the seal.
    header_fault: Option<Fault>,
}

/// The highest numbers that something speaks of which is no part of the journal. They may have been given, and are not given
/// again.
#[derive(Clone, Copy, Default)]
struct SpokenOf {
    event_id: u64,
    epoch: u64,
}

impl SpokenOf {
    /// No writer gives numbers from here on. Where damage or intent has put one, it is not believed: nothing could follow it.
    const END: u64 = 1 << 63;

    /// In a file whose opening can't be read. A reader that changes nothing gives no numbers.
    fn in_segment(bytes: &[u8], mode: OpenMode) -> Self {
        let mut spoken_of = Self::default();
        if mode == OpenMode::Strict {
            return spoken_of;
        }
        if let Ok(header) = JournalHeader::parse(bytes) {
            spoken_of.see_numbers(header.next_event_id.saturating_sub(1), 0);
        }
        if let Ok(scanner) = Scanner::without_header(bytes, 0) {
            let opening = scanner.opening();
            spoken_of.see_numbers(opening.next_event_id.saturating_sub(1), opening.epoch);
        }
        find_behind(bytes, JournalHeader::SIZE, None, 0).for_each(|(_, found)| spoken_of.see(&found));
        spoken_of
    }

    fn see(&mut self, found: &Found) {
        self.see_numbers(found.last_event_id(), found.epoch());
    }

    fn see_numbers(&mut self, event_id: u64, epoch: u64) {
        if event_id < Self::END && epoch < Self::END {
            self.event_id = self.event_id.max(event_id);
            self.epoch = self.epoch.max(epoch);
        }
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

/// A segment that was proven when it was sealed or cut, and that nothing contradicts.
fn trusted_segment(input: &SegmentInput<'_>, last_event_id: u64, follows: Follows<'_>) -> Option<Examined> {
    let named = match follows {
        Follows::Segment(next) => NamedEnd::of_segment(next),
        Follows::Mark(mark) => NamedEnd::of_mark(mark),
        Follows::Nothing => return None,
    };
    let scanner = input.scanner(last_event_id).ok()?;
    let last_record = input.packed.map(Packed::last_record);
    let Trusted { totals, end, is_sealed } = trust::whole_segment(&scanner, last_record, &named)?;
    let segment = SegmentReport {
        name: input.name.to_owned(),
        number: scanner.opening().segment_number,
        file_size: input.file_size,
        packed_size: input.packed.map(Packed::packed_size),
        header: scanner.header().copied(),
        opening: Some(*scanner.opening()),
        extents: vec![Extent { start: JournalHeader::SIZE, end }],
        totals,
        gaps: Gaps::default(),
        end,
        synced_end: end,
        is_sealed,
        tail: None,
        damaged: Vec::new(),
        lost_before: None,
        fault: None,
        verdict: Verdict::Whole,
        is_verified: false,
    };
    Some(Examined {
        segment,
        highest_event_id: totals.last_event_id,
        highest_epoch: scanner.opening().epoch,
        contradicts_the_chain: false,
        header_fault: None,
    })
}

/// One segment by itself. Where `trusts`, what stands before the watermark is taken as proven.
fn examine_segment(
    input: &SegmentInput<'_>,
    last_event_id: u64,
    follows: Follows<'_>,
    known: &KnownDamage,
    mode: OpenMode,
    trusts: bool,
) -> Examined {
    let headless = || Scanner::without_header(input.bytes, last_event_id);
    match input.scanner(last_event_id) {
        Ok(scanner) => {
            let examined = examine_scanned(input, scanner, None, follows, known, mode, trusts);
            let segment = &examined.segment;
            let is_plain = segment.fault.is_none() && segment.damaged.is_empty() && !segment.is_sealed;
            if !segment.is_verified && !is_plain {
                // What is wrong may be wrong because of what was not looked at; and a seal speaks of all of it.
                return examine_segment(input, last_event_id, follows, known, mode, false);
            }
            // A point in time keeps the segment: it ends behind the seal.
            let is_passed_over = mode != OpenMode::Strict || known.covers_header(examined.segment.number);
            match (examined.header_fault, headless()) {
                (Some(fault), Ok(scanner)) if is_passed_over => {
                    let header = Some((fault, examined.segment.verdict));
                    examine_scanned(input, scanner, header, follows, known, mode, false)
                }
                _ => examined,
            }
        }
        Err(fault) => {
            let is_version = matches!(fault.kind, FaultKind::Header(HeaderError::Version { .. }));
            match headless() {
                Ok(scanner)
                    if !is_version
                        && (mode == OpenMode::Salvage
                            || known.covers_header(scanner.opening().segment_number)) =>
                {
                    let header = Some((fault, Verdict::Corrupt));
                    examine_scanned(input, scanner, header, follows, known, mode, false)
                }
                _ => {
                    let spoken_of = SpokenOf::in_segment(input.bytes, mode);
                    Examined {
                        segment: bad_opening(input, last_event_id, fault),
                        highest_event_id: last_event_id.max(spoken_of.event_id),
                        highest_epoch: spoken_of.epoch,
                        contradicts_the_chain: true,
                        header_fault: None,
                    }
                }
            }
        }
    }
}

/// The same; with its header's fault and the verdict on it where that is left out of account.
fn examine_scanned<'a>(
    input: &SegmentInput<'a>,
    scanner: Scanner<'a>,
    header: Option<(Fault, Verdict)>,
    follows: Follows<'_>,
    known: &KnownDamage,
    mode: OpenMode,
    trusts: bool,
) -> Examined {
    let next = follows.segment();
    let number = scanner.opening().segment_number;
    let header_cut = scanner.header().filter(|header| next.is_none() && header.flags & FLAG_CUT != 0);
    let cut = next.filter(|next| next.previous_end == PreviousEnd::Cut.code());
    let offset = |offset: u64| usize::try_from(offset).ok();
    let limit = cut.and_then(|next| offset(next.previous_end_offset));
    let limit_in_file = header_cut.and_then(|header| offset(header.journal_size));
    let mut scanner = match (limit, limit_in_file) {
        (Some(offset), _) => scanner.stop_at(offset),
        (None, Some(offset)) => scanner.stop_at_in_file(offset),
        (None, None) => scanner,
    };

    let mut found = Findings::default();
    if let Some((fault, verdict)) = header {
        found.damaged.push(HEADER);
        found.note(Some(fault), (!known.covers_header(number)).then_some(verdict));
    }
    if let (true, Follows::Mark(mark)) = (trusts, follows)
        && let Some(prefix) = trust::marked_prefix(&scanner, &NamedEnd::of_mark(mark))
    {
        found.extents.push(Extent { start: JournalHeader::SIZE, end: prefix.end });
        found.is_trusted = true;
        scanner.trust(prefix.end, prefix.totals);
    }
    let goes_on_behind_damage = mode == OpenMode::Salvage || known.is_any(number);
    loop {
        let start = scanner.offset();
        while scanner.next_group().is_some() {}
        Extent::push(&mut found.extents, Extent { start, end: scanner.offset() });
        // `next_group` ends only where it has set an end.
        let end = scanner.end().unwrap_or(ScanEnd::Zeros);
        let is_open = matches!(end, ScanEnd::Zeros | ScanEnd::Torn(_) | ScanEnd::Broken(_));
        let durable = is_open && (durable_behind(&scanner) || follows.has_durable_behind(&scanner));
        if durable {
            // A live writer may have gone on between the two looks: what seemed to be missing before a later
            // commit is there by now. Bytes that nobody writes to give the same result again.
            scanner.look_again();
            if let Some(group) = scanner.next_group() {
                Extent::push(&mut found.extents, Extent { start: group.start, end: group.end });
                continue;
            }
        }
        let stop = Stop::new(&scanner, end, durable, follows);
        let damage_start = scanner.offset();
        // In the other modes the journal ends at the first damage that nobody has recorded.
        let unrecorded = |lost: &[Extent]| {
            let is_recorded = lost.iter().all(|damage| known.covers(number, damage));
            (!is_recorded).then(|| decide(&stop.evidence))
        };
        let goes_on = is_open && !scanner.is_sealed() && goes_on_behind_damage;
        if let Some(resumption) = goes_on.then(|| Resumption::find(&scanner)).flatten() {
            let lost = resumption.lost(damage_start);
            let unrecorded = unrecorded(&lost);
            if unrecorded.is_none() || mode == OpenMode::Salvage {
                found.note(stop.fault, unrecorded);
                found.damaged.extend(lost);
                for kept in &resumption.kept {
                    Extent::push(&mut found.extents, *kept);
                }
                resumption.apply(&mut scanner);
                continue;
            }
        } else if let Some((next, end)) =
            next.filter(|_| goes_on).and_then(|next| Some((next, named_end(next, &scanner)?)))
        {
            let lost = Extent { start: damage_start, end };
            let unrecorded = unrecorded(&[lost]);
            if unrecorded.is_none() || mode == OpenMode::Salvage {
                found.note(stop.fault, unrecorded);
                found.damaged.push(lost);
                return found.into_examined(input, &scanner, end, Stop::named(next));
            }
        }
        return found.into_examined(input, &scanner, damage_start, stop);
    }
}

/// Where the following segment says that this one ends, if what was found here can have been followed by that. Nothing is known
/// to have been taken out behind what was found.
fn named_end(next: &SegmentOpen, scanner: &Scanner<'_>) -> Option<usize> {
    let end = next.previous_end_offset.checked_add_signed(scanner.totals().thinned.bytes.checked_neg()?)?;
    let end = usize::try_from(end).ok()?;
    let is_end =
        matches!(PreviousEnd::from_code(next.previous_end), Some(PreviousEnd::Sealed | PreviousEnd::Cut));
    let can_follow = is_end
        && end > scanner.offset()
        && scanner.totals().commits > 0
        && next.next_commit_sequence > scanner.totals().commit_sequence;
    (can_follow && names(next, scanner)).then_some(end)
}

/// What the scan came to where it stopped.
#[derive(Clone, Copy)]
struct Stop {
    evidence: Evidence,
    fault: Option<Fault>,
}

impl Stop {
    /// At the end that the following segment names.
    fn named(next: &SegmentOpen) -> Self {
        let end = if next.previous_end == PreviousEnd::Sealed.code() { End::Sealed } else { End::Cut };
        let evidence = Evidence { opening_is_good: true, end, durable_behind: false, link: Link::Matches };
        Self { evidence, fault: None }
    }

    fn new(scanner: &Scanner<'_>, end: ScanEnd, durable_behind: bool, follows: Follows<'_>) -> Self {
        let kind = End::of(&end);
        let missing = match follows {
            Follows::Mark(mark) => missing(mark, scanner, kind),
            Follows::Segment(_) | Follows::Nothing => None,
        };
        let link = match follows {
            Follows::Segment(next) if links(next, scanner) => Link::Matches,
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
            (Link::Differs, _) if follows.is_behind_another(scanner.opening()) => {
                Some(ends_early("the segment that goes on from it is missing"))
            }
            (Link::Differs, _) => Some(ends_early("the segment behind it names another end or digest")),
            (Link::Newest, End::Zeros) if durable_behind => {
                Some(ends_early("its header, a later commit or the watermark says that more was durable"))
            }
            _ if !opening_is_good => Some(ends_early("its first group has no commit before that")),
            _ => None,
        });
        Self { evidence, fault }
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
    match mark.end.cmp(&scanner.original_offset()) {
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
fn links(next: &SegmentOpen, scanner: &Scanner<'_>) -> bool {
    let totals = scanner.totals();
    let previous_end = if scanner.is_sealed() { PreviousEnd::Sealed } else { PreviousEnd::Cut };
    names(next, scanner)
        && next.previous_end == previous_end.code()
        && next.previous_end_offset == scanner.original_offset()
        && next.previous_digest == totals.digest
        && next.next_commit_sequence == totals.commit_sequence.wrapping_add(1)
}

/// Whether the next SegmentOpen speaks of this segment as the one before it.
fn names(next: &SegmentOpen, scanner: &Scanner<'_>) -> bool {
    let opening = scanner.opening();
    next.journal_uuid == opening.journal_uuid
        && next.previous_segment == opening.segment_number
        && next.epoch >= opening.epoch
        && next.segment_number > opening.segment_number
}

/// What was found in one segment so far.
#[derive(Default)]
struct Findings {
    extents: Vec<Extent>,
    damaged: Vec<Extent>,
    /// The first thing that is wrong.
    fault: Option<Fault>,
    /// The verdict on the first damage that was passed over though nobody had recorded it, and its fault.
    unrecorded: Option<(Verdict, Option<Fault>)>,
    /// Whether a prefix was taken as proven.
    is_trusted: bool,
}

impl Findings {
    /// Damage that the scan passes over, and the verdict on it if it was not recorded.
    fn note(&mut self, fault: Option<Fault>, unrecorded: Option<Verdict>) {
        self.fault = self.fault.or(fault);
        if let (None, Some(verdict)) = (self.unrecorded, unrecorded) {
            self.unrecorded = Some((verdict, fault));
        }
    }

    fn into_examined(
        self,
        input: &SegmentInput<'_>,
        scanner: &Scanner<'_>,
        end: usize,
        last: Stop,
    ) -> Examined {
        let bytes = input.bytes;
        let opening = *scanner.opening();
        let (verdict, fault) = match (self.unrecorded, decide(&last.evidence)) {
            (Some((verdict, fault)), _) => (verdict, fault),
            (None, verdict) if self.damaged.is_empty() => (verdict, last.fault),
            (None, verdict) if verdict.is_good() => (Verdict::KnownDamage, self.fault),
            // What is recorded is not what is wrong.
            (None, verdict) => (verdict, last.fault),
        };
        let behind = bytes.get(end..).unwrap_or_default();
        let is_linked = last.evidence.link == Link::Matches;
        let tail = (!scanner.is_sealed() && !is_linked && !is_zero(behind)).then(|| {
            let zeros = behind.iter().rev().take_while(|byte| **byte == 0).count();
            Extent { start: end, end: bytes.len() - zeros }
        });
        let mut spoken_of = SpokenOf { event_id: scanner.totals().last_event_id, epoch: opening.epoch };
        if tail.is_some() {
            let after = scanner.totals().commit_sequence;
            find_behind(bytes, end, Some(opening.epoch), after).for_each(|(_, found)| spoken_of.see(&found));
        }
        let segment = SegmentReport {
            name: input.name.to_owned(),
            number: opening.segment_number,
            file_size: input.file_size,
            packed_size: input.packed.map(Packed::packed_size),
            header: scanner.header().copied(),
            opening: Some(opening),
            extents: self.extents,
            totals: *scanner.totals(),
            gaps: scanner.gaps(),
            end,
            synced_end: scanner.synced_end(),
            is_sealed: scanner.is_sealed(),
            tail,
            damaged: self.damaged,
            lost_before: None,
            fault,
            verdict,
            is_verified: !self.is_trusted,
        };
        Examined {
            segment,
            highest_event_id: spoken_of.event_id,
            highest_epoch: spoken_of.epoch,
            contradicts_the_chain: !last.evidence.opening_is_good || last.evidence.link == Link::Differs,
            header_fault: last.fault.filter(|_| scanner.is_sealed() && last.evidence.end == End::Broken),
        }
    }
}

impl SegmentReport {
    /// Bytes that the segment takes of the disk, up to its end.
    pub fn stored_size(&self) -> u64 {
        self.packed_size.unwrap_or(self.end as u64)
    }

    /// Events in it, without those that were taken out since. Where that was not looked at, they are as many as a record says.
    pub const fn events(&self) -> u64 {
        self.totals.events.saturating_sub(self.totals.thinned.events)
    }

    /// The end before events were taken out: as the following segment names it.
    pub const fn original_end(&self) -> u64 {
        self.totals.thinned.original(self.end)
    }

    /// Takes everything in a file for damage: it has no place in the journal.
    fn give_up(&mut self, input: &SegmentInput<'_>, last_event_id: u64) {
        let start = JournalHeader::SIZE as u64;
        let no_place = Fault {
            offset: start,
            kind: FaultKind::Misplaced { found: "segment that nothing here continues" },
        };
        let header = self.header;
        *self = bad_opening(input, last_event_id, self.fault.unwrap_or(no_place));
        self.header = header;
    }
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
        next_event_id: last_event_id.saturating_add(1),
        commit_sequence: 0,
        synced_upto: 0,
        digest: Digest::ZERO,
        thinned: Thinning::default(),
    };
    let mut damaged = Vec::new();
    Extent::push(&mut damaged, Extent { start: 0, end: input.size() });
    SegmentReport {
        name: input.name.to_owned(),
        number: input.number.unwrap_or(0),
        file_size: input.file_size,
        packed_size: input.packed.map(Packed::packed_size),
        header: JournalHeader::parse(input.header_bytes()).ok(),
        opening: None,
        extents: Vec::new(),
        totals,
        gaps: Gaps::default(),
        end: 0,
        synced_end: 0,
        is_sealed: false,
        tail: None,
        damaged,
        lost_before: None,
        fault: Some(fault),
        verdict: decide(&evidence),
        is_verified: true,
    }
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
