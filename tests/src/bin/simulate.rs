//! Runs the simulation for as many seeds as one likes:
//!
//! ```text
//! cargo run -p semj-tests --release --bin simulate -- --seeds N [--from S] [--images K]
//! cargo run -p semj-tests --release --bin simulate -- --barriers
//! ```
//!
//! Ends at the first violation with status 1 and the seed, which gives the same history again:
//! `--seeds 1 --from SEED`. With `--barriers` it leaves out each durability barrier in turn, and says by which seed that
//! is noticed; one that nobody notices is a failure.

use std::process::ExitCode;
use std::time::Instant;

use semj_tests::disk::Barrier;
use semj_tests::simulation::{Config, run, run_all};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut from, mut images) = (1000, 0, 8);
    while let Some(argument) = arguments.next() {
        if argument == "--barriers" {
            return barriers();
        }
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--from", Some(value)) => from = value,
            ("--images", Some(value)) => images = value,
            _ => {
                eprintln!("usage: simulate [--seeds N] [--from S] [--images K] | --barriers");
                return ExitCode::from(2);
            }
        }
    }
    let config = Config { images, exhaustive_one_in: 64, left_out: None };
    let started = Instant::now();
    let states = match run_all(from..from.saturating_add(seeds), config) {
        Ok(states) => states,
        Err(violation) => {
            println!("VIOLATION {violation}");
            return ExitCode::FAILURE;
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{states} crash states of {seeds} seeds from {from}, {:.0} states/s, {:.0} seeds/s",
        states as f64 / seconds,
        seeds as f64 / seconds
    );
    ExitCode::SUCCESS
}

/// Seeds after which a barrier counts as one that nobody misses.
const BARRIER_SEEDS: u64 = 10_000;

fn barriers() -> ExitCode {
    let mut unneeded = 0;
    for barrier in Barrier::ALL {
        let config = Config { images: 4, exhaustive_one_in: 64, left_out: Some(barrier) };
        match (0..BARRIER_SEEDS).find_map(|seed| run(seed, config).err()) {
            Some(violation) => println!("without {barrier:?}: {violation}"),
            None => {
                unneeded += 1;
                println!("without {barrier:?}: nothing is lost in {BARRIER_SEEDS} seeds");
            }
        }
    }
    if unneeded == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
