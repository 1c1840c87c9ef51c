//! The front end: where emitted events wait for the committer.
//!
//! An emission claims a place in the [`ring`], encodes its record into a slot of the [`slab`] and publishes it: no lock,
//! no allocation and no system call, unless the committer sleeps or the ring is full.
//!
//! Memory is bounded: ring and slab are made when the journal is opened. Who finds no place or no slot waits for the
//! committer. Only an `emit_batch` of more than [`emit::SLAB_BATCH_MAX`] events brings memory of its own.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`emit`] | the producers' half: claim, encode, publish, wake |
//! | [`room`] | what a producer does where there is no room |
//! | [`drain`] | the committer's half: sleep, gather, take places away from who has stopped |
//! | [`ring`] | places and ids, and the argument for why it is right |
//! | [`slab`] | slots, by size |
//! | [`fence`], [`memory`] | the barrier that revoking pays for; pages for the slab |

mod drain;
mod emit;
mod fence;
mod memory;
pub(crate) mod ring;
mod room;
pub(crate) mod slab;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use semj_format::control::GapType;
use semj_format::{Draft, EventHeader, Measure, Priority};

use crate::batch::Batch;
use crate::error::Error;
use crate::helping::Helping;
use crate::metrics::PoolClass;
use crate::options::Backpressure;
use drain::ClaimWait;
use ring::Ring;
use slab::Slab;

/// Bytes of a commit group, from which on no further record is put into it, at most.
pub(crate) const GROUP_SIZE: usize = 1 << 20;
/// How often in a round of the ring a producer looks how full it is.
const LOOKS: u64 = 16;

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
    /// Slots of some size run short, or there was no room: what has gathered is to be committed now.
    is_short: AtomicBool,
    /// Producers that wait for room.
    room_waiters: AtomicU64,
    /// Producers that look for room and have not gone to sleep.
    spinners: AtomicU64,
    waits: AtomicU64,
    dropped_events: AtomicU64,
    /// The committer's own: the last id that it has drained, and the places behind it that hold no event and of which no
    /// Gap says so yet.
    last_drained_id: AtomicU64,
    missing: AtomicU64,
    /// The committer's own too: claimants that it waits for.
    slow: Mutex<Option<ClaimWait>>,
    state: Mutex<State>,
    /// Taken by whoever moves the ids.
    id_lock: Mutex<()>,
    /// What did not go through the slab, by its place.
    externals: Mutex<Vec<(u64, External)>>,
    /// Bytes of batches that do not go through the slab, from before they have a place until they are drained.
    external_bytes: AtomicU64,
    /// How many of them are whose, of batches that have a place.
    reserved: Mutex<Vec<(u64, u64)>>,
    /// Events that were dropped and have no ids yet.
    drops: Mutex<Vec<GapType>>,
    /// Tells the committer that there is something to do.
    work: Condvar,
    /// Tells producers that there is room.
    room: Condvar,
    helping: Helping,
    /// The process that opened the journal.
    process_id: u32,
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

/// What has to wake the committer. The values of [`Front::sleep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Sleep {
    /// Nothing: somebody has done so, or it has not slept yet.
    Awake = 0,
    /// Only a ring that fills up or an urgent event: it wakes by the clock soon enough, or works and looks again before it sleeps.
    Dozing = 1,
    /// The next event.
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

/// What decides whether an event waits for room. By value: a reference into the event would keep all of it in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) event_type: u32,
    pub(crate) priority: Priority,
}

impl Standing {
    #[inline(always)]
    const fn of(header: &EventHeader) -> Self {
        Self { event_type: header.event_type, priority: Priority(header.event_priority) }
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
            is_short: AtomicBool::new(false),
            room_waiters: AtomicU64::new(0),
            spinners: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            dropped_events: AtomicU64::new(0),
            last_drained_id: AtomicU64::new(next_event_id - 1),
            missing: AtomicU64::new(0),
            slow: Mutex::new(None),
            state: Mutex::new(state),
            id_lock: Mutex::new(()),
            externals: Mutex::new(Vec::new()),
            external_bytes: AtomicU64::new(0),
            reserved: Mutex::new(Vec::new()),
            drops: Mutex::new(Vec::new()),
            work: Condvar::new(),
            room: Condvar::new(),
            helping: Helping::default(),
            process_id: std::process::id(),
            group_size: GROUP_SIZE.min(setup.group_size_max),
            look_mask: (setup.places as u64 / LOOKS).saturating_sub(1),
            setup,
        })
    }

    /// Whether this is the process that opened the journal. One that was forked from it has a copy of what is in memory, and
    /// whatever it wrote of that would go over what the first one has acknowledged.
    pub(crate) fn check_process(&self) -> Result<(), Error> {
        match std::process::id() == self.process_id {
            true => Ok(()),
            false => Err(Error::Forked { opened_by: self.process_id }),
        }
    }

    /// Called when an event is about to be pushed.
    #[inline(always)]
    pub(crate) fn prepare(&self) {
        self.ring.prepare_claim();
    }

    /// Whether the journal still takes events in.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_unusual.load(Ordering::Relaxed) { self.unusual(false) } else { Ok(()) }
    }

    /// The same, for who appends: what was dropped gets its ids if there is any room at all.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        if self.is_unusual.load(Ordering::Relaxed) { self.unusual(true) } else { Ok(()) }
    }

    #[cold]
    fn unusual(&self, takes_last_places: bool) -> Result<(), Error> {
        if self.has_failed.load(Ordering::SeqCst) {
            return self.state.lock().check();
        }
        self.is_unusual.store(false, Ordering::SeqCst);
        // A note of what was dropped takes a place too, and those that are left are for what is more urgent.
        let mut settled = Ok(());
        if takes_last_places || self.pending() < self.ring.capacity() / 2 {
            settled = self.settle_drops();
        }
        if self.has_failed.load(Ordering::SeqCst) || self.has_drops() {
            self.is_unusual.store(true, Ordering::SeqCst);
        }
        settled
    }

    /// Lets the committer's thread end when it has committed what there is.
    pub(crate) fn close(&self) {
        self.state.lock().closing = true;
        self.work.notify_all();
        self.room.notify_all();
    }

    /// Whether events were dropped that have no ids yet.
    pub(crate) fn has_drops(&self) -> bool {
        !self.drops.lock().is_empty()
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

    /// Whether everything below a place was taken out.
    pub(crate) fn has_drained(&self, upto: u64) -> bool {
        self.ring.drained() >= upto
    }

    /// Bytes of the batches that wait outside of the slab.
    pub(crate) fn external_bytes(&self) -> usize {
        self.external_bytes.load(Ordering::Relaxed) as usize
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

    /// Nothing will be written any more. All who wait for room get the error.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        let first = state.failure.is_none().then(|| Arc::new(error));
        if first.is_some() {
            state.failure.clone_from(&first);
        }
        self.has_failed.store(true, Ordering::SeqCst);
        self.is_unusual.store(true, Ordering::SeqCst);
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
        // Without the lock: what takes the message down may be an emission into this journal.
        if let Some(error) = first {
            tracing::error!(%error, "the journal stopped writing");
        }
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
