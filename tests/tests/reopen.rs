//! What an open does about a journal that was not closed, or is damaged; on a real file system.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semj::{
    Backpressure, CommitOn, Error, Event, EventType, Journal, OpenMode, Options, Priority, Proof, Reader,
    Verdict,
};
use semj_format::{EventType as Type, Gap, JournalHeader, Recovered, SegmentOpen, control, journal_header};

fn options(mode: OpenMode) -> Options {
    Options { mode, segment_size: 256 << 10, ..Options::default() }
}

fn strict() -> Options {
    options(OpenMode::Strict)
}

/// Emits and syncs so many events.
fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        let event = Event::new(EventType::FILESYSTEM_WRITE).path("/project/file").payload(b"{\"bytes\":512}");
        journal.emit(&event).unwrap();
        journal.sync().unwrap();
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

fn quarantined(dir: &Path) -> Vec<Vec<u8>> {
    let Ok(entries) = fs::read_dir(dir.join("quarantine")) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn ids(dir: &Path, mode: OpenMode) -> Vec<u64> {
    Reader::open(dir, mode).unwrap().iter(..).map(|record| record.unwrap().event_id()).collect()
}

/// Where the records of one segment stand, as a strict reader sees them.
fn records(dir: &Path, segment_number: u64) -> Vec<(usize, usize, Type)> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    let located =
        reader.records().map(|at| at.unwrap()).filter(|at| at.opening.segment_number == segment_number);
    located.map(|at| (at.offset as usize, at.record.len(), at.record.event_type())).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn after_a_crash_the_old_segment_is_never_appended_to_and_a_new_epoch_begins() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    emit(&journal, 10);
    let crash = crashed(&journal);
    let old = fs::read(&segments(crash.path())[0]).unwrap();

    let reopened = Journal::open(crash.path(), strict()).unwrap();
    assert_eq!(reopened.recovery().segments[0].verdict, Verdict::OpenEnd);
    assert_eq!((reopened.stats().epoch, reopened.stats().last_durable_id), (2, 10));
    emit(&reopened, 5);
    reopened.close().unwrap();

    let paths = segments(crash.path());
    assert_eq!(paths.len(), 2);
    let now = fs::read(&paths[0]).unwrap();
    assert!(now[JournalHeader::SIZE..] == old[JournalHeader::SIZE..], "only the header changed");
    assert_eq!(JournalHeader::parse(&now).unwrap().flags, journal_header::FLAG_CUT);
    assert_eq!(ids(crash.path(), OpenMode::Strict), (1..=15).collect::<Vec<_>>());
    let reader = Reader::open(crash.path(), OpenMode::Strict).unwrap();
    let opening = reader.report().segments[1].opening.unwrap();
    assert_eq!(opening.previous_end_offset, reader.report().segments[0].end as u64);
    let recovered: Vec<Recovered> =
        reader.records().filter_map(|at| control::parse(&at.unwrap().record).unwrap()).collect();
    assert_eq!(recovered.len(), 1);
    assert_eq!((recovered[0].kept_events, recovered[0].quarantined_bytes), (10, 0));
}

/// The ids that Gaps say are missing.
fn missing(dir: &Path) -> Vec<u64> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    let gaps: Vec<Gap> =
        reader.records().filter_map(|at| control::parse(&at.unwrap().record).unwrap()).collect();
    gaps.iter().flat_map(|gap| gap.first_event_id..=gap.last_event_id).collect()
}

#[test]
fn ids_that_a_gap_says_are_missing_are_not_given_again() {
    let options = || Options {
        buffer_events: 64,
        backpressure: Backpressure::DropByPriority,
        commit_interval: Duration::from_secs(3600),
        commit_on: CommitOn::OwnThread,
        ..strict()
    };
    let event = Event::new(EventType::FILESYSTEM_WRITE).priority(Priority::BACKGROUND);
    // The journal's last record but the Commit is a Gap.
    let end_with_a_gap = |journal: &Journal| {
        let error = (0..1_000_000).find_map(|_| journal.emit(&event).err()).unwrap();
        assert!(matches!(error, Error::Dropped { .. }), "{error}");
        journal.sync().unwrap();
    };
    let goes_on = |dir: &Path| {
        // An open in between has nothing to say of ids but in what it begins.
        Journal::open(dir, options()).unwrap().close().unwrap();
        let journal = Journal::open(dir, options()).unwrap();
        let id = journal.emit(&event).unwrap();
        journal.close().unwrap();
        let missing = missing(dir);
        assert!(!missing.is_empty());
        assert!(missing.iter().all(|of| *of < id), "{id} is behind {missing:?}");
        let all: std::collections::BTreeSet<_> =
            ids(dir, OpenMode::Strict).into_iter().chain(missing).collect();
        assert!(all.into_iter().eq(1..=id), "each id is an event's or in one gap");
    };

    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    end_with_a_gap(&journal);
    goes_on(crashed(&journal).path());
    journal.rotate().unwrap();
    goes_on(crashed(&journal).path());
    journal.close().unwrap();
    goes_on(dir.path());
}

#[test]
fn a_torn_tail_is_cut_and_its_bytes_are_kept_in_quarantine() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    emit(&journal, 10);
    let crash = crashed(&journal);
    let path = &segments(crash.path())[0];
    let end = Reader::open(crash.path(), OpenMode::Strict).unwrap().report().segments[0].end;
    // An unfinished group: the beginning of the event before it, again.
    let mut bytes = fs::read(path).unwrap();
    let (at, size, _) = *records(crash.path(), 1).iter().rfind(|(.., t)| !t.is_journal()).unwrap();
    bytes.copy_within(at..at + size - 1, end);
    fs::write(path, &bytes).unwrap();

    let before = fs::read(path).unwrap();
    let reader = Reader::open(crash.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.report().segments[0].verdict, Verdict::TornTail);
    assert_eq!(reader.iter(..).count(), 10);
    assert!(before == fs::read(path).unwrap() && quarantined(crash.path()).is_empty());

    let reopened = Journal::open(crash.path(), strict()).unwrap();
    assert_eq!(quarantined(crash.path()), [bytes[end..end + size - 1].to_vec()]);
    emit(&reopened, 3);
    reopened.close().unwrap();
    assert_eq!(ids(crash.path(), OpenMode::Strict), (1..=13).collect::<Vec<_>>());
}

#[test]
fn recovering_twice_equals_recovering_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    emit(&journal, 20);
    let crash = crashed(&journal);
    let expected = ids(crash.path(), OpenMode::Strict);
    for epoch in 2..6 {
        let reopened = Journal::open(crash.path(), strict()).unwrap();
        assert_eq!(reopened.stats().epoch, epoch);
        // Not closed either: the next open finds what this one left.
        let again = crashed(&reopened);
        assert_eq!(ids(again.path(), OpenMode::Strict), expected);
        Journal::open(again.path(), strict()).unwrap().close().unwrap();
        assert_eq!(ids(again.path(), OpenMode::Strict), expected);
        let header = JournalHeader::parse(&fs::read(&segments(again.path())[0]).unwrap()).unwrap();
        assert_eq!(header.flags, journal_header::FLAG_CUT);
    }
}

#[test]
fn a_crash_between_seal_and_header_is_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    let unsealed_header = fs::read(&segments(dir.path())[0]).unwrap()[..JournalHeader::SIZE].to_vec();
    emit(&journal, 3);
    journal.close().unwrap();
    let path = &segments(dir.path())[0];
    let closed = fs::read(path).unwrap();
    let mut bytes = closed.clone();
    bytes[..JournalHeader::SIZE].copy_from_slice(&unsealed_header);
    fs::write(path, bytes).unwrap();
    Journal::open(dir.path(), strict()).unwrap().close().unwrap();
    assert!(fs::read(path).unwrap() == closed);
    assert_eq!(ids(dir.path(), OpenMode::Strict), [1, 2, 3]);
}

#[test]
fn unfinished_segments_are_ignored_by_readers_and_removed_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    emit(&journal, 3);
    journal.close().unwrap();
    let unfinished = dir.path().join("0000000002-00000000000000000004.semj.tmp");
    fs::write(&unfinished, b"half a segment").unwrap();
    assert_eq!(ids(dir.path(), OpenMode::Strict), [1, 2, 3]);
    assert!(unfinished.exists());
    Journal::open(dir.path(), strict()).unwrap().close().unwrap();
    assert!(!unfinished.exists());
}

/// A closed journal of three segments with ten events each.
fn three_segments() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), strict()).unwrap();
    for last in [false, false, true] {
        emit(&journal, 10);
        if !last {
            journal.rotate().unwrap();
        }
    }
    journal.close().unwrap();
    dir
}

/// Offset of the payload of the n-th event of a segment.
fn event_offset(dir: &Path, segment: u64, n: usize) -> usize {
    let (at, size, _) = *records(dir, segment).iter().filter(|(.., t)| !t.is_journal()).nth(n).unwrap();
    at + size - 1
}

fn all_bytes(dir: &Path) -> Vec<Vec<u8>> {
    segments(dir).iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn strict_refuses_damage_below_the_durable_mark_with_a_report_and_changes_nothing() {
    let dir = three_segments();
    let at = event_offset(dir.path(), 2, 4);
    let path = &segments(dir.path())[1];
    flip(path, at);
    let before = all_bytes(dir.path());
    let proving = Options { proof: Proof::Everything, ..strict() };
    match Journal::open(dir.path(), proving).unwrap_err() {
        Error::Damaged { report, dir: named } => {
            assert_eq!(named, dir.path());
            let segment = report.refusal().unwrap();
            assert_eq!((segment.number, segment.verdict), (2, Verdict::Corrupt));
            let fault = segment.fault.unwrap();
            assert!(fault.offset < at as u64 && at as u64 - fault.offset < 300, "{fault}");
            assert_eq!(Path::new(&segment.name), Path::new(path.file_name().unwrap()));
        }
        other => panic!("{other}"),
    }
    assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::Damaged { .. })));
    assert!(all_bytes(dir.path()) == before && quarantined(dir.path()).is_empty());
}

#[test]
fn damage_to_what_was_proven_before_is_told_by_whoever_reads_it() {
    let dir = three_segments();
    let expected = ids(dir.path(), OpenMode::Strict);
    flip(&segments(dir.path())[1], event_offset(dir.path(), 2, 4));
    // Opened at once, without a look at what was durable.
    let journal = Journal::open(dir.path(), strict()).unwrap();
    assert!(journal.recovery().segments[..3].iter().all(|segment| !segment.is_verified));
    for reader in [journal.reader(), Reader::open_newest(dir.path(), OpenMode::Strict).unwrap()] {
        let (read, wrong): (Vec<_>, Vec<_>) = reader.iter(..).partition(Result::is_ok);
        let read: Vec<_> = read.into_iter().map(|record| record.unwrap().event_id()).collect();
        assert!(read.len() < expected.len() && expected.starts_with(&read), "{read:?}");
        assert!(matches!(wrong[..], [Err(Error::Rotten { .. })]), "{wrong:?}");
        // Nor does asking for one event deny that it is there.
        for id in &expected {
            match reader.get(*id) {
                Ok(found) => assert_eq!(found.unwrap().event_id(), *id),
                Err(error) => assert!(matches!(error, Error::Rotten { .. }), "{error}"),
            }
        }
        assert!(matches!(reader.get(expected[read.len()]), Err(Error::Rotten { .. })));
    }
}

#[test]
fn point_in_time_keeps_the_prefix_and_quarantines_the_rest() {
    let dir = three_segments();
    let at = event_offset(dir.path(), 2, 4);
    let before = all_bytes(dir.path());
    flip(&segments(dir.path())[1], at);
    assert_eq!(ids(dir.path(), OpenMode::PointInTime), (1..=14).collect::<Vec<_>>());
    let journal = Journal::open(dir.path(), options(OpenMode::PointInTime)).unwrap();
    // Ids that may have been acknowledged are not given again.
    assert_eq!(journal.stats().last_emitted_id, 30);
    emit(&journal, 2);
    journal.close().unwrap();
    let mut expected: Vec<u64> = (1..=14).collect();
    expected.extend([31, 32]);
    assert_eq!(ids(dir.path(), OpenMode::Strict), expected);
    let quarantined = quarantined(dir.path());
    assert_eq!(quarantined.len(), 2);
    assert!(quarantined[1] == before[2], "the later segment, whole");
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let gap: Gap = reader.records().find_map(|at| control::parse(&at.unwrap().record).unwrap()).unwrap();
    assert_eq!((gap.first_event_id, gap.last_event_id), (15, 30));
    let opening: SegmentOpen = reader.report().segments.last().unwrap().opening.unwrap();
    assert_eq!((opening.previous_segment, opening.segment_number, opening.epoch), (2, 4, 2));
}

#[test]
fn salvage_keeps_all_that_proves_itself_and_the_damage_is_known_from_then_on() {
    let dir = three_segments();
    flip(&segments(dir.path())[1], event_offset(dir.path(), 2, 4));
    let mut expected: Vec<u64> = (1..=30).filter(|id| *id != 15).collect();
    assert_eq!(ids(dir.path(), OpenMode::Salvage), expected);
    let damaged = all_bytes(dir.path());
    let journal = Journal::open(dir.path(), options(OpenMode::Salvage)).unwrap();
    emit(&journal, 2);
    journal.close().unwrap();
    expected.extend([31, 32]);
    assert!(all_bytes(dir.path())[..3] == damaged, "damaged segments are left as they are");
    // The next open needs no special mode.
    Journal::open(dir.path(), strict()).unwrap().close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.report().segments[1].verdict, Verdict::KnownDamage);
    assert_eq!(ids(dir.path(), OpenMode::Strict), expected);
    // New damage is still found.
    let path = &segments(dir.path())[1];
    flip(path, reader.report().segments[1].extents[0].end - 1);
    assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::Damaged { .. })));
}

#[test]
fn known_damage_stays_known_when_the_segment_that_records_it_is_given_up() {
    let dir = three_segments();
    flip(&segments(dir.path())[0], event_offset(dir.path(), 1, 4));
    let journal = Journal::open(dir.path(), options(OpenMode::Salvage)).unwrap();
    emit(&journal, 2);
    journal.close().unwrap();
    // The record of the first segment's damage is in the fourth; now the third is damaged too.
    flip(&segments(dir.path())[2], JournalHeader::SIZE + 600);
    Journal::open(dir.path(), options(OpenMode::PointInTime)).unwrap().close().unwrap();
    let kept = ids(dir.path(), OpenMode::Strict);
    assert_eq!(kept, (1..=20).filter(|id| *id != 5).collect::<Vec<_>>());
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.report().segments[0].verdict, Verdict::KnownDamage);
}

#[test]
fn a_point_in_time_ends_at_the_first_damage_that_is_not_known() {
    let dir = three_segments();
    let path = segments(dir.path())[1].clone();
    let (first, second) = (event_offset(dir.path(), 2, 4), event_offset(dir.path(), 2, 7));
    flip(&path, first);
    Journal::open(dir.path(), options(OpenMode::Salvage)).unwrap().close().unwrap();
    flip(&path, second);
    let expected: Vec<_> = (1..=17).filter(|id| *id != 15).collect();
    assert_eq!(ids(dir.path(), OpenMode::PointInTime), expected);
    Journal::open(dir.path(), options(OpenMode::PointInTime)).unwrap().close().unwrap();
    assert_eq!(ids(dir.path(), OpenMode::Strict), expected);
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.report().segments[1].verdict, Verdict::KnownDamage);
}

#[test]
fn a_right_seal_under_wrong_header_figures_is_a_sealed_end_for_all() {
    for (segment, mode) in [
        (2, OpenMode::PointInTime),
        (2, OpenMode::Salvage),
        (1, OpenMode::PointInTime),
        (1, OpenMode::Salvage),
    ] {
        for change in [
            |header: JournalHeader| JournalHeader { total_events: header.total_events - 1, ..header },
            |header: JournalHeader| JournalHeader { journal_size: header.journal_size - 1, ..header },
            |header: JournalHeader| JournalHeader { journal_size: header.journal_size + 1, ..header },
        ] {
            let dir = three_segments();
            let path = &segments(dir.path())[segment];
            let mut bytes = fs::read(path).unwrap();
            let header = change(JournalHeader::parse(&bytes).unwrap());
            let header = JournalHeader { checksum: header.computed_checksum(), ..header };
            bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
            fs::write(path, &bytes).unwrap();
            assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::Damaged { .. })));
            let kept = if mode == OpenMode::Salvage { 30 } else { (segment as u64 + 1) * 10 };
            assert_eq!(ids(dir.path(), mode).len() as u64, kept);

            Journal::open(dir.path(), options(mode)).unwrap().close().unwrap();
            let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
            assert_eq!(reader.iter(..).count() as u64, kept);
            let known = &reader.report().segments[segment];
            assert!(known.is_sealed && known.verdict == Verdict::KnownDamage);
            let behind = reader.report().segments[segment + 1].opening.unwrap();
            assert_eq!(behind.previous_end, control::PreviousEnd::Sealed.code());
            assert!(fs::read(path).unwrap() == bytes, "a damaged segment is left as it is");
        }
    }
}

#[test]
fn missing_swapped_renamed_and_doubled_segments_are_noticed() {
    type Change = fn(&[PathBuf]);
    let changes: [(&str, Change); 6] = [
        ("first missing", |paths| fs::remove_file(&paths[0]).unwrap()),
        ("middle missing", |paths| fs::remove_file(&paths[1]).unwrap()),
        ("swapped", |paths| {
            let spare = paths[0].with_extension("spare");
            fs::rename(&paths[0], &spare).unwrap();
            fs::rename(&paths[1], &paths[0]).unwrap();
            fs::rename(&spare, &paths[1]).unwrap();
        }),
        ("renamed", |paths| {
            fs::rename(&paths[2], paths[2].with_file_name("0000000009-00000000000000000021.semj")).unwrap();
        }),
        ("doubled", |paths| {
            let copy = paths[2].with_file_name("0000000004-00000000000000000031.semj");
            fs::copy(&paths[2], copy).map(drop).unwrap();
        }),
        ("of another journal", |paths| {
            let other = three_segments();
            fs::copy(&segments(other.path())[1], &paths[1]).map(drop).unwrap();
        }),
    ];
    for (what, change) in changes {
        let dir = three_segments();
        change(&segments(dir.path()));
        match Reader::open(dir.path(), OpenMode::Strict) {
            Err(Error::Damaged { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
        let kept = ids(dir.path(), OpenMode::PointInTime);
        assert!(kept.iter().copied().eq(1..=kept.len() as u64), "{what}: a prefix");
    }
}

#[test]
fn a_newer_layout_is_refused_in_every_mode() {
    let dir = tempfile::tempdir().unwrap();
    let mut segment = semj_tests::SegmentBuilder::new();
    let event = segment.event(b"x");
    segment.group(&[event]);
    let mut commit = semj_tests::control_record::<semj_format::Commit>(&[0; 160]);
    commit[12] = 1;
    commit[84..88].fill(0);
    let checksum = semj_format::checksum::kernel_crc32(&commit[..]);
    commit[84..88].copy_from_slice(&checksum.to_le_bytes());
    segment.bytes.extend(commit);
    fs::write(dir.path().join("0000000001-00000000000000000001.semj"), &segment.bytes).unwrap();
    for mode in [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage] {
        match Journal::open(dir.path(), options(mode)).unwrap_err() {
            Error::Damaged { report, .. } => {
                assert_eq!(report.refusal().unwrap().verdict, Verdict::Unsupported);
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_salvage_records_damage_behind_a_segment_that_is_known_to_be_lost() {
    let vector = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/journals/known-lost-first-segment");
    let dir = tempfile::tempdir().unwrap();
    let name = "0000000003-00000000000000000007.semj";
    let mut bytes = fs::read(vector.join(name)).unwrap();
    // In the payload of event 7; event 8 and the Commit of both stand behind it.
    bytes[1023] ^= 0x40;
    fs::write(dir.path().join(name), bytes).unwrap();
    let journal = Journal::open(dir.path(), options(OpenMode::Salvage)).unwrap();
    let ids = |reader: &Reader| reader.iter(..).map(|record| record.unwrap().event_id()).collect::<Vec<_>>();
    let kept = ids(&journal.reader());
    assert_eq!(kept, [8]);
    journal.close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(ids(&reader), kept);
}
