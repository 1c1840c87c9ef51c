//! What is done to an engine while it is measured. Every engine gets the same records by the same loops.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::engine::Kind;
use crate::latency::{Latencies, Percentiles};
use crate::payload::Payloads;
use crate::process::{self, Scratch};

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
    /// How long a call took; where records are batched, the call that ends a batch appends all of them.
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

/// Runs it.
///
/// # Errors
///
/// The engine's own.
pub fn asynchronous(kind: &Kind, records: u64, payload: usize, scratch: &Scratch) -> Result<Asynchronous> {
    let clock = Clock::new();
    let payloads = Payloads::new(payload);
    let mut call = Latencies::new()?;
    let mut batch = Vec::with_capacity(kind.batch);
    let engine = (kind.open)(scratch.path())?;
    let began = Instant::now();
    for index in 0..records {
        let record = payloads.at(index);
        let start = clock.now();
        if kind.batch == 1 {
            engine.append(record)?;
        } else {
            batch.push(record);
            if batch.len() == kind.batch || index + 1 == records {
                engine.append_batch(&batch)?;
                batch.clear();
            }
        }
        call.record(clock.now_after() - start);
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
        disk_per_payload: process::disk_bytes(scratch.path())? as f64 / payload_bytes as f64,
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
    scratch: &Scratch,
) -> Result<Durable> {
    let clock = Clock::new();
    let payloads = Payloads::new(payload);
    let engine = (kind.open)(scratch.path())?;
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

/// Runs something on several threads at once; it gets the thread's number.
///
/// # Errors
///
/// The first one of a thread.
pub fn on_threads<T: Send>(threads: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let results = running.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        });
        results.collect::<Result<Vec<_>>>().context("on a thread")
    })
}
