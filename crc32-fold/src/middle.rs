//! Folding in registers of 32 bytes, with AVX2. For the `unsafe` the same holds as in [`crate::narrow`].
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::x86_64::*;
use core::sync::atomic::{AtomicU8, Ordering};

use crate::constants::{BLOCK_SIZE, FOLDS};
use crate::narrow::{MASKS, remainder};

cpufeatures::new!(features, "avx2", "pclmulqdq", "sse4.1");

/// Whether the processor has `vpclmulqdq`: bit 10 of ECX of leaf 7 (Intel, "Software Developer's Manual", volume 2, CPUID).
/// `cpufeatures` says yes only where the processor has AVX-512 too.
fn has_vpclmulqdq() -> bool {
    const UNKNOWN: u8 = 2;
    static KNOWN: AtomicU8 = AtomicU8::new(UNKNOWN);
    // Whoever asks at the same time gets the same answer.
    match KNOWN.load(Ordering::Relaxed) {
        UNKNOWN => {
            let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx >> 10 & 1 == 1;
            KNOWN.store(u8::from(has), Ordering::Relaxed);
            has
        }
        known => known == 1,
    }
}

const REGISTER_SIZE: usize = 32;
type Block = [__m256i; BLOCK_SIZE / REGISTER_SIZE];

/// The proof that the processor has the instructions that are used here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(());

impl Processor {
    /// Nothing where an instruction is missing. The processor is asked once.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        (features::get() && has_vpclmulqdq()).then_some(Self(()))
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

#[target_feature(enable = "avx2,vpclmulqdq,pclmulqdq,sse4.1")]
fn crc32<const AT: usize>(before: u32, message: &[u8]) -> Option<u32> {
    let (blocks, rest) = message.as_chunks::<BLOCK_SIZE>();
    let (first, others) = blocks.split_first()?;
    if AT != crate::NOTHING && AT / BLOCK_SIZE >= blocks.len() {
        return None;
    }
    let by = load_fold(BLOCK_SIZE);
    let mut sum = load_without::<AT>(first, 0);
    sum[0] = _mm256_xor_si256(sum[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128(before.cast_signed())));
    for (i, block) in others.iter().enumerate() {
        sum = fold(sum, by, load_without::<AT>(block, i + 1));
    }
    if !rest.is_empty() {
        // The last block, in which zeros stand in place of what was folded already.
        let mut last = load(message.last_chunk()?);
        let mask = MASKS[rest.len()..].first_chunk()?;
        for (bytes, mask) in last.iter_mut().zip(load(mask)) {
            *bytes = _mm256_and_si256(*bytes, mask);
        }
        sum = fold(sum, load_fold(rest.len()), last);
    }
    Some(remainder(join(sum)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &[u8; BLOCK_SIZE]) -> Block {
    let mut registers = [_mm256_setzero_si256(); BLOCK_SIZE / REGISTER_SIZE];
    let (halves, _) = block.as_chunks::<REGISTER_SIZE>();
    for (register, bytes) in registers.iter_mut().zip(halves) {
        // SAFETY: there are 32 bytes, and an unaligned load reads 32 bytes.
        *register = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
    }
    registers
}

/// Block `i` of the message, without the four bytes at `AT` of the message.
#[inline]
#[target_feature(enable = "avx2")]
fn load_without<const AT: usize>(block: &[u8; BLOCK_SIZE], i: usize) -> Block {
    let mut registers = load(block);
    if AT / BLOCK_SIZE == i {
        let mut mask = [0u64; REGISTER_SIZE / 8];
        mask[AT % REGISTER_SIZE / 8] = u64::from(u32::MAX) << (AT % 8 * 8);
        let [a, b, c, d] = mask.map(u64::cast_signed);
        let register = &mut registers[AT % BLOCK_SIZE / REGISTER_SIZE];
        *register = _mm256_andnot_si256(_mm256_setr_epi64x(a, b, c, d), *register);
    }
    registers
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_fold(distance: usize) -> __m256i {
    let [first, second] = FOLDS[distance].map(u64::cast_signed);
    _mm256_setr_epi64x(first, second, first, second)
}

/// Brings `sum` over what stands behind it, as far as `by` says.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn fold(mut sum: Block, by: __m256i, onto: Block) -> Block {
    for (register, onto) in sum.iter_mut().zip(onto) {
        *register = _mm256_xor_si256(multiply(*register, by), onto);
    }
    sum
}

/// All four halves, each with its own power.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn multiply(of: __m256i, by: __m256i) -> __m256i {
    _mm256_xor_si256(_mm256_clmulepi64_epi128::<0x00>(of, by), _mm256_clmulepi64_epi128::<0x11>(of, by))
}

/// Brings the first three quarters over the last one.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq,sse4.1")]
fn join([first, second]: Block) -> __m128i {
    let [a, b, c] = [FOLDS[48], FOLDS[32], FOLDS[16]].map(|by| by.map(u64::cast_signed));
    // The last quarter is multiplied by nothing and added as it is.
    let sum = _mm256_xor_si256(
        multiply(first, _mm256_setr_epi64x(a[0], a[1], b[0], b[1])),
        multiply(second, _mm256_setr_epi64x(c[0], c[1], 0, 0)),
    );
    let halves = _mm_xor_si128(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    _mm_xor_si128(halves, _mm256_extracti128_si256::<1>(second))
}
