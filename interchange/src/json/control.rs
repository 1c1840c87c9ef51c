//! The journal's own records as JSON, their bodies taken apart.

use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use semj_format::control;
use semj_format::{Commit, Compacted, EventType, Gap, Record, Recovered, SegmentOpen, SegmentSeal};

use super::line::TypeField;

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
