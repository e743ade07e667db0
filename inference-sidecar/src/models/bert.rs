//! BERT embeddings from a sentence-transformers directory, computed by candle.

use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::models::EmbeddingModel;

/// A BERT model with the pooling and normalisation that its directory asks for.
pub struct BertEmbedder {
    model: BertModel,
    pooling: Pooling,
    normalize: bool,
    dimensions: usize,
    tokens_max: usize,
    vocabulary: usize,
    pad_token: u32,
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pooling {
    Mean,
    FirstToken,
}

/// `sentence_bert_config.json`
#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: usize,
}

/// `1_Pooling/config.json`
#[derive(Deserialize)]
struct PoolingConfig {
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

/// An entry of `modules.json`
#[derive(Deserialize)]
struct ModuleConfig {
    #[serde(rename = "type")]
    kind: String,
}

impl BertEmbedder {
    /// Loads the model in `directory`, refusing what it would compute differently from its authors.
    pub fn load(directory: &Path) -> Result<Self, Error> {
        let config_path = directory.join("config.json");
        let config: Config = read_json(&config_path)?;
        check_config(&config).map_err(|reason| Error::model_file(&config_path, reason))?;
        let sentence: SentenceConfig = read_json(&directory.join("sentence_bert_config.json"))?;
        let weights = weights_path(directory);
        let model = load_weights(&weights, &config)
            .map_err(|error| Error::model_file(&weights, error.to_string()))?;
        Ok(Self {
            model,
            pooling: read_pooling(directory)?,
            normalize: read_normalize(directory)?,
            dimensions: config.hidden_size,
            tokens_max: sentence
                .max_seq_length
                .clamp(3, config.max_position_embeddings),
            vocabulary: config.vocab_size,
            pad_token: config.pad_token_id as u32,
        })
    }

    /// The weight file of the model in `directory`.
    pub fn weights_path(directory: &Path) -> PathBuf {
        weights_path(directory)
    }

    fn forward(&self, batch: &[&[u32]]) -> candle_core::Result<Tensor> {
        let longest = batch.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let mut ids = Vec::with_capacity(batch.len() * longest);
        let mut mask = Vec::with_capacity(batch.len() * longest);
        for tokens in batch {
            let padding = longest - tokens.len();
            ids.extend_from_slice(tokens);
            ids.extend(std::iter::repeat_n(self.pad_token, padding));
            mask.extend(std::iter::repeat_n(1f32, tokens.len()));
            mask.extend(std::iter::repeat_n(0f32, padding));
        }
        let shape = (batch.len(), longest);
        let ids = Tensor::from_vec(ids, shape, &Device::Cpu)?;
        let mask = Tensor::from_vec(mask, shape, &Device::Cpu)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;
        let pooled = match self.pooling {
            Pooling::FirstToken => hidden.narrow(1, 0, 1)?.squeeze(1)?,
            Pooling::Mean => {
                let mask = mask.unsqueeze(D::Minus1)?;
                let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
                sum.broadcast_div(&mask.sum(1)?)?
            }
        };
        if !self.normalize {
            return Ok(pooled);
        }
        let length = pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
        pooled.broadcast_div(&length)
    }
}

impl EmbeddingModel for BertEmbedder {
    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    fn embed(&self, batch: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        assert!(
            batch
                .iter()
                .all(|tokens| (1..=self.tokens_max).contains(&tokens.len()))
        );
        assert!(
            batch
                .iter()
                .flat_map(|t| t.iter())
                .all(|&id| (id as usize) < self.vocabulary)
        );
        let vectors = self.forward(batch)?.to_vec2::<f32>()?;
        if vectors.iter().flatten().any(|value| !value.is_finite()) {
            return Err(Error::NotANumber);
        }
        Ok(vectors)
    }
}

fn weights_path(directory: &Path) -> PathBuf {
    directory.join("model.safetensors")
}

fn load_weights(path: &Path, config: &Config) -> candle_core::Result<BertModel> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
    BertModel::load(
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu),
        config,
    )
}

fn check_config(config: &Config) -> Result<(), String> {
    if config.model_type.as_deref() != Some("bert") {
        return Err("\"model_type\" is not \"bert\"".into());
    }
    let is_sane = (1..=16_384).contains(&config.hidden_size)
        && (1..=256).contains(&config.num_hidden_layers)
        && (1..=256).contains(&config.num_attention_heads)
        && config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        && (1..=65_536).contains(&config.intermediate_size)
        && (1..=4_000_000).contains(&config.vocab_size)
        && (3..=65_536).contains(&config.max_position_embeddings)
        && (1..=16).contains(&config.type_vocab_size)
        && config.pad_token_id < config.vocab_size;
    if is_sane {
        Ok(())
    } else {
        Err("a size is out of range".into())
    }
}

fn read_pooling(directory: &Path) -> Result<Pooling, Error> {
    let path = directory.join("1_Pooling/config.json");
    let config: PoolingConfig = read_json(&path)?;
    let has_other = config.pooling_mode_max_tokens || config.pooling_mode_mean_sqrt_len_tokens;
    match (
        config.pooling_mode_mean_tokens,
        config.pooling_mode_cls_token,
        has_other,
    ) {
        (true, false, false) => Ok(Pooling::Mean),
        (false, true, false) => Ok(Pooling::FirstToken),
        _ => Err(Error::model_file(
            path,
            "only mean or CLS pooling is supported",
        )),
    }
}

/// True when the model's vectors are scaled to length 1; any other extra step is refused.
fn read_normalize(directory: &Path) -> Result<bool, Error> {
    let path = directory.join("modules.json");
    let modules: Vec<ModuleConfig> = read_json(&path)?;
    let mut normalize = false;
    for module in &modules {
        match module.kind.rsplit('.').next() {
            Some("Transformer" | "Pooling") => {}
            Some("Normalize") => normalize = true,
            _ => {
                return Err(Error::model_file(
                    path,
                    "holds a module that is not supported",
                ));
            }
        }
    }
    Ok(normalize)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::ReadFile {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|error| Error::model_file(path, error.to_string()))
}
