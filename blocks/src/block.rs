//! One storage block: records in, a header and compressed data out, and back.

use semj_format::{Record, Records};

use crate::codec::{Codec, Method, Packer, Unpacker};
use crate::error::{DecodeError, EncodeError};
use crate::header::{BlockHeader, MAGIC, VERSION_PLAIN, VERSION_REGROUPED};
use crate::regroup::{Counts, Joiner, Splitter};

/// Bytes before the parts of regrouped data: how large the numbers are, how large they are packed, how large the texts are.
const PARTS_SIZE: usize = 12;

/// Makes blocks; keeps its memory from one to the next.
pub struct BlockEncoder {
    packer: Packer,
    splitter: Splitter,
    numbers: Vec<u8>,
    texts: Vec<u8>,
}

impl BlockEncoder {
    /// With this codec; [`Codec::Auto`] is taken for its first choice.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Codec`].
    pub fn new(codec: Codec) -> Result<Self, EncodeError> {
        let packer = Packer::new(codec)?;
        Ok(Self { packer, splitter: Splitter::default(), numbers: Vec::new(), texts: Vec::new() })
    }

    /// Appends the block of `records`, which stand back to back from offset `base` of their segment on.
    ///
    /// # Errors
    ///
    /// A record that is none, none at all, more than a block can hold, a codec that fails.
    pub fn encode(
        &mut self,
        block_id: u64,
        records: &[u8],
        base: usize,
        out: &mut Vec<u8>,
    ) -> Result<BlockHeader, EncodeError> {
        if records.is_empty() {
            return Err(EncodeError::Empty);
        }
        self.encode_until(block_id, records, base, true, |_, _| false, out)
    }

    /// [`BlockEncoder::encode`] of the first records, up to the one of which `enough` says so, which gets the bytes up to its
    /// end too. The header has how many bytes of records are in the block. Without `verifies`, whoever calls looks himself
    /// whether the block gives the records back.
    pub(crate) fn encode_until(
        &mut self,
        block_id: u64,
        records: &[u8],
        base: usize,
        verifies: bool,
        enough: impl FnMut(&Record<'_>, usize) -> bool,
        out: &mut Vec<u8>,
    ) -> Result<BlockHeader, EncodeError> {
        self.numbers.clear();
        self.texts.clear();
        let (counts, size) =
            self.splitter.split(records, base, verifies, enough, &mut self.numbers, &mut self.texts)?;
        let records = &records[..size];
        let start = out.len();
        out.resize(start + BlockHeader::SIZE, 0);
        // Records that have nothing in common can grow by it.
        let is_smaller = self.numbers.len() + self.texts.len() <= records.len();
        let version = if is_smaller {
            self.parts(out)?;
            VERSION_REGROUPED
        } else {
            self.packer.pack(records, out)?;
            VERSION_PLAIN
        };
        let size32 =
            |size: usize| u32::try_from(size).map_err(|_| EncodeError::TooLarge { what: "a block's data" });
        let mut header = BlockHeader {
            block_magic: MAGIC,
            block_version: version,
            block_id,
            block_size: size32(out.len() - start)?,
            event_count: counts.records,
            compression_type: self.packer.method().code(),
            compressed_size: size32(out.len() - start - BlockHeader::SIZE)?,
            uncompressed_size: size32(records.len())?,
            block_checksum: 0,
            first_event_time: counts.first_time,
            last_event_time: counts.last_time,
            first_event_id: counts.first_event_id,
            last_event_id: counts.last_event_id,
        };
        let (head, data) = out[start..].split_at_mut(BlockHeader::SIZE);
        header.block_checksum = header.computed_checksum(data);
        head.copy_from_slice(&header.encode());
        Ok(header)
    }

    fn parts(&mut self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let at = out.len();
        out.resize(at + PARTS_SIZE, 0);
        self.packer.pack(&self.numbers, out)?;
        let packed = out.len() - at - PARTS_SIZE;
        self.packer.pack(&self.texts, out)?;
        // A block's bytes fit into a u32, and so do these, which are fewer.
        for (place, size) in [self.numbers.len(), packed, self.texts.len()].into_iter().enumerate() {
            out[at + 4 * place..at + 4 * place + 4].copy_from_slice(&(size as u32).to_le_bytes());
        }
        Ok(())
    }
}

/// Reads blocks; keeps its memory from one to the next.
#[derive(Default)]
pub struct BlockDecoder {
    unpacker: Unpacker,
    joiner: Joiner,
    numbers: Vec<u8>,
    texts: Vec<u8>,
}

impl BlockDecoder {
    /// Fills `out`, which must have the block's `uncompressed_size`, with the records of the block at the beginning of
    /// `bytes`. Every record has a right frame then, and a right checksum where the block is a regrouped one.
    ///
    /// # Errors
    ///
    /// What is wrong with the block. `out` holds anything then.
    pub fn decode(&mut self, bytes: &[u8], out: &mut [u8]) -> Result<BlockHeader, DecodeError> {
        let (header, method, data) = BlockHeader::parse(bytes)?;
        if header.uncompressed_size as usize != out.len() {
            let (found, expected) = (header.uncompressed_size.into(), out.len() as u64);
            return Err(DecodeError::Figure {
                field: "a storage block's uncompressed_size",
                found,
                expected,
            });
        }
        let counts = match header.block_version {
            VERSION_PLAIN => {
                self.unpacker.unpack(method, data, out)?;
                count(out)?
            }
            _ => self.join(method, data, out)?,
        };
        let is_right = counts.records == header.event_count
            && (counts.first_event_id, counts.last_event_id) == (header.first_event_id, header.last_event_id)
            && (counts.first_time, counts.last_time) == (header.first_event_time, header.last_event_time);
        if is_right {
            Ok(header)
        } else {
            Err(DecodeError::Contradiction { what: "a storage block's header" })
        }
    }

    fn join(&mut self, method: Method, data: &[u8], out: &mut [u8]) -> Result<Counts, DecodeError> {
        let wrong = DecodeError::Contradiction { what: "the parts of a storage block" };
        let (sizes, parts) = data.split_first_chunk::<PARTS_SIZE>().ok_or(wrong.clone())?;
        let (sizes, _) = sizes.as_chunks::<4>();
        let &[numbers, packed, texts] = sizes else { return Err(wrong) };
        let [numbers, packed, texts] = [numbers, packed, texts].map(|size| u32::from_le_bytes(size) as usize);
        if numbers.saturating_add(texts) > out.len() {
            let found = numbers as u64 + texts as u64;
            return Err(DecodeError::TooLarge { what: "regrouped data", found, limit: out.len() as u64 });
        }
        let (packed_numbers, packed_texts) = parts.split_at_checked(packed).ok_or(wrong)?;
        self.numbers.resize(numbers, 0);
        self.texts.resize(texts, 0);
        self.unpacker.unpack(method, packed_numbers, &mut self.numbers)?;
        self.unpacker.unpack(method, packed_texts, &mut self.texts)?;
        self.joiner.join(&self.numbers, &self.texts, out)
    }
}

/// What is in records that stand back to back.
fn count(records: &[u8]) -> Result<Counts, DecodeError> {
    let mut counts = Counts::default();
    for found in Records::new(records, 0) {
        let (_, record) =
            found.map_err(|_| DecodeError::Contradiction { what: "a record of a storage block" })?;
        counts.push(&record);
    }
    Ok(counts)
}
