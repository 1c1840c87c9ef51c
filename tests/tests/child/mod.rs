//! Processes that come to harm: the test binary starts itself again for them. A test whose name begins with `child_` does
//! nothing unless another one has started it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Names the journal's directory to a child.
const DIR: &str = "SEMJ_TEST_DIR";
/// Tells a child which of several things to do.
const TASK: &str = "SEMJ_TEST_TASK";

/// What a child was started for, if this is one: the directory and the task. From here on a panic on any thread ends the
/// child and is what it says last.
pub(crate) fn orders() -> Option<(PathBuf, String)> {
    let dir = PathBuf::from(std::env::var_os(DIR)?);
    std::panic::set_hook(Box::new(|panic| {
        say(&format!("error {}", panic.to_string().replace('\n', " ")));
        std::process::abort();
    }));
    // Behind the test's name, which has no end of line before the test has ended.
    say("");
    Some((dir, std::env::var(TASK).unwrap_or_default()))
}

pub(crate) fn start(test: &str, dir: &Path, task: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .env(TASK, task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// The whole lines that a child has said until it ended; one that was cut off by its death was never said.
pub(crate) fn said(child: &mut Child) -> Vec<String> {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).unwrap() > 0 && line.ends_with(b"\n") {
        lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    lines
}

/// Runs a child to its end, and gives what it said.
pub(crate) fn run(test: &str, dir: &Path, task: &str) -> (ExitStatus, Vec<String>) {
    let mut child = start(test, dir, task);
    let lines = said(&mut child);
    (child.wait().unwrap(), lines)
}
