//! Power cuts on a real file system: `tests/powercut/run.sh` runs it, `tests/powercut/README.md` says what it
//! shows.

mod device;
mod history;
mod image;
mod log;
mod recording;
mod replay;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};

use crate::device::FileSystem;
use crate::history::{Life, Model, Note, Notebook, read_notes};
use crate::recording::{Recording, Request};
use crate::replay::{Outcome, replay, show};

/// Lives of a writer in one history.
const LIVES: u64 = 12;
/// States of one history.
const STATES_OF_A_HISTORY: u64 = 500;
/// States of the control's history, at most.
const STATES_OF_THE_CONTROL: u64 = 200;
/// Violations that are printed.
const SHOWN: usize = 20;

/// Power cuts on a real file system.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Records histories, and checks what power cuts leave of them.
    Run {
        #[arg(long)]
        fs: FileSystem,
        #[arg(long)]
        states: u64,
        /// The first history's; the next ones follow.
        #[arg(long)]
        seed: u64,
        /// An existing directory, in memory at best. What failed is kept there.
        #[arg(long)]
        scratch: PathBuf,
    },
    /// Checks one state of a recording that was kept.
    Check {
        #[arg(long)]
        recording: PathBuf,
        #[arg(long)]
        state: u64,
        #[arg(long)]
        scratch: PathBuf,
        /// Where to write the state's image, as the power cut left it.
        #[arg(long)]
        image: Option<PathBuf>,
    },
    /// One life of the writer; `run` starts it.
    #[command(hide = true)]
    Write(Writer),
}

#[derive(clap::Args)]
struct Writer {
    #[arg(long)]
    journal: PathBuf,
    #[arg(long)]
    log: PathBuf,
    #[arg(long)]
    notes: PathBuf,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    life: u64,
    #[arg(long)]
    operations: u64,
    /// Acknowledge before the sync: the control, which must lose events.
    #[arg(long)]
    acknowledge_early: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Action::Run { fs, states, seed, scratch } => run(fs, states, seed, &scratch),
        Action::Check { recording, state, scratch, image } => {
            check(&recording, state, &scratch, image.as_deref())
        }
        Action::Write(writer) => write(&writer).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("powercut: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn write(writer: &Writer) -> Result<()> {
    let Writer { journal: dir, log, notes, seed, life: number, operations, .. } = writer;
    let expected = Model::new(*seed, read_notes(notes)?).at(u64::MAX);
    let life = Life::new(*seed, *number, *operations);
    let mut notebook = Notebook::open(notes, log)?;
    let journal = life.open(dir)?;
    let last = expected.check(Some(&journal.reader()))?;
    notebook.add(Note::Opened { life: *number, operations: *operations, last })?;
    life.run(&journal, writer.acknowledge_early, |last| notebook.add(Note::Acknowledged { last }))?;
    if life.is_closed {
        let last = journal.close()?.last_durable_id;
        notebook.add(Note::Acknowledged { last })?;
    }
    // The other lives end here and now, without a word to the journal: nothing is dropped.
    std::process::exit(0)
}

/// What a file system's histories came to.
#[derive(Default)]
struct Totals {
    outcome: Outcome,
    histories: u64,
    entries: u64,
    flushes: u64,
    acknowledged: u64,
}

fn run(file_system: FileSystem, states: u64, seed: u64, scratch: &Path) -> Result<bool> {
    ensure!(states > 0, "no states, nothing to show");
    let mut totals = Totals::default();
    let mut seconds = 0.0;
    let mut left = states;
    for seed in seed.. {
        let states = left.min(STATES_OF_A_HISTORY);
        if states == 0 {
            break;
        }
        left -= states;
        let recording = record(file_system, seed, scratch, false)?;
        totals.histories += 1;
        totals.entries += recording.log.len() as u64;
        totals.flushes += recording.flushes();
        totals.acknowledged += recording.model.acknowledged();
        let started = Instant::now();
        let outcome = replay(&recording, 0..states, scratch, jobs(), true)?;
        seconds += started.elapsed().as_secs_f64();
        tell(&outcome);
        if outcome.violations.is_empty() {
            fs::remove_dir_all(&recording.dir)?;
        }
        totals.outcome += outcome;
    }

    let control = record(file_system, seed, scratch, true)?;
    let controlled = replay(&control, 0..states.min(STATES_OF_THE_CONTROL), scratch, jobs(), false)?;
    let losses = controlled.violations.iter().filter(|violation| violation.what.contains("I1: ")).count();
    let is_controlled = losses > 0 && losses == controlled.violations.len();
    if !is_controlled {
        println!(
            "the control, which acknowledges too early, must lose what it acknowledged and no more than that"
        );
        tell(&controlled);
    }
    fs::remove_dir_all(&control.dir)?;

    let Totals { outcome, histories, entries, flushes, acknowledged } = totals;
    println!(
        "{}: {} crash states ({} torn, {} after a recovery, {} in a recovery) at {:.1} states/s; {histories} \
         histories from seed {seed}, {entries} log entries, {flushes} flushes, {acknowledged} events \
         acknowledged; lost: {}; control: {losses} of {} states lost",
        file_system.name(),
        outcome.states,
        outcome.torn,
        outcome.after_recovery,
        outcome.in_recovery,
        outcome.states as f64 / seconds,
        outcome.violations.len(),
        controlled.states,
    );
    Ok(is_controlled && outcome.violations.is_empty())
}

fn record(file_system: FileSystem, seed: u64, scratch: &Path, is_early: bool) -> Result<Recording> {
    let kind = if is_early { "control" } else { "history" };
    let dir = scratch.join(format!("{}-{kind}-{seed}", file_system.name()));
    fs::create_dir_all(&dir)?;
    file_system.make(&Recording::base(&dir))?;
    let request = Request {
        file_system,
        seed,
        cut_seed: seed,
        lives: 0..LIVES,
        operations: 10..80,
        is_early,
        notes: Vec::new(),
    };
    Recording::make(&dir, &request).with_context(|| format!("{kind} of seed {seed}"))
}

fn jobs() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

fn tell(outcome: &Outcome) {
    for violation in outcome.violations.iter().take(SHOWN) {
        let replay::Violation { recording, state, what } = violation;
        println!("VIOLATION in state {state} of {}: {what}", recording.display());
    }
    if let Some(more) = outcome.violations.len().checked_sub(SHOWN + 1) {
        println!("and {} more", more + 1);
    }
}

fn check(recording: &Path, state: u64, scratch: &Path, image: Option<&Path>) -> Result<bool> {
    let recording = Recording::load(recording)?;
    let outcome = show(&recording, state, scratch, image)?;
    tell(&outcome);
    println!("{} crash states checked", outcome.states);
    Ok(outcome.violations.is_empty())
}
