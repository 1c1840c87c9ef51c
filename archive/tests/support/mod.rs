//! A journal and its archive, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use semj::{CommitOn, Event, EventType, Journal, Options, Retention};
use semj_archive::{Archive, Manifest, PushOptions};
use sha2::{Digest as _, Sha256};

pub(crate) fn open(dir: &Path) -> Journal {
    Journal::open(dir, small()).unwrap()
}

pub(crate) fn small() -> Options {
    Options { segment_size: 256 << 10, commit_on: CommitOn::CallersThread, ..Options::default() }
}

/// Ends so many segments, with ten events each.
pub(crate) fn grow(journal: &Journal, count: u64) {
    for _ in 0..count {
        for _ in 0..10 {
            let payload = format!("{{\"n\":{}}}", journal.stats().last_emitted_id + 1);
            journal.emit(&Event::new(EventType::FILESYSTEM_WRITE).payload(payload.as_bytes())).unwrap();
        }
        journal.rotate().unwrap();
    }
}

pub(crate) fn retain(journal: &Journal, max_segments: u64) {
    journal.retain(&Retention { max_segments: Some(max_segments), ..Retention::default() }).unwrap();
}

pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// The journal.
    pub(crate) fn live(&self) -> PathBuf {
        self.dir.path().join("live")
    }

    /// Its archive.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("archive")
    }

    pub(crate) fn archive(&self) -> Archive {
        Archive::open(self.folder().to_str().unwrap()).unwrap()
    }

    pub(crate) fn push(&self) {
        self.archive().push(&self.live(), PushOptions::default(), &mut |_| ()).unwrap();
    }

    /// Has the archive another manifest, which is right.
    pub(crate) fn replace_manifest(&self, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.archive().existing_manifest().unwrap();
        change(&mut manifest);
        manifest.generation += 1;
        let bytes = serde_json::to_vec(&manifest).unwrap();
        let name = format!("manifests/{:020}-{}.json", manifest.generation, sha256_of(&bytes));
        fs::write(self.folder().join(name), bytes).unwrap();
    }
}

pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
