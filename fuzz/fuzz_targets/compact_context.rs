//! Bytes as contexts, compact and fixed: decoding and encoding come to a fixed point after one turn, and either
//! form gives back the other.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::context::FIXED_SIZE;
use semj_format::{Context, ContextError, Draft, DraftContext, EventHeader, Record};
use semj_fuzz::{MEMORY_BASE, within};

fuzz_target!(|data: &[u8]| {
    // A context borrows its texts. Written again, there is one record at a time, or two to be compared.
    within(4 * data.len() + MEMORY_BASE, || {
        if let Ok(context) = Context::from_compact(data) {
            check(data, &context);
        }
        // Bytes that the input lacks are zero, which is what most of a fixed context is.
        let mut fixed = [0; FIXED_SIZE];
        let size = data.len().min(FIXED_SIZE);
        fixed[..size].copy_from_slice(&data[..size]);
        check_fixed(&fixed);
        match Context::parse(data) {
            Ok(None) => assert!(data.is_empty()),
            Ok(Some(_)) => assert!(!data.is_empty()),
            Err(error) => assert!(data.len() < FIXED_SIZE && !error.to_string().is_empty()),
        }
    });
});

/// The context's bytes in a record.
fn encode(context: &Context<'_>) -> Vec<u8> {
    let draft = Draft { context: DraftContext::Fields(*context), ..Draft::new(EventHeader::new(1)) };
    let Ok(bytes) = draft.to_vec() else {
        panic!("a context that has a size can be written");
    };
    match Record::parse_verified(&bytes) {
        Ok(record) => record.context_bytes().to_vec(),
        Err(error) => panic!("what was written is no record: {error}"),
    }
}

fn check(data: &[u8], context: &Context<'_>) {
    let size = match context.encoded_size() {
        Ok(size) => size,
        Err(ContextError::TextTooLong { length, limit, .. }) => return assert!(length > limit),
        Err(ContextError::TextHasNul { .. }) => return assert!(data.contains(&0)),
        Err(ContextError::TooLarge { length }) => {
            return assert!(length >= FIXED_SIZE && length <= data.len() && context.unknown_bits != 0);
        }
        Err(error) => panic!("no reason to refuse a context that was read: {error}"),
    };
    let again = encode(context);
    assert_eq!(again.len(), size);
    assert_eq!(Context::parse(&again), Ok(Some(*context)));
    if size < FIXED_SIZE {
        // Fields that are marked present and not set are all that may go, and each goes with some bytes.
        assert!(size <= data.len());
        assert!(size < data.len() || again == data);
    }
    if context.unknown_bits == 0 {
        let mut fixed = [0xAA; FIXED_SIZE];
        assert_eq!(context.to_fixed(&mut fixed), Ok(()));
        assert_eq!(Context::from_fixed(&fixed), *context);
    } else {
        let refused = context.to_fixed(&mut [0; FIXED_SIZE]);
        assert_eq!(refused, Err(ContextError::UnknownFields { bits: context.unknown_bits }));
    }
}

fn check_fixed(fixed: &[u8; FIXED_SIZE]) {
    let context = Context::from_fixed(fixed);
    let mut again = [0xAA; FIXED_SIZE];
    match context.to_fixed(&mut again) {
        Ok(()) => assert_eq!(Context::from_fixed(&again), context),
        // A text without its NUL is all that the fixed form can be read from and not written to.
        Err(ContextError::TextTooLong { length, limit, .. }) => return assert_eq!(length, limit + 1),
        Err(error) => panic!("no reason to refuse a context that was read: {error}"),
    }
    let compact = encode(&context);
    assert_eq!(Context::parse(&compact), Ok(Some(context)));
    assert_eq!(encode(&context), compact);
}
