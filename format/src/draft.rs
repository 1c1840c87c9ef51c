//! A record that is about to be written.

use thiserror::Error;

use crate::checksum::kernel_crc32;
use crate::context::{Context, ContextError, FIXED_SIZE};
use crate::event_header::{
    CHECKSUM_OFFSET, CausalityLink, EVENT_SIZE_OFFSET, EVENT_VERSION, EventHeader, LINK_COUNT_OFFSET,
};
use crate::layout::store;
use crate::limits::{
    CONTEXT_SIZE_MAX, LINK_COUNT_MAX, LINK_SIZE, METADATA_SIZE_MAX, PAYLOAD_SIZE_MAX, RECORD_SIZE_MIN,
};
use crate::record::Record;

/// Why a record can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DraftError {
    /// The context can't be held by the format.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// A part is too long.
    #[error("{field} of {length} {unit}, the limit is {limit}")]
    TooLarge {
        /// Which part.
        field: &'static str,
        /// How long it is.
        length: usize,
        /// What is counted.
        unit: &'static str,
        /// How long it may be.
        limit: usize,
    },
}

/// The context of a draft.
#[derive(Clone, Copy, Debug, Default)]
pub enum DraftContext<'a> {
    /// No context.
    #[default]
    None,
    /// Fields, written in the compact form, or in the fixed one where that is no longer.
    Fields(Context<'a>),
    /// Bytes that are a context already, written as they are.
    Encoded(&'a [u8]),
}

/// Everything that makes a record. Sizes, link count, event version and checksum of `header` are computed
/// when it is written; what they hold here is not looked at.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// The header's fields.
    pub header: EventHeader,
    /// The context.
    pub context: DraftContext<'a>,
    /// The payload.
    pub payload: &'a [u8],
    /// The metadata.
    pub metadata: &'a [u8],
    /// The causality links.
    pub links: &'a [CausalityLink],
}

/// What encoding a draft takes, found out once: see [`Draft::measure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    size: usize,
    context_size: usize,
    /// The presence bits of a context's fields.
    presence: u32,
    /// Whether none but the first of them are set.
    is_plain: bool,
}

impl Measure {
    /// Bytes of the record.
    #[inline]
    pub const fn size(&self) -> usize {
        self.size
    }
}

/// Sets the checksum of a record that [`Draft::encode_without_checksum_into`] has written.
///
/// # Panics
///
/// If `record` is shorter than a record's header.
#[inline]
pub fn set_computed_checksum(record: &mut [u8]) {
    set_checksum(computed_checksum_of(record), record);
}

/// The checksum of a record that [`Draft::encode_without_checksum_into`] has written, for [`set_checksum`] on a copy of it.
#[inline]
pub fn computed_checksum_of(record: &[u8]) -> u32 {
    kernel_crc32(record)
}

/// Sets the checksum of a record.
///
/// # Panics
///
/// If `record` is shorter than a record's header.
#[inline]
pub fn set_checksum(checksum: u32, record: &mut [u8]) {
    store(checksum, record, CHECKSUM_OFFSET);
}

impl<'a> Draft<'a> {
    /// A draft with this header and nothing behind it.
    pub const fn new(header: EventHeader) -> Self {
        Self { header, context: DraftContext::None, payload: &[], metadata: &[], links: &[] }
    }

    /// A draft that writes `record` again. A context in the fixed form becomes compact where nothing is lost
    /// by it, that is where the fixed form can be had back byte for byte.
    ///
    /// The links come apart, because a draft borrows them: `record.links()` collected.
    pub fn of_record(record: &Record<'a>, links: &'a [CausalityLink]) -> Self {
        let bytes = record.context_bytes();
        let context = match bytes.first_chunk::<FIXED_SIZE>().and_then(compactable) {
            Some(fields) => DraftContext::Fields(fields),
            None if bytes.is_empty() => DraftContext::None,
            None => DraftContext::Encoded(bytes),
        };
        Self {
            header: record.header(),
            context,
            payload: record.payload(),
            metadata: record.metadata(),
            links,
        }
    }

    /// Bytes that the record will have.
    ///
    /// # Errors
    ///
    /// A part that is larger than the format allows, or a context that it can't hold.
    #[inline]
    pub fn encoded_size(&self) -> Result<usize, DraftError> {
        self.measure().map(|measure| measure.size)
    }

    /// Bytes that the record will have, and what else it saves to find out only once.
    ///
    /// # Errors
    ///
    /// As [`Self::encoded_size`].
    #[inline(always)]
    pub fn measure(&self) -> Result<Measure, DraftError> {
        self.measure_as(self.is_plain())
    }

    /// [`Self::measure`] of a draft whose context has no field set, or none but some of transaction, session, chain, path,
    /// inode number and file type. Who makes drafts knows; to find out takes as long as to write them. A field that is
    /// set all the same may be left out of the record.
    ///
    /// # Errors
    ///
    /// As [`Self::encoded_size`].
    #[inline(always)]
    pub fn measure_plain(&self) -> Result<Measure, DraftError> {
        let is_plain = matches!(self.context, DraftContext::Fields(_));
        debug_assert_eq!(is_plain, self.is_plain(), "another field is set");
        self.measure_as(is_plain)
    }

    #[inline(always)]
    fn measure_as(&self, is_plain: bool) -> Result<Measure, DraftError> {
        let presence = self.presence(is_plain);
        let context_size = match &self.context {
            DraftContext::None => 0,
            DraftContext::Fields(context) => context.measure(is_plain, presence)?,
            DraftContext::Encoded(bytes) => bounded("context", bytes.len(), "bytes", CONTEXT_SIZE_MAX)?,
        };
        let size = RECORD_SIZE_MIN
            + context_size
            + bounded("payload", self.payload.len(), "bytes", PAYLOAD_SIZE_MAX)?
            + bounded("metadata", self.metadata.len(), "bytes", METADATA_SIZE_MAX)?
            + bounded("causality links", self.links.len(), "links", LINK_COUNT_MAX)? * LINK_SIZE;
        Ok(Measure { size, context_size, presence, is_plain })
    }

    #[inline]
    fn is_plain(&self) -> bool {
        matches!(&self.context, DraftContext::Fields(context) if context.is_plain())
    }

    #[inline(always)]
    fn presence(&self, is_plain: bool) -> u32 {
        match &self.context {
            DraftContext::Fields(context) => context.presence(is_plain),
            DraftContext::None | DraftContext::Encoded(_) => 0,
        }
    }

    /// Writes the record over `out`, checksum included.
    ///
    /// # Panics
    ///
    /// If `out` does not have the length that [`Self::encoded_size`] gave. It is the caller that makes room.
    #[inline]
    pub fn encode_into(&self, out: &mut [u8]) {
        self.encode_without_checksum_into(out);
        set_computed_checksum(out);
    }

    /// [`Self::encode_into`] with a checksum of zero, for [`set_computed_checksum`] to set later.
    ///
    /// # Panics
    ///
    /// As [`Self::encode_into`].
    #[inline]
    pub fn encode_without_checksum_into(&self, out: &mut [u8]) {
        let tail_size = self.payload.len() + self.metadata.len() + self.links.len() * LINK_SIZE;
        let context_size = out.len() - EventHeader::SIZE - tail_size;
        let is_plain = self.is_plain();
        let presence = self.presence(is_plain);
        let measure = Measure { size: out.len(), context_size, presence, is_plain };
        self.encode_without_checksum_with(&self.header, measure, out);
    }

    /// [`Self::encode_without_checksum_into`] with another header, for a draft of which it is known what it takes: `measure` is
    /// what [`Self::measure`] gave of this draft.
    ///
    /// # Panics
    ///
    /// If `out` does not have the length that `measure` says.
    #[inline(always)]
    pub fn encode_without_checksum_with(
        &self,
        header_fields: &EventHeader,
        measure: Measure,
        out: &mut [u8],
    ) {
        let size = out.len();
        // Bytes that are too many would stay as they are, and be a part of the record.
        assert_eq!(size, measure.size, "a record has the size that was measured");
        let (header, body) = out.split_at_mut(EventHeader::SIZE);
        let (context, tail) = body.split_at_mut(measure.context_size);
        let (payload, tail) = tail.split_at_mut(self.payload.len());
        let (metadata, links) = tail.split_at_mut(self.metadata.len());
        let Some(header) = header.first_chunk_mut::<{ EventHeader::SIZE }>() else { return };
        header_fields.encode_into(header);
        // What the draft says of itself counts, and not what the header brought. The casts lose nothing: `encoded_size`
        // has bounded every part.
        store(size as u32, header, EVENT_SIZE_OFFSET);
        store(context.len() as u32, header, EVENT_SIZE_OFFSET + 4);
        store(self.payload.len() as u32, header, EVENT_SIZE_OFFSET + 8);
        store(self.metadata.len() as u32, header, EVENT_SIZE_OFFSET + 12);
        store(EVENT_VERSION, header, EVENT_SIZE_OFFSET + 16);
        store(0u32, header, CHECKSUM_OFFSET);
        store(self.links.len() as u32, header, LINK_COUNT_OFFSET);
        match &self.context {
            DraftContext::None => {}
            DraftContext::Fields(fields) => fields.write(measure.is_plain, measure.presence, context),
            DraftContext::Encoded(bytes) => context.copy_from_slice(bytes),
        }
        payload.copy_from_slice(self.payload);
        if !self.metadata.is_empty() {
            metadata.copy_from_slice(self.metadata);
        }
        if !self.links.is_empty() {
            write_links(self.links, links);
        }
    }

    /// The record in memory of its own.
    ///
    /// # Errors
    ///
    /// As [`Self::encoded_size`].
    #[cfg(feature = "alloc")]
    pub fn to_vec(&self) -> Result<alloc::vec::Vec<u8>, DraftError> {
        let mut out = alloc::vec![0; self.encoded_size()?];
        self.encode_into(&mut out);
        Ok(out)
    }
}

/// The fields of a fixed context, if writing them gives back the same bytes: texts that go on behind their
/// NUL, or have none, do not.
fn compactable(fixed: &[u8; FIXED_SIZE]) -> Option<Context<'_>> {
    let fields = Context::from_fixed(fixed);
    let mut again = [0; FIXED_SIZE];
    (fields.to_fixed(&mut again).is_ok() && again == *fixed).then_some(fields)
}

#[inline(never)]
fn write_links(links: &[CausalityLink], out: &mut [u8]) {
    let (slots, _) = out.as_chunks_mut::<LINK_SIZE>();
    for (slot, link) in slots.iter_mut().zip(links) {
        link.encode_into(slot);
    }
}

#[inline]
fn bounded(
    field: &'static str,
    length: usize,
    unit: &'static str,
    limit: usize,
) -> Result<usize, DraftError> {
    if length > limit {
        return Err(DraftError::TooLarge { field, length, unit, limit });
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use quickcheck::quickcheck;

    use super::*;
    use crate::record::{RecordError, Records};

    fn full_draft<'a>(links: &'a [CausalityLink], payload: &'a [u8]) -> Draft<'a> {
        let header = EventHeader {
            event_id: 77,
            event_subtype: 0xDEAD_BEEF,
            event_flags: 0xFFFF_0108,
            event_priority: 9,
            ..EventHeader::new(0x0FAB_CDEF)
        };
        let context = Context { path: b"/a/b", inode_number: 5, ..Context::default() };
        Draft { header, context: DraftContext::Fields(context), payload, metadata: b"meta", links }
    }

    fn link() -> CausalityLink {
        CausalityLink {
            cause_event_id: 1,
            effect_event_id: 2,
            causality_type: 3,
            causality_strength: 4,
            causality_delay_ns: -5,
            causality_description: [b'd'; 128],
        }
    }

    #[test]
    fn unknown_types_flags_and_subtypes_survive_a_round_trip() {
        let links = [link(), link()];
        let bytes = full_draft(&links, b"payload").to_vec().unwrap();
        let record = Record::parse_verified(&bytes).unwrap();
        let header = record.header();
        assert_eq!(
            (header.event_type, header.event_subtype, header.event_flags, header.event_priority),
            (0x0FAB_CDEF, 0xDEAD_BEEF, 0xFFFF_0108, 9)
        );
        assert_eq!(record.payload(), b"payload");
        assert_eq!(record.metadata(), b"meta");
        assert!(record.links().eq(links));
        assert_eq!(record.context().unwrap().unwrap().path, b"/a/b");
        assert_eq!(Draft::of_record(&record, &links).to_vec().unwrap(), bytes);
    }

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let links = [link()];
        let bytes = full_draft(&links, &[7; 200]).to_vec().unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse_verified(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_plain_context_has_the_same_measure_whether_it_is_known_to_be_plain_or_not() {
        for set in 0..1_u32 << 6 {
            let if_set = |bit: u32, value: u64| if set >> bit & 1 != 0 { value } else { 0 };
            let fields = Context {
                transaction_id: if_set(0, 1),
                session_id: if_set(1, u64::MAX),
                causality_chain_id: if_set(2, 3),
                path: if set >> 3 & 1 != 0 { b"/a/path" } else { b"" },
                inode_number: if_set(4, 5),
                file_type: if_set(5, 0o100_000) as u32,
                ..Context::default()
            };
            let context = DraftContext::Fields(fields);
            let draft = Draft { context, ..full_draft(&[], b"payload") };
            assert_eq!(draft.measure_plain(), draft.measure(), "fields {set:06b}");
            assert_eq!(draft.measure().unwrap().size(), draft.encoded_size().unwrap());
        }
    }

    #[test]
    #[should_panic(expected = "the size that was measured")]
    fn a_record_is_not_encoded_into_more_than_it_takes() {
        let draft = full_draft(&[], b"payload");
        let measure = draft.measure().unwrap();
        draft.encode_without_checksum_with(&draft.header, measure, &mut vec![0xEE; measure.size() + 1]);
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let bytes = full_draft(&[], &[7; 50]).to_vec().unwrap();
        for end in 0..bytes.len() {
            let error = Record::parse(&bytes[..end]).unwrap_err();
            assert!(matches!(error, RecordError::Truncated { available, .. } if available == end));
        }
    }

    #[test]
    fn zero_bytes_are_never_a_record() {
        assert_eq!(Record::parse(&[0; 4096]), Err(RecordError::Version { found: 0 }));
    }

    #[test]
    fn each_limit_is_kept_by_writer_and_reader() {
        let links = vec![link(); LINK_COUNT_MAX + 1];
        let bytes = vec![0; PAYLOAD_SIZE_MAX + 1];
        let base = full_draft(&[], b"");
        let too_large = |draft: Draft<'_>| matches!(draft.to_vec(), Err(DraftError::TooLarge { .. }));
        assert!(too_large(Draft { payload: &bytes, ..base }));
        assert!(too_large(Draft { metadata: &bytes[..METADATA_SIZE_MAX + 1], ..base }));
        assert!(too_large(Draft { links: &links, ..base }));
        assert!(too_large(Draft { context: DraftContext::Encoded(&bytes[..CONTEXT_SIZE_MAX + 1]), ..base }));
        let largest = Draft {
            context: DraftContext::Encoded(&bytes[..CONTEXT_SIZE_MAX]),
            payload: &bytes[1..],
            metadata: &bytes[..METADATA_SIZE_MAX],
            links: &links[1..],
            ..base
        };
        let largest = largest.to_vec().unwrap();
        assert_eq!(largest.len(), crate::limits::RECORD_SIZE_MAX);
        assert!(Record::parse_verified(&largest).is_ok());
        for (offset, part) in
            [(68, "context_size"), (72, "payload_size"), (76, "metadata_size"), (96, "causality_link_count")]
        {
            let mut over = largest.clone();
            over[offset] = over[offset].wrapping_add(1);
            match Record::parse(&over).unwrap_err() {
                RecordError::PartTooLarge { part: found, .. } => assert_eq!(found, part),
                other => panic!("{part}: {other}"),
            }
        }
    }

    #[test]
    fn a_fixed_context_becomes_compact_only_where_it_can_be_had_back() {
        let mut fixed = [0; FIXED_SIZE];
        Context { path: b"/x", ..Context::default() }.to_fixed(&mut fixed).unwrap();
        for (garbage_at, compact) in [(None, true), (Some(24 + 10), false), (Some(24 + 4095), false)] {
            let mut context = fixed;
            if let Some(at) = garbage_at {
                context[at] = 1;
            }
            let header = EventHeader::new(0x0101);
            let bytes =
                Draft { context: DraftContext::Encoded(&context), ..Draft::new(header) }.to_vec().unwrap();
            let record = Record::parse(&bytes).unwrap();
            let again = Draft::of_record(&record, &[]).to_vec().unwrap();
            assert_eq!(again.len() < bytes.len(), compact, "{garbage_at:?}");
        }
    }

    quickcheck! {
        fn walking_gives_back_what_was_written(payloads: Vec<Vec<u8>>) -> bool {
            let mut buffer = Vec::new();
            for payload in &payloads {
                buffer.extend(full_draft(&[], payload).to_vec().unwrap());
            }
            Records::new(&buffer, 0).map(|r| r.unwrap().1.payload().to_vec()).eq(payloads)
        }

        fn any_bytes_are_parsed_or_refused_without_a_panic(bytes: Vec<u8>) -> bool {
            Records::new(&bytes, 0).count() <= bytes.len()
        }
    }
}
