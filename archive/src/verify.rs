//! Whether what is in an archive is the journal that was pushed.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;

use semj::blocks::{BlockDecoder, Layout, unpack};
use semj::format::control::{self, Compacted, DamagedRange, PreviousEnd, Recovered};
use semj::format::{Digest, EventType, JournalHeader, SegmentOpen, WatermarkFile};
use semj::recovery::{Group, Scanner, SegmentInput, Thinning, examine, examine_alone};
use semj::{OpenMode, Query, Reader, Record, Report, SegmentReport, Verdict};
use sha2::{Digest as _, Sha256};

use crate::archive::{Archive, Progress};
use crate::error::Error;
use crate::manifest::{Entry, Form, Manifest, hex};
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
    /// Segments that are damaged or lack events, or before which others are missing, and nothing archived says so: what does may
    /// stand in a segment that is not archived yet. Beside the journal this is a fault.
    pub unstated: Vec<u64>,
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
        self.verify_with(Statements::default(), false, progress)
    }

    /// The same with what the journal says elsewhere than in the archive, which may be all that there is.
    fn verify_with(
        &self,
        mut said: Statements,
        is_all: bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, Error> {
        let manifest = self.existing_manifest()?;
        let mut state = Progress { done: 0, total: manifest.bytes() };
        let mut report = VerifyReport {
            findings: Vec::new(),
            begins_behind: None,
            retired: Vec::new(),
            unstated: Vec::new(),
        };
        let mut previous: Option<End> = None;
        let mut first: Option<SegmentOpen> = None;
        let mut gaps = Vec::new();
        // Of which is still to be found whether anything says what they are.
        let mut thinned = Vec::new();
        let mut damaged = Vec::new();
        for entry in &manifest.segments {
            progress(state);
            let found = self.read_segment(entry).map(|(bytes, sidecar)| {
                let bytes = native(entry, bytes)?;
                said.hear(&bytes);
                judge(entry, &bytes, sidecar.as_deref())
            });
            let fault = match found {
                Ok(Ok(Judged { opening, end, taken_out })) => {
                    if entry.has_known_damage {
                        damaged.push(report.findings.len());
                    } else if taken_out > 0 {
                        thinned.push((report.findings.len(), end.end.digest, taken_out));
                    }
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
        let mut unstated = Vec::new();
        for (place, digest, taken_out) in thinned {
            let number = report.findings.get(place).map_or(0, |finding| finding.entry.number);
            if !said.is_thinned(number, digest, taken_out) {
                unstated.push((place, "events were taken out of it, and nothing says so".to_owned()));
            }
        }
        for place in damaged {
            let Some(finding) = report.findings.get_mut(place).filter(|finding| finding.fault.is_none())
            else {
                continue;
            };
            // It was read above, and is read once more now that all is known that is said of it.
            let (bytes, _) = self.read_segment(&finding.entry)?;
            let found = native(&finding.entry, bytes).and_then(|bytes| said.judge(&finding.entry, &bytes));
            match found {
                Ok(true) => {}
                Ok(false) => unstated.push((place, "nothing says that its damage is known".to_owned())),
                Err(what) => finding.fault = Some(what),
            }
        }
        for (place, before, opening) in gaps {
            if said.is_retired(&opening) {
                report.retired.push(before + 1..=opening.previous_segment);
            } else if !said.is_lost(&opening) {
                let before = opening.previous_segment;
                unstated.push((place, format!("segment {before} before it is missing, and was not retired")));
            }
        }
        if let Some(first) = first.filter(|first| first.previous_segment != 0) {
            report.begins_behind = Some(first.previous_segment);
            let is_stated = said.is_retired(&first) || said.is_lost(&first);
            if !is_stated {
                let before = first.previous_segment;
                unstated.push((0, format!("segment {before} before it is missing, and was not retired")));
            }
        }
        for (place, what) in unstated {
            let Some(finding) = report.findings.get_mut(place) else { continue };
            // What says so may stand in a segment behind the last one here.
            if is_all {
                finding.fault.get_or_insert(what);
            } else {
                report.unstated.push(finding.entry.number);
            }
        }
        report.unstated.sort_unstable();
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
        let archived = self.verify_with(Statements::of_journal(dir, journal), true, progress)?;
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

    /// The bytes of a segment's object and its sidecar, if they are those that the manifest speaks of.
    fn read_segment(&self, entry: &Entry) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        let (bytes, sha256) = self.read_upto(&entry.object, entry.size)?;
        if let Some(what) = different(&bytes, &sha256, entry.size, &entry.sha256) {
            let place = first_damage(entry, &bytes).map(|place| format!("; {place}"));
            return Err(self.damaged(&entry.object, what + &place.unwrap_or_default()));
        }
        if entry.form == Form::Compressed && bytes.first_chunk().copied() != entry.header() {
            return Err(self.damaged(&entry.object, "the manifest has another header".to_owned()));
        }
        Ok((bytes, self.read_sidecar(entry)?))
    }

    /// A segment's sidecar, if it is the one that was archived.
    fn read_sidecar(&self, entry: &Entry) -> Result<Option<Vec<u8>>, Error> {
        let Some(sidecar) = &entry.sidecar else { return Ok(None) };
        let bytes = self.read_whole(&sidecar.object, sidecar.size, &sidecar.sha256)?;
        sidecar::unpack(&bytes, sidecar).map(Some).map_err(|what| self.damaged(&sidecar.object, what))
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

/// What segments say of other ones: that they were retired, that events were taken out of them, what of them is damaged or lost,
/// and where they end.
#[derive(Default)]
struct Statements {
    compacted: Vec<Compacted>,
    damage: Vec<DamagedRange>,
    openings: BTreeMap<u64, SegmentOpen>,
}

impl Statements {
    /// Those of a journal's segments.
    fn of_journal(dir: &Path, journal: &Report) -> Self {
        let openings = journal.segments.iter().filter_map(|of| Some((of.number, of.opening?))).collect();
        let mut all = Self { compacted: journal.retired.into_iter().collect(), damage: Vec::new(), openings };
        // One that is damaged says what its examination made of it.
        let Ok(reader) = Reader::open_newest(dir, OpenMode::Strict) else { return all };
        let types = [EventType::JOURNAL_COMPACTED, EventType::JOURNAL_RECOVERED];
        let query = Query::new().types(types).control();
        for part in reader.parts(&query) {
            part.query(&query).map_while(Result::ok).for_each(|record| all.take(&record));
        }
        all
    }

    /// Takes in what the first group of a segment says.
    fn hear(&mut self, segment: &[u8]) {
        let Ok(mut scanner) = Scanner::without_header(segment, 0) else { return };
        self.openings.insert(scanner.opening().segment_number, *scanner.opening());
        let group = scanner.next_group();
        group.iter().flat_map(Group::records).for_each(|(_, record)| self.take(&record));
    }

    fn take(&mut self, record: &Record<'_>) {
        if let Ok(Some(compacted)) = control::parse::<Compacted>(record) {
            self.compacted.push(compacted);
        } else if let Ok(Some(_)) = control::parse::<Recovered>(record) {
            self.damage.extend(control::damaged_ranges(record));
        }
    }

    /// Whether what stands before a segment was retired.
    fn is_retired(&self, opening: &SegmentOpen) -> bool {
        self.compacted.iter().any(|said| said.continues_in(opening))
    }

    /// Whether the segment before this one is known to be lost.
    fn is_lost(&self, opening: &SegmentOpen) -> bool {
        self.damage.iter().any(|range| {
            let end = range.offset.saturating_add(range.length);
            (range.segment_number, range.offset) == (opening.previous_segment, 0)
                && end >= opening.previous_end_offset
        })
    }

    /// Whether so many events were taken out of a segment with this digest.
    fn is_thinned(&self, number: u64, digest: Digest, events: u64) -> bool {
        self.compacted.iter().any(|said| {
            said.kind == control::CompactedKind::Thinned.code()
                && (said.segment_number, said.digest) == (number, digest)
                && said.event_count >= events
        })
    }

    /// Holds a segment with known damage against what is said of it, and the manifest against that. Whether anything is said
    /// that is enough.
    fn judge(&self, entry: &Entry, bytes: &[u8]) -> Result<bool, String> {
        let next = self.openings.range(entry.number + 1..).next().map(|(_, next)| next);
        let next = next.filter(|next| next.previous_segment == entry.number);
        let input = SegmentInput::new(&entry.name, None, bytes);
        let segment = examine_alone(&input, next, &self.damage);
        let is_said = self.damage.iter().any(|range| range.segment_number == entry.number);
        match segment.verdict.is_good() {
            true => contradiction(entry, &segment, next).map_or(Ok(true), Err),
            false if is_said || segment.opening.is_none() => Err(fault_of(&segment)),
            false => Ok(false),
        }
    }
}

fn fault_of(segment: &SegmentReport) -> String {
    match &segment.fault {
        Some(fault) => format!("{}: {fault}", segment.verdict.name()),
        None => segment.verdict.name().to_owned(),
    }
}

/// In what the manifest contradicts a segment that was found right: who reads the archive where it is goes by these figures.
fn contradiction(entry: &Entry, segment: &SegmentReport, next: Option<&SegmentOpen>) -> Option<String> {
    let totals = &segment.totals;
    // Where the end is lost, the next segment says what it was.
    let end_digest = next.map_or(totals.digest, |next| next.previous_digest);
    let opening = segment.opening?;
    let extents: Vec<_> =
        segment.extents.iter().map(|extent| (extent.start as u64, extent.end as u64)).collect();
    let last_event_id = if totals.events == 0 { 0 } else { totals.last_event_id };
    // What stands in a segment that was cut counts what is left.
    let is_counted = totals.thinned == Thinning::default() || segment.is_sealed;
    let figures = [
        ("number", entry.number == segment.number),
        ("end", entry.end == segment.end as u64),
        ("end_digest", entry.end_digest == end_digest.to_string()),
        ("opening", entry.opening == hex(&opening.encode())),
        ("lower_bound", entry.lower_bound == opening.next_event_id),
        ("extents", entry.extents == extents),
        ("commits", entry.commits == totals.commits),
        ("commit_sequence", entry.commit_sequence == totals.commit_sequence),
        ("records", !is_counted || entry.records == totals.records),
        ("events", !is_counted || entry.events == segment.events()),
        ("first_event_id", !is_counted || entry.first_event_id == totals.first_event_id),
        ("last_event_id", !is_counted || entry.last_event_id == last_event_id),
    ];
    let (what, _) = figures.iter().find(|(_, is_right)| !is_right)?;
    Some(format!("segment {} ends with {}: the manifest has another {what}", segment.number, totals.digest))
}

/// What both have, and is not the same.
fn other_fault(manifest: &Manifest, journal: &Report) -> Option<String> {
    journal.segments.iter().enumerate().find_map(|(place, segment)| {
        let digest = journal.end_digest(place)?.to_string();
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

/// What was found of a segment by itself.
struct Judged {
    opening: SegmentOpen,
    end: End,
    /// Events that were taken out of it.
    taken_out: u64,
}

/// What a segment's bytes prove, by themselves, and whether the manifest and the sidecar say the same.
fn judge(entry: &Entry, bytes: &[u8], sidecar: Option<&[u8]>) -> Result<Judged, String> {
    if entry.has_known_damage {
        // What its bytes prove is seen when all is known that is said of it.
        let opening = *Scanner::without_header(bytes, 0).map_err(|fault| fault.to_string())?.opening();
        let end = End { uuid: opening.journal_uuid, end: known_end(entry, &opening) };
        return Ok(Judged { opening, end, taken_out: 0 });
    }
    let segment = examine_alone(&SegmentInput::new(&entry.name, None, bytes), None, &[]);
    let opening = segment.opening.filter(|_| segment.verdict == Verdict::Whole);
    let opening = opening.ok_or_else(|| fault_of(&segment))?;
    if let Some(what) = contradiction(entry, &segment, None) {
        return Err(what);
    }
    if let Some(sidecar) = sidecar {
        let native = bytes.get(..segment.end).unwrap_or(bytes);
        let made = sidecar::make(&opening, native);
        if made.is_none_or(|made| made.as_bytes() != sidecar) {
            return Err("its sidecar is not the one that it makes: events may not be found by it".to_owned());
        }
    }
    let previous_end = if segment.is_sealed { PreviousEnd::Sealed } else { PreviousEnd::Cut };
    let end = Compacted {
        segment_number: segment.number,
        end_offset: segment.original_end(),
        commit_sequence: segment.totals.commit_sequence,
        end: previous_end.code(),
        digest: segment.totals.digest,
        ..known_end(entry, &opening)
    };
    Ok(Judged {
        opening,
        end: End { uuid: opening.journal_uuid, end },
        taken_out: segment.totals.thinned.events,
    })
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
        digest: entry.digest().unwrap_or(Digest::ZERO),
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
            let ends_there = match is_known {
                true => previous.end.digest == opening.previous_digest,
                false => previous.end.continues_in(opening),
            };
            let goes_on = previous.uuid == opening.journal_uuid && ends_there;
            (!goes_on).then(|| "it goes on from another end or digest than the segment before has".to_owned())
        }
    }
}
