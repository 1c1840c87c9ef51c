//! `semj thin`.

use std::fs;

use serde_json::Value;

use crate::support::{err, lines, out, place, semj, status, text};

#[test]
fn thinned_is_what_a_rule_takes_and_the_rest_is_proven() {
    let (dir, journal) = place();
    let file = dir.path().join("events.jsonl");
    let line = |i: u64| {
        let kind = if i.is_multiple_of(3) { "FilesystemWrite" } else { "FilesystemRead" };
        format!("{{\"event_type\":\"{kind}\",\"ktime_ns\":{i}}}\n")
    };
    fs::write(&file, (1..=300).map(line).collect::<String>()).unwrap();
    assert_eq!(status(&semj(&["import", text(&file), "-j", text(&journal)])), 0);
    assert_eq!(status(&semj(&["import", text(&file), "-j", text(&journal)])), 0);
    let rule = ["thin", text(&journal), "--types", "FilesystemRead", "--older-than", "0s"];
    let dry = semj(&[&rule[..], &["--dry-run"]].concat());
    assert!(out(&dry).contains("400 events of 2 segments would be taken out"), "{}{}", out(&dry), err(&dry));
    let other =
        semj(&["thin", text(&journal), "--type", "filesystemREAD", "--older-than", "0s", "--dry-run"]);
    assert_eq!(out(&other), out(&dry));
    let before = lines(&semj(&["export", text(&journal)]).stdout);
    assert_eq!(before.len(), 600);
    let done = semj(&[&rule[..], &["--keep-one-in", "100", "--json"]].concat());
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&done["events"], &done["types"]["FilesystemRead"]), (&396.into(), &396.into()), "{done}");
    let after = lines(&semj(&["export", text(&journal)]).stdout);
    let id = |event: &Value| event["event_id"].as_u64().unwrap();
    let left: Vec<_> =
        before.into_iter().filter(|e| id(e).is_multiple_of(3) || id(e).is_multiple_of(100)).collect();
    assert_eq!(after, left);
    let verified = semj(&["verify", text(&journal)]);
    assert!(status(&verified) == 0 && out(&verified).contains("198 events taken out"), "{}", out(&verified));
    assert_eq!(status(&semj(&["thin", text(&journal)])), 2, "an age has to be given");
}
