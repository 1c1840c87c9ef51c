//! `semj snapshot`: a journal as it is now, in another directory.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::ValueEnum;
use semj::{Proof, SnapshotMethod, SnapshotOptions, SnapshotProgress, SnapshotReport};
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::{JournalArg, directory};
use crate::output::{self, Unit};

/// Copy a journal as it is at one commit, while it is in use or not.
///
/// The snapshot is a journal like any other: verify, cat, export and the other commands take it. If TARGET has an earlier
/// snapshot of the same journal it is brought forward: only what is new is copied, and what the journal has retired since is
/// removed. A snapshot that was cut short is completed by the same command.
#[derive(Debug, clap::Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Examples:\n  semj snapshot ./journal /backup/journal\n  semj snapshot ./journal /backup/journal --method copy --verify"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// The snapshot's directory.
    #[arg(value_name = "TARGET")]
    target: PathBuf,
    /// How segments come there that have reached their ends.
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    method: Method,
    /// Verify every byte of the journal before and of the snapshot after. Without it only what is not proven yet.
    #[arg(long)]
    verify: bool,
    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// How segments come into a snapshot.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Method {
    /// As cheaply as the file system allows it: reflink, or else link, or else copy.
    Auto,
    /// Files of their own that share blocks.
    Reflink,
    /// Second names of the same files: damage to one is damage to both.
    Link,
    /// Copies.
    Copy,
}

impl From<Method> for SnapshotMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Reflink => Self::Reflink,
            Method::Link => Self::Link,
            Method::Copy => Self::Copy,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let proof = if args.verify { Proof::Everything } else { Proof::Newest };
    let options = SnapshotOptions { method: args.method.into(), proof };
    let (dir, target) = (args.journal.dir(), directory(args.target.clone()));
    let started = Instant::now();
    let taken = with_progress("copying", |progress| semj::snapshot(&dir, &target, options, progress))?;
    print(args.json, [&dir, &target], &taken, started.elapsed())?;
    Ok(Outcome::Good)
}

/// Does something that tells how far it has come, under a progress bar.
pub(crate) fn with_progress(
    what: &'static str,
    work: impl FnOnce(&mut dyn FnMut(SnapshotProgress)) -> Result<SnapshotReport, semj::Error>,
) -> Result<SnapshotReport> {
    let bar = output::progress(Some(0), Unit::Bytes).with_message(what);
    let done = work(&mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    Ok(done?)
}

/// Says what was done.
pub(crate) fn print(
    as_json: bool,
    [from, to]: [&Path; 2],
    taken: &SnapshotReport,
    elapsed: Duration,
) -> Result<()> {
    if as_json {
        return output::print_json(&json!({
            "from": output::path(from),
            "to": output::path(to),
            "events": taken.events,
            "bytes": taken.bytes,
            "segments": { "kept": taken.kept, "cloned": taken.cloned, "linked": taken.linked, "copied": taken.copied,
                          "removed": taken.removed },
            "bytes_copied": taken.bytes_copied,
            "last_event_id": taken.tip.last_event_id,
            "commit_sequence": taken.tip.commit_sequence,
            "digest": taken.tip.digest.to_string(),
            "elapsed_s": elapsed.as_secs_f64(),
        }));
    }
    let segments = taken.kept + taken.cloned + taken.linked + taken.copied;
    output::print_line(format_args!(
        "{}: {} in {} ({} were there, {} cloned, {} linked, {} copied: {}); ends with event {}, commit {}, {}",
        to.display(),
        output::count(taken.events, "event"),
        output::count(segments, "segment"),
        taken.kept,
        taken.cloned,
        taken.linked,
        taken.copied,
        output::bytes(taken.bytes_copied),
        taken.tip.last_event_id,
        taken.tip.commit_sequence,
        taken.tip.digest
    ))?;
    Ok(())
}
