//! LoRA adapters for the test model, as PEFT writes them, with weights that dice threw.

use serde_json::{Map, Value, json};

use crate::measure::Dice;
use crate::session::Session;

/// Layers of SmolLM2-135M.
const LAYERS: usize = 30;
/// Its width, which both projections read.
const INPUTS: usize = 576;
/// What the adapter changes, and the outputs of each.
const PROJECTIONS: [(&str, usize); 2] = [("q_proj", 576), ("v_proj", 192)];
/// Weights lie between its negative and itself: enough to change what the model says.
const WEIGHT_MAX: f32 = 0.1;

/// An adapter before it is registered.
pub struct Adapter {
    /// `adapter_model.safetensors`
    pub content: Vec<u8>,
    /// `adapter_config.json`
    pub config: String,
}

impl Adapter {
    /// The same seed gives the same bytes. Rank 4 has 0.9 MB, rank 32 has 7.5 MB.
    pub fn new(rank: usize, seed: u64) -> Self {
        let config = json!({
            "peft_type": "LORA",
            "base_model_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct",
            "task_type": "CAUSAL_LM",
            "r": rank,
            "lora_alpha": 4 * rank,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "target_modules": PROJECTIONS.map(|(name, _)| name),
        });
        Self {
            content: safetensors(rank, seed),
            config: config.to_string(),
        }
    }

    /// Registers it as the next generation of `name` and makes it active; returns its id.
    pub fn register(&self, session: &mut Session, name: &str) -> i64 {
        session.one(
            "select salesai.register_adapter($1, $2, $3::text::jsonb, task => 'test')",
            &[&name, &self.content, &self.config],
        )
    }
}

fn safetensors(rank: usize, seed: u64) -> Vec<u8> {
    let mut header = Map::new();
    let mut data = Vec::new();
    let mut dice = Dice::new(seed);
    for layer in 0..LAYERS {
        for (projection, outputs) in PROJECTIONS {
            for (half, rows, columns) in [("A", rank, INPUTS), ("B", outputs, rank)] {
                let begin = data.len();
                for _ in 0..rows * columns {
                    let weight = (dice.share() * 2.0 - 1.0) * WEIGHT_MAX;
                    data.extend_from_slice(&weight.to_le_bytes());
                }
                header.insert(
                    format!("base_model.model.model.layers.{layer}.self_attn.{projection}.lora_{half}.weight"),
                    json!({ "dtype": "F32", "shape": [rows, columns], "data_offsets": [begin, data.len()] }),
                );
            }
        }
    }
    // The data must begin at a multiple of 8.
    let mut header = Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &data].concat()
}
