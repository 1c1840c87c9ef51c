//! The kernel's CRC-32: `crc32_le(0, …)`. It is not zlib's, which inverts all bits before and after.

#[doc(inline)]
pub use semj_crc32::{
    crc32 as kernel_crc32, crc32_behind as kernel_crc32_behind, crc32_without as kernel_crc32_without,
};
