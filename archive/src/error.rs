//! What can go wrong.

use std::path::PathBuf;
use std::sync::Arc;

use semj::blocks::DecodeError;
use thiserror::Error;

/// What can go wrong with an archive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names nothing that can be an archive here.
    #[error("{url}: {what}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The storage refused something, or can't be reached.
    #[error("{url}: can't {operation}")]
    Store {
        /// The archive.
        url: String,
        /// What was tried.
        operation: &'static str,
        /// The storage's answer.
        source: object_store::Error,
    },
    /// The journal, or a file on this side.
    #[error(transparent)]
    Journal(#[from] semj::Error),
    /// A file on this side.
    #[error("{}: can't {operation}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// A compressed segment on this side.
    #[error("{}: a compressed segment that is damaged", path.display())]
    Block {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// There is no archive.
    #[error("{url}: no archive here (no manifest)")]
    None {
        /// Where.
        url: String,
    },
    /// No segment that was asked for is archived, or all of them are retired.
    #[error("{url}: no such segment: it has {first} to {last}, those up to {retired_upto} retired")]
    NoSegment {
        /// The archive.
        url: String,
        /// The first segment that it has, 0 if it has none.
        first: u64,
        /// The last one.
        last: u64,
        /// Up to which segment the journal was retired.
        retired_upto: u64,
    },
    /// The journal retired a segment before it was archived, and what says so is not archived yet. What there is was fetched, and
    /// is for reading.
    #[error(
        "{url}: segment {number} is not archived, and nothing archived says that the journal retired it: push once more when the \
         segment that is written has ended (semj rotate), and fetch again; what was fetched is for reading till then"
    )]
    Unsaid {
        /// The archive.
        url: String,
        /// The segment's number.
        number: u64,
    },
    /// An object that a manifest speaks of is not there.
    #[error("{url}: {object} is not there")]
    Missing {
        /// The archive.
        url: String,
        /// The object.
        object: String,
    },
    /// An object is not the one that it was, or that the manifest speaks of.
    #[error("{url}: {object} was replaced by another object")]
    Changed {
        /// The archive.
        url: String,
        /// The object.
        object: String,
    },
    /// An object ends too soon.
    #[error("{url}: {object} has {found} bytes, expected {expected}")]
    Truncated {
        /// The archive.
        url: String,
        /// The object.
        object: String,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// What is stored is not what it should be.
    #[error("{url}: {object}: {what}")]
    Damaged {
        /// The archive.
        url: String,
        /// The object.
        object: String,
        /// What is wrong with it.
        what: String,
    },
    /// The archive has something else than the journal.
    #[error("{url}: the archive is not this journal's: {what}")]
    Other {
        /// The archive.
        url: String,
        /// What is different.
        what: String,
    },
    /// The runtime that the storage needs could not be started.
    #[error("can't start what the storage client runs on")]
    Runtime {
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Why a read of what is archived failed, where the archive is why: the journal's own error has it inside.
    pub fn behind(error: &semj::Error) -> Option<&Self> {
        let semj::Error::Io { source, .. } = error else { return None };
        source.get_ref()?.downcast_ref::<Arc<Self>>().map(|error| &**error)
    }
}
