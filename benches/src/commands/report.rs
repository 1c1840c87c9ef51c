//! `semj-bench report`: everything, with the peers, as one page.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use semj_bench::engine::BASELINE;
use semj_bench::subject::{self, SEMJ};
use semj_bench::table::{Table, ns, rate, ratio};
use semj_bench::workload::{self, Asynchronous, Durable, Reopened, Row as WorkloadRow};
use semj_bench::{arguments, child, median, process, queue};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{emission, machine, reopen, sustained, verify};

/// Everything, with the peers, as one page: what must hold, the ratios, then the figures.
///
/// All parts are measured by turns, as often as --runs says; the medians are shown. Takes about eight minutes for each
/// run, and 25 GB of disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the files go, on a disk; default: the working directory. They are removed afterwards.
    #[arg(long, value_name = "DIR")]
    dir: Option<std::path::PathBuf>,
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// One run, with short measurements.
    #[arg(long, conflicts_with = "runs")]
    quick: bool,
    /// Write the page to benches/RESULTS.md.
    #[arg(long)]
    write: bool,
    /// Print all figures of the page as JSON instead.
    #[arg(long)]
    json: bool,
    /// RocksDB too; needs libclang.
    #[arg(long)]
    rocksdb: bool,
    /// Parts only; what rests on the others is left out.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Emission,
    Queues,
    Throughput,
    Sustained,
    Reopen,
    Verify,
    Machine,
}

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/Cargo.toml");
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/RESULTS.md");
/// The producer of every line that speaks of one at 1 M/s, and what goes on beside it.
const BESIDE: [&[&str]; 5] = [
    &[],
    &["--sync-every", "10"],
    &["--segment-size", "8388608"],
    &["--disturb", "200MB/s"],
    &["--sync-every", "10", "--segment-size", "8388608", "--disturb", "200MB/s"],
];
/// Rates, producers and payloads that are shown besides.
const SHOWN: [[&str; 3]; 5] = [
    ["1000000", "2", "256"],
    ["10000,100000,max", "1", "256"],
    ["100000,max", "2,4,8", "256"],
    ["10000,max", "1", "0,64,1024,16384"],
    ["1000000", "1", "0,64,1024"],
];

/// What was measured, a median for each figure.
#[derive(Debug, Default)]
struct Measured {
    emission: Vec<emission::Row>,
    queues: Vec<queue::Row>,
    workloads: Vec<WorkloadRow>,
    sustained: Vec<sustained::Row>,
    reopen: Vec<reopen::Row>,
    verify: Vec<verify::Row>,
    machine: Vec<machine::Row>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let runs = if args.quick { 1 } else { args.runs };
    let is_wanted = |part: Part| args.only.is_empty() || args.only.contains(&part);
    let mut rounds: Vec<Vec<(Part, Value)>> = Vec::new();
    for round in 1..=runs {
        eprintln!("round {round} of {runs}");
        rounds.push(measure(args, &is_wanted)?);
    }
    let figures = medians(rounds);
    if args.json {
        let parts = figures.iter().map(|(part, rows)| (format!("{part:?}").to_lowercase(), rows.clone()));
        println!("{}", Value::Object(parts.collect()));
        return Ok(());
    }
    let mut measured = Measured::default();
    for (part, rows) in figures {
        match part {
            Part::Emission => fill(&mut measured.emission, rows)?,
            Part::Queues => fill(&mut measured.queues, rows)?,
            Part::Throughput => fill(&mut measured.workloads, rows)?,
            Part::Sustained => fill(&mut measured.sustained, rows)?,
            Part::Reopen => fill(&mut measured.reopen, rows)?,
            Part::Verify => fill(&mut measured.verify, rows)?,
            Part::Machine => fill(&mut measured.machine, rows)?,
        }
    }
    let page = page(args, runs, &measured)?;
    println!("{page}");
    if args.write {
        fs::write(RESULTS, &page).with_context(|| format!("can't write {RESULTS}"))?;
    }
    Ok(())
}

fn fill<Row: DeserializeOwned>(rows: &mut Vec<Row>, values: Value) -> Result<()> {
    let mut read: Vec<Row> = serde_json::from_value(values)?;
    rows.append(&mut read);
    Ok(())
}

/// Measures every part once.
fn measure(args: &Args, is_wanted: &dyn Fn(Part) -> bool) -> Result<Vec<(Part, Value)>> {
    let own = |part: Part, arguments: Vec<String>| -> Result<Option<(Part, Value)>> {
        let mut command = Command::new(std::env::current_exe()?);
        one(args, is_wanted, part, command.args(arguments))
    };
    let peers = |part: Part, arguments: Vec<String>| -> Result<Option<(Part, Value)>> {
        let mut command = Command::new("cargo");
        command.args(["run", "--quiet", "--release", "--locked", "--manifest-path", PEERS]);
        if args.rocksdb {
            command.args(["--features", "rocksdb"]);
        }
        one(args, is_wanted, part, command.arg("--").args(arguments))
    };
    let (long, short, sustained) = if args.quick { (1.0, 0.5, 6.0) } else { (5.0, 2.0, 60.0) };
    let mut measured = Vec::new();
    measured.extend(own(Part::Machine, arguments!["machine"])?);
    for beside in BESIDE {
        let mut arguments = arguments!["emission", "--seconds", long];
        arguments.extend(beside.iter().map(|argument| (*argument).to_owned()));
        measured.extend(own(Part::Emission, arguments)?);
    }
    for [rate, producers, payload] in SHOWN {
        measured.extend(own(
            Part::Emission,
            arguments![
                "emission",
                "--rate",
                rate,
                "--producers",
                producers,
                "--payload",
                payload,
                "--seconds",
                short
            ],
        )?);
    }
    measured.extend(peers(Part::Queues, arguments!["queues", "--seconds", short])?);
    measured.extend(peers(Part::Throughput, arguments!["compare", "--seconds", short])?);
    measured.extend(own(Part::Sustained, arguments!["sustained", "--seconds", sustained])?);
    let events = if args.quick { "1000000" } else { "1000000,4000000" };
    measured.extend(own(Part::Reopen, arguments!["reopen", "--events", events])?);
    measured.extend(own(Part::Verify, arguments!["verify", "--mib", if args.quick { 256 } else { 1024 }])?);
    Ok(measured)
}

fn one(
    args: &Args,
    is_wanted: &dyn Fn(Part) -> bool,
    part: Part,
    command: &mut Command,
) -> Result<Option<(Part, Value)>> {
    if !is_wanted(part) {
        return Ok(None);
    }
    if let Some(dir) = &args.dir {
        command.arg("--dir").arg(dir.canonicalize().unwrap_or_else(|_| dir.clone()));
    }
    Ok(Some((part, child::json(command.arg("--json"))?)))
}

/// The medians of each part, in the order in which they were measured.
fn medians(rounds: Vec<Vec<(Part, Value)>>) -> Vec<(Part, Value)> {
    let parts: Vec<Part> = rounds.first().into_iter().flatten().map(|(part, _)| *part).collect();
    let of_part =
        |index: usize| rounds.iter().filter_map(|round| Some(round.get(index)?.1.clone())).collect();
    let medians = parts.iter().enumerate().map(|(index, part)| (*part, median::of(of_part(index))));
    // What one part was measured by in several calls is one list.
    let mut joined: Vec<(Part, Value)> = Vec::new();
    for (part, rows) in medians {
        match joined.iter_mut().find(|(known, _)| *known == part) {
            Some((_, Value::Array(known))) => known.extend(rows.as_array().cloned().unwrap_or_default()),
            _ => joined.push((part, rows)),
        }
    }
    joined
}

fn page(args: &Args, runs: u64, measured: &Measured) -> Result<String> {
    let mut page = String::new();
    writeln!(page, "# Results\n")?;
    let how = if args.quick { " --quick" } else { "" };
    writeln!(
        page,
        "Printed by `cargo run --release -p semj-bench -- report{how}`. Runs: {runs}; every figure is the median of its \
         own. Compare ratios: the machine has other users, and the figures of one run belong together.\n"
    )?;
    writeln!(page, "{}", describe_machine(args.dir.as_deref())?)?;
    writeln!(page, "## What must hold\n\n{}", demands(measured)?)?;
    if !measured.workloads.is_empty() {
        writeln!(page, "## SEMJ's figure by each engine's\n\n{}", ratios(measured))?;
        writeln!(page, "## Engines\n\n{}", workload::tables(&measured.workloads))?;
    }
    if !measured.emission.is_empty() {
        writeln!(page, "## Emission\n\n{}", emission::tables(&measured.emission))?;
    }
    if !measured.queues.is_empty() {
        writeln!(page, "## Queues in memory\n\n{}", queue::table(&measured.queues))?;
    }
    if !measured.sustained.is_empty() {
        writeln!(page, "## Sustained\n\n{}", sustained::tables(&measured.sustained))?;
    }
    if !measured.reopen.is_empty() {
        writeln!(page, "## Opened again\n\n{}", reopen::tables(&measured.reopen))?;
    }
    if !measured.verify.is_empty() {
        writeln!(page, "## Verified\n\n{}", verify::table(&measured.verify))?;
    }
    if !measured.machine.is_empty() {
        writeln!(page, "## The machine\n\n{}", machine::table(&measured.machine))?;
    }
    Ok(page.trim_end().to_owned() + "\n")
}

/// Processor, memory, kernel, file system, compiler, and what was measured.
fn describe_machine(dir: Option<&Path>) -> Result<String> {
    let first = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
    };
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        match output {
            Ok(output) if output.status.success() => {
                String::from_utf8_lossy(&output.stdout).trim().to_owned()
            }
            _ => "unknown".to_owned(),
        }
    };
    let memory_kib: u64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0);
    let mut table = Table::new(&["measured on", ""]);
    for (name, value) in [
        ("processor", first("/proc/cpuinfo", "model name")),
        ("cores", process::cores()?.len().to_string()),
        ("memory", format!("{:.0} GiB", memory_kib as f64 / f64::from(1 << 20))),
        ("kernel", format!("Linux {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim())),
        ("file system", process::file_system(dir.unwrap_or(Path::new(".")))?),
        ("compiler", said("rustc", &["--version"])),
        ("commit", said("git", &["describe", "--always", "--dirty"])),
        ("date", said("date", &["-u", "+%Y-%m-%d"])),
    ] {
        table.row([name.to_owned(), value]);
    }
    Ok(table.to_string())
}

/// What must hold, each line with the figure that shows it.
struct Demands(Table);

impl Demands {
    fn at_most(&mut self, what: impl Into<String>, figure: f64, limit: f64, show: fn(f64) -> String) {
        self.line(what.into(), format!("≤ {}", show(limit)), show(figure), figure <= limit);
    }

    fn at_least(&mut self, what: impl Into<String>, figure: f64, limit: f64, show: fn(f64) -> String) {
        self.line(what.into(), format!("≥ {}", show(limit)), show(figure), figure >= limit);
    }

    fn line(&mut self, what: String, demanded: String, measured: String, holds: bool) {
        self.0.row([what, demanded, measured, if holds { "yes" } else { "NO" }.to_owned()]);
    }
}

fn demands(measured: &Measured) -> Result<String> {
    let mut demands = Demands(Table::new(&["", "demanded", "measured", "holds"]));
    emission_demands(&mut demands, measured);
    throughput_demands(&mut demands, measured);
    let show_count = |count: f64| format!("{count}");
    let show_mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    let show_ms = |ns: f64| format!("{:.1} ms", ns / 1e6);
    let show_rate = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    let cores = process::cores()?.len() as f64;
    for row in &measured.sustained {
        let what = format!("sustained {}/s for {} s", rate(row.rate), row.seconds);
        demands.at_most(format!("{what}: dropped or left out"), row.missing() as f64, 0.0, show_count);
        // As many may wait for the committer, and as many be in the group that it is writing.
        let places = 2.0 * subject::places() as f64;
        demands.at_most(format!("{what}: longest queue"), row.queued_max as f64, places, show_count);
        let growth = row.resident_growth() as f64;
        demands.at_most(format!("{what}: RSS grows by"), growth, f64::from(1 << 20), show_mib);
    }
    for row in &measured.reopen {
        let what = format!("{} events after SIGKILL", row.warm.records);
        demands.at_most(format!("{what}: first emission"), row.warm.first_append_ns as f64, 50e6, show_ms);
        let (all, per_thread) = row.verified.bytes_per_s();
        demands.at_least(format!("{what}: verified, per thread"), per_thread, 3e9, show_rate);
        demands.at_least(format!("{what}: verified, by the number of cores"), all / cores, 3e9, show_rate);
    }
    for row in &measured.verify {
        let what = format!("{} events of {} B verified, per thread", row.events, row.payload);
        demands.at_least(what, row.bytes_per_s().1, 3e9, show_rate);
    }
    Ok(demands.0.to_string())
}

fn emission_demands(demands: &mut Demands, measured: &Measured) {
    let show = |figure: f64| ns(figure as u64);
    let show_count = |count: f64| format!("{count}");
    let show_ratio = |ratio: f64| format!("{ratio:.2}");
    let at_one_million = |producers: u64, conditions: &str| {
        measured.emission.iter().find(|row| {
            row.rate == "1000000"
                && (row.producers, row.payload) == (producers, 256)
                && row.conditions == conditions
        })
    };
    let Some(alone) = at_one_million(1, "") else { return };
    let call = &alone.call;
    for (what, figure, limit) in [
        ("p50", call.p50, 50.0),
        ("p99", call.p99, 120.0),
        ("p99.9", call.p999, 500.0),
        ("p99.99", call.p9999, 20_000.0),
    ] {
        demands.at_most(format!("emit, 1 × 1 M/s, 256 B: {what}"), figure as f64, limit, show);
    }
    demands.at_most("the same: allocations", alone.allocations as f64, 0.0, show_count);
    demands.at_most("the same: RSS", alone.resident as f64, f64::from(32 << 20), |bytes| {
        format!("{:.1} MiB", bytes / f64::from(1 << 20))
    });
    if let Some(two) = at_one_million(2, "") {
        demands.at_most("emit, 2 × 1 M/s, 256 B: p99", two.call.p99 as f64, 250.0, show);
    }
    for row in measured.emission.iter().filter(|row| !row.conditions.is_empty()) {
        let percentiles = [
            ("p50", row.call.p50, call.p50),
            ("p99", row.call.p99, call.p99),
            ("p99.9", row.call.p999, call.p999),
            ("p99.99", row.call.p9999, call.p9999),
        ];
        for (what, figure, alone) in percentiles {
            let ratio = figure as f64 / alone.max(1) as f64;
            demands.at_most(format!("{}: {what} by that without", row.conditions), ratio, 3.0, show_ratio);
        }
    }
}

fn throughput_demands(demands: &mut Demands, measured: &Measured) {
    let show = |ratio: f64| format!("{ratio:.2}");
    let limit = |name: &str| {
        let limits = measured.machine.iter().flat_map(|row| &row.limits);
        limits.filter(|limit| limit.name == name).map(|limit| limit.value).next()
    };
    for (workload, factor) in
        [(Lane::Async256, 1.3), (Lane::Async1K, 1.3), (Lane::Durable1, 0.95), (Lane::Durable8, 1.4)]
    {
        let Some(own) = workload.own(measured) else { continue };
        if let Some((engine, best)) = workload.best_peer(measured) {
            demands.at_least(
                format!("{}: by the best peer, {engine}", workload.title()),
                own / best,
                factor,
                show,
            );
        }
        let of_machine = match workload {
            Lane::Async256 => {
                limit(machine::RECORDS_HASHED).map(|limit| ("by what can be hashed", limit, 0.6))
            }
            Lane::Async1K => None,
            Lane::Durable1 => limit(machine::SYNC_OF_WRITTEN_SPACE)
                .map(|limit| ("by the machine's pwrite + fdatasync", limit, 0.9)),
            Lane::Durable8 => limit(machine::SYNC_OF_WRITTEN_SPACE)
                .map(|limit| ("by eight times the machine's pwrite + fdatasync", 8.0 * limit, 0.6)),
        };
        if let Some((what, limit, factor)) = of_machine {
            demands.at_least(format!("{}: {what}", workload.title()), own / limit, factor, show);
        }
    }
}

/// A workload that engines are compared by.
#[derive(Clone, Copy, Debug)]
enum Lane {
    Async256,
    Async1K,
    Durable1,
    Durable8,
}

impl Lane {
    const ALL: [Self; 4] = [Self::Async256, Self::Async1K, Self::Durable1, Self::Durable8];

    fn title(self) -> &'static str {
        match self {
            Self::Async256 => "1,000,000 × 256 B, one sync",
            Self::Async1K => "300,000 × 1 KiB, one sync",
            Self::Durable1 => "durable, 1 thread",
            Self::Durable8 => "durable, 8 threads",
        }
    }

    /// The engine and its records each second, if the row is one of this workload.
    fn of(self, row: &WorkloadRow) -> Option<(&str, f64)> {
        match (self, row) {
            (
                Self::Async256,
                WorkloadRow::Asynchronous(Asynchronous { engine, payload: 256, records_per_s, .. }),
            )
            | (
                Self::Async1K,
                WorkloadRow::Asynchronous(Asynchronous { engine, payload: 1024, records_per_s, .. }),
            )
            | (Self::Durable1, WorkloadRow::Durable(Durable { engine, threads: 1, records_per_s, .. }))
            | (Self::Durable8, WorkloadRow::Durable(Durable { engine, threads: 8, records_per_s, .. })) => {
                Some((engine, *records_per_s))
            }
            _ => None,
        }
    }

    fn of_engine(self, measured: &Measured, name: &str) -> Option<f64> {
        let mut figures = measured.workloads.iter().filter_map(|row| self.of(row));
        figures.find(|(engine, _)| *engine == name).map(|(_, figure)| figure)
    }

    fn own(self, measured: &Measured) -> Option<f64> {
        self.of_engine(measured, SEMJ.name)
    }

    /// Of those that a user could pick.
    fn best_peer(self, measured: &Measured) -> Option<(&str, f64)> {
        let figures = measured.workloads.iter().filter_map(|row| self.of(row));
        let peers = figures.filter(|(engine, _)| *engine != SEMJ.name && !engine.starts_with(BASELINE));
        peers.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }
}

fn ratios(measured: &Measured) -> String {
    let mut engines: Vec<&str> = Vec::new();
    for row in &measured.workloads {
        let (WorkloadRow::Asynchronous(Asynchronous { engine, .. })
        | WorkloadRow::Durable(Durable { engine, .. })
        | WorkloadRow::Reopened(Reopened { engine, .. })) = row;
        if !engines.contains(&engine.as_str()) {
            engines.push(engine);
        }
    }
    let titles: Vec<&str> = ["engine"].into_iter().chain(Lane::ALL.map(Lane::title)).collect();
    let mut table = Table::new(&titles);
    for engine in engines {
        let by = |workload: Lane| {
            let figures = (workload.own(measured), workload.of_engine(measured, engine));
            if let (Some(own), Some(other)) = figures { ratio(own, other) } else { "-".to_owned() }
        };
        table.row([engine.to_owned()].into_iter().chain(Lane::ALL.map(by)));
    }
    table.to_string()
}
