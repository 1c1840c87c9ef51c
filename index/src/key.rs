//! Keys: what a query looks for in a filter, as 64-bit hashes.
//!
//! Hashes are FNV-1a for texts and nothing for numbers, and then SplitMix64's last steps, which spread what differs in
//! one bit over all of them. FNV-1a goes byte by byte, so that the hashes of all prefixes of a path come from one pass.

/// What a key is of. The number is part of its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A path or a directory above it, as a text that begins with `/` and has no empty component.
    Prefix = 1,
    /// A component of a path.
    Component = 2,
    /// An agent's id.
    Agent = 3,
    /// A transaction's number.
    Transaction = 4,
    /// A file's inode number.
    Inode = 5,
    /// A process's number.
    Process = 6,
    /// An event that another one names as its parent, or as the cause in a causality link.
    Cause = 7,
}

/// A hash of something that an event speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(pub u64);

const FNV_BASIS: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline(always)]
const fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(FNV_PRIME)
}

#[inline(always)]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Key {
    /// The key of a number.
    #[inline]
    pub const fn number(kind: Kind, number: u64) -> Self {
        Self(mix(number.wrapping_add(GOLDEN.wrapping_mul(kind as u64))))
    }

    /// The key of a text.
    #[inline]
    pub fn text(kind: Kind, text: &[u8]) -> Self {
        Self(mix(text.iter().fold(begin(kind), |hash, byte| step(hash, *byte))))
    }

    /// The keys of a path, component by component: the prefix that ends with it, and the component itself.
    ///
    /// Slashes that follow one another are one, a slash at the end is none, and `a/b` has the keys of `/a/b`.
    #[inline]
    pub fn of_path(path: &[u8], mut give: impl FnMut(Self)) {
        let mut prefix = begin(Kind::Prefix);
        let mut component = begin(Kind::Component);
        let mut is_inside = false;
        for &byte in path {
            if byte == b'/' {
                if is_inside {
                    give(Self(mix(prefix)));
                    give(Self(mix(component)));
                    is_inside = false;
                }
                continue;
            }
            if !is_inside {
                prefix = step(prefix, b'/');
                component = begin(Kind::Component);
                is_inside = true;
            }
            prefix = step(prefix, byte);
            component = step(component, byte);
        }
        if is_inside {
            give(Self(mix(prefix)));
            give(Self(mix(component)));
        }
    }
}

#[inline(always)]
const fn begin(kind: Kind) -> u64 {
    step(FNV_BASIS, kind as u8)
}

/// The components of a path: what stands between slashes and is not empty.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;

    #[test]
    fn keys_have_the_values_of_the_specification() {
        assert_eq!(Key::text(Kind::Prefix, b"/etc/motd").0, 0x9519_BD4B_931B_8D79);
        assert_eq!(Key::text(Kind::Component, b"motd").0, 0x4289_7EFE_714E_CFD2);
        assert_eq!(Key::number(Kind::Inode, 4711).0, 0xFDA8_E4AA_0049_96AA);
    }

    quickcheck! {
        fn the_keys_of_a_path_are_those_of_its_prefixes_and_components(path: Vec<u8>) -> bool {
            // Few different bytes, so that slashes are common.
            let path: Vec<u8> = path.iter().map(|byte| b"/ab."[usize::from(byte % 4)]).collect();
            let mut expected = Vec::new();
            let mut prefix = Vec::new();
            for component in components(&path) {
                prefix.push(b'/');
                prefix.extend_from_slice(component);
                expected.push(Key::text(Kind::Prefix, &prefix));
                expected.push(Key::text(Kind::Component, component));
            }
            let mut keys = Vec::new();
            Key::of_path(&path, |key| keys.push(key));
            keys == expected
        }
    }
}
