//! One operator over many documents, most of which a small head decides: see [`domain::cascade`].

use domain::cascade::{Budget, Decision, Judged, Plan, Reached, Target, shuffled};
use domain::operators::Operator;
use serde_json::Value;

use super::application::{Application, Distinct, Outcome, settle};
use super::asking::Asking;
use super::oracle::{Classes, Oracle};
use super::pupil::{Doubt, Pupil};
use crate::error::Error;
use crate::sidecar::Deadline;

/// What is wanted of the result, and the seed of the samples.
pub struct Targeted {
    pub target: Target,
    pub seed: u64,
}

/// Outcomes in the order of the documents, and how they came about.
pub struct Cascaded {
    pub outcomes: Vec<Option<Outcome>>,
    /// Which of them the head decided.
    pub by_head: Vec<bool>,
    pub reached: Reached,
}

/// Applies `classify` or `is_true`. Where too few documents are there to learn from, or the target is out of reach, the
/// model is asked about more of them, at last about all.
pub fn cascade(
    name: &str,
    operator: &Operator,
    documents: &[Option<String>],
    application: &Application,
    targeted: &Targeted,
) -> Result<Cascaded, Error> {
    let wanted = match operator {
        Operator::Classify { .. } => None,
        Operator::IsTrue { .. } => Some(Value::Bool(true)),
        _ => return Err(Error::argument("a cascade applies classify or is_true")),
    };
    let distinct = Distinct::of(documents)?;
    let deadline = Deadline::from_argument(application.timeout_ms)?;
    let asking = Asking::new(name, operator, application, deadline)?;
    let mut oracle = Oracle {
        asking,
        distinct: &distinct,
        answers: vec![None; distinct.texts.len()],
    };
    let rows: Vec<usize> = distinct.places.iter().flatten().copied().collect();
    let decided = match Budget::of(rows.len()) {
        Some(budget) => decide(&mut oracle, &rows, budget, wanted.as_ref(), targeted)?,
        None => None,
    };
    let (values, plan) = match decided {
        Some(Decided { values, plan }) => (values, Some(plan)),
        None => (vec![None; distinct.texts.len()], None),
    };
    oracle.ask((0..values.len()).filter(|&place| values[place].is_none()))?;
    let outcome = |place: usize| -> Outcome {
        match (&oracle.answers[place], &values[place]) {
            (Some(answer), _) => answer.clone(),
            (None, value) => Ok(value.clone().unwrap_or_default()),
        }
    };
    let outcomes: Vec<Option<Outcome>> = distinct
        .places
        .iter()
        .map(|place| place.map(outcome))
        .collect();
    let is_by_head =
        |place: &Option<usize>| place.is_some_and(|place| oracle.answers[place].is_none());
    let by_head = distinct.places.iter().map(is_by_head).collect();
    settle(name, &outcomes, application)?;
    let is_hit = |outcome: &&Option<Outcome>| matches!(outcome, Some(Ok(value)) if Some(value) == wanted.as_ref());
    let hits = outcomes.iter().filter(is_hit).count();
    let failed = outcomes
        .iter()
        .flatten()
        .filter(|outcome| outcome.is_err())
        .count();
    Ok(Cascaded {
        reached: plan.map_or_else(
            || Reached::by_oracle(rows.len(), failed),
            |plan| plan.reached(rows.len(), hits, failed),
        ),
        outcomes,
        by_head,
    })
}

/// What the head decides: a value, or none, for each distinct text.
struct Decided {
    values: Vec<Option<Value>>,
    plan: Plan,
}

/// None where it can decide nothing. `rows`: for each document the place of its text.
fn decide(
    oracle: &mut Oracle<'_>,
    rows: &[usize],
    budget: Budget,
    wanted: Option<&Value>,
    targeted: &Targeted,
) -> Result<Option<Decided>, Error> {
    let order = shuffled(rows.len(), targeted.seed);
    oracle.ask(order[..budget.first].iter().map(|&row| rows[row]))?;
    let mut classes = Classes(wanted.cloned().into_iter().collect());
    let Some(mut pupil) = Pupil::of(oracle, &mut classes)? else {
        return Ok(None);
    };
    teach(
        &mut pupil,
        oracle,
        &mut classes,
        budget,
        targeted,
        wanted.is_some(),
    )?;
    // Drawn from all that is left, after the learning: so the bounds are exact.
    let is_left = |place: &usize| oracle.answers[*place].is_none();
    let rest: Vec<usize> = rows.iter().copied().filter(is_left).collect();
    let known = rows
        .iter()
        .filter(|&&place| oracle.class(place, &mut classes) == Some(WANTED))
        .count();
    let order = shuffled(rest.len(), targeted.seed.wrapping_add(1));
    let drawn = order.into_iter().take(budget.calibration);
    let drawn: Vec<usize> = drawn.map(|row| rest[row]).collect();
    oracle.ask(drawn.iter().copied())?;
    let decision = |place: usize| decision(&pupil.probabilities(place), wanted.is_some());
    let judged = drawn.iter().map(|&place| Judged {
        decision: decision(place),
        class: oracle.class(place, &mut classes),
    });
    let sample: Vec<Judged> = judged.collect();
    let plan = match wanted {
        None => Plan::for_classes(&targeted.target, &sample, rest.len(), rows.len()),
        Some(_) => Plan::for_class(WANTED, &targeted.target, &sample, rest.len(), known),
    };
    let values = (0..oracle.answers.len()).map(|place| {
        let class = plan.class_of(&decision(place))?;
        classes.0.get(class).cloned()
    });
    Ok(Some(Decided {
        values: values.collect(),
        plan,
    }))
}

/// Has the oracle judge what the head is least sure of, until few errors are expected.
fn teach(
    pupil: &mut Pupil,
    oracle: &mut Oracle<'_>,
    classes: &mut Classes,
    budget: Budget,
    targeted: &Targeted,
    is_one_wanted: bool,
) -> Result<(), Error> {
    for _ in 0..budget.rounds {
        let mut doubts = pupil.doubts(oracle);
        let errors: f32 = doubts.iter().map(Doubt::error).sum();
        let rows = match is_one_wanted {
            false => oracle.answers.len() as f32,
            true => {
                let (_, judged) = oracle.judged(classes);
                let known = judged.iter().filter(|&&class| class == WANTED).count();
                let expected = doubts.iter().map(|doubt| doubt.probabilities[WANTED]);
                known as f32 + expected.sum::<f32>()
            }
        };
        if targeted.target.is_near(errors, rows) {
            break;
        }
        // Equal ones stay in the order of their places (a stable sort).
        doubts.sort_by(|left, right| right.error().total_cmp(&left.error()));
        oracle.ask(doubts.iter().take(budget.round).map(|doubt| doubt.place))?;
        pupil.learn(oracle, classes);
    }
    pupil.finish(oracle, classes);
    Ok(())
}

/// The class that is looked for is the first.
const WANTED: usize = 0;

fn decision(probabilities: &[f32], is_one_wanted: bool) -> Decision {
    let likeliest = |from: usize| {
        let classes = probabilities.iter().copied().enumerate().skip(from);
        classes
            .max_by(|(_, left), (_, right)| left.total_cmp(right))
            .unwrap_or((usize::MAX, 0.0))
    };
    match is_one_wanted {
        false => {
            let (class, score) = likeliest(0);
            Decision { class, score }
        }
        true => Decision {
            class: likeliest(WANTED + 1).0,
            score: probabilities.get(WANTED).copied().unwrap_or(0.0),
        },
    }
}
