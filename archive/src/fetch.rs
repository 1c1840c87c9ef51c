//! A journal from an archive.

use std::ops::RangeInclusive;
use std::path::Path;

use semj::format::WatermarkFile;
use semj::medium::{Disk, Medium as _};
use semj::{OpenMode, UNRETIRED, examine_journal};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Sidecar, hex};
use crate::sidecar;

/// What is fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchOptions {
    /// Segments by their numbers; all where there is none.
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
    /// against its SHA-256, and the whole is verified in the end.
    ///
    /// # Errors
    ///
    /// No archive, something else in the directory, damage, the storage, a file on this side. What was fetched stays, and the
    /// same call goes on with it.
    pub fn fetch(
        &self,
        dir: &Path,
        options: &FetchOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<FetchReport, Error> {
        let manifest = self.existing_manifest()?;
        let wanted: Vec<_> = manifest
            .segments
            .iter()
            .filter(|entry| options.segments.as_ref().is_none_or(|range| range.contains(&entry.number)))
            .filter(|entry| options.with_retired || entry.number > manifest.retired_upto)
            .collect();
        if wanted.is_empty() {
            let number = |entry: Option<&Entry>| entry.map_or(0, |entry| entry.number);
            return Err(Error::NoSegment {
                url: self.url().to_owned(),
                first: number(manifest.segments.first()),
                last: number(manifest.segments.last()),
                retired_upto: manifest.retired_upto,
            });
        }
        let file = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| Error::File { operation, path, source }
        };
        Disk.create_dir(dir).map_err(file("create", dir))?;
        let names = Disk.list(dir).map_err(file("list", dir))?;
        let is_ours = |name: &String| {
            let is_its = |entry: &&Entry| entry.name == *name || entry.sidecar_name() == *name;
            name.ends_with(".tmp") || name == UNRETIRED || wanted.iter().any(is_its)
        };
        if !names.iter().all(is_ours) {
            return Err(semj::Error::NotEmpty { dir: dir.to_owned() }.into());
        }
        // Before the first of them, so that nobody takes them for what is left of a removal.
        let is_part = wanted.len()
            < manifest.segments.iter().filter(|entry| entry.number > manifest.retired_upto).count();
        if is_part || wanted.iter().any(|entry| entry.number <= manifest.retired_upto) {
            let path = dir.join(UNRETIRED);
            let marker = Disk.create(&path, 0).map_err(file("create", &path))?;
            marker.sync_all().map_err(file("sync", &path))?;
            Disk.sync_dir(dir).map_err(file("sync", dir))?;
        }
        let mut state = Progress { done: 0, total: wanted.iter().map(|entry| entry.size).sum() };
        let mut fetched = FetchReport::default();
        progress(state);
        for entry in &wanted {
            if names.contains(&entry.name) && is_there(dir, entry)? {
                fetched.found += 1;
                state.done += entry.size;
                progress(state);
                continue;
            }
            let mut advance = |bytes| {
                state.done += bytes;
                progress(state);
            };
            // Before the segment, so that one that is there has it too.
            if let Some(sidecar) = &entry.sidecar {
                self.fetch_sidecar(dir, &entry.sidecar_name(), sidecar)?;
            }
            self.fetch_segment(dir, entry, &mut advance)?;
            fetched.fetched += 1;
            fetched.bytes_fetched += entry.size;
        }
        let report = examine_journal(dir, OpenMode::Strict)?;
        if !report.is_whole() {
            return Err(semj::Error::Damaged { dir: dir.to_owned(), report: Box::new(report) }.into());
        }
        debug_assert_eq!(report.watermark, WatermarkFile::default());
        fetched.events = report.events();
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
        let failed = |operation| {
            let path = unfinished.clone();
            move |source| Error::File { operation, path, source }
        };
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

/// Whether a file is the segment that is wanted.
fn is_there(dir: &Path, entry: &Entry) -> Result<bool, Error> {
    let path = dir.join(&entry.name);
    let map = Disk.open(&path, false).and_then(|file| file.map());
    let map = map.map_err(|source| Error::File { operation: "map", path, source })?;
    let sha256 = hex(&Sha256::digest(map.bytes(0..map.size())));
    Ok(map.size() as u64 == entry.size && sha256 == entry.sha256)
}
