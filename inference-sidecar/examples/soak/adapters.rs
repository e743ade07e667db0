//! Random adapters for SmolLM2-135M in PEFT's format, and their coming and going.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use proto::client::{ClientError, SidecarClient};
use proto::limits::ADAPTER_PART_BYTES_MAX;
use proto::model::{AdapterHeader, ModelChoice};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use sha2::{Digest, Sha256};

use crate::server::CALL_LIMIT;
use crate::summary::Tally;

/// Names of the adapters; each has two contents, which its generations take in turn.
pub const NAMES: [&str; 3] = ["tone", "brief", "legal"];
const RANK: usize = 8;
const LAYERS: usize = 30;
const HIDDEN: usize = 576;
/// Module and the length of its output.
const MODULES: [(&str, usize); 2] = [("q_proj", 576), ("v_proj", 192)];
/// Large enough to change most answers, small enough to leave numbers finite.
const WEIGHT_MAX: f32 = 0.08;
const SWAP_PAUSE: Duration = Duration::from_secs(3);

/// The contents, and the generation that each name has reached.
pub struct AdapterPool {
    files: BTreeMap<(&'static str, u64), Vec<u8>>,
    generations: Mutex<BTreeMap<&'static str, u64>>,
}

/// Which of the two contents a generation has.
pub fn content_of(generation: u64) -> u64 {
    generation % 2
}

impl AdapterPool {
    pub fn new(seed: u64) -> Self {
        let mut files = BTreeMap::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            for content in 0..2 {
                let seed = seed.wrapping_mul(1000) + 2 * index as u64 + content;
                files.insert((name, content), random_file(seed));
            }
        }
        Self {
            files,
            generations: Mutex::new(BTreeMap::new()),
        }
    }

    /// Sends the next generation of `name`, which has the other content; returns it.
    pub async fn load_next(
        &self,
        client: &mut SidecarClient,
        name: &'static str,
    ) -> Result<u64, ClientError> {
        let generation = {
            let mut generations = self.lock();
            let generation = generations.entry(name).or_insert(0);
            *generation += 1;
            *generation
        };
        self.send(client, name, generation).await?;
        Ok(generation)
    }

    /// Sends the generation that `name` has reached: the server dropped it.
    pub async fn reload(
        &self,
        client: &mut SidecarClient,
        name: &'static str,
    ) -> Result<(), ClientError> {
        let generation = self.lock().get(name).copied().unwrap_or(1);
        self.send(client, name, generation).await
    }

    /// Replaces and drops adapters until `end`.
    pub async fn swap_until(
        &self,
        end: Instant,
        mut client: SidecarClient,
        tally: &Tally,
        seed: u64,
    ) -> anyhow::Result<()> {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5a5a);
        while Instant::now() + SWAP_PAUSE < end {
            tokio::time::sleep(SWAP_PAUSE).await;
            let name = NAMES[random.random_range(0..NAMES.len())];
            let done = if random.random_bool(0.75) {
                self.load_next(&mut client, name).await.map(drop)
            } else {
                client.unload_adapter(name, CALL_LIMIT).await
            };
            match done {
                Ok(()) => tally.swaps.fetch_add(1, Relaxed),
                Err(error) if is_race(&error) => tally.swap_races.fetch_add(1, Relaxed),
                Err(error) => {
                    tally.fail("adapter swap", &error);
                    0
                }
            };
        }
        Ok(())
    }

    async fn send(
        &self,
        client: &mut SidecarClient,
        name: &'static str,
        generation: u64,
    ) -> Result<(), ClientError> {
        let file = self.files[&(name, content_of(generation))].clone();
        let header = AdapterHeader {
            name: name.to_owned(),
            generation,
            model: ModelChoice::Default,
            sha256: hex(&Sha256::digest(&file)),
            content_bytes: file.len() as u64,
            config_json: CONFIG.to_owned(),
        };
        let parts: Vec<Vec<u8>> = file
            .chunks(ADAPTER_PART_BYTES_MAX)
            .map(<[u8]>::to_vec)
            .collect();
        client
            .load_adapter(header, parts.into_iter(), CALL_LIMIT)
            .await
            .map(drop)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.generations
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// True for what happens when two callers send or drop one adapter together: another one sends it
/// (ABORTED), a newer one is there (FAILED_PRECONDITION), or it is gone (NOT_FOUND).
pub fn is_race(error: &ClientError) -> bool {
    match error {
        ClientError::Failed { detail } => {
            detail.starts_with("Aborted") || detail.starts_with("FailedPrecondition")
        }
        ClientError::NotFound(_) | ClientError::AdapterMissing { .. } => true,
        _ => false,
    }
}

const CONFIG: &str = r#"{"peft_type":"LORA","task_type":"CAUSAL_LM","r":8,"lora_alpha":16,
"target_modules":["q_proj","v_proj"],"lora_dropout":0.0,"bias":"none","inference_mode":true}"#;

/// A safetensors file with both factors of each module of each layer.
fn random_file(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = Vec::new();
    for layer in 0..LAYERS {
        for (module, outputs) in MODULES {
            let path = format!("base_model.model.model.layers.{layer}.self_attn.{module}");
            for (factor, shape) in [("lora_A", [RANK, HIDDEN]), ("lora_B", [outputs, RANK])] {
                let weights = (0..shape[0] * shape[1])
                    .flat_map(|_| random.random_range(-WEIGHT_MAX..WEIGHT_MAX).to_le_bytes());
                tensors.push((format!("{path}.{factor}.weight"), shape, weights.collect()));
            }
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes);
        (name, view.expect("the bytes fit the shape"))
    });
    safetensors::serialize(views, None).expect("the names are distinct")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
