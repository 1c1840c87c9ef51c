//! What it is to follow a journal from another process: whether every event comes once and in order, how long after its
//! commit, and what it costs the writer.
//!
//! ```text
//! cargo run -p semj-tests --release --bin follow [-- --events N] [--runs N]
//! ```
//!
//! A process writes the events (256 bytes each, segments of 16 MiB), paced and flat out, first alone and then with another
//! process that follows and gives way, as `semj cat --follow` does; flat out also with one that doesn't. The latency of a group is counted from the moment when its Commit was made, just before it
//! was written, which the Commit tells, to that when the follower has given out the group, its Commit too.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use semj::medium::{Disk, Medium as _};
use semj::{Event, EventType, Follower, Journal, Options, Start, View};

type Failure = Box<dyn std::error::Error>;

const SEGMENT_SIZE: u64 = 16 << 20;
const ROTATIONS_MIN: u64 = 20;
const PAYLOAD: [u8; 256] = [7; 256];
const PATH: &[u8] = b"/project/src/some/where/deep/module_nine";
/// Events each second, 0 for one after the other, and whether who follows gives way.
const WAYS: [(u64, bool); 4] = [(100_000, true), (500_000, true), (0, true), (0, false)];
const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["write", dir, events, rate] => write(Path::new(dir), events, rate),
        ["read", dir, events, gives_way] => read(Path::new(dir), events, gives_way),
        _ => measure(&words),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("follow: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The process that writes: begins when a line comes, and says how long it took.
fn write(dir: &Path, events: &str, rate: &str) -> Result<(), Failure> {
    let (events, rate): (u64, u64) = (events.parse()?, rate.parse()?);
    let journal = Journal::open(dir, Options { segment_size: SEGMENT_SIZE, ..Options::default() })?;
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;
    let event = Event::new(EventType::FILESYSTEM_WRITE).path(PATH).payload(&PAYLOAD);
    let started = Instant::now();
    for n in 0..events {
        let due = (n * 1_000_000_000).checked_div(rate).map(Duration::from_nanos);
        // It sleeps, as a program does that waits for something to happen, and then is behind by a burst.
        if let Some(early) = due.and_then(|due| due.checked_sub(started.elapsed())) {
            std::thread::sleep(early);
        }
        journal.emit(&event)?;
    }
    journal.sync()?;
    println!("{}", started.elapsed().as_nanos());
    // It is left open: what follows sees what is committed, and no end.
    std::io::stdin().read_line(&mut String::new())?;
    journal.close()?;
    Ok(())
}

/// The process that follows.
fn read(dir: &Path, events: &str, gives_way: &str) -> Result<(), Failure> {
    let (events, gives_way): (u64, bool) = (events.parse()?, gives_way.parse()?);
    let mut follower = Follower::open(dir, Start::Beginning, View::Published)?;
    if gives_way {
        follower.give_way();
    }
    println!("ready");
    let mut latencies = Vec::new();
    let mut last = 0;
    while last < events || latencies.is_empty() {
        let Some(located) = follower.next_of_all(Some(DEADLINE))? else {
            return Err(format!("nothing came behind event {last}").into());
        };
        let record = located.record;
        if record.event_type() == EventType::JOURNAL_COMMIT {
            latencies.push(Disk.monotonic_ns() - record.ktime_ns());
        }
        if record.is_control() {
            continue;
        }
        if record.event_id() != last + 1 || record.payload() != PAYLOAD {
            return Err(format!("event {} came behind {last}", record.event_id()).into());
        }
        last += 1;
    }
    let segments = follower.position().segment_number;
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!("{} {} {} {} {}", at(0.5), at(0.99), at(1.0), latencies.len(), segments);
    Ok(())
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn spawn(args: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, input, output })
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            return Err(format!("a process ended: {}", self.child.wait()?).into());
        }
        Ok(line.trim().to_owned())
    }

    fn go(&mut self) -> Result<(), Failure> {
        Ok(self.input.write_all(b"\n")?)
    }
}

struct Figures {
    alone: f64,
    followed: f64,
    /// p50, p99 and max of the latency in nanoseconds; commits; segments.
    seen: Vec<u64>,
}

fn run(events: u64, rate: u64, gives_way: bool) -> Result<Figures, Failure> {
    let mut figures = Figures { alone: 0.0, followed: 0.0, seen: Vec::new() };
    for is_followed in [false, true] {
        let scratch = tempfile::tempdir_in(".")?;
        let dir = scratch.path().to_str().ok_or("a path that is no text")?;
        let (events_text, rate_text) = (events.to_string(), rate.to_string());
        let mut writer = Process::spawn(&["write", dir, &events_text, &rate_text])?;
        writer.line()?;
        let mut reader = None;
        if is_followed {
            let mut process = Process::spawn(&["read", dir, &events_text, &gives_way.to_string()])?;
            process.line()?;
            reader = Some(process);
        }
        writer.go()?;
        let nanoseconds: f64 = writer.line()?.parse()?;
        let written = events as f64 / nanoseconds * 1e9;
        if let Some(mut reader) = reader {
            figures.followed = written;
            figures.seen = reader.line()?.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        } else {
            figures.alone = written;
        }
        writer.go()?;
        writer.child.wait()?;
    }
    Ok(figures)
}

fn measure(words: &[&str]) -> Result<(), Failure> {
    let (mut events, mut runs) = (1_000_000, 3);
    for pair in words.chunks(2) {
        match pair {
            ["--events", n] => events = n.parse()?,
            ["--runs", n] => runs = n.parse()?,
            _ => return Err("usage: follow [--events N] [--runs N]".into()),
        }
    }
    println!(
        "| {events} events | gives way | alone | followed | by it | p50 | p99 | max | commits | segments |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (rate, gives_way) in WAYS {
        let mut all = (0..runs).map(|_| run(events, rate, gives_way)).collect::<Result<Vec<_>, _>>()?;
        all.sort_by(|one, other| (one.followed / one.alone).total_cmp(&(other.followed / other.alone)));
        let Some(Figures { alone, followed, seen }) = all.get(all.len() / 2) else { continue };
        let &[p50, p99, max, commits, segments] = &seen[..] else {
            return Err("a row of another length".into());
        };
        if events * 388 / SEGMENT_SIZE > ROTATIONS_MIN && segments <= ROTATIONS_MIN {
            return Err(format!("{segments} segments are too few").into());
        }
        let what = if rate == 0 { "flat out".to_owned() } else { format!("{rate}/s") };
        let us = |ns: u64| format!("{:.0} µs", ns as f64 / 1e3);
        println!(
            "| {what} | {} | {alone:.0}/s | {followed:.0}/s | {:.3} | {} | {} | {} | {commits} | {segments} |",
            if gives_way { "yes" } else { "no" },
            followed / alone,
            us(p50),
            us(p99),
            us(max),
        );
    }
    Ok(())
}
