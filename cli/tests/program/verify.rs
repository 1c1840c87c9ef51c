//! `semj verify`, and what damage does to the others.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{
    command, damage, err, lines, out, packed, place, segment, segmented, semj, small, status, text,
    with_input, with_memory,
};

#[test]
fn damage_is_found_named_and_what_proves_itself_is_exported() {
    let (_dir, journal) = small();
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
    damage(&journal);
    let before = fs::read(segment(&journal)).unwrap();

    let output = semj(&["verify", text(&journal)]);
    assert_eq!(status(&output), 1);
    assert!(out(&output).contains("corrupt") && out(&output).contains("checksum"), "{}", out(&output));
    let output = semj(&["verify", "--json", text(&segment(&journal))]);
    assert_eq!(status(&output), 1);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["is_whole"], false);
    assert!(report["segments"][0]["fault"]["offset"].is_u64());

    let output = semj(&["export", "-j", text(&journal)]);
    assert_eq!(status(&output), 3);
    let ids: Vec<_> = lines(&output.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 3]);
    assert!(err(&output).contains("lost at offset"), "{}", err(&output));
    assert_eq!(status(&semj(&["cat", text(&journal)])), 3);
    assert_eq!(status(&semj(&["stats", text(&journal)])), 3);
    assert_eq!(status(&semj(&["inspect", text(&segment(&journal))])), 1);
    assert!(fs::read(segment(&journal)).unwrap() == before, "reading changes no byte");
    // An import would have to write to it, and is refused.
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], b"")), 1);
}

#[test]
fn a_journal_is_called_the_same_in_all_json() {
    let (_dir, journal) = small();
    let json = |args: &[&str]| serde_json::from_slice::<Value>(&semj(args).stdout).unwrap();
    let name = Value::from(text(&journal));
    for command in ["verify", "stats"] {
        let said = json(&[command, "--json", text(&journal)]);
        assert_eq!((&said["journal"], &said["path"]), (&name, &name), "{command}");
    }
    let mut consumer = semj::Consumer::open(&journal, "indexer", semj::View::Durable).unwrap();
    consumer.next(None).unwrap().unwrap();
    consumer.save().unwrap();
    drop(consumer);
    for command in [
        &["rotate"][..],
        &["export", "-o", "/dev/null"],
        &["explain"],
        &["index", "verify"],
        &["consumers"],
        &["consumers", "--remove", "indexer"],
        &["import", "/dev/null"],
    ] {
        assert_eq!(
            json(&[command, &["--json", "-j", text(&journal)]].concat())["journal"],
            name,
            "{command:?}"
        );
    }
    let exported = semj(&["export", "--json", text(&journal)]);
    let exported: Value = serde_json::from_str(&err(&exported)).unwrap();
    assert!(exported["journal"] == name && exported["elapsed_s"].is_f64(), "{exported}");
    // A file is none.
    let file = segment(&journal);
    let said = json(&["verify", "--json", text(&file)]);
    assert_eq!((&said["journal"], &said["path"]), (&Value::Null, &Value::from(text(&file))));
}

#[test]
fn a_copy_whose_watermark_is_newer_is_verified_without_it_where_that_is_said() {
    let (dir, journal) = segmented(2);
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&journal).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    with_input(&["import", "-", "-j", text(&journal)], b"{\"event_type\":1,\"ktime_ns\":1}\n");
    fs::copy(journal.join("WATERMARK"), copy.join("WATERMARK")).unwrap();
    assert_eq!(status(&semj(&["verify", text(&copy)])), 1);
    assert_eq!(status(&semj(&["verify", text(&copy), "--copied"])), 0);
}

#[test]
fn what_is_found_is_the_status_whether_or_not_anybody_reads_what_is_said_of_it() {
    let (_dir, journal) = segmented(2);
    let first = segment(&journal);
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(7).position(|window| window == br#"{"i":0}"#).unwrap();
    bytes[at + 5] = b'1';
    fs::write(&first, bytes).unwrap();
    for args in
        [&["verify", text(&journal)][..], &["verify", text(&journal), "--json"], &["verify", text(&first)]]
    {
        let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        drop(child.stdout.take());
        assert_eq!(child.wait().unwrap().code(), Some(1), "{args:?}");
    }
    // And who reads as much as he wants has had enough.
    let (_dir, journal) = segmented(3);
    let mut child = command(&["cat", text(&journal)]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_file_is_not_read_into_memory_and_may_come_through_a_pipe() {
    let (dir, journal) = packed();
    let kernel = dir.path().join("kernel");
    let exported = semj(&["export", text(&journal), "--format", "kernel", "-o", text(&kernel)]);
    assert_eq!(status(&exported), 0, "{}", err(&exported));
    let bytes = fs::read(&kernel).unwrap();
    assert!(bytes.len() > 40 << 20);
    for (command, line) in [("verify", "whole: kernel-format journal, 768 events"), ("inspect", "id 768,")] {
        let said = with_memory(32, &[command, text(&kernel)]).output().unwrap();
        assert_eq!(status(&said), 0, "{command}: {}", err(&said));
        assert!(out(&said).contains(line), "{command}: {}", out(&said));
    }
    for bytes in [bytes, fs::read(segment(&journal)).unwrap()] {
        for command in ["verify", "inspect"] {
            let said = with_input(&[command, "/dev/stdin"], &bytes);
            assert_eq!(status(&said), 0, "{command}: {}", err(&said));
        }
    }
}

#[test]
fn what_was_dropped_is_said_and_so_is_a_watermark_that_is_not_there() {
    use semj::{Backpressure, CommitOn, Event, EventType, Journal, Options, Priority};
    let (_dir, journal) = place();
    let options = Options {
        backpressure: Backpressure::DropByPriority,
        buffer_events: 64,
        commit_interval: std::time::Duration::from_secs(3600),
        commit_on: CommitOn::OwnThread,
        ..Options::default()
    };
    let writer = Journal::open(&journal, options).unwrap();
    let event = Event::new(EventType::SYSTEM_SYNC).priority(Priority::BACKGROUND);
    let dropped = (0..20_000).filter(|_| writer.emit(&event).is_err()).count();
    let stats = writer.close().unwrap();
    assert!(dropped > 0 && stats.events_dropped == dropped as u64);
    for name in ["verify", "stats"] {
        let said = semj(&[name, text(&journal), "--json"]);
        let said: Value = serde_json::from_slice(&said.stdout).unwrap();
        assert_eq!((&said["events_dropped"], &said["ids_missing"]), (&dropped.into(), &0.into()), "{name}");
        let said = out(&semj(&[name, text(&journal)]));
        assert!(said.contains("events were dropped") && !said.contains("WATERMARK"), "{name}: {said}");
    }
    fs::remove_file(journal.join("WATERMARK")).unwrap();
    let said = semj(&["verify", text(&journal)]);
    assert!(status(&said) == 0 && out(&said).contains("WATERMARK: there is none"), "{}", out(&said));
}
