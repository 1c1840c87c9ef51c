//! SHA-256 of many independent messages on one core.
//!
//! SHA-256 is a chain: each round needs the one before, and a processor that hashes one message waits for it most
//! of the time. So here messages are hashed side by side, in lanes, and a lane whose message ends takes the next
//! one. How many there are is a matter of the processor:
//!
//! | it has | lanes |
//! | --- | --- |
//! | the SHA instructions of x86-64 and AVX | 4, each with an instruction stream of its own |
//! | AVX-512 too | 32, in the words of two sets of registers; 16 or 4 where fewer messages are left |
//! | neither, or it is none of x86-64 | 1: `sha2` |
//!
//! Every hash begins with a byte of the caller's, the prefix, which says what is hashed; the messages themselves
//! are read where they lie. Nothing is allocated.
//!
//! | module | what lives there |
//! | --- | --- |
//! | `lanes` | which lane works on which message |
//! | `ni` | the compression function for up to four lanes, with the SHA instructions |
//! | `wide` | the compression function for groups of sixteen lanes, with AVX-512 |
//! | `padding` | a message as a row of blocks, of which only the first and the last ones are copied |
//! | [`one_by_one`] | the same with `sha2`, on any processor |
//!
//! `unsafe` is in `ni` and `wide` alone.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

mod constants;
#[cfg(target_arch = "x86_64")]
mod lanes;
#[cfg(target_arch = "x86_64")]
mod ni;
pub mod one_by_one;
mod padding;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

/// The SHA-256 of `prefix` and the message.
#[inline]
pub fn digest(prefix: u8, message: &[u8]) -> [u8; 32] {
    one_by_one::digest(prefix, message)
}

/// Puts the SHA-256 of `prefix` and each message into `digests`, in the messages' order.
///
/// It ends with the shorter of the two slices. The more messages at once, the fewer lanes are idle at the end.
#[inline]
pub fn digest_many(prefix: u8, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(processor) = lanes::Processor::detect() {
        return lanes::digest_many(processor, prefix, messages, digests);
    }
    one_by_one::digest_many(prefix, messages, digests);
}

/// Replaces each pair of neighbours by the SHA-256 of `prefix` and the two: one level of a hash tree.
///
/// Gives the number of pairs, whose digests now stand at the front. The last of an odd number has no neighbour
/// and is not looked at. What stands behind the pairs' digests afterwards is of no use.
#[inline]
pub fn digest_pairs(prefix: u8, digests: &mut [[u8; 32]]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if let Some(processor) = lanes::Processor::detect() {
        return lanes::digest_pairs(processor, prefix, digests);
    }
    one_by_one::digest_pairs(prefix, digests)
}
