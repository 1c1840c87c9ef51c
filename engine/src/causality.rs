//! Why an event happened, and what came of it: the events that parents and causality links lead to, in both directions.

use std::cmp::Reverse;
use std::collections::HashSet;

use semj_format::Record;
use semj_index::Query;

use crate::error::Error;
use crate::reader::Reader;

/// Why an event happened, and what came of it.
#[derive(Clone, Debug)]
pub struct CausalChain<'r> {
    /// What led to it, furthest first.
    pub causes: Vec<Cause<'r>>,
    /// Causes that are named and not in the journal.
    pub missing_causes: Vec<u64>,
    /// The event.
    pub event: Record<'r>,
    /// What followed from it, nearest first.
    pub effects: Vec<Effect<'r>>,
    /// Whether these are all.
    pub is_complete: bool,
}

/// What led to an event.
#[derive(Clone, Copy, Debug)]
pub struct Cause<'r> {
    /// Steps to the event; 1 for what it names as its cause itself.
    pub distance: u32,
    /// The event that this one led to.
    pub effect: u64,
    /// The event.
    pub record: Record<'r>,
}

/// What followed from an event.
#[derive(Clone, Copy, Debug)]
pub struct Effect<'r> {
    /// Steps from the event; 1 for what names it as its cause.
    pub distance: u32,
    /// The event that led to this one.
    pub cause: u64,
    /// The event.
    pub record: Record<'r>,
}

/// What led to an event, and what followed from it, no more than `limit` of each.
pub(crate) fn chain(reader: &Reader, event_id: u64, limit: usize) -> Result<Option<CausalChain<'_>>, Error> {
    let Some(event) = reader.get(event_id)? else { return Ok(None) };
    let (causes, missing_causes, has_all_causes) = causes(reader, event, limit)?;
    let (effects, has_all_effects) = effects(reader, event_id, limit)?;
    let is_complete = has_all_causes && has_all_effects;
    Ok(Some(CausalChain { causes, missing_causes, event, effects, is_complete }))
}

/// Causes, those that are named and not there, and whether these are all.
type Causes<'r> = (Vec<Cause<'r>>, Vec<u64>, bool);

fn causes<'r>(reader: &'r Reader, event: Record<'r>, limit: usize) -> Result<Causes<'r>, Error> {
    let mut found: Vec<Cause<'r>> = Vec::new();
    let mut missing = Vec::new();
    let mut seen = HashSet::from([event.event_id()]);
    let mut effects = vec![event];
    for distance in 1.. {
        if effects.is_empty() {
            break;
        }
        let mut next = Vec::new();
        for effect in effects {
            for cause in causes_of(&effect).into_iter().filter(|cause| seen.insert(*cause)) {
                let Some(record) = reader.get(cause)? else {
                    missing.push(cause);
                    continue;
                };
                if found.len() == limit {
                    return Ok((furthest_first(found), missing, false));
                }
                found.push(Cause { distance, effect: effect.event_id(), record });
                next.push(record);
            }
        }
        effects = next;
    }
    Ok((furthest_first(found), missing, true))
}

fn furthest_first(mut causes: Vec<Cause<'_>>) -> Vec<Cause<'_>> {
    causes.sort_by_key(|cause| (Reverse(cause.distance), cause.record.event_id()));
    causes
}

/// What an event says that it came from: its parent, and its own links in which it is the effect; where it names none of these, its
/// root cause.
fn causes_of(record: &Record<'_>) -> Vec<u64> {
    let id = record.event_id();
    let is_cause = |cause: &u64| *cause != 0 && *cause != id;
    let linked = record.links().filter(|link| link.effect_event_id == id).map(|link| link.cause_event_id);
    let mut causes: Vec<_> = [record.parent_event_id()].into_iter().chain(linked).filter(is_cause).collect();
    if causes.is_empty() {
        causes.extend(Some(record.root_cause_event_id()).filter(is_cause));
    }
    causes
}

/// Effects, and whether these are all.
fn effects(reader: &Reader, event_id: u64, limit: usize) -> Result<(Vec<Effect<'_>>, bool), Error> {
    let mut found = Vec::new();
    let mut seen = HashSet::from([event_id]);
    let mut causes = HashSet::from([event_id]);
    for distance in 1.. {
        if causes.is_empty() {
            break;
        }
        let query = Query::new().caused_by(causes.iter().copied());
        let mut next = HashSet::new();
        for record in reader.query(&query) {
            let record = record?;
            let parent = record.parent_event_id();
            let links = record.links().filter(|link| causes.contains(&link.cause_event_id));
            let linked = links.map(|link| (link.cause_event_id, link.effect_event_id));
            let own = causes.contains(&parent).then_some((parent, record.event_id()));
            for (cause, effect) in own.into_iter().chain(linked) {
                if effect == 0 || !seen.insert(effect) {
                    continue;
                }
                let record = if effect == record.event_id() { Some(record) } else { reader.get(effect)? };
                if let Some(record) = record {
                    if found.len() == limit {
                        return Ok((found, false));
                    }
                    found.push(Effect { distance, cause, record });
                }
                // What is not there any more can still be named as the cause of what is.
                next.insert(effect);
            }
        }
        causes = next;
    }
    Ok((found, true))
}
