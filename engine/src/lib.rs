//! SEMJ: an append-only journal in the kernel's own format.
//!
//! ```
//! # fn main() -> Result<(), semj::Error> {
//! # let dir = tempfile::tempdir().map_err(|_| ()).unwrap();
//! # let dir = dir.path();
//! use semj::{Event, EventType, Journal, Options};
//!
//! let journal = Journal::open(dir, Options::default())?;
//! let id = journal.emit(&Event::new(EventType::FILESYSTEM_CREATE).path("/etc/motd").payload(b"hello"))?;
//! journal.sync()?; // on disk from here on, whatever happens
//!
//! let reader = journal.reader();
//! let record = reader.get(id)?.unwrap();
//! assert_eq!(record.payload(), b"hello");
//! for record in reader.iter(..) {
//!     let record = record?;
//!     println!("{} {}", record.event_id(), record.event_type());
//! }
//! journal.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`Journal`] | open, emit, sync, rotate, close |
//! | [`Reader`] | get, iterate, [`Query`]; also without a writer |
//! | [`examine_journal`] | verify |
//! | [`Event`], [`Ticket`], [`Options`], [`Error`], [`Stats`], [`Metrics`] | what goes in and what comes out |
//! | [`medium`] | the seam to files, maps, syncs and clocks |
//!
//! # Signals
//!
//! Files are read through maps, and a read behind the end of a file that somebody else has made shorter is a SIGBUS. The
//! first map installs a handler for it, which turns that into [`Error::Changed`] and passes on every other SIGBUS to the
//! handler that was there before. A program that installs one later has to pass on what it does not know.
//!
//! Where a program limits the size of its files (`RLIMIT_FSIZE`), the kernel sends it SIGXFSZ at a write that passes the
//! limit, which ends it. Whether it does is the program's business: where SIGXFSZ is ignored, such a write is an
//! [`Error::Io`] as any other. Either way nothing is lost that was acknowledged.
//!
//! # Logging
//!
//! What the journal does by itself it says with `tracing`, some of it while others wait for it. A subscriber that emits into
//! this journal has to leave out what the target `semj` says: it could wait for itself.
//!
//! `ARCHITECTURE.md` follows one event from `emit` to disk and back.

mod appender;
mod batch;
mod causality;
mod committer;
mod compaction;
mod compressed;
mod consumer;
mod directory;
mod error;
mod event;
mod examine;
mod flush;
mod follow;
mod front;
mod group_commit;
mod helping;
mod histogram;
mod journal;
mod keeper;
pub mod medium;
mod metrics;
mod notes;
mod open;
mod options;
mod prefetch;
mod progress;
mod quarantine;
mod query;
pub mod reader;
mod replace;
mod request;
mod residency;
mod restored;
mod retention;
mod segment;
mod segment_index;
mod sidecar;
mod snapshot;
mod stats;
mod sync;
mod thinning;
mod ticket;
mod unpack;
mod watermark;
mod writeback;
mod writer;

pub use causality::{CausalChain, Cause, Effect};
pub use compaction::{
    Compaction, CompactionProgress, CompactionReport, SkippedSegment, compact, compact_on, plan_compaction,
};
pub use consumer::{Consumer, ConsumerState, consumers};
pub use directory::{LOCK, UNRETIRED, WATERMARK, sidecar as sidecar_path};
pub use error::Error;
pub use event::Event;
pub use examine::{
    examine_copy, examine_copy_watched, examine_journal, examine_journal_watched, examine_unmarked,
};
pub use follow::{Follower, Position, Start, View};
pub use histogram::Histogram;
pub use journal::Journal;
pub use metrics::{Metrics, PoolClass};
pub use options::{Backpressure, CommitOn, GroupOrder, Options, Rotation, SyncPolicy, SyncStrategy};
pub use progress::Progress;
pub use query::Matches;
pub use reader::{Events, KeptSegment, Located, Reader, Records};
pub use request::{request_retention, request_rotation};
pub use retention::{Needs, Retention, RetentionPlan, RetiringSegment, plan_retention, plan_retention_on};
pub use semj_blocks as blocks;
pub use semj_blocks::{Codec, CodecNameError};
pub use semj_format as format;
pub use semj_format::{Category, Compacted, Context, Draft, EventFlags, EventType, Priority, Record};
pub use semj_index as index;
pub use semj_index::{Explain, Glob, GlobError, Query};
pub use semj_recovery as recovery;
pub use semj_recovery::{OpenMode, Proof, Report, SegmentReport, Verdict};
pub use sidecar::{
    SidecarReport, SidecarState, rebuild_sidecars, rebuild_sidecars_watched, verify_sidecars,
    verify_sidecars_watched,
};
pub use snapshot::{
    SnapshotMethod, SnapshotOptions, SnapshotProgress, SnapshotReport, restore, snapshot, snapshot_on,
};
pub use stats::Stats;
pub use thinning::{
    ThinReport, ThinRule, ThinSkipped, nothing_to_thin, plan_thinning, plan_thinning_watched,
};
pub use ticket::Ticket;
