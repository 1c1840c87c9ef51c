//! simd-r-drive: keys and values in one mapped file. It maps the file anew at every write; in batches only.

use std::path::Path;

use anyhow::Result;
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};
use simd_r_drive::DataStore;
use simd_r_drive::traits::{DataStoreReader as _, DataStoreWriter as _};

use super::{FileSync, key};

pub(crate) const SIMD_R_DRIVE: Kind = Kind {
    name: "simd-r-drive/b100",
    batch: 100,
    is_durable: true,
    reopen: Reopen::Trusts,
    open: |dir, _| open(dir),
};

struct SimdRDrive {
    store: DataStore,
    files: FileSync,
    next: Mutex<u64>,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let store = DataStore::open(&dir.join("store.bin"))?;
    let next = store.len()? as u64;
    Ok(Box::new(SimdRDrive { store, files: FileSync::new(dir), next: Mutex::new(next) }))
}

impl Engine for SimdRDrive {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.append_batch(&[record])
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let mut next = self.next.lock();
        let keys: Vec<_> = (*next..).take(records.len()).map(key).collect();
        let entries: Vec<(&[u8], &[u8])> =
            keys.iter().zip(records).map(|(key, record)| (key.as_slice(), *record)).collect();
        self.store.batch_write(&entries)?;
        *next += records.len() as u64;
        Ok(*next - 1)
    }

    /// It has no call that goes further than the kernel.
    fn sync(&self) -> Result<()> {
        self.files.sync()
    }

    /// From the newest to the oldest: there is no other order.
    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        for entry in self.store.iter_entries() {
            scanned.see(entry.as_slice());
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        Ok(self.store.read(&key(position))?.map(|entry| entry.as_slice().len()))
    }
}
