//! A journal's file is made shorter by somebody else while it is read: an error that names it, and no signal.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

mod child;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use semj::{Error, Event, EventType, Journal, OpenMode, Options, Reader};
use semj_tests::random::Random;

const EVENTS: u64 = 400;

fn options() -> Options {
    Options {
        segment_size: 256 << 10,
        buffer_events: 256,
        watermark_interval: Duration::ZERO,
        ..Options::default()
    }
}

/// What the event with this id holds. Some end with a zero byte, and some with many.
fn payload(id: u64) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.resize(8 + (id * 31 % 600) as usize, (id % 3) as u8);
    payload
}

/// A closed journal of one segment.
fn closed_journal() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    for id in 1..=EVENTS {
        journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&payload(id))).unwrap();
    }
    journal.close().unwrap();
    let path = newest_segment(dir.path());
    (dir, path)
}

fn newest_segment(dir: &Path) -> PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "semj")).max().unwrap()
}

fn cut(path: &Path, size: u64) {
    File::options().write(true).open(path).unwrap().set_len(size).unwrap();
}

#[track_caller]
fn assert_changed(error: &Error, path: &Path, sizes: (u64, u64)) {
    let Error::Changed { path: changed, expected, found } = error else {
        unreachable!("{error}");
    };
    assert_eq!((changed.as_path(), *expected, *found), (path, sizes.0, Some(sizes.1)), "{error}");
}

/// The events that a reader gives, each as it was emitted, and the error behind them.
fn events(reader: &Reader) -> (u64, Option<Error>) {
    let mut results = reader.iter(..);
    let mut last = 0;
    let error = results.find_map(|result| match result {
        Ok(record) => {
            last += 1;
            assert_eq!(record.event_id(), last);
            assert!(record.payload() == payload(last), "event {last}");
            None
        }
        Err(error) => Some(error),
    });
    assert!(results.next().is_none(), "behind an error there is nothing");
    (last, error)
}

#[test]
fn a_file_that_is_cut_under_a_readers_map_is_an_error_and_does_not_end_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path(), options()).unwrap();
    for id in 1..=EVENTS {
        journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&payload(id))).unwrap();
    }
    journal.sync().unwrap();
    while journal.stats().last_marked_id < EVENTS {
        std::thread::sleep(Duration::from_millis(1));
    }
    // One over the writer's own map and one over a map of its own.
    let reader = journal.reader();
    let other = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let kept = reader.get(EVENTS).unwrap().unwrap();
    assert!(kept.payload() == payload(EVENTS));
    let path = newest_segment(dir.path());
    cut(&path, 20 << 10);

    let sizes = (256 << 10, 20 << 10);
    for reader in [&reader, &other] {
        assert!(reader.get(1).unwrap().is_some(), "what is still in the file can be read");
        let (there, error) = events(reader);
        assert!(there > 10 && there < EVENTS);
        assert_changed(&error.unwrap(), &path, sizes);
        // From here on it is known, and nothing is read from this file any more.
        assert_changed(&reader.get(EVENTS).unwrap_err(), &path, sizes);
        assert_changed(&reader.get(1).unwrap_err(), &path, sizes);
        assert_changed(&reader.records().find_map(Result::err).unwrap(), &path, sizes);
        assert_changed(&reader.check().unwrap_err(), &path, sizes);
    }
    // A record that was given out stays readable memory.
    assert!(kept.payload().iter().all(|byte| *byte == 0));
    // Who opens it now sees what is missing.
    assert!(matches!(Reader::open(dir.path(), OpenMode::Strict), Err(Error::Damaged { .. })));
    assert!(!semj::examine_journal(dir.path(), OpenMode::Strict).unwrap().is_whole());
}

/// Inside of a page there is no signal: what is gone reads as zeros.
#[test]
fn no_cut_gives_zeros_for_an_event() {
    let (dir, path) = closed_journal();
    let whole = fs::read(&path).unwrap();
    let size = whole.len() as u64;
    let end = Reader::open(dir.path(), OpenMode::Strict).unwrap().report().segments[0].end as u64;
    // Every byte of the end of the records, then with larger steps down to an empty file.
    let cuts = (0..1200).map(|back| end - 1 - back).chain((0..end - 1200).step_by(611));
    for to in cuts {
        let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        cut(&path, to);
        let (there, error) = events(&reader);
        assert!(
            there < EVENTS || to + 1200 > end,
            "cut at {to}: the seal and some commits may be all that is gone"
        );
        match error {
            Some(error) => assert_changed(&error, &path, (size, to)),
            None => assert_eq!(there, EVENTS, "cut at {to}"),
        }
        let mut records = reader.records();
        assert!(records.any(|record| record.is_err()), "cut at {to}: of all records one is missing");
        assert_changed(&reader.check().unwrap_err(), &path, (size, to));
        drop(reader);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_cut_that_no_read_has_met_is_found_by_a_check_and_so_is_a_file_that_was_emptied_and_grew_again() {
    let (dir, path) = closed_journal();
    let whole = fs::read(&path).unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    let kept = reader.get(1).unwrap().unwrap();
    reader.check().unwrap();
    cut(&path, 100);
    assert_changed(&reader.check().unwrap_err(), &path, (whole.len() as u64, 100));
    assert!(kept.payload().iter().all(|byte| *byte == 0));

    fs::write(&path, &whole).unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    cut(&path, 0);
    cut(&path, whole.len() as u64);
    assert_changed(&reader.get(7).unwrap_err(), &path, (whole.len() as u64, whole.len() as u64));
    assert_changed(&reader.check().unwrap_err(), &path, (whole.len() as u64, whole.len() as u64));
}

#[test]
fn threads_that_read_while_a_file_is_cut_get_events_or_errors() {
    let (dir, path) = closed_journal();
    let whole = fs::read(&path).unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random::new(seed);
    for _ in 0..60 {
        let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
        let (to, delay) = (random.below(whole.len() as u64 / 2), random.below(300));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    loop {
                        for (id, record) in (1..).zip(reader.iter(..)) {
                            let Ok(record) = record else { return };
                            // It was whole when it was given out; if it is no longer, that can be learned.
                            if record.payload() != payload(id) {
                                assert!(reader.check().is_err(), "event {id}");
                                return;
                            }
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_micros(delay));
            cut(&path, to);
        });
        assert_changed(&reader.check().unwrap_err(), &path, (whole.len() as u64, to));
        drop(reader);
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_verified_is_an_error() {
    let (dir, path) = closed_journal();
    let whole = fs::read(&path).unwrap();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = Random::new(seed);
    let mut changed = 0;
    for _ in 0..300 {
        let (to, delay) = (random.below(whole.len() as u64 / 2), random.below(400));
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_micros(delay));
                cut(&path, to);
            });
            Reader::open(dir.path(), OpenMode::Strict)
        });
        match result {
            // The cut came later.
            Ok(reader) => assert_changed(&reader.check().unwrap_err(), &path, (whole.len() as u64, to)),
            Err(error @ Error::Changed { .. }) => {
                assert_changed(&error, &path, (whole.len() as u64, to));
                changed += 1;
            }
            // The cut came before the map, or inside of a page.
            Err(Error::Damaged { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        fs::write(&path, &whole).unwrap();
    }
    println!("{changed} of 300 cuts fell into the verification");
}

extern "C" fn plain_handler(_signal: libc::c_int) {
    // SAFETY: _exit is async-signal-safe.
    unsafe { libc::_exit(41) };
}

extern "C" fn handler_with_info(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a valid siginfo; _exit is async-signal-safe.
    unsafe { libc::_exit(if (*info).si_code == libc::BUS_ADRERR { 42 } else { 43 }) };
}

fn handle_sigbus(action: libc::sighandler_t, flags: libc::c_int) {
    // SAFETY: all-zero is a value of sigaction, the handlers are of the kinds that their flags say.
    unsafe {
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = action;
        new.sa_flags = flags;
        assert_eq!(libc::sigaction(libc::SIGBUS, &raw const new, std::ptr::null_mut()), 0);
    }
}

/// Reads behind the end of a file that is no journal's.
fn fault_elsewhere(dir: &Path) {
    let path = dir.join("other");
    fs::write(&path, [1; 8192]).unwrap();
    let file = File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: a new map of two pages; what is read of it lies in it.
    let byte = unsafe {
        use std::os::fd::AsRawFd as _;
        let map =
            libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        file.set_len(0).unwrap();
        map.cast::<u8>().add(4096).read_volatile()
    };
    child::say(&format!("read {byte}"));
}

fn send_sigbus() {
    // SAFETY: raise takes any signal.
    assert_eq!(unsafe { libc::raise(libc::SIGBUS) }, 0);
}

#[test]
fn child_that_gets_a_sigbus_of_its_own() {
    let Some((dir, task)) = child::orders() else { return };
    match task.as_str() {
        "fault, plain handler" => handle_sigbus(plain_handler as *const () as libc::sighandler_t, 0),
        "fault, handler with info" => {
            handle_sigbus(handler_with_info as *const () as libc::sighandler_t, libc::SA_SIGINFO);
        }
        "sent, default" | "fault, default" => handle_sigbus(libc::SIG_DFL, 0),
        "sent, ignored" | "fault, ignored" => handle_sigbus(libc::SIG_IGN, 0),
        // As the runtime has it.
        "fault, untouched" => {}
        other => panic!("{other}"),
    }
    // From here on the journal's guard is in place.
    let journal = Journal::open(dir.join("journal"), options()).unwrap();
    journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&[1; 10_000])).unwrap();
    journal.sync().unwrap();
    if task.starts_with("sent") {
        send_sigbus();
    } else {
        fault_elsewhere(&dir);
    }
    child::say("survived");
    // Where that was survived, the journal's maps are guarded as before.
    cut(&newest_segment(journal.dir()), 1024);
    assert!(matches!(journal.reader().get(1), Err(Error::Changed { .. })));
    child::say("guarded");
}

#[test]
fn a_sigbus_that_is_not_about_a_journal_does_what_it_would_do_without_one() {
    for (task, signal, code) in [
        ("fault, untouched", Some(libc::SIGBUS), None),
        ("fault, default", Some(libc::SIGBUS), None),
        ("fault, ignored", Some(libc::SIGBUS), None),
        ("fault, plain handler", None, Some(41)),
        ("fault, handler with info", None, Some(42)),
        ("sent, default", Some(libc::SIGBUS), None),
        ("sent, ignored", None, Some(0)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (status, lines) = child::run("child_that_gets_a_sigbus_of_its_own", dir.path(), task);
        assert_eq!((status.signal(), status.code()), (signal, code), "{task}: {lines:?}");
        for word in ["survived", "guarded"] {
            assert_eq!(lines.iter().any(|line| line == word), code == Some(0), "{task}: {lines:?}");
        }
    }
}
