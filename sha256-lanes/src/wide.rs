//! Sixteen messages side by side in the 512-bit registers of AVX-512: each holds one word of every message.
//!
//! No message is copied. A block is loaded from where its message lies, byte by byte as the mask says; prefix and
//! padding are put into the register. For the `unsafe` the same holds as in [`crate::ni`].
#![allow(unsafe_code, reason = "intrinsics")]

use core::arch::x86_64::*;

use crate::constants::{INITIAL_STATE, ROUND_CONSTANTS};

cpufeatures::new!(features, "avx512f", "avx512bw");

/// Messages side by side.
pub(crate) const LANES: usize = 16;
/// Bytes of the largest message: its length in bits, the prefix included, fills 32 bits.
pub(crate) const MESSAGE_SIZE_MAX: usize = (u32::MAX / 8 - 1) as usize;
const BLOCK_SIZE: i64 = 64;
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

/// The lanes. A lane is idle, or it has a message of which some blocks are hashed.
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
            fresh: 0,
            prefix,
        }
    }

    /// Gives a lane a message, of at most [`MESSAGE_SIZE_MAX`] bytes. Another that comes later is fetched to the processor's
    /// cache meanwhile: sixteen rows of reading are more than it foresees by itself.
    #[inline]
    pub(crate) fn begin(&mut self, lane: usize, message: &'m [u8], next: &'m [u8]) {
        let size = 1 + message.len();
        self.messages[lane] = message;
        self.next[lane] = next;
        self.left[lane] = size as i64;
        self.bit_counts[lane] = size as u32 * 8;
        self.fresh |= 1 << lane;
    }

    /// Hashes the next block of each lane. Gives the lanes whose message is through; idle lanes are among them.
    #[inline]
    pub(crate) fn step(&mut self) -> u16 {
        // SAFETY: `self.processor` is the proof that all the features are there.
        unsafe { step(self) }
    }

    /// Blocks of a lane's message that are hashed.
    pub(crate) fn blocks_done(&self, lane: usize) -> usize {
        (((1 + self.messages[lane].len()) as i64 - self.left[lane]) / BLOCK_SIZE) as usize
    }

    /// Word by word, the states of all lanes.
    pub(crate) fn words(&self) -> [[u32; LANES]; 8] {
        self.words
    }

    /// A lane's state.
    #[inline]
    pub(crate) fn state(&self, lane: usize) -> [u32; 8] {
        // A step puts the initial state in place.
        let is_fresh = self.fresh >> lane & 1 == 1;
        if is_fresh { INITIAL_STATE } else { self.words.map(|word| word[lane]) }
    }
}

/// Loads the next block of each lane, without the size at a last one's end. Gives the lanes with a last one too.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load_blocks(lanes: &Lanes<'_>) -> ([__m512i; LANES], u16) {
    // Of each block, which bytes are the message's and which one is behind its end: bits of a mask.
    let mut bytes = [[0u64; LANES / 2]; 2];
    let mut end = [[0u64; LANES / 2]; 2];
    let mut last = 0;
    let (halves, _) = lanes.left.as_chunks::<{ LANES / 2 }>();
    for (half, left) in halves.iter().enumerate() {
        let left = load(left);
        let first = (lanes.fresh >> (half * LANES / 2)) as __mmask8;
        let all = _mm512_mask_mov_epi64(_mm512_set1_epi64(-1), first, _mm512_set1_epi64(-2));
        let room =
            _mm512_max_epi64(_mm512_sub_epi64(_mm512_set1_epi64(BLOCK_SIZE), left), _mm512_setzero_si512());
        // A shift by 64 or more leaves nothing. As such counts one by less than 0, too.
        let shown = _mm512_srlv_epi64(_mm512_set1_epi64(-1), room);
        store(&mut bytes[half], _mm512_and_si512(all, shown));
        store(&mut end[half], _mm512_sllv_epi64(_mm512_set1_epi64(1), left));
        let is_last = _mm512_cmple_epi64_mask(left, _mm512_set1_epi64(LAST_SIZE_MAX));
        last |= u16::from(is_last) << (half * LANES / 2);
    }
    let (bytes, end) = (bytes.as_flattened(), end.as_flattened());

    let prefix = _mm512_set1_epi8(lanes.prefix.cast_signed());
    let mark = _mm512_set1_epi8(0x80u8.cast_signed());
    let mut rows = [_mm512_setzero_si512(); LANES];
    for lane in 0..LANES {
        let message = lanes.messages[lane];
        // The block begins a byte before its part of the message; the first one's first byte is the prefix.
        let start = message.as_ptr().wrapping_offset(message.len() as isize - lanes.left[lane] as isize);
        let next = lanes.next[lane];
        let at = message.len() as i64 - lanes.left[lane] + 1;
        if at < next.len() as i64 {
            _mm_prefetch::<_MM_HINT_T0>(next.as_ptr().wrapping_offset(at as isize).cast());
        }
        // Where nothing is read the address doesn't matter, but one that is not mapped costs time.
        let start = if bytes[lane] == 0 { ROUND_CONSTANTS.as_ptr().cast() } else { start };
        // SAFETY: only bytes that the mask names are read, and these are the message's. The block's first byte is
        // number `message.len() - left` of the message, which is -1 for the first block, and left out there; of
        // those from there on the mask names `left` at most.
        let block = unsafe { _mm512_maskz_loadu_epi8(bytes[lane], start.cast()) };
        let block = _mm512_mask_mov_epi8(block, u64::from(lanes.fresh >> lane & 1), prefix);
        rows[lane] = _mm512_mask_mov_epi8(block, end[lane], mark);
    }
    (rows, last)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn step(lanes: &mut Lanes<'_>) -> u16 {
    let (rows, done) = load_blocks(lanes);
    for left in &mut lanes.left {
        *left -= BLOCK_SIZE;
    }
    let mut w = transpose(rows);
    let big_endian = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    for word in &mut w {
        *word = _mm512_shuffle_epi8(*word, big_endian);
    }
    w[15] = _mm512_mask_or_epi32(w[15], done, w[15], load(&lanes.bit_counts));

    let mut before = [_mm512_setzero_si512(); 8];
    for i in 0..8 {
        let initial = _mm512_set1_epi32(INITIAL_STATE[i].cast_signed());
        before[i] = _mm512_mask_mov_epi32(load(&lanes.words[i]), lanes.fresh, initial);
    }
    lanes.fresh = 0;
    let after = rounds(before, w);
    for i in 0..8 {
        store(&mut lanes.words[i], _mm512_add_epi32(before[i], after[i]));
    }
    done
}

/// The 64 rounds.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn rounds(state: [__m512i; 8], mut w: [__m512i; 16]) -> [__m512i; 8] {
    /// The truth tables of the three functions of three bits.
    const XOR: i32 = 0x96;
    const CHOOSE: i32 = 0xca;
    const MAJORITY: i32 = 0xe8;
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    macro_rules! add {
        ($x:expr $(, $y:expr)*) => { { let sum = $x; $(let sum = _mm512_add_epi32(sum, $y);)* sum } };
    }
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $n:literal $k:expr) => {
            let sum1 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<6>($e),
                _mm512_ror_epi32::<11>($e),
                _mm512_ror_epi32::<25>($e),
            );
            let sum0 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<2>($a),
                _mm512_ror_epi32::<13>($a),
                _mm512_ror_epi32::<22>($a),
            );
            let choice = _mm512_ternarylogic_epi32::<CHOOSE>($e, $f, $g);
            let majority = _mm512_ternarylogic_epi32::<MAJORITY>($a, $b, $c);
            let k = _mm512_set1_epi32($k[$n].cast_signed());
            let first = add!(add!($h, add!(w[$n], k)), choice, sum1);
            $d = add!($d, first);
            $h = add!(first, add!(sum0, majority));
        };
    }
    // A word makes room for the one 16 rounds on when it is that one's turn.
    macro_rules! later_round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident $n:literal $k:expr) => {
            let (w1, w9, w14) = (w[($n + 1) % 16], w[($n + 9) % 16], w[($n + 14) % 16]);
            let sigma0 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<7>(w1),
                _mm512_ror_epi32::<18>(w1),
                _mm512_srli_epi32::<3>(w1),
            );
            let sigma1 = _mm512_ternarylogic_epi32::<XOR>(
                _mm512_ror_epi32::<17>(w14),
                _mm512_ror_epi32::<19>(w14),
                _mm512_srli_epi32::<10>(w14),
            );
            w[$n] = add!(add!(w[$n], w9), add!(sigma0, sigma1));
            round!($a $b $c $d $e $f $g $h $n $k);
        };
    }
    macro_rules! sixteen {
        ($each:ident $k:expr) => {
            $each!(a b c d e f g h 0 $k);
            $each!(h a b c d e f g 1 $k);
            $each!(g h a b c d e f 2 $k);
            $each!(f g h a b c d e 3 $k);
            $each!(e f g h a b c d 4 $k);
            $each!(d e f g h a b c 5 $k);
            $each!(c d e f g h a b 6 $k);
            $each!(b c d e f g h a 7 $k);
            $each!(a b c d e f g h 8 $k);
            $each!(h a b c d e f g 9 $k);
            $each!(g h a b c d e f 10 $k);
            $each!(f g h a b c d e 11 $k);
            $each!(e f g h a b c d 12 $k);
            $each!(d e f g h a b c 13 $k);
            $each!(c d e f g h a b 14 $k);
            $each!(b c d e f g h a 15 $k);
        };
    }
    let [k, later_k @ ..] = &ROUND_CONSTANTS;
    sixteen!(round k);
    for k in later_k {
        sixteen!(later_round k);
    }
    [a, b, c, d, e, f, g, h]
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
