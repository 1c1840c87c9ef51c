//! The ring: places in the order of the ids, claimed by any number of producers, drained by one committer.
//!
//! # How it works
//!
//! A *place* is a number that only grows. Place `p` has the *home slot* `homes[p % N]`, a slot of the slab. A producer
//! claims the next place with one compare-and-swap on `tail`, and with it the event id, which is the place plus an
//! offset. It encodes its record into the home slot, or into a larger one, and publishes it with one store: that of the
//! home slot's *stamp*, the word at its beginning that says of which place it is and in which slot the record lies. The
//! committer takes the places in their order, so file order is id order, and by moving `drained` on it gives each home
//! slot to the place one round later.
//!
//! ```text
//!             claim p                publish                     drained > p
//! stamp of      ──►   (unchanged)   ──►   p PUBLISHED in slot    ──►   the home of p + N, until whose
//! an older place           │ dropped unpublished: p ABANDONED    ──►   claimant publishes
//!                          └ too slow: homes[p % N] becomes a spare slot, and p is in `revoked`
//! ```
//!
//! What both sides write is the stamp alone, and it lies with the record, which has to go from one processor to the other
//! anyway. `homes` is written when a place is revoked, so everybody has a copy of it.
//!
//! # Why it is right
//!
//! * **One owner for a place.** `tail` only grows, and a claim is a compare-and-swap of it.
//! * **No slot has two owners.** A claimant reads the homes of its places before its compare-and-swap: if that succeeds,
//!   `tail` was still `p`, nobody had claimed `p` or a later place, so nobody could revoke it. And place `p` is claimed
//!   only after `drained > p - N` was seen with `Acquire`, which the committer stored with `Release` after it had read the
//!   record of `p - N`, or had revoked that place and given it another home. The old home belongs to the slow claimant
//!   until it comes back and hands it in. Other slots come from a queue and are owned by whoever took them.
//! * **Bytes are seen whole.** The claimant writes only to its slots, then the stamp with `Release`; the committer reads
//!   the stamp with `Acquire`, then the slot. (Place numbers have 42 bits in a stamp: the same one comes back after
//!   4 * 10^12 places.)
//! * **A slow claimant can't harm a later round**: it stamps a slot that is its own, and that nobody looks at.
//! * **A place is published or revoked, and both sides agree on it.** The claimant stores the stamp and then reads its home
//!   in `homes` again; the committer stores another home and then reads the stamp. With a fence between the two on each
//!   side, one of them at least sees what the other did. If the committer sees the stamp, it puts the home back and takes
//!   the record. If not, the place is in `revoked`. A claimant that finds another home asks there, with the lock
//!   under which all of this was decided. The claimant's fence is for the compiler only; the committer's makes up for it: see
//!   [`Fence`].
//! * **Ids are unique and increase.** The offset is only changed with `tail` locked (its highest bit), together with a
//!   claim, so that `tail` is greater after it. A claimant reads `tail`, then the offset, then exchanges `tail`:
//!   success means that no change came between.

use super::fence::Fence;
use crate::prefetch;
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering, spin_loop};

/// Set in `tail` while somebody moves the ids.
const LOCKED: u64 = 1 << 63;
/// Bits of a stamp for the slot.
const SLOT_BITS: u32 = 20;
/// Slots that a stamp can name.
pub(crate) const SLOT_COUNT_MAX: usize = 1 << SLOT_BITS;
/// Processors whose claims are told apart; of two with the same remainder each disturbs the other's guesses.
const CPU_COUNT: usize = 32;
/// Places that others may claim between two claims on a processor, so that its next one can be guessed.
const DISTANCE_MAX: u64 = 8;
/// Places ahead of the next one whose home slots' numbers are fetched: a cache line of them.
const HOMES_AHEAD: u64 = 16;
const TAG_BITS: u32 = 2;
const PLACE_MASK: u64 = (1 << (64 - SLOT_BITS - TAG_BITS)) - 1;

/// What a stamp says of its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Published = 1,
    Abandoned = 2,
}

/// The stamp of `place`. That of a slot which was never published is 0, which no place has.
const fn stamp(place: u64, tag: Tag, slot: u32) -> u64 {
    (place & PLACE_MASK) << (SLOT_BITS + TAG_BITS) | (tag as u64) << SLOT_BITS | slot as u64
}

/// The slot that a stamp names.
const fn slot(stamp: u64) -> u32 {
    stamp as u32 & ((1 << SLOT_BITS) - 1)
}

/// Whether a stamp is that of `place`, with this tag.
const fn is(found: u64, place: u64, tag: Tag) -> bool {
    found >> SLOT_BITS == stamp(place, tag, 0) >> SLOT_BITS
}

/// Where the slots are that the ring deals out.
pub(crate) trait Stamps {
    /// The stamp of a slot, 0 at first, read with `Acquire`.
    fn stamp(&self, slot: u32) -> u64;
    /// Writes it with `Release`.
    fn set_stamp(&self, slot: u32, stamp: u64);
}

/// Keeps what one side writes off the cache lines of the other. 128 bytes, because lines are fetched in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Padded<T>(T);

/// See the module.
#[derive(Debug)]
pub(crate) struct Ring {
    claims: Padded<Claims>,
    /// The last place that was claimed on each processor: see [`Ring::guess_next`].
    last_places: Box<[Padded<AtomicU64>; CPU_COUNT]>,
    /// Every place below is drained.
    drained: Padded<AtomicU64>,
    /// The home slots of the places, by the place's remainder.
    homes: Box<[AtomicU32]>,
    /// Places that were taken away from claimants that have not come back.
    revoked: Mutex<Vec<u64>>,
    fence: Fence,
}

/// What producers change.
#[derive(Debug)]
struct Claims {
    /// The next place to be claimed, and [`LOCKED`].
    tail: AtomicU64,
    /// The id of a place is the place plus this.
    id_offset: AtomicU64,
    /// What was last seen of `drained`: spares producers the committer's cache line.
    seen_drained: AtomicU64,
}

/// How full the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fill {
    /// The next place to be claimed.
    pub(crate) tail: u64,
    /// Places below it that were claimed and not drained, never fewer than there are.
    pub(crate) pending: u64,
}

/// Places that were claimed and have to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) first_place: u64,
    pub(crate) first_id: u64,
    pub(crate) count: u64,
}

/// Why a place was not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The ring has no room for so many.
    Full,
    /// The id is not the next one.
    Id {
        /// The next one.
        next: u64,
    },
}

/// What the committer finds at the next place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is not claimed, or not yet published.
    Pending,
    /// A record, in this slot.
    Published(u32),
    /// Given up by its claimant: there is no record.
    Abandoned,
}

impl Ring {
    /// A ring of so many places, a power of two, whose home slots are 0 and up. The first place has the id
    /// `first_id`.
    pub(crate) fn new(places: usize, first_id: u64) -> Self {
        debug_assert!(places.is_power_of_two() && places <= SLOT_COUNT_MAX);
        Self {
            claims: Padded(Claims {
                tail: AtomicU64::new(0),
                id_offset: AtomicU64::new(first_id),
                seen_drained: AtomicU64::new(0),
            }),
            last_places: Box::new(std::array::from_fn(|_| Padded(AtomicU64::new(0)))),
            drained: Padded(AtomicU64::new(0)),
            homes: (0..places).map(|place| AtomicU32::new(place as u32)).collect(),
            revoked: Mutex::new(Vec::new()),
            fence: Fence::new(),
        }
    }

    /// Places of the ring.
    pub(crate) fn capacity(&self) -> u64 {
        self.homes.len() as u64
    }

    #[inline]
    fn home_of(&self, place: u64) -> &AtomicU32 {
        // The length is a power of two and never 0, so the index is below it.
        &self.homes[place as usize & (self.homes.len() - 1)]
    }

    /// The home slot of a place whose home nobody changes now: the committer does so only itself.
    #[inline]
    pub(crate) fn home(&self, place: u64) -> u32 {
        self.home_of(place).load(Ordering::Relaxed)
    }

    /// The home slot that a place has unless one with its remainder was revoked at some time.
    #[inline(always)]
    pub(crate) fn usual_home(&self, place: u64) -> u32 {
        (place & (self.capacity() - 1)) as u32
    }

    /// Has the processor fetch the home slots' numbers of the places that come some time after this one: all of them are more
    /// than its nearest caches hold.
    #[inline(always)]
    pub(crate) fn prefetch_homes(&self, place: u64) {
        let ahead: *const AtomicU32 = self.home_of(place + HOMES_AHEAD);
        prefetch::for_read(ahead.cast(), size_of::<AtomicU32>());
    }

    /// The next place to be claimed: everything that was claimed before the call is below it.
    pub(crate) fn tail(&self) -> u64 {
        self.claims.0.tail.load(Ordering::SeqCst) & !LOCKED
    }

    /// The first place that is not drained.
    pub(crate) fn drained(&self) -> u64 {
        self.drained.0.load(Ordering::Acquire)
    }

    /// How full the ring is.
    pub(crate) fn fill(&self) -> Fill {
        // In this order, because `tail` is never behind what was drained before it was read. Read first, it can be: others
        // go on to claim and drain meanwhile.
        let drained = self.drained();
        let tail = self.tail();
        Fill { tail, pending: tail - drained }
    }

    /// The id that the next claim gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.next().1
    }

    /// The next place to be claimed, and the id that it gets.
    pub(crate) fn next(&self) -> (u64, u64) {
        let claims = &self.claims.0;
        loop {
            let tail = claims.tail.load(Ordering::Acquire);
            let offset = claims.id_offset.load(Ordering::Acquire);
            if tail & LOCKED == 0 && claims.tail.load(Ordering::Acquire) == tail {
                return (tail, offset.wrapping_add(tail));
            }
            spin_loop();
        }
    }

    /// Whether `count` places from `tail` on are free.
    #[inline]
    fn has_room(&self, tail: u64, count: u64) -> bool {
        let seen = &self.claims.0.seen_drained;
        // A stale `tail` may be behind `drained`; the difference is huge then, and the exchange would fail.
        let taken = |drained: u64| (tail + count).wrapping_sub(drained);
        if taken(seen.load(Ordering::Acquire)) <= self.capacity() {
            return true;
        }
        let drained = self.drained.0.load(Ordering::Acquire);
        seen.store(drained, Ordering::Release);
        taken(drained) <= self.capacity()
    }

    /// Claims as many places as `homes` has room for, at least one, and says what their home slots are. If `id` is given,
    /// only if it is the id that the first place has.
    #[inline(always)]
    pub(crate) fn claim(&self, homes: &mut [u32], id: Option<u64>) -> Result<Claim, Refused> {
        let claims = &self.claims.0;
        let count = homes.len() as u64;
        loop {
            let tail = claims.tail.load(Ordering::Acquire);
            if tail & LOCKED != 0 {
                spin_loop();
                continue;
            }
            let first_id = claims.id_offset.load(Ordering::Acquire).wrapping_add(tail);
            if id.is_some_and(|id| id != first_id) {
                if claims.tail.load(Ordering::Acquire) != tail {
                    continue;
                }
                return Err(Refused::Id { next: first_id });
            }
            if !self.has_room(tail, count) {
                if claims.tail.load(Ordering::Acquire) != tail {
                    continue;
                }
                return Err(Refused::Full);
            }
            for (place, home) in (tail..).zip(&mut *homes) {
                *home = self.home(place);
            }
            let claimed =
                claims.tail.compare_exchange(tail, tail + count, Ordering::SeqCst, Ordering::Relaxed);
            if claimed.is_ok() {
                return Ok(Claim { first_place: tail, first_id, count });
            }
            spin_loop();
        }
    }

    /// Keeps everybody else from claiming, until [`Locked`] is given back. Callers take turns by a lock of
    /// their own.
    pub(crate) fn lock(&self) -> Locked<'_> {
        let tail = self.claims.0.tail.fetch_or(LOCKED, Ordering::AcqRel);
        debug_assert_eq!(tail & LOCKED, 0, "callers take turns");
        Locked { ring: self, tail: tail & !LOCKED }
    }

    /// Has the processor fetch what a claim changes, for writing: other producers have had it, and a claim that reads it first
    /// would have it come twice.
    #[inline(always)]
    pub(crate) fn prepare_claim(&self) {
        let claims: *const Claims = &raw const self.claims.0;
        prefetch::for_write(claims.cast(), size_of::<Claims>());
    }

    /// The place that the next claim on this processor is likely to get, if a claim on it got `place` now; `None` where
    /// others claim too much in between.
    ///
    /// Producers that take turns keep the distance between their places; one that is alone has the next one, but the one
    /// after it is still far enough ahead to prepare for.
    #[inline(always)]
    pub(crate) fn guess_next(&self, cpu: u32, place: u64) -> Option<u64> {
        let last = &self.last_places[cpu as usize % CPU_COUNT].0;
        let distance = place.wrapping_sub(last.load(Ordering::Relaxed));
        last.store(place, Ordering::Relaxed);
        (distance <= DISTANCE_MAX).then(|| place + distance.max(2))
    }

    /// Publishes the record in `slot` as that of a claimed place with this home slot. False if the place was
    /// revoked: the record is not taken, and both slots are the caller's to give back.
    #[inline(always)]
    pub(crate) fn publish(&self, stamps: &impl Stamps, place: u64, home: u32, slot: u32) -> bool {
        self.set(stamps, place, home, stamp(place, Tag::Published, slot))
    }

    /// Gives a claimed place up: it becomes a gap. False if it was revoked before.
    pub(crate) fn abandon(&self, stamps: &impl Stamps, place: u64, home: u32) -> bool {
        self.set(stamps, place, home, stamp(place, Tag::Abandoned, home))
    }

    #[inline(always)]
    fn set(&self, stamps: &impl Stamps, place: u64, home: u32, stamp: u64) -> bool {
        stamps.set_stamp(home, stamp);
        self.fence.light();
        self.home(place) == home || !self.is_revoked(place)
    }

    /// Whether a place was taken away from the caller, who is told once.
    #[cold]
    fn is_revoked(&self, place: u64) -> bool {
        let mut revoked = self.revoked.lock();
        let found = revoked.iter().position(|of| *of == place);
        found.map(|at| revoked.swap_remove(at)).is_some()
    }

    /// For the committer: what stands at a place that is not drained.
    #[inline]
    pub(crate) fn peek(&self, stamps: &impl Stamps, place: u64) -> Next {
        let found = stamps.stamp(self.home(place));
        if is(found, place, Tag::Published) {
            Next::Published(slot(found))
        } else if is(found, place, Tag::Abandoned) {
            Next::Abandoned
        } else {
            Next::Pending
        }
    }

    /// For the committer: takes a claimed place away from a claimant that is too slow; the place one round later has
    /// `spare` as its home slot. False if the claimant has published or given up after all, or can't be told.
    #[cold]
    pub(crate) fn revoke(&self, stamps: &impl Stamps, place: u64, spare: u32) -> bool {
        let mut revoked = self.revoked.lock();
        let home = self.home(place);
        self.home_of(place).store(spare, Ordering::Relaxed);
        let is_fenced = self.fence.heavy();
        let found = stamps.stamp(home);
        if !is_fenced || is(found, place, Tag::Published) || is(found, place, Tag::Abandoned) {
            self.home_of(place).store(home, Ordering::Relaxed);
            return false;
        }
        revoked.push(place);
        true
    }

    /// For the committer: the home slots of everything below `place` may be filled again.
    #[inline]
    pub(crate) fn set_drained(&self, place: u64) {
        self.drained.0.store(place, Ordering::Release);
    }
}

/// The ring while nobody can claim.
#[derive(Debug)]
pub(crate) struct Locked<'r> {
    ring: &'r Ring,
    tail: u64,
}

impl Locked<'_> {
    /// The id that the next claim gets.
    pub(crate) fn next_id(&self) -> u64 {
        self.ring.claims.0.id_offset.load(Ordering::Acquire).wrapping_add(self.tail)
    }

    /// Claims the next place, if there is room, for the ids from `first_id` on, which is not below
    /// [`Locked::next_id`], to before `next_id`: the one that the next claim gets. With its home slot.
    pub(crate) fn claim(&mut self, first_id: u64, next_id: u64) -> Option<(Claim, u32)> {
        if !self.ring.has_room(self.tail, 1) {
            return None;
        }
        let home = self.ring.home(self.tail);
        let claim = Claim { first_place: self.tail, first_id, count: 1 };
        self.tail += 1;
        self.ring.claims.0.id_offset.store(next_id.wrapping_sub(self.tail), Ordering::Release);
        Some((claim, home))
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.ring.claims.0.tail.store(self.tail, Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(loom)]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A ring with slots behind it that loom watches: two owners of one slot are a failure.
    struct Model {
        ring: Ring,
        slots: Vec<UnsafeCell<u64>>,
        stamps: Vec<AtomicU64>,
    }

    impl Stamps for Model {
        fn stamp(&self, slot: u32) -> u64 {
            self.stamps[slot as usize].load(Ordering::Acquire)
        }

        fn set_stamp(&self, slot: u32, stamp: u64) {
            self.stamps[slot as usize].store(stamp, Ordering::Release);
        }
    }

    // SAFETY: loom's cells check each access; that is what the tests are for.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    /// A drained place: its number, and the id that its record holds, or `None` for a gap.
    type Drained = (u64, Option<u64>);

    impl Model {
        fn new(places: usize, spares: usize) -> Arc<Self> {
            let slots = (0..places + spares).map(|_| UnsafeCell::new(0)).collect();
            let stamps = (0..places + spares).map(|_| AtomicU64::new(0)).collect();
            Arc::new(Self { ring: Ring::new(places, 100), slots, stamps })
        }

        fn claim(&self) -> Result<(Claim, u32), Refused> {
            let mut homes = [0];
            self.ring.claim(&mut homes, None).map(|claim| (claim, homes[0]))
        }

        fn publish(&self, place: u64, home: u32) -> bool {
            self.ring.publish(self, place, home, home)
        }

        fn write(&self, slot: u32, id: u64) {
            // SAFETY: the claimant owns the slot, or loom says that it does not.
            self.slots[slot as usize].with_mut(|bytes| unsafe { *bytes = id });
        }

        fn emit(&self) -> Option<u64> {
            let (claim, home) = self.claim().ok()?;
            self.write(home, claim.first_id);
            self.publish(claim.first_place, home).then_some(claim.first_id)
        }

        /// Drains what is published, from `place` on, at most up to `limit`.
        fn drain(&self, mut place: u64, limit: u64, drained: &mut Vec<Drained>) -> u64 {
            while place < limit {
                match self.ring.peek(self, place) {
                    Next::Published(slot) => {
                        // SAFETY: the committer owns a published slot, or loom says that it does not.
                        let id = self.slots[slot as usize].with(|bytes| unsafe { *bytes });
                        drained.push((place, Some(id)));
                    }
                    Next::Abandoned => drained.push((place, None)),
                    Next::Pending => break,
                }
                place += 1;
                self.ring.set_drained(place);
            }
            place
        }
    }

    #[test]
    fn two_producers_and_the_committer_share_no_slot_and_lose_no_event_around_the_ring() {
        loom::model(|| {
            let model = Model::new(2, 0);
            let producers: Vec<_> = (0..2)
                .map(|_| {
                    let model = Arc::clone(&model);
                    thread::spawn(move || (0..1).filter_map(|_| model.emit()).count())
                })
                .collect();
            let mut drained = Vec::new();
            let at = model.drain(0, 1, &mut drained);
            let emitted: usize = producers.into_iter().map(|producer| producer.join().unwrap()).sum();
            let at = model.drain(at, 2, &mut drained);
            assert_eq!((emitted, at), (2, 2));
            assert_eq!(drained, [(0, Some(100)), (1, Some(101))]);
            // Once around.
            assert_eq!(model.emit(), Some(102));
            model.drain(at, 3, &mut drained);
            assert_eq!(drained.last(), Some(&(2, Some(102))));
        });
    }

    #[test]
    fn a_home_slot_is_reused_only_after_its_record_was_read() {
        loom::model(|| {
            let model = Model::new(1, 0);
            assert_eq!(model.emit(), Some(100));
            let producer = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.emit())
            };
            let mut drained = Vec::new();
            let at = model.drain(0, 1, &mut drained);
            let emitted = producer.join().unwrap();
            model.drain(at, 2, &mut drained);
            assert_eq!(drained.len(), 1 + usize::from(emitted.is_some()));
            assert!(drained.iter().enumerate().all(|(i, at)| *at == (i as u64, Some(100 + i as u64))));
        });
    }

    #[test]
    fn who_asks_how_full_the_ring_is_never_finds_more_drained_than_claimed() {
        loom::model(|| {
            let model = Model::new(2, 0);
            let asking = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.ring.fill())
            };
            assert_eq!(model.emit(), Some(100));
            assert_eq!(model.drain(0, 1, &mut Vec::new()), 1);
            let Fill { tail, pending } = asking.join().unwrap();
            assert!(pending <= tail && tail <= 1, "{pending} of {tail}");
        });
    }

    #[test]
    fn a_revoked_claimant_keeps_its_slot_and_its_late_publication_fails() {
        loom::model(|| {
            let model = Model::new(1, 1);
            let (claim, home) = model.claim().unwrap();
            let slow = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    model.write(home, claim.first_id);
                    model.publish(claim.first_place, home)
                })
            };
            let was_revoked = model.ring.revoke(&*model, 0, 1);
            if !was_revoked {
                // Then it can be read at once.
                let mut drained = Vec::new();
                assert_eq!(model.drain(0, 1, &mut drained), 1);
                assert_eq!(drained, [(0, Some(100))]);
                assert_eq!(model.emit(), Some(101), "the place has its home back");
            } else {
                model.ring.set_drained(1);
                // The next round has the spare slot, and the slow claimant may still be writing to the old one.
                assert_eq!(model.emit(), Some(101));
                let mut drained = Vec::new();
                model.drain(1, 2, &mut drained);
                assert_eq!(drained, [(1, Some(101))]);
            }
            assert_eq!(slow.join().unwrap(), !was_revoked, "either it was published or revoked");
            assert!(model.ring.revoked.lock().is_empty(), "it was told, and nobody else will ask");
        });
    }

    #[test]
    fn a_claim_that_is_given_up_is_a_gap_and_holds_nobody_up() {
        loom::model(|| {
            let model = Model::new(2, 0);
            let other = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.emit())
            };
            let (claim, home) = model.claim().unwrap();
            assert!(model.ring.abandon(&*model, claim.first_place, home));
            let id = other.join().unwrap().unwrap();
            let mut drained = Vec::new();
            model.drain(0, 2, &mut drained);
            let mut expected = [(0, None), (1, None)];
            expected[(id - 100) as usize].1 = Some(id);
            assert_eq!(drained, expected);
        });
    }

    #[test]
    fn ids_stay_unique_and_in_order_when_somebody_moves_them() {
        loom::model(|| {
            let model = Model::new(4, 0);
            let producer = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.emit().unwrap())
            };
            let mut locked = model.ring.lock();
            let (claim, home) = locked.claim(500, 501).unwrap();
            drop(locked);
            model.write(home, claim.first_id);
            assert!(model.publish(claim.first_place, home));
            let id = producer.join().unwrap();
            assert_eq!(id, if claim.first_place == 0 { 501 } else { 100 });
            let mut drained = Vec::new();
            model.drain(0, 2, &mut drained);
            let ids: Vec<_> = drained.iter().map(|(_, id)| id.unwrap()).collect();
            assert!(ids.is_sorted() && ids.len() == 2 && ids[0] != ids[1], "{ids:?}");
        });
    }

    #[test]
    fn a_batch_stands_together() {
        loom::model(|| {
            let model = Model::new(4, 0);
            let producer = {
                let model = Arc::clone(&model);
                thread::spawn(move || model.emit().unwrap())
            };
            let mut homes = [0; 2];
            let claim = model.ring.claim(&mut homes, None).unwrap();
            for (index, home) in (0..).zip(homes) {
                model.write(home, claim.first_id + index);
                assert!(model.publish(claim.first_place + index, home));
            }
            let id = producer.join().unwrap();
            assert!(id == 100 && claim.first_id == 101 || id == 102 && claim.first_id == 100);
        });
    }
}
