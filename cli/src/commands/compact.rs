//! `semj compact`: segments in less room.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use semj::{Codec, Compaction, CompactionReport};
use serde_json::json;

use crate::Outcome;
use crate::amount;
use crate::journal_arg::JournalArg;
use crate::output::{self, Unit};

/// Compress the segments that have ended.
///
/// Nothing is lost: a compressed segment gives the native one back byte for byte, which is proven of each before it takes
/// the segment's name, and everything reads it as before. The journal may be in use. A compaction that was cut short goes on
/// where it was with the same command.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj compact ./journal\n  semj compact ./journal --codec zstd:9 --older-than 1d --rate 50MB"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: JournalArg,
    /// `zstd[:LEVEL]`, lz4, none, `zlib[:LEVEL]`, snappy or auto, which measures.
    #[arg(long, value_name = "CODEC", default_value_t = Codec::default())]
    codec: Codec,
    /// Only segments that ended longer ago.
    #[arg(long, value_name = "TIME", value_parser = amount::duration)]
    older_than: Option<Duration>,
    /// Read so much of segments in a second at most; 50MB and 50MB/s are the same.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    rate: Option<u64>,
    /// Only say what would be compressed.
    #[arg(long)]
    dry_run: bool,
    /// Say what was done as JSON.
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<u64, String> {
    match amount::bytes(text.trim().strip_suffix("/s").unwrap_or(text))? {
        0 => Err("a rate of 0 never ends".to_owned()),
        rate => Ok(rate),
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let compaction = Compaction { codec: args.codec, older_than: args.older_than, rate: args.rate };
    let dir = args.journal.dir();
    let started = Instant::now();
    let bar = output::progress(Some(0), Unit::Bytes).with_message("compressing");
    let done = if args.dry_run {
        semj::plan_compaction(&dir, &compaction)
    } else {
        semj::compact(&dir, &compaction, &mut |progress| {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            ControlFlow::Continue(())
        })
    };
    bar.finish_and_clear();
    let done = done?;
    output::unless_closed(print(args, &dir, &done, started.elapsed()))?;
    if !args.json {
        if done.is_unadopted {
            output::say(
                "the journal's writer does not answer: the old files' room is free when it has closed the journal",
            );
        }
        for skipped in &done.skipped {
            output::say(format!("{}: left as it is: {}", skipped.name, skipped.reason));
        }
    }
    Ok(if done.skipped.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

fn print(args: &Args, dir: &Path, done: &CompactionReport, elapsed: Duration) -> Result<()> {
    let elapsed_s = elapsed.as_secs_f64();
    if args.json {
        let skipped =
            done.skipped.iter().map(|skipped| json!({ "name": skipped.name, "reason": skipped.reason }));
        return output::print_json(&json!({
            "journal": output::path(dir),
            "dry_run": args.dry_run,
            "codec": args.codec.to_string(),
            "compacted": done.compacted,
            "bytes_before": done.bytes_before,
            "bytes_after": if args.dry_run { None } else { Some(done.bytes_after) },
            "kept": done.kept,
            "waiting": done.waiting,
            "skipped": skipped.collect::<Vec<_>>(),
            "unadopted": done.is_unadopted,
            "elapsed_s": elapsed_s,
        }));
    }
    let segments = output::count(done.compacted, "segment");
    let before = output::bytes(done.bytes_before);
    if args.dry_run {
        output::print_line(format_args!("would compress {segments} of {before}"))?;
    } else if done.compacted == 0 {
        output::print_line("compressed nothing")?;
    } else {
        output::print_line(format_args!(
            "compressed {segments}: {before} to {}, {:.1} %, at {}/s",
            output::bytes(done.bytes_after),
            done.bytes_after as f64 * 100.0 / done.bytes_before as f64,
            output::bytes((done.bytes_before as f64 / elapsed_s) as u64),
        ))?;
    }
    output::print_line(format_args!(
        "{} were compressed before, {} are open, too young or were cut",
        done.kept, done.waiting
    ))
}
