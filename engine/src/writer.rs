//! Writes one segment: begins it, appends groups, seals it. Keeps the chain.
//!
//! What is written here is in memory. [`Naming`] and [`Sealing`] are what has to reach the disk at a segment's
//! beginning and end, for [`crate::flush`] to see to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use semj_format::control::{self, Body, PreviousEnd};
use semj_format::digest::MerkleTree;
use semj_format::journal_header::FLAG_SEALED;
use semj_format::{Commit, Digest, EventType, JournalHeader, SegmentOpen, SegmentSeal};

use crate::batch::Batch;
use crate::directory;
use crate::error::Error;
use crate::front::Front;
use crate::helping::{GroupRoot, hash_alone};
use crate::medium::{ClockAnchor, File, Medium};
use crate::options::Rotation;
use crate::residency::WriteCost;
use crate::segment::Figures;
use crate::segment::Segment;
use crate::watermark::Mark;

/// The smallest segment: the largest record and the journal's own records fit well.
pub(crate) const SEGMENT_SIZE_MIN: u64 = 256 << 10;
/// The largest segment.
pub(crate) const SEGMENT_SIZE_MAX: u64 = 4 << 30;
const COMMIT_SIZE: usize = control::record_size::<Commit>();
const SEAL_SIZE: usize = control::record_size::<SegmentSeal>();
/// Commits that are hashed at a time: as many as `semj-sha256` has lanes.
const COMMITS_GATHERED: usize = 32;
/// Room that a new segment keeps for its first group: SegmentOpen, Recovered with some hundred ranges, Gap.
const FIRST_GROUP_SIZE_MAX: usize = 72 << 10;
/// Bytes that are written ahead with zeros at once.
const ZEROS_AHEAD: usize = 256 << 10;
const PAGE_SIZE: usize = 4096;
/// As [`SegmentOpen::writer`] has it.
const WRITER: &str = concat!("semj ", env!("CARGO_PKG_VERSION"));

/// Bytes of one group's records that a segment of this size can take.
pub(crate) const fn group_size_max(segment_size: u64) -> usize {
    segment_size as usize - JournalHeader::SIZE - FIRST_GROUP_SIZE_MAX - COMMIT_SIZE - SEAL_SIZE
}

/// The commit chain of the journal, as far as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) journal_uuid: [u8; 16],
    pub(crate) epoch: u64,
    /// The process that writes. Asking the kernel for each commit is a system call.
    pub(crate) process_id: u32,
    /// The last commit's sequence number.
    pub(crate) commit_sequence: u64,
    /// The last commit's or seal's digest.
    pub(crate) digest: Digest,
    /// The highest commit that is known to be durable.
    pub(crate) synced_upto: u64,
    /// CLOCK_REALTIME less CLOCK_MONOTONIC, as the last segment of this process has it.
    pub(crate) clock_offset_ns: Option<i64>,
}

/// Two clocks are not read at once: so much is not a difference.
const CLOCK_READING_ERROR_NS: u64 = 1_000;

impl Chain {
    /// The clocks for a new segment. As long as they have not moved against each other they are those of the one before, so that the
    /// same time has the same date in both.
    fn clocks(&mut self, now: ClockAnchor) -> ClockAnchor {
        let offset = now.wall_clock_ns.wrapping_sub(now.monotonic_ns);
        let before = self.clock_offset_ns.filter(|before| before.abs_diff(offset) <= CLOCK_READING_ERROR_NS);
        let offset = *self.clock_offset_ns.insert(before.unwrap_or(offset));
        ClockAnchor { wall_clock_ns: now.monotonic_ns.wrapping_add(offset), ..now }
    }

    /// Closes a group, whose records have this root: appends its Commit to it and moves the chain on. Gives where that
    /// begins.
    fn commit(&mut self, batch: &mut Batch, of: GroupRoot, monotonic_ns: i64) -> usize {
        self.commit_sequence += 1;
        let GroupRoot { root, record_count } = of;
        let commit = Commit {
            commit_sequence: self.commit_sequence,
            epoch: self.epoch,
            first_event_id: batch.first_event_id(),
            last_event_id: batch.last_event_id(),
            // A segment has less than 4 GiB and a record at least 132 bytes.
            record_count: record_count as u32,
            event_count: batch.events(),
            byte_count: batch.len() as u64,
            synced_upto: self.synced_upto,
            flags: if batch.is_by_priority() { Commit::FLAG_BY_PRIORITY } else { 0 },
            reserved: 0,
            root,
            previous_digest: self.digest,
            digest: Digest::ZERO,
        }
        .with_digest();
        self.digest = commit.digest;
        let start = batch.len();
        self.push(batch, Commit::EVENT_TYPE, &commit.encode(), monotonic_ns);
        start
    }

    /// Appends a control record with this body to a batch.
    fn push(&self, batch: &mut Batch, event_type: EventType, body: &[u8], monotonic_ns: i64) {
        batch.push_own(&control::draft(event_type, body, monotonic_ns, self.process_id));
    }
}

/// The tree over a segment's commits, which its seal needs. They are hashed some at a time, which takes less than one
/// after the other.
#[derive(Debug)]
struct CommitTree {
    tree: MerkleTree,
    /// Commits that are not in the tree yet.
    gathered: Vec<u8>,
}

impl CommitTree {
    fn new() -> Self {
        Self { tree: MerkleTree::new(), gathered: Vec::with_capacity(COMMITS_GATHERED * COMMIT_SIZE) }
    }

    /// Adds a Commit's record.
    fn push(&mut self, commit: &[u8]) {
        debug_assert_eq!(commit.len(), COMMIT_SIZE);
        self.gathered.extend_from_slice(commit);
        if self.gathered.len() == COMMITS_GATHERED * COMMIT_SIZE {
            self.hash_gathered();
        }
    }

    fn hash_gathered(&mut self) {
        let commits: Vec<_> = self.gathered.chunks_exact(COMMIT_SIZE).collect();
        self.tree.extend(&commits);
        self.gathered.clear();
    }

    fn root(&mut self) -> Digest {
        self.hash_gathered();
        self.tree.root()
    }
}

/// How the segment before a new one ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Previous {
    pub(crate) segment_number: u64,
    pub(crate) end: PreviousEnd,
    pub(crate) end_offset: u64,
}

/// What a new segment begins with.
#[derive(Debug)]
pub(crate) struct NewSegment<'a> {
    pub(crate) medium: &'a dyn Medium,
    pub(crate) dir: &'a Path,
    pub(crate) size: u64,
    pub(crate) number: u64,
    pub(crate) next_event_id: u64,
    pub(crate) previous: Previous,
    /// A file of that size that was made ahead of time.
    pub(crate) spare: Option<Spare>,
}

/// An empty file for a segment that is yet to come.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) file: Box<dyn File>,
    pub(crate) path: PathBuf,
}

/// A segment that was begun and does not have its name yet. It gets it when the one before it is sealed on the disk,
/// so that no crash leaves a segment behind one that has no end.
#[derive(Debug)]
pub(crate) struct Naming {
    file: Arc<dyn File>,
    unfinished: PathBuf,
    path: PathBuf,
}

impl Naming {
    /// Makes what was written of the segment durable, and then its name.
    pub(crate) fn finish(&self, medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
        self.sync()?;
        self.give_name(medium, dir)
    }

    /// Makes what was written of the segment durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync_all().map_err(Error::io("sync", &self.unfinished))
    }

    /// Gives it its name, durably. Where that fails it may have it all the same.
    pub(crate) fn give_name(&self, medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
        medium.rename(&self.unfinished, &self.path).map_err(Error::io("rename", &self.unfinished))?;
        medium.sync_dir(dir).map_err(Error::io("sync", dir))
    }
}

/// A segment with its seal written, whose final header waits for all of it to be durable.
#[derive(Clone, Debug)]
pub(crate) struct Sealing {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    header: JournalHeader,
}

impl Sealing {
    /// Makes the segment durable, then its final header.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", self.segment.path()))?;
        finish_header(&*self.file, self.segment.path(), &self.header)
    }

    /// The segment, as readers see it.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Gives the space behind the segment back. Nothing waits for that.
    pub(crate) fn release(&self) -> Result<(), Error> {
        release_behind(&*self.file, self.segment.path(), &self.header)
    }
}

/// The active segment's writer.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
    size: usize,
    at: usize,
    /// Up to here the file's blocks were written, if only with zeros.
    written: usize,
    commit_count: u64,
    record_count: u64,
    event_count: u64,
    first_event_id: u64,
    last_event_id: u64,
    /// Behind all ids that were given, to events or to what is missing.
    next_event_id: u64,
    commits: CommitTree,
}

impl SegmentWriter {
    /// Begins a segment whose first group is its SegmentOpen and the control records in `notes`, given as types and
    /// bodies. Readers of this process see it; it gets its name later.
    pub(crate) fn begin(
        new: NewSegment<'_>,
        notes: &[(EventType, Vec<u8>)],
        chain: &mut Chain,
    ) -> Result<(Self, Naming), Error> {
        let name = directory::segment_name(new.number, new.next_event_id);
        let path = new.dir.join(&name);
        let anchor = chain.clocks(new.medium.clock_anchor());
        let mut writer = [0; 32];
        writer[..WRITER.len()].copy_from_slice(WRITER.as_bytes());
        let opening = SegmentOpen {
            journal_uuid: chain.journal_uuid,
            segment_number: new.number,
            epoch: chain.epoch,
            previous_segment: new.previous.segment_number,
            previous_end: new.previous.end.code(),
            reserved: 0,
            previous_end_offset: new.previous.end_offset,
            previous_digest: chain.digest,
            next_event_id: new.next_event_id,
            next_commit_sequence: chain.commit_sequence + 1,
            wall_clock_ns: anchor.wall_clock_ns,
            monotonic_ns: anchor.monotonic_ns,
            boot_id: new.medium.boot_id(),
            writer,
        };
        let mut group = Batch::default();
        chain.push(&mut group, SegmentOpen::EVENT_TYPE, &opening.encode(), anchor.monotonic_ns);
        for (event_type, body) in notes {
            chain.push(&mut group, *event_type, body, anchor.monotonic_ns);
        }
        let root = hash_alone(group.bytes(), group.places().len());
        let commit_at = chain.commit(&mut group, root, anchor.monotonic_ns);
        let record_count = root.record_count;
        let at = JournalHeader::SIZE + group.len();
        let header = JournalHeader::new(record_count + 1, new.next_event_id, at as u64, 0);

        let Spare { file, path: unfinished } = match new.spare {
            Some(spare) => spare,
            None => {
                let path = new.dir.join(directory::unfinished(&name));
                let file = new.medium.create(&path, new.size).map_err(Error::io("create", &path))?;
                Spare { file, path }
            }
        };
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(group.bytes());
        file.write_at(0, &bytes).map_err(Error::io("write", &unfinished))?;
        let map = file.map().map_err(Error::io("map", &unfinished))?;
        tracing::debug!(segment = %name, epoch = chain.epoch, "segment begun");

        let mut commits = CommitTree::new();
        commits.push(group.bytes().get(commit_at..).unwrap_or_default());
        let file: Arc<dyn File> = Arc::from(file);
        let naming = Naming { file: Arc::clone(&file), unfinished, path: path.clone() };
        let writer = Self {
            segment: Arc::new(Segment::active(opening, path, map, at)),
            file,
            size: new.size as usize,
            at,
            written: at,
            commit_count: 1,
            record_count: record_count + 1,
            event_count: 0,
            first_event_id: 0,
            last_event_id: 0,
            next_event_id: new.next_event_id,
            commits,
        };
        Ok((writer, naming))
    }

    /// The segment, as readers see it.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// The segment's number.
    pub(crate) fn number(&self) -> u64 {
        self.segment.opening.segment_number
    }

    /// The id that comes next.
    pub(crate) const fn next_event_id(&self) -> u64 {
        self.next_event_id
    }

    /// Offset behind everything that was written.
    pub(crate) const fn end(&self) -> u64 {
        self.at as u64
    }

    /// How far the journal goes with this segment as its last.
    pub(crate) fn mark(&self, chain: &Chain, last_event_id: u64) -> Mark {
        Mark {
            journal_uuid: chain.journal_uuid,
            epoch: chain.epoch,
            segment_number: self.number(),
            end: self.at as u64,
            commit_sequence: chain.commit_sequence,
            last_event_id,
            digest: chain.digest,
        }
    }

    /// Whether the segment has to end before a group of so many events, by its age or their number. One without events
    /// goes on.
    pub(crate) fn is_due(&self, rotation: &Rotation, events: u64, monotonic_ns: i64) -> bool {
        let age = u64::try_from(monotonic_ns.saturating_sub(self.segment.opening.monotonic_ns));
        let age = age.map(Duration::from_nanos).unwrap_or_default();
        self.event_count > 0
            && (rotation.max_events.is_some_and(|max| self.event_count + events > max)
                || rotation.max_age.is_some_and(|max| age >= max))
    }

    /// Events that a group may have, so that the segment does not end before it; where there are none left, before it ends the next.
    pub(crate) fn events_left(&self, rotation: &Rotation) -> u64 {
        let Some(max) = rotation.max_events else { return u64::MAX };
        Some(max.saturating_sub(self.event_count)).filter(|left| *left > 0).unwrap_or(max)
    }

    /// Whether a group of so many bytes, its Commit and a seal still have room.
    pub(crate) fn has_room(&self, group_size: usize) -> bool {
        self.at + group_size + COMMIT_SIZE + SEAL_SIZE <= self.size
    }

    /// Appends a group and publishes it: readers see it from here on. Gives the bytes written, and takes note of what a
    /// write of many took.
    ///
    /// The caller has asked [`Self::has_room`]. After an error the segment must not be written to again.
    pub(crate) fn append(
        &mut self,
        batch: &mut Batch,
        chain: &mut Chain,
        front: &Front,
        medium: &dyn Medium,
        cost: &mut WriteCost,
    ) -> Result<u64, Error> {
        let start = self.at;
        let write = |at: usize, bytes: &[u8]| {
            self.file.write_at((start + at) as u64, bytes).map_err(Error::io("write", self.segment.path()))
        };
        let (root, written) = batch.hash(front.helping(), |records| {
            front.call_helper();
            let began_ns = medium.monotonic_ns();
            let written = write(0, records);
            cost.note(records.len(), began_ns, medium.monotonic_ns());
            written
        })?;
        // The Commit tells when it was made, which is as good as when it can be seen.
        let commit_at = chain.commit(batch, root, medium.monotonic_ns());
        write(written, batch.bytes().get(written..).unwrap_or_default())?;
        self.at += batch.len();
        self.written = self.written.max(self.at);
        self.commits.push(batch.bytes().get(commit_at..).unwrap_or_default());
        self.commit_count += 1;
        self.record_count += root.record_count + 1;
        self.event_count += u64::from(batch.events());
        if self.first_event_id == 0 {
            self.first_event_id = batch.first_event_id();
        }
        if batch.last_event_id() != 0 {
            self.last_event_id = batch.last_event_id();
        }
        self.next_event_id = self.next_event_id.max(batch.previous_id() + 1);
        let events = batch.places().iter().filter(|place| place.event_id != 0);
        self.segment.publish(events.map(|place| (place.event_id, start + place.offset)), self.at);
        Ok(batch.len() as u64)
    }

    /// Writes zeros ahead of the end, where there are none: for syncs of few bytes.
    ///
    /// The blocks of a new file are reserved but not written, and to note that they are written now the file system needs a
    /// change of its own journal. A sync of bytes that overwrite zeros does without it.
    pub(crate) fn write_ahead(&mut self) -> Result<(), Error> {
        if self.written < self.at + ZEROS_AHEAD / 4 {
            let end = (self.at + ZEROS_AHEAD).next_multiple_of(PAGE_SIZE).min(self.size);
            let start = self.written.max(self.at);
            if start < end {
                self.file
                    .write_at(start as u64, &vec![0; end - start])
                    .map_err(Error::io("write", self.segment.path()))?;
                self.written = end;
            }
        }
        Ok(())
    }

    /// The file, for a sync.
    pub(crate) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Writes the seal. Gives what remains to be done on the disk, and what the next segment has to say of this one.
    ///
    /// The segment must not be written to again, whatever comes back.
    pub(crate) fn seal(
        &mut self,
        chain: &mut Chain,
        monotonic_ns: i64,
    ) -> Result<(Sealing, Previous), Error> {
        let seal = SegmentSeal {
            segment_number: self.number(),
            epoch: chain.epoch,
            commit_sequence: chain.commit_sequence,
            commit_count: self.commit_count,
            record_count: self.record_count,
            event_count: self.event_count,
            first_event_id: self.first_event_id,
            last_event_id: self.last_event_id,
            byte_count: (self.at - JournalHeader::SIZE) as u64,
            synced_upto: chain.synced_upto,
            root: self.commits.root(),
            previous_digest: chain.digest,
            digest: Digest::ZERO,
        }
        .with_digest();
        let mut group = Batch::default();
        chain.push(&mut group, SegmentSeal::EVENT_TYPE, &seal.encode(), monotonic_ns);
        self.file.write_at(self.at as u64, group.bytes()).map_err(Error::io("write", self.segment.path()))?;
        self.at += group.len();
        chain.digest = seal.digest;

        let header =
            JournalHeader::new(self.record_count + 1, self.next_event_id, self.at as u64, FLAG_SEALED);
        self.segment.publish(std::iter::empty(), self.at);
        self.segment.ended(Figures {
            records: self.record_count + 1,
            events: self.event_count,
            first_event_id: self.first_event_id,
            last_event_id: self.last_event_id,
        });
        tracing::debug!(segment = self.number(), events = self.event_count, digest = %seal.digest, "segment sealed");
        let sealing = Sealing { segment: Arc::clone(&self.segment), file: Arc::clone(&self.file), header };
        let end_offset = self.at as u64;
        Ok((sealing, Previous { segment_number: self.number(), end: PreviousEnd::Sealed, end_offset }))
    }
}

/// Writes a header whose figures are final, durably.
pub(crate) fn finish_header(file: &dyn File, path: &Path, header: &JournalHeader) -> Result<(), Error> {
    file.write_at(0, &header.encode()).map_err(Error::io("write", path))?;
    file.sync_data().map_err(Error::io("sync", path))
}

/// Gives the space behind a segment with such a header back.
pub(crate) fn release_behind(file: &dyn File, path: &Path, header: &JournalHeader) -> Result<(), Error> {
    file.release_from(header.journal_size).map_err(Error::io("release space of", path))
}
