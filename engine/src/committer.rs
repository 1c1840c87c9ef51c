//! The committer: takes batches from the front end, appends them as commit groups, syncs and answers those who
//! wait. It runs on a thread of its own, or on that of whoever waits ([`crate::CommitOn`]).
//!
//! It owns the active segment and the chain. A failure of any file operation ends it: nothing is acknowledged
//! after that, because after a failed sync nothing is known of the bytes it was to make durable.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::error::Error;
use crate::front::{Front, GROUP_SIZE, Work};
use crate::medium::Medium;
use crate::segment::Segments;
use crate::watermark::WatermarkWriter;
use crate::writer::{Chain, NewSegment, Previous, SegmentWriter};

/// See the module.
#[derive(Debug)]
pub(crate) struct Committer {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) dir: std::path::PathBuf,
    pub(crate) segment_size: u64,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) front: Arc<Front>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) writer: SegmentWriter,
    pub(crate) watermark: WatermarkWriter,
    pub(crate) watermark_interval: Duration,
    pub(crate) marked_at: Instant,
    pub(crate) chain: Chain,
    pub(crate) last_committed_id: u64,
}

/// What one round of work changed.
#[derive(Default)]
struct Round {
    bytes: u64,
    commits: u64,
    syncs: u64,
    segments: u64,
    events: u64,
}

/// Whether there is another round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Round,
    End,
}

impl Committer {
    /// Runs until the journal is closed or something fails.
    pub(crate) fn run(mut self) {
        // A panic must not leave callers waiting for answers that never come.
        let front = Arc::clone(&self.front);
        let mut last_words = LastWords { front: &front, has_ended: false };
        let mut batch = Batch::with_capacity(GROUP_SIZE);
        let mut unsynced_since: Option<Instant> = None;
        loop {
            let sync_at = unsynced_since
                .zip(self.sync_interval)
                .and_then(|(since, interval)| since.checked_add(interval));
            let deadline = [sync_at, self.mark_at()].into_iter().flatten().min();
            let work = self.front.next_work(deadline);
            let is_sync_due = sync_at.is_some_and(|at| Instant::now() >= at);
            if self.round(&work, is_sync_due, &mut batch) == Next::End {
                break;
            }
            unsynced_since =
                if self.is_durable() { None } else { unsynced_since.or_else(|| Some(Instant::now())) };
        }
        last_words.has_ended = true;
    }

    /// Does what there is to do now, once, on the caller's thread.
    pub(crate) fn run_once(&mut self) {
        if self.front.failure().is_none() {
            let work = self.front.work_now();
            self.round(&work, false, &mut Batch::default());
        }
    }

    /// Does some work and answers those who wait for it.
    fn round(&mut self, work: &Work, is_sync_due: bool, batch: &mut Batch) -> Next {
        let mut round = Round::default();
        if let Err(error) = self.work(work, is_sync_due, batch, &mut round) {
            self.front.fail(error);
            return Next::End;
        }
        let Self { chain, last_committed_id, writer, .. } = &*self;
        self.front.finish(work, |stats| {
            stats.bytes_written += round.bytes;
            stats.commits += round.commits;
            stats.syncs += round.syncs;
            stats.segments += round.segments;
            stats.events_emitted += round.events;
            stats.last_committed_id = *last_committed_id;
            stats.digest = chain.digest;
            if self.is_durable() {
                stats.last_durable_id = *last_committed_id;
            }
            stats.segment_number = writer.number();
        });
        if work.close {
            return Next::End;
        }
        // Behind the answers: whoever waits for a sync does not wait for this one.
        if self.mark_at().is_some_and(|at| Instant::now() >= at)
            && let Err(error) = self.mark()
        {
            self.front.fail(error);
            return Next::End;
        }
        Next::Round
    }

    /// When the watermark has to be written, if something is durable that it does not speak of.
    fn mark_at(&self) -> Option<Instant> {
        let is_due = self.is_durable() && !self.watermark.is_marked(&self.writer);
        is_due.then(|| self.marked_at.checked_add(self.watermark_interval)).flatten()
    }

    /// Marks everything that was written, which is durable.
    fn mark(&mut self) -> Result<(), Error> {
        self.watermark.mark(&self.writer, &self.chain, self.last_committed_id)?;
        self.marked_at = Instant::now();
        self.front.update(|stats| {
            stats.last_marked_id = self.last_committed_id;
            stats.syncs += 1;
        });
        Ok(())
    }

    /// Whether everything that was committed is durable.
    const fn is_durable(&self) -> bool {
        self.chain.synced_upto == self.chain.commit_sequence
    }

    fn work(
        &mut self,
        work: &Work,
        is_sync_due: bool,
        batch: &mut Batch,
        round: &mut Round,
    ) -> Result<(), Error> {
        loop {
            let monotonic_ns = self.medium.monotonic_ns();
            let is_complete = self.front.gather(batch, work.upto, monotonic_ns);
            if !batch.is_empty() {
                if !self.writer.has_room(batch.len()) {
                    self.rotate(round)?;
                }
                round.events += u64::from(batch.events());
                round.bytes += self.writer.append(batch, &mut self.chain, monotonic_ns)?;
                round.commits += 1;
                self.last_committed_id = batch.last_event_id().max(self.last_committed_id);
            }
            batch.clear(GROUP_SIZE);
            if is_complete {
                break;
            }
        }
        if work.close {
            self.seal(round)?;
            self.mark()?;
        } else if work.rotate {
            self.rotate(round)?;
        } else if (work.sync || is_sync_due) && !self.is_durable() {
            self.writer.sync(&mut self.chain)?;
            round.syncs += 1;
        }
        Ok(())
    }

    /// Seals the active segment; everything that was committed is durable then.
    fn seal(&mut self, round: &mut Round) -> Result<Previous, Error> {
        round.syncs += 2;
        self.writer.seal(&mut self.chain, self.medium.monotonic_ns())
    }

    /// Seals the active segment and begins the next.
    fn rotate(&mut self, round: &mut Round) -> Result<(), Error> {
        let previous = self.seal(round)?;
        let new = NewSegment {
            medium: &*self.medium,
            dir: &self.dir,
            size: self.segment_size,
            number: previous.segment_number + 1,
            next_event_id: self.last_committed_id + 1,
            previous,
        };
        self.writer = SegmentWriter::create(&new, &[], &mut self.chain)?;
        round.commits += 1;
        round.segments += 1;
        self.segments.push(Arc::clone(self.writer.segment()));
        Ok(())
    }
}

/// Tells those who wait when the committer ends in a panic.
struct LastWords<'a> {
    front: &'a Front,
    has_ended: bool,
}

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.front.fail(Error::CommitterPanicked);
        }
    }
}
