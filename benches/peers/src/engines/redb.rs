//! redb: a copy-on-write B-tree.

use std::path::Path;

use anyhow::Result;
use parking_lot::Mutex;
use redb::{Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

pub(crate) const REDB: Kind = Kind {
    name: "redb/b1000",
    batch: 1000,
    is_durable: true,
    reopen: Reopen::Verifies,
    open: |dir, _| open(dir),
};

const RECORDS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

struct Redb {
    database: Database,
    next: Mutex<u64>,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let database = Database::create(dir.join("records.redb"))?;
    let transaction = database.begin_write()?;
    let last = transaction.open_table(RECORDS)?.last()?.map_or(0, |(key, _)| key.value());
    transaction.commit()?;
    Ok(Box::new(Redb { database, next: Mutex::new(last + 1) }))
}

impl Redb {
    fn commit(&self, records: &[&[u8]], durability: Durability) -> Result<u64> {
        let mut next = self.next.lock();
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut table = transaction.open_table(RECORDS)?;
            for record in records {
                table.insert(*next, *record)?;
                *next += 1;
            }
        }
        transaction.commit()?;
        Ok(*next - 1)
    }
}

impl Engine for Redb {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.append_batch(&[record])
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        self.commit(records, Durability::None)
    }

    fn sync(&self) -> Result<()> {
        self.commit(&[], Durability::Immediate)?;
        Ok(())
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        self.commit(&[record], Durability::Immediate)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let transaction = self.database.begin_read()?;
        let mut scanned = Scanned::default();
        for record in transaction.open_table(RECORDS)?.iter()? {
            scanned.see(record?.1.value());
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let transaction = self.database.begin_read()?;
        let record = transaction.open_table(RECORDS)?.get(position)?;
        Ok(record.map(|record| record.value().len()))
    }
}
