//! The same with `crc32fast`, on any processor and for messages of any size.
//!
//! It is what is used where nothing is folded, and what folding is held against.

use crc32fast::Hasher;

/// As [`crate::crc32_behind`].
pub fn crc32_behind(before: u32, message: &[u8]) -> u32 {
    finish(begin(before, message))
}

/// As [`crate::crc32_without`].
pub fn crc32_without(message: &[u8], at: usize) -> u32 {
    let Some((head, rest)) = message.split_at_checked(at) else { return crc32_behind(0, message) };
    let mut hasher = begin(0, head);
    let left_out = rest.len().min(4);
    hasher.update(&[0; 4][..left_out]);
    hasher.update(&rest[left_out..]);
    finish(hasher)
}

/// zlib's inverts what it begins with.
fn begin(before: u32, bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new_with_initial(!before);
    hasher.update(bytes);
    hasher
}

fn finish(hasher: Hasher) -> u32 {
    !hasher.finalize()
}
