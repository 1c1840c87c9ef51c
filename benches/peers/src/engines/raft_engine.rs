//! raft-engine: TiKV's log of Raft entries, group commit.

use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use parking_lot::Mutex;
use protobuf::descriptor::UninterpretedOption;
use raft_engine::{Config, Engine as RaftEngine, LogBatch, MessageExt};
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

use super::FileSync;

pub(crate) const ONE: Kind = Kind {
    name: "raft-engine",
    batch: 1,
    is_durable: true,
    reopen: Reopen::Verifies,
    open: |dir, _| open(dir),
};
pub(crate) const BATCH: Kind = Kind { name: "raft-engine/b100", batch: 100, is_durable: false, ..ONE };

const GROUP: u64 = 1;

struct Raft {
    engine: RaftEngine,
    files: FileSync,
    /// Entries of a group must come in the order of their indices, so whoever takes one writes it before the next.
    next: Mutex<u64>,
    /// The last group that a thread of its own writes to.
    groups: AtomicU64,
}

/// An index and bytes, in a message that comes with protobuf.
struct Record;

impl MessageExt for Record {
    type Entry = UninterpretedOption;

    fn index(entry: &Self::Entry) -> u64 {
        entry.get_positive_int_value()
    }
}

fn entry(index: u64, record: &[u8]) -> UninterpretedOption {
    let mut entry = UninterpretedOption::new();
    entry.set_positive_int_value(index);
    entry.set_string_value(record.to_vec());
    entry
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let engine = RaftEngine::open(Config { dir: dir.display().to_string(), ..Config::default() })?;
    let next = engine.last_index(GROUP).map_or(1, |last| last + 1);
    Ok(Box::new(Raft {
        engine,
        files: FileSync::new(dir),
        next: Mutex::new(next),
        groups: AtomicU64::new(GROUP),
    }))
}

impl Engine for Raft {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.append_batch(&[record])
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let mut next = self.next.lock();
        let entries: Vec<_> = (*next..).zip(records).map(|(index, record)| entry(index, record)).collect();
        let mut batch = LogBatch::default();
        batch.add_entries::<Record>(GROUP, &entries)?;
        self.engine.write(&mut batch, false)?;
        *next += records.len() as u64;
        Ok(*next - 1)
    }

    /// Its own sync writes an empty batch, which version 0.4.2 takes for nothing to do.
    fn sync(&self) -> Result<()> {
        self.files.sync()
    }

    /// Each thread is a Raft group of its own, as in TiKV: within one, entries would have to wait for one another.
    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        thread_local! {
            static GROUP_AND_NEXT: Cell<(u64, u64)> = const { Cell::new((0, 1)) };
        }
        let (group, index) = match GROUP_AND_NEXT.get() {
            (0, _) => (self.groups.fetch_add(1, Ordering::Relaxed) + 1, 1),
            known => known,
        };
        let mut batch = LogBatch::default();
        batch.add_entries::<Record>(group, &[entry(index, record)])?;
        self.engine.write(&mut batch, true)?;
        GROUP_AND_NEXT.set((group, index + 1));
        Ok(index)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        let mut entries = Vec::new();
        let (mut at, end) = (1, *self.next.lock());
        while at < end {
            let to = end.min(at + 1000);
            self.engine.fetch_entries_to::<Record>(GROUP, at, to, None, &mut entries)?;
            entries.drain(..).for_each(|entry| scanned.see(entry.get_string_value()));
            at = to;
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let entry = self.engine.get_entry::<Record>(GROUP, position)?;
        Ok(entry.map(|entry| entry.get_string_value().len()))
    }
}
