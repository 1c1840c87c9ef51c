//! `semj-bench reopen`: what a process finds that comes after one that was killed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use semj_bench::arguments;
use semj_bench::child;
use semj_bench::common::Common;
use semj_bench::process::Scratch;
use semj_bench::subject::SEMJ;
use semj_bench::table::{Table, ns};
use semj_bench::workload::{self, Reopened};
use serde::{Deserialize, Serialize};

use super::verify;

/// A process that has written a journal is killed with SIGKILL; others open it, read it, and verify it completely.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Events in the journal.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000000")]
    events: Vec<u64>,
    /// Bytes of payload.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    payload: usize,
}

/// One of the processes that a measurement consists of.
#[derive(Debug, clap::Args)]
pub(crate) struct StepArgs {
    step: Step,
    events: u64,
    payload: usize,
    scratch: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Step {
    Hold,
    Verify,
    Reopen,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    #[serde(flatten)]
    pub(crate) warm: Reopened,
    /// The same with nothing of the journal in memory, in nanoseconds.
    pub(crate) cold_first_append_ns: u64,
    pub(crate) verified: verify::Row,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let rows = args.common.measure(
        &args.events,
        |events| arguments!["reopen", "--events", events, "--payload", args.payload],
        |events| measure(args, *events),
    )?;
    args.common.print(&rows, tables)
}

fn measure(args: &Args, events: u64) -> Result<Row> {
    let bytes = events * (args.payload as u64 + 320);
    let program = std::env::current_exe()?;
    let command = |step: &str, scratch: &Path| {
        let mut command = Command::new(&program);
        command.args(arguments!["reopen-step", step, events, args.payload, scratch.display()]);
        command
    };
    let step = |step: &str, scratch: &Path| child::json(&mut command(step, scratch));
    let scratch = Scratch::new(args.common.dir.as_deref(), 2 * bytes + (1 << 30))?;
    workload::kill_when_ready(&mut command("hold", scratch.path()))?;
    // Verifying changes nothing, so it comes first, and twice: what the first one reads is in memory for the others.
    step("verify", scratch.path())?;
    let verified = serde_json::from_value(step("verify", scratch.path())?)?;
    let warm = serde_json::from_value(step("reopen", scratch.path())?)?;
    drop(scratch);

    let scratch = Scratch::new(args.common.dir.as_deref(), 2 * bytes + (1 << 30))?;
    workload::kill_when_ready(&mut command("hold", scratch.path()))?;
    workload::evict(&workload::log_dir(scratch.path()))?;
    let cold: Reopened = serde_json::from_value(step("reopen", scratch.path())?)?;
    Ok(Row { warm, cold_first_append_ns: cold.first_append_ns, verified })
}

pub(crate) fn run_step(args: &StepArgs) -> Result<()> {
    let json = match args.step {
        Step::Hold => return workload::hold(&SEMJ, args.events, args.payload, &args.scratch),
        Step::Verify => {
            serde_json::to_string(&verify::Row::measure(args.payload, &workload::log_dir(&args.scratch))?)?
        }
        Step::Reopen => serde_json::to_string(&workload::reopen(&SEMJ, &args.scratch)?)?,
    };
    println!("{json}");
    Ok(())
}

pub(crate) fn tables(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "reopened after SIGKILL",
        "first emission",
        "processor time until then",
        "cold",
        "scan GB/s",
        "get p50",
        "get p99",
    ]);
    for row in rows {
        let get = |pick: fn(&semj_bench::latency::Percentiles) -> u64| {
            row.warm.get.as_ref().map_or("-".to_owned(), |get| ns(pick(get)))
        };
        table.row([
            format!("{} events, {} B", row.warm.records, row.warm.payload),
            ns(row.warm.first_append_ns),
            ns(row.warm.processor_ns),
            ns(row.cold_first_append_ns),
            row.warm.scan_bytes_per_s.map_or("-".into(), |rate| format!("{:.2}", rate / 1e9)),
            get(|get| get.p50),
            get(|get| get.p99),
        ]);
    }
    format!("{table}\n{}", verify::table(rows.iter().map(|row| &row.verified)))
}
