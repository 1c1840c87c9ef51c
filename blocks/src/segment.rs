//! A compressed segment's file: journal header, blocks, block index, seal.

use std::ops::Range;

use semj_format::checksum::kernel_crc32;
use semj_format::control::{self, SegmentOpen, SegmentSeal};
use semj_format::journal_header::{FLAG_COMPRESSED, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Digest, EventType, JournalHeader, Record, Records, digest, on_disk};

use crate::block::{BlockDecoder, BlockEncoder};
use crate::codec::Codec;
use crate::error::{DecodeError, EncodeError};
use crate::header::{BLOCK_SIZE_MAX, BLOCK_TARGET_MAX, BlockHeader, VERSION_PLAIN};

/// Bytes of records in a block, or a little more, unless asked otherwise.
pub const BLOCK_TARGET: usize = 64 << 10;
/// `SEMC` as a big-endian word.
pub(crate) const SEAL_MAGIC: u32 = 0x5345_4D43;
/// The version of block index and seal.
pub(crate) const SEAL_VERSION: u32 = 1;
/// Bytes of a native segment's file at most, which is as large as a writer makes one.
pub(crate) const NATIVE_SIZE_MAX: u64 = 4 << 30;

on_disk! {
    /// A block's entry in the block index.
    pub struct IndexEntry [40] {
        /// Offset of the block in the compressed file.
        0 offset: u64,
        /// Offset of its first record in the native segment.
        8 native_offset: u64,
        /// The lowest id of an event in it, 0 where there is none.
        16 first_event_id: u64,
        /// The highest id.
        24 last_event_id: u64,
        /// Bytes of the block, its header included.
        32 block_size: u32,
        /// Bytes of its records.
        36 uncompressed_size: u32,
    }
}

on_disk! {
    /// What a compressed segment ends with.
    pub struct FileSeal [296] {
        /// `SEMC` as a big-endian word.
        0 magic: u32,
        /// 1.
        4 version: u32,
        /// Bytes of the native segment's file; behind `native_end` they are zero.
        8 native_size: u64,
        /// Offset behind the SegmentSeal in the native segment.
        16 native_end: u64,
        /// Entries of the block index.
        24 block_count: u64,
        /// The journal header of the native segment.
        32 native_header: [u8; 52],
        /// The kernel's CRC-32 over the block index.
        84 index_checksum: u32,
        /// The journal's, from SegmentOpen.
        88 journal_uuid: [u8; 16],
        /// The segment's number.
        104 segment_number: u64,
        /// Commits in the segment.
        112 commit_count: u64,
        /// The last one's number.
        120 commit_sequence: u64,
        /// Root of the tree over the leaves of the segment's Commit records, as SegmentSeal has it.
        128 root: Digest,
        /// What the segment goes on from: SegmentOpen's previous_digest.
        160 previous_digest: Digest,
        /// What the next segment goes on from: SegmentSeal's digest.
        192 seal_digest: Digest,
        /// Reserved, zero.
        224 reserved: [u8; 36],
        /// SHA-256 over all bytes of the file before this field.
        260 file_digest: Digest,
        /// The kernel's CRC-32 over the 292 bytes above.
        292 checksum: u32,
    }
}

impl IndexEntry {
    /// Decodes the block with this entry, which is the index's `place`-th.
    pub(crate) fn decode_block(
        &self,
        place: usize,
        bytes: &[u8],
        decoder: &mut BlockDecoder,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let header = decoder.decode(bytes, out)?;
        let is_its = header.block_id == place as u64
            && header.block_size == self.block_size
            && (header.first_event_id, header.last_event_id) == (self.first_event_id, self.last_event_id);
        if is_its { Ok(()) } else { Err(DecodeError::Contradiction { what: "a block index" }) }
    }
}

/// Where the file's digest stands in the seal.
const FILE_DIGEST_AT: usize = 260;

impl FileSeal {
    fn computed_checksum(&self) -> u32 {
        kernel_crc32(&self.encode()[..Self::SIZE - 4])
    }

    /// A seal that is right by itself.
    pub(crate) fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, DecodeError> {
        let seal = Self::decode(bytes);
        let computed = seal.computed_checksum();
        if seal.checksum != computed {
            return Err(DecodeError::crc32("a compressed segment's seal", seal.checksum, computed));
        }
        if seal.magic != SEAL_MAGIC {
            return Err(DecodeError::Unknown { field: "the seal's magic", found: seal.magic.into() });
        }
        if seal.version != SEAL_VERSION {
            return Err(DecodeError::Unknown { field: "the seal's version", found: seal.version.into() });
        }
        Ok(seal)
    }

    /// The entries of the block index that these bytes are, if it is this seal's.
    pub(crate) fn entries(&self, index: &[u8]) -> Result<Vec<IndexEntry>, DecodeError> {
        let entries = entries(index)?;
        if entries.len() as u64 != self.block_count {
            let (found, expected) = (self.block_count, entries.len() as u64);
            return Err(DecodeError::Figure { field: "block_count", found, expected });
        }
        let computed = kernel_crc32(index);
        if computed != self.index_checksum {
            return Err(DecodeError::crc32("a block index", self.index_checksum, computed));
        }
        Ok(entries)
    }
}

/// The entries of a block index, of which there is one at least.
pub(crate) fn entries(index: &[u8]) -> Result<Vec<IndexEntry>, DecodeError> {
    let (entries, excess) = index.as_chunks::<{ IndexEntry::SIZE }>();
    if !excess.is_empty() || entries.is_empty() {
        return Err(DecodeError::Contradiction { what: "the size of a block index" });
    }
    Ok(entries.iter().map(IndexEntry::decode).collect())
}

/// Where the blocks of an index end, in the file and in the native segment; `None` if they do not follow each other.
pub(crate) fn entries_end(entries: &[IndexEntry]) -> Option<(u64, u64)> {
    let mut at = JournalHeader::SIZE as u64;
    let mut native_at = JournalHeader::SIZE as u64;
    for entry in entries {
        let is_next = (entry.offset, entry.native_offset) == (at, native_at);
        let has_size = entry.uncompressed_size > 0
            && entry.uncompressed_size as usize <= BLOCK_SIZE_MAX
            && entry.block_size as usize >= BlockHeader::SIZE;
        if !is_next || !has_size {
            return None;
        }
        at += u64::from(entry.block_size);
        native_at += u64::from(entry.uncompressed_size);
    }
    Some((at, native_at))
}

/// Whether a seal and the native header in it fit together.
pub(crate) fn is_seal_of(seal: &FileSeal, native: &JournalHeader) -> bool {
    native.journal_size == seal.native_end
        && native.flags & (FLAG_SEALED | FLAG_COMPRESSED) == FLAG_SEALED
        && seal.native_size >= seal.native_end
        && seal.native_size <= NATIVE_SIZE_MAX
}

/// Turns a native segment into a compressed one, a block at a time.
pub struct Compressor<'a> {
    segment: &'a [u8],
    header: JournalHeader,
    seal: FileSeal,
    target: usize,
    encoder: BlockEncoder,
    codec: Codec,
    at: usize,
    entries: Vec<IndexEntry>,
    out: Vec<u8>,
    proof: Option<Proof>,
}

/// What a block is decoded with and into.
#[derive(Default)]
struct Proof {
    decoder: BlockDecoder,
    records: Vec<u8>,
}

impl Proof {
    /// Whether a block gives back these records, which stand from an offset of their segment on.
    fn of(
        &mut self,
        block: &[u8],
        made: &BlockHeader,
        records: &[u8],
        base: usize,
    ) -> Result<(), EncodeError> {
        self.records.resize(records.len(), 0);
        let found = self.decoder.decode(block, &mut self.records);
        // Only regrouped records have got their checksums anew.
        let is_same = found.as_ref() == Ok(made) && self.records == records;
        if is_same && made.block_version != VERSION_PLAIN {
            return Ok(());
        }
        let mut at = 0;
        while at < records.len() {
            let record = Record::parse_verified(&records[at..])
                .map_err(|source| EncodeError::Record { offset: base + at, source })?;
            at += record.len();
        }
        if is_same { Ok(()) } else { Err(EncodeError::NotGivenBack { offset: base, source: found.err() }) }
    }
}

impl<'a> Compressor<'a> {
    /// For the segment whose file begins with `segment` and has `native_size` bytes, those that are not given being zero.
    /// The segment must have been closed in order.
    ///
    /// # Errors
    ///
    /// What makes the bytes no sealed segment.
    pub fn new(segment: &'a [u8], native_size: u64, codec: Codec) -> Result<Self, EncodeError> {
        Self::with_target(segment, native_size, codec, BLOCK_TARGET)
    }

    /// [`Compressor::new`] with another size of blocks.
    ///
    /// # Errors
    ///
    /// As [`Compressor::new`].
    pub fn with_target(
        segment: &'a [u8],
        native_size: u64,
        codec: Codec,
        target: usize,
    ) -> Result<Self, EncodeError> {
        let not = |why| EncodeError::NotSealed { why };
        let header = JournalHeader::parse(segment).map_err(|_| not("its header is not right"))?;
        if header.flags & !FLAG_THINNED != FLAG_SEALED || header.index_offset != 0 {
            return Err(not("its header does not say so"));
        }
        let end = usize::try_from(header.journal_size).map_err(|_| not("its end is out of reach"))?;
        let (records, behind) = segment.split_at_checked(end).ok_or_else(|| not("it ends too soon"))?;
        if native_size < segment.len() as u64 || native_size > NATIVE_SIZE_MAX {
            return Err(EncodeError::TooLarge { what: "the bytes of its file" });
        }
        if let Some(at) = behind.iter().position(|byte| *byte != 0) {
            return Err(EncodeError::Behind { offset: end + at });
        }
        let opening = records.get(JournalHeader::SIZE..).and_then(body::<SegmentOpen>);
        let opening = opening.ok_or_else(|| not("it does not begin with a SegmentOpen"))?;
        let start = end.checked_sub(control::record_size::<SegmentSeal>());
        let seal = start.and_then(|start| body::<SegmentSeal>(records.get(start..)?));
        let seal = seal.ok_or_else(|| not("it does not end with a SegmentSeal"))?;
        let mut native_header = [0; JournalHeader::SIZE];
        native_header.copy_from_slice(&segment[..JournalHeader::SIZE]);
        let seal = FileSeal {
            magic: SEAL_MAGIC,
            version: SEAL_VERSION,
            native_size,
            native_end: header.journal_size,
            block_count: 0,
            native_header,
            index_checksum: 0,
            journal_uuid: opening.journal_uuid,
            segment_number: opening.segment_number,
            commit_count: seal.commit_count,
            commit_sequence: seal.commit_sequence,
            root: seal.root,
            previous_digest: opening.previous_digest,
            seal_digest: seal.digest,
            reserved: [0; 36],
            file_digest: Digest::ZERO,
            checksum: 0,
        };
        let mut compressor = Self {
            segment: records,
            header,
            seal,
            target: target.min(BLOCK_TARGET_MAX),
            encoder: BlockEncoder::new(codec)?,
            codec,
            at: JournalHeader::SIZE,
            entries: Vec::new(),
            out: vec![0; JournalHeader::SIZE],
            proof: None,
        };
        if codec == Codec::Auto {
            compressor.choose()?;
        }
        Ok(compressor)
    }

    /// From now on decodes each block as soon as it is made and holds it against its records: a file that comes out gives the
    /// segment back, byte for byte.
    #[must_use]
    pub fn proving(mut self) -> Self {
        self.proof = Some(Proof::default());
        self
    }

    /// Measures both choices on a block from the middle of the segment.
    fn choose(&mut self) -> Result<(), EncodeError> {
        let mut at = JournalHeader::SIZE;
        for found in Records::new(self.segment, at) {
            let (offset, _) = found.map_err(|source| EncodeError::Record { offset: at, source })?;
            at = offset;
            if at >= self.segment.len() / 2 {
                break;
            }
        }
        let target = self.target;
        let size = |codec| -> Result<usize, EncodeError> {
            let mut out = Vec::new();
            let sample = &self.segment[at..];
            let enough = |_: &Record<'_>, size| size >= target;
            BlockEncoder::new(codec)?.encode_until(0, sample, at, true, enough, &mut out)?;
            Ok(out.len())
        };
        let zstd = Codec::default();
        let is_near = size(Codec::Lz4)? * 8 <= size(zstd)? * 9;
        self.codec = if is_near { Codec::Lz4 } else { zstd };
        self.encoder = BlockEncoder::new(self.codec)?;
        Ok(())
    }

    /// Offset in the native segment up to which it is compressed.
    pub const fn done(&self) -> usize {
        self.at
    }

    /// Makes the next block. `false`: there are no more.
    ///
    /// # Errors
    ///
    /// The segment is damaged, or a codec fails.
    pub fn step(&mut self) -> Result<bool, EncodeError> {
        if self.at >= self.segment.len() {
            return Ok(false);
        }
        let offset = self.out.len();
        let (target, records) = (self.target, &self.segment[self.at..]);
        // The segment's first group is never taken apart: who opens a journal looks at it.
        let mut is_first_group = self.at == JournalHeader::SIZE;
        let enough = |record: &Record<'_>, size| {
            is_first_group &= !record.is_control() || record.event_type() != EventType::JOURNAL_COMMIT;
            size >= target && !is_first_group
        };
        let block_id = self.entries.len() as u64;
        let verifies = self.proof.is_none();
        let header =
            self.encoder.encode_until(block_id, records, self.at, verifies, enough, &mut self.out)?;
        if let Some(proof) = &mut self.proof {
            let records = &records[..header.uncompressed_size as usize];
            proof.of(&self.out[offset..], &header, records, self.at)?;
        }
        self.entries.push(IndexEntry {
            offset: offset as u64,
            native_offset: self.at as u64,
            first_event_id: header.first_event_id,
            last_event_id: header.last_event_id,
            block_size: header.block_size,
            uncompressed_size: header.uncompressed_size,
        });
        self.at += header.uncompressed_size as usize;
        Ok(true)
    }

    /// The whole file, when all blocks are made, or else those that are left first.
    ///
    /// # Errors
    ///
    /// As [`Compressor::step`].
    pub fn finish(mut self) -> Result<Vec<u8>, EncodeError> {
        while self.step()? {}
        let Self { header, mut seal, entries, mut out, proof, .. } = self;
        let index_offset = out.len();
        entries.iter().for_each(|entry| out.extend_from_slice(&entry.encode()));
        seal.block_count = entries.len() as u64;
        seal.index_checksum = kernel_crc32(&out[index_offset..]);
        let mut header = JournalHeader {
            journal_size: (out.len() + FileSeal::SIZE) as u64,
            index_offset: index_offset as u64,
            flags: header.flags | FLAG_COMPRESSED,
            ..header
        };
        header.checksum = header.computed_checksum();
        out[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        let seal_at = out.len();
        out.extend_from_slice(&seal.encode());
        let digest_at = seal_at + FILE_DIGEST_AT;
        seal.file_digest = digest::plain(&out[..digest_at]);
        seal.checksum = seal.computed_checksum();
        out[seal_at..].copy_from_slice(&seal.encode());
        if proof.is_some() {
            let found = Layout::parse(&out);
            if !found.as_ref().is_ok_and(|found| found.entries == entries && found.seal == seal) {
                return Err(EncodeError::NotGivenBack { offset: 0, source: found.err() });
            }
        }
        Ok(out)
    }
}

/// The body of the record at the beginning of `bytes`, if it is such a record of the journal's own.
fn body<B: control::Body>(bytes: &[u8]) -> Option<B> {
    control::parse(&Record::parse_verified(bytes).ok()?).ok()?
}

/// What is known of a compressed segment without decoding a block of it.
#[derive(Clone, Debug)]
pub struct Layout {
    seal: FileSeal,
    entries: Vec<IndexEntry>,
}

impl Layout {
    /// Whether a file says that it is a compressed segment.
    pub fn is_compressed(file: &[u8]) -> bool {
        JournalHeader::parse(file).is_ok_and(|header| header.flags & FLAG_COMPRESSED != 0)
    }

    /// Where block index and seal begin in a file of so many bytes that begins with `head`: from there to its end is what
    /// [`Layout::parse_ends`] needs.
    ///
    /// # Errors
    ///
    /// It is not the header of a compressed segment of this size.
    pub fn index_offset(head: &[u8], size: u64) -> Result<u64, DecodeError> {
        let header = JournalHeader::parse(head).map_err(DecodeError::Header)?;
        if header.flags & FLAG_COMPRESSED == 0 {
            return Err(DecodeError::Contradiction { what: "a compressed segment's header" });
        }
        if header.journal_size != size {
            let (found, expected) = (header.journal_size, size);
            return Err(DecodeError::Figure {
                field: "a compressed segment's journal_size",
                found,
                expected,
            });
        }
        let highest = size.saturating_sub(FileSeal::SIZE as u64);
        if !(JournalHeader::SIZE as u64..=highest).contains(&header.index_offset) {
            return Err(DecodeError::TooLarge {
                what: "index_offset",
                found: header.index_offset,
                limit: highest,
            });
        }
        Ok(header.index_offset)
    }

    /// Reads header, block index and seal of a whole file, and checks that they fit together. The blocks are not looked at.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(file: &[u8]) -> Result<Self, DecodeError> {
        let index_offset = Self::index_offset(file, file.len() as u64)?;
        // It lies in the file.
        let tail = usize::try_from(index_offset).ok().and_then(|at| file.get(at..)).unwrap_or_default();
        Self::parse_ends(file, tail)
    }

    /// [`Layout::parse`] of a file that begins with `head`, of which block index and seal are in `tail`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse_ends(head: &[u8], tail: &[u8]) -> Result<Self, DecodeError> {
        let contradiction = |what| DecodeError::Contradiction { what };
        let header = JournalHeader::parse(head).map_err(DecodeError::Header)?;
        let end = header.index_offset.saturating_add(tail.len() as u64);
        if end != header.journal_size {
            let (found, expected) = (header.journal_size, end);
            return Err(DecodeError::Figure {
                field: "a compressed segment's journal_size",
                found,
                expected,
            });
        }
        let what = "a compressed segment";
        let truncated = DecodeError::Truncated { what, needed: FileSeal::SIZE, available: tail.len() };
        let (index, seal) = tail.split_last_chunk().ok_or(truncated)?;
        let seal = FileSeal::parse(seal)?;
        let entries = seal.entries(index)?;
        let (at, native_at) = entries_end(&entries).ok_or_else(|| contradiction("a block index"))?;
        let native = JournalHeader::parse(&seal.native_header).map_err(DecodeError::Header)?;
        let fits = at == header.index_offset
            && native_at == seal.native_end
            && is_seal_of(&seal, &native)
            && native.flags | FLAG_COMPRESSED == header.flags
            && (native.total_events, native.next_event_id) == (header.total_events, header.next_event_id);
        if fits { Ok(Self { seal, entries }) } else { Err(contradiction("a compressed segment")) }
    }

    /// The seal.
    pub const fn seal(&self) -> &FileSeal {
        &self.seal
    }

    /// The entries of the block index.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The highest id of an event in each block and before it, if no block has one that is lower than those before.
    pub fn highest_ids(&self) -> Option<Box<[u64]>> {
        let mut highest = 0;
        let mut of_block = |entry: &IndexEntry| {
            if entry.last_event_id == 0 {
                return Some(highest);
            }
            let is_ordered = entry.first_event_id > highest;
            highest = entry.last_event_id.max(highest);
            is_ordered.then_some(highest)
        };
        self.entries.iter().map(&mut of_block).collect()
    }

    /// The block that holds an offset of the native segment.
    pub fn find(&self, native_offset: usize) -> Option<usize> {
        let native_offset = native_offset as u64;
        let behind = self.entries.partition_point(|entry| entry.native_offset <= native_offset);
        let place = behind.checked_sub(1)?;
        (native_offset < self.seal.native_end).then_some(place)
    }

    /// Where the records of a block stand in the native segment.
    pub fn native_range(&self, block: usize) -> Option<Range<usize>> {
        let entry = self.entries.get(block)?;
        let start = usize::try_from(entry.native_offset).ok()?;
        Some(start..start + entry.uncompressed_size as usize)
    }

    /// Decodes a block into `out`, which has the size of its [`Layout::native_range`].
    ///
    /// # Errors
    ///
    /// What is wrong with the block.
    pub fn decode(
        &self,
        file: &[u8],
        block: usize,
        decoder: &mut BlockDecoder,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let wrong = DecodeError::Contradiction { what: "a block index" };
        let bytes = self.file_range(block).and_then(|range| file.get(range)).ok_or(wrong)?;
        self.decode_block(bytes, block, decoder, out)
    }

    /// Where a block stands in the file.
    pub fn file_range(&self, block: usize) -> Option<Range<usize>> {
        let entry = self.entries.get(block)?;
        let start = usize::try_from(entry.offset).ok()?;
        Some(start..start + entry.block_size as usize)
    }

    /// [`Layout::decode`] of a block whose bytes these are.
    ///
    /// # Errors
    ///
    /// What is wrong with the block.
    pub fn decode_block(
        &self,
        bytes: &[u8],
        block: usize,
        decoder: &mut BlockDecoder,
        out: &mut [u8],
    ) -> Result<(), DecodeError> {
        let wrong = DecodeError::Contradiction { what: "a block index" };
        self.entries.get(block).ok_or(wrong)?.decode_block(block, bytes, decoder, out)
    }

    /// Whether the file is, byte for byte, the one that was made.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Checksum`]: it is not.
    pub fn verify_digest(&self, file: &[u8]) -> Result<(), DecodeError> {
        let digest_at = file.len().saturating_sub(FileSeal::SIZE - FILE_DIGEST_AT);
        let (found, computed) = (self.seal.file_digest, digest::plain(&file[..digest_at]));
        if computed == found {
            return Ok(());
        }
        let what = "a compressed segment's file";
        Err(DecodeError::Checksum { what, found: found.to_string(), computed: computed.to_string() })
    }

    /// The native segment up to its end, byte for byte. Behind it come as many zeros as make [`FileSeal::native_size`].
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn decompress(&self, file: &[u8], decoder: &mut BlockDecoder) -> Result<Vec<u8>, DecodeError> {
        let mut native = self.seal.native_header.to_vec();
        for (block, entry) in self.entries.iter().enumerate() {
            let start = native.len();
            native.resize(start + entry.uncompressed_size as usize, 0);
            let decoded = self.decode(file, block, decoder, &mut native[start..]);
            let of_block =
                |source| DecodeError::Block { block, offset: entry.offset, source: Box::new(source) };
            decoded.map_err(of_block)?;
        }
        Ok(native)
    }
}

/// The native segment that a compressed file gives back, up to its end. The file is held against its own digest too.
///
/// # Errors
///
/// What is wrong with the file.
pub fn unpack(file: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let layout = Layout::parse(file)?;
    // Where a block is damaged, that says more than the file's digest.
    let native = layout.decompress(file, &mut BlockDecoder::default())?;
    layout.verify_digest(file)?;
    Ok(native)
}
