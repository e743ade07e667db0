//! A batch of leased jobs: a few interactions go through the model together, and one that it refuses is found by
//! halving and keeps nobody else.

use std::cell::Cell;
use std::time::{Duration, Instant};

use pgrx::warning;
use proto::client::ClientError;
use proto::model::Priority;

use super::chunks::Material;
use super::indexing::{self, TargetSet};
use super::job_queue::{self, Job, JobKind, Lanes};
use super::outcome::{Class, Outcome, load, milliseconds, of_database, settle};
use super::reading::{self, Reading};
use super::{Transactions, embedding_sets};
use crate::config;
use crate::error::Error;
use crate::sidecar::Deadline;

/// Characters that are worked on together, about 16,000 tokens: enough to fill the model's batches, which are cut by
/// tokens once those are counted, few enough that the first of them are stored soon. One interaction may have more.
const GROUP_CHARS: usize = 64 << 10;

/// How a batch ended.
pub struct Batch {
    pub claimed: usize,
    pub finished: i32,
    /// The sidecar could not take work; the jobs went back to the queue and wait for so long.
    pub pause: Option<Duration>,
}

/// Leases up to `limit` jobs of these lanes and works on them.
pub fn run_batch<T: Transactions, D: Fn() -> Deadline>(
    transactions: &T,
    limit: i32,
    lanes: Lanes,
    priority: Priority,
    deadline: &D,
) -> Batch {
    let lease_ms = lease_ms(limit);
    let jobs = match transactions.run(|| job_queue::claim(limit, lease_ms, lanes)) {
        Ok(Ok(jobs)) => jobs,
        Ok(Err(error)) => return no_jobs(&error.to_string()),
        Err(error) => return no_jobs(&error.message),
    };
    let renewed = Cell::new(Instant::now());
    // Asked before each request to the sidecar: a lease outlasts one of them, however many a job needs.
    let deadline = || {
        let lease = Duration::from_millis(u64::from(lease_ms.unsigned_abs()));
        if renewed.get().elapsed() > lease / 4 {
            let renewal = transactions.run(|| job_queue::renew_leases(lease_ms));
            if !matches!(renewal, Ok(Ok(()))) {
                warning!("could not renew the leases of running jobs");
            }
            renewed.set(Instant::now());
        }
        deadline()
    };
    let patience = deadline().timeout();
    let mut run = Run {
        transactions,
        priority,
        deadline: &deadline,
        patience,
        batch: Batch {
            claimed: jobs.len(),
            finished: 0,
            pause: None,
        },
    };
    let (mut index_jobs, mut set_jobs): (Vec<&Job>, Vec<&Job>) =
        jobs.iter().partition(|job| job.kind == JobKind::Index);
    // What the sidecar may have died of comes last.
    index_jobs.sort_by_key(|job| job.losses);
    // An index waits for its vectors.
    set_jobs.sort_by_key(|job| job.kind == JobKind::BuildIndex);
    run.index_all(&index_jobs);
    for job in set_jobs {
        let outcome = match run.batch.pause {
            Some(pause) => Outcome::Postponed(pause),
            None if job.kind == JobKind::Embed => {
                embedding_sets::embed_range(transactions, job, priority, &deadline, patience)
            }
            None => embedding_sets::build_index(transactions, job),
        };
        run.settle(job, &outcome);
    }
    run.batch
}

fn no_jobs(message: &str) -> Batch {
    warning!("could not lease jobs: {message}");
    Batch {
        claimed: 0,
        finished: 0,
        pause: None,
    }
}

struct Run<'a, T, D> {
    transactions: &'a T,
    priority: Priority,
    deadline: &'a D,
    /// How long a call may take.
    patience: Duration,
    batch: Batch,
}

impl<T: Transactions, D: Fn() -> Deadline> Run<'_, T, D> {
    /// Indexes interactions, some at a time.
    fn index_all(&mut self, jobs: &[&Job]) {
        if jobs.is_empty() {
            return;
        }
        let targets = load(self.transactions, job_queue::target_sets);
        let mut group: Vec<(&Job, Material)> = Vec::new();
        let mut chars = 0;
        for &job in jobs {
            match (self.batch.pause, &targets) {
                (None, Ok(targets)) => match self.load(job) {
                    Ok(material) if job.losses > 0 => {
                        self.index_group(&std::mem::take(&mut group), targets);
                        self.index_group(&[(job, material)], targets);
                        chars = 0;
                    }
                    Ok(material) => {
                        chars += material.chars();
                        group.push((job, material));
                    }
                    Err(outcome) => self.settle(job, &outcome),
                },
                (Some(pause), _) => self.settle(job, &Outcome::Postponed(pause)),
                (None, Err(outcome)) => self.settle(job, outcome),
            }
            if chars >= GROUP_CHARS {
                self.index_group(&group, targets.as_deref().unwrap_or_default());
                group.clear();
                chars = 0;
            }
        }
        self.index_group(&group, targets.as_deref().unwrap_or_default());
    }

    /// Indexes these together, or each half of them when the model refuses something.
    fn index_group(&mut self, group: &[(&Job, Material)], targets: &[TargetSet]) {
        if group.is_empty() {
            return;
        }
        if let Some(pause) = self.batch.pause {
            for (job, _) in group {
                self.settle(job, &Outcome::Postponed(pause));
            }
            return;
        }
        let materials: Vec<&Material> = group.iter().map(|(_, material)| material).collect();
        match indexing::index(&materials, targets, self.priority, self.deadline) {
            Ok(indexes) => {
                for ((job, _), index) in group.iter().zip(indexes) {
                    let outcome = match index {
                        Ok(index) => Outcome::Indexed(Box::new(index)),
                        Err(reason) => Outcome::failed(Class::RecordPermanent, "embed", reason),
                    };
                    self.settle(job, &outcome);
                }
                // Search reads each chunk that is in no index yet.
                self.transactions.index_stored();
            }
            Err(error) => {
                let outcome = Outcome::of_call("embed", &error, self.patience);
                if group.len() > 1 && outcome.may_be_one_texts_fault() {
                    let (first, second) = group.split_at(group.len() / 2);
                    self.index_group(first, targets);
                    self.index_group(second, targets);
                    return;
                }
                for (job, _) in group {
                    self.settle(job, &outcome);
                }
            }
        }
    }

    fn settle(&mut self, job: &Job, outcome: &Outcome) {
        if let Outcome::Postponed(pause) = outcome {
            self.batch.pause = Some(*pause);
        }
        self.batch.finished += i32::from(settle(self.transactions, job, outcome));
    }

    fn load(&self, job: &Job) -> Result<Material, Outcome> {
        self.read(job)?;
        load(self.transactions, || job_queue::material(job))
    }

    /// Reads an original whose segments are not there yet, and stores them: a step of its own, which a job that fails
    /// later need not take again.
    fn read(&self, job: &Job) -> Result<(), Outcome> {
        let Some(payload) = load(self.transactions, || job_queue::unread_payload(job))? else {
            return Ok(());
        };
        let text = match reading::read(payload, (self.deadline)()) {
            Ok(Reading::Text(text)) => text,
            Ok(Reading::Problem(detail)) => {
                return Err(Outcome::failed(Class::RecordPermanent, "read", detail));
            }
            // Its own slowness, as far as anybody can tell: waiting for it again and again would hold up all others.
            Err(error @ Error::Sidecar(ClientError::DeadlineExceeded)) => {
                return Err(Outcome::failed(
                    Class::RecordTemporary,
                    "read",
                    error.to_string(),
                ));
            }
            Err(error) => return Err(Outcome::of_call("read", &error, self.patience)),
        };
        // A lost lease shows again when the job is finished.
        let stored = self
            .transactions
            .run(|| job_queue::store_reading(job, &text));
        match stored {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Outcome::failed(
                Class::RecordTemporary,
                "read",
                error.to_string(),
            )),
            Err(error) => Err(match of_database(error.code) {
                class @ Class::RecordPermanent => {
                    Outcome::failed(class, "read", "its text could not be stored")
                }
                class => Outcome::failed(class, "read", error.message),
            }),
        }
    }
}

/// A lease outlasts two model calls for each job of its batch, and is renewed between calls.
fn lease_ms(limit: i32) -> i32 {
    let call_ms = milliseconds(config::job_timeout());
    call_ms.saturating_mul(2).saturating_mul(limit)
}
