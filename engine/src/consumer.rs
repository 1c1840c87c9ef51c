//! Named consumers: followers whose position is kept.
//!
//! A consumer has a file of its own in the journal's `consumers` directory, which is replaced as a whole: written under
//! another name, synced, renamed, and the directory synced. After a crash it is the old one or the new one. Retention asks
//! these files what is still needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{io, process};

use semj_format::consumer::{self, ConsumerMark, MAGIC, VERSION};

use crate::directory;
use crate::error::Error;
use crate::follow::{self, Follower, Position, Start, View};
use crate::medium::{Disk, LockOutcome, Medium};
use crate::reader::Located;

/// A follower that has a name, and goes on behind what it has saved, at the next start of the program too.
///
/// Events are given at least once: after a crash those come again that were given after the last [`Consumer::save`].
/// What a consumer has not saved yet is kept by [`crate::Retention`], unless that is told otherwise.
#[derive(Debug)]
pub struct Consumer {
    follower: Follower,
    medium: Arc<dyn Medium>,
    dir: PathBuf,
    name: String,
    /// Who has opened it. One that was forked from there has the same lock, and is not to write.
    process_id: u32,
    /// The lock that nobody else has this name with.
    _lock: Box<dyn std::fmt::Debug + Send + Sync>,
}

/// What a consumer has saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerState {
    /// Its name.
    pub name: String,
    /// How far it has come.
    pub position: Position,
    /// When it said so: nanoseconds since 1970.
    pub saved_at_ns: i64,
}

impl ConsumerState {
    /// The consumers of a journal, by name, as [`consumers`] gives them: of one whose file is damaged the error in its place.
    ///
    /// # Errors
    ///
    /// An I/O error.
    pub fn all(dir: impl AsRef<Path>) -> Result<Vec<Result<Self, Error>>, Error> {
        states_on(&Disk, dir.as_ref())
    }
}

impl Consumer {
    /// Goes on behind what the consumer of this name has saved; a new one begins with the oldest event, and that is saved
    /// at once: from here on retention keeps what it has not read. Only what a rotation had decided on before, and is about to say
    /// on the disk, may still go: [`Error::Retired`] tells of it, if anything was read by then. [`crate::Journal::consumer`] waits for that.
    ///
    /// # Errors
    ///
    /// [`Error::ConsumerName`]; [`Error::Locked`] if the name is in use; [`Error::ConsumerMark`] for a damaged file, which
    /// [`Consumer::remove`] takes away; what [`Follower::open`] gives: where the journal does not have the position any more,
    /// [`Consumer::open_past_loss`] goes on.
    pub fn open(dir: impl AsRef<Path>, name: &str, view: View) -> Result<Self, Error> {
        Self::open_on(Arc::new(Disk), dir.as_ref(), name, view)
    }

    /// [`Consumer::open`]; and where the journal does not have the position any more, it goes on with what there is behind it:
    /// see [`Start::AtOrBehind`]. How much was lost the ids of [`Consumer::position`] and of the next event tell.
    ///
    /// # Errors
    ///
    /// As [`Consumer::open`]; of those for a position that the journal does not have only [`Error::Withdrawn`], and only for
    /// another journal.
    pub fn open_past_loss(dir: impl AsRef<Path>, name: &str, view: View) -> Result<Self, Error> {
        Self::open_from(Arc::new(Disk), dir.as_ref(), name, view, Start::AtOrBehind, || ())
    }

    /// [`Consumer::open`] on another medium.
    ///
    /// # Errors
    ///
    /// As [`Consumer::open`].
    pub fn open_on(medium: Arc<dyn Medium>, dir: &Path, name: &str, view: View) -> Result<Self, Error> {
        Self::open_from(medium, dir, name, view, Start::At, || ())
    }

    /// The same from where `start_at` says. `settle` returns when the disk has what rotations had decided to retire before the call.
    pub(crate) fn open_from(
        medium: Arc<dyn Medium>,
        dir: &Path,
        name: &str,
        view: View,
        start_at: fn(Position) -> Start,
        settle: impl FnOnce(),
    ) -> Result<Self, Error> {
        check_name(name)?;
        // Where there is nothing to be read nothing is left behind.
        follow::expect_journal(&*medium, dir)?;
        let consumers = directory::consumers(dir);
        medium.create_dir(&consumers).map_err(Error::io("create", &consumers))?;
        let lock = lock(&*medium, &consumers, name)?;
        let begin = |start, saved_at_ns| Follower::begin(&medium, dir, start, saved_at_ns, view);
        let saved = read(&*medium, &consumers.join(name))?;
        let follower = match &saved {
            Some(mark) => begin(start_at(position_of(mark)), Some(mark.wall_clock_ns))?,
            None => begin(Start::Beginning, None)?,
        };
        let mut consumer = Self {
            follower,
            medium: Arc::clone(&medium),
            dir: consumers,
            name: name.to_owned(),
            process_id: process::id(),
            _lock: lock,
        };
        if saved.is_none() {
            consumer.save()?;
            // What it begins with may have been retired before that was saved.
            settle();
            let again = begin(Start::Beginning, None)?;
            if again.position() != consumer.position() {
                consumer.follower = again;
                consumer.save()?;
            }
        }
        Ok(consumer)
    }

    /// The next event: see [`Follower::next`].
    ///
    /// # Errors
    ///
    /// As [`Follower::next`].
    pub fn next(&mut self, patience: Option<Duration>) -> Result<Option<Located<'_>>, Error> {
        self.follower.next(patience)
    }

    /// Goes on behind damage that a salvage has recorded: see [`Follower::pass_over_damage`].
    ///
    /// # Errors
    ///
    /// As [`Follower::pass_over_damage`].
    pub fn pass_over_damage(&mut self) -> Result<bool, Error> {
        self.follower.pass_over_damage()
    }

    /// Saves that everything that was given up to now is done with. Durable on return.
    ///
    /// # Errors
    ///
    /// An I/O error; [`Error::Forked`]. What was saved before stays.
    pub fn save(&mut self) -> Result<(), Error> {
        if process::id() != self.process_id {
            return Err(Error::Forked { opened_by: self.process_id });
        }
        let position = self.follower.position();
        let mark = ConsumerMark {
            magic: MAGIC,
            version: VERSION,
            journal_uuid: position.journal_uuid,
            segment_number: position.segment_number,
            offset: position.offset,
            commit_sequence: position.commit_sequence,
            last_event_id: position.last_event_id,
            behind_event_id: position.behind_event_id,
            digest: position.digest,
            records_given: position.records_given,
            reserved: 0,
            wall_clock_ns: self.medium.clock_anchor().wall_clock_ns,
            more_reserved: [0; 12],
            checksum: 0,
        }
        .with_checksum();
        let path = self.dir.join(&self.name);
        let unfinished = self.dir.join(format!("{}.tmp", self.name));
        let file = self.medium.create(&unfinished, ConsumerMark::SIZE as u64);
        let file = file.map_err(Error::io("create", &unfinished))?;
        file.write_at(0, &mark.encode()).map_err(Error::io("write", &unfinished))?;
        file.sync_all().map_err(Error::io("sync", &unfinished))?;
        self.medium.rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
        self.medium.sync_dir(&self.dir).map_err(Error::io("sync", &self.dir))
    }

    /// How far this has come, saved or not.
    pub fn position(&self) -> Position {
        self.follower.position()
    }

    /// Forgets a consumer. Whether there was one. The file of its lock stays: somebody may be about to take the lock, and would
    /// have the name together with who makes the file anew.
    ///
    /// # Errors
    ///
    /// [`Error::ConsumerName`]; [`Error::Locked`] if the name is in use: what is saved next would bring it back. An I/O error.
    pub fn remove(dir: impl AsRef<Path>, name: &str) -> Result<bool, Error> {
        check_name(name)?;
        let consumers = directory::consumers(dir.as_ref());
        let path = consumers.join(name);
        let names = match Disk.list(&consumers) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("list", &consumers))?,
        };
        if !names.iter().any(|found| found == name) {
            return Ok(false);
        }
        let _lock = lock(&Disk, &consumers, name)?;
        match Disk.remove(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(Error::io("remove", &path))?,
        }
        Disk.sync_dir(&consumers).map_err(Error::io("sync", &consumers))?;
        Ok(true)
    }
}

/// The consumers of a journal, by name.
///
/// # Errors
///
/// [`Error::ConsumerMark`] for a damaged file, which hides the others: see [`ConsumerState::all`]. An I/O error.
pub fn consumers(dir: impl AsRef<Path>) -> Result<Vec<ConsumerState>, Error> {
    consumers_on(&Disk, dir.as_ref())
}

pub(crate) fn consumers_on(medium: &dyn Medium, dir: &Path) -> Result<Vec<ConsumerState>, Error> {
    states_on(medium, dir)?.into_iter().collect()
}

/// Each consumer's state, or why it is not known.
fn states_on(medium: &dyn Medium, dir: &Path) -> Result<Vec<Result<ConsumerState, Error>>, Error> {
    let dir = directory::consumers(dir);
    let mut names = match medium.list(&dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", &dir))?,
    };
    names.retain(|name| consumer::is_name(name));
    names.sort_unstable();
    let state = |name: String| {
        let mark = read(medium, &dir.join(&name)).transpose()?;
        let of = |mark: ConsumerMark| ConsumerState {
            name,
            position: position_of(&mark),
            saved_at_ns: mark.wall_clock_ns,
        };
        Some(mark.map(of))
    };
    // One that was removed meanwhile is none.
    Ok(names.into_iter().filter_map(state).collect())
}

/// The lowest event id that a consumer still needs; `None` where there is no consumer.
pub(crate) fn lowest_needed(medium: &dyn Medium, dir: &Path) -> Result<Option<u64>, Error> {
    let consumers = consumers_on(medium, dir)?;
    Ok(consumers.iter().map(|consumer| consumer.position.behind_event_id.saturating_add(1)).min())
}

/// Has a name for oneself.
fn lock(
    medium: &dyn Medium,
    consumers: &Path,
    name: &str,
) -> Result<Box<dyn std::fmt::Debug + Send + Sync>, Error> {
    let path = consumers.join(format!("{name}.lock"));
    match medium.lock(&path).map_err(Error::io("lock", &path))? {
        LockOutcome::Acquired(guard) => Ok(guard),
        LockOutcome::Held(pid) => Err(Error::Locked { dir: consumers.join(name), pid }),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    if consumer::is_name(name) { Ok(()) } else { Err(Error::ConsumerName { name: name.to_owned() }) }
}

fn read(medium: &dyn Medium, path: &Path) -> Result<Option<ConsumerMark>, Error> {
    let file = match medium.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    // A byte more than it has.
    let mut bytes = [0; ConsumerMark::SIZE + 1];
    let mut size = 0;
    while let Some(rest) = bytes.get_mut(size..).filter(|rest| !rest.is_empty()) {
        match file.read_at(size as u64, rest).map_err(Error::io("read", path))? {
            0 => break,
            read => size += read,
        }
    }
    let mark = ConsumerMark::parse(bytes.get(..size).unwrap_or_default());
    mark.map(Some).map_err(|source| Error::ConsumerMark { path: path.to_owned(), source })
}

fn position_of(mark: &ConsumerMark) -> Position {
    Position {
        journal_uuid: mark.journal_uuid,
        segment_number: mark.segment_number,
        offset: mark.offset,
        commit_sequence: mark.commit_sequence,
        digest: mark.digest,
        records_given: mark.records_given,
        last_event_id: mark.last_event_id,
        behind_event_id: mark.behind_event_id,
    }
}
