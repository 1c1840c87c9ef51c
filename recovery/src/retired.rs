//! Where a journal begins: behind segments that were taken out of it on purpose.
//!
//! A Compacted record says which segment was the last of them, where it ended and with which digest. The segment that goes
//! on from there proves that the record speaks of this journal, and the record proves that nothing is missing before that
//! segment. Both are held against each other here. A record that no segment goes on from says nothing.

use semj_format::control::{self, Compacted, CompactedKind};

use crate::examine::SegmentInput;
use crate::scanner::Scanner;

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
            .flat_map(|mut scanner| {
                let holder = *scanner.opening();
                let group = scanner.next_group();
                let records = group.into_iter().flat_map(|group| group.records());
                records.filter_map(move |(_, record)| {
                    let compacted = control::parse::<Compacted>(&record).ok()??;
                    let is_retired = compacted.kind == CompactedKind::Retired.code()
                        && compacted.segment_number < holder.segment_number;
                    is_retired.then_some((compacted, holder.journal_uuid))
                })
            })
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
