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
//!   where the follower is; otherwise what it has given out is not in the journal any more ([`Error::Withdrawn`]).
//! * Native files are read, not mapped: a file that is cut gives short reads, and bytes that change while they are read are no
//!   memory of this process.

mod damage;
mod window;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use semj_blocks::Layout;
use semj_format::control::{self, Thinned};
use semj_format::journal_header::FLAG_THINNED;
use semj_format::{Commit, Digest, EventType, JournalHeader, Record, RecordError, SegmentOpen, SegmentSeal};
use semj_recovery::{Effort, OpenMode, Proof};

use crate::compressed::{CompressedMap, Unreadable};
use crate::directory;
use crate::error::Error;
use crate::medium::{Changes, Disk, File, Medium};
use crate::reader::Located;
use crate::{open, watermark};

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
    /// Behind what another follower has given out.
    At(Position),
    /// The same; and where the journal does not have that position any more, because what it stood in was retired, is lost or
    /// was taken back by a recovery, with what there is of its segment and behind it. Events of the last commit group that was
    /// given out may come again then; those that went can't come.
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
    /// A segment, and its last commit that was given out before this follower began.
    given_upto: Option<(u64, u64)>,
    is_sealed: bool,
    looked_at_names: Option<Instant>,
    /// The last commit that is durable, as far as that is known.
    durable: u64,
}

/// A segment's bytes. A file that is compressed while it is followed is followed on in its old form, which keeps its bytes
/// as long as it is open.
#[derive(Debug)]
enum Bytes {
    Native(Box<dyn File>),
    Compressed(CompressedMap),
}

impl Bytes {
    fn of(file: Box<dyn File>, path: &Path) -> Result<Self, Error> {
        let mut header = [0; JournalHeader::SIZE];
        let native = Self::Native(file);
        if native.read_whole(0, &mut header, path)? < header.len() || !Layout::is_compressed(&header) {
            return Ok(native);
        }
        let Self::Native(file) = native else { return Ok(native) };
        let map = file.map().map_err(Error::io("map", path))?;
        let failed = |unreadable: Unreadable| unreadable.at(path, JournalHeader::SIZE as u64);
        CompressedMap::open(map).map(Self::Compressed).map_err(|(_, unreadable)| failed(unreadable))
    }

    /// Gives how many bytes there are, up to as many as are asked for; 0 at the end.
    fn read_at(&self, offset: u64, out: &mut [u8], path: &Path) -> Result<usize, Error> {
        match self {
            Self::Native(file) => file.read_at(offset, out).map_err(Error::io("read", path)),
            Self::Compressed(map) => {
                let Ok(at) = usize::try_from(offset) else { return Ok(0) };
                map.read_at(at, out).map_err(|unreadable| unreadable.at(path, offset))
            }
        }
    }

    /// Reads until `out` is full, or there is no more.
    fn read_whole(&self, offset: u64, out: &mut [u8], path: &Path) -> Result<usize, Error> {
        let mut read = 0;
        while let Some(rest) = out.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset + read as u64, rest, path)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }
}

#[derive(Debug)]
struct Current {
    bytes: Bytes,
    path: PathBuf,
    opening: SegmentOpen,
    is_thinned: bool,
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
    /// No journal there, an I/O error; [`Error::Retired`] and [`Error::Withdrawn`] for a position that the journal does
    /// not have: [`Start::AtOrBehind`] goes on all the same, but in another journal.
    pub fn open(dir: impl AsRef<Path>, start: Start, view: View) -> Result<Self, Error> {
        Self::open_on(Arc::new(Disk), dir.as_ref(), start, view)
    }

    /// [`Follower::open`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Follower::open`].
    pub fn open_on(medium: Arc<dyn Medium>, dir: &Path, start: Start, view: View) -> Result<Self, Error> {
        match start {
            Start::Beginning => Self::begin(medium, dir, None, view),
            Start::End => {
                let end = end_of(&*medium, dir)?;
                Self::take_up_at(medium, dir, end, view)
            }
            Start::At(position) => Self::take_up_at(medium, dir, position, view),
            Start::AtOrBehind(position) => match Self::take_up_at(Arc::clone(&medium), dir, position, view) {
                // What follows on a position proves it. Where nothing does, it is the end, or was taken back.
                Ok(mut follower) if follower.commit.is_none() => match follower.look()? {
                    Next::NotYet(_) => Self::begin(medium, dir, Some(&position), view),
                    Next::Group(..) | Next::Sealed => Ok(follower),
                },
                Err(Error::Retired { .. } | Error::Withdrawn { .. }) => {
                    Self::begin(medium, dir, Some(&position), view)
                }
                other => other,
            },
        }
    }

    /// Follows from a position on that the journal has.
    fn take_up_at(
        medium: Arc<dyn Medium>,
        dir: &Path,
        position: Position,
        view: View,
    ) -> Result<Self, Error> {
        // From here on nothing is missed.
        let changes = medium.watch(dir).map_err(Error::io("watch", dir))?;
        let names = names(&*medium, dir)?;
        let first = names.first().ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
        let there = names.iter().find(|(number, _)| *number == position.segment_number);
        let (number, name) = there.unwrap_or(first);
        let segment = open_segment(&*medium, dir, *number, name)?
            .ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
        // Where a segment was given up of which everything was given out, it goes on with the next one.
        let goes_on = segment.opening.previous_segment == position.segment_number
            && segment.opening.previous_end_offset == position.offset
            && segment.opening.previous_digest == position.digest;
        let position = match there {
            Some(_) => position,
            None if goes_on => {
                let offset = JournalHeader::SIZE as u64;
                Position { segment_number: *number, offset, ..position }
            }
            None => return Err(missing(dir, &position, first.0)),
        };
        if position.journal_uuid != segment.opening.journal_uuid {
            return Err(withdrawn(&segment.path, &position));
        }
        let mut follower = Self::new(medium, dir, view, changes, segment, &position);
        follower.resume(&position)?;
        Ok(follower)
    }

    /// Follows from the beginning of a segment on: the first one, or that of a position which the journal does not have any more,
    /// or where that is not there, the next one, or else the newest.
    fn begin(
        medium: Arc<dyn Medium>,
        dir: &Path,
        behind: Option<&Position>,
        view: View,
    ) -> Result<Self, Error> {
        // From here on nothing is missed.
        let changes = medium.watch(dir).map_err(Error::io("watch", dir))?;
        let names = names(&*medium, dir)?;
        let lowest = behind.map_or(0, |position| position.segment_number);
        let (number, name) = names
            .iter()
            .find(|(number, _)| *number >= lowest)
            .or(names.last())
            .ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
        let segment = open_segment(&*medium, dir, *number, name)?
            .ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
        let opening = &segment.opening;
        let mut position = Position {
            journal_uuid: opening.journal_uuid,
            segment_number: *number,
            offset: JournalHeader::SIZE as u64,
            commit_sequence: opening.next_commit_sequence.saturating_sub(1),
            digest: opening.previous_digest,
            records_given: 0,
            last_event_id: 0,
            behind_event_id: 0,
        };
        let mut given_upto = None;
        if let Some(behind) = behind {
            if behind.journal_uuid != opening.journal_uuid {
                return Err(withdrawn(&segment.path, behind));
            }
            position.last_event_id = behind.last_event_id;
            // Ids that were taken back with their events may have been given again.
            position.behind_event_id = behind.behind_event_id.min(opening.next_event_id.saturating_sub(1));
            given_upto = (*number <= behind.segment_number).then_some((*number, behind.commit_sequence));
        }
        let mut follower = Self::new(medium, dir, view, changes, segment, &position);
        follower.given_upto = given_upto;
        while given_upto.is_some() {
            match follower.look() {
                Ok(Next::Group(commit, end)) if follower.was_given(&commit) => {
                    follower.enter(commit, end);
                    follower.leave();
                }
                // An error comes again where it belongs, with the next event.
                _ => break,
            }
        }
        Ok(follower)
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
            given_upto: None,
            is_sealed: false,
            looked_at_names: None,
            durable: 0,
        }
    }

    /// Takes up a position in the middle of a group, and holds any against what stands in the file.
    fn resume(&mut self, position: &Position) -> Result<(), Error> {
        let withdrawn = |follower: &Self| Err(withdrawn(&follower.segment.path, position));
        let begins = JournalHeader::SIZE as u64;
        if position.offset == begins && position.digest != self.segment.opening.previous_digest {
            return withdrawn(self);
        }
        if self.segment.is_thinned && position.offset != begins {
            // What stands where is known from the beginning on only.
            self.start = begins;
            self.commit_sequence = self.segment.opening.next_commit_sequence.saturating_sub(1);
            self.digest = self.segment.opening.previous_digest;
            while self.original(self.start) < position.offset {
                match self.look()? {
                    Next::Group(commit, end) => {
                        self.enter(commit, end);
                        self.leave();
                    }
                    Next::Sealed => break,
                    Next::NotYet(_) => return withdrawn(self),
                }
            }
            if self.original(self.start) != position.offset || self.digest != position.digest {
                return withdrawn(self);
            }
        }
        (self.last_event_id, self.behind_event_id) = (position.last_event_id, position.behind_event_id);
        if position.records_given == 0 {
            return Ok(());
        }
        match self.look()? {
            Next::Group(commit, end) if commit.record_count >= position.records_given => {
                self.enter(commit, end);
                // Where events were taken out of the group, it goes on behind the run that the position is in.
                while self.records_given < position.records_given && self.at < self.group.end {
                    self.pass()?;
                }
                Ok(())
            }
            _ => withdrawn(self),
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
    /// [`Error::Retired`]: the segment that comes next was given up. [`Error::Withdrawn`]: a recovery has taken back what
    /// was given out, which only can happen to what was not durable, or was damaged. [`Error::Rotten`]: damage. An I/O
    /// error. All of them come again with the next call. [`Start::AtOrBehind`] with [`Follower::position`] goes on behind the first
    /// two, [`Follower::pass_over_damage`] behind damage.
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
                Next::Group(commit, end) if self.may_give(&commit)? => {
                    self.enter(commit, end);
                    if self.was_given(&commit) {
                        self.at = self.group.end;
                    }
                    continue;
                }
                Next::Group(..) => None,
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

    /// Whether a group of the segment was given out by the follower that this one goes on for.
    fn was_given(&self, commit: &Commit) -> bool {
        self.given_upto.is_some_and(|(segment_number, upto)| {
            segment_number == self.segment.opening.segment_number && commit.commit_sequence <= upto
        })
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

    /// Whether a group belongs to what this gives out.
    fn may_give(&mut self, commit: &Commit) -> Result<bool, Error> {
        if self.view == View::Published || commit.commit_sequence <= self.durable {
            return Ok(true);
        }
        let opening = &self.segment.opening;
        let mark = watermark::read(&*self.medium, &self.dir)?.newest;
        let mark = mark.filter(|mark| mark.journal_uuid == opening.journal_uuid);
        self.durable = mark.map_or(0, |mark| mark.commit_sequence).max(self.durable);
        Ok(commit.commit_sequence <= self.durable)
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
                        && seal.seal_digest().digest == seal.digest =>
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
            && commit.commit_sequence == self.commit_sequence + 1
            && commit.previous_digest == self.digest
            && commit.record_count == self.seen.records
            && commit.event_count == self.seen.events
            && commit.byte_count == (self.seen.bytes as u64).wrapping_add_signed(self.seen.taken_out)
            && commit.seal_digest().digest == commit.digest
    }

    /// From here on this is the segment.
    fn take_up(&mut self, next: Current) {
        if next.opening.epoch != self.segment.opening.epoch {
            // What was durable before may have been cut off since, and its numbers were given again.
            self.durable = 0;
        }
        self.segment = next;
    }

    /// Goes on with the next segment, if there is one. Whether everything of this one was read its seal says; where it has
    /// none, the next one does.
    fn go_on(&mut self, is_sealed: bool) -> Result<bool, Error> {
        let number = self.segment.opening.segment_number;
        // A recovery that took segments out leaves out their numbers.
        let behind = || -> Result<Option<(u64, String)>, Error> {
            let names = names(&*self.medium, &self.dir)?;
            Ok(names.into_iter().find(|(found, _)| *found > number))
        };
        let Some((found, name)) = behind()? else { return Ok(false) };
        let Some(next) = open_segment(&*self.medium, &self.dir, found, &name)? else { return Ok(false) };
        if next.opening.previous_segment > number {
            // It may have come while the names were read, which then lack some.
            return match behind()? {
                Some((again, _)) if again == found => Err(missing(&self.dir, &self.position(), found)),
                _ => Ok(false),
            };
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
        self.bytes.clear();
        self.seen = Seen::default();
        self.start = JournalHeader::SIZE as u64;
        self.taken_out = 0;
        self.is_sealed = false;
        self.looked_at_names = None;
        Ok(true)
    }
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

/// The segments, in their order.
fn names(medium: &dyn Medium, dir: &Path) -> Result<Vec<(u64, String)>, Error> {
    Ok(directory::segments(medium.list(dir).map_err(Error::io("list", dir))?))
}

/// A segment with its SegmentOpen; `None` if that can't be read.
fn open_segment(medium: &dyn Medium, dir: &Path, number: u64, name: &str) -> Result<Option<Current>, Error> {
    let path = dir.join(name);
    let file = medium.open(&path, false).map_err(Error::io("open", &path))?;
    let file = Bytes::of(file, &path)?;
    let mut bytes = vec![0; JournalHeader::SIZE + control::record_size::<SegmentOpen>()];
    let read = file.read_whole(0, &mut bytes, &path)?;
    let record = Record::parse_verified(bytes.get(JournalHeader::SIZE..read).unwrap_or_default());
    let opening = record.ok().and_then(|record| control::parse::<SegmentOpen>(&record).ok().flatten());
    let opening = opening.filter(|opening| opening.segment_number == number);
    let header = bytes.first_chunk().map(JournalHeader::decode);
    let is_thinned = header.is_some_and(|header| header.flags & FLAG_THINNED != 0);
    Ok(opening.map(|opening| Current { bytes: file, path, opening, is_thinned }))
}

/// Where a journal ends now.
fn end_of(medium: &dyn Medium, dir: &Path) -> Result<Position, Error> {
    let effort = Effort { proof: Proof::Newest, threads: medium.threads() };
    let found = open::examine_dir(medium, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    let tip = found.report.tip.ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
    Ok(Position {
        journal_uuid: tip.journal_uuid,
        segment_number: tip.segment_number,
        offset: tip.end as u64,
        commit_sequence: tip.commit_sequence,
        digest: tip.digest,
        records_given: 0,
        last_event_id: tip.last_event_id,
        behind_event_id: tip.last_event_id,
    })
}

fn withdrawn(path: &Path, position: &Position) -> Error {
    Error::Withdrawn { path: path.to_owned(), offset: position.offset, last_event_id: position.last_event_id }
}

/// Of a position whose segment, or the one behind it, is not there.
fn missing(dir: &Path, position: &Position, first_segment: u64) -> Error {
    Error::Retired {
        dir: dir.to_owned(),
        segment_number: position.segment_number,
        first_segment,
        last_event_id: position.last_event_id,
    }
}
