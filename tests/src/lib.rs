//! A second writer of the native format, for tests: makes segments in memory, group by group, with whatever
//! must be wrong about them. It shares the format's structures with the engine, and nothing else.

pub mod crash;
pub mod disk;
pub mod memory;
pub mod quirk;
pub mod random;
pub mod simulation;

use semj_format::control::{self, Body};
use semj_format::digest::MerkleTree;
use semj_format::journal_header::FLAG_SEALED;
use semj_format::{
    Commit, Context, Digest, Draft, DraftContext, EventHeader, EventType, JournalHeader, Record, SegmentOpen,
    SegmentSeal,
};

/// A segment that is being made.
#[derive(Clone, Debug)]
pub struct SegmentBuilder {
    /// The file's bytes so far.
    pub bytes: Vec<u8>,
    /// Where each group ends, its Commit included; the first holds the SegmentOpen.
    pub group_ends: Vec<usize>,
    /// The epoch that commits carry.
    pub epoch: u64,
    /// The last commit's sequence number.
    pub commit_sequence: u64,
    /// What the next commit will say is durable.
    pub synced_upto: u64,
    /// The chain's digest so far.
    pub digest: Digest,
    /// The next event's id.
    pub next_event_id: u64,
    opening: SegmentOpen,
    records: u64,
    events: u64,
    first_event_id: u64,
    commit_leaves: MerkleTree,
}

impl SegmentBuilder {
    /// The first segment of a journal, with its first group.
    pub fn new() -> Self {
        Self::open(SegmentOpen {
            journal_uuid: [7; 16],
            segment_number: 1,
            epoch: 1,
            previous_segment: 0,
            previous_end: 0,
            reserved: 0,
            previous_end_offset: 0,
            previous_digest: Digest::ZERO,
            next_event_id: 1,
            next_commit_sequence: 1,
            wall_clock_ns: 1_700_000_000_000_000_000,
            monotonic_ns: 1_000_000_000,
            boot_id: [9; 16],
            writer: [0; 32],
        })
    }

    /// A segment that begins with this SegmentOpen.
    pub fn open(opening: SegmentOpen) -> Self {
        let mut builder = Self {
            bytes: vec![0; JournalHeader::SIZE],
            group_ends: Vec::new(),
            epoch: opening.epoch,
            commit_sequence: opening.next_commit_sequence - 1,
            synced_upto: opening.next_commit_sequence - 1,
            digest: opening.previous_digest,
            next_event_id: opening.next_event_id,
            opening,
            records: 0,
            events: 0,
            first_event_id: 0,
            commit_leaves: MerkleTree::new(),
        };
        builder.group(&[control_record::<SegmentOpen>(&opening.encode())]);
        builder.synced_upto = opening.next_commit_sequence;
        builder.set_header(0);
        builder
    }

    /// An event with the next id and this payload, encoded.
    pub fn event(&mut self, payload: &[u8]) -> Vec<u8> {
        let id = self.next_event_id;
        self.next_event_id += 1;
        event(id, payload)
    }

    /// Appends records as one group with its Commit.
    pub fn group(&mut self, records: &[Vec<u8>]) {
        self.group_with(records, |commit| commit);
    }

    /// Appends a group whose Commit is changed first; its digest is computed after that.
    pub fn group_with(&mut self, records: &[Vec<u8>], change: impl FnOnce(Commit) -> Commit) {
        let mut tree = MerkleTree::new();
        let mut ids = Vec::new();
        for bytes in records {
            let Ok(record) = Record::parse(bytes) else {
                continue;
            };
            tree.push(record.leaf());
            if !record.is_control() {
                ids.push(record.event_id());
            }
            self.bytes.extend_from_slice(bytes);
        }
        self.commit_sequence += 1;
        let commit = change(Commit {
            commit_sequence: self.commit_sequence,
            epoch: self.epoch,
            first_event_id: ids.iter().copied().min().unwrap_or(0),
            last_event_id: ids.iter().copied().max().unwrap_or(0),
            record_count: records.len() as u32,
            event_count: ids.len() as u32,
            byte_count: records.iter().map(|record| record.len() as u64).sum(),
            synced_upto: self.synced_upto,
            flags: 0,
            reserved: 0,
            root: tree.root(),
            previous_digest: self.digest,
            digest: Digest::ZERO,
        })
        .with_digest();
        self.digest = commit.digest;
        let bytes = control_record::<Commit>(&commit.encode());
        self.commit_leaves.push(semj_format::digest::leaf(&bytes));
        self.bytes.extend_from_slice(&bytes);
        self.records += records.len() as u64 + 1;
        self.events += ids.len() as u64;
        if self.first_event_id == 0 {
            self.first_event_id = ids.first().copied().unwrap_or(0);
        }
        self.group_ends.push(self.bytes.len());
    }

    /// Appends the seal and makes the header final.
    pub fn seal(&mut self) {
        let seal = SegmentSeal {
            segment_number: self.opening.segment_number,
            epoch: self.epoch,
            commit_sequence: self.commit_sequence,
            commit_count: self.commit_leaves.count(),
            record_count: self.records,
            event_count: self.events,
            first_event_id: self.first_event_id,
            last_event_id: if self.events == 0 { 0 } else { self.next_event_id - 1 },
            byte_count: (self.bytes.len() - JournalHeader::SIZE) as u64,
            synced_upto: self.synced_upto,
            root: self.commit_leaves.root(),
            previous_digest: self.digest,
            digest: Digest::ZERO,
        }
        .with_digest();
        self.digest = seal.digest;
        self.bytes.extend_from_slice(&control_record::<SegmentSeal>(&seal.encode()));
        self.records += 1;
        self.set_header(FLAG_SEALED);
    }

    /// Writes the header with the figures as they are now.
    pub fn set_header(&mut self, flags: u32) {
        let header = JournalHeader::new(self.records, self.next_event_id, self.bytes.len() as u64, flags);
        self.bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    }

    /// The SegmentOpen of a segment that continues this one, which is sealed.
    pub fn next_opening(&self) -> SegmentOpen {
        SegmentOpen {
            segment_number: self.opening.segment_number + 1,
            epoch: self.epoch,
            previous_segment: self.opening.segment_number,
            previous_end: control::PreviousEnd::Sealed.code(),
            previous_end_offset: self.bytes.len() as u64,
            previous_digest: self.digest,
            next_event_id: self.next_event_id,
            next_commit_sequence: self.commit_sequence + 1,
            ..self.opening
        }
    }
}

impl Default for SegmentBuilder {
    fn default() -> Self {
        Self::new()
    }
}

/// A control record with this body, encoded.
pub fn control_record<B: Body>(body: &[u8]) -> Vec<u8> {
    encode(&control::draft(B::EVENT_TYPE, body, 0, 0))
}

/// An event, encoded.
pub fn event(id: u64, payload: &[u8]) -> Vec<u8> {
    let header = EventHeader {
        event_id: id,
        ktime_ns: id as i64 * 1000,
        root_cause_event_id: id,
        ..EventHeader::new(EventType::FILESYSTEM_WRITE.0)
    };
    let path = format!("/project/file-{id}");
    let context = Context { path: path.as_bytes(), inode_number: id, ..Context::default() };
    encode(&Draft { context: DraftContext::Fields(context), payload, ..Draft::new(header) })
}

fn encode(draft: &Draft<'_>) -> Vec<u8> {
    // Nothing here is larger than the format allows; if it were, the test that uses it would notice.
    draft.to_vec().unwrap_or_default()
}
