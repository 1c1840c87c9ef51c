//! The storage block header: the kernel's structure, with what the kernel leaves open fixed here.

use semj_format::checksum::{kernel_crc32, kernel_crc32_behind};
use semj_format::limits::RECORD_SIZE_MAX;
use semj_format::on_disk;

use crate::codec::Method;
use crate::error::DecodeError;

/// `SEMB` as a big-endian word.
pub(crate) const MAGIC: u32 = 0x5345_4D42;
/// The data are the records as they are.
pub const VERSION_PLAIN: u32 = 1;
/// The data are the records, regrouped by field.
pub const VERSION_REGROUPED: u32 = 2;
/// Bytes of records that a block has at most.
pub const BLOCK_SIZE_MAX: usize = 1 << 20;
/// Bytes of records that a block may be told to have, so that the last record still fits.
pub const BLOCK_TARGET_MAX: usize = BLOCK_SIZE_MAX - RECORD_SIZE_MAX;

on_disk! {
    /// The header that stands before a block's data.
    pub struct BlockHeader [104] {
        /// `SEMB` as a big-endian word.
        0 block_magic: u32,
        /// [`VERSION_PLAIN`], [`VERSION_REGROUPED`].
        4 block_version: u32,
        /// The block's place in the file, from 0.
        8 block_id: u64,
        /// Bytes of header and data.
        16 block_size: u32,
        /// Records in the block, the journal's own included.
        20 event_count: u32,
        /// How the data are compressed.
        24 compression_type: u32,
        /// Bytes of data.
        28 compressed_size: u32,
        /// Bytes of the records.
        32 uncompressed_size: u32,
        /// The kernel's CRC-32 over the header, with this field zero, and the data.
        36 block_checksum: u32,
        /// The time of the first record, as in its header.
        40 first_event_time: [u8; 24],
        /// The time of the last record.
        64 last_event_time: [u8; 24],
        /// The lowest id of an event in the block, 0 where there is none.
        88 first_event_id: u64,
        /// The highest id.
        96 last_event_id: u64,
    }
}

impl BlockHeader {
    /// The checksum that belongs to the other fields and to `data`.
    pub fn computed_checksum(&self, data: &[u8]) -> u32 {
        kernel_crc32_behind(kernel_crc32(&Self { block_checksum: 0, ..*self }.encode()), data)
    }

    /// The block at the beginning of `bytes`: its header, how its data are compressed, and the data. Checks everything
    /// that can be without decoding.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Method, &[u8]), DecodeError> {
        let truncated =
            |needed| DecodeError::Truncated { what: "storage block", needed, available: bytes.len() };
        let header = Self::decode(bytes.first_chunk().ok_or_else(|| truncated(Self::SIZE))?);
        if header.block_magic != MAGIC {
            return Err(DecodeError::Unknown { field: "block_magic", found: header.block_magic.into() });
        }
        // A u32 fits into a usize wherever a segment can be mapped.
        let end = header.block_size as usize;
        let data = bytes.get(Self::SIZE..end).ok_or_else(|| truncated(end))?;
        let computed = header.computed_checksum(data);
        if computed != header.block_checksum {
            return Err(DecodeError::crc32("a storage block", header.block_checksum, computed));
        }
        if data.len() != header.compressed_size as usize {
            return Err(DecodeError::Figure {
                field: "a storage block's compressed_size",
                found: header.compressed_size.into(),
                expected: data.len() as u64,
            });
        }
        if !matches!(header.block_version, VERSION_PLAIN | VERSION_REGROUPED) {
            return Err(DecodeError::Unknown { field: "block_version", found: header.block_version.into() });
        }
        if header.uncompressed_size == 0 {
            return Err(DecodeError::Contradiction { what: "a storage block without records" });
        }
        if header.uncompressed_size as usize > BLOCK_SIZE_MAX {
            return Err(DecodeError::TooLarge {
                what: "uncompressed_size",
                found: header.uncompressed_size.into(),
                limit: BLOCK_SIZE_MAX as u64,
            });
        }
        let method = Method::from_code(header.compression_type)?;
        Ok((header, method, data))
    }
}
