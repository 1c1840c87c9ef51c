//! A journal that is open for writing.

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::Mutex;
use semj_format::{Draft, EventType};
use semj_recovery::Report;

use crate::committer::Committer;
use crate::directory;
use crate::error::Error;
use crate::event::Event;
use crate::front::{Front, Request, Setup};
use crate::medium::{Disk, LockOutcome, Medium};
use crate::open::{self, Opened};
use crate::options::{CommitOn, Options};
use crate::reader::Reader;
use crate::segment::Segments;
use crate::stats::Stats;
use crate::writer;

/// A journal that is open for writing. There is one such at a time for a directory; it may be shared by any
/// number of threads.
///
/// Events become part of the journal in the order of their ids. An event is *committed* when readers see it,
/// some milliseconds after it was emitted at most, and *durable* when a sync has reached the disk: at the
/// latest when a [`Journal::sync`] that was called after its emission has returned, or the journal was closed.
///
/// Dropping a journal closes it, with errors going to the log; [`Journal::close`] returns them.
#[derive(Debug)]
pub struct Journal {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    front: Arc<Front>,
    segments: Arc<Segments>,
    report: Arc<Report>,
    batch_size_max: usize,
    is_driven_by_caller: bool,
    committer: Mutex<Driver>,
    /// Given back last.
    _lock: Box<dyn Debug + Send + Sync>,
}

/// Who runs the committer.
#[derive(Debug)]
enum Driver {
    Thread(JoinHandle<()>),
    Caller(Box<Committer>),
    /// The journal is closed.
    Nobody,
}

impl Journal {
    /// Opens the journal in `dir`, or begins one there. Recovers it first if it was not closed; what was found
    /// and done is in [`Journal::recovery`]. The lock, the new epoch and its segment are durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if somebody else has it open, [`Error::Damaged`] with the whole report if it is
    /// damaged in a way that `options.mode` does not accept (nothing was changed then), an option out of its
    /// range, an I/O error; a full disk is one at once and not later.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        Self::open_on(Arc::new(Disk), dir.as_ref(), options)
    }

    /// [`Journal::open`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_on(medium: Arc<dyn Medium>, dir: &Path, options: Options) -> Result<Self, Error> {
        options.check()?;
        let _span = tracing::info_span!("open", dir = %dir.display()).entered();
        medium.create_dir(dir).map_err(Error::io("create", dir))?;
        let lock_path = dir.join(directory::LOCK);
        let lock = match medium.lock(&lock_path).map_err(Error::io("lock", &lock_path))? {
            LockOutcome::Acquired(lock) => lock,
            LockOutcome::Held(pid) => {
                return Err(Error::Locked { dir: dir.to_owned(), pid });
            }
        };
        let opened = open::open_for_writing(&*medium, dir, options.mode, options.segment_size)?;
        let Opened { report, segments, writer, watermark, chain, next_event_id } = opened;
        tracing::info!(
            segments = segments.len(),
            events = report.events(),
            epoch = chain.epoch,
            next_event_id,
            was_closed = report.is_closed(),
            "journal open"
        );
        let last_event_id = next_event_id - 1;
        let stats = Stats {
            epoch: chain.epoch,
            segment_number: writer.number(),
            segments: segments.len() as u64,
            events_emitted: 0,
            last_emitted_id: last_event_id,
            last_committed_id: last_event_id,
            last_durable_id: last_event_id,
            last_marked_id: last_event_id,
            commits: 1,
            bytes_written: 0,
            syncs: 0,
            waits: 0,
            digest: chain.digest,
        };
        let batch_size_max = writer::group_size_max(options.segment_size);
        let setup = Setup {
            places: options.buffer_events,
            commit_interval: options.commit_interval,
            claim_timeout: options.claim_timeout,
            group_size_max: batch_size_max,
        };
        let front = Arc::new(Front::new(next_event_id, &setup, stats));
        let segments = Arc::new(Segments::new(segments));
        let committer = Committer {
            medium: Arc::clone(&medium),
            dir: dir.to_owned(),
            segment_size: options.segment_size,
            sync_interval: options.sync_interval,
            front: Arc::clone(&front),
            segments: Arc::clone(&segments),
            writer,
            watermark,
            watermark_interval: options.watermark_interval,
            marked_at: Instant::now(),
            chain,
            last_committed_id: last_event_id,
        };
        let driver = match options.commit_on {
            CommitOn::OwnThread => Driver::Thread(
                thread::Builder::new()
                    .name("semj-committer".into())
                    .spawn(move || committer.run())
                    .map_err(Error::io("start the committer for", dir))?,
            ),
            CommitOn::CallersThread => Driver::Caller(Box::new(committer)),
        };
        Ok(Self {
            medium,
            dir: dir.to_owned(),
            front,
            segments,
            report: Arc::new(report),
            batch_size_max,
            is_driven_by_caller: options.commit_on == CommitOn::CallersThread,
            committer: Mutex::new(driver),
            _lock: lock,
        })
    }

    /// The journal's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Emits an event and gives its id. Ids are contiguous and in the order of the emissions.
    ///
    /// Returns as soon as the event is in memory; see [`Journal::sync`]. Waits only while the buffer is full.
    ///
    /// # Errors
    ///
    /// The event can't be recorded as it is (a field is too long, its type is the journal's own), or the
    /// journal has stopped writing.
    pub fn emit(&self, event: &Event<'_>) -> Result<u64, Error> {
        let (draft, size) = self.measure(event.to_draft(&*self.medium)?)?;
        self.push(draft, size)
    }

    /// Emits events as one: after a crash either all of them are there or none. Gives their ids.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`], and [`Error::BatchTooLarge`]; no event was emitted then.
    pub fn emit_batch(&self, events: &[Event<'_>]) -> Result<Range<u64>, Error> {
        let mut drafts = Vec::with_capacity(events.len());
        for event in events {
            drafts.push(self.measure(event.to_draft(&*self.medium)?)?);
        }
        let bytes = drafts.iter().map(|(_, size)| size).sum();
        if bytes > self.batch_size_max {
            return Err(Error::BatchTooLarge { bytes, limit: self.batch_size_max });
        }
        self.with_room(|make_room| self.front.push_batch(&mut drafts, make_room))
    }

    /// Takes in a record from elsewhere with every header field as it is, its id included, which must be
    /// greater than all before it. An id of 0 stands for the next one; then sequences and a root cause that
    /// are 0 get the id too. Gives the id.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`], and [`Error::IdOrder`].
    pub fn import(&self, draft: &Draft<'_>) -> Result<u64, Error> {
        let (draft, size) = self.measure(*draft)?;
        self.push(draft, size)
    }

    fn measure<'a>(&self, draft: Draft<'a>) -> Result<(Draft<'a>, usize), Error> {
        let event_type = EventType(draft.header.event_type);
        if event_type.is_journal() {
            return Err(Error::ReservedType { event_type });
        }
        let size = draft.encoded_size()?;
        Ok((draft, size))
    }

    #[inline]
    fn push(&self, draft: Draft<'_>, size: usize) -> Result<u64, Error> {
        self.with_room(|make_room| self.front.push(draft, size, make_room))
    }

    /// Calls something with what makes room for it, if that is the caller's part.
    #[inline]
    fn with_room<T>(&self, push: impl FnOnce(Option<&dyn Fn()>) -> T) -> T {
        if self.is_driven_by_caller { push(Some(&|| self.drive())) } else { push(None) }
    }

    /// Runs the committer if that is the caller's part.
    fn drive(&self) {
        if self.is_driven_by_caller
            && let Driver::Caller(committer) = &mut *self.committer.lock()
        {
            committer.run_once();
        }
    }

    fn ask(&self, request: Request) -> Result<(), Error> {
        let asked = self.front.ask(request)?;
        self.drive();
        self.front.wait_for(asked)
    }

    /// Returns when everything that was emitted before the call is durable. Callers that wait at the same time
    /// share one sync of the disk.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing. Then nothing is known of events that no earlier sync covered.
    pub fn sync(&self) -> Result<(), Error> {
        self.ask(Request::Sync)
    }

    /// Seals the active segment, with everything emitted before the call in it, and begins the next.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing.
    pub fn rotate(&self) -> Result<(), Error> {
        self.ask(Request::Rotate)
    }

    /// A view of what is committed now. Events that were emitted and synced are in it.
    pub fn reader(&self) -> Reader {
        Reader::new(self.segments.snapshot(), Arc::clone(&self.report))
    }

    /// Figures since the journal was opened.
    pub fn stats(&self) -> Stats {
        self.front.stats()
    }

    /// What the open found and did.
    pub fn recovery(&self) -> &Report {
        &self.report
    }

    /// Commits what was emitted, seals the segment and ends. Everything is durable on return.
    ///
    /// # Errors
    ///
    /// The failure that ended writing, now or earlier.
    pub fn close(self) -> Result<Stats, Error> {
        self.shut()?;
        Ok(self.front.stats())
    }

    fn shut(&self) -> Result<(), Error> {
        let driver = std::mem::replace(&mut *self.committer.lock(), Driver::Nobody);
        self.front.close();
        match driver {
            // A panic has been told to the front end already.
            Driver::Thread(thread) => drop::<Result<(), Box<dyn Any + Send>>>(thread.join()),
            Driver::Caller(mut committer) => committer.run_once(),
            Driver::Nobody => return Ok(()),
        }
        match self.front.failure() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::error!(%error, dir = %self.dir.display(), "the journal was not closed in order");
        }
    }
}
