//! commitlog: a log in segments with an index entry for each message.

use std::path::Path;

use anyhow::{Result, anyhow};
use commitlog::message::{MessageBuf, MessageSet as _};
use commitlog::{CommitLog, LogOptions, ReadLimit};
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

use super::FileSync;

pub(crate) const ONE: Kind =
    Kind { name: "commitlog", batch: 1, is_durable: true, reopen: Reopen::Trusts, open: |dir, _| open(dir) };
pub(crate) const BATCH: Kind = Kind { name: "commitlog/b100", batch: 100, is_durable: false, ..ONE };

struct Commitlog {
    log: Mutex<CommitLog>,
    files: FileSync,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let mut options = LogOptions::new(dir);
    options.index_max_items(2_000_000);
    Ok(Box::new(Commitlog { log: Mutex::new(CommitLog::new(options)?), files: FileSync::new(dir) }))
}

impl Engine for Commitlog {
    fn append(&self, record: &[u8]) -> Result<u64> {
        Ok(self.log.lock().append_msg(record)?)
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let mut messages = MessageBuf::default();
        for record in records {
            messages.push(record).map_err(|error| anyhow!("{error:?}"))?;
        }
        let offsets = self.log.lock().append(&mut messages)?;
        Ok(offsets.first() + offsets.len() as u64 - 1)
    }

    /// Its own flush hands everything to the kernel and no further.
    fn sync(&self) -> Result<()> {
        let mut log = self.log.lock();
        log.flush()?;
        self.files.sync()
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let log = self.log.lock();
        let mut scanned = Scanned::default();
        let mut next = 0;
        while next < log.next_offset() {
            for message in log.read(next, ReadLimit::max_bytes(1 << 20))?.iter() {
                scanned.see(message.payload());
                next = message.offset() + 1;
            }
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let messages = self.log.lock().read(position, ReadLimit::max_bytes(4096))?;
        Ok(messages.iter().next().map(|message| message.payload().len()))
    }
}
