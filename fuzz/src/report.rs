//! What must hold of recovery's findings, whatever the bytes are.

use std::collections::HashSet;

use semj_format::control::{PreviousEnd, Thinned};
use semj_format::journal_header::FLAG_CUT;
use semj_format::{JournalHeader, Record, Records, WatermarkFile};
use semj_recovery::{
    Extent, OpenMode, Report, ScanEnd, Scanner, SegmentInput, SegmentReport, Verdict, examine, examine_file,
};

use crate::{read_everything, scan_cost, within};

const MODES: [OpenMode; 3] = [OpenMode::Strict, OpenMode::PointInTime, OpenMode::Salvage];

/// Examines a journal in every mode and holds the reports to what must hold.
pub fn check_journal(inputs: &[SegmentInput<'_>], watermark: WatermarkFile) {
    for input in inputs {
        check_scan(input.bytes);
        // By itself it has a place, whatever stands before it or behind.
        check_report(&[*input], &within(scan_cost(input.bytes.len()), || examine_file(input)));
    }
    let size = inputs.iter().map(|input| input.bytes.len()).sum();
    let [strict, point_in_time, salvage] = MODES.map(|mode| {
        let report = within(scan_cost(size), || examine(inputs, watermark, mode));
        let again = examine(inputs, watermark, mode);
        assert_eq!(format!("{report:?}"), format!("{again:?}"), "the same bytes, another report");
        check_report(inputs, &report);
        report
    });
    // Where it says so itself that it was cut there.
    let has_that_cut = |first: &SegmentReport| {
        let is_it =
            |header: &JournalHeader| header.flags & FLAG_CUT != 0 && header.journal_size == first.end as u64;
        first.header.as_ref().is_some_and(is_it)
    };
    let next_has_place = salvage.segments.get(1).is_none_or(|next| next.opening.is_some());
    let tells_its_end = next_has_place || strict.segments.first().is_some_and(has_that_cut);
    // Up to where the first segment ends, all modes go the same way.
    if let (Some(strict), Some(salvage)) = (strict.segments.first(), salvage.segments.first())
        && salvage.opening.is_some()
    {
        assert!(strict.totals.events <= salvage.totals.events && strict.end <= salvage.end);
        // A salvage may not hold it against a following file that has no place in the journal. But a cut that only that
        // file tells of is not known then.
        assert!(strict.verdict != Verdict::Whole || salvage.verdict == Verdict::Whole || !tells_its_end);
    }
    assert!(point_in_time.kept <= strict.kept && salvage.kept <= strict.kept);
    if strict.refusal().is_none() {
        assert_eq!(point_in_time.kept, strict.kept);
        assert_eq!(point_in_time.tip, strict.tip);
    }
    check_cut(inputs, &point_in_time);
}

/// One file by itself: what the scanner accepts is right, and is accepted again without what follows it.
fn check_scan<'a>(bytes: &'a [u8]) {
    let scan = |bytes: &'a [u8]| within(scan_cost(bytes.len()), || groups(bytes));
    let Some((mut scanner, groups)) = scan(bytes) else { return };
    assert!(scanner.next_group().is_none(), "an end is an end");
    let Some(end) = scanner.end() else { panic!("a scan that gives no more groups has an end") };
    if let Some(fault) = end.fault() {
        assert!(fault.offset <= bytes.len() as u64 && !fault.to_string().is_empty());
    }
    if groups.is_empty() {
        return;
    }
    let Some(prefix) = bytes.get(..scanner.offset()) else { panic!("the end is behind the file's") };
    let Some((again, groups_again)) = scan(prefix) else { panic!("the good part has no opening") };
    assert_eq!(groups, groups_again);
    match end {
        // A seal that holds under a header that does not stands before the end.
        ScanEnd::Sealed(_) => assert_eq!(again.end(), Some(end)),
        ScanEnd::Broken(_) if again.end() == Some(end) => {}
        _ => assert_eq!(again.end(), Some(ScanEnd::Zeros)),
    }
    assert_eq!(again.totals(), scanner.totals());
}

/// The scanner at its end, and where each group begins and ends.
fn groups(bytes: &[u8]) -> Option<(Scanner<'_>, Vec<(usize, usize)>)> {
    let mut scanner = match Scanner::new(bytes, 0) {
        Ok(scanner) => scanner,
        Err(fault) => {
            assert!(fault.offset <= JournalHeader::SIZE as u64 && !fault.to_string().is_empty());
            return None;
        }
    };
    let mut groups = Vec::new();
    let mut at = JournalHeader::SIZE;
    while let Some(group) = scanner.next_group() {
        // Groups stand back to back, and a group is its records and nothing else.
        assert_eq!(group.start, at);
        let mut records = 0u64;
        for (offset, record) in group.records() {
            assert_eq!(offset, at);
            assert!(record.verify_checksum().is_ok());
            at += record.len();
            // One that stands in the place of events counts as many.
            let gone = Thinned::parse(&record).map_or(1, |thinned| u64::from(thinned.event_count));
            records = records.wrapping_add(gone);
        }
        assert_eq!((at, at), (group.end, scanner.offset()));
        assert_eq!(records, u64::from(group.commit.record_count) + 1);
        assert!(scanner.synced_end() <= at && at <= bytes.len());
        groups.push((group.start, group.end));
    }
    Some((scanner, groups))
}

fn check_report(inputs: &[SegmentInput<'_>], report: &Report) {
    // Files of segments that were retired are not looked at.
    let inputs = &inputs[report.leftovers.len()..];
    assert_eq!(report.segments.len(), inputs.len());
    assert!(report.kept <= inputs.len());
    let mut ids = HashSet::new();
    for (input, segment) in inputs.iter().zip(&report.segments) {
        check_segment(input.bytes, segment);
        assert!(segment.totals.last_event_id <= report.highest_event_id);
        assert!(segment.number <= report.highest_segment_number);
        if let Some(opening) = &segment.opening {
            assert!(opening.epoch <= report.highest_epoch);
        }
    }
    if report.mode == OpenMode::Strict {
        assert!(!report.is_whole() || report.refusal().is_none());
    }
    if report.refusal().is_none() {
        for (input, segment) in inputs.iter().zip(report.kept_segments()) {
            for record in records(input.bytes, segment).filter(|record| !record.is_control()) {
                assert!(ids.insert(record.event_id()), "event {} is there twice", record.event_id());
            }
        }
    }
    if let Some(tip) = &report.tip {
        let Some(last) = report.kept_segments().last() else { panic!("a tip of nothing") };
        // An end is where it was before events were taken out.
        let end = (last.end as u64).wrapping_add_signed(last.totals.thinned.bytes);
        assert_eq!((tip.end as u64, tip.segment_number), (end, last.number));
        assert_eq!(tip.previous_end == PreviousEnd::Sealed, last.is_sealed);
        assert!(tip.last_event_id <= report.highest_event_id);
    }
}

fn records<'a>(bytes: &'a [u8], segment: &SegmentReport) -> impl Iterator<Item = Record<'a>> {
    segment.extents.clone().into_iter().flat_map(|extent| {
        Records::new(&bytes[..extent.end], extent.start).map_while(|item| Some(item.ok()?.1))
    })
}

fn check_segment(bytes: &[u8], segment: &SegmentReport) {
    assert_eq!(segment.file_size, bytes.len());
    // Only an end that the following segment names may be behind the file's.
    let is_end_lost = segment.damaged.last().is_some_and(|damage| damage.end == segment.end);
    assert!((segment.end <= bytes.len() || is_end_lost) && segment.synced_end <= segment.end);
    // What is kept and what is damaged are all there is between the header and the end.
    let mut parts: Vec<Extent> = segment.extents.iter().chain(&segment.damaged).copied().collect();
    parts.sort_by_key(|extent| extent.start);
    if segment.opening.is_some() {
        // The header is a part only where it is damaged.
        let is_header_damaged = segment.header.is_none();
        let mut at = if is_header_damaged { 0 } else { JournalHeader::SIZE };
        for part in &parts {
            assert!(part.start == at && part.size() > 0, "{parts:?}");
            at = part.end;
        }
        assert_eq!(at, segment.end, "{parts:?}");
    }
    if let Some(tail) = segment.tail {
        assert!(tail.start == segment.end && tail.end <= bytes.len() && tail.size() > 0);
        assert!(bytes[tail.end - 1] != 0 && bytes[tail.end..].iter().all(|byte| *byte == 0));
    }
    // Every record that is given is right, and they are as many as the totals say.
    let kept: usize = segment.extents.iter().map(Extent::size).sum();
    let (mut size, mut count, mut events) = (0, 0, 0);
    for record in records(bytes, segment) {
        assert!(record.verify_checksum().is_ok());
        read_everything(&record);
        size += record.len();
        count += 1;
        events += u64::from(!record.is_control());
    }
    assert_eq!(size, kept);
    // What was taken out counts in the totals as before.
    let gone = segment.totals.thinned;
    let records_left = segment.totals.records.wrapping_sub(gone.events).wrapping_add(gone.records);
    assert_eq!((count, events), (records_left, segment.totals.events.wrapping_sub(gone.events)));

    match segment.verdict {
        Verdict::Whole => assert!(segment.damaged.is_empty() && segment.fault.is_none()),
        Verdict::OpenEnd => {
            assert!(segment.damaged.is_empty() && segment.fault.is_none() && segment.tail.is_none());
        }
        Verdict::KnownDamage => assert!(!segment.damaged.is_empty() || segment.lost_before.is_some()),
        verdict => assert!(segment.fault.is_some(), "{verdict:?} without a reason"),
    }
}

/// What a point in time keeps is, once it is cut, a good journal with the same events and the same tip.
fn check_cut(inputs: &[SegmentInput<'_>], report: &Report) {
    // Damage that is kept needs a record of it, which only the engine writes.
    let is_kept_whole = report
        .kept_segments()
        .iter()
        .all(|segment| segment.damaged.is_empty() && segment.lost_before.is_none());
    // And so does what was taken out, which a segment may say that is given up.
    let is_original = report.kept_segments().iter().all(|segment| segment.totals.thinned.records == 0);
    let is_said = is_original && (report.retired.is_none() || report.kept == report.segments.len());
    let is_good = is_kept_whole && is_said && report.refusal().is_none();
    let Some(tip) = report.tip.filter(|_| is_good) else { return };
    let mut kept = inputs[report.leftovers.len()..][..report.kept].to_vec();
    let (Some(input), Some(last)) = (kept.last_mut(), report.kept_segments().last()) else { return };
    let mut file = input.bytes.to_vec();
    if tip.previous_end == PreviousEnd::Cut {
        let next_id = tip.last_event_id.saturating_add(1);
        let header = JournalHeader::new(last.totals.records, next_id, last.end as u64, FLAG_CUT);
        file[..JournalHeader::SIZE].copy_from_slice(&header.encode());
    }
    input.bytes = &file;
    let again = examine(&kept, WatermarkFile::default(), OpenMode::Strict);
    let verdicts: Vec<_> = again.segments.iter().map(|s| (s.verdict, s.fault)).collect();
    assert!(again.refusal().is_none(), "{verdicts:?}");
    assert_eq!(again.tip, Some(tip));
    assert_eq!(again.events(), report.events());
}
