//! RocksDB: an LSM tree with a write-ahead log. Only with the feature of this name.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

use super::key;

pub(crate) const ONE: Kind =
    Kind { name: "rocksdb", batch: 1, is_durable: true, reopen: Reopen::Verifies, open: |dir, _| open(dir) };
pub(crate) const BATCH: Kind = Kind { name: "rocksdb/b100", batch: 100, is_durable: false, ..ONE };

struct Rocks {
    database: DB,
    next: AtomicU64,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let database = DB::open_default(dir)?;
    let last = match database.iterator(IteratorMode::End).next() {
        Some(last) => u64::from_be_bytes(last?.0.as_ref().try_into()?),
        None => 0,
    };
    Ok(Box::new(Rocks { database, next: AtomicU64::new(last + 1) }))
}

impl Engine for Rocks {
    fn append(&self, record: &[u8]) -> Result<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.database.put(key(index), record)?;
        Ok(index)
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let first = self.next.fetch_add(records.len() as u64, Ordering::Relaxed);
        let mut batch = WriteBatch::default();
        (first..).zip(records).for_each(|(index, record)| batch.put(key(index), record));
        self.database.write(batch)?;
        Ok(first + records.len() as u64 - 1)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.put_opt(key(index), record, &options)?;
        Ok(index)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        for record in self.database.iterator(IteratorMode::Start) {
            scanned.see(&record?.1);
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        Ok(self.database.get_pinned(key(position))?.map(|record| record.len()))
    }
}
