//! `semj retain`.

use std::fs;

use serde_json::Value;

use crate::support::{err, lines, out, segment, segmented, semj, status, text};

#[test]
fn retained_is_what_the_limits_leave_and_verify_tells_it_from_what_is_missing() {
    let (_dir, journal) = segmented(5);
    let before = semj(&["export", "-j", text(&journal)]).stdout;
    // Elsewhere -n is a number of events.
    assert_eq!(status(&semj(&["retain", text(&journal), "--max-segments", "4", "-n"])), 2);
    let dry = semj(&["retain", text(&journal), "--max-segments", "4", "--dry-run"]);
    assert!(
        out(&dry).contains("2 segments, 20 events") && out(&dry).contains("would be retired"),
        "{}",
        out(&dry)
    );
    assert_eq!(semj(&["export", "-j", text(&journal)]).stdout, before);
    let done = semj(&["retain", text(&journal), "--max-segments", "4", "--json"]);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(
        (&said["retired"][1]["last_event_id"], &said["kept_segments"]),
        (&20.into(), &4.into()),
        "{said}"
    );
    let verified = semj(&["verify", text(&journal)]);
    assert_eq!(status(&verified), 0, "{}", out(&verified));
    assert!(
        out(&verified).contains("segments up to 2: retired, 2 segments, 20 events, ids up to 20"),
        "{}",
        out(&verified)
    );
    let verified: Value =
        serde_json::from_slice(&semj(&["verify", text(&journal), "--json"]).stdout).unwrap();
    assert_eq!((&verified["retired"]["events"], &verified["events"]), (&20.into(), &30.into()));
    let after = semj(&["export", "-j", text(&journal)]).stdout;
    assert!(before.ends_with(&after) && lines(&after).len() == 30);
    for limits in [["--max-bytes", "1TB", "--max-age", "30d"], ["--max-segments", "4", "--max-bytes", "1TB"]]
    {
        let nothing = semj(&[&["retain", text(&journal)][..], &limits].concat());
        assert!(out(&nothing).contains("0 segments, 0 events"), "{}", out(&nothing));
        assert!(out(&nothing).contains("in 4 segments kept"), "{}", out(&nothing));
    }
    let closed = semj(&["rotate", text(&journal)]);
    assert!(status(&closed) == 0 && out(&closed).contains("has ended already"), "{}", err(&closed));
    fs::remove_file(segment(&journal)).unwrap();
    let missing = semj(&["verify", text(&journal)]);
    assert!(status(&missing) == 1 && out(&missing).contains("is missing"), "{}", out(&missing));
    assert_eq!(status(&semj(&["retain", text(&journal), "--max-segments", "1"])), 1);
    assert_eq!(status(&semj(&["retain", text(&journal)])), 2);
}

#[test]
fn what_is_damaged_is_not_retired_unless_that_is_said() {
    let (_dir, journal) = segmented(4);
    let first = segment(&journal);
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(7).rposition(|window| window == br#"{"i":0}"#).unwrap();
    bytes[at + 5] = b'1';
    fs::write(&first, bytes).unwrap();
    let limits = ["retain", text(&journal), "--max-segments", "3"];
    let refused = semj(&limits);
    let name = first.file_name().unwrap().to_str().unwrap();
    assert!(status(&refused) == 1 && err(&refused).contains(name), "{}", err(&refused));
    assert!(err(&refused).contains("--damaged-too"), "{}", err(&refused));
    assert!(first.exists());
    let gone = semj(&[&limits[..], &["--damaged-too"]].concat());
    assert!(status(&gone) == 0 && out(&gone).contains("2 segments, 20 events"), "{}", err(&gone));
    assert!(!first.exists());
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
}
