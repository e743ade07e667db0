//! One operator over many documents, most of which a small head decides: see [`domain::cascade`].

use domain::cascade::{Budget, Decision, Head, Judged, Plan, Reached, Target, shuffled};
use domain::operators::Operator;
use pgrx::check_for_interrupts;
use proto::client::ClientError;
use proto::model::{ModelChoice, Priority, TextPurpose};
use serde_json::Value;

use super::application::{Application, Distinct, Outcome, settle};
use super::asking::Asking;
use crate::error::Error;
use crate::pipeline::embedding::{self, Text};
use crate::sidecar::Deadline;

/// What the head reads of a document: about as much as an embedding model takes.
const HEAD_BYTES: usize = 700;
/// With fewer judged rows nothing is learned.
const TRAINING_MIN: usize = 50;

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

/// None where it can decide nothing.
fn decide(
    oracle: &mut Oracle<'_>,
    rows: &[usize],
    budget: Budget,
    wanted: Option<&Value>,
    targeted: &Targeted,
) -> Result<Option<Decided>, Error> {
    let vectors = match oracle.vectors() {
        // Without an embedding model there is nothing to learn from.
        Err(Error::Sidecar(ClientError::NotFound(_))) => return Ok(None),
        vectors => vectors?,
    };
    let rows: Vec<usize> = rows
        .iter()
        .copied()
        .filter(|&place| vectors[place].is_some())
        .collect();
    if rows.len() < 2 * (budget.training + budget.calibration) {
        return Ok(None);
    }
    let row = |place: usize| vectors[place].as_deref().unwrap_or_default();
    let order = shuffled(rows.len(), targeted.seed);
    let order: Vec<usize> = order.into_iter().map(|at| rows[at]).collect();
    let (training, others) = order.split_at(budget.training);
    let calibration = &others[..budget.calibration];
    oracle.ask(training.iter().chain(calibration).copied())?;
    let mut classes = Classes(wanted.cloned().into_iter().collect());
    let judged = |place: usize, classes: &mut Classes| {
        let value = oracle.answers[place].as_ref()?.as_ref().ok()?;
        Some(classes.number(value))
    };
    let known: Vec<(&[f32], usize)> = training
        .iter()
        .filter_map(|&place| Some((row(place), judged(place, &mut classes)?)))
        .collect();
    if known.len() < TRAINING_MIN {
        return Ok(None);
    }
    let (known_rows, known_classes): (Vec<&[f32]>, Vec<usize>) = known.into_iter().unzip();
    let head = Head::train(&known_rows, &known_classes, classes.0.len(), &|| {
        check_for_interrupts!();
    });
    let decision = |place: usize| decision(&head.probabilities(row(place)), wanted.is_some());
    let sample: Vec<Judged> = calibration
        .iter()
        .map(|&place| Judged {
            decision: decision(place),
            class: judged(place, &mut classes),
        })
        .collect();
    let plan = match wanted {
        None => Plan::for_classes(&targeted.target, &sample, others.len(), rows.len()),
        Some(_) => {
            let known = known_classes
                .iter()
                .filter(|&&class| class == WANTED)
                .count();
            Plan::for_class(WANTED, &targeted.target, &sample, others.len(), known)
        }
    };
    let values = (0..vectors.len()).map(|place| {
        check_for_interrupts!();
        vectors[place].as_ref()?;
        let class = plan.class_of(&decision(place))?;
        classes.0.get(class).cloned()
    });
    Ok(Some(Decided {
        values: values.collect(),
        plan,
    }))
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

/// Values that the oracle gave, numbered as they came.
struct Classes(Vec<Value>);

impl Classes {
    fn number(&mut self, value: &Value) -> usize {
        let known = self.0.iter().position(|class| class == value);
        known.unwrap_or_else(|| {
            self.0.push(value.clone());
            self.0.len() - 1
        })
    }
}

/// The model, which is asked about each text once.
struct Oracle<'a> {
    asking: Asking<'a>,
    distinct: &'a Distinct<'a>,
    answers: Vec<Option<Outcome>>,
}

impl Oracle<'_> {
    /// All at once; those that have an answer are left out.
    fn ask(&mut self, places: impl Iterator<Item = usize>) -> Result<(), Error> {
        let mut places: Vec<usize> = places
            .filter(|&place| self.answers[place].is_none())
            .collect();
        places.sort_unstable();
        places.dedup();
        let texts: Vec<&str> = places
            .iter()
            .map(|&place| self.distinct.texts[place])
            .collect();
        for (place, answer) in places.into_iter().zip(self.asking.values(&texts)?) {
            self.answers[place] = Some(answer);
        }
        Ok(())
    }

    /// Embeddings of the texts; None where the model takes it not.
    fn vectors(&self) -> Result<Vec<Option<Vec<f32>>>, Error> {
        let beginning = |text: &&str| text[..text.floor_char_boundary(HEAD_BYTES)].to_owned();
        let texts = self
            .distinct
            .texts
            .iter()
            .map(beginning)
            .map(Text::from)
            .collect();
        let deadline = self.asking.deadline;
        let (model, purpose) = (ModelChoice::Default, TextPurpose::Passage);
        let embedded =
            embedding::embed(&model, texts, purpose, Priority::Interactive, || deadline)?;
        Ok(embedded.vectors.into_iter().map(Result::ok).collect())
    }
}
