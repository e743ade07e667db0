//! interim
use crate::error::Error;
use crate::models::Matrix;
pub struct SafetensorsModel {
    config: LlamaConfig,
}
pub struct LlamaConfig {
    pub layers: usize,
    pub hidden: usize,
    pub feed_forward: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_size: usize,
    pub vocabulary: usize,
    pub tokens_max: usize,
    pub norm_epsilon: f32,
    pub rope_base: f64,
    pub rope_scaling: RopeScaling,
}
pub enum RopeScaling {
    None,
    Linear {
        factor: f64,
    },
    Llama3 {
        factor: f64,
        low_frequency_factor: f64,
        high_frequency_factor: f64,
        original_tokens_max: usize,
    },
}
impl SafetensorsModel {
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }
    pub fn has_tensor(&self, _: &str) -> bool {
        false
    }
    pub fn matrix(&self, _: &str, _: usize, _: usize) -> Result<Matrix, Error> {
        Err(Error::NotANumber)
    }
    pub fn vector(&self, _: &str, _: usize) -> Result<Vec<f32>, Error> {
        Err(Error::NotANumber)
    }
}
