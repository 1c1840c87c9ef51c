//! The kernel's CRC-32 of messages of some hundred bytes.
//!
//! It is `crc32_le(0, …)`: the reflected polynomial 0xEDB88320 with no inversion before or after. (zlib's CRC-32, which
//! inverts both, is another one. The one is had from the other by starting zlib's from all ones and inverting its
//! result.)
//!
//! A checksum is the remainder of a division of polynomials over GF(2). Long messages are divided fast by *folding*: what
//! stands in front is multiplied by the power of x that brings it over what stands behind, modulo the polynomial, and added
//! there; what is left is as long as a register. (V. Gopal and others, "Fast CRC Computation for Generic Polynomials
//! Using PCLMULQDQ Instruction", Intel, 2009.) Libraries do so from a hundred bytes on, and go byte by byte
//! through what is left at the end. Here it is done from 64 bytes on and to the last byte: the last fold is as far as there
//! are bytes left.
//!
//! | the processor has | what is done |
//! | --- | --- |
//! | `pclmulqdq` | four registers of 16 bytes are folded |
//! | `vpclmulqdq` and AVX2 too | two of 32 bytes |
//! | and AVX-512 | one of 64 bytes |
//! | neither, or it is none of x86-64; or the message has less than 64 bytes | [`table`]: `crc32fast` |
//!
//! `unsafe` is in `narrow`, `middle` and `wide` alone.
#![no_std]
#![deny(unsafe_code)]

#[cfg(test)]
extern crate std;

#[cfg(target_arch = "x86_64")]
mod constants;
#[cfg(target_arch = "x86_64")]
mod middle;
#[cfg(target_arch = "x86_64")]
mod narrow;
pub mod table;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

/// Of [`crc32_without`]: nothing is left out.
#[cfg(target_arch = "x86_64")]
const NOTHING: usize = usize::MAX;

/// The CRC-32 of `message`.
#[inline]
pub fn crc32(message: &[u8]) -> u32 {
    crc32_behind(0, message)
}

/// The CRC-32 of bytes whose own is `before`, and of `message` behind them: the kernel's `crc32_le(before, message)`.
#[inline]
pub fn crc32_behind(before: u32, message: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = folded::<NOTHING>(before, message) {
        return crc;
    }
    table::crc32_behind(before, message)
}

/// The CRC-32 of `message` with zeros in place of the four bytes at `AT`: where it holds its own checksum.
///
/// What of these four bytes is behind the message's end is not looked for.
#[inline]
pub fn crc32_without<const AT: usize>(message: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = folded::<AT>(0, message) {
        return crc;
    }
    table::crc32_without(message, AT)
}

/// By folding, where that is possible.
#[cfg(target_arch = "x86_64")]
#[inline]
fn folded<const AT: usize>(before: u32, message: &[u8]) -> Option<u32> {
    if let Some(wide) = wide::Processor::detect() {
        return wide.crc32::<AT>(before, message);
    }
    if let Some(middle) = middle::Processor::detect() {
        return middle.crc32::<AT>(before, message);
    }
    narrow::Processor::detect()?.crc32::<AT>(before, message)
}
