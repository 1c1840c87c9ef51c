//! The bytes that are written.

/// A mebibyte of bytes, half of them random and half of them text: payloads are slices of it, so that making one costs
/// nothing and no engine that compresses finds more to gain than in real events.
#[derive(Clone, Debug)]
pub struct Payloads {
    bytes: Vec<u8>,
    starts: usize,
    size: usize,
}

const STARTS: usize = 1 << 20;
/// For payloads that the caller has just made: they are still in the processor's nearest cache.
const RECENT_STARTS: usize = 4 << 10;
const TEXT: &[u8] = br#"{"mode":420,"uid":1000,"gid":100,"pid":4711}"#;

impl Payloads {
    /// Payloads of this size.
    pub fn new(size: usize) -> Self {
        Self::with_starts(size, STARTS)
    }

    /// Payloads of this size as whoever has just made them has them at hand.
    pub fn recent(size: usize) -> Self {
        Self::with_starts(size, RECENT_STARTS)
    }

    fn with_starts(size: usize, starts: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut bytes = Vec::with_capacity(starts + size + 128);
        while bytes.len() < starts + size {
            for _ in 0..TEXT.len().div_ceil(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.extend_from_slice(&state.to_le_bytes());
            }
            bytes.extend_from_slice(TEXT);
        }
        Self { bytes, starts, size }
    }

    /// The payload of the record with this index.
    #[inline(always)]
    pub fn at(&self, index: u64) -> &[u8] {
        // An odd factor, so that all starts get their turn; there is a power of two of them.
        let start = (index as usize).wrapping_mul(40_503) & (self.starts - 1);
        self.bytes.get(start..start + self.size).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_differ() {
        for size in [0, 1, 256, 16 << 10] {
            let payloads = Payloads::new(size);
            assert!((0..5_000).all(|index| payloads.at(index).len() == size));
            assert!(size < 256 || payloads.at(0) != payloads.at(1));
        }
    }
}
