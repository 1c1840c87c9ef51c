//! `semj-bench machine`: what the machine itself can do.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::fs::OFlags;
use semj::format::checksum::kernel_crc32;
use semj_bench::arguments;
use semj_bench::clock::Clock;
use semj_bench::common::Common;
use semj_bench::latency::timer_floor;
use semj_bench::pace::{Plan, Wait, produce};
use semj_bench::process::{self, Scratch};
use semj_bench::table::{Table, ns, rate};
use semj_sha256::{digest_many, digest_pairs, one_by_one};
use serde::{Deserialize, Serialize};

/// What the machine itself can do: the limits that every engine has on it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    common: Common,
    /// What is measured; default: everything.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The timer, and how late a producer comes that does nothing at its times.
    Time,
    /// Copies, checksums, digests, system calls.
    Processor,
    /// Pages that are used for the first time.
    Memory,
    /// Small writes, each of which is brought to the disk.
    Sync,
    /// Large writes, all of which are brought to the disk at once.
    Bulk,
}

/// Figures of one part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    part: String,
    pub(crate) limits: Vec<Limit>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Limit {
    pub(crate) name: String,
    pub(crate) value: f64,
    unit: Unit,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum Unit {
    Nanoseconds,
    BytesPerSecond,
    PerSecond,
}

/// The limit that durable appends are held against.
pub(crate) const SYNC_OF_WRITTEN_SPACE: &str = "pwrite of 512 B into written space + fdatasync";

/// The limit that asynchronous appends are held against: each record is a leaf of a tree, and each leaf but one brings a
/// node with it.
pub(crate) const RECORDS_HASHED: &str = "records of 388 B hashed into trees of 256 leaves (semj-sha256)";
/// A header and 256 bytes of payload.
const RECORD_SIZE: usize = 388;

const MEASURED: Duration = Duration::from_millis(200);
const SYNCED: Duration = Duration::from_secs(1);
const WRITTEN_SPACE: usize = 64 << 20;
const BULK: usize = 256 << 20;
const MIB: usize = 1 << 20;
/// Bytes that are hashed at a time.
pub(crate) const HASHED: usize = 4 * MIB;
const PAGE_SIZE: usize = 4096;
/// Memory that is taken, and how much of it between two looks at the clock.
const TAKEN: usize = 6 << 30;
const TAKEN_AT_ONCE: usize = 16 << 20;

pub(crate) fn run(args: &Args) -> Result<()> {
    let parts = if args.only.is_empty() { Part::value_variants() } else { &args.only };
    let rows = args.common.measure(
        parts,
        |part| arguments!["machine", "--only", name(*part)],
        |part| {
            let mut limits = Limits(Vec::new());
            match part {
                Part::Time => time(&mut limits)?,
                Part::Processor => processor(&mut limits),
                Part::Memory => memory(&mut limits),
                Part::Sync => sync(args, &mut limits)?,
                Part::Bulk => bulk(args, &mut limits)?,
            }
            Ok(Row { part: name(*part), limits: limits.0 })
        },
    )?;
    args.common.print(&rows, table)
}

fn name(part: Part) -> String {
    part.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned())
}

struct Limits(Vec<Limit>);

impl Limits {
    fn add(&mut self, name: impl Into<String>, value: f64, unit: Unit) {
        self.0.push(Limit { name: name.into(), value, unit });
    }

    /// Adds how many bytes each second something works through, of which one call does `bytes`.
    fn bytes(&mut self, name: impl Into<String>, bytes: usize, work: impl FnMut()) {
        self.add(name, bytes as f64 * per_second(MEASURED, work), Unit::BytesPerSecond);
    }
}

/// How often something can be done each second.
fn per_second(measured: Duration, mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut count = 0u64;
    let mut at_once = 1u64;
    loop {
        for _ in 0..at_once {
            work();
        }
        count += at_once;
        let elapsed = began.elapsed();
        if elapsed >= measured {
            return count as f64 / elapsed.as_secs_f64();
        }
        // The clock is read at most some thousand times, and at least some dozen.
        if elapsed < measured / 20 {
            at_once *= 2;
        }
    }
}

fn time(limits: &mut Limits) -> Result<()> {
    let clock = Clock::new();
    let floor = timer_floor(&clock)?;
    limits.add(
        format!("two readings of the clock ({}), p50", clock.name()),
        floor.p50 as f64,
        Unit::Nanoseconds,
    );
    limits.add("the same, p99.9", floor.p999 as f64, Unit::Nanoseconds);
    let plan = Plan {
        rate: Some(1e6),
        warm_up: Duration::from_millis(100),
        duration: Duration::from_secs(3),
        wait: Wait::Spin,
    };
    let produced = produce(&clock, &plan, clock.now(), |_| Ok(()))?;
    let late = produced.response.percentiles(&clock);
    for (name, ns) in [
        ("a producer at 1 M/s that does nothing, lateness p50", late.p50),
        ("the same, p99", late.p99),
        ("the same, p99.9", late.p999),
        ("the same, p99.99", late.p9999),
        ("the same, max", late.max),
    ] {
        limits.add(name, ns as f64, Unit::Nanoseconds);
    }
    let preempted = produced.preemptions as f64 / 3.1;
    limits.add("its core given to somebody else", preempted, Unit::PerSecond);
    Ok(())
}

/// Bytes that one core hashes each second if it does nothing else: messages of so many bytes, side by side.
pub(crate) fn hashed_per_second(source: &[u8], size: usize) -> f64 {
    let messages = messages(source, size);
    let mut digests = vec![[0u8; 32]; messages.len()];
    let bytes = size * messages.len();
    bytes as f64 * per_second(MEASURED, || digest_many(0, black_box(&messages), &mut digests))
}

/// As many messages as there is room for, but at least one for each lane that goes by itself.
fn messages(source: &[u8], size: usize) -> Vec<&[u8]> {
    source.chunks_exact(size).take((HASHED / size).min(256)).collect()
}

fn processor(limits: &mut Limits) {
    // No vDSO answers this one.
    let calls = per_second(MEASURED, || {
        black_box(rustix::process::getppid());
    });
    limits.add("a system call that does nothing", 1e9 / calls, Unit::Nanoseconds);
    let source: Vec<u8> = (0..=255u8).cycle().take(64 * MIB).collect();
    let mut target = vec![1u8; 64 * MIB];
    for (size, text) in [(256, "256 B"), (4096, "4 KiB"), (MIB, "1 MiB"), (64 * MIB, "64 MiB")] {
        let (Some(from), Some(to)) = (source.get(..size), target.get_mut(..size)) else { return };
        limits.bytes(format!("memcpy {text}"), size, || black_box(&mut *to).copy_from_slice(black_box(from)));
    }
    for (size, text) in [(256, "256 B"), (4096, "4 KiB"), (MIB, "1 MiB")] {
        let Some(from) = source.get(..size) else { return };
        limits.bytes(format!("CRC-32 {text}"), size, || {
            black_box(kernel_crc32(black_box(from)));
        });
    }
    // 452 bytes: a record with a payload of 256, a path of 40 and its header.
    for (size, text) in [(256, "256 B"), (452, "452 B"), (4096, "4 KiB"), (MIB, "1 MiB")] {
        let messages = messages(&source, size);
        let mut digests = vec![[0u8; 32]; messages.len()];
        limits.bytes(format!("SHA-256 {text}, one after the other (sha2)"), size * messages.len(), || {
            one_by_one::digest_many(0, black_box(&messages), &mut digests);
        });
        let side_by_side = format!("SHA-256 {text}, side by side (semj-sha256)");
        limits.add(side_by_side, hashed_per_second(&source, size), Unit::BytesPerSecond);
    }
    hashed_into_trees(limits, &source);
}

fn hashed_into_trees(limits: &mut Limits, source: &[u8]) {
    let records: Vec<&[u8]> = source.chunks_exact(RECORD_SIZE).take(256).collect();
    let mut digests = vec![[0u8; 32]; records.len()];
    let trees = per_second(MEASURED, || {
        digest_many(0, black_box(&records), &mut digests);
        let mut level = black_box(digests.as_mut_slice());
        while level.len() > 1 {
            let pairs = digest_pairs(1, level);
            level = level.get_mut(..pairs).unwrap_or_default();
        }
    });
    limits.add(RECORDS_HASHED, trees * records.len() as f64, Unit::PerSecond);
}

/// Takes pages, of which some may not have been used for long: those a host may have taken back. Where several measurements are
/// made, some memory was used just before, so more than that is taken.
fn memory(limits: &mut Limits) {
    let mut bytes = vec![0u8; TAKEN];
    let mut each_ns: Vec<f64> = bytes
        .chunks_mut(TAKEN_AT_ONCE)
        .map(|part| {
            let began = Instant::now();
            part.chunks_mut(PAGE_SIZE).filter_map(<[u8]>::first_mut).for_each(|byte| *black_box(byte) = 1);
            began.elapsed().as_nanos() as f64 / (part.len() / PAGE_SIZE) as f64
        })
        .collect();
    each_ns.sort_by(f64::total_cmp);
    for (name, at) in [("a page of new memory, p50", 2), ("the same, p90", 10)] {
        let value = each_ns.get(each_ns.len() - each_ns.len() / at).copied().unwrap_or_default();
        limits.add(name, value, Unit::Nanoseconds);
    }
}

fn sync(args: &Args, limits: &mut Limits) -> Result<()> {
    let scratch = Scratch::new(args.common.dir.as_deref(), 1 << 30)?;
    let open = |name: &str, flags: OFlags| -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).custom_flags(flags.bits() as i32);
        Ok(options.open(scratch.join(name))?)
    };
    let written = |name: &str| -> Result<File> {
        let file = open(name, OFlags::empty())?;
        let zeros = vec![0; MIB];
        (0..WRITTEN_SPACE / MIB).try_for_each(|at| file.write_all_at(&zeros, (at * MIB) as u64))?;
        file.sync_all()?;
        Ok(file)
    };
    let small = [0x5A; 512];
    let mut measure = |name: &str, write: &mut dyn FnMut(u64) -> io::Result<()>| -> Result<()> {
        process::settle(scratch.path())?;
        let mut at = 0;
        let mut failed = Ok(());
        let rate = per_second(SYNCED, || {
            if failed.is_ok() {
                failed = write(at);
            }
            at += 1;
        });
        failed.with_context(|| name.to_owned())?;
        limits.add(name, rate, Unit::PerSecond);
        Ok(())
    };

    let file = open("growing", OFlags::empty())?;
    measure("pwrite of 512 B that makes the file longer + fdatasync", &mut |at| {
        file.write_all_at(&small, at * 512)?;
        file.sync_data()
    })?;
    let file = open("reserved", OFlags::empty())?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, WRITTEN_SPACE as u64)?;
    measure("pwrite of 512 B into reserved space + fdatasync", &mut |at| {
        file.write_all_at(&small, at * 512 % WRITTEN_SPACE as u64)?;
        file.sync_data()
    })?;
    let file = written("written")?;
    measure(SYNC_OF_WRITTEN_SPACE, &mut |at| {
        file.write_all_at(&small, at * 512 % WRITTEN_SPACE as u64)?;
        file.sync_data()
    })?;
    let file = written("written-4k")?;
    let page = [0x5A; 4096];
    measure("pwrite of 4 KiB into written space + fdatasync", &mut |at| {
        file.write_all_at(&page, at * 4096 % WRITTEN_SPACE as u64)?;
        file.sync_data()
    })?;
    for (name, syncs_map) in [("msync", true), ("fdatasync", false)] {
        let file = written(&format!("mapped-{name}"))?;
        // SAFETY: the file is this function's, and nobody makes it shorter.
        let mut map = unsafe { memmap2::MmapMut::map_mut(&file)? };
        measure(&format!("512 B stored into a map of written space + {name}"), &mut |at| {
            let start = (at * 512) as usize % WRITTEN_SPACE;
            if let Some(bytes) = map.get_mut(start..start + 512) {
                bytes.copy_from_slice(&small);
            }
            if syncs_map { map.flush_range(start, 512) } else { file.sync_data() }
        })?;
    }
    drop(written("direct")?);
    let file = open("direct", OFlags::DIRECT | OFlags::DSYNC)?;
    let memory = vec![0x5A; 2 * 4096];
    let page = aligned(&memory);
    measure("O_DIRECT with O_DSYNC, 4 KiB into written space", &mut |at| {
        file.write_all_at(page, at * 4096 % WRITTEN_SPACE as u64)
    })
}

/// A page of some memory, at an address that direct writes can use.
fn aligned(memory: &[u8]) -> &[u8] {
    let start = memory.as_ptr().align_offset(4096);
    memory.get(start..start + 4096).unwrap_or_default()
}

fn bulk(args: &Args, limits: &mut Limits) -> Result<()> {
    let scratch = Scratch::new(args.common.dir.as_deref(), 1 << 30)?;
    let chunk = vec![0x5A; MIB];
    let file = File::create(scratch.join("bulk"))?;
    for name in ["1 MiB writes into a new file, one fdatasync", "the same again, over what is written"] {
        process::settle(scratch.path())?;
        let began = Instant::now();
        (0..BULK / MIB).try_for_each(|at| file.write_all_at(&chunk, (at * MIB) as u64))?;
        file.sync_data()?;
        limits.add(name, BULK as f64 / began.elapsed().as_secs_f64(), Unit::BytesPerSecond);
    }
    Ok(())
}

pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["the machine", ""]);
    for limit in rows.iter().flat_map(|row| &row.limits) {
        let value = match limit.unit {
            Unit::Nanoseconds => ns(limit.value.round() as u64),
            Unit::BytesPerSecond => format!("{:.2} GB/s", limit.value / 1e9),
            Unit::PerSecond => format!("{}/s", rate(limit.value)),
        };
        table.row([limit.name.clone(), value]);
    }
    table.to_string()
}
