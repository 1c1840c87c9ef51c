//! Which files are this journal's segments, for a salvage: the chain of SegmentOpens, from the newest back.

use semj_format::SegmentOpen;

use crate::report::SegmentInput;

/// For each file whether it has a place in the journal.
///
/// A file has none if its SegmentOpen can't be read, or has not the number of the file's name, or is that of another
/// journal, or if the segments that are there behind it leave no room for it: each says which one stands before it.
pub(crate) fn places(inputs: &[SegmentInput<'_>], openings: &[Option<SegmentOpen>]) -> Vec<bool> {
    let uuid = journal_uuid(openings);
    let mut placed = vec![false; openings.len()];
    let mut next: Option<&SegmentOpen> = None;
    for ((input, opening), place) in inputs.iter().zip(openings).zip(&mut placed).rev() {
        let Some(opening) = opening else { continue };
        *place = Some(opening.journal_uuid) == uuid
            && input.number.is_none_or(|number| number == opening.segment_number)
            && next.is_none_or(|next| {
                opening.segment_number <= next.previous_segment && opening.epoch <= next.epoch
            });
        if *place {
            next = Some(opening);
        }
    }
    placed
}

/// The UUID that most segments have; of two, that of the newer segment.
fn journal_uuid(openings: &[Option<SegmentOpen>]) -> Option<[u8; 16]> {
    let uuids = || openings.iter().flatten().map(|opening| opening.journal_uuid);
    uuids().max_by_key(|uuid| uuids().filter(|other| other == uuid).count())
}

#[cfg(test)]
mod tests {
    use semj_format::Digest;
    use semj_format::control::PreviousEnd;

    use super::*;

    fn opening(segment_number: u64, previous_segment: u64, epoch: u64, uuid: u8) -> SegmentOpen {
        SegmentOpen {
            journal_uuid: [uuid; 16],
            segment_number,
            epoch,
            previous_segment,
            previous_end: PreviousEnd::Sealed.code(),
            reserved: 0,
            previous_end_offset: 100,
            previous_digest: Digest::ZERO,
            next_event_id: 1,
            next_commit_sequence: 1,
            wall_clock_ns: 0,
            monotonic_ns: 0,
            boot_id: [0; 16],
            writer: [0; 32],
        }
    }

    fn placed(files: &[(u64, Option<SegmentOpen>)]) -> Vec<bool> {
        let inputs: Vec<_> =
            files.iter().map(|(number, _)| SegmentInput::new("", Some(*number), &[])).collect();
        let openings: Vec<_> = files.iter().map(|(_, opening)| *opening).collect();
        places(&inputs, &openings)
    }

    #[test]
    fn a_segment_has_a_place_where_the_ones_behind_it_leave_it_room() {
        let (one, two, three) = (opening(1, 0, 1, 7), opening(2, 1, 1, 7), opening(3, 2, 1, 7));
        assert_eq!(placed(&[(1, Some(one)), (2, Some(two)), (3, Some(three))]), [true; 3]);
        // One that is not there, or can't be read, takes no other's place.
        assert_eq!(placed(&[(1, Some(one)), (3, Some(three))]), [true; 2]);
        assert_eq!(placed(&[(1, Some(one)), (2, None), (3, Some(three))]), [true, false, true]);
        // Of another name, of another journal, passed over by the one behind it, of a later epoch than that one.
        assert_eq!(placed(&[(1, Some(one)), (2, Some(three)), (3, Some(three))]), [true, false, true]);
        let foreign = opening(2, 1, 1, 8);
        assert_eq!(placed(&[(1, Some(one)), (2, Some(foreign)), (3, Some(three))]), [true, false, true]);
        assert_eq!(
            placed(&[(1, Some(one)), (2, Some(two)), (3, Some(opening(3, 1, 2, 7)))]),
            [true, false, true]
        );
        assert_eq!(
            placed(&[(1, Some(one)), (2, Some(opening(2, 1, 2, 7))), (3, Some(three))]),
            [true, false, true]
        );
        assert_eq!(placed(&[(1, Some(one)), (2, Some(foreign))]), [false, true]);
        assert_eq!(placed(&[]), []);
    }
}
