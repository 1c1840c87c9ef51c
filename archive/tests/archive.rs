//! What is pushed comes back as it was, from a local folder and from an S3 server.
//!
//! The server is moto (a Python package), started here on a free port; where it can't be, the test says so and ends.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fs;
#[cfg(feature = "cloud")]
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
#[cfg(feature = "cloud")]
use std::process::{Child, Command, Stdio};

use semj::{
    CommitOn, Event, EventType, Journal, OpenMode, Options, Reader, Retention, SidecarState, examine_journal,
    plan_retention,
};
use semj_archive::{Archive, Error, FetchOptions, Form, PushOptions};

fn small() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        let id = journal.stats().last_emitted_id + 1;
        let payload = format!("{{\"n\":{id}}}");
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload.as_bytes())).unwrap();
    }
}

/// A journal of so many segments of ten events that have ended, and three events in one that is written.
fn journal(dir: &Path, count: u64) -> Journal {
    let journal = Journal::open(dir, small()).unwrap();
    for _ in 0..count {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    emit(&journal, 3);
    journal.sync().unwrap();
    journal
}

/// All events of a journal, with every byte.
fn events(dir: &Path) -> Vec<Vec<u8>> {
    let reader = Reader::open(dir, OpenMode::Strict).unwrap();
    reader.iter(..).map(|record| record.unwrap().bytes().to_vec()).collect()
}

/// The same of an archive, where it is.
fn archived_events(archive: &Archive) -> Vec<Vec<u8>> {
    let reader = archive.reader().unwrap().reader;
    reader.iter(..).map(|record| record.unwrap().bytes().to_vec()).collect()
}

/// The segments in a folder.
fn objects(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths
}

/// Everything that must hold of any storage.
fn goes_there_and_back(url: &str, scratch: &Path) {
    let nothing = &mut |_| ();
    let (live, back) = (scratch.join("live"), scratch.join("back"));
    let archive = Archive::open(url).unwrap();
    assert!(archive.manifest().unwrap().is_none());
    assert!(matches!(archive.verify(nothing), Err(Error::None { .. })));

    let journal = journal(&live, 3);
    let pushed = archive.push(&live, PushOptions::default(), nothing).unwrap();
    assert_eq!((pushed.uploaded, pushed.known, pushed.events, pushed.generation), (3, 0, 30, 1));
    let again = archive.push(&live, PushOptions::default(), nothing).unwrap();
    assert_eq!((again.uploaded, again.known, again.generation), (0, 3, 1), "nothing is new");
    assert_eq!(archive.keeps_from(&live).unwrap(), Some(31));

    emit(&journal, 7);
    journal.rotate().unwrap();
    let whole = events(&live);
    let pushed = archive.push(&live, PushOptions { reads_back: false, codec: None }, nothing).unwrap();
    assert_eq!((pushed.uploaded, pushed.known, pushed.segments, pushed.generation), (1, 3, 4, 2));
    let verified = archive.verify(nothing).unwrap();
    assert!(verified.is_whole() && verified.begins_behind.is_none(), "{verified:?}");

    let fetched = archive.fetch(&back, &FetchOptions::default(), nothing).unwrap();
    assert_eq!((fetched.fetched, fetched.found, fetched.events), (4, 0, 40));
    assert_eq!(events(&back), whole);
    assert!(semj::verify_sidecars(&back).unwrap().iter().all(|report| report.state == SidecarState::Right));
    // Three are compressed, the last one is as it was.
    let forms = archive.existing_manifest().unwrap().segments.into_iter().map(|entry| entry.form);
    assert!(forms.eq([Form::Compressed, Form::Compressed, Form::Compressed, Form::Native]));
    assert_eq!(archived_events(&archive), whole);
    for id in [1, 25, 40] {
        let there = archive.reader().unwrap().reader;
        assert_eq!(there.get(id).unwrap().unwrap().bytes(), whole[id as usize - 1]);
    }
    assert!(archive.reader().unwrap().reader.get(99).unwrap().is_none());
    // Once more, with one that was lost and one that is half there.
    let names = objects(&back);
    fs::remove_file(&names[1]).unwrap();
    fs::write(&names[2], &fs::read(&names[2]).unwrap()[..500]).unwrap();
    let fetched = archive.fetch(&back, &FetchOptions::default(), nothing).unwrap();
    assert_eq!((fetched.fetched, fetched.found), (2, 2));
    assert_eq!(events(&back), whole);

    // What is archived may go, and the archive has it. The last segment with events stays, which is that of this one.
    emit(&journal, 1);
    journal.sync().unwrap();
    let keeps_from = archive.keeps_from(&live).unwrap();
    let retention = Retention { max_segments: Some(1), keeps_from, ..Retention::default() };
    assert_eq!(plan_retention(&live, &retention, None).unwrap().retiring.len(), 4);
    journal.retain(&retention).unwrap();
    emit(&journal, 5);
    journal.close().unwrap();
    let left = events(&live);
    archive.push(&live, PushOptions::default(), nothing).unwrap();
    assert!(archive.verify(nothing).unwrap().is_whole());
    let [kept, all] = ["kept", "all"].map(|name| scratch.join(name));
    archive.fetch(&kept, &FetchOptions::default(), nothing).unwrap();
    assert_eq!(events(&kept), left);
    let options = FetchOptions { with_retired: true, ..FetchOptions::default() };
    archive.fetch(&all, &options, nothing).unwrap();
    assert_eq!(events(&all), [whole, left.clone()].concat());
    assert_eq!(archived_events(&archive), events(&all));
    assert!(examine_journal(&all, OpenMode::Strict).unwrap().retired.is_none());
    // One can be gone on with, the other is for reading.
    let journal = Journal::open(&kept, small()).unwrap();
    emit(&journal, 1);
    drop(journal);
    assert!(matches!(Journal::open(&all, small()), Err(semj::Error::Unretired { .. })));
    let refused = archive.fetch(&kept, &FetchOptions::default(), nothing);
    assert!(matches!(refused, Err(Error::Journal(semj::Error::NotEmpty { .. }))));
    let some = FetchOptions { segments: Some(5..=u64::MAX), ..FetchOptions::default() };
    archive.fetch(&scratch.join("some"), &some, nothing).unwrap();
    assert_eq!(events(&scratch.join("some")), left);

    let other = scratch.join("other");
    drop(self::journal(&other, 1));
    assert!(matches!(archive.push(&other, PushOptions::default(), nothing), Err(Error::Other { .. })));
}

#[test]
fn a_journal_goes_into_a_folder_and_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("archive");
    goes_there_and_back(&format!("file://{}", folder.display()), dir.path());
    assert!(
        Archive::open(folder.to_str().unwrap()).unwrap().manifest().unwrap().is_some(),
        "a path is a URL"
    );
}

#[test]
fn an_upload_that_was_cut_short_is_taken_up_and_damage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let nothing = &mut |_| ();
    journal(&live, 3).close().unwrap();
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    archive.push(&live, PushOptions::default(), nothing).unwrap();
    // As if the push had ended before its manifest, and one upload in the middle.
    fs::remove_dir_all(folder.join("manifests")).unwrap();
    let segments = objects(&folder.join("segments"));
    fs::remove_file(&segments[3]).unwrap();
    let pushed = archive.push(&live, PushOptions::default(), nothing).unwrap();
    assert_eq!((pushed.uploaded, pushed.found, pushed.segments), (1, 3, 4));
    assert!(archive.verify(nothing).unwrap().is_whole());

    let right = fs::read(&segments[1]).unwrap();
    let mut damaged = right.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&segments[1], &damaged).unwrap();
    let report = archive.verify(nothing).unwrap();
    let faults: Vec<_> = report.findings.iter().map(|finding| finding.fault.is_some()).collect();
    assert_eq!(faults, [false, true, false, false], "{report:?}");
    let refused = archive.fetch(&dir.path().join("back"), &FetchOptions::default(), nothing);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    fs::remove_file(&segments[1]).unwrap();
    let report = archive.verify(nothing).unwrap();
    let object = &report.findings[1].entry.object;
    assert_eq!(report.findings[1].fault, Some(format!("{object} is not there")));
    // A right object in the place of another is not what the manifest speaks of.
    fs::copy(&segments[0], &segments[1]).unwrap();
    assert!(!archive.verify(nothing).unwrap().is_whole());
    fs::write(&segments[1], right).unwrap();
    assert!(archive.verify(nothing).unwrap().is_whole());
    let manifest = &fs::read_dir(folder.join("manifests")).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(manifest).unwrap();
    bytes[40] ^= 1;
    fs::write(manifest, bytes).unwrap();
    assert!(matches!(archive.verify(nothing), Err(Error::Damaged { .. })));
}

#[test]
fn a_segment_that_has_rotted_is_not_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    journal(&live, 2).close().unwrap();
    let path = fs::read_dir(&live).unwrap().map(|entry| entry.unwrap().path());
    let path = path.filter(|path| path.extension().is_some_and(|e| e == "semj")).min().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"{\"n\":5}").unwrap();
    bytes[at + 5] = b'6';
    fs::write(&path, bytes).unwrap();
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    let refused = archive.push(&live, PushOptions::default(), &mut |_| ());
    assert!(matches!(refused, Err(Error::Journal(semj::Error::Damaged { .. }))), "{refused:?}");
    assert!(archive.manifest().unwrap().is_none());
}

fn thin(journal: &Journal) {
    journal.thin(&[semj::ThinRule { keep_one_in: Some(3), ..Default::default() }]).unwrap();
}

#[test]
fn an_archive_of_a_journal_that_lacks_events_is_whole_if_a_record_says_so() {
    for codec in [None, PushOptions::default().codec] {
        let dir = tempfile::tempdir().unwrap();
        let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
        let nothing = &mut |_| ();
        let journal = journal(&live, 3);
        thin(&journal);
        let archive = Archive::open(folder.to_str().unwrap()).unwrap();
        archive.push(&live, PushOptions { codec, ..PushOptions::default() }, nothing).unwrap();
        // What says so stands in the segment that is written.
        let report = archive.verify(nothing).unwrap();
        assert!(report.is_whole() && report.unstated == [1, 2, 3], "{report:?}");
        let local = examine_journal(&live, OpenMode::Strict).unwrap();
        let report = archive.verify_journal(&live, &local, nothing).unwrap();
        assert!(report.is_whole() && report.archived.unstated.is_empty(), "{report:?}");
        journal.close().unwrap();
        archive.push(&live, PushOptions::default(), nothing).unwrap();
        let report = archive.verify(nothing).unwrap();
        assert!(report.is_whole() && report.unstated.is_empty(), "{report:?}");
        assert_eq!(archived_events(&archive), events(&live));
        // A part of it too, without what says so.
        let back = dir.path().join("back");
        let some = FetchOptions { segments: Some(1..=2), ..FetchOptions::default() };
        archive.fetch(&back, &some, nothing).unwrap();
        assert!(events(&live).starts_with(&events(&back)) && !events(&back).is_empty());
    }
}

/// A journal whose second segment has lost its end, and whose third one is lost, as a salvage has recorded.
fn damaged_journal(live: &Path) {
    let journal = journal(live, 4);
    journal.close().unwrap();
    let end = examine_journal(live, OpenMode::Strict).unwrap().segments[1].end as u64;
    let names = objects(live);
    fs::File::options().write(true).open(&names[1]).unwrap().set_len(end - 700).unwrap();
    let mut third = fs::read(&names[2]).unwrap();
    third[60] ^= 1;
    fs::write(&names[2], third).unwrap();
    let journal = Journal::open(live, Options { mode: OpenMode::Salvage, ..small() }).unwrap();
    emit(&journal, 5);
    journal.close().unwrap();
}

#[test]
fn known_damage_is_archived_and_proven_to_be_what_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let nothing = &mut |_| ();
    damaged_journal(&live);
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    let pushed = archive.push(&live, PushOptions::default(), nothing).unwrap();
    assert_eq!(pushed.segments, 5, "all but the one that is lost");
    assert!(archive.keeps_from(&live).unwrap().is_none());
    let report = archive.verify(nothing).unwrap();
    assert!(report.is_whole() && report.unstated.is_empty(), "{report:?}");
    assert_eq!(archived_events(&archive), events(&live));
    let back = dir.path().join("back");
    archive.fetch(&back, &FetchOptions::default(), nothing).unwrap();
    assert_eq!(events(&back), events(&live));

    // Who may write to the archive can't pass other events off as what is left of a damaged segment: here of one that is whole,
    // with a manifest that says that it is damaged.
    let mut manifest = archive.existing_manifest().unwrap();
    let entry = manifest.segments.last_mut().unwrap();
    let object = folder.join(&entry.object);
    let mut bytes = match entry.form {
        Form::Compressed => {
            let packed = fs::read(&object).unwrap();
            let layout = semj::blocks::Layout::parse(&packed).unwrap();
            layout.decompress(&packed, &mut semj::blocks::BlockDecoder::default()).unwrap()
        }
        Form::Native => fs::read(&object).unwrap(),
    };
    let at = bytes.windows(5).rposition(|window| window == b"{\"n\":").unwrap();
    bytes[at + 5] ^= 1;
    fs::write(&object, &bytes).unwrap();
    entry.sha256 = sha2_of(&bytes);
    (entry.size, entry.form, entry.has_known_damage) = (bytes.len() as u64, Form::Native, true);
    entry.header.clear();
    write_manifest(&folder, manifest);
    let report = archive.verify(nothing).unwrap();
    assert!(!report.is_whole() || !report.unstated.is_empty(), "{report:?}");
    let local = examine_journal(&live, OpenMode::Strict).unwrap();
    assert!(!archive.verify_journal(&live, &local, nothing).unwrap().is_whole());
}

#[test]
fn a_segment_that_has_lost_its_end_is_archived_with_the_end_that_the_next_one_names() {
    // The seal, the last Commit, and the file from there on.
    for damage in [0, 1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let [live, folder, back] = ["live", "archive", "back"].map(|name| dir.path().join(name));
        let nothing = &mut |_| ();
        journal(&live, 3).close().unwrap();
        let end = examine_journal(&live, OpenMode::Strict).unwrap().segments[1].end;
        let second = &objects(&live)[1];
        let mut bytes = fs::read(second).unwrap();
        match damage {
            0 => bytes[end - 40] ^= 1,
            1 => bytes[end - 400] ^= 1,
            _ => bytes.truncate(end - 700),
        }
        fs::write(second, bytes).unwrap();
        let journal = Journal::open(&live, Options { mode: OpenMode::Salvage, ..small() }).unwrap();
        emit(&journal, 5);
        let archive = Archive::open(folder.to_str().unwrap()).unwrap();
        archive.push(&live, PushOptions::default(), nothing).unwrap();
        // What says so is not archived yet.
        let report = archive.verify(nothing).unwrap();
        assert!(report.is_whole() && report.unstated == [2], "{damage}: {report:?}");
        journal.close().unwrap();
        let pushed = archive.push(&live, PushOptions::default(), nothing).unwrap();
        assert_eq!((pushed.segments, pushed.known), (5, 4), "{damage}");
        assert!(archive.keeps_from(&live).unwrap().is_none());
        let report = archive.verify(nothing).unwrap();
        assert!(report.is_whole() && report.unstated.is_empty(), "{damage}: {report:?}");
        let local = examine_journal(&live, OpenMode::Strict).unwrap();
        assert!(archive.verify_journal(&live, &local, nothing).unwrap().is_whole());
        assert_eq!(archived_events(&archive), events(&live));
        archive.fetch(&back, &FetchOptions::default(), nothing).unwrap();
        assert_eq!(events(&back), events(&live));
    }
}

#[test]
fn a_compressed_segment_with_a_block_that_is_known_to_be_rotten_is_archived() {
    let dir = tempfile::tempdir().unwrap();
    let [live, folder] = ["live", "archive"].map(|name| dir.path().join(name));
    let nothing = &mut |_| ();
    let options = Options { segment_size: 1 << 20, ..small() };
    let journal = Journal::open(&live, options.clone()).unwrap();
    for _ in 0..2_000 {
        emit(&journal, 1);
    }
    journal.close().unwrap();
    semj::compact(&live, &semj::Compaction::default(), &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let first = &objects(&live)[0];
    let mut bytes = fs::read(first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(first, bytes).unwrap();
    let journal = Journal::open(&live, Options { mode: OpenMode::Salvage, ..options }).unwrap();
    emit(&journal, 5);
    journal.close().unwrap();
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    archive.push(&live, PushOptions::default(), nothing).unwrap();
    let report = archive.verify(nothing).unwrap();
    assert!(report.is_whole() && report.unstated.is_empty(), "{report:?}");
    assert_eq!(archived_events(&archive), events(&live));
}

fn sha2_of(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a manifest the newest one.
fn write_manifest(folder: &Path, mut manifest: semj_archive::Manifest) {
    manifest.generation += 1;
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let name = format!("manifests/{:020}-{}.json", manifest.generation, sha2_of(&bytes));
    fs::write(folder.join(name), bytes).unwrap();
}

#[test]
fn the_manifest_is_held_against_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let nothing = &mut |_| ();
    journal(&live, 3).close().unwrap();
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    archive.push(&live, PushOptions::default(), nothing).unwrap();
    let right = archive.existing_manifest().unwrap();
    let lies: [fn(&mut semj_archive::Entry); 4] = [
        |entry| entry.extents[0].1 -= 300,
        |entry| entry.events -= 1,
        |entry| entry.lower_bound += 1,
        |entry| entry.last_event_id += 1,
    ];
    let mut generation = right.generation;
    for lie in lies {
        let mut manifest = right.clone();
        manifest.generation = generation;
        lie(&mut manifest.segments[1]);
        write_manifest(&folder, manifest);
        generation += 1;
        let is_found = match archive.verify(nothing) {
            Ok(report) => !report.is_whole(),
            // Where it contradicts itself it is not taken at all.
            Err(error) => matches!(error, Error::Damaged { .. }),
        };
        assert!(is_found, "generation {generation}");
    }
}

#[test]
fn a_sidecar_that_hides_events_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    journal(&live, 3).close().unwrap();
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    archive.push(&live, PushOptions::default(), &mut |_| ()).unwrap();
    let mut manifest = archive.existing_manifest().unwrap();
    let [first, second] = [0, 1].map(|place| manifest.segments[place].sidecar.clone().unwrap());
    // It is whole, and of another segment.
    manifest.segments[0].sidecar = Some(second);
    manifest.segments[1].sidecar = Some(first);
    write_manifest(&folder, manifest);
    let report = archive.verify(&mut |_| ()).unwrap();
    let faults: Vec<_> = report.findings.iter().map(|finding| finding.fault.is_some()).collect();
    assert_eq!(faults, [true, true, false, false], "{report:?}");
}

#[test]
fn a_snapshot_that_is_pushed_does_not_keep_the_journal_from_being_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let [live, copy, folder] = ["live", "copy", "archive"].map(|name| dir.path().join(name));
    let nothing = &mut |_| ();
    let journal = journal(&live, 2);
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    journal.snapshot(&copy, semj::SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(archive.push(&copy, PushOptions::default(), nothing).unwrap().segments, 2);
    emit(&journal, 10);
    journal.rotate().unwrap();
    journal.snapshot(&copy, semj::SnapshotOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(archive.push(&copy, PushOptions::default(), nothing).unwrap().segments, 3);
    journal.close().unwrap();
    assert_eq!(archive.push(&live, PushOptions::default(), nothing).unwrap().segments, 4);
    assert!(archive.verify(nothing).unwrap().is_whole());
}

#[test]
fn what_the_archive_has_lost_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let _journal = journal(&live, 3);
    let archive = Archive::open(folder.to_str().unwrap()).unwrap();
    archive.push(&live, PushOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(archive.keeps_from(&live).unwrap(), Some(31));
    fs::remove_file(&objects(&folder.join("segments"))[1]).unwrap();
    assert_eq!(archive.keeps_from(&live).unwrap(), Some(11));
}

/// An S3 server with a bucket, which ends with this.
#[cfg(feature = "cloud")]
struct Moto(Child);

#[cfg(feature = "cloud")]
impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(feature = "cloud")]
const SERVER: &str = r#"
import sys, time, urllib.request
try:
    from moto.server import ThreadedMotoServer
except ImportError as error:
    print("none", error, flush=True)
    sys.exit()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
host, port = server.get_host_and_port()
urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/semj", method="PUT"))
print("port", port, flush=True)
sys.stdin.read()
"#;

#[cfg(feature = "cloud")]
#[test]
fn a_journal_goes_to_an_s3_server_and_comes_back_as_it_was() {
    let child = Command::new("python3")
        .args(["-c", SERVER])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut moto = match child {
        Ok(child) => Moto(child),
        Err(error) => {
            eprintln!("skipped: python3 can't be run: {error}");
            return;
        }
    };
    // It says other things too, and goes on when it has said this.
    let mut lines = BufReader::new(moto.0.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let said = lines.find(|line| line.starts_with("port ") || line.starts_with("none "));
    let Some(port) = said.as_deref().and_then(|line| line.strip_prefix("port ")) else {
        eprintln!("skipped: no S3 server (pip install 'moto[server]'): {said:?}");
        return;
    };
    // Settings come from the environment, which a test can't change for itself alone: it runs itself once more.
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "against_the_server_that_is_named", "--ignored", "--nocapture"])
        .env("SEMJ_TEST_ARCHIVE", "s3://semj/some/where")
        .env("SEMJ_TEST_SCRATCH", dir.path())
        .env("AWS_ENDPOINT", format!("http://127.0.0.1:{port}"))
        .env("AWS_ALLOW_HTTP", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .status()
        .unwrap();
    assert!(status.success());
}

#[cfg(feature = "cloud")]
#[test]
#[ignore = "run by the test before, with a server"]
fn against_the_server_that_is_named() {
    let (Ok(url), Ok(scratch)) = (std::env::var("SEMJ_TEST_ARCHIVE"), std::env::var("SEMJ_TEST_SCRATCH"))
    else {
        eprintln!("skipped: no server is named");
        return;
    };
    goes_there_and_back(&url, Path::new(&scratch));
    // One that goes up in parts.
    let live = Path::new(&scratch).join("large");
    let journal = Journal::open(&live, Options { segment_size: 32 << 20, ..small() }).unwrap();
    let payload = vec![7; 60_000];
    for _ in 0..400 {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload)).unwrap();
    }
    journal.close().unwrap();
    let archive = Archive::open(&format!("{url}-large")).unwrap();
    let pushed =
        archive.push(&live, PushOptions { codec: None, ..PushOptions::default() }, &mut |_| ()).unwrap();
    assert!(pushed.bytes_uploaded > 20 << 20);
    archive.fetch(&Path::new(&scratch).join("large-back"), &FetchOptions::default(), &mut |_| ()).unwrap();
    assert_eq!(events(&Path::new(&scratch).join("large-back")), events(&live));
    assert_eq!(archived_events(&archive), events(&live));
}
