//! okaywal: entries of one or more chunks; committing an entry makes it durable, by group commit.
//!
//! Where records need not be durable, they are chunks of one entry that the sync commits. What was recovered is
//! checkpointed and its files are used again, so that there is nothing to scan or to get afterwards.

use std::io;
use std::path::Path;

use anyhow::Result;
use okaywal::{Entry, EntryId, EntryWriter, LogManager, SegmentReader, WriteAheadLog};
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen};

pub(crate) const OKAYWAL: Kind =
    Kind { name: "okaywal", batch: 1, is_durable: true, reopen: Reopen::Verifies, open: |dir, _| open(dir) };

struct Okaywal {
    /// Lives as long as the process, because the open entry borrows it.
    log: &'static WriteAheadLog,
    entry: Mutex<Option<EntryWriter<'static>>>,
}

/// Reads everything back, as a program must that keeps its state in the log, and keeps nothing.
#[derive(Debug)]
struct Reading;

impl LogManager for Reading {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        entry.read_all_chunks()?;
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> io::Result<()> {
        Ok(())
    }
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let log = Box::leak(Box::new(WriteAheadLog::recover(dir, Reading)?));
    Ok(Box::new(Okaywal { log, entry: Mutex::new(None) }))
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

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let mut writer = self.log.begin_entry()?;
        writer.write_chunk(record)?;
        writer.commit()?;
        Ok(0)
    }
}
