//! `semj retain`: lets old segments go.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use semj::{Retention, RetentionPlan, RetiringSegment};
use serde_json::{Value, json};

use crate::Outcome;
use crate::amount;
use crate::journal_arg::{JournalArg, wrong_use};
use crate::output;

/// Remove the oldest segments, as far as limits are passed.
///
/// Whole segments go, never the one that is written or the one before it, nor any that somebody still needs unless told so.
/// The journal records that they were retired before they go: verify then tells them from segments that are missing, and
/// proves what is left. If a process has the journal open it is asked to do it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj retain ./journal --max-bytes 10GB --max-age 30d --dry-run\n  semj retain ./journal --max-segments 100"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// Keep so many bytes of segments at most; sidecars come on top.
    #[arg(long, value_name = "SIZE", value_parser = amount::bytes)]
    max_bytes: Option<u64>,
    /// Keep no segment that was ended longer ago.
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    max_age: Option<Duration>,
    /// Keep so many segments at most that hold events, and the one that is written; the last one with events stays.
    #[arg(long, value_name = "N")]
    max_segments: Option<u64>,
    /// Remove only what this archive has: see semj archive.
    #[cfg(feature = "archive")]
    #[arg(long, value_name = "URL")]
    archived: Option<String>,
    /// Remove even what a consumer still needs.
    #[arg(long)]
    ignore_consumers: bool,
    /// Let segments go that are damaged. Otherwise nothing goes while one that would go is: somebody may want to look at it.
    #[arg(long)]
    damaged_too: bool,
    /// Only say what would go.
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for the process that has the journal open.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = amount::duration)]
    wait: Duration,
    /// Say what goes as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.dir();
    let retention = Retention {
        max_bytes: args.max_bytes,
        max_age: args.max_age,
        max_segments: args.max_segments,
        keeps_from: keeps_from(args, &dir)?,
        ignores_needs: args.ignore_consumers,
    };
    if !retention.is_any() {
        wrong_use(
            ErrorKind::MissingRequiredArgument,
            "no limit is given: --max-bytes, --max-age or --max-segments",
        )
    }
    let mut plan = semj::plan_retention(&dir, &retention, None)?;
    if !args.damaged_too {
        output::watched("proving what goes", |progress| plan.prove_watched(&dir, progress))
            .context("nothing is retired while what would go is damaged, but with --damaged-too")?;
    }
    let is_done = !args.dry_run && !plan.retiring.is_empty();
    if is_done {
        // What passes the limits by the time that the writer looks was not proven, and is not in the list.
        semj::request_retention(&dir, &plan.bounded(&retention), None, args.wait)?;
        // What the journal is now, by its own word: its writer may know of needs that are not written down, and has limits of its
        // own, which it looks at too.
        let now = semj::plan_retention(&dir, &Retention::default(), None)?;
        let upto = now.retired.map_or(0, |retired| retired.segment_number);
        plan.held_back.splice(..0, plan.retiring.extract_if(.., |segment| segment.segment_number > upto));
        for kept in [&mut plan.held_back, &mut plan.staying] {
            plan.retiring.extend(kept.extract_if(.., |segment| segment.segment_number <= upto));
        }
        (plan.kept_segments, plan.kept_bytes) = (now.kept_segments, now.kept_bytes);
    }
    print(args, &dir, &plan, is_done)?;
    Ok(Outcome::Good)
}

/// The first event that is not archived, if only what is archived may go.
#[cfg(feature = "archive")]
fn keeps_from(args: &Args, dir: &Path) -> Result<Option<u64>> {
    match &args.archived {
        Some(url) => Ok(semj_archive::Archive::existing(url)?.keeps_from(dir)?),
        None => Ok(None),
    }
}

#[cfg(not(feature = "archive"))]
fn keeps_from(_args: &Args, _dir: &Path) -> Result<Option<u64>> {
    Ok(None)
}

fn print(args: &Args, dir: &Path, plan: &RetentionPlan, is_done: bool) -> Result<()> {
    if args.json {
        return output::print_json(&json!({
            "journal": output::path(dir),
            "dry_run": args.dry_run,
            "retired": plan.retiring.iter().map(segment_json).collect::<Vec<_>>(),
            "held_back": plan.held_back.iter().map(segment_json).collect::<Vec<_>>(),
            "kept_segments": plan.kept_segments,
            "kept_bytes": plan.kept_bytes,
        }));
    }
    let mut out = output::stdout();
    for segment in &plan.retiring {
        writeln!(out, "{}", line(segment))?;
    }
    for segment in &plan.held_back {
        writeln!(out, "{}  kept: it is still needed, or not archived", line(segment))?;
    }
    let sum = |of: fn(&RetiringSegment) -> u64| plan.retiring.iter().map(of).sum();
    writeln!(
        out,
        "{}: {}, {}, {} {}; {} in {} kept",
        dir.display(),
        output::count(plan.retiring.len() as u64, "segment"),
        output::count(sum(|segment| segment.events), "event"),
        output::bytes(sum(|segment| segment.bytes)),
        if is_done || plan.retiring.is_empty() { "retired" } else { "would be retired" },
        output::bytes(plan.kept_bytes),
        output::count(plan.kept_segments, "segment"),
    )?;
    Ok(out.flush()?)
}

fn line(segment: &RetiringSegment) -> String {
    format!(
        "{}  {:>10}  {:>10} events {} to {}  ended {}",
        segment.name,
        output::bytes(segment.bytes),
        output::grouped(segment.events),
        segment.first_event_id,
        segment.last_event_id,
        output::wall_clock(segment.ended_ns)
    )
}

fn segment_json(segment: &RetiringSegment) -> Value {
    json!({
        "name": segment.name,
        "number": segment.segment_number,
        "bytes": segment.bytes,
        "events": segment.events,
        "first_event_id": segment.first_event_id,
        "last_event_id": segment.last_event_id,
        "ended_ns": segment.ended_ns,
    })
}
