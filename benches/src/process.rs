//! This process, and the disk under a directory.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// Resident memory of this process without the maps of files, in bytes.
///
/// # Errors
///
/// The kernel doesn't say.
pub fn resident_bytes() -> Result<u64> {
    let kib = field("/proc/self/status", "RssAnon:")? + field("/proc/self/status", "RssShmem:")?;
    Ok(kib * 1024)
}

/// The most memory that this process has had resident, maps of files included, in bytes.
///
/// # Errors
///
/// The kernel doesn't say.
pub fn resident_bytes_max() -> Result<u64> {
    Ok(field("/proc/self/status", "VmHWM:")? * 1024)
}

/// Times that the calling thread's core was given to somebody else.
///
/// # Errors
///
/// The kernel doesn't say.
pub fn preemptions() -> Result<u64> {
    field("/proc/thread-self/status", "nonvoluntary_ctxt_switches:")
}

fn field(file: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number
        .with_context(|| format!("{file} has no {name}"))?
        .parse()
        .with_context(|| format!("{file}: {name}"))
}

/// Processor time that all threads of this process have used.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The cores that the calling thread may run on.
///
/// # Errors
///
/// The kernel doesn't say.
pub fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect())
}

/// Lets the calling thread, and those that it starts from now on, run on these cores only.
///
/// # Errors
///
/// There are no such cores.
pub fn pin(cores: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    sched_setaffinity(None, &set).with_context(|| format!("can't run on cores {cores:?}"))
}

/// A directory for one measurement, removed afterwards.
#[derive(Debug)]
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// A new directory in `parent`, or in the working directory, which must be on a disk. What other programs and
    /// earlier measurements have written there is brought to the disk first.
    ///
    /// # Errors
    ///
    /// It can't be made, is in memory, or the disk has less than `bytes_needed` left.
    pub fn new(parent: Option<&Path>, bytes_needed: u64) -> Result<Self> {
        let parent = parent.unwrap_or(Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("{}: can't make it", parent.display()))?;
        if file_system(parent)? == "tmpfs" {
            bail!("{}: it is in memory; --dir names a directory on a disk", parent.display());
        }
        let free = rustix::fs::statvfs(parent)?;
        let free = free.f_bavail * free.f_frsize;
        if free < bytes_needed {
            bail!("{}: {bytes_needed} bytes are needed, {free} are free", parent.display());
        }
        let dir = tempfile::Builder::new().prefix("semj-bench-").tempdir_in(parent)?;
        settle(dir.path())?;
        Ok(Self { dir })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A name in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Brings what was written to a directory's file system to the disk, so that it does not disturb what comes.
///
/// # Errors
///
/// It can't be opened or synced.
pub fn settle(dir: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(File::open(dir)?)?)
}

/// Bytes on the disk that the files in a directory and below it take.
///
/// # Errors
///
/// They can't be looked at.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}

/// The type of the file system that a directory is in.
///
/// # Errors
///
/// There is no such directory, or the kernel doesn't say.
pub fn file_system(dir: &Path) -> Result<String> {
    let dir = dir.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut found: (usize, &str) = (0, "unknown");
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(1);
        if let (Some(point), Some(kind)) = (fields.next(), fields.next())
            && dir.starts_with(point)
            && point.len() >= found.0
        {
            found = (point.len(), kind);
        }
    }
    Ok(found.1.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_cores_only() {
        let all = cores().unwrap();
        let last = *all.last().unwrap();
        pin(&[last]).unwrap();
        assert_eq!(cores().unwrap(), [last]);
        pin(&all).unwrap();
        assert_eq!(cores().unwrap(), all);
    }

    #[test]
    fn memory_that_is_touched_is_resident() {
        let before = resident_bytes().unwrap();
        let memory = vec![1u8; 64 << 20];
        let after = resident_bytes().unwrap();
        assert!(after - before >= 60 << 20, "{before} bytes, then {after}");
        assert!(resident_bytes_max().unwrap() >= after);
        drop(memory);
    }

    #[test]
    fn space_on_the_disk_is_what_files_take_in_all_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("below")).unwrap();
        fs::write(dir.path().join("one"), vec![1; 8192]).unwrap();
        fs::write(dir.path().join("below/two"), vec![1; 4096]).unwrap();
        settle(dir.path()).unwrap();
        assert_eq!(disk_bytes(dir.path()).unwrap(), 12288);
    }
}
