//! A journal is proven from its first segment to its last, wherever they are.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod support;

use std::fs;
use std::ops::ControlFlow;
use std::path::PathBuf;

use semj::{Compaction, OpenMode, examine_journal};
use semj_archive::JournalReport;

use support::{Place, grow, open, retain};

impl Place {
    fn verify(&self) -> JournalReport {
        let report = examine_journal(self.live(), OpenMode::Strict).unwrap();
        assert!(report.is_whole(), "{report:?}");
        self.archive().verify_journal(&self.live(), &report, &mut |_| ()).unwrap()
    }

    /// The object of a segment.
    fn object(&self, number: u64) -> PathBuf {
        self.folder().join(&self.archive().existing_manifest().unwrap().segment(number).unwrap().object)
    }

    /// Takes segments out of the manifest.
    fn forget(&self, numbers: &[u64]) {
        self.replace_manifest(|manifest| manifest.segments.retain(|entry| !numbers.contains(&entry.number)));
    }
}

fn faults(report: &JournalReport) -> Vec<(u64, String)> {
    let findings = report.archived.findings.iter();
    findings.filter_map(|finding| Some((finding.entry.number, finding.fault.clone()?))).collect()
}

#[test]
fn what_is_archived_retired_compressed_and_native_is_one_journal() {
    let place = Place::new();
    let journal = open(&place.live());
    grow(&journal, 6);
    place.push();
    retain(&journal, 3);
    grow(&journal, 2);
    journal.close().unwrap();
    semj::compact(place.live(), &Compaction::default(), &mut |_| ControlFlow::Continue(())).unwrap();
    let journal = open(&place.live());
    grow(&journal, 1);
    let report = place.verify();
    assert!(
        report.is_whole() && report.retired.is_none() && report.archived.retired.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.archived.findings.len(), 6);
    assert!(!place.live().join("0000000001-00000000000000000001.semj").exists());

    // The first place where it is not so: in an object, with its offset …
    let object = place.object(2);
    let right = fs::read(&object).unwrap();
    let mut damaged = right.clone();
    damaged[300] ^= 1;
    fs::write(&object, damaged).unwrap();
    let report = place.verify();
    let found = faults(&report);
    assert!(!report.is_whole() && found.len() == 1 && found[0].0 == 2, "{found:?}");
    assert!(found[0].1.contains("; offset 52: "), "{found:?}");
    fs::write(&object, right).unwrap();
    // … in what is not there …
    let object = place.object(3);
    let aside = place.dir.path().join("aside");
    fs::rename(&object, &aside).unwrap();
    let report = place.verify();
    assert!(matches!(&*faults(&report), [(3, what)] if what.ends_with("is not there")), "{report:?}");
    fs::rename(&aside, &object).unwrap();
    assert!(place.verify().is_whole());
    // … and where two archived segments do not go on from one another.
    place.forget(&[2]);
    let report = place.verify();
    let missing = "segment 2 before it is missing, and was not retired".to_owned();
    assert_eq!(faults(&report), [(3, missing)]);
}

#[test]
fn what_was_retired_without_having_been_archived_is_told_and_is_no_fault() {
    let place = Place::new();
    let journal = open(&place.live());
    grow(&journal, 2);
    place.push();
    grow(&journal, 3);
    retain(&journal, 2);
    let first = examine_journal(place.live(), OpenMode::Strict).unwrap().segments[0].number;
    assert!(first > 3);
    let report = place.verify();
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.retired, Some(3..=first - 1));

    // What says so is in the journal, when segments on both sides of the gap are archived; and later in the archive.
    place.push();
    let report = place.verify();
    assert!(report.is_whole() && report.retired.is_none(), "{report:?}");
    assert_eq!(report.archived.retired, [3..=first - 1]);
    grow(&journal, 2);
    place.push();
    let alone = place.archive().verify(&mut |_| ()).unwrap();
    assert!(alone.is_whole(), "{alone:?}");
    assert_eq!(alone.retired, [3..=first - 1]);
    // An archive that was begun late.
    place.forget(&[1, 2]);
    let report = place.verify();
    assert!(report.is_whole() && report.archived.begins_behind == Some(first - 1), "{report:?}");
}

#[test]
fn an_archive_of_another_history_is_found_out() {
    let place = Place::new();
    let journal = open(&place.live());
    grow(&journal, 3);
    journal.close().unwrap();
    place.push();
    // The same journal as it was, with other events from then on.
    let copy = place.dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    let first = "0000000001-00000000000000000001.semj";
    fs::copy(place.live().join(first), copy.join(first)).unwrap();
    fs::remove_dir_all(place.live()).unwrap();
    fs::rename(copy, place.live()).unwrap();
    let journal = open(&place.live());
    grow(&journal, 3);
    let report = place.verify();
    assert!(report.archived.is_whole() && !report.is_whole(), "{report:?}");
    let fault = report.fault.unwrap();
    assert!(fault.starts_with("0000000002-") && fault.contains("segments/0000000002-"), "{fault}");
    // Its second segment retired, and the archive's in its place.
    retain(&journal, 2);
    let report = place.verify();
    let fault = report.fault.unwrap();
    assert!(fault.contains("offset 52: it goes on from digest") || fault.contains("ends with"), "{fault}");
    let stranger = Place::new();
    grow(&open(&stranger.live()), 2);
    let examined = examine_journal(stranger.live(), OpenMode::Strict).unwrap();
    let report = place.archive().verify_journal(&stranger.live(), &examined, &mut |_| ()).unwrap();
    assert!(report.fault.unwrap().starts_with("it is journal "));
}
