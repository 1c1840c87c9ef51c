//! `semj restore`: a journal from a snapshot.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::snapshot::{self, Method};
use crate::Outcome;
use crate::journal_arg::{JournalArg, directory};

/// Make a journal of a snapshot, in a directory that has none.
///
/// Every byte of the snapshot is verified before, and every byte of the journal after.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj restore /backup/journal ./journal")]
pub(crate) struct Args {
    /// The snapshot's directory.
    #[arg(value_name = "SNAPSHOT")]
    snapshot: PathBuf,
    #[command(flatten)]
    journal: JournalArg,
    /// How segments come there.
    #[arg(long, value_enum, default_value_t = Method::Copy)]
    method: Method,
    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let (from, dir) = (directory(args.snapshot.clone()), args.journal.dir());
    let started = Instant::now();
    let restored = snapshot::with_progress("restoring", |progress| {
        semj::restore(&from, &dir, args.method.into(), progress)
    })?;
    snapshot::print(args.json, [&from, &dir], &restored, started.elapsed())?;
    Ok(Outcome::Good)
}
