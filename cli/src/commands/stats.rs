//! `semj stats`: what is in a journal, in figures.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Result;
use semj::recovery::Gaps;
use semj::{EventType, Query, Report, SegmentReport};
use serde_json::{Value, json};

use crate::Outcome;
use crate::answer;
use crate::journal_arg::SourceArg;
use crate::output::{self, Unit};

/// Show what is in a journal: segments, events by type, where the bytes go.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  semj stats ./journal\n  semj stats ./journal --json")]
pub(crate) struct Args {
    #[command(flatten)]
    journal: SourceArg,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Default)]
struct Share {
    records: u64,
    bytes: u64,
}

impl Share {
    fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes as u64;
    }
}

/// What was counted.
struct Figures {
    by_type: BTreeMap<EventType, Share>,
    /// Bytes of each part of the events.
    parts: [(&'static str, u64); 5],
    /// The journal's own records.
    own: Share,
    /// The first time and the last, by the events' own clocks.
    times: Option<(i64, i64)>,
    /// The same by the clocks of their segments, of those that have any.
    dates: Option<(i64, i64)>,
    first_id: u64,
    gaps: Gaps,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let dir = args.journal.source();
    // The journal's own records too, a segment at a time.
    let query = Query::new().control();
    let (reader, mut losses) = answer::open_whole(&dir)?;
    let mut by_type: BTreeMap<EventType, Share> = BTreeMap::new();
    let mut parts = [("headers", 0u64), ("contexts", 0), ("payloads", 0), ("metadata", 0), ("links", 0)];
    let mut own = Share::default();
    let mut times: Option<(i64, i64)> = None;
    let mut dates: Option<(i64, i64)> = None;
    let mut first_id = 0;
    // Those of segments that opening has not looked through too.
    let mut gaps = Gaps::default();
    let bar = output::progress(Some(reader.report().events()), Unit::Events).with_message("counting");
    for part in reader.parts(&query) {
        for located in part.records() {
            let located = match located {
                Ok(located) => located,
                Err(error) => {
                    losses.push(answer::archive_loss(&dir, error)?);
                    break;
                }
            };
            let record = located.record;
            if record.is_control() {
                own.add(record.len());
                gaps = gaps.plus(Gaps::of(&record));
                continue;
            }
            // The events of a group may stand in the order of their priorities.
            first_id = if first_id == 0 { record.event_id() } else { first_id.min(record.event_id()) };
            by_type.entry(record.event_type()).or_default().add(record.len());
            let sizes = [
                semj::format::EventHeader::SIZE,
                record.context_bytes().len(),
                record.payload().len(),
                record.metadata().len(),
                record.links().len() * semj::format::limits::LINK_SIZE,
            ];
            for ((_, total), size) in parts.iter_mut().zip(sizes) {
                *total += size as u64;
            }
            let ktime = record.ktime_ns();
            times = Some(extended(times, ktime));
            if answer::has_clock(located.opening) {
                dates = Some(extended(dates, located.opening.wall_clock_of(ktime)));
            }
        }
        bar.set_position(by_type.values().map(|share| share.records).sum());
    }
    bar.finish_and_clear();
    let figures = Figures { by_type, parts, own, times, dates, first_id, gaps };
    output::unless_closed(print(args, &dir, reader.report(), &figures))?;
    output::say_losses(&losses);
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

/// A range of times with one more in it.
fn extended(times: Option<(i64, i64)>, time: i64) -> (i64, i64) {
    times.map_or((time, time), |(first, last)| (first.min(time), last.max(time)))
}

fn print(args: &Args, dir: &Path, report: &Report, figures: &Figures) -> Result<()> {
    let &Figures { ref by_type, parts, own, times, dates, first_id, gaps } = figures;
    let events: u64 = by_type.values().map(|share| share.records).sum();
    let bytes: u64 = report.segments.iter().map(|segment| segment.end as u64).sum();
    let stored: u64 = report.segments.iter().map(SegmentReport::stored_size).sum();
    let commits: u64 = report.segments.iter().map(|segment| segment.totals.commits).sum();
    let last_id = report.tip.map_or(0, |tip| tip.last_event_id);

    if args.json {
        let types: serde_json::Map<String, Value> = by_type
            .iter()
            .map(|(t, share)| (t.to_string(), json!({ "events": share.records, "bytes": share.bytes })))
            .collect();
        let mut value = output::report_json(report);
        if let Some(fields) = value.as_object_mut() {
            fields.insert("path".into(), output::path(dir));
            // As the other commands call it.
            fields.insert("journal".into(), output::path(dir));
            fields.insert("events_dropped".into(), json!(gaps.dropped));
            fields.insert("ids_missing".into(), json!(gaps.lost));
            fields.insert("by_type".into(), Value::Object(types));
            fields.insert("parts".into(), parts.iter().map(|(name, size)| (*name, *size)).collect());
            fields.insert("own_records".into(), json!({ "records": own.records, "bytes": own.bytes }));
            fields.insert("first_event_id".into(), json!(first_id));
            fields.insert("last_event_id".into(), json!(last_id));
            fields.insert("first_ktime_ns".into(), json!(times.map(|(first, _)| first)));
            fields.insert("last_ktime_ns".into(), json!(times.map(|(_, last)| last)));
            fields.insert("first_wall_clock_ns".into(), json!(dates.map(|(first, _)| first)));
            fields.insert("last_wall_clock_ns".into(), json!(dates.map(|(_, last)| last)));
        }
        return output::print_json(&value);
    }
    let mut out = output::stdout();
    let percent = |part: u64| 100.0 * part as f64 / bytes.max(1) as f64;
    let mut types: Vec<_> = by_type.iter().collect();
    types.sort_by_key(|(event_type, share)| (std::cmp::Reverse(share.records), **event_type));
    for (event_type, share) in types {
        let size = output::bytes(share.bytes);
        writeln!(out, "{:>12}  {event_type:<28} {size:>10}", output::grouped(share.records))?;
    }
    writeln!(out, "{:>12}  events, ids {first_id} to {last_id}", output::grouped(events))?;
    for line in output::gaps(gaps) {
        writeln!(out, "{line}")?;
    }
    if let Some((first, last)) = dates.or(times) {
        let seconds = (i128::from(last) - i128::from(first)) as f64 / 1e9;
        write!(out, "{seconds:>12.3}  seconds from first to last")?;
        if dates.is_some() {
            write!(out, ", {} to {}", output::wall_clock(first), output::wall_clock(last))?;
        }
        writeln!(out)?;
    }
    writeln!(out)?;
    for (name, size) in parts.into_iter().chain([("own records", own.bytes)]) {
        writeln!(out, "{:>12}  {name} ({:.1}%)", output::bytes(size), percent(size))?;
    }
    writeln!(
        out,
        "{:>12}  in {}, {}",
        output::bytes(bytes),
        output::count(report.segments.len() as u64, "segment"),
        output::count(commits, "commit")
    )?;
    if stored != bytes {
        writeln!(out, "{:>12}  on the disk ({:.1}%)", output::bytes(stored), percent(stored))?;
    }
    if let Some(tip) = report.tip {
        writeln!(out, "\ndigest  {}", tip.digest)?;
    }
    Ok(out.flush()?)
}
