//! Runs the simulation for as many seeds as one likes:
//!
//! ```text
//! cargo run -p semj-tests --release --bin simulate -- --seeds N [--from S] [--images K]
//! ```
//!
//! Ends at the first violation with status 1 and the seed, which gives the same history again:
//! `--seeds 1 --from SEED`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use semj_tests::simulation::{Config, Violation, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut from, mut images) = (1000, 0, 8);
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), value) {
            ("--seeds", Some(value)) => seeds = value,
            ("--from", Some(value)) => from = value,
            ("--images", Some(value)) => images = value,
            _ => {
                eprintln!("usage: simulate [--seeds N] [--from S] [--images K]");
                return ExitCode::from(2);
            }
        }
    }
    let config = Config { images, exhaustive_one_in: 64, left_out: None };
    let started = Instant::now();
    let (next, states) = (AtomicU64::new(from), AtomicU64::new(0));
    let violations: Mutex<Vec<Violation>> = Mutex::new(Vec::new());
    let add =
        |violation| violations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(violation);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    match run(seed, config) {
                        Ok(outcome) => {
                            states.fetch_add(outcome.states, Ordering::Relaxed);
                        }
                        Err(violation) => {
                            add(violation);
                            next.store(u64::MAX / 2, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let states = states.into_inner();
    let seconds = started.elapsed().as_secs_f64();
    println!(
        "{states} crash states of {seeds} seeds from {from}, {:.0} states/s, {:.0} seeds/s",
        states as f64 / seconds,
        seeds as f64 / seconds
    );
    let violations = violations.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
