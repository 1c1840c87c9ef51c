//! The journal header: 52 bytes at offset 0 of every file.

use thiserror::Error;

use crate::digest;
use crate::layout::on_disk;

/// "SEMJ" as a big-endian word; the bytes on disk are `4A 4D 45 53`.
pub const MAGIC: u32 = 0x5345_4D4A;
/// The kernel's format version that this crate reads and writes.
pub const VERSION_MAJOR: u32 = 1;
/// See [`VERSION_MAJOR`]; another minor version is read too.
pub const VERSION_MINOR: u32 = 0;
/// Flag: the segment was closed in order. Its figures are final and its last record is a SegmentSeal.
pub const FLAG_SEALED: u32 = 0x1;
/// Flag: the segment's end was found and set by recovery after an unclean end. Its figures are final; what
/// stands behind `journal_size` is not part of the journal.
pub const FLAG_CUT: u32 = 0x2;
/// Flag: events were taken out of the segment. Its figures are those of the file as it is now.
pub const FLAG_THINNED: u32 = 0x4;
/// Flag: the file holds the segment in its compressed form: storage blocks with a block index at `index_offset`.
pub const FLAG_COMPRESSED: u32 = 0x8;

on_disk! {
    /// The header's fields. In a native segment that is neither sealed nor cut, the figures are those of the
    /// segment's creation and lag behind its records.
    pub struct JournalHeader [52] {
        /// [`MAGIC`].
        0 magic: u32,
        /// [`VERSION_MAJOR`].
        4 version_major: u32,
        /// [`VERSION_MINOR`].
        8 version_minor: u32,
        /// Records in the file, the journal's own included.
        12 total_events: u64,
        /// The id after the last one.
        20 next_event_id: u64,
        /// Bytes in use, this header included.
        28 journal_size: u64,
        /// Offset of an index inside the file, 0 where there is none: in a compressed segment, of its block index.
        36 index_offset: u64,
        /// [`FLAG_SEALED`], [`FLAG_CUT`], [`FLAG_THINNED`], [`FLAG_COMPRESSED`].
        44 flags: u32,
        /// See [`JournalHeader::computed_checksum`].
        48 checksum: u32,
    }
}

/// Why 52 bytes are not a journal header that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// The buffer ends inside the header.
    #[error("{available} bytes are shorter than a journal header (52)")]
    Truncated {
        /// Bytes there are.
        available: usize,
    },
    /// Not a SEMJ file.
    #[error("magic {found:#010x}, expected {MAGIC:#010x}")]
    Magic {
        /// What stands at offset 0.
        found: u32,
    },
    /// A major version that this reader does not know.
    #[error("format version {major}.{minor}, this reader knows {VERSION_MAJOR}.x")]
    Version {
        /// The major version found.
        major: u32,
        /// The minor version found.
        minor: u32,
    },
    /// The checksum is not that of the bytes.
    #[error("header checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum that is stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
}

impl JournalHeader {
    /// A header with these figures and a right checksum.
    pub fn new(total_events: u64, next_event_id: u64, journal_size: u64, flags: u32) -> Self {
        let mut header = Self {
            magic: MAGIC,
            version_major: VERSION_MAJOR,
            version_minor: VERSION_MINOR,
            total_events,
            next_event_id,
            journal_size,
            index_offset: 0,
            flags,
            checksum: 0,
        };
        header.checksum = header.computed_checksum();
        header
    }

    /// The first four bytes, as a little-endian word, of the SHA-256 over the header with its checksum zero.
    pub fn computed_checksum(&self) -> u32 {
        let bytes = Self { checksum: 0, ..*self }.encode();
        let [a, b, c, d, ..] = digest::plain(&bytes).0;
        u32::from_le_bytes([a, b, c, d])
    }

    /// Reads and checks the header at the beginning of `file`.
    ///
    /// # Errors
    ///
    /// Too few bytes, another magic, a wrong checksum, an unknown major version; in this order.
    pub fn parse(file: &[u8]) -> Result<Self, HeaderError> {
        let bytes = file.first_chunk().ok_or(HeaderError::Truncated { available: file.len() })?;
        let header = Self::decode(bytes);
        if header.magic != MAGIC {
            return Err(HeaderError::Magic { found: header.magic });
        }
        let computed = header.computed_checksum();
        if header.checksum != computed {
            return Err(HeaderError::Checksum { found: header.checksum, computed });
        }
        // Behind the checksum, so that a flipped bit is not taken for a newer version.
        if header.version_major != VERSION_MAJOR {
            return Err(HeaderError::Version { major: header.version_major, minor: header.version_minor });
        }
        Ok(header)
    }
}

impl HeaderError {
    /// Offset in the file of the field that is wrong.
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Truncated { available } => *available as u64,
            Self::Magic { .. } => 0,
            Self::Version { .. } => 4,
            Self::Checksum { .. } => 48,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trips_and_every_flipped_bit_is_noticed() {
        let bytes = JournalHeader::new(7, 9, 4711, FLAG_SEALED).encode();
        assert_eq!(bytes[..4], [0x4A, 0x4D, 0x45, 0x53]);
        assert_eq!(JournalHeader::parse(&bytes).unwrap().journal_size, 4711);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(JournalHeader::parse(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(JournalHeader::parse(&bytes[..51]), Err(HeaderError::Truncated { available: 51 }));
    }
}
