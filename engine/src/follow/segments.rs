//! The segments that a follower finds in a directory, and where it goes on behind those that are gone.
//!
//! What was retired is not looked at, whether its files are still there or not: the newest segment says what the journal
//! begins behind, as it says to a [`crate::Reader`]. A follower that had everything of it has lost nothing by that.

use std::path::Path;

use semj_blocks::Layout;
use semj_format::control::{self, Compacted};
use semj_format::journal_header::FLAG_THINNED;
use semj_format::{Commit, Digest, JournalHeader, Record, SegmentOpen, SegmentSeal};
use semj_recovery::fault::{Fault, FaultKind};
use semj_recovery::{Scanner, retired_before};

use super::Position;
use crate::compressed::{CompressedMap, Unreadable};
use crate::directory;
use crate::error::Error;
use crate::medium::{File, Medium};

/// How often a directory is listed again that has changed meanwhile: what is said of it may not be true any more.
pub(super) const LISTING_RETRIES: usize = 16;
/// Bytes that are read for a segment's first group at once, and at most.
const FIRST_GROUP_READ: usize = 16 << 10;
const FIRST_GROUP_MAX: usize = 4 << 20;

/// A segment's bytes. A file that is compressed while it is followed is followed on in its old form, which keeps its bytes
/// as long as it is open.
#[derive(Debug)]
pub(super) enum Bytes {
    Native(Box<dyn File>),
    Compressed(CompressedMap),
}

impl Bytes {
    fn of(file: Box<dyn File>, path: &Path) -> Result<Self, Error> {
        let mut header = [0; JournalHeader::SIZE];
        let native = Self::Native(file);
        if native.read_whole(0, &mut header, path)? < header.len() || !Layout::is_compressed(&header) {
            return Ok(native);
        }
        let Self::Native(file) = native else { return Ok(native) };
        let map = file.map().map_err(Error::io("map", path))?;
        let failed = |unreadable: Unreadable| unreadable.at(path, JournalHeader::SIZE as u64);
        CompressedMap::open(map).map(Self::Compressed).map_err(|(_, unreadable)| failed(unreadable))
    }

    /// Gives how many bytes there are, up to as many as are asked for; 0 at the end.
    pub(super) fn read_at(&self, offset: u64, out: &mut [u8], path: &Path) -> Result<usize, Error> {
        match self {
            Self::Native(file) => file.read_at(offset, out).map_err(Error::io("read", path)),
            Self::Compressed(map) => {
                let Ok(at) = usize::try_from(offset) else { return Ok(0) };
                map.read_at(at, out).map_err(|unreadable| unreadable.at(path, offset))
            }
        }
    }

    /// Reads until `out` is full, or there is no more.
    fn read_whole(&self, offset: u64, out: &mut [u8], path: &Path) -> Result<usize, Error> {
        let mut read = 0;
        while let Some(rest) = out.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.read_at(offset + read as u64, rest, path)? {
                0 => break,
                more => read += more,
            }
        }
        Ok(read)
    }
}

/// A segment that is open.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) bytes: Bytes,
    pub(super) path: std::path::PathBuf,
    pub(super) opening: SegmentOpen,
    pub(super) is_thinned: bool,
}

impl Current {
    /// Opens a segment. It had its SegmentOpen, durable, before it had its name.
    pub(super) fn open(medium: &dyn Medium, dir: &Path, number: u64, name: &str) -> Result<Self, Error> {
        let path = dir.join(name);
        let file = medium.open(&path, false).map_err(Error::io("open", &path))?;
        let file = Bytes::of(file, &path)?;
        let mut bytes = vec![0; JournalHeader::SIZE + control::record_size::<SegmentOpen>()];
        let read = file.read_whole(0, &mut bytes, &path)?;
        let opening = opening_of(bytes.get(..read).unwrap_or_default(), number);
        let opening = opening.map_err(|source| Error::NoOpening { path: path.clone(), source })?;
        let header = bytes.first_chunk().map(JournalHeader::decode);
        let is_thinned = header.is_some_and(|header| header.flags & FLAG_THINNED != 0);
        Ok(Self { bytes: file, path, opening, is_thinned })
    }

    /// The position before the segment's first group, for who was given nothing.
    pub(super) fn beginning(&self) -> Position {
        Position {
            journal_uuid: self.opening.journal_uuid,
            segment_number: self.opening.segment_number,
            offset: JournalHeader::SIZE as u64,
            commit_sequence: self.opening.next_commit_sequence.saturating_sub(1),
            digest: self.opening.previous_digest,
            records_given: 0,
            last_event_id: 0,
            behind_event_id: 0,
        }
    }

    /// Whether what a position stands behind is there: the Commit or the seal with its digest. Where events were taken out
    /// nothing stands where it stood.
    pub(super) fn proves(&self, position: &Position) -> Result<bool, Error> {
        if position.offset == JournalHeader::SIZE as u64 {
            return Ok(position.digest == self.opening.previous_digest);
        }
        let commit = |record: &Record<'_>| {
            let commit = control::parse::<Commit>(record).ok()??;
            (commit.computed_digest() == commit.digest).then_some(commit.digest)
        };
        let seal = |record: &Record<'_>| {
            let seal = control::parse::<SegmentSeal>(record).ok()??;
            (seal.computed_digest() == seal.digest).then_some(seal.digest)
        };
        Ok(self.ends_with(position, control::record_size::<Commit>(), commit)?
            || self.ends_with(position, control::record_size::<SegmentSeal>(), seal)?)
    }

    fn ends_with(
        &self,
        position: &Position,
        size: usize,
        digest: impl Fn(&Record<'_>) -> Option<Digest>,
    ) -> Result<bool, Error> {
        let Some(at) = position.offset.checked_sub(size as u64) else { return Ok(false) };
        let mut bytes = vec![0; size];
        let read = match self.bytes.read_whole(at, &mut bytes, &self.path) {
            Err(Error::RottenBlock { .. }) => return Ok(false),
            other => other?,
        };
        let record = Record::parse_verified(bytes.get(..read).unwrap_or_default()).ok();
        Ok(record.and_then(|record| digest(&record)) == Some(position.digest))
    }

    /// What the segment's first group says of retired ones; `None` if it can't be read.
    fn retired(&self) -> Result<Option<Vec<Compacted>>, Error> {
        let mut size = FIRST_GROUP_READ;
        loop {
            let mut bytes = vec![0; size];
            let read = match self.bytes.read_whole(0, &mut bytes, &self.path) {
                Err(Error::RottenBlock { .. }) => return Ok(None),
                other => other?,
            };
            bytes.truncate(read);
            let scanner = Scanner::without_header(&bytes, 0).ok();
            if let Some(said) = scanner.and_then(retired_before) {
                return Ok(Some(said));
            }
            if read < size || size >= FIRST_GROUP_MAX {
                return Ok(None);
            }
            size *= 4;
        }
    }
}

fn opening_of(bytes: &[u8], number: u64) -> Result<SegmentOpen, Fault> {
    let opening = *Scanner::without_header(bytes, 0)?.opening();
    if opening.segment_number == number {
        return Ok(opening);
    }
    let kind = FaultKind::Figure { field: "segment_number", found: opening.segment_number, expected: number };
    Err(Fault { offset: JournalHeader::SIZE as u64, kind })
}

/// The names of a directory's segments, in their order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) segments: Vec<(u64, String)>,
    /// Whether it is a copy in which nothing is retired.
    is_unretired: bool,
}

impl Names {
    pub(super) fn of(medium: &dyn Medium, dir: &Path) -> Result<Self, Error> {
        let names = medium.list(dir).map_err(Error::io("list", dir))?;
        let is_unretired = names.iter().any(|name| name == directory::UNRETIRED);
        Ok(Self { segments: directory::segments(names), is_unretired })
    }

    /// Does what is to be done with the names of a directory, and again where that fails and they are others by then: the
    /// writer has removed what it retired, say, or a listing that it changed lacks some.
    pub(super) fn with<T>(
        medium: &dyn Medium,
        dir: &Path,
        mut attempt: impl FnMut(&Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retries = LISTING_RETRIES;
        loop {
            let names = Self::of(medium, dir)?;
            match attempt(&names) {
                Err(_) if retries > 0 && Self::of(medium, dir)? != names => retries -= 1,
                other => return other,
            }
        }
    }
}

/// The segments of a journal, those that were retired left out.
#[derive(Debug)]
pub(super) struct Listing<'a> {
    medium: &'a dyn Medium,
    dir: &'a Path,
    names: &'a [(u64, String)],
    /// What the journal begins behind.
    retired: Option<Compacted>,
}

impl<'a> Listing<'a> {
    /// # Errors
    ///
    /// [`Error::NoJournal`] if there is none; an I/O error.
    pub(super) fn new(medium: &'a dyn Medium, dir: &'a Path, names: &'a Names) -> Result<Self, Error> {
        if names.segments.is_empty() {
            return Err(Error::NoJournal { dir: dir.to_owned() });
        }
        let mut listing = Self { medium, dir, names: &names.segments, retired: None };
        if names.is_unretired {
            return Ok(listing);
        }
        // The newest segment repeats what others said. Where it is damaged one before it has to do.
        for (number, name) in names.segments.iter().rev() {
            let newest = match Current::open(medium, dir, *number, name) {
                Err(Error::NoOpening { .. } | Error::RottenBlock { .. }) => continue,
                other => other?,
            };
            if let Some(said) = newest.retired()? {
                listing.begin_behind(said, &newest.opening)?;
                break;
            }
        }
        Ok(listing)
    }

    /// Leaves out what was retired, as far as the first segment behind it goes on from there.
    fn begin_behind(&mut self, mut said: Vec<Compacted>, by: &SegmentOpen) -> Result<(), Error> {
        said.sort_by_key(|retired| std::cmp::Reverse(retired.segment_number));
        for retired in said {
            let kept = self.names.partition_point(|(number, _)| *number <= retired.segment_number);
            let Some((names, (number, name))) =
                self.names.get(kept..).and_then(|names| Some((names, names.first()?)))
            else {
                continue;
            };
            let first = match Current::open(self.medium, self.dir, *number, name) {
                Err(Error::NoOpening { .. } | Error::RottenBlock { .. }) => continue,
                other => other?,
            };
            if first.opening.journal_uuid == by.journal_uuid && retired.continues_in(&first.opening) {
                self.names = names;
                self.retired = Some(retired);
                break;
            }
        }
        Ok(())
    }

    pub(super) fn open(&self, (number, name): &(u64, String)) -> Result<Current, Error> {
        Current::open(self.medium, self.dir, *number, name)
    }

    /// The segment of a number.
    pub(super) fn segment(&self, number: u64) -> Option<&'a (u64, String)> {
        self.names.iter().find(|(found, _)| *found == number)
    }

    /// The first segment behind a number.
    pub(super) fn behind(&self, number: u64) -> Option<&'a (u64, String)> {
        self.names.iter().find(|(found, _)| *found > number)
    }

    /// The first segment.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(super) fn first(&self) -> Result<&'a (u64, String), Error> {
        self.names.first().ok_or_else(|| Error::NoJournal { dir: self.dir.to_owned() })
    }

    /// Where a position goes on whose segment, or the one behind it, is not there: the segment behind, and the position before
    /// its first group.
    ///
    /// # Errors
    ///
    /// Something between the two was not given out: [`Error::Retired`], [`Error::SegmentMissing`], or was taken back:
    /// [`Error::Withdrawn`]. [`Error::NoSegment`]: the journal ends before it.
    pub(super) fn go_on_from(&self, position: &Position) -> Result<(Current, Position), Error> {
        let (dir, last_event_id) = (self.dir.to_owned(), position.last_event_id);
        let Some(name) = self.behind(position.segment_number) else {
            let last = self.names.last().ok_or_else(|| Error::NoJournal { dir: dir.clone() })?;
            if self.open(last)?.opening.journal_uuid != position.journal_uuid {
                return Err(withdrawn(&self.dir.join(&last.1), position));
            }
            let segment_number = position.segment_number;
            return Err(Error::NoSegment { dir, segment_number, last_segment: last.0, last_event_id });
        };
        let segment = self.open(name)?;
        let opening = segment.opening;
        let behind =
            Position { last_event_id, behind_event_id: position.behind_event_id, ..segment.beginning() };
        let is_next = opening.previous_segment == position.segment_number
            && opening.previous_end_offset == position.offset
            && opening.previous_digest == position.digest;
        if opening.journal_uuid != position.journal_uuid || opening.previous_segment < position.segment_number
        {
            // A recovery that takes segments out leaves out their numbers.
            return Err(withdrawn(&segment.path, position));
        }
        if is_next {
            return Ok((segment, behind));
        }
        let is_gone = |retired: &Compacted| position.segment_number <= retired.segment_number;
        let Some(retired) = self.retired.filter(is_gone) else {
            return Err(Error::SegmentMissing {
                dir,
                segment_number: opening.previous_segment,
                next_segment: opening.segment_number,
                last_event_id,
            });
        };
        // The segment that goes on from what was retired is this one, the first.
        let is_new = position.last_event_id == 0 && position.behind_event_id == 0;
        if retired.last_event_id > position.behind_event_id && !is_new {
            return Err(Error::Retired {
                dir,
                segment_number: position.segment_number,
                retired_upto: retired.segment_number,
                last_retired_id: retired.last_event_id,
                first_segment: opening.segment_number,
                last_event_id,
            });
        }
        if position.behind_event_id >= opening.next_event_id
            || position.commit_sequence > retired.commit_sequence
        {
            // An id or a commit that never was before this segment: it was taken back, and what came instead is retired.
            return Err(withdrawn(&segment.path, position));
        }
        if retired.last_event_id > position.behind_event_id {
            tracing::warn!(
                dir = %dir.display(), segment = opening.segment_number,
                "nothing was given out before segments were retired: the journal is given from where it begins now"
            );
        }
        Ok((segment, behind))
    }
}

pub(super) fn withdrawn(path: &Path, position: &Position) -> Error {
    Error::Withdrawn {
        path: path.to_owned(),
        segment_number: position.segment_number,
        offset: position.offset,
        last_event_id: position.last_event_id,
    }
}
