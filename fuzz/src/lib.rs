//! What the fuzz targets share: an allocator with a limit, inputs made into files, checksums made right, and what
//! must hold of every report.

pub mod journal;
pub mod repair;
pub mod report;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use semj_format::{Record, Records};

/// The system's allocator, which counts what is allocated and aborts above a limit.
pub struct Limited;

static USED: AtomicUsize = AtomicUsize::new(0);
static LIMIT: AtomicUsize = AtomicUsize::new(usize::MAX);

fn grow(size: usize) {
    let used = USED.fetch_add(size, Ordering::Relaxed) + size;
    let limit = LIMIT.load(Ordering::Relaxed);
    // A failed assertion must be able to say so.
    if used > limit && !std::thread::panicking() {
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

/// What every decoder may have allocated whatever its input is: a record or two, of which the largest has 113,956
/// bytes, error texts, and the first growth of vectors and hash tables.
pub const MEMORY_BASE: usize = 512 << 10;

/// What looking at so many bytes may cost: a report names ranges and faults, the scanner keeps some commits in
/// mind, both by the record, of which the smallest has 132 bytes; and some room for what does not depend on the
/// input.
pub const fn scan_cost(input: usize) -> usize {
    16 * input + (1 << 20)
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
