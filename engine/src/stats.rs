//! Figures of a running journal.

use semj_format::Digest;

/// Figures of a journal since it was opened, taken at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// The epoch that this open began.
    pub epoch: u64,
    /// The active segment's number.
    pub segment_number: u64,
    /// Segments of the journal, the active one included.
    pub segments: u64,
    /// Segments that were retired since the journal began.
    pub segments_retired: u64,
    /// Events that were in them.
    pub events_retired: u64,
    /// Events that are committed, and [`Stats::events_pending`]. Those that are just being committed are in neither, so that it
    /// may be a group's events too low while others emit.
    pub events_emitted: u64,
    /// The id of the last event that was emitted, 0 before the first of the journal.
    pub last_emitted_id: u64,
    /// The highest id that a commit covers: readers see events up to it.
    pub last_committed_id: u64,
    /// The highest id that is known to be on disk.
    pub last_durable_id: u64,
    /// The highest id that the watermark vouches for: damage to events up to it can't be taken for a crash.
    pub last_marked_id: u64,
    /// Commits that were written.
    pub commits: u64,
    /// Bytes that were written to segments, with their headers and the journal's own records.
    pub bytes_written: u64,
    /// Syncs of segments and of the directory that names them; those of the watermark are not among them.
    pub syncs: u64,
    /// Times that an emission had to wait because the buffer was full.
    pub waits: u64,
    /// Events that were dropped because the buffer was full ([`crate::Backpressure::DropByPriority`]).
    pub events_dropped: u64,
    /// Places of the buffer that are in use: of events that wait for a commit. A batch of more than 32 events has one.
    pub events_pending: u64,
    /// The digest of the last commit or seal: it stands for everything in the journal up to it.
    pub digest: Digest,
}
