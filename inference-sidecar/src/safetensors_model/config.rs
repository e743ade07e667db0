//! `config.json` of a Llama model: sizes and constants, each within bounds that no real model breaks.
//! Source: the `LlamaConfig` of Hugging Face's transformers, whose defaults are used.

use std::fmt::Display;
use std::ops::RangeInclusive;

use kernels::HEAD_SIZE_MAX;
use serde::Deserialize;

const TOKENS_MAX: usize = 1 << 24;

/// Sizes and constants of a Llama model.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    /// Heads of keys and values; divides `heads`.
    pub kv_heads: usize,
    /// Even.
    pub head_size: usize,
    pub vocabulary: usize,
    /// Most tokens of a sequence.
    pub tokens_max: usize,
    pub norm_epsilon: f32,
    pub rope_base: f32,
    pub rope_scaling: RopeScaling,
    /// The output uses the vectors of the vocabulary.
    pub tied_embeddings: bool,
    pub attention_bias: bool,
    pub feed_forward_bias: bool,
}

/// How the frequencies of the position encoding are changed for long contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Unscaled,
    /// All frequencies are divided.
    Linear { factor: f32 },
    /// Slow frequencies are divided, fast ones kept, those between mixed.
    Llama3 {
        factor: f32,
        low_frequency_factor: f32,
        /// Above `low_frequency_factor`.
        high_frequency_factor: f32,
        original_tokens_max: usize,
    },
}

/// The file as it is written.
#[derive(Deserialize)]
struct ConfigFile {
    architectures: Vec<String>,
    hidden_act: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: usize,
    vocab_size: usize,
    max_position_embeddings: usize,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFile>,
    /// Later versions write base and scaling together.
    rope_parameters: Option<RopeFile>,
    partial_rotary_factor: Option<f64>,
    quantization_config: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

#[derive(Deserialize)]
struct RopeFile {
    rope_type: Option<String>,
    /// What `rope_type` was called before.
    #[serde(rename = "type")]
    kind: Option<String>,
    rope_theta: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
    partial_rotary_factor: Option<f64>,
}

fn default_epsilon() -> f64 {
    1e-6
}

impl LlamaConfig {
    /// Reads a configuration; the error is a reason for a person.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let file: ConfigFile = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        file.check_kind()?;
        let hidden = within("hidden_size", file.hidden_size, 1..=65_536)?;
        let heads = within("num_attention_heads", file.num_attention_heads, 1..=1_024)?;
        let kv_heads = file.num_key_value_heads.unwrap_or(heads);
        let kv_heads = within("num_key_value_heads", kv_heads, 1..=heads)?;
        let head_size = match file.head_dim {
            Some(head_size) => head_size,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err("\"num_attention_heads\" does not divide \"hidden_size\"".into()),
        };
        let head_size = within("head_dim", head_size, 2..=HEAD_SIZE_MAX)?;
        if !heads.is_multiple_of(kv_heads) || !head_size.is_multiple_of(2) {
            return Err("the heads cannot be shared out".into());
        }
        let tokens_max = file.max_position_embeddings;
        let rope = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
        let rope_base = file.rope_theta.or(rope.and_then(|rope| rope.rope_theta));
        Ok(Self {
            layers: within("num_hidden_layers", file.num_hidden_layers, 1..=1_024)?,
            hidden,
            feed_forward: within("intermediate_size", file.intermediate_size, 1..=1 << 20)?,
            heads,
            kv_heads,
            head_size,
            vocabulary: within("vocab_size", file.vocab_size, 1..=1 << 22)?,
            tokens_max: within("max_position_embeddings", tokens_max, 1..=TOKENS_MAX)?,
            norm_epsilon: within("rms_norm_eps", file.rms_norm_eps, 1e-12..=0.1)? as f32,
            rope_base: within("rope_theta", rope_base.unwrap_or(10_000.0), 1.001..=1e12)? as f32,
            rope_scaling: rope.map_or(Ok(RopeScaling::Unscaled), RopeFile::scaling)?,
            tied_embeddings: file.tie_word_embeddings,
            attention_bias: file.attention_bias,
            feed_forward_bias: file.mlp_bias,
        })
    }
}

impl ConfigFile {
    /// Refuses what would be computed differently from how its authors do.
    fn check_kind(&self) -> Result<(), String> {
        if self.architectures != ["LlamaForCausalLM"] {
            let found = &self.architectures;
            return Err(format!(
                "architecture {found:?} is not supported, only \"LlamaForCausalLM\""
            ));
        }
        if self.hidden_act != "silu" {
            let found = &self.hidden_act;
            return Err(format!(
                "\"hidden_act\" {found:?} is not supported, only \"silu\""
            ));
        }
        if self.quantization_config.is_some() {
            return Err("quantised safetensors weights are not supported".into());
        }
        if self.rope_parameters.is_some() && self.rope_scaling.is_some() {
            return Err("it has both \"rope_parameters\" and \"rope_scaling\"".into());
        }
        let ropes = [&self.rope_parameters, &self.rope_scaling];
        let factors = ropes.into_iter().flatten().map(|r| r.partial_rotary_factor);
        let is_partial = |factor: Option<f64>| factor.is_some_and(|factor| factor != 1.0);
        if factors.chain([self.partial_rotary_factor]).any(is_partial) {
            return Err("\"partial_rotary_factor\" is not supported".into());
        }
        Ok(())
    }
}

impl RopeFile {
    fn scaling(&self) -> Result<RopeScaling, String> {
        let kind = self.rope_type.as_deref().or(self.kind.as_deref());
        match kind {
            None if self.factor.is_none() => Ok(RopeScaling::Unscaled),
            None => Err("\"rope_scaling\" has no \"rope_type\"".into()),
            Some("default") => Ok(RopeScaling::Unscaled),
            Some("linear") => Ok(RopeScaling::Linear {
                factor: factor("factor", self.factor)?,
            }),
            Some("llama3") => self.llama3(),
            Some(other) => Err(format!(
                "rope scaling {other:?} is not supported, only default, linear and llama3"
            )),
        }
    }

    fn llama3(&self) -> Result<RopeScaling, String> {
        let original = "original_max_position_embeddings";
        let tokens = required(original, self.original_max_position_embeddings)?;
        let low_frequency_factor = factor("low_freq_factor", self.low_freq_factor)?;
        let high_frequency_factor = factor("high_freq_factor", self.high_freq_factor)?;
        if high_frequency_factor <= low_frequency_factor {
            return Err("\"high_freq_factor\" is not above \"low_freq_factor\"".into());
        }
        Ok(RopeScaling::Llama3 {
            factor: factor("factor", self.factor)?,
            low_frequency_factor,
            high_frequency_factor,
            original_tokens_max: within(original, tokens, 1..=TOKENS_MAX)?,
        })
    }
}

fn factor(name: &str, value: Option<f64>) -> Result<f32, String> {
    within(name, required(name, value)?, 0.001..=10_000.0).map(|factor| factor as f32)
}

fn required<T>(name: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("\"{name}\" is missing"))
}

fn within<T: PartialOrd + Display>(
    name: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, String> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = range.into_inner();
    Err(format!("\"{name}\" is {value}, expected {low} to {high}"))
}
