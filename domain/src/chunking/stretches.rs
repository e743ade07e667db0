//! The sentences of a turn that came in several stretches: captions end where a line is full, and long paragraphs are
//! cut to be cited.

use std::ops::Range;

use crate::sentences::sentence_ranges;

/// A sentence of stretches that were put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitSentence {
    /// What each stretch has of it: the stretch, by number from 0, and bytes of it. Never empty.
    pub fragments: Vec<(usize, Range<usize>)>,
}

impl SplitSentence {
    /// One stretch as it is.
    pub fn whole(stretch: &str) -> Self {
        Self {
            fragments: vec![(0, 0..stretch.len())],
        }
    }

    /// Its text, one space between the fragments.
    pub fn text(&self, stretches: &[&str]) -> String {
        let fragments: Vec<&str> = self
            .fragments
            .iter()
            .map(|(stretch, bytes)| &stretches[*stretch][bytes.clone()])
            .collect();
        fragments.join(" ")
    }
}

/// The sentences of `stretches` that follow one another, in order; white space around them belongs to none.
pub fn split_sentences(stretches: &[&str]) -> Vec<SplitSentence> {
    let joined = stretches.join(" ");
    let mut starts = Vec::with_capacity(stretches.len());
    let mut start = 0;
    for stretch in stretches {
        starts.push(start);
        start += stretch.len() + 1;
    }
    let mut first = 0;
    sentence_ranges(&joined)
        .into_iter()
        .map(|sentence| {
            while starts[first] + stretches[first].len() <= sentence.start {
                first += 1;
            }
            let fragments = (first..stretches.len())
                .take_while(|&stretch| starts[stretch] < sentence.end)
                .filter_map(|stretch| {
                    let bytes = sentence.start.saturating_sub(starts[stretch])
                        ..(sentence.end - starts[stretch]).min(stretches[stretch].len());
                    (!stretches[stretch][bytes.clone()].trim().is_empty())
                        .then_some((stretch, bytes))
                })
                .collect();
            SplitSentence { fragments }
        })
        .collect()
}

#[cfg(test)]
#[path = "stretches_tests.rs"]
mod tests;
