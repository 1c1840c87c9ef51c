//! `semj get`: one event, with everything that is known of it.

use std::io::Write;

use anyhow::Result;
use semj_interchange::json;

use crate::Outcome;
use crate::answer;
use crate::journal_arg::SourceArg;
use crate::output;

/// Print one event with all its fields.
///
/// Status 1 if the journal has no such event.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj get 4711 --journal ./journal\n  semj get 4711 ./journal --json")]
pub(crate) struct Args {
    /// The event's id.
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    journal: SourceArg,
    /// As one line.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.source();
    let (line, losses) = answer::with_reader(&dir, |reader| {
        let Some(record) = reader.get(args.id)? else { return Ok(None) };
        let mut line = Vec::new();
        json::write_event(&record, &mut line)?;
        Ok(Some(line))
    })?;
    output::say_losses(&losses);
    let Some(line) = line else {
        output::say(format_args!("{}: no event {}", dir.display(), args.id));
        return Ok(Outcome::Bad);
    };
    let mut out = output::stdout();
    if args.json {
        out.write_all(&line)?;
    } else {
        out.write_all(&output::pretty_json(&line))?;
        writeln!(out)?;
    }
    out.flush()?;
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}
