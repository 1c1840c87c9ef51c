//! `semj get`: one event, with everything that is known of it.

use std::io::Write;

use anyhow::Result;

use crate::Outcome;
use crate::answer::{self, Style};
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
    /// With wall_clock_ns, nanoseconds since 1970, in place of ktime_ns.
    #[arg(long)]
    dates: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.source();
    let style = Style::new(true).dated(args.dates);
    let (line, losses) = answer::with_reader(&dir, |reader| {
        let Some(record) = reader.get(args.id)? else { return Ok(Err(answer::no_event(reader, args.id))) };
        let mut line = Vec::new();
        let opening = if style.has_dates() { answer::opening_of(reader, &record)? } else { None };
        style.print_record(&record, opening, "", &mut line)?;
        Ok(Ok(line))
    })?;
    output::say_losses(&losses);
    let line = match line {
        Ok(line) => line,
        Err(why) => {
            output::say(format_args!("{}: {why}", dir.display()));
            return Ok(Outcome::Bad);
        }
    };
    output::unless_closed(print(args, &line))?;
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

fn print(args: &Args, line: &[u8]) -> Result<()> {
    let mut out = output::stdout();
    if args.json {
        out.write_all(line)?;
    } else {
        out.write_all(&output::pretty_json(line))?;
        writeln!(out)?;
    }
    Ok(out.flush()?)
}
