//! The threads that keep a journal: one that removes the files of retired segments, takes up those that were compressed, and
//! looks whether another process asks for anything; one that compresses. Nothing waits for them, and they give way to everybody:
//! so they take no lock that others need for long, and have the syncing thread rotate.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::committer::Committer;
use crate::compaction::{self, Compaction};
use crate::error::Error;
use crate::request::{self, Request};
use crate::retention;
use crate::segment::Segment;

/// The thread, as the journal has it.
#[derive(Debug)]
pub(crate) struct Keeper {
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Begins to keep a journal, and looks around as often as that. Ends when the committer gives it nothing to do any more.
    pub(crate) fn start(committer: Arc<Committer>, interval: Option<Duration>) -> Result<Self, Error> {
        let (work, orders) = mpsc::channel();
        committer.give_removals_to(Some(work));
        let dir = committer.dir().to_owned();
        let run = move || {
            committer.medium.give_way();
            keep(&committer, &orders, interval);
        };
        let thread = thread::Builder::new().name("semj-keeping".to_owned()).spawn(run);
        Ok(Self { thread: thread.map_err(Error::io("start a thread for", &dir))? })
    }

    /// Waits for its end. What is to be removed from here on is removed by whoever finds it.
    pub(crate) fn end(self, committer: &Committer) {
        committer.give_removals_to(None);
        drop(self.thread.join());
    }
}

/// It does not look around more often, whatever the interval.
const INTERVAL_MIN: Duration = Duration::from_millis(1);

fn keep(committer: &Committer, orders: &mpsc::Receiver<Vec<Arc<Segment>>>, interval: Option<Duration>) {
    let next = || interval.and_then(|interval| Instant::now().checked_add(interval.max(INTERVAL_MIN)));
    let mut looks_at = next();
    loop {
        let order = match looks_at {
            Some(at) => orders.recv_timeout(at.saturating_duration_since(Instant::now())),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(segments) => {
                if let Err(error) = remove(committer, &segments) {
                    committer.fail(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Where there is always something to remove too.
        if looks_at.is_some_and(|at| at <= Instant::now()) {
            look_around(committer);
            looks_at = next();
        }
    }
}

fn look_around(committer: &Committer) {
    let asked = request::take(&*committer.medium, committer.dir());
    if let Some(asked) = asked.filter(|asked| asked.request == Request::Adopt) {
        let adopted = compaction::adopt(committer);
        // The files of before are right too.
        if let Err(error) = &adopted {
            tracing::warn!(%error, "a compressed segment was not taken up");
        }
        asked.answer(&*committer.medium, committer.dir(), &adopted);
    }
    committer.have_looked_around();
}

/// Removes the files of segments that the journal does not begin with any more.
pub(crate) fn remove(committer: &Committer, segments: &[Arc<Segment>]) -> Result<(), Error> {
    let names = segments.iter().filter_map(|segment| segment.path().file_name()?.to_str());
    retention::remove_files(&*committer.medium, committer.dir(), names)
}

/// The thread that compacts segments when they are due.
#[derive(Debug)]
pub(crate) struct Compactor {
    thread: JoinHandle<()>,
    /// Dropped when it is to end.
    stays: mpsc::SyncSender<()>,
    is_ending: Arc<AtomicBool>,
    compaction: Compaction,
}

/// How often it looks whether anything is due.
const COMPACTION_INTERVAL: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

impl Compactor {
    pub(crate) fn start(committer: Arc<Committer>, compaction: Compaction) -> Result<Self, Error> {
        let (stays, ends) = mpsc::sync_channel(0);
        let is_ending = Arc::new(AtomicBool::new(false));
        let dir = committer.dir().to_owned();
        let told = Arc::clone(&is_ending);
        let run = move || {
            committer.medium.give_way();
            let mut progress = |_| match told.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
            let age_interval = compaction.older_than.map(|age| (age / 16).clamp(COMPACTION_INTERVAL, MINUTE));
            let mut interval = COMPACTION_INTERVAL;
            let mut seen = None;
            let mut passed_over = BTreeSet::new();
            while ends.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                let newest = compaction::newest_ended(&committer);
                interval = age_interval.unwrap_or(COMPACTION_INTERVAL);
                if newest == seen && age_interval.is_none() {
                    continue;
                }
                match compaction::compact_own(&committer, &compaction, &passed_over, &mut progress) {
                    Ok(report) => {
                        seen = newest;
                        // Trying again would change nothing.
                        passed_over.extend(report.skipped.iter().map(|skipped| skipped.number));
                    }
                    // Another process does it.
                    Err(Error::Compacting { .. }) => {}
                    Err(error) => {
                        tracing::error!(%error, "segments are not compacted; tried again in a minute");
                        interval = MINUTE;
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("semj-compacting".to_owned()).spawn(run);
        Ok(Self {
            thread: thread.map_err(Error::io("start a thread for", &dir))?,
            stays,
            is_ending,
            compaction,
        })
    }

    /// Ends when the block is done that is worked on, and gives what it was told to do. What is begun begins anew with its
    /// segment.
    pub(crate) fn end(self) -> Compaction {
        self.is_ending.store(true, Ordering::Relaxed);
        drop(self.stays);
        drop(self.thread.join());
        self.compaction
    }
}
