//! Folding in registers of 16 bytes.
//!
//! An intrinsic may only run where the processor has it, which a [`Processor`] is the proof of, and loads take
//! pointers: hence the `unsafe`.
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::x86_64::*;

use crate::constants::{BLOCK_SIZE, BY_64, BY_96, FOLDS, POLYNOMIAL_33, QUOTIENT_33};

cpufeatures::new!(features, "pclmulqdq", "sse4.1");

const REGISTER_SIZE: usize = 16;
type Block = [__m128i; BLOCK_SIZE / REGISTER_SIZE];

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
        const { assert!(AT == crate::NOTHING || AT % REGISTER_SIZE + 4 <= REGISTER_SIZE, "in one register") };
        // SAFETY: there is a `Processor` only if all the features are there.
        unsafe { crc32::<AT>(before, message) }
    }
}

#[target_feature(enable = "pclmulqdq,sse4.1")]
fn crc32<const AT: usize>(before: u32, message: &[u8]) -> Option<u32> {
    let (blocks, rest) = message.as_chunks::<BLOCK_SIZE>();
    let (first, others) = blocks.split_first()?;
    if AT != crate::NOTHING && AT / BLOCK_SIZE >= blocks.len() {
        return None;
    }
    let mut sum = load_without::<AT>(first, 0);
    sum[0] = _mm_xor_si128(sum[0], _mm_cvtsi32_si128(before.cast_signed()));
    for (i, block) in others.iter().enumerate() {
        sum = fold(sum, BLOCK_SIZE, load_without::<AT>(block, i + 1));
    }
    if !rest.is_empty() {
        // The last block, in which zeros stand in place of what was folded already.
        let mut last = load(message.last_chunk()?);
        let mask = MASKS[rest.len()..].first_chunk()?;
        for (bytes, mask) in last.iter_mut().zip(load(mask)) {
            *bytes = _mm_and_si128(*bytes, mask);
        }
        sum = fold(sum, rest.len(), last);
    }
    let [a, b, c, d] = sum;
    let by = |distance: usize| load_fold(distance);
    let one = _mm_xor_si128(multiply(a, by(48)), multiply(b, by(32)));
    Some(remainder(_mm_xor_si128(_mm_xor_si128(one, multiply(c, by(16))), d)))
}

/// From the n-th byte on: a block with the last n bytes kept.
pub(crate) static MASKS: [u8; 2 * BLOCK_SIZE] = {
    let mut masks = [0; 2 * BLOCK_SIZE];
    let mut i = BLOCK_SIZE;
    while i < masks.len() {
        masks[i] = u8::MAX;
        i += 1;
    }
    masks
};

#[inline]
#[target_feature(enable = "sse4.1")]
fn load(block: &[u8; BLOCK_SIZE]) -> Block {
    let mut registers = [_mm_setzero_si128(); BLOCK_SIZE / REGISTER_SIZE];
    let (sixteens, _) = block.as_chunks::<REGISTER_SIZE>();
    for (register, bytes) in registers.iter_mut().zip(sixteens) {
        // SAFETY: there are 16 bytes, and an unaligned load reads 16 bytes.
        *register = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
    }
    registers
}

/// Block `i` of the message, without the four bytes at `AT` of the message.
#[inline]
#[target_feature(enable = "sse4.1")]
fn load_without<const AT: usize>(block: &[u8; BLOCK_SIZE], i: usize) -> Block {
    let mut registers = load(block);
    if AT / BLOCK_SIZE == i {
        let mask = u128::from(u32::MAX) << (AT % REGISTER_SIZE * 8);
        let mask = _mm_set_epi64x((mask >> 64) as i64, mask as i64);
        let register = &mut registers[AT % BLOCK_SIZE / REGISTER_SIZE];
        *register = _mm_andnot_si128(mask, *register);
    }
    registers
}

#[inline]
#[target_feature(enable = "sse4.1")]
fn load_fold(distance: usize) -> __m128i {
    let [first, second] = FOLDS[distance];
    _mm_set_epi64x(second.cast_signed(), first.cast_signed())
}

/// Brings `sum` over what stands `distance` bytes behind it.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn fold(mut sum: Block, distance: usize, onto: Block) -> Block {
    let by = load_fold(distance);
    for (register, onto) in sum.iter_mut().zip(onto) {
        *register = _mm_xor_si128(multiply(*register, by), onto);
    }
    sum
}

/// Both halves, each with its own power.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
fn multiply(of: __m128i, by: __m128i) -> __m128i {
    _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(of, by), _mm_clmulepi64_si128::<0x11>(of, by))
}

/// The remainder of 16 bytes times x^32: their CRC-32.
#[inline]
#[target_feature(enable = "pclmulqdq,sse4.1")]
pub(crate) fn remainder(of: __m128i) -> u32 {
    // 128 + 32 bits to 96, the first 64 times x^96 and the others where they are.
    let powers = _mm_set_epi64x(BY_64.cast_signed(), BY_96.cast_signed());
    let second = _mm_slli_si128::<4>(_mm_srli_si128::<8>(of));
    let of_96 = _mm_xor_si128(_mm_clmulepi64_si128::<0x00>(of, powers), second);
    // To 64: the first 32 times x^64.
    let of_64 = _mm_xor_si128(_mm_clmulepi64_si128::<0x10>(of_96, powers), of_96);
    let of_64 = _mm_extract_epi64::<1>(of_64).cast_unsigned();
    // To 32, after Barrett: how often the polynomial goes into them, and what is left.
    let constants = _mm_set_epi64x(POLYNOMIAL_33.cast_signed(), QUOTIENT_33.cast_signed());
    let first = _mm_cvtsi64_si128((of_64 & u64::from(u32::MAX)).cast_signed());
    let times = _mm_clmulepi64_si128::<0x00>(first, constants);
    let times = _mm_and_si128(times, _mm_set_epi64x(0, i64::from(u32::MAX)));
    let product = _mm_cvtsi128_si64(_mm_clmulepi64_si128::<0x10>(times, constants)).cast_unsigned();
    ((of_64 ^ product) >> 32) as u32
}
