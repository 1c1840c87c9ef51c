//! A file that has its name when it is complete.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;

/// What a file is called that is about to take the place of another one.
const HIDDEN: &str = ".semj-export-";
/// Who may read and write a new file, but for what the process's mask forbids.
const MODE: u32 = 0o666;

/// A file that is written beside the place where it will be. What is there stays until then.
pub(crate) struct NewFile {
    bytes: Bytes,
    path: PathBuf,
}

enum Bytes {
    /// Without a name: nothing is left of it, however the process ends.
    Unnamed(File),
    /// Where the file system or the system can't do that.
    Hidden(NamedTempFile),
}

impl NewFile {
    /// A file that will be at a path.
    pub(crate) fn beside(path: &Path) -> io::Result<Self> {
        match unnamed(folder(path)) {
            Ok(file) => Ok(Self { bytes: Bytes::Unnamed(file), path: path.to_owned() }),
            Err(_) => Self::hidden(path),
        }
    }

    fn hidden(path: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        let file =
            builder.prefix(HIDDEN).permissions(Permissions::from_mode(MODE)).tempfile_in(folder(path))?;
        Ok(Self { bytes: Bytes::Hidden(file), path: path.to_owned() })
    }

    /// The file itself.
    pub(crate) fn as_file(&self) -> &File {
        match &self.bytes {
            Bytes::Unnamed(file) => file,
            Bytes::Hidden(file) => file.as_file(),
        }
    }

    /// Where it will be.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name. First the bytes, then the name: after a crash it is one file or the other.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.as_file().sync_all()?;
        let Self { bytes, path } = self;
        let file = match bytes {
            Bytes::Hidden(file) => return Ok(file.persist(&path).map(drop)?),
            Bytes::Unnamed(file) => file,
        };
        match link(&file, &path) {
            // A link replaces nothing: it gets a name beside what is there, and takes its place with that.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mut builder = tempfile::Builder::new();
                let hidden = builder.prefix(HIDDEN).make_in(folder(&path), |hidden| link(&file, hidden))?;
                Ok(hidden.persist(&path).map_err(|error| error.error)?)
            }
            linked => linked,
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.as_file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.as_file().flush()
    }
}

/// Where a file is or will be.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file without a name, which it can be given.
fn unnamed(dir: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(dir, flags, Mode::from_raw_mode(MODE))?);
    // Without /proc there is no way to name it.
    if fs::metadata(opened(&file))?.ino() != file.metadata()?.ino() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(file)
}

/// The path by which the system knows an open file.
fn opened(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

fn link(file: &File, path: &Path) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, opened(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_has_its_name_when_it_is_complete_whatever_the_file_system_can() {
        let dir = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let made: [fn(&Path) -> io::Result<NewFile>; 2] = [NewFile::beside, NewFile::hidden];
        for (n, made) in made.into_iter().enumerate() {
            let path = dir.path().join(n.to_string());
            for bytes in ["new", "in its place"] {
                let mut file = made(&path).unwrap();
                file.write_all(bytes.as_bytes()).unwrap();
                assert_ne!(fs::read(&path).unwrap_or_default(), bytes.as_bytes());
                file.finish().unwrap();
                assert_eq!(fs::read(&path).unwrap(), bytes.as_bytes());
            }
            let left = made(&path).unwrap();
            drop(left);
            let names: Vec<_> = names();
            assert_eq!(names.len(), n + 1, "{names:?}");
        }
        let gone = dir.path().join("gone");
        assert!(NewFile::beside(&gone.join("file")).is_err());
    }
}
