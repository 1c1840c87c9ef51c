//! `semj repair`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    TRACE, damage, err, lines, out, packed, place, segment, segmented, semj, small, status, text, with_input,
};

/// The files of a directory and of those in it, with what is in them; but not LOCK, which says who had it last.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(self::files(&path).into_iter().map(|(of, bytes)| (format!("{name}/{of}"), bytes)));
        } else if name != "LOCK" {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

fn second(journal: &Path) -> PathBuf {
    journal.join(files(journal).into_keys().filter(|name| name.ends_with(".semj")).nth(1).unwrap())
}

fn newest(journal: &Path) -> PathBuf {
    journal.join(files(journal).into_keys().rfind(|name| name.ends_with(".semj")).unwrap())
}

fn ids(journal: &Path) -> Vec<u64> {
    let exported = semj(&["export", text(journal)]).stdout;
    lines(&exported).iter().map(|line| line["event_id"].as_u64().unwrap()).collect()
}

#[test]
fn a_journal_that_is_whole_is_not_touched() {
    let (_dir, journal) = segmented(3);
    let before = files(&journal);
    for args in [&["repair", text(&journal)][..], &["repair", "--point-in-time", text(&journal)]] {
        let output = semj(args);
        assert_eq!(status(&output), 0, "{}", err(&output));
        assert!(out(&output).contains("30 events, nothing to repair"), "{}", out(&output));
    }
    let said: Value = serde_json::from_slice(&semj(&["repair", "--json", text(&journal)]).stdout).unwrap();
    assert_eq!((&said["was_whole"], &said["is_repaired"]), (&true.into(), &false.into()));
    assert!(files(&journal) == before);
}

#[test]
fn what_proves_itself_is_kept_and_what_is_lost_is_said_and_recorded() {
    let (_dir, journal) = small();
    damage(&journal);
    let verified = semj(&["verify", text(&journal)]);
    assert!(out(&verified).contains("semj repair"), "{}", out(&verified));
    let before = files(&journal);
    let planned = semj(&["repair", "--dry-run", text(&journal)]);
    assert_eq!(status(&planned), 3);
    assert!(files(&journal) == before, "a dry run changes nothing");
    let done = semj(&["repair", text(&journal)]);
    assert_eq!(status(&done), 3, "{}", err(&done));
    for output in [out(&planned), out(&done)] {
        assert!(output.contains("kept but for") && output.contains("2 events in 1 segment kept"), "{output}");
    }
    assert!(out(&planned).contains("not repaired yet") && out(&done).contains(": repaired:"));

    assert_eq!(ids(&journal), [1, 3]);
    let verified = semj(&["verify", text(&journal)]);
    assert_eq!(status(&verified), 0);
    assert!(out(&verified).contains("whole but for known damage"), "{}", out(&verified));
    // Nothing that is on record is lost once more, and events can come in again.
    let again = semj(&["repair", text(&journal)]);
    assert!(status(&again) == 0 && out(&again).contains("nothing to repair"), "{}", out(&again));
    let import = with_input(
        &["import", "-", "-j", text(&journal)],
        b"{\"event_type\":\"SystemSync\",\"ktime_ns\":9}\n",
    );
    assert_eq!(status(&import), 0, "{}", err(&import));
    assert_eq!(ids(&journal), [1, 3, 4]);
}

#[test]
fn who_can_not_write_to_a_damaged_journal_is_told_of_it() {
    let (_dir, journal) = small();
    damage(&journal);
    let import = with_input(&["import", "-", "-j", text(&journal)], b"");
    assert!(status(&import) == 1 && err(&import).contains("semj repair"), "{}", err(&import));
}

#[test]
fn a_point_in_time_has_nothing_behind_the_first_damage() {
    let (_dir, journal) = segmented(3);
    let path = second(&journal);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).rposition(|window| window == br#"{"i":1}"#).unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = semj(&["repair", "--point-in-time", "--json", text(&journal)]);
    assert_eq!(status(&output), 3, "{}", err(&output));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["mode"], "point_in_time");
    assert_eq!((&said["is_repaired"], &said["events"]), (&true.into(), &10.into()));
    assert_eq!(said["quarantined"].as_array().unwrap().len(), 1, "{said}");
    assert!(said["bytes_lost"].as_u64().unwrap() > 0);
    assert_eq!(ids(&journal), (1..=10).collect::<Vec<_>>());
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
    // Nothing is gone of what was there.
    let quarantined: Vec<_> =
        files(&journal).into_keys().filter(|name| name.starts_with("quarantine/")).collect();
    assert_eq!(quarantined.len(), 2);
    // Of the piece that was cut off there are the events that are not damaged, and of the whole segment all.
    let counts = quarantined.iter().map(|name| ids(&journal.join(name)).len());
    assert_eq!(counts.collect::<Vec<_>>(), [9, 10], "{quarantined:?}");
}

#[test]
fn a_compressed_segment_whose_index_is_damaged_is_restored_and_nothing_is_lost() {
    let (_dir, journal) = packed();
    let before = ids(&journal);
    let path = segment(&journal);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 296 - 5;
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    // A point in time has nothing to leave out either.
    for mode in [&[][..], &["--point-in-time"]] {
        let planned = semj(&[&["repair", "--dry-run", text(&journal)], mode].concat());
        assert_eq!(status(&planned), 0, "{}", out(&planned));
    }
    let planned = semj(&["repair", "--dry-run", text(&journal)]);
    assert!(status(&planned) == 0 && out(&planned).contains("nothing of it is lost"), "{}", out(&planned));
    let output = semj(&["repair", text(&journal)]);
    assert_eq!(status(&output), 0, "{}", err(&output));
    assert!(ids(&journal) == before);
    let verified = semj(&["verify", text(&journal)]);
    assert!(status(&verified) == 0 && !out(&verified).contains("known damage"), "{}", out(&verified));
    assert!(
        files(&journal).into_iter().any(|(name, found)| name.starts_with("quarantine/") && found == bytes)
    );
}

#[test]
fn a_segment_that_is_missing_is_said_to_be_lost_and_the_others_are_kept() {
    let (_dir, journal) = segmented(3);
    fs::remove_file(second(&journal)).unwrap();
    fs::write(journal.join(semj::UNRETIRED), b"").unwrap();
    for args in [&["repair", text(&journal)][..], &["repair", "--dry-run", text(&journal)]] {
        let refused = semj(args);
        assert!(status(&refused) == 1 && err(&refused).contains("for reading only"), "{}", err(&refused));
    }
    fs::remove_file(journal.join(semj::UNRETIRED)).unwrap();
    let output = semj(&["repair", text(&journal)]);
    assert_eq!(status(&output), 3, "{}", err(&output));
    assert!(
        out(&output).contains("segment 2: lost") && !out(&output).contains(" 0 B lost"),
        "{}",
        out(&output)
    );
    assert_eq!(ids(&journal), (1..=10).chain(21..=30).collect::<Vec<_>>());
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
    // What is left when there is none is refused, and said.
    let (_dir, journal) = segmented(1);
    fs::remove_file(segment(&journal)).unwrap();
    let output = semj(&["repair", text(&journal)]);
    assert!(status(&output) == 1 && err(&output).contains("gone"), "{}", err(&output));
}

#[test]
fn an_end_that_is_not_there_is_lost_and_said_to_be() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 3] = [
        ("no newest segment", |newest| fs::remove_file(newest).unwrap()),
        ("zeros", |newest| {
            let mut bytes = fs::read(newest).unwrap();
            let at = bytes.windows(7).position(|window| window == br#"{"i":2}"#).unwrap() - 150;
            bytes[at..].fill(0);
            fs::write(newest, bytes).unwrap();
        }),
        ("a truncated file", |newest| {
            let bytes = fs::read(newest).unwrap();
            let at = bytes.windows(7).position(|window| window == br#"{"i":2}"#).unwrap();
            fs::write(newest, &bytes[..at]).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let (_dir, journal) = segmented(3);
        damage(&newest(&journal));
        let planned = semj(&["repair", "--dry-run", text(&journal)]);
        let done = semj(&["repair", text(&journal)]);
        for output in [&planned, &done] {
            assert_eq!(status(output), 3, "{what}: {}{}", out(output), err(output));
            assert!(!out(output).contains("nothing of it is lost"), "{what}: {}", out(output));
            assert!(!out(output).contains(" 0 B lost"), "{what}: {}", out(output));
            assert!(out(output).lines().count() > 1, "{what}: it says which: {}", out(output));
        }
        assert_eq!(ids(&journal), (1..=20).collect::<Vec<_>>(), "{what}");
        assert_eq!(status(&semj(&["verify", text(&journal)])), 0, "{what}");
    }
}

#[test]
fn damage_that_is_on_record_is_not_lost_once_more() {
    let (_dir, journal) = place();
    assert_eq!(status(&semj(&["import", TRACE, "-j", text(&journal)])), 0);
    let hit = |at: usize| {
        let path = segment(&journal);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
    };
    let repaired = || {
        let output = semj(&["repair", "--json", text(&journal)]);
        assert_eq!(status(&output), 3, "{}", err(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    hit(300_000);
    let first = repaired();
    assert_eq!(first["findings"].as_array().unwrap().len(), 1, "{first}");
    assert_eq!((&first["is_whole"], &first["is_repaired"]), (&true.into(), &true.into()));
    hit(900_000);
    let second = repaired();
    assert_eq!(second["findings"].as_array().unwrap().len(), 1, "{}", second["findings"]);
}

#[test]
fn a_segment_that_has_no_place_any_more_is_in_quarantine() {
    let (_dir, journal) = segmented(3);
    let path = second(&journal);
    let mut bytes = fs::read(&path).unwrap();
    bytes[60] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let output = semj(&["repair", text(&journal)]);
    assert_eq!(status(&output), 3, "{}", err(&output));
    assert!(out(&output).contains("to quarantine"), "{}", out(&output));
    assert_eq!(ids(&journal), (1..=10).chain(21..=30).collect::<Vec<_>>());
    assert_eq!(status(&semj(&["verify", text(&journal)])), 0);
    assert!(
        files(&journal).into_iter().any(|(name, found)| name.starts_with("quarantine/") && found == bytes)
    );
}

#[test]
fn a_journal_that_is_in_use_or_of_a_later_version_is_refused_and_left_as_it_is() {
    let (_dir, journal) = small();
    let writer = semj::Journal::open(&journal, semj::Options::default()).unwrap();
    damage(&journal);
    let output = semj(&["repair", text(&journal)]);
    assert_eq!(status(&output), 1);
    assert!(err(&output).contains(&std::process::id().to_string()), "who has it: {}", err(&output));
    writer.close().unwrap();

    let (_dir, journal) = small();
    let path = segment(&journal);
    let mut bytes = fs::read(&path).unwrap();
    let mut header = semj::format::JournalHeader::parse(&bytes).unwrap();
    header.version_major = 2;
    header.checksum = header.computed_checksum();
    bytes[..52].copy_from_slice(&header.encode());
    fs::write(&path, &bytes).unwrap();
    let before = files(&journal);
    for args in [&["repair", text(&journal)][..], &["repair", "--dry-run", text(&journal)]] {
        let output = semj(args);
        assert_eq!(status(&output), 1, "{}", out(&output));
        assert!(err(&output).contains("version"), "{}", err(&output));
    }
    assert!(files(&journal) == before);
    assert_eq!(status(&semj(&["repair", "/nowhere/at-all"])), 1);
}

#[test]
fn of_a_file_in_which_nothing_proves_itself_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.semj");
    for bytes in [&b""[..], b"no journal", &[0; 5000]] {
        fs::write(&file, bytes).unwrap();
        for args in [&["cat", text(&file)][..], &["export", text(&file)], &["get", "1", text(&file)]] {
            let output = semj(args);
            assert_eq!((status(&output), out(&output).len()), (1, 0), "{args:?}");
            assert!(err(&output).contains("notes.semj: what the segment begins with"), "{}", err(&output));
        }
    }
}

#[test]
fn a_trace_with_a_hole_in_it_is_good_again_but_for_the_hole() {
    let (_dir, journal) = place();
    assert_eq!(status(&semj(&["import", TRACE, "-j", text(&journal)])), 0);
    let all = ids(&journal);
    let path = segment(&journal);
    let mut bytes = fs::read(&path).unwrap();
    bytes[400_000..404_096].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(status(&semj(&["repair", text(&journal)])), 3);
    let kept = ids(&journal);
    let lost = all.len() - kept.len();
    assert!(lost > 0 && lost < 40 && kept.is_sorted(), "{lost} events are lost with 4096 bytes");
}
