//! What happens to a map when somebody else makes its file shorter.
//!
//! The kernel answers a read behind the file's new end with SIGBUS, which ends the process. A journal must not do that to
//! the program around it, so a handler puts zero pages in the place of the lost ones and notes that the map is not
//! intact; whoever reads looks at that note behind the read. systemd's journal does the same (`sigbus.c`).
//!
//! Maps stand in a fixed table of atomics, because a signal handler may take no lock and allocate nothing. A signal that
//! is not about one of them goes to whoever handled SIGBUS before; whoever comes later has to do the same.
//!
//! A device that can't read a page makes a SIGBUS too, and is treated in the same way.

use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};

/// Maps that can be watched at one time: as many as Linux gives a process unless it was told otherwise
/// (`vm.max_map_count` is 65,530). A map more is not watched: reading it is as unsafe as reading any map.
const WATCHED_MAX: usize = 1 << 16;

/// A watched map. `start` is 0 in a free entry; an entry is being changed while it is [`CHANGING`].
struct Entry {
    start: AtomicUsize,
    size: AtomicUsize,
    is_intact: AtomicPtr<AtomicBool>,
}

const CHANGING: usize = usize::MAX;

static ENTRIES: [Entry; WATCHED_MAX] = [const {
    Entry { start: AtomicUsize::new(0), size: AtomicUsize::new(0), is_intact: AtomicPtr::new(null_mut()) }
}; WATCHED_MAX];
/// Entries from here on were never used.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Where a free entry is likely to be.
static FREE: AtomicUsize = AtomicUsize::new(0);
/// Bytes of a page; written once, before the handler is in place.
static PAGE_SIZE: AtomicUsize = AtomicUsize::new(4096);
/// What handled SIGBUS before, as the kernel gave it; written once, before the handler is in place.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(null_mut());

/// Watches a map until it is dropped, which has to be before the map goes.
#[derive(Debug)]
pub(super) struct Watch {
    entry: Option<usize>,
    is_intact: Box<AtomicBool>,
}

impl Watch {
    /// Watches the map of `size` bytes at `start`.
    pub(super) fn new(start: usize, size: usize) -> Self {
        install();
        let is_intact = Box::new(AtomicBool::new(true));
        let free = FREE.load(Ordering::Relaxed);
        let entry = (free..WATCHED_MAX).chain(0..free).find(|i| {
            let start = &ENTRIES[*i].start;
            start.compare_exchange(0, CHANGING, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        match entry {
            Some(i) => {
                let entry = &ENTRIES[i];
                FREE.store((i + 1) % WATCHED_MAX, Ordering::Relaxed);
                USED.fetch_max(i + 1, Ordering::Relaxed);
                // Whoever sees one of these sees the entry as changing, or as it comes to be.
                entry.size.store(size, Ordering::Release);
                entry.is_intact.store((&raw const *is_intact).cast_mut(), Ordering::Release);
                entry.start.store(start, Ordering::Release);
            }
            None => {
                tracing::warn!("more maps than can be watched: this one is not guarded against truncation");
            }
        }
        Self { entry, is_intact }
    }

    /// Whether everything that was read through the map up to now was the file's.
    pub(super) fn is_intact(&self) -> bool {
        // What was read before the call stays before it.
        fence(Ordering::Acquire);
        self.is_intact.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(i) = self.entry {
            ENTRIES[i].start.store(0, Ordering::Release);
            FREE.fetch_min(i, Ordering::Relaxed);
        }
    }
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: sysconf only gives a number. All-zero is a value of sigaction, the pointers given to sigaction are
        // valid, and the handler does only what is async-signal-safe: atomics, mmap, sigaction, raise.
        unsafe {
            if let Ok(size) = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)) {
                PAGE_SIZE.store(size, Ordering::Relaxed);
            }
            let mut previous: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut previous) != 0 {
                return;
            }
            PREVIOUS.store(Box::into_raw(Box::new(previous)), Ordering::Release);
            let mut action: libc::sigaction = std::mem::zeroed();
            let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, null_mut());
        }
    });
}

extern "C" fn on_sigbus(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a valid siginfo to a handler with SA_SIGINFO. The address means something only where the
    // code says that an access caused the signal, and not another process.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // A page that has failed in memory (BUS_MCEERR_*) is not ours to make good.
    if code != libc::BUS_ADRERR || !give_zeros(address) {
        pass_on(signal, info, context, code > 0);
    }
}

/// Puts zero pages from the one at `address` to the end of the watched map it lies in. False if it lies in none.
fn give_zeros(address: usize) -> bool {
    let used = USED.load(Ordering::Relaxed).min(WATCHED_MAX);
    for entry in &ENTRIES[..used] {
        let start = entry.start.load(Ordering::Acquire);
        let size = entry.size.load(Ordering::Acquire);
        let is_intact = entry.is_intact.load(Ordering::Acquire);
        if start == 0 || start == CHANGING || address < start || address - start >= size {
            continue;
        }
        // The three belong together only if the entry was not given to another map meanwhile.
        if entry.start.load(Ordering::Relaxed) != start || is_intact.is_null() {
            continue;
        }
        let page = address & !(PAGE_SIZE.load(Ordering::Relaxed) - 1);
        // SAFETY: the thread that faulted reads through this map, so its owner, and with it the note, is alive. The note
        // comes first: no other thread may find zeros and no note. The pages from here to the map's end are this map's
        // alone; they are replaced by zero pages, which is what a read of them shall give. errno belongs to the code
        // that was interrupted.
        unsafe {
            (*is_intact).store(false, Ordering::SeqCst);
            let errno = *libc::__errno_location();
            let mapped = libc::mmap(
                page as *mut libc::c_void,
                start + size - page,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
            *libc::__errno_location() = errno;
            return mapped != libc::MAP_FAILED;
        }
    }
    false
}

/// Leaves a signal that is not ours to whoever had it before.
fn pass_on(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    is_from_kernel: bool,
) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: `previous` was stored before the handler was put in place and is never freed; a handler in it is a function
    // of the kind that its flags say.
    unsafe {
        match (*previous).sa_sigaction {
            // The kernel ignores no SIGBUS that an access has caused.
            libc::SIG_IGN if !is_from_kernel => {}
            libc::SIG_DFL | libc::SIG_IGN => {
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, null_mut());
                // A faulting instruction is executed again, and then has the default effect. A signal that was sent has
                // to be sent again.
                if !is_from_kernel {
                    libc::raise(signal);
                }
            }
            handler if (*previous).sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_maps_than_one_reader_has_are_watched_and_their_entries_are_used_again() {
        // Addresses that nothing is mapped at: no fault can be about them.
        let watches: Vec<_> = (1..=5000).map(|i| Watch::new(i * 4096, 4096)).collect();
        let mut entries: Vec<_> = watches.iter().filter_map(|watch| watch.entry).collect();
        entries.sort_unstable();
        entries.dedup();
        assert_eq!(entries.len(), 5000);
        drop(watches);
        for i in 1..=2 * WATCHED_MAX {
            assert!(Watch::new(i * 4096, 4096).entry.is_some_and(|entry| entry < 10_000), "map {i}");
        }
    }

    #[test]
    fn an_address_outside_of_all_maps_is_nobodys() {
        let watch = Watch::new(1 << 30, 8192);
        assert!(!give_zeros((1 << 30) - 1) && !give_zeros((1 << 30) + 8192) && watch.is_intact());
    }
}
