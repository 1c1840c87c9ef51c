//! The committer's half: it waits for something to do, and moves what was published into a batch, in its order.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use super::emit::SLAB_BATCH_MAX;
use super::ring::{Fill, Next};
use super::slab::EXTERNAL;
use super::{External, Front, Sleep, Work};
use crate::batch::Batch;

/// How long the committer sleeps at least while events come in.
const DOZE_MIN: Duration = Duration::from_micros(500);
/// For how long after an event the committer wakes by the clock alone, so that no emission has to wake it.
const LINGER: Duration = Duration::from_millis(50);
/// It does so only if it sleeps for so long between two looks.
const LINGER_DOZE_MIN: Duration = Duration::from_micros(50);
/// How long the committer waits for a claimant between two looks.
const CLAIM_WAIT: Duration = Duration::from_micros(50);
/// Of a longer time between two looks only a part of the timeout counts: the whole process was stopped, and the claimant too.
const LOOKS_PER_TIMEOUT: u32 = 4;
/// The committer has records come to its processor's cache so many places ahead: producers have written them on others.
const GATHER_AHEAD: u64 = 6;
/// Fewer places than this that were claimed while a group took others along are left to the next one: who runs after a
/// producer takes its line of the ring for each of them.
const ALONG_MIN: u64 = 64;
/// Places after which the committer tells producers that there is room.
const DRAIN_STEP: u64 = 64;
/// Places of a group after which it wakes producers that wait for them.
const ROOM_STEP: u64 = 256;

impl Front {
    /// How long to doze next, if so many events have gathered this time.
    fn next_doze(&self, doze: Duration, pending: u64) -> Duration {
        let capacity = self.ring.capacity();
        if pending > capacity / 16 * 3 {
            (doze / 2).max(DOZE_MIN).min(self.setup.commit_interval)
        } else if pending < capacity / 16 {
            doze.saturating_mul(2).min(self.setup.commit_interval)
        } else {
            doze
        }
    }

    /// For the committer's thread: waits until there is something to do.
    pub(crate) fn next_work(&self) -> Work {
        let mut state = self.state.lock();
        let mut dozes_since = None;
        loop {
            let Fill { tail, pending } = self.ring.fill();
            let now = Instant::now();
            if pending > 0 {
                state.last_work = now;
                // What came while it dozed has waited since then at most.
                state.waiting_since.get_or_insert(dozes_since.unwrap_or(now));
            }
            if state.closing || state.failure.is_some() {
                return Work::Close;
            }
            // One that a group has taken along already has to be told of too.
            let is_urgent = take(&self.is_urgent);
            let commit_at = state.waiting_since.and_then(|since| since.checked_add(state.doze));
            let is_short = take(&self.is_short);
            let is_enough = is_short
                || pending >= self.ring.capacity() / 4
                || self.room_waiters.load(Ordering::SeqCst) > 0;
            if is_urgent || is_enough && pending > 0 || commit_at.is_some_and(|at| now >= at) {
                state.waiting_since = None;
                state.doze = self.next_doze(state.doze, pending);
                return if is_urgent { Work::CommitUrgent } else { Work::Commit };
            }
            // Where it would not sleep for long enough to spare anybody anything, each event wakes it.
            let lingers = state.doze >= LINGER_DOZE_MIN && now.duration_since(state.last_work) < LINGER;
            let sleep = if pending > 0 || lingers { Sleep::Dozing } else { Sleep::Asleep };
            // Producers read it for each event, and have to fetch it anew after each store.
            if self.sleep.load(Ordering::SeqCst) != sleep as u8 {
                self.sleep.store(sleep as u8, Ordering::SeqCst);
            }
            // An event that came before the producers could see this would wake nobody.
            if self.is_urgent.load(Ordering::SeqCst) || self.is_short.load(Ordering::SeqCst) {
                // Looked at again above.
            } else if sleep == Sleep::Dozing || self.ring.tail() == tail {
                let linger = (sleep == Sleep::Dozing).then(|| now.checked_add(state.doze)).flatten();
                dozes_since = linger.map(|_| now);
                match [commit_at, linger].into_iter().flatten().min() {
                    Some(at) => drop(self.work.wait_until(&mut state, at)),
                    None => self.work.wait(&mut state),
                }
            }
            // While the committer works this stays Dozing: a producer that has to wake it stores Awake, once, and its flag or
            // its place is seen before the committer sleeps again. Not Asleep: each event would take the lock.
            let (asleep, awake) = (Sleep::Asleep as u8, Sleep::Awake as u8);
            let mut found = self.sleep.load(Ordering::SeqCst);
            if found == asleep {
                let exchanged =
                    self.sleep.compare_exchange(asleep, awake, Ordering::SeqCst, Ordering::SeqCst);
                found = exchanged.unwrap_or_else(|found| found);
            }
            if found == awake {
                // An event has woken it. Who emitted it may have committed it too, and not be the last to do so.
                state.last_work = Instant::now();
            }
        }
    }

    /// For the committer: moves records into the batch, in their order, until it has the size of a group or so many events, or
    /// those below the place `upto` are done. True if there are none left of these.
    ///
    /// Waits for claimants that have not published yet, for `claim_timeout` at most, however many they are: then their places
    /// are taken away and become gaps.
    pub(crate) fn gather(&self, batch: &mut Batch, upto: u64, events_max: u64, monotonic_ns: i64) -> bool {
        let previous_id = self.last_drained_id.load(Ordering::Relaxed);
        batch.follow(previous_id, self.missing.load(Ordering::Relaxed), monotonic_ns);
        let start = self.ring.drained();
        let mut at = start;
        let mut told = start;
        let mut claimed = upto;
        let is_complete = loop {
            // What was claimed since then comes along, but nothing beyond `upto` is waited for.
            let is_asked_for = at < upto;
            if at >= claimed {
                // Not looked at each time: producers would have to get the line back. What came while that was taken comes
                // along too if it is much.
                let seen = claimed;
                claimed = self.ring.tail();
                if at >= claimed || seen > upto && claimed - at < ALONG_MIN {
                    break true;
                }
            }
            self.fetch_ahead(at, claimed);
            match self.take_in(batch, at, events_max) {
                Taken::Places(count) => {
                    at += count;
                    if at % DRAIN_STEP < count {
                        self.ring.set_drained(at);
                        // Who waits goes on while the rest of the group is gathered.
                        if told == start && at - start >= ROOM_STEP {
                            told = at;
                            self.tell_of_room();
                        }
                    }
                }
                Taken::NoRoom => break !is_asked_for,
                Taken::Blocked if !is_asked_for => break true,
                Taken::Blocked => {
                    self.ring.set_drained(at);
                    at += self.wait_for_claimant(batch, at);
                }
            }
        };
        if batch.missing() > 0
            && let (tail, next_id) = self.ring.next()
            && tail == at
        {
            batch.miss_upto(next_id - 1);
        }
        // A place may stand for many ids. Which ones are missing is said when it is known what stands behind them.
        self.missing.store(batch.missing(), Ordering::Relaxed);
        self.last_drained_id.store(batch.previous_id(), Ordering::Relaxed);
        self.ring.set_drained(at);
        if at > told {
            self.tell_of_room();
        }
        is_complete
    }

    /// Waits a little for the claimant of a place, or takes it away if it had its time. Gives the places that became gaps.
    #[cold]
    fn wait_for_claimant(&self, batch: &mut Batch, place: u64) -> u64 {
        let mut slow = self.slow.lock();
        // What was claimed by the time that the first one was waited for has had the same time by now.
        let mut wait = match slow.take() {
            Some(wait) if place < wait.tail => wait,
            _ => ClaimWait::new(self.ring.tail()),
        };
        if !wait.is_over(self.setup.claim_timeout) {
            *slow = Some(wait);
            std::thread::sleep(CLAIM_WAIT);
            return 0;
        }
        let gaps = self.revoke(batch, place);
        // One that could not be taken away is waited for anew.
        *slow = (gaps > 0).then_some(wait);
        gaps
    }

    /// Has the records behind a place, of those below `claimed`, come to this processor's cache.
    #[inline]
    fn fetch_ahead(&self, place: u64, claimed: u64) {
        let next = place + GATHER_AHEAD;
        if next < claimed {
            self.slab.prefetch_record(self.ring.home(next));
        }
        // By now it is known where a larger record is.
        let next = place + GATHER_AHEAD / 2;
        if next < claimed
            && let Next::Published(slot) = self.ring.peek(&self.slab, next)
            && slot != self.ring.home(next)
        {
            self.slab.prefetch_record(slot);
        }
    }

    /// For the committer: there is work in which a producer that waits for room can help. One of them is woken for it.
    pub(crate) fn call_helper(&self) {
        if self.room_waiters.load(Ordering::Relaxed) > 0 {
            let _state = self.state.lock();
            self.room.notify_one();
        }
    }

    /// Wakes producers that wait for room.
    fn tell_of_room(&self) {
        // A producer counts itself as waiting before it looks at `drained` for the last time.
        fence(Ordering::SeqCst);
        if self.room_waiters.load(Ordering::SeqCst) > 0 {
            let _state = self.state.lock();
            self.room.notify_all();
        }
    }

    /// Takes in what stands at a place, with all that belongs to it.
    fn take_in(&self, batch: &mut Batch, place: u64, events_max: u64) -> Taken {
        let slot = match self.ring.peek(&self.slab, place) {
            Next::Published(slot) => slot,
            Next::Abandoned => {
                batch.miss();
                return Taken::Places(1);
            }
            Next::Pending => return Taken::Blocked,
        };
        // SAFETY: the committer owns a published slot until it moves `drained` on.
        let (header, record) = unsafe { self.slab.read(slot) };
        let fits = |batch: &Batch, size: usize, events: u64| {
            batch.is_empty()
                || batch.len() + size <= self.group_size && u64::from(batch.events()) + events <= events_max
        };
        if header.count == 1 {
            if !fits(batch, record.len(), 1) {
                return Taken::NoRoom;
            }
            batch.push_without_checksum(header.event_id, record);
            self.free(place, slot);
            return Taken::Places(1);
        }
        if header.count == EXTERNAL {
            let mut externals = self.externals.lock();
            let Some(at) = externals.iter().position(|(of, _)| *of == place) else {
                debug_assert!(false, "an external batch is deposited before its place is published");
                self.free(place, slot);
                return Taken::Places(1);
            };
            let (size, events) = match &externals[at].1 {
                External::Batch(records) => (records.len(), u64::from(records.events())),
                External::Dropped(_, types) => (Batch::gap_size(types), 0),
            };
            if !fits(batch, size, events) {
                return Taken::NoRoom;
            }
            let (_, external) = externals.swap_remove(at);
            drop(externals);
            match external {
                External::Batch(records) => {
                    batch.append(&records);
                    self.release_reserved(place);
                }
                External::Dropped(ids, types) => batch.drop_ids(ids, &types),
            }
            self.free(place, slot);
            return Taken::Places(1);
        }
        if header.index > 0 {
            // The first of them was revoked.
            batch.miss();
            self.free(place, slot);
            return Taken::Places(1);
        }
        self.take_in_batch(batch, place, u64::from(header.count), fits)
    }

    /// Takes in the records that belong together from a place on, all or none of them.
    fn take_in_batch(
        &self,
        batch: &mut Batch,
        place: u64,
        count: u64,
        fits: impl Fn(&Batch, usize, u64) -> bool,
    ) -> Taken {
        let mut slots = [0; SLAB_BATCH_MAX];
        let mut size = 0;
        for (place, slot) in (place..place + count).zip(&mut slots) {
            match self.ring.peek(&self.slab, place) {
                Next::Published(published) => {
                    *slot = published;
                    // SAFETY: the committer owns a published slot until it moves `drained` on.
                    size += unsafe { self.slab.read(published) }.1.len();
                }
                Next::Abandoned => return Taken::Places(self.discard(batch, place..place + count)),
                Next::Pending => return Taken::Blocked,
            }
        }
        if !fits(batch, size, count) {
            return Taken::NoRoom;
        }
        for (place, slot) in (place..place + count).zip(slots) {
            // SAFETY: as above.
            let (header, record) = unsafe { self.slab.read(slot) };
            batch.push_without_checksum(header.event_id, record);
            self.free(place, slot);
        }
        Taken::Places(count)
    }

    /// Gives the slot of a record that was read to who needs it next. A home slot stays with its place.
    fn free(&self, place: u64, slot: u32) {
        if slot != self.ring.home(place) {
            self.slab.give_back(slot);
        }
    }

    /// Takes a place away from a claimant that is too slow, with all that belongs to it. Gives the places that became
    /// gaps: none if everything was published at last.
    #[cold]
    pub(super) fn revoke(&self, batch: &mut Batch, place: u64) -> u64 {
        let count = match self.ring.peek(&self.slab, place) {
            Next::Published(slot) => {
                // SAFETY: the committer owns a published slot until it moves `drained` on.
                match unsafe { self.slab.read(slot) }.0.count {
                    EXTERNAL => return 0,
                    count => u64::from(count),
                }
            }
            Next::Abandoned => return 0,
            Next::Pending => 1,
        };
        let is_pending = |place: &u64| self.ring.peek(&self.slab, *place) == Next::Pending;
        match (place..place + count).find(is_pending) {
            // From here on the claimant is told that its events are lost, all of them. What was published before may not be
            // thrown away earlier: the claimant could still publish the rest, and would be told that all is well.
            Some(slow) if self.take_away(slow) => {
                // None of those before it is pending.
                self.discard(batch, place..slow);
                batch.miss();
                slow + 1 - place + self.discard(batch, slow + 1..place + count)
            }
            _ => 0,
        }
    }

    /// Takes a place away from a claimant that has not published it. False if it has by now, or there is no slot that
    /// could be the place's next home.
    #[cold]
    fn take_away(&self, place: u64) -> bool {
        let Some(spare) = self.slab.take_spare() else {
            tracing::error!(place, "no spare slot is left: the journal waits for a stopped producer");
            return false;
        };
        if !self.ring.revoke(&self.slab, place, spare) {
            self.slab.give_back(spare);
            return false;
        }
        self.release_reserved(place);
        tracing::warn!(place, "a producer did not come back in time: its event is recorded as a gap");
        true
    }

    /// Makes gaps of places that belong together, whatever stands there; their claimant was told so at one of them, the one
    /// that was taken away or one that it gave up. Gives how many it came to.
    #[cold]
    fn discard(&self, batch: &mut Batch, places: Range<u64>) -> u64 {
        for place in places.clone() {
            let is_pending = || self.ring.peek(&self.slab, place) == Next::Pending;
            if is_pending() && !self.take_away(place) && is_pending() {
                // What comes of these is missed when it comes: the first of them is not there.
                return place - places.start;
            }
            if let Next::Published(slot) = self.ring.peek(&self.slab, place) {
                self.free(place, slot);
            }
            batch.miss();
        }
        places.end - places.start
    }
}

/// How long claimants have been waited for that have not published.
#[derive(Debug)]
pub(super) struct ClaimWait {
    looked: Instant,
    waited: Duration,
    /// Places below were claimed when this began.
    tail: u64,
}

impl ClaimWait {
    fn new(tail: u64) -> Self {
        Self { looked: Instant::now(), waited: Duration::ZERO, tail }
    }

    /// Whether they have had their time.
    fn is_over(&mut self, timeout: Duration) -> bool {
        let now = Instant::now();
        self.waited += (now - self.looked).min(timeout / LOOKS_PER_TIMEOUT);
        self.looked = now;
        self.waited >= timeout
    }
}

/// Whether the flag is set, and not any more. Where it is not, producers keep the line that it is on.
fn take(flag: &AtomicBool) -> bool {
    flag.load(Ordering::SeqCst) && flag.swap(false, Ordering::SeqCst)
}

/// What the committer found at a place.
enum Taken {
    /// So many places are done with.
    Places(u64),
    /// The group is large enough without it.
    NoRoom,
    /// A claimant has not published yet.
    Blocked,
}
