//! Bytes as event records: no accessor panics, and writing a record again gives the same record.
//!
//! What holds exactly: the record that `Draft::of_record` writes has the same bytes, its checksum apart, which
//! is right now. The one exception is a context in the fixed form, which becomes compact where the fixed form
//! can be had back byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::context::FIXED_SIZE;
use semj_format::event_header::EVENT_VERSION;
use semj_format::limits::{LINK_SIZE, RECORD_SIZE_MIN};
use semj_format::{Context, ContextForm, Draft, EventHeader, Record, Records};
use semj_fuzz::repair;
use semj_fuzz::{MEMORY_BASE, within};

fuzz_target!(|data: &[u8]| {
    // Parsing borrows; what is written again is a copy of the record and its links, 160 bytes for each 160.
    within(4 * data.len() + MEMORY_BASE, || walk(data));
    // Whatever the sizes are, the first record's frame is made to fit them, as far as there are bytes.
    let mut framed = data.to_vec();
    if let Some(bytes) = framed.first_chunk_mut::<{ EventHeader::SIZE }>() {
        let header = EventHeader::decode(bytes);
        let parts = [header.context_size, header.payload_size, header.metadata_size];
        let links = header.causality_link_count.saturating_mul(LINK_SIZE as u32);
        let size = parts.iter().fold(RECORD_SIZE_MIN as u32, |size, part| size.saturating_add(*part));
        let event_size = size.saturating_add(links);
        *bytes = EventHeader { event_size, event_version: EVENT_VERSION, ..header }.encode();
        if let Ok(record) = Record::parse(&framed) {
            let size = record.len();
            repair::record_checksum(&mut framed[..size]);
            assert!(Record::parse_verified(&framed).is_ok());
        }
        within(4 * data.len() + MEMORY_BASE, || walk(&framed));
    }
});

fn walk(data: &[u8]) {
    let mut expected = 0;
    let mut has_ended = false;
    let mut records = Records::new(data, 0);
    for item in records.by_ref() {
        assert!(!has_ended, "nothing comes after an error");
        match item {
            Ok((at, record)) => {
                assert_eq!(at, expected);
                assert_eq!(record.bytes(), &data[at..at + record.len()]);
                expected += record.len();
                check(&record);
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(Record::parse(&data[expected..]), Err(error));
                has_ended = true;
            }
        }
    }
    assert!(has_ended || expected == data.len());
    assert!(records.next().is_none());
}

fn check(record: &Record<'_>) {
    let header = record.header();
    assert_eq!(header.encode(), record.bytes()[..EventHeader::SIZE]);
    assert_eq!(header.event_id, record.event_id());
    assert_eq!(header.event_type, record.event_type().0);
    assert_eq!(header.event_subtype, record.event_subtype());
    assert_eq!(header.ktime_ns, record.ktime_ns());
    assert_eq!(header.process_id, record.process_id());
    assert_eq!(header.event_priority, record.event_priority());
    assert_eq!(header.event_size as usize, record.len());
    assert_eq!(record.is_control(), record.event_id() == 0);
    assert!(!record.event_type().to_string().is_empty() && !format!("{record:?}").is_empty());

    let links: Vec<_> = record.links().collect();
    let parts = [record.context_bytes(), record.payload(), record.metadata()];
    let parts = parts.concat();
    let encoded_links: Vec<_> = links.iter().flat_map(|link| link.encode()).collect();
    assert_eq!(&record.bytes()[EventHeader::SIZE..], [parts, encoded_links].concat());

    let Ok(again) = Draft::of_record(record, &links).to_vec() else {
        panic!("a record that is within the limits can be written");
    };
    let again = match Record::parse_verified(&again) {
        Ok(again) => again,
        Err(error) => panic!("what was written is no record: {error}"),
    };
    let checksum_is_right = record.verify_checksum().is_ok();
    assert_eq!(record.context(), again.context());
    if ContextForm::of_size(record.context_bytes().len()) == ContextForm::Fixed {
        check_fixed(record, &again);
    } else {
        assert_eq!(checksum_is_right, record.bytes() == again.bytes());
        assert_eq!(record.bytes()[EventHeader::SIZE..], again.bytes()[EventHeader::SIZE..]);
    }
    let header_again = EventHeader {
        event_size: header.event_size,
        context_size: header.context_size,
        checksum: header.checksum,
        ..again.header()
    };
    assert_eq!(header, header_again);

    // Once written, a record is written the same ever after.
    let links: Vec<_> = again.links().collect();
    let third = Draft::of_record(&again, &links).to_vec();
    assert_eq!(third.as_deref(), Ok(again.bytes()));
    assert_eq!(record.leaf() == again.leaf(), record.bytes() == again.bytes());
}

/// A fixed context stays as it is, or becomes a compact one that gives it back.
fn check_fixed(record: &Record<'_>, again: &Record<'_>) {
    let tail =
        |record: &Record<'_>| record.bytes()[EventHeader::SIZE + record.context_bytes().len()..].to_vec();
    assert_eq!(tail(record), tail(again));
    if again.context_bytes().len() == FIXED_SIZE {
        assert_eq!(record.context_bytes(), again.context_bytes());
        return;
    }
    let mut fixed = [0xAA; FIXED_SIZE];
    let context = Context::from_compact(again.context_bytes());
    assert_eq!(context.map(|context| context.to_fixed(&mut fixed)), Ok(Ok(())));
    assert_eq!(record.context_bytes(), fixed);
}
