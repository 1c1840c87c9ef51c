//! A message as the row of blocks that the compression function takes.

/// Bytes of a block.
pub(crate) const BLOCK_SIZE: usize = 64;
/// What the compression function takes at a time.
pub(crate) type Block = [u8; BLOCK_SIZE];

/// Bytes of the message's length at the end of the last block.
const LENGTH_SIZE: usize = 8;

/// Prefix, message and padding, as blocks: one of `staged`, those of `middle`, the rest of `staged`.
///
/// The prefix shifts the message against the blocks by a byte. So the first block is put together apart, and so
/// are the last one or two, which hold the padding; those between are where they are, at an odd address.
#[derive(Clone, Debug)]
pub(crate) struct Padded<'m> {
    staged: [Block; 3],
    middle: &'m [Block],
    /// All of them.
    count: usize,
}

impl<'m> Padded<'m> {
    /// No blocks at all.
    pub(crate) const NONE: Self = Self { staged: [[0; BLOCK_SIZE]; 3], middle: &[], count: 0 };

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
        let (middle, tail) = message[BLOCK_SIZE - 1..].as_chunks();
        self.middle = middle;
        // Every copy is of a size that is known here, if it takes more than is needed: so none is a call. The tail begins where
        // the last blocks do; what is copied along with it stands where the first block comes then.
        let bytes = self.staged.as_flattened_mut();
        let tail_end = BLOCK_SIZE + tail.len();
        bytes[tail.len()..tail_end].copy_from_slice(end);
        bytes[tail_end..tail_end + BLOCK_SIZE].copy_from_slice(&[0; BLOCK_SIZE]);
        bytes[0] = prefix;
        bytes[1..BLOCK_SIZE].copy_from_slice(&message[..BLOCK_SIZE - 1]);
        self.count = middle.len() + finish(bytes, tail_end, message.len());
    }

    /// Begins a message that is shorter than a block.
    fn set_short(&mut self, prefix: u8, message: &'m [u8]) {
        self.middle = &[];
        self.staged = [[0; BLOCK_SIZE]; 3];
        let bytes = self.staged.as_flattened_mut();
        let end = 1 + message.len();
        bytes[0] = prefix;
        bytes[1..end].copy_from_slice(message);
        self.count = finish(bytes, end, message.len());
    }

    /// The blocks from number `at` on, as many as stand in a row; none behind the last one.
    #[inline]
    pub(crate) fn blocks_from(&self, at: usize) -> &[Block] {
        let staged = &self.staged[..self.count - self.middle.len()];
        match at.checked_sub(1) {
            None if !self.middle.is_empty() => &staged[..1],
            Some(at) if at < self.middle.len() => &self.middle[at..],
            _ => staged.get(at - self.middle.len()..).unwrap_or_default(),
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
            _ => &self.staged[number.saturating_sub(self.middle.len())],
        }
    }
}

/// Puts the padding behind `end`, where there are zeros up to the end of the block: a bit that is set, and at the end of the
/// last block the length of prefix and message in bits. Gives the number of blocks.
#[inline]
fn finish(blocks: &mut [u8], end: usize, message_size: usize) -> usize {
    let count = (end + LENGTH_SIZE) / BLOCK_SIZE + 1;
    let bit_count = (1 + message_size as u64) * 8;
    blocks[end] = 0x80;
    blocks[count * BLOCK_SIZE - LENGTH_SIZE..count * BLOCK_SIZE].copy_from_slice(&bit_count.to_be_bytes());
    count
}
