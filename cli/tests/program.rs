//! The program as a user runs it.

#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/git-worktree.jsonl.zst");

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semj"));
    command.args(args).env_remove("SEMJ_JOURNAL").env_remove("RUST_LOG");
    command
}

fn semj(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory that goes away, and in it the place of a journal.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    (dir, journal)
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

/// Every field of `line`, contexts and payloads included, is in `exported` with its value.
fn contains(exported: &Value, line: &Value) -> bool {
    match (exported, line) {
        (Value::Object(exported), Value::Object(line)) => {
            line.iter().all(|(key, value)| exported.get(key).is_some_and(|other| contains(other, value)))
        }
        _ => exported == line,
    }
}

fn segment(journal: &Path) -> PathBuf {
    let mut paths: Vec<_> = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths.remove(0)
}

/// A journal of three events.
fn small() -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    let input = br#"{"event_type":"FilesystemCreate","ktime_ns":1,"context":{"path":"/a"}}
{"event_type":"FilesystemWrite","ktime_ns":2,"payload":{"bytes":5}}

{"event_type":"FilesystemDelete","ktime_ns":3}
"#;
    let output = with_input(&["import", "-", "-j", text(&journal)], input);
    assert_eq!(status(&output), 0, "{}", err(&output));
    (dir, journal)
}

/// Flips a bit in the second event, which is durable.
fn damage(journal: &Path) {
    let path = segment(journal);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|window| window == br#"{"bytes":5}"#).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_trace_comes_back_with_every_field_of_every_line() {
    let (_dir, journal) = place();
    let output = semj(&["import", TRACE, "--journal", text(&journal)]);
    assert_eq!(status(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("9,778  events") && out(&output).contains("whole, closed"));
    assert!(output.stderr.is_empty(), "nothing but data, and no progress bar in a pipe: {}", err(&output));
    let exported = lines(&semj(&["export", "-j", text(&journal), "--format", "jsonl"]).stdout);
    let trace = zstd::decode_all(fs::File::open(TRACE).unwrap()).unwrap();
    let trace = lines(&trace);
    assert_eq!(exported.len(), trace.len());
    for (i, (exported, line)) in exported.iter().zip(&trace).enumerate() {
        assert!(contains(exported, line), "line {}: {line} came back as {exported}", i + 1);
    }
}

#[test]
fn what_was_exported_imports_as_the_same_journal_in_every_form() {
    let (dir, journal) = small();
    let jsonl = dir.path().join("a.jsonl");
    let kernel = dir.path().join("a.kernel");
    for (format, path) in [("jsonl", &jsonl), ("kernel", &kernel)] {
        let output = semj(&["export", "-j", text(&journal), "--format", format, "-o", text(path)]);
        assert_eq!(status(&output), 0, "{}", err(&output));
    }
    assert_eq!(status(&semj(&["verify", text(&kernel)])), 0);
    let segment = segment(&journal);
    for input in [&jsonl, &kernel, &segment] {
        let again = dir.path().join("again");
        let _ = fs::remove_dir_all(&again);
        let output = semj(&["import", text(input), "-j", text(&again)]);
        assert_eq!(status(&output), 0, "{}: {}", input.display(), err(&output));
        for (format, expected) in [("jsonl", &jsonl), ("kernel", &kernel)] {
            let output = semj(&["export", "-j", text(&again), "--format", format]);
            assert!(output.stdout == fs::read(expected).unwrap(), "{} as {format}", input.display());
        }
    }
}

#[test]
fn a_bad_line_is_named_and_the_good_ones_before_it_are_kept() {
    let (dir, journal) = place();
    let file = dir.path().join("events.jsonl");
    fs::write(
        &file,
        "{\"event_type\":\"FilesystemRead\",\"ktime_ns\":1}\n{\"event_type\":\"Nonsense\",\"ktime_ns\":2}\n\
         {\"event_type\":\"FilesystemRead\",\"ktime_ns\":3}\n",
    )
    .unwrap();
    let output = semj(&["import", text(&file), "-j", text(&journal)]);
    assert_eq!(status(&output), 1);
    assert!(
        err(&output).contains("events.jsonl:2: ") && err(&output).contains("Nonsense"),
        "{}",
        err(&output)
    );
    assert!(err(&output).contains("1 event: kept"), "{}", err(&output));
    assert_eq!(lines(&semj(&["cat", "--json", text(&journal)]).stdout).len(), 1);

    let output = semj(&["import", text(&file), "-j", text(&journal), "--skip-bad", "--json"]);
    assert_eq!(status(&output), 3);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["events"], &summary["skipped"]), (&2.into(), &1.into()));
    assert!(err(&output).contains("events.jsonl:2: "));
    assert_eq!(lines(&semj(&["cat", "--json", text(&journal)]).stdout).len(), 3);
}

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
fn the_journal_can_come_from_the_environment() {
    let (_dir, journal) = small();
    for name in ["cat", "verify", "stats", "export"] {
        let output = command(&[name]).env("SEMJ_JOURNAL", &journal).output().unwrap();
        assert_eq!(status(&output), 0, "{name}: {}", err(&output));
    }
}

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
fn cat_shows_ranges_limits_and_the_journals_own_records_when_asked() {
    let (_dir, journal) = small();
    let ids = |args: &[&str]| -> Vec<u64> {
        let output = semj(&[&["cat", text(&journal), "--json"], args].concat());
        assert_eq!(status(&output), 0, "{}", err(&output));
        lines(&output.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect()
    };
    assert_eq!(ids(&[]), [1, 2, 3]);
    assert_eq!(ids(&["--id", "2..3"]), [2, 3]);
    assert_eq!(ids(&["--id", "..2"]), [1, 2]);
    assert_eq!(ids(&["--id", "2"]), [2]);
    assert_eq!(ids(&["--limit", "2"]), [1, 2]);
    let all = ids(&["--control"]);
    assert_eq!(all.iter().filter(|id| **id == 0).count(), 4, "SegmentOpen, two commits, the seal: {all:?}");
    let human = out(&semj(&["cat", text(&journal), "--control"]));
    assert!(human.contains("JournalSegmentOpen") && human.contains("/a") && human.contains("{\"bytes\":5}"));
}

/// A journal of five events that hang together.
fn related() -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    let input = br#"{"event_type":"AgentDecision","ktime_ns":1000,"event_priority":1,"context":{"agent_id":"planner","transaction_id":9}}
{"event_type":"FilesystemCreate","ktime_ns":2000,"process_id":5,"parent_event_id":1,"context":{"path":"/project/src/a.rs","inode_number":7,"transaction_id":9}}
{"event_type":"FilesystemWrite","ktime_ns":3000,"process_id":5,"parent_event_id":2,"context":{"path":"/project/src/a.rs","inode_number":7}}
{"event_type":"FilesystemDelete","ktime_ns":4000,"process_id":6,"context":{"path":"/project/doc/b.md","inode_number":8}}
{"event_type":"SystemSync","ktime_ns":5000,"causality_links":[{"cause_event_id":3,"effect_event_id":5}]}
"#;
    let output = with_input(&["import", "-", "-j", text(&journal)], input);
    assert_eq!(status(&output), 0, "{}", err(&output));
    (dir, journal)
}

#[test]
fn cat_and_explain_take_the_same_conditions() {
    let (_dir, journal) = related();
    assert_eq!(status(&semj(&["index", "rebuild", text(&journal)])), 0);
    for (args, expected) in [
        (&["--type", "FilesystemWrite", "--type", "0x0503"][..], &[3u64, 5][..]),
        (&["--path", "/project/src"], &[2, 3]),
        (&["--path", "*.md"], &[4]),
        (&["--agent", "planner"], &[1]),
        (&["--tx", "9"], &[1, 2]),
        (&["--inode", "7", "--pid", "5"], &[2, 3]),
        (&["--priority", "critical"], &[1]),
        (&["--since", "2000", "--until", "4000"], &[2, 3, 4]),
        (&["--since", "2030-01-01T00:00:00Z"], &[]),
        (&["--until", "2030-01-01T00:00:00Z", "--reverse", "--limit", "2"], &[5, 4]),
        (&["--id", "2..", "-n", "1", "-r"], &[5]),
        (&["--type", "JournalSegmentSeal"], &[0]),
    ] {
        let output = semj(&[&["cat", text(&journal), "--json"], args].concat());
        assert_eq!(status(&output), 0, "{}", err(&output));
        let ids: Vec<_> =
            lines(&output.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect();
        assert_eq!(ids, expected, "{args:?}");
        let output = semj(&[&["explain", text(&journal), "--json"], args].concat());
        let explain: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(explain["matches"], expected.len(), "{args:?}: {explain}");
        let human = semj(&[&["explain", text(&journal)], args].concat());
        assert!(out(&human).contains("blocks") && status(&human) == 0);
    }
    for wrong in [["--type", "Nonsense"], ["--since", "yesterday"], ["--path", "/a[b"], ["--priority", "x"]] {
        assert_eq!(status(&semj(&[&["cat", text(&journal)][..], &wrong].concat())), 2, "{wrong:?}");
    }
}

#[test]
fn get_shows_one_event_and_chain_what_led_to_it_and_what_followed() {
    let (_dir, journal) = related();
    let output = semj(&["get", "2", text(&journal), "--json"]);
    assert_eq!(lines(&output.stdout)[0]["context"]["path"], "/project/src/a.rs");
    let pretty: Value = serde_json::from_slice(&semj(&["get", "2", "-j", text(&journal)]).stdout).unwrap();
    assert_eq!(pretty["event_id"], 2);
    let output = semj(&["get", "6", text(&journal)]);
    assert_eq!((status(&output), out(&output).as_str()), (1, ""));
    assert!(err(&output).contains("no event 6"), "{}", err(&output));

    let ids = |output: &Output| -> Vec<u64> {
        lines(&output.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect()
    };
    let output = semj(&["chain", "2", text(&journal), "--json"]);
    assert_eq!((ids(&output), status(&output)), (vec![1, 2, 3, 5], 0), "{}", err(&output));
    assert_eq!(ids(&semj(&["chain", "5", text(&journal), "--json"])), [1, 2, 3, 5]);
    let output = semj(&["chain", "1", text(&journal), "--json", "--limit", "1"]);
    assert_eq!((ids(&output), status(&output)), (vec![1, 2], 3));
    assert_eq!(status(&semj(&["chain", "99", text(&journal)])), 1);
    assert!(out(&semj(&["chain", "2", text(&journal)])).contains("/project/src/a.rs"));
}

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
fn a_reader_that_goes_away_is_no_error() {
    let (_dir, journal) = place();
    assert_eq!(status(&semj(&["import", TRACE, "-j", text(&journal)])), 0);
    for args in [&["cat"][..], &["cat", "--json"], &["export", "--journal"]] {
        let mut child =
            command(args).arg(&journal).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((status(&output), err(&output).as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn stats_and_inspect_say_the_same_as_the_header() {
    let (_dir, journal) = small();
    let stats: Value = serde_json::from_slice(&semj(&["stats", "--json", text(&journal)]).stdout).unwrap();
    let layout = lines(&semj(&["inspect", "--json", text(&segment(&journal))]).stdout);
    assert_eq!(stats["records"], layout[0]["total_events"]);
    assert_eq!(stats["bytes"], layout[0]["journal_size"]);
    assert_eq!(stats["events"], 3);
    assert_eq!(layout.len() as u64, layout[0]["total_events"].as_u64().unwrap() + 1);
    let sizes: u64 = layout.iter().map(|line| line["size"].as_u64().unwrap()).sum();
    assert_eq!(stats["bytes"], sizes);
}

#[test]
fn kill_9_during_an_import_leaves_a_prefix_that_verifies_and_can_be_added_to() {
    let trace = zstd::decode_all(fs::File::open(TRACE).unwrap()).unwrap();
    let input = lines(&trace);
    let mut cut_short = 0;
    for kill in 0..20u64 {
        let (_dir, journal) = place();
        let mut child = command(&["import", "-", "-j", text(&journal)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Fed so slowly that each kill falls into the middle of the import.
        let mut stdin = child.stdin.take().unwrap();
        let feed = trace.clone();
        let feeder = std::thread::spawn(move || {
            for chunk in feed.chunks(100_000) {
                if stdin.write_all(chunk).is_err() {
                    return;
                }
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        });
        // The first one as soon as there is anything, however long a busy machine takes for that.
        let has_begun = || fs::read_dir(&journal).is_ok_and(|names| names.count() > 0);
        while !has_begun() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::thread::sleep(std::time::Duration::from_millis(2 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        feeder.join().unwrap();

        if !journal.exists() || semj(&["verify", text(&journal)]).status.code() == Some(1) {
            let names: Vec<_> =
                fs::read_dir(&journal).into_iter().flatten().map(|e| e.unwrap().path()).collect();
            let has_segment = names.iter().any(|path| path.extension().is_some_and(|e| e == "semj"));
            assert!(!has_segment, "kill {kill}: a journal that does not verify");
            continue;
        }
        let kept = lines(&semj(&["export", "-j", text(&journal)]).stdout);
        assert!(kept.iter().zip(&input).all(|(kept, line)| contains(kept, line)), "kill {kill}");
        cut_short += usize::from(kept.len() < input.len());
        let more = br#"{"event_type":"SystemSync","ktime_ns":1}"#;
        assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], more)), 0);
        let after = lines(&semj(&["export", "-j", text(&journal)]).stdout);
        assert_eq!(after.len(), kept.len() + 1);
        assert!(after[..kept.len()] == kept, "kill {kill}: recovery keeps what was there");
    }
    assert!(cut_short >= 10, "{cut_short} of 20 imports were cut short");
}

/// A closed journal of some segments.
fn segmented(count: usize) -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    for i in 0..count {
        let input =
            format!("{{\"event_type\":\"FilesystemRead\",\"ktime_ns\":{i},\"payload\":{{\"i\":{i}}}}}\n");
        let output = with_input(&["import", "-", "-j", text(&journal)], input.repeat(10).as_bytes());
        assert_eq!(status(&output), 0, "{}", err(&output));
    }
    (dir, journal)
}

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
    for args in [&["cat", text(&file)][..], &["stats", text(&file)], &["rotate", text(&file)]] {
        assert!(written(args).contains("semj inspect"), "{args:?}");
    }
    assert!(written(&["verify", text(&file), "--copied"]).contains("--copied"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "only the journal is there");
}

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
fn what_is_imported_into_a_damaged_journal_is_said_to_be_kept() {
    let (_dir, journal) = small();
    let more = b"{\"event_type\":\"FilesystemRead\",\"ktime_ns\":4}\n";
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], more)), 0);
    damage(&journal);
    let output = with_input(&["import", "-", "-j", text(&journal)], more);
    assert!(status(&output) == 1 && err(&output).contains("1 event kept"), "{}", err(&output));
    let left = lines(&semj(&["export", text(&journal)]).stdout);
    assert_eq!(left.last().unwrap()["event_id"], 5, "{left:?}");
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
    assert_eq!(status(&semj(&["consumers", text(&path), "--remove", "indexer"])), 0);
    let again = semj(&["consumers", text(&path), "--remove", "indexer"]);
    assert_eq!(status(&again), 1);
    assert!(err(&again).contains("no consumer has the name indexer"), "{}", err(&again));
}

#[cfg(feature = "archive")]
#[test]
fn an_archive_gives_what_the_journal_gave_and_lets_go_what_it_has() {
    let (dir, journal) = segmented(4);
    let (folder, back, all) = (dir.path().join("archive"), dir.path().join("back"), dir.path().join("all"));
    let before = semj(&["export", text(&journal)]).stdout;
    let limits = ["retain", text(&journal), "--max-segments", "1", "--archived", text(&folder)];
    assert!(status(&semj(&limits)) == 1 && !folder.exists(), "an archive that is not there may be a slip");
    let no_journal = semj(&["archive", "push", text(dir.path()), text(&folder)]);
    assert!(status(&no_journal) == 1 && !folder.exists(), "{}", err(&no_journal));
    fs::create_dir(&folder).unwrap();
    let kept = semj(&limits);
    assert!(
        out(&kept).contains("0 segments") && out(&kept).contains("not archived"),
        "{}{}",
        out(&kept),
        err(&kept)
    );
    let pushed = semj(&["archive", "push", text(&journal), text(&folder)]);
    assert!(out(&pushed).contains("4 segments uploaded"), "{}{}", out(&pushed), err(&pushed));
    let none = semj(&["archive", "fetch", text(&folder), text(&back), "--segments", "7"]);
    assert!(status(&none) == 1 && err(&none).contains("it has 1 to 4"), "{}", err(&none));
    assert_eq!(status(&semj(&["archive", "fetch", text(&folder), text(&back), "--segments", "3-2"])), 2);
    assert!(!back.exists());
    let fetched = semj(&["archive", "fetch", text(&folder), text(&back), "--json"]);
    assert_eq!(status(&fetched), 0, "{}", err(&fetched));
    assert_eq!(semj(&["export", text(&back)]).stdout, before);
    let gone = semj(&limits);
    assert!(out(&gone).contains("3 segments, 30 events"), "{}{}", out(&gone), err(&gone));
    assert_eq!(status(&semj(&["archive", "push", text(&journal), text(&folder), "--json"])), 0);
    let verified = semj(&["archive", "verify", text(&folder)]);
    assert!(status(&verified) == 0 && out(&verified).contains("whole, 5 segments"), "{}", out(&verified));
    let listed = semj(&["archive", "list", text(&folder)]);
    assert_eq!(out(&listed).matches("  retired").count(), 3, "{}", out(&listed));
    let fetched = semj(&["archive", "fetch", text(&folder), text(&all), "--with-retired"]);
    assert_eq!(status(&fetched), 0, "{}", err(&fetched));
    assert_eq!(semj(&["export", text(&all)]).stdout, before);
    assert_eq!(status(&semj(&["verify", text(&all)])), 0);

    // Read where it is.
    let url = format!("file://{}", text(&folder));
    for format in ["jsonl", "kernel"] {
        let [there, here] = [&url, text(&all)].map(|journal| semj(&["export", journal, "--format", format]));
        assert_eq!(status(&there), 0, "{}", err(&there));
        assert!(!here.stdout.is_empty() && there.stdout == here.stdout, "{format}");
    }
    let got = semj(&["get", "17", &url, "--json"]);
    assert_eq!(got.stdout, semj(&["get", "17", text(&all), "--json"]).stdout, "{}", err(&got));
    assert_eq!(status(&semj(&["get", "4711", &url])), 1);
    let newest = semj(&["cat", &url, "--json", "--reverse", "--limit", "3"]);
    assert_eq!(lines(&newest.stdout).len(), 3, "{}", err(&newest));
    assert!(out(&semj(&["stats", &url])).contains("40  events"), "{}", out(&semj(&["stats", &url])));

    // From the first segment to the last: retired and archived, compressed, native.
    assert_eq!(
        status(&with_input(&["import", "-", "-j", text(&journal)], b"{\"event_type\":1,\"ktime_ns\":1}\n")),
        0
    );
    assert_eq!(status(&semj(&["compact", text(&journal)])), 0);
    assert_eq!(
        status(&with_input(&["import", "-", "-j", text(&journal)], b"{\"event_type\":1,\"ktime_ns\":2}\n")),
        0
    );
    let through = semj(&["verify", text(&journal), "--archive", text(&folder)]);
    assert_eq!(status(&through), 0, "{}{}", out(&through), err(&through));
    let said = out(&through);
    assert!(
        said.contains("archived too") && said.contains("compressed to") && said.contains("retired"),
        "{said}"
    );
    let value = semj(&["verify", text(&journal), "--archive", &url, "--json"]);
    let value: Value = serde_json::from_slice(&value.stdout).unwrap();
    assert_eq!(
        (&value["archive"]["is_whole"], &value["archive"]["fault"]),
        (&true.into(), &Value::Null),
        "{value}"
    );

    let mut objects: Vec<_> =
        fs::read_dir(folder.join("segments")).unwrap().map(|entry| entry.unwrap().path()).collect();
    objects.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    objects.sort();
    let name = objects[1].file_name().unwrap().to_str().unwrap().to_owned();
    fs::remove_file(&objects[1]).unwrap();
    assert_eq!(status(&semj(&["archive", "verify", text(&folder)])), 1);
    let through = semj(&["verify", text(&journal), "--archive", text(&folder)]);
    assert_eq!(status(&through), 1);
    assert!(out(&through).contains(&format!("{name} is not there")), "{}", out(&through));
    let verified = semj(&["verify", &url]);
    assert!(status(&verified) == 1 && out(&verified).contains("DAMAGED"), "{}", out(&verified));
    // What can't be had is said by name; the rest is there.
    let gone = semj(&["export", &url]);
    assert_eq!(status(&gone), 3);
    assert!(err(&gone).contains(&format!("{name} is not there")), "{}", err(&gone));
    assert_eq!(status(&semj(&["get", "37", &url])), 0);
    let followed = semj(&["cat", &url, "--follow"]);
    assert!(status(&followed) == 1 && err(&followed).contains("followed"), "{}", err(&followed));
    let nowhere = semj(&["cat", &format!("{url}-nowhere")]);
    assert!(status(&nowhere) == 1 && err(&nowhere).contains("no such folder"), "{}", err(&nowhere));
    assert!(!dir.path().join("archive-nowhere").exists(), "a command that reads makes nothing");
    // Retired without having been archived: told, and no fault.
    let (_late, journal) = segmented(4);
    assert_eq!(status(&semj(&["retain", text(&journal), "--max-segments", "2"])), 0);
    let url = format!("file://{}/late", text(dir.path()));
    assert_eq!(status(&semj(&["archive", "push", text(&journal), &url])), 0);
    let through = semj(&["verify", text(&journal), "--archive", &url]);
    assert_eq!(status(&through), 0, "{}{}", out(&through), err(&through));
    assert!(out(&through).contains("retired by policy, not archived"), "{}", out(&through));
    let other = segmented(2);
    let stranger = semj(&["verify", text(&other.1), "--archive", text(&folder)]);
    assert_eq!(status(&stranger), 1, "{}", out(&stranger));
}

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
fn a_compressed_segment_is_imported_like_any_other_and_a_line_that_is_no_event_is_passed_over() {
    let (dir, journal) = segmented(3);
    let before = semj(&["export", text(&journal)]).stdout;
    let native = segment(&journal);
    let [plain, packed, long] = ["plain", "packed", "long"].map(|name| dir.path().join(name));
    assert_eq!(status(&semj(&["import", text(&native), "-j", text(&plain)])), 0);
    assert_eq!(status(&semj(&["compact", text(&journal)])), 0);
    let done = semj(&["import", text(&native), "-j", text(&packed)]);
    assert_eq!(status(&done), 0, "{}", err(&done));
    let exported = semj(&["export", text(&packed)]).stdout;
    assert!(!exported.is_empty() && before.starts_with(&exported));
    assert_eq!(semj(&["export", text(&plain)]).stdout, exported);

    let event = r#"{"event_type":"SystemSync","ktime_ns":1}"#;
    let input = format!("{event}\n{{\"payload\":\"{}\"}}\n{event}\n", "x".repeat(5 << 20));
    // From a file: who refuses it does not read all of it.
    let file = dir.path().join("long.jsonl");
    fs::write(&file, &input).unwrap();
    let refused = semj(&["import", text(&file), "-j", text(&long)]);
    assert!(status(&refused) == 1 && err(&refused).contains(":2: the line is longer"), "{}", err(&refused));
    let done = with_input(&["import", "-", "-j", text(&long), "--skip-bad", "--json"], input.as_bytes());
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((status(&done), &said["events"], &said["skipped"]), (3, &2.into(), &1.into()));
}

#[test]
fn a_file_that_is_exported_to_has_its_name_when_it_is_complete() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, journal) = segmented(2);
    let file = dir.path().join("events.jsonl");
    fs::write(&file, "what was there").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(status(&semj(&["export", text(&journal), "-o", text(&file)])), 0);
    assert_eq!(fs::read(&file).unwrap(), semj(&["export", text(&journal)]).stdout);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    // None of the journal's own files, whatever it is called.
    let refused = semj(&["export", text(&journal), "-o", text(&segment(&journal))]);
    assert!(status(&refused) == 1 && err(&refused).contains("own files"), "{}", err(&refused));
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
    // A pipe is written to, and is no file to be replaced.
    let done = semj(&["export", text(&journal), "-o", "/dev/stdout"]);
    assert!(status(&done) == 0 && done.stdout == fs::read(&file).unwrap(), "{}", err(&done));
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 2, "nothing else is left");
}

#[test]
fn the_sidecars_of_a_journal_that_was_closed_are_right() {
    let (_dir, journal) = segmented(3);
    let verified = semj(&["index", "verify", text(&journal)]);
    assert!(status(&verified) == 0 && out(&verified).contains("due"), "{}", out(&verified));
    fs::remove_file(segment(&journal).with_extension("idx")).unwrap();
    assert_eq!(status(&semj(&["index", "verify", text(&journal)])), 1);
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

#[test]
fn of_an_archive_everything_is_shown_that_can_be_read_and_the_rest_is_said() {
    let (dir, journal) = segmented(4);
    let folder = dir.path().join("archive");
    assert_eq!(status(&semj(&["archive", "push", text(&journal), text(&folder)])), 0);
    let url = format!("file://{}", folder.display());
    let mut objects: Vec<_> =
        fs::read_dir(folder.join("segments")).unwrap().map(|e| e.unwrap().path()).collect();
    objects.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    objects.sort();
    let mut bytes = fs::read(&objects[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&objects[1], bytes).unwrap();
    for _ in ["damaged", "missing"] {
        for args in [["cat", "--json"], ["export", "--json"]] {
            let shown = semj(&[&args[..], &[&*url]].concat());
            assert_eq!((status(&shown), lines(&shown.stdout).len()), (3, 30), "{args:?}: {}", err(&shown));
            assert!(err(&shown).contains("0000000002-"), "{}", err(&shown));
        }
        let stats = semj(&["stats", &url]);
        assert!(status(&stats) == 3 && out(&stats).contains("30  events"), "{}", out(&stats));
        drop(fs::remove_file(&objects[1]));
    }
}

#[test]
fn a_journal_whose_groups_are_ordered_by_priority_is_exported_as_it_can_be_imported() {
    use semj::{Event, EventType, GroupOrder, Journal, Options, Priority};
    let (dir, journal) = place();
    let options = Options { group_order: GroupOrder::Priority, ..Options::default() };
    let writer = Journal::open(&journal, options).unwrap();
    let priorities = [Priority::LOW, Priority::CRITICAL, Priority::BACKGROUND, Priority::NORMAL];
    for n in 0..400 {
        writer.emit(&Event::new(EventType::SYSTEM_SYNC).priority(priorities[n % 4])).unwrap();
        if n % 100 == 99 {
            writer.sync().unwrap();
        }
    }
    writer.close().unwrap();
    let exported = semj(&["export", text(&journal)]).stdout;
    let ids: Vec<_> = lines(&exported).iter().map(|event| event["event_id"].as_u64().unwrap()).collect();
    assert!(ids.iter().copied().eq(1..=400), "{ids:?}");
    let kernel = dir.path().join("kernel");
    assert_eq!(status(&semj(&["export", text(&journal), "--format", "kernel", "-o", text(&kernel)])), 0);
    for (from, input) in [("-", &exported[..]), (text(&kernel), b"")] {
        let back = dir.path().join(format!("back-{}", input.len()));
        let done = with_input(&["import", from, "-j", text(&back)], input);
        assert_eq!(status(&done), 0, "{from}: {}", err(&done));
        assert_eq!(semj(&["export", text(&back)]).stdout, exported);
    }
}
