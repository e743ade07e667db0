//! One of the many: asks, checks what comes, leaves early now and then.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use proto::client::{ClientError, SidecarClient};
use proto::model::{self, GenerationRequest, Priority};
use proto::wire::generate_response::Event;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::STALL_LIMIT;
use crate::adapters::{AdapterPool, NAMES, is_race};
use crate::reference::{ADAPTER_QUESTIONS, References};
use crate::requests::{self, QUESTIONS};
use crate::summary::Tally;

/// Callers share these names, so that fairness and salts have something to do.
const CALLER_NAMES: usize = 8;
/// Longer than any answer takes here, so that only wanted deadlines pass.
const NO_DEADLINE: Duration = Duration::from_secs(3600);
/// Pause when the server is busy and gives no hint.
const BUSY_PAUSE: Duration = Duration::from_millis(500);

pub struct Caller {
    pub number: usize,
    pub client: SidecarClient,
    pub references: Arc<References>,
    pub adapters: Arc<AdapterPool>,
    pub tally: Arc<Tally>,
    pub seed: u64,
}

/// What is asked this time.
enum Plan {
    Plain {
        question: usize,
        adapter: Option<&'static str>,
    },
    Json {
        schema: usize,
        seed: u64,
    },
}

/// How a stream went.
struct Heard {
    text: String,
    adapter_generation: u64,
    end: End,
}

enum End {
    Complete,
    /// This caller left.
    Left,
    Failed(ClientError),
}

impl Caller {
    pub async fn ask_until(mut self, end: Instant) -> anyhow::Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed ^ (self.number as u64) << 32);
        while Instant::now() < end {
            let plan = Plan::random(&mut random);
            let request = self.request(&plan, &mut random);
            // One in eight leaves early, one in eight has too little time.
            let (leave_after, deadline) = match random.random_range(0..8) {
                0 => (Some(random.random_range(0..12)), NO_DEADLINE),
                1 => (None, Duration::from_millis(random.random_range(20..4000))),
                _ => (None, NO_DEADLINE),
            };
            let heard = self.listen(request, leave_after, deadline).await;
            self.tally.asked.fetch_add(1, Relaxed);
            self.judge(&plan, heard, deadline).await;
        }
        Ok(())
    }

    fn request(&self, plan: &Plan, random: &mut StdRng) -> GenerationRequest {
        let request = match plan {
            Plan::Plain { question, adapter } => requests::plain(*question, *adapter),
            Plan::Json { schema, seed } => requests::json(*schema, *seed),
        };
        let name = format!("caller-{}", self.number % CALLER_NAMES);
        // Some share computed prompts with their namesakes, some with nobody.
        let cache_salt = match random.random_bool(0.7) {
            true => name.clone().into_bytes(),
            false => Vec::new(),
        };
        let priority = match random.random_bool(0.5) {
            true => Priority::Interactive,
            false => Priority::Background,
        };
        GenerationRequest {
            priority,
            caller: model::Caller { name, cache_salt },
            ..request
        }
    }

    /// Reads a stream to its end or for `leave_after` events; a silence beyond the limit is noted.
    async fn listen(
        &mut self,
        request: GenerationRequest,
        leave_after: Option<usize>,
        deadline: Duration,
    ) -> Heard {
        let mut heard = Heard {
            text: String::new(),
            adapter_generation: 0,
            end: End::Left,
        };
        let tally = self.tally.clone();
        let mut stream = match watched(&tally, self.client.generate(request, deadline)).await {
            Ok(stream) => stream,
            Err(error) => {
                heard.end = End::Failed(error);
                return heard;
            }
        };
        for _ in 0..leave_after.unwrap_or(usize::MAX) {
            match watched(&tally, stream.next()).await {
                Ok(Some(Event::Started(started))) => {
                    heard.adapter_generation = started.adapter_generation;
                }
                Ok(Some(Event::Text(piece))) => heard.text.push_str(&piece),
                Ok(Some(Event::Token(_))) => {}
                Ok(Some(Event::Finished(_))) => {
                    heard.end = End::Complete;
                    return heard;
                }
                Ok(None) => {
                    let detail = "the stream has no last event".to_owned();
                    heard.end = End::Failed(ClientError::Failed { detail });
                    return heard;
                }
                Err(error) => {
                    heard.end = End::Failed(error);
                    return heard;
                }
            }
        }
        heard
    }

    async fn judge(&mut self, plan: &Plan, heard: Heard, deadline: Duration) {
        let tally = self.tally.clone();
        let is_complete = matches!(heard.end, End::Complete);
        match &heard.end {
            End::Complete => tally.complete.fetch_add(1, Relaxed),
            End::Left => tally.left.fetch_add(1, Relaxed),
            End::Failed(ClientError::DeadlineExceeded) if deadline != NO_DEADLINE => {
                tally.deadlines.fetch_add(1, Relaxed)
            }
            End::Failed(ClientError::ConstraintUnfinished(_))
                if matches!(plan, Plan::Json { .. }) =>
            {
                tally.unfinished_json.fetch_add(1, Relaxed)
            }
            End::Failed(ClientError::Overloaded { retry_after_ms }) => {
                let hint = retry_after_ms.map(Duration::from_millis);
                tokio::time::sleep(hint.unwrap_or(BUSY_PAUSE)).await;
                tally.refusals.fetch_add(1, Relaxed)
            }
            End::Failed(ClientError::AdapterMissing { .. }) => {
                self.bring_adapter(plan).await;
                tally.missing_adapters.fetch_add(1, Relaxed)
            }
            End::Failed(error) => {
                tally.fail("generate", error);
                0
            }
        };
        match plan {
            Plan::Plain { question, adapter } => {
                let adapter = adapter.map(|name| (name, heard.adapter_generation));
                self.compare(*question, adapter, &heard.text, is_complete);
            }
            Plan::Json { schema, .. } if is_complete => {
                tally.json.fetch_add(1, Relaxed);
                if !requests::obeys(*schema, &heard.text) {
                    tally.wrong(format!("schema {schema}: {:?}", heard.text));
                }
            }
            Plan::Json { .. } => {}
        }
    }

    /// A complete answer must be the reference, another one its beginning.
    fn compare(
        &self,
        question: usize,
        adapter: Option<(&'static str, u64)>,
        text: &str,
        is_complete: bool,
    ) {
        // Nothing was heard, perhaps not even which generation answers.
        if text.is_empty() && !is_complete {
            return;
        }
        let expected = self.references.answer(adapter, question);
        let is_right = match expected {
            Some(expected) if is_complete => text == expected,
            Some(expected) => expected.starts_with(text),
            None => false,
        };
        self.tally.compared.fetch_add(1, Relaxed);
        if !is_right {
            self.tally.wrong(format!(
                "question {question}, adapter {adapter:?}: {text:?} instead of {expected:?}"
            ));
        }
    }

    /// Does what the database does when the server lacks an adapter.
    async fn bring_adapter(&mut self, plan: &Plan) {
        if let Plan::Plain {
            adapter: Some(name),
            ..
        } = plan
        {
            match self.adapters.reload(&mut self.client, name).await {
                Ok(()) => {}
                Err(error) if is_race(&error) => {
                    self.tally.swap_races.fetch_add(1, Relaxed);
                }
                Err(error) => self.tally.fail("adapter reload", &error),
            }
        }
    }
}

impl Plan {
    fn random(random: &mut StdRng) -> Self {
        match random.random_range(0..10) {
            0 | 1 => Self::Json {
                schema: random.random_range(0..3),
                seed: random.random(),
            },
            2..=5 => Self::Plain {
                question: ADAPTER_QUESTIONS[random.random_range(0..ADAPTER_QUESTIONS.len())],
                adapter: Some(NAMES[random.random_range(0..NAMES.len())]),
            },
            _ => Self::Plain {
                question: random.random_range(0..QUESTIONS),
                adapter: None,
            },
        }
    }
}

/// Waits for `step` and notes how long it was silent.
async fn watched<T>(
    tally: &Tally,
    step: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let since = Instant::now();
    let result = tokio::time::timeout(STALL_LIMIT, step).await;
    tally.silence(since.elapsed());
    result.unwrap_or_else(|_| {
        let detail = format!("silent for {} s", STALL_LIMIT.as_secs());
        Err(ClientError::Failed { detail })
    })
}
