//! Notices of changes in a directory, for those who follow a journal.

#[cfg(target_os = "linux")]
use std::os::fd::OwnedFd;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::Duration;
use std::{io, thread};

#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
#[cfg(target_os = "linux")]
use rustix::fs::inotify;
#[cfg(target_os = "linux")]
use rustix::io::Errno;

use super::Changes;

/// Where nobody gives notice: a look each millisecond.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// Looks now and then.
#[derive(Debug)]
pub(super) struct Looks;

impl Changes for Looks {
    fn wait(&mut self, at_most: Duration) -> io::Result<bool> {
        thread::sleep(at_most.min(LOOK_INTERVAL));
        Ok(true)
    }
}

/// What the kernel tells (`inotify(7)`).
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Notices {
    queue: OwnedFd,
}

#[cfg(target_os = "linux")]
impl Notices {
    pub(super) fn new(dir: &Path) -> Result<Self, Errno> {
        let queue = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        let changes =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&queue, dir, changes | inotify::WatchFlags::ONLYDIR)?;
        Ok(Self { queue })
    }
}

#[cfg(target_os = "linux")]
impl Changes for Notices {
    fn wait(&mut self, at_most: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(at_most).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&self.queue, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // What they say is of no interest: the files are looked at.
        let mut notices = [0u8; 4096];
        loop {
            match rustix::io::read(&self.queue, &mut notices) {
                Ok(0) | Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
