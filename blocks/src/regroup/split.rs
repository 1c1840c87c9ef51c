//! Splitting: each step has its counterpart in [`super::join`].

use semj_format::control::Commit;
use semj_format::limits::{CONTEXT_SIZE_MAX, RECORD_SIZE_MIN};
use semj_format::{EventType, Record};

use super::{
    CONTEXT, Counts, DIGEST_DERIVED, FOLLOWING, Header, IS_COMMIT, Kind, NO_TEXT, NUMBERS, OF_KIND, ORIGIN,
    PARENT, PATH, PREVIOUS_DERIVED, ROOT_CAUSE, ROOT_DERIVED, ROOT_GROUP_MAX, SHAPE_CHANGED, State, bits,
    commit_numbers, differs_of_kind, form, load, load4, load8, root, stream, text_streams,
};
use crate::error::EncodeError;
use crate::header::BLOCK_SIZE_MAX;
use crate::varint::{self};

/// Regroups records; keeps its memory from one block to the next.
#[derive(Default)]
pub(crate) struct Splitter {
    state: State,
    streams: [Vec<u8>; stream::COUNT],
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
    for bit in bits(presence) {
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
    for bit in bits(presence) {
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
