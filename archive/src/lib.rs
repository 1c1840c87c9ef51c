//! Segments of a journal in object storage: a local folder, S3, Google Cloud Storage or Azure, by URL.
//!
//! ```text
//! URL/segments/NUMBER-FIRSTID-SHA256.semj      a segment that was closed in order, compressed; one that was cut, up to its end
//! URL/segments/NUMBER-FIRSTID-SHA256.idx       its sidecar, the most of it compressed
//! URL/manifests/GENERATION-SHA256.json         what there is; the newest generation counts
//! ```
//!
//! Everything is named by its digest and never written again, so that an upload that was cut short is taken up where it
//! stopped, and two that go on at the same time do each other no harm. What counts is proven by the journal's own chain: the
//! digests in a manifest only say which bytes to expect.
#![forbid(unsafe_code)]

mod archive;
mod error;
mod fetch;
mod manifest;
mod push;
mod remote;
mod sidecar;
mod storage;
mod verify;

pub use archive::{Archive, Progress};
pub use error::Error;
pub use fetch::{FetchOptions, FetchReport};
pub use manifest::{Entry, Form, Manifest, Sidecar};
pub use object_store;
pub use push::{PushOptions, PushReport};
pub use remote::ArchivedJournal;
pub use verify::{Finding, JournalReport, VerifyReport};
