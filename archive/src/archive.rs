//! An archive by its URL.

use std::path::Path as FilePath;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use url::Url;

use crate::error::Error;
use crate::manifest::{Manifest, parse_name};
use crate::storage::Storage;

/// How far something has come, in bytes of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An archive of a journal.
///
/// Its methods wait for the storage, and are not to be called from within a runtime of `tokio`.
#[derive(Debug)]
pub struct Archive {
    pub(crate) storage: Arc<Storage>,
}

impl Archive {
    /// The archive at `file:///…`, `s3://bucket/…`, `gs://bucket/…`, `az://container/…`, or in a local folder by its path, which
    /// is made if it is not there. Nothing else is looked at yet. Storage in a cloud takes its keys, region and endpoint from
    /// the environment (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
    ///
    /// # Errors
    ///
    /// A URL that is not understood, or settings that are not enough.
    pub fn open(url: &str) -> Result<Self, Error> {
        Self::at(url, true)
    }

    /// The same, where there has to be an archive: nothing is made.
    ///
    /// # Errors
    ///
    /// As [`Archive::open`]; a folder that is not there.
    pub fn existing(url: &str) -> Result<Self, Error> {
        Self::at(url, false)
    }

    /// An archive below a path in any object store. `name` is what errors call it.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`].
    pub fn over(name: &str, store: Arc<dyn ObjectStore>, prefix: Path) -> Result<Self, Error> {
        Ok(Self { storage: Arc::new(Storage::new(name, store, prefix)?) })
    }

    fn at(url: &str, is_made: bool) -> Result<Self, Error> {
        let wrong = |what: String| Error::Url { url: url.to_owned(), what };
        let parsed = match url.contains("://") {
            true => Some(Url::parse(url).map_err(|error| wrong(error.to_string()))?),
            false => None,
        };
        let (store, prefix): (Arc<dyn ObjectStore>, Path) = match &parsed {
            Some(parsed) if parsed.scheme() != "file" => cloud(parsed).map_err(wrong)?,
            _ => {
                let folder = match &parsed {
                    Some(parsed) => {
                        parsed.to_file_path().map_err(|()| wrong("no path on this machine".into()))?
                    }
                    None => FilePath::new(url).to_owned(),
                };
                if is_made {
                    std::fs::create_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
                } else if !folder.is_dir() {
                    return Err(wrong("there is no such folder".to_owned()));
                }
                let store =
                    LocalFileSystem::new_with_prefix(folder).map_err(|error| wrong(error.to_string()))?;
                (Arc::new(store.with_fsync(true)), Path::default())
            }
        };
        Self::over(url, store, prefix)
    }

    pub(crate) fn url(&self) -> &str {
        &self.storage.url
    }

    pub(crate) fn damaged(&self, object: &str, what: String) -> Error {
        Error::Damaged { url: self.url().to_owned(), object: object.to_owned(), what }
    }

    /// What the archive holds; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// The storage; a manifest that is not what its name says.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        let names = self.storage.list("manifests")?;
        let newest = names.iter().filter_map(|name| parse_name(name)).map(|(generation, _)| generation).max();
        let mut found: Option<Manifest> = None;
        for name in names.iter().filter(|name| parse_name(name).map(|(generation, _)| generation) == newest) {
            let object = format!("manifests/{name}");
            let damaged = |what| self.damaged(&object, what);
            let manifest = Manifest::parse(name, &self.storage.get(&object)?).map_err(damaged)?;
            found = Some(match found {
                Some(other) => other.merge(manifest).map_err(damaged)?,
                None => manifest,
            });
        }
        Ok(found)
    }

    /// The same, where there has to be one.
    ///
    /// # Errors
    ///
    /// As [`Archive::manifest`]; [`Error::None`].
    pub fn existing_manifest(&self) -> Result<Manifest, Error> {
        self.manifest()?.ok_or_else(|| Error::None { url: self.url().to_owned() })
    }
}

/// Storage in a cloud, with the settings of the environment.
#[cfg(feature = "cloud")]
fn cloud(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    // The first one in the process counts, whichever it is.
    drop(rustls::crypto::ring::default_provider().install_default());
    let settings = std::env::vars_os().filter_map(|(name, value)| {
        Some((name.into_string().ok()?.to_ascii_lowercase(), value.into_string().ok()?))
    });
    // The storage checks each upload where it can.
    let checksum = [("aws_checksum_algorithm".to_owned(), "sha256".to_owned())];
    let (store, prefix) = object_store::parse_url_opts(url, checksum.into_iter().chain(settings))
        .map_err(|error| error.to_string())?;
    Ok((Arc::from(store), prefix))
}

#[cfg(not(feature = "cloud"))]
fn cloud(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path), String> {
    Err(format!("{}:// needs a program that was built with the feature \"cloud\"", url.scheme()))
}
