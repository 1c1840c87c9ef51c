//! Records regrouped by field: what stands behind block version 2.
//!
//! Records of a journal differ little from each other, and what differs is much alike within a field: ids follow one
//! another, times grow, paths come again. So each field of the records goes into a stream of its own, as the difference
//! from what was to be expected, or not at all where there is none. What follows from the rest is left out: sizes,
//! checksums, and the digests of commits, which no codec could make smaller. Decoding computes them.
//!
//! SPEC.md, "Regrouped records", has the layout. Splitting and joining stand side by side here, and each of their steps
//! has its counterpart in the other.

use semj_format::checksum::kernel_crc32;
use semj_format::control::Commit;
use semj_format::digest::RecordTree;
use semj_format::event_header::EVENT_VERSION;
use semj_format::limits::{
    CONTEXT_SIZE_MAX, LINK_COUNT_MAX, LINK_SIZE, METADATA_SIZE_MAX, PAYLOAD_SIZE_MAX, RECORD_SIZE_MIN,
};
use semj_format::{Digest, EventType, Record, Records};

use crate::error::{DecodeError, EncodeError};
use crate::header::BLOCK_SIZE_MAX;
use crate::varint::{self, Stream};

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

/// Regroups records; keeps its memory from one block to the next.
#[derive(Default)]
pub(crate) struct Splitter {
    state: State,
    streams: [Vec<u8>; stream::COUNT],
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

impl Splitter {
    /// Regroups records from the front of `records`, which stand back to back from offset `base` of their segment on, until
    /// `enough` says so of them: the numbers go behind those in `numbers`, the bytes behind those in `texts`. Gives how many
    /// bytes of records these are too.
    ///
    /// Without `verifies`, a record's checksum may be any: decoding gives it the right one.
    pub(crate) fn split(
        &mut self,
        records: &[u8],
        base: usize,
        verifies: bool,
        mut enough: impl FnMut(&Record<'_>, usize) -> bool,
        numbers: &mut Vec<u8>,
        texts: &mut Vec<u8>,
    ) -> Result<(Counts, usize), EncodeError> {
        self.state.clear();
        self.streams.iter_mut().for_each(Vec::clear);
        let mut counts = Counts::default();
        let mut at = 0;
        while at < records.len() {
            let rest = records.get(at..).unwrap_or_default();
            // A checksum that is wrong would be lost: it is computed when the block is decoded.
            let record = if verifies { Record::parse_verified(rest) } else { Record::parse(rest) };
            let record = record.map_err(|source| EncodeError::Record { offset: base + at, source })?;
            if at + record.len() > BLOCK_SIZE_MAX {
                return Err(EncodeError::TooLarge { what: "the records of a block" });
            }
            counts.push(&record);
            self.push(&record, at, records);
            at += record.len();
            if enough(&record, at) {
                break;
            }
        }
        varint::put(numbers, counts.records.into());
        for stream in &self.streams {
            varint::put(numbers, stream.len() as u64);
        }
        let (of_numbers, of_bytes) = self.streams.split_at(NUMBERS);
        of_numbers.iter().for_each(|stream| numbers.extend_from_slice(stream));
        of_bytes.iter().for_each(|stream| texts.extend_from_slice(stream));
        Ok((counts, at))
    }

    #[inline]
    fn push(&mut self, record: &Record<'_>, at: usize, records: &[u8]) {
        let Self { state, streams } = self;
        let bytes = record.bytes();
        let Some(header) = bytes.first_chunk() else { return };
        let event_type = record.event_type().0;
        let known = state.kinds.iter().position(|kind| kind.event_type == event_type);
        let kind = known.unwrap_or(state.kinds.len());
        varint::put(&mut streams[stream::KIND], kind as u64);
        if known.is_none() {
            varint::put(&mut streams[stream::HEADER], event_type.into());
            state.kinds.push(Kind::new(event_type));
        }
        let event_id = load8(header, 0);
        let mut changes = split_header(state, streams, kind, header);
        let time = load8(header, 16);
        varint::put_difference(&mut streams[stream::TIME], time, state.time);
        state.time = time;

        let context = record.context_bytes();
        let context_at = at + RECORD_SIZE_MIN;
        let (form, presence) = shape(context);
        if (form, presence) != (state.kinds[kind].form, state.kinds[kind].presence) {
            changes |= SHAPE_CHANGED;
            varint::put(&mut streams[stream::SHAPE], form);
            varint::put(&mut streams[stream::SHAPE], presence.into());
            (state.kinds[kind].form, state.kinds[kind].presence) = (form, presence);
        }
        match form {
            form::COMPACT => split_compact(state, streams, context, context_at, presence, records),
            form::FIXED => split_fixed(state, streams, context, context_at, presence, records),
            form::RAW => {
                varint::put(&mut streams[stream::LENGTH], context.len() as u64);
                streams[stream::OTHER_BYTES].extend_from_slice(context);
            }
            _ => {}
        }

        let payload = record.payload();
        let payload_at = context_at + context.len();
        let commit =
            payload.as_array().filter(|_| event_id == 0 && event_type == EventType::JOURNAL_COMMIT.0);
        match commit {
            Some(body) => {
                changes |= IS_COMMIT;
                split_commit(state, streams, &Commit::decode(body), at, records);
            }
            None => {
                let near = state.kinds[kind].payload;
                let (number, mut place) = state.payloads.find(payload, near, records);
                varint::put(&mut streams[stream::PAYLOAD], number);
                if number == 0 {
                    let before = state.payloads.bytes(near, records);
                    put_new(streams, stream::PAYLOAD_BYTES, payload, before);
                    place = state.payloads.push(payload_at, payload.len());
                }
                state.payloads.follow(near, place);
                state.kinds[kind].payload = place;
            }
        }
        streams[stream::OTHER_BYTES]
            .extend_from_slice(bytes.get(payload_at + payload.len() - at..).unwrap_or_default());
        varint::put(&mut streams[stream::CHANGES], changes);
        state.kinds[kind].header = *header;
        state.kinds[kind].is_own = event_id == 0;
        let following = FOLLOWING.map(|(_, offset)| load8(header, offset));
        state.note(kind, event_id, following, at + bytes.len());
    }
}

/// Writes the fields of a header that are not what is expected, and gives their bits.
#[inline]
fn split_header(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    kind: usize,
    header: &Header,
) -> u64 {
    let last = &state.kinds[kind];
    let event_id = load8(header, 0);
    let mut changes = 0;
    let mut put = |bit: u64, stream: usize, value: u64, expected: u64, base: u64| {
        if value != expected {
            changes |= bit;
            varint::put_difference(&mut streams[stream], value, base);
        }
    };
    for (place, (bit, offset)) in FOLLOWING.into_iter().enumerate() {
        let is_own = if offset == 0 { last.is_own } else { event_id == 0 };
        let expected = state.following(place, is_own);
        put(bit, stream::SEQUENCE, load8(header, offset), expected, expected);
    }
    for ((bit, offset), origin) in ORIGIN.into_iter().zip(&mut state.origin) {
        let expected = std::mem::replace(origin, load4(header, offset));
        put(bit, stream::ORIGIN, *origin, expected, expected);
    }
    let (bit, offset) = ROOT_CAUSE;
    put(bit, stream::CAUSE, load8(header, offset), event_id, event_id);
    let (bit, offset) = PARENT;
    put(bit, stream::CAUSE, load8(header, offset), load8(&last.header, offset), event_id);
    if differs_of_kind(header, &last.header) {
        for (bit, offset, size) in OF_KIND {
            let expected = load(&last.header, offset, size);
            put(bit, stream::HEADER, load(header, offset, size), expected, expected);
        }
    }
    changes
}

/// Makes a header of what is expected and what is not. It is made where it stays: a copy of what was just written in smaller
/// pieces would wait for them.
#[inline]
fn join_header(
    state: &mut State,
    streams: &mut Streams<'_>,
    kind: usize,
    changes: u64,
    header: &mut Header,
) -> Result<(), DecodeError> {
    let last = &mut state.kinds[kind];
    *header = last.header;
    let is_own = last.is_own;
    let mut event_id = 0;
    for ((bit, offset), following) in FOLLOWING.into_iter().zip(state.following) {
        let is_own = if offset == 0 { is_own } else { event_id == 0 };
        let expected = if is_own { 0 } else { following.wrapping_add(1) };
        let is_expected = changes & bit == 0;
        let value = if is_expected { expected } else { streams[stream::SEQUENCE].difference(expected)? };
        store8(header, offset, value);
        if offset == 0 {
            event_id = value;
        }
    }
    last.is_own = event_id == 0;
    for ((bit, offset), origin) in ORIGIN.into_iter().zip(&mut state.origin) {
        if changes & bit != 0 {
            *origin = streams[stream::ORIGIN].difference(*origin)?;
        }
        store4(header, offset, *origin)?;
    }
    let mut cause = event_id;
    if changes & ROOT_CAUSE.0 != 0 {
        cause = streams[stream::CAUSE].difference(event_id)?;
    }
    store8(header, ROOT_CAUSE.1, cause);
    if changes & PARENT.0 != 0 {
        let parent = streams[stream::CAUSE].difference(event_id)?;
        store8(header, PARENT.1, parent);
        store8(&mut last.header, PARENT.1, parent);
    }
    if changes & ALL_OF_KIND != 0 {
        for (_, offset, size) in OF_KIND.into_iter().filter(|(bit, ..)| changes & bit != 0) {
            let value = streams[stream::HEADER].difference(load(&last.header, offset, size))?;
            for header in [&mut *header, &mut last.header] {
                match size {
                    8 => store8(header, offset, value),
                    _ => store4(header, offset, value)?,
                }
            }
        }
    }
    Ok(())
}

/// Writes a text that is new: how much of it the one before shares, what is behind that.
#[inline]
fn put_new(streams: &mut [Vec<u8>; stream::COUNT], bytes: usize, text: &[u8], before: &[u8]) {
    let shared = text.iter().zip(before).take_while(|(a, b)| a == b).count();
    varint::put(&mut streams[stream::SHARED], shared as u64);
    varint::put(&mut streams[stream::LENGTH], (text.len() - shared) as u64);
    streams[bytes].extend_from_slice(&text[shared..]);
}

/// The form of a context, and its fields.
fn shape(context: &[u8]) -> (u64, u32) {
    match context.len() {
        0 => (form::NONE, 0),
        CONTEXT_SIZE_MAX => {
            let mut presence = 0;
            for (bit, &(offset, size, _)) in CONTEXT.iter().enumerate() {
                let is_set = context[offset..offset + size].iter().any(|byte| *byte != 0);
                presence |= u32::from(is_set) << bit;
            }
            (form::FIXED, presence)
        }
        _ => compact_presence(context).map_or((form::RAW, 0), |presence| (form::COMPACT, presence)),
    }
}

/// The presence bits of a compact context that is one.
#[inline]
fn compact_presence(context: &[u8]) -> Option<u32> {
    let presence = u32::from_le_bytes(*context.first_chunk()?);
    let mut at = 4;
    let mut bits = presence;
    while bits != 0 {
        let bit = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        at += match CONTEXT.get(bit) {
            Some((_, size, false)) => *size,
            _ => 2 + usize::from(u16::from_le_bytes(*context.get(at..)?.first_chunk()?)),
        };
    }
    (at == context.len()).then_some(presence)
}

fn split_compact(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    context: &[u8],
    context_at: usize,
    presence: u32,
    records: &[u8],
) {
    let mut at = 4;
    let mut path = NO_TEXT;
    let mut bits = presence;
    while bits != 0 {
        let bit = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        match CONTEXT.get(bit) {
            Some((_, size, false)) => {
                split_integer(state, streams, bit, path, load(context, at, *size));
                at += size;
            }
            _ => {
                let size = load(context, at, 2) as usize;
                at += 2;
                let text = &context[at..at + size];
                let place = split_text(state, streams, bit, text, context_at + at, records);
                if bit == PATH {
                    path = place;
                }
                at += size;
            }
        }
    }
}

fn split_fixed(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    context: &[u8],
    context_at: usize,
    presence: u32,
    records: &[u8],
) {
    let mut path = NO_TEXT;
    for (bit, &(offset, size, is_text)) in
        CONTEXT.iter().enumerate().filter(|(bit, _)| presence >> bit & 1 != 0)
    {
        if is_text {
            let field = &context[offset..offset + size];
            let length = field.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let place = split_text(state, streams, bit, &field[..length], context_at + offset, records);
            if bit == PATH {
                path = place;
            }
        } else {
            split_integer(state, streams, bit, path, load(context, offset, size));
        }
    }
}

#[inline]
fn split_integer(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    bit: usize,
    path: usize,
    value: u64,
) {
    varint::put_difference(&mut streams[stream::INTEGER], value, state.integer_expected(bit, path));
    state.note_integer(bit, path, value);
}

/// Where the numbers of a text field go, and its bytes.
const fn text_streams(bit: usize) -> (usize, usize) {
    if bit == PATH { (stream::PATH, stream::PATH_BYTES) } else { (stream::TEXT, stream::TEXT_BYTES) }
}

#[inline]
fn split_text(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    bit: usize,
    text: &[u8],
    start: usize,
    records: &[u8],
) -> usize {
    let (numbers, bytes) = text_streams(bit);
    let table = bit.min(CONTEXT.len());
    let near = state.near[table];
    let texts = &mut state.texts[table];
    let (number, mut place) = texts.find(text, near, records);
    varint::put(&mut streams[numbers], number);
    if number == 0 {
        let before = texts.bytes(texts.known.len().wrapping_sub(1), records);
        put_new(streams, bytes, text, before);
        place = texts.push(start, text.len());
    }
    texts.follow(near, place);
    state.near[table] = place;
    place
}

fn split_commit(
    state: &mut State,
    streams: &mut [Vec<u8>; stream::COUNT],
    commit: &Commit,
    at: usize,
    records: &[u8],
) {
    for (value, expected) in commit_numbers(commit).into_iter().zip(state.expected_commit(at)) {
        varint::put_difference(&mut streams[stream::COMMIT], value, expected);
    }
    let group = &records[state.group_start..at];
    let is_root = group.len() <= ROOT_GROUP_MAX && root(group) == commit.root;
    let mut derived = 0;
    for (bit, is_derived, digest) in [
        (ROOT_DERIVED, is_root, commit.root),
        (PREVIOUS_DERIVED, commit.previous_digest == state.commit.digest, commit.previous_digest),
        (DIGEST_DERIVED, commit.computed_digest() == commit.digest, commit.digest),
    ] {
        if is_derived {
            derived |= bit;
        } else {
            streams[stream::OTHER_BYTES].extend_from_slice(&digest.0);
        }
    }
    varint::put(&mut streams[stream::COMMIT], derived);
    state.commit = *commit;
}

/// Puts regrouped records together again; keeps its memory from one block to the next.
#[derive(Default)]
pub(crate) struct Joiner {
    state: State,
}

/// The bytes that come out, which are never more than there is room for.
struct Out<'o> {
    bytes: &'o mut [u8],
    at: usize,
    /// Up to here records have their checksums. They get them some records later: who reads at once what was written in
    /// smaller pieces waits for them.
    proven: usize,
}

/// Bytes of records that go without checksums at most, before they get them.
const CHECKSUMS_DUE: usize = 4096;

impl Out<'_> {
    /// The next `size` bytes, to be written.
    #[inline]
    fn room(&mut self, size: usize) -> Result<&mut [u8], DecodeError> {
        let limit = self.bytes.len();
        let end = self.at.checked_add(size).filter(|end| *end <= limit).ok_or(DecodeError::TooLarge {
            what: "regrouped records",
            found: self.at as u64 + size as u64,
            limit: limit as u64,
        })?;
        let start = std::mem::replace(&mut self.at, end);
        Ok(&mut self.bytes[start..end])
    }

    /// Gives all records before `end` their checksums.
    fn checksums(&mut self, end: usize) {
        while let Some(rest) = self.bytes.get_mut(self.proven..end).filter(|rest| !rest.is_empty()) {
            // Their sizes are right.
            let Some((header, _)) = rest.split_first_chunk() else { return };
            let size = load4(header, 64) as usize;
            let Some(record) = rest.get_mut(..size).filter(|record| !record.is_empty()) else { return };
            let checksum = kernel_crc32(record);
            record[84..88].copy_from_slice(&checksum.to_le_bytes());
            self.proven += size;
        }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// The next `size` bytes of a stream.
    #[inline]
    fn put_of(&mut self, stream: &mut Stream<'_>, size: usize) -> Result<(), DecodeError> {
        let from = stream.0;
        stream.take(size)?;
        let start = self.at;
        self.room(size)?;
        copy_short::<32>(from, &mut self.bytes[start..], size);
        Ok(())
    }

    /// `size` bytes again that have come out from `from` on.
    #[inline]
    fn put_again(&mut self, from: usize, size: usize) -> Result<(), DecodeError> {
        let start = self.at;
        self.room(size)?;
        let (before, room) = self.bytes.split_at_mut(start);
        copy_short::<64>(&before[from..], room, size);
        Ok(())
    }
}

/// Copies the first `size` bytes, which both have. Where they are few and more could be copied, more are: what is behind them
/// is still to be written, and how many they are need not be known then.
#[inline]
fn copy_short<const SHORT: usize>(from: &[u8], to: &mut [u8], size: usize) {
    match (from.first_chunk::<SHORT>(), to.first_chunk_mut::<SHORT>()) {
        (Some(from), Some(to)) if size <= SHORT => *to = *from,
        _ => to[..size].copy_from_slice(&from[..size]),
    }
}

type Streams<'a> = [Stream<'a>; stream::COUNT];

impl Joiner {
    /// Fills `out` with the records that were regrouped, and nothing else. Each has a right frame and checksum.
    pub(crate) fn join(
        &mut self,
        numbers: &[u8],
        texts: &[u8],
        out: &mut [u8],
    ) -> Result<Counts, DecodeError> {
        self.state.clear();
        let mut numbers = Stream(numbers);
        let mut texts = Stream(texts);
        let count = numbers.number32()?;
        let mut sizes = [0; stream::COUNT];
        for size in &mut sizes {
            *size = numbers.number32()? as usize;
        }
        let mut streams: Streams<'_> = [Stream::default(); stream::COUNT];
        for (place, (stream, size)) in streams.iter_mut().zip(sizes).enumerate() {
            *stream = Stream(if place < NUMBERS { numbers.take(size)? } else { texts.take(size)? });
        }
        let mut out = Out { bytes: out, at: 0, proven: 0 };
        let mut counts = Counts::default();
        let mut last = 0;
        for _ in 0..count {
            last = out.at;
            counts.push_id(self.record(&mut streams, &mut out)?);
            if out.at - out.proven > CHECKSUMS_DUE {
                out.checksums(out.at);
            }
        }
        out.checksums(out.at);
        let is_all = out.at == out.bytes.len()
            && numbers.0.is_empty()
            && texts.0.is_empty()
            && streams.iter().all(|stream| stream.0.is_empty());
        let time_of = |start| out.bytes.get(start + 16..start + 40)?.first_chunk().copied();
        counts.first_time = time_of(0).unwrap_or_default();
        counts.last_time = time_of(last).unwrap_or_default();
        if is_all { Ok(counts) } else { Err(DecodeError::Contradiction { what: "regrouped records" }) }
    }

    #[inline]
    fn record(&mut self, streams: &mut Streams<'_>, out: &mut Out<'_>) -> Result<u64, DecodeError> {
        let state = &mut self.state;
        let at = out.at;
        let kind = streams[stream::KIND].number()? as usize;
        if kind > state.kinds.len() {
            return Err(DecodeError::Contradiction { what: "the type of a regrouped record" });
        }
        if kind == state.kinds.len() {
            state.kinds.push(Kind::new(streams[stream::HEADER].number32()?));
        }
        let event_type = state.kinds[kind].event_type;
        let changes = streams[stream::CHANGES].number()?;
        if changes > ALL_CHANGES {
            return Err(DecodeError::Unknown { field: "changes of a regrouped record", found: changes });
        }
        let (header, _) = out.room(RECORD_SIZE_MIN)?.as_chunks_mut();
        let [header] = header else { return Err(DecodeError::Contradiction { what: "a regrouped record" }) };
        join_header(state, streams, kind, changes, header)?;
        let event_id = load8(header, 0);
        state.time = streams[stream::TIME].difference(state.time)?;
        store8(header, 16, state.time);
        store4(header, 8, event_type.into())?;
        // The checksum is that of a record without it.
        store4(header, 84, 0)?;
        if load4(header, 80) != EVENT_VERSION.into() {
            return Err(DecodeError::Contradiction { what: "a record of a storage block" });
        }
        let metadata_size = part(load4(header, 76), METADATA_SIZE_MAX, "metadata")?;
        let links = part(load4(header, 96), LINK_COUNT_MAX, "links")? * LINK_SIZE;
        let following = FOLLOWING.map(|(_, offset)| load8(header, offset));
        let context_at = out.at;
        if changes & SHAPE_CHANGED != 0 {
            let form = streams[stream::SHAPE].number()?;
            let presence = streams[stream::SHAPE].number32()?;
            let fields = match form {
                form::COMPACT => u32::MAX,
                form::FIXED => (1 << CONTEXT.len()) - 1,
                _ => 0,
            };
            if presence & !fields != 0 {
                return Err(DecodeError::Contradiction { what: "the shape of a regrouped context" });
            }
            (state.kinds[kind].form, state.kinds[kind].presence) = (form, presence);
        }
        let presence = state.kinds[kind].presence;
        match state.kinds[kind].form {
            form::NONE => {}
            form::COMPACT => join_compact(state, streams, presence, out)?,
            form::FIXED => join_fixed(state, streams, presence, out)?,
            form::RAW => {
                let size = streams[stream::LENGTH].number()?;
                let context = streams[stream::OTHER_BYTES].take(part(size, CONTEXT_SIZE_MAX, "context")?)?;
                out.put(context)?;
            }
            found => return Err(DecodeError::Unknown { field: "form of a context", found }),
        }
        let payload_at = out.at;
        let context_size = part((payload_at - context_at) as u64, CONTEXT_SIZE_MAX, "context")?;
        if changes & IS_COMMIT != 0 {
            if event_id != 0 || event_type != EventType::JOURNAL_COMMIT.0 {
                return Err(DecodeError::Contradiction { what: "a regrouped commit" });
            }
            join_commit(state, streams, at, out)?;
        } else {
            let near = state.kinds[kind].payload;
            let number = streams[stream::PAYLOAD].number()?;
            let texts = &mut state.payloads;
            let place =
                join_text(texts, streams, number, near, near, stream::PAYLOAD_BYTES, PAYLOAD_SIZE_MAX, out)?;
            texts.follow(near, place);
            state.kinds[kind].payload = place;
        }
        let payload_size = out.at - payload_at;
        out.put(streams[stream::OTHER_BYTES].take(metadata_size + links)?)?;
        let end = out.at;
        for (offset, size) in [(64, end - at), (68, context_size), (72, payload_size)] {
            out.bytes[at + offset..at + offset + 4].copy_from_slice(&(size as u32).to_le_bytes());
        }
        state.note(kind, event_id, following, end);
        Ok(event_id)
    }
}

/// A part of a record, which must be within its limit.
fn part(size: u64, limit: usize, what: &'static str) -> Result<usize, DecodeError> {
    let limit64 = limit as u64;
    if size > limit64 {
        return Err(DecodeError::TooLarge { what, found: size, limit: limit64 });
    }
    Ok(size as usize)
}

/// A text by its number: one that is known is copied, another one read behind what it shares with the one at `before`.
#[expect(
    clippy::too_many_arguments,
    reason = "they are the two sides of a text: where it comes from, where it goes"
)]
#[inline]
fn join_text(
    texts: &mut Texts,
    streams: &mut Streams<'_>,
    number: u64,
    near: usize,
    before: usize,
    bytes: usize,
    limit: usize,
    out: &mut Out<'_>,
) -> Result<usize, DecodeError> {
    let start = out.at;
    let place = match number {
        0 => {
            let before = texts.known.get(before).map_or(0..0, |known| known.start..known.start + known.size);
            let shared = part(streams[stream::SHARED].number()?, before.len(), "what a text shares")?;
            let rest = part(streams[stream::LENGTH].number()?, limit, "a text")?;
            let size = part((shared + rest) as u64, limit, "a text")?;
            out.put_again(before.start, shared)?;
            out.put_of(&mut streams[bytes], rest)?;
            return Ok(texts.push(start, size));
        }
        1 => texts.expected(near),
        other => (other - OTHER_TEXT) as usize,
    };
    let known = texts.known.get(place).copied();
    let known = known.ok_or(DecodeError::Contradiction { what: "the number of a text" })?;
    part(known.size as u64, limit, "a text")?;
    out.put_again(known.start, known.size)?;
    Ok(place)
}

fn join_field_text(
    state: &mut State,
    streams: &mut Streams<'_>,
    bit: usize,
    limit: usize,
    out: &mut Out<'_>,
) -> Result<usize, DecodeError> {
    let (numbers, bytes) = text_streams(bit);
    let table = bit.min(CONTEXT.len());
    let near = state.near[table];
    let texts = &mut state.texts[table];
    let number = streams[numbers].number()?;
    let before = texts.known.len().wrapping_sub(1);
    let place = join_text(texts, streams, number, near, before, bytes, limit, out)?;
    texts.follow(near, place);
    state.near[table] = place;
    Ok(place)
}

fn join_integer(
    state: &mut State,
    streams: &mut Streams<'_>,
    bit: usize,
    path: usize,
    room: &mut [u8],
) -> Result<(), DecodeError> {
    let value = streams[stream::INTEGER].difference(state.integer_expected(bit, path))?;
    if let Ok(room) = <&mut [u8; 8]>::try_from(&mut *room) {
        *room = value.to_le_bytes();
    } else if let (Ok(room), Ok(value)) = (<&mut [u8; 4]>::try_from(room), u32::try_from(value)) {
        *room = value.to_le_bytes();
    } else {
        return Err(DecodeError::Contradiction { what: "a field of a regrouped context" });
    }
    state.note_integer(bit, path, value);
    Ok(())
}

fn join_compact(
    state: &mut State,
    streams: &mut Streams<'_>,
    presence: u32,
    out: &mut Out<'_>,
) -> Result<(), DecodeError> {
    out.put(&presence.to_le_bytes())?;
    let mut path = NO_TEXT;
    let mut bits = presence;
    while bits != 0 {
        let bit = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        match CONTEXT.get(bit) {
            Some((_, size, false)) => join_integer(state, streams, bit, path, out.room(*size)?)?,
            _ => {
                let length_at = out.at;
                out.room(2)?;
                let place = join_field_text(state, streams, bit, CONTEXT_SIZE_MAX, out)?;
                let length = (out.at - length_at - 2) as u16;
                out.bytes[length_at..length_at + 2].copy_from_slice(&length.to_le_bytes());
                if bit == PATH {
                    path = place;
                }
            }
        }
    }
    Ok(())
}

fn join_fixed(
    state: &mut State,
    streams: &mut Streams<'_>,
    presence: u32,
    out: &mut Out<'_>,
) -> Result<(), DecodeError> {
    let mut path = NO_TEXT;
    for (bit, &(_, size, is_text)) in CONTEXT.iter().enumerate() {
        let end = out.at + size;
        if presence >> bit & 1 == 0 {
            out.room(size)?.fill(0);
        } else if is_text {
            let place = join_field_text(state, streams, bit, size, out)?;
            if bit == PATH {
                path = place;
            }
            let rest = end - out.at;
            out.room(rest)?.fill(0);
        } else {
            join_integer(state, streams, bit, path, out.room(size)?)?;
        }
    }
    Ok(())
}

fn join_commit(
    state: &mut State,
    streams: &mut Streams<'_>,
    at: usize,
    out: &mut Out<'_>,
) -> Result<(), DecodeError> {
    let mut numbers = [0; 10];
    for (value, expected) in numbers.iter_mut().zip(state.expected_commit(at)) {
        *value = streams[stream::COMMIT].difference(expected)?;
    }
    let derived = streams[stream::COMMIT].number()?;
    let mut digest = |bit: u64, computed: &dyn Fn() -> Digest| -> Result<Digest, DecodeError> {
        if derived & bit != 0 {
            return Ok(computed());
        }
        let mut digest = Digest::ZERO;
        digest.0.copy_from_slice(streams[stream::OTHER_BYTES].take(size_of::<Digest>())?);
        Ok(digest)
    };
    let number32 = |value: u64| {
        u32::try_from(value).map_err(|_| DecodeError::Contradiction { what: "a regrouped commit" })
    };
    // The root is over whole records.
    out.checksums(at);
    let group = &out.bytes[state.group_start..at];
    if derived > ALL_DERIVED || derived & ROOT_DERIVED != 0 && group.len() > ROOT_GROUP_MAX {
        return Err(DecodeError::Contradiction { what: "a regrouped commit" });
    }
    let mut commit = Commit {
        commit_sequence: numbers[0],
        epoch: numbers[1],
        first_event_id: numbers[2],
        last_event_id: numbers[3],
        record_count: number32(numbers[4])?,
        event_count: number32(numbers[5])?,
        byte_count: numbers[6],
        synced_upto: numbers[7],
        flags: number32(numbers[8])?,
        reserved: number32(numbers[9])?,
        root: digest(ROOT_DERIVED, &|| root(group))?,
        previous_digest: digest(PREVIOUS_DERIVED, &|| state.commit.digest)?,
        digest: Digest::ZERO,
    };
    commit.digest = digest(DIGEST_DERIVED, &|| commit.computed_digest())?;
    out.put(&commit.encode())?;
    state.commit = commit;
    Ok(())
}
