//! A consumer's mark: how far somebody has come who reads a journal from time to time (SPEC.md, "Consumer's mark").

use thiserror::Error;

use crate::checksum::kernel_crc32;
use crate::digest::Digest;
use crate::layout::on_disk;

/// "SEMP" (position), as [`crate::journal_header::MAGIC`] is "SEMJ".
pub const MAGIC: u32 = 0x5345_4D50;
/// The layout that this crate reads and writes.
pub const VERSION: u32 = 1;
/// Bytes of a consumer's name at most.
pub const NAME_SIZE_MAX: usize = 100;

on_disk! {
    /// The file of one consumer.
    pub struct ConsumerMark [128] {
        /// [`MAGIC`].
        0 magic: u32,
        /// [`VERSION`].
        4 version: u32,
        /// The journal's UUID.
        8 journal_uuid: [u8; 16],
        /// The segment that the consumer is in.
        24 segment_number: u64,
        /// Offset in it where the next group begins, or the one that it has part of.
        32 offset: u64,
        /// The last commit before `offset`.
        40 commit_sequence: u64,
        /// The last event that it has, 0 if it has none.
        48 last_event_id: u64,
        /// The highest id before `offset` that it has: what it still needs has a higher one.
        56 behind_event_id: u64,
        /// The digest of that commit, or of the seal that ends at `offset`.
        64 digest: Digest,
        /// Records of the group at `offset` that it has.
        96 records_given: u32,
        /// Zero.
        100 reserved: u32,
        /// When this was written: nanoseconds since 1970.
        104 wall_clock_ns: i64,
        /// Zero.
        112 more_reserved: [u8; 12],
        /// The kernel's CRC-32 of the 124 bytes before.
        124 checksum: u32,
    }
}

/// Why a file is no consumer's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConsumerMarkError {
    /// The file has another size.
    #[error("{found} bytes, expected {}", ConsumerMark::SIZE)]
    Size {
        /// Its bytes.
        found: usize,
    },
    /// Not a consumer's mark.
    #[error("magic {found:#010x}, expected {MAGIC:#010x}")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// The checksum is not that of the bytes.
    #[error("checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// The checksum that is stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A layout that this reader does not know.
    #[error("version {found}, this reader knows {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}

impl ConsumerMark {
    /// The same with a right checksum.
    #[must_use]
    pub fn with_checksum(mut self) -> Self {
        self.checksum = self.computed_checksum();
        self
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.encode();
        kernel_crc32(&bytes[..Self::SIZE - 4])
    }

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// Another size, another magic, a wrong checksum, an unknown version; in this order.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConsumerMarkError> {
        let Ok(file) = bytes.try_into() else {
            return Err(ConsumerMarkError::Size { found: bytes.len() });
        };
        let mark = Self::decode(file);
        if mark.magic != MAGIC {
            return Err(ConsumerMarkError::Magic { found: mark.magic });
        }
        let computed = mark.computed_checksum();
        if mark.checksum != computed {
            return Err(ConsumerMarkError::Checksum { found: mark.checksum, computed });
        }
        if mark.version != VERSION {
            return Err(ConsumerMarkError::Version { found: mark.version });
        }
        Ok(mark)
    }
}

/// Whether this may be a consumer's name, which is that of its file too: letters, digits, `-`, `_` and `.`, not at the
/// beginning, [`NAME_SIZE_MAX`] at most.
pub fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_SIZE_MAX).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with('.')
        && !name.ends_with(".tmp")
        && !name.ends_with(".lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_every_flipped_bit_is_noticed() {
        let mark = ConsumerMark {
            magic: MAGIC,
            version: VERSION,
            journal_uuid: [7; 16],
            segment_number: 1,
            offset: 2,
            commit_sequence: 3,
            last_event_id: 4,
            behind_event_id: 5,
            digest: Digest([6; 32]),
            records_given: 7,
            reserved: 0,
            wall_clock_ns: 8,
            more_reserved: [0; 12],
            checksum: 0,
        }
        .with_checksum();
        let bytes = mark.encode();
        assert_eq!(ConsumerMark::parse(&bytes), Ok(mark));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ConsumerMark::parse(&flipped).is_err(), "bit {bit}");
        }
        assert_eq!(ConsumerMark::parse(&bytes[..127]), Err(ConsumerMarkError::Size { found: 127 }));
    }

    #[test]
    fn a_name_is_a_files_name_and_no_way_out_of_the_directory() {
        for good in ["indexer", "a", "Backup-2.0_x", &"x".repeat(100)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a\0", "ü", "x.tmp", "x.lock", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
