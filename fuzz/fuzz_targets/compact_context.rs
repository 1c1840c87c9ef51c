//! Any bytes as a context, in either form: what is decoded and encoded again is the same context.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::{Context, Draft, DraftContext, EventHeader, Record};
use semj_fuzz::within;

fuzz_target!(|data: &[u8]| {
    // Decoding borrows: it allocates nothing at all.
    let Ok(Some(context)) = within(0, || Context::parse(data)) else { return };
    let draft = Draft { context: DraftContext::Fields(context), ..Draft::new(EventHeader::new(0x0101)) };
    // Some contexts can be read but not be written: a text that is longer than the fixed form's field.
    let Ok(bytes) = draft.to_vec() else { return };
    let record = Record::parse_verified(&bytes).expect("an encoded record is one");
    let again = record.context().expect("an encoded context is one");
    assert_eq!(again.unwrap_or_default(), context);
});
