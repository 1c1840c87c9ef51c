//! A file for each engine: how it is opened, and which of its calls are measured.
//!
//! Options are the engine's defaults, but for what the workload needs: room for as many records, and no sync that
//! nobody asked for where records need not be durable.

mod commitlog;
mod fjall;
mod lmdb;
mod nano_wal;
mod okaywal;
mod plain;
mod raft_engine;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod seglog;
mod simd_r_drive;
mod tracing_appender;
mod wal_db;
mod walrus;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use parking_lot::Mutex;
use semj_bench::engine::Kind;
use semj_bench::subject::SEMJ;

/// All engines, SEMJ first.
pub(crate) const ALL: &[Kind] = &[
    SEMJ,
    commitlog::ONE,
    commitlog::BATCH,
    fjall::FJALL,
    lmdb::LMDB,
    nano_wal::ONE,
    nano_wal::BATCH,
    okaywal::OKAYWAL,
    raft_engine::ONE,
    raft_engine::BATCH,
    redb::REDB,
    #[cfg(feature = "rocksdb")]
    rocksdb::ONE,
    #[cfg(feature = "rocksdb")]
    rocksdb::BATCH,
    seglog::SEGLOG,
    simd_r_drive::SIMD_R_DRIVE,
    tracing_appender::TRACING_APPENDER,
    wal_db::WAL_DB,
    walrus::FD,
    walrus::MMAP,
    plain::BUF,
    plain::PREZERO_GCWAIT,
];

/// The one with this name.
pub(crate) fn named(name: &str) -> Result<&'static Kind> {
    match ALL.iter().find(|kind| kind.name == name) {
        Some(kind) => Ok(kind),
        None => bail!("there is no engine {name}"),
    }
}

/// Syncs the files of an engine that has no call for it. Every file that there is at the first sync is one that it goes
/// on writing: the workloads are small enough.
struct FileSync {
    dir: PathBuf,
    files: Mutex<Vec<File>>,
}

impl FileSync {
    fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: Mutex::new(Vec::new()) }
    }

    fn sync(&self) -> Result<()> {
        let mut files = self.files.lock();
        if files.is_empty() {
            open_all(&self.dir, &mut files)?;
        }
        files.iter().try_for_each(|file| Ok(file.sync_data()?))
    }
}

fn open_all(dir: &Path, files: &mut Vec<File>) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { open_all(&path, files)? } else { files.push(File::open(path)?) }
    }
    Ok(())
}

/// A key that stands behind all before it.
fn key(index: u64) -> [u8; 8] {
    index.to_be_bytes()
}
