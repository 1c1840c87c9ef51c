//! Journals that are read where they are archived.

use std::path::Path;

use anyhow::Result;
use semj::{Query, Reader};

/// The archive's URL, if that is what was given in the place of a directory.
pub(crate) fn url(dir: &Path) -> Option<&str> {
    dir.to_str().filter(|text| text.contains("://"))
}

/// Opens what an archive has of the segments that a question is about.
#[cfg(feature = "archive")]
pub(crate) fn open(url: &str, query: &Query) -> Result<Reader> {
    let archive = std::sync::Arc::new(semj_archive::Archive::open(url)?);
    let (first, last) = query.id_range();
    let is_about_some = (first, last) != (0, u64::MAX) && !query.may_match_own();
    let segments = match is_about_some {
        true => Some(archive.segments_with(&(first..last.saturating_add(1)))?),
        false => None,
    };
    Ok(archive.reader(segments)?)
}

#[cfg(not(feature = "archive"))]
pub(crate) fn open(url: &str, _: &Query) -> Result<Reader> {
    Err(anyhow::anyhow!("{url}: needs a program that was built with the feature \"archive\""))
}
