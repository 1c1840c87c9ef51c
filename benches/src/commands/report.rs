//! `semj-bench report`: everything, with the peers, as one page.

mod demands;
mod lane;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use semj_bench::table::{Table, ratio};
use semj_bench::workload::{self, Asynchronous, Durable, Reopened, Row as WorkloadRow};
use semj_bench::{arguments, child, median, process, queue};
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::lane::Lane;
use super::{emission, machine, reopen, sustained, verify};

/// Everything, with the peers, as one page: what must hold, the ratios, then the figures.
///
/// All parts are measured by turns, as often as --runs says; the medians are shown. Takes about ten minutes for each
/// run, and 25 GB of disk.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the files go, on a disk; default: the working directory. They are removed afterwards.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
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

/// Why some figures are shown a second time.
const BY_THE_MACHINE: &str = "\
What an emission takes and how fast is verified was demanded in nanoseconds and GB/s, of a machine on which a push of 256 bytes \
to crossbeam's ArrayQueue takes 10, 40 and 80 ns (p50, p99, p99.9) and one core makes 7.4 GB/s of SHA-256. Here are the \
same demands as multiples of what this machine does itself, in the same runs.";

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
    let peers =
        if is_wanted(Part::Queues) || is_wanted(Part::Throughput) { Some(build_peers(args)?) } else { None };
    let mut rounds: Vec<Vec<(Part, Value)>> = Vec::new();
    for round in 1..=runs {
        eprintln!("round {round} of {runs}");
        rounds.push(measure(args, peers.as_deref(), &is_wanted)?);
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

/// Builds the peers, and gives the program: once, so that all rounds run the same one, whatever is edited meanwhile.
fn build_peers(args: &Args) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.args(["build", "--quiet", "--release", "--locked", "--manifest-path", PEERS]);
    command.arg("--message-format=json-render-diagnostics");
    if args.rocksdb {
        command.args(["--features", "rocksdb"]);
    }
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("can't run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", output.status);
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    // The last that was linked is the package's own.
    let program =
        messages.filter_map(|message| Some(PathBuf::from(message.ok()?["executable"].as_str()?))).last();
    program.with_context(|| format!("{command:?} has made no program"))
}

/// Measures every part once.
fn measure(
    args: &Args,
    peers: Option<&Path>,
    is_wanted: &dyn Fn(Part) -> bool,
) -> Result<Vec<(Part, Value)>> {
    let own = |part: Part, arguments: Vec<String>| -> Result<Option<(Part, Value)>> {
        let mut command = Command::new(std::env::current_exe()?);
        one(args, is_wanted, part, command.args(arguments))
    };
    let peers = |part: Part, arguments: Vec<String>| -> Result<Option<(Part, Value)>> {
        let Some(program) = peers else { return Ok(None) };
        one(args, is_wanted, part, Command::new(program).args(arguments))
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
    writeln!(page, "## What must hold\n\n{}", demands::demands(measured)?)?;
    if let Some(table) = demands::by_the_machine(measured) {
        writeln!(page, "## What must hold, by the machine\n\n{BY_THE_MACHINE}\n\n{table}")?;
    }
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
