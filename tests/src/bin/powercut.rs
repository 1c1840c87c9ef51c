//! The two programs of the power-cut test (`tests/powercut/`): one writes a journal and notes what was acknowledged, the
//! other one looks at what a power cut has left of it.
//!
//! ```text
//! powercut write JOURNAL NOTES LOG ROUNDS SEED [--acknowledge-early]
//! powercut check JOURNAL ACKNOWLEDGED [--die]
//! ```

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use semj::{Error, Event, EventType, Journal, Options};
use semj_tests::random::Random;

/// Where the log of block writes says how many entries it has.
const LOG_ENTRIES_OFFSET: u64 = 16;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["write", journal, notes, log, rounds, seed] => write(journal, notes, log, rounds, seed, false),
        ["write", journal, notes, log, rounds, seed, "--acknowledge-early"] => {
            write(journal, notes, log, rounds, seed, true)
        }
        ["check", journal, acknowledged] => check(journal, acknowledged, false),
        ["check", journal, acknowledged, "--die"] => check(journal, acknowledged, true),
        _ => {
            eprintln!("usage: powercut write JOURNAL NOTES LOG ROUNDS SEED [--acknowledge-early]");
            eprintln!("       powercut check JOURNAL ACKNOWLEDGED [--die]");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        buffer_events: 256,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// What the event with this id holds.
fn payload(id: u64) -> Vec<u8> {
    let mut random = Random::new(id);
    (0..random.below(2000)).map(|_| random.next() as u8).collect()
}

/// Events with ids from `first` on that are emitted as one.
fn batch_size(first: u64) -> u64 {
    if first.is_multiple_of(5) { first % 9 + 2 } else { 1 }
}

fn text(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Writes, and notes behind each sync the last id that was acknowledged and how many block writes stood in the log then:
/// the block writes up to there are what the acknowledgement rests on. With `is_early` it notes before it syncs.
fn write(
    journal: &str,
    notes: &str,
    log: &str,
    rounds: &str,
    seed: &str,
    is_early: bool,
) -> Result<(), String> {
    let mut notes = File::create(notes).map_err(text)?;
    let log = File::open(log).map_err(text)?;
    let mut note = |id: u64| -> Result<(), String> {
        let mut entries = [0; 8];
        log.read_exact_at(&mut entries, LOG_ENTRIES_OFFSET).map_err(text)?;
        writeln!(notes, "{id} {}", u64::from_le_bytes(entries)).map_err(text)
    };
    let rounds: u64 = rounds.parse().map_err(text)?;
    let mut random = Random::new(seed.parse().map_err(text)?);
    let journal = Journal::open(Path::new(journal), options()).map_err(text)?;
    let mut next = 1;
    for _ in 0..rounds {
        for _ in 0..random.below(6) + 1 {
            let payloads: Vec<_> = (next..next + batch_size(next)).map(payload).collect();
            let events: Vec<_> = payloads
                .iter()
                .map(|payload| Event::new(EventType::FILESYSTEM_WRITE).payload(payload))
                .collect();
            next = journal.emit_batch(&events).map_err(text)?.end;
        }
        if is_early {
            note(next - 1)?;
        }
        if random.one_in(40) {
            journal.rotate().map_err(text)?;
        } else {
            journal.sync().map_err(text)?;
        }
        if !is_early {
            note(next - 1)?;
        }
    }
    journal.close().map_err(text)?;
    if is_early { Ok(()) } else { note(next - 1) }
}

/// Recovers, and holds what is there against what was acknowledged and what was emitted. Prints how many events there are.
/// With `dies` the process ends then without closing the journal.
fn check(journal: &str, acknowledged: &str, dies: bool) -> Result<(), String> {
    let acknowledged: u64 = acknowledged.parse().map_err(text)?;
    let dir = Path::new(journal);
    if acknowledged == 0 && !dir.exists() {
        println!("0");
        return Ok(());
    }
    let open =
        || Journal::open(dir, options()).map_err(|error| format!("I1: it can't be opened: {}", text(error)));
    let journal = open()?;
    let recovered = events(&journal)?;
    if recovered < acknowledged {
        return Err(format!("I1: {acknowledged} events were acknowledged, {recovered} are there"));
    }
    let mut first = 1;
    while first <= recovered {
        let end = first + batch_size(first);
        if end > recovered + 1 {
            return Err(format!("I2: of the batch {first}..{end} only events up to {recovered} are there"));
        }
        first = end;
    }
    println!("{recovered}");
    io::stdout().flush().map_err(text)?;
    if dies {
        std::process::abort();
    }
    let next = payload(recovered + 1);
    let go_on = || -> Result<(), Error> {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&next))?;
        journal.sync()
    };
    go_on().map_err(|error| format!("it does not go on: {}", text(error)))?;
    journal.close().map_err(text)?;
    match events(&open()?)? {
        again if again == recovered + 1 => Ok(()),
        again => Err(format!("I4: {} events were there, then {again}", recovered + 1)),
    }
}

/// How many events there are, each as it was emitted and in its place.
fn events(journal: &Journal) -> Result<u64, String> {
    let mut last = 0;
    for record in journal.reader().iter(..) {
        let record = record.map_err(text)?;
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
