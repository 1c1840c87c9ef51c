//! `semj cat --follow`, `semj consumers`.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{command, err, lines, out, packed, place, segmented, semj, status, text, with_memory};

#[test]
fn cat_follow_prints_the_last_events_and_then_those_that_come() {
    use std::io::{BufRead, BufReader};
    let (_dir, path) = place();
    let journal = semj::Journal::open(&path, semj::Options::default()).unwrap();
    let emit = |count: u64| {
        for n in 0..count {
            let kind = if n % 2 == 0 { "FilesystemRead" } else { "FilesystemWrite" };
            journal.emit(&semj::Event::new(kind.parse().unwrap())).unwrap();
        }
        journal.sync().unwrap();
    };
    emit(40);
    let args = ["cat", text(&path), "--follow", "--json", "--type", "FilesystemWrite"];
    let mut child = command(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["event_id"].as_u64().unwrap()
    };
    for n in 0..10 {
        assert_eq!(next(), 22 + 2 * n);
    }
    emit(6);
    assert_eq!([next(), next(), next()], [42, 44, 46]);
    child.kill().unwrap();
    child.wait().unwrap();
    for wrong in [&["--follow", "--reverse"][..], &["--durable"]] {
        assert_eq!(status(&semj(&[&["cat", text(&path)][..], wrong].concat())), 2);
    }
}

#[test]
fn cat_follow_prints_what_there_is_as_it_reads_it_and_goes_on_behind_it() {
    use std::io::{BufRead, BufReader};
    let (_dir, path) = packed();
    let journal = semj::Journal::open(&path, semj::Options::default()).unwrap();
    let emit = |count| {
        for _ in 0..count {
            journal.emit(&semj::Event::new("SystemSync".parse().unwrap())).unwrap();
        }
        journal.sync().unwrap();
    };
    let there = journal.stats().last_emitted_id;
    let args = ["cat", text(&path), "--follow", "--json", "--since", "0"];
    let mut child = with_memory(32, &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut ids = BufReader::new(child.stdout.take().unwrap()).lines().map(|line| {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        line["event_id"].as_u64().unwrap()
    });
    assert_eq!(ids.next(), Some(1));
    // It is in the midst of what there was, because nobody reads on.
    emit(10);
    for id in 2..=there + 10 {
        assert_eq!(ids.next(), Some(id));
    }
    emit(1);
    assert_eq!(ids.next(), Some(there + 11));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn consumers_are_listed_and_forgotten() {
    let (_dir, path) = place();
    let journal = semj::Journal::open(&path, semj::Options::default()).unwrap();
    for _ in 0..5 {
        journal.emit(&semj::Event::new("SystemSync".parse().unwrap())).unwrap();
    }
    journal.close().unwrap();
    let none = semj(&["consumers", text(&path)]);
    assert_eq!((status(&none), out(&none)), (0, String::new()));
    let mut consumer = semj::Consumer::open(&path, "indexer", semj::View::Durable).unwrap();
    for _ in 0..3 {
        consumer.next(None).unwrap().unwrap();
    }
    consumer.save().unwrap();
    let listed = semj(&["consumers", text(&path), "--json"]);
    let listed = &lines(&listed.stdout)[0];
    assert_eq!(
        (&listed["name"], &listed["last_event_id"], &listed["behind_by"]),
        (&"indexer".into(), &3.into(), &2.into())
    );
    assert!(out(&semj(&["consumers", text(&path)])).contains("indexer"));
    let in_use = semj(&["consumers", text(&path), "--remove", "indexer"]);
    assert!(status(&in_use) == 1 && err(&in_use).contains("in use"), "{}", err(&in_use));
    drop(consumer);
    // One whose file is damaged is said, and the others are listed.
    fs::write(path.join("consumers/broken"), b"nothing").unwrap();
    let listed = semj(&["consumers", text(&path)]);
    assert_eq!(status(&listed), 1);
    assert!(out(&listed).contains("indexer") && err(&listed).contains("--remove broken"), "{}", err(&listed));
    assert_eq!(status(&semj(&["consumers", text(&path), "--remove", "broken"])), 0);
    let removed = semj(&["consumers", text(&path), "--remove", "indexer", "--json"]);
    assert_eq!(status(&removed), 0, "{}", err(&removed));
    let removed = &lines(&removed.stdout)[0];
    assert_eq!((&removed["name"], &removed["removed"]), (&"indexer".into(), &true.into()), "{removed}");
    let again = semj(&["consumers", text(&path), "--remove", "indexer"]);
    assert_eq!(status(&again), 1);
    assert!(err(&again).contains("no consumer has the name indexer"), "{}", err(&again));
}

#[test]
fn who_follows_for_nobody_ends() {
    let (_dir, journal) = segmented(1);
    let mut child = command(&["cat", "--follow", text(&journal)]).stdout(Stdio::piped()).spawn().unwrap();
    let mut begun = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    drop(child.stdout.take());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if std::time::Instant::now() > deadline {
            child.kill().unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0));
}
