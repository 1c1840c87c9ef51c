//! `semj cat`: events, to be looked at.

use std::io::Write;

use anyhow::Result;

use crate::Outcome;
use crate::answer::{self, Style};
use crate::filter::Filter;
use crate::journal_arg::JournalArg;
use crate::output;

/// Print events, one a line.
///
/// A damaged journal is shown as far as it proves itself; what is missing is said, and the status is 3.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj cat ./journal --limit 20 --reverse\n  semj cat ./journal --id 100..200 --json\n  \
                  semj cat ./journal --type FilesystemDelete --path /project/src --since -5m\n  \
                  semj cat ./journal --control"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    #[command(flatten)]
    filter: Filter,
    /// JSON lines, with every field.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let style = Style::new(args.json);
    let mut out = output::stdout();
    let losses =
        answer::each(&args.journal.dir(), &args.filter.query(), |located| style.print(located, &mut out))?;
    out.flush()?;
    output::say_losses(&losses);
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}
