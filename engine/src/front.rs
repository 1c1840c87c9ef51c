//! The front end: where emitted events wait for the committer, and callers for its answers.
//!
//! One mutex guards the batch that is being gathered. A producer encodes its record straight into the batch
//! under it, which takes about as long as copying the record; ids are given in the same place, so the order
//! in the batch is the order of the ids. The committer takes the whole batch and leaves an empty one: a batch
//! is a commit group, and whatever was emitted together stays together.
//!
//! Memory is bounded: a batch has [`BUFFER_SIZE`] bytes, less where a segment can't take that much as one
//! group, and who finds it full waits for the committer. Only an `emit_batch` of more bytes gets a batch as
//! large as itself.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use semj_format::Draft;

use crate::batch::Batch;
use crate::error::Error;
use crate::stats::Stats;

/// Bytes of a batch, above which producers wait, at most.
pub(crate) const BUFFER_SIZE: usize = 1 << 20;
/// Bytes of a batch, above which the committer does not wait for more.
const ENOUGH: usize = 128 << 10;

/// See the module.
#[derive(Debug)]
pub(crate) struct Front {
    state: Mutex<State>,
    /// Tells the committer that there is something to do.
    work: Condvar,
    /// Tells producers that there is room.
    room: Condvar,
    /// Tells callers that what they asked for was done.
    done: Condvar,
    commit_interval: Duration,
    /// Bytes of a batch, above which producers wait.
    buffer_size: usize,
}

#[derive(Debug)]
struct State {
    batch: Batch,
    /// When the oldest event of the batch came.
    waiting_since: Option<Instant>,
    /// Somebody waits until the batch is taken.
    is_short_of_room: bool,
    next_event_id: u64,
    asked: Tickets,
    done: Tickets,
    closing: bool,
    failure: Option<Arc<Error>>,
    stats: Stats,
}

/// What a caller can ask of the committer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request {
    Sync,
    Rotate,
}

/// Counts what was asked of the committer. A caller draws a number and waits until it is done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tickets {
    sync: u64,
    rotate: u64,
}

/// What the committer is to do next.
#[derive(Debug)]
pub(crate) struct Work {
    /// Some caller waits for a sync.
    pub(crate) sync: bool,
    /// Some caller waits for a new segment.
    pub(crate) rotate: bool,
    /// The journal is being closed; this is the last work there is.
    pub(crate) close: bool,
    tickets: Tickets,
}

impl Front {
    /// `group_size_max`: bytes that a segment can take as one group.
    pub(crate) fn new(
        next_event_id: u64,
        commit_interval: Duration,
        group_size_max: usize,
        stats: Stats,
    ) -> Self {
        let state = State {
            batch: Batch::with_capacity(BUFFER_SIZE),
            waiting_since: None,
            is_short_of_room: false,
            next_event_id,
            asked: Tickets::default(),
            done: Tickets::default(),
            closing: false,
            failure: None,
            stats,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            room: Condvar::new(),
            done: Condvar::new(),
            commit_interval,
            buffer_size: BUFFER_SIZE.min(group_size_max),
        }
    }

    /// Takes in drafts with their encoded sizes, all of them into one batch. A draft whose id is 0 gets the
    /// next one. Gives the ids, from the first to behind the last.
    ///
    /// Where the batch is full, `make_room` is called to have it committed; without it the committer does that.
    pub(crate) fn push(
        &self,
        drafts: &mut [(Draft<'_>, usize)],
        make_room: Option<&dyn Fn()>,
    ) -> Result<Range<u64>, Error> {
        let size: usize = drafts.iter().map(|(_, size)| size).sum();
        let mut state = self.state.lock();
        state.check()?;
        if drafts.is_empty() {
            return Ok(state.next_event_id..state.next_event_id);
        }
        while !state.batch.is_empty() && state.batch.len() + size > self.buffer_size {
            state.stats.waits += 1;
            match make_room {
                Some(make_room) => MutexGuard::unlocked(&mut state, make_room),
                None => {
                    state.is_short_of_room = true;
                    self.work.notify_one();
                    self.room.wait(&mut state);
                }
            }
            state.check()?;
        }
        let next_event_id = state.next_event_id;
        let end = number(drafts, next_event_id)?;
        let was_empty = state.batch.is_empty();
        for (draft, size) in &*drafts {
            state.batch.push(draft, *size);
        }
        state.next_event_id = end;
        state.stats.events_emitted += drafts.len() as u64;
        state.stats.last_emitted_id = end - 1;
        if was_empty {
            state.waiting_since = Some(Instant::now());
        }
        let is_enough = state.batch.len() >= ENOUGH && state.batch.len() - size < ENOUGH;
        drop(state);
        if was_empty || is_enough {
            self.work.notify_one();
        }
        let first = drafts.first().map_or(next_event_id, |(draft, _)| draft.header.event_id);
        Ok(first..end)
    }

    /// Asks that everything that was emitted before becomes durable, and for [`Request::Rotate`] that it comes
    /// to be in a sealed segment. Gives what to [`Front::wait_for`].
    pub(crate) fn ask(&self, request: Request) -> Result<Tickets, Error> {
        let mut state = self.state.lock();
        state.check()?;
        match request {
            Request::Sync => state.asked.sync += 1,
            Request::Rotate => state.asked.rotate += 1,
        }
        let tickets = state.asked;
        drop(state);
        self.work.notify_one();
        Ok(tickets)
    }

    /// Returns when what was asked for was done.
    pub(crate) fn wait_for(&self, asked: Tickets) -> Result<(), Error> {
        let mut state = self.state.lock();
        while state.done.sync < asked.sync || state.done.rotate < asked.rotate {
            state.check()?;
            self.done.wait(&mut state);
        }
        Ok(())
    }

    /// Lets the committer end when it has written what there is.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_one();
        self.room.notify_all();
    }

    pub(crate) fn stats(&self) -> Stats {
        self.state.lock().stats
    }

    /// The failure that ended all writing, where there was one.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().check().err()
    }

    /// For the committer: waits until there is something to do, and swaps the batch for the empty `spare`.
    /// Returns at `deadline` at the latest.
    pub(crate) fn next_work(&self, spare: &mut Batch, deadline: Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            let sync = state.asked.sync > state.done.sync;
            let rotate = state.asked.rotate > state.done.rotate;
            let commit_at = state.waiting_since.and_then(|since| since.checked_add(self.commit_interval));
            let wake_at = [commit_at, deadline].into_iter().flatten().min();
            let is_due = wake_at.is_some_and(|at| Instant::now() >= at);
            let is_full = state.batch.len() >= ENOUGH || state.is_short_of_room;
            if sync || rotate || state.closing || is_full || is_due {
                return self.hand_over(state, spare);
            }
            match wake_at {
                Some(at) => drop(self.work.wait_until(&mut state, at)),
                None => self.work.wait(&mut state),
            }
        }
    }

    /// For a committer that does not wait: what there is to do now.
    pub(crate) fn work_now(&self, spare: &mut Batch) -> Work {
        self.hand_over(self.state.lock(), spare)
    }

    fn hand_over(&self, mut state: MutexGuard<'_, State>, spare: &mut Batch) -> Work {
        let work = Work {
            sync: state.asked.sync > state.done.sync,
            rotate: state.asked.rotate > state.done.rotate,
            close: state.closing,
            tickets: state.asked,
        };
        std::mem::swap(&mut state.batch, spare);
        state.waiting_since = None;
        state.is_short_of_room = false;
        drop(state);
        self.room.notify_all();
        work
    }

    /// For the committer: the work was done; `update` brings the figures up to date.
    pub(crate) fn finish(&self, work: &Work, update: impl FnOnce(&mut Stats)) {
        let mut state = self.state.lock();
        update(&mut state.stats);
        state.done = work.tickets;
        drop(state);
        if work.sync || work.rotate {
            self.done.notify_all();
        }
    }

    /// For the committer: brings figures up to date that are no answer to anybody.
    pub(crate) fn update(&self, update: impl FnOnce(&mut Stats)) {
        update(&mut self.state.lock().stats);
    }

    /// For the committer: nothing will be written any more. All who wait get the error.
    pub(crate) fn fail(&self, error: Error) {
        tracing::error!(%error, "the journal stopped writing");
        self.state.lock().failure.get_or_insert(Arc::new(error));
        self.room.notify_all();
        self.done.notify_all();
    }
}

impl State {
    /// Whether the journal still writes.
    fn check(&self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(Error::Poisoned { source: Arc::clone(failure) }),
            None => Ok(()),
        }
    }
}

/// Gives ids to the drafts that have none, and holds the others against the order. Gives the next id.
fn number(drafts: &mut [(Draft<'_>, usize)], mut next_event_id: u64) -> Result<u64, Error> {
    for (draft, _) in drafts {
        let header = &mut draft.header;
        if header.event_id == 0 {
            header.event_id = next_event_id;
            // A sequence that the emitter does not number is the journal's own.
            for field in [
                &mut header.sequence,
                &mut header.global_sequence,
                &mut header.local_sequence,
                &mut header.root_cause_event_id,
            ] {
                if *field == 0 {
                    *field = next_event_id;
                }
            }
        } else if header.event_id < next_event_id {
            return Err(Error::IdOrder { found: header.event_id, after: next_event_id - 1 });
        }
        next_event_id = header.event_id.checked_add(1).ok_or(Error::Exhausted { what: "event ids" })?;
    }
    Ok(next_event_id)
}
