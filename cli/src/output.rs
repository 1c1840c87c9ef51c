//! What commands print, and how.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec};
use semj::format::control::DamagedRange;
use semj::recovery::{Extent, Gaps};
use semj::{Compacted, OpenMode, Progress, Report, SegmentReport, Verdict};
use serde_json::{Value, json};

/// Standard output, which notes that nobody reads it any more.
pub(crate) struct Stdout(StdoutLock<'static>);

/// Whether the reader of standard output went away.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(of_stdout)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(of_stdout)
    }
}

/// Says of what an error is, which could be that of a journal's disk, and notes where nobody reads any more.
fn of_stdout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        IS_CLOSED.store(true, Ordering::Relaxed);
    }
    io::Error::new(error.kind(), format!("standard output: {error}"))
}

/// Whether standard output is a pipe that nobody reads any more.
pub(crate) fn is_closed() -> bool {
    let stdout = io::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&at_once)).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

/// Standard output, buffered.
pub(crate) fn stdout() -> BufWriter<Stdout> {
    BufWriter::with_capacity(64 << 10, Stdout(io::stdout().lock()))
}

/// What was found counts, whether or not anybody reads all that is said of it.
pub(crate) fn unless_closed(printed: Result<()>) -> Result<()> {
    match printed {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// A path in JSON, whose texts are UTF-8: what is not is replaced in it.
pub(crate) fn path(path: &Path) -> Value {
    path.to_string_lossy().into()
}

/// Prints one JSON value as a line.
pub(crate) fn print_json(value: &Value) -> Result<()> {
    let mut out = stdout();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Prints a line for a person.
pub(crate) fn print_line(line: impl Display) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Blanks before a line that stands so far in. Behind [`DEPTH_MAX`] it goes no further: what is nested thousands deep would be
/// nothing but blanks.
pub(crate) fn indentation(depth: usize) -> usize {
    2 * depth.min(DEPTH_MAX)
}

/// How far in a line stands at most.
const DEPTH_MAX: usize = 64;

/// One line of JSON that is right, as many lines: a value each. Numbers, texts and the order of fields stay as they are, which a
/// parser's own values would not keep.
pub(crate) fn pretty_json(line: &[u8]) -> Vec<u8> {
    let mut pretty = Vec::with_capacity(line.len() * 2);
    let mut depth = 0usize;
    let (mut is_text, mut is_escaped) = (false, false);
    let begin_line = |pretty: &mut Vec<u8>, depth: usize| {
        pretty.push(b'\n');
        pretty.resize(pretty.len() + indentation(depth), b' ');
    };
    for &byte in line {
        if is_text {
            pretty.push(byte);
            is_text = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
            continue;
        }
        let is_first = matches!(pretty.last(), Some(b'{' | b'['));
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => continue,
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if !is_first {
                    begin_line(&mut pretty, depth);
                }
            }
            _ if is_first => begin_line(&mut pretty, depth),
            _ => {}
        }
        pretty.push(byte);
        match byte {
            b'{' | b'[' => depth += 1,
            b',' => begin_line(&mut pretty, depth),
            b':' => pretty.push(b' '),
            b'"' => is_text = true,
            _ => {}
        }
    }
    pretty
}

/// Says something on standard error. Nobody can be told that nobody listens there.
pub(crate) fn say(message: impl Display) {
    let _: io::Result<()> = writeln!(io::stderr().lock(), "semj: {message}");
}

/// Says what is not shown of a damaged journal.
pub(crate) fn say_losses(losses: &[String]) {
    losses.iter().for_each(say);
}

/// An error with its causes; one that the error's own text ends with already is not said twice.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text += ": ";
            text += &cause;
        }
        text
    })
}

/// Bytes as a person can read them: text as it is, what can't be printed escaped.
pub(crate) fn printable(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => Cow::Borrowed(text),
        _ => Cow::Owned(bytes.escape_ascii().to_string()),
    }
}

/// As much of some bytes as a line has room for.
pub(crate) fn shortened(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = printable(bytes);
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}… ({} B)", text.get(..end).unwrap_or(&text), bytes.len()),
        None => text.into_owned(),
    }
}

/// Whether this is that the reader of standard output went away. Any other pipe is another matter.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_pipe = error.chain().any(|cause| {
        let kind = match cause.downcast_ref::<io::Error>() {
            Some(error) => Some(error.kind()),
            None => cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind),
        };
        kind == Some(io::ErrorKind::BrokenPipe)
    });
    is_pipe && IS_CLOSED.load(Ordering::Relaxed)
}

/// A progress bar over bytes or events: on a terminal, and nothing in a pipe.
pub(crate) fn progress(length: Option<u64>, unit: Unit) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let count = match unit {
        Unit::Bytes => "{bytes}/{total_bytes}  {bytes_per_sec}",
        Unit::Events => "{human_pos} events  {per_sec}",
    };
    let template = match length {
        Some(_) => format!("{{msg}} [{{bar:30}}] {count}  {{eta}}"),
        None => format!("{{msg}} {{spinner}} {count}"),
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    // The templates above are right; if not, the default style serves as well.
    bar.with_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Does what takes long, and shows on a terminal how far that has come.
pub(crate) fn watched<T>(message: &'static str, work: impl FnOnce(&Progress) -> T) -> T {
    let bar = progress(Some(0), Unit::Bytes).with_message(message);
    let watched = Progress::default();
    let done = std::thread::scope(|scope| {
        // Dropped when it is done.
        let (_goes_on, ends) = mpsc::channel::<()>();
        let (bar, watched) = (&bar, &watched);
        if !bar.is_hidden() {
            scope.spawn(move || {
                while ends.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    bar.set_length(watched.total());
                    bar.set_position(watched.done());
                }
            });
        }
        work(watched)
    });
    bar.finish_and_clear();
    done
}

/// How often it is looked how far work has come.
const LOOK: Duration = Duration::from_millis(50);

/// What a progress bar counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    Events,
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// A noun with its number.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// So many in so much time, each second.
pub(crate) fn rate(number: u64, time: Duration) -> u64 {
    (number as f64 / time.as_secs_f64().max(1e-9)) as u64
}

/// What a report says of the bytes that are not shown, a line each; empty where nothing is missing.
pub(crate) fn losses(report: &Report) -> Vec<String> {
    let mut lines = Vec::new();
    for segment in &report.segments {
        if let Some(fault) = &segment.fault
            && !segment.verdict.is_good()
        {
            lines.push(format!("{}: {}: {fault}", segment.name, segment.verdict.name()));
        }
        if let Some(lost) = &segment.lost_before {
            lines.push(lost_segment(lost));
        }
        for damage in &segment.damaged {
            let Extent { start, end } = *damage;
            lines.push(format!("{}: {} lost at offset {start}", segment.name, bytes((end - start) as u64)));
        }
    }
    lines
}

/// What to do about damage, if it can be repaired: not in a copy that is for reading, and where a version is not known nothing is
/// damaged.
pub(crate) fn repair_hint(dir: &Path, report: &Report) -> Option<String> {
    let is_unknown = |segment: &SegmentReport| segment.verdict == Verdict::Unsupported;
    let can_be = report.mode == OpenMode::Strict
        && !report.is_whole()
        && !report.segments.iter().any(is_unknown)
        && !dir.join(semj::UNRETIRED).exists();
    can_be.then(|| format!("semj repair --dry-run {} says what can be kept", dir.display()))
}

/// That a segment is lost as a whole.
pub(crate) fn lost_segment(lost: &DamagedRange) -> String {
    format!("segment {}: lost, {}", lost.segment_number, bytes(lost.length))
}

/// What a journal begins behind.
pub(crate) fn retired(retired: &Compacted) -> String {
    format!(
        "segments up to {}: retired, {}, {}, ids up to {}; proven from {} on",
        retired.segment_number,
        count(retired.segment_count, "segment"),
        count(retired.event_count, "event"),
        retired.last_event_id,
        retired.digest
    )
}

/// What the journal's Gaps say is missing, a line each.
pub(crate) fn gaps(gaps: Gaps) -> Vec<String> {
    let lines = [
        (gaps.dropped, "events were dropped because there was no room for them"),
        (gaps.lost, "ids are recorded as missing"),
    ];
    let found = lines.into_iter().filter(|(number, _)| *number > 0);
    found.map(|(number, what)| format!("{:>12}  {what}", grouped(number))).collect()
}

/// Wall-clock time in UTC, to the microsecond.
pub(crate) fn wall_clock(ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(ns.into()) {
        Ok(time) => format!("{time:.6}"),
        Err(_) => format!("{ns} ns"),
    }
}

/// A report as JSON.
pub(crate) fn report_json(report: &Report) -> Value {
    json!({
        "is_whole": report.is_whole(),
        "is_closed": report.is_closed(),
        "events": report.events(),
        "records": report.segments.iter().map(|segment| segment.totals.records).sum::<u64>(),
        "commits": report.segments.iter().map(|segment| segment.totals.commits).sum::<u64>(),
        "bytes": report.segments.iter().map(|segment| segment.end as u64).sum::<u64>(),
        "stored_bytes": report.segments.iter().map(SegmentReport::stored_size).sum::<u64>(),
        "watermark": report.watermark.newest.map(|mark| json!({
            "epoch": mark.epoch,
            "segment_number": mark.segment_number,
            "end": mark.end,
            "last_event_id": mark.last_event_id,
        })),
        "watermark_faults": report.watermark.faults.map(|fault| fault.map(|fault| fault.to_string())),
        "digest": report.tip.map(|tip| tip.digest.to_string()),
        "retired": report.retired.map(|retired| json!({
            "segment_number": retired.segment_number,
            "segments": retired.segment_count,
            "events": retired.event_count,
            "bytes": retired.byte_count,
            "first_event_id": retired.first_event_id,
            "last_event_id": retired.last_event_id,
            "wall_clock_ns": retired.wall_clock_ns,
            "digest": retired.digest.to_string(),
        })),
        "events_dropped": report.gaps().dropped,
        "ids_missing": report.gaps().lost,
        "leftovers": report.leftovers,
        "segments": report.segments.iter().map(segment_json).collect::<Vec<_>>(),
    })
}

fn segment_json(segment: &SegmentReport) -> Value {
    let extent = |extent: &Extent| json!({ "offset": extent.start, "length": extent.size() });
    json!({
        "name": segment.name,
        "number": segment.number,
        "epoch": segment.opening.map(|opening| opening.epoch),
        "verdict": segment.verdict.name(),
        "is_sealed": segment.is_sealed,
        "bytes": segment.end,
        "stored_bytes": segment.stored_size(),
        "records": segment.totals.records,
        "events": segment.events(),
        "commits": segment.totals.commits,
        "events_taken_out": segment.totals.thinned.events,
        "first_event_id": segment.totals.first_event_id,
        "last_event_id": if segment.totals.events == 0 { 0 } else { segment.totals.last_event_id },
        "digest": segment.totals.digest.to_string(),
        "fault": segment.fault.map(|fault| json!({ "offset": fault.offset, "what": fault.kind.to_string() })),
        "lost_segment_before": segment.lost_before.map(|lost| lost.segment_number),
        "damaged": segment.damaged.iter().map(extent).collect::<Vec<_>>(),
        "tail": segment.tail.as_ref().map(extent),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shortened_says_so_and_what_is_not_does_not() {
        assert_eq!(shortened(b"short"), "short");
        assert_eq!(shortened("ü".repeat(60).as_bytes()), "ü".repeat(60));
        assert!(shortened("ü".repeat(61).as_bytes()).ends_with("… (122 B)"));
        assert!(shortened(&[0; 100]).ends_with("… (100 B)"));
        assert_eq!(shortened(b"a\nb"), "a\\nb");
    }

    #[test]
    fn pretty_json_is_the_same_json() {
        let line =
            br#"{"a":1,"a":1e400,"text":"x\"{,\\","none":{},"list":[1,[]],"big":18446744073709551616}"#;
        let pretty = String::from_utf8(pretty_json(line)).unwrap_or_default();
        let lines: Vec<&str> = pretty.lines().collect();
        let expected = [
            "{",
            r#"  "a": 1,"#,
            r#"  "a": 1e400,"#,
            r#"  "text": "x\"{,\\","#,
            r#"  "none": {},"#,
            r#"  "list": ["#,
            "    1,",
            "    []",
            "  ],",
            r#"  "big": 18446744073709551616"#,
            "}",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_nested_deep_is_the_same_json_and_not_much_longer() {
        let line = [&[b'['; 32_768][..], &[b']'; 32_768]].concat();
        let pretty = pretty_json(&line);
        assert!(pretty.len() < 10 << 20, "{}", pretty.len());
        let bare: Vec<u8> = pretty.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
        assert!(bare == line);
    }

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("too long").context("field: too long").context("file:1");
        assert_eq!(with_causes(&error), "file:1: field: too long");
    }

    #[test]
    fn numbers_are_grouped_from_the_right() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
