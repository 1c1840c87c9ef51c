//! What the parts of an emission cost by themselves: `cargo bench -p semj-bench`.
#![expect(clippy::unwrap_used, reason = "a bench that can't go on may stop")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use semj::format::checksum::kernel_crc32;
use semj::format::{Context, Draft, DraftContext, EventHeader};
use semj::medium::{Disk, Medium};
use semj::{Event, EventType, Journal, Options, SyncPolicy};
use semj_bench::payload::Payloads;
use semj_bench::process::Scratch;
use semj_sha256::{digest_many, one_by_one};

const PAYLOADS: [usize; 5] = [0, 64, 256, 1024, 16 << 10];
const PATH: &[u8; 40] = b"/home/user/project/src/engine/journal.rs";

/// `emit` while the committer sleeps: what it commits, it commits between the measured stretches.
fn emission(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("emit");
    for size in PAYLOADS {
        let scratch = Scratch::new(None, 4 << 30).unwrap();
        let options = Options {
            commit_interval: Duration::from_secs(3600),
            sync_policy: SyncPolicy::None,
            ..Options::default()
        };
        let journal = Journal::open(scratch.join("journal"), options).unwrap();
        let payloads = Payloads::new(size);
        // A stretch that stays in the processor's cache.
        let stretch = ((512 << 10) / (size + 256)).min(1024) as u64;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut elapsed = Duration::ZERO;
                let mut done = 0;
                while done < iterations {
                    let end = iterations.min(done + stretch);
                    let began = Instant::now();
                    for index in done..end {
                        let event = Event::new(EventType::FILESYSTEM_WRITE).path(PATH);
                        black_box(journal.emit(&event.payload(payloads.at(index))).unwrap());
                    }
                    elapsed += began.elapsed();
                    journal.sync().unwrap();
                    done = end;
                }
                elapsed
            });
        });
        journal.close().unwrap();
    }
    group.finish();
}

/// A record written into memory, without and with its checksum.
fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let header = EventHeader::new(EventType::FILESYSTEM_WRITE.0);
    let context = DraftContext::Fields(Context { path: PATH, ..Context::default() });
    for size in PAYLOADS {
        let payloads = Payloads::new(size);
        let draft = Draft { context, payload: payloads.at(0), ..Draft::new(header) };
        let mut out = vec![0; draft.encoded_size().unwrap()];
        group.throughput(Throughput::Bytes(out.len() as u64));
        group.bench_function(BenchmarkId::new("size", size), |bencher| {
            bencher.iter(|| black_box(&draft).encoded_size());
        });
        group.bench_function(BenchmarkId::new("record", size), |bencher| {
            bencher.iter(|| black_box(&draft).encode_without_checksum_into(black_box(&mut out)));
        });
        group.bench_function(BenchmarkId::new("record and checksum", size), |bencher| {
            bencher.iter(|| black_box(&draft).encode_into(black_box(&mut out)));
        });
    }
    group.finish();

    // The difference between these is the context's compact form.
    let mut group = criterion.benchmark_group("context");
    let all = Context {
        path: PATH,
        inode_number: 4711,
        file_type: 0o100_000,
        agent_confidence: 90,
        semantic_confidence: 80,
        ..Context::default()
    };
    let contexts = [
        ("none", DraftContext::None),
        ("path", context),
        ("path, inode, confidences", DraftContext::Fields(all)),
    ];
    for (name, context) in contexts {
        let draft = Draft { context, ..Draft::new(header) };
        let mut out = vec![0; draft.encoded_size().unwrap()];
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&draft).encode_without_checksum_into(black_box(&mut out)));
        });
    }
    group.finish();
}

fn digests(criterion: &mut Criterion) {
    let memory: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
    let mut group = criterion.benchmark_group("CRC-32");
    for size in [256, 4 << 10, 1 << 20] {
        let bytes = memory.get(..size).unwrap();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| kernel_crc32(black_box(bytes)));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("SHA-256");
    for size in [256, 388, 1024, 16 << 10] {
        for count in [1, 4, 16, 64] {
            let messages: Vec<&[u8]> = memory.chunks_exact(size).cycle().take(count).collect();
            let mut digests = vec![[0; 32]; count];
            group.throughput(Throughput::Bytes((size * count) as u64));
            group.bench_function(
                BenchmarkId::new(format!("{count} messages, semj-sha256"), size),
                |bencher| {
                    bencher.iter(|| digest_many(0, black_box(&messages), &mut digests));
                },
            );
            group.bench_function(BenchmarkId::new(format!("{count} messages, sha2"), size), |bencher| {
                bencher.iter(|| one_by_one::digest_many(0, black_box(&messages), &mut digests));
            });
        }
    }
    group.finish();
}

/// A commit group written through the real medium, into space that was reserved and is written over and over.
fn appending(criterion: &mut Criterion) {
    const SPACE: u64 = 64 << 20;
    let scratch = Scratch::new(None, 1 << 30).unwrap();
    let file = Disk.create(&scratch.join("segment"), SPACE).unwrap();
    let group_of_records = vec![0x5A; 1 << 20];
    let mut group = criterion.benchmark_group("append");
    for size in [4 << 10, 64 << 10, 1 << 20] {
        let bytes = group_of_records.get(..size).unwrap();
        group.throughput(Throughput::Bytes(size as u64));
        for (name, is_synced) in [("written", false), ("written and synced", true)] {
            let mut at = 0;
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    file.write_at(at % SPACE, bytes).unwrap();
                    at += size as u64;
                    if is_synced {
                        file.sync_data().unwrap();
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, emission, encoding, digests, appending);
criterion_main!(benches);
