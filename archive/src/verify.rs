//! Whether what is in an archive is the journal that was pushed.

use std::ops::RangeInclusive;
use std::path::Path;

use semj::blocks::{BlockDecoder, Layout};
use semj::format::control::{self, Compacted};
use semj::format::{EventType, JournalHeader, SegmentOpen, WatermarkFile};
use semj::recovery::{Scanner, SegmentInput, examine};
use semj::{OpenMode, Query, Reader, Report, Verdict};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, hex};
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
    /// What the first one goes on from, if that is not the journal's beginning, as a record says.
    pub begins_behind: Option<u64>,
    /// Segments between others that the journal retired before they were archived, as a record says.
    pub retired: Vec<RangeInclusive<u64>>,
}

impl VerifyReport {
    /// Whether everything is right.
    pub fn is_whole(&self) -> bool {
        self.findings.iter().all(|finding| finding.fault.is_none())
    }
}

/// What was found of a journal and its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalReport {
    /// What was found in the archive.
    pub archived: VerifyReport,
    /// Segments behind the last one that is archived, and before the first one of the journal: the journal retired them, and
    /// they were not archived before.
    pub retired: Option<RangeInclusive<u64>>,
    /// The first place where the journal does not go on from the archive, or has something else than it.
    pub fault: Option<String>,
}

impl JournalReport {
    /// Whether everything is right that is archived, and the journal goes on from it. Of the journal's own segments, their
    /// examination tells.
    pub fn is_whole(&self) -> bool {
        self.archived.is_whole() && self.fault.is_none()
    }
}

/// How a segment that was found goes on, as a record would say it.
struct End {
    uuid: [u8; 16],
    end: Compacted,
}

impl End {
    /// Whether others stood between this and the segment that was opened so.
    const fn is_long_before(&self, opening: &SegmentOpen) -> bool {
        self.end.segment_number < opening.previous_segment
    }
}

impl Archive {
    /// Reads all segments and holds them against their SHA-256, against the journal's own checksums and digests, and against
    /// each other. One segment at a time is held in memory.
    ///
    /// # Errors
    ///
    /// No archive there, a damaged manifest, the storage. What is wrong with segments is no error but what the report is about.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress)) -> Result<VerifyReport, Error> {
        self.verify_with(Vec::new(), progress)
    }

    /// The same with what is said of retired segments elsewhere than in the archive.
    fn verify_with(
        &self,
        mut statements: Vec<Compacted>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, Error> {
        let manifest = self.existing_manifest()?;
        let mut state = Progress { done: 0, total: manifest.bytes() };
        let mut report = VerifyReport { findings: Vec::new(), begins_behind: None, retired: Vec::new() };
        let mut previous: Option<End> = None;
        let mut first: Option<SegmentOpen> = None;
        let mut gaps = Vec::new();
        for entry in &manifest.segments {
            progress(state);
            let found = self.read_segment(entry).map(|bytes| {
                let bytes = native(entry, bytes)?;
                statements.extend(statements_of(&bytes));
                judge(entry, &bytes)
            });
            let fault = match found {
                Ok(Ok((opening, end))) => {
                    if let Some(previous) = previous.take_if(|previous| previous.is_long_before(&opening)) {
                        gaps.push((report.findings.len(), previous.end.segment_number, opening));
                    }
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
        for (place, before, opening) in gaps {
            if statements.iter().any(|statement| statement.continues_in(&opening)) {
                report.retired.push(before + 1..=opening.previous_segment);
            } else if let Some(finding) = report.findings.get_mut(place) {
                let what =
                    format!("segment {} before it is missing, and was not retired", opening.previous_segment);
                finding.fault = finding.fault.take().or(Some(what));
            }
        }
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

    /// Proves a journal from its first segment to its last: those that are archived, as [`Archive::verify`] does, and that the
    /// journal in a directory, which was examined, goes on from them and has the same where both have it.
    ///
    /// # Errors
    ///
    /// As [`Archive::verify`].
    pub fn verify_journal(
        &self,
        dir: &Path,
        journal: &Report,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<JournalReport, Error> {
        let manifest = self.existing_manifest()?;
        let archived = self.verify_with(retirements(dir, journal), progress)?;
        let mut report = JournalReport { archived, retired: None, fault: None };
        let Some((first, opening)) = journal.segments.first().and_then(|first| Some((first, first.opening?)))
        else {
            return Ok(report);
        };
        let uuid = hex(&opening.journal_uuid);
        if uuid != manifest.journal_uuid {
            report.fault = Some(format!("it is journal {}'s, not {uuid}'s", manifest.journal_uuid));
            return Ok(report);
        }
        report.fault = other_fault(&manifest, journal);
        let (before, name) = (opening.previous_segment, &first.name);
        let is_retired = journal.retired.is_some_and(|retired| retired.segment_number == before);
        let fault = match manifest.segment(before) {
            Some(entry) if entry.end_digest != opening.previous_digest.to_string() => Some(format!(
                "{name}: offset {}: it goes on from digest {}, {} ends with {}",
                JournalHeader::SIZE,
                opening.previous_digest,
                entry.object,
                entry.end_digest
            )),
            None if before != 0 && is_retired => {
                // Where the first one is archived too, they are among those of the archive.
                if manifest.segment(first.number).is_none() {
                    let last = manifest.segments.iter().rfind(|entry| entry.number < before);
                    report.retired = Some(last.map_or(1, |last| last.number + 1)..=before);
                }
                None
            }
            None if before != 0 => {
                Some(format!("{name}: segment {before} before it is neither archived nor retired"))
            }
            _ => None,
        };
        report.fault = report.fault.or(fault);
        Ok(report)
    }

    /// The bytes of a segment's object, if it and its sidecar are those that the manifest speaks of.
    fn read_segment(&self, entry: &Entry) -> Result<Vec<u8>, Error> {
        let (bytes, sha256) = self.read_upto(&entry.object, entry.size)?;
        if let Some(what) = different(&bytes, &sha256, entry.size, &entry.sha256) {
            let place = first_damage(entry, &bytes).map(|place| format!("; {place}"));
            return Err(self.damaged(&entry.object, what + &place.unwrap_or_default()));
        }
        self.check_sidecar(entry)?;
        Ok(bytes)
    }

    /// Whether a segment's sidecar is the one that was archived.
    fn check_sidecar(&self, entry: &Entry) -> Result<(), Error> {
        let Some(sidecar) = &entry.sidecar else { return Ok(()) };
        let bytes = self.read_whole(&sidecar.object, sidecar.size, &sidecar.sha256)?;
        sidecar::unpack(&bytes, sidecar).map(drop).map_err(|what| self.damaged(&sidecar.object, what))
    }

    /// The bytes of an object, if they are those that the manifest speaks of.
    pub(crate) fn read_whole(&self, object: &str, size: u64, sha256: &str) -> Result<Vec<u8>, Error> {
        let (bytes, found) = self.read_upto(object, size)?;
        match different(&bytes, &found, size, sha256) {
            Some(what) => Err(self.damaged(object, what)),
            None => Ok(bytes),
        }
    }

    /// The bytes of an object and their SHA-256. Whatever is there, no more is taken in than was promised.
    fn read_upto(&self, object: &str, size: u64) -> Result<(Vec<u8>, String), Error> {
        let mut bytes = Vec::new();
        self.storage.stream(object, |piece| {
            if bytes.len() as u64 + piece.len() as u64 > size {
                return Err(self.damaged(object, format!("more than {size} bytes")));
            }
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        let sha256 = hex(&Sha256::digest(&bytes));
        Ok((bytes, sha256))
    }
}

/// In what bytes are not those that they should be.
fn different(bytes: &[u8], found: &str, size: u64, sha256: &str) -> Option<String> {
    let is_same = (bytes.len() as u64, found) == (size, sha256);
    (!is_same).then(|| format!("{} bytes with SHA-256 {found}, expected {size} with {sha256}", bytes.len()))
}

/// Where the first thing stands in an object that shows its damage.
fn first_damage(entry: &Entry, bytes: &[u8]) -> Option<String> {
    if entry.form == Form::Native {
        let report = examine(
            &[SegmentInput::new(&entry.name, None, bytes)],
            WatermarkFile::default(),
            OpenMode::Strict,
        );
        return Some(report.segments.first()?.fault?.to_string());
    }
    let layout = match Layout::parse(bytes) {
        Ok(layout) => layout,
        Err(error) => return Some(error.to_string()),
    };
    let mut decoder = BlockDecoder::default();
    let mut records = Vec::new();
    layout.entries().iter().enumerate().find_map(|(block, entry)| {
        records.resize(entry.uncompressed_size as usize, 0);
        let error = layout.decode(bytes, block, &mut decoder, &mut records).err()?;
        Some(format!("offset {}: {error}", entry.offset))
    })
}

/// What a journal's segments say of retired ones.
fn retirements(dir: &Path, journal: &Report) -> Vec<Compacted> {
    let mut statements: Vec<_> = journal.retired.into_iter().collect();
    // One that is damaged says what its examination made of it.
    let Ok(reader) = Reader::open_newest(dir, OpenMode::Strict) else { return statements };
    let query = Query::new().types([EventType::JOURNAL_COMPACTED]).control();
    for part in reader.parts(&query) {
        let found = part.query(&query).map_while(Result::ok);
        statements.extend(found.filter_map(|record| control::parse::<Compacted>(&record).ok()?));
    }
    statements
}

/// What both have, and is not the same.
fn other_fault(manifest: &Manifest, journal: &Report) -> Option<String> {
    journal.segments.iter().find_map(|segment| {
        let digest = segment.totals.digest.to_string();
        let entry = manifest.segment(segment.number)?;
        (entry.end_digest != digest && segment.verdict.is_good()).then(|| {
            format!("{} ends with {digest}, {} with {}", segment.name, entry.object, entry.end_digest)
        })
    })
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
