//! The keeper: a thread that removes the files of retired segments, ends segments that have become too old, and does what
//! other processes ask for. Nothing waits for it, and it gives way to everybody.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::committer::Committer;
use crate::error::Error;
use crate::request;
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

fn keep(committer: &Committer, orders: &mpsc::Receiver<Vec<Arc<Segment>>>, interval: Option<Duration>) {
    let mut interval = interval;
    loop {
        let order = match interval {
            Some(interval) => orders.recv_timeout(interval),
            None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match order {
            Ok(segments) => {
                if let Err(error) = remove(committer, &segments) {
                    committer.fail(error);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = look_around(committer) {
                    tracing::debug!(%error, "no requests are heeded any more");
                    interval = None;
                }
            }
        }
    }
}

fn look_around(committer: &Committer) -> Result<(), Error> {
    if let Some(asked) = request::take(&*committer.medium, committer.dir()) {
        tracing::info!(?asked, "another process asks for a new segment");
        committer.rotate(asked.retention.as_ref(), &[])?;
        request::answer(&*committer.medium, committer.dir());
    }
    committer.rotate_if_old()
}

/// Removes the files of segments that the journal does not begin with any more.
pub(crate) fn remove(committer: &Committer, segments: &[Arc<Segment>]) -> Result<(), Error> {
    let names = segments.iter().filter_map(|segment| segment.path().file_name()?.to_str());
    retention::remove_files(&*committer.medium, committer.dir(), names)
}
