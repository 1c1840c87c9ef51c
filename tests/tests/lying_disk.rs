//! A disk that writes other bytes than it was told to: a compacted segment never takes the place of a native one then.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use semj::medium::{Disk, File};
use semj::{Compaction, Error, Event, EventType, Journal, OpenMode, Options, Reader, compact_on};
use semj_tests::quirk::{Quirk, QuirkyDisk};

/// Flips a bit of what is written.
#[derive(Debug)]
struct Lying {
    bit: u64,
}

impl Quirk for Lying {
    fn write_at(&self, file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = bytes.to_vec();
        let at = (self.bit / 8) as usize % bytes.len();
        written[at] ^= 1 << (self.bit % 8);
        file.write_at(offset, &written)
    }
}

/// The segments and whatever else has a name.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .filter(|(name, _)| name.contains(".semj"))
        .collect();
    files.sort();
    files
}

#[test]
fn a_compacted_segment_that_reads_back_otherwise_does_not_take_the_native_ones_place() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { segment_size: 1 << 20, ..Options::default() }).unwrap();
    for id in 1..=3_000u64 {
        let payload = format!("{{\"bytes\":{}}}", id * 17 % 5000);
        let event = Event::new(EventType::FILESYSTEM_WRITE).path("/project/a.rs").payload(payload.as_bytes());
        assert_eq!(journal.emit(&event).unwrap(), id);
    }
    journal.close().unwrap();
    let before = files(dir.path());
    // In the header, in a block, and somewhere.
    for bit in [3, 52 * 8, 200 * 8 + 5, 4_001 * 8, u64::MAX / 8 * 8] {
        let found =
            compact_on(&QuirkyDisk::new(Lying { bit }), dir.path(), &Compaction::default(), &mut |_| {
                ControlFlow::Continue(())
            });
        assert!(matches!(found, Err(Error::NotGivenBack { .. })), "bit {bit}: {found:?}");
        assert!(files(dir.path()) == before, "bit {bit}");
    }
    let done = compact_on(&Disk, dir.path(), &Compaction::default(), &mut |_| ControlFlow::Continue(()));
    assert_eq!(done.unwrap().compacted, 1);
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.iter(..).filter(Result::is_ok).count(), 3_000);
}
