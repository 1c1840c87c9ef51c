//! `semj archive`: segments in object storage.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use semj::Codec;
use semj_archive::{Archive, FetchOptions, Progress, PushOptions};
use serde_json::json;

use crate::Outcome;
use crate::journal_arg::directory;
use crate::output::{self, Unit};

/// Keep segments in object storage, and get them back.
///
/// URL is file:///…, a folder, s3://bucket/…, gs://bucket/… or az://container/…; keys, region and endpoint come from the
/// environment, as AWS_ACCESS_KEY_ID, AWS_REGION, AWS_ENDPOINT, GOOGLE_SERVICE_ACCOUNT, AZURE_STORAGE_ACCOUNT_NAME.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Upload the segments that have reached their ends and are not there. The journal may be in use.
    #[command(after_help = "Examples:\n  semj archive push ./journal s3://bucket/journal")]
    Push {
        /// The journal's directory.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// The archive.
        #[arg(value_name = "URL")]
        url: String,
        /// Do not read back what was uploaded: trust the storage's own check.
        #[arg(long)]
        no_read_back: bool,
        /// How segments are compressed that are not yet: `zstd[:LEVEL]`, lz4, none, `zlib[:LEVEL]`, snappy or auto.
        #[arg(long, value_name = "CODEC", default_value_t = Codec::default(), conflicts_with = "native")]
        codec: Codec,
        /// Upload segments as they are. An archive of native segments can't be read without fetching whole ones.
        #[arg(long)]
        native: bool,
        /// Say what was done as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List the segments that are there.
    List(Which),
    /// Read everything that is there and verify it, with the chain. Status 1 if anything is missing or damaged; 3 if something is
    /// gone and no record that is archived says why: see semj verify --archive.
    Verify(Which),
    /// Make a journal of what is there, in a directory that has none. One that was cut short is gone on with, and is for reading
    /// only until all is there.
    #[command(
        after_help = "Examples:\n  semj archive fetch s3://bucket/journal ./journal\n  semj archive fetch s3://bucket/journal ./old --segments 1-20 --with-retired"
    )]
    Fetch {
        /// The archive.
        #[arg(value_name = "URL")]
        url: String,
        /// The directory to make the journal in.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Only segments with these numbers, such as 7, 3-9 or 3-. A part of the journal is for reading only.
        #[arg(long, value_name = "NUMBERS", value_parser = numbers)]
        segments: Option<RangeInclusive<u64>>,
        /// Also segments that the journal has retired. What comes then is for reading only.
        #[arg(long)]
        with_retired: bool,
        /// Say what was done as JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The archive.
    #[arg(value_name = "URL")]
    url: String,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// `7`, `3-9`, `3-`.
fn numbers(text: &str) -> Result<RangeInclusive<u64>, String> {
    let number = |text: &str| {
        text.parse::<u64>().map_err(|_| format!("{text:?}: a segment's number, or two with a - between"))
    };
    Ok(match text.split_once('-') {
        Some((first, "")) => number(first)?..=u64::MAX,
        Some((first, last)) => match number(first)?..=number(last)? {
            none if none.is_empty() => return Err(format!("{first} is behind {last}")),
            some => some,
        },
        None => number(text)?..=number(text)?,
    })
}

/// Does something that tells how far it has come, under a progress bar.
fn with_progress<T>(
    what: &'static str,
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, semj_archive::Error>,
) -> Result<T> {
    let bar = output::progress(Some(0), Unit::Bytes).with_message(what);
    let done = work(&mut |progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    Ok(done?)
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    match &args.command {
        Command::Push { dir, url, no_read_back, codec, native, json } => {
            // Before a folder is made for what is no journal.
            let dir = &directory(dir.clone());
            semj::Reader::open_newest(dir, semj::OpenMode::Strict)?;
            let archive = Archive::open(url)?;
            let codec = (!native).then_some(*codec);
            let options = PushOptions { reads_back: !no_read_back, codec };
            let pushed = with_progress("pushing", |progress| archive.push(dir, options, progress))?;
            if *json {
                output::print_json(&json!({
                    "archive": url, "uploaded": pushed.uploaded, "bytes_uploaded": pushed.bytes_uploaded,
                    "found": pushed.found, "known": pushed.known, "segments": pushed.segments,
                    "events": pushed.events, "generation": pushed.generation,
                }))?;
            } else {
                output::print_line(format_args!(
                    "{url}: {} uploaded ({}), {} were there; {} in {} archived",
                    output::count(pushed.uploaded, "segment"),
                    output::bytes(pushed.bytes_uploaded),
                    pushed.known + pushed.found,
                    output::count(pushed.events, "event"),
                    output::count(pushed.segments, "segment"),
                ))?;
            }
            Ok(Outcome::Good)
        }
        Command::List(which) => list(which),
        Command::Verify(which) => verify(&which.url, which.json),
        Command::Fetch { url, dir, segments, with_retired, json } => {
            let dir = &directory(dir.clone());
            let archive = Archive::existing(url)?;
            let options = FetchOptions { segments: segments.clone(), with_retired: *with_retired };
            let fetched = with_progress("fetching", |progress| archive.fetch(dir, &options, progress))?;
            if *json {
                output::print_json(&json!({
                    "archive": url, "journal": output::path(dir), "fetched": fetched.fetched,
                    "bytes_fetched": fetched.bytes_fetched, "found": fetched.found, "events": fetched.events,
                }))?;
            } else {
                output::print_line(format_args!(
                    "{}: {} fetched ({}), {} were there; {}, verified",
                    dir.display(),
                    output::count(fetched.fetched, "segment"),
                    output::bytes(fetched.bytes_fetched),
                    fetched.found,
                    output::count(fetched.events, "event"),
                ))?;
            }
            Ok(Outcome::Good)
        }
    }
}

fn list(which: &Which) -> Result<Outcome> {
    let manifest = Archive::existing(&which.url)?.existing_manifest()?;
    if which.json {
        output::print_json(&serde_json::to_value(&manifest)?)?;
        return Ok(Outcome::Good);
    }
    let mut out = output::stdout();
    for entry in &manifest.segments {
        writeln!(
            out,
            "{}  {:>10}  {:>10} events {} to {}  {}{}",
            entry.name,
            output::bytes(entry.size),
            output::grouped(entry.events),
            entry.first_event_id,
            entry.last_event_id,
            entry.end_digest,
            if entry.number <= manifest.retired_upto { "  retired" } else { "" }
        )?;
    }
    writeln!(
        out,
        "{}: {} in {}, {}",
        which.url,
        output::count(manifest.events(), "event"),
        output::count(manifest.segments.len() as u64, "segment"),
        output::bytes(manifest.bytes())
    )?;
    out.flush()?;
    Ok(Outcome::Good)
}

pub(crate) fn verify(url: &str, json: bool) -> Result<Outcome> {
    let archive = Archive::existing(url)?;
    let report = with_progress("verifying", |progress| archive.verify(progress))?;
    let outcome = match (report.is_whole(), report.unstated.is_empty()) {
        (true, true) => Outcome::Good,
        (true, false) => Outcome::Incomplete,
        (false, _) => Outcome::Bad,
    };
    output::unless_closed(print_verified(url, &report, json))?;
    Ok(outcome)
}

fn print_verified(url: &str, report: &semj_archive::VerifyReport, json: bool) -> Result<()> {
    if json {
        let segments: Vec<_> = report
            .findings
            .iter()
            .map(|finding| json!({ "name": finding.entry.name, "object": finding.entry.object, "fault": finding.fault }))
            .collect();
        return output::print_json(&json!({
            "archive": url, "is_whole": report.is_whole(), "begins_behind": report.begins_behind,
            "retired": report.retired.iter().map(|numbers| json!([numbers.start(), numbers.end()])).collect::<Vec<_>>(),
            "unstated": report.unstated,
            "segments": segments,
        }));
    }
    let mut out = output::stdout();
    for finding in &report.findings {
        let fault = finding.fault.as_deref();
        writeln!(out, "{}  {}  {}", finding.entry.name, finding.entry.sha256, fault.unwrap_or("right"))?;
    }
    if let Some(before) = report.begins_behind {
        writeln!(out, "begins behind segment {before}")?;
    }
    for numbers in &report.retired {
        writeln!(out, "segments {} to {}: retired by policy, not archived", numbers.start(), numbers.end())?;
    }
    for number in &report.unstated {
        writeln!(
            out,
            "segment {number}: events, bytes or segments before it are gone, and nothing here says so: see verify --archive"
        )?;
    }
    let state = if report.is_whole() { "whole" } else { "DAMAGED" };
    writeln!(out, "{}: {state}, {}", url, output::count(report.findings.len() as u64, "segment"))?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_segments_are_one_a_range_or_all_from_one_on() {
        assert_eq!(numbers("7"), Ok(7..=7));
        assert_eq!(numbers("3-9"), Ok(3..=9));
        assert_eq!(numbers("3-"), Ok(3..=u64::MAX));
        for wrong in ["", "-", "-3", "a", "3-b"] {
            assert!(numbers(wrong).is_err(), "{wrong}");
        }
    }
}
