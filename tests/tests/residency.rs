//! While memory is dear, old segments leave the page cache; nothing else ever does, and what has left is read as before.
//! Who has verified segments does not hold on to their pages.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::statfs;
use semj::medium::{Disk, File, Medium as _};
use semj::{Event, EventType, Journal, OpenMode, Options, Proof, Reader};
use semj_tests::quirk::{Quirk, QuirkyDisk};

/// A machine on which each page that is written to takes so long, with a clock of its own, that notes what leaves the cache.
#[derive(Debug, Default)]
struct Pages {
    each_ns: i64,
    taken_ns: AtomicI64,
    evicted: Mutex<Vec<PathBuf>>,
}

impl Quirk for Pages {
    fn write_at(&self, file: &dyn File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.taken_ns.fetch_add(self.each_ns * (bytes.len() / 4096) as i64, Ordering::SeqCst);
        file.write_at(offset, bytes)
    }
    fn evict(&self, file: &dyn File, path: &Path) {
        self.evicted.lock().unwrap().push(path.to_owned());
        file.evict();
    }
    fn monotonic_ns(&self) -> i64 {
        1 + self.taken_ns.load(Ordering::SeqCst)
    }
}

const SEGMENT_SIZE: u64 = 32 << 20;
const PAYLOAD_SIZE: usize = 64_000;
/// 512 MB: 16 segments and more, of which 3 stay, which are not quite full.
const EVENTS: u64 = 8_000;

fn payload(id: u64) -> Vec<u8> {
    id.to_le_bytes().repeat(PAYLOAD_SIZE / 8)
}

/// The newest segments, whose size is that of those that stay in any case.
fn newest(dir: &Path) -> Vec<PathBuf> {
    let mut segments: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "semj"));
    segments.sort();
    segments.split_off(segments.len() - (64 << 20) / SEGMENT_SIZE as usize)
}

fn write(dir: &Path, pages: Pages) -> (Journal, Arc<Pages>) {
    let medium = QuirkyDisk::new(pages);
    let pages = Arc::clone(&medium.0);
    let options = Options { segment_size: SEGMENT_SIZE, ..Options::default() };
    let journal = Journal::open_on(Arc::new(medium), dir, options).unwrap();
    for id in 1..=EVENTS {
        let payload = payload(id);
        let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&payload);
        assert_eq!(journal.emit(&event).unwrap(), id);
    }
    journal.sync().unwrap();
    (journal, pages)
}

#[test]
fn while_memory_is_dear_old_segments_leave_the_page_cache_and_are_read_as_before() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, pages) = write(dir.path(), Pages { each_ns: 5_000, ..Pages::default() });
    // A thread that nobody waits for does it.
    let began = Instant::now();
    while pages.evicted.lock().unwrap().len() < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing leaves");
        std::thread::sleep(Duration::from_millis(1));
    }
    for id in (1..=EVENTS).step_by(7) {
        assert_eq!(journal.reader().get(id).unwrap().unwrap().payload(), payload(id));
    }
    journal.close().unwrap();
    let evicted = pages.evicted.lock().unwrap();
    assert!(evicted.is_sorted_by(|a, b| a < b), "{evicted:?}: the oldest ones first, each once");
    let newest = newest(dir.path());
    assert!(!evicted.iter().any(|path| newest.contains(path)), "{evicted:?}");
}

#[test]
fn while_memory_is_at_hand_nothing_leaves_the_page_cache() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, pages) = write(dir.path(), Pages { each_ns: 800, ..Pages::default() });
    journal.close().unwrap();
    assert!(pages.evicted.lock().unwrap().is_empty());
}

#[test]
fn what_has_left_the_page_cache_is_not_in_memory_and_reads_as_before() {
    const TMPFS: i64 = 0x0102_1994;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let file = Disk.create(&path, 4 << 20).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(4 << 20).collect();
    file.write_at(0, &bytes).unwrap();
    file.sync_all().unwrap();
    let map = file.map().unwrap();
    let is_cached = || {
        let mut state = [0];
        let page = map.bytes(1 << 20..(1 << 20) + 1).as_ptr();
        // SAFETY: of a page that is mapped the state is asked, one byte.
        assert_eq!(unsafe { libc::mincore(page.cast_mut().cast(), 1, state.as_mut_ptr()) }, 0);
        state[0] & 1 == 1
    };
    assert!(map.bytes(0..4 << 20) == bytes);
    assert!(is_cached());
    // Where it is mapped it stays.
    file.evict();
    assert!(is_cached());
    map.unload();
    file.evict();
    // A file system in memory has nowhere else to keep it.
    assert_eq!(is_cached(), statfs(dir.path()).unwrap().f_type == TMPFS);
    assert!(map.bytes(0..4 << 20) == bytes);
    assert!(is_cached() && map.is_intact());
}

/// Bytes of a directory's files that this process has mapped and at hand.
fn mapped(dir: &Path) -> u64 {
    let dir = dir.to_str().unwrap();
    let maps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut is_of_dir = false;
    let mut size = 0;
    for line in maps.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        match name {
            "Rss:" if is_of_dir => {
                size += value.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10;
            }
            // Each map begins with its addresses.
            _ if !name.ends_with(':') => is_of_dir = line.contains(dir),
            _ => {}
        }
    }
    size
}

#[test]
fn who_has_verified_a_journal_does_not_hold_on_to_its_pages() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_size: 4 << 20, ..Options::default() };
    let journal = Journal::open(dir.path(), options).unwrap();
    for id in 1..=500 {
        journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(&payload(id))).unwrap();
    }
    journal.close().unwrap();
    let reader = Reader::open_on(&Disk, dir.path(), OpenMode::Strict, Proof::Everything).unwrap();
    let verified = mapped(dir.path());
    for id in 1..=500 {
        assert_eq!(reader.get(id).unwrap().unwrap().payload(), payload(id));
    }
    let read = mapped(dir.path());
    assert!(read > 500 * PAYLOAD_SIZE as u64 / 2, "{read}");
    assert!(verified < read / 4, "{verified} of {read}");
}
