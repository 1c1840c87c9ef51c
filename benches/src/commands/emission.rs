//! `semj-bench emission`: what `emit` costs whoever calls it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use semj_bench::arguments;
use semj_bench::clock::Clock;
use semj_bench::common::Common;
use semj_bench::latency::{Latencies, Percentiles, timer_floor};
use semj_bench::pace::{Plan, Wait, produce};
use semj_bench::payload::Payloads;
use semj_bench::process::{self, Scratch};
use semj_bench::subject::{Setup, Subject};
use semj_bench::table::{Table, mib, ns, rate};
use semj_bench::workload::on_threads;
use serde::{Deserialize, Serialize};

use super::disturb::Disturber;

/// What an emission costs whoever emits, at fixed rates.
///
/// Each producer emits at times that its rate fixes beforehand. "call" is how long `emit` took, the event's encoding
/// included; "response" counts from the time when the call should have begun. With several values for an option every
/// combination is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Events each second of each producer; `max`: one after the other.
    #[arg(long, value_name = "N|max", value_delimiter = ',', default_value = "1000000")]
    rate: Vec<Rate>,
    /// Threads that emit.
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1")]
    producers: Vec<usize>,
    /// Bytes of payload.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "256")]
    payload: Vec<usize>,
    /// Bytes of the path.
    #[arg(long, value_name = "BYTES", default_value_t = 40)]
    path: usize,
    /// How long it is measured.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// How long it runs before that.
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    warm_up: f64,
    /// Another thread syncs this often.
    #[arg(long, value_name = "MS")]
    sync_every: Option<u64>,
    /// Bytes of a segment; default: the journal's.
    #[arg(long, value_name = "BYTES")]
    segment_size: Option<u64>,
    /// The journal compacts the segments that have ended meanwhile, so many bytes each second at most, such as 50MB/s.
    #[arg(long, value_name = "RATE", value_parser = bytes_per_second)]
    compact: Option<u64>,
    /// Another process writes so many bytes each second to the same disk, such as 200MB/s.
    #[arg(long, value_name = "RATE", value_parser = bytes_per_second)]
    disturb: Option<u64>,
    /// Each producer keeps to a core of its own, as far as there are any; what is left is the journal's.
    #[arg(long)]
    pin: bool,
    /// What producers do until their next event; `auto`: spin if every one has a core and one is left.
    #[arg(long, value_enum, default_value_t = WaitArg::Auto)]
    wait: WaitArg,
}

/// Events each second of a producer.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Rate(Option<f64>);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("max", _) => Ok(Self(None)),
            (_, Ok(rate)) if rate.is_finite() && rate > 0.0 => Ok(Self(Some(rate))),
            _ => Err("a number of events each second, or max".into()),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{rate}"),
            None => write!(f, "max"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum WaitArg {
    Auto,
    Spin,
    Yield,
}

fn bytes_per_second(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches("/s");
    let (digits, unit) = match number.strip_suffix("MB") {
        Some(digits) => (digits, 1_000_000),
        None => (number, 1),
    };
    let rate = digits.parse::<u64>().map_err(|_| "bytes each second, such as 200MB/s".to_owned())?;
    if rate == 0 { Err("more than none".into()) } else { Ok(rate * unit) }
}

#[derive(Clone, Copy, Debug)]
struct Measurement {
    rate: Rate,
    producers: usize,
    payload: usize,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What each producer was to emit each second, "max" for no limit.
    pub(crate) rate: String,
    pub(crate) producers: u64,
    pub(crate) payload: u64,
    pub(crate) path: u64,
    /// What else went on.
    pub(crate) conditions: String,
    pub(crate) clock: String,
    /// What two readings of the clock cost.
    pub(crate) timer: Percentiles,
    /// From the beginning of each call.
    pub(crate) call: Percentiles,
    /// From when each call should have begun; nothing where there was no rate.
    pub(crate) response: Option<Percentiles>,
    /// Events each second of all producers together.
    pub(crate) events_per_s: f64,
    /// Events whose time came and that no producer came to.
    pub(crate) left_out: u64,
    /// Allocations on the producers' threads behind the warm-up.
    pub(crate) allocations: u64,
    /// Times that a producer's core was given to somebody else.
    pub(crate) preemptions: u64,
    /// Times that an emission waited for room, the warm-up included.
    pub(crate) waits: u64,
    pub(crate) commits: u64,
    pub(crate) syncs: u64,
    pub(crate) segments: u64,
    /// Memory without maps of files: before the journal was opened, and at the end.
    pub(crate) resident_before: u64,
    pub(crate) resident: u64,
    /// What the other process brought to the disk each second.
    pub(crate) disturbed_by: Option<f64>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut measurements = Vec::new();
    for &payload in &args.payload {
        for &producers in &args.producers {
            for &rate in &args.rate {
                measurements.push(Measurement { rate, producers, payload });
            }
        }
    }
    let rows = args.common.measure(
        &measurements,
        |measurement| command_line(args, measurement),
        |measurement| measure(args, measurement),
    )?;
    args.common.print(&rows, tables)
}

fn command_line(args: &Args, measurement: &Measurement) -> Vec<String> {
    let mut line = arguments![
        "emission",
        "--rate",
        measurement.rate,
        "--producers",
        measurement.producers,
        "--payload",
        measurement.payload,
        "--path",
        args.path,
        "--seconds",
        args.seconds,
        "--warm-up",
        args.warm_up,
        "--wait",
        format!("{:?}", args.wait).to_lowercase(),
    ];
    if args.pin {
        line.extend(arguments!["--pin"]);
    }
    for (option, value) in [
        ("--sync-every", args.sync_every),
        ("--segment-size", args.segment_size),
        ("--disturb", args.disturb),
        ("--compact", args.compact),
    ] {
        if let Some(value) = value {
            line.extend(arguments![option, value]);
        }
    }
    line
}

fn measure(args: &Args, measurement: &Measurement) -> Result<Row> {
    let Measurement { rate, producers, payload } = *measurement;
    ensure!((1..=64).contains(&producers), "there can be 1 to 64 producers");
    let duration = Duration::from_secs_f64(args.seconds);
    let warm_up = Duration::from_secs_f64(args.warm_up);
    let cores = process::cores()?;
    let wait = match args.wait {
        WaitArg::Spin => Wait::Spin,
        WaitArg::Yield => Wait::Yield,
        WaitArg::Auto if producers < cores.len() => Wait::Spin,
        WaitArg::Auto => Wait::Yield,
    };
    let plan = Plan { rate: rate.0, warm_up, duration, wait };
    // Flat out, nobody knows how much it will be; 2.5 GB/s would be a lot.
    let bytes_per_second = rate
        .0
        .map_or(2.5e9, |rate| (rate * producers as f64 * (payload + args.path + 320) as f64).min(2.5e9));
    let bytes = bytes_per_second * (duration * 2 + warm_up).as_secs_f64() + (2u64 << 30) as f64;
    let scratch = Scratch::new(args.common.dir.as_deref(), bytes as u64)?;
    let clock = Clock::new();
    let timer = timer_floor(&clock)?;
    let payloads = Payloads::recent(payload);
    let path: Vec<u8> = b"/home/user/project/src/main.rs".iter().copied().cycle().take(args.path).collect();

    // What this thread starts inherits its cores, the committer too; producers choose theirs again below.
    if args.pin && producers < cores.len() {
        process::pin(cores.get(producers..).unwrap_or_default())?;
    }
    let disturber =
        args.disturb.map(|rate| Disturber::start(&scratch.join("disturbance"), rate)).transpose()?;
    let resident_before = process::resident_bytes()?;
    let subject = Subject::open(
        &scratch.join("journal"),
        &Setup { segment_size: args.segment_size, compaction_rate: args.compact },
    )?;

    let start = clock.now() + clock.ticks(Duration::from_millis(50)) as u64;
    let is_over = AtomicBool::new(false);
    let (produced, synced) = std::thread::scope(|scope| {
        let (subject, is_over) = (&subject, &is_over);
        let syncer = args
            .sync_every
            .map(|ms| scope.spawn(move || sync_until(subject, Duration::from_millis(ms), is_over)));
        let produced = on_threads(producers, |producer| {
            if args.pin {
                process::pin(&[*cores.get(producer % cores.len()).context("there are no cores")?])?;
            }
            produce(&clock, &plan, start, |index| {
                subject.emit(&path, payloads.at(index))?;
                Ok(())
            })
        });
        is_over.store(true, Ordering::Relaxed);
        let synced = match syncer.map(|thread| thread.join()) {
            None => Ok(()),
            Some(Ok(synced)) => synced,
            Some(Err(_)) => bail!("the thread that syncs panicked"),
        };
        Ok((produced?, synced))
    })?;
    synced?;
    let resident = process::resident_bytes()?;
    let figures = subject.close()?;
    let disturbed_by = disturber.map(Disturber::stop).transpose()?;

    let (mut call, mut response) = (Latencies::new()?, Latencies::new()?);
    for of_producer in &produced {
        call.add(&of_producer.call)?;
        response.add(&of_producer.response)?;
    }
    let emitted: u64 = produced.iter().map(|produced| produced.emitted).sum();
    ensure!(
        figures.emitted == emitted,
        "{emitted} events were emitted, the journal says {}",
        figures.emitted
    );
    Ok(Row {
        rate: rate.to_string(),
        producers: producers as u64,
        payload: payload as u64,
        path: args.path as u64,
        conditions: conditions(args),
        clock: clock.name().to_owned(),
        timer,
        call: call.percentiles(&clock),
        response: rate.0.map(|_| response.percentiles(&clock)),
        events_per_s: produced.iter().map(|produced| produced.rate).sum(),
        left_out: produced.iter().map(|produced| produced.left_out).sum(),
        allocations: produced.iter().map(|produced| produced.allocations).sum(),
        preemptions: produced.iter().map(|produced| produced.preemptions).sum(),
        waits: figures.waits,
        commits: figures.commits,
        syncs: figures.syncs,
        segments: figures.segments,
        resident_before,
        resident,
        disturbed_by,
    })
}

fn conditions(args: &Args) -> String {
    let conditions = [
        args.sync_every.map(|ms| format!("a sync every {ms} ms")),
        args.segment_size.map(|bytes| format!("segments of {} KiB", bytes >> 10)),
        args.compact.map(|rate| format!("compaction at {} MB/s", rate / 1_000_000)),
        args.disturb.map(|rate| format!("{} MB/s beside it", rate / 1_000_000)),
        args.pin.then(|| "pinned".to_owned()),
    ];
    conditions.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Syncs this often until everything else is over.
pub(super) fn sync_until(subject: &Subject, interval: Duration, is_over: &AtomicBool) -> Result<()> {
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        next += interval;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        subject.sync()?;
    }
    Ok(())
}

pub(crate) fn tables(rows: &[Row]) -> String {
    let percentiles = ["p50", "p99", "p99.9", "p99.99", "max"];
    let setting = |row: &Row| {
        let rate = row.rate.parse().map_or(row.rate.clone(), |rate: f64| format!("{}/s", self::rate(rate)));
        let conditions =
            if row.conditions.is_empty() { String::new() } else { format!("; {}", row.conditions) };
        format!("{} × {rate}, {} B{conditions}", row.producers, row.payload)
    };
    let figures = |of: &Percentiles| [of.p50, of.p99, of.p999, of.p9999, of.max].map(ns);
    let headings = |first: &'static str| [&[first], &percentiles[..]].concat();
    let mut call = Table::new(&headings("emit, call"));
    let mut response = Table::new(&headings("emit, from the time when it should have begun"));
    let mut rest = Table::new(&[
        "emit",
        "events/s",
        "left out",
        "allocations",
        "preempted",
        "waits",
        "commits",
        "syncs",
        "segments",
        "RSS MiB before",
        "RSS MiB",
        "disturbed by MB/s",
    ]);
    for row in rows {
        call.row([vec![setting(row)], figures(&row.call).to_vec()].concat());
        if let Some(of_row) = &row.response {
            response.row([vec![setting(row)], figures(of_row).to_vec()].concat());
        }
        rest.row([
            setting(row),
            rate(row.events_per_s),
            row.left_out.to_string(),
            row.allocations.to_string(),
            row.preemptions.to_string(),
            row.waits.to_string(),
            row.commits.to_string(),
            row.syncs.to_string(),
            row.segments.to_string(),
            mib(row.resident_before),
            mib(row.resident),
            row.disturbed_by.map_or("-".into(), |rate| format!("{:.0}", rate / 1e6)),
        ]);
    }
    if let Some(row) = rows.first() {
        call.row([vec![format!("(the timer itself, {})", row.clock)], figures(&row.timer).to_vec()].concat());
    }
    format!("{call}\n{response}\n{rest}")
}
