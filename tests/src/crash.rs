//! What a crash leaves of a journal in a directory.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::TempDir;

/// Copies the files of a journal that goes on living.
///
/// # Errors
///
/// As the copies have them.
pub fn copy(dir: &Path) -> io::Result<TempDir> {
    let copy = tempfile::tempdir()?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        match fs::copy(entry.path(), copy.path().join(entry.file_name())) {
            // A sidecar gets its name when it is complete: it is derived, and the copy goes without it.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && entry.file_name().to_string_lossy().ends_with(".idx.tmp") => {}
            copied => drop(copied?),
        }
    }
    Ok(copy)
}
