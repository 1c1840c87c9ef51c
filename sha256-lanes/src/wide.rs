//! Groups of sixteen messages side by side in the 512-bit registers of AVX-512: each holds one word of every message.
//!
//! A block is loaded from where its message lies. Only the first and the last ones, which have the prefix or padding,
//! are put together aside. For the `unsafe` the same holds as in [`crate::ni`].
//!
//! Sixteen messages wait for themselves too: of a round's operations each takes two cycles on an AMD Zen 5, four of them
//! stand in a row, and there are only thirty to be done at four a cycle. So two groups go through the rounds together.
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::asm;
use core::arch::x86_64::*;

use crate::constants::{INITIAL_STATE, ROUND_CONSTANTS};
use crate::padding::{self, Block};

cpufeatures::new!(features, "avx512f", "avx512bw");

/// Messages side by side.
pub(crate) const LANES: usize = 16;
/// Bytes of the largest message: its length in bits, the prefix included, fills 32 bits.
pub(crate) const MESSAGE_SIZE_MAX: usize = (u32::MAX / 8 - 1) as usize;
const BLOCK_SIZE: i64 = padding::BLOCK_SIZE as i64;
/// Bytes of a block that the message's end may take where the block is the last one.
const LAST_SIZE_MAX: i64 = 55;

/// The proof that the processor has the instructions that are used here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor(());

impl Processor {
    /// Nothing where an instruction is missing. The processor is asked once.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        features::get().then_some(Self(()))
    }
}

/// A group of lanes. A lane is idle, or it has a message of which some blocks are hashed.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Lanes<'m> {
    processor: Processor,
    /// Word by word, the states of all lanes.
    words: [[u32; LANES]; 8],
    /// The messages' sizes in bits.
    bit_counts: [u32; LANES],
    messages: [&'m [u8]; LANES],
    /// Messages that are fetched to the cache while these are hashed.
    next: [&'m [u8]; LANES],
    /// Bytes of prefix and message from the next block on. Below 0 where the last block only has padding.
    left: [i64; LANES],
    /// Word by word, the blocks of all lanes, and in their place what becomes of them from round to round.
    schedule: [[u32; LANES]; 16],
    /// Blocks that are not as they stand in the message.
    staged: [Block; LANES],
    /// Lanes whose next block is the first one.
    fresh: u16,
    prefix: u8,
}

impl<'m> Lanes<'m> {
    pub(crate) const fn new(processor: Processor, prefix: u8) -> Self {
        Self {
            processor,
            words: [[0; LANES]; 8],
            bit_counts: [0; LANES],
            messages: [&[]; LANES],
            next: [&[]; LANES],
            left: [0; LANES],
            schedule: [[0; LANES]; 16],
            staged: [[0; padding::BLOCK_SIZE]; LANES],
            fresh: 0,
            prefix,
        }
    }

    /// Gives a lane a message, of at most [`MESSAGE_SIZE_MAX`] bytes. Another that comes later is fetched to the processor's
    /// cache meanwhile: so many rows of reading are more than it foresees by itself.
    #[inline]
    pub(crate) fn begin(&mut self, lane: usize, message: &'m [u8], next: &'m [u8]) {
        let size = 1 + message.len();
        self.messages[lane] = message;
        self.next[lane] = next;
        self.left[lane] = size as i64;
        self.bit_counts[lane] = size as u32 * 8;
        self.fresh |= 1 << lane;
    }

    /// Hashes the next block of each lane of each group. Gives the lanes whose message is through; idle lanes are among them.
    #[inline]
    pub(crate) fn step<const GROUPS: usize>(groups: [&mut Self; GROUPS]) -> [u16; GROUPS] {
        // SAFETY: each has a `Processor`, the proof that all the features are there.
        unsafe { step(groups) }
    }

    /// Replaces pairs of neighbours, `count` of them from number `at` on, by their digests. They are as many as the groups
    /// have lanes at most; what the lanes had before is lost.
    #[inline]
    pub(crate) fn hash_pairs<const GROUPS: usize>(
        groups: [&mut Self; GROUPS],
        digests: &mut [[u8; 32]],
        at: usize,
        count: usize,
    ) {
        // SAFETY: as in `step`.
        unsafe { hash_pairs(groups, digests, at, count) }
    }

    /// Blocks of a lane's message that are hashed.
    pub(crate) fn blocks_done(&self, lane: usize) -> usize {
        (((1 + self.messages[lane].len()) as i64 - self.left[lane]) / BLOCK_SIZE) as usize
    }

    /// A lane's state.
    #[inline]
    pub(crate) fn state(&self, lane: usize) -> [u32; 8] {
        // A step puts the initial state in place.
        let is_fresh = self.fresh >> lane & 1 == 1;
        if is_fresh { INITIAL_STATE } else { self.words.map(|word| word[lane]) }
    }
}

/// Takes the next block of each lane into the schedule. Gives the lanes for which it is the last one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn take_blocks(lanes: &mut Lanes<'_>) -> u16 {
    let block_size = _mm512_set1_epi64(BLOCK_SIZE);
    // The lanes whose block has something besides bytes of the message, and those whose block is the last one.
    let mut special = lanes.fresh;
    let mut last = 0;
    for half in 0..2 {
        let left = &mut lanes.left.as_chunks_mut::<{ LANES / 2 }>().0[half];
        let now = load(left);
        store(left, _mm512_sub_epi64(now, block_size));
        special |= u16::from(_mm512_cmplt_epi64_mask(now, block_size)) << (half * LANES / 2);
        let is_last = _mm512_cmple_epi64_mask(now, _mm512_set1_epi64(LAST_SIZE_MAX));
        last |= u16::from(is_last) << (half * LANES / 2);
    }
    let mut rows = [core::ptr::null::<u8>(); LANES];
    for (lane, row) in rows.iter_mut().enumerate() {
        // The block begins a byte before its part of the message; the first one's first byte is the prefix.
        let message = lanes.messages[lane];
        let at = message.len() as isize - (lanes.left[lane] + BLOCK_SIZE) as isize;
        *row = message.as_ptr().wrapping_offset(at);
        _mm_prefetch::<_MM_HINT_T0>(lanes.next[lane].as_ptr().wrapping_offset(at).cast());
    }
    while special != 0 {
        let lane = special.trailing_zeros() as usize;
        special &= special - 1;
        let block = special_block(lanes, lane, rows[lane]);
        store(&mut lanes.staged[lane], block);
        rows[lane] = lanes.staged[lane].as_ptr();
    }
    let mut blocks = [_mm512_setzero_si512(); LANES];
    for (block, row) in blocks.iter_mut().zip(rows) {
        // SAFETY: what is not staged is a whole block of the message.
        *block = unsafe { _mm512_loadu_si512(row.cast()) };
    }
    let columns = transpose(blocks);
    for (schedule, column) in lanes.schedule.iter_mut().zip(columns) {
        store(schedule, big_endian(column));
    }
    let size = _mm512_mask_mov_epi32(load(&lanes.schedule[15]), last, load(&lanes.bit_counts));
    store(&mut lanes.schedule[15], size);
    last
}

/// A lane's block that has the prefix, or a part of the padding, or both, without the size at a last one's end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn special_block(lanes: &Lanes<'_>, lane: usize, start: *const u8) -> __m512i {
    let left = lanes.left[lane] + BLOCK_SIZE;
    let first = u64::from(lanes.fresh >> lane & 1);
    // Which bytes are the message's, and which one is behind its end: bits of a mask.
    let (shown, end) = match left {
        BLOCK_SIZE.. => (u64::MAX, 0),
        0.. => ((1 << left) - 1, 1 << left),
        _ => (0, 0),
    };
    let bytes = shown & !first;
    // Where nothing is read the address doesn't matter, but one that is not mapped costs time.
    let start = if bytes == 0 { ROUND_CONSTANTS.as_ptr().cast() } else { start };
    // SAFETY: only bytes that the mask names are read, and these are the message's. The block's first byte is
    // number `message.len() - left` of the message, which is -1 for the first block, and left out there; of
    // those from there on the mask names `left` at most.
    let block = unsafe { _mm512_maskz_loadu_epi8(bytes, start.cast()) };
    let block = _mm512_mask_mov_epi8(block, first, _mm512_set1_epi8(lanes.prefix.cast_signed()));
    _mm512_mask_mov_epi8(block, end, _mm512_set1_epi8(0x80u8.cast_signed()))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn hash_pairs<const GROUPS: usize>(
    mut groups: [&mut Lanes<'_>; GROUPS],
    digests: &mut [[u8; 32]],
    at: usize,
    count: usize,
) {
    let (pairs, _) = digests.as_flattened().as_chunks::<{ padding::BLOCK_SIZE }>();
    let pairs = &pairs[at..at + count];
    let mut ends = [_mm512_setzero_si512(); GROUPS];
    for (group, (lanes, end)) in groups.iter_mut().zip(&mut ends).enumerate() {
        let mut rows = [_mm512_setzero_si512(); LANES];
        for (row, pair) in rows.iter_mut().zip(pairs.iter().skip(group * LANES)) {
            *row = load(pair);
        }
        // The prefix shifts a pair against the block by a byte: the last one is in a second block, with the padding.
        *end = _mm512_set1_epi32(i32::from(lanes.prefix));
        for (schedule, column) in lanes.schedule.iter_mut().zip(transpose(rows)) {
            let word = big_endian(column);
            let shifted = _mm512_or_si512(_mm512_slli_epi32::<24>(*end), _mm512_srli_epi32::<8>(word));
            store(schedule, shifted);
            *end = word;
        }
        lanes.fresh = u16::MAX;
    }
    rounds(&mut groups);
    for (lanes, end) in groups.iter_mut().zip(ends) {
        let last = _mm512_or_si512(_mm512_slli_epi32::<24>(end), _mm512_set1_epi32(0x80 << 16));
        lanes.schedule = [[0; LANES]; 16];
        store(&mut lanes.schedule[0], last);
        lanes.schedule[15] = [(1 + padding::BLOCK_SIZE as u32) * 8; LANES];
    }
    rounds(&mut groups);
    for (group, lanes) in groups.iter().enumerate() {
        let mut columns = [_mm512_setzero_si512(); 16];
        for (column, words) in columns.iter_mut().zip(&lanes.words) {
            *column = big_endian(load(words));
        }
        let digests = digests[at..at + count].iter_mut().skip(group * LANES);
        for (digest, row) in digests.zip(transpose(columns)) {
            let mut bytes: Block = [0; padding::BLOCK_SIZE];
            store(&mut bytes, row);
            digest.copy_from_slice(&bytes[..32]);
        }
    }
}

/// Words whose bytes are turned round.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn big_endian(words: __m512i) -> __m512i {
    _mm512_shuffle_epi8(words, _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn step<const GROUPS: usize>(mut groups: [&mut Lanes<'_>; GROUPS]) -> [u16; GROUPS] {
    let mut done = [0; GROUPS];
    for (lanes, done) in groups.iter_mut().zip(&mut done) {
        *done = take_blocks(lanes);
    }
    rounds(&mut groups);
    done
}

/// A word of the states that the lanes' blocks are put into.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn before(lanes: &Lanes<'_>, i: usize) -> __m512i {
    let initial = _mm512_set1_epi32(INITIAL_STATE[i].cast_signed());
    _mm512_mask_mov_epi32(load(&lanes.words[i]), lanes.fresh, initial)
}

/// The 64 rounds, one in each group before the next one: what one group waits for, the other uses.
///
/// They are written as instructions because compilers change the order of additions, and that decides how long a round waits
/// for the one before: here all that is known early is added up before what `e` and `a` make comes to it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds<const GROUPS: usize>(groups: &mut [&mut Lanes<'_>; GROUPS]) {
    let mut states = [[_mm512_setzero_si512(); 8]; GROUPS];
    for (state, lanes) in states.iter_mut().zip(&*groups) {
        for (i, word) in state.iter_mut().enumerate() {
            *word = before(lanes, i);
        }
    }
    // 0x96, 0xca and 0xe8 are the truth tables of three bits' sum, of choice and of majority.
    macro_rules! round {
        ($n:literal $k:expr, $words:expr) => {
            for (state, word) in states.iter_mut().zip($words) {
                // Round n of each 16 finds its variable a where the one before had its h.
                const fn at(variable: usize) -> usize {
                    (variable + 16 - $n) % 8
                }
                let (mut d, mut h) = (state[at(3)], state[at(7)]);
                // SAFETY: the function has the features that the instructions need, and only registers that are named
                // as outputs are changed.
                unsafe {
                    asm!(
                        "vpaddd {h}, {h}, {w}",
                        "vpaddd {h}, {h}, {k}",
                        "vmovdqa64 {x}, {e}",
                        "vpternlogd {x}, {f}, {g}, 0xca",
                        "vpaddd {h}, {h}, {x}",
                        "vprord {x}, {e}, 6",
                        "vprord {y}, {e}, 11",
                        "vprord {z}, {e}, 25",
                        "vpternlogd {z}, {y}, {x}, 0x96",
                        "vpaddd {h}, {h}, {z}",
                        "vpaddd {d}, {d}, {h}",
                        "vmovdqa64 {x}, {a}",
                        "vpternlogd {x}, {b}, {c}, 0xe8",
                        "vprord {y}, {a}, 2",
                        "vprord {z}, {a}, 13",
                        "vprord {v}, {a}, 22",
                        "vpternlogd {v}, {y}, {z}, 0x96",
                        "vpaddd {v}, {v}, {x}",
                        "vpaddd {h}, {h}, {v}",
                        a = in(zmm_reg) state[at(0)],
                        b = in(zmm_reg) state[at(1)],
                        c = in(zmm_reg) state[at(2)],
                        d = inout(zmm_reg) d,
                        e = in(zmm_reg) state[at(4)],
                        f = in(zmm_reg) state[at(5)],
                        g = in(zmm_reg) state[at(6)],
                        h = inout(zmm_reg) h,
                        v = out(zmm_reg) _,
                        x = out(zmm_reg) _,
                        y = out(zmm_reg) _,
                        z = out(zmm_reg) _,
                        w = in(zmm_reg) word,
                        k = in(zmm_reg) _mm512_set1_epi32($k[$n].cast_signed()),
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                (state[at(3)], state[at(7)]) = (d, h);
            }
        };
    }
    let mut latest = [[_mm512_setzero_si512(); 2]; GROUPS];
    macro_rules! first_round {
        ($n:literal $k:expr) => {
            for (lanes, latest) in groups.iter().zip(&mut latest) {
                latest[$n % 2] = load(&lanes.schedule[$n]);
            }
            round!($n $k, latest.map(|latest| latest[$n % 2]));
        };
    }
    // A word makes room for the one 16 rounds on when it is that one's turn.
    macro_rules! later_round {
        ($n:literal $k:expr) => {
            for (lanes, latest) in groups.iter_mut().zip(&mut latest) {
                let word: __m512i;
                // SAFETY: as above.
                unsafe {
                    asm!(
                        "vprord {x}, {w1}, 7",
                        "vprord {y}, {w1}, 18",
                        "vpsrld {v}, {w1}, 3",
                        "vpternlogd {v}, {x}, {y}, 0x96",
                        "vpaddd {v}, {v}, {w0}",
                        "vpaddd {v}, {v}, {w9}",
                        "vprord {x}, {w14}, 17",
                        "vprord {y}, {w14}, 19",
                        "vpsrld {z}, {w14}, 10",
                        "vpternlogd {z}, {x}, {y}, 0x96",
                        "vpaddd {v}, {v}, {z}",
                        w0 = in(zmm_reg) load(&lanes.schedule[$n]),
                        w1 = in(zmm_reg) load(&lanes.schedule[($n + 1) % 16]),
                        w9 = in(zmm_reg) load(&lanes.schedule[($n + 9) % 16]),
                        w14 = in(zmm_reg) latest[$n % 2],
                        v = out(zmm_reg) word,
                        x = out(zmm_reg) _,
                        y = out(zmm_reg) _,
                        z = out(zmm_reg) _,
                        options(pure, nomem, nostack, preserves_flags),
                    );
                }
                store(&mut lanes.schedule[$n], word);
                latest[$n % 2] = word;
            }
            round!($n $k, latest.map(|latest| latest[$n % 2]));
        };
    }
    macro_rules! sixteen {
        ($each:ident $k:expr; $($n:literal)*) => {
            $($each!($n $k);)*
        };
    }
    let [k, later_k @ ..] = &ROUND_CONSTANTS;
    sixteen!(first_round k; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    for k in later_k {
        sixteen!(later_round k; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }
    for (after, lanes) in states.iter().zip(groups) {
        for (i, after) in after.iter().enumerate() {
            let sum = _mm512_add_epi32(before(lanes, i), *after);
            store(&mut lanes.words[i], sum);
        }
        lanes.fresh = 0;
    }
}

/// Turns 16 rows of 16 words into 16 columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn transpose(r: [__m512i; 16]) -> [__m512i; 16] {
    let mut s = r;
    // Within each quarter of a register, pairs of words, then pairs of pairs.
    for i in (0..16).step_by(2) {
        s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    let mut t = s;
    for i in (0..16).step_by(4) {
        t[i] = _mm512_unpacklo_epi64(s[i], s[i + 2]);
        t[i + 1] = _mm512_unpackhi_epi64(s[i], s[i + 2]);
        t[i + 2] = _mm512_unpacklo_epi64(s[i + 1], s[i + 3]);
        t[i + 3] = _mm512_unpackhi_epi64(s[i + 1], s[i + 3]);
    }
    // t[4 j + i] has, in quarter q, word 4 q + i of the messages 4 j to 4 j + 3: now the quarters.
    let mut columns = t;
    for i in 0..4 {
        let low01 = _mm512_shuffle_i32x4::<0x44>(t[i], t[4 + i]);
        let high01 = _mm512_shuffle_i32x4::<0xee>(t[i], t[4 + i]);
        let low23 = _mm512_shuffle_i32x4::<0x44>(t[8 + i], t[12 + i]);
        let high23 = _mm512_shuffle_i32x4::<0xee>(t[8 + i], t[12 + i]);
        columns[i] = _mm512_shuffle_i32x4::<0x88>(low01, low23);
        columns[4 + i] = _mm512_shuffle_i32x4::<0xdd>(low01, low23);
        columns[8 + i] = _mm512_shuffle_i32x4::<0x88>(high01, high23);
        columns[12 + i] = _mm512_shuffle_i32x4::<0xdd>(high01, high23);
    }
    columns
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load<T: Integer, const N: usize>(from: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: the reference leads to 64 bytes of integers.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn store<T: Integer, const N: usize>(to: &mut [T; N], value: __m512i) {
    const { assert!(size_of::<[T; N]>() == 64) };
    // SAFETY: the reference leads to 64 bytes of integers, which may have any value.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), value) }
}

/// What a register may be loaded from and stored to.
trait Integer: Copy {}
impl Integer for u32 {}
impl Integer for u64 {}
impl Integer for i64 {}
impl Integer for u8 {}
