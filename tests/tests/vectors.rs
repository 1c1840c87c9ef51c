//! The test vectors of SPEC.md: the scanner, and the engine on a directory, come to the verdicts that were stated by hand.
#![expect(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::path::{Path, PathBuf};

use semj::examine_journal;
use semj_blocks::{BlockDecoder, Layout};
use semj_format::{Records, WatermarkFile};
use semj_recovery::{OpenMode, SegmentInput, SegmentReport, Verdict, examine};
use serde_json::Value;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// The verdict's name in `verdicts.json`.
fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Whole => "Whole",
        Verdict::OpenEnd => "OpenEnd",
        Verdict::TornTail => "TornTail",
        Verdict::Ambiguous => "Ambiguous",
        Verdict::Corrupt => "Corrupt",
        Verdict::Unsupported => "Unsupported",
        Verdict::KnownDamage => "KnownDamage",
    }
}

/// The bytes of a segment, of a compressed one those that it gives back, with zeros for a block that is not right.
fn native(file: Vec<u8>) -> Vec<u8> {
    if !Layout::is_compressed(&file) {
        return file;
    }
    let Ok(layout) = Layout::parse(&file) else { return file };
    let mut native = layout.seal().native_header.to_vec();
    let mut decoder = BlockDecoder::default();
    for block in 0..layout.entries().len() {
        let mut records = vec![0; layout.native_range(block).unwrap().len()];
        if layout.decode(&file, block, &mut decoder, &mut records).is_err() {
            records.fill(0);
        }
        native.extend_from_slice(&records);
    }
    native
}

fn cases() -> Vec<Value> {
    let verdicts: Value =
        serde_json::from_slice(&fs::read(vectors().join("verdicts.json")).unwrap()).unwrap();
    verdicts["cases"].as_array().unwrap().clone()
}

/// Everything in which a segment's report differs from what is expected of it. Which events are in it can be told with its
/// bytes alone.
fn differences(expected: &Value, segment: &SegmentReport, bytes: Option<&[u8]>) -> Vec<String> {
    let verdict = expected.get("verdict_as_segment").unwrap_or(&expected["verdict"]);
    let event_ids = bytes.map(|bytes| {
        let records = |start, end| Records::new(&bytes[..end], start).map_while(Result::ok);
        let found = segment.extents.iter().flat_map(|extent| records(extent.start, extent.end));
        found
            .filter(|(_, record)| !record.is_control())
            .map(|(_, record)| record.event_id())
            .collect::<Vec<u64>>()
    });
    let event_ids = event_ids.map_or_else(|| expected["event_ids"].clone(), Into::into);
    // What was taken out counts in the totals as it did before.
    let thinned = segment.totals.thinned;
    let records = segment.totals.records - thinned.events + thinned.records;
    let digest = expected["seal_digest"].as_str().or(expected["last_commit_digest"].as_str());
    let found = [
        ("verdict", verdict.clone(), Value::from(name(segment.verdict))),
        ("end", expected["end"].clone(), segment.end.into()),
        ("commits", expected["commits"].clone(), segment.totals.commits.into()),
        ("commit_sequence", expected["commit_sequence"].clone(), segment.totals.commit_sequence.into()),
        ("records", expected["records"].clone(), records.into()),
        ("event_ids", expected["event_ids"].clone(), event_ids),
        ("digest", digest.into(), segment.totals.digest.to_string().into()),
    ];
    // Of a segment that can't be placed in the journal nothing but the verdict is stated.
    let is_placed = !expected["end"].is_null();
    found
        .into_iter()
        .filter(|(what, ..)| *what == "verdict" || is_placed)
        .filter(|(_, expected, found)| expected != found)
        .map(|(what, expected, found)| format!("{what}: expected {expected}, found {found}"))
        .collect()
}

#[test]
fn every_vector_gets_the_verdict_that_was_stated() {
    let mut differing = Vec::new();
    let mut files = 0;
    for case in &cases() {
        let alone = [case.clone()];
        // A file alone is looked at as the newest segment; in a directory names and neighbours count.
        let (expected, in_directory) = match case["segments"].as_array() {
            Some(segments) => (segments.as_slice(), true),
            None => (&alone[..], false),
        };
        // Files that are none of the journal's stand before those that are.
        let leftovers: Vec<_> =
            case["leftovers"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect();
        let segments = expected.iter().map(|segment| segment["file"].as_str().unwrap());
        let paths: Vec<_> = leftovers.iter().copied().chain(segments).collect();
        let contents: Vec<_> =
            paths.iter().map(|path| native(fs::read(vectors().join(path)).unwrap())).collect();
        let inputs: Vec<_> = paths
            .iter()
            .zip(&contents)
            .map(|(path, bytes)| {
                let name = path.rsplit('/').next().unwrap();
                let number = name.split('-').next().unwrap().parse().ok();
                SegmentInput::new(name, number.filter(|_| in_directory), bytes)
            })
            .collect();
        let watermark =
            case["directory"].as_str().and_then(|name| fs::read(vectors().join(name).join("WATERMARK")).ok());
        let watermark = watermark.map_or(WatermarkFile::default(), |file| WatermarkFile::parse(&file));
        let report = examine(&inputs, watermark, OpenMode::Strict);
        let journal = leftovers.len();
        if report.leftovers.len() != journal || report.segments.len() != expected.len() {
            differing.push(format!("{case}: leftovers {:?}", report.leftovers));
            continue;
        }
        for (i, segment) in report.segments.iter().enumerate() {
            files += 1;
            for difference in differences(&expected[i], segment, Some(&contents[journal + i])) {
                differing.push(format!("{}: {difference} ({:?})", paths[journal + i], segment.fault));
            }
        }
    }
    assert!(files >= 260, "{files} files");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_engine_comes_to_the_same_verdicts_on_a_directory() {
    let mut differing = Vec::new();
    let mut files = 0;
    for case in &cases() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let copy = |from: &Path, name: &str| fs::copy(from, path.join(name)).unwrap();
        let expected = match case["segments"].as_array() {
            Some(segments) => {
                for entry in fs::read_dir(vectors().join(case["directory"].as_str().unwrap())).unwrap() {
                    let entry = entry.unwrap();
                    copy(&entry.path(), &entry.file_name().into_string().unwrap());
                }
                segments.clone()
            }
            // Every vector that stands alone is a journal's first segment.
            None => {
                let file = vectors().join(case["file"].as_str().unwrap());
                copy(&file, "0000000001-00000000000000000001.semj");
                vec![case.clone()]
            }
        };
        let report = examine_journal(path, OpenMode::Strict).unwrap();
        assert_eq!(report.segments.len(), expected.len(), "{case}");
        for (expected, segment) in expected.iter().zip(&report.segments) {
            files += 1;
            for difference in differences(expected, segment, None) {
                differing.push(format!("{}: {difference} ({:?})", expected["file"], segment.fault));
            }
        }
    }
    assert!(files >= 260, "{files} files");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
