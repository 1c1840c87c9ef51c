//! `semj archive`, and what is read of an archive.

use std::fs;

use serde_json::Value;

use crate::support::{err, lines, out, segmented, semj, status, text, with_input};

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

#[cfg(feature = "archive")]
#[test]
fn who_names_an_archives_folder_is_told_how_it_is_read() {
    let (dir, journal) = segmented(1);
    let folder = dir.path().join("archive 100%");
    assert_eq!(status(&semj(&["archive", "push", text(&journal), text(&folder)])), 0);
    for command in [&["cat"][..], &["export"], &["verify"], &["stats"], &["get", "1"], &["cat", "--follow"]] {
        let said = semj(&[command, &[text(&folder)]].concat());
        let said = (status(&said), err(&said));
        assert!(said.0 == 1 && said.1.contains("no journal here"), "{command:?}: {}", said.1);
        let url = said.1.lines().find_map(|line| line.split_once("is read as ")).unwrap().1;
        assert_eq!(lines(&semj(&["cat", url, "--json"]).stdout).len(), 10, "{url}");
    }
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert_eq!(err(&semj(&["cat", text(&empty)])).lines().count(), 1);
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
        for args in [&["cat", "--json"][..], &["export", "--json"], &["export", "--json", "--id", "1.."]] {
            let shown = semj(&[args, &[&*url]].concat());
            assert_eq!((status(&shown), lines(&shown.stdout).len()), (3, 30), "{args:?}: {}", err(&shown));
            assert!(err(&shown).contains("0000000002-"), "{}", err(&shown));
        }
        let kernel = dir.path().join("kernel");
        let exported = semj(&["export", &url, "--id", "..35", "--format", "kernel", "-o", text(&kernel)]);
        assert_eq!(status(&exported), 3, "{}", err(&exported));
        assert!(out(&semj(&["verify", text(&kernel)])).contains("25 events"));
        let undamaged = semj(&["export", &url, "--id", "21..35"]);
        assert_eq!(
            (status(&undamaged), lines(&undamaged.stdout).len()),
            (status(&semj(&["cat", &url, "--id", "21..35"])), 15),
            "{}",
            err(&undamaged)
        );
        let stats = semj(&["stats", &url]);
        assert!(status(&stats) == 3 && out(&stats).contains("30  events"), "{}", out(&stats));
        drop(fs::remove_file(&objects[1]));
    }
}
