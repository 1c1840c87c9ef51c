//! From a line's fields to an event's, and back.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semj_format::{CausalityLink, Context, EventHeader, EventType, Record};
use serde_json::value::RawValue;

use super::{ContextLine, Line, LinkLine, TypeField};
use crate::json::{JsonError, JsonEvent, OwnedContext, ParsedContext};

impl<'a> Line<'a> {
    pub(in crate::json) fn into_event(self, zero_ns: Option<i64>) -> Result<JsonEvent<'a>, JsonError> {
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

    pub(in crate::json) fn of_record(
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
    pub(in crate::json) fn into_context(self) -> Result<OwnedContext<'a>, JsonError> {
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
    pub(in crate::json) fn of_context(context: &Context<'a>, tags: Option<&'a RawValue>) -> Self {
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
pub(in crate::json) fn tags_json(tags: &[u8]) -> Option<Box<RawValue>> {
    let json = inline_json(tags).filter(|json| !json.get().starts_with('"') && json.get() != "null");
    match json {
        _ if tags.is_empty() => None,
        Some(json) => Some(json.to_owned()),
        None => serde_json::value::to_raw_value(std::str::from_utf8(tags).ok()?).ok(),
    }
}
