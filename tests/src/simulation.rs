//! Lives of a journal on the simulated disk, held against a model: a plain list of what was emitted and
//! acknowledged.
//!
//! One seed gives one history: some lives of a writer, each of which ends with a close, the death of its process,
//! a failed operation or a power cut; after a power cut many disks that it may have left. On each of them the
//! invariants are checked, which carry their numbers from `docs/durability.md`.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use semj::{
    Codec, CommitOn, Compacted, Compaction, Error, Event, EventType, Journal, OpenMode, Options, Proof,
    Reader, Retention, SnapshotMethod, SnapshotOptions, ThinRule, compact_on, plan_retention_on,
};
use semj_format::JournalHeader;
use semj_format::journal_header::{FLAG_COMPRESSED, FLAG_SEALED};
use semj_recovery::Tip;

use crate::disk::{Barrier, Choices, Faults, Odometer, SimulatedDisk, SyncFailure};
use crate::random::Random;

const DIR: &str = "/journal";
const SNAPSHOT: &str = "/snapshot";
/// Of events that a rule takes, one in so many stays.
const KEEP_ONE_IN: u64 = 3;
/// Power cuts in a row that recovery has to stand.
const NESTED_CUTS: u32 = 3;
/// Dirty pages up to which a power cut is gone through in all its ways, and how many ways at most.
const EXHAUSTIVE_PAGES: usize = 10;
const EXHAUSTIVE_STATES: u64 = 3000;

/// How thoroughly a seed is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Disks that are looked at after each power cut.
    pub images: u64,
    /// One in so many power cuts that leave few dirty pages is gone through in all its ways.
    pub exhaustive_one_in: u64,
    /// A barrier that is left out, to show that it is needed.
    pub left_out: Option<Barrier>,
}

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Crash states that were recovered and checked.
    pub states: u64,
    /// Follows from everything that happened: the same for the same seed.
    pub fingerprint: u64,
}

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The seed whose history it happened in.
    pub seed: u64,
    /// The invariant's number and what happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

impl std::error::Error for Violation {}

/// What was emitted and acknowledged.
#[derive(Clone, Debug, Default)]
struct Model {
    /// The payload of the event with id `i + 1`.
    payloads: Vec<Vec<u8>>,
    /// Ids that were emitted as one, from the first to behind the last.
    batches: Vec<Range<u64>>,
    /// The highest id that was acknowledged.
    acknowledged: u64,
    /// The highest id that the watermark protects from damage, not only from a crash.
    marked: u64,
    /// The highest epoch in which something may have been emitted.
    epoch: u64,
    /// Whether the journal was closed since the last event.
    is_closed: bool,
    /// The highest id that was retired, for certain or, after a crash, perhaps.
    retired: u64,
    /// Events up to this id may have been taken out, if they are of the kind that a rule takes.
    thinned: u64,
    /// Where the snapshot ends that was taken last.
    snapshot: Option<Tip>,
    /// Whether another was begun that has nothing in common with that one any more.
    is_snapshot_replaced: bool,
}

impl Model {
    fn emitted(&self) -> u64 {
        self.payloads.len() as u64
    }

    /// Whether a rule may have taken an event.
    fn may_be_gone(&self, id: u64) -> bool {
        id <= self.thinned && !id.is_multiple_of(KEEP_ONE_IN)
    }

    /// What recovery returned is all there is, and is durable.
    fn recovered(&mut self, last: u64) {
        self.payloads.truncate(last as usize);
        self.batches.retain(|batch| batch.end <= last + 1);
        self.acknowledged = last;
        // An open marks what it found.
        self.marked = last;
        self.is_closed = false;
    }

    /// Holds what a reader sees against the list: I1, I2, I3. What was retired on purpose is not there, and nothing else.
    fn check(&self, reader: Option<&Reader>) -> Result<u64, String> {
        self.check_behind(reader, reader.and_then(|reader| reader.report().retired).map_or(0, retired_upto))
    }

    /// The same, with the last id that the journal says is retired.
    fn check_behind(&self, reader: Option<&Reader>, retired: u64) -> Result<u64, String> {
        if retired > self.retired {
            return Err(format!("I15: events up to {retired} are retired, up to {} should be", self.retired));
        }
        let mut last = retired;
        for record in reader.into_iter().flat_map(|reader| reader.iter(..)) {
            let record = record.map_err(|error| format!("I1: {error}"))?;
            while last + 1 < record.event_id() && self.may_be_gone(last + 1) {
                last += 1;
            }
            if record.event_id() != last + 1 {
                return Err(format!("I2: event {} follows {last}", record.event_id()));
            }
            last += 1;
            if self.payloads.get(last as usize - 1).is_none_or(|payload| payload != record.payload()) {
                return Err(format!("I3: event {last} is not what was emitted"));
            }
        }
        while last < self.acknowledged && self.may_be_gone(last + 1) {
            last += 1;
        }
        if last < self.acknowledged {
            return Err(format!("I1: {} events were acknowledged, {last} are there", self.acknowledged));
        }
        let torn = self.batches.iter().find(|batch| batch.contains(&(last + 1)) && batch.start <= last);
        match torn {
            Some(batch) => Err(format!("I2: of the batch {batch:?} only events up to {last} are there")),
            None => Ok(last),
        }
    }
}

/// Keeps so many segments.
fn segments(max: u64) -> Retention {
    Retention { max_segments: Some(max), ..Retention::default() }
}

fn retired_upto(retired: Compacted) -> u64 {
    retired.last_event_id
}

/// The last id that a writer's journal says is retired.
fn retired_of(journal: &Journal) -> u64 {
    journal.retired().map_or(0, retired_upto)
}

fn open(disk: &SimulatedDisk, watermark_interval: Duration) -> Result<Journal, Error> {
    open_retaining(disk, watermark_interval, Retention::default())
}

fn open_retaining(
    disk: &SimulatedDisk,
    watermark_interval: Duration,
    retention: Retention,
) -> Result<Journal, Error> {
    let options = Options {
        retention,
        // One or the other, by something that differs from open to open.
        proof: if disk.steps().is_multiple_of(2) { Proof::Newest } else { Proof::Everything },
        segment_size: 256 << 10,
        commit_on: CommitOn::CallersThread,
        buffer_events: 64,
        watermark_interval,
        ..Options::default()
    };
    Journal::open_on(Arc::new(disk.clone()), Path::new(DIR), options)
}

/// Holds the snapshot against the list: what was taken is there, and no more than what was in the journal.
fn check_snapshot(disk: &SimulatedDisk, model: &Model) -> Result<(), String> {
    let reader = match Reader::open_on(disk, Path::new(SNAPSHOT), OpenMode::Strict, Proof::Everything) {
        Ok(reader) => reader,
        // One that was not finished is known as such.
        Err(_) if model.snapshot.is_none() || model.is_snapshot_replaced => return Ok(()),
        Err(error) => return Err(format!("I16: the snapshot can't be read: {error}")),
    };
    let tip = model.snapshot.filter(|_| !model.is_snapshot_replaced);
    let acknowledged = tip.map_or(0, |tip| tip.last_event_id);
    let last = Model { acknowledged, batches: Vec::new(), ..model.clone() }.check(Some(&reader));
    last.map(drop).map_err(|what| format!("I16: in the snapshot: {what}"))
}

/// What a reader sees; `None` where there is no journal yet.
fn read(disk: &SimulatedDisk) -> Result<Option<Reader>, String> {
    match Reader::open_on(disk, Path::new(DIR), OpenMode::Strict, Proof::Everything) {
        Ok(reader) => Ok(Some(reader)),
        Err(Error::NoJournal { .. }) => Ok(None),
        Err(error) => Err(format!("I1: the journal can't be read: {error}")),
    }
}

/// One seed's history.
///
/// # Errors
///
/// The first invariant that did not hold.
pub fn run(seed: u64, config: Config) -> Result<Outcome, Violation> {
    run_with(Random::new(seed), config).map_err(|what| Violation { seed, what })
}

/// The histories of all these seeds, on as many threads as there are cores. Says how many crash states they came to.
///
/// # Errors
///
/// An invariant that did not hold; of several that are found at once, that of the lowest seed. No history is begun after it.
pub fn run_all(seeds: Range<u64>, config: Config) -> Result<u64, Violation> {
    let (next, states, has_failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicBool::new(false));
    let violations: Mutex<Vec<Violation>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !has_failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    match run(seed, config) {
                        Ok(outcome) => {
                            states.fetch_add(outcome.states, Ordering::Relaxed);
                        }
                        Err(violation) => {
                            has_failed.store(true, Ordering::Relaxed);
                            violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
                        }
                    }
                }
            });
        }
    });
    let violations = violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    violations.into_iter().min_by_key(|violation| violation.seed).map_or(Ok(states.into_inner()), Err)
}

/// The history that these random numbers give.
///
/// # Errors
///
/// As [`run`].
pub fn run_with(random: Random, config: Config) -> Result<Outcome, String> {
    History { random, config, outcome: Outcome::default() }.run()
}

struct History {
    random: Random,
    config: Config,
    outcome: Outcome,
}

/// How a life ended.
enum Death {
    /// The process is gone, the page cache is still there.
    Process,
    Power,
}

impl History {
    fn run(mut self) -> Result<Outcome, String> {
        let mut disk = SimulatedDisk::new(self.random.next(), self.faults(Faults::default()));
        let mut model = Model::default();
        for _ in 0..1 + self.random.below(4) {
            let faults = self.faults_of_a_life();
            let retention = self.retention_of_a_life(&disk, &mut model)?;
            disk.set_faults(self.faults(faults));
            let death = match self.random.one_in(8) {
                true => self.compaction(&disk)?,
                false => self.life(&disk, &mut model, retention)?,
            };
            if matches!(death, Death::Process) && self.random.one_in(2) {
                disk.turn_on();
                continue;
            }
            if disk.dirty_pages() <= EXHAUSTIVE_PAGES && self.random.one_in(self.config.exhaustive_one_in) {
                let mut odometer = Odometer::default();
                for _ in 0..EXHAUSTIVE_STATES {
                    let image = disk.after_power_cut(&mut Choices::Each(&mut odometer), self.random.next());
                    self.check_image(&image, &model)?;
                    if !odometer.advance() {
                        break;
                    }
                }
            }
            for _ in 0..self.config.images {
                let image = self.cut(&disk);
                self.check_image(&image, &model)?;
            }
            // One of the disks that the power cut may have left goes on.
            disk = self.cut(&disk);
            model.is_closed = false;
        }
        Ok(self.outcome)
    }

    /// One of the disks that a power cut now may leave.
    fn cut(&mut self, disk: &SimulatedDisk) -> SimulatedDisk {
        let mut random = Random::new(self.random.next());
        let seed = random.next();
        disk.after_power_cut(&mut Choices::Random(&mut random), seed)
    }

    fn check_image(&mut self, image: &SimulatedDisk, model: &Model) -> Result<(), String> {
        image.set_faults(self.faults(Faults::default()));
        self.check(image, model, NESTED_CUTS)?;
        Ok(())
    }

    fn faults(&self, faults: Faults) -> Faults {
        Faults { left_out: self.config.left_out, ..faults }
    }

    fn faults_of_a_life(&mut self) -> Faults {
        let random = &mut self.random;
        let step = |random: &mut Random, one_in| random.one_in(one_in).then(|| 12 + random.below(120));
        let failure = if random.one_in(2) { SyncFailure::KeptClean } else { SyncFailure::Dropped };
        Faults {
            power_cut_at: (!random.one_in(3)).then(|| 1 + random.below(150)),
            sync_fails_at: step(random, 6).map(|at| (at, failure)),
            dir_sync_fails_at: None,
            write_fails_at: step(random, 10),
            full_at: step(random, 10),
            left_out: None,
        }
    }

    /// How much a life keeps, after a note of what its open may retire.
    fn retention_of_a_life(&mut self, disk: &SimulatedDisk, model: &mut Model) -> Result<Retention, String> {
        if !self.random.one_in(3) {
            return Ok(Retention::default());
        }
        let max = 2 + self.random.below(3);
        let retention = segments(max);
        disk.set_faults(self.faults(Faults::default()));
        // All that ever could go; the open adds a segment, and lets go what is too much then.
        match plan_retention_on(disk, Path::new(DIR), &segments(1), None) {
            Ok(plan) => {
                let ended = (plan.retiring.len() + plan.held_back.len()) as u64;
                let retiring = plan.retiring.iter().take((ended + 2).saturating_sub(max) as usize);
                model.retired = retiring.map(|segment| segment.last_event_id).fold(model.retired, u64::max);
                Ok(retention)
            }
            Err(Error::NoJournal { .. }) => Ok(retention),
            Err(error) => Err(format!("I1: the journal can't be read: {error}")),
        }
    }

    /// Takes a snapshot, onto an earlier one where there is one.
    fn snapshot(&mut self, journal: &Journal, model: &mut Model) -> Result<(), Error> {
        let retired = journal.retired().map_or(0, |retired| retired.segment_number);
        // A segment that lacks events stands before the one that says so: in between it can't be read as it is.
        let is_unreadable_between = model.thinned > 0;
        model.is_snapshot_replaced |=
            is_unreadable_between || model.snapshot.is_none_or(|tip| tip.segment_number <= retired);
        let method = match self.random.below(2) {
            0 => SnapshotMethod::Auto,
            _ => SnapshotMethod::Copy,
        };
        let options = SnapshotOptions { method, ..SnapshotOptions::default() };
        let report = journal.snapshot(SNAPSHOT, options, &mut |_| ())?;
        model.snapshot = Some(report.tip);
        model.is_snapshot_replaced = false;
        Ok(())
    }

    /// Compacts, by the journal's writer or by another process.
    fn compact(&mut self, disk: &SimulatedDisk, writer: Option<&Journal>) -> Result<(), Error> {
        let codec = match self.random.below(3) {
            0 => Codec::Lz4,
            1 => Codec::None,
            _ => Codec::Zstd(1),
        };
        let compaction = Compaction { codec, ..Compaction::default() };
        let mut steps = if self.random.one_in(4) { self.random.below(8) } else { u64::MAX };
        let mut progress = |_| {
            steps = steps.saturating_sub(1);
            if steps == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let report = match writer {
            Some(journal) => journal.compact(&compaction, &mut progress)?,
            None => compact_on(disk, Path::new(DIR), &compaction, &mut progress)?,
        };
        self.note(report.compacted);
        Ok(())
    }

    /// A compaction with no writer, up to its end.
    fn compaction(&mut self, disk: &SimulatedDisk) -> Result<Death, String> {
        let faults = disk.faults_left();
        match self.compact(disk, None) {
            Ok(()) | Err(Error::NoJournal { .. }) => {}
            Err(_) if !disk.has_power() || disk.faults_left() < faults => {}
            Err(error) => return Err(format!("I17: the journal can't be compacted: {error}")),
        }
        let end = if disk.has_power() { Death::Process } else { Death::Power };
        disk.turn_off();
        Ok(end)
    }

    fn note(&mut self, what: u64) {
        self.outcome.fingerprint = Random::new(self.outcome.fingerprint ^ what).next();
    }

    /// A life of a writer, up to its end.
    fn life(
        &mut self,
        disk: &SimulatedDisk,
        model: &mut Model,
        retention: Retention,
    ) -> Result<Death, String> {
        let death = |disk: &SimulatedDisk| if disk.has_power() { Death::Process } else { Death::Power };
        let faults = disk.faults_left();
        // Even an open that fails may have begun a new segment.
        model.is_closed = false;
        let interval = if self.random.one_in(3) { Duration::MAX / 4 } else { Duration::ZERO };
        let retains = retention.is_any();
        let journal = match open_retaining(disk, interval, retention) {
            Ok(journal) => journal,
            Err(_) if !disk.has_power() || disk.faults_left() < faults => {
                let end = death(disk);
                disk.turn_off();
                return Ok(end);
            }
            Err(error) => return Err(format!("I1: the journal can't be opened: {error}")),
        };
        let retired = retired_of(&journal);
        let last = model.check_behind(Some(&journal.reader()), retired)?;
        model.recovered(last);
        model.retired = retired;
        let epoch = journal.stats().epoch;
        if epoch <= model.epoch {
            return Err(format!("I6: epoch {epoch} was used before"));
        }
        model.epoch = epoch;
        self.note(last);
        for _ in 0..self.random.below(40) {
            if !self.operation(disk, &journal, model)? {
                break;
            }
        }
        let end = death(disk);
        if self.random.one_in(3) {
            if retains {
                // What is full then is retired by the close, after which nobody can be asked what that was.
                drop(journal.sync());
                model.retired = model.retired.max(retired_of(&journal));
            }
            if journal.close().is_ok() {
                model.acknowledged = model.emitted();
                model.marked = model.acknowledged;
                model.is_closed = true;
            }
            let end = death(disk);
            disk.turn_off();
            return Ok(end);
        }
        // The process dies: nothing that dropping the journal does may reach the disk.
        disk.turn_off();
        drop(journal);
        Ok(end)
    }

    /// One operation; whether the journal goes on.
    fn operation(
        &mut self,
        disk: &SimulatedDisk,
        journal: &Journal,
        model: &mut Model,
    ) -> Result<bool, String> {
        let faults = disk.faults_left();
        // What fails without a fault of the disk is a fault of ours.
        let excused = |what: &str, error: &Error| match disk.has_power() && disk.faults_left() == faults {
            true => Err(format!("I17: a {what} fails for no reason: {error}")),
            false => Ok(()),
        };
        let done = match self.random.below(10) {
            0..5 => {
                let payload = self.payload();
                let event = Event::new(EventType::FILESYSTEM_WRITE).payload(&payload);
                let emitted = journal.emit(&event);
                self.emitted(model, emitted.map(|id| id..id + 1), vec![payload])?
            }
            5 => {
                let payloads: Vec<_> = (0..1 + self.random.below(20)).map(|_| self.payload()).collect();
                let events: Vec<_> = payloads
                    .iter()
                    .map(|payload| Event::new(EventType::GRAPH_QUERY).payload(payload))
                    .collect();
                let emitted = journal.emit_batch(&events);
                self.emitted(model, emitted, payloads)?
            }
            6 if self.random.one_in(4) => {
                if let Err(error) = self.snapshot(journal, model) {
                    excused("snapshot", &error)?;
                    // The journal may be all right: what failed may have been about the snapshot alone. The sync that it
                    // begins with may have retired something.
                    model.retired = model.retired.max(retired_of(journal));
                    return Ok(false);
                }
                model.acknowledged = model.emitted();
                true
            }
            7 if self.random.one_in(3) => {
                // What failed was about the compaction alone, and may have been the only fault.
                let writer = self.random.one_in(2).then_some(journal);
                return match self.compact(disk, writer) {
                    Ok(()) => Ok(true),
                    Err(error) => excused("compaction", &error).map(|()| false),
                };
            }
            6..9 => journal.sync().map(|()| model.acknowledged = model.emitted()).is_ok(),
            _ => {
                let rotated = match self.random.below(4) {
                    3 => {
                        // What is there when it begins may go; what is emitted later is not there.
                        model.thinned = model.emitted();
                        let rule = ThinRule { keep_one_in: Some(KEEP_ONE_IN), ..ThinRule::default() };
                        if let Err(error) = journal.thin(&[rule]) {
                            excused("thinning", &error)?;
                            // As for a snapshot: what failed may have been about the new file alone.
                            model.retired = model.retired.max(retired_of(journal));
                            return Ok(false);
                        }
                        Ok(())
                    }
                    0 => match journal.retain(&segments(2 + self.random.below(3))) {
                        // What is needed could not be learned, and nothing was retired: the journal goes on.
                        Err(Error::Io { path, .. }) if path.ends_with("consumers") => journal.sync(),
                        retained => retained,
                    },
                    _ => journal.rotate(),
                };
                rotated.map(|()| model.acknowledged = model.emitted()).is_ok()
            }
        };
        // Said, and perhaps not yet on the disk.
        model.retired = model.retired.max(retired_of(journal));
        model.marked = model.marked.max(journal.stats().last_marked_id);
        if !done && (journal.sync().is_ok() || journal.emit(&Event::new(EventType::SYSTEM_SYNC)).is_ok()) {
            return Err("I10: something was acknowledged after a failure".into());
        }
        Ok(done)
    }

    fn emitted(
        &mut self,
        model: &mut Model,
        emitted: Result<Range<u64>, Error>,
        payloads: Vec<Vec<u8>>,
    ) -> Result<bool, String> {
        let ids = match emitted {
            Ok(ids) => ids,
            // Refused before anything happened.
            Err(Error::BatchTooLarge { .. }) => return Ok(true),
            Err(_) => return Ok(false),
        };
        let expected = model.emitted() + 1..model.emitted() + 1 + payloads.len() as u64;
        if ids != expected {
            return Err(format!("ids {ids:?} were given, {expected:?} are next"));
        }
        model.payloads.extend(payloads);
        model.batches.push(ids);
        model.is_closed = false;
        Ok(true)
    }

    fn payload(&mut self) -> Vec<u8> {
        let size = if self.random.one_in(8) { self.random.below(20_000) } else { self.random.below(300) };
        let mut random = Random::new(self.random.next());
        (0..size).map(|_| random.next() as u8).collect()
    }

    /// Checks a disk that a power cut left: what is there now, after recovery was cut short some times, and
    /// after a recovery that comes to its end.
    fn check(&mut self, disk: &SimulatedDisk, model: &Model, cuts_left: u32) -> Result<u64, String> {
        self.outcome.states += 1;
        let reader = read(disk)?;
        let last = model.check(reader.as_ref())?;
        let retired = reader.as_ref().and_then(|reader| reader.report().retired).map_or(0, retired_upto);
        self.note(last);
        let newest = reader.as_ref().and_then(|reader| reader.report().segments.last());
        if model.is_closed
            && newest.is_none_or(|s| s.header.is_none_or(|header| header.flags & FLAG_SEALED == 0))
        {
            return Err("the header of a closed journal is not final".into());
        }
        let tail = newest.and_then(|segment| {
            let tail = segment.tail?;
            let files = disk.files(Path::new(DIR));
            let (_, bytes) = files.into_iter().find(|(name, _)| *name == segment.name)?;
            bytes.get(tail.start..tail.end).map(<[u8]>::to_vec)
        });
        check_snapshot(disk, model)?;
        if let Some(reader) = reader
            && self.random.one_in(4)
        {
            self.damage(disk, model, &reader)?;
        }

        if cuts_left > 0 && self.random.one_in(2) {
            let faults = Faults { power_cut_at: Some(1 + self.random.below(40)), ..Faults::default() };
            disk.set_faults(self.faults(faults));
            drop(open(disk, Duration::ZERO));
            let again = self.cut(disk);
            again.set_faults(self.faults(Faults::default()));
            let settled = Model { acknowledged: last, is_closed: false, ..model.clone() };
            let after = self.check(&again, &settled, cuts_left - 1)?;
            return if after == last { Ok(last) } else { Err(format!("I4: {last} events, then {after}")) };
        }

        let journal = open(disk, Duration::ZERO)
            .map_err(|error| format!("I1: the journal can't be opened: {error}"))?;
        let recovered = model.check_behind(Some(&journal.reader()), retired_of(&journal))?;
        if (recovered, retired_of(&journal)) != (last, retired) {
            let found = retired_of(&journal);
            return Err(format!(
                "I4: a reader saw events {retired} to {last}, the writer {found} to {recovered}"
            ));
        }
        let left = disk.files(Path::new(DIR)).len();
        let report = journal.recovery();
        // The segments that are kept, the new one, and the watermark.
        if left != report.segments.len() + 2 {
            return Err(format!("I15: {left} files are left where {} should be", report.segments.len() + 2));
        }
        if journal.stats().epoch <= model.epoch {
            return Err(format!("I6: epoch {} was used before", journal.stats().epoch));
        }
        let mut after = model.clone();
        after.recovered(last);
        for _ in 0..self.random.below(4) {
            self.operation(disk, &journal, &mut after)?;
        }
        disk.turn_off();
        drop(journal);
        let crashed = self.cut(disk);
        after.check(read(&crashed)?.as_ref()).map_err(|what| format!("I5: after recovery: {what}"))?;
        let quarantined = crashed.files(&Path::new(DIR).join("quarantine"));
        if let Some(tail) = tail
            && !quarantined.iter().any(|(_, bytes)| *bytes == tail)
        {
            return Err(format!("I14: {} bytes behind the end are not in quarantine", tail.len()));
        }
        Ok(last)
    }

    /// I7: damages one bit, or takes one file away, and asks that it be noticed up to the watermark.
    fn damage(&mut self, disk: &SimulatedDisk, model: &Model, reader: &Reader) -> Result<(), String> {
        let Some(newest) = reader.report().segments.last() else { return Ok(()) };
        // Where the protected bytes end in the newest segment: behind the last event that is marked there.
        let marked = reader
            .records()
            .filter_map(Result::ok)
            .filter(|at| at.opening.segment_number == newest.number)
            .filter(|at| !at.record.is_control() && at.record.event_id() <= model.marked);
        let Some(last) = marked.last() else { return Ok(()) };
        let end = last.offset + last.record.bytes().len() as u64;
        let path = Path::new(DIR).join(&newest.name);
        let damaged = self.cut(disk);
        let what = if self.random.one_in(8) {
            damaged.lose(&path);
            "its newest segment is gone".to_owned()
        } else {
            // Of a compressed segment every byte counts.
            let files = damaged.files(Path::new(DIR));
            let file = files.iter().find(|(name, _)| *name == newest.name);
            let packed = file.filter(|(_, bytes)| {
                JournalHeader::parse(bytes).is_ok_and(|header| header.flags & FLAG_COMPRESSED != 0)
            });
            let end = packed.map_or(end, |(_, bytes)| bytes.len() as u64);
            let bit = self.random.below(end * 8);
            damaged.flip(&path, bit);
            format!("bit {bit} of {} is flipped, {end} bytes count", newest.name)
        };
        let open = |proof| Reader::open_on(&damaged, Path::new(DIR), OpenMode::Strict, proof);
        if open(Proof::Everything).is_ok() {
            return Err(format!("I7: {what}, and nobody notices"));
        }
        // What is not looked at when the journal is opened is looked at when it is read.
        match open(Proof::Newest) {
            Ok(reader) if reader.records().all(|record| record.is_ok()) => {
                Err(format!("I7: {what}, and a reader of all records does not notice"))
            }
            _ => Ok(()),
        }
    }
}
