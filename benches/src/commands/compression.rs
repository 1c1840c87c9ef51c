//! `semj-bench compression`: what each codec makes of a journal.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use semj_bench::common::Common;
use semj_bench::file_events;
use semj_bench::packing::{self, Codec, Row};
use semj_bench::process::Scratch;
use semj_bench::table::{Table, ns};

/// What each codec makes of a journal's segments: size, speed, and what reading one event costs then.
///
/// The segments are copied first; the journal stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Journals with native segments that were closed in order; default: one that is made.
    #[arg(value_name = "JOURNAL")]
    journals: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Codecs.
    #[arg(
        long,
        value_name = "CODEC",
        value_delimiter = ',',
        default_value = "none,lz4,snappy,zlib:6,zstd:1,zstd:3,zstd:9,auto"
    )]
    codec: Vec<Codec>,
    /// Segments of a journal at most, from its middle.
    #[arg(long, value_name = "N", default_value_t = 8)]
    segments: usize,
    /// Events in the journal that is made.
    #[arg(long, value_name = "N", default_value_t = 2_000_000, conflicts_with = "journals")]
    events: u64,
}

/// Room for one of those events, and more.
const EVENT_BYTES_MAX: u64 = 400;

pub(crate) fn run(args: &Args) -> Result<()> {
    let mut journals = args.journals.clone();
    let mut made = None;
    if journals.is_empty() {
        let scratch = Scratch::new(args.common.dir.as_deref(), args.events * EVENT_BYTES_MAX + (1 << 30))?;
        file_events::write(&scratch.join("generated"), args.events)?;
        journals.push(scratch.join("generated"));
        made = Some(scratch);
    }
    let measurements: Vec<_> =
        journals.iter().flat_map(|journal| args.codec.iter().map(move |codec| (journal, *codec))).collect();
    let rows = args.common.measure(
        &measurements,
        |(journal, codec)| {
            let (codec, segments) = (codec.to_string(), args.segments.to_string());
            ["compression", &journal.display().to_string(), "--codec", &codec, "--segments", &segments]
                .map(str::to_owned)
                .to_vec()
        },
        |(journal, codec)| measure(args, journal, *codec),
    )?;
    drop(made);
    args.common.print(&rows, tables)
}

fn measure(args: &Args, journal: &Path, codec: Codec) -> Result<Row> {
    let segments = packing::segments(journal, args.segments)?;
    let bytes = segments.iter().map(|path| Ok(path.metadata()?.len())).sum::<Result<u64>>()?;
    let scratch = Scratch::new(args.common.dir.as_deref(), 2 * bytes)?;
    Row::measure(journal, codec, &segments, &scratch.join("journal"))
}

/// A table for each journal.
fn tables(rows: &[Row]) -> String {
    let mut page = String::new();
    for rows in rows.chunk_by(|a, b| a.journal == b.journal) {
        let Some(first) = rows.first() else { continue };
        let name =
            Path::new(&first.journal).file_name().map_or_else(String::new, |name| name.display().to_string());
        // Writing to a String can't fail.
        let _ = writeln!(
            page,
            "{name}: {} segments, {:.1} MB; by `zstd -3`, each as one stream: {:.2} %\n\n{}",
            first.segments,
            first.native as f64 / 1e6,
            100.0 * first.one_stream as f64 / first.native.max(1) as f64,
            table(rows)
        );
    }
    page
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "codec",
        "of native",
        "of `zstd -3`",
        "compaction MB/s",
        "MB/s per core",
        "compress",
        "decompress",
        "get, cold p50",
        "p99",
        "get, warm p50",
        "p99",
    ]);
    for row in rows {
        let percent = |of: u64| format!("{:.1} %", 100.0 * row.packed as f64 / of.max(1) as f64);
        let speed = |ns: u64| format!("{:.0}", row.native as f64 * 1e3 / ns.max(1) as f64);
        table.row([
            row.codec.clone(),
            percent(row.native),
            percent(row.one_stream),
            speed(row.compact_ns),
            speed(row.compact_processor_ns),
            speed(row.compress_ns),
            speed(row.decompress_ns),
            ns(row.get_cold.p50),
            ns(row.get_cold.p99),
            ns(row.get_warm.p50),
            ns(row.get_warm.p99),
        ]);
    }
    table
}
