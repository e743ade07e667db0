//! What is found is what scoring every document finds.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::bm25::{Collection, Parameters};
use super::super::posting_list::tests::random_postings;
use super::super::posting_list::{PostingList, encode};
use super::*;

struct Memory<'a> {
    lists: &'a [PostingList],
    bytes_read: usize,
}

impl ReadPostings for Memory<'_> {
    type Error = Damaged;

    fn read(&mut self, term: usize, bytes: Range<usize>) -> Result<&[u8], Damaged> {
        self.bytes_read += bytes.len();
        Ok(&self.lists[term].postings[bytes])
    }
}

fn norms() -> Norms {
    let collection = Collection {
        documents: 1000,
        length: 100_000,
    };
    Norms::new(Parameters::default(), collection)
}

/// Every document's score.
fn all_scores(postings: &[Vec<Posting>], weights: &[f32]) -> BTreeMap<i64, f32> {
    let norms = norms();
    let mut scores = BTreeMap::new();
    for (postings, weight) in postings.iter().zip(weights) {
        for posting in postings {
            *scores.entry(posting.document).or_default() +=
                weight * norms.impact(posting.frequency, posting.length);
        }
    }
    scores
}

/// The best documents, and how many bytes of postings were read for them.
fn best(
    lists: &[PostingList],
    weights: &[f32],
    among: Option<&[i64]>,
    limit: usize,
) -> (Vec<Hit>, usize) {
    let mut top = Top::new(limit);
    let mut memory = Memory {
        lists,
        bytes_read: 0,
    };
    let directory =
        |list: &PostingList| Directory::decode(&list.directory, &norms()).expect("is a directory");
    let directories: Vec<Directory> = lists.iter().map(directory).collect();
    let weighted = directories.iter().zip(weights);
    let terms: Vec<Term> = weighted
        .map(|(directory, &weight)| Term { weight, directory })
        .collect();
    search(&terms, &norms(), among, &mut memory, &mut top).expect("is sound");
    (top.into_hits(), memory.bytes_read)
}

fn check(found: &[Hit], scores: &BTreeMap<i64, f32>, limit: usize) {
    let mut expected: Vec<f32> = scores.values().copied().collect();
    expected.sort_by(|a, b| b.total_cmp(a));
    expected.truncate(limit);
    assert_eq!(found.len(), expected.len());
    for (hit, expected) in found.iter().zip(&expected) {
        assert!(
            (hit.score - expected).abs() < 1e-5 * expected,
            "{hit:?} {expected}"
        );
        assert!((scores[&hit.document] - hit.score).abs() < 1e-5 * expected);
    }
}

#[test]
fn the_best_are_found() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..300 {
        let count = random.random_range(1..6);
        let postings: Vec<Vec<Posting>> = (0..count)
            .map(|_| {
                let (size, step) = (random.random_range(0..2000), random.random_range(1..50));
                random_postings(&mut random, size, step)
            })
            .collect();
        let weights: Vec<f32> = (0..count).map(|_| random.random_range(0.1..8.0)).collect();
        let lists: Vec<PostingList> = postings.iter().map(|postings| encode(postings)).collect();
        let scores = all_scores(&postings, &weights);
        for limit in [1, 10, 100, 20_000] {
            let (hits, _) = best(&lists, &weights, None, limit);
            check(&hits, &scores, limit);
        }
        // Among some documents, of which not all are in a list.
        for share in [0.001, 0.01, 0.3] {
            let among: Vec<i64> = (0..50_000).filter(|_| random.random_bool(share)).collect();
            let of_those = scores
                .iter()
                .filter(|(document, _)| among.binary_search(document).is_ok());
            let of_those = of_those
                .map(|(document, score)| (*document, *score))
                .collect();
            let (hits, _) = best(&lists, &weights, Some(&among), 10);
            check(&hits, &of_those, 10);
        }
    }
}

/// Goal: a frequent word beside a rare one is hardly read.
#[test]
fn frequent_words_are_passed_over() {
    let mut random = StdRng::seed_from_u64(2);
    let postings = [
        random_postings(&mut random, 200, 5_000),
        random_postings(&mut random, 500_000, 3),
    ];
    let lists: Vec<PostingList> = postings.iter().map(|postings| encode(postings)).collect();
    let weights = [9.0, 0.2];
    let (hits, bytes_read) = best(&lists, &weights, None, 10);
    check(&hits, &all_scores(&postings, &weights), 10);
    let all: usize = lists.iter().map(|list| list.postings.len()).sum();
    assert!(bytes_read < all / 20, "{bytes_read} of {all} bytes");
}
