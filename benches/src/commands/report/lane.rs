//! The workloads that engines are compared by.

use semj_bench::engine::BASELINE;
use semj_bench::subject::SEMJ;
use semj_bench::workload::{Asynchronous, Durable, Row};

use super::Measured;

/// A workload that engines are compared by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lane {
    Async256,
    Async1K,
    Durable1,
    Durable8,
}

impl Lane {
    pub(super) const ALL: [Self; 4] = [Self::Async256, Self::Async1K, Self::Durable1, Self::Durable8];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Async256 => "1,000,000 × 256 B, one sync",
            Self::Async1K => "300,000 × 1 KiB, one sync",
            Self::Durable1 => "durable, 1 thread",
            Self::Durable8 => "durable, 8 threads",
        }
    }

    /// The engine and its records each second, if the row is one of this workload.
    fn of(self, row: &Row) -> Option<(&str, f64)> {
        match (self, row) {
            (Self::Async256, Row::Asynchronous(Asynchronous { engine, payload: 256, records_per_s, .. }))
            | (Self::Async1K, Row::Asynchronous(Asynchronous { engine, payload: 1024, records_per_s, .. }))
            | (Self::Durable1, Row::Durable(Durable { engine, threads: 1, records_per_s, .. }))
            | (Self::Durable8, Row::Durable(Durable { engine, threads: 8, records_per_s, .. })) => {
                Some((engine, *records_per_s))
            }
            _ => None,
        }
    }

    pub(super) fn of_engine(self, measured: &Measured, name: &str) -> Option<f64> {
        let mut figures = measured.workloads.iter().filter_map(|row| self.of(row));
        figures.find(|(engine, _)| *engine == name).map(|(_, figure)| figure)
    }

    pub(super) fn own(self, measured: &Measured) -> Option<f64> {
        self.of_engine(measured, SEMJ.name)
    }

    /// Of those that a user could pick.
    pub(super) fn best_peer(self, measured: &Measured) -> Option<(&str, f64)> {
        let figures = measured.workloads.iter().filter_map(|row| self.of(row));
        let peers = figures.filter(|(engine, _)| *engine != SEMJ.name && !engine.starts_with(BASELINE));
        peers.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }
}
