//! `semj-bench sustained`: a minute of steady load.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use semj_bench::arguments;
use semj_bench::clock::Clock;
use semj_bench::common::Common;
use semj_bench::latency::Percentiles;
use semj_bench::pace::{Plan, Wait, produce};
use semj_bench::payload::Payloads;
use semj_bench::process::{self, Scratch};
use semj_bench::subject::{self, Setup, Subject};
use semj_bench::table::{Table, mib, ns, rate};
use serde::{Deserialize, Serialize};

use super::emission::sync_until;

/// Steady load while syncs go on: whether anything is dropped, how long the queue gets, and whether memory grows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// How long.
    #[arg(long, value_name = "S", default_value_t = 60.0)]
    seconds: f64,
    /// Events each second.
    #[arg(long, value_name = "N", default_value_t = 500_000.0)]
    rate: f64,
    /// Bytes of payload.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    payload: usize,
    /// Another thread syncs this often.
    #[arg(long, value_name = "MS", default_value_t = 10)]
    sync_every: u64,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) rate: f64,
    pub(crate) payload: u64,
    pub(crate) seconds: f64,
    pub(crate) events_per_s: f64,
    pub(crate) emitted: u64,
    /// Events that a complete verification found afterwards.
    pub(crate) found: u64,
    /// Events whose time came and that the producer did not come to.
    pub(crate) left_out: u64,
    /// Times that the producer waited for room.
    pub(crate) waits: u64,
    pub(crate) syncs: u64,
    /// Events that were emitted and not committed, each tenth of a second: half of the time no more than, and the most.
    pub(crate) queued_p50: u64,
    pub(crate) queued_max: u64,
    pub(crate) call: Percentiles,
    /// Memory without maps of files at a sixth of the time, at half of it and at the end, and the most.
    pub(crate) resident: [u64; 3],
    pub(crate) resident_max: u64,
}

impl Row {
    /// Events whose time came and that are not in the journal.
    pub(crate) fn missing(&self) -> u64 {
        self.left_out + self.emitted.saturating_sub(self.found)
    }

    /// By how many bytes memory has grown from a sixth of the time to the end.
    pub(crate) fn resident_growth(&self) -> u64 {
        let [early, _, end] = self.resident;
        end.saturating_sub(early)
    }
}

const SAMPLED_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &Args) -> Result<()> {
    let command_line = |(): &()| {
        arguments![
            "sustained",
            "--seconds",
            args.seconds,
            "--rate",
            args.rate,
            "--payload",
            args.payload,
            "--sync-every",
            args.sync_every,
        ]
    };
    let rows = args.common.measure(&[()], command_line, |()| measure(args))?;
    args.common.print(&rows, tables)
}

fn measure(args: &Args) -> Result<Row> {
    let bytes = args.seconds * args.rate * (args.payload + 320) as f64;
    let scratch = Scratch::new(args.common.dir.as_deref(), bytes as u64 + (1 << 30))?;
    let dir = scratch.join("journal");
    let clock = Clock::new();
    let payloads = Payloads::new(args.payload);
    let subject = Subject::open(&dir, &Setup::default())?;
    let plan = Plan {
        rate: Some(args.rate),
        warm_up: Duration::ZERO,
        duration: Duration::from_secs_f64(args.seconds),
        wait: if process::cores()?.len() > 1 { Wait::Spin } else { Wait::Yield },
    };
    let start = clock.now() + clock.ticks(Duration::from_millis(50)) as u64;
    let is_over = AtomicBool::new(false);
    let (produced, synced, samples) = std::thread::scope(|scope| {
        let (subject, is_over) = (&subject, &is_over);
        let syncer = scope.spawn(|| sync_until(subject, Duration::from_millis(args.sync_every), is_over));
        let sampler = scope.spawn(|| sample_until(subject, is_over));
        let produced = produce(&clock, &plan, start, |index| {
            subject.emit(&[], payloads.at(index))?;
            Ok(())
        });
        is_over.store(true, Ordering::Relaxed);
        (produced, syncer.join(), sampler.join())
    });
    let (Ok(synced), Ok(samples)) = (synced, samples) else { bail!("a thread panicked") };
    let (produced, samples) = (produced?, samples?);
    synced?;
    let figures = subject.close()?;
    let verified = subject::verify(&dir)?;
    let mut queued: Vec<u64> = samples.iter().map(|sample| sample.queued).collect();
    queued.sort_unstable();
    let resident_at = |part: f64| {
        let index = (samples.len().saturating_sub(1) as f64 * part).round() as usize;
        samples.get(index).map_or(0, |sample| sample.resident)
    };
    Ok(Row {
        rate: args.rate,
        payload: args.payload as u64,
        seconds: args.seconds,
        events_per_s: produced.rate,
        emitted: produced.emitted,
        found: verified.events,
        left_out: produced.left_out,
        waits: figures.waits,
        syncs: figures.syncs,
        queued_p50: queued.get(queued.len() / 2).copied().unwrap_or(0),
        queued_max: queued.last().copied().unwrap_or(0),
        call: produced.call.percentiles(&clock),
        resident: [1.0 / 6.0, 0.5, 1.0].map(resident_at),
        resident_max: samples.iter().map(|sample| sample.resident).max().unwrap_or(0),
    })
}

struct Sample {
    queued: u64,
    resident: u64,
}

fn sample_until(subject: &Subject, is_over: &AtomicBool) -> Result<Vec<Sample>> {
    let mut samples = Vec::new();
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        next += SAMPLED_EVERY;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        samples.push(Sample { queued: subject.figures().queued, resident: process::resident_bytes()? });
    }
    Ok(samples)
}

pub(crate) fn tables(rows: &[Row]) -> String {
    let mut table = Table::new(&["sustained", ""]);
    for row in rows {
        let lines = [
            ("asked for", format!("{}/s, {} B, {} s", rate(row.rate), row.payload, row.seconds)),
            ("events/s", rate(row.events_per_s)),
            ("emitted", row.emitted.to_string()),
            ("found afterwards", row.found.to_string()),
            ("dropped or left out", row.missing().to_string()),
            ("waits for room", row.waits.to_string()),
            ("syncs", row.syncs.to_string()),
            ("queue, median and longest", format!("{} / {}", row.queued_p50, row.queued_max)),
            (
                "emit p50 / p99 / p99.9 / max",
                [row.call.p50, row.call.p99, row.call.p999, row.call.max].map(ns).join(" / "),
            ),
            ("RSS MiB at 1/6, 1/2 and the end", row.resident.map(mib).join(" / ")),
            ("RSS MiB, most", mib(row.resident_max)),
        ];
        for (name, value) in lines {
            table.row([name.to_owned(), value]);
        }
    }
    table.to_string()
}
