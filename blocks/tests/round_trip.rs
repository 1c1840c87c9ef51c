//! What goes in comes out, byte for byte; what is wrong is an error, whatever it is.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod segments;

use quickcheck::{QuickCheck, TestResult};
use semj_blocks::{
    BLOCK_SIZE_MAX, BlockDecoder, BlockEncoder, BlockHeader, Codec, Compressor, DecodeError, EncodeError,
    FileSeal, Layout, VERSION_PLAIN, VERSION_REGROUPED, unpack,
};
use semj_format::checksum::kernel_crc32;
use semj_format::control::{Commit, SegmentOpen};
use semj_format::digest::RecordTree;
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Digest, EventType, JournalHeader};

use segments::{Random, own, record, records, segment};

const CODECS: [Codec; 5] = [Codec::None, Codec::Zlib(6), Codec::Lz4, Codec::Zstd(3), Codec::Snappy];

fn check(tests: u64, property: fn(u64) -> TestResult) {
    // What fails is printed with its seed, which is the property's argument.
    QuickCheck::new().tests(tests).quickcheck(property);
}

#[test]
fn records_come_back_from_a_block_byte_for_byte() {
    fn property(seed: u64) -> TestResult {
        let random = &mut Random(seed);
        let count = 1 + random.below(400);
        let records = records(random, count);
        let mut decoder = BlockDecoder::default();
        for codec in CODECS {
            let mut encoder = BlockEncoder::new(codec).unwrap();
            // Twice, so that nothing of the first may be left in the second.
            for block_id in 0..2 {
                let mut block = vec![5; 3];
                let header = encoder.encode(block_id, &records, 52, &mut block).unwrap();
                let mut out = vec![0xAA; records.len()];
                assert_eq!(decoder.decode(&block[3..], &mut out).unwrap(), header);
                assert!(out == records, "{codec}");
            }
        }
        TestResult::passed()
    }
    check(60, property);
}

#[test]
fn a_segment_comes_back_from_its_compressed_file_byte_for_byte() {
    fn property(seed: u64) -> TestResult {
        let random = &mut Random(seed);
        let (native, size) = segment(random);
        let target = 1 + random.below(100_000) as usize;
        for codec in CODECS.into_iter().chain([Codec::Auto]) {
            let file = Compressor::with_target(&native, size, codec, target).unwrap().finish().unwrap();
            assert!(Layout::is_compressed(&file) && !Layout::is_compressed(&native));
            let layout = Layout::parse(&file).unwrap();
            layout.verify_digest(&file).unwrap();
            let back = layout.decompress(&file, &mut BlockDecoder::default()).unwrap();
            assert!(back == native, "{codec}");
            assert_eq!(layout.seal().native_size, size);
            for offset in [52, native.len() / 2, native.len() - 1] {
                let range = layout.native_range(layout.find(offset).unwrap()).unwrap();
                assert!(range.contains(&offset));
            }
            assert_eq!(layout.find(native.len()), None);
        }
        TestResult::passed()
    }
    check(20, property);
}

#[test]
fn a_flipped_bit_of_a_compressed_file_is_noticed() {
    let random = &mut Random(1);
    let (native, size) = segment(random);
    let file = Compressor::new(&native, size, Codec::default()).unwrap().finish().unwrap();
    let mut decoder = BlockDecoder::default();
    for step in 0..3000 {
        // All of the header and of the end, and some of what is between them.
        let at = match step {
            0..52 => step,
            52..600 => file.len() - 1 - (step - 52).min(file.len() - 1),
            _ => random.below(file.len() as u64) as usize,
        };
        let mut bad = file.clone();
        bad[at] ^= 1 << random.below(8);
        let found = Layout::parse(&bad).and_then(|layout| layout.decompress(&bad, &mut decoder));
        assert!(found.is_err(), "offset {at}");
    }
    for cut in [0, 51, 52, 200, file.len() - FileSeal::SIZE, file.len() - 1] {
        assert!(Layout::parse(&file[..cut]).is_err(), "cut at {cut}");
    }
    // What only the file's digest covers.
    let layout = Layout::parse(&file).unwrap();
    let mut bad = file;
    bad[60] ^= 1;
    let error = layout.verify_digest(&bad).unwrap_err();
    assert!(matches!(error, DecodeError::Checksum { what: "a compressed segment's file", .. }), "{error}");
    // Where a block is damaged, that is named.
    let error = unpack(&bad).unwrap_err();
    assert!(matches!(error, DecodeError::Block { block: 0, offset: 52, .. }), "{error}");
}

/// A block with other data than those that it was made with, and all that can be computed again right.
fn forged(block: &[u8], data: &[u8], uncompressed_size: u32) -> Vec<u8> {
    let mut header = BlockHeader::decode(block.first_chunk().unwrap());
    header.compressed_size = data.len() as u32;
    header.block_size = (BlockHeader::SIZE + data.len()) as u32;
    header.uncompressed_size = uncompressed_size;
    header.block_checksum = header.computed_checksum(data);
    [&header.encode()[..], data].concat()
}

#[test]
fn forged_data_are_an_error_or_records() {
    fn property(seed: u64) -> TestResult {
        let random = &mut Random(seed);
        let count = 1 + random.below(60);
        let records = records(random, count);
        if records.is_empty() {
            return TestResult::discard();
        }
        // Without a codec, so that what is forged gets to the transform.
        for codec in [Codec::None, Codec::Lz4, Codec::Zstd(1), Codec::Snappy, Codec::Zlib(1)] {
            let mut block = Vec::new();
            BlockEncoder::new(codec).unwrap().encode(0, &records, 52, &mut block).unwrap();
            let mut decoder = BlockDecoder::default();
            for _ in 0..60 {
                let mut data = block[BlockHeader::SIZE..].to_vec();
                for _ in 0..1 + random.below(3) {
                    let at = random.below(data.len() as u64) as usize;
                    data[at] = if random.is_one_in(2) { random.next() as u8 } else { data[at] ^ 1 };
                }
                let mut out = vec![0; records.len()];
                if decoder.decode(&forged(&block, &data, records.len() as u32), &mut out).is_ok() {
                    assert!(semj_format::Records::new(&out, 0).all(|found| found.is_ok()));
                }
            }
        }
        TestResult::passed()
    }
    check(60, property);
}

#[test]
fn a_bomb_is_an_error_with_every_codec() {
    let records: Vec<u8> =
        (1..=4).flat_map(|id| record(id, 0x0101, &[], &[], &vec![0; 65_536], &[])).collect();
    for codec in CODECS {
        let mut block = Vec::new();
        BlockEncoder::new(codec).unwrap().encode(0, &records, 52, &mut block).unwrap();
        let data = block[BlockHeader::SIZE..].to_vec();
        let mut decoder = BlockDecoder::default();
        // Less room than comes out, and more than a block may have.
        for promised in [132, 65_668, records.len() - 1] {
            let bomb = forged(&block, &data, promised as u32);
            assert!(decoder.decode(&bomb, &mut vec![0; promised]).is_err(), "{codec}, {promised} bytes");
        }
        let limit = BLOCK_SIZE_MAX as u64;
        let bomb = forged(&block, &data, BLOCK_SIZE_MAX as u32 + 1);
        let found = decoder.decode(&bomb, &mut []);
        let expected = DecodeError::TooLarge { what: "uncompressed_size", found: limit + 1, limit };
        assert_eq!(found, Err(expected), "{codec}");
    }
}

/// A record whose fields are unlike anything.
fn odd_record() -> Vec<u8> {
    let mut odd = Random(7).bytes(132);
    let sizes = [(64, 132u32), (68, 0), (72, 0), (76, 0), (80, 1), (84, 0), (96, 0)];
    for (offset, value) in sizes {
        odd[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }
    let checksum = kernel_crc32(&odd[..]).to_le_bytes();
    odd[84..88].copy_from_slice(&checksum);
    odd
}

#[test]
fn records_that_have_nothing_in_common_are_kept_plain() {
    let odd = odd_record();
    for (records, version) in [(odd.clone(), VERSION_PLAIN), (odd.repeat(50), VERSION_REGROUPED)] {
        let mut block = Vec::new();
        let header = BlockEncoder::new(Codec::Zstd(3)).unwrap().encode(0, &records, 52, &mut block).unwrap();
        assert_eq!(header.block_version, version);
        let mut out = vec![0; records.len()];
        BlockDecoder::default().decode(&block, &mut out).unwrap();
        assert_eq!(out, records);
    }
}

#[test]
fn only_a_good_sealed_segment_is_compressed() {
    let (native, size) = segment(&mut Random(3));
    let make = |native: &[u8], size| match Compressor::new(native, size, Codec::Lz4) {
        Ok(compressor) => compressor.finish().map(|_| ()),
        Err(error) => Err(error),
    };
    make(&native, size).unwrap();
    let with_header = |flags| {
        let mut other = native.clone();
        let header = JournalHeader::new(17, 4711, native.len() as u64, flags);
        other[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        other
    };
    for flags in [0, 2, 3, 4, 8, 9] {
        assert!(
            matches!(make(&with_header(flags), size), Err(EncodeError::NotSealed { .. })),
            "flags {flags}"
        );
    }
    make(&with_header(FLAG_SEALED | FLAG_THINNED), size).unwrap();
    for at in [60, native.len() / 2, native.len() - 10] {
        let mut damaged = native.clone();
        damaged[at] ^= 1;
        let found = make(&damaged, size);
        let is_named = matches!(found, Err(EncodeError::NotSealed { .. } | EncodeError::Record { .. }));
        assert!(is_named, "damage at {at}: {found:?}");
    }
    let mut behind = native.clone();
    behind.extend_from_slice(&[0, 0, 9]);
    let offset = native.len() + 2;
    let found = make(&behind, size + 3);
    assert!(matches!(found, Err(EncodeError::Behind { offset: at }) if at == offset), "{found:?}");
}

#[test]
fn what_can_be_computed_takes_no_room() {
    // A commit behind each event: 128 bytes of digests and checksums for two records.
    let mut records = Vec::new();
    let mut previous = Digest::ZERO;
    for id in 1..=200u64 {
        let event = record(id, 0x0101, &[(16, &(id * 1000).to_le_bytes())], &[], b"{}", &[]);
        let mut tree = RecordTree::default();
        tree.push(&event);
        let commit = Commit {
            commit_sequence: id,
            epoch: 1,
            first_event_id: id,
            last_event_id: id,
            record_count: 1,
            event_count: 1,
            byte_count: event.len() as u64,
            synced_upto: id - 1,
            flags: 0,
            reserved: 0,
            root: tree.root(),
            previous_digest: previous,
            digest: Digest::ZERO,
        };
        let commit = commit.with_digest();
        previous = commit.digest;
        records.extend_from_slice(&event);
        records.extend_from_slice(&own(EventType::JOURNAL_COMMIT, &commit.encode()));
    }
    let mut block = Vec::new();
    BlockEncoder::new(Codec::Zstd(3)).unwrap().encode(0, &records, 52, &mut block).unwrap();
    // The digests alone would be ten times as much.
    assert!(block.len() * 40 < records.len(), "{} bytes of {}", block.len(), records.len());
}

/// These records come back with every codec, regrouped or not.
fn come_back(records: &[u8]) -> BlockHeader {
    let mut decoder = BlockDecoder::default();
    let headers = CODECS.map(|codec| {
        let mut block = Vec::new();
        BlockEncoder::new(codec).unwrap().encode(0, records, 52, &mut block).unwrap();
        let mut out = vec![0xAA; records.len()];
        let header = decoder.decode(&block, &mut out).unwrap();
        assert!(out == records, "{codec}");
        header
    });
    headers[0]
}

#[test]
fn records_without_any_text_come_back() {
    let records: Vec<u8> = (1..=50).flat_map(|id| record(id, 0x0101, &[], &[], &[], &[])).collect();
    let header = come_back(&records);
    assert_eq!((header.block_version, header.event_count), (VERSION_REGROUPED, 50));
}

#[test]
fn a_record_of_the_largest_size_and_values_comes_back() {
    let metadata = 2048u32.to_le_bytes();
    let all_ones: [(usize, &[u8]); 5] =
        [(12, &[0xFF; 52]), (76, &metadata), (88, &[0xFF; 8]), (100, &[0xFF; 16]), (116, &[0xFF; 16])];
    let rest = vec![0xFF; 2048 + 256 * 160];
    let largest = record(u64::MAX, u32::MAX, &all_ones, &[0xFF; 5280], &[0xFF; 65_536], &rest);
    assert_eq!(largest.len(), semj_format::limits::RECORD_SIZE_MAX);
    let smallest = record(1, 0, &[], &[], &[], &[]);
    let header = come_back(&[&largest[..], &smallest, &largest, &largest, &smallest].concat());
    assert_eq!((header.first_event_id, header.last_event_id), (1, u64::MAX));
}

#[test]
fn a_block_may_be_full() {
    let largest = record(1, 1, &[], &[], &[3; 65_536], &[]);
    let mut records = largest.repeat(BLOCK_SIZE_MAX / largest.len());
    let rest = BLOCK_SIZE_MAX - records.len();
    records.extend_from_slice(&record(2, 1, &[], &[], &vec![5; rest - 132], &[]));
    assert_eq!(records.len(), BLOCK_SIZE_MAX);
    come_back(&records);
    let smallest = record(3, 1, &[], &[], &[], &[]);
    come_back(&smallest.repeat(BLOCK_SIZE_MAX / smallest.len()));
    records.extend_from_slice(&smallest);
    let found = BlockEncoder::new(Codec::None).unwrap().encode(0, &records, 52, &mut Vec::new());
    assert!(matches!(found, Err(EncodeError::TooLarge { .. })), "{found:?}");
    let found = BlockEncoder::new(Codec::None).unwrap().encode(0, &[], 52, &mut Vec::new());
    assert!(matches!(found, Err(EncodeError::Empty)), "{found:?}");
}

#[test]
fn ids_in_any_order_and_twice_come_back() {
    let ids = [9, 3, 3, u64::MAX, 1, 0, 1, 0, 0, u64::MAX - 1, 1 << 63, 2];
    let records: Vec<u8> = ids.iter().flat_map(|id| record(*id, 0x0104, &[], &[], b"x", &[])).collect();
    let header = come_back(&records);
    assert_eq!((header.first_event_id, header.last_event_id), (1, u64::MAX));
}

#[test]
fn times_and_types_of_any_value_come_back() {
    let mut records = Vec::new();
    for (id, time) in (1..).zip([0, i64::MIN, i64::MAX, -1, 1, i64::MIN, i64::MIN + 1]) {
        // A type of its own for each, and then one that was there.
        for event_type in [u32::MAX - id as u32, 0, 0x0701, 0x0703, 0xFFFF] {
            records.extend(record(id, event_type, &[(16, &time.to_le_bytes())], &[], &[], &[]));
        }
    }
    come_back(&records);
}

#[test]
fn what_is_like_a_commit_and_is_none_comes_back() {
    let commit = EventType::JOURNAL_COMMIT.0;
    let whole = Commit::decode(&[7; Commit::SIZE]).with_digest().encode();
    let later_layout = (12, &1u32.to_le_bytes()[..]);
    let records = [
        record(0, commit, &[], &[], &whole[..159], &[]),
        record(0, commit, &[], &[], &[&whole[..], &[0]].concat(), &[]),
        record(5, commit, &[], &[], &whole, &[]),
        record(0, commit, &[], &[], &whole, &[]),
        record(0, commit, &[later_layout], &[], &whole, &[]),
        record(0, commit, &[(76, &3u32.to_le_bytes())], &[4, 0, 0, 0], &whole, b"abc"),
        record(0, commit, &[], &[], &[0xFF; 160], &[]),
        record(6, 0x0101, &[], &[], &whole, &[]),
        record(0, commit, &[], &[], &whole, &[]),
    ];
    assert_eq!(come_back(&records.concat()).block_version, VERSION_REGROUPED);
}

#[test]
fn contexts_at_the_edges_of_their_forms_come_back() {
    let path =
        |size: usize| [&8u32.to_le_bytes()[..], &(size as u16).to_le_bytes(), &vec![b'p'; size]].concat();
    let later = |bytes: &[u8]| {
        let field = [&(bytes.len() as u16).to_le_bytes()[..], bytes].concat();
        [&0xFFE0_0000u32.to_le_bytes()[..], &field.repeat(11)].concat()
    };
    let mut fixed = vec![0; 5280];
    fixed[24..4120].fill(b'p');
    let mut inner_nul = fixed.clone();
    inner_nul[100] = 0;
    let contexts = [
        path(0),
        // One byte less than the fixed form, and a path that is longer than it can be there.
        path(5273),
        fixed,
        path(4096),
        inner_nul,
        vec![0; 5280],
        vec![0; 4],
        vec![0; 3],
        vec![0xFF; 5279],
        later(b""),
        later(b"later"),
        // A text whose length goes beyond the end, and one byte too many.
        [&8u32.to_le_bytes()[..], &[9, 0, b'p']].concat(),
        [&path(4)[..], &[0]].concat(),
    ];
    let records: Vec<u8> =
        (1..).zip(&contexts).flat_map(|(id, context)| record(id, 0x0101, &[], context, &[], &[])).collect();
    assert_eq!(come_back(&records.repeat(2)).block_version, VERSION_REGROUPED);
}

#[test]
fn bytes_behind_the_data_are_an_error() {
    let odd = odd_record();
    for codec in CODECS {
        let mut block = Vec::new();
        let header = BlockEncoder::new(codec).unwrap().encode(0, &odd, 52, &mut block).unwrap();
        assert_eq!(header.block_version, VERSION_PLAIN);
        let data = &block[BlockHeader::SIZE..];
        let empty_frame: &[u8] = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0";
        let skippable_frame: &[u8] = b"\x50\x2a\x4d\x18\0\0\0\0";
        let decode = |data: &[u8]| {
            let mut out = vec![0; odd.len()];
            BlockDecoder::default().decode(&forged(&block, data, odd.len() as u32), &mut out)
        };
        decode(data).unwrap();
        for more in [&[0][..], empty_frame, skippable_frame, data] {
            assert!(decode(&[data, more].concat()).is_err(), "{codec}: {more:x?} behind the data");
        }
        for more in [empty_frame, skippable_frame] {
            assert!(decode(&[more, data].concat()).is_err(), "{codec}: {more:x?} before the data");
        }
        assert!(decode(&data[..data.len() - 1]).is_err(), "{codec}: a byte is missing");
        assert!(decode(&[]).is_err(), "{codec}: no data");
    }
}

/// The data of a block of few regrouped records, without a codec: their number, and the streams as they are given.
fn by_hand(streams: [&[u8]; 19], count: u8) -> Vec<u8> {
    let mut numbers = vec![count];
    numbers.extend(streams.iter().map(|stream| stream.len() as u8));
    numbers.extend(streams[..15].concat());
    let texts = streams[15..].concat();
    let sizes = [numbers.len(), numbers.len(), texts.len()].map(|size| (size as u32).to_le_bytes());
    [&sizes.concat()[..], &numbers, &texts].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[test]
fn streams_that_no_encoder_makes_are_an_error() {
    // One event of version 1 without a payload. Its id is 1, as expected of the first one, and what follows from that.
    let version = 1 << 18;
    let event_type = varint(0x0101);
    let of_header = [&event_type[..], &[2]].concat();
    let native = record(1, 0x0101, &[(24, &[1]), (40, &[1]), (48, &[1]), (108, &[1])], &[], &[], &[]);
    let mut made = Vec::new();
    BlockEncoder::new(Codec::None).unwrap().encode(0, &native, 52, &mut made).unwrap();
    let decode = |changes: u64, more: &[(usize, &[u8])], count| {
        let changes = varint(changes);
        let mut streams: [&[u8]; 19] = [&[]; 19];
        let usual: [(usize, &[u8]); 7] =
            [(0, &changes), (1, &[0]), (2, &[0]), (6, &of_header), (11, &[0]), (12, &[0]), (13, &[0])];
        for (place, bytes) in usual.iter().chain(more) {
            streams[*place] = bytes;
        }
        let mut block = forged(&made, &by_hand(streams, count), native.len() as u32);
        let mut header = BlockHeader::decode(block.first_chunk().unwrap());
        header.block_version = VERSION_REGROUPED;
        header.block_checksum = header.computed_checksum(&block[BlockHeader::SIZE..]);
        block[..BlockHeader::SIZE].copy_from_slice(&header.encode());
        let mut out = vec![0; native.len()];
        BlockDecoder::default().decode(&block, &mut out).map(|_| out)
    };
    assert_eq!(decode(version, &[], 1).unwrap(), native);
    let is_wrong = |what: &str, changes, more: &[(usize, &[u8])], count| {
        assert!(decode(changes, more, count).is_err(), "{what}");
    };
    is_wrong("no record", version, &[], 0);
    is_wrong("a record more", version, &[], 2);
    is_wrong("an unknown bit of the changes", version | 1 << 21, &[], 1);
    is_wrong("the highest bit of the changes", version | 1 << 63, &[], 1);
    is_wrong("a type that is not there", version, &[(1, &[1])], 1);
    is_wrong("a stream that is not used up", version, &[(2, &[0, 0])], 1);
    is_wrong("a stream that nothing reads", version, &[(18, &[0])], 1);
    is_wrong("a stream that ends too soon", version, &[(2, &[])], 1);
    is_wrong("a text that is not there", version, &[(11, &[2])], 1);
    is_wrong("the successor of no text", version, &[(11, &[1])], 1);
    is_wrong("a text that shares bytes with none", version, &[(12, &[1])], 1);
    is_wrong("a text without its bytes", version, &[(13, &[1])], 1);
    is_wrong("a text that is too long", version, &[(13, &varint(65_537))], 1);
    is_wrong("a text of 2⁶⁴ - 1 bytes", version, &[(13, &varint(u64::MAX))], 1);
    is_wrong("a Commit that is none", version | 1 << 20, &[(14, &[0; 11])], 1);
    is_wrong("no context, with fields", version | 1 << 19, &[(7, &[0, 1])], 1);
    is_wrong("a fixed context with a later field", version | 1 << 19, &[(7, &[2, 0x80, 0x80, 0x80, 1])], 1);
    is_wrong("bytes of a context, with fields", version | 1 << 19, &[(7, &[3, 1])], 1);
    is_wrong("a context of a form that is none", version | 1 << 19, &[(7, &[4, 0])], 1);
    is_wrong("a context that is larger than the block", version | 1 << 19, &[(7, &[1, 0])], 1);
    let large_subtype = [&event_type[..], &varint(1 << 33), &[2]].concat();
    is_wrong("a subtype of more than 32 bits", version | 1 << 8, &[(6, &large_subtype)], 1);
    is_wrong("event_version 2", version, &[(6, &[&event_type[..], &[4]].concat())], 1);
}

#[test]
fn a_first_group_with_an_event_of_a_commits_type_is_not_taken_apart() {
    let (native, _) = segment(&mut Random(11));
    let open = own(EventType::JOURNAL_SEGMENT_OPEN, &SegmentOpen::decode(&[1; SegmentOpen::SIZE]).encode());
    let event = record(1, EventType::JOURNAL_COMMIT.0, &[], &[], &[1; 400], &[]);
    let end = JournalHeader::SIZE + open.len();
    let mut native = [&native[..end], &event, &native[end..]].concat();
    let header = JournalHeader::new(18, 4711, native.len() as u64, FLAG_SEALED);
    native[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    // Blocks as small as they can be: one for each record, but for the first group.
    for target in [0, 1] {
        let compressor = Compressor::with_target(&native, native.len() as u64, Codec::Lz4, target).unwrap();
        let file = compressor.finish().unwrap();
        let layout = Layout::parse(&file).unwrap();
        let first_group = layout.native_range(0).unwrap();
        assert_eq!(first_group, 52..52 + open.len() + event.len() + 132 + Commit::SIZE);
        assert!(layout.decompress(&file, &mut BlockDecoder::default()).unwrap() == native);
    }
}

#[test]
fn a_file_that_stands_for_no_sealed_segment_is_refused() {
    type Change<'a> = &'a dyn Fn(&mut JournalHeader, &mut JournalHeader, &mut FileSeal);
    let (native, size) = segment(&mut Random(5));
    let file = Compressor::new(&native, size, Codec::Lz4).unwrap().finish().unwrap();
    let with = |change: Change<'_>| {
        let mut file = file.clone();
        let seal_at = file.len() - FileSeal::SIZE;
        let mut header = JournalHeader::parse(&file).unwrap();
        let mut seal = FileSeal::decode(file[seal_at..].first_chunk().unwrap());
        let mut native = JournalHeader::parse(&seal.native_header).unwrap();
        change(&mut header, &mut native, &mut seal);
        header.checksum = header.computed_checksum();
        native.checksum = native.computed_checksum();
        seal.native_header = native.encode();
        seal.checksum = kernel_crc32(&seal.encode()[..FileSeal::SIZE - 4]);
        file[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        file[seal_at..].copy_from_slice(&seal.encode());
        Layout::parse(&file).map(|_| ())
    };
    with(&|_, _, _| {}).unwrap();
    let is_wrong = |what: &str, change: Change<'_>| assert!(with(change).is_err(), "{what}");
    for (what, flags) in [("open", 0), ("cut", FLAG_CUT), ("compressed", FLAG_SEALED | 8)] {
        is_wrong(what, &|header, native, _| {
            native.flags = flags;
            header.flags = flags | 8;
        });
    }
    is_wrong("flags that differ", &|_, native, _| native.flags |= FLAG_THINNED);
    is_wrong("another total_events", &|header, _, _| header.total_events += 1);
    is_wrong("another next_event_id", &|header, _, _| header.next_event_id += 1);
    is_wrong("another end", &|_, native, seal| {
        native.journal_size += 1;
        seal.native_end += 1;
    });
    is_wrong("more than the file may have", &|_, _, seal| seal.native_size = (4 << 30) + 1);
    is_wrong("less than is in use", &|_, _, seal| seal.native_size = seal.native_end - 1);
    is_wrong("a block more", &|_, _, seal| seal.block_count += 1);
    is_wrong("an index beyond the end", &|header, _, _| header.index_offset = u64::MAX);
    is_wrong("an index before the beginning", &|header, _, _| header.index_offset = 0);
    is_wrong("an index that begins in the last block", &|header, _, _| header.index_offset -= 1);
    is_wrong("a later version", &|_, _, seal| seal.version = 2);
    is_wrong("another magic", &|_, _, seal| seal.magic = 0x5345_4D42);

    // Nothing but header and seal.
    let header = JournalHeader { index_offset: 52, ..JournalHeader::new(0, 1, 52 + 296, FLAG_SEALED | 8) };
    let header = JournalHeader { checksum: header.computed_checksum(), ..header };
    let mut seal = FileSeal::decode(file[file.len() - FileSeal::SIZE..].first_chunk().unwrap());
    seal.native_header = JournalHeader::new(0, 1, 52, FLAG_SEALED).encode();
    (seal.block_count, seal.native_end, seal.index_checksum) = (0, 52, kernel_crc32(&[][..]));
    seal.checksum = kernel_crc32(&seal.encode()[..FileSeal::SIZE - 4]);
    let found = Layout::parse(&[&header.encode()[..], &seal.encode()].concat());
    assert!(
        matches!(found, Err(DecodeError::Contradiction { what: "the size of a block index" })),
        "{found:?}"
    );
}

#[test]
fn a_file_that_was_proven_while_it_was_made_is_the_same_file() {
    fn property(seed: u64) -> TestResult {
        let (native, size) = segment(&mut Random(seed));
        for codec in CODECS {
            for target in [1, 3_000, BLOCK_SIZE_MAX] {
                let compressor = || Compressor::with_target(&native, size, codec, target).unwrap();
                let proven = compressor().proving().finish().unwrap();
                assert!(proven == compressor().finish().unwrap(), "{codec}, blocks of {target} bytes");
            }
        }
        TestResult::passed()
    }
    check(20, property);
}

#[test]
fn a_damaged_record_is_found_by_whoever_proves_in_blocks_of_either_version() {
    let (native, size) = segment(&mut Random(5));
    let records = semj_format::Records::new(&native, JournalHeader::SIZE);
    let starts: Vec<_> = records.map_while(Result::ok).map(|(offset, _)| offset).collect();
    let mut versions = [0; 2];
    for (place, start) in starts[1..starts.len() - 1].iter().enumerate() {
        let mut damaged = native.clone();
        // The checksum itself, or a bit of the time.
        damaged[start + if place % 2 == 0 { 84 } else { 17 }] ^= 1;
        for target in [1, BLOCK_SIZE_MAX] {
            let compressor = Compressor::with_target(&damaged, size, Codec::None, target).unwrap().proving();
            let found = compressor.finish();
            let is_named = matches!(
                found,
                Err(EncodeError::Record { offset, source: semj_format::RecordError::Checksum { .. } })
                    if offset == *start
            );
            assert!(is_named, "damage at {start}, blocks of {target} bytes: {:?}", found.map(|_| ()));
        }
        let mut block = Vec::new();
        let end = starts[place + 2];
        let mut encoder = BlockEncoder::new(Codec::None).unwrap();
        let header = encoder.encode(0, &native[*start..end], *start, &mut block).unwrap();
        versions[(header.block_version - VERSION_PLAIN) as usize] += 1;
    }
    assert!(versions.iter().all(|count| *count > 0), "blocks of each version: {versions:?}");
}
