//! Names that are known from participants, contacts and users.

use std::collections::HashMap;

use unicode_segmentation::UnicodeSegmentation;

use super::{Finding, PiiKind};

/// The least letters of a first or last name that is looked for alone.
const ALONE_MIN: usize = 3;

/// Names by their first word, in lower case.
#[derive(Debug, Clone, Default)]
pub struct KnownNames {
    /// The words that follow the first one; the longest first.
    rest: HashMap<String, Vec<Vec<String>>>,
}

impl KnownNames {
    /// Full names; each of their words counts as a name too, where it is written with a capital.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut known = Self::default();
        for name in names {
            let words: Vec<String> = name.unicode_words().map(str::to_lowercase).collect();
            for word in &words {
                if word.chars().count() >= ALONE_MIN {
                    known.add(word, &[]);
                }
            }
            if let [first, rest @ ..] = words.as_slice() {
                known.add(first, rest);
            }
        }
        for rest in known.rest.values_mut() {
            rest.sort_by_key(|rest| std::cmp::Reverse(rest.len()));
            rest.dedup();
        }
        known
    }

    fn add(&mut self, first: &str, rest: &[String]) {
        let all = self.rest.entry(first.to_owned()).or_default();
        all.push(rest.to_vec());
    }

    pub(super) fn find(&self, text: &str, found: &mut Vec<Finding>) {
        if self.rest.is_empty() {
            return;
        }
        let words: Vec<(usize, &str)> = text.unicode_word_indices().collect();
        let mut index = 0;
        while index < words.len() {
            let count = self.words_at(&words[index..]);
            if count > 0 {
                let (last, word) = words[index + count - 1];
                found.push(Finding {
                    kind: PiiKind::Name,
                    bytes: words[index].0..last + word.len(),
                });
            }
            index += count.max(1);
        }
    }

    /// Words of the name that the text begins with; 0 where there is none.
    fn words_at(&self, words: &[(usize, &str)]) -> usize {
        let word = words[0].1;
        let Some(all) = self.rest.get(&word.to_lowercase()) else {
            return 0;
        };
        let fits = |rest: &&Vec<String>| {
            // A word alone may be a common one: "will", "mark".
            let is_sure = !rest.is_empty() || word.starts_with(char::is_uppercase);
            is_sure
                && words.len() > rest.len()
                && words[1..]
                    .iter()
                    .zip(rest.iter())
                    .all(|((_, word), name)| word.to_lowercase() == *name)
        };
        all.iter().find(fits).map_or(0, |rest| 1 + rest.len())
    }
}
