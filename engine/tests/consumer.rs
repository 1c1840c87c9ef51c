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
    journal.retain(&Retention { max_segments: Some(1), ..Retention::default() }).unwrap();
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
