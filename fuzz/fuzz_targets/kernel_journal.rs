//! Any bytes as a journal in the kernel's format. The first byte says whether checksums are made right first.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_fuzz::{read_everything, repair, within};
use semj_interchange::kernel::KernelJournal;

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        repair(&mut bytes);
    }
    // Reading borrows; only errors may name something.
    within(1 << 16, || {
        let Ok(journal) = KernelJournal::parse(&bytes) else { return };
        let mut last = 0;
        for record in journal.records() {
            let Ok((offset, record)) = record else { return };
            assert!(offset >= last && offset as usize + record.len() <= bytes.len());
            last = offset;
            read_everything(&record);
        }
    });
});
