//! What goes into an examination and what comes out of it.

use semj_format::control::{Compacted, DamagedRange, PreviousEnd};
use semj_format::journal_header::{FLAG_CUT, FLAG_SEALED, FLAG_THINNED};
use semj_format::{Digest, JournalHeader, SegmentOpen, Watermark, WatermarkFile};

use crate::decision::Verdict;
use crate::fault::Fault;
use crate::known::covers;
use crate::scanner::{Gaps, Scanner, Totals};

/// What to do about a journal that is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpenMode {
    /// A torn tail is cut, because a crash leaves one; anything else is an error and changes nothing.
    #[default]
    Strict,
    /// The journal is cut at the first fault, whatever it is: what is kept is a prefix of what was written.
    PointInTime,
    /// Everything that proves itself is kept, before and behind damage; what is lost is recorded.
    Salvage,
}

impl OpenMode {
    /// The mode's number in a Recovered record.
    pub const fn code(self) -> u32 {
        match self {
            Self::Strict => 0,
            Self::PointInTime => 1,
            Self::Salvage => 2,
        }
    }
}

/// A range of bytes in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte.
    pub end: usize,
}

impl Extent {
    /// Bytes in the range.
    pub const fn size(&self) -> usize {
        self.end - self.start
    }

    /// Appends a range, into the last one where it touches it.
    pub(crate) fn push(extents: &mut Vec<Self>, next: Self) {
        match extents.last_mut() {
            Some(last) if last.end == next.start => last.end = next.end,
            _ if next.size() > 0 => extents.push(next),
            _ => {}
        }
    }
}

/// A segment that is kept in another form than its own bytes, which can be had from it.
pub trait Packed: std::fmt::Debug + Sync {
    /// Bytes of that form.
    fn packed_size(&self) -> u64;
    /// The record that the segment ends with.
    fn last_record(&self) -> &[u8];
    /// The segment's bytes up to its end. What can't be had of them is zero.
    fn unpack(&self) -> Vec<u8>;
}

/// What holds a segment's bytes, and need not have them at hand once they were looked at.
pub trait Backing: std::fmt::Debug + Sync {
    /// Whoever examined the segment has seen its bytes. They stay what they are, and few of them are looked at again.
    fn seen(&self);
}

/// One segment's file.
#[derive(Clone, Copy, Debug)]
pub struct SegmentInput<'a> {
    /// The file's name, for the report.
    pub name: &'a str,
    /// The segment's number by its file name, where the name says one.
    pub number: Option<u64>,
    /// The file, up to an offset behind which it has only zeros.
    pub bytes: &'a [u8],
    /// Bytes of the whole file.
    pub file_size: usize,
    /// The header as it was before the file's end was looked for. A live writer makes it final behind everything else, and it
    /// would then speak of bytes that are not looked at. `None`: as it stands in the bytes.
    pub header: Option<[u8; JournalHeader::SIZE]>,
    /// Where `bytes` are only those of the first group, and perhaps some more: how to come to the others.
    pub packed: Option<&'a dyn Packed>,
    /// Whom to tell that the bytes were seen.
    pub backing: Option<&'a dyn Backing>,
}

impl<'a> SegmentInput<'a> {
    /// A whole file.
    pub const fn new(name: &'a str, number: Option<u64>, bytes: &'a [u8]) -> Self {
        Self { name, number, bytes, file_size: bytes.len(), header: None, packed: None, backing: None }
    }

    /// Bytes that there are.
    pub(crate) fn size(&self) -> usize {
        if self.packed.is_some() { self.file_size } else { self.bytes.len() }
    }

    /// The bytes that the header is read from.
    pub(crate) fn header_bytes(&self) -> &[u8] {
        self.header.as_ref().map_or(self.bytes, |header| header)
    }

    /// A scanner that begins at its beginning.
    pub(crate) fn scanner(&self, last_event_id: u64) -> Result<Scanner<'a>, Fault> {
        Scanner::with_header(self.header_bytes(), self.bytes, last_event_id)
    }
}

/// What one segment proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// The file's name.
    pub name: String,
    /// The segment's number: its own word for it, or that of its name where it has none.
    pub number: u64,
    /// Bytes of the file, or of the file that it was made from by compressing it.
    pub file_size: usize,
    /// Bytes of its compressed form, if that is what it is kept in.
    pub packed_size: Option<u64>,
    /// The journal header, where it is right.
    pub header: Option<JournalHeader>,
    /// The SegmentOpen, where it is right and, in [`OpenMode::Salvage`], the segment has a place in the journal.
    pub opening: Option<SegmentOpen>,
    /// Where the records stand that belong to the journal, in order. Between these offsets records stand
    /// back to back, each with a right checksum.
    pub extents: Vec<Extent>,
    /// What those come to.
    pub totals: Totals,
    /// Events that are recorded as missing; of what is trusted nothing is known.
    pub gaps: Gaps,
    /// Offset behind the last commit or the seal; where these are damaged, the end that the following segment names,
    /// which may be behind the file's.
    pub end: usize,
    /// Offset up to which the segment's own commits say that it was durable.
    pub synced_end: usize,
    /// Whether a right seal stands there.
    pub is_sealed: bool,
    /// Non-zero bytes behind the end that are no part of the journal.
    pub tail: Option<Extent>,
    /// What is damaged between offset 0 and the end.
    pub damaged: Vec<Extent>,
    /// The segment that should stand before this one and is lost as a whole, where that is known or salvaged.
    pub lost_before: Option<DamagedRange>,
    /// The first thing that is wrong.
    pub fault: Option<Fault>,
    /// What it all means.
    pub verdict: Verdict,
    /// Whether every byte was held against checksums and digests now, and not when it was made durable only.
    pub is_verified: bool,
}

/// Where a writer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The journal's UUID.
    pub journal_uuid: [u8; 16],
    /// The last segment that is kept.
    pub segment_number: u64,
    /// How that segment ends, for the next SegmentOpen.
    pub previous_end: PreviousEnd,
    /// Where it ends, or ended before events were taken out.
    pub end: usize,
    /// The digest there.
    pub digest: Digest,
    /// The last commit's sequence number.
    pub commit_sequence: u64,
    /// The highest id that is kept.
    pub last_event_id: u64,
    /// The id that comes next: behind that one, and behind those that Gaps say are missing.
    pub next_event_id: u64,
}

impl Tip {
    /// The end of a segment that was opened so.
    pub(crate) fn of(segment: &SegmentReport, opening: &SegmentOpen) -> Self {
        Self {
            journal_uuid: opening.journal_uuid,
            segment_number: segment.number,
            previous_end: if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut },
            end: usize::try_from(segment.original_end()).unwrap_or(segment.end),
            digest: segment.totals.digest,
            commit_sequence: segment.totals.commit_sequence,
            last_event_id: segment.totals.last_event_id,
            next_event_id: segment.totals.next_event_id,
        }
    }
}

/// What a journal proves, and the plan that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What was asked for.
    pub mode: OpenMode,
    /// What the journal's watermark says of how far it was durable.
    pub watermark: WatermarkFile,
    /// What the journal begins behind, where segments were retired: the first segment here goes on from it.
    pub retired: Option<Compacted>,
    /// Bodies of the records that say which events were taken out of segments that are left.
    pub thinned: Vec<Vec<u8>>,
    /// Damage that earlier opens have recorded. Ranges that adjoin are one.
    pub known_damage: Vec<DamagedRange>,
    /// Names of files of retired segments, which are none of the journal's any more and are to be removed.
    pub leftovers: Vec<String>,
    /// The segments, in their order.
    pub segments: Vec<SegmentReport>,
    /// How many of them are kept: all; in [`OpenMode::PointInTime`] those up to the first fault, in
    /// [`OpenMode::Salvage`] those up to the last one whose SegmentOpen is right.
    pub kept: usize,
    /// The end of what is kept; `None` where nothing is.
    pub tip: Option<Tip>,
    /// The highest epoch that was seen, kept or not.
    pub highest_epoch: u64,
    /// The highest segment number that was seen, kept or not.
    pub highest_segment_number: u64,
    /// The highest event id that anything speaks of, kept or not.
    pub highest_event_id: u64,
}

impl Report {
    /// The first segment that forbids to open the journal in this mode.
    pub fn refusal(&self) -> Option<&SegmentReport> {
        self.segments.iter().find(|segment| match self.mode {
            OpenMode::Strict => !segment.verdict.is_good(),
            OpenMode::PointInTime | OpenMode::Salvage => segment.verdict == Verdict::Unsupported,
        })
    }

    /// The segments that are kept.
    pub fn kept_segments(&self) -> &[SegmentReport] {
        self.segments.get(..self.kept).unwrap_or(&self.segments)
    }

    /// Events that the records of the kept segments say are missing, as far as these were looked at.
    pub fn gaps(&self) -> Gaps {
        self.kept_segments().iter().map(|segment| segment.gaps).fold(Gaps::default(), Gaps::plus)
    }

    /// Events of the segments that are kept, without those that were taken out since.
    pub fn events(&self) -> u64 {
        self.kept_segments().iter().map(SegmentReport::events).sum()
    }

    /// The digest that a segment ends with, as the one behind it goes on from it: where the segment's own end is known to be lost,
    /// its totals have another. `None` if there is no such segment.
    pub fn end_digest(&self, place: usize) -> Option<Digest> {
        let segment = self.segments.get(place)?;
        let next = self.segments.get(place + 1).and_then(|next| next.opening);
        let next = next.filter(|next| {
            (next.previous_segment, next.previous_end_offset) == (segment.number, segment.original_end())
        });
        Some(next.map_or(segment.totals.digest, |next| next.previous_digest))
    }

    /// The newest watermark, unless it is that of another journal: none of the segments here has its UUID.
    pub fn own_mark(&self) -> Option<&Watermark> {
        let openings = self.segments.iter().filter_map(|segment| segment.opening.as_ref());
        self.watermark.newest.as_ref().filter(|mark| is_own_mark(mark, openings))
    }

    /// Whether an earlier open has recorded that all of this is damaged in a segment.
    pub fn is_on_record(&self, segment_number: u64, damage: &Extent) -> bool {
        covers(&self.known_damage, segment_number, damage.start as u64, damage.end as u64)
    }

    /// Whether nothing that was committed is missing, as far as the bytes can tell.
    pub fn is_whole(&self) -> bool {
        !self.is_gone() && self.segments.iter().all(|segment| segment.verdict.is_good())
    }

    /// Whether there was a journal of which no segment is left.
    pub fn is_gone(&self) -> bool {
        self.segments.is_empty() && self.watermark.newest.is_some()
    }

    /// Whether the newest segment was closed in order.
    pub fn is_closed(&self) -> bool {
        self.segments.last().is_none_or(|segment| segment.is_sealed)
    }
}

impl SegmentReport {
    /// Bytes that the segment takes of the disk, up to its end.
    pub fn stored_size(&self) -> u64 {
        self.packed_size.unwrap_or(self.end as u64)
    }

    /// Whether the header says where the segment ends, which it does only when all of it was durable.
    pub fn is_final(&self) -> bool {
        let flag = if self.is_sealed { FLAG_SEALED } else { FLAG_CUT };
        self.header.is_some_and(|header| header.flags & flag != 0 && header.journal_size == self.end as u64)
    }

    /// The header of a segment that ends where it does, with its final figures; `None` behind damage, where a walk by sizes gets lost,
    /// so that figures which speak of records there would not be true.
    pub fn final_header(&self) -> Option<JournalHeader> {
        let end_flag = if self.is_sealed { FLAG_SEALED } else { FLAG_CUT };
        let totals = &self.totals;
        let flags = if totals.thinned.events > 0 { end_flag | FLAG_THINNED } else { end_flag };
        let can_be = self.header.is_some() && self.damaged.is_empty();
        can_be
            .then(|| JournalHeader::new(totals.records_left(), totals.next_event_id, self.end as u64, flags))
    }

    /// Events in it, without those that were taken out since. Where that was not looked at, they are as many as a record says.
    pub const fn events(&self) -> u64 {
        self.totals.events.saturating_sub(self.totals.thinned.events)
    }

    /// The end before events were taken out: as the following segment names it.
    pub const fn original_end(&self) -> u64 {
        self.totals.thinned.original(self.end)
    }
}

/// Whether a watermark is that of the journal whose segments have these SegmentOpens, as far as there are any.
pub(crate) fn is_own_mark<'a>(mark: &Watermark, openings: impl Iterator<Item = &'a SegmentOpen>) -> bool {
    let mut openings = openings.peekable();
    openings.peek().is_none() || openings.any(|opening| opening.journal_uuid == mark.journal_uuid)
}
