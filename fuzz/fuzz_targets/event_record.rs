//! Any bytes as a record: no accessor panics, and a record that is right comes back from its parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::context::FIXED_SIZE;
use semj_format::{Draft, Record};
use semj_fuzz::{read_everything, repair_record, within};

fuzz_target!(|data: &[u8]| {
    let Ok(record) = Record::parse(data) else { return };
    let mut bytes = record.bytes().to_vec();
    assert!(bytes.len() <= data.len());
    read_everything(&record);
    repair_record(&mut bytes);
    let record = Record::parse_verified(&bytes).expect("a repaired record is right");
    read_everything(&record);
    let links: Vec<_> = record.links().collect();
    // One copy of the record, and nothing else.
    let again = within(bytes.len() + 4096, || Draft::of_record(&record, &links).to_vec());
    match again {
        // A context in the fixed form becomes a compact one where that loses nothing.
        Ok(again) if record.context_bytes().len() == FIXED_SIZE => {
            let again = Record::parse_verified(&again).expect("an encoded record is one");
            assert_eq!(again.context(), record.context());
        }
        Ok(again) => assert!(again == bytes, "a record comes back from its parts"),
        // What can be read but not be written: scores above 100, a version from elsewhere, and the like.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
