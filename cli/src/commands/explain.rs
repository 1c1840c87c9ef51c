//! `semj explain`: what it takes to answer a question.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use semj::index::{Criterion, Explain, Tally};
use semj::{Query, Reader};
use serde_json::{Value, json};

use crate::Outcome;
use crate::answer;
use crate::filter::Filter;
use crate::journal_arg::SourceArg;
use crate::output;

/// Show what `semj cat` with the same conditions looks at, and what it skips by which of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj explain ./journal --type FilesystemDelete --path /project/src")]
pub(crate) struct Args {
    #[command(flatten)]
    journal: SourceArg,
    #[command(flatten)]
    filter: Filter,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let query = args.filter.query();
    let started = Instant::now();
    let dir = args.journal.source();
    let (explain, losses) = answer::with_reader(&dir, |reader| explain(reader, &query))?;
    let elapsed = started.elapsed();
    output::unless_closed(print(args, &dir, &explain, elapsed))?;
    output::say_losses(&losses);
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

fn print(args: &Args, dir: &Path, explain: &Explain, elapsed: Duration) -> Result<()> {
    let tallies = [("segments", &explain.segments), ("blocks", &explain.blocks), ("bytes", &explain.bytes)];
    if args.json {
        let mut value = json!({
            "journal": output::path(dir),
            "records": explain.records,
            "contexts": explain.contexts,
            "matches": explain.matches,
            "elapsed_s": elapsed.as_secs_f64(),
        });
        if let Some(fields) = value.as_object_mut() {
            fields.extend(tallies.map(|(name, tally)| (name.to_owned(), tally_json(tally))));
        }
        return output::print_json(&value);
    }
    let mut out = output::stdout();
    for (name, tally) in tallies {
        let percent = 100.0 * tally.looked_at as f64 / tally.total.max(1) as f64;
        let (looked_at, total) = (output::grouped(tally.looked_at), output::grouped(tally.total));
        write!(out, "{name:<9} {looked_at:>15} of {total} looked at ({percent:.2}%)")?;
        let mut before = "; skipped by ";
        for (criterion, skipped) in skipped(tally) {
            write!(out, "{before}{}: {}", criterion.name(), output::grouped(skipped))?;
            before = ", ";
        }
        writeln!(out)?;
    }
    writeln!(out, "records   {:>15} looked at", output::grouped(explain.records))?;
    writeln!(out, "contexts  {:>15} decoded", output::grouped(explain.contexts))?;
    writeln!(
        out,
        "matches   {:>15} in {:.3} ms",
        output::grouped(explain.matches),
        elapsed.as_secs_f64() * 1e3
    )?;
    Ok(out.flush()?)
}

/// What [`Reader::explain`] gives, a segment after the other: of compressed ones no more than one is in memory.
fn explain(reader: &Reader, query: &Query) -> Result<Explain> {
    // How much there is, and what its ids skip as a whole.
    let mut sum = reader.explain(&query.clone().limit(0))?;
    for part in reader.parts(query) {
        let left = query.limited_to() - sum.matches;
        if left == 0 {
            break;
        }
        let of_part = part.explain(&query.clone().limit(left))?;
        add(&mut sum.segments, &of_part.segments);
        add(&mut sum.blocks, &of_part.blocks);
        add(&mut sum.bytes, &of_part.bytes);
        sum.blocks.total += of_part.blocks.total;
        sum.records += of_part.records;
        sum.contexts += of_part.contexts;
        sum.matches += of_part.matches;
    }
    Ok(sum)
}

/// Adds what was looked at and skipped.
fn add(sum: &mut Tally, of_part: &Tally) {
    sum.count(of_part.looked_at, None);
    for (criterion, number) in skipped(of_part) {
        sum.count(number, Some(criterion));
    }
}

fn skipped(tally: &Tally) -> impl Iterator<Item = (Criterion, u64)> {
    Criterion::ALL
        .into_iter()
        .map(|criterion| (criterion, tally.skipped_by(criterion)))
        .filter(|(_, n)| *n > 0)
}

fn tally_json(tally: &Tally) -> Value {
    let skipped: serde_json::Map<_, _> =
        skipped(tally).map(|(criterion, number)| (criterion.name().to_owned(), json!(number))).collect();
    json!({ "total": tally.total, "looked_at": tally.looked_at, "skipped": skipped })
}
