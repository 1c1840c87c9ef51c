//! `semj cat`: events, to be looked at.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use semj::{Follower, Located, Position, Query, Start, View};

use crate::Outcome;
use crate::answer::{self, Style};
use crate::filter::Filter;
use crate::journal_arg::SourceArg;
use crate::{output, remote};

/// Events that are shown of what is there, before those that come.
const FOLLOWED_LINES: usize = 10;

/// Print events, one a line.
///
/// First stands when it happened, in UTC, by the clocks that its segment has noted; behind the id, where there is room, the
/// seconds of the event's own clock. An event that was imported has a time of the machine that it comes from, and a right date
/// only if that is this one since its last start.
///
/// A damaged journal is shown as far as it proves itself; what is missing is said, and the status is 3.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  semj cat ./journal --tail 20\n  semj cat ./journal --id 100..200 --json\n  \
                  semj cat ./journal --type FilesystemDelete --path /project/src --since -5m\n  \
                  semj cat ./journal --follow --priority high\n  semj cat ./journal --control"
)]
pub(crate) struct Args {
    #[command(flatten)]
    journal: SourceArg,
    #[command(flatten)]
    filter: Filter,
    /// Go on with events as they come, behind the last ten, or as many as --limit says, or all since --since. Runs when
    /// nothing else wants the processor, so that the writer is as fast as without it.
    #[arg(short, long, conflicts_with_all = ["reverse", "id", "until"])]
    follow: bool,
    /// The last so many events, in their order.
    #[arg(long, value_name = "N", conflicts_with_all = ["reverse", "limit", "follow"])]
    tail: Option<usize>,
    /// Of events that come, only those that are on the disk: up to a second later.
    #[arg(long, requires = "follow")]
    durable: bool,
    /// JSON lines, with every field.
    #[arg(long)]
    json: bool,
    /// In JSON: wall_clock_ns, nanoseconds since 1970, in place of ktime_ns.
    #[arg(long, requires = "json")]
    dates: bool,
}

pub(crate) fn run(args: &Args) -> Result<Outcome> {
    let style = Style::new(args.json).dated(args.dates);
    let mut out = output::stdout();
    let dir = args.journal.source();
    if args.follow {
        if let Some(url) = remote::url(&dir) {
            anyhow::bail!("{url}: an archive can't be followed: it has what was pushed to it");
        }
        if dir.is_file() {
            anyhow::bail!(
                "{}: a file can't be followed, but the journal that it belongs to can",
                dir.display()
            );
        }
        return follow(args, &dir, style, &mut out);
    }
    let losses = match args.tail {
        Some(count) => show_last(&dir, &args.filter.unlimited(), count, style, &mut out, |_| true)?,
        None => answer::each(&dir, &args.filter.query(), |located| style.print(located, &mut out))?,
    };
    out.flush()?;
    output::say_losses(&losses);
    Ok(if losses.is_empty() { Outcome::Good } else { Outcome::Incomplete })
}

/// How often it looks whether anybody still reads what it prints.
const PATIENCE: Duration = Duration::from_secs(1);

fn follow(args: &Args, dir: &Path, style: Style, out: &mut impl Write) -> Result<Outcome> {
    let view = if args.durable { View::Durable } else { View::Published };
    let mut follower = Follower::open(dir, Start::End, view)?;
    // Who looks on slows down nobody.
    follower.give_way();
    show_past(args, dir, style, out, &follower.position())?;
    let query = args.filter.unlimited();
    let mut contexts = 0;
    let mut patience = Some(Duration::ZERO);
    let mut looks_at = Instant::now() + PATIENCE;
    loop {
        // What is there is printed at once, and everything that was printed is seen before this waits.
        let next =
            if args.filter.shows_own() { follower.next_of_all(patience) } else { follower.next(patience) };
        patience = Some(Duration::ZERO);
        // However much comes: perhaps nothing of it is printed.
        if Instant::now() >= looks_at {
            if output::is_closed() {
                return Ok(Outcome::Good);
            }
            looks_at = Instant::now() + PATIENCE;
        }
        match next {
            Err(error) => {
                out.flush()?;
                // What a salvage has accepted stands in nobody's way.
                if !follower.pass_over_damage().unwrap_or(false) {
                    return Err(error.into());
                }
                output::say(format_args!("{error}: recorded, and passed over"));
            }
            Ok(Some(located)) => {
                if query.plan(located.opening).matches(&located.record, &mut contexts) {
                    style.print(&located, out)?;
                }
            }
            Ok(None) => {
                out.flush()?;
                patience = Some(PATIENCE);
            }
        }
    }
}

/// Prints what is there before `end`, as much of it as is asked for.
fn show_past(args: &Args, dir: &Path, style: Style, out: &mut impl Write, end: &Position) -> Result<()> {
    let end = (end.segment_number, end.offset);
    let query = args.filter.unlimited();
    let limit = match args.filter.limit() {
        Some(limit) => usize::try_from(limit)?,
        None if args.filter.has_since() => usize::MAX,
        None => FOLLOWED_LINES,
    };
    let is_shown = |located: &Located<'_>| (located.opening.segment_number, located.offset) < end;
    let losses = if limit == usize::MAX {
        answer::each(dir, &query, |located| match is_shown(located) {
            true => style.print(located, out),
            false => Ok(()),
        })?
    } else {
        show_last(dir, &query, limit, style, out, is_shown)?
    };
    out.flush()?;
    output::say_losses(&losses);
    Ok(())
}

/// Prints the last events that a query has, in their order. Gives what is lost of the journal.
fn show_last(
    dir: &Path,
    query: &Query,
    limit: usize,
    style: Style,
    out: &mut impl Write,
    is_shown: impl Fn(&Located<'_>) -> bool,
) -> Result<Vec<String>> {
    let query = query.clone().reverse();
    let ((lines, unread), mut losses) = answer::with_reader(dir, |reader| {
        let (mut last, mut unread) = (Vec::new(), Vec::new());
        'parts: for part in reader.parts(&query) {
            let mut found = part.query(&query).located();
            while last.len() < limit {
                let Some(located) = found.next() else { continue 'parts };
                let located = match located {
                    Ok(located) => located,
                    // Nothing before it in this segment can be had.
                    Err(error) if remote::url(dir).is_some() => {
                        unread.push(answer::archive_loss(dir, error)?);
                        continue 'parts;
                    }
                    Err(error) => return Err(error.into()),
                };
                if is_shown(&located) {
                    let mut line = Vec::new();
                    style.print(&located, &mut line)?;
                    last.push(line);
                }
            }
            break;
        }
        last.reverse();
        Ok((last, unread))
    })?;
    losses.extend(unread);
    for line in &lines {
        out.write_all(line)?;
    }
    Ok(losses)
}
