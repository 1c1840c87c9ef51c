//! Makes the index of a segment from its records, one by one.
//!
//! [`Places`] and [`Blocks`] are apart because they are needed at different times: a place costs nothing, and readers
//! want it the moment that its event is committed; a block's filter costs some nanoseconds for each event, and is wanted
//! when somebody asks a question, or the segment is full.

use semj_format::Record;

use crate::filter::{self, UNIT_SIZE, Unit};
use crate::key::Key;
use crate::sidecar::{
    Block, BlocksView, EVENTS_PER_PLACE, Header, Origin, OwnedSidecar, PLACE_SIZE, PlacesView, Run, Summary,
    keys_of,
};

/// A record that stands so far behind the offset of a block, or farther, begins the next one.
pub const BLOCK_SIZE: usize = 32 << 10;
/// So many runs of ids are kept, and one more for so many events: where ids jump all the time, blocks have to do.
const RUNS_MAX: u64 = 64;
const EVENTS_PER_RUN: u64 = 256;
/// Bits of a block's filter for each of its keys …
const BITS_PER_KEY: usize = 9;
/// … but all filters together no more than a unit for so many bytes of records, which keeps a sidecar below a hundredth of
/// its segment. What blocks with few keys leave is for those with many.
const BYTES_PER_UNIT: usize = 6_000;
/// The segment's filter has no more than a unit for so many bytes.
const BYTES_PER_SEGMENT_UNIT: usize = 64 << 10;
/// The segment's filter is made smaller while no more of its bits than these, of 1,000, are set,
const SPARSE: u64 = 250;
/// and left out where more than these are: it would deny next to nothing.
const CROWDED: u64 = 800;

/// Slots of the set of a block's keys that are kept for the next block.
const SLOTS_KEPT: usize = 8192;

/// Where some events stand, by their ids.
#[derive(Clone, Debug)]
pub struct Places {
    runs: Vec<[u8; Run::SIZE]>,
    places: Vec<[u8; PLACE_SIZE]>,
    last_id: u64,
    event_ids: (u64, u64),
    event_count: u64,
    is_ascending: bool,
    /// Whether the ids are in an order in which they can be found.
    is_orderly: bool,
}

impl Default for Places {
    fn default() -> Self {
        Self::new()
    }
}

impl Places {
    /// No places.
    pub const fn new() -> Self {
        Self {
            runs: Vec::new(),
            places: Vec::new(),
            last_id: 0,
            event_ids: Summary::EMPTY.event_ids,
            event_count: 0,
            is_ascending: true,
            is_orderly: true,
        }
    }

    /// Takes note of the event with this id at this offset. Offsets grow from call to call.
    #[inline]
    pub fn push(&mut self, event_id: u64, offset: usize) {
        if event_id != self.last_id.wrapping_add(1) || self.event_count == 0 {
            self.begin_run(event_id);
        }
        if self.is_orderly && self.event_count.is_multiple_of(EVENTS_PER_PLACE as u64) {
            // A segment has 4 GiB at most.
            self.places.push((offset as u32).to_le_bytes());
        }
        self.last_id = event_id;
        self.event_count += 1;
        self.event_ids = (self.event_ids.0.min(event_id), self.event_ids.1.max(event_id));
    }

    #[cold]
    fn begin_run(&mut self, event_id: u64) {
        self.is_ascending &= event_id > self.last_id;
        let runs_max = RUNS_MAX + self.event_count / EVENTS_PER_RUN;
        self.is_orderly &= self.is_ascending && (self.runs.len() as u64) < runs_max;
        if self.is_orderly {
            self.runs.push(Run { event_id, ordinal: self.event_count as u32 }.encode());
        } else {
            (self.runs, self.places) = (Vec::new(), Vec::new());
        }
    }

    /// For look-ups.
    #[inline]
    pub fn view(&self) -> PlacesView<'_> {
        PlacesView {
            runs: &self.runs,
            places: &self.places,
            event_ids: self.event_ids,
            event_count: self.event_count,
            is_ascending: self.is_ascending,
        }
    }
}

/// What the blocks of a segment hold, the last one as far as it is known.
#[derive(Clone, Debug)]
pub struct Blocks {
    entries: Vec<[u8; Block::SIZE]>,
    filters: Vec<Unit>,
    /// The whole segment's, as large as it may become; made smaller at the end.
    filter: Vec<Unit>,
    summary: Summary,
    /// Bytes of all full blocks.
    size: usize,
    open: Option<OpenBlock>,
    keys: Distinct,
    /// The path whose keys were given last, for the events of the same file that follow one another.
    path: Vec<u8>,
}

/// The block that is not full.
#[derive(Clone, Copy, Debug)]
struct OpenBlock {
    offset: usize,
    end: usize,
    summary: Summary,
}

impl Blocks {
    /// No blocks, of a segment that has so many bytes at most.
    pub fn new(segment_size: usize) -> Self {
        let units = (segment_size / BYTES_PER_SEGMENT_UNIT).max(1);
        Self {
            entries: Vec::new(),
            filters: Vec::new(),
            filter: vec![[0; UNIT_SIZE]; 1 << units.ilog2()],
            summary: Summary::EMPTY,
            size: 0,
            open: None,
            keys: Distinct::default(),
            path: Vec::new(),
        }
    }

    /// Takes note of a record, the journal's own included. Offsets grow from call to call.
    #[inline]
    pub fn push(&mut self, offset: usize, record: &Record<'_>) {
        let open = match self.open {
            // Behind a gap a block would span what is no part of the journal.
            Some(open) if offset - open.offset < BLOCK_SIZE && offset == open.end => open,
            Some(_) => {
                self.close_block();
                OpenBlock { offset, end: offset, summary: Summary::EMPTY }
            }
            None => OpenBlock { offset, end: offset, summary: Summary::EMPTY },
        };
        let open = self.open.insert(open);
        open.end = offset + record.len();
        open.summary.see(record);
        if !record.is_control() {
            keys_of(record, &mut self.path, |key| self.keys.insert(key));
        }
    }

    fn close_block(&mut self) {
        let Some(OpenBlock { offset, end, summary }) = self.open.take() else { return };
        let size = end - offset;
        let keys = &self.keys.list;
        let start = self.filters.len();
        self.size += size;
        let units_left = (self.size / BYTES_PER_UNIT).saturating_sub(start);
        let units = (keys.len() * BITS_PER_KEY).div_ceil(UNIT_SIZE * 8).min(units_left.max(1));
        self.filters.resize(start + units, [0; UNIT_SIZE]);
        let filter = self.filters.get_mut(start..).unwrap_or_default();
        for key in keys {
            filter::insert(filter, *key);
            filter::insert(&mut self.filter, *key);
        }
        self.keys.clear();
        self.path.clear();
        self.summary.join(&summary);
        self.entries.push(
            Block {
                // A segment has 4 GiB at most.
                offset: offset as u32,
                size: size as u32,
                lowest_event_id: summary.event_ids.0,
                highest_event_id: summary.event_ids.1,
                lowest_ktime_ns: summary.ktimes_ns.0,
                highest_ktime_ns: summary.ktimes_ns.1,
                agent_visibility: summary.agent_visibility,
                types: summary.types.encode(),
                lowest_priority: summary.lowest_priority,
                reserved: 0,
                filter_end: self.filters.len() as u32,
            }
            .encode(),
        );
    }

    /// Blocks that are full. What stands behind them is not known here.
    #[inline]
    pub fn view(&self) -> BlocksView<'_> {
        BlocksView { entries: &self.entries, filters: &self.filters }
    }

    /// Offset behind the last full block; 0 where there is none.
    fn full_end(&self) -> usize {
        self.entries.last().map_or(0, |entry| Block::decode(entry).end())
    }

    /// Offset behind the last record that was pushed; 0 before the first.
    pub fn end(&self) -> usize {
        self.open.map_or_else(|| self.full_end(), |open| open.end)
    }
}

/// Makes the whole index of a segment.
#[derive(Clone, Debug)]
pub struct Builder {
    /// Where events stand.
    pub places: Places,
    /// What blocks hold.
    pub blocks: Blocks,
}

impl Builder {
    /// An index without entries, of a segment that has so many bytes at most.
    pub fn new(segment_size: usize) -> Self {
        Self { places: Places::new(), blocks: Blocks::new(segment_size) }
    }

    /// Takes note of a record, the journal's own included. Offsets grow from call to call.
    #[inline]
    pub fn push(&mut self, offset: usize, record: &Record<'_>) {
        if !record.is_control() {
            self.places.push(record.event_id(), offset);
        }
        self.blocks.push(offset, record);
    }

    /// The sidecar.
    pub fn finish(self, origin: &Origin) -> OwnedSidecar {
        finish(&self.places, self.blocks, origin)
    }
}

/// The sidecar that these places and blocks make.
pub fn finish(places: &Places, mut blocks: Blocks, origin: &Origin) -> OwnedSidecar {
    blocks.close_block();
    let Blocks { mut filter, summary, entries, filters, .. } = blocks;
    let units_max = usize::try_from(origin.end).unwrap_or(0) / BYTES_PER_SEGMENT_UNIT;
    while filter.len() > 1 && (filter.len() > units_max || filter::density(&filter) <= SPARSE) {
        filter::fold(&mut filter);
    }
    if filter::density(&filter) > CROWDED {
        filter.clear();
    }
    let header = Header {
        magic: 0,
        version: 0,
        journal_uuid: origin.journal_uuid,
        segment_number: origin.segment_number,
        epoch: origin.epoch,
        end: origin.end,
        end_bytes: origin.end_bytes,
        event_count: places.event_count,
        lowest_event_id: summary.event_ids.0,
        highest_event_id: summary.event_ids.1,
        lowest_ktime_ns: summary.ktimes_ns.0,
        highest_ktime_ns: summary.ktimes_ns.1,
        agent_visibility: summary.agent_visibility,
        types: summary.types.encode(),
        lowest_priority: summary.lowest_priority,
        flags: 0,
        block_count: 0,
        place_count: 0,
        filter_units: 0,
        block_filter_units: 0,
        run_count: 0,
        filter_checksum: 0,
        body_checksum: 0,
        checksum: 0,
    };
    OwnedSidecar::encode(header, &filter, BlocksView { entries: &entries, filters: &filters }, places.view())
}

/// The different keys of a block, in the order of their first occurrence.
#[derive(Clone, Debug, Default)]
struct Distinct {
    /// Open addressing, a power of two; 0 is a free slot.
    slots: Vec<u64>,
    list: Vec<Key>,
}

impl Distinct {
    #[inline]
    fn insert(&mut self, key: Key) {
        if self.list.len() * 2 >= self.slots.len() {
            self.grow();
        }
        let mask = self.slots.len() - 1;
        let mut at = key.0 as usize & mask;
        // At most half of the slots are taken. A key of 0 is listed each time it comes, which does no harm.
        while let Some(slot) = self.slots.get_mut(at) {
            match *slot {
                0 => {
                    *slot = key.0;
                    self.list.push(key);
                    return;
                }
                taken if taken == key.0 => return,
                _ => at = (at + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let size = (self.slots.len() * 2).max(1024);
        self.slots = vec![0; size];
        let list = std::mem::take(&mut self.list);
        list.into_iter().for_each(|key| self.insert(key));
    }

    fn clear(&mut self) {
        self.list.clear();
        // A block with very many keys is rare, and the next ones need not pay for it.
        if self.slots.len() > SLOTS_KEPT { self.slots = Vec::new() } else { self.slots.fill(0) }
    }
}
