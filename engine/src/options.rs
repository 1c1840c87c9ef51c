//! How a journal is opened.

use std::time::Duration;

use semj_recovery::{OpenMode, Proof};

use crate::compaction::Compaction;
use crate::error::Error;
use crate::retention::{Needs, Retention};
use crate::writer;

/// On which thread a journal commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitOn {
    /// On a thread of the journal's own, while the callers go on.
    #[default]
    OwnThread,
    /// On the thread of whoever calls sync, rotate or close, or finds the buffer full. Nothing happens between
    /// those calls: [`SyncStrategy`], `sync_interval` and `commit_interval` have no effect. For programs that must not have
    /// another thread, and for tests in which every step is to be the same each time.
    CallersThread,
}

/// What a journal syncs by itself, whatever is asked of it. [`crate::Journal::sync`], [`crate::Journal::emit_durable`]
/// and [`crate::Journal::close`] keep their promises under each of them, and so does the order in which a full segment
/// and its successor reach the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Nothing but what a change of segments needs: what was not asked for is left to the operating system.
    None,
    /// What a change of segments needs, and the watermark that vouches for it. Events are left to the operating system.
    MetadataOnly,
    /// Events too, at the time that the [`SyncStrategy`] says.
    #[default]
    DataAndMetadata,
    /// Events before their emission returns: [`crate::Journal::emit`] does what [`crate::Journal::emit_durable`] does.
    Strict,
}

impl SyncPolicy {
    /// Whether events are synced that nobody asks for.
    pub(crate) const fn syncs_events(self) -> bool {
        matches!(self, Self::DataAndMetadata | Self::Strict)
    }
}

/// When events are synced that nobody waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncStrategy {
    /// As soon as they are committed.
    Immediate,
    /// When [`Options::batch_bytes`] of them have come together, or after [`Options::sync_interval`].
    Batched,
    /// After [`Options::sync_interval`].
    Async,
    /// By priority and load: those of priority CRITICAL and HIGH at once; others as soon as syncing takes a twentieth
    /// of the disk's time at most, and after [`Options::sync_interval`] in any case.
    #[default]
    Adaptive,
}

/// What an emission does when the buffer is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backpressure {
    /// It waits for room.
    #[default]
    Wait,
    /// It waits for room for so long at most, then gives [`Error::Full`], or [`Error::LargeBatchesFull`].
    WaitFor(Duration),
    /// It gives [`Error::Full`], or [`Error::LargeBatchesFull`], at once.
    Fail,
    /// The less urgent an event is, the earlier it is dropped: BACKGROUND when half of the buffer is in use, LOW at three
    /// quarters, NORMAL when it is full; HIGH and CRITICAL wait for room. A dropped event gives [`Error::Dropped`].
    /// Dropped events have ids, and a Gap record in their place says how many of which types they were. A batch is dropped
    /// as one, and is as urgent as the most urgent of its events.
    DropByPriority,
}

/// In which order the events of a commit group stand in the file. Groups stand in the order of emission in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupOrder {
    /// In the order of emission, which is that of their ids.
    #[default]
    Emission,
    /// The more urgent first, those of one priority in the order of emission. Of a group that turns out to be damaged, a
    /// salvage finds the urgent ones first. Readers give events as they stand, so ids jump inside a group.
    Priority,
}

/// How a journal is opened for writing. The defaults need no change to begin with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a journal is begun where there is none, with its directory. Default: yes; if not, that is [`crate::Error::NoJournal`].
    pub create_if_missing: bool,
    /// What to do about a journal that is not whole. Default: [`OpenMode::Strict`].
    pub mode: OpenMode,
    /// How much of the journal is proven before it is open. Default: [`Proof::Newest`], so that a journal opens at once
    /// whatever its size; what was proven and durable before is checked when it is read, and by
    /// [`crate::examine_journal`].
    pub proof: Proof,
    /// Bytes of a segment file, all of which are reserved on the disk when it is created. From 256 KiB to
    /// 4 GiB; default 64 MiB.
    pub segment_size: u64,
    /// What is synced without being asked for. Default: [`SyncPolicy::DataAndMetadata`].
    pub sync_policy: SyncPolicy,
    /// When that happens. Default: [`SyncStrategy::Adaptive`].
    pub sync_strategy: SyncStrategy,
    /// How long a committed event waits at most until a sync that nobody asked for begins. Default: 1 s.
    pub sync_interval: Duration,
    /// Bytes that [`SyncStrategy::Batched`] waits for. Default: 1 MiB.
    pub batch_bytes: u64,
    /// In which order the events of a commit group stand in the file. Default: [`GroupOrder::Emission`].
    pub group_order: GroupOrder,
    /// What an emission does when the buffer is full. Default: [`Backpressure::Wait`].
    pub backpressure: Backpressure,
    /// How old the watermark may be that protects the newest commit (see [`crate::Error::Damaged`]): it is
    /// written this long after a sync at the latest, and at close. Default: 1 s; each writing is a sync of
    /// its own. On the callers' thread it is written at the first call that is due.
    pub watermark_interval: Duration,
    /// Events that may wait between emission and commit, whose memory is had when the journal is opened: about 770
    /// bytes each, with what larger events need. A power of two from 64 to 524,288; default 32,768. Emissions wait
    /// when it is full.
    pub buffer_events: usize,
    /// How long the others wait at most for an emitter that was stopped in the middle of an emission, or died
    /// there. Then its event is recorded as missing, and it gets an error if it comes back. Default: 1 s,
    /// which is longer than a busy machine keeps a thread from running. It holds for who fills a place that it has claimed; there
    /// are locks of some instructions besides, for batches of more than 32 events, imported ids, notes of what was dropped
    /// and the slots of records above 480 bytes, and who is stopped within these is waited for. So is a thread that appends and
    /// syncs for all who wait for durability, in [`crate::Journal::sync`] and [`crate::Journal::emit_durable`].
    pub claim_timeout: Duration,
    /// Who commits. Default: a thread of the journal's own.
    pub commit_on: CommitOn,
    /// How long an emitted event may wait at most for others to be committed with. Default: 5 ms. A sync, a
    /// rotation and a full buffer commit at once.
    pub commit_interval: Duration,
    /// When segments are ended before they are full. Default: never.
    pub rotation: Rotation,
    /// How much of the journal is kept: looked at when it is opened and whenever a segment ends. Default: all.
    pub retention: Retention,
    /// Says from which event on somebody outside of the journal still needs events, beside its consumers. Default: nobody
    /// does.
    pub needs: Option<Needs>,
    /// Whether and how segments that have ended are compressed, by a thread of the journal's own with the lowest priority.
    /// Default: they are not; [`crate::compact`] and [`crate::Journal::compact`] do it by hand.
    pub compaction: Option<Compaction>,
    /// How often the journal looks for what another process asks of it ([`crate::request_rotation`],
    /// [`crate::request_retention`], [`crate::compact`]) and for a segment that has become too old, on a thread of its own. Default: 1 s; with
    /// `None` requests are not heeded, and old segments end with the next event.
    pub request_interval: Option<Duration>,
}

/// When a segment is ended before it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// So long after it was begun, if there is an event in it.
    pub max_age: Option<Duration>,
    /// When there are so many events in it. A batch is not divided, so that one of more events has a segment to itself.
    pub max_events: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            create_if_missing: true,
            mode: OpenMode::Strict,
            proof: Proof::default(),
            segment_size: 64 << 20,
            sync_policy: SyncPolicy::default(),
            sync_strategy: SyncStrategy::default(),
            sync_interval: Duration::from_secs(1),
            batch_bytes: 1 << 20,
            group_order: GroupOrder::default(),
            backpressure: Backpressure::default(),
            watermark_interval: Duration::from_secs(1),
            buffer_events: 32 << 10,
            claim_timeout: Duration::from_secs(1),
            commit_on: CommitOn::OwnThread,
            commit_interval: Duration::from_millis(5),
            rotation: Rotation::default(),
            retention: Retention::default(),
            needs: None,
            compaction: None,
            request_interval: Some(Duration::from_secs(1)),
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !(writer::SEGMENT_SIZE_MIN..=writer::SEGMENT_SIZE_MAX).contains(&self.segment_size) {
            return Err(Error::Option {
                option: "segment_size",
                value: self.segment_size,
                must_be: "from 256 KiB to 4 GiB",
            });
        }
        if !self.buffer_events.is_power_of_two() || !(64..=512 << 10).contains(&self.buffer_events) {
            return Err(Error::Option {
                option: "buffer_events",
                value: self.buffer_events as u64,
                must_be: "a power of two from 64 to 524,288",
            });
        }
        if self.rotation.max_events == Some(0) {
            return Err(Error::Option { option: "rotation.max_events", value: 0, must_be: "1 or more" });
        }
        Ok(())
    }
}
