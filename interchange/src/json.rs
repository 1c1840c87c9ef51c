//! Events as JSON objects, one a line.
//!
//! Fields have the format's names. A line carries every header field but those that follow from the rest (the
//! sizes, the link count, the version, the checksum); in what is read all but `event_type` and `ktime_ns` may
//! be left out and are the kernel's defaults then, and a date may stand for the time
//! ([`JsonEvent::parse_dated`], [`write_dated_event`]). An `event_id` that is 0 or left out is the journal's to give; sequences and a
//! root cause that are left out are the event's own id.
//!
//! A payload is JSON and stands in the record as the text that it had in the line. One that is not JSON, or
//! has line breaks, is `payload_base64`; a text that is not UTF-8 is `path_base64` and so on. A context whose
//! bytes are none, or more than its fields say, is `context_base64`, so that an export drops nothing.

use std::borrow::Cow;
use std::io::{self, Write};
use std::marker::PhantomData;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semj_format::context::FIXED_SIZE;
use semj_format::control;
use semj_format::{
    CausalityLink, Commit, Compacted, Context, Draft, DraftContext, EventHeader, EventType, Gap, Record,
    Recovered, SegmentOpen, SegmentSeal,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a line is no event.
#[derive(Debug, Error)]
pub enum JsonError {
    /// Not JSON, a field that is missing or not known, a value of another type or out of its range.
    #[error("{}", refusal(field.as_deref(), source))]
    Json {
        /// The field whose value is refused, where it is one.
        field: Option<String>,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A field that should be base64.
    #[error("{field}: {source}")]
    Base64 {
        /// The field's name.
        field: &'static str,
        /// What is wrong with it.
        source: base64::DecodeError,
    },
    /// A field given in both its forms.
    #[error("both {field} and {field}_base64 are given")]
    Twice {
        /// The field's name.
        field: &'static str,
    },
    /// Neither time is given.
    #[error("missing field `ktime_ns`, or `wall_clock_ns` in its place")]
    NoTime,
    /// Both are.
    #[error("both ktime_ns and wall_clock_ns are given")]
    TwoTimes,
    /// A date where there is nothing to tell it by.
    #[error("wall_clock_ns: there is no clock here that tells what ktime_ns it is")]
    NoClock,
    /// A text that is too long for its field.
    #[error("{field} has {length} bytes, its limit is {limit}")]
    TooLong {
        /// The field's name.
        field: &'static str,
        /// Bytes it has.
        length: usize,
        /// Bytes it may have.
        limit: usize,
    },
}

/// One line, parsed. [`JsonEvent::draft`] makes a record of it.
#[derive(Debug)]
pub struct JsonEvent<'a> {
    header: EventHeader,
    context: ParsedContext<'a>,
    payload: Cow<'a, [u8]>,
    metadata: Cow<'a, [u8]>,
    links: Vec<CausalityLink>,
}

#[derive(Debug)]
enum ParsedContext<'a> {
    None,
    Fields(Box<OwnedContext<'a>>),
    Encoded(Vec<u8>),
}

#[derive(Debug)]
struct OwnedContext<'a> {
    numbers: Context<'static>,
    path: Cow<'a, [u8]>,
    agent_id: Cow<'a, [u8]>,
    agent_intent: Cow<'a, [u8]>,
    semantic_tags: Cow<'a, [u8]>,
    semantic_intent: Cow<'a, [u8]>,
    unknown_fields: Vec<u8>,
}

impl<'a> JsonEvent<'a> {
    /// Parses one line.
    ///
    /// # Errors
    ///
    /// See [`JsonError`].
    pub fn parse(line: &'a [u8]) -> Result<Self, JsonError> {
        Self::parse_at(line, None)
    }

    /// The same of a line that may have `wall_clock_ns`, nanoseconds since 1970, in place of `ktime_ns`. `zero_ns` is what the wall
    /// clock showed when the monotonic one showed 0, or would have shown.
    ///
    /// # Errors
    ///
    /// See [`JsonError`].
    pub fn parse_dated(line: &'a [u8], zero_ns: i64) -> Result<Self, JsonError> {
        Self::parse_at(line, Some(zero_ns))
    }

    fn parse_at(line: &'a [u8], zero_ns: Option<i64>) -> Result<Self, JsonError> {
        match serde_json::from_slice::<Object<Line<'a>>>(line) {
            Ok(Object(line)) => line.into_event(zero_ns),
            Err(source) => Err(JsonError::Json { field: culprit::in_line(line), source }),
        }
    }

    /// The record to be.
    pub fn draft(&self) -> Draft<'_> {
        let context = match &self.context {
            ParsedContext::None => DraftContext::None,
            ParsedContext::Encoded(bytes) => DraftContext::Encoded(bytes),
            ParsedContext::Fields(owned) => DraftContext::Fields(Context {
                path: &owned.path,
                agent_id: &owned.agent_id,
                agent_intent: &owned.agent_intent,
                semantic_tags: &owned.semantic_tags,
                semantic_intent: &owned.semantic_intent,
                unknown_fields: &owned.unknown_fields,
                ..owned.numbers
            }),
        };
        Draft {
            header: self.header,
            context,
            payload: &self.payload,
            metadata: &self.metadata,
            links: &self.links,
        }
    }
}

/// What serde_json says, with the field, and without its line number: it only sees one line.
fn refusal(field: Option<&str>, source: &serde_json::Error) -> String {
    let text = source.to_string();
    let place = format!(" at line {} column {}", source.line(), source.column());
    let text = match text.strip_suffix(&place) {
        Some(what) => format!("{what} (column {})", source.column()),
        None => text,
    };
    match field {
        // A field that is missing, not known or given twice is named in the text.
        Some(field) if !text.contains(" field `") => format!("{field}: {text}"),
        _ => text,
    }
}

/// Finds the field that makes a line be refused, because serde_json names the place, but not the field.
///
/// Each field is tried by itself, beside those that may not be left out. Only a line that is refused pays.
mod culprit {
    use std::collections::BTreeMap;

    use serde_json::value::RawValue;

    use super::{ContextLine, Line, LinkLine, Object};

    /// The field of a line, or of the context or the link in it.
    pub(super) fn in_line(line: &[u8]) -> Option<String> {
        let line = std::str::from_utf8(line).ok()?;
        let is_good = |line: &str| serde_json::from_str::<Object<Line<'_>>>(line).is_ok();
        let (field, value) = in_object(line, &["event_type", "ktime_ns"], is_good)?;
        let inner = match field.as_str() {
            "context" => in_context(value),
            "causality_links" => in_links(value),
            _ => None,
        };
        Some(inner.unwrap_or(field))
    }

    fn in_context(value: &str) -> Option<String> {
        let is_good = |context: &str| serde_json::from_str::<Object<ContextLine<'_>>>(context).is_ok();
        let (field, _) = in_object(value, &[], is_good)?;
        Some(format!("context.{field}"))
    }

    fn in_links(value: &str) -> Option<String> {
        let links: Vec<&RawValue> = serde_json::from_str(value).ok()?;
        let is_good = |link: &str| serde_json::from_str::<Object<LinkLine<'_>>>(link).is_ok();
        let (i, link) = links.iter().enumerate().find(|(_, link)| !is_good(link.get()))?;
        let required = ["cause_event_id", "effect_event_id"];
        Some(match in_object(link.get(), &required, is_good) {
            Some((field, _)) => format!("causality_links[{i}].{field}"),
            None => format!("causality_links[{i}]"),
        })
    }

    fn in_object<'a>(
        object: &'a str,
        required: &[&str],
        is_good: impl Fn(&str) -> bool,
    ) -> Option<(String, &'a str)> {
        let fields: BTreeMap<String, &'a RawValue> = serde_json::from_str(object).ok()?;
        fields.into_iter().find_map(|(field, value)| {
            let mut alone = format!("{{{}:{value}", serde_json::Value::from(field.as_str()));
            for other in required.iter().filter(|other| **other != field) {
                alone += &format!(",\"{other}\":0");
            }
            alone.push('}');
            (!is_good(&alone)).then_some((field, value.get()))
        })
    }
}

/// A type by its name or its number.
#[derive(Clone, Copy)]
struct TypeField(EventType);

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
struct Line<'a> {
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
struct ContextLine<'a> {
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
struct LinkLine<'a> {
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
struct Object<T>(T);

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

impl<'a> Line<'a> {
    fn into_event(self, zero_ns: Option<i64>) -> Result<JsonEvent<'a>, JsonError> {
        let ktime_ns = match (self.ktime_ns, self.wall_clock_ns) {
            (Some(ktime), None) => ktime,
            (None, Some(wall_clock)) => wall_clock.saturating_sub(zero_ns.ok_or(JsonError::NoClock)?),
            (None, None) => return Err(JsonError::NoTime),
            (Some(_), Some(_)) => return Err(JsonError::TwoTimes),
        };
        let header = EventHeader {
            event_id: self.event_id,
            event_subtype: self.event_subtype,
            ktime_ns,
            sequence: self.sequence.unwrap_or(self.event_id),
            cpu_id: self.cpu_id,
            process_id: self.process_id,
            global_sequence: self.global_sequence.unwrap_or(self.event_id),
            local_sequence: self.local_sequence.unwrap_or(self.event_id),
            event_flags: self.event_flags,
            event_priority: self.event_priority,
            compression_type: self.compression_type,
            encryption_type: self.encryption_type,
            parent_event_id: self.parent_event_id,
            root_cause_event_id: self.root_cause_event_id.unwrap_or(self.event_id),
            agent_visibility_mask: self.agent_visibility_mask,
            agent_relevance_score: self.agent_relevance_score,
            replay_priority: self.replay_priority,
            ..EventHeader::new(self.event_type.0.0)
        };
        Ok(JsonEvent {
            header,
            context: match (self.context, self.context_base64) {
                (Some(_), Some(_)) => return Err(JsonError::Twice { field: "context" }),
                (Some(fields), None) => ParsedContext::Fields(Box::new(fields.into_context()?)),
                (None, Some(base64)) => {
                    ParsedContext::Encoded(either("context", None, Some(base64))?.into_owned())
                }
                (None, None) => ParsedContext::None,
            },
            payload: either("payload", self.payload.map(raw), self.payload_base64)?,
            metadata: either("metadata", self.metadata.map(raw), self.metadata_base64)?,
            links: self.causality_links.into_iter().map(LinkLine::into_link).collect::<Result<_, _>>()?,
        })
    }

    fn of_record(
        record: &Record<'a>,
        wall_clock_ns: Option<i64>,
        context: Option<ContextLine<'a>>,
        context_base64: Option<Cow<'a, str>>,
    ) -> Self {
        let header = record.header();
        let (payload, payload_base64) = json_or_base64(record.payload());
        let (metadata, metadata_base64) = json_or_base64(record.metadata());
        Self {
            event_id: header.event_id,
            event_type: TypeField(EventType(header.event_type)),
            event_subtype: header.event_subtype,
            ktime_ns: wall_clock_ns.is_none().then_some(header.ktime_ns),
            wall_clock_ns,
            sequence: Some(header.sequence),
            cpu_id: header.cpu_id,
            process_id: header.process_id,
            global_sequence: Some(header.global_sequence),
            local_sequence: Some(header.local_sequence),
            event_flags: header.event_flags,
            event_priority: header.event_priority,
            compression_type: header.compression_type,
            encryption_type: header.encryption_type,
            parent_event_id: header.parent_event_id,
            root_cause_event_id: Some(header.root_cause_event_id),
            agent_visibility_mask: header.agent_visibility_mask,
            agent_relevance_score: header.agent_relevance_score,
            replay_priority: header.replay_priority,
            context,
            context_base64,
            payload,
            payload_base64,
            metadata,
            metadata_base64,
            causality_links: record.links().map(LinkLine::of_link).collect(),
        }
    }
}

impl<'a> ContextLine<'a> {
    fn into_context(self) -> Result<OwnedContext<'a>, JsonError> {
        let numbers = Context {
            transaction_id: self.transaction_id,
            session_id: self.session_id,
            causality_chain_id: self.causality_chain_id,
            inode_number: self.inode_number,
            file_type: self.file_type,
            graph_node_id: self.graph_node_id,
            graph_edge_id: self.graph_edge_id,
            graph_operation_type: self.graph_operation_type,
            vector_id: self.vector_id,
            vector_dimensions: self.vector_dimensions,
            vector_element_type: self.vector_element_type,
            agent_confidence: self.agent_confidence,
            system_load: self.system_load,
            memory_usage: self.memory_usage,
            io_pressure: self.io_pressure,
            semantic_confidence: self.semantic_confidence,
            unknown_bits: self.unknown_bits,
            ..Context::default()
        };
        let semantic_tags = match self.semantic_tags {
            Some(tags) if tags.get().starts_with('"') => {
                let tags: String = serde_json::from_str(tags.get()).map_err(|source| JsonError::Json {
                    field: Some("context.semantic_tags".to_owned()),
                    source,
                })?;
                Some(text(Cow::Owned(tags)))
            }
            tags => tags.map(raw),
        };
        Ok(OwnedContext {
            numbers,
            path: either("path", self.path.map(text), self.path_base64)?,
            agent_id: either("agent_id", self.agent_id.map(text), self.agent_id_base64)?,
            agent_intent: either("agent_intent", self.agent_intent.map(text), self.agent_intent_base64)?,
            semantic_tags: either("semantic_tags", semantic_tags, self.semantic_tags_base64)?,
            semantic_intent: either(
                "semantic_intent",
                self.semantic_intent.map(text),
                self.semantic_intent_base64,
            )?,
            unknown_fields: either("unknown_fields", None, self.unknown_fields_base64)?.into_owned(),
        })
    }

    /// `tags` is the JSON form of the context's `semantic_tags`, see [`tags_json`].
    fn of_context(context: &Context<'a>, tags: Option<&'a RawValue>) -> Self {
        let (path, path_base64) = text_or_base64(context.path);
        let (agent_id, agent_id_base64) = text_or_base64(context.agent_id);
        let (agent_intent, agent_intent_base64) = text_or_base64(context.agent_intent);
        let (semantic_intent, semantic_intent_base64) = text_or_base64(context.semantic_intent);
        let has_tags = !context.semantic_tags.is_empty();
        let base64 = |bytes| Some(Cow::Owned(BASE64.encode(bytes)));
        Self {
            transaction_id: context.transaction_id,
            session_id: context.session_id,
            causality_chain_id: context.causality_chain_id,
            path,
            path_base64,
            inode_number: context.inode_number,
            file_type: context.file_type,
            graph_node_id: context.graph_node_id,
            graph_edge_id: context.graph_edge_id,
            graph_operation_type: context.graph_operation_type,
            vector_id: context.vector_id,
            vector_dimensions: context.vector_dimensions,
            vector_element_type: context.vector_element_type,
            agent_id,
            agent_id_base64,
            agent_intent,
            agent_intent_base64,
            agent_confidence: context.agent_confidence,
            system_load: context.system_load,
            memory_usage: context.memory_usage,
            io_pressure: context.io_pressure,
            semantic_tags: tags,
            semantic_tags_base64: (has_tags && tags.is_none())
                .then(|| base64(context.semantic_tags))
                .flatten(),
            semantic_intent,
            semantic_intent_base64,
            semantic_confidence: context.semantic_confidence,
            unknown_bits: context.unknown_bits,
            unknown_fields_base64: (!context.unknown_fields.is_empty())
                .then(|| base64(context.unknown_fields))
                .flatten(),
        }
    }
}

impl LinkLine<'_> {
    fn into_link(self) -> Result<CausalityLink, JsonError> {
        let field = "causality_description";
        let description = self.causality_description.map(text);
        let bytes = either(field, description, self.causality_description_base64)?;
        let mut causality_description = [0; 128];
        let limit = causality_description.len();
        causality_description
            .get_mut(..bytes.len())
            .ok_or(JsonError::TooLong { field, length: bytes.len(), limit })?
            .copy_from_slice(&bytes);
        Ok(CausalityLink {
            cause_event_id: self.cause_event_id,
            effect_event_id: self.effect_event_id,
            causality_type: self.causality_type,
            causality_strength: self.causality_strength,
            causality_delay_ns: self.causality_delay_ns,
            causality_description,
        })
    }

    fn of_link(link: CausalityLink) -> Self {
        let bytes = link.causality_description;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let (description, base64) = text_or_base64(bytes.get(..end).unwrap_or_default());
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Self {
            cause_event_id: link.cause_event_id,
            effect_event_id: link.effect_event_id,
            causality_type: link.causality_type,
            causality_strength: link.causality_strength,
            causality_delay_ns: link.causality_delay_ns,
            causality_description: description.map(owned),
            causality_description_base64: base64.map(owned),
        }
    }
}

fn raw(json: &RawValue) -> Cow<'_, [u8]> {
    Cow::Borrowed(json.get().as_bytes())
}

fn text(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

/// The field's bytes from whichever form it was given in.
fn either<'a>(
    field: &'static str,
    plain: Option<Cow<'a, [u8]>>,
    base64: Option<Cow<'a, str>>,
) -> Result<Cow<'a, [u8]>, JsonError> {
    match (plain, base64) {
        (Some(_), Some(_)) => Err(JsonError::Twice { field }),
        (Some(plain), None) => Ok(plain),
        (None, Some(base64)) => {
            let decoded = BASE64.decode(base64.as_bytes());
            Ok(Cow::Owned(decoded.map_err(|source| JsonError::Base64 { field, source })?))
        }
        (None, None) => Ok(Cow::Borrowed(&[])),
    }
}

type TextOrBase64<'a> = (Option<Cow<'a, str>>, Option<Cow<'a, str>>);

fn text_or_base64(bytes: &[u8]) -> TextOrBase64<'_> {
    match std::str::from_utf8(bytes) {
        Ok("") => (None, None),
        Ok(text) => (Some(Cow::Borrowed(text)), None),
        Err(_) => (None, Some(Cow::Owned(BASE64.encode(bytes)))),
    }
}

/// JSON that can stand in a line as it is, or else base64.
fn json_or_base64(bytes: &[u8]) -> (Option<&RawValue>, Option<Cow<'_, str>>) {
    match (bytes, inline_json(bytes)) {
        ([], _) => (None, None),
        (_, Some(json)) => (Some(json), None),
        (_, None) => (None, Some(Cow::Owned(BASE64.encode(bytes)))),
    }
}

/// The bytes as JSON, if they are nothing else: no line break, no blank around it, which would be lost.
fn inline_json(bytes: &[u8]) -> Option<&RawValue> {
    let json: &RawValue = serde_json::from_slice(bytes).ok()?;
    let is_same = json.get().len() == bytes.len();
    (is_same && !bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r'))).then_some(json)
}

/// The tags as JSON as they are, where they are that; any other text as a string; nothing if it is not UTF-8.
/// A `null` would be read as tags that are not set, and a string as its content: both become strings.
fn tags_json(tags: &[u8]) -> Option<Box<RawValue>> {
    let json = inline_json(tags).filter(|json| !json.get().starts_with('"') && json.get() != "null");
    match json {
        _ if tags.is_empty() => None,
        Some(json) => Some(json.to_owned()),
        None => serde_json::value::to_raw_value(std::str::from_utf8(tags).ok()?).ok(),
    }
}

/// Writes an event as one line, the line break included.
///
/// # Errors
///
/// Those of `out`.
pub fn write_event(record: &Record<'_>, out: &mut impl Write) -> io::Result<()> {
    write_line(record, None, out)
}

/// The same with a date in place of the time: nanoseconds since 1970, as [`JsonEvent::parse_dated`] takes them.
///
/// # Errors
///
/// Those of `out`.
pub fn write_dated_event(record: &Record<'_>, wall_clock_ns: i64, out: &mut impl Write) -> io::Result<()> {
    write_line(record, Some(wall_clock_ns), out)
}

fn write_line(record: &Record<'_>, wall_clock_ns: Option<i64>, out: &mut impl Write) -> io::Result<()> {
    let (context, context_base64) = match record.context_bytes() {
        [] => (None, None),
        bytes => match fields_of(bytes) {
            Some(fields) => (Some(fields), None),
            None => (None, Some(Cow::Owned(BASE64.encode(bytes)))),
        },
    };
    let tags = context.as_ref().and_then(|context| tags_json(context.semantic_tags));
    let context = context.map(|context| ContextLine::of_context(&context, tags.as_deref()));
    serde_json::to_writer(&mut *out, &Line::of_record(record, wall_clock_ns, context, context_base64))?;
    out.write_all(b"\n")
}

/// The fields of a context, where they are all that its bytes say.
fn fields_of(bytes: &[u8]) -> Option<Context<'_>> {
    let fields = Context::parse(bytes).ok()??;
    let is_all = match bytes.first_chunk::<FIXED_SIZE>() {
        // A text may be followed by more than zeros, or not end.
        Some(fixed) => {
            let mut again = [0; FIXED_SIZE];
            fields.to_fixed(&mut again).is_ok() && again == *fixed
        }
        // A field that stands there without being set makes it longer; a text may be none that can be written.
        None => fields.encoded_size() == Ok(bytes.len()),
    };
    is_all.then_some(fields)
}

/// Writes one of the journal's own records as one line, its body taken apart.
///
/// # Errors
///
/// Those of `out`.
pub fn write_control(record: &Record<'_>, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &control_value(record))?;
    out.write_all(b"\n")
}

/// The same with a date in place of the time.
///
/// # Errors
///
/// Those of `out`.
pub fn write_dated_control(record: &Record<'_>, wall_clock_ns: i64, out: &mut impl Write) -> io::Result<()> {
    let mut value = control_value(record);
    if let Some(fields) = value.as_object_mut() {
        fields.remove("ktime_ns");
        fields.insert("wall_clock_ns".to_owned(), wall_clock_ns.into());
    }
    serde_json::to_writer(&mut *out, &value)?;
    out.write_all(b"\n")
}

/// One of the journal's own records with its body taken apart.
pub fn control_value(record: &Record<'_>) -> serde_json::Value {
    serde_json::json!({
        "event_id": record.event_id(),
        "event_type": TypeField(record.event_type()),
        "event_subtype": record.event_subtype(),
        "ktime_ns": record.ktime_ns(),
        "process_id": record.process_id(),
        "body": body_value(record).unwrap_or_else(|| serde_json::json!({ "payload_base64": BASE64.encode(record.payload()) })),
    })
}

fn body_value(record: &Record<'_>) -> Option<serde_json::Value> {
    use serde_json::json;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let nul_padded = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
    Some(match record.event_type() {
        EventType::JOURNAL_SEGMENT_OPEN => {
            let body: SegmentOpen = control::parse(record).ok()??;
            let previous_end = match control::PreviousEnd::from_code(body.previous_end) {
                Some(control::PreviousEnd::None) => json!("none"),
                Some(control::PreviousEnd::Sealed) => json!("sealed"),
                Some(control::PreviousEnd::Cut) => json!("cut"),
                None => json!(body.previous_end),
            };
            json!({
                "journal_uuid": hex(&body.journal_uuid), "segment_number": body.segment_number,
                "epoch": body.epoch, "previous_segment": body.previous_segment, "previous_end": previous_end,
                "previous_end_offset": body.previous_end_offset,
                "previous_digest": body.previous_digest.to_string(), "next_event_id": body.next_event_id,
                "next_commit_sequence": body.next_commit_sequence, "wall_clock_ns": body.wall_clock_ns,
                "monotonic_ns": body.monotonic_ns, "boot_id": hex(&body.boot_id),
                "writer": nul_padded(&body.writer),
            })
        }
        EventType::JOURNAL_COMMIT => {
            let body: Commit = control::parse(record).ok()??;
            json!({
                "commit_sequence": body.commit_sequence, "epoch": body.epoch,
                "first_event_id": body.first_event_id, "last_event_id": body.last_event_id,
                "record_count": body.record_count, "event_count": body.event_count,
                "byte_count": body.byte_count, "synced_upto": body.synced_upto, "flags": body.flags,
                "root": body.root.to_string(), "previous_digest": body.previous_digest.to_string(),
                "digest": body.digest.to_string(),
            })
        }
        EventType::JOURNAL_SEGMENT_SEAL => {
            let body: SegmentSeal = control::parse(record).ok()??;
            json!({
                "segment_number": body.segment_number, "epoch": body.epoch,
                "commit_sequence": body.commit_sequence, "commit_count": body.commit_count,
                "record_count": body.record_count, "event_count": body.event_count,
                "first_event_id": body.first_event_id, "last_event_id": body.last_event_id,
                "byte_count": body.byte_count, "synced_upto": body.synced_upto,
                "root": body.root.to_string(), "previous_digest": body.previous_digest.to_string(),
                "digest": body.digest.to_string(),
            })
        }
        EventType::JOURNAL_RECOVERED => {
            let body: Recovered = control::parse(record).ok()??;
            let ranges: Vec<_> = control::damaged_ranges(record)
                .map(|range| {
                    json!({
                        "segment_number": range.segment_number, "offset": range.offset, "length": range.length,
                    })
                })
                .collect();
            json!({
                "segment_number": body.segment_number, "commit_sequence": body.commit_sequence,
                "cut_offset": body.cut_offset, "quarantined_bytes": body.quarantined_bytes,
                "kept_events": body.kept_events, "mode": body.mode, "verdict": body.verdict,
                "damaged_ranges": ranges,
            })
        }
        EventType::JOURNAL_GAP => {
            let body: Gap = control::parse(record).ok()??;
            let types: Vec<_> = control::gap_types(record)
                .map(|gap| {
                    json!({ "event_type": TypeField(EventType(gap.event_type)), "event_count": gap.event_count })
                })
                .collect();
            json!({
                "first_event_id": body.first_event_id, "last_event_id": body.last_event_id,
                "event_count": body.event_count, "reason": body.reason, "types": types,
            })
        }
        EventType::JOURNAL_COMPACTED if record.event_subtype() == control::Thinned::LAYOUT => {
            let body = control::Thinned::parse(record)?;
            let subtrees: Vec<_> = control::Thinned::subtrees(record).map(|root| root.to_string()).collect();
            json!({
                "first_event_id": body.first_event_id, "last_event_id": body.last_event_id,
                "byte_count": body.byte_count, "event_count": body.event_count, "subtrees": subtrees,
            })
        }
        EventType::JOURNAL_COMPACTED => {
            let body: Compacted = control::parse(record).ok()??;
            let types: Vec<_> = control::compacted_types(record)
                .map(|gone| {
                    json!({ "event_type": TypeField(EventType(gone.event_type)), "event_count": gone.event_count })
                })
                .collect();
            json!({
                "kind": body.kind, "reason": body.reason, "segment_number": body.segment_number,
                "end_offset": body.end_offset, "commit_sequence": body.commit_sequence,
                "segment_count": body.segment_count, "event_count": body.event_count,
                "record_count": body.record_count, "byte_count": body.byte_count,
                "first_event_id": body.first_event_id, "last_event_id": body.last_event_id, "end": body.end,
                "wall_clock_ns": body.wall_clock_ns, "digest": body.digest.to_string(), "types": types,
            })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use quickcheck::{Arbitrary, Gen, quickcheck};

    use super::*;

    fn line_of(draft: &Draft<'_>) -> Vec<u8> {
        let bytes = draft.to_vec().unwrap();
        let mut line = Vec::new();
        write_event(&Record::parse(&bytes).unwrap(), &mut line).unwrap();
        line
    }

    fn round_trip(draft: &Draft<'_>) {
        let line = line_of(draft);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let parsed = JsonEvent::parse(&line).unwrap();
        assert!(
            parsed.draft().to_vec().unwrap() == draft.to_vec().unwrap(),
            "{}",
            String::from_utf8_lossy(&line)
        );
    }

    #[derive(Clone, Debug)]
    struct AnyEvent {
        header: Vec<u8>,
        texts: [Vec<u8>; 7],
        numbers: [u64; 4],
        link: Vec<u8>,
    }

    impl Arbitrary for AnyEvent {
        fn arbitrary(g: &mut Gen) -> Self {
            let bytes = |g: &mut Gen, size| (0..size).map(|_| u8::arbitrary(g)).collect::<Vec<_>>();
            let texts = std::array::from_fn(|_| match u8::arbitrary(g) % 4 {
                0 => Vec::new(),
                1 => String::arbitrary(g).into_bytes(),
                2 => br#"{"a":[1, 2.50],"b":"\u00e9"}"#.to_vec(),
                _ => Vec::arbitrary(g),
            });
            let texts = texts.map(|text| text.into_iter().filter(|byte| *byte != 0).take(60).collect());
            Self {
                header: bytes(g, 132),
                texts,
                numbers: std::array::from_fn(|_| u64::arbitrary(g)),
                link: bytes(g, 160),
            }
        }
    }

    quickcheck! {
        fn any_event_comes_back_from_its_line_byte_for_byte(any: AnyEvent) -> bool {
            let header = EventHeader::decode(any.header.first_chunk().unwrap());
            let links = [CausalityLink::decode(any.link.first_chunk().unwrap())];
            let [path, agent_id, agent_intent, semantic_tags, semantic_intent, payload, metadata] = &any.texts;
            let context = Context {
                path, agent_id, agent_intent, semantic_tags, semantic_intent,
                transaction_id: any.numbers[0], inode_number: any.numbers[1], file_type: any.numbers[2] as u32,
                memory_usage: any.numbers[3],
                ..Context::default()
            };
            let context = DraftContext::Fields(context);
            round_trip(&Draft { header, context, payload, metadata, links: &links });
            round_trip(&Draft { payload, ..Draft::new(header) });
            true
        }

        fn any_bytes_that_stand_as_a_context_come_back(bits: u32, rest: Vec<u8>) -> bool {
            for bits in [bits, bits & bits >> 8 & bits >> 16, 1 << (bits % 32)] {
                let context = [&bits.to_le_bytes()[..], &rest].concat();
                let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
                round_trip(&Draft { context: DraftContext::Encoded(&context), ..Draft::new(header) });
            }
            true
        }

        fn any_bytes_are_parsed_or_refused_without_a_panic(line: Vec<u8>) -> bool {
            let _ = JsonEvent::parse(&line);
            true
        }
    }

    #[test]
    fn what_is_left_out_has_the_kernels_defaults() {
        let line = br#"{"event_type":"FilesystemCreate","ktime_ns":5}"#;
        let parsed = JsonEvent::parse(line).unwrap();
        let expected = EventHeader { ktime_ns: 5, ..EventHeader::new(0x0101) };
        assert_eq!(parsed.draft().header, expected);
        assert!(matches!(parsed.draft().context, DraftContext::None));
    }

    #[test]
    fn a_date_in_place_of_a_time_is_told_by_the_clock() {
        let ktime = |date: i64, zero: i64| {
            let line = format!("{{\"event_type\":1,\"wall_clock_ns\":{date}}}");
            JsonEvent::parse_dated(line.as_bytes(), zero).unwrap().draft().header.ktime_ns
        };
        assert_eq!(ktime(1_700_000_000_000_000_005, 1_700_000_000_000_000_000), 5);
        // Before the machine was started.
        assert_eq!(ktime(-1, 1_700_000_000_000_000_000), -1_700_000_000_000_000_001);
        assert_eq!(ktime(i64::MIN, 1), i64::MIN);
        let line = br#"{"event_type":1,"ktime_ns":7}"#;
        assert_eq!(JsonEvent::parse_dated(line, 5).unwrap().draft().header.ktime_ns, 7);
    }

    #[test]
    fn a_line_with_a_date_is_the_same_event_by_the_same_clock() {
        let zero = 1_700_000_000_000_000_000;
        for ktime_ns in [5, -7, 0, i64::MAX - zero, i64::MIN] {
            let header = EventHeader { event_id: 1, ktime_ns, ..EventHeader::new(0x0101) };
            let bytes = Draft::new(header).to_vec().unwrap();
            let record = Record::parse(&bytes).unwrap();
            let mut line = Vec::new();
            write_dated_event(&record, ktime_ns + zero, &mut line).unwrap();
            let text = String::from_utf8(line.clone()).unwrap();
            assert!(text.contains("\"wall_clock_ns\":") && !text.contains("ktime_ns"), "{text}");
            let parsed = JsonEvent::parse_dated(&line, zero).unwrap();
            assert!(parsed.draft().to_vec().unwrap() == bytes, "{text}");
        }
    }

    #[test]
    fn a_payload_keeps_its_text() {
        let line = br#"{"event_type":257,"ktime_ns":1,"payload":{"n": 1.50,"s":"\u0041"}}"#;
        let parsed = JsonEvent::parse(line).unwrap();
        assert_eq!(parsed.draft().payload, br#"{"n": 1.50,"s":"\u0041"}"#);
    }

    #[test]
    fn errors_name_the_field() {
        for (line, name) in [
            (r#"{"event_type":"Nope","ktime_ns":1}"#, "Nope"),
            (r#"{"event_type":"FilesystemRead"}"#, "missing field `ktime_ns`"),
            (r#"{"event_type":"FilesystemRead","ktime_ns":null}"#, "ktime_ns: invalid type: null"),
            (r#"{"event_type":1,"ktime_ns":1,"wall_clock_ns":1}"#, "both ktime_ns and wall_clock_ns"),
            (r#"{"event_type":1,"wall_clock_ns":1}"#, "wall_clock_ns: "),
            (r#"{"event_type":1,"wall_clock_ns":"x"}"#, "wall_clock_ns: invalid type: string"),
            (r#"{"event_type":"FilesystemRead","ktime_ns":1,"inode":3}"#, "inode"),
            (r#"{"event_type":99999999999,"ktime_ns":1}"#, "event_type: "),
            (r#"{"event_type":"FilesystemRead","ktime_ns":1.5}"#, "ktime_ns: "),
            (
                r#"{"event_type":1,"ktime_ns":1,"cpu_id":4294967296}"#,
                "cpu_id: invalid value: integer `4294967296`",
            ),
            (
                r#"{"event_type":1,"ktime_ns":1,"context":{"path":"/a","file_type":-1}}"#,
                "context.file_type: ",
            ),
            (r#"{"event_type":1,"ktime_ns":1,"context":{"path":5}}"#, "context.path: "),
            (r#"{"event_type":1,"ktime_ns":1,"context":7}"#, "context: "),
            (r#"{"event_type":1,"ktime_ns":1,"context":{"nope":1}}"#, "unknown field `nope`"),
            (
                r#"{"event_type":1,"ktime_ns":1,"causality_links":[{"cause_event_id":1,"effect_event_id":"x"}]}"#,
                "causality_links[0].effect_event_id: ",
            ),
            (r#"{"event_type":1,"ktime_ns":1,"context":{},"context_base64":""}"#, "both context and"),
            (r#"{"event_type":1,"ktime_ns":1,"cpu_id":1,"cpu_id":1}"#, "duplicate field `cpu_id`"),
            (r#"{"event_type":1,"ktime_ns":1"#, "EOF"),
            ("[]", "invalid type: sequence, expected an object"),
            ("5", "invalid type: integer `5`, expected an object"),
            (r#"{"event_type":1,"ktime_ns":1,"context":[]}"#, "context: invalid type: sequence, expected an"),
            (
                r#"{"event_type":1,"ktime_ns":1,"causality_links":[[1,2]]}"#,
                "causality_links[0]: invalid type: sequence, expected an object",
            ),
            (r#"{"event_type":"FilesystemRead","ktime_ns":1,"payload_base64":"?"}"#, "payload"),
            (r#"{"event_type":"FilesystemRead","ktime_ns":1,"payload":1,"payload_base64":""}"#, "payload"),
        ] {
            let error = JsonEvent::parse(line.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert!(!error.contains("at line 1"), "the line's number is the caller's to say: {error}");
        }
    }

    #[test]
    fn a_null_is_a_payload_like_any_other() {
        let line = br#"{"event_type":257,"ktime_ns":1,"payload":null,"metadata":null}"#;
        let parsed = JsonEvent::parse(line).unwrap();
        assert_eq!((parsed.draft().payload, parsed.draft().metadata), (&b"null"[..], &b"null"[..]));
        let line = String::from_utf8(line_of(&parsed.draft())).unwrap();
        assert!(line.contains(r#""payload":null,"metadata":null"#), "{line}");
        round_trip(&parsed.draft());
    }

    #[test]
    fn tags_that_look_like_json_come_back_byte_for_byte() {
        for tags in [&b"null"[..], br#""text""#, b"{}", b"[1, 2]", b"text", b"1e400", b"\xff"] {
            let context = Context { semantic_tags: tags, ..Context::default() };
            let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
            round_trip(&Draft { context: DraftContext::Fields(context), ..Draft::new(header) });
        }
    }

    #[test]
    fn a_context_that_is_none_comes_back_byte_for_byte() {
        let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
        round_trip(&Draft { context: DraftContext::Encoded(&[0xFF; 10]), ..Draft::new(header) });
    }

    #[test]
    fn a_context_that_says_more_than_its_fields_comes_back_byte_for_byte() {
        let fields = Context { path: b"/a", inode_number: 7, ..Context::default() };
        let mut plain = [0; FIXED_SIZE];
        fields.to_fixed(&mut plain).unwrap();
        let (mut behind_nul, mut without_end) = (plain, plain);
        behind_nul[24 + 5] = b'x';
        without_end[24..24 + 4096].fill(b'x');
        let contexts: [&[u8]; 5] = [
            &behind_nul,
            &without_end,
            // A transaction that is 0, a path that is empty, a path with a NUL byte.
            &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[8, 0, 0, 0, 0, 0],
            &[8, 0, 0, 0, 3, 0, b'a', 0, b'b'],
        ];
        let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
        for context in contexts {
            round_trip(&Draft { context: DraftContext::Encoded(context), ..Draft::new(header) });
        }
        // What the fields say is said by them: it can be had back in the same form.
        let draft = Draft { context: DraftContext::Encoded(&plain), ..Draft::new(header) };
        let line = line_of(&draft);
        let parsed = JsonEvent::parse(&line).unwrap();
        let DraftContext::Fields(again) = parsed.draft().context else { unreachable!("{parsed:?}") };
        assert_eq!(again, fields);
    }

    #[test]
    fn an_event_that_brings_its_id_is_its_own_root_unless_it_says_otherwise() {
        let parsed = JsonEvent::parse(br#"{"event_id":7,"event_type":1,"ktime_ns":1}"#).unwrap();
        let header = parsed.draft().header;
        assert_eq!((header.root_cause_event_id, header.sequence, header.global_sequence), (7, 7, 7));
        let line = br#"{"event_id":7,"event_type":1,"ktime_ns":1,"root_cause_event_id":0,"sequence":3}"#;
        let header = JsonEvent::parse(line).unwrap().draft().header;
        assert_eq!((header.root_cause_event_id, header.sequence, header.local_sequence), (0, 3, 7));
    }

    #[test]
    fn later_context_fields_survive() {
        let unknown_fields = [2, 0, b'h', b'i'];
        let context =
            Context { unknown_bits: 1 << 22, unknown_fields: &unknown_fields, ..Context::default() };
        let header = EventHeader { event_id: 1, ..EventHeader::new(0x0101) };
        round_trip(&Draft { context: DraftContext::Fields(context), ..Draft::new(header) });
    }
}
