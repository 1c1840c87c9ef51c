//! The watermark: how far the journal was durable, kept outside of the segments (SPEC.md, "Watermark").
//!
//! What a commit says of itself can't prove that it was ever there: a last commit that rots looks like one that
//! a crash tore, and a newest segment that is gone like one that was never begun. The watermark is what tells
//! the two apart.

use thiserror::Error;

use crate::checksum::kernel_crc32;
use crate::digest::Digest;
use crate::layout::on_disk;

/// "SEMW", as [`crate::journal_header::MAGIC`] is "SEMJ".
pub const MAGIC: u32 = 0x5345_4D57;
/// The layout that this crate reads and writes.
pub const VERSION: u32 = 1;
/// Bytes from one slot to the other: a block of the disk each, so that a torn write harms one of them only.
pub const SLOT_STRIDE: usize = 4096;
/// Slots of the file. They are written in turn, each one made durable before the other is touched.
pub const SLOT_COUNT: usize = 2;
/// Bytes of the file.
pub const FILE_SIZE: usize = SLOT_STRIDE * SLOT_COUNT;

on_disk! {
    /// One slot's fields.
    pub struct Watermark [128] {
        /// [`MAGIC`].
        0 magic: u32,
        /// [`VERSION`].
        4 version: u32,
        /// Grows by one with each slot that is written; of two slots the higher one counts.
        8 generation: u64,
        /// The journal's UUID.
        16 journal_uuid: [u8; 16],
        /// The epoch of the writer.
        32 epoch: u64,
        /// The segment that was active.
        40 segment_number: u64,
        /// Offset in it behind the last commit or the seal that was durable.
        48 end: u64,
        /// The last commit that was durable.
        56 commit_sequence: u64,
        /// The highest event id that was durable.
        64 last_event_id: u64,
        /// The digest of the commit, or of the seal, that ends at `end`.
        72 digest: Digest,
        /// Zero.
        104 reserved: [u8; 20],
        /// The kernel's CRC-32 of the 124 bytes before.
        124 checksum: u32,
    }
}

/// Why a slot says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WatermarkError {
    /// The file ends inside the slot.
    #[error("the file ends {missing} bytes before the slot does")]
    Truncated {
        /// Bytes that are missing.
        missing: usize,
    },
    /// Not a watermark.
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
    #[error("watermark version {found}, this reader knows {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}

impl Watermark {
    /// The same with a right checksum.
    #[must_use]
    pub fn with_checksum(mut self) -> Self {
        self.checksum = self.computed_checksum();
        self
    }

    /// The kernel's CRC-32 of everything but the checksum.
    pub fn computed_checksum(&self) -> u32 {
        let bytes = self.encode();
        kernel_crc32(&bytes[..Self::SIZE - 4])
    }

    /// Reads the slot that `bytes` begin with. `None` for one that was never written: all zero.
    ///
    /// # Errors
    ///
    /// Too few bytes, another magic, a wrong checksum, an unknown version; in this order.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, WatermarkError> {
        let Some(slot) = bytes.first_chunk() else {
            return Err(WatermarkError::Truncated { missing: Self::SIZE - bytes.len() });
        };
        if slot.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let watermark = Self::decode(slot);
        if watermark.magic != MAGIC {
            return Err(WatermarkError::Magic { found: watermark.magic });
        }
        let computed = watermark.computed_checksum();
        if watermark.checksum != computed {
            return Err(WatermarkError::Checksum { found: watermark.checksum, computed });
        }
        if watermark.version != VERSION {
            return Err(WatermarkError::Version { found: watermark.version });
        }
        Ok(Some(watermark))
    }
}

/// What a watermark file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatermarkFile {
    /// The newest slot that is right.
    pub newest: Option<Watermark>,
    /// The slot that it stands in.
    pub newest_slot: Option<usize>,
    /// What is wrong with each slot. One that a crash has torn is wrong; two never are.
    pub faults: [Option<WatermarkError>; SLOT_COUNT],
}

impl WatermarkFile {
    /// Reads both slots.
    pub fn parse(file: &[u8]) -> Self {
        let mut parsed = Self::default();
        for (slot, fault) in parsed.faults.iter_mut().enumerate() {
            match Watermark::parse(file.get(slot * SLOT_STRIDE..).unwrap_or_default()) {
                Ok(Some(found))
                    if parsed.newest.is_none_or(|newest| newest.generation < found.generation) =>
                {
                    parsed.newest = Some(found);
                    parsed.newest_slot = Some(slot);
                }
                Ok(_) => {}
                Err(error) => *fault = Some(error),
            }
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark(generation: u64) -> Watermark {
        Watermark {
            magic: MAGIC,
            version: VERSION,
            generation,
            journal_uuid: [7; 16],
            epoch: 3,
            segment_number: 9,
            end: 4711,
            commit_sequence: 12,
            last_event_id: 99,
            digest: Digest([5; 32]),
            reserved: [0; 20],
            checksum: 0,
        }
        .with_checksum()
    }

    fn file(slots: [Option<u64>; 2]) -> std::vec::Vec<u8> {
        let mut file = std::vec![0; FILE_SIZE];
        for (slot, generation) in slots.into_iter().enumerate() {
            if let Some(generation) = generation {
                file[slot * SLOT_STRIDE..][..Watermark::SIZE]
                    .copy_from_slice(&watermark(generation).encode());
            }
        }
        file
    }

    #[test]
    fn a_slot_round_trips_and_every_flipped_bit_is_noticed() {
        let bytes = watermark(1).encode();
        assert_eq!(Watermark::parse(&bytes), Ok(Some(watermark(1))));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Watermark::parse(&damaged).is_err(), "bit {bit}");
        }
        assert_eq!(Watermark::parse(&bytes[..127]), Err(WatermarkError::Truncated { missing: 1 }));
        let newer = Watermark { version: 2, ..watermark(1) }.with_checksum();
        assert_eq!(Watermark::parse(&newer.encode()), Err(WatermarkError::Version { found: 2 }));
    }

    #[test]
    fn the_newest_right_slot_counts() {
        let newest = |file: &[u8]| {
            let parsed = WatermarkFile::parse(file);
            (parsed.newest.map(|watermark| watermark.generation), parsed.newest_slot)
        };
        assert_eq!(newest(&file([None, None])), (None, None));
        assert_eq!(newest(&file([Some(1), None])), (Some(1), Some(0)));
        assert_eq!(newest(&file([Some(3), Some(2)])), (Some(3), Some(0)));
        assert_eq!(newest(&file([Some(3), Some(4)])), (Some(4), Some(1)));
        let mut torn = file([Some(3), Some(4)]);
        torn[SLOT_STRIDE + 60] ^= 1;
        assert_eq!(newest(&torn), (Some(3), Some(0)));
        assert!(matches!(WatermarkFile::parse(&torn).faults, [None, Some(WatermarkError::Checksum { .. })]));
        let cut = &file([Some(3), Some(4)])[..SLOT_STRIDE];
        assert_eq!(newest(cut), (Some(3), Some(0)));
        assert!(WatermarkFile::parse(cut).faults[1].is_some());
        assert!(WatermarkFile::parse(&[]).faults.iter().all(Option::is_some));
    }
}
