//! LMDB: a B+ tree in a map of one file. Records are appended behind the last key.

use std::path::Path;

use anyhow::{Result, bail};
use heed::byteorder::BigEndian;
use heed::types::{Bytes, U64};
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned, Use};

pub(crate) const LMDB: Kind =
    Kind { name: "lmdb/b1000", batch: 1000, is_durable: true, reopen: Reopen::Trusts, open };

type Records<'e> = Database<'e, U64<BigEndian>, Bytes>;

struct Lmdb {
    /// Lives as long as the process, because the database borrows it.
    env: &'static Env,
    records: Records<'static>,
    next: Mutex<u64>,
}

fn open(dir: &Path, usage: Use) -> Result<Box<dyn Engine>> {
    let mut options = EnvOpenOptions::new();
    options.map_size(4 << 30);
    if usage == Use::Asynchronous {
        // SAFETY: without syncs a crash of the machine may damage the file; nothing is read from it after one.
        unsafe { options.flags(EnvFlags::NO_SYNC) };
    }
    // SAFETY: the directory is the measurement's own: nobody else changes the file under the map, and it is opened once
    // in this process.
    let env: &'static Env = Box::leak(Box::new(unsafe { options.open(dir)? }));
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, transaction| {
        opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let CommitOrAbort::Commit(records) = created else { bail!("the database was not created") };
    let records: Records<'static> = records;
    let transaction = env.read_txn()?;
    let last = records.last(&transaction)?.map_or(0, |(key, _)| key);
    drop(transaction);
    Ok(Box::new(Lmdb { env, records, next: Mutex::new(last + 1) }))
}

impl Engine for Lmdb {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.append_batch(&[record])
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let mut next = self.next.lock();
        let mut transaction = self.env.write_txn()?;
        for record in records {
            self.records.put_with_flags(&mut transaction, PutFlags::APPEND, &next, record)?;
            *next += 1;
        }
        transaction.commit()?;
        Ok(*next - 1)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.env.force_sync()?)
    }

    /// A commit is durable by itself.
    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        self.append(record)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let transaction = self.env.read_txn()?;
        let mut scanned = Scanned::default();
        for record in self.records.iter(&transaction)? {
            scanned.see(record?.1);
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let transaction = self.env.read_txn()?;
        Ok(self.records.get(&transaction, &position)?.map(<[u8]>::len))
    }
}
