//! Following a journal that is written, from the same process or another one.
//!
//! A follower reads the segment files as they grow and takes no lock. Nothing is given out before the whole group that it
//! belongs to is there and its Commit holds: every record's checksum, the counts, and the Commit's digest over the one
//! before, so that no half-written record is ever seen, nothing is left out, and nothing comes twice. That takes no help
//! from the writer, which does not know who follows it; what wakes a follower is the kernel's notice of a write.
//!
//! * Bytes that are no whole group yet are read again when the file was written to. What was held to be right of them is
//!   not looked at again: below its end a segment is written once.
//! * Behind a seal, or at an end where nothing comes any more, a follower looks for the segment of the next number. Its
//!   SegmentOpen says where and with which digest the one before ended, by seal or by a recovery's cut. That must be
//!   where the follower is; otherwise what it has given out is not in the journal any more ([`Error::Withdrawn`]), or, where
//!   segments in between are gone, the journal says whether anything was in them that was not given out (`segments`).
//! * Native files are read, not mapped: a file that is cut gives short reads, and bytes that change while they are read are no
//!   memory of this process.

mod begin;
mod damage;
mod segments;
mod window;

use std::cmp::Ordering;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use semj_format::control::{self, Thinned};
use semj_format::{Commit, Digest, EventType, Record, RecordError, SegmentSeal};

use crate::error::Error;
use crate::medium::{Changes, Disk, Medium};
use crate::reader::Located;
use crate::watermark;

pub(crate) use begin::expect_journal;
use segments::{Current, Listing, Names, withdrawn};
use window::Window;

/// Bytes that are read at once: few where the end is near, and more the more there is.
const READ_SIZE_MIN: usize = 8 << 10;
const READ_SIZE_MAX: usize = 256 << 10;
/// How often a follower looks for another segment at most, where the one that it reads has no seal.
const NAMES_INTERVAL: Duration = Duration::from_millis(100);
/// How long it waits at most until it looks by itself.
const PAUSE: Duration = Duration::from_secs(1);

/// What a follower gives out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// What is committed, in memory at least: what a [`crate::Reader`] sees. A power cut may take the last of it back.
    #[default]
    Published,
    /// What is on the disk, as far as the journal's watermark says so: it is [`crate::Options::watermark_interval`] or 8 MiB
    /// behind at most. With [`crate::SyncPolicy::None`] it is written when the journal is closed.
    Durable,
}

/// Where a follower begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the oldest event.
    Beginning,
    /// Behind what is there.
    #[default]
    End,
    /// Behind what another follower has given out. What was retired since is no loss where it had everything of that, and one
    /// that was given nothing begins with the oldest event that there is by then.
    At(Position),
    /// The same; and where the journal does not have that position any more, because what it stood in was retired, is lost or
    /// was taken back by a recovery, with what there is of its segment and behind it. If the journal is an older one, from a
    /// backup, say, it is given from the beginning on, because where the two part is not known. So events may come again, but
    /// those that are there and were not given out do come. One thing a position can't tell, though a [`crate::Consumer`] can,
    /// which knows when it was saved: an older journal that has another segment of that number, which a crash has cut too.
    AtOrBehind(Position),
}

/// How far a follower has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The journal.
    pub journal_uuid: [u8; 16],
    /// The segment.
    pub segment_number: u64,
    /// Where in its file the next group begins, or the one that records are given of; as the file was before events were
    /// taken out of it, if any were.
    pub offset: u64,
    /// The last commit before that.
    pub commit_sequence: u64,
    /// Its digest, or that of the seal behind it.
    pub digest: Digest,
    /// Records of the group at `offset` that were given out.
    pub records_given: u32,
    /// The last event that was given out, 0 if none was.
    pub last_event_id: u64,
    /// The highest id before `offset`, as far as it was given out: all that is needed still has a higher one.
    pub behind_event_id: u64,
}

/// Gives the events of a journal as they come, each once, in their order.
///
/// ```no_run
/// # fn main() -> Result<(), semj::Error> {
/// let mut follower = semj::Follower::open("journal", semj::Start::End, semj::View::Published)?;
/// while let Some(event) = follower.next(None)? {
///     println!("{} {}", event.record.event_id(), event.record.event_type());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Follower {
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    view: View,
    changes: Box<dyn Changes>,
    segment: Current,
    /// The segment's bytes from `start` on.
    bytes: Window,
    read_size: usize,
    /// Where the next group begins, or the one that records are given of.
    start: u64,
    /// Bytes that were taken out of the segment before that ([`crate::ThinRule`]).
    taken_out: i64,
    /// The group that records are given of; empty where there is none.
    group: Range<u64>,
    /// Its Commit, and the bytes that were taken out of it.
    commit: Option<(Commit, i64)>,
    /// Where the next record of it stands.
    at: u64,
    records_given: u32,
    /// Of the next group, what was looked at and found right.
    seen: Seen,
    /// The last commit that was given out whole, and the digest that the next one follows on.
    commit_sequence: u64,
    digest: Digest,
    last_event_id: u64,
    behind_event_id: u64,
    is_sealed: bool,
    looked_at_names: Option<Instant>,
    /// The last commit that is durable, as far as that is known.
    durable: u64,
    /// Where this segment has ended, once that is asked for and known: see [`Follower::find_kept_end`].
    kept_end: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    bytes: usize,
    records: u32,
    events: u32,
    taken_out: i64,
}

/// What stands behind the last group.
#[derive(Debug)]
enum Next {
    Group(Commit, usize),
    Sealed,
    /// Nothing, or nothing whole; what is wrong with a record that stands there.
    NotYet(Option<RecordError>),
}

impl Follower {
    /// Follows a journal of this machine, whoever writes it, if anybody does.
    ///
    /// # Errors
    ///
    /// No journal there, an I/O error; [`Error::NoOpening`]: a segment does not begin as one. [`Error::Retired`],
    /// [`Error::SegmentMissing`], [`Error::NoSegment`] and [`Error::Withdrawn`] for a position that the journal does not have:
    /// [`Start::AtOrBehind`] goes on all the same, but in another journal.
    pub fn open(dir: impl AsRef<Path>, start: Start, view: View) -> Result<Self, Error> {
        Self::open_on(Arc::new(Disk), dir.as_ref(), start, view)
    }

    /// [`Follower::open`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Follower::open`].
    pub fn open_on(medium: Arc<dyn Medium>, dir: &Path, start: Start, view: View) -> Result<Self, Error> {
        Self::begin(&medium, dir, start, None, view)
    }

    fn new(
        medium: Arc<dyn Medium>,
        dir: &Path,
        view: View,
        changes: Box<dyn Changes>,
        segment: Current,
        position: &Position,
    ) -> Self {
        Self {
            medium,
            dir: dir.to_owned(),
            view,
            changes,
            segment,
            bytes: Window::default(),
            read_size: READ_SIZE_MIN,
            start: position.offset,
            taken_out: 0,
            group: 0..0,
            commit: None,
            at: 0,
            records_given: 0,
            seen: Seen::default(),
            commit_sequence: position.commit_sequence,
            digest: position.digest,
            last_event_id: position.last_event_id,
            behind_event_id: position.behind_event_id,
            is_sealed: false,
            looked_at_names: None,
            durable: 0,
            kept_end: None,
        }
    }

    /// An offset of the segment as it was before events were taken out.
    const fn original(&self, offset: u64) -> u64 {
        offset.wrapping_add_signed(self.taken_out)
    }

    /// From here on the calling thread runs when no other wants the processor, for good (`SCHED_IDLE` on Linux): a writer that
    /// keeps every processor busy is followed later, and loses nothing by it. Where there is a processor to spare, nothing
    /// changes.
    pub fn give_way(&self) {
        self.medium.give_way();
    }

    /// The next event, as soon as there is one; `None` if there was none for so long. Without a time it waits for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Retired`]: events that come next were given up. [`Error::SegmentMissing`]: the segment that comes next is lost.
    /// [`Error::Withdrawn`]: a recovery has taken back what was given out, which only can happen to what was not durable, or was
    /// damaged. [`Error::Rotten`], [`Error::NoOpening`]: damage. An I/O error. All of them come again with the next call.
    /// [`Start::AtOrBehind`] with [`Follower::position`] goes on behind the first three, [`Follower::pass_over_damage`] behind
    /// damage.
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Option<Located<'_>>, Error> {
        self.next_record(patience, false)
    }

    /// [`Follower::next`] with the journal's own records among the events.
    ///
    /// # Errors
    ///
    /// As [`Follower::next`].
    pub fn next_of_all(&mut self, patience: Option<Duration>) -> Result<Option<Located<'_>>, Error> {
        self.next_record(patience, true)
    }

    /// How far this has come: behind the last record that was given out.
    pub fn position(&self) -> Position {
        let position = Position {
            journal_uuid: self.segment.opening.journal_uuid,
            segment_number: self.segment.opening.segment_number,
            offset: self.original(self.start),
            commit_sequence: self.commit_sequence,
            digest: self.digest,
            records_given: self.records_given,
            last_event_id: self.last_event_id,
            behind_event_id: self.behind_event_id,
        };
        match &self.commit {
            // The Commit was given out too.
            Some((commit, taken_out)) if self.at >= self.group.end => Position {
                offset: self.original(self.group.end).wrapping_add_signed(*taken_out),
                commit_sequence: commit.commit_sequence,
                digest: commit.digest,
                records_given: 0,
                behind_event_id: self.behind_event_id.max(commit.last_event_id),
                ..position
            },
            _ => position,
        }
    }

    fn next_record(
        &mut self,
        patience: Option<Duration>,
        wants_own: bool,
    ) -> Result<Option<Located<'_>>, Error> {
        let until = patience.and_then(|patience| Instant::now().checked_add(patience));
        let mut has_changed = true;
        loop {
            while self.at < self.group.end {
                let (offset, is_own) = self.pass()?;
                if wants_own || !is_own {
                    return self.located(offset).map(Some);
                }
            }
            self.leave();
            let unread = match self.look()? {
                Next::Group(commit, end) => match self.standing(&commit, end)? {
                    Standing::Given => {
                        self.enter(commit, end);
                        continue;
                    }
                    Standing::Waits => None,
                    Standing::TakenBack => {
                        self.bytes.clear();
                        self.seen = Seen::default();
                        if self.go_on(false)? {
                            continue;
                        }
                        None
                    }
                },
                Next::Sealed => {
                    if self.go_on(true)? {
                        continue;
                    }
                    None
                }
                Next::NotYet(_) => Some(()),
            };
            let now = Instant::now();
            let mut pause = PAUSE;
            if unread.is_some() {
                let due = self.looked_at_names.and_then(|then| then.checked_add(NAMES_INTERVAL));
                match due {
                    Some(due) if due > now => pause = if has_changed { due - now } else { PAUSE },
                    _ => {
                        self.looked_at_names = Some(now);
                        if self.go_on(false)? {
                            continue;
                        }
                    }
                }
            }
            let left = until.map(|until| until.saturating_duration_since(now));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            let pause = left.map_or(pause, |left| left.min(pause));
            has_changed = self.changes.wait(pause).map_err(Error::io("watch", &self.dir))?;
        }
    }

    /// Begins to give out a group that ends at this place of the bytes.
    fn enter(&mut self, commit: Commit, end: usize) {
        self.group = self.start..self.start + end as u64;
        self.at = self.start;
        self.records_given = 0;
        self.commit = Some((commit, self.seen.taken_out));
    }

    /// Ends the group that was given out, if there is one.
    fn leave(&mut self) {
        let Some((commit, taken_out)) = self.commit.take() else { return };
        self.taken_out = self.taken_out.wrapping_add(taken_out);
        let given = (self.group.end - self.start) as usize;
        self.bytes.pass(given);
        self.start = self.group.end;
        self.group = 0..0;
        self.at = 0;
        self.records_given = 0;
        self.seen = Seen::default();
        self.commit_sequence = commit.commit_sequence;
        self.digest = commit.digest;
        self.behind_event_id = self.behind_event_id.max(commit.last_event_id);
    }

    /// Passes over the next record of the group. Gives where it stands, and whether it is the journal's own.
    fn pass(&mut self) -> Result<(u64, bool), Error> {
        let offset = self.at;
        let record = self.record(offset)?;
        let (size, event_id, is_own) = (record.len() as u64, record.event_id(), record.is_control());
        let records = Thinned::parse(&record).map_or(1, |thinned| thinned.event_count);
        self.at += size;
        if self.at < self.group.end {
            self.records_given = self.records_given.saturating_add(records);
        }
        if !is_own {
            self.last_event_id = event_id;
        }
        Ok((offset, is_own))
    }

    /// A record of the group, which was found right.
    fn record(&self, offset: u64) -> Result<Record<'_>, Error> {
        let bytes = self.bytes.from((offset - self.start) as usize);
        Record::parse(bytes).map_err(|source| self.rotten(offset, source))
    }

    fn located(&self, offset: u64) -> Result<Located<'_>, Error> {
        Ok(Located { opening: &self.segment.opening, offset, record: self.record(offset)? })
    }

    fn rotten(&self, offset: u64, source: RecordError) -> Error {
        Error::Rotten { path: self.segment.path.clone(), offset, source }
    }

    /// Whether a group that ends at this place of the bytes belongs to what this gives out.
    fn standing(&mut self, commit: &Commit, end: usize) -> Result<Standing, Error> {
        if self.view == View::Published || commit.commit_sequence <= self.durable {
            return Ok(Standing::Given);
        }
        let group_end = self.original(self.start + end as u64).wrapping_add_signed(self.seen.taken_out);
        let by_end = |kept| if group_end <= kept { Standing::Given } else { Standing::TakenBack };
        if let Some(kept) = self.kept_end {
            return Ok(by_end(kept));
        }
        let opening = self.segment.opening;
        let mark = watermark::read(&*self.medium, &self.dir)?.newest;
        let mark = mark.filter(|mark| mark.journal_uuid == opening.journal_uuid);
        match mark.map(|mark| (mark.epoch.cmp(&opening.epoch), mark.commit_sequence)) {
            // One of an earlier epoch was made before a recovery, which may have cut commits off and given their numbers again.
            None | Some((Ordering::Less, _)) => Ok(Standing::Waits),
            Some((Ordering::Equal, upto)) => {
                self.durable = self.durable.max(upto);
                Ok(if commit.commit_sequence <= self.durable { Standing::Given } else { Standing::Waits })
            }
            // An open has decided what is left of this segment, and made that durable. The next segment says where it ends.
            Some((Ordering::Greater, _)) => self.find_kept_end().map(by_end),
        }
    }

    /// Where this segment, of an epoch that is over, has ended, as the next one says. Where none does, as in a copy of some
    /// segments, nothing says that anything was cut off.
    fn find_kept_end(&mut self) -> Result<u64, Error> {
        let number = self.segment.opening.segment_number;
        let (medium, dir) = (Arc::clone(&self.medium), self.dir.clone());
        let end = Names::with(&*medium, &dir, |names| {
            let next = names.segments.iter().find(|(found, _)| *found > number);
            let Some((found, name)) = next else { return Ok(u64::MAX) };
            match Current::open(&*medium, &dir, *found, name) {
                Ok(next) if next.opening.previous_segment == number => Ok(next.opening.previous_end_offset),
                // A recovery has taken this one out.
                Ok(next) if next.opening.previous_segment < number => Ok(0),
                Ok(_) | Err(Error::NoOpening { .. } | Error::RottenBlock { .. }) => Ok(u64::MAX),
                Err(error) => Err(error),
            }
        })?;
        self.kept_end = Some(end);
        Ok(end)
    }

    /// Looks at what stands behind the last group.
    fn look(&mut self) -> Result<Next, Error> {
        if self.is_sealed {
            return Ok(Next::Sealed);
        }
        // Bytes from here on were read in this call, so that they are no older than the last notice of a write.
        let mut fresh = usize::MAX;
        loop {
            let at = self.seen.bytes;
            let fault = match Record::parse_verified(self.bytes.from(at)) {
                Ok(record) => {
                    let size = record.len();
                    match self.classify(&record) {
                        Kind::Member { is_event } => {
                            self.seen.bytes += size;
                            self.seen.records += 1;
                            self.seen.events += u32::from(is_event);
                            continue;
                        }
                        Kind::Thinned(thinned) => {
                            self.seen.bytes += size;
                            // Whatever it says: the Commit says whether it is so.
                            let taken_out = thinned.byte_count.cast_signed().wrapping_sub(size as i64);
                            self.seen.records = self.seen.records.saturating_add(thinned.event_count);
                            self.seen.events = self.seen.events.saturating_add(thinned.event_count);
                            self.seen.taken_out = self.seen.taken_out.wrapping_add(taken_out);
                            continue;
                        }
                        Kind::Commit(commit) => return Ok(Next::Group(commit, at + size)),
                        Kind::Seal(digest) => {
                            self.digest = digest;
                            self.start += (at + size) as u64;
                            self.bytes.clear();
                            self.is_sealed = true;
                            return Ok(Next::Sealed);
                        }
                        // Left there by an earlier life of the file, or not all of it is written yet.
                        Kind::Stranger => None,
                    }
                }
                Err(error) => Some(error),
            };
            let is_short = matches!(fault, Some(RecordError::Truncated { .. }));
            if !is_short {
                self.bytes.truncate(at);
            }
            let had = self.bytes.bytes().len();
            if !is_short && fresh <= at || self.read_more()? == 0 {
                self.bytes.truncate(at);
                self.read_size = READ_SIZE_MIN;
                return Ok(Next::NotYet(fault));
            }
            fresh = fresh.min(had);
        }
    }

    /// Reads more of the file behind the bytes that are there.
    fn read_more(&mut self) -> Result<usize, Error> {
        let most = self.read_size;
        self.read_size = (self.read_size * 2).min(READ_SIZE_MAX);
        let at = self.start + self.bytes.bytes().len() as u64;
        let Current { bytes, path, .. } = &self.segment;
        self.bytes.extend(most, |room| bytes.read_at(at, room, path))
    }

    /// What a record is that is right in itself, behind those that were seen.
    fn classify(&self, record: &Record<'_>) -> Kind {
        match record.event_type() {
            EventType::JOURNAL_COMMIT => match control::parse::<Commit>(record) {
                Ok(Some(commit)) if self.follows(&commit) => Kind::Commit(commit),
                _ => Kind::Stranger,
            },
            EventType::JOURNAL_SEGMENT_SEAL => match control::parse::<SegmentSeal>(record) {
                Ok(Some(seal))
                    if self.seen.records == 0
                        && seal.previous_digest == self.digest
                        && seal.computed_digest() == seal.digest =>
                {
                    Kind::Seal(seal.digest)
                }
                _ => Kind::Stranger,
            },
            _ => match Thinned::parse(record) {
                Some(thinned) => Kind::Thinned(thinned),
                None => Kind::Member { is_event: !record.is_control() },
            },
        }
    }

    /// Whether a Commit is that of the records that were seen, and follows on the last one.
    fn follows(&self, commit: &Commit) -> bool {
        commit.epoch == self.segment.opening.epoch
            && commit.commit_sequence == self.commit_sequence.wrapping_add(1)
            && commit.previous_digest == self.digest
            && commit.record_count == self.seen.records
            && commit.event_count == self.seen.events
            && commit.byte_count == (self.seen.bytes as u64).wrapping_add_signed(self.seen.taken_out)
            && commit.computed_digest() == commit.digest
    }

    /// From here on this is the segment, and nothing of it was looked at.
    fn take_up(&mut self, next: Current) {
        if next.opening.epoch != self.segment.opening.epoch {
            // What was durable before may have been cut off since, and its numbers were given again.
            self.durable = 0;
        }
        self.kept_end = None;
        let Position { offset, commit_sequence, digest, .. } = next.beginning();
        (self.start, self.commit_sequence, self.digest) = (offset, commit_sequence, digest);
        self.segment = next;
        self.bytes.clear();
        self.seen = Seen::default();
        self.taken_out = 0;
        self.is_sealed = false;
        self.looked_at_names = None;
    }

    /// Goes on with the next segment, if there is one. Whether everything of this one was read its seal says; where it has
    /// none, the next one does.
    fn go_on(&mut self, is_sealed: bool) -> Result<bool, Error> {
        let (medium, dir) = (Arc::clone(&self.medium), self.dir.clone());
        Names::with(&*medium, &dir, |names| self.go_on_in(names, is_sealed))
    }

    fn go_on_in(&mut self, names: &Names, is_sealed: bool) -> Result<bool, Error> {
        let number = self.segment.opening.segment_number;
        // A recovery that took segments out leaves out their numbers.
        let Some((found, name)) = names.segments.iter().find(|(found, _)| *found > number) else {
            return Ok(false);
        };
        let next = Current::open(&*self.medium, &self.dir, *found, name)?;
        if next.opening.previous_segment > number {
            if !is_sealed && !matches!(self.look()?, Next::NotYet(_)) {
                // It came behind the last look.
                return Ok(true);
            }
            let listing = Listing::new(&*self.medium, &self.dir, names)?;
            let (next, _) = listing.go_on_from(&self.position())?;
            self.take_up(next);
            return Ok(true);
        }
        let is_next = next.opening.journal_uuid == self.segment.opening.journal_uuid
            && next.opening.previous_segment == number;
        if is_next && !is_sealed && next.opening.previous_end_offset > self.original(self.start) {
            // There is more: it came behind the last look, or it is damaged.
            return match self.look()? {
                Next::NotYet(Some(error)) => Err(self.rotten(self.start + self.seen.bytes as u64, error)),
                Next::NotYet(None) => Err(withdrawn(&self.segment.path, &self.position())),
                Next::Group(..) | Next::Sealed => Ok(true),
            };
        }
        let continues = next.opening.previous_end_offset == self.original(self.start)
            && next.opening.previous_digest == self.digest;
        if !is_next || !continues {
            return Err(withdrawn(&self.segment.path, &self.position()));
        }
        self.take_up(next);
        Ok(true)
    }
}

/// What becomes of a group that is there.
enum Standing {
    Given,
    /// It is not durable yet.
    Waits,
    /// A recovery has cut it off.
    TakenBack,
}

/// What a record is to a follower.
enum Kind {
    Member {
        is_event: bool,
    },
    /// Stands in the place of events that were taken out.
    Thinned(Thinned),
    Commit(Commit),
    Seal(Digest),
    Stranger,
}
