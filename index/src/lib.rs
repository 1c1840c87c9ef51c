//! The sparse index of a segment, and queries that skip what it shows to be irrelevant.
//!
//! # The plan
//!
//! A question to a journal is answered by what stands in its segments and by nothing else. The index only says where
//! *not* to look. It is derived from the segment alone, so it can be thrown away, and it holds no content: what a reader
//! returns it has read from the segment, and has held against the question once more.
//!
//! ```text
//! segment    header │ records … │ records … │ records … │ …         64 MiB
//! blocks            │ entry     │ entry     │ entry     │ …         64 bytes for each 32 KiB, and a small filter
//! places            ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·  ·           4 bytes for each 8 events
//! ```
//!
//! * A **block** is a run of records of 32 KiB or a little more. Its entry has the range of its events' ids and times,
//!   which types and which agents' bits occur, and the most urgent priority. Its **filter** is a split-block Bloom filter
//!   over *keys*: hashes of the paths, agents, transactions, inodes, processes and causes that its events speak of. What
//!   is not in the filter is not in the block.
//! * Of a path come two kinds of keys. Each of its **prefixes** (`/a`, `/a/b`, `/a/b/c`) answers "everything under
//!   `/a/b`" with one exact look-up, however common the names in it are. Each of its **components** (`a`, `b`, `c`) answers
//!   patterns that do not begin at the root (`**/Makefile`, `/a/*/target/x`). Directories repeat within a block, so the
//!   two together cost little more than either.
//! * A **place** is the offset of every eighth event. Ids follow one another, so the place of an id is had by counting, and
//!   from there `get(id)` goes over seven frames at most. Where ids jump, a **run** says with which event they go on.
//! * The **summary** has the same as an entry for the whole segment.
//!
//! A query asks the summary first, then each block, and then each record that is left, the cheap questions before
//! those for which a context has to be decoded.
//!
//! One structure serves while a segment grows and when it stands on the disk: [`Places`] and [`Blocks`] hold their
//! entries as they are encoded, and what looks things up ([`PlacesView`], [`BlocksView`]) borrows them from there or from
//! a [`Sidecar`] alike. The sidecar's layout is SPEC.md, "Sidecars".
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`sidecar`] | the bytes of a sidecar file, out and in |
//! | [`builder`] | makes the index from records, one by one |
//! | [`key`], [`filter`], [`types`] | what is looked for, and the sets it is looked for in |
//! | [`glob`] | patterns of paths |
//! | [`query`] | questions, and what they skip |
#![forbid(unsafe_code)]

pub mod builder;
pub mod filter;
pub mod glob;
pub mod key;
pub mod query;
pub mod sidecar;
pub mod types;

pub use builder::{Blocks, Builder, Places};
pub use glob::{Glob, GlobError};
pub use query::{Criterion, Explain, Plan, Query, Tally};
pub use sidecar::{
    Block, BlocksView, Header, Origin, OwnedSidecar, PlacesView, Sidecar, SidecarError, Sought, Summary,
};
pub use types::TypeSet;
