//! An archive by its URL, and the few things that are asked of its storage.

use std::fmt;
use std::ops::Range;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};
use tokio::runtime::Runtime;
use url::Url;

use crate::error::Error;
use crate::manifest::{Manifest, parse_name};

/// Objects of more bytes are uploaded in parts of so many.
const PART_SIZE: usize = 8 << 20;
/// Parts that are on their way at the same time.
const PARTS_AT_ONCE: usize = 4;

/// How far something has come, in bytes of segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// An archive of a journal.
pub struct Archive {
    pub(crate) url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Runtime,
    fetched: AtomicU64,
}

impl fmt::Debug for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Archive").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Archive {
    /// The archive at `file:///…`, `s3://bucket/…`, `gs://bucket/…`, `az://container/…`, or in a local folder by its path.
    /// Nothing is looked at yet. Storage in a cloud takes its keys, region and endpoint from the environment
    /// (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, …).
    ///
    /// # Errors
    ///
    /// A URL that is not understood, or settings that are not enough.
    pub fn open(url: &str) -> Result<Self, Error> {
        let wrong = |what: String| Error::Url { url: url.to_owned(), what };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::Runtime { source })?;
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
                std::fs::create_dir_all(&folder).map_err(|error| wrong(error.to_string()))?;
                let store =
                    LocalFileSystem::new_with_prefix(folder).map_err(|error| wrong(error.to_string()))?;
                (Arc::new(store.with_fsync(true)), Path::default())
            }
        };
        Ok(Self { url: url.to_owned(), store, prefix, runtime, fetched: AtomicU64::new(0) })
    }

    /// What the archive holds; `None` where there is none yet.
    ///
    /// # Errors
    ///
    /// The storage; a manifest that is not what its name says.
    pub fn manifest(&self) -> Result<Option<Manifest>, Error> {
        let folder = self.path("manifests");
        let objects: Vec<_> = self
            .runtime
            .block_on(self.store.list(Some(&folder)).try_collect())
            .map_err(|source| self.failed("list the manifests", source))?;
        let names: Vec<_> =
            objects.iter().filter_map(|object| object.location.filename()).map(str::to_owned).collect();
        let newest = names.iter().filter_map(|name| parse_name(name)).map(|(generation, _)| generation).max();
        let mut found: Option<Manifest> = None;
        for name in names.iter().filter(|name| parse_name(name).map(|(generation, _)| generation) == newest) {
            let object = format!("manifests/{name}");
            let damaged = |what| Error::Damaged { url: self.url.clone(), object: object.clone(), what };
            let manifest = Manifest::parse(name, &self.get(&object)?).map_err(damaged)?;
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
        self.manifest()?.ok_or_else(|| Error::None { url: self.url.clone() })
    }

    /// Bytes of objects that were fetched since it was opened.
    pub fn bytes_fetched(&self) -> u64 {
        self.fetched.load(Ordering::Relaxed)
    }

    fn path(&self, object: &str) -> Path {
        Path::from(format!("{}/{object}", self.prefix))
    }

    fn failed(&self, operation: &'static str, source: object_store::Error) -> Error {
        Error::Store { url: self.url.clone(), operation, source }
    }

    /// All bytes of an object.
    pub(crate) fn get(&self, object: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.stream(object, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Gives the bytes of an object piece by piece.
    pub(crate) fn stream(
        &self,
        object: &str,
        mut give: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |source| self.failed("read an object", source);
        self.runtime.block_on(async {
            let mut pieces = self.store.get(&self.path(object)).await.map_err(failed)?.into_stream();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(failed)?;
                self.fetched.fetch_add(piece.len() as u64, Ordering::Relaxed);
                give(&piece)?;
            }
            Ok(())
        })
    }

    /// Bytes of an object that stand in a range.
    pub(crate) fn get_range(&self, object: &str, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let bytes = self.runtime.block_on(self.store.get_range(&self.path(object), range));
        let bytes = bytes.map_err(|source| self.failed("read an object", source))?;
        self.fetched.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(bytes.to_vec())
    }

    /// Bytes of an object; `None` if there is none.
    pub(crate) fn size(&self, object: &str) -> Result<Option<u64>, Error> {
        match self.runtime.block_on(self.store.head(&self.path(object))) {
            Ok(object) => Ok(Some(object.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed("look for an object", source)),
        }
    }

    /// Writes an object as a whole: it is there with all its bytes, or not at all.
    pub(crate) fn put(&self, object: &str, bytes: &[u8], mut written: impl FnMut(u64)) -> Result<(), Error> {
        let failed = |source| self.failed("write an object", source);
        let path = self.path(object);
        self.runtime.block_on(async {
            if bytes.len() <= PART_SIZE {
                self.store.put(&path, PutPayload::from(bytes.to_vec())).await.map_err(failed)?;
                written(bytes.len() as u64);
                return Ok(());
            }
            let upload = self.store.put_multipart(&path).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_SIZE);
            for part in bytes.chunks(PART_SIZE) {
                if let Err(source) = upload.wait_for_capacity(PARTS_AT_ONCE).await {
                    // What a failed upload leaves is the storage's to clean up, if this can't.
                    drop(upload.abort().await);
                    return Err(failed(source));
                }
                upload.write(part);
                written(part.len() as u64);
            }
            upload.finish().await.map(drop).map_err(failed)
        })
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

/// Bytes of so many hexadecimal digits.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(place..place + 2)?, 16).ok()?;
    }
    Some(bytes)
}
