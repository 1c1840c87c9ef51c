//! `semj rotate`: a new segment.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::Outcome;
use crate::amount;
use crate::journal_arg::JournalArg;
use crate::output;

/// End the segment that is written and begin the next.
///
/// If a process has the journal open it is asked to, and answers when the new segment is durable. A journal that was not
/// closed is recovered and closed. One that is closed has nothing to end.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj rotate ./journal")]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// How long to wait for the process that has the journal open.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = amount::duration)]
    wait: Duration,
    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    let has_rotated = semj::request_rotation(&dir, args.wait)?;
    if args.json {
        output::print_json(&json!({ "journal": output::path(&dir), "rotated": has_rotated }))?;
    } else if has_rotated {
        output::print_line(format_args!("{}: a new segment is begun", dir.display()))?;
    } else {
        output::print_line(format_args!("{}: closed: its newest segment has ended already", dir.display()))?;
    }
    Ok(Outcome::Good)
}
