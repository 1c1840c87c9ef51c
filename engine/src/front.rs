//! The front end: where emitted events wait for the committer, and callers for its answers.
//!
//! An emission claims a place in the [`ring`], encodes its record into a slot of the [`slab`] and publishes it: no lock,
//! no allocation and no system call, unless the committer sleeps or the ring is full. Everything else a caller may
//! ask for (sync, rotate, close) goes through one mutex.
//!
//! Memory is bounded: ring and slab are made when the journal is opened. Who finds no place or no slot waits for the
//! committer. Only an `emit_batch` of more than [`SLAB_BATCH_MAX`] events brings memory of its own.

pub(crate) mod ring;
pub(crate) mod slab;
mod sync;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use semj_format::{Draft, EventHeader};

use crate::batch::Batch;
use crate::error::Error;
use crate::stats::Stats;
use ring::{Claim, Next, Refused, Ring};
use slab::{CLASS_SIZES, EXTERNAL, Slab, SlotHeader};

/// Bytes of a commit group, from which on no further record is put into it, at most.
pub(crate) const GROUP_SIZE: usize = 1 << 20;
/// Events of a batch that go through the slab. A larger batch is encoded in memory of its own.
const SLAB_BATCH_MAX: usize = 32;
/// For how long after an event the committer wakes by the clock alone, so that no emission has to wake it.
const LINGER: Duration = Duration::from_millis(50);
/// How long a waiting producer sleeps until it looks again by itself.
const ROOM_WAIT: Duration = Duration::from_millis(1);
/// How long the committer waits for a claimant between two looks.
const CLAIM_WAIT: Duration = Duration::from_micros(50);
/// Places after which the committer tells producers that there is room.
const DRAIN_STEP: u64 = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Front {
    ring: Ring,
    slab: Slab,
    /// Whether the committer has to be woken: see [`Sleep`].
    sleep: AtomicU8,
    /// Nothing is taken in any more.
    has_failed: AtomicBool,
    /// Producers that wait for room.
    room_waiters: AtomicU64,
    waits: AtomicU64,
    /// The committer's own: the last id that it has drained.
    last_drained_id: AtomicU64,
    state: Mutex<State>,
    /// Taken by whoever moves the ids.
    id_lock: Mutex<()>,
    /// Batches that did not go through the slab, by their places.
    externals: Mutex<Vec<(u64, Batch)>>,
    /// Tells the committer that there is something to do.
    work: Condvar,
    /// Tells producers that there is room.
    room: Condvar,
    /// Tells callers that what they asked for was done.
    done: Condvar,
    commit_interval: Duration,
    claim_timeout: Duration,
    /// Bytes of a group, from which on no further record is put into it.
    group_size: usize,
}

/// What the committer does while there is nothing to do. The values of [`Front::sleep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Sleep {
    Awake = 0,
    /// It wakes by the clock soon enough; only a ring that fills up has to wake it.
    Dozing = 1,
    /// The next event has to wake it.
    Asleep = 2,
}

#[derive(Debug)]
struct State {
    /// When the committer saw first that events wait.
    waiting_since: Option<Instant>,
    last_work: Instant,
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
    /// Everything below this place is to be committed.
    pub(crate) upto: u64,
    /// Some caller waits for a sync.
    pub(crate) sync: bool,
    /// Some caller waits for a new segment.
    pub(crate) rotate: bool,
    /// The journal is being closed; this is the last work there is.
    pub(crate) close: bool,
    tickets: Tickets,
}

/// How the front end is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Events that it holds: a power of two.
    pub(crate) places: usize,
    pub(crate) commit_interval: Duration,
    pub(crate) claim_timeout: Duration,
    /// Bytes that a segment can take as one group.
    pub(crate) group_size_max: usize,
}

impl Front {
    pub(crate) fn new(next_event_id: u64, setup: &Setup, stats: Stats) -> Self {
        let slab = Slab::new(setup.places);
        slab.touch();
        let state = State {
            waiting_since: None,
            last_work: Instant::now(),
            asked: Tickets::default(),
            done: Tickets::default(),
            closing: false,
            failure: None,
            stats,
        };
        Self {
            ring: Ring::new(setup.places, next_event_id),
            slab,
            sleep: AtomicU8::new(Sleep::Awake as u8),
            has_failed: AtomicBool::new(false),
            room_waiters: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            last_drained_id: AtomicU64::new(next_event_id - 1),
            state: Mutex::new(state),
            id_lock: Mutex::new(()),
            externals: Mutex::new(Vec::new()),
            work: Condvar::new(),
            room: Condvar::new(),
            done: Condvar::new(),
            commit_interval: setup.commit_interval,
            claim_timeout: setup.claim_timeout,
            group_size: GROUP_SIZE.min(setup.group_size_max),
        }
    }

    /// Takes in a draft with its encoded size. An id of 0 stands for the next one. Gives the id.
    ///
    /// Where there is no room, `make_room` is called to have something committed; without it the committer does
    /// that.
    #[inline]
    pub(crate) fn push(
        &self,
        mut draft: Draft<'_>,
        size: usize,
        make_room: Option<&dyn Fn()>,
    ) -> Result<u64, Error> {
        self.check()?;
        let class = Slab::class_of(size);
        let slot = if class == 0 { None } else { Some(self.take_slot(class, make_room)?) };
        let explicit = Some(draft.header.event_id).filter(|id| *id != 0);
        let claim = loop {
            match self.ring.claim(1, explicit) {
                Ok(claim) => break claim,
                Err(Refused::Full) => self.wait_for_room(make_room),
                Err(Refused::Id { .. }) => match self.claim_ids(draft.header.event_id, 1) {
                    Ok(Some(claim)) => break claim,
                    Ok(None) => self.wait_for_room(make_room),
                    Err(error) => {
                        slot.inspect(|slot| self.slab.give_back(*slot));
                        return Err(error);
                    }
                },
            }
            if let Err(error) = self.check() {
                slot.inspect(|slot| self.slab.give_back(*slot));
                return Err(error);
            }
        };
        let home = self.ring.home(&claim, 0);
        if self.fill(&claim, 0, home, slot, &mut draft, size) {
            self.wake_if_needed(claim.first_place);
            Ok(claim.first_id)
        } else {
            Err(Error::Revoked { first: claim.first_id, last: claim.first_id })
        }
    }

    /// Takes in drafts with their encoded sizes, to be committed as one. None of them has an id. Gives the ids, from
    /// the first to behind the last.
    pub(crate) fn push_batch(
        &self,
        drafts: &mut [(Draft<'_>, usize)],
        make_room: Option<&dyn Fn()>,
    ) -> Result<Range<u64>, Error> {
        self.check()?;
        let count = drafts.len() as u64;
        if count == 0 {
            let next = self.ring.next_id();
            return Ok(next..next);
        }
        let Some(slots) = self.take_slots(drafts) else {
            return self.push_external(drafts, make_room);
        };
        let claim = loop {
            match self.ring.claim(count, None) {
                Ok(claim) => break claim,
                Err(_) => self.wait_for_room(make_room),
            }
            if let Err(error) = self.check() {
                slots.iter().flatten().for_each(|slot| self.slab.give_back(*slot));
                return Err(error);
            }
        };
        let mut is_whole = true;
        for (index, ((draft, size), slot)) in (0..).zip(drafts.iter_mut().zip(slots)) {
            let home = self.ring.home(&claim, index);
            is_whole &= self.fill(&claim, index, home, slot, draft, *size);
        }
        self.wake_if_needed(claim.first_place + count - 1);
        let end = claim.first_id + count;
        if is_whole {
            Ok(claim.first_id..end)
        } else {
            Err(Error::Revoked { first: claim.first_id, last: end - 1 })
        }
    }

    /// Slots for those records of a batch that need larger ones; `None` if the batch can't go through the slab.
    fn take_slots(&self, drafts: &[(Draft<'_>, usize)]) -> Option<Vec<Option<u32>>> {
        if drafts.len() > SLAB_BATCH_MAX.min(self.ring.capacity() as usize / 4) {
            return None;
        }
        let mut slots = Vec::with_capacity(drafts.len());
        for (_, size) in drafts {
            let class = Slab::class_of(*size);
            let slot = if class == 0 {
                None
            } else {
                (class..CLASS_SIZES.len()).find_map(|class| self.slab.take(class))
            };
            if class > 0 && slot.is_none() {
                slots.into_iter().flatten().for_each(|slot| self.slab.give_back(slot));
                return None;
            }
            slots.push(slot);
        }
        Some(slots)
    }

    /// A batch that is encoded in memory of its own and takes one place.
    fn push_external(
        &self,
        drafts: &mut [(Draft<'_>, usize)],
        make_room: Option<&dyn Fn()>,
    ) -> Result<Range<u64>, Error> {
        let count = drafts.len() as u64;
        let claim = loop {
            match self.claim_ids(0, count)? {
                Some(claim) => break claim,
                None => self.wait_for_room(make_room),
            }
            self.check()?;
        };
        let mut batch = Batch::with_capacity(drafts.iter().map(|(_, size)| size).sum());
        for (id, (draft, size)) in (claim.first_id..).zip(drafts) {
            number(&mut draft.header, id);
            batch.push(draft, *size);
        }
        let ids = claim.first_id..claim.first_id + count;
        self.externals.lock().push((claim.first_place, batch));
        let home = self.ring.home(&claim, 0);
        let marker = SlotHeader { event_id: 0, size: 0, home: home.unwrap_or(0), index: 0, count: EXTERNAL };
        if let Some(home) = home {
            // SAFETY: the home slot of a claimed place is the claimant's until it is published.
            unsafe { self.slab.fill(home, marker, |_| {}) };
            if self.ring.publish(claim.first_place, home, home) {
                self.wake_if_needed(claim.first_place);
                return Ok(ids);
            }
            self.slab.give_back(home);
        }
        self.externals.lock().retain(|(place, _)| *place != claim.first_place);
        Err(Error::Revoked { first: ids.start, last: ids.end - 1 })
    }

    /// Claims a place for `count` ids from `first` on, 0 for the next one. `None` where there is no room.
    #[cold]
    fn claim_ids(&self, first: u64, count: u64) -> Result<Option<Claim>, Error> {
        let _turn = self.id_lock.lock();
        let mut locked = self.ring.lock();
        let next = locked.next_id();
        let first = if first == 0 { next } else { first };
        if first < next {
            return Err(Error::IdOrder { found: first, after: next - 1 });
        }
        // The last id is left, so that there is one after it.
        let end = first.checked_add(count).filter(|end| *end < u64::MAX);
        let end = end.ok_or(Error::Exhausted { what: "event ids" })?;
        Ok(locked.claim(first, end))
    }

    /// Encodes a record into its slot and publishes it. False if its place was revoked.
    #[inline]
    fn fill(
        &self,
        claim: &Claim,
        index: u64,
        home: Option<u32>,
        slot: Option<u32>,
        draft: &mut Draft<'_>,
        size: usize,
    ) -> bool {
        let Some(home) = home else {
            slot.inspect(|slot| self.slab.give_back(*slot));
            return false;
        };
        let place = claim.first_place + index;
        let guard = Unpublished { front: self, place, home, slot };
        number(&mut draft.header, claim.first_id + index);
        let header = SlotHeader {
            event_id: draft.header.event_id,
            size: size as u32,
            home,
            index: index as u32,
            count: claim.count as u32,
        };
        // SAFETY: the slot is this claimant's: the home slot of the place, or one that it has taken; it was taken by
        // the record's size.
        unsafe { self.slab.fill(slot.unwrap_or(home), header, |bytes| draft.encode_unsealed_into(bytes)) };
        std::mem::forget(guard);
        let is_published = self.ring.publish(place, home, slot.unwrap_or(home));
        if !is_published {
            self.slab.give_back(home);
            slot.inspect(|slot| self.slab.give_back(*slot));
        }
        is_published
    }

    /// A slot of this class or a larger one; waits until there is one.
    #[cold]
    fn take_slot(&self, class: usize, make_room: Option<&dyn Fn()>) -> Result<u32, Error> {
        loop {
            if let Some(slot) = (class..CLASS_SIZES.len()).find_map(|class| self.slab.take(class)) {
                return Ok(slot);
            }
            self.wait_for_room(make_room);
            self.check()?;
        }
    }

    /// Waits for the committer to have drained something.
    #[cold]
    fn wait_for_room(&self, make_room: Option<&dyn Fn()>) {
        self.waits.fetch_add(1, Ordering::Relaxed);
        if let Some(make_room) = make_room {
            return make_room();
        }
        let drained = self.ring.drained();
        let mut state = self.state.lock();
        self.room_waiters.fetch_add(1, Ordering::SeqCst);
        // The committer looks at the waiters after it has moved `drained`.
        fence(Ordering::SeqCst);
        if self.ring.drained() == drained && state.failure.is_none() {
            self.sleep.store(Sleep::Awake as u8, Ordering::SeqCst);
            self.work.notify_one();
            self.room.wait_for(&mut state, ROOM_WAIT);
        }
        self.room_waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes the committer if it would not see the event soon enough by itself.
    #[inline]
    fn wake_if_needed(&self, place: u64) {
        let sleep = self.sleep.load(Ordering::SeqCst);
        if sleep != Sleep::Awake as u8 {
            let quarter = self.ring.capacity() / 4;
            if sleep == Sleep::Asleep as u8 || (place + 1).is_multiple_of(quarter) {
                self.wake();
            }
        }
    }

    #[cold]
    fn wake(&self) {
        if self.sleep.swap(Sleep::Awake as u8, Ordering::SeqCst) != Sleep::Awake as u8 {
            // With the lock, because the committer has it until it really waits.
            let _state = self.state.lock();
            self.work.notify_one();
        }
    }

    /// Whether the journal still takes events in.
    #[inline]
    fn check(&self) -> Result<(), Error> {
        if self.has_failed.load(Ordering::Relaxed) { self.state.lock().check() } else { Ok(()) }
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
        let mut stats = self.state.lock().stats;
        stats.events_emitted += self.ring.tail().saturating_sub(self.ring.drained());
        stats.last_emitted_id = self.ring.next_id().wrapping_sub(1);
        stats.waits = self.waits.load(Ordering::Relaxed);
        stats
    }

    /// The failure that ended all writing, where there was one.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().check().err()
    }

    /// For the committer: waits until there is something to do. Returns at `deadline` at the latest.
    pub(crate) fn next_work(&self, deadline: Option<Instant>) -> Work {
        let mut state = self.state.lock();
        loop {
            let tail = self.ring.tail();
            let pending = tail - self.ring.drained();
            let now = Instant::now();
            if pending > 0 {
                state.last_work = now;
                state.waiting_since.get_or_insert(now);
            }
            let commit_at = state.waiting_since.and_then(|since| since.checked_add(self.commit_interval));
            let wake_at = [commit_at, deadline].into_iter().flatten().min();
            let is_due = wake_at.is_some_and(|at| now >= at);
            let is_enough =
                pending >= self.ring.capacity() / 4 || self.room_waiters.load(Ordering::SeqCst) > 0;
            let work = self.work_of(&state, tail);
            if work.sync || work.rotate || work.close || is_enough && pending > 0 || is_due {
                state.waiting_since = None;
                return work;
            }
            let lingers = now.duration_since(state.last_work) < LINGER;
            let sleep = if pending > 0 || lingers { Sleep::Dozing } else { Sleep::Asleep };
            self.sleep.store(sleep as u8, Ordering::SeqCst);
            // An event that came before the producers could see this would wake nobody.
            if sleep == Sleep::Dozing || self.ring.tail() == tail {
                let linger =
                    (sleep == Sleep::Dozing).then(|| now.checked_add(self.commit_interval)).flatten();
                match [wake_at, linger].into_iter().flatten().min() {
                    Some(at) => drop(self.work.wait_until(&mut state, at)),
                    None => self.work.wait(&mut state),
                }
            }
            self.sleep.store(Sleep::Awake as u8, Ordering::SeqCst);
        }
    }

    /// For a committer that does not wait: what there is to do now.
    pub(crate) fn work_now(&self) -> Work {
        self.work_of(&self.state.lock(), self.ring.tail())
    }

    fn work_of(&self, state: &State, upto: u64) -> Work {
        Work {
            upto,
            sync: state.asked.sync > state.done.sync,
            rotate: state.asked.rotate > state.done.rotate,
            close: state.closing,
            tickets: state.asked,
        }
    }

    /// For the committer: moves records below the place `upto` into the batch, in their order, until it has the size
    /// of a group. True if there are none left.
    ///
    /// Waits for claimants that have not published yet, each for `claim_timeout` at most: then its place is taken
    /// away and becomes a gap.
    pub(crate) fn gather(&self, batch: &mut Batch, upto: u64, monotonic_ns: i64) -> bool {
        let mut blocked_since = None;
        batch.follow(self.last_drained_id.load(Ordering::Relaxed), monotonic_ns);
        let start = self.ring.drained();
        let mut at = start;
        let is_complete = loop {
            if at >= upto {
                break true;
            }
            match self.take_in(batch, at) {
                Taken::Places(count) => {
                    blocked_since = None;
                    at += count;
                    if at % DRAIN_STEP < count {
                        self.ring.set_drained(at);
                    }
                }
                Taken::NoRoom => break false,
                Taken::Blocked => {
                    self.ring.set_drained(at);
                    let since = *blocked_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.claim_timeout {
                        at += self.revoke(batch, at);
                        blocked_since = None;
                    } else {
                        std::thread::sleep(CLAIM_WAIT);
                    }
                }
            }
        };
        self.last_drained_id.store(batch.finish(), Ordering::Relaxed);
        self.ring.set_drained(at);
        // A producer counts itself as waiting before it looks at `drained` for the last time.
        fence(Ordering::SeqCst);
        if at > start && self.room_waiters.load(Ordering::SeqCst) > 0 {
            let _state = self.state.lock();
            self.room.notify_all();
        }
        is_complete
    }

    /// Takes in what stands at a place, with all that belongs to it.
    fn take_in(&self, batch: &mut Batch, place: u64) -> Taken {
        let slot = match self.ring.peek(place) {
            Next::Published(slot) => slot,
            Next::Abandoned(home) => {
                batch.miss();
                self.ring.recycle(place, home);
                return Taken::Places(1);
            }
            Next::Claimed | Next::Unclaimed => return Taken::Blocked,
        };
        // SAFETY: the committer owns a published slot until it recycles the place.
        let (header, record) = unsafe { self.slab.read(slot) };
        let fits = |batch: &Batch, size: usize| batch.is_empty() || batch.len() + size <= self.group_size;
        if header.count == 1 {
            if !fits(batch, record.len()) {
                return Taken::NoRoom;
            }
            batch.push_unsealed(header.event_id, record);
            self.free(place, slot, header.home);
            return Taken::Places(1);
        }
        if header.count == EXTERNAL {
            let mut externals = self.externals.lock();
            let Some(at) = externals.iter().position(|(of, _)| *of == place) else {
                debug_assert!(false, "an external batch is deposited before its place is published");
                self.free(place, slot, header.home);
                return Taken::Places(1);
            };
            if !fits(batch, externals[at].1.len()) {
                return Taken::NoRoom;
            }
            batch.append(&externals.swap_remove(at).1);
            drop(externals);
            self.free(place, slot, header.home);
            return Taken::Places(1);
        }
        if header.index > 0 {
            // The first of them was revoked.
            batch.miss();
            self.free(place, slot, header.home);
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
        fits: impl Fn(&Batch, usize) -> bool,
    ) -> Taken {
        let mut slots = [0; SLAB_BATCH_MAX];
        let mut size = 0;
        for (place, slot) in (place..place + count).zip(&mut slots) {
            match self.ring.peek(place) {
                Next::Published(published) => {
                    *slot = published;
                    // SAFETY: the committer owns a published slot until it recycles the place.
                    size += unsafe { self.slab.read(published) }.1.len();
                }
                Next::Abandoned(_) => return Taken::Places(self.discard(batch, place, count)),
                Next::Claimed | Next::Unclaimed => return Taken::Blocked,
            }
        }
        if !fits(batch, size) {
            return Taken::NoRoom;
        }
        for (place, slot) in (place..place + count).zip(slots) {
            // SAFETY: as above.
            let (header, record) = unsafe { self.slab.read(slot) };
            batch.push_unsealed(header.event_id, record);
            self.free(place, slot, header.home);
        }
        Taken::Places(count)
    }

    /// Gives a place whose record was read to the next round.
    fn free(&self, place: u64, slot: u32, home: u32) {
        self.ring.recycle(place, home);
        if slot != home {
            self.slab.give_back(slot);
        }
    }

    /// Takes a place away from a claimant that is too slow, with all that belongs to it. Gives the places that became
    /// gaps: none if it has published at last.
    #[cold]
    fn revoke(&self, batch: &mut Batch, place: u64) -> u64 {
        let count = match self.ring.peek(place) {
            // SAFETY: the committer owns a published slot until it recycles the place.
            Next::Published(slot) => u64::from(unsafe { self.slab.read(slot) }.0.count),
            _ => 1,
        };
        self.discard(batch, place, count)
    }

    /// Makes gaps of places, whatever stands there. Gives how many it came to.
    #[cold]
    fn discard(&self, batch: &mut Batch, first: u64, count: u64) -> u64 {
        for place in first..first + count {
            match self.ring.peek(place) {
                Next::Published(slot) => {
                    // SAFETY: the committer owns a published slot until it recycles the place.
                    let home = unsafe { self.slab.read(slot) }.0.home;
                    self.free(place, slot, home);
                }
                Next::Abandoned(home) => self.ring.recycle(place, home),
                Next::Claimed | Next::Unclaimed => {
                    let Some(spare) = self.slab.take(0) else {
                        tracing::error!(
                            place,
                            "no spare slot is left: the journal waits for a stopped producer"
                        );
                        return place - first;
                    };
                    if !self.ring.revoke(place, spare) {
                        self.slab.give_back(spare);
                        return place - first;
                    }
                    tracing::warn!(
                        place,
                        "a producer did not come back in time: its event is recorded as a gap"
                    );
                }
            }
            batch.miss();
        }
        count
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
        let mut state: MutexGuard<'_, State> = self.state.lock();
        state.failure.get_or_insert(Arc::new(error));
        self.has_failed.store(true, Ordering::SeqCst);
        drop(state);
        self.room.notify_all();
        self.done.notify_all();
    }
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

/// A claimed place whose claimant unwinds: it is given up, so that nobody waits for it.
struct Unpublished<'f> {
    front: &'f Front,
    place: u64,
    home: u32,
    slot: Option<u32>,
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        if !self.front.ring.abandon(self.place, self.home) {
            self.front.slab.give_back(self.home);
        }
        self.slot.inspect(|slot| self.front.slab.give_back(*slot));
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

/// Gives a record its id. A sequence that the emitter does not number is the journal's own.
#[inline]
fn number(header: &mut EventHeader, id: u64) {
    let is_new = header.event_id == 0;
    header.event_id = id;
    if is_new {
        for field in [
            &mut header.sequence,
            &mut header.global_sequence,
            &mut header.local_sequence,
            &mut header.root_cause_event_id,
        ] {
            if *field == 0 {
                *field = id;
            }
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use semj_format::{EventHeader, Gap, control};

    use super::*;

    fn front(places: usize) -> Front {
        let setup = Setup {
            places,
            commit_interval: Duration::from_millis(1),
            claim_timeout: Duration::from_millis(20),
            group_size_max: 1 << 20,
        };
        let stats = Stats {
            epoch: 1,
            segment_number: 1,
            segments: 1,
            events_emitted: 0,
            last_emitted_id: 0,
            last_committed_id: 0,
            last_durable_id: 0,
            last_marked_id: 0,
            commits: 0,
            bytes_written: 0,
            syncs: 0,
            waits: 0,
            digest: semj_format::Digest::ZERO,
        };
        Front::new(1, &setup, stats)
    }

    fn draft(payload: &[u8]) -> (Draft<'_>, usize) {
        let draft = Draft { payload, ..Draft::new(EventHeader::new(0x0101)) };
        (draft, draft.encoded_size().unwrap())
    }

    fn push(front: &Front, payload: &[u8]) -> Result<u64, Error> {
        let (draft, size) = draft(payload);
        front.push(draft, size, None)
    }

    /// What the committer gets: ids of events, and gaps as ranges of ids with the number of events in them.
    fn gather(front: &Front) -> (Vec<u64>, Vec<(u64, u64, u64)>) {
        let (mut events, mut gaps) = (Vec::new(), Vec::new());
        loop {
            let mut batch = Batch::default();
            let is_complete = front.gather(&mut batch, front.ring.tail(), 1);
            for (_, record) in batch.records() {
                record.verify_checksum().unwrap();
                match control::parse::<Gap>(&record) {
                    Ok(Some(gap)) => gaps.push((gap.first_event_id, gap.last_event_id, gap.event_count)),
                    _ => events.push(record.event_id()),
                }
            }
            if is_complete {
                return (events, gaps);
            }
        }
    }

    #[test]
    fn a_stopped_producer_delays_the_others_by_the_timeout_at_most_and_leaves_a_gap() {
        let front = front(64);
        assert_eq!(push(&front, b"1").unwrap(), 1);
        let stopped = front.ring.claim(1, None).unwrap();
        assert_eq!(push(&front, b"3").unwrap(), 3);
        let started = Instant::now();
        assert_eq!(gather(&front), (vec![1, 3], vec![(2, 2, 1)]));
        assert!(started.elapsed() >= Duration::from_millis(20));

        // The place goes round, and only then the producer comes back.
        for n in 4..4 + 64 {
            assert_eq!(push(&front, b"again").unwrap(), n);
            assert_eq!(gather(&front), (vec![n], vec![]));
        }
        let (mut draft, size) = draft(b"late");
        let home = front.ring.home(&stopped, 0);
        assert!(!front.fill(&stopped, 0, home, None, &mut draft, size), "it is told that it is late");
        assert_eq!(push(&front, b"next").unwrap(), 68);
        assert_eq!(gather(&front), (vec![68], vec![]));
    }

    #[test]
    fn a_producer_that_unwinds_holds_nobody_up() {
        let front = front(64);
        let claim = front.ring.claim(1, None).unwrap();
        let home = front.ring.home(&claim, 0).unwrap();
        drop(Unpublished { front: &front, place: claim.first_place, home, slot: None });
        push(&front, b"2").unwrap();
        let started = Instant::now();
        assert_eq!(gather(&front), (vec![2], vec![(1, 1, 1)]));
        assert!(started.elapsed() < Duration::from_millis(20));
    }

    #[test]
    fn of_a_batch_whose_producer_stopped_nothing_is_taken() {
        for published in 0..3 {
            let front = front(64);
            push(&front, b"1").unwrap();
            let claim = front.ring.claim(3, None).unwrap();
            push(&front, b"5").unwrap();
            let (mut draft, size) = draft(b"one of three");
            let homes: Vec<_> = (0..3).map(|index| front.ring.home(&claim, index)).collect();
            assert!(front.fill(&claim, published, homes[published as usize], None, &mut draft, size));
            assert_eq!(gather(&front), (vec![1, 5], vec![(2, 4, 3)]), "member {published}");
            for index in (0..3).filter(|index| *index != published) {
                assert!(!front.fill(&claim, index, homes[index as usize], None, &mut draft, size));
            }
            for n in 6..300 {
                assert_eq!(push(&front, b"on and on").unwrap(), n);
                assert_eq!(gather(&front), (vec![n], vec![]));
            }
        }
    }

    #[test]
    fn records_of_every_size_and_batches_of_every_length_come_out_in_the_order_of_their_ids() {
        let front = front(256);
        let large = vec![7; 65_536];
        let mut next = 1;
        for round in 0..200usize {
            let payload = &large[..round * 331 % 65_536];
            assert_eq!(push(&front, payload).unwrap(), next);
            let mut drafts: Vec<_> = (0..round % 50).map(|i| draft(&large[..i * 97])).collect();
            let count = drafts.len() as u64;
            assert_eq!(front.push_batch(&mut drafts, None).unwrap(), next + 1..next + 1 + count);
            let (events, gaps) = gather(&front);
            assert!(events.iter().copied().eq(next..=next + count) && gaps.is_empty(), "round {round}");
            next += count + 1;
        }
    }

    #[test]
    fn imported_ids_jump_and_never_go_back() {
        let front = front(64);
        let import = |id| {
            let (mut draft, size) = draft(b"");
            draft.header.event_id = id;
            front.push(draft, size, None)
        };
        assert_eq!(import(5).unwrap(), 5);
        assert_eq!(push(&front, b"").unwrap(), 6);
        assert_eq!(import(7).unwrap(), 7);
        assert!(matches!(import(7), Err(Error::IdOrder { found: 7, after: 7 })));
        assert!(matches!(import(u64::MAX), Err(Error::Exhausted { .. })));
        assert_eq!(push(&front, b"").unwrap(), 8);
        assert_eq!(gather(&front), (vec![5, 6, 7, 8], vec![]));
    }

    #[test]
    fn producers_on_many_threads_lose_nothing_when_the_ring_is_full_most_of_the_time() {
        const EVENTS: u64 = 20_000;
        let front = front(64);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let producers: Vec<_> = (0..4u8)
                .map(|producer| {
                    let front = &front;
                    scope.spawn(move || {
                        (0..EVENTS).all(|n| push(front, &vec![producer; n as usize % 700]).is_ok())
                    })
                })
                .collect();
            while seen.len() < 4 * EVENTS as usize {
                let (events, gaps) = gather(&front);
                assert!(gaps.is_empty());
                seen.extend(events);
            }
            assert!(producers.into_iter().all(|producer| producer.join().unwrap()));
        });
        assert!(seen.iter().copied().eq(1..=4 * EVENTS));
    }
}
