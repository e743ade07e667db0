//! Goal: for scores of every shape the sampler agrees with the plainest way of writing its rules down.

use proto::model::{Constraint, Sampling, TokenChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Sampler;
use super::distribution::Distribution;
use crate::error::Error;
use crate::scheduler::ConstraintCompiler;

const TRIALS: u64 = 200;

/// Scores with ties, impossible tokens, narrow and wide distributions.
fn scores(random: &mut StdRng, size: usize) -> Vec<f32> {
    let spread = [0.0, 0.01, 1.0, 8.0, 60.0][random.random_range(0..5)];
    let step = [0.0, 0.5][random.random_range(0..2)];
    let mut scores: Vec<f32> = (0..size)
        .map(|_| match random.random_bool(0.1) {
            true => f32::NEG_INFINITY,
            false if step > 0.0 => {
                (random.random_range(-1.0..=1.0f32) * spread / step).round() * step
            }
            false => random.random_range(-1.0..=1.0f32) * spread,
        })
        .collect();
    scores[random.random_range(0..size)] = spread;
    scores
}

fn size(random: &mut StdRng) -> usize {
    [1, 2, 63, 64, 65, 600, 3_000][random.random_range(0..7)]
}

fn random_choice(temperature: f32, top_p: f32, min_p: f32, seed: u64) -> Sampling {
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

/// The tokens that may be drawn, by sorting everything.
fn plain_cut(scores: &[f32], temperature: f32, top_p: f32, min_p: f32) -> Vec<u32> {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |score: f32| ((score - highest) / temperature).exp();
    let mut ranked: Vec<u32> = (0..scores.len() as u32).collect();
    ranked.retain(|&token| weight(scores[token as usize]) > 0.0);
    let total: f64 = ranked
        .iter()
        .map(|&token| f64::from(weight(scores[token as usize])))
        .sum();
    // Stable, so equals stay in the order of tokens.
    ranked.sort_by(|&a, &b| {
        weight(scores[b as usize])
            .partial_cmp(&weight(scores[a as usize]))
            .unwrap()
    });
    let mut sum = 0.0;
    let mut kept = Vec::new();
    for token in ranked {
        if top_p < 1.0 && sum >= f64::from(top_p) * total {
            break;
        }
        sum += f64::from(weight(scores[token as usize]));
        kept.push(token);
    }
    kept.retain(|&token| weight(scores[token as usize]) >= min_p);
    kept.sort_unstable();
    kept
}

#[test]
fn cuts_agree_with_sorting_everything() {
    for trial in 0..TRIALS {
        let random = &mut StdRng::seed_from_u64(trial);
        let size = size(random);
        let scores = scores(random, size);
        let temperature = random.random_range(0.05..=2.0);
        let top_p = [1.0, 0.999, 0.9, 0.5, 0.01][random.random_range(0..5)];
        let min_p = [0.0, 0.05, 0.5, 1.0][random.random_range(0..4)];
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut distribution = Distribution::new(&scores, highest, temperature);
        distribution.cut(top_p, min_p);
        let mut kept = distribution.tokens();
        kept.sort_unstable();
        let expected = plain_cut(&scores, temperature, top_p, min_p);
        assert_eq!(kept, expected, "{trial}: {temperature} {top_p} {min_p}");
        for point in [0.0, 0.3, 0.999_999, 1.0 - f64::EPSILON] {
            assert!(kept.contains(&distribution.draw(point).unwrap()), "{trial}");
        }
    }
}

#[test]
fn a_choice_depends_on_seed_scores_and_number_alone() {
    for trial in 0..TRIALS {
        let random = &mut StdRng::seed_from_u64(trial);
        let last = scores(random, 300);
        let steps = random.random_range(0..6);
        let sampling = random_choice(1.3, 0.95, 0.01, trial);
        let after = |make: &mut dyn FnMut() -> Vec<f32>| {
            let mut sampler = Sampler::new(sampling, 0);
            for _ in 0..steps {
                sampler.choose(&mut make(), &[], None).unwrap();
            }
            sampler.choose(&mut last.clone(), &[], None).unwrap().token
        };
        // One candidate, or many: each choice takes one number.
        let single = after(&mut || vec![1.0]);
        let many = after(&mut || scores(random, 200));
        assert_eq!(single, many, "{trial}");
    }
}

#[test]
fn penalties_count_a_token_once() {
    for trial in 0..TRIALS {
        let random = &mut StdRng::seed_from_u64(trial);
        let size = size(random);
        let scores = scores(random, size);
        let history: Vec<u32> = (0..50)
            .map(|_| random.random_range(0..size as u32 + 3))
            .collect();
        let penalty = random.random_range(1.01..=2.0);
        let mut expected = scores.clone();
        for (token, score) in (0..).zip(&mut expected) {
            if history.contains(&token) {
                *score = if *score > 0.0 {
                    *score / penalty
                } else {
                    *score * penalty
                };
            }
        }
        let mut sampler = Sampler::new(
            Sampling {
                repetition_penalty: penalty,
                ..Sampling::GREEDY
            },
            0,
        );
        // Twice, because the sampler remembers between steps.
        for _ in 0..2 {
            let mut changed = scores.clone();
            let token = sampler.choose(&mut changed, &history, None).unwrap().token;
            assert_eq!(changed, expected, "{trial}");
            let best = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(
                token as usize,
                expected.iter().position(|&score| score == best).unwrap()
            );
        }
    }
}

#[test]
fn log_probabilities_are_the_models_own() {
    let compiler = ConstraintCompiler::of_bytes().unwrap();
    for trial in 0..TRIALS {
        let random = &mut StdRng::seed_from_u64(trial);
        let mut scores = scores(random, 257);
        scores[usize::from(b'y')] = -1.0;
        let mut state = compiler
            .compile(&Constraint::Choices(vec!["yes".into()]))
            .unwrap();
        let top = random.random_range(1..=20);
        let sampling = Sampling {
            repetition_penalty: 1.7,
            ..random_choice(0.3, 0.5, 0.1, trial)
        };
        let mut sampler = Sampler::new(sampling, top);
        let choice = sampler
            .choose(&mut scores.clone(), &[1, 2, 3], Some(&mut state))
            .unwrap();
        assert_eq!(choice.token, u32::from(b'y'));
        let total: f64 = scores.iter().map(|&score| f64::from(score).exp()).sum();
        let expected = |token: u32| (f64::from(scores[token as usize]) - total.ln()) as f32;
        let is_close = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
        assert!(is_close(choice.logprob, expected(choice.token)), "{trial}");
        let mut ranked: Vec<u32> = (0..257)
            .filter(|&token| scores[token as usize].is_finite())
            .collect();
        // Stable, so equals stay in the order of tokens.
        ranked.sort_by(|&a, &b| scores[b as usize].partial_cmp(&scores[a as usize]).unwrap());
        ranked.truncate(top as usize);
        let tokens: Vec<u32> = choice
            .alternatives
            .iter()
            .map(|&(token, _)| token)
            .collect();
        assert_eq!(tokens, ranked, "{trial}");
        for (token, logprob) in choice.alternatives {
            assert!(is_close(logprob, expected(token)), "{trial}");
        }
    }
    let plain = Sampler::new(Sampling::GREEDY, 0)
        .choose(&mut [0.0, 1.0], &[], None)
        .unwrap();
    assert!(plain.logprob.is_nan() && plain.alternatives.is_empty());
}

#[test]
fn a_model_that_gives_no_chance_is_an_error() {
    let compiler = ConstraintCompiler::of_bytes().unwrap();
    for sampling in [Sampling::GREEDY, Sampling::nucleus(1.0, 0.9, 1)] {
        let mut state = compiler
            .compile(&Constraint::Choices(vec!["yes".into()]))
            .unwrap();
        let mut logits = vec![0.0; 257];
        logits[usize::from(b'y')] = f32::NEG_INFINITY;
        let result = Sampler::new(sampling, 0).choose(&mut logits, &[], Some(&mut state));
        assert!(matches!(result, Err(Error::ConstraintFailed { .. })));
    }
}
