//! Writeback: the disk begins with what was appended before anybody syncs it, so that a flush finds little left to do. And
//! what else waits for the disk but not for a flush: files are made for segments to come, and the space behind those that
//! were sealed is given back.
//!
//! A thread of its own does it. The appending thread must not wait for the disk, and the syncing thread mostly waits for a
//! flush. Were the next bytes begun when that is over, and the thread has got a processor again, the disk would have
//! nothing to do until then.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::error::Error;
use crate::medium::File;
use crate::residency::Memory;
use crate::writer::Sealing;

/// So many bytes are begun at a time.
pub(crate) const STEP: u64 = 4 << 20;
/// Steps that may wait for the thread. What comes beyond them waits with the appender, and makes the next step larger.
const STEPS_MAX: usize = 4;
/// Sealed segments whose space the thread has still to give back, at most. Beyond them whoever seals one does it.
const RELEASES_MAX: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Writeback {
    waiting: Mutex<Waiting>,
    wakes: Condvar,
    is_held: AtomicBool,
}

#[derive(Debug)]
struct Waiting {
    steps: VecDeque<Step>,
    releases: VecDeque<(Sealing, Memory)>,
    wants_spare: bool,
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
    Release(Sealing, Memory),
}

impl Writeback {
    pub(crate) fn new() -> Self {
        let steps = VecDeque::with_capacity(STEPS_MAX);
        let waiting = Waiting { steps, releases: VecDeque::new(), wants_spare: false, closing: false };
        Self { waiting: Mutex::new(waiting), wakes: Condvar::new(), is_held: AtomicBool::new(false) }
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
        self.waiting.lock().wants_spare = true;
        self.wakes.notify_one();
    }

    /// Has the thread give back the space behind a sealed segment. False if it has ended or enough to do.
    pub(crate) fn offer_release(&self, sealing: &Sealing, memory: Memory) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.closing || waiting.releases.len() == RELEASES_MAX {
            return false;
        }
        waiting.releases.push_back((sealing.clone(), memory));
        self.wakes.notify_one();
        true
    }

    /// Nothing more is taken while somebody waits for a flush, which would wait for what is begun meanwhile too.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.is_held.store(true, Ordering::Relaxed);
        Held { writeback: self }
    }

    /// For the thread; `make_spare` makes a file, if one is still wanted. Ends at an error of `release`, which its caller
    /// has told of.
    pub(crate) fn run(
        &self,
        make_spare: impl Fn(),
        mut release: impl FnMut(&Sealing, Memory) -> Result<(), Error>,
    ) {
        while let Some(task) = self.next() {
            match task {
                Task::Begin(Step { file, range }) => file.start_write(range),
                Task::MakeSpare => make_spare(),
                Task::Release(sealing, memory) => {
                    if release(&sealing, memory).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting.lock();
        loop {
            // Space that is not given back now stays reserved.
            if waiting.closing {
                waiting.steps.clear();
                return waiting.releases.pop_front().map(|(sealing, memory)| Task::Release(sealing, memory));
            }
            if std::mem::take(&mut waiting.wants_spare) {
                return Some(Task::MakeSpare);
            }
            if let Some(step) = waiting.steps.pop_front() {
                return Some(Task::Begin(step));
            }
            if let Some((sealing, memory)) = waiting.releases.pop_front() {
                return Some(Task::Release(sealing, memory));
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
