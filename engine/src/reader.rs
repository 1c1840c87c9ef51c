//! Reading a journal: one event by its id, or all of a range, borrowed from the map.

use std::fmt;
use std::ops::{Bound, Range, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semj_format::{Record, SegmentOpen};
use semj_index::{Explain, Query};
use semj_recovery::{Effort, OpenMode, Proof, Report};

use crate::causality::{self, CausalChain};
use crate::error::Error;
use crate::examine;
use crate::medium::{Disk, Map, Medium};
use crate::query::{self, Matches};
use crate::segment::Figures;
use crate::segment::{Segment, Walk};

/// A view of a journal as it was at one moment.
///
/// It holds what was committed when it was made; what is committed later is seen by a later reader. Records
/// are borrowed from the mapped files and cost no copy.
#[derive(Clone)]
pub struct Reader {
    segments: Arc<Vec<Arc<Segment>>>,
    /// Where the last segment ended at that moment; the others had reached their final ends.
    end: usize,
    report: Arc<Report>,
}

impl Reader {
    /// Opens a journal for reading only. Takes no lock and changes no byte; everything is verified first.
    ///
    /// A torn tail, such as a live writer's last group has while it is written, is not shown.
    ///
    /// # Errors
    ///
    /// No journal there, an I/O error, or damage that `mode` does not accept ([`Error::Damaged`] has the
    /// whole report). [`OpenMode::Salvage`] shows what proves itself.
    pub fn open(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Self, Error> {
        Self::open_on(&Disk, dir.as_ref(), mode, Proof::Everything)
    }

    /// [`Reader::open`] at once, whatever the journal's size: what was proven and durable before is not looked at now but
    /// when it is read, each record against its checksum. [`Error::Damaged`] of such a part comes from there as
    /// [`Error::Rotten`].
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn open_newest(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Self, Error> {
        Self::open_on(&Disk, dir.as_ref(), mode, Proof::Newest)
    }

    /// [`Reader::open`] or [`Reader::open_newest`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn open_on(medium: &dyn Medium, dir: &Path, mode: OpenMode, proof: Proof) -> Result<Self, Error> {
        let _span = tracing::info_span!("read", dir = %dir.display()).entered();
        let effort = Effort { proof, threads: medium.threads() };
        let found = examine::examine_dir(medium, dir, mode, effort)?;
        let found = found.accepted(dir)?.of_some(dir)?;
        let report = Arc::new(found.report.clone());
        Ok(Self::new(Arc::new(found.into_segments(medium, dir)?), report))
    }

    /// Opens one file: a segment, native or compressed, as it stands in a journal or in its `quarantine/`, or what was cut off there
    /// from behind the end of one. Everything that proves itself in it is shown, whatever stands before or behind it in a journal.
    ///
    /// Where the SegmentOpen can't be read nobody knows what the clocks of its events were: see
    /// [`examine_file`](crate::recovery::examine_file).
    ///
    /// # Errors
    ///
    /// An I/O error; [`Error::NoOpening`] where nothing in the file proves itself, or it is of a version that is not known.
    pub fn open_file(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (report, map) = examine::examine_file(&Disk, path)?;
        let refused = report.segments.first().filter(|_| report.kept == 0 || report.refusal().is_some());
        if let Some(source) = refused.and_then(|segment| segment.fault) {
            return Err(Error::NoOpening { path: path.to_owned(), source });
        }
        Self::over(path, report, vec![KeptSegment { path: path.to_owned(), map, sidecar: None }])
    }

    /// A reader of segments that somebody keeps elsewhere than in a directory, one for each that `report` keeps. None of them is
    /// looked at now: each record is checked when it is read.
    ///
    /// # Errors
    ///
    /// [`Error::NoJournal`] where there is none.
    pub fn over(name: &Path, report: Report, kept: Vec<KeptSegment>) -> Result<Self, Error> {
        let mut segments = Vec::with_capacity(kept.len());
        for (report, KeptSegment { path, map, sidecar }) in report.kept_segments().iter().zip(kept) {
            let Some(opening) = report.opening else { continue };
            let (extents, figures) = (report.extents.clone(), Figures::of(report));
            segments.push(Arc::new(Segment::found(opening, path, map, extents, figures, false, sidecar)?));
        }
        match segments.is_empty() {
            true => Err(Error::NoJournal { dir: name.to_owned() }),
            false => Ok(Self::new(Arc::new(segments), Arc::new(report))),
        }
    }

    pub(crate) fn new(segments: Arc<Vec<Arc<Segment>>>, report: Arc<Report>) -> Self {
        let end = segments.last().map_or(0, |segment| segment.end());
        // What this reader decodes goes with it.
        let segments = Arc::new(segments.iter().map(Segment::anew).collect());
        Self { segments, end, report }
    }

    /// Gives back the memory that decoded blocks of compressed segments take, which is as much as was read of them: a
    /// record that is borrowed stays where it is, and here nothing is borrowed.
    pub fn release(&mut self) {
        self.segments = Arc::new(self.segments.iter().map(Segment::anew).collect());
    }

    /// What was found when the journal was opened.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The event with this id.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`], [`Error::Rotten`].
    pub fn get(&self, event_id: u64) -> Result<Option<Record<'_>>, Error> {
        // Ids of the journal's own records are 0.
        if event_id == 0 {
            return Ok(None);
        }
        let behind = self.segments.partition_point(|segment| segment.opening.next_event_id <= event_id);
        let Some(place) = behind.checked_sub(1) else { return Ok(None) };
        match self.segments.get(place) {
            Some(segment) => segment.get(event_id, self.end_of(place)),
            None => Ok(None),
        }
    }

    /// Events that match a question, in their order, or the last one first if that is asked. What the index shows to be
    /// irrelevant is not looked at, and contexts are decoded only where everything else is right.
    ///
    /// Errors come as from [`Reader::iter`].
    pub fn query<'r, 'q>(&'r self, query: &'q Query) -> Matches<'r, 'q> {
        Matches::new(self, query)
    }

    /// A reader for each segment that a question is about, in its direction. Asked one after the other they give what
    /// [`Reader::query`] gives, but for the question's limit; and what was decoded of compressed segments is given back with each,
    /// so that no more than a segment is in memory.
    pub fn parts(&self, query: &Query) -> impl Iterator<Item = Self> {
        let Range { start, end } = query::segments_with_ids(&self.segments, query);
        let is_reverse = query.is_reverse();
        (start..end).map(move |place| if is_reverse { start + end - 1 - place } else { place }).filter_map(
            |place| {
                let segments = Arc::new(vec![self.segments.get(place)?.anew()]);
                Some(Self { segments, end: self.end_of(place), report: Arc::clone(&self.report) })
            },
        )
    }

    /// Answers a question and throws the answers away: what it took.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`], [`Error::Rotten`].
    pub fn explain(&self, query: &Query) -> Result<Explain, Error> {
        let mut matches = self.query(query);
        for found in matches.by_ref() {
            found?;
        }
        Ok(*matches.explain())
    }

    /// Why an event happened, back to the root cause, and what came of it, over all parents and causality links; no more than
    /// `limit` causes and `limit` effects. `None` if there is no such event.
    ///
    /// Causes are what events name themselves: their parents, and links of their own; where there is neither, the root cause.
    /// Effects are what names an event as parent, or in a link.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`], [`Error::Rotten`].
    pub fn chain(&self, event_id: u64, limit: usize) -> Result<Option<CausalChain<'_>>, Error> {
        causality::chain(self, event_id, limit)
    }

    pub(crate) fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// The events whose ids lie in this range, in their order. Behind an error there are no more.
    ///
    /// A record that was not looked at when the journal was opened and turns out to be damaged gives [`Error::Rotten`].
    /// A file that somebody makes shorter while it is read gives [`Error::Changed`]; of a record that was given out
    /// before, what is gone then reads as zeros, and [`Reader::check`] says so.
    pub fn iter(&self, event_ids: impl RangeBounds<u64>) -> Events<'_> {
        let first = match event_ids.start_bound() {
            Bound::Included(&id) => id,
            Bound::Excluded(&id) => id.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let last = match event_ids.end_bound() {
            Bound::Included(&id) => id,
            // Ids begin at 1: below it there is nothing.
            Bound::Excluded(&id) => id.saturating_sub(1),
            Bound::Unbounded => u64::MAX,
        };
        // The last segment whose lower bound the id reaches; the ones before end below it.
        let behind = self.segments.partition_point(|segment| segment.opening.next_event_id <= first);
        let at = behind.saturating_sub(1);
        let records = self.records_of(at, |segment, end| segment.walk_from(first, end));
        Events { records: Records { last_event_id: last, ..records }, first, last }
    }

    /// Whether everything that was read up to now was in the files.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`]: somebody has made a file shorter.
    pub fn check(&self) -> Result<(), Error> {
        self.segments.iter().try_for_each(|segment| segment.check())
    }

    /// All records, the journal's own included, with the places where they stand.
    pub fn records(&self) -> Records<'_> {
        self.records_of(0, |segment, end| segment.walk(0, end))
    }

    fn records_of<'r>(
        &'r self,
        segment: usize,
        walk: impl FnOnce(&'r Segment, usize) -> Walk<'r>,
    ) -> Records<'r> {
        let walk = self.segments.get(segment).map(|first| walk(first, self.end_of(segment)));
        Records { reader: self, segment, walk, last_event_id: u64::MAX }
    }

    /// Where a segment ends for this reader.
    pub(crate) fn end_of(&self, segment: usize) -> usize {
        match self.segments.get(segment) {
            Some(_) if segment + 1 == self.segments.len() => self.end,
            Some(segment) => segment.end(),
            None => 0,
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("segments", &self.segments.len())
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// A segment for [`Reader::over`].
#[derive(Debug)]
pub struct KeptSegment {
    /// What errors call it.
    pub path: PathBuf,
    /// Its bytes in the native form, up to its end at least.
    pub map: Box<dyn Map>,
    /// Its sidecar, where there is one.
    pub sidecar: Option<Box<dyn Map>>,
}

/// A record and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Located<'r> {
    /// The SegmentOpen of the record's segment: its number, its clocks.
    pub opening: &'r SegmentOpen,
    /// Offset in the segment's file.
    pub offset: u64,
    /// The record.
    pub record: Record<'r>,
}

/// Records in their order, the journal's own included.
#[derive(Clone, Debug)]
pub struct Records<'r> {
    reader: &'r Reader,
    segment: usize,
    walk: Option<Walk<'r>>,
    /// No segment is entered in which all ids are higher.
    last_event_id: u64,
}

impl Records<'_> {
    /// Whether behind the event that was given last, in its segment, all ids are higher.
    #[cold]
    fn is_ascending(&self) -> bool {
        self.reader.segments.get(self.segment).is_none_or(|segment| segment.is_ascending())
    }
}

impl<'r> Iterator for Records<'r> {
    type Item = Result<Located<'r>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let opening = &self.reader.segments.get(self.segment)?.opening;
            match self.walk.as_mut()?.next() {
                Some(Ok((offset, record))) => {
                    return Some(Ok(Located { opening, offset: offset as u64, record }));
                }
                Some(Err(error)) => {
                    self.walk = None;
                    return Some(Err(error));
                }
                None => {}
            }
            self.segment += 1;
            let end = self.reader.end_of(self.segment);
            let next = self.reader.segments.get(self.segment);
            let next = next.filter(|segment| segment.opening.next_event_id <= self.last_event_id);
            self.walk = next.map(|segment| segment.walk(0, end));
        }
    }
}

/// Events of a range of ids, in their order.
#[derive(Clone, Debug)]
pub struct Events<'r> {
    records: Records<'r>,
    first: u64,
    last: u64,
}

impl<'r> Events<'r> {
    /// The same events with the places where they stand.
    pub fn located(mut self) -> impl Iterator<Item = Result<Located<'r>, Error>> {
        std::iter::from_fn(move || self.next_located())
    }

    #[inline]
    fn next_located(&mut self) -> Option<Result<Located<'r>, Error>> {
        loop {
            let located = match self.records.next()? {
                Ok(located) => located,
                Err(error) => return Some(Err(error)),
            };
            if located.record.is_control() || located.record.event_id() < self.first {
                continue;
            }
            if located.record.event_id() > self.last {
                if self.records.is_ascending() {
                    self.records.walk = None;
                    return None;
                }
                continue;
            }
            return Some(Ok(located));
        }
    }
}

impl<'r> Iterator for Events<'r> {
    type Item = Result<Record<'r>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_located()?.map(|located| located.record))
    }
}
