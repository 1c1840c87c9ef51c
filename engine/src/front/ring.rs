//! The ring: places in the order of the ids, claimed by any number of producers, drained by one committer.
//!
//! # How it works
//!
//! A *place* is a number that only grows; place `p` has the cell `p % N`. A producer claims the next place with one
//! compare-and-swap on `tail`, and with it the event id, which is the place plus an offset. It encodes its record
//! into a slot of the slab and publishes the slot's number in the cell. The committer takes the places in their
//! order, so file order is id order, and gives each cell to the place one round later.
//!
//! A cell is one word: the place that it stands for now, a tag, and a slot.
//!
//! ```text
//!            claim p                 publish                  drained
//! EMPTY(p, home) ──► (unchanged) ──► PUBLISHED(p, slot) ──► EMPTY(p + N, home)
//!                        │ dropped unpublished: ABANDONED(p, home)     ▲
//!                        └ too slow: REVOKED, in one step with ────────┘ (p + N, spare)
//! ```
//!
//! # Why it is right
//!
//! * **One owner for a place.** `tail` only grows, and a claim is a compare-and-swap of it.
//! * **No cell has two owners.** Place `p` is claimed only after `drained > p - N` was seen with `Acquire`, which the
//!   committer stored with `Release` after it had read the record of `p - N` and set the cell to `EMPTY(p, …)`.
//! * **No slot has two owners.** The home slot of a cell is part of the cell's word, and a claimant reads it before its
//!   compare-and-swap: if that succeeds, `tail` was still `p`, nobody had claimed `p`, so nobody could revoke it, and
//!   the word was `EMPTY(p, home)`. When a place is revoked its cell gets another home, and the old one belongs to the
//!   slow claimant until it comes back and hands it in. Other slots come from a queue and are owned by whoever took them.
//! * **Bytes are seen whole.** The claimant writes only to the slot, then publishes with `Release`; the committer reads
//!   the cell with `Acquire`, then the slot.
//! * **A slow claimant can't harm a later round.** It publishes by compare-and-swap from `EMPTY(p, home)`. After a
//!   revocation the cell stands for `p + N` and the exchange fails. (Place numbers have 42 bits in a cell: the same
//!   word comes back after 4 * 10^12 places.)
//! * **Ids are unique and increase.** The offset is only changed with `tail` locked (its highest bit), together with a
//!   claim, so that `tail` is greater after it. A claimant reads `tail`, then the offset, then exchanges `tail`:
//!   success means that no change came between.

use crate::sync::{AtomicU64, Ordering, spin_loop};

/// Set in `tail` while somebody moves the ids.
const LOCKED: u64 = 1 << 63;
/// Bits of a cell for the slot.
const SLOT_BITS: u32 = 20;
/// Slots that a cell can name.
pub(crate) const SLOT_COUNT_MAX: usize = 1 << SLOT_BITS;
/// Processors whose claims are told apart; of two with the same remainder each disturbs the other's guesses.
const CPU_COUNT: usize = 32;
/// Places that others may claim between two claims on a processor, so that its next one can be guessed.
const DISTANCE_MAX: u64 = 8;
const TAG_BITS: u32 = 2;
const PLACE_MASK: u64 = (1 << (64 - SLOT_BITS - TAG_BITS)) - 1;

/// What stands in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Empty = 0,
    Published = 1,
    Abandoned = 2,
}

/// The word of a cell that stands for `place`.
const fn word(place: u64, tag: Tag, slot: u32) -> u64 {
    (place & PLACE_MASK) << (SLOT_BITS + TAG_BITS) | (tag as u64) << SLOT_BITS | slot as u64
}

/// The slot that a word names.
const fn slot(word: u64) -> u32 {
    word as u32 & ((1 << SLOT_BITS) - 1)
}

/// Whether a word is that of a cell which stands for `place`, with this tag.
const fn is(found: u64, place: u64, tag: Tag) -> bool {
    found >> SLOT_BITS == word(place, tag, 0) >> SLOT_BITS
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
    cells: Box<[AtomicU64]>,
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

/// Places that were claimed and have to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) first_place: u64,
    pub(crate) first_id: u64,
    pub(crate) count: u64,
    /// The home slot of the first place.
    home: u32,
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
    /// Nobody has claimed it.
    Unclaimed,
    /// Claimed and not yet published.
    Claimed,
    /// A record, in this slot.
    Published(u32),
    /// Given up by its claimant: there is no record. With the home slot.
    Abandoned(u32),
}

impl Ring {
    /// A ring of `cells` places, a power of two, whose home slots are 0 and up. The first place has the id
    /// `first_id`.
    pub(crate) fn new(cells: usize, first_id: u64) -> Self {
        debug_assert!(cells.is_power_of_two() && cells <= SLOT_COUNT_MAX);
        Self {
            claims: Padded(Claims {
                tail: AtomicU64::new(0),
                id_offset: AtomicU64::new(first_id),
                seen_drained: AtomicU64::new(0),
            }),
            last_places: Box::new(std::array::from_fn(|_| Padded(AtomicU64::new(0)))),
            drained: Padded(AtomicU64::new(0)),
            cells: (0..cells).map(|i| AtomicU64::new(word(i as u64, Tag::Empty, i as u32))).collect(),
        }
    }

    /// Places of the ring.
    pub(crate) fn capacity(&self) -> u64 {
        self.cells.len() as u64
    }

    #[inline]
    fn cell(&self, place: u64) -> &AtomicU64 {
        // The length is a power of two and never 0, so the index is below it.
        &self.cells[place as usize & (self.cells.len() - 1)]
    }

    /// The next place to be claimed: everything that was claimed before the call is below it.
    pub(crate) fn tail(&self) -> u64 {
        self.claims.0.tail.load(Ordering::SeqCst) & !LOCKED
    }

    /// The first place that is not drained.
    pub(crate) fn drained(&self) -> u64 {
        self.drained.0.load(Ordering::Acquire)
    }

    /// The id that the next claim gets.
    pub(crate) fn next_id(&self) -> u64 {
        let claims = &self.claims.0;
        loop {
            let tail = claims.tail.load(Ordering::Acquire);
            let offset = claims.id_offset.load(Ordering::Acquire);
            if tail & LOCKED == 0 && claims.tail.load(Ordering::Acquire) == tail {
                return offset.wrapping_add(tail);
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

    /// Claims the next `count` places, at least one. If `id` is given, only if it is the id that the first place has.
    #[inline]
    pub(crate) fn claim(&self, count: u64, id: Option<u64>) -> Result<Claim, Refused> {
        let claims = &self.claims.0;
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
            let home = slot(self.cell(tail).load(Ordering::Acquire));
            let claimed =
                claims.tail.compare_exchange(tail, tail + count, Ordering::SeqCst, Ordering::Relaxed);
            if claimed.is_ok() {
                return Ok(Claim { first_place: tail, first_id, count, home });
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

    /// The home slot of a place of a claim; `None` if the place was revoked already, and has another owner.
    #[inline]
    pub(crate) fn home(&self, claim: &Claim, index: u64) -> Option<u32> {
        if index == 0 {
            return Some(claim.home);
        }
        let place = claim.first_place + index;
        let found = self.cell(place).load(Ordering::Acquire);
        // Should it be revoked from now on, the slot stays the claimant's.
        is(found, place, Tag::Empty).then(|| slot(found))
    }

    /// The place that the next claim on this processor is likely to get, if a claim on it got `place` now; `None` where
    /// others claim too much in between.
    ///
    /// Producers that take turns keep the distance between their places; one that is alone has the next one, but the one
    /// after it is still far enough ahead to prepare for.
    #[inline]
    pub(crate) fn guess_next(&self, cpu: u32, place: u64) -> Option<u64> {
        let last = &self.last_places[cpu as usize % CPU_COUNT].0;
        let distance = place.wrapping_sub(last.load(Ordering::Relaxed));
        last.store(place, Ordering::Relaxed);
        (distance <= DISTANCE_MAX).then(|| place + distance.max(2))
    }

    /// The slot that was last seen at home at a place: a guess for who wants to be ready for it.
    #[inline]
    pub(crate) fn guess_home(&self, place: u64) -> u32 {
        slot(self.cell(place).load(Ordering::Relaxed))
    }

    /// Publishes the record in `slot` as that of a claimed place with this home slot. False if the place was
    /// revoked: the record is not taken, and both slots are the caller's to give back.
    #[inline]
    pub(crate) fn publish(&self, place: u64, home: u32, slot: u32) -> bool {
        let expected = word(place, Tag::Empty, home);
        let published = word(place, Tag::Published, slot);
        // SeqCst, because what follows is a look at whether the committer sleeps.
        self.cell(place).compare_exchange(expected, published, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Gives a claimed place up: it becomes a gap. False if it was revoked before.
    pub(crate) fn abandon(&self, place: u64, home: u32) -> bool {
        let expected = word(place, Tag::Empty, home);
        let abandoned = word(place, Tag::Abandoned, home);
        self.cell(place).compare_exchange(expected, abandoned, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// For the committer: what stands at a place that is not drained.
    #[inline]
    pub(crate) fn peek(&self, place: u64) -> Next {
        let found = self.cell(place).load(Ordering::Acquire);
        if is(found, place, Tag::Published) {
            Next::Published(slot(found))
        } else if is(found, place, Tag::Abandoned) {
            Next::Abandoned(slot(found))
        } else if place < self.tail() {
            Next::Claimed
        } else {
            Next::Unclaimed
        }
    }

    /// For the committer: gives the cell of a place, whose record was read, to the place one round later, with
    /// this home slot. Producers see it when [`Ring::set_drained`] says so.
    #[inline]
    pub(crate) fn recycle(&self, place: u64, home: u32) {
        self.cell(place).store(word(place + self.capacity(), Tag::Empty, home), Ordering::Relaxed);
    }

    /// For the committer: takes a claimed place away from a claimant that is too slow, and gives the cell to the place
    /// one round later with another home slot. False if the claimant has published or given up after all.
    pub(crate) fn revoke(&self, place: u64, spare: u32) -> bool {
        let cell = self.cell(place);
        let found = cell.load(Ordering::Acquire);
        if !is(found, place, Tag::Empty) {
            return false;
        }
        let next = word(place + self.capacity(), Tag::Empty, spare);
        cell.compare_exchange(found, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// For the committer: everything below `place` was recycled.
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
    /// [`Locked::next_id`], to before `next_id`: the one that the next claim gets.
    pub(crate) fn claim(&mut self, first_id: u64, next_id: u64) -> Option<Claim> {
        if !self.ring.has_room(self.tail, 1) {
            return None;
        }
        let home = slot(self.ring.cell(self.tail).load(Ordering::Acquire));
        let claim = Claim { first_place: self.tail, first_id, count: 1, home };
        self.tail += 1;
        self.ring.claims.0.id_offset.store(next_id.wrapping_sub(self.tail), Ordering::Release);
        Some(claim)
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
    }

    // SAFETY: loom's cells check each access; that is what the tests are for.
    unsafe impl Sync for Model {}
    // SAFETY: as above.
    unsafe impl Send for Model {}

    /// A drained place: its number, and the id that its record holds, or `None` for a gap.
    type Drained = (u64, Option<u64>);

    impl Model {
        fn new(cells: usize, spares: usize) -> Arc<Self> {
            let slots = (0..cells + spares).map(|_| UnsafeCell::new(0)).collect();
            Arc::new(Self { ring: Ring::new(cells, 100), slots })
        }

        fn write(&self, slot: u32, id: u64) {
            // SAFETY: the claimant owns the slot, or loom says that it does not.
            self.slots[slot as usize].with_mut(|bytes| unsafe { *bytes = id });
        }

        fn emit(&self) -> Option<u64> {
            let claim = self.ring.claim(1, None).ok()?;
            let home = self.ring.home(&claim, 0).unwrap();
            self.write(home, claim.first_id);
            self.ring.publish(claim.first_place, home, home).then_some(claim.first_id)
        }

        /// Drains what is published, from `place` on, at most up to `limit`.
        fn drain(&self, mut place: u64, limit: u64, drained: &mut Vec<Drained>) -> u64 {
            while place < limit {
                match self.ring.peek(place) {
                    Next::Published(slot) => {
                        // SAFETY: the committer owns a published slot, or loom says that it does not.
                        let id = self.slots[slot as usize].with(|bytes| unsafe { *bytes });
                        drained.push((place, Some(id)));
                        self.ring.recycle(place, slot);
                    }
                    Next::Abandoned(home) => {
                        drained.push((place, None));
                        self.ring.recycle(place, home);
                    }
                    Next::Claimed | Next::Unclaimed => break,
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
    fn a_cell_is_reused_only_after_its_record_was_read() {
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
    fn a_revoked_claimant_keeps_its_slot_and_its_late_publication_fails() {
        loom::model(|| {
            let model = Model::new(1, 1);
            let claim = model.ring.claim(1, None).unwrap();
            let slow = {
                let model = Arc::clone(&model);
                thread::spawn(move || {
                    let home = model.ring.home(&claim, 0).unwrap();
                    model.write(home, claim.first_id);
                    model.ring.publish(claim.first_place, home, home)
                })
            };
            let was_revoked = model.ring.revoke(0, 1);
            if was_revoked {
                model.ring.set_drained(1);
                // The next round has the spare slot, and the slow claimant may still be writing to the old one.
                assert_eq!(model.emit(), Some(101));
                let mut drained = Vec::new();
                model.drain(1, 2, &mut drained);
                assert_eq!(drained, [(1, Some(101))]);
            }
            assert_eq!(slow.join().unwrap(), !was_revoked, "either it was published or revoked");
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
            let claim = model.ring.claim(1, None).unwrap();
            let home = model.ring.home(&claim, 0).unwrap();
            assert!(model.ring.abandon(claim.first_place, home));
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
            let claim = locked.claim(500, 501).unwrap();
            drop(locked);
            let home = model.ring.home(&claim, 0).unwrap();
            model.write(home, claim.first_id);
            assert!(model.ring.publish(claim.first_place, home, home));
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
            let claim = model.ring.claim(2, None).unwrap();
            for index in 0..2 {
                let home = model.ring.home(&claim, index).unwrap();
                model.write(home, claim.first_id + index);
                assert!(model.ring.publish(claim.first_place + index, home, home));
            }
            let id = producer.join().unwrap();
            assert!(id == 100 && claim.first_id == 101 || id == 102 && claim.first_id == 100);
        });
    }
}
