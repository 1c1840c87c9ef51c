//! Powers of x modulo the polynomial.
//!
//! Everything is reflected: the bit of the lowest value is the coefficient of the highest power. A register of `n` bits
//! with bit `k` set is x^(n-1-k), and the carry-less product of two 64-bit registers, in one of 128 bits, is the product
//! of the polynomials times x. So what multiplies by x^n is made of x^(n-1).

/// Bytes of a block: those that are folded at once, and the shortest message for which that can be done.
pub(crate) const BLOCK_SIZE: usize = 64;
/// x^32 + x^26 + x^23 + x^22 + x^16 + x^12 + x^11 + x^10 + x^8 + x^7 + x^5 + x^4 + x^2 + x + 1 without x^32, in 32 bits.
const POLYNOMIAL: u32 = 0xEDB8_8320;
/// The same with x^32, in 33 bits.
pub(crate) const POLYNOMIAL_33: u64 = (POLYNOMIAL as u64) << 1 | 1;
/// The quotient of x^64 by the polynomial, in 33 bits.
pub(crate) const QUOTIENT_33: u64 = quotient();
/// What multiplies by x^64, and by x^96.
pub(crate) const BY_64: u64 = multiplier(64);
pub(crate) const BY_96: u64 = multiplier(96);

/// At `n`, what brings 16 bytes over those that stand `n` behind: what the first 8 are multiplied by, and the other 8.
pub(crate) static FOLDS: [[u64; 2]; BLOCK_SIZE + 1] = {
    let mut folds = [[0; 2]; BLOCK_SIZE + 1];
    let mut n = 1;
    while n < folds.len() {
        folds[n] = [multiplier(8 * n + 64), multiplier(8 * n)];
        n += 1;
    }
    folds
};

/// What multiplies by x^n, in 64 bits.
const fn multiplier(n: usize) -> u64 {
    let mut power = 1 << 31;
    let mut i = 1;
    while i < n {
        power = by_x(power);
        i += 1;
    }
    (power as u64) << 32
}

/// The remainder of a polynomial of 32 bits times x.
const fn by_x(of: u32) -> u32 {
    if of & 1 == 0 { of >> 1 } else { of >> 1 ^ POLYNOMIAL }
}

const fn quotient() -> u64 {
    // The coefficient of x^32 is 1; each further one is what the remainder overflows by.
    let (mut quotient, mut remainder) = (1, POLYNOMIAL);
    let mut i = 1;
    while i <= 32 {
        quotient |= ((remainder & 1) as u64) << i;
        remainder = by_x(remainder);
        i += 1;
    }
    quotient
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the paper, where powers have 33 bits, and from the kernel's `crc32-pclmul`, which folds by 512 and by 128 bits.
    #[test]
    fn the_powers_are_those_of_the_literature() {
        let power = |n: usize| multiplier(n + 1) >> 31;
        assert_eq!(POLYNOMIAL_33, 0x1_DB71_0641);
        assert_eq!(QUOTIENT_33, 0x1_F701_1641);
        assert_eq!([power(512 + 32), power(512 - 32)], [0x1_5444_2BD4, 0x1_C6E4_1596]);
        assert_eq!([power(128 + 32), power(128 - 32)], [0x1_7519_97D0, 0xCCAA_009E]);
    }
}
