//! Producers that emit at times that are fixed beforehand.
//!
//! An open loop: an event's time is set by the rate and not by when the one before was done. Its latency is then taken
//! twice: from when it should have begun, so that one slow call counts for all those that it made late (without that
//! they would be left out of the histogram, which is called coordinated omission), and from when the call began.

use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::allocations;
use crate::clock::Clock;
use crate::latency::Latencies;
use crate::process;

/// How a producer passes the time until its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It reads the clock over and over. No system call, but a core to itself.
    Spin,
    /// It gives the core to whoever wants it between two readings of the clock.
    Yield,
}

/// What a producer does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events each second; without, one follows the other.
    pub rate: Option<f64>,
    /// How long it emits before anything is counted.
    pub warm_up: Duration,
    /// How long it emits then.
    pub duration: Duration,
    /// What it does between two events.
    pub wait: Wait,
}

/// What came of it, without the warm-up.
#[derive(Clone, Debug)]
pub struct Produced {
    /// From the beginning of each call.
    pub call: Latencies,
    /// From when each call should have begun.
    pub response: Latencies,
    /// Events, those of the warm-up included.
    pub emitted: u64,
    /// Events each second.
    pub rate: f64,
    /// Events whose time came, and which were not emitted because the producer was more than `duration` late.
    pub left_out: u64,
    /// Calls of the allocator on the producer's thread.
    pub allocations: u64,
    /// Times that the producer's core was given to somebody else, the warm-up included, and those that it offered
    /// itself: on a machine that others use, the longest latencies are these.
    pub preemptions: u64,
}

/// Emits by `plan`, from `start` on, a reading of the clock that lies ahead. `emit` gets the index of the event.
///
/// # Errors
///
/// The first one of `emit`.
#[inline(always)]
pub fn produce(
    clock: &Clock,
    plan: &Plan,
    start: u64,
    mut emit: impl FnMut(u64) -> Result<()>,
) -> Result<Produced> {
    let mut call = Latencies::new()?;
    let mut response = Latencies::new()?;
    let second = clock.ticks(Duration::from_secs(1));
    let ticks_per_event = plan.rate.map(|rate| second / rate);
    let measured_from = start + clock.ticks(plan.warm_up) as u64;
    let duration = clock.ticks(plan.duration);
    let end = measured_from + duration as u64;
    let give_up = end + duration as u64;
    let mut emitted = 0;
    let mut measured = 0u64;
    let mut last = measured_from;
    let mut allocations_before = 0;
    let mut left_out = 0;
    // Threads that are about to start need the cores; at the beginning nobody may be behind.
    let lead = start.saturating_sub(clock.now() + clock.ticks(Duration::from_millis(2)) as u64);
    thread::sleep(Duration::from_nanos(clock.ns(lead)));
    let preemptions_before = process::preemptions()?;
    loop {
        let (intended, began) = match ticks_per_event {
            Some(ticks) => {
                let intended = start + (emitted as f64 * ticks) as u64;
                if intended >= end {
                    break;
                }
                wait_until(clock, intended, plan.wait);
                // Read anew, because the processor did not expect the wait to end, and that is not the call's time.
                (intended, clock.now_after())
            }
            None => {
                wait_until(clock, start, Wait::Spin);
                let now = clock.now_after();
                (now, now)
            }
        };
        if began >= give_up || (ticks_per_event.is_none() && began >= end) {
            left_out = ticks_per_event.map_or(0, |ticks| ((end - intended) as f64 / ticks) as u64);
            break;
        }
        emit(emitted)?;
        let done = clock.now_after();
        emitted += 1;
        if intended >= measured_from {
            if measured == 0 {
                allocations_before = allocations::of_this_thread();
            }
            measured += 1;
            last = done;
            call.record(done.saturating_sub(began));
            response.record(done.saturating_sub(intended));
        }
    }
    let allocations = allocations::of_this_thread() - allocations_before;
    let preemptions = process::preemptions()? - preemptions_before;
    let seconds = (last.saturating_sub(measured_from) as f64 / second).max(f64::MIN_POSITIVE);
    let rate = measured as f64 / seconds;
    Ok(Produced { call, response, emitted, rate, left_out, allocations, preemptions })
}

#[inline(always)]
fn wait_until(clock: &Clock, ticks: u64, wait: Wait) {
    while clock.now() < ticks {
        match wait {
            Wait::Yield => thread::yield_now(),
            Wait::Spin => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn plan(rate: Option<f64>) -> Plan {
        let wait = Wait::Yield;
        Plan { rate, warm_up: Duration::from_millis(20), duration: Duration::from_millis(200), wait }
    }

    #[test]
    fn a_rate_is_kept_and_the_warm_up_is_not_counted() {
        let clock = Clock::new();
        let produced = produce(&clock, &plan(Some(10_000.0)), clock.now(), |_| Ok(())).unwrap();
        assert_eq!((produced.emitted, produced.left_out), (2_200, 0));
        assert_eq!(produced.response.percentiles(&clock).count, 2_000);
        assert!((5_000.0..10_500.0).contains(&produced.rate), "{}", produced.rate);
    }

    #[test]
    fn a_call_that_stops_counts_for_all_that_it_made_late() {
        let clock = Clock::new();
        let stop = |index| {
            let began = Instant::now();
            while index == 1_000 && began.elapsed() < Duration::from_millis(50) {}
            Ok(())
        };
        let produced = produce(&clock, &plan(Some(10_000.0)), clock.now(), stop).unwrap();
        let (call, response) = (produced.call.percentiles(&clock), produced.response.percentiles(&clock));
        // 50 ms are the time of 500 events in 2,000.
        assert!(response.p99 >= 40_000_000, "{response:?}");
        assert!(call.p99 < 40_000_000 && call.max >= 50_000_000, "{call:?}");
    }

    #[test]
    fn a_producer_that_is_far_too_late_says_how_many_it_left_out() {
        let clock = Clock::new();
        let slow = |_| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(5) {}
            Ok(())
        };
        let produced = produce(&clock, &plan(Some(10_000.0)), clock.now(), slow).unwrap();
        assert!((2_100..=2_200).contains(&(produced.emitted + produced.left_out)), "{produced:?}");
        assert!(produced.left_out > 2_000);
    }

    #[test]
    fn without_a_rate_one_follows_the_other_until_the_time_is_over() {
        let clock = Clock::new();
        let mut emitted = 0;
        let produced = produce(&clock, &plan(None), clock.now(), |_| {
            emitted += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(produced.emitted, emitted);
        assert!(produced.rate > 100_000.0);
        assert_eq!(produced.left_out, 0);
    }
}
