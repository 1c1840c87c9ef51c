//! The table that says what the end of a segment means.
//!
//! The rows are those of SPEC.md, "Recovery". Exactly one matches any evidence; a test enumerates it all.
//!
//! The thought behind them: a crash can only lose what was not yet durable, and it loses it from the end. It
//! leaves zero bytes, or bytes of a group that was not finished. So a torn end of the newest segment is what
//! a crash leaves, unless something proves that the torn bytes had been durable. Whole bytes that contradict
//! the chain are never the work of a crash.

use crate::evidence::{End, Evidence, Link};

/// What a segment's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Everything is there, up to an end that is known.
    Whole,
    /// The newest segment was not closed; nothing stands behind its last commit.
    OpenEnd,
    /// The newest segment ends in an unfinished group, which nobody was told was durable.
    TornTail,
    /// Whole bytes contradict the chain behind the last commit known to be durable: not the work of a crash.
    Ambiguous,
    /// Something is damaged that was durable.
    Corrupt,
    /// A newer writer used a layout that is not known here.
    Unsupported,
    /// Damage that an earlier open in salvage mode found and recorded; nothing else is wrong.
    KnownDamage,
}

impl Verdict {
    /// The verdict's number in a Recovered record.
    pub const fn code(self) -> u32 {
        match self {
            Self::Whole => 0,
            Self::OpenEnd => 1,
            Self::TornTail => 2,
            Self::Ambiguous => 3,
            Self::Corrupt => 4,
            Self::Unsupported => 5,
            Self::KnownDamage => 6,
        }
    }

    /// The verdict in a word or two.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::OpenEnd => "open end",
            Self::TornTail => "torn tail",
            Self::Ambiguous => "ambiguous",
            Self::Corrupt => "corrupt",
            Self::Unsupported => "unsupported",
            Self::KnownDamage => "known damage",
        }
    }

    /// Whether the journal may be opened as it is: nothing that was durable is missing without a record of it.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Whole | Self::OpenEnd | Self::TornTail | Self::KnownDamage)
    }
}

/// What a row asks of one part of the evidence.
type Only<T> = Option<&'static [T]>;

struct Row {
    opening_is_good: bool,
    end: Only<End>,
    durable_behind: Option<bool>,
    link: Only<Link>,
    verdict: Verdict,
}

const fn row(end: Only<End>, durable_behind: Option<bool>, link: Only<Link>, verdict: Verdict) -> Row {
    Row { opening_is_good: true, end, durable_behind, link, verdict }
}

const ANY: Option<bool> = None;
const NO: Option<bool> = Some(false);
const YES: Option<bool> = Some(true);
const KNOWN_END: Only<End> = Some(&[End::Sealed, End::Cut]);
const NO_END: Only<End> = Some(&[End::Zeros, End::Torn, End::Broken]);
const NEWEST: Only<Link> = Some(&[Link::Newest]);
const MATCHES: Only<Link> = Some(&[Link::Matches]);
const NO_LOSS: Only<Link> = Some(&[Link::Newest, Link::Matches]);
const LOST: Only<Link> = Some(&[Link::Differs, Link::Missing]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    // opening       end                        durable behind     following segment says
    Row { opening_is_good: false, end: None, durable_behind: ANY, link: None, verdict: Verdict::Corrupt },
    row(Some(&[End::Unsupported]),              ANY,               None,    Verdict::Unsupported),
    row(KNOWN_END,                              ANY,               NO_LOSS, Verdict::Whole),
    row(Some(&[End::Zeros]),                    NO,                NEWEST,  Verdict::OpenEnd),
    row(Some(&[End::Torn]),                     NO,                NEWEST,  Verdict::TornTail),
    row(Some(&[End::Broken]),                   NO,                NEWEST,  Verdict::Ambiguous),
    row(NO_END,                                 YES,               NEWEST,  Verdict::Corrupt),
    row(NO_END,                                 ANY,               MATCHES, Verdict::Corrupt),
    row(Some(&[End::Sealed, End::Cut, End::Zeros, End::Torn, End::Broken]),
                                                ANY,               LOST,    Verdict::Corrupt),
];

impl Row {
    fn matches(&self, evidence: &Evidence) -> bool {
        self.opening_is_good == evidence.opening_is_good
            && self.end.is_none_or(|ends| ends.contains(&evidence.end))
            && self.durable_behind.is_none_or(|durable| durable == evidence.durable_behind)
            && self.link.is_none_or(|links| links.contains(&evidence.link))
    }
}

/// What the evidence means.
pub fn decide(evidence: &Evidence) -> Verdict {
    // The test below shows that a row always matches; were it not so, nothing would be touched.
    TABLE.iter().find(|row| row.matches(evidence)).map_or(Verdict::Corrupt, |row| row.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_have_the_codes_and_names_of_the_specification() {
        let verdicts = [
            (Verdict::Whole, 0, "whole"),
            (Verdict::OpenEnd, 1, "open end"),
            (Verdict::TornTail, 2, "torn tail"),
            (Verdict::Ambiguous, 3, "ambiguous"),
            (Verdict::Corrupt, 4, "corrupt"),
            (Verdict::Unsupported, 5, "unsupported"),
            (Verdict::KnownDamage, 6, "known damage"),
        ];
        assert!(
            verdicts.iter().all(|(verdict, code, name)| (verdict.code(), verdict.name()) == (*code, *name))
        );
    }

    #[test]
    fn exactly_one_row_matches_any_evidence() {
        let ends = [End::Sealed, End::Cut, End::Zeros, End::Torn, End::Broken, End::Unsupported];
        let mut inputs = 0;
        for opening_is_good in [false, true] {
            for end in ends {
                for durable_behind in [false, true] {
                    for link in [Link::Newest, Link::Matches, Link::Differs, Link::Missing] {
                        let evidence = Evidence { opening_is_good, end, durable_behind, link };
                        let rows = TABLE.iter().filter(|row| row.matches(&evidence)).count();
                        assert_eq!(rows, 1, "{evidence:?}");
                        inputs += 1;
                    }
                }
            }
        }
        assert_eq!(inputs, 96);
    }

    #[test]
    fn only_a_torn_end_of_the_newest_segment_that_was_not_durable_is_cut() {
        let torn =
            Evidence { opening_is_good: true, end: End::Torn, durable_behind: false, link: Link::Newest };
        assert_eq!(decide(&torn), Verdict::TornTail);
        assert_eq!(decide(&Evidence { durable_behind: true, ..torn }), Verdict::Corrupt);
        assert_eq!(decide(&Evidence { link: Link::Matches, ..torn }), Verdict::Corrupt);
        assert_eq!(decide(&Evidence { link: Link::Missing, ..torn }), Verdict::Corrupt);
        assert_eq!(decide(&Evidence { opening_is_good: false, ..torn }), Verdict::Corrupt);
        assert_eq!(decide(&Evidence { end: End::Broken, ..torn }), Verdict::Ambiguous);
    }
}
