//! Where an import reads from: a file or a pipe that lets go of the reader when nothing comes, and when the program is told to end.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};

/// How long somebody waits who has lines that others would like to see. And how long a signal may wait.
const PAUSE: Duration = Duration::from_millis(50);

/// What reader and source tell each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    has_lines: Arc<AtomicBool>,
    /// A signal has come.
    is_over: Arc<AtomicBool>,
    /// Some of the input was not read for that.
    is_cut: Arc<AtomicBool>,
    /// The next signal ends the program.
    ends_program: Arc<AtomicBool>,
}

impl Pace {
    /// From here on SIGINT and SIGTERM end the input, and a second one ends the program.
    pub(crate) fn end_by_signals(&self) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&self.ends_program))?;
            signal_hook::flag::register(signal, Arc::clone(&self.ends_program))?;
            signal_hook::flag::register(signal, Arc::clone(&self.is_over))?;
        }
        Ok(())
    }

    /// From here on there is nothing to be ended but the program.
    pub(crate) fn has_ended(&self) {
        self.ends_program.store(true, Ordering::Relaxed);
    }

    /// Whether the input ends here, because a signal has come. Asked by whoever leaves the rest of it unread then.
    pub(crate) fn cuts(&self) -> bool {
        let is_over = self.is_over.load(Ordering::Relaxed);
        self.is_cut.fetch_or(is_over, Ordering::Relaxed);
        is_over
    }

    /// Whether a signal has ended the input before its end.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Whether who reads has lines that are not handed over yet. Then a read of which nothing comes for a while gives
    /// [`ErrorKind::WouldBlock`].
    pub(crate) fn has_lines(&self, has_lines: bool) {
        self.has_lines.store(has_lines, Ordering::Relaxed);
    }
}

/// A file, or what stands behind a pipe.
#[derive(Debug)]
pub(crate) struct Source {
    file: File,
    pace: Pace,
}

impl Source {
    pub(crate) const fn new(file: File, pace: Pace) -> Self {
        Self { file, pace }
    }
}

impl Read for Source {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let pause = Timespec { tv_sec: 0, tv_nsec: PAUSE.as_nanos() as i64 };
        while !self.pace.cuts() {
            match poll(&mut [PollFd::new(&self.file, PollFlags::IN)], Some(&pause)) {
                Ok(0) if self.pace.has_lines.load(Ordering::Relaxed) => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.file.read(bytes),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(0)
    }
}
