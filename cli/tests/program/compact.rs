//! `semj compact`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{TRACE, err, out, place, segment, semj, status, text};

#[test]
fn a_compacted_journal_is_smaller_and_gives_what_it_gave() {
    let (_dir, journal) = place();
    assert_eq!(status(&semj(&["import", TRACE, "-j", text(&journal)])), 0);
    let exported = |journal: &Path| {
        ["jsonl", "kernel"].map(|format| semj(&["export", text(journal), "--format", format]).stdout)
    };
    let before = exported(&journal);
    let plan = semj(&["compact", text(&journal), "--dry-run", "--json"]);
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    assert_eq!(
        (&plan["compacted"], &plan["bytes_after"], &plan["dry_run"]),
        (&1.into(), &Value::Null, &true.into())
    );
    let young = semj(&["compact", text(&journal), "--older-than", "1h"]);
    assert!(out(&young).starts_with("compressed nothing"), "{}", out(&young));
    let done = semj(&["compact", text(&journal), "--json", "--codec", "zstd:3", "--rate", "500MB/s"]);
    let done: Value = serde_json::from_slice(&done.stdout).unwrap();
    let size = |name: &str| done[name].as_u64().unwrap();
    assert_eq!((&done["compacted"], &done["codec"]), (&1.into(), &"zstd:3".into()));
    assert!(size("bytes_after") * 100 < size("bytes_before") * 8, "{done}");
    assert_eq!(fs::metadata(segment(&journal)).unwrap().len(), size("bytes_after"));
    assert_eq!(exported(&journal), before);
    let verified = semj(&["verify", text(&journal), "--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(
        (&verified["bytes"], &verified["stored_bytes"]),
        (&done["bytes_before"], &done["bytes_after"])
    );
    for file_command in ["verify", "inspect"] {
        let of_file = semj(&[file_command, text(&segment(&journal))]);
        assert_eq!(status(&of_file), 0, "{}", err(&of_file));
    }
    assert!(out(&semj(&["stats", text(&journal)])).contains("on the disk"));
    let again = semj(&["compact", text(&journal)]);
    assert!(out(&again).contains("1 were compressed before"), "{}", out(&again));
    assert_eq!(status(&semj(&["compact", text(&journal), "--codec", "zstd:99"])), 2);
    let path = segment(&journal);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let damaged = semj(&["verify", text(&segment(&journal))]);
    assert_eq!(status(&damaged), 1);
    assert!(err(&damaged).contains("a compressed segment that is damaged"), "{}", err(&damaged));
}
