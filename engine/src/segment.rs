//! A segment as readers see it: mapped, with an end up to which it is committed, and an index.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;
use semj_format::{JournalHeader, Record, RecordError, Records, SegmentOpen};
use semj_index::{Places, Sought};
use semj_recovery::Extent;

use crate::error::Error;
use crate::medium::Map;

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
    index: Index,
    /// Whether every record was held against its checksum since the file was mapped.
    is_verified: AtomicBool,
    /// A read has found that the file is not what it was.
    is_changed: AtomicBool,
}

/// Where events stand.
#[derive(Debug)]
enum Index {
    /// Of a segment that is written.
    Growing(RwLock<Places>),
    /// Of one that was found, made when it is asked for.
    Found(OnceLock<Places>),
}

impl Segment {
    /// A segment that has just been created and whose records end at `end`.
    pub(crate) fn active(opening: SegmentOpen, path: PathBuf, map: Box<dyn Map>, end: usize) -> Self {
        let extents = vec![Extent { start: JournalHeader::SIZE, end: map.size() }];
        Self {
            opening,
            path,
            map,
            extents,
            end: AtomicUsize::new(end),
            index: Index::Growing(RwLock::new(Places::new())),
            is_verified: AtomicBool::new(true),
            is_changed: AtomicBool::new(false),
        }
    }

    /// A segment that was found, with its records standing in `extents`. If it is not verified, its records are checked
    /// when they are read.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] since they were.
    pub(crate) fn found(
        opening: SegmentOpen,
        path: PathBuf,
        map: Box<dyn Map>,
        extents: Vec<Extent>,
        is_verified: bool,
    ) -> Result<Self, Error> {
        let end = extents.last().map_or(0, |extent| extent.end);
        let segment = Self {
            opening,
            path,
            map,
            extents,
            end: AtomicUsize::new(end),
            index: Index::Found(OnceLock::new()),
            is_verified: AtomicBool::new(is_verified),
            is_changed: AtomicBool::new(false),
        };
        if is_verified {
            // All of it has just been read.
            segment.seek(0)?;
        }
        Ok(segment)
    }

    /// Reads the whole segment and gives where its events stand.
    fn make_index(&self) -> Result<Places, Error> {
        let mut index = Places::new();
        for found in self.walk(0, self.end()) {
            let (offset, record) = found?;
            if !record.is_control() {
                index.push(record.event_id(), offset);
            }
        }
        // An index that lacks events would deny that they are there.
        if !self.map.is_intact() {
            return Err(self.changed());
        }
        self.is_verified.store(true, Ordering::Relaxed);
        Ok(index)
    }

    /// Offset of an event at or before the first one whose id is at least `event_id`; `None` if there is none.
    fn seek(&self, event_id: u64) -> Result<Option<usize>, Error> {
        let sought = match &self.index {
            Index::Growing(index) => index.read().view().seek(event_id),
            Index::Found(index) => match index.get() {
                Some(index) => index.view().seek(event_id),
                None => {
                    let made = self.make_index()?;
                    index.get_or_init(|| made).view().seek(event_id)
                }
            },
        };
        Ok(match sought {
            Sought::Behind => None,
            Sought::From { offset, .. } => Some(offset),
            Sought::Anywhere => Some(0),
        })
    }

    /// Makes a group visible that the committer has written before `end`: first its events in the index, then
    /// the end.
    pub(crate) fn publish(&self, events: impl Iterator<Item = (u64, usize)>, end: usize) {
        if let Index::Growing(index) = &self.index {
            let mut index = index.write();
            for (event_id, offset) in events {
                index.push(event_id, offset);
            }
        }
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
    fn changed(&self) -> Error {
        self.is_changed.store(true, Ordering::Relaxed);
        Error::changed(&self.path, &*self.map)
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
        match self.seek(event_id) {
            Ok(Some(offset)) => self.walk(offset, end),
            Ok(None) => self.walk(end, end),
            // A walk from the beginning comes to what is wrong, and says so.
            Err(_) => self.walk(0, end),
        }
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
        if !self.map.is_intact() {
            return self.changed();
        }
        Error::Rotten { path: self.path.clone(), offset: offset as u64, source }
    }

    /// A walk over the records between two offsets, of which the first is that of a record.
    pub(crate) fn walk(&self, from: usize, end: usize) -> Walk<'_> {
        let first = self.extents.partition_point(|extent| extent.end <= from);
        let extents = self.extents.get(first..).unwrap_or_default();
        Walk { segment: self, extents, base: 0, records: Records::new(&[], 0), from, end }
    }
}

/// Records of one segment, control records included, each with its offset.
#[derive(Clone, Debug)]
pub(crate) struct Walk<'s> {
    segment: &'s Segment,
    extents: &'s [Extent],
    /// Offset in the segment of the bytes that `records` walks.
    base: usize,
    records: Records<'s>,
    from: usize,
    end: usize,
}

impl<'s> Iterator for Walk<'s> {
    type Item = Result<(usize, Record<'s>), Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let error = match self.records.next() {
                Some(Ok((offset, record))) if self.segment.holds(&record) => {
                    match self.segment.check_record(self.base + offset, &record) {
                        Ok(()) => return Some(Ok((self.base + offset, record))),
                        Err(error) => Some(error),
                    }
                }
                // The extents were checked when the segment was found or written: somebody has changed the file.
                Some(Ok(_)) => Some(self.segment.changed()),
                Some(Err(source)) if !self.segment.is_verified.load(Ordering::Relaxed) => {
                    Some(self.segment.rotten(self.base + self.records.offset(), source))
                }
                Some(Err(_)) => Some(self.segment.changed()),
                None => None,
            };
            if let Some(error) = error {
                self.records = Records::new(&[], 0);
                self.extents = &[];
                return Some(Err(error));
            }
            let (extent, rest) = self.extents.split_first()?;
            self.extents = rest;
            self.base = extent.start.max(self.from);
            self.records = Records::new(self.segment.map.bytes(self.base..extent.end.min(self.end)), 0);
        }
    }
}

/// The segments of an open journal, oldest first. Readers take the list as it is at one moment; the committer
/// puts a new list in its place.
#[derive(Debug)]
pub(crate) struct Segments {
    list: RwLock<Arc<Vec<Arc<Segment>>>>,
}

impl Segments {
    pub(crate) fn new(list: Vec<Arc<Segment>>) -> Self {
        Self { list: RwLock::new(Arc::new(list)) }
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        let mut list = self.list.write();
        *list = Arc::new(list.iter().cloned().chain([segment]).collect());
    }

    pub(crate) fn snapshot(&self) -> Arc<Vec<Arc<Segment>>> {
        Arc::clone(&self.list.read())
    }
}
