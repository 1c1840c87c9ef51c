//! What is wrong, where, and what was expected instead.

use semj_format::{ControlError, Digest, HeaderError, RecordError};
use thiserror::Error;

/// The first thing in a segment that is not right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("offset {offset}: {kind}")]
pub struct Fault {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub kind: FaultKind,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FaultKind {
    /// The journal header.
    #[error("journal header: {0}")]
    Header(HeaderError),
    /// A record's frame or checksum.
    #[error("{0}")]
    Record(RecordError),
    /// A control record's layout.
    #[error("{0}")]
    Control(ControlError),
    /// The file's first record is another.
    #[error("the first record is not a SegmentOpen: this is no segment of a journal")]
    NoSegmentOpen,
    /// Records that no Commit covers.
    #[error("{records} records ({bytes} bytes) without a commit")]
    Uncommitted {
        /// Records with a right checksum.
        records: u64,
        /// Bytes of them.
        bytes: u64,
    },
    /// The segment ends where it may not.
    #[error("the segment ends here, but {but}")]
    EndsEarly {
        /// What says that it goes on.
        but: &'static str,
    },
    /// A control record that may not stand here.
    #[error("a {found} may not stand here")]
    Misplaced {
        /// Which.
        found: &'static str,
    },
    /// Events are missing, with records in their places, and no Compacted says that so many were taken out.
    #[error("{taken_out} events were taken out of the segment, and what says so speaks of {said}")]
    Unstated {
        /// How many are missing.
        taken_out: u64,
        /// How many were taken out, as is said.
        said: u64,
    },
    /// The segment that this one goes on from is not there.
    #[error("segment {segment_number}, which it goes on from, is missing")]
    MissingSegment {
        /// Its number.
        segment_number: u64,
    },
    /// A figure that contradicts what is there.
    #[error("{field} is {found}, expected {expected}")]
    Figure {
        /// The field's name.
        field: &'static str,
        /// Its value.
        found: u64,
        /// What it should be.
        expected: u64,
    },
    /// A digest that contradicts what is there.
    #[error("{field} is {found}, expected {expected}")]
    Digest {
        /// The field's name.
        field: &'static str,
        /// Its value.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// An id that does not grow.
    #[error("event id {found} stands behind {after}")]
    IdOrder {
        /// The id.
        found: u64,
        /// The highest id before.
        after: u64,
    },
}

impl FaultKind {
    /// Whether the bytes are as somebody wrote them, checksum and all, yet contradict the chain: a torn
    /// write never looks like that.
    pub(crate) const fn contradicts(&self) -> bool {
        matches!(
            self,
            Self::Control(ControlError::Size { .. })
                | Self::Misplaced { .. }
                | Self::Unstated { .. }
                | Self::MissingSegment { .. }
                | Self::Figure { .. }
                | Self::Digest { .. }
                | Self::IdOrder { .. }
        )
    }
}
