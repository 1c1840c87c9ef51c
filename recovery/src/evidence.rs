//! What is known about the end of a segment.

use semj_format::control;
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj_format::{Commit, EventType, Record, SegmentSeal};

use crate::scanner::{ScanEnd, Scanner};

/// Everything that the decision is taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Whether header, SegmentOpen and the first commit are right.
    pub opening_is_good: bool,
    /// How the scan ended.
    pub end: End,
    /// Whether something says that more was durable than the scan could accept.
    pub durable_behind: bool,
    /// What the following segment says of this one's end.
    pub link: Link,
}

/// [`ScanEnd`] without its particulars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A right seal.
    Sealed,
    /// The offset at which the following segment, or the segment's own header, says that it was cut.
    Cut,
    /// Only zero bytes behind the last commit.
    Zeros,
    /// Bytes that are no complete group.
    Torn,
    /// Bytes that are whole and contradict the chain.
    Broken,
    /// A control record whose layout is not known here.
    Unsupported,
}

impl End {
    /// The end's particulars left out.
    pub const fn of(end: &ScanEnd) -> Self {
        match end {
            ScanEnd::Sealed(_) => Self::Sealed,
            ScanEnd::Limit => Self::Cut,
            ScanEnd::Zeros => Self::Zeros,
            ScanEnd::Torn(_) => Self::Torn,
            ScanEnd::Broken(_) => Self::Broken,
            ScanEnd::Unsupported(_) => Self::Unsupported,
        }
    }
}

/// What the following segment's SegmentOpen, or the watermark in its place, says of a segment's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// There is no following segment: this one is the newest.
    Newest,
    /// What was found here.
    Matches,
    /// Something else.
    Differs,
    /// There is no following segment here, but the watermark says that the journal went on behind this end.
    Missing,
}

/// A commit or a seal that was found behind the first fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Commit(Commit),
    Seal(SegmentSeal),
}

impl Found {
    fn synced_upto(&self) -> u64 {
        match self {
            Self::Commit(commit) => commit.synced_upto,
            Self::Seal(seal) => seal.synced_upto,
        }
    }
}

/// Looks for commits and seals behind a fault that prove themselves: right frame, checksum and digest, the
/// epoch of this segment, a sequence number that is still to come. An older segment's bytes, or those of
/// another journal in some event's payload, fail one of these.
pub(crate) fn find_behind<'a>(
    bytes: &'a [u8],
    from: usize,
    epoch: Option<u64>,
    after_sequence: u64,
) -> impl Iterator<Item = (usize, Found)> + 'a {
    // The first 16 bytes of such a record: event_id 0, the type, subtype 0. The type's own bytes are looked
    // for, because in zero bytes, which make up most of a segment's tail, only they are rare.
    let tail = bytes.get(from..).unwrap_or_default();
    memchr::memchr_iter(0x07, tail).filter_map(move |hit| {
        let at = (from + hit).checked_sub(9)?;
        if at < from {
            return None;
        }
        let found = Record::parse(bytes.get(at..)?).ok().filter(Record::is_control)?;
        let (found, found_epoch, sequence) = match found.event_type() {
            EventType::JOURNAL_COMMIT => {
                found.verify_checksum().ok()?;
                let commit: Commit = control::parse(&found).ok()??;
                (commit.digest == commit.computed_digest() && commit.synced_upto < commit.commit_sequence)
                    .then_some((Found::Commit(commit), commit.epoch, commit.commit_sequence))?
            }
            EventType::JOURNAL_SEGMENT_SEAL => {
                found.verify_checksum().ok()?;
                let seal: SegmentSeal = control::parse(&found).ok()??;
                // A seal names the last commit before it, which may be the last one that was accepted.
                (seal.digest == seal.computed_digest()).then_some((
                    Found::Seal(seal),
                    seal.epoch,
                    seal.commit_sequence.saturating_add(1),
                ))?
            }
            _ => return None,
        };
        (epoch.is_none_or(|epoch| epoch == found_epoch) && sequence > after_sequence).then_some((at, found))
    })
}

/// Whether something behind the scan's end, or the header, says that more was durable than was accepted.
pub(crate) fn durable_behind(scanner: &Scanner<'_>) -> bool {
    let accepted = scanner.totals().commit_sequence;
    let final_header = scanner.header().is_some_and(|header| {
        header.flags & (FLAG_SEALED | FLAG_CUT) != 0 && header.journal_size > scanner.offset() as u64
    });
    final_header
        || find_behind(scanner.bytes(), scanner.offset(), Some(scanner.opening().epoch), accepted)
            .any(|(_, found)| found.synced_upto() > accepted)
}
