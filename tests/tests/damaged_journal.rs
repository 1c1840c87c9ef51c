//! I7 over a whole journal: sealed segments, an active one and the watermark. Whatever single thing is damaged below
//! the durable mark, a strict open refuses, and what salvage keeps is what was emitted.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::time::Duration;

use semj::{Event, EventType, Journal, Options};
use semj_format::{JournalHeader, Records, WatermarkFile};
use semj_recovery::{OpenMode, Report, SegmentInput, Verdict, examine};
use semj_tests::random::Random;

/// A journal in memory, as a crash leaves it: nothing is unmarked, nothing is closed.
#[derive(Clone)]
struct Files {
    segments: Vec<(String, Vec<u8>)>,
    watermark: Vec<u8>,
}

/// Four segments, the last of them active, in two epochs.
fn files() -> (Files, BTreeMap<u64, Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let options =
        || Options { segment_size: 256 << 10, watermark_interval: Duration::ZERO, ..Options::default() };
    let mut emitted = BTreeMap::new();
    let mut emit = |journal: &Journal| {
        for n in 0..12u64 {
            let payload = vec![b'a' + n as u8; (n * 37 % 300) as usize];
            let event = Event::new(EventType::FILESYSTEM_WRITE).path("/project/file").payload(&payload);
            let id = journal.emit(&event).unwrap();
            emitted.insert(id, payload);
            if n % 3 == 2 {
                journal.sync().unwrap();
            }
        }
    };
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal);
    journal.rotate().unwrap();
    emit(&journal);
    journal.close().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    emit(&journal);
    journal.rotate().unwrap();
    emit(&journal);
    while journal.stats().last_marked_id < 48 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut segments: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_str().unwrap().ends_with(".semj"))
        .map(|entry| {
            let mut bytes = fs::read(entry.path()).unwrap();
            // The rest of the preallocated space is zero; a little of it is enough.
            bytes.truncate(24 << 10);
            (entry.file_name().into_string().unwrap(), bytes)
        })
        .collect();
    segments.sort();
    let files = Files { segments, watermark: fs::read(dir.path().join("WATERMARK")).unwrap() };
    let report = files.examine(OpenMode::Strict);
    assert!(report.is_whole() && report.events() == 48 && report.segments.len() == 4);
    (files, emitted)
}

impl Files {
    fn examine(&self, mode: OpenMode) -> Report {
        let inputs: Vec<_> = self
            .segments
            .iter()
            .map(|(name, bytes)| SegmentInput::new(name, name[..10].parse().ok(), bytes))
            .collect();
        examine(&inputs, WatermarkFile::parse(&self.watermark), mode)
    }

    /// Offset behind the last commit or the seal.
    fn end(&self, segment: usize) -> usize {
        self.examine(OpenMode::Strict).segments[segment].end
    }

    /// What a strict open must say of a damaged journal, and what salvage must not do.
    fn assert_noticed(&self, segment: usize, emitted: &BTreeMap<u64, Vec<u8>>, what: &str) {
        let report = self.examine(OpenMode::Strict);
        let refusal = report.refusal();
        assert!(refusal.is_some(), "{what}: nobody notices");
        assert_eq!(
            report.segments[segment].verdict,
            Verdict::Corrupt,
            "{what}: {:?}",
            report.segments[segment].fault
        );
        assert!(report.segments[segment].fault.is_some(), "{what}: no fault is named");
        self.assert_nothing_invented(emitted, what);
    }

    fn assert_nothing_invented(&self, emitted: &BTreeMap<u64, Vec<u8>>, what: &str) {
        for mode in [OpenMode::PointInTime, OpenMode::Salvage] {
            let report = self.examine(mode);
            for (segment, (_, bytes)) in report.kept_segments().iter().zip(&self.segments) {
                for extent in &segment.extents {
                    for record in Records::new(&bytes[..extent.end], extent.start) {
                        let (_, record) = record.unwrap();
                        let is_known =
                            emitted.get(&record.event_id()).is_some_and(|it| it == record.payload());
                        assert!(record.is_control() || is_known, "{what}: {mode:?} invents an event");
                    }
                }
            }
        }
    }
}

/// The header, and the journal's own records.
fn vital_ranges(bytes: &[u8], end: usize) -> Vec<Range<usize>> {
    let records = Records::new(&bytes[..end], JournalHeader::SIZE).map(|record| record.unwrap());
    let own = records.filter(|(_, record)| record.is_control()).map(|(at, record)| at..at + record.len());
    std::iter::once(0..JournalHeader::SIZE).chain(own).collect()
}

#[test]
fn every_flipped_bit_of_a_header_or_of_one_of_the_journals_own_records_is_noticed() {
    let (files, emitted) = files();
    let mut bits = 0;
    for segment in [1, 3] {
        for range in vital_ranges(&files.segments[segment].1, files.end(segment)) {
            for bit in range.start * 8..range.end * 8 {
                let mut damaged = files.clone();
                damaged.segments[segment].1[bit / 8] ^= 1 << (bit % 8);
                let what = format!("bit {bit} of segment {}", segment + 1);
                if bit % 32 == 0 {
                    damaged.assert_noticed(segment, &emitted, &what);
                } else {
                    let report = damaged.examine(OpenMode::Strict);
                    assert_eq!(report.segments[segment].verdict, Verdict::Corrupt, "{what}");
                }
                bits += 1;
            }
        }
    }
    assert!(bits > 30_000, "{bits} bits");
}

#[test]
fn twenty_thousand_random_flips_are_noticed() {
    let (files, emitted) = files();
    let ends: Vec<_> = (0..4).map(|segment| files.end(segment)).collect();
    let mut random = Random::new(7);
    for round in 0..20_000 {
        let segment = random.below(4) as usize;
        let bit = random.below(ends[segment] as u64 * 8) as usize;
        let mut damaged = files.clone();
        damaged.segments[segment].1[bit / 8] ^= 1 << (bit % 8);
        let what = format!("round {round}: bit {bit} of segment {}", segment + 1);
        if round % 16 == 0 {
            damaged.assert_noticed(segment, &emitted, &what);
        } else {
            let report = damaged.examine(OpenMode::Strict);
            assert_eq!(report.segments[segment].verdict, Verdict::Corrupt, "{what}");
        }
    }
}

#[test]
fn every_truncation_is_noticed_but_that_of_zeros() {
    let (files, emitted) = files();
    for segment in [1, 3] {
        let end = files.end(segment);
        for length in 0..end {
            let mut damaged = files.clone();
            damaged.segments[segment].1.truncate(length);
            let what = format!("segment {} cut to {length} bytes", segment + 1);
            if length % 16 == 0 {
                damaged.assert_noticed(segment, &emitted, &what);
            } else {
                let report = damaged.examine(OpenMode::Strict);
                assert_eq!(report.segments[segment].verdict, Verdict::Corrupt, "{what}");
            }
        }
        let mut shorter = files.clone();
        shorter.segments[segment].1.truncate(end);
        assert!(shorter.examine(OpenMode::Strict).is_whole());
    }
}

#[test]
fn every_zeroed_or_garbled_block_is_noticed_but_one_of_zeros() {
    let (files, emitted) = files();
    let mut random = Random::new(11);
    for segment in 0..4 {
        let end = files.end(segment);
        for size in [512, 4096] {
            for start in (0..files.segments[segment].1.len()).step_by(size) {
                for is_garbled in [false, true] {
                    let mut damaged = files.clone();
                    let block = &mut damaged.segments[segment].1[start..start + size];
                    block.fill_with(|| if is_garbled { random.next() as u8 } else { 0 });
                    let what = format!("{size} bytes at {start} of segment {}", segment + 1);
                    if start < end {
                        damaged.assert_noticed(segment, &emitted, &what);
                    } else {
                        // Behind the end there is nothing to lose.
                        assert!(damaged.examine(OpenMode::Strict).is_whole(), "{what}");
                        damaged.assert_nothing_invented(&emitted, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn segments_that_are_removed_swapped_doubled_or_renamed_are_noticed() {
    let (files, emitted) = files();
    let names: Vec<_> = files.segments.iter().map(|(name, _)| name.clone()).collect();
    let mut changed = Vec::new();
    for i in 0..4 {
        let mut removed = files.clone();
        removed.segments.remove(i);
        changed.push((format!("segment {} removed", i + 1), removed));
        for j in 0..4 {
            if i < j {
                let mut swapped = files.clone();
                let (left, right) = swapped.segments.split_at_mut(j);
                std::mem::swap(&mut left[i].1, &mut right[0].1);
                changed.push((format!("segments {} and {} swapped", i + 1, j + 1), swapped));
            }
            if i != j {
                let mut doubled = files.clone();
                doubled.segments[i].1 = files.segments[j].1.clone();
                changed.push((format!("segment {} is a copy of {}", i + 1, j + 1), doubled));
            }
        }
        let mut added = files.clone();
        added.segments.push(("0000000005-00000000000000000049.semj".into(), files.segments[i].1.clone()));
        changed.push((format!("a copy of segment {} behind the last", i + 1), added));
        let mut renamed = files.clone();
        renamed.segments[i].0 = format!("0000000009{}", &names[i][10..]);
        renamed.segments.sort();
        changed.push((format!("segment {} renamed", i + 1), renamed));
    }
    for (what, damaged) in changed {
        let report = damaged.examine(OpenMode::Strict);
        assert!(report.refusal().is_some(), "{what}: nobody notices");
        damaged.assert_nothing_invented(&emitted, &what);
    }
}

#[test]
fn a_damaged_watermark_is_reported_and_costs_no_event() {
    let (files, _) = files();
    for slot in 0..2 {
        for bit in 0..128 * 8 {
            let mut damaged = files.clone();
            damaged.watermark[slot * 4096 + bit / 8] ^= 1 << (bit % 8);
            let report = damaged.examine(OpenMode::Strict);
            assert!(report.is_whole() && report.events() == 48, "bit {bit} of slot {slot}");
            assert!(report.watermark.faults[slot].is_some(), "bit {bit} of slot {slot}: nothing is said");
        }
    }
    for length in 0..4096 + 128 {
        let mut damaged = files.clone();
        damaged.watermark.truncate(length);
        let report = damaged.examine(OpenMode::Strict);
        assert!(report.is_whole() && report.watermark.faults.iter().any(Option::is_some), "{length} bytes");
    }
}
