//! Sidecar files: written when a segment has reached its end, and when one is found without.
//!
//! They are derived, so nothing waits for them and no failure to write one matters: a thread with the lowest priority does
//! it, and what it does not come to is done after the next open. Where a journal has no threads of its own
//! ([`crate::CommitOn::CallersThread`]), [`rebuild_sidecars`] is left to whoever wants them.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::{process, thread};

use semj_index::OwnedSidecar;
use semj_recovery::{Effort, OpenMode, Proof};

use crate::directory;
use crate::error::Error;
use crate::examine;
use crate::medium::{Disk, Map, Medium};
use crate::progress::Progress;
use crate::replace::write_like;
use crate::segment::Segment;
use crate::segment_index;

/// The map of a segment's sidecar. Without one things only take longer.
pub(crate) fn map(medium: &dyn Medium, segment: &Path) -> Option<Box<dyn Map>> {
    medium.open(&directory::sidecar(segment), false).and_then(|file| file.map()).ok()
}

/// Tells what this process makes apart.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// How often one is written whose unfinished file is gone before it has its name.
const ATTEMPTS: usize = 4;

/// A name to make a segment's sidecar under, which nobody else uses.
pub(crate) fn unfinished(segment: &Path) -> PathBuf {
    directory::unfinished_sidecar(segment, process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes a sidecar, in place of one that is there. Its name need not be durable; its bytes are before it has one, because
/// whether there is a sidecar is found out by the head alone, and one that is torn behind it would stay.
fn write(medium: &dyn Medium, segment: &Path, sidecar: &OwnedSidecar) -> Result<PathBuf, Error> {
    let path = directory::sidecar(segment);
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        match write_as(medium, &unfinished(segment), &path, segment, sidecar.as_bytes()) {
            // A writer that opens the journal removes what it takes for left behind.
            Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound && attempts > 0 => {}
            written => return written.map(|()| path),
        }
    }
}

/// Makes a segment's sidecar under one name and gives it another.
pub(crate) fn write_as(
    medium: &dyn Medium,
    unfinished: &Path,
    path: &Path,
    segment: &Path,
    bytes: &[u8],
) -> Result<(), Error> {
    let written = write_like(medium, unfinished, segment, bytes);
    let named =
        written.and_then(|_| medium.rename(unfinished, path).map_err(Error::io("rename", unfinished)));
    named.inspect_err(|_| {
        // What can't be removed is removed by the next open.
        drop(medium.remove(unfinished));
    })
}

/// Writes the sidecar of a segment that has reached its end, unless there is one.
fn write_missing(medium: &dyn Medium, segment: &Segment) -> Result<(), Error> {
    if segment.is_retired() || !segment.is_whole() || segment.index().has_file(segment) {
        return Ok(());
    }
    let sidecar = segment.index().finish(segment)?;
    let path = write(medium, segment.path(), &sidecar)?;
    if segment.is_retired() {
        // Who removed its files may not have found this one yet.
        return match medium.remove(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                Err(Error::Io { operation: "remove", path, source })
            }
            _ => Ok(()),
        };
    }
    if let Some(map) = map(medium, segment.path()) {
        segment.index().written(map);
    }
    tracing::debug!(segment = segment.number(), bytes = sidecar.as_bytes().len(), "sidecar written");
    Ok(())
}

/// Removes sidecars whose segments are gone.
fn remove_orphans(medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
    let names = medium.list(dir).map_err(Error::io("list", dir))?;
    let segments = directory::segments(names.clone());
    for name in names.iter().filter(|name| directory::is_orphan(name, &segments)) {
        let path = dir.join(name);
        medium.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Writes sidecars on a thread of its own.
#[derive(Debug)]
pub(crate) struct Indexer {
    thread: JoinHandle<()>,
    /// Segments that are retired meanwhile are not kept for it.
    queue: mpsc::Sender<Weak<Segment>>,
    is_ending: Arc<AtomicBool>,
}

impl Indexer {
    /// Begins with these segments, which have reached their ends.
    pub(crate) fn start(
        medium: Arc<dyn Medium>,
        dir: PathBuf,
        segments: impl IntoIterator<Item = Arc<Segment>>,
    ) -> Result<Self, Error> {
        let (queue, wanted) = mpsc::channel();
        for segment in segments {
            // The other end is in this function.
            drop(queue.send(Arc::downgrade(&segment)));
        }
        let is_ending = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_ending);
        let of = dir.clone();
        let run = move || {
            medium.give_way();
            if let Err(error) = remove_orphans(&*medium, &of) {
                tracing::warn!(%error, "sidecars of segments that are gone were not removed");
            }
            for segment in wanted {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let Some(segment) = segment.upgrade() else { continue };
                if let Err(error) = write_missing(&*medium, &segment) {
                    tracing::warn!(segment = segment.number(), %error, "sidecar not written");
                }
            }
        };
        let thread = thread::Builder::new().name("semj-indexing".to_owned()).spawn(run);
        let thread = thread.map_err(Error::io("start a thread for", &dir))?;
        Ok(Self { thread, queue, is_ending })
    }

    /// A segment has reached its end.
    pub(crate) fn push(&self, segment: &Arc<Segment>) {
        // If the thread has ended in a panic, there are no sidecars.
        drop(self.queue.send(Arc::downgrade(segment)));
    }

    /// Ends when the segment is done that is worked on.
    pub(crate) fn end(self) {
        self.is_ending.store(true, Ordering::Relaxed);
        drop(self.queue);
        drop(self.thread.join());
    }
}

/// What became of a segment's sidecar.
#[derive(Debug)]
#[non_exhaustive]
pub struct SidecarReport {
    /// The segment's file.
    pub segment: PathBuf,
    /// Bytes of the segment up to its end.
    pub segment_size: u64,
    /// Bytes of the sidecar; 0 where there is none.
    pub sidecar_size: u64,
    /// What it is.
    pub state: SidecarState,
}

/// What a segment's sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SidecarState {
    /// Made from the segment and written.
    Written,
    /// What the segment makes.
    Right,
    /// Not there.
    Missing,
    /// Not there: the newest segment of a journal that was closed gets its sidecar when the journal is next opened for writing.
    Due,
    /// Damaged, of another state of the segment, or not what the segment makes.
    Wrong,
    /// The segment has not reached its end, or is damaged: there has to be none.
    None,
}

/// Makes the sidecars of a journal's segments anew, whatever there is. The journal may be in use: the segment that is
/// written has none until it is full.
///
/// # Errors
///
/// No journal there, damage, an I/O error: the first one, behind all other segments.
pub fn rebuild_sidecars(dir: impl AsRef<Path>) -> Result<Vec<SidecarReport>, Error> {
    rebuild_sidecars_watched(dir, &Progress::default())
}

/// [`rebuild_sidecars`], and how far it has come.
///
/// # Errors
///
/// As [`rebuild_sidecars`].
pub fn rebuild_sidecars_watched(
    dir: impl AsRef<Path>,
    progress: &Progress,
) -> Result<Vec<SidecarReport>, Error> {
    each(&Disk, dir.as_ref(), progress, rebuild)
}

fn rebuild(medium: &dyn Medium, segment: &Path, sidecar: &OwnedSidecar) -> Result<SidecarState, Error> {
    let path = write(medium, segment, sidecar)?;
    match medium.open(segment, false) {
        // It was retired meanwhile, and who removed its files may not have found this one.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            drop(medium.remove(&path));
            Ok(SidecarState::None)
        }
        _ => Ok(SidecarState::Written),
    }
}

/// Holds the sidecars of a journal's segments against the segments. Changes nothing.
///
/// # Errors
///
/// As [`rebuild_sidecars`].
pub fn verify_sidecars(dir: impl AsRef<Path>) -> Result<Vec<SidecarReport>, Error> {
    verify_sidecars_watched(dir, &Progress::default())
}

/// [`verify_sidecars`], and how far it has come.
///
/// # Errors
///
/// As [`rebuild_sidecars`].
pub fn verify_sidecars_watched(
    dir: impl AsRef<Path>,
    progress: &Progress,
) -> Result<Vec<SidecarReport>, Error> {
    each(&Disk, dir.as_ref(), progress, |medium, path, sidecar| {
        Ok(match map(medium, path) {
            None => SidecarState::Missing,
            Some(found) if found.bytes(0..found.size()) == sidecar.as_bytes() => SidecarState::Right,
            Some(_) => SidecarState::Wrong,
        })
    })
}

fn each(
    medium: &dyn Medium,
    dir: &Path,
    progress: &Progress,
    mut act: impl FnMut(&dyn Medium, &Path, &OwnedSidecar) -> Result<SidecarState, Error>,
) -> Result<Vec<SidecarReport>, Error> {
    let effort = Effort { proof: Proof::Newest, threads: medium.threads() };
    let found = examine::examine_dir(medium, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    let newest_is_final = found.report.segments.last().is_some_and(|segment| segment.is_sealed);
    let segments = found.into_segments(medium, dir)?;
    let finals = if newest_is_final { segments.len() } else { segments.len().saturating_sub(1) };
    let mut reports = Vec::with_capacity(segments.len());
    let mut failure = None;
    let is_due = |(place, segment): &(usize, &Arc<Segment>)| *place < finals && segment.is_whole();
    let due = segments.iter().enumerate().filter(is_due);
    progress.begin(due.map(|(_, segment)| segment.end() as u64).sum());
    for (place, segment) in segments.iter().enumerate() {
        let mut report = SidecarReport {
            segment: segment.path().to_owned(),
            segment_size: segment.end() as u64,
            sidecar_size: 0,
            state: SidecarState::None,
        };
        if is_due(&(place, segment)) {
            let made = segment_index::make(segment);
            let done = made.and_then(|sidecar| Ok((act(medium, segment.path(), &sidecar)?, sidecar)));
            progress.advance(segment.end() as u64);
            let (state, sidecar) = match done {
                Ok(done) => done,
                // The others don't depend on it.
                Err(error) => {
                    failure.get_or_insert(error);
                    continue;
                }
            };
            report.state = state;
            if report.state == SidecarState::Missing && place + 1 == segments.len() {
                report.state = SidecarState::Due;
            }
            if !matches!(report.state, SidecarState::Missing | SidecarState::Due | SidecarState::None) {
                report.sidecar_size = sidecar.as_bytes().len() as u64;
            }
        }
        reports.push(report);
    }
    failure.map_or(Ok(reports), Err)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use semj_format::EventType;

    use super::*;
    use crate::event::Event;
    use crate::journal::Journal;
    use crate::options::{CommitOn, Options};

    fn open(dir: &Path) -> Journal {
        let options =
            Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() };
        Journal::open(dir, options).unwrap()
    }

    fn emit(journal: &Journal) {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap();
        journal.rotate().unwrap();
    }

    fn names(dir: &Path, ending: &str) -> Vec<PathBuf> {
        let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
        paths.sort();
        paths
    }

    #[test]
    fn several_may_make_the_same_sidecars_while_a_writer_comes_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        (0..4).for_each(|_| emit(&open(dir)));
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let rebuild = || {
                let mut made = 0;
                while !is_done.load(Ordering::Relaxed) || made == 0 {
                    rebuild_sidecars(dir)?;
                    made += 1;
                }
                Ok::<_, Error>(made)
            };
            let rebuilders = [scope.spawn(rebuild), scope.spawn(rebuild)];
            let opened: Vec<_> = (0..30).map(|_| open(dir).close()).collect();
            is_done.store(true, Ordering::Relaxed);
            assert!(rebuilders.into_iter().all(|of| of.join().unwrap().unwrap() > 0));
            assert!(opened.iter().all(Result::is_ok));
        });
        assert_eq!(names(dir, ".idx.tmp"), [] as [PathBuf; 0]);
        assert!(verify_sidecars(dir).unwrap().iter().all(|sidecar| sidecar.state != SidecarState::Wrong));
    }

    #[test]
    fn a_sidecar_that_can_t_be_made_keeps_no_other_from_being_made() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        (0..3).for_each(|_| emit(&journal));
        journal.close().unwrap();
        let segments = names(dir.path(), ".semj");
        // A directory stands in its place.
        let blocked = directory::sidecar(&segments[0]);
        fs::create_dir_all(blocked.join("somebody's")).unwrap();
        let failed = rebuild_sidecars(dir.path());
        assert!(matches!(failed, Err(Error::Io { operation: "rename", .. })), "{failed:?}");
        let made: Vec<_> = segments.iter().map(|segment| directory::sidecar(segment).is_file()).collect();
        assert_eq!(made, [false, true, true, true]);
        assert_eq!(names(dir.path(), ".idx.tmp"), [] as [PathBuf; 0]);
    }

    #[test]
    fn what_a_process_that_is_gone_has_left_of_a_sidecar_is_removed_by_the_next_writer() {
        let dir = tempfile::tempdir().unwrap();
        emit(&open(dir.path()));
        let segment = names(dir.path(), ".semj").remove(0);
        fs::write(directory::unfinished_sidecar(&segment, 1, 7), b"half").unwrap();
        fs::write(segment.with_extension("idx.tmp"), b"half").unwrap();
        fs::write(dir.path().join("notes.idx.tmp"), b"somebody's").unwrap();
        drop(open(dir.path()));
        assert_eq!(names(dir.path(), ".idx.tmp"), [dir.path().join("notes.idx.tmp")]);
    }
}
