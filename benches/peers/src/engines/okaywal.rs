//! okaywal: entries of one or more chunks; committing an entry makes it durable, by group commit.
//!
//! Where records need not be durable, they are chunks of one entry that the sync commits. What was recovered is
//! checkpointed and its files are used again, so that there is nothing to scan or to get afterwards.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use okaywal::{Configuration, Entry, EntryId, EntryWriter, LogManager, SegmentReader, WriteAheadLog};
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned, Use};

pub(crate) const OKAYWAL: Kind =
    Kind { name: "okaywal", batch: 1, is_durable: true, reopen: Reopen::Verifies, open };

/// Room for every workload in one file.
const WORKLOAD_BYTES: u32 = 384 << 20;

struct Okaywal {
    /// Lives as long as the process, because the open entry borrows it.
    log: &'static WriteAheadLog,
    entry: Mutex<Option<EntryWriter<'static>>>,
    recovered: Scanned,
}

/// Looks at everything that is read back, and keeps nothing.
#[derive(Debug)]
struct Reading {
    recovered: Arc<Mutex<Scanned>>,
}

impl LogManager for Reading {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        // Nothing where a checksum is wrong.
        let chunks = entry.read_all_chunks()?.unwrap_or_default();
        let mut recovered = self.recovered.lock();
        chunks.iter().for_each(|chunk| recovered.see(chunk));
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

fn open(dir: &Path, usage: Use) -> Result<Box<dyn Engine>> {
    let mut options = Configuration::default_for(dir);
    if usage == Use::Asynchronous {
        // What was checkpointed is forgotten: not before everything was appended.
        options = options.preallocate_bytes(WORKLOAD_BYTES).checkpoint_after_bytes(u64::from(WORKLOAD_BYTES));
    }
    let recovered = Arc::default();
    let log = Box::leak(Box::new(options.open(Reading { recovered: Arc::clone(&recovered) })?));
    let recovered = *recovered.lock();
    Ok(Box::new(Okaywal { log, entry: Mutex::new(None), recovered }))
}

impl Engine for Okaywal {
    fn append(&self, record: &[u8]) -> Result<u64> {
        let mut entry = self.entry.lock();
        let writer = match &mut *entry {
            Some(writer) => writer,
            none => none.insert(self.log.begin_entry()?),
        };
        writer.write_chunk(record)?;
        Ok(0)
    }

    fn sync(&self) -> Result<()> {
        if let Some(writer) = self.entry.lock().take() {
            writer.commit()?;
        }
        Ok(())
    }

    fn recovered(&self) -> Option<Scanned> {
        Some(self.recovered)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let mut writer = self.log.begin_entry()?;
        writer.write_chunk(record)?;
        writer.commit()?;
        Ok(0)
    }
}
