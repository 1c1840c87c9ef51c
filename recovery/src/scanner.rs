//! The scanner: walks one segment, group by group, and believes nothing that it has not checked.
//!
//! A group is handed out only when all its records have a right frame and checksum and its Commit a right
//! place in the chain, so whoever reads what the scanner gives reads the journal. Where something is wrong
//! the scanner stops: behind a wrong length nothing says where the next record begins. What to make of the
//! rest is for [`crate::decision`] and `salvage`.

use std::collections::VecDeque;

use semj_format::control::{self, Body, Gap, GapReason, Thinned};
use semj_format::digest::{MerkleTree, RecordTree};
use semj_format::journal_header::FLAG_THINNED;
use semj_format::{
    Commit, ControlError, Digest, EventType, JournalHeader, Record, Records, SegmentOpen, SegmentSeal,
};

use crate::fault::{Fault, FaultKind};

/// Records that a Commit covers, and the Commit.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    bytes: &'a [u8],
    /// Offset of the first record.
    pub start: usize,
    /// Offset behind the Commit.
    pub end: usize,
    /// The Commit.
    pub commit: Commit,
}

impl<'a> Group<'a> {
    /// The group's records with their offsets in the segment, the Commit last.
    pub fn records(&self) -> impl Iterator<Item = (usize, Record<'a>)> + use<'a> {
        // The frames were checked when the group was made, so the walk meets no error.
        Records::new(&self.bytes[..self.end], self.start).map_while(Result::ok)
    }
}

/// Where and how the scanner stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// Behind a right SegmentSeal.
    Sealed(SegmentSeal),
    /// At the offset that it was told to stop at.
    Limit,
    /// Only zero bytes follow.
    Zeros,
    /// At bytes that are no complete group.
    Torn(Fault),
    /// At bytes that are whole and contradict the chain.
    Broken(Fault),
    /// At a control record whose layout is not known here.
    Unsupported(Fault),
}

impl ScanEnd {
    fn of(fault: Fault) -> Self {
        match fault.kind {
            FaultKind::Control(ControlError::Version { .. }) => Self::Unsupported(fault),
            kind if kind.contradicts() => Self::Broken(fault),
            _ => Self::Torn(fault),
        }
    }

    /// What is wrong, where something is.
    pub const fn fault(&self) -> Option<Fault> {
        match self {
            Self::Torn(fault) | Self::Broken(fault) | Self::Unsupported(fault) => Some(*fault),
            Self::Sealed(_) | Self::Limit | Self::Zeros => None,
        }
    }
}

/// What the scanner has seen and accepted so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Records, commits and the seal included.
    pub records: u64,
    /// Events among them.
    pub events: u64,
    /// Commits among them.
    pub commits: u64,
    /// The lowest id of the first group that has events, 0 where there is none.
    pub first_event_id: u64,
    /// The highest id up to here, that of segments before included.
    pub last_event_id: u64,
    /// The id that comes next: behind the highest one, and behind those that Gaps say are missing.
    pub next_event_id: u64,
    /// Sequence number of the last commit, that of segments before included.
    pub commit_sequence: u64,
    /// The highest `synced_upto` of the commits.
    pub synced_upto: u64,
    /// Digest of the last commit or of the seal.
    pub digest: Digest,
    /// Events that were taken out since; the figures above are those of before.
    pub thinned: Thinning,
}

impl Totals {
    /// Records that stand in the file as it is, which a final header counts.
    pub const fn records_left(&self) -> u64 {
        self.records.wrapping_sub(self.thinned.events).wrapping_add(self.thinned.records)
    }

    /// Takes the highest id of a group into account, 0 where it has none.
    pub(crate) fn see_id(&mut self, event_id: u64) {
        self.last_event_id = self.last_event_id.max(event_id);
        self.miss_upto(event_id);
    }

    /// Takes the last id that a group's Gaps speak of into account, 0 where there is none.
    pub(crate) fn miss_upto(&mut self, event_id: u64) {
        self.next_event_id = self.next_event_id.max(event_id.saturating_add(1));
    }
}

/// What was taken out of a segment since it was sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thinning {
    /// Events that are gone.
    pub events: u64,
    /// Records that stand in their place.
    pub records: u64,
    /// Bytes by which the segment is shorter.
    pub bytes: i64,
}

impl Thinning {
    /// By a record of so many bytes in the place of what is gone.
    pub(crate) const fn of(gone: &Thinned, size: usize) -> Self {
        Self {
            events: gone.event_count as u64,
            records: 1,
            bytes: gone.byte_count.cast_signed().wrapping_sub(size as i64),
        }
    }

    pub(crate) const fn plus(self, other: Self) -> Self {
        Self {
            events: self.events.wrapping_add(other.events),
            records: self.records.wrapping_add(other.records),
            bytes: self.bytes.wrapping_add(other.bytes),
        }
    }

    /// An offset as it was before.
    pub const fn original(self, offset: usize) -> u64 {
        (offset as u64).wrapping_add_signed(self.bytes)
    }
}

/// One pass over one segment.
#[derive(Debug)]
pub struct Scanner<'a> {
    /// The file, not far beyond where it was cut.
    bytes: &'a [u8],
    /// Where it was cut: as it was before anything was taken out, and as it is.
    cut: Option<u64>,
    cut_in_file: Option<usize>,
    /// `None` where it is left out of account.
    header: Option<JournalHeader>,
    opening: SegmentOpen,
    at: usize,
    totals: Totals,
    gaps: Gaps,
    commit_leaves: MerkleTree,
    /// The records of the group that is being looked at.
    group_tree: RecordTree<'a>,
    /// Sequence numbers and ends of the commits that no later one has called durable yet.
    unsynced: VecDeque<(u64, usize)>,
    synced_end: usize,
    resumed: bool,
    /// A seal held; where the header contradicts it, the end is broken all the same.
    sealed: bool,
    end: Option<ScanEnd>,
}

impl<'a> Scanner<'a> {
    /// Begins at the beginning of a segment's file: header and SegmentOpen must be right.
    ///
    /// `last_event_id` is the highest id in the segments before, 0 where they don't matter.
    ///
    /// # Errors
    ///
    /// What is wrong with the opening. It is synced before the file gets its name, so it is never torn.
    pub fn new(bytes: &'a [u8], last_event_id: u64) -> Result<Self, Fault> {
        Self::with_header(bytes, bytes, last_event_id)
    }

    /// The same with a header that was read before.
    ///
    /// # Errors
    ///
    /// As [`Self::new`].
    pub(crate) fn with_header(header: &[u8], bytes: &'a [u8], last_event_id: u64) -> Result<Self, Fault> {
        let header = JournalHeader::parse(header)
            .map_err(|error| Fault { offset: error.offset(), kind: FaultKind::Header(error) })?;
        let mut scanner = Self::without_header(bytes, last_event_id)?;
        scanner.header = Some(header);
        Ok(scanner)
    }

    /// The same without a look at the header: nothing in a segment depends on it.
    ///
    /// # Errors
    ///
    /// What is wrong with the SegmentOpen.
    pub fn without_header(bytes: &'a [u8], last_event_id: u64) -> Result<Self, Fault> {
        let fault = |offset: usize, kind| Fault { offset: offset as u64, kind };
        let start = JournalHeader::SIZE;
        let rest = bytes.get(start..).unwrap_or_default();
        let first = Record::parse_verified(rest).map_err(|error| fault(start, FaultKind::Record(error)))?;
        let opening = control::parse::<SegmentOpen>(&first)
            .map_err(|error| fault(start, FaultKind::Control(error)))?
            .ok_or(fault(start, FaultKind::NoSegmentOpen))?;
        Ok(Self::assuming(bytes, start, opening, last_event_id))
    }

    /// Begins at an offset of a segment that is taken to have been opened so, whatever stands there.
    pub(crate) fn assuming(bytes: &'a [u8], start: usize, opening: SegmentOpen, last_event_id: u64) -> Self {
        // Nor does an id below the segment's own bound belong here.
        let last_event_id = last_event_id.max(opening.next_event_id.saturating_sub(1));
        let totals = Totals {
            records: 0,
            events: 0,
            commits: 0,
            first_event_id: 0,
            last_event_id,
            next_event_id: last_event_id.saturating_add(1),
            commit_sequence: opening.next_commit_sequence.wrapping_sub(1),
            synced_upto: 0,
            digest: opening.previous_digest,
            thinned: Thinning::default(),
        };
        Self {
            bytes,
            cut: None,
            cut_in_file: None,
            header: None,
            opening,
            at: start,
            totals,
            gaps: Gaps::default(),
            commit_leaves: MerkleTree::new(),
            group_tree: RecordTree::new(),
            unsynced: VecDeque::new(),
            synced_end: start,
            resumed: false,
            sealed: false,
            end: None,
        }
    }

    /// Stops at this offset if a group ends there: the segment that follows says that this one was cut there, as it was
    /// before anything was taken out.
    pub(crate) fn stop_at(self, offset: usize) -> Self {
        // Where events were taken out nothing stands where it stood, and the file may be longer than it was.
        let stopped = if self.is_thinned() { self } else { self.with_end(offset) };
        Self { cut: Some(offset as u64), ..stopped }
    }

    /// The same where the header says so, which speaks of the file as it is.
    pub(crate) fn stop_at_in_file(self, offset: usize) -> Self {
        Self { cut_in_file: Some(offset), ..self.with_end(offset) }
    }

    /// Whether events were taken out, as the header says.
    fn is_thinned(&self) -> bool {
        self.header.is_some_and(|header| header.flags & FLAG_THINNED != 0)
    }

    fn with_end(self, offset: usize) -> Self {
        // A cut inside the header, which only a forged file names, leaves no group, as one behind it does.
        let bytes = self.bytes.get(..offset.max(JournalHeader::SIZE)).unwrap_or(self.bytes);
        Self { bytes, ..self }
    }

    /// The bytes that are scanned.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The journal header, where it was looked at.
    pub const fn header(&self) -> Option<&JournalHeader> {
        self.header.as_ref()
    }

    /// The segment's SegmentOpen.
    pub const fn opening(&self) -> &SegmentOpen {
        &self.opening
    }

    /// Offset behind the last group (or the seal) that is right.
    pub const fn offset(&self) -> usize {
        self.at
    }

    /// The same offset before anything was taken out: as the following segment names it.
    pub const fn original_offset(&self) -> u64 {
        self.totals.thinned.original(self.at)
    }

    /// Offset up to which the commits themselves say that the segment was durable.
    pub const fn synced_end(&self) -> usize {
        self.synced_end
    }

    /// What was seen up to there.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What Gaps say of what was seen.
    pub const fn gaps(&self) -> Gaps {
        self.gaps
    }

    /// Whether a right seal stands before that offset, whatever the header says.
    pub const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// How the scan ended, once [`Self::next_group`] has returned nothing.
    pub const fn end(&self) -> Option<ScanEnd> {
        self.end
    }

    /// The next group, checked through; nothing at the end.
    pub fn next_group(&mut self) -> Option<Group<'a>> {
        if self.end.is_some() {
            return None;
        }
        if self.cut == Some(self.original_offset()) || self.cut_in_file == Some(self.at) {
            self.end = Some(ScanEnd::Limit);
            return None;
        }
        if self.is_thinned() && self.cut.is_some_and(|cut| cut < self.original_offset()) {
            let but = "the segment behind it names an end within its last group";
            let fault = Fault { offset: self.at as u64, kind: FaultKind::EndsEarly { but } };
            self.end = Some(ScanEnd::Broken(fault));
            return None;
        }
        if is_zero(&self.bytes[self.at..self.bytes.len().min(self.at + RECORD_PROBE)])
            && is_zero(&self.bytes[self.at..])
        {
            self.end = Some(ScanEnd::Zeros);
            return None;
        }
        match self.scan_group() {
            Ok(Scanned::Group(group)) => Some(group),
            Ok(Scanned::Seal(seal)) => {
                self.end = Some(ScanEnd::Sealed(seal));
                None
            }
            Err(fault) => {
                self.end = Some(ScanEnd::of(fault));
                None
            }
        }
    }

    /// Looks again at the place where the scan stopped, as if it had not.
    pub(crate) const fn look_again(&mut self) {
        self.end = None;
    }

    /// Goes on behind a commit that was found behind damage: the chain is taken up from it.
    pub(crate) fn resume(
        &mut self,
        group_end: usize,
        commit: &Commit,
        records: u64,
        events: u64,
        thinned: Thinning,
    ) {
        self.end = None;
        self.resumed = true;
        self.at = group_end;
        let totals = &mut self.totals;
        totals.commits += 1;
        totals.records += records + 1;
        totals.events += events;
        totals.thinned = totals.thinned.plus(thinned);
        totals.commit_sequence = commit.commit_sequence;
        totals.digest = commit.digest;
        totals.see_id(commit.last_event_id);
        totals.synced_upto = totals.synced_upto.max(commit.synced_upto);
        if totals.first_event_id == 0 && events > 0 {
            totals.first_event_id = commit.first_event_id;
        }
    }

    /// Takes into account what Gaps say that stand between these offsets, where records stand back to back.
    pub(crate) fn see_gaps(&mut self, start: usize, end: usize) {
        let records = Records::new(self.bytes.get(..end).unwrap_or_default(), start).map_while(Result::ok);
        for (_, record) in records.filter(|(_, record)| record.event_type() == EventType::JOURNAL_GAP) {
            self.totals.miss_upto(control::missing_upto(&record));
            self.gaps = self.gaps.plus(Gaps::of(&record));
        }
    }

    /// Goes on behind a prefix that is taken as proven and durable.
    pub(crate) const fn trust(&mut self, end: usize, totals: Totals) {
        self.resumed = true;
        self.at = end;
        self.synced_end = end;
        self.totals = totals;
    }

    fn scan_group(&mut self) -> Result<Scanned<'a>, Fault> {
        let start = self.at;
        self.group_tree.clear();
        let mut group = GroupTotals::new(self.totals.last_event_id);
        let mut at = start;
        loop {
            let fault = |kind| Fault { offset: at as u64, kind };
            let rest = self.bytes.get(at..).unwrap_or_default();
            let record = match Record::parse_verified(rest) {
                Ok(record) => record,
                // Whole records with nothing behind them: the group was not finished.
                Err(_) if at > start && is_zero(&rest[..rest.len().min(RECORD_PROBE)]) => {
                    let bytes = (at - start) as u64;
                    return Err(Fault {
                        offset: start as u64,
                        kind: FaultKind::Uncommitted { records: group.records, bytes },
                    });
                }
                Err(error) => return Err(fault(FaultKind::Record(error))),
            };
            let end = at + record.len();
            let control_fault = |error| fault(FaultKind::Control(error));
            if record.is_control() {
                match record.event_type() {
                    EventType::JOURNAL_COMMIT => {
                        let commit = required::<Commit>(&record).map_err(control_fault)?;
                        let root = self.group_tree.root();
                        self.check_commit(&commit, start, at, root, &group)?;
                        self.accept(&record, &commit, end, &group);
                        return Ok(Scanned::Group(Group { bytes: self.bytes, start, end, commit }));
                    }
                    EventType::JOURNAL_SEGMENT_SEAL => {
                        let seal = required::<SegmentSeal>(&record).map_err(control_fault)?;
                        if at > start {
                            let found = "SegmentSeal behind records without a commit";
                            return Err(fault(FaultKind::Misplaced { found }));
                        }
                        self.check_seal(&seal, at)?;
                        if self.resumed {
                            // Of what was lost it is not known how much was taken out before.
                            let found = (at - JournalHeader::SIZE) as u64;
                            self.totals.thinned.bytes = seal.byte_count.wrapping_sub(found).cast_signed();
                        }
                        self.at = end;
                        self.totals.records += 1;
                        self.totals.digest = seal.digest;
                        self.sealed = true;
                        self.check_header(start)?;
                        return Ok(Scanned::Seal(seal));
                    }
                    EventType::JOURNAL_SEGMENT_OPEN if at > JournalHeader::SIZE => {
                        return Err(fault(FaultKind::Misplaced { found: "second SegmentOpen" }));
                    }
                    EventType::JOURNAL_GAP => {
                        group.missing_upto = group.missing_upto.max(control::missing_upto(&record));
                        group.gaps = group.gaps.plus(Gaps::of(&record));
                    }
                    _ => {}
                }
            } else {
                group.see(record.event_id());
            }
            match Thinned::parse(&record) {
                Some(thinned) => self.pass_over(&record, &thinned, &mut group),
                None => {
                    group.records += 1;
                    self.group_tree.push(record.bytes());
                }
            }
            at = end;
        }
    }

    /// Takes events that are gone into account: by the roots of their subtrees, which the group's root then proves.
    fn pass_over(&mut self, record: &Record<'_>, thinned: &Thinned, group: &mut GroupTotals) {
        let levels = Thinned::levels(self.group_tree.count(), thinned.event_count.into());
        for (level, root) in levels.zip(Thinned::subtrees(record)) {
            self.group_tree.push_subtree(level, root);
        }
        group.pass_over(thinned, record.len());
    }

    /// Holds a commit against the records before it and the chain up to it.
    fn check_commit(
        &self,
        commit: &Commit,
        start: usize,
        at: usize,
        root: Digest,
        group: &GroupTotals,
    ) -> Result<(), Fault> {
        let check = Check { offset: at as u64 };
        check.digest("commit digest", commit.digest, commit.computed_digest())?;
        check.figure("commit epoch", commit.epoch, self.opening.epoch)?;
        let next = self.totals.commit_sequence.wrapping_add(1);
        check.figure("commit_sequence", commit.commit_sequence, next)?;
        check.digest("commit previous_digest", commit.previous_digest, self.totals.digest)?;
        check.figure("commit record_count", commit.record_count.into(), group.records)?;
        check.figure("commit event_count", commit.event_count.into(), group.events)?;
        check.figure("commit byte_count", commit.byte_count, group.thinned.original(at - start))?;
        check.digest("commit root", commit.root, root)?;
        if commit.synced_upto >= commit.commit_sequence {
            let expected = commit.commit_sequence.saturating_sub(1);
            return Err(check.fault(FaultKind::Figure {
                field: "commit synced_upto",
                found: commit.synced_upto,
                expected,
            }));
        }
        if let Some((found, after)) = group.out_of_order {
            let by_priority = commit.flags & Commit::FLAG_BY_PRIORITY != 0;
            if !by_priority || group.first <= self.totals.last_event_id || self.has_double_id(start, at) {
                return Err(Fault { offset: start as u64, kind: FaultKind::IdOrder { found, after } });
            }
        }
        check.figure("commit first_event_id", commit.first_event_id, group.first)?;
        check.figure("commit last_event_id", commit.last_event_id, group.last)
    }

    /// Whether an id occurs twice in a group whose ids are not in order.
    fn has_double_id(&self, start: usize, end: usize) -> bool {
        let records = Records::new(&self.bytes[..end], start).map_while(Result::ok);
        let mut ids = Vec::new();
        for (_, record) in records {
            match Thinned::parse(&record) {
                // The lowest and the highest of those that are gone.
                Some(thinned) if thinned.event_count > 1 => {
                    ids.extend([thinned.first_event_id, thinned.last_event_id]);
                }
                Some(thinned) => ids.push(thinned.first_event_id),
                None if record.is_control() => {}
                None => ids.push(record.event_id()),
            }
        }
        ids.sort_unstable();
        ids.windows(2).any(|pair| pair.first() == pair.last())
    }

    fn accept(&mut self, record: &Record<'_>, commit: &Commit, end: usize, group: &GroupTotals) {
        self.commit_leaves.push(record.leaf());
        self.at = end;
        self.unsynced.push_back((commit.commit_sequence, end));
        while let Some((_, synced_end)) =
            self.unsynced.pop_front_if(|(sequence, _)| *sequence <= commit.synced_upto)
        {
            self.synced_end = synced_end;
        }
        self.gaps = self.gaps.plus(group.gaps);
        let totals = &mut self.totals;
        totals.records += group.records + 1;
        totals.events += group.events;
        totals.commits += 1;
        totals.thinned = totals.thinned.plus(group.thinned);
        if totals.first_event_id == 0 {
            totals.first_event_id = group.first;
        }
        totals.see_id(group.last);
        totals.miss_upto(group.missing_upto);
        totals.commit_sequence = commit.commit_sequence;
        totals.synced_upto = totals.synced_upto.max(commit.synced_upto);
        totals.digest = commit.digest;
    }

    /// Holds a seal against the whole segment before it.
    fn check_seal(&self, seal: &SegmentSeal, at: usize) -> Result<(), Fault> {
        let check = Check { offset: at as u64 };
        let totals = &self.totals;
        check.digest("seal digest", seal.digest, seal.computed_digest())?;
        check.figure("seal segment_number", seal.segment_number, self.opening.segment_number)?;
        check.figure("seal epoch", seal.epoch, self.opening.epoch)?;
        check.figure("seal commit_sequence", seal.commit_sequence, totals.commit_sequence)?;
        check.digest("seal previous_digest", seal.previous_digest, totals.digest)?;
        if self.resumed {
            // The totals lack what was lost.
            return Ok(());
        }
        check.figure("seal commit_count", seal.commit_count, totals.commits)?;
        check.figure("seal record_count", seal.record_count, totals.records)?;
        check.figure("seal event_count", seal.event_count, totals.events)?;
        check.figure(
            "seal byte_count",
            seal.byte_count,
            totals.thinned.original(at - JournalHeader::SIZE),
        )?;
        check.figure("seal first_event_id", seal.first_event_id, totals.first_event_id)?;
        let last = if totals.events == 0 { 0 } else { totals.last_event_id };
        check.figure("seal last_event_id", seal.last_event_id, last)?;
        check.digest("seal root", seal.root, self.commit_leaves.root())
    }

    /// Holds the figures of a final header against what was found. A header without a final flag lags.
    fn check_header(&self, seal_at: usize) -> Result<(), Fault> {
        use semj_format::journal_header::FLAG_SEALED;
        let Some(header) = self.header.filter(|header| header.flags & FLAG_SEALED != 0 && !self.resumed)
        else {
            return Ok(());
        };
        let check = Check { offset: seal_at as u64 };
        check.figure(
            "header total_events (at offset 12)",
            header.total_events,
            self.totals.records_left(),
        )?;
        check.figure("header journal_size (at offset 28)", header.journal_size, self.at as u64)
    }
}

enum Scanned<'a> {
    Group(Group<'a>),
    Seal(SegmentSeal),
}

/// As many bytes are looked at to see whether a record could begin there.
const RECORD_PROBE: usize = semj_format::limits::RECORD_SIZE_MIN;

/// Whether all bytes are zero. Looks at whole blocks at a time, which compilers turn into vector code.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|chunk| chunk.iter().fold(0, |any, byte| any | byte) == 0)
}

/// A control record that is of this type for certain.
fn required<B: Body>(record: &Record<'_>) -> Result<B, ControlError> {
    let event_type = B::EVENT_TYPE;
    let wrong_size = ControlError::Size { event_type, found: record.payload().len(), expected: B::BODY_SIZE };
    control::parse(record)?.ok_or(wrong_size)
}

/// Events that Gaps speak of: they have ids, and are not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Events that were dropped because there was no room for them.
    pub dropped: u64,
    /// Ids of events that were damaged, or whose emitter did not come back with them.
    pub lost: u64,
}

impl Gaps {
    /// Those that this record speaks of, if it is a Gap.
    pub fn of(record: &Record<'_>) -> Self {
        let Ok(Some(gap)) = control::parse::<Gap>(record) else { return Self::default() };
        match gap.reason == GapReason::Dropped.code() {
            true => Self { dropped: gap.event_count, lost: 0 },
            false => {
                let ids = gap.last_event_id.saturating_sub(gap.first_event_id).saturating_add(1);
                Self { dropped: 0, lost: ids }
            }
        }
    }

    /// The sum of both.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            dropped: self.dropped.saturating_add(other.dropped),
            lost: self.lost.saturating_add(other.lost),
        }
    }
}

/// What a group's records come to, seen one by one.
struct GroupTotals {
    records: u64,
    events: u64,
    first: u64,
    last: u64,
    highest: u64,
    /// The last id that is said to be missing, 0 where none is.
    missing_upto: u64,
    gaps: Gaps,
    /// The first id that is not above all before it, and the highest before it.
    out_of_order: Option<(u64, u64)>,
    thinned: Thinning,
}

impl GroupTotals {
    fn new(last_event_id: u64) -> Self {
        Self {
            records: 0,
            events: 0,
            first: 0,
            last: 0,
            highest: last_event_id,
            missing_upto: 0,
            gaps: Gaps::default(),
            out_of_order: None,
            thinned: Thinning::default(),
        }
    }

    /// Events that are gone, in whose place a record of so many bytes stands.
    fn pass_over(&mut self, thinned: &Thinned, size: usize) {
        let events = u64::from(thinned.event_count);
        self.see(thinned.first_event_id);
        if events > 1 {
            self.see(thinned.last_event_id);
        }
        self.events += events.saturating_sub(2);
        self.records += events;
        self.thinned = self.thinned.plus(Thinning::of(thinned, size));
    }

    /// `first` and `last` are the lowest and the highest id, whatever the order in the group.
    fn see(&mut self, id: u64) {
        self.events += 1;
        if id <= self.highest && self.out_of_order.is_none() {
            self.out_of_order = Some((id, self.highest));
        }
        self.highest = self.highest.max(id);
        self.first = if self.events == 1 { id } else { self.first.min(id) };
        self.last = self.last.max(id);
    }
}

struct Check {
    offset: u64,
}

impl Check {
    fn fault(&self, kind: FaultKind) -> Fault {
        Fault { offset: self.offset, kind }
    }

    fn figure(&self, field: &'static str, found: u64, expected: u64) -> Result<(), Fault> {
        if found != expected {
            return Err(self.fault(FaultKind::Figure { field, found, expected }));
        }
        Ok(())
    }

    fn digest(&self, field: &'static str, found: Digest, expected: Digest) -> Result<(), Fault> {
        if found != expected {
            return Err(self.fault(FaultKind::Digest { field, found, expected }));
        }
        Ok(())
    }
}
