//! What has to reach the disk, in which order, so that everything that was appended is durable.

use std::path::Path;
use std::sync::Arc;

use crate::error::Error;
use crate::medium::{File, Medium};
use crate::residency::Memory;
use crate::segment::Segment;
use crate::watermark::Mark;
use crate::writer::{Naming, Sealing};

/// A segment that is full, and the one behind it; none behind the last one at close.
#[derive(Debug)]
pub(crate) struct FullSegment {
    pub(crate) sealing: Sealing,
    pub(crate) next: Option<Naming>,
    /// The last segment that the next one says is retired: it and those before it can go when that has its name.
    pub(crate) gone_upto: Option<u64>,
    /// What memory cost when it was full.
    pub(crate) memory: Memory,
}

/// Everything that was appended up to a moment and is not on the disk.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Segments that became full, oldest first.
    pub(crate) full: Vec<FullSegment>,
    /// The active segment, and its file.
    pub(crate) active: (Arc<Segment>, Arc<dyn File>),
    /// The moment.
    pub(crate) mark: Mark,
}

impl Flush {
    /// The last segment that can be removed when it is done.
    pub(crate) fn gone_upto(&self) -> Option<u64> {
        self.full.iter().filter_map(|full| full.gone_upto).max()
    }

    /// Does it. Gives how many syncs of segment data it took.
    ///
    /// The order is what recovery relies on: a segment is durable up to its seal before its header says so, and that
    /// is durable before the next segment has its name.
    pub(crate) fn run(&self, medium: &dyn Medium, dir: &Path) -> Result<u64, Error> {
        let mut syncs = 0;
        for full in &self.full {
            full.sealing.finish()?;
            syncs += 2;
            if let Some(next) = &full.next {
                next.finish(medium, dir)?;
                syncs += 1;
            }
        }
        // The naming of the active segment has synced it, at a time when the moment was past.
        if self.full.is_empty() {
            let (segment, file) = &self.active;
            file.sync_data().map_err(Error::io("sync", segment.path()))?;
            syncs += 1;
        }
        Ok(syncs)
    }
}
