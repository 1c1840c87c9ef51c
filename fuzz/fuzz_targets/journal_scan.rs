//! Some segments and a watermark, all of any bytes: no panic, no memory without a bound, and the plan that the
//! report makes fits together. See `semj_fuzz::journal` for the input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_fuzz::journal::Journal;
use semj_fuzz::report::check_journal;

fuzz_target!(|data: &[u8]| {
    let journal = Journal::of_input(data);
    check_journal(&journal.inputs(), journal.watermark());
});
