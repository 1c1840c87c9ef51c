//! `semj export`.

use std::fs;

use crate::support::{
    by_priority, command, err, lines, packed, segment, segmented, semj, status, text, until_it_has_a_file_in,
    with_input,
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
