//! Followers: every event once, in order, never before it is committed.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use semj::medium::{ClockAnchor, Disk, File, LockOutcome, Medium};
use semj::{
    CommitOn, Consumer, Error, Event, EventType, Follower, GroupOrder, Journal, OpenMode, Options, Position,
    Priority, Reader, Retention, Start, SyncStrategy, ThinRule, View,
};

const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
const NONE: Option<Duration> = Some(Duration::ZERO);

fn options() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn emit(journal: &Journal, count: u64) {
    for n in 0..count {
        let payload = [n as u8; 300];
        let priority = if n % 3 == 0 { Priority::HIGH } else { Priority::LOW };
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).priority(priority).payload(&payload)).unwrap();
    }
}

/// The ids that there are without waiting.
fn given(follower: &mut Follower) -> Vec<u64> {
    std::iter::from_fn(|| follower.next(NONE).unwrap().map(|located| located.record.event_id())).collect()
}

#[test]
fn every_event_comes_once_and_in_order_while_segments_come_and_go() {
    const EVENTS: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let journal =
        Journal::open(dir.path(), Options { segment_size: 512 << 10, ..Options::default() }).unwrap();
    std::thread::scope(|scope| {
        for view in [View::Published, View::Durable] {
            let mut follower = Follower::open(dir.path(), Start::Beginning, view).unwrap();
            let journal = &journal;
            scope.spawn(move || {
                for id in 1..=EVENTS {
                    let located = follower.next(PATIENCE).unwrap().unwrap();
                    assert_eq!(located.record.event_id(), id);
                    located.record.verify_checksum().unwrap();
                    if view == View::Durable {
                        assert!(journal.stats().last_durable_id >= id, "{id} is not durable");
                    }
                }
                assert!(follower.position().segment_number > 20);
            });
        }
        emit(&journal, EVENTS);
        journal.sync().unwrap();
    });
}

#[test]
fn what_is_not_committed_is_not_seen_and_what_is_not_durable_only_by_who_wants_it() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        sync_strategy: SyncStrategy::Async,
        sync_interval: Duration::from_secs(3600),
        watermark_interval: Duration::from_millis(10),
        commit_interval: Duration::from_millis(1),
        ..Options::default()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    let mut published = Follower::open(dir.path(), Start::End, View::Published).unwrap();
    let mut durable = Follower::open(dir.path(), Start::End, View::Durable).unwrap();
    assert!(published.next(NONE).unwrap().is_none());
    emit(&journal, 10);
    for id in 1..=10 {
        assert_eq!(published.next(PATIENCE).unwrap().unwrap().record.event_id(), id);
    }
    assert!(durable.next(Some(Duration::from_millis(50))).unwrap().is_none());
    journal.sync().unwrap();
    assert_eq!(durable.next(PATIENCE).unwrap().unwrap().record.event_id(), 1);
}

#[test]
fn a_follower_that_sleeps_is_woken_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut follower = Follower::open(dir.path(), Start::End, View::Published).unwrap();
    std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            (0..20).map(|_| follower.next(PATIENCE).unwrap().map(|_| Instant::now())).collect::<Vec<_>>()
        });
        let mut published = Vec::new();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(5));
            journal.emit(&Event::new(EventType::FILESYSTEM_READ)).unwrap();
            journal.sync().unwrap();
            published.push(Instant::now());
        }
        let mut waits: Vec<_> = seen
            .join()
            .unwrap()
            .into_iter()
            .zip(published)
            .map(|(seen, published)| seen.unwrap().saturating_duration_since(published))
            .collect();
        waits.sort_unstable();
        // By far less than it would look by itself. What the machine's other work adds is not held against it.
        assert!(waits[10] < Duration::from_millis(50), "{waits:?}");
    });
}

#[test]
fn a_position_is_taken_up_wherever_it_is() {
    for group_order in [GroupOrder::Emission, GroupOrder::Priority] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Options { group_order, ..options() }).unwrap();
        for count in [1, 7, 900, 3] {
            emit(&journal, count);
            journal.sync().unwrap();
        }
        let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
        let mut positions = vec![follower.position()];
        let mut ids = Vec::new();
        while let Some(located) = follower.next(NONE).unwrap() {
            ids.push(located.record.event_id());
            positions.push(follower.position());
        }
        assert_eq!(ids.len(), 911);
        assert!(positions.iter().any(|position| position.segment_number > 1));
        for (given, position) in positions.iter().enumerate().filter(|(n, _)| n % 50 < 12) {
            let mut again = Follower::open(dir.path(), Start::At(*position), View::Published).unwrap();
            assert_eq!(again.position(), *position);
            let rest = self::given(&mut again);
            assert_eq!(rest, ids[given..]);
            // What is still needed has ids above those that no one needs.
            assert!(rest.iter().all(|id| *id > position.behind_event_id));
        }
    }
}

#[test]
fn it_goes_on_when_the_writer_ends_or_dies_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    emit(&journal, 5);
    journal.close().unwrap();
    assert_eq!(given(&mut follower), [1, 2, 3, 4, 5]);
    let at_the_seal = follower.position();

    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 5);
    journal.sync().unwrap();
    // It dies, and leaves half of a group that was never committed.
    std::mem::forget(journal);
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    assert_eq!(given(&mut follower), [6, 7, 8, 9, 10]);
    let Position { segment_number, offset, .. } = follower.position();
    let half = fs::read(segment(dir.path(), segment_number)).unwrap();
    let first_group = 52 + 592;
    let torn = &half[first_group..first_group + 500];
    let file = OpenOptions::new().write(true).open(segment(dir.path(), segment_number)).unwrap();
    file.write_all_at(torn, offset).unwrap();
    assert_eq!(given(&mut follower), []);

    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3);
    journal.sync().unwrap();
    for id in 11..=13 {
        assert_eq!(follower.next(PATIENCE).unwrap().unwrap().record.event_id(), id);
    }
    let mut from_seal = Follower::open(dir.path(), Start::At(at_the_seal), View::Published).unwrap();
    assert!(given(&mut from_seal).into_iter().eq(6..=13));
}

#[test]
fn half_a_group_is_never_seen_however_it_is_cut() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let journal = Journal::open(from.path(), options()).unwrap();
    emit(&journal, 4);
    journal.sync().unwrap();
    let mut follower = Follower::open(from.path(), Start::Beginning, View::Published).unwrap();
    assert!(follower.next(NONE).unwrap().is_some());
    let before = follower.position().offset as usize;
    given(&mut follower);
    // Behind the Commit.
    assert!(follower.next_of_all(NONE).unwrap().is_none());
    let end = follower.position().offset as usize;
    let name = segment(from.path(), 1);
    let bytes = fs::read(&name).unwrap();
    // Zeros at the end are there before they are written.
    let end = bytes[..end].iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let copy = to.path().join(name.file_name().unwrap());
    fs::write(&copy, vec![0; bytes.len()]).unwrap();
    let file = OpenOptions::new().write(true).open(&copy).unwrap();
    file.write_all_at(&bytes[..before], 0).unwrap();
    let mut follower = Follower::open(to.path(), Start::Beginning, View::Published).unwrap();
    for written in before..end {
        assert!(follower.next(NONE).unwrap().is_none(), "{written} of {end}");
        file.write_all_at(&bytes[written..=written], written as u64).unwrap();
    }
    assert_eq!(given(&mut follower), [1, 2, 3, 4]);
}

#[test]
fn it_goes_on_behind_segments_that_a_recovery_took_out() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    let positions = [1, 2, 3].map(|_| {
        (0..10).for_each(|_| assert!(follower.next(NONE).unwrap().is_some()));
        follower.position()
    });
    // One that stands in a segment that is taken out is told so.
    let mut within = Follower::open(dir.path(), Start::At(positions[1]), View::Published).unwrap();
    journal.close().unwrap();
    let quarantined = [2, 3].map(|number| segment(dir.path(), number));
    let file = OpenOptions::new().write(true).open(&quarantined[0]).unwrap();
    file.write_all_at(&[0xFF; 8], 60).unwrap();
    let journal = Journal::open(dir.path(), Options { mode: OpenMode::PointInTime, ..options() }).unwrap();
    emit(&journal, 5);
    journal.sync().unwrap();
    assert!(!quarantined.iter().any(|path| path.exists()));
    let mut follower = Follower::open(dir.path(), Start::At(positions[0]), View::Published).unwrap();
    assert_eq!(given(&mut follower).len(), 5);
    let taken_out = within.next(NONE);
    assert!(matches!(taken_out, Err(Error::Withdrawn { .. })), "{taken_out:?}");
}

#[test]
fn a_position_that_is_not_there_any_more_is_said_to_be_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    emit(&journal, 10);
    journal.sync().unwrap();
    assert!(follower.next(NONE).unwrap().is_some());
    let early = follower.position();
    given(&mut follower);
    let late = follower.position();
    emit(&journal, 5_000);
    journal.sync().unwrap();
    journal.retain(&Retention { max_segments: Some(2), ..Retention::default() }).unwrap();
    for position in [early, late] {
        let error = Follower::open(dir.path(), Start::At(position), View::Published).unwrap_err();
        assert!(matches!(error, Error::Retired { segment_number: 1, .. }), "{error}");
    }
    // One that was on its way gets to the end of its segment.
    let mut seen = 0;
    let error = loop {
        match follower.next(NONE) {
            Ok(located) => seen += located.map(|_| 1).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(seen > 0);
    assert!(matches!(error, Error::Retired { segment_number: 1, .. }), "{error}");

    let other = tempfile::tempdir().unwrap();
    let journal = Journal::open(other.path(), options()).unwrap();
    emit(&journal, 100);
    journal.close().unwrap();
    let error = Follower::open(other.path(), Start::At(late), View::Published).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { .. }), "{error}");
}

#[test]
#[cfg(target_os = "linux")]
fn who_gives_way_is_idle_to_the_scheduler_and_follows_all_the_same() {
    /// From linux/sched.h; the policy is field 41 of /proc/pid/stat, and the name, field 2, may have blanks in it.
    const SCHED_IDLE: &str = "5";
    let policy = || {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().nth(38).unwrap().to_owned()
    };
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    journal.sync().unwrap();
    // A thread gives way for good: one of its own.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
            assert_ne!(policy(), SCHED_IDLE);
            follower.give_way();
            assert_eq!(policy(), SCHED_IDLE);
            assert_eq!(given(&mut follower), (1..=10).collect::<Vec<_>>());
        });
    });
}

#[test]
fn damage_is_told_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3_000);
    journal.close().unwrap();
    let path = segment(dir.path(), 2);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"x", 100_000).unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    let error = loop {
        match follower.next(PATIENCE) {
            Ok(located) => assert!(located.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Rotten { path: of, .. } if *of == path), "{error}");
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    let begins = format!("{number:010}-");
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&begins) && name.ends_with(".semj")
    };
    paths.into_iter().find(is_it).unwrap()
}

#[test]
fn events_that_were_taken_out_are_passed_over_and_positions_stay_good() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    for _ in 0..40 {
        emit(&journal, 30);
        journal.sync().unwrap();
    }
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    let mut positions = vec![(0, follower.position())];
    while let Some(located) = follower.next(NONE).unwrap() {
        let id = located.record.event_id();
        if id % 30 == 0 {
            // The end of a group.
            assert!(follower.next_of_all(NONE).unwrap().is_some());
            positions.push((id, follower.position()));
        }
    }
    journal.rotate().unwrap();
    let rule = ThinRule { keep_one_in: Some(7), ..ThinRule::default() };
    let report = journal.thin(&[rule]).unwrap();
    assert!(report.events > 900, "{report:?}");
    emit(&journal, 3);
    journal.sync().unwrap();
    let left: Vec<u64> = (1..=1_200).filter(|id| id % 7 == 0).chain(1_201..=1_203).collect();
    for (last, position) in positions {
        let mut again = Follower::open(dir.path(), Start::At(position), View::Published).unwrap();
        let rest: Vec<u64> = left.iter().copied().filter(|id| *id > last).collect();
        assert_eq!(given(&mut again), rest, "behind {last}");
    }
}

#[test]
fn damage_that_a_salvage_has_recorded_is_passed_over_when_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    // Four segments of five groups of ten events.
    for _ in 0..4 {
        for _ in 0..5 {
            emit(&journal, 10);
            journal.sync().unwrap();
        }
        journal.rotate().unwrap();
    }
    journal.close().unwrap();
    let before = semj::Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let place = |id: u64| {
        let located = before.query(&semj::Query::new().ids(id..=id)).located().next().unwrap().unwrap();
        located.offset
    };
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    names.sort();
    let flip = |path: &Path, at: u64| {
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    };
    // A record in the middle of the second group of segment 1, the last Commit of segment 2, and all of segment 3.
    flip(&names[0], place(15) + 200);
    let end = before.report().segments[1].end as u64;
    flip(&names[1], end - 400);
    flip(&names[2], 60);
    drop(before);
    let followed = |dir: &Path| {
        let mut follower = Follower::open(dir, Start::Beginning, View::Published).unwrap();
        let (mut ids, mut passed) = (Vec::new(), 0);
        loop {
            match follower.next(NONE) {
                Ok(Some(located)) => ids.push(located.record.event_id()),
                Ok(None) => return (ids, passed, follower.position()),
                Err(error) => {
                    assert!(follower.pass_over_damage().unwrap(), "{error}");
                    passed += 1;
                }
            }
        }
    };
    // What nobody has accepted is not passed over.
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    while let Ok(Some(_)) = follower.next(NONE) {}
    assert!(matches!(follower.pass_over_damage(), Err(Error::Damaged { .. })));

    let journal = Journal::open(dir.path(), Options { mode: OpenMode::Salvage, ..options() }).unwrap();
    emit(&journal, 7);
    journal.sync().unwrap();
    let (ids, passed, position) = followed(dir.path());
    let last = journal.stats().last_durable_id;
    let expected: Vec<_> = (1..=10).chain(21..=90).chain(151..=200).chain(last - 6..=last).collect();
    assert_eq!((ids, passed), (expected, 2));
    // A consumer goes on from there, and where nothing is damaged there is nothing to pass over.
    let mut resumed = Follower::open(dir.path(), Start::At(position), View::Published).unwrap();
    assert!(!resumed.pass_over_damage().unwrap());
    emit(&journal, 1);
    journal.sync().unwrap();
    assert_eq!(given(&mut resumed), [last + 1]);
}

/// The ids that a consumer is given without waiting.
fn consumed(consumer: &mut Consumer) -> Vec<u64> {
    std::iter::from_fn(|| consumer.next(NONE).unwrap().map(|located| located.record.event_id())).collect()
}

#[test]
fn a_consumer_whose_position_is_gone_goes_on_behind_it_when_that_is_asked_for() {
    for is_retired in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), options()).unwrap();
        let mut consumer = Consumer::open(dir.path(), "indexer", View::Published).unwrap();
        emit(&journal, 3000);
        journal.sync().unwrap();
        // Into the second segment.
        while consumer.position().segment_number < 2 || consumer.position().records_given < 3 {
            consumer.next(PATIENCE).unwrap().unwrap();
        }
        consumer.save().unwrap();
        let position = consumer.position();
        drop(consumer);
        if is_retired {
            let retention = Retention { max_segments: Some(2), ignores_needs: true, ..Retention::default() };
            journal.retain(&retention).unwrap();
            journal.close().unwrap();
        } else {
            journal.close().unwrap();
            fs::write(segment(dir.path(), 2), b"lost").unwrap();
            let salvage = Options { mode: OpenMode::Salvage, ..options() };
            Journal::open(dir.path(), salvage).unwrap().close().unwrap();
        }
        let error = Consumer::open(dir.path(), "indexer", View::Published).unwrap_err();
        match is_retired {
            true => assert!(matches!(error, Error::Retired { segment_number: 2, .. }), "{error}"),
            false => assert!(
                matches!(error, Error::SegmentMissing { segment_number: 2, next_segment: 3, .. }),
                "{error}"
            ),
        }
        let mut consumer = Consumer::open_past_loss(dir.path(), "indexer", View::Published).unwrap();
        assert_eq!(consumer.position().last_event_id, position.last_event_id);
        let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        let there: Vec<u64> =
            reader.iter(position.last_event_id + 1..).map(|record| record.unwrap().event_id()).collect();
        let ids = consumed(&mut consumer);
        assert!(!ids.is_empty() && there[0] > position.last_event_id + 1);
        assert_eq!(ids, there);
        consumer.save().unwrap();
        drop(consumer);
        assert_eq!(consumed(&mut Consumer::open(dir.path(), "indexer", View::Published).unwrap()), [0; 0]);
    }
}

#[test]
fn what_a_recovery_took_back_is_no_reason_to_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.sync().unwrap();
    }
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    assert_eq!(given(&mut follower).len(), 30);
    let position = follower.position();
    let copy = tempfile::tempdir().unwrap();
    let name = segment(dir.path(), 1);
    let mut bytes = fs::read(&name).unwrap();
    drop(journal);
    // The last group never came to the disk, and the journal goes on without it.
    let cut = position.offset as usize - 10;
    bytes[cut..].fill(0);
    fs::write(copy.path().join(name.file_name().unwrap()), bytes).unwrap();
    let journal = Journal::open(copy.path(), options()).unwrap();
    emit(&journal, 4);
    journal.sync().unwrap();
    let mut refused = Follower::open(copy.path(), Start::At(position), View::Published).unwrap();
    let error = refused.next(NONE).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { .. }), "{error}");
    // Where nothing was lost it is the position.
    let mut at = Follower::open(dir.path(), Start::AtOrBehind(position), View::Published).unwrap();
    assert_eq!(at.position().last_event_id, 30);
    assert!(given(&mut at).is_empty());
    let mut follower = Follower::open(copy.path(), Start::AtOrBehind(position), View::Published).unwrap();
    assert_eq!(follower.position().behind_event_id, 20);
    assert_eq!(
        given(&mut follower),
        [21, 22, 23, 24],
        "what was emitted since, and nothing that was given out"
    );
    drop(journal);
    // A journal that is another one is another one.
    let other = tempfile::tempdir().unwrap();
    Journal::open(other.path(), options()).unwrap().close().unwrap();
    let error = Follower::open(other.path(), Start::AtOrBehind(position), View::Published).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { .. }), "{error}");
}

/// Six segments of ten events, each of a writer of its own.
fn six_segments(dir: &Path) {
    (0..6).for_each(|_| emit_alone(dir, 10));
}

/// Emits with a writer of its own, which gives the journal another segment.
fn emit_alone(dir: &Path, count: u64) {
    let journal = Journal::open(dir, options()).unwrap();
    emit(&journal, count);
    journal.close().unwrap();
}

/// Copies the files of a directory, and not what is in those below it.
fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn remove_files(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

#[test]
fn what_is_left_of_retired_segments_is_not_looked_at() {
    for left in [&[1][..], &[1, 2], &[2]] {
        let (dir, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        six_segments(dir.path());
        let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
        assert!(follower.next(NONE).unwrap().is_some());
        let position = follower.position();
        copy_files(dir.path(), kept.path());
        let retention = Retention { max_segments: Some(5), ..Retention::default() };
        Journal::open(dir.path(), Options { retention, ..options() }).unwrap().close().unwrap();
        for number in left {
            let path = segment(kept.path(), *number);
            fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
        }
        let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        assert_eq!(reader.report().leftovers.len(), left.len());
        let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
        assert!(
            given(&mut follower).into_iter().eq(reader.iter(..).map(|record| record.unwrap().event_id()))
        );
        assert!(reader.get(20).unwrap().is_none() && reader.get(21).unwrap().is_some());
        let error = Follower::open(dir.path(), Start::At(position), View::Published).unwrap_err();
        assert!(
            matches!(error, Error::Retired { retired_upto: 2, last_retired_id: 20, first_segment: 3, .. }),
            "{error}"
        );
        // A copy that has them on purpose is given as it is.
        fs::write(dir.path().join(semj::UNRETIRED), b"").unwrap();
        let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
        let first = follower.next(NONE).unwrap().unwrap().record.event_id();
        assert_eq!(first, (left[0] * 10 - 9));
    }
}

#[test]
fn what_an_older_journal_in_its_place_has_instead_is_not_left_out() {
    // The journal is lost, and a backup of three segments put in its place; positions stay as they were. Up to which segment
    // it has gone on since, and with how many events in each.
    for (segments, count) in [(3, 0), (5, 5), (6, 5), (6, 10), (6, 40), (7, 5), (9, 5)] {
        let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        (0..3).for_each(|_| emit_alone(dir.path(), 10));
        copy_files(dir.path(), backup.path());
        (0..3).for_each(|_| emit_alone(dir.path(), 10));
        let mut consumer = Consumer::open(dir.path(), "indexer", View::Published).unwrap();
        assert_eq!(consumed(&mut consumer).len(), 60);
        consumer.save().unwrap();
        let position = consumer.position();
        assert_eq!(position.segment_number, 6);
        drop(consumer);
        remove_files(dir.path());
        copy_files(backup.path(), dir.path());
        (3..segments).for_each(|_| emit_alone(dir.path(), count));
        let last = Reader::open(dir.path(), OpenMode::Strict).unwrap().iter(..).count() as u64;
        let what = format!("{segments} segments, {count} events each");

        let refused = Follower::open(dir.path(), Start::At(position), View::Published)
            .and_then(|mut follower| follower.next(NONE).map(|_| ()));
        match segments {
            ..6 => assert!(
                matches!(refused, Err(Error::NoSegment { segment_number: 6, last_segment, .. }) if last_segment == segments),
                "{what}: {refused:?}"
            ),
            6 => {}
            7.. => assert!(refused.is_err(), "{what}"),
        }
        let mut follower = Follower::open(dir.path(), Start::AtOrBehind(position), View::Published).unwrap();
        assert!(given(&mut follower).into_iter().eq(1..=last), "{what}");
        let mut consumer = Consumer::open_past_loss(dir.path(), "indexer", View::Published).unwrap();
        assert!(consumed(&mut consumer).into_iter().eq(1..=last), "{what}");
        consumer.save().unwrap();
        drop(consumer);
        let mut consumer = Consumer::open_past_loss(dir.path(), "indexer", View::Published).unwrap();
        assert_eq!(consumed(&mut consumer), [0; 0], "{what}");
    }
}

#[test]
fn a_consumer_tells_what_was_taken_back_from_another_segment_of_the_same_number() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    emit_alone(dir.path(), 10);
    copy_files(dir.path(), backup.path());
    // The position is in the second segment, of which a crash leaves the first group; so does one in the segment that an
    // older journal has there.
    let crash = |dir: &Path, position: &Position| {
        let path = segment(dir, 2);
        let mut bytes = fs::read(&path).unwrap();
        bytes[position.offset as usize..].fill(0);
        fs::write(&path, bytes).unwrap();
        fs::remove_file(dir.join(semj::WATERMARK)).unwrap();
    };
    let write = |dir: &Path| {
        let journal = Journal::open(dir, options()).unwrap();
        let mut follower = Follower::open(dir, Start::End, View::Published).unwrap();
        for _ in 0..2 {
            emit(&journal, 10);
            journal.sync().unwrap();
        }
        for _ in 0..10 {
            follower.next(NONE).unwrap().unwrap();
        }
        assert!(follower.next(NONE).unwrap().is_some());
        // Behind the first group.
        let position = Position { records_given: 0, ..follower.position() };
        std::mem::forget(journal);
        fs::remove_file(dir.join("LOCK")).unwrap();
        position
    };
    let kept = write(dir.path());
    let mut consumer = Consumer::open(dir.path(), "indexer", View::Published).unwrap();
    assert_eq!(consumed(&mut consumer).len(), 30);
    consumer.save().unwrap();
    drop(consumer);
    let restored = tempfile::tempdir().unwrap();
    copy_files(backup.path(), restored.path());
    fs::create_dir(restored.path().join("consumers")).unwrap();
    fs::copy(dir.path().join("consumers/indexer"), restored.path().join("consumers/indexer")).unwrap();

    crash(dir.path(), &kept);
    let again = write(restored.path());
    crash(restored.path(), &again);
    for (dir, expected) in [(dir.path(), 21..=25), (restored.path(), 1..=25)] {
        // Before the writer has come back, and behind.
        let mut consumer = Consumer::open_past_loss(dir, "indexer", View::Published).unwrap();
        assert!(consumed(&mut consumer).into_iter().eq(*expected.start()..=20));
        drop(consumer);
        emit_alone(dir, 5);
        let mut consumer = Consumer::open_past_loss(dir, "indexer", View::Published).unwrap();
        assert!(consumed(&mut consumer).into_iter().eq(expected));
    }
}

#[test]
fn what_is_missing_and_was_not_retired_is_not_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    six_segments(dir.path());
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for _ in 0..10 {
        follower.next(NONE).unwrap().unwrap();
    }
    let behind_the_first = follower.position();
    // As a salvage leaves it.
    fs::remove_file(segment(dir.path(), 2)).unwrap();
    let text = "segment 2, which segment 3 goes on from, is missing and was not retired; the last event that was given out is 10";
    let error = follower.next(NONE).unwrap_err();
    assert!(error.to_string().ends_with(text), "{error}");
    let mut resumed = Follower::open(dir.path(), Start::At(behind_the_first), View::Published).unwrap();
    let error = resumed.next(NONE).unwrap_err();
    assert!(error.to_string().ends_with(text), "{error}");
    let never = Position { segment_number: 12, ..behind_the_first };
    let error = Follower::open(dir.path(), Start::At(never), View::Published).unwrap_err();
    assert!(error.to_string().contains("the journal ends with segment 6"), "{error}");
}

#[test]
fn what_was_retired_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    journal.sync().unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    assert_eq!(given(&mut follower).len(), 10);
    for _ in 0..3 {
        journal.rotate().unwrap();
        emit(&journal, 10);
    }
    journal.rotate().unwrap();
    journal.retain(&Retention { max_age: Some(Duration::ZERO), ..Retention::default() }).unwrap();
    let error = Follower::open(dir.path(), Start::At(follower.position()), View::Published).unwrap_err();
    let text = "segments up to 4 were retired, with events up to 40; the last one that was given out is 10, and the journal \
                begins with segment 5";
    assert!(error.to_string().ends_with(text), "{error}");
    let error = follower.next(NONE).unwrap_err();
    assert!(error.to_string().ends_with(text), "{error}");
}

#[test]
fn a_position_that_was_taken_back_is_told_so_when_what_came_instead_is_retired() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    journal.sync().unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    given(&mut follower);
    let early = follower.position();
    journal.rotate().unwrap();
    emit(&journal, 10);
    journal.sync().unwrap();
    given(&mut follower);
    let position = follower.position();
    std::mem::forget(journal);
    fs::remove_file(dir.path().join("LOCK")).unwrap();
    // What a power cut leaves: the second segment had no event yet.
    let path = segment(dir.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    bytes[52 + 592..].fill(0);
    fs::write(&path, bytes).unwrap();
    fs::remove_file(dir.path().join(semj::WATERMARK)).unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3);
    for _ in 0..3 {
        journal.rotate().unwrap();
    }
    journal.retain(&Retention { max_age: Some(Duration::ZERO), ..Retention::default() }).unwrap();
    let error = Follower::open(dir.path(), Start::At(position), View::Published).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { segment_number: 2, .. }), "{error}");
    let error = follower.next(PATIENCE).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { segment_number: 2, .. }), "{error}");
    let error = Follower::open(dir.path(), Start::At(early), View::Published).unwrap_err();
    assert!(matches!(error, Error::Retired { last_retired_id: 13, .. }), "{error}");
}

#[test]
fn a_position_in_a_segment_that_a_recovery_took_out_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    six_segments(dir.path());
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for _ in 0..35 {
        follower.next(NONE).unwrap().unwrap();
    }
    let position = follower.position();
    assert_eq!(position.segment_number, 4);
    let file = OpenOptions::new().write(true).open(segment(dir.path(), 3)).unwrap();
    file.write_all_at(&[0xFF; 8], 60).unwrap();
    let point_in_time = Options { mode: OpenMode::PointInTime, ..options() };
    let journal = Journal::open(dir.path(), point_in_time).unwrap();
    emit(&journal, 5);
    journal.sync().unwrap();
    let error = Follower::open(dir.path(), Start::At(position), View::Published).unwrap_err();
    assert!(matches!(error, Error::Withdrawn { segment_number: 4, .. }), "{error}");
    let mut follower = Follower::open(dir.path(), Start::AtOrBehind(position), View::Published).unwrap();
    assert_eq!(given(&mut follower).len(), 5);
}

#[test]
fn a_segment_that_does_not_begin_as_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    (0..2).for_each(|_| emit_alone(dir.path(), 10));
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for _ in 0..10 {
        follower.next(NONE).unwrap().unwrap();
    }
    let (first, second) = (segment(dir.path(), 1), segment(dir.path(), 2));
    let bytes = fs::read(&second).unwrap();
    fs::write(&second, b"lost").unwrap();
    let error = follower.next(NONE).unwrap_err();
    assert!(matches!(&error, Error::NoOpening { path, .. } if *path == second), "{error}");
    // The file of another segment is no better.
    fs::write(&second, fs::read(&first).unwrap()).unwrap();
    let error = follower.next(NONE).unwrap_err();
    let why = std::error::Error::source(&error).unwrap().to_string();
    assert!(why.contains("segment_number is 1, expected 2"), "{error}: {why}");
    fs::write(&second, bytes).unwrap();
    assert_eq!(given(&mut follower).len(), 10);
    let file = OpenOptions::new().write(true).open(&first).unwrap();
    file.write_all_at(&[0xFF; 8], 60).unwrap();
    let error = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap_err();
    assert!(matches!(&error, Error::NoOpening { path, .. } if *path == first), "{error}");
}

/// A disk on which something happens behind each listing of a directory, as often as that is asked for.
#[derive(Clone)]
struct Busy {
    behind_listings: Arc<Mutex<Happening>>,
}

type Happening = Box<dyn FnMut() + Send>;

impl std::fmt::Debug for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Busy")
    }
}

impl Busy {
    fn new() -> Self {
        Self { behind_listings: Arc::new(Mutex::new(Box::new(|| {}))) }
    }

    fn set(&self, happening: impl FnMut() + Send + 'static) {
        *self.behind_listings.lock().unwrap() = Box::new(happening);
    }
}

impl Medium for Busy {
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = Disk.list(dir);
        self.behind_listings.lock().unwrap()();
        names
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }
    fn create(&self, path: &Path, size: u64) -> io::Result<Box<dyn File>> {
        Disk.create(path, size)
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Box<dyn File>> {
        Disk.open(path, writable)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.link(from, to)
    }
    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.clone_file(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<LockOutcome> {
        Disk.lock(path)
    }
    fn monotonic_ns(&self) -> i64 {
        Disk.monotonic_ns()
    }
    fn clock_anchor(&self) -> ClockAnchor {
        Disk.clock_anchor()
    }
    fn boot_id(&self) -> [u8; 16] {
        Disk.boot_id()
    }
    fn cpu_id(&self) -> u32 {
        Disk.cpu_id()
    }
    fn random(&self) -> io::Result<[u8; 16]> {
        Disk.random()
    }
}

#[test]
fn a_segment_that_goes_while_somebody_looks_for_it_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(Journal::open(dir.path(), options()).unwrap());
    let busy = Busy::new();
    let medium: Arc<dyn Medium> = Arc::new(busy.clone());
    let open = |start| Follower::open_on(Arc::clone(&medium), dir.path(), start, View::Published);
    // Behind so many listings two segments come, and all others go.
    let retire = |times: u32, events: u64| {
        let (journal, mut left) = (Arc::clone(&journal), times);
        busy.set(move || {
            if left > 0 {
                left -= 1;
                emit(&journal, events);
                journal.rotate().unwrap();
                journal.retain(&Retention { max_age: Some(Duration::ZERO), ..Retention::default() }).unwrap();
            }
        });
    };
    for times in [1, 2, 5] {
        for start in [Start::Beginning, Start::End] {
            retire(times, 1);
            let mut follower =
                open(start).unwrap_or_else(|error| panic!("{start:?}, {times} times: {error}"));
            assert_eq!(given(&mut follower), [0; 0], "{start:?}, {times} times");
            // One that goes on has lost nothing, where nothing was in what went.
            journal.rotate().unwrap();
            retire(times, 0);
            assert_eq!(given(&mut follower), [0; 0], "{start:?}, {times} times");
            emit(&journal, 1);
            journal.sync().unwrap();
            assert_eq!(given(&mut follower).len(), 1, "{start:?}, {times} times");
        }
    }
}
