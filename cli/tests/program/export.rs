//! `semj export`.

use std::fs;

use serde_json::Value;

use crate::support::{
    by_priority, command, err, lines, packed, related, segment, segmented, semj, status, text,
    until_it_has_a_file_in, with_input, with_memory,
};

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
    // And so is standard output, which has a name of its own.
    let done =
        command(&["export", text(&journal), "-o", "-", "--json"]).current_dir(dir.path()).output().unwrap();
    assert!(status(&done) == 0 && done.stdout == fs::read(&file).unwrap(), "{}", err(&done));
    assert_eq!(serde_json::from_str::<Value>(&err(&done)).unwrap()["events"], 20);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(names.count(), 2, "nothing else is left");
}

#[test]
fn an_export_that_is_interrupted_leaves_nothing() {
    let (dir, journal) = packed();
    let dir = fs::canonicalize(dir.path()).unwrap();
    let names = || fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let file = dir.join("events.jsonl");
    for is_there in [false, true] {
        if is_there {
            fs::write(&file, "what was there").unwrap();
        }
        let before = names();
        let mut child = command(&["export", text(&journal), "-o", text(&file)]).spawn().unwrap();
        until_it_has_a_file_in(&mut child, &dir, &before);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was not interrupted");
        assert_eq!(names(), before);
    }
    assert_eq!(fs::read(&file).unwrap(), b"what was there");
}

#[test]
fn a_journal_whose_groups_are_ordered_by_priority_is_exported_as_it_can_be_imported() {
    let (dir, journal) = by_priority();
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

#[test]
fn what_meets_conditions_is_exported_as_cat_shows_it_in_every_form() {
    let (dir, journal) = related();
    for (args, count) in [
        (&["--type", "FilesystemWrite", "--type", "SystemSync"][..], 2),
        (&["--path", "/project/src"], 2),
        (&["--agent", "planner"], 1),
        (&["--tx", "9"], 2),
        (&["--inode", "7", "--pid", "5"], 2),
        (&["--priority", "critical"], 1),
        (&["--since", "2000", "--until", "4000"], 3),
        (&["--since", "2030-01-01T00:00:00Z"], 0),
        (&["--until", "2030-01-01T00:00:00Z"], 5),
        (&["--id", "2..4"], 3),
    ] {
        let shown = semj(&[&["cat", text(&journal), "--json"], args].concat()).stdout;
        assert_eq!(lines(&shown).len(), count, "{args:?}");
        let exported = semj(&[&["export", text(&journal)], args].concat());
        assert_eq!((status(&exported), err(&exported).as_str()), (0, ""), "{args:?}");
        assert!(exported.stdout == shown, "{args:?}");
        let [kernel, back] = ["kernel", "back"].map(|name| dir.path().join(name));
        let to_kernel = ["export", text(&journal), "--format", "kernel", "-o", text(&kernel)];
        let exported = semj(&[&to_kernel, args].concat());
        assert_eq!(status(&exported), 0, "{args:?}: {}", err(&exported));
        assert_eq!(status(&semj(&["verify", text(&kernel)])), 0, "{args:?}");
        let imported = semj(&["import", text(&kernel), "-j", text(&back)]);
        assert_eq!(status(&imported), 0, "{args:?}: {}", err(&imported));
        assert!(semj(&["export", text(&back)]).stdout == shown, "{args:?}");
        fs::remove_dir_all(back).unwrap();
    }
    // What has no condition to be exported by: how many, which first, and the journal's own records.
    for wrong in [&["-n", "1"][..], &["--reverse"], &["--control"], &["--type", "JournalSegmentSeal"]] {
        assert_eq!(status(&semj(&[&["export", text(&journal)], wrong].concat())), 2, "{wrong:?}");
    }
}

#[test]
fn what_meets_conditions_is_exported_in_the_order_of_the_ids() {
    let (dir, journal) = by_priority();
    let args = ["--priority", "high", "--id", "50..350"];
    let shown = semj(&[&["cat", text(&journal), "--json"][..], &args].concat()).stdout;
    let mut shown = lines(&shown);
    assert!(!shown.is_empty() && shown.len() < 300);
    shown.sort_by_key(|event| event["event_id"].as_u64());
    let exported = semj(&[&["export", text(&journal)][..], &args].concat()).stdout;
    assert_eq!(lines(&exported), shown);
    let back = dir.path().join("back");
    let done = with_input(&["import", "-", "-j", text(&back)], &exported);
    assert_eq!(status(&done), 0, "{}", err(&done));
}

#[test]
fn damage_elsewhere_does_not_matter_to_what_is_exported_and_damage_there_is_said() {
    let (dir, journal) = segmented(3);
    let first = segment(&journal);
    let mut bytes = fs::read(&first).unwrap();
    let at = bytes.windows(7).position(|window| window == br#"{"i":0}"#).unwrap();
    bytes[at + 5] = b'1';
    fs::write(&first, bytes).unwrap();
    let kernel = dir.path().join("kernel");
    for (ids, expected) in [("11..25", 0), ("..15", 3), ("2..", 3)] {
        let shown = semj(&["cat", text(&journal), "--json", "--id", ids]);
        let exported = semj(&["export", text(&journal), "--id", ids]);
        assert_eq!((status(&shown), status(&exported)), (expected, expected), "{ids}: {}", err(&exported));
        assert!(!exported.stdout.is_empty() && exported.stdout == shown.stdout, "{ids}");
        let args = ["export", text(&journal), "--id", ids, "--format", "kernel", "-o", text(&kernel)];
        let exported = semj(&args);
        assert_eq!(status(&exported), expected, "{ids}: {}", err(&exported));
        let verified = semj(&["verify", text(&kernel), "--json"]);
        let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(verified["events"], lines(&shown.stdout).len(), "{ids}");
    }
}

#[test]
fn of_what_meets_conditions_no_more_than_a_segment_is_in_memory() {
    let (_dir, journal) = packed();
    for format in ["jsonl", "kernel"] {
        let args = ["export", text(&journal), "--id", "10..700", "--format", format];
        let exported = with_memory(32, &args).output().unwrap();
        assert_eq!(status(&exported), 0, "{format}: {}", err(&exported));
        assert!(
            exported.stdout == semj(&args).stdout && exported.stdout.len() > 600 * (64 << 10),
            "{format}"
        );
    }
}
