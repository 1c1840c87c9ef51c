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

mod control;
mod culprit;
mod line;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semj_format::context::FIXED_SIZE;
use semj_format::{CausalityLink, Context, Draft, DraftContext, EventHeader, Record};
use thiserror::Error;

pub use control::{control_value, write_control, write_dated_control};
use culprit::refusal;
use line::{ContextLine, Line, Object, tags_json};

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
