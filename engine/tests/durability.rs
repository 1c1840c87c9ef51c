//! Who waits for durability, and who does not.
#![cfg_attr(
    feature = "async",
    expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")
)]

use std::time::{Duration, Instant};

use semj::{CommitOn, Event, EventType, Journal, Options, Priority, Rotation, SyncPolicy, SyncStrategy};

const EVENT: Event<'static> = Event::new(EventType::FILESYSTEM_WRITE);

/// Options with which nothing is synced that nobody asks for.
fn patient() -> Options {
    Options {
        sync_strategy: SyncStrategy::Async,
        sync_interval: Duration::from_secs(3600),
        ..Options::default()
    }
}

/// Waits until the event is durable by itself; how long that took.
fn becomes_durable(journal: &Journal, id: u64) -> Option<Duration> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        if journal.stats().last_durable_id >= id {
            return Some(started.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

#[test]
fn many_who_wait_share_syncs_and_each_is_durable_when_it_returns() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), patient()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let id = journal.emit_durable(&EVENT).unwrap();
                    assert!(journal.stats().last_durable_id >= id);
                }
            });
        }
    });
    let (stats, metrics) = (journal.stats(), journal.metrics());
    assert_eq!((stats.events_emitted, stats.last_durable_id), (800, 800));
    assert!(stats.syncs < 800, "{} syncs for 800 events of 8 threads", stats.syncs);
    assert!(metrics.flush_waiters.max() > 1 && metrics.flush_waiters.max() <= 9);
    assert_eq!(metrics.flush_ns.count(), metrics.flush_waiters.count());
}

#[test]
fn a_ticket_says_when_its_event_is_durable() {
    for commit_on in [CommitOn::OwnThread, CommitOn::CallersThread] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Options { commit_on, ..patient() }).unwrap();
        let first = journal.emit_ticket(&EVENT).unwrap();
        assert_eq!((first.id(), first.poll_durable().unwrap()), (1, None));
        assert_eq!(first.wait().unwrap(), 1);
        assert_eq!(first.poll_durable().unwrap(), Some(1));
        let second = journal.emit_ticket(&EVENT).unwrap();
        assert_eq!(second.poll_durable().unwrap(), None);
        journal.sync().unwrap();
        assert_eq!(second.poll_durable().unwrap(), Some(2));
        // It outlives the journal.
        journal.close().unwrap();
        assert_eq!(second.wait().unwrap(), 2);
    }
}

#[cfg(feature = "async")]
#[test]
fn a_ticket_is_a_future_that_wakes_its_task_when_the_event_is_durable() {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, Wake, Waker};
    use std::thread::Thread;

    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), patient()).unwrap();
    for id in 1..=20 {
        let mut ticket = pin!(journal.emit_ticket(&EVENT).unwrap());
        let started = Instant::now();
        loop {
            match ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(durable) => {
                    assert_eq!(durable.unwrap(), id);
                    break;
                }
                Poll::Pending => std::thread::park_timeout(Duration::from_secs(5)),
            }
            assert!(started.elapsed() < Duration::from_secs(5), "nobody woke the task");
        }
        assert!(journal.stats().last_durable_id >= id);
    }
}

#[test]
fn each_strategy_syncs_when_it_says() {
    let long = Duration::from_secs(3600);
    let open = |strategy, interval| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            sync_strategy: strategy,
            sync_interval: interval,
            batch_bytes: 64 << 10,
            ..Options::default()
        };
        let journal = Journal::open(dir.path(), options).unwrap();
        (dir, journal)
    };
    let (_dir, immediate) = open(SyncStrategy::Immediate, long);
    assert!(becomes_durable(&immediate, immediate.emit(&EVENT).unwrap()).is_some());

    let (_dir, batched) = open(SyncStrategy::Batched, long);
    let id = batched.emit(&EVENT).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(batched.stats().last_durable_id < id, "a batch is not full with one event");
    for _ in 0..70 {
        batched.emit(&EVENT.payload(&[1; 1024])).unwrap();
    }
    assert!(becomes_durable(&batched, id).is_some());

    let (_dir, lazy) = open(SyncStrategy::Async, Duration::from_millis(300));
    let taken = becomes_durable(&lazy, lazy.emit(&EVENT).unwrap()).unwrap();
    assert!(taken > Duration::from_millis(200), "{taken:?}");

    let (_dir, adaptive) = open(SyncStrategy::Adaptive, long);
    let urgent = adaptive.emit(&EVENT.priority(Priority::CRITICAL)).unwrap();
    assert!(becomes_durable(&adaptive, urgent).is_some());
    // The disk has nothing else to do.
    assert!(becomes_durable(&adaptive, adaptive.emit(&EVENT).unwrap()).is_some());
}

#[test]
fn each_policy_syncs_what_it_says() {
    let open = |sync_policy| {
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            sync_policy,
            sync_strategy: SyncStrategy::Immediate,
            watermark_interval: Duration::from_millis(1),
            ..Options::default()
        };
        let journal = Journal::open(dir.path(), options).unwrap();
        (dir, journal)
    };
    for policy in [SyncPolicy::None, SyncPolicy::MetadataOnly] {
        let (_dir, journal) = open(policy);
        let id = journal.emit(&EVENT).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        assert!(journal.stats().last_durable_id < id, "{policy:?} syncs nothing by itself");
        journal.sync().unwrap();
        assert_eq!(journal.stats().last_durable_id, id, "{policy:?}: what is asked for is done");
        std::thread::sleep(Duration::from_millis(200));
        let is_marked = journal.stats().last_marked_id == id;
        assert_eq!(is_marked, policy == SyncPolicy::MetadataOnly, "{policy:?}");
    }
    let (_dir, journal) = open(SyncPolicy::DataAndMetadata);
    assert!(becomes_durable(&journal, journal.emit(&EVENT).unwrap()).is_some());
    let (_dir, journal) = open(SyncPolicy::Strict);
    let id = journal.emit(&EVENT).unwrap();
    assert_eq!(journal.stats().last_durable_id, id);
    assert_eq!(journal.emit_batch(&[EVENT, EVENT]).unwrap(), id + 1..id + 3);
    assert_eq!(journal.stats().last_durable_id, id + 2);
}

#[test]
fn a_segment_that_becomes_full_reaches_the_disk_while_the_next_one_is_filled() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 256 << 10, sync_policy: SyncPolicy::None, ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    for _ in 0..5_000 {
        journal.emit(&EVENT.payload(&[7; 500])).unwrap();
    }
    let segments = journal.stats().segments;
    assert!(segments > 5);
    // Without anybody having asked for it all have their names and their final headers at once, but for the 16 small ones
    // that may wait for their seals, and then these too.
    let names = || std::fs::read_dir(dir.path()).unwrap().filter_map(Result::ok);
    let named =
        || names().filter(|entry| entry.path().extension().is_some_and(|e| e == "semj")).count() as u64;
    let soon = named();
    assert!(soon + 17 > segments, "{soon} of {segments}");
    let started = Instant::now();
    while named() < journal.stats().segments {
        assert!(started.elapsed() < Duration::from_secs(10), "{} of {segments}", named());
        std::thread::sleep(Duration::from_millis(1));
    }
    journal.close().unwrap();
    assert!(!names().any(|entry| entry.path().extension().is_some_and(|e| e == "tmp")));
    let report = semj::examine_journal(dir.path(), semj::OpenMode::Strict).unwrap();
    assert!(report.is_whole() && report.is_closed() && report.events() == 5_000);
}

#[test]
fn segments_that_end_before_they_are_full_do_not_run_away_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        // Larger than a group, so that they never come near their ends.
        segment_size: 4 << 20,
        buffer_events: 64,
        sync_policy: SyncPolicy::None,
        commit_on: CommitOn::CallersThread,
        rotation: Rotation { max_events: Some(1), ..Rotation::default() },
        ..Options::default()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    for _ in 0..5_000 {
        journal.emit(&EVENT).unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().filter_map(Result::ok);
        let unsealed = names.filter(|entry| entry.path().extension().is_some_and(|e| e == "tmp")).count();
        assert!(unsealed <= 17, "{unsealed} segments wait for their seals");
    }
    journal.close().unwrap();
    let report = semj::examine_journal(dir.path(), semj::OpenMode::Strict).unwrap();
    assert!(report.is_whole() && report.is_closed() && report.events() == 5_000);
}

#[test]
fn an_urgent_event_is_no_trouble_however_long_others_may_wait_for_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { commit_interval: Duration::MAX, ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    for _ in 0..3 {
        let id = journal.emit(&EVENT.priority(Priority::HIGH)).unwrap();
        assert!(becomes_durable(&journal, id).is_some());
    }
    journal.close().unwrap();
}

#[test]
fn urgent_events_are_not_synced_where_no_event_is() {
    for sync_policy in [SyncPolicy::None, SyncPolicy::MetadataOnly] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Options { sync_policy, ..Options::default() }).unwrap();
        let id = journal.emit(&EVENT.priority(Priority::CRITICAL)).unwrap();
        let started = Instant::now();
        while journal.stats().last_committed_id < id && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(journal.stats().last_durable_id, 0, "{sync_policy:?}");
    }
}

#[test]
fn an_event_waits_for_its_commit_no_longer_than_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let commit_interval = Duration::from_millis(200);
    let journal = Journal::open(dir.path(), Options { commit_interval, ..patient() }).unwrap();
    let mut waits = Vec::new();
    for _ in 0..4 {
        // The committer has just done something, and dozes off.
        let id = journal.emit(&EVENT).unwrap();
        let started = Instant::now();
        while journal.stats().last_committed_id < id {
            std::thread::sleep(Duration::from_millis(1));
        }
        waits.push(started.elapsed());
    }
    // Twice as long before; what a busy machine adds is not held against it.
    waits.sort_unstable();
    assert!(waits[1] < commit_interval * 3 / 2, "{waits:?}");
}
