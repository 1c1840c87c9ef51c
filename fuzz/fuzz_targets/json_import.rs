//! Any line as an event: what is accepted comes back from the record that it makes, byte for byte.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::Record;
use semj_fuzz::within;
use semj_interchange::InputKind;
use semj_interchange::json::{JsonEvent, write_event};

fuzz_target!(|data: &[u8]| {
    let _ = InputKind::of(data);
    // Strings are unescaped, numbers parsed, links collected (160 bytes for some 40 of text); a refusal tries
    // each field by itself.
    within(64 * data.len() + (1 << 16), || {
        let Ok(event) = JsonEvent::parse(data) else { return };
        let Ok(mut bytes) = event.draft().to_vec() else { return };
        if bytes[..8] == [0; 8] {
            // The journal gives the id.
            bytes[0] = 1;
            semj_fuzz::repair_record(&mut bytes);
        }
        let record = Record::parse_verified(&bytes).expect("an encoded event is a record");
        if record.is_control() {
            return;
        }
        let mut line = Vec::new();
        write_event(&record, &mut line).expect("a Vec takes everything");
        let again = JsonEvent::parse(line.trim_ascii_end()).expect("what was written can be read");
        assert_eq!(again.draft().to_vec().expect("what was recorded can be"), bytes);
    });
});
