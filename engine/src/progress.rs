//! How far long work has come.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far work on a journal's segments has come, for another thread to look at, in bytes of segments. Work that has to begin
/// anew, because a writer has changed the journal under it, begins at 0 again.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// Bytes that were worked on.
    pub fn done(&self) -> u64 {
        // What had to be read that nobody asked for is not in the total.
        self.done.load(Ordering::Relaxed).min(self.total())
    }

    /// Bytes that there are to work on, as far as that is known yet; 0 at first.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Work on so many bytes begins.
    pub(crate) fn begin(&self, total: u64) {
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// There is more to do.
    pub(crate) fn grow(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes more are done.
    pub(crate) fn advance(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}
