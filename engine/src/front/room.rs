//! What a producer does where there is no room: it waits and helps meanwhile, gets an error, or its event is dropped and
//! counted.

use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use semj_format::Priority;
use semj_format::control::GapType;

use super::{Emitted, External, Front, Patience, Sleep, Standing};
use crate::error::Error;
use crate::options::Backpressure;

/// How long a waiting producer sleeps until it looks again by itself.
const ROOM_WAIT: Duration = Duration::from_millis(1);
/// How long a waiting producer that can't help looks again and again before it sleeps.
const ROOM_SPIN: Duration = Duration::from_micros(50);

/// Waits for the committer to have drained something, as often as that is needed.
pub(super) struct Wait<'a> {
    patience: Patience<'a>,
    since: Option<Instant>,
}

impl<'a> Wait<'a> {
    pub(super) const fn new(patience: Patience<'a>) -> Self {
        Self::begun(patience, None)
    }

    /// One that goes on with a wait for something else.
    pub(super) const fn begun(patience: Patience<'a>, since: Option<Instant>) -> Self {
        Self { patience, since }
    }

    /// When it began, if it was needed.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    /// Returns when it is worth another attempt. `event` is what it is for, or the most urgent one of a batch.
    #[cold]
    pub(super) fn for_room(&mut self, front: &Front, event: Standing) -> Result<(), Error> {
        front.check_process()?;
        if self.since.is_none() {
            front.waits.fetch_add(1, Ordering::Relaxed);
            // Where that is the caller's part, nobody else will ever make room. It is no wait for anybody.
            if let Some(make_room) = self.patience.make_room {
                self.since = Some(Instant::now());
                make_room();
                return Ok(());
            }
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let limit = match self.patience.backpressure {
            Backpressure::Fail => Some(Duration::ZERO),
            Backpressure::WaitFor(limit) => Some(limit),
            Backpressure::DropByPriority if event.priority > Priority::HIGH => {
                // Nobody waits, so that nobody else would wake the committer before its time.
                front.hurry();
                return Err(front.drop_event(event));
            }
            Backpressure::DropByPriority | Backpressure::Wait => None,
        };
        if let Some(make_room) = self.patience.make_room {
            if limit == Some(Duration::ZERO) {
                return Err(front.full());
            }
            make_room();
            return Ok(());
        }
        let left = match limit {
            Some(limit) => match limit.checked_sub(now - since).filter(|left| !left.is_zero()) {
                Some(left) => left,
                None => {
                    front.hurry();
                    return Err(front.full());
                }
            },
            None => ROOM_WAIT,
        };
        let drained = front.ring.drained();
        // One of those who wait looks again and again, and the others leave it the processor. All help.
        let spins = front.spinners.fetch_add(1, Ordering::Relaxed) == 0;
        let spin = if spins { ROOM_SPIN.min(left) } else { Duration::ZERO };
        let mut idle_since = now;
        while front.ring.drained() == drained {
            if front.helping.help() {
                idle_since = Instant::now();
            } else if idle_since.elapsed() < spin {
                std::hint::spin_loop();
            } else {
                break;
            }
        }
        front.spinners.fetch_sub(1, Ordering::Relaxed);
        let mut state = front.state.lock();
        front.room_waiters.fetch_add(1, Ordering::SeqCst);
        // The committer looks at the waiters after it has moved `drained`.
        fence(Ordering::SeqCst);
        if front.ring.drained() == drained && state.failure.is_none() {
            front.sleep.store(Sleep::Awake as u8, Ordering::SeqCst);
            front.work.notify_one();
            front.room.wait_for(&mut state, left.min(ROOM_WAIT));
        }
        front.room_waiters.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

impl Front {
    pub(super) fn full(&self) -> Error {
        Error::Full { events: self.ring.capacity() }
    }

    /// Drops an event that is not urgent enough for how full the buffer is.
    #[inline]
    pub(super) fn admit(&self, event: Standing, patience: Patience<'_>) -> Result<(), Error> {
        let capacity = self.ring.capacity();
        let limit = match event.priority {
            Priority::BACKGROUND => capacity / 2,
            Priority::LOW => capacity / 4 * 3,
            _ => return Ok(()),
        };
        if self.pending() < limit {
            return Ok(());
        }
        if let Some(make_room) = patience.make_room {
            make_room();
        }
        if self.pending() < limit { Ok(()) } else { Err(self.drop_event(event)) }
    }

    /// Counts the rest of a batch, if that was refused because its most urgent event was dropped.
    pub(super) fn drop_rest(&self, error: &Error, urgent: Standing, events: &[Emitted<'_>]) {
        if !matches!(error, Error::Dropped { .. }) {
            return;
        }
        let mut skipped = false;
        for event_type in events.iter().map(|event| event.draft.header.event_type) {
            if !skipped && event_type == urgent.event_type {
                skipped = true;
            } else {
                self.count_drop(event_type);
            }
        }
    }

    /// Counts an event that is not taken in. It gets its id with the next place that is claimed.
    #[cold]
    fn drop_event(&self, event: Standing) -> Error {
        self.count_drop(event.event_type);
        Error::Dropped { priority: event.priority }
    }

    fn count_drop(&self, event_type: u32) {
        self.dropped_events.fetch_add(1, Ordering::Relaxed);
        let mut drops = self.drops.lock();
        match drops.iter_mut().find(|of| of.event_type == event_type) {
            Some(of) => of.event_count += 1,
            None => drops.push(GapType { event_type, reserved: 0, event_count: 1 }),
        }
        self.is_unusual.store(true, Ordering::SeqCst);
    }

    /// Gives ids to the events that were dropped, if there is room for the note of it.
    pub(super) fn settle_drops(&self) -> Result<(), Error> {
        let mut drops = self.drops.lock();
        let count = drops.iter().map(|of| of.event_count).sum();
        if count > 0
            && let Some((claim, home)) = self.claim_ids(0, count, None)?
        {
            let types = std::mem::take(&mut *drops);
            drop(drops);
            // Where the place is revoked the committer writes a gap too, one that does not know the types.
            self.publish_external(
                &claim,
                home,
                External::Dropped(claim.first_id..claim.first_id + count, types),
            );
        }
        Ok(())
    }
}
