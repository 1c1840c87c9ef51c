//! The index of one segment, from wherever it can be had: growing in memory, out of the sidecar, or made by a walk.
//!
//! An answer never depends on which. A sidecar is copied into memory before it is checked, so that what was checked is
//! what is used, and whoever follows it checks the frame that it leads to; if there is none, [`SegmentIndex::distrust`]
//! makes an index from the segment take its place.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use semj_format::JournalHeader;
use semj_index::filter::Unit;
use semj_index::{Blocks, BlocksView, Builder, Header, OwnedSidecar, Places, PlacesView, Sought, builder};

use crate::error::Error;
use crate::medium::Map;
use crate::segment::Segment;

/// A sidecar has no more bytes than its segment, and so many for one that is next to empty.
const SIZE_SLACK: usize = 64 << 10;
/// Bytes of records that become known without letting go of the lock.
const CATCH_UP_STEP: usize = 64 << 10;

/// See the module.
pub(crate) struct SegmentIndex {
    /// Of a segment that this process writes, until its sidecar is written.
    growing: Option<Growing>,
    /// The sidecar's file, until it is read.
    file: Mutex<Option<Box<dyn Map>>>,
    /// What the file begins with, which is enough to skip the segment.
    head: OnceLock<Head>,
    /// The sidecar that the file held.
    read: OnceLock<OwnedSidecar>,
    /// What was found by it was not there.
    is_distrusted: AtomicBool,
    /// The same, made from the segment.
    made: OnceLock<OwnedSidecar>,
    /// Only where events stand, which is made sooner.
    places: OnceLock<Places>,
}

struct Growing {
    /// Readers want them at once, and they cost next to nothing.
    places: RwLock<Option<Places>>,
    /// As far as somebody has asked for them.
    blocks: RwLock<Option<Blocks>>,
}

struct Head {
    header: Header,
    filter: Vec<Unit>,
}

impl SegmentIndex {
    fn new(growing: Option<Growing>, file: Option<Box<dyn Map>>) -> Self {
        Self {
            growing,
            file: Mutex::new(file),
            head: OnceLock::new(),
            read: OnceLock::new(),
            is_distrusted: AtomicBool::new(false),
            made: OnceLock::new(),
            places: OnceLock::new(),
        }
    }

    /// Of a segment that this process writes.
    pub(crate) fn growing(segment_size: usize) -> Self {
        let growing = Growing {
            places: RwLock::new(Some(Places::new())),
            blocks: RwLock::new(Some(Blocks::new(segment_size))),
        };
        Self::new(Some(growing), None)
    }

    /// Of a segment that was found, with its sidecar if there is one.
    pub(crate) fn found(sidecar: Option<Box<dyn Map>>) -> Self {
        Self::new(None, sidecar)
    }

    /// Takes note of events that are about to be published.
    pub(crate) fn push(&self, events: impl Iterator<Item = (u64, usize)>) {
        if let Some(growing) = &self.growing
            && let Some(places) = &mut *growing.places.write()
        {
            events.for_each(|(event_id, offset)| places.push(event_id, offset));
        }
    }

    /// The sidecar, if it is of use.
    fn sidecar(&self, segment: &Segment) -> Option<&OwnedSidecar> {
        if self.is_distrusted.load(Ordering::Acquire) {
            return None;
        }
        if self.read.get().is_none() {
            // Who comes second waits for the first one to have read it.
            let mut file = self.file.lock();
            if self.read.get().is_none()
                && let Some(sidecar) = read(segment, file.take()?)
            {
                drop(self.read.set(sidecar));
            }
        }
        self.read.get()
    }

    /// The whole index; made from the segment, all of which is read for it, where there is none.
    fn whole(&self, segment: &Segment) -> Result<&OwnedSidecar, Error> {
        if let Some(sidecar) = self.made.get().or_else(|| self.sidecar(segment)) {
            return Ok(sidecar);
        }
        let made = make(segment)?;
        Ok(self.made.get_or_init(|| made))
    }

    /// Where to look for the first event whose id is at least `event_id`.
    pub(crate) fn seek(&self, segment: &Segment, event_id: u64) -> Result<Sought, Error> {
        self.with_places(segment, |places| places.seek(event_id))
    }

    /// Whether the ids grow from event to event.
    pub(crate) fn is_ascending(&self, segment: &Segment) -> bool {
        self.with_places(segment, |places| places.is_ascending()).unwrap_or(false)
    }

    /// Where to begin to look for an id that no place leads to, if that is known.
    #[cold]
    pub(crate) fn seek_block(&self, segment: &Segment, event_id: u64, end: usize) -> Result<usize, Error> {
        self.catch_up(segment, end)?;
        let found = self.with_blocks(segment, |blocks| {
            // What is behind the last block that is full has none.
            let behind = blocks.len().checked_sub(1).and_then(|last| blocks.get(last)).map(|last| last.end());
            blocks.seek(event_id).or(behind)
        })?;
        Ok(found.unwrap_or(0))
    }

    fn with_places<T>(&self, segment: &Segment, ask: impl FnOnce(PlacesView<'_>) -> T) -> Result<T, Error> {
        if let Some(growing) = &self.growing
            && let Some(places) = &*growing.places.read()
        {
            return Ok(ask(places.view()));
        }
        if let Some(sidecar) = self.made.get().or_else(|| self.sidecar(segment)) {
            return Ok(ask(sidecar.places()));
        }
        let places = match self.places.get() {
            Some(places) => places,
            None => {
                let made = make_places(segment)?;
                self.places.get_or_init(|| made)
            }
        };
        Ok(ask(places.view()))
    }

    /// What is known of the whole segment without reading it, or more of the sidecar than its beginning.
    pub(crate) fn with_head<T>(
        &self,
        segment: &Segment,
        ask: impl FnOnce(&Header, &[Unit]) -> T,
    ) -> Option<T> {
        if self.is_distrusted.load(Ordering::Acquire) {
            return None;
        }
        if let Some(whole) = self.made.get().or_else(|| self.read.get()) {
            return Some(ask(whole.header(), whole.sidecar().filter));
        }
        if self.head.get().is_none() {
            let file = self.file.lock();
            let map = file.as_ref()?;
            let header = plausible_header(segment, &**map)?;
            let bytes = map.bytes(0..header.head_size().min(map.size())).to_vec();
            let (header, filter) = Header::parse(&bytes, &segment.origin()?).ok()?;
            drop(self.head.set(Head { header, filter: filter.to_vec() }));
        }
        self.head.get().map(|head| ask(&head.header, &head.filter))
    }

    /// Has the blocks known up to `end`, where the segment is growing.
    ///
    /// A thread that gives way to everybody does it too, so that none has the lock for long: others wait for it.
    pub(crate) fn catch_up(&self, segment: &Segment, end: usize) -> Result<(), Error> {
        let Some(growing) = &self.growing else { return Ok(()) };
        let mut is_complete = false;
        while !is_complete {
            let mut blocks = growing.blocks.write();
            let Some(blocks) = &mut *blocks else { break };
            let start = blocks.end().max(JournalHeader::SIZE);
            is_complete = true;
            for found in segment.walk(start, end) {
                let (offset, record) = found?;
                blocks.push(offset, &record);
                if offset - start >= CATCH_UP_STEP {
                    is_complete = false;
                    break;
                }
            }
        }
        Ok(())
    }

    /// The blocks that are known, and whether they came from a file. Where the segment grows, there may be more behind
    /// them; where it does not, they are all.
    pub(crate) fn with_blocks<T>(
        &self,
        segment: &Segment,
        ask: impl FnOnce(BlocksView<'_>) -> T,
    ) -> Result<T, Error> {
        if let Some(growing) = &self.growing
            && let Some(blocks) = &*growing.blocks.read()
        {
            return Ok(ask(blocks.view()));
        }
        Ok(ask(self.whole(segment)?.sidecar().blocks))
    }

    /// Places behind an offset, of a segment that grows.
    pub(crate) fn places_behind(&self, offset: usize) -> Vec<usize> {
        match &self.growing {
            Some(growing) => match &*growing.places.read() {
                Some(places) => places.view().offsets_behind(offset).collect(),
                None => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// Whether it has come from a file.
    pub(crate) fn is_read(&self) -> bool {
        self.made.get().is_none() && self.read.get().is_some() && !self.is_distrusted.load(Ordering::Acquire)
    }

    /// What was found by the sidecar is not there. If the segment itself is not to blame for that, the sidecar is not used any
    /// more, but an index that is made from the segment.
    ///
    /// # Errors
    ///
    /// What is wrong with the segment. Then the sidecar is used as before.
    #[cold]
    pub(crate) fn distrust(&self, segment: &Segment, offset: usize) -> Result<(), Error> {
        if self.made.get().is_none() {
            let made = make(segment)?;
            self.made.get_or_init(|| made);
        }
        tracing::warn!(
            segment = segment.number(),
            offset,
            "a sidecar leads to what is not there: it is not used"
        );
        self.is_distrusted.store(true, Ordering::Release);
        Ok(())
    }

    /// The sidecar of a segment that has reached its end, made anew if the file that there was is of no use.
    pub(crate) fn finish(&self, segment: &Segment) -> Result<OwnedSidecar, Error> {
        if let Some(made) = self.made.get() {
            return Ok(made.clone());
        }
        if let Some(growing) = &self.growing {
            self.catch_up(segment, segment.end())?;
            if let (Some(places), Some(blocks), Some(origin)) =
                (&*growing.places.read(), &*growing.blocks.read(), segment.origin())
            {
                return Ok(builder::finish(places, blocks.clone(), &origin));
            }
        }
        make(segment)
    }

    /// Whether a file is there that begins as the segment's sidecar does.
    pub(crate) fn has_file(&self, segment: &Segment) -> bool {
        self.with_head(segment, |_, _| ()).is_some()
    }

    /// The sidecar is in a file now, and memory is given back.
    pub(crate) fn written(&self, map: Box<dyn Map>) {
        if self.read.get().is_none() {
            *self.file.lock() = Some(map);
        }
        if let Some(growing) = &self.growing {
            *growing.places.write() = None;
            *growing.blocks.write() = None;
        }
    }
}

/// The header of a sidecar, if the file has the size that it says and that a segment's can have. It is asked before there is
/// memory for what stands behind it: a file can have any size.
fn plausible_header(segment: &Segment, map: &dyn Map) -> Option<Header> {
    let size = map.size();
    let header = Header::decode(map.bytes(0..Header::SIZE.min(size)).first_chunk()?);
    let is_plausible = header.sidecar_size() == size as u64 && size <= segment.size() + SIZE_SLACK;
    if !is_plausible {
        tracing::debug!(segment = segment.number(), size, "sidecar not used: it has another size");
    }
    is_plausible.then_some(header)
}

/// Reads a sidecar, if it is one of this segment.
fn read(segment: &Segment, map: Box<dyn Map>) -> Option<OwnedSidecar> {
    let origin = segment.origin()?;
    plausible_header(segment, &*map)?;
    match OwnedSidecar::parse(map.bytes(0..map.size()).to_vec(), &origin) {
        Ok(sidecar) if sidecar.sidecar().is_seamless(segment.end()) => Some(sidecar),
        Ok(_) => {
            tracing::debug!(segment = segment.number(), "sidecar not used: its blocks leave out records");
            None
        }
        Err(error) => {
            tracing::debug!(segment = segment.number(), %error, "sidecar not used");
            None
        }
    }
}

/// Reads a whole segment and makes its index.
pub(crate) fn make(segment: &Segment) -> Result<OwnedSidecar, Error> {
    let mut builder = Builder::new(segment.size());
    segment.read_all(|offset, record| builder.push(offset, record))?;
    // Where records stand, there is a header before them.
    let origin = segment.origin().ok_or_else(|| segment.changed())?;
    Ok(builder.finish(&origin))
}

fn make_places(segment: &Segment) -> Result<Places, Error> {
    let mut places = Places::new();
    segment.read_all(|offset, record| {
        if !record.is_control() {
            places.push(record.event_id(), offset);
        }
    })?;
    Ok(places)
}

impl fmt::Debug for SegmentIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentIndex").field("is_growing", &self.growing.is_some()).finish_non_exhaustive()
    }
}
