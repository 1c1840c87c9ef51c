//! Checksums of messages of one size, at odd addresses as in a journal, against `crc32fast`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use semj_crc32::{crc32, crc32_without, table};

const SIZES: [usize; 7] = [64, 140, 205, 388, 1156, 4096, 65_536];

fn bench(criterion: &mut Criterion) {
    // Stays in the second level of cache: what is measured is not memory.
    let memory: Vec<u8> = (0..=255u8).cycle().take(256 << 10).collect();
    let mut group = criterion.benchmark_group("crc32");
    for size in SIZES {
        let messages: Vec<&[u8]> = memory.get(1..).unwrap_or_default().chunks_exact(size).take(64).collect();
        group.throughput(Throughput::Bytes(messages.iter().map(|message| message.len() as u64).sum()));
        let mut run = |name: &str, way: fn(&[u8]) -> u32| {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| messages.iter().fold(0, |all, message| all ^ way(black_box(message))));
            });
        };
        run("folded", crc32);
        run("folded, without its own", crc32_without::<84>);
        run("crc32fast", |message| table::crc32_behind(0, message));
        run("crc32fast, without its own", |message| table::crc32_without(message, 84));
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
