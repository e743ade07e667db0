//! A random adapter for SmolLM2-135M in PEFT's format.

use proto::client::{ClientError, SidecarClient};
use proto::limits::ADAPTER_PART_BYTES_MAX;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::peft_fixture;
use super::sidecar::PATIENCE;

const LAYERS: usize = 30;
const HIDDEN: usize = 576;
const RANK: usize = 4;
/// Large enough to change most answers, small enough to leave numbers finite.
const WEIGHT_MAX: f32 = 0.1;
const CONFIG: &str = r#"{"peft_type":"LORA","task_type":"CAUSAL_LM","r":4,"lora_alpha":16,
"target_modules":["q_proj"],"lora_dropout":0.0,"bias":"none","inference_mode":true}"#;

/// Sends generation 1 of the adapter `name`, whose weights come from `seed`.
pub async fn send(client: &mut SidecarClient, name: &str, seed: u64) -> Result<(), ClientError> {
    let file = random_file(seed);
    let header = peft_fixture::header(name, 1, CONFIG.to_owned(), &file);
    let parts: Vec<Vec<u8>> = file
        .chunks(ADAPTER_PART_BYTES_MAX)
        .map(<[u8]>::to_vec)
        .collect();
    let loaded = client.load_adapter(header, parts.into_iter(), PATIENCE);
    loaded.await.map(drop)
}

fn random_file(seed: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut tensors: Vec<(String, [usize; 2], Vec<u8>)> = Vec::new();
    for layer in 0..LAYERS {
        let path = format!("base_model.model.model.layers.{layer}.self_attn.q_proj");
        for (factor, shape) in [("lora_A", [RANK, HIDDEN]), ("lora_B", [HIDDEN, RANK])] {
            let weights = (0..shape[0] * shape[1])
                .flat_map(|_| random.random_range(-WEIGHT_MAX..WEIGHT_MAX).to_le_bytes());
            tensors.push((format!("{path}.{factor}.weight"), shape, weights.collect()));
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap();
        (name, view)
    });
    safetensors::serialize(views, None).unwrap()
}
