//! A compacted journal is the same journal: everything that reads it finds the same.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs::{self, Permissions};
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{io, thread};

use semj::medium::{Disk, Medium as _};
use semj::{
    Codec, CommitOn, Compaction, CompactionReport, Error, Event, EventType, Follower, Glob, Journal,
    OpenMode, Options, Query, Reader, Retention, SidecarState, SnapshotMethod, SnapshotOptions, Start,
    ThinRule, Verdict, View, examine_journal,
};
use semj_format::JournalHeader;
use semj_format::journal_header::FLAG_COMPRESSED;
use semj_tests::quirk::{Quirk, QuirkyDisk};

const EVENTS: u64 = 12_000;

fn options() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn emit(journal: &Journal, first: u64, last: u64) {
    for id in first..=last {
        let path = format!("/project/src/{}/file-{}.rs", id % 7, id % 31);
        let payload = format!("{{\"bytes\":{}}}", id * 17 % 5000);
        let event = Event::new(EventType::FILESYSTEM_WRITE).path(&path).payload(payload.as_bytes());
        assert_eq!(journal.emit(&event).unwrap(), id);
        if id % 500 == 0 {
            journal.sync().unwrap();
        }
    }
}

/// A closed journal of several segments.
fn journal(dir: &Path) {
    let journal = Journal::open(dir, options()).unwrap();
    emit(&journal, 1, EVENTS);
    journal.close().unwrap();
}

fn compact(dir: &Path, codec: Codec) -> CompactionReport {
    let compaction = Compaction { codec, ..Compaction::default() };
    semj::compact(dir, &compaction, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Everything that a reader of all records sees: places and bytes.
fn all(dir: &Path) -> Vec<(u64, u64, Vec<u8>)> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    let records = reader.records().map(|found| {
        let at = found.unwrap();
        (at.opening.segment_number, at.offset, at.record.bytes().to_vec())
    });
    records.collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "semj"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn a_compacted_journal_reads_as_it_did() {
    for codec in [Codec::None, Codec::Zlib(6), Codec::Lz4, Codec::Zstd(3), Codec::Snappy, Codec::Auto] {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path());
        let before = all(dir.path());
        let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        let done = compact(dir.path(), codec);
        assert!(done.compacted > 3 && done.skipped.is_empty(), "{done:?}");
        assert!(done.bytes_after * 4 < done.bytes_before, "{codec}: {done:?}");
        assert!(all(dir.path()) == before, "{codec}");
        let after = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert_eq!((after.tip, after.events()), (report.tip, report.events()));
        assert!(
            after.segments.iter().all(|segment| segment.verdict == Verdict::Whole && segment.is_verified)
        );
        let again = compact(dir.path(), codec);
        assert_eq!((again.compacted, again.kept), (0, done.compacted));
    }
}

#[test]
fn events_are_found_by_id_and_by_query_with_and_without_sidecars() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let query = Query::new().path_glob(Glob::new("/project/src/3/**").unwrap());
    let ask = || {
        let reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
        let ids = [1, 2, 63, 64, 4711, EVENTS - 1, EVENTS, EVENTS + 1];
        let got = ids.map(|id| reader.get(id).unwrap().map(|record| record.bytes().to_vec()));
        let found: Vec<_> = reader.query(&query).map(|found| found.unwrap().event_id()).collect();
        (got.to_vec(), found)
    };
    let before = ask();
    assert!(before.1.len() > 1000);
    compact(dir.path(), Codec::default());
    assert!(ask() == before);
    semj::rebuild_sidecars(dir.path()).unwrap();
    assert!(ask() == before);
    assert!(
        semj::verify_sidecars(dir.path()).unwrap().iter().all(|sidecar| sidecar.state == SidecarState::Right)
    );
}

#[test]
fn a_reader_gives_its_decoded_blocks_back() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    compact(dir.path(), Codec::default());
    let mut reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
    let first = reader.get(77).unwrap().unwrap().bytes().to_vec();
    assert_eq!(reader.iter(..).count() as u64, EVENTS);
    reader.release();
    assert_eq!(reader.get(77).unwrap().unwrap().bytes(), first);
}

#[test]
fn a_writer_goes_on_behind_compressed_segments_and_readers_keep_what_they_have() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let writer = Journal::open(dir.path(), options()).unwrap();
    emit(&writer, EVENTS + 1, EVENTS + 4000);
    let reader = writer.reader();
    let done = compact(dir.path(), Codec::default());
    // The newest one is written, and waits.
    assert!(done.compacted > 3 && done.waiting >= 1, "{done:?}");
    reader.check().unwrap();
    assert_eq!(reader.iter(..).map(|found| found.unwrap().event_id()).max(), Some(EVENTS + 4000));
    emit(&writer, EVENTS + 4001, EVENTS + 5000);
    writer.close().unwrap();
    let writer = Journal::open(dir.path(), options()).unwrap();
    emit(&writer, EVENTS + 5001, EVENTS + 5002);
    // A reader sees what is committed.
    writer.sync().unwrap();
    assert_eq!(writer.reader().iter(..).count() as u64, EVENTS + 5002);
    writer.close().unwrap();
    let ids: Vec<_> = Reader::open(dir.path(), OpenMode::Strict)
        .unwrap()
        .iter(..)
        .map(|found| found.unwrap().event_id())
        .collect();
    assert!(ids.into_iter().eq(1..=EVENTS + 5002));
}

#[test]
fn what_a_compaction_would_do_is_looked_at_without_taking_or_making_anything() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let lock = dir.path().join("LOCK");
    let before = fs::read_to_string(&lock).unwrap();
    fs::write(&lock, "of another\n").unwrap();
    let names = || fs::read_dir(dir.path()).unwrap().count();
    let count = names();
    let plan = semj::plan_compaction(dir.path(), &Compaction::default()).unwrap();
    assert_eq!((plan.waiting, plan.compacted), (0, segments(dir.path()).len() as u64));
    assert_eq!(fs::read_to_string(&lock).unwrap(), "of another\n", "nobody took it");
    fs::remove_file(&lock).unwrap();
    assert_eq!(semj::plan_compaction(dir.path(), &Compaction::default()).unwrap(), plan);
    assert_eq!(names(), count - 1, "nobody made it");
    fs::write(&lock, before).unwrap();
    let writer = Journal::open(dir.path(), options()).unwrap();
    let plan = semj::plan_compaction(dir.path(), &Compaction::default()).unwrap();
    assert_eq!((plan.waiting, plan.compacted), (1, segments(dir.path()).len() as u64 - 1));
    writer.close().unwrap();
}

#[test]
fn a_compaction_that_is_stopped_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let before = all(dir.path());
    let mut calls = 0;
    let stopped = semj::compact(dir.path(), &Compaction::default(), &mut |_| {
        calls += 1;
        if calls > 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let stopped = stopped.unwrap();
    assert!(stopped.is_interrupted && stopped.compacted >= 1, "{stopped:?}");
    assert!(all(dir.path()) == before);
    // As a crash leaves it.
    let segment = segments(dir.path()).pop().unwrap();
    fs::write(segment.with_extension("compact.semj.tmp"), b"not finished").unwrap();
    let done = compact(dir.path(), Codec::default());
    assert_eq!(done.kept, stopped.compacted);
    assert!(all(dir.path()) == before);
    assert!(!segment.with_extension("compact.semj.tmp").exists());
}

#[test]
fn damage_to_a_compressed_segment_is_found_and_the_rest_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    compact(dir.path(), Codec::default());
    let path = segments(dir.path()).remove(1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::Damaged { .. })));
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    let bad: Vec<_> = report.segments.iter().filter(|segment| !segment.verdict.is_good()).collect();
    assert_eq!(bad.len(), 1);
    assert_eq!((bad[0].number, bad[0].verdict), (2, Verdict::Corrupt));
    // Not looked at when it is opened, but when it is read.
    let reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.records().any(|found| matches!(found, Err(Error::Rotten { .. }))));
    let salvaged = Reader::open(dir.path(), OpenMode::Salvage).unwrap();
    let kept = salvaged.iter(..).filter(Result::is_ok).count() as u64;
    assert!(kept > EVENTS * 9 / 10 && kept < EVENTS, "{kept} events");
}

#[test]
fn damage_to_the_last_block_of_a_compressed_segment_costs_no_other() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let whole = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    compact(dir.path(), Codec::default());
    damage(&segments(dir.path()).remove(1), 1);
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    let (before, after) = (&whole.segments[1], &report.segments[1]);
    assert_eq!((after.number, after.verdict), (2, Verdict::Corrupt));
    assert!(after.totals.commits > 1 && after.totals.commits < before.totals.commits, "{after:?}");
    let salvaged = Reader::open(dir.path(), OpenMode::Salvage).unwrap();
    let kept = salvaged.iter(..).filter(Result::is_ok).count() as u64;
    let elsewhere = EVENTS - before.totals.events;
    assert!(
        kept > elsewhere && kept < EVENTS,
        "{kept} events are kept, {elsewhere} of them in other segments"
    );
}

/// Damages a byte of a compressed segment: the one so far from where its blocks end.
fn damage(path: &Path, before_the_index: u64) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let index_offset = JournalHeader::parse(&bytes).unwrap().index_offset;
    bytes[(index_offset - before_the_index) as usize] ^= 1;
    fs::write(path, &bytes).unwrap();
    bytes
}

#[test]
fn a_compressed_segment_that_is_cut_keeps_what_stands_before_the_cut() {
    // The place of the segment among all, from the end, and where in it the damage is, from its end: in the middle, in the
    // last block.
    for (mode, segment, at) in [
        (OpenMode::PointInTime, 3, 1500),
        (OpenMode::PointInTime, 3, 1),
        (OpenMode::PointInTime, 1, 1500),
        (OpenMode::Salvage, 1, 1),
        (OpenMode::Salvage, 3, 1),
    ] {
        let what = format!("{mode:?}, segment {segment} from the end, {at} bytes before its blocks' end");
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path());
        let (before, paths) = (all(dir.path()), segments(dir.path()));
        compact(dir.path(), Codec::default());
        let path = &paths[paths.len() - segment];
        let damaged = damage(path, at);
        let seen = Reader::open(dir.path(), mode).unwrap();
        let seen: Vec<_> = seen.iter(..).map(|record| record.unwrap().event_id()).collect();
        assert!(
            seen.len() as u64 > EVENTS / 2 && (seen.len() as u64) < EVENTS,
            "{what}: {} events",
            seen.len()
        );
        let open = Journal::open(dir.path(), Options { mode, ..options() }).unwrap();
        let next = open.emit(&Event::new(EventType::SYSTEM_CHECKPOINT)).unwrap();
        let kept: Vec<_> = open.reader().iter(..).map(|record| record.unwrap().event_id()).collect();
        open.close().unwrap();
        let after = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        let after: Vec<_> = after.iter(..).map(|record| record.unwrap().event_id()).collect();
        let expected: Vec<_> = seen.iter().copied().chain([next]).collect();
        assert!(after == expected, "{what}: {} events, and after it {}", expected.len(), after.len());
        assert!(
            kept[..seen.len()] == seen[..],
            "{what}: {} events, and while it was open {}",
            seen.len(),
            kept.len()
        );
        // In the same places, byte for byte.
        let again = all(dir.path());
        let is_as_before = |found: &(u64, u64, Vec<u8>)| before.binary_search(found).is_ok();
        assert!(again.iter().filter(|found| is_as_before(found)).count() > seen.len(), "{what}");
        // Nothing of what was there is gone.
        let quarantine = fs::read_dir(dir.path().join("quarantine")).unwrap();
        let files: Vec<_> = quarantine.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(files.contains(&damaged), "{what}: the compressed file is in quarantine");
    }
}

fn flip(bytes: &mut [u8], from_end: usize) {
    let at = bytes.len() - from_end;
    bytes[at] ^= 1;
}

/// A file as damage leaves it: somebody has other bytes in it, or it ends elsewhere.
type Damage = fn(&mut Vec<u8>);

#[test]
fn an_open_that_accepts_damage_restores_a_compressed_segment_whose_blocks_can_not_be_found_the_usual_way() {
    let damages: [(&str, Damage); 6] = [
        ("its header", |bytes| bytes[30] ^= 1),
        ("all of its header", |bytes| bytes[..52].fill(0xEE)),
        ("its block index", |bytes| flip(bytes, 296 + 7)),
        ("its seal", |bytes| flip(bytes, 17)),
        ("a part at its end is gone", |bytes| bytes.truncate(bytes.len() - 300)),
        ("something is behind its end", |bytes| bytes.extend_from_slice(b"of another file")),
    ];
    for (from_end, mode) in [(1, OpenMode::Salvage), (3, OpenMode::Salvage), (3, OpenMode::PointInTime)] {
        for (what, damage) in damages {
            let dir = tempfile::tempdir().unwrap();
            journal(dir.path());
            let (before, paths) = (all(dir.path()), segments(dir.path()));
            compact(dir.path(), Codec::default());
            let path = &paths[paths.len() - from_end];
            let mut bytes = fs::read(path).unwrap();
            damage(&mut bytes);
            fs::write(path, &bytes).unwrap();
            let refused = Journal::open(dir.path(), options());
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{what}");
            assert!(fs::read(path).unwrap() == bytes, "{what}: nothing is changed unasked");
            let reader = Reader::open(dir.path(), mode).unwrap();
            assert_eq!(reader.iter(..).filter(Result::is_ok).count() as u64, EVENTS, "{what}");
            let open = || Journal::open(dir.path(), Options { mode, ..options() }).unwrap();
            let writer = open();
            let next = writer.emit(&Event::new(EventType::SYSTEM_CHECKPOINT)).unwrap();
            assert_eq!(next, EVENTS + 1, "{what}");
            writer.close().unwrap();
            // All of it, in the same places, and nothing says that something is lost.
            let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
            let verdicts = report.segments.iter().map(|segment| segment.verdict);
            assert!(verdicts.into_iter().all(|verdict| verdict == Verdict::Whole), "{what}");
            let after = all(dir.path());
            assert!(after[..before.len()] == before, "{what}");
            let quarantine = || {
                let files = fs::read_dir(dir.path().join("quarantine")).unwrap();
                files.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect::<Vec<_>>()
            };
            assert!(quarantine() == [bytes], "{what}: the compressed file is in quarantine");
            open().close().unwrap();
            assert_eq!(quarantine().len(), 1, "{what}: once");
        }
    }
}

#[test]
fn a_restored_segment_lacks_what_stood_in_damaged_blocks_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let before = all(dir.path());
    compact(dir.path(), Codec::default());
    let path = segments(dir.path()).remove(1);
    damage(&path, 1500);
    let mut bytes = fs::read(&path).unwrap();
    flip(&mut bytes, 17);
    fs::write(&path, &bytes).unwrap();
    let writer = Journal::open(dir.path(), Options { mode: OpenMode::Salvage, ..options() }).unwrap();
    writer.close().unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.refusal().is_none());
    assert_eq!(report.segments[1].verdict, Verdict::KnownDamage);
    let after = all(dir.path());
    let kept = before.iter().filter(|record| after.contains(record)).count();
    assert!(kept < before.len() && kept > before.len() * 9 / 10, "{kept} of {} records", before.len());
}

#[test]
fn the_file_of_a_compressed_segment_whose_first_block_is_damaged_gives_the_others() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let path = segments(dir.path()).remove(1);
    let of_file = |path: &Path| -> Vec<(u64, Vec<u8>)> {
        let reader = Reader::open_file(path).unwrap();
        let records = reader.iter(..).map(|found| found.unwrap());
        records.map(|record| (record.event_id(), record.bytes().to_vec())).collect()
    };
    let native = of_file(&path);
    assert!(native.len() > 500, "{} events", native.len());
    compact(dir.path(), Codec::default());
    assert!(of_file(&path) == native, "compressed or not");
    let mut bytes = fs::read(&path).unwrap();
    bytes[200] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let found = of_file(&path);
    assert!(found.len() > native.len() / 2 && found.len() < native.len(), "{} events", found.len());
    assert!(found.iter().all(|event| native.binary_search(event).is_ok()));
}

#[test]
fn a_damaged_segment_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let path = segments(dir.path()).remove(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let done = compact(dir.path(), Codec::default());
    assert_eq!(done.skipped.len(), 1);
    assert!(fs::read(&path).unwrap() == bytes);
}

#[test]
fn a_snapshot_of_a_compacted_journal_is_the_journal() {
    for method in [SnapshotMethod::Link, SnapshotMethod::Copy] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("snapshot");
        let dir = dir.path().join("journal");
        journal(&dir);
        let options = SnapshotOptions { method, ..SnapshotOptions::default() };
        // Once before, so that the one is native and the other compressed.
        semj::snapshot(&dir, &target, options, &mut |_| ()).unwrap();
        compact(&dir, Codec::default());
        semj::snapshot(&dir, &target, options, &mut |_| ()).unwrap();
        assert!(all(&target) == all(&dir));
        fs::remove_dir_all(&target).unwrap();
        semj::snapshot(&dir, &target, options, &mut |_| ()).unwrap();
        assert!(all(&target) == all(&dir));
    }
}

/// Bytes of files.
fn stored(paths: &[PathBuf]) -> u64 {
    paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

fn codec_of(path: &Path) -> Option<u32> {
    let bytes = fs::read(path).unwrap();
    let layout = semj::blocks::Layout::parse(&bytes).ok()?;
    let (header, ..) = semj::blocks::BlockHeader::parse(&bytes[layout.file_range(0)?]).ok()?;
    Some(header.compression_type)
}

#[test]
fn a_segment_that_events_are_taken_out_of_stays_compressed() {
    // The digests that stand in the place of two events take more than those did, compressed.
    for (codec, n) in [(Codec::Lz4, 500), (Codec::default(), 500), (Codec::default(), 3)] {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path());
        let native = stored(&segments(dir.path()));
        compact(dir.path(), codec);
        let (before, of) = (stored(&segments(dir.path())), codec_of(&segments(dir.path())[0]));
        let rule = ThinRule { keep_one_in: Some(n), ..ThinRule::default() };
        let plan = semj::plan_thinning(dir.path(), std::slice::from_ref(&rule), None).unwrap();
        let writer = Journal::open(dir.path(), options()).unwrap();
        let reader = writer.reader();
        let done = writer.thin(&[rule]).unwrap();
        assert_eq!(plan, done, "a plan says what happens");
        assert_eq!(done.events, EVENTS - EVENTS / n);
        let left = || (1..=EVENTS).filter(|id| id % n == 0);
        let ids =
            |reader: &Reader| -> Vec<_> { reader.iter(..).map(|found| found.unwrap().event_id()).collect() };
        assert!(ids(&writer.reader()).into_iter().eq(left()));
        assert_eq!(writer.reader().get(1500).unwrap().unwrap().event_id(), 1500);
        assert!(ids(&reader).into_iter().eq(1..=EVENTS), "a reader keeps what it has");
        writer.close().unwrap();
        let paths = segments(dir.path());
        let (thinned, _) = paths.split_at(paths.len() - 2);
        assert!(of.is_some() && thinned.iter().all(|path| codec_of(path) == of), "{codec}");
        let after = stored(thinned);
        assert_eq!(done.bytes, before.saturating_sub(after), "what is told is what there is on the disk");
        assert!(if n == 3 { after * 3 < native } else { after * 2 < before }, "{native} {before} {after}");
        let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert!(report.is_whole(), "{report:?}");
        assert!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()).into_iter().eq(left()));
    }
}

/// Whether this process has a segment's file mapped that has no name any more.
fn maps_old_files(dir: &Path) -> bool {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let dir = dir.canonicalize().unwrap();
    maps.lines().any(|line| line.contains(dir.to_str().unwrap()) && line.ends_with("(deleted)"))
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within 20 s");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_writer_lets_go_of_what_another_process_has_compacted() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let options = Options {
        commit_on: CommitOn::OwnThread,
        request_interval: Some(Duration::from_millis(20)),
        ..options()
    };
    let writer = Journal::open(dir.path(), options).unwrap();
    // A lock is held against whoever else opens the file, also in this process.
    let done = compact(dir.path(), Codec::default());
    assert!(done.compacted > 3 && !done.is_unadopted, "{done:?}");
    wait_for("the old files are let go", || !maps_old_files(dir.path()));
    assert_eq!(writer.reader().iter(..).count() as u64, EVENTS);
    emit(&writer, EVENTS + 1, EVENTS + 10);
    writer.close().unwrap();
    assert_eq!(Reader::open(dir.path(), OpenMode::Strict).unwrap().iter(..).count() as u64, EVENTS + 10);
}

#[test]
fn a_writer_that_does_not_answer_is_told_of() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let writer = Journal::open(dir.path(), options()).unwrap();
    let done = compact(dir.path(), Codec::default());
    assert!(done.compacted > 3 && done.is_unadopted, "{done:?}");
    assert!(maps_old_files(dir.path()));
    assert_eq!(writer.reader().iter(..).count() as u64, EVENTS);
}

#[test]
fn a_journal_compacts_by_itself_what_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    let compaction = Some(Compaction::default());
    let options = Options { commit_on: CommitOn::OwnThread, compaction, ..options() };
    let writer = Journal::open(dir.path(), options).unwrap();
    emit(&writer, 1, EVENTS);
    writer.sync().unwrap();
    let all_ended = || {
        let paths = segments(dir.path());
        let is_compressed = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            JournalHeader::parse(&bytes).is_ok_and(|header| header.flags & FLAG_COMPRESSED != 0)
        };
        paths.iter().take(paths.len() - 1).all(is_compressed)
    };
    wait_for("segments are compressed", all_ended);
    wait_for("the old files are let go", || !maps_old_files(dir.path()));
    let reader = writer.reader();
    assert!(reader.iter(..).map(|found| found.unwrap().event_id()).eq(1..=EVENTS));
    // What was told to it by hand waits for no thread of its own, and that goes on behind it.
    let rule = ThinRule { keep_one_in: Some(2), ..ThinRule::default() };
    assert!(writer.thin(&[rule]).unwrap().events > 4000);
    writer.compact(&Compaction::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(all_ended());
    assert!(reader.iter(..).map(|found| found.unwrap().event_id()).eq(1..=EVENTS));
    let kept = writer.reader().iter(..).filter(|found| found.as_ref().unwrap().event_id() % 2 == 0).count();
    assert_eq!(kept as u64, EVENTS / 2);
    writer.close().unwrap();
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.segments.iter().all(|segment| segment.verdict == Verdict::Whole));
}

#[test]
fn a_follower_goes_through_native_and_compressed_segments() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let mut early = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    assert_eq!(early.next(Some(Duration::ZERO)).unwrap().unwrap().record.event_id(), 1);
    compact(dir.path(), Codec::default());
    let writer = Journal::open(dir.path(), options()).unwrap();
    emit(&writer, EVENTS + 1, EVENTS + 3000);
    writer.close().unwrap();
    let mut late = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for (follower, first) in [(&mut early, 2), (&mut late, 1)] {
        for id in first..=EVENTS + 3000 {
            let found = follower.next(Some(Duration::from_secs(5))).unwrap().unwrap();
            assert_eq!(found.record.event_id(), id);
        }
    }
    // A position in the middle of a compressed segment.
    let mut half = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for _ in 0..2345 {
        half.next(Some(Duration::from_secs(5))).unwrap().unwrap();
    }
    let mut resumed = Follower::open(dir.path(), Start::At(half.position()), View::Published).unwrap();
    assert_eq!(resumed.next(Some(Duration::from_secs(5))).unwrap().unwrap().record.event_id(), 2346);
}

#[test]
fn a_damaged_block_is_told_to_a_follower() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    compact(dir.path(), Codec::default());
    let path = segments(dir.path()).remove(1);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    let error = loop {
        match follower.next(Some(Duration::ZERO)) {
            Ok(found) => assert!(found.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::RottenBlock { path: told, .. } if *told == path), "{error}");
}

#[test]
fn retention_takes_compressed_segments_by_the_room_that_they_use() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let done = compact(dir.path(), Codec::default());
    let writer = Journal::open(dir.path(), options()).unwrap();
    // The active segment has its room reserved, and some of the others go.
    let limit = (256 << 10) + done.bytes_after / 2;
    writer.retain(&Retention { max_bytes: Some(limit), ..Retention::default() }).unwrap();
    writer.close().unwrap();
    let ids: Vec<_> = Reader::open(dir.path(), OpenMode::Strict)
        .unwrap()
        .iter(..)
        .map(|found| found.unwrap().event_id())
        .collect();
    assert!(ids.len() as u64 > EVENTS / 10 && (ids.len() as u64) < EVENTS * 9 / 10, "{} events", ids.len());
    assert_eq!(ids.last(), Some(&EVENTS));
}

/// Who may do what with a file, and whose it is.
fn access(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::metadata(path).unwrap();
    (metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

#[test]
fn a_segment_s_file_stays_whose_it_is_and_what_others_may_do_with_it() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    for path in segments(dir.path()).iter().chain([&dir.path().join("LOCK")]) {
        fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        // Only who may do everything can give a file away.
        drop(chown(path, Some(4711), Some(4712)));
    }
    let before = access(&segments(dir.path())[0]);
    let is_kept = |paths: &[PathBuf]| paths.iter().all(|path| access(path) == before);
    compact(dir.path(), Codec::default());
    assert!(is_kept(&segments(dir.path())), "compacted");
    assert_eq!(access(&dir.path().join("COMPACT")).1, before.1, "the writer has to take it too");
    semj::rebuild_sidecars(dir.path()).unwrap();
    let sidecars: Vec<_> = segments(dir.path()).iter().map(|path| path.with_extension("idx")).collect();
    assert!(is_kept(&sidecars), "sidecars");
    for method in [SnapshotMethod::Auto, SnapshotMethod::Copy] {
        let scratch = tempfile::tempdir().unwrap();
        let options = SnapshotOptions { method, ..SnapshotOptions::default() };
        semj::snapshot(dir.path(), scratch.path(), options, &mut |_| ()).unwrap();
        let copies = segments(scratch.path());
        assert!(is_kept(&copies), "{method:?}");
        let sidecars: Vec<_> = copies.iter().map(|path| path.with_extension("idx")).collect();
        assert!(is_kept(&sidecars), "sidecars, {method:?}");
        let marks = [dir.path(), scratch.path()].map(|dir| access(&dir.join("WATERMARK")));
        assert_eq!(marks[0], marks[1]);
    }
    let writer = Journal::open(dir.path(), options()).unwrap();
    writer.thin(&[ThinRule { keep_one_in: Some(3), ..ThinRule::default() }]).unwrap();
    writer.close().unwrap();
    let paths = segments(dir.path());
    assert!(is_kept(&paths[..paths.len() - 2]), "thinned");
}

#[test]
fn what_stands_in_the_place_of_a_new_file_is_not_given_away() {
    let dir = tempfile::tempdir().unwrap();
    let [model, other, link, second] = ["model", "other", "link", "second"].map(|name| dir.path().join(name));
    for path in [&model, &other] {
        fs::write(path, b"").unwrap();
    }
    fs::set_permissions(&model, Permissions::from_mode(0o4606)).unwrap();
    fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&other, &link).unwrap();
    assert!(Disk.take_after(&link, &model).is_err());
    fs::hard_link(&other, &second).unwrap();
    assert!(Disk.take_after(&second, &model).is_err());
    assert_eq!(access(&other).0, 0o600);
    fs::remove_file(&second).unwrap();
    Disk.take_after(&other, &model).unwrap();
    assert_eq!(access(&other).0, 0o606);
}

/// The machine's disk, on which a writer comes while the directory is synced.
#[derive(Debug)]
struct WriterAtSync {
    dir: PathBuf,
    outcome: Mutex<Option<String>>,
}

impl Quirk for WriterAtSync {
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let newest_is_compressed = || codec_of(segments(&self.dir).last().unwrap()).is_some();
        let mut outcome = self.outcome.lock().unwrap();
        if outcome.is_none() && newest_is_compressed() {
            let written = Journal::open(&self.dir, options()).and_then(|journal| {
                emit(&journal, EVENTS + 1, EVENTS + 1);
                journal.close()
            });
            *outcome = Some(written.map_or_else(|error| error.to_string(), |_| "written".to_owned()));
        }
        Disk.sync_dir(dir)
    }
}

#[test]
fn a_writer_need_not_wait_until_the_newest_segment_s_new_name_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path());
    let medium = QuirkyDisk::new(WriterAtSync { dir: dir.path().to_owned(), outcome: Mutex::default() });
    let mut go_on = |_| ControlFlow::Continue(());
    let done = semj::compact_on(&medium, dir.path(), &Compaction::default(), &mut go_on).unwrap();
    assert!(done.compacted > 3 && done.waiting == 0, "{done:?}");
    assert_eq!(medium.0.outcome.lock().unwrap().as_deref(), Some("written"));
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.events(), EVENTS + 1);
}

/// The machine's disk, on which a segment is retired just before its new file gets the name.
#[derive(Debug, Default)]
struct RetiredAtRename {
    writer: OnceLock<Arc<Journal>>,
}

impl Quirk for RetiredAtRename {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let is_replacing = |ending: &str| from.to_str().is_some_and(|from| from.ends_with(ending));
        if is_replacing(".compact.semj.tmp") || is_replacing(".copy.semj.tmp") {
            let retention = Retention { max_segments: Some(3), ..Retention::default() };
            self.writer.get().unwrap().retain(&retention).unwrap();
        }
        Disk.rename(from, to)
    }
}

#[test]
fn a_segment_that_is_retired_while_its_file_is_replaced_stays_away() {
    for how in ["thinned", "compacted", "compacted from outside"] {
        let dir = tempfile::tempdir().unwrap();
        journal(dir.path());
        let medium = QuirkyDisk::new(RetiredAtRename::default());
        let quirk = Arc::clone(&medium.0);
        let medium = Arc::new(medium);
        let writer = Arc::new(Journal::open_on(medium.clone(), dir.path(), options()).unwrap());
        quirk.writer.set(Arc::clone(&writer)).unwrap();
        let mut go_on = |_| ControlFlow::Continue(());
        match how {
            "thinned" => {
                let rule = ThinRule { keep_one_in: Some(3), ..ThinRule::default() };
                writer.thin(&[rule]).map(drop).unwrap();
            }
            "compacted" => writer.compact(&Compaction::default(), &mut go_on).map(drop).unwrap(),
            _ => {
                semj::compact_on(&*medium, dir.path(), &Compaction::default(), &mut go_on).map(drop).unwrap();
            }
        }
        let retired = writer.retired().unwrap().segment_number;
        let left: Vec<u64> = segments(dir.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap()[..10].parse().unwrap())
            .collect();
        assert!(
            retired > 1 && left[0] == retired + 1,
            "{how}: up to {retired} are retired, {left:?} are left"
        );
        let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert!(report.is_whole() && report.leftovers.is_empty(), "{how}: {report:?}");
    }
}
