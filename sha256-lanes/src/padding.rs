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
    staged_count: usize,
    middle: &'m [Block],
}

impl<'m> Padded<'m> {
    /// No blocks at all.
    pub(crate) const NONE: Self = Self { staged: [[0; BLOCK_SIZE]; 3], staged_count: 0, middle: &[] };

    #[inline]
    pub(crate) fn new(prefix: u8, message: &'m [u8]) -> Self {
        let mut padded = Self::NONE;
        padded.set(prefix, message);
        padded
    }

    /// Begins another message.
    #[inline]
    pub(crate) fn set(&mut self, prefix: u8, message: &'m [u8]) {
        let [first, last @ ..] = &mut self.staged;
        let last = last.as_flattened_mut();
        first[0] = prefix;
        match message.split_first_chunk::<{ BLOCK_SIZE - 1 }>() {
            Some((head, rest)) => {
                first[1..].copy_from_slice(head);
                let (middle, tail) = rest.as_chunks();
                self.middle = middle;
                self.staged_count = 1 + pad(last, tail, 0, message.len());
            }
            None => {
                self.middle = &[];
                let blocks = self.staged.as_flattened_mut();
                self.staged_count = pad(blocks, message, 1, message.len());
            }
        }
    }

    /// The blocks from number `at` on, as many as stand in a row; none behind the last one.
    #[inline]
    pub(crate) fn blocks_from(&self, at: usize) -> &[Block] {
        let (staged, _) = self.staged.split_at(self.staged_count.min(3));
        let middle = self.middle;
        let run = match at {
            0 if !middle.is_empty() => staged.get(..1),
            _ if (1..=middle.len()).contains(&at) => middle.get(at - 1..),
            0 => Some(staged),
            _ => staged.get(at - middle.len()..),
        };
        run.unwrap_or_default()
    }
}

/// Writes `tail`, the end of a message, to `blocks` from offset `at` on, and the padding behind it: a bit that is
/// set, zeros, the length of prefix and message in bits. Gives the number of blocks.
#[inline]
fn pad(blocks: &mut [u8], tail: &[u8], at: usize, message_size: usize) -> usize {
    let end = at + tail.len();
    let count = (end + LENGTH_SIZE) / BLOCK_SIZE + 1;
    let bit_count = (1 + message_size as u64) * 8;
    blocks[at..end].copy_from_slice(tail);
    blocks[end] = 0x80;
    blocks[end + 1..count * BLOCK_SIZE - LENGTH_SIZE].fill(0);
    blocks[count * BLOCK_SIZE - LENGTH_SIZE..count * BLOCK_SIZE].copy_from_slice(&bit_count.to_be_bytes());
    count
}
