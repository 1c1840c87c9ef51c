//! A message as the row of blocks that the compression function takes.

/// Bytes of a block.
pub(crate) const BLOCK_SIZE: usize = 64;
/// What the compression function takes at a time.
pub(crate) type Block = [u8; BLOCK_SIZE];

/// Bytes of the message's length at the end of the last block.
const LENGTH_SIZE: usize = 8;
/// Blocks that hold padding at most.
const LAST_COUNT_MAX: usize = 2;
/// Bytes of the last blocks, with room in front of them for what is copied along with a message's end.
const STAGE_SIZE: usize = (1 + LAST_COUNT_MAX) * BLOCK_SIZE;

/// Prefix, message and padding, as blocks: the first one, those of `middle`, the last ones.
///
/// The prefix shifts the message against the blocks by a byte. So the first block is put together apart, and so
/// are the last one or two, which hold the padding; those between are where they are, at an odd address.
#[derive(Clone, Debug)]
pub(crate) struct Padded<'m> {
    first: Block,
    middle: &'m [Block],
    /// A block's room, and the last blocks.
    stage: [u8; STAGE_SIZE],
    /// All of them.
    count: usize,
}

impl<'m> Padded<'m> {
    /// No blocks at all.
    pub(crate) const NONE: Self =
        Self { first: [0; BLOCK_SIZE], middle: &[], stage: [0; STAGE_SIZE], count: 0 };

    #[inline]
    pub(crate) fn new(prefix: u8, message: &'m [u8]) -> Self {
        let mut padded = Self::NONE;
        padded.set(prefix, message);
        padded
    }

    /// Begins another message.
    #[inline]
    pub(crate) fn set(&mut self, prefix: u8, message: &'m [u8]) {
        let Some(end) = message.last_chunk::<BLOCK_SIZE>() else {
            return self.set_short(prefix, message);
        };
        // Every copy is of a size that is known here, if it takes more than is needed: so none is a call.
        self.first[0] = prefix;
        self.first[1..].copy_from_slice(&message[..BLOCK_SIZE - 1]);
        let (middle, tail) = message[BLOCK_SIZE - 1..].as_chunks();
        self.middle = middle;
        // The tail, which is less than a block, begins where the last blocks do.
        let tail_end = BLOCK_SIZE + tail.len();
        self.stage[tail.len()..tail_end].copy_from_slice(end);
        self.stage[tail_end..tail_end + BLOCK_SIZE].copy_from_slice(&[0; BLOCK_SIZE]);
        self.stage[tail_end] = 0x80;
        let last_count = (tail.len() + LENGTH_SIZE) / BLOCK_SIZE + 1;
        let length_at = (1 + last_count) * BLOCK_SIZE - LENGTH_SIZE;
        self.stage[length_at..length_at + LENGTH_SIZE].copy_from_slice(&bit_count(message));
        self.count = 1 + middle.len() + last_count;
    }

    /// Begins a message that is shorter than a block.
    fn set_short(&mut self, prefix: u8, message: &'m [u8]) {
        let mut blocks = [[0; BLOCK_SIZE]; 2];
        let bytes = blocks.as_flattened_mut();
        let end = 1 + message.len();
        bytes[0] = prefix;
        bytes[1..end].copy_from_slice(message);
        bytes[end] = 0x80;
        self.count = (end + LENGTH_SIZE) / BLOCK_SIZE + 1;
        let length_at = self.count * BLOCK_SIZE - LENGTH_SIZE;
        bytes[length_at..length_at + LENGTH_SIZE].copy_from_slice(&bit_count(message));
        self.first = blocks[0];
        self.middle = &[];
        self.stage[BLOCK_SIZE..2 * BLOCK_SIZE].copy_from_slice(&blocks[1]);
    }

    /// The blocks from number `at` on, as many as stand in a row; none behind the last one.
    #[inline]
    pub(crate) fn blocks_from(&self, at: usize) -> &[Block] {
        if at >= self.count {
            return &[];
        }
        match at.checked_sub(1) {
            None => core::slice::from_ref(&self.first),
            Some(at) if at < self.middle.len() => &self.middle[at..],
            Some(at) => &self.last()[at - self.middle.len()..self.count - 1 - self.middle.len()],
        }
    }

    /// How many blocks there are.
    #[inline(always)]
    pub(crate) const fn count(&self) -> usize {
        self.count
    }

    /// The block with this number, which is less than [`Self::count`].
    #[inline(always)]
    pub(crate) fn block(&self, number: usize) -> &Block {
        // Most are in the middle. What is not, seen from its beginning, is the first one or one behind it.
        match number.wrapping_sub(1) {
            at if at < self.middle.len() => &self.middle[at],
            usize::MAX => &self.first,
            at => &self.last()[at - self.middle.len()],
        }
    }

    #[inline]
    fn last(&self) -> &[Block; LAST_COUNT_MAX] {
        let (blocks, _) = self.stage.as_chunks();
        let [_, last @ ..]: &[Block; 1 + LAST_COUNT_MAX] =
            blocks.first_chunk().unwrap_or(&[[0; BLOCK_SIZE]; 1 + LAST_COUNT_MAX]);
        last
    }
}

/// The length of prefix and message in bits, as it ends the last block.
#[inline]
fn bit_count(message: &[u8]) -> [u8; LENGTH_SIZE] {
    ((1 + message.len() as u64) * 8).to_be_bytes()
}
