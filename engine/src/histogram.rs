//! Histograms that cost one addition per value, for figures that are kept all the time.

use std::sync::atomic::{AtomicU64, Ordering};

/// Each power of two is divided into so many buckets, so a value is known to within 1/16.
const PARTS: usize = 16;
const PART_BITS: u32 = PARTS.trailing_zeros();
/// Values below `PARTS` have a bucket each; then come the powers of two up to 2^63.
const BUCKETS: usize = PARTS + (64 - PART_BITS as usize) * PARTS;

/// Takes values in from any number of threads.
#[derive(Debug)]
pub(crate) struct Recording {
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Recording {
    pub(crate) fn new() -> Self {
        Self {
            counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(crate) fn record(&self, value: u64) {
        // `bucket` gives less than BUCKETS for every value.
        self.counts[bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        self.max.fetch_max(value, Ordering::Relaxed);
    }

    pub(crate) fn snapshot(&self) -> Histogram {
        let load = |atomic: &AtomicU64| atomic.load(Ordering::Relaxed);
        Histogram {
            counts: self.counts.iter().map(load).collect(),
            sum: load(&self.sum),
            max: load(&self.max),
        }
    }
}

const fn bucket(value: u64) -> usize {
    if value < PARTS as u64 {
        return value as usize;
    }
    let octave = value.ilog2() - PART_BITS;
    // The highest bits of the value behind its first one.
    let part = (value >> octave) as usize - PARTS;
    PARTS + octave as usize * PARTS + part
}

/// The highest value of a bucket.
const fn highest(bucket: usize) -> u64 {
    if bucket < PARTS {
        return bucket as u64;
    }
    let octave = (bucket - PARTS) / PARTS;
    let part = (bucket - PARTS) % PARTS;
    let lowest = ((PARTS + part) as u64) << octave;
    lowest + ((1 << octave) - 1)
}

/// How values were distributed since the journal was opened; each is known to within 1/16.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    sum: u64,
    max: u64,
}

impl Histogram {
    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The mean, 0 where there was no value.
    pub fn mean(&self) -> u64 {
        self.sum.checked_div(self.count()).unwrap_or(0)
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that a share of the values, 0 to 1, does not exceed; 0 where there was none.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = (share.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        at.map_or(0, |bucket| highest(bucket).min(self.max))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn every_value_falls_into_a_bucket_that_is_right_to_a_sixteenth() {
        for shift in 0..64 {
            for value in
                [1u64 << shift, (1 << shift) + 1, (1 << shift) + (1 << shift) / 2, u64::MAX >> (63 - shift)]
            {
                let highest = highest(bucket(value));
                assert!(highest >= value && highest - value <= value / 16, "{value}: {highest}");
                assert!(bucket(value) < BUCKETS);
            }
        }
        assert_eq!(highest(BUCKETS - 1), u64::MAX);
        assert!((1..BUCKETS).all(|at| bucket(highest(at - 1) + 1) == at));
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let recording = Recording::new();
        assert_eq!(recording.snapshot().quantile(0.5), 0);
        (1..=1000).for_each(|value| recording.record(value));
        let histogram = recording.snapshot();
        assert_eq!((histogram.count(), histogram.mean(), histogram.max()), (1000, 500, 1000));
        for (share, exact) in [(0.0, 1), (0.5, 500), (0.99, 990), (1.0, 1000)] {
            let found = histogram.quantile(share);
            assert!(found >= exact && found <= exact + exact / 16, "{share}: {found}");
        }
    }
}
