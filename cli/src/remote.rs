//! Journals that are read where they are archived.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use semj::Reader;

/// The archive's URL, if that is what was given in the place of a directory.
pub(crate) fn url(dir: &Path) -> Option<&str> {
    dir.to_str().filter(|text| text.contains("://"))
}

/// What to say to who has named an archive's folder where a journal's directory is needed.
pub(crate) fn hint(error: &anyhow::Error) -> Option<String> {
    let Some(semj::Error::NoJournal { dir }) = error.downcast_ref() else { return None };
    let manifests = fs::read_dir(dir.join("manifests")).ok()?;
    let is_manifest = |path: PathBuf| path.extension().is_some_and(|extension| extension == "json");
    if !manifests.flatten().any(|entry| is_manifest(entry.path())) {
        return None;
    }
    let folder = fs::canonicalize(dir).ok()?;
    // What means something else in a URL.
    let folder = folder.to_str()?.replace('%', "%25").replace('?', "%3F").replace('#', "%23");
    Some(format!("{}: an archive, which is read as file://{folder}", dir.display()))
}

/// Opens an archive, and says what it lacks.
#[cfg(feature = "archive")]
pub(crate) fn open(url: &str) -> Result<(Reader, Vec<String>)> {
    let journal = semj_archive::Archive::existing(url)?.reader()?;
    let missing = journal.missing.iter().map(|numbers| match numbers.start() == numbers.end() {
        true => format!("{url}: segment {} is not archived", numbers.start()),
        false => format!("{url}: segments {} to {} are not archived", numbers.start(), numbers.end()),
    });
    Ok((journal.reader, missing.collect()))
}

#[cfg(not(feature = "archive"))]
pub(crate) fn open(url: &str) -> Result<(Reader, Vec<String>)> {
    Err(anyhow::anyhow!("{url}: needs a program that was built with the feature \"archive\""))
}
