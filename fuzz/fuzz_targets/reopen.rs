//! A journal of any bytes, opened by the engine in every mode: what an open accepts stays, and is accepted by the next
//! open without a mode. What it refuses it does not touch. See `semj_fuzz::journal` for the input.
//!
//! Salvage is held to that only where what is wrong can be recorded, which is damage between the first group and the
//! end of a segment. A segment that is missing, misnamed, without a good opening or, where another follows, without
//! its seal, and a group that its own Commit contradicts, can't be: the next open needs salvage again.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use semj::medium::Medium;
use semj::{
    CommitOn, Error, Event, EventType, Journal, OpenMode, Options, Proof, Reader, Record, Report,
    SegmentReport,
};
use semj_format::JournalHeader;
use semj_format::control::PreviousEnd;
use semj_fuzz::journal;
use semj_tests::disk::{Faults, SimulatedDisk};

const DIR: &str = "/journal";
const MODES: [OpenMode; 3] = [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage];

fuzz_target!(|data: &[u8]| {
    let journal = journal::Journal::of_input(data);
    for mode in MODES {
        check(&disk_of(&journal), mode);
    }
});

fn disk_of(journal: &journal::Journal) -> SimulatedDisk {
    let disk = SimulatedDisk::new(1, Faults::default());
    let write = |name: &str, bytes: &[u8]| {
        let file = disk.create(&Path::new(DIR).join(name), bytes.len() as u64)?;
        file.write_at(0, bytes)?;
        file.sync_all()
    };
    for file in &journal.files {
        write(&file.name, &file.bytes).expect("a disk without faults");
    }
    if let Some(mark) = journal.mark {
        let mut bytes = mark.encode().to_vec();
        bytes.resize(semj_format::watermark::FILE_SIZE, 0);
        write("WATERMARK", &bytes).expect("a disk without faults");
    }
    disk.sync_dir(Path::new(DIR)).expect("a disk without faults");
    disk
}

/// The ids and payloads that a reader gives, in its order.
fn events(reader: &Reader) -> Vec<(u64, Vec<u8>)> {
    reader.iter(..).map(|record| event(record.expect("a disk whose files are not cut"))).collect()
}

fn event(record: Record<'_>) -> (u64, Vec<u8>) {
    (record.event_id(), record.payload().to_vec())
}

/// Whether every event is found by its id, which no other has.
fn check_ids(reader: &Reader, events: &[(u64, Vec<u8>)]) {
    for (id, payload) in events {
        let found = reader.get(*id).expect("a disk whose files are not cut");
        assert!(found.is_some_and(|record| record.payload() == payload), "event {id}");
    }
}

/// Whether all that is wrong can be recorded.
fn can_be_recorded(report: &Report) -> bool {
    let has_place = |segment: &SegmentReport| {
        let first = JournalHeader::SIZE as u64..segment.end as u64;
        let is_between =
            segment.fault.is_some_and(|fault| fault.offset != first.start && first.contains(&fault.offset));
        segment.opening.is_some() && (segment.verdict.is_good() || is_between && !segment.damaged.is_empty())
    };
    let continues = |pair: &[SegmentReport]| {
        let [previous, next] = pair else { return false };
        let end = if previous.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut };
        previous.opening.zip(next.opening).is_some_and(|(previous_opening, opening)| {
            opening.journal_uuid == previous_opening.journal_uuid
                && opening.epoch >= previous_opening.epoch
                && opening.previous_segment == previous.number
                && opening.previous_end == end.code()
                && opening.previous_end_offset == previous.end as u64
                && opening.previous_digest == previous.totals.digest
                && opening.next_commit_sequence == previous.totals.commit_sequence.wrapping_add(1)
        })
    };
    report.segments.iter().all(has_place) && report.segments.windows(2).all(continues)
}

/// What is not proven when it is opened is proven when it is read: the same events as if it had been, or an error.
fn check_quick(disk: &SimulatedDisk, mode: OpenMode, seen: Option<&Vec<(u64, Vec<u8>)>>) {
    match Reader::open_on(disk, Path::new(DIR), mode, Proof::Newest) {
        Ok(reader) => {
            let read: Result<Vec<_>, Error> = reader.iter(..).map(|record| record.map(event)).collect();
            match (read, seen) {
                (Ok(read), Some(seen)) => assert!(read == *seen, "{} events, and {}", read.len(), seen.len()),
                (Err(error), Some(_)) => panic!("what is proven can't be read: {error}"),
                (Ok(_), None) | (Err(Error::Rotten { .. } | Error::RottenBlock { .. }), None) => {}
                (Err(error), None) => panic!("a disk whose files are not cut: {error}"),
            }
        }
        Err(error) => assert!(seen.is_none(), "what is proven is refused: {error}"),
    }
}

fn check(disk: &SimulatedDisk, mode: OpenMode) {
    let dir = Path::new(DIR);
    let before = disk.files(dir);
    let seen = Reader::open_on(disk, dir, mode, Proof::Everything).map(|reader| events(&reader));
    assert!(disk.files(dir) == before, "a reader changed something");
    check_quick(disk, mode, seen.as_ref().ok());
    let options = Options {
        mode,
        proof: Proof::Everything,
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        ..Options::default()
    };
    let journal = match Journal::open_on(Arc::new(disk.clone()), dir, options) {
        Ok(journal) => journal,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            if matches!(error, Error::Damaged { .. }) {
                assert!(seen.is_err());
                let mut after = disk.files(dir);
                after.retain(|(name, _)| before.iter().any(|(before, _)| before == name));
                assert!(after == before, "a journal that was refused was changed");
            }
            return;
        }
    };
    let is_recorded = can_be_recorded(journal.recovery());
    let mut kept = events(&journal.reader());
    if let Ok(seen) = seen {
        assert!(seen == kept, "a reader saw {} events, the writer {}", seen.len(), kept.len());
    }
    let last = Event::new(EventType::SYSTEM_CHECKPOINT).payload(b"after");
    let id = journal.emit(&last).expect("an open journal takes events");
    journal.sync().expect("a disk without faults");
    kept.push((id, b"after".to_vec()));
    journal.close().expect("a disk without faults");

    let next_mode = if mode == OpenMode::Salvage && !is_recorded { mode } else { OpenMode::Strict };
    let reader = match Reader::open_on(disk, dir, next_mode, Proof::Everything) {
        Ok(reader) => reader,
        Err(error) => panic!("what {mode:?} left is refused: {error}"),
    };
    if next_mode == OpenMode::Salvage {
        return;
    }
    let after = events(&reader);
    // Salvage keeps a group whose root is right even where its ids are not above those before.
    if mode != OpenMode::Salvage || after.is_sorted_by(|(one, _), (next, _)| one < next) {
        check_ids(&reader, &after);
    }
    assert!(after == kept, "{mode:?}: {} events, and after the next open {}", kept.len(), after.len());
}
