//! The watermark tells damage to the newest commit, and the loss of the newest segment, from a crash.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use semj::{Error, Event, EventType, Journal, OpenMode, Options, Proof, Reader, SyncStrategy, Verdict};
use semj_format::watermark::SLOT_STRIDE;
use semj_format::{Gap, Watermark, WatermarkFile, control};

fn options(mode: OpenMode) -> Options {
    Options { mode, segment_size: 256 << 10, watermark_interval: Duration::ZERO, ..Options::default() }
}

fn open(dir: &Path, mode: OpenMode) -> Result<Journal, Error> {
    Journal::open(dir, options(mode))
}

fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(b"{\"bytes\":512}")).unwrap();
        journal.sync().unwrap();
    }
    wait_for_mark(journal);
}

fn wait_for_mark(journal: &Journal) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while journal.stats().last_marked_id < journal.stats().last_durable_id {
        assert!(Instant::now() < deadline, "the watermark was not written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The state that a crash leaves: a copy of the files of a journal that goes on living.
fn crashed(journal: &Journal) -> tempfile::TempDir {
    semj_tests::crash::copy(journal.dir()).unwrap()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths
}

fn flip(path: &Path, bit: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[bit / 8] ^= 1 << (bit % 8);
    fs::write(path, bytes).unwrap();
}

fn watermark(dir: &Path) -> WatermarkFile {
    WatermarkFile::parse(&fs::read(dir.join("WATERMARK")).unwrap())
}

fn ids(dir: &Path) -> Vec<u64> {
    Reader::open(dir, OpenMode::Strict).unwrap().iter(..).map(|record| record.unwrap().event_id()).collect()
}

/// Why a strict open refuses: the verdict on the newest segment, and the fault in words.
fn refusal(dir: &Path) -> (Verdict, String) {
    let options = Options { proof: Proof::Everything, ..Options::default() };
    match Journal::open(dir, options) {
        Err(Error::Damaged { report, .. }) => {
            let segment = report.refusal().unwrap();
            (segment.verdict, segment.fault.unwrap().to_string())
        }
        other => unreachable!("{other:?}"),
    }
}

/// An open journal with two segments in two epochs, and its files as a crash leaves them.
fn two_segments() -> (tempfile::TempDir, Journal) {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    emit(&journal, 10);
    journal.close().unwrap();
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    emit(&journal, 10);
    (dir, journal)
}

#[test]
fn after_eight_mebibytes_the_watermark_is_written_whatever_the_time() {
    const MARK_BYTES: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { watermark_interval: Duration::from_secs(3600), ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    let mut bytes = 0;
    let emit = |bytes: &mut u64| {
        let payload = [7; 60_000];
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload)).unwrap();
        journal.sync().unwrap();
        *bytes += payload.len() as u64;
    };
    while bytes < MARK_BYTES - 500_000 {
        emit(&mut bytes);
    }
    assert_eq!(journal.stats().last_marked_id, 0);
    while bytes < MARK_BYTES {
        emit(&mut bytes);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while journal.stats().last_marked_id == 0 {
        assert!(Instant::now() < deadline, "the watermark was not written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn any_flipped_bit_of_the_last_commit_is_damage_and_no_torn_tail() {
    let (_dir, journal) = two_segments();
    let crashed = crashed(&journal);
    let newest = segments(crashed.path()).pop().unwrap();
    let end = watermark(crashed.path()).newest.unwrap().end as usize;
    for bit in (end - 300) * 8..end * 8 {
        flip(&newest, bit);
        let (verdict, fault) = refusal(crashed.path());
        assert!(matches!(verdict, Verdict::Corrupt | Verdict::Ambiguous), "bit {bit}: {verdict:?}: {fault}");
        flip(&newest, bit);
    }
    assert_eq!(ids(crashed.path()).len(), 20);
}

#[test]
fn without_the_watermark_a_rotten_last_commit_looks_like_a_torn_tail() {
    let (_dir, journal) = two_segments();
    let crashed = crashed(&journal);
    let newest = segments(crashed.path()).pop().unwrap();
    let end = watermark(crashed.path()).newest.unwrap().end as usize;
    flip(&newest, (end - 100) * 8);
    fs::remove_file(crashed.path().join("WATERMARK")).unwrap();
    assert_eq!(ids(crashed.path()).len(), 19);
}

#[test]
fn a_missing_newest_segment_is_noticed() {
    let (dir, journal) = two_segments();
    let crashed = crashed(&journal);
    fs::remove_file(segments(crashed.path()).pop().unwrap()).unwrap();
    let (verdict, fault) = refusal(crashed.path());
    assert_eq!(verdict, Verdict::Corrupt);
    assert!(fault.contains("segments behind it were durable"), "{fault}");
    journal.close().unwrap();
    fs::remove_file(segments(dir.path()).pop().unwrap()).unwrap();
    assert_eq!(refusal(dir.path()).0, Verdict::Corrupt);
}

#[test]
fn a_journal_whose_segments_are_all_gone_is_not_begun_anew_unasked() {
    let (dir, journal) = two_segments();
    journal.close().unwrap();
    segments(dir.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    let gone = |error: &Error| matches!(error, Error::Gone { last_event_id: 20, segment_number: 2, .. });
    assert!(gone(&open(dir.path(), OpenMode::Strict).unwrap_err()));
    assert!(gone(&Reader::open(dir.path(), OpenMode::Salvage).unwrap_err()));
    assert!(gone(&semj::examine_journal(dir.path(), OpenMode::Strict).unwrap_err()));

    // Asked to, it goes on behind what is lost, and says what that is.
    let journal = open(dir.path(), OpenMode::Salvage).unwrap();
    assert_eq!(journal.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap(), 21);
    journal.sync().unwrap();
    let reader = journal.reader();
    let gap: Option<Gap> = reader.records().find_map(|at| control::parse(&at.unwrap().record).ok().flatten());
    assert_eq!(gap.map(|gap| (gap.first_event_id, gap.last_event_id)), Some((1, 20)));
    assert_eq!(journal.stats().segment_number, 3);
    journal.close().unwrap();
    assert_eq!(ids(dir.path()), [21]);
}

#[test]
fn what_was_lost_with_the_last_commit_is_recorded_and_its_ids_are_not_given_again() {
    for mode in [OpenMode::PointInTime, OpenMode::Salvage] {
        let (_dir, journal) = two_segments();
        let crashed = crashed(&journal);
        let newest = segments(crashed.path()).pop().unwrap();
        let end = watermark(crashed.path()).newest.unwrap().end as usize;
        flip(&newest, (end - 100) * 8);
        let recovered = open(crashed.path(), mode).unwrap();
        assert_eq!(recovered.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap(), 21);
        recovered.close().unwrap();
        // What the old watermark says was decided about: from here on the journal is good again.
        let mut expected: Vec<_> = (1..=19).collect();
        expected.push(21);
        assert_eq!(ids(crashed.path()), expected);
    }
}

#[test]
fn salvage_goes_on_from_the_segment_before_one_whose_opening_is_damaged() {
    for offset in [60, 200] {
        let (_dir, journal) = two_segments();
        let crashed = crashed(&journal);
        let uuid = journal.recovery().tip.unwrap().journal_uuid;
        let newest = segments(crashed.path()).pop().unwrap();
        flip(&newest, offset * 8);
        let salvaged = open(crashed.path(), OpenMode::Salvage).unwrap();
        assert_eq!(salvaged.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap(), 21);
        salvaged.close().unwrap();
        // What could not be placed is in quarantine, and the journal is good again.
        let mut expected: Vec<_> = (1..=10).collect();
        expected.push(21);
        assert_eq!(ids(crashed.path()), expected, "offset {offset}");
        let report = semj::examine_journal(crashed.path(), OpenMode::Strict).unwrap();
        assert_eq!(report.tip.unwrap().journal_uuid, uuid);
        assert_eq!(fs::read_dir(crashed.path().join("quarantine")).unwrap().count(), 1);
    }
}

#[test]
fn a_crash_between_a_recovery_and_its_watermark_does_no_harm() {
    let (_dir, journal) = two_segments();
    let crashed = crashed(&journal);
    let old = fs::read(crashed.path().join("WATERMARK")).unwrap();
    let newest = segments(crashed.path()).pop().unwrap();
    let end = watermark(crashed.path()).newest.unwrap().end as usize;
    flip(&newest, (end - 100) * 8);
    open(crashed.path(), OpenMode::PointInTime).unwrap().close().unwrap();
    fs::write(crashed.path().join("WATERMARK"), old).unwrap();
    assert_eq!(ids(crashed.path()).len(), 19);
    open(crashed.path(), OpenMode::Strict).unwrap().close().unwrap();
}

#[test]
fn one_torn_slot_costs_nothing_and_a_file_that_is_gone_or_garbage_is_made_anew() {
    let (dir, journal) = two_segments();
    journal.close().unwrap();
    let path = dir.path().join("WATERMARK");
    let newest = watermark(dir.path()).newest_slot.unwrap();
    flip(&path, (newest * SLOT_STRIDE + 50) * 8);
    let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.is_whole() && report.watermark.faults[newest].is_some());
    for contents in [None, Some(vec![]), Some(vec![0xA5; 100]), Some(vec![0xA5; 8192]), Some(vec![0; 8192])] {
        match &contents {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        open(dir.path(), OpenMode::Strict).unwrap().close().unwrap();
        let epoch = |mark: Option<Watermark>| mark.map(|mark| mark.epoch);
        let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert_eq!(epoch(watermark(dir.path()).newest), Some(report.highest_epoch), "{contents:?}");
        assert!(report.watermark.faults.iter().all(Option::is_none));
    }
    assert_eq!(ids(dir.path()).len(), 20);
}

#[test]
fn the_watermark_of_another_journal_is_noticed() {
    let (dir, journal) = two_segments();
    journal.close().unwrap();
    let (other, journal) = two_segments();
    journal.close().unwrap();
    fs::copy(other.path().join("WATERMARK"), dir.path().join("WATERMARK")).unwrap();
    let (verdict, fault) = refusal(dir.path());
    assert_eq!(verdict, Verdict::Corrupt);
    assert!(fault.contains("another journal"), "{fault}");
}

#[test]
fn an_idle_journal_is_marked_within_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(200);
    let journal =
        Journal::open(dir.path(), Options { watermark_interval: interval, ..options(OpenMode::Strict) })
            .unwrap();
    emit(&journal, 3);
    assert_eq!(watermark(dir.path()).newest.unwrap().last_event_id, 3);
    // Of many syncs in a row only some are marked.
    let before = watermark(dir.path()).newest.unwrap().generation;
    emit(&journal, 20);
    assert_eq!(watermark(dir.path()).newest.unwrap().last_event_id, 23);
    assert!(watermark(dir.path()).newest.unwrap().generation < before + 20);
    journal.close().unwrap();
}

#[test]
fn an_interval_without_an_end_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let forever = Duration::MAX;
    let options = Options {
        watermark_interval: forever,
        sync_interval: forever,
        commit_interval: forever,
        ..options(OpenMode::Strict)
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    journal.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap();
    journal.sync().unwrap();
    assert_eq!((journal.stats().last_durable_id, journal.stats().last_marked_id), (1, 0));
    journal.close().unwrap();
    assert_eq!(watermark(dir.path()).newest.unwrap().last_event_id, 1);
}

#[test]
fn the_watermark_is_written_while_there_is_always_something_to_sync() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        sync_strategy: SyncStrategy::Immediate,
        commit_interval: Duration::from_micros(1),
        watermark_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let journal = Journal::open(dir.path(), options).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let is_done = AtomicBool::new(false);
    let marks = std::thread::scope(|scope| {
        let (journal, is_done) = (&journal, &is_done);
        for _ in 0..2 {
            scope.spawn(move || {
                while !is_done.load(Ordering::Relaxed) {
                    journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(b"{}")).unwrap();
                }
            });
        }
        let mut marks = std::collections::BTreeSet::new();
        while marks.len() < 10 && Instant::now() < deadline {
            marks.insert(journal.stats().last_marked_id);
            std::thread::sleep(Duration::from_millis(1));
        }
        is_done.store(true, Ordering::Relaxed);
        marks
    });
    assert!(marks.len() >= 10, "{marks:?}");
}

#[test]
fn the_mark_of_another_journal_is_refused_whatever_its_epoch_and_a_salvage_takes_nothing_from_it() {
    let [dir, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let journal = open(other.path(), OpenMode::Strict).unwrap();
    emit(&journal, 40);
    for _ in 0..3 {
        journal.rotate().unwrap();
    }
    emit(&journal, 1);
    journal.close().unwrap();
    // This one is at a later epoch.
    for _ in 0..2 {
        let journal = open(dir.path(), OpenMode::Strict).unwrap();
        emit(&journal, 3);
        journal.close().unwrap();
    }
    fs::copy(other.path().join("WATERMARK"), dir.path().join("WATERMARK")).unwrap();
    let (verdict, fault) = refusal(dir.path());
    assert_eq!(verdict, Verdict::Corrupt);
    assert!(fault.contains("another journal"), "{fault}");

    let journal = open(dir.path(), OpenMode::Salvage).unwrap();
    assert!(journal.recovery().segments.iter().all(|segment| segment.damaged.is_empty()));
    let number = journal.stats().segment_number;
    emit(&journal, 1);
    journal.close().unwrap();
    assert_eq!(number, 3, "segment numbers go on as they were");
    assert_eq!(ids(dir.path()), (1..=7).collect::<Vec<_>>(), "and so do ids");
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.report().is_whole() && reader.report().known_damage.is_empty(), "{:?}", reader.report());
}
