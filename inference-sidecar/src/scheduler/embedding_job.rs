//! Embedding a batch: texts of similar length run together, in groups of bounded size.

use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::Error;
use crate::metrics::{Ending, RequestMetrics};
use crate::models::EmbeddingModel;
use crate::scheduler::{Call, Counters, Job};

/// Most tokens of a group, padding included: large enough to fill the cores, small enough that a
/// caller who left is noticed soon.
const GROUP_TOKENS_MAX: usize = 4096;

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

    /// Embeds everything and answers, unless the caller leaves.
    pub fn run(
        &mut self,
        model: &dyn EmbeddingModel,
        counters: &Counters,
        metrics: &RequestMetrics,
    ) {
        let start = Instant::now();
        let queued = start - self.call.received;
        let queue_ms = queued.as_millis() as u32;
        metrics.started(queued);
        let result = self.embed(model);
        let compute_ms = start.elapsed().as_millis() as u32;
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

    fn embed(&self, model: &dyn EmbeddingModel) -> Result<Vec<Vec<f32>>, Error> {
        let mut vectors = vec![Vec::new(); self.sequences.len()];
        for group in groups(&self.sequences) {
            if self.is_abandoned() {
                return Err(Error::Cancelled);
            }
            if self.call.is_expired() {
                return Err(Error::DeadlineExceeded);
            }
            let batch: Vec<&[u32]> = group
                .iter()
                .map(|&i| self.sequences[i].as_slice())
                .collect();
            for (index, vector) in group.into_iter().zip(model.embed(&batch)?) {
                vectors[index] = vector;
            }
        }
        Ok(vectors)
    }

    fn answer(&mut self, outcome: Result<EmbeddingOutcome, Error>) {
        if let Some(reply) = self.reply.take() {
            // A caller that left between the last check and here needs no answer.
            let _ = reply.send(outcome);
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

/// Indices of `sequences`, longest first, cut so that no group exceeds the bound when padded.
fn groups(sequences: &[Vec<u32>]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(sequences[index].len()));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for index in order {
        match groups.last_mut() {
            // The first of a group is its longest, so all others are padded to it.
            Some(group) if (group.len() + 1) * sequences[group[0]].len() <= GROUP_TOKENS_MAX => {
                group.push(index);
            }
            _ => groups.push(vec![index]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    //! Goal: every text is in exactly one group, and no group is larger than the bound.

    use super::*;

    #[test]
    fn groups_are_complete_and_bounded() {
        let sequences: Vec<Vec<u32>> = (0..400).map(|i| vec![0; 1 + i * 37 % 256]).collect();
        let groups = groups(&sequences);
        let mut seen: Vec<usize> = groups.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..400).collect::<Vec<_>>());
        for group in &groups {
            let longest = group.iter().map(|&i| sequences[i].len()).max().unwrap();
            assert!(longest * group.len() <= GROUP_TOKENS_MAX);
        }
        assert!(groups.len() < 40);
    }
}
