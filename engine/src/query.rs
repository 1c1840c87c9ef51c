//! Answering a question: segments, blocks and records are skipped as far as the index goes, and what is left is looked at.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use semj_format::Record;
use semj_index::{Criterion, Explain, Query};
use semj_recovery::Extent;

use crate::error::Error;
use crate::reader::{Located, Reader};
use crate::segment::{Segment, Walk};

/// Blocks that are asked about at one time: the first answers come early, and locks are held for some microseconds.
const BLOCKS_AT_ONCE: usize = 128;

/// What matches a [`Query`], in the order of the journal or, if it is asked so, the last one first. Behind an error there
/// is no more.
#[derive(Clone, Debug)]
pub struct Matches<'r, 'q> {
    reader: &'r Reader,
    query: &'q Query,
    explain: Explain,
    left: u64,
    /// Segments that were not come to.
    first: usize,
    behind: usize,
    current: Option<Current<'r>>,
}

/// The segment that is looked at.
#[derive(Clone, Debug)]
struct Current<'r> {
    segment: &'r Segment,
    end: usize,
    /// Blocks that were not asked about.
    first_block: usize,
    behind_block: usize,
    /// Runs of records to be looked at, in the order of the answers: what has no block, or could not be skipped.
    runs: VecDeque<Run>,
    /// Where blocks end, and what is behind begins: added to the runs behind the last block.
    tail: Vec<Extent>,
    walk: Option<Walk<'r>>,
    /// Backwards: matches of the last run, the next one last.
    offsets: Vec<usize>,
    /// What was given last, for a start anew without the sidecar.
    given: Option<Extent>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    extent: Extent,
    /// By the index, and not by a walk that came there.
    is_by_index: bool,
}

/// The segments that are not skipped by ids alone: they follow one another by them.
pub(crate) fn segments_with_ids(segments: &[Arc<Segment>], query: &Query) -> Range<usize> {
    if query.may_match_own() {
        return 0..segments.len();
    }
    let (first, last) = query.id_range();
    let end = segments.partition_point(|segment| segment.opening.next_event_id <= last);
    let behind = segments.partition_point(|segment| segment.opening.next_event_id <= first);
    behind.saturating_sub(1).min(end)..end
}

impl<'r, 'q> Matches<'r, 'q> {
    pub(crate) fn new(reader: &'r Reader, query: &'q Query) -> Self {
        let segments = reader.segments();
        let mut matches = Self {
            reader,
            query,
            explain: Explain::default(),
            left: query.limited_to(),
            first: 0,
            behind: segments.len(),
            current: None,
        };
        matches.explain.segments.total = segments.len() as u64;
        for (place, segment) in segments.iter().enumerate() {
            matches.explain.bytes.total += reader.end_of(place).saturating_sub(segment.start()) as u64;
        }
        let Range { start, end } = segments_with_ids(segments, query);
        for place in (end..matches.behind).chain(0..start) {
            matches.skip_segment(place, Criterion::Ids);
        }
        (matches.first, matches.behind) = (start, end);
        matches
    }

    /// What answering has taken so far.
    pub const fn explain(&self) -> &Explain {
        &self.explain
    }

    /// The same with the places where the records stand.
    pub fn located(mut self) -> impl Iterator<Item = Result<Located<'r>, Error>> {
        std::iter::from_fn(move || self.next_located())
    }

    /// [`Iterator::next`], with the place where the record stands.
    pub fn next_located(&mut self) -> Option<Result<Located<'r>, Error>> {
        if self.left == 0 {
            return None;
        }
        let next = self.advance();
        match next {
            Ok(Some(_)) => {
                self.left -= 1;
                self.explain.matches += 1;
            }
            Ok(None) | Err(_) => self.left = 0,
        }
        next.transpose()
    }

    fn skip_segment(&mut self, place: usize, by: Criterion) {
        if let Some(segment) = self.reader.segments().get(place) {
            self.explain.segments.count(1, Some(by));
            let bytes = self.reader.end_of(place).saturating_sub(segment.start());
            self.explain.bytes.count(bytes as u64, Some(by));
        }
    }

    fn advance(&mut self) -> Result<Option<Located<'r>>, Error> {
        loop {
            let Some(current) = &mut self.current else {
                if !self.enter()? {
                    return Ok(None);
                }
                continue;
            };
            let plan = self.query.plan(&current.segment.opening);
            if let Some(offset) = current.offsets.pop() {
                let record = current.segment.record_at(offset).ok_or_else(|| current.segment.changed())?;
                return Ok(Some(current.give(offset, record)));
            }
            if let Some(walk) = &mut current.walk {
                let mut found = None;
                let mut failed = None;
                for record in walk.by_ref() {
                    let (offset, record) = match record {
                        Ok(record) => record,
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    };
                    self.explain.records += 1;
                    if plan.matches(&record, &mut self.explain.contexts) {
                        if !self.query.is_reverse() {
                            found = Some((offset, record));
                            break;
                        }
                        current.offsets.push(offset);
                    }
                }
                if let Some(error) = failed {
                    let index = current.segment.index();
                    if index.is_read() && index.distrust(current.segment, current.end).is_ok() {
                        // A sidecar had led into the middle of a record.
                        current.start_anew(self.query.is_reverse());
                        continue;
                    }
                    current.walk = None;
                    return Err(error);
                }
                match found {
                    Some((offset, record)) => return Ok(Some(current.give(offset, record))),
                    None => current.walk = None,
                }
                continue;
            }
            if let Some(run) = current.runs.pop_front() {
                if run.is_by_index
                    && current.segment.index().is_read()
                    && !current.segment.is_record(run.extent.start)
                {
                    // A sidecar that lies, or a segment that is damaged or has changed: a walk of its own tells which.
                    current.segment.index().distrust(current.segment, run.extent.start)?;
                    current.start_anew(self.query.is_reverse());
                    continue;
                }
                self.explain.bytes.count(run.extent.size() as u64, None);
                let walk = current.segment.walk(run.extent.start, run.extent.end);
                current.walk = Some(match current.runs.front() {
                    Some(next) => walk.followed_by(next.extent),
                    None => walk,
                });
                continue;
            }
            if !current.next_runs(self.query, &mut self.explain)? {
                self.current = None;
            }
        }
    }

    /// Goes to the next segment that may have a match. False if there is none.
    fn enter(&mut self) -> Result<bool, Error> {
        while self.first < self.behind {
            let place = if self.query.is_reverse() {
                self.behind -= 1;
                self.behind
            } else {
                self.first += 1;
                self.first - 1
            };
            let Some(segment) = self.reader.segments().get(place) else { break };
            let end = self.reader.end_of(place);
            let few = match self.query.may_match_own() {
                true => None,
                false => segment.few_with(self.query.id_range(), end),
            };
            if let Some(extent) = few {
                self.explain.segments.count(1, None);
                self.current = Some(Current::of_few(segment, end, extent, &mut self.explain));
                return Ok(true);
            }
            let plan = self.query.plan(&segment.opening);
            let skipped = segment
                .index()
                .with_head(segment, |header, filter| plan.skips_segment(&header.summary(), filter))
                .flatten();
            match skipped {
                Some(by) => self.skip_segment(place, by),
                None => {
                    self.explain.segments.count(1, None);
                    self.current = Some(Current::new(segment, end, self.query, &mut self.explain)?);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl<'r> Iterator for Matches<'r, '_> {
    type Item = Result<Record<'r>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_located()?.map(|located| located.record))
    }
}

impl<'r> Current<'r> {
    fn new(segment: &'r Segment, end: usize, query: &Query, explain: &mut Explain) -> Result<Self, Error> {
        let mut current = Self {
            segment,
            end,
            first_block: 0,
            behind_block: 0,
            runs: VecDeque::new(),
            tail: Vec::new(),
            walk: None,
            offsets: Vec::new(),
            given: None,
        };
        let index = segment.index();
        let mut tail_start = segment.start();
        if query.is_selective() || query.is_reverse() {
            if query.is_selective() {
                index.catch_up(segment, end)?;
            }
            (current.behind_block, tail_start) = index.with_blocks(segment, |blocks| {
                // A reader that was made earlier ends earlier.
                let count = blocks.at(end);
                let count =
                    count + usize::from(blocks.get(count).is_some_and(|block| (block.offset as usize) < end));
                let known = count.checked_sub(1).and_then(|last| blocks.get(last));
                (count, known.map_or(tail_start, |block| block.end()))
            })?;
        }
        if tail_start < end {
            // Backwards a run is read before its first match is known: it has to be a short one.
            let mut starts = vec![tail_start];
            if query.is_reverse() {
                starts.extend(index.places_behind(tail_start).into_iter().take_while(|start| *start < end));
            }
            let ends = starts.iter().copied().skip(1).chain([end]);
            current.tail =
                starts.iter().copied().zip(ends).map(|(start, end)| Extent { start, end }).collect();
        }
        explain.blocks.total += (current.behind_block + usize::from(tail_start < end)) as u64;
        if query.is_reverse() {
            current.add_tail(true, explain);
        }
        Ok(current)
    }

    /// Looks at one place of a segment and nowhere else.
    fn of_few(segment: &'r Segment, end: usize, extent: Extent, explain: &mut Explain) -> Self {
        let elsewhere = end.saturating_sub(segment.start()).saturating_sub(extent.size());
        explain.bytes.count(elsewhere as u64, Some(Criterion::Ids));
        explain.blocks.total += 1;
        explain.blocks.count(1, None);
        Self {
            segment,
            end,
            first_block: 0,
            behind_block: 0,
            runs: VecDeque::from([Run { extent, is_by_index: false }]),
            tail: Vec::new(),
            walk: None,
            offsets: Vec::new(),
            given: None,
        }
    }

    fn add_tail(&mut self, is_reverse: bool, explain: &mut Explain) {
        if self.tail.is_empty() {
            return;
        }
        explain.blocks.count(1, None);
        let runs =
            std::mem::take(&mut self.tail).into_iter().map(|extent| Run { extent, is_by_index: false });
        if is_reverse { self.runs.extend(runs.rev()) } else { self.runs.extend(runs) }
    }

    /// Finds more runs to look at. False if there are no more.
    fn next_runs(&mut self, query: &Query, explain: &mut Explain) -> Result<bool, Error> {
        let plan = query.plan(&self.segment.opening);
        while self.first_block < self.behind_block && self.runs.is_empty() {
            let count = (self.behind_block - self.first_block).min(BLOCKS_AT_ONCE);
            let places = if query.is_reverse() {
                self.behind_block -= count;
                self.behind_block..self.behind_block + count
            } else {
                self.first_block += count;
                self.first_block - count..self.first_block
            };
            let (runs, end) = (&mut self.runs, self.end);
            self.segment.index().with_blocks(self.segment, |blocks| {
                let ask = |place| {
                    let Some(block) = blocks.get(place) else { return };
                    let extent = Extent { start: block.offset as usize, end: block.end().min(end) };
                    let skipped = plan.skips_block(&blocks, place);
                    explain.blocks.count(1, skipped);
                    match skipped {
                        Some(_) => explain.bytes.count(extent.size() as u64, skipped),
                        None => runs.push_back(Run { extent, is_by_index: true }),
                    }
                };
                if query.is_reverse() { places.rev().for_each(ask) } else { places.for_each(ask) }
            })?;
        }
        if self.runs.is_empty() {
            self.add_tail(query.is_reverse(), explain);
        }
        Ok(!self.runs.is_empty())
    }

    fn give(&mut self, offset: usize, record: Record<'r>) -> Located<'r> {
        self.given = Some(Extent { start: offset, end: offset + record.len() });
        Located { opening: &self.segment.opening, offset: offset as u64, record }
    }

    /// Looks at everything that is left of the segment.
    #[cold]
    fn start_anew(&mut self, is_reverse: bool) {
        let start = self.segment.start();
        let extent = match self.given {
            Some(given) if is_reverse => Extent { start, end: given.start },
            Some(given) => Extent { start: given.end, end: self.end },
            None => Extent { start, end: self.end },
        };
        (self.first_block, self.behind_block) = (0, 0);
        self.tail.clear();
        self.walk = None;
        self.offsets.clear();
        self.runs = VecDeque::from([Run { extent, is_by_index: false }]);
    }
}
