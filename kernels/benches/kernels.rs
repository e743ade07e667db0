//! The kernels alone, on all threads: products with packed weights, linear layers in bf16, attention.
//!
//! `cargo bench -p kernels`. Shapes are those of SmolLM2-135M and MiniLM; matrices are larger together than
//! the caches where a step would read them from memory.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::{
    Arena, Attention, BlockId, CodeQuery, CodeShape, Encoder, Finish, Format, GROUP_VECTORS,
    HalfRows, Heads, HostKv, KV_BLOCK_TOKENS, KvFormat, Level, Matrix, NoMemory, PackedMatrix,
    Panels, Pool, Product, QuantizedRows, Span, Write, multiply, project,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const OUTPUTS: usize = 1536;
const INPUTS: usize = 576;
/// More than the caches hold.
const MATRICES: usize = 80;
const HEADS: Heads = Heads {
    count: 9,
    kv: 3,
    size: 64,
};

fn packed(arena: &mut Arena, random: &mut StdRng, format: Format, columns: usize) -> PackedMatrix {
    let row = format.row_bytes(columns).expect("whole blocks");
    let mut bytes = vec![0u8; OUTPUTS * row];
    random.fill(bytes.as_mut_slice());
    // Ordinary scales, so that sums stay finite.
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        let scales: &[usize] = match format {
            Format::Q6K => &[208],
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 => &[0],
            _ => &[0, 2],
        };
        for &at in scales {
            block[at..at + 2].copy_from_slice(&[0, 0x20]);
        }
    }
    let read = |rows: std::ops::Range<usize>, to: &mut Vec<u8>| -> Result<(), NoMemory> {
        to.clear();
        to.extend_from_slice(&bytes[rows.start * row..rows.end * row]);
        Ok(())
    };
    let matrix = PackedMatrix::pack(arena, format, OUTPUTS, columns, read);
    matrix.expect("there is memory").expect("it is packed")
}

fn values(random: &mut StdRng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

fn products(criterion: &mut Criterion) {
    let (pool, level, mut random) = (Pool::global(), Level::best(), StdRng::seed_from_u64(1));
    for format in [
        Format::Q4_1,
        Format::Q4_0,
        Format::Q8_0,
        Format::Q4K,
        Format::Q6K,
    ] {
        let columns = INPUTS.next_multiple_of(format.block_weights());
        let mut arena = Arena::default();
        let matrices: Vec<_> = (0..MATRICES)
            .map(|_| packed(&mut arena, &mut random, format, columns))
            .collect();
        let mut group = criterion.benchmark_group(format!("product {format:?}"));
        for rows in [1, 8, 64, 512] {
            let activations = values(&mut random, rows * columns);
            let mut quantized = QuantizedRows::default();
            quantized.set(pool, level, &activations, columns);
            let mut results = vec![0.0; rows * OUTPUTS];
            let mut next = matrices.iter().cycle();
            group.throughput(Throughput::Elements((2 * rows * OUTPUTS * columns) as u64));
            group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
                bencher.iter(|| {
                    let matrix = next.next().expect("it goes round");
                    let write = Write::Replace;
                    let product = Product::quantized(matrix, &quantized, &mut results, write);
                    multiply(pool, level, &mut [product]);
                });
            });
        }
        group.finish();
    }
}

fn rounding(criterion: &mut Criterion) {
    let (pool, level, mut random) = (Pool::global(), Level::best(), StdRng::seed_from_u64(2));
    let mut group = criterion.benchmark_group("activations to 8 bits");
    for rows in [1, 8, 512] {
        let activations = values(&mut random, rows * OUTPUTS);
        let mut quantized = QuantizedRows::default();
        group.throughput(Throughput::Elements((rows * OUTPUTS) as u64));
        let mut rows_made = vec![0.0; rows * OUTPUTS];
        group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
            bencher.iter(|| {
                let copy = |row: usize, made: &mut [f32]| {
                    made.copy_from_slice(&black_box(&activations)[row * OUTPUTS..][..OUTPUTS]);
                };
                quantized.set_made(pool, level, &mut rows_made, OUTPUTS, copy);
            });
        });
    }
    group.finish();
}

fn layers_in_bf16(criterion: &mut Criterion) {
    let (pool, level, mut random) = (Pool::global(), Level::best(), StdRng::seed_from_u64(3));
    let (outputs, inputs) = (1536, 384);
    let weights = values(&mut random, outputs * inputs);
    let matrix = Matrix::from_f32(outputs, inputs, &weights).expect("sizes fit");
    let panels = Panels::pack(&[(matrix, vec![0.0; outputs])]);
    let mut group = criterion.benchmark_group("layer in bf16");
    for rows in [16, 92, 2048] {
        let mut halves = HalfRows::default();
        let activations = values(&mut random, rows * inputs);
        halves.set(pool, level, &activations, inputs);
        let mut results = vec![0.0; rows * outputs];
        group.throughput(Throughput::Elements((2 * rows * outputs * inputs) as u64));
        group.bench_function(BenchmarkId::new("rows", rows), |bencher| {
            bencher.iter(|| project(pool, level, &panels, &halves, &mut results, Finish::Replace));
        });
    }
    group.finish();
}

/// Sequences, the tokens before in each, its new tokens, and whether all have the same tokens before.
const ATTENTIONS: [(usize, usize, usize, bool); 5] = [
    (1, 2048, 1, false),
    (16, 64, 1, false),
    (8, 1024, 1, false),
    (8, 1024, 1, true),
    (1, 0, 512, false),
];

fn attention(criterion: &mut Criterion) {
    const LAYERS: usize = 30;
    let (pool, level, mut random) = (Pool::global(), Level::best(), StdRng::seed_from_u64(4));
    for format in [KvFormat::F16, KvFormat::Int8] {
        let mut group = criterion.benchmark_group(format!("attention {format:?}"));
        for (sequences, position, tokens, is_shared) in ATTENTIONS {
            let before = position / KV_BLOCK_TOKENS;
            let each = (position + tokens).div_ceil(KV_BLOCK_TOKENS);
            let blocks = (0..sequences as u32).map(|sequence| {
                let common = if is_shared { before as u32 } else { 0 };
                let own = sequence * each as u32..(sequence + 1) * each as u32;
                let own = own.skip(common as usize);
                (0..common).chain(own).map(BlockId).collect()
            });
            let blocks: Vec<Vec<BlockId>> = blocks.collect();
            let mut kv =
                HostKv::new(format, LAYERS, sequences * each, HEADS).expect("there is memory");
            let mut attention = Attention::default();
            let kv_width = HEADS.kv * HEADS.size;
            let mut write = |blocks: &[Vec<BlockId>], position, tokens| {
                let span = |blocks| Span {
                    position,
                    tokens,
                    blocks,
                };
                let spans: Vec<_> = blocks.iter().map(|blocks| span(blocks)).collect();
                attention.plan(pool, HEADS, &spans);
                let new = values(&mut random, blocks.len() * tokens * kv_width);
                for layer in 0..LAYERS {
                    attention.write((pool, level), &mut kv, layer, &new, &new);
                }
            };
            let writers = if is_shared { 1 } else { sequences };
            write(&blocks[..writers], 0, position);
            write(&blocks, position, tokens);
            let width = HEADS.count * HEADS.size;
            let queries = values(&mut random, sequences * tokens * width);
            let mut layer = 0;
            let note = if is_shared { ", shared" } else { "" };
            let name = format!("{sequences} of {tokens} at {position}{note}");
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    attention.attend((pool, level), &kv, layer, &queries);
                    layer = (layer + 1) % LAYERS;
                });
            });
        }
        group.finish();
    }
}

/// One thread: vectors of MiniLM's size that are passed over, in the caches and from memory.
fn codes(criterion: &mut Criterion) {
    const DIMENSIONS: usize = 384;
    let mut random = StdRng::seed_from_u64(5);
    let shape = CodeShape::new(DIMENSIONS).expect("it has codes");
    let centre = vec![0.0; DIMENSIONS];
    let encoder = Encoder::new(shape.clone(), centre.clone());
    let mut codes = Vec::new();
    for _ in 0..2048 / GROUP_VECTORS {
        let vectors: Vec<Vec<f32>> = (0..GROUP_VECTORS)
            .map(|_| values(&mut random, DIMENSIONS))
            .collect();
        let group: Vec<(i64, &[f32])> = (1..).zip(vectors.iter().map(Vec::as_slice)).collect();
        encoder.encode(&group, &mut codes);
    }
    let query = values(&mut random, DIMENSIONS);
    let query = CodeQuery::new(Level::best(), shape.clone(), &centre, &query);
    let mut group = criterion.benchmark_group("codes of 384 dimensions");
    for copies in [1, 500] {
        let codes = codes.repeat(copies);
        let vectors = codes.len() / shape.group_bytes() * GROUP_VECTORS;
        group.throughput(Throughput::Elements(vectors as u64));
        group.bench_function(BenchmarkId::from_parameter(vectors), |bencher| {
            bencher.iter(|| {
                let mut found = 0;
                for group in codes.chunks_exact(shape.group_bytes()) {
                    query.exceeding(group, 0.9, |_, _| found += 1);
                }
                black_box(found)
            });
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    products,
    rounding,
    layers_in_bf16,
    attention,
    codes
);
criterion_main!(benches);
