//! What an open takes out of the journal, and puts aside.

use std::path::{Path, PathBuf};

use semj_recovery::SegmentReport;

use crate::compaction;
use crate::directory;
use crate::error::Error;
use crate::medium::Medium;

/// Where bytes go that are taken out of the journal. The engine never deletes them.
pub(crate) struct Quarantine<'a> {
    medium: &'a dyn Medium,
    dir: &'a Path,
    epoch: u64,
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
        Self { medium, dir, epoch }
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
        self.medium.rename(&path, &target).map_err(Error::io("move to quarantine", &path))?;
        // First there, then gone here: at no moment may a crash leave it in neither.
        let quarantine = directory::quarantine(self.dir);
        self.medium.sync_dir(&quarantine).map_err(Error::io("sync", &quarantine))?;
        self.medium.sync_dir(self.dir).map_err(Error::io("sync", self.dir))?;
        tracing::warn!(segment = %segment.name, to = %target.display(), "segment moved to quarantine");
        Ok(())
    }

    /// Copies what stands behind a segment's end into quarantine.
    pub(crate) fn keep_tail(&self, segment: &SegmentReport, tail: &[u8]) -> Result<(), Error> {
        let target = self.target(segment, segment.end as u64)?;
        let file =
            compaction::create_like(self.medium, &target, &self.dir.join(&segment.name), tail.len() as u64)?;
        file.write_at(0, tail).map_err(Error::io("write", &target))?;
        file.sync_all().map_err(Error::io("sync", &target))?;
        let quarantine = directory::quarantine(self.dir);
        self.medium.sync_dir(&quarantine).map_err(Error::io("sync", &quarantine))?;
        tracing::warn!(
            segment = %segment.name, offset = segment.end, bytes = tail.len(), verdict = segment.verdict.name(),
            "tail copied to quarantine"
        );
        Ok(())
    }

    /// Copies a segment's file as it is into quarantine.
    pub(crate) fn keep_file(&self, segment: &SegmentReport) -> Result<(), Error> {
        let path = self.dir.join(&segment.name);
        let map =
            self.medium.open(&path, false).and_then(|file| file.map()).map_err(Error::io("map", &path))?;
        let bytes = map.bytes(0..map.size());
        let target = self.target(segment, 0)?;
        let file = compaction::create_like(self.medium, &target, &path, bytes.len() as u64)?;
        file.write_at(0, bytes).map_err(Error::io("write", &target))?;
        if !map.is_intact() {
            return Err(Error::changed(&path, &*map));
        }
        file.sync_all().map_err(Error::io("sync", &target))?;
        let quarantine = directory::quarantine(self.dir);
        self.medium.sync_dir(&quarantine).map_err(Error::io("sync", &quarantine))?;
        tracing::warn!(segment = %segment.name, to = %target.display(), "compressed segment copied to quarantine");
        Ok(())
    }

    fn target(&self, segment: &SegmentReport, offset: u64) -> Result<PathBuf, Error> {
        let quarantine = directory::quarantine(self.dir);
        self.medium.create_dir(&quarantine).map_err(Error::io("create", &quarantine))?;
        Ok(quarantine.join(directory::quarantine_name(&segment.name, self.epoch, offset)))
    }
}
