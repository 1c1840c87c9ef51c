//! Compressed segments.
//!
//! A segment that was closed in order never changes again, and can be kept in less room. Its compressed file says the same
//! as the native one and gives it back byte for byte:
//!
//! ```text
//! journal header │ storage block │ storage block │ … │ block index │ seal
//!                  header, data                        ↑ index_offset
//! ```
//!
//! Each storage block holds whole records, so that reading one event costs decoding one block. The records of a block are
//! regrouped by field before a general codec gets them, and what can be computed from the rest is left out.
//! Offsets in the journal are those in the native segment, whichever form it has.
//!
//! There is no I/O here. The normative text is SPEC.md, "Compressed segments".
//!
//! | module | what lives there |
//! | --- | --- |
//! | `header` | the storage block header |
//! | `codec` | the codecs, bounded |
//! | `regroup` | the transform |
//! | `block` | one block, in and out |
//! | `segment` | the file: index, seal, native offsets |
//! | `remains` | what a damaged file still gives back |
#![forbid(unsafe_code)]

mod block;
mod codec;
mod error;
mod header;
mod regroup;
mod remains;
mod segment;
mod varint;

pub use block::{BlockDecoder, BlockEncoder};
pub use codec::{Codec, CodecNameError, Method, ZLIB_LEVEL, ZSTD_LEVEL};
pub use error::{DecodeError, EncodeError};
pub use header::{BLOCK_SIZE_MAX, BLOCK_TARGET_MAX, BlockHeader, VERSION_PLAIN, VERSION_REGROUPED};
pub use remains::Remains;
pub use segment::{BLOCK_TARGET, Compressor, FileSeal, IndexEntry, Layout, unpack};
