//! A sequence of operations on a journal on the simulated disk, with faults and power cuts, against the model. The
//! bytes are the decisions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use semj_tests::random::Random;
use semj_tests::simulation::{Config, run_with};

fuzz_target!(|data: &[u8]| {
    let config = Config { images: 2, exhaustive_one_in: u64::MAX, left_out: None };
    if let Err(violation) = run_with(Random::scripted(data), config) {
        panic!("{violation}");
    }
});
