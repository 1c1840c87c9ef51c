//! What shows events: `semj cat`, `get`, `chain`, `explain`, `stats`, `inspect`.

use std::fs;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::support::{
    TRACE, command, err, lines, out, packed, place, related, segment, segmented, semj, small, status, text,
    with_input, with_memory,
};

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

#[test]
fn lines_for_people_begin_with_the_date() {
    use std::io::{BufRead, BufReader};
    let (_dir, path) = place();
    let now = || jiff::Timestamp::now();
    let before = now();
    let journal = semj::Journal::open(&path, semj::Options::default()).unwrap();
    let mut happened = Vec::new();
    for _ in 0..3 {
        // Each in a segment of its own, with clocks of its own.
        let earliest = now();
        journal.emit(&semj::Event::new("SystemSync".parse().unwrap())).unwrap();
        happened.push((earliest, now()));
        journal.rotate().unwrap();
    }
    let date = |line: &str| line.split(' ').next().unwrap().parse::<jiff::Timestamp>().unwrap();
    // The two clocks are read one after the other, and the date is cut to the microsecond.
    let slack = jiff::SignedDuration::from_millis(50);
    let shown_right = |lines: &[&str]| {
        assert_eq!(lines.len(), 3, "{lines:?}");
        for (line, (earliest, latest)) in lines.iter().zip(&happened) {
            let date = date(line);
            assert!(date > *earliest - slack && date < *latest + slack, "{line}: {earliest} to {latest}");
        }
    };
    let cat = out(&semj(&["cat", text(&path)]));
    shown_right(&cat.lines().collect::<Vec<_>>());
    let mut child = command(&["cat", text(&path), "--follow"]).stdout(Stdio::piped()).spawn().unwrap();
    let followed: Vec<_> =
        BufReader::new(child.stdout.take().unwrap()).lines().take(3).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(followed, cat.lines().collect::<Vec<_>>());
    let chains: Vec<_> = ["1", "2", "3"].map(|id| out(&semj(&["chain", id, text(&path)]))).into();
    shown_right(&chains.iter().map(String::as_str).collect::<Vec<_>>());
    let control = out(&semj(&["cat", text(&path), "--control"]));
    assert!(
        control.lines().all(|line| date(line) > before - slack && date(line) < now() + slack),
        "{control}"
    );
    // What is for programs has the fields that can be imported, and no others.
    let json = semj(&["cat", text(&path), "--json"]).stdout;
    assert_eq!(json, semj(&["export", text(&path)]).stdout);
}

#[test]
fn cat_and_explain_take_the_same_conditions() {
    let (_dir, journal) = related();
    assert_eq!(status(&semj(&["index", "rebuild", text(&journal)])), 0);
    for (args, expected) in [
        (&["--type", "FilesystemWrite", "--type", "0x0503"][..], &[3u64, 5][..]),
        (&["--types", "filesystemwrite,SYSTEMSYNC"], &[3, 5]),
        (&["--path", "/project/src"], &[2, 3]),
        (&["--path", "*.md"], &[4]),
        (&["--agent", "planner"], &[1]),
        (&["--tx", "9"], &[1, 2]),
        (&["--inode", "7", "--pid", "5"], &[2, 3]),
        (&["--priority", "critical"], &[1]),
        (&["--contains", "--release"], &[1]),
        (&["--contains", "planner"], &[]),
        (&["--contains", "why", "--control", "--reverse"], &[1]),
        (&["--since", "2000", "--until", "4000"], &[2, 3, 4]),
        (&["--since", "2030-01-01T00:00:00Z"], &[]),
        (&["--since", "2030-01-01"], &[]),
        (&["--until", "2030-01-01 12:00", "--id", "2"], &[2]),
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
    for wrong in [["--type", "Nonsense"], ["--since", "soon"], ["--path", "/a[b"], ["--priority", "x"]] {
        assert_eq!(status(&semj(&[&["cat", text(&journal)][..], &wrong].concat())), 2, "{wrong:?}");
    }
}

#[test]
fn explain_sums_up_the_segments_and_has_no_more_than_one_of_them_in_memory() {
    use semj::{EventType, OpenMode, Query, Reader};
    let (_dir, journal) = packed();
    let all = Query::new;
    for (args, query) in [
        (&[][..], all()),
        (&["--id", "100..300"], all().ids(100..=300)),
        (&["--id", "100..300", "-n", "70"], all().ids(100..=300).limit(70)),
        (&["-r", "-n", "100"], all().reverse().limit(100)),
        (&["-n", "0"], all().limit(0)),
        (&["--type", "SystemSync"], all().types([EventType::SYSTEM_SYNC])),
        (&["--control"], all().control()),
    ] {
        let output =
            with_memory(32, &[&["explain", text(&journal), "--json"][..], args].concat()).output().unwrap();
        assert_eq!(status(&output), 0, "{args:?}: {}", err(&output));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = Reader::open_newest(&journal, OpenMode::Strict).unwrap().explain(&query).unwrap();
        for (name, tally) in
            [("segments", expected.segments), ("blocks", expected.blocks), ("bytes", expected.bytes)]
        {
            let said = &said[name];
            let skipped: u64 = said["skipped"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
            assert_eq!(said["total"], tally.total, "{args:?}: {name}");
            assert_eq!(said["looked_at"], tally.looked_at, "{args:?}: {name}");
            assert_eq!(skipped, tally.skipped(), "{args:?}: {name}");
        }
        assert_eq!(said["records"], expected.records, "{args:?}");
        assert_eq!(said["contexts"], expected.contexts, "{args:?}");
        assert_eq!(said["matches"], expected.matches, "{args:?}");
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
fn a_chain_has_all_causes_and_each_effect_stands_below_what_it_followed_from() {
    let (_dir, journal) = place();
    // 3 and 10 follow from 2; 4 and 5 follow from 3 only.
    let input = br#"{"event_type":"AgentDecision","ktime_ns":1,"event_id":1}
{"event_type":"SystemSync","ktime_ns":2,"event_id":2,"parent_event_id":1}
{"event_type":"SystemSync","ktime_ns":3,"event_id":3,"parent_event_id":2}
{"event_type":"SystemSync","ktime_ns":4,"event_id":4,"parent_event_id":3}
{"event_type":"SystemSync","ktime_ns":5,"event_id":5,"causality_links":[{"cause_event_id":3,"effect_event_id":5}]}
{"event_type":"SystemSync","ktime_ns":6,"event_id":10,"parent_event_id":2}
{"event_type":"SystemSync","ktime_ns":7,"event_id":11,"parent_event_id":4,"causality_links":[{"cause_event_id":10,"effect_event_id":11},{"cause_event_id":77,"effect_event_id":11}]}
"#;
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], input)), 0);
    let ids = |lines: &str| -> Vec<(usize, u64)> {
        let of_line = |line: &str| {
            let (before, rest) = line.split_once(['\u{2193}', '\u{2022}', '\u{2514}']).unwrap();
            (
                before[27..].trim_end_matches('\n').len(),
                rest.split_whitespace().next().unwrap().parse().unwrap(),
            )
        };
        lines.lines().map(of_line).collect()
    };
    let shown = semj(&["chain", "1", text(&journal)]);
    let shown_ids = ids(&out(&shown));
    assert_eq!(shown_ids.iter().map(|(_, id)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 10, 11]);
    let depth_of = |wanted| shown_ids.iter().find(|(_, id)| *id == wanted).unwrap().0;
    assert!(depth_of(3) == depth_of(10) && depth_of(4) == depth_of(5) && depth_of(4) > depth_of(10));
    // Both ways that lead to it, and the cause that is not there.
    let shown = semj(&["chain", "11", text(&journal)]);
    assert_eq!(ids(&out(&shown)).iter().map(|(_, id)| *id).collect::<Vec<_>>(), [1, 2, 3, 4, 10, 11]);
    assert!(status(&shown) == 3 && err(&shown).contains("event 77 is named"), "{}", err(&shown));
    assert_eq!(status(&semj(&["chain", "11", text(&journal), "-n", "2"])), 3);
}

#[test]
fn however_long_a_chain_is_its_lines_are_not() {
    let (_dir, journal) = place();
    let line = |id: u64| {
        let cause = id - 1;
        format!("{{\"event_type\":\"SystemSync\",\"ktime_ns\":{id},\"parent_event_id\":{cause}}}\n")
    };
    let input: String = (1..=200).map(line).collect();
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], input.as_bytes())), 0);
    let chain = semj(&["chain", "1", text(&journal)]);
    let shown = out(&chain);
    let blanks = |line: &str| line.split_once("Z  ").unwrap().1.chars().take_while(|c| *c == ' ').count();
    assert_eq!((status(&chain), shown.lines().count()), (0, 200));
    let blanks: Vec<_> = shown.lines().map(blanks).collect();
    assert_eq!((blanks[0], blanks[1], blanks[10], blanks[199]), (0, 2, 20, 128));
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
fn a_limit_is_kept_where_damage_is_found_on_the_way() {
    let (_dir, journal) = place();
    let line = "{\"event_type\":\"SystemSync\",\"ktime_ns\":1}\n";
    // A journal that was closed is opened without a look at all of it, so that damage is met while events are printed.
    for _ in 0..2 {
        assert_eq!(
            status(&with_input(&["import", "-", "-j", text(&journal)], line.repeat(300).as_bytes())),
            0
        );
    }
    let path = segment(&journal);
    let mut bytes = fs::read(&path).unwrap();
    let commits: Vec<_> = semj::format::Records::new(&bytes, 52)
        .map_while(Result::ok)
        .filter(|(_, record)| record.event_type() == semj::EventType::JOURNAL_COMMIT)
        .map(|(at, _)| at)
        .collect();
    bytes[commits[1] + 140] ^= 1;
    fs::write(path, bytes).unwrap();
    for args in [&["-n", "301"][..], &["--reverse", "-n", "301"], &["-n", "10"]] {
        let shown = semj(&[&["cat", text(&journal), "--json"], args].concat());
        let most = args.last().unwrap().parse().unwrap();
        let count = lines(&shown.stdout).len();
        assert!(count <= most && count > 0, "{args:?}: {count}");
    }
}

#[test]
fn an_effect_that_is_not_there_is_no_end_of_the_chain() {
    let (_dir, journal) = place();
    let input = br#"{"event_type":"AgentDecision","ktime_ns":1,"event_id":1}
{"event_type":"SystemSync","ktime_ns":2,"event_id":2,"causality_links":[{"cause_event_id":1,"effect_event_id":7}]}
{"event_type":"SystemSync","ktime_ns":3,"event_id":3,"parent_event_id":7}
"#;
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], input)), 0);
    let shown = semj(&["chain", "1", text(&journal), "--json", "--limit", "1"]);
    let ids: Vec<_> = lines(&shown.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect();
    assert_eq!((ids, status(&shown)), (vec![1, 3], 0), "{}", err(&shown));
}

#[test]
fn the_last_events_are_shown_in_their_order() {
    let (_dir, journal) = segmented(3);
    let ids = |args: &[&str]| -> Vec<u64> {
        let output = semj(&[&["cat", text(&journal), "--json"], args].concat());
        assert_eq!(status(&output), 0, "{}", err(&output));
        lines(&output.stdout).iter().map(|line| line["event_id"].as_u64().unwrap()).collect()
    };
    let all = ids(&[]);
    for count in [0, 1, 15, all.len(), all.len() + 1] {
        let last = &all[all.len().saturating_sub(count)..];
        assert_eq!(ids(&["--tail", &count.to_string()]), last, "{count}");
    }
    assert_eq!(ids(&["--tail", "3", "--id", "..12"]), [10, 11, 12]);
    assert_eq!(status(&semj(&["cat", text(&journal), "--tail", "3", "--limit", "3"])), 2);
}

#[test]
fn stats_says_from_when_to_when_and_its_columns_stand_below_each_other() {
    let (_dir, journal) = place();
    let input = br#"{"event_type":"SystemSync","wall_clock_ns":1700000000000000000}
{"event_type":11259375,"wall_clock_ns":1700000001500000000}
"#;
    assert_eq!(status(&with_input(&["import", "-", "-j", text(&journal)], input)), 0);
    let shown = out(&semj(&["stats", text(&journal)]));
    let span = "       1.500  seconds from first to last, 2023-11-14T22:13:20.000000Z to 2023-11-14T22:13:21.500000Z";
    assert!(shown.lines().any(|line| line == span), "{shown}");
    let types: Vec<_> = shown.lines().take(2).collect();
    assert!(types.iter().any(|line| line.contains("0xabcdef ")), "{shown}");
    assert_eq!(types[0].len(), types[1].len(), "{shown}");
    let value: Value = serde_json::from_slice(&semj(&["stats", text(&journal), "--json"]).stdout).unwrap();
    assert_eq!(value["last_wall_clock_ns"], 1_700_000_001_500_000_000i64);
}
