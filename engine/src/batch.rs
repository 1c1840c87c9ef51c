//! A commit group that is being gathered.

use std::ops::Range;

use semj_format::control::{self, Body as _, GapReason, GapType};
use semj_format::draft::{computed_checksum_of, set_checksum, set_computed_checksum};
use semj_format::{Draft, EventHeader, Gap, Measure, Record, Records};

use crate::helping::{GroupRoot, Helping, SHARED_SIZE_MIN, hash_alone};
use crate::prefetch;

/// Bytes of the smallest record.
const RECORD_SIZE_MIN: usize = EventHeader::SIZE;
/// How far ahead of what is copied a batch's memory is fetched, in bytes.
const FETCHED_AHEAD: usize = 2 << 10;
/// Types that one Gap lists at most.
const GAP_TYPES_MAX: usize = 1024;

/// Encoded records that will be committed together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    places: Vec<Place>,
    events: u32,
    first_event_id: u64,
    last_event_id: u64,
    /// The last id before what is pushed next, and the time that gaps are recorded with.
    previous_id: u64,
    monotonic_ns: i64,
    is_by_priority: bool,
    /// Places that turned out to hold no event, since the last record.
    missing: u64,
}

/// Where a record stands in a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// 0 for a record of the journal's own.
    pub(crate) event_id: u64,
    pub(crate) offset: usize,
}

impl Batch {
    /// An empty batch with room for so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let places = Vec::with_capacity(bytes / RECORD_SIZE_MIN);
        Self { bytes: Vec::with_capacity(bytes), places, ..Self::default() }
    }

    /// Says what an empty batch follows on: the last id, and how many events are missing behind it.
    pub(crate) fn follow(&mut self, previous_id: u64, missing: u64, monotonic_ns: i64) {
        self.previous_id = previous_id;
        self.missing = missing;
        self.monotonic_ns = monotonic_ns;
    }

    /// Encodes a draft with this header behind the other records.
    pub(crate) fn push(&mut self, header: &EventHeader, draft: &Draft<'_>, measure: Measure) {
        self.put(header.event_id, measure.size(), |out| {
            draft.encode_without_checksum_with(header, measure, out);
        });
    }

    /// Encodes a record of the journal's own, which is a header and a payload, behind the other records.
    pub(crate) fn push_own(&mut self, draft: &Draft<'_>) {
        let size = EventHeader::SIZE + draft.payload.len();
        self.put(draft.header.event_id, size, |out| draft.encode_without_checksum_into(out));
    }

    fn put(&mut self, event_id: u64, size: usize, encode: impl FnOnce(&mut [u8])) {
        self.count(event_id);
        let start = self.begin(event_id);
        self.bytes.resize(start + size, 0);
        encode(&mut self.bytes[start..]);
        set_computed_checksum(&mut self.bytes[start..]);
    }

    /// Copies an event's record, whose checksum is still to be set, behind the others.
    #[inline]
    pub(crate) fn push_without_checksum(&mut self, event_id: u64, record: &[u8]) {
        self.count(event_id);
        let start = self.begin(event_id);
        self.fetch_ahead(record.len());
        // Of the record where it lies: what is copied can't be read again at once without waiting for each store.
        let checksum = computed_checksum_of(record);
        self.bytes.extend_from_slice(record);
        set_checksum(checksum, &mut self.bytes[start..]);
    }

    /// Has the memory behind the next few records come to this processor's cache: who helped to hash the last group has it
    /// in another's.
    #[inline]
    fn fetch_ahead(&self, size: usize) {
        let at = self.bytes.len() + FETCHED_AHEAD;
        if at + size <= self.bytes.capacity() {
            prefetch::for_write(self.bytes.as_ptr().wrapping_add(at), size);
        }
    }

    /// Appends the records of another batch, which were encoded and numbered.
    pub(crate) fn append(&mut self, other: &Self) {
        if other.events > 0 {
            self.count(other.first_event_id);
            self.events += other.events - 1;
            self.last_event_id = other.last_event_id;
            self.previous_id = other.last_event_id;
        }
        let offset = self.bytes.len();
        self.places
            .extend(other.places.iter().map(|place| Place { offset: offset + place.offset, ..*place }));
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// Notes that a record begins here. Gives its offset.
    #[inline]
    fn begin(&mut self, event_id: u64) -> usize {
        let offset = self.bytes.len();
        self.places.push(Place { event_id, offset });
        offset
    }

    #[inline]
    fn count(&mut self, event_id: u64) {
        if event_id == 0 {
            return;
        }
        if self.missing > 0 {
            self.push_gap(event_id - 1);
        }
        self.events += 1;
        self.last_event_id = event_id;
        self.previous_id = event_id;
        if self.first_event_id == 0 {
            self.first_event_id = event_id;
        }
    }

    /// Notes a place whose event, or whose events, never came.
    #[cold]
    pub(crate) fn miss(&mut self) {
        self.missing += 1;
    }

    /// Places that turned out to hold no event behind the last record: no Gap says so yet.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// Writes down what was missed at the end, up to this id.
    #[cold]
    pub(crate) fn miss_upto(&mut self, last_event_id: u64) {
        self.push_gap(last_event_id);
    }

    /// Writes down that events, the next ones, were dropped.
    #[cold]
    pub(crate) fn drop_ids(&mut self, ids: Range<u64>, types: &[GapType]) {
        if self.missing > 0 {
            self.push_gap(ids.start - 1);
        }
        self.write_gap(ids, types.iter().map(|of| of.event_count).sum(), GapReason::Dropped, types);
    }

    #[cold]
    fn push_gap(&mut self, last_event_id: u64) {
        let ids = self.previous_id + 1..last_event_id + 1;
        // A batch that was given up had more than one id; how many of them had events is not known.
        let is_known = last_event_id - self.previous_id == self.missing;
        let events = if is_known { self.missing } else { 0 };
        self.missing = 0;
        self.write_gap(ids, events, GapReason::Abandoned, &[]);
    }

    /// Bytes of the record that says what was dropped.
    pub(crate) fn gap_size(types: &[GapType]) -> usize {
        EventHeader::SIZE + Gap::SIZE + types.len().min(GAP_TYPES_MAX) * GapType::SIZE
    }

    fn write_gap(&mut self, ids: Range<u64>, event_count: u64, reason: GapReason, types: &[GapType]) {
        // More types than a payload holds are left out: their events are in the count.
        let types = types.get(..GAP_TYPES_MAX).unwrap_or(types);
        let gap = Gap {
            first_event_id: ids.start,
            last_event_id: ids.end - 1,
            event_count,
            reason: reason.code(),
            type_count: types.len() as u32,
        };
        self.previous_id = ids.end - 1;
        let mut body = gap.encode().to_vec();
        types.iter().for_each(|of| body.extend_from_slice(&of.encode()));
        let draft = control::draft(Gap::EVENT_TYPE, &body, self.monotonic_ns, std::process::id());
        self.push_own(&draft);
    }

    /// Puts the more urgent events first, those of one priority in the order of their ids. The journal's own records
    /// stand before them: they say what is missing.
    pub(crate) fn order_by_priority(&mut self) {
        let rank = |record: &Record<'_>| if record.is_control() { 0 } else { record.event_priority() };
        let mut records: Vec<_> = self
            .records()
            .zip(&self.places)
            .map(|((_, of), place)| (rank(&of), of, place.event_id))
            .collect();
        if records.is_sorted_by_key(|(rank, ..)| *rank) {
            return;
        }
        records.sort_by_key(|(rank, ..)| *rank);
        let ids = records.iter().map(|(.., event_id)| *event_id).filter(|event_id| *event_id != 0);
        let is_by_priority = !ids.is_sorted();
        let mut ordered = Self::with_capacity(self.bytes.capacity());
        for (_, record, event_id) in records {
            ordered.begin(event_id);
            ordered.bytes.extend_from_slice(record.bytes());
        }
        (self.bytes, self.places) = (ordered.bytes, ordered.places);
        self.is_by_priority = is_by_priority;
    }

    /// Whether the events do not stand in the order of their ids.
    pub(crate) fn is_by_priority(&self) -> bool {
        self.is_by_priority
    }

    /// The root over the records, and up to where `write` has written them. That is everything where the group is so
    /// large that there is time for it, while others help to hash; else nothing, and the records go with their Commit.
    pub(crate) fn hash<E>(
        &mut self,
        helping: &Helping,
        write: impl FnOnce(&[u8]) -> Result<(), E>,
    ) -> Result<(GroupRoot, usize), E> {
        if self.bytes.len() < SHARED_SIZE_MIN {
            return Ok((hash_alone(&self.bytes, self.places.len()), 0));
        }
        let offsets = self.places.iter().map(|place| place.offset);
        let (root, written) = helping.hash_while(&mut self.bytes, offsets, write);
        written.map(|()| (root, self.bytes.len()))
    }

    /// Where the records stand.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// The records with their offsets in the batch.
    fn records(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        // Encoded here, so no frame is wrong.
        Records::new(&self.bytes, 0).map_while(Result::ok)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn events(&self) -> u32 {
        self.events
    }

    /// 0 where there is no event.
    pub(crate) fn first_event_id(&self) -> u64 {
        self.first_event_id
    }

    /// 0 where there is no event.
    pub(crate) fn last_event_id(&self) -> u64 {
        self.last_event_id
    }

    /// The last id that was given up to here, to an event or to what is missing.
    pub(crate) fn previous_id(&self) -> u64 {
        self.previous_id
    }

    /// Empties the batch. Memory beyond `capacity`, which an unusually large batch needed, is given back.
    pub(crate) fn clear(&mut self, capacity: usize) {
        let Self { mut bytes, mut places, .. } = std::mem::take(self);
        bytes.clear();
        bytes.shrink_to(capacity);
        places.clear();
        (self.bytes, self.places) = (bytes, places);
    }
}
