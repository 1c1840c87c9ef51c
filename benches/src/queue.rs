//! Queues in memory, as the peers' program measures them.

use serde::{Deserialize, Serialize};

use crate::latency::Percentiles;
use crate::table::{Table, ns, rate};

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub queue: String,
    /// Threads that push.
    pub producers: u64,
    /// Records each second of each of them; 0: one after the other.
    pub rate: f64,
    /// Records each second of all of them.
    pub records_per_s: f64,
    /// Times that a producer's core was given to somebody else.
    pub preemptions: u64,
    /// From the beginning of each push.
    pub call: Percentiles,
    /// From when each push should have begun.
    pub response: Percentiles,
}

/// The rows as a Markdown table.
pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        "queue, 256 B",
        "producers × rate",
        "records/s",
        "call p50",
        "p99",
        "p99.9",
        "p99.99",
        "max",
        "response p50",
        "p99",
        "p99.9",
        "preempted",
    ]);
    for row in rows {
        let at = if row.rate > 0.0 { format!("{}/s", rate(row.rate)) } else { "max".into() };
        let call = [row.call.p50, row.call.p99, row.call.p999, row.call.p9999, row.call.max];
        let response = [row.response.p50, row.response.p99, row.response.p999];
        let cells = [row.queue.clone(), format!("{} × {at}", row.producers), rate(row.records_per_s)];
        table.row(
            cells
                .into_iter()
                .chain(call.into_iter().chain(response).map(ns))
                .chain([row.preemptions.to_string()]),
        );
    }
    table.to_string()
}
