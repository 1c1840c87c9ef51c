//! What one process asks of the writer of a journal, which is another: to end its segment, to let old ones go, and to
//! take up files that were compacted.
//!
//! The request is a small file, made whole under another name. The writer looks for it now and then and does what it says. When that
//! is durable, it writes so into the file, which the asker still has open, and removes it; so it does with one that it can't do or does
//! not understand, which it turns down. Who comes while there is one waits for it to be answered.

use std::fmt::Write as _;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};

use semj_recovery::{Effort, OpenMode, Proof};

use crate::directory;
use crate::error::Error;
use crate::examine;
use crate::journal::Journal;
use crate::medium::{Disk, File, LockOutcome, Medium};
use crate::options::{CommitOn, Options};
use crate::retention::{self, Needs, Retention};
use crate::writer::SEGMENT_SIZE_MIN;

/// The longest request that is read.
const SIZE_MAX: usize = 4096;
/// How often somebody who waits for the answer looks for it.
const POLL: Duration = Duration::from_millis(20);

/// Tells the requests of this process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Stands at the beginning of a request that was done. One that is gone without an answer was removed by somebody else.
const DONE: &[u8] = b"+\n";
/// Stands at the beginning of a request that was not done: a new writer has found it, or it could not be done.
const TURNED_DOWN: &[u8] = b"-\n";

/// How long the writer has to let go of files that were compacted.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request's first line: to begin a new segment, and to retire old ones by limits.
const ROTATE: &str = "rotate";
/// And: to look for segments that have a compressed file now.
const ADOPT: &str = "adopt";

/// Who asks, which says nothing to the writer.
const ASKER: &str = "asker";

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// To begin a new segment, and to retire old ones by these limits.
    Rotate(Option<Retention>),
    /// To take up files that were compacted.
    Adopt,
}

impl Request {
    /// As the file has it: a line for each thing that is said, and one that tells it from the requests of others.
    fn encode(&self, asker: u64) -> String {
        let (first, retention) = match self {
            Self::Rotate(retention) => (ROTATE, retention.as_ref()),
            Self::Adopt => (ADOPT, None),
        };
        let mut text = format!("{first}\n{ASKER} {asker}\n");
        if let Some(retention) = retention {
            let age_ns = retention.max_age.map(|age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
            let limits = [
                ("max_bytes", retention.max_bytes),
                ("max_age_ns", age_ns),
                ("max_segments", retention.max_segments),
                ("keeps_from", retention.keeps_from),
                ("ignores_needs", retention.ignores_needs.then_some(1)),
            ];
            for (name, value) in limits {
                if let Some(value) = value {
                    // Writing into a string does not fail.
                    let _: std::fmt::Result = writeln!(text, "{name} {value}");
                }
            }
        }
        text
    }

    /// `None` if it says something that is not known here.
    fn parse(text: &str) -> Option<Self> {
        let (first, rest) = text.split_once('\n')?;
        let mut retention = Retention::default();
        for line in rest.lines() {
            let (name, value) = line.split_once(' ')?;
            let value = value.parse().ok()?;
            match name {
                "max_bytes" => retention.max_bytes = Some(value),
                "max_age_ns" => retention.max_age = Some(Duration::from_nanos(value)),
                "max_segments" => retention.max_segments = Some(value),
                "keeps_from" => retention.keeps_from = Some(value),
                "ignores_needs" => retention.ignores_needs = value == 1,
                ASKER => {}
                _ => return None,
            }
        }
        match first {
            ROTATE => Some(Self::Rotate(retention.is_any().then_some(retention))),
            ADOPT if retention == Retention::default() => Some(Self::Adopt),
            _ => None,
        }
    }
}

/// A request, and what its file says.
pub(crate) struct Asked {
    pub(crate) request: Request,
    bytes: Vec<u8>,
}

/// What is asked of the writer in a directory, if anything is; what can't be read or understood is told and turned down.
pub(crate) fn take(medium: &dyn Medium, dir: &Path) -> Option<Asked> {
    let path = dir.join(directory::REQUEST);
    let bytes = read(&*medium.open(&path, false).ok()?).unwrap_or_default();
    let request = std::str::from_utf8(&bytes).ok().and_then(Request::parse);
    let Some(request) = request else {
        tracing::warn!(path = %path.display(), "a request that can't be understood is turned down");
        answer(medium, dir, &bytes, Answer::TurnedDown);
        return None;
    };
    Some(Asked { request, bytes })
}

impl Asked {
    /// Tells whoever asked that it was done, or that it was not.
    pub(crate) fn answer<T>(&self, medium: &dyn Medium, dir: &Path, done: &Result<T, Error>) {
        let answer_is = if done.is_ok() { Answer::Done } else { Answer::TurnedDown };
        answer(medium, dir, &self.bytes, answer_is);
    }
}

/// What a request's file says, as far as it is looked at.
fn read(file: &dyn File) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; SIZE_MAX];
    let mut size = 0;
    loop {
        match file.read_at(size as u64, bytes.get_mut(size..).unwrap_or_default())? {
            0 => break,
            read => size += read,
        }
    }
    bytes.truncate(size);
    Ok(bytes)
}

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Done,
    TurnedDown,
}

/// Answers a request that says this. Who asked may have lost patience, and another one asks by now.
fn answer(medium: &dyn Medium, dir: &Path, asked: &[u8], answer: Answer) {
    let path = dir.join(directory::REQUEST);
    // The file of who may not be told is still there to be removed.
    if let Ok(file) = medium.open(&path, true).or_else(|_| medium.open(&path, false)) {
        if read(&*file).is_ok_and(|found| found != asked) {
            return;
        }
        tell(&*file, answer);
    }
    match medium.remove(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a request was answered and could not be removed");
        }
        _ => {}
    }
}

/// Writes the answer into a request's file, which whoever asked still has open.
fn tell(file: &dyn File, answer: Answer) {
    let text = match answer {
        Answer::Done => DONE,
        Answer::TurnedDown => TURNED_DOWN,
    };
    if let Err(error) = file.write_at(0, text) {
        tracing::warn!(%error, "who asked for something can't be told whether it was done");
    }
}

/// Tells whoever asked a writer that is gone that nobody did it.
pub(crate) fn turn_down(medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
    let path = dir.join(directory::REQUEST);
    if let Ok(file) = medium.open(&path, true) {
        tell(&*file, Answer::TurnedDown);
    }
    medium.remove(&path).map_err(Error::io("remove", &path))
}

/// Ends the active segment of the journal in a directory and begins the next, whoever writes to it: by its writer, if it has
/// one, which gets so much time, or else by opening it. Gives whether there was anything to end: a journal that is closed has
/// no active segment.
///
/// # Errors
///
/// No journal there; [`Error::Unheeded`] if its writer does not answer; what [`Journal::open`] and [`Journal::close`] give.
pub fn request_rotation(dir: impl AsRef<Path>, patience: Duration) -> Result<bool, Error> {
    let dir = dir.as_ref();
    let effort = Effort { proof: Proof::Newest, threads: Disk.threads() };
    let found = examine::examine_dir(&Disk, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    // Between two segments a journal that is written looks closed too.
    if found.report.is_closed() && writer(&Disk, dir)?.is_none() {
        return Ok(false);
    }
    drop(found);
    open_or_ask(dir, small(), &Request::Rotate(None), patience)?;
    Ok(true)
}

/// Applies a retention to the journal in a directory, whoever writes to it, as [`request_rotation`] does. Where limits are
/// passed ([`crate::plan_retention`]), the journal gets a new segment, which says what was retired; else nothing is done.
/// What its writer was told to keep for others stays; `needs` is for a journal without a writer.
///
/// # Errors
///
/// As [`request_rotation`].
pub fn request_retention(
    dir: impl AsRef<Path>,
    retention: &Retention,
    needs: Option<Needs>,
    patience: Duration,
) -> Result<(), Error> {
    let dir = dir.as_ref();
    // It fails where there is no journal: none is to begin there.
    if retention::plan_retention_on(&Disk, dir, retention, needs.as_ref())?.retiring.is_empty() {
        return Ok(());
    }
    let request = Request::Rotate(Some(retention.clone()));
    open_or_ask(dir, Options { retention: retention.clone(), needs, ..small() }, &request, patience)
}

/// Tells the writer of a journal, if it has one, that segments have compressed files now. Gives whether nobody keeps those of
/// before: `false` if the writer does not answer.
pub(crate) fn tell_of_compaction(medium: &dyn Medium, dir: &Path) -> Result<bool, Error> {
    match writer(medium, dir)? {
        None => Ok(true),
        Some(pid) => match ask(medium, dir, &Request::Adopt, PATIENCE, pid) {
            Err(Error::Unheeded { .. }) => Ok(false),
            answered => answered.map(|_| true),
        },
    }
}

/// Whether a process has the journal open for writing, and which one, where that is known.
fn writer(medium: &dyn Medium, dir: &Path) -> Result<Option<Option<u32>>, Error> {
    let path = dir.join(directory::LOCK);
    match medium.lock(&path).map_err(Error::io("lock", &path))? {
        LockOutcome::Acquired(_) => Ok(None),
        LockOutcome::Held(pid) => Ok(Some(pid)),
    }
}

/// Whether a process has the journal open for writing. Who may not ask takes it that none has.
pub(crate) fn has_writer(medium: &dyn Medium, dir: &Path) -> bool {
    medium.is_locked(&dir.join(directory::LOCK)).unwrap_or(false)
}

/// For an open that writes no events.
fn small() -> Options {
    Options {
        segment_size: SEGMENT_SIZE_MIN,
        buffer_events: 64,
        commit_on: CommitOn::CallersThread,
        ..Options::default()
    }
}

fn open_or_ask(dir: &Path, options: Options, request: &Request, patience: Duration) -> Result<(), Error> {
    let until = Instant::now().checked_add(patience);
    loop {
        let pid = match Journal::open(dir, options.clone()) {
            Ok(journal) => return journal.close().map(drop),
            Err(Error::Locked { pid, .. }) => pid,
            Err(error) => return Err(error),
        };
        let left = until.map_or(patience, |until| until.saturating_duration_since(Instant::now()));
        if ask(&Disk, dir, request, left, pid)? == Heeded::Done {
            return Ok(());
        }
    }
}

/// What became of a request that was not turned down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Heeded {
    Done,
    /// The writer has ended without having seen it.
    WriterIsGone,
}

/// Asks the writer and waits.
fn ask(
    medium: &dyn Medium,
    dir: &Path,
    request: &Request,
    patience: Duration,
    pid: Option<u32>,
) -> Result<Heeded, Error> {
    let path = dir.join(directory::REQUEST);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let unfinished = dir.join(directory::unfinished_request(process::id(), number));
    let text = request.encode(u64::from(process::id()) << 32 | number & u64::from(u32::MAX));
    let file = medium.create(&unfinished, text.len() as u64).map_err(Error::io("create", &unfinished))?;
    file.write_at(0, text.as_bytes()).map_err(Error::io("write", &unfinished))?;
    // The writer writes into it where it can't do it.
    if let Err(error) = medium.take_after(&unfinished, &dir.join(directory::LOCK)) {
        tracing::debug!(%error, path = %unfinished.display(), "it stays whose it is");
    }
    let until = Instant::now().checked_add(patience);
    let has_time = || until.is_none_or(|until| Instant::now() < until);
    // A link takes nobody's place: whose request were overwritten would take its disappearing for the answer.
    let asked = loop {
        match medium.link(&unfinished, &path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && !has_writer(medium, dir) => {
                break Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists && has_time() => {
                thread::sleep(POLL);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                break Err(Error::Unheeded { dir: dir.to_owned(), pid });
            }
            linked => break linked.map(|()| true).map_err(Error::io("link", &unfinished)),
        }
    };
    let removed = medium.remove(&unfinished).map_err(Error::io("remove", &unfinished));
    let is_asked = asked.and_then(|is_asked| removed.map(|()| is_asked))?;
    if !is_asked {
        return Ok(Heeded::WriterIsGone);
    }
    // Another's may be there as soon as this one is answered.
    let is_there = || match medium.open(&path, false).and_then(|file| read(&*file)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        found => found.map(|found| found == text.as_bytes()).map_err(Error::io("read", &path)),
    };
    loop {
        let is_last_look = !has_time();
        thread::sleep(POLL);
        if !is_there()? {
            return match read(&*file).map_err(Error::io("read", &unfinished))?.starts_with(DONE) {
                true => Ok(Heeded::Done),
                false => Err(Error::Unheeded { dir: dir.to_owned(), pid }),
            };
        }
        if is_last_look || !has_writer(medium, dir) {
            break;
        }
    }
    // Nobody shall find it later. If it is answered by now it was heeded after all.
    let removed = medium.remove(&path);
    if read(&*file).is_ok_and(|found| found.starts_with(DONE)) {
        return Ok(Heeded::Done);
    }
    match removed {
        Err(source) if source.kind() != ErrorKind::NotFound => {
            Err(Error::Io { operation: "remove", path, source })
        }
        _ if !has_writer(medium, dir) => Ok(Heeded::WriterIsGone),
        _ => Err(Error::Unheeded { dir: dir.to_owned(), pid }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_the_same_on_the_other_side() {
        let retention = Retention {
            max_bytes: Some(1 << 40),
            max_age: Some(Duration::from_nanos(86_400_000_000_001)),
            max_segments: Some(3),
            keeps_from: Some(7),
            ignores_needs: true,
        };
        let some = Retention { max_segments: Some(1), ..Retention::default() };
        for retention in [None, Some(some), Some(retention)] {
            let request = Request::Rotate(retention);
            assert_eq!(Request::parse(&request.encode(u64::MAX)), Some(request));
        }
        assert_eq!(Request::parse(&Request::Adopt.encode(7)), Some(Request::Adopt));
        assert_ne!(Request::Adopt.encode(7), Request::Adopt.encode(8));
        for other in [
            "",
            "rotate",
            "stop\n",
            "adopt\nmax_bytes 1\n",
            "rotate\nmax_bytes\n",
            "rotate\nmax_bytes x\n",
            "rotate\nmin_bytes 1\n",
        ] {
            assert_eq!(Request::parse(other), None, "{other:?}");
        }
    }
}
