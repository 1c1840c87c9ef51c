//! `semj export`: events out of a journal.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use semj::Query;
use semj_interchange::{json, kernel};
use serde_json::json;

use crate::Outcome;
use crate::answer;
use crate::journal_arg::SourceArg;
use crate::output::{self, Unit};

/// Export all events of a journal.
///
/// Of a damaged journal it gives what proves itself, says what is missing, and ends with status 3.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj export ./journal > events.jsonl\n  semj export ./journal --format kernel -o journal.semj"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: SourceArg,
    /// jsonl: one JSON object a line. kernel: a journal in the kernel's format, contexts in their fixed form.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this file in place of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say what was exported as JSON; on standard error if the events go to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Jsonl,
    Kernel,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.source();
    let query = Query::new();
    let (reader, losses) = answer::open_whole(&dir)?;
    // What cannot be written in the kernel's format is found out before a file is replaced.
    let measured = match args.format {
        Format::Jsonl => None,
        Format::Kernel => {
            let mut measure = kernel::Measure::default();
            for part in reader.parts(&query) {
                for record in part.iter(..) {
                    measure.push(&record?)?;
                }
            }
            Some(measure)
        }
    };
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => {
            let file = File::create(path).with_context(|| format!("{}: can't create", path.display()))?;
            Box::new(BufWriter::with_capacity(256 << 10, file))
        }
        None => Box::new(output::stdout()),
    };
    let bar = output::progress(Some(reader.report().events()), Unit::Events).with_message("exporting");
    let mut events = 0u64;
    match measured {
        None => {
            for part in reader.parts(&query) {
                for record in part.iter(..) {
                    json::write_event(&record?, &mut out)?;
                    events += 1;
                    if events.is_multiple_of(4096) {
                        bar.set_position(events);
                    }
                }
            }
        }
        Some(measure) => {
            let mut writer = kernel::Writer::begin(&measure, &mut out)?;
            for part in reader.parts(&query) {
                for record in part.iter(..) {
                    writer.write(&record?, &mut out)?;
                    events += 1;
                    if events.is_multiple_of(4096) {
                        bar.set_position(events);
                    }
                }
            }
        }
    }
    out.flush()?;
    bar.finish_and_clear();

    output::say_losses(&losses);
    if args.json {
        let summary = json!({ "events": events, "losses": losses });
        match args.output {
            Some(_) => output::print_json(&summary)?,
            // The figures are the command's result, but the events have taken standard output.
            None => writeln!(io::stderr().lock(), "{summary}")?,
        }
    }
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}
