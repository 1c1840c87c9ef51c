//! `semj import`.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{
    TRACE, by_priority, command, contains, damage, err, lines, out, place, related, segment, segmented, semj,
    small, status, text, until_it_has_a_file_in, with_input,
};

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
fn a_segment_whose_groups_are_ordered_by_priority_is_imported_in_the_order_of_the_ids() {
    let (dir, journal) = by_priority();
    let exported = semj(&["export", text(&journal)]).stdout;
    for form in ["native", "compressed"] {
        let back = dir.path().join(form);
        let done = semj(&["import", text(&segment(&journal)), "-j", text(&back)]);
        assert_eq!(status(&done), 0, "{form}: {}", err(&done));
        assert_eq!(semj(&["export", text(&back)]).stdout, exported, "{form}");
        assert_eq!(status(&semj(&["compact", text(&journal)])), 0);
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
fn events_that_have_a_date_are_found_by_it() {
    let (dir, journal) = place();
    let line = |second: u64| {
        format!("{{\"event_type\":\"SystemSync\",\"wall_clock_ns\":{}}}\n", second * 1_000_000_000)
    };
    // Before this machine was started, and one that is to come; enough of them for several batches.
    let input: String = (0..3000).map(|n| line(1_700_000_000 + n)).chain([line(4_000_000_000)]).collect();
    let done = with_input(&["import", "-", "-j", text(&journal)], input.as_bytes());
    assert_eq!(status(&done), 0, "{}", err(&done));
    let shown = out(&semj(&["cat", text(&journal)]));
    assert!(shown.starts_with("2023-11-14T22:13:20.000000Z "), "{}", shown.lines().next().unwrap());
    assert!(shown.lines().last().unwrap().starts_with("2096-10-02T07:06:40.000000Z "));
    let between = ["--since", "2023-11-14T22:13:21Z", "--until", "2023-11-14T22:13:23Z"];
    let found = lines(&semj(&[&["cat", text(&journal), "--json"][..], &between].concat()).stdout);
    let ids: Vec<_> = found.iter().map(|event| event["event_id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [2, 3, 4]);
    // An export has their times, as of any other event.
    let exported = semj(&["export", text(&journal)]).stdout;
    assert!(lines(&exported).iter().all(|event| event["ktime_ns"].is_i64()));
    let back = dir.path().join("back");
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&back)], &exported)), 0);
    assert_eq!(semj(&["export", text(&back)]).stdout, exported);
    let both = b"{\"event_type\":1,\"ktime_ns\":1,\"wall_clock_ns\":1}\n";
    let refused = with_input(&["import", "-", "-j", text(&journal)], both);
    assert!(status(&refused) == 1 && err(&refused).contains("both ktime_ns"), "{}", err(&refused));
}

#[test]
fn events_keep_their_dates_in_another_journal_where_dates_were_exported() {
    let (dir, journal) = place();
    let input = br#"{"event_type":"AgentDecision","wall_clock_ns":1700000000123456789}
{"event_type":"SystemSync","wall_clock_ns":1700000001000000000,"parent_event_id":1}
{"event_type":"SystemSync","wall_clock_ns":-5,"parent_event_id":2}
"#;
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], input)), 0);
    let dated = semj(&["export", text(&journal), "--dates"]).stdout;
    assert_eq!(lines(&dated).len(), 3);
    for (exported, line) in lines(&dated).iter().zip(&lines(input)) {
        assert!(contains(exported, line) && exported["ktime_ns"].is_null(), "{exported}");
    }
    for args in [&["cat", "--json"][..], &["chain", "1", "--json"], &["export", "--id", "1.."]] {
        let shown = semj(&[args, &["--dates", "-j", text(&journal)]].concat());
        assert!(shown.stdout == dated, "{args:?}: {}{}", out(&shown), err(&shown));
    }
    for args in [&["get", "2", "--dates"][..], &["get", "2", "--dates", "--json"]] {
        let shown = semj(&[args, &["-j", text(&journal)]].concat());
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        assert_eq!(shown, lines(&dated)[1], "{args:?}");
    }
    let own = lines(&semj(&["cat", text(&journal), "--json", "--dates", "--control"]).stdout);
    assert!(own.iter().all(|record| record["wall_clock_ns"].is_i64() && record["ktime_ns"].is_null()));
    let back = dir.path().join("back");
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&back)], &dated)), 0);
    assert!(semj(&["export", text(&back), "--dates"]).stdout == dated);
    // Elsewhere they are dates anyway, or there are none.
    for wrong in
        [&["cat", "--dates"][..], &["chain", "1", "--dates"], &["export", "--dates", "--format", "kernel"]]
    {
        assert_eq!(status(&semj(&[wrong, &["-j", text(&journal)]].concat())), 2, "{wrong:?}");
    }
}

#[test]
fn the_lines_in_the_documentation_are_imported_and_it_has_every_field() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/json-lines.md")).unwrap();
    let (_, example) = page.split_once("```json\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let (_dir, journal) = place();
    let done = with_input(&["import", "-", "-j", text(&journal)], example.as_bytes());
    assert_eq!(status(&done), 0, "{}", err(&done));
    let exported = lines(&semj(&["export", text(&journal)]).stdout);
    for (exported, line) in exported.iter().zip(&lines(example.as_bytes())) {
        let mut line = line.clone();
        line.as_object_mut().unwrap().remove("wall_clock_ns");
        assert!(contains(exported, &line), "{line} came back as {exported}");
    }
    assert_eq!(exported.len(), example.lines().count());
    let trace = zstd::decode_all(fs::File::open(TRACE).unwrap()).unwrap();
    for event in exported.iter().chain(&lines(&trace)[..100]) {
        let fields = event.as_object().unwrap().iter();
        let inner =
            fields.clone().filter(|(name, _)| *name == "context").filter_map(|(_, value)| value.as_object());
        for (name, _) in fields.chain(inner.flatten()) {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }
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

#[test]
fn an_import_that_is_interrupted_leaves_nothing_but_the_journal() {
    let (dir, journal) = place();
    let temporary = dir.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let temporary = fs::canonicalize(temporary).unwrap();
    let mut import = command(&["import", "-", "-j", text(&journal)]);
    let mut child = import.env("TMPDIR", &temporary).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = b"\x4A\x4D\x45\x53".to_vec();
    input.resize(65 << 20, 0);
    child.stdin.as_mut().unwrap().write_all(&input).unwrap();
    until_it_has_a_file_in(&mut child, &temporary, &[]);
    // Where it has to have a name, it has it for some microseconds.
    std::thread::sleep(std::time::Duration::from_millis(100));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0);
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
fn what_comes_through_a_pipe_is_there_as_it_comes_and_a_signal_ends_the_input_and_keeps_it() {
    for signal in ["INT", "TERM"] {
        let (_dir, journal) = place();
        let mut import = command(&["import", "-", "-j", text(&journal)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = import.stdin.take().unwrap();
        // The last line has not come as a whole.
        input
            .write_all(
                b"{\"event_type\":\"FilesystemCreate\",\"ktime_ns\":1}\n{\"event_type\":\"FilesystemWrite\",",
            )
            .unwrap();
        let mut until = |count| {
            while lines(&semj(&["cat", text(&journal), "--json"]).stdout).len() < count {
                assert!(import.try_wait().unwrap().is_none(), "it has ended");
            }
        };
        until(1);
        input.write_all(b"\"ktime_ns\":2}\n{\"event_type\":\"Files").unwrap();
        until(2);
        let id = import.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &id]).status().unwrap().success());
        let output = import.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{signal}: {}", err(&output));
        assert!(err(&output).contains("ended by a signal"), "{}", err(&output));
        assert!(out(&output).contains("2  events, ids up to 2"), "{}", out(&output));
        drop(input);
        let verified = semj(&["verify", text(&journal)]);
        assert!(out(&verified).contains("whole, closed: 2 events"), "{}", out(&verified));
    }
}

#[test]
fn events_with_ids_that_the_journal_has_can_be_taken_in_as_new_ones_and_still_name_each_other() {
    let (_dir, journal) = related();
    let exported = semj(&["export", text(&journal)]).stdout;
    let again = with_input(&["import", "-", "-j", text(&journal)], &exported);
    assert_eq!(status(&again), 1, "{}", out(&again));
    assert!(err(&again).contains("--new-ids"), "{}", err(&again));
    let again = with_input(&["import", "-", "--new-ids", "-j", text(&journal)], &exported);
    assert_eq!(status(&again), 0, "{}", err(&again));
    let all = lines(&semj(&["export", text(&journal)]).stdout);
    let (old, new) = all.split_at(all.len() / 2);
    let count = old.len() as u64;
    assert!(count >= 5);
    let moved = |id: &Value| match id.as_u64() {
        None | Some(0) => id.clone(),
        Some(id) => (id + count).into(),
    };
    let links = |event: &Value, of: &dyn Fn(&Value) -> Value| -> Vec<(Value, Value)> {
        let links = event["causality_links"].as_array().cloned().unwrap_or_default();
        links.iter().map(|link| (of(&link["cause_event_id"]), of(&link["effect_event_id"]))).collect()
    };
    for (old, new) in old.iter().zip(new) {
        for field in ["event_id", "sequence", "global_sequence", "parent_event_id", "root_cause_event_id"] {
            assert_eq!(new[field], moved(&old[field]), "{field}: {new}");
        }
        for field in ["event_type", "ktime_ns", "context", "payload", "process_id"] {
            assert_eq!(new[field], old[field], "{field}");
        }
        assert_eq!(links(new, &Value::clone), links(old, &moved));
    }
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
}
