//! What is taken as proven already, so that opening a journal need not read all of it.
//!
//! A segment is sealed, or cut by an earlier open, after every byte of it was proven and durable. Its header says so, its
//! last record says what it holds, and the segment behind it, or the watermark, names its digest. Where all of that fits
//! together, the bytes between are not looked at: [`crate::SegmentReport::is_verified`] is false then, and who reads
//! such a segment checks each record. Of the newest segment what stands before the watermark is taken as proven in the same
//! way.
//!
//! Where anything does not fit, nothing is decided here: the segment is examined like any other.

use semj_format::control::{self, PreviousEnd, Thinned};
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{
    Commit, Digest, EventType, JournalHeader, Record, Records, SegmentOpen, SegmentSeal, Watermark,
};

use crate::scanner::{Scanner, Thinning, Totals};

/// How much of a journal is proven when it is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    /// What was not known to be durable: the rest was proven when it was, and each record is checked when it is read.
    #[default]
    Newest,
    /// That, and all of each segment up to the one with this number.
    Through(u64),
    /// Every record's checksum and every commit's and seal's digest.
    Everything,
}

impl Proof {
    /// Whether what a segment says of itself is taken as proven, if it fits together.
    pub const fn trusts(self, segment_number: u64) -> bool {
        match self {
            Self::Newest => true,
            Self::Through(number) => segment_number > number,
            Self::Everything => false,
        }
    }
}

/// The end of a segment as something that was written later names it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NamedEnd {
    journal_uuid: [u8; 16],
    segment_number: u64,
    end: u64,
    commit_sequence: u64,
    digest: Digest,
    is_sealed: Option<bool>,
}

impl NamedEnd {
    pub(crate) fn of_segment(next: &SegmentOpen) -> Self {
        Self {
            journal_uuid: next.journal_uuid,
            segment_number: next.previous_segment,
            end: next.previous_end_offset,
            commit_sequence: next.next_commit_sequence.wrapping_sub(1),
            digest: next.previous_digest,
            is_sealed: Some(next.previous_end == PreviousEnd::Sealed.code()),
        }
    }

    pub(crate) const fn of_mark(mark: &Watermark) -> Self {
        Self {
            journal_uuid: mark.journal_uuid,
            segment_number: mark.segment_number,
            end: mark.end,
            commit_sequence: mark.commit_sequence,
            digest: mark.digest,
            is_sealed: None,
        }
    }

    /// Whether this is about the segment that was opened so.
    fn is_of(&self, opening: &SegmentOpen) -> bool {
        self.journal_uuid == opening.journal_uuid && self.segment_number == opening.segment_number
    }
}

/// A segment that needs no scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trusted {
    pub(crate) totals: Totals,
    pub(crate) end: usize,
    pub(crate) is_sealed: bool,
}

/// A segment whose header is final and whose end is the one that is named. Where only its beginning is scanned, it comes
/// with its last record.
pub(crate) fn whole_segment(
    scanner: &Scanner<'_>,
    last_record: Option<&[u8]>,
    named: &NamedEnd,
) -> Option<Trusted> {
    let header = scanner.header()?;
    let is_sealed = header.flags & FLAG_SEALED != 0;
    let is_final = is_sealed || header.flags & FLAG_CUT != 0;
    // Of one that events were taken out of, the end is named that it had before.
    let is_thinned = header.flags & FLAG_THINNED != 0;
    let fits = named.is_of(scanner.opening())
        && (named.end == header.journal_size || is_thinned)
        && named.is_sealed.is_none_or(|sealed| sealed == is_sealed);
    if !is_final || !fits {
        return None;
    }
    let end = usize::try_from(header.journal_size).ok()?;
    let mut totals = match last_record {
        _ if !is_sealed => of_walk(scanner, end)?,
        Some(last_record) => of_seal(scanner, last_record, end, is_thinned)?,
        None => of_seal(scanner, seal_before(scanner.bytes(), end)?, end, is_thinned)?,
    };
    // The seal does not count the ids that Gaps speak of.
    totals.miss_upto(header.next_event_id.saturating_sub(1));
    let is_named = totals.digest == named.digest && totals.commit_sequence == named.commit_sequence;
    if is_thinned {
        // It may have become longer: a lone small event leaves a larger record.
        totals.thinned.bytes = named.end.wrapping_sub(end as u64).cast_signed();
    }
    let has_records = is_thinned || totals.records == header.total_events;
    (is_named && has_records && totals.thinned.original(end) == named.end).then_some(Trusted {
        totals,
        end,
        is_sealed,
    })
}

/// What stands in the newest segment before the watermark.
pub(crate) fn marked_prefix(scanner: &Scanner<'_>, mark: &NamedEnd) -> Option<Trusted> {
    if !mark.is_of(scanner.opening()) {
        return None;
    }
    let end = usize::try_from(mark.end).ok()?;
    let totals = of_walk(scanner, end)?;
    let is_named = totals.digest == mark.digest && totals.commit_sequence == mark.commit_sequence;
    is_named.then_some(Trusted { totals, end, is_sealed: false })
}

/// The bytes of a seal that ends at `end`.
fn seal_before(bytes: &[u8], end: usize) -> Option<&[u8]> {
    bytes.get(end.checked_sub(control::record_size::<SegmentSeal>())?..end)
}

/// The totals as the seal in these bytes, which stand before `end`, has them.
fn of_seal(scanner: &Scanner<'_>, bytes: &[u8], end: usize, is_thinned: bool) -> Option<Totals> {
    let start = end.checked_sub(bytes.len())?;
    let record = Record::parse_verified(bytes).ok()?;
    let seal = control::parse::<SegmentSeal>(&record).ok()??;
    let opening = scanner.opening();
    let fits = record.len() == end - start
        && seal.digest == seal.computed_digest()
        && seal.segment_number == opening.segment_number
        && seal.epoch == opening.epoch
        && (seal.byte_count == (start - JournalHeader::SIZE) as u64 || is_thinned);
    let last_event_id = seal.last_event_id.max(scanner.totals().last_event_id);
    fits.then_some(Totals {
        records: seal.record_count.checked_add(1)?,
        events: seal.event_count,
        commits: seal.commit_count,
        first_event_id: seal.first_event_id,
        last_event_id,
        next_event_id: last_event_id.saturating_add(1),
        commit_sequence: seal.commit_sequence,
        synced_upto: seal.synced_upto,
        digest: seal.digest,
        thinned: Thinning::default(),
    })
}

/// The totals by the frames of the records, the last of which is a right Commit that ends at `end`.
fn of_walk(scanner: &Scanner<'_>, end: usize) -> Option<Totals> {
    let bytes = scanner.bytes().get(..end)?;
    let mut totals = *scanner.totals();
    let mut last = None;
    for found in Records::new(bytes, JournalHeader::SIZE) {
        let (_, record) = found.ok()?;
        last = None;
        if let Some(gone) = Thinned::parse(&record) {
            totals.records += u64::from(gone.event_count);
            totals.events += u64::from(gone.event_count);
            continue;
        }
        totals.records += 1;
        if !record.is_control() {
            totals.events += 1;
        } else if record.event_type() == EventType::JOURNAL_COMMIT {
            // What is taken from it has to be what was written.
            record.verify_checksum().ok()?;
            let commit = control::parse::<Commit>(&record).ok()??;
            totals.commits += 1;
            totals.see_id(commit.last_event_id);
            if totals.first_event_id == 0 {
                totals.first_event_id = commit.first_event_id;
            }
            last = Some(commit);
        } else if record.event_type() == EventType::JOURNAL_GAP && record.verify_checksum().is_ok() {
            totals.miss_upto(control::missing_upto(&record));
        }
    }
    let commit = last?;
    let is_right = commit.digest == commit.computed_digest() && commit.epoch == scanner.opening().epoch;
    totals.commit_sequence = commit.commit_sequence;
    totals.synced_upto = commit.synced_upto;
    totals.digest = commit.digest;
    is_right.then_some(totals)
}
