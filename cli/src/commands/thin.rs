//! `semj thin`: takes events out of old segments.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use semj::{CommitOn, EventType, Journal, Options, Priority, ThinReport, ThinRule, ThinSkipped};
use serde_json::json;

use crate::Outcome;
use crate::amount;
use crate::filter::{parse_priority, parse_type};
use crate::journal_arg::JournalArg;
use crate::output;

/// Take events out of segments that have ended, by type, priority and age.
///
/// An event goes if all conditions hold for it. The journal records how many of which types before they go, and keeps the
/// digests that prove the rest: verify tells events that were taken out from events that are missing. The journal must not
/// be in use; a program that has it open can do the same.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj thin ./journal --types FilesystemRead --older-than 1d --dry-run\n  semj thin ./journal --max-priority LOW --older-than 30d --keep-one-in 100"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// Events of these types, by their names, in capitals or not, or numbers; without it, of all.
    #[arg(long, visible_alias = "type", value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<EventType>,
    /// Events that are no more urgent than this: CRITICAL, HIGH, NORMAL, LOW, BACKGROUND or a number from 1 to 5; without
    /// it, of all.
    #[arg(long, value_name = "PRIORITY", value_parser = priority)]
    max_priority: Option<Priority>,
    /// Events that happened longer ago.
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    older_than: Duration,
    /// Keep one in so many: those whose id is a multiple of it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    keep_one_in: Option<u64>,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// Say what goes as JSON.
    #[arg(long)]
    json: bool,
}

fn priority(text: &str) -> Result<Priority, String> {
    parse_priority(text).map(Priority)
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    let rule = ThinRule {
        types: args.types.clone(),
        priority: args.max_priority.unwrap_or(ThinRule::default().priority),
        older_than: args.older_than,
        keep_one_in: args.keep_one_in,
    };
    let rules = [rule];
    let looking = "looking for what goes";
    let report = if args.dry_run {
        output::watched(looking, |progress| semj::plan_thinning_watched(&dir, &rules, None, progress))?
    } else if let Some(nothing) =
        output::watched(looking, |progress| semj::nothing_to_thin(&dir, &rules, None, progress))?
    {
        // A journal that would stay as it is has not been opened for it.
        nothing
    } else {
        let options =
            Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() };
        let journal = Journal::open(&dir, options)?;
        let report = output::watched("thinning", |progress| journal.thin_watched(&rules, progress))?;
        journal.close()?;
        report
    };
    print(args, &dir, &report)?;
    for ThinSkipped { name, reason, events, .. } in &report.skipped {
        let events = output::count(*events, "event");
        output::say(format_args!("{name}: left as it is, with {events} that would go: {reason}"));
    }
    Ok(if report.skipped.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

fn print(args: &Args, dir: &Path, report: &ThinReport) -> Result<()> {
    if args.json {
        let types: serde_json::Map<_, _> =
            report.types.iter().map(|(event_type, events)| (event_type.to_string(), json!(events))).collect();
        let skipped = report.skipped.iter().map(|ThinSkipped { name, reason, events, .. }| {
            json!({ "name": name, "reason": reason, "events": events })
        });
        return output::print_json(&json!({
            "journal": output::path(dir), "dry_run": args.dry_run, "segments": report.segments, "events": report.events,
            "bytes": report.bytes, "types": types, "skipped": skipped.collect::<Vec<_>>(),
        }));
    }
    let mut out = output::stdout();
    for (event_type, events) in &report.types {
        writeln!(out, "{:>12}  {event_type}", output::grouped(*events))?;
    }
    writeln!(
        out,
        "{}: {} of {} {}; {} shorter",
        dir.display(),
        output::count(report.events, "event"),
        output::count(report.segments, "segment"),
        if args.dry_run { "would be taken out" } else { "taken out" },
        output::bytes(report.bytes)
    )?;
    Ok(out.flush()?)
}
