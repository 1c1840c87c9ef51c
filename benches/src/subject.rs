//! SEMJ as it is measured. What the benches know of its interface stands here.

use std::path::Path;

use anyhow::{Result, bail};
use semj::{Compaction, Event, EventType, Journal, OpenMode, Options, Stats};

use crate::engine::{Engine, Kind, Reopen, Scanned};

/// What differs from the default options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setup {
    /// Bytes of a segment.
    pub segment_size: Option<u64>,
    /// The journal compacts what has ended, at so many bytes each second at most.
    pub compaction_rate: Option<u64>,
}

/// A journal that is measured.
#[derive(Debug)]
pub struct Subject {
    journal: Journal,
}

/// How far a journal is.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Events that were emitted.
    pub emitted: u64,
    /// Those of them that are not committed yet.
    pub queued: u64,
    /// Times that an emission had to wait for room.
    pub waits: u64,
    /// Commit groups.
    pub commits: u64,
    /// Syncs of the disk.
    pub syncs: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes that were written to them.
    pub bytes: u64,
}

/// What a complete verification has seen.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// Bytes of all segments up to their ends.
    pub bytes: u64,
    /// Events.
    pub events: u64,
}

impl Subject {
    /// Opens or begins a journal.
    ///
    /// # Errors
    ///
    /// As [`Journal::open`].
    pub fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let mut options = Options::default();
        if let Some(segment_size) = setup.segment_size {
            options.segment_size = segment_size;
        }
        options.compaction =
            setup.compaction_rate.map(|rate| Compaction { rate: Some(rate), ..Compaction::default() });
        Ok(Self { journal: Journal::open(dir, options)? })
    }

    /// Emits an event, with a path if it isn't empty. Built where it is emitted, as a caller does it.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit`].
    #[inline(always)]
    pub fn emit(&self, path: &[u8], payload: &[u8]) -> Result<u64, semj::Error> {
        if path.is_empty() {
            self.journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload))
        } else {
            self.journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).path(path).payload(payload))
        }
    }

    /// Emits an event and returns when it is durable.
    ///
    /// # Errors
    ///
    /// As [`Journal::emit_durable`].
    pub fn emit_durable(&self, payload: &[u8]) -> Result<u64, semj::Error> {
        self.journal.emit_durable(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload))
    }

    /// Returns when everything that was emitted is durable.
    ///
    /// # Errors
    ///
    /// As [`Journal::sync`].
    pub fn sync(&self) -> Result<(), semj::Error> {
        self.journal.sync()
    }

    /// How far it is.
    pub fn figures(&self) -> Figures {
        self.journal.stats().into()
    }

    /// Closes it and says how far it came.
    ///
    /// # Errors
    ///
    /// As [`Journal::close`].
    pub fn close(self) -> Result<Figures> {
        Ok(self.journal.close()?.into())
    }
}

impl From<Stats> for Figures {
    fn from(stats: Stats) -> Self {
        Self {
            emitted: stats.events_emitted,
            queued: stats.last_emitted_id.saturating_sub(stats.last_committed_id),
            waits: stats.waits,
            commits: stats.commits,
            syncs: stats.syncs,
            segments: stats.segments,
            bytes: stats.bytes_written,
        }
    }
}

/// Events that a journal holds in memory at most, with default options.
pub fn places() -> usize {
    Options::default().buffer_events
}

/// Verifies a journal through what `semj verify` calls.
///
/// # Errors
///
/// It can't be read, or is damaged.
pub fn verify(dir: &Path) -> Result<Verified> {
    let report = semj::examine_journal(dir, OpenMode::Strict)?;
    if !report.is_whole() {
        bail!("{}: the journal is damaged", dir.display());
    }
    let bytes = report.segments.iter().map(|segment| segment.end as u64).sum();
    Ok(Verified { bytes, events: report.events() })
}

/// SEMJ with its default options, as an engine among others.
pub const SEMJ: Kind = Kind {
    name: "semj",
    batch: 1,
    is_durable: true,
    reopen: Reopen::Verifies,
    open: |dir, _| Ok(Box::new(Subject::open(dir, &Setup::default())?)),
};

impl Engine for Subject {
    fn append(&self, record: &[u8]) -> Result<u64> {
        Ok(self.emit(&[], record)?)
    }

    fn sync(&self) -> Result<()> {
        Ok(self.journal.sync()?)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        Ok(self.emit_durable(record)?)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        let mut scanned = Scanned::default();
        for record in self.journal.reader().iter(..) {
            scanned.see(record?.payload());
        }
        Ok(Some(scanned))
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        let reader = self.journal.reader();
        let record = reader.get(position)?;
        Ok(record.map(|record| record.payload().len()))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Subject::close(*self)?;
        Ok(())
    }
}
