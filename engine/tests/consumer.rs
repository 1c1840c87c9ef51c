//! Consumers go on where they stopped, and what they need is kept.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::time::Duration;

use semj::{
    CommitOn, Consumer, ConsumerState, Error, Event, EventType, Journal, Options, Retention, View, consumers,
};

const NONE: Option<Duration> = Some(Duration::ZERO);

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        // Everything that is synced is marked at once.
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

fn emit(journal: &Journal, count: usize) {
    for _ in 0..count {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&[7; 300])).unwrap();
    }
    journal.sync().unwrap();
}

fn take(consumer: &mut Consumer, count: usize) -> Vec<u64> {
    (0..count).map_while(|_| consumer.next(NONE).unwrap().map(|located| located.record.event_id())).collect()
}

#[test]
fn a_consumer_goes_on_behind_what_it_saved_and_gets_again_what_it_did_not() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 2_000);
    let mut expected = 1;
    for (taken, saved) in [(0, 0), (1, 1), (300, 299), (2, 0), (900, 900), (5, 5)] {
        let mut consumer = journal.consumer("indexer").unwrap();
        assert!(take(&mut consumer, saved).into_iter().eq(expected..expected + saved as u64));
        consumer.save().unwrap();
        expected += saved as u64;
        // What comes behind is done, and not saved.
        take(&mut consumer, taken - saved);
    }
    let states = consumers(dir.path()).unwrap();
    assert_eq!(states.len(), 1);
    assert_eq!((states[0].name.as_str(), states[0].position.last_event_id), ("indexer", expected - 1));
    assert!(states[0].saved_at_ns > 1_700_000_000_000_000_000);
}

#[test]
fn a_name_is_one_consumers_at_a_time_and_no_path() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 1);
    let first = journal.consumer("a").unwrap();
    assert!(matches!(journal.consumer("a"), Err(Error::Locked { .. })));
    drop(first);
    journal.consumer("a").unwrap();
    for name in ["", "../a", "a/b", ".a", "a.tmp", "a.lock"] {
        let error = journal.consumer(name).unwrap_err();
        assert!(matches!(error, Error::ConsumerName { .. }), "{name:?}: {error}");
        assert!(error.to_string().contains("no \".tmp\" or \".lock\" at the end"), "{error}");
    }
}

#[test]
fn what_a_consumer_needs_is_not_retired_unless_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3_000);
    let mut consumer = journal.consumer("backup").unwrap();
    take(&mut consumer, 1_000);
    consumer.save().unwrap();
    let one = Retention { max_segments: Some(1), ..Retention::default() };
    journal.retain(&one).unwrap();
    // It has all that it needs, and less than everything is left.
    assert!(journal.reader().get(1).unwrap().is_none());
    assert!(take(&mut consumer, usize::MAX).into_iter().eq(1_001..=3_000));
    drop(consumer);
    assert!(take(&mut journal.consumer("backup").unwrap(), usize::MAX).into_iter().eq(1_001..=3_000));

    journal.retain(&Retention { ignores_needs: true, ..one }).unwrap();
    assert!(matches!(journal.consumer("backup"), Err(Error::Retired { .. })));
    assert!(Consumer::remove(dir.path(), "backup").unwrap());
    assert!(!Consumer::remove(dir.path(), "backup").unwrap());
    assert!(consumers(dir.path()).unwrap().is_empty());
}

#[test]
fn a_damaged_mark_is_said_to_be_one_and_nothing_is_retired_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3_000);
    let mut consumer = Consumer::open(dir.path(), "x", View::Durable).unwrap();
    take(&mut consumer, 2_900);
    consumer.save().unwrap();
    drop(consumer);
    let path = dir.path().join("consumers/x");
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(journal.consumer("x"), Err(Error::ConsumerMark { path: of, .. }) if of == path));
    assert!(consumers(dir.path()).is_err());
    let retained = journal.retain(&Retention { max_segments: Some(1), ..Retention::default() });
    assert!(matches!(retained, Err(Error::ConsumerMark { .. })), "{retained:?}");
    assert!(journal.reader().get(1).unwrap().is_some());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_consumer_that_has_saved_nothing_yet_keeps_what_it_will_read() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 3_000);
    let mut consumer = journal.consumer("new").unwrap();
    journal.retain(&Retention { max_segments: Some(1), ..Retention::default() }).unwrap();
    assert!(take(&mut consumer, 3_000).into_iter().eq(1..=3_000));
    drop(consumer);
    let mut again = journal.consumer("new").unwrap();
    assert_eq!(take(&mut again, 1), [1], "nothing was saved");
}

/// What has ended goes, however little it is.
fn all_that_ended() -> Retention {
    Retention { max_age: Some(Duration::ZERO), ..Retention::default() }
}

fn retire(journal: &Journal) {
    journal.retain(&all_that_ended()).unwrap();
}

#[test]
fn who_has_everything_of_what_is_retired_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    let mut consumer = journal.consumer("indexer").unwrap();
    assert_eq!(take(&mut consumer, usize::MAX).len(), 10);
    // Behind the last group, and before the seal that is yet to come.
    consumer.save().unwrap();
    drop(consumer);
    // Nor is anything in the segments behind.
    for _ in 0..3 {
        journal.rotate().unwrap();
    }
    retire(&journal);
    assert!(journal.consumer("indexer").unwrap().position().segment_number > 3);
    journal.close().unwrap();

    // It stays so, while others come and go.
    for round in 0..3 {
        let journal = Journal::open(dir.path(), options()).unwrap();
        let mut consumer = journal.consumer("indexer").unwrap();
        assert_eq!(take(&mut consumer, usize::MAX), [0; 0]);
        assert_eq!((consumer.position().last_event_id, consumer.position().behind_event_id), (10, 10));
        // One that saves where it has gone on is as well off as one that does not.
        if round == 1 {
            consumer.save().unwrap();
        }
        journal.rotate().unwrap();
        retire(&journal);
        assert_eq!(take(&mut consumer, usize::MAX), [0; 0]);
        drop(consumer);
        journal.close().unwrap();
    }
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    assert!(take(&mut journal.consumer("indexer").unwrap(), usize::MAX).into_iter().eq(11..=20));
}

#[test]
fn a_consumer_that_waits_goes_on_behind_segments_that_went_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal, 10);
    let mut consumer = journal.consumer("indexer").unwrap();
    assert_eq!(take(&mut consumer, usize::MAX).len(), 10);
    consumer.save().unwrap();
    for _ in 0..3 {
        journal.rotate().unwrap();
    }
    retire(&journal);
    emit(&journal, 10);
    assert!(take(&mut consumer, usize::MAX).into_iter().eq(11..=20));
    consumer.save().unwrap();
    drop(consumer);
    assert_eq!(take(&mut journal.consumer("indexer").unwrap(), usize::MAX), [0; 0]);

    // Where there were events in them, it is told so: it may not seem that there were none.
    let mut consumer = journal.consumer("indexer").unwrap();
    for _ in 0..2 {
        journal.rotate().unwrap();
        emit(&journal, 10);
    }
    journal.rotate().unwrap();
    journal.retain(&Retention { ignores_needs: true, ..all_that_ended() }).unwrap();
    for opened_anew in [false, true] {
        let error = match opened_anew {
            true => {
                drop(std::mem::replace(&mut consumer, journal.consumer("other").unwrap()));
                journal.consumer("indexer").unwrap_err()
            }
            false => consumer.next(NONE).unwrap_err(),
        };
        assert!(
            matches!(error, Error::Retired { last_event_id: 20, last_retired_id: 40, .. }),
            "{opened_anew}: {error}"
        );
    }
}

#[test]
fn who_was_given_nothing_begins_where_the_journal_does() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut waiting = journal.consumer("waiting").unwrap();
    journal.consumer("new").unwrap();
    journal.rotate().unwrap();
    emit(&journal, 10);
    journal.rotate().unwrap();
    // As one that was decided before the two had said that they need anything.
    journal.retain(&Retention { ignores_needs: true, ..all_that_ended() }).unwrap();
    emit(&journal, 10);
    for consumer in [&mut waiting, &mut journal.consumer("new").unwrap()] {
        assert!(take(consumer, usize::MAX).into_iter().eq(11..=20));
    }
}

#[test]
fn where_there_is_no_journal_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let error = Consumer::open(dir.path(), "indexer", View::Published).unwrap_err();
    assert!(matches!(error, Error::NoJournal { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    Consumer::open(dir.path().join("nowhere"), "indexer", View::Published).unwrap_err();
    assert!(!dir.path().join("nowhere").exists());
    assert!(!Consumer::remove(dir.path(), "indexer").unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_consumer_that_is_in_use_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    let mut consumer = journal.consumer("indexer").unwrap();
    let error = Consumer::remove(dir.path(), "indexer").unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    consumer.save().unwrap();
    drop(consumer);
    assert!(Consumer::remove(dir.path(), "indexer").unwrap());
    assert!(!Consumer::remove(dir.path(), "indexer").unwrap());
    assert!(consumers(dir.path()).unwrap().is_empty());
}

#[test]
fn a_damaged_mark_does_not_hide_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    for name in ["a", "b", "c"] {
        journal.consumer(name).unwrap();
    }
    fs::write(dir.path().join("consumers/b"), b"damaged").unwrap();
    assert!(consumers(dir.path()).is_err());
    let all = ConsumerState::all(dir.path()).unwrap();
    let names: Vec<_> = all.iter().map(|state| state.as_ref().ok().map(|state| &*state.name)).collect();
    assert_eq!(names, [Some("a"), None, Some("c")]);
    assert!(matches!(&all[1], Err(Error::ConsumerMark { path, .. }) if path.ends_with("consumers/b")));
}

#[test]
fn a_new_consumer_gets_all_that_the_journal_has_whatever_a_rotation_had_decided_on_before() {
    let dir = tempfile::tempdir().unwrap();
    let retention = Retention { max_segments: Some(2), ..Retention::default() };
    let journal = Journal::open(dir.path(), Options { retention, buffer_events: 64, ..options() }).unwrap();
    let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&[7; 300]);
    emit(&journal, 1_000);
    let began = segments(dir.path());
    // Nothing of this was synced: the segment that says what is retired has no name yet.
    while journal.stats().segment_number < began + 3 {
        journal.emit(&event).unwrap();
    }
    let mut consumer = journal.consumer("new").unwrap();
    let first = consumer.next(NONE).unwrap().unwrap().record.event_id();
    emit(&journal, 5_000);
    let last = journal.stats().last_emitted_id;
    assert!(take(&mut consumer, usize::MAX).into_iter().eq(first + 1..=last));
}

/// The number of the newest segment that has its name.
fn segments(dir: &std::path::Path) -> u64 {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let numbers = names.filter(|name| name.ends_with(".semj")).map(|name| name[..10].parse().unwrap());
    numbers.max().unwrap()
}
