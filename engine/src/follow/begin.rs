//! Where a follower begins: at the beginning, at the end, or behind a position.

use std::path::Path;
use std::sync::Arc;

use semj_format::JournalHeader;
use semj_format::control::PreviousEnd;
use semj_recovery::{Effort, OpenMode, Proof};

use super::segments::{Current, LISTING_RETRIES, Listing, Names, withdrawn};
use super::{Follower, Next, Position, Start, View};
use crate::error::Error;
use crate::examine;
use crate::medium::Medium;

/// Begins followers of a journal, as its directory was listed.
struct Beginnings<'a> {
    medium: &'a Arc<dyn Medium>,
    dir: &'a Path,
    view: View,
    listing: Listing<'a>,
}

impl Follower {
    /// [`Follower::open_on`]. Of a position that was kept it may be known when it was kept (CLOCK_REALTIME).
    pub(crate) fn begin(
        medium: &Arc<dyn Medium>,
        dir: &Path,
        start: Start,
        kept_at_ns: Option<i64>,
        view: View,
    ) -> Result<Self, Error> {
        let begin = |how: &dyn Fn(&Beginnings<'_>) -> Result<Self, Error>| {
            Names::with(&**medium, dir, |names| {
                let listing = Listing::new(&**medium, dir, names)?;
                how(&Beginnings { medium, dir, view, listing })
            })
        };
        match start {
            Start::Beginning => begin(&|beginnings| beginnings.of(beginnings.listing.first()?, None)),
            Start::At(position) => begin(&|beginnings| beginnings.at(&position)),
            Start::AtOrBehind(position) => {
                begin(&|beginnings| beginnings.at_or_behind(&position, kept_at_ns))
            }
            Start::End => {
                let mut retries = LISTING_RETRIES;
                loop {
                    let end = end_of(&**medium, dir)?;
                    match begin(&|beginnings| beginnings.at(&end)) {
                        // It has moved on so far that what was the end is gone.
                        Err(Error::Retired { .. }) if retries > 0 => retries -= 1,
                        other => return other,
                    }
                }
            }
        }
    }
}

impl Beginnings<'_> {
    fn follower(&self, segment: Current, position: &Position) -> Result<Follower, Error> {
        // What comes from here on is noticed, and what came before is looked at.
        let changes = self.medium.watch(self.dir).map_err(Error::io("watch", self.dir))?;
        Ok(Follower::new(Arc::clone(self.medium), self.dir, self.view, changes, segment, position))
    }

    /// Follows from the beginning of a segment on, and what was given out before, if anything was.
    fn of(&self, name: &(u64, String), behind: Option<&Position>) -> Result<Follower, Error> {
        let segment = self.listing.open(name)?;
        let mut position = segment.beginning();
        if let Some(behind) = behind {
            if behind.journal_uuid != position.journal_uuid {
                return Err(withdrawn(&segment.path, behind));
            }
            position.last_event_id = behind.last_event_id;
            // Ids that were taken back with their events may have been given again.
            let below = segment.opening.next_event_id.saturating_sub(1);
            position.behind_event_id = behind.behind_event_id.min(below);
        }
        self.follower(segment, &position)
    }

    /// Follows from a position on that the journal has.
    fn at(&self, position: &Position) -> Result<Follower, Error> {
        let Some(name) = self.listing.segment(position.segment_number) else {
            // Where a segment was given up of which everything was given out, it goes on with the next one.
            let (segment, behind) = self.listing.go_on_from(position)?;
            return self.follower(segment, &behind);
        };
        let segment = self.listing.open(name)?;
        if position.journal_uuid != segment.opening.journal_uuid {
            return Err(withdrawn(&segment.path, position));
        }
        let mut follower = self.follower(segment, position)?;
        follower.resume(position)?;
        Ok(follower)
    }

    fn at_or_behind(&self, position: &Position, kept_at_ns: Option<i64>) -> Result<Follower, Error> {
        match self.at(position) {
            // What it stands behind proves a position, or what follows on it.
            Ok(mut follower) => {
                let is_there = follower.commit.is_some()
                    || follower.segment.is_thinned
                    || follower.segment.proves(&follower.position())?
                    || !matches!(follower.look(), Ok(Next::NotYet(_)));
                if is_there { Ok(follower) } else { self.behind(position, kept_at_ns) }
            }
            Err(
                Error::Retired { .. }
                | Error::SegmentMissing { .. }
                | Error::NoSegment { .. }
                | Error::Withdrawn { .. },
            ) => self.behind(position, kept_at_ns),
            other => other,
        }
    }

    /// Follows behind a position that the journal does not have. What was not given out is not left out; what was may come
    /// again.
    fn behind(&self, position: &Position, kept_at_ns: Option<i64>) -> Result<Follower, Error> {
        let number = position.segment_number;
        let Some(name) = self.listing.segment(number) else {
            // Numbers of segments are not used again. If the journal did not come so far, it is an older one that was put in
            // the place of the one that the position is of, and where the two part is not known.
            let next = self.listing.behind(number).map_or_else(|| self.listing.first(), Ok)?;
            return self.of(next, Some(position));
        };
        let mut follower = self.of(name, Some(position))?;
        let is_here = match follower.pass_given(position) {
            Passed::All => true,
            Passed::NotAll => false,
            Passed::AsFarAsItGoes => self.may_be_of(&follower, position, kept_at_ns)?,
        };
        if is_here {
            return Ok(follower);
        }
        tracing::warn!(
            segment = %follower.segment.path.display(), offset = position.offset,
            "the journal is another one than a position was kept of: it is given from the beginning on"
        );
        self.of(self.listing.first()?, Some(position))
    }

    /// Whether a segment that ends before a position, for now, may be the one that the position was in: a recovery took back
    /// what came behind. It is not where it was begun after the position was kept. If that is not known, the one behind
    /// it must say that it was cut.
    fn may_be_of(
        &self,
        follower: &Follower,
        position: &Position,
        kept_at_ns: Option<i64>,
    ) -> Result<bool, Error> {
        let opening = &follower.segment.opening;
        if let Some(kept_at_ns) = kept_at_ns {
            return Ok(opening.wall_clock_ns <= kept_at_ns);
        }
        let Some(next) = self.listing.behind(opening.segment_number) else { return Ok(false) };
        let next = match self.listing.open(next) {
            Err(Error::NoOpening { .. }) => return Ok(false),
            other => other?.opening,
        };
        Ok(next.previous_segment == opening.segment_number
            && next.previous_end == PreviousEnd::Cut.code()
            && next.previous_end_offset < position.offset)
    }
}

/// How much of a segment before a position was passed over.
enum Passed {
    /// All of it: what the position stands behind is there.
    All,
    /// Something else stands there.
    NotAll,
    /// What there is, which ends before it.
    AsFarAsItGoes,
}

impl Follower {
    /// Passes over the groups of a segment, from its beginning on, that were given out before a position.
    fn pass_given(&mut self, position: &Position) -> Passed {
        loop {
            let has_come = self.commit_sequence >= position.commit_sequence;
            if has_come && self.digest == position.digest {
                return Passed::All;
            }
            match self.look() {
                // The position may be behind the seal.
                Ok(Next::Sealed) if has_come && self.digest == position.digest => return Passed::All,
                Ok(Next::Group(commit, end)) if !has_come => {
                    self.enter(commit, end);
                    self.leave();
                }
                Ok(Next::Group(..) | Next::Sealed) => return Passed::NotAll,
                Ok(Next::NotYet(_)) if self.original(self.start) >= position.offset => return Passed::NotAll,
                // An error comes again where it belongs, with the next event.
                Ok(Next::NotYet(_)) | Err(_) => return Passed::AsFarAsItGoes,
            }
        }
    }

    /// Takes up a position in the middle of a group, and holds any against what stands in the file.
    fn resume(&mut self, position: &Position) -> Result<(), Error> {
        let withdrawn = |follower: &Self| Err(withdrawn(&follower.segment.path, position));
        let begins = JournalHeader::SIZE as u64;
        if position.offset == begins && position.digest != self.segment.opening.previous_digest {
            return withdrawn(self);
        }
        if self.segment.is_thinned && position.offset != begins {
            // What stands where is known from the beginning on only.
            self.start = begins;
            self.commit_sequence = self.segment.opening.next_commit_sequence.saturating_sub(1);
            self.digest = self.segment.opening.previous_digest;
            while self.original(self.start) < position.offset {
                match self.look()? {
                    Next::Group(commit, end) => {
                        self.enter(commit, end);
                        self.leave();
                    }
                    Next::Sealed => break,
                    Next::NotYet(_) => return withdrawn(self),
                }
            }
            if self.original(self.start) != position.offset || self.digest != position.digest {
                return withdrawn(self);
            }
        }
        (self.last_event_id, self.behind_event_id) = (position.last_event_id, position.behind_event_id);
        if position.records_given == 0 {
            return Ok(());
        }
        match self.look()? {
            Next::Group(commit, end) if commit.record_count >= position.records_given => {
                self.enter(commit, end);
                // Where events were taken out of the group, it goes on behind the run that the position is in.
                while self.records_given < position.records_given && self.at < self.group.end {
                    self.pass()?;
                }
                Ok(())
            }
            _ => withdrawn(self),
        }
    }
}

/// Whether there is anything to follow.
pub(crate) fn expect_journal(medium: &dyn Medium, dir: &Path) -> Result<(), Error> {
    match Names::of(medium, dir)?.segments.is_empty() {
        true => Err(Error::NoJournal { dir: dir.to_owned() }),
        false => Ok(()),
    }
}

/// Where a journal ends now.
fn end_of(medium: &dyn Medium, dir: &Path) -> Result<Position, Error> {
    let effort = Effort { proof: Proof::Newest, threads: medium.threads() };
    let found = examine::examine_dir(medium, dir, OpenMode::Strict, effort)?.accepted(dir)?.of_some(dir)?;
    let tip = found.report.tip.ok_or_else(|| Error::NoJournal { dir: dir.to_owned() })?;
    Ok(Position {
        journal_uuid: tip.journal_uuid,
        segment_number: tip.segment_number,
        offset: tip.end as u64,
        commit_sequence: tip.commit_sequence,
        digest: tip.digest,
        records_given: 0,
        last_event_id: tip.last_event_id,
        behind_event_id: tip.last_event_id,
    })
}
