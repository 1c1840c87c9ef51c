//! Lets every system call of a short life of a journal fail, one at a time, and holds what is recovered against what was
//! acknowledged:
//!
//! ```text
//! cargo run -p semj-tests --release --bin syscalls [-- --short]
//! ```
//!
//! Two lives: a new journal (events, batches, syncs, a rotation, a close), and one that recovers a torn tail first.
//! For each call that touches the disk, for every n: the process is killed at the n-th call; the n-th call fails with EIO,
//! or with ENOSPC; all calls from the n-th on fail so. A life that does not end in time is a failure too. Needs strace.
//!
//! `--short` takes only some of the n: the first four of each call, then every seventh.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use semj::{Error, Event, EventType, Journal, Options};

/// The calls that are let fail. A call that a life does not make is left out by itself.
const CALLS: [&str; 13] = [
    "fsync",
    "fdatasync",
    "pwrite64",
    "fallocate",
    "rename",
    "unlink",
    "ftruncate",
    "mkdir",
    "openat",
    "getdents64",
    "mmap",
    "pread64",
    "flock",
];
const FAULTS: [&str; 5] = ["signal=SIGKILL", "error=EIO", "error=EIO+", "error=ENOSPC", "error=ENOSPC+"];
/// A life takes some milliseconds; with strace, and on a busy machine, some hundred.
const DEADLINE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["live", dir, acknowledged] => live(Path::new(dir), Path::new(acknowledged)),
        [] => report(sweep(false)),
        ["--short"] => report(sweep(true)),
        _ => {
            eprintln!("usage: syscalls [--short]");
            ExitCode::from(2)
        }
    }
}

fn report(result: io::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("syscalls: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        buffer_events: 64,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// What the event with this id holds.
fn payload(id: u64) -> Vec<u8> {
    (0..id * 97 % 900).map(|i| (i ^ id) as u8).collect()
}

// The writer ---------------------------------------------------------------------------------------------------

/// A life of a writer. It writes down what was acknowledged: `ack ID` after a sync, `batch FIRST END`, and `fail` when
/// something was refused. After that it goes on trying, because nothing may be acknowledged any more.
fn live(dir: &Path, acknowledged: &Path) -> ExitCode {
    let Ok(mut notes) = File::options().create(true).append(true).open(acknowledged) else {
        return ExitCode::FAILURE;
    };
    let mut note = |text: String| {
        // Lost notes only make the check weaker.
        let _: io::Result<()> = notes.write_all(text.as_bytes());
    };
    let journal = match Journal::open(dir, options()) {
        Ok(journal) => journal,
        Err(error) => {
            note(format!("fail open {error}\n"));
            return ExitCode::from(3);
        }
    };
    let mut next = journal.stats().last_emitted_id + 1;
    for step in 0..12u64 {
        let mut emitted = Ok(());
        if step % 3 == 1 {
            let payloads: Vec<_> = (next..next + 4).map(payload).collect();
            let events: Vec<_> =
                payloads.iter().map(|payload| Event::new(EventType::GRAPH_QUERY).payload(payload)).collect();
            emitted = journal.emit_batch(&events).map(|ids| {
                note(format!("batch {} {}\n", ids.start, ids.end));
                next = ids.end;
            });
        } else {
            let payload = payload(next);
            let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&payload);
            emitted = emitted.and(journal.emit(&event).map(|id| next = id + 1));
        }
        let done = emitted.and_then(|()| if step == 7 { journal.rotate() } else { journal.sync() });
        note(match done {
            Ok(()) => format!("ack {}\n", next - 1),
            Err(error) => format!("fail {error}\n"),
        });
    }
    let last = next - 1;
    note(match journal.close() {
        Ok(_) => format!("ack {last}\n"),
        Err(error) => format!("fail close {error}\n"),
    });
    ExitCode::SUCCESS
}

// The sweep ----------------------------------------------------------------------------------------------------

struct Case {
    life: usize,
    call: &'static str,
    fault: &'static str,
    n: usize,
}

fn sweep(is_short: bool) -> io::Result<bool> {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Err(io::Error::other("strace is needed and was not found"));
    }
    let scratch = tempfile::tempdir()?;
    let lives = [None, Some(torn_journal(scratch.path())?)];
    let mut cases = Vec::new();
    let mut counts = vec![[0; 2]; CALLS.len()];
    for (life, base) in lives.iter().enumerate() {
        for (call, count) in CALLS.iter().zip(&mut counts) {
            let dir = place(scratch.path(), &format!("count-{life}-{call}"), base.as_deref())?;
            count[life] = calls(&dir, call)?;
            for n in 1..=count[life] {
                if is_short && n > 4 && n % 7 != 0 {
                    continue;
                }
                cases.extend(FAULTS.iter().map(|fault| Case { life, call, fault, n }));
            }
        }
    }
    let started = Instant::now();
    let next = AtomicUsize::new(0);
    let violations: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("{}-{}-{}-{}", case.life, case.call, case.fault, case.n);
                    let result = place(scratch.path(), &name, lives[case.life].as_deref())
                        .map_err(|error| error.to_string())
                        .and_then(|dir| run(&dir, case));
                    if let Err(what) = result {
                        let life = ["a new journal", "a torn journal"][case.life];
                        let text = format!("{life}: {} {} at {}: {what}", case.call, case.fault, case.n);
                        violations.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
                    }
                }
            });
        }
    });
    println!("{:<12} {:>12} {:>14}", "call", "new journal", "torn journal");
    for (call, [new, torn]) in CALLS.iter().zip(&counts) {
        println!("{call:<12} {new:>12} {torn:>14}");
    }
    let violations = violations.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    violations.iter().for_each(|violation| println!("VIOLATION {violation}"));
    println!(
        "{} lives, {} faults each ({}): {} violations, {:.0} s",
        cases.len(),
        FAULTS.len(),
        if is_short { "some n of each call" } else { "every n of each call" },
        violations.len(),
        started.elapsed().as_secs_f64()
    );
    Ok(violations.is_empty())
}

/// A journal whose process died: some events acknowledged, and half a group behind them.
fn torn_journal(scratch: &Path) -> io::Result<PathBuf> {
    let (live, torn) = (scratch.join("live"), scratch.join("torn"));
    let failed = |error: Error| io::Error::other(error.to_string());
    let journal = Journal::open(&live, options()).map_err(failed)?;
    for id in 1..=6 {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload(id))).map_err(failed)?;
    }
    journal.sync().map_err(failed)?;
    copy(&live, &torn)?;
    fs::write(torn.join("acknowledged"), "ack 6\n")?;
    // A segment whose creation was cut short, which the next writer removes.
    fs::write(torn.join("0000000002-00000000000000000007.semj.tmp"), [0; 512])?;
    for entry in fs::read_dir(&torn)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "semj") {
            let mut bytes = fs::read(&path)?;
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            // The beginning of a record that was never finished.
            bytes[end + 8..end + 72].fill(0x5A);
            fs::write(&path, bytes)?;
        }
    }
    Ok(torn)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn place(scratch: &Path, name: &str, base: Option<&Path>) -> io::Result<PathBuf> {
    let dir = scratch.join(name);
    fs::create_dir_all(&dir)?;
    if let Some(base) = base {
        copy(base, &dir.join("journal"))?;
        fs::rename(dir.join("journal/acknowledged"), dir.join("acknowledged"))?;
    }
    Ok(dir)
}

fn strace(dir: &Path, call: &str, inject: Option<&str>) -> io::Result<Command> {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(dir.join("trace")).arg(format!("--trace={call}"));
    if let Some(inject) = inject {
        command.arg(format!("--inject={call}:{inject}"));
    }
    command.arg(std::env::current_exe()?).arg("live").arg(dir.join("journal")).arg(dir.join("acknowledged"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// How often a life makes a call, in the thread that makes it most often: strace counts for each thread.
fn calls(dir: &Path, call: &str) -> io::Result<usize> {
    strace(dir, call, None)?.status()?;
    let trace = fs::read_to_string(dir.join("trace"))?;
    let mut threads = std::collections::BTreeMap::new();
    for line in trace.lines().filter(|line| line.contains(&format!(" {call}("))) {
        *threads.entry(line.split(' ').next()).or_insert(0) += 1;
    }
    fs::remove_dir_all(dir)?;
    Ok(threads.into_values().max().unwrap_or(0))
}

/// One life with one fault, and what is recovered after it.
fn run(dir: &Path, case: &Case) -> Result<(), String> {
    let (fault, each) = match case.fault.strip_suffix('+') {
        Some(fault) => (fault, "+"),
        None => (case.fault, ""),
    };
    let text = |error: io::Error| error.to_string();
    let inject = format!("{fault}:when={}{each}", case.n);
    let mut child = strace(dir, case.call, Some(&inject)).map_err(text)?.spawn().map_err(text)?;
    let started = Instant::now();
    while child.try_wait().map_err(text)?.is_none() {
        if started.elapsed() > DEADLINE {
            // The traced process goes with strace.
            drop(child.kill());
            drop(child.wait());
            return Err("it hangs".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    check(dir)?;
    fs::remove_dir_all(dir).map_err(text)
}

/// What was acknowledged, by the writer's notes.
#[derive(Default)]
struct Notes {
    acknowledged: u64,
    batches: Vec<(u64, u64)>,
}

fn notes(dir: &Path) -> Result<Notes, String> {
    let mut notes = Notes::default();
    let mut has_failed = false;
    // The last line may be cut where the process was killed; what it says was not said then.
    let text = fs::read_to_string(dir.join("acknowledged")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let mut words = line.split(' ');
        let number = |words: &mut std::str::Split<'_, char>| words.next().and_then(|word| word.parse().ok());
        match words.next() {
            Some("ack") if has_failed => return Err(format!("I10: \"{line}\" after a failure")),
            Some("ack") => notes.acknowledged = number(&mut words).unwrap_or(0),
            Some("batch") => notes.batches.extend(number(&mut words).zip(number(&mut words))),
            Some("fail") => has_failed = true,
            _ => return Err(format!("a note that is none: {line}")),
        }
    }
    Ok(notes)
}

fn check(dir: &Path) -> Result<(), String> {
    let notes = notes(dir)?;
    let dir = dir.join("journal");
    if notes.acknowledged == 0 && !dir.exists() {
        return Ok(());
    }
    let open = || Journal::open(&dir, options()).map_err(|error| format!("I1: it can't be opened: {error}"));
    let journal = open()?;
    let recovered = events(&journal)?;
    if recovered < notes.acknowledged {
        return Err(format!("I1: {} events were acknowledged, {recovered} are there", notes.acknowledged));
    }
    if let Some((first, end)) =
        notes.batches.iter().find(|(first, end)| *first <= recovered && recovered + 1 < *end)
    {
        return Err(format!("I2: of the batch {first}..{end} only events up to {recovered} are there"));
    }
    let go_on = |journal: &Journal, id: u64| -> Result<(), Error> {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload(id)))?;
        journal.sync()
    };
    go_on(&journal, recovered + 1).map_err(|error| format!("it does not go on: {error}"))?;
    journal.close().map_err(|error| format!("it can't be closed: {error}"))?;
    match events(&open()?)? {
        again if again == recovered + 1 => Ok(()),
        again => Err(format!("I4: {} events were there, then {again}", recovered + 1)),
    }
}

/// How many events there are, each as it was emitted and in its place.
fn events(journal: &Journal) -> Result<u64, String> {
    let mut last = 0;
    for record in journal.reader().iter(..) {
        let record = record.map_err(|error| error.to_string())?;
        last += 1;
        if record.event_id() != last {
            return Err(format!("I2: event {} stands in place {last}", record.event_id()));
        }
        if record.payload() != payload(last) {
            return Err(format!("I3: event {last} is not what was emitted"));
        }
    }
    Ok(last)
}
