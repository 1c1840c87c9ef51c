//! An archive as something that the engine reads a journal from, without fetching it first.
//!
//! Of a segment that is compressed in the archive, its ends are fetched when it is opened, which have the block index, and
//! then the blocks that are asked for. One that is not, because it was cut or is damaged, is fetched as a whole when its bytes
//! are asked for. A sidecar is fetched when something is asked that it helps with.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use semj::blocks::Layout;
use semj::format::watermark::{self, Watermark};
use semj::format::{Digest, JournalHeader};
use semj::medium::{ClockAnchor, Disk, File, LockOutcome, Map, Medium};
use semj::{OpenMode, Proof, Reader, UNRETIRED, WATERMARK, sidecar_path};
use std::sync::Mutex;

use crate::archive::{Archive, unhex};
use crate::error::Error;
use crate::manifest::{Entry, Manifest};

/// Bytes of an object's beginning that are fetched at once: a segment's header and first block, a sidecar's head.
const HEAD_SIZE: u64 = 8 << 10;
/// The last block of a segment and what comes with its block index, when that is fetched.
const LAST_BLOCK_SIZE: usize = 8 << 10;

impl Archive {
    /// Reads the archived journal where it is, as [`semj::Reader::open_newest`] reads one in a directory: its segments with
    /// these numbers, retired ones among them, or all. Of the journal's other segments the reader knows nothing.
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage, damage to the segments.
    pub fn reader(self: &Arc<Self>, segments: Option<Range<u64>>) -> Result<Reader, Error> {
        let manifest = self.existing_manifest()?;
        let mut medium = Remote::new(Arc::clone(self), &manifest)?;
        medium.entries.retain(|entry| segments.as_ref().is_none_or(|range| range.contains(&entry.number)));
        let dir = PathBuf::from(&self.url);
        Ok(Reader::open_on(&medium, &dir, OpenMode::Strict, Proof::Newest)?)
    }

    /// The numbers of the segments that events with ids from a range can be in.
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage.
    pub fn segments_with(&self, ids: &Range<u64>) -> Result<Range<u64>, Error> {
        let manifest = self.existing_manifest()?;
        let has = |entry: &&Entry| {
            entry.events > 0 && entry.first_event_id < ids.end && entry.last_event_id >= ids.start
        };
        let mut numbers = manifest.segments.iter().filter(has).map(|entry| entry.number);
        let first = numbers.next();
        let last = numbers.next_back().or(first);
        // Of ids that nobody has, the newest segment says so as well as any.
        let newest = manifest.segments.last().map_or(0, |entry| entry.number);
        Ok(first.unwrap_or(newest)..last.unwrap_or(newest) + 1)
    }
}

/// The files of a journal, as an archive has them.
struct Remote {
    archive: Arc<Archive>,
    uuid: [u8; 16],
    entries: Vec<Entry>,
}

impl Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote")
            .field("archive", &self.archive)
            .field("segments", &self.entries.len())
            .finish()
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Remote {
    fn new(archive: Arc<Archive>, manifest: &Manifest) -> Result<Self, Error> {
        let uuid = unhex(&manifest.journal_uuid).ok_or_else(|| Error::Damaged {
            url: archive.url.clone(),
            object: "manifest".to_owned(),
            what: "journal_uuid is none".to_owned(),
        })?;
        Ok(Self { archive, uuid, entries: manifest.segments.clone() })
    }

    /// That the newest segment ends where it does, as a watermark says it: so it need not be read as a whole to be sure.
    fn watermark(&self) -> Option<Vec<u8>> {
        let newest = self.entries.last()?;
        let mark = Watermark {
            magic: watermark::MAGIC,
            version: watermark::VERSION,
            generation: 1,
            journal_uuid: self.uuid,
            epoch: newest.epoch,
            segment_number: newest.number,
            end: newest.end,
            commit_sequence: newest.commit_sequence,
            last_event_id: newest.last_event_id,
            digest: Digest(unhex(&newest.end_digest)?),
            reserved: [0; 20],
            checksum: 0,
        };
        let mut file = mark.seal_checksum().encode().to_vec();
        file.resize(watermark::FILE_SIZE, 0);
        Some(file)
    }
}

impl Medium for Remote {
    fn list(&self, _: &Path) -> io::Result<Vec<String>> {
        // What is said of retired segments in later ones does not hide them here.
        let names = self.entries.iter().map(|entry| entry.name.clone());
        Ok(names.chain([UNRETIRED.to_owned()]).collect())
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        if writable {
            return read_only();
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == WATERMARK {
            let bytes = self.watermark().ok_or(io::ErrorKind::NotFound)?;
            return Ok(Box::new(Made(bytes)));
        }
        for entry in &self.entries {
            let object = match &entry.sidecar {
                _ if entry.name == name => Some((&entry.object, entry.size)),
                Some(sidecar) if sidecar_path(Path::new(&entry.name)) == Path::new(name) => {
                    Some((&sidecar.object, sidecar.size))
                }
                _ => None,
            };
            if let Some((object, size)) = object {
                let archive = Arc::clone(&self.archive);
                return Ok(Box::new(Object { archive, name: object.clone(), size }));
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn create(&self, _: &Path, _: u64) -> io::Result<Box<dyn File>> {
        read_only()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn link(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn clone_file(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn lock(&self, _: &Path) -> io::Result<LockOutcome> {
        read_only()
    }

    fn monotonic_ns(&self) -> i64 {
        Disk.monotonic_ns()
    }

    fn clock_anchor(&self) -> ClockAnchor {
        Disk.clock_anchor()
    }

    fn boot_id(&self) -> [u8; 16] {
        Disk.boot_id()
    }

    fn cpu_id(&self) -> u32 {
        Disk.cpu_id()
    }

    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }
}

/// A file that is none anywhere.
#[derive(Debug)]
struct Made(Vec<u8>);

impl File for Made {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let from = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let size = from.len().min(bytes.len());
        bytes[..size].copy_from_slice(&from[..size]);
        Ok(size)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn sync_all(&self) -> io::Result<()> {
        read_only()
    }

    fn release_from(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn map(&self) -> io::Result<Box<dyn Map>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// An object, as a file.
#[derive(Debug)]
struct Object {
    archive: Arc<Archive>,
    name: String,
    size: u64,
}

impl Object {
    fn fetch(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let size = range.end - range.start;
        let bytes = self.archive.get_range(&self.name, range).map_err(io::Error::other)?;
        match bytes.len() as u64 == size {
            true => Ok(bytes),
            false => Err(io::Error::other(format!(
                "{}: {}: {} bytes, expected {size}",
                self.archive.url,
                self.name,
                bytes.len()
            ))),
        }
    }
}

impl File for Object {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let end = self.size.min(offset.saturating_add(bytes.len() as u64));
        let read = self.fetch(offset.min(end)..end)?;
        bytes[..read.len()].copy_from_slice(&read);
        Ok(read.len())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }

    fn sync_all(&self) -> io::Result<()> {
        read_only()
    }

    fn release_from(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn map(&self) -> io::Result<Box<dyn Map>> {
        let size = usize::try_from(self.size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let object = Self { archive: Arc::clone(&self.archive), name: self.name.clone(), size: self.size };
        Ok(Box::new(Fetched {
            object,
            size,
            head: OnceLock::new(),
            tail: OnceLock::new(),
            whole: OnceLock::new(),
            failure: Mutex::new(None),
        }))
    }
}

/// What is there of an object.
#[derive(Debug)]
struct Fetched {
    object: Object,
    size: usize,
    head: OnceLock<Vec<u8>>,
    /// Where it begins, and the bytes from there to the end.
    tail: OnceLock<(usize, Vec<u8>)>,
    whole: OnceLock<Vec<u8>>,
    failure: Mutex<Option<(io::ErrorKind, String)>>,
}

impl Fetched {
    /// What is fetched once; nothing if that fails, of which [`Map::failure`] tells.
    fn once<'a>(&self, place: &'a OnceLock<Vec<u8>>, size: u64) -> &'a [u8] {
        place.get_or_init(|| {
            self.object.fetch(0..size).unwrap_or_else(|error| {
                if let Ok(mut failure) = self.failure.lock() {
                    *failure = Some((error.kind(), error.to_string()));
                }
                Vec::new()
            })
        })
    }

    fn head(&self) -> &[u8] {
        self.once(&self.head, self.object.size.min(HEAD_SIZE))
    }
}

impl Map for Fetched {
    fn size(&self) -> usize {
        self.size
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let end = range.end.min(self.size);
        let head = match self.whole.get() {
            Some(whole) => whole,
            None => self.head(),
        };
        let from = match end <= head.len() {
            true => head,
            false => self.once(&self.whole, self.object.size),
        };
        from.get(range.start..end).unwrap_or_default()
    }

    fn read(&self, range: Range<usize>) -> io::Result<Cow<'_, [u8]>> {
        let end = range.end.min(self.size);
        let start = range.start.min(end);
        if end as u64 <= HEAD_SIZE.min(self.object.size) {
            let head = self.head();
            return match self.failure() {
                Some(error) if head.is_empty() => Err(error),
                _ => Ok(Cow::Borrowed(head.get(start..end).unwrap_or_default())),
            };
        }
        if let Some((from, tail)) = self.tail.get()
            && start >= *from
        {
            return Ok(Cow::Borrowed(tail.get(start - from..end - from).unwrap_or_default()));
        }
        if end == self.size && start > 0 && Layout::is_compressed(self.head()) {
            // The block index, once; the last block is wanted next.
            let from = start.saturating_sub(LAST_BLOCK_SIZE).max(JournalHeader::SIZE);
            let tail = self.object.fetch(from as u64..end as u64)?;
            let (from, tail) = self.tail.get_or_init(|| (from, tail));
            return Ok(Cow::Borrowed(tail.get(start - from..).unwrap_or_default()));
        }
        self.object.fetch(start as u64..end as u64).map(Cow::Owned)
    }

    fn failure(&self) -> Option<io::Error> {
        let failure = self.failure.lock().ok()?;
        failure.as_ref().map(|(kind, what)| io::Error::new(*kind, what.clone()))
    }

    fn is_intact(&self) -> bool {
        true
    }

    fn file_size(&self, _: &Path) -> io::Result<u64> {
        Ok(self.object.size)
    }
}
