//! Time as cheap as it can be had: the processor's time-stamp counter, and where that can't be trusted the kernel's
//! clock.

use std::time::{Duration, Instant};

/// How long the counter is held against the kernel's clock.
const CALIBRATION: Duration = Duration::from_millis(100);

/// A clock that gives ticks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
    ns_per_tick: f64,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    #[cfg(target_arch = "x86_64")]
    TimeStampCounter,
    Kernel(Instant),
}

impl Clock {
    /// The best clock that there is. Takes a tenth of a second.
    pub fn new() -> Self {
        #[cfg(target_arch = "x86_64")]
        if counter_is_steady() {
            let source = Source::TimeStampCounter;
            let began = Instant::now();
            let first = source.now();
            while began.elapsed() < CALIBRATION {}
            let ticks = source.now() - first;
            return Self { source, ns_per_tick: began.elapsed().as_nanos() as f64 / ticks as f64 };
        }
        Self { source: Source::Kernel(Instant::now()), ns_per_tick: 1.0 }
    }

    /// Ticks now. The processor may read the counter before it has done what stands before it in the program.
    #[inline(always)]
    pub fn now(&self) -> u64 {
        self.source.now()
    }

    /// Ticks when everything that stands before in the program has been done.
    #[inline(always)]
    pub fn now_after(&self) -> u64 {
        self.source.now_after()
    }

    /// Nanoseconds of so many ticks.
    pub fn ns(&self, ticks: u64) -> u64 {
        (ticks as f64 * self.ns_per_tick).round() as u64
    }

    /// Ticks of a duration, with their fraction.
    pub fn ticks(&self, duration: Duration) -> f64 {
        duration.as_nanos() as f64 / self.ns_per_tick
    }

    /// What the clock is.
    pub fn name(&self) -> &'static str {
        match self.source {
            #[cfg(target_arch = "x86_64")]
            Source::TimeStampCounter => "TSC",
            Source::Kernel(_) => "CLOCK_MONOTONIC",
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Source {
    #[inline(always)]
    fn now(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every x86-64 processor has the instruction, and Linux lets programs use it.
            Self::TimeStampCounter => unsafe { core::arch::x86_64::_rdtsc() },
            Self::Kernel(begin) => begin.elapsed().as_nanos() as u64,
        }
    }

    #[inline(always)]
    fn now_after(self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::TimeStampCounter => {
                let mut processor = 0;
                // SAFETY: `counter_is_steady` has seen that the processor has the instruction; it writes the one word
                // that it is given.
                unsafe { core::arch::x86_64::__rdtscp(&raw mut processor) }
            }
            Self::Kernel(begin) => begin.elapsed().as_nanos() as u64,
        }
    }
}

/// Whether the counter runs at one rate in every state of the processor, and `rdtscp` is there.
#[cfg(target_arch = "x86_64")]
fn counter_is_steady() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = text.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    ["constant_tsc", "nonstop_tsc", "rdtscp"]
        .iter()
        .all(|wanted| flags.split_whitespace().any(|flag| flag == *wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_agrees_with_the_kernels() {
        let clock = Clock::new();
        // Other programs may take the processor between the two readings of either clock; not every time.
        let ratio = || {
            let began = Instant::now();
            let first = clock.now();
            while began.elapsed() < Duration::from_millis(50) {}
            let (last, elapsed) = (clock.now_after(), began.elapsed());
            clock.ns(last - first) as f64 / elapsed.as_nanos() as f64
        };
        let ratios: Vec<f64> = (0..10).map(|_| ratio()).collect();
        assert!(ratios.iter().any(|ratio| (0.99..1.01).contains(ratio)), "{}: {ratios:?}", clock.name());
        let ticks = clock.ticks(Duration::from_micros(7)).round() as u64;
        assert!((6_999..=7_001).contains(&clock.ns(ticks)));
    }
}
