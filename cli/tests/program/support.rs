//! Running the program, and journals to run it on.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const TRACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/git-worktree.jsonl.zst");

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semj"));
    command.args(args).env_remove("SEMJ_JOURNAL").env_remove("RUST_LOG");
    command
}

pub(crate) fn semj(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

pub(crate) fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut child =
        command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Waits until a process has a file open in a directory whose name is none of those that were there.
pub(crate) fn until_it_has_a_file_in(child: &mut Child, dir: &Path, there: &[PathBuf]) {
    let opened = format!("/proc/{}/fd", child.id());
    loop {
        let files = fs::read_dir(&opened).into_iter().flatten().flatten();
        let mut files = files.filter_map(|file| fs::read_link(file.path()).ok());
        if files.any(|file| file.parent() == Some(dir) && !there.contains(&file)) {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
    }
}

pub(crate) fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub(crate) fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A directory that goes away, and in it the place of a journal.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal");
    (dir, journal)
}

pub(crate) fn lines(bytes: &[u8]) -> Vec<Value> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect()
}

/// Every field of `line`, contexts and payloads included, is in `exported` with its value.
pub(crate) fn contains(exported: &Value, line: &Value) -> bool {
    match (exported, line) {
        (Value::Object(exported), Value::Object(line)) => {
            line.iter().all(|(key, value)| exported.get(key).is_some_and(|other| contains(other, value)))
        }
        (Value::Array(exported), Value::Array(line)) => {
            exported.len() == line.len()
                && exported.iter().zip(line).all(|(exported, line)| contains(exported, line))
        }
        _ => exported == line,
    }
}

pub(crate) fn segment(journal: &Path) -> PathBuf {
    let mut paths: Vec<_> = fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    paths.sort();
    paths.remove(0)
}

/// A journal of three events.
pub(crate) fn small() -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    let input = br#"{"event_type":"FilesystemCreate","ktime_ns":1,"context":{"path":"/a"}}
{"event_type":"FilesystemWrite","ktime_ns":2,"payload":{"bytes":5}}

{"event_type":"FilesystemDelete","ktime_ns":3}
"#;
    let output = with_input(&["import", "-", "-j", text(&journal)], input);
    assert_eq!(status(&output), 0, "{}", err(&output));
    (dir, journal)
}

/// Flips a bit in the second event, which is durable.
pub(crate) fn damage(journal: &Path) {
    let path = segment(journal);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(11).position(|window| window == br#"{"bytes":5}"#).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// A journal of five events that hang together.
pub(crate) fn related() -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    let input = br#"{"event_type":"AgentDecision","ktime_ns":1000,"event_priority":1,"context":{"agent_id":"planner","transaction_id":9},"payload":{"why":"build --release"}}
{"event_type":"FilesystemCreate","ktime_ns":2000,"process_id":5,"parent_event_id":1,"context":{"path":"/project/src/a.rs","inode_number":7,"transaction_id":9}}
{"event_type":"FilesystemWrite","ktime_ns":3000,"process_id":5,"parent_event_id":2,"context":{"path":"/project/src/a.rs","inode_number":7}}
{"event_type":"FilesystemDelete","ktime_ns":4000,"process_id":6,"context":{"path":"/project/doc/b.md","inode_number":8}}
{"event_type":"SystemSync","ktime_ns":5000,"causality_links":[{"cause_event_id":3,"effect_event_id":5}]}
"#;
    let output = with_input(&["import", "-", "-j", text(&journal)], input);
    assert_eq!(status(&output), 0, "{}", err(&output));
    (dir, journal)
}

/// A closed journal of some segments.
pub(crate) fn segmented(count: usize) -> (tempfile::TempDir, PathBuf) {
    let (dir, journal) = place();
    for i in 0..count {
        let input =
            format!("{{\"event_type\":\"FilesystemRead\",\"ktime_ns\":{i},\"payload\":{{\"i\":{i}}}}}\n");
        let output = with_input(&["import", "-", "-j", text(&journal)], input.repeat(10).as_bytes());
        assert_eq!(status(&output), 0, "{}", err(&output));
    }
    (dir, journal)
}

/// A journal of 400 events whose commit groups are ordered by priority.
pub(crate) fn by_priority() -> (tempfile::TempDir, PathBuf) {
    use semj::{Event, EventType, GroupOrder, Journal, Options, Priority};
    let (dir, journal) = place();
    let options = Options { group_order: GroupOrder::Priority, ..Options::default() };
    let writer = Journal::open(&journal, options).unwrap();
    let priorities = [Priority::LOW, Priority::CRITICAL, Priority::BACKGROUND, Priority::NORMAL];
    for n in 0..400 {
        writer.emit(&Event::new(EventType::SYSTEM_SYNC).priority(priorities[n % 4])).unwrap();
        if n % 100 == 99 {
            writer.sync().unwrap();
        }
    }
    writer.close().unwrap();
    (dir, journal)
}

/// A compressed journal of 12 segments with 4 MiB of events each, which take some kB on the disk.
pub(crate) fn packed() -> (tempfile::TempDir, PathBuf) {
    use semj::{Event, EventType, Journal, Options};
    let (dir, journal) = place();
    let options = Options { segment_size: 8 << 20, ..Options::default() };
    let writer = Journal::open(&journal, options).unwrap();
    let payload = format!("\"{}\"", "x".repeat((64 << 10) - 2));
    for segment in 0..12 {
        for n in 0..64 {
            let event = Event::new(EventType::FILESYSTEM_WRITE).payload(payload.as_bytes());
            let id = writer.emit(&event).unwrap();
            assert_eq!(id, segment * 64 + n + 1);
        }
        writer.rotate().unwrap();
    }
    writer.close().unwrap();
    let done = semj(&["compact", text(&journal)]);
    assert_eq!(status(&done), 0, "{}", err(&done));
    (dir, journal)
}

/// The program with no more than so many MiB for what it writes to in memory.
pub(crate) fn with_memory(mib: u64, args: &[&str]) -> Command {
    limited(&format!("ulimit -d {}", mib << 10), args)
}

/// The program within a limit that the shell sets.
pub(crate) fn limited(limit: &str, args: &[&str]) -> Command {
    let mut shell = Command::new("sh");
    let script = format!("{limit} && exec \"$0\" \"$@\"");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_semj")]).args(args);
    shell.env_remove("SEMJ_JOURNAL").env_remove("RUST_LOG");
    shell
}
