//! A journal that is open for writing.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use semj_format::{Compacted, Draft};
use semj_recovery::{Effort, Report, SegmentReport};

use crate::appender::{Appender, Keeping};
use crate::committer::{Committer, Timing};
use crate::compaction::{self, Compaction, CompactionProgress, CompactionReport};
use crate::consumer::Consumer;
use crate::directory;
use crate::error::Error;
use crate::event::{Event, check_type};
use crate::follow::{Follower, Start, View};
use crate::front::{Emitted, Front, Origin, Patience, Setup};
use crate::keeper::{Compactor, Keeper};
use crate::medium::{Disk, LockOutcome, Medium, Now, clock};
use crate::metrics::Metrics;
use crate::open::{self, Opened, Opening};
use crate::options::{Backpressure, CommitOn, Options, SyncPolicy, SyncStrategy};
use crate::progress::Progress;
use crate::reader::Reader;
use crate::replace;
use crate::retention::{self, Needs, Retention};
use crate::segment::Segments;
use crate::snapshot::{self, SnapshotOptions, SnapshotProgress, SnapshotReport};
use crate::stats::Stats;
use crate::thinning::{self, ThinReport, ThinRule};
use crate::ticket::Ticket;
use crate::writer;

/// One emission in so many is timed. It takes some 100 ns longer for that: seldom enough that p99.9 is not of those.
const SAMPLE: u64 = 4096;

/// A journal that is open for writing. There is one such at a time for a directory; it may be shared by any
/// number of threads.
///
/// Events become part of the journal in the order of their ids. An event is *committed* when readers see it,
/// some milliseconds after it was emitted at most, and *durable* when a sync has reached the disk: at the
/// latest when a [`Journal::sync`] that was called after its emission has returned, or the journal was closed.
///
/// Dropping a journal closes it, with errors going to the log; [`Journal::close`] returns them. In a process that was forked from
/// the one that opened it nothing is written, closed or unlocked: see [`Error::Forked`].
#[derive(Debug)]
pub struct Journal {
    medium: Arc<dyn Medium>,
    committer: Arc<Committer>,
    segments: Arc<Segments>,
    report: Arc<Report>,
    epoch: u64,
    batch_size_max: usize,
    backpressure: Backpressure,
    has_threads: bool,
    is_strict: bool,
    /// See [`Medium::has_process_clock`].
    has_process_clock: bool,
    /// The process that opened the journal: asking the kernel for each event would cost more than all of the rest.
    process_id: u32,
    needs: Option<Needs>,
    keeper: Mutex<Option<Keeper>>,
    compactor: Mutex<Option<Compactor>>,
    state: Mutex<State>,
    /// Given back last.
    _lock: Box<dyn Debug + Send + Sync>,
}

/// Whether the journal is open, and its threads.
#[derive(Debug)]
enum State {
    Open(Vec<JoinHandle<()>>),
    Closed,
}

impl Journal {
    /// Opens the journal in `dir`, or begins one there. Recovers it first if it was not closed; what was found
    /// and done is in [`Journal::recovery`]. The lock, the new epoch and its segment are durable on return.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if somebody else has it open, [`Error::Damaged`] with the whole report if it is
    /// damaged in a way that `options.mode` does not accept (nothing was changed then), [`Error::NoJournal`] if none may be begun,
    /// an option out of its range, an I/O error; a full disk is one at once and not later.
    pub fn open(dir: impl AsRef<Path>, options: Options) -> Result<Self, Error> {
        Self::open_watched(dir, options, &Progress::default())
    }

    /// [`Journal::open`], and how far the examination has come, which is long only where all of the journal is proven: in modes
    /// that accept damage, or with [`Proof::Everything`](crate::recovery::Proof::Everything).
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_watched(dir: impl AsRef<Path>, options: Options, progress: &Progress) -> Result<Self, Error> {
        Self::open_on_watched(Arc::new(Disk), dir.as_ref(), options, progress)
    }

    /// [`Journal::open`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open_on(medium: Arc<dyn Medium>, dir: &Path, options: Options) -> Result<Self, Error> {
        Self::open_on_watched(medium, dir, options, &Progress::default())
    }

    fn open_on_watched(
        medium: Arc<dyn Medium>,
        dir: &Path,
        options: Options,
        progress: &Progress,
    ) -> Result<Self, Error> {
        options.check()?;
        let _span = tracing::info_span!("open", dir = %dir.display()).entered();
        if !options.create_if_missing && !directory::has_journal(&*medium, dir)? {
            return Err(Error::NoJournal { dir: dir.to_owned() });
        }
        if dir.as_os_str().is_empty() {
            return Err(Error::io("open", dir)(std::io::ErrorKind::NotFound.into()));
        }
        medium.create_dir(dir).map_err(Error::io("create", dir))?;
        let lock_path = dir.join(directory::LOCK);
        let lock = match medium.lock(&lock_path).map_err(Error::io("lock", &lock_path))? {
            LockOutcome::Acquired(lock) => lock,
            LockOutcome::Held(pid) => {
                return Err(Error::Locked { dir: dir.to_owned(), pid });
            }
        };
        let threads = match options.commit_on {
            CommitOn::OwnThread => medium.threads(),
            CommitOn::CallersThread => NonZeroUsize::MIN,
        };
        let effort = Effort { proof: options.proof, threads };
        let opening = Opening {
            mode: options.mode,
            effort,
            segment_size: options.segment_size,
            retention: &options.retention,
            needs: options.needs.as_ref(),
            progress,
        };
        let opened = open::open_for_writing(&*medium, dir, opening)?;
        let Opened { report, segments, writer, watermark, chain, next_event_id, retired, unsaid } = opened;
        tracing::info!(
            segments = segments.len(),
            events = report.events(),
            epoch = chain.epoch,
            next_event_id,
            was_closed = report.is_closed(),
            "journal open"
        );
        let epoch = chain.epoch;
        let has_threads = options.commit_on == CommitOn::OwnThread;
        let batch_size_max = writer::group_size_max(options.segment_size);
        let front = Front::new(
            next_event_id,
            Setup {
                places: options.buffer_events,
                commit_interval: options.commit_interval,
                claim_timeout: options.claim_timeout,
                group_size_max: batch_size_max,
                heeds_priority: has_threads
                    && options.sync_strategy == SyncStrategy::Adaptive
                    && options.sync_policy.syncs_events(),
            },
        )
        .map_err(Error::io("get memory for", dir))?;
        let timing = Timing {
            has_threads,
            segment_size: options.segment_size,
            policy: options.sync_policy,
            strategy: options.sync_strategy,
            sync_interval: options.sync_interval,
            batch_bytes: options.batch_bytes,
            watermark_interval: options.watermark_interval,
        };
        let segments = Arc::new(Segments::new(segments));
        let appender = Appender::new(
            Arc::clone(&medium),
            dir.to_owned(),
            options.segment_size,
            Arc::clone(&segments),
            writer,
            chain,
            next_event_id - 1,
        )
        .with_group_order(options.group_order)
        .with_keeping(Keeping {
            rotation: options.rotation,
            retention: options.retention,
            needs: options.needs.clone(),
            retired,
        });
        let committer =
            Arc::new(Committer::new(Arc::clone(&medium), dir.to_owned(), front, timing, appender, watermark));
        let journal = Self {
            has_process_clock: medium.has_process_clock(),
            medium,
            committer,
            segments,
            report: Arc::new(report),
            epoch,
            batch_size_max,
            backpressure: options.backpressure,
            has_threads,
            is_strict: options.sync_policy == SyncPolicy::Strict,
            process_id: std::process::id(),
            needs: options.needs,
            keeper: Mutex::new(None),
            compactor: Mutex::new(None),
            state: Mutex::new(State::Open(Vec::new())),
            _lock: lock,
        };
        for notes in unsaid.chunks(open::THINNED_MAX) {
            journal.committer.rotate(None, notes)?;
        }
        if has_threads {
            // If one can't be started, dropping the journal ends those before it.
            journal.start("semj-appending", Committer::run_appending)?;
            journal.start("semj-writeback", Committer::run_writeback)?;
            journal.start("semj-syncing", Committer::run_syncing)?;
            journal.segments.start_indexing(Arc::clone(&journal.medium), dir.to_owned())?;
            let keeper = Keeper::start(Arc::clone(&journal.committer), options.request_interval)?;
            *journal.keeper.lock() = Some(keeper);
            if let Some(compaction) = options.compaction {
                *journal.compactor.lock() =
                    Some(Compactor::start(Arc::clone(&journal.committer), compaction)?);
            }
        }
        Ok(journal)
    }

    fn start(&self, name: &str, run: fn(&Committer)) -> Result<(), Error> {
        let committer = Arc::clone(&self.committer);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || run(&committer));
        let thread = thread.map_err(Error::io("start a thread for", self.dir()))?;
        if let State::Open(threads) = &mut *self.state.lock() {
            threads.push(thread);
        }
        Ok(())
    }

    /// The journal's directory.
    pub fn dir(&self) -> &Path {
        self.committer.dir()
    }

    /// Emits an event and gives its id. Ids are contiguous and in the order of the emissions.
    ///
    /// Returns as soon as the event is in memory; see [`Journal::sync`]. While the buffer is full it does what
    /// [`Options::backpressure`] says. With [`SyncPolicy::Strict`] it is [`Journal::emit_durable`].
    ///
    /// This is compiled into its caller, 2 to 8 KB of code: of an [`Event`] that is made right there nothing is computed that
    /// is known already, and its fields go to their places without having been in memory. Where that is too much code, call it
    /// from a function of your own that is not inlined: 20 to 50 ns more for each event.
    ///
    /// # Errors
    ///
    /// The event can't be recorded as it is (a field is too long, its type is the journal's own), or the
    /// journal has stopped writing; [`Error::Full`] or [`Error::Dropped`] as `backpressure` has it.
    #[inline(always)]
    pub fn emit(&self, event: &Event<'_>) -> Result<u64, Error> {
        self.emit_with(event, self.backpressure)
    }

    /// [`Journal::emit`] with another [`Backpressure`] than the journal's.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`].
    #[inline(always)]
    pub fn emit_with(&self, event: &Event<'_>, backpressure: Backpressure) -> Result<u64, Error> {
        let id = self.take_in(event, backpressure)?;
        if self.is_strict {
            self.wait_durable(id)?;
        }
        Ok(id)
    }

    /// Emits an event and returns its id when it is durable. All who wait at the same time share one sync of the disk.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`]; if the journal stops writing while this waits, nothing is known of the event.
    pub fn emit_durable(&self, event: &Event<'_>) -> Result<u64, Error> {
        let id = self.take_in(event, self.backpressure)?;
        self.wait_durable(id)?;
        Ok(id)
    }

    /// Emits an event and gives a [`Ticket`] that says when it is durable.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`].
    pub fn emit_ticket(&self, event: &Event<'_>) -> Result<Ticket, Error> {
        let id = self.take_in(event, self.backpressure)?;
        Ok(Ticket::new(Arc::clone(&self.committer), id))
    }

    /// What an event's time is taken from: in place where that is the process's own clock, without the medium's table of functions.
    #[inline(always)]
    fn now(&self) -> Now {
        if self.has_process_clock { clock::now() } else { self.medium.now() }
    }

    #[inline(always)]
    fn take_in(&self, event: &Event<'_>, backpressure: Backpressure) -> Result<u64, Error> {
        self.committer.front.prepare();
        let now = self.now();
        let draft = event.draft();
        let measure = event.measure()?;
        let origin = event.origin(now, self.process_id);
        let id = self.push(&Emitted { draft, origin, measure }, backpressure)?;
        if id.is_multiple_of(SAMPLE) {
            self.record_emission(now.monotonic_ns);
        }
        Ok(id)
    }

    #[cold]
    fn record_emission(&self, since_ns: i64) {
        let taken = self.medium.now().monotonic_ns.saturating_sub(since_ns);
        self.committer.recorder.emission_ns.record(u64::try_from(taken).unwrap_or(0));
    }

    fn wait_durable(&self, id: u64) -> Result<(), Error> {
        if self.committer.group_commit.durable_id() >= id { Ok(()) } else { self.committer.sync() }
    }

    /// Emits events as one: after a crash either all of them are there or none. Gives their ids.
    ///
    /// More than 32 events, or events that the pool has no slots for, wait for the committer in memory of their own: 4 MiB of
    /// all such batches together, or one that is larger. Beyond that they do what [`Options::backpressure`] says.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`], [`Error::BatchTooLarge`], and [`Error::LargeBatchesFull`]; no event was emitted then.
    pub fn emit_batch(&self, events: &[Event<'_>]) -> Result<Range<u64>, Error> {
        let mut emitted = Vec::with_capacity(events.len());
        let mut bytes = 0;
        for event in events {
            let draft = event.draft();
            let measure = event.measure()?;
            bytes += measure.size();
            emitted.push(Emitted { draft, origin: event.origin(self.now(), self.process_id), measure });
        }
        if bytes > self.batch_size_max {
            return Err(Error::BatchTooLarge { bytes, limit: self.batch_size_max });
        }
        let ids = self.with_patience(self.backpressure, |patience| {
            self.committer.front.push_batch(&emitted, patience)
        })?;
        if self.is_strict && !ids.is_empty() {
            self.wait_durable(ids.end - 1)?;
        }
        Ok(ids)
    }

    /// Takes in a record from elsewhere with every header field as it is, its id included, which must be
    /// greater than all before it. An id of 0 stands for the next one; then sequences and a root cause that
    /// are 0 get the id too. Gives the id.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`], and [`Error::IdOrder`].
    pub fn import(&self, draft: &Draft<'_>) -> Result<u64, Error> {
        check_type(draft)?;
        let emitted = Emitted { draft, origin: Origin::of(&draft.header), measure: draft.measure()? };
        let id = self.push(&emitted, Backpressure::Wait)?;
        if self.is_strict {
            self.wait_durable(id)?;
        }
        Ok(id)
    }

    #[inline(always)]
    fn push(&self, emitted: &Emitted<'_>, backpressure: Backpressure) -> Result<u64, Error> {
        self.with_patience(backpressure, |patience| self.committer.front.push(emitted, patience))
    }

    /// Calls something with what to do while there is no room.
    #[inline(always)]
    fn with_patience<T>(&self, backpressure: Backpressure, push: impl FnOnce(Patience<'_>) -> T) -> T {
        // Where it fails, whoever waits finds the failure.
        let make_room = || drop(self.committer.make_room());
        let make_room: Option<&dyn Fn()> = if self.has_threads { None } else { Some(&make_room) };
        push(Patience { backpressure, make_room })
    }

    /// Returns when everything that was emitted before the call is durable. Callers that wait at the same time
    /// share one sync of the disk.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing. Then nothing is known of events that no earlier sync covered.
    pub fn sync(&self) -> Result<(), Error> {
        // Before any lock: in a process that was forked nobody gives back one that was held.
        self.committer.front.check_process()?;
        self.committer.front.settle()?;
        self.wait_durable(self.committer.front.last_id())
    }

    /// Seals the active segment, with everything emitted before the call in it, and begins the next. What passes the limits of
    /// [`Options::retention`] is retired.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing.
    pub fn rotate(&self) -> Result<(), Error> {
        self.committer.rotate(None, &[])
    }

    /// Gives the journal's events as they come: [`Follower::open`].
    ///
    /// # Errors
    ///
    /// As [`Follower::open`].
    pub fn follow(&self, start: Start, view: View) -> Result<Follower, Error> {
        Follower::open_on(Arc::clone(&self.medium), &self.committer.dir, start, view)
    }

    /// Goes on where the consumer of this name has stopped, with what is durable: [`Consumer::open`].
    ///
    /// # Errors
    ///
    /// As [`Consumer::open`].
    pub fn consumer(&self, name: &str) -> Result<Consumer, Error> {
        let (medium, dir) = (Arc::clone(&self.medium), &self.committer.dir);
        Consumer::open_from(medium, dir, name, View::Durable, Start::At, || self.committer.settle())
    }

    /// Retires what passes these limits, with a [`Journal::rotate`]: the new segment says what was retired, and counts too.
    /// Where they are not passed it is a [`Journal::sync`].
    ///
    /// # Errors
    ///
    /// As [`Journal::rotate`]. An error that [`Options::needs`] gives, or that of a consumer's file: nothing is retired then, and
    /// the journal goes on.
    pub fn retain(&self, retention: &Retention) -> Result<(), Error> {
        self.committer.retain(retention)
    }

    /// Takes events out of segments that have ended, by rules: an event goes that any of them takes and nobody needs
    /// ([`Options::needs`]). The journal records first what goes; the chain proves what is left. A reader that has a
    /// segment open keeps what it has. What the segment that is written holds stays until it has ended.
    ///
    /// Of each segment in turn the whole new file is made in memory.
    ///
    /// # Errors
    ///
    /// The journal has stopped writing; a segment is damaged; [`Error::Compacting`]; an I/O error. What was done up to there
    /// is done.
    pub fn thin(&self, rules: &[ThinRule]) -> Result<ThinReport, Error> {
        self.thin_watched(rules, &Progress::default())
    }

    /// [`Journal::thin`], and how far it has come.
    ///
    /// # Errors
    ///
    /// As [`Journal::thin`].
    pub fn thin_watched(&self, rules: &[ThinRule], progress: &Progress) -> Result<ThinReport, Error> {
        self.sync()?;
        self.without_compactor(|| {
            let _one_at_a_time = replace::lock(&*self.medium, self.dir())?;
            let lowest_needed = retention::lowest_of_others(&*self.medium, self.dir(), self.needs.as_ref())?;
            let segments = self.segments.snapshot();
            thinning::thin(&self.committer, &segments, rules, lowest_needed, progress)
        })
    }

    /// Does something while no thread of the journal's own compacts.
    fn without_compactor<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        // One that was forked from the process that opened the journal has no such thread to wait for.
        self.committer.front.check_process()?;
        let mut compactor = self.compactor.lock();
        let compaction = compactor.take().map(Compactor::end);
        let done = work();
        if let Some(compaction) = compaction {
            *compactor = Some(Compactor::start(Arc::clone(&self.committer), compaction)?);
        }
        done
    }

    /// Compresses segments that have ended, on this thread. Readers that have one open keep what they have. See
    /// [`crate::compact`] and [`Options::compaction`].
    ///
    /// # Errors
    ///
    /// As [`crate::compact`]. If it is not known whether the directory was synced, the journal stops writing.
    pub fn compact(
        &self,
        compaction: &Compaction,
        progress: &mut dyn FnMut(CompactionProgress) -> ControlFlow<()>,
    ) -> Result<CompactionReport, Error> {
        self.without_compactor(|| {
            self.committer.front.check()?;
            compaction::compact_own(&self.committer, compaction, &BTreeSet::new(), progress)
        })
    }

    /// Takes a snapshot with everything that was emitted before the call. See [`crate::snapshot`].
    ///
    /// # Errors
    ///
    /// As [`Journal::sync`] and [`crate::snapshot`].
    pub fn snapshot(
        &self,
        target: impl AsRef<Path>,
        options: SnapshotOptions,
        progress: &mut dyn FnMut(SnapshotProgress),
    ) -> Result<SnapshotReport, Error> {
        self.sync()?;
        let sync = |_: &SegmentReport| self.sync();
        snapshot::snapshot_with(&*self.medium, self.dir(), target.as_ref(), options, &sync, progress)
    }

    /// What the journal begins behind: the record that says which segments were retired, if any were.
    pub fn retired(&self) -> Option<Compacted> {
        self.committer.recorder.sums().retired
    }

    /// A view of what is committed now. Events that were emitted and synced are in it.
    pub fn reader(&self) -> Reader {
        Reader::new(self.segments.snapshot(), Arc::clone(&self.report))
    }

    /// Figures since the journal was opened.
    pub fn stats(&self) -> Stats {
        let Committer { front, group_commit, recorder, .. } = &*self.committer;
        let last_durable_id = group_commit.durable_id();
        let sums = recorder.sums();
        let pending = front.pending();
        Stats {
            epoch: self.epoch,
            segment_number: sums.appended.segment_number,
            segments: sums.segments,
            segments_retired: sums.retired.map_or(0, |retired| retired.segment_count),
            events_retired: sums.retired.map_or(0, |retired| retired.event_count),
            events_emitted: sums.events + pending,
            last_emitted_id: front.last_id(),
            last_committed_id: sums.appended.last_event_id,
            last_durable_id,
            last_marked_id: sums.marked_id,
            commits: sums.commits,
            bytes_written: sums.bytes,
            syncs: sums.syncs,
            waits: front.waits(),
            events_dropped: front.dropped_events(),
            events_pending: pending,
            digest: sums.appended.digest,
        }
    }

    /// How the journal has worked since it was opened: distributions, and the buffer's memory.
    pub fn metrics(&self) -> Metrics {
        self.committer.recorder.metrics(self.committer.front.pool())
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
        Ok(self.stats())
    }

    fn shut(&self) -> Result<(), Error> {
        // Nor has it the threads that would end.
        self.committer.front.check_process()?;
        let State::Open(threads) = std::mem::replace(&mut *self.state.lock(), State::Closed) else {
            return Ok(());
        };
        let compactor = self.compactor.lock().take();
        if let Some(compactor) = compactor {
            compactor.end();
        }
        let keeper = self.keeper.lock().take();
        if let Some(keeper) = keeper {
            keeper.end(&self.committer);
        }
        self.committer.end_threads();
        for thread in threads {
            // A panic has been told to the committer already.
            drop::<Result<(), Box<dyn Any + Send>>>(thread.join());
        }
        let closed = self.committer.close();
        self.segments.end_indexing();
        closed
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::error!(%error, dir = %self.dir().display(), "the journal was not closed in order");
        }
    }
}
