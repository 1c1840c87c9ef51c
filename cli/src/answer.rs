//! Asking a journal, and what a person sees of the answers.

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::Path;

use anyhow::Result;
use semj::format::SegmentOpen;
use semj::reader::Located;
use semj::{Category, Error, EventType, OpenMode, Query, Reader, Record};
use semj_interchange::json;

use crate::{output, remote};

/// Opens a journal at once, whatever its size: what is read is checked then. One that is damaged is opened as far as it
/// proves itself, for which all of it is read. With it comes what is lost of it.
fn open(dir: &Path) -> Result<(Reader, Vec<String>)> {
    if remote::url(dir).is_some() || dir.is_file() {
        return open_whole(dir);
    }
    match Reader::open_newest(dir, OpenMode::Strict) {
        Err(Error::Damaged { .. } | Error::Gone { .. }) => open_whole(dir),
        opened => opened.map(with_losses).map_err(Into::into),
    }
}

/// The same of all that is there, for a command that reads all of it.
pub(crate) fn open_whole(dir: &Path) -> Result<(Reader, Vec<String>)> {
    match remote::url(dir) {
        Some(url) => remote::open(url),
        None if dir.is_file() => {
            let (reader, mut losses) = with_losses(Reader::open_file(dir)?);
            let mut openings = reader.report().segments.iter().filter_map(|segment| segment.opening.as_ref());
            if !openings.all(has_clock) {
                losses.push(format!("{}: nothing says at which dates its events were", dir.display()));
            }
            Ok((reader, losses))
        }
        None => Ok(with_losses(Reader::open(dir, OpenMode::Salvage)?)),
    }
}

fn with_losses(reader: Reader) -> (Reader, Vec<String>) {
    let losses = output::losses(reader.report());
    (reader, losses)
}

/// Does something with a reader. Where it comes upon damage that opening did not look for, it is done once more with a
/// reader that shows what proves itself.
pub(crate) fn with_reader<T>(dir: &Path, work: impl Fn(&Reader) -> Result<T>) -> Result<(T, Vec<String>)> {
    let (reader, losses) = open(dir)?;
    match work(&reader) {
        Err(error) if is_rotten(&error) && remote::url(dir).is_none() => {
            let (reader, losses) = open_whole(dir)?;
            Ok((work(&reader)?, losses))
        }
        done => Ok((done?, losses)),
    }
}

fn is_rotten(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::Rotten { .. }))
}

/// Gives every answer, in its order. What is returned is what is lost of the journal.
pub(crate) fn each(
    dir: &Path,
    query: &Query,
    mut give: impl FnMut(&Located<'_>) -> Result<()>,
) -> Result<Vec<String>> {
    let (reader, mut losses) = open(dir)?;
    let mut last = None;
    let mut is_rotten = false;
    let mut left = query.limited_to();
    'parts: for part in reader.parts(query) {
        let of_part = query.clone().limit(left);
        for found in part.query(&of_part).located() {
            match found {
                Ok(located) => {
                    give(&located)?;
                    last = Some(place(&located));
                    left -= 1;
                }
                Err(Error::Rotten { .. }) if remote::url(dir).is_none() => {
                    is_rotten = true;
                    break 'parts;
                }
                // Nothing behind it in this segment can be had.
                Err(error) => {
                    losses.push(archive_loss(dir, error)?);
                    break;
                }
            }
        }
        if left == 0 {
            break;
        }
    }
    if !is_rotten {
        return Ok(losses);
    }
    // It goes on behind what was given, with a reader that shows what proves itself. That may not have all of what was given, so
    // the limit counts what is.
    let (reader, losses) = open_whole(dir)?;
    let query = query.clone().limit(u64::MAX);
    for part in reader.parts(&query) {
        for found in part.query(&query).located() {
            let located = found?;
            let here = place(&located);
            let is_given =
                last.is_some_and(|last| if query.is_reverse() { here >= last } else { here <= last });
            if left == 0 {
                return Ok(losses);
            }
            if !is_given {
                give(&located)?;
                left -= 1;
            }
        }
    }
    Ok(losses)
}

/// What is lost with a segment of an archive that could not be read, or could not be read on; any other error is one.
pub(crate) fn archive_loss(dir: &Path, error: Error) -> Result<String> {
    let is_lost = remote::url(dir).is_some()
        && match &error {
            Error::Rotten { .. } | Error::RottenBlock { .. } => true,
            Error::Io { source, .. } => {
                matches!(
                    source.kind(),
                    ErrorKind::NotFound | ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                )
            }
            _ => false,
        };
    if is_lost { Ok(output::with_causes(&error.into())) } else { Err(error.into()) }
}

fn place(located: &Located<'_>) -> (u64, u64) {
    (located.opening.segment_number, located.offset)
}

/// The SegmentOpen of the segment that an event stands in, with its clocks.
pub(crate) fn opening_of<'r>(reader: &'r Reader, record: &Record<'_>) -> Result<Option<&'r SegmentOpen>> {
    let id = record.event_id();
    let found = reader.query(&Query::new().ids(id..=id)).next_located().transpose()?;
    Ok(found.map(|located| located.opening))
}

/// Columns of a terminal from which on an event's own clock is shown beside the date.
const KTIME_WIDTH: usize = 120;

/// How answers are printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    is_json: bool,
    /// In JSON: events have a date in place of their time.
    has_dates: bool,
    has_colours: bool,
    /// Columns of the terminal.
    width: Option<usize>,
}

impl Style {
    pub(crate) fn new(is_json: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = console::Term::stdout().size_checked().map(|(_, columns)| usize::from(columns));
        let has_colours = terminal && !no_color;
        Self { is_json, has_dates: false, has_colours, width: width.filter(|_| terminal) }
    }

    /// The same with dates in JSON too.
    pub(crate) fn dated(self, has_dates: bool) -> Self {
        Self { has_dates, ..self }
    }

    /// Whether the SegmentOpen is needed of a record's segment, whose clocks say when it happened.
    pub(crate) fn has_dates(&self) -> bool {
        self.has_dates || !self.is_json
    }

    /// Prints a record as one line.
    pub(crate) fn print(&self, located: &Located<'_>, out: &mut impl Write) -> Result<()> {
        self.print_record(&located.record, Some(located.opening), "", out)
    }

    /// Prints a record of a segment as one line, with something before its id.
    pub(crate) fn print_record(
        &self,
        record: &Record<'_>,
        opening: Option<&SegmentOpen>,
        before: &str,
        out: &mut impl Write,
    ) -> Result<()> {
        let ktime = record.ktime_ns();
        let opening = opening.filter(|opening| has_clock(opening));
        if self.is_json {
            let date = opening.filter(|_| self.has_dates).map(|opening| opening.wall_clock_of(ktime));
            let written = match (record.is_control(), date) {
                (false, None) => json::write_event(record, out),
                (false, Some(date)) => json::write_dated_event(record, date, out),
                (true, None) => json::write_control(record, out),
                (true, Some(date)) => json::write_dated_control(record, date, out),
            };
            return Ok(written?);
        }
        let date =
            opening.map_or_else(String::new, |opening| output::wall_clock(opening.wall_clock_of(ktime)));
        let mut head = format!("{date:<27}  {before}{:>8}  ", record.event_id());
        // An event from another machine or boot has a monotonic time of its own, of which the segment's clocks say nothing.
        if self.width.is_none_or(|width| width >= KTIME_WIDTH) {
            head += &format!("{:>16.6}  ", ktime as f64 / 1e9);
        }
        let kind = format!("{:<20}", record.event_type());
        let mut tail = format!("  {:>7}  ", record.process_id());
        if record.is_control() {
            let value = json::control_value(record);
            tail += &value.get("body").unwrap_or(&serde_json::Value::Null).to_string();
        } else {
            tail += &format!("{}  {}", path(record), output::shortened(record.payload()));
        }
        let tail = match self.width {
            Some(width) => fitted(&tail, width.saturating_sub(head.chars().count() + kind.chars().count())),
            None => tail,
        };
        if self.has_colours {
            writeln!(out, "{head}\x1b[{}m{kind}\x1b[0m{}", colour(record.event_type()), tail.trim_end())?;
        } else {
            writeln!(out, "{head}{kind}{}", tail.trim_end())?;
        }
        Ok(())
    }
}

/// Whether a segment says when its events were: that of a file whose SegmentOpen can't be read does not.
pub(crate) fn has_clock(opening: &SegmentOpen) -> bool {
    (opening.wall_clock_ns, opening.monotonic_ns) != (0, 0)
}

/// As much of a text as there is room for.
fn fitted(text: &str, width: usize) -> String {
    match text.char_indices().nth(width) {
        None => text.to_owned(),
        Some(_) if width == 0 => String::new(),
        Some(_) => text.chars().take(width - 1).chain(['…']).collect(),
    }
}

/// The colour of a type's category, as terminals number them.
fn colour(event_type: EventType) -> u32 {
    match event_type.category() {
        Category::FILESYSTEM => 32,
        Category::GRAPH => 36,
        Category::VECTOR => 34,
        Category::AGENT => 35,
        Category::SYSTEM => 33,
        Category::SEMANTIC => 96,
        Category::JOURNAL => 90,
        Category::OBSERVABILITY => 31,
        _ => 37,
    }
}

fn path(record: &Record<'_>) -> String {
    match record.context() {
        Ok(Some(context)) if !context.path.is_empty() => output::printable(context.path).into_owned(),
        Ok(_) => "-".to_owned(),
        Err(error) => format!("({error})"),
    }
}

/// Why an event is not there, as far as the journal says.
pub(crate) fn no_event(reader: &Reader, event_id: u64) -> String {
    let report = reader.report();
    let newest = report.tip.map_or(0, |tip| tip.last_event_id);
    match report.retired {
        Some(retired) if event_id <= retired.last_event_id => {
            format!("no event {event_id}: those up to {} were retired", retired.last_event_id)
        }
        _ if event_id > newest => format!("no event {event_id}: the newest one is {newest}"),
        _ if report.kept_segments().iter().any(|segment| segment.totals.thinned.events > 0) => {
            format!("no event {event_id}: it may be one of those that were taken out")
        }
        _ => format!("no event {event_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_fits_the_terminal_and_says_that_it_was_cut() {
        assert_eq!(fitted("short", 5), "short");
        assert_eq!(fitted("longer", 5), "long…");
        assert_eq!(fitted("üüüüüü", 5).chars().count(), 5);
        assert_eq!(fitted("x", 0), "");
    }
}
