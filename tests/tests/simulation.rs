//! The simulation, in its short form: some hundred seeds, the same each time.
//!
//! The long form is `cargo run -p semj-tests --release --bin simulate -- --seeds N [--from S]`.

use semj_tests::disk::Barrier;
use semj_tests::simulation::{Config, Violation, run, run_all};

#[test]
fn no_power_cut_loses_what_was_acknowledged() -> Result<(), Violation> {
    let states = run_all(0..200, Config { images: 8, exhaustive_one_in: 64, left_out: None })?;
    assert!(states > 2_000, "{states} crash states");
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_history() -> Result<(), Violation> {
    for seed in 0..40 {
        let config = Config { images: 3, exhaustive_one_in: 64, left_out: None };
        assert_eq!(run(seed, config)?, run(seed, config)?, "seed {seed}");
    }
    Ok(())
}

#[test]
fn each_barrier_is_needed() {
    let unneeded: Vec<_> = Barrier::ALL
        .into_iter()
        .filter(|barrier| {
            (0..4000).all(|seed| {
                run(seed, Config { images: 4, exhaustive_one_in: 64, left_out: Some(*barrier) }).is_ok()
            })
        })
        .collect();
    assert!(unneeded.is_empty(), "nothing was lost without {unneeded:?}");
}
