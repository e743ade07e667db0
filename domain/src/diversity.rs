//! An order in which what is much the same does not stand together: maximal marginal relevance (Carbonell and
//! Goldstein, SIGIR 1998), and near-duplicates last.

/// Cosine from which two texts say the same: a forwarded mail, a template.
const NEAR_DUPLICATE: f32 = 0.98;

/// An item, the best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// 0 to 1.
    pub score: f32,
    /// Of length 1; empty where there is none.
    pub vector: Vec<f32>,
}

/// Indexes of up to `limit` candidates in their new order. `diversity`: 0 by score alone, 1 as different as can be.
pub fn diversify(candidates: &[Candidate], diversity: f32, limit: usize) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::new();
    // The greatest similarity to one that is chosen.
    let mut nearest = vec![0.0_f32; candidates.len()];
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    while chosen.len() < limit && !left.is_empty() {
        let worth = |&at: &usize| {
            let worth = (1.0 - diversity) * candidates[at].score - diversity * nearest[at];
            (nearest[at] < NEAR_DUPLICATE, worth)
        };
        let mut best = 0;
        for place in 1..left.len() {
            let (is_new, value) = worth(&left[place]);
            let (best_is_new, best_value) = worth(&left[best]);
            if (is_new, value) > (best_is_new, best_value) {
                best = place;
            }
        }
        let at = left.remove(best);
        for &other in &left {
            let similarity = cosine(&candidates[at].vector, &candidates[other].vector);
            nearest[other] = nearest[other].max(similarity);
        }
        chosen.push(at);
    }
    chosen
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(score: f32, angle: f32) -> Candidate {
        Candidate {
            score,
            vector: vec![angle.cos(), angle.sin()],
        }
    }

    #[test]
    fn what_is_the_same_comes_later() {
        let candidates = [
            candidate(0.9, 0.0),
            candidate(0.89, 0.01),
            candidate(0.5, 0.5),
            candidate(0.4, 1.5),
        ];
        assert_eq!(diversify(&candidates, 0.0, 4), [0, 2, 3, 1]);
        assert_eq!(diversify(&candidates, 0.7, 3), [0, 3, 2]);
        assert_eq!(diversify(&candidates, 0.0, 0), [0_usize; 0]);
    }

    #[test]
    fn without_vectors_the_score_counts() {
        let plain = |score| Candidate {
            score,
            vector: Vec::new(),
        };
        assert_eq!(
            diversify(&[plain(0.3), plain(0.2), plain(0.1)], 0.5, 2),
            [0, 1]
        );
    }
}
