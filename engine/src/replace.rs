//! Files that take the place of others, or stand beside them: whoever may read or write the one may read or write the other.

use std::fmt::Debug;
use std::io::ErrorKind;
use std::path::Path;

use crate::directory;
use crate::error::Error;
use crate::medium::{File, LockOutcome, Medium};

/// What keeps others from putting files in the places of segments, and removes what somebody began and did not finish.
pub(crate) fn lock(medium: &dyn Medium, dir: &Path) -> Result<Box<dyn Debug + Send + Sync>, Error> {
    let path = dir.join(directory::COMPACTION_LOCK);
    let lock = match medium.lock(&path).map_err(Error::io("lock", &path))? {
        LockOutcome::Acquired(lock) => lock,
        LockOutcome::Held(pid) => return Err(Error::Compacting { dir: dir.to_owned(), pid }),
    };
    // The writer takes it too: somebody else who came first must not keep it from that.
    if let Err(error) = medium.take_after(&path, &dir.join(directory::LOCK)) {
        tracing::debug!(%error, path = %path.display(), "it stays whose it is");
    }
    let names = medium.list(dir).map_err(Error::io("list", dir))?;
    for name in names.iter().filter(|name| directory::is_compressing(name)) {
        let path = dir.join(name);
        medium.remove(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(lock)
}

/// Writes a file that is to take the place of another, or to stand beside it, under a name of its own: durably but for the name.
pub(crate) fn write_like(
    medium: &dyn Medium,
    path: &Path,
    model: &Path,
    bytes: &[u8],
) -> Result<Box<dyn File>, Error> {
    let file = create_like(medium, path, model, bytes.len() as u64)?;
    file.write_at(0, bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))?;
    Ok(file)
}

/// Creates a file that whoever may read or write another may read or write too, and nobody else. It has no bytes before that.
pub(crate) fn create_like(
    medium: &dyn Medium,
    path: &Path,
    model: &Path,
    size: u64,
) -> Result<Box<dyn File>, Error> {
    let file = medium.create(path, size).map_err(Error::io("create", path))?;
    take_after(medium, path, model)?;
    Ok(file)
}

/// Has whoever may read or write a file be able to read or write another.
pub(crate) fn take_after(medium: &dyn Medium, path: &Path, model: &Path) -> Result<(), Error> {
    match medium.take_after(path, model) {
        // It was retired: what it would be for is gone too, or a copy of what somebody still has mapped.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        taken => taken.map_err(Error::io("set the permissions of", path)),
    }
}
