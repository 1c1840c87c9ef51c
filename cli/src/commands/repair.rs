//! `semj repair`: makes a damaged journal a good one again, of what proves itself.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail};
use semj::format::journal_header::{FLAG_CUT, FLAG_SEALED};
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
    let found =
        output::watched("verifying", |progress| examine_journal_watched(&dir, OpenMode::Strict, progress))?;
    if found.is_whole() {
        print(args, &dir, &Repair { before: &found, after: &found, is_needed: false })?;
        return Ok(Outcome::Good);
    }
    let mode = if args.point_in_time { OpenMode::PointInTime } else { OpenMode::Salvage };
    let kept = if args.dry_run {
        output::watched("looking for what proves itself", |progress| {
            examine_journal_watched(&dir, mode, progress)
        })?
    } else {
        let options = Options { create_if_missing: false, mode, ..Options::default() };
        let journal =
            output::watched("repairing", |progress| Journal::open_watched(&dir, options, progress))?;
        let kept = journal.recovery().clone();
        journal.close()?;
        let now = output::watched("verifying", |progress| {
            examine_journal_watched(&dir, OpenMode::Strict, progress)
        })?;
        if !now.is_whole() {
            bail!("{}: still damaged: semj verify says where", dir.display());
        }
        kept
    };
    if kept.refusal().is_some() {
        // As the repair itself meets it.
        return Err(Error::Damaged { dir, report: Box::new(kept) }.into());
    }
    let repair = Repair { before: &found, after: &kept, is_needed: true };
    print(args, &dir, &repair)?;
    Ok(if repair.loses_anything() { Outcome::Incomplete } else { Outcome::Good })
}

/// What a journal was, and what is kept of it.
struct Repair<'a> {
    before: &'a Report,
    after: &'a Report,
    is_needed: bool,
}

impl Repair<'_> {
    /// The segments as they were found, each with whether it is kept.
    fn segments(&self) -> impl Iterator<Item = (&SegmentReport, bool)> {
        let kept = self.after.kept;
        let is_kept = move |place: usize, segment: &SegmentReport| place < kept && segment.opening.is_some();
        self.after.segments.iter().enumerate().map(move |(place, segment)| (segment, is_kept(place, segment)))
    }

    fn quarantined(&self) -> impl Iterator<Item = &SegmentReport> {
        self.segments().filter(|(_, is_kept)| !is_kept).map(|(segment, _)| segment)
    }

    /// The segments that are kept and were found damaged: damage that is on record already is not lost once more.
    fn mended(&self) -> impl Iterator<Item = &SegmentReport> {
        let kept = self.segments().filter(|(_, is_kept)| *is_kept).map(|(segment, _)| segment);
        kept.filter(|segment| self.was_damaged(&segment.name))
    }

    /// Whether this segment was found damaged, by its name.
    fn was_damaged(&self, name: &str) -> bool {
        self.before.segments.iter().any(|segment| segment.name == name && !segment.verdict.is_good())
    }

    /// Bytes of kept segments that are lost: those that are damaged, and those that are cut off.
    fn bytes_lost(&self) -> u64 {
        let extents =
            self.mended().flat_map(|segment| segment.damaged.iter().copied().chain(cut_off(segment)));
        extents.map(|extent| extent.size() as u64).sum()
    }

    fn loses_anything(&self) -> bool {
        self.before.is_gone()
            || self.bytes_lost() > 0
            || self.quarantined().next().is_some()
            || self.mended().any(|segment| segment.lost_before.is_some())
    }

    /// What happens to a segment, if anything does.
    fn lines(&self, segment: &SegmentReport, is_kept: bool) -> Vec<String> {
        if !is_kept {
            let fault = segment.fault.map_or_else(|| "behind the damage".into(), |fault| fault.to_string());
            return vec![format!("to quarantine: {fault}")];
        }
        let mut lines = Vec::new();
        if !self.was_damaged(&segment.name) {
            return lines;
        }
        if let Some(lost) = &segment.lost_before {
            lines.push(format!("kept; {}", output::lost_segment(lost)));
        }
        for damage in &segment.damaged {
            let (size, start) = (output::bytes(damage.size() as u64), damage.start);
            lines.push(format!("kept but for {size} at offset {start}"));
        }
        if let Some(tail) = cut_off(segment) {
            let (size, start) = (output::bytes(tail.size() as u64), tail.start);
            lines.push(format!("kept up to offset {start}; {size} behind it to quarantine"));
        }
        if lines.is_empty() {
            lines.push("restored".into());
        }
        lines
    }
}

/// What stands behind a segment's end and is cut off, though nobody was told that it may be lost.
fn cut_off(segment: &SegmentReport) -> Option<Extent> {
    let is_final = segment.header.is_some_and(|header| {
        header.flags & (FLAG_SEALED | FLAG_CUT) != 0 && header.journal_size == segment.end as u64
    });
    segment.tail.filter(|_| !is_final && segment.verdict != Verdict::TornTail)
}

fn print(args: &Args, dir: &Path, repair: &Repair<'_>) -> Result<()> {
    let is_done = repair.is_needed && !args.dry_run;
    if args.json {
        let mut value = output::report_json(repair.after);
        if let Some(fields) = value.as_object_mut() {
            let quarantined: Vec<_> = repair.quarantined().map(|segment| &segment.name).collect();
            fields.insert("journal".into(), output::path(dir));
            fields.insert("mode".into(), json!(if args.point_in_time { "point_in_time" } else { "salvage" }));
            fields.insert("dry_run".into(), json!(args.dry_run));
            fields.insert("was_whole".into(), json!(!repair.is_needed));
            fields.insert("is_repaired".into(), json!(is_done));
            fields.insert("bytes_lost".into(), json!(repair.bytes_lost()));
            fields.insert("quarantined".into(), json!(quarantined));
        }
        return output::print_json(&value);
    }
    if !repair.is_needed {
        let events = output::count(repair.after.events(), "event");
        return output::print_line(format_args!("{}: whole: {events}, nothing to repair", dir.display()));
    }
    let mut out = output::stdout();
    for (segment, is_kept) in repair.segments() {
        for line in repair.lines(segment, is_kept) {
            writeln!(out, "{}  {line}", segment.name)?;
        }
    }
    let kept = repair.segments().filter(|(_, is_kept)| *is_kept).count() as u64;
    let quarantined = repair.quarantined().count() as u64;
    writeln!(
        out,
        "{}: {}: {} in {} kept, {} of them lost, {} in quarantine",
        dir.display(),
        if is_done { "repaired" } else { "DAMAGED, not repaired yet" },
        output::count(repair.after.events(), "event"),
        output::count(kept, "segment"),
        output::bytes(repair.bytes_lost()),
        output::count(quarantined, "segment"),
    )?;
    Ok(out.flush()?)
}
