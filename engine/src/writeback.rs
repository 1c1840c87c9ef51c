//! Writeback: the disk begins with what was appended before anybody syncs it, so that a flush finds little left to do; and
//! files for segments to come are made.
//!
//! A thread of its own does both. Its calls wait for the disk, which the appending thread must not; and the syncing thread
//! mostly waits for a flush. Were the next bytes begun when that is over, and the thread has got a processor again, the disk
//! would have nothing to do until then.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::medium::File;

/// So many bytes are begun at a time.
pub(crate) const STEP: u64 = 4 << 20;
/// Steps that may wait for the thread. What comes beyond them waits with the appender, and makes the next step larger.
const STEPS_MAX: usize = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Writeback {
    waiting: Mutex<Waiting>,
    wakes: Condvar,
    is_held: AtomicBool,
    wants_spare: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    steps: VecDeque<Step>,
    closing: bool,
}

#[derive(Debug)]
struct Step {
    file: Arc<dyn File>,
    range: Range<u64>,
}

/// What the thread has to do.
enum Task {
    Begin(Step),
    MakeSpare,
}

impl Writeback {
    pub(crate) fn new() -> Self {
        let waiting = Waiting { steps: VecDeque::with_capacity(STEPS_MAX), closing: false };
        Self {
            waiting: Mutex::new(waiting),
            wakes: Condvar::new(),
            is_held: AtomicBool::new(false),
            wants_spare: AtomicBool::new(false),
        }
    }

    /// Has the thread begin with a range of a file. False if it is to be asked later.
    pub(crate) fn offer(&self, file: &Arc<dyn File>, range: Range<u64>) -> bool {
        if self.is_held.load(Ordering::Relaxed) {
            return false;
        }
        let mut waiting = self.waiting.lock();
        if waiting.closing || waiting.steps.len() == STEPS_MAX {
            return false;
        }
        waiting.steps.push_back(Step { file: Arc::clone(file), range });
        self.wakes.notify_one();
        true
    }

    /// Has the thread make a file for the next segment. Asking once more while it does is harmless.
    pub(crate) fn want_spare(&self) {
        if !self.wants_spare.swap(true, Ordering::Relaxed) {
            let _waiting = self.waiting.lock();
            self.wakes.notify_one();
        }
    }

    /// Nothing more is taken while somebody waits for a flush, which would wait for what is begun meanwhile too.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.is_held.store(true, Ordering::Relaxed);
        Held { writeback: self }
    }

    /// For the thread; `make_spare` makes a file, if one is still wanted.
    pub(crate) fn run(&self, make_spare: impl Fn()) {
        while let Some(task) = self.next() {
            match task {
                Task::Begin(Step { file, range }) => file.start_write(range),
                Task::MakeSpare => make_spare(),
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.closing {
                waiting.steps.clear();
                return None;
            }
            if self.wants_spare.swap(false, Ordering::Relaxed) {
                return Some(Task::MakeSpare);
            }
            if let Some(step) = waiting.steps.pop_front() {
                return Some(Task::Begin(step));
            }
            self.wakes.wait(&mut waiting);
        }
    }

    /// Lets the thread end. What it has not begun is left to the next flush.
    pub(crate) fn close(&self) {
        self.waiting.lock().closing = true;
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
