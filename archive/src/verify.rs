//! Whether what is in an archive is the journal that was pushed.

use semj::format::control::{self, Compacted};
use semj::format::{SegmentOpen, WatermarkFile};
use semj::recovery::{Scanner, SegmentInput, examine};
use semj::{OpenMode, Report, Verdict};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, hex};
use crate::push::unpack;
use crate::sidecar;

/// What was found of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The segment, as the manifest has it.
    pub entry: Entry,
    /// The first thing that is wrong with it; `None` where it is as it should be and goes on from the one before.
    pub fault: Option<String>,
}

/// What was found in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The segments in their order.
    pub findings: Vec<Finding>,
    /// What the first one goes on from, if that is not the journal's beginning, as a record in the archive says.
    pub begins_behind: Option<u64>,
}

impl VerifyReport {
    /// Whether everything is right.
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.fault.is_none())
    }
}

/// How a segment that was found goes on, as a record would say it.
struct End {
    uuid: [u8; 16],
    end: Compacted,
}

impl Archive {
    /// Reads all segments and holds them against their SHA-256, against the journal's own checksums and digests, and against
    /// each other. One segment at a time is held in memory.
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage. What is wrong with segments is no error but what the report is about.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress)) -> Result<VerifyReport, Error> {
        let manifest = self.existing_manifest()?;
        let mut state = Progress { done: 0, total: manifest.bytes() };
        let mut report = VerifyReport { findings: Vec::new(), begins_behind: None };
        let mut previous: Option<End> = None;
        let mut first: Option<SegmentOpen> = None;
        let mut statements = Vec::new();
        for entry in &manifest.segments {
            progress(state);
            let read = self.read_whole(&entry.object, entry.size, &entry.sha256);
            let read = read.and_then(|bytes| self.check_sidecar(entry).map(|()| bytes));
            let found = read.map(|bytes| {
                let bytes = native(entry, bytes)?;
                statements.extend(statements_of(&bytes));
                judge(entry, &bytes)
            });
            let fault = match found {
                Ok(Ok((opening, end))) => {
                    let fault = follow_fault(&opening, previous.as_ref());
                    first.get_or_insert(opening);
                    previous = Some(end);
                    fault.or_else(|| {
                        let uuid = hex(&opening.journal_uuid);
                        (uuid != manifest.journal_uuid).then(|| format!("it is journal {uuid}'s"))
                    })
                }
                Ok(Err(what)) => {
                    previous = None;
                    Some(what)
                }
                Err(Error::Damaged { object, what, .. }) => {
                    previous = None;
                    Some(if object == entry.object { what } else { format!("{object}: {what}") })
                }
                Err(Error::Missing { object, .. }) => {
                    previous = None;
                    Some(format!("{object} is not there"))
                }
                Err(error) => return Err(error),
            };
            report.findings.push(Finding { entry: entry.clone(), fault });
            state.done += entry.size;
        }
        progress(state);
        if let Some(first) = first.filter(|first| first.previous_segment != 0) {
            report.begins_behind = Some(first.previous_segment);
            let is_stated = statements.iter().any(|statement| statement.continues_in(&first));
            if let Some(finding) = report.findings.first_mut().filter(|_| !is_stated) {
                let what =
                    format!("segment {} before it is missing, and was not retired", first.previous_segment);
                finding.fault = finding.fault.take().or(Some(what));
            }
        }
        Ok(report)
    }

    /// Whether a journal that was examined goes on from what is in the archive: the first segment of it from the one that is
    /// archived before it, if its earlier ones were retired; and that what both have is the same. Gives what is wrong.
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage.
    pub fn continues_in(&self, journal: &Report) -> Result<Option<String>, Error> {
        let manifest = self.existing_manifest()?;
        for segment in &journal.segments {
            let digest = segment.totals.digest.to_string();
            let is_other = |entry: &&Entry| entry.end_digest != digest && segment.verdict.is_good();
            if let Some(entry) = manifest.segment(segment.number).filter(is_other) {
                let what = format!(
                    "{} ends with {digest}, archived is one that ends with {}",
                    segment.name, entry.end_digest
                );
                return Ok(Some(what));
            }
        }
        let Some(first) = journal.segments.first() else { return Ok(None) };
        let Some(opening) = first.opening.filter(|opening| opening.previous_segment != 0) else {
            return Ok(None);
        };
        if hex(&opening.journal_uuid) != manifest.journal_uuid {
            return Ok(Some(format!(
                "it is journal {}'s, not {}'s",
                manifest.journal_uuid,
                hex(&opening.journal_uuid)
            )));
        }
        let before = opening.previous_segment;
        Ok(match manifest.segment(before) {
            None => Some(format!("segment {before}, which {} goes on from, is not archived", first.name)),
            Some(entry) if entry.end_digest != opening.previous_digest.to_string() => Some(format!(
                "{} goes on from digest {}, segment {before} ends with {} there",
                first.name, opening.previous_digest, entry.end_digest
            )),
            Some(_) => None,
        })
    }

    /// Whether a segment's sidecar is the one that was archived.
    fn check_sidecar(&self, entry: &Entry) -> Result<(), Error> {
        let Some(sidecar) = &entry.sidecar else { return Ok(()) };
        let bytes = self.read_whole(&sidecar.object, sidecar.size, &sidecar.sha256)?;
        sidecar::unpack(&bytes, sidecar).map(drop).map_err(|what| self.damaged(&sidecar.object, what))
    }

    /// The bytes of an object, if they are those that the manifest speaks of.
    pub(crate) fn read_whole(&self, object: &str, size: u64, sha256: &str) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.storage.stream(object, |piece| {
            // Whatever is there, no more is taken in than was promised.
            if bytes.len() as u64 + piece.len() as u64 > size {
                return Err(self.damaged(object, format!("more than {size} bytes")));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        let found = hex(&Sha256::digest(&bytes));
        if (bytes.len() as u64, found.as_str()) != (size, sha256) {
            let what = format!("{} bytes with SHA-256 {found}, expected {size} with {sha256}", bytes.len());
            return Err(self.damaged(object, what));
        }
        Ok(bytes)
    }
}

/// The segment in an object.
fn native(entry: &Entry, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    match entry.form {
        Form::Native => Ok(bytes),
        Form::Compressed => unpack(&bytes).map_err(|error| error.to_string()),
    }
}

/// What a segment's bytes prove, by themselves.
fn judge(entry: &Entry, bytes: &[u8]) -> Result<(SegmentOpen, End), String> {
    let input = SegmentInput::new(&entry.name, None, bytes);
    let report = examine(&[input], WatermarkFile::default(), OpenMode::Strict);
    let segment = report.segments.first().ok_or("no segment")?;
    if entry.has_known_damage {
        // Its bytes are those that were archived, and what they prove is for whoever has the records of its damage.
        let opening = *Scanner::without_header(bytes, 0).map_err(|fault| fault.to_string())?.opening();
        return Ok((opening, End { uuid: opening.journal_uuid, end: known_end(entry, &opening) }));
    }
    let opening = segment.opening.filter(|_| segment.verdict == Verdict::Whole);
    let opening = opening.ok_or_else(|| match &segment.fault {
        Some(fault) => format!("{}: {fault}", segment.verdict.name()),
        None => segment.verdict.name().to_owned(),
    })?;
    if (segment.number, segment.totals.digest.to_string()) != (entry.number, entry.end_digest.clone()) {
        return Err(format!("it is segment {}, which ends with {}", segment.number, segment.totals.digest));
    }
    let end = Compacted {
        segment_number: segment.number,
        end_offset: segment.end as u64,
        commit_sequence: segment.totals.commit_sequence,
        end: report.tip.map_or(0, |tip| tip.previous_end.code()),
        digest: segment.totals.digest,
        ..known_end(entry, &opening)
    };
    Ok((opening, End { uuid: opening.journal_uuid, end }))
}

/// The end of a segment of which only the place is known. The one behind it names the rest.
fn known_end(entry: &Entry, opening: &SegmentOpen) -> Compacted {
    Compacted {
        kind: control::CompactedKind::Retired.code(),
        reason: 0,
        segment_number: entry.number,
        end_offset: 0,
        commit_sequence: 0,
        segment_count: 1,
        event_count: entry.events,
        record_count: 0,
        byte_count: entry.end,
        first_event_id: entry.first_event_id,
        last_event_id: entry.last_event_id,
        end: 0,
        type_count: 0,
        wall_clock_ns: opening.wall_clock_ns,
        digest: semj::format::Digest::ZERO,
    }
}

/// What is wrong with where a segment goes on from.
fn follow_fault(opening: &SegmentOpen, previous: Option<&End>) -> Option<String> {
    let before = opening.previous_segment;
    match previous {
        // The first one, or behind one of which is said what is wrong.
        None => None,
        Some(previous) if previous.end.segment_number != before => {
            Some(format!("segment {before} should stand before it"))
        }
        Some(previous) => {
            let is_known = previous.end.end_offset == 0;
            let goes_on =
                previous.uuid == opening.journal_uuid && (is_known || previous.end.continues_in(opening));
            (!goes_on).then(|| "it goes on from another end or digest than the segment before has".to_owned())
        }
    }
}

/// What the first group of a segment says of retired segments.
fn statements_of(bytes: &[u8]) -> Vec<Compacted> {
    let group = Scanner::without_header(bytes, 0).ok().and_then(|mut scanner| scanner.next_group());
    let records = group.iter().flat_map(|group| group.records());
    records.filter_map(|(_, record)| control::parse::<Compacted>(&record).ok()?).collect()
}
