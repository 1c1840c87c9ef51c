//! Atomics, locks and words to sleep on; loom's in its tests.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(not(loom))]
pub(crate) use std::hint::spin_loop;

#[cfg(loom)]
pub(crate) use model::{Mutex, Word};
#[cfg(not(loom))]
pub(crate) use parking_lot::Mutex;
#[cfg(not(loom))]
pub(crate) use word::Word;

#[cfg(not(loom))]
mod word {
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::io::Errno;
    use rustix::thread::futex;

    /// A word that threads sleep on until it changes: a futex, because it wakes all sleepers with one call.
    #[derive(Debug)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        pub(crate) const fn new() -> Self {
            Self(AtomicU32::new(0))
        }

        pub(crate) fn get(&self) -> u32 {
            self.0.load(Ordering::Acquire)
        }

        pub(crate) fn change(&self) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }

        /// Sleeps while the word is `seen`. May return early; the caller looks again.
        pub(crate) fn wait(&self, seen: u32) {
            match futex::wait(&self.0, futex::Flags::PRIVATE, seen, None) {
                // It has changed, or a signal came.
                Ok(()) | Err(Errno::AGAIN | Errno::INTR) => {}
                // A kernel without futexes: there is none, but a busy wait is right too.
                Err(_) => std::thread::yield_now(),
            }
        }

        pub(crate) fn wake_one(&self) {
            self.wake(1);
        }

        pub(crate) fn wake_all(&self) {
            self.wake(i32::MAX as u32);
        }

        fn wake(&self, count: u32) {
            // Fails only for an address that is none.
            let _: Result<usize, Errno> = futex::wake(&self.0, futex::Flags::PRIVATE, count);
        }
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::{Condvar, Mutex as LoomMutex, MutexGuard};

    /// A lock with the interface of `parking_lot`'s.
    #[derive(Debug)]
    pub(crate) struct Mutex<T>(LoomMutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(LoomMutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }

    /// A word that threads sleep on until it changes.
    #[derive(Debug)]
    pub(crate) struct Word {
        value: Mutex<u32>,
        changed: Condvar,
    }

    impl Word {
        pub(crate) fn new() -> Self {
            Self { value: Mutex::new(0), changed: Condvar::new() }
        }

        pub(crate) fn get(&self) -> u32 {
            *self.value.lock()
        }

        pub(crate) fn change(&self) {
            *self.value.lock() += 1;
        }

        pub(crate) fn wait(&self, seen: u32) {
            let value = self.value.lock();
            if *value == seen {
                drop(self.changed.wait(value));
            }
        }

        pub(crate) fn wake_one(&self) {
            self.changed.notify_one();
        }

        pub(crate) fn wake_all(&self) {
            self.changed.notify_all();
        }
    }
}
