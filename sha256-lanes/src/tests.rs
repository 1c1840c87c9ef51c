//! Every way to hash gives what `sha2` gives for the prefix and the message in a row.

use std::vec;
use std::vec::Vec;

use quickcheck::quickcheck;
use sha2::{Digest as _, Sha256};

use super::*;

/// What is held against `sha2`: each way that there is on this processor.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// What the processor can do best.
    Best,
    /// Four lanes and no more.
    #[cfg(target_arch = "x86_64")]
    Narrow(lanes::Processor),
    OneByOne,
}

impl Way {
    fn all() -> Vec<Self> {
        vec![
            Self::Best,
            #[cfg(target_arch = "x86_64")]
            lanes::Processor::detect().map_or(Self::Best, |processor| Self::Narrow(processor.narrow())),
            Self::OneByOne,
        ]
    }

    fn digest_many(self, prefix: u8, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
        match self {
            Self::Best => digest_many(prefix, messages, digests),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(processor) => lanes::digest_many(processor, prefix, messages, digests),
            Self::OneByOne => one_by_one::digest_many(prefix, messages, digests),
        }
    }

    fn digest_pairs(self, prefix: u8, digests: &mut [[u8; 32]]) -> usize {
        match self {
            Self::Best => digest_pairs(prefix, digests),
            #[cfg(target_arch = "x86_64")]
            Self::Narrow(processor) => lanes::digest_pairs(processor, prefix, digests),
            Self::OneByOne => one_by_one::digest_pairs(prefix, digests),
        }
    }
}

fn plain(prefix: u8, message: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([prefix]).chain_update(message).finalize().into()
}

/// Bytes without a pattern: those of xorshift64.
fn noise(size: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    (0..size)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            (x >> 32) as u8
        })
        .collect()
}

fn check(prefix: u8, messages: &[&[u8]]) {
    let expected: Vec<_> = messages.iter().map(|message| plain(prefix, message)).collect();
    for way in Way::all() {
        let mut digests = vec![[0xee; 32]; messages.len()];
        way.digest_many(prefix, messages, &mut digests);
        for (i, message) in messages.iter().enumerate() {
            let (count, size) = (messages.len(), message.len());
            assert_eq!(digests[i], expected[i], "{way:?}, message {i} of {count}, {size} bytes");
        }
    }
}

#[test]
fn every_short_length_has_the_digest_of_the_plain_function() {
    let bytes = noise(300 + 20);
    for size in 0..=300 {
        let message = &bytes[size % 17..][..size];
        assert_eq!(digest(7, message), plain(7, message), "{size} bytes");
        // So few that the narrow lanes take them, so many that the wide ones do, and more than there are lanes.
        for count in [1, 2, 3, 4, 5, 8, 9, 16, 17, 40] {
            check(7, &vec![message; count]);
        }
    }
}

#[test]
fn lengths_around_whole_blocks_have_the_digest_of_the_plain_function() {
    let bytes = noise(70_100);
    let around = |size: usize| (size - 10..size + 3).filter(|size| *size <= 70_000);
    let sizes: Vec<_> = (1..=70_000 / 64 + 1).step_by(7).flat_map(|blocks| around(blocks * 64)).collect();
    let messages: Vec<_> = sizes.iter().map(|size| &bytes[size % 97..][..*size]).collect();
    check(0, &messages);
    for few in messages.rchunks(7).take(20) {
        check(0, few);
    }
}

#[test]
fn any_number_of_messages_of_mixed_lengths_is_hashed_in_order() {
    let bytes = noise(2_000);
    // Both groups of wide lanes are filled again, and emptied unevenly.
    for count in 0..=100 {
        let messages: Vec<_> = (0..count).map(|i| &bytes[i..][..(i * 7_919 + count * 31) % 900]).collect();
        check(count as u8, &messages);
        // A long one among short ones is left over in the end.
        let with_long: Vec<_> =
            (0..count).map(|i| &bytes[i..][..if i == count / 2 { 1_900 } else { i }]).collect();
        check(count as u8, &with_long);
    }
}

quickcheck! {
    fn whatever_the_lengths_and_addresses_the_digests_are_those_of_the_plain_function(
        prefix: u8,
        parts: Vec<(u16, u8)>
    ) -> bool {
        let bytes = noise(3_000);
        let messages: Vec<_> =
            parts.iter().map(|(size, at)| &bytes[usize::from(*at)..][..usize::from(*size) % 2_500]).collect();
        check(prefix, &messages);
        true
    }
}

#[test]
fn a_level_of_a_tree_is_hashed_pair_by_pair() {
    for count in 0..=150 {
        let level: Vec<[u8; 32]> = (0..count).map(|i| plain(0, &[i as u8])).collect();
        let expected: Vec<_> = level.chunks_exact(2).map(|pair| plain(1, pair.as_flattened())).collect();
        for way in Way::all() {
            let mut digests = level.clone();
            assert_eq!(way.digest_pairs(1, &mut digests), count / 2);
            assert_eq!(digests[..count / 2], expected, "{way:?}, {count} digests");
        }
    }
}

#[test]
fn the_shorter_of_messages_and_digests_counts() {
    let messages = [b"a".as_slice(); 20];
    for way in Way::all() {
        let mut digests = [[0; 32]; 25];
        way.digest_many(0, &messages, &mut digests[..18]);
        assert!(digests[..18].iter().all(|digest| *digest == plain(0, b"a")), "{way:?}");
        assert!(digests[18..].iter().all(|digest| *digest == [0; 32]), "{way:?}");
        way.digest_many(0, &messages, &mut digests);
        assert!(digests[18..20].iter().all(|digest| *digest == plain(0, b"a")), "{way:?}");
        assert!(digests[20..].iter().all(|digest| *digest == [0; 32]), "{way:?}");
    }
}

/// The wide lanes count bits in 32 bits.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_message_too_long_for_the_wide_lanes_is_hashed_among_others() {
    let zeros = vec![0; wide::MESSAGE_SIZE_MAX + 1];
    let mut messages = [&zeros[..100]; 20];
    messages[3] = &zeros;
    let mut digests = [[0; 32]; 20];
    digest_many(0, &messages, &mut digests);
    for (digest, message) in digests.iter().zip(messages) {
        assert_eq!(*digest, plain(0, message), "{} bytes", message.len());
    }
}
