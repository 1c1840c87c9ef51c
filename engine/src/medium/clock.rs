//! CLOCK_MONOTONIC by the processor's time stamp counter.
//!
//! The kernel's own way (vDSO) costs 20 to 30 ns, about half of an emission. Where the kernel keeps its time by the
//! counter, so can we: a line through two looks at the kernel's clock turns ticks into nanoseconds. (`rdtscp` would
//! give the processor's number too, but waits for everything before it; `rdtsc` and the vDSO's `getcpu` cost less.)
//!
//! [`Clock::adjust`] has to be called now and then. It holds the line against the kernel's clock and bends it so that the
//! difference goes away without a jump. A line that is older than [`TICKS_MAX`] is not used: then the kernel is asked.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use parking_lot::Mutex;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::Now;

/// The process's clock, for all its journals.
static CLOCK: Clock = Clock::new();

/// Ticks for which a line is used, about 1 to 2 seconds.
const TICKS_MAX: u64 = 1 << 32;
/// Ticks by which a line may begin ahead of a look at the counter, on another processor. One that begins farther ahead is of
/// a counter that began anew since, as it does when a machine wakes from hibernation.
const AHEAD_MAX: u64 = 1 << 20;
/// Fraction bits of [`Clock::slope`]. With them, ticks times slope stay below 2^64 for processors above 1 GHz.
const SLOPE_BITS: u32 = 32;
/// Nanoseconds between the first two looks at least, and between later ones: one look is right to some 50 ns.
const FIRST_SPAN_NS: i64 = 10_000_000;
const SPAN_NS: i64 = 100_000_000;
/// How often a line is read that somebody changes, which takes some nanoseconds unless the thread is stopped meanwhile.
const ATTEMPTS: u32 = 100;
/// A difference that is no drift any more: the line begins anew.
const JUMP_NS: i64 = 1_000_000;

/// When and where the caller runs.
#[inline(always)]
pub(crate) fn now() -> Now {
    Now { monotonic_ns: CLOCK.now_ns().unwrap_or_else(kernel_ns), cpu_id: cpu_id() }
}

/// The processor that the caller runs on.
#[inline(always)]
pub(super) fn cpu_id() -> u32 {
    // The C library's own, because newer ones read it from memory that the kernel keeps up to date (rseq).
    // SAFETY: it takes nothing and has no effect.
    u32::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(0)
}

/// Holds the process's clock against the kernel's: see the module.
pub(super) fn adjust() {
    CLOCK.adjust();
}

/// CLOCK_MONOTONIC as the kernel tells it, nanoseconds.
#[inline(never)]
pub(super) fn kernel_ns() -> i64 {
    nanoseconds(clock_gettime(ClockId::Monotonic))
}

pub(super) fn nanoseconds(time: Timespec) -> i64 {
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// See the module.
#[derive(Debug)]
struct Clock {
    /// Odd while the line is being changed.
    version: AtomicU64,
    /// Where the line begins.
    ticks: AtomicU64,
    ns: AtomicU64,
    /// Nanoseconds per tick; 0 while there is no line.
    slope: AtomicU64,
    /// The last look at the kernel's clock.
    last: Mutex<Option<(u64, i64)>>,
}

impl Clock {
    const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            slope: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// The time in nanoseconds; `None` where there is no line to tell it by.
    #[inline(always)]
    fn now_ns(&self) -> Option<i64> {
        self.line()?.at(counter::read())
    }

    /// The line, if there is one. While somebody changes it, the kernel's clock is no substitute at once: it may be behind
    /// what was told before.
    #[inline(always)]
    fn line(&self) -> Option<Line> {
        for _ in 0..ATTEMPTS {
            let version = self.version.load(Ordering::Acquire);
            let start = self.ticks.load(Ordering::Relaxed);
            let start_ns = self.ns.load(Ordering::Relaxed);
            let slope = self.slope.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            if version & 1 == 0 && self.version.load(Ordering::Relaxed) == version {
                return (slope != 0).then_some(Line { start, start_ns, slope });
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Holds the line against the kernel's clock, if the last time is long enough ago.
    fn adjust(&self) {
        if !counter::is_usable() {
            return;
        }
        // Another one is at it.
        let Some(mut last) = self.last.try_lock() else { return };
        let (ticks, ns) = look();
        let Some((last_ticks, last_ns)) = *last else {
            *last = Some((ticks, ns));
            return;
        };
        let has_line = self.slope.load(Ordering::Relaxed) != 0;
        let span_ns = ns - last_ns;
        let span_min_ns = if has_line { SPAN_NS } else { FIRST_SPAN_NS };
        if ticks < last_ticks {
            // The counter began anew, and the line with it.
            *last = Some((ticks, ns));
            self.set(Line::NONE);
            return;
        }
        if span_ns < span_min_ns || ticks == last_ticks {
            return;
        }
        *last = Some((ticks, ns));
        // What the line says of that look, and not of a moment later: this thread may have been stopped since.
        let line_ns = self.line().and_then(|line| line.at(ticks)).unwrap_or(ns);
        let off_ns = ns - line_ns;
        let is_new = !has_line || off_ns.abs() > JUMP_NS;
        let span = ticks - last_ticks;
        // What is off goes away within the time that the line is used at most, so that none overshoots.
        let correction = i128::from(off_ns) * i128::from(span) / i128::from(TICKS_MAX);
        let (start_ns, rise) = if is_new { (ns, span_ns) } else { (line_ns, span_ns + correction as i64) };
        let Some(slope) = slope(rise, span) else { return };
        self.set(Line { start: ticks, start_ns: start_ns as u64, slope });
    }

    /// Called by one at a time.
    fn set(&self, line: Line) {
        // Odd first, then the line, then even: a reader between sees that the version is odd or has changed.
        self.version.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::Release);
        self.ticks.store(line.start, Ordering::Relaxed);
        self.ns.store(line.start_ns, Ordering::Relaxed);
        self.slope.store(line.slope, Ordering::Relaxed);
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// What turns ticks into nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Line {
    /// Ticks where it begins.
    start: u64,
    /// Nanoseconds there.
    start_ns: u64,
    /// Nanoseconds per tick; 0 where there is no line.
    slope: u64,
}

impl Line {
    const NONE: Self = Self { start: 0, start_ns: 0, slope: 0 };

    /// The time at a reading of the counter; `None` if the line says nothing about it.
    #[inline]
    fn at(self, now: u64) -> Option<i64> {
        let ticks = now.saturating_sub(self.start);
        let is_near = ticks < TICKS_MAX && self.start.saturating_sub(now) < AHEAD_MAX;
        is_near.then(|| (self.start_ns + ((ticks * self.slope) >> SLOPE_BITS)) as i64)
    }
}

/// Nanoseconds per tick; `None` if it can't be that, or would not stay in its bounds.
fn slope(rise_ns: i64, ticks: u64) -> Option<u64> {
    let slope = u128::try_from(rise_ns).ok()? << SLOPE_BITS;
    u64::try_from(slope / u128::from(ticks)).ok().filter(|slope| (1..1 << SLOPE_BITS).contains(slope))
}

/// The counter and the kernel's clock, read as close together as three attempts bring them.
fn look() -> (u64, i64) {
    let attempt = || {
        let before = counter::read();
        let ns = kernel_ns();
        let after = counter::read();
        let span = after.saturating_sub(before);
        (span, before + span / 2, ns)
    };
    let first = attempt();
    let (_, ticks, ns) = [attempt(), attempt()].into_iter().fold(first, |best, other| best.min(other));
    (ticks, ns)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod counter {
    use std::arch::x86_64::_rdtsc;
    use std::sync::OnceLock;

    /// Whether the counter runs at one rate on all processors. The kernel has found out, or else it would not keep its own
    /// time by it.
    pub(super) fn is_usable() -> bool {
        static IS_USABLE: OnceLock<bool> = OnceLock::new();
        *IS_USABLE.get_or_init(|| {
            let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
            std::fs::read_to_string(source).is_ok_and(|source| source.trim() == "tsc")
        })
    }

    #[inline]
    pub(super) fn read() -> u64 {
        // SAFETY: every x86-64 processor has the instruction, and a kernel that uses it lets programs use it.
        unsafe { _rdtsc() }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
mod counter {
    /// There is no counter that is known to be right.
    pub(super) fn is_usable() -> bool {
        false
    }

    /// Never called: see above.
    pub(super) fn read() -> u64 {
        0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_time_is_the_kernels_and_never_goes_back() {
        let clock = Clock::new();
        assert_eq!(clock.now_ns(), None, "there is no line yet");
        let started = Instant::now();
        let mut last = 0;
        let mut told = 0;
        while started.elapsed() < Duration::from_millis(500) {
            clock.adjust();
            let before = kernel_ns();
            let Some(now) = clock.now_ns() else { continue };
            let after = kernel_ns();
            assert!(now >= last, "{now} after {last}");
            let slack = 20_000;
            assert!(now > before - slack && now < after + slack);
            last = now;
            told += 1;
        }
        assert!(told > 0 || !counter::is_usable());
    }

    #[test]
    fn a_counter_that_began_anew_is_not_told_time_by() {
        let line = Line { start: 1 << 40, start_ns: 7, slope: 1 << 31 };
        assert_eq!(line.at((1 << 40) + 10), Some(12));
        assert_eq!(line.at((1 << 40) - 10), Some(7), "of a line that another processor has begun");
        assert_eq!(line.at(1 << 39), None);
        assert_eq!(line.at(1 << 41), None, "too old a line");
        let clock = Clock::new();
        *clock.last.lock() = Some((u64::MAX, 0));
        clock.set(line);
        clock.adjust();
        assert!(!counter::is_usable() || clock.now_ns().is_none());
        assert!(!counter::is_usable() || clock.slope.load(Ordering::Relaxed) == 0);
    }
}
