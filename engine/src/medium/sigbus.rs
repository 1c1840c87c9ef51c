//! What happens to a map when somebody else makes its file shorter.
//!
//! The kernel answers a read behind the file's new end with SIGBUS, which ends the process. A journal must not do that to
//! the program around it, so a handler puts zero pages in the place of the lost ones and notes that the map is not
//! intact; whoever reads looks at that note behind the read. systemd's journal does the same (`sigbus.c`).
//!
//! Maps stand in a fixed table of atomics, because a signal handler may take no lock and allocate nothing. A signal that
//! is not about one of them goes to whoever handled SIGBUS before.

use std::ptr::null_mut;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Maps that can be watched at one time. A map more is not watched: reading it is as unsafe as reading any map.
const WATCHED_MAX: usize = 4096;

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
        let entry = ENTRIES.iter().position(|entry| {
            entry.start.compare_exchange(0, CHANGING, Ordering::Acquire, Ordering::Relaxed).is_ok()
        });
        match entry {
            Some(i) => {
                USED.fetch_max(i + 1, Ordering::Relaxed);
                ENTRIES[i].size.store(size, Ordering::Relaxed);
                ENTRIES[i].is_intact.store((&raw const *is_intact).cast_mut(), Ordering::Relaxed);
                ENTRIES[i].start.store(start, Ordering::Release);
            }
            None => {
                tracing::warn!("more maps than can be watched: this one is not guarded against truncation");
            }
        }
        Self { entry, is_intact }
    }

    /// Whether everything that was read through the map up to now was the file's.
    pub(super) fn is_intact(&self) -> bool {
        self.is_intact.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(i) = self.entry {
            ENTRIES[i].is_intact.store(null_mut(), Ordering::Relaxed);
            ENTRIES[i].start.store(0, Ordering::Release);
        }
    }
}

fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: all-zero is a value of both structures; the pointers given to sigaction are valid, and the handler
        // does only what is async-signal-safe: atomics, mmap, sysconf-free arithmetic.
        unsafe {
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
    // SAFETY: the kernel gives a valid siginfo to a handler with SA_SIGINFO, and for SIGBUS it has an address.
    let address = unsafe { (*info).si_addr() } as usize;
    let used = USED.load(Ordering::Relaxed).min(WATCHED_MAX);
    for entry in &ENTRIES[..used] {
        let start = entry.start.load(Ordering::Acquire);
        let size = entry.size.load(Ordering::Relaxed);
        if start == 0 || start == CHANGING || address < start || address - start >= size {
            continue;
        }
        // The thread that faulted reads through this map, so its owner, and with it the note, is alive.
        let is_intact = entry.is_intact.load(Ordering::Relaxed);
        const PAGE: usize = 4096;
        let page = address & !(PAGE - 1);
        let rest = start + size - page;
        // SAFETY: the pages from here to the map's end are this map's alone; they are replaced by zero pages, which is
        // what a read of them shall give.
        let mapped = unsafe {
            libc::mmap(
                page as *mut libc::c_void,
                rest,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        if mapped != libc::MAP_FAILED && !is_intact.is_null() {
            // SAFETY: see above.
            unsafe { (*is_intact).store(false, Ordering::Release) };
            return;
        }
        break;
    }
    pass_on(signal, info, context);
}

/// Leaves a signal that is not ours to whoever had it before.
fn pass_on(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: `previous` was stored before the handler was put in place and is never freed; a handler in it is a function
    // of the kind that its flags say.
    unsafe {
        match (*previous).sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                // The faulting instruction is executed again and then has the default effect: the kernel ignores no
                // SIGBUS that an access has caused.
                let mut default: libc::sigaction = std::mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, null_mut());
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
