//! Hashing in common: who waits for room in the buffer helps to make it.
//!
//! Of all that is done to commit a group, hashing its records takes longest, and while it goes on producers that find the
//! buffer full have nothing to do. The tree over a group's records is made of subtrees that do not depend on one another,
//! so the appender offers them, and takes its share itself. It never waits for a helper that has stopped: what is not
//! there when the rest is done it computes again. While others begin, it writes the records to the file; only their
//! Commit has to wait for the tree.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use semj_format::digest::{self, MerkleTree, RecordTree};
use semj_format::{Digest, Record, Records};

/// A subtree has two to the power of this many records.
const SUBTREE_LEVEL: u32 = 7;
const SUBTREE_RECORDS: usize = 1 << SUBTREE_LEVEL;
/// Groups of fewer bytes are hashed sooner than anybody could help.
pub(crate) const SHARED_SIZE_MIN: usize = 128 << 10;
/// How long the appender waits for helpers to finish what they have begun.
const HELPER_WAIT: Duration = Duration::from_micros(50);

/// Where work is offered. There is one offer at a time.
#[derive(Debug, Default)]
pub(crate) struct Helping {
    offer: Mutex<Option<Arc<Offer>>>,
    /// What helpers still held on to when it was not waited for them any longer. It is given back from here: a producer that
    /// lets go of the last one would give back its memory.
    late: Mutex<Vec<Arc<Offer>>>,
}

/// The subtrees of a group, to be hashed by whoever comes.
#[derive(Debug)]
struct Offer {
    bytes: Vec<u8>,
    /// Where each record begins, and where the last one ends: who helps has the bytes on another core, and would wait for
    /// each header to learn where the next one is.
    bounds: Vec<usize>,
    /// Of each whole subtree.
    roots: Vec<OnceLock<Digest>>,
    /// The next subtree that nobody has begun.
    next: AtomicUsize,
}

impl Offer {
    /// Hashes a subtree that nobody has begun. False if there is none.
    fn hash_one(&self) -> bool {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        match self.roots.get(at) {
            Some(root) => {
                root.get_or_init(|| self.hash(at));
                true
            }
            None => false,
        }
    }

    fn hash(&self, at: usize) -> Digest {
        let mut tree = RecordTree::new();
        self.records(at * SUBTREE_RECORDS).take(SUBTREE_RECORDS).for_each(|record| tree.push(record));
        tree.root()
    }

    /// The records from this one on.
    fn records(&self, first: usize) -> impl Iterator<Item = &[u8]> {
        let bounds = self.bounds.get(first..).unwrap_or_default().array_windows();
        bounds.map(|&[start, end]| self.bytes.get(start..end).unwrap_or_default())
    }
}

/// The records of a group, which were encoded here, so no frame is wrong.
fn records(bytes: &[u8]) -> impl Iterator<Item = Record<'_>> {
    Records::new(bytes, 0).map_while(Result::ok).map(|(_, record)| record)
}

/// What a Commit says of its group's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupRoot {
    pub(crate) root: Digest,
    pub(crate) record_count: u64,
}

/// The root over the records of a group, of which there are `count`.
pub(crate) fn hash_alone(bytes: &[u8], count: usize) -> GroupRoot {
    // Who waits for one event to be durable waits for this, and a tree is some KiB to be set up.
    if count == 1 {
        return GroupRoot { root: digest::leaf(bytes), record_count: 1 };
    }
    let mut tree = RecordTree::new();
    records(bytes).for_each(|record| tree.push(record.bytes()));
    GroupRoot { root: tree.root(), record_count: tree.count() }
}

impl Helping {
    /// Does a piece of what is offered. False if nothing is.
    pub(crate) fn help(&self) -> bool {
        let offer = self.offer.lock().clone();
        offer.is_some_and(|offer| offer.hash_one())
    }

    /// The root over the records of a group, hashed together with those who help. They begin while `meanwhile` does
    /// something else with the group's bytes. `offsets` are those of the records.
    pub(crate) fn hash_while<T>(
        &self,
        bytes: &mut Vec<u8>,
        offsets: impl ExactSizeIterator<Item = usize>,
        meanwhile: impl FnOnce(&[u8]) -> T,
    ) -> (GroupRoot, T) {
        let subtrees = offsets.len() / SUBTREE_RECORDS;
        let bounds = offsets.chain(std::iter::once(bytes.len())).collect();
        let roots = std::iter::repeat_with(OnceLock::new).take(subtrees).collect();
        let mut offer =
            Arc::new(Offer { bytes: std::mem::take(bytes), bounds, roots, next: AtomicUsize::new(0) });
        *self.offer.lock() = Some(Arc::clone(&offer));
        let done = meanwhile(&offer.bytes);
        while offer.hash_one() {}
        *self.offer.lock() = None;

        let mut tree = MerkleTree::new();
        let started = Instant::now();
        for (at, root) in offer.roots.iter().enumerate() {
            while root.get().is_none() && started.elapsed() < HELPER_WAIT {
                std::hint::spin_loop();
            }
            // Not by `get_or_init`, which would wait for who has begun it.
            let root = root.get().copied().unwrap_or_else(|| offer.hash(at));
            tree.push_subtree(SUBTREE_LEVEL, root);
        }
        // The last ones make no whole subtree.
        let rest: Vec<_> = offer.records(subtrees * SUBTREE_RECORDS).collect();
        tree.extend(&rest);
        // Who has hashed the last one lets go of the offer in a moment.
        while Arc::get_mut(&mut offer).is_none() && started.elapsed() < HELPER_WAIT {
            std::hint::spin_loop();
        }
        *bytes = match Arc::try_unwrap(offer) {
            Ok(offer) => offer.bytes,
            Err(offer) => {
                // As much room as before, for the next group.
                let mut bytes = Vec::with_capacity(offer.bytes.capacity());
                bytes.extend_from_slice(&offer.bytes);
                let mut late = self.late.lock();
                late.retain_mut(|offer| Arc::get_mut(offer).is_none());
                late.push(offer);
                bytes
            }
        };
        (GroupRoot { root: tree.root(), record_count: tree.count() }, done)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::atomic::AtomicBool;

    use semj_format::{Draft, EventHeader};

    use super::*;

    fn group(count: usize) -> Vec<u8> {
        let payload = [7; 4096];
        (0..count)
            .flat_map(|n| {
                let header = EventHeader { event_id: n as u64 + 1, ..EventHeader::new(0x0101) };
                let draft = Draft { payload: &payload[..n * 131 % 4000], ..Draft::new(header) };
                draft.to_vec().unwrap_or_default()
            })
            .collect()
    }

    fn offsets(bytes: &[u8]) -> Vec<usize> {
        Records::new(bytes, 0).map(|record| record.map_or(0, |(at, _)| at)).collect()
    }

    #[test]
    fn the_tree_is_the_same_whoever_helps() {
        let helping = Helping::default();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        helping.help();
                    }
                });
            }
            for count in [0, 1, 63, 64, 65, 127, 128, 200, 256, 300, 640, 641] {
                let mut bytes = group(count);
                let offsets = offsets(&bytes);
                let expected = (hash_alone(&bytes, offsets.len()), bytes.clone());
                for _ in 0..20 {
                    let (root, seen) =
                        helping.hash_while(&mut bytes, offsets.iter().copied(), |bytes| bytes == expected.1);
                    assert!(seen);
                    assert_eq!(root, expected.0, "{count}");
                    assert_eq!(root.record_count, count as u64);
                    assert!(bytes == expected.1);
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_helper_that_stops_is_not_waited_for() {
        let helping = Helping::default();
        let mut bytes = group(640);
        let offsets = offsets(&bytes);
        let expected = hash_alone(&bytes, offsets.len());
        std::thread::scope(|scope| {
            let helping = &helping;
            let (begun, is_begun) = std::sync::mpsc::channel();
            scope.spawn(move || {
                // It takes a subtree and does nothing with it for a long time.
                let offer = loop {
                    if let Some(offer) = helping.offer.lock().clone() {
                        break offer;
                    }
                };
                let at = offer.next.fetch_add(1, Ordering::Relaxed);
                assert!(begun.send(at).is_ok());
                std::thread::sleep(Duration::from_millis(200));
                assert!(Arc::strong_count(&offer) > 1, "its memory would be given back here");
            });
            let started = Instant::now();
            while is_begun.try_recv().is_err() {
                let (root, ()) = helping.hash_while(&mut bytes, offsets.iter().copied(), |_| ());
                assert_eq!(root, expected);
            }
            assert!(started.elapsed() < Duration::from_secs(5));
        });
    }
}
