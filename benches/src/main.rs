//! The program `semj-bench`: what SEMJ costs, and what the machine could do. See `benches/README.md`.

mod commands;

use anyhow::Result;
use clap::{Parser, Subcommand};
use semj_bench::allocations::Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What an emission, a sync, a reopen cost.
///
/// Every command prints Markdown tables, or with --json one row for each measurement. Where there are several runs or
/// several combinations, each is measured in a process of its own, by turns, and the medians are shown.
#[derive(Debug, Parser)]
#[command(version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Emission(commands::emission::Args),
    Throughput(commands::throughput::Args),
    Sustained(commands::sustained::Args),
    Reopen(commands::reopen::Args),
    Verify(commands::verify::Args),
    Compression(commands::compression::Args),
    Machine(commands::machine::Args),
    Report(commands::report::Args),
    #[command(hide = true)]
    ReopenStep(commands::reopen::StepArgs),
    #[command(hide = true)]
    Disturb(commands::disturb::Args),
}

fn main() -> Result<()> {
    match Program::parse().command {
        Command::Emission(args) => commands::emission::run(&args),
        Command::Throughput(args) => commands::throughput::run(&args),
        Command::Sustained(args) => commands::sustained::run(&args),
        Command::Reopen(args) => commands::reopen::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Compression(args) => commands::compression::run(&args),
        Command::Machine(args) => commands::machine::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::ReopenStep(args) => commands::reopen::run_step(&args),
        Command::Disturb(args) => commands::disturb::run(&args),
    }
}
