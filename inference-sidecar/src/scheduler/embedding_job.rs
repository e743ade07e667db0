//! Embedding a batch: each text once, in groups of bounded size.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use proto::model::Priority;
use tokio::sync::oneshot;

use crate::error::Error;
use crate::metrics::{Ending, RequestMetrics};
use crate::models::EmbeddingModel;
use crate::scheduler::worker::run_guarded;
use crate::scheduler::{Call, Job, JobQueue};

/// Most tokens of a group: large enough to fill the cores, small enough that their vectors stay near
/// them and that a caller who left is noticed soon.
const GROUP_TOKENS_MAX: usize = 2048;

/// Most tokens of a group of background work for each core: a caller who waits comes in between two layers of it.
const BACKGROUND_TOKENS_PER_CORE: usize = 128;

/// So long background work rests after an answer to somebody who waits: it is mostly the first part of a search, whose
/// second needs the processors in the database.
const REST: Duration = Duration::from_millis(5);

/// When a pause of background work ends although others wait still.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Of what others got in its pauses, a background job goes on for a tenth, in slices between its next pauses.
const SHARE: u32 = 10;
const SLICE: Duration = Duration::from_millis(3);

/// Token sequences to embed, and where the vectors go.
pub struct EmbeddingJob {
    call: Call,
    sequences: Vec<Vec<u32>>,
    /// None once answered.
    reply: Option<oneshot::Sender<Result<EmbeddingOutcome, Error>>>,
}

/// One vector per sequence, in order.
#[derive(Debug)]
pub struct EmbeddingOutcome {
    pub vectors: Vec<Vec<f32>>,
    pub queue_ms: u32,
    pub compute_ms: u32,
}

impl EmbeddingJob {
    pub fn new(
        call: Call,
        sequences: Vec<Vec<u32>>,
    ) -> (Self, oneshot::Receiver<Result<EmbeddingOutcome, Error>>) {
        let (reply, outcome) = oneshot::channel();
        (
            Self {
                call,
                sequences,
                reply: Some(reply),
            },
            outcome,
        )
    }

    /// Embeds everything and answers, unless the caller leaves. Background work lets interactive jobs of `queue` in
    /// between the layers of its groups.
    pub fn run(
        &mut self,
        model: &dyn EmbeddingModel,
        queue: &JobQueue<Self>,
        metrics: &RequestMetrics,
    ) {
        let counters = queue.counters();
        let start = Instant::now();
        let queued = start - self.call.received;
        let queue_ms = queued.as_millis() as u32;
        metrics.started(queued);
        let mut pauses = Pauses::default();
        let result = self.embed(model, &mut || {
            if self.call.priority == Priority::Background {
                pauses.pause(|| Self::run_waiting(model, queue, metrics));
            }
        });
        let compute_ms = (start.elapsed() - pauses.all).as_millis() as u32;
        tracing::info!(
            request_id = %self.call.request_id,
            model = self.call.model,
            texts = self.sequences.len(),
            tokens = self.sequences.iter().map(Vec::len).sum::<usize>(),
            queue_ms,
            run_ms = compute_ms,
            outcome = Error::outcome(&result),
            "embedding ended"
        );
        if matches!(result, Err(Error::Cancelled | Error::DeadlineExceeded)) {
            counters.count_cancelled();
        }
        // The figures are true before the caller can look at them.
        let latency = self.call.received.elapsed();
        match &result {
            Ok(_) => metrics.finished(Ending::End, latency),
            Err(Error::Cancelled) => metrics.cancelled(),
            Err(Error::DeadlineExceeded) => metrics.finished(Ending::DeadlineExceeded, latency),
            Err(_) => metrics.finished(Ending::Failed, latency),
        }
        self.answer(result.map(|vectors| EmbeddingOutcome {
            vectors,
            queue_ms,
            compute_ms,
        }));
    }

    /// Runs what somebody waits for; false where nobody does.
    fn run_waiting(
        model: &dyn EmbeddingModel,
        queue: &JobQueue<Self>,
        metrics: &RequestMetrics,
    ) -> bool {
        let start = Instant::now();
        let mut has_run = false;
        while start.elapsed() < PAUSE_MAX
            && let Some((mut job, waiting)) = queue.try_pop(Priority::Interactive, |_| 0)
        {
            let running = waiting.run();
            run_guarded(queue, &mut job, |job| job.run(model, queue, metrics));
            drop(running);
            queue.wait_for_interactive(REST);
            has_run = true;
        }
        has_run
    }

    fn group_tokens_max(&self) -> usize {
        match self.call.priority {
            Priority::Interactive => GROUP_TOKENS_MAX,
            Priority::Background => {
                let cores = std::thread::available_parallelism().map_or(1, usize::from);
                (cores * BACKGROUND_TOKENS_PER_CORE).min(GROUP_TOKENS_MAX)
            }
        }
    }

    /// All vectors; `pause` is called in the model's pauses.
    fn embed(
        &self,
        model: &dyn EmbeddingModel,
        pause: &mut dyn FnMut(),
    ) -> Result<Vec<Vec<f32>>, Error> {
        let (distinct, places) = distinct(&self.sequences);
        let mut vectors = Vec::with_capacity(distinct.len());
        for group in groups(&distinct, self.group_tokens_max()) {
            if self.is_abandoned() {
                return Err(Error::Cancelled);
            }
            if self.call.is_expired() {
                return Err(Error::DeadlineExceeded);
            }
            vectors.extend(model.embed(group, pause)?);
        }
        Ok(places.into_iter().map(|at| vectors[at].clone()).collect())
    }

    fn answer(&mut self, outcome: Result<EmbeddingOutcome, Error>) {
        if let Some(reply) = self.reply.take() {
            // A caller that left between the last check and here needs no answer.
            let _ = reply.send(outcome);
        }
    }
}

/// The pauses of a job.
struct Pauses {
    /// Since when the job's own time has not been counted.
    resumed: Instant,
    /// How long the job has to go on for what others got.
    owed: Duration,
    all: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self {
            resumed: Instant::now(),
            owed: Duration::ZERO,
            all: Duration::ZERO,
        }
    }
}

impl Pauses {
    /// Lets `others` run, unless the job has to go on first; they say whether there was anything.
    fn pause(&mut self, others: impl FnOnce() -> bool) {
        let start = Instant::now();
        let own = start - self.resumed;
        if own < self.owed.min(SLICE) {
            return;
        }
        self.owed = self.owed.saturating_sub(own);
        self.resumed = start;
        if others() {
            self.resumed = Instant::now();
            let taken = self.resumed - start;
            self.owed += taken / SHARE;
            self.all += taken;
        }
    }
}

impl Job for EmbeddingJob {
    fn call(&self) -> &Call {
        &self.call
    }

    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn fail(&mut self, error: Error) {
        self.answer(Err(error));
    }
}

/// The sequences without repetitions, and for each one where it is among them: texts of calls and
/// e-mails repeat greetings and footers.
fn distinct(sequences: &[Vec<u32>]) -> (Vec<&[u32]>, Vec<usize>) {
    let mut distinct: Vec<&[u32]> = Vec::new();
    let mut known: HashMap<&[u32], usize> = HashMap::new();
    let place = |sequence| {
        *known.entry(sequence).or_insert_with(|| {
            distinct.push(sequence);
            distinct.len() - 1
        })
    };
    let places = sequences.iter().map(Vec::as_slice).map(place).collect();
    (distinct, places)
}

/// Neighbours together, cut so that no group exceeds the bound; a sequence beyond it is alone.
fn groups<'a, 'b>(sequences: &'b [&'a [u32]], tokens_max: usize) -> Vec<&'b [&'a [u32]]> {
    let (mut groups, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (index, sequence) in sequences.iter().enumerate() {
        if index > start && tokens + sequence.len() > tokens_max {
            groups.push(&sequences[start..index]);
            (start, tokens) = (index, 0);
        }
        tokens += sequence.len();
    }
    if start < sequences.len() {
        groups.push(&sequences[start..]);
    }
    groups
}

#[cfg(test)]
mod tests {
    //! Goal: every text is in exactly one group, no group is larger than the bound, and a text that
    //! comes again is computed once.

    use std::cell::{Cell, RefCell};
    use std::sync::Arc;

    use super::*;
    use crate::metrics::Metrics;
    use crate::scheduler::{Counters, RequestId};

    #[test]
    fn groups_are_complete_and_bounded() {
        let sequences: Vec<Vec<u32>> = (0..400)
            .map(|i| vec![i; 1 + i as usize * 37 % 256])
            .collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let groups = groups(&sequences, GROUP_TOKENS_MAX);
        assert_eq!(groups.concat(), sequences);
        for group in &groups {
            assert!(group.concat().len() <= GROUP_TOKENS_MAX);
        }
        assert!(groups.len() < 40);
        assert_eq!(super::groups(&[], GROUP_TOKENS_MAX).len(), 0);
        let long = vec![0; GROUP_TOKENS_MAX + 1];
        let sequences: [&[u32]; 4] = [&[1], &long, &long, &[1]];
        assert_eq!(super::groups(&sequences, GROUP_TOKENS_MAX).len(), 4);
    }

    /// Its vector of a sequence is the number of sequences before it, and its tokens' sum.
    struct Counting(Cell<f32>);

    impl EmbeddingModel for Counting {
        fn dimensions(&self) -> usize {
            2
        }

        fn tokens_max(&self) -> usize {
            GROUP_TOKENS_MAX
        }

        fn vocabulary_size(&self) -> usize {
            8
        }

        fn embed(&self, batch: &[&[u32]], pause: &mut dyn FnMut()) -> Result<Vec<Vec<f32>>, Error> {
            pause();
            let vectors = batch.iter().map(|tokens| {
                let before = self.0.replace(self.0.get() + 1.0);
                vec![before, tokens.iter().sum::<u32>() as f32]
            });
            Ok(vectors.collect())
        }
    }

    #[test]
    fn repeated_texts_are_computed_once() {
        let sequences = vec![vec![1, 2], vec![3], vec![1, 2], vec![2, 1], vec![3]];
        let call = Call::new(RequestId::new(None), "m", Priority::Interactive, None);
        let (job, _outcome) = EmbeddingJob::new(call, sequences);
        let model = Counting(Cell::new(0.0));
        let vectors = job.embed(&model, &mut || ()).unwrap();
        assert_eq!(model.0.get(), 3.0);
        let expected = [[0.0, 3.0], [1.0, 3.0], [0.0, 3.0], [2.0, 3.0], [1.0, 3.0]];
        assert_eq!(vectors, expected);
    }

    const BACKGROUND: u32 = 1;
    const URGENT: u32 = 2;
    const PANICS: u32 = 3;

    type Outcome = oneshot::Receiver<Result<EmbeddingOutcome, Error>>;

    /// Three layers, before the second of which somebody comes with `arrival`; who was asked for urgently asks again as
    /// long as `is_endless`.
    struct Layers {
        queue: Arc<JobQueue<EmbeddingJob>>,
        arrival: u32,
        is_endless: bool,
        done: RefCell<Vec<u32>>,
        outcomes: RefCell<Vec<Outcome>>,
    }

    fn job(priority: Priority, token: u32) -> (EmbeddingJob, Outcome) {
        let call = Call::new(RequestId::new(None), "m", priority, None);
        EmbeddingJob::new(call, vec![vec![token]])
    }

    impl Layers {
        fn new(arrival: u32, is_endless: bool) -> Self {
            let metrics = Metrics::new().embedding("m").requests().clone();
            Self {
                queue: Arc::new(JobQueue::new(Arc::new(Counters::new(8)), metrics)),
                arrival,
                is_endless,
                done: RefCell::default(),
                outcomes: RefCell::default(),
            }
        }

        fn arrive(&self) {
            let (job, outcome) = job(Priority::Interactive, self.arrival);
            self.queue.push(job).unwrap();
            self.outcomes.borrow_mut().push(outcome);
        }

        /// Runs a job; its outcome.
        fn run(&self, priority: Priority) -> Result<EmbeddingOutcome, Error> {
            let (mut job, mut outcome) = job(priority, BACKGROUND);
            job.run(self, &self.queue, self.queue.metrics());
            outcome.try_recv().unwrap()
        }
    }

    impl EmbeddingModel for Layers {
        fn dimensions(&self) -> usize {
            1
        }

        fn tokens_max(&self) -> usize {
            GROUP_TOKENS_MAX
        }

        fn vocabulary_size(&self) -> usize {
            8
        }

        fn embed(&self, batch: &[&[u32]], pause: &mut dyn FnMut()) -> Result<Vec<Vec<f32>>, Error> {
            let token = batch[0][0];
            for layer in 0..3 {
                if layer == 1 && token == BACKGROUND {
                    self.arrive();
                }
                pause();
            }
            assert!(token != PANICS);
            self.done.borrow_mut().push(token);
            if self.is_endless && token == URGENT {
                self.arrive();
            }
            Ok(vec![vec![token as f32]; batch.len()])
        }
    }

    /// Goal: a job that somebody waits for is done in the middle of a group of background work; the other way round
    /// nobody gives way.
    #[test]
    fn background_work_gives_way() {
        let model = Layers::new(URGENT, false);
        assert_eq!(model.run(Priority::Background).unwrap().vectors, [[1.0]]);
        assert_eq!(*model.done.borrow(), [URGENT, BACKGROUND]);
        let urgent = model.outcomes.borrow_mut()[0].try_recv().unwrap();
        assert_eq!(urgent.unwrap().vectors, [[2.0]]);
        let model = Layers::new(URGENT, false);
        model.run(Priority::Interactive).unwrap();
        assert_eq!(*model.done.borrow(), [BACKGROUND]);
    }

    /// Goal: one that panics harms only its own caller.
    #[test]
    fn a_panic_in_a_pause_is_its_callers_own() {
        let model = Layers::new(PANICS, false);
        assert!(model.run(Priority::Background).is_ok());
        let urgent = model.outcomes.borrow_mut()[0].try_recv().unwrap();
        assert!(matches!(urgent, Err(Error::WorkerPanicked)));
    }

    /// Goal: callers who never stop asking leave background work its share.
    #[test]
    fn background_work_ends_beside_endless_callers() {
        let model = Layers::new(URGENT, true);
        assert!(model.run(Priority::Background).is_ok());
        assert!(model.done.borrow().len() > 3);
    }
}
