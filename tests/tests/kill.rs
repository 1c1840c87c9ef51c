//! Kill -9 in the middle of writing: what was acknowledged is there.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use semj::{Event, EventType, Journal, OpenMode, Options, Reader};

/// Tells the test binary, started again, to be the writer that gets killed.
const WRITER_DIR: &str = "SEMJ_TEST_WRITER_DIR";
const KILLS: u64 = 20;

fn payload(id: u64) -> Vec<u8> {
    id.to_le_bytes().repeat((id % 40) as usize + 1)
}

/// Emits events for ever, syncs now and then, and says after each sync up to which id it was acknowledged.
/// Does nothing unless the test below started it.
#[test]
fn writer_that_gets_killed() {
    let Ok(dir) = std::env::var(WRITER_DIR) else { return };
    let options = Options { segment_size: 256 << 10, ..Options::default() };
    let journal = Journal::open(dir, options).unwrap();
    let mut id = journal.stats().last_emitted_id;
    loop {
        for _ in 0..id % 50 + 1 {
            let bytes = payload(id + 1);
            id = journal.emit(&Event::new(EventType::VECTOR_EMBED).payload(&bytes)).unwrap();
        }
        journal.sync().unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acknowledged {id}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0u64;
    let mut recovered = 0u64;
    for kill in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writer_that_gets_killed", "--nocapture"])
            .env(WRITER_DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The killer waits a little longer every time, so that the kills fall into different work.
        std::thread::sleep(Duration::from_millis(20 + kill * 7));
        writer.kill().unwrap();
        // What the writer said before it was killed is still in the pipe; its last line may be cut short.
        let lines = BufReader::new(writer.stdout.take().unwrap()).split(b'\n').map_while(Result::ok);
        for line in lines {
            let text = String::from_utf8_lossy(&line).into_owned();
            if let Some(id) = text.strip_prefix("acknowledged ").and_then(|id| id.parse().ok()) {
                acknowledged = acknowledged.max(id);
            }
        }
        writer.wait().unwrap();

        let Ok(reader) = Reader::open(dir.path(), OpenMode::Strict) else {
            assert_eq!(acknowledged, 0, "killed before there was a segment");
            continue;
        };
        let mut last = 0;
        for record in reader.iter(..) {
            assert_eq!(record.event_id(), last + 1);
            last = record.event_id();
            assert!(record.payload() == payload(last), "event {last}");
        }
        assert!(last >= acknowledged, "kill {kill}: {acknowledged} were acknowledged, {last} are there");
        assert!(last >= recovered, "kill {kill}: what one recovery returned survives the next crash");
        recovered = last;
    }
    assert!(acknowledged > 1000, "the writer came to do some work: {acknowledged}");
    Journal::open(dir.path(), Options::default()).unwrap().close().unwrap();
    let reader = Reader::open(dir.path(), OpenMode::Strict).unwrap();
    assert!(reader.report().is_whole() && reader.report().is_closed());
    assert_eq!(reader.iter(..).count() as u64, recovered);
}
