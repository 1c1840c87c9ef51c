//! nano-wal: a file for each window of time, no checksums.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use nano_wal::{Wal, WalOptions, WriteEntry};
use semj_bench::engine::{Engine, Kind, Reopen};

pub(crate) const ONE: Kind =
    Kind { name: "nano-wal", batch: 1, is_durable: true, reopen: Reopen::Trusts, open: |dir, _| open(dir) };
pub(crate) const BATCH: Kind = Kind { name: "nano-wal/b100", batch: 100, is_durable: false, ..ONE };

struct NanoWal {
    wal: Wal,
    /// All records go into the window of this time.
    now_ms: i64,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let year = Duration::from_secs(365 * 24 * 3600);
    let options = WalOptions { retention: year, segment_duration: year };
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    Ok(Box::new(NanoWal { wal: Wal::new(dir, "bench", options)?, now_ms }))
}

/// Where a record is and how long it is in one number.
fn position(offset: u64, size: u64) -> u64 {
    offset << 24 | size
}

impl Engine for NanoWal {
    fn append(&self, record: &[u8]) -> Result<u64> {
        let entry = self.wal.append(None, record, self.now_ms, false)?;
        Ok(position(entry.file_offset, entry.byte_size as u64))
    }

    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let entries: Vec<_> =
            records.iter().map(|record| WriteEntry { header: None, content: record }).collect();
        let entries = self.wal.append_batch(&entries, self.now_ms, false)?;
        Ok(entries.last().map_or(0, |entry| position(entry.file_offset, entry.byte_size as u64)))
    }

    fn sync(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let entry = self.wal.append(None, record, self.now_ms, true)?;
        Ok(position(entry.file_offset, entry.byte_size as u64))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let segment = self.wal.ensure_segment(self.now_ms)?;
        let record = self.wal.read_at(&segment, position >> 24, (position & 0xFF_FFFF) as usize)?;
        Ok(Some(record.content.len()))
    }
}
