//! Looking at a directory, or at one file, without changing it: what is there, and what it proves.

use std::io;
use std::path::Path;
use std::sync::Arc;

use semj_format::{JournalHeader, WatermarkFile};
use semj_recovery::{
    Backing, Effort, OpenMode, Packed, Proof, Report, SegmentInput, examine_unretired, examine_with,
};

use crate::compressed::CompressedMap;
use crate::directory;
use crate::error::Error;
use crate::medium::{Disk, Map, Medium};
use crate::progress::Progress;
use crate::restored;
use crate::segment::Figures;
use crate::segment::Segment;
use crate::sidecar;
use crate::watermark;

/// How often a reader looks again at a journal whose files or headers change under it.
const LIVE_RETRIES: usize = 2;
/// And at one whose files are removed under it, which costs less.
const LISTING_RETRIES: usize = 16;
/// How often a header is looked at until it is right.
const HEADER_LOOKS: usize = 8;

/// The segments of a directory, mapped and examined.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) maps: Vec<Box<dyn Map>>,
    pub(crate) report: Report,
}

/// Examines the journal in a directory and gives what it proves, whatever that is. Takes no lock and changes no
/// byte; every record's checksum and every commit's and seal's digests are verified.
///
/// # Errors
///
/// No journal there, or an I/O error; damage is no error but what the report is about.
pub fn examine_journal(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    examine_journal_watched(dir, mode, &Progress::default())
}

/// [`examine_journal`], and how far it has come.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_journal_watched(
    dir: impl AsRef<Path>,
    mode: OpenMode,
    progress: &Progress,
) -> Result<Report, Error> {
    let dir = dir.as_ref();
    let effort = Effort { proof: Proof::Everything, threads: Disk.threads() };
    Ok(examine_dir_watched(&Disk, dir, mode, effort, progress)?.of_some(dir)?.report)
}

/// [`examine_journal`] of a directory that was copied file by file while the journal was in use. Its watermark may have been
/// copied behind its segments, and is left out of account: what is missing at the end is not noticed. A
/// [`crate::snapshot()`] is a copy without that.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_copy(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    examine_copy_watched(dir, mode, &Progress::default())
}

/// [`examine_copy`], and how far it has come.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_copy_watched(
    dir: impl AsRef<Path>,
    mode: OpenMode,
    progress: &Progress,
) -> Result<Report, Error> {
    let dir = dir.as_ref();
    let effort = Effort { proof: Proof::Everything, threads: Disk.threads() };
    Ok(examine_files(&Disk, dir, WatermarkFile::default(), mode, effort, progress)?.of_some(dir)?.report)
}

/// [`examine_journal`] of a directory as it will be when its file [`UNRETIRED`](crate::UNRETIRED) is gone, for who is about to
/// remove that.
///
/// # Errors
///
/// As [`examine_journal`].
pub fn examine_unmarked(dir: impl AsRef<Path>, mode: OpenMode) -> Result<Report, Error> {
    let (medium, dir) = (&Disk, dir.as_ref());
    let effort = Effort { proof: Proof::Everything, threads: medium.threads() };
    let watermark = watermark::read(medium, dir)?;
    let mut names = medium.list(dir).map_err(Error::io("list", dir))?;
    names.retain(|name| name != directory::UNRETIRED);
    let progress = Progress::default();
    Ok(examine_names(medium, dir, names, watermark, mode, effort, &progress)?.of_some(dir)?.report)
}

/// What proves itself in one file, and its native bytes: in a segment, which may be compressed or in quarantine, or in what was cut
/// off from one.
pub(crate) fn examine_file(medium: &dyn Medium, path: &Path) -> Result<(Report, Box<dyn Map>), Error> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let number = directory::segment_number(&name).or_else(|| Some(directory::quarantined(&name)?.0));
    let input = |bytes| SegmentInput::new(&name, number, bytes);
    let file = medium.open(path, false).map_err(Error::io("open", path))?;
    let map = file.map().map_err(Error::io("map", path))?;
    let (mut report, map): (_, Box<dyn Map>) = match CompressedMap::found(map) {
        Ok(compressed) => (semj_recovery::examine_file(&input(&compressed.unpack())), Box::new(compressed)),
        Err(map) => {
            let map = restored::restoring(map);
            (semj_recovery::examine_file(&input(map.bytes(0..map.size()))), map)
        }
    };
    if let (Some(segment), Some(packed_size)) = (report.segments.first_mut(), map.packed_size()) {
        segment.packed_size = Some(packed_size as u64);
    }
    match map.failure() {
        Some(error) => Err(Error::io("read", path)(error)),
        None if !map.is_intact() => Err(Error::changed(path, &*map)),
        None => Ok((report, map)),
    }
}

/// Looks at a directory without changing it.
pub(crate) fn examine_dir(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
) -> Result<Found, Error> {
    examine_dir_watched(medium, dir, mode, effort, &Progress::default())
}

/// The same, and how far it has come.
pub(crate) fn examine_dir_watched(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let mut retries = LIVE_RETRIES;
    let mut listings = LISTING_RETRIES;
    loop {
        match try_examine_dir(medium, dir, mode, effort, progress) {
            Ok(found) if retries > 0 && has_bad_header(&found.report) => retries -= 1,
            // A writer has removed what it retired while this looked, or put a segment behind the last one.
            Ok(found)
                if listings > 0 && !found.report.is_whole() && found.has_other_names(medium, dir)? =>
            {
                listings -= 1;
            }
            // A recovery that goes on at the same time moves segments and then the watermark.
            Ok(found)
                if retries > 0
                    && !found.report.is_whole()
                    && watermark::read(medium, dir)? != found.report.watermark =>
            {
                retries -= 1;
            }
            Err(Error::Io { source, .. }) if listings > 0 && source.kind() == io::ErrorKind::NotFound => {
                listings -= 1;
            }
            other => return other,
        }
    }
}

/// A header is the one part of a segment that is written twice; a reader may see it half written.
fn has_bad_header(report: &Report) -> bool {
    let bad = report.segments.iter().filter(|segment| !segment.verdict.is_good());
    let faults = bad.filter_map(|segment| segment.fault);
    faults.map(|fault| fault.offset).any(|offset| offset < JournalHeader::SIZE as u64)
}

fn try_examine_dir(
    medium: &dyn Medium,
    dir: &Path,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    // Before the segments: what it says was durable then is there now.
    let watermark = watermark::read(medium, dir)?;
    examine_files(medium, dir, watermark, mode, effort, progress)
}

fn examine_files(
    medium: &dyn Medium,
    dir: &Path,
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let names = medium.list(dir).map_err(Error::io("list", dir))?;
    examine_names(medium, dir, names, watermark, mode, effort, progress)
}

/// Examines the segments among these names.
fn examine_names(
    medium: &dyn Medium,
    dir: &Path,
    names: Vec<String>,
    watermark: WatermarkFile,
    mode: OpenMode,
    effort: Effort,
    progress: &Progress,
) -> Result<Found, Error> {
    let is_unretired = names.iter().any(|name| name == directory::UNRETIRED);
    let names = directory::segments(names);
    let mut maps: Vec<Box<dyn Map>> = Vec::with_capacity(names.len());
    let mut packed = Vec::with_capacity(names.len());
    let mut ends = Vec::with_capacity(names.len());
    let mut headers = Vec::with_capacity(names.len());
    for (_, name) in &names {
        let path = dir.join(name);
        let file = medium.open(&path, false).map_err(Error::io("open", &path))?;
        let map = file.map().map_err(Error::io("map", &path))?;
        let map = match CompressedMap::found(map) {
            Ok(compressed) => {
                headers.push(Some(compressed.native_header()));
                ends.push(compressed.size() as u64);
                packed.push(Some(compressed.clone()));
                maps.push(Box::new(compressed));
                continue;
            }
            Err(map) => map,
        };
        packed.push(None);
        let map = match mode {
            OpenMode::Strict => map,
            OpenMode::PointInTime | OpenMode::Salvage => restored::restoring(map),
        };
        // Before the end: what it says is there then.
        headers.push(header(&*map));
        // Behind the map, so that a live writer's bytes in the map are not taken for zeros.
        ends.push(match map.is_restored() {
            true => map.size() as u64,
            false => file.data_end().map_err(Error::io("seek in", &path))?,
        });
        maps.push(map);
    }
    // What is not to be proven is mostly not read, but for the end of the newest.
    let is_read = |i: usize, number: u64| i + 1 == names.len() || !effort.proof.trusts(number);
    let read = names.iter().zip(&ends).enumerate().filter(|(i, ((number, _), _))| is_read(*i, *number));
    progress.begin(read.map(|(_, (_, end))| end).sum());
    let watched: Vec<_> =
        maps.iter().zip(&ends).map(|(map, bytes)| Watched { map: &**map, bytes: *bytes, progress }).collect();
    let inputs: Vec<_> = names
        .iter()
        .zip(watched.iter().zip(&packed).zip(ends.iter().zip(headers)))
        .map(|((number, name), ((watched, packed), (end, header)))| {
            let map = watched.map;
            let file_size = map.size();
            let data = usize::try_from(*end).map_or(file_size, |end| end.min(file_size));
            let packed = packed.as_ref().map(|packed| packed as &dyn Packed);
            let bytes = map.bytes(0..data);
            let backing = Some(watched as &dyn Backing);
            SegmentInput { name, number: Some(*number), bytes, file_size, header, packed, backing }
        })
        .collect();
    let examine = if is_unretired { examine_unretired } else { examine_with };
    let report = examine(&inputs, watermark, mode, effort);
    if let Some(((_, name), map)) =
        names.iter().zip(&maps).find(|(_, map)| !map.is_intact() || map.failure().is_some())
    {
        return Err(Error::changed(&dir.join(name), &**map));
    }
    maps.drain(..report.leftovers.len());
    Ok(Found { maps, report })
}

/// A segment's map while it is examined.
#[derive(Debug)]
struct Watched<'a> {
    map: &'a dyn Map,
    bytes: u64,
    progress: &'a Progress,
}

/// Who examines a segment is done with most of it. The pages that it has mapped go now, on several threads, and not one
/// segment after the other when the maps do.
impl Backing for Watched<'_> {
    fn seen(&self) {
        self.map.unload();
        self.progress.advance(self.bytes);
    }
}

/// A segment's header, which is the one part that is written twice: one that is not right is looked at again.
fn header(map: &dyn Map) -> Option<[u8; JournalHeader::SIZE]> {
    let mut header = None;
    for _ in 0..HEADER_LOOKS {
        header = map.bytes(0..JournalHeader::SIZE).first_chunk().copied();
        if header.is_none_or(|header| JournalHeader::parse(&header).is_ok()) {
            break;
        }
        std::thread::yield_now();
    }
    header
}

impl Found {
    /// The file of a segment that is kept.
    pub(crate) fn map(&self, place: usize) -> Option<&dyn Map> {
        self.maps.get(place).map(|map| &**map)
    }

    /// Whether the directory has other segments by now.
    fn has_other_names(&self, medium: &dyn Medium, dir: &Path) -> Result<bool, Error> {
        let names = directory::segments(medium.list(dir).map_err(Error::io("list", dir))?);
        let found = self.report.leftovers.iter().chain(self.report.segments.iter().map(|s| &s.name));
        Ok(!names.iter().map(|(_, name)| name).eq(found))
    }

    /// The same, if there is any segment.
    pub(crate) fn of_some(self, dir: &Path) -> Result<Self, Error> {
        match (self.report.segments.is_empty(), self.report.watermark.newest) {
            (true, Some(watermark)) => Err(Error::gone(dir, &watermark)),
            (true, None) => Err(Error::NoJournal { dir: dir.to_owned() }),
            (false, _) => Ok(self),
        }
    }

    /// The same, if the mode accepts what was found.
    pub(crate) fn accepted(self, dir: &Path) -> Result<Self, Error> {
        if let (true, Some(watermark)) = (self.report.is_gone(), self.report.watermark.newest)
            && self.report.mode == OpenMode::Strict
        {
            return Err(Error::gone(dir, &watermark));
        }
        match self.report.refusal() {
            Some(_) => Err(Error::Damaged { dir: dir.to_owned(), report: Box::new(self.report) }),
            None => Ok(self),
        }
    }

    /// The segments that are kept, for reading.
    pub(crate) fn into_segments(self, medium: &dyn Medium, dir: &Path) -> Result<Vec<Arc<Segment>>, Error> {
        let kept = self.report.kept_segments().iter().zip(self.maps);
        kept.filter_map(|(report, map)| {
            let path = dir.join(&report.name);
            let opening = report.opening?;
            let extents = report.extents.clone();
            let sidecar = sidecar::map(medium, &path);
            let figures = Figures::of(report);
            Some(
                Segment::found(opening, path, map, extents, figures, report.is_verified, sidecar)
                    .map(Arc::new),
            )
        })
        .collect()
    }
}
