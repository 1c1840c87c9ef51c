//! SHA-256 digests: record leaves, Merkle trees as in RFC 9162 §2.1, and the commit chain.
//!
//! Every hash begins with a byte that says what is hashed, so that no value of one kind can pass for
//! another: `0x00` a leaf, `0x01` an inner node (both RFC 9162), `0x02` a commit, `0x03` a seal.

use core::fmt;

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// 32 zero bytes: what stands where there is nothing to point to, such as before the first segment.
    pub const ZERO: Self = Self([0; 32]);
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is hashed; the first byte that goes into the hash.
#[derive(Clone, Copy)]
enum Domain {
    Leaf = 0,
    Node = 1,
    Commit = 2,
    Seal = 3,
}

/// The state that SHA-256 begins with (FIPS 180-4, §5.3.3).
const INITIAL_STATE: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Bytes of a block.
const BLOCK_SIZE: usize = 64;
/// Bytes of the message's length at the end of the last block.
const LENGTH_SIZE: usize = 8;

/// The SHA-256 of the domain's byte and the message.
///
/// A message is a record of some hundred bytes, most of the time, and there are millions. So the blocks behind
/// the first, in which the domain's byte shifts the message, go to the compression function as they lie in
/// memory; a hasher that takes its input in pieces costs a tenth more.
fn sha256(domain: Domain, message: &[u8]) -> Digest {
    let mut state = INITIAL_STATE;
    let mut last = [0; 2 * BLOCK_SIZE];
    last[0] = domain as u8;
    let tail_size = match message.split_at_checked(BLOCK_SIZE - 1) {
        Some((head, rest)) => {
            last[1..BLOCK_SIZE].copy_from_slice(head);
            let (blocks, tail) = rest.as_chunks::<BLOCK_SIZE>();
            compress256(&mut state, last[..BLOCK_SIZE].as_chunks().0);
            compress256(&mut state, blocks);
            last[..BLOCK_SIZE].fill(0);
            last[..tail.len()].copy_from_slice(tail);
            tail.len()
        }
        None => {
            last[1..=message.len()].copy_from_slice(message);
            1 + message.len()
        }
    };
    // The padding: a bit that is set, zeros, the length in bits.
    last[tail_size] = 0x80;
    let size = if tail_size < BLOCK_SIZE - LENGTH_SIZE { BLOCK_SIZE } else { 2 * BLOCK_SIZE };
    let bit_count = (1 + message.len() as u64) * 8;
    last[size - LENGTH_SIZE..size].copy_from_slice(&bit_count.to_be_bytes());
    compress256(&mut state, last[..size].as_chunks().0);

    let mut digest = Digest::ZERO;
    for (bytes, word) in digest.0.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

/// The hash of an inner node of a tree.
fn node(left: &Digest, right: &Digest) -> Digest {
    let mut children = [0; 64];
    children[..32].copy_from_slice(&left.0);
    children[32..].copy_from_slice(&right.0);
    sha256(Domain::Node, &children)
}

/// The plain SHA-256 of `bytes`, without a domain: the journal header's checksum is taken from it.
pub fn plain(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// The leaf hash of one record: all its bytes as an uncompressed segment holds them.
pub fn leaf(record: &[u8]) -> Digest {
    sha256(Domain::Leaf, record)
}

/// The digest of a commit: over its body up to the digest itself.
pub(crate) fn commit(body: &[u8]) -> Digest {
    sha256(Domain::Commit, body)
}

/// The digest of a seal: over its body up to the digest itself.
pub(crate) fn seal(body: &[u8]) -> Digest {
    sha256(Domain::Seal, body)
}

/// The root of a Merkle tree, computed while its leaves come in, in memory that does not grow.
///
/// RFC 9162 splits `n` leaves at the largest power of two below `n`. Read from the left, that leaves one
/// complete subtree for each bit that is set in `n`, the largest first: `peaks[k]` is the complete subtree
/// of 2^k leaves if bit `k` of `count` is set. Folding the peaks from the smallest up gives the root.
#[derive(Clone, Debug)]
pub struct MerkleTree {
    count: u64,
    peaks: [Digest; 64],
}

impl Default for MerkleTree {
    fn default() -> Self {
        Self::new()
    }
}

impl MerkleTree {
    /// A tree without leaves.
    pub const fn new() -> Self {
        Self { count: 0, peaks: [Digest::ZERO; 64] }
    }

    /// Leaves so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Adds a leaf hash at the right.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        // Carries like the increment of a binary number; 2^64 leaves are never reached.
        let level = self.count.trailing_ones() as usize;
        for peak in self.peaks.iter().take(level) {
            hash = node(peak, &hash);
        }
        if let Some(peak) = self.peaks.get_mut(level) {
            *peak = hash;
        }
        self.count += 1;
    }

    /// The root over the leaves so far. The root over none is the SHA-256 of nothing, as in RFC 9162.
    pub fn root(&self) -> Digest {
        self.peaks
            .iter()
            .enumerate()
            .filter(|(level, _)| self.count >> level & 1 == 1)
            .map(|(_, peak)| *peak)
            .reduce(|right, left| node(&left, &right))
            .unwrap_or_else(|| plain(&[]))
    }

    /// Empties the tree.
    pub fn clear(&mut self) {
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// The definition in RFC 9162 §2.1.1, word for word.
    fn rfc_root(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => plain(&[]),
            [one] => *one,
            _ => {
                let split = leaves.len().next_power_of_two() / 2;
                let (left, right) = leaves.split_at(split);
                node(&rfc_root(left), &rfc_root(right))
            }
        }
    }

    #[test]
    fn every_length_hashes_as_the_plain_function_does() {
        let message: Vec<u8> = (0..=255u8).cycle().take(700).collect();
        for length in 0..message.len() {
            let message = &message[..length];
            let whole: Vec<u8> = [0u8].into_iter().chain(message.iter().copied()).collect();
            assert_eq!(leaf(message), plain(&whole), "{length} bytes");
        }
    }

    #[test]
    fn streaming_root_equals_the_recursive_definition_for_every_count() {
        let leaves: Vec<_> = (0u32..300).map(|i| leaf(&i.to_le_bytes())).collect();
        let mut tree = MerkleTree::new();
        for n in 0..=leaves.len() {
            assert_eq!(tree.root(), rfc_root(&leaves[..n]), "{n} leaves");
            if let Some(leaf) = leaves.get(n) {
                tree.push(*leaf);
            }
        }
    }

    #[test]
    fn root_has_the_value_known_from_certificate_transparency() {
        // The reference tree of RFC 6962 implementations: these eight leaves, this root.
        let hex = |s: &str| -> Vec<u8> {
            (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).unwrap()).collect()
        };
        let inputs = [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ];
        let mut tree = MerkleTree::new();
        for input in inputs {
            tree.push(leaf(&hex(input)));
        }
        let root = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328";
        assert_eq!(std::format!("{}", tree.root()), root);
    }
}
