//! A compressed segment gets its native form back, before an open for writing gives it another end.
//!
//! What is cut is kept as it stands, written again, and gets a final header. All of that is about native bytes at native
//! offsets, and done to a compressed file it would destroy what is kept.

use std::path::Path;

use crate::directory;
use crate::error::Error;
use crate::medium::{Map, Medium};
use crate::replace::create_like;

/// Puts the native bytes that a segment's file stands for in its place, zeros for what can't be had of them. `replaces` is called
/// when all of that is durable, and before it takes the place: nobody knows from there on which of the two is in it.
pub(crate) fn write_native(
    medium: &dyn Medium,
    dir: &Path,
    name: &str,
    map: &dyn Map,
    replaces: impl FnOnce(),
) -> Result<Box<dyn Map>, Error> {
    let path = dir.join(name);
    let unfinished = dir.join(directory::copying(name));
    let written = write(medium, &unfinished, &path, map).and_then(|file| match map.failure() {
        // What can't be read now is not damage.
        Some(error) => Err(Error::io("read", &path)(error)),
        None if !map.is_intact() => Err(Error::changed(&path, map)),
        None => Ok(file),
    });
    let file = written.inspect_err(|_| {
        // If that fails too, the next open does it.
        drop(medium.remove(&unfinished));
    })?;
    replaces();
    medium.rename(&unfinished, &path).map_err(Error::io("rename", &unfinished))?;
    medium.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(file)
}

fn write(medium: &dyn Medium, path: &Path, model: &Path, map: &dyn Map) -> Result<Box<dyn Map>, Error> {
    let size = map.size();
    let file = create_like(medium, path, model, size as u64)?;
    let mut at = 0;
    while at < size {
        let end = map.piece_end(at).clamp(at + 1, size);
        file.write_at(at as u64, map.bytes(at..end)).map_err(Error::io("write", path))?;
        at = end;
    }
    file.sync_all().map_err(Error::io("sync", path))?;
    file.map().map_err(Error::io("map", path))
}
