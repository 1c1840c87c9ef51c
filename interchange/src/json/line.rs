//! What stands in a line, field by field, and how it is read.

mod convert;

pub(super) use convert::tags_json;

use std::borrow::Cow;
use std::marker::PhantomData;

use semj_format::EventType;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A type by its name or its number.
#[derive(Clone, Copy)]
pub(super) struct TypeField(pub(super) EventType);

impl<'de> Deserialize<'de> for TypeField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;
        impl Visitor<'_> for NameOrNumber {
            type Value = TypeField;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of an event type or its number")
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<TypeField, E> {
                name.parse().map(TypeField).map_err(|_| E::invalid_value(de::Unexpected::Str(name), &self))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<TypeField, E> {
                let number = u32::try_from(number)
                    .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(number), &self))?;
                Ok(TypeField(EventType(number)))
            }
        }
        deserializer.deserialize_any(NameOrNumber)
    }
}

impl Serialize for TypeField {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.name() {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_u32(self.0.0),
        }
    }
}

/// The line as it stands; what is read and what is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line<'a> {
    #[serde(default)]
    event_id: u64,
    event_type: TypeField,
    #[serde(default)]
    event_subtype: u32,
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    ktime_ns: Option<i64>,
    /// In its place.
    #[serde(default, deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    wall_clock_ns: Option<i64>,
    #[serde(default)]
    sequence: Option<u64>,
    #[serde(default)]
    cpu_id: u32,
    #[serde(default)]
    process_id: u32,
    #[serde(default)]
    global_sequence: Option<u64>,
    #[serde(default)]
    local_sequence: Option<u64>,
    #[serde(default = "defaults::event_flags")]
    event_flags: u32,
    #[serde(default = "defaults::event_priority")]
    event_priority: u32,
    #[serde(default)]
    compression_type: u32,
    #[serde(default)]
    encryption_type: u32,
    #[serde(default)]
    parent_event_id: u64,
    #[serde(default)]
    root_cause_event_id: Option<u64>,
    #[serde(default = "defaults::agent_visibility_mask")]
    agent_visibility_mask: u64,
    #[serde(default = "defaults::agent_relevance_score")]
    agent_relevance_score: u32,
    #[serde(default = "defaults::replay_priority")]
    replay_priority: u32,
    #[serde(borrow, default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    context: Option<ContextLine<'a>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    context_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    payload: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "objects", skip_serializing_if = "Vec::is_empty")]
    causality_links: Vec<LinkLine<'a>>,
}

/// What the kernel writes where nothing else was asked for.
mod defaults {
    use semj_format::EventHeader;
    const EVENT: EventHeader = EventHeader::new(0);

    pub(super) fn event_flags() -> u32 {
        EVENT.event_flags
    }
    pub(super) fn event_priority() -> u32 {
        EVENT.event_priority
    }
    pub(super) fn agent_visibility_mask() -> u64 {
        EVENT.agent_visibility_mask
    }
    pub(super) fn agent_relevance_score() -> u32 {
        EVENT.agent_relevance_score
    }
    pub(super) fn replay_priority() -> u32 {
        EVENT.replay_priority
    }
}

/// The context as it stands. Fields that are not set are left out.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ContextLine<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    transaction_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    session_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    causality_chain_id: u64,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    path_base64: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_zero")]
    inode_number: u64,
    #[serde(skip_serializing_if = "is_zero")]
    file_type: u32,
    #[serde(skip_serializing_if = "is_zero")]
    graph_node_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    graph_edge_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    graph_operation_type: u32,
    #[serde(skip_serializing_if = "is_zero")]
    vector_id: u64,
    #[serde(skip_serializing_if = "is_zero")]
    vector_dimensions: u32,
    #[serde(skip_serializing_if = "is_zero")]
    vector_element_type: u32,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    agent_id: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    agent_id_base64: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    agent_intent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    agent_intent_base64: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_zero")]
    agent_confidence: u32,
    #[serde(skip_serializing_if = "is_zero")]
    system_load: u32,
    #[serde(skip_serializing_if = "is_zero")]
    memory_usage: u64,
    #[serde(skip_serializing_if = "is_zero")]
    io_pressure: u32,
    /// An object, or a string that is taken for the text itself.
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    semantic_tags: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    semantic_tags_base64: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    semantic_intent: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    semantic_intent_base64: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_zero")]
    semantic_confidence: u32,
    /// Later fields of the compact form, as they stand there.
    #[serde(skip_serializing_if = "is_zero")]
    unknown_bits: u32,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    unknown_fields_base64: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkLine<'a> {
    cause_event_id: u64,
    effect_event_id: u64,
    #[serde(default)]
    causality_type: u32,
    #[serde(default)]
    causality_strength: u32,
    #[serde(default)]
    causality_delay_ns: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    causality_description: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    causality_description_base64: Option<Cow<'a, str>>,
}

/// What has to be a JSON object: fields are known by their names, and an array of their values would be taken for one too.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.map(|Object(fields)| fields))
}

fn objects<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Vec::deserialize(deserializer)?.into_iter().map(|Object(fields)| fields).collect())
}

/// A field that is given: `null` is JSON like any other, and not the same as nothing.
fn given<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// A number that is given, which `null` is not.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    i64::deserialize(deserializer).map(Some)
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
