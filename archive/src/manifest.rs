//! What an archive holds, as it says itself.

use std::collections::BTreeMap;
use std::path::Path;

use semj::blocks::Layout;
use semj::format::{Digest, JournalHeader, SegmentOpen};
use semj::sidecar_path;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The layout that is written and read here. Version 1 did not say what a reader has to know to open nothing.
const VERSION: u32 = 2;

/// What an archive holds. Its object is named by its own SHA-256.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The layout's version: 2.
    pub version: u32,
    /// Grows with each manifest.
    pub generation: u64,
    /// The journal's UUID, hexadecimal.
    pub journal_uuid: String,
    /// Segments up to this number were retired by the journal when the manifest was made; 0 for none.
    pub retired_upto: u64,
    /// The segments, in their order.
    pub segments: Vec<Entry>,
}

/// A segment in an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The segment's number.
    pub number: u64,
    /// Its file's name in the journal.
    pub name: String,
    /// Its object, below the archive's URL.
    pub object: String,
    /// What the object holds.
    pub form: Form,
    /// Bytes of it.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes of the segment itself, up to its end.
    pub end: u64,
    /// The header of a compressed segment's file, hexadecimal; empty for a native one.
    pub header: String,
    /// The body of its SegmentOpen, hexadecimal.
    pub opening: String,
    /// Where its records stand, in the segment itself: offsets of the first byte and behind the last one.
    pub extents: Vec<(u64, u64)>,
    /// Records in it.
    pub records: u64,
    /// Commits among them.
    pub commits: u64,
    /// The number of its last commit.
    pub commit_sequence: u64,
    /// Its sidecar; one with known damage has none.
    pub sidecar: Option<Sidecar>,
    /// Events in it.
    pub events: u64,
    /// The lowest id among them, 0 where there are none.
    pub first_event_id: u64,
    /// The highest id among them, 0 where there are none.
    pub last_event_id: u64,
    /// No event in it has a smaller id.
    pub lower_bound: u64,
    /// The digest of its seal, or of the last Commit where it was cut, hexadecimal.
    pub end_digest: String,
    /// Damage to it was known when it was archived: only its SHA-256 says what it should be.
    pub has_known_damage: bool,
}

/// What a segment's object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The segment itself.
    Native,
    /// Its compressed form.
    Compressed,
}

/// Bytes of a sidecar at most: that of a segment as large as can be has a twentieth of it.
const SIDECAR_SIZE_MAX: u64 = 1 << 30;

/// The sidecar of a segment in an archive: only there to find events faster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sidecar {
    /// Its object, below the archive's URL.
    pub object: String,
    /// Bytes of it.
    pub size: u64,
    /// Their SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes of the sidecar that it begins with, which are enough to skip the segment. Behind them stands a zstd frame of the
    /// others.
    pub head_size: u64,
    /// Bytes of the sidecar.
    pub unpacked_size: u64,
}

impl Sidecar {
    fn has_right_figures(&self) -> bool {
        self.head_size <= self.size && (self.head_size..=SIDECAR_SIZE_MAX).contains(&self.unpacked_size)
    }
}

impl Entry {
    fn has_right_names(&self) -> bool {
        let digits =
            |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
        let parts = self.name.strip_suffix(".semj").and_then(|stem| stem.split_once('-'));
        parts.is_some_and(|(number, id)| {
            digits(id, 20) && digits(number, 10) && number.parse() == Ok(self.number)
        }) && is_of_segments(&self.object)
            && self.sidecar.as_ref().is_none_or(|sidecar| is_of_segments(&sidecar.object))
    }

    /// The name of its sidecar's file in the journal.
    pub(crate) fn sidecar_name(&self) -> String {
        sidecar_path(Path::new(&self.name)).display().to_string()
    }

    /// Whether its figures can be.
    fn has_right_figures(&self) -> bool {
        let header = JournalHeader::SIZE as u64;
        let ends = self.extents.iter().flat_map(|(start, end)| [*start, *end]);
        let is_found = match self.form {
            Form::Native => self.header.is_empty() && self.size == self.end,
            Form::Compressed => self.index_offset().is_some(),
        };
        is_found
            && ends.clone().is_sorted_by(|a, b| a < b)
            && ends.clone().all(|offset| (header..=self.end).contains(&offset))
            && self.opening().is_some_and(|opening| opening.segment_number == self.number)
            && self.digest().is_some()
            && self.sidecar.as_ref().is_none_or(Sidecar::has_right_figures)
    }

    /// Its SegmentOpen.
    pub fn opening(&self) -> Option<SegmentOpen> {
        unhex(&self.opening).map(|opening| SegmentOpen::decode(&opening))
    }

    /// The digest that the next segment goes on from.
    pub fn digest(&self) -> Option<Digest> {
        unhex(&self.end_digest).map(Digest)
    }

    /// What a compressed segment's file begins with.
    pub(crate) fn header(&self) -> Option<[u8; JournalHeader::SIZE]> {
        unhex(&self.header)
    }

    /// Where the block index of a compressed segment begins in its file.
    pub(crate) fn index_offset(&self) -> Option<u64> {
        Layout::index_offset(&self.header()?, self.size).ok()
    }
}

impl Manifest {
    /// One without segments.
    pub(crate) fn new(journal_uuid: String) -> Self {
        Self { version: VERSION, generation: 0, journal_uuid, retired_upto: 0, segments: Vec::new() }
    }

    /// Its bytes and its object's name.
    pub(crate) fn encode(&self) -> Result<(Vec<u8>, String), serde_json::Error> {
        let bytes = serde_json::to_vec_pretty(self)?;
        let name = format!("{:020}-{}.json", self.generation, hex(&Sha256::digest(&bytes)));
        Ok((bytes, name))
    }

    /// A manifest from its bytes, if they are what its name says.
    pub(crate) fn parse(name: &str, bytes: &[u8]) -> Result<Self, String> {
        let (generation, digest) = parse_name(name).ok_or("the name is none of a manifest")?;
        if hex(&Sha256::digest(bytes)) != digest {
            return Err("its SHA-256 is not the one in its name".to_owned());
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.version != VERSION {
            return Err(format!("version {}, this program knows {VERSION}", manifest.version));
        }
        if manifest.generation != generation || !manifest.segments.is_sorted_by(|a, b| a.number < b.number) {
            return Err("it contradicts itself".to_owned());
        }
        // Names become those of files here.
        if let Some(entry) = manifest.segments.iter().find(|entry| !entry.has_right_names()) {
            return Err(format!("segment {} has a name that it can't have", entry.number));
        }
        if let Some(entry) = manifest.segments.iter().find(|entry| !entry.has_right_figures()) {
            return Err(format!("what it says of segment {} contradicts itself", entry.number));
        }
        Ok(manifest)
    }

    /// Two of the same generation, made at the same time, as one.
    pub(crate) fn merge(mut self, other: Self) -> Result<Self, String> {
        if self.journal_uuid != other.journal_uuid {
            return Err("two journals use the same archive".to_owned());
        }
        let mut segments: BTreeMap<u64, Entry> =
            self.segments.into_iter().map(|entry| (entry.number, entry)).collect();
        for entry in other.segments {
            let known = segments.entry(entry.number).or_insert_with(|| entry.clone());
            if known.end_digest != entry.end_digest {
                return Err(format!("two segments have number {}", entry.number));
            }
        }
        self.segments = segments.into_values().collect();
        self.retired_upto = self.retired_upto.max(other.retired_upto);
        Ok(self)
    }

    /// A segment by its number.
    pub fn segment(&self, number: u64) -> Option<&Entry> {
        let place = self.segments.binary_search_by_key(&number, |entry| entry.number).ok()?;
        self.segments.get(place)
    }

    /// Events in it.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|entry| entry.events).sum()
    }

    /// Bytes of its segments' objects.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|entry| entry.size).sum()
    }
}

fn is_of_segments(object: &str) -> bool {
    object.strip_prefix("segments/").is_some_and(|name| !name.contains('/'))
}

/// The generation and the digest in a manifest's name.
pub(crate) fn parse_name(name: &str) -> Option<(u64, &str)> {
    let (generation, digest) = name.strip_suffix(".json")?.split_once('-')?;
    (digest.len() == 64).then_some((generation.parse().ok()?, digest))
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes of so many hexadecimal digits.
fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.is_ascii() {
        return None;
    }
    for (byte, place) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(place..place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(segment_number: u64) -> String {
        hex(&SegmentOpen { segment_number, ..SegmentOpen::decode(&[0; SegmentOpen::SIZE]) }.encode())
    }

    fn manifest(generation: u64, numbers: &[u64]) -> Manifest {
        let entry = |number: &u64| Entry {
            number: *number,
            name: format!("{number:010}-{number:020}.semj"),
            object: format!("segments/{number}"),
            form: Form::Native,
            size: 100,
            sha256: "a".repeat(64),
            end: 100,
            header: String::new(),
            opening: opening(*number),
            extents: vec![(52, 100)],
            records: 7,
            commits: 1,
            commit_sequence: *number,
            sidecar: None,
            events: 5,
            first_event_id: *number,
            last_event_id: *number,
            lower_bound: *number,
            end_digest: format!("{number:064}"),
            has_known_damage: false,
        };
        Manifest { generation, segments: numbers.iter().map(entry).collect(), ..Manifest::new("ab".into()) }
    }

    #[test]
    fn a_manifest_is_what_its_name_says_or_is_refused() {
        let manifest = manifest(7, &[1, 2, 5]);
        let (bytes, name) = manifest.encode().unwrap();
        assert_eq!(Manifest::parse(&name, &bytes), Ok(manifest.clone()));
        assert_eq!((manifest.events(), manifest.bytes()), (15, 300));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Manifest::parse(&name, &damaged).is_err(), "byte {at}");
        }
        assert!(Manifest::parse(&name.replace("007", "008"), &bytes).is_err());
        for wrong in ["../0000000001-1.semj", "0000000002-1.semj", "1.semj", "0000000001-x.semj"] {
            let mut other = self::manifest(7, &[1]);
            other.segments[0].name = wrong.to_owned();
            let (bytes, name) = other.encode().unwrap();
            assert!(Manifest::parse(&name, &bytes).is_err(), "{wrong}");
        }
        type Change = fn(&mut Entry);
        let changes: [Change; 7] = [
            |entry| entry.end = 99,
            |entry| entry.extents = vec![(51, 100)],
            |entry| entry.extents = vec![(52, 101)],
            |entry| entry.extents = vec![(80, 100), (52, 70)],
            |entry| entry.form = Form::Compressed,
            |entry| entry.opening = opening(2),
            |entry| entry.end_digest.truncate(10),
        ];
        for (place, change) in changes.into_iter().enumerate() {
            let mut other = self::manifest(7, &[1]);
            change(&mut other.segments[0]);
            let (bytes, name) = other.encode().unwrap();
            assert!(Manifest::parse(&name, &bytes).is_err(), "change {place}");
        }
        let (unsorted, name) = self::manifest(7, &[2, 1]).encode().unwrap();
        assert!(Manifest::parse(&name, &unsorted).is_err());
    }

    #[test]
    fn two_that_were_made_at_the_same_time_count_together() {
        let numbers =
            |manifest: Manifest| manifest.segments.iter().map(|entry| entry.number).collect::<Vec<_>>();
        let both = manifest(7, &[1, 3]).merge(manifest(7, &[1, 2])).unwrap();
        assert_eq!(numbers(both), [1, 2, 3]);
        let mut other = manifest(7, &[1]);
        other.segments[0].end_digest = "f".repeat(64);
        assert!(manifest(7, &[1]).merge(other).is_err());
        let other = Manifest { journal_uuid: "cd".into(), ..manifest(7, &[1]) };
        assert!(manifest(7, &[1]).merge(other).is_err());
    }
}
