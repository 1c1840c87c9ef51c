//! What must hold, each line with the figure that shows it, and the same as multiples of what the machine does itself.

use anyhow::Result;
use semj_bench::latency::Percentiles;
use semj_bench::table::{Table, ns, rate};
use semj_bench::{process, subject};

use super::Measured;
use super::lane::Lane;
use crate::commands::{emission, machine};

/// The lines so far.
struct Demands(Table);

impl Demands {
    fn at_most(&mut self, what: impl Into<String>, figure: f64, limit: f64, show: fn(f64) -> String) {
        self.line(what.into(), format!("≤ {}", show(limit)), show(figure), figure <= limit);
    }

    fn at_least(&mut self, what: impl Into<String>, figure: f64, limit: f64, show: fn(f64) -> String) {
        self.line(what.into(), format!("≥ {}", show(limit)), show(figure), figure >= limit);
    }

    fn line(&mut self, what: String, demanded: String, measured: String, holds: bool) {
        self.0.row([what, demanded, measured, if holds { "yes" } else { "NO" }.to_owned()]);
    }
}

/// The table of all that must hold.
pub(super) fn demands(measured: &Measured) -> Result<String> {
    let mut demands = Demands(Table::new(&["", "demanded", "measured", "holds"]));
    emission_demands(&mut demands, measured);
    throughput_demands(&mut demands, measured);
    let show_count = |count: f64| format!("{count}");
    let show_mib = |bytes: f64| format!("{:.1} MiB", bytes / f64::from(1 << 20));
    let show_ms = |ns: f64| format!("{:.1} ms", ns / 1e6);
    let show_rate = |bytes: f64| format!("{:.2} GB/s", bytes / 1e9);
    let cores = process::cores()?.len() as f64;
    for row in &measured.sustained {
        let what = format!("sustained {}/s for {} s", rate(row.rate), row.seconds);
        demands.at_most(format!("{what}: dropped or left out"), row.missing() as f64, 0.0, show_count);
        // As many may wait for the committer, and as many be in the group that it is writing.
        let places = 2.0 * subject::places() as f64;
        demands.at_most(format!("{what}: longest queue"), row.queued_max as f64, places, show_count);
        let growth = row.resident_growth() as f64;
        demands.at_most(format!("{what}: RSS grows by"), growth, f64::from(1 << 20), show_mib);
    }
    for row in &measured.reopen {
        let what = format!("{} events after SIGKILL", row.warm.records);
        demands.at_most(format!("{what}: first emission"), row.warm.first_append_ns as f64, 50e6, show_ms);
        let (all, per_thread) = row.verified.bytes_per_s();
        demands.at_least(format!("{what}: verified, per thread"), per_thread, 3e9, show_rate);
        demands.at_least(format!("{what}: verified, by the number of cores"), all / cores, 3e9, show_rate);
    }
    for row in &measured.verify {
        let what = format!("{} events of {} B verified, per thread", row.events, row.payload);
        demands.at_least(what, row.bytes_per_s().1, 3e9, show_rate);
    }
    Ok(demands.0.to_string())
}

/// So many producers at a million events/s each, with payloads of 256 bytes.
fn at_one_million<'a>(measured: &'a Measured, producers: u64, conditions: &str) -> Option<&'a emission::Row> {
    measured.emission.iter().find(|row| {
        row.rate == "1000000"
            && (row.producers, row.payload) == (producers, 256)
            && row.conditions == conditions
    })
}

/// One of the machine's own figures.
fn limit(measured: &Measured, name: &str) -> Option<f64> {
    let mut limits = measured.machine.iter().flat_map(|row| &row.limits);
    limits.find(|limit| limit.name == name).map(|limit| limit.value)
}

fn emission_demands(demands: &mut Demands, measured: &Measured) {
    let show = |figure: f64| ns(figure as u64);
    let show_count = |count: f64| format!("{count}");
    let show_ratio = |ratio: f64| format!("{ratio:.2}");
    let Some(alone) = at_one_million(measured, 1, "") else { return };
    let call = &alone.call;
    for (what, figure, limit) in [
        ("p50", call.p50, 50.0),
        ("p99", call.p99, 120.0),
        ("p99.9", call.p999, 500.0),
        ("p99.99", call.p9999, 20_000.0),
    ] {
        demands.at_most(format!("emit, 1 × 1 M/s, 256 B: {what}"), figure as f64, limit, show);
    }
    demands.at_most("the same: allocations", alone.allocations as f64, 0.0, show_count);
    demands.at_most("the same: RSS", alone.resident as f64, f64::from(32 << 20), |bytes| {
        format!("{:.1} MiB", bytes / f64::from(1 << 20))
    });
    if let Some(two) = at_one_million(measured, 2, "") {
        demands.at_most("emit, 2 × 1 M/s, 256 B: p99", two.call.p99 as f64, 250.0, show);
    }
    for row in measured.emission.iter().filter(|row| !row.conditions.is_empty()) {
        let percentiles = [
            ("p50", row.call.p50, call.p50),
            ("p99", row.call.p99, call.p99),
            ("p99.9", row.call.p999, call.p999),
            ("p99.99", row.call.p9999, call.p9999),
        ];
        for (what, figure, alone) in percentiles {
            let ratio = figure as f64 / alone.max(1) as f64;
            demands.at_most(format!("{}: {what} by that without", row.conditions), ratio, 3.0, show_ratio);
        }
    }
}

fn throughput_demands(demands: &mut Demands, measured: &Measured) {
    let show = |ratio: f64| format!("{ratio:.2}");
    for (workload, factor) in
        [(Lane::Async256, 1.3), (Lane::Async1K, 1.3), (Lane::Durable1, 0.95), (Lane::Durable8, 1.4)]
    {
        let Some(own) = workload.own(measured) else { continue };
        if let Some((engine, best)) = workload.best_peer(measured) {
            demands.at_least(
                format!("{}: by the best peer, {engine}", workload.title()),
                own / best,
                factor,
                show,
            );
        }
        let of_machine = match workload {
            Lane::Async256 => {
                limit(measured, machine::RECORDS_HASHED).map(|limit| ("by what can be hashed", limit, 0.6))
            }
            Lane::Async1K => None,
            Lane::Durable1 => limit(measured, machine::SYNC_OF_WRITTEN_SPACE)
                .map(|limit| ("by the machine's pwrite + fdatasync", limit, 0.9)),
            Lane::Durable8 => limit(measured, machine::SYNC_OF_WRITTEN_SPACE)
                .map(|limit| ("by eight times the machine's pwrite + fdatasync", 8.0 * limit, 0.6)),
        };
        if let Some((what, limit, factor)) = of_machine {
            demands.at_least(format!("{}: {what}", workload.title()), own / limit, factor, show);
        }
    }
}

/// The queue that an emission is held against.
const QUEUE: &str = "crossbeam";
/// What was demanded in nanoseconds, p50, p99 and p99.9, and what a push of 256 bytes to that queue took on the machine that
/// the demand speaks of.
const EMISSION_BY_QUEUE: [(&str, f64, f64); 3] =
    [("p50", 50.0, 10.0), ("p99", 120.0, 40.0), ("p99.9", 500.0, 80.0)];
/// What was demanded of verifying on one thread, and what that machine's core hashes, in GB/s.
const VERIFIED_BY_HASHED: (f64, f64) = (3.0, 7.4);

/// The figures that depend on the machine most, as multiples of its own. Nothing where these were not measured.
pub(super) fn by_the_machine(measured: &Measured) -> Option<String> {
    let show = |ratio: f64| format!("{ratio:.2}");
    let mut demands = Demands(Table::new(&["", "demanded", "measured", "holds"]));
    let queue =
        measured.queues.iter().find(|row| row.queue == QUEUE && (row.producers, row.rate) == (1, 1e6));
    if let (Some(queue), Some(alone)) = (queue, at_one_million(measured, 1, "")) {
        let figures = |call: &Percentiles| [call.p50, call.p99, call.p999];
        let measured = figures(&alone.call).into_iter().zip(figures(&queue.call));
        for ((what, demanded, of_queue), (own, queue)) in EMISSION_BY_QUEUE.into_iter().zip(measured) {
            let what = format!("emit, 1 × 1 M/s, 256 B: {what} by a push to {QUEUE}'s ArrayQueue");
            demands.at_most(what, own as f64 / queue.max(1) as f64, demanded / of_queue, show);
        }
    }
    for row in &measured.verify {
        let what =
            format!("{} events of {} B verified, per thread, by SHA-256 of 1 MiB", row.events, row.payload);
        let (demanded, of_core) = VERIFIED_BY_HASHED;
        demands.at_least(what, row.by_hashed(), demanded / of_core, show);
    }
    (!demands.0.is_empty()).then(|| demands.0.to_string())
}
