//! Any bytes as the body of one of the journal's own records, or as a watermark: decoding allocates nothing, and what
//! was decoded is encoded to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::control::{self, Body};
use semj_format::watermark::SLOT_STRIDE;
use semj_format::{
    Commit, Draft, EventHeader, EventType, Gap, JournalHeader, Record, Recovered, SegmentOpen, SegmentSeal,
    WatermarkFile,
};
use semj_fuzz::within;

fn check<B: Body + PartialEq + std::fmt::Debug>(record: &Record<'_>, encode: impl Fn(&B) -> Vec<u8>) {
    if let Ok(Some(body)) = within(0, || control::parse::<B>(record)) {
        let bytes = encode(&body);
        assert_eq!(record.payload().get(..bytes.len()), Some(&bytes[..]));
    }
}

fuzz_target!(|data: &[u8]| {
    if let Ok(header) = JournalHeader::parse(data) {
        assert_eq!(header.encode(), data[..JournalHeader::SIZE]);
    }
    let parsed = within(0, || WatermarkFile::parse(data));
    if let (Some(newest), Some(slot)) = (parsed.newest, parsed.newest_slot) {
        assert_eq!(newest.encode()[..], data[slot * SLOT_STRIDE..][..newest.encode().len()]);
    }

    let Some(([kind, subtype], body)) = data.split_first_chunk() else { return };
    let body = &body[..body.len().min(60_000)];
    let event_type = EventType(0x0701 + u32::from(kind % 12));
    let header = EventHeader { event_subtype: u32::from(*subtype & 1), ..EventHeader::new(event_type.0) };
    let Ok(bytes) = (Draft { payload: body, ..Draft::new(header) }).to_vec() else { return };
    let record = Record::parse_verified(&bytes).expect("an encoded record is one");
    check::<SegmentOpen>(&record, |body| body.encode().to_vec());
    check::<Commit>(&record, |body| body.encode().to_vec());
    check::<SegmentSeal>(&record, |body| body.encode().to_vec());
    check::<Recovered>(&record, |body| body.encode().to_vec());
    check::<Gap>(&record, |body| body.encode().to_vec());
    within(0, || {
        assert!(control::damaged_ranges(&record).count() <= body.len());
        assert!(control::gap_types(&record).count() <= body.len());
    });
});
