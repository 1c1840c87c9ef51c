//! Records regrouped by field: what stands behind block version 2.
//!
//! Records of a journal differ little from each other, and what differs is much alike within a field: ids follow one
//! another, times grow, paths come again. So each field of the records goes into a stream of its own, as the difference
//! from what was to be expected, or not at all where there is none. What follows from the rest is left out: sizes,
//! checksums, and the digests of commits, which no codec could make smaller. Decoding computes them.
//!
//! SPEC.md, "Regrouped records", has the layout. [`split`] and [`join`] have the same steps, one for one; what both know
//! is here.

mod join;
mod split;

use semj_format::control::Commit;
use semj_format::digest::RecordTree;
use semj_format::limits::RECORD_SIZE_MIN;
use semj_format::{Digest, EventType, Record, Records};

use crate::error::DecodeError;

pub(crate) use join::Joiner;
pub(crate) use split::Splitter;

/// The streams, in their order. The first of [`NUMBERS`] hold numbers, the others bytes as they are.
mod stream {
    pub(super) const CHANGES: usize = 0;
    pub(super) const KIND: usize = 1;
    pub(super) const TIME: usize = 2;
    pub(super) const ORIGIN: usize = 3;
    pub(super) const SEQUENCE: usize = 4;
    pub(super) const CAUSE: usize = 5;
    pub(super) const HEADER: usize = 6;
    pub(super) const SHAPE: usize = 7;
    pub(super) const INTEGER: usize = 8;
    pub(super) const PATH: usize = 9;
    pub(super) const TEXT: usize = 10;
    pub(super) const PAYLOAD: usize = 11;
    pub(super) const SHARED: usize = 12;
    pub(super) const LENGTH: usize = 13;
    pub(super) const COMMIT: usize = 14;
    pub(super) const PATH_BYTES: usize = 15;
    pub(super) const TEXT_BYTES: usize = 16;
    pub(super) const PAYLOAD_BYTES: usize = 17;
    pub(super) const OTHER_BYTES: usize = 18;
    pub(super) const COUNT: usize = 19;
}
/// How many of the streams hold numbers.
pub(crate) const NUMBERS: usize = stream::PATH_BYTES;

// The header's fields that are not derived, by their offsets, each with its bit in a record's changes by its place in the
// lists below, one list behind the other. The time, the type and the sizes of context and payload come by other ways.

/// The id, sequence numbers: one more than the last event had; 0 in the journal's own records.
const FOLLOWING: [(u64, usize); 4] = [(1 << 0, 0), (1 << 5, 40), (1 << 6, 48), (1 << 7, 24)];
/// Process and processor: what the last record had.
const ORIGIN: [(u64, usize); 2] = [(1 << 1, 36), (1 << 2, 32)];
/// The root cause: the record's id.
const ROOT_CAUSE: (u64, usize) = (1 << 3, 108);
/// The parent: what the last record of the same type had; the difference is taken from the record's id.
const PARENT: (u64, usize) = (1 << 4, 100);
/// What the last record of the same type had: bit, offset, size.
const OF_KIND: [(u64, usize, usize); 11] = [
    (1 << 8, 12, 4),
    (1 << 9, 56, 4),
    (1 << 10, 60, 4),
    (1 << 11, 76, 4),
    (1 << 12, 88, 4),
    (1 << 13, 92, 4),
    (1 << 14, 96, 4),
    (1 << 15, 116, 8),
    (1 << 16, 124, 4),
    (1 << 17, 128, 4),
    (1 << 18, 80, 4),
];
const ALL_OF_KIND: u64 = (1 << 19) - (1 << 8);
/// Bits of fields.
const FIELD_BITS: u32 = 19;

/// A record's header.
type Header = [u8; RECORD_SIZE_MIN];

/// One where the fields are that are [`OF_KIND`].
const OF_KIND_MASK: Header = {
    let mut mask = [0; RECORD_SIZE_MIN];
    let mut place = 0;
    while place < OF_KIND.len() {
        let (_, offset, size) = OF_KIND[place];
        let mut at = offset;
        while at < offset + size {
            mask[at] = 0xFF;
            at += 1;
        }
        place += 1;
    }
    mask
};

/// Whether any of those fields differs. All bytes are compared at once, without a branch for each.
#[inline]
fn differs_of_kind(a: &Header, b: &Header) -> bool {
    let mut different = 0;
    for ((a, b), mask) in a.iter().zip(b).zip(&OF_KIND_MASK) {
        different |= (a ^ b) & mask;
    }
    different != 0
}

/// The bit behind those of the fields: the context has another form, or other fields, than that of the last record of
/// the same type.
const SHAPE_CHANGED: u64 = 1 << FIELD_BITS;
/// And: the payload is a Commit's, taken apart.
const IS_COMMIT: u64 = 2 << FIELD_BITS;
/// All bits that a record's changes can have.
const ALL_CHANGES: u64 = (4 << FIELD_BITS) - 1;

/// The root of a group is computed again if the group has no more bytes than this; else it costs less to keep it.
const ROOT_GROUP_MAX: usize = 4096;
/// A commit's root is left out.
const ROOT_DERIVED: u64 = 1;
/// Its previous digest is.
const PREVIOUS_DERIVED: u64 = 2;
/// Its own digest is.
const DIGEST_DERIVED: u64 = 4;
/// All that can be left out.
const ALL_DERIVED: u64 = ROOT_DERIVED | PREVIOUS_DERIVED | DIGEST_DERIVED;

/// A context as it stands in a record.
mod form {
    pub(super) const NONE: u64 = 0;
    pub(super) const COMPACT: u64 = 1;
    pub(super) const FIXED: u64 = 2;
    /// One that is neither.
    pub(super) const RAW: u64 = 3;
}

/// Fields of a context: offset in the fixed form, size there, whether it is a text. In the order of their bits.
const CONTEXT: [(usize, usize, bool); 21] = [
    (0, 8, false),
    (8, 8, false),
    (16, 8, false),
    (24, 4096, true),
    (4120, 8, false),
    (4128, 4, false),
    (4132, 8, false),
    (4140, 8, false),
    (4148, 4, false),
    (4152, 8, false),
    (4160, 4, false),
    (4164, 4, false),
    (4168, 64, true),
    (4232, 256, true),
    (4488, 4, false),
    (4492, 4, false),
    (4496, 8, false),
    (4504, 4, false),
    (4508, 512, true),
    (5020, 256, true),
    (5276, 4, false),
];
const PATH: usize = 3;
/// The integers that are those of the path: inode_number and file_type.
const OF_PATH: [usize; 2] = [4, 5];

/// Texts up to this length are looked for among those before.
const KNOWN_TEXT_MAX: usize = 512;
/// Places in the table that finds them; a power of two. It is emptied for each block.
const TEXT_SLOTS: usize = 1 << 11;

/// What a record of one type had.
#[derive(Clone)]
struct Kind {
    event_type: u32,
    header: Header,
    /// Whether it was one of the journal's own.
    is_own: bool,
    form: u64,
    presence: u32,
    payload: usize,
}

impl Kind {
    const fn new(event_type: u32) -> Self {
        Self {
            event_type,
            header: [0; RECORD_SIZE_MIN],
            is_own: false,
            form: 0,
            presence: 0,
            payload: NO_TEXT,
        }
    }
}

const NO_TEXT: usize = usize::MAX;

/// A text that has occurred: where it stands in the records.
#[derive(Clone, Copy)]
struct Known {
    start: usize,
    size: usize,
    /// The one that came behind it last.
    next: usize,
    /// For a path: its integers.
    integers: [u64; OF_PATH.len()],
}

/// Texts of one field.
#[derive(Default)]
struct Texts {
    known: Vec<Known>,
    /// For the encoder: where to look for a text with some hash.
    slots: Vec<u16>,
}

/// The number of a text in its stream: 0 for one that is new, 1 for the one that is expected; for others …
const OTHER_TEXT: u64 = 2;

impl Texts {
    fn bytes<'b>(&self, place: usize, records: &'b [u8]) -> &'b [u8] {
        let known = self.known.get(place);
        known.and_then(|known| records.get(known.start..known.start + known.size)).unwrap_or_default()
    }

    /// The text that is expected behind another one.
    fn expected(&self, near: usize) -> usize {
        self.known.get(near).map_or(NO_TEXT, |known| known.next)
    }

    /// Takes in a text that is new.
    fn push(&mut self, start: usize, size: usize) -> usize {
        let integers = self.known.last().map_or([0; OF_PATH.len()], |known| known.integers);
        let place = self.known.len();
        self.known.push(Known { start, size, next: place, integers });
        place
    }

    /// Notes which text came behind another one.
    fn follow(&mut self, near: usize, place: usize) {
        if let Some(known) = self.known.get_mut(near) {
            known.next = place;
        }
    }

    fn slot(text: &[u8]) -> usize {
        let (words, rest) = text.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let step = |hash: u64, word: &[u8; 8]| {
            (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        };
        let hash = step(words.iter().fold(text.len() as u64, step), &last);
        (hash >> (64 - TEXT_SLOTS.trailing_zeros())) as usize
    }

    /// The number of a text, and its place where it is known.
    fn find(&mut self, text: &[u8], near: usize, records: &[u8]) -> (u64, usize) {
        let expected = self.expected(near);
        if expected != NO_TEXT && self.bytes(expected, records) == text {
            return (1, expected);
        }
        if text.len() > KNOWN_TEXT_MAX {
            return (0, NO_TEXT);
        }
        if self.slots.is_empty() {
            self.slots = vec![0; TEXT_SLOTS];
        }
        // A text that has lost its place to another one is taken for new, which is as right.
        let Ok(coming) = u16::try_from(self.known.len() + 1) else { return (0, NO_TEXT) };
        if let Some(slot) = self.slots.get_mut(Self::slot(text)) {
            let place = std::mem::replace(slot, coming) as usize;
            if place > 0 && self.bytes(place - 1, records) == text {
                if let Some(slot) = self.slots.get_mut(Self::slot(text)) {
                    *slot = place as u16;
                }
                return (OTHER_TEXT + place as u64 - 1, place - 1);
            }
        }
        (0, NO_TEXT)
    }

    fn clear(&mut self) {
        // Most fields have no text ever.
        if !self.known.is_empty() {
            self.known.clear();
            self.slots.fill(0);
        }
    }
}

/// What both sides know of the records before.
struct State {
    kinds: Vec<Kind>,
    /// What the last event had of what is [`FOLLOWING`], and the last record of what is [`ORIGIN`].
    following: [u64; FOLLOWING.len()],
    origin: [u64; ORIGIN.len()],
    time: u64,
    /// One for each text field, and one for all later fields.
    texts: [Texts; CONTEXT.len() + 1],
    payloads: Texts,
    near: [usize; CONTEXT.len() + 1],
    integers: [u64; CONTEXT.len()],
    /// Where the group begins, as far as this block knows, and what is in it.
    group_start: usize,
    group_records: u64,
    group_events: u64,
    group_first: u64,
    group_last: u64,
    commit: Commit,
}

impl Default for State {
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            following: [0; FOLLOWING.len()],
            origin: [0; ORIGIN.len()],
            time: 0,
            texts: std::array::from_fn(|_| Texts::default()),
            payloads: Texts::default(),
            near: [NO_TEXT; CONTEXT.len() + 1],
            integers: [0; CONTEXT.len()],
            group_start: 0,
            group_records: 0,
            group_events: 0,
            group_first: 0,
            group_last: 0,
            commit: Commit::decode(&[0; Commit::SIZE]),
        }
    }
}

impl State {
    /// As new, with the memory kept.
    fn clear(&mut self) {
        let mut new = Self::default();
        std::mem::swap(&mut new.texts, &mut self.texts);
        std::mem::swap(&mut new.payloads, &mut self.payloads);
        new.texts.iter_mut().chain([&mut new.payloads]).for_each(Texts::clear);
        *self = new;
    }

    /// Takes note of a record that ends at `end`.
    #[inline]
    fn note(&mut self, kind: usize, event_id: u64, following: [u64; FOLLOWING.len()], end: usize) {
        if event_id == 0 && self.kinds[kind].event_type == EventType::JOURNAL_COMMIT.0 {
            self.group_start = end;
            (self.group_records, self.group_events, self.group_first, self.group_last) = (0, 0, 0, 0);
            return;
        }
        self.group_records += 1;
        if event_id != 0 {
            self.following = following;
            self.group_first = if self.group_events == 0 { event_id } else { self.group_first.min(event_id) };
            self.group_last = self.group_last.max(event_id);
            self.group_events += 1;
        }
    }

    /// What a field that is [`FOLLOWING`] is expected to be.
    #[inline]
    const fn following(&self, place: usize, is_own: bool) -> u64 {
        if is_own { 0 } else { self.following[place].wrapping_add(1) }
    }

    /// A commit as it is expected behind the group that ends at `end`.
    fn expected_commit(&self, end: usize) -> [u64; 10] {
        let last = &self.commit;
        [
            last.commit_sequence.wrapping_add(1),
            last.epoch,
            self.group_first,
            self.group_last,
            self.group_records,
            self.group_events,
            (end - self.group_start) as u64,
            last.synced_upto.wrapping_add(1),
            last.flags.into(),
            last.reserved.into(),
        ]
    }

    fn integer_expected(&self, bit: usize, path: usize) -> u64 {
        match OF_PATH.iter().position(|of_path| *of_path == bit) {
            Some(place) if path != NO_TEXT => {
                self.texts[PATH].known.get(path).map_or(0, |known| known.integers[place])
            }
            _ => self.integers[bit],
        }
    }

    fn note_integer(&mut self, bit: usize, path: usize, value: u64) {
        self.integers[bit] = value;
        if let Some(place) = OF_PATH.iter().position(|of_path| *of_path == bit)
            && let Some(known) = self.texts[PATH].known.get_mut(path)
        {
            known.integers[place] = value;
        }
    }
}

/// The numbers of a commit's first 64 bytes.
fn commit_numbers(commit: &Commit) -> [u64; 10] {
    [
        commit.commit_sequence,
        commit.epoch,
        commit.first_event_id,
        commit.last_event_id,
        commit.record_count.into(),
        commit.event_count.into(),
        commit.byte_count,
        commit.synced_upto,
        commit.flags.into(),
        commit.reserved.into(),
    ]
}

/// The root over the leaves of the records in `group`.
fn root(group: &[u8]) -> Digest {
    let mut tree = RecordTree::default();
    for (_, record) in Records::new(group, 0).map_while(Result::ok) {
        tree.push(record.bytes());
    }
    tree.root()
}

/// Eight bytes of a header.
#[inline]
fn load8(header: &Header, offset: usize) -> u64 {
    header[offset..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Four.
#[inline]
fn load4(header: &Header, offset: usize) -> u64 {
    header[offset..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
}

#[inline]
fn store8(header: &mut Header, offset: usize, value: u64) {
    header[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// A value that does not fit is no field that was split; the checksum of the block held, so it was made so.
#[inline]
fn store4(header: &mut Header, offset: usize, value: u64) -> Result<(), DecodeError> {
    let value = u32::try_from(value)
        .map_err(|_| DecodeError::Contradiction { what: "a field of a regrouped record" })?;
    header[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// An integer of a context: 2, 4 or 8 bytes, each a load of its own and not a copy of some length.
#[inline]
fn load(bytes: &[u8], at: usize, size: usize) -> u64 {
    let bytes = bytes.get(at..).unwrap_or_default();
    match size {
        8 => bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)),
        4 => bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes).into()),
        _ => bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes).into()),
    }
}

/// The bits that are set, lowest first: a compact context has its fields in that order.
#[inline]
fn bits(mut presence: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (presence != 0).then(|| presence.trailing_zeros() as usize)?;
        presence &= presence - 1;
        Some(bit)
    })
}

/// Where the numbers of a text field go, and its bytes.
const fn text_streams(bit: usize) -> (usize, usize) {
    if bit == PATH { (stream::PATH, stream::PATH_BYTES) } else { (stream::TEXT, stream::TEXT_BYTES) }
}

/// What was counted in a block's records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) records: u32,
    pub(crate) first_event_id: u64,
    pub(crate) last_event_id: u64,
    pub(crate) first_time: [u8; 24],
    pub(crate) last_time: [u8; 24],
}

impl Counts {
    #[inline]
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        self.push_id(record.event_id());
        if let Some(time) = record.bytes().get(16..40).and_then(|time| time.first_chunk()) {
            if self.records == 1 {
                self.first_time = *time;
            }
            self.last_time = *time;
        }
    }

    #[inline]
    fn push_id(&mut self, event_id: u64) {
        if event_id != 0 {
            self.first_event_id =
                if self.last_event_id == 0 { event_id } else { self.first_event_id.min(event_id) };
            self.last_event_id = self.last_event_id.max(event_id);
        }
        self.records += 1;
    }
}
