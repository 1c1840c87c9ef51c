//! Segments in an archive as a [`Reader`] sees them: nothing is fetched but what it asks for.
//!
//! The manifest says enough of each segment to open it without a look. When something in it is wanted, first its block index and
//! seal are fetched, which say where the blocks stand, and then the blocks, one by one; who reads block after block gets more
//! and more of them at once. What a query skips by a sidecar, of which the beginning is fetched first, is never fetched.
//!
//! A record is borrowed from the block it is in, so blocks stay in memory as long as what they were read through
//! ([`Map::anew`]). What was fetched last is kept as it came, up to a fixed size, for whoever asks for the same.

use std::fmt;
use std::io;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use semj::blocks::{BlockDecoder, Layout};
use semj::format::control::PreviousEnd;
use semj::format::{Digest, JournalHeader, SegmentOpen, WatermarkFile};
use semj::index::{self, Origin};
use semj::medium::Map;
use semj::recovery::{Extent, Gaps, Thinning, Tip};
use semj::{KeptSegment, OpenMode, Reader, Report, SegmentReport, Verdict};
use sha2::{Digest as _, Sha256};

use crate::archive::Archive;
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, Sidecar, hex};
use crate::sidecar;
use crate::storage::{Ranged, Storage};

/// Bytes that are fetched ahead of who reads on at most.
const AHEAD_MAX: u64 = 4 << 20;

/// A journal that is read from where it is archived.
#[derive(Debug)]
#[non_exhaustive]
pub struct ArchivedJournal {
    /// Reads it: all segments that are there, those included that the journal has retired.
    pub reader: Reader,
    /// Segments between those that are there, by their numbers: retired before they were archived, or lost.
    pub missing: Vec<RangeInclusive<u64>>,
}

impl Archive {
    /// Reads what is archived without fetching all of it. Nothing but the manifest is looked at now. What can't be had later is
    /// a [`semj::Error::Io`], of which [`Error::behind`] says why: [`Error::Missing`], [`Error::Changed`], [`Error::Truncated`] or
    /// another.
    ///
    /// Each block and each record is held against its checksum when it is read, and each segment against what the manifest and
    /// the segment behind it say of its end. The digests of the records are for [`Archive::verify`].
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage.
    pub fn reader(&self) -> Result<ArchivedJournal, Error> {
        let manifest = self.existing_manifest()?;
        let contradiction =
            |entry: &Entry| self.damaged(&entry.object, "the manifest contradicts itself".to_owned());
        let openings =
            manifest.segments.iter().map(|entry| entry.opening().ok_or_else(|| contradiction(entry)));
        let openings = openings.collect::<Result<Vec<_>, _>>()?;
        let missing = self.chained(&manifest, &openings)?;
        let mut kept = Vec::with_capacity(openings.len());
        let mut segments: Vec<SegmentReport> = Vec::with_capacity(openings.len());
        for (place, (entry, opening)) in manifest.segments.iter().zip(&openings).enumerate() {
            let next = openings.get(place + 1).filter(|next| next.previous_segment == entry.number);
            segments.push(report_of(entry, opening, next).ok_or_else(|| contradiction(entry))?);
            kept.push(self.kept(entry, opening).ok_or_else(|| contradiction(entry))?);
        }
        let report = report(segments);
        Ok(ArchivedJournal { reader: Reader::over(Path::new(self.url()), report, kept)?, missing })
    }

    /// The segments that are missing between others, if those that follow one another go on from each other.
    fn chained(
        &self,
        manifest: &Manifest,
        openings: &[SegmentOpen],
    ) -> Result<Vec<RangeInclusive<u64>>, Error> {
        let mut missing = Vec::new();
        let mut previous: Option<&Entry> = None;
        for (entry, opening) in manifest.segments.iter().zip(openings) {
            let wrong = |what| Err(self.damaged(&entry.object, what));
            let uuid = hex(&opening.journal_uuid);
            if uuid != manifest.journal_uuid {
                return wrong(format!("it is journal {uuid}'s"));
            }
            let before = opening.previous_segment;
            match previous {
                Some(previous) if previous.number > before => {
                    return wrong(format!("it goes on from segment {before}"));
                }
                Some(previous) if previous.number < before => missing.push(previous.number + 1..=before),
                Some(previous) if opening.previous_digest.to_string() != previous.end_digest => {
                    return wrong("it goes on from another digest than the segment before has".to_owned());
                }
                _ => {}
            }
            previous = Some(entry);
        }
        Ok(missing)
    }

    fn kept(&self, entry: &Entry, opening: &SegmentOpen) -> Option<KeptSegment> {
        let digest = entry.digest()?;
        let sidecar = entry.sidecar.as_ref().map(|sidecar| KeptSidecar::new(&self.storage, sidecar));
        let kept = Kept {
            object: Ranged::new(Arc::clone(&self.storage), &entry.object, entry.size),
            head: match entry.form {
                Form::Compressed => Some((entry.header()?, entry.index_offset()?)),
                Form::Native => None,
            },
            native_end: usize::try_from(entry.end).ok()?,
            digest,
            origin: Origin::new(opening, entry.end, &digest.0)?,
            sidecar: sidecar.clone(),
            table: OnceLock::new(),
            ahead: Mutex::default(),
        };
        Some(KeptSegment {
            path: PathBuf::from(format!("{}/{}", self.url().trim_end_matches('/'), entry.object)),
            map: Box::new(ArchivedMap::new(Arc::new(kept))),
            sidecar: sidecar.map(|sidecar| -> Box<dyn Map> { Box::new(sidecar) }),
        })
    }
}

/// What a manifest says of a segment, in the words of an examination. `None`: not enough.
fn report_of(entry: &Entry, opening: &SegmentOpen, next: Option<&SegmentOpen>) -> Option<SegmentReport> {
    let size = |offset: u64| usize::try_from(offset).ok();
    let extents =
        entry.extents.iter().map(|(start, end)| Some(Extent { start: size(*start)?, end: size(*end)? }));
    let extents = extents.collect::<Option<Vec<_>>>()?;
    let end = size(entry.end)?;
    let last_event_id = entry.last_event_id.max(opening.next_event_id.saturating_sub(1));
    Some(SegmentReport {
        name: entry.name.clone(),
        number: entry.number,
        file_size: end,
        packed_size: (entry.form == Form::Compressed).then_some(entry.size),
        header: None,
        opening: Some(*opening),
        extents,
        totals: semj::recovery::scanner::Totals {
            records: entry.records,
            events: entry.events,
            commits: entry.commits,
            first_event_id: entry.first_event_id,
            last_event_id,
            next_event_id: last_event_id.saturating_add(1),
            commit_sequence: entry.commit_sequence,
            synced_upto: entry.commit_sequence,
            digest: entry.digest()?,
            thinned: Thinning::default(),
        },
        gaps: Gaps::default(),
        end,
        synced_end: end,
        is_sealed: entry.form == Form::Compressed
            || next.is_some_and(|next| next.previous_end == PreviousEnd::Sealed.code()),
        tail: None,
        damaged: Vec::new(),
        lost_before: None,
        fault: None,
        verdict: if entry.has_known_damage { Verdict::KnownDamage } else { Verdict::Whole },
        is_verified: false,
    })
}

fn report(segments: Vec<SegmentReport>) -> Report {
    let tip = segments.last().and_then(|segment| {
        Some(Tip {
            journal_uuid: segment.opening?.journal_uuid,
            segment_number: segment.number,
            previous_end: if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut },
            end: segment.end,
            digest: segment.totals.digest,
            commit_sequence: segment.totals.commit_sequence,
            last_event_id: segment.totals.last_event_id,
            next_event_id: segment.totals.next_event_id,
        })
    });
    Report {
        mode: OpenMode::Strict,
        watermark: WatermarkFile::default(),
        retired: None,
        thinned: Vec::new(),
        known_damage: Vec::new(),
        leftovers: Vec::new(),
        kept: segments.len(),
        tip,
        highest_epoch: segments
            .iter()
            .filter_map(|segment| segment.opening)
            .map(|o| o.epoch)
            .max()
            .unwrap_or(0),
        highest_segment_number: tip.map_or(0, |tip| tip.segment_number),
        highest_event_id: tip.map_or(0, |tip| tip.last_event_id),
        segments,
    }
}

/// A segment in the archive and what is known of it.
#[derive(Debug)]
struct Kept {
    object: Ranged,
    /// Of a compressed one: what its file begins with, and where its block index stands.
    head: Option<([u8; JournalHeader::SIZE], u64)>,
    native_end: usize,
    /// What its last record ends with.
    digest: Digest,
    origin: Origin,
    sidecar: Option<KeptSidecar>,
    table: OnceLock<Table>,
    ahead: Mutex<Ahead>,
}

/// Where the pieces stand.
#[derive(Debug)]
struct Table {
    /// How compressed ones are decoded.
    layout: Option<Layout>,
    /// The highest id in each and before it, where ids say which one an event is in.
    highest_ids: Option<Box<[u64]>>,
    /// Where they begin in the native segment, the first with the header; and where the last one ends.
    starts: Vec<usize>,
    /// Where they begin in the object, and where the last one ends.
    offsets: Vec<u64>,
}

/// What was fetched last.
#[derive(Debug, Default)]
struct Ahead {
    end: u64,
    size: u64,
}

impl Table {
    fn compressed(layout: Layout, index_offset: u64) -> Self {
        let ends = (1..layout.entries().len()).filter_map(|block| Some(layout.native_range(block)?.start));
        let native_end = usize::try_from(layout.seal().native_end).unwrap_or(usize::MAX);
        let starts = [0].into_iter().chain(ends).chain([native_end]).collect();
        let offsets = layout.entries().iter().map(|entry| entry.offset).chain([index_offset]).collect();
        Self { highest_ids: layout.highest_ids(), layout: Some(layout), starts, offsets }
    }

    /// Pieces of a native segment, which begin at these offsets behind its header.
    fn native(behind_first: impl Iterator<Item = usize>, end: usize) -> Self {
        let starts: Vec<_> = [0].into_iter().chain(behind_first).chain([end]).collect();
        Self {
            layout: None,
            highest_ids: None,
            offsets: starts.iter().map(|start| *start as u64).collect(),
            starts,
        }
    }

    fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The piece that an offset is in.
    fn find(&self, offset: usize) -> Option<usize> {
        let place = self.starts.partition_point(|start| *start <= offset).checked_sub(1)?;
        (place < self.len()).then_some(place)
    }

    fn range(&self, piece: usize) -> Option<Range<usize>> {
        Some(*self.starts.get(piece)?..*self.starts.get(piece + 1)?)
    }

    fn stored(&self, piece: usize) -> Option<Range<u64>> {
        Some(*self.offsets.get(piece)?..*self.offsets.get(piece + 1)?)
    }
}

impl Kept {
    fn damaged(&self, what: String) -> Error {
        Error::Damaged { url: self.object.url().to_owned(), object: self.object.name.to_string(), what }
    }

    /// Where the pieces stand, fetched when somebody asks first.
    fn table(&self) -> Result<&Table, Error> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = match &self.head {
            Some((head, index_offset)) => {
                let tail = self.object.fetch(*index_offset..self.object.size())?;
                let layout = Layout::parse_ends(head, &tail);
                let layout = layout.map_err(|error| self.damaged(error.to_string()))?;
                let seal = layout.seal();
                let is_it = seal.seal_digest == self.digest
                    && seal.journal_uuid == self.origin.journal_uuid
                    && seal.segment_number == self.origin.segment_number
                    && seal.native_end == self.native_end as u64;
                if !is_it {
                    return Err(self.damaged("its seal is another segment's".to_owned()));
                }
                Table::compressed(layout, *index_offset)
            }
            None => self.native_table(),
        };
        Ok(self.table.get_or_init(|| table))
    }

    /// Pieces as the blocks of the sidecar are. Without one it is a single piece.
    fn native_table(&self) -> Table {
        let whole = || Table::native(std::iter::empty(), self.native_end);
        let Some(bytes) = self.sidecar.as_ref().and_then(|sidecar| sidecar.whole()) else { return whole() };
        let Ok(sidecar) = index::Sidecar::parse(bytes, &self.origin) else { return whole() };
        let blocks: Vec<_> =
            (0..sidecar.blocks.len()).filter_map(|place| sidecar.blocks.get(place)).collect();
        match sidecar.is_seamless(self.native_end) {
            true => Table::native(blocks.iter().skip(1).map(|block| block.offset as usize), self.native_end),
            false => whole(),
        }
    }

    /// The bytes of a piece.
    fn piece(&self, table: &Table, piece: usize) -> Result<Box<[u8]>, Error> {
        let none = || self.damaged("it has no such block".to_owned());
        let (range, stored) = table.range(piece).zip(table.stored(piece)).ok_or_else(none)?;
        let found = self.fetch(table, &stored)?;
        let Some(layout) = &table.layout else { return Ok(found.as_ref().into()) };
        let mut bytes = vec![0; range.len()];
        let mut records = &mut bytes[..];
        if piece == 0 {
            let (header, behind) = bytes.split_at_mut_checked(JournalHeader::SIZE).ok_or_else(none)?;
            header.copy_from_slice(&layout.seal().native_header);
            records = behind;
        }
        let decoded = layout.decode_block(&found, piece, &mut BlockDecoder::default(), records);
        decoded.map_err(|error| self.damaged(format!("offset {}: {error}", stored.start)))?;
        Ok(bytes.into())
    }

    /// Bytes of the object, with more behind them if this goes on from what was fetched last.
    fn fetch(&self, table: &Table, stored: &Range<u64>) -> Result<Bytes, Error> {
        if let Some(bytes) = self.object.cached(stored) {
            return Ok(bytes);
        }
        let end = {
            let mut last = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            let ahead = if last.end == stored.start { (2 * last.size).min(AHEAD_MAX) } else { 0 };
            let whole = table.offsets.partition_point(|offset| *offset <= stored.start + ahead);
            let end = whole.checked_sub(1).and_then(|whole| table.offsets.get(whole)).copied();
            let end = end.unwrap_or(0).max(stored.end);
            *last = Ahead { end, size: end - stored.start };
            end
        };
        self.object.fetch_and_keep(stored.start..end, stored.end)
    }
}

/// The bytes of a piece, when they are there.
type Piece = OnceLock<Box<[u8]>>;

/// The native bytes of a segment in an archive.
struct ArchivedMap {
    kept: Arc<Kept>,
    pieces: OnceLock<Box<[Piece]>>,
    failure: OnceLock<Arc<Error>>,
}

impl ArchivedMap {
    const fn new(kept: Arc<Kept>) -> Self {
        Self { kept, pieces: OnceLock::new(), failure: OnceLock::new() }
    }

    /// What there is, or notes why there is not.
    fn noted<T>(&self, found: Result<T, Error>) -> Option<T> {
        found.map_err(|error| self.failure.set(Arc::new(error))).ok()
    }

    fn table(&self) -> Option<&Table> {
        self.noted(self.kept.table())
    }

    fn piece(&self, table: &Table, place: usize) -> Option<&[u8]> {
        let pieces = self.pieces.get_or_init(|| (0..table.len()).map(|_| OnceLock::new()).collect());
        let piece = pieces.get(place)?;
        if let Some(bytes) = piece.get() {
            return Some(bytes);
        }
        // Of two that come at the same time one fetches in vain.
        let bytes = self.noted(self.kept.piece(table, place))?;
        Some(piece.get_or_init(|| bytes))
    }
}

impl Map for ArchivedMap {
    fn size(&self) -> usize {
        self.kept.native_end
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let Kept { native_end, digest, .. } = &*self.kept;
        // Whoever wants to know which segment a sidecar is of asks for this, and need not wait for a block.
        if range == (native_end.saturating_sub(digest.0.len())..*native_end) {
            return &digest.0;
        }
        let found = self.table().and_then(|table| {
            let place = table.find(range.start)?;
            let start = table.range(place)?.start;
            let piece = self.piece(table, place)?;
            piece.get(range.start - start..range.end.saturating_sub(start).min(piece.len()))
        });
        found.unwrap_or_default()
    }

    fn piece_end(&self, offset: usize) -> usize {
        let end = self.table().and_then(|table| Some(table.range(table.find(offset)?)?.end));
        end.unwrap_or(self.kept.native_end)
    }

    fn seek(&self, event_id: u64) -> Option<usize> {
        let table = self.table()?;
        let place = table.highest_ids.as_ref()?.partition_point(|highest| *highest < event_id);
        Some(table.starts.get(place).map_or(self.kept.native_end, |start| (*start).max(JournalHeader::SIZE)))
    }

    fn packed_size(&self) -> Option<usize> {
        self.kept.head.and_then(|_| usize::try_from(self.kept.object.size()).ok())
    }

    fn anew(&self) -> Option<Box<dyn Map>> {
        Some(Box::new(Self::new(Arc::clone(&self.kept))))
    }

    fn is_intact(&self) -> bool {
        self.failure.get().is_none()
    }

    fn failure(&self) -> Option<io::Error> {
        let failure = Arc::clone(self.failure.get()?);
        let kind = match *failure {
            Error::Missing { .. } => io::ErrorKind::NotFound,
            Error::Truncated { .. } => io::ErrorKind::UnexpectedEof,
            Error::Damaged { .. } | Error::Changed { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Some(io::Error::new(kind, failure))
    }

    fn file_size(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.size() as u64)
    }
}

impl fmt::Debug for ArchivedMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchivedMap").field("object", &self.kept.object.name).finish_non_exhaustive()
    }
}

/// A sidecar in an archive: its beginning, which is often enough, and all of it.
#[derive(Clone)]
struct KeptSidecar(Arc<SidecarParts>);

struct SidecarParts {
    object: Ranged,
    entry: Sidecar,
    head: OnceLock<Option<Bytes>>,
    whole: OnceLock<Option<Vec<u8>>>,
}

impl KeptSidecar {
    fn new(storage: &Arc<Storage>, entry: &Sidecar) -> Self {
        Self(Arc::new(SidecarParts {
            object: Ranged::new(Arc::clone(storage), &entry.object, entry.size),
            entry: entry.clone(),
            head: OnceLock::new(),
            whole: OnceLock::new(),
        }))
    }

    fn head(&self) -> Option<&[u8]> {
        let parts = &*self.0;
        let fetch = || parts.warned(parts.object.fetch(0..parts.entry.head_size));
        parts.head.get_or_init(fetch).as_deref()
    }

    fn whole(&self) -> Option<&[u8]> {
        let parts = &*self.0;
        let fetch = || {
            let mut bytes = self.head()?.to_vec();
            let rest = parts.object.fetch(parts.entry.head_size..parts.object.size());
            bytes.extend_from_slice(&parts.warned(rest)?);
            let sidecar = match hex(&Sha256::digest(&bytes)) == parts.entry.sha256 {
                true => sidecar::unpack(&bytes, &parts.entry),
                false => Err("its SHA-256 is another".to_owned()),
            };
            let warn =
                |what: &String| tracing::warn!(object = parts.entry.object, what, "a sidecar is not used");
            sidecar.inspect_err(warn).ok()
        };
        parts.whole.get_or_init(fetch).as_deref()
    }
}

impl SidecarParts {
    /// Without a sidecar things only take longer.
    fn warned(&self, found: Result<Bytes, Error>) -> Option<Bytes> {
        let warn =
            |error: &Error| tracing::warn!(object = self.entry.object, %error, "a sidecar can't be had");
        found.inspect_err(warn).ok()
    }
}

impl Map for KeptSidecar {
    fn size(&self) -> usize {
        usize::try_from(self.0.entry.unpacked_size).unwrap_or(usize::MAX)
    }

    fn bytes(&self, range: Range<usize>) -> &[u8] {
        let is_head = range.end as u64 <= self.0.entry.head_size;
        let bytes = if is_head { self.head() } else { self.whole() }.unwrap_or_default();
        bytes.get(range.start..range.end.min(bytes.len())).unwrap_or_default()
    }

    fn is_intact(&self) -> bool {
        true
    }

    fn file_size(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.0.entry.unpacked_size)
    }
}

impl fmt::Debug for KeptSidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeptSidecar").field(&self.0.entry.object).finish()
    }
}
