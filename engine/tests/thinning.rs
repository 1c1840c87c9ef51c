//! Events are taken out by rules, the journal says so first, and the chain proves what is left.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semj::{
    CommitOn, Draft, Event, EventType, Follower, GroupOrder, Journal, Needs, OpenMode, Options, Priority,
    Progress, Reader, SnapshotMethod, SnapshotOptions, Start, ThinRule, View, examine_journal,
    nothing_to_thin, plan_thinning, snapshot,
};

const READ: EventType = EventType::FILESYSTEM_READ;
const WRITE: EventType = EventType::FILESYSTEM_WRITE;

fn small() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn reads() -> ThinRule {
    ThinRule { types: vec![READ], ..ThinRule::default() }
}

/// The type of the event with this id: runs of reads of all lengths among others.
fn type_of(id: u64) -> EventType {
    if id % 11 < 5 || id.is_multiple_of(3) { READ } else { WRITE }
}

/// A journal of so many segments with 100 events each, which is open.
fn journal(dir: &Path, options: Options, count: u64) -> Journal {
    let journal = Journal::open(dir, options).unwrap();
    for _ in 0..count {
        for i in 0..100 {
            let id = journal.stats().last_emitted_id + 1;
            let payload = format!("{{\"n\":{id}}}");
            let priority = if id.is_multiple_of(7) { Priority::LOW } else { Priority::NORMAL };
            let event = Event::new(type_of(id)).payload(payload.as_bytes()).priority(priority);
            journal.emit(&event).unwrap();
            if i % 37 == 36 {
                journal.sync().unwrap();
            }
        }
        journal.rotate().unwrap();
    }
    journal
}

fn ids(reader: &Reader) -> Vec<u64> {
    let ids: Vec<_> = reader
        .iter(..)
        .map(|record| {
            let record = record.unwrap();
            assert_eq!(record.payload(), format!("{{\"n\":{}}}", record.event_id()).as_bytes());
            record.event_id()
        })
        .collect();
    ids
}

fn segment_files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    files.sort();
    files
}

fn sizes(dir: &Path) -> u64 {
    examine_journal(dir, OpenMode::Strict).unwrap().segments.iter().map(|segment| segment.end as u64).sum()
}

#[test]
fn what_a_rule_takes_is_gone_and_the_rest_is_proven_by_the_same_digests() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 3);
    let before = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    let size = sizes(dir.path());
    let old_reader = journal.reader();
    let plan = plan_thinning(dir.path(), &[reads()], None).unwrap();
    let done = journal.thin(&[reads()]).unwrap();
    assert_eq!(plan, done, "a plan says what happens");
    let gone = (1..=300).filter(|id| type_of(*id) == READ).count() as u64;
    assert_eq!((done.segments, done.events, done.types[&READ]), (3, gone, gone));
    let left: Vec<_> = (1..=300).filter(|id| type_of(*id) != READ).collect();
    assert_eq!(ids(&journal.reader()), left);
    assert_eq!(ids(&old_reader), (1..=300).collect::<Vec<_>>(), "a reader keeps what it has");
    for id in 1..=300 {
        assert_eq!(journal.reader().get(id).unwrap().is_some(), type_of(id) != READ, "{id}");
    }
    journal.close().unwrap();
    let after = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(after.is_whole());
    for (before, after) in before.segments.iter().zip(&after.segments).take(3) {
        assert_eq!((before.totals.digest, before.totals.events), (after.totals.digest, after.totals.events));
        assert_eq!(before.end as u64, after.original_end());
    }
    assert!(sizes(dir.path()) + done.bytes >= size && done.bytes > 0);
    // Opened at once or proven as a whole, it is the same; and a second time nothing is left to take.
    for reader in
        [Reader::open(dir.path(), OpenMode::Strict), Reader::open_newest(dir.path(), OpenMode::Strict)]
    {
        assert_eq!(ids(&reader.unwrap()), left);
    }
    let journal = Journal::open(dir.path(), small()).unwrap();
    assert_eq!(journal.thin(&[reads()]).unwrap().events, 0);
    // By another rule more goes, beside what is gone.
    let low = ThinRule { priority: Priority::LOW, ..ThinRule::default() };
    journal.thin(&[low]).unwrap();
    let left: Vec<_> = left.into_iter().filter(|id| !id.is_multiple_of(7)).collect();
    assert_eq!(ids(&journal.reader()), left);
    let every_tenth = ThinRule { keep_one_in: Some(10), ..ThinRule::default() };
    journal.thin(&[every_tenth]).unwrap();
    let left: Vec<_> = left.into_iter().filter(|id| id.is_multiple_of(10)).collect();
    assert_eq!(ids(&journal.reader()), left);
    drop(journal);
    let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(report.is_whole());
    let thinned: u64 = report.segments.iter().map(|segment| segment.totals.thinned.events).sum();
    assert_eq!(thinned, 300 - left.len() as u64);
}

#[test]
fn events_in_the_order_of_their_priorities_are_taken_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), Options { group_order: GroupOrder::Priority, ..small() }, 2);
    journal.thin(&[reads()]).unwrap();
    let mut found = ids(&journal.reader());
    found.sort_unstable();
    assert!(found.into_iter().eq((1..=200).filter(|id| type_of(*id) != READ)));
    drop(journal);
    assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
}

#[test]
fn what_is_young_or_needed_stays() {
    let dir = tempfile::tempdir().unwrap();
    let needs = Some(Needs::new(|| Ok(Some(150))));
    let journal = journal(dir.path(), Options { needs, ..small() }, 2);
    let old = ThinRule { older_than: Duration::from_secs(3600), ..reads() };
    assert_eq!(journal.thin(&[old]).unwrap().events, 0);
    assert_eq!(journal.thin(&[]).unwrap().events, 0);
    journal.thin(&[reads()]).unwrap();
    let left = (1..=200).filter(|id| type_of(*id) != READ || *id >= 150);
    assert!(ids(&journal.reader()).into_iter().eq(left));
}

#[test]
fn a_rule_without_conditions_takes_all_events_whatever_their_priority() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 1);
    // As an import brings them.
    let reader = journal.reader();
    for priority in [0, 1, 5, 77] {
        let mut draft = Draft::of_record(&reader.get(1).unwrap().unwrap(), &[]);
        (draft.header.event_id, draft.header.event_priority) = (0, priority);
        journal.import(&draft).unwrap();
    }
    journal.rotate().unwrap();
    let urgent = ThinRule { priority: Priority::CRITICAL, ..ThinRule::default() };
    assert_eq!(plan_thinning(dir.path(), &[urgent], None).unwrap().events, 103);
    assert_eq!(journal.thin(&[ThinRule::default()]).unwrap().events, 104);
    assert_eq!(journal.reader().iter(..).count(), 0);
}

#[test]
fn events_that_nothing_says_were_taken_out_are_missing_and_not_thinned() {
    let dir = tempfile::tempdir().unwrap();
    let (live, other) = (dir.path().join("live"), dir.path().join("other"));
    let journal = journal(&live, small(), 2);
    fs::create_dir(&other).unwrap();
    for path in segment_files(&live) {
        fs::copy(&path, other.join(path.file_name().unwrap())).unwrap();
    }
    journal.thin(&[reads()]).unwrap();
    journal.close().unwrap();
    // The thinned files in the place of the whole ones, and no record of it.
    for path in segment_files(&live).iter().take(2) {
        fs::copy(path, other.join(path.file_name().unwrap())).unwrap();
    }
    let report = examine_journal(&other, OpenMode::Strict).unwrap();
    let good: Vec<_> = report.segments.iter().map(|segment| segment.verdict.is_good()).collect();
    assert_eq!(good, [false, false, true], "{report:?}");
    // Any bit of a record that stands in the place of others is proven.
    let path = &segment_files(&live)[0];
    let right = fs::read(path).unwrap();
    let report = examine_journal(&live, OpenMode::Strict).unwrap();
    for bit in (400 * 8..report.segments[0].end * 8).step_by(1009) {
        let mut damaged = right.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(path, &damaged).unwrap();
        assert!(!examine_journal(&live, OpenMode::Strict).unwrap().is_whole(), "bit {bit}");
    }
}

#[test]
fn a_journal_that_is_cut_behind_what_says_it_goes_on_to_say_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 70);
    let done = journal.thin(&[reads()]).unwrap();
    assert_eq!(done.segments, 70);
    journal.close().unwrap();
    // The segment before those that hold the records is damaged, and all behind it are given up.
    damage_seal(&segment_files(dir.path())[70]);
    let left = (1..=7000).filter(|id| type_of(*id) != READ);
    let options = Options { mode: OpenMode::PointInTime, ..small() };
    let journal = Journal::open(dir.path(), options).unwrap();
    assert!(ids(&journal.reader()).into_iter().eq(left.clone()));
    journal.close().unwrap();
    assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
    assert!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()).into_iter().eq(left));
}

/// Flips a bit in the last record of a segment.
fn damage_seal(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 100] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_salvage_says_again_what_was_said_where_damage_is() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 3);
    journal.thin(&[reads()]).unwrap();
    journal.close().unwrap();
    // The SegmentOpen of the segment that holds the records.
    let path = &segment_files(dir.path())[4];
    let mut bytes = fs::read(path).unwrap();
    bytes[52 + 200] ^= 1;
    fs::write(path, bytes).unwrap();
    let salvage = Options { mode: OpenMode::Salvage, ..small() };
    Journal::open(dir.path(), salvage).unwrap().close().unwrap();
    let left = (1..=300).filter(|id| type_of(*id) != READ);
    assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
    assert!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()).into_iter().eq(left));
}

#[test]
fn a_consumer_goes_on_where_it_was_and_a_follower_passes_over_what_is_gone() {
    let none = Some(Duration::ZERO);
    for taken in [0, 1, 37, 38, 60, 100, 101, 150, 199, 200] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { watermark_interval: Duration::ZERO, ..small() };
        let journal = journal(dir.path(), options, 2);
        let mut consumer = journal.consumer("reader").unwrap();
        for id in 1..=taken {
            assert_eq!(consumer.next(none).unwrap().unwrap().record.event_id(), id);
        }
        consumer.save().unwrap();
        // What it still needs stays.
        journal.thin(&[reads()]).unwrap();
        // It may need a little more: groups are given out as a whole.
        let all = ids(&journal.reader());
        let left = |id: &u64| all.contains(id);
        assert!(
            (1..=200).filter(|id| *id > taken || type_of(*id) != READ).all(|id| left(&id)),
            "{taken} taken"
        );
        assert!(taken < 50 || all.len() < 190, "{taken} taken, {} left", all.len());
        // The one that had the files open, and one that opens the new ones.
        for is_again in [false, true] {
            if is_again {
                drop(consumer);
                consumer = journal.consumer("reader").unwrap();
            }
            for id in taken + 1..=200 {
                assert_eq!(consumer.next(none).unwrap().unwrap().record.event_id(), id, "{taken} taken");
            }
            assert!(consumer.next(none).unwrap().is_none());
        }
        let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
        let mut positions = vec![follower.position()];
        for id in (1..=200).filter(left) {
            assert_eq!(follower.next(none).unwrap().unwrap().record.event_id(), id, "{taken} taken");
            positions.push(follower.position());
        }
        for (given, position) in positions.into_iter().enumerate().step_by(9) {
            let mut follower = Follower::open(dir.path(), Start::At(position), View::Published).unwrap();
            for id in (1..=200).filter(left).skip(given).take(5) {
                assert_eq!(follower.next(none).unwrap().unwrap().record.event_id(), id, "{given} given");
            }
        }
    }
}

#[test]
fn a_snapshot_is_brought_forward_to_what_was_taken_out() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let journal = journal(&live, small(), 2);
    for method in [SnapshotMethod::Copy, SnapshotMethod::Link] {
        let options = SnapshotOptions { method, ..SnapshotOptions::default() };
        snapshot(&live, &target, options, &mut |_| ()).unwrap();
        assert!(examine_journal(&target, OpenMode::Strict).unwrap().is_whole());
        let rule =
            ThinRule { keep_one_in: Some(if method == SnapshotMethod::Copy { 2 } else { 3 }), ..reads() };
        journal.thin(&[rule]).unwrap();
        snapshot(&live, &target, options, &mut |_| ()).unwrap();
        assert!(examine_journal(&target, OpenMode::Strict).unwrap().is_whole());
        assert_eq!(ids(&Reader::open(&target, OpenMode::Strict).unwrap()), ids(&journal.reader()));
    }
}

/// Flips a bit in the payload of an event, which only the journal's own copy of it has.
fn damage_event(path: &Path, id: u64) {
    let mut bytes = fs::read(path).unwrap();
    let payload = format!("{{\"n\":{id}}}");
    let at = bytes.windows(payload.len()).position(|bytes| bytes == payload.as_bytes()).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn emit_more(journal: &Journal, count: u64) {
    for _ in 0..count {
        let id = journal.stats().last_emitted_id + 1;
        let payload = format!("{{\"n\":{id}}}");
        assert_eq!(journal.emit_durable(&Event::new(WRITE).payload(payload.as_bytes())).unwrap(), id);
    }
}

#[test]
fn a_thinned_segment_that_a_recovery_has_cut_is_good_and_so_is_what_comes_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = journal(dir.path(), small(), 3);
    journal.thin(&[reads()]).unwrap();
    journal.close().unwrap();
    // In the third group of the second segment.
    damage_event(&segment_files(dir.path())[1], 196);
    let options = || Options { mode: OpenMode::PointInTime, ..small() };
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit_more(&journal, 10);
    let kept = ids(&journal.reader());
    assert!(kept.iter().take_while(|id| **id <= 174).count() == kept.len() - 10 && kept.len() > 10);
    journal.close().unwrap();
    assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
    let journal = Journal::open(dir.path(), options()).unwrap();
    assert_eq!(ids(&journal.reader()), kept);
    journal.close().unwrap();
    assert_eq!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()), kept);
}

#[test]
fn a_salvage_of_a_thinned_segment_loses_no_more_than_the_group_that_is_damaged() {
    for is_seal in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let journal = journal(dir.path(), small(), 3);
        journal.thin(&[reads()]).unwrap();
        journal.close().unwrap();
        match is_seal {
            true => damage_seal(&segment_files(dir.path())[1]),
            false => damage_event(&segment_files(dir.path())[1], 161),
        }
        let salvage = Options { mode: OpenMode::Salvage, ..small() };
        let journal = Journal::open(dir.path(), salvage).unwrap();
        emit_more(&journal, 10);
        let kept = ids(&journal.reader());
        journal.close().unwrap();
        let is_kept = |id: &u64| type_of(*id) != READ && (is_seal || !(138..=174).contains(id));
        assert!((1..=300).filter(is_kept).all(|id| kept.contains(&id)), "{kept:?}");
        assert_eq!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()), kept);
        assert_eq!(ids(&Journal::open(dir.path(), small()).unwrap().reader()), kept);
    }
}

#[test]
fn a_snapshot_of_what_was_active_is_brought_forward_when_that_was_sealed_and_thinned_since() {
    for compressed in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (live, target) = (dir.path().join("live"), dir.path().join("target"));
        let journal = journal(&live, small(), 1);
        for id in 101..=150 {
            let payload = format!("{{\"n\":{id}}}");
            journal.emit(&Event::new(type_of(id)).payload(payload.as_bytes())).unwrap();
            if id % 10 == 0 {
                journal.sync().unwrap();
            }
        }
        snapshot(&live, &target, SnapshotOptions::default(), &mut |_| ()).unwrap();
        let size = fs::metadata(&segment_files(&target)[1]).unwrap().len();
        journal.rotate().unwrap();
        journal.thin(&[reads()]).unwrap();
        if compressed {
            journal
                .compact(&semj::Compaction::default(), &mut |_| std::ops::ControlFlow::Continue(()))
                .unwrap();
        }
        journal.close().unwrap();
        snapshot(&live, &target, SnapshotOptions::default(), &mut |_| ()).unwrap();
        assert!(fs::metadata(&segment_files(&target)[1]).unwrap().len() < size);
        let [ours, theirs] = [&live, &target].map(|dir| ids(&Reader::open(dir, OpenMode::Strict).unwrap()));
        assert_eq!(ours, theirs);
        assert!(examine_journal(&target, OpenMode::Strict).unwrap().is_whole());
    }
}

#[test]
fn a_segment_whose_seal_is_known_to_be_lost_is_left_as_it_is_and_the_others_are_thinned() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), small(), 3).close().unwrap();
    let end = examine_journal(dir.path(), OpenMode::Strict).unwrap().segments[1].end;
    let path = &segment_files(dir.path())[1];
    let mut bytes = fs::read(path).unwrap();
    bytes[end - 40] ^= 1;
    fs::write(path, bytes).unwrap();
    let options = Options { mode: OpenMode::Salvage, ..small() };
    let journal = Journal::open(dir.path(), options).unwrap();
    let done = journal.thin(&[reads()]).unwrap();
    assert_eq!(done.segments, 2);
    assert_eq!(journal.thin(&[reads()]).unwrap().segments, 0, "nothing is left to be done");
    let left = ids(&journal.reader());
    assert!(left.iter().all(|id| (101..=200).contains(id) || type_of(*id) == WRITE));
    assert_eq!(left.iter().filter(|id| (101..=200).contains(*id)).count(), 100);
    journal.close().unwrap();
    assert!(examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
}

#[test]
fn whoever_counts_events_counts_those_that_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let (live, target) = (dir.path().join("live"), dir.path().join("target"));
    let journal = journal(&live, small(), 3);
    journal.thin(&[reads()]).unwrap();
    let left = ids(&journal.reader()).len() as u64;
    journal.close().unwrap();
    // Whether or not all of it is looked at.
    let everything = examine_journal(&live, OpenMode::Strict).unwrap();
    let trusted = Reader::open_newest(&live, OpenMode::Strict).unwrap();
    for report in [&everything, trusted.report()] {
        assert_eq!(report.events(), left);
        assert_eq!(report.segments.iter().map(|segment| segment.events()).sum::<u64>(), left);
    }
    assert!(!trusted.report().segments[0].is_verified);
    let records_left = |report: &semj::Report| report.segments[0].totals.records_left();
    assert_eq!(records_left(trusted.report()), records_left(&everything));
    let taken = snapshot(&live, &target, SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(taken.events, left);
}

#[test]
fn a_segment_that_became_longer_when_events_were_taken_out_can_be_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    // A record that stands in the place of a lone event is larger than one without anything.
    for group in 0..6 {
        for i in 0..10 {
            journal.emit(&Event::new(if i % 2 == 0 { READ } else { WRITE })).unwrap();
        }
        if group < 5 {
            journal.sync().unwrap();
        }
    }
    journal.rotate().unwrap();
    let before = examine_journal(dir.path(), OpenMode::Strict).unwrap().segments[0].end;
    journal.thin(&[reads()]).unwrap();
    journal.close().unwrap();
    let segment = examine_journal(dir.path(), OpenMode::Strict).unwrap().segments.swap_remove(0);
    assert!(segment.end > before, "{} {before}", segment.end);
    // Its seal.
    let path = &segment_files(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    bytes[segment.end - 40] ^= 1;
    fs::write(path, &bytes).unwrap();
    let options = Options { mode: OpenMode::PointInTime, ..small() };
    Journal::open(dir.path(), options).unwrap().close().unwrap();
    let kept = || {
        let report = examine_journal(dir.path(), OpenMode::Strict).unwrap();
        assert!(report.is_whole(), "{report:?}");
        let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        reader.iter(..).map(|record| record.unwrap().event_id()).collect::<Vec<_>>()
    };
    let writes: Vec<_> = (1..=60).filter(|id| id % 2 == 0).collect();
    assert_eq!(kept(), writes);
    // A crash may come before its header says so.
    let path = &segment_files(dir.path())[0];
    let mut now = fs::read(path).unwrap();
    now[..52].copy_from_slice(&bytes[..52]);
    fs::write(path, now).unwrap();
    assert_eq!(kept(), writes);
}

#[test]
fn events_of_a_segment_that_a_crash_has_ended_are_taken_out_too() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { watermark_interval: Duration::ZERO, ..small() };
    let journal = journal(dir.path(), options, 1);
    for id in 101..=200 {
        let payload = format!("{{\"n\":{id}}}");
        let priority = if id % 7 == 0 { Priority::LOW } else { Priority::NORMAL };
        let event = Event::new(type_of(id)).payload(payload.as_bytes()).priority(priority);
        assert_eq!(journal.emit_durable(&event).unwrap(), id);
    }
    // As a crash leaves it: the newest segment has no seal.
    let crashed = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), crashed.path().join(entry.file_name())).unwrap();
        }
    }
    let (dir, gone_dir) = (crashed, dir);
    drop((journal, gone_dir));

    let planned_before = plan_thinning(dir.path(), &[reads()], None).unwrap();
    let journal = Journal::open(dir.path(), small()).unwrap();
    let before = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(!before.segments[1].is_sealed && before.segments[1].is_final());
    let plan = plan_thinning(dir.path(), &[reads()], None).unwrap();
    let done = journal.thin(&[reads()]).unwrap();
    assert_eq!(plan, done, "a plan says what happens");
    assert_eq!((planned_before.segments, planned_before.events), (done.segments, done.events));
    assert_eq!((done.segments, done.skipped.len()), (2, 0));
    let left: Vec<_> = (1..=200).filter(|id| type_of(*id) != READ).collect();
    assert_eq!(ids(&journal.reader()), left);
    let mut follower = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    for id in &left {
        let located = follower.next(Some(Duration::ZERO)).unwrap().unwrap();
        assert_eq!(located.record.event_id(), *id);
    }
    journal.close().unwrap();
    let after = examine_journal(dir.path(), OpenMode::Strict).unwrap();
    assert!(after.is_whole(), "{after:?}");
    let ends = |report: &semj::recovery::Report| {
        report.segments.iter().take(2).map(|s| (s.totals.digest, s.original_end())).collect::<Vec<_>>()
    };
    assert_eq!(ends(&before), ends(&after));
    // It is opened at once too, and more can go.
    let reader = Reader::open_newest(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.report().segments.iter().take(2).all(|segment| !segment.is_verified));
    assert_eq!(ids(&reader), left);
    let journal = Journal::open(dir.path(), small()).unwrap();
    let low = ThinRule { priority: Priority::LOW, ..ThinRule::default() };
    journal.thin(&[low]).unwrap();
    let left: Vec<_> = left.into_iter().filter(|id| !id.is_multiple_of(7)).collect();
    assert_eq!(ids(&journal.reader()), left);
    journal.close().unwrap();
    assert_eq!(ids(&Reader::open(dir.path(), OpenMode::Strict).unwrap()), left);
}

#[test]
fn a_segment_with_damage_is_left_as_it_is_and_named_with_what_would_go() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path(), small(), 3).close().unwrap();
    let damaged = &segment_files(dir.path())[1];
    damage_event(damaged, 150);
    let journal = Journal::open(dir.path(), Options { mode: OpenMode::Salvage, ..small() }).unwrap();
    let plan = plan_thinning(dir.path(), &[reads()], None).unwrap();
    let done = journal.thin(&[reads()]).unwrap();
    assert_eq!(plan, done, "a plan says what happens");
    assert_eq!(done.segments, 2);
    assert_eq!(done.skipped.len(), 1, "{done:?}");
    let skipped = &done.skipped[0];
    assert_eq!(skipped.name, damaged.file_name().unwrap().to_str().unwrap());
    assert!((40..=70).contains(&skipped.events), "{skipped:?}");
    assert!(ids(&journal.reader()).iter().all(|id| type_of(*id) != READ || (101..=200).contains(id)));
    let nothing = nothing_to_thin(dir.path(), &[reads()], None, &Progress::default()).unwrap().unwrap();
    assert_eq!((nothing.events, &nothing.skipped), (0, &done.skipped));
}
