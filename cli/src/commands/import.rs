//! `semj import`: events from a file into a journal.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use indicatif::ProgressBar;
use semj::format::{CausalityLink, EventHeader, JournalHeader, SegmentOpen};
use semj::recovery::Scanner;
use semj::{Draft, EventType, Journal, OpenMode, Options, Query, Reader, Record, Stats};
use semj_interchange::InputKind;
use semj_interchange::json::JsonEvent;
use semj_interchange::kernel::KernelJournal;
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::JournalOption;
use crate::output::{self, Unit};
use crate::source::{Pace, Source};
use crate::whole::Whole;

/// Import events into a journal.
///
/// FILE holds JSON lines, or is a journal in the kernel's format or a segment of a journal; each may be compressed with zstd. What it
/// is is seen from its content. Events that bring an id keep it; ids must increase, or --new-ids gives others. They keep their times too, which are those
/// of the machine that they come from: ages and --since go by the journal's own clock. A line may have a date in place of the time,
/// wall_clock_ns in place of ktime_ns. When all are in, they are synced, the journal is closed, and what was written is verified.
///
/// What comes through a pipe can be read and followed as it comes. Ctrl-C or SIGTERM ends the input: what was read up to there is
/// kept, and the status is 3.
///
/// docs/json-lines.md has all fields of a line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj import events.jsonl.zst --journal ./journal\n  zstdcat events.jsonl.zst | semj import - -j ./journal --skip-bad"
)]
pub(crate) struct Args {
    /// The file, or - for standard input.
    #[arg(value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    journal: JournalOption,
    /// Give all events new ids, behind those that the journal has. What names an event of the same import as its parent, root
    /// cause or cause names it by its new id then; other ids stay as they are.
    #[arg(long)]
    new_ids: bool,
    /// Go on behind a line that is no event, and count them.
    #[arg(long)]
    skip_bad: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What was done so far.
#[derive(Default)]
struct Tally {
    events: u64,
    by_type: BTreeMap<EventType, u64>,
    skipped: u64,
    /// Time spent in the journal, apart from reading and parsing.
    journal_time: Duration,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let pace = Pace::default();
    let mut input =
        Input::open(args, &pace).with_context(|| format!("{}: can't read", args.input.display()))?;
    let dir = &args.journal.dir();
    let journal = Journal::open(dir, Options::default())?;
    pace.end_by_signals()?;
    let before = journal.stats().last_emitted_id;
    let tally = Tally::default();
    let mut import = Import {
        args,
        journal: &journal,
        tally,
        bar: input.progress(),
        pace: pace.clone(),
        opening: None,
        next_id: before + 1,
        new_ids: HashMap::new(),
    };
    let started = Instant::now();
    let result = match input.kind {
        InputKind::Kernel => import.kernel(&mut input.reader, input.is_plain),
        InputKind::Json | InputKind::Zstd => import.json_lines(&mut input.reader),
    };
    import.bar.finish_and_clear();
    let Import { mut tally, .. } = import;

    // Whatever came before a bad line is kept.
    let closing = Instant::now();
    let synced = journal.sync();
    let durable = journal.stats().last_durable_id;
    let closed = synced.and_then(|()| journal.close());
    tally.journal_time += closing.elapsed();
    let elapsed = started.elapsed();
    pace.has_ended();
    let stats = match (result, closed) {
        (Ok(()), Ok(stats)) => stats,
        (Err(error), Ok(_)) => {
            output::say(format_args!("{}: kept in {}", output::count(tally.events, "event"), dir.display()));
            return Err(error);
        }
        (result, Err(error)) => {
            output::say(format_args!("{}: kept, up to id {durable}", dir.display()));
            return Err(result.err().unwrap_or_else(|| error.into()));
        }
    };

    let verifying = Instant::now();
    let reader = Reader::open(dir, OpenMode::Strict).with_context(|| {
        format!("{} kept, in a journal that does not verify", output::count(tally.events, "event"))
    })?;
    let report = reader.report();
    let verify_time = verifying.elapsed();
    let verified_bytes: u64 = report.segments.iter().map(|segment| segment.end as u64).sum();
    let present = reader.iter(before + 1..).try_fold(0u64, |count, record| record.map(|_| count + 1))?;
    // Of what was imported the oldest may be retired by now.
    let is_retired = report.retired.is_some_and(|retired| retired.last_event_id > before);
    let is_there = if is_retired { present <= tally.events } else { present == tally.events };
    if report.tip.map(|tip| tip.digest) != Some(stats.digest) || !is_there {
        bail!("{}: what was read back is not what was written", dir.display());
    }

    let verified =
        Verified { segments: report.segments.len() as u64, bytes: verified_bytes, time: verify_time };
    output::unless_closed(print(args, dir, &tally, &stats, elapsed, &verified))?;
    if tally.skipped > 0 {
        output::say(format_args!("{} skipped", output::count(tally.skipped, "bad line")));
    }
    if pace.is_cut() {
        output::say("ended by a signal: what comes behind that was not read");
    }
    Ok(if tally.skipped > 0 || pace.is_cut() { Outcome::Incomplete } else { Outcome::Good })
}

/// What was read back, and in what time.
struct Verified {
    segments: u64,
    bytes: u64,
    time: Duration,
}

fn print(
    args: &Args,
    dir: &Path,
    tally: &Tally,
    stats: &Stats,
    elapsed: Duration,
    verified: &Verified,
) -> Result<()> {
    if args.json {
        return output::print_json(&json!({
            "journal": output::path(dir),
            "events": tally.events,
            "skipped": tally.skipped,
            "by_type": tally.by_type.iter().map(|(t, n)| (t.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
            "bytes_written": stats.bytes_written,
            "commits": stats.commits,
            "last_event_id": stats.last_durable_id,
            "segments": stats.segments,
            "elapsed_s": elapsed.as_secs_f64(),
            "events_per_s": output::rate(tally.events, elapsed),
            "journal_events_per_s": output::rate(tally.events, tally.journal_time),
            "verified_bytes": verified.bytes,
            "verified_bytes_per_s": output::rate(verified.bytes, verified.time),
            "digest": stats.digest.to_string(),
        }));
    }
    let mut out = output::stdout();
    let mut types: Vec<_> = tally.by_type.iter().collect();
    types.sort_by_key(|(event_type, number)| (std::cmp::Reverse(**number), **event_type));
    for (event_type, number) in types {
        writeln!(out, "{:>12}  {event_type}", output::grouped(*number))?;
    }
    writeln!(out, "{:>12}  events, ids up to {}", output::grouped(tally.events), stats.last_durable_id)?;
    writeln!(out)?;
    writeln!(
        out,
        "written   {} in {} to {}",
        output::bytes(stats.bytes_written),
        output::count(stats.commits, "commit"),
        dir.display()
    )?;
    writeln!(
        out,
        "rate      {} events/s; {} events/s without reading and parsing, syncs included",
        output::grouped(output::rate(tally.events, elapsed)),
        output::grouped(output::rate(tally.events, tally.journal_time))
    )?;
    writeln!(
        out,
        "verified  {} in {} at {}/s: whole, closed",
        output::bytes(verified.bytes),
        output::count(verified.segments, "segment"),
        output::bytes(output::rate(verified.bytes, verified.time))
    )?;
    writeln!(out, "digest    {}", stats.digest)?;
    Ok(out.flush()?)
}

/// The input, decompressed where it was compressed.
struct Input {
    reader: Box<dyn BufRead>,
    /// What it is, behind the compression.
    kind: InputKind,
    /// Whether it is a file that was not compressed.
    is_plain: bool,
    /// Bytes of the file, before decompression.
    size: Option<u64>,
    bar: ProgressBar,
}

impl Input {
    fn open(args: &Args, pace: &Pace) -> Result<Self> {
        let (file, size) = if args.input.as_os_str() == "-" {
            (File::from(io::stdin().as_fd().try_clone_to_owned()?), None)
        } else {
            let file = File::open(&args.input)?;
            let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
            (file, size)
        };
        let bar = output::progress(size, Unit::Bytes).with_message("importing");
        let source = Source::new(file, pace.clone());
        let reader = BufReader::with_capacity(256 << 10, bar.wrap_read(source));
        let (kind, plain) = InputKind::probe(reader)?;
        if kind != InputKind::Zstd {
            return Ok(Self { reader: Box::new(plain), kind, is_plain: size.is_some(), size, bar });
        }
        let decoder = BufReader::with_capacity(256 << 10, zstd::Decoder::with_buffer(plain)?);
        let (kind, plain) = InputKind::probe(decoder)?;
        Ok(Self { reader: Box::new(plain), kind, is_plain: false, size, bar })
    }

    fn progress(&self) -> ProgressBar {
        if self.size.is_none() {
            self.bar.set_message("importing from standard input");
        }
        self.bar.clone()
    }
}

/// Passes over the rest of a line.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let (size, is_done) = (end.map_or(bytes.len(), |end| end + 1), end.is_some() || bytes.is_empty());
        reader.consume(size);
        if is_done {
            return Ok(());
        }
    }
}

struct Import<'a> {
    args: &'a Args,
    journal: &'a Journal,
    tally: Tally,
    bar: ProgressBar,
    pace: Pace,
    /// Of the segment that is written: its clocks are those by which dates are read again.
    opening: Option<SegmentOpen>,
    /// The id that the next event gets.
    next_id: u64,
    /// The ids that events have got in place of their own.
    new_ids: HashMap<u64, u64>,
}

/// Bytes of a line at most: the largest record, each byte of which is escaped by six, has fewer than 1 MiB.
const LINE_SIZE_MAX: u64 = 4 << 20;
/// Lines that are parsed before they are handed to the journal together, so that the two can be timed apart.
const LINES_AT_ONCE: usize = 1024;
/// And bytes of them, but for the last one.
const BYTES_AT_ONCE: usize = 4 << 20;
/// And how long the first of them waits for the others.
const TIME_AT_ONCE: Duration = Duration::from_millis(100);

impl Import<'_> {
    fn json_lines(&mut self, reader: &mut dyn BufRead) -> Result<()> {
        let mut lines = vec![Vec::new(); LINES_AT_ONCE];
        // The beginning of a line of which the rest has not come yet.
        let mut begun = Vec::new();
        let mut line_number = 0;
        loop {
            let mut filled = 0;
            let mut bytes = 0;
            let mut read = Ok(());
            let mut is_too_long = false;
            let mut is_at_end = false;
            let mut first = None;
            for line in &mut lines {
                if bytes >= BYTES_AT_ONCE
                    || first.is_some_and(|first: Instant| first.elapsed() > TIME_AT_ONCE)
                {
                    break;
                }
                line.clear();
                line.shrink_to(BYTES_AT_ONCE / LINES_AT_ONCE);
                line.append(&mut begun);
                self.pace.has_lines(filled > 0);
                let most = LINE_SIZE_MAX - line.len() as u64;
                match (&mut *reader).take(most).read_until(b'\n', line) {
                    // What a signal has cut off is no line.
                    Ok(_) if line.is_empty() || self.pace.is_cut() && !line.ends_with(b"\n") => {
                        is_at_end = true;
                        break;
                    }
                    // Nor is a frame that ends there a damaged one.
                    Err(_) if self.pace.is_cut() => {
                        is_at_end = true;
                        break;
                    }
                    Ok(_) if line.len() as u64 == LINE_SIZE_MAX && !line.ends_with(b"\n") => {
                        is_too_long = true;
                        break;
                    }
                    Ok(_) => {
                        bytes += line.len();
                        filled += 1;
                        first.get_or_insert_with(Instant::now);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        begun = std::mem::take(line);
                        break;
                    }
                    // The lines before it are good all the same.
                    Err(error) => {
                        read = Err(error);
                        break;
                    }
                }
            }
            self.pace.has_lines(false);
            let zero_ns = self.zero_ns()?;
            let parse = |line| match zero_ns {
                Some(zero_ns) => JsonEvent::parse_dated(line, zero_ns),
                None => JsonEvent::parse(line),
            };
            let parsed: Vec<_> = lines
                .iter()
                .take(filled)
                .map(|line| line.trim_ascii())
                .map(|line| (!line.is_empty()).then(|| parse(line)))
                .collect();
            let importing = Instant::now();
            for parsed in parsed {
                line_number += 1;
                let Some(parsed) = parsed else { continue };
                let imported = match &parsed {
                    Ok(event) => self.import(&event.draft()),
                    Err(error) => Err(anyhow::anyhow!("{error}")),
                };
                self.bad(imported, || format!("{}:{line_number}", self.args.input.display()))?;
            }
            self.tally.journal_time += importing.elapsed();
            read.with_context(|| format!("{}:{}: can't read", self.args.input.display(), line_number + 1))?;
            if is_too_long {
                line_number += 1;
                let error = Err(anyhow::anyhow!("the line is longer than any event can be"));
                self.bad(error, || format!("{}:{line_number}", self.args.input.display()))?;
                skip_line(reader).with_context(|| format!("{}: can't read", self.args.input.display()))?;
            } else if is_at_end {
                return Ok(());
            }
        }
    }

    /// What the wall clock showed when the monotonic one began, or would have shown.
    fn zero_ns(&mut self) -> Result<Option<i64>> {
        let number = self.journal.stats().segment_number;
        if self.opening.is_none_or(|opening| opening.segment_number != number) {
            let last = Query::new().control().reverse().limit(1);
            let reader = self.journal.reader();
            let last = reader.query(&last).next_located().transpose()?;
            self.opening = last.map(|located| *located.opening);
        }
        Ok(self.opening.map(|opening| opening.wall_clock_of(0)))
    }

    /// Lets a good result pass; reports a bad one, or makes it the command's error.
    fn bad(&mut self, imported: Result<()>, place: impl Fn() -> String) -> Result<()> {
        let Err(error) = imported else { return Ok(()) };
        let error = match error.downcast_ref() {
            Some(semj::Error::IdOrder { .. }) => error.context("--new-ids gives events other ids"),
            _ => error,
        };
        // What the journal itself failed at is no fault of the line.
        if !self.args.skip_bad || matches!(error.downcast_ref(), Some(semj::Error::Poisoned { .. })) {
            return Err(error.context(place()));
        }
        self.tally.skipped += 1;
        let error = output::with_causes(&error);
        self.bar.suspend(|| output::say(format_args!("{}: {error}: skipped", place())));
        Ok(())
    }

    fn import(&mut self, draft: &Draft<'_>) -> Result<()> {
        if self.args.new_ids {
            self.import_anew(draft)?;
        } else {
            self.journal.import(draft)?;
        }
        self.tally.events += 1;
        *self.tally.by_type.entry(EventType(draft.header.event_type)).or_default() += 1;
        Ok(())
    }

    /// Imports an event with the next id.
    fn import_anew(&mut self, draft: &Draft<'_>) -> Result<()> {
        let own = draft.header.event_id;
        let next = self.next_id;
        let renamed = |id: u64| match self.new_ids.get(&id) {
            _ if id == own && own != 0 => next,
            Some(new) => *new,
            None => id,
        };
        // What is the event's own id anyway, the journal gives.
        let unless_own = |id: u64| if id == own { 0 } else { id };
        let header = EventHeader {
            event_id: 0,
            sequence: unless_own(draft.header.sequence),
            global_sequence: unless_own(draft.header.global_sequence),
            local_sequence: unless_own(draft.header.local_sequence),
            parent_event_id: renamed(draft.header.parent_event_id),
            root_cause_event_id: renamed(draft.header.root_cause_event_id),
            ..draft.header
        };
        let links: Vec<_> = draft
            .links
            .iter()
            .map(|link| CausalityLink {
                cause_event_id: renamed(link.cause_event_id),
                effect_event_id: renamed(link.effect_event_id),
                ..*link
            })
            .collect();
        let new = self.journal.import(&Draft { header, links: &links, ..*draft })?;
        self.next_id = new + 1;
        if own != 0 {
            self.new_ids.insert(own, new);
        }
        Ok(())
    }

    fn kernel(&mut self, reader: &mut dyn BufRead, is_plain: bool) -> Result<()> {
        let name = self.args.input.display().to_string();
        let whole = if is_plain { Whole::map(&self.args.input) } else { Whole::read(reader) };
        if self.pace.is_cut() {
            // What has come of it is no journal.
            return Ok(());
        }
        let whole = whole.with_context(|| format!("{name}: can't read"))?;
        let imported = self.whole(&name, &whole);
        // What is gone of a file looks like damage, and is another matter.
        whole.check().with_context(|| name.clone())?;
        imported
    }

    fn whole(&mut self, name: &str, whole: &Whole) -> Result<()> {
        let bytes = whole.native().with_context(|| name.to_owned())?;
        if let Ok(mut segment) = Scanner::new(&bytes, 0) {
            return self.segment(name, &mut segment);
        }
        let journal = KernelJournal::parse(&bytes).with_context(|| name.to_owned())?;
        for record in journal.records() {
            if self.pace.cuts() {
                break;
            }
            // Behind a record that is no record nothing says where the next one begins, so there is no
            // skipping here.
            let (offset, record) = record.with_context(|| name.to_owned())?;
            let imported = self.import_record(&record);
            self.bad(imported, || format!("{name}: offset {offset}"))?;
        }
        Ok(())
    }

    /// A segment of another journal: its events are those that a commit covers.
    fn segment(&mut self, name: &str, segment: &mut Scanner<'_>) -> Result<()> {
        while let Some(group) = segment.next_group() {
            if self.pace.cuts() {
                return Ok(());
            }
            let mut events: Vec<_> = group.records().filter(|(_, record)| !record.is_control()).collect();
            // Where a group is ordered by priority, they stand in another order than that of the ids.
            events.sort_by_key(|(_, record)| record.event_id());
            for (offset, record) in events {
                let imported = self.import_record(&record);
                self.bad(imported, || format!("{name}: offset {offset}"))?;
            }
        }
        match segment.end().and_then(|end| end.fault()) {
            Some(fault) if segment.offset() > JournalHeader::SIZE => {
                self.bad(Err(anyhow::anyhow!("{fault}")), || name.to_owned())
            }
            Some(fault) => Err(anyhow::anyhow!("{fault}").context(name.to_owned())),
            None => Ok(()),
        }
    }

    fn import_record(&mut self, record: &Record<'_>) -> Result<()> {
        let importing = Instant::now();
        let links: Vec<_> = record.links().collect();
        let imported = self.import(&Draft::of_record(record, &links));
        self.tally.journal_time += importing.elapsed();
        imported
    }
}
