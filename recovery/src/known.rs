//! Known damage: what earlier opens found, accepted as lost and recorded.

use semj_format::control::{self, DamagedRange};
use semj_format::{JournalHeader, Recovered, SegmentOpen};

use crate::report::{Extent, SegmentInput};
use crate::scanner::Scanner;

/// The ranges that the Recovered records of a journal list.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownDamage(Vec<DamagedRange>);

impl KnownDamage {
    /// Ranges that adjoin or overlap are one.
    pub(crate) fn new(ranges: &[DamagedRange]) -> Self {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable_by_key(|range| (range.segment_number, range.offset));
        ranges.dedup_by(|next, before| {
            let end = before.offset.saturating_add(before.length);
            let adjoins = next.segment_number == before.segment_number && next.offset <= end;
            if adjoins {
                before.length = before.length.max(next.offset.saturating_add(next.length) - before.offset);
            }
            adjoins
        });
        Self(ranges)
    }

    /// They stand in the first group of a segment, and are believed whatever that segment's header says.
    pub(crate) fn of(inputs: &[SegmentInput<'_>]) -> Self {
        let first_groups =
            inputs.iter().filter_map(|input| Scanner::without_header(input.bytes, 0).ok()?.next_group());
        let ranges = first_groups
            .flat_map(|group| group.records())
            .filter(|(_, record)| matches!(control::parse::<Recovered>(record), Ok(Some(_))))
            .flat_map(|(_, record)| control::damaged_ranges(&record));
        Self::new(&ranges.collect::<Vec<_>>())
    }

    pub(crate) fn ranges(&self) -> &[DamagedRange] {
        &self.0
    }

    /// Whether there is any of this segment.
    pub(crate) fn is_any(&self, segment_number: u64) -> bool {
        self.0.iter().any(|range| range.segment_number == segment_number)
    }

    /// Whether all of these bytes are known to be damaged.
    pub(crate) fn covers(&self, segment_number: u64, damage: &Extent) -> bool {
        self.covers_range(segment_number, damage.start as u64, damage.end as u64)
    }

    /// Whether it is known that everything between these places is damaged, and nothing right before it.
    pub(crate) fn is_from(&self, segment_number: u64, damage: &Extent) -> bool {
        let begins = |range: &DamagedRange| {
            range.segment_number == segment_number && range.offset == damage.start as u64
        };
        self.0.iter().any(begins) && self.covers(segment_number, damage)
    }

    /// Whether the segment's header is known to be damaged.
    pub(crate) fn covers_header(&self, segment_number: u64) -> bool {
        self.covers(segment_number, &HEADER)
    }

    /// Whether the segment before this one is known to be lost, from its beginning to its end.
    pub(crate) fn covers_segment_before(&self, opening: &SegmentOpen) -> bool {
        self.covers_range(opening.previous_segment, 0, opening.previous_end_offset)
    }

    /// A segment that was the newest and is known to be lost: none goes on from it, and this one's number is higher.
    pub(crate) fn lost_newest_before(&self, opening: &SegmentOpen) -> Option<DamagedRange> {
        let is_between = |number| number > opening.previous_segment && number < opening.segment_number;
        self.0.iter().copied().find(|range| range.offset == 0 && is_between(range.segment_number))
    }

    fn covers_range(&self, segment_number: u64, start: u64, end: u64) -> bool {
        covers(&self.0, segment_number, start, end)
    }
}

/// Where a segment's header stands.
pub(crate) const HEADER: Extent = Extent { start: 0, end: JournalHeader::SIZE };

/// Whether one of these ranges covers everything between two places of a segment.
pub(crate) fn covers(ranges: &[DamagedRange], segment_number: u64, start: u64, end: u64) -> bool {
    ranges.iter().any(|range| {
        range.segment_number == segment_number
            && range.offset <= start
            && end <= range.offset.saturating_add(range.length)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_adjoin_or_overlap_are_one() {
        let range = |segment_number, offset, length| DamagedRange { segment_number, offset, length };
        let ranges =
            [range(2, 300, 50), range(1, 100, 50), range(1, 150, 50), range(1, 120, 10), range(1, 201, 9)];
        let known = KnownDamage::new(&ranges);
        assert!(known.covers(1, &Extent { start: 100, end: 200 }), "of two records that stand back to back");
        assert!(
            !known.covers(1, &Extent { start: 100, end: 202 }),
            "a byte between them is not known to be lost"
        );
        assert!(known.covers(2, &Extent { start: 310, end: 350 }) && !known.is_any(3));
        // The last number there is does no harm.
        assert!(KnownDamage::new(&[range(1, 5, u64::MAX), range(1, 7, u64::MAX)]).is_any(1));
    }
}
