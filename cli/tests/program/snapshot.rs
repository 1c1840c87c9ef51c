//! `semj snapshot`, `semj restore`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{err, out, segment, segmented, semj, small, status, text, with_input};

#[test]
fn a_snapshot_into_the_journal_itself_is_refused() {
    let (dir, journal) = small();
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&journal, &link).unwrap();
    let before = fs::read(segment(&journal)).unwrap();
    for target in [&journal, &link] {
        let refused = semj(&["snapshot", text(&journal), text(target)]);
        assert!(status(&refused) == 1 && err(&refused).contains("the journal itself"), "{}", err(&refused));
    }
    assert_eq!(fs::read(segment(&journal)).unwrap(), before);
}

#[test]
fn a_snapshot_gives_what_the_journal_gave_and_a_restore_what_the_snapshot_gives() {
    let (dir, journal) = segmented(3);
    let (target, back) = (dir.path().join("snapshot"), dir.path().join("back"));
    let taken = semj(&["snapshot", text(&journal), text(&target), "--json"]);
    let taken: Value = serde_json::from_slice(&taken.stdout).unwrap();
    assert_eq!((&taken["events"], &taken["segments"]["kept"]), (&30.into(), &0.into()), "{taken}");
    let exported = |journal: &Path| {
        ["jsonl", "kernel"].map(|format| semj(&["export", text(journal), "--format", format]).stdout)
    };
    let before = exported(&journal);
    assert!(!before[0].is_empty() && exported(&target) == before);
    assert_eq!(
        status(&with_input(&["import", "-", "-j", text(&journal)], b"{\"event_type\":1,\"ktime_ns\":1}\n")),
        0
    );
    assert_eq!(exported(&target), before, "a snapshot does not change with its journal");
    let restored = semj(&["restore", text(&target), text(&back)]);
    assert_eq!(status(&restored), 0, "{}", err(&restored));
    assert!(out(&restored).contains("30 events in 3 segments"), "{}", out(&restored));
    assert_eq!(exported(&back), before);
    assert_eq!(status(&semj(&["restore", text(&target), text(&back)])), 1, "there is a journal already");
    let again = semj(&["snapshot", text(&journal), text(&target), "--verify"]);
    assert!(out(&again).contains("31 events in 4 segments (3 were there"), "{}{}", out(&again), err(&again));
    assert_eq!(exported(&target), exported(&journal));
    assert_eq!(status(&semj(&["verify", text(&target)])), 0);
}
