//! Makes a large journal of recorded events: the traces are repeated, one after the other, with ids and times that go on.
//!
//! ```text
//! cargo run -p semj-tests --release --bin generate -- --events 10000000 --journal DIR TRACE.jsonl.zst…
//! ```
//!
//! Time goes on behind the last event of a trace as if the next one had followed it. `--span SECONDS` spreads all events
//! over so much time instead, so that a minute of a day is a minute of a day. `--threads-off` leaves the sidecars to
//! `semj index rebuild`.

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use semj::{CommitOn, Journal, Options, SyncPolicy};
use semj_interchange::json::JsonEvent;

struct Args {
    events: u64,
    journal: PathBuf,
    span_s: Option<u64>,
    threads: bool,
    traces: Vec<PathBuf>,
}

fn parse() -> Result<Args, String> {
    let mut args =
        Args { events: 0, journal: PathBuf::new(), span_s: None, threads: true, traces: Vec::new() };
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--events" => args.events = value()?.parse().map_err(|error| format!("--events: {error}"))?,
            "--span" => args.span_s = Some(value()?.parse().map_err(|error| format!("--span: {error}"))?),
            "--journal" => args.journal = value()?.into(),
            "--threads-off" => args.threads = false,
            _ => args.traces.push(arg.into()),
        }
    }
    if args.events == 0 || args.journal.as_os_str().is_empty() || args.traces.is_empty() {
        return Err(
            "usage: generate --events N --journal DIR [--span SECONDS] [--threads-off] TRACE.jsonl.zst…"
                .into(),
        );
    }
    Ok(args)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = parse()?;
    let mut lines = Vec::new();
    for path in &args.traces {
        let text = zstd::decode_all(fs::File::open(path)?)?;
        lines.push(text);
    }
    // Each trace's events with their times counted from its first one.
    let mut events = Vec::new();
    let mut length_ns = 0;
    for text in &lines {
        let mut first = None;
        let mut last = 0;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let event = JsonEvent::parse(line)?;
            let ktime = event.draft().header.ktime_ns;
            let first = *first.get_or_insert(ktime);
            last = ktime - first;
            events.push((length_ns + last, event));
        }
        length_ns += last + 1_000_000;
    }
    let rounds = args.events.div_ceil(events.len() as u64);
    let factor = args.span_s.map_or(1.0, |span| span as f64 * 1e9 / (rounds as f64 * length_ns as f64));

    let commit_on = if args.threads { CommitOn::OwnThread } else { CommitOn::CallersThread };
    let options = Options { commit_on, sync_policy: SyncPolicy::None, ..Options::default() };
    let journal = Journal::open(&args.journal, options)?;
    let started = Instant::now();
    let start_ns = 1_000_000_000;
    for id in 1..=args.events {
        let at = (id - 1) as usize % events.len();
        let round = (id - 1) / events.len() as u64;
        let Some((since, event)) = events.get(at) else { break };
        let mut draft = event.draft();
        let ktime = (round as f64 * length_ns as f64 + *since as f64) * factor;
        draft.header.ktime_ns = start_ns + ktime as i64;
        draft.header.event_id = 0;
        journal.import(&draft)?;
    }
    journal.sync()?;
    let elapsed = started.elapsed().as_secs_f64();
    let stats = journal.close()?;
    println!(
        "{} events, {} bytes in {} segments, {:.2} s, {:.0} events/s, times {start_ns} to {:.0}",
        stats.events_emitted,
        stats.bytes_written,
        stats.segments,
        elapsed,
        args.events as f64 / elapsed,
        start_ns as f64 + rounds as f64 * length_ns as f64 * factor
    );
    Ok(())
}
