//! The event header, 132 bytes, which every record begins with; flags, priorities and causality links.

use core::fmt;

use crate::layout::on_disk;
use crate::limits;

/// The only `event_version` there is.
pub const EVENT_VERSION: u32 = 1;
/// Offset of `checksum` inside the event header.
pub const CHECKSUM_OFFSET: usize = 84;
/// Offset of `event_size`; the sizes of the parts and the version follow.
pub(crate) const EVENT_SIZE_OFFSET: usize = 64;
/// Offset of `causality_link_count`.
pub(crate) const LINK_COUNT_OFFSET: usize = 96;

on_disk! {
    /// The header's fields, as the kernel defines them.
    pub struct EventHeader [132] {
        /// The event's number in the journal; 0 for the journal's own records.
        0 event_id: u64,
        /// See [`crate::EventType`].
        8 event_type: u32,
        /// The emitter's own refinement of the type; in the journal's own records the body's layout version.
        12 event_subtype: u32,
        /// Nanoseconds of CLOCK_MONOTONIC.
        16 ktime_ns: i64,
        /// The timestamp's tie-breaker.
        24 sequence: u64,
        /// The processor it happened on.
        32 cpu_id: u32,
        /// The process that caused it.
        36 process_id: u32,
        /// Position among all events.
        40 global_sequence: u64,
        /// Position among the events of its source.
        48 local_sequence: u64,
        /// See [`EventFlags`].
        56 event_flags: u32,
        /// See [`Priority`].
        60 event_priority: u32,
        /// Bytes of the whole record: 132 + context + payload + metadata + 160 × links.
        64 event_size: u32,
        /// Bytes of context: 0 none, 5,280 the fixed form, anything else the compact form.
        68 context_size: u32,
        /// Bytes of payload.
        72 payload_size: u32,
        /// Bytes of metadata.
        76 metadata_size: u32,
        /// [`EVENT_VERSION`].
        80 event_version: u32,
        /// The kernel CRC-32 of the whole record with this field zero.
        84 checksum: u32,
        /// How the emitter compressed the payload: 0 none, 1 zlib, 2 LZ4, 3 zstd, 4 snappy.
        88 compression_type: u32,
        /// How the emitter encrypted the payload: 0 not at all.
        92 encryption_type: u32,
        /// Causality links behind the metadata.
        96 causality_link_count: u32,
        /// The event that led to this one, 0 where there is none.
        100 parent_event_id: u64,
        /// The first event of the causal chain; the event's own id where it is a root.
        108 root_cause_event_id: u64,
        /// A bit for each agent that may see the event.
        116 agent_visibility_mask: u64,
        /// 0 to 100.
        124 agent_relevance_score: u32,
        /// 1 to 5, as [`Priority`].
        128 replay_priority: u32,
    }
}

impl EventHeader {
    /// The kernel's defaults for an event of this type: visible to all agents, normal priority, relevance 50.
    /// Ids, times, sizes and the checksum are zero.
    pub const fn new(event_type: u32) -> Self {
        Self {
            event_id: 0,
            event_type,
            event_subtype: 0,
            ktime_ns: 0,
            sequence: 0,
            cpu_id: 0,
            process_id: 0,
            global_sequence: 0,
            local_sequence: 0,
            event_flags: EventFlags::AGENT_VISIBLE.0,
            event_priority: Priority::NORMAL.0,
            event_size: 0,
            context_size: 0,
            payload_size: 0,
            metadata_size: 0,
            event_version: EVENT_VERSION,
            checksum: 0,
            compression_type: 0,
            encryption_type: 0,
            causality_link_count: 0,
            parent_event_id: 0,
            root_cause_event_id: 0,
            agent_visibility_mask: u64::MAX,
            agent_relevance_score: 50,
            replay_priority: Priority::NORMAL.0,
        }
    }
}

on_disk! {
    /// A causal link between two events.
    pub struct CausalityLink [160] {
        /// The event that caused.
        0 cause_event_id: u64,
        /// The event that was caused.
        8 effect_event_id: u64,
        /// The emitter's own number for the kind of link.
        16 causality_type: u32,
        /// 0 to 100.
        20 causality_strength: u32,
        /// Nanoseconds from cause to effect.
        24 causality_delay_ns: i64,
        /// Text, NUL-terminated and NUL-padded.
        32 causality_description: [u8; 128],
    }
}

const _: () =
    assert!(EventHeader::SIZE == limits::RECORD_SIZE_MIN && CausalityLink::SIZE == limits::LINK_SIZE);

/// The bits of `event_flags`. Bits that have no name here are kept as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventFlags(pub u32);

impl EventFlags {
    /// The operation was atomic.
    pub const ATOMIC: Self = Self(0x01);
    /// The operation belonged to a transaction.
    pub const TRANSACTIONAL: Self = Self(0x02);
    /// The event has causal links.
    pub const CAUSAL: Self = Self(0x04);
    /// Agents may see the event.
    pub const AGENT_VISIBLE: Self = Self(0x08);
    /// Replaying the event gives the same result.
    pub const DETERMINISTIC: Self = Self(0x10);
    /// The payload is compressed.
    pub const COMPRESSED: Self = Self(0x20);
    /// The event is indexed.
    pub const INDEXED: Self = Self(0x40);
    /// The event was replicated.
    pub const REPLICATED: Self = Self(0x80);

    /// The named flags, lowest bit first.
    pub const NAMED: [(Self, &'static str); 8] = [
        (Self::ATOMIC, "ATOMIC"),
        (Self::TRANSACTIONAL, "TRANSACTIONAL"),
        (Self::CAUSAL, "CAUSAL"),
        (Self::AGENT_VISIBLE, "AGENT_VISIBLE"),
        (Self::DETERMINISTIC, "DETERMINISTIC"),
        (Self::COMPRESSED, "COMPRESSED"),
        (Self::INDEXED, "INDEXED"),
        (Self::REPLICATED, "REPLICATED"),
    ];

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of bits.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// An `event_priority`. Smaller is more urgent. Numbers that have no name here are kept as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u32);

impl Priority {
    /// The most urgent.
    pub const CRITICAL: Self = Self(1);
    /// Urgent.
    pub const HIGH: Self = Self(2);
    /// The default.
    pub const NORMAL: Self = Self(3);
    /// Can wait.
    pub const LOW: Self = Self(4);
    /// The least urgent.
    pub const BACKGROUND: Self = Self(5);

    /// The priority's name, where it has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::CRITICAL => "CRITICAL",
            Self::HIGH => "HIGH",
            Self::NORMAL => "NORMAL",
            Self::LOW => "LOW",
            Self::BACKGROUND => "BACKGROUND",
            _ => return None,
        })
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_contained_bit_by_bit_and_priorities_have_their_names() {
        let both = EventFlags::CAUSAL.union(EventFlags::INDEXED);
        assert!(
            both.contains(EventFlags::CAUSAL) && both.contains(EventFlags::INDEXED) && both.contains(both)
        );
        assert!(!EventFlags::CAUSAL.contains(both) && !both.contains(EventFlags::ATOMIC));
        let names: std::vec::Vec<_> = (0..=6).map(|number| Priority(number).name()).collect();
        let expected = ["CRITICAL", "HIGH", "NORMAL", "LOW", "BACKGROUND"].map(Some);
        assert_eq!(names[1..=5], expected);
        assert_eq!((names[0], names[6]), (None, None));
    }

    #[test]
    fn header_round_trips_every_byte() {
        let mut bytes = [0; EventHeader::SIZE];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = i as u8 ^ 0x5A;
        }
        assert_eq!(EventHeader::decode(&bytes).encode(), bytes);
        assert_eq!(crate::layout::load::<u32>(&bytes, CHECKSUM_OFFSET), EventHeader::decode(&bytes).checksum);
    }

    #[test]
    fn link_round_trips_every_byte() {
        let mut bytes = [0; CausalityLink::SIZE];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = i as u8 ^ 0xA5;
        }
        assert_eq!(CausalityLink::decode(&bytes).encode(), bytes);
    }
}
