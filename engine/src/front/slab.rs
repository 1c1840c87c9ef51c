//! The slab: all memory that records take between emission and commit, in slots of five sizes, had at once.
//!
//! Small slots come with the places of the ring: each place has one at home, and some more are spare. Larger ones wait in
//! a queue for each size. Whoever took a slot, or claimed the place that it is at home in, owns it until it publishes
//! the slot or gives it back; the committer owns published slots until it gives them back.
//!
//! A slot begins with its stamp, which both sides may look at at any time (see [`super::ring`]), then a [`SlotHeader`],
//! then the record.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_queue::ArrayQueue;
use semj_format::limits::RECORD_SIZE_MAX;

use super::memory::Memory;
use super::ring::Stamps;
use crate::metrics::PoolClass;
use crate::prefetch;

/// Bytes of the slots of each class. The last one holds the largest record.
pub(crate) const CLASS_SIZES: [usize; 5] = [512, 2 << 10, 8 << 10, 32 << 10, 128 << 10];
/// Bytes of a larger slot that are fetched ahead: a processor has some twenty cache lines under way at once.
const PREFETCH_SIZE_MAX: usize = 1280;
/// Where in a slot its header begins: behind the stamp.
const HEADER_AT: usize = size_of::<AtomicU64>();
/// Where in a slot its record begins.
const RECORD_AT: usize = HEADER_AT + size_of::<SlotHeader>();
/// Small slots beside those of the ring, for places whose slot a stopped producer holds.
const SPARE_COUNT: usize = 64;
/// So many more, which take no memory before they are needed. When producers that never come back hold all of them too, the
/// journal waits for one. (Fewer under Miri, for which each is some 10 ms of work.)
const RESERVE_COUNT: usize = if cfg!(miri) { 64 } else { 4096 };
/// Where they stand among the classes.
const RESERVE: usize = CLASS_SIZES.len();
/// Slots of the larger classes for each place of the ring, as a divisor. What a class lacks the next one gives.
const PLACES_PER_SLOT: [usize; 5] = [1, 32, 128, 512, 2048];

const _: () = assert!(RECORD_SIZE_MAX + RECORD_AT <= CLASS_SIZES[4]);

/// What a slot holds, written by whoever fills it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotHeader {
    /// The event's id, 0 where there is none.
    pub(crate) event_id: u64,
    /// Bytes of the record.
    pub(crate) size: u32,
    /// Which of the records that belong together this is.
    pub(crate) index: u32,
    /// How many belong together; [`EXTERNAL`] for records that lie elsewhere.
    pub(crate) count: u32,
}

/// The records of this place are not in the slab: they were too many.
pub(crate) const EXTERNAL: u32 = u32::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Slab {
    memory: Memory,
    /// Slots of class 0, which are the first ones. Here too, because it is looked at for each event.
    small_count: u32,
    classes: [Class; CLASS_SIZES.len() + 1],
}

// SAFETY: the memory is the slab's own, and each slot has one owner at a time (see the module).
unsafe impl Send for Slab {}
// SAFETY: as above.
unsafe impl Sync for Slab {}

#[derive(Debug)]
struct Class {
    /// The number of its first slot; the classes' slots are numbered one behind the other.
    first: u32,
    /// Where its first slot begins.
    offset: usize,
    /// Bytes of a slot.
    size: usize,
    free: ArrayQueue<u32>,
    /// See [`PoolClass`]; those of class 0 are what the ring has claimed and no other class has counted.
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Slab {
    /// Memory for a ring of so many places, whose home slots are 0 and up.
    pub(crate) fn new(places: usize) -> std::io::Result<Self> {
        let mut first = 0;
        let mut offset = 0;
        let mut hot = 0;
        let classes = std::array::from_fn(|class| {
            let (count, free) = match class {
                0 => (places + SPARE_COUNT, places..places + SPARE_COUNT),
                RESERVE => (RESERVE_COUNT, first..first + RESERVE_COUNT),
                _ => {
                    let count = (places / PLACES_PER_SLOT[class]).max(2);
                    (count, first..first + count)
                }
            };
            let queue = ArrayQueue::new(if class == 0 { count } else { free.len() });
            for slot in free {
                // The queue has room for all of the class's slots.
                let _: Result<(), u32> = queue.push(slot as u32);
            }
            let size = if class == RESERVE { CLASS_SIZES[0] } else { CLASS_SIZES[class] };
            let this = Class {
                first: first as u32,
                offset,
                size,
                free: queue,
                hits: AtomicU64::new(0),
                misses: AtomicU64::new(0),
            };
            first += count;
            if class == RESERVE {
                hot = offset;
            }
            offset += count * size;
            this
        });
        let memory = Memory::new(offset, hot)?;
        Ok(Self { memory, small_count: classes[1].first, classes })
    }

    /// The smallest class whose slots hold a record of so many bytes; every record has one.
    #[inline]
    pub(crate) fn class_of(size: usize) -> usize {
        CLASS_SIZES.iter().position(|class| size + RECORD_AT <= *class).unwrap_or(CLASS_SIZES.len() - 1)
    }

    /// Takes a small slot that is nobody's, as a home for a place whose claimant has stopped.
    pub(crate) fn take_spare(&self) -> Option<u32> {
        self.take(0).or_else(|| self.take(RESERVE))
    }

    fn take(&self, class: usize) -> Option<u32> {
        self.classes[class].free.pop()
    }

    /// Takes a free slot for a record of this class, which is not 0: of the class or, if there is none, a larger one.
    pub(crate) fn take_for(&self, class: usize) -> Option<u32> {
        (class..CLASS_SIZES.len()).find_map(|class| self.take(class))
    }

    /// Counts a record of this class, which is not 0, that has a slot and a place, and has waited for the slot or not.
    #[inline(never)]
    pub(crate) fn count(&self, class: usize, slot: u32, has_waited: bool) {
        let Class { hits, misses, .. } = &self.classes[class];
        let is_hit = !has_waited && self.class(slot) == class;
        if is_hit { hits } else { misses }.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether fewer than half of the slots of a class, which is not 0, are free.
    pub(crate) fn is_low(&self, class: usize) -> bool {
        let free = &self.classes[class].free;
        free.len() < free.capacity() / 2
    }

    /// How the slots are used, for a ring of which `pending` places are and `claimed` were in use.
    pub(crate) fn pool(&self, pending: u64, claimed: u64) -> Vec<PoolClass> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let larger: u64 = self.classes.iter().map(|class| load(&class.hits) + load(&class.misses)).sum();
        let classes = self.classes[..RESERVE].iter().zip(CLASS_SIZES).enumerate();
        classes
            .map(|(at, (class, slot_size))| {
                let slots = class.free.capacity() as u64;
                let (used, hits) = match at {
                    0 => (pending, claimed.saturating_sub(larger)),
                    _ => (slots - class.free.len() as u64, load(&class.hits)),
                };
                PoolClass { slot_size, slots, used, hits, misses: load(&class.misses) }
            })
            .collect()
    }

    /// Gives a slot back that was taken, or a home slot that another one has replaced.
    #[inline(never)]
    pub(crate) fn give_back(&self, slot: u32) {
        // Each slot is in one place at a time, and its class's queue has room for all.
        let _: Result<(), u32> = self.classes[self.class(slot)].free.push(slot);
    }

    #[inline]
    fn class(&self, slot: u32) -> usize {
        if slot < self.small_count {
            return 0;
        }
        self.classes.iter().rposition(|class| class.first <= slot).unwrap_or(0)
    }

    /// Where a slot begins, and its size.
    #[inline(always)]
    fn locate(&self, slot: u32) -> (NonNull<u8>, usize) {
        let (at, size) = if slot < self.small_count {
            // Most are small ones, and these are the first.
            (slot as usize * CLASS_SIZES[0], CLASS_SIZES[0])
        } else {
            self.locate_other(slot)
        };
        debug_assert!(at + size <= self.memory.size());
        // SAFETY: slots are numbered within their classes, so the slot lies in the allocation.
        (unsafe { self.memory.start().add(at) }, size)
    }

    /// Where in the memory a slot begins that is not of class 0, and its size.
    #[inline(never)]
    fn locate_other(&self, slot: u32) -> (usize, usize) {
        let Class { first, offset, size, .. } = &self.classes[self.class(slot)];
        (offset + (slot - first) as usize * size, *size)
    }

    /// Begins to fill a slot: writes the header, and gives the bytes of a record of `header.size` bytes.
    ///
    /// # Safety
    ///
    /// The caller owns the slot (see the module) for as long as it has the bytes, and the record fits it:
    /// [`Slab::class_of`].
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "each slot has one owner at a time, the caller")]
    pub(crate) unsafe fn fill(&self, slot: u32, header: SlotHeader) -> &mut [u8] {
        let (at, size) = self.locate(slot);
        let record = (header.size as usize).min(size - RECORD_AT);
        // SAFETY: but for the stamp the slot is the caller's alone, so nothing else refers to it; it is aligned for the
        // header, and header and record lie in it. The memory was zeroed, so all of it is initialised.
        unsafe {
            at.add(HEADER_AT).cast::<SlotHeader>().write(header);
            std::slice::from_raw_parts_mut(at.add(RECORD_AT).as_ptr(), record)
        }
    }

    /// Has the processor fetch a small slot's memory for writing. Records are written to slots that the committer has
    /// read on another processor, and publishing waits until all of it was fetched from there.
    #[inline(always)]
    pub(crate) fn prefetch(&self, slot: u32) {
        if slot < self.small_count {
            let (at, size) = self.locate(slot);
            prefetch::for_write(at.as_ptr(), size);
        }
    }

    /// The same for a slot of any size, as much of it as the processor can have under way at once.
    #[inline]
    pub(crate) fn prefetch_start(&self, slot: u32) {
        let (at, size) = self.locate(slot);
        prefetch::for_write(at.as_ptr(), size.min(PREFETCH_SIZE_MAX));
    }

    /// What is in a slot.
    ///
    /// # Safety
    ///
    /// The caller owns the slot, which was filled, and does not fill it or give it back while the record is in use.
    #[inline]
    pub(crate) unsafe fn read(&self, slot: u32) -> (SlotHeader, &[u8]) {
        let (at, size) = self.locate(slot);
        // SAFETY: as in `fill`; nobody writes to the slot meanwhile.
        unsafe {
            let header = at.add(HEADER_AT).cast::<SlotHeader>().read();
            let record = (header.size as usize).min(size - RECORD_AT);
            (header, std::slice::from_raw_parts(at.add(RECORD_AT).as_ptr(), record))
        }
    }

    #[inline(always)]
    fn stamp_of(&self, slot: u32) -> &AtomicU64 {
        let (at, _) = self.locate(slot);
        // SAFETY: the slot lies in the slab's memory, which lives as long as the slab and is aligned for this; its first
        // bytes are used in no other way.
        unsafe { AtomicU64::from_ptr(at.cast::<u64>().as_ptr()) }
    }

    /// Has a published record of usual size in the processor's cache by the time that it is read.
    #[inline]
    pub(crate) fn prefetch_record(&self, slot: u32) {
        let (at, size) = self.locate(slot);
        prefetch::for_read(at.as_ptr(), size.min(CLASS_SIZES[0]));
    }

    /// Has the kernel back all of the memory but the reserve now, so that no emission meets a page fault.
    pub(crate) fn touch(&self) {
        for at in (0..self.classes[RESERVE].offset).step_by(4096) {
            // SAFETY: nobody has a slot yet: this is called before the slab is shared. The byte lies in it.
            unsafe { self.memory.start().add(at).write_volatile(0) };
        }
    }
}

impl Stamps for Slab {
    #[inline]
    fn stamp(&self, slot: u32) -> u64 {
        self.stamp_of(slot).load(Ordering::Acquire)
    }

    #[inline(always)]
    fn set_stamp(&self, slot: u32, stamp: u64) {
        self.stamp_of(slot).store(stamp, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a record that are looked at: all, but under Miri, which takes some µs for each, its ends.
    fn looked_at(size: usize) -> impl Iterator<Item = usize> {
        let end = if cfg!(miri) { 8 } else { size };
        (0..end).chain(size.saturating_sub(8).max(end)..size)
    }

    #[test]
    fn every_slot_has_memory_of_its_own() {
        let slab = Slab::new(64).unwrap();
        let last = slab.classes.last().unwrap();
        let end = last.first + last.free.capacity() as u32;
        // Under Miri those where one class ends and the next one begins.
        let is_looked_at = |slot: &u32| {
            let mut edges = slab.classes.iter().map(|class| class.first).chain([end]);
            !cfg!(miri) || edges.any(|edge| slot.abs_diff(edge) <= 2)
        };
        let slots: Vec<u32> = (0..end).filter(is_looked_at).collect();
        for slot in &slots {
            let size = slab.locate(*slot).1 - RECORD_AT;
            let header = SlotHeader { event_id: u64::from(*slot), size: size as u32, index: 0, count: 1 };
            slab.set_stamp(*slot, u64::from(*slot) << 32);
            // SAFETY: this test owns all slots.
            let bytes = unsafe { slab.fill(*slot, header) };
            looked_at(size).for_each(|at| bytes[at] = *slot as u8);
        }
        for slot in slots {
            // SAFETY: as above.
            let (header, bytes) = unsafe { slab.read(slot) };
            assert_eq!((header.event_id, slab.stamp(slot)), (u64::from(slot), u64::from(slot) << 32));
            assert_eq!(bytes.len(), slab.locate(slot).1 - RECORD_AT);
            assert!(looked_at(bytes.len()).all(|at| bytes[at] == slot as u8), "slot {slot}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_slot_is_given_twice() {
        let slab = Slab::new(64).unwrap();
        for class in 0..=RESERVE {
            let taken: Vec<u32> = std::iter::from_fn(|| slab.take(class)).collect();
            assert!(taken.len() >= 2 && taken.iter().all(|slot| slab.class(*slot) == class));
            let mut unique = taken.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len(), taken.len());
            taken.iter().for_each(|slot| slab.give_back(*slot));
            assert_eq!(slab.classes[class].free.len(), taken.len());
        }
        // A home slot that a spare one has replaced can be given back too.
        let spare = slab.take(0).unwrap();
        slab.give_back(3);
        assert_eq!(slab.classes[0].free.len(), SPARE_COUNT);
        slab.give_back(spare);
    }

    #[test]
    fn each_record_has_a_class() {
        assert_eq!(Slab::class_of(132), 0);
        assert_eq!(Slab::class_of(480), 0);
        assert_eq!(Slab::class_of(481), 1);
        assert_eq!(Slab::class_of(RECORD_SIZE_MAX), 4);
    }
}
