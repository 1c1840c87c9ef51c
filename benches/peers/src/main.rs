//! The program `semj-peers`: other logs, and queues in memory, under the loops that SEMJ is measured with. See
//! `benches/README.md`.

mod engines;
mod queues;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum as _};
use semj_bench::allocations::Counting;
use semj_bench::common::Common;
use semj_bench::engine::{Kind, Reopen};
use semj_bench::process::Scratch;
use semj_bench::workload::{self, Row, SCRATCH_BYTES, Workload};
use semj_bench::{arguments, child};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Other logs, and queues in memory, under the loops that SEMJ is measured with.
#[derive(Debug, Parser)]
#[command(version)]
struct Program {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every engine in turn, each measurement in a process of its own.
    Compare(CompareArgs),
    Queues(queues::Args),
    /// The names of the engines.
    List,
    #[command(hide = true)]
    Step(StepArgs),
}

#[derive(Debug, clap::Args)]
struct CompareArgs {
    #[command(flatten)]
    common: Common,
    /// Which engines; default: all.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    engines: Vec<String>,
    /// What is measured; default: everything.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Measured>,
    /// How long each durable measurement takes, all its parts together.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
}

/// A disk's syncs take longer in one minute than in the next, and with many engines one's turn comes a minute behind
/// another's. So what lasts a while anyway is measured in so many parts, each of all engines before the next one's.
const DURABLE_PARTS: u64 = 4;

/// A workload, or opening again what a killed process left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Measured {
    Workload(Workload),
    Reopen,
}

impl std::str::FromStr for Measured {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reopen" => Ok(Self::Reopen),
            _ => Workload::from_str(text, false).map(Self::Workload),
        }
    }
}

impl Measured {
    fn name(self) -> String {
        match self {
            Self::Workload(workload) => workload.name(),
            Self::Reopen => "reopen".into(),
        }
    }

    fn is_durable(self) -> bool {
        matches!(self, Self::Workload(Workload::Durable1 | Workload::Durable8))
    }

    fn suits(self, kind: &Kind) -> bool {
        match self {
            Self::Workload(workload) => workload.suits(kind),
            Self::Reopen => kind.reopen != Reopen::Never,
        }
    }
}

/// One of the processes that a measurement consists of.
#[derive(Debug, clap::Args)]
struct StepArgs {
    engine: String,
    /// A workload's name, `hold` or `reopen`.
    step: String,
    seconds: f64,
    scratch: PathBuf,
}

/// What is written before the process is killed.
const HELD: (u64, usize) = (1_000_000, 256);

fn main() -> Result<()> {
    match Program::parse().command {
        Action::Compare(args) => compare(&args),
        Action::Queues(args) => queues::run(&args),
        Action::List => {
            engines::ALL.iter().for_each(|kind| println!("{}", kind.name));
            Ok(())
        }
        Action::Step(args) => step(&args),
    }
}

fn compare(args: &CompareArgs) -> Result<()> {
    let kinds: Vec<&Kind> = match args.engines.is_empty() {
        true => engines::ALL.iter().collect(),
        false => args.engines.iter().map(|name| engines::named(name)).collect::<Result<_>>()?,
    };
    let everything: Vec<Measured> = Workload::value_variants()
        .iter()
        .copied()
        .map(Measured::Workload)
        .chain([Measured::Reopen])
        .collect();
    let measured = if args.only.is_empty() { &everything } else { &args.only };
    let measurements: Vec<(Measured, &Kind)> = measured
        .iter()
        .flat_map(|measured| kinds.iter().map(|kind| (*measured, *kind)))
        .filter(|(measured, kind)| measured.suits(kind))
        .collect();
    let rows = match measurements[..] {
        [(measured, kind)] if args.common.runs == 1 => vec![measure(args, measured, kind)?],
        _ => by_turns(args, &measurements)?,
    };
    args.common.print(&rows, workload::tables)
}

/// Makes the measurements in a process each, the engines by turns.
fn by_turns(args: &CompareArgs, measurements: &[(Measured, &Kind)]) -> Result<Vec<Row>> {
    let (durable, others): (Vec<_>, Vec<_>) =
        measurements.iter().copied().partition(|(measured, _)| measured.is_durable());
    let mut rows = Vec::with_capacity(measurements.len());
    for (measurements, parts) in [(others, 1), (durable, DURABLE_PARTS)] {
        let seconds = args.seconds / parts as f64;
        let command_lines = measurements.iter().map(|(measured, kind)| {
            arguments!["compare", "--engines", kind.name, "--only", measured.name(), "--seconds", seconds]
        });
        rows.extend(args.common.medians(command_lines, parts)?);
    }
    Ok(rows)
}

/// Makes one measurement, in a process that does nothing else.
fn measure(args: &CompareArgs, measured: Measured, kind: &Kind) -> Result<Row> {
    let program = std::env::current_exe()?;
    let scratch = Scratch::new(args.common.dir.as_deref(), SCRATCH_BYTES)?;
    let dir = workload::log_dir(scratch.path());
    std::fs::create_dir_all(&dir)?;
    let command = |step: &str| {
        let mut command = Command::new(&program);
        command
            .args(arguments!["step", kind.name, step, args.seconds, scratch.path().display()])
            // walrus takes its directory from here.
            .env("WALRUS_DATA_DIR", &dir)
            .env("WALRUS_QUIET", "1");
        command
    };
    if measured == Measured::Reopen {
        workload::kill_when_ready(&mut command("hold"))?;
    }
    Ok(serde_json::from_value(child::json(&mut command(&measured.name()))?)?)
}

fn step(args: &StepArgs) -> Result<()> {
    let kind = engines::named(&args.engine)?;
    let row = match args.step.as_str() {
        "hold" => return workload::hold(kind, HELD.0, HELD.1, &args.scratch),
        "reopen" => Row::Reopened(workload::reopen(kind, &args.scratch)?),
        name => {
            let workload = Workload::from_str(name, false).map_err(anyhow::Error::msg)?;
            workload.run(kind, Duration::from_secs_f64(args.seconds), &workload::log_dir(&args.scratch))?
        }
    };
    println!("{}", serde_json::to_string(&row)?);
    Ok(())
}
