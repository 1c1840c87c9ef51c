//! What a salvage keeps, what it gives up and what it writes down of that, on journals that were damaged on purpose.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semj::{CommitOn, Error, Event, EventType, Journal, Options, Priority, Reader, ThinRule};
use semj_format::control::{self, DamagedRange};
use semj_format::{Commit, JournalHeader, Record, Records, Recovered};
use semj_recovery::{OpenMode, Verdict};

const WRITE: EventType = EventType::FILESYSTEM_WRITE;
const READ: EventType = EventType::FILESYSTEM_READ;

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

fn open(dir: &Path, mode: OpenMode) -> Result<Journal, Error> {
    Journal::open(dir, Options { mode, ..options() })
}

fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        journal.emit_durable(&Event::new(WRITE)).unwrap();
    }
}

/// The journal as it is now, elsewhere: as a crash leaves it.
fn crashed(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths
}

/// The records of a segment that is whole up to there, and where they stand.
fn records(bytes: &[u8]) -> Vec<(usize, Record<'_>)> {
    Records::new(bytes, JournalHeader::SIZE).map_while(Result::ok).collect()
}

fn commits(bytes: &[u8]) -> Vec<usize> {
    let is_commit = |record: &Record<'_>| matches!(control::parse::<Commit>(record), Ok(Some(_)));
    records(bytes).into_iter().filter(|(_, record)| is_commit(record)).map(|(at, _)| at).collect()
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Events with their payloads, as a reader gives them.
fn events(dir: &Path) -> BTreeMap<u64, Vec<u8>> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    reader.iter(..).map(|record| record.unwrap()).map(|r| (r.event_id(), r.payload().to_vec())).collect()
}

/// The ranges that the records in the newest segment list.
fn recorded(dir: &Path) -> Vec<DamagedRange> {
    let bytes = fs::read(segments(dir).last().unwrap()).unwrap();
    let recovered = records(&bytes).into_iter().map(|(_, record)| record);
    recovered
        .filter(|record| matches!(control::parse::<Recovered>(record), Ok(Some(_))))
        .flat_map(|record| control::damaged_ranges(&record).collect::<Vec<_>>())
        .collect()
}

/// A journal of events of which one holds a piece of another journal, each in a group of its own; and that event's id.
fn nested() -> (tempfile::TempDir, BTreeMap<u64, Vec<u8>>, u64) {
    let other = tempfile::tempdir().unwrap();
    let journal = open(other.path(), OpenMode::Strict).unwrap();
    for n in 0..60u64 {
        journal.emit_durable(&Event::new(WRITE).payload(&n.to_le_bytes())).unwrap();
    }
    let bytes = fs::read(&segments(other.path())[0]).unwrap();
    // From behind its SegmentOpen's group on, and not to the end of a record.
    let piece = bytes[commits(&bytes)[30]..commits(&bytes)[55] + 7].to_vec();

    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    let mut emitted = BTreeMap::new();
    for n in 1..=9u64 {
        let payload = if n == 4 { piece.clone() } else { vec![n as u8; 20] };
        let id = journal.emit_durable(&Event::new(WRITE).payload(&payload)).unwrap();
        emitted.insert(id, payload);
    }
    (crashed(dir.path()), emitted, 4)
}

#[test]
fn a_piece_of_a_journal_in_an_event_is_no_part_of_this_one() {
    let (dir, emitted, holder) = nested();
    let path = &segments(dir.path())[0];
    let bytes = fs::read(path).unwrap();
    let at = |id: u64| records(&bytes).into_iter().find(|(_, r)| r.event_id() == id).unwrap().0;
    let commit_of = |id: u64| commits(&bytes).into_iter().find(|commit| *commit > at(id)).unwrap();

    // A crash before the group of that event had its Commit: nobody was told that it is durable.
    let torn = crashed(dir.path());
    change(&segments(torn.path())[0], |bytes| bytes[commit_of(holder)..].fill(0));
    fs::remove_file(torn.path().join("WATERMARK")).unwrap();
    open(torn.path(), OpenMode::Strict).unwrap().close().unwrap();
    assert!(events(torn.path()).into_keys().eq(1..holder));

    // Damage beside it, and in it.
    for (flipped, lost) in
        [(commit_of(3) + 150, 3), (at(3) + 133, 3), (at(holder) + 66, holder), (at(holder) + 400, holder)]
    {
        let damaged = crashed(dir.path());
        change(&segments(damaged.path())[0], |bytes| bytes[flipped] ^= 1);
        assert!(semj::examine_journal(damaged.path(), OpenMode::Strict).unwrap().refusal().is_some());
        open(damaged.path(), OpenMode::Salvage).unwrap().close().unwrap();
        let mut expected = emitted.clone();
        expected.remove(&lost);
        assert_eq!(
            events(damaged.path()).into_keys().collect::<Vec<_>>(),
            expected.into_keys().collect::<Vec<_>>(),
            "a bit at {flipped}"
        );
    }
}

#[test]
fn nor_is_it_of_a_file_that_is_read_by_itself() {
    let (dir, emitted, holder) = nested();
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    let start = records(&bytes).into_iter().find(|(_, r)| r.event_id() == holder).unwrap().0;
    let of_file = |bytes: &[u8]| -> Vec<u64> {
        let file = dir.path().join("file");
        fs::write(&file, bytes).unwrap();
        let reader = Reader::open_file(&file).unwrap();
        let found: BTreeMap<_, _> = reader
            .iter(..)
            .map(|found| found.unwrap())
            .map(|r| (r.event_id(), r.payload().to_vec()))
            .collect();
        for (id, payload) in &found {
            assert_eq!(emitted.get(id), Some(payload), "event {id} is another's");
        }
        found.into_keys().collect()
    };
    // Its SegmentOpen and the event that holds the piece are damaged; and what a point in time cuts off begins with that event.
    for at in [start + 66, start + 400] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        let cut_off = damaged[start..].to_vec();
        damaged[60] ^= 1;
        assert_eq!(of_file(&damaged), [1, 2, 3, 5, 6, 7, 8, 9], "a bit at {at}");
        assert_eq!(of_file(&cut_off), [5, 6, 7, 8, 9], "a bit at {at}");
    }
}

#[test]
fn of_a_file_that_ends_behind_its_opening_nothing_proves_itself() {
    let (dir, ..) = nested();
    let path = segments(dir.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    let opening = records(&bytes).remove(0);
    for end in [opening.0 + opening.1.len(), opening.0 + opening.1.len() + 50] {
        fs::write(&path, &bytes[..end]).unwrap();
        assert!(matches!(Reader::open_file(&path), Err(Error::NoOpening { .. })));
    }
}

#[test]
fn a_forged_commit_with_the_last_id_there_is_does_not_keep_a_journal_shut() {
    let (dir, ..) = nested();
    let path = &segments(dir.path())[0];
    let bytes = fs::read(path).unwrap();
    let end = commits(&bytes).pop().unwrap();
    let (size, mut forged) = {
        let record = Record::parse(&bytes[end..]).unwrap();
        (record.len(), control::parse::<Commit>(&record).unwrap().unwrap())
    };
    forged.commit_sequence += 7;
    forged.synced_upto = forged.commit_sequence - 1;
    forged.last_event_id = u64::MAX;
    let forged = forged.with_digest();
    let body = forged.encode();
    let draft = control::draft(EventType::JOURNAL_COMMIT, &body, 0, 0);
    let mut record = vec![0; draft.encoded_size().unwrap()];
    draft.encode_into(&mut record);
    change(path, |bytes| {
        let at = end + size + 300;
        bytes[end + size + 10] = 1;
        bytes[at..at + record.len()].copy_from_slice(&record);
    });
    assert!(open(dir.path(), OpenMode::Strict).is_err());
    let journal = open(dir.path(), OpenMode::PointInTime).unwrap();
    assert_eq!(journal.emit(&Event::new(WRITE)).unwrap(), 10);
}

/// A journal of so many segments with 20 events each, five in a group.
fn segmented(count: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    for n in 0..count * 20 {
        if n > 0 && n % 20 == 0 {
            journal.rotate().unwrap();
        }
        let kind = if n % 2 == 0 { READ } else { WRITE };
        journal.emit(&Event::new(kind).priority(Priority::LOW).payload(&n.to_le_bytes())).unwrap();
        if n % 5 == 4 {
            journal.sync().unwrap();
        }
    }
    crashed(dir.path())
}

/// The bytes from here on that are not zero.
fn used(bytes: &[u8], from: usize) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    &bytes[from..end]
}

#[test]
fn the_end_of_a_segment_that_nothing_names_any_more_is_kept_in_quarantine_and_recorded() {
    let dir = segmented(4);
    let paths = segments(dir.path());
    let bytes = fs::read(&paths[0]).unwrap();
    let last = *commits(&bytes).last().unwrap();
    let before =
        records(&bytes).into_iter().find(|(at, r)| *at > commits(&bytes)[3] && r.event_id() == 16).unwrap().0;
    change(&paths[0], |bytes| {
        bytes[last + 140] ^= 1;
        let seal = records(bytes).last().unwrap().0;
        bytes[seal + 140] ^= 1;
    });
    let given_up = used(&fs::read(&paths[0]).unwrap(), before).to_vec();
    fs::remove_file(&paths[1]).unwrap();
    let journal = open(dir.path(), OpenMode::Salvage).unwrap();
    journal.emit_durable(&Event::new(WRITE)).unwrap();
    journal.close().unwrap();
    let there = events(dir.path());
    assert!((1..16).all(|id| there.contains_key(&id)) && (41..=81).all(|id| there.contains_key(&id)));
    let kept: Vec<_> =
        fs::read_dir(dir.path().join("quarantine")).unwrap().map(|e| e.unwrap().path()).collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(&kept[0]).unwrap(), given_up);
    let range = DamagedRange { segment_number: 1, offset: before as u64, length: given_up.len() as u64 };
    assert!(recorded(dir.path()).contains(&range), "{:?}", recorded(dir.path()));
}

#[test]
fn what_a_salvage_leaves_is_whole_though_the_segment_that_named_an_end_is_given_up_too() {
    let dir = segmented(2);
    let paths = segments(dir.path());
    let bytes = fs::read(&paths[0]).unwrap();
    let last = *commits(&bytes).last().unwrap();
    change(&paths[0], |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[last + 50..end].iter_mut().for_each(|byte| *byte ^= 0x55);
    });
    // Only the first group of the second one is left, and it is damaged.
    change(&paths[1], |bytes| {
        let first = commits(bytes)[0];
        bytes[first + 140] ^= 1;
        bytes[first + 300..].fill(0);
    });
    for id in [41, 42] {
        let journal = open(dir.path(), OpenMode::Salvage).unwrap();
        assert_eq!(journal.emit_durable(&Event::new(WRITE)).unwrap(), id);
        journal.close().unwrap();
        let journal = open(dir.path(), OpenMode::Strict).unwrap();
        journal.close().unwrap();
    }
    assert!(events(dir.path()).into_keys().eq((1..16).chain(41..=42)));
}

#[test]
fn ids_and_epochs_of_a_segment_that_can_not_be_read_are_not_given_again() {
    for (at, mode) in [
        (20, OpenMode::PointInTime),
        (20, OpenMode::Salvage),
        (JournalHeader::SIZE + 140, OpenMode::PointInTime),
        (JournalHeader::SIZE + 140, OpenMode::Salvage),
    ] {
        for has_watermark in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let lazy = || Options { watermark_interval: Duration::from_secs(3600), ..options() };
            let journal = Journal::open(dir.path(), lazy()).unwrap();
            emit(&journal, 5);
            journal.close().unwrap();
            let journal = Journal::open(dir.path(), lazy()).unwrap();
            emit(&journal, 10);
            let epoch = journal.stats().epoch;
            let copy = crashed(dir.path());
            if !has_watermark {
                fs::remove_file(copy.path().join("WATERMARK")).unwrap();
            }
            change(&segments(copy.path())[1], |bytes| bytes[at] ^= 1);
            let journal = open(copy.path(), mode).unwrap();
            let id = journal.emit_durable(&Event::new(WRITE)).unwrap();
            assert!(id == 16 && journal.stats().epoch > epoch, "{mode:?}, {at}: {id}");
        }
    }
}

#[test]
fn every_damaged_range_is_recorded_however_many_they_are() {
    const EVENTS: u64 = 9_000;
    let dir = tempfile::tempdir().unwrap();
    let large = |mode| Options { mode, segment_size: 4 << 20, ..options() };
    let journal = Journal::open(dir.path(), large(OpenMode::Strict)).unwrap();
    for n in 0..EVENTS {
        journal.emit(&Event::new(WRITE).payload(&n.to_le_bytes())).unwrap();
    }
    journal.close().unwrap();
    change(&segments(dir.path())[0], |bytes| {
        let copy = bytes.clone();
        let events = records(&copy).into_iter().filter(|(_, record)| record.event_id() % 2 == 1);
        events.for_each(|(at, record)| bytes[at + record.len() - 1] ^= 1);
    });
    Journal::open(dir.path(), large(OpenMode::Salvage)).unwrap().close().unwrap();
    assert_eq!(recorded(dir.path()).len() as u64, EVENTS / 2);
    assert!(events(dir.path()).into_keys().eq((1..=EVENTS).filter(|id| id % 2 == 0)));
}

#[test]
fn of_a_group_that_events_were_taken_out_of_a_salvage_gives_up_what_is_damaged_and_no_more() {
    let dir = segmented(2);
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    let rule = ThinRule { types: vec![READ], older_than: Duration::ZERO, ..ThinRule::default() };
    assert!(journal.thin(&[rule]).unwrap().events >= 10);
    journal.close().unwrap();
    let before = events(dir.path());
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let at = |id: u64| records(&bytes).into_iter().find(|(_, r)| r.event_id() == id).unwrap().0;
    let group_of = |id: u64| {
        let end = commits(&bytes).into_iter().find(|commit| *commit > at(id)).unwrap();
        (
            end,
            before
                .keys()
                .copied()
                .filter(|other| *other <= 20 && (other - 1) / 5 == (id - 1) / 5)
                .collect::<Vec<_>>(),
        )
    };
    let (commit, of_group) = group_of(8);
    for (flipped, lost) in [(at(8) + 133, vec![8]), (at(12) + 66, vec![12]), (commit + 140, of_group)] {
        let damaged = crashed(dir.path());
        change(&segments(damaged.path())[0], |bytes| bytes[flipped] ^= 1);
        assert!(semj::examine_journal(damaged.path(), OpenMode::Strict).unwrap().refusal().is_some());
        open(damaged.path(), OpenMode::Salvage).unwrap().close().unwrap();
        let expected: Vec<_> = before.keys().copied().filter(|id| !lost.contains(id)).collect();
        assert_eq!(events(damaged.path()).into_keys().collect::<Vec<_>>(), expected, "a bit at {flipped}");
    }
}

#[test]
fn what_an_open_takes_as_proven_gives_no_id_that_was_never_written() {
    let dir = segmented(1);
    let bytes = fs::read(&segments(dir.path())[0]).unwrap();
    let (middle, record) = records(&bytes).into_iter().find(|(at, _)| *at == commits(&bytes)[2]).unwrap();
    let commit = control::parse::<Commit>(&record).unwrap().unwrap();
    let payload = middle + record.len() - record.payload().len();
    let field = bytes[payload..].windows(8).position(|bytes| bytes == commit.last_event_id.to_le_bytes());
    change(&segments(dir.path())[0], |bytes| bytes[payload + field.unwrap() + 7] ^= 0x40);
    match open(dir.path(), OpenMode::Strict) {
        Ok(journal) => assert_eq!(journal.emit(&Event::new(WRITE)).unwrap(), 21),
        Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{error}"),
    }
}

#[test]
fn a_newest_segment_that_is_lost_is_known_to_be() {
    for is_gone in [true, false] {
        let dir = segmented(3);
        let newest = segments(dir.path()).pop().unwrap();
        match is_gone {
            true => fs::remove_file(newest).unwrap(),
            false => change(&newest, |bytes| bytes[JournalHeader::SIZE + 140] ^= 1),
        }
        let journal = open(dir.path(), OpenMode::Salvage).unwrap();
        assert_eq!(journal.emit_durable(&Event::new(WRITE)).unwrap(), 61);
        journal.close().unwrap();
        open(dir.path(), OpenMode::Strict).unwrap().close().unwrap();
        let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
        let lost: Vec<_> = report.segments.iter().filter_map(|segment| segment.lost_before).collect();
        assert!(report.is_whole() && lost.len() == 1 && lost[0].segment_number == 3, "{lost:?}");
        assert!(report.segments.iter().any(|segment| segment.verdict == Verdict::KnownDamage));
    }
}

#[test]
fn a_segment_whose_end_and_successor_are_lost_is_whole_but_for_known_damage_behind_a_salvage() {
    type Damage = fn(&mut Vec<u8>, usize, usize);
    // With what keeps its header from being made final: a record in the middle, or the header itself. And what is left of its
    // end: a seal that is wrong, or nothing.
    let damages: [(&str, Damage); 3] = [
        ("record and seal", |bytes, record, seal| {
            bytes[record + 140] ^= 1;
            bytes[seal + 150] ^= 1;
        }),
        ("record, and the seal gone", |bytes, record, seal| {
            bytes[record + 140] ^= 1;
            bytes[seal..].fill(0);
        }),
        ("header and seal", |bytes, _, seal| {
            bytes[20] ^= 1;
            bytes[seal + 150] ^= 1;
        }),
    ];
    for (name, damage) in damages {
        let dir = segmented(4);
        let paths = segments(dir.path());
        let mut bytes = fs::read(&paths[0]).unwrap();
        let in_the_middle = records(&bytes).into_iter().find(|(_, record)| record.event_id() == 8).unwrap().0;
        let (seal, _) = records(&bytes).pop().unwrap();
        damage(&mut bytes, in_the_middle, seal);
        fs::write(&paths[0], &bytes).unwrap();
        fs::remove_file(&paths[1]).unwrap();
        assert!(open(dir.path(), OpenMode::Strict).is_err(), "{name}");
        open(dir.path(), OpenMode::Salvage).unwrap().close().unwrap();
        let (left, quarantined) = (events(dir.path()), names(&dir.path().join("quarantine")));
        assert!(left.contains_key(&20) && left.contains_key(&41) && !left.contains_key(&21), "{name}");
        for _ in 0..2 {
            let journal =
                open(dir.path(), OpenMode::Strict).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(journal.recovery().is_whole(), "{name}");
            assert_eq!(journal.recovery().segments[0].verdict, Verdict::KnownDamage, "{name}");
            journal.close().unwrap();
            assert_eq!(events(dir.path()), left, "{name}");
            assert_eq!(names(&dir.path().join("quarantine")), quarantined, "{name}: nothing is kept twice");
        }
        assert!(
            !says_recovered(segments(dir.path()).last().unwrap()),
            "{name}: what is written down is not again"
        );
    }
}

/// Whether a segment says what a recovery has found.
fn says_recovered(segment: &Path) -> bool {
    let bytes = fs::read(segment).unwrap();
    records(&bytes).iter().any(|(_, record)| matches!(control::parse::<Recovered>(record), Ok(Some(_))))
}

#[test]
fn what_a_salvage_has_cut_off_behind_damage_is_written_down_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path(), OpenMode::Strict).unwrap();
    emit(&journal, 20);
    journal.close().unwrap();
    change(&segments(dir.path())[0], |bytes| {
        let of_events = records(bytes).into_iter().find(|(_, record)| record.event_id() == 8).unwrap().0;
        let seal = records(bytes).pop().unwrap().0;
        bytes[of_events + 140] ^= 1;
        bytes[seal + 150] ^= 1;
    });
    open(dir.path(), OpenMode::Salvage).unwrap().close().unwrap();
    assert!(says_recovered(&segments(dir.path())[1]));
    for place in [2, 3] {
        open(dir.path(), OpenMode::Strict).unwrap().close().unwrap();
        assert!(!says_recovered(&segments(dir.path())[place]), "{place}");
    }
}

#[test]
fn a_salvage_that_ends_before_the_headers_are_written_leaves_a_journal_that_opens() {
    let dir = segmented(4);
    let paths = segments(dir.path());
    change(&paths[0], |bytes| {
        let seal = records(bytes).pop().unwrap().0;
        bytes[seal..].fill(0);
    });
    fs::remove_file(&paths[1]).unwrap();
    let before = fs::read(&paths[0]).unwrap();
    open(dir.path(), OpenMode::Salvage).unwrap().close().unwrap();
    assert!(fs::read(&paths[0]).unwrap() != before);
    // The newest segment, which says what is lost, was durable before that.
    fs::write(&paths[0], before).unwrap();
    open(dir.path(), OpenMode::Strict).unwrap().close().unwrap();
    assert!(events(dir.path()).into_keys().eq((1..=20).chain(41..=80)));
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
