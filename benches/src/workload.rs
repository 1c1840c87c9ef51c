//! What is done to an engine while it is measured. Every engine gets the same records by the same loops.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::engine::{Kind, Reopen, Scanned, Use};
use crate::latency::{Latencies, Percentiles};
use crate::payload::Payloads;
use crate::process;
use crate::table::{Table, mib, ns, rate};

/// What is measured of every engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// 1,000,000 records of 256 bytes from one thread, one sync at the end.
    #[value(name = "async-256")]
    Async256,
    /// 300,000 records of 1 KiB from one thread, one sync at the end.
    #[value(name = "async-1k")]
    Async1K,
    /// One thread, which waits for each of its records of 256 bytes until it is durable.
    #[value(name = "durable-1")]
    Durable1,
    /// Eight such threads.
    #[value(name = "durable-8")]
    Durable8,
}

/// Free space on the disk that every workload gets by with, for every engine.
pub const SCRATCH_BYTES: u64 = 4 << 30;

impl Workload {
    /// Its name, as the command line has it.
    pub fn name(self) -> String {
        self.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
    }

    /// Whether an engine can do it.
    pub fn suits(self, kind: &Kind) -> bool {
        match self {
            Self::Async256 | Self::Async1K => true,
            Self::Durable1 | Self::Durable8 => kind.is_durable,
        }
    }

    /// Runs it; where records are durable one by one, for this long.
    ///
    /// # Errors
    ///
    /// The engine's own.
    pub fn run(self, kind: &Kind, duration: Duration, dir: &Path) -> Result<Row> {
        match self {
            Self::Async256 => asynchronous(kind, 1_000_000, 256, dir).map(Row::Asynchronous),
            Self::Async1K => asynchronous(kind, 300_000, 1024, dir).map(Row::Asynchronous),
            Self::Durable1 => durable(kind, 1, 256, duration, dir).map(Row::Durable),
            Self::Durable8 => durable(kind, 8, 256, duration, dir).map(Row::Durable),
        }
    }
}

/// What came of a workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "workload", rename_all = "snake_case")]
pub enum Row {
    /// Of one with a sync at the end.
    Asynchronous(Asynchronous),
    /// Of one with a sync for each record.
    Durable(Durable),
    /// Of opening again what a killed process left.
    Reopened(Reopened),
}

/// Records that one thread appends as fast as it can, and one sync behind them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asynchronous {
    /// The engine.
    pub engine: String,
    /// How many records.
    pub records: u64,
    /// Bytes of each.
    pub payload: u64,
    /// Records each second, the sync included.
    pub records_per_s: f64,
    /// How long a call took, of every 17th; where records are batched, the call that ends a batch appends all of them.
    pub call: Percentiles,
    /// How long the sync at the end took, in nanoseconds.
    pub sync_ns: u64,
    /// Bytes on the disk when the engine was closed, for each byte of payload.
    pub disk_per_payload: f64,
    /// Memory at the end without maps of files, in bytes.
    pub resident: u64,
    /// The most memory, maps of files included, in bytes.
    pub resident_max: u64,
}

/// Of so many calls one is timed: to time each would take up to a tenth of the fastest engines' time, and two readings of the
/// clock are not what is measured. No batch has a number of records that this divides, so calls that end one are
/// timed as often as the others.
const CALLS_PER_TIMED: u64 = 17;

/// Runs it.
///
/// # Errors
///
/// The engine's own.
pub fn asynchronous(kind: &Kind, records: u64, payload: usize, dir: &Path) -> Result<Asynchronous> {
    let clock = Clock::new();
    let payloads = Payloads::new(payload);
    let mut call = Latencies::new()?;
    let mut batch = Vec::with_capacity(kind.batch);
    let engine = (kind.open)(dir, Use::Asynchronous)?;
    let began = Instant::now();
    let mut next_timed = 0;
    for index in 0..records {
        let record = payloads.at(index);
        let start = (index == next_timed).then(|| clock.now());
        if kind.batch == 1 {
            engine.append(record)?;
        } else {
            batch.push(record);
            if batch.len() == kind.batch || index + 1 == records {
                engine.append_batch(&batch)?;
                batch.clear();
            }
        }
        if let Some(start) = start {
            call.record(clock.now_after() - start);
            next_timed += CALLS_PER_TIMED;
        }
    }
    let sync_began = Instant::now();
    engine.sync()?;
    let (elapsed, sync) = (began.elapsed(), sync_began.elapsed());
    let resident = process::resident_bytes()?;
    let resident_max = process::resident_bytes_max()?;
    engine.close()?;
    let payload_bytes = (records * payload as u64).max(1);
    Ok(Asynchronous {
        engine: kind.name.to_owned(),
        records,
        payload: payload as u64,
        records_per_s: records as f64 / elapsed.as_secs_f64(),
        call: call.percentiles(&clock),
        sync_ns: sync.as_nanos() as u64,
        disk_per_payload: process::disk_bytes(dir)? as f64 / payload_bytes as f64,
        resident,
        resident_max,
    })
}

/// Threads that append, each of which waits until its record is durable before it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Durable {
    /// The engine.
    pub engine: String,
    /// How many threads.
    pub threads: u64,
    /// Bytes of a record.
    pub payload: u64,
    /// Records each second, of all threads together.
    pub records_per_s: f64,
    /// How long each one took.
    pub wait: Percentiles,
    /// Memory at the end without maps of files, in bytes.
    pub resident: u64,
}

/// Runs it for this long, behind a tenth of that which isn't counted.
///
/// # Errors
///
/// The engine's own.
pub fn durable(
    kind: &Kind,
    threads: usize,
    payload: usize,
    duration: Duration,
    dir: &Path,
) -> Result<Durable> {
    let clock = Clock::new();
    let payloads = Payloads::new(payload);
    let engine = (kind.open)(dir, Use::Durable)?;
    let begin = clock.now() + clock.ticks(Duration::from_millis(10)) as u64;
    let measured_from = begin + clock.ticks(duration / 10) as u64;
    let end = measured_from + clock.ticks(duration) as u64;
    let appender = |thread: usize| -> Result<Latencies> {
        let mut wait = Latencies::new()?;
        for index in (thread as u64..).step_by(threads) {
            let start = clock.now();
            if start >= end {
                break;
            }
            engine.append_durable(payloads.at(index))?;
            let done = clock.now_after();
            if start >= measured_from && done < end {
                wait.record(done - start);
            }
        }
        Ok(wait)
    };
    let waits = on_threads(threads, appender)?;
    let mut wait = Latencies::new()?;
    waits.iter().try_for_each(|of_thread| wait.add(of_thread))?;
    let resident = process::resident_bytes()?;
    engine.close()?;
    let wait = wait.percentiles(&clock);
    Ok(Durable {
        engine: kind.name.to_owned(),
        threads: threads as u64,
        payload: payload as u64,
        records_per_s: wait.count as f64 / duration.as_secs_f64(),
        wait,
        resident,
    })
}

/// Runs something on several threads at once, which are called `producer-0` and so on; it gets the thread's number.
///
/// # Errors
///
/// The first one of a thread.
pub fn on_threads<T: Send>(threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let start = |thread| {
            let named = std::thread::Builder::new().name(format!("producer-{thread}"));
            named.spawn_scoped(scope, move || work(thread))
        };
        let running = (0..threads).map(start).collect::<io::Result<Vec<_>>>()?;
        let results = running.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        });
        results.collect()
    })
}

/// Where `hold` notes what `reopen` needs to know.
const NOTES: &str = "notes.json";
/// Records that `reopen` reads one by one.
const PROBES: u64 = 10_000;

/// What was appended before the process was killed.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    records: u64,
    payload: usize,
    positions: Vec<u64>,
}

/// The directory of a log that is reopened, in the one for the measurement.
pub fn log_dir(scratch: &Path) -> PathBuf {
    scratch.join("log")
}

/// Appends records, makes them durable, says so on standard output, and waits to be killed.
///
/// # Errors
///
/// The engine's own, and that nobody has killed it before its standard input ended.
pub fn hold(kind: &Kind, records: u64, payload: usize, scratch: &Path) -> Result<()> {
    let payloads = Payloads::new(payload);
    let dir = log_dir(scratch);
    fs::create_dir_all(&dir)?;
    let engine = (kind.open)(&dir, Use::Asynchronous)?;
    let step = (records / PROBES).max(1);
    let mut next_probe = 0;
    let mut positions = Vec::new();
    let mut batch = Vec::with_capacity(kind.batch);
    for index in 0..records {
        batch.push(payloads.at(index));
        if batch.len() == kind.batch || index + 1 == records {
            let last = match batch[..] {
                [record] => engine.append(record)?,
                _ => engine.append_batch(&batch)?,
            };
            if index >= next_probe {
                positions.push(last);
                next_probe += step;
            }
            batch.clear();
        }
    }
    engine.sync()?;
    let notes = Notes { records, payload, positions };
    fs::write(scratch.join(NOTES), serde_json::to_vec(&notes)?)?;
    println!("ready");
    io::stdin().read_to_end(&mut Vec::new())?;
    bail!("nobody has killed the process")
}

/// A log that was opened after the process that wrote it was killed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reopened {
    /// The engine.
    pub engine: String,
    /// Records that were durable.
    pub records: u64,
    /// Bytes of each.
    pub payload: u64,
    /// Bytes on the disk before it was opened.
    pub disk_bytes: u64,
    /// Whether opening checked what is there, all of it.
    pub is_verified: bool,
    /// Until it was open and had taken one more record, in nanoseconds.
    pub first_append_ns: u64,
    /// Processor time until then.
    pub processor_ns: u64,
    /// Reading all records in their order, bytes of payload each second; nothing where the engine can't.
    pub scan_bytes_per_s: Option<f64>,
    /// Reading records at random; nothing where the engine can't.
    pub get: Option<Percentiles>,
}

/// Opens what [`hold`] left in a process that has done nothing else, appends to it and reads it.
///
/// # Errors
///
/// The engine's own, or that a durable record is missing or isn't what was written.
pub fn reopen(kind: &Kind, scratch: &Path) -> Result<Reopened> {
    let notes: Notes = serde_json::from_slice(&fs::read(scratch.join(NOTES))?)?;
    let payloads = Payloads::new(notes.payload);
    let clock = Clock::new();
    let dir = log_dir(scratch);
    let disk_bytes = process::disk_bytes(&dir)?;

    let processor_began = process::processor_time();
    let began = Instant::now();
    let engine = (kind.open)(&dir, Use::Asynchronous)?;
    engine.append(payloads.at(notes.records))?;
    let first_append = began.elapsed();
    let processor = process::processor_time() - processor_began;
    engine.sync()?;

    let began = Instant::now();
    let scanned = engine.scan()?;
    let scan = began.elapsed();
    let mut expected = Scanned::default();
    (0..notes.records).for_each(|index| expected.see(payloads.at(index)));
    if let Some(recovered) = engine.recovered() {
        ensure!(recovered == expected, "{}: {expected:?} was durable, {recovered:?} came back", kind.name);
    }
    expected.see(payloads.at(notes.records));
    if let Some(scanned) = scanned {
        ensure!(scanned == expected, "{}: {expected:?} was appended, {scanned:?} is there", kind.name);
    }
    let mut get = Latencies::new()?;
    let mut at = 0;
    for _ in 0..notes.positions.len() {
        // A step that shares no factor with a power of ten visits all of them, far apart.
        at = (at + 7_919) % notes.positions.len();
        let Some(position) = notes.positions.get(at) else { break };
        let start = clock.now();
        let Some(size) = engine.get(*position)? else { break };
        get.record(clock.now_after() - start);
        ensure!(size == notes.payload, "{}: a record of {size} bytes is at {position}", kind.name);
    }
    let get = get.percentiles(&clock);
    let is_shown = engine.recovered().is_some() || scanned.is_some() || get.count > 0;
    ensure!(is_shown, "{}: nothing shows that the records are there", kind.name);
    engine.close()?;
    Ok(Reopened {
        engine: kind.name.to_owned(),
        records: notes.records,
        payload: notes.payload as u64,
        disk_bytes,
        is_verified: kind.reopen == Reopen::Verifies,
        first_append_ns: first_append.as_nanos() as u64,
        processor_ns: processor.as_nanos() as u64,
        scan_bytes_per_s: scanned.map(|scanned| scanned.bytes as f64 / scan.as_secs_f64()),
        get: (get.count > 0).then_some(get),
    })
}

/// Runs a program that calls [`hold`], and kills it with SIGKILL when everything is durable.
///
/// # Errors
///
/// It ends before that.
pub fn kill_when_ready(command: &mut Command) -> Result<()> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run {command:?}"))?;
    let mut line = String::new();
    let read = match child.stdout.take() {
        Some(stdout) => BufReader::new(stdout).read_line(&mut line),
        None => Ok(0),
    };
    child.kill()?;
    let status = child.wait()?;
    read?;
    ensure!(line == "ready\n", "{command:?}: {status} before everything was durable");
    Ok(())
}

/// Takes a log out of memory, so that what is read next comes from the disk.
///
/// # Errors
///
/// Its files can't be opened or synced.
pub fn evict(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            evict(&path)?;
        } else {
            let file = File::open(&path)?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

/// The rows as Markdown tables, one for each workload.
pub fn tables(rows: &[Row]) -> String {
    let mut tables: Vec<(String, Table)> = Vec::new();
    for row in rows {
        let (title, headings, cells) = match row {
            Row::Asynchronous(row) => (
                format!(
                    "{} × {} B, one thread, one sync at the end; one call in {CALLS_PER_TIMED} is timed",
                    row.records, row.payload
                ),
                &ASYNCHRONOUS[..],
                vec![
                    row.engine.clone(),
                    rate(row.records_per_s),
                    ns(row.call.p50),
                    ns(row.call.p99),
                    ns(row.call.p999),
                    ns(row.call.p9999),
                    ns(row.call.max),
                    ns(row.sync_ns),
                    format!("{:.2}", row.disk_per_payload),
                    mib(row.resident),
                    mib(row.resident_max),
                ],
            ),
            Row::Durable(row) => (
                format!("{} B, durable one by one, threads: {}", row.payload, row.threads),
                &DURABLE[..],
                vec![
                    row.engine.clone(),
                    rate(row.records_per_s),
                    ns(row.wait.p50),
                    ns(row.wait.p99),
                    ns(row.wait.p999),
                    ns(row.wait.max),
                    mib(row.resident),
                ],
            ),
            Row::Reopened(row) => {
                let payload_bytes = (row.records * row.payload) as f64;
                let gigabytes = payload_bytes / row.first_append_ns.max(1) as f64;
                let get =
                    |pick: fn(&Percentiles) -> u64| row.get.as_ref().map_or("-".into(), |get| ns(pick(get)));
                (
                    format!("{} × {} B, opened again after SIGKILL", row.records, row.payload),
                    &REOPENED[..],
                    vec![
                        row.engine.clone(),
                        ns(row.first_append_ns),
                        if row.is_verified { format!("{gigabytes:.2}") } else { "verifies nothing".into() },
                        ns(row.processor_ns),
                        row.scan_bytes_per_s.map_or("-".into(), |rate| format!("{:.2}", rate / 1e9)),
                        get(|get| get.p50),
                        get(|get| get.p99),
                    ],
                )
            }
        };
        let index = match tables.iter().position(|(known, _)| *known == title) {
            Some(index) => index,
            None => {
                tables.push((title, Table::new(headings)));
                tables.len() - 1
            }
        };
        if let Some((_, table)) = tables.get_mut(index) {
            table.row(cells);
        }
    }
    tables.iter().map(|(title, table)| format!("{title}\n\n{table}\n")).collect()
}

const ASYNCHRONOUS: [&str; 11] = [
    "engine",
    "records/s",
    "call p50",
    "p99",
    "p99.9",
    "p99.99",
    "max",
    "sync",
    "disk/payload",
    "RSS MiB",
    "with maps",
];
const DURABLE: [&str; 7] = ["engine", "records/s", "p50", "p99", "p99.9", "max", "RSS MiB"];
const REOPENED: [&str; 7] =
    ["engine", "first append", "payload GB/s", "processor time", "scan GB/s", "get p50", "get p99"];
