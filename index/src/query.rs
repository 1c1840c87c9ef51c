//! Questions to a journal, what they let a reader skip, and what they match.

use std::ops::{Bound, RangeBounds};

use memchr::memmem::Finder;
use semj_format::context::Lead;
use semj_format::{EventType, Record, SegmentOpen};

use crate::filter::{self, Unit};
use crate::glob::Glob;
use crate::key::{Key, Kind};
use crate::sidecar::{BlocksView, Summary, narrow_priority};
use crate::types::TypeSet;

/// What events are asked for. Each condition that is set has to hold.
///
/// ```
/// use semj_format::EventType;
/// use semj_index::{Glob, Query};
///
/// let deleted = Query::new()
///     .types([EventType::FILESYSTEM_DELETE, EventType::FILESYSTEM_RMDIR])
///     .path_glob(Glob::new("/project/src")?)
///     .limit(20)
///     .reverse();
/// # Ok::<(), semj_index::GlobError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Query {
    types: Option<Types>,
    ids: Option<(u64, u64)>,
    wall_clock_ns: Option<(i64, i64)>,
    ktime_ns: Option<(i64, i64)>,
    path: Option<Glob>,
    agent: Option<Vec<u8>>,
    transaction: Option<u64>,
    inode: Option<u64>,
    process: Option<u32>,
    priority: Option<u32>,
    visible_to: Option<u64>,
    causes: Option<Vec<u64>>,
    contained: Option<Finder<'static>>,
    has_own: bool,
    limit: Option<u64>,
    is_reverse: bool,
    /// What a segment or block without all of these has no match of.
    keys: Vec<(Criterion, Key)>,
    /// What one without any of these has no match of; not asked where it is empty.
    cause_keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Types {
    set: TypeSet,
    /// Those that share a bit with others.
    unnamed: Vec<EventType>,
}

/// What a segment or a block was skipped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Criterion {
    /// The range of ids.
    Ids,
    /// The range of times.
    Time,
    /// The types.
    Type,
    /// The priority.
    Priority,
    /// The agents that may see the event.
    Visibility,
    /// The path's pattern.
    Path,
    /// The agent.
    Agent,
    /// The transaction.
    Transaction,
    /// The inode.
    Inode,
    /// The process.
    Process,
    /// The event that it was caused by.
    Cause,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Ids,
        Self::Time,
        Self::Type,
        Self::Priority,
        Self::Visibility,
        Self::Path,
        Self::Agent,
        Self::Transaction,
        Self::Inode,
        Self::Process,
        Self::Cause,
    ];

    /// Its name in a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Time => "time",
            Self::Type => "type",
            Self::Priority => "priority",
            Self::Visibility => "visibility",
            Self::Path => "path",
            Self::Agent => "agent",
            Self::Transaction => "transaction",
            Self::Inode => "inode",
            Self::Process => "process",
            Self::Cause => "cause",
        }
    }
}

/// How many of something there are, were looked at, and were skipped by what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub total: u64,
    /// Those that were looked at.
    pub looked_at: u64,
    skipped: [u64; Criterion::ALL.len()],
}

impl Tally {
    /// Takes note of some that were skipped, or looked at.
    #[inline]
    pub fn count(&mut self, number: u64, skipped_by: Option<Criterion>) {
        match skipped_by.and_then(|criterion| self.skipped.get_mut(criterion as usize)) {
            Some(skipped) => *skipped += number,
            None => self.looked_at += number,
        }
    }

    /// How many were skipped by this.
    pub fn skipped_by(&self, criterion: Criterion) -> u64 {
        self.skipped.get(criterion as usize).copied().unwrap_or(0)
    }

    /// How many were skipped.
    pub fn skipped(&self) -> u64 {
        self.skipped.iter().sum()
    }
}

/// What answering a question took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// Segments.
    pub segments: Tally,
    /// Blocks of the segments that were looked at. What has no index is one block.
    pub blocks: Tally,
    /// Bytes of records.
    pub bytes: Tally,
    /// Records that were looked at.
    pub records: u64,
    /// Contexts that were decoded as a whole.
    pub contexts: u64,
    /// Records that matched.
    pub matches: u64,
}

fn bounds<T: Copy>(
    range: impl RangeBounds<T>,
    least: T,
    greatest: T,
    up: fn(T) -> Option<T>,
    down: fn(T) -> Option<T>,
) -> Option<(T, T)> {
    let first = match range.start_bound() {
        Bound::Included(first) => *first,
        Bound::Excluded(before) => up(*before)?,
        Bound::Unbounded => least,
    };
    let last = match range.end_bound() {
        Bound::Included(last) => *last,
        Bound::Excluded(behind) => down(*behind)?,
        Bound::Unbounded => greatest,
    };
    Some((first, last))
}

/// A range of times that nothing lies in.
const NEVER: (i64, i64) = (i64::MAX, i64::MIN);

fn times(range: impl RangeBounds<i64>) -> (i64, i64) {
    let up = |time: i64| time.checked_add(1);
    let down = |time: i64| time.checked_sub(1);
    bounds(range, i64::MIN, i64::MAX, up, down).unwrap_or(NEVER)
}

impl Query {
    /// Asks for all events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events of one of these types.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        let types: Vec<_> = types.into_iter().collect();
        let set = types.iter().copied().collect();
        self.types = Some(Types { set, unnamed: types.into_iter().filter(|t| t.name().is_none()).collect() });
        self
    }

    /// Events whose ids lie in this range.
    #[must_use]
    pub fn ids(mut self, ids: impl RangeBounds<u64>) -> Self {
        let up = |id: u64| id.checked_add(1);
        let down = |id: u64| id.checked_sub(1);
        self.ids = Some(bounds(ids, 0, u64::MAX, up, down).unwrap_or((u64::MAX, 0)));
        self
    }

    /// Events of this time: nanoseconds since 1970, by the clocks that each segment has noted when it was begun.
    #[must_use]
    pub fn time(mut self, wall_clock_ns: impl RangeBounds<i64>) -> Self {
        self.wall_clock_ns = Some(times(wall_clock_ns));
        self
    }

    /// Events of this time as they have it themselves: nanoseconds of CLOCK_MONOTONIC.
    #[must_use]
    pub fn ktime(mut self, ktime_ns: impl RangeBounds<i64>) -> Self {
        self.ktime_ns = Some(times(ktime_ns));
        self
    }

    /// Events of paths that the pattern matches.
    #[must_use]
    pub fn path_glob(mut self, path: Glob) -> Self {
        self.set_keys(Criterion::Path, path.keys());
        self.path = Some(path);
        self
    }

    /// Events of this agent.
    #[must_use]
    pub fn agent(mut self, agent_id: impl AsRef<[u8]>) -> Self {
        let agent_id = agent_id.as_ref().to_vec();
        // What is not set has no key.
        let key = (!agent_id.is_empty()).then(|| Key::text(Kind::Agent, &agent_id));
        self.set_keys(Criterion::Agent, key);
        self.agent = Some(agent_id);
        self
    }

    /// Events of this transaction.
    #[must_use]
    pub fn transaction(mut self, transaction_id: u64) -> Self {
        let key = (transaction_id != 0).then(|| Key::number(Kind::Transaction, transaction_id));
        self.set_keys(Criterion::Transaction, key);
        self.transaction = Some(transaction_id);
        self
    }

    /// Events of this file.
    #[must_use]
    pub fn inode(mut self, inode_number: u64) -> Self {
        let key = (inode_number != 0).then(|| Key::number(Kind::Inode, inode_number));
        self.set_keys(Criterion::Inode, key);
        self.inode = Some(inode_number);
        self
    }

    /// Events of this process.
    #[must_use]
    pub fn pid(mut self, process_id: u32) -> Self {
        self.set_keys(Criterion::Process, [Key::number(Kind::Process, process_id.into())]);
        self.process = Some(process_id);
        self
    }

    /// Events that are as urgent as this, or more: their priorities' numbers are not greater.
    #[must_use]
    pub fn priority(mut self, priority: u32) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Events that one of these agents may see: the masks have a bit in common.
    #[must_use]
    pub fn visible_to(mut self, agents: u64) -> Self {
        self.visible_to = Some(agents);
        self
    }

    /// Events whose parent is one of these, or that have a causality link in which one of these is the cause.
    #[must_use]
    pub fn caused_by(mut self, event_ids: impl IntoIterator<Item = u64>) -> Self {
        let mut causes: Vec<_> = event_ids.into_iter().collect();
        causes.sort_unstable();
        causes.dedup();
        // Without a parent there is no key.
        self.cause_keys = match causes.first() {
            Some(0) | None => Vec::new(),
            Some(_) => causes.iter().map(|id| Key::number(Kind::Cause, *id)).collect(),
        };
        self.causes = Some(causes);
        self
    }

    /// Events whose payload or metadata contains these bytes, as the emitter wrote them. No index knows that: what nothing else
    /// rules out is read.
    #[must_use]
    pub fn containing(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.contained = Some(Finder::new(bytes.as_ref()).into_owned());
        self
    }

    /// The journal's own records too: those that match what is asked of types, times, priorities and processes, if
    /// nothing is asked that only an event can have.
    #[must_use]
    pub fn control(mut self) -> Self {
        self.has_own = true;
        self
    }

    /// No more than so many.
    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    /// The last one first.
    #[must_use]
    pub fn reverse(mut self) -> Self {
        self.is_reverse = true;
        self
    }

    fn set_keys(&mut self, criterion: Criterion, keys: impl IntoIterator<Item = Key>) {
        self.keys.retain(|(of, _)| *of != criterion);
        self.keys.extend(keys.into_iter().map(|key| (criterion, key)));
    }

    /// How many are asked for at most.
    pub fn limited_to(&self) -> u64 {
        self.limit.unwrap_or(u64::MAX)
    }

    /// Whether the last one comes first.
    pub fn is_reverse(&self) -> bool {
        self.is_reverse
    }

    /// The ids that are asked for, the journal's own records aside.
    pub fn id_range(&self) -> (u64, u64) {
        self.ids.unwrap_or((0, u64::MAX))
    }

    /// Whether anything is asked for that an index can help with.
    pub fn is_selective(&self) -> bool {
        let any = self.types.is_some() || self.wall_clock_ns.is_some() || self.ktime_ns.is_some();
        any || self.ids.is_some()
            || self.priority.is_some()
            || self.visible_to.is_some()
            || !self.keys.is_empty()
            || !self.cause_keys.is_empty()
    }

    /// Whether records of the journal's own can match, whatever the ids are.
    pub fn may_match_own(&self) -> bool {
        let only_events = self.ids.is_some()
            || self.path.is_some()
            || self.agent.is_some()
            || self.transaction.is_some()
            || self.inode.is_some()
            || self.visible_to.is_some()
            || self.causes.is_some()
            || self.contained.is_some();
        self.has_own && !only_events
    }

    /// The question to one segment, whose clocks say what time means there.
    pub fn plan(&self, opening: &SegmentOpen) -> Plan<'_> {
        let mut ktime_ns = self.ktime_ns;
        if let Some((first, last)) = self.wall_clock_ns {
            let (first, last) =
                if first > last { NEVER } else { (opening.ktime_of(first), opening.ktime_of(last)) };
            let (least, greatest) = ktime_ns.unwrap_or((i64::MIN, i64::MAX));
            ktime_ns = Some((first.max(least), last.min(greatest)));
        }
        let own = if self.may_match_own() {
            self.types.as_ref().map_or(TypeSet::OWN, |types| types.set.intersection(TypeSet::OWN))
        } else {
            TypeSet::EMPTY
        };
        Plan { query: self, ktime_ns, own }
    }
}

/// A question to one segment.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'q> {
    query: &'q Query,
    ktime_ns: Option<(i64, i64)>,
    /// Types of the journal's own records that can match.
    own: TypeSet,
}

#[inline]
fn is_apart<T: PartialOrd>(asked: Option<(T, T)>, there: (T, T)) -> bool {
    asked.is_some_and(|(first, last)| first > there.1 || last < there.0 || first > last)
}

impl Plan<'_> {
    /// What shows that a segment with this summary and this filter has no match.
    pub fn skips_segment(&self, summary: &Summary, filter: &[Unit]) -> Option<Criterion> {
        self.skips(summary, |key| filter::may_contain(filter, key))
    }

    /// What shows that a block has no match.
    #[inline]
    pub fn skips_block(&self, blocks: &BlocksView<'_>, place: usize) -> Option<Criterion> {
        let summary = blocks.get(place)?.summary();
        self.skips(&summary, |key| blocks.may_contain(place, key))
    }

    #[inline]
    fn skips(&self, summary: &Summary, may_contain: impl Fn(Key) -> bool) -> Option<Criterion> {
        // A summary tells of events, but for the types.
        if self.own.intersects(summary.types) {
            return None;
        }
        let query = self.query;
        if is_apart(query.ids, summary.event_ids) {
            return Some(Criterion::Ids);
        }
        if is_apart(self.ktime_ns, summary.ktimes_ns) {
            return Some(Criterion::Time);
        }
        if query.types.as_ref().is_some_and(|types| !types.set.intersects(summary.types)) {
            return Some(Criterion::Type);
        }
        if query.priority.is_some_and(|priority| narrow_priority(priority) < summary.lowest_priority) {
            return Some(Criterion::Priority);
        }
        if query.visible_to.is_some_and(|agents| agents & summary.agent_visibility == 0) {
            return Some(Criterion::Visibility);
        }
        if let Some((criterion, _)) = query.keys.iter().find(|(_, key)| !may_contain(*key)) {
            return Some(*criterion);
        }
        let has_no_cause =
            !query.cause_keys.is_empty() && !query.cause_keys.iter().any(|key| may_contain(*key));
        has_no_cause.then_some(Criterion::Cause)
    }

    /// Whether a record is one that is asked for. Its context is decoded, which `contexts` counts, only if
    /// everything else is right and what it begins with leaves the answer open.
    #[inline]
    pub fn matches(&self, record: &Record<'_>, contexts: &mut u64) -> bool {
        let query = self.query;
        let event_type = record.event_type();
        if let Some(types) = &query.types
            && (!types.set.contains(event_type)
                || event_type.name().is_none() && !types.unnamed.contains(&event_type))
        {
            return false;
        }
        if record.is_control() && !query.may_match_own() {
            return false;
        }
        let id = record.event_id();
        if query.ids.is_some_and(|(first, last)| id < first || id > last) {
            return false;
        }
        let ktime = record.ktime_ns();
        if self.ktime_ns.is_some_and(|(first, last)| ktime < first || ktime > last) {
            return false;
        }
        if query.process.is_some_and(|process| record.process_id() != process)
            || query.priority.is_some_and(|priority| record.event_priority() > priority)
            || query.visible_to.is_some_and(|agents| record.agent_visibility_mask() & agents == 0)
        {
            return false;
        }
        if let Some(causes) = &query.causes {
            let is_cause = |id: u64| causes.binary_search(&id).is_ok();
            if !is_cause(record.parent_event_id())
                && !record.links().any(|link| is_cause(link.cause_event_id))
            {
                return false;
            }
        }
        // What takes longest comes last.
        query.matches_context(record, contexts) && query.matches_bytes(record)
    }
}

impl Query {
    #[inline]
    fn matches_context(&self, record: &Record<'_>, contexts: &mut u64) -> bool {
        let is_asked =
            self.path.is_some() || self.inode.is_some() || self.transaction.is_some() || self.agent.is_some();
        if !is_asked {
            return true;
        }
        // Most are told apart by what a context begins with.
        let Ok(lead) = Lead::parse(record.context_bytes()) else { return false };
        if !self.matches_lead(&lead) {
            return false;
        }
        if lead.is_readable && self.agent.is_none() {
            return true;
        }
        *contexts += 1;
        // One that can't be read has nothing that could be asked for.
        matches!(record.context(), Ok(Some(context))
            if self.agent.as_ref().is_none_or(|agent| context.agent_id == agent.as_slice()))
    }

    #[inline]
    fn matches_bytes(&self, record: &Record<'_>) -> bool {
        self.contained.as_ref().is_none_or(|bytes| {
            [record.payload(), record.metadata()].into_iter().any(|part| bytes.find(part).is_some())
        })
    }

    #[inline]
    fn matches_lead(&self, lead: &Lead<'_>) -> bool {
        self.inode.is_none_or(|inode| lead.inode_number == inode)
            && self.transaction.is_none_or(|transaction| lead.transaction_id == transaction)
            && self.path.as_ref().is_none_or(|path| path.matches(lead.path))
    }
}
