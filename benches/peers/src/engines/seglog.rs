//! seglog: a segment of fixed size with a CRC for each record; a sync writes a commit marker.

use std::path::{Path, PathBuf};

use anyhow::Result;
use parking_lot::Mutex;
use seglog::read::{ReadHint, Reader};
use seglog::write::Writer;
use semj_bench::engine::{Engine, Kind, Reopen, Scanned};

pub(crate) const SEGLOG: Kind =
    Kind { name: "seglog", batch: 1, is_durable: true, reopen: Reopen::Verifies, open: |dir, _| open(dir) };

/// Room for every workload: it has no way to go on in another segment by itself.
const SEGMENT_SIZE: usize = 384 << 20;

struct Seglog {
    path: PathBuf,
    state: Mutex<State>,
    reader: Mutex<Option<Reader<0>>>,
}

struct State {
    writer: Writer<0>,
    records: u64,
}

fn open(dir: &Path) -> Result<Box<dyn Engine>> {
    let path = dir.join("segment.log");
    let writer = match path.exists() {
        true => Writer::open(&path, SEGMENT_SIZE, 0)?,
        false => Writer::create(&path, SEGMENT_SIZE, 0)?,
    };
    let records = writer.last_committed_position().unwrap_or(0);
    Ok(Box::new(Seglog { path, state: Mutex::new(State { writer, records }), reader: Mutex::new(None) }))
}

impl State {
    fn append(&mut self, record: &[u8]) -> Result<u64> {
        self.records += 1;
        Ok(self.writer.append_data(record)?.0)
    }

    fn commit(&mut self) -> Result<()> {
        self.writer.commit(self.records)?;
        Ok(())
    }
}

impl Seglog {
    fn with_reader<T>(&self, read: impl FnOnce(&mut Reader<0>) -> Result<T>) -> Result<T> {
        let mut reader = self.reader.lock();
        let reader = match &mut *reader {
            Some(reader) => reader,
            none => none.insert(Reader::open(&self.path, Some(self.state.lock().writer.flushed_offset()))?),
        };
        read(reader)
    }
}

impl Engine for Seglog {
    fn append(&self, record: &[u8]) -> Result<u64> {
        self.state.lock().append(record)
    }

    fn sync(&self) -> Result<()> {
        self.state.lock().commit()
    }

    fn append_durable(&self, record: &[u8]) -> Result<u64> {
        let mut state = self.state.lock();
        let offset = state.append(record)?;
        state.commit()?;
        Ok(offset)
    }

    fn scan(&self) -> Result<Option<Scanned>> {
        self.with_reader(|reader| {
            let mut scanned = Scanned::default();
            let mut records = reader.iter(0);
            while let Some(record) = records.next_record()? {
                scanned.see(&record.data);
            }
            Ok(Some(scanned))
        })
    }

    fn get(&self, position: u64) -> Result<Option<usize>> {
        self.with_reader(|reader| Ok(Some(reader.read_record(position, ReadHint::Random)?.data.len())))
    }
}
