//! Every way gives what the definition gives, bit by bit.

use std::vec::Vec;

use quickcheck::quickcheck;

use super::*;

/// The definition: a shift register.
fn plain(before: u32, message: &[u8]) -> u32 {
    message.iter().fold(before, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 })
    })
}

fn without(message: &[u8], at: usize) -> Vec<u8> {
    let mut message = message.to_vec();
    for byte in message.iter_mut().skip(at).take(4) {
        *byte = 0;
    }
    message
}

/// The ways that fold, whichever of them is the best here. Nothing comes of one for a message that is too short, or where the
/// processor can't.
#[cfg(target_arch = "x86_64")]
fn folds<const AT: usize>(before: u32, message: &[u8]) -> [(&'static str, Option<u32>); 2] {
    let narrow = narrow::Processor::detect().and_then(|narrow| narrow.crc32::<AT>(before, message));
    let middle = middle::Processor::detect().and_then(|middle| middle.crc32::<AT>(before, message));
    [("narrow", narrow), ("middle", middle)]
}

#[cfg(not(target_arch = "x86_64"))]
fn folds<const AT: usize>(_: u32, _: &[u8]) -> [(&'static str, Option<u32>); 0] {
    []
}

fn check_without<const AT: usize>(message: &[u8]) {
    let expected = plain(0, &without(message, AT));
    let others = [("best", crc32_without::<AT>(message)), ("table", table::crc32_without(message, AT))];
    let folded = folds::<AT>(0, message).map(|(name, crc)| (name, crc.unwrap_or(expected)));
    for (name, crc) in others.into_iter().chain(folded) {
        assert_eq!(crc, expected, "{name}, {} bytes without those at {AT}", message.len());
    }
}

fn check(message: &[u8]) {
    // Where an event record has its checksum, and other places: of the first block, the last bytes of one, and none.
    check_without::<84>(message);
    check_without::<0>(message);
    check_without::<124>(message);
    check_without::<{ usize::MAX }>(message);
    assert_eq!(crc32(message), plain(0, message));
    let (before, expected) = (0x5EED_0001, plain(0x5EED_0001, message));
    assert_eq!(crc32_behind(before, message), expected);
    assert_eq!(table::crc32_behind(before, message), expected);
    for (name, crc) in folds::<{ usize::MAX }>(before, message) {
        assert_eq!(crc.unwrap_or(expected), expected, "{name}");
    }
}

/// Bytes without a pattern: those of xorshift64.
fn noise(size: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..size).map(|_| next()).collect()
}

#[test]
fn it_is_right_for_every_size_up_to_some_blocks_and_at_every_address() {
    let bytes = noise(700 + 64);
    for size in 0..700 {
        check(&bytes[size % 64..][..size]);
    }
    check(&noise(70_000));
}

#[test]
fn every_bit_counts() {
    let mut message = noise(64 + 132);
    let before = crc32_without::<84>(&message);
    for bit in 0..message.len() * 8 {
        message[bit / 8] ^= 1 << (bit % 8);
        let is_left_out = (84..88).contains(&(bit / 8));
        assert_eq!(crc32_without::<84>(&message) == before, is_left_out, "bit {bit}");
        message[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn kernel_crc_has_the_known_values() {
    assert_eq!(crc32(b""), 0);
    assert_eq!(crc32(b"123456789"), 0x2DFD_2D88);
}

#[test]
fn zero_bytes_have_checksum_zero_so_a_checksum_alone_never_proves_a_record() {
    assert_eq!(crc32(&[0; 132]), 0);
}

quickcheck! {
    fn it_is_right_for_any_message(message: Vec<u8>, times: u8) -> bool {
        check(&message.repeat(usize::from(times % 16)));
        true
    }
}
