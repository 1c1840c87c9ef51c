//! What the crate's root offers, done with `sha2`: one message after the other, on any processor.
//!
//! It is what is used where there is nothing faster, and what the faster is held against.

use sha2::block_api::compress256;

use crate::constants::INITIAL_STATE;
use crate::padding::Padded;

/// The SHA-256 of `prefix` and the message.
pub fn digest(prefix: u8, message: &[u8]) -> [u8; 32] {
    let padded = Padded::new(prefix, message);
    let mut state = INITIAL_STATE;
    let mut at = 0;
    loop {
        let blocks = padded.blocks_from(at);
        if blocks.is_empty() {
            break;
        }
        compress256(&mut state, blocks);
        at += blocks.len();
    }
    let mut digest = [0; 32];
    for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    digest
}

/// As [`crate::digest_many`].
pub fn digest_many(prefix: u8, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
    for (message, out) in messages.iter().zip(digests) {
        *out = digest(prefix, message);
    }
}

/// As [`crate::digest_pairs`].
pub fn digest_pairs(prefix: u8, digests: &mut [[u8; 32]]) -> usize {
    let count = digests.len() / 2;
    for i in 0..count {
        digests[i] = digest(prefix, digests[2 * i..2 * i + 2].as_flattened());
    }
    count
}
