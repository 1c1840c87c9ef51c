//! walrus: topics in files of blocks, by `pwrite` or in a map. Where its files are, an environment variable says, which
//! the parent process sets.

use std::path::Path;

use anyhow::Result;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned, Use};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus, disable_fd_backend, enable_fd_backend};

use super::FileSync;

pub(crate) const FD: Kind = Kind {
    name: "walrus-fd",
    batch: 1,
    is_durable: true,
    reopen: Reopen::Verifies,
    open: |dir, usage| {
        enable_fd_backend();
        open(dir, usage)
    },
};
pub(crate) const MMAP: Kind = Kind {
    name: "walrus-mmap",
    open: |dir, usage| {
        disable_fd_backend();
        open(dir, usage)
    },
    ..FD
};

const TOPIC: &str = "records";

struct Topic {
    walrus: Walrus,
    files: FileSync,
}

fn open(dir: &Path, usage: Use) -> Result<Box<dyn Engine>> {
    let schedule = match usage {
        Use::Asynchronous => FsyncSchedule::NoFsync,
        Use::Durable => FsyncSchedule::SyncEach,
    };
    let consistency = ReadConsistency::AtLeastOnce { persist_every: u32::MAX };
    let walrus = Walrus::with_consistency_and_schedule(consistency, schedule)?;
    Ok(Box::new(Topic { walrus, files: FileSync::new(dir) }))
}

impl Engine for Topic {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.walrus.append_for_topic(TOPIC, record)?;
        Ok(0)
    }

    /// It syncs by itself at times or at every append; there is no call for it.
    fn sync(&self) -> Result<()> {
        self.files.sync()
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        self.append(record)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        loop {
            let entries = self.walrus.batch_read_for_topic(TOPIC, 1 << 20, true)?;
            if entries.is_empty() {
                return Ok(Some(scanned));
            }
            entries.iter().for_each(|entry| scanned.see(&entry.data));
        }
    }
}
