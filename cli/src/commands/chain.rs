//! `semj chain`: why an event happened, and what came of it.

use std::io::Write;

use anyhow::Result;

use crate::Outcome;
use crate::answer::{self, Style};
use crate::journal_arg::SourceArg;
use crate::output;

/// Print what led to an event, from the root cause on, and what followed from it.
///
/// Causes stand above the event and effects below it, further in the further away they are. Status 1 if the journal has
/// no such event, 3 if a cause is named that is not there, or there are more effects than are shown.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj chain 4711 --journal ./journal\n  semj chain 4711 ./journal --limit 20"
)]
pub(crate) struct Args {
    /// The event's id.
    #[arg(value_name = "ID")]
    id: u64,
    #[command(flatten)]
    journal: SourceArg,
    /// No more than so many effects.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    limit: usize,
    /// JSON lines, with every field: causes, the event, effects.
    #[arg(long)]
    json: bool,
    /// In JSON: wall_clock_ns, nanoseconds since 1970, in place of ktime_ns.
    #[arg(long, requires = "json")]
    dates: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.source();
    let style = Style::new(args.json).dated(args.dates);
    let (shown, losses) = answer::with_reader(&dir, |reader| {
        let Some(chain) = reader.chain(args.id, args.limit)? else { return Ok(None) };
        let causes = chain.causes.iter().map(|record| ("↓ ".to_owned(), record));
        let effects = chain.effects.iter().map(|effect| {
            let width = output::indentation(effect.distance as usize);
            (format!("{:width$}└ ", ""), &effect.record)
        });
        let all = causes.chain([("• ".to_owned(), &chain.event)]).chain(effects);
        // Whatever can fail with the journal has to come before the first line: then all is done once more.
        let all: Vec<_> = all
            .map(|(before, record)| {
                let opening = if style.has_dates() { answer::opening_of(reader, record)? } else { None };
                Ok((before, record, opening))
            })
            .collect::<Result<_>>()?;
        let mut out = output::stdout();
        for (before, record, opening) in all {
            style.print_record(record, opening, &before, &mut out)?;
        }
        out.flush()?;
        Ok(Some((chain.missing_cause, chain.is_complete)))
    })?;
    output::say_losses(&losses);
    let Some((missing_cause, is_complete)) = shown else {
        output::say(format_args!("{}: no event {}", dir.display(), args.id));
        return Ok(Outcome::Bad);
    };
    if let Some(id) = missing_cause {
        output::say(format_args!("event {id} is named as the cause and is not in the journal"));
    }
    if !is_complete {
        output::say(format_args!("there are more effects than {}: see --limit", args.limit));
    }
    let is_all = losses.is_empty() && missing_cause.is_none() && is_complete;
    Ok(if is_all { Outcome::Good } else { Outcome::Incomplete })
}
