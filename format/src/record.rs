//! A whole record, borrowed from the buffer it stands in.

use core::fmt;

use thiserror::Error;

use crate::checksum::kernel_crc32_without;
use crate::context::{Context, ContextError};
use crate::digest::{self, Digest};
use crate::event_header::{CHECKSUM_OFFSET, CausalityLink, EVENT_VERSION, EventHeader};
use crate::event_type::EventType;
use crate::layout::load;
use crate::limits::{
    CONTEXT_SIZE_MAX, LINK_COUNT_MAX, LINK_SIZE, METADATA_SIZE_MAX, PAYLOAD_SIZE_MAX, RECORD_SIZE_MIN,
};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The buffer ends inside the record.
    #[error("a record of {needed} bytes, {available} are left")]
    Truncated {
        /// Bytes that the record has.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// An event version that is not known.
    #[error("event_version {found}, expected {EVENT_VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A part is longer than it may be.
    #[error("{part} {found}, its limit is {limit}")]
    PartTooLarge {
        /// The header field that gives the part's size.
        part: &'static str,
        /// Its value.
        found: u32,
        /// The largest value it may have.
        limit: usize,
    },
    /// The parts do not add up.
    #[error("event_size {found}, its parts make {parts}")]
    Size {
        /// The `event_size` found.
        found: u32,
        /// What the parts make.
        parts: usize,
    },
    /// The checksum is not that of the bytes.
    #[error("checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum that is stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

/// One record whose frame holds: its sizes are within the limits, add up, and lie in the buffer.
///
/// That the bytes are those that were written is another question, which [`Record::verify_checksum`] answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The header, apart, so that reading a field needs no bounds check.
    header: &'a [u8; EventHeader::SIZE],
    bytes: &'a [u8],
}

macro_rules! header_fields {
    ($( $(#[$meta:meta])* $field:ident: $ty:ty = $offset:literal; )*) => {
        $(
            $(#[$meta])*
            #[inline]
            pub fn $field(&self) -> $ty {
                load(self.header, $offset)
            }
        )*
    };
}

impl<'a> Record<'a> {
    /// The record at the beginning of `buffer`.
    ///
    /// Each size is held against its limit before it is used; zero bytes are never a record.
    ///
    /// # Errors
    ///
    /// What makes the bytes no record. The checksum is not looked at.
    #[inline]
    pub fn parse(buffer: &'a [u8]) -> Result<Self, RecordError> {
        let available = buffer.len();
        let header: &[u8; EventHeader::SIZE] =
            buffer.first_chunk().ok_or(RecordError::Truncated { needed: RECORD_SIZE_MIN, available })?;
        let version: u32 = load(header, 80);
        if version != EVENT_VERSION {
            return Err(RecordError::Version { found: version });
        }
        let part = |offset, part, limit| -> Result<usize, RecordError> {
            let found: u32 = load(header, offset);
            // A u32 fits into a usize on every platform that can map a segment.
            if found as usize > limit {
                return Err(RecordError::PartTooLarge { part, found, limit });
            }
            Ok(found as usize)
        };
        let parts = RECORD_SIZE_MIN
            + part(68, "context_size", CONTEXT_SIZE_MAX)?
            + part(72, "payload_size", PAYLOAD_SIZE_MAX)?
            + part(76, "metadata_size", METADATA_SIZE_MAX)?
            + part(96, "causality_link_count", LINK_COUNT_MAX)? * LINK_SIZE;
        let event_size: u32 = load(header, 64);
        if event_size as usize != parts {
            return Err(RecordError::Size { found: event_size, parts });
        }
        let bytes = buffer.get(..parts).ok_or(RecordError::Truncated { needed: parts, available })?;
        Ok(Self { header, bytes })
    }

    /// [`Record::parse`], and the checksum too.
    ///
    /// # Errors
    ///
    /// What makes the bytes no record, or a checksum that is not theirs.
    #[inline]
    pub fn parse_verified(buffer: &'a [u8]) -> Result<Self, RecordError> {
        let record = Self::parse(buffer)?;
        record.verify_checksum()?;
        Ok(record)
    }

    /// Checks the record's checksum.
    ///
    /// # Errors
    ///
    /// [`RecordError::Checksum`] with the stored and the computed value.
    #[inline]
    pub fn verify_checksum(&self) -> Result<(), RecordError> {
        let computed = kernel_crc32_without::<CHECKSUM_OFFSET>(self.bytes);
        let found = self.checksum();
        if found != computed {
            return Err(RecordError::Checksum { found, computed });
        }
        Ok(())
    }

    /// All bytes of the record.
    #[inline]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of the record: `event_size`.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a record is never empty")]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All header fields.
    pub fn header(&self) -> EventHeader {
        EventHeader::decode(self.header)
    }

    header_fields! {
        /// The event's id, 0 for the journal's own records.
        event_id: u64 = 0;
        /// Nanoseconds of CLOCK_MONOTONIC.
        ktime_ns: i64 = 16;
        /// The process that caused it.
        process_id: u32 = 36;
        /// The priority's number.
        event_priority: u32 = 60;
        /// The stored checksum.
        checksum: u32 = 84;
        /// The event that led to this one, 0 where there is none.
        parent_event_id: u64 = 100;
        /// The first event of the causal chain.
        root_cause_event_id: u64 = 108;
        /// A bit for each agent that may see the event.
        agent_visibility_mask: u64 = 116;
    }

    /// The event's type.
    #[inline]
    pub fn event_type(&self) -> EventType {
        EventType(load(self.header, 8))
    }

    /// The event's subtype.
    #[inline]
    pub fn event_subtype(&self) -> u32 {
        load(self.header, 12)
    }

    /// Whether this is one of the journal's own records.
    #[inline]
    pub fn is_control(&self) -> bool {
        self.event_id() == 0
    }

    /// The offsets in the record where its context, payload, metadata and links end. `parse` has shown that
    /// they lie within the record.
    #[inline]
    fn ends(&self) -> [usize; 4] {
        let size = |offset| load::<u32>(self.header, offset) as usize;
        let context = EventHeader::SIZE + size(68);
        let payload = context + size(72);
        let metadata = payload + size(76);
        [context, payload, metadata, metadata + size(96) * LINK_SIZE]
    }

    /// The context's bytes, in whichever form.
    #[inline]
    pub fn context_bytes(&self) -> &'a [u8] {
        let [end, ..] = self.ends();
        &self.bytes[EventHeader::SIZE..end]
    }

    /// The context, where the record has one.
    ///
    /// # Errors
    ///
    /// A compact context that is not one.
    pub fn context(&self) -> Result<Option<Context<'a>>, ContextError> {
        Context::parse(self.context_bytes())
    }

    /// The payload.
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        let [start, end, ..] = self.ends();
        &self.bytes[start..end]
    }

    /// The metadata.
    #[inline]
    pub fn metadata(&self) -> &'a [u8] {
        let [_, start, end, _] = self.ends();
        &self.bytes[start..end]
    }

    /// The causality links.
    pub fn links(&self) -> impl ExactSizeIterator<Item = CausalityLink> + use<'a> {
        let [_, _, start, end] = self.ends();
        let (links, _) = self.bytes[start..end].as_chunks::<LINK_SIZE>();
        links.iter().map(CausalityLink::decode)
    }

    /// The record's leaf hash in its commit's tree.
    pub fn leaf(&self) -> Digest {
        digest::leaf(self.bytes)
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("event_id", &self.event_id())
            .field("event_type", &self.event_type())
            .field("event_size", &self.len())
            .finish_non_exhaustive()
    }
}

/// Walks records that stand back to back.
///
/// Yields each with its offset from the beginning of the buffer, and ends after the first error: where a
/// frame is wrong, nothing says where the next one begins.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Records<'a> {
    /// The records of `buffer` from offset `from` on, to the buffer's end.
    pub const fn new(buffer: &'a [u8], from: usize) -> Self {
        Self { buffer, at: from }
    }

    /// Offset of the next record.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// What is not walked over yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(usize, Record<'a>), RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.buffer.get(self.at..).filter(|rest| !rest.is_empty())?;
        let parsed = Record::parse(rest);
        match parsed {
            Ok(record) => {
                let offset = self.at;
                self.at += record.len();
                Some(Ok((offset, record)))
            }
            Err(error) => {
                self.at = self.buffer.len();
                Some(Err(error))
            }
        }
    }
}
