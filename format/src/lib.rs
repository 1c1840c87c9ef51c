//! The SEMJ on-disk format.
//!
//! Bytes in, structures out, and back: journal header, event records, contexts, the journal's own records,
//! checksums and digests. There is no I/O here, no clock, no thread and no `unsafe`. The normative text is
//! `SPEC.md`; each structure's declaration below is its table there, offset by offset.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`journal_header`] | the 52 bytes at offset 0 |
//! | [`event_header`] | the 132 bytes every record begins with |
//! | [`record`] | a whole record, borrowed from a buffer |
//! | [`draft`] | a record that is about to be written |
//! | [`context`] | the 21 context fields, in the kernel's fixed form and in the compact one |
//! | [`control`] | the journal's own records: SegmentOpen, Commit, SegmentSeal, Recovered, Gap, Compacted |
//! | [`event_type`] | the 72 event types and their names |
//! | [`layout`] | how structures are declared, here and by whoever adds a file of their own |
//! | [`consumer`] | how far a named reader has come |
//! | [`watermark`] | how far the journal was durable, kept outside of the segments |
//! | [`checksum`], [`digest`] | the kernel's CRC-32; SHA-256 leaves, trees and the commit chain |
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod checksum;
pub mod consumer;
pub mod context;
pub mod control;
pub mod digest;
pub mod draft;
pub mod event_header;
pub mod event_type;
pub mod journal_header;
pub mod layout;
pub mod limits;
pub mod record;
pub mod watermark;

pub use consumer::{ConsumerMark, ConsumerMarkError};
pub use context::{Context, ContextError, ContextForm};
pub use control::{Commit, Compacted, ControlError, Gap, Recovered, SegmentOpen, SegmentSeal};
pub use digest::Digest;
pub use draft::{Draft, DraftContext, DraftError, Measure};
pub use event_header::{CausalityLink, EventFlags, EventHeader, Priority};
pub use event_type::{Category, EventType};
pub use journal_header::{HeaderError, JournalHeader};
pub use record::{Record, RecordError, Records};
pub use watermark::{Watermark, WatermarkError, WatermarkFile};
