//! `semj-bench compression`: what each codec makes of a journal.

use std::path::PathBuf;

use anyhow::Result;
use semj_bench::arguments;
use semj_bench::common::Common;
use semj_bench::packing::{self, Codec, Row};
use semj_bench::process::Scratch;
use semj_bench::table::{Table, ns};

/// What each codec makes of a journal's segments: size, speed, and what reading one event costs then.
///
/// The segments are copied first; the journal stays as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A journal with native segments that were closed in order.
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
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
    /// Segments at most, from the journal's middle.
    #[arg(long, value_name = "N", default_value_t = 8)]
    segments: usize,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let rows = args.common.measure(
        &args.codec,
        |codec| {
            arguments!["compression", args.journal.display(), "--codec", codec, "--segments", args.segments]
        },
        |codec| measure(args, *codec),
    )?;
    args.common.print(&rows, |rows| table(rows).to_string())
}

fn measure(args: &Args, codec: Codec) -> Result<Row> {
    let segments = packing::segments(&args.journal, args.segments)?;
    let bytes = segments.iter().map(|path| Ok(path.metadata()?.len())).sum::<Result<u64>>()?;
    let scratch = Scratch::new(args.common.dir.as_deref(), 2 * bytes)?;
    Row::measure(codec, &segments, &scratch.join("journal"))
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "codec",
        "of native",
        "of `zstd -3`",
        "compaction MB/s",
        "compress MB/s",
        "decompress MB/s",
        "get, cold p50",
        "p99",
        "get, warm p50",
    ]);
    for row in rows {
        let percent = |of: u64| format!("{:.1} %", 100.0 * row.packed as f64 / of.max(1) as f64);
        let speed = |ns: u64| format!("{:.0}", row.native as f64 * 1e3 / ns.max(1) as f64);
        table.row([
            row.codec.clone(),
            percent(row.native),
            percent(row.one_stream),
            speed(row.compact_ns),
            speed(row.compress_ns),
            speed(row.decompress_ns),
            ns(row.get_cold_p50_ns),
            ns(row.get_cold_p99_ns),
            ns(row.get_warm_p50_ns),
        ]);
    }
    table
}
