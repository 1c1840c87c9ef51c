//! What an open for writing says in its new segment of what it found and did: the journal's own records.

use semj_format::control::{Compacted, CompactedKind, DamagedRange, GapReason, PreviousEnd};
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj_format::{EventType, Gap, JournalHeader, Recovered};
use semj_recovery::{Extent, OpenMode, Report, SegmentReport, Tip, Verdict};

use crate::error::Error;

/// Damaged ranges that one Recovered record lists.
const DAMAGED_RANGES_MAX: usize = (48 << 10) / DamagedRange::SIZE;
/// Of a new segment, the part that such records may take.
const DAMAGED_RANGES_PART: u64 = 4;

/// What stands behind a segment's end and goes when its header says so.
pub(crate) fn given_up_tail(segment: &SegmentReport) -> Option<Extent> {
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
pub(crate) fn of_open(
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
        if !all_is_kept || segment.verdict != Verdict::KnownDamage {
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
    if let Some(mark) = report.own_mark()
        && mark.segment_number > kept
        && report.segments.iter().all(|segment| segment.number != mark.segment_number)
    {
        lost.push(DamagedRange { segment_number: mark.segment_number, offset: 0, length: mark.end });
    }
    lost
}

/// Where segments are given up, the records of what was taken out of others may be in them, which must not seem to lack
/// events. Their types are left out: there may be many.
pub(crate) fn of_thinning(report: &Report) -> Vec<(EventType, Vec<u8>)> {
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
pub(crate) fn gap(report: &Report, last_given_id: u64) -> Option<Gap> {
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
