//! Segments that have reached their ends go into the archive.

use std::borrow::Cow;
use std::path::Path;

use semj::blocks::{BlockDecoder, Compressor, DecodeError, Layout};
use semj::format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj::medium::{Disk, Medium as _};
use semj::recovery::{SegmentInput, examine};
use semj::{Codec, OpenMode, Reader, SegmentReport, Verdict, sidecar_path};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, Sidecar, hex};

/// Bytes that are hashed at once.
const PIECE: usize = 1 << 20;

/// How segments are pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushOptions {
    /// Whether each object is read back and compared. Default: yes. Storage in a cloud checks a SHA-256 of each upload in any
    /// case where it can.
    pub reads_back: bool,
    /// How segments are compressed that are not yet; `None` uploads them as they are. Default: zstd. Only then can the
    /// archive be read without fetching whole segments.
    pub codec: Option<Codec>,
}

impl Default for PushOptions {
    fn default() -> Self {
        Self { reads_back: true, codec: Some(Codec::default()) }
    }
}

/// What a push came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PushReport {
    /// Segments that were uploaded.
    pub uploaded: u64,
    /// Bytes of them.
    pub bytes_uploaded: u64,
    /// Segments that an earlier push, which did not come to its end, has uploaded.
    pub found: u64,
    /// Segments that the archive had.
    pub known: u64,
    /// Segments in the archive now.
    pub segments: u64,
    /// Events in it.
    pub events: u64,
    /// The newest manifest's generation.
    pub generation: u64,
}

impl Archive {
    /// Uploads the segments of a journal, in use or not, that have reached their ends and are not in the archive. Each is
    /// verified before. When all are there, a manifest says so.
    ///
    /// # Errors
    ///
    /// No journal there, damage to it, another journal's archive, the storage. What was uploaded stays, and is found by the
    /// next push.
    pub fn push(
        &self,
        dir: &Path,
        options: PushOptions,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<PushReport, Error> {
        let reader = Reader::open_newest(dir, OpenMode::Strict)?;
        let report = reader.report();
        let uuid = report.tip.map(|tip| hex(&tip.journal_uuid)).unwrap_or_default();
        let before = self.manifest()?;
        let mut manifest = before.clone().unwrap_or_else(|| Manifest::new(uuid.clone()));
        let other = |what: String| Error::Other { url: self.url.clone(), what };
        if manifest.journal_uuid != uuid {
            return Err(other(format!("it has that of journal {}, this is {uuid}", manifest.journal_uuid)));
        }
        let mut pushed = PushReport::default();
        let mut missing = Vec::new();
        let newest = report.segments.last().map(|segment| segment.number);
        for segment in report.segments.iter().filter(|segment| is_ended(segment, newest)) {
            match manifest.segment(segment.number) {
                Some(entry) if entry.end_digest == segment.totals.digest.to_string() => pushed.known += 1,
                Some(entry) => {
                    return Err(other(format!(
                        "segment {} ends with {} there",
                        segment.number, entry.end_digest
                    )));
                }
                None => missing.push(segment),
            }
        }
        let mut state = Progress { done: 0, total: missing.iter().map(|segment| segment.end as u64).sum() };
        progress(state);
        for segment in missing {
            let mut advance = |bytes| {
                state.done += bytes;
                progress(state);
            };
            let entry = self.push_segment(dir, segment, options, &mut pushed, &mut advance)?;
            let place = manifest.segments.partition_point(|other| other.number < entry.number);
            manifest.segments.insert(place, entry);
        }
        manifest.retired_upto =
            manifest.retired_upto.max(report.retired.map_or(0, |retired| retired.segment_number));
        if before.as_ref() != Some(&manifest) {
            manifest.generation += 1;
            let (bytes, name) = manifest.encode().map_err(|error| Error::Damaged {
                url: self.url.clone(),
                object: "manifest".to_owned(),
                what: error.to_string(),
            })?;
            self.put(&format!("manifests/{name}"), &bytes, |_| ())?;
        }
        pushed.segments = manifest.segments.len() as u64;
        pushed.events = manifest.events();
        pushed.generation = manifest.generation;
        tracing::info!(?pushed, url = %self.url, "pushed");
        Ok(pushed)
    }

    fn push_segment(
        &self,
        dir: &Path,
        segment: &SegmentReport,
        options: PushOptions,
        pushed: &mut PushReport,
        advance: &mut dyn FnMut(u64),
    ) -> Result<Entry, Error> {
        let path = dir.join(&segment.name);
        let file = |operation, source| Error::File { operation, path: path.clone(), source };
        let map =
            Disk.open(&path, false).and_then(|file| file.map()).map_err(|source| file("map", source))?;
        let bytes = map.bytes(0..map.size());
        let damaged = |source| Error::Block { path: path.clone(), source };
        let unpacked = match Layout::is_compressed(bytes) {
            true => Some(unpack(bytes).map_err(damaged)?),
            false => None,
        };
        let native = unpacked.as_deref().unwrap_or(bytes);
        let native = native.get(..segment.end).ok_or_else(|| {
            // It was made shorter since.
            file("read all of", std::io::ErrorKind::UnexpectedEof.into())
        })?;
        let has_known_damage = segment.verdict == Verdict::KnownDamage;
        if !has_known_damage {
            // It was proven when it was made durable; whether it is still so is asked once more.
            let input = SegmentInput::new(&segment.name, None, native);
            let alone = examine(&[input], Default::default(), OpenMode::Strict);
            let digest = alone.segments.first().map(|alone| (alone.verdict, alone.totals.digest));
            if digest != Some((Verdict::Whole, segment.totals.digest)) {
                return Err(semj::Error::Damaged { dir: dir.to_owned(), report: Box::new(alone) }.into());
            }
        }
        let packed = match unpacked {
            Some(_) => Some(Cow::Borrowed(bytes)),
            None => pack(native, bytes.len() as u64, options.codec, has_known_damage).map(Cow::Owned),
        };
        if let Some(packed) = &packed
            && unpack(packed).map_err(damaged)? != native
        {
            return Err(damaged(DecodeError::Contradiction { what: "what was compressed" }));
        }
        let form = if packed.is_some() { Form::Compressed } else { Form::Native };
        let bytes = packed.as_deref().unwrap_or(native);
        let sha256 = sha256(bytes);
        if !map.is_intact() {
            return Err(file("read all of", std::io::ErrorKind::UnexpectedEof.into()));
        }
        let stem = segment.name.strip_suffix(".semj").unwrap_or(&segment.name);
        let object = format!("segments/{stem}-{sha256}.semj");
        let size = bytes.len() as u64;
        if self.size(&object)? == Some(size) {
            pushed.found += 1;
        } else {
            self.put(&object, bytes, |_| ())?;
            pushed.uploaded += 1;
            pushed.bytes_uploaded += size;
        }
        if options.reads_back {
            self.hold_against(&object, size, &sha256)?;
        }
        advance(segment.end as u64);
        let sidecar = self.push_sidecar(&path, stem)?;
        let totals = &segment.totals;
        Ok(Entry {
            number: segment.number,
            name: segment.name.clone(),
            object,
            form,
            size,
            sha256,
            end: segment.end as u64,
            epoch: segment.opening.map_or(0, |opening| opening.epoch),
            commit_sequence: totals.commit_sequence,
            sidecar,
            events: totals.events,
            first_event_id: totals.first_event_id,
            last_event_id: if totals.events == 0 { 0 } else { totals.last_event_id },
            lower_bound: segment.opening.map_or(0, |opening| opening.next_event_id),
            end_digest: totals.digest.to_string(),
            has_known_damage,
        })
    }

    /// Uploads the sidecar of a segment, if it has one. Whether it is of use is for who reads it to find out.
    fn push_sidecar(&self, segment: &Path, stem: &str) -> Result<Option<Sidecar>, Error> {
        let path = sidecar_path(segment);
        let map = match Disk.open(&path, false).and_then(|file| file.map()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            mapped => mapped.map_err(|source| Error::File { operation: "map", path, source })?,
        };
        let bytes = map.bytes(0..map.size());
        let object = format!("segments/{stem}-{}.idx", sha256(bytes));
        let size = bytes.len() as u64;
        if self.size(&object)? != Some(size) {
            self.put(&object, bytes, |_| ())?;
        }
        Ok(Some(Sidecar { object, size }))
    }

    /// Reads an object and compares it with what it should be.
    pub(crate) fn hold_against(&self, object: &str, size: u64, sha256: &str) -> Result<(), Error> {
        let mut hash = Sha256::new();
        let mut found = 0;
        self.stream(object, |piece| {
            found += piece.len() as u64;
            hash.update(piece);
            Ok(())
        })?;
        let digest = hex(&hash.finalize());
        if (found, digest.as_str()) == (size, sha256) {
            return Ok(());
        }
        let what = format!("{found} bytes with SHA-256 {digest}, expected {size} with {sha256}");
        Err(Error::Damaged { url: self.url.clone(), object: object.to_owned(), what })
    }

    /// From which event on the journal's events are not in the archive: those before can be had from there. It is for a
    /// retention that lets go only what is archived.
    ///
    /// # Errors
    ///
    /// The journal can't be read; the storage.
    pub fn keeps_from(&self, dir: &Path) -> Result<Option<u64>, Error> {
        let reader = Reader::open_newest(dir, OpenMode::Strict)?;
        let manifest = self.manifest()?;
        let is_archived = |segment: &&SegmentReport| {
            let entry = manifest.as_ref().and_then(|manifest| manifest.segment(segment.number));
            entry.is_some_and(|entry| entry.end_digest == segment.totals.digest.to_string())
        };
        let first = reader.report().segments.iter().find(|segment| !is_archived(segment));
        Ok(first.and_then(|segment| Some(segment.opening?.next_event_id)))
    }
}

/// The segment that a compressed one gives back.
pub(crate) fn unpack(file: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let layout = Layout::parse(file)?;
    layout.verify_digest(file)?;
    layout.decompress(file, &mut BlockDecoder::default())
}

/// The compressed form of a segment; `None` if it is to stay as it is, or has none because it was not closed in order.
fn pack(native: &[u8], file_size: u64, codec: Option<Codec>, has_known_damage: bool) -> Option<Vec<u8>> {
    if has_known_damage {
        return None;
    }
    let packed = Compressor::new(native, file_size, codec?).and_then(Compressor::finish);
    packed.ok().filter(|packed| packed.len() < native.len())
}

/// Whether nobody will write to a segment's file any more.
fn is_ended(segment: &SegmentReport, newest: Option<u64>) -> bool {
    let flag = if segment.is_sealed { FLAG_SEALED } else { FLAG_CUT };
    match segment.header {
        Some(header) => header.flags & flag != 0 && header.journal_size == segment.end as u64,
        None => Some(segment.number) != newest,
    }
}

/// The SHA-256 of some bytes, hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    bytes.chunks(PIECE).for_each(|piece| hash.update(piece));
    hex(&hash.finalize())
}
