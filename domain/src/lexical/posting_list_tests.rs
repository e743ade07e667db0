//! Lists come back as they were, and their impacts are bounds.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

pub fn random_postings(random: &mut StdRng, count: usize, step_max: u64) -> Vec<Posting> {
    let mut document = 0;
    (0..count)
        .map(|_| {
            document += random.random_range(1..=step_max) as i64;
            Posting {
                document,
                frequency: random.random_range(1..=20),
                length: random.random_range(5..=255),
            }
        })
        .collect()
}

#[test]
fn lists_come_back() {
    let mut random = StdRng::seed_from_u64(1);
    for count in [0, 1, 2, 127, 128, 129, 1000] {
        for step_max in [1, 3, 1 << 40] {
            let postings = random_postings(&mut random, count, step_max);
            let list = encode(&postings);
            assert_eq!(list.count as usize, count);
            assert_eq!(decode(&list), Ok(postings));
        }
    }
}

#[test]
fn impacts_are_bounds() {
    let mut random = StdRng::seed_from_u64(2);
    let postings = random_postings(&mut random, 2000, 5);
    let list = encode(&postings);
    for (described, postings) in described(&list.directory).zip(postings.chunks(BLOCK_POSTINGS)) {
        let (_, impacts) = described.expect("is a directory");
        assert!(impacts.len() <= IMPACTS_MAX);
        for posting in postings {
            let covers = |&[frequency, length]: &[u8; 2]| {
                frequency >= posting.frequency && length <= posting.length
            };
            assert!(impacts.iter().any(covers), "{posting:?} {impacts:?}");
        }
    }
}

#[test]
fn damage_is_found() {
    let mut random = StdRng::seed_from_u64(3);
    let list = encode(&random_postings(&mut random, 300, 1000));
    for end in 0..list.directory.len() {
        // A directory that ends between two blocks is one of fewer blocks.
        let _ = described(&list.directory[..end]).count();
    }
    for end in 0..list.postings.len() {
        let cut = PostingList {
            postings: list.postings[..end].to_vec(),
            ..list.clone()
        };
        assert_eq!(decode(&cut), Err(Damaged));
    }
}
