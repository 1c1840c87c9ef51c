//! Devices, file systems and mounts. All of it is taken apart again when it is dropped.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::image::DataExtents;

/// A file system of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// Bytes of its images: small, but no smaller than it can be.
    const fn size(self) -> u64 {
        match self {
            Self::Ext4 => 64 << 20,
            Self::Xfs => 300 << 20,
        }
    }

    /// Makes an image with this file system.
    pub(crate) fn make(self, path: &Path) -> Result<()> {
        File::create(path).and_then(|file| file.set_len(self.size())).context("create the image")?;
        // Everything is initialised now, so that no kernel thread does it later.
        let mkfs: &[&str] = match self {
            Self::Ext4 => &[
                "mkfs.ext4",
                "-q",
                "-F",
                "-b4096",
                "-Jsize=4",
                "-Elazy_itable_init=0,lazy_journal_init=0,nodiscard",
            ],
            Self::Xfs => &["mkfs.xfs", "-q", "-f", "-K"],
        };
        run(mkfs, &[path])?;
        Ok(())
    }

    /// Whether the file system on an image that was unmounted is in order.
    pub(crate) fn check(self, path: &Path) -> Result<()> {
        let fsck: &[&str] = match self {
            Self::Ext4 => &["e2fsck", "-f", "-n"],
            Self::Xfs => &["xfs_repair", "-n"],
        };
        run(fsck, &[path])?;
        Ok(())
    }

    fn mount(self, device: &Path, target: &Path) -> Result<Mount> {
        let options = match self {
            Self::Ext4 => None,
            // Images of one history have the same id.
            Self::Xfs => Some(c"nouuid"),
        };
        mount(device, target, self.name(), MountFlags::empty(), options)
            .with_context(|| format!("{} can't be mounted", self.name()))?;
        Ok(Mount { target: Some(target.to_owned()) })
    }
}

/// Held for reading while files are open on a mounted image, and for writing while a program is started: between
/// fork and exec the new process has all open files too, and a file system could not be unmounted.
static FILES_ARE_OPEN: RwLock<()> = RwLock::new(());

/// Starts a program.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    let _quiet = FILES_ARE_OPEN.write().unwrap_or_else(PoisonError::into_inner);
    command.stdin(Stdio::null()).spawn().with_context(|| format!("run {}", command.get_program().display()))
}

/// Runs a program and gives what it prints.
fn run(command: &[&str], paths: &[&Path]) -> Result<String> {
    let (name, arguments) = command.split_first().context("no program")?;
    let mut command = Command::new(name);
    command.args(arguments).args(paths).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = spawn(&mut command)?.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{name}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}

/// How long something may keep a file system from being unmounted.
const BUSY_MAX: Duration = Duration::from_secs(20);

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Mount {
    target: Option<PathBuf>,
}

impl Mount {
    pub(crate) fn unmount(mut self) -> Result<()> {
        let deadline = Instant::now() + BUSY_MAX;
        loop {
            let Some(target) = &self.target else { return Ok(()) };
            match unmount(target, UnmountFlags::empty()) {
                // Somebody who looks at the processes of this machine may keep a dead one's files for a moment.
                Err(Errno::BUSY) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                Err(error) => return Err(error).with_context(|| format!("unmount {}", target.display())),
                Ok(()) => self.target = None,
            }
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Some(target) = &self.target
            && let Err(error) = unmount(target, UnmountFlags::DETACH)
        {
            eprintln!("unmount {}: {error}", target.display());
        }
    }
}

/// A loop device.
#[derive(Debug)]
pub(crate) struct Loop {
    path: PathBuf,
}

impl Loop {
    /// A loop device for a file, which hands it one request after the other. With direct I/O there are many at the
    /// same time, and qemu's FUSE export (10.0 at least) then puts the data of one into the place of another.
    pub(crate) fn attach(file: &Path) -> Result<Self> {
        let path = run(&["losetup", "--find", "--show", "--direct-io=off"], &[file])?;
        Ok(Self { path: path.trim_end().into() })
    }

    /// Mounts the file system on it. What stands on the device may have changed since it was unmounted.
    pub(crate) fn mount(&self, file_system: FileSystem, target: &Path) -> Result<Mount> {
        let device = File::open(&self.path).context("open the loop device")?;
        fadvise(&device, 0, None, Advice::DontNeed).context("forget the loop device's pages")?;
        drop(device);
        file_system.mount(&self.path, target)
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run(&["losetup", "--detach"], &[&self.path]) {
            eprintln!("{error}");
        }
    }
}

/// An image in a file, and where it is mounted when it is.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) image: File,
    pub(crate) target: PathBuf,
    size: u64,
    device: Loop,
}

impl Bench {
    pub(crate) fn new(dir: &Path, file_system: FileSystem) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let (path, target, size) = (dir.join("image"), dir.join("mounted"), file_system.size());
        fs::create_dir_all(&target)?;
        let image = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
        image.set_len(size)?;
        Ok(Self { image, target, size, device: Loop::attach(&path)? })
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn mount(&self, file_system: FileSystem) -> Result<BenchMount> {
        let files_are_open = FILES_ARE_OPEN.read().unwrap_or_else(PoisonError::into_inner);
        Ok(BenchMount {
            mount: self.device.mount(file_system, &self.target)?,
            _files_are_open: files_are_open,
        })
    }
}

/// A mounted image in which this process opens files.
#[derive(Debug)]
pub(crate) struct BenchMount {
    mount: Mount,
    _files_are_open: RwLockReadGuard<'static, ()>,
}

impl BenchMount {
    pub(crate) fn unmount(self) -> Result<()> {
        self.mount.unmount()
    }
}

/// A mounted image whose writes qemu-storage-daemon logs.
#[derive(Debug)]
pub(crate) struct LoggedMount {
    // In the order in which they are taken apart.
    mount: Mount,
    daemon: Daemon,
}

impl LoggedMount {
    /// Mounts `image`, with a new log in `log`. Scratch files go to `dir`.
    pub(crate) fn new(
        file_system: FileSystem,
        image: &Path,
        log: &Path,
        dir: &Path,
        target: &Path,
    ) -> Result<Self> {
        let (export, ready) = (dir.join("export"), dir.join("qemu.pid"));
        for path in [&export, log] {
            File::create(path).with_context(|| format!("create {}", path.display()))?;
        }
        let mut daemon = Daemon::start(image, log, &export, &ready)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        // It writes its process id when everything is exported.
        while !ready.exists() {
            ensure!(daemon.child.try_wait()?.is_none(), "qemu-storage-daemon has ended");
            ensure!(Instant::now() < deadline, "qemu-storage-daemon does not start");
            thread::sleep(Duration::from_millis(2));
        }
        let device = Loop::attach(&export)?;
        let mount = device.mount(file_system, target)?;
        // Dropped here, the loop device goes when the mount goes, whatever becomes of this process.
        Ok(Self { mount, daemon })
    }

    /// Unmounts the image; then the log is complete.
    pub(crate) fn unmount(self) -> Result<()> {
        let Self { mount, daemon } = self;
        mount.unmount()?;
        drop(daemon);
        Ok(())
    }
}

#[derive(Debug)]
struct Daemon {
    child: Child,
    export: PathBuf,
}

impl Daemon {
    fn start(image: &Path, log: &Path, export: &Path, ready: &Path) -> Result<Self> {
        let file =
            |node: &str, path: &Path| format!("driver=file,node-name={node},filename={}", path.display());
        let mut command = Command::new("qemu-storage-daemon");
        command
            .args(["--blockdev", &file("image", image)])
            .args(["--blockdev", &file("log", log)])
            .args([
                "--blockdev",
                "driver=blklogwrites,node-name=logged,file=image,log=log,log-sector-size=512",
            ])
            .arg("--export")
            .arg(format!(
                "type=fuse,id=export,node-name=logged,writable=on,allow-other=off,mountpoint={}",
                export.display()
            ))
            .arg("--pidfile")
            .arg(ready);
        Ok(Self { child: spawn(&mut command)?, export: export.to_owned() })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let asked = Pid::from_raw(self.child.id().cast_signed())
            .is_some_and(|pid| kill_process(pid, Signal::TERM).is_ok());
        if !asked || self.child.wait().is_err() {
            eprintln!("qemu-storage-daemon can't be ended");
        }
        // It takes its export with it; if it was killed, that is left.
        if let Ok(mounts) = fs::read_to_string("/proc/self/mounts")
            && mounts.contains(&*self.export.to_string_lossy())
        {
            drop(Mount { target: Some(self.export.clone()) });
        }
    }
}

/// Where the files in a directory and in those below it stand on their device.
pub(crate) fn data_extents(dir: &Path) -> Result<DataExtents> {
    let mut extents = DataExtents::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            extents.extend(data_extents(&path)?);
        } else {
            extents.extend(parse_extents(&run(&["filefrag", "-s", "-v", "-b512"], &[&path])?));
        }
    }
    Ok(extents)
}

/// Lines of filefrag's that tell of extents: `0: 0.. 7: 264.. 271: 8: eof`.
fn parse_extents(text: &str) -> DataExtents {
    let extent = |line: &str| {
        let mut fields = line.split(':').map(str::trim);
        fields.next()?.parse::<u64>().ok()?;
        let (first, last) = fields.nth(1)?.split_once("..")?;
        Some(first.trim().parse().ok()?..last.trim().parse::<u64>().ok()? + 1)
    };
    text.lines().filter_map(extent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_read_from_what_filefrag_prints() {
        let text = "Filesystem type is: ef53\n\
            File size of journal/1.semj is 262144 (512 blocks of 512 bytes)\n \
            ext:     logical_offset:        physical_offset: length:   expected: flags:\n   \
            0:        0..     103:      16520..     16623:    104:            \n   \
            1:      104..     511:      20480..     20887:    408:      16624: last,unwritten,eof\n\
            journal/1.semj: 2 extents found\n";
        assert_eq!(parse_extents(text), [16520..16624, 20480..20888]);
    }
}
