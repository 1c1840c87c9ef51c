//! Segments of random records.

use semj_blocks::BLOCK_SIZE_MAX;
use semj_format::checksum::kernel_crc32;
use semj_format::control::{Commit, SegmentOpen, SegmentSeal};
use semj_format::digest::RecordTree;
use semj_format::journal_header::FLAG_SEALED;
use semj_format::{Digest, EventType, JournalHeader};

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn is_one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self, size: u64) -> Vec<u8> {
        (0..size).map(|_| self.next() as u8).collect()
    }
}

/// A record of these parts; the other fields are in `fields`, from offset on.
pub(crate) fn record(
    event_id: u64,
    event_type: u32,
    fields: &[(usize, &[u8])],
    context: &[u8],
    payload: &[u8],
    rest: &[u8],
) -> Vec<u8> {
    let mut bytes = vec![0; 132];
    bytes[0..8].copy_from_slice(&event_id.to_le_bytes());
    bytes[8..12].copy_from_slice(&event_type.to_le_bytes());
    bytes[80..84].copy_from_slice(&1u32.to_le_bytes());
    for (offset, field) in fields {
        bytes[*offset..offset + field.len()].copy_from_slice(field);
    }
    let metadata = u32::from_le_bytes(bytes[76..80].try_into().unwrap()) as usize;
    assert_eq!((rest.len() - metadata) % 160, 0);
    bytes[96..100].copy_from_slice(&(((rest.len() - metadata) / 160) as u32).to_le_bytes());
    bytes[68..72].copy_from_slice(&(context.len() as u32).to_le_bytes());
    bytes[72..76].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    bytes.extend_from_slice(context);
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(rest);
    let size = (bytes.len() as u32).to_le_bytes();
    bytes[64..68].copy_from_slice(&size);
    let checksum = kernel_crc32(&bytes[..]).to_le_bytes();
    bytes[84..88].copy_from_slice(&checksum);
    bytes
}

pub(crate) fn own(event_type: EventType, body: &[u8]) -> Vec<u8> {
    record(0, event_type.0, &[(60, &3u32.to_le_bytes())], &[], body, &[])
}

fn text(random: &mut Random) -> Vec<u8> {
    let size = random.below(20);
    match random.below(4) {
        0 => random.bytes(size),
        1 => Vec::new(),
        _ => format!("/project/{}/{}", random.below(3), random.below(9)).into_bytes(),
    }
}

/// A context: none, compact, fixed, or bytes that are none.
fn context(random: &mut Random) -> Vec<u8> {
    let texts = [3, 12, 13, 18, 19];
    let words = [0, 1, 2, 4, 6, 7, 9, 16];
    match random.below(8) {
        0 => Vec::new(),
        1 => {
            let size = 1 + random.below(40);
            random.bytes(size)
        }
        2 => {
            let mut fixed = vec![0; 5280];
            for (offset, size) in [(0, 8), (24, 4096), (4120, 8), (4168, 64), (5276, 4)] {
                let field = &mut fixed[offset..offset + size];
                let bytes = if size > 8 { text(random) } else { random.bytes(size as u64) };
                field[..bytes.len()].copy_from_slice(&bytes);
            }
            if random.is_one_in(4) {
                // Behind its NUL byte too.
                fixed[4119] = 7;
            }
            fixed
        }
        _ => {
            let mut presence = random.next() as u32 & random.next() as u32;
            if !random.is_one_in(4) {
                presence &= 0x1F_FFFF & (0x38 | random.next() as u32 & random.next() as u32);
            }
            let mut compact = presence.to_le_bytes().to_vec();
            for bit in (0..32).filter(|bit| presence >> bit & 1 != 0) {
                if texts.contains(&bit) || bit > 20 {
                    let text = text(random);
                    compact.extend_from_slice(&(text.len() as u16).to_le_bytes());
                    compact.extend_from_slice(&text);
                } else {
                    let size = if words.contains(&bit) { 8 } else { 4 };
                    let value = if random.is_one_in(3) { random.next() } else { random.below(5) };
                    compact.extend_from_slice(&value.to_le_bytes()[..size]);
                }
            }
            compact
        }
    }
}

fn payload(random: &mut Random) -> Vec<u8> {
    match random.below(40) {
        0 => {
            let size = random.below(65_537);
            random.bytes(size)
        }
        1 => vec![7; random.below(65_537) as usize],
        2..10 => Vec::new(),
        _ => {
            format!("{{\"bytes\":{},\"offset\":{}}}", random.below(5), random.below(100) * 4096).into_bytes()
        }
    }
}

/// Records with groups of all sizes, in all forms; some of them like each other, some not at all.
pub(crate) fn records(random: &mut Random, count: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut group = 0;
    let mut event_id = random.below(1000);
    let mut commit_sequence = random.below(1000);
    let mut previous = Digest(random.bytes(32).try_into().unwrap());
    for _ in 0..count {
        if out.len() > BLOCK_SIZE_MAX - 200_000 {
            break;
        }
        if random.is_one_in(5) {
            commit_sequence += 1;
            let mut tree = RecordTree::default();
            for found in semj_format::Records::new(&out[group..], 0) {
                tree.push(found.unwrap().1.bytes());
            }
            let commit = Commit {
                commit_sequence,
                epoch: 3,
                first_event_id: event_id,
                last_event_id: event_id,
                record_count: random.below(4) as u32,
                event_count: random.below(4) as u32,
                byte_count: (out.len() - group) as u64,
                synced_upto: random.next(),
                flags: random.below(2) as u32,
                reserved: 0,
                root: if random.is_one_in(3) { Digest::ZERO } else { tree.root() },
                previous_digest: previous,
                digest: Digest::ZERO,
            };
            let mut commit = commit.with_digest();
            if random.is_one_in(9) {
                commit.digest = Digest([9; 32]);
            }
            previous = commit.digest;
            out.extend_from_slice(&own(EventType::JOURNAL_COMMIT, &commit.encode()));
            group = out.len();
            continue;
        }
        let wild = random.is_one_in(10);
        event_id += 1 + if wild { random.below(1 << 20) } else { 0 };
        let any = random.bytes(132);
        let metadata = if random.is_one_in(6) { random.below(2049) } else { 0 };
        let links = if random.is_one_in(9) { random.below(3) } else { 0 };
        let rest = random.bytes(metadata + links * 160);
        let time = random.next() >> random.below(64);
        let mut fields: Vec<(usize, &[u8])> = Vec::new();
        let (time, metadata) = (time.to_le_bytes(), (metadata as u32).to_le_bytes());
        if wild {
            fields.extend([(12, &any[12..64]), (88, &any[88..96]), (100, &any[100..132])]);
        }
        fields.extend([(16, &time[..]), (76, &metadata[..])]);
        let event_type = if wild { random.next() as u32 } else { 0x0101 + random.below(4) as u32 };
        let id = if random.is_one_in(30) { 0 } else { event_id };
        let (context, payload) = (context(random), payload(random));
        out.extend_from_slice(&record(id, event_type, &fields, &context, &payload, &rest));
    }
    out
}

/// A sealed segment of such records, and bytes of its file.
pub(crate) fn segment(random: &mut Random) -> (Vec<u8>, u64) {
    let mut bytes = vec![0; JournalHeader::SIZE];
    let open = SegmentOpen::decode(&[1; SegmentOpen::SIZE]);
    bytes.extend_from_slice(&own(EventType::JOURNAL_SEGMENT_OPEN, &open.encode()));
    let mut commit = Commit::decode(&[0; Commit::SIZE]);
    commit.record_count = 1;
    bytes.extend_from_slice(&own(EventType::JOURNAL_COMMIT, &commit.with_digest().encode()));
    for _ in 0..random.below(4) {
        let count = random.below(300);
        bytes.extend_from_slice(&records(random, count));
    }
    let seal = SegmentSeal::decode(&[2; SegmentSeal::SIZE]);
    bytes.extend_from_slice(&own(EventType::JOURNAL_SEGMENT_SEAL, &seal.encode()));
    let header = JournalHeader::new(17, 4711, bytes.len() as u64, FLAG_SEALED);
    bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    let size = bytes.len() as u64 + random.below(1 << 20);
    (bytes, size)
}
