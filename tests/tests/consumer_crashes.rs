//! A consumer's mark on a disk that loses power: the old one or the new one, and never one that was not saved.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use semj::{CommitOn, Consumer, Event, EventType, Journal, Options, View};
use semj_tests::disk::{Choices, Faults, SimulatedDisk};
use semj_tests::random::Random;

const DIR: &str = "/journal";

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

#[test]
fn a_consumer_repeats_at_most_what_came_behind_its_last_save() {
    let seeds = 0..std::env::var("SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    for seed in seeds {
        let disk = SimulatedDisk::new(seed, Faults::default());
        let open = |disk: &SimulatedDisk| Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options());
        let consumer = |disk: &SimulatedDisk| {
            Consumer::open_on(Arc::new(disk.clone()), Path::new(DIR), "indexer", View::Durable)
        };
        let journal = open(&disk).unwrap();
        for n in 0..40u64 {
            journal.emit(&Event::new(EventType::FILESYSTEM_READ).payload(&n.to_le_bytes())).unwrap();
        }
        journal.sync().unwrap();
        let mut reader = consumer(&disk).unwrap();
        // What was saved for certain, and what may have been.
        let (mut saved, mut begun) = (0, 0);
        disk.set_faults(Faults { power_cut_at: Some(1 + seed % 60), ..Faults::default() });
        for step in 0..20 {
            let Ok(next) = reader.next(Some(Duration::ZERO)) else { break };
            assert_eq!(next.map(|located| located.record.event_id()), Some(step + 1), "seed {seed}");
            begun = step + 1;
            if reader.save().is_err() {
                break;
            }
            saved = begun;
        }
        drop((reader, journal));
        let mut random = Random::new(seed);
        let disk = disk.after_power_cut(&mut Choices::Random(&mut random), seed);
        let journal = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut reader = consumer(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let first = reader.next(Some(Duration::ZERO)).unwrap().map(|located| located.record.event_id());
        assert!(
            first == Some(saved + 1) || first == Some(begun + 1),
            "seed {seed}: {saved} saved, {begun} begun, it goes on with {first:?}"
        );
        drop(journal);
    }
}
