//! A journal from an archive.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::path::Path;

use semj::blocks::unpack;
use semj::format::WatermarkFile;
use semj::medium::{Disk, Medium as _};
use semj::recovery::{FaultKind, Scanner, retired_before};
use semj::{LOCK, OpenMode, Report, UNRETIRED, examine_journal, examine_unmarked};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, Sidecar, hex};
use crate::sidecar;

/// What is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// Segments by their numbers; all where there is none. Where some are left out, what comes is for reading only.
    pub segments: Option<RangeInclusive<u64>>,
    /// Whether segments come too that the journal has retired. What comes then is for reading only.
    pub with_retired: bool,
}

/// What a fetch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FetchReport {
    /// Segments that were downloaded.
    pub fetched: u64,
    /// Bytes of them.
    pub bytes_fetched: u64,
    /// Segments that an earlier fetch, which did not come to its end, has downloaded.
    pub found: u64,
    /// Events that there are now.
    pub events: u64,
}

impl Archive {
    /// Makes a journal in a directory that has none, or goes on with what an earlier fetch has begun there. Each object is held
    /// against its SHA-256, and the whole is verified in the end. Until then, and for good where it is a part of the journal or has
    /// what that has retired, a file [`UNRETIRED`] says that it is for reading. A later call without these options makes the
    /// journal of it: what that has retired is removed from the directory then, and stays in the archive.
    ///
    /// # Errors
    ///
    /// No archive, something else in the directory, damage, the storage, a file on this side. What was fetched stays, and the
    /// same call goes on with it, whatever the journal has retired meanwhile.
    pub fn fetch(
        &self,
        dir: &Path,
        options: &FetchOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<FetchReport, Error> {
        let manifest = self.existing_manifest()?;
        let names = match Disk.list(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(failed("list", dir))?,
        };
        let is_marked = names.iter().any(|name| name == UNRETIRED);
        let is_asked = |entry: &&Entry| options.segments.as_ref().is_none_or(|of| of.contains(&entry.number));
        let is_retired = |entry: &&Entry| entry.number <= manifest.retired_upto;
        let asked: Vec<_> = manifest.segments.iter().filter(is_asked).collect();
        let mut kept = manifest.segments.iter().filter(|entry| !is_retired(entry)).peekable();
        let is_all =
            options.segments.is_none() || kept.peek().is_some() && kept.all(|entry| is_asked(&entry));
        let is_part = !is_all || options.with_retired && asked.iter().any(is_retired);
        // A part goes on where it was begun, though the journal has retired that since.
        let is_there = |entry: &&&Entry| names.iter().any(|name| is_its(entry, name));
        let begun = asked.iter().find(is_there).filter(|_| is_part && is_marked).map(|entry| entry.number);
        let is_wanted = |entry: &&Entry| {
            options.with_retired || !is_retired(entry) || begun.is_some_and(|begun| begun <= entry.number)
        };
        let wanted: Vec<_> = asked.iter().copied().filter(is_wanted).collect();
        if wanted.is_empty() {
            let number = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.number);
            return Err(Error::NoSegment {
                url: self.url().to_owned(),
                first: number(manifest.segments.first()),
                last: number(manifest.segments.last()),
                retired_upto: manifest.retired_upto,
            });
        }
        Disk.create_dir(dir).map_err(failed("create", dir))?;
        // What the journal has retired since is still of it.
        let of_it = if is_part { &wanted } else { &asked };
        let is_ours = |name: &String| {
            name.ends_with(".tmp")
                || name == UNRETIRED
                // Who tried to write to it was refused.
                || is_marked && name == LOCK
                || of_it.iter().any(|entry| is_its(entry, name))
        };
        if !names.iter().all(is_ours) {
            return Err(semj::Error::NotEmpty { dir: dir.to_owned() }.into());
        }
        let total = wanted.iter().map(|entry| entry.size).sum();
        let mut fetch = Fetch {
            archive: self,
            dir,
            names: &names,
            is_marked,
            is_sure: false,
            state: Progress { done: 0, total },
            progress,
            report: FetchReport::default(),
        };
        fetch.tell();
        if is_part {
            // Nobody shall take them for what is left of a removal.
            fetch.mark()?;
        }
        for entry in &wanted {
            fetch.bring(entry)?;
        }
        match is_part {
            true => fetch.verify_part()?,
            false => {
                let sooner = sooner(dir, &manifest, &wanted)?;
                if sooner.iter().all(is_asked) {
                    fetch.state.total += sooner.iter().map(|entry| entry.size).sum::<u64>();
                    for entry in sooner {
                        fetch.bring(entry)?;
                    }
                    fetch.verify_whole(&manifest, options.segments.is_some())?;
                } else {
                    fetch.verify_part()?;
                }
            }
        }
        let fetched = fetch.report;
        tracing::info!(?fetched, url = self.url(), "fetched");
        Ok(fetched)
    }

    /// Makes the file of a segment's sidecar. Its bytes are on the disk before it has its name: whether there is a sidecar is found
    /// out by its head alone, and one that is torn behind it would stay.
    fn fetch_sidecar(&self, dir: &Path, name: &str, entry: &Sidecar) -> Result<(), Error> {
        let packed = self.read_whole(&entry.object, entry.size, &entry.sha256)?;
        let bytes = sidecar::unpack(&packed, entry).map_err(|what| self.damaged(&entry.object, what))?;
        let (path, unfinished) = (dir.join(name), dir.join(format!("{name}.tmp")));
        let write = || {
            let file = Disk.create(&unfinished, bytes.len() as u64)?;
            file.write_at(0, &bytes)?;
            file.sync_all()?;
            Disk.rename(&unfinished, &path)
        };
        write().map_err(|source| Error::File { operation: "write", path: unfinished.clone(), source })
    }

    fn fetch_segment(&self, dir: &Path, entry: &Entry, advance: &mut dyn FnMut(u64)) -> Result<(), Error> {
        let damaged = |what| self.damaged(&entry.object, what);
        let (path, unfinished) = (dir.join(&entry.name), dir.join(format!("{}.tmp", entry.name)));
        let failed = |operation| failed(operation, &unfinished);
        let file = Disk.create(&unfinished, entry.size).map_err(failed("create"))?;
        let mut hash = Sha256::new();
        let mut at = 0;
        self.storage.stream(&entry.object, |piece| {
            if at + piece.len() as u64 > entry.size {
                return Err(damaged(format!("more than {} bytes", entry.size)));
            }
            hash.update(piece);
            file.write_at(at, piece).map_err(failed("write"))?;
            at += piece.len() as u64;
            advance(piece.len() as u64);
            Ok(())
        })?;
        let sha256 = hex(&hash.finalize());
        if (at, &sha256) != (entry.size, &entry.sha256) {
            return Err(damaged(format!("{at} bytes with SHA-256 {sha256}, expected {}", entry.sha256)));
        }
        file.sync_all().map_err(failed("sync"))?;
        Disk.rename(&unfinished, &path).map_err(failed("rename"))?;
        Disk.sync_dir(dir).map_err(failed("sync the directory of"))
    }
}

/// A fetch that goes on.
struct Fetch<'a> {
    archive: &'a Archive,
    dir: &'a Path,
    /// What was in the directory.
    names: &'a [String],
    /// Whether it says that it is for reading.
    is_marked: bool,
    /// Whether it says so on the disk too: an earlier call may not have come to that.
    is_sure: bool,
    state: Progress,
    progress: &'a mut dyn FnMut(Progress),
    report: FetchReport,
}

impl Fetch<'_> {
    fn tell(&mut self) {
        (self.progress)(self.state);
    }

    /// Has the directory say that it is for reading. Durable on return.
    fn mark(&mut self) -> Result<(), Error> {
        let path = self.dir.join(UNRETIRED);
        let marker = Disk.create(&path, 0).map_err(failed("create", &path))?;
        marker.sync_all().map_err(failed("sync", &path))?;
        self.sync_dir()?;
        (self.is_marked, self.is_sure) = (true, true);
        Ok(())
    }

    fn sync_dir(&self) -> Result<(), Error> {
        Disk.sync_dir(self.dir).map_err(failed("sync", self.dir))
    }

    /// Downloads a segment and its sidecar, unless it is there.
    fn bring(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.names.contains(&entry.name) && is_there(self.dir, entry)? {
            self.report.found += 1;
            self.state.done += entry.size;
            self.tell();
            return Ok(());
        }
        // Before the first one that is missing. Without it the first segments are a journal that a writer would go on with. One
        // that lacks none may be in use by now, and stays as it is.
        if !self.is_sure {
            self.mark()?;
        }
        // Before the segment, so that one that is there has it too.
        if let Some(sidecar) = &entry.sidecar {
            self.archive.fetch_sidecar(self.dir, &entry.sidecar_name(), sidecar)?;
        }
        let (state, progress) = (&mut self.state, &mut self.progress);
        self.archive.fetch_segment(self.dir, entry, &mut |bytes| {
            state.done += bytes;
            progress(*state);
        })?;
        self.report.fetched += 1;
        self.report.bytes_fetched += entry.size;
        Ok(())
    }

    /// Proves a copy that is for reading.
    fn verify_part(&mut self) -> Result<(), Error> {
        if !self.is_sure {
            self.mark()?;
        }
        let report = examine_journal(self.dir, OpenMode::Strict)?;
        if !report.is_whole() {
            return Err(self.damaged(report));
        }
        self.report.events = report.events();
        Ok(())
    }

    /// Proves what is to be a journal that can be gone on with, and has it be one.
    ///
    /// It is examined as it will be opened, while the directory still says that it is for reading. What is removed then is what the
    /// journal that was proven does not begin with any more: no examination looks at it. So there is nothing to prove once more
    /// when the mark is gone, and a crash before leaves what the same call completes.
    fn verify_whole(&mut self, manifest: &Manifest, may_be_part: bool) -> Result<(), Error> {
        let report = examine_unmarked(self.dir, OpenMode::Strict)?;
        if !report.is_whole() {
            if may_be_part {
                return self.verify_part();
            }
            let missing = report.segments.iter().find_map(|segment| match segment.fault?.kind {
                FaultKind::MissingSegment { segment_number } => Some(segment_number),
                _ => None,
            });
            return Err(match missing.filter(|number| *number <= manifest.retired_upto) {
                Some(number) => Error::Unsaid { url: self.archive.url().to_owned(), number },
                None => self.damaged(report),
            });
        }
        debug_assert_eq!(report.watermark, WatermarkFile::default());
        self.report.events = report.events();
        let retired_upto = report.retired.map_or(0, |retired| retired.segment_number);
        self.remove_retired(manifest.segments.iter().filter(|entry| entry.number <= retired_upto))?;
        // All names, those too that an earlier call gave and did not come to sync: without one of them the journal would seem to
        // end sooner.
        self.sync_dir()?;
        if self.is_marked {
            let path = self.dir.join(UNRETIRED);
            Disk.remove(&path).map_err(failed("remove", &path))?;
            self.sync_dir()?;
        }
        Ok(())
    }

    /// Removes what is there of segments that the journal has retired, oldest first.
    fn remove_retired<'a>(&self, retired: impl Iterator<Item = &'a Entry>) -> Result<(), Error> {
        let names = Disk.list(self.dir).map_err(failed("list", self.dir))?;
        for entry in retired {
            for name in names.iter().filter(|name| is_its(entry, name.strip_suffix(".tmp").unwrap_or(name))) {
                let path = self.dir.join(name);
                match Disk.remove(&path) {
                    // Who has opened a journal that was whole before removes them too.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    removed => removed.map_err(failed("remove", &path))?,
                }
            }
        }
        Ok(())
    }

    fn damaged(&self, report: Report) -> Error {
        semj::Error::Damaged { dir: self.dir.to_owned(), report: Box::new(report) }.into()
    }
}

/// Segments that the journal has retired, but that it begins with as far as these say which are archived: what says so stands in
/// a segment that comes later, and may be the one that is written.
fn sooner<'a>(dir: &Path, manifest: &'a Manifest, wanted: &[&Entry]) -> Result<Vec<&'a Entry>, Error> {
    let mut sooner = Vec::new();
    let mut first = wanted.first().and_then(|first| first.opening());
    // Where nothing was retired before the first one, nothing is asked.
    if first.is_none_or(|first| first.previous_segment == 0) {
        return Ok(sooner);
    }
    let said = said_upto(dir, wanted)?;
    while let Some(before) = first.map(|first| first.previous_segment).filter(|before| *before > said)
        && let Some(entry) = manifest.segment(before)
    {
        sooner.push(entry);
        first = entry.opening().filter(|opening| opening.previous_segment < before);
    }
    Ok(sooner)
}

/// Up to which segment the journal was retired, as the newest of these says whose beginning can be read. Each says it once more.
fn said_upto(dir: &Path, segments: &[&Entry]) -> Result<u64, Error> {
    for entry in segments.iter().rev() {
        let path = dir.join(&entry.name);
        let map = Disk.open(&path, false).and_then(|file| file.map()).map_err(failed("map", &path))?;
        let bytes = map.bytes(0..map.size());
        let native = match entry.form {
            Form::Native => Cow::Borrowed(bytes),
            Form::Compressed => {
                Cow::Owned(unpack(bytes).map_err(|source| Error::Block { path: path.clone(), source })?)
            }
        };
        if let Some(said) = Scanner::without_header(&native, 0).ok().and_then(retired_before) {
            return Ok(said.iter().map(|retired| retired.segment_number).max().unwrap_or(0));
        }
    }
    Ok(0)
}

/// Whether a file is a segment's, or its sidecar's, by its name.
fn is_its(entry: &Entry, name: &str) -> bool {
    entry.name == name || entry.sidecar_name() == name
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::File { operation, path, source }
}

/// Whether a file is the segment that is wanted.
fn is_there(dir: &Path, entry: &Entry) -> Result<bool, Error> {
    let path = dir.join(&entry.name);
    let map = Disk.open(&path, false).and_then(|file| file.map()).map_err(failed("map", &path))?;
    let sha256 = hex(&Sha256::digest(map.bytes(0..map.size())));
    Ok(map.size() as u64 == entry.size && sha256 == entry.sha256)
}
