//! What happens to a journal when its processes are killed, run out of something, or have their files cut under them.
//!
//! The test binary starts itself again for the processes that come to harm: the tests that begin with `child_` do nothing
//! unless another one has started them.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use semj::{CommitOn, Error, Event, EventType, Journal, OpenMode, Options, Reader};

/// Names the journal's directory to a child.
const DIR: &str = "SEMJ_TEST_DIR";
const KILLS: u64 = 40;
const PRODUCERS: u64 = 4;
/// Events that the last producer emits as one.
const BATCH: u64 = 5;

fn options() -> Options {
    Options { segment_size: 256 << 10, buffer_events: 256, ..Options::default() }
}

/// What a child was started for.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads", "1"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

/// The whole lines that a child has said; one that was cut off by its death was never said.
fn said(child: &mut Child) -> Vec<String> {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).unwrap() > 0 && line.ends_with(b"\n") {
        lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    lines
}

/// What a producer's event number `n` holds.
fn payload(producer: u64, n: u64) -> Vec<u8> {
    let mut payload = [producer.to_le_bytes(), n.to_le_bytes()].concat();
    payload.resize(16 + (n * 31 % 600) as usize, producer as u8);
    payload
}

/// How many events of each producer there are: each must be there in its order, and as it was emitted.
fn producers(reader: &Reader) -> BTreeMap<u64, u64> {
    let mut counts = BTreeMap::new();
    for (n, record) in (1..).zip(reader.iter(..)) {
        let record = record.unwrap();
        assert_eq!(record.event_id(), n, "I2: ids are contiguous");
        let producer = u64::from_le_bytes(record.payload()[..8].try_into().unwrap());
        let count = counts.entry(producer).or_insert(0);
        assert!(record.payload() == payload(producer, *count), "I3: event {count} of producer {producer}");
        *count += 1;
    }
    counts
}

#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(dir) = child_dir() else { return };
    let journal = Journal::open(dir, options()).unwrap();
    let counts = producers(&journal.reader());
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            let (journal, mut n) = (&journal, counts.get(&producer).copied().unwrap_or(0));
            scope.spawn(move || {
                loop {
                    if producer == PRODUCERS - 1 {
                        let payloads: Vec<_> = (n..n + BATCH).map(|n| payload(producer, n)).collect();
                        let events: Vec<_> = payloads
                            .iter()
                            .map(|payload| Event::new(EventType::GRAPH_QUERY).payload(payload))
                            .collect();
                        journal.emit_batch(&events).unwrap();
                        n += BATCH;
                    } else {
                        for _ in 0..n % 7 + 1 {
                            let payload = payload(producer, n);
                            journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&payload)).unwrap();
                            n += 1;
                        }
                    }
                    journal.sync().unwrap();
                    say(&format!("acknowledged {producer} {n}"));
                }
            });
        }
    });
}

#[test]
fn child_that_reads_until_it_is_killed() {
    let Some(dir) = child_dir() else { return };
    let mut last = 0;
    loop {
        let reader = match Reader::open(&dir, OpenMode::Strict) {
            Ok(reader) => reader,
            // The writer has not begun.
            Err(Error::NoJournal { .. }) => continue,
            Err(error) => {
                say(&format!("error {error}"));
                return;
            }
        };
        let counts = producers(&reader);
        let seen = counts.values().sum::<u64>();
        if seen < last {
            say(&format!("error I11: {last} events were seen, then {seen}"));
            return;
        }
        last = seen;
        say(&format!("seen {seen}"));
    }
}

#[test]
fn kill_9_of_a_writer_with_many_producers_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut epochs = Vec::new();
    for kill in 0..KILLS {
        let mut writer = start("child_that_writes_until_it_is_killed", dir.path());
        let mut readers: Vec<_> =
            (0..2).map(|_| start("child_that_reads_until_it_is_killed", dir.path())).collect();
        // A little longer every time, so that the kills fall into different work.
        std::thread::sleep(Duration::from_millis(10 + kill * 5));
        readers[0].kill().unwrap();
        writer.kill().unwrap();
        readers[1].kill().unwrap();
        let mut seen = 0;
        for reader in &mut readers {
            for line in said(reader) {
                assert!(!line.starts_with("error"), "kill {kill}: a reader says: {line}");
                if let Some(count) = line.strip_prefix("seen ").and_then(|count| count.parse().ok()) {
                    seen = seen.max(count);
                }
            }
            reader.wait().unwrap();
        }
        for line in said(&mut writer) {
            let mut words = line.split(' ');
            if words.next() == Some("acknowledged") {
                let producer: u64 = words.next().unwrap().parse().unwrap();
                acknowledged.insert(producer, words.next().unwrap().parse::<u64>().unwrap());
            }
        }
        writer.wait().unwrap();

        let reader = match Reader::open(dir.path(), OpenMode::Strict) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(acknowledged.is_empty(), "kill {kill}: {error}");
                continue;
            }
        };
        let counts = producers(&reader);
        for (producer, acknowledged) in &acknowledged {
            let there = counts.get(producer).copied().unwrap_or(0);
            assert!(
                there >= *acknowledged,
                "I1: of producer {producer} {acknowledged} events were acknowledged, {there} are there"
            );
        }
        let batched = counts.get(&(PRODUCERS - 1)).copied().unwrap_or(0);
        assert_eq!(batched % BATCH, 0, "I2: a batch is there as a whole or not at all");
        let all = counts.values().sum::<u64>();
        assert!(all >= seen, "a reader saw {seen} events, {all} are there");
        epochs.push(reader.report().highest_epoch);
    }
    assert!(epochs.is_sorted() && epochs.last() > epochs.first(), "I6: {epochs:?}");
    assert!(acknowledged.len() as u64 == PRODUCERS && acknowledged.values().all(|count| *count > 100));
    let before = producers(&Reader::open(dir.path(), OpenMode::Strict).unwrap());
    Journal::open(dir.path(), options()).unwrap().close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.report().is_whole() && reader.report().is_closed());
    assert_eq!(producers(&reader), before, "I4");
}

/// Runs a child to its end, and gives what it said.
fn run(test: &str, dir: &Path) -> (ExitStatus, Vec<String>) {
    let mut child = start(test, dir);
    let lines = said(&mut child);
    (child.wait().unwrap(), lines)
}

fn emit_until_it_fails(journal: &Journal) -> Error {
    let mut n = journal.stats().last_emitted_id;
    loop {
        let payload = payload(0, n);
        let emitted = journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&payload));
        if let Err(error) = emitted.and_then(|_| journal.sync()) {
            return error;
        }
        n += 1;
        say(&format!("acknowledged {n}"));
        assert!(n < 10_000, "nothing fails");
    }
}

/// The journal holds what a child said was acknowledged, and goes on.
fn assert_it_goes_on(dir: &Path, lines: &[String]) {
    let acknowledged = lines.iter().filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max();
    let acknowledged: u64 = acknowledged.unwrap();
    let journal = Journal::open(dir, options()).unwrap();
    let there = producers(&journal.reader()).values().sum::<u64>();
    assert!(there >= acknowledged, "I1: {acknowledged} were acknowledged, {there} are there");
    let next = payload(0, there);
    journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&next)).unwrap();
    journal.close().unwrap();
    assert_eq!(producers(&Reader::open(dir, OpenMode::Strict).unwrap()).values().sum::<u64>(), there + 1);
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a valid structure. A file that would become too large shall be an error: SIGXFSZ is for
    // the program around the journal to handle, and here it is ignored.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(resource, &raw const limit), 0);
    }
}

#[test]
fn child_whose_files_may_not_grow() {
    let Some(dir) = child_dir() else { return };
    let journal = Journal::open(dir, options()).unwrap();
    set_limit(libc::RLIMIT_FSIZE, 100 << 10);
    say(&format!("failed {}", with_causes(&emit_until_it_fails(&journal))));
    assert!(journal.sync().is_err() && journal.emit(&Event::new(EventType::SYSTEM_SYNC)).is_err(), "I10");
    assert!(journal.reader().iter(..).next().is_some(), "reading goes on");
    say(&format!("closed {}", journal.close().is_ok()));
}

#[test]
fn child_that_may_open_no_more_files() {
    let Some(dir) = child_dir() else { return };
    let journal = Journal::open(dir, options()).unwrap();
    set_limit(libc::RLIMIT_NOFILE, 64);
    let _taken: Vec<_> = std::iter::from_fn(|| fs::File::open("/dev/null").ok()).collect();
    say(&format!("failed {}", with_causes(&emit_until_it_fails(&journal))));
    assert!(journal.sync().is_err(), "I10");
    say(&format!("closed {}", journal.close().is_ok()));
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}

#[test]
fn a_file_that_may_not_grow_and_a_process_without_files_are_typed_errors_and_lose_nothing() {
    for (test, reason) in [
        ("child_whose_files_may_not_grow", "File too large"),
        ("child_that_may_open_no_more_files", "Too many open files"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (status, lines) = run(test, dir.path());
        assert!(status.success(), "{test}: {:?}", lines.last());
        let failure = lines.iter().find_map(|line| line.strip_prefix("failed ")).unwrap();
        assert!(
            failure.contains(reason) && failure.contains(dir.path().to_str().unwrap()),
            "{test}: {failure}"
        );
        assert!(lines.iter().any(|line| line == "closed false"), "{test}");
        assert_it_goes_on(dir.path(), &lines);
    }
}

#[test]
fn child_that_forks() {
    let Some(dir) = child_dir() else { return };
    let options = Options { commit_on: CommitOn::CallersThread, ..options() };
    let journal = Journal::open(&dir, options.clone()).unwrap();
    let event = Event::new(EventType::FILESYSTEM_WRITE);
    journal.emit_durable(&event).unwrap();
    journal.emit(&event).unwrap();
    // SAFETY: the process has no other thread that could hold a lock but the test harness's, which waits for this one.
    match unsafe { libc::fork() } {
        0 => {
            journal.emit(&event).unwrap();
            let refused = journal.sync().is_err() && journal.emit_durable(&event).is_err();
            let compaction = semj::Compaction::default();
            let compacted = journal.compact(&compaction, &mut |_| std::ops::ControlFlow::Continue(()));
            let refused = refused && matches!(compacted, Err(Error::Forked { .. }));
            drop(journal);
            let is_held = matches!(Journal::open(&dir, options), Err(Error::Locked { .. }));
            // SAFETY: it ends the process, whatever there is.
            unsafe { libc::_exit(if refused && is_held { 0 } else { 1 }) }
        }
        child => {
            let mut status = -1;
            // SAFETY: the pointer is to an integer.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the fork may write, or has given the lock back");
            journal.emit_durable(&event).unwrap();
            journal.close().unwrap();
            say("closed");
        }
    }
}

#[test]
fn child_that_forks_while_others_sync() {
    let Some(dir) = child_dir() else { return };
    let journal = Journal::open(&dir, options()).unwrap();
    let event = Event::new(EventType::FILESYSTEM_WRITE);
    let is_done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                journal.emit_durable(&event).unwrap();
            }
        });
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            // SAFETY: the child calls nothing that waits for another thread: that is what is tested, and the alarm ends it.
            match unsafe { libc::fork() } {
                0 => {
                    // SAFETY: as above.
                    unsafe { libc::alarm(20) };
                    let is_forked = |done: Result<(), Error>| matches!(done, Err(Error::Forked { .. }));
                    let refused = [
                        is_forked(journal.sync()),
                        is_forked(journal.emit_durable(&event).map(drop)),
                        is_forked(journal.rotate()),
                        is_forked(journal.retain(&semj::Retention::default())),
                        is_forked(journal.emit_ticket(&event).and_then(|ticket| ticket.wait()).map(drop)),
                        is_forked(
                            journal.emit_ticket(&event).and_then(|ticket| ticket.poll_durable()).map(drop),
                        ),
                    ];
                    // SAFETY: it ends the process, whatever there is.
                    unsafe { libc::_exit(refused.iter().position(|is| !is).map_or(0, |at| 1 + at as i32)) }
                }
                child => {
                    let mut status = -1;
                    // SAFETY: the pointer is to an integer.
                    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
                    assert_eq!(status, 0, "which call was not refused, or the alarm");
                }
            }
        }
        is_done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    journal.close().unwrap();
    say("closed");
}

#[test]
fn a_fork_is_refused_at_once_whatever_other_threads_were_doing() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start("child_that_forks_while_others_sync", dir.path());
    let lines = said(&mut child);
    assert!(child.wait().unwrap().success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("closed")), "{lines:?}");
}

#[test]
fn a_fork_writes_nothing_and_leaves_the_journal_to_who_opened_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start("child_that_forks", dir.path());
    let lines = said(&mut child);
    assert!(child.wait().unwrap().success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.ends_with("closed")), "{lines:?}");
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert_eq!(reader.iter(..).map(|record| record.unwrap().event_id()).collect::<Vec<_>>(), [1, 2, 3]);
}
