//! Every way gives what the definition gives, bit by bit.

use std::vec;
use std::vec::Vec;

use quickcheck::quickcheck;

use super::*;

/// Where an event record has its checksum, and other places: of the first block, the last bytes of one, and none.
const PLACES: [usize; 4] = [84, 0, 124, usize::MAX];

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

/// A way to the checksum of a message without four bytes.
type Way = fn(&[u8]) -> u32;

/// Each way that there is on this processor.
fn ways<const AT: usize>() -> Vec<(&'static str, Way)> {
    let mut ways: Vec<(_, Way)> =
        vec![("best", crc32_without::<AT>), ("table", |message| table::crc32_without(message, AT))];
    #[cfg(target_arch = "x86_64")]
    if narrow::Processor::detect().is_some() {
        ways.push(("narrow", |message| {
            let folded = narrow::Processor::detect().and_then(|narrow| narrow.crc32::<AT>(0, message));
            folded.unwrap_or_else(|| table::crc32_without(message, AT))
        }));
    }
    #[cfg(target_arch = "x86_64")]
    if middle::Processor::detect().is_some() {
        ways.push(("middle", |message| {
            let folded = middle::Processor::detect().and_then(|middle| middle.crc32::<AT>(0, message));
            folded.unwrap_or_else(|| table::crc32_without(message, AT))
        }));
    }
    ways
}

fn check(message: &[u8]) {
    let all =
        [ways::<{ PLACES[0] }>(), ways::<{ PLACES[1] }>(), ways::<{ PLACES[2] }>(), ways::<{ PLACES[3] }>()];
    for (at, ways) in PLACES.into_iter().zip(all) {
        let expected = plain(0, &without(message, at));
        for (name, way) in ways {
            let size = message.len();
            assert_eq!(way(message), expected, "{name}, {size} bytes without those at {at}");
        }
    }
    assert_eq!(crc32(message), plain(0, message));
    let (before, expected) = (0x5EED_0001, plain(0x5EED_0001, message));
    assert_eq!(crc32_behind(before, message), expected);
    assert_eq!(table::crc32_behind(before, message), expected);
    #[cfg(target_arch = "x86_64")]
    if let Some(narrow) = narrow::Processor::detect() {
        assert_eq!(narrow.crc32::<NOTHING>(before, message).unwrap_or(expected), expected);
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(middle) = middle::Processor::detect() {
        assert_eq!(middle.crc32::<NOTHING>(before, message).unwrap_or(expected), expected);
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
