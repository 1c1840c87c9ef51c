//! tracing-appender: lines handed to a thread that writes them to a file. Not durable, no records, nothing to reopen.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use parking_lot::Mutex;
use semj_bench::engine::{Engine, Kind, Reopen};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::FileSync;

pub(crate) const TRACING_APPENDER: Kind = Kind {
    name: "tracing-appender",
    batch: 1,
    is_durable: false,
    reopen: Reopen::Never,
    open: |dir, _| open(dir),
};

struct Appender {
    writer: Mutex<Option<(NonBlocking, WorkerGuard)>>,
    files: FileSync,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let (writer, guard) = NonBlockingBuilder::default().lossy(false).finish(File::create(dir.join("log"))?);
    Ok(Box::new(Appender { writer: Mutex::new(Some((writer, guard))), files: FileSync::new(dir) }))
}

impl Engine for Appender {
    fn append(&self, record: &[u8]) -> Result<u64> {
        match &mut *self.writer.lock() {
            Some((writer, _)) => writer.write_all(record)?,
            None => bail!("nothing can be written behind a sync"),
        }
        Ok(0)
    }

    /// Its guard waits for the thread to write everything; there is no other way to know that it has.
    fn sync(&self) -> Result<()> {
        drop(self.writer.lock().take());
        self.files.sync()
    }
}
