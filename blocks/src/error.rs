//! What can be wrong.

use semj_format::{HeaderError, RecordError};
use thiserror::Error;

/// Why a segment can't be compressed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The bytes are no segment that was closed in order: nothing but such a one is ever compressed.
    #[error("not a sealed segment: {why}")]
    NotSealed {
        /// What is missing.
        why: &'static str,
    },
    /// A record is not one, so that the segment is damaged.
    #[error("the record at offset {offset}: {source}")]
    Record {
        /// Offset in the segment.
        offset: usize,
        /// What is wrong.
        source: RecordError,
    },
    /// Something other than zeros stands behind the segment's end, and would be lost.
    #[error("a byte other than zero behind the segment's end, at offset {offset}")]
    Behind {
        /// Offset in the segment.
        offset: usize,
    },
    /// A block is to hold no record.
    #[error("no record for a block")]
    Empty,
    /// The codec failed.
    #[error("{codec} failed: {detail}")]
    Codec {
        /// The codec's name.
        codec: &'static str,
        /// What it says.
        detail: String,
    },
    /// A block does not give back its records.
    #[error("the block of the records from offset {offset} on does not give them back")]
    NotGivenBack {
        /// Offset in the segment.
        offset: usize,
        /// What is wrong with the block, where it is not only other bytes.
        source: Option<DecodeError>,
    },
    /// What a compressed segment counts is more than it can hold.
    #[error("{what} do not fit")]
    TooLarge {
        /// What is counted.
        what: &'static str,
    },
}

/// Why bytes are no compressed segment, or no block of one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end too soon.
    #[error("{what}: {needed} bytes are needed, {available} are there")]
    Truncated {
        /// What was read.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// A magic number, version or type that is not known.
    #[error("{field} {found:#x} is not known")]
    Unknown {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
    },
    /// A checksum or digest is not that of the bytes.
    #[error("{what} has the checksum {found}, computed {computed}")]
    Checksum {
        /// What it is of.
        what: &'static str,
        /// The one that stands there, in hexadecimal digits.
        found: String,
        /// That of the bytes.
        computed: String,
    },
    /// One of the blocks.
    #[error("block {block} at offset {offset}: {source}")]
    Block {
        /// Its place among the blocks, from 0.
        block: usize,
        /// Offset in the file.
        offset: u64,
        /// What is wrong with it.
        source: Box<Self>,
    },
    /// The journal header at the beginning, or the native one in the seal.
    #[error("journal header: {0}")]
    Header(#[source] HeaderError),
    /// A size, number or offset is not what the rest says.
    #[error("{field} is {found}, expected {expected}")]
    Figure {
        /// The field.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// More would come out than is promised, or may be: a bomb.
    #[error("{what}: {found} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Bytes it has or says that it has.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The codec did not accept the bytes.
    #[error("{codec} data: {detail}")]
    Codec {
        /// The codec's name.
        codec: &'static str,
        /// What it says.
        detail: String,
    },
    /// The bytes are right and say something that can't be.
    #[error("{what} contradicts itself")]
    Contradiction {
        /// What was read.
        what: &'static str,
    },
}

impl DecodeError {
    /// Of a CRC-32.
    pub(crate) fn crc32(what: &'static str, found: u32, computed: u32) -> Self {
        Self::Checksum { what, found: format!("{found:08x}"), computed: format!("{computed:08x}") }
    }
}
