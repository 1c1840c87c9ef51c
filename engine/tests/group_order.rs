//! Groups whose urgent events stand first.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::Path;

use semj::format::{Commit, control};
use semj::recovery::OpenMode;
use semj::{
    CommitOn, Event, EventType, GroupOrder, Journal, Options, Priority, Proof, Query, Reader, Verdict,
};

const PRIORITIES: [Priority; 5] =
    [Priority::CRITICAL, Priority::HIGH, Priority::NORMAL, Priority::LOW, Priority::BACKGROUND];
const PAYLOAD: [u8; 400] = [7; 400];

fn options() -> Options {
    Options {
        group_order: GroupOrder::Priority,
        commit_on: CommitOn::CallersThread,
        segment_size: 1 << 20,
        proof: Proof::Everything,
        ..Options::default()
    }
}

fn priority(id: u64) -> Priority {
    PRIORITIES[(id * 7 % 11 % 5) as usize]
}

/// Emits these events, whose ids are the numbers, as one group.
fn emit_group(journal: &Journal, ids: std::ops::RangeInclusive<u64>) {
    for expected in ids {
        let event = Event::new(EventType::FILESYSTEM_WRITE).priority(priority(expected)).payload(&PAYLOAD);
        assert_eq!(journal.emit(&event).unwrap(), expected);
    }
    journal.sync().unwrap();
}

/// Ids as they stand in the file.
fn as_they_stand(reader: &Reader) -> Vec<u64> {
    reader.iter(..).map(|record| record.unwrap().event_id()).collect()
}

fn by_priority(ids: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_by_key(|id| (priority(*id), *id));
    ids
}

fn flags(reader: &Reader) -> Vec<u32> {
    let commits = reader.records().filter_map(|at| control::parse::<Commit>(&at.unwrap().record).unwrap());
    commits.map(|commit| commit.flags).collect()
}

#[test]
fn the_urgent_events_of_a_group_stand_first_and_every_question_is_answered_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit_group(&journal, 1..=300);
    emit_group(&journal, 301..=301);
    emit_group(&journal, 302..=500);
    let expected = [by_priority(1..=300), vec![301], by_priority(302..=500)].concat();
    let check = |reader: &Reader| {
        assert_eq!(as_they_stand(reader), expected);
        // SegmentOpen's group and a group of one event are in order.
        assert_eq!(flags(reader), [0, 1, 0, 1]);
        for id in 1..=500 {
            assert_eq!(reader.get(id).unwrap().unwrap().event_id(), id);
        }
        assert!(reader.get(501).unwrap().is_none());
        let mut found: Vec<u64> =
            reader.query(&Query::new().ids(250..=350)).map(|found| found.unwrap().event_id()).collect();
        found.sort_unstable();
        assert!(found.into_iter().eq(250..=350));
    };
    check(&journal.reader());
    journal.close().unwrap();
    let report = semj::examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(report.segments.last().map(|segment| &segment.verdict), Some(&Verdict::Whole));
    check(&Reader::open(dir.path(), OpenMode::Strict).unwrap());

    let journal = Journal::open(dir.path(), options()).unwrap();
    emit_group(&journal, 501..=510);
    assert_eq!(as_they_stand(&journal.reader())[500..], by_priority(501..=510));
}

#[test]
fn of_a_torn_group_a_salvage_finds_the_urgent_events() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit_group(&journal, 1..=300);
    emit_group(&journal, 301..=310);
    journal.close().unwrap();
    let segment = segment(dir.path());
    let mut bytes = fs::read(&segment).unwrap();
    // From the middle of the first group on nothing of it is left, up to its last record's end.
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let at: Vec<_> = reader.records().map(|at| at.unwrap()).collect();
    let torn = at.iter().position(|at| at.record.event_id() == by_priority(1..=300)[150]).unwrap();
    let commit = (torn..).find(|n| at[*n].record.is_control()).unwrap();
    let (start, end) = (at[torn].offset as usize + 8, at[commit].offset as usize);
    bytes[start..end].fill(0);
    drop(at);
    drop(reader);
    fs::write(&segment, bytes).unwrap();

    assert!(Journal::open(dir.path(), options()).is_err());
    let journal = Journal::open(dir.path(), Options { mode: OpenMode::Salvage, ..options() }).unwrap();
    let found = as_they_stand(&journal.reader());
    let urgent = (1..=300).filter(|id| priority(*id) <= Priority::HIGH);
    urgent.for_each(|id| assert!(found.contains(&id), "{id}"));
    assert_eq!(found, [&by_priority(1..=300)[..150], &by_priority(301..=310)].concat());
}

fn segment(dir: &Path) -> std::path::PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|of| of == "semj")).min().unwrap()
}
