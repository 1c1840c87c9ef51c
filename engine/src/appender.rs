//! The appender: takes records from the front end and appends them to the active segment as commit groups.
//!
//! It owns the active segment and the chain, and never waits for the disk: a full segment gets its seal, and the next
//! one is begun, in memory. What of that has to reach the disk, and in which order, it hands out as a [`Flush`].

use std::path::PathBuf;
use std::sync::Arc;

use semj_format::{Compacted, EventType};

use crate::batch::Batch;
use crate::directory;
use crate::error::Error;
use crate::flush::{Flush, FullSegment};
use crate::front::{Front, GROUP_SIZE};
use crate::medium::Medium;
use crate::metrics::Recorder;
use crate::options::{GroupOrder, Rotation};
use crate::residency::{Memory, WriteCost};
use crate::retention::{self, Ended, Needs, Plan, Rest, Retention};
use crate::segment::Segments;
use crate::watermark::Mark;
use crate::writeback::{self, Writeback};
use crate::writer::{Chain, NewSegment, Previous, SegmentWriter, Spare};

const PAGE_SIZE: u64 = 4096;

/// Bytes of segments that may be full and not yet sealed on the disk. Then appending waits for the disk.
const UNSEALED_BYTES_MAX: u64 = 256 << 20;
/// So many segments may be, however large they are.
const UNSEALED_LARGE_MAX: u64 = 4;
/// And no more than so many, however small: each is an open file.
const UNSEALED_SMALL_MAX: u64 = 16;

/// Bytes of memory for a group and the records that the journal adds to it.
const BATCH_CAPACITY: usize = GROUP_SIZE + (4 << 10);

/// A segment that was full in less time is followed by another such one: the file for the one after it is made at
/// once, because a busy disk needs a good part of that time to reserve the space.
const FAST_SEGMENT_NS: i64 = 1_000_000_000;

/// A flush of fewer bytes is small.
const SMALL_FLUSH: u64 = 64 << 10;
/// After so many small flushes in a row more of them are expected.
const SMALL_FLUSHES: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Appender {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) dir: PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) segments: Arc<Segments>,
    writer: SegmentWriter,
    chain: Chain,
    last_committed_id: u64,
    batch: Batch,
    group_order: GroupOrder,
    full: Vec<FullSegment>,
    /// Segments that became full and are not sealed on the disk, those in a flush that goes on included.
    unsealed: usize,
    /// The last commit that a flush covers, and where it ends.
    flushed_upto: u64,
    flushed_end: u64,
    /// Up to here the disk was told to begin to write the active segment.
    started_end: u64,
    /// Flushes of few bytes, one after the other.
    small_flushes: u32,
    spare: Option<Spare>,
    /// None could be made for the next segment: the appender makes its file itself.
    goes_without_spare: bool,
    /// When the active segment was begun, in monotonic nanoseconds, and whether the one before was full soon.
    began_ns: i64,
    is_fast: bool,
    keeping: Keeping,
    write_cost: WriteCost,
    /// Something that was begun has not come to its end: nothing may be written behind it.
    is_broken: bool,
}

/// When segments end before they are full, and how many are kept.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    pub(crate) rotation: Rotation,
    pub(crate) retention: Retention,
    pub(crate) needs: Option<Needs>,
    /// What the journal begins behind, by the newest segment.
    pub(crate) retired: Option<Compacted>,
}

/// Limits, and what is known of who needs what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    retention: &'a Retention,
    lowest_needed: Option<u64>,
}

/// How far an append came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// To where it was asked to go.
    All,
    /// One group further.
    Group,
    /// To the end of a segment that can't be left before others are sealed on the disk.
    Stalled,
}

impl Appender {
    pub(crate) fn new(
        medium: Arc<dyn Medium>,
        dir: PathBuf,
        segment_size: u64,
        segments: Arc<Segments>,
        writer: SegmentWriter,
        chain: Chain,
        last_committed_id: u64,
    ) -> Self {
        Self {
            medium,
            dir,
            segment_size,
            segments,
            writer,
            flushed_upto: chain.commit_sequence,
            chain,
            last_committed_id,
            batch: Batch::with_capacity(BATCH_CAPACITY),
            group_order: GroupOrder::default(),
            full: Vec::new(),
            unsealed: 0,
            flushed_end: 0,
            started_end: 0,
            small_flushes: 0,
            spare: None,
            goes_without_spare: false,
            began_ns: 0,
            is_fast: false,
            keeping: Keeping::default(),
            write_cost: WriteCost::default(),
            is_broken: false,
        }
    }

    pub(crate) fn with_group_order(self, group_order: GroupOrder) -> Self {
        Self { group_order, ..self }
    }

    /// With limits of how much is kept, and what was retired before.
    pub(crate) fn with_keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = keeping;
        self
    }

    /// Does something that writes. After a failure, or a panic, nothing is ever written again: bytes that stand behind
    /// what was not written would contradict the chain.
    pub(crate) fn write<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.is_broken {
            return Err(Error::Stopped);
        }
        self.is_broken = true;
        let done = work(self)?;
        self.is_broken = false;
        Ok(done)
    }

    /// Appends a group of what stands below the place `upto` in the front end. Readers see it on return.
    pub(crate) fn append(
        &mut self,
        front: &Front,
        upto: u64,
        recorder: &Recorder,
    ) -> Result<Appended, Error> {
        // A segment that ends before it is full ends later then: each that is not sealed is an open file.
        let is_stalled = self.unsealed >= self.unsealed_max();
        if is_stalled {
            // Whoever asks for no more than what others have appended meanwhile need not wait for the disk.
            if front.has_drained(upto) {
                return Ok(Appended::All);
            }
            // A batch outside of the slab goes into one group, however large it is.
            if !self.writer.has_room(GROUP_SIZE.max(front.external_bytes())) {
                return Ok(Appended::Stalled);
            }
        }
        let monotonic_ns = self.medium.monotonic_ns();
        let events_max = self.writer.events_left(&self.keeping.rotation);
        let is_complete = front.gather(&mut self.batch, upto, events_max, monotonic_ns);
        if !self.batch.is_empty() {
            let events = u64::from(self.batch.events());
            if !self.writer.has_room(self.batch.len())
                || !is_stalled && self.writer.is_due(&self.keeping.rotation, events, monotonic_ns)
            {
                self.rotate(None, &[], recorder)?;
            }
            if self.group_order == GroupOrder::Priority {
                self.batch.order_by_priority();
            }
            let bytes = self.writer.append(
                &mut self.batch,
                &mut self.chain,
                front,
                &*self.medium,
                &mut self.write_cost,
            )?;
            self.last_committed_id = self.batch.last_event_id().max(self.last_committed_id);
            recorder.committed(&self.batch, bytes, &self.mark());
        }
        self.batch.clear(BATCH_CAPACITY);
        Ok(if is_complete { Appended::All } else { Appended::Group })
    }

    fn unsealed_max(&self) -> usize {
        let fitting = UNSEALED_BYTES_MAX / self.segment_size;
        fitting.clamp(UNSEALED_LARGE_MAX, UNSEALED_SMALL_MAX) as usize
    }

    /// Whether the active segment is older than it may become.
    pub(crate) fn is_old(&self) -> bool {
        let rotation = Rotation { max_events: None, ..self.keeping.rotation };
        self.writer.is_due(&rotation, 0, self.medium.monotonic_ns())
    }

    /// What is retired now, by the journal's own limits or as somebody wants it.
    fn retire(&self, wanted: Option<Wanted<'_>>) -> Option<Compacted> {
        let own = self.own();
        let mut all = [own, wanted].into_iter().flatten().filter(|of| of.retention.is_any()).peekable();
        all.peek()?;
        let ended = self.ended();
        let rest = Rest::new(self.writer.end(), self.has_events(), self.segment_size);
        let now_ns = self.medium.clock_anchor().wall_clock_ns;
        let plans = all.map(|of| Plan::new(&ended, rest, of.retention, now_ns, of.lowest_needed));
        let plan = plans.fold(Plan::default(), Plan::or);
        plan.statement(&ended, self.keeping.retired.as_ref(), now_ns)
    }

    /// The journal's own limits, if it has any and it can be learned what is needed.
    fn own(&self) -> Option<Wanted<'_>> {
        let retention = Some(&self.keeping.retention).filter(|own| own.is_any())?;
        let warn = |error: &Error| tracing::warn!(%error, "nothing is retired: what is needed is not known");
        self.wanted(retention).inspect_err(warn).ok()
    }

    /// Limits, and who needs what now.
    pub(crate) fn wanted<'a>(&self, retention: &'a Retention) -> Result<Wanted<'a>, Error> {
        Ok(Wanted { retention, lowest_needed: self.lowest_needed(retention)? })
    }

    fn lowest_needed(&self, retention: &Retention) -> Result<Option<u64>, Error> {
        retention::lowest_needed(&*self.medium, &self.dir, retention, self.keeping.needs.as_ref())
    }

    /// Whether a rotation would retire something by these limits. Else they are not passed as the journal is, or somebody needs
    /// what would go. An error where it can't be learned what is needed: whoever asks is to know why nothing went.
    pub(crate) fn would_retire(&self, retention: &Retention) -> Result<bool, Error> {
        let lowest_needed = self.lowest_needed(retention)?;
        let rest = Rest::written(self.segment_size, self.has_events());
        let now_ns = self.medium.clock_anchor().wall_clock_ns;
        let plan = Plan::new(&self.ended(), rest, retention, now_ns, lowest_needed);
        Ok(plan.count > 0)
    }

    /// Whether the active segment holds events.
    fn has_events(&self) -> bool {
        self.last_committed_id >= self.writer.segment().opening.next_event_id
    }

    /// The segments that have ended and are not retired. Those that are stand in the list until they are removed.
    fn ended(&self) -> Vec<Ended> {
        let upto = self.keeping.retired.map_or(0, |retired| retired.segment_number);
        let mut ended = Ended::of_segments(&self.segments.snapshot());
        ended.retain(|segment| segment.segment_number > upto);
        ended
    }

    /// Ends the active segment and begins the next, which says what is retired by the journal's limits or as somebody wants it,
    /// and what these notes say.
    pub(crate) fn rotate(
        &mut self,
        wanted: Option<Wanted<'_>>,
        notes: &[(EventType, Vec<u8>)],
        recorder: &Recorder,
    ) -> Result<(), Error> {
        // A segment with more digits in its name would be none: see `directory::segment_number`.
        if self.mark().segment_number >= directory::SEGMENT_NUMBER_MAX {
            return Err(Error::Exhausted { what: "segment numbers" });
        }
        let retiring = self.retire(wanted);
        let now = self.medium.monotonic_ns();
        self.is_fast = self.began_ns != 0 && now.saturating_sub(self.began_ns) < FAST_SEGMENT_NS;
        self.began_ns = now;
        let unsealed_end = self.writer.end();
        let (sealing, previous) = self.writer.seal(&mut self.chain, now)?;
        let sealing_bytes = previous.end_offset - unsealed_end;
        let new = NewSegment {
            medium: &*self.medium,
            dir: &self.dir,
            size: self.segment_size,
            number: previous.segment_number + 1,
            next_event_id: self.writer.next_event_id(),
            previous,
            spare: self.spare.take(),
        };
        let retired = retiring.or(self.keeping.retired);
        let notes: Vec<_> =
            retired.as_ref().map(retention::note).into_iter().chain(notes.iter().cloned()).collect();
        let (writer, naming) = SegmentWriter::begin(new, &notes, &mut self.chain)?;
        self.writer = writer;
        self.keeping.retired = retired;
        let gone_upto = retiring.map(|retired| retired.segment_number);
        let memory = self.write_cost.memory(now);
        self.full.push(FullSegment { sealing, next: Some(naming), gone_upto, memory });
        self.unsealed += 1;
        self.goes_without_spare = false;
        (self.flushed_end, self.started_end) = (0, 0);
        self.segments.push(Arc::clone(self.writer.segment()));
        recorder.began_segment(&self.mark(), sealing_bytes + self.writer.end(), retired);
        Ok(())
    }

    /// Ends the active segment for good.
    pub(crate) fn close(&mut self, recorder: &Recorder) -> Result<(), Error> {
        let unsealed_end = self.writer.end();
        let (sealing, Previous { end_offset, .. }) =
            self.writer.seal(&mut self.chain, self.medium.monotonic_ns())?;
        self.full.push(FullSegment { sealing, next: None, gone_upto: None, memory: Memory::AtHand });
        recorder.sealed(&self.mark(), end_offset - unsealed_end);
        Ok(())
    }

    /// Gives up the file that was made for the next segment.
    pub(crate) fn take_spare(&mut self) -> Option<Spare> {
        self.spare.take()
    }

    /// How far the journal goes now.
    pub(crate) fn mark(&self) -> Mark {
        self.writer.mark(&self.chain, self.last_committed_id)
    }

    /// What has to reach the disk now; `None` if a flush that was handed out before covers all.
    ///
    /// Where syncs of few bytes follow each other it prepares the blocks ahead.
    pub(crate) fn flush(&mut self) -> Result<Option<Flush>, Error> {
        let mark = self.mark();
        if self.flushed_upto == mark.commit_sequence && self.full.is_empty() {
            return Ok(None);
        }
        let bytes = mark.end.saturating_sub(self.flushed_end);
        let is_small = self.full.is_empty() && bytes < SMALL_FLUSH;
        self.small_flushes = if is_small { self.small_flushes + 1 } else { 0 };
        if self.small_flushes >= SMALL_FLUSHES {
            self.writer.write_ahead()?;
        }
        self.flushed_upto = mark.commit_sequence;
        self.flushed_end = mark.end;
        let active = (Arc::clone(self.writer.segment()), Arc::clone(self.writer.file()));
        Ok(Some(Flush { full: std::mem::take(&mut self.full), active, mark }))
    }

    /// Has the disk begin with what it was not told of yet, if that is enough.
    pub(crate) fn start_writeback(&mut self, writeback: &Writeback) {
        // The page that is still written to is left to the next time.
        let end = self.writer.end() / PAGE_SIZE * PAGE_SIZE;
        let start = self.started_end.max(self.flushed_end / PAGE_SIZE * PAGE_SIZE);
        if end >= start + writeback::STEP && writeback.offer(self.writer.file(), start..end) {
            self.started_end = end;
        }
    }

    /// A flush has reached the disk.
    pub(crate) fn flushed(&mut self, flush: &Flush) {
        self.unsealed = self.unsealed.saturating_sub(flush.full.len());
        self.chain.synced_upto = self.chain.synced_upto.max(flush.mark.commit_sequence);
    }

    /// What the journal begins behind, as its newest segment says.
    pub(crate) const fn begins_behind(&self) -> Option<Compacted> {
        self.keeping.retired
    }

    /// Whether a full segment is still to be sealed on the disk, and no flush was handed out for it.
    pub(crate) fn has_full(&self) -> bool {
        !self.full.is_empty()
    }

    /// Whether a file for the next segment should be made now, off this path.
    pub(crate) fn wants_spare(&self) -> bool {
        self.spare.is_none()
            && !self.goes_without_spare
            && (self.is_fast || self.writer.end() > self.segment_size / 2)
    }

    /// Takes in a file for the next segment.
    pub(crate) fn put_spare(&mut self, spare: Spare) {
        self.spare = Some(spare);
    }

    /// There is no space for one: it is not tried again before the segment ends, because each attempt takes all that is left
    /// from everybody else on the disk for a moment.
    pub(crate) fn go_without_spare(&mut self) {
        self.goes_without_spare = true;
    }
}
