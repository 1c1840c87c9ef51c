//! The bytes of a sidecar (SPEC.md, "Sidecars"), and what looks things up in them.
//!
//! ```text
//! sidecar = header || filter of the segment || blocks || runs || places || filters of the blocks
//! ```

use semj_format::checksum::{kernel_crc32, kernel_crc32_behind};
use semj_format::context::Lead;
use semj_format::{Record, SegmentOpen, on_disk};
use thiserror::Error;

use crate::filter::{UNIT_SIZE, Unit};
use crate::key::Key;
use crate::types::TypeSet;
use crate::{filter, key};

/// "SEMX", as the journal header's magic is "SEMJ".
pub const MAGIC: u32 = 0x5345_4D58;
/// The layout that this crate reads and writes.
pub const VERSION: u32 = 1;
/// Flag of the header: ids grow from event to event.
pub const FLAG_ASCENDING: u8 = 0x1;
/// Every event so many events behind another one with a place has one too, the first one to begin with.
pub const EVENTS_PER_PLACE: usize = 8;

on_disk! {
    /// What a sidecar begins with: which segment it is of, the summary, how much follows.
    pub struct Header [172] {
        /// [`MAGIC`].
        0 magic: u32,
        /// [`VERSION`].
        4 version: u32,
        /// The journal's UUID.
        8 journal_uuid: [u8; 16],
        /// The segment's number.
        24 segment_number: u64,
        /// The segment's epoch.
        32 epoch: u64,
        /// Offset in the segment up to which the index goes: behind its last commit or its seal.
        40 end: u64,
        /// The 32 bytes before it.
        48 end_bytes: [u8; 32],
        /// Events before it.
        80 event_count: u64,
        /// The lowest id of them.
        88 lowest_event_id: u64,
        /// The highest id of them.
        96 highest_event_id: u64,
        /// The lowest time of them.
        104 lowest_ktime_ns: i64,
        /// The highest time of them.
        112 highest_ktime_ns: i64,
        /// All bits of agents that may see one of them.
        120 agent_visibility: u64,
        /// The types of all records, the journal's own included: see [`TypeSet`].
        128 types: [u8; 10],
        /// The smallest priority of an event, which is the most urgent one; 255 stands for all above 254.
        138 lowest_priority: u8,
        /// [`FLAG_ASCENDING`].
        139 flags: u8,
        /// Blocks.
        140 block_count: u32,
        /// Places.
        144 place_count: u32,
        /// Units of the segment's filter.
        148 filter_units: u32,
        /// Units of all blocks' filters.
        152 block_filter_units: u32,
        /// Runs.
        156 run_count: u32,
        /// The kernel's CRC-32 of the segment's filter.
        160 filter_checksum: u32,
        /// The kernel's CRC-32 of everything behind it.
        164 body_checksum: u32,
        /// The kernel's CRC-32 of the 168 bytes before.
        168 checksum: u32,
    }
}

on_disk! {
    /// What one block holds.
    pub struct Block [64] {
        /// Offset of its first record in the segment.
        0 offset: u32,
        /// Bytes of its records.
        4 size: u32,
        /// The lowest id of its events.
        8 lowest_event_id: u64,
        /// The highest id of its events.
        16 highest_event_id: u64,
        /// The lowest time of its events.
        24 lowest_ktime_ns: i64,
        /// The highest time of its events.
        32 highest_ktime_ns: i64,
        /// All bits of agents that may see one of its events.
        40 agent_visibility: u64,
        /// The types of its records.
        48 types: [u8; 10],
        /// The smallest priority of its events.
        58 lowest_priority: u8,
        /// Zero.
        59 reserved: u8,
        /// The unit in the blocks' filters behind its own; they begin where those of the block before end.
        60 filter_end: u32,
    }
}

on_disk! {
    /// Events whose ids follow one another without a hole.
    pub struct Run [12] {
        /// The first one's id.
        0 event_id: u64,
        /// How many events stand before it in the segment.
        8 ordinal: u32,
    }
}

/// Bytes of a place: the offset of an event as a u32.
pub const PLACE_SIZE: usize = 4;

/// Why a sidecar is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SidecarError {
    /// The file has another length than it says.
    #[error("{found} bytes, expected {expected}")]
    Size {
        /// Bytes there are.
        found: usize,
        /// Bytes that it should have, or at least.
        expected: u64,
    },
    /// Not a sidecar.
    #[error("magic {found:#010x}, expected {MAGIC:#010x}")]
    Magic {
        /// What stands there.
        found: u32,
    },
    /// A layout that this reader does not know.
    #[error("sidecar version {found}, this reader knows {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A checksum is not that of the bytes.
    #[error("checksum of the {part} {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// Of what: the header, the filter, the body.
        part: &'static str,
        /// The checksum that is stored.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// It is of another segment, or of another state of this one.
    #[error("the sidecar is of segment {segment_number}, epoch {epoch}, up to {end}, and not of this")]
    Origin {
        /// The segment's number in it.
        segment_number: u64,
        /// The epoch in it.
        epoch: u64,
        /// The end in it.
        end: u64,
    },
    /// An entry that no encoder writes.
    #[error("block {block}: {what}")]
    Block {
        /// Which one.
        block: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Which segment a sidecar is of, and up to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The journal's UUID.
    pub journal_uuid: [u8; 16],
    /// The segment's number.
    pub segment_number: u64,
    /// The segment's epoch.
    pub epoch: u64,
    /// Offset behind its last commit or its seal.
    pub end: u64,
    /// The 32 bytes before: the end of a commit or seal, which is its digest.
    pub end_bytes: [u8; 32],
}

impl Origin {
    /// Of the segment that was opened so, up to `end`, before which `bytes` stand; `None` where they are too few.
    pub fn new(opening: &SegmentOpen, end: u64, bytes: &[u8]) -> Option<Self> {
        Some(Self {
            journal_uuid: opening.journal_uuid,
            segment_number: opening.segment_number,
            epoch: opening.epoch,
            end,
            end_bytes: *bytes.last_chunk()?,
        })
    }
}

/// What a segment, or a block of it, holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The lowest and the highest id; the lowest is the higher one where there are no events.
    pub event_ids: (u64, u64),
    /// The lowest and the highest time, in the same way.
    pub ktimes_ns: (i64, i64),
    /// All bits of agents that may see an event.
    pub agent_visibility: u64,
    /// The types of all records.
    pub types: TypeSet,
    /// The smallest priority.
    pub lowest_priority: u8,
}

/// A priority as summaries have it.
#[inline]
pub(crate) fn narrow_priority(priority: u32) -> u8 {
    u8::try_from(priority).unwrap_or(u8::MAX)
}

impl Summary {
    /// Of nothing.
    pub const EMPTY: Self = Self {
        event_ids: (u64::MAX, 0),
        ktimes_ns: (i64::MAX, i64::MIN),
        agent_visibility: 0,
        types: TypeSet::EMPTY,
        lowest_priority: u8::MAX,
    };

    /// Takes note of a record.
    #[inline]
    pub(crate) fn see(&mut self, record: &Record<'_>) {
        self.types.insert(record.event_type());
        if record.is_control() {
            return;
        }
        let (id, ktime) = (record.event_id(), record.ktime_ns());
        self.event_ids = (self.event_ids.0.min(id), self.event_ids.1.max(id));
        self.ktimes_ns = (self.ktimes_ns.0.min(ktime), self.ktimes_ns.1.max(ktime));
        self.agent_visibility |= record.agent_visibility_mask();
        self.lowest_priority = self.lowest_priority.min(narrow_priority(record.event_priority()));
    }

    /// Takes note of what another one has seen.
    pub(crate) fn join(&mut self, other: &Self) {
        self.event_ids = (self.event_ids.0.min(other.event_ids.0), self.event_ids.1.max(other.event_ids.1));
        self.ktimes_ns = (self.ktimes_ns.0.min(other.ktimes_ns.0), self.ktimes_ns.1.max(other.ktimes_ns.1));
        self.agent_visibility |= other.agent_visibility;
        self.types = self.types.union(other.types);
        self.lowest_priority = self.lowest_priority.min(other.lowest_priority);
    }
}

impl Header {
    /// What the segment holds.
    pub fn summary(&self) -> Summary {
        Summary {
            event_ids: (self.lowest_event_id, self.highest_event_id),
            ktimes_ns: (self.lowest_ktime_ns, self.highest_ktime_ns),
            agent_visibility: self.agent_visibility,
            types: TypeSet::decode(self.types),
            lowest_priority: self.lowest_priority,
        }
    }

    /// Which segment it is of.
    pub fn origin(&self) -> Origin {
        Origin {
            journal_uuid: self.journal_uuid,
            segment_number: self.segment_number,
            epoch: self.epoch,
            end: self.end,
            end_bytes: self.end_bytes,
        }
    }

    /// Bytes of the header and the segment's filter.
    pub const fn head_size(&self) -> usize {
        Self::SIZE + self.filter_units as usize * UNIT_SIZE
    }

    /// Bytes of the whole sidecar.
    pub fn sidecar_size(&self) -> u64 {
        self.head_size() as u64
            + u64::from(self.block_count) * Block::SIZE as u64
            + u64::from(self.run_count) * Run::SIZE as u64
            + u64::from(self.place_count) * PLACE_SIZE as u64
            + u64::from(self.block_filter_units) * UNIT_SIZE as u64
    }

    fn computed_checksum(&self) -> u32 {
        let bytes = self.encode();
        kernel_crc32(&bytes[..Self::SIZE - 4])
    }

    /// Reads the header that `bytes` begin with and the segment's filter behind it. They are enough to say whether
    /// anything in the segment can be of interest.
    ///
    /// # Errors
    ///
    /// Too few bytes, another magic, a wrong checksum, an unknown version, another origin, a filter with a wrong checksum;
    /// in this order.
    pub fn parse<'a>(bytes: &'a [u8], origin: &Origin) -> Result<(Self, &'a [Unit]), SidecarError> {
        let size = |expected| SidecarError::Size { found: bytes.len(), expected };
        let header = Self::decode(bytes.first_chunk().ok_or(size(Self::SIZE as u64))?);
        if header.magic != MAGIC {
            return Err(SidecarError::Magic { found: header.magic });
        }
        let computed = header.computed_checksum();
        if header.checksum != computed {
            return Err(SidecarError::Checksum { part: "header", found: header.checksum, computed });
        }
        if header.version != VERSION {
            return Err(SidecarError::Version { found: header.version });
        }
        if header.origin() != *origin {
            let Self { segment_number, epoch, end, .. } = header;
            return Err(SidecarError::Origin { segment_number, epoch, end });
        }
        let head_size = header.head_size();
        let filter = bytes.get(Self::SIZE..head_size).ok_or(size(head_size as u64))?;
        let computed = kernel_crc32(filter);
        if header.filter_checksum != computed {
            return Err(SidecarError::Checksum { part: "filter", found: header.filter_checksum, computed });
        }
        Ok((header, filter.as_chunks().0))
    }
}

impl Block {
    /// What it holds.
    #[inline]
    pub fn summary(&self) -> Summary {
        Summary {
            event_ids: (self.lowest_event_id, self.highest_event_id),
            ktimes_ns: (self.lowest_ktime_ns, self.highest_ktime_ns),
            agent_visibility: self.agent_visibility,
            types: TypeSet::decode(self.types),
            lowest_priority: self.lowest_priority,
        }
    }

    /// Offset behind its last record.
    #[inline]
    pub const fn end(&self) -> usize {
        self.offset as usize + self.size as usize
    }
}

/// The blocks of a segment, wherever they are kept.
#[derive(Clone, Copy, Debug)]
pub struct BlocksView<'a> {
    pub(crate) entries: &'a [[u8; Block::SIZE]],
    pub(crate) filters: &'a [Unit],
}

impl<'a> BlocksView<'a> {
    /// How many there are.
    #[inline]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A block by its place among them.
    #[inline]
    pub fn get(&self, place: usize) -> Option<Block> {
        self.entries.get(place).map(Block::decode)
    }

    /// The filter of a block. One that is out of bounds has no units, and denies nothing.
    #[inline]
    pub fn filter(&self, place: usize) -> &'a [Unit] {
        let end_of =
            |place: usize| self.entries.get(place).map(|entry| Block::decode(entry).filter_end as usize);
        let start = match place.checked_sub(1) {
            Some(before) => end_of(before),
            None => Some(0),
        };
        start.zip(end_of(place)).and_then(|(start, end)| self.filters.get(start..end)).unwrap_or_default()
    }

    /// Whether a block may have a record with this key.
    #[inline]
    pub fn may_contain(&self, place: usize, key: Key) -> bool {
        filter::may_contain(self.filter(place), key)
    }

    /// The offset of the first block that has an event with this id or a higher one.
    pub fn seek(&self, event_id: u64) -> Option<usize> {
        let mut blocks = self.entries.iter().map(Block::decode);
        blocks.find(|block| block.highest_event_id >= event_id).map(|block| block.offset as usize)
    }

    /// Where the first block is that ends behind this offset.
    pub fn at(&self, offset: usize) -> usize {
        self.entries.partition_point(|entry| Block::decode(entry).end() <= offset)
    }
}

/// Where the events of a segment stand, wherever that is kept.
#[derive(Clone, Copy, Debug)]
pub struct PlacesView<'a> {
    pub(crate) runs: &'a [[u8; Run::SIZE]],
    pub(crate) places: &'a [[u8; PLACE_SIZE]],
    pub(crate) event_ids: (u64, u64),
    pub(crate) event_count: u64,
    pub(crate) is_ascending: bool,
}

/// Where an id is to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// All ids are smaller.
    Behind,
    /// The first event whose id is at least the one that is sought is at this offset or up to
    /// [`EVENTS_PER_PLACE`] - 1 events behind it.
    From {
        /// An offset in the segment.
        offset: usize,
        /// The id of the event there.
        event_id: u64,
    },
    /// There are no places: look at the blocks.
    Anywhere,
}

impl PlacesView<'_> {
    /// The run that an event lies in by its ordinal.
    fn run_of(&self, ordinal: u64) -> Option<Run> {
        let behind = self.runs.partition_point(|run| u64::from(Run::decode(run).ordinal) <= ordinal);
        self.runs.get(behind.checked_sub(1)?).map(Run::decode)
    }

    /// Where to look for the first event whose id is at least `event_id`.
    #[inline]
    pub fn seek(&self, event_id: u64) -> Sought {
        let (lowest, highest) = self.event_ids;
        if event_id > highest || lowest > highest {
            return Sought::Behind;
        }
        if !self.is_ascending {
            return Sought::Anywhere;
        }
        self.place_of(event_id.max(lowest)).unwrap_or(Sought::Anywhere)
    }

    #[inline]
    fn place_of(&self, event_id: u64) -> Option<Sought> {
        let behind = self.runs.partition_point(|run| Run::decode(run).event_id <= event_id);
        let run = self.runs.get(behind.checked_sub(1)?).map(Run::decode)?;
        let next = self.runs.get(behind).map(Run::decode);
        let ordinals_end = next.map_or(self.event_count, |next| next.ordinal.into());
        // In the hole behind the run it is the next run's first event that is sought.
        let ordinal = u64::from(run.ordinal).saturating_add(event_id - run.event_id).min(ordinals_end);
        let place = usize::try_from(ordinal).ok()? / EVENTS_PER_PLACE;
        let offset = u32::from_le_bytes(*self.places.get(place)?) as usize;
        let first = (place * EVENTS_PER_PLACE) as u64;
        let run =
            if first >= u64::from(run.ordinal) && first < ordinals_end { run } else { self.run_of(first)? };
        let event_id = run.event_id.checked_add(first.checked_sub(run.ordinal.into())?)?;
        Some(Sought::From { offset, event_id })
    }

    /// The offsets of events behind this one, some KiB apart.
    pub fn offsets_behind(&self, offset: usize) -> impl Iterator<Item = usize> {
        let offset_of = |place: &[u8; PLACE_SIZE]| u32::from_le_bytes(*place) as usize;
        let first = self.places.partition_point(|place| offset_of(place) <= offset);
        let behind = self.places.get(first..).unwrap_or_default();
        behind.iter().step_by(16).map(offset_of)
    }

    /// Whether the ids grow from event to event.
    pub const fn is_ascending(&self) -> bool {
        self.is_ascending
    }
}

/// A whole sidecar that was checked, borrowed from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Sidecar<'a> {
    /// The header.
    pub header: Header,
    /// The segment's filter.
    pub filter: &'a [Unit],
    /// The blocks.
    pub blocks: BlocksView<'a>,
    /// The places.
    pub places: PlacesView<'a>,
}

impl<'a> Sidecar<'a> {
    /// Reads a sidecar, if it is of the segment that is meant.
    ///
    /// # Errors
    ///
    /// As [`Header::parse`]; then another size than the header says, a body with a wrong checksum, an entry that no
    /// encoder writes.
    pub fn parse(bytes: &'a [u8], origin: &Origin) -> Result<Self, SidecarError> {
        let (header, filter) = Header::parse(bytes, origin)?;
        let expected = header.sidecar_size();
        if bytes.len() as u64 != expected {
            return Err(SidecarError::Size { found: bytes.len(), expected });
        }
        let body = bytes.get(Header::SIZE + filter.len() * UNIT_SIZE..).unwrap_or_default();
        let computed = kernel_crc32(body);
        if header.body_checksum != computed {
            return Err(SidecarError::Checksum { part: "body", found: header.body_checksum, computed });
        }
        let sidecar = Self::split(header, filter, body);
        sidecar.check()?;
        Ok(sidecar)
    }

    #[inline]
    fn split(header: Header, filter: &'a [Unit], body: &'a [u8]) -> Self {
        let take = |from: &mut &'a [u8], size: usize| {
            let (taken, rest) = from.split_at_checked(size).unwrap_or_default();
            *from = rest;
            taken
        };
        let mut rest = body;
        let blocks = take(&mut rest, header.block_count as usize * Block::SIZE);
        let runs = take(&mut rest, header.run_count as usize * Run::SIZE);
        let places = take(&mut rest, header.place_count as usize * PLACE_SIZE);
        Self {
            header,
            filter,
            blocks: BlocksView { entries: blocks.as_chunks().0, filters: rest.as_chunks().0 },
            places: PlacesView {
                runs: runs.as_chunks().0,
                places: places.as_chunks().0,
                event_ids: (header.lowest_event_id, header.highest_event_id),
                event_count: header.event_count,
                is_ascending: header.flags & FLAG_ASCENDING != 0,
            },
        }
    }

    /// Whether its blocks stand back to back from the first record to this end, so that no record is in none. Of a segment
    /// that is whole they do.
    pub fn is_seamless(&self, end: usize) -> bool {
        let blocks = || self.blocks.entries.iter().map(Block::decode);
        let ends = [semj_format::JournalHeader::SIZE].into_iter().chain(blocks().map(|block| block.end()));
        blocks().zip(ends).all(|(block, end)| block.offset as usize == end)
            && blocks().next_back().is_some_and(|last| last.end() == end)
    }

    /// Holds the entries against one another.
    fn check(&self) -> Result<(), SidecarError> {
        let (mut at, mut filter_end) = (0, 0);
        for (place, entry) in self.blocks.entries.iter().enumerate() {
            let block = Block::decode(entry);
            let wrong = |what| Err(SidecarError::Block { block: place, what });
            if (block.offset as usize) < at {
                return wrong("it begins before the end of the one before it");
            }
            if block.size == 0 || block.end() as u64 > self.header.end {
                return wrong("it has no bytes, or some behind the end");
            }
            if block.filter_end < filter_end || block.filter_end > self.header.block_filter_units {
                return wrong("its filter is none");
            }
            (at, filter_end) = (block.end(), block.filter_end);
        }
        Ok(())
    }
}

/// A whole sidecar with its bytes.
#[derive(Clone, Debug)]
pub struct OwnedSidecar {
    header: Header,
    bytes: Vec<u8>,
}

impl OwnedSidecar {
    /// Takes the bytes of a sidecar, if it is of the segment that is meant.
    ///
    /// # Errors
    ///
    /// As [`Sidecar::parse`].
    pub fn parse(bytes: Vec<u8>, origin: &Origin) -> Result<Self, SidecarError> {
        let header = Sidecar::parse(&bytes, origin)?.header;
        Ok(Self { header, bytes })
    }

    /// What is in it.
    #[inline]
    pub fn sidecar(&self) -> Sidecar<'_> {
        let (filter, body) = self
            .bytes
            .get(Header::SIZE..)
            .and_then(|rest| rest.split_at_checked(self.header.filter_units as usize * UNIT_SIZE))
            .unwrap_or_default();
        Sidecar::split(self.header, filter.as_chunks().0, body)
    }

    /// Where events stand, without a look at the rest.
    #[inline]
    pub fn places(&self) -> PlacesView<'_> {
        let header = &self.header;
        let start = header.head_size() + header.block_count as usize * Block::SIZE;
        let middle = start + header.run_count as usize * Run::SIZE;
        let end = middle + header.place_count as usize * PLACE_SIZE;
        PlacesView {
            runs: self.bytes.get(start..middle).unwrap_or_default().as_chunks().0,
            places: self.bytes.get(middle..end).unwrap_or_default().as_chunks().0,
            event_ids: (header.lowest_event_id, header.highest_event_id),
            event_count: header.event_count,
            is_ascending: header.flags & FLAG_ASCENDING != 0,
        }
    }

    /// The header.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes that these entries make.
    pub(crate) fn encode(
        mut header: Header,
        filter: &[Unit],
        blocks: BlocksView<'_>,
        places: PlacesView<'_>,
    ) -> Self {
        header.magic = MAGIC;
        header.version = VERSION;
        header.flags = if places.is_ascending { FLAG_ASCENDING } else { 0 };
        // A segment has 4 GiB at most, and an entry stands for some KiB of it.
        header.block_count = blocks.entries.len() as u32;
        header.run_count = places.runs.len() as u32;
        header.place_count = places.places.len() as u32;
        header.filter_units = filter.len() as u32;
        header.block_filter_units = blocks.filters.len() as u32;
        let filter = filter.as_flattened();
        let body = [
            blocks.entries.as_flattened(),
            places.runs.as_flattened(),
            places.places.as_flattened(),
            blocks.filters.as_flattened(),
        ];
        header.filter_checksum = kernel_crc32(filter);
        header.body_checksum = body.iter().fold(0, |crc, part| kernel_crc32_behind(crc, part));
        header.checksum = header.computed_checksum();
        let mut bytes = Vec::with_capacity(usize::try_from(header.sidecar_size()).unwrap_or(0));
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(filter);
        body.into_iter().for_each(|part| bytes.extend_from_slice(part));
        Self { header, bytes }
    }
}

/// Gives the keys of an event: what its filters say it speaks of. `last_path` is the path whose keys were given last.
#[inline]
pub(crate) fn keys_of(record: &Record<'_>, last_path: &mut Vec<u8>, mut give: impl FnMut(Key)) {
    use key::Kind;
    give(Key::number(Kind::Process, record.process_id().into()));
    if record.parent_event_id() != 0 {
        give(Key::number(Kind::Cause, record.parent_event_id()));
    }
    for link in record.links() {
        give(Key::number(Kind::Cause, link.cause_event_id));
    }
    // A context that can't be read matches no question about it.
    let Ok(lead) = Lead::parse(record.context_bytes()) else { return };
    // Most are plain, and a plain one has no agent: the rest is not read for that.
    let agent_id: &[u8] = if lead.is_plain {
        &[]
    } else {
        let Ok(Some(context)) = record.context() else { return };
        context.agent_id
    };
    if lead.path != last_path.as_slice() {
        Key::of_path(lead.path, &mut give);
        last_path.clear();
        last_path.extend_from_slice(lead.path);
    }
    if !agent_id.is_empty() {
        give(Key::text(Kind::Agent, agent_id));
    }
    if lead.transaction_id != 0 {
        give(Key::number(Kind::Transaction, lead.transaction_id));
    }
    if lead.inode_number != 0 {
        give(Key::number(Kind::Inode, lead.inode_number));
    }
}
