//! Writers, followers and consumers that are killed at random moments: nobody sees a wrong event, or one that was not
//! committed, and a consumer repeats at most what came behind its last save.
//!
//! The test binary starts itself again for the processes that come to harm: the tests that begin with `child_` do nothing
//! unless another one has started them.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use semj::{
    CommitOn, Consumer, Event, EventType, Follower, Journal, OpenMode, Options, Reader, Start, SyncPolicy,
    Verdict, View,
};
use semj_format::{Watermark, WatermarkFile};
use semj_tests::random::Random;

const DIR: &str = "SEMJ_TEST_DIR";
const KILLS: u64 = 30;
const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));
/// Events after which the consumer saves.
const SAVE_EVERY: u64 = 50;

fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// A child, and the first and the last number that it has said in a whole line.
struct Running {
    child: Child,
    said: Arc<Mutex<Option<(u64, u64)>>>,
    reading: std::thread::JoinHandle<()>,
}

impl Running {
    fn start(test: &str, dir: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads", "1"])
            .env(DIR, dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let said = Arc::new(Mutex::new(None));
        let heard = Arc::clone(&said);
        let reading = std::thread::spawn(move || {
            let mut line = String::new();
            while output.read_line(&mut line).is_ok_and(|size| size > 0) {
                // The first line of a test has its name before it.
                let number = line.strip_suffix('\n').and_then(|line| line.rsplit_once("at ")).map(|(_, n)| n);
                if let Some(number) = number.and_then(|number| number.parse().ok()) {
                    let mut said = heard.lock().unwrap();
                    *said = Some((said.map_or(number, |(first, _)| first), number));
                }
                line.clear();
            }
        });
        Self { child, said, reading }
    }

    /// The numbers that it has said first and last.
    fn said(&self) -> Option<(u64, u64)> {
        *self.said.lock().unwrap()
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    fn kill(mut self) -> Option<(u64, u64)> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reading.join().unwrap();
        *self.said.lock().unwrap()
    }
}

fn wait_for(process: &mut Running) {
    while process.said().is_none() {
        assert!(process.is_running(), "it does not come up");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn say(number: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "at {number}").unwrap();
    out.flush().unwrap();
}

fn payload(id: u64) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(8 + (id * 31 % 900) as usize, id as u8);
    payload
}

#[test]
fn who_follows_from_the_beginning_sees_of_each_vector_what_a_reader_sees() {
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/journals");
    let mut retired = 0;
    for entry in std::fs::read_dir(vectors).unwrap() {
        let dir = entry.unwrap().path();
        let Ok(reader) = Reader::open(&dir, OpenMode::Strict) else { continue };
        let report = reader.report();
        // What is left of damaged groups a follower does not give.
        if report.segments.iter().any(|segment| segment.verdict == Verdict::KnownDamage) {
            continue;
        }
        retired += u32::from(report.retired.is_some());
        let shown: Vec<u64> = reader.iter(..).map(|record| record.unwrap().event_id()).collect();
        let mut follower = Follower::open(&dir, Start::Beginning, View::Published).unwrap();
        let mut given = Vec::new();
        while let Some(located) = follower.next(Some(Duration::ZERO)).unwrap() {
            given.push(located.record.event_id());
        }
        assert_eq!(given, shown, "{}", dir.display());
    }
    assert!(retired > 3, "{retired}");
}

#[test]
fn child_that_writes() {
    let Some(dir) = child_dir() else { return };
    let options = Options { segment_size: 256 << 10, ..Options::default() };
    let journal = Journal::open(dir, options).unwrap();
    let mut id = journal.stats().last_durable_id;
    loop {
        for _ in 0..id % 90 {
            id += 1;
            let payload = payload(id);
            let given = journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&payload)).unwrap();
            assert_eq!(given, id);
        }
        id += 1;
        assert_eq!(
            journal.emit_durable(&Event::new(EventType::SYSTEM_SYNC).payload(&payload(id))).unwrap(),
            id
        );
    }
}

#[test]
fn child_that_follows() {
    let Some(dir) = child_dir() else { return };
    let mut follower = Follower::open(dir, Start::Beginning, View::Published).unwrap();
    for id in 1.. {
        let located = follower.next(PATIENCE).unwrap().expect("no event for a long time");
        assert_eq!(located.record.event_id(), id);
        assert!(located.record.payload() == payload(id), "event {id} is not what was emitted");
        if id.is_multiple_of(100) {
            say(id);
        }
    }
}

#[test]
fn child_that_consumes() {
    let Some(dir) = child_dir() else { return };
    let mut consumer = Consumer::open(dir, "indexer", View::Durable).unwrap();
    let mut expected = None;
    loop {
        let located = consumer.next(PATIENCE).unwrap().expect("no event for a long time");
        let id = located.record.event_id();
        assert!(located.record.payload() == payload(id), "event {id} is not what was emitted");
        match expected {
            Some(expected) => assert_eq!(id, expected),
            // Where it goes on.
            None => say(id),
        }
        expected = Some(id + 1);
        if id.is_multiple_of(SAVE_EVERY) {
            consumer.save().unwrap();
            say(id);
        }
    }
}

#[test]
fn whoever_is_killed_nobody_sees_a_wrong_event_and_a_consumer_repeats_only_what_it_has_not_saved() {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("SEED={seed}");
    let mut random = Random::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Running::start("child_that_writes", dir.path());
    while Reader::open(dir.path(), OpenMode::Strict).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut follower = Running::start("child_that_follows", dir.path());
    let mut consumer = Running::start("child_that_consumes", dir.path());
    wait_for(&mut consumer);
    let mut followed = 0;
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_millis(20 + random.below(180)));
        match random.below(3) {
            0 => {
                writer.kill();
                writer = Running::start("child_that_writes", dir.path());
            }
            1 => {
                followed = followed.max(follower.kill().map_or(0, |(_, last)| last));
                follower = Running::start("child_that_follows", dir.path());
            }
            _ => {
                // What it said first is where it began, and then what it has saved.
                let (first, last) = consumer.kill().unwrap();
                let saved = if last == first { first - 1 } else { last };
                consumer = Running::start("child_that_consumes", dir.path());
                wait_for(&mut consumer);
                let (next, _) = consumer.said().unwrap();
                // One more save may have been done and not said.
                assert!(
                    (saved + 1..=saved + SAVE_EVERY + 1).contains(&next),
                    "{saved} saved, it goes on with {next}"
                );
            }
        }
        assert!(follower.is_running() && consumer.is_running());
    }
    writer.kill();
    let durable = Reader::open(dir.path(), OpenMode::Strict).unwrap().iter(..).count() as u64;
    // What is there is there for a follower too, up to its end.
    let mut last = Follower::open(dir.path(), Start::Beginning, View::Published).unwrap();
    let mut count = 0;
    while let Some(located) = last.next(Some(Duration::ZERO)).unwrap() {
        count += 1;
        assert_eq!(located.record.event_id(), count);
    }
    assert_eq!(count, durable);
    assert!(followed.max(follower.kill().map_or(0, |(_, last)| last)) <= count);
    assert!(consumer.kill().is_some());
    assert!(count > 1_000, "{count}");
}

#[test]
fn a_mark_of_an_earlier_epoch_vouches_for_nothing_that_a_later_one_has_written() {
    let options = || Options {
        commit_on: CommitOn::CallersThread,
        buffer_events: 64,
        sync_policy: SyncPolicy::MetadataOnly,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    };
    let event = Event::new(EventType::FILESYSTEM_WRITE);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    journal.emit_durable(&event).unwrap();
    let crashed = semj_tests::crash::copy(dir.path()).unwrap();
    let path = crashed.path().join("WATERMARK");
    let mark = WatermarkFile::parse(&std::fs::read(&path).unwrap()).newest.unwrap();
    let journal = Journal::open(crashed.path(), options()).unwrap();
    let its_own = std::fs::read(&path).unwrap();

    // The moment before a recovery writes its first mark: it has cut off what a disk has lost, though it was durable once.
    let commit_sequence = mark.commit_sequence + 10;
    let mut earlier = vec![0; its_own.len()];
    earlier[..Watermark::SIZE]
        .copy_from_slice(&Watermark { commit_sequence, ..mark }.with_checksum().encode());
    std::fs::write(&path, earlier).unwrap();
    let mut follower = Follower::open(crashed.path(), Start::Beginning, View::Durable).unwrap();
    assert_eq!(follower.next(PATIENCE).unwrap().unwrap().record.event_id(), 1);
    assert!(follower.next(Some(Duration::from_millis(50))).unwrap().is_none());
    std::fs::write(&path, its_own).unwrap();

    // With a full buffer some are committed, and none is synced.
    for _ in 0..65 {
        journal.emit(&event).unwrap();
    }
    assert!(journal.reader().iter(..).count() > 1);
    assert!(follower.next(Some(Duration::from_millis(100))).unwrap().is_none());
    journal.sync().unwrap();
    assert_eq!(follower.next(PATIENCE).unwrap().unwrap().record.event_id(), 2);
}

#[test]
fn what_a_recovery_has_taken_back_is_not_given_as_durable_for_a_later_mark() {
    let options = |watermark_interval| Options {
        commit_on: CommitOn::CallersThread,
        watermark_interval,
        ..Options::default()
    };
    let payload = |payload: &'static [u8]| Event::new(EventType::FILESYSTEM_WRITE).payload(payload);
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options(Duration::ZERO)).unwrap();
    journal.emit_durable(&payload(b"marked")).unwrap();
    journal.close().unwrap();
    // This one is written, and no mark speaks of it.
    let journal = Journal::open(dir.path(), options(Duration::from_secs(3600))).unwrap();
    journal.emit_durable(&payload(b"taken back")).unwrap();
    let crashed = semj_tests::crash::copy(dir.path()).unwrap();
    let mut follower = Follower::open(crashed.path(), Start::Beginning, View::Durable).unwrap();
    assert_eq!(follower.next(PATIENCE).unwrap().unwrap().record.payload(), b"marked");
    assert!(follower.next(Some(Duration::from_millis(50))).unwrap().is_none());

    // It is lost on the disk, while the follower still has it in memory.
    let segments = std::fs::read_dir(crashed.path()).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments.filter(|path| path.extension().is_some_and(|end| end == "semj")).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = bytes.windows(10).position(|window| window == b"taken back").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let journal = Journal::open(crashed.path(), options(Duration::ZERO)).unwrap();
    for _ in 0..6 {
        journal.emit_durable(&payload(b"in its place")).unwrap();
    }
    for id in 2..=7 {
        let located = follower.next(PATIENCE).unwrap().unwrap();
        assert_eq!((located.record.event_id(), located.record.payload()), (id, &b"in its place"[..]));
    }
}
