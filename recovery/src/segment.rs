//! Examines one segment by itself: what it proves, and how it ends by its own word and by that of what follows it.

use std::cmp;
use std::collections::HashMap;

use semj_format::control::PreviousEnd;
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj_format::{Commit, ControlError, Digest, HeaderError, JournalHeader, Record, SegmentOpen, Watermark};

use crate::decision::{Verdict, decide};
use crate::evidence::{Behind, End, Evidence, Found, Link, durable_behind, find_behind};
use crate::fault::{Fault, FaultKind};
use crate::known::{HEADER, KnownDamage};
use crate::report::{Extent, OpenMode, Packed, SegmentInput, SegmentReport};
use crate::salvage::Resumption;
use crate::scanner::{Gaps, ScanEnd, Scanner, Thinning, Totals, is_zero};
use crate::trust::{self, NamedEnd, Trusted};

/// What is known of the journal behind a segment.
#[derive(Clone, Copy)]
pub(crate) enum Follows<'a> {
    /// The next segment, by its SegmentOpen.
    Segment(&'a SegmentOpen),
    /// No segment, but how far the journal was durable.
    Mark(&'a Watermark),
    /// A segment that is lost: what stands behind that says nothing of this one.
    Lost,
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
            Self::Mark(_) | Self::Lost | Self::Nothing => None,
        }
    }

    /// Whether the watermark says that more of this very segment was durable than was accepted.
    fn has_durable_behind(self, scanner: &Scanner<'_>) -> bool {
        matches!(self, Self::Mark(mark) if mark.segment_number == scanner.opening().segment_number
            && mark.end > scanner.original_offset())
    }
}

/// What one segment is by itself.
pub(crate) struct Examined {
    pub(crate) segment: SegmentReport,
    /// The highest event id that anything in it speaks of, its end or what stands behind that, and the highest epoch.
    pub(crate) highest_event_id: u64,
    pub(crate) highest_epoch: u64,
    /// No commit of it is right, or the following segment goes on from another end.
    pub(crate) contradicts_the_chain: bool,
    /// What is wrong with the header's figures, where everything else is right up to the seal.
    pub(crate) header_fault: Option<Fault>,
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

/// A segment that was proven when it was sealed or cut, and that nothing contradicts.
pub(crate) fn trusted_segment(
    input: &SegmentInput<'_>,
    last_event_id: u64,
    follows: Follows<'_>,
) -> Option<Examined> {
    let named = match follows {
        Follows::Segment(next) => NamedEnd::of_segment(next),
        Follows::Mark(mark) => NamedEnd::of_mark(mark),
        Follows::Lost | Follows::Nothing => return None,
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
pub(crate) fn examine_segment(
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

/// A file by itself, of which nothing is asked but what proves itself in it. One whose SegmentOpen can't be read, or which is a piece of
/// a segment, is taken for a segment that was opened as the first commit in it would follow.
pub(crate) fn examine_file(input: &SegmentInput<'_>) -> SegmentReport {
    let known = KnownDamage::default();
    let found = examine_segment(input, 0, Follows::Nothing, &known, OpenMode::Salvage, false).segment;
    if found.opening.is_some() || found.verdict == Verdict::Unsupported {
        return found;
    }
    let bytes = input.bytes;
    // What was cut off from behind a segment's end has no header.
    let lowest = if found.header.is_some() { JournalHeader::SIZE } else { 0 };
    let Some((at, first)) = first_of_chain(bytes, lowest) else { return found };
    let opening = SegmentOpen {
        journal_uuid: [0; 16],
        segment_number: found.number,
        epoch: first.epoch,
        previous_segment: 0,
        previous_end: PreviousEnd::None.code(),
        reserved: 0,
        previous_end_offset: 0,
        previous_digest: first.previous_digest,
        next_event_id: 1,
        next_commit_sequence: first.commit_sequence,
        wall_clock_ns: 0,
        monotonic_ns: 0,
        boot_id: [0; 16],
        writer: [0; 32],
    };
    // Where its group begins, unless that is before the file or something was taken out of it: then it is looked for.
    let size = usize::try_from(first.byte_count).unwrap_or(usize::MAX);
    let start = at.checked_sub(size).filter(|start| *start >= lowest).unwrap_or(lowest);
    let scanner = Scanner::assuming(bytes, start, opening, 0);
    let mut rescued =
        examine_scanned(input, scanner, None, Follows::Nothing, &known, OpenMode::Salvage, false).segment;
    if start > lowest {
        // Together with damage that begins there.
        let next = rescued.damaged.first_mut().filter(|damage| damage.start == start);
        match next {
            Some(damage) => damage.start = lowest,
            None => rescued.damaged.insert(0, Extent { start: lowest, end: start }),
        }
    }
    // What stands before its first group is why nothing more proves itself; one that begins with a group never had an opening.
    if start > 0 || lowest > 0 {
        let fault = if lowest > 0 { found.fault } else { Some(first_fault(bytes)) };
        rescued = SegmentReport { fault, verdict: found.verdict, ..rescued };
    }
    SegmentReport { header: found.header, ..rescued }
}

/// Why the first bytes of a file that has no header are not the beginning of a group.
fn first_fault(bytes: &[u8]) -> Fault {
    let kind = match Record::parse_verified(bytes) {
        Err(error) => FaultKind::Record(error),
        Ok(_) => FaultKind::Misplaced { found: "record of a group that does not begin here" },
    };
    Fault { offset: 0, kind }
}

/// The first commit of the chain that a file's last commit or seal ends, and where it stands. Where a commit is lost the chain goes on
/// with the nearest one before that can belong to it. An event's payload may be a piece of another journal, or of this one, and lies
/// open where the event is damaged; but no commit that is right is chained to it.
fn first_of_chain(bytes: &[u8], lowest: usize) -> Option<(usize, Commit)> {
    let found: Vec<_> = find_behind(bytes, lowest, None, 0).collect();
    let commit = |place: usize| match found.get(place) {
        Some((at, Found::Commit(commit))) => Some((*at, *commit)),
        _ => None,
    };
    let by_digest: HashMap<_, _> =
        (0..found.len()).filter_map(|place| Some((commit(place)?.1.digest, place))).collect();
    let mut place = found.len().checked_sub(1)?;
    while let Some((_, now)) = found.get(place) {
        let can_be_before = |before: &usize| {
            commit(*before).is_some_and(|(_, commit)| {
                commit.epoch == now.epoch() && commit.commit_sequence < now.sequence()
            })
        };
        let chained = by_digest.get(&now.previous_digest()).copied().filter(|before| *before < place);
        match chained.or_else(|| (0..place).rev().find(can_be_before)) {
            Some(before) => place = before,
            None => break,
        }
    }
    commit(place)
}

/// Examines one segment with a scanner that was begun. `header` is the header's fault and the verdict on it, where the header is left
/// out of account.
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
    let mut looked_behind: Option<Behind> = None;
    loop {
        let start = scanner.offset();
        while scanner.next_group().is_some() {}
        Extent::push(&mut found.extents, Extent { start, end: scanner.offset() });
        // `next_group` ends only where it has set an end.
        let end = scanner.end().unwrap_or(ScanEnd::Zeros);
        let is_open = matches!(end, ScanEnd::Zeros | ScanEnd::Torn(_) | ScanEnd::Broken(_));
        let durable = is_open && {
            let behind = looked_behind.get_or_insert_with(|| Behind::of(&scanner));
            durable_behind(&scanner, behind) || follows.has_durable_behind(&scanner)
        };
        if durable {
            // A live writer may have gone on between the two looks: what seemed to be missing before a later
            // commit is there by now. Bytes that nobody writes to give the same result again.
            scanner.look_again();
            if let Some(group) = scanner.next_group() {
                Extent::push(&mut found.extents, Extent { start: group.start, end: group.end });
                looked_behind = None;
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
        let behind = looked_behind.as_ref().filter(|_| goes_on);
        if let Some(resumption) = behind.and_then(|behind| Resumption::find(&scanner, behind)) {
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
        } else if matches!(follows, Follows::Lost) && goes_on && scanner.totals().commits > 0 {
            let end = last_end(input, &scanner);
            let lost = Extent { start: damage_start, end };
            if end > damage_start && known.is_from(number, &lost) {
                found.note(stop.fault, None);
                found.damaged.push(lost);
                return found.into_examined(input, &scanner, end, Stop::UNNAMED);
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

/// Where everything ends that a segment had, as far as that can be known where the one that followed it is lost.
fn last_end(input: &SegmentInput<'_>, scanner: &Scanner<'_>) -> usize {
    let zeros = input.bytes.iter().rev().take_while(|byte| **byte == 0).count();
    let header = scanner.header().filter(|header| header.flags & (FLAG_SEALED | FLAG_CUT) != 0);
    let said = header.and_then(|header| usize::try_from(header.journal_size).ok());
    said.unwrap_or(0).max(input.bytes.len() - zeros)
}

/// What the scan came to where it stopped.
#[derive(Clone, Copy)]
struct Stop {
    evidence: Evidence,
    fault: Option<Fault>,
}

impl Stop {
    /// Where everything ends that there was, of which it is known that it is lost.
    const UNNAMED: Self = Self {
        evidence: Evidence {
            opening_is_good: true,
            end: End::Cut,
            durable_behind: false,
            link: Link::Newest,
        },
        fault: None,
    };

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
            Follows::Segment(_) | Follows::Lost | Follows::Nothing => None,
        };
        let link = match follows {
            Follows::Segment(next) if links(next, scanner) => Link::Matches,
            Follows::Segment(_) => Link::Differs,
            _ if missing.is_some() => Link::Missing,
            Follows::Mark(_) | Follows::Lost | Follows::Nothing => Link::Newest,
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
    /// Takes everything in a file for damage: it has no place in the journal.
    pub(crate) fn give_up(&mut self, input: &SegmentInput<'_>, last_event_id: u64) {
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
