//! Goal: the percentiles are those of the definition, and prompts share as much as they should.

use std::time::Duration;

use super::prompts::Prompt;
use super::report::Distribution;

#[test]
fn percentiles_are_nearest_ranks() {
    let of = |count: u64| Distribution::of((1..=count).rev().map(Duration::from_millis));
    let expected = |median, p95, p99, max| Distribution {
        median,
        p95,
        p99,
        max,
    };
    assert_eq!(of(100), expected(50.0, 95.0, 99.0, 100.0));
    assert_eq!(of(1), expected(1.0, 1.0, 1.0, 1.0));
    assert_eq!(of(3), expected(2.0, 3.0, 3.0, 3.0));
    assert_eq!(of(0), expected(0.0, 0.0, 0.0, 0.0));
}

#[test]
fn prompts_share_their_beginning() {
    let prompt = |shared_percent, seed, index| {
        let prompt = Prompt {
            words: 200,
            shared_percent,
            seed,
            index,
        };
        let text = prompt.text();
        text.split(' ').map(str::to_owned).collect::<Vec<_>>()
    };
    let (first, second) = (prompt(50, 1, 0), prompt(50, 1, 1));
    assert_eq!(first.len(), 200);
    assert_eq!(first[..100], second[..100]);
    assert_ne!(first[100..], second[100..]);
    assert_eq!(first, prompt(50, 1, 0));
    assert_ne!(first, prompt(50, 2, 0));
    assert_ne!(prompt(0, 1, 0)[..20], prompt(0, 1, 1)[..20]);
    assert_eq!(prompt(100, 1, 0), prompt(100, 1, 7));
}
