//! The compression function with the SHA instructions of x86-64, for several messages side by side.
//!
//! AVX is asked for because its instructions name where the result goes: without it every other one is preceded by a copy
//! of a register, and hashing takes 6 % longer (Zen 3).
//!
//! An intrinsic may only run where the processor has it, which a [`Processor`] is the proof of, and loads and
//! stores take pointers: hence the `unsafe`.
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::x86_64::*;

use crate::constants::{INITIAL_STATE, ROUND_CONSTANTS};
use crate::padding::{BLOCK_SIZE, Padded};

/// Messages side by side at most.
pub(crate) const LANES: usize = 4;

cpufeatures::new!(features, "sha", "avx");

/// The round constants, four by four.
static K: [__m128i; 16] = {
    let (fours, _) = ROUND_CONSTANTS.as_flattened().as_chunks::<4>();
    let mut k = [words([0; 4]); 16];
    let mut i = 0;
    while i < k.len() {
        k[i] = words(fours[i]);
        i += 1;
    }
    k
};

/// The proof that the processor has the instructions that are used here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(());

impl Processor {
    /// Nothing where an instruction is missing. The processor is asked once.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }

    /// Does work that calls what is here again and again. A closure that is `#[inline(always)]` becomes one function with it,
    /// and so the lanes of one call begin while those of the call before are still ending.
    #[inline]
    pub(crate) fn as_one<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(enable = "sha,avx")]
        fn as_one<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: there is a `Processor` only if all the features are there.
        unsafe { as_one(work) }
    }

    /// Puts the blocks from number `from` on into each state, as many as the lane with the fewest left has. Gives their
    /// number.
    #[inline(always)]
    pub(crate) fn compress<const N: usize, B: Blocks>(self, lanes: [Lane<'_, B>; N]) -> usize {
        // SAFETY: there is a `Processor` only if all the features are there.
        unsafe { compress(lanes) }
    }

    /// The digest that a state comes to.
    #[inline(always)]
    pub(crate) fn digest(self, state: &State) -> [u8; 32] {
        // SAFETY: there is a `Processor` only if all the features are there.
        unsafe { digest(state) }
    }
}

/// The eight words of a message's state, in the order that the instructions want.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    abef: __m128i,
    cdgh: __m128i,
}

impl State {
    pub(crate) const INITIAL: Self = Self::new(INITIAL_STATE);

    /// The words in their usual order.
    pub(crate) const fn new([a, b, c, d, e, f, g, h]: [u32; 8]) -> Self {
        Self { abef: words([f, e, b, a]), cdgh: words([h, g, d, c]) }
    }
}

/// Blocks that are hashed one after the other.
pub(crate) trait Blocks {
    /// How many there are.
    fn count(&self) -> usize;

    /// The one with this number, which is less than [`Self::count`].
    fn load(&self, number: usize) -> [__m128i; 4];
}

impl Blocks for Padded<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count()
    }

    #[inline(always)]
    fn load(&self, number: usize) -> [__m128i; 4] {
        let (sixteens, _) = self.block(number).as_chunks();
        let mut loaded = [words([0; 4]); 4];
        for (loaded, bytes) in loaded.iter_mut().zip(sixteens) {
            *loaded = load(bytes);
        }
        loaded
    }
}

/// A prefix and two digests, as blocks: loaded as they lie, so that no load has to wait for stores of parts of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<'a> {
    pub(crate) prefix: u8,
    pub(crate) digests: &'a [u8; BLOCK_SIZE],
}

impl Blocks for Pair<'_> {
    #[inline(always)]
    fn count(&self) -> usize {
        2
    }

    #[inline(always)]
    fn load(&self, number: usize) -> [__m128i; 4] {
        const BIT_COUNT: u32 = ((1 + BLOCK_SIZE as u32) * 8).swap_bytes();
        let [.., last] = self.digests;
        let sixteen = |at: usize| self.digests[at..].first_chunk().map_or(words([0; 4]), load);
        match number {
            0 => {
                let prefix = words([u32::from(self.prefix), 0, 0, 0]);
                // SAFETY: SSE2 is part of x86-64.
                let first = unsafe { _mm_or_si128(_mm_slli_si128::<1>(sixteen(0)), prefix) };
                [first, sixteen(15), sixteen(31), sixteen(47)]
            }
            // The prefix has shifted the last byte into a block that is padding otherwise.
            _ => [
                words([0x8000 | u32::from(*last), 0, 0, 0]),
                words([0; 4]),
                words([0; 4]),
                words([0, 0, 0, BIT_COUNT]),
            ],
        }
    }
}

/// A state, and what goes into it.
#[derive(Debug)]
pub(crate) struct Lane<'a, B> {
    pub(crate) state: &'a mut State,
    pub(crate) blocks: &'a B,
    /// The number of the block that comes next.
    pub(crate) from: usize,
}

/// Four words, the lowest first.
const fn words(words: [u32; 4]) -> __m128i {
    // SAFETY: both are 16 bytes, and any bytes are a value of both.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
fn load(from: &[u8; 16]) -> __m128i {
    // SAFETY: the reference leads to 16 bytes, which need not be aligned; SSE2 is part of x86-64.
    unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
}

#[inline(always)]
fn store(to: &mut [u8; 16], value: __m128i) {
    // SAFETY: as in `load`.
    unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), value) }
}

/// The 64 rounds, four at a time, in each lane before the next four: what one lane waits for, the others use.
#[target_feature(enable = "sha,avx")]
#[inline]
fn compress<const N: usize, B: Blocks>(lanes: [Lane<'_, B>; N]) -> usize {
    let count = lanes.iter().map(|lane| lane.blocks.count() - lane.from).min().unwrap_or(0);
    let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let mut abef = [_mm_setzero_si128(); N];
    let mut cdgh = [_mm_setzero_si128(); N];
    for lane in 0..N {
        (abef[lane], cdgh[lane]) = (lanes[lane].state.abef, lanes[lane].state.cdgh);
    }
    for i in 0..count {
        let (abef_before, cdgh_before) = (abef, cdgh);
        let mut w = [[_mm_setzero_si128(); 4]; N];
        for lane in 0..N {
            let Lane { blocks, from, .. } = &lanes[lane];
            w[lane] = blocks.load(from + i).map(|words| _mm_shuffle_epi8(words, big_endian));
        }
        macro_rules! rounds {
            ($($n:literal)*) => {$(
                for lane in 0..N {
                    let w = &mut w[lane];
                    let (abef, cdgh) = (&mut abef[lane], &mut cdgh[lane]);
                    let wk = _mm_add_epi32(w[$n % 4], K[$n]);
                    *cdgh = _mm_sha256rnds2_epu32(*cdgh, *abef, wk);
                    *abef = _mm_sha256rnds2_epu32(*abef, *cdgh, _mm_shuffle_epi32::<0x0e>(wk));
                    if $n < 12 {
                        // The words of four rounds 16 rounds on take the place of these.
                        let later = _mm_alignr_epi8::<4>(w[($n + 3) % 4], w[($n + 2) % 4]);
                        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[$n % 4], w[($n + 1) % 4]), later);
                        w[$n % 4] = _mm_sha256msg2_epu32(sum, w[($n + 3) % 4]);
                    }
                }
            )*};
        }
        rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for lane in 0..N {
            abef[lane] = _mm_add_epi32(abef[lane], abef_before[lane]);
            cdgh[lane] = _mm_add_epi32(cdgh[lane], cdgh_before[lane]);
        }
    }
    for (i, lane) in lanes.into_iter().enumerate() {
        *lane.state = State { abef: abef[i], cdgh: cdgh[i] };
    }
    count
}

#[target_feature(enable = "sha,avx")]
#[inline]
fn digest(state: &State) -> [u8; 32] {
    let reversed = _mm_set_epi64x(0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f);
    // D C B A and H G F E from the lowest word up; a digest is the words from A on, each with its highest byte first.
    let abcd = _mm_shuffle_epi8(_mm_unpackhi_epi64(state.cdgh, state.abef), reversed);
    let efgh = _mm_shuffle_epi8(_mm_unpacklo_epi64(state.cdgh, state.abef), reversed);
    let mut digest = [0; 32];
    for (half, to) in [abcd, efgh].into_iter().zip(digest.as_chunks_mut().0) {
        store(to, half);
    }
    digest
}
