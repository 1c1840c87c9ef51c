//! Segments that have reached their ends go into the archive.

use std::borrow::Cow;
use std::path::Path;

use semj::blocks::{BlockDecoder, Compressor, DecodeError, Layout, unpack};
use semj::format::journal_header::{FLAG_CUT, FLAG_SEALED};
use semj::format::{Digest, JournalHeader};
use semj::medium::{Disk, Medium as _};
use semj::recovery::{SegmentInput, examine};
use semj::{Codec, OpenMode, Reader, SegmentReport, Verdict};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, Sidecar, hex};
use crate::sidecar;

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
    /// Bytes of them and of their sidecars.
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
        let other = |what: String| Error::Other { url: self.url().to_owned(), what };
        if manifest.journal_uuid != uuid {
            return Err(other(format!("it has that of journal {}, this is {uuid}", manifest.journal_uuid)));
        }
        let mut pushed = PushReport::default();
        let mut missing = Vec::new();
        let newest = report.segments.last().map(|segment| segment.number);
        for (place, segment) in report.segments.iter().enumerate() {
            if !is_ended(segment, newest) {
                continue;
            }
            let Some(end_digest) = report.end_digest(place) else { continue };
            match manifest.segment(segment.number) {
                Some(entry) if entry.end_digest == end_digest.to_string() => pushed.known += 1,
                Some(entry) => {
                    return Err(other(format!(
                        "segment {} ends with {} there",
                        segment.number, entry.end_digest
                    )));
                }
                None => missing.push((segment, end_digest)),
            }
        }
        let mut state =
            Progress { done: 0, total: missing.iter().map(|(segment, _)| segment.end as u64).sum() };
        progress(state);
        for (segment, end_digest) in missing {
            let mut advance = |bytes| {
                state.done += bytes;
                progress(state);
            };
            let entry = self.push_segment(dir, segment, end_digest, options, &mut pushed, &mut advance)?;
            let place = manifest.segments.partition_point(|other| other.number < entry.number);
            manifest.segments.insert(place, entry);
        }
        manifest.retired_upto =
            manifest.retired_upto.max(report.retired.map_or(0, |retired| retired.segment_number));
        if before.as_ref() != Some(&manifest) {
            manifest = self.publish(manifest)?;
        }
        pushed.segments = manifest.segments.len() as u64;
        pushed.events = manifest.events();
        pushed.generation = manifest.generation;
        tracing::info!(?pushed, url = self.url(), "pushed");
        Ok(pushed)
    }

    /// Makes a manifest the newest one, with all that others have made the newest meanwhile. Gives what it is then.
    fn publish(&self, mut manifest: Manifest) -> Result<Manifest, Error> {
        let damaged = |what| self.damaged("manifest", what);
        loop {
            manifest.generation += 1;
            let (bytes, name) = manifest.encode().map_err(|error| damaged(error.to_string()))?;
            // One that can't be read would be in everybody's way.
            Manifest::parse(&name, &bytes).map_err(damaged)?;
            self.storage.put(&format!("manifests/{name}"), &bytes, |_| ())?;
            // Of one generation all count; but others may have gone on to further ones, and know nothing of this.
            let newest = self.existing_manifest()?;
            let mut merged = newest.clone().merge(manifest).map_err(damaged)?;
            merged.generation = newest.generation;
            if merged == newest {
                return Ok(newest);
            }
            manifest = merged;
        }
    }

    fn push_segment(
        &self,
        dir: &Path,
        segment: &SegmentReport,
        end_digest: Digest,
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
        let has_known_damage = segment.verdict == Verdict::KnownDamage;
        let mut unpacked = match Layout::is_compressed(bytes) {
            true if has_known_damage => Some(unpack_damaged(bytes).map_err(damaged)?),
            true => Some(unpack(bytes).map_err(damaged)?),
            false => None,
        };
        if has_known_damage && unpacked.as_deref().unwrap_or(bytes).len() < segment.end {
            // Its end is known to be lost, and its file ends before.
            unpacked.get_or_insert_with(|| bytes.to_vec()).resize(segment.end, 0);
        }
        let native = unpacked.as_deref().unwrap_or(bytes);
        let native = native.get(..segment.end).ok_or_else(|| {
            // It was made shorter since.
            file("read all of", std::io::ErrorKind::UnexpectedEof.into())
        })?;
        // Those that were taken out before.
        let mut taken_out = segment.totals.thinned.events;
        if !has_known_damage {
            // It was proven when it was made durable; whether it is still so is asked once more.
            let input = SegmentInput::new(&segment.name, None, native);
            let alone = examine(&[input], Default::default(), OpenMode::Strict);
            let digest = alone.segments.first().map(|alone| (alone.verdict, alone.totals.digest));
            taken_out = alone.segments.first().map_or(0, |alone| alone.totals.thinned.events);
            if digest != Some((Verdict::Whole, segment.totals.digest)) {
                return Err(semj::Error::Damaged { dir: dir.to_owned(), report: Box::new(alone) }.into());
            }
        }
        let packed = match unpacked {
            Some(_) if !has_known_damage => Some(Cow::Borrowed(bytes)),
            _ => pack(native, bytes.len() as u64, options.codec, has_known_damage).map(Cow::Owned),
        };
        if let Some(packed) = &packed
            && unpack(packed).map_err(damaged)? != native
        {
            return Err(damaged(DecodeError::Contradiction { what: "what was compressed" }));
        }
        let form = if packed.is_some() { Form::Compressed } else { Form::Native };
        let bytes = packed.as_deref().unwrap_or(native);
        let sidecar = match segment.opening.filter(|_| !has_known_damage) {
            // The one in the journal would be the same, but need not be there yet, nor be right.
            Some(opening) => sidecar::make(&opening, native),
            None => None,
        };
        if !map.is_intact() {
            return Err(file("read all of", std::io::ErrorKind::UnexpectedEof.into()));
        }
        let stem = segment.name.strip_suffix(".semj").unwrap_or(&segment.name);
        let object = self.push_object(stem, "semj", bytes, options.reads_back)?;
        advance(segment.end as u64);
        let sidecar = match sidecar {
            None => None,
            Some(sidecar) => {
                let bytes = sidecar.as_bytes();
                let (packed, head_size) =
                    sidecar::pack(bytes).map_err(|source| file("compress the sidecar of", source))?;
                let object = self.push_object(stem, "idx", &packed, options.reads_back)?;
                if object.is_new {
                    pushed.bytes_uploaded += object.size;
                }
                Some(Sidecar {
                    object: object.name,
                    size: object.size,
                    sha256: object.sha256,
                    head_size: head_size as u64,
                    unpacked_size: bytes.len() as u64,
                })
            }
        };
        if object.is_new {
            pushed.uploaded += 1;
            pushed.bytes_uploaded += object.size;
        } else {
            pushed.found += 1;
        }
        let totals = &segment.totals;
        Ok(Entry {
            number: segment.number,
            name: segment.name.clone(),
            object: object.name,
            form,
            size: object.size,
            sha256: object.sha256,
            end: segment.end as u64,
            header: match form {
                Form::Compressed => bytes.get(..JournalHeader::SIZE).map(hex).unwrap_or_default(),
                Form::Native => String::new(),
            },
            opening: segment.opening.map(|opening| hex(&opening.encode())).unwrap_or_default(),
            extents: segment.extents.iter().map(|extent| (extent.start as u64, extent.end as u64)).collect(),
            records: totals.records,
            commits: totals.commits,
            commit_sequence: totals.commit_sequence,
            sidecar,
            events: totals.events.saturating_sub(taken_out),
            first_event_id: totals.first_event_id,
            last_event_id: if totals.events == 0 { 0 } else { totals.last_event_id },
            lower_bound: segment.opening.map_or(0, |opening| opening.next_event_id),
            end_digest: end_digest.to_string(),
            has_known_damage,
        })
    }

    /// Uploads bytes under a name that has their SHA-256, unless they are there.
    fn push_object(&self, stem: &str, suffix: &str, bytes: &[u8], reads_back: bool) -> Result<Pushed, Error> {
        let (size, sha256) = (bytes.len() as u64, sha256(bytes));
        let name = format!("segments/{stem}-{sha256}.{suffix}");
        let is_new = self.storage.size(&name)? != Some(size);
        if is_new {
            self.storage.put(&name, bytes, |_| ())?;
        }
        if reads_back {
            self.hold_against(&name, size, &sha256)?;
        }
        Ok(Pushed { name, size, sha256, is_new })
    }

    /// Reads an object and compares it with what it should be.
    pub(crate) fn hold_against(&self, object: &str, size: u64, sha256: &str) -> Result<(), Error> {
        let mut hash = Sha256::new();
        let mut found = 0;
        self.storage.stream(object, |piece| {
            found += piece.len() as u64;
            hash.update(piece);
            Ok(())
        })?;
        let digest = hex(&hash.finalize());
        if (found, digest.as_str()) == (size, sha256) {
            return Ok(());
        }
        let what = format!("{found} bytes with SHA-256 {digest}, expected {size} with {sha256}");
        Err(self.damaged(object, what))
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
        let report = reader.report();
        for (place, segment) in report.segments.iter().enumerate() {
            let end_digest = report.end_digest(place).map(|digest| digest.to_string());
            let entry = manifest.as_ref().and_then(|manifest| manifest.segment(segment.number));
            let entry = entry.filter(|entry| Some(&entry.end_digest) == end_digest.as_ref());
            // The manifest's word alone is not enough to let go of what may be the last copy.
            let is_there = match entry {
                Some(entry) => self.storage.size(&entry.object)? == Some(entry.size),
                None => false,
            };
            if !is_there {
                return Ok(segment.opening.map(|opening| opening.next_event_id));
            }
        }
        Ok(None)
    }
}

/// An object that is there.
struct Pushed {
    name: String,
    size: u64,
    sha256: String,
    is_new: bool,
}

/// What a compressed segment that is known to be damaged gives back: what can't be had is zero.
fn unpack_damaged(file: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let layout = Layout::parse(file)?;
    let entries = layout.entries().len();
    let end = layout.native_range(entries.saturating_sub(1)).map_or(0, |range| range.end);
    let mut native = vec![0; end];
    if let Some(header) = native.first_chunk_mut() {
        *header = layout.seal().native_header;
    }
    let mut decoder = BlockDecoder::default();
    for block in 0..entries {
        let Some(range) = layout.native_range(block) else { continue };
        let Some(records) = native.get_mut(range) else { continue };
        if layout.decode(file, block, &mut decoder, records).is_err() {
            records.fill(0);
        }
    }
    Ok(native)
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
    // One of which not even that is left can't be found again.
    if segment.opening.is_none() {
        return false;
    }
    let is_newest = Some(segment.number) == newest;
    // The newest segment of a snapshot was cut where the copy ends: in the journal it goes on.
    let flags = if is_newest { FLAG_SEALED } else { FLAG_SEALED | FLAG_CUT };
    match segment.header {
        // The header of one that is damaged is left as it is.
        _ if !is_newest && segment.verdict == Verdict::KnownDamage => true,
        None => !is_newest,
        Some(header) => header.flags & flags != 0 && header.journal_size == segment.end as u64,
    }
}

/// The SHA-256 of some bytes, hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    bytes.chunks(PIECE).for_each(|piece| hash.update(piece));
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_made_the_newest_meanwhile_is_merged_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let archive = Archive::open(&dir.path().display().to_string()).unwrap();
        let manifest = |generation, retired_upto| Manifest {
            generation,
            retired_upto,
            ..Manifest::new("00".repeat(16))
        };
        // Another push has gone from generation 3 to 5 while this one was at 3.
        archive.publish(manifest(3, 7)).unwrap();
        archive.publish(manifest(4, 2)).unwrap();
        let published = archive.publish(manifest(3, 9)).unwrap();
        assert_eq!(archive.existing_manifest().unwrap(), published);
        assert!(published.generation > 5);
        assert_eq!(published.retired_upto, 9);
    }
}
