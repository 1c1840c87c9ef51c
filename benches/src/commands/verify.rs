//! `semj-bench verify`: how fast a journal in memory is verified.

use std::time::Instant;

use anyhow::{Result, ensure};
use semj_bench::arguments;
use semj_bench::common::Common;
use semj_bench::payload::Payloads;
use semj_bench::process::{self, Scratch};
use semj_bench::subject::{self, Setup, Subject};
use semj_bench::table::{Table, ns};
use serde::{Deserialize, Serialize};

use super::machine;

/// How fast a journal in memory is verified completely, through what `semj verify` calls.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// Size of the journal.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    mib: u64,
    /// Bytes of payload.
    #[arg(long, value_name = "BYTES", value_delimiter = ',', default_value = "256,1024")]
    payload: Vec<usize>,
}

/// One measurement.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) payload: u64,
    pub(crate) events: u64,
    /// Bytes of the segments up to their ends.
    pub(crate) bytes: u64,
    pub(crate) elapsed_ns: u64,
    /// Processor time of all threads.
    pub(crate) processor_ns: u64,
    /// What one core hashed just before and just after, messages of 1 MiB, bytes each second.
    pub(crate) hashed_bytes_per_s: f64,
}

impl Row {
    /// Verifies a journal in this process.
    pub(crate) fn measure(payload: usize, dir: &std::path::Path) -> Result<Self> {
        let source = vec![0x5A; machine::HASHED];
        let hashed = || machine::hashed_per_second(&source, 1 << 20);
        let hashed_before = hashed();
        let processor_began = process::processor_time();
        let began = Instant::now();
        let verified = subject::verify(dir)?;
        let (elapsed, processor) = (began.elapsed(), process::processor_time() - processor_began);
        let hashed_after = hashed();
        Ok(Self {
            payload: payload as u64,
            events: verified.events,
            bytes: verified.bytes,
            elapsed_ns: elapsed.as_nanos() as u64,
            processor_ns: processor.as_nanos() as u64,
            hashed_bytes_per_s: f64::midpoint(hashed_before, hashed_after),
        })
    }

    /// Bytes of the journal each second, and for each second of a thread's work.
    pub(crate) fn bytes_per_s(&self) -> (f64, f64) {
        let per = |ns: u64| self.bytes as f64 * 1e9 / ns.max(1) as f64;
        (per(self.elapsed_ns), per(self.processor_ns))
    }

    /// The latter, by what one core hashed of 1 MiB.
    pub(crate) fn by_hashed(&self) -> f64 {
        self.bytes_per_s().1 / self.hashed_bytes_per_s
    }
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let rows = args.common.measure(
        &args.payload,
        |payload| arguments!["verify", "--mib", args.mib, "--payload", payload],
        |payload| measure(args, *payload),
    )?;
    args.common.print(&rows, |rows| table(rows).to_string())
}

fn measure(args: &Args, payload: usize) -> Result<Row> {
    let bytes = args.mib << 20;
    let scratch = Scratch::new(args.common.dir.as_deref(), bytes + (1 << 30))?;
    let dir = scratch.join("journal");
    let payloads = Payloads::new(payload);
    let subject = Subject::open(&dir, &Setup::default())?;
    let mut emitted = 0;
    while subject.figures().bytes < bytes {
        for _ in 0..10_000 {
            subject.emit(&[], payloads.at(emitted))?;
            emitted += 1;
        }
        subject.sync()?;
    }
    subject.close()?;
    // Once to have all of it in memory and mapped once.
    subject::verify(&dir)?;
    let row = Row::measure(payload, &dir)?;
    ensure!(row.events == emitted, "{emitted} events were emitted, {} are there", row.events);
    Ok(row)
}

pub(crate) fn table<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Table {
    let mut table = Table::new(&[
        "verified completely",
        "bytes",
        "time",
        "GB/s",
        "GB/s per thread",
        "by SHA-256 of 1 MiB",
        "threads busy",
    ]);
    for row in rows {
        let (all, per_thread) = row.bytes_per_s();
        table.row([
            format!("{} events, {} B", row.events, row.payload),
            row.bytes.to_string(),
            ns(row.elapsed_ns),
            format!("{:.2}", all / 1e9),
            format!("{:.2}", per_thread / 1e9),
            format!("{:.2}", row.by_hashed()),
            format!("{:.2}", row.processor_ns as f64 / row.elapsed_ns.max(1) as f64),
        ]);
    }
    table
}
