//! `semj consumers`: who reads the journal under a name, and how far they are.

use std::path::Path;

use anyhow::{Result, bail};
use semj::{Consumer, ConsumerState, OpenMode, Reader};
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::JournalArg;
use crate::output;

/// List the consumers of a journal: how far each has come, and what it still needs.
///
/// Retention keeps what a consumer needs. One that will never come back is taken away with --remove.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj consumers ./journal\n  semj consumers ./journal --remove indexer")]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// Forget this consumer.
    #[arg(long, value_name = "NAME")]
    remove: Option<String>,
    /// JSON lines, with every field; with --remove, what was done.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    if let Some(name) = &args.remove {
        if !Consumer::remove(&dir, name)? {
            bail!("{}: no consumer has the name {name}", dir.display());
        }
        if args.json {
            let said = json!({ "journal": output::path(&dir), "name": name, "removed": true });
            output::unless_closed(output::print_json(&said))?;
        }
        return Ok(Outcome::Good);
    }
    let mut consumers = Vec::new();
    let mut outcome = Outcome::Good;
    for found in ConsumerState::all(&dir)? {
        match found {
            Ok(consumer) => consumers.push(consumer),
            Err(error) => {
                let semj::Error::ConsumerMark { path, .. } = &error else { return Err(error.into()) };
                let name = path.file_name().unwrap_or_default().display().to_string();
                output::say(format_args!(
                    "{}; --remove {name} forgets it",
                    output::with_causes(&error.into())
                ));
                outcome = Outcome::Bad;
            }
        }
    }
    let reader = Reader::open_newest(&dir, OpenMode::Salvage)?;
    let newest = reader.report().highest_event_id;
    if consumers.is_empty() && !args.json {
        output::say(format!("{}: no consumers", dir.display()));
    } else {
        output::unless_closed(print(args, &dir, &consumers, newest))?;
    }
    Ok(outcome)
}

fn print(args: &Args, dir: &Path, consumers: &[ConsumerState], newest: u64) -> Result<()> {
    if !args.json {
        output::print_line(format_args!(
            "{:<24}  {:>12}  {:>12}  {:>10}  SAVED",
            "NAME", "LAST EVENT", "BEHIND BY", "SEGMENT"
        ))?;
    }
    for consumer in consumers {
        let position = &consumer.position;
        let behind = newest.saturating_sub(position.last_event_id.max(position.behind_event_id));
        if args.json {
            output::print_json(&json!({
                "journal": output::path(dir),
                "name": consumer.name,
                "last_event_id": position.last_event_id,
                "needs_from_event_id": position.behind_event_id + 1,
                "behind_by": behind,
                "segment_number": position.segment_number,
                "offset": position.offset,
                "saved_at_ns": consumer.saved_at_ns,
            }))?;
        } else {
            output::print_line(format_args!(
                "{:<24}  {:>12}  {:>12}  {:>10}  {}",
                consumer.name,
                position.last_event_id,
                behind,
                position.segment_number,
                output::wall_clock(consumer.saved_at_ns)
            ))?;
        }
    }
    Ok(())
}
