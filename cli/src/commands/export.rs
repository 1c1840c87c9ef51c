//! `semj export`: events out of a journal.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clap::error::ErrorKind;
use semj::{EventType, Located, Query, Reader};
use semj_interchange::{json, kernel};
use serde_json::json;

use crate::Outcome;
use crate::answer;
use crate::filter::Conditions;
use crate::journal_arg::{SourceArg, wrong_use};
use crate::new_file::NewFile;
use crate::output::{self, Stdout, Unit};
use crate::remote;

/// Export the events of a journal, all of them or those that meet conditions.
///
/// The conditions are those of semj cat, and give the same events. Of a damaged journal it gives what proves itself, says what
/// is missing, and ends with status 3.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj export ./journal > events.jsonl\n  semj export ./journal --format kernel -o journal.semj\n  \
                  semj export ./journal --since 2026-11-23 --path /project/src -o day.jsonl\n  \
                  semj export ./journal --format kernel --id ..5000000 -o first.semj"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: SourceArg,
    #[command(flatten)]
    conditions: Conditions,
    /// jsonl: one JSON object a line. kernel: a journal in the kernel's format, contexts in their fixed form.
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// In JSON lines: wall_clock_ns, nanoseconds since 1970, in place of ktime_ns. For an import that is to keep the dates on
    /// another machine, or after a restart.
    #[arg(long)]
    dates: bool,
    /// Write to this file in place of standard output, which is -.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Say what was exported as JSON; on standard error if the events go to standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Jsonl,
    Kernel,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    if let Some(own) = args.conditions.own_type() {
        let what =
            format!("{own} is a type of the journal's own records, which semj cat shows and nothing imports");
        wrong_use(ErrorKind::InvalidValue, &what)
    }
    if args.dates && args.format == Format::Kernel {
        wrong_use(ErrorKind::ArgumentConflict, "--dates is for JSON lines: the kernel's format has no dates")
    }
    let dir = args.journal.source();
    let started = Instant::now();
    let wanted = Wanted::new(&args.conditions);
    let (reader, survey, mut losses) = open(args, &dir, &wanted)?;
    let file = args.output.as_deref().filter(|path| path.as_os_str() != "-");
    let mut out = match file {
        Some(path) if is_own(path, &dir) => {
            anyhow::bail!("{}: it would be among the journal's own files", path.display())
        }
        Some(path) => Output::file(path).with_context(|| format!("{}: can't create", path.display()))?,
        None => Output::Standard(output::stdout()),
    };
    let length = match &survey {
        Some(survey) => Some(survey.events),
        None => wanted.is_all.then(|| reader.report().events()),
    };
    let bar = output::progress(length, Unit::Events).with_message("exporting");
    let mut writer = match (args.format, &survey) {
        (Format::Kernel, Some(survey)) => Some(kernel::Writer::begin(&survey.measure, &mut out)?),
        _ => None,
    };
    let mut events = 0u64;
    // What kept the second way through the events from going as far as the first.
    let mut cut_short = None;
    for part in reader.parts(&wanted.query) {
        let end = wanted.each_in_order(&part, |located| {
            let record = &located.record;
            match &mut writer {
                Some(writer) => writer.write(record, &mut out)?,
                None if args.dates && answer::has_clock(located.opening) => {
                    let date = located.opening.wall_clock_of(record.ktime_ns());
                    json::write_dated_event(record, date, &mut out)?;
                }
                None => json::write_event(record, &mut out)?,
            }
            events += 1;
            if events.is_multiple_of(4096) {
                bar.set_position(events);
            }
            Ok(())
        })?;
        match (end, &survey) {
            (Some(error), None) => losses.push(answer::archive_loss(&dir, error)?),
            // What could be read the first time: an error was told then.
            (Some(error), Some(_)) => cut_short = Some(error),
            (None, _) => {}
        }
    }
    if survey.is_some_and(|survey| survey.events != events) {
        let what = format!("{}: it changed while it was read", dir.display());
        return Err(match cut_short {
            Some(error) => anyhow::Error::from(error).context(what),
            None => anyhow::Error::msg(what),
        });
    }
    out.finish()?;
    bar.finish_and_clear();

    output::say_losses(&losses);
    if args.json {
        let summary = json!({
            "journal": output::path(&dir), "events": events, "losses": losses,
            "elapsed_s": started.elapsed().as_secs_f64(),
        });
        match file {
            Some(_) => output::unless_closed(output::print_json(&summary))?,
            // The figures are the command's result, but the events have taken standard output.
            None => writeln!(io::stderr().lock(), "{summary}")?,
        }
    }
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

/// Opens a journal, and goes through its events before the first of them is written, where that is needed. With it comes what is
/// lost of it.
fn open(args: &Args, dir: &Path, wanted: &Wanted) -> Result<(Reader, Option<Survey>, Vec<String>)> {
    let is_surveyed = match args.format {
        // The header comes first, and what can't be written is found out before a file is replaced.
        Format::Kernel => true,
        // Only what is asked for is verified, and damage to it has to be known before anything is written. What is archived is
        // not fetched twice.
        Format::Jsonl => !wanted.is_all && remote::url(dir).is_none(),
    };
    let look = |reader: &Reader| -> Result<_> {
        let survey = if is_surveyed { Some(Survey::of(args.format, dir, reader, wanted)?) } else { None };
        Ok((reader.clone(), survey))
    };
    let ((reader, mut survey), mut losses) = if wanted.is_all {
        let (reader, losses) = answer::open_whole(dir)?;
        (look(&reader)?, losses)
    } else {
        answer::with_reader(dir, look)?
    };
    if let Some(survey) = &mut survey {
        losses.append(&mut survey.losses);
    }
    Ok((reader, survey, losses))
}

/// What was seen of the events before any was written.
struct Survey {
    events: u64,
    /// Of the kernel's format.
    measure: kernel::Measure,
    losses: Vec<String>,
}

impl Survey {
    fn of(format: Format, dir: &Path, reader: &Reader, wanted: &Wanted) -> Result<Self> {
        let mut survey = Self { events: 0, measure: kernel::Measure::default(), losses: Vec::new() };
        for part in reader.parts(&wanted.query) {
            let end = wanted.each_in_order(&part, |located| {
                survey.events += 1;
                if format == Format::Kernel {
                    survey.measure.push(&located.record).map_err(explained)?;
                }
                Ok(())
            })?;
            if let Some(error) = end {
                survey.losses.push(answer::archive_loss(dir, error)?);
            }
        }
        Ok(survey)
    }
}

/// Why events can't be written, and what helps.
fn explained(error: kernel::WriteError) -> anyhow::Error {
    match error {
        kernel::WriteError::TooMany => anyhow::anyhow!("{error}, by --id FIRST..LAST for instance"),
        error => error.into(),
    }
}

/// Which events are exported.
struct Wanted {
    query: Query,
    is_all: bool,
}

impl Wanted {
    fn new(conditions: &Conditions) -> Self {
        Self { query: conditions.query(), is_all: conditions.is_empty() }
    }

    /// Gives each of a segment's events that are wanted in the order of the ids, as it can be imported again: where a commit group
    /// is ordered by priority, they stand in another one. What is returned has kept it from being read to its end.
    fn each_in_order(
        &self,
        part: &Reader,
        mut give: impl FnMut(&Located<'_>) -> Result<()>,
    ) -> Result<Option<semj::Error>> {
        let id = |located: &Located<'_>| located.record.event_id();
        let mut group: Vec<Located<'_>> = Vec::new();
        let mut give_all = |group: &mut Vec<Located<'_>>| -> Result<()> {
            if !group.is_sorted_by_key(id) {
                group.sort_by_key(id);
            }
            group.drain(..).try_for_each(|located| give(&located))
        };
        let mut end = None;
        if self.is_all {
            for located in part.records() {
                match located {
                    Ok(located) if !located.record.is_control() => group.push(located),
                    Ok(located) if located.record.event_type() == EventType::JOURNAL_COMMIT => {
                        give_all(&mut group)?;
                    }
                    Ok(_) => {}
                    Err(error) => {
                        end = Some(error);
                        break;
                    }
                }
            }
        } else {
            // What is between them is not looked at, so that nothing tells where a group ends: those of the whole segment are one.
            for located in part.query(&self.query).located() {
                match located {
                    Ok(located) => group.push(located),
                    Err(error) => {
                        end = Some(error);
                        break;
                    }
                }
            }
        }
        give_all(&mut group)?;
        Ok(end)
    }
}

/// Whether a file is, or would be, among those of the journal that is read, or that a file which is read belongs to.
fn is_own(file: &Path, source: &Path) -> bool {
    if !source.is_file() {
        return is_in(file, source);
    }
    let Ok(source) = fs::canonicalize(source) else { return false };
    let is_journal = |dir: &Path| ["LOCK", "WATERMARK"].iter().any(|name| dir.join(name).exists());
    let folder = source.parent().unwrap_or(&source);
    let above = folder.parent().filter(|above| folder.ends_with("quarantine") && is_journal(above));
    fs::canonicalize(file).is_ok_and(|file| file == source)
        || (above.is_some() || is_journal(folder)) && is_in(file, folder)
        || above.is_some_and(|journal| is_in(file, journal))
}

/// Whether a file is, or would be, in a directory.
fn is_in(file: &Path, dir: &Path) -> bool {
    let there = fs::canonicalize(file);
    let file = there.as_deref().unwrap_or(file);
    let parent =
        file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let parent = parent.and_then(|parent| fs::canonicalize(parent).ok());
    parent.is_some() && parent == fs::canonicalize(dir).ok()
}

/// Where the events go. A file has its name when it is complete: what was there before stays until then.
enum Output {
    Standard(BufWriter<Stdout>),
    New(BufWriter<NewFile>),
    /// What can't be replaced.
    InPlace {
        file: BufWriter<File>,
        path: PathBuf,
    },
}

impl Output {
    fn file(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path).ok();
        let in_place = |path: &Path| {
            let file = BufWriter::with_capacity(256 << 10, File::create(path)?);
            Ok(Self::InPlace { file, path: path.to_owned() })
        };
        if let Some(there) = there {
            // A pipe, a device.
            if !there.is_file() {
                return in_place(path);
            }
            // What may not be written to is not replaced either. A link stays one, and who might read or write the file still may.
            drop(File::options().append(true).open(path)?);
            let path = fs::canonicalize(path)?;
            return match NewFile::beside(&path) {
                Ok(new) if new.as_file().metadata()?.uid() == there.uid() => {
                    new.as_file().set_permissions(there.permissions())?;
                    Ok(Self::New(BufWriter::with_capacity(256 << 10, new)))
                }
                // It is somebody else's, or in a directory that is.
                _ => in_place(&path),
            };
        }
        Ok(Self::New(BufWriter::with_capacity(256 << 10, NewFile::beside(path)?)))
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Standard(mut out) => Ok(out.flush()?),
            Self::InPlace { mut file, path } => file.flush().with_context(|| path.display().to_string()),
            Self::New(file) => {
                let path = file.get_ref().path().to_owned();
                let written = file.into_inner().map_err(io::Error::from);
                written.and_then(NewFile::finish).with_context(|| path.display().to_string())
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::New(file) => file.write(bytes).map_err(|error| of(file.get_ref().path())(error)),
            Self::InPlace { file, path } => file.write(bytes).map_err(of(path)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::New(file) => file.flush().map_err(|error| of(file.get_ref().path())(error)),
            Self::InPlace { file, path } => file.flush().map_err(of(path)),
        }
    }
}

/// An error with the name of its file.
fn of(path: &Path) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_too_many_events_for_a_journal_of_the_kernel_is_told_how_to_export_fewer() {
        let said = explained(kernel::WriteError::TooMany).to_string();
        assert!(
            said.contains("10000000 events") && said.ends_with("by --id FIRST..LAST for instance"),
            "{said}"
        );
    }
}
