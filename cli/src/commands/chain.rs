//! `semj chain`: why an event happened, and what came of it.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use anyhow::Result;
use semj::{CausalChain, Effect};

use crate::Outcome;
use crate::answer::{self, Style};
use crate::journal_arg::SourceArg;
use crate::output;

/// Print what led to an event, from the root cause on, and what followed from it.
///
/// Causes stand above the event, the furthest first, and effects below it, each below what it followed from. A cause is what an
/// event names: its parent, and those of its causality links; where it names neither, its root cause. Status 1 if the journal has no such
/// event, 3 if a cause is named that is not there, or there are more than are shown.
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
    /// No more than so many causes, and so many effects.
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
        let Some(chain) = reader.chain(args.id, args.limit)? else {
            return Ok(Err(answer::no_event(reader, args.id)));
        };
        let causes = chain.causes.iter().map(|cause| ("↓ ".to_owned(), &cause.record));
        let effects = if args.json { chain.effects.iter().collect() } else { below_causes(&chain) };
        let effects = effects.into_iter().map(|effect| {
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
        Ok(Ok((chain.missing_causes, chain.is_complete)))
    })?;
    output::say_losses(&losses);
    let (missing_causes, is_complete) = match shown {
        Ok(shown) => shown,
        Err(why) => {
            output::say(format_args!("{}: {why}", dir.display()));
            return Ok(Outcome::Bad);
        }
    };
    for id in &missing_causes {
        output::say(format_args!("event {id} is named as the cause and is not in the journal"));
    }
    if !is_complete {
        output::say(format_args!("there are more causes or effects than {}: see --limit", args.limit));
    }
    let is_all = losses.is_empty() && missing_causes.is_empty() && is_complete;
    Ok(if is_all { Outcome::Good } else { Outcome::Incomplete })
}

/// The effects, each behind what it followed from and before what followed from that later.
fn below_causes<'a, 'r>(chain: &'a CausalChain<'r>) -> Vec<&'a Effect<'r>> {
    let shown: HashSet<_> = chain.effects.iter().map(|effect| effect.record.event_id()).collect();
    let mut below: HashMap<u64, Vec<&Effect<'_>>> = HashMap::new();
    let mut first = Vec::new();
    for effect in &chain.effects {
        // What followed from something that is not there stands where that would.
        if shown.contains(&effect.cause) { below.entry(effect.cause).or_default() } else { &mut first }
            .push(effect);
    }
    let mut ordered = Vec::with_capacity(chain.effects.len());
    let mut next: Vec<_> = first.into_iter().rev().collect();
    while let Some(effect) = next.pop() {
        ordered.push(effect);
        next.extend(below.remove(&effect.record.event_id()).unwrap_or_default().into_iter().rev());
    }
    ordered
}
