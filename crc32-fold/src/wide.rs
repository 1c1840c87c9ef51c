//! Folding in registers of 64 bytes, with AVX-512. For the `unsafe` the same holds as in [`crate::narrow`].
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::x86_64::*;

use crate::constants::{BLOCK_SIZE, FOLDS};
use crate::narrow::remainder;

cpufeatures::new!(features, "avx512f", "avx512bw", "vpclmulqdq", "pclmulqdq", "sse4.1");

/// The proof that the processor has the instructions that are used here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(());

impl Processor {
    /// Nothing where an instruction is missing. The processor is asked once.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }

    /// The CRC-32 of bytes whose own is `before`, and of a message behind them without the four bytes at `AT`. Nothing
    /// where it is too short.
    #[inline]
    pub(crate) fn crc32<const AT: usize>(self, before: u32, message: &[u8]) -> Option<u32> {
        const { assert!(AT == crate::NOTHING || AT % BLOCK_SIZE + 4 <= BLOCK_SIZE, "in one block") };
        // SAFETY: there is a `Processor` only if all the features are there.
        unsafe { crc32::<AT>(before, message) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,pclmulqdq,sse4.1")]
fn crc32<const AT: usize>(before: u32, message: &[u8]) -> Option<u32> {
    let (blocks, rest) = message.as_chunks::<BLOCK_SIZE>();
    let (first, others) = blocks.split_first()?;
    if AT != crate::NOTHING && AT / BLOCK_SIZE >= blocks.len() {
        return None;
    }
    let kept = |i: usize| if AT / BLOCK_SIZE == i { !(0xF << (AT % BLOCK_SIZE)) } else { u64::MAX };
    let by = load_fold(BLOCK_SIZE);
    let before = _mm512_zextsi128_si512(_mm_cvtsi32_si128(before.cast_signed()));
    let mut sum = _mm512_xor_si512(load(first, kept(0)), before);
    for (i, block) in others.iter().enumerate() {
        sum = fold(sum, by, load(block, kept(i + 1)));
    }
    if !rest.is_empty() {
        // The last block, in which zeros stand in place of what was folded already.
        let last = load(message.last_chunk()?, u64::MAX << (BLOCK_SIZE - rest.len()));
        sum = fold(sum, load_fold(rest.len()), last);
    }
    Some(remainder(join(sum)))
}

/// The bytes of a block that are in the mask, and zeros.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(block: &[u8; BLOCK_SIZE], mask: u64) -> __m512i {
    // SAFETY: there are 64 bytes, and an unaligned load reads no more.
    unsafe { _mm512_maskz_loadu_epi8(mask, block.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_fold(distance: usize) -> __m512i {
    let [first, second] = FOLDS[distance];
    _mm512_broadcast_i32x4(_mm_set_epi64x(second.cast_signed(), first.cast_signed()))
}

/// Brings `sum` over what stands behind it, as far as `by` says.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq")]
fn fold(sum: __m512i, by: __m512i, onto: __m512i) -> __m512i {
    xor3(_mm512_clmulepi64_epi128::<0x00>(sum, by), _mm512_clmulepi64_epi128::<0x11>(sum, by), onto)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    // The truth table of a ^ b ^ c.
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

/// Brings the first three quarters over the last one.
#[inline]
#[target_feature(enable = "avx512f,vpclmulqdq,sse4.1")]
fn join(sum: __m512i) -> __m128i {
    let [a, b, c] = [FOLDS[48], FOLDS[32], FOLDS[16]].map(|by| by.map(u64::cast_signed));
    let by = _mm512_setr_epi64(a[0], a[1], b[0], b[1], c[0], c[1], 0, 0);
    // The last quarter is multiplied by nothing and added as it is.
    let last = _mm512_maskz_mov_epi64(0b1100_0000, sum);
    let sum = fold(sum, by, last);
    let halves = _mm256_xor_si256(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64::<1>(sum));
    _mm_xor_si128(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves))
}
