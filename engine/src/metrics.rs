//! Figures that are kept all the time, and cost next to nothing to keep.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use semj_format::Compacted;

use crate::batch::Batch;
use crate::histogram::{Histogram, Recording};
use crate::watermark::Mark;

/// How a journal has worked since it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Nanoseconds that emissions took: of one in 4,096.
    pub emission_ns: Histogram,
    /// Events in a commit group.
    pub group_events: Histogram,
    /// Bytes of a commit group, its Commit included.
    pub group_bytes: Histogram,
    /// Nanoseconds from when a flush began until everything appended before was durable.
    pub flush_ns: Histogram,
    /// Callers that were served by one flush.
    pub flush_waiters: Histogram,
    /// The buffer's memory, by the sizes of its slots.
    pub pool: Vec<PoolClass>,
}

/// Slots of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolClass {
    /// Bytes of a slot.
    pub slot_size: usize,
    /// Slots there are.
    pub slots: u64,
    /// Slots that are in use now.
    pub used: u64,
    /// Records that got a slot of this size at once, the smallest they fit.
    pub hits: u64,
    /// Records whose smallest fitting size is this one and that found none: they got a larger slot, or waited. A
    /// batch for which there were not slots enough has memory outside of the pool, and counts as one record of the first size.
    pub misses: u64,
}

/// Takes the figures in.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) emission_ns: Recording,
    pub(crate) flush_ns: Recording,
    pub(crate) flush_waiters: Recording,
    pub(crate) group_events: Recording,
    pub(crate) group_bytes: Recording,
    events: AtomicU64,
    commits: AtomicU64,
    bytes: AtomicU64,
    segments: AtomicU64,
    syncs: AtomicU64,
    marked_id: AtomicU64,
    /// The last commit that was appended.
    commit_sequence: AtomicU64,
    /// What was appended last.
    appended: Mutex<Mark>,
    /// What the journal begins behind.
    retired: Mutex<Option<Compacted>>,
}

/// The sums among them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sums {
    pub(crate) events: u64,
    pub(crate) commits: u64,
    pub(crate) bytes: u64,
    pub(crate) segments: u64,
    pub(crate) syncs: u64,
    pub(crate) marked_id: u64,
    pub(crate) appended: Mark,
    pub(crate) retired: Option<Compacted>,
}

impl Recorder {
    /// For a journal that has so many segments and goes this far.
    pub(crate) fn new(segments: u64, appended: Mark, retired: Option<Compacted>) -> Self {
        Self {
            emission_ns: Recording::new(),
            flush_ns: Recording::new(),
            flush_waiters: Recording::new(),
            group_events: Recording::new(),
            group_bytes: Recording::new(),
            events: AtomicU64::new(0),
            commits: AtomicU64::new(1),
            bytes: AtomicU64::new(appended.end),
            segments: AtomicU64::new(segments),
            syncs: AtomicU64::new(0),
            marked_id: AtomicU64::new(appended.last_event_id),
            commit_sequence: AtomicU64::new(appended.commit_sequence),
            appended: Mutex::new(appended),
            retired: Mutex::new(retired),
        }
    }

    /// A group was appended.
    pub(crate) fn committed(&self, batch: &Batch, bytes: u64, mark: &Mark) {
        self.group_events.record(u64::from(batch.events()));
        self.group_bytes.record(bytes);
        self.events.fetch_add(u64::from(batch.events()), Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appended(mark);
    }

    /// A segment was begun, which says what the journal begins behind, with so many bytes written to it and the one before.
    pub(crate) fn began_segment(&self, mark: &Mark, bytes: u64, retired: Option<Compacted>) {
        *self.retired.lock() = retired;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.segments.fetch_add(1, Ordering::Relaxed);
        self.appended(mark);
    }

    /// Segments were taken out.
    pub(crate) fn took_out(&self, segments: u64) {
        self.segments.fetch_sub(segments, Ordering::Relaxed);
    }

    /// The last segment was sealed, with so many bytes.
    pub(crate) fn sealed(&self, mark: &Mark, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.appended(mark);
    }

    /// The journal goes up to here.
    fn appended(&self, mark: &Mark) {
        self.commit_sequence.store(mark.commit_sequence, Ordering::Relaxed);
        *self.appended.lock() = *mark;
    }

    /// The last commit that was appended.
    pub(crate) fn commit_sequence(&self) -> u64 {
        self.commit_sequence.load(Ordering::Relaxed)
    }

    /// Bytes that were appended.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Data was synced so many times.
    pub(crate) fn synced(&self, syncs: u64) {
        self.syncs.fetch_add(syncs, Ordering::Relaxed);
    }

    /// The watermark vouches for everything up to this id.
    pub(crate) fn marked(&self, id: u64) {
        self.marked_id.store(id, Ordering::Relaxed);
    }

    pub(crate) fn sums(&self) -> Sums {
        let load = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed);
        Sums {
            events: load(&self.events),
            commits: load(&self.commits),
            bytes: load(&self.bytes),
            segments: load(&self.segments),
            syncs: load(&self.syncs),
            marked_id: load(&self.marked_id),
            appended: *self.appended.lock(),
            retired: *self.retired.lock(),
        }
    }

    pub(crate) fn metrics(&self, pool: Vec<PoolClass>) -> Metrics {
        Metrics {
            emission_ns: self.emission_ns.snapshot(),
            group_events: self.group_events.snapshot(),
            group_bytes: self.group_bytes.snapshot(),
            flush_ns: self.flush_ns.snapshot(),
            flush_waiters: self.flush_waiters.snapshot(),
            pool,
        }
    }
}
