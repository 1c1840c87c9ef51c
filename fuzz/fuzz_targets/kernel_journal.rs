//! Bytes as a journal in the kernel's format: what is read can be written, unless a context forbids it, and what
//! was written is read again as it is.
//!
//! The first byte says whether checksums are made right before; its flags are those of `semj_fuzz::journal`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::limits::KERNEL_EVENT_COUNT_MAX;
use semj_format::{ContextForm, JournalHeader, Record};
use semj_fuzz::repair::{self, Layers};
use semj_fuzz::{MEMORY_BASE, within};
use semj_interchange::kernel::{KernelJournal, WriteError, write};

fuzz_target!(|data: &[u8]| {
    let Some((flags, file)) = data.split_first() else {
        return;
    };
    let mut file = file.to_vec();
    repair::segment(&mut file, Layers::from_flags(*flags), None);
    let records = within(MEMORY_BASE, || read(&file));
    // A compact context of 5 bytes in a record of 137 becomes 5,280: 40 times as much. A buffer that grows is
    // there twice, and what was written is written again.
    within(4 * 40 * file.len() + MEMORY_BASE, || round_trip(&file, records));
});

/// Walks the journal without keeping anything; how many records there are, or `None` after an error.
fn read(file: &[u8]) -> Option<u64> {
    let journal = match KernelJournal::parse(file) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    assert!(journal.header().journal_size <= file.len() as u64);
    assert!(journal.header().total_events <= KERNEL_EVENT_COUNT_MAX);
    let mut expected = JournalHeader::SIZE as u64;
    let mut count = 0;
    let mut records = journal.records();
    for item in records.by_ref() {
        let (at, record) = match item {
            Ok(found) => found,
            Err(error) => {
                assert_eq!(error.offset, expected);
                assert!(records.next().is_none(), "nothing comes after an error");
                return None;
            }
        };
        assert_eq!(at, expected);
        assert!(record.verify_checksum().is_ok());
        expected += record.len() as u64;
        count += 1;
    }
    assert_eq!(count, journal.header().total_events);
    assert_eq!(expected, journal.header().journal_size);
    Some(count)
}

fn events<'a>(file: &'a [u8]) -> impl Iterator<Item = Record<'a>> + Clone {
    let journal = match KernelJournal::parse(file) {
        Ok(journal) => journal,
        Err(error) => panic!("a journal that was read can't be read again: {error}"),
    };
    journal.records().map_while(Result::ok).map(|(_, record)| record)
}

fn round_trip(file: &[u8], records: Option<u64>) {
    let Some(records) = records else { return };
    let mut written = Vec::new();
    let header = match write(events(file), &mut written) {
        Ok(header) => header,
        Err(WriteError::Context { source, .. }) => {
            assert!(written.is_empty() && !source.to_string().is_empty());
            return;
        }
        Err(error) => panic!("a journal that was read can't be written: {error}"),
    };
    assert_eq!(header.encode(), written[..JournalHeader::SIZE]);
    assert_eq!(header.total_events, records);
    assert_eq!(header.journal_size, written.len() as u64);
    assert_eq!(read(&written), Some(records));
    for (before, after) in events(file).zip(events(&written)) {
        let form = ContextForm::of_size(before.context_bytes().len());
        assert_ne!(ContextForm::of_size(after.context_bytes().len()), ContextForm::Compact);
        if form == ContextForm::Compact {
            assert_eq!(before.context(), after.context());
            assert_eq!(before.payload(), after.payload());
            assert_eq!(before.metadata(), after.metadata());
            assert!(before.links().eq(after.links()));
        } else {
            assert_eq!(before.bytes(), after.bytes());
        }
    }
    let mut again = Vec::new();
    assert!(write(events(&written), &mut again).is_ok_and(|header_again| header_again == header));
    assert!(again == written);
}
