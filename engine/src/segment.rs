//! A segment as readers see it: mapped, with an end up to which it is committed, and an index.

use std::hint::black_box;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use semj_format::{Digest, JournalHeader, Record, RecordError, Records, SegmentOpen};
use semj_index::sidecar::EVENTS_PER_PLACE;
use semj_index::{Origin, Sought};
use semj_recovery::{Extent, SegmentReport};

use crate::error::Error;
use crate::medium::{Map, Medium};
use crate::prefetch;
use crate::segment_index::SegmentIndex;
use crate::sidecar::Indexer;

/// What was counted in a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) first_event_id: u64,
    pub(crate) last_event_id: u64,
}

impl Figures {
    pub(crate) fn of(report: &SegmentReport) -> Self {
        let totals = &report.totals;
        Self {
            records: totals.records,
            events: totals.events,
            first_event_id: totals.first_event_id,
            last_event_id: if totals.events == 0 { 0 } else { totals.last_event_id },
        }
    }
}

/// Bytes of an event that is not known yet, about.
const FETCHED_PER_EVENT: usize = 256;

/// Bytes that are looked at without asking an index which of them need not be.
const FEW_BYTES: usize = 1 << 20;

/// A segment as readers see it. Shared by the committer, which moves its end, and any number of readers.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) opening: SegmentOpen,
    /// Its file, for errors.
    path: PathBuf,
    map: Box<dyn Map>,
    /// Where the records stand; the last one's end is bounded by `end` too.
    extents: Vec<Extent>,
    /// Everything before it is committed and is never written again. Stored with `Release` when the bytes
    /// and the index are in place, loaded with `Acquire` by readers.
    end: AtomicUsize,
    index: Arc<SegmentIndex>,
    /// What is in it, when it has reached its end.
    figures: OnceLock<Figures>,
    /// Whether every record was held against its checksum since the file was mapped.
    is_verified: AtomicBool,
    /// A read has found that the file is not what it was.
    is_changed: AtomicBool,
    /// It was retired: its files go.
    is_retired: AtomicBool,
}

impl Segment {
    /// A segment that has just been created and whose records end at `end`.
    pub(crate) fn active(opening: SegmentOpen, path: PathBuf, map: Box<dyn Map>, end: usize) -> Self {
        let extents = vec![Extent { start: JournalHeader::SIZE, end: map.size() }];
        let index = Arc::new(SegmentIndex::growing(map.size()));
        Self {
            opening,
            path,
            map,
            extents,
            end: AtomicUsize::new(end),
            index,
            figures: OnceLock::new(),
            is_verified: AtomicBool::new(true),
            is_changed: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
        }
    }

    /// A segment that was found, with its records standing in `extents`, and the map of its sidecar. If it is not
    /// verified, its records are checked when they are read.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] since they were verified.
    pub(crate) fn found(
        opening: SegmentOpen,
        path: PathBuf,
        map: Box<dyn Map>,
        extents: Vec<Extent>,
        figures: Figures,
        is_verified: bool,
        sidecar: Option<Box<dyn Map>>,
    ) -> Result<Self, Error> {
        let end = extents.last().map_or(0, |extent| extent.end);
        // One of a damaged segment would be of what it was before.
        let sidecar = sidecar.filter(|_| is_back_to_back(&extents));
        let has_sidecar = sidecar.is_some();
        let segment = Self {
            opening,
            path,
            map,
            extents,
            end: AtomicUsize::new(end),
            index: Arc::new(SegmentIndex::found(sidecar)),
            figures: OnceLock::from(figures),
            is_verified: AtomicBool::new(is_verified),
            is_changed: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
        };
        if is_verified && !has_sidecar {
            // All of it has just been read, and its pages have gone: they came back for this.
            segment.index.seek(&segment, 0)?;
            segment.map.unload();
        }
        Ok(segment)
    }

    /// Offset of its first record.
    pub(crate) fn start(&self) -> usize {
        self.extents.first().map_or(JournalHeader::SIZE, |extent| extent.start)
    }

    /// The segment's number.
    pub(crate) const fn number(&self) -> u64 {
        self.opening.segment_number
    }

    /// What is in it; `None` before it has reached its end.
    pub(crate) fn figures(&self) -> Option<Figures> {
        self.figures.get().copied()
    }

    /// Takes note of what is in it: it has reached its end.
    pub(crate) fn ended(&self, figures: Figures) {
        // It ends once.
        self.figures.get_or_init(|| figures);
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has it leave this process's page table. What is read of it comes back.
    pub(crate) fn unload(&self) {
        self.map.unload();
    }

    /// Bytes of its file.
    pub(crate) fn size(&self) -> usize {
        self.map.size()
    }

    /// What its events are found by.
    pub(crate) fn index(&self) -> &SegmentIndex {
        &self.index
    }

    /// What its sidecar says that it is of, when it has reached its end.
    pub(crate) fn origin(&self) -> Option<Origin> {
        let end = self.end();
        let end_bytes = self.map.bytes(end.checked_sub(32)?..end);
        Origin::new(&self.opening, end as u64, end_bytes)
    }

    /// Whether it ends with this digest, of its seal or its last Commit. One whose end is lost does not.
    pub(crate) fn ends_with(&self, digest: &Digest) -> bool {
        let end = self.end();
        end.checked_sub(digest.0.len()).is_some_and(|start| self.map.bytes(start..end) == digest.0)
    }

    /// Whether all its records stand back to back, from the beginning on.
    pub(crate) fn is_whole(&self) -> bool {
        is_back_to_back(&self.extents)
    }

    /// Gives every record, and has checked them all then.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`], [`Error::Rotten`].
    pub(crate) fn read_all(&self, mut give: impl FnMut(usize, &Record<'_>)) -> Result<(), Error> {
        // What is put into memory for this goes again.
        let view = self.view();
        for found in view.as_ref().unwrap_or(self).walk(0, self.end()) {
            let (offset, record) = found?;
            give(offset, &record);
        }
        // An index that lacks events would deny that they are there.
        if !self.map.is_intact() {
            return Err(self.changed());
        }
        self.is_verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a group visible that the committer has written before `end`: first its events in the index, then
    /// the end.
    pub(crate) fn publish(&self, events: impl Iterator<Item = (u64, usize)>, end: usize) {
        self.index.push(events);
        self.end.store(end, Ordering::Release);
    }

    /// Offset up to which the segment is committed.
    pub(crate) fn end(&self) -> usize {
        self.end.load(Ordering::Acquire)
    }

    /// Whether all of a record's bytes are in the file.
    #[inline]
    fn holds(&self, record: &Record<'_>) -> bool {
        // A file loses bytes from its end, so the last one says it for all: reading it makes the map note a cut before
        // its page. A cut inside of the page leaves a zero there and no note. A record that ends with a zero by right
        // is told from that by its checksum.
        let last = black_box(record.bytes().last().copied());
        self.map.is_intact()
            && !self.is_changed.load(Ordering::Relaxed)
            && (last != Some(0) || record.verify_checksum().is_ok())
    }

    /// Notes that the file is not what it was.
    #[cold]
    pub(crate) fn changed(&self) -> Error {
        // What could not be read is not gone: by another map it may be had the next time.
        if self.map.failure().is_none() {
            self.is_changed.store(true, Ordering::Relaxed);
        }
        Error::changed(&self.path, &*self.map)
    }

    /// Whether the journal does not begin with it any more.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::SeqCst)
    }

    /// Whether nothing that was read of the segment was gone from its file.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let is_cut = || self.map.file_size(&self.path).is_ok_and(|size| size < self.map.size() as u64);
        if !self.map.is_intact() || self.is_changed.load(Ordering::Relaxed) || is_cut() {
            return Err(self.changed());
        }
        Ok(())
    }

    /// A walk over the records before `end`, from the first event on whose id is at least `event_id`, or a
    /// little before it.
    pub(crate) fn walk_from(&self, event_id: u64, end: usize) -> Walk<'_> {
        if let Some(offset) = self.map.seek(event_id) {
            return self.walk(offset, end);
        }
        match self.index.seek(self, event_id) {
            Ok(Sought::From { offset, event_id }) if self.is_event(offset, event_id) => {
                self.walk(offset, end)
            }
            Ok(Sought::Behind) => self.walk(end, end),
            Ok(Sought::Anywhere) if self.is_ascending() => match self.index.seek_block(self, event_id, end) {
                Ok(offset) if self.is_record(offset) || offset >= end => self.walk(offset, end),
                _ => self.walk(0, end),
            },
            // A walk from the beginning comes to what is wrong, and says so.
            Ok(Sought::From { .. } | Sought::Anywhere) | Err(_) => self.walk(0, end),
        }
    }

    /// The event with this id, if it is before `end`.
    pub(crate) fn get(&self, event_id: u64, end: usize) -> Result<Option<Record<'_>>, Error> {
        if let Some(found) = self.map.seek(event_id).and_then(|offset| self.hop(offset, event_id, end)) {
            return Ok(Some(found));
        }
        if let Ok(Sought::From { offset, event_id: there }) = self.index.seek(self, event_id) {
            self.fetch_ahead(offset, event_id.saturating_sub(there), end);
            if self.is_event(offset, there)
                && let Some(found) = self.hop(offset, event_id, end)
            {
                return Ok(Some(found));
            }
        }
        // It is not there, or something is wrong, which a walk that checks each record finds.
        for found in self.walk_from(event_id, end) {
            let (_, record) = found?;
            if record.event_id() == event_id && !record.is_control() {
                return Ok(Some(record));
            }
            if record.event_id() > event_id && self.is_ascending() {
                break;
            }
        }
        Ok(None)
    }

    /// Where events with these ids stand, if that is known without the index and is not much.
    pub(crate) fn few_with(&self, (first, last): (u64, u64), end: usize) -> Option<Extent> {
        if (first, last) == (0, u64::MAX) {
            return None;
        }
        let start = self.map.seek(first)?.min(end);
        let behind = match last.checked_add(1) {
            // Those before it can be in the same piece.
            Some(next) => self.map.piece_end(self.map.seek(next)?).min(end),
            None => end,
        };
        let extent = Extent { start, end: behind.max(start) };
        (extent.size() <= FEW_BYTES).then_some(extent)
    }

    /// Whether the ids grow from event to event.
    pub(crate) fn is_ascending(&self) -> bool {
        self.index.is_ascending(self)
    }

    /// Whether the event with this id stands at an offset, as the index has it.
    #[inline]
    fn is_event(&self, offset: usize, event_id: u64) -> bool {
        let is_there =
            self.record_at(offset).is_some_and(|record| record.event_id() == event_id && self.holds(&record));
        if !is_there
            && self.map.is_intact()
            && self.index.is_read()
            && let Err(error) = self.index.distrust(self, offset)
        {
            // Whoever asks for what is damaged is told.
            tracing::debug!(segment = self.number(), offset, %error, "a sidecar leads to what is damaged");
        }
        is_there
    }

    /// The record at an offset, its frame checked and no more.
    #[inline]
    pub(crate) fn record_at(&self, offset: usize) -> Option<Record<'_>> {
        let place = self.extents.partition_point(|extent| extent.end <= offset);
        let extent = self.extents.get(place).filter(|extent| extent.start <= offset)?;
        Record::parse(self.piece(offset, extent.end.min(self.end()))).ok()
    }

    /// The bytes from an offset on, up to `end` or to where the piece that they are in ends.
    #[inline]
    fn piece(&self, offset: usize, end: usize) -> &[u8] {
        self.map.bytes(offset..end.min(self.map.piece_end(offset)))
    }

    /// The same segment with nothing of it in memory, where that is another thing.
    pub(crate) fn anew(self: &Arc<Self>) -> Arc<Self> {
        self.view().map_or_else(|| Arc::clone(self), Arc::new)
    }

    fn view(&self) -> Option<Self> {
        self.map.anew().map(|map| self.with_map(map))
    }

    /// Whether its file is a compressed one.
    pub(crate) fn is_compressed(&self) -> bool {
        self.map.packed_size().is_some()
    }

    /// Bytes that it takes of the disk, up to its end.
    pub(crate) fn stored_size(&self) -> u64 {
        self.map.packed_size().unwrap_or_else(|| self.end()) as u64
    }

    /// The same segment with its bytes from elsewhere.
    pub(crate) fn with_map(&self, map: Box<dyn Map>) -> Self {
        Self {
            opening: self.opening,
            path: self.path.clone(),
            map,
            extents: self.extents.clone(),
            end: AtomicUsize::new(self.end()),
            index: Arc::clone(&self.index),
            figures: self.figures.clone(),
            is_verified: AtomicBool::new(self.is_verified.load(Ordering::Relaxed)),
            is_changed: AtomicBool::new(self.is_changed.load(Ordering::Relaxed)),
            is_retired: AtomicBool::new(self.is_retired()),
        }
    }

    /// Whether a record stands at an offset, checksum and all.
    pub(crate) fn is_record(&self, offset: usize) -> bool {
        self.record_at(offset).is_some_and(|record| self.holds(&record) && record.verify_checksum().is_ok())
    }

    /// Has the processor fetch what a hop over so many events will look at. Each frame says where the next one is, but lines
    /// of the cache that nobody has to ask for come all at the same time.
    #[inline]
    fn fetch_ahead(&self, from: usize, events: u64, end: usize) {
        let size = (events.min(EVENTS_PER_PLACE as u64) as usize + 1) * FETCHED_PER_EVENT;
        let ahead = self.map.bytes(from..from.saturating_add(size).min(end));
        prefetch::for_read(ahead.as_ptr(), ahead.len());
    }

    /// Goes from frame to frame to an event, and checks that one. `None` if it does not come there.
    #[inline]
    fn hop(&self, from: usize, event_id: u64, end: usize) -> Option<Record<'_>> {
        let place = self.extents.partition_point(|extent| extent.end <= from);
        let extent = self.extents.get(place).filter(|extent| extent.start <= from)?;
        let end = extent.end.min(end);
        let mut from = from;
        while from < end {
            let mut records = Records::new(self.piece(from, end), 0);
            for found in records.by_ref() {
                let (offset, record) = found.ok()?;
                if record.event_id() == event_id {
                    let is_good = self.holds(&record) && self.check_record(from + offset, &record).is_ok();
                    return is_good.then_some(record);
                }
                if record.event_id() > event_id {
                    return None;
                }
            }
            if records.offset() == 0 {
                return None;
            }
            from += records.offset();
        }
        None
    }

    /// What is wrong with a record, where it was not looked at before.
    fn check_record(&self, offset: usize, record: &Record<'_>) -> Result<(), Error> {
        if self.is_verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        record.verify_checksum().map_err(|source| self.rotten(offset, source))
    }

    #[cold]
    fn rotten(&self, offset: usize, source: RecordError) -> Error {
        if !self.map.is_intact() || self.map.failure().is_some() {
            return self.changed();
        }
        Error::Rotten { path: self.path.clone(), offset: offset as u64, source }
    }

    /// A walk over the records between two offsets, of which the first is that of a record.
    pub(crate) fn walk(&self, from: usize, end: usize) -> Walk<'_> {
        let first = self.extents.partition_point(|extent| extent.end <= from);
        let extents = self.extents.get(first..).unwrap_or_default();
        Walk { segment: self, extents, piece: 0..0, records: Records::new(&[], 0), from, end, next: &[] }
    }
}

fn is_back_to_back(extents: &[Extent]) -> bool {
    matches!(extents, [Extent { start: JournalHeader::SIZE, .. }])
}

/// How far ahead of the record that is looked at memory is asked for, in bytes: some ten records.
const FETCHED_AHEAD: usize = 4096;

/// Records of one segment, control records included, each with its offset.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'s> {
    segment: &'s Segment,
    extents: &'s [Extent],
    /// Where the bytes that `records` walks stand in the segment.
    piece: Range<usize>,
    records: Records<'s>,
    from: usize,
    end: usize,
    /// The first bytes of what is looked at after this walk, if that is known.
    next: &'s [u8],
}

impl<'s> Walk<'s> {
    /// The same walk, which has memory come to the cache for the one after it too, where that begins.
    pub(crate) fn followed_by(self, extent: Extent) -> Self {
        let segment = self.segment;
        // What is in another piece would have to be decoded, or fetched from far away, before it is looked at.
        if segment.map.piece_end(extent.start) != segment.map.piece_end(self.from) {
            return self;
        }
        let end = extent.end.min(extent.start.saturating_add(FETCHED_AHEAD));
        Self { next: segment.map.bytes(extent.start..end), ..self }
    }

    /// Has what stands some way behind a record come to the cache, as many bytes as the record has: processors fetch ahead
    /// by themselves, but not from one page to the next.
    #[inline]
    fn fetch_ahead(&self, size: usize) {
        let rest = self.records.rest();
        let ahead = match FETCHED_AHEAD.checked_sub(rest.len()) {
            None => rest.get(FETCHED_AHEAD..),
            Some(behind) => self.next.get(behind..),
        };
        let ahead = ahead.unwrap_or_default();
        prefetch::for_read(ahead.as_ptr(), ahead.len().min(size));
    }
}

impl<'s> Iterator for Walk<'s> {
    type Item = Result<(usize, Record<'s>), Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let base = self.piece.start;
            let at = base + self.records.offset();
            let error = match self.records.next() {
                Some(Ok((offset, record))) if self.segment.holds(&record) => {
                    self.fetch_ahead(record.len());
                    match self.segment.check_record(base + offset, &record) {
                        Ok(()) => return Some(Ok((base + offset, record))),
                        Err(error) => Some(error),
                    }
                }
                // The extents were checked when the segment was found or written: somebody has changed the file.
                Some(Ok(_)) => Some(self.segment.changed()),
                Some(Err(source)) if !self.segment.is_verified.load(Ordering::Relaxed) => {
                    Some(self.segment.rotten(at, source))
                }
                Some(Err(_)) => Some(self.segment.changed()),
                // A piece that can't be had is empty.
                None if self.records.offset() < self.piece.len() => {
                    let needed = self.piece.len();
                    let source = RecordError::Truncated { needed, available: self.records.offset() };
                    Some(self.segment.rotten(base + self.records.offset(), source))
                }
                None => None,
            };
            if let Some(error) = error {
                self.records = Records::new(&[], 0);
                self.piece = 0..0;
                self.extents = &[];
                return Some(Err(error));
            }
            let (extent, rest) = self.extents.split_first()?;
            let start = extent.start.max(self.from).max(self.piece.end);
            let end = extent.end.min(self.end);
            if start >= end {
                self.extents = rest;
                self.records = Records::new(&[], 0);
                self.piece.start = self.piece.end;
                continue;
            }
            self.piece = start..end.min(self.segment.map.piece_end(start));
            self.records = Records::new(self.segment.piece(start, end), 0);
        }
    }
}

/// The segments of an open journal, oldest first. Readers take the list as it is at one moment; the committer
/// puts a new list in its place.
#[derive(Debug)]
pub(crate) struct Segments {
    list: RwLock<Arc<Vec<Arc<Segment>>>>,
    /// Makes sidecars of those that have reached their ends.
    indexer: Mutex<Option<Indexer>>,
}

impl Segments {
    pub(crate) fn new(list: Vec<Arc<Segment>>) -> Self {
        Self { list: RwLock::new(Arc::new(list)), indexer: Mutex::new(None) }
    }

    /// Takes in the next segment. The one before it is sealed.
    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write();
        let sealed = list.last().cloned();
        *list = Arc::new(list.iter().cloned().chain([segment]).collect());
        drop(list);
        if let (Some(indexer), Some(sealed)) = (&*self.indexer.lock(), sealed) {
            indexer.push(&sealed);
        }
    }

    /// Puts a segment in the place of the one with its number, if that is still there.
    pub(crate) fn replace(&self, segment: Arc<Segment>) {
        let mut list = self.list.write();
        let replaced = |other: &Arc<Segment>| match other.number() == segment.number() {
            true => Arc::clone(&segment),
            false => Arc::clone(other),
        };
        *list = Arc::new(list.iter().map(replaced).collect());
        drop(list);
        if let Some(indexer) = &*self.indexer.lock() {
            indexer.push(&segment);
        }
    }

    /// Leaves out the segments up to this number. Gives them; readers that have them keep them.
    pub(crate) fn retire(&self, segment_number: u64) -> Vec<Arc<Segment>> {
        let mut list = self.list.write();
        let (gone, kept): (Vec<_>, Vec<_>) =
            list.iter().cloned().partition(|segment: &Arc<Segment>| segment.number() <= segment_number);
        *list = Arc::new(kept);
        drop(list);
        // Before the files go: see `sidecar::write_missing`.
        gone.iter().for_each(|segment| segment.is_retired.store(true, Ordering::SeqCst));
        gone
    }

    /// Has sidecars written on a thread of their own: now for all but the last segment, and later as segments are sealed.
    pub(crate) fn start_indexing(&self, medium: Arc<dyn Medium>, dir: PathBuf) -> Result<(), Error> {
        let sealed = self.snapshot();
        let sealed = sealed.iter().take(sealed.len().saturating_sub(1)).cloned();
        *self.indexer.lock() = Some(Indexer::start(medium, dir, sealed)?);
        Ok(())
    }

    /// Ends that. What is not done is done after the next open.
    pub(crate) fn end_indexing(&self) {
        let indexer = self.indexer.lock().take();
        if let Some(indexer) = indexer {
            indexer.end();
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.list.read())
    }
}
