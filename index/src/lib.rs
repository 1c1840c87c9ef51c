//! The sparse index: from an event id to the place from which its record is found by a short walk.
//!
//! One entry stands for some KiB of records. The index is derived from the segment alone and holds offsets,
//! never content: what a reader returns it has read from the segment.
#![forbid(unsafe_code)]

/// Bytes of records that one entry stands for, at least. A walk over so many bytes costs about as much as the
/// binary search before it.
const BLOCK_SIZE: usize = 4096;

/// Where the records of one extent's block begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    event_id: u64,
    offset: usize,
}

/// The sparse index of one segment. It is fed the events in the order in which they stand.
#[derive(Clone, Debug, Default)]
pub struct SparseIndex {
    entries: Vec<Entry>,
    last: Option<Entry>,
}

impl SparseIndex {
    /// An index without entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new(), last: None }
    }

    /// Takes note of the event with this id at this offset. Ids and offsets grow from call to call.
    #[inline]
    pub fn push(&mut self, event_id: u64, offset: usize) {
        let entry = Entry { event_id, offset };
        if self.entries.last().is_none_or(|last| offset - last.offset >= BLOCK_SIZE) {
            self.entries.push(entry);
        }
        self.last = Some(entry);
    }

    /// The offset of a record at or before the first event whose id is at least `event_id`, close to it.
    /// `None` if all ids are smaller.
    pub fn seek(&self, event_id: u64) -> Option<usize> {
        if self.last.is_none_or(|last| last.event_id < event_id) {
            return None;
        }
        let behind = self.entries.partition_point(|entry| entry.event_id <= event_id);
        self.entries.get(behind.saturating_sub(1)).map(|entry| entry.offset)
    }

    /// The highest id, `None` where there is no event.
    pub fn last_event_id(&self) -> Option<u64> {
        self.last.map(|last| last.event_id)
    }

    /// The lowest id, `None` where there is no event.
    pub fn first_event_id(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.event_id)
    }

    /// Entries, for statistics.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    quickcheck! {
        fn seek_gives_a_place_at_or_before_the_event_and_close_to_it(steps: Vec<(u8, u16)>) -> bool {
            let mut index = SparseIndex::new();
            let mut events = Vec::new();
            let (mut id, mut offset) = (0u64, 52usize);
            for (id_step, size) in steps {
                id += u64::from(id_step) + 1;
                index.push(id, offset);
                events.push((id, offset));
                offset += usize::from(size) + 132;
            }
            (0..id + 2).all(|wanted| match events.iter().find(|(id, _)| *id >= wanted) {
                None => index.seek(wanted).is_none(),
                Some(&(_, at)) => index.seek(wanted).is_some_and(|from| {
                    from <= at && events.iter().filter(|(_, o)| (from..at).contains(o)).count() <= BLOCK_SIZE / 132 + 1
                }),
            })
        }
    }
}
