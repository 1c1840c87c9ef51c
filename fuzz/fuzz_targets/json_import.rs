//! Lines as events: what is read from a line is what is read again from the line that is written for it.
//!
//! Exactly: a line becomes a record; the record's line gives the same record, and the same line again. The one
//! exception is `context_base64`, whose bytes may be a context in a form that nobody writes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::{Draft, DraftContext, Record};
use semj_fuzz::{MEMORY_BASE, within};
use semj_interchange::InputKind;
use semj_interchange::json::{JsonEvent, write_control, write_event};

fuzz_target!(|data: &[u8]| {
    assert!(!matches!((InputKind::of(data), data.first()), (InputKind::Zstd, Some(b'{'))));
    for line in data.split(|byte| *byte == b'\n') {
        // A link takes 160 bytes and at least 41 in the line; a refused line is tried again field by field; a
        // line that is written again is up to six times as long, where every byte of a text is escaped.
        within(64 * line.len() + MEMORY_BASE, || check(line));
    }
});

fn check(line: &[u8]) {
    let event = match JsonEvent::parse(line) {
        Ok(event) => event,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let draft = event.draft();
    let Ok(first) = draft.to_vec() else {
        return assert!(draft.encoded_size().is_err());
    };
    let first = record(&first);
    assert_eq!(first.payload(), draft.payload);
    assert_eq!(first.metadata(), draft.metadata);

    let first_line = line_of(&first);
    let event = parse(&first_line);
    let second = bytes_of(&event.draft());
    let second = record(&second);
    let is_encoded = matches!(draft.context, DraftContext::Encoded(_));
    if is_encoded {
        assert_eq!(first.context(), second.context());
        let apart = |record: &Record<'_>| (record.payload().to_vec(), record.metadata().to_vec());
        assert_eq!(apart(&first), apart(&second));
        assert!(first.links().eq(second.links()));
    } else {
        assert_eq!(first.bytes(), second.bytes());
    }
    let second_line = line_of(&second);
    let event = parse(&second_line);
    assert_eq!(bytes_of(&event.draft()), second.bytes());
    assert!(is_encoded || first_line == second_line);
    assert_eq!(line_of(&second), second_line);

    let mut control = Vec::new();
    assert!(write_control(&first, &mut control).is_ok());
}

fn parse(line: &[u8]) -> JsonEvent<'_> {
    match JsonEvent::parse(line) {
        Ok(event) => event,
        Err(error) => panic!("a line that was written is not read: {error}"),
    }
}

fn bytes_of(draft: &Draft<'_>) -> Vec<u8> {
    match draft.to_vec() {
        Ok(bytes) => bytes,
        Err(error) => panic!("an event that was written can't be written again: {error}"),
    }
}

fn record(bytes: &[u8]) -> Record<'_> {
    match Record::parse_verified(bytes) {
        Ok(record) => record,
        Err(error) => panic!("what was written is no record: {error}"),
    }
}

fn line_of(record: &Record<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    assert!(write_event(record, &mut line).is_ok());
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert!(line.ends_with(b"\n"));
    line
}
