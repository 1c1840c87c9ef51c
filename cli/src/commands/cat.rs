//! `semj cat`: events, to be looked at.

use std::io::Write;

use anyhow::Result;
use semj::reader::Located;
use semj::{EventType, OpenMode, Reader, Record};
use semj_interchange::json;

use crate::Outcome;
use crate::journal_arg::JournalArg;
use crate::output;

/// Print events, one a line.
///
/// A damaged journal is shown as far as it proves itself; what is missing is said, and the status is 3.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj cat ./journal --limit 20\n  semj cat ./journal --id 100..200 --json\n  semj cat ./journal --control"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// Only events whose ids lie in this range, both ends included; either may be left out: 100..200, 100..
    #[arg(long, value_name = "A..B", value_parser = parse_ids)]
    id: Option<Ids>,
    /// No more than so many events.
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// The journal's own records too.
    #[arg(long)]
    control: bool,
    /// JSON lines, with every field.
    #[arg(long)]
    json: bool,
}

/// A range of ids, both ends included.
#[derive(Clone, Copy, Debug)]
struct Ids {
    first: u64,
    last: u64,
}

fn parse_ids(text: &str) -> Result<Ids, String> {
    let id = |text: &str, default| match text {
        "" => Ok(default),
        _ => text.parse().map_err(|error| format!("{text:?}: {error}")),
    };
    match text.split_once("..") {
        Some((first, last)) => Ok(Ids { first: id(first, 0)?, last: id(last, u64::MAX)? }),
        None => id(text, 0).map(|id| Ids { first: id, last: id }),
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    let reader = Reader::open(dir, OpenMode::Salvage)?;
    let ids = args.id.unwrap_or(Ids { first: 0, last: u64::MAX });
    let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut out = output::stdout();
    if args.control {
        let is_shown = |at: &Located<'_>| {
            at.record.is_control() || (ids.first..=ids.last).contains(&at.record.event_id())
        };
        let records = reader.records().filter(|at| at.as_ref().map_or(true, is_shown));
        for located in records.take(limit) {
            print(&located?, args.json, &mut out)?;
        }
    } else {
        for located in reader.iter(ids.first..=ids.last).located().take(limit) {
            let located = located?;
            print(&located, args.json, &mut out)?;
        }
    }
    out.flush()?;
    let losses = output::losses(reader.report());
    output::say_losses(&losses);
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

fn print(located: &Located<'_>, as_json: bool, out: &mut impl Write) -> Result<()> {
    let Located { opening, record, .. } = located;
    if as_json {
        let written = if record.is_control() {
            json::write_control(record, out)
        } else {
            json::write_event(record, out)
        };
        return Ok(written?);
    }
    // The segment's clock anchor turns the event's monotonic time into wall time. An event from another
    // machine or boot has a monotonic time of its own, and would come out wrong: it is shown as it is.
    let process_id = record.process_id();
    write!(
        out,
        "{:>8}  {:>16.6}  {:<20}  {process_id:>7}  ",
        record.event_id(),
        record.ktime_ns() as f64 / 1e9,
        record.event_type(),
    )?;
    if record.is_control() {
        if record.event_type() == EventType::JOURNAL_SEGMENT_OPEN {
            write!(out, "opened {} ", output::wall_clock(opening.wall_clock_ns))?;
        }
        writeln!(out, "{}", json::control_value(record).get("body").unwrap_or(&serde_json::Value::Null))?;
        return Ok(());
    }
    writeln!(out, "{}  {}", path(record), output::shortened(record.payload()))?;
    Ok(())
}

fn path(record: &Record<'_>) -> String {
    match record.context() {
        Ok(Some(context)) if !context.path.is_empty() => output::printable(context.path).into_owned(),
        Ok(_) => "-".to_owned(),
        Err(error) => format!("({error})"),
    }
}
