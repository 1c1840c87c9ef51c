//! Sets of event types: a bit for each type that has a name, and one for all others.

use semj_format::EventType;

/// A set of event types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeSet(u128);

/// The bit of every type without a name.
const OTHERS: u32 = 72;
/// The first bit and the number of types of each category, 0x0100 the first.
const CATEGORIES: [(u32, u32); 8] =
    [(0, 12), (12, 10), (22, 8), (30, 6), (36, 6), (42, 6), (48, 12), (60, 12)];

#[inline]
fn bit(event_type: EventType) -> u32 {
    let category = (event_type.0 >> 8).wrapping_sub(1) as usize;
    let place = (event_type.0 & 0xFF).wrapping_sub(1);
    match CATEGORIES.get(category) {
        Some((first, count)) if place < *count => first + place,
        _ => OTHERS,
    }
}

impl TypeSet {
    /// Bytes on disk.
    pub const SIZE: usize = 10;
    /// No type.
    pub const EMPTY: Self = Self(0);
    /// The types of the journal's own records; the bit of all others too, because one may be unknown here.
    pub const OWN: Self = Self(0xFFF << 48 | 1 << OTHERS);

    /// Adds a type.
    #[inline]
    pub fn insert(&mut self, event_type: EventType) {
        self.0 |= 1 << bit(event_type);
    }

    /// Whether the set has this type; of a type without a name, whether it has any such.
    #[inline]
    pub fn contains(self, event_type: EventType) -> bool {
        self.0 >> bit(event_type) & 1 != 0
    }

    /// Whether the sets have a type in common.
    #[inline]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The types that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The types that are in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set on disk.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes.copy_from_slice(&self.0.to_le_bytes()[..Self::SIZE]);
        bytes
    }

    /// The set from its bytes. Bits that mean nothing are kept: they can only make sets meet.
    #[inline]
    pub fn decode(bytes: [u8; Self::SIZE]) -> Self {
        let mut wide = [0; 16];
        wide[..Self::SIZE].copy_from_slice(&bytes);
        Self(u128::from_le_bytes(wide))
    }
}

impl FromIterator<EventType> for TypeSet {
    fn from_iter<I: IntoIterator<Item = EventType>>(types: I) -> Self {
        let mut set = Self::EMPTY;
        types.into_iter().for_each(|event_type| set.insert(event_type));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_the_bit_of_its_place_among_all() {
        for (place, event_type) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(bit(event_type), place as u32, "{event_type}");
        }
        for other in [0, 0x0100, 0x010D, 0x0407, 0x0900, 0x0901, 0x0001, 0x01FF, u32::MAX] {
            assert_eq!(bit(EventType(other)), OTHERS, "{other:#x}");
        }
    }

    #[test]
    fn sets_round_trip_and_own_types_are_the_journals() {
        let set: TypeSet =
            [EventType::JOURNAL_GAP, EventType(7), EventType::FILESYSTEM_READ].into_iter().collect();
        assert_eq!(TypeSet::decode(set.encode()), set);
        assert!(set.contains(EventType(8)) && !set.contains(EventType::FILESYSTEM_WRITE));
        for event_type in EventType::ALL {
            assert_eq!(TypeSet::OWN.contains(event_type), event_type.is_journal(), "{event_type}");
        }
    }
}
