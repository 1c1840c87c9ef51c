//! `semj-bench throughput`: how many records each second.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum as _;
use semj_bench::arguments;
use semj_bench::common::Common;
use semj_bench::process::Scratch;
use semj_bench::subject::SEMJ;
use semj_bench::workload::{SCRATCH_BYTES, Workload, tables};

/// How many records each second: appended as fast as one thread can with one sync at the end, and durable one by one.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// What is measured; default: everything.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Workload>,
    /// How long each durable measurement takes.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workloads = if args.only.is_empty() { Workload::value_variants() } else { &args.only };
    let rows = args.common.measure(
        workloads,
        |workload| arguments!["throughput", "--only", workload.name(), "--seconds", args.seconds],
        |workload| {
            let scratch = Scratch::new(args.common.dir.as_deref(), SCRATCH_BYTES)?;
            workload.run(&SEMJ, Duration::from_secs_f64(args.seconds), scratch.path())
        },
    )?;
    args.common.print(&rows, tables)
}
