//! Goal: choices follow the distribution, stay in the nucleus, and are reproducible.

use proto::model::{Sampling, TokenChoice};

use super::{Choice, Sampler};

/// Probabilities 0.5, 0.3, 0.2 and 0.
fn four_logits() -> [f32; 4] {
    [0.5f32.ln(), 0.3f32.ln(), 0.2f32.ln(), f32::NEG_INFINITY]
}

fn random(temperature: f32, top_p: f32, min_p: f32, seed: u64) -> Sampling {
    Sampling {
        choice: TokenChoice::Random {
            temperature,
            top_p,
            min_p,
            seed,
        },
        repetition_penalty: 1.0,
    }
}

fn counts_of(sampling: Sampling) -> [u32; 4] {
    let mut sampler = Sampler::new(sampling, 0);
    let mut counts = [0; 4];
    for _ in 0..10_000 {
        let choice = sampler.choose(&mut four_logits(), &[], None).unwrap();
        counts[choice.token as usize] += 1;
    }
    counts
}

fn counts(temperature: f32, top_p: f32, seed: u64) -> [u32; 4] {
    counts_of(Sampling::nucleus(temperature, top_p, seed))
}

fn greedy(logits: &[f32]) -> Result<Choice, crate::error::Error> {
    Sampler::new(Sampling::GREEDY, 0).choose(&mut logits.to_vec(), &[], None)
}

#[test]
fn greedy_takes_the_first_of_equals() {
    assert_eq!(greedy(&[0.0, 2.0, 2.0, 1.0]).unwrap().token, 1);
}

#[test]
fn shares_follow_the_probabilities() {
    let [a, b, c, d] = counts(1.0, 1.0, 7);
    assert!(
        (4_800..5_200).contains(&a) && (2_800..3_200).contains(&b),
        "{a} {b}"
    );
    assert!((1_800..2_200).contains(&c) && d == 0, "{c} {d}");
}

#[test]
fn a_nucleus_leaves_out_the_tail() {
    let [_, b, c, _] = counts(1.0, 0.6, 7);
    assert!(b > 0 && c == 0);
    assert_eq!(counts(1.0, 0.4, 7), [10_000, 0, 0, 0]);
}

#[test]
fn min_p_leaves_out_what_is_much_less_likely_than_the_best() {
    let [a, b, c, _] = counts_of(random(1.0, 1.0, 0.5, 7));
    assert!(a > 0 && b > 0 && c == 0, "{a} {b} {c}");
    assert_eq!(counts_of(random(1.0, 1.0, 1.0, 7)), [10_000, 0, 0, 0]);
}

#[test]
fn a_low_temperature_sharpens() {
    assert!(counts(0.1, 1.0, 7)[0] > 9_900);
}

#[test]
fn seeds_reproduce() {
    assert_eq!(counts(1.0, 0.9, 7), counts(1.0, 0.9, 7));
    assert_ne!(counts(1.0, 0.9, 7), counts(1.0, 0.9, 8));
}

#[test]
fn broken_scores_are_an_error() {
    for logits in [
        vec![],
        vec![f32::NAN, 1.0],
        vec![f32::NEG_INFINITY],
        vec![f32::INFINITY],
    ] {
        assert!(greedy(&logits).is_err());
    }
}
