//! The names in a journal's directory.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::medium::Medium;

/// The writer's lock.
pub const LOCK: &str = "LOCK";
/// How far the journal was durable.
pub const WATERMARK: &str = "WATERMARK";
/// A watermark file that is being made.
pub(crate) const WATERMARK_UNFINISHED: &str = "WATERMARK.tmp";
/// What another process asks of the writer.
pub(crate) const REQUEST: &str = "REQUEST";
/// Says that what is in the directory is for reading: retired segments belong to it, or it is a part of a journal, or was not
/// brought there to its end.
pub const UNRETIRED: &str = "UNRETIRED";
/// Where recovery puts what it takes out.
pub(crate) const QUARANTINE: &str = "quarantine";
/// Where consumers keep how far they have come.
const CONSUMERS: &str = "consumers";
/// Ends the name of a segment's file.
const SUFFIX: &str = ".semj";
/// Ends the name of a segment's sidecar.
const SIDECAR: &str = ".idx";
/// Ends the name of a sidecar that is being made.
const SIDECAR_UNFINISHED: &str = ".idx.tmp";
/// Ends the name of a segment that is being made.
const UNFINISHED: &str = ".semj.tmp";
/// Ends the name of a copy of a segment that is being made.
const COPYING: &str = ".copy.semj.tmp";
/// Ends the name of a compressed segment that is being made.
const COMPRESSING: &str = ".compact.semj.tmp";
/// Whoever compacts.
pub(crate) const COMPACTION_LOCK: &str = "COMPACT";

/// The name under which a segment is compressed.
pub(crate) fn compressing(segment_name: &str) -> String {
    format!("{}{COMPRESSING}", segment_name.strip_suffix(SUFFIX).unwrap_or(segment_name))
}

/// Whether a file is a compressed segment that was never finished.
pub(crate) fn is_compressing(name: &str) -> bool {
    name.strip_suffix(COMPRESSING).is_some_and(is_stem)
}

/// The name under which a segment is copied.
pub(crate) fn copying(segment_name: &str) -> String {
    format!("{}{COPYING}", segment_name.strip_suffix(SUFFIX).unwrap_or(segment_name))
}

/// The name of a segment's file: its number and the lowest id it may hold, so that names sort as ids do.
pub(crate) fn segment_name(number: u64, next_event_id: u64) -> String {
    format!("{number:010}-{next_event_id:020}{SUFFIX}")
}

/// The highest number that a segment's file name has room for.
pub(crate) const SEGMENT_NUMBER_MAX: u64 = 9_999_999_999;

/// The number in a segment's file name, `None` for every other name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let (number, id) = name.strip_suffix(SUFFIX)?.split_once('-')?;
    let digits =
        |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(number, 10) && digits(id, 20)).then(|| number.parse().ok()).flatten()
}

/// The name under which a segment is made.
pub(crate) fn unfinished(segment_name: &str) -> String {
    format!("{}{UNFINISHED}", segment_name.strip_suffix(SUFFIX).unwrap_or(segment_name))
}

/// The name of an empty file that was made for the segment of this number, or the one after it.
pub(crate) fn spare(number: u64) -> String {
    format!("{number:010}{UNFINISHED}")
}

/// The sidecar of a segment, by the segment's path. It need not be there.
pub fn sidecar(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

/// The name under which a process makes a sidecar; several of its threads can make one each, and others too.
pub(crate) fn unfinished_sidecar(segment: &Path, pid: u32, number: u64) -> PathBuf {
    segment.with_extension(format!("{pid}-{number}.idx.tmp"))
}

/// Whether a file is a sidecar, by its name, of a segment that is not among `segments`.
pub(crate) fn is_orphan(name: &str, segments: &[(u64, String)]) -> bool {
    name.strip_suffix(SIDECAR).is_some_and(|stem| {
        let segment = format!("{stem}{SUFFIX}");
        segment_number(&segment).is_some() && !segments.iter().any(|(_, name)| *name == segment)
    })
}

/// A request that is being made by a process; several of its threads can make one each.
pub(crate) fn unfinished_request(pid: u32, number: u64) -> String {
    format!("{REQUEST}.{pid}-{number}.tmp")
}

/// Whether a file is a request that was never made.
pub(crate) fn is_unfinished_request(name: &str) -> bool {
    name.starts_with(REQUEST) && name.ends_with(".tmp")
}

/// Whether a file is a segment or a sidecar that was never finished, or was made for a segment to come. What only ends as these
/// do is somebody else's.
pub(crate) fn is_unfinished(name: &str) -> bool {
    let segment = name.strip_suffix(UNFINISHED);
    segment.is_some_and(|stem| is_stem(stem) || is_digits(stem)) || is_unfinished_copy(name)
}

/// Whether a file is the copy of a segment, or a sidecar, that was never finished.
pub(crate) fn is_unfinished_copy(name: &str) -> bool {
    let is_maker = |maker: &str| maker.split_once('-').is_some_and(|(pid, n)| is_digits(pid) && is_digits(n));
    let is_sidecar = |name: &str| match name.split_once('.') {
        Some((stem, maker)) => is_stem(stem) && is_maker(maker),
        None => is_stem(name),
    };
    name.strip_suffix(COPYING).is_some_and(is_stem)
        || name.strip_suffix(SIDECAR_UNFINISHED).is_some_and(is_sidecar)
}

/// Whether a segment's name begins so, up to its ending.
fn is_stem(text: &str) -> bool {
    segment_number(&format!("{text}{SUFFIX}")).is_some()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Segment files among `names`, in the order of their numbers.
pub(crate) fn segments(names: Vec<String>) -> Vec<(u64, String)> {
    let mut segments: Vec<_> =
        names.into_iter().filter_map(|name| Some((segment_number(&name)?, name))).collect();
    segments.sort_unstable();
    segments
}

/// Whether there is a journal, or was one: a watermark without segments is what is left of it.
pub(crate) fn has_journal(medium: &dyn Medium, dir: &Path) -> Result<bool, Error> {
    match medium.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("list", dir)(error)),
        Ok(names) => Ok(names.iter().any(|name| name == WATERMARK || segment_number(name).is_some())),
    }
}

/// A name in quarantine: of which segment, in which epoch it was taken out, and from which offset on.
pub(crate) fn quarantine_name(segment_name: &str, epoch: u64, offset: u64) -> String {
    format!("{segment_name}.epoch-{epoch}.from-{offset}")
}

/// The segment number and the epoch in a name in quarantine.
pub(crate) fn quarantined(name: &str) -> Option<(u64, u64)> {
    let (segment, rest) = name.split_once(".epoch-")?;
    let (epoch, _) = rest.split_once(".from-")?;
    Some((segment_number(segment)?, epoch.parse().ok()?))
}

/// The consumers of a journal.
pub(crate) fn consumers(dir: &Path) -> PathBuf {
    dir.join(CONSUMERS)
}

/// The quarantine of a journal.
pub(crate) fn quarantine(dir: &Path) -> PathBuf {
    dir.join(QUARANTINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_ids_do_and_give_their_numbers_back() {
        let names: Vec<_> = [(1, 1), (2, 10), (9, 99), (10, 100), (11, u64::MAX)]
            .map(|(number, id)| segment_name(number, id))
            .into();
        assert!(names.is_sorted());
        let numbers: Vec<_> = names.iter().filter_map(|name| segment_number(name)).collect();
        assert_eq!(numbers, [1, 2, 9, 10, 11]);
        assert_eq!(unfinished(&names[0]), "0000000001-00000000000000000001.semj.tmp");
        for other in ["LOCK", "1-2.semj.tmp", "a-1.semj", "1.semj", "-1.semj", "1-.semj", "1-1.semj"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
        let other = names[0].replacen('0', "00", 1);
        assert_eq!(segment_number(&other), None, "{other}");
        assert_eq!(segment_number(&segment_name(SEGMENT_NUMBER_MAX, 1)), Some(SEGMENT_NUMBER_MAX));
        assert_eq!(quarantined(&quarantine_name(&names[2], 7, 4096)), Some((9, 7)));
    }

    #[test]
    fn what_was_not_finished_is_known_by_the_segment_that_it_is_of() {
        let name = segment_name(3, 21);
        let sidecar = |number| {
            let path = unfinished_sidecar(Path::new(&name), 77, number);
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        assert_ne!(sidecar(1), sidecar(2), "each has its own");
        for copy in [copying(&name), sidecar(1), "0000000003-00000000000000000021.idx.tmp".to_owned()] {
            assert!(is_unfinished_copy(&copy) && is_unfinished(&copy) && !is_compressing(&copy), "{copy}");
        }
        for own in [unfinished(&name), spare(4)] {
            assert!(is_unfinished(&own) && !is_unfinished_copy(&own) && !is_compressing(&own), "{own}");
        }
        let packed = compressing(&name);
        assert!(is_compressing(&packed) && !is_unfinished(&packed), "somebody may be at it");
        for other in [
            "notes.semj.tmp",
            "notes.idx.tmp",
            "notes.copy.semj.tmp",
            "notes.compact.semj.tmp",
            "0000000003-00000000000000000021.mine.idx.tmp",
            "0000000003-00000000000000000021.1-.idx.tmp",
            "0000000003-00000000000000000021.old.semj.tmp",
            ".semj.tmp",
            ".idx.tmp",
        ] {
            assert!(!is_unfinished(other) && !is_compressing(other), "{other}");
        }
    }
}
