use super::{ChunkBudget, SegmentTokens, pack_segments};

fn segments(turns_and_tokens: &[(u32, u32)]) -> Vec<SegmentTokens> {
    turns_and_tokens
        .iter()
        .map(|&(turn, token_count)| SegmentTokens { turn, token_count })
        .collect()
}

fn check(turns_and_tokens: &[(u32, u32)], budget: (u32, u32, u32), expected: &[(usize, usize)]) {
    let (max_tokens, overlap_tokens, label_tokens) = budget;
    let budget = ChunkBudget {
        max_tokens,
        overlap_tokens,
        label_tokens,
    };
    let found: Vec<(usize, usize)> = pack_segments(&segments(turns_and_tokens), budget)
        .into_iter()
        .map(|chunk| (chunk.start, chunk.end))
        .collect();
    assert_eq!(found, expected, "{turns_and_tokens:?}");
}

/// Goal: greedy filling, turn ends, overlap, labels and oversized segments, one by one.
#[test]
fn packing_rules() {
    check(&[], (10, 0, 0), &[]);
    check(&[(0, 4), (0, 4), (0, 4)], (10, 0, 0), &[(0, 2), (2, 3)]);
    // 7 of 10 is full enough to end at the change of turn; 5 of 10 is not.
    check(&[(0, 7), (1, 3), (1, 3)], (10, 0, 0), &[(0, 1), (1, 3)]);
    check(&[(0, 5), (1, 3), (1, 3)], (10, 0, 0), &[(0, 2), (2, 3)]);
    check(&[(0, 4), (0, 4), (0, 4)], (10, 4, 0), &[(0, 2), (1, 3)]);
    check(&[(0, 4), (0, 4), (0, 4)], (10, 3, 0), &[(0, 2), (2, 3)]);
    check(
        &[(0, 4), (0, 4), (0, 4)],
        (10, 0, 2),
        &[(0, 1), (1, 2), (2, 3)],
    );
    check(
        &[(0, 2), (0, 50), (0, 2)],
        (10, 5, 0),
        &[(0, 1), (1, 2), (2, 3)],
    );
    check(&[(0, 1), (0, 1)], (0, 0, 0), &[(0, 1), (1, 2)]);
}

/// Goal: whatever the input, all segments are covered in order, within budget, each chunk brings something new.
#[test]
fn packing_properties() {
    let mut state = 1_u64;
    let mut random = |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % limit) as u32
    };
    for _ in 0..2000 {
        let mut turn = 0;
        let segments: Vec<SegmentTokens> = (0..random(60))
            .map(|_| {
                turn += random(2);
                SegmentTokens {
                    turn,
                    token_count: random(30),
                }
            })
            .collect();
        let budget = ChunkBudget {
            max_tokens: random(80),
            overlap_tokens: random(80),
            label_tokens: random(4),
        };
        check_properties(&segments, budget);
    }
}

fn check_properties(segments: &[SegmentTokens], budget: ChunkBudget) {
    let chunks = pack_segments(segments, budget);
    let cost = |range: std::ops::Range<usize>| -> u32 {
        segments[range]
            .iter()
            .map(|s| s.token_count + budget.label_tokens)
            .sum()
    };
    let mut covered = 0;
    for chunk in &chunks {
        assert!(
            chunk.start <= covered && chunk.end > covered,
            "{budget:?} {chunks:?}"
        );
        assert!(chunk.len() == 1 || cost(chunk.clone()) <= budget.max_tokens);
        assert!(cost(chunk.start..covered) <= budget.overlap_tokens);
        covered = chunk.end;
    }
    assert_eq!(covered, segments.len());
}
