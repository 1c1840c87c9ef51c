//! The journal's watermark file: two slots, written in turn, that say how far the journal was durable.
//!
//! Written only after the sync that makes it true, and synced itself before its other slot is touched. How old
//! it may be is bounded by [`crate::Options::watermark_interval`].

use std::path::{Path, PathBuf};

use semj_format::watermark::{FILE_SIZE, MAGIC, SLOT_COUNT, SLOT_STRIDE, VERSION};
use semj_format::{Digest, Watermark, WatermarkFile};

use crate::directory;
use crate::error::Error;
use crate::medium::{File, Medium};

/// How far the journal goes, or went, at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) journal_uuid: [u8; 16],
    pub(crate) epoch: u64,
    /// The active segment, and where what was written of it ends.
    pub(crate) segment_number: u64,
    pub(crate) end: u64,
    /// The last commit.
    pub(crate) commit_sequence: u64,
    /// The last event that a commit covers.
    pub(crate) last_event_id: u64,
    /// The last commit's or seal's digest.
    pub(crate) digest: Digest,
}

impl Mark {
    /// Whether it is the same place in the journal.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        (self.segment_number, self.end) == (other.segment_number, other.end)
    }
}

/// What the file in a directory says; of a journal that has none, nothing.
pub(crate) fn read(medium: &dyn Medium, dir: &Path) -> Result<WatermarkFile, Error> {
    let path = dir.join(directory::WATERMARK);
    let file = match medium.open(&path, false) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(WatermarkFile::default()),
        other => other.map_err(Error::io("open", &path))?,
    };
    let mut bytes = vec![0; FILE_SIZE];
    let mut size = 0;
    while size < bytes.len() {
        let rest = bytes.get_mut(size..).unwrap_or_default();
        match file.read_at(size as u64, rest).map_err(Error::io("read", &path))? {
            0 => break,
            read => size += read,
        }
    }
    bytes.truncate(size);
    Ok(WatermarkFile::parse(&bytes))
}

/// The file, open for its one writer.
#[derive(Debug)]
pub(crate) struct WatermarkWriter {
    file: Box<dyn File>,
    path: PathBuf,
    generation: u64,
    slot: usize,
}

impl WatermarkWriter {
    /// Opens the file, or makes it, and marks what is durable now. When this returns, the mark is durable.
    ///
    /// `before` is what the file says, which must have been held against the journal already.
    pub(crate) fn open(
        medium: &dyn Medium,
        dir: &Path,
        before: &WatermarkFile,
        mark: &Mark,
    ) -> Result<Self, Error> {
        let path = dir.join(directory::WATERMARK);
        let generation = before.newest.map_or(0, |newest| newest.generation);
        let slot = before.newest_slot.map_or(0, |newest| (newest + 1) % SLOT_COUNT);
        let is_usable = before.newest.is_some()
            && match medium.open(&path, false) {
                Ok(file) => file.size().map_err(Error::io("get the size of", &path))? == FILE_SIZE as u64,
                Err(_) => false,
            };
        if is_usable {
            let file = medium.open(&path, true).map_err(Error::io("open", &path))?;
            let mut watermark = Self { file, path, generation, slot };
            watermark.mark(mark)?;
            return Ok(watermark);
        }
        // Nothing in a file that is not right is worth keeping: it is replaced as a whole.
        let unfinished = dir.join(directory::WATERMARK_UNFINISHED);
        let file = medium.create(&unfinished, FILE_SIZE as u64).map_err(Error::io("create", &unfinished))?;
        let mut watermark = Self { file, path: unfinished, generation, slot: 0 };
        watermark.mark(mark)?;
        watermark.file.sync_all().map_err(Error::io("sync", &watermark.path))?;
        medium.rename(&watermark.path, &path).map_err(Error::io("rename", &watermark.path))?;
        medium.sync_dir(dir).map_err(Error::io("sync", dir))?;
        watermark.path = path;
        Ok(watermark)
    }

    /// Marks a moment up to which everything is durable.
    pub(crate) fn mark(&mut self, mark: &Mark) -> Result<(), Error> {
        let watermark = Watermark {
            magic: MAGIC,
            version: VERSION,
            generation: self.generation.saturating_add(1),
            journal_uuid: mark.journal_uuid,
            epoch: mark.epoch,
            segment_number: mark.segment_number,
            end: mark.end,
            commit_sequence: mark.commit_sequence,
            last_event_id: mark.last_event_id,
            digest: mark.digest,
            reserved: [0; 20],
            checksum: 0,
        }
        .with_checksum();
        let offset = (self.slot * SLOT_STRIDE) as u64;
        self.file.write_at(offset, &watermark.encode()).map_err(Error::io("write", &self.path))?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        self.generation = watermark.generation;
        self.slot = (self.slot + 1) % SLOT_COUNT;
        Ok(())
    }
}
