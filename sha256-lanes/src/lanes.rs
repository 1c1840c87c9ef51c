//! Which lane works on which message.

use crate::ni;
use crate::padding::{BLOCK_SIZE, Padded};
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

/// From so many messages on, a step of 16 wide lanes takes less time than as many blocks in the narrow ones.
const WIDE_MIN: usize = 11;
/// Groups of wide lanes.
const GROUPS: usize = 2;

/// Whether a step of two groups pays, of which the one has so many messages and the other no more than that: it takes half as
/// long again as one group's.
const fn both_pay(more: usize, fewer: usize) -> bool {
    fewer >= more.div_ceil(2) && more + fewer > wide::LANES
}

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

/// Sixteen wide lanes and what they are at.
#[derive(Debug)]
struct Group<'m> {
    lanes: wide::Lanes<'m>,
    /// Which of the messages each lane has.
    numbers: [usize; wide::LANES],
    busy: u16,
}

impl<'m> Group<'m> {
    const fn new(wide: wide::Processor, prefix: u8) -> Self {
        Self { lanes: wide::Lanes::new(wide, prefix), numbers: [0; wide::LANES], busy: 0 }
    }

    const fn busy_count(&self) -> usize {
        self.busy.count_ones() as usize
    }

    /// Gives idle lanes messages. What is too long for them is hashed at once.
    #[inline]
    fn fill(
        &mut self,
        prefix: u8,
        messages: &[&'m [u8]],
        waiting: &mut impl Iterator<Item = (usize, &'m [u8])>,
        digests: &mut [[u8; 32]],
    ) {
        while self.busy != u16::MAX {
            let Some((number, message)) = waiting.next() else {
                break;
            };
            if message.len() > wide::MESSAGE_SIZE_MAX {
                digests[number] = crate::digest(prefix, message);
                continue;
            }
            let lane = self.busy.trailing_ones() as usize;
            self.busy |= 1 << lane;
            let next = messages.get(number + GROUPS * wide::LANES).copied().unwrap_or(message);
            self.lanes.begin(lane, message, next);
            self.numbers[lane] = number;
        }
    }

    /// Takes the digests of those lanes whose message is through.
    #[inline]
    fn take(&mut self, done: u16, digests: &mut [[u8; 32]]) {
        let mut done = done & self.busy;
        self.busy &= !done;
        while done != 0 {
            let lane = done.trailing_zeros() as usize;
            done &= done - 1;
            let (bytes, _) = digests[self.numbers[lane]].as_chunks_mut();
            for (bytes, word) in bytes.iter_mut().zip(self.lanes.state(lane)) {
                *bytes = word.to_be_bytes();
            }
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
    let mut waiting = messages.iter().copied().enumerate();
    let mut groups = [Group::new(wide, prefix), Group::new(wide, prefix)];
    loop {
        for group in &mut groups {
            group.fill(prefix, messages, &mut waiting, digests);
        }
        let [mut more, mut fewer] = groups.each_mut();
        if more.busy_count() < fewer.busy_count() {
            core::mem::swap(&mut more, &mut fewer);
        }
        if both_pay(more.busy_count(), fewer.busy_count()) {
            let done = wide::Lanes::step([&mut more.lanes, &mut fewer.lanes]);
            more.take(done[0], digests);
            fewer.take(done[1], digests);
        } else if more.busy_count() >= WIDE_MIN {
            let [done] = wide::Lanes::step([&mut more.lanes]);
            more.take(done, digests);
        } else {
            break;
        }
    }
    let tasks = groups.iter().flat_map(|group| {
        (0..wide::LANES).filter(|lane| group.busy >> lane & 1 == 1).map(|lane| {
            let number = group.numbers[lane];
            Task {
                message: messages[number],
                number,
                state: ni::State::new(group.lanes.state(lane)),
                blocks_done: group.lanes.blocks_done(lane),
            }
        })
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
    ni.as_one(
        #[inline(always)]
        || loop {
            match busy {
                0 => break,
                1 => go_on::<1>(ni, &mut lanes),
                2 => go_on::<2>(ni, &mut lanes),
                3 => go_on::<3>(ni, &mut lanes),
                _ => go_on::<{ ni::LANES }>(ni, &mut lanes),
            }
            for i in (0..busy).rev() {
                let lane = &mut lanes[i];
                if lane.at < lane.padded.count() {
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
        },
    );
}

/// Goes on in the first N lanes to the end of the message that has the fewest blocks left.
#[inline(always)]
fn go_on<const N: usize>(ni: ni::Processor, lanes: &mut [Lane<'_>; ni::LANES]) {
    let Some(lanes) = lanes.first_chunk_mut::<N>() else {
        return;
    };
    let count = ni.compress(lanes.each_mut().map(|Lane { state, padded, at, .. }| ni::Lane {
        state,
        blocks: &*padded,
        from: *at,
    }));
    for lane in lanes {
        lane.at += count;
    }
}

/// As [`crate::digest_pairs`].
pub(crate) fn digest_pairs(processor: Processor, prefix: u8, digests: &mut [[u8; 32]]) -> usize {
    let count = digests.len() / 2;
    let mut at = match processor.wide {
        Some(wide) if count >= WIDE_MIN => wide_pairs(wide, prefix, digests, count),
        _ => 0,
    };
    processor.ni.as_one(
        #[inline(always)]
        || {
            while at < count {
                at += match count - at {
                    1 => narrow_pairs::<1>(processor.ni, prefix, digests, at),
                    2 => narrow_pairs::<2>(processor.ni, prefix, digests, at),
                    3 => narrow_pairs::<3>(processor.ni, prefix, digests, at),
                    _ => narrow_pairs::<{ ni::LANES }>(processor.ni, prefix, digests, at),
                };
            }
        },
    );
    count
}

/// Hashes pairs while they are enough for the wide lanes. Gives the number of those that are hashed.
fn wide_pairs(wide: wide::Processor, prefix: u8, digests: &mut [[u8; 32]], count: usize) -> usize {
    let mut lanes = wide::Lanes::new(wide, prefix);
    let mut more_lanes = wide::Lanes::new(wide, prefix);
    let mut at = 0;
    while count - at >= WIDE_MIN {
        let left = count - at;
        let few = left.min(wide::LANES);
        let many = left.min(GROUPS * wide::LANES);
        at += if both_pay(few, many - few) {
            wide::Lanes::hash_pairs([&mut lanes, &mut more_lanes], digests, at, many);
            many
        } else {
            wide::Lanes::hash_pairs([&mut lanes], digests, at, few);
            few
        };
    }
    at
}

/// Hashes N pairs from number `at` on.
#[inline(always)]
fn narrow_pairs<const N: usize>(ni: ni::Processor, prefix: u8, digests: &mut [[u8; 32]], at: usize) -> usize {
    let (pairs, _) = digests.as_flattened().as_chunks::<BLOCK_SIZE>();
    let pairs: [_; N] = core::array::from_fn(|lane| ni::Pair { prefix, digests: &pairs[at + lane] });
    let mut states = [ni::State::INITIAL; N];
    let mut next = 0;
    ni.compress(states.each_mut().map(|state| {
        let blocks = &pairs[next];
        next += 1;
        ni::Lane { state, blocks, from: 0 }
    }));
    for (digest, state) in digests[at..].iter_mut().zip(&states) {
        *digest = ni.digest(state);
    }
    N
}
