//! The journal's own records (category 0x0700), which say how the events around them hang together.
//!
//! They are ordinary records with `event_id` 0 whose payload is one of the bodies below. `event_subtype` is
//! the body's layout version; a body never changes its size under the same version.

use thiserror::Error;

use crate::digest::{self, Digest};
use crate::draft::Draft;
use crate::event_header::EventHeader;
use crate::event_type::EventType;
use crate::layout::{Field, on_disk};
use crate::record::Record;

impl Field for Digest {
    const SIZE: usize = 32;
    #[inline(always)]
    fn load(bytes: &[u8], at: usize) -> Self {
        Self(Field::load(bytes, at))
    }
    #[inline(always)]
    fn store(&self, bytes: &mut [u8], at: usize) {
        self.0.store(bytes, at);
    }
}

/// Why a record is not the control record that its type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ControlError {
    /// A layout version that is not known here.
    #[error("{event_type} has layout version {found}, this reader knows version 0")]
    Version {
        /// The record's type.
        event_type: EventType,
        /// Its `event_subtype`.
        found: u32,
    },
    /// A body of another size than its layout has.
    #[error("{event_type} has a body of {found} bytes, expected {expected}")]
    Size {
        /// The record's type.
        event_type: EventType,
        /// Bytes of payload.
        found: usize,
        /// Bytes that the layout has.
        expected: usize,
    },
}

on_disk! {
    /// The first record of every segment: what journal it belongs to, and where the journal came from.
    pub struct SegmentOpen [168] {
        /// The journal's UUID, the same in all its segments.
        0 journal_uuid: [u8; 16],
        /// The segment's number. Numbers grow and are never used again.
        16 segment_number: u64,
        /// New at every open of the journal for writing; grows.
        24 epoch: u64,
        /// The number of the segment before, 0 in the first.
        32 previous_segment: u64,
        /// How the segment before ended: see [`PreviousEnd`].
        40 previous_end: u32,
        /// Zero.
        44 reserved: u32,
        /// Where the segment before ends: behind its seal, or where it was cut. 0 in the first.
        48 previous_end_offset: u64,
        /// The digest of the previous segment's seal, or of its last commit before the cut; zero in the first.
        56 previous_digest: Digest,
        /// No event of this segment has a smaller id.
        88 next_event_id: u64,
        /// The sequence number that the first commit of this segment has.
        96 next_commit_sequence: u64,
        /// CLOCK_REALTIME, nanoseconds since 1970, at the same moment as the next field.
        104 wall_clock_ns: i64,
        /// CLOCK_MONOTONIC, nanoseconds: the clock of `ktime_ns`.
        112 monotonic_ns: i64,
        /// Which boot of the machine the monotonic clock belongs to; zero where that is not known.
        120 boot_id: [u8; 16],
        /// The writer's name and version, text, NUL-padded.
        136 writer: [u8; 32],
    }
}

/// The values of [`SegmentOpen::previous_end`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviousEnd {
    /// There is no segment before.
    None,
    /// It was sealed.
    Sealed,
    /// Its end was not clean: it ends at `previous_end_offset`, whatever stands behind.
    Cut,
}

impl PreviousEnd {
    /// The number on disk.
    pub const fn code(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Sealed => 1,
            Self::Cut => 2,
        }
    }

    /// The value with this number.
    pub const fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::None,
            1 => Self::Sealed,
            2 => Self::Cut,
            _ => return None,
        })
    }
}

impl SegmentOpen {
    /// When an event of the segment happened, by the segment's clocks: nanoseconds since 1970, as far as an `i64` goes.
    pub fn wall_clock_of(&self, ktime_ns: i64) -> i64 {
        let wall = i128::from(ktime_ns) - i128::from(self.monotonic_ns) + i128::from(self.wall_clock_ns);
        wall.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// What the monotonic clock showed when the wall clock showed this, or would have. The least and the greatest time stand for
    /// all before and behind.
    pub fn ktime_of(&self, wall_clock_ns: i64) -> i64 {
        if wall_clock_ns == i64::MIN || wall_clock_ns == i64::MAX {
            return wall_clock_ns;
        }
        let ktime =
            i128::from(wall_clock_ns) - i128::from(self.wall_clock_ns) + i128::from(self.monotonic_ns);
        ktime.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }
}

on_disk! {
    /// Stands behind each group of records and makes them part of the journal.
    pub struct Commit [160] {
        /// Numbers the commits of the journal, from 1, without a hole.
        0 commit_sequence: u64,
        /// The epoch of the segment.
        8 epoch: u64,
        /// The lowest id in the group, 0 where it has no event.
        16 first_event_id: u64,
        /// The highest id in the group, 0 where it has no event.
        24 last_event_id: u64,
        /// Records of the group, the journal's own included, this one not.
        32 record_count: u32,
        /// Events among them.
        36 event_count: u32,
        /// Bytes of those records.
        40 byte_count: u64,
        /// The highest commit that was known to be durable when this one was written; 0 none.
        48 synced_upto: u64,
        /// [`Commit::FLAG_BY_PRIORITY`].
        56 flags: u32,
        /// Zero.
        60 reserved: u32,
        /// Root of the Merkle tree over the group's records.
        64 root: Digest,
        /// Digest of the commit before; in a segment's first commit the `previous_digest` of its SegmentOpen.
        96 previous_digest: Digest,
        /// SHA-256 over the byte 0x02 and the 128 bytes above.
        128 digest: Digest,
    }
}

impl Commit {
    /// Flag: the group's records are in the order of their priorities, not of their ids.
    pub const FLAG_BY_PRIORITY: u32 = 0x1;

    /// The digest that belongs to the other fields.
    pub fn computed_digest(&self) -> Digest {
        digest::commit(&self.encode()[..128])
    }

    /// The same with the digest of its other fields.
    pub fn with_digest(mut self) -> Self {
        self.digest = self.computed_digest();
        self
    }
}

on_disk! {
    /// The last record of a segment that was closed in order.
    pub struct SegmentSeal [176] {
        /// The segment's number.
        0 segment_number: u64,
        /// The epoch of the segment.
        8 epoch: u64,
        /// Sequence number of the segment's last commit.
        16 commit_sequence: u64,
        /// Commits in the segment.
        24 commit_count: u64,
        /// Records in the segment, this one not.
        32 record_count: u64,
        /// Events among them.
        40 event_count: u64,
        /// The lowest id of an event, 0 where there is none.
        48 first_event_id: u64,
        /// The highest id of an event, 0 where there is none.
        56 last_event_id: u64,
        /// Bytes from offset 52 to this record.
        64 byte_count: u64,
        /// The highest commit that was known to be durable when this record was written.
        72 synced_upto: u64,
        /// Root of the Merkle tree over the segment's commit records.
        80 root: Digest,
        /// Digest of the last commit.
        112 previous_digest: Digest,
        /// SHA-256 over the byte 0x03 and the 144 bytes above.
        144 digest: Digest,
    }
}

impl SegmentSeal {
    /// The digest that belongs to the other fields.
    pub fn computed_digest(&self) -> Digest {
        digest::seal(&self.encode()[..144])
    }

    /// The same with the digest of its other fields.
    pub fn with_digest(mut self) -> Self {
        self.digest = self.computed_digest();
        self
    }
}

on_disk! {
    /// Written behind SegmentOpen by an open that found the journal's end unclean, or damage that it was told
    /// to live with. The body is followed by `range_count` [`DamagedRange`]s.
    pub struct Recovered [56] {
        /// The last segment that was kept.
        0 segment_number: u64,
        /// The last commit that was kept.
        8 commit_sequence: u64,
        /// Where that segment was cut.
        16 cut_offset: u64,
        /// Bytes behind the cut that were moved to quarantine.
        24 quarantined_bytes: u64,
        /// Events of the journal that were kept.
        32 kept_events: u64,
        /// How the journal was opened: 0 strict, 1 point in time, 2 salvage.
        40 mode: u32,
        /// The verdict's code: see SPEC.md, "Recovery".
        44 verdict: u32,
        /// How many damaged ranges follow.
        48 range_count: u32,
        /// Zero.
        52 reserved: u32,
    }
}

on_disk! {
    /// Bytes of a segment that are known to be damaged and were accepted as lost.
    pub struct DamagedRange [24] {
        /// The segment's number.
        0 segment_number: u64,
        /// Where the damage begins.
        8 offset: u64,
        /// How many bytes it covers.
        16 length: u64,
    }
}

on_disk! {
    /// Events that are missing, and why. The body is followed by `type_count` [`GapType`]s.
    pub struct Gap [32] {
        /// The first id that is missing.
        0 first_event_id: u64,
        /// The last id that is missing.
        8 last_event_id: u64,
        /// How many events are missing; 0 where that is not known.
        16 event_count: u64,
        /// See [`GapReason`].
        24 reason: u32,
        /// How many types follow.
        28 type_count: u32,
    }
}

on_disk! {
    /// How many events of one type are missing.
    pub struct GapType [16] {
        /// The type's number.
        0 event_type: u32,
        /// Zero.
        4 reserved: u32,
        /// How many.
        8 event_count: u64,
    }
}

on_disk! {
    /// Content was taken out of the journal on purpose, and how the journal is proven without it. Written before it goes.
    /// The body is followed by `type_count` [`GapType`]s.
    pub struct Compacted [128] {
        /// See [`CompactedKind`].
        0 kind: u32,
        /// With `Retired` the limits that were passed, see [`Compacted::BYTES`]; 0 otherwise.
        4 reason: u32,
        /// With `Retired` the last segment that is no part of the journal any more, and all before it are none either.
        8 segment_number: u64,
        /// Where that segment ends.
        16 end_offset: u64,
        /// Sequence number of its last commit.
        24 commit_sequence: u64,
        /// Segments that were taken out, since the journal's beginning.
        32 segment_count: u64,
        /// Events of theirs.
        40 event_count: u64,
        /// Records of theirs.
        48 record_count: u64,
        /// Bytes of theirs, up to their ends.
        56 byte_count: u64,
        /// The lowest id among those events, 0 where there are none.
        64 first_event_id: u64,
        /// The highest id among them, 0 where there are none.
        72 last_event_id: u64,
        /// How that segment ended: see [`PreviousEnd`].
        80 end: u32,
        /// How many types follow.
        84 type_count: u32,
        /// CLOCK_REALTIME of the decision, nanoseconds since 1970.
        88 wall_clock_ns: i64,
        /// The digest at that segment's end: of its seal, or of its last commit before the cut.
        96 digest: Digest,
    }
}

impl Compacted {
    /// Reason: the segments had more bytes than they may.
    pub const BYTES: u32 = 0x1;
    /// Reason: they were older than they may be.
    pub const AGE: u32 = 0x2;
    /// Reason: they were more than they may be.
    pub const SEGMENTS: u32 = 0x4;

    /// Whether a segment that begins so goes on where the last retired one ended.
    pub fn continues_in(&self, next: &SegmentOpen) -> bool {
        self.kind == CompactedKind::Retired.code()
            && next.previous_segment == self.segment_number
            && next.segment_number > self.segment_number
            && next.previous_end == self.end
            && next.previous_end_offset == self.end_offset
            && next.previous_digest == self.digest
            && next.next_commit_sequence == self.commit_sequence.wrapping_add(1)
    }
}

on_disk! {
    /// Stands in a sealed segment in the place of events that were taken out of one group. A record of type Compacted with
    /// layout version 1. The body is followed by `subtree_count` digests: the roots of the complete subtrees, the largest that
    /// there are, that the records' leaves make up in the group's tree, from left to right.
    pub struct Thinned [32] {
        /// The lowest id that is gone.
        0 first_event_id: u64,
        /// The highest id that is gone.
        8 last_event_id: u64,
        /// Bytes of the records.
        16 byte_count: u64,
        /// How many they are.
        24 event_count: u32,
        /// How many digests follow.
        28 subtree_count: u32,
    }
}

impl Thinned {
    /// The layout version that tells it from a [`Compacted`].
    pub const LAYOUT: u32 = 1;

    /// The body, if a record is one.
    pub fn parse(record: &Record<'_>) -> Option<Self> {
        let is_one = record.is_control()
            && record.event_type() == EventType::JOURNAL_COMPACTED
            && record.event_subtype() == Self::LAYOUT;
        let body: Self = Self::decode(record.payload().first_chunk().filter(|_| is_one)?);
        let size = Self::SIZE + body.subtree_count as usize * Digest::SIZE;
        (body.event_count > 0 && record.payload().len() == size).then_some(body)
    }

    /// The roots of the subtrees behind the body.
    pub fn subtrees<'a>(record: &Record<'a>) -> impl Iterator<Item = Digest> + use<'a> {
        let digests = record.payload().get(Self::SIZE..).unwrap_or_default();
        digests.as_chunks::<32>().0.iter().map(|digest| Digest(*digest))
    }

    /// The levels, from left to right, of the complete subtrees that `count` leaves from leaf `place` on are made up of, each as
    /// large as it can be; one of level k has 2^k leaves.
    pub fn levels(place: u64, count: u64) -> impl Iterator<Item = u32> {
        let (mut at, end) = (place, place.saturating_add(count));
        core::iter::from_fn(move || {
            let left = end - at;
            let level = left.checked_ilog2()?.min(at.trailing_zeros());
            at += 1 << level;
            Some(level)
        })
    }

    /// The record in the place of others, with the roots of their subtrees.
    pub fn draft(payload: &[u8], monotonic_ns: i64) -> Draft<'_> {
        let mut draft = draft(EventType::JOURNAL_COMPACTED, payload, monotonic_ns, 0);
        draft.header.event_subtype = Self::LAYOUT;
        draft
    }
}

/// The values of [`Compacted::kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactedKind {
    /// The oldest segments, as a whole.
    Retired,
    /// Events of one segment, in whose place [`Thinned`] records stand. `event_count` is all that were ever taken out of it; the types
    /// that follow count only those that go now.
    Thinned,
}

impl CompactedKind {
    /// The number on disk.
    pub const fn code(self) -> u32 {
        match self {
            Self::Retired => 1,
            Self::Thinned => 2,
        }
    }
}

/// The values of [`Gap::reason`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapReason {
    /// The events were damaged and are lost.
    Damaged,
    /// Their emitter had ids for them and did not come back with the events.
    Abandoned,
    /// There was no room for them when they were emitted, and they were not urgent enough to wait.
    Dropped,
}

impl GapReason {
    /// The number on disk.
    pub const fn code(self) -> u32 {
        match self {
            Self::Damaged => 1,
            Self::Abandoned => 2,
            Self::Dropped => 3,
        }
    }
}

/// A body of fixed size that makes up the payload of a control record, or its beginning.
pub trait Body: Sized {
    /// The record's type.
    const EVENT_TYPE: EventType;
    /// The entries of fixed size behind the body, as (how many the body announces, bytes of each).
    fn entries(&self) -> (u32, usize) {
        (0, 0)
    }
    /// Reads the body from the beginning of a payload; `None` if it is too short.
    fn from_prefix(payload: &[u8]) -> Option<Self>;
    /// Bytes of the body itself.
    const BODY_SIZE: usize;
}

macro_rules! body {
    ($name:ident, $event_type:ident $(, $count:ident, $entry:ident)?) => {
        impl Body for $name {
            const EVENT_TYPE: EventType = EventType::$event_type;
            const BODY_SIZE: usize = Self::SIZE;
            $(fn entries(&self) -> (u32, usize) {
                (self.$count, $entry::SIZE)
            })?
            fn from_prefix(payload: &[u8]) -> Option<Self> {
                payload.first_chunk().map(Self::decode)
            }
        }
    };
}
body!(SegmentOpen, JOURNAL_SEGMENT_OPEN);
body!(Commit, JOURNAL_COMMIT);
body!(SegmentSeal, JOURNAL_SEGMENT_SEAL);
body!(Recovered, JOURNAL_RECOVERED, range_count, DamagedRange);
body!(Gap, JOURNAL_GAP, type_count, GapType);
body!(Compacted, JOURNAL_COMPACTED, type_count, GapType);

/// Bytes of a record with this body and nothing behind it.
pub const fn record_size<B: Body>() -> usize {
    EventHeader::SIZE + B::BODY_SIZE
}

/// The body of a control record, if the record is of the body's type.
///
/// # Errors
///
/// The record is of the type, but its layout version is unknown or its size is not the layout's.
pub fn parse<B: Body>(record: &Record<'_>) -> Result<Option<B>, ControlError> {
    let event_type = B::EVENT_TYPE;
    if record.event_id() != 0 || record.event_type() != event_type {
        return Ok(None);
    }
    if record.event_subtype() != 0 {
        return Err(ControlError::Version { event_type, found: record.event_subtype() });
    }
    let payload = record.payload();
    let found = payload.len();
    let body =
        B::from_prefix(payload).ok_or(ControlError::Size { event_type, found, expected: B::BODY_SIZE })?;
    let (count, entry_size) = body.entries();
    let expected = B::BODY_SIZE + count as usize * entry_size;
    if found != expected {
        return Err(ControlError::Size { event_type, found, expected });
    }
    Ok(Some(body))
}

/// The damaged ranges behind a [`Recovered`] body. Whole entries only, as [`parse`] has checked.
pub fn damaged_ranges<'a>(record: &Record<'a>) -> impl Iterator<Item = DamagedRange> + use<'a> {
    let entries = record.payload().get(Recovered::SIZE..).unwrap_or_default();
    entries.as_chunks().0.iter().map(DamagedRange::decode)
}

/// The types behind a [`Gap`] body. Whole entries only, as [`parse`] has checked.
pub fn gap_types<'a>(record: &Record<'a>) -> impl Iterator<Item = GapType> + use<'a> {
    let entries = record.payload().get(Gap::SIZE..).unwrap_or_default();
    entries.as_chunks().0.iter().map(GapType::decode)
}

/// The last id that a Gap says is missing, 0 where its body is not right.
pub fn missing_upto(gap: &Record<'_>) -> u64 {
    parse::<Gap>(gap).ok().flatten().map_or(0, |gap| gap.last_event_id)
}

/// The types behind a [`Compacted`] body. Whole entries only, as [`parse`] has checked.
pub fn compacted_types<'a>(record: &Record<'a>) -> impl Iterator<Item = GapType> + use<'a> {
    let entries = record.payload().get(Compacted::SIZE..).unwrap_or_default();
    entries.as_chunks().0.iter().map(GapType::decode)
}

/// A control record of this type with this payload, as it will be written.
pub fn draft(event_type: EventType, payload: &[u8], monotonic_ns: i64, process_id: u32) -> Draft<'_> {
    let header = EventHeader {
        ktime_ns: monotonic_ns,
        process_id,
        event_flags: 0,
        agent_visibility_mask: 0,
        agent_relevance_score: 0,
        ..EventHeader::new(event_type.0)
    };
    Draft { payload, ..Draft::new(header) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        Commit {
            commit_sequence: 3,
            epoch: 2,
            first_event_id: 10,
            last_event_id: 19,
            record_count: 10,
            event_count: 10,
            byte_count: 2600,
            synced_upto: 1,
            flags: 0,
            reserved: 0,
            root: digest::leaf(b"x"),
            previous_digest: Digest::ZERO,
            digest: Digest::ZERO,
        }
        .with_digest()
    }

    #[test]
    fn the_journals_own_records_are_nobodys_business() {
        let header = draft(EventType::JOURNAL_COMMIT, b"body", 7, 9).header;
        assert_eq!((header.event_id, header.ktime_ns, header.process_id), (0, 7, 9));
        assert_eq!(
            (header.event_flags, header.agent_visibility_mask, header.agent_relevance_score),
            (0, 0, 0)
        );
        assert_eq!(
            [0, 1, 2, 3].map(PreviousEnd::from_code).map(|end| end.map(PreviousEnd::code)),
            [Some(0), Some(1), Some(2), None]
        );
        let codes = [GapReason::Damaged, GapReason::Abandoned, GapReason::Dropped].map(GapReason::code);
        assert_eq!(codes, [1, 2, 3]);
    }

    #[test]
    fn control_records_round_trip_and_other_types_are_passed_over() {
        let commit = commit();
        let body = commit.encode();
        let bytes = draft(EventType::JOURNAL_COMMIT, &body, 5, 6).to_vec().unwrap();
        assert_eq!(bytes.len(), record_size::<Commit>());
        let record = Record::parse_verified(&bytes).unwrap();
        assert_eq!(parse(&record), Ok(Some(commit)));
        assert_eq!(parse::<SegmentSeal>(&record), Ok(None));
    }

    #[test]
    fn the_digest_covers_every_field_before_it() {
        let commit = commit();
        let body = commit.encode();
        for bit in 0..128 * 8 {
            let mut changed = body;
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = Commit::decode(&changed);
            assert_ne!(changed.computed_digest(), changed.digest, "bit {bit}");
        }
    }

    #[test]
    fn an_unknown_layout_version_or_size_is_an_error() {
        let body = commit().encode();
        let mut unknown = draft(EventType::JOURNAL_COMMIT, &body, 0, 0);
        unknown.header.event_subtype = 1;
        let bytes = unknown.to_vec().unwrap();
        let error = parse::<Commit>(&Record::parse(&bytes).unwrap()).unwrap_err();
        assert_eq!(error, ControlError::Version { event_type: EventType::JOURNAL_COMMIT, found: 1 });
        let bytes = draft(EventType::JOURNAL_COMMIT, &body[..159], 0, 0).to_vec().unwrap();
        let error = parse::<Commit>(&Record::parse(&bytes).unwrap()).unwrap_err();
        assert!(matches!(error, ControlError::Size { found: 159, expected: 160, .. }));
    }

    #[test]
    fn subtrees_of_any_run_make_up_the_tree_that_its_leaves_make() {
        use crate::digest::MerkleTree;
        let leaves: std::vec::Vec<_> = (0..70u8).map(|n| digest::leaf(&[n])).collect();
        let mut whole = MerkleTree::new();
        leaves.iter().for_each(|leaf| whole.push(*leaf));
        for start in 0..leaves.len() {
            for end in start..=leaves.len() {
                let mut tree = MerkleTree::new();
                leaves[..start].iter().for_each(|leaf| tree.push(*leaf));
                let mut at = start;
                for level in Thinned::levels(start as u64, (end - start) as u64) {
                    let mut subtree = MerkleTree::new();
                    leaves[at..at + (1 << level)].iter().for_each(|leaf| subtree.push(*leaf));
                    tree.push_subtree(level, subtree.root());
                    at += 1 << level;
                }
                assert_eq!(at, end);
                leaves[end..].iter().for_each(|leaf| tree.push(*leaf));
                assert_eq!((tree.count(), tree.root()), (70, whole.root()), "{start}..{end}");
            }
        }
        assert_eq!(Thinned::levels(0, 0).count(), 0);
    }

    #[test]
    fn a_count_of_entries_that_is_not_there_is_an_error() {
        let gap =
            Gap { first_event_id: 1, last_event_id: 2, event_count: 2, reason: 1, type_count: u32::MAX };
        let body = gap.encode();
        let bytes = draft(EventType::JOURNAL_GAP, &body, 0, 0).to_vec().unwrap();
        assert!(matches!(parse::<Gap>(&Record::parse(&bytes).unwrap()), Err(ControlError::Size { .. })));
    }
}
