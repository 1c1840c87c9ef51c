//! Baselines that were written to be compared with: what the simplest log costs, and what the quickest one could.
//!
//! A record is its length, its CRC-32 and its bytes. A length of 0 is the end.

use std::fs::{File, OpenOptions};
use std::hint::spin_loop;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::{Condvar, Mutex};
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

/// A `BufWriter`, and an `fdatasync` under the writer's lock.
pub(crate) const BUF: Kind = Kind {
    name: "plain-buf",
    batch: 1,
    is_durable: true,
    reopen: Reopen::Verifies,
    open: |dir, _| Ok(Box::new(Buffered::open(dir)?)),
};

/// Group commit of large writes into space that was written before, by a leader that waits a moment for its group.
pub(crate) const PREZERO_GCWAIT: Kind =
    Kind { name: "plain-prezero-gcwait", open: |dir, _| Ok(Box::new(Grouped::open(dir)?)), ..BUF };

const HEAD: usize = 8;
const NAME: &str = "records.log";

fn encode(record: &[u8]) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    let (length, checksum) = head.split_at_mut(4);
    length.copy_from_slice(&(record.len() as u32).to_le_bytes());
    checksum.copy_from_slice(&crc32fast::hash(record).to_le_bytes());
    head
}

/// Shows every record up to the end, or to the first one that is wrong, and gives where that is.
fn walk(path: &Path, mut see: impl FnMut(&[u8])) -> Result<u64> {
    let bytes = std::fs::read(path)?;
    let mut rest = bytes.as_slice();
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some((record, behind)) = behind.split_at_checked(length) else { break };
        if length == 0 || encode(record) != *head {
            break;
        }
        see(record);
        rest = behind;
    }
    Ok((bytes.len() - rest.len()) as u64)
}

fn scan(dir: &Path) -> Result<Option<Scanned>> {
    let mut scanned = Scanned::default();
    walk(&dir.join(NAME), |record| scanned.see(record))?;
    Ok(Some(scanned))
}

/// Opens the file and gives where it ends.
fn open_file(dir: &Path) -> Result<(File, u64)> {
    let path = dir.join(NAME);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    Ok((file, walk(&path, |_| ())?))
}

struct Buffered {
    dir: std::path::PathBuf,
    writer: Mutex<(BufWriter<File>, u64)>,
}

impl Buffered {
    fn open(dir: &Path) -> Result<Self> {
        let (mut file, end) = open_file(dir)?;
        file.seek(SeekFrom::Start(end))?;
        let writer = BufWriter::with_capacity(64 << 10, file);
        Ok(Self { dir: dir.to_owned(), writer: Mutex::new((writer, end)) })
    }
}

impl Engine for Buffered {
    fn append(&self, record: &[u8]) -> Result<u64> {
        let head = encode(record);
        let (writer, end) = &mut *self.writer.lock();
        writer.write_all(&head)?;
        writer.write_all(record)?;
        let position = *end;
        *end += (HEAD + record.len()) as u64;
        Ok(position)
    }

    fn sync(&self) -> Result<()> {
        let (writer, _) = &mut *self.writer.lock();
        writer.flush()?;
        Ok(writer.get_ref().sync_data()?)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        scan(&self.dir)
    }
}

/// Space that is written before the first record, enough for every workload.
const WRITTEN: u64 = 384 << 20;
/// What is gathered before it is written without a sync.
const GATHERED: usize = 64 << 10;
/// How long a leader waits for those that the last group had.
const PATIENCE: Duration = Duration::from_micros(40);

struct Grouped {
    dir: std::path::PathBuf,
    file: File,
    state: Mutex<State>,
    synced: Condvar,
}

struct State {
    /// What is to be written next, and where.
    gathered: Vec<u8>,
    spare: Vec<u8>,
    offset: u64,
    /// Everything below is durable.
    durable: u64,
    /// Threads that wait for a sync, the leader included.
    waiting: usize,
    /// As many waited for the last one.
    group: usize,
    has_leader: bool,
    is_broken: bool,
}

impl Grouped {
    fn open(dir: &Path) -> Result<Self> {
        let (file, end) = open_file(dir)?;
        let zeros = vec![0; 1 << 20];
        let mut at = file.metadata()?.len();
        while at < WRITTEN {
            file.write_all_at(&zeros, at)?;
            at += zeros.len() as u64;
        }
        file.sync_all()?;
        let state = State {
            gathered: Vec::with_capacity(2 * GATHERED),
            spare: Vec::with_capacity(2 * GATHERED),
            offset: end,
            durable: end,
            waiting: 0,
            group: 1,
            has_leader: false,
            is_broken: false,
        };
        Ok(Self { dir: dir.to_owned(), file, state: Mutex::new(state), synced: Condvar::new() })
    }

    /// Adds a record and gives where it ends.
    fn gather(&self, state: &mut State, head: [u8; HEAD], record: &[u8]) -> Result<u64> {
        state.gathered.extend_from_slice(&head);
        state.gathered.extend_from_slice(record);
        // While a leader writes what it took, what comes behind it waits for its turn.
        if state.gathered.len() >= GATHERED && !state.has_leader {
            self.file.write_all_at(&state.gathered, state.offset)?;
            state.offset += state.gathered.len() as u64;
            state.gathered.clear();
        }
        Ok(state.offset + state.gathered.len() as u64)
    }

    /// Returns when everything below `end` is durable.
    fn wait_for(&self, mut state: parking_lot::MutexGuard<'_, State>, end: u64) -> Result<()> {
        state.waiting += 1;
        while state.has_leader && state.durable < end {
            self.synced.wait(&mut state);
        }
        if state.durable >= end {
            state.waiting -= 1;
            return Ok(());
        }
        anyhow::ensure!(!state.is_broken, "an earlier write has failed");
        state.has_leader = true;
        let began = Instant::now();
        while state.waiting < state.group && began.elapsed() < PATIENCE {
            parking_lot::MutexGuard::unlocked(&mut state, spin_loop);
        }
        state.group = state.waiting;
        let spare = std::mem::take(&mut state.spare);
        let mut taken = std::mem::replace(&mut state.gathered, spare);
        let offset = state.offset;
        state.offset += taken.len() as u64;
        let written = parking_lot::MutexGuard::unlocked(&mut state, || {
            self.file.write_all_at(&taken, offset)?;
            self.file.sync_data()
        });
        match &written {
            Ok(()) => state.durable = state.durable.max(offset + taken.len() as u64),
            Err(_) => state.is_broken = true,
        }
        taken.clear();
        state.spare = taken;
        state.has_leader = false;
        state.waiting -= 1;
        self.synced.notify_all();
        Ok(written?)
    }
}

impl Engine for Grouped {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.gather(&mut self.state.lock(), encode(record), record)
    }

    fn sync(&self) -> Result<()> {
        let state = self.state.lock();
        let end = state.offset + state.gathered.len() as u64;
        // What was gathered and written without a sync is covered by the next one, whoever makes it.
        self.wait_for(state, end)
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let head = encode(record);
        let mut state = self.state.lock();
        let end = self.gather(&mut state, head, record)?;
        self.wait_for(state, end)?;
        Ok(end)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        scan(&self.dir)
    }
}
