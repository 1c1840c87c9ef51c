//! The format's limits (SPEC.md, "Limits"). A record that passes one is not a record.

/// Payload bytes of one record at most.
pub const PAYLOAD_SIZE_MAX: usize = 65_536;
/// Context bytes of one record at most; also the size of the kernel's fixed form.
pub const CONTEXT_SIZE_MAX: usize = 5_280;
/// Metadata bytes of one record at most.
pub const METADATA_SIZE_MAX: usize = 2_048;
/// Causality links of one record at most.
pub const LINK_COUNT_MAX: usize = 256;
/// Bytes of one causality link.
pub const LINK_SIZE: usize = 160;
/// Bytes of an event header, and so of the smallest record.
pub const RECORD_SIZE_MIN: usize = 132;
/// Bytes of the largest record.
pub const RECORD_SIZE_MAX: usize =
    RECORD_SIZE_MIN + CONTEXT_SIZE_MAX + PAYLOAD_SIZE_MAX + METADATA_SIZE_MAX + LINK_COUNT_MAX * LINK_SIZE;
/// Events in one kernel-format journal file at most.
pub const KERNEL_EVENT_COUNT_MAX: u64 = 10_000_000;
/// Scores and confidences go from 0 to this.
pub const SCORE_MAX: u32 = 100;
