//! The front end: where emitted events wait for the committer.
//!
//! An emission claims a place in the [`ring`], encodes its record into a slot of the [`slab`] and publishes it: no lock,
//! no allocation and no system call, unless the committer sleeps or the ring is full.
//!
//! Memory is bounded: ring and slab are made when the journal is opened. Who finds no place or no slot waits for the
//! committer. Only an `emit_batch` of more than [`SLAB_BATCH_MAX`] events brings memory of its own.

mod fence;
mod memory;
pub(crate) mod ring;
pub(crate) mod slab;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use semj_format::control::GapType;
use semj_format::{Draft, EventHeader, Measure, Priority};

use crate::batch::Batch;
use crate::error::Error;
use crate::helping::Helping;
use crate::metrics::PoolClass;
use crate::options::Backpressure;
use ring::{Claim, Fill, Next, Refused, Ring};
use slab::{EXTERNAL, Slab, SlotHeader};

/// Bytes of a commit group, from which on no further record is put into it, at most.
pub(crate) const GROUP_SIZE: usize = 1 << 20;
/// Events of a batch that go through the slab. A larger batch is encoded in memory of its own.
const SLAB_BATCH_MAX: usize = 32;
/// How long the committer sleeps at least while events come in.
const DOZE_MIN: Duration = Duration::from_micros(500);
/// For how long after an event the committer wakes by the clock alone, so that no emission has to wake it.
const LINGER: Duration = Duration::from_millis(50);
/// How often in a round of the ring a producer looks how full it is.
const LOOKS: u64 = 16;
/// How long a waiting producer sleeps until it looks again by itself.
const ROOM_WAIT: Duration = Duration::from_millis(1);
/// How long a waiting producer that can't help looks again and again before it sleeps.
const ROOM_SPIN: Duration = Duration::from_micros(50);
/// How long the committer waits for a claimant between two looks.
const CLAIM_WAIT: Duration = Duration::from_micros(50);
/// The committer has records come to its processor's cache so many places ahead: producers have written them on others.
const GATHER_AHEAD: u64 = 6;
/// Places after which the committer tells producers that there is room.
const DRAIN_STEP: u64 = 64;
/// Places of a group after which it wakes producers that wait for them.
const ROOM_STEP: u64 = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Front {
    ring: Ring,
    slab: Slab,
    /// Whether the committer has to be woken: see [`Sleep`].
    sleep: AtomicU8,
    /// Something is not as it mostly is, and [`Front::unusual`] has to be asked.
    is_unusual: AtomicBool,
    /// Nothing is taken in any more.
    has_failed: AtomicBool,
    /// An urgent event waits.
    is_urgent: AtomicBool,
    /// Producers that wait for room.
    room_waiters: AtomicU64,
    /// Producers that look for room and have not gone to sleep.
    spinners: AtomicU64,
    waits: AtomicU64,
    dropped_events: AtomicU64,
    /// The committer's own: the last id that it has drained.
    last_drained_id: AtomicU64,
    state: Mutex<State>,
    /// Taken by whoever moves the ids.
    id_lock: Mutex<()>,
    /// What did not go through the slab, by its place.
    externals: Mutex<Vec<(u64, External)>>,
    /// Events that were dropped and have no ids yet.
    drops: Mutex<Vec<GapType>>,
    /// Tells the committer that there is something to do.
    work: Condvar,
    /// Tells producers that there is room.
    room: Condvar,
    helping: Helping,
    setup: Setup,
    /// Bytes of a group, from which on no further record is put into it.
    group_size: usize,
    /// A producer looks how full the ring is where the next place has none of these bits.
    look_mask: u64,
}

/// What stands at a place and not in the slab.
#[derive(Debug)]
enum External {
    /// Records, encoded and numbered.
    Batch(Batch),
    /// No event, but ids of some that were dropped.
    Dropped(Range<u64>, Vec<GapType>),
}

/// What the committer does while there is nothing to do. The values of [`Front::sleep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Sleep {
    Awake = 0,
    /// It wakes by the clock soon enough; only a ring that fills up or an urgent event has to wake it.
    Dozing = 1,
    /// The next event has to wake it.
    Asleep = 2,
}

#[derive(Debug)]
struct State {
    /// When the committer saw first that events wait.
    waiting_since: Option<Instant>,
    /// How long the committer leaves events to gather: the commit interval, or less, so that the ring does not fill up
    /// before and no emission has to wake it.
    doze: Duration,
    last_work: Instant,
    closing: bool,
    failure: Option<Arc<Error>>,
}

/// What the committer is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// There are events to commit.
    Commit,
    /// Among them some that are urgent.
    CommitUrgent,
    /// The journal is being closed.
    Close,
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
    /// Whether events of high priority wake the committer.
    pub(crate) heeds_priority: bool,
}

/// What to do while there is no room.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) backpressure: Backpressure,
    /// Has something committed, where that is the caller's part.
    pub(crate) make_room: Option<&'a dyn Fn()>,
}

/// When and where an event happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) ktime_ns: i64,
    pub(crate) process_id: u32,
    pub(crate) cpu_id: u32,
}

impl Origin {
    /// What a header says.
    #[inline]
    pub(crate) const fn of(header: &EventHeader) -> Self {
        Self { ktime_ns: header.ktime_ns, process_id: header.process_id, cpu_id: header.cpu_id }
    }
}

/// An event that is to be taken in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emitted<'a> {
    pub(crate) draft: &'a Draft<'a>,
    /// In the place of what the draft's header says.
    pub(crate) origin: Origin,
    /// What the draft takes.
    pub(crate) measure: Measure,
}

impl Emitted<'_> {
    /// The header of the event with this id. A sequence that the emitter does not number is the journal's own.
    ///
    /// Where this is encoded at once no header is made: each field goes to its place.
    #[inline(always)]
    fn header(&self, id: u64) -> EventHeader {
        let header = &self.draft.header;
        let Origin { ktime_ns, process_id, cpu_id } = self.origin;
        // The emitter's own numbers come with an id.
        let own = if header.event_id == 0 { id } else { 0 };
        let or_id = |number: u64| if number == 0 { own } else { number };
        EventHeader {
            event_id: id,
            ktime_ns,
            process_id,
            cpu_id,
            sequence: or_id(header.sequence),
            global_sequence: or_id(header.global_sequence),
            local_sequence: or_id(header.local_sequence),
            root_cause_event_id: or_id(header.root_cause_event_id),
            ..*header
        }
    }
}

impl Front {
    /// # Errors
    ///
    /// There is not enough memory.
    pub(crate) fn new(next_event_id: u64, setup: Setup) -> std::io::Result<Self> {
        let slab = Slab::new(setup.places)?;
        slab.touch();
        let state = State {
            waiting_since: None,
            doze: setup.commit_interval,
            last_work: Instant::now(),
            closing: false,
            failure: None,
        };
        Ok(Self {
            ring: Ring::new(setup.places, next_event_id),
            slab,
            sleep: AtomicU8::new(Sleep::Awake as u8),
            is_unusual: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            room_waiters: AtomicU64::new(0),
            spinners: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            dropped_events: AtomicU64::new(0),
            last_drained_id: AtomicU64::new(next_event_id - 1),
            state: Mutex::new(state),
            id_lock: Mutex::new(()),
            externals: Mutex::new(Vec::new()),
            drops: Mutex::new(Vec::new()),
            work: Condvar::new(),
            room: Condvar::new(),
            helping: Helping::default(),
            group_size: GROUP_SIZE.min(setup.group_size_max),
            look_mask: (setup.places as u64 / LOOKS).saturating_sub(1),
            setup,
        })
    }

    /// Takes in an event. An id of 0 stands for the next one. Gives the id.
    #[inline]
    pub(crate) fn push(&self, event: &Emitted<'_>, patience: Patience<'_>) -> Result<u64, Error> {
        self.check()?;
        let header = &event.draft.header;
        if patience.backpressure == Backpressure::DropByPriority {
            self.admit(header)?;
        }
        let class = Slab::class_of(event.measure.size());
        let slot = if class == 0 { None } else { Some(self.take_slot(class, header, patience)?) };
        let explicit = Some(header.event_id).filter(|id| *id != 0);
        let mut homes = [0];
        let (claim, home) = match self.ring.claim(&mut homes, explicit) {
            Ok(claim) => (claim, homes[0]),
            Err(refused) => {
                let claim = self.claim_later(refused, header, patience);
                claim.inspect_err(|_| {
                    slot.inspect(|slot| self.slab.give_back(*slot));
                })?
            }
        };
        if self.fill(&claim, 0, home, slot, event) {
            if let Some(next) = self.ring.guess_next(event.origin.cpu_id, claim.first_place) {
                self.slab.prefetch(self.ring.home(next));
            }
            self.wake_if_needed(claim.first_place, header.event_priority);
            Ok(claim.first_id)
        } else {
            Err(Error::Revoked { first: claim.first_id, last: claim.first_id })
        }
    }

    /// Claims a place for one event when the first attempt was refused. With its home slot.
    #[cold]
    fn claim_later(
        &self,
        mut refused: Refused,
        header: &EventHeader,
        patience: Patience<'_>,
    ) -> Result<(Claim, u32), Error> {
        let explicit = Some(header.event_id).filter(|id| *id != 0);
        let mut wait = Wait::new(patience);
        loop {
            match refused {
                Refused::Full => wait.for_room(self, Some(header))?,
                Refused::Id { .. } => match self.claim_ids(header.event_id, 1)? {
                    Some(claimed) => return Ok(claimed),
                    None => wait.for_room(self, Some(header))?,
                },
            }
            self.check()?;
            let mut homes = [0];
            match self.ring.claim(&mut homes, explicit) {
                Ok(claim) => return Ok((claim, homes[0])),
                Err(again) => refused = again,
            }
        }
    }

    /// Takes in events, to be committed as one. None of them has an id. Gives the ids, from the first to behind the last.
    pub(crate) fn push_batch(
        &self,
        events: &[Emitted<'_>],
        patience: Patience<'_>,
    ) -> Result<Range<u64>, Error> {
        self.check()?;
        let count = events.len() as u64;
        let headers = events.iter().map(|event| &event.draft.header);
        let Some(urgent) = headers.min_by_key(|header| header.event_priority) else {
            let next = self.ring.next_id();
            return Ok(next..next);
        };
        if patience.backpressure == Backpressure::DropByPriority {
            // A batch is as urgent as the most urgent of its events: it is taken in or not as one.
            self.admit_all(urgent, events)?;
        }
        let Some(slots) = self.take_slots(events) else {
            return self.push_external(events, patience);
        };
        let mut wait = Wait::new(patience);
        let mut homes = [0; SLAB_BATCH_MAX];
        // There are slots for a batch of this size at most: see `take_slots`.
        let homes = &mut homes[..events.len()];
        let claim = loop {
            if let Ok(claim) = self.ring.claim(homes, None) {
                break claim;
            }
            if let Err(error) = wait.for_room(self, None).and_then(|()| self.check()) {
                slots.iter().flatten().for_each(|slot| self.slab.give_back(*slot));
                return Err(error);
            }
        };
        let mut is_whole = true;
        let homes = homes.iter().zip(slots);
        for (index, (event, (home, slot))) in (0..).zip(events.iter().zip(homes)) {
            is_whole &= self.fill(&claim, index, *home, slot, event);
        }
        self.wake_if_needed(claim.first_place + count - 1, urgent.event_priority);
        let end = claim.first_id + count;
        if is_whole {
            Ok(claim.first_id..end)
        } else {
            Err(Error::Revoked { first: claim.first_id, last: end - 1 })
        }
    }

    /// Slots for those records of a batch that need larger ones; `None` if the batch can't go through the slab.
    fn take_slots(&self, events: &[Emitted<'_>]) -> Option<Vec<Option<u32>>> {
        if events.len() > SLAB_BATCH_MAX.min(self.ring.capacity() as usize / 4) {
            return None;
        }
        let mut slots = Vec::with_capacity(events.len());
        for event in events {
            let class = Slab::class_of(event.measure.size());
            let slot = if class == 0 { None } else { self.slab.take_for(class) };
            if class > 0 && slot.is_none() {
                slots.into_iter().flatten().for_each(|slot| self.slab.give_back(slot));
                return None;
            }
            slots.push(slot);
        }
        Some(slots)
    }

    /// A batch that is encoded in memory of its own and takes one place.
    fn push_external(&self, events: &[Emitted<'_>], patience: Patience<'_>) -> Result<Range<u64>, Error> {
        let count = events.len() as u64;
        let mut wait = Wait::new(patience);
        let (claim, home) = loop {
            match self.claim_ids(0, count)? {
                Some(claimed) => break claimed,
                None => wait.for_room(self, None)?,
            }
            self.check()?;
        };
        let mut batch = Batch::with_capacity(events.iter().map(|event| event.measure.size()).sum());
        let mut urgent = u32::MAX;
        for (id, event) in (claim.first_id..).zip(events) {
            let header = event.header(id);
            urgent = urgent.min(header.event_priority);
            batch.push(&header, event.draft, event.measure);
        }
        let ids = claim.first_id..claim.first_id + count;
        if !self.publish_external(&claim, home, External::Batch(batch)) {
            return Err(Error::Revoked { first: ids.start, last: ids.end - 1 });
        }
        self.wake_if_needed(claim.first_place, urgent);
        Ok(ids)
    }

    /// Publishes what does not go through the slab. False if its place was revoked.
    fn publish_external(&self, claim: &Claim, home: u32, external: External) -> bool {
        let place = claim.first_place;
        self.externals.lock().push((place, external));
        let marker = SlotHeader { event_id: 0, size: 0, index: 0, count: EXTERNAL };
        // SAFETY: the home slot of a claimed place is the claimant's until it is published.
        unsafe { self.slab.fill(home, marker, |_| {}) };
        let is_published = self.ring.publish(&self.slab, place, home, home);
        if !is_published {
            self.slab.give_back(home);
            self.externals.lock().retain(|(of, _)| *of != place);
        }
        is_published
    }

    fn full(&self) -> Error {
        Error::Full { events: self.ring.capacity() }
    }

    /// Claims a place for `count` ids from `first` on, 0 for the next one. With its home slot. `None` where there is no
    /// room.
    #[cold]
    fn claim_ids(&self, first: u64, count: u64) -> Result<Option<(Claim, u32)>, Error> {
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
    #[inline(always)]
    fn fill(&self, claim: &Claim, index: u64, home: u32, slot: Option<u32>, event: &Emitted<'_>) -> bool {
        let place = claim.first_place + index;
        let guard = Unpublished { front: self, place, home, slot };
        let id = claim.first_id + index;
        let slot_header = SlotHeader {
            event_id: id,
            size: event.measure.size() as u32,
            index: index as u32,
            count: claim.count as u32,
        };
        // SAFETY: the slot is this claimant's: the home slot of the place, or one that it has taken; it was taken by
        // the record's size.
        unsafe {
            self.slab.fill(slot.unwrap_or(home), slot_header, |bytes| {
                event.draft.encode_unsealed_with(&event.header(id), event.measure, bytes);
            });
        }
        std::mem::forget(guard);
        let is_published = self.ring.publish(&self.slab, place, home, slot.unwrap_or(home));
        if !is_published {
            self.slab.give_back(home);
            slot.inspect(|slot| self.slab.give_back(*slot));
        }
        is_published
    }

    /// A slot of this class or a larger one.
    #[inline(never)]
    fn take_slot(&self, class: usize, header: &EventHeader, patience: Patience<'_>) -> Result<u32, Error> {
        let mut wait = Wait::new(patience);
        loop {
            if let Some(slot) = self.slab.take_for(class) {
                self.slab.prefetch_start(slot);
                return Ok(slot);
            }
            wait.for_room(self, Some(header))?;
            self.check()?;
        }
    }

    /// Drops an event that is not urgent enough for how full the buffer is.
    #[inline]
    fn admit(&self, header: &EventHeader) -> Result<(), Error> {
        let capacity = self.ring.capacity();
        let limit = match Priority(header.event_priority) {
            Priority::BACKGROUND => capacity / 2,
            Priority::LOW => capacity / 4 * 3,
            _ => return Ok(()),
        };
        if self.pending() < limit { Ok(()) } else { Err(self.drop_event(header)) }
    }

    fn admit_all(&self, urgent: &EventHeader, events: &[Emitted<'_>]) -> Result<(), Error> {
        self.admit(urgent).inspect_err(|_| {
            // One of them is counted already.
            let others = events.iter().map(|event| event.draft.header.event_type);
            let mut skipped = false;
            for event_type in others {
                if !skipped && event_type == urgent.event_type {
                    skipped = true;
                } else {
                    self.count_drop(event_type);
                }
            }
        })
    }

    /// Counts an event that is not taken in. It gets its id with the next place that is claimed.
    #[cold]
    fn drop_event(&self, header: &EventHeader) -> Error {
        self.count_drop(header.event_type);
        Error::Dropped { priority: Priority(header.event_priority) }
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
    fn settle_drops(&self) -> Result<(), Error> {
        let mut drops = self.drops.lock();
        let count = drops.iter().map(|of| of.event_count).sum();
        if count > 0
            && let Some((claim, home)) = self.claim_ids(0, count)?
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

    /// Wakes the committer if it would not see the event soon enough by itself.
    #[inline]
    fn wake_if_needed(&self, place: u64, priority: u32) {
        let is_urgent = priority <= Priority::HIGH.0 && self.setup.heeds_priority;
        if is_urgent {
            self.is_urgent.store(true, Ordering::SeqCst);
        }
        let sleep = self.sleep.load(Ordering::SeqCst);
        // How full the ring is is looked at now and then only: where the committer is on that cache line, it costs as much
        // as an emission.
        if sleep == Sleep::Asleep as u8
            || sleep == Sleep::Dozing as u8
                && (is_urgent || (place + 1) & self.look_mask == 0 && self.is_filling(place + 1))
        {
            self.wake();
        }
    }

    /// Whether a quarter of the ring is in use, up to this place.
    #[cold]
    fn is_filling(&self, place: u64) -> bool {
        place.saturating_sub(self.ring.drained()) >= self.ring.capacity() / 4
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
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_unusual.load(Ordering::Relaxed) { self.unusual() } else { Ok(()) }
    }

    #[cold]
    fn unusual(&self) -> Result<(), Error> {
        if self.has_failed.load(Ordering::SeqCst) {
            return self.state.lock().check();
        }
        self.is_unusual.store(false, Ordering::SeqCst);
        self.settle_drops()?;
        if self.has_failed.load(Ordering::SeqCst) || !self.drops.lock().is_empty() {
            self.is_unusual.store(true, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Lets the committer's thread end when it has committed what there is.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// The failure that ended all writing, where there was one.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.state.lock().check().err()
    }

    /// Where those who wait for room help.
    pub(crate) fn helping(&self) -> &Helping {
        &self.helping
    }

    /// The next place to be claimed.
    pub(crate) fn tail(&self) -> u64 {
        self.ring.tail()
    }

    /// The last id that was given.
    pub(crate) fn last_id(&self) -> u64 {
        self.ring.next_id().wrapping_sub(1)
    }

    /// Places that were claimed and are not drained.
    pub(crate) fn pending(&self) -> u64 {
        self.ring.fill().pending
    }

    /// Emissions that found no room at once.
    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Events that were dropped.
    pub(crate) fn dropped_events(&self) -> u64 {
        self.dropped_events.load(Ordering::Relaxed)
    }

    /// The slab's slots.
    pub(crate) fn pool(&self) -> Vec<PoolClass> {
        self.slab.pool(self.pending(), self.ring.tail())
    }

    /// How long to doze next, if so many events have gathered this time.
    fn next_doze(&self, doze: Duration, pending: u64) -> Duration {
        let capacity = self.ring.capacity();
        if pending > capacity / 16 * 3 {
            (doze / 2).max(DOZE_MIN)
        } else if pending < capacity / 16 {
            (doze * 2).min(self.setup.commit_interval)
        } else {
            doze
        }
    }

    /// For the committer's thread: waits until there is something to do.
    pub(crate) fn next_work(&self) -> Work {
        let mut state = self.state.lock();
        loop {
            let Fill { tail, pending } = self.ring.fill();
            let now = Instant::now();
            if pending > 0 {
                state.last_work = now;
                state.waiting_since.get_or_insert(now);
            }
            if state.closing || state.failure.is_some() {
                return Work::Close;
            }
            let is_urgent = pending > 0 && self.is_urgent.swap(false, Ordering::SeqCst);
            let commit_at = state.waiting_since.and_then(|since| since.checked_add(state.doze));
            let is_enough =
                pending >= self.ring.capacity() / 4 || self.room_waiters.load(Ordering::SeqCst) > 0;
            if is_urgent || is_enough && pending > 0 || commit_at.is_some_and(|at| now >= at) {
                state.waiting_since = None;
                state.doze = self.next_doze(state.doze, pending);
                return if is_urgent { Work::CommitUrgent } else { Work::Commit };
            }
            let lingers = now.duration_since(state.last_work) < LINGER;
            let sleep = if pending > 0 || lingers { Sleep::Dozing } else { Sleep::Asleep };
            self.sleep.store(sleep as u8, Ordering::SeqCst);
            // An event that came before the producers could see this would wake nobody.
            if self.is_urgent.load(Ordering::SeqCst) && pending > 0 {
                // Looked at again above.
            } else if sleep == Sleep::Dozing || self.ring.tail() == tail {
                let linger = (sleep == Sleep::Dozing).then(|| now.checked_add(state.doze)).flatten();
                match [commit_at, linger].into_iter().flatten().min() {
                    Some(at) => drop(self.work.wait_until(&mut state, at)),
                    None => self.work.wait(&mut state),
                }
            }
            self.sleep.store(Sleep::Awake as u8, Ordering::SeqCst);
        }
    }

    /// For the committer: moves records into the batch, in their order, until it has the size of a group or those below
    /// the place `upto` are done. True if there are none left of these.
    ///
    /// Waits for claimants that have not published yet, each for `claim_timeout` at most: then its place is taken
    /// away and becomes a gap.
    pub(crate) fn gather(&self, batch: &mut Batch, upto: u64, monotonic_ns: i64) -> bool {
        let mut blocked_since = None;
        batch.follow(self.last_drained_id.load(Ordering::Relaxed), monotonic_ns);
        let start = self.ring.drained();
        let mut at = start;
        let mut told = start;
        let mut claimed = upto;
        let is_complete = loop {
            // What was published since then comes along, but nothing beyond is waited for.
            let is_asked_for = at < upto;
            if at >= claimed {
                // Not looked at each time: producers would have to get the line back.
                claimed = self.ring.tail();
                if at >= claimed {
                    break true;
                }
            }
            self.fetch_ahead(at, claimed);
            match self.take_in(batch, at) {
                Taken::Places(count) => {
                    blocked_since = None;
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
                    let since = *blocked_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.setup.claim_timeout {
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
        if at > told {
            self.tell_of_room();
        }
        is_complete
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

    /// For the committer: what was dropped gets its ids now, if nobody else came to give them.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        if self.is_unusual.load(Ordering::Relaxed) { self.unusual() } else { Ok(()) }
    }

    /// Takes in what stands at a place, with all that belongs to it.
    fn take_in(&self, batch: &mut Batch, place: u64) -> Taken {
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
        let fits = |batch: &Batch, size: usize| batch.is_empty() || batch.len() + size <= self.group_size;
        if header.count == 1 {
            if !fits(batch, record.len()) {
                return Taken::NoRoom;
            }
            batch.push_unsealed(header.event_id, record);
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
            if let External::Batch(records) = &externals[at].1
                && !fits(batch, records.len())
            {
                return Taken::NoRoom;
            }
            let (_, external) = externals.swap_remove(at);
            drop(externals);
            match external {
                External::Batch(records) => batch.append(&records),
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
        fits: impl Fn(&Batch, usize) -> bool,
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
                Next::Abandoned => return Taken::Places(self.discard(batch, place, count)),
                Next::Pending => return Taken::Blocked,
            }
        }
        if !fits(batch, size) {
            return Taken::NoRoom;
        }
        for (place, slot) in (place..place + count).zip(slots) {
            // SAFETY: as above.
            let (header, record) = unsafe { self.slab.read(slot) };
            batch.push_unsealed(header.event_id, record);
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
    /// gaps: none if it has published at last.
    #[cold]
    fn revoke(&self, batch: &mut Batch, place: u64) -> u64 {
        let count = match self.ring.peek(&self.slab, place) {
            // SAFETY: the committer owns a published slot until it moves `drained` on.
            Next::Published(slot) => u64::from(unsafe { self.slab.read(slot) }.0.count),
            _ => 1,
        };
        self.discard(batch, place, count)
    }

    /// Makes gaps of places, whatever stands there. Gives how many it came to.
    #[cold]
    fn discard(&self, batch: &mut Batch, first: u64, count: u64) -> u64 {
        for place in first..first + count {
            match self.ring.peek(&self.slab, place) {
                Next::Published(slot) => self.free(place, slot),
                Next::Abandoned => {}
                Next::Pending => {
                    // Larger slots are as good a home as small ones.
                    let Some(spare) = self.slab.take(0).or_else(|| self.slab.take_for(1)) else {
                        tracing::error!(
                            place,
                            "no spare slot is left: the journal waits for a stopped producer"
                        );
                        return place - first;
                    };
                    if !self.ring.revoke(&self.slab, place, spare) {
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

    /// Nothing will be written any more. All who wait for room get the error.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        if state.failure.is_none() {
            tracing::error!(%error, "the journal stopped writing");
            state.failure = Some(Arc::new(error));
        }
        self.has_failed.store(true, Ordering::SeqCst);
        self.is_unusual.store(true, Ordering::SeqCst);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }
}

/// Waits for the committer to have drained something, as often as that is needed.
struct Wait<'a> {
    patience: Patience<'a>,
    since: Option<Instant>,
}

impl<'a> Wait<'a> {
    const fn new(patience: Patience<'a>) -> Self {
        Self { patience, since: None }
    }

    /// Returns when it is worth another attempt. `header` is that of the event, where there is one alone.
    #[cold]
    fn for_room(&mut self, front: &Front, header: Option<&EventHeader>) -> Result<(), Error> {
        if self.since.is_none() {
            front.waits.fetch_add(1, Ordering::Relaxed);
        }
        let now = Instant::now();
        let since = *self.since.get_or_insert(now);
        let limit = match (self.patience.backpressure, header) {
            (Backpressure::Fail, _) => Some(Duration::ZERO),
            (Backpressure::WaitFor(limit), _) => Some(limit),
            (Backpressure::DropByPriority, Some(header)) if header.event_priority > Priority::HIGH.0 => {
                return Err(front.drop_event(header));
            }
            (Backpressure::DropByPriority | Backpressure::Wait, _) => None,
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
                None => return Err(front.full()),
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
        if !self.front.ring.abandon(&self.front.slab, self.place, self.home) {
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use semj_format::{EventHeader, Gap, control};

    use super::*;

    const PATIENCE: Patience<'static> = Patience { backpressure: Backpressure::Wait, make_room: None };

    fn front(places: usize) -> Front {
        let setup = Setup {
            places,
            commit_interval: Duration::from_millis(1),
            claim_timeout: Duration::from_millis(20),
            group_size_max: 1 << 20,
            heeds_priority: false,
        };
        Front::new(1, setup).unwrap()
    }

    fn draft(payload: &[u8]) -> Draft<'_> {
        Draft { payload, ..Draft::new(EventHeader::new(0x0101)) }
    }

    fn emitted<'a>(draft: &'a Draft<'a>) -> Emitted<'a> {
        Emitted { draft, origin: Origin::of(&draft.header), measure: draft.measure().unwrap() }
    }

    fn push(front: &Front, payload: &[u8]) -> Result<u64, Error> {
        front.push(&emitted(&draft(payload)), PATIENCE)
    }

    /// What the committer gets: ids of events, and gaps as ranges of ids with the number of events in them.
    fn gather(front: &Front) -> (Vec<u64>, Vec<(u64, u64, u64)>) {
        let (mut events, mut gaps) = (Vec::new(), Vec::new());
        loop {
            let mut batch = Batch::default();
            let is_complete = front.gather(&mut batch, front.ring.tail(), 1);
            for (_, record) in semj_format::Records::new(batch.bytes(), 0).map(|record| record.unwrap()) {
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
        let mut homes = [0];
        let stopped = front.ring.claim(&mut homes, None).unwrap();
        assert_eq!(push(&front, b"3").unwrap(), 3);
        let started = Instant::now();
        assert_eq!(gather(&front), (vec![1, 3], vec![(2, 2, 1)]));
        assert!(started.elapsed() >= Duration::from_millis(20));

        // The place goes round, and only then the producer comes back.
        for n in 4..4 + 64 {
            assert_eq!(push(&front, b"again").unwrap(), n);
            assert_eq!(gather(&front), (vec![n], vec![]));
        }
        let is_taken = front.fill(&stopped, 0, homes[0], None, &emitted(&draft(b"late")));
        assert!(!is_taken, "it is told that it is late");
        assert_eq!(push(&front, b"next").unwrap(), 68);
        assert_eq!(gather(&front), (vec![68], vec![]));
    }

    #[test]
    fn a_producer_that_unwinds_holds_nobody_up() {
        let front = front(64);
        let mut homes = [0];
        let claim = front.ring.claim(&mut homes, None).unwrap();
        drop(Unpublished { front: &front, place: claim.first_place, home: homes[0], slot: None });
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
            let mut homes = [0; 3];
            let claim = front.ring.claim(&mut homes, None).unwrap();
            push(&front, b"5").unwrap();
            let draft = draft(b"one of three");
            let fill = |index: u64| front.fill(&claim, index, homes[index as usize], None, &emitted(&draft));
            assert!(fill(published));
            assert_eq!(gather(&front), (vec![1, 5], vec![(2, 4, 3)]), "member {published}");
            for index in (0..3).filter(|index| *index != published) {
                assert!(!fill(index));
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
            let drafts: Vec<_> = (0..round % 50).map(|i| draft(&large[..i * 97])).collect();
            let events: Vec<_> = drafts.iter().map(emitted).collect();
            let count = events.len() as u64;
            assert_eq!(front.push_batch(&events, PATIENCE).unwrap(), next + 1..next + 1 + count);
            let (events, gaps) = gather(&front);
            assert!(events.iter().copied().eq(next..=next + count) && gaps.is_empty(), "round {round}");
            next += count + 1;
        }
    }

    #[test]
    fn imported_ids_jump_and_never_go_back() {
        let front = front(64);
        let import = |id| {
            let mut draft = draft(b"");
            draft.header.event_id = id;
            front.push(&emitted(&draft), PATIENCE)
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

    #[test]
    fn producers_that_die_in_mid_claim_leave_gaps_and_nothing_else_is_lost() {
        const EVENTS: usize = 3_000;
        let setup = Setup { claim_timeout: Duration::from_micros(300), ..front(64).setup };
        let front = Front::new(1, setup).unwrap();
        let (mut events, mut missing) = (Vec::new(), 0);
        std::thread::scope(|scope| {
            let producers: Vec<_> = (0..4usize)
                .map(|producer| {
                    let front = &front;
                    scope.spawn(move || {
                        let (mut taken, mut died) = (0, 0);
                        for n in 0..EVENTS {
                            match (n + producer) % 197 {
                                // It claims, writes half of its record, and is never seen again: so often at most
                                // that there are spare slots for those that it keeps.
                                0 if n > EVENTS / 2 => {
                                    let claim = front.ring.claim(&mut [0], None);
                                    died += usize::from(claim.is_ok());
                                }
                                // It is stopped, and comes back when its place may be another's.
                                1 => {
                                    let mut homes = [0];
                                    let Ok(claim) = front.ring.claim(&mut homes, None) else { continue };
                                    std::thread::sleep(Duration::from_millis(1));
                                    let event = draft(b"late");
                                    let is_taken = front.fill(&claim, 0, homes[0], None, &emitted(&event));
                                    taken += usize::from(is_taken);
                                    died += usize::from(!is_taken);
                                }
                                _ => match push(front, &vec![producer as u8; n % 700]) {
                                    Ok(_) => taken += 1,
                                    Err(Error::Revoked { .. }) => died += 1,
                                    Err(error) => unreachable!("{error}"),
                                },
                            }
                        }
                        (taken, died)
                    })
                })
                .collect();
            while !producers.iter().all(|producer| producer.is_finished()) || front.pending() > 0 {
                let (taken, gaps) = gather(&front);
                events.extend(taken);
                missing += gaps.iter().map(|(_, _, count)| *count as usize).sum::<usize>();
            }
            let sums = producers.into_iter().map(|producer| producer.join().unwrap());
            let (emitted, died) = sums.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
            assert_eq!((events.len(), missing), (emitted, died));
        });
        assert!(events.is_sorted_by(|before, after| before < after));
        assert!(missing > 0);
    }
}
