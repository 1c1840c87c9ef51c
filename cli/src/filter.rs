//! Which events a command is about.

use anyhow::Result;
use clap::Args;
use semj::format::event_type::UnknownEventType;
use semj::{EventType, Glob, Query};

use crate::moment::Moment;

/// Conditions, all of which an event has to meet.
#[derive(Debug, Args)]
pub(crate) struct Conditions {
    /// Only events of this type, by its name, in capitals or not, or its number; more of them are given one by one or with
    /// commas.
    #[arg(long = "type", visible_alias = "types", value_name = "TYPE", value_delimiter = ',', value_parser = parse_type)]
    types: Vec<EventType>,
    /// Only events at or after this time: 2026-11-23T14:00:00Z, "2026-11-23 14:00", which is UTC, a day, "yesterday", "-5m",
    /// "2h ago", "now", @SECONDS since 1970, or nanoseconds of the journal's own clock. A day begins at 00:00 UTC.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<Moment>,
    /// Only events at or before this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<Moment>,
    /// Only events of paths that match, or lie below one that does: /project/src, '/a/**/*.rs', Makefile.
    #[arg(long, value_name = "GLOB")]
    path: Option<Glob>,
    /// Only events of this agent.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Only events of this transaction.
    #[arg(long = "tx", value_name = "N")]
    transaction: Option<u64>,
    /// Only events of this inode.
    #[arg(long, value_name = "N")]
    inode: Option<u64>,
    /// Only events of this process.
    #[arg(long, value_name = "P")]
    pid: Option<u32>,
    /// Only events as urgent as this or more: critical, high, normal, low, background, or 1 to 5.
    #[arg(long, value_name = "P", value_parser = parse_priority)]
    priority: Option<u32>,
    /// Only events whose ids lie in this range, both ends included; either may be left out: 100..200, 100..
    #[arg(long, value_name = "A..B", value_parser = parse_ids)]
    id: Option<Ids>,
    /// Only events whose payload or metadata contains this text, byte for byte. No index helps with that: what the other
    /// conditions leave is read.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    contains: Option<String>,
}

/// The same, how many events are shown, and which first.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    #[command(flatten)]
    conditions: Conditions,
    /// No more than so many events.
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<u64>,
    /// The last one first.
    #[arg(short, long)]
    reverse: bool,
    /// The journal's own records too.
    #[arg(long)]
    control: bool,
}

/// A range of ids, both ends included.
#[derive(Clone, Copy, Debug)]
struct Ids {
    first: u64,
    last: u64,
}

fn parse_ids(text: &str) -> Result<Ids, String> {
    let id = |text: &str, default| match text {
        "" => Ok(default),
        _ => text.parse().map_err(|error| format!("{text:?}: {error}")),
    };
    match text.split_once("..") {
        Some((first, last)) => match (id(first, 0)?, id(last, u64::MAX)?) {
            (first, last) if first > last => Err(format!("{first} is behind {last}")),
            (first, last) => Ok(Ids { first, last }),
        },
        None if text.is_empty() => Err("an id, or FIRST..LAST".to_owned()),
        None => id(text, 0).map(|id| Ids { first: id, last: id }),
    }
}

/// A type by its name, however it is capitalised, or its number.
pub(crate) fn parse_type(text: &str) -> Result<EventType, String> {
    let has_name = |known: &EventType| known.name().is_some_and(|name| name.eq_ignore_ascii_case(text));
    match EventType::ALL.into_iter().find(has_name) {
        Some(known) => Ok(known),
        None => text.parse().map_err(|error: UnknownEventType| error.to_string()),
    }
}

pub(crate) fn parse_priority(text: &str) -> Result<u32, String> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "critical" => 1,
        "high" => 2,
        "normal" => 3,
        "low" => 4,
        "background" => 5,
        number => number
            .parse()
            .ok()
            .filter(|number| (1..=5).contains(number))
            .ok_or_else(|| "neither a name of a priority nor a number from 1 to 5".to_owned())?,
    })
}

impl Filter {
    /// The question that is asked.
    pub(crate) fn query(&self) -> Query {
        let mut query = self.unlimited();
        if let Some(limit) = self.limit {
            query = query.limit(limit);
        }
        if self.reverse {
            query = query.reverse();
        }
        query
    }

    /// How many events are wanted, where that is said.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Whether it is said from when on.
    pub(crate) fn has_since(&self) -> bool {
        self.conditions.since.is_some()
    }

    /// Whether the journal's own records are wanted too: who asks for a type of theirs wants to see it.
    pub(crate) fn shows_own(&self) -> bool {
        self.control || self.conditions.own_type().is_some()
    }

    /// The question without how many and which first.
    pub(crate) fn unlimited(&self) -> Query {
        let query = self.conditions.query();
        if self.shows_own() { query.control() } else { query }
    }
}

impl Conditions {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { types, since, until, path, agent, transaction, inode, pid, priority, id, contains } = self;
        types.is_empty()
            && since.is_none()
            && until.is_none()
            && path.is_none()
            && agent.is_none()
            && transaction.is_none()
            && inode.is_none()
            && pid.is_none()
            && priority.is_none()
            && id.is_none()
            && contains.is_none()
    }

    /// A type that only the journal's own records have, where one is asked for.
    pub(crate) fn own_type(&self) -> Option<EventType> {
        self.types.iter().copied().find(|event_type| event_type.is_journal())
    }

    /// The question for all events that meet them.
    pub(crate) fn query(&self) -> Query {
        let mut query = Query::new();
        if !self.types.is_empty() {
            query = query.types(self.types.iter().copied());
        }
        let wall = |moment: Option<Moment>| if let Some(Moment::Wall(ns)) = moment { Some(ns) } else { None };
        let ktime =
            |moment: Option<Moment>| if let Some(Moment::Ktime(ns)) = moment { Some(ns) } else { None };
        if wall(self.since).or(wall(self.until)).is_some() {
            let (first, last) = (wall(self.since).unwrap_or(i64::MIN), wall(self.until).unwrap_or(i64::MAX));
            query = query.time(first..=last);
        }
        if ktime(self.since).or(ktime(self.until)).is_some() {
            let (first, last) =
                (ktime(self.since).unwrap_or(i64::MIN), ktime(self.until).unwrap_or(i64::MAX));
            query = query.ktime(first..=last);
        }
        if let Some(path) = &self.path {
            query = query.path_glob(path.clone());
        }
        if let Some(agent) = &self.agent {
            query = query.agent(agent);
        }
        if let Some(transaction) = self.transaction {
            query = query.transaction(transaction);
        }
        if let Some(inode) = self.inode {
            query = query.inode(inode);
        }
        if let Some(pid) = self.pid {
            query = query.pid(pid);
        }
        if let Some(priority) = self.priority {
            query = query.priority(priority);
        }
        if let Some(Ids { first, last }) = self.id {
            query = query.ids(first..=last);
        }
        if let Some(text) = &self.contains {
            query = query.containing(text);
        }
        query
    }
}
