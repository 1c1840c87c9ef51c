//! Which lane works on which message.

use crate::ni;
use crate::padding::{BLOCK_SIZE, Block, Padded};
use crate::wide;

/// What the processor can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processor {
    ni: ni::Processor,
    wide: Option<wide::Processor>,
}

impl Processor {
    /// Nothing where the processor can't hash messages side by side.
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        Some(Self { ni: ni::Processor::detect()?, wide: wide::Processor::detect() })
    }

    /// The same without the wide lanes.
    #[cfg(test)]
    pub(crate) const fn narrow(self) -> Self {
        Self { wide: None, ..self }
    }
}

/// From so many messages on, a step of the 16 wide lanes takes less time than as many blocks in the narrow ones.
const WIDE_MIN: usize = 10;

/// A message that is to be hashed, or the rest of one.
#[derive(Clone, Copy, Debug)]
struct Task<'m> {
    message: &'m [u8],
    /// Which of the messages it is.
    number: usize,
    state: ni::State,
    /// Blocks that are in the state already.
    blocks_done: usize,
}

/// As [`crate::digest_many`].
pub(crate) fn digest_many(processor: Processor, prefix: u8, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
    let messages = &messages[..messages.len().min(digests.len())];
    match processor.wide {
        Some(wide) if messages.len() >= WIDE_MIN => {
            wide_lanes(wide, processor.ni, prefix, messages, digests);
        }
        _ => {
            let tasks = messages.iter().enumerate().map(|(number, message)| Task {
                message,
                number,
                state: ni::State::INITIAL,
                blocks_done: 0,
            });
            narrow_lanes(processor.ni, prefix, tasks, digests);
        }
    }
}

/// Hashes in the wide lanes while enough of them are busy.
fn wide_lanes(
    wide: wide::Processor,
    ni: ni::Processor,
    prefix: u8,
    messages: &[&[u8]],
    digests: &mut [[u8; 32]],
) {
    let mut waiting = messages.iter().enumerate();
    let mut lanes = wide::Lanes::new(wide, prefix);
    let mut numbers = [0; wide::LANES];
    let mut busy = 0u16;
    let mut free = u16::MAX;
    loop {
        while free != 0 {
            let Some((number, message)) = waiting.next() else {
                break;
            };
            if message.len() > wide::MESSAGE_SIZE_MAX {
                digests[number] = crate::digest(prefix, message);
                continue;
            }
            let lane = free.trailing_zeros() as usize;
            free &= free - 1;
            busy |= 1 << lane;
            lanes.begin(lane, message, messages.get(number + wide::LANES).copied().unwrap_or_default());
            numbers[lane] = number;
        }
        if (busy.count_ones() as usize) < WIDE_MIN {
            break;
        }
        let mut done = lanes.step() & busy;
        busy &= !done;
        free |= done;
        while done != 0 {
            let lane = done.trailing_zeros() as usize;
            done &= done - 1;
            let (bytes, _) = digests[numbers[lane]].as_chunks_mut();
            for (bytes, word) in bytes.iter_mut().zip(lanes.state(lane)) {
                *bytes = word.to_be_bytes();
            }
        }
    }
    let tasks = (0..wide::LANES).filter(|lane| busy >> lane & 1 == 1).map(|lane| {
        let number = numbers[lane];
        Task {
            message: messages[number],
            number,
            state: ni::State::new(lanes.state(lane)),
            blocks_done: lanes.blocks_done(lane),
        }
    });
    narrow_lanes(ni, prefix, tasks, digests);
}

/// A lane of the narrow ones.
#[derive(Clone, Debug)]
struct Lane<'m> {
    state: ni::State,
    padded: Padded<'m>,
    /// Blocks that are in the state already.
    at: usize,
    /// Which of the messages it is.
    number: usize,
}

impl<'m> Lane<'m> {
    const IDLE: Self = Self { state: ni::State::INITIAL, padded: Padded::NONE, at: 0, number: 0 };

    fn begin(&mut self, prefix: u8, task: Task<'m>) {
        self.state = task.state;
        self.padded.set(prefix, task.message);
        self.at = task.blocks_done;
        self.number = task.number;
    }
}

/// Hashes in up to four lanes.
fn narrow_lanes<'m>(
    ni: ni::Processor,
    prefix: u8,
    mut waiting: impl Iterator<Item = Task<'m>>,
    digests: &mut [[u8; 32]],
) {
    let mut lanes = [Lane::IDLE; ni::LANES];
    let mut busy = 0;
    for (lane, task) in lanes.iter_mut().zip(&mut waiting) {
        lane.begin(prefix, task);
        busy += 1;
    }
    loop {
        match busy {
            0 => break,
            1 => go_on::<1>(ni, &mut lanes),
            2 => go_on::<2>(ni, &mut lanes),
            3 => go_on::<3>(ni, &mut lanes),
            _ => go_on::<{ ni::LANES }>(ni, &mut lanes),
        }
        for i in (0..busy).rev() {
            let lane = &mut lanes[i];
            if !lane.padded.blocks_from(lane.at).is_empty() {
                continue;
            }
            digests[lane.number] = ni.digest(&lane.state);
            match waiting.next() {
                Some(task) => lane.begin(prefix, task),
                None => {
                    // The busy lanes are always the first ones.
                    busy -= 1;
                    lanes.swap(i, busy);
                }
            }
        }
    }
}

/// Goes on in the first N lanes to the end of the shortest row.
fn go_on<const N: usize>(ni: ni::Processor, lanes: &mut [Lane<'_>; ni::LANES]) {
    let Some(lanes) = lanes.first_chunk_mut::<N>() else {
        return;
    };
    let count = ni.compress(lanes.each_mut().map(|lane| (&mut lane.state, lane.padded.blocks_from(lane.at))));
    for lane in lanes {
        lane.at += count;
    }
}

/// As [`crate::digest_pairs`].
pub(crate) fn digest_pairs(processor: Processor, prefix: u8, digests: &mut [[u8; 32]]) -> usize {
    let count = digests.len() / 2;
    let mut at = 0;
    while at < count {
        at += match (count - at, processor.wide) {
            (left @ WIDE_MIN.., Some(wide)) => wide_pairs(wide, prefix, digests, at, left.min(wide::LANES)),
            (1, _) => narrow_pairs::<1>(processor.ni, prefix, digests, at),
            (2, _) => narrow_pairs::<2>(processor.ni, prefix, digests, at),
            (3, _) => narrow_pairs::<3>(processor.ni, prefix, digests, at),
            _ => narrow_pairs::<{ ni::LANES }>(processor.ni, prefix, digests, at),
        };
    }
    count
}

/// Hashes `count` pairs from number `at` on.
fn wide_pairs(wide: wide::Processor, prefix: u8, digests: &mut [[u8; 32]], at: usize, count: usize) -> usize {
    let (pairs, _) = digests.as_flattened().as_chunks::<BLOCK_SIZE>();
    let mut lanes = wide::Lanes::new(wide, prefix);
    for (lane, pair) in pairs[at..at + count].iter().enumerate() {
        lanes.begin(lane, pair, &[]);
    }
    // Prefix, pair and padding are two blocks.
    lanes.step();
    lanes.step();
    let words = lanes.words();
    for (lane, digest) in digests[at..at + count].iter_mut().enumerate() {
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(&words) {
            *bytes = word[lane].to_be_bytes();
        }
    }
    count
}

/// Hashes N pairs from number `at` on.
fn narrow_pairs<const N: usize>(ni: ni::Processor, prefix: u8, digests: &mut [[u8; 32]], at: usize) -> usize {
    let (pairs, _) = digests.as_flattened().as_chunks::<BLOCK_SIZE>();
    let mut lanes: [_; N] =
        core::array::from_fn(|lane| (ni::State::INITIAL, pair_blocks(prefix, &pairs[at + lane])));
    ni.compress(lanes.each_mut().map(|(state, blocks)| (state, blocks.as_slice())));
    for (digest, (state, _)) in digests[at..].iter_mut().zip(&lanes) {
        *digest = ni.digest(state);
    }
    N
}

/// Prefix, pair and padding.
fn pair_blocks(prefix: u8, pair: &[u8; BLOCK_SIZE]) -> [Block; 2] {
    const BIT_COUNT: [u8; 2] = ((1 + BLOCK_SIZE as u16) * 8).to_be_bytes();
    let mut blocks = [[0; BLOCK_SIZE]; 2];
    let bytes = blocks.as_flattened_mut();
    bytes[0] = prefix;
    bytes[1..=BLOCK_SIZE].copy_from_slice(pair);
    bytes[BLOCK_SIZE + 1] = 0x80;
    bytes[2 * BLOCK_SIZE - 2..].copy_from_slice(&BIT_COUNT);
    blocks
}
