//! What a writer does in its lives, what it notes of them, and what must be there after a power cut.
//!
//! Everything a life emits follows from the seed, the life's number and how many operations it has. What the
//! lives achieved is in the notes: lines of text, each with the number of log entries that stood when it was
//! written.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use semj::{CommitOn, Error, Event, EventType, Journal, Options, Reader};
use semj_tests::random::Random;

use crate::log;

/// How long it takes at most, or nearly always, until the journal's own thread has committed an event.
const COMMITS_WITHIN: Duration = Duration::from_millis(10);

/// An event that a life emits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Emitted {
    event_type: EventType,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Operation {
    /// One by one.
    Emit(Vec<Emitted>),
    /// As one.
    Batch(Vec<Emitted>),
    Sync,
    Rotate,
    /// Lets the journal's own thread commit what nobody asked for.
    Pause(Duration),
}

/// A life of the writer.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    operations: Vec<Operation>,
    segment_size: u64,
    commit_on: CommitOn,
    watermark_interval: Duration,
    /// Whether it ends with a close. Otherwise its process ends, and what it had not synced is in memory only.
    pub(crate) is_closed: bool,
}

impl Life {
    /// The life with this number.
    pub(crate) fn new(seed: u64, number: u64, operations: u64) -> Self {
        let mut random = Random::new(Random::new(seed).next() ^ number);
        let segment_size = if random.one_in(3) { 1 << 20 } else { 256 << 10 };
        let commit_on = if random.one_in(3) { CommitOn::CallersThread } else { CommitOn::OwnThread };
        let watermark_interval =
            if random.one_in(2) { Duration::ZERO } else { Options::default().watermark_interval };
        let is_closed = random.one_in(3);
        let mut operations: Vec<_> = (0..operations).map(|_| operation(&mut random)).collect();
        if !is_closed {
            // Its process leaves something behind that was committed and not synced.
            operations.extend([Operation::Emit(events(&mut random, 20)), Operation::Pause(COMMITS_WITHIN)]);
        }
        Self { operations, segment_size, commit_on, watermark_interval, is_closed }
    }

    /// Opens the journal as this life does.
    pub(crate) fn open(&self, dir: &Path) -> Result<Journal, Error> {
        let Self { segment_size, commit_on, watermark_interval, .. } = *self;
        Journal::open(dir, Options { segment_size, commit_on, watermark_interval, ..Options::default() })
    }

    /// Lives it, up to before its end. Says after each sync up to which id everything was acknowledged; if
    /// `is_early`, which a journal must not do, before.
    pub(crate) fn run(
        &self,
        journal: &Journal,
        is_early: bool,
        mut acknowledge: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let mut last = journal.stats().last_emitted_id;
        for operation in &self.operations {
            match operation {
                Operation::Emit(events) => {
                    for event in events {
                        last = journal.emit(&event.to_event())?;
                    }
                }
                Operation::Batch(events) => {
                    let events: Vec<_> = events.iter().map(Emitted::to_event).collect();
                    last = journal.emit_batch(&events)?.end - 1;
                }
                Operation::Sync | Operation::Rotate => {
                    if is_early {
                        acknowledge(last)?;
                    }
                    match operation {
                        Operation::Rotate => journal.rotate()?,
                        _ => journal.sync()?,
                    }
                    if !is_early {
                        acknowledge(last)?;
                    }
                }
                Operation::Pause(duration) => std::thread::sleep(*duration),
            }
        }
        Ok(())
    }
}

fn events(random: &mut Random, count: u64) -> Vec<Emitted> {
    (0..count).map(|_| Emitted::new(random)).collect()
}

fn operation(random: &mut Random) -> Operation {
    match random.below(20) {
        0..7 => Operation::Emit(events(random, 1)),
        7..10 => {
            let count = 2 + random.below(19);
            Operation::Batch(events(random, count))
        }
        // Long enough for a sync to have many blocks to write.
        10..12 => {
            let count = 30 + random.below(120);
            Operation::Emit(events(random, count))
        }
        12..18 => Operation::Sync,
        18 => Operation::Rotate,
        _ => Operation::Pause(COMMITS_WITHIN),
    }
}

impl Emitted {
    fn new(random: &mut Random) -> Self {
        let types = [EventType::FILESYSTEM_WRITE, EventType::GRAPH_QUERY, EventType::VECTOR_EMBED];
        let event_type = types[random.below(types.len() as u64) as usize];
        let size = 8 + if random.one_in(10) { random.below(12_000) } else { random.below(300) };
        let mut bytes = Random::new(random.next());
        Self { event_type, payload: (0..size).map(|_| bytes.next() as u8).collect() }
    }

    fn to_event(&self) -> Event<'_> {
        Event::new(self.event_type).payload(&self.payload)
    }
}

/// What a writer notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Events up to `last` were found by a reader.
    Found { last: u64 },
    /// A life's open has returned and has events up to `last`.
    Opened { life: u64, operations: u64, last: u64 },
    /// Events up to `last` were acknowledged.
    Acknowledged { last: u64 },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found { last } => write!(f, "found {last}"),
            Self::Opened { life, operations, last } => write!(f, "opened {life} {operations} {last}"),
            Self::Acknowledged { last } => write!(f, "acknowledged {last}"),
        }
    }
}

/// A note and how many log entries stood when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Noted {
    pub(crate) entries: u64,
    pub(crate) note: Note,
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entries, self.note)
    }
}

impl Noted {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let number = |words: &mut std::str::Split<'_, char>| words.next()?.parse().ok();
        let entries = number(&mut words)?;
        let note = match words.next()? {
            "found" => Note::Found { last: number(&mut words)? },
            "opened" => Note::Opened {
                life: number(&mut words)?,
                operations: number(&mut words)?,
                last: number(&mut words)?,
            },
            "acknowledged" => Note::Acknowledged { last: number(&mut words)? },
            _ => return None,
        };
        words.next().is_none().then_some(Self { entries, note })
    }
}

/// Reads the notes of a history.
pub(crate) fn read_notes(path: &Path) -> Result<Vec<Noted>> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    text.lines().map(|line| Noted::parse(line).with_context(|| format!("not a note: {line}"))).collect()
}

/// Where a writer notes what it achieved.
pub(crate) struct Notebook {
    notes: File,
    log: File,
}

impl Notebook {
    pub(crate) fn open(notes: &Path, log: &Path) -> Result<Self> {
        let notes = OpenOptions::new().append(true).open(notes).context("open the notes")?;
        Ok(Self { notes, log: File::open(log).context("open the log of writes")? })
    }

    pub(crate) fn add(&mut self, note: Note) -> Result<()> {
        let noted = Noted { entries: log::entries_logged(&self.log)?, note };
        self.notes.write_all(format!("{noted}\n").as_bytes()).context("write a note")
    }
}

/// What there may be in a journal, and what must be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// The event with id `i + 1`.
    events: Arc<Vec<Emitted>>,
    /// Ids that were emitted as one, from the first to behind the last, where that is more than one.
    batches: Arc<Vec<Range<u64>>>,
    /// The highest id that was acknowledged.
    pub(crate) acknowledged: u64,
    /// The number of the next life.
    pub(crate) next_life: u64,
}

impl Expected {
    /// What recovery or a reader returned is all there is, and must be there from now on.
    pub(crate) fn settle(&mut self, last: u64) {
        Arc::make_mut(&mut self.events).truncate(last as usize);
        Arc::make_mut(&mut self.batches).retain(|batch| batch.end <= last + 1);
        self.acknowledged = last;
    }

    /// A life has begun: what it emits may be there.
    pub(crate) fn begin(&mut self, number: u64, life: &Life) {
        let events = Arc::make_mut(&mut self.events);
        for operation in &life.operations {
            let next = events.len() as u64 + 1;
            match operation {
                Operation::Emit(emitted) => events.extend_from_slice(emitted),
                Operation::Batch(emitted) => {
                    events.extend_from_slice(emitted);
                    Arc::make_mut(&mut self.batches).push(next..next + emitted.len() as u64);
                }
                Operation::Sync | Operation::Rotate | Operation::Pause(_) => {}
            }
        }
        self.next_life = number + 1;
    }

    /// Holds what a reader sees against the list: I1, I2, I3. Gives the last id; without a reader there is no
    /// journal yet.
    pub(crate) fn check(&self, reader: Option<&Reader>) -> Result<u64> {
        let mut last = 0;
        for record in reader.into_iter().flat_map(|reader| reader.iter(..)) {
            let record = record.context("I1: an event can't be read")?;
            if record.event_id() != last + 1 {
                bail!("I2: event {} follows event {last}", record.event_id());
            }
            let Some(emitted) = self.events.get(last as usize) else {
                bail!("I3: event {} was never emitted", last + 1);
            };
            last += 1;
            if record.payload() != emitted.payload || record.event_type() != emitted.event_type {
                bail!("I3: event {last} is not what was emitted");
            }
        }
        if last < self.acknowledged {
            bail!("I1: {} events were acknowledged, {last} are there", self.acknowledged);
        }
        match self.batches.iter().find(|batch| batch.start <= last && last + 1 < batch.end) {
            Some(batch) => {
                bail!("I2: of the events {batch:?}, emitted as one, only those up to {last} are there")
            }
            None => Ok(last),
        }
    }
}

/// What must hold at each point of a history.
#[derive(Debug)]
pub(crate) struct Model {
    notes: Vec<Noted>,
    /// After which note, and what may be there from then on.
    stages: Vec<(usize, Expected)>,
}

impl Model {
    pub(crate) fn new(seed: u64, notes: Vec<Noted>) -> Self {
        let mut stages = Vec::new();
        let mut expected = Expected::default();
        for (at, noted) in notes.iter().enumerate() {
            match noted.note {
                Note::Found { last } => expected.settle(last),
                Note::Opened { life, operations, last } => {
                    expected.settle(last);
                    expected.begin(life, &Life::new(seed, life, operations));
                }
                Note::Acknowledged { .. } => continue,
            }
            stages.push((at, expected.clone()));
        }
        Self { notes, stages }
    }

    /// What must hold when so many log entries have reached the device.
    pub(crate) fn at(&self, entries: u64) -> Expected {
        let written = self.notes.partition_point(|noted| noted.entries <= entries);
        let stage = self.stages.partition_point(|(at, _)| *at < written);
        let Some((at, expected)) = stage.checked_sub(1).and_then(|stage| self.stages.get(stage)) else {
            return Expected::default();
        };
        let since = self.notes.get(*at..written).unwrap_or_default();
        let acknowledged = since.iter().filter_map(|noted| match noted.note {
            Note::Acknowledged { last } => Some(last),
            Note::Found { .. } | Note::Opened { .. } => None,
        });
        let acknowledged = acknowledged.max().unwrap_or(0).max(expected.acknowledged);
        Expected { acknowledged, ..expected.clone() }
    }

    /// The notes that lead to this point, for a history that begins there: all of them stand before its log.
    pub(crate) fn notes_up_to(&self, entries: u64) -> Vec<Noted> {
        let written = self.notes.iter().filter(|noted| noted.entries <= entries);
        written.map(|noted| Noted { entries: 0, note: noted.note }).collect()
    }

    /// Events that were acknowledged in all.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.at(u64::MAX).acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn noted(entries: u64, note: Note) -> Noted {
        Noted { entries, note }
    }

    #[test]
    fn notes_are_read_as_they_were_written() {
        for note in [
            Note::Found { last: 3 },
            Note::Opened { life: 1, operations: 20, last: 4 },
            Note::Acknowledged { last: 5 },
        ] {
            let noted = noted(9, note);
            assert_eq!(Noted::parse(&noted.to_string()), Some(noted));
        }
        for wrong in ["", "9 found", "9 found 3 4", "9 lost 3", "found 3"] {
            assert_eq!(Noted::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_must_be_there_grows_with_the_notes_and_a_new_life_replaces_what_was_not_recovered() {
        let model = Model::new(
            SEED,
            vec![
                noted(10, Note::Opened { life: 0, operations: 20, last: 0 }),
                noted(20, Note::Acknowledged { last: 5 }),
                noted(30, Note::Opened { life: 1, operations: 20, last: 8 }),
                noted(40, Note::Acknowledged { last: 9 }),
            ],
        );
        assert_eq!(model.at(9).events.len(), 0);
        assert_eq!(
            [10, 19, 20, 29, 30, 39, 40].map(|entries| model.at(entries).acknowledged),
            [0, 0, 5, 5, 8, 8, 9]
        );
        let mut first = Expected::default();
        first.begin(0, &Life::new(SEED, 0, 20));
        assert_eq!(model.at(29).events, first.events);
        first.settle(8);
        first.begin(1, &Life::new(SEED, 1, 20));
        assert_eq!(model.at(30).events, first.events);
        assert_ne!(model.at(30).events, model.at(29).events);
        assert_eq!(model.at(30).next_life, 2);

        let again = Model::new(SEED, model.notes_up_to(20));
        assert_eq!(again.at(0).acknowledged, 5);
        assert_eq!(again.at(0).events, model.at(20).events);
    }

    #[test]
    fn loss_alien_events_and_torn_batches_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let life = Life::new(SEED, 0, 60);
        let journal = life.open(dir.path()).unwrap();
        let mut expected = Expected::default();
        expected.begin(0, &life);
        life.run(&journal, false, |last| {
            expected.acknowledged = last;
            Ok(())
        })
        .unwrap();
        let reader = journal.reader();
        let last = expected.check(Some(&reader)).unwrap();
        assert!(last > 10);

        let says = |expected: &Expected| expected.check(Some(&reader)).unwrap_err().to_string();
        let lost = Expected { acknowledged: last + 1, ..expected.clone() };
        assert!(says(&lost).starts_with("I1"));
        let mut alien = expected.clone();
        Arc::make_mut(&mut alien.events)[4].payload[0] ^= 1;
        assert!(says(&alien).starts_with("I3: event 5 "));
        let mut too_many = expected.clone();
        too_many.settle(last - 1);
        assert!(says(&too_many).starts_with("I3"));
        let mut torn = expected.clone();
        Arc::make_mut(&mut torn.batches).push(last..last + 2);
        assert!(says(&torn).starts_with("I2"));
        assert!(lost.check(None).is_err());
    }
}
