//! How much memory a test may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of addresses, as `ulimit -v 1048576` has it.
const LITTLE: u64 = 1 << 30;

/// From here on this process gets no more than a gigabyte: who takes a number from a damaged file for a size ends in an abort.
///
/// # Panics
///
/// The limit can't be set.
pub fn have_little() {
    let Rlimit { maximum, .. } = getrlimit(Resource::As);
    let limit = Rlimit { current: Some(maximum.map_or(LITTLE, |maximum| maximum.min(LITTLE))), maximum };
    assert!(setrlimit(Resource::As, limit).is_ok(), "the limit of memory can't be set");
}
