//! What the benches measure with, for SEMJ and for its peers alike.
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`clock`] | the processor's time-stamp counter in nanoseconds |
//! | [`latency`] | histograms of durations, and the percentiles that are shown of them |
//! | [`allocations`] | an allocator that counts what the calling thread allocates |
//! | [`process`] | memory, processor time and cores of this process; the disk under a directory |
//! | [`common`] | what all commands have |
//! | [`child`] | this program once more, so that each measurement begins with a fresh process |
//! | [`median`] | the median of several runs, field by field |
//! | [`table`] | Markdown tables and figures with units |
//! | [`pace`] | when a producer that has a rate must emit |
//! | [`payload`], [`file_events`] | the bytes that are written; events as a build makes them |
//! | [`packing`] | what a codec makes of a journal's segments |
//! | [`subject`] | SEMJ as it is measured: the only place that knows its interface |
//! | [`queue`] | what is measured of queues in memory |
//! | [`engine`], [`workload`] | what a log must offer to be measured, and what is then done to it |
//!
//! `unsafe` is in [`clock`] and [`allocations`] alone.

pub mod allocations;
pub mod child;
pub mod clock;
pub mod common;
pub mod engine;
pub mod file_events;
pub mod latency;
pub mod median;
pub mod pace;
pub mod packing;
pub mod payload;
pub mod process;
pub mod queue;
pub mod subject;
pub mod table;
pub mod workload;
