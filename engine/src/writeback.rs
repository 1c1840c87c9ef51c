//! Writeback: the disk begins with what was appended before anybody syncs it, so that a flush finds little left to do.
//!
//! A thread of its own tells it to. The call can wait for a place in the disk's queue, which the appending thread must not;
//! and the syncing thread mostly waits for a flush. Were the next bytes begun when that is over, and the thread has got a
//! processor again, the disk would have nothing to do until then.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::medium::{File, Medium};

/// So many bytes are begun at a time.
pub(crate) const STEP: u64 = 4 << 20;
/// Steps that may wait for the thread. What comes beyond them waits with the appender, and makes the next step larger.
const STEPS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Writeback {
    steps: Mutex<Steps>,
    wakes: Condvar,
    is_held: AtomicBool,
}

#[derive(Debug)]
struct Steps {
    waiting: VecDeque<(Arc<dyn File>, Range<u64>)>,
    closing: bool,
}

impl Writeback {
    pub(crate) fn new() -> Self {
        let steps = Steps { waiting: VecDeque::with_capacity(STEPS_MAX), closing: false };
        Self { steps: Mutex::new(steps), wakes: Condvar::new(), is_held: AtomicBool::new(false) }
    }

    /// Has the thread begin with a range of a file. False if it is to be asked later.
    pub(crate) fn offer(&self, file: &Arc<dyn File>, range: Range<u64>) -> bool {
        if self.is_held.load(Ordering::Relaxed) {
            return false;
        }
        let mut steps = self.steps.lock();
        if steps.closing || steps.waiting.len() == STEPS_MAX {
            return false;
        }
        steps.waiting.push_back((Arc::clone(file), range));
        self.wakes.notify_one();
        true
    }

    /// Nothing more is taken while somebody waits for a flush, which would wait for what is begun meanwhile too.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.is_held.store(true, Ordering::Relaxed);
        Held { writeback: self }
    }

    /// For the thread.
    pub(crate) fn run(&self, medium: &dyn Medium) {
        medium.take_short_turns();
        let mut steps = self.steps.lock();
        while !steps.closing {
            match steps.waiting.pop_front() {
                Some((file, range)) => {
                    drop(steps);
                    file.start_write(range);
                    drop(file);
                    steps = self.steps.lock();
                }
                None => self.wakes.wait(&mut steps),
            }
        }
        steps.waiting.clear();
    }

    /// Lets the thread end. What it has not begun is left to the next flush.
    pub(crate) fn close(&self) {
        self.steps.lock().closing = true;
        self.wakes.notify_all();
    }
}

/// Until it is dropped, see [`Writeback::hold`].
#[derive(Debug)]
pub(crate) struct Held<'a> {
    writeback: &'a Writeback,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.writeback.is_held.store(false, Ordering::Relaxed);
    }
}
