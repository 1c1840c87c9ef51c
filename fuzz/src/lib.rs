//! What the fuzz targets share: an allocator with a limit, and checksums made right.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use semj_format::checksum::kernel_crc32;
use semj_format::control;
use semj_format::{Commit, EventHeader, JournalHeader, Record, Records, SegmentSeal};

/// The system's allocator, which counts what is allocated and aborts above a limit.
pub struct Limited;

static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn grow(size: usize) {
    let used = USED.fetch_add(size, Ordering::Relaxed) + size;
    let limit = LIMIT.load(Ordering::Relaxed);
    if used > limit {
        LIMIT.store(usize::MAX, Ordering::Relaxed);
        panic!("{} bytes over what the input may cost", used - limit);
    }
}

// SAFETY: all calls go to the system's allocator unchanged; the counters only look on.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those of this function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() {
            grow(size - layout.size());
        } else {
            USED.fetch_sub(layout.size() - size, Ordering::Relaxed);
        }
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Limited = Limited;

/// Runs something that may have so many bytes allocated at one time, beyond what there is before, and not more.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    LIMIT.store(USED.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    let result = work();
    LIMIT.store(usize::MAX, Ordering::Relaxed);
    result
}

/// What looking at so many bytes may cost: a report names ranges and faults, the scanner keeps some commits in
/// mind, both by the record, of which the smallest has 132 bytes; and some room for what does not depend on the
/// input.
pub const fn scan_cost(input: usize) -> usize {
    16 * input + (1 << 20)
}

/// Makes the header's checksum and those of the records right, and the digests of commits and seals, as far as
/// frames can be walked: what lies behind the checksums would hardly ever be reached otherwise.
pub fn repair(segment: &mut [u8]) {
    if let Some(header) = segment.first_chunk_mut() {
        let mut fixed = JournalHeader::decode(header);
        fixed.checksum = fixed.computed_checksum();
        *header = fixed.encode();
    }
    let mut at = JournalHeader::SIZE;
    while let Some(rest) = segment.get_mut(at..)
        && let Ok(record) = Record::parse(rest)
    {
        let size = record.len();
        let digest = if record.event_id() != 0 {
            None
        } else if let Ok(Some(commit)) = control::parse::<Commit>(&record) {
            Some(commit.computed_digest())
        } else if let Ok(Some(seal)) = control::parse::<SegmentSeal>(&record) {
            Some(seal.computed_digest())
        } else {
            None
        };
        let bytes = &mut rest[..size];
        if let (Some(digest), Some(tail)) = (digest, bytes.last_chunk_mut()) {
            *tail = digest.0;
        }
        repair_record(bytes);
        at += size;
    }
}

/// Makes a record's checksum right.
pub fn repair_record(record: &mut [u8]) {
    if record.len() >= EventHeader::SIZE {
        record[84..88].fill(0);
        let checksum = kernel_crc32([&*record]);
        record[84..88].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// All of a record's parts, so that no accessor can panic unseen.
pub fn read_everything(record: &Record<'_>) {
    let _ = (record.header(), record.event_type().name(), record.payload(), record.metadata());
    let _ = record.context().map(|context| context.map(|context| context.path.len()));
    assert_eq!(record.links().len(), record.links().count());
}

/// The records that stand back to back in a range, all of which must be there.
pub fn records(bytes: &[u8], from: usize, end: usize) -> Vec<(usize, usize)> {
    Records::new(&bytes[..end], from)
        .map(|record| {
            let (at, record) = record.expect("a record in an accepted range");
            record.verify_checksum().expect("a right checksum in an accepted range");
            read_everything(&record);
            (at, record.len())
        })
        .collect()
}
