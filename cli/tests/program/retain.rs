//! `semj retain`.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use semj::medium::{Disk, LockOutcome, Medium as _};
use semj::{Event, EventType, Journal, Needs, Options, Retention};
use serde_json::Value;

use crate::support::{command, err, lines, out, place, segment, segmented, semj, status, text};

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

#[test]
fn a_writer_is_asked_for_no_more_than_what_was_proven() {
    for more in [&["--wait", "60s"][..], &["--wait", "60s", "--damaged-too"]] {
        let (_dir, journal) = segmented(4);
        let LockOutcome::Acquired(_lock) = Disk.lock(&journal.join("LOCK")).unwrap() else { panic!() };
        let limits = [&["retain", text(&journal), "--max-segments", "3"], more].concat();
        let mut asker = command(&limits).stdout(Stdio::piped()).spawn().unwrap();
        let request = journal.join("REQUEST");
        while !request.exists() {
            assert!(asker.try_wait().unwrap().is_none(), "it has ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = fs::read_to_string(&request).unwrap();
        assert!(asked.contains("max_segments 3\n"), "{asked}");
        assert!(asked.contains("keeps_from 21\n"), "{asked}");
        // As a writer answers that has done it.
        fs::OpenOptions::new().write(true).open(&request).unwrap().write_all(b"+\n").unwrap();
        fs::remove_file(request).unwrap();
        let done = asker.wait_with_output().unwrap();
        assert!(status(&done) == 0 && out(&done).contains("0 segments, 0 events"), "{}", out(&done));
    }
}

#[test]
fn what_the_writer_takes_by_limits_of_its_own_is_listed_too() {
    let (_dir, dir) = place();
    let is_needed = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_needed);
    let options = Options {
        segment_size: 256 << 10,
        request_interval: Some(Duration::from_millis(5)),
        retention: Retention { max_segments: Some(2), ..Retention::default() },
        needs: Some(Needs::new(move || Ok(asked.load(Ordering::Relaxed).then_some(1)))),
        ..Options::default()
    };
    let journal = Journal::open(&dir, options).unwrap();
    for _ in 0..5 {
        for _ in 0..10 {
            journal.emit(&Event::new(EventType::SYSTEM_SYNC)).unwrap();
        }
        journal.rotate().unwrap();
    }
    is_needed.store(false, Ordering::Relaxed);
    let done = semj(&["retain", text(&dir), "--max-segments", "5", "--json"]);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    let retired: Vec<_> = said["retired"].as_array().unwrap().iter().map(|s| s["number"].as_u64()).collect();
    assert_eq!(journal.retired().unwrap().segment_number, 4);
    assert_eq!(retired, [Some(1), Some(2), Some(3), Some(4)], "{said}");
    assert_eq!(said["held_back"], Value::Array(Vec::new()));
    journal.close().unwrap();
}
