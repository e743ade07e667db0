use super::{ChunkBudget, pack};
use crate::chunking::Unit;
use crate::test_random::Random;

fn units(turns_and_tokens: &[(u32, u32)]) -> Vec<Unit<'static>> {
    labelled_units(turns_and_tokens, 0)
}

/// The speaker takes so many tokens where a turn begins.
fn labelled_units(turns_and_tokens: &[(u32, u32)], label_tokens: u32) -> Vec<Unit<'static>> {
    let turn_before = |index: usize| {
        index
            .checked_sub(1)
            .map(|before| turns_and_tokens[before].0)
    };
    turns_and_tokens
        .iter()
        .enumerate()
        .map(|(index, &(turn, token_count))| Unit {
            turn,
            starts_line: turn_before(index) != Some(turn),
            speaker: None,
            content: "",
            token_count,
            label_tokens,
        })
        .collect()
}

fn budget(max_tokens: u32, overlap_tokens: u32) -> ChunkBudget {
    ChunkBudget {
        max_tokens,
        repacked_max_tokens: max_tokens + 2,
        overlap_tokens,
    }
}

fn check(turns_and_tokens: &[(u32, u32)], budget: ChunkBudget, expected: &[(usize, usize)]) {
    check_kept(turns_and_tokens, budget, &[], expected);
}

fn check_kept(
    turns_and_tokens: &[(u32, u32)],
    budget: ChunkBudget,
    kept: &[(usize, usize)],
    expected: &[(usize, usize)],
) {
    let kept: Vec<_> = kept.iter().map(|&(start, end)| start..end).collect();
    let found: Vec<(usize, usize)> = pack(&units(turns_and_tokens), budget, &kept)
        .into_iter()
        .map(|chunk| (chunk.start, chunk.end))
        .collect();
    assert_eq!(found, expected, "{turns_and_tokens:?} {kept:?}");
}

/// Goal: greedy filling, turn ends, overlap and oversized units, one by one.
#[test]
fn packing_rules() {
    check(&[], budget(10, 0), &[]);
    check(&[(0, 4), (0, 4), (0, 4)], budget(10, 0), &[(0, 2), (2, 3)]);
    // 7 of 10 is full enough to end at the change of turn; 5 of 10 is not.
    check(&[(0, 7), (1, 3), (1, 3)], budget(10, 0), &[(0, 1), (1, 3)]);
    check(&[(0, 5), (1, 3), (1, 3)], budget(10, 0), &[(0, 2), (2, 3)]);
    check(&[(0, 4), (0, 4), (0, 4)], budget(10, 4), &[(0, 2), (1, 3)]);
    check(&[(0, 4), (0, 4), (0, 4)], budget(10, 3), &[(0, 2), (2, 3)]);
    check(
        &[(0, 2), (0, 50), (0, 2)],
        budget(10, 5),
        &[(0, 1), (1, 2), (2, 3)],
    );
    check(&[(0, 1), (0, 1)], budget(0, 0), &[(0, 1), (1, 2)]);
}

/// Goal: a speaker costs once in each chunk and turn, not in each sentence.
#[test]
fn labels_count_where_they_stand() {
    let found = |turns_and_tokens, label_tokens| {
        pack(
            &labelled_units(turns_and_tokens, label_tokens),
            budget(10, 3),
            &[],
        )
    };
    // 4 + 3 times 2; a fourth sentence begins a chunk, whose speaker leaves no room for an overlap of 2.
    assert_eq!(found(&[(0, 2); 4], 4), [0..3, 3..4]);
    // Without a speaker it has an overlap.
    assert_eq!(found(&[(0, 2); 6], 0), [0..5, 4..6]);
    // Two speakers.
    assert_eq!(found(&[(0, 2), (1, 2), (1, 2)], 3), [0..2, 2..3]);
}

/// Goal: kept chunks stay; what lies between is packed, with a little more room, and leaves no crumbs.
#[test]
fn kept_chunks_stay() {
    let five = [(0, 4); 5];
    check_kept(
        &five,
        budget(10, 0),
        &[(0, 2), (2, 4)],
        &[(0, 2), (2, 4), (4, 5)],
    );
    // The middle one is packed again, over the border of the next as it was.
    check_kept(
        &five,
        budget(10, 4),
        &[(0, 2), (3, 5)],
        &[(0, 2), (1, 4), (3, 5)],
    );
    // 12 tokens fit where 10 did not have to be kept.
    check_kept(
        &[(0, 4), (0, 6), (0, 6), (0, 4)],
        budget(10, 0),
        &[(0, 1), (3, 4)],
        &[(0, 1), (1, 3), (3, 4)],
    );
    check_kept(
        &[(0, 4), (0, 6), (0, 7), (0, 4)],
        budget(10, 0),
        &[(0, 1), (3, 4)],
        &[(0, 1), (1, 2), (2, 3), (3, 4)],
    );
    // 3 of 10 are a crumb: the chunk behind them is packed again too.
    check_kept(
        &[(0, 8), (0, 3), (0, 6), (0, 2), (0, 8)],
        budget(10, 0),
        &[(0, 1), (2, 4), (4, 5)],
        &[(0, 1), (1, 4), (4, 5)],
    );
}

/// Goal: whatever the input, all units are covered in order, within budget, each chunk brings something new.
#[test]
fn packing_properties() {
    let mut random = Random::new(1);
    let mut random = |limit| random.below(limit) as u32;
    for _ in 0..2000 {
        let mut turn = 0;
        let units: Vec<(u32, u32)> = (0..random(60))
            .map(|_| {
                turn += random(2);
                (turn, random(30))
            })
            .collect();
        let (budget, label) = (budget(random(80), random(80)), random(6));
        let chunks = check_properties(&labelled_units(&units, label), budget, &[]);
        // Some of them are kept; the rest changed its size.
        let mut changed = units.clone();
        let mut kept = Vec::new();
        for chunk in &chunks {
            if random(3) > 0 {
                kept.push(chunk.clone());
            }
        }
        for (index, unit) in changed.iter_mut().enumerate() {
            if !kept.iter().any(|range| range.contains(&index)) {
                unit.1 = random(30);
            }
        }
        check_properties(&labelled_units(&changed, label), budget, &kept);
    }
}

fn check_properties(
    units: &[Unit],
    budget: ChunkBudget,
    kept: &[std::ops::Range<usize>],
) -> Vec<std::ops::Range<usize>> {
    let chunks = pack(units, budget, kept);
    let cost = |range: std::ops::Range<usize>| -> u32 {
        units[range.clone()]
            .iter()
            .zip(range.clone())
            .map(
                |(unit, index)| match index == range.start || unit.starts_line {
                    true => unit.token_count.max(1) + unit.label_tokens,
                    false => unit.token_count.max(1),
                },
            )
            .sum()
    };
    let max = match kept {
        [] => budget.max_tokens,
        _ => budget.repacked_max_tokens.max(budget.max_tokens),
    };
    let (mut covered, mut start_min) = (0, 0);
    for chunk in &chunks {
        assert!(
            chunk.start <= covered && chunk.end > covered && chunk.start >= start_min,
            "{budget:?} {chunks:?}"
        );
        assert!(chunk.len() == 1 || cost(chunk.clone()) <= max);
        assert!(kept.contains(chunk) || cost(chunk.start..covered) <= budget.overlap_tokens);
        (covered, start_min) = (chunk.end, chunk.start + 1);
    }
    assert_eq!(covered, units.len());
    chunks
}
