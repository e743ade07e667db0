use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::rotation::rotate;
use super::{
    CODE_DIMENSIONS_MAX, CODE_DIMENSIONS_MIN, CodeQuery, CodeShape, Encoder, GROUP_VECTORS, length,
};
use crate::lanes::Level;

fn random(dimensions: usize, source: &mut StdRng) -> Vec<f32> {
    (0..dimensions)
        .map(|_| source.random_range(-1.0..1.0) + source.random_range(-1.0..1.0))
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let product: f32 = a.iter().zip(b).map(|(a, b)| a * b).sum();
    product / (length(a) * length(b))
}

/// Vectors around a direction, as those of a model are.
fn vectors(dimensions: usize, count: usize, source: &mut StdRng) -> Vec<Vec<f32>> {
    let common = random(dimensions, source);
    (0..count)
        .map(|_| {
            let own = random(dimensions, source);
            own.iter()
                .zip(&common)
                .map(|(own, common)| own + 0.5 * common)
                .collect()
        })
        .collect()
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; vectors[0].len()];
    for vector in vectors {
        let length = length(vector) * vectors.len() as f32;
        for (mean, value) in mean.iter_mut().zip(vector) {
            *mean += value / length;
        }
    }
    mean
}

#[test]
fn rotation_keeps_lengths_and_angles() {
    let mut source = StdRng::seed_from_u64(1);
    for dimensions in [64, 128, 384, 1024, 1920] {
        let (one, other) = (
            random(dimensions, &mut source),
            random(dimensions, &mut source),
        );
        let (mut turned, mut other_turned) = (one.clone(), other.clone());
        rotate(&mut turned);
        rotate(&mut other_turned);
        assert!((length(&turned) / length(&one) - 1.0).abs() < 1e-4);
        assert!((cosine(&turned, &other_turned) - cosine(&one, &other)).abs() < 1e-4);
        // One value alone is spread over all.
        let mut unit = vec![0.0; dimensions];
        unit[dimensions - 1] = 1.0;
        rotate(&mut unit);
        let largest = unit.iter().map(|value| value.abs()).fold(0.0, f32::max);
        assert!(largest < 0.5, "{dimensions}: {largest}");
    }
}

/// Bounds hold for nearly all vectors, and are near enough to be of use.
#[test]
fn bounds_hold() {
    let mut source = StdRng::seed_from_u64(2);
    for dimensions in [
        CODE_DIMENSIONS_MIN,
        100,
        384,
        768,
        1024,
        CODE_DIMENSIONS_MAX,
    ] {
        let shape = CodeShape::new(dimensions).expect("it has codes");
        let vectors = vectors(dimensions, 10 * GROUP_VECTORS - 3, &mut source);
        let centre = mean(&vectors);
        let groups = encode(&shape, &centre, &vectors);
        let (mut broken, mut slack, mut count) = (0, 0.0, 0);
        for _ in 0..20 {
            let direction = random(dimensions, &mut source);
            let query = CodeQuery::new(Level::best(), shape.clone(), &centre, &direction);
            let groups = groups.chunks(shape.group_bytes());
            for (group, vectors) in groups.zip(vectors.chunks(GROUP_VECTORS)) {
                let bounds = bounds(&query, group);
                assert_eq!(bounds.len(), vectors.len(), "free places are not shown");
                for ((_, bound), vector) in bounds.iter().zip(vectors) {
                    let exact = cosine(vector, &direction);
                    broken += usize::from(*bound < exact);
                    slack += bound - exact;
                    count += 1;
                }
            }
        }
        let share = broken as f32 / count as f32;
        assert!(
            share < 0.15,
            "{dimensions}: {share} of the bounds do not hold"
        );
        let slack = slack / count as f32;
        // Two bits miss a third of what is to be known.
        let expected = 1.2 * 0.36 / (dimensions as f32).sqrt();
        assert!(
            slack < 1.5 * expected,
            "{dimensions}: {slack} above, {expected} expected"
        );
    }
}

/// Of all vectors of a group.
fn bounds(query: &CodeQuery, group: &[u8]) -> Vec<(i64, f32)> {
    let mut bounds = Vec::new();
    let is_group = query.exceeding(group, f32::NEG_INFINITY, |id, bound| {
        bounds.push((id, bound))
    });
    assert!(is_group);
    bounds
}

fn encode(shape: &CodeShape, centre: &[f32], vectors: &[Vec<f32>]) -> Vec<u8> {
    let encoder = Encoder::new(shape.clone(), centre.to_vec());
    let mut groups = Vec::new();
    let numbered: Vec<(i64, &[f32])> = (1..).zip(vectors.iter().map(Vec::as_slice)).collect();
    for group in numbered.chunks(GROUP_VECTORS) {
        encoder.encode(group, &mut groups);
    }
    groups
}

/// Every level gives what the tables' definition gives.
#[test]
fn levels_agree() {
    let mut source = StdRng::seed_from_u64(3);
    for dimensions in (CODE_DIMENSIONS_MIN..=CODE_DIMENSIONS_MAX).step_by(61) {
        let shape = CodeShape::new(dimensions).expect("it has codes");
        let vectors = vectors(dimensions, GROUP_VECTORS, &mut source);
        let centre = mean(&vectors);
        let group = encode(&shape, &centre, &vectors);
        let direction = random(dimensions, &mut source);
        let query = |level| CodeQuery::new(level, shape.clone(), &centre, &direction);
        let all = bounds(&query(Level::Portable), &group);
        let mut sorted: Vec<f32> = all.iter().map(|(_, bound)| *bound).collect();
        sorted.sort_by(f32::total_cmp);
        let median = sorted[GROUP_VECTORS / 2];
        let upper: Vec<(i64, f32)> = all
            .iter()
            .copied()
            .filter(|(_, bound)| *bound > median)
            .collect();
        for level in Level::all() {
            let query = query(level);
            assert_eq!(
                bounds(&query, &group),
                all,
                "{level:?}, {dimensions} dimensions"
            );
            let mut exceeding = Vec::new();
            query.exceeding(&group, median, |id, bound| exceeding.push((id, bound)));
            assert_eq!(exceeding, upper);
        }
    }
}

#[test]
fn odd_vectors_and_bytes() {
    let shape = CodeShape::new(40).expect("it has codes");
    let (zero, centre) = (vec![0.0; 40], vec![0.1; 40]);
    let mut group = Vec::new();
    Encoder::new(shape.clone(), centre.clone()).encode(&[(7, &zero), (8, &centre)], &mut group);
    let query = CodeQuery::new(Level::best(), shape, &centre, &zero);
    let bounds = bounds(&query, &group);
    assert!(
        bounds.iter().all(|(_, bound)| bound.is_finite()),
        "{bounds:?}"
    );
    let ids: Vec<i64> = bounds.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [7, 8]);
    assert!(!query.exceeding(&group[1..], 0.0, |_, _| ()));
    assert!(CodeShape::new(CODE_DIMENSIONS_MIN - 1).is_none());
    assert!(CodeShape::new(CODE_DIMENSIONS_MAX + 1).is_none());
}
