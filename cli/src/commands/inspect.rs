//! `semj inspect`: a file's layout, record by record, whether it is right or not.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use semj::Record;
use semj::format::{ContextForm, JournalHeader};
use semj_interchange::json;
use serde_json::json;

use crate::Outcome;
use crate::output;
use crate::whole::Whole;

/// Show the layout of a segment or a kernel-format journal, record by record.
///
/// Shows what stands there, up to the first frame that is wrong, and says which checksums are not right. Of a compressed
/// segment it shows what it gives back. For a verdict use verify.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj inspect ./journal/0000000001-00000000000000000001.semj | head\n  semj inspect journal.semj --json"
)]
pub(crate) struct Args {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// JSON lines.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let name = args.file.display();
    let whole = Whole::open(&args.file).with_context(|| format!("{name}: can't read"))?;
    let bytes = whole.native().with_context(|| name.to_string())?;
    let mut out = output::stdout();
    let mut is_good = true;
    match JournalHeader::parse(&bytes) {
        Ok(header) if args.json => {
            let line = json!({
                "offset": 0, "size": JournalHeader::SIZE, "version": [header.version_major, header.version_minor],
                "total_events": header.total_events, "next_event_id": header.next_event_id,
                "journal_size": header.journal_size, "index_offset": header.index_offset, "flags": header.flags,
            });
            writeln!(out, "{line}")?;
        }
        Ok(header) => writeln!(
            out,
            "{:>10} {:>7}  journal header  version {}.{}, total_events {}, next_event_id {}, journal_size {}, \
             flags {:#x}",
            0,
            JournalHeader::SIZE,
            header.version_major,
            header.version_minor,
            header.total_events,
            header.next_event_id,
            header.journal_size,
            header.flags
        )?,
        Err(error) => {
            output::say(format_args!("{name}: offset {}: {error}", error.offset()));
            is_good = false;
        }
    }
    let mut at = JournalHeader::SIZE;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let record = match Record::parse(rest) {
            Ok(record) => record,
            Err(_) if rest.iter().all(|byte| *byte == 0) => {
                if !args.json {
                    writeln!(out, "{at:>10} {:>7}  zero bytes to the end", rest.len())?;
                }
                break;
            }
            Err(error) => {
                out.flush()?;
                output::say(format_args!("{name}: offset {at}: {error}"));
                is_good = false;
                break;
            }
        };
        let checksum = record.verify_checksum();
        if args.json {
            // Spliced in as text: an event's payload is shown as it stands there, not as it is understood.
            let mut line = Vec::new();
            if record.is_control() {
                json::write_control(&record, &mut line)?;
            } else {
                json::write_event(&record, &mut line)?;
            }
            let size = record.len();
            write!(out, "{{\"offset\":{at},\"size\":{size},\"checksum_is_right\":{},", checksum.is_ok())?;
            out.write_all(line.strip_prefix(b"{").unwrap_or(&line))?;
        } else {
            writeln!(out, "{at:>10} {:>7}  {}", record.len(), described(&record))?;
        }
        if let Err(error) = checksum {
            out.flush()?;
            output::say(format_args!("{name}: offset {at}: {error}"));
            is_good = false;
        }
        at += record.len();
    }
    out.flush()?;
    whole.check().with_context(|| name.to_string())?;
    Ok(if is_good { Outcome::Good } else { Outcome::Bad })
}

/// A record in a line.
fn described(record: &Record<'_>) -> String {
    if record.is_control() {
        let value = json::control_value(record);
        return format!("{}  {}", record.event_type(), value.get("body").unwrap_or(&serde_json::Value::Null));
    }
    let context = record.context_bytes().len();
    let form = match ContextForm::of_size(context) {
        ContextForm::None => "no context".to_owned(),
        ContextForm::Compact => format!("compact context {context}"),
        ContextForm::Fixed => "fixed context".to_owned(),
    };
    let mut line = format!(
        "{}  id {}, {form}, payload {}",
        record.event_type(),
        record.event_id(),
        record.payload().len()
    );
    if !record.metadata().is_empty() {
        line += &format!(", metadata {}", record.metadata().len());
    }
    match record.links().len() {
        0 => {}
        links => line += &format!(", links {links}"),
    }
    line
}
