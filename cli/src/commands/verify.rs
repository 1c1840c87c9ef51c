//! `semj verify`: whether a journal or a file is what was written.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use semj::format::{JournalHeader, WatermarkFile};
use semj::recovery::{SegmentInput, examine};
use semj::{OpenMode, Report, Verdict};
use semj_interchange::kernel::{KernelJournal, ReadError};
use serde_json::{Value, json};

use crate::Outcome;
use crate::journal_arg::{self, wrong_use};
use crate::output::{self, Unit};
#[cfg(feature = "archive")]
use crate::remote;
use crate::whole::Whole;

/// Verify a journal, one of its segments, or a journal in the kernel's format.
///
/// Checks every record's checksum, every commit's and seal's SHA-256 digests, the chain through all segments,
/// and the figures in the headers. Changes nothing. Status 1 if anything is damaged; the torn end that a crash
/// leaves is no damage, because nothing in it was acknowledged.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj verify ./journal\n  semj verify ./journal/0000000001-00000000000000000001.semj --json\n  semj verify ./journal --archive s3://bucket/journal"
)]
pub(crate) struct Args {
    /// The journal's directory, a file, or an archive's URL.
    #[arg(value_name = "DIR|FILE|URL", conflicts_with = "journal")]
    path: Option<PathBuf>,
    /// The journal's directory, by name; without either, SEMJ_JOURNAL names it.
    #[arg(short, long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// The directory was copied while the journal was in use, so that its WATERMARK may be newer than its segments: leave
    /// it out of account. A snapshot needs no such thing.
    #[arg(long)]
    copied: bool,
    /// Verify what is archived there too, and that the journal goes on from it: from the first segment to the last, whether
    /// native, compressed, or retired and archived.
    #[cfg(feature = "archive")]
    #[arg(long, value_name = "URL")]
    archive: Option<String>,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let Some(path) = journal_arg::named([args.path.as_ref(), args.journal.as_ref()]) else {
        wrong_use(
            ErrorKind::MissingRequiredArgument,
            "nothing to verify: name a journal's directory or a file, or use --journal DIR or SEMJ_JOURNAL",
        )
    };
    let path = path.as_path();
    #[cfg(feature = "archive")]
    let has_archive = args.archive.is_some();
    #[cfg(not(feature = "archive"))]
    let has_archive = false;
    if !path.is_dir() && (args.copied || has_archive) {
        wrong_use(
            ErrorKind::ArgumentConflict,
            &format!(
                "{}: --copied and --archive are for a journal's directory, and this is none",
                path.display()
            ),
        )
    }
    let started = Instant::now();
    #[cfg(feature = "archive")]
    if let Some(url) = remote::url(path) {
        return super::archive::verify(url, args.json);
    }
    if path.is_dir() {
        let examine = match args.copied {
            true => semj::examine_copy_watched,
            false => semj::examine_journal_watched,
        };
        let report = output::watched("verifying", |progress| examine(path, OpenMode::Strict, progress))?;
        #[cfg(feature = "archive")]
        if let Some(url) = &args.archive {
            let (is_right, archived) = archived(args, url, path, &report)?;
            output::unless_closed(print(args, path, &report, Some(archived), started))?;
            return Ok(if is_right { outcome(&report) } else { Outcome::Bad });
        }
        output::unless_closed(print(args, path, &report, None, started))?;
        return Ok(outcome(&report));
    }
    file(args, path, started)
}

/// A segment by itself, or a journal in the kernel's format.
fn file(args: &Args, path: &Path, started: Instant) -> Result<Outcome> {
    let whole = Whole::open(path).with_context(|| format!("{}: can't read", path.display()))?;
    let bytes = whole.native().with_context(|| path.display().to_string())?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let input = SegmentInput::new(&name, None, &bytes);
    let mut report = examine(&[input], WatermarkFile::default(), OpenMode::Strict);
    if let (Some(segment), Cow::Owned(_)) = (report.segments.first_mut(), &bytes) {
        segment.packed_size = Some(whole.bytes().len() as u64);
    }
    let is_segment = report.segments.iter().any(|segment| segment.opening.is_some());
    // A file whose header is right is a kernel-format journal at least, and what is wrong with it is said so.
    let kernel = JournalHeader::parse(&bytes).ok().filter(|_| !is_segment);
    let kernel = kernel.map(|header| (header, read_kernel(&bytes)));
    // What is gone of the file looks like damage, and is another matter.
    whole.check().with_context(|| path.display().to_string())?;
    let Some((header, (events, checked))) = kernel else {
        output::unless_closed(print(args, path, &report, None, started))?;
        return Ok(outcome(&report));
    };
    let is_whole = checked.is_ok();
    output::unless_closed(print_kernel(args, path, &header, events, checked))?;
    Ok(if is_whole { Outcome::Good } else { Outcome::Bad })
}

fn outcome(report: &Report) -> Outcome {
    if report.is_whole() { Outcome::Good } else { Outcome::Bad }
}

/// What is archived, and how the journal goes on from it: whether it is right, and as JSON.
#[cfg(feature = "archive")]
fn archived(args: &Args, url: &str, dir: &Path, report: &Report) -> Result<(bool, Value)> {
    let archive = semj_archive::Archive::existing(url)?;
    let bar = output::progress(Some(0), Unit::Bytes).with_message("verifying the archive");
    let found = archive.verify_journal(dir, report, &mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let found = found?;
    if !args.json {
        output::unless_closed(print_archived(url, report, &found))?;
    }
    let retired = found.archived.retired.iter().chain(&found.retired);
    let faults = found.archived.findings.iter().filter_map(|finding| {
        Some(json!({ "object": finding.entry.object, "fault": finding.fault.as_ref()? }))
    });
    let value = json!({
        "url": url, "is_whole": found.is_whole(), "segments": found.archived.findings.len(),
        "begins_behind": found.archived.begins_behind,
        "retired": retired.map(|numbers| json!([numbers.start(), numbers.end()])).collect::<Vec<_>>(),
        "faults": faults.collect::<Vec<_>>(), "fault": found.fault,
    });
    Ok((found.is_whole(), value))
}

#[cfg(feature = "archive")]
fn print_archived(url: &str, report: &Report, found: &semj_archive::JournalReport) -> Result<()> {
    let retired: Vec<_> = found.archived.retired.iter().chain(&found.retired).collect();
    let mut out = output::stdout();
    let is_here = |number| report.segments.iter().any(|segment| segment.number == number);
    let begins_right = found.archived.findings.first().is_some_and(|finding| finding.fault.is_none());
    if let Some(before) = found.archived.begins_behind.filter(|_| begins_right) {
        writeln!(out, "segments up to {before}: retired by policy, not archived")?;
    }
    for finding in &found.archived.findings {
        let entry = &finding.entry;
        let place = if is_here(entry.number) { "archived too" } else { "archived" };
        let events = output::grouped(entry.events);
        writeln!(
            out,
            "{}  {place:<12} {events:>8} events {:>10}  {}",
            entry.name,
            output::bytes(entry.size),
            entry.end_digest
        )?;
        if let Some(fault) = &finding.fault {
            writeln!(out, "    {url}: {}: {fault}", entry.object)?;
        }
    }
    for numbers in &retired {
        writeln!(out, "segments {} to {}: retired by policy, not archived", numbers.start(), numbers.end())?;
    }
    if let Some(fault) = &found.fault {
        writeln!(out, "{url}: {fault}")?;
    }
    Ok(out.flush()?)
}

fn print(args: &Args, path: &Path, report: &Report, archived: Option<Value>, started: Instant) -> Result<()> {
    let elapsed = started.elapsed();
    let bytes: u64 = report.segments.iter().map(|segment| segment.end as u64).sum();
    if args.json {
        let mut value = output::report_json(report);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("path".into(), output::path(path));
            // As the other commands call it.
            if path.is_dir() {
                fields.insert("journal".into(), output::path(path));
            }
            if let Some(archived) = archived {
                fields.insert("archive".into(), archived);
            }
            fields.insert("elapsed_s".into(), json!(elapsed.as_secs_f64()));
            fields.insert("bytes_per_s".into(), json!(output::rate(bytes, elapsed)));
        }
        return output::print_json(&value);
    }
    let mut out = output::stdout();
    if let Some(retired) = &report.retired {
        writeln!(out, "{}", output::retired(retired))?;
    }
    for name in &report.leftovers {
        writeln!(out, "{name}  retired: the next writer removes the file")?;
    }
    for segment in &report.segments {
        writeln!(
            out,
            "{}  {:<10} {:>10} events {:>7} commits {:>10}  {}",
            segment.name,
            segment.verdict.name(),
            output::grouped(segment.events()),
            output::grouped(segment.totals.commits),
            output::bytes(segment.end as u64),
            segment.totals.digest
        )?;
        if let Some(fault) = &segment.fault {
            writeln!(out, "    {fault}")?;
        }
        if let Some(packed) = segment.packed_size {
            writeln!(out, "    compressed to {}", output::bytes(packed))?;
        }
        if segment.totals.thinned.events > 0 {
            writeln!(out, "    {} taken out", output::count(segment.totals.thinned.events, "event"))?;
        }
        if let Some(lost) = &segment.lost_before {
            writeln!(out, "    {}", output::lost_segment(lost))?;
        }
        if let Some(tail) = &segment.tail {
            let size = output::bytes(tail.size() as u64);
            writeln!(out, "    {size} behind offset {} are no part of the journal", tail.start)?;
        }
    }
    for line in output::gaps(report.gaps()) {
        writeln!(out, "{line}")?;
    }
    if report.watermark == WatermarkFile::default() && path.is_dir() && !args.copied {
        writeln!(out, "WATERMARK: there is none: what was durable and is missing at the end is not noticed")?;
    }
    let what = match report.watermark.faults {
        [Some(_), Some(_)] => "neither is right: it is not known how far the journal was durable",
        _ => "a crash may leave one so; the other one counts",
    };
    for (slot, fault) in report.watermark.faults.iter().enumerate() {
        if let Some(fault) = fault {
            writeln!(out, "WATERMARK: slot {slot}: {fault} ({what})")?;
        }
    }
    let has_known_damage = report.segments.iter().any(|segment| segment.verdict == Verdict::KnownDamage);
    let state = match (report.is_whole(), has_known_damage) {
        (true, false) => "whole",
        (true, true) => "whole but for known damage",
        (false, _) => "DAMAGED",
    };
    let state = match (report.is_whole(), report.is_closed()) {
        (true, true) => format!("{state}, closed"),
        (true, false) => format!("{state}, not closed (in use, or its writer ended without closing it)"),
        (false, _) => state.to_owned(),
    };
    writeln!(
        out,
        "{}: {state}: {}, {} in {}, {}/s",
        path.display(),
        output::count(report.events(), "event"),
        output::bytes(bytes),
        output::count(report.segments.len() as u64, "segment"),
        output::bytes(output::rate(bytes, elapsed))
    )?;
    if path.is_dir()
        && !args.copied
        && let Some(hint) = output::repair_hint(path, report)
    {
        writeln!(out, "{hint}")?;
    }
    Ok(out.flush()?)
}

/// How many records of a kernel-format journal are right, up to the first that is not.
fn read_kernel(bytes: &[u8]) -> (u64, Result<(), ReadError>) {
    let mut events = 0u64;
    let checked = KernelJournal::parse(bytes).and_then(|journal| {
        journal.records().try_for_each(|record| {
            record?;
            events += 1;
            Ok(())
        })
    });
    (events, checked)
}

fn print_kernel(
    args: &Args,
    path: &Path,
    header: &JournalHeader,
    events: u64,
    checked: Result<(), ReadError>,
) -> Result<()> {
    if args.json {
        return output::print_json(&json!({
            "path": output::path(path),
            "is_whole": checked.is_ok(),
            "events": events,
            "bytes": header.journal_size,
            "fault": checked.err().map(|error| json!({ "offset": error.offset, "what": error.kind.to_string() })),
        }));
    }
    let size = output::bytes(header.journal_size);
    match checked {
        Ok(()) => {
            let events = output::count(events, "event");
            output::print_line(format_args!(
                "{}: whole: kernel-format journal, {events}, {size}",
                path.display()
            ))
        }
        Err(error) => output::print_line(format_args!("{}: DAMAGED: {error}", path.display())),
    }
}
