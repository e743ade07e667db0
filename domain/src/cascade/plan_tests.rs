use super::*;
use crate::cascade::shuffled;

/// A made population: each row's score, the head's class and the oracle's. The oracle has class 1 with a probability of
/// the score itself, so that the head is honest and not right.
fn population(size: usize, seed: u64, skew: f64) -> Vec<(f32, usize)> {
    let order = shuffled(1 << 16, seed);
    let share = |at: usize| order[at % order.len()] as f64 / 65_536.0;
    let rows = (0..size).map(|at| {
        let score = share(2 * at).powf(skew);
        (score as f32, usize::from(share(2 * at + 1) < score))
    });
    rows.collect()
}

fn judged(&(score, class): &(f32, usize)) -> Judged {
    Judged {
        decision: Decision { class: 0, score },
        class: Some(class),
    }
}

/// Goal: precision and recall relative to the oracle are missed in at most as many samples as the confidence allows,
/// and the head decides something.
#[test]
fn one_class_is_found_as_promised() {
    let target = Target::new(0.9, 0.9, 0.9).expect("a target");
    let (mut missed, mut decided) = (0, 0);
    for seed in 0..200 {
        let rows = population(5_000, 17 * seed + 3, 1.5);
        let order = shuffled(rows.len(), seed + 1_000_000);
        let (sample, rest) = order.split_at(400);
        let sample: Vec<Judged> = sample.iter().map(|&row| judged(&rows[row])).collect();
        let plan = Plan::for_class(1, &target, &sample, rows.len(), 0);
        let mut sums = [[0_usize; 2]; 2];
        for row in &sample {
            let class = row.class.unwrap_or(0);
            sums[class][class] += 1;
        }
        for &row in rest {
            let found = plan.class_of(&judged(&rows[row]).decision);
            decided += usize::from(found.is_some());
            sums[rows[row].1][found.unwrap_or(rows[row].1)] += 1;
        }
        let precision = sums[1][1] as f64 / (sums[1][1] + sums[0][1]) as f64;
        let recall = sums[1][1] as f64 / (sums[1][1] + sums[1][0]) as f64;
        missed += usize::from(precision < 0.9 || recall < 0.9);
        let reached = plan.reached(rows.len(), sums[1][1] + sums[0][1], 0);
        assert!(
            reached.precision_bound >= 0.9 && reached.recall_bound >= 0.9,
            "{reached:?}"
        );
        assert!(reached.precision >= reached.precision_bound);
    }
    assert!(missed <= 20, "{missed} of 200");
    assert!(decided > 200 * 500, "{decided}");
}

/// Goal: the same for rows that each have a class.
#[test]
fn classes_agree_as_promised() {
    let target = Target::new(0.95, 0.9, 0.9).expect("a target");
    let (mut missed, mut decided) = (0, 0);
    for seed in 0..200 {
        // The head says class 1 with this score, and is right as often.
        let rows = population(4_000, 31 * seed + 5, 0.2);
        let row = |&(score, class): &(f32, usize)| Judged {
            decision: Decision { class: 1, score },
            class: Some(class),
        };
        let order = shuffled(rows.len(), seed + 2_000_000);
        let (sample, rest) = order.split_at(300);
        let sample: Vec<Judged> = sample.iter().map(|&at| row(&rows[at])).collect();
        let plan = Plan::for_classes(&target, &sample, rows.len(), rows.len());
        let mut wrong = 0;
        for &at in rest {
            if let Some(class) = plan.class_of(&row(&rows[at]).decision) {
                decided += 1;
                wrong += usize::from(class != rows[at].1);
            }
        }
        missed += usize::from(wrong as f64 > 0.05 * rows.len() as f64);
    }
    assert!((1..=20).contains(&missed), "{missed} of 200");
    assert!(decided > 200 * 400, "{decided}");
}

/// Goal: where the sample says too little, the oracle is asked for everything.
#[test]
fn rare_classes_are_escalated() {
    let target = Target::new(0.95, 0.95, 0.95).expect("a target");
    let sample: Vec<Judged> = (0..200).map(|_| judged(&(0.001, 0))).collect();
    let plan = Plan::for_class(1, &target, &sample, 10_000, 0);
    assert_eq!(plan.class_of(&judged(&(0.0, 0)).decision), None);
    assert_eq!(plan.class_of(&judged(&(1.0, 0)).decision), None);
    // A row that the oracle could not judge counts against the head.
    let failed = Judged {
        class: None,
        ..judged(&(0.9, 0))
    };
    let plan = Plan::for_classes(&target, &[failed; 100], 1_000, 1_000);
    assert_eq!(plan.class_of(&failed.decision), None);
}

/// Goal: a head that is never wrong decides all, and says how sure that is.
#[test]
fn perfect_heads_decide() {
    let target = Target::new(0.95, 0.95, 0.95).expect("a target");
    let sample: Vec<Judged> = (0..200)
        .map(|at| judged(&(f32::from(u8::from(at % 2 == 0)), usize::from(at % 2 == 0))))
        .collect();
    let plan = Plan::for_class(1, &target, &sample, 4_000, 0);
    let of = |score: f32| plan.class_of(&judged(&(score, 0)).decision);
    assert_eq!((of(1.0), of(0.0)), (Some(1), Some(0)));
    let reached = plan.reached(4_000, 2_000, 0);
    assert_eq!((reached.precision, reached.recall), (1.0, 1.0));
    assert!(reached.precision_bound > 0.95 && reached.precision_bound < 1.0);
    // What the oracle did not answer may have been looked for.
    let reached = plan.reached(4_000, 1_500, 500);
    assert_eq!((reached.precision, reached.recall), (1.0, 0.75));
    assert!(Reached::by_oracle(10, 5).recall_bound < 0.51);
}

/// Goal: a target that nobody can reach, or that asks for nothing, is refused.
#[test]
fn targets_are_shares() {
    assert!(Target::new(1.0, 0.9, 0.9).is_err());
    assert!(Target::new(0.9, 0.0, 0.9).is_err());
    assert!(Target::new(0.9, 0.9, f64::NAN).is_err());
}

/// Goal: learning ends where few errors are expected, of all rows or of those that are looked for.
#[test]
fn learning_ends_near_the_target() {
    let target = Target::new(0.9, 0.95, 0.9).expect("a target");
    assert!(target.is_near(19.0, 1_000.0) && !target.is_near(21.0, 1_000.0));
    assert!(!target.is_near(19.0, 100.0));
}
