//! All bytes of an input at once.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use semj::blocks::{Layout, unpack};
use semj::medium::{Disk, Map, Medium as _};
use tempfile::NamedTempFile;

/// Bytes of a file in memory that is not mapped: of one that is compressed, or comes through a pipe, the rest goes to a temporary
/// file.
const SPOOLED_MIN: usize = 64 << 20;

/// All bytes of an input, however many: a file is mapped, and of what comes in another way all but the first of it goes through a
/// temporary one.
pub(crate) enum Whole {
    InMemory(Vec<u8>),
    Mapped(Box<dyn Map>),
}

impl Whole {
    /// Maps a file, or reads what is none: a pipe, a device.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_file() {
            return Self::map(path);
        }
        let mut reader = BufReader::with_capacity(256 << 10, file);
        if !kind.is_char_device() && !kind.is_block_device() {
            return Self::read(&mut reader);
        }
        // Some devices have no end.
        let mut bytes = Vec::new();
        reader.take(SPOOLED_MIN as u64).read_to_end(&mut bytes)?;
        match bytes.len() < SPOOLED_MIN {
            true => Ok(Self::InMemory(bytes)),
            false => bail!("a device, and no file"),
        }
    }

    /// Maps a file.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        Ok(Self::Mapped(Disk.open(path, false)?.map()?))
    }

    /// Reads an input to its end.
    pub(crate) fn read(reader: &mut dyn BufRead) -> Result<Self> {
        let mut bytes = Vec::new();
        (&mut *reader).take(SPOOLED_MIN as u64).read_to_end(&mut bytes)?;
        if bytes.len() < SPOOLED_MIN {
            return Ok(Self::InMemory(bytes));
        }
        // It loses its name at once: nothing is left of it, however the process ends.
        let (mut file, path) = NamedTempFile::new()?.into_parts();
        let spooled = Disk.open(&path, false)?;
        let name = path.display().to_string();
        path.close()?;
        file.write_all(&bytes).with_context(|| name.clone())?;
        drop(bytes);
        io::copy(reader, &mut file).context(name)?;
        Ok(Self::Mapped(spooled.map()?))
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::InMemory(bytes) => bytes,
            Self::Mapped(map) => map.bytes(0..map.size()),
        }
    }

    /// The bytes, or those that they give back if they are a compressed segment.
    pub(crate) fn native(&self) -> Result<Cow<'_, [u8]>> {
        let bytes = self.bytes();
        if !Layout::is_compressed(bytes) {
            return Ok(Cow::Borrowed(bytes));
        }
        let native = unpack(bytes);
        // What is gone of a file looks like damage, and is another matter.
        self.check()?;
        native.map(Cow::Owned).context("a compressed segment that is damaged")
    }

    /// Whether everything that was read up to now was there: of a file that somebody makes shorter, what is gone reads as zeros.
    pub(crate) fn check(&self) -> Result<()> {
        match self {
            Self::Mapped(map) if !map.is_intact() => bail!("it became shorter while it was read"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_becomes_shorter_is_noticed_once_what_is_gone_is_read() {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(&[1; 100_000]).unwrap();
        let whole = Whole::open(file.path()).unwrap();
        assert!(whole.bytes().iter().all(|byte| *byte == 1) && whole.check().is_ok());
        file.as_file().set_len(10).unwrap();
        assert_eq!((whole.bytes().len(), whole.bytes().last()), (100_000, Some(&0)));
        let error = whole.check().unwrap_err().to_string();
        assert!(error.contains("shorter"), "{error}");
    }

    #[test]
    fn a_file_that_is_empty_or_no_file_is_read_as_well() {
        let file = NamedTempFile::new().unwrap();
        let empty = Whole::open(file.path()).unwrap();
        assert!(empty.bytes().is_empty() && empty.native().unwrap().is_empty() && empty.check().is_ok());
        let none = Whole::open(Path::new("/dev/null")).unwrap();
        assert!(matches!(none, Whole::InMemory(bytes) if bytes.is_empty()));
        assert!(Whole::open(Path::new("/dev/zero")).is_err());
    }
}
