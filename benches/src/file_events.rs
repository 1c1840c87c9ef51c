//! A journal as a build leaves it: files that are made, written, read, renamed and deleted by short processes.

use std::path::Path;

use anyhow::Result;
use semj::{Event, EventType, Journal, Options};

/// Types of events, and how many of 16 are of each.
const TYPES: [(EventType, u64); 6] = [
    (EventType::FILESYSTEM_CREATE, 3),
    (EventType::FILESYSTEM_WRITE, 6),
    (EventType::FILESYSTEM_READ, 4),
    (EventType::FILESYSTEM_RENAME, 1),
    (EventType::FILESYSTEM_DELETE, 1),
    (EventType::FILESYSTEM_CHMOD, 1),
];
/// Files that a process goes about at a time.
const NEAR: u64 = 12;
const REGULAR_FILE: u32 = 0o100_000;

/// Writes a journal of so many events into a new directory, and closes it. It is the same one each time, but for its clock.
///
/// # Errors
///
/// The journal's.
pub fn write(dir: &Path, events: u64) -> Result<()> {
    let journal = Journal::open(dir, Options::default())?;
    let mut random = 0x9E37_79B9_7F4A_7C15u64;
    let mut below = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let (mut files, mut base, mut process_id, mut ktime_ns) = (1, 0, 1000, 1_000_000);
    for _ in 0..events {
        if below(100) == 0 {
            process_id += 1;
            base = below(files);
        }
        let mut pick = below(16);
        let found =
            TYPES.iter().find(|(_, share)| pick.checked_sub(*share).map(|rest| pick = rest).is_none());
        let event_type = found.map_or(EventType::FILESYSTEM_WRITE, |(event_type, _)| *event_type);
        let file = if event_type == EventType::FILESYSTEM_CREATE {
            files += 1;
            base = files - below(NEAR).min(files);
            files - 1
        } else {
            (base + below(NEAR)).min(files - 1)
        };
        ktime_ns += 2_000 + below(60_000) as i64;
        let path = format!(
            "/project/{}/part{:02}/{:05x}.o",
            ["src", "lib", "target"][file as usize % 3],
            file / 40 % 60,
            file
        );
        let payload = match event_type {
            EventType::FILESYSTEM_WRITE => {
                format!("{{\"offset\":{},\"bytes\":{}}}", below(20) * 4096, 1 + below(4096))
            }
            EventType::FILESYSTEM_READ => format!("{{\"bytes\":{}}}", 4096 * (1 + below(16))),
            EventType::FILESYSTEM_RENAME => format!("{{\"to\":\"{path}.old\"}}"),
            _ => String::new(),
        };
        let event = Event::new(event_type).process_id(process_id).ktime_ns(ktime_ns);
        journal.emit(&event.path(&path).inode(1_000 + file, REGULAR_FILE).payload(payload.as_bytes()))?;
    }
    journal.close()?;
    Ok(())
}
