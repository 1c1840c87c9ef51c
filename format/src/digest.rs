//! SHA-256 digests: record leaves, Merkle trees as in RFC 9162 §2.1, and the commit chain.
//!
//! Every hash begins with a byte that says what is hashed, so that no value of one kind can pass for
//! another: `0x00` a leaf, `0x01` an inner node (both RFC 9162), `0x02` a commit, `0x03` a seal.

use core::fmt;

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

/// The SHA-256 of the domain's byte and the message.
fn sha256(domain: Domain, message: &[u8]) -> Digest {
    Digest(semj_sha256::digest(domain as u8, message))
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

    /// Adds a complete subtree of 2^`level` leaves at the right, by its root. The leaves before it must be a multiple of
    /// that many; what the tree is otherwise, RFC 9162 does not say.
    pub fn push_subtree(&mut self, level: u32, root: Digest) {
        debug_assert!(self.count.is_multiple_of(1 << level), "a subtree begins at a multiple of its size");
        let mut hash = root;
        let top = level + (self.count >> level).trailing_ones();
        for peak in self.peaks.iter().take(top as usize).skip(level as usize) {
            hash = node(peak, &hash);
        }
        if let Some(peak) = self.peaks.get_mut(top as usize) {
            *peak = hash;
        }
        self.count += 1 << level;
    }

    /// Adds the leaves of these records at the right, hashed together.
    ///
    /// The tree is the same as if they came one by one. But hashes that don't depend on one another take much less
    /// time side by side: those of the leaves, then those of each level above them.
    pub fn extend(&mut self, records: &[&[u8]]) {
        for records in records.chunks(HASHED_TOGETHER) {
            match records {
                [record] => self.push(leaf(record)),
                _ => self.extend_by_few(records),
            }
        }
    }

    /// As [`Self::extend`], for at most [`HASHED_TOGETHER`] records.
    fn extend_by_few(&mut self, records: &[&[u8]]) {
        // What is new at a level, from index 1 on. Before it is room for the left neighbour of the first.
        let mut nodes = [[0; 32]; 1 + HASHED_TOGETHER];
        let mut count = records.len();
        semj_sha256::digest_many(Domain::Leaf as u8, records, &mut nodes[1..]);
        for (level, peak) in self.peaks.iter_mut().enumerate() {
            if count == 0 {
                break;
            }
            let mut start = 1;
            if self.count >> level & 1 == 1 {
                nodes[0] = peak.0;
                start = 0;
            }
            let row = &mut nodes[start..=count];
            if let ([.., last], false) = (&*row, row.len().is_multiple_of(2)) {
                // A node without a neighbour is a complete subtree; what is behind it comes later.
                *peak = Digest(*last);
            }
            count = semj_sha256::digest_pairs(Domain::Node as u8, row);
            nodes.copy_within(start..start + count, 1);
        }
        self.count += records.len() as u64;
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

/// Records whose leaves are hashed at once.
const HASHED_TOGETHER: usize = 256;
/// And bytes of records: what is gathered should still be in the cache when it is hashed.
const GATHERED_SIZE_MAX: usize = 256 << 10;

/// A [`MerkleTree`] over records that come one by one: gathers them, to hash many together.
#[derive(Clone, Debug)]
pub struct RecordTree<'a> {
    tree: MerkleTree,
    gathered: [&'a [u8]; HASHED_TOGETHER],
    gathered_count: usize,
    gathered_size: usize,
}

impl Default for RecordTree<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> RecordTree<'a> {
    /// A tree without leaves.
    pub const fn new() -> Self {
        let gathered: [&[u8]; HASHED_TOGETHER] = [&[]; HASHED_TOGETHER];
        Self { tree: MerkleTree::new(), gathered, gathered_count: 0, gathered_size: 0 }
    }

    /// Records so far.
    pub const fn count(&self) -> u64 {
        self.tree.count() + self.gathered_count as u64
    }

    /// Adds a record's leaf at the right: all its bytes as an uncompressed segment holds them.
    #[inline]
    pub fn push(&mut self, record: &'a [u8]) {
        self.gathered[self.gathered_count] = record;
        self.gathered_count += 1;
        self.gathered_size += record.len();
        if self.gathered_count == HASHED_TOGETHER || self.gathered_size >= GATHERED_SIZE_MAX {
            self.hash_gathered();
        }
    }

    /// Adds a complete subtree at the right, as [`MerkleTree::push_subtree`] does.
    pub fn push_subtree(&mut self, level: u32, root: Digest) {
        self.hash_gathered();
        self.tree.push_subtree(level, root);
    }

    fn hash_gathered(&mut self) {
        self.tree.extend(&self.gathered[..self.gathered_count]);
        self.gathered_count = 0;
        self.gathered_size = 0;
    }

    /// The tree over the records so far.
    pub fn finish(mut self) -> MerkleTree {
        self.hash_gathered();
        self.tree
    }

    /// The root over the records so far, as [`MerkleTree::root`] gives it.
    pub fn root(&mut self) -> Digest {
        self.hash_gathered();
        self.tree.root()
    }

    /// Empties the tree.
    pub fn clear(&mut self) {
        self.tree.clear();
        self.gathered_count = 0;
        self.gathered_size = 0;
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
    fn subtrees_make_the_tree_of_their_leaves() {
        let leaves: Vec<_> = (0u32..300).map(|i| leaf(&i.to_le_bytes())).collect();
        for level in 0..7 {
            let mut tree = MerkleTree::new();
            for leaves in leaves.chunks(1 << level) {
                match leaves.len() == 1 << level {
                    true => tree.push_subtree(level, streamed(leaves).root()),
                    false => leaves.iter().for_each(|leaf| tree.push(*leaf)),
                }
            }
            assert_eq!((tree.count(), tree.root()), (300, rfc_root(&leaves)), "level {level}");
        }
    }

    /// Records of mixed sizes, and their leaves.
    fn records(count: usize) -> (Vec<Vec<u8>>, Vec<Digest>) {
        let records: Vec<_> =
            (0..count).map(|i| (0..i * 37 % 500).map(|byte| (byte + i) as u8).collect::<Vec<_>>()).collect();
        let leaves = records.iter().map(|record| leaf(record)).collect();
        (records, leaves)
    }

    fn streamed(leaves: &[Digest]) -> MerkleTree {
        let mut tree = MerkleTree::new();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree
    }

    #[test]
    fn leaves_hashed_together_make_the_tree_of_leaves_that_come_one_by_one() {
        let (records, leaves) = records(2 * HASHED_TOGETHER + 90);
        let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
        for before in (0..40).chain([HASHED_TOGETHER - 1, HASHED_TOGETHER]) {
            for count in (0..40).chain([64, 65, HASHED_TOGETHER - 1, HASHED_TOGETHER, HASHED_TOGETHER + 50]) {
                let mut tree = streamed(&leaves[..before]);
                tree.extend(&records[before..before + count]);
                let expected = streamed(&leaves[..before + count]);
                assert_eq!(tree.count(), expected.count());
                assert_eq!(tree.root(), expected.root(), "{count} leaves behind {before}");
                // And so do the leaves that follow.
                tree.push(leaves[0]);
                tree.extend(&records[..3]);
                let mut expected = expected;
                for i in [0, 0, 1, 2] {
                    expected.push(leaves[i]);
                }
                assert_eq!(tree.root(), expected.root(), "{count} leaves behind {before}, and 4");
            }
        }
    }

    #[test]
    fn gathered_records_make_the_tree_of_leaves_that_come_one_by_one() {
        let (records, leaves) = records(2 * HASHED_TOGETHER + 3);
        let large = std::vec![7; GATHERED_SIZE_MAX / 2];
        let mut tree = RecordTree::new();
        for n in 0..=records.len() {
            tree.clear();
            records[..n].iter().for_each(|record| tree.push(record));
            assert_eq!(tree.count(), n as u64);
            assert_eq!(tree.root(), streamed(&leaves[..n]).root(), "{n} records");
        }
        // Asked for the root in between, and with so many bytes that fewer records are gathered.
        let mut expected = streamed(&leaves);
        for _ in 0..7 {
            tree.push(&large);
            expected.push(leaf(&large));
            tree.push(&records[5]);
            expected.push(leaves[5]);
            assert_eq!(tree.count(), expected.count());
            assert_eq!(tree.clone().root(), expected.root());
        }
        assert_eq!(tree.root(), expected.root());
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
