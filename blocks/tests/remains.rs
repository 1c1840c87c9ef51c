//! A compressed segment that is damaged gives back what is not: of one that is damaged in one place, whatever that is, all that does
//! not stand in that place.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

mod segments;

use std::ops::Range;

use semj_blocks::{BlockHeader, Codec, Compressor, FileSeal, IndexEntry, Layout, Remains};
use semj_format::{JournalHeader, Records};

use segments::{Random, own, record, records, segment};

/// A segment and its compressed file, of some blocks.
struct Case {
    native: Vec<u8>,
    file: Vec<u8>,
    layout: Layout,
}

impl Case {
    fn new() -> Self {
        let mut seeds = 0..;
        let (native, native_size) = std::iter::repeat_with(|| segment(&mut Random(seeds.next().unwrap())))
            .find(|(native, _)| native.len() > 60_000)
            .unwrap();
        let compressor = Compressor::with_target(&native, native_size, Codec::default(), 8_000).unwrap();
        let file = compressor.finish().unwrap();
        let layout = Layout::parse(&file).unwrap();
        assert!(layout.entries().len() > 5);
        Self { native, file, layout }
    }

    fn blocks(&self) -> usize {
        self.layout.entries().len()
    }

    fn index(&self) -> Range<usize> {
        let seal_at = self.file.len() - FileSeal::SIZE;
        seal_at - self.blocks() * IndexEntry::SIZE..seal_at
    }

    /// The native bytes without those of some blocks.
    fn without(&self, blocks: Range<usize>) -> Vec<u8> {
        let mut native = self.native.clone();
        if blocks.end == self.blocks() {
            // Nothing is behind the last one that is there.
            native.truncate(self.layout.native_range(blocks.start).unwrap().start);
        } else {
            blocks.for_each(|block| native[self.layout.native_range(block).unwrap()].fill(0));
        }
        native
    }

    /// The file with a bit flipped at each of these offsets.
    fn flipped(&self, offsets: &[usize]) -> Vec<u8> {
        let mut file = self.file.clone();
        offsets.iter().for_each(|at| file[*at] ^= 0x10);
        file
    }

    /// An offset in the data of a block.
    fn inside(&self, block: usize) -> usize {
        self.layout.file_range(block).unwrap().end - 7
    }
}

#[test]
fn of_a_file_that_is_not_damaged_all_comes_back() {
    let case = Case::new();
    let Remains { native, blocks_kept } = Remains::of(&case.file).unwrap();
    assert!(native == case.native);
    assert_eq!(blocks_kept, case.blocks());
}

#[test]
fn damage_to_header_index_or_seal_costs_no_record_and_damage_to_a_block_no_other_block() {
    let case = Case::new();
    let blocks_end = case.index().start;
    for at in 0..case.file.len() {
        let is_inside = |block: &usize| case.layout.file_range(*block).unwrap().contains(&at);
        let block = (0..case.blocks()).find(is_inside);
        assert_eq!(block.is_none(), !(JournalHeader::SIZE..blocks_end).contains(&at));
        // Of the bytes of a block's data one is like another.
        let start = block.map_or(0, |block| case.layout.file_range(block).unwrap().start);
        if block.is_some() && at - start > BlockHeader::SIZE && at % 997 != 0 {
            continue;
        }
        let found = Remains::of(&case.flipped(&[at])).unwrap();
        let lost = block.map_or(0..0, |block| block..block + 1);
        assert_eq!(found.blocks_kept, case.blocks() - lost.len(), "offset {at}");
        assert!(found.native == case.without(lost), "offset {at}");
    }
}

#[test]
fn each_of_header_index_and_seal_is_made_up_for_where_a_block_is_damaged_too() {
    let case = Case::new();
    let (index, seal, bad) = (case.index().start + 50, case.index().end + 20, case.inside(3));
    for (what, offsets) in [("header", [40, bad]), ("index", [index, bad]), ("seal", [seal, bad])] {
        let found = Remains::of(&case.flipped(&offsets)).unwrap();
        assert!(found.native == case.without(3..4), "{what}");
        assert_eq!(found.blocks_kept, case.blocks() - 1, "{what}");
    }
    // Where a block's own header is damaged, the next one is looked for.
    let header = case.layout.file_range(3).unwrap().start + 16;
    let found = Remains::of(&case.flipped(&[index, header])).unwrap();
    assert!(found.native == case.without(3..4));
    // What is between two that are damaged has no place that anything says.
    let found = Remains::of(&case.flipped(&[index, bad, case.inside(1)])).unwrap();
    assert!(found.native == case.without(1..4));
}

#[test]
fn without_index_and_seal_the_blocks_up_to_the_first_damaged_one_are_left() {
    let case = Case::new();
    let ends = [case.index().start + 50, case.index().end + 20];
    let found = Remains::of(&case.flipped(&ends)).unwrap();
    assert!(found.native == case.native);
    let found = Remains::of(&case.flipped(&[ends[0], ends[1], case.inside(2)])).unwrap();
    let end = case.layout.native_range(2).unwrap().start;
    assert!(found.native[JournalHeader::SIZE..] == case.native[JournalHeader::SIZE..end]);
    // Neither a header nor a seal: nobody knows what the native header was.
    let found = Remains::of(&case.flipped(&[0, ends[1]])).unwrap();
    assert!(found.native[..JournalHeader::SIZE] == [0; JournalHeader::SIZE]);
    assert!(found.native[JournalHeader::SIZE..] == case.native[JournalHeader::SIZE..]);
}

#[test]
fn a_file_that_was_cut_short_or_became_longer_gives_back_what_is_in_it() {
    let case = Case::new();
    for size in (0..=case.file.len() + 3).rev().filter(|size| size % 41 == 0 || size + 400 > case.file.len())
    {
        let mut file = case.file.clone();
        file.resize(size, 0xA5);
        let whole =
            (0..case.blocks()).take_while(|block| case.layout.file_range(*block).unwrap().end <= size);
        let Some(last) = whole.last() else {
            assert_eq!(Remains::of(&file), None);
            continue;
        };
        let found = Remains::of(&file).unwrap();
        assert_eq!(found.blocks_kept, last + 1, "{size} bytes");
        let end = case.layout.native_range(last).unwrap().end;
        // What is left does not seem to be all, unless it is: where the blocks end before the index nothing says how many there were.
        let said = JournalHeader::parse(&found.native).unwrap().journal_size;
        let is_all = last + 1 == case.blocks();
        assert_eq!(said, case.native.len().min(end) as u64 + u64::from(!is_all), "{size} bytes");
        let records = JournalHeader::SIZE..end;
        assert!(found.native[records.clone()] == case.native[records], "{size} bytes");
        assert!(found.native[end..].iter().all(|byte| *byte == 0), "{size} bytes");
    }
}

#[test]
fn what_is_no_compressed_segment_is_not_taken_for_one() {
    let case = Case::new();
    assert_eq!(Remains::of(&case.native), None);
    // Nor is one whose header is damaged and which ends with a compressed segment, as the payload of an event.
    let (small, size) =
        (0..).map(|seed| segment(&mut Random(seed))).find(|(small, _)| small.len() < 20_000).unwrap();
    let payload = Compressor::new(&small, size, Codec::default()).unwrap().finish().unwrap();
    assert!(Remains::of(&payload).is_some());
    let mut native = vec![0; JournalHeader::SIZE];
    native.extend_from_slice(&own(semj_format::EventType::JOURNAL_SEGMENT_OPEN, &[1; 168]));
    native.extend_from_slice(&record(7, 0x0101, &[], &[], &payload, &[]));
    assert!(native.ends_with(&payload));
    assert_eq!(Remains::of(&native), None);
    // One of a later version is not damaged.
    let mut header = JournalHeader::parse(&case.file).unwrap();
    header.version_major = 2;
    header.checksum = header.computed_checksum();
    let mut later = case.file.clone();
    later[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    assert_eq!(Remains::of(&later), None);
    assert_eq!(Remains::of(&[]), None);
}

#[test]
fn what_somebody_has_made_to_take_long_or_much_takes_neither() {
    let case = Case::new();
    let seal_at = case.file.len() - FileSeal::SIZE;
    let seal: FileSeal = FileSeal::decode(case.file[seal_at..].first_chunk().unwrap());
    let with = |between: &[u8], change: &dyn Fn(&mut FileSeal)| {
        let mut seal = seal;
        change(&mut seal);
        seal.checksum = semj_format::checksum::kernel_crc32(&seal.encode()[..FileSeal::SIZE - 4]);
        [&vec![0xFF; JournalHeader::SIZE][..], between, &seal.encode()].concat()
    };
    let first = &case.file[case.layout.file_range(0).unwrap()];
    // Beginnings of blocks that all reach far, behind a right one.
    let unit = [
        &0x5345_4D42u32.to_le_bytes()[..],
        &2u32.to_le_bytes(),
        &1u64.to_le_bytes(),
        &900_000u32.to_le_bytes(),
    ];
    let units = unit.concat().repeat(200_000);
    let started = std::time::Instant::now();
    let found = Remains::of(&with(&[first, &units].concat(), &|seal| seal.block_count = 2)).unwrap();
    assert_eq!(found.blocks_kept, 1);
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
    // Right blocks, and a seal that says that there are fewer of them, or that their records end before.
    let blocks = &case.file[JournalHeader::SIZE..case.index().start];
    let kept = |file: &[u8]| Remains::of(file).unwrap().blocks_kept;
    assert_eq!(kept(&with(blocks, &|seal| seal.block_count = 2)), 2);
    assert_eq!(kept(&with(blocks, &|seal| seal.block_count = u64::MAX)), case.blocks());
    let end = case.layout.native_range(1).unwrap().end as u64 + 7;
    let mut header = JournalHeader::parse(&seal.native_header).unwrap();
    header.journal_size = end;
    header.checksum = header.computed_checksum();
    let short = with(blocks, &|seal| (seal.native_end, seal.native_header) = (end, header.encode()));
    assert_eq!(kept(&short), 2);
}

#[test]
fn any_damage_gives_records_at_their_places_or_zeros() {
    let random = &mut Random(11);
    let case = Case::new();
    let starts: Vec<_> =
        Records::new(&case.native, JournalHeader::SIZE).map(|found| found.unwrap().0).collect();
    let unused = records(random, 3);
    for _ in 0..400 {
        let mut file = case.file.clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(file.len() as u64) as usize;
            let size = 1 + random.below(3000) as usize;
            let end = (at + size).min(file.len());
            match random.below(3) {
                0 => file[at] ^= 1 << random.below(8),
                1 => file[at..end].fill(0),
                _ => {
                    let others = unused.iter().cycle();
                    file[at..end].iter_mut().zip(others).for_each(|(byte, other)| *byte = *other);
                }
            }
        }
        let Some(found) = Remains::of(&file) else { continue };
        let end = found.native.len().min(case.native.len());
        for pair in starts.windows(2).filter(|pair| pair[1] <= end) {
            let (found, expected) = (&found.native[pair[0]..pair[1]], &case.native[pair[0]..pair[1]]);
            assert!(found == expected || found.iter().all(|byte| *byte == 0), "offset {}", pair[0]);
        }
    }
}
