//! wal-db: a write-ahead log with a CRC for each record and group commit.

use std::path::Path;

use anyhow::Result;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};
use wal_db::{Lsn, Wal};

pub(crate) const WAL_DB: Kind =
    Kind { name: "wal-db", batch: 1, is_durable: true, reopen: Reopen::Verifies, open: |dir, _| open(dir) };

struct WalDb {
    wal: Wal,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    Ok(Box::new(WalDb { wal: Wal::open(dir.join("records.wal"))? }))
}

impl Engine for WalDb {
    fn append(&self, record: &[u8]) -> Result<u64> {
        Ok(self.wal.append(record)?.get())
    }

    fn sync(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        Ok(self.wal.append_and_sync(record)?.get())
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        for record in self.wal.iter()? {
            scanned.see(record?.data());
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let record = self.wal.iter_from(Lsn::new(position))?.next().transpose()?;
        Ok(record.map(|record| record.len()))
    }
}
