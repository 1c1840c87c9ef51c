//! The 72 event types, by number and by name.

use core::fmt;
use core::str::FromStr;

/// An event type's number. Numbers that have no name here are kept and passed on, never dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(pub u32);

/// An event type's number without its lowest byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Category(pub u32);

impl Category {
    /// Operations on files.
    pub const FILESYSTEM: Self = Self(0x0100);
    /// Operations on the graph.
    pub const GRAPH: Self = Self(0x0200);
    /// Operations on vectors.
    pub const VECTOR: Self = Self(0x0300);
    /// What AI agents do.
    pub const AGENT: Self = Self(0x0400);
    /// The file system as a whole.
    pub const SYSTEM: Self = Self(0x0500);
    /// Transactions, causes, intents.
    pub const SEMANTIC: Self = Self(0x0600);
    /// The journal's own records.
    pub const JOURNAL: Self = Self(0x0700);
    /// Metrics, logs, traces.
    pub const OBSERVABILITY: Self = Self(0x0800);

    /// The category's name, where it has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::FILESYSTEM => "Filesystem",
            Self::GRAPH => "Graph",
            Self::VECTOR => "Vector",
            Self::AGENT => "Agent",
            Self::SYSTEM => "System",
            Self::SEMANTIC => "Semantic",
            Self::JOURNAL => "Journal",
            Self::OBSERVABILITY => "Observability",
            _ => return None,
        })
    }
}

macro_rules! event_types {
    ($( $number:literal $constant:ident $name:literal; )*) => {
        impl EventType {
            $(
                #[doc = concat!("`", $name, "`, ", stringify!($number), ".")]
                pub const $constant: Self = Self($number);
            )*

            /// Every type that has a name, in the order of the numbers.
            pub const ALL: [Self; 72] = [$( Self::$constant ),*];

            /// The type's JSON name, where it has one.
            pub const fn name(self) -> Option<&'static str> {
                Some(match self.0 {
                    $( $number => $name, )*
                    _ => return None,
                })
            }

            /// The type with this JSON name.
            pub fn from_name(name: &str) -> Option<Self> {
                Some(match name {
                    $( $name => Self::$constant, )*
                    _ => return None,
                })
            }
        }
    };
}

event_types! {
    0x0101 FILESYSTEM_CREATE "FilesystemCreate";
    0x0102 FILESYSTEM_DELETE "FilesystemDelete";
    0x0103 FILESYSTEM_READ "FilesystemRead";
    0x0104 FILESYSTEM_WRITE "FilesystemWrite";
    0x0105 FILESYSTEM_RENAME "FilesystemRename";
    0x0106 FILESYSTEM_CHMOD "FilesystemChmod";
    0x0107 FILESYSTEM_CHOWN "FilesystemChown";
    0x0108 FILESYSTEM_TRUNCATE "FilesystemTruncate";
    0x0109 FILESYSTEM_MKDIR "FilesystemMkdir";
    0x010A FILESYSTEM_RMDIR "FilesystemRmdir";
    0x010B FILESYSTEM_SYMLINK "FilesystemSymlink";
    0x010C FILESYSTEM_HARDLINK "FilesystemHardlink";
    0x0201 GRAPH_NODE_CREATE "GraphNodeCreate";
    0x0202 GRAPH_NODE_DELETE "GraphNodeDelete";
    0x0203 GRAPH_NODE_UPDATE "GraphNodeUpdate";
    0x0204 GRAPH_EDGE_CREATE "GraphEdgeCreate";
    0x0205 GRAPH_EDGE_DELETE "GraphEdgeDelete";
    0x0206 GRAPH_EDGE_UPDATE "GraphEdgeUpdate";
    0x0207 GRAPH_PROPERTY_SET "GraphPropertySet";
    0x0208 GRAPH_PROPERTY_DELETE "GraphPropertyDelete";
    0x0209 GRAPH_TRAVERSE "GraphTraverse";
    0x020A GRAPH_QUERY "GraphQuery";
    0x0301 VECTOR_CREATE "VectorCreate";
    0x0302 VECTOR_DELETE "VectorDelete";
    0x0303 VECTOR_UPDATE "VectorUpdate";
    0x0304 VECTOR_SEARCH "VectorSearch";
    0x0305 VECTOR_INDEX "VectorIndex";
    0x0306 VECTOR_SIMILARITY "VectorSimilarity";
    0x0307 VECTOR_CLUSTER "VectorCluster";
    0x0308 VECTOR_EMBED "VectorEmbed";
    0x0401 AGENT_QUERY "AgentQuery";
    0x0402 AGENT_REASONING "AgentReasoning";
    0x0403 AGENT_DECISION "AgentDecision";
    0x0404 AGENT_ORCHESTRATION "AgentOrchestration";
    0x0405 AGENT_LEARNING "AgentLearning";
    0x0406 AGENT_INTERACTION "AgentInteraction";
    0x0501 SYSTEM_MOUNT "SystemMount";
    0x0502 SYSTEM_UNMOUNT "SystemUnmount";
    0x0503 SYSTEM_SYNC "SystemSync";
    0x0504 SYSTEM_CHECKPOINT "SystemCheckpoint";
    0x0505 SYSTEM_RECOVERY "SystemRecovery";
    0x0506 SYSTEM_OPTIMIZATION "SystemOptimization";
    0x0601 SEMANTIC_TRANSACTION_BEGIN "SemanticTransactionBegin";
    0x0602 SEMANTIC_TRANSACTION_END "SemanticTransactionEnd";
    0x0603 SEMANTIC_CAUSALITY_LINK "SemanticCausalityLink";
    0x0604 SEMANTIC_INTENT_CAPTURE "SemanticIntentCapture";
    0x0605 SEMANTIC_CONTEXT_SWITCH "SemanticContextSwitch";
    0x0606 SEMANTIC_LINK "SemanticLink";
    0x0701 JOURNAL_SEGMENT_OPEN "JournalSegmentOpen";
    0x0702 JOURNAL_COMMIT "JournalCommit";
    0x0703 JOURNAL_SEGMENT_SEAL "JournalSegmentSeal";
    0x0704 JOURNAL_RECOVERED "JournalRecovered";
    0x0705 JOURNAL_CHECKPOINT "JournalCheckpoint";
    0x0706 JOURNAL_KERNEL_SYNC "JournalKernelSync";
    0x0707 JOURNAL_BOUNDARY_BEGIN "JournalBoundaryBegin";
    0x0708 JOURNAL_BOUNDARY_PREPARE "JournalBoundaryPrepare";
    0x0709 JOURNAL_BOUNDARY_COMMIT "JournalBoundaryCommit";
    0x070A JOURNAL_BOUNDARY_ABORT "JournalBoundaryAbort";
    0x070B JOURNAL_GAP "JournalGap";
    0x070C JOURNAL_COMPACTED "JournalCompacted";
    0x0801 OBSERVABILITY_METRIC_COLLECTED "ObservabilityMetricCollected";
    0x0802 OBSERVABILITY_LOG_GENERATED "ObservabilityLogGenerated";
    0x0803 OBSERVABILITY_TRACE_SPAN_START "ObservabilityTraceSpanStart";
    0x0804 OBSERVABILITY_TRACE_SPAN_END "ObservabilityTraceSpanEnd";
    0x0805 OBSERVABILITY_ALERT_TRIGGERED "ObservabilityAlertTriggered";
    0x0806 OBSERVABILITY_HEALTH_CHECK "ObservabilityHealthCheck";
    0x0807 OBSERVABILITY_PERFORMANCE_COUNTER "ObservabilityPerformanceCounter";
    0x0808 OBSERVABILITY_ERROR_REPORTED "ObservabilityErrorReported";
    0x0809 OBSERVABILITY_AUDIT_EVENT "ObservabilityAuditEvent";
    0x080A OBSERVABILITY_SYSTEM_STATUS "ObservabilitySystemStatus";
    0x080B OBSERVABILITY_RESOURCE_USAGE "ObservabilityResourceUsage";
    0x080C OBSERVABILITY_THRESHOLD "ObservabilityThreshold";
}

impl EventType {
    /// The category the type's number lies in, whether the type has a name or not.
    pub const fn category(self) -> Category {
        Category(self.0 & !0xFF)
    }

    /// Whether the type belongs to the journal itself: such records can't be emitted.
    pub const fn is_journal(self) -> bool {
        self.category().0 == Category::JOURNAL.0
    }
}

/// The name, or the number as `0x` and at least four digits.
impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => {
                let mut text = *b"0x00000000";
                let count = (8 - self.0.leading_zeros() as usize / 4).max(4);
                for (place, digit) in text[2..].iter_mut().take(count).enumerate() {
                    let value = (self.0 >> (4 * (count - 1 - place))) & 0xF;
                    *digit = b"0123456789abcdef"[value as usize];
                }
                // Digits are ASCII, and there are eight at most.
                f.pad(core::str::from_utf8(&text[..2 + count]).unwrap_or_default())
            }
        }
    }
}

/// The text is neither a type's name nor a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither the name of an event type nor a number such as 0x0101")]
pub struct UnknownEventType;

/// What [`fmt::Display`] prints, or a decimal number.
impl FromStr for EventType {
    type Err = UnknownEventType;

    fn from_str(text: &str) -> Result<Self, UnknownEventType> {
        if let Some(known) = Self::from_name(text) {
            return Ok(known);
        }
        let number = match text.strip_prefix("0x") {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => text.parse(),
        };
        number.map(Self).map_err(|_| UnknownEventType)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_category_has_the_types_that_the_kernel_numbers() {
        for (category, count) in [
            (Category::FILESYSTEM, 12),
            (Category::GRAPH, 10),
            (Category::VECTOR, 8),
            (Category::AGENT, 6),
            (Category::SYSTEM, 6),
            (Category::SEMANTIC, 6),
            (Category::JOURNAL, 12),
            (Category::OBSERVABILITY, 12),
        ] {
            let numbers = EventType::ALL.iter().filter(|t| t.category() == category).map(|t| t.0);
            assert!(numbers.eq(category.0 + 1..=category.0 + count), "{category:?}");
        }
    }

    #[test]
    fn names_and_numbers_round_trip_known_or_not() {
        for event_type in
            EventType::ALL.into_iter().chain([EventType(0x09FF), EventType(7), EventType(u32::MAX)])
        {
            assert_eq!(event_type.to_string().parse(), Ok(event_type));
        }
        assert_eq!("FilesystemNope".parse::<EventType>(), Err(UnknownEventType));
    }
}
