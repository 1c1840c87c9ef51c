//! How the program is called, whatever the command.

use std::fs;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{TRACE, command, err, limited, place, segment, segmented, semj, small, status, text};

#[test]
fn wrong_use_is_status_2() {
    for args in [
        &[][..],
        &["cat"],
        &["verify"],
        &["import", "x"],
        &["nonsense"],
        &["cat", "x", "--id", "a..b"],
        &["cat", "x", "--id", "2..1"],
        &["cat", "x", "--priority", "9"],
    ] {
        assert_eq!(status(&semj(args)), 2, "{args:?}");
    }
}

#[test]
fn what_is_not_there_is_status_1_and_named() {
    for args in
        [&["cat", "/nowhere/at-all"][..], &["verify", "/nowhere/at-all"], &["inspect", "/nowhere/at-all"]]
    {
        let output = semj(args);
        assert_eq!(status(&output), 1, "{args:?}");
        assert!(err(&output).contains("/nowhere/at-all"), "{}", err(&output));
    }
}

#[test]
fn a_file_that_would_be_too_large_is_an_error_like_any_other() {
    let (dir, journal) = place();
    assert_eq!(status(&semj(&["import", TRACE, "-j", text(&journal)])), 0);
    let [other, file] = ["other", "events.jsonl"].map(|name| dir.path().join(name));
    for args in [&["import", TRACE, "-j", text(&other)][..], &["export", text(&journal), "-o", text(&file)]] {
        // In units of 512 or 1024 bytes.
        let output = limited("ulimit -f 100", args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(err(&output).contains("File too large"), "{args:?}: {}", err(&output));
    }
    assert!(!file.exists());
    let stdout = fs::File::create(&file).unwrap();
    let cat = limited("ulimit -f 100", &["cat", text(&journal)]).stdout(stdout).output().unwrap();
    assert_eq!((status(&cat), err(&cat).contains("File too large")), (1, true));
}

#[test]
fn the_journal_can_come_from_the_environment() {
    let (_dir, journal) = small();
    for name in ["cat", "verify", "stats", "export"] {
        let output = command(&[name]).env("SEMJ_JOURNAL", &journal).output().unwrap();
        assert_eq!(status(&output), 0, "{name}: {}", err(&output));
    }
}

#[test]
fn a_journal_is_where_a_directory_is_and_nothing_is_made_elsewhere() {
    let (dir, journal) = segmented(2);
    let file = segment(&journal);
    let written = |args: &[&str]| {
        let output = command(args).current_dir(dir.path()).stdin(Stdio::null()).output().unwrap();
        assert_eq!(status(&output), 2, "{args:?}: {}", err(&output));
        err(&output)
    };
    let url = "s3://bucket/journal";
    for args in [
        &["import", "-", "-j", url][..],
        &["retain", url, "--max-segments", "1"],
        &["consumers", url],
        &["snapshot", text(&journal), url],
        &["restore", text(&journal), url],
    ] {
        assert!(written(args).contains("an archive's URL"), "{args:?}");
    }
    for args in [&["compact", text(&file)][..], &["repair", text(&file)], &["rotate", text(&file)]] {
        assert!(written(args).contains("semj cat, verify and inspect take a file"), "{args:?}");
    }
    assert!(written(&["verify", text(&file), "--copied"]).contains("--copied"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the journal is there");
}

#[test]
fn a_path_that_is_no_text_is_no_reason_to_give_up() {
    use std::os::unix::ffi::OsStrExt as _;
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join(std::ffi::OsStr::from_bytes(b"journal\xff"));
    let import = |args: &[&str]| {
        let mut import = command(args);
        import.arg(TRACE).arg("-j").arg(&journal);
        import.output().unwrap()
    };
    assert_eq!(status(&import(&["import", "--json"])), 0);
    let commands: [&[&str]; 7] = [
        &["verify", "--json"],
        &["stats", "--json"],
        &["rotate", "--json"],
        &["retain", "--json", "--max-segments", "9"],
        &["compact", "--json"],
        &["thin", "--json", "--types", "FilesystemRead", "--older-than", "1000w"],
        &["index", "rebuild", "--json"],
    ];
    for args in commands {
        let done = command(args).arg(&journal).output().unwrap();
        assert_eq!(status(&done), 0, "{args:?}: {}", err(&done));
        serde_json::from_slice::<Value>(&done.stdout).unwrap();
    }
}

#[test]
fn how_a_command_ended_is_its_status_whether_or_not_anybody_reads_what_is_said_of_it() {
    let (dir, journal) = segmented(3);
    let file = dir.path().join("events.jsonl");
    fs::write(&file, "{\"event_type\":\"SystemSync\",\"ktime_ns\":1}\nno event\n").unwrap();
    let other = dir.path().join("other");
    let mut consumer = semj::Consumer::open(&journal, "indexer", semj::View::Durable).unwrap();
    consumer.next(None).unwrap().unwrap();
    consumer.save().unwrap();
    drop(consumer);
    let first = segment(&journal);
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(7).position(|window| window == br#"{"i":0}"#).unwrap();
    bytes[at + 5] = b'1';
    fs::write(&first, bytes).unwrap();
    fs::write(journal.join("consumers/broken"), b"nothing").unwrap();
    let lines = dir.path().join("lines");
    for (args, expected, said) in [
        (&["import", text(&file), "-j", text(&other), "--skip-bad"][..], 3, "1 bad line skipped"),
        (&["stats", text(&journal)], 3, "lost at offset"),
        (&["explain", text(&journal)], 3, "lost at offset"),
        (&["get", "25", text(&journal)], 0, ""),
        (&["export", text(&journal), "-o", text(&lines)], 3, "lost at offset"),
        (&["consumers", text(&journal)], 1, "--remove broken forgets it"),
        (&["compact", text(&journal)], 3, "left as it is"),
    ] {
        for args in [args, &[args, &["--json"]].concat()] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let output = command(args).stdout(writer).output().unwrap();
            assert_eq!(status(&output), expected, "{args:?}: {}", err(&output));
            let is_said = err(&output).contains(said) || args == ["compact", text(&journal), "--json"];
            assert!(is_said, "{args:?}: {}", err(&output));
        }
    }
}
