//! Integers of variable length, seven bits in a byte, the lowest first.

use crate::error::DecodeError;

/// Appends a number.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the difference between two numbers, small where they are near each other.
#[inline]
pub(crate) fn put_difference(out: &mut Vec<u8>, value: u64, expected: u64) {
    let difference = value.wrapping_sub(expected) as i64;
    put(out, ((difference << 1) ^ (difference >> 63)) as u64);
}

/// The bits of eight bytes that say that more follow.
const MORE: u64 = 0x8080_8080_8080_8080;

/// Eight groups of seven bits, each in a byte, as one number.
#[inline]
const fn close(groups: u64) -> u64 {
    let pairs = (groups & 0x7F00_7F00_7F00_7F00) >> 1 | (groups & 0x007F_007F_007F_007F);
    let fours = (pairs & 0x3FFF_0000_3FFF_0000) >> 2 | (pairs & 0x0000_3FFF_0000_3FFF);
    (fours & 0x0FFF_FFFF_0000_0000) >> 4 | (fours & 0x0000_0000_0FFF_FFFF)
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stream<'a>(pub(crate) &'a [u8]);

impl<'a> Stream<'a> {
    /// The next `size` bytes.
    #[inline]
    pub(crate) fn take(&mut self, size: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(DecodeError::Truncated {
            what: "a stream of regrouped records",
            needed: size,
            available: self.0.len(),
        })?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next number.
    #[inline]
    pub(crate) fn number(&mut self) -> Result<u64, DecodeError> {
        if let &[byte @ 0..0x80, ref rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(byte.into());
        }
        // Numbers of two bytes and of three come in no order, which no processor foresees: without a branch for each.
        if let Some(word) = self.0.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
            && let ends = !word & MORE
            && ends != 0
        {
            let (_, rest) = self.0.split_at(ends.trailing_zeros() as usize / 8 + 1);
            self.0 = rest;
            return Ok(close(word & (ends ^ ends.wrapping_sub(1)) & !MORE));
        }
        self.any_number()
    }

    /// [`Stream::number`] of any size, wherever it stands.
    #[cold]
    fn any_number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let &[byte, ref rest @ ..] = self.0 else {
                return Err(DecodeError::Truncated {
                    what: "a stream of regrouped records",
                    needed: 1,
                    available: 0,
                });
            };
            self.0 = rest;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Contradiction { what: "a number of regrouped records" })
    }

    /// The next number that has 32 bits.
    #[inline]
    pub(crate) fn number32(&mut self) -> Result<u32, DecodeError> {
        let found = self.number()?;
        u32::try_from(found).map_err(|_| DecodeError::TooLarge {
            what: "a number of regrouped records",
            found,
            limit: u32::MAX.into(),
        })
    }

    /// The number whose difference from `expected` comes next.
    #[inline]
    pub(crate) fn difference(&mut self, expected: u64) -> Result<u64, DecodeError> {
        let folded = self.number()?;
        let difference = (folded >> 1) ^ (folded & 1).wrapping_neg();
        Ok(expected.wrapping_add(difference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_and_nothing_larger_does() {
        let edges = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1, u64::MAX >> bit]);
        for value in edges {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let size = bytes.len();
            // With others behind it, and with none.
            for behind in 0..10 {
                bytes.resize(size + behind, 0x85);
                let mut stream = Stream(&bytes);
                assert_eq!(stream.number(), Ok(value));
                assert_eq!(stream.0.len(), behind, "{value:#x}");
            }
            let cut =
                DecodeError::Truncated { what: "a stream of regrouped records", needed: 1, available: 0 };
            assert_eq!(Stream(&bytes[..size - 1]).number(), Err(cut), "{value:#x}");
        }
        let wrong = Err(DecodeError::Contradiction { what: "a number of regrouped records" });
        for last in [2, 0x7F, 0x80, 0x81] {
            let mut bytes = [0xFF; 10];
            bytes[9] = last;
            assert_eq!(Stream(&bytes).number(), wrong, "a tenth byte {last:#x}");
        }
    }

    #[test]
    fn differences_go_around_the_end_of_the_numbers() {
        for (value, expected) in [(0, u64::MAX), (u64::MAX, 0), (1 << 63, 0), (0, 1 << 63), (5, 5)] {
            let mut bytes = Vec::new();
            put_difference(&mut bytes, value, expected);
            assert_eq!(Stream(&bytes).difference(expected), Ok(value));
        }
    }
}
