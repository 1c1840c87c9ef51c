//! `semj repair`: makes a damaged journal a good one again, of what proves itself.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use semj::recovery::Extent;
use semj::{Error, Journal, OpenMode, Options, Report, SegmentReport, Verdict, examine_journal_watched};
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::JournalArg;
use crate::output;

/// Keep of a damaged journal what proves itself, and write down what is lost.
///
/// Everything is kept that checksums and digests prove, before and behind damage. What is lost is recorded in the journal, so that
/// verify tells it from what is missing without a word. Nothing is deleted: files that have no place in the journal any more, and
/// bytes that are cut off, are in the directory's quarantine/ from then on. A journal that is whole is not touched. Status 3 if
/// anything is lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj repair ./journal --dry-run\n  semj repair ./journal")]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// Keep the journal up to the first damage only: what it was at that point in time, without any hole.
    #[arg(long)]
    point_in_time: bool,
    /// Only say what would be kept, and what is lost.
    #[arg(long)]
    dry_run: bool,
    /// Say what is kept, and what is lost, as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    let verified =
        || output::watched("verifying", |watch| examine_journal_watched(&dir, OpenMode::Strict, watch));
    let found = verified()?;
    if found.is_whole() {
        output::unless_closed(print(args, &dir, &found, None))?;
        return Ok(Outcome::Good);
    }
    // A copy that is for reading is not changed, and a dry run says so too.
    if dir.join(semj::UNRETIRED).exists() {
        return Err(Error::Unretired { dir }.into());
    }
    let mode = if args.point_in_time { OpenMode::PointInTime } else { OpenMode::Salvage };
    let (kept, now) = if args.dry_run {
        let examine = |watch: &_| examine_journal_watched(&dir, mode, watch);
        (output::watched("looking for what proves itself", examine)?, None)
    } else {
        let options = Options { create_if_missing: false, mode, ..Options::default() };
        let open = |watch: &_| Journal::open_watched(&dir, options, watch);
        let journal = output::watched("repairing", open)?;
        let kept = journal.recovery().clone();
        journal.close()?;
        let now = verified()?;
        if !now.is_whole() {
            bail!("{}: still damaged: semj verify says where", dir.display());
        }
        (kept, Some(now))
    };
    if kept.refusal().is_some() {
        // As the repair itself meets it.
        return Err(Error::Damaged { dir, report: Box::new(kept) }.into());
    }
    let repair = Repair::new(&found, &kept);
    output::unless_closed(print(args, &dir, now.as_ref().unwrap_or(&kept), Some(&repair)))?;
    Ok(if repair.loses_anything() { Outcome::Incomplete } else { Outcome::Good })
}

/// What is kept of a journal.
struct Repair<'a> {
    fates: Vec<Fate<'a>>,
    /// The newest segment, if it is not there at all: its number, and how many bytes it had.
    missing: Option<(u64, u64)>,
    events: u64,
}

/// What happens to a segment.
struct Fate<'a> {
    segment: &'a SegmentReport,
    is_kept: bool,
    /// What there is to say of it.
    lines: Vec<String>,
    bytes_lost: u64,
    loses_anything: bool,
}

impl<'a> Repair<'a> {
    /// By what the journal was found to be, and what is kept of it.
    fn new(before: &Report, after: &'a Report) -> Self {
        let fate = |(place, segment): (usize, &'a SegmentReport)| {
            Fate::new(before, segment, place < after.kept && segment.opening.is_some())
        };
        let is_missing = |number: u64| before.segments.iter().all(|segment| segment.number < number);
        let missing = before.own_mark().filter(|mark| is_missing(mark.segment_number));
        Self {
            fates: after.segments.iter().enumerate().map(fate).collect(),
            missing: missing.map(|mark| (mark.segment_number, mark.end)),
            events: after.events(),
        }
    }

    fn loses_anything(&self) -> bool {
        self.missing.is_some() || self.fates.iter().any(|fate| fate.loses_anything)
    }

    fn bytes_lost(&self) -> u64 {
        let missing = self.missing.map_or(0, |(_, bytes)| bytes);
        self.fates.iter().map(|fate| fate.bytes_lost).sum::<u64>() + missing
    }

    /// What was found and done, of which segment.
    fn findings(&self) -> impl Iterator<Item = (String, String)> + '_ {
        let of_fates = self
            .fates
            .iter()
            .flat_map(|fate| fate.lines.iter().map(|line| (fate.segment.name.clone(), line.clone())));
        of_fates.chain(self.missing.map(|(number, bytes)| {
            (format!("segment {number}"), format!("not there: {} lost", output::bytes(bytes)))
        }))
    }

    fn quarantined(&self) -> impl Iterator<Item = &Fate<'a>> {
        self.fates.iter().filter(|fate| !fate.is_kept)
    }
}

impl<'a> Fate<'a> {
    /// By what the journal was found to be.
    fn new(journal: &Report, segment: &'a SegmentReport, is_kept: bool) -> Self {
        let mut fate = Self { segment, is_kept, lines: Vec::new(), bytes_lost: 0, loses_anything: false };
        if !is_kept {
            let fault = segment.fault.map_or_else(|| "behind the damage".into(), |fault| fault.to_string());
            let size = size_in_quarantine(segment);
            fate.lose(size, format!("to quarantine, {}: {fault}", output::bytes(size)));
            return fate;
        }
        // Damage that is on record already is not lost once more.
        let before = journal.segments.iter().find(|before| before.name == segment.name);
        let Some(before) = before.filter(|before| !before.verdict.is_good()) else { return fate };
        if let Some(lost) = segment.lost_before.filter(|_| before.lost_before.is_none()) {
            fate.lose(lost.length, format!("kept; {}", output::lost_segment(&lost)));
        }
        let is_new = |damage: &&Extent| !journal.is_on_record(segment.number, damage);
        for damage in segment.damaged.iter().filter(is_new) {
            let size = damage.size() as u64;
            fate.lose(size, format!("kept but for {} at offset {}", output::bytes(size), damage.start));
        }
        if let Some(tail) = cut_off(segment) {
            let (size, start) = (tail.size() as u64, tail.start);
            let behind = output::bytes(size);
            fate.lose(size, format!("kept up to offset {start}; {behind} behind it to quarantine"));
        }
        match (segment.verdict.is_good(), &segment.fault) {
            _ if fate.loses_anything => {}
            // What it lacks is not there at all.
            (false, Some(fault)) => {
                let mark = journal.own_mark().filter(|mark| mark.segment_number == segment.number);
                let end = mark.map_or(0, |mark| mark.end);
                fate.lose(end.saturating_sub(segment.original_end()), format!("kept; {fault}"));
            }
            _ if before.opening.is_none() => fate.lines.push("kept, and nothing of it is lost".into()),
            // It was only held against another one that is damaged.
            _ => {}
        }
        fate
    }

    fn lose(&mut self, bytes: u64, line: String) {
        self.lines.push(line);
        self.bytes_lost += bytes;
        self.loses_anything = true;
    }
}

/// Bytes of a segment that goes to quarantine as a whole, without the zeros that nothing was written to yet.
fn size_in_quarantine(segment: &SegmentReport) -> u64 {
    let end = segment.tail.map_or(segment.end, |tail| tail.end);
    let said = segment.header.map_or(0, |header| header.journal_size);
    match segment.opening {
        Some(_) => (end as u64).max(said).min(segment.file_size as u64),
        None => segment.file_size as u64,
    }
}

/// What stands behind a segment's end and is cut off, though nobody was told that it may be lost.
fn cut_off(segment: &SegmentReport) -> Option<Extent> {
    segment.tail.filter(|_| !segment.is_final() && segment.verdict != Verdict::TornTail)
}

/// Says what was, or would be, done; `report` is of the journal as it is then.
fn print(args: &Args, dir: &Path, report: &Report, repair: Option<&Repair<'_>>) -> Result<()> {
    let is_done = repair.is_some() && !args.dry_run;
    if args.json {
        let mut value = output::report_json(report);
        if let Some(fields) = value.as_object_mut() {
            let fates = || repair.into_iter().flat_map(|repair| &repair.fates);
            let quarantined = fates().filter(|fate| !fate.is_kept).map(|fate| &fate.segment.name);
            let findings = repair.into_iter().flat_map(Repair::findings);
            let findings = findings.map(|(segment, what)| json!({ "segment": segment, "what": what }));
            fields.insert("journal".into(), output::path(dir));
            fields.insert("mode".into(), json!(if args.point_in_time { "point_in_time" } else { "salvage" }));
            fields.insert("dry_run".into(), json!(args.dry_run));
            fields.insert("was_whole".into(), json!(repair.is_none()));
            fields.insert("is_repaired".into(), json!(is_done));
            fields.insert("bytes_lost".into(), json!(repair.map_or(0, Repair::bytes_lost)));
            fields.insert("quarantined".into(), quarantined.cloned().collect());
            fields.insert("findings".into(), findings.collect());
        }
        return output::print_json(&value);
    }
    let Some(repair) = repair else {
        let events = output::count(report.events(), "event");
        return output::print_line(format_args!("{}: whole: {events}, nothing to repair", dir.display()));
    };
    let mut out = output::stdout();
    for (segment, what) in repair.findings() {
        writeln!(out, "{segment}  {what}")?;
    }
    let quarantined = repair.quarantined().count() as u64;
    writeln!(
        out,
        "{}: {}: {} in {} kept, {} lost, {} in quarantine",
        dir.display(),
        if is_done { "repaired" } else { "DAMAGED, not repaired yet" },
        output::count(repair.events, "event"),
        output::count(repair.fates.len() as u64 - quarantined, "segment"),
        output::bytes(repair.bytes_lost()),
        output::count(quarantined, "segment"),
    )?;
    Ok(out.flush()?)
}
