//! This program once more: each measurement begins with a process that has done nothing else.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::median;

/// Runs a program with these arguments and gives the JSON that it prints.
///
/// # Errors
///
/// It can't be run, fails, or prints something else.
pub fn json(command: &mut Command) -> Result<Value> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("can't run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} did not print JSON"))
}

/// Runs this program with each of these command lines in turn, `runs` times over, and gives for each the medians of the
/// one row that it prints. Every other time they come from the last to the first: so a machine that gets slower or faster
/// is the same to all, and what the one before has left behind is another's.
///
/// # Errors
///
/// As [`json`].
pub fn medians<T: DeserializeOwned>(command_lines: &[Vec<String>], runs: usize) -> Result<Vec<T>> {
    let program = std::env::current_exe()?;
    let mut rows = vec![Vec::with_capacity(runs); command_lines.len()];
    for run in 1..=runs {
        let mut turns: Vec<_> = command_lines.iter().zip(&mut rows).collect();
        if run % 2 == 0 {
            turns.reverse();
        }
        for (arguments, rows) in turns {
            eprintln!("run {run} of {runs}: {}", arguments.join(" "));
            warm_memory();
            match json(Command::new(&program).args(arguments).arg("--json"))? {
                Value::Array(mut printed) if printed.len() == 1 => rows.append(&mut printed),
                other => bail!("{arguments:?}: one row was expected, this came: {other}"),
            }
        }
    }
    rows.into_iter().map(|rows| Ok(serde_json::from_value(median::of(rows))?)).collect()
}

/// Bytes that are used: more than most measurements fill with files in memory, and what the others fill first.
const WARM_BYTES: usize = 1 << 30;

/// Uses memory and gives it back. The free memory of a virtual machine may be its host's (virtio-balloon's free page
/// reporting): what is used of it for the first time then costs ten times as much, and which measurement would pay for it
/// is chance. What is free for some seconds goes back to the host, so one that lasts longer pays nevertheless.
fn warm_memory() {
    let mut bytes = vec![0u8; WARM_BYTES];
    for page in bytes.chunks_mut(4096) {
        if let Some(byte) = page.first_mut() {
            *std::hint::black_box(byte) = 1;
        }
    }
}
