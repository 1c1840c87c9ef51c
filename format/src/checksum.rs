//! The kernel's CRC-32: `crc32_le(0, …)`, the reflected polynomial 0xEDB88320 with no inversion before or
//! after. It is not zlib's CRC-32, which inverts both; the one is had from the other by starting zlib's from
//! all ones and inverting its result.

use crc32fast::Hasher;

/// The kernel CRC-32 of `parts`, one after the other.
#[inline]
pub fn kernel_crc32<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let mut hasher = Hasher::new_with_initial(u32::MAX);
    for part in parts {
        hasher.update(part);
    }
    !hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_crc_has_the_known_values() {
        assert_eq!(kernel_crc32([b"".as_slice()]), 0);
        assert_eq!(kernel_crc32([b"123456789".as_slice()]), 0x2DFD_2D88);
        assert_eq!(kernel_crc32([b"1234".as_slice(), b"56789"]), 0x2DFD_2D88);
    }

    #[test]
    fn zero_bytes_have_checksum_zero_so_a_checksum_alone_never_proves_a_record() {
        assert_eq!(kernel_crc32([[0u8; 132].as_slice()]), 0);
    }
}
