//! One segment of any bytes: no panic, no memory without a bound; what is accepted proves itself, and a second
//! look says the same.
//!
//! The first byte's flags are those of `semj_fuzz::journal`, but that the bit for a watermark says that the file is
//! named as the first segment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_format::WatermarkFile;
use semj_fuzz::journal::{MARKED, damage, split_damage};
use semj_fuzz::repair::{self, Layers};
use semj_fuzz::report::check_journal;
use semj_recovery::{OpenMode, SegmentInput, Verdict, examine};

fuzz_target!(|data: &[u8]| {
    let Some((&flags, rest)) = data.split_first() else { return };
    let (bytes, damages) = split_damage(flags, rest);
    let mut files = [bytes.to_vec()];
    repair::segment(&mut files[0], Layers::from_flags(flags), None);
    damage(&mut files, damages);
    let [mut bytes] = files;
    let number = (flags & MARKED != 0).then_some(1);
    check_journal(&[SegmentInput::new("segment", number, &bytes)], WatermarkFile::default());

    let look = |bytes: &[u8]| {
        let input = SegmentInput::new("segment", number, bytes);
        examine(&[input], WatermarkFile::default(), OpenMode::Strict).segments.remove(0)
    };
    let segment = look(&bytes);
    if segment.verdict == Verdict::TornTail {
        // What is cut off never counts again.
        bytes[segment.end..].fill(0);
        let again = look(&bytes);
        assert_eq!(again.verdict, Verdict::OpenEnd);
        assert_eq!(again.totals, segment.totals);
    }
});
