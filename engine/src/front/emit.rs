//! The producers' half: an event claims its place, is encoded into its slot and published.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::Instant;

use semj_format::Priority;

use super::ring::{Claim, Refused};
use super::room::Wait;
use super::slab::{EXTERNAL, Slab, SlotHeader};
use super::{Emitted, External, Front, Patience, Sleep, Standing};
use crate::batch::Batch;
use crate::error::Error;
use crate::options::Backpressure;

/// Behind the ids that are claimed with a choice. Those that follow one by one are not checked, and can't come to their end
/// from here.
const EVENT_ID_END: u64 = 1 << 63;
/// Bytes of batches that wait outside of the slab, unless a single one is larger.
const EXTERNAL_BYTES_MAX: u64 = 4 << 20;
/// Events of a batch that go through the slab. A larger batch is encoded in memory of its own.
pub(super) const SLAB_BATCH_MAX: usize = 32;

impl Front {
    /// Takes in an event. An id of 0 stands for the next one. Gives the id.
    ///
    /// Goes into whoever emits, up to the bytes that are copied: where the event is made there, what is known of it is not
    /// computed, and it is encoded without having been anywhere else. What this calls out of line therefore gets no
    /// reference into the event, unless its context has other fields than those that most have.
    #[inline(always)]
    pub(crate) fn push(&self, event: &Emitted<'_>, patience: Patience<'_>) -> Result<u64, Error> {
        self.check()?;
        let standing = Standing::of(&event.draft.header);
        if patience.backpressure == Backpressure::DropByPriority {
            self.admit(standing, patience)?;
        }
        let class = Slab::class_of(event.measure.size());
        let (slot, waited_since) = match class {
            0 => (None, None),
            _ => self.take_slot(class, standing, patience).map(|(slot, since)| (Some(slot), since))?,
        };
        let explicit = Some(event.draft.header.event_id).filter(|id| *id != 0);
        let mut homes = [0];
        let (claim, home) = match self.ring.claim(&mut homes, explicit) {
            Ok(claim) => (claim, homes[0]),
            Err(refused) => {
                let wait = Wait::begun(patience, waited_since);
                let claim = self.claim_later(refused, explicit, standing, wait);
                claim.inspect_err(|_| {
                    slot.inspect(|slot| self.slab.give_back(*slot));
                })?
            }
        };
        if let Some(slot) = slot {
            self.slab.count(class, slot, waited_since.is_some());
        }
        if !self.fill(&claim, 0, home, slot, event) {
            return Err(Error::Revoked { first: claim.first_id, last: claim.first_id });
        }
        if let Some(next) = self.ring.guess_next(event.origin.cpu_id, claim.first_place) {
            self.slab.prefetch(self.ring.usual_home(next));
            self.ring.prefetch_homes(next);
        }
        self.wake_if_needed(claim.first_place, 1, standing.priority);
        Ok(claim.first_id)
    }

    /// Claims a place for one event when the first attempt was refused. With its home slot.
    #[cold]
    fn claim_later(
        &self,
        mut refused: Refused,
        explicit: Option<u64>,
        event: Standing,
        mut wait: Wait<'_>,
    ) -> Result<(Claim, u32), Error> {
        loop {
            match refused {
                Refused::Full => wait.for_room(self, event)?,
                Refused::Id { .. } => match self.claim_ids(explicit.unwrap_or(0), 1, None)? {
                    Some(claimed) => return Ok(claimed),
                    None => wait.for_room(self, event)?,
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
        let standings = events.iter().map(|event| Standing::of(&event.draft.header));
        let Some(urgent) = standings.min_by_key(|event| event.priority) else {
            let next = self.ring.next_id();
            return Ok(next..next);
        };
        if patience.backpressure == Backpressure::DropByPriority {
            // A batch is as urgent as the most urgent of its events: it is taken in or not as one.
            self.admit(urgent, patience).inspect_err(|error| self.drop_rest(error, urgent, events))?;
        }
        let Some(slots) = self.take_slots(events) else {
            return self.push_external(events, urgent, patience);
        };
        let mut wait = Wait::new(patience);
        let mut homes = [0; SLAB_BATCH_MAX];
        // There are slots for a batch of this size at most: see `take_slots`.
        let homes = &mut homes[..events.len()];
        let claim = loop {
            if let Ok(claim) = self.ring.claim(homes, None) {
                break claim;
            }
            if let Err(error) = wait.for_room(self, urgent).and_then(|()| self.check()) {
                self.drop_rest(&error, urgent, events);
                slots.iter().flatten().for_each(|slot| self.slab.give_back(*slot));
                return Err(error);
            }
        };
        let mut is_whole = true;
        let homes = homes.iter().zip(slots);
        for (index, (event, (home, slot))) in (0..).zip(events.iter().zip(homes)) {
            if let Some(slot) = slot {
                self.slab.count(Slab::class_of(event.measure.size()), slot, false);
            }
            is_whole &= self.fill(&claim, index, *home, slot, event);
        }
        self.wake_if_needed(claim.first_place, count, urgent.priority);
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
    fn push_external(
        &self,
        events: &[Emitted<'_>],
        urgent: Standing,
        patience: Patience<'_>,
    ) -> Result<Range<u64>, Error> {
        let count = events.len() as u64;
        let size = events.iter().map(|event| event.measure.size()).sum();
        let mut wait = Wait::new(patience);
        let mut reserved = ExternalBytes { front: self, bytes: 0, place: None };
        let (claim, home) = loop {
            let has_memory = reserved.take(size as u64);
            if has_memory && let Some(claimed) = self.claim_ids(0, count, Some(&mut reserved))? {
                break claimed;
            }
            wait.for_room(self, urgent).map_err(|error| match error {
                Error::Full { .. } if !has_memory => Error::LargeBatchesFull { bytes: EXTERNAL_BYTES_MAX },
                other => {
                    self.drop_rest(&other, urgent, events);
                    other
                }
            })?;
            self.check()?;
        };
        let mut batch = Batch::with_capacity(size);
        for (id, event) in (claim.first_id..).zip(events) {
            batch.push(&event.header(id), event.draft, event.measure);
        }
        let ids = claim.first_id..claim.first_id + count;
        debug_assert_eq!(batch.len(), size);
        if !self.publish_external(&claim, home, External::Batch(batch)) {
            return Err(Error::Revoked { first: ids.start, last: ids.end - 1 });
        }
        // The committer gives them back.
        std::mem::forget(reserved);
        self.wake_if_needed(claim.first_place, 1, urgent.priority);
        Ok(ids)
    }

    /// Publishes what does not go through the slab. False if its place was revoked.
    pub(super) fn publish_external(&self, claim: &Claim, home: u32, external: External) -> bool {
        let place = claim.first_place;
        self.externals.lock().push((place, external));
        let marker = SlotHeader { event_id: 0, size: 0, index: 0, count: EXTERNAL };
        // SAFETY: the home slot of a claimed place is the claimant's until it is published.
        let _: &mut [u8] = unsafe { self.slab.fill(home, marker) };
        let is_published = self.ring.publish(&self.slab, place, home, home);
        if !is_published {
            self.slab.give_back(home);
            self.externals.lock().retain(|(of, _)| *of != place);
        }
        is_published
    }

    /// Claims a place for `count` ids from `first` on, 0 for the next one. With its home slot. `None` where there is no
    /// room. Memory that is reserved is the place's from here on.
    #[cold]
    pub(super) fn claim_ids(
        &self,
        first: u64,
        count: u64,
        reserved: Option<&mut ExternalBytes<'_>>,
    ) -> Result<Option<(Claim, u32)>, Error> {
        let _turn = self.id_lock.lock();
        let mut locked = self.ring.lock();
        let next = locked.next_id();
        let first = if first == 0 { next } else { first };
        if first < next {
            return Err(Error::IdOrder { found: first, after: next - 1 });
        }
        let end = first.checked_add(count).filter(|end| *end <= EVENT_ID_END);
        let end = end.ok_or(Error::Exhausted { what: "event ids" })?;
        let claimed = locked.claim(first, end);
        if let (Some((claim, _)), Some(reserved)) = (&claimed, reserved) {
            // Before anybody can take the place away.
            reserved.place = Some(claim.first_place);
            self.reserved.lock().push((claim.first_place, reserved.bytes));
        }
        Ok(claimed)
    }

    /// Gives back the memory outside of the slab that a place has, if it has any.
    pub(super) fn release_reserved(&self, place: u64) {
        let mut reserved = self.reserved.lock();
        if let Some(at) = reserved.iter().position(|(of, _)| *of == place) {
            let (_, bytes) = reserved.swap_remove(at);
            self.external_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Encodes a record into its slot and publishes it. False if its place was revoked.
    #[inline(always)]
    pub(super) fn fill(
        &self,
        claim: &Claim,
        index: u64,
        home: u32,
        slot: Option<u32>,
        event: &Emitted<'_>,
    ) -> bool {
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
        let bytes = unsafe { self.slab.fill(slot.unwrap_or(home), slot_header) };
        event.draft.encode_without_checksum_with(&event.header(id), event.measure, bytes);
        std::mem::forget(guard);
        let is_published = self.ring.publish(&self.slab, place, home, slot.unwrap_or(home));
        if !is_published {
            self.slab.give_back(home);
            slot.inspect(|slot| self.slab.give_back(*slot));
        }
        is_published
    }

    /// A slot of this class or a larger one.
    /// With when it began to wait, if it had to.
    #[inline(never)]
    fn take_slot(
        &self,
        class: usize,
        event: Standing,
        patience: Patience<'_>,
    ) -> Result<(u32, Option<Instant>), Error> {
        let mut wait = Wait::new(patience);
        loop {
            if let Some(slot) = self.slab.take_for(class) {
                if self.slab.is_low(class) {
                    self.hurry();
                }
                self.slab.prefetch_start(slot);
                return Ok((slot, wait.since()));
            }
            wait.for_room(self, event)?;
            self.check()?;
        }
    }

    /// Wakes the committer if it would not see the events at these places soon enough by itself.
    #[inline(always)]
    fn wake_if_needed(&self, place: u64, count: u64, priority: Priority) {
        let is_urgent = priority <= Priority::HIGH && self.setup.heeds_priority;
        if is_urgent {
            self.is_urgent.store(true, Ordering::SeqCst);
        }
        let sleep = self.sleep.load(Ordering::SeqCst);
        // How full the ring is is looked at now and then only: where the committer is on that cache line, it costs as much
        // as an emission.
        let end = place + count;
        let is_look = (place ^ end) & !self.look_mask != 0;
        if sleep == Sleep::Asleep as u8
            || sleep == Sleep::Dozing as u8 && (is_urgent || is_look && self.is_filling(end))
        {
            self.wake();
        }
    }

    /// Whether a quarter of the ring is in use, up to this place.
    #[cold]
    fn is_filling(&self, place: u64) -> bool {
        place.saturating_sub(self.ring.drained()) >= self.ring.capacity() / 4
    }

    /// Has the committer commit what there is, however little it is: something else than places runs short.
    #[cold]
    pub(super) fn hurry(&self) {
        if !self.is_short.load(Ordering::Relaxed) {
            self.is_short.store(true, Ordering::SeqCst);
        }
        if self.sleep.load(Ordering::SeqCst) != Sleep::Awake as u8 {
            self.wake();
        }
    }

    #[cold]
    pub(super) fn wake(&self) {
        if self.sleep.swap(Sleep::Awake as u8, Ordering::SeqCst) != Sleep::Awake as u8 {
            // With the lock, because the committer has it until it really waits.
            let _state = self.state.lock();
            self.work.notify_one();
        }
    }
}

/// A batch's share of the memory outside of the slab. It is given back unless the committer does that: when it has taken the
/// batch in, or the place away.
pub(super) struct ExternalBytes<'f> {
    front: &'f Front,
    bytes: u64,
    /// Whose it is.
    place: Option<u64>,
}

#[cfg(test)]
impl Front {
    /// Memory as a large batch has it.
    pub(super) fn reserve_for_test(&self, bytes: u64) -> ExternalBytes<'_> {
        let mut reserved = ExternalBytes { front: self, bytes: 0, place: None };
        assert!(reserved.take(bytes));
        reserved
    }
}

impl ExternalBytes<'_> {
    /// Takes so much, once. False if others have too much of it.
    fn take(&mut self, bytes: u64) -> bool {
        let added = |held: u64| Some(held + bytes).filter(|sum| held == 0 || *sum <= EXTERNAL_BYTES_MAX);
        let held = &self.front.external_bytes;
        if self.bytes == 0 && held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, added).is_ok() {
            self.bytes = bytes;
        }
        self.bytes > 0
    }
}

impl Drop for ExternalBytes<'_> {
    fn drop(&mut self) {
        match self.place {
            Some(place) => self.front.release_reserved(place),
            None => drop(self.front.external_bytes.fetch_sub(self.bytes, Ordering::Relaxed)),
        }
    }
}

/// A claimed place whose claimant unwinds: it is given up, so that nobody waits for it.
pub(super) struct Unpublished<'f> {
    pub(super) front: &'f Front,
    pub(super) place: u64,
    pub(super) home: u32,
    pub(super) slot: Option<u32>,
}

impl Drop for Unpublished<'_> {
    fn drop(&mut self) {
        if !self.front.ring.abandon(&self.front.slab, self.place, self.home) {
            self.front.slab.give_back(self.home);
        }
        self.slot.inspect(|slot| self.front.slab.give_back(*slot));
    }
}
