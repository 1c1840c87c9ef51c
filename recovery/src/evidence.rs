//! What is known about the end of a segment.

use semj_format::control;
use semj_format::event_header::EVENT_VERSION;
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj_format::{Commit, Digest, EventType, Record, SegmentSeal};

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
    /// What a record is whose checksum is right, if it proves itself.
    fn of(record: &Record<'_>) -> Option<Self> {
        match record.event_type() {
            EventType::JOURNAL_COMMIT => {
                let commit: Commit = control::parse(record).ok()??;
                let is_right =
                    commit.digest == commit.computed_digest() && commit.synced_upto < commit.commit_sequence;
                is_right.then_some(Self::Commit(commit))
            }
            EventType::JOURNAL_SEGMENT_SEAL => {
                let seal: SegmentSeal = control::parse(record).ok()??;
                (seal.digest == seal.computed_digest()).then_some(Self::Seal(seal))
            }
            _ => None,
        }
    }

    pub(crate) const fn epoch(&self) -> u64 {
        match self {
            Self::Commit(commit) => commit.epoch,
            Self::Seal(seal) => seal.epoch,
        }
    }

    /// A seal names the last commit before it, which may be the last one that was accepted.
    pub(crate) const fn sequence(&self) -> u64 {
        match self {
            Self::Commit(commit) => commit.commit_sequence,
            Self::Seal(seal) => seal.commit_sequence.saturating_add(1),
        }
    }

    pub(crate) const fn last_event_id(&self) -> u64 {
        match self {
            Self::Commit(commit) => commit.last_event_id,
            Self::Seal(seal) => seal.last_event_id,
        }
    }

    /// Digest of the commit before.
    pub(crate) const fn previous_digest(&self) -> Digest {
        match self {
            Self::Commit(commit) => commit.previous_digest,
            Self::Seal(seal) => seal.previous_digest,
        }
    }

    fn synced_upto(&self) -> u64 {
        match self {
            Self::Commit(commit) => commit.synced_upto,
            Self::Seal(seal) => seal.synced_upto,
        }
    }
}

/// The records behind an offset: the next one begins at the first offset at which frame and checksum hold, and the one after it
/// is looked for from its end on. So what lies inside a record that is whole is not looked at: an event's payload may be a piece of
/// a journal.
pub(crate) fn records_behind(bytes: &[u8], from: usize) -> impl Iterator<Item = (usize, Record<'_>)> {
    let mut from = from;
    std::iter::from_fn(move || {
        let mut at = from;
        loop {
            if let Ok(record) = Record::parse_verified(bytes.get(at..)?) {
                from = at + record.len();
                return Some((at, record));
            }
            // A record has its version at a fixed place, and in zero bytes, which make up most of a segment's tail, there is none.
            at += 1;
            at += memchr::memmem::find(bytes.get(at + VERSION_AT..)?, &EVENT_VERSION.to_le_bytes())?;
        }
    })
}

/// Where in a record its version stands.
const VERSION_AT: usize = 80;

/// Looks for commits and seals behind a fault that prove themselves: right frame, checksum and digest, the
/// epoch of this segment, a sequence number that is still to come, and none of them inside a record that is whole. An older
/// segment's bytes fail one of these.
pub(crate) fn find_behind(
    bytes: &[u8],
    from: usize,
    epoch: Option<u64>,
    after_sequence: u64,
) -> impl Iterator<Item = (usize, Found)> + '_ {
    let found = records_behind(bytes, from).filter(|(_, record)| record.is_control());
    let found = found.filter_map(|(at, record)| Some((at, Found::of(&record)?)));
    found.filter(move |(_, found)| {
        epoch.is_none_or(|epoch| epoch == found.epoch()) && found.sequence() > after_sequence
    })
}

/// What [`find_behind`] finds behind the first place at which a scan has stopped, looked for once for all of its stops: where the
/// scan goes on, every record that it accepts is one of those that were gone through, so behind a later stop the same is found.
pub(crate) struct Behind {
    /// By their offsets.
    found: Vec<(usize, Found)>,
    /// The places in `found` by sequence number, then offset.
    by_sequence: Vec<usize>,
}

impl Behind {
    /// Looks behind the place where a scan has stopped.
    pub(crate) fn of(scanner: &Scanner<'_>) -> Self {
        let (accepted, epoch) = (scanner.totals().commit_sequence, Some(scanner.opening().epoch));
        let found: Vec<_> = find_behind(scanner.bytes(), scanner.offset(), epoch, accepted).collect();
        let mut by_sequence: Vec<_> = (0..found.len()).collect();
        by_sequence.sort_by_key(|place| found.get(*place).map(|(_, found)| found.sequence()));
        Self { found, by_sequence }
    }

    /// What of it stands behind where the scan is now, and is still to come there.
    pub(crate) fn now(&self, scanner: &Scanner<'_>) -> impl Iterator<Item = (usize, &Found)> + '_ {
        let accepted = scanner.totals().commit_sequence;
        let passed = self.found.partition_point(|(at, _)| *at < scanner.offset());
        let behind = self.found.iter().skip(passed).map(|(at, found)| (*at, found));
        behind.filter(move |(_, found)| found.sequence() > accepted)
    }

    /// Those of it that have this sequence number.
    pub(crate) fn numbered<'a>(
        &'a self,
        scanner: &Scanner<'_>,
        sequence: u64,
    ) -> impl Iterator<Item = (usize, &'a Found)> + 'a {
        let found = |place: &usize| self.found.get(*place).map(|(at, found)| (*at, found));
        let first = self.by_sequence.partition_point(|place| {
            found(place).is_some_and(|(at, found)| (found.sequence(), at) < (sequence, scanner.offset()))
        });
        let of_those = self.by_sequence.iter().skip(first).filter_map(found);
        of_those.take_while(move |(_, found)| found.sequence() == sequence)
    }

    /// Where the last Commit of it ends that stands before an offset.
    pub(crate) fn commit_end_before(&self, offset: usize) -> Option<usize> {
        let before = self.found.get(..self.found.partition_point(|(at, _)| *at < offset))?;
        let (at, _) = before.iter().rfind(|(_, found)| matches!(found, Found::Commit(_)))?;
        Some(at + control::record_size::<Commit>())
    }
}

/// Whether something behind the scan's end, or the header, says that more was durable than was accepted.
pub(crate) fn durable_behind(scanner: &Scanner<'_>, behind: &Behind) -> bool {
    let accepted = scanner.totals().commit_sequence;
    let final_header = scanner.header().is_some_and(|header| {
        header.flags & (FLAG_SEALED | FLAG_CUT) != 0 && header.journal_size > scanner.offset() as u64
    });
    final_header || behind.now(scanner).any(|(_, found)| found.synced_upto() > accepted)
}
