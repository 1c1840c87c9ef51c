//! Finds the field that makes a line be refused, because serde_json names the place, but not the field.
//!
//! Each field is tried by itself, beside those that may not be left out. Only a line that is refused pays.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::line::{ContextLine, Line, LinkLine, Object};

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

/// What serde_json says, with the field, and without its line number: it only sees one line.
pub(super) fn refusal(field: Option<&str>, source: &serde_json::Error) -> String {
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
