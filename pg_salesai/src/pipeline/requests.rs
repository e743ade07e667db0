//! From a question that waits to the answer that is kept: leased in one short transaction, its evidence found in another,
//! the answer kept in a third; models are asked between them, in none. All but the first have the rights of who asked.

use std::time::{Duration, Instant};

use domain::answer::focused_queries;
use domain::lexical::parse_query;
use pgrx::warning;
use serde_json::{Value, json};

use super::on_behalf::{self, End, OnBehalf};
use super::outcome::milliseconds;
use super::request_queue::{self, Leased, Request};
use super::trouble::{SIDECAR_PAUSE, Trouble};
use super::{Transactions, embedding, job_queue};
use crate::answering;
use crate::config;
use crate::errand;
use crate::error::Error;
use crate::rights::AskerRights;
use crate::sidecar::Deadline;

/// How a round ended.
pub enum Round {
    /// No question is due.
    Idle,
    Answered,
    /// The question was not answered, or belongs to somebody else now; how long to rest.
    Failed(Duration),
}

/// Answers the next question that is due; a call of a model takes at most `limit`.
pub fn answer_next<T: Transactions + Clone + 'static>(transactions: &T, limit: Duration) -> Round {
    let lease_ms = milliseconds(config::job_timeout()).saturating_mul(2);
    let leased = match transactions.run(|| Leased::claim(lease_ms)) {
        Ok(Ok(Some(leased))) => leased,
        Ok(Ok(None)) => return Round::Idle,
        Ok(Err(error)) => return not_leased(&error.to_string()),
        Err(error) => return not_leased(&error.message),
    };
    let work = Work {
        transactions: transactions.clone(),
        leased,
        lease_ms,
        limit,
    };
    match work.answer() {
        Ok(()) => Round::Answered,
        Err(End::Lost) => Round::Failed(Duration::ZERO),
        Err(End::Troubled(trouble)) => {
            let trouble = trouble.judged();
            let noted = transactions.run(|| leased.fail(&trouble));
            if !matches!(noted, Ok(Ok(()))) {
                warning!("request {} keeps its lease until it runs out", leased.id);
            }
            let pause = if trouble.is_away() {
                SIDECAR_PAUSE
            } else {
                Duration::ZERO
            };
            Round::Failed(pause)
        }
    }
}

/// Says at the questions that wait why nobody answers them.
pub fn note_outage(transactions: &impl Transactions, error: Error) {
    let trouble = Trouble::from(error);
    let noted = transactions.run(|| request_queue::note_outage(&trouble));
    if !matches!(noted, Ok(Ok(()))) {
        warning!("could not say at waiting requests that the sidecar is away");
    }
}

fn not_leased(message: &str) -> Round {
    warning!("could not lease a request: {message}");
    Round::Failed(SIDECAR_PAUSE)
}

struct Work<T> {
    transactions: T,
    leased: Leased,
    lease_ms: i32,
    limit: Duration,
}

impl<T: Transactions + Clone + 'static> Work<T> {
    fn answer(&self) -> Result<(), End> {
        let start = Instant::now();
        let request = self.run(|| permitted(&self.leased))?;
        self.between(&request.role, || {
            remember_vector(&request.asked, self.limit)
        })?;
        let gathered = self.run(|| {
            let request = permitted(&self.leased)?;
            let _rights = AskerRights::assume(&request.role);
            Ok(request.gather()??)
        })?;
        let (evidence, options) = (
            gathered.evidence.clone(),
            call_options(&request.options, self.limit),
        );
        let answered = self.between(&request.role, || {
            answering::answered(&request.asked, evidence, options)
        })?;
        self.run(|| {
            if !self.leased.lock()? {
                return Err(End::Lost);
            }
            let request = permitted(&self.leased)?;
            let rights = AskerRights::assume(&request.role);
            let kept = request.keep(&gathered, &answered, milliseconds(start.elapsed()))?;
            drop(rights);
            self.leased.finish(kept?)?;
            Ok(())
        })
    }

    fn between<R>(&self, role: &str, work: impl FnOnce() -> Result<R, Error>) -> Result<R, End> {
        let on_behalf = OnBehalf {
            transactions: self.transactions.clone(),
            lease: self.leased,
            lease_ms: self.lease_ms,
            role: role.to_owned(),
        };
        on_behalf.between(work)
    }

    fn run<R>(&self, body: impl FnOnce() -> Result<R, End>) -> Result<R, End> {
        on_behalf::run(&self.transactions, body)?
    }
}

/// The question, if it has not lost the rights that it was asked with.
fn permitted(leased: &Leased) -> Result<Request, End> {
    let mut request = leased.request()?.ok_or(End::Lost)?;
    match request.problem.take() {
        None => Ok(request),
        Some(problem) => Err(End::Troubled(Trouble::not_permitted(problem))),
    }
}

/// Has what is searched for embedded before search asks for it, in whose transaction no model is called then.
fn remember_vector(asked: &str, limit: Duration) -> Result<(), Error> {
    // The active set comes first, if there is one.
    let sets = errand::ask(job_queue::target_sets)?;
    match sets.first().filter(|set| set.set_id.is_some()) {
        Some(set) => focused_queries(asked)
            .iter()
            .map(|query| parse_query(query).text)
            // Search embeds no others either.
            .filter(|words| !words.trim().is_empty())
            .try_for_each(|words| {
                embedding::remember(&words, &set.model, &set.model_sha256, || {
                    Deadline::after(limit)
                })
            }),
        None => Ok(()),
    }
}

/// With the limit that the caller named, where it is lower: nobody holds a worker for days.
fn call_options(options: &Value, limit: Duration) -> Value {
    let most = i64::from(milliseconds(limit));
    let named = options["timeout_ms"].as_i64().unwrap_or(most);
    let mut options = options.clone();
    options["timeout_ms"] = json!(named.min(most));
    options
}
