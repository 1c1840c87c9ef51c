//! The program `semj`.
//!
//! Data goes to standard output, everything else to standard error. Exit status: 0 good, 1 failed or damage
//! found, 2 wrong use, 3 done, but something was skipped or lost.

mod amount;
mod answer;
mod commands;
mod filter;
mod journal_arg;
mod moment;
mod new_file;
mod output;
mod remote;
mod source;
mod whole;

use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use signal_hook::consts::SIGXFSZ;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// A journal that loses nothing that was acknowledged, and proves that nobody touched it.
#[derive(Debug, Parser)]
#[command(name = "semj", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "\
Exit status: 0 good, 1 failed or damage found, 2 wrong use, 3 done but something was skipped or lost.
Data goes to standard output, everything else to standard error; RUST_LOG=info shows what the engine does.

Examples:
  semj import events.jsonl.zst -j ./journal
  semj cat ./journal --path /project/src --since -5m
  semj get 4711 ./journal
  semj verify ./journal
  semj repair ./journal --dry-run
  semj retain ./journal --max-bytes 10GB --dry-run
  semj compact ./journal --older-than 1d
  semj snapshot ./journal /backup/journal
  semj export -j ./journal --format kernel -o journal.semj")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Import(commands::import::Args),
    Export(commands::export::Args),
    Cat(commands::cat::Args),
    Get(commands::get::Args),
    Chain(commands::chain::Args),
    Explain(commands::explain::Args),
    Index(commands::index::Args),
    Verify(commands::verify::Args),
    Repair(commands::repair::Args),
    Consumers(commands::consumers::Args),
    Rotate(commands::rotate::Args),
    Retain(commands::retain::Args),
    Compact(commands::compact::Args),
    Thin(commands::thin::Args),
    Snapshot(commands::snapshot::Args),
    Restore(commands::restore::Args),
    #[cfg(feature = "archive")]
    Archive(commands::archive::Args),
    Stats(commands::stats::Args),
    Inspect(commands::inspect::Args),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done and found good.
    Good,
    /// Damage was found, or the input was refused; what is wrong was said.
    Bad,
    /// It was done, but something was skipped or lost; what, was said.
    Incomplete,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Good => 0,
            Outcome::Bad => 1,
            Outcome::Incomplete => 3,
        })
    }
}

/// A write past the limit that files have (`ulimit -f`) shall be an error like any other. Nobody looks at the flag that the signal
/// sets; but it does not end the program any more.
fn survive_limits() {
    if let Err(error) = signal_hook::flag::register(SIGXFSZ, Arc::default()) {
        output::say(format_args!("can't handle SIGXFSZ: {error}"));
    }
}

/// What to say to who wants to write to a damaged journal.
fn damage_hint(error: &anyhow::Error) -> Option<String> {
    match error.downcast_ref()? {
        semj::Error::Damaged { dir, report } => output::repair_hint(dir, report),
        _ => None,
    }
}

fn main() -> ExitCode {
    survive_limits();
    let directives = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
    let warnings = || Targets::new().with_default(LevelFilter::WARN);
    let wanted = directives.map_or_else(warnings, |directives| {
        directives.parse().unwrap_or_else(|error| {
            output::say(format_args!("RUST_LOG={directives}: {error}"));
            warnings()
        })
    });
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(false);
    tracing_subscriber::registry().with(log).with(wanted).init();
    // Wrong use ends here, with status 2.
    let result = match Cli::parse().command {
        Command::Import(args) => commands::import::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Cat(args) => commands::cat::run(&args),
        Command::Get(args) => commands::get::run(&args),
        Command::Chain(args) => commands::chain::run(&args),
        Command::Explain(args) => commands::explain::run(&args),
        Command::Index(args) => commands::index::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Repair(args) => commands::repair::run(&args),
        Command::Consumers(args) => commands::consumers::run(&args),
        Command::Rotate(args) => commands::rotate::run(&args),
        Command::Retain(args) => commands::retain::run(&args),
        Command::Compact(args) => commands::compact::run(&args),
        Command::Thin(args) => commands::thin::run(&args),
        Command::Snapshot(args) => commands::snapshot::run(&args),
        Command::Restore(args) => commands::restore::run(&args),
        #[cfg(feature = "archive")]
        Command::Archive(args) => commands::archive::run(&args),
        Command::Stats(args) => commands::stats::run(&args),
        Command::Inspect(args) => commands::inspect::run(&args),
    };
    match result {
        Ok(outcome) => outcome.into(),
        // Whoever read the output has seen enough: `semj cat | head`.
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::say(output::with_causes(&error));
            remote::hint(&error).or_else(|| damage_hint(&error)).iter().for_each(output::say);
            ExitCode::FAILURE
        }
    }
}
