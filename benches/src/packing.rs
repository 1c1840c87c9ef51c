//! What a codec makes of a journal's segments, and at what speed.

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use memmap2::Mmap;
pub use semj::Codec;
use semj::blocks::{BlockDecoder, Compressor, Layout};
use semj::format::JournalHeader;
use semj::{Compaction, OpenMode, Reader, UNRETIRED};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::latency::{Latencies, Percentiles};
use crate::process::processor_time;

/// Events that are looked for by their ids, at the least.
const GETS: usize = 4000;

/// One measurement. Times are for all bytes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// The journal's directory.
    pub journal: String,
    /// The codec's name.
    pub codec: String,
    /// Segments that were compressed.
    pub segments: u64,
    /// Bytes of the native segments, up to their ends.
    pub native: u64,
    /// Bytes of the compressed ones.
    pub packed: u64,
    /// Bytes of each native segment as one stream of zstd at level 3.
    pub one_stream: u64,
    /// Processor time of compressing what is in memory.
    pub compress_ns: u64,
    /// And of decompressing it, in memory.
    pub decompress_ns: u64,
    /// A compaction as a whole: reading, compressing, writing, syncing, reading back, comparing, renaming.
    pub compact_ns: u64,
    /// Its processor time.
    pub compact_processor_ns: u64,
    /// `get` of an id whose block nobody has decoded.
    pub get_cold: Percentiles,
    /// And of one whose block the reader has.
    pub get_warm: Percentiles,
}

impl Row {
    /// Measures a codec with some segments of a journal; files go into `scratch`.
    ///
    /// # Errors
    ///
    /// Segments that are none, a full disk.
    pub fn measure(journal: &Path, codec: Codec, segments: &[PathBuf], scratch: &Path) -> Result<Self> {
        let mut row = Self {
            journal: journal.display().to_string(),
            codec: codec.to_string(),
            segments: segments.len() as u64,
            ..Self::default()
        };
        fs::create_dir_all(scratch)?;
        // Only some segments of the journal are here.
        fs::write(scratch.join(UNRETIRED), [])?;
        for path in segments {
            let name = path.file_name().with_context(|| format!("{}: no file", path.display()))?;
            let copy = scratch.join(name);
            copy_used(path, &copy)?;
            row.in_memory(codec, &copy)?;
        }
        let (began, processor_began) = (Instant::now(), processor_time());
        let compaction = Compaction { codec, ..Compaction::default() };
        let report = semj::compact(scratch, &compaction, &mut |_| ControlFlow::Continue(()))?;
        row.compact_ns = began.elapsed().as_nanos() as u64;
        row.compact_processor_ns = nanoseconds(processor_time() - processor_began);
        let is_done = report.compacted == segments.len() as u64;
        ensure!(is_done, "not all segments were compacted: {:?}", report.skipped);
        ensure!(report.bytes_after == row.packed, "a compaction gives other bytes than were measured");
        row.gets(scratch)?;
        Ok(row)
    }

    fn in_memory(&mut self, codec: Codec, path: &Path) -> Result<()> {
        let file = File::open(path)?;
        // SAFETY: nobody else knows of the file.
        let native = unsafe { Mmap::map(&file)? };
        self.one_stream += zstd::bulk::compress(&native, 3)?.len() as u64;
        let began = processor_time();
        let end = JournalHeader::parse(&native)?.journal_size;
        let used = native.get(..usize::try_from(end)?).context("a segment that ends behind its file")?;
        let packed = Compressor::new(used, native.len() as u64, codec)?.finish()?;
        self.compress_ns += nanoseconds(processor_time() - began);
        let layout = Layout::parse(&packed)?;
        self.native += layout.seal().native_end;
        self.packed += packed.len() as u64;
        let (mut decoder, mut out) = (BlockDecoder::default(), Vec::new());
        let began = processor_time();
        for block in 0..layout.entries().len() {
            out.resize(layout.native_range(block).unwrap_or_default().len(), 0);
            layout.decode(&packed, block, &mut decoder, &mut out)?;
            black_box(&out);
        }
        self.decompress_ns += nanoseconds(processor_time() - began);
        Ok(())
    }

    /// Reads an event of each block, in no order, and then another one of each.
    fn gets(&mut self, dir: &Path) -> Result<()> {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |limit: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 16) % limit
        };
        let (mut known, mut blocks) = (Vec::new(), Vec::new());
        for segment in semj::examine_journal(dir, OpenMode::Strict)?.segments {
            let layout = Layout::parse(&fs::read(dir.join(&segment.name))?)?;
            // Whoever opens a journal decodes these two of each segment.
            let last = layout.entries().len().saturating_sub(1);
            for (place, entry) in layout.entries().iter().enumerate().filter(|(_, of)| of.first_event_id > 0)
            {
                let ids = entry.first_event_id..=entry.last_event_id;
                if place == 0 || place == last { known.push(ids) } else { blocks.push(ids) }
            }
        }
        ensure!(!blocks.is_empty(), "too few events in these segments");
        for place in (1..blocks.len()).rev() {
            blocks.swap(place, below(place as u64 + 1) as usize);
        }
        blocks.truncate(GETS);
        let clock = Clock::new();
        let (mut cold, mut warm) = (Latencies::new()?, Latencies::new()?);
        for _ in 0..GETS.div_ceil(blocks.len()) {
            // For each one that opens a file its blocks are others in the cache.
            let reader = Reader::open_newest(dir, OpenMode::Strict)?;
            for ids in &known {
                ensure!(reader.get(*ids.start())?.is_some(), "event {} is not there", ids.start());
            }
            for latencies in [&mut cold, &mut warm] {
                for ids in &blocks {
                    let id = ids.start() + below(ids.end() - ids.start() + 1);
                    let began = clock.now();
                    let found = reader.get(id)?.map(|event| event.event_id());
                    latencies.record(clock.now_after() - began);
                    ensure!(found == Some(id), "event {id} was asked for, {found:?} came");
                }
            }
        }
        (self.get_cold, self.get_warm) = (cold.percentiles(&clock), warm.percentiles(&clock));
        Ok(())
    }
}

/// Copies a segment with a hole behind its end, as a writer leaves it.
fn copy_used(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from)?;
    let end = usize::try_from(JournalHeader::parse(&bytes)?.journal_size)?;
    fs::write(to, bytes.get(..end).context("a segment that ends behind its file")?)?;
    let copy = File::options().write(true).open(to)?;
    copy.set_len(bytes.len() as u64)?;
    Ok(copy.sync_all()?)
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// The native sealed segments of a journal, no more than so many, spread over all of it in runs that hold together.
///
/// # Errors
///
/// No such segment there.
pub fn segments(dir: &Path, at_most: usize) -> Result<Vec<PathBuf>> {
    let report = semj::examine_journal(dir, OpenMode::Strict)?;
    let is_native = |segment: &&semj::SegmentReport| segment.is_sealed && segment.packed_size.is_none();
    let all: Vec<_> =
        report.segments.iter().filter(is_native).map(|segment| dir.join(&segment.name)).collect();
    ensure!(!all.is_empty(), "{}: no native segment that was closed in order", dir.display());
    // The first one has what comes once, and the last is rarely full: from the middle.
    let skipped = (all.len().saturating_sub(at_most)) / 2;
    Ok(all.into_iter().skip(skipped).take(at_most).collect())
}
