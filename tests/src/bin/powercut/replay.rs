//! Puts the disks on the table that power cuts may have left, and recovers and checks the journal on each.

use std::fs::{self, File};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use semj::{Error, Journal, OpenMode, Reader};
use semj_tests::random::Random;

use crate::device::Bench;
use crate::history::{Expected, Life, Note, Noted};
use crate::image::{Content, Device, PowerCut, read_content, write_content};
use crate::recording::{JOURNAL, Recording, Request};

/// One in so many states has its recovery recorded, and cut in its turn.
const RECORDED_ONE_IN: u64 = 50;
/// Power cuts in such a recovery.
const CUTS_OF_A_RECOVERY: u64 = 5;
/// One in so many states loses power again after its recovery.
const SECOND_CUT_ONE_IN: u64 = 4;

/// What replaying came to.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Crash states that were mounted, recovered and checked.
    pub(crate) states: u64,
    /// Those of them in which something was behind the last flush.
    pub(crate) torn: u64,
    /// Those of them that followed a recovery: the device as it was at that moment.
    pub(crate) after_recovery: u64,
    /// Those of them that cut a recovery short, by its own log.
    pub(crate) in_recovery: u64,
    pub(crate) violations: Vec<Violation>,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.torn += other.torn;
        self.after_recovery += other.after_recovery;
        self.in_recovery += other.in_recovery;
        self.violations.extend(other.violations);
    }
}

/// A state in which something did not hold.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) recording: PathBuf,
    pub(crate) state: u64,
    pub(crate) what: String,
}

/// Checks states of a recording, `jobs` at a time.
pub(crate) fn replay(
    recording: &Recording,
    states: impl Iterator<Item = u64>,
    scratch: &Path,
    jobs: usize,
    is_recursive: bool,
) -> Result<Outcome> {
    let states = in_order_of_cuts(recording, states);
    let share = states.len().div_ceil(jobs).max(1);
    thread::scope(|scope| {
        let workers: Vec<_> = states
            .chunks(share)
            .enumerate()
            .map(|(number, states)| {
                let scratch = scratch.join(format!("worker-{number}"));
                scope.spawn(move || Worker::new(&scratch, recording)?.run(recording, states, is_recursive))
            })
            .collect();
        let mut outcome = Outcome::default();
        for worker in workers {
            outcome += worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(outcome)
    })
}

/// A device only grows: states with early cuts come first.
fn in_order_of_cuts(recording: &Recording, states: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut states: Vec<_> = states.collect();
    states.sort_by_cached_key(|number| PowerCut::new(recording.cut_seed, *number, &recording.log).entries);
    states
}

struct Worker {
    scratch: PathBuf,
    first: Bench,
    /// Takes what a second power cut leaves.
    second: Bench,
}

/// What a check leaves for others.
struct Checked {
    /// The last event that a reader saw, before anything was changed.
    last: u64,
    /// The device at a moment after recovery, and what must be there.
    later: Option<(Content, Expected)>,
}

impl Worker {
    fn new(scratch: &Path, recording: &Recording) -> Result<Self> {
        let bench = |name: &str| Bench::new(&scratch.join(name), recording.file_system);
        Ok(Self { scratch: scratch.to_owned(), first: bench("first")?, second: bench("second")? })
    }

    fn run(&self, recording: &Recording, states: &[u64], is_recursive: bool) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut device = Device::read(&File::open(Recording::base(&recording.dir))?)?;
        for &number in states {
            if let Err(error) = self.state(recording, &mut device, number, is_recursive, &mut outcome)? {
                let what = format!("{error:#}");
                outcome.violations.push(Violation { recording: recording.dir.clone(), state: number, what });
            }
        }
        Ok(outcome)
    }

    /// Checks a state, and what is made of it. The inner error is one that the state has.
    fn state(
        &self,
        recording: &Recording,
        device: &mut Device,
        number: u64,
        is_recursive: bool,
        outcome: &mut Outcome,
    ) -> Result<Result<()>> {
        let Recording { log, data, .. } = recording;
        let cut = PowerCut::new(recording.cut_seed, number, log);
        cut.write_to(&self.first.image, device, log, data)?;
        outcome.states += 1;
        outcome.torn += u64::from(cut.durable(log) < cut.entries);
        let expected = recording.model.at(cut.entries as u64);
        let mut random = Random::new(recording.cut_seed.rotate_left(32) ^ number);
        let next_life = expected.next_life;
        let is_cut_again = random.one_in(SECOND_CUT_ONE_IN);
        let is_recorded = random.one_in(RECORDED_ONE_IN);
        let checked = check(&self.first, recording, expected, &mut random, is_cut_again)?;
        let Checked { last, later } = match checked {
            Ok(checked) => checked,
            Err(error) => return Ok(Err(error)),
        };
        if let Some((content, expected)) = later {
            outcome.states += 1;
            outcome.after_recovery += 1;
            write_content(&self.second.image, self.second.size(), &content)?;
            if let Err(error) = check(&self.second, recording, expected, &mut random, false)? {
                write_content(
                    &File::create(recording.dir.join(format!("after-recovery-{number}")))?,
                    self.second.size(),
                    &content,
                )?;
                return Ok(Err(error.context("I5: when power fails after recovery")));
            }
        }
        if is_recursive && is_recorded {
            let history = recording.dir.file_name().unwrap_or_default();
            let dir = self.scratch.join(history).join(format!("recovery-{number}"));
            fs::create_dir_all(&dir)?;
            cut.write_to(&File::create_new(Recording::base(&dir))?, device, log, data)?;
            let mut notes = recording.model.notes_up_to(cut.entries as u64);
            notes.push(Noted { entries: 0, note: Note::Found { last } });
            let request = Request {
                file_system: recording.file_system,
                seed: recording.seed,
                cut_seed: random.next(),
                lives: next_life..next_life + 2,
                operations: 1..12,
                is_early: false,
                notes,
            };
            let recovery = match Recording::make(&dir, &request) {
                Ok(recovery) => recovery,
                Err(error) => return Ok(Err(error.context("while its recovery was recorded"))),
            };
            let states = in_order_of_cuts(&recovery, 0..CUTS_OF_A_RECOVERY);
            let cuts = self.run(&recovery, &states, false)?;
            outcome.in_recovery += cuts.states;
            let is_clean = cuts.violations.is_empty();
            *outcome += cuts;
            if is_clean {
                fs::remove_dir_all(&dir)?;
            }
        }
        Ok(Ok(()))
    }
}

/// Mounts an image and checks the journal in it. The inner error is one that the image has.
fn check(
    bench: &Bench,
    recording: &Recording,
    expected: Expected,
    random: &mut Random,
    is_cut_again: bool,
) -> Result<Result<Checked>> {
    let mount = match bench.mount(recording.file_system) {
        Ok(mount) => mount,
        Err(error) => return Ok(Err(error)),
    };
    let cut_again = || content_at_one_moment(&bench.image);
    let checked = check_journal(
        &bench.target.join(JOURNAL),
        expected,
        random,
        is_cut_again.then_some(&cut_again as &dyn Fn() -> Result<Content>),
    );
    mount.unmount()?;
    Ok(checked)
}

/// What has reached the device by now. Nobody syncs meanwhile, but the kernel may write what it likes at any
/// time; so it is looked at again until it is the same twice.
fn content_at_one_moment(image: &File) -> Result<Content> {
    let mut content = read_content(image)?;
    loop {
        let again = read_content(image)?;
        if again == content {
            return Ok(content);
        }
        content = again;
    }
}

fn open(life: &Life, dir: &Path) -> Result<Journal> {
    life.open(dir).context("I1: the journal can't be opened")
}

/// Checks a journal on a disk that a power cut left; goes on with it, and ends with a second power cut or a close.
fn check_journal(
    dir: &Path,
    mut expected: Expected,
    random: &mut Random,
    cut_again: Option<&dyn Fn() -> Result<Content>>,
) -> Result<Checked> {
    let last = {
        let reader = match Reader::open(dir, OpenMode::Strict) {
            Ok(reader) => Some(reader),
            Err(Error::NoJournal { .. }) => None,
            Err(Error::Io { .. }) if !dir.exists() => None,
            Err(error) => return Err(error).context("I1: the journal can't be read"),
        };
        expected.check(reader.as_ref())?
    };
    let number = expected.next_life;
    let life = Life::new(random.next(), number, random.below(8));
    let journal = open(&life, dir)?;
    let recovered = expected.check(Some(&journal.reader()))?;
    ensure!(recovered == last, "I4: a reader saw {last} events, the writer {recovered}");
    expected.settle(last);
    expected.begin(number, &life);
    life.run(&journal, false, |last| {
        expected.acknowledged = last;
        Ok(())
    })
    .context("the recovered journal can't be written to")?;
    if let Some(cut_again) = cut_again {
        let content = cut_again()?;
        drop(journal);
        return Ok(Checked { last, later: Some((content, expected)) });
    }
    let emitted = journal.close().context("the recovered journal can't be closed")?.last_emitted_id;
    expected.settle(emitted);
    let journal = open(&life, dir).context("again")?;
    ensure!(journal.recovery().is_closed(), "I4: the journal was closed, and is found not to be");
    let again = expected.check(Some(&journal.reader())).context("I4: opened again")?;
    ensure!(again == emitted, "I4: {emitted} events, then {again}");
    journal.close().context("the journal can't be closed again")?;
    Ok(Checked { last, later: None })
}

/// Checks one state, and says what it is. The image goes to `image` first, if that is given.
pub(crate) fn show(
    recording: &Recording,
    number: u64,
    scratch: &Path,
    image: Option<&Path>,
) -> Result<Outcome> {
    let cut = PowerCut::new(recording.cut_seed, number, &recording.log);
    let durable = cut.durable(&recording.log);
    let survivors = cut.survivors(&recording.log, &recording.data);
    let expected = recording.model.at(cut.entries as u64);
    println!(
        "state {number}: {} of {} entries, {durable} of them up to the last flush; {} parts of later writes \
         survive; {} events were acknowledged",
        cut.entries,
        recording.log.len(),
        survivors.len(),
        expected.acknowledged,
    );
    for (offset, bytes) in survivors {
        println!("  survives: {} bytes at {offset}", bytes.len());
    }
    if let Some(path) = image {
        let mut device = Device::read(&File::open(Recording::base(&recording.dir))?)?;
        cut.write_to(&File::create(path)?, &mut device, &recording.log, &recording.data)?;
    }
    replay(recording, std::iter::once(number), scratch, 1, true)
}
