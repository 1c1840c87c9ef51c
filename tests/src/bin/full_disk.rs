//! What a writer does on a disk that becomes full, and what it finds when there is room again (`tests/full-disk/`):
//!
//! ```text
//! full_disk DIR
//! ```
//!
//! DIR is on a small file system, all of which is filled up. One writer runs into the end of the disk; another one dies
//! with a torn end before somebody else fills the disk, so that there is no room for its recovery.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use semj::{Error, Event, EventType, Journal, OpenMode, Options, Reader};

/// Room that is left for the writer that fills it.
const ROOM: u64 = 3 << 20;
const SEGMENT_SIZE: u64 = 256 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir] = &arguments[..] else {
        eprintln!("usage: full_disk DIR");
        return ExitCode::from(2);
    };
    for (what, scenario) in [
        ("a writer that fills the disk", fills_the_disk as fn(&Path) -> Result<String, String>),
        ("a recovery without room", recovers_without_room),
    ] {
        match scenario(Path::new(dir)) {
            Ok(found) => println!("{what}: {found}"),
            Err(wrong) => {
                println!("{what}: WRONG: {wrong}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn options() -> Options {
    Options { segment_size: SEGMENT_SIZE, buffer_events: 256, ..Options::default() }
}

/// What the event with this id holds.
fn payload(id: u64) -> Vec<u8> {
    (0..id * 97 % 3000).map(|i| (i ^ id) as u8).collect()
}

fn with_causes(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", with_causes(source)),
        None => error.to_string(),
    }
}

fn text(error: impl std::error::Error) -> String {
    with_causes(&error)
}

/// Whether an error says that there is no space, and names a file of the journal.
fn says_full(error: &Error, journal: &Path) -> Result<(), String> {
    match error {
        Error::Poisoned { source } => says_full(source, journal),
        Error::Io { path, source, .. }
            if source.kind() == io::ErrorKind::StorageFull && path.starts_with(journal) =>
        {
            Ok(())
        }
        other => Err(format!("not an error about a full disk: {}", with_causes(other))),
    }
}

/// Takes all space there is but `room`.
fn take_space(path: &Path, room: u64) -> Result<(), String> {
    let mut file = File::create(path).map_err(text)?;
    let zeros = vec![0; 1 << 20];
    for size in [zeros.len(), 4096] {
        loop {
            match file.write_all(&zeros[..size]).and_then(|()| file.sync_data()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => return Err(text(error)),
            }
        }
    }
    let size = file.metadata().map_err(text)?.len();
    file.set_len(size.saturating_sub(room)).and_then(|()| file.sync_all()).map_err(text)
}

/// How many events a reader sees, each in its place and as it was emitted.
fn events(journal: &Path) -> Result<u64, String> {
    let reader = Reader::open(journal, OpenMode::Strict).map_err(text)?;
    let mut last = 0;
    for record in reader.iter(..) {
        let record = record.map_err(text)?;
        last += 1;
        if record.event_id() != last || record.payload() != payload(last) {
            return Err(format!("event {} in place {last} is not what was emitted", record.event_id()));
        }
    }
    Ok(last)
}

fn emit(journal: &Journal, id: u64) -> Result<(), Error> {
    journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload(id)))?;
    journal.sync()
}

/// While the disk is full: reading works, opening is refused for want of space, and neither changes what is there.
fn is_kept_while_full(journal: &Path, acknowledged: u64) -> Result<u64, String> {
    let there = events(journal)?;
    if there < acknowledged {
        return Err(format!("{acknowledged} events were acknowledged, {there} are there"));
    }
    for _ in 0..2 {
        match Journal::open(journal, options()) {
            Ok(_) => return Err("it opened, though there is no room".into()),
            Err(error) => says_full(&error, journal)?,
        }
        let again = events(journal)?;
        if again != there {
            return Err(format!("{there} events, {again} after an open that was refused"));
        }
    }
    Ok(there)
}

/// With room again: it opens, has everything, and goes on.
fn goes_on(dir: &Path, there: u64) -> Result<(), String> {
    let journal = Journal::open(dir, options()).map_err(text)?;
    for id in there + 1..=there + 100 {
        emit(&journal, id).map_err(text)?;
    }
    journal.rotate().map_err(text)?;
    journal.close().map_err(text)?;
    let report = semj::examine_journal(dir, OpenMode::Strict).map_err(text)?;
    match events(dir)? {
        last if last == there + 100 && report.is_whole() && report.is_closed() => Ok(()),
        last => Err(format!("{last} events in the end, {} were expected", there + 100)),
    }
}

fn fills_the_disk(dir: &Path) -> Result<String, String> {
    let (dir, other) = (dir.join("journal"), dir.join("other"));
    let journal = Journal::open(&dir, options()).map_err(text)?;
    take_space(&other, ROOM)?;
    let mut acknowledged = 0;
    let error = loop {
        match emit(&journal, acknowledged + 1) {
            Ok(()) => acknowledged += 1,
            Err(error) => break error,
        }
        if acknowledged > 4 * ROOM / 1000 {
            return Err("the disk never became full".into());
        }
    };
    says_full(&error, &dir)?;
    for _ in 0..3 {
        if journal.sync().is_ok() || emit(&journal, acknowledged + 1).is_ok() || journal.rotate().is_ok() {
            return Err("something was acknowledged after the failure".into());
        }
    }
    if journal.close().is_ok() {
        return Err("the close passed the failure over".into());
    }
    // What a refused creation has left may be the only room there is.
    take_space(&dir.with_extension("rest"), 0)?;
    let there = is_kept_while_full(&dir, acknowledged)?;
    fs::remove_file(&other).map_err(text)?;
    fs::remove_file(dir.with_extension("rest")).map_err(text)?;
    goes_on(&dir, there)?;
    fs::remove_dir_all(&dir).map_err(text)?;
    Ok(format!("{acknowledged} events acknowledged, {there} kept, then \"{}\"", with_causes(&error)))
}

fn recovers_without_room(dir: &Path) -> Result<String, String> {
    let (dir, live, other) = (dir.join("journal"), dir.join("live"), dir.join("other"));
    let journal = Journal::open(&live, options()).map_err(text)?;
    let acknowledged = 50;
    for id in 1..=acknowledged {
        emit(&journal, id).map_err(text)?;
    }
    // What a process that died would have left: a copy without a close, and half a record behind the end.
    fs::create_dir(&dir).map_err(text)?;
    for entry in fs::read_dir(&live).map_err(text)? {
        let entry = entry.map_err(text)?;
        fs::copy(entry.path(), dir.join(entry.file_name())).map_err(text)?;
    }
    drop(journal);
    fs::remove_dir_all(&live).map_err(text)?;
    let segment = newest_segment(&dir)?;
    let mut bytes = fs::read(&segment).map_err(text)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let torn = bytes.get_mut(end + 8..end + 72).ok_or("no room for a torn end")?;
    torn.fill(0x5A);
    fs::write(&segment, &bytes).map_err(text)?;

    take_space(&other, 0)?;
    let there = is_kept_while_full(&dir, acknowledged)?;
    fs::remove_file(&other).map_err(text)?;
    goes_on(&dir, there)?;
    let kept = fs::read_dir(dir.join("quarantine")).map_err(text)?.count();
    if kept == 0 {
        return Err("the torn end is not in quarantine".into());
    }
    fs::remove_dir_all(&dir).map_err(text)?;
    Ok(format!(
        "refused while the disk was full, {there} of {acknowledged} events kept; with room the torn end went to quarantine"
    ))
}

fn newest_segment(dir: &Path) -> Result<PathBuf, String> {
    let mut newest = None;
    for entry in fs::read_dir(dir).map_err(text)? {
        let path = entry.map_err(text)?.path();
        if path.extension().is_some_and(|extension| extension == "semj") {
            newest = newest.max(Some(path));
        }
    }
    newest.ok_or_else(|| "no segment".into())
}
