//! `semj-bench throughput`: how many records each second.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use semj_bench::process::Scratch;
use semj_bench::subject::SEMJ;
use semj_bench::table::{Table, mib, ns, rate};
use semj_bench::workload::{self, Asynchronous, Durable};
use serde::{Deserialize, Serialize};

use super::{Common, arguments};

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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// 1,000,000 records of 256 bytes, one sync at the end.
    #[value(name = "async-256")]
    Async256,
    /// 300,000 records of 1 KiB, one sync at the end.
    #[value(name = "async-1k")]
    Async1K,
    /// One thread, which waits for each of its records of 256 bytes until it is durable.
    #[value(name = "durable-1")]
    Durable1,
    /// Eight such threads.
    #[value(name = "durable-8")]
    Durable8,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "workload", rename_all = "snake_case")]
enum Row {
    Asynchronous(Asynchronous),
    Durable(Durable),
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let workloads = if args.only.is_empty() { Workload::value_variants() } else { &args.only };
    let command_line = |workload: &Workload| {
        let name = workload.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        arguments!["throughput", "--only", name, "--seconds", args.seconds]
    };
    let measure = |workload: &Workload| {
        let scratch = Scratch::new(args.common.dir.as_deref(), 4 << 30)?;
        let durable = |threads| {
            let seconds = Duration::from_secs_f64(args.seconds);
            workload::durable(&SEMJ, threads, 256, seconds, &scratch).map(Row::Durable)
        };
        match workload {
            Workload::Async256 => {
                workload::asynchronous(&SEMJ, 1_000_000, 256, &scratch).map(Row::Asynchronous)
            }
            Workload::Async1K => {
                workload::asynchronous(&SEMJ, 300_000, 1024, &scratch).map(Row::Asynchronous)
            }
            Workload::Durable1 => durable(1),
            Workload::Durable8 => durable(8),
        }
    };
    let rows = args.common.measure(workloads, command_line, measure)?;
    args.common.print(&rows, tables)
}

fn tables(rows: &[Row]) -> String {
    let mut asynchronous = Table::new(&[
        "one thread, one sync at the end",
        "records/s",
        "call p50",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "sync",
        "disk/payload",
        "RSS MiB",
        "with maps",
    ]);
    let mut durable =
        Table::new(&["durable one by one", "records/s", "p50", "p99", "p99.9", "max", "RSS MiB"]);
    let (mut is_asynchronous, mut is_durable) = (false, false);
    for row in rows {
        match row {
            Row::Asynchronous(row) => {
                is_asynchronous = true;
                asynchronous.row([
                    format!("{} × {} B", row.records, row.payload),
                    rate(row.records_per_s),
                    ns(row.call.p50),
                    ns(row.call.p99),
                    ns(row.call.p999),
                    ns(row.call.p9999),
                    ns(row.call.max),
                    ns(row.sync_ns),
                    format!("{:.2}", row.disk_per_payload),
                    mib(row.resident),
                    mib(row.resident_max),
                ]);
            }
            Row::Durable(row) => {
                is_durable = true;
                durable.row([
                    format!(
                        "{} thread{}, {} B",
                        row.threads,
                        if row.threads == 1 { "" } else { "s" },
                        row.payload
                    ),
                    rate(row.records_per_s),
                    ns(row.wait.p50),
                    ns(row.wait.p99),
                    ns(row.wait.p999),
                    ns(row.wait.max),
                    mib(row.resident),
                ]);
            }
        }
    }
    let mut text = String::new();
    if is_asynchronous {
        let _ = writeln!(text, "{asynchronous}");
    }
    if is_durable {
        let _ = writeln!(text, "{durable}");
    }
    text
}
