//! Finds what proves itself behind damage.
//!
//! A commit that is found behind the damage (right checksum and digest, the segment's epoch, a sequence
//! number that is still to come) says by its `byte_count` where its group begins and by its root what was in
//! it. Three cases follow, from the strongest proof to the weakest:
//!
//! 1. The group's root comes out right, and so do the checksums: all of it is kept.
//! 2. All frames hold and their number is the commit's: the records whose checksum is right are kept. If that
//!    is all of them, damage does not explain the wrong root, and nothing is kept.
//! 3. A frame is lost. Records are kept from the group's beginning up to the damage, and, behind it, the
//!    longest run of right records that ends exactly at the commit. The bytes of another record could lie in
//!    some payload, so the run must also leave room in the commit's `record_count` for the damaged record,
//!    and carry the ids that the commit's range has for these places.
//!
//! A commit that is chained to the last good one is that of the group in which the damage begins, whatever stands before it: the
//! payload of an event that is damaged may hold another. Where events were taken out of a group, what stands in their place
//! counts as they did.
//!
//! Whichever case it is, the ids have to follow the rules that a scan holds them to, or nothing is kept. A commit
//! that should follow the last good one, but is chained to another, contradicts the chain: of its group nothing is
//! kept either. What is not kept is damage, and is recorded as such.

use std::collections::HashMap;

use semj_format::control::{self, Thinned};
use semj_format::digest::RecordTree;
use semj_format::{Commit, EventType, JournalHeader, Record, Records};

use crate::evidence::{Behind, Found, records_behind};
use crate::report::Extent;
use crate::scanner::{Scanner, Thinning};

/// What was kept of one group.
#[derive(Default)]
pub(crate) struct Salvaged {
    /// Where the kept records stand, in order; the Commit's own bytes are not among them.
    pub(crate) extents: Vec<Extent>,
    /// Records and events as they were before some were taken out.
    pub(crate) records: u64,
    pub(crate) events: u64,
    pub(crate) thinned: Thinning,
}

/// Where a scan can go on behind the damage that it stopped at.
pub(crate) struct Resumption {
    commit: Commit,
    /// What is kept up to there, the Commit included.
    pub(crate) kept: Vec<Extent>,
    /// Offset behind the Commit.
    end: usize,
    salvaged: Salvaged,
}

impl Resumption {
    /// The commit of the group in which the damage begins, or the nearest one behind it that proves itself.
    pub(crate) fn find(scanner: &Scanner<'_>, behind: &Behind) -> Option<Self> {
        let bytes = scanner.bytes();
        let damage_start = scanner.offset();
        let totals = scanner.totals();
        let commit = |(at, found): (usize, &Found)| match found {
            Found::Commit(commit) => Some((at, *commit)),
            Found::Seal(_) => None,
        };
        let commits = behind.now(scanner).filter_map(commit);
        let next_sequence = totals.commit_sequence.wrapping_add(1);
        let is_next = |commit: &Commit| commit.commit_sequence == next_sequence;
        let is_chained = |commit: &Commit| is_next(commit) && commit.previous_digest == totals.digest;
        let mut next = behind.numbered(scanner, next_sequence).filter_map(commit);
        let chained = next.find(|(_, commit)| is_chained(commit));
        chained.into_iter().chain(commits).find_map(|(at, commit)| {
            let salvaged = if is_chained(&commit) {
                Some(salvage_group(bytes.get(..at)?, damage_start, &commit, totals.last_event_id))
            } else if is_next(&commit) {
                // It contradicts the chain.
                Some(Salvaged::default())
            } else {
                let walk_start =
                    behind.commit_end_before(at).map_or(damage_start, |end| end.max(damage_start));
                let start = group_start(bytes, damage_start, walk_start, at, &commit);
                start.and_then(|start| {
                    Some(salvage_group(bytes.get(..at)?, start, &commit, totals.last_event_id))
                })
            };
            let mut salvaged = salvaged?;
            let end = at + control::record_size::<Commit>();
            let mut kept = std::mem::take(&mut salvaged.extents);
            Extent::push(&mut kept, Extent { start: at, end });
            Some(Self { commit, kept, end, salvaged })
        })
    }

    /// What is lost between the damage's beginning and the Commit.
    pub(crate) fn lost(&self, damage_start: usize) -> Vec<Extent> {
        let mut lost = Vec::new();
        let mut at = damage_start;
        for kept in &self.kept {
            Extent::push(&mut lost, Extent { start: at, end: kept.start });
            at = kept.end;
        }
        lost
    }

    /// Takes the scan up again behind the Commit.
    pub(crate) fn apply(&self, scanner: &mut Scanner<'_>) {
        let Salvaged { records, events, thinned, .. } = self.salvaged;
        scanner.resume(self.end, &self.commit, records, events, thinned);
        for kept in &self.kept {
            scanner.see_gaps(kept.start, kept.end);
        }
    }
}

/// Where the group of a commit begins that is not chained to what was accepted: behind the damage's beginning, or nothing is
/// known of it. What was taken out of the group made it shorter. Records before `walk_start` are of other groups.
fn group_start(bytes: &[u8], lowest: usize, walk_start: usize, at: usize, commit: &Commit) -> Option<usize> {
    let mut shorter = 0i64;
    let mut run_end = walk_start;
    for (start, record) in records_behind(bytes.get(..at)?, walk_start) {
        let is_commit = record.is_control() && record.event_type() == EventType::JOURNAL_COMMIT;
        // Those of the run that ends at the commit.
        if start != run_end || is_commit {
            shorter = 0;
        }
        shorter = shorter.wrapping_add(StandsFor::of(&record).thinned.bytes);
        run_end = start + record.len();
    }
    let shorter = if run_end == at { shorter } else { 0 };
    let size = usize::try_from(commit.byte_count.checked_add_signed(shorter.checked_neg()?)?).ok()?;
    at.checked_sub(size).filter(|start| *start >= lowest)
}

/// What is kept of a group whose bytes are those from `start` to the end of `group`.
fn salvage_group(group: &[u8], start: usize, commit: &Commit, after_id: u64) -> Salvaged {
    let ids = IdRule::new(commit, after_id);
    if let Some(whole) = whole_group(group, start, commit, &ids) {
        return whole;
    }
    let kept =
        framed_group(group, start, commit, &ids).unwrap_or_else(|| torn_group(group, start, commit, &ids));
    if kept.contradicts(group, &ids) { Salvaged::default() } else { kept }
}

/// What a record counts for.
struct StandsFor {
    records: u64,
    events: u64,
    /// The lowest and the highest id of the events.
    ids: Option<(u64, u64)>,
    thinned: Thinning,
}

impl StandsFor {
    fn of(record: &Record<'_>) -> Self {
        match Thinned::parse(record) {
            Some(gone) => {
                let count = u64::from(gone.event_count);
                let ids = Some((gone.first_event_id, gone.last_event_id));
                let thinned = Thinning::of(&gone, record.len());
                Self { records: count, events: count, ids, thinned }
            }
            None => {
                let ids = (!record.is_control()).then(|| (record.event_id(), record.event_id()));
                let events = u64::from(!record.is_control());
                Self { records: 1, events, ids, thinned: Thinning::default() }
            }
        }
    }

    /// Both ids where there are two events at least, the one where there is one.
    fn ids(&self) -> impl Iterator<Item = u64> + use<> {
        let (first, last) = self.ids.unzip();
        first.into_iter().chain(last.filter(|_| self.events > 1))
    }
}

/// Case 1.
fn whole_group(group: &[u8], start: usize, commit: &Commit, ids: &IdRule) -> Option<Salvaged> {
    let mut tree = RecordTree::new();
    let mut event_ids = Vec::new();
    let mut kept = Salvaged::default();
    for record in Records::new(group, start) {
        let (at, record) = record.ok()?;
        // A root that is right over a wrong checksum was forged, or made by a writer with a bug.
        record.verify_checksum().ok()?;
        if is_misplaced(at, &record) {
            return None;
        }
        match Thinned::parse(&record) {
            Some(gone) => {
                let levels = Thinned::levels(kept.records, gone.event_count.into());
                for (level, root) in levels.zip(Thinned::subtrees(&record)) {
                    tree.push_subtree(level, root);
                }
            }
            None => tree.push(record.bytes()),
        }
        event_ids.extend(StandsFor::of(&record).ids());
        kept.keep(at, &record);
    }
    let first_and_last = (event_ids.iter().min().copied(), event_ids.iter().max().copied());
    let proven = kept.records == u64::from(commit.record_count)
        && kept.events == u64::from(commit.event_count)
        && tree.root() == commit.root
        && first_and_last.0.unwrap_or(0) == commit.first_event_id
        && first_and_last.1.unwrap_or(0) == commit.last_event_id
        && event_ids.iter().all(|id| ids.allows(*id))
        && ids.follow_each_other(&event_ids);
    proven.then_some(kept)
}

/// Whether a scan would not take this record for one of a group that goes on behind it.
fn is_misplaced(at: usize, record: &Record<'_>) -> bool {
    record.is_control()
        && match record.event_type() {
            EventType::JOURNAL_COMMIT | EventType::JOURNAL_SEGMENT_SEAL => true,
            EventType::JOURNAL_SEGMENT_OPEN => at != JournalHeader::SIZE,
            _ => false,
        }
}

/// Case 2.
fn framed_group(group: &[u8], start: usize, commit: &Commit, ids: &IdRule) -> Option<Salvaged> {
    let records: Vec<_> = Records::new(group, start).collect::<Result<_, _>>().ok()?;
    let count: u64 = records.iter().map(|(_, record)| StandsFor::of(record).records).sum();
    if count != u64::from(commit.record_count) {
        return None;
    }
    let mut kept = Salvaged::default();
    if records.iter().all(|(_, record)| record.verify_checksum().is_ok()) {
        return Some(kept);
    }
    for (at, record) in &records {
        if record.verify_checksum().is_ok() && StandsFor::of(record).ids().all(|id| ids.allows(id)) {
            kept.keep(*at, record);
        }
    }
    Some(kept)
}

/// Case 3.
fn torn_group(group: &[u8], start: usize, commit: &Commit, ids: &IdRule) -> Salvaged {
    let mut kept = Salvaged::default();
    let mut damage = start;
    for (at, record) in Records::new(group, start).map_while(Result::ok) {
        let expected = ids.nth(kept.events);
        let id_fits =
            StandsFor::of(&record).ids.is_none_or(|(first, last)| expected.fits(first) && ids.allows(last));
        if record.verify_checksum().is_err() || !id_fits {
            break;
        }
        kept.keep(at, &record);
        damage = at + record.len();
    }
    let room = u64::from(commit.record_count).saturating_sub(kept.records + 1);
    if let Some(run) = longest_run(group, damage + 1, room, ids) {
        for (at, record) in Records::new(group, run).map_while(Result::ok) {
            kept.keep(at, &record);
        }
    }
    kept
}

/// A run of records, seen from its first one.
#[derive(Clone, Copy)]
struct Run {
    records: u64,
    events: u64,
}

/// The beginning of the longest run of right records that ends where the group ends.
///
/// Goes through the offsets from the last to the first, so that each candidate knows at once whether the
/// record behind it belongs to a run, and only those are checksummed.
fn longest_run(group: &[u8], from: usize, room: u64, ids: &IdRule) -> Option<usize> {
    let mut runs = HashMap::from([(group.len(), Run { records: 0, events: 0 })]);
    let mut longest = None;
    for at in (from..group.len()).rev() {
        let Some(record) = group.get(at..).and_then(|rest| Record::parse(rest).ok()) else {
            continue;
        };
        let Some(&next) = runs.get(&(at + record.len())) else {
            continue;
        };
        let stands_for = StandsFor::of(&record);
        let expected = ids.nth_last(next.events);
        let id_fits = stands_for.ids.is_none_or(|(first, last)| expected.fits(last) && ids.allows(first));
        let run = Run { records: next.records + stands_for.records, events: next.events + stands_for.events };
        if run.records <= room && id_fits && record.verify_checksum().is_ok() {
            runs.insert(at, run);
            longest = Some(at);
        }
    }
    longest
}

impl Salvaged {
    /// Whether records were kept that can't stand in one group.
    fn contradicts(&self, group: &[u8], ids: &IdRule) -> bool {
        let mut event_ids = Vec::new();
        for extent in &self.extents {
            let bytes = group.get(..extent.end).unwrap_or_default();
            for (at, record) in Records::new(bytes, extent.start).map_while(Result::ok) {
                if is_misplaced(at, &record) {
                    return true;
                }
                event_ids.extend(StandsFor::of(&record).ids());
            }
        }
        !ids.follow_each_other(&event_ids)
    }

    fn keep(&mut self, at: usize, record: &Record<'_>) {
        Extent::push(&mut self.extents, Extent { start: at, end: at + record.len() });
        let stands_for = StandsFor::of(record);
        self.records += stands_for.records;
        self.events += stands_for.events;
        self.thinned = self.thinned.plus(stands_for.thinned);
    }
}

/// Which ids may stand at which place of a group.
struct IdRule {
    first: u64,
    last: u64,
    by_priority: bool,
    /// The ids are `first..=last` without a hole and in order, so each place has just one.
    numbered: bool,
}

enum IdAt {
    Is(u64),
    Within(u64, u64),
}

impl IdAt {
    fn fits(&self, id: u64) -> bool {
        match *self {
            Self::Is(expected) => id == expected,
            Self::Within(first, last) => (first..=last).contains(&id),
        }
    }
}

impl IdRule {
    fn new(commit: &Commit, after_id: u64) -> Self {
        let span = commit.last_event_id.wrapping_sub(commit.first_event_id).wrapping_add(1);
        let by_priority = commit.flags & Commit::FLAG_BY_PRIORITY != 0;
        // Ids that were given before are nobody's place here.
        let is_new = commit.first_event_id > after_id;
        let numbered = !by_priority && is_new && span == u64::from(commit.event_count);
        Self {
            first: commit.first_event_id.max(after_id.saturating_add(1)),
            last: commit.last_event_id,
            by_priority,
            numbered,
        }
    }

    fn allows(&self, id: u64) -> bool {
        (self.first..=self.last).contains(&id)
    }

    /// Whether these ids, in this order, can stand in one group: none twice, and in order unless it is by priority.
    fn follow_each_other(&self, ids: &[u64]) -> bool {
        let mut ids = ids.to_vec();
        if self.by_priority {
            ids.sort_unstable();
        }
        ids.is_sorted_by(|id, next| id < next)
    }

    fn nth(&self, events_before: u64) -> IdAt {
        if self.numbered {
            IdAt::Is(self.first.wrapping_add(events_before))
        } else {
            IdAt::Within(self.first, self.last)
        }
    }

    fn nth_last(&self, events_behind: u64) -> IdAt {
        if self.numbered {
            IdAt::Is(self.last.wrapping_sub(events_behind))
        } else {
            IdAt::Within(self.first, self.last)
        }
    }
}
