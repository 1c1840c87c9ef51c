//! The committer: has events appended and made durable, in the order and at the times that callers and options ask for.
//!
//! Three threads work for it. The *appending* thread moves events from the front end into the active segment and never
//! waits for the disk, as long as there is room. The *writeback* thread has the disk begin with what was appended, makes
//! files for segments to come, gives back the space behind those that are sealed ([`crate::writeback`]), and has old ones
//! leave the page cache where memory is dear ([`crate::residency`]). The *syncing*
//! thread makes durable what nobody waits for, writes the watermark, and rotates where another process asks for it or a segment
//! is too old. Who waits for durability does the appending and
//! the sync on its own thread ([`crate::group_commit`]). With [`crate::CommitOn::CallersThread`] there are no threads, and
//! everything happens in the calls.
//!
//! A failure of any file operation ends all writing: nothing is acknowledged after that, because after a failed sync
//! nothing is known of the bytes it was to make durable.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use semj_format::EventType;

use crate::appender::{Appended, Appender};
use crate::directory;
use crate::error::Error;
use crate::flush::FullSegment;
use crate::front::{Front, Work};
use crate::group_commit::{GroupCommit, Turn};
use crate::keeper;
use crate::medium::Medium;
use crate::metrics::Recorder;
use crate::options::{SyncPolicy, SyncStrategy};
use crate::request::{self, Request};
use crate::residency::{Memory, Residents};
use crate::retention::Retention;
use crate::segment::{Segment, Segments};
use crate::watermark::{Mark, WatermarkWriter};
use crate::writeback::Writeback;
use crate::writer::{Sealing, Spare};

/// After so many bytes the watermark is written, whatever the time: what is behind it has to be proven by an open.
const MARK_BYTES: u64 = 8 << 20;
/// With [`SyncStrategy::Adaptive`], a flush begins so many times its usual duration after the last one at the earliest.
const FLUSH_PAUSE: u32 = 20;
/// And so long after at the earliest.
const FLUSH_PAUSE_MIN: Duration = Duration::from_millis(5);

/// See the module. Shared by the threads, the journal's callers and their tickets.
pub(crate) struct Committer {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) dir: PathBuf,
    pub(crate) front: Front,
    pub(crate) group_commit: GroupCommit,
    pub(crate) recorder: Recorder,
    writeback: Writeback,
    timing: Timing,
    appender: Mutex<Appender>,
    watermark: Mutex<WatermarkWriter>,
    syncing: Mutex<Syncing>,
    /// Tells the syncing thread that there is something to do earlier than it thinks.
    wakes_syncing: Condvar,
    segments: Arc<Segments>,
    /// Who removes files of retired segments, if there is a thread for it.
    removals: Mutex<Option<mpsc::Sender<Vec<Arc<Segment>>>>>,
}

/// When what happens that nobody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) has_threads: bool,
    pub(crate) segment_size: u64,
    pub(crate) policy: SyncPolicy,
    pub(crate) strategy: SyncStrategy,
    pub(crate) sync_interval: Duration,
    pub(crate) batch_bytes: u64,
    pub(crate) watermark_interval: Duration,
}

/// What the syncing thread knows.
#[derive(Debug)]
struct Syncing {
    /// The last moment up to which everything is durable.
    durable: Mark,
    /// The moment that the watermark tells of, and when it was written.
    marked: Mark,
    marked_at: Instant,
    /// Bytes appended up to that moment.
    marked_bytes: u64,
    /// Since when something is committed and not durable.
    unsynced_since: Option<Instant>,
    unsynced_bytes: u64,
    /// Bytes appended up to the last flush.
    flushed_bytes: u64,
    flush_time: Duration,
    /// Something urgent, or a full segment, waits for a flush.
    is_urgent: bool,
    /// Another process may ask for a rotation, or the active segment may be too old.
    looks_around: bool,
    closing: bool,
    /// Until when the thread sleeps; `None` while it is awake.
    sleeps_until: Option<Option<Instant>>,
}

/// What a sync makes durable at least, of what came before it.
#[derive(Clone, Copy, Debug)]
enum Cover {
    /// What was emitted: it is appended first.
    Emitted,
    /// What the appending thread has appended. It is on its way to the rest.
    Appended,
}

impl Committer {
    pub(crate) fn new(
        medium: Arc<dyn Medium>,
        dir: PathBuf,
        front: Front,
        timing: Timing,
        appender: Appender,
        watermark: WatermarkWriter,
    ) -> Self {
        let durable = appender.mark();
        let segments = Arc::clone(&appender.segments);
        let segment_count = segments.snapshot().len() as u64;
        let recorder = Recorder::new(segment_count, durable, appender.begins_behind());
        let bytes = recorder.bytes();
        Self {
            medium,
            dir,
            front,
            group_commit: GroupCommit::new(durable.last_event_id),
            recorder,
            writeback: Writeback::new(),
            timing,
            appender: Mutex::new(appender),
            watermark: Mutex::new(watermark),
            syncing: Mutex::new(Syncing {
                durable,
                marked: durable,
                marked_at: Instant::now(),
                marked_bytes: bytes,
                unsynced_since: None,
                unsynced_bytes: 0,
                flushed_bytes: bytes,
                flush_time: Duration::ZERO,
                is_urgent: false,
                looks_around: false,
                closing: false,
                sleeps_until: None,
            }),
            wakes_syncing: Condvar::new(),
            segments,
            removals: Mutex::new(None),
        }
    }

    /// Nothing will be written any more. All who wait get the error.
    pub(crate) fn fail(&self, error: Error) {
        self.front.fail(error);
        self.group_commit.fail();
        self.end_background();
    }

    fn end_background(&self) {
        self.writeback.close();
        self.syncing.lock().closing = true;
        self.wakes_syncing.notify_all();
    }

    fn failure(&self) -> Error {
        self.front.failure().unwrap_or(Error::CommitterPanicked)
    }

    /// Appends what was emitted before the call, as far as that goes without the disk.
    pub(crate) fn append(&self) -> Result<Appended, Error> {
        self.append_upto(self.emitted()?)
    }

    fn append_upto(&self, upto: u64) -> Result<Appended, Error> {
        self.front.check_process()?;
        let _guard = Guard::new(self);
        let (appender, appended) = self.or_fail(self.append_emitted(upto))?;
        self.let_go(appender);
        Ok(appended)
    }

    /// The place behind all that was emitted before the call.
    fn emitted(&self) -> Result<u64, Error> {
        // What was dropped gets its ids now, if nobody else came to give them; of a full buffer when it is empty again.
        self.or_fail(self.front.settle())?;
        Ok(self.front.tail())
    }

    /// Appends what stands below a place, as far as that goes without the disk, and keeps the appender; [`Self::let_go`]
    /// tells of the last group, or the flush that follows at once.
    fn append_emitted(&self, mut upto: u64) -> Result<(MutexGuard<'_, Appender>, Appended), Error> {
        let mut has_looked_again = false;
        loop {
            let mut appender = self.appender.lock();
            let appended = self.write(&mut appender, |a| a.append(&self.front, upto, &self.recorder))?;
            if self.timing.has_threads {
                if self.syncs_events() {
                    appender.start_writeback(&self.writeback);
                }
                if appender.wants_spare() {
                    self.writeback.want_spare();
                }
            }
            let has_drops = appended == Appended::All && !has_looked_again && self.front.has_drops();
            if appended != Appended::Group && !has_drops {
                return Ok((appender, appended));
            }
            self.let_go(appender);
            if has_drops {
                has_looked_again = true;
                self.front.settle()?;
                upto = self.front.tail();
            }
        }
    }

    /// Has others come to the appender behind a group, and tells of it.
    fn let_go(&self, appender: MutexGuard<'_, Appender>) {
        let has_full = appender.has_full();
        // Between two groups it is the turn of those who wait for durability.
        MutexGuard::unlock_fair(appender);
        if self.timing.has_threads {
            self.note_appended(has_full);
        }
    }

    /// Has the appender write something. A failure is told before anybody else comes to the appender.
    fn write<T>(
        &self,
        appender: &mut Appender,
        work: impl FnOnce(&mut Appender) -> Result<T, Error>,
    ) -> Result<T, Error> {
        appender.write(work).map_err(|error| match self.front.failure() {
            Some(failure) => failure,
            None => {
                self.front.fail(error);
                self.failure()
            }
        })
    }

    /// Ends all writing if something about the journal's own files has failed.
    pub(crate) fn or_fail<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| {
            self.fail(error);
            self.failure()
        })
    }

    /// Tells the syncing thread what there is, if it has to know.
    fn note_appended(&self, is_urgent: bool) {
        let mut syncing = self.syncing.lock();
        if self.recorder.commit_sequence() > syncing.durable.commit_sequence {
            syncing.unsynced_since.get_or_insert_with(Instant::now);
        }
        syncing.unsynced_bytes = self.recorder.bytes() - syncing.flushed_bytes;
        // Nothing is urgent any more if somebody else has synced it.
        syncing.is_urgent |= is_urgent && syncing.unsynced_since.is_some();
        self.wake_syncing(&syncing);
    }

    fn wake_syncing(&self, syncing: &Syncing) {
        let Some(sleeps_until) = syncing.sleeps_until else { return };
        let is_early = match (self.wake_at(syncing), sleeps_until) {
            (Some(at), Some(until)) => at < until,
            (at, None) => at.is_some(),
            (None, _) => false,
        };
        if is_early {
            self.wakes_syncing.notify_one();
        }
    }

    /// When the syncing thread has something to do next.
    fn wake_at(&self, syncing: &Syncing) -> Option<Instant> {
        [self.sync_at(syncing), self.mark_at(syncing)].into_iter().flatten().min()
    }

    /// When the watermark has to be written, if something is durable that it does not speak of.
    fn mark_at(&self, syncing: &Syncing) -> Option<Instant> {
        let Syncing { durable, flushed_bytes, marked, marked_at, marked_bytes, .. } = syncing;
        if self.timing.policy == SyncPolicy::None || durable.is_same_place(marked) {
            return None;
        }
        if flushed_bytes - marked_bytes >= MARK_BYTES {
            Some(*marked_at)
        } else {
            marked_at.checked_add(self.timing.watermark_interval)
        }
    }

    /// Whether events are synced that nobody asks for.
    fn syncs_events(&self) -> bool {
        self.timing.policy.syncs_events()
    }

    /// When the next flush is due that nobody waits for.
    fn sync_at(&self, syncing: &Syncing) -> Option<Instant> {
        let since = syncing.unsynced_since?;
        if syncing.is_urgent {
            return Some(since);
        }
        if !self.syncs_events() {
            return None;
        }
        let delay = match self.timing.strategy {
            SyncStrategy::Immediate => Duration::ZERO,
            SyncStrategy::Batched if syncing.unsynced_bytes >= self.timing.batch_bytes => Duration::ZERO,
            SyncStrategy::Batched | SyncStrategy::Async => self.timing.sync_interval,
            SyncStrategy::Adaptive => {
                let pause = (syncing.flush_time * FLUSH_PAUSE).max(FLUSH_PAUSE_MIN);
                pause.min(self.timing.sync_interval)
            }
        };
        since.checked_add(delay)
    }

    /// Returns when everything that was emitted before the call is durable.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.sync_with(Cover::Emitted)
    }

    /// Returns when the disk has what was appended before the call, and every segment that was begun its name. A journal that has
    /// failed brings nothing to the disk any more.
    pub(crate) fn settle(&self) {
        drop(self.sync_with(Cover::Appended));
    }

    fn sync_with(&self, cover: Cover) -> Result<(), Error> {
        // Before any lock: in a process that was forked nobody gives back one that was held.
        self.front.check_process()?;
        let member = self.group_commit.join();
        loop {
            match self.group_commit.wait(member) {
                Turn::Served => return Ok(()),
                Turn::Failed => return Err(self.failure()),
                Turn::Lead => {
                    let _guard = Guard::new(self);
                    let members = self.group_commit.close_group(self.timing.has_threads);
                    // Somebody who waits for what was emitted has joined.
                    let cover = if members > 1 { Cover::Emitted } else { cover };
                    let durable_id = self.flush(cover);
                    let Some(served) = self.group_commit.finish(self.or_fail(durable_id)?) else {
                        return Err(self.failure());
                    };
                    self.recorder.flush_waiters.record(u64::from(served));
                    // Who waits for a sync does not wait for this one, if there is a thread for it.
                    if !self.timing.has_threads {
                        self.mark_if_due()?;
                    }
                }
            }
        }
    }

    /// Makes everything durable that was emitted, or appended, before the call. Gives the last id of it. Called by one at a
    /// time.
    fn flush(&self, cover: Cover) -> Result<u64, Error> {
        // Found out once: where appending has to wait for the disk, others emit more in that time, and so on without an end.
        let upto = match cover {
            Cover::Emitted => Some(self.emitted()?),
            Cover::Appended => None,
        };
        loop {
            let started = Instant::now();
            let (mut appender, appended) = match upto {
                Some(upto) => self.append_emitted(upto)?,
                None => (self.appender.lock(), Appended::All),
            };
            // What others append from here on is not waited for.
            let _held = upto.is_some().then(|| self.writeback.hold());
            // What becomes urgent from here on is not in this flush.
            self.syncing.lock().is_urgent = false;
            let flush = self.write(&mut appender, Appender::flush)?;
            let mark = appender.mark();
            let bytes = self.recorder.bytes();
            drop(appender);
            if let Some(flush) = flush {
                self.recorder.synced(flush.run(&*self.medium, &self.dir)?);
                self.appender.lock().flushed(&flush);
                for FullSegment { sealing, memory, .. } in &flush.full {
                    self.release(sealing, *memory)?;
                }
                if let Some(upto) = flush.gone_upto() {
                    self.remove(upto)?;
                }
            }
            self.note_flushed(&mark, bytes, started);
            if appended == Appended::All {
                return Ok(mark.last_event_id);
            }
        }
    }

    /// Takes the segments up to this number out of what readers see, and has their files removed. The newest segment says
    /// that they are retired, and has its name on the disk.
    fn remove(&self, upto: u64) -> Result<(), Error> {
        let gone = self.segments.retire(upto);
        self.recorder.took_out(gone.len() as u64);
        let removals = self.removals.lock();
        let left = match &*removals {
            Some(removals) => removals.send(gone).err().map(|unsent| unsent.0),
            None => Some(gone),
        };
        drop(removals);
        left.map_or(Ok(()), |gone| keeper::remove(self, &gone))
    }

    /// Gives back the space behind a segment that is sealed on the disk, which can take as long as writing to it.
    fn release(&self, sealing: &Sealing, memory: Memory) -> Result<(), Error> {
        let is_taken = self.timing.has_threads && self.writeback.offer_release(sealing, memory);
        if is_taken { Ok(()) } else { sealing.release() }
    }

    /// From here on whoever receives this removes the files of retired segments.
    pub(crate) fn give_removals_to(&self, removals: Option<mpsc::Sender<Vec<Arc<Segment>>>>) {
        *self.removals.lock() = removals;
    }

    fn note_flushed(&self, mark: &Mark, bytes: u64, started: Instant) {
        let time = started.elapsed();
        self.recorder.flush_ns.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let mut syncing = self.syncing.lock();
        syncing.durable = *mark;
        syncing.flushed_bytes = bytes;
        syncing.unsynced_bytes = self.recorder.bytes() - bytes;
        syncing.flush_time = (syncing.flush_time * 7 + time) / 8;
        // What came meanwhile came after the flush began.
        let is_clean = self.recorder.commit_sequence() <= mark.commit_sequence;
        syncing.unsynced_since = (!is_clean).then_some(started);
        self.wake_syncing(&syncing);
    }

    /// Ends the active segment, with everything emitted before the call in it, and begins the next, which retires old ones
    /// by the journal's limits or as somebody wants it. Both are durable on return.
    pub(crate) fn rotate(
        &self,
        wanted: Option<&Retention>,
        notes: &[(EventType, Vec<u8>)],
    ) -> Result<(), Error> {
        self.make_room()?;
        let mut appender = self.appender.lock();
        // It is asked now, and not when somebody wanted it: a consumer may have come while the disk was waited for. Where it can't
        // be learned nothing is written, and the journal goes on.
        let wanted = wanted.map(|retention| appender.wanted(retention)).transpose()?;
        let rotated = self.write(&mut appender, |a| a.rotate(wanted, notes, &self.recorder));
        drop(appender);
        self.or_fail(rotated)?;
        self.sync()
    }

    /// Retires what passes these limits, with a rotation. Where they are not passed it is a sync.
    pub(crate) fn retain(&self, retention: &Retention) -> Result<(), Error> {
        self.make_room()?;
        let would_retire = self.appender.lock().would_retire(retention)?;
        if would_retire { self.rotate(Some(retention), &[]) } else { self.sync() }
    }

    /// Has the syncing thread see to what another process asks and to the active segment's age.
    pub(crate) fn have_looked_around(&self) {
        self.syncing.lock().looks_around = true;
        self.wakes_syncing.notify_one();
    }

    /// Does what another process asks for, and ends the active segment if it is too old.
    fn look_around(&self) -> Result<(), Error> {
        // What else is asked for is the keeper's.
        if let Some(asked) = request::take(&*self.medium, &self.dir)
            && let Request::Rotate(retention) = &asked.request
        {
            tracing::info!(?retention, "another process asks for a rotation");
            let done = match retention {
                Some(retention) => self.retain(retention),
                None => self.rotate(None, &[]),
            };
            asked.answer(&*self.medium, &self.dir, &done);
            done?;
        }
        let is_old = self.appender.lock().is_old();
        if is_old { self.rotate(None, &[]) } else { Ok(()) }
    }

    /// Ends the journal. Nobody emits or waits any more, and the threads have ended.
    pub(crate) fn close(&self) -> Result<(), Error> {
        // What was dropped while the buffer was full gets its ids when there is room again, and nothing comes behind the seal.
        loop {
            self.make_room()?;
            if !self.front.has_drops() {
                break;
            }
        }
        let mut appender = self.appender.lock();
        let closed = self.write(&mut appender, |a| a.close(&self.recorder));
        let spare = appender.take_spare();
        drop(appender);
        self.or_fail(closed)?;
        self.sync()?;
        self.or_fail(self.mark())?;
        if let Some(spare) = spare
            && let Err(error) = self.medium.remove(&spare.path)
        {
            // The next open removes it.
            tracing::warn!(%error, path = %spare.path.display(), "a file that is not needed stays");
        }
        Ok(())
    }

    /// Appends what was emitted before the call, with syncs where it does not go without.
    pub(crate) fn make_room(&self) -> Result<(), Error> {
        self.front.check_process()?;
        let upto = self.emitted()?;
        while self.append_upto(upto)? == Appended::Stalled {
            self.sync()?;
        }
        Ok(())
    }

    /// For the appending thread.
    pub(crate) fn run_appending(&self) {
        let _guard = Guard::new(self);
        loop {
            let work = self.front.next_work();
            self.medium.keep_time();
            if work == Work::Close {
                return;
            }
            match self.append() {
                Ok(Appended::All) => {}
                Ok(Appended::Stalled) if self.sync().is_ok() => {}
                _ => return,
            }
            if work == Work::CommitUrgent {
                self.note_appended(true);
            }
        }
    }

    /// For the syncing thread.
    pub(crate) fn run_syncing(&self) {
        self.medium.take_short_turns();
        let _guard = Guard::new(self);
        let mut syncing = self.syncing.lock();
        while !syncing.closing {
            let now = Instant::now();
            if std::mem::take(&mut syncing.looks_around) {
                drop(syncing);
                if let Err(error) = self.look_around() {
                    if self.front.failure().is_some() {
                        return;
                    }
                    tracing::warn!(%error, "what another process asks for could not be done");
                }
                syncing = self.syncing.lock();
                continue;
            }
            // Before the syncs, because under load there is always one due.
            if self.mark_at(&syncing).is_some_and(|at| at <= now) {
                drop(syncing);
                if self.mark_if_due().is_err() {
                    return;
                }
                syncing = self.syncing.lock();
                continue;
            }
            let sync_at = self.sync_at(&syncing);
            if sync_at.is_some_and(|at| at <= now) || self.group_commit.has_wakers() {
                drop(syncing);
                let cover = if self.group_commit.has_wakers() { Cover::Emitted } else { Cover::Appended };
                if self.sync_with(cover).is_err() {
                    return;
                }
                syncing = self.syncing.lock();
                continue;
            }
            let until = self.wake_at(&syncing);
            syncing.sleeps_until = Some(until);
            // A waker that registered before it could see this would wake nobody.
            if !self.group_commit.has_wakers() {
                match until {
                    Some(at) => drop(self.wakes_syncing.wait_until(&mut syncing, at)),
                    None => self.wakes_syncing.wait(&mut syncing),
                }
            }
            syncing.sleeps_until = None;
        }
    }

    /// For the writeback thread.
    pub(crate) fn run_writeback(&self) {
        self.medium.take_short_turns();
        let _guard = Guard::new(self);
        let mut residents = Residents::default();
        let release = |sealing: &Sealing, memory| {
            self.or_fail(sealing.release())?;
            residents.sealed(&*self.medium, sealing.segment(), memory);
            Ok(())
        };
        self.writeback.run(|| self.make_spare(), release);
    }

    /// Has the syncing thread serve those who do not sleep but have registered.
    #[cfg(feature = "async")]
    pub(crate) fn serve_wakers(&self) {
        let _syncing = self.syncing.lock();
        self.wakes_syncing.notify_one();
    }

    /// Lets the threads end.
    pub(crate) fn end_threads(&self) {
        self.front.close();
        self.end_background();
    }

    /// Makes a file for the next segment, so that the appender need not.
    fn make_spare(&self) {
        let next = {
            let appender = self.appender.lock();
            if !appender.wants_spare() {
                return;
            }
            appender.mark().segment_number + 1
        };
        if next > directory::SEGMENT_NUMBER_MAX {
            return;
        }
        let path = self.dir.join(directory::spare(next));
        match self.medium.create(&path, self.timing.segment_size) {
            Ok(file) => self.appender.lock().put_spare(Spare { file, path }),
            // The appender will try again when it needs the file, and fail if that can't be.
            Err(error) => {
                self.appender.lock().go_without_spare();
                tracing::warn!(%error, path = %path.display(), "no file could be made ahead of time");
            }
        }
    }

    /// Writes the watermark where that is due.
    fn mark_if_due(&self) -> Result<(), Error> {
        let mark_at = self.mark_at(&self.syncing.lock());
        if mark_at.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let marked = self.mark();
        self.or_fail(marked)
    }

    /// Marks everything that is durable.
    fn mark(&self) -> Result<(), Error> {
        let mut watermark = self.watermark.lock();
        let (durable, bytes) = {
            let syncing = self.syncing.lock();
            (syncing.durable, syncing.flushed_bytes)
        };
        watermark.mark(&durable)?;
        self.recorder.marked(durable.last_event_id);
        let mut syncing = self.syncing.lock();
        syncing.marked = durable;
        syncing.marked_bytes = bytes;
        syncing.marked_at = Instant::now();
        Ok(())
    }

    #[cfg(feature = "async")]
    pub(crate) fn has_threads(&self) -> bool {
        self.timing.has_threads
    }

    pub(crate) fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl fmt::Debug for Committer {
    /// Not the buffer, which has thousands of places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Committer").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Tells those who wait when work for the committer ends in a panic.
struct Guard<'a> {
    committer: &'a Committer,
    /// A caller that unwinds may still emit and sync, in a destructor: that panic is not of this work.
    was_panicking: bool,
}

impl<'a> Guard<'a> {
    fn new(committer: &'a Committer) -> Self {
        Self { committer, was_panicking: std::thread::panicking() }
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.committer.fail(Error::CommitterPanicked);
        }
    }
}
