//! Journals in the kernel's own format: the header, then records whose contexts, where they have one, are in
//! the fixed form.

use std::io::{self, Write};

use semj_format::limits::KERNEL_EVENT_COUNT_MAX;
use semj_format::{
    ContextError, ContextForm, Draft, DraftContext, DraftError, HeaderError, JournalHeader, Record,
    RecordError,
};
use thiserror::Error;

/// Why bytes are no kernel-format journal, from this offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("offset {offset}: {kind}")]
pub struct ReadError {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong there.
    pub kind: ReadErrorKind,
}

/// What can be wrong with a kernel-format journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadErrorKind {
    /// The header.
    #[error("{0}")]
    Header(HeaderError),
    /// `journal_size` is past the end of the file.
    #[error("journal_size {journal_size} is past the end of the file ({file_size})")]
    Size {
        /// By the header.
        journal_size: u64,
        /// Bytes there are.
        file_size: u64,
    },
    /// `journal_size` leaves no room for the header, which it includes.
    #[error("journal_size {journal_size} is smaller than the header ({})", JournalHeader::SIZE)]
    TooSmall {
        /// By the header.
        journal_size: u64,
    },
    /// More events than a kernel journal may have.
    #[error("total_events {total}, the limit is {KERNEL_EVENT_COUNT_MAX}")]
    TooMany {
        /// How many the header says.
        total: u64,
    },
    /// Fewer records than the header says.
    #[error("{missing} of {total} events are missing")]
    Missing {
        /// How many are not there.
        missing: u64,
        /// How many the header says.
        total: u64,
    },
    /// More bytes than records.
    #[error("{excess} bytes after the last event")]
    Excess {
        /// How many.
        excess: u64,
    },
    /// A record.
    #[error("{0}")]
    Record(RecordError),
}

/// A kernel-format journal in memory.
#[derive(Clone, Copy, Debug)]
pub struct KernelJournal<'a> {
    header: JournalHeader,
    /// The file up to `journal_size`.
    bytes: &'a [u8],
}

impl<'a> KernelJournal<'a> {
    /// Reads and checks the header.
    ///
    /// # Errors
    ///
    /// A header that is not right, or says more bytes than there are or more events than there may be.
    pub fn parse(file: &'a [u8]) -> Result<Self, ReadError> {
        let header = JournalHeader::parse(file)
            .map_err(|error| ReadError { offset: error.offset(), kind: ReadErrorKind::Header(error) })?;
        if header.total_events > KERNEL_EVENT_COUNT_MAX {
            let kind = ReadErrorKind::TooMany { total: header.total_events };
            return Err(ReadError { offset: 12, kind });
        }
        if header.journal_size < JournalHeader::SIZE as u64 {
            let kind = ReadErrorKind::TooSmall { journal_size: header.journal_size };
            return Err(ReadError { offset: 28, kind });
        }
        let bytes = usize::try_from(header.journal_size).ok().and_then(|size| file.get(..size));
        let kind = ReadErrorKind::Size { journal_size: header.journal_size, file_size: file.len() as u64 };
        Ok(Self { header, bytes: bytes.ok_or(ReadError { offset: 28, kind })? })
    }

    /// The header.
    pub const fn header(&self) -> &JournalHeader {
        &self.header
    }

    /// The records with their offsets, each checked. After an error there are no more.
    pub const fn records(&self) -> KernelRecords<'a> {
        KernelRecords {
            bytes: self.bytes,
            at: JournalHeader::SIZE,
            left: self.header.total_events,
            total: self.header.total_events,
            has_ended: false,
        }
    }
}

/// See [`KernelJournal::records`].
#[derive(Clone, Debug)]
pub struct KernelRecords<'a> {
    bytes: &'a [u8],
    at: usize,
    left: u64,
    total: u64,
    has_ended: bool,
}

impl<'a> KernelRecords<'a> {
    fn step(&mut self) -> Result<Option<(u64, Record<'a>)>, ReadErrorKind> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        match (self.left, rest) {
            (0, []) => Ok(None),
            (0, excess) => Err(ReadErrorKind::Excess { excess: excess.len() as u64 }),
            (missing, []) => Err(ReadErrorKind::Missing { missing, total: self.total }),
            (_, rest) => {
                let record = Record::parse_verified(rest).map_err(ReadErrorKind::Record)?;
                let offset = self.at as u64;
                self.at += record.len();
                self.left -= 1;
                Ok(Some((offset, record)))
            }
        }
    }
}

impl<'a> Iterator for KernelRecords<'a> {
    type Item = Result<(u64, Record<'a>), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let offset = self.at as u64;
        let step = self.step();
        self.has_ended = !matches!(step, Ok(Some(_)));
        step.map_err(|kind| ReadError { offset, kind }).transpose()
    }
}

/// Why events can't be written as a kernel-format journal.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The output.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// An event's context is none, or has fields that the kernel's structure lacks.
    #[error("event {event_id}: {source}")]
    Context {
        /// The event.
        event_id: u64,
        /// What is wrong.
        source: ContextError,
    },
    /// An event that the format can't hold.
    #[error("event {event_id}: {source}")]
    Draft {
        /// The event.
        event_id: u64,
        /// What is wrong.
        source: DraftError,
    },
    /// More events than a kernel journal may have.
    #[error("a kernel journal holds {KERNEL_EVENT_COUNT_MAX} events at most; export fewer at a time")]
    TooMany,
}

/// Writes events as a kernel-format journal: every context in the fixed form, every other field as it is.
///
/// Goes through the events twice, because the header comes first and tells their number and size.
///
/// # Errors
///
/// See [`WriteError`]; nothing was written then, unless the output failed.
pub fn write<'a>(
    events: impl Iterator<Item = Record<'a>> + Clone,
    out: &mut impl Write,
) -> Result<JournalHeader, WriteError> {
    let mut measure = Measure::default();
    events.clone().try_for_each(|record| measure.push(&record))?;
    let mut writer = Writer::begin(&measure, out)?;
    for record in events {
        writer.write(&record, out)?;
    }
    Ok(writer.header)
}

/// The first way through the events, for who can't go through them twice at one go: what the header says of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measure {
    count: u64,
    size: u64,
    last_event_id: u64,
}

impl Measure {
    /// Takes note of an event.
    ///
    /// # Errors
    ///
    /// [`WriteError::Context`]: it can't be written. [`WriteError::TooMany`].
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), WriteError> {
        check_context(record)?;
        self.count += 1;
        self.size += kernel_size(record);
        // In groups that are ordered by priority the last one is not the highest.
        self.last_event_id = self.last_event_id.max(record.event_id());
        if self.count > KERNEL_EVENT_COUNT_MAX {
            return Err(WriteError::TooMany);
        }
        Ok(())
    }
}

/// The second way through the same events.
#[derive(Debug)]
pub struct Writer {
    header: JournalHeader,
    fixed: Box<[u8; semj_format::context::FIXED_SIZE]>,
    bytes: Vec<u8>,
}

impl Writer {
    /// Writes the header of a journal of events that were measured.
    ///
    /// # Errors
    ///
    /// The output.
    pub fn begin(measure: &Measure, out: &mut impl Write) -> Result<Self, WriteError> {
        let Measure { count, size, last_event_id } = *measure;
        let size = JournalHeader::SIZE as u64 + size;
        let header = JournalHeader::new(count, last_event_id.saturating_add(1), size, 0);
        out.write_all(&header.encode())?;
        Ok(Self { header, fixed: Box::new([0; semj_format::context::FIXED_SIZE]), bytes: Vec::new() })
    }

    /// Writes the next event.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub fn write(&mut self, record: &Record<'_>, out: &mut impl Write) -> Result<(), WriteError> {
        expand(record, &mut self.fixed, &mut self.bytes)?;
        Ok(out.write_all(&self.bytes)?)
    }
}

/// Bytes of the record with its context in the fixed form.
fn kernel_size(record: &Record<'_>) -> u64 {
    let context = record.context_bytes().len();
    let fixed = if context == 0 { 0 } else { semj_format::context::FIXED_SIZE };
    (record.len() - context + fixed) as u64
}

fn check_context(record: &Record<'_>) -> Result<(), WriteError> {
    if ContextForm::of_size(record.context_bytes().len()) != ContextForm::Compact {
        return Ok(());
    }
    let context_error = |source| WriteError::Context { event_id: record.event_id(), source };
    let context = record.context().map_err(context_error)?.unwrap_or_default();
    match context.unknown_bits {
        0 => context.check().map_err(context_error),
        bits => Err(context_error(ContextError::UnknownFields { bits })),
    }
}

/// The record with its context in the fixed form.
fn expand(
    record: &Record<'_>,
    fixed: &mut [u8; semj_format::context::FIXED_SIZE],
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let event_id = record.event_id();
    out.clear();
    if ContextForm::of_size(record.context_bytes().len()) != ContextForm::Compact {
        out.extend_from_slice(record.bytes());
        return Ok(());
    }
    let context_error = |source| WriteError::Context { event_id, source };
    let context = record.context().map_err(context_error)?.unwrap_or_default();
    context.to_fixed(fixed).map_err(context_error)?;
    let links: Vec<_> = record.links().collect();
    let draft = Draft { context: DraftContext::Encoded(fixed), ..Draft::of_record(record, &links) };
    let size = draft.encoded_size().map_err(|source| WriteError::Draft { event_id, source })?;
    out.resize(size, 0);
    draft.encode_into(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use semj_format::{CausalityLink, Context, EventHeader};

    fn kernel_journal() -> Vec<u8> {
        let mut fixed = [0; semj_format::context::FIXED_SIZE];
        Context { path: b"/a", agent_id: b"agent", ..Context::default() }.to_fixed(&mut fixed).unwrap();
        let link = CausalityLink::decode(&[7; 160]);
        let mut bytes = vec![0; JournalHeader::SIZE];
        for (event_id, context) in [(3, &fixed[..]), (9, &[]), (10, &fixed[..])] {
            let header = EventHeader { event_id, event_flags: 0xF00, cpu_id: 5, ..EventHeader::new(0x7777) };
            let context = DraftContext::Encoded(context);
            let draft =
                Draft { context, payload: b"p", metadata: b"m", links: &[link], ..Draft::new(header) };
            bytes.extend(draft.to_vec().unwrap());
        }
        let header = JournalHeader::new(3, 11, bytes.len() as u64, 0);
        bytes[..JournalHeader::SIZE].copy_from_slice(&header.encode());
        bytes
    }

    #[test]
    fn a_journal_comes_back_byte_for_byte_from_its_compact_records() {
        let journal = kernel_journal();
        let parsed = KernelJournal::parse(&journal).unwrap();
        let compact: Vec<_> = parsed
            .records()
            .map(|record| {
                let (_, record) = record.unwrap();
                let links: Vec<_> = record.links().collect();
                Draft::of_record(&record, &links).to_vec().unwrap()
            })
            .collect();
        assert!(compact.iter().all(|record| record.len() < 400));
        let mut again = Vec::new();
        write(compact.iter().map(|bytes| Record::parse(bytes).unwrap()), &mut again).unwrap();
        assert!(again == journal);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let journal = kernel_journal();
        let is_good = |bytes: &[u8]| {
            KernelJournal::parse(bytes).is_ok_and(|journal| journal.records().all(|record| record.is_ok()))
        };
        assert!(is_good(&journal));
        let mut damaged = journal.clone();
        for bit in (0..journal.len() * 8).step_by(3) {
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_good(&damaged), "bit {bit}");
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        for length in (0..journal.len()).step_by(11) {
            assert!(!is_good(&journal[..length]), "length {length}");
        }
    }

    #[test]
    fn a_journal_size_that_leaves_no_room_for_the_header_is_refused() {
        for (journal_size, is_good) in [(0, false), (51, false), (52, true)] {
            let header = JournalHeader::new(0, 1, journal_size, 0);
            assert_eq!(
                KernelJournal::parse(&header.encode()).is_ok(),
                is_good,
                "journal_size {journal_size}"
            );
        }
    }

    #[test]
    fn more_events_than_the_kernel_allows_are_refused_by_the_header() {
        let mut journal = kernel_journal();
        for (total, is_refused) in [(KERNEL_EVENT_COUNT_MAX, false), (KERNEL_EVENT_COUNT_MAX + 1, true)] {
            let header = JournalHeader::new(total, 11, journal.len() as u64, 0);
            journal[..JournalHeader::SIZE].copy_from_slice(&header.encode());
            let kind = ReadErrorKind::TooMany { total };
            let error = KernelJournal::parse(&journal).err();
            assert_eq!(error, is_refused.then_some(ReadError { offset: 12, kind }));
        }
    }

    #[test]
    fn fields_that_the_kernels_structure_lacks_are_not_dropped_silently() {
        let mut context = (1u32 << 21).to_le_bytes().to_vec();
        context.extend([1, 0, b'x']);
        let header = EventHeader { event_id: 4, ..EventHeader::new(0x0101) };
        let bytes =
            Draft { context: DraftContext::Encoded(&context), ..Draft::new(header) }.to_vec().unwrap();
        let events = [Record::parse(&bytes).unwrap()];
        let error = write(events.into_iter(), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, WriteError::Context { event_id: 4, .. }), "{error}");
    }
}
