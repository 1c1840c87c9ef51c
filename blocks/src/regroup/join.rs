//! Joining: each step has its counterpart in [`super::split`].

use semj_format::checksum::kernel_crc32;
use semj_format::control::Commit;
use semj_format::event_header::EVENT_VERSION;
use semj_format::limits::{
    CONTEXT_SIZE_MAX, LINK_COUNT_MAX, LINK_SIZE, METADATA_SIZE_MAX, PAYLOAD_SIZE_MAX, RECORD_SIZE_MIN,
};
use semj_format::{Digest, EventType};

use super::{
    ALL_CHANGES, ALL_DERIVED, ALL_OF_KIND, CONTEXT, Counts, DIGEST_DERIVED, FOLLOWING, Header, IS_COMMIT,
    Kind, NO_TEXT, NUMBERS, OF_KIND, ORIGIN, OTHER_TEXT, PARENT, PATH, PREVIOUS_DERIVED, ROOT_CAUSE,
    ROOT_DERIVED, ROOT_GROUP_MAX, SHAPE_CHANGED, State, Texts, bits, form, load, load4, load8, root, store4,
    store8, stream, text_streams,
};
use crate::error::DecodeError;
use crate::varint::Stream;

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
    for bit in bits(presence) {
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
