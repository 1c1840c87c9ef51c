//! One segment of any bytes: no panic, no memory without a bound; what is accepted proves itself, and a second
//! look says the same. The first byte says whether checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::WatermarkFile;
use semj_fuzz::{records, repair, scan_cost, within};
use semj_recovery::{OpenMode, SegmentInput, Verdict, examine};

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        repair(&mut bytes);
    }
    for mode in [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage] {
        let look = |bytes: &[u8]| {
            let input = SegmentInput { name: "segment", number: (how & 2 == 2).then_some(1), bytes };
            within(scan_cost(bytes.len()), || examine(&[input], WatermarkFile::default(), mode))
        };
        let report = look(&bytes);
        let segment = &report.segments[0];
        assert!(segment.end <= bytes.len() && segment.synced_end <= segment.end);
        let mut last = 0;
        let mut events = 0;
        for extent in &segment.extents {
            assert!(last <= extent.start && extent.start <= extent.end && extent.end <= segment.end);
            last = extent.end;
            events += records(&bytes, extent.start, extent.end).len() as u64;
        }
        assert_eq!(events, segment.totals.records);
        for damage in &segment.damaged {
            assert!(damage.start < damage.end && damage.end <= bytes.len());
        }
        if !segment.verdict.is_good() {
            assert!(segment.fault.is_some(), "{:?} without a reason", segment.verdict);
        }
        assert_eq!(format!("{report:?}"), format!("{:?}", look(&bytes)));
        if mode == OpenMode::Strict && segment.verdict == Verdict::TornTail {
            // What is cut off never counts again.
            bytes[segment.end..].fill(0);
            let again = look(&bytes);
            assert_eq!(again.segments[0].verdict, Verdict::OpenEnd);
            assert_eq!(again.segments[0].totals, segment.totals);
        }
    }
});
