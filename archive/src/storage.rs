//! The few things that are asked of an object store, and what was fetched last.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart};
use tokio::runtime::Runtime;

use crate::error::Error;

const WRITE: &str = "write an object";

/// Objects of more bytes are uploaded in parts of so many.
const PART_SIZE: usize = 8 << 20;
/// Parts that are on their way at the same time.
const PARTS_AT_ONCE: usize = 4;
/// Bytes of objects that are kept for whoever reads the same again.
const CACHED_BYTES: usize = 32 << 20;

/// The objects below one place in an object store.
pub(crate) struct Storage {
    pub(crate) url: String,
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    runtime: Runtime,
    cache: Mutex<VecDeque<Cached>>,
}

/// Bytes of an object from an offset on.
struct Cached {
    object: Arc<str>,
    start: u64,
    bytes: Bytes,
}

impl Storage {
    pub(crate) fn new(url: &str, store: Arc<dyn ObjectStore>, prefix: Path) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Error::Runtime { source })?;
        Ok(Self { url: url.to_owned(), store, prefix, runtime, cache: Mutex::default() })
    }

    fn path(&self, object: &str) -> Path {
        Path::from(format!("{}/{object}", self.prefix))
    }

    fn failed(&self, operation: &'static str, object: &str, source: object_store::Error) -> Error {
        let (url, object) = (self.url.clone(), object.to_owned());
        match source {
            // What is written need not be there: then it is the bucket that is not.
            object_store::Error::NotFound { .. } if operation != WRITE => Error::Missing { url, object },
            object_store::Error::Precondition { .. } => Error::Changed { url, object },
            source => Error::Store { url, operation, source },
        }
    }

    /// The names of the objects in a folder.
    pub(crate) fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let listed = self.store.list(Some(&self.path(folder))).try_collect::<Vec<_>>();
        let objects =
            self.runtime.block_on(listed).map_err(|source| self.failed("list objects", folder, source))?;
        Ok(objects.iter().filter_map(|object| object.location.filename()).map(str::to_owned).collect())
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
        let failed = |source| self.failed("read an object", object, source);
        self.runtime.block_on(async {
            let mut pieces = self.store.get(&self.path(object)).await.map_err(failed)?.into_stream();
            while let Some(piece) = pieces.next().await {
                give(&piece.map_err(failed)?)?;
            }
            Ok(())
        })
    }

    /// Bytes of an object; `None` if there is none.
    pub(crate) fn size(&self, object: &str) -> Result<Option<u64>, Error> {
        match self.runtime.block_on(self.store.head(&self.path(object))) {
            Ok(object) => Ok(Some(object.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.failed("look for an object", object, source)),
        }
    }

    /// Writes an object as a whole: it is there with all its bytes, or not at all.
    pub(crate) fn put(&self, object: &str, bytes: &[u8], mut written: impl FnMut(u64)) -> Result<(), Error> {
        let failed = |source| self.failed(WRITE, object, source);
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

    fn cache(&self) -> MutexGuard<'_, VecDeque<Cached>> {
        // What a panic interrupted was at most not put in.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("url", &self.url).finish_non_exhaustive()
    }
}

/// An object that is read by ranges. What comes is of one and the same object each time.
#[derive(Debug)]
pub(crate) struct Ranged {
    storage: Arc<Storage>,
    pub(crate) name: Arc<str>,
    size: u64,
    /// What tells it from another one that was put in its place, where the storage says.
    tag: OnceLock<Option<String>>,
}

impl Ranged {
    /// The object of this name, which should have this size.
    pub(crate) fn new(storage: Arc<Storage>, name: &str, size: u64) -> Self {
        Self { storage, name: name.into(), size, tag: OnceLock::new() }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn url(&self) -> &str {
        &self.storage.url
    }

    /// Fetches bytes, keeps them for a while, and gives those before `end`.
    pub(crate) fn fetch_and_keep(&self, range: Range<u64>, end: u64) -> Result<Bytes, Error> {
        let start = range.start;
        let fetched = self.fetch(range)?;
        let size = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX).min(fetched.len());
        let bytes = fetched.slice(..size);
        let mut cache = self.storage.cache();
        cache.push_back(Cached { object: Arc::clone(&self.name), start, bytes: fetched });
        while cache.iter().map(|cached| cached.bytes.len()).sum::<usize>() > CACHED_BYTES {
            cache.pop_front();
        }
        Ok(bytes)
    }

    /// Bytes that were fetched a while ago.
    pub(crate) fn cached(&self, wanted: &Range<u64>) -> Option<Bytes> {
        let cache = self.storage.cache();
        cache.iter().rev().filter(|cached| cached.object == self.name).find_map(|cached| {
            let start = usize::try_from(wanted.start.checked_sub(cached.start)?).ok()?;
            let end = usize::try_from(wanted.end - cached.start).ok()?;
            (end <= cached.bytes.len()).then(|| cached.bytes.slice(start..end))
        })
    }

    /// Fetches bytes, all of which have to be there.
    pub(crate) fn fetch(&self, range: Range<u64>) -> Result<Bytes, Error> {
        let Storage { url, store, runtime, .. } = &*self.storage;
        let path = self.storage.path(&self.name);
        let changed = || Error::Changed { url: url.clone(), object: self.name.to_string() };
        let truncated = |found| Error::Truncated {
            url: url.clone(),
            object: self.name.to_string(),
            expected: self.size,
            found,
        };
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: self.tag.get().cloned().flatten(),
            ..GetOptions::default()
        };
        runtime.block_on(async {
            let found = match store.get_opts(&path, options).await {
                Ok(found) => found,
                Err(source) => {
                    // Each storage has its own way to say that a range is behind the end.
                    let failed = self.storage.failed("read an object", &self.name, source);
                    return Err(match (&failed, store.head(&path).await) {
                        (Error::Store { .. }, Ok(meta)) if meta.size < self.size => truncated(meta.size),
                        _ => failed,
                    });
                }
            };
            if found.meta.size < self.size {
                return Err(truncated(found.meta.size));
            }
            if found.meta.size > self.size {
                return Err(changed());
            }
            // Not every storage heeds the condition.
            if *self.tag.get_or_init(|| found.meta.e_tag.clone()) != found.meta.e_tag {
                return Err(changed());
            }
            let bytes = found.bytes().await;
            let bytes = bytes.map_err(|source| self.storage.failed("read an object", &self.name, source))?;
            let is_all = bytes.len() as u64 == range.end - range.start;
            if is_all { Ok(bytes) } else { Err(truncated(range.start + bytes.len() as u64)) }
        })
    }
}
