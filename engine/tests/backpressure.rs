//! What an emission does when the buffer is full.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use semj::format::control::{self, GapReason, GapType};
use semj::format::{Draft, EventHeader, Gap};
use semj::{
    Backpressure, CommitOn, Error, Event, EventType, Journal, Needs, OpenMode, Options, Priority, Reader,
    Retention,
};

const PLACES: u64 = 64;

/// A journal whose committer does not come by for as long as the test fills the buffer.
fn journal(backpressure: Backpressure) -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        buffer_events: PLACES as usize,
        commit_interval: Duration::from_secs(3600),
        backpressure,
        ..Options::default()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    (dir, journal)
}

/// A journal whose buffer nobody empties: whoever would append waits to be told what is still needed.
struct Held {
    journal: Arc<Journal>,
    dir: tempfile::TempDir,
    holds: mpsc::Sender<()>,
    rotation: JoinHandle<()>,
}

impl Held {
    fn new(backpressure: Backpressure) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (holds, held) = mpsc::channel();
        let (tells, is_held) = mpsc::channel();
        let (held, tells) = (Mutex::new(held), Mutex::new(tells));
        let needs = Needs::new(move || {
            let _ = tells.lock().unwrap().send(());
            // Nothing is ever sent: it returns when the other end is gone.
            let _ = held.lock().unwrap().recv();
            Ok(None)
        });
        let retention = Retention { max_segments: Some(1000), ..Retention::default() };
        let options = Options {
            buffer_events: PLACES as usize,
            backpressure,
            retention,
            needs: Some(needs),
            ..Options::default()
        };
        let journal = std::thread::scope(|scope| {
            // It is asked when the journal is opened, too.
            let opening = scope.spawn(|| Journal::open(dir.path(), options).unwrap());
            is_held.recv().unwrap();
            holds.send(()).unwrap();
            Arc::new(opening.join().unwrap())
        });
        let rotating = Arc::clone(&journal);
        // Where all ids are used up it fails at the end.
        let rotation = std::thread::spawn(move || {
            let _ = rotating.rotate();
        });
        is_held.recv().unwrap();
        Self { journal, dir, holds, rotation }
    }

    /// From here on events are committed as always.
    fn let_go(self) -> (tempfile::TempDir, Journal) {
        drop(self.holds);
        self.rotation.join().unwrap();
        (self.dir, Arc::into_inner(self.journal).unwrap())
    }
}

fn event(priority: Priority) -> Event<'static> {
    Event::new(EventType::FILESYSTEM_READ).priority(priority)
}

/// Emits until the buffer takes no more, or the committer turns out to be faster.
fn fill(emit: impl Fn() -> Result<u64, Error>) -> Option<Error> {
    (0..100 * PLACES).find_map(|_| emit().err())
}

#[test]
fn an_emission_that_is_not_to_wait_fails_and_can_be_repeated() {
    let (_dir, journal) = journal(Backpressure::Fail);
    let error = fill(|| journal.emit(&event(Priority::NORMAL)));
    assert!(matches!(error, None | Some(Error::Full { events: PLACES })), "{error:?}");
    // By the call, whatever the journal's own way is.
    let id = journal.emit_with(&event(Priority::NORMAL), Backpressure::Wait).unwrap();
    journal.sync().unwrap();
    assert_eq!(journal.stats().last_durable_id, id);
    let reader = journal.reader();
    assert!(reader.iter(..).map(|record| record.unwrap().event_id()).eq(1..=id), "a refused event has no id");
}

#[test]
fn an_emission_that_waits_for_a_time_does_not_wait_longer() {
    let (_dir, journal) = journal(Backpressure::WaitFor(Duration::from_millis(50)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let started = Instant::now();
                    match journal.emit(&event(Priority::NORMAL)) {
                        Ok(_) | Err(Error::Full { .. }) => {}
                        Err(error) => unreachable!("{error}"),
                    }
                    assert!(started.elapsed() < Duration::from_secs(2));
                }
            });
        }
    });
}

#[test]
fn dropped_events_are_the_less_urgent_ones_and_a_gap_says_exactly_what_they_were() {
    let (_dir, journal) = journal(Backpressure::DropByPriority);
    let mut dropped = std::collections::BTreeMap::new();
    let mut taken = Vec::new();
    let priorities = [Priority::BACKGROUND, Priority::LOW, Priority::NORMAL, Priority::HIGH];
    let types = [EventType::FILESYSTEM_READ, EventType::FILESYSTEM_WRITE, EventType::GRAPH_QUERY];
    for n in 0..200_000usize {
        let (priority, event_type) = (priorities[n * 7 % 4], types[n % 3]);
        match journal.emit(&Event::new(event_type).priority(priority)) {
            Ok(id) => taken.push(id),
            Err(Error::Dropped { priority: told }) => {
                assert!(told == priority && priority != Priority::HIGH);
                *dropped.entry(event_type.0).or_insert(0u64) += 1;
            }
            Err(error) => unreachable!("{error}"),
        }
    }
    journal.sync().unwrap();
    let stats = journal.stats();
    assert_eq!(stats.events_dropped, dropped.values().sum::<u64>());
    assert!(stats.events_dropped > 0, "the buffer was never full");

    // Every id is that of an event or lies in one gap, and the gaps add up to what was dropped.
    let reader = journal.reader();
    let mut next = 1;
    let mut told = std::collections::BTreeMap::new();
    let mut read = Vec::new();
    for located in reader.records() {
        let record = located.unwrap().record;
        if let Ok(Some(gap)) = control::parse::<Gap>(&record) {
            assert_eq!((gap.reason, gap.first_event_id), (GapReason::Dropped.code(), next));
            assert_eq!(gap.event_count, gap.last_event_id - gap.first_event_id + 1);
            let entries = record.payload()[Gap::SIZE..].as_chunks::<{ GapType::SIZE }>().0;
            for of in entries.iter().map(GapType::decode) {
                *told.entry(of.event_type).or_insert(0u64) += of.event_count;
            }
            next = gap.last_event_id + 1;
        } else if !record.is_control() {
            assert_eq!(record.event_id(), next);
            read.push(next);
            next += 1;
        }
    }
    assert_eq!((read, told), (taken, dropped));
    journal.close().unwrap();
}

#[test]
fn events_that_are_dropped_leave_the_places_that_are_left_to_more_urgent_ones() {
    let held = Held::new(Backpressure::DropByPriority);
    let journal = &held.journal;
    for _ in 0..PLACES / 2 {
        journal.emit(&event(Priority::NORMAL)).unwrap();
    }
    for _ in 0..10 * PLACES {
        let dropped = journal.emit(&event(Priority::BACKGROUND));
        assert!(matches!(dropped, Err(Error::Dropped { .. })), "{dropped:?}");
    }
    // Who appends may have begun meanwhile, and given the note of them a place before it was held up: one.
    for _ in 0..PLACES / 2 - 1 {
        journal.emit(&event(Priority::NORMAL)).unwrap();
    }
    held.let_go();
}

#[test]
fn who_commits_himself_finds_room_whatever_he_does_where_there_is_none() {
    for backpressure in [
        Backpressure::Fail,
        Backpressure::DropByPriority,
        Backpressure::Wait,
        Backpressure::WaitFor(Duration::from_millis(1)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let commit_on = CommitOn::CallersThread;
        let options =
            Options { buffer_events: PLACES as usize, backpressure, commit_on, ..Options::default() };
        let journal = Journal::open(dir.path(), options).unwrap();
        for n in 1..=20 * PLACES {
            assert_eq!(journal.emit(&event(Priority::BACKGROUND)).unwrap(), n, "{backpressure:?}");
        }
        let stats = journal.close().unwrap();
        assert_eq!((stats.last_durable_id, stats.events_dropped), (20 * PLACES, 0));
    }
}

#[test]
fn slots_of_a_size_that_runs_short_are_not_waited_for_until_the_next_commit_is_due() {
    let dir = tempfile::tempdir().unwrap();
    // Its committer does not come by by itself, and the ring is never a quarter full.
    let options = Options {
        commit_interval: Duration::from_secs(3600),
        backpressure: Backpressure::Fail,
        ..Options::default()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    let large = Event::new(EventType::FILESYSTEM_WRITE).payload(&[7; 1024]);
    let deadline = Instant::now() + Duration::from_secs(20);
    for n in 0..5_000 {
        while let Err(error) = journal.emit(&large) {
            assert!(matches!(error, Error::Full { .. }), "{error}");
            assert!(Instant::now() < deadline, "no slot for event {n}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn what_is_dropped_last_is_written_down_before_the_journal_ends() {
    let held = Held::new(Backpressure::DropByPriority);
    let error = fill(|| held.journal.emit(&event(Priority::NORMAL))).unwrap();
    assert!(matches!(error, Error::Dropped { .. }), "{error}");
    let (dir, journal) = held.let_go();
    journal.close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let gaps = reader.records().filter(|located| {
        let gap = control::parse::<Gap>(&located.as_ref().unwrap().record);
        gap.is_ok_and(|gap| gap.is_some_and(|gap| gap.event_count == 1))
    });
    assert_eq!(gaps.count(), 1);
}

#[test]
fn large_batches_wait_for_memory_as_others_wait_for_places() {
    let held = Held::new(Backpressure::Fail);
    let journal = &held.journal;
    let payload = vec![1; 65_536];
    let large = Event::new(EventType::FILESYSTEM_WRITE).payload(&payload);
    let batch = vec![large; 33];
    journal.emit_batch(&batch).unwrap();
    // 2 MiB and some, and as much again.
    let error = journal.emit_batch(&batch).unwrap_err();
    assert!(matches!(error, Error::LargeBatchesFull { bytes: 4_194_304 }), "{error}");
    let (_dir, journal) = held.let_go();
    journal.sync().unwrap();
    journal.emit_batch(&batch).unwrap();
}

#[test]
fn what_is_acknowledged_is_there_however_impatient_the_committer_is() {
    const EVENTS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { buffer_events: 256, claim_timeout: Duration::ZERO, ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    let of_thread = || {
        let event = event(Priority::NORMAL);
        let batches = [3, 20, 40].map(|count| vec![event; count]);
        let mut taken = Vec::new();
        for n in 0..EVENTS {
            let ids = match n % 16 {
                0..3 => journal.emit_batch(&batches[n as usize % 16]),
                _ => journal.emit(&event).map(|id| id..id + 1),
            };
            match ids {
                Ok(ids) => taken.extend(ids),
                Err(Error::Revoked { .. }) => {}
                Err(error) => unreachable!("{error}"),
            }
        }
        taken
    };
    let mut taken: Vec<u64> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..4).map(|_| scope.spawn(of_thread)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    taken.sort_unstable();
    journal.close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let read: Vec<_> = reader.iter(..).map(|record| record.unwrap().event_id()).collect();
    assert!(taken == read, "{} acknowledged, {} there", taken.len(), read.len());
}

#[test]
fn figures_of_the_pool_say_where_records_found_their_memory() {
    let (_dir, journal) = journal(Backpressure::Wait);
    for size in [10, 1_000, 5_000, 20_000, 65_536] {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&vec![1; size])).unwrap();
    }
    let pool = journal.metrics().pool;
    let sizes: Vec<_> = pool.iter().map(|class| class.slot_size).collect();
    assert_eq!(sizes, [512, 2 << 10, 8 << 10, 32 << 10, 128 << 10]);
    assert!(pool.iter().all(|class| (class.hits, class.misses) == (1, 0)), "{pool:?}");
    journal.sync().unwrap();
    assert!(journal.metrics().pool.iter().all(|class| class.used == 0));
}

#[test]
fn each_record_is_counted_once_however_long_it_waits_for_memory() {
    const EVENTS: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { buffer_events: PLACES as usize, ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    let payload = vec![1; 1024];
    for _ in 0..EVENTS {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload)).unwrap();
    }
    journal.emit_batch(&vec![Event::new(EventType::FILESYSTEM_WRITE).payload(&payload); 8]).unwrap();
    journal.sync().unwrap();
    let pool = journal.metrics().pool;
    let records: Vec<_> = pool.iter().map(|class| class.hits + class.misses).collect();
    // The batch went through the pool, or at one place around it.
    assert!([EVENTS, EVENTS + 8].contains(&records[1]) && records[2..] == [0, 0, 0], "{pool:?}");
    assert!(pool[1].misses > 0 && records[0] <= 1, "{pool:?}");
}

#[test]
fn a_batch_is_dropped_as_one_and_each_of_its_events_is_counted() {
    for count in [4, 40] {
        let held = Held::new(Backpressure::DropByPriority);
        let journal = &held.journal;
        fill(|| journal.emit(&event(Priority::NORMAL))).unwrap();
        let before = journal.stats().events_dropped;
        let mut batch = vec![event(Priority::LOW); count];
        batch[1] = Event::new(EventType::GRAPH_QUERY).priority(Priority::NORMAL);
        let error = journal.emit_batch(&batch).unwrap_err();
        assert!(matches!(error, Error::Dropped { priority: Priority::NORMAL }), "{error}");
        assert_eq!(journal.stats().events_dropped - before, count as u64);
        held.let_go();
    }
}

#[test]
fn a_journal_whose_ids_are_used_up_can_be_closed_with_events_dropped() {
    let held = Held::new(Backpressure::DropByPriority);
    let event_id = (1 << 63) - 1;
    held.journal.import(&Draft::new(EventHeader { event_id, ..EventHeader::new(0x0101) })).unwrap();
    let emit = |_| held.journal.emit(&event(Priority::BACKGROUND)).err();
    let error = (0..100 * PLACES).find_map(emit).unwrap();
    assert!(matches!(error, Error::Dropped { .. } | Error::Exhausted { .. }), "{error}");
    let (_dir, journal) = held.let_go();
    // What was dropped can't get ids, and that must not be tried for ever.
    assert!(journal.sync().is_err());
    assert!(journal.close().is_err());
}
