//! I7 over a whole journal: sealed segments, an active one and the watermark. Whatever single thing is damaged below
//! the durable mark, a strict open refuses, and what salvage keeps is what was emitted.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use semj::medium::Medium;
use semj::{CommitOn, Event, EventType, Journal, Options, Proof, Reader};
use semj_format::{JournalHeader, Records, WatermarkFile};
use semj_recovery::{Effort, OpenMode, Report, SegmentInput, Verdict, examine_with};
use semj_tests::disk::{Faults, SimulatedDisk};
use semj_tests::memory;
use semj_tests::random::Random;

/// A journal in memory, as a crash leaves it: nothing is unmarked, nothing is closed.
#[derive(Clone)]
struct Files {
    segments: Vec<(String, Vec<u8>)>,
    watermark: Vec<u8>,
}

/// Four segments, the last of them active, in two epochs.
fn files() -> (Files, BTreeMap<u64, Vec<u8>>) {
    memory::have_little();
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
            bytes.truncate(SIZE);
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
        self.examine_with(mode, Effort::EVERYTHING)
    }

    fn examine_with(&self, mode: OpenMode, effort: Effort) -> Report {
        let inputs: Vec<_> = self
            .segments
            .iter()
            .map(|(name, bytes)| SegmentInput::new(name, name[..10].parse().ok(), bytes))
            .collect();
        examine_with(&inputs, WatermarkFile::parse(&self.watermark), mode, effort)
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

const DIR: &str = "/journal";
const EVENTS: u64 = 48;
/// The rest of the preallocated space is zero; a little of it is enough.
const SIZE: usize = 24 << 10;

impl Files {
    /// The same files on a disk.
    fn on_disk(&self) -> Arc<SimulatedDisk> {
        let dir = Path::new(DIR);
        let disk = Arc::new(SimulatedDisk::new(1, Faults::default()));
        disk.create_dir(dir).unwrap();
        let watermark = ("WATERMARK".to_owned(), self.watermark.clone());
        for (name, bytes) in self.segments.iter().chain([&watermark]) {
            let file = disk.create(&dir.join(name), bytes.len() as u64).unwrap();
            file.write_at(0, bytes).unwrap();
            file.sync_all().unwrap();
        }
        disk.sync_dir(dir).unwrap();
        disk
    }

    /// What stands on a disk.
    fn of_disk(disk: &SimulatedDisk) -> Self {
        let dir = Path::new(DIR);
        let read = |name: &str| {
            let map = disk.open(&dir.join(name), false).unwrap().map().unwrap();
            map.bytes(0..map.size().min(SIZE)).to_vec()
        };
        let mut segments: Vec<_> = disk.list(dir).unwrap();
        segments.retain(|name| name.ends_with(".semj"));
        segments.sort();
        let segments = segments.into_iter().map(|name| (name.clone(), read(&name))).collect();
        Self { segments, watermark: read("WATERMARK") }
    }

    /// Once an open in this mode has gone on from damage, the journal is good for everybody: the same events and
    /// those that were emitted since, with no special mode. Gives the ids that were kept and what is said of them.
    fn go_on(&self, mode: OpenMode, what: &str) -> (Vec<u64>, Report) {
        let dir = Path::new(DIR);
        let disk = self.on_disk();
        let read = |mode, proof| {
            let reader = Reader::open_on(&*disk, dir, mode, proof)
                .unwrap_or_else(|error| panic!("{what}, {mode:?}, {proof:?}: {error}"));
            let ids: Vec<u64> = reader.iter(..).map(|record| record.unwrap().event_id()).collect();
            (ids, reader.report().clone())
        };
        let (kept, _) = read(mode, Proof::Everything);
        assert!(kept.is_sorted_by(|id, next| id < next), "{what}, {mode:?}: {kept:?}");
        let mut expected = kept.clone();
        for mode in [mode, OpenMode::Strict] {
            let options = Options {
                mode,
                segment_size: 256 << 10,
                commit_on: CommitOn::CallersThread,
                ..Options::default()
            };
            let journal = Journal::open_on(Arc::<SimulatedDisk>::clone(&disk), dir, options)
                .unwrap_or_else(|error| panic!("{what}, {mode:?}: {error}"));
            let id = journal.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap();
            let is_marked = !self.watermark.is_empty();
            assert!(id > EVENTS || !is_marked, "{what}: id {id} is given again");
            expected.push(id);
            journal.close().unwrap();
            for proof in [Proof::Newest, Proof::Everything] {
                assert_eq!(read(OpenMode::Strict, proof).0, expected, "{what}, {mode:?}, {proof:?}");
            }
        }
        let report = read(OpenMode::Strict, Proof::Everything).1;
        (kept, report)
    }
}

/// Whether a strict open says which segments lack something.
fn known_damage(report: &Report) -> Vec<u64> {
    let known = report.segments.iter().filter(|segment| segment.verdict == Verdict::KnownDamage);
    known.map(|segment| segment.number).collect()
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

/// The event ids of the n-th segment.
fn ids_of(segment: u64) -> Range<u64> {
    (segment - 1) * 12 + 1..segment * 12 + 1
}

fn ids_without(lost: Range<u64>) -> Vec<u64> {
    (1..=EVENTS).filter(|id| !lost.contains(id)).collect()
}

#[test]
fn after_a_salvage_a_header_that_is_damaged_is_known_and_costs_no_event() {
    let (files, _) = files();
    for segment in 0..4 {
        for at in [0, 5, 20, 44, 50] {
            let mut damaged = files.clone();
            damaged.segments[segment].1[at] ^= 1;
            let what = format!("byte {at} of segment {}", segment + 1);
            let (kept, report) = damaged.go_on(OpenMode::Salvage, &what);
            assert_eq!(kept, ids_without(0..0), "{what}");
            assert_eq!(known_damage(&report), [segment as u64 + 1], "{what}");
            let known = &report.segments[segment];
            assert!(known.header.is_none() && known.damaged[0].end == JournalHeader::SIZE, "{what}");
        }
    }
}

#[test]
fn after_a_salvage_a_seal_that_is_damaged_is_known_and_costs_no_event() {
    let (files, _) = files();
    for segment in 0..3 {
        let end = files.end(segment);
        for at in [end - 300, end - 200, end - 1] {
            let mut damaged = files.clone();
            damaged.segments[segment].1[at] ^= 1;
            let what = format!("byte {at} of segment {}", segment + 1);
            let (kept, report) = damaged.go_on(OpenMode::Salvage, &what);
            assert_eq!(kept, ids_without(0..0), "{what}");
            assert_eq!(known_damage(&report), [segment as u64 + 1], "{what}");
            assert_eq!(report.segments[segment].end, end);
        }
        // Its end with the last group; and a file that ends there.
        for is_short in [false, true] {
            let mut damaged = files.clone();
            let start = end - 700;
            damaged.segments[segment].1[start..end].fill(0);
            if is_short {
                damaged.segments[segment].1.truncate(start);
            }
            let (kept, report) = damaged.go_on(OpenMode::Salvage, "last group");
            let last = ids_of(segment as u64 + 1).end;
            assert_eq!(kept, ids_without(last - 3..last));
            assert_eq!(known_damage(&report), [segment as u64 + 1]);
        }
    }
}

#[test]
fn after_a_salvage_a_segment_that_is_gone_or_has_no_place_is_known_to_be_lost() {
    let (files, _) = files();
    for segment in 0..3 {
        let number = segment as u64 + 1;
        let mut changes: Vec<(&str, Files)> = Vec::new();
        let mut change = |what, change: &dyn Fn(&mut Files)| {
            let mut damaged = files.clone();
            change(&mut damaged);
            changes.push((what, damaged));
        };
        change("gone", &|files| drop(files.segments.remove(segment)));
        change("SegmentOpen", &|files| files.segments[segment].1[JournalHeader::SIZE + 140] ^= 1);
        change("zeros", &|files| files.segments[segment].1.fill(0));
        change("empty", &|files| files.segments[segment].1.clear());
        change("a copy of the next", &|files| {
            files.segments[segment].1 = files.segments[segment + 1].1.clone();
        });
        for (what, damaged) in changes {
            let what = format!("segment {number}: {what}");
            let (kept, report) = damaged.go_on(OpenMode::Salvage, &what);
            assert_eq!(kept, ids_without(ids_of(number)), "{what}");
            assert_eq!(known_damage(&report), [number + 1], "{what}");
            let behind = report.segments.iter().find(|segment| segment.number == number + 1).unwrap();
            let lost = behind.lost_before.unwrap();
            assert_eq!((lost.segment_number, lost.length), (number, files.end(segment) as u64), "{what}");
        }
    }
    // Two in a row: the one behind them names only the second.
    let mut damaged = files.clone();
    damaged.segments.drain(1..3);
    let (kept, report) = damaged.go_on(OpenMode::Salvage, "two");
    assert_eq!(kept, ids_without(13..37));
    assert_eq!(known_damage(&report), [4]);
}

/// The same files with up to three damages, and where they are.
fn damaged_at_random(files: &Files, random: &mut Random) -> (Files, String) {
    let mut damaged = files.clone();
    let mut what = String::new();
    for _ in 0..1 + random.below(3) {
        if damaged.segments.is_empty() {
            break;
        }
        let segment = random.below(damaged.segments.len() as u64) as usize;
        let other = random.below(damaged.segments.len() as u64) as usize;
        let length = damaged.segments[segment].1.len();
        let at = random.below(length.clamp(1, 10_000) as u64) as usize;
        what += &format!(" {segment} {at}");
        match random.below(10) {
            0..=3 if length > at => damaged.segments[segment].1[at] ^= 1 << random.below(8),
            4..=5 if length > at => {
                let end = length.min(at + random.below(3_000) as usize);
                damaged.segments[segment].1[at..end].fill(0);
            }
            6 => damaged.segments[segment].1.truncate(at),
            7 => drop(damaged.segments.remove(segment)),
            8 => damaged.segments[segment].1 = damaged.segments[other].1.clone(),
            _ => damaged.watermark.clear(),
        }
    }
    (damaged, what)
}

#[test]
fn whatever_the_damage_the_journal_is_good_again_after_a_salvage_and_after_a_point_in_time() {
    let (files, emitted) = files();
    let mut random = Random::new(23);
    let mut known = 0;
    for round in 0..600 {
        let (damaged, what) = damaged_at_random(&files, &mut random);
        let what = format!("round {round}:{what}");
        damaged.assert_nothing_invented(&emitted, &what);
        for mode in [OpenMode::PointInTime, OpenMode::Salvage] {
            let (kept, report) = damaged.go_on(mode, &what);
            let is_prefix = kept.iter().copied().eq(1..=kept.len() as u64);
            assert!(mode == OpenMode::Salvage || is_prefix, "{what}: {kept:?}");
            known += known_damage(&report).len();
        }
    }
    assert!(known > 200, "{known}");
}

impl Files {
    /// Whatever is asked for, four threads say what one says. Gives the verdicts of a strict open that trusts, and
    /// how many segments it did not look at.
    fn assert_threads_agree(&self, what: &str) -> (Vec<Verdict>, usize) {
        let threads = NonZeroUsize::new(4).unwrap();
        for mode in [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage] {
            let all = self.examine_with(mode, Effort::EVERYTHING);
            assert!(all.segments.iter().all(|segment| segment.is_verified), "{what}, {mode:?}");
            for proof in [Proof::Everything, Proof::Newest] {
                let one = self.examine_with(mode, Effort { proof, ..Effort::EVERYTHING });
                let four = self.examine_with(mode, Effort { proof, threads });
                assert_eq!(one, four, "{what}, {mode:?}, {proof:?}");
                // Who repairs trusts nothing.
                assert!(mode == OpenMode::Strict || one == all, "{what}, {mode:?}");
            }
        }
        let proof = Proof::Newest;
        let trusting = self.examine_with(OpenMode::Strict, Effort { proof, threads });
        let trusted = trusting.segments.iter().filter(|segment| !segment.is_verified);
        // One whose name or place is wrong may be trusted by itself; of one that lacks something everything is proven.
        assert!(trusted.clone().all(|segment| segment.damaged.is_empty()), "{what}");
        let trusted = trusted.count();
        (trusting.segments.iter().map(|segment| segment.verdict).collect(), trusted)
    }

    /// A segment's header says that it is of another major version.
    fn with_version(mut self, segment: usize) -> Self {
        let bytes = &mut self.segments[segment].1;
        let mut header = JournalHeader::parse(bytes).unwrap();
        header.version_major += 1;
        header.checksum = header.computed_checksum();
        bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        self
    }

    /// What a salvage leaves.
    fn salvaged(&self) -> Self {
        let disk = self.on_disk();
        let options = Options {
            mode: OpenMode::Salvage,
            segment_size: 256 << 10,
            commit_on: CommitOn::CallersThread,
            ..Options::default()
        };
        let journal = Journal::open_on(Arc::<SimulatedDisk>::clone(&disk), Path::new(DIR), options).unwrap();
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE)).unwrap();
        journal.close().unwrap();
        Self::of_disk(&disk)
    }
}

#[test]
fn a_report_is_the_same_for_any_number_of_threads() {
    let (files, _) = files();
    let seed = 29;
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let (verdicts, trusted) = files.assert_threads_agree("as it should be");
    assert_eq!((&verdicts[..3], trusted), (&[Verdict::Whole; 3][..], 4));
    for segment in 0..4 {
        let what = format!("another version of segment {}", segment + 1);
        let (verdicts, _) = files.clone().with_version(segment).assert_threads_agree(&what);
        assert_eq!(verdicts[segment], Verdict::Unsupported, "{what}");
    }
    let (mut seen, mut trusted) = (Vec::new(), 0);
    for round in 0..150 {
        let (damaged, what) = damaged_at_random(&files, &mut random);
        let what = format!("round {round}:{what}");
        let salvaged = damaged.salvaged();
        let (again, _) = damaged_at_random(&salvaged, &mut random);
        for (files, when) in [(damaged, "damaged"), (salvaged, "salvaged"), (again, "damaged again")] {
            let (verdicts, some) = files.assert_threads_agree(&format!("{what}, {when}"));
            seen.extend(verdicts);
            trusted += some;
        }
    }
    // All that matters has been there.
    for verdict in [Verdict::Whole, Verdict::Corrupt, Verdict::KnownDamage, Verdict::OpenEnd] {
        assert!(seen.contains(&verdict), "{verdict:?}");
    }
    assert!(trusted > 150, "{trusted}");
}
