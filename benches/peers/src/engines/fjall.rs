//! fjall: an LSM tree.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

use super::key;

pub(crate) const FJALL: Kind =
    Kind { name: "fjall", batch: 1, is_durable: true, reopen: Reopen::Verifies, open: |dir, _| open(dir) };

struct Fjall {
    database: Database,
    records: Keyspace,
    next: AtomicU64,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let database = Database::builder(dir).open()?;
    let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
    let last = match records.last_key_value() {
        Some(last) => u64::from_be_bytes(last.key()?.as_ref().try_into()?),
        None => 0,
    };
    Ok(Box::new(Fjall { database, records, next: AtomicU64::new(last + 1) }))
}

impl Engine for Fjall {
    fn append(&self, record: &[u8]) -> Result<u64> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        self.records.insert(key(index), record)?;
        Ok(index)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        for record in self.records.iter() {
            scanned.see(&record.value()?);
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        Ok(self.records.get(key(position))?.map(|record| record.len()))
    }
}
