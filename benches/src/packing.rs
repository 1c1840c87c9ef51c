//! What a codec makes of a journal's segments, and at what speed.

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use memmap2::Mmap;
pub use semj::Codec;
use semj::blocks::{BlockDecoder, Compressor, Layout};
use semj::format::JournalHeader;
use semj::{Compaction, OpenMode, Reader, UNRETIRED};
use serde::{Deserialize, Serialize};

/// Events that are looked for by their ids.
const GETS: usize = 4000;

/// One measurement. Times are for all bytes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// The codec's name.
    pub codec: String,
    /// Bytes of the native segments, up to their ends.
    pub native: u64,
    /// Bytes of the compressed ones.
    pub packed: u64,
    /// Bytes of each native segment as one stream of zstd at level 3.
    pub one_stream: u64,
    /// Compressing what is in memory.
    pub compress_ns: u64,
    /// Decompressing it, in memory.
    pub decompress_ns: u64,
    /// A compaction as a whole: reading, compressing, writing, syncing, reading back, comparing, renaming.
    pub compact_ns: u64,
    /// `get` of a random id whose block is not decoded: median.
    pub get_cold_p50_ns: u64,
    /// … and the 99th percentile.
    pub get_cold_p99_ns: u64,
    /// Of one in the same block: median.
    pub get_warm_p50_ns: u64,
}

impl Row {
    /// Measures a codec with some segments of a journal; files go into `scratch`.
    ///
    /// # Errors
    ///
    /// Segments that are none, a full disk.
    pub fn measure(codec: Codec, segments: &[PathBuf], scratch: &Path) -> Result<Self> {
        let mut row = Self {
            codec: codec.to_string(),
            native: 0,
            packed: 0,
            one_stream: 0,
            compress_ns: 0,
            decompress_ns: 0,
            compact_ns: 0,
            get_cold_p50_ns: 0,
            get_cold_p99_ns: 0,
            get_warm_p50_ns: 0,
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
        let began = Instant::now();
        let compaction = Compaction { codec, ..Compaction::default() };
        let report = semj::compact(scratch, &compaction, &mut |_| ControlFlow::Continue(()))?;
        row.compact_ns = began.elapsed().as_nanos() as u64;
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
        let began = Instant::now();
        let end = JournalHeader::parse(&native)?.journal_size;
        let used = native.get(..usize::try_from(end)?).context("a segment that ends behind its file")?;
        let packed = Compressor::new(used, native.len() as u64, codec)?.finish()?;
        self.compress_ns += began.elapsed().as_nanos() as u64;
        let layout = Layout::parse(&packed)?;
        self.native += layout.seal().native_end;
        self.packed += packed.len() as u64;
        let (mut decoder, mut out) = (BlockDecoder::default(), Vec::new());
        let began = Instant::now();
        for block in 0..layout.entries().len() {
            out.resize(layout.native_range(block).unwrap_or_default().len(), 0);
            layout.decode(&packed, block, &mut decoder, &mut out)?;
            black_box(&out);
        }
        self.decompress_ns += began.elapsed().as_nanos() as u64;
        Ok(())
    }

    fn gets(&mut self, dir: &Path) -> Result<()> {
        let mut reader = Reader::open_newest(dir, OpenMode::Strict)?;
        let segments = reader.report().segments.iter().filter(|segment| segment.totals.events > 0);
        let ids: Vec<_> =
            segments.map(|segment| (segment.totals.first_event_id, segment.totals.last_event_id)).collect();
        let (first, last) = ids
            .first()
            .zip(ids.last())
            .map(|(first, last)| (first.0, last.1))
            .context("no event in these segments")?;
        let (mut cold, mut warm) = (Vec::with_capacity(GETS), Vec::with_capacity(GETS));
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..GETS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = first + (random >> 16) % (last - first + 1);
            // What was decoded is given back, so that the next one finds nothing.
            reader.release();
            for times in [&mut cold, &mut warm] {
                let began = Instant::now();
                let found = reader.get(id)?.is_some();
                times.push(began.elapsed().as_nanos() as u64);
                ensure!(black_box(found), "event {id} is not there");
            }
        }
        let of = |times: &mut Vec<u64>, percent: usize| {
            times.sort_unstable();
            times.get(times.len() * percent / 100).copied().unwrap_or(0)
        };
        self.get_cold_p50_ns = of(&mut cold, 50);
        self.get_cold_p99_ns = of(&mut cold, 99);
        self.get_warm_p50_ns = of(&mut warm, 50);
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
