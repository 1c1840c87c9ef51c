//! `semj snapshot`, `semj restore`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{command, err, out, segment, segmented, semj, small, status, text, with_input};

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

#[test]
fn the_journal_of_a_snapshot_can_be_named_like_that_of_any_command() {
    let (dir, journal) = segmented(2);
    let before = semj(&["export", text(&journal)]).stdout;
    let place = |name: &str| dir.path().join(name);
    let with_journal = |args: &[&str], journal: &Path| {
        let done = command(args).env("SEMJ_JOURNAL", journal).output().unwrap();
        (status(&done), err(&done))
    };
    let [by_name, by_environment, typed] = ["a", "b", "c"].map(place);
    let done = semj(&["snapshot", "-j", text(&journal), text(&by_name)]);
    assert_eq!(status(&done), 0, "{}", err(&done));
    assert_eq!(with_journal(&["snapshot", text(&by_environment)], &journal), (0, String::new()));
    // What is typed counts.
    let nowhere = place("nowhere");
    assert_eq!(with_journal(&["snapshot", text(&journal), text(&typed)], &nowhere), (0, String::new()));
    let [back_by_name, back_by_environment, back_typed] = ["d", "e", "f"].map(place);
    let done = semj(&["restore", text(&by_name), "--journal", text(&back_by_name)]);
    assert_eq!(status(&done), 0, "{}", err(&done));
    let restore = ["restore", text(&by_environment)];
    assert_eq!(with_journal(&restore, &back_by_environment), (0, String::new()));
    assert_eq!(with_journal(&["restore", text(&typed), text(&back_typed)], &nowhere), (0, String::new()));
    for journal in [&by_name, &by_environment, &typed, &back_by_name, &back_by_environment, &back_typed] {
        assert!(semj(&["export", text(journal)]).stdout == before, "{}", journal.display());
    }
    assert!(!nowhere.exists());
    for wrong in [
        &["snapshot", text(&by_name)][..],
        &["snapshot", "-j", text(&journal), text(&journal), text(&by_name)],
        &["snapshot"],
        &["restore", text(&by_name)],
        &["restore", "-j", text(&journal)],
    ] {
        assert_eq!(status(&semj(wrong)), 2, "{wrong:?}");
    }
}
