//! A consumer's mark on a disk that loses power: the old one or the new one, and never one that was not saved.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use semj::{
    CommitOn, Consumer, Event, EventType, Follower, Journal, OpenMode, Options, Proof, Reader, Retention,
    Start, View,
};
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

#[test]
fn what_a_consumer_needs_is_there_wherever_the_power_goes_while_segments_are_retired() {
    const NONE: Option<Duration> = Some(Duration::ZERO);
    let seeds = 0..std::env::var("SEEDS").map_or(300, |seeds| seeds.parse().unwrap());
    let mut with_leftovers = 0;
    for seed in seeds {
        let disk = SimulatedDisk::new(seed, Faults::default());
        let retention = Retention { max_segments: Some(2), ..Retention::default() };
        let open = |disk: &SimulatedDisk| {
            let options = Options { retention: retention.clone(), ..options() };
            Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
        };
        let consumer = |disk: &SimulatedDisk| {
            Consumer::open_on(Arc::new(disk.clone()), Path::new(DIR), "indexer", View::Durable)
        };
        let mut random = Random::new(seed);
        let journal = open(&disk).unwrap();
        let mut reader = consumer(&disk).unwrap();
        disk.set_faults(Faults { power_cut_at: Some(1 + random.below(400)), ..Faults::default() });
        // What was saved for certain, and what may have been.
        let (mut saved, mut begun) = (0, 0);
        while disk.has_power() {
            // Segments without events too.
            for _ in 0..random.below(3) * 2 {
                if journal.emit(&Event::new(EventType::FILESYSTEM_READ)).is_err() {
                    break;
                }
            }
            if journal.sync().is_err() {
                break;
            }
            if random.below(2) == 0 {
                let mut last = begun;
                while let Ok(Some(located)) = reader.next(NONE) {
                    let id = located.record.event_id();
                    assert_eq!(id, last + 1, "seed {seed}");
                    last = id;
                }
                begun = last;
                if reader.save().is_ok() {
                    saved = begun;
                }
            }
            drop(journal.rotate());
        }
        drop((reader, journal));
        let disk = disk.after_power_cut(&mut Choices::Random(&mut random), seed);

        // Whoever follows from the beginning sees what a reader does, whatever is left of what was retired.
        let shown = Reader::open_on(&disk, Path::new(DIR), OpenMode::Strict, Proof::Everything).unwrap();
        with_leftovers += u32::from(!shown.report().leftovers.is_empty());
        let medium = Arc::new(disk.clone());
        let mut follower =
            Follower::open_on(medium, Path::new(DIR), Start::Beginning, View::Published).unwrap();
        for record in shown.iter(..) {
            let next = follower.next(NONE).unwrap().map(|located| located.record.event_id());
            assert_eq!(next, Some(record.unwrap().event_id()), "seed {seed}");
        }
        assert!(follower.next(NONE).unwrap().is_none(), "seed {seed}");

        let journal = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let last = journal.emit(&Event::new(EventType::FILESYSTEM_READ)).unwrap();
        journal.sync().unwrap();
        let mut reader = consumer(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let mut ids = Vec::new();
        while let Some(located) = reader.next(NONE).unwrap_or_else(|error| panic!("seed {seed}: {error}")) {
            ids.push(located.record.event_id());
        }
        assert!(
            ids.iter().copied().eq(saved + 1..=last) || ids.iter().copied().eq(begun + 1..=last),
            "seed {seed}: {saved} saved, {begun} begun, up to {last}: {ids:?}"
        );
    }
    assert!(with_leftovers > 0);
}
