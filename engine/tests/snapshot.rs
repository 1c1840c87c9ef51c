//! A snapshot is a journal as it was at one commit, whatever its writer does meanwhile; and looking at a journal that is
//! written to raises no alarm.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use semj::{
    CommitOn, Error, Event, EventType, Journal, OpenMode, Options, Reader, Retention, Rotation,
    SnapshotMethod, SnapshotOptions, SnapshotReport, examine_journal, restore, snapshot,
};

fn small() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        let id = journal.stats().last_emitted_id + 1;
        let payload = format!("{{\"n\":{id}}}");
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload.as_bytes())).unwrap();
    }
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn take(dir: &Path, target: &Path, method: SnapshotMethod) -> Result<SnapshotReport, Error> {
    snapshot(dir, target, SnapshotOptions { method, ..SnapshotOptions::default() }, &mut |_| ())
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    files.sort();
    files
}

/// First and last id of a journal that is whole; each event is as it was emitted.
fn range(dir: &Path) -> (u64, u64) {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    let report = reader.report();
    assert!(report.is_whole(), "{report:?}");
    let mut ids = (0, 0);
    for record in reader.iter(..) {
        let record = record.unwrap();
        let id = record.event_id();
        assert_eq!(record.payload(), format!("{{\"n\":{id}}}").as_bytes());
        assert!(ids.1 == 0 || id == ids.1 + 1, "{id} behind {}", ids.1);
        ids = (if ids.0 == 0 { id } else { ids.0 }, id);
    }
    assert_eq!(ids.0, report.retired.map_or(1, |retired| retired.last_event_id + 1));
    ids
}

#[test]
fn a_snapshot_shares_what_has_ended_and_copies_the_rest_up_to_a_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let journal = Journal::open(&live, small()).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    emit(&journal, 5);
    journal.sync().unwrap();
    emit(&journal, 5);
    // Nothing of the last five is committed: another process does not see it.
    let taken = take(&live, &target, SnapshotMethod::Link).unwrap();
    assert_eq!((taken.kept, taken.linked, taken.copied, taken.events), (0, 3, 1, 35));
    assert_eq!(range(&target), (1, 35));
    for (ours, theirs) in segment_files(&live).iter().zip(segment_files(&target)).take(3) {
        assert_eq!(fs::metadata(ours).unwrap().ino(), fs::metadata(theirs).unwrap().ino());
    }
    // The journal goes on, and the snapshot stays as it is.
    emit(&journal, 10);
    journal.rotate().unwrap();
    emit(&journal, 1);
    assert_eq!(range(&target), (1, 35));
    // Brought forward, with nothing copied that is there.
    let taken = journal.snapshot(&target, SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!((taken.kept, taken.copied, taken.events), (3, 1, 51));
    assert_eq!(taken.cloned + taken.linked, 1);
    assert_eq!(range(&target), (1, 51));
    let again = journal.snapshot(&target, SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!((again.kept, again.bytes_copied), (5, 0));
    // What the journal retires goes from the snapshot too, and is proven to.
    journal.retain(&Retention { max_segments: Some(2), ..Retention::default() }).unwrap();
    emit(&journal, 1);
    let taken = journal.snapshot(&target, SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!((taken.removed, taken.events), (4, 2));
    assert_eq!(range(&target), (51, 52));
    journal.close().unwrap();
    // A snapshot is a journal: it can be written to, and then it is none of that journal any more.
    take(&live, &target, SnapshotMethod::Copy).unwrap();
    let own = Journal::open(&target, small()).unwrap();
    emit(&own, 1);
    assert!(matches!(take(&live, &target, SnapshotMethod::Copy), Err(Error::Locked { .. })));
    own.close().unwrap();
    let refused = take(&live, &target, SnapshotMethod::Copy);
    assert!(
        matches!(refused, Err(Error::NotASnapshot { what: "the journal has no such segment", .. })),
        "{refused:?}"
    );
    assert_eq!(range(&target), (51, 53));
    assert_eq!(range(&live), (51, 52), "what was shared is as it was");
}

#[test]
fn a_snapshot_of_another_journal_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other, target] = ["one", "other", "target"].map(|name| dir.path().join(name));
    for journal in [&one, &other] {
        let journal = Journal::open(journal, small()).unwrap();
        emit(&journal, 3);
        journal.close().unwrap();
    }
    take(&one, &target, SnapshotMethod::Copy).unwrap();
    assert!(matches!(take(&other, &target, SnapshotMethod::Auto), Err(Error::NotASnapshot { .. })));
    assert_eq!(range(&target), (1, 3));
    let mut nothing = |_| ();
    assert!(matches!(
        restore(&other, &target, SnapshotMethod::Auto, &mut nothing),
        Err(Error::NotEmpty { .. })
    ));
    assert!(matches!(take(&dir.path().join("none"), &target, SnapshotMethod::Auto), Err(Error::Io { .. })));
}

#[test]
fn a_target_that_has_anything_of_another_journal_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let [one, other, target] = ["one", "other", "target"].map(|name| dir.path().join(name));
    for journal in [&one, &other] {
        let journal = Journal::open(journal, small()).unwrap();
        emit(&journal, 3);
        journal.close().unwrap();
    }
    // All that is left of the other one.
    fs::create_dir(&target).unwrap();
    fs::copy(other.join("WATERMARK"), target.join("WATERMARK")).unwrap();
    let mark = fs::read(target.join("WATERMARK")).unwrap();
    let unfinished = target.join("0000000001-00000000000000000001.copy.semj.tmp");
    fs::write(&unfinished, b"half").unwrap();
    let refused = take(&one, &target, SnapshotMethod::Copy);
    assert!(
        matches!(refused, Err(Error::NotASnapshot { what: "it is of another journal", .. })),
        "{refused:?}"
    );
    assert_eq!(fs::read(target.join("WATERMARK")).unwrap(), mark);
    assert!(unfinished.exists());
    take(&other, &target, SnapshotMethod::Copy).unwrap();
    assert_eq!(range(&target), (1, 3));
    assert!(!unfinished.exists());
}

#[test]
fn what_a_snapshot_has_not_begun_stays_in_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let journal = Journal::open(&live, small()).unwrap();
    emit(&journal, 3);
    journal.close().unwrap();
    fs::create_dir(&target).unwrap();
    let names = ["notes.semj.tmp", "notes.idx.tmp", "0000000001-00000000000000000001.compact.semj.tmp"];
    for name in names {
        fs::write(target.join(name), b"somebody's").unwrap();
    }
    take(&live, &target, SnapshotMethod::Copy).unwrap();
    assert!(names.iter().all(|name| target.join(name).exists()));
    assert_eq!(range(&target), (1, 3));
}

#[test]
fn a_snapshot_that_was_not_finished_is_known_as_such_and_completed_by_the_same_call() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let journal = Journal::open(&live, small()).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    journal.close().unwrap();
    take(&live, &target, SnapshotMethod::Copy).unwrap();
    for path in segment_files(&target).iter().skip(2) {
        fs::remove_file(path).unwrap();
    }
    fs::write(target.join("0000000003-00000000000000000021.copy.semj.tmp"), b"half").unwrap();
    assert!(!examine_journal(&target, OpenMode::Strict).unwrap().is_whole());
    let taken = take(&live, &target, SnapshotMethod::Auto).unwrap();
    assert_eq!((taken.kept, taken.kept + taken.linked + taken.cloned), (2, 4));
    assert_eq!(range(&target), (1, 30));
    assert!(
        fs::read_dir(&target).unwrap().all(|e| !e.unwrap().file_name().to_str().unwrap().ends_with(".tmp"))
    );
}

#[test]
fn damage_is_found_before_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let [live, target, back] = ["live", "target", "back"].map(|name| dir.path().join(name));
    let journal = Journal::open(&live, small()).unwrap();
    emit(&journal, 100);
    journal.rotate().unwrap();
    emit(&journal, 100);
    journal.close().unwrap();
    take(&live, &target, SnapshotMethod::Copy).unwrap();
    let restored = restore(&target, &back, SnapshotMethod::Copy, &mut |_| ()).unwrap();
    assert_eq!((restored.events, range(&back)), (200, (1, 200)));
    fs::remove_dir_all(&back).unwrap();
    let path = &segment_files(&target)[0];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    assert!(matches!(restore(&target, &back, SnapshotMethod::Copy, &mut |_| ()), Err(Error::Damaged { .. })));
    assert!(!back.exists(), "nothing is made of it");
}

/// Opens a damaged journal, which accepts the damage, and has it go on.
fn salvage(dir: &Path) {
    let journal = Journal::open(dir, Options { mode: OpenMode::Salvage, ..small() }).unwrap();
    emit(&journal, 3);
    journal.close().unwrap();
}

#[test]
fn what_a_journal_has_lost_is_not_removed_from_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let [live, target] = ["live", "target"].map(|name| dir.path().join(name));
    let journal = Journal::open(&live, small()).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    journal.close().unwrap();
    take(&live, &target, SnapshotMethod::Copy).unwrap();
    let first = segment_files(&live)[0].clone();
    let mut bytes = fs::read(&first).unwrap();
    bytes[60] ^= 1;
    fs::write(&first, bytes).unwrap();
    salvage(&live);
    assert!(!first.exists(), "nothing of it can be placed");
    let refused = take(&live, &target, SnapshotMethod::Copy);
    assert!(
        matches!(refused, Err(Error::NotASnapshot { what: "the journal has no such segment", .. })),
        "{refused:?}"
    );
    assert_eq!(range(&target), (1, 30), "nowhere else");
    // What it has now goes into another one.
    let taken = take(&live, &dir.path().join("another"), SnapshotMethod::Copy).unwrap();
    assert_eq!(taken.events, 23);
}

#[test]
fn an_end_that_a_journal_has_lost_stays_in_its_snapshot() {
    for damage in [40, 400] {
        let dir = tempfile::tempdir().unwrap();
        let [live, target] = ["live", "target"].map(|name| dir.path().join(name));
        let journal = Journal::open(&live, small()).unwrap();
        for _ in 0..3 {
            emit(&journal, 10);
            journal.sync().unwrap();
            emit(&journal, 10);
            journal.rotate().unwrap();
        }
        journal.close().unwrap();
        take(&live, &target, SnapshotMethod::Copy).unwrap();
        let second = &segment_files(&live)[1];
        let end = examine_journal(&live, OpenMode::Strict).unwrap().segments[1].end;
        let right = fs::read(second).unwrap();
        let mut bytes = right.clone();
        bytes[end - damage] ^= 1;
        fs::write(second, bytes).unwrap();
        salvage(&live);
        take(&live, &target, SnapshotMethod::Copy).unwrap();
        assert_eq!(fs::read(&segment_files(&target)[1]).unwrap()[..end], right[..end]);
        let reader = Reader::open(&target, OpenMode::Strict).unwrap();
        assert_eq!(reader.iter(..).count(), 63);
    }
}

#[test]
fn a_segment_whose_end_is_known_to_be_lost_is_copied_as_far_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let [live, target, back] = ["live", "target", "back"].map(|name| dir.path().join(name));
    let journal = Journal::open(&live, small()).unwrap();
    for _ in 0..3 {
        for _ in 0..5 {
            emit(&journal, 10);
            journal.sync().unwrap();
        }
        journal.rotate().unwrap();
    }
    journal.close().unwrap();
    let second = &segment_files(&live)[1];
    let end = examine_journal(&live, OpenMode::Strict).unwrap().segments[1].end as u64;
    fs::File::options().write(true).open(second).unwrap().set_len(end - 1_500).unwrap();
    salvage(&live);
    let events = |dir: &Path| {
        let reader = Reader::open(dir, OpenMode::Strict).unwrap();
        reader.iter(..).map(|record| record.unwrap().event_id()).collect::<Vec<_>>()
    };
    let there = events(&live);
    assert!((120..153).contains(&there.len()), "{}", there.len());
    let mut progress = Vec::new();
    let options = SnapshotOptions { method: SnapshotMethod::Copy, ..SnapshotOptions::default() };
    snapshot(&live, &target, options, &mut |at| progress.push(at)).unwrap();
    assert_eq!(events(&target), there);
    assert!(progress.last().is_some_and(|last| last.done == last.total), "{progress:?}");
    // And once more, and from there.
    take(&live, &target, SnapshotMethod::Auto).unwrap();
    assert_eq!(events(&target), there);
    restore(&target, &back, SnapshotMethod::Auto, &mut |_| ()).unwrap();
    assert_eq!(events(&back), there);
}

#[test]
fn what_is_retired_while_a_snapshot_is_taken_is_in_it_nevertheless() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let retention = Retention { max_segments: Some(3), ..Retention::default() };
    let journal = Journal::open(&live, Options { retention, ..small() }).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    let expected = range(&live);
    // Whenever a file is done, all others that the snapshot is of go.
    let retire = || {
        for _ in 0..4 {
            emit(&journal, 10);
            journal.rotate().unwrap();
        }
    };
    let taken = snapshot(&live, &target, SnapshotOptions::default(), &mut |_| retire()).unwrap();
    assert_eq!(range(&target), expected);
    assert_eq!((taken.events, taken.tip.last_event_id), (expected.1 - expected.0 + 1, expected.1));
    assert!(range(&live).0 > expected.1, "all of it was retired");
}

#[test]
fn a_journal_that_is_written_to_rotated_and_retained_is_verified_read_and_copied_without_an_alarm() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let options = Options {
        commit_on: CommitOn::OwnThread,
        rotation: Rotation { max_events: Some(200), ..Rotation::default() },
        retention: Retention { max_segments: Some(8), ..Retention::default() },
        watermark_interval: Duration::from_millis(1),
        commit_interval: Duration::from_micros(200),
        ..small()
    };
    let journal = Journal::open(&live, options).unwrap();
    emit(&journal, 1);
    journal.sync().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                emit(&journal, 20);
                journal.sync().unwrap();
            }
        });
        // Also where something below is not as it should be: the thread would be waited for, and nothing said.
        let ends = SetOnDrop(&is_over);
        let mut last = 0;
        let started = Instant::now();
        let mut round = 0;
        // The disk may be slow: until something was retired, and no longer than half a minute.
        while round < 150 || (journal.stats().segments_retired == 0 && started.elapsed().as_secs() < 30) {
            round += 1;
            let report = examine_journal(&live, OpenMode::Strict).unwrap();
            assert!(report.is_whole(), "round {round}: {report:#?}");
            let (_, newest) = range(&live);
            assert!(newest >= last, "round {round}: {newest} after {last}");
            last = newest;
            if round % 10 == 0 {
                let taken = take(&live, &target, SnapshotMethod::Auto).unwrap();
                assert!(taken.tip.last_event_id >= last);
                assert_eq!(range(&target).1, taken.tip.last_event_id);
            }
        }
        drop(ends);
    });
    assert!(journal.stats().segments_retired > 0, "{:?}", journal.stats());
}
