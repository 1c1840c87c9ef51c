//! What can go wrong, with the file, the offset and the numbers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use semj_blocks::DecodeError;
use semj_format::{DraftError, EventType, Priority, RecordError, Watermark};
use semj_recovery::Report;
use semj_recovery::fault::Fault;
use thiserror::Error;

use crate::medium::Map;

/// What can go wrong.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("{}: can't {operation}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// Another journal has the directory open for writing.
    #[error("{}: in use by {}", dir.display(), Holder(*pid))]
    Locked {
        /// The journal's directory.
        dir: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// Another process compacts the journal.
    #[error("{}: compacted by {}", dir.display(), Holder(*pid))]
    Compacting {
        /// The journal's directory.
        dir: PathBuf,
        /// Its process id, where it could be read.
        pid: Option<u32>,
    },
    /// A compressed segment, read back from the disk, is not what it was made from. The segment is as it was.
    #[error("{}: what was written does not give back the segment", path.display())]
    NotGivenBack {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong with the compressed file, where it is not only other bytes.
        source: Option<DecodeError>,
    },
    /// There is no journal to read.
    #[error("{}: no journal here (no segment file)", dir.display())]
    NoJournal {
        /// The directory.
        dir: PathBuf,
    },
    /// A watermark, and none of the segments that it speaks of. Nothing was changed.
    #[error(
        "{}: all segments are gone: events up to {last_event_id} were durable here, in segments up to {segment_number}",
        dir.display()
    )]
    Gone {
        /// The journal's directory.
        dir: PathBuf,
        /// The segment that was active.
        segment_number: u64,
        /// The highest event id that was durable.
        last_event_id: u64,
    },
    /// The journal is damaged in a way that the open mode does not accept. Nothing was changed.
    #[error("{}: {}", dir.display(), Refusal(report))]
    Damaged {
        /// The journal's directory.
        dir: PathBuf,
        /// Everything that was found.
        report: Box<Report>,
    },
    /// A file is not what it was when it was opened: somebody made it shorter, or wrote into it, or its bytes can't be
    /// read from the device any more.
    #[error("{}: {}", path.display(), Change { expected: *expected, found: *found })]
    Changed {
        /// The file.
        path: PathBuf,
        /// Its bytes when it was opened.
        expected: u64,
        /// Its bytes now, where that can still be learned.
        found: Option<u64>,
    },
    /// The event can't be held by the format.
    #[error("the event can't be recorded: {0}")]
    Draft(#[from] DraftError),
    /// The event's type belongs to the journal's own records.
    #[error("event type {event_type} is the journal's own and can't be emitted")]
    ReservedType {
        /// The type.
        event_type: EventType,
    },
    /// A score or confidence is over 100.
    #[error("{field} is {value}, the limit is 100")]
    Score {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// An imported event's id does not grow.
    #[error("event id {found} can't follow {after}: ids must increase")]
    IdOrder {
        /// The id that was brought.
        found: u64,
        /// The last id in the journal.
        after: u64,
    },
    /// A number that only grows can't grow any more.
    #[error("the journal has used up its {what}")]
    Exhausted {
        /// Event ids, epochs, segment numbers or commit numbers.
        what: &'static str,
    },
    /// The emission took longer than `Options::claim_timeout` between having its ids and writing its events, because
    /// its thread was stopped. The journal went on without it and has recorded the ids as missing.
    #[error("events {first} to {last} came too late: the journal went on without them")]
    Revoked {
        /// The first id.
        first: u64,
        /// The last id.
        last: u64,
    },
    /// A batch is too large to be committed as one.
    #[error("a batch of {bytes} bytes is more than a segment can take as one ({limit}); raise segment_size")]
    BatchTooLarge {
        /// Bytes of the batch's records.
        bytes: usize,
        /// Bytes that there is room for.
        limit: usize,
    },
    /// An option is out of its range.
    #[error("option {option} is {value}, it must be {must_be}")]
    Option {
        /// The option's name.
        option: &'static str,
        /// Its value.
        value: u64,
        /// The range.
        must_be: &'static str,
    },
    /// A record is damaged that was right when it was made durable, and was not looked at when the journal was opened.
    #[error("{} is damaged at offset {offset}", path.display())]
    Rotten {
        /// The segment's file.
        path: PathBuf,
        /// Offset of the record.
        offset: u64,
        /// What is wrong with it.
        source: RecordError,
    },
    /// A block of a compressed segment is damaged, or what a compressed segment's blocks are found by.
    #[error("{}: what stands from offset {offset} of the segment on can't be decompressed", path.display())]
    RottenBlock {
        /// The segment's file.
        path: PathBuf,
        /// Offset in the segment, not in its compressed form.
        offset: u64,
        /// What is wrong.
        source: DecodeError,
    },
    /// The buffer is full, and the emission was not to wait, or not longer. The event was not taken in.
    #[error("the buffer of {events} events is full")]
    Full {
        /// Events that it holds.
        events: u64,
    },
    /// Large batches that wait for the committer have all the memory that there is for them, and this one was not to wait, or
    /// not longer. None of its events was taken in.
    #[error("the {bytes} bytes for batches that are too large for the buffer's slots are taken")]
    LargeBatchesFull {
        /// What all of them may have together.
        bytes: u64,
    },
    /// The buffer was too full for an event of this priority. It was dropped, and a Gap will say so.
    #[error("the buffer is too full for an event of priority {}: it was dropped", priority.0)]
    Dropped {
        /// The event's priority.
        priority: Priority,
    },
    /// The process that has the journal open does not do what it was asked for: it does not look for requests, or hangs.
    #[error("{}: in use by {}, which does not answer", dir.display(), Holder(*pid))]
    Unheeded {
        /// The journal's directory.
        dir: PathBuf,
        /// The holder's process id, where it could be read.
        pid: Option<u32>,
    },
    /// What is in the target directory is no earlier snapshot of the journal. Nothing there was changed.
    #[error("{}: no earlier snapshot of this journal: {file}: {what}", target.display())]
    NotASnapshot {
        /// The target.
        target: PathBuf,
        /// The file.
        file: String,
        /// What about it.
        what: &'static str,
    },
    /// The directory is a copy that is for reading: with segments that the journal has retired, or a part of a journal, or one
    /// that was not brought there to its end.
    #[error(
        "{}: a copy for reading only, as its file UNRETIRED says: with retired segments, a part, or not yet whole",
        dir.display()
    )]
    Unretired {
        /// The directory.
        dir: PathBuf,
    },
    /// There is a journal where one was to be made.
    #[error("{}: there is a journal already, or what is left of one", dir.display())]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
    },
    /// Segments were given up before everything of them was given out: see [`crate::Retention`].
    #[error(
        "{}: segments up to {retired_upto} were retired, with events up to {last_retired_id}; the last one that was given out \
         is {last_event_id}, and the journal begins with segment {first_segment}",
        dir.display()
    )]
    Retired {
        /// The journal's directory.
        dir: PathBuf,
        /// The segment that the follower was at.
        segment_number: u64,
        /// The last one that was retired.
        retired_upto: u64,
        /// The last event that was.
        last_retired_id: u64,
        /// The first segment that there is.
        first_segment: u64,
        /// The last event that was given out.
        last_event_id: u64,
    },
    /// A segment is not there that a follower was at or goes on with, and it was not retired: it is lost.
    #[error(
        "{}: segment {segment_number}, which segment {next_segment} goes on from, is missing and was not retired; the last event \
         that was given out is {last_event_id}",
        dir.display()
    )]
    SegmentMissing {
        /// The journal's directory.
        dir: PathBuf,
        /// The segment that is missing. Those before it may be too, up to the one that the follower was at.
        segment_number: u64,
        /// The first one behind it that there is.
        next_segment: u64,
        /// The last event that was given out.
        last_event_id: u64,
    },
    /// A follower's position is in a segment that the journal has not come to: an older one is in its place, say.
    #[error(
        "{}: there is no segment {segment_number}, of which something was given out up to event {last_event_id}: the journal \
         ends with segment {last_segment}",
        dir.display()
    )]
    NoSegment {
        /// The journal's directory.
        dir: PathBuf,
        /// The segment of the position.
        segment_number: u64,
        /// The last one that there is.
        last_segment: u64,
        /// The last event that was given out.
        last_event_id: u64,
    },
    /// What a segment begins with is not right, which was durable before the file had its name: it can't be followed, or it is a file
    /// in which nothing proves itself.
    #[error("{}: what the segment begins with is not right", path.display())]
    NoOpening {
        /// The segment's file.
        path: PathBuf,
        /// What is wrong with it.
        source: Fault,
    },
    /// What a follower has given out is not in the journal any more, or its position is of another journal.
    #[error(
        "{}: the journal does not go on from offset {offset} of segment {segment_number}, behind event {last_event_id}",
        path.display()
    )]
    Withdrawn {
        /// The file of that segment, or of the one behind it.
        path: PathBuf,
        /// The segment that the follower was at.
        segment_number: u64,
        /// Where in it the follower was.
        offset: u64,
        /// The last event that was given out.
        last_event_id: u64,
    },
    /// A consumer can't have this name.
    #[error(
        "{name:?} is no name of a consumer: 1 to 100 ASCII letters, digits, '-', '_' and '.', no '.' at the beginning, and no \
         \".tmp\" or \".lock\" at the end"
    )]
    ConsumerName {
        /// The name.
        name: String,
    },
    /// The file in which a consumer keeps its position is damaged. Nothing was changed.
    #[error("{}: how far this consumer came is not known", path.display())]
    ConsumerMark {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: semj_format::consumer::ConsumerMarkError,
    },
    /// This process was forked from the one that opened the journal, which alone may write to it. Nothing was written. To read, it
    /// opens a [`crate::Reader`] of its own.
    #[error("process {opened_by} has the journal open, and this one was forked from it")]
    Forked {
        /// The process that opened the journal.
        opened_by: u32,
    },
    /// Another thread has failed to write a moment ago, and its failure is about to be told.
    #[error("writing has stopped")]
    Stopped,
    /// The committer thread panicked: a bug in this crate.
    #[error("the committer thread panicked")]
    CommitterPanicked,
    /// An earlier failure ended all writing. What was acknowledged before it is safe; only a reopen helps.
    #[error("the journal stopped writing after a failure")]
    Poisoned {
        /// The failure.
        source: Arc<Error>,
    },
}

impl Error {
    /// Of a map through which bytes were read that are not the file's any more.
    pub(crate) fn changed(path: &Path, map: &dyn Map) -> Self {
        if let Some(source) = map.failure() {
            return Self::Io { operation: "read", path: path.to_owned(), source };
        }
        Self::Changed { path: path.to_owned(), expected: map.size() as u64, found: map.file_size(path).ok() }
    }

    pub(crate) fn not_a_snapshot(target: &Path, file: &str, what: &'static str) -> Self {
        Self::NotASnapshot { target: target.to_owned(), file: file.to_owned(), what }
    }

    pub(crate) fn gone(dir: &Path, watermark: &Watermark) -> Self {
        let Watermark { segment_number, last_event_id, .. } = *watermark;
        Self::Gone { dir: dir.to_owned(), segment_number, last_event_id }
    }

    /// For `map_err` behind an operation on a file.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { operation, path, source }
    }
}

struct Change {
    expected: u64,
    found: Option<u64>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found } = self;
        match found {
            Some(found) if found < expected => {
                write!(f, "was cut from {expected} to {found} bytes while it was read")
            }
            Some(found) => write!(
                f,
                "can't be read any more, or somebody wrote into it: {found} bytes, {expected} when it was opened"
            ),
            None => write!(f, "had {expected} bytes when it was opened; they can't be read any more"),
        }
    }
}

struct Holder(Option<u32>);

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

struct Refusal<'a>(&'a Report);

impl fmt::Display for Refusal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(segment) = self.0.refusal() else {
            return f.write_str("refused");
        };
        write!(f, "segment {} is {}", segment.name, segment.verdict.name())?;
        match &segment.fault {
            Some(fault) => write!(f, ": {fault}"),
            None => Ok(()),
        }
    }
}
