//! Histograms of durations.

use anyhow::Result;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;

/// Ticks above this are counted as this many: more than two minutes at 8 GHz.
const TICKS_MAX: u64 = 1 << 40;

/// Durations in ticks, to three digits. Has all its memory from the beginning.
#[derive(Clone, Debug)]
pub struct Latencies {
    ticks: Histogram<u64>,
}

impl Latencies {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// The bounds are wrong.
    pub fn new() -> Result<Self> {
        Ok(Self { ticks: Histogram::new_with_bounds(1, TICKS_MAX, 3)? })
    }

    /// Adds a duration.
    #[inline(always)]
    pub fn record(&mut self, ticks: u64) {
        self.ticks.saturating_record(ticks);
    }

    /// Adds all durations of another one.
    ///
    /// # Errors
    ///
    /// The bounds differ.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        Ok(self.ticks.add(&other.ticks)?)
    }

    /// What is shown of it.
    pub fn percentiles(&self, clock: &Clock) -> Percentiles {
        let at = |quantile| clock.ns(self.ticks.value_at_quantile(quantile));
        Percentiles {
            count: self.ticks.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: clock.ns(self.ticks.max()),
        }
    }
}

/// Durations in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many durations these are of.
    pub count: u64,
    /// Half of them took no longer.
    pub p50: u64,
    /// 99% took no longer.
    pub p99: u64,
    /// 99.9% took no longer.
    pub p999: u64,
    /// 99.99% took no longer.
    pub p9999: u64,
    /// The longest.
    pub max: u64,
}

/// What the two readings of the clock around a call cost themselves.
///
/// # Errors
///
/// None that can be met.
pub fn timer_floor(clock: &Clock) -> Result<Percentiles> {
    let mut floor = Latencies::new()?;
    for _ in 0..1_000_000 {
        let start = clock.now();
        floor.record(clock.now_after() - start);
    }
    Ok(floor.percentiles(clock))
}
