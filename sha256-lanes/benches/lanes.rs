//! Messages of one size, hashed 1 to 4 at a time, and with `sha2` one after the other.
//!
//! `n` at a time means that the caller hands over `n` messages at once; `many` is a batch of 64, `mixed` one of
//! 64 messages with sizes around the given one.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use semj_sha256::{digest_many, digest_pairs, one_by_one};

const SIZES: [usize; 6] = [64, 256, 320, 448, 1024, 16 << 10];
const BATCH: usize = 64;

/// `BATCH` messages of these sizes, at odd addresses as in a journal.
fn messages(memory: &[u8], sizes: impl Iterator<Item = usize>) -> Vec<&[u8]> {
    let mut at = 1;
    let mut message = |size: usize| {
        let start = if at + size > memory.len() { 1 } else { at };
        at = start + size;
        memory.get(start..at).unwrap_or_default()
    };
    sizes.take(BATCH).map(&mut message).collect()
}

fn throughput(messages: &[&[u8]]) -> Throughput {
    Throughput::Bytes(messages.iter().map(|message| message.len() as u64).sum())
}

fn bench(criterion: &mut Criterion) {
    // Stays in the second level of cache: what is measured is hashing and not memory.
    let memory: Vec<u8> = (0..=255u8).cycle().take(1 << 20).collect();
    let mut digests = [[0; 32]; BATCH];

    let mut group = criterion.benchmark_group("messages");
    for size in SIZES {
        let equal = messages(&memory, std::iter::repeat(size));
        // From half the size to one and a half.
        let mixed = messages(&memory, (0..).map(|i| size / 2 + i * 37 % size));
        group.throughput(throughput(&equal));
        group.bench_function(BenchmarkId::new("sha2", size), |bencher| {
            bencher.iter(|| one_by_one::digest_many(0, black_box(&equal), &mut digests));
        });
        for lanes in 1..=4 {
            group.bench_function(BenchmarkId::new(format!("{lanes} at a time"), size), |bencher| {
                bencher.iter(|| {
                    for few in equal.chunks(lanes) {
                        digest_many(0, black_box(few), &mut digests);
                    }
                });
            });
        }
        group.bench_function(BenchmarkId::new("many", size), |bencher| {
            bencher.iter(|| digest_many(0, black_box(&equal), &mut digests));
        });
        group.throughput(throughput(&mixed));
        group.bench_function(BenchmarkId::new("mixed", size), |bencher| {
            bencher.iter(|| digest_many(0, black_box(&mixed), &mut digests));
        });
        group.bench_function(BenchmarkId::new("sha2, mixed", size), |bencher| {
            bencher.iter(|| one_by_one::digest_many(0, black_box(&mixed), &mut digests));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("pairs");
    group.throughput(Throughput::Bytes(size_of_val(&digests) as u64));
    group.bench_function("sha2", |bencher| {
        bencher.iter(|| one_by_one::digest_pairs(1, black_box(&mut digests)));
    });
    group.bench_function("lanes", |bencher| {
        bencher.iter(|| digest_pairs(1, black_box(&mut digests)));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
