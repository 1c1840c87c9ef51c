//! Passing over damage that is recorded: a salvage has accepted it, and nobody will ever have what stood there.

use semj_format::control;
use semj_format::{Commit, Records};
use semj_recovery::{Effort, Extent, OpenMode, Proof, SegmentReport};

use super::segments::Current;
use super::{Follower, Next, Seen};
use crate::error::Error;
use crate::examine;
use crate::medium::Map;

impl Follower {
    /// Goes on behind damage that a salvage has recorded, where [`Follower::next`] gives [`Error::Rotten`],
    /// [`Error::RottenBlock`], [`Error::Withdrawn`] or [`Error::SegmentMissing`] for it: with the first commit group behind it
    /// that is whole. What is left of a group that is not, a [`crate::Reader`] shows. Whether there is such damage here; if not,
    /// nothing has changed. Where the segment that a follower reads is lost as a whole, [`crate::Start::AtOrBehind`] goes on.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`]: there is damage that is not recorded. An I/O error.
    pub fn pass_over_damage(&mut self) -> Result<bool, Error> {
        let effort = Effort { proof: Proof::Newest, threads: self.medium.threads() };
        let found =
            examine::examine_dir(&*self.medium, &self.dir, OpenMode::Strict, effort)?.accepted(&self.dir)?;
        let segments = found.report.kept_segments();
        let number = self.segment.opening.segment_number;
        let Some(place) = segments.iter().position(|segment| segment.number == number) else {
            return Ok(false);
        };
        let (Some(segment), Some(map)) = (segments.get(place), found.map(place)) else { return Ok(false) };
        let start = usize::try_from(self.start).unwrap_or(usize::MAX);
        let is_ahead = self.at >= self.group.end && segment.damaged.iter().any(|damage| start < damage.end);
        let is_here = is_ahead
            && match self.look() {
                Ok(found) => matches!(found, Next::NotYet(_)),
                Err(Error::RottenBlock { .. }) => true,
                Err(error) => return Err(error),
            };
        let next = segments.get(place + 1);
        let is_behind = start >= segment.end && next.is_some_and(|next| next.lost_before.is_some());
        // Where events were taken out too, what stands where is known from the beginning on only.
        if self.at < self.group.end || self.segment.is_thinned || !(is_here || is_behind) {
            return Ok(false);
        }
        if is_here && let Some((at, commit)) = whole_group(map, segment, start, self.commit_sequence) {
            tracing::warn!(segment = %segment.name, offset = start, to = at, "recorded damage is passed over");
            self.start = at as u64;
            self.commit_sequence = commit.commit_sequence - 1;
            self.digest = commit.previous_digest;
            self.behind_event_id = self.behind_event_id.max(commit.first_event_id.saturating_sub(1));
            self.is_sealed = false;
            self.bytes.clear();
            self.seen = Seen::default();
            self.looked_at_names = None;
        } else {
            let Some(next) = next else { return Ok(false) };
            let next = Current::open(&*self.medium, &self.dir, next.number, &next.name)?;
            tracing::warn!(segment = %segment.name, offset = start, "recorded damage is passed over to the next segment");
            self.behind_event_id = self.behind_event_id.max(next.opening.next_event_id.saturating_sub(1));
            self.take_up(next);
        }
        Ok(true)
    }
}

/// The first group of a segment behind an offset and a commit, of which every record is there: where it begins, and its Commit.
fn whole_group(
    map: &dyn Map,
    segment: &SegmentReport,
    behind: usize,
    commit_sequence: u64,
) -> Option<(usize, Commit)> {
    let extents = segment.extents.iter().filter(|extent| extent.end > behind);
    extents.filter_map(|extent| whole_group_in(map, extent, behind, commit_sequence)).next()
}

fn whole_group_in(
    map: &dyn Map,
    extent: &Extent,
    behind: usize,
    commit_sequence: u64,
) -> Option<(usize, Commit)> {
    let first = extent.start.max(behind);
    let mut start = first;
    while start < extent.end {
        let end = map.piece_end(start).min(extent.end);
        for (offset, record) in Records::new(map.bytes(start..end), 0).map_while(Result::ok) {
            let Ok(Some(commit)) = control::parse::<Commit>(&record) else { continue };
            let begins = (start + offset).checked_sub(usize::try_from(commit.byte_count).ok()?);
            // What stands in the extent was examined: each record is right, and each Commit but the one of a group that lacks
            // some follows on the one before it.
            let is_whole = begins.is_some_and(|begins| begins >= first);
            if let Some(begins) = begins.filter(|_| is_whole && commit.commit_sequence > commit_sequence) {
                return Some((begins, commit));
            }
        }
        start = end;
    }
    None
}
