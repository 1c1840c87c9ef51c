//! Makes the seeds of the corpus from the test vectors and a recorded trace:
//!
//! ```text
//! cargo run --example corpus
//! ```
//!
//! What the fuzzer finds on the way is added beside them.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use semj_blocks::{BlockEncoder, Codec, Compressor, Layout};
use semj_format::{JournalHeader, Records, control};
use semj_fuzz::journal::{COMPRESSED, DAMAGED, OWN_NUMBERS};
use semj_fuzz::repair::ALL;
use semj_index::{Builder, Origin};
use semj_interchange::json::JsonEvent;
use semj_interchange::kernel;

/// Lines of the trace that are looked at, and how far apart.
const LINES: usize = 9_000;
const LINE_STEP: usize = 300;

struct Corpus {
    dir: PathBuf,
}

impl Corpus {
    fn add(&self, target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let dir = self.dir.join(target);
        fs::create_dir_all(&dir)?;
        fs::write(dir.join(format!("seed-{name}")), bytes)
    }
}

fn used(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
    &bytes[..(bytes.len() - zeros + 64).min(bytes.len())]
}

/// The sidecar of a segment's records, up to the first that is none.
fn sidecar(segment: &[u8]) -> Option<Vec<u8>> {
    let mut builder = Builder::new(segment.len());
    let mut end = JournalHeader::SIZE;
    let mut opening = None;
    for (offset, record) in Records::new(segment, end).map_while(Result::ok) {
        opening = opening.or(control::parse(&record).ok().flatten());
        builder.push(offset, &record);
        end = offset + record.len();
    }
    Some(builder.finish(&Origin::new(&opening?, end as u64, &segment[..end])?).as_bytes().to_vec())
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "semj") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = Corpus { dir: root.join("corpus") };
    let vectors = root.join("../tests/vectors");
    let mut paths = Vec::new();
    files(&vectors, &mut paths)?;
    paths.sort();
    for path in &paths {
        let name = path.strip_prefix(&vectors)?.display().to_string().replace('/', "-").replace(".semj", "");
        let bytes = fs::read(path)?;
        if name.contains("compressed-") {
            // What it gives back is that of other vectors, or of none.
            if name.starts_with("good") || name.starts_with("damaged") {
                corpus.add("storage_block", &name, &[&[0], &bytes[..]].concat())?;
            }
            continue;
        }
        let bytes = used(&bytes);
        if bytes.len() <= 16 << 10 {
            corpus.add("segment_scan", &name, &[&[0], bytes].concat())?;
            if name.starts_with("good") {
                let middle = u16::try_from(bytes.len() / 2)?.to_le_bytes();
                let flip = [middle[0], middle[1], 0, 0x40];
                let input = [&[ALL | DAMAGED], bytes, &flip].concat();
                corpus.add("segment_scan", &format!("{name}-flipped"), &input)?;
            }
            let compressor = Compressor::new(bytes, bytes.len() as u64, Codec::None);
            if let Ok(file) = compressor.and_then(Compressor::finish) {
                corpus.add("storage_block", &name, &[&[0], &file[..]].concat())?;
            }
            corpus.add("kernel_journal", &name, &[&[0], bytes].concat())?;
            corpus.add(
                "index_sidecar",
                &format!("{name}-records"),
                bytes.get(JournalHeader::SIZE..).unwrap_or_default(),
            )?;
            if let Some(sidecar) = sidecar(bytes) {
                corpus.add("index_sidecar", &name, &sidecar)?;
            }
        }
        for (i, (_, record)) in
            Records::new(bytes, JournalHeader::SIZE).map_while(Result::ok).enumerate().step_by(5)
        {
            let name = format!("{name}-{i}");
            if record.len() <= 8 << 10 {
                corpus.add("event_record", &name, record.bytes())?;
            }
            if !record.context_bytes().is_empty() {
                corpus.add("compact_context", &name, record.context_bytes())?;
            }
            if record.is_control() {
                let kind = (record.event_type().0 - 1) as u8;
                corpus.add("control_records", &name, &[&[kind, 0], record.payload()].concat())?;
            }
        }
    }
    for entry in fs::read_dir(vectors.join("journals"))? {
        let dir = entry?.path();
        let mut paths = Vec::new();
        files(&dir, &mut paths)?;
        paths.sort();
        let mut input = vec![0];
        if let Ok(watermark) = fs::read(dir.join("WATERMARK"))
            && let Some(slot) = watermark.get(..128)
        {
            corpus.add("control_records", "watermark", used(&watermark))?;
            input[0] = 2;
            input.extend_from_slice(slot);
        }
        let mut compressed = input.clone();
        for path in paths {
            let bytes = fs::read(path)?;
            let bytes = if Layout::is_compressed(&bytes) { &bytes } else { used(&bytes) };
            let length = u16::try_from(bytes.len())?;
            for (input, length) in [(&mut input, length), (&mut compressed, length | COMPRESSED)] {
                input.extend_from_slice(&length.to_le_bytes());
                input.extend_from_slice(bytes);
            }
        }
        let name = dir.file_name().unwrap_or_default().display().to_string();
        corpus.add("journal_scan", &name, &input)?;
        corpus.add("reopen", &name, &input)?;
        input[0] |= ALL | OWN_NUMBERS;
        corpus.add("journal_scan", &format!("{name}-repaired"), &input)?;
        corpus.add("reopen", &format!("{name}-repaired"), &input)?;
        compressed[0] |= ALL | OWN_NUMBERS;
        corpus.add("journal_scan", &format!("{name}-packed"), &compressed)?;
        // A bit a kilobyte from the beginning, which is in a block of one of the files.
        compressed[0] |= DAMAGED;
        compressed.extend_from_slice(&[u8::MAX, 3, 0, 0x40]);
        corpus.add("reopen", &format!("{name}-packed-flipped"), &compressed)?;
    }

    let trace = zstd::decode_all(fs::File::open(root.join("../examples/git-worktree.jsonl.zst"))?)?;
    let mut lines = Vec::new();
    for (i, line) in trace.split(|byte| *byte == b'\n').enumerate().take(LINES).step_by(LINE_STEP) {
        corpus.add("json_import", &format!("{i}"), line)?;
        lines.push(line);
    }
    let mut records = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let event = JsonEvent::parse(line)?;
        let mut draft = event.draft();
        draft.header.event_id = i as u64 + 1;
        records.push(draft.to_vec()?);
    }
    let records: Vec<_> =
        records.iter().map(|record| semj_format::Record::parse(record)).collect::<Result<_, _>>()?;
    let mut journal = Vec::new();
    kernel::write(records.iter().take(4).copied(), &mut journal)?;
    corpus.add("kernel_journal", "trace", &[&[1], &journal[..]].concat())?;

    let together: Vec<u8> = records.iter().flat_map(|record| record.bytes()).copied().collect();
    for (i, codec) in
        [Codec::None, Codec::Zlib(1), Codec::Lz4, Codec::Zstd(1), Codec::Snappy].into_iter().enumerate()
    {
        corpus.add("storage_block", &format!("{codec}-records"), &[&[i as u8], &together[..]].concat())?;
        let mut block = vec![i as u8];
        BlockEncoder::new(codec)?.encode(0, &together, JournalHeader::SIZE, &mut block)?;
        corpus.add("storage_block", &format!("{codec}"), &block)?;
    }

    let mut random = semj_tests::random::Random::new(1);
    for i in 0..40 {
        let script: Vec<u8> = (0..200 + random.below(800)).map(|_| random.next() as u8).collect();
        corpus.add("operations", &format!("{i}"), &script)?;
    }
    Ok(())
}
