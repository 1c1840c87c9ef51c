//! `semj index`.

use std::fs;

use serde_json::Value;

use crate::support::{out, related, segment, segmented, semj, status, text};

#[test]
fn sidecars_are_made_checked_and_not_needed() {
    let (_dir, journal) = related();
    let before = semj(&["cat", text(&journal), "--inode", "7"]).stdout;
    assert_eq!(status(&semj(&["index", "rebuild", text(&journal)])), 0);
    assert_eq!(status(&semj(&["index", "verify", text(&journal)])), 0);
    let sidecar = segment(&journal).with_extension("idx");
    let mut bytes = fs::read(&sidecar).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&sidecar, bytes).unwrap();
    let output = semj(&["index", "verify", text(&journal), "--json"]);
    assert_eq!(status(&output), 1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["segments"][0]["state"], "wrong");
    assert_eq!(semj(&["cat", text(&journal), "--inode", "7"]).stdout, before);
    fs::remove_file(&sidecar).unwrap();
    // The newest segment's comes with the next open.
    assert_eq!(status(&semj(&["index", "verify", text(&journal)])), 0);
    assert_eq!(semj(&["cat", text(&journal), "--inode", "7"]).stdout, before);
}

#[test]
fn the_sidecars_of_a_journal_that_was_closed_are_right() {
    let (_dir, journal) = segmented(3);
    // What a close did not leave the time for comes with the next open.
    assert_eq!(status(&semj(&["index", "rebuild", text(&journal)])), 0);
    let sidecars = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path());
    let newest = sidecars.filter(|path| path.extension().is_some_and(|e| e == "idx")).max().unwrap();
    fs::remove_file(newest).unwrap();
    let verified = semj(&["index", "verify", text(&journal)]);
    assert!(status(&verified) == 0 && out(&verified).contains("due"), "{}", out(&verified));
    fs::remove_file(segment(&journal).with_extension("idx")).unwrap();
    assert_eq!(status(&semj(&["index", "verify", text(&journal)])), 1);
}
