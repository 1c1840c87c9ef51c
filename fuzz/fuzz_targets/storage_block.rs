//! Any bytes as a storage block and as a compressed segment, as they are and with what proves them made right; and the
//! records that stand in any bytes, through every codec and back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_blocks::{
    BLOCK_SIZE_MAX, BlockDecoder, BlockEncoder, BlockHeader, Codec, FileSeal, IndexEntry, Layout, Remains,
};
use semj_format::checksum::kernel_crc32;
use semj_format::{JournalHeader, Records, digest};
use semj_fuzz::{MEMORY_BASE, within};

/// Bytes of records that a block of the fuzzer's may give.
const BLOCK_MAX: u32 = 64 << 10;
/// Bytes that what is left of a damaged file may take here.
const REMAINS_MAX: usize = 256 << 20;
const CODECS: [Codec; 5] = [Codec::None, Codec::Zlib(1), Codec::Lz4, Codec::Zstd(1), Codec::Snappy];

/// What decoding to so many bytes may cost: the texts of records that stand closest, each with what is known of it, and the
/// parts before they are put together.
const fn decoding_cost(input: usize, output: usize) -> usize {
    20 * (input + output) + MEMORY_BASE
}

/// The bytes as a block whose sizes and checksum are right.
fn repaired_block(data: &[u8]) -> Option<Vec<u8>> {
    let mut header = BlockHeader::decode(data.first_chunk()?);
    let data = &data[BlockHeader::SIZE..];
    header.block_magic = 0x5345_4D42;
    header.block_version = 1 + header.block_version % 2;
    header.block_size = (BlockHeader::SIZE + data.len()) as u32;
    header.compressed_size = data.len() as u32;
    header.compression_type %= 5;
    header.uncompressed_size %= BLOCK_MAX;
    header.block_checksum = header.computed_checksum(data);
    Some([&header.encode()[..], data].concat())
}

/// The bytes as a compressed segment whose header, block index and seal are right.
fn repaired_file(data: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = data.to_vec();
    let size = bytes.len() as u64;
    let mut header = JournalHeader::decode(bytes.first_chunk()?);
    header.flags |= 0x9;
    header.journal_size = size;
    header.checksum = header.computed_checksum();
    bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    let seal_at = bytes.len().checked_sub(FileSeal::SIZE).filter(|at| *at >= JournalHeader::SIZE)?;
    let mut seal = FileSeal::decode(bytes[seal_at..].first_chunk()?);
    let index_at = usize::try_from(header.index_offset).ok()?;
    let index = bytes.get(index_at..seal_at)?;
    seal.index_checksum = kernel_crc32(index);
    seal.block_count = (index.len() / IndexEntry::SIZE) as u64;
    seal.file_digest = digest::plain(&bytes[..seal_at + 260]);
    seal.checksum = 0;
    seal.checksum = kernel_crc32(&seal.encode()[..FileSeal::SIZE - 4]);
    bytes[seal_at..].copy_from_slice(&seal.encode());
    Some(bytes)
}

/// Decodes a block, and holds what comes out against what goes in again.
fn block(bytes: &[u8], codec: Codec) {
    let Ok((header, ..)) = BlockHeader::parse(bytes) else { return };
    let size = header.uncompressed_size as usize;
    if size > BLOCK_MAX as usize {
        return;
    }
    let mut records = vec![0; size];
    let decoded = within(decoding_cost(bytes.len(), size), || {
        BlockDecoder::default().decode(bytes, &mut records).is_ok()
    });
    if decoded {
        let found: Vec<_> = Records::new(&records, 0).collect();
        assert_eq!(found.len(), header.event_count as usize);
        assert!(found.iter().all(Result::is_ok), "what was decoded is records");
        round_trip(&records, codec);
    }
}

/// Records come back from a block as they were, unless it was refused to take them in.
fn round_trip(records: &[u8], codec: Codec) {
    let mut block = Vec::new();
    let Ok(mut encoder) = BlockEncoder::new(codec) else { panic!("{codec} is there") };
    let Ok(header) = encoder.encode(7, records, 52, &mut block) else {
        let is_right = |found: Result<(usize, semj_format::Record<'_>), _>| {
            found.is_ok_and(|(_, record)| record.verify_checksum().is_ok())
        };
        assert!(!Records::new(records, 0).all(is_right), "right records are taken in");
        return;
    };
    let mut back = vec![0; records.len()];
    let again = BlockDecoder::default().decode(&block, &mut back).expect("what was encoded can be decoded");
    assert_eq!(again, header);
    assert!(back == records, "{codec}: the records are not those that went in");
}

fn file(bytes: &[u8]) {
    let Ok(layout) = within(2 * bytes.len() + MEMORY_BASE, || Layout::parse(bytes)) else { return };
    let _ = layout.verify_digest(bytes);
    let mut at = JournalHeader::SIZE;
    let mut decoder = BlockDecoder::default();
    for place in 0..layout.entries().len() {
        let range = layout.native_range(place).expect("a block that is there has a place");
        assert_eq!(range.start, at);
        assert_eq!(layout.find(range.start), Some(place));
        assert_eq!(layout.find(range.end - 1), Some(place));
        at = range.end;
        if range.len() > BLOCK_MAX as usize {
            continue;
        }
        let mut out = vec![0; range.len()];
        within(decoding_cost(bytes.len(), out.len()), || {
            let _ = layout.decode(bytes, place, &mut decoder, &mut out);
        });
    }
    assert_eq!(layout.find(at), None);
}

/// What is left of a file is whole records at their places, or zeros.
fn remains(bytes: &[u8]) {
    // So many blocks an index of this size can have, each of which may stand behind all others.
    let most = bytes.len() / IndexEntry::SIZE * BLOCK_SIZE_MAX;
    if most > REMAINS_MAX {
        return;
    }
    let cost = decoding_cost(bytes.len(), BLOCK_SIZE_MAX) + 2 * most;
    let Some(found) = within(cost, || Remains::of(bytes)) else { return };
    assert!(found.blocks_kept > 0 && found.native.len() > JournalHeader::SIZE);
    if let Ok(layout) = Layout::parse(bytes) {
        let mut decoder = BlockDecoder::default();
        for place in 0..layout.entries().len() {
            let range = layout.native_range(place).expect("a block that is there has a place");
            let mut out = vec![0; range.len()];
            if layout.decode(bytes, place, &mut decoder, &mut out).is_ok() {
                assert!(found.native[range] == out, "block {place} is right and does not come back");
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((flags, data)) = data.split_first() else { return };
    let codec = CODECS[usize::from(*flags) % CODECS.len()];
    block(data, codec);
    if let Some(bytes) = repaired_block(data) {
        block(&bytes, codec);
    }
    file(data);
    remains(data);
    if let Some(bytes) = repaired_file(data) {
        file(&bytes);
        remains(&bytes);
    }
    let end = Records::new(data, 0).map_while(Result::ok).last().map_or(0, |(at, record)| at + record.len());
    if end > 0 {
        round_trip(&data[..end], codec);
    }
});
