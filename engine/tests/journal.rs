//! What a user of the engine relies on, on a real file system.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::path::{Path, PathBuf};

use semj::{CommitOn, Error, Event, EventType, Journal, OpenMode, Options, Reader};
use semj_format::{Draft, EventHeader};

fn small() -> Options {
    Options { segment_size: 256 << 10, ..Options::default() }
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "semj"))
        .collect();
    files.sort();
    files
}

fn write_event(n: u64) -> Vec<u8> {
    format!("{{\"bytes\":{n}}}").into_bytes()
}

fn emit(journal: &Journal, n: u64) -> u64 {
    let payload = write_event(n);
    journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).path("/a/file").payload(&payload)).unwrap()
}

#[test]
fn events_come_back_by_id_and_in_order_across_rotations_and_reopens() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let journal = Journal::open(dir.path(), small()).unwrap();
        for n in 1..=2000 {
            assert_eq!(emit(&journal, round * 2000 + n), round * 2000 + n);
        }
        journal.sync().unwrap();
        let reader = journal.reader();
        let last = (round + 1) * 2000;
        assert_eq!(
            reader.iter(..).map(|r| r.unwrap().event_id()).collect::<Vec<_>>(),
            (1..=last).collect::<Vec<_>>()
        );
        for id in [1, last / 2, last] {
            assert_eq!(reader.get(id).unwrap().unwrap().payload(), write_event(id));
        }
        assert!(reader.get(0).unwrap().is_none() && reader.get(last + 1).unwrap().is_none());
        assert!(reader.iter(10..=12).map(|r| r.unwrap().event_id()).eq(10..=12));
        let stats = journal.close().unwrap();
        assert_eq!((stats.last_durable_id, stats.events_emitted), (last, 2000));
    }
    assert!(segment_files(dir.path()).len() >= 6);
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.report().is_whole() && reader.report().is_closed());
    assert_eq!(reader.iter(..).count(), 6000);
}

#[test]
fn a_second_writer_is_refused_with_the_holders_pid() {
    let dir = tempfile::tempdir().unwrap();
    let _journal = Journal::open(dir.path(), small()).unwrap();
    match Journal::open(dir.path(), small()).unwrap_err() {
        Error::Locked { pid, .. } => assert_eq!(pid, Some(std::process::id())),
        other => panic!("{other}"),
    }
}

#[test]
fn a_reader_changes_no_byte_and_needs_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    emit(&journal, 1);
    journal.sync().unwrap();
    let before: Vec<_> = segment_files(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).collect();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.iter(..).count(), 1);
    let after: Vec<_> = segment_files(dir.path()).iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(before == after);
}

#[test]
fn what_the_format_cannot_hold_is_refused_and_takes_no_id() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let create = Event::new(EventType::FILESYSTEM_CREATE);
    let path = vec![b'x'; 4096];
    let error = journal.emit(&create.path(&path)).unwrap_err().to_string();
    assert!(error.contains("path") && error.contains("4096") && error.contains("4095"), "{error}");
    assert!(matches!(journal.emit(&create.payload(&vec![0; 65_537])), Err(Error::Draft(_))));
    assert!(matches!(journal.emit(&create.agents(1, 101)), Err(Error::Score { value: 101, .. })));
    assert!(matches!(journal.emit(&Event::new(EventType::JOURNAL_COMMIT)), Err(Error::ReservedType { .. })));
    let batch = vec![create.payload(&path); 100];
    assert!(matches!(journal.emit_batch(&batch), Err(Error::BatchTooLarge { .. })));
    assert_eq!(emit(&journal, 1), 1);
}

#[test]
fn who_opens_a_journal_leaves_alone_what_somebody_compresses() {
    let dir = tempfile::tempdir().unwrap();
    let lock = std::fs::File::create(dir.path().join("COMPACT")).unwrap();
    fs2::FileExt::lock_exclusive(&lock).unwrap();
    let unfinished = dir.path().join("0000000001-00000000000000000001.compact.semj.tmp");
    std::fs::write(&unfinished, "half").unwrap();
    Journal::open(dir.path(), small()).unwrap().close().unwrap();
    assert!(unfinished.exists());
    drop(lock);
    Journal::open(dir.path(), small()).unwrap().close().unwrap();
    assert!(!unfinished.exists(), "nobody finishes it");
}

#[test]
fn imported_ids_are_kept_and_must_increase() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let with_id =
        |event_id| Draft::new(EventHeader { event_id, local_sequence: 7, ..EventHeader::new(0x0101) });
    assert_eq!(journal.import(&with_id(500)).unwrap(), 500);
    assert!(matches!(journal.import(&with_id(500)), Err(Error::IdOrder { found: 500, after: 500 })));
    assert_eq!(journal.import(&with_id(0)).unwrap(), 501);
    assert!(matches!(journal.import(&with_id(u64::MAX)), Err(Error::Exhausted { .. })));
    assert!(matches!(journal.import(&with_id(1 << 63)), Err(Error::Exhausted { .. })));
    journal.sync().unwrap();
    let reader = journal.reader();
    assert_eq!(reader.get(500).unwrap().unwrap().header().root_cause_event_id, 0);
    let assigned = reader.get(501).unwrap().unwrap().header();
    assert_eq!(
        (assigned.local_sequence, assigned.global_sequence, assigned.root_cause_event_id),
        (7, 501, 501)
    );
    assert!(reader.get(499).unwrap().is_none());
    drop(journal);
    let journal = Journal::open(dir.path(), small()).unwrap();
    assert!(matches!(journal.import(&with_id(501)), Err(Error::IdOrder { .. })));
}

#[test]
fn a_batch_is_one_commit_group() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let event = Event::new(EventType::GRAPH_QUERY).payload(b"x");
    assert_eq!(journal.emit_batch(&[event; 40]).unwrap(), 1..41);
    assert_eq!(journal.emit_batch(&[]).unwrap(), 41..41);
    journal.sync().unwrap();
    let reader = journal.reader();
    let commits: Vec<semj_format::Commit> =
        reader.records().filter_map(|at| semj_format::control::parse(&at.unwrap().record).unwrap()).collect();
    let group = commits.iter().find(|commit| commit.event_count > 0).unwrap();
    assert_eq!((group.first_event_id, group.last_event_id, group.event_count), (1, 40, 40));
}

#[test]
fn threads_get_contiguous_ids_and_every_event_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), Options::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let journal = &journal;
            scope.spawn(move || {
                for n in 0..5000u32 {
                    let payload = [thread.to_le_bytes(), n.to_le_bytes()].concat();
                    journal.emit(&Event::new(EventType::AGENT_QUERY).payload(&payload)).unwrap();
                    if n % 1000 == 0 {
                        journal.sync().unwrap();
                    }
                }
            });
        }
    });
    journal.close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.iter(..).map(|r| r.unwrap().event_id()).eq(1..=20_000));
    let mut next = [0u32; 4];
    for record in reader.iter(..) {
        let record = record.unwrap();
        let (thread, n) = record.payload().split_at(4);
        let thread = u32::from_le_bytes(thread.try_into().unwrap()) as usize;
        assert_eq!(u32::from_le_bytes(n.try_into().unwrap()), next[thread], "order within a thread");
        next[thread] += 1;
    }
}

#[test]
fn events_become_visible_without_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    emit(&journal, 1);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while journal.reader().get(1).unwrap().is_none() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
}

#[test]
fn each_open_begins_a_new_epoch_in_a_new_segment() {
    let dir = tempfile::tempdir().unwrap();
    for epoch in 1..=4 {
        let journal = Journal::open(dir.path(), small()).unwrap();
        let stats = journal.stats();
        assert_eq!((stats.epoch, stats.segment_number), (epoch, epoch));
    }
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for segment_size in [0, (256 << 10) - 1, (4 << 30) + 1] {
        let options = Options { segment_size, ..Options::default() };
        assert!(matches!(
            Journal::open(dir.path(), options),
            Err(Error::Option { option: "segment_size", .. })
        ));
    }
}

#[test]
fn a_missing_journal_is_an_error_for_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::NoJournal { .. })));
    assert!(matches!(Reader::open(dir.path().join("none"), OpenMode::Strict), Err(Error::Io { .. })));
}

#[test]
fn a_journal_without_a_thread_commits_when_it_is_asked_or_full() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { commit_on: CommitOn::CallersThread, buffer_events: 1024, ..small() };
    let journal = Journal::open(dir.path(), options).unwrap();
    emit(&journal, 1);
    assert!(journal.reader().get(1).unwrap().is_none(), "nothing happens between calls");
    journal.sync().unwrap();
    assert_eq!((journal.stats().last_durable_id, journal.reader().iter(..).count()), (1, 1));
    for n in 2..=3000 {
        emit(&journal, n);
    }
    assert!(journal.stats().waits > 0 && journal.stats().last_committed_id > 1, "the buffer was full");
    journal.rotate().unwrap();
    assert_eq!(journal.close().unwrap().last_durable_id, 3000);
    assert_eq!(Reader::open(dir.path(), OpenMode::Strict).unwrap().iter(..).count(), 3000);
}

#[test]
fn a_child_process_that_is_being_started_does_not_keep_the_lock() {
    use std::os::unix::process::CommandExt as _;
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let started = std::time::Instant::now();
    let child = std::thread::spawn(move || {
        let mut command = std::process::Command::new("true");
        // SAFETY: between fork and exec only a sleep is done, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                std::thread::sleep(std::time::Duration::from_millis(1500));
                Ok(())
            });
        }
        command.status().unwrap();
    });
    std::thread::sleep(std::time::Duration::from_millis(100));
    journal.close().unwrap();
    Journal::open(dir.path(), small()).unwrap().close().unwrap();
    assert!(started.elapsed() < std::time::Duration::from_millis(1500), "the child is past its exec already");
    child.join().unwrap();
}

/// Emits and waits when it is dropped, as a flight recorder does.
struct Recording<'j>(&'j Journal);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.emit_durable(&Event::new(EventType::SYSTEM_SYNC)).unwrap();
        self.0.rotate().unwrap();
    }
}

/// Does something that ends in a panic of the caller's own.
fn panicking(work: impl FnOnce() + std::panic::UnwindSafe) {
    let unwound = std::panic::catch_unwind(work).unwrap_err();
    assert_eq!(unwound.downcast_ref(), Some(&"the caller's own"));
}

#[test]
fn a_caller_that_panics_can_still_record_it_and_the_journal_goes_on() {
    for commit_on in [CommitOn::OwnThread, CommitOn::CallersThread] {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), Options { commit_on, ..small() }).unwrap();
        panicking(std::panic::AssertUnwindSafe(|| {
            let _recording = Recording(&journal);
            std::panic::panic_any("the caller's own");
        }));
        assert_eq!(emit(&journal, 2), 2);
        journal.sync().unwrap();
        let stats = journal.close().unwrap();
        assert_eq!((stats.last_durable_id, stats.segment_number), (2, 2));
    }
}

#[test]
fn a_journal_that_is_dropped_by_a_panic_is_closed_like_any_other() {
    for commit_on in [CommitOn::OwnThread, CommitOn::CallersThread] {
        let dir = tempfile::tempdir().unwrap();
        panicking(|| {
            let journal = Journal::open(dir.path(), Options { commit_on, ..small() }).unwrap();
            emit(&journal, 1);
            std::panic::panic_any("the caller's own");
        });
        let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert!(report.is_whole() && report.is_closed());
        let marked = report.watermark.newest.unwrap();
        assert_eq!((marked.last_event_id, report.events()), (1, 1), "it was made durable too");
    }
}

#[test]
fn what_is_said_to_be_written_is_what_the_segments_hold() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { watermark_interval: std::time::Duration::ZERO, ..small() };
    let journal =
        Journal::open(dir.path(), Options { commit_on: CommitOn::CallersThread, ..options }).unwrap();
    let before = journal.stats();
    for n in 0..10 {
        emit(&journal, n);
        journal.sync().unwrap();
    }
    assert_eq!(journal.stats().syncs - before.syncs, 10, "the watermark's are no syncs of segments");
    journal.rotate().unwrap();
    emit(&journal, 10);
    let stats = journal.close().unwrap();
    let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(stats.bytes_written, report.segments.iter().map(|segment| segment.end as u64).sum::<u64>());
}

#[test]
fn a_file_that_somebody_else_took_away_does_not_keep_a_journal_from_being_closed() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let is_spare = |path: &Path| path.extension().is_some_and(|extension| extension == "tmp");
    let spare = (0..20_000).find_map(|n| {
        emit(&journal, n);
        journal.sync().unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        names.into_iter().find(|path| is_spare(path))
    });
    let _ = std::fs::remove_file(spare.unwrap());
    let stats = journal.close().unwrap();
    assert_eq!(stats.last_durable_id, stats.last_emitted_id);
    let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.is_closed());
}

#[test]
fn a_journal_is_begun_where_that_is_meant_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("not mounted");
    let existing = || Options { create_if_missing: false, ..small() };
    for made in [false, true] {
        if made {
            std::fs::create_dir(&place).unwrap();
        }
        let error = Journal::open(&place, existing()).unwrap_err();
        assert!(matches!(error, Error::NoJournal { .. }), "{error}");
        assert_eq!(std::fs::read_dir(&place).map_or(0, |found| found.count()), 0, "nothing is left there");
    }
    Journal::open(&place, small()).unwrap().close().unwrap();
    let journal = Journal::open(&place, existing()).unwrap();
    assert!(
        format!("{journal:?} {:?}", journal.emit_ticket(&Event::new(EventType::SYSTEM_SYNC))).len() < 10_000
    );
    let here = std::fs::read_dir(".").unwrap().count();
    assert!(matches!(Journal::open("", small()), Err(Error::Io { .. })));
    assert_eq!(std::fs::read_dir(".").unwrap().count(), here);
}

#[test]
fn a_segment_never_outgrows_its_size_whatever_room_its_last_group_leaves() {
    let size = small().segment_size;
    let seal_size = semj_format::control::record_size::<semj_format::SegmentSeal>() as u64;
    // From a group that a seal has room behind to one that has none for itself.
    for room in [0, 1, 8, seal_size - 8, seal_size - 1, seal_size, seal_size + 1] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { commit_on: CommitOn::CallersThread, ..small() };
        let journal = Journal::open(dir.path(), options).unwrap();
        let group = |payload: u64| {
            let payload = vec![7; payload as usize];
            journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload)).unwrap();
            journal.sync().unwrap();
            let tip = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap().tip.unwrap();
            (tip.segment_number, tip.end as u64)
        };
        let (_, before) = group(50_000);
        let (_, end) = group(50_000);
        // What an event of so many bytes needs beside them, with its Commit.
        let beside = end - before - 50_000;
        let mut end = end;
        while size - end > 110_000 {
            end = group(50_000).1;
        }
        let half = (size - end) / 2;
        end = group(half).1;
        let (last, end) = group(size - end - beside - room);
        assert_eq!(if last == 1 { size - end } else { 0 }, if room < seal_size { 0 } else { room });
        group(0);
        journal.rotate().unwrap();
        journal.close().unwrap();
        for file in segment_files(dir.path()) {
            assert!(std::fs::metadata(&file).unwrap().len() <= size, "{room}: {}", file.display());
        }
        assert!(semj::examine_journal(dir.path(), OpenMode::Strict).unwrap().is_closed());
    }
}

#[test]
fn a_journal_whose_segment_numbers_are_used_up_says_so_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // As a name that somebody has left there makes it.
    let quarantine = dir.path().join("quarantine");
    std::fs::create_dir(&quarantine).unwrap();
    std::fs::write(quarantine.join("9999999998-00000000000000000001.semj.epoch-1.from-0"), b"").unwrap();
    let options =
        || Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() };
    let journal = Journal::open(dir.path(), options()).unwrap();
    let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&[1; 1000]);
    let mut acknowledged = 0;
    let error = loop {
        match journal.emit_durable(&event) {
            Ok(id) => acknowledged = id,
            Err(error) => break error,
        }
    };
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("segment numbers"), "{error}: {cause}");
    assert!(acknowledged > 100, "{acknowledged}");
    drop(journal);
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.iter(..).count() as u64 >= acknowledged);
    let error = Journal::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, Error::Exhausted { what: "segment numbers" }), "{error}");
}
