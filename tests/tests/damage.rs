//! Damage of every kind to one segment: what the scanner returns, and the verdict.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::HashSet;
use std::ops::Range;

use semj_format::control::PreviousEnd;
use semj_format::journal_header::FLAG_CUT;
use semj_format::{JournalHeader, Record, Records, SegmentOpen, WatermarkFile};
use semj_recovery::{OpenMode, Report, SegmentInput, Verdict, examine, examine_file};
use semj_tests::{SegmentBuilder, event, memory};

const MODES: [OpenMode; 3] = [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage];

/// 200 records: groups of 1 to 7 events; each commit says that the one two before it was durable.
fn segment() -> SegmentBuilder {
    memory::have_little();
    let mut segment = SegmentBuilder::new();
    let mut records = 2;
    let mut n = 0usize;
    while records < 198 {
        n += 1;
        let events = (n % 7 + 1).min(198 - records);
        let group: Vec<_> = (0..events).map(|i| segment.event(&vec![n as u8; i * 13 % 90])).collect();
        segment.synced_upto = segment.commit_sequence.saturating_sub(1);
        segment.group(&group);
        records += events + 1;
    }
    segment
}

fn examine_one(bytes: &[u8], mode: OpenMode) -> Report {
    examine(&[SegmentInput::new("test", Some(1), bytes)], WatermarkFile::default(), mode)
}

/// Every record in the extents stands where it stood and is what it was.
fn assert_nothing_invented(report: &Report, damaged: &[u8], original: &[u8], what: &str) -> Vec<usize> {
    let mut offsets = Vec::new();
    for extent in &report.segments[0].extents {
        for record in Records::new(&damaged[..extent.end], extent.start) {
            let (at, record) = record.unwrap();
            assert_eq!(Some(record.bytes()), original.get(at..at + record.len()), "{what}: record at {at}");
            offsets.push(at);
        }
    }
    offsets
}

/// Where each record of the segment stands.
fn record_ranges(bytes: &[u8]) -> Vec<Range<usize>> {
    Records::new(bytes, JournalHeader::SIZE)
        .map(|record| record.unwrap())
        .map(|(at, record)| at..at + record.len())
        .collect()
}

/// The highest commit that the commits of the groups from this one on say was durable.
fn synced_behind(bytes: &[u8], from: usize) -> u64 {
    Records::new(bytes, from)
        .map_while(Result::ok)
        .filter_map(|(_, record)| semj_format::control::parse::<semj_format::Commit>(&record).ok()?)
        .map(|commit| commit.synced_upto)
        .max()
        .unwrap_or(0)
}

#[test]
fn the_undamaged_segment_is_whole_or_open() {
    let open = segment();
    assert_eq!(record_ranges(&open.bytes).len(), 199 + usize::from(open.bytes.is_empty()));
    let mut sealed = open.clone();
    sealed.seal();
    assert_eq!(record_ranges(&sealed.bytes).len(), 200);
    for mode in MODES {
        assert_eq!(examine_one(&open.bytes, mode).segments[0].verdict, Verdict::OpenEnd);
        let report = examine_one(&sealed.bytes, mode);
        assert_eq!(report.segments[0].verdict, Verdict::Whole, "{:?}", report.segments[0].fault);
        assert_eq!(report.segments[0].totals.records, 200);
    }
}

#[test]
fn every_truncation_of_an_open_segment_is_cut_at_its_last_whole_group() {
    let segment = segment();
    let bytes = &segment.bytes;
    for length in 0..bytes.len() {
        let groups = segment.group_ends.iter().take_while(|end| **end <= length).count();
        let end = groups.checked_sub(1).map_or(0, |last| segment.group_ends[last]);
        let expected = match groups {
            0 => Verdict::Corrupt,
            _ if end == length => Verdict::OpenEnd,
            _ => Verdict::TornTail,
        };
        for mode in MODES {
            let report = examine_one(&bytes[..length], mode);
            assert_eq!(report.segments[0].verdict, expected, "length {length}, {mode:?}");
            let kept = assert_nothing_invented(&report, &bytes[..length], bytes, "truncated");
            let whole = record_ranges(bytes).iter().filter(|range| range.end <= end).count();
            assert_eq!(kept.len(), whole, "length {length}, {mode:?}");
        }
    }
}

#[test]
fn every_truncation_of_a_sealed_segment_is_corruption() {
    let mut segment = segment();
    segment.seal();
    let bytes = &segment.bytes;
    for length in 0..bytes.len() {
        let report = examine_one(&bytes[..length], OpenMode::Strict);
        assert_eq!(report.segments[0].verdict, Verdict::Corrupt, "length {length}");
        assert!(report.refusal().is_some());
        assert_nothing_invented(&report, &bytes[..length], bytes, "truncated");
    }
}

#[test]
fn every_flipped_bit_in_the_first_20_records_gets_the_verdict_of_the_table() {
    let mut sealed = segment();
    let open = sealed.clone();
    sealed.seal();
    let ranges = record_ranges(&open.bytes);
    let flipped_bytes = 0..ranges[19].end;
    let mut damaged = open.bytes.clone();
    let mut damaged_sealed = sealed.bytes.clone();
    for bit in flipped_bytes.start * 8..flipped_bytes.end * 8 {
        let (byte, mask) = (bit / 8, 1 << (bit % 8));
        damaged[byte] ^= mask;
        damaged_sealed[byte] ^= mask;

        let group = segment_group(&open, byte);
        let expected = match group {
            // The opening is synced before the file gets its name.
            0 => Verdict::Corrupt,
            // The commit of group k has sequence number k + 1.
            k if synced_behind(&open.bytes, open.group_ends[k]) > k as u64 => Verdict::Corrupt,
            _ => Verdict::TornTail,
        };
        for mode in MODES {
            let report = examine_one(&damaged, mode);
            let what = format!("bit {bit}, {mode:?}");
            assert_eq!(report.segments[0].verdict, expected, "{what}: {:?}", report.segments[0].fault);
            let kept = assert_nothing_invented(&report, &damaged, &open.bytes, &what);
            if mode == OpenMode::Salvage && group > 0 {
                // All but the damaged record, unless it is the damaged group's commit: then that whole group
                // has nothing that covers it.
                let hit = ranges.iter().position(|range| range.contains(&byte)).unwrap();
                let is_commit = ranges[hit].end == open.group_ends[group];
                let lost = if is_commit {
                    ranges.iter().filter(|r| segment_group(&open, r.start) == group).count()
                } else {
                    1
                };
                assert_eq!(kept.len(), ranges.len() - lost, "{what}");
            }
        }
        let report = examine_one(&damaged_sealed, OpenMode::Strict);
        assert_eq!(report.segments[0].verdict, Verdict::Corrupt, "sealed, bit {bit}");
        assert_nothing_invented(&report, &damaged_sealed, &sealed.bytes, "sealed");

        damaged[byte] ^= mask;
        damaged_sealed[byte] ^= mask;
    }
}

/// The group that a byte belongs to; the header counts to the first.
fn segment_group(segment: &SegmentBuilder, byte: usize) -> usize {
    segment.group_ends.partition_point(|end| *end <= byte)
}

#[test]
fn zeroed_and_garbled_blocks_never_invent_a_record() {
    let mut segment = segment();
    segment.seal();
    let bytes = &segment.bytes;
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    for size in [1, 16, 132, 512, 4096] {
        for start in (0..bytes.len()).step_by(97) {
            for garbled in [false, true] {
                let mut damaged = bytes.clone();
                let end = (start + size).min(bytes.len());
                for byte in &mut damaged[start..end] {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = if garbled { (random >> 33) as u8 } else { 0 };
                }
                for mode in MODES {
                    let report = examine_one(&damaged, mode);
                    assert_nothing_invented(&report, &damaged, bytes, "block");
                    let is_changed = damaged != *bytes;
                    assert_eq!(report.segments[0].verdict == Verdict::Corrupt, is_changed);
                }
            }
        }
    }
}

#[test]
fn a_file_whose_opening_can_not_be_read_gives_every_record_behind_its_first_group() {
    for is_sealed in [false, true] {
        let mut segment = segment();
        if is_sealed {
            segment.seal();
        }
        let (bytes, first_end) = (&segment.bytes, segment.group_ends[0]);
        let groups_end = *segment.group_ends.last().unwrap();
        let expected: Vec<_> = record_ranges(&bytes[..groups_end]).iter().map(|range| range.start).collect();
        let whole = examine_file(&SegmentInput::new("test", Some(1), bytes));
        assert_eq!(whole.segments[0].verdict, if is_sealed { Verdict::Whole } else { Verdict::OpenEnd });
        for at in 0..first_end {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let report = examine_file(&SegmentInput::new("test", Some(1), &damaged));
            let kept = assert_nothing_invented(&report, &damaged, bytes, "opening");
            let behind = expected.iter().filter(|offset| **offset >= first_end);
            assert!(behind.clone().all(|offset| kept.binary_search(offset).is_ok()), "byte {at}");
            let said = &report.segments[0];
            // One of a later version is not damaged, and a header that says so with a wrong checksum is.
            assert_eq!((said.verdict, report.kept), (Verdict::Corrupt, 1), "byte {at}");
            assert_eq!(said.totals.last_event_id, segment.next_event_id - 1, "byte {at}");
        }
        // Neither is there.
        let mut damaged = bytes.clone();
        damaged[..first_end].fill(0);
        let report = examine_file(&SegmentInput::new("test", Some(1), &damaged));
        let kept = assert_nothing_invented(&report, &damaged, bytes, "opening");
        assert!(expected.iter().filter(|offset| **offset >= first_end).all(|offset| kept.contains(offset)));
    }
}

#[test]
fn a_piece_of_a_segment_gives_the_groups_that_are_whole_in_it() {
    let segment = segment();
    let bytes = &segment.bytes;
    let last = segment.group_ends.len() - 1;
    for from in (53..segment.group_ends[last - 1]).step_by(29) {
        let piece = &bytes[from..];
        let report = examine_file(&SegmentInput::new("test", None, piece));
        let kept = assert_nothing_invented(&report, piece, piece, "piece");
        let group = segment.group_ends.partition_point(|end| *end < from);
        let start = segment.group_ends[group];
        let whole = record_ranges(bytes).into_iter().map(|range| range.start).filter(|at| *at >= start);
        let whole: Vec<_> = whole.map(|at| at - from).collect();
        assert!(
            whole.iter().all(|at| kept.binary_search(at).is_ok()),
            "from {from}: {kept:?}, not {whole:?}"
        );
        // And it still does if the first record of it is damaged.
        let mut damaged = piece.to_vec();
        damaged[0] ^= 1;
        let report = examine_file(&SegmentInput::new("test", None, &damaged));
        let kept = assert_nothing_invented(&report, &damaged, piece, "damaged piece");
        assert!(whole.iter().filter(|at| **at > 0).all(|at| kept.contains(at)), "from {from}");
    }
    // Of one that holds no whole group nothing proves itself.
    let report = examine_file(&SegmentInput::new("test", None, &bytes[segment.group_ends[last] - 100..]));
    assert_eq!((report.kept, report.segments[0].extents.len()), (0, 0));
}

#[test]
fn records_inside_a_payload_are_never_taken_for_the_journals_own() {
    // A payload that holds a whole journal, records with ids that would fit, and a commit over them.
    let mut inner = SegmentBuilder::new();
    inner.next_event_id = 3;
    let events: Vec<_> = (0..3).map(|_| inner.event(b"inner")).collect();
    inner.group(&events);
    let mut outer = SegmentBuilder::new();
    let first = outer.event(b"first");
    outer.group(&[first]);
    let group = [outer.event(&inner.bytes), outer.event(b"behind"), outer.event(b"last")];
    outer.group(&group);
    for _ in 0..2 {
        let next = outer.event(b"later");
        outer.synced_upto = outer.commit_sequence;
        outer.group(&[next]);
    }
    let written: HashSet<Vec<u8>> =
        record_ranges(&outer.bytes).into_iter().map(|range| outer.bytes[range].to_vec()).collect();
    // Damage to the frame of the record that carries the payload: where it ends is not known any more.
    let carrier = outer.group_ends[1];
    for at in carrier..carrier + 132 {
        let mut damaged = outer.bytes.clone();
        damaged[at] ^= 0x40;
        let report = examine_one(&damaged, OpenMode::Salvage);
        for extent in &report.segments[0].extents {
            for record in Records::new(&damaged[..extent.end], extent.start) {
                let (_, record) = record.unwrap();
                assert!(written.contains(record.bytes()), "byte {at}: {record:?}");
            }
        }
        let last_event = outer.next_event_id - 1;
        assert_eq!(report.segments[0].totals.last_event_id, last_event, "byte {at}: goes on behind");
    }
}

#[test]
fn stale_records_of_an_older_epoch_behind_the_end_are_no_part_of_the_journal() {
    let mut old = SegmentBuilder::new();
    for _ in 0..20 {
        let event = old.event(b"an old event");
        old.group(&[event]);
    }
    let mut opening = SegmentBuilder::new().next_opening();
    opening = semj_format::SegmentOpen {
        previous_segment: 0,
        previous_end: 0,
        segment_number: 1,
        epoch: 2,
        ..opening
    };
    let mut new = SegmentBuilder::open(opening);
    let event = new.event(b"a new event");
    new.group(&[event]);
    let mut file = old.bytes.clone();
    file[..new.bytes.len()].copy_from_slice(&new.bytes);
    for mode in MODES {
        let report = examine_one(&file, mode);
        assert_eq!(report.segments[0].end, new.bytes.len());
        assert_eq!(report.segments[0].totals.events, 1);
        assert_eq!(report.segments[0].verdict, Verdict::TornTail);
    }
}

#[test]
fn a_cut_that_leaves_no_group_is_corruption_with_a_reason() {
    let first = segment();
    let opening_size = first.group_ends[0];
    for offset in (0..opening_size).chain([usize::MAX]) {
        let next = SegmentBuilder::open(SegmentOpen {
            previous_end: PreviousEnd::Cut.code(),
            previous_end_offset: offset as u64,
            ..first.next_opening()
        });
        let inputs = [(1, &first.bytes), (2, &next.bytes)];
        let inputs = inputs.map(|(number, bytes)| SegmentInput::new("test", Some(number), bytes));
        let mut cut = first.clone();
        let header = JournalHeader::new(0, 1, offset as u64, FLAG_CUT);
        cut.bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        for mode in MODES {
            let reports = [examine(&inputs, WatermarkFile::default(), mode), examine_one(&cut.bytes, mode)];
            for segment in reports.iter().map(|report| &report.segments[0]) {
                // An offset behind the file's end cuts nothing away.
                let is_cut = offset < opening_size;
                assert!(segment.verdict == Verdict::Corrupt && segment.fault.is_some(), "offset {offset}");
                assert_eq!(segment.extents.is_empty(), is_cut, "offset {offset}, {mode:?}");
            }
        }
    }
}

#[test]
fn salvage_gives_no_record_with_a_wrong_checksum_even_if_the_root_covers_it() {
    let mut segment = SegmentBuilder::new();
    for _ in 0..2 {
        let group: Vec<_> = (0..3).map(|_| segment.event(b"payload")).collect();
        segment.group(&group);
    }
    let second = segment.group_ends[1];
    let mut forged: Vec<_> = (0..3).map(|_| segment.event(b"payload")).collect();
    *forged[1].last_mut().unwrap() ^= 1;
    segment.group(&forged);
    // The second group's first event is damaged too, so that the third is looked at at all.
    segment.bytes[second + 20] ^= 1;
    let report = examine_one(&segment.bytes, OpenMode::Salvage);
    let extents = &report.segments[0].extents;
    let records = extents.iter().flat_map(|extent| Records::new(&segment.bytes[..extent.end], extent.start));
    let mut ids = Vec::new();
    for record in records {
        let (_, record) = record.unwrap();
        record.verify_checksum().unwrap();
        ids.extend(Some(record.event_id()).filter(|id| *id != 0));
    }
    assert_eq!(ids, [1, 2, 3, 5, 6, 7, 9]);
}

#[test]
fn salvage_gives_no_event_of_a_group_whose_ids_or_counts_are_not_its_commits() {
    type Change = fn(semj_format::Commit) -> semj_format::Commit;
    let by_priority: Change = |c| semj_format::Commit { flags: semj_format::Commit::FLAG_BY_PRIORITY, ..c };
    // Behind events 1 to 3 and a group that is damaged, 4 to 6. Each root and checksum is right.
    let cases: [(&str, &[u64], Change, &[u64]); 8] = [
        ("as it should be", &[7, 8, 9], |c| c, &[7, 8, 9]),
        ("by priority", &[8, 7, 9], by_priority, &[7, 8, 9]),
        ("ids that were given before", &[1, 2, 3], |c| c, &[]),
        ("an id twice", &[7, 7, 8], |c| c, &[]),
        ("an id twice, by priority", &[8, 7, 8], by_priority, &[]),
        ("out of order", &[8, 7, 9], |c| c, &[]),
        ("count", &[7, 8, 9], |c| semj_format::Commit { event_count: c.event_count - 1, ..c }, &[]),
        ("first id", &[7, 8, 9], |c| semj_format::Commit { first_event_id: 6, ..c }, &[]),
    ];
    for (what, ids, change, kept) in cases {
        let mut segment = SegmentBuilder::new();
        for _ in 0..2 {
            let group: Vec<_> = (0..3).map(|_| segment.event(b"payload")).collect();
            segment.group(&group);
        }
        let third = segment.bytes.len();
        // Its Commit is lost, so that the third is not held against the chain.
        segment.bytes[third - 30] ^= 1;
        segment.group_with(&ids.iter().map(|id| event(*id, b"again")).collect::<Vec<_>>(), change);
        let report = examine_one(&segment.bytes, OpenMode::Salvage);
        let extents = &report.segments[0].extents;
        let records =
            extents.iter().flat_map(|extent| Records::new(&segment.bytes[..extent.end], extent.start));
        let mut found: Vec<_> =
            records.map(|record| record.unwrap().1.event_id()).filter(|id| *id > 3).collect();
        found.sort_unstable();
        assert_eq!(found, kept, "{what}");
    }
    // A Commit inside of a group, which ends a group of its own.
    let mut segment = SegmentBuilder::new();
    let first = segment.event(b"payload");
    segment.group(&[first]);
    let damaged = segment.bytes.len() - 30;
    let forged = [event(2, b""), semj_tests::control_record::<semj_format::Commit>(&[0; 160]), event(3, b"")];
    segment.bytes[damaged] ^= 1;
    segment.group(&forged);
    let report = examine_one(&segment.bytes, OpenMode::Salvage);
    assert_eq!(report.segments[0].totals.events, 0);
}

#[test]
fn salvage_gives_no_event_of_a_torn_group_whose_ids_were_given_before() {
    let mut segment = SegmentBuilder::new();
    segment.group(&[1, 2, 3].map(|id| event(id, b"payload")));
    let again = segment.bytes.len();
    segment.group(&[1, 2, 3].map(|id| event(id, b"again")));
    // Its first frame is no frame, so that what is right is looked for from its end.
    segment.bytes[again..again + 132].fill(0xff);
    let report = examine_one(&segment.bytes, OpenMode::Salvage);
    let extents = &report.segments[0].extents;
    let records = extents.iter().flat_map(|extent| Records::new(&segment.bytes[..extent.end], extent.start));
    let ids = records.map(|record| record.unwrap().1.event_id()).filter(|id| *id != 0);
    assert!(ids.eq(1..=3));
}

#[test]
fn whole_bytes_that_contradict_the_chain_are_ambiguous() {
    type Change = fn(semj_format::Commit) -> semj_format::Commit;
    let cases: [(&str, Change); 7] = [
        ("sequence", |c| semj_format::Commit { commit_sequence: c.commit_sequence + 1, ..c }),
        ("epoch", |c| semj_format::Commit { epoch: c.epoch + 1, ..c }),
        ("first id", |c| semj_format::Commit { first_event_id: c.first_event_id + 1, ..c }),
        ("count", |c| semj_format::Commit { record_count: c.record_count + 1, ..c }),
        ("bytes", |c| semj_format::Commit { byte_count: c.byte_count + 1, ..c }),
        ("root", |c| semj_format::Commit { root: semj_format::Digest([1; 32]), ..c }),
        ("chain", |c| semj_format::Commit { previous_digest: semj_format::Digest([1; 32]), ..c }),
    ];
    for (what, change) in cases {
        let mut segment = SegmentBuilder::new();
        let event = segment.event(b"x");
        segment.group_with(&[event], change);
        let report = examine_one(&segment.bytes, OpenMode::Strict);
        assert_eq!(report.segments[0].verdict, Verdict::Ambiguous, "{what}");
        assert!(report.refusal().is_some(), "{what}");
    }
    let mut segment = SegmentBuilder::new();
    segment.group(&[event(5, b""), event(5, b"")]);
    assert_eq!(examine_one(&segment.bytes, OpenMode::Strict).segments[0].verdict, Verdict::Ambiguous);
}

#[test]
fn a_group_in_the_order_of_priorities_may_have_its_ids_in_any_order_but_none_twice() {
    for (ids, verdict) in [([3, 1, 2], Verdict::OpenEnd), ([3, 1, 3], Verdict::Ambiguous)] {
        let mut segment = SegmentBuilder::new();
        let by_priority = semj_format::Commit::FLAG_BY_PRIORITY;
        let records = ids.map(|id| event(id, b""));
        segment.group_with(&records, |c| semj_format::Commit { flags: by_priority, ..c });
        assert_eq!(examine_one(&segment.bytes, OpenMode::Strict).segments[0].verdict, verdict);
    }
}

#[test]
fn an_empty_file_is_corrupt_and_has_no_empty_range_of_damage() {
    for mode in MODES {
        let report = examine_one(&[], mode);
        assert_eq!(report.segments[0].verdict, Verdict::Corrupt);
        assert!(report.segments[0].damaged.is_empty());
    }
}

#[test]
fn arbitrary_bytes_never_panic() {
    let mut random = 1u64;
    for round in 0..2000usize {
        let mut bytes: Vec<u8> = (0..round % 700)
            .map(|_| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 56) as u8
            })
            .collect();
        if round % 2 == 0 {
            let good = SegmentBuilder::new().bytes;
            let keep = good.len().min(bytes.len());
            bytes[..keep].copy_from_slice(&good[..keep]);
        }
        for mode in MODES {
            let report = examine_one(&bytes, mode);
            assert!(report.segments[0].extents.iter().all(|extent| extent.end <= bytes.len()));
        }
        let _ = Record::parse(&bytes);
    }
}
