//! Split-block Bloom filters: sets of keys that never deny what was put in.
//!
//! A filter is a row of *units* of 32 bytes. A key has one unit, and in it one bit in each of four 64-bit words. So a
//! look-up touches one cache line. How many bits there are for each key is the builder's choice: with 10, about one key in 70
//! that was not put in is taken for one that was; with 7, one in 25.

use crate::key::Key;

/// Bytes of a unit.
pub const UNIT_SIZE: usize = 32;
/// 32 bytes of a filter.
pub type Unit = [u8; UNIT_SIZE];

/// The place of a key's unit among so many.
#[inline]
const fn place(key: Key, units: usize) -> usize {
    (((key.0 >> 32) * units as u64) >> 32) as usize
}

/// The bits of a key in its unit.
#[inline]
fn bits(key: Key) -> [u64; 4] {
    [0, 6, 12, 18].map(|shift| 1 << (key.0 >> shift & 63))
}

#[inline]
fn words(unit: &Unit) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(unit.as_chunks().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Puts a key in. A filter without units takes none.
#[inline]
pub fn insert(filter: &mut [Unit], key: Key) {
    let place = place(key, filter.len());
    if let Some(unit) = filter.get_mut(place) {
        let set = words(unit);
        for ((bytes, set), bit) in unit.as_chunks_mut().0.iter_mut().zip(set).zip(bits(key)) {
            *bytes = (set | bit).to_le_bytes();
        }
    }
}

/// Whether a key may have been put in. A filter without units does not know.
#[inline]
pub fn may_contain(filter: &[Unit], key: Key) -> bool {
    match filter.get(place(key, filter.len())) {
        Some(unit) => words(unit).into_iter().zip(bits(key)).all(|(set, bit)| set & bit != 0),
        None => true,
    }
}

/// A filter of half as many units, which has to be an even number, with the same keys.
pub fn fold(filter: &mut Vec<Unit>) {
    // A key's unit follows from the highest bits of its hash, so neighbours come together.
    let folded = filter.as_chunks::<2>().0.iter().map(|[left, right]| {
        let mut unit = *left;
        unit.iter_mut().zip(right).for_each(|(byte, other)| *byte |= other);
        unit
    });
    *filter = folded.collect();
}

/// How many of a filter's bits are set, of 1,000.
pub fn density(filter: &[Unit]) -> u64 {
    let set: u64 = filter.iter().flat_map(words).map(|word| u64::from(word.count_ones())).sum();
    set * 1000 / (filter.len() as u64 * UNIT_SIZE as u64 * 8).max(1)
}

#[cfg(test)]
mod tests {
    use quickcheck::quickcheck;

    use super::*;
    use crate::key::Kind;

    quickcheck! {
        fn what_was_put_in_is_never_denied_folded_or_not(keys: Vec<u64>, log: u8) -> bool {
            let mut filter = vec![[0; UNIT_SIZE]; 1 << (log % 8)];
            keys.iter().for_each(|key| insert(&mut filter, Key(*key)));
            loop {
                if !keys.iter().all(|key| may_contain(&filter, Key(*key))) {
                    return false;
                }
                if filter.len() == 1 {
                    return true;
                }
                fold(&mut filter);
            }
        }
    }

    #[test]
    fn a_folded_filter_is_the_one_that_was_made_so_small() {
        let keys = (0..500).map(|n| Key::number(Kind::Inode, n));
        let (mut large, mut small) = (vec![[0; UNIT_SIZE]; 64], vec![[0; UNIT_SIZE]; 16]);
        keys.for_each(|key| {
            insert(&mut large, key);
            insert(&mut small, key);
        });
        fold(&mut large);
        fold(&mut large);
        assert_eq!(large, small);
    }

    #[test]
    fn few_keys_are_taken_for_others() {
        // Keys for each unit, and how many of 10,000 others may be taken for one of them.
        for (keys, wrong_max) in [(25, 250), (37, 650)] {
            let mut filter = vec![[0; UNIT_SIZE]; 6];
            (0..keys * 6).for_each(|n| insert(&mut filter, Key::number(Kind::Inode, n)));
            let wrong =
                (1_000_000..1_010_000).filter(|n| may_contain(&filter, Key::number(Kind::Inode, *n))).count();
            assert!(wrong < wrong_max, "{wrong} of 10,000 with {keys} keys in a unit");
        }
    }

    #[test]
    fn a_filter_without_units_denies_nothing() {
        insert(&mut [], Key(1));
        assert!(may_contain(&[], Key(1)));
        assert_eq!((density(&[]), density(&[[0xFF; UNIT_SIZE]])), (0, 1000));
    }
}
