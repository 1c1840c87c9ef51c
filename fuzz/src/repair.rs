//! Makes right again what a mutation broke.
//!
//! Nearly every mutation of a segment breaks a checksum, and all that lies behind would never be reached. So an
//! input says which layers are made right before it is decoded: the bytes are still the fuzzer's, only the
//! figures that prove them are not. Frames are never repaired.

use semj_format::control::{self, Body, PreviousEnd};
use semj_format::digest::{self, MerkleTree};
use semj_format::journal_header::FLAG_SEALED;
use semj_format::{Commit, Digest, EventHeader, EventType, JournalHeader, Record, SegmentOpen, SegmentSeal};
use semj_recovery::Scanner;

/// The layers that are made right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers(u8);

impl Layers {
    /// Checksums of the journal header and of every record.
    pub const CHECKSUMS: Self = Self(1);
    /// Digests of commits and seals.
    pub const DIGESTS: Self = Self(2);
    /// What commits and seals say of the records before them, and the chain from one to the next.
    pub const FIGURES: Self = Self(4);
    /// What SegmentOpens say of the segment before.
    pub const LINKS: Self = Self(8);
    /// The figures of a final header.
    pub const HEADER: Self = Self(16);

    /// The layers that an input's first byte stands for. Its other bits mean other things.
    pub const fn from_flags(flags: u8) -> Self {
        let basis = if flags & 0x01 != 0 { Self::CHECKSUMS.0 | Self::DIGESTS.0 } else { 0 };
        Self(basis | flags & (Self::FIGURES.0 | Self::LINKS.0 | Self::HEADER.0))
    }

    /// Whether this layer is among them.
    pub const fn contains(self, layer: Self) -> bool {
        self.0 & layer.0 == layer.0
    }
}

/// The flags for all layers.
pub const ALL: u8 = 0x1D;

/// Where a segment ends, for the SegmentOpen of the next one.
#[derive(Clone, Copy, Debug)]
pub struct End {
    opening: SegmentOpen,
    previous_end: PreviousEnd,
    offset: u64,
    digest: Digest,
    commit_sequence: u64,
}

/// The end of a segment's good part; `None` where its opening is bad.
pub fn end_of(bytes: &[u8]) -> Option<End> {
    let mut scanner = Scanner::new(bytes, 0).ok()?;
    while scanner.next_group().is_some() {}
    let is_sealed = scanner.is_sealed();
    Some(End {
        opening: *scanner.opening(),
        previous_end: if is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut },
        offset: scanner.offset() as u64,
        digest: scanner.totals().digest,
        commit_sequence: scanner.totals().commit_sequence,
    })
}

/// Makes a record's checksum right.
pub fn record_checksum(record: &mut [u8]) {
    let Some(header) = record.first_chunk::<{ EventHeader::SIZE }>() else { return };
    let zeroed = EventHeader { checksum: 0, ..EventHeader::decode(header) };
    record[..EventHeader::SIZE].copy_from_slice(&zeroed.encode());
    let checksum = semj_format::checksum::kernel_crc32(&*record);
    record[..EventHeader::SIZE].copy_from_slice(&EventHeader { checksum, ..zeroed }.encode());
}

/// Makes the checksum of a file's header right.
pub fn header_checksum(file: &mut [u8]) {
    let Some(bytes) = file.first_chunk_mut::<{ JournalHeader::SIZE }>() else { return };
    let header = JournalHeader::decode(bytes);
    *bytes = JournalHeader { checksum: header.computed_checksum(), ..header }.encode();
}

/// Makes the layers of a segment right, record by record; where there is no record, from the next offset on at
/// which there is one.
pub fn segment(file: &mut [u8], layers: Layers, previous: Option<&End>) {
    let mut walk = Walk::default();
    let mut at = JournalHeader::SIZE;
    while at < file.len() {
        let Ok(record) = Record::parse(&file[at..]) else {
            at += 1;
            walk.is_whole = false;
            continue;
        };
        let end = at + record.len();
        if let Some(body) = walk.body(&record, at, layers, previous) {
            let start = at + EventHeader::SIZE;
            file[start..start + body.len()].copy_from_slice(&body);
        }
        let bytes = &mut file[at..end];
        if layers.contains(Layers::CHECKSUMS) {
            record_checksum(bytes);
        }
        if let Ok(record) = Record::parse(bytes) {
            walk.see(&record, at);
        }
        at = end;
    }
    if layers.contains(Layers::HEADER)
        && let (Some(bytes), Some((records, size))) = (file.first_chunk_mut(), walk.sealed)
    {
        let header = JournalHeader::decode(bytes);
        if header.flags & FLAG_SEALED != 0 {
            *bytes = JournalHeader { total_events: records, journal_size: size, ..header }.encode();
        }
    }
    if layers.contains(Layers::CHECKSUMS) {
        header_checksum(file);
    }
}

/// What the records so far come to.
struct Walk {
    opening: Option<SegmentOpen>,
    sequence: u64,
    digest: Digest,
    /// Whether the group so far has only records.
    is_whole: bool,
    group: Figures,
    all: Figures,
    group_tree: MerkleTree,
    commits: MerkleTree,
    /// Records up to the seal, which is one, and the offset behind it.
    sealed: Option<(u64, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Figures {
    records: u64,
    events: u64,
    bytes: u64,
    first: u64,
    last: u64,
}

impl Default for Walk {
    fn default() -> Self {
        Self {
            opening: None,
            sequence: 0,
            digest: Digest::ZERO,
            is_whole: true,
            group: Figures::default(),
            all: Figures::default(),
            group_tree: MerkleTree::new(),
            commits: MerkleTree::new(),
            sealed: None,
        }
    }
}

fn body_of<B: Body>(record: &Record<'_>) -> Option<B> {
    control::parse(record).ok()?
}

impl Walk {
    /// The body that a control record at `at` should have, if another than it has.
    fn body(
        &self,
        record: &Record<'_>,
        at: usize,
        layers: Layers,
        previous: Option<&End>,
    ) -> Option<Vec<u8>> {
        let figures = layers.contains(Layers::FIGURES) && self.is_whole;
        let digests = layers.contains(Layers::DIGESTS);
        match record.event_type() {
            EventType::JOURNAL_SEGMENT_OPEN if at == JournalHeader::SIZE => {
                let found: SegmentOpen = body_of(record)?;
                let end = previous.filter(|_| layers.contains(Layers::LINKS))?;
                let opening = SegmentOpen {
                    journal_uuid: end.opening.journal_uuid,
                    previous_segment: end.opening.segment_number,
                    previous_end: end.previous_end.code(),
                    previous_end_offset: end.offset,
                    previous_digest: end.digest,
                    next_commit_sequence: end.commit_sequence.wrapping_add(1),
                    ..found
                };
                Some(opening.encode().to_vec())
            }
            EventType::JOURNAL_COMMIT => {
                let mut commit: Commit = body_of(record)?;
                if figures {
                    commit = Commit {
                        commit_sequence: self.sequence.wrapping_add(1),
                        epoch: self.opening.map_or(commit.epoch, |opening| opening.epoch),
                        first_event_id: self.group.first,
                        last_event_id: self.group.last,
                        record_count: self.group.records as u32,
                        event_count: self.group.events as u32,
                        byte_count: self.group.bytes,
                        root: self.group_tree.root(),
                        previous_digest: self.digest,
                        ..commit
                    };
                }
                digests.then(|| commit.with_digest().encode().to_vec())
            }
            EventType::JOURNAL_SEGMENT_SEAL => {
                let mut seal: SegmentSeal = body_of(record)?;
                if figures {
                    seal = SegmentSeal {
                        segment_number: self.opening.map_or(seal.segment_number, |o| o.segment_number),
                        epoch: self.opening.map_or(seal.epoch, |opening| opening.epoch),
                        commit_sequence: self.sequence,
                        commit_count: self.commits.count(),
                        record_count: self.all.records,
                        event_count: self.all.events,
                        first_event_id: self.all.first,
                        last_event_id: self.all.last,
                        byte_count: (at - JournalHeader::SIZE) as u64,
                        root: self.commits.root(),
                        previous_digest: self.digest,
                        ..seal
                    };
                }
                digests.then(|| seal.with_digest().encode().to_vec())
            }
            _ => None,
        }
    }

    fn see(&mut self, record: &Record<'_>, at: usize) {
        self.all.see(record);
        match record.event_type() {
            EventType::JOURNAL_COMMIT if record.is_control() => {
                if let Some(commit) = body_of::<Commit>(record) {
                    self.sequence = commit.commit_sequence;
                    self.digest = commit.digest;
                }
                self.commits.push(digest::leaf(record.bytes()));
                self.group = Figures::default();
                self.group_tree = MerkleTree::new();
                self.is_whole = true;
                return;
            }
            EventType::JOURNAL_SEGMENT_SEAL if record.is_control() => {
                self.sealed.get_or_insert((self.all.records, (at + record.len()) as u64));
            }
            EventType::JOURNAL_SEGMENT_OPEN if at == JournalHeader::SIZE => {
                if let Some(opening) = body_of::<SegmentOpen>(record) {
                    self.sequence = opening.next_commit_sequence.wrapping_sub(1);
                    self.digest = opening.previous_digest;
                    self.opening = Some(opening);
                }
            }
            _ => {}
        }
        self.group.see(record);
        self.group_tree.push(digest::leaf(record.bytes()));
    }
}

impl Figures {
    fn see(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.bytes += record.len() as u64;
        if !record.is_control() {
            let id = record.event_id();
            self.events += 1;
            self.first = if self.events == 1 { id } else { self.first.min(id) };
            self.last = self.last.max(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEALED: &[u8] = include_bytes!("../../tests/vectors/good/sealed-contexts.semj");

    fn is_sealed(file: &[u8]) -> bool {
        end_of(file).is_some_and(|end| end.previous_end == PreviousEnd::Sealed)
    }

    #[test]
    fn a_good_segment_stays_as_it_is() {
        let mut file = SEALED.to_vec();
        segment(&mut file, Layers::from_flags(ALL), None);
        assert!(is_sealed(&file) && file == SEALED);
    }

    #[test]
    fn a_segment_with_any_event_changed_is_made_right_up_to_its_seal() {
        let mut at = JournalHeader::SIZE;
        while let Ok(record) = Record::parse(&SEALED[at..]) {
            let len = record.len();
            if !record.is_control() {
                let mut file = SEALED.to_vec();
                file[at + len - 1] ^= 0x55;
                assert!(!is_sealed(&file));
                segment(&mut file, Layers::from_flags(ALL), None);
                assert!(is_sealed(&file), "offset {at}");
            }
            at += len;
        }
    }
}
