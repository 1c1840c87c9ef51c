//! Journals that are read where they are archived.

use std::path::Path;

use anyhow::Result;
use semj::Reader;

/// The archive's URL, if that is what was given in the place of a directory.
pub(crate) fn url(dir: &Path) -> Option<&str> {
    dir.to_str().filter(|text| text.contains("://"))
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
