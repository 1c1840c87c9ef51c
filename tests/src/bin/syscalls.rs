//! Lets every system call of a short life of a journal fail, one at a time, and holds what is recovered against what was
//! acknowledged:
//!
//! ```text
//! cargo run -p semj-tests --release --bin syscalls [-- --short]
//! ```
//!
//! Six lives: a new journal (events, batches, syncs, a rotation, a close), the same on one thread, one that recovers a torn
//! tail first, one that takes the segments behind damage out, one that retires old segments when it opens and again when
//! it rotates, and one that compacts its old segments and takes a snapshot. For each call that touches the journal's
//! directory or the snapshot's, for every n: the process is killed at the n-th call; the n-th call fails with EIO, or with ENOSPC; all calls from the n-th on fail so. A writer
//! that meets a failure goes on trying, and then opens the journal again in the same process. A life that does not end in
//! time, or panics, is a failure too, and so are more faults that no life meets than one in a hundred. Needs strace.
//!
//! `--short` takes only some of the n: the first four of each call, then every tenth.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use semj::{
    Codec, CommitOn, Compaction, Error, Event, EventType, Journal, OpenMode, Options, Reader, Retention,
    SnapshotOptions,
};

/// The calls that are let fail. One that a life or this kernel does not make is left out by itself.
const CALLS: [&str; 21] = [
    "fsync",
    "fdatasync",
    "msync",
    "pwrite64",
    "fallocate",
    "ftruncate",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "openat",
    "getdents64",
    "mmap",
    "pread64",
    "flock",
    "fstat",
    "newfstatat",
    "statx",
];
/// Of these an error must come to the writer's ears: without them nothing is durable.
const NEVER_PASSED_OVER: [&str; 6] = ["fsync", "fdatasync", "pwrite64", "fallocate", "ftruncate", "rename"];
const FAULTS: [&str; 5] = ["signal=SIGKILL", "error=EIO", "error=EIO+", "error=ENOSPC", "error=ENOSPC+"];
const LIVES: [&str; 6] = ["new", "1 thread", "torn", "damaged", "retaining", "maintaining"];
const ONE_THREAD: usize = 1;
const RETAINING: usize = 4;
/// One that compacts its journal and takes a snapshot.
const MAINTAINING: usize = 5;
/// A life takes some milliseconds; with strace, and on a busy machine, some hundred.
const DEADLINE: Duration = Duration::from_secs(30);
/// Lives without a fault by which it is known which calls each life makes.
const COUNTED_LIVES: usize = 4;
/// Lives that a fault is tried in until one meets it.
const ATTEMPTS: usize = 10;
/// One fault in so many may be one that none meets.
const UNMET_PART: usize = 100;
/// A writer's status if it could not open the journal in the end.
const NOT_OPEN: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["live", life, dir, notes] => {
            let mut options = options();
            if life == LIVES[ONE_THREAD] {
                options.commit_on = CommitOn::CallersThread;
            }
            if life == LIVES[RETAINING] {
                options.retention = segments_kept(3);
            }
            live(&options, life == LIVES[MAINTAINING], Path::new(dir), Path::new(notes))
        }
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
        // The damaged journal's; the others are whole but for their end, which makes no difference.
        mode: OpenMode::PointInTime,
        segment_size: 256 << 10,
        buffer_events: 64,
        watermark_interval: Duration::ZERO,
        // Nothing by the clock: the n-th call is the same each time.
        sync_policy: semj::SyncPolicy::None,
        commit_interval: Duration::from_secs(3600),
        request_interval: None,
        ..Options::default()
    }
}

fn segments_kept(max: u64) -> Retention {
    Retention { max_segments: Some(max), ..Retention::default() }
}

/// What the event with this id holds.
fn payload(id: u64) -> Vec<u8> {
    (0..id * 97 % 900).map(|i| (i ^ id) as u8).collect()
}

// The writer ---------------------------------------------------------------------------------------------------

/// A life of a writer. It writes down what happens: `open EPOCH`, `ack ID` after a sync, `batch FIRST END`, and `fail` when
/// something was refused. After that it goes on trying, because nothing may be acknowledged any more, until it opens the
/// journal again.
fn live(options: &Options, maintains: bool, dir: &Path, notes: &Path) -> ExitCode {
    let Ok(mut notes) = File::options().create(true).append(true).open(notes) else {
        return ExitCode::FAILURE;
    };
    let mut was_open = false;
    for _ in 0..2 {
        let mut has_failed = false;
        let mut note = |text: String| {
            has_failed |= text.starts_with("fail");
            // Lost notes only make the check weaker.
            let _: io::Result<()> = notes.write_all(text.as_bytes());
        };
        match Journal::open(dir, options.clone()) {
            Ok(journal) => write(journal, options.retention.is_any(), maintains, &mut note),
            Err(error) => note(format!("fail open {error}\n")),
        }
        was_open = !has_failed;
        if was_open {
            break;
        }
    }
    if was_open { ExitCode::SUCCESS } else { ExitCode::from(NOT_OPEN) }
}

fn write(journal: Journal, retains: bool, maintains: bool, note: &mut impl FnMut(String)) {
    note(format!("open {}\n", journal.stats().epoch));
    let mut next = journal.stats().last_emitted_id + 1;
    let last_before = next - 1;
    for step in 0..12u64 {
        let emitted = if step % 3 == 1 {
            let payloads: Vec<_> = (next..next + 4).map(payload).collect();
            let events: Vec<_> =
                payloads.iter().map(|payload| Event::new(EventType::GRAPH_QUERY).payload(payload)).collect();
            journal.emit_batch(&events).map(|ids| {
                note(format!("batch {} {}\n", ids.start, ids.end));
                next = ids.end;
            })
        } else {
            let payload = payload(next);
            let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&payload);
            journal.emit(&event).map(|id| next = id + 1)
        };
        if maintains && step == 4 {
            let compaction = Compaction { codec: Codec::Lz4, ..Compaction::default() };
            if let Err(error) = journal.compact(&compaction, &mut |_| ControlFlow::Continue(())) {
                note(format!("told {error}\n"));
            }
        }
        if maintains && step == 9 {
            let taken =
                journal.snapshot(snapshot_dir(journal.dir()), SnapshotOptions::default(), &mut |_| ());
            note(match taken {
                Ok(_) => format!("snapshot {}\n", next - 1),
                Err(error) => format!("told {error}\n"),
            });
        }
        let done = emitted.and_then(|()| match step {
            7 if retains => {
                note(format!("retire {last_before}\n"));
                match journal.retain(&segments_kept(2)) {
                    // What is needed could not be learned, and nothing was retired: the journal goes on.
                    Err(Error::Io { path, source, .. }) if path.ends_with("consumers") => {
                        note(format!("told {source}\n"));
                        journal.sync()
                    }
                    retained => retained,
                }
            }
            7 => journal.rotate(),
            _ => journal.sync(),
        });
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
}

/// Where a journal's snapshot is. Calls about it count as calls about the journal, whose name it begins with.
fn snapshot_dir(journal: &Path) -> PathBuf {
    journal.with_extension("snapshot")
}

// The sweep ----------------------------------------------------------------------------------------------------

struct Case {
    life: usize,
    call: &'static str,
    fault: &'static str,
    n: usize,
}

/// What came of the cases of one call.
#[derive(Clone, Copy, Default)]
struct Tally {
    calls: [usize; LIVES.len()],
    runs: usize,
    violations: usize,
}

fn sweep(is_short: bool) -> io::Result<bool> {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Err(io::Error::other("strace is needed and was not found (Debian: apt-get install strace)"));
    }
    let scratch = tempfile::tempdir()?;
    let [torn, damaged, old] = [torn_journal, damaged_journal, old_journal].map(|make| make(scratch.path()));
    let old = old?;
    let bases = [None, None, Some(torn?), Some(damaged?), Some(old.clone()), Some(old)];
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    let mut cases = Vec::new();
    for (life, base) in bases.iter().enumerate() {
        let mut calls = calls(&place(scratch.path(), "count", base.as_deref())?, life)?;
        for _ in 1..COUNTED_LIVES {
            let again = self::calls(&place(scratch.path(), "count", base.as_deref())?, life)?;
            calls.retain(|call, calls| again.get(call).is_some_and(|again| calls.keep_common(again)));
        }
        for (call, Calls { places, startup }) in calls {
            if places.is_empty() {
                continue;
            }
            let tally = tallies.entry(call).or_default();
            tally.calls[life] = places.len();
            for (i, n) in places.into_iter().enumerate() {
                if is_short && i >= 4 && i % 10 != 9 {
                    continue;
                }
                for fault in FAULTS {
                    let breaks_startup = if fault.ends_with('+') {
                        startup.iter().any(|s| *s >= n)
                    } else {
                        startup.contains(&n)
                    };
                    if !breaks_startup {
                        tally.runs += 1;
                        cases.push(Case { life, call, fault, n });
                    }
                }
            }
        }
    }
    let started = Instant::now();
    let (next, unmet) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let violations: Mutex<Vec<(&str, String)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("{}-{}-{}-{}", LIVES[case.life], case.call, case.fault, case.n);
                    let attempt = || {
                        let dir = place(scratch.path(), &name, bases[case.life].as_deref());
                        dir.map_err(|error| error.to_string()).and_then(|dir| run(&dir, case))
                    };
                    let met = (0..ATTEMPTS).map(|_| attempt()).find(|met| *met != Ok(false));
                    if met.is_none() {
                        unmet.fetch_add(1, Ordering::Relaxed);
                    }
                    if let Some(Err(what)) = met {
                        let text = format!(
                            "the {} journal, {}:{}:when={}: {what}",
                            LIVES[case.life], case.call, case.fault, case.n
                        );
                        let mut violations =
                            violations.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        violations.push((case.call, text));
                    }
                }
            });
        }
    });
    let violations = violations.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (call, text) in &violations {
        println!("VIOLATION {text}");
        tallies.entry(call).or_default().violations += 1;
    }
    let row = |call: &str, cells: &[String]| {
        println!("{call:<12}{}", cells.iter().map(|cell| format!("{cell:>12}")).collect::<String>());
    };
    row("call", &LIVES.into_iter().chain(["runs", "violations"]).map(str::to_owned).collect::<Vec<_>>());
    for (call, Tally { calls, runs, violations }) in tallies {
        row(call, &calls.into_iter().chain([runs, violations]).map(|n| n.to_string()).collect::<Vec<_>>());
    }
    let unmet = unmet.into_inner();
    println!(
        "{} runs, {} faults at {}: {} violations, {unmet} faults that no life met, {:.0} s",
        cases.len(),
        FAULTS.len(),
        if is_short { "the first four of each call and every tenth" } else { "every call" },
        violations.len(),
        started.elapsed().as_secs_f64()
    );
    // Threads make their last calls or not, as time goes. More than a few that are not met show that the counting is wrong.
    Ok(violations.is_empty() && unmet * UNMET_PART <= cases.len())
}

fn failed(error: Error) -> io::Error {
    io::Error::other(error.to_string())
}

/// Emits events with the next ids and makes them durable.
fn emit(journal: &Journal, count: u64) -> io::Result<()> {
    let last = journal.stats().last_emitted_id;
    for id in last + 1..=last + count {
        let payload = payload(id);
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload)).map_err(failed)?;
    }
    journal.sync().map_err(failed)
}

/// The segments of a journal, oldest first.
fn segments(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    Ok(paths)
}

/// A journal whose process died: some events acknowledged, and half a group behind them.
fn torn_journal(scratch: &Path) -> io::Result<PathBuf> {
    let (live, torn) = (scratch.join("live"), scratch.join("torn"));
    let journal = Journal::open(&live, options()).map_err(failed)?;
    emit(&journal, 6)?;
    copy(&live, &torn)?;
    fs::write(torn.join("notes"), "open 1\nack 6\n")?;
    // A segment whose creation was cut short, which the next writer removes.
    fs::write(torn.join("0000000002-00000000000000000007.semj.tmp"), [0; 512])?;
    for path in segments(&torn)? {
        let mut bytes = fs::read(&path)?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        // The beginning of a record that was never finished.
        bytes[end + 8..end + 72].fill(0x5A);
        fs::write(&path, bytes)?;
    }
    Ok(torn)
}

/// A closed journal of four segments with damage in the second one. What stands before it was acknowledged and stays.
fn damaged_journal(scratch: &Path) -> io::Result<PathBuf> {
    let dir = scratch.join("damaged");
    let journal = Journal::open(&dir, options()).map_err(failed)?;
    for _ in 0..3 {
        for _ in 0..4 {
            emit(&journal, 5)?;
        }
        journal.rotate().map_err(failed)?;
    }
    emit(&journal, 5)?;
    journal.close().map_err(failed)?;
    if let Some(path) = segments(&dir)?.get(1) {
        let mut bytes = fs::read(path)?;
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes[end / 2] ^= 0x10;
        fs::write(path, bytes)?;
    }
    let kept = Reader::open(&dir, OpenMode::PointInTime).map_err(failed)?.report().events();
    if !(20..40).contains(&kept) {
        return Err(io::Error::other(format!(
            "{kept} events before the damage, which was to be in the second segment"
        )));
    }
    // The ids of what is lost are not given again.
    fs::write(dir.join("notes"), format!("open 1\nack {kept}\ngap {kept}\n"))?;
    Ok(dir)
}

/// A closed journal of four segments, all but the last two of which are to go.
fn old_journal(scratch: &Path) -> io::Result<PathBuf> {
    let dir = scratch.join("old");
    let journal = Journal::open(&dir, options()).map_err(failed)?;
    for _ in 0..3 {
        emit(&journal, 5)?;
        journal.rotate().map_err(failed)?;
    }
    emit(&journal, 5)?;
    journal.close().map_err(failed)?;
    fs::write(dir.join("notes"), "open 1\nack 20\nretire 15\n")?;
    Ok(dir)
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
        fs::rename(dir.join("journal/notes"), dir.join("notes"))?;
    }
    Ok(dir)
}

fn strace(dir: &Path, life: usize, calls: &str, inject: Option<&str>) -> io::Result<Command> {
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-qq", "-o"]).arg(dir.join("trace")).arg(format!("--trace={calls}"));
    if let Some(inject) = inject {
        command.arg(format!("--inject={inject}"));
    }
    command.arg(std::env::current_exe()?).args(["live", LIVES[life]]);
    command.arg(dir.join("journal")).arg(dir.join("notes"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    Ok(command)
}

/// The calls of one kind that a life makes, by their numbers in the threads that make them, because strace counts for each
/// thread.
#[derive(Default)]
struct Calls {
    /// Those about the journal.
    places: BTreeSet<usize>,
    /// Those by which the program is loaded. Where they have the number of another thread's call, a fault would meet them
    /// first and there would be no life; with one thread they have numbers of their own.
    startup: BTreeSet<usize>,
}

impl Calls {
    /// Leaves what another life of the same kind makes too; threads make some calls or not, as time goes. False if nothing is left.
    fn keep_common(&mut self, other: &Self) -> bool {
        self.places.retain(|n| other.places.contains(n));
        self.startup.extend(&other.startup);
        !self.places.is_empty()
    }
}

fn calls(dir: &Path, life: usize) -> io::Result<BTreeMap<&'static str, Calls>> {
    // A call that this machine does not have is no error with a question mark.
    let status = strace(dir, life, &CALLS.map(|call| format!("?{call}")).join(","), None)?.status()?;
    if !status.success() {
        return Err(io::Error::other(format!(
            "a life without a fault fails, or strace may not trace: {status}"
        )));
    }
    let trace = fs::read_to_string(dir.join("trace"))?;
    let journal = dir.join("journal");
    let journal = journal.to_string_lossy();
    let mut has_begun = false;
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut calls: BTreeMap<_, Calls> = BTreeMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        let Some(call) = CALLS.into_iter().find(|call| *call == name) else { continue };
        let n = counts.entry((thread, call)).or_default();
        *n += 1;
        let is_about_it = rest.contains(&*journal);
        has_begun |= is_about_it;
        let calls = calls.entry(call).or_default();
        if is_about_it {
            calls.places.insert(*n);
        } else if !has_begun {
            calls.startup.insert(*n);
        }
    }
    if let Some(name) = undurable_name(&trace, &journal) {
        return Err(io::Error::other(format!(
            "a life leaves a name that its directory's sync did not follow: {name}"
        )));
    }
    fs::remove_dir_all(dir)?;
    Ok(calls)
}

/// A directory that was made, or a file of the journal that got its name, without a sync of the directory that it is in behind it.
/// That is what a call that fails can't show: one that is never made does not fail.
fn undurable_name(trace: &str, journal: &str) -> Option<String> {
    let mut names: BTreeSet<PathBuf> = BTreeSet::new();
    for line in trace.lines().filter(|line| !line.contains("= -1 ")) {
        let call = line.split_once(' ').and_then(|(_, call)| call.trim_start().split_once('('));
        // Others are the second halves of calls that another thread's came between.
        let Some((call, arguments)) = call else { continue };
        match call {
            "fsync" => {
                let path = arguments.split_once('<').and_then(|(_, path)| path.split_once('>'));
                let dir = path.map(|(dir, _)| Path::new(dir));
                names.retain(|name| name.parent() != dir);
            }
            "mkdir" | "mkdirat" | "rename" | "renameat" | "renameat2" => {
                // The last in quotes.
                let Some(name) = arguments.rsplit('"').nth(1).map(PathBuf::from) else { continue };
                // What is derived may be made again.
                let is_derived = name.extension().is_some_and(|extension| extension == "idx");
                if !is_derived && name.to_string_lossy().starts_with(journal) {
                    names.insert(name);
                }
            }
            _ => {}
        }
    }
    Some(names.pop_first()?.display().to_string())
}

/// One life with one fault, and what is recovered after it. False if the life ended without its fault.
fn run(dir: &Path, case: &Case) -> Result<bool, String> {
    let (fault, each) = match case.fault.strip_suffix('+') {
        Some(fault) => (fault, "+"),
        None => (case.fault, ""),
    };
    let text = |error: io::Error| error.to_string();
    let inject = format!("{}:{fault}:when={}{each}", case.call, case.n);
    let mut child = strace(dir, case.life, case.call, Some(&inject)).map_err(text)?.spawn().map_err(text)?;
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().map_err(text)? {
            break status;
        }
        if started.elapsed() > DEADLINE {
            // What strace traces would outlive it.
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                kill_process_group(group, Signal::KILL).map_err(|error| error.to_string())?;
            }
            child.wait().map_err(text)?;
            return Err("it hangs".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // strace ends as the writer did.
    let trace = fs::read_to_string(dir.join("trace")).map_err(text)?;
    let mut faults = trace.lines().filter(|line| line.contains("(INJECTED)")).peekable();
    let was_met = if fault == "signal=SIGKILL" {
        status.signal() == Some(Signal::KILL.as_raw())
    } else if [Some(0), Some(i32::from(NOT_OPEN))].contains(&status.code()) {
        faults.peek().is_some()
    } else {
        return Err(format!("the writer ended with {status}"));
    };
    let notes = notes(dir)?;
    // A sidecar is only there to make things faster.
    let matters = faults.any(|line| !line.contains(".idx"));
    if matters && NEVER_PASSED_OVER.contains(&case.call) && !notes.tells_of_failure {
        return Err("I10: the error was passed over".into());
    }
    check(dir, notes)?;
    fs::remove_dir_all(dir).map_err(text)?;
    Ok(was_met)
}

/// What happened, by the writer's notes.
#[derive(Default)]
struct Notes {
    acknowledged: u64,
    batches: Vec<(u64, u64)>,
    epochs: Vec<u64>,
    /// The id behind which some are missing for good.
    gap: Option<u64>,
    /// The highest id that may be retired.
    retire: u64,
    tells_of_failure: bool,
    /// The last event that was emitted before a snapshot that was taken.
    snapshot: Option<u64>,
}

fn notes(dir: &Path) -> Result<Notes, String> {
    let mut notes = Notes::default();
    let mut has_failed = false;
    // The last line may be cut where the process was killed; what it says was not said then.
    let text = fs::read_to_string(dir.join("notes")).unwrap_or_default();
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let mut words = line.split(' ');
        let number = |words: &mut std::str::Split<'_, char>| {
            words.next().and_then(|word| word.parse().ok()).ok_or(format!("a note that is none: {line}"))
        };
        match words.next() {
            Some("open") => {
                has_failed = false;
                notes.epochs.push(number(&mut words)?);
            }
            Some("ack") if has_failed => return Err(format!("I10: \"{line}\" after a failure")),
            Some("ack") => notes.acknowledged = number(&mut words)?,
            Some("batch") => notes.batches.push((number(&mut words)?, number(&mut words)?)),
            Some("retire") => notes.retire = number(&mut words)?,
            Some("told") => notes.tells_of_failure = true,
            Some("snapshot") => notes.snapshot = Some(number(&mut words)?),
            Some("gap") => notes.gap = Some(number(&mut words)?),
            Some("fail") => {
                has_failed = true;
                notes.tells_of_failure = true;
            }
            _ => return Err(format!("a note that is none: {line}")),
        }
    }
    Ok(notes)
}

fn check(dir: &Path, mut notes: Notes) -> Result<(), String> {
    let dir = dir.join("journal");
    if let Some(last) = notes.snapshot {
        let snapshot = Reader::open(snapshot_dir(&dir), OpenMode::Strict)
            .map_err(|error| format!("I16: the snapshot can't be read: {error}"))?;
        let found = snapshot.report().tip.map_or(0, |tip| tip.last_event_id);
        if found < last {
            return Err(format!("I16: event {found} is the snapshot's last, {last} was emitted before it"));
        }
    }
    let open = || Journal::open(&dir, options()).map_err(|error| format!("I1: it can't be opened: {error}"));
    let journal = open()?;
    let recovered = last_event(&journal, &notes)?;
    if recovered < notes.acknowledged {
        return Err(format!("I1: {} was acknowledged, {recovered} is the last", notes.acknowledged));
    }
    notes.epochs.push(journal.stats().epoch);
    if !notes.epochs.is_sorted_by(|before, after| before < after) {
        return Err(format!("I6: epochs {:?}", notes.epochs));
    }
    // Ids of a batch that is gone as a whole may be given again.
    let last_with_id = |id| notes.batches.iter().rev().find(|(first, end)| (*first..*end).contains(&id));
    if let Some((first, end)) = last_with_id(recovered).filter(|(_, end)| recovered + 1 < *end) {
        return Err(format!("I2: of the batch {first}..{end} only events up to {recovered} are there"));
    }
    let next = journal.stats().last_emitted_id + 1;
    emit(&journal, 1).map_err(|error| format!("it does not go on: {error}"))?;
    journal.close().map_err(|error| format!("it can't be closed: {error}"))?;
    match last_event(&open()?, &notes)? {
        again if again == next => Ok(()),
        again => Err(format!("I4: {next} was the last event, then {again}")),
    }
}

/// The last event's id. Each must be as it was emitted and follow the one before, but for a gap that is known and for those
/// that are retired.
fn last_event(journal: &Journal, notes: &Notes) -> Result<u64, String> {
    let gap = notes.gap;
    let mut last = journal.retired().map_or(0, |retired| retired.last_event_id);
    if last > notes.retire {
        return Err(format!("I15: events up to {last} are retired, up to {} may be", notes.retire));
    }
    for record in journal.reader().iter(..) {
        let record = record.map_err(|error| error.to_string())?;
        let id = record.event_id();
        if id != last + 1 && (gap != Some(last) || id <= last) {
            return Err(format!("I2: event {id} follows {last}"));
        }
        last = id;
        if record.payload() != payload(last) {
            return Err(format!("I3: event {last} is not what was emitted"));
        }
    }
    Ok(last)
}
