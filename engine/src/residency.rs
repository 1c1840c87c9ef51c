//! Residency: what of a journal stays in the page cache.
//!
//! As a rule that is left to the kernel, which keeps what was written until somebody needs the memory. But each write then
//! takes pages that nobody has used for a while, and there are machines on which these are dear: a virtual one whose host
//! takes free memory back (free page reporting of virtio-balloon) has to ask for each of them, which takes 5 to 11 µs, and
//! one without free memory has to look for some. A thread that appends 400 MB/s then does nothing else.
//!
//! So who appends measures what a page costs, and while pages are dear the oldest sealed segments leave the page cache as
//! new ones are sealed: what they leave is what the kernel takes next, and that is at hand. Readers of old segments pay for
//! it, with reads from the disk.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::medium::Medium;
use crate::segment::Segment;

/// So many bytes stay in any case, those of the newest sealed segments: sidecars are made of them, and followers read them.
/// Until as many were written, every page has to be found.
const KEPT_BYTES: u64 = 64 << 20;
/// Segments that leave for each that is sealed, at most: one more than is needed for those that were written before.
const EVICTED_MAX: usize = 2;

/// After so many bytes it is judged what a page costs. One interruption must not decide it.
const JUDGED_BYTES: u64 = 32 << 20;
/// A page costs so much where memory is dear: filling one takes 0.4 to 1.1 µs where it is at hand, and 4 to 11 where the host has to
/// find it. What makes writes as slow for another reason is taken for that, and costs no more than reads from the disk.
const DEAR_PAGE_NS: u64 = 2_500;
const PAGE_SIZE: u64 = 4096;
/// How long memory is taken to be dear: where pages come from segments that leave, it can't be seen whether others still are.
const DEAR_FOR_NS: i64 = 60_000_000_000;

/// What a page costs that has to be found for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    AtHand,
    Dear,
}

/// What writing into the page cache takes, as the appender sees it.
#[derive(Debug, Default)]
pub(crate) struct WriteCost {
    bytes: u64,
    ns: u64,
    dear_until_ns: Option<i64>,
}

impl WriteCost {
    /// Takes note of a write of many pages, which lasted from one moment to the other, in monotonic nanoseconds.
    pub(crate) fn note(&mut self, bytes: usize, began_ns: i64, ended_ns: i64) {
        self.bytes += bytes as u64;
        self.ns += u64::try_from(ended_ns.saturating_sub(began_ns)).unwrap_or(0);
        if self.bytes < JUDGED_BYTES {
            return;
        }
        let page_ns = self.ns / (self.bytes / PAGE_SIZE);
        if page_ns >= DEAR_PAGE_NS {
            if self.memory(ended_ns) == Memory::AtHand {
                tracing::debug!(page_ns, "memory is dear: old segments leave the page cache");
            }
            self.dear_until_ns = ended_ns.checked_add(DEAR_FOR_NS);
        }
        (self.bytes, self.ns) = (0, 0);
    }

    /// What a page costs now.
    pub(crate) fn memory(&self, now_ns: i64) -> Memory {
        if self.dear_until_ns.is_some_and(|until| now_ns < until) { Memory::Dear } else { Memory::AtHand }
    }
}

/// The segments that were written and sealed here and have not left the page cache, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Residents {
    segments: VecDeque<(Weak<Segment>, u64)>,
    bytes: u64,
}

impl Residents {
    /// Takes in a segment that was sealed, and has others leave if memory is dear.
    pub(crate) fn sealed(&mut self, medium: &dyn Medium, segment: &Arc<Segment>, memory: Memory) {
        let size = segment.end() as u64;
        self.segments.push_back((Arc::downgrade(segment), size));
        self.bytes += size;
        // Those that were retired have left, and took their pages with them.
        while self.segments.front().is_some_and(|(segment, _)| segment.strong_count() == 0) {
            drop(self.pop());
        }
        if memory == Memory::AtHand {
            return;
        }
        for _ in 0..EVICTED_MAX {
            if self.segments.front().is_none_or(|(_, size)| self.bytes - size < KEPT_BYTES) {
                return;
            }
            if let Some(segment) = self.pop() {
                evict(medium, &segment);
            }
        }
    }

    fn pop(&mut self) -> Option<Arc<Segment>> {
        let (segment, size) = self.segments.pop_front()?;
        self.bytes -= size;
        segment.upgrade()
    }
}

/// Has a segment leave the page cache. What is not on the disk stays, and what other processes have mapped.
fn evict(medium: &dyn Medium, segment: &Segment) {
    // What is mapped here would stay too.
    segment.unload();
    match medium.open(segment.path(), false) {
        Ok(file) => {
            file.evict();
            tracing::debug!(segment = segment.number(), "left the page cache");
        }
        // It may have been removed just now.
        Err(error) => tracing::debug!(segment = segment.number(), %error, "stays in the page cache"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// Writes so many MiB, for each page of which so much is taken, and gives the moment.
    fn write(cost: &mut WriteCost, mut now_ns: i64, mib: usize, page_ns: i64) -> i64 {
        for _ in 0..mib {
            let began_ns = now_ns;
            now_ns += page_ns * 256;
            cost.note(MIB, began_ns, now_ns);
        }
        now_ns
    }

    #[test]
    fn memory_is_dear_when_pages_have_cost_much_over_many_writes() {
        let mut cost = WriteCost::default();
        let now_ns = write(&mut cost, 0, 320, 700);
        assert_eq!(cost.memory(now_ns), Memory::AtHand);
        // One write that waits for a processor for 8 ms.
        cost.note(MIB, now_ns, now_ns + 8_000_000);
        let now_ns = write(&mut cost, now_ns, 31, 700);
        assert_eq!(cost.memory(now_ns), Memory::AtHand);
        let now_ns = write(&mut cost, now_ns, 31, 5_000);
        assert_eq!(cost.memory(now_ns), Memory::AtHand, "it is too soon to say");
        let now_ns = write(&mut cost, now_ns, 1, 5_000);
        assert_eq!(cost.memory(now_ns), Memory::Dear);
    }

    #[test]
    fn memory_stays_dear_for_a_minute_and_is_judged_anew_then() {
        let mut cost = WriteCost::default();
        let judged_ns = write(&mut cost, 0, 32, 5_000);
        let now_ns = write(&mut cost, judged_ns, 320, 700);
        assert_eq!(cost.memory(now_ns), Memory::Dear, "pages are those of segments that have left");
        assert_eq!(cost.memory(judged_ns + DEAR_FOR_NS - 1), Memory::Dear);
        assert_eq!(cost.memory(judged_ns + DEAR_FOR_NS), Memory::AtHand);
        let now_ns = write(&mut cost, judged_ns + DEAR_FOR_NS, 32, 5_000);
        assert_eq!(cost.memory(now_ns), Memory::Dear);
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_decides_nothing() {
        let mut cost = WriteCost::default();
        for _ in 0..64 {
            cost.note(MIB, 5, 5);
            cost.note(MIB, i64::MAX, i64::MIN);
        }
        assert_eq!(cost.memory(5), Memory::AtHand);
    }
}
