//! Which utterances say what a conversation is about: an extractive summary by how often its words come (SumBasic;
//! Nenkova and Vanderwende 2005).
//!
//! An utterance is worth the mean probability of its words, those that come once not counted; once one is taken, its
//! words count by the square of that, so that the next says something else.

use std::collections::{BTreeSet, HashMap};

use crate::words::content_words;

/// The most that are chosen.
const SEGMENTS_MAX: usize = 3;

/// An utterance with fewer different words says little.
const WORDS_MIN: usize = 4;

/// Indexes of up to three of `contents`, in their order.
pub fn key_segments(contents: &[&str]) -> Vec<usize> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut said: Vec<BTreeSet<String>> = Vec::with_capacity(contents.len());
    for content in contents {
        let words: Vec<String> = content_words(content)
            .into_iter()
            .map(|word| word.stem)
            .collect();
        for word in &words {
            *counts.entry(word.clone()).or_default() += 1;
        }
        let is_question = content.trim_end().ends_with('?');
        said.push(if is_question {
            BTreeSet::new()
        } else {
            words.into_iter().collect()
        });
    }
    let total = counts.values().sum::<usize>().max(1) as f32;
    let mut weights: HashMap<&str, f32> = (counts.iter())
        .map(|(word, &count)| (word.as_str(), (count - 1) as f32 / total))
        .collect();
    let mut chosen = Vec::new();
    while chosen.len() < SEGMENTS_MAX {
        let worth = |words: &BTreeSet<String>| {
            let sum: f32 = words
                .iter()
                .filter_map(|word| weights.get(word.as_str()))
                .sum();
            sum / words.len() as f32
        };
        let is_left = |at: &usize| {
            let is_said = chosen
                .iter()
                .any(|&chosen: &usize| said[chosen] == said[*at]);
            said[*at].len() >= WORDS_MIN && !is_said
        };
        let left = (0..said.len()).filter(is_left);
        // Of equals the earlier one.
        let best = left
            .rev()
            .max_by(|&one, &two| worth(&said[one]).total_cmp(&worth(&said[two])));
        let Some(best) = best.filter(|&best| worth(&said[best]) > 0.0) else {
            break;
        };
        for word in &said[best] {
            if let Some(weight) = weights.get_mut(word.as_str()) {
                *weight *= *weight;
            }
        }
        chosen.push(best);
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::key_segments;

    /// Goal: what is talked about most is chosen, then something else; small talk, questions and repetitions are not.
    #[test]
    fn what_it_is_about_is_chosen() {
        let call = [
            "Good morning, how was the long weekend at your place?",
            "Lovely weather, my sister came over with her twins on Sunday.",
            "The licence price of 45,000 euros is above our budget for depots.",
            "The licence price of 45,000 euros is above our budget for depots.",
            "Right.",
            "A pilot with two depots would fit the budget and the licence.",
            "Which depots would you start the pilot with, and at which price?",
            "The pilot starts in May with the depots in Ashgrove.",
        ];
        assert_eq!(key_segments(&call), [2, 5, 7]);
        assert_eq!(key_segments(&["Right.", "Yes, the price."]), [0_usize; 0]);
        assert_eq!(key_segments(&[]), [0_usize; 0]);
    }
}
