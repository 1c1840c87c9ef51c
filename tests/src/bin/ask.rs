//! Measures how fast questions to a journal are answered, on one thread, warm, and says what was looked at:
//!
//! ```text
//! cargo run -p semj-tests --release --bin ask -- DIR [INODE PATH-PATTERN]
//! ```
//!
//! The journal is one that `generate` made with `--span 86400`: its times are those of a day.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use semj::{EventType, Glob, OpenMode, Query, Reader, rebuild_sidecars};
use semj_tests::random::Random;

/// Ids that are looked up.
const GETS: usize = 1_000_000;
/// Times that a question is asked; the median counts.
const TIMES: usize = 7;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn timed<T>(mut work: impl FnMut() -> Result<T, semj::Error>) -> Result<(Duration, T), semj::Error> {
    let mut last = work()?;
    let mut times = Vec::with_capacity(TIMES);
    for _ in 0..TIMES {
        let started = Instant::now();
        last = black_box(work()?);
        times.push(started.elapsed());
    }
    Ok((median(times), last))
}

fn gets(which: &str, reader: &Reader, last_id: u64) -> Result<(), Box<dyn Error>> {
    let mut random = Random::new(1);
    let mut times = Vec::with_capacity(GETS);
    for _ in 0..GETS {
        let id = 1 + random.below(last_id);
        let started = Instant::now();
        let found = reader.get(id)?;
        times.push(started.elapsed());
        if found.is_none_or(|record| record.event_id() != id) {
            return Err(format!("event {id} was not found").into());
        }
    }
    // The first ones read the sidecars.
    let mut times = times.split_off(GETS / 10);
    times.sort_unstable();
    let percentile = |part: f64| times.get((times.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "| an event by its id, {which}: p50, p99, p99.9 | {:.2?}, {:.2?}, {:.2?} |",
        percentile(0.5),
        percentile(0.99),
        percentile(0.999)
    );
    Ok(())
}

/// The same question to every record, with no index.
fn scan(reader: &Reader, query: &Query) -> Result<(Duration, u64), semj::Error> {
    let started = Instant::now();
    let (mut matches, mut contexts) = (0, 0);
    for located in reader.records() {
        let located = located?;
        matches += u64::from(query.plan(located.opening).matches(&located.record, &mut contexts));
    }
    Ok((started.elapsed(), matches))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().ok_or("usage: ask DIR [INODE PATH-PATTERN]")?;
    let inode = args.next().map_or(Ok(6841), |text| text.parse())?;
    let pattern = args.next().unwrap_or_else(|| "/project/src".to_owned());

    let started = Instant::now();
    let reports = rebuild_sidecars(&dir)?;
    let elapsed = started.elapsed().as_secs_f64();
    let segments: u64 = reports.iter().map(|report| report.segment_size).sum();
    let sidecars: u64 = reports.iter().map(|report| report.sidecar_size).sum();
    println!("| {segments} bytes of segments | |\n| --- | --- |");
    println!("| sidecars | {sidecars} bytes, {:.3}% |", 100.0 * sidecars as f64 / segments as f64);
    println!("| all of them made anew | {:.2} GB/s |", segments as f64 / 1e9 / elapsed);
    let (open, reader) = timed(|| Reader::open_newest(&dir, OpenMode::Strict))?;
    println!("| open | {:.2} ms |", open.as_secs_f64() * 1e3);

    let last_id = reader.report().tip.map_or(0, |tip| tip.last_event_id);
    gets("checked when read", &reader, last_id)?;
    gets("proven at open", &Reader::open(&dir, OpenMode::Strict)?, last_id)?;

    let started = Instant::now();
    let count = reader.records().try_fold(0u64, |count, record| record.map(|_| count + 1))?;
    let elapsed = started.elapsed();
    println!(
        "| a scan of all {count} records | {:.1} ms, {:.2} GB/s |\n",
        elapsed.as_secs_f64() * 1e3,
        segments as f64 / 1e9 / elapsed.as_secs_f64()
    );
    println!(
        "| question | matches | time | scan without index | times as long | segments | blocks | bytes | records |\n\
         | --- | --: | --: | --: | --: | --: | --: | --: | --: |"
    );
    // Of the first type every block has some.
    let times = (1_000_000_000i64, 86_401_000_000_000);
    let noon = times.0 + (times.1 - times.0) / 2;
    let busy = noon + 600_000_000_000;
    let path = |pattern: &str| Ok::<_, semj::GlobError>(Query::new().path_glob(Glob::new(pattern)?));
    for (name, query) in [
        ("a common type", Query::new().types([EventType::FILESYSTEM_WRITE])),
        ("a minute of a day", Query::new().ktime(busy..busy + 60_000_000_000)),
        ("half an hour of a day", Query::new().ktime(noon..noon + 1_800_000_000_000)),
        ("a rare type", Query::new().types([EventType::FILESYSTEM_TRUNCATE])),
        ("a type that never occurs", Query::new().types([EventType::AGENT_DECISION])),
        ("an inode", Query::new().inode(inode)),
        ("an inode that never occurs", Query::new().inode(123_456_789)),
        ("a path and what is below", path(&pattern)?),
        ("a larger directory", path("/project/site/lib2to3")?),
        ("deletes below that", path("/project/site/lib2to3")?.types([EventType::FILESYSTEM_DELETE])),
        ("a file by its name", path("**/.libf.a.tmp")?),
        ("a word that never occurs in a payload", Query::new().containing("no such word")),
        ("a thousand ids", Query::new().ids(last_id / 2..last_id / 2 + 1000)),
        ("the last 20", Query::new().limit(20).reverse()),
        ("the last 20 renames", Query::new().types([EventType::FILESYSTEM_RENAME]).limit(20).reverse()),
        ("what event 1 caused", Query::new().caused_by([1])),
    ] {
        let (full, matches) = scan(&reader, &query)?;
        let (time, explain) = timed(|| reader.explain(&query))?;
        if explain.matches != matches && query.limited_to() == u64::MAX {
            return Err(format!("{name}: {} matches, {matches} without index", explain.matches).into());
        }
        println!(
            "| {name} | {} | {:.3} ms | {:.1} ms, {:.2} GB/s | {:.1} | {} of {} | {} of {} | {:.3}% | {} |",
            explain.matches,
            time.as_secs_f64() * 1e3,
            full.as_secs_f64() * 1e3,
            segments as f64 / 1e9 / full.as_secs_f64(),
            full.as_secs_f64() / time.as_secs_f64(),
            explain.segments.looked_at,
            explain.segments.total,
            explain.blocks.looked_at,
            explain.blocks.total,
            100.0 * explain.bytes.looked_at as f64 / explain.bytes.total.max(1) as f64,
            explain.records,
        );
    }
    Ok(())
}
