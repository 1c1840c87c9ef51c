//! A fence between a store and a load, of which one side is used for each event and the other next to never.
//!
//! `a.store(…); fence; b.load(…)` here and `b.store(…); fence; a.load(…)` there: one of the two at least sees what the
//! other stored. Two full fences do it, and each costs a processor some 20 cycles and the wait for its stores. Linux'
//! `membarrier` has every running thread of the process execute one, and who is not running has executed one when it
//! stopped: with it on the rare side, the other one has to keep the compiler from changing the order, and no more.

use crate::sync::{Ordering, fence};

/// See the module.
#[derive(Debug)]
pub(crate) struct Fence {
    is_asymmetric: bool,
}

impl Fence {
    pub(crate) fn new() -> Self {
        Self { is_asymmetric: barrier::register() }
    }

    /// The side that is used often.
    #[inline]
    pub(crate) fn light(&self) {
        if self.is_asymmetric {
            std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// The other side. False if it can't be had, and nothing is known.
    pub(crate) fn heavy(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.is_asymmetric || barrier::everywhere()
    }
}

#[cfg(all(target_os = "linux", not(loom), not(miri)))]
mod barrier {
    use rustix::thread::{MembarrierCommand, membarrier};

    /// Whether the kernel will do it: it has to be told once in each process, and to be told again does no harm.
    pub(super) fn register() -> bool {
        let registered = membarrier(MembarrierCommand::RegisterPrivateExpedited);
        if let Err(error) = registered {
            tracing::debug!(%error, "no membarrier: publishing an event costs a fence");
        }
        registered.is_ok()
    }

    /// A full fence in every thread of this process.
    pub(super) fn everywhere() -> bool {
        let done = membarrier(MembarrierCommand::PrivateExpedited);
        if let Err(error) = done {
            tracing::warn!(%error, "membarrier, which the kernel has agreed to, fails");
        }
        done.is_ok()
    }
}

#[cfg(not(all(target_os = "linux", not(loom), not(miri))))]
mod barrier {
    pub(super) fn register() -> bool {
        false
    }

    /// Never called: see above.
    pub(super) fn everywhere() -> bool {
        false
    }
}
