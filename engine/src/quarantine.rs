//! What an open takes out of the journal, and puts aside.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use semj_recovery::SegmentReport;

use crate::directory;
use crate::error::Error;
use crate::medium::Medium;
use crate::replace::write_like;

/// Where bytes go that are taken out of the journal. The engine never deletes them; only copies of what is still in its place it takes
/// back, where nothing comes of the open that has made them.
pub(crate) struct Quarantine<'a> {
    medium: &'a dyn Medium,
    dir: &'a Path,
    epoch: u64,
    /// Copies of what is still in its place in the journal.
    copies: Vec<PathBuf>,
}

/// The highest numbers that names in quarantine speak of, which must not be used again.
#[derive(Default)]
pub(crate) struct QuarantinedNumbers {
    pub(crate) epoch: u64,
    pub(crate) segment_number: u64,
}

impl<'a> Quarantine<'a> {
    /// For an open that begins this epoch.
    pub(crate) const fn new(medium: &'a dyn Medium, dir: &'a Path, epoch: u64) -> Self {
        Self { medium, dir, epoch, copies: Vec::new() }
    }

    /// The highest numbers that names there speak of.
    pub(crate) fn numbers(medium: &dyn Medium, dir: &Path) -> Result<QuarantinedNumbers, Error> {
        let names = medium.list(dir).map_err(Error::io("list", dir))?;
        let mut highest = QuarantinedNumbers::default();
        if names.iter().any(|name| name == directory::QUARANTINE) {
            let quarantine = directory::quarantine(dir);
            for name in medium.list(&quarantine).map_err(Error::io("list", &quarantine))? {
                if let Some((segment_number, epoch)) = directory::quarantined(&name) {
                    highest.epoch = highest.epoch.max(epoch);
                    highest.segment_number = highest.segment_number.max(segment_number);
                }
            }
        }
        Ok(highest)
    }

    /// Moves a whole segment into quarantine.
    pub(crate) fn take_segment(&self, segment: &SegmentReport) -> Result<(), Error> {
        let target = self.target(segment, 0)?;
        let path = self.dir.join(&segment.name);
        // What stands in it may have been in memory only.
        let file = self.medium.open(&path, false).map_err(Error::io("open", &path))?;
        file.sync_all().map_err(Error::io("sync", &path))?;
        self.medium.rename(&path, &target).map_err(Error::io("move to quarantine", &path))?;
        // First there, then gone here: at no moment may a crash leave it in neither.
        let quarantine = directory::quarantine(self.dir);
        self.medium.sync_dir(&quarantine).map_err(Error::io("sync", &quarantine))?;
        self.medium.sync_dir(self.dir).map_err(Error::io("sync", self.dir))?;
        tracing::warn!(segment = %segment.name, to = %target.display(), "segment moved to quarantine");
        Ok(())
    }

    /// Copies what stands behind a segment's end into quarantine.
    pub(crate) fn keep_tail(&mut self, segment: &SegmentReport, tail: &[u8]) -> Result<(), Error> {
        self.keep(segment, segment.end as u64, tail)?;
        tracing::warn!(
            segment = %segment.name, offset = segment.end, bytes = tail.len(), verdict = segment.verdict.name(),
            "tail copied to quarantine"
        );
        Ok(())
    }

    /// Copies a segment's file as it is into quarantine.
    pub(crate) fn keep_file(&mut self, segment: &SegmentReport) -> Result<(), Error> {
        let path = self.dir.join(&segment.name);
        let map =
            self.medium.open(&path, false).and_then(|file| file.map()).map_err(Error::io("map", &path))?;
        let target = self.keep(segment, 0, map.bytes(0..map.size()))?;
        if !map.is_intact() {
            return Err(Error::changed(&path, &*map));
        }
        tracing::warn!(segment = %segment.name, to = %target.display(), "compressed segment copied to quarantine");
        Ok(())
    }

    /// Another file takes the place of the one that was copied last: the copy may be all that there is of it.
    pub(crate) fn is_replaced(&mut self) {
        self.copies.pop();
    }

    /// Removes the copies of what is still in its place, because nothing comes of the open that has made them: one that is tried
    /// again and again, on a full disk say, would leave more of them each time.
    pub(crate) fn take_back(&self) {
        for path in &self.copies {
            match self.medium.remove(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "a copy in quarantine could not be removed");
                }
                _ => {}
            }
        }
    }

    /// Puts a copy of what stands in a segment from an offset on into quarantine, durably.
    fn keep(&mut self, segment: &SegmentReport, offset: u64, bytes: &[u8]) -> Result<PathBuf, Error> {
        let target = self.target(segment, offset)?;
        self.copies.push(target.clone());
        let model = self.dir.join(&segment.name);
        write_like(self.medium, &target, &model, bytes)?;
        let quarantine = directory::quarantine(self.dir);
        self.medium.sync_dir(&quarantine).map_err(Error::io("sync", &quarantine))?;
        Ok(target)
    }

    fn target(&self, segment: &SegmentReport, offset: u64) -> Result<PathBuf, Error> {
        let quarantine = directory::quarantine(self.dir);
        self.medium.create_dir(&quarantine).map_err(Error::io("create", &quarantine))?;
        Ok(quarantine.join(directory::quarantine_name(&segment.name, self.epoch, offset)))
    }
}
