//! What goes when a journal may not keep everything, what is said of it, and what stays.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use semj::{
    CommitOn, Compacted, Error, Event, EventType, Journal, Needs, OpenMode, Options, Reader, Retention,
    Rotation, examine_journal, plan_retention, request_retention, request_rotation,
};

fn small() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn segments(max: u64) -> Retention {
    Retention { max_segments: Some(max), ..Retention::default() }
}

fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        let id = journal.stats().last_emitted_id + 1;
        let payload = format!("{{\"n\":{id}}}");
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload.as_bytes())).unwrap();
    }
}

/// A journal of so many segments of ten events, which is open.
fn journal(dir: &Path, options: Options, count: u64) -> Journal {
    let journal = Journal::open(dir, options).unwrap();
    for i in 0..count {
        if i > 0 {
            journal.rotate().unwrap();
        }
        emit(&journal, 10);
    }
    journal.sync().unwrap();
    journal
}

fn files(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<_> =
        names.filter(|name| name.ends_with(".semj")).map(|name| name[..10].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

/// The ids that a reader of the directory sees, which are what a reader of a whole journal would see behind the retired.
fn ids(dir: &Path) -> Vec<u64> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    assert!(reader.report().is_whole());
    let ids: Vec<_> = reader.iter(..).map(|record| record.unwrap().event_id()).collect();
    for id in &ids {
        assert_eq!(reader.get(*id).unwrap().unwrap().payload(), format!("{{\"n\":{id}}}").as_bytes());
    }
    ids
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_oldest_segments_go_and_the_journal_says_so_and_is_proven_without_them() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), Options { retention: segments(3), ..small() }, 6);
    assert_eq!(files(dir.path()), [4, 5, 6]);
    let retired = journal.retired().unwrap();
    assert_eq!((retired.segment_number, retired.segment_count, retired.event_count), (3, 3, 30));
    assert_eq!((retired.first_event_id, retired.last_event_id, retired.reason), (1, 30, Compacted::SEGMENTS));
    let stats = journal.stats();
    assert_eq!((stats.segments, stats.segments_retired, stats.events_retired), (3, 3, 30));
    assert!(journal.reader().iter(..).map(|r| r.unwrap().event_id()).eq(31..=60));
    assert!(journal.reader().get(30).unwrap().is_none());
    assert!(ids(dir.path()).into_iter().eq(31..=60));
    journal.close().unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!((report.retired, report.leftovers.len(), report.events()), (Some(retired), 0, 30));
    // Told again and again, so that the newest segment always knows.
    let journal = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(journal.retired(), Some(retired));
    emit(&journal, 1);
    journal.rotate().unwrap();
    journal.rotate().unwrap();
    drop(journal);
    for name in [4, 5, 6, 7] {
        assert!(files(dir.path()).contains(&name));
    }
    // Without one of those that are left, it is not whole: it is missing, and not retired.
    let first = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let first = first.filter(|path| path.extension().is_some_and(|e| e == "semj")).min().unwrap();
    fs::remove_file(first).unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(!report.is_whole() && report.retired.is_none());
    assert!(matches!(Journal::open(dir.path(), small()), Err(Error::Damaged { .. })));
}

#[test]
fn limits_are_applied_when_a_journal_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), small(), 5).close().unwrap();
    for (limits, left) in [
        (Retention { max_bytes: Some(1 << 30), ..Retention::default() }, vec![1, 2, 3, 4, 5, 6]),
        // The one that this makes counts, and the one before it holds no events.
        (Retention { max_age: Some(Duration::from_secs(3600)), ..segments(5) }, vec![2, 3, 4, 5, 6, 7]),
        (Retention { max_age: Some(Duration::ZERO), ..Retention::default() }, vec![7, 8]),
        // The segment that is written and the one before it stay whatever the limits are.
        (Retention { max_bytes: Some(0), ..Retention::default() }, vec![8, 9]),
        (segments(0), vec![9, 10]),
    ] {
        Journal::open(dir.path(), Options { retention: limits.clone(), ..small() }).unwrap().close().unwrap();
        assert_eq!(files(dir.path()), left, "{limits:?}");
        assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
    }
    let journal = Journal::open(dir.path(), small()).unwrap();
    emit(&journal, 1);
    assert_eq!(journal.stats().last_emitted_id, 51, "ids go on");
    assert_eq!(journal.retired().unwrap().event_count, 50);
}

#[test]
fn a_program_that_starts_again_and_again_loses_no_events_to_its_limits() {
    let few_bytes = Retention { max_bytes: Some((256 << 10) + 100), ..Retention::default() };
    for (limits, left) in
        [(segments(5), 21..=50), (segments(2), 41..=50), (segments(1), 41..=50), (few_bytes, 41..=50)]
    {
        for is_closed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            journal(dir.path(), small(), 5).close().unwrap();
            for _ in 0..7 {
                let journal =
                    Journal::open(dir.path(), Options { retention: limits.clone(), ..small() }).unwrap();
                if is_closed {
                    journal.close().unwrap();
                    continue;
                }
                // As a crash leaves it.
                let copy = tempfile::tempdir().unwrap();
                for path in fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()) {
                    fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
                }
                drop(journal);
                for path in fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path()) {
                    fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
                }
            }
            let found = ids(dir.path());
            assert!(found.last() == Some(&50) && found.contains(left.start()), "{limits:?}: {found:?}");
            // What would go says the same, before and after.
            let plan = || plan_retention(dir.path(), &limits, None).unwrap();
            let now = plan();
            request_retention(dir.path(), &limits, None, Duration::ZERO).unwrap();
            assert_eq!((now.retiring.len(), plan().retiring.len()), (0, 0), "{limits:?}: {now:?}");
            assert_eq!(ids(dir.path()), found);
            // And when there are others, those go that are too many, with what came between.
            let options = Options { retention: limits.clone(), ..small() };
            let journal = Journal::open(dir.path(), options).unwrap();
            for _ in 0..5 {
                emit(&journal, 10);
                journal.rotate().unwrap();
            }
            journal.close().unwrap();
            let found = ids(dir.path());
            assert!(found[0] > 50 && found.ends_with(&[99, 100]), "{limits:?}: {found:?}");
            assert!(files(dir.path())[0] >= 12, "{limits:?}: {:?}", files(dir.path()));
        }
    }
}

#[test]
fn what_a_crash_left_of_retired_segments_is_not_read_and_goes_at_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 5);
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    journal.retain(&segments(3)).unwrap();
    journal.close().unwrap();
    assert_eq!(files(dir.path()), [4, 5, 6]);
    // As if the removal of 1 and 3 had not come to the disk.
    for name in ["0000000001-00000000000000000001.semj", "0000000003-00000000000000000021.semj"] {
        fs::copy(copy.path().join(name), dir.path().join(name)).unwrap();
    }
    assert!(ids(dir.path()).into_iter().eq(31..=50));
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(report.leftovers.len(), 2);
    for mode in [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage] {
        assert!(examine_journal(dir.path(), mode).unwrap().is_whole());
    }
    Journal::open(dir.path(), small()).unwrap().close().unwrap();
    assert_eq!(files(dir.path()), [4, 5, 6, 7]);
    assert!(ids(dir.path()).into_iter().eq(31..=50));
}

#[test]
fn what_somebody_needs_stays_unless_that_is_to_be_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let needs = || Some(Needs::new(|| Ok(Some(21))));
    let options = Options { retention: segments(2), needs: needs(), ..small() };
    let journal = journal(dir.path(), options, 5);
    assert_eq!(files(dir.path()), [3, 4, 5]);
    let plan = plan_retention(dir.path(), &segments(2), needs().as_ref()).unwrap();
    assert_eq!((plan.retiring.len(), plan.held_back.len()), (0, 1));
    let plan = plan_retention(dir.path(), &segments(2), None).unwrap();
    assert_eq!(plan.retiring.iter().map(|s| s.segment_number).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(
        (plan.retiring[0].first_event_id, plan.retiring[1].last_event_id, plan.kept_segments),
        (21, 40, 2)
    );
    assert_eq!(files(dir.path()), [3, 4, 5], "a plan changes nothing");
    journal.retain(&Retention { ignores_needs: true, ..segments(2) }).unwrap();
    assert_eq!(files(dir.path()), [5, 6]);
    assert!(ids(dir.path()).into_iter().eq(41..=50));
    // Nothing goes where it can't be known what is needed.
    drop(journal);
    let broken = Needs::new(|| Err(Error::Stopped));
    let options = Options { retention: segments(1), needs: Some(broken), ..small() };
    let journal = Journal::open(dir.path(), options).unwrap();
    journal.rotate().unwrap();
    assert_eq!(files(dir.path()), [5, 6, 7, 8]);
}

#[test]
fn what_somebody_begins_to_need_after_a_retention_was_asked_for_stays() {
    let dir = tempfile::tempdir().unwrap();
    let asked = std::sync::atomic::AtomicU64::new(0);
    // A consumer that comes while the writer waits for the disk; and then one of which nothing is known by then.
    let needs = Needs::new(move || match asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
        0 | 2 => Ok(None),
        1 => Ok(Some(1)),
        _ => Err(Error::Stopped),
    });
    let journal = journal(dir.path(), Options { needs: Some(needs), ..small() }, 5);
    journal.retain(&segments(2)).unwrap();
    assert_eq!(files(dir.path()), [1, 2, 3, 4, 5, 6]);
    assert!(matches!(journal.retain(&segments(2)), Err(Error::Stopped)));
    assert_eq!(files(dir.path()), [1, 2, 3, 4, 5, 6]);
    assert!(ids(dir.path()).into_iter().eq(1..=50));
    emit(&journal, 1);
    journal.close().unwrap();
}

#[test]
fn who_asks_for_a_retention_is_told_when_it_can_t_be_learned_what_is_needed() {
    let dir = tempfile::tempdir().unwrap();
    let broken = || Needs::new(|| Err(Error::Stopped));
    let journal = journal(dir.path(), Options { needs: Some(broken()), ..small() }, 5);
    assert!(matches!(plan_retention(dir.path(), &segments(2), Some(&broken())), Err(Error::Stopped)));
    assert!(matches!(journal.retain(&segments(2)), Err(Error::Stopped)));
    assert_eq!(files(dir.path()), [1, 2, 3, 4, 5]);
    // It has stopped nothing.
    emit(&journal, 1);
    journal.rotate().unwrap();
    assert_eq!(files(dir.path()), [1, 2, 3, 4, 5, 6]);
    journal.retain(&Retention { ignores_needs: true, ..segments(2) }).unwrap();
    assert_eq!(files(dir.path()), [5, 6, 7]);
}

#[test]
fn a_reader_keeps_what_it_has_while_the_files_go() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 5);
    let (inside, outside) = (journal.reader(), Reader::open(dir.path(), OpenMode::Strict).unwrap());
    journal.retain(&segments(2)).unwrap();
    assert_eq!(files(dir.path()), [5, 6]);
    for reader in [&inside, &outside] {
        assert!(reader.iter(..).map(|record| record.unwrap().event_id()).eq(1..=50));
    }
    assert!(journal.reader().iter(..).map(|record| record.unwrap().event_id()).eq(41..=50));
}

#[test]
fn segments_end_by_number_of_events_and_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_events: Some(10), ..Rotation::default() };
    let journal = Journal::open(dir.path(), Options { rotation, ..small() }).unwrap();
    for _ in 0..35 {
        emit(&journal, 1);
        journal.sync().unwrap();
    }
    let batch: Vec<_> = (0..25).map(|_| Event::new(EventType::FILESYSTEM_READ)).collect();
    journal.emit_batch(&batch).unwrap();
    journal.emit(&batch[0]).unwrap();
    journal.close().unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(report.segments.iter().map(|s| s.totals.events).collect::<Vec<_>>(), [10, 10, 10, 5, 25, 1]);

    // However many come at once.
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options { rotation, ..small() }).unwrap();
    emit(&journal, 95);
    journal.close().unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    let events: Vec<_> = report.segments.iter().map(|s| s.totals.events).collect();
    assert_eq!(events, [10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);

    let dir = tempfile::tempdir().unwrap();
    let rotation = Rotation { max_age: Some(Duration::from_millis(50)), ..Rotation::default() };
    let options = Options {
        rotation,
        commit_on: CommitOn::OwnThread,
        request_interval: Some(Duration::from_millis(5)),
        ..small()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    emit(&journal, 1);
    wait_until("a segment that nobody writes to ends when it is old", || journal.stats().segments == 2);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(journal.stats().segments, 2, "one without events goes on");
}

/// Options of a writer that looks often for what others ask.
fn heeding() -> Options {
    let interval = Some(Duration::from_millis(5));
    Options { commit_on: CommitOn::OwnThread, request_interval: interval, ..small() }
}

#[test]
fn of_several_who_ask_at_once_each_gets_what_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), heeding(), 1);
    let before = journal.stats().segments;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(request_rotation(dir.path(), Duration::from_secs(30)).unwrap()));
        }
    });
    assert_eq!(journal.stats().segments, before + 4);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().starts_with("REQUEST")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_retention_whose_limits_are_not_passed_takes_nothing_however_often_it_is_asked_for() {
    let patience = Duration::from_secs(30);
    for is_open in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), heeding(), 5);
        let journal = if is_open { Some(journal) } else { journal.close().map(|_| None).unwrap() };
        let bytes = plan_retention(dir.path(), &Retention::default(), None).unwrap().kept_bytes;
        let limits = [
            segments(5),
            Retention { max_bytes: Some(bytes), ..Retention::default() },
            Retention { max_age: Some(Duration::from_secs(3600)), ..Retention::default() },
        ];
        for retention in &limits {
            let plan = plan_retention(dir.path(), retention, None).unwrap();
            assert_eq!((plan.retiring.len(), plan.kept_segments, plan.kept_bytes), (0, 5, bytes));
            request_retention(dir.path(), retention, None, patience).unwrap();
            if let Some(journal) = &journal {
                journal.retain(retention).unwrap();
            }
            assert_eq!(files(dir.path()), [1, 2, 3, 4, 5]);
        }
        // And one that is passed takes once what is too much.
        for _ in 0..3 {
            request_retention(dir.path(), &segments(4), None, patience).unwrap();
            wait_until("the files of retired segments go", || files(dir.path()) == [3, 4, 5, 6]);
        }
        assert!(ids(dir.path()).into_iter().eq(21..=50));
    }
}

#[test]
fn no_events_go_but_those_of_the_plan_though_others_pass_the_limits_by_then() {
    let dir = tempfile::tempdir().unwrap();
    let patience = Duration::from_secs(30);
    let journal = journal(dir.path(), heeding(), 4);
    let limits = segments(3);
    let plan = plan_retention(dir.path(), &limits, None).unwrap();
    let numbers: Vec<_> = plan.retiring.iter().map(|segment| segment.segment_number).collect();
    assert_eq!((numbers, plan.staying.len()), (vec![1, 2], 1));
    for _ in 0..3 {
        journal.rotate().unwrap();
        emit(&journal, 10);
    }
    request_retention(dir.path(), &plan.bounded(&limits), None, patience).unwrap();
    assert_eq!(journal.retired().unwrap().segment_number, 2);
    request_retention(dir.path(), &limits, None, patience).unwrap();
    assert_eq!(journal.retired().unwrap().segment_number, 5);
    journal.close().unwrap();
}

#[test]
fn a_writer_that_always_has_something_to_remove_heeds_others_too() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Some(Duration::from_millis(100));
    let options = Options {
        commit_on: CommitOn::OwnThread,
        request_interval: interval,
        retention: segments(2),
        ..small()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    let is_done = std::sync::atomic::AtomicBool::new(false);
    let heeded = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                emit(&journal, 1);
                journal.rotate().unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let heeded = request_rotation(dir.path(), Duration::from_secs(30));
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        heeded
    });
    assert!(heeded.unwrap());
    assert!(request_rotation(dir.path(), Duration::MAX).unwrap(), "who has all the time");
}

#[test]
fn a_writer_that_can_t_do_what_it_is_asked_for_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let needs = Some(Needs::new(|| Err(Error::Stopped)));
    let journal = journal(dir.path(), Options { needs, ..heeding() }, 5);
    let started = Instant::now();
    let refused = request_retention(dir.path(), &segments(2), None, Duration::from_secs(60));
    assert!(matches!(refused, Err(Error::Unheeded { .. })), "{refused:?}");
    assert!(started.elapsed() < Duration::from_secs(30), "it does not have to be waited for");
    assert_eq!(files(dir.path()), [1, 2, 3, 4, 5]);
    assert!(request_rotation(dir.path(), Duration::from_secs(30)).unwrap(), "the next one is heard");
    journal.close().unwrap();
}

#[test]
fn another_process_may_ask_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), heeding(), 4);
    let patience = Duration::from_secs(30);
    assert!(request_rotation(dir.path(), patience).unwrap());
    assert_eq!((files(dir.path()), journal.stats().segments), (vec![1, 2, 3, 4, 5], 5));
    request_retention(dir.path(), &segments(3), None, patience).unwrap();
    // The files go a little later.
    wait_until("the files of retired segments go", || files(dir.path()) == [3, 4, 5, 6]);
    assert!(ids(dir.path()).into_iter().eq(21..=40));
    // Nonsense is taken away, and does no harm; who asked for it sees in the file, which it has open, that it was not done.
    fs::write(dir.path().join("REQUEST"), "stop\n").unwrap();
    let mut asked = fs::File::open(dir.path().join("REQUEST")).unwrap();
    wait_until("what is not understood is removed", || !dir.path().join("REQUEST").exists());
    let mut answer = String::new();
    asked.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("-\n"), "{answer:?}");
    journal.close().unwrap();
    assert!(!request_rotation(dir.path(), patience).unwrap(), "a closed journal has nothing to end");
    request_retention(dir.path(), &segments(2), None, patience).unwrap();
    assert_eq!(files(dir.path()), [3, 4, 5, 6], "there are two that hold events");
    request_retention(dir.path(), &segments(1), None, patience).unwrap();
    assert_eq!(files(dir.path()), [4, 5, 6, 7]);

    let deaf = Journal::open(dir.path(), small()).unwrap();
    let refused = request_rotation(dir.path(), Duration::from_millis(50));
    assert!(matches!(refused, Err(Error::Unheeded { pid: Some(pid), .. }) if pid == std::process::id()));
    assert!(!dir.path().join("REQUEST").exists());
    std::thread::scope(|scope| {
        let asker = scope.spawn(|| request_rotation(dir.path(), patience));
        wait_until("somebody asks", || dir.path().join("REQUEST").exists());
        deaf.close().unwrap();
        let next = Journal::open(dir.path(), small()).unwrap();
        let refused = asker.join().unwrap();
        assert!(
            matches!(refused, Err(Error::Unheeded { .. })),
            "who asked a writer that is gone: {refused:?}"
        );
        drop(next);
    });
    let none = dir.path().join("none");
    assert!(matches!(
        request_rotation(&none, patience),
        Err(Error::NoJournal { .. }) | Err(Error::Io { .. })
    ));
    assert!(!none.exists());
}

#[test]
fn who_asks_a_writer_that_ends_does_it_without_one() {
    let dir = tempfile::tempdir().unwrap();
    // One that commits on its callers' threads does not look for requests. Once with the request of somebody who is gone in the way.
    for is_in_the_way in [false, true] {
        let journal = Journal::open(dir.path(), small()).unwrap();
        for _ in 0..4 {
            journal.emit_durable(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap();
            journal.rotate().unwrap();
        }
        if is_in_the_way {
            fs::write(dir.path().join("REQUEST"), b"rotate\nasker 1\n").unwrap();
        }
        let patience = Duration::from_secs(60);
        let began = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(200));
                journal.close().unwrap();
            });
            request_retention(dir.path(), &segments(2), None, patience).unwrap();
        });
        assert!(began.elapsed() < patience / 2, "{:?}", began.elapsed());
        let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert!(report.is_whole() && report.segments.len() <= 3, "{report:?}");
    }
}
