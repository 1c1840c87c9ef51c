//! `semj index`: the sidecars of a journal's segments.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Subcommand;
use semj::{SidecarReport, SidecarState};
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::JournalArg;
use crate::output;

/// Make or check the files by which events are found fast.
///
/// They are derived from the segments; without them answers are the same and take longer.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the sidecars anew, whatever there is. The journal may be in use.
    #[command(after_help = "Examples:\n  semj index rebuild ./journal")]
    Rebuild(Which),
    /// Hold the sidecars against their segments. Changes nothing; status 1 if one is missing or wrong. That of the newest
    /// segment of a journal that was closed comes with its next open.
    #[command(after_help = "Examples:\n  semj index verify ./journal")]
    Verify(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    #[command(flatten)]
    journal: JournalArg,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let started = Instant::now();
    let (which, reports) = match &args.command {
        Command::Rebuild(which) => {
            let rebuild = |progress: &_| semj::rebuild_sidecars_watched(which.journal.dir(), progress);
            (which, output::watched("indexing", rebuild)?)
        }
        Command::Verify(which) => {
            let verify = |progress: &_| semj::verify_sidecars_watched(which.journal.dir(), progress);
            (which, output::watched("verifying", verify)?)
        }
    };
    let is_bad = |report: &SidecarReport| matches!(report.state, SidecarState::Missing | SidecarState::Wrong);
    output::unless_closed(print(which, &reports, started.elapsed()))?;
    Ok(if reports.iter().any(is_bad) { Outcome::Bad } else { Outcome::Good })
}

fn print(which: &Which, reports: &[SidecarReport], elapsed: Duration) -> Result<()> {
    let bytes: u64 = reports.iter().map(|report| report.segment_size).sum();
    let sidecar_bytes: u64 = reports.iter().map(|report| report.sidecar_size).sum();
    if which.json {
        return output::print_json(&json!({
            "journal": output::path(&which.journal.dir()),
            "segments": reports.iter().map(|report| json!({
                "segment": output::path(&report.segment),
                "state": state(report.state),
                "bytes": report.segment_size,
                "sidecar_bytes": report.sidecar_size,
            })).collect::<Vec<_>>(),
            "bytes": bytes,
            "sidecar_bytes": sidecar_bytes,
            "elapsed_s": elapsed.as_secs_f64(),
        }));
    }
    let mut out = output::stdout();
    for report in reports {
        let name = report.segment.file_name().unwrap_or_default().display();
        let (size, sidecar) = (output::bytes(report.segment_size), output::bytes(report.sidecar_size));
        writeln!(out, "{name}  {size:>10}  {:<8} {sidecar:>10}", state(report.state))?;
    }
    writeln!(
        out,
        "{} of sidecars, {:.2}% of {}; {}/s",
        output::bytes(sidecar_bytes),
        100.0 * sidecar_bytes as f64 / bytes.max(1) as f64,
        output::bytes(bytes),
        output::bytes(output::rate(bytes, elapsed))
    )?;
    Ok(out.flush()?)
}

const fn state(state: SidecarState) -> &'static str {
    match state {
        SidecarState::Written => "written",
        SidecarState::Right => "right",
        SidecarState::Missing => "missing",
        SidecarState::Due => "due",
        SidecarState::Wrong => "wrong",
        _ => "none",
    }
}
