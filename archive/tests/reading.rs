//! An archive is read where it is, by ranges: the same comes of it as of the journal, and little of it is fetched.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::fmt;
use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use semj::{CommitOn, Context, Event, EventType, Glob, Journal, OpenMode, Options, Query, Reader, Retention};
use semj_archive::{Archive, Entry, Error, Form, PushOptions, object_store};
use sha2::{Digest as _, Sha256};

/// Counts what is asked of a store, and of which objects.
#[derive(Debug)]
struct Counting {
    store: LocalFileSystem,
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "counting {}", self.store)
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, to: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.store.put_opts(to, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        to: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(to, options).await
    }

    async fn get_opts(&self, from: &Path, options: GetOptions) -> Result<GetResult> {
        let is_asked_for_bytes = !options.head;
        let found = self.store.get_opts(from, options).await?;
        if is_asked_for_bytes {
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.bytes.fetch_add(found.range.end - found.range.start, Ordering::Relaxed);
        }
        Ok(found)
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl Counting {
    fn over(folder: &FilePath) -> Arc<Self> {
        let store = LocalFileSystem::new_with_prefix(folder).unwrap();
        Arc::new(Self { store, bytes: AtomicU64::new(0), requests: AtomicU64::new(0) })
    }

    fn archive(self: &Arc<Self>) -> Archive {
        Archive::over("counted", Arc::clone(self) as Arc<dyn ObjectStore>, Path::default()).unwrap()
    }

    /// Bytes and requests since the last call.
    fn asked(&self) -> (u64, u64) {
        (self.bytes.swap(0, Ordering::Relaxed), self.requests.swap(0, Ordering::Relaxed))
    }
}

fn archive(folder: &FilePath) -> Archive {
    Archive::open(folder.to_str().unwrap()).unwrap()
}

/// Events as a build makes them, which say their numbers; every 100,000th is of a path of its own.
fn emit(journal: &Journal, count: u64) {
    for _ in 0..count {
        let id = journal.stats().last_emitted_id + 1;
        let file = id.wrapping_mul(2_654_435_761) % 40;
        let path = match id % 100_000 {
            50_000 => format!("/rare/{id}"),
            _ => format!("/project/target/{}/{file}.o", id / 2000),
        };
        let agent = format!("agent-{}", id / 1000 % 7);
        let payload = format!("{{\"bytes\":{},\"offset\":{id}}}", id.wrapping_mul(40_503) % 65_536);
        let context = Context {
            path: path.as_bytes(),
            agent_id: agent.as_bytes(),
            inode_number: 1000 + id / 2000 * 40 + file,
            ..Context::default()
        };
        let event = Event::new(EventType::FILESYSTEM_WRITE).context(context).payload(payload.as_bytes());
        journal.emit(&event).unwrap();
    }
}

fn options(segment_size: u64) -> Options {
    Options { segment_size, commit_on: CommitOn::CallersThread, ..Options::default() }
}

/// Everything that a question is answered with, with every byte and its place.
fn answers(reader: &Reader, query: &Query) -> Vec<(u64, u64, Vec<u8>)> {
    let mut answers = Vec::new();
    let left = usize::try_from(query.limited_to()).unwrap_or(usize::MAX);
    for part in reader.parts(query) {
        let found = part.query(query).located().take(left - answers.len());
        answers.extend(found.map(|located| {
            let located = located.unwrap();
            (located.opening.segment_number, located.offset, located.record.bytes().to_vec())
        }));
    }
    answers
}

fn questions(last_id: u64) -> Vec<Query> {
    let glob = |text: &str| text.parse::<Glob>().unwrap();
    vec![
        Query::new(),
        Query::new().control(),
        Query::new().reverse().limit(30),
        Query::new().ids(last_id / 2..last_id / 2 + 40),
        Query::new().ids(..5).reverse(),
        Query::new().path_glob(glob("/project/target/7/*")).limit(50),
        Query::new().path_glob(glob("/nowhere")),
        Query::new().agent("agent-3").reverse().limit(20),
        Query::new().types([EventType::JOURNAL_COMMIT]).control(),
        Query::new().inode(1234),
    ]
}

/// A journal with segments in each form that there can be, and an archive of it.
fn mixed(dir: &FilePath, folder: &FilePath) {
    let journal = Journal::open(dir, options(256 << 10)).unwrap();
    emit(&journal, 3000);
    journal.rotate().unwrap();
    emit(&journal, 3000);
    journal.sync().unwrap();
    // As a crash leaves it: the copy's last segment is cut when it is opened again.
    let copy = dir.with_extension("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        fs::copy(&entry, copy.join(entry.file_name().unwrap())).unwrap();
    }
    drop(journal);
    fs::remove_dir_all(dir).unwrap();
    fs::rename(copy, dir).unwrap();
    let journal = Journal::open(dir, options(256 << 10)).unwrap();
    emit(&journal, 500);
    journal.close().unwrap();
    semj::rebuild_sidecars(dir).unwrap();
    archive(folder).push(dir, PushOptions::default(), &mut |_| ()).unwrap();
}

#[test]
fn an_archive_answers_as_the_journal_does() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    mixed(&live, &folder);
    let manifest = archive(&folder).existing_manifest().unwrap();
    let forms: Vec<_> = manifest.segments.iter().map(|entry| entry.form).collect();
    assert!(forms.contains(&Form::Native) && forms.contains(&Form::Compressed), "{forms:?}");
    let local = Reader::open(&live, OpenMode::Strict).unwrap();
    let last_id = local.report().tip.unwrap().last_event_id;
    assert_eq!(last_id, 6500);

    let journal = archive(&folder).reader().unwrap();
    assert!(journal.missing.is_empty());
    assert_eq!(journal.reader.report().tip, local.report().tip);
    for query in questions(last_id) {
        let expected = answers(&local, &query);
        // By a reader that has read nothing, and by one that has.
        assert_eq!(answers(&archive(&folder).reader().unwrap().reader, &query), expected, "{query:?}");
        assert_eq!(answers(&journal.reader, &query), expected, "{query:?}");
        let through: Vec<_> =
            journal.reader.query(&query).map(|record| record.unwrap().bytes().to_vec()).collect();
        assert!(through.iter().eq(expected.iter().map(|(_, _, bytes)| bytes)), "{query:?}");
    }
    for id in (1..=last_id).step_by(97).chain([last_id, last_id + 1]) {
        let expected = local.get(id).unwrap().map(|record| record.bytes().to_vec());
        assert_eq!(journal.reader.get(id).unwrap().map(|record| record.bytes().to_vec()), expected, "{id}");
    }
    let chain = |reader: &Reader| reader.chain(77, 10).unwrap().unwrap().event.event_id();
    assert_eq!(chain(&journal.reader), chain(&local));
    // Without the sidecars it is the same.
    for entry in &manifest.segments {
        fs::remove_file(folder.join(&entry.sidecar.as_ref().unwrap().object)).unwrap();
    }
    for query in questions(last_id) {
        assert_eq!(
            answers(&archive(&folder).reader().unwrap().reader, &query),
            answers(&local, &query),
            "{query:?}"
        );
    }
    assert_eq!(archive(&folder).reader().unwrap().reader.get(5555).unwrap().unwrap().event_id(), 5555);
}

/// How many bytes and requests it takes to do something with a reader that has read nothing.
fn fetched(counting: &Arc<Counting>, work: impl FnOnce(&Reader)) -> (u64, u64) {
    let journal = counting.archive().reader().unwrap();
    counting.asked();
    work(&journal.reader);
    counting.asked()
}

#[test]
fn a_selective_question_fetches_little_of_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let journal = Journal::open(&live, options(64 << 20)).unwrap();
    emit(&journal, 1_200_000);
    journal.close().unwrap();
    archive(&folder).push(&live, PushOptions::default(), &mut |_| ()).unwrap();
    let local = Reader::open_newest(&live, OpenMode::Strict).unwrap();
    let counting = Counting::over(&folder);
    let manifest = counting.archive().existing_manifest().unwrap();
    assert!(manifest.segments.len() >= 3);
    let total = manifest.bytes();
    let largest = |of: fn(&Entry) -> u64| manifest.segments.iter().map(of).max().unwrap();
    let index = largest(|entry| entry.sidecar.as_ref().unwrap().size);
    let heads: u64 = manifest.segments.iter().map(|entry| entry.sidecar.as_ref().unwrap().head_size).sum();

    println!("{total} bytes of segments; a sidecar {index}, all heads {heads}");

    counting.asked();
    drop(counting.archive().reader().unwrap());
    let (bytes, requests) = counting.asked();
    println!("open: {bytes} bytes, {requests} requests");
    assert!(bytes < 2500 * manifest.segments.len() as u64 && requests == 1);

    let (bytes, requests) = fetched(&counting, |reader| {
        let found = reader.get(777_777).unwrap().unwrap();
        assert_eq!(found.bytes(), local.get(777_777).unwrap().unwrap().bytes());
    });
    println!("get: {bytes} bytes, {requests} requests");
    assert!(bytes < total / 50 && requests == 2);

    let ids = Query::new().ids(600_000..600_020);
    for query in [ids.clone(), ids.reverse()] {
        let (bytes, requests) = fetched(&counting, |reader| assert_eq!(answers(reader, &query).len(), 20));
        println!("20 ids: {bytes} bytes, {requests} requests");
        assert!(bytes < total / 50 && requests <= 3);
    }

    // By its sidecar: of one segment, and the beginnings of the others'. A block is some kilobytes.
    let query = Query::new().path_glob("/rare/750000".parse::<Glob>().unwrap());
    let (bytes, requests) = fetched(&counting, |reader| assert_eq!(answers(reader, &query).len(), 1));
    println!("a path: {bytes} bytes, {requests} requests");
    assert!(bytes < heads + index + (150 << 10) && requests < 20);

    // Everything is fetched once, in few pieces.
    let (bytes, requests) =
        fetched(&counting, |reader| assert_eq!(answers(reader, &Query::new()).len(), 1_200_000));
    println!("everything: {bytes} bytes, {requests} requests");
    assert!(bytes <= total + heads && requests < 25 * manifest.segments.len() as u64);
}

#[test]
fn a_native_segment_is_read_in_pieces_too() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let journal = Journal::open(&live, options(16 << 20)).unwrap();
    emit(&journal, 60_000);
    journal.close().unwrap();
    archive(&folder).push(&live, PushOptions { codec: None, ..PushOptions::default() }, &mut |_| ()).unwrap();
    let counting = Counting::over(&folder);
    let total = counting.archive().existing_manifest().unwrap().bytes();
    let (bytes, requests) = fetched(&counting, |reader| assert!(reader.get(33_333).unwrap().is_some()));
    assert!(bytes < total / 50 && requests <= 3, "{bytes} of {total} bytes, {requests} requests");
    let (bytes, requests) =
        fetched(&counting, |reader| assert_eq!(answers(reader, &Query::new()).len(), 60_000));
    assert!(bytes < total * 101 / 100 && requests < 30, "{bytes} of {total} bytes, {requests} requests");
}

#[test]
fn segments_that_are_missing_between_others_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    let journal = Journal::open(&live, options(256 << 10)).unwrap();
    for _ in 0..2 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    archive(&folder).push(&live, PushOptions::default(), &mut |_| ()).unwrap();
    for _ in 0..3 {
        emit(&journal, 10);
        journal.rotate().unwrap();
    }
    journal.retain(&Retention { max_segments: Some(2), ..Retention::default() }).unwrap();
    journal.close().unwrap();
    archive(&folder).push(&live, PushOptions::default(), &mut |_| ()).unwrap();
    let journal = archive(&folder).reader().unwrap();
    assert_eq!(journal.missing, [3..=4]);
    let ids: Vec<_> = journal.reader.iter(..).map(|record| record.unwrap().event_id()).collect();
    assert!(ids.iter().copied().eq((1..=20).chain(41..=50)), "{ids:?}");
}

/// Why something could not be read.
fn cause(result: std::result::Result<Option<semj::Record<'_>>, semj::Error>) -> String {
    let error = result.unwrap_err();
    let cause = format!("{:?}", Error::behind(&error).unwrap());
    cause.split(' ').next().unwrap().to_owned()
}

#[test]
fn what_is_gone_cut_or_replaced_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (live, folder) = (dir.path().join("live"), dir.path().join("archive"));
    mixed(&live, &folder);
    let manifest = archive(&folder).existing_manifest().unwrap();
    let entry = &manifest.segments[1];
    let path = folder.join(&entry.object);
    let right = fs::read(&path).unwrap();
    let get = |reader: &Reader| cause(reader.get(entry.first_event_id));
    let reader = || archive(&folder).reader().unwrap().reader;

    fs::remove_file(&path).unwrap();
    let opened = reader();
    assert_eq!(get(&opened), "Missing");
    let ids = Query::new().ids(entry.first_event_id..=entry.first_event_id);
    assert_eq!(cause(opened.query(&ids).next().transpose()), "Missing");
    assert_eq!(cause(opened.iter(..).find(std::result::Result::is_err).transpose()), "Missing");
    let other = manifest.segments[0].first_event_id;
    assert!(opened.get(other).unwrap().is_some(), "the others are there");

    for size in [0, 1, right.len() / 2, right.len() - 1] {
        fs::write(&path, &right[..size]).unwrap();
        assert_eq!(get(&reader()), "Truncated", "{size}");
    }
    fs::write(&path, [&right[..], b"x"].concat()).unwrap();
    assert_eq!(get(&reader()), "Changed");
    for at in [right.len() - 1, right.len() - 200, 60] {
        let mut damaged = right.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(get(&reader()), "Damaged", "{at}");
    }
    let another = fs::read(folder.join(&manifest.segments[0].object)).unwrap();
    let mut another = [another, vec![0; right.len()]].concat();
    another.truncate(right.len());
    fs::write(&path, another).unwrap();
    assert_eq!(get(&reader()), "Damaged", "another segment's bytes");

    // Between two reads of the same reader.
    fs::write(&path, &right).unwrap();
    let opened = reader();
    assert!(opened.get(entry.first_event_id).unwrap().is_some());
    fs::remove_file(&path).unwrap();
    fs::write(&path, &right).unwrap();
    assert_eq!(cause(opened.get(entry.last_event_id)), "Changed");
    assert!(reader().get(entry.last_event_id).unwrap().is_some());

    // A manifest whose segments do not go on from each other.
    let manifests = folder.join("manifests");
    let path = fs::read_dir(&manifests).unwrap().next().unwrap().unwrap().path();
    let text = fs::read_to_string(&path).unwrap();
    let other = text.replacen(&entry.end_digest, &"0".repeat(64), 1);
    fs::remove_file(&path).unwrap();
    fs::write(manifests.join(format!("{:020}-{}.json", 1, hex(&Sha256::digest(&other)))), other).unwrap();
    assert!(matches!(archive(&folder).reader(), Err(Error::Damaged { .. })));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
