//! Where a journal begins: behind segments that were taken out of it on purpose.
//!
//! A Compacted record says which segment was the last of them, where it ended and with which digest. The segment that goes
//! on from there proves that the record speaks of this journal, and the record proves that nothing is missing before that
//! segment. Both are held against each other here. A record that no segment goes on from says nothing.

use semj_format::control::{self, Compacted, CompactedKind};
use semj_format::{JournalHeader, Record, SegmentOpen};

use crate::decision::Verdict;
use crate::fault::{Fault, FaultKind};
use crate::report::{SegmentInput, SegmentReport};
use crate::scanner::{Group, Scanner};

/// What the journal begins behind, and how many of the files are none of its segments any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    pub(crate) retired: Compacted,
    /// Files of retired segments, which somebody still has to remove: so many of the first ones.
    pub(crate) leftovers: usize,
}

impl Beginning {
    /// By the Compacted records in the first groups of the segments. Of several the one counts that speaks of the highest
    /// segment.
    pub(crate) fn of(inputs: &[SegmentInput<'_>]) -> Option<Self> {
        let scanners: Vec<_> =
            inputs.iter().map(|input| Scanner::without_header(input.bytes, 0).ok()).collect();
        let openings: Vec<_> =
            scanners.iter().map(|scanner| scanner.as_ref().map(|scanner| *scanner.opening())).collect();
        let mut statements: Vec<_> = scanners
            .into_iter()
            .flatten()
            .flat_map(|scanner| statements(scanner, CompactedKind::Retired))
            .map(|(retired, _, journal_uuid)| (retired, journal_uuid))
            .collect();
        statements.sort_by_key(|(retired, _)| std::cmp::Reverse(retired.segment_number));
        statements.into_iter().find_map(|(retired, journal_uuid)| {
            // A name without a number is that of a file that is looked at alone.
            let leftovers = inputs
                .iter()
                .position(|input| input.number.is_some_and(|number| number > retired.segment_number))?;
            let next = openings.get(leftovers)?.as_ref()?;
            let goes_on = next.journal_uuid == journal_uuid && retired.continues_in(next);
            goes_on.then_some(Self { retired, leftovers })
        })
    }
}

/// What the first group of a segment says of segments that were retired, which are earlier ones; `None` if there is no such group,
/// or it is not right. It proves nothing by itself: see SPEC.md, "Retired segments".
pub fn retired_before(mut scanner: Scanner<'_>) -> Option<Vec<Compacted>> {
    let holder = *scanner.opening();
    let group = scanner.next_group()?;
    Some(statements_in(&group, holder, CompactedKind::Retired).map(|(retired, ..)| retired).collect())
}

/// What the first group of a segment says of earlier ones, with the records and the journal's UUID.
fn statements(
    mut scanner: Scanner<'_>,
    kind: CompactedKind,
) -> impl Iterator<Item = (Compacted, Record<'_>, [u8; 16])> {
    let holder = *scanner.opening();
    scanner.next_group().into_iter().flat_map(move |group| statements_in(&group, holder, kind))
}

fn statements_in<'a>(
    group: &Group<'a>,
    holder: SegmentOpen,
    kind: CompactedKind,
) -> impl Iterator<Item = (Compacted, Record<'a>, [u8; 16])> + use<'a> {
    group.records().filter_map(move |(_, record)| {
        let compacted = control::parse::<Compacted>(&record).ok()??;
        let is_of_an_earlier_one =
            compacted.kind == kind.code() && compacted.segment_number < holder.segment_number;
        is_of_an_earlier_one.then_some((compacted, record, holder.journal_uuid))
    })
}

/// Segments that events were taken out of, as later segments say.
#[derive(Debug, Default)]
pub(crate) struct Thinned {
    statements: Vec<(Compacted, [u8; 16])>,
    /// The bodies of those records, with what follows them.
    pub(crate) bodies: Vec<Vec<u8>>,
}

impl Thinned {
    pub(crate) fn of(inputs: &[SegmentInput<'_>]) -> Self {
        let mut thinned = Self::default();
        for input in inputs {
            let Ok(scanner) = Scanner::without_header(input.bytes, 0) else { continue };
            for (statement, record, journal_uuid) in statements(scanner, CompactedKind::Thinned) {
                thinned.statements.push((statement, journal_uuid));
                thinned.bodies.push(record.payload().to_vec());
            }
        }
        thinned
    }

    /// Whether it is said of a segment that so many events were taken out of it.
    fn says(&self, segment: &SegmentReport) -> bool {
        let uuid = segment.opening.map(|opening| opening.journal_uuid);
        self.statements.iter().any(|(statement, journal_uuid)| {
            statement.segment_number == segment.number
                && statement.digest == segment.totals.digest
                && statement.event_count >= segment.totals.thinned.events
                && Some(*journal_uuid) == uuid
        })
    }

    /// How many events were taken out of a segment at most, as is said.
    fn said_of(&self, segment: &SegmentReport) -> u64 {
        let of_it = self.statements.iter().map(|(statement, _)| statement).filter(|statement| {
            statement.segment_number == segment.number && statement.digest == segment.totals.digest
        });
        of_it.map(|statement| statement.event_count).max().unwrap_or(0)
    }

    /// Finds fault with a segment that lacks events of which nothing says that they were taken out. A file that is looked at
    /// alone has nobody who could say so.
    pub(crate) fn judge(&self, input: &SegmentInput<'_>, segment: &mut SegmentReport, is_to_be_said: bool) {
        let is_thinned = segment.totals.thinned != crate::scanner::Thinning::default();
        if is_thinned && !segment.is_verified {
            // The seal counts those too that are gone, and nobody has looked for what stands in their place.
            let events = self.said_of(segment);
            let (before, left) =
                (segment.totals.records, segment.header.map_or(0, |header| header.total_events));
            segment.totals.thinned.events = events;
            segment.totals.thinned.records = left.wrapping_add(events).wrapping_sub(before);
        }
        let is_asked = input.number.is_some() && is_to_be_said;
        if is_asked && is_thinned && segment.verdict.is_good() && !self.says(segment) {
            let kind =
                FaultKind::Unstated { taken_out: segment.totals.thinned.events, said: self.said_of(segment) };
            segment.verdict = Verdict::Corrupt;
            segment.fault = Some(Fault { offset: JournalHeader::SIZE as u64, kind });
        }
    }
}
