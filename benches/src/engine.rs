//! What a log must offer to be measured.

use std::path::Path;

use anyhow::Result;

/// A log that is open for writing, used by several threads at once.
pub trait Engine: Send + Sync {
    /// Appends a record, as cheaply as the engine has it, and gives where it is.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn append(&self, record: &[u8]) -> Result<u64>;

    /// Appends records by one call and gives where the last one is.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn append_batch(&self, records: &[&[u8]]) -> Result<u64> {
        let mut last = 0;
        for record in records {
            last = self.append(record)?;
        }
        Ok(last)
    }

    /// Returns when everything that was appended is durable.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn sync(&self) -> Result<()>;

    /// Appends a record and returns when it is durable.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let position = self.append(record)?;
        self.sync()?;
        Ok(position)
    }

    /// What opening it has read, where an engine hands over all records then and can't be scanned later.
    fn recovered(&self) -> Option<Scanned> {
        None
    }

    /// Reads all records in their order; `None` where the engine can't.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn scan(&self) -> Result<Option<Scanned>> {
        Ok(None)
    }

    /// Reads the record that `append` said was there and gives its size; `None` where the engine can't.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn get(&self, position: u64) -> Result<Option<usize>> {
        let _ = position;
        Ok(None)
    }

    /// Closes it.
    ///
    /// # Errors
    ///
    /// The engine's own.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// What an engine is opened for, where that makes a difference to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Records need not be durable before the next `sync`.
    Asynchronous,
    /// Every record is appended by `append_durable`.
    Durable,
}

/// How the names of those begin that are no engines but written to be compared with.
pub const BASELINE: &str = "plain-";

/// A way to use an engine.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name; `/bN` behind it says that N records are appended by one call, [`BASELINE`] before it that it is none
    /// that a user could pick.
    pub name: &'static str,
    /// Records that are appended by one call.
    pub batch: usize,
    /// Whether records can be made durable one by one.
    pub is_durable: bool,
    /// What opening it again does.
    pub reopen: Reopen,
    /// Opens or begins a log in a directory that exists.
    pub open: fn(&Path, Use) -> Result<Box<dyn Engine>>,
}

/// What opening a log again does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopen {
    /// It checks what is there, all of it.
    Verifies,
    /// It takes what is there for right, or looks at the end only.
    Trusts,
    /// It can't be opened again.
    Never,
}

/// What a scan has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Something that depends on the records' bytes, so that they have to be looked at: one byte in 64.
    pub sum: u64,
}

impl Scanned {
    /// Looks at a record.
    #[inline]
    pub fn see(&mut self, record: &[u8]) {
        self.records += 1;
        self.bytes += record.len() as u64;
        self.sum = record.iter().step_by(64).fold(self.sum, |sum, byte| sum.wrapping_add(u64::from(*byte)));
    }
}
