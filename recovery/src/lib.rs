//! Bytes in, verdicts out: what the segments of a journal prove, and what is to be done about the rest.
//!
//! Nothing here reads a file, changes a byte or decides for the user. The way goes through these rooms:
//!
//! | module | what it does |
//! | --- | --- |
//! | [`scanner`] | walks one segment group by group and stops at the first thing that is not right |
//! | [`evidence`], [`decision`] | what is known about a segment's end, and the table that turns it into a verdict |
//! | `salvage` | finds what proves itself behind damage |
//! | `known`, `placement` | damage that earlier opens have recorded; which files have a place in the journal |
//! | `retired` | segments that were taken out on purpose, and where the journal begins without them |
//! | [`trust`] | what was proven before and need not be read again |
//! | `segment` | scan, evidence, salvage and decision put together for one segment; also for a file that may be only a piece of one |
//! | [`examine()`], [`report`] | holds the segments against each other; makes the report and, for a writer, the plan |
//!
//! The engine opens, verifies, iterates and dumps through this one scanner.
#![forbid(unsafe_code)]

pub mod decision;
pub mod evidence;
pub mod examine;
pub mod fault;
mod known;
mod placement;
pub mod report;
mod retired;
mod salvage;
pub mod scanner;
mod segment;
pub mod trust;

pub use decision::{Verdict, decide};
pub use evidence::{End, Evidence, Link};
pub use examine::{Effort, examine, examine_alone, examine_file, examine_unretired, examine_with};
pub use fault::{Fault, FaultKind};
pub use report::{Backing, Extent, OpenMode, Packed, Report, SegmentInput, SegmentReport, Tip};
pub use retired::retired_before;
pub use scanner::{Gaps, Group, ScanEnd, Scanner, Thinning};
pub use trust::Proof;
