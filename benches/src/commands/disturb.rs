//! Another program that writes to the same disk.

use std::fs::OpenOptions;
use std::io::{Read as _, stdin};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// The file is written over and over.
const FILE_SIZE: u64 = 1 << 30;
const CHUNK_SIZE: usize = 1 << 20;
/// So often what was written is brought to the disk, that the rate is the disk's and not the memory's.
const SYNCS_PER_SECOND: u64 = 10;

/// Writes to a file at a rate until its standard input ends, then prints how many bytes reached the disk and in how many
/// nanoseconds.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file.
    file: PathBuf,
    /// Bytes each second.
    rate: u64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The parent's end of the pipe closes when it is done with us, and when it dies.
            let ended = stdin().read_to_end(&mut Vec::new());
            is_over.store(true, Ordering::Relaxed);
            ended
        });
        write(&args.file, args.rate, &is_over)
    })
}

fn write(path: &Path, rate: u64, is_over: &AtomicBool) -> Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let chunk = vec![0xA5; CHUNK_SIZE];
    let began = Instant::now();
    let (mut written, mut synced) = (0u64, 0u64);
    while !is_over.load(Ordering::Relaxed) {
        file.write_all_at(&chunk, written % FILE_SIZE)?;
        written += CHUNK_SIZE as u64;
        if written - synced >= rate / SYNCS_PER_SECOND {
            file.sync_data()?;
            synced = written;
        }
        let due = Duration::from_secs_f64(written as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    println!("{synced} {}", began.elapsed().as_nanos());
    Ok(())
}

/// The other program while it runs.
#[derive(Debug)]
pub(crate) struct Disturber {
    child: Child,
}

impl Disturber {
    /// Starts it.
    pub(crate) fn start(file: &Path, rate: u64) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .arg("disturb")
            .args([file.as_os_str(), rate.to_string().as_ref()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Self { child })
    }

    /// Ends it, and gives the bytes each second that reached the disk.
    pub(crate) fn stop(mut self) -> Result<f64> {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        let mut figures = text.split_whitespace().map(str::parse::<u64>);
        let mut figure = || figures.next().context("the disturbing process did not end in order");
        let (bytes, ns) = (figure()??, figure()??);
        Ok(bytes as f64 / Duration::from_nanos(ns).as_secs_f64())
    }
}
