//! Some segments and a watermark, all of any bytes: no panic, no memory without a bound, and the plan that the
//! report makes fits together.
//!
//! The input: a byte with flags, a watermark's two slots if a flag says so, then segments, each behind its length in
//! two bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::{Watermark, WatermarkFile};
use semj_fuzz::{records, repair, scan_cost, within};
use semj_recovery::{OpenMode, SegmentInput, examine};

fuzz_target!(|data: &[u8]| {
    let Some((flags, mut rest)) = data.split_first() else { return };
    let mut watermark = WatermarkFile::default();
    if flags & 2 == 2
        && let Some((slot, behind)) = rest.split_first_chunk::<128>()
    {
        let mark = Watermark::decode(slot).seal_checksum();
        watermark = WatermarkFile::parse(&mark.encode());
        rest = behind;
    }
    let mut files = Vec::new();
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (file, behind) = behind.split_at(length);
        let mut file = file.to_vec();
        if flags & 1 == 1 {
            repair(&mut file);
        }
        files.push(file);
        rest = behind;
    }
    let inputs: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(i, bytes)| SegmentInput { name: "segment", number: Some(i as u64 + 1), bytes })
        .collect();
    for mode in [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage] {
        let report = within(scan_cost(data.len()), || examine(&inputs, watermark, mode));
        assert_eq!(report.segments.len(), files.len());
        assert!(report.kept <= files.len());
        if report.is_whole() {
            assert!(report.refusal().is_none() && report.kept == files.len());
        }
        let mut last_id = 0;
        for (segment, bytes) in report.kept_segments().iter().zip(&files) {
            for extent in &segment.extents {
                records(bytes, extent.start, extent.end);
            }
            if segment.opening.is_some() {
                assert!(segment.totals.last_event_id >= last_id || !report.is_whole());
                last_id = segment.totals.last_event_id;
            }
        }
        assert!(report.tip.is_none_or(|tip| tip.last_event_id <= report.highest_event_id));
    }
});
