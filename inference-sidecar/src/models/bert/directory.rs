//! What the files of a sentence-transformers directory ask for, beside the weights. What this server
//! would compute differently from the model's authors is refused. Source: the loaders of
//! sentence-transformers 5.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use kernels::Activation;
use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::json_file::{read_json, read_json_if_present};

/// The sizes and constants of `config.json`, by their names there.
#[derive(Deserialize)]
pub(super) struct Config {
    model_type: Option<String>,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub hidden_act: HiddenAct,
    pub max_position_embeddings: usize,
    pub type_vocab_size: usize,
    pub layer_norm_eps: f32,
    position_embedding_type: Option<String>,
}

/// The names of activation functions in `transformers`, and the one of the second in candle.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HiddenAct {
    Gelu,
    #[serde(alias = "gelu_pytorch_tanh", alias = "geluapproximate")]
    GeluNew,
    Relu,
}

/// How the vectors of the tokens become the vector of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    Mean,
    FirstToken,
}

/// Room for CLS, SEP and one token.
const TOKENS_MIN: usize = 3;

/// `sentence_bert_config.json`
#[derive(Default, Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

/// `tokenizer_config.json`; files without a limit write a number beyond any integer.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// An entry of `modules.json`
#[derive(Deserialize)]
struct ModuleConfig {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

impl From<HiddenAct> for Activation {
    fn from(name: HiddenAct) -> Self {
        match name {
            HiddenAct::Gelu => Self::Gelu,
            HiddenAct::GeluNew => Self::GeluTanh,
            HiddenAct::Relu => Self::Relu,
        }
    }
}

impl Config {
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("config.json");
        let config: Self = read_json(&path)?;
        check_config(&config).map_err(|reason| Error::model_file(&path, reason))?;
        Ok(config)
    }
}

fn check_config(config: &Config) -> Result<(), String> {
    if config.model_type.as_deref() != Some("bert") {
        return Err("\"model_type\" is not \"bert\"".into());
    }
    if !matches!(
        config.position_embedding_type.as_deref(),
        None | Some("absolute")
    ) {
        return Err("\"position_embedding_type\" is not \"absolute\"".into());
    }
    let is_sane = (1..=16_384).contains(&config.hidden_size)
        && (1..=256).contains(&config.num_hidden_layers)
        && (1..=256).contains(&config.num_attention_heads)
        && config
            .hidden_size
            .is_multiple_of(config.num_attention_heads)
        && (1..=65_536).contains(&config.intermediate_size)
        && (1..=4_000_000).contains(&config.vocab_size)
        && (TOKENS_MIN..=65_536).contains(&config.max_position_embeddings)
        && (1..=16).contains(&config.type_vocab_size);
    match is_sane {
        true => Ok(()),
        false => Err("a size is out of range".into()),
    }
}

/// Most tokens of a sequence, special tokens included: the limit of `sentence_bert_config.json`, else of the tokenizer;
/// never more than `positions`.
pub(super) fn read_tokens_max(directory: &Path, positions: usize) -> Result<usize, Error> {
    let path = directory.join("sentence_bert_config.json");
    let sentence: SentenceConfig = read_json_if_present(&path)?.unwrap_or_default();
    if sentence.do_lower_case {
        let reason = "\"do_lower_case\" is not supported, the tokenizer has to do it";
        return Err(Error::model_file(path, reason));
    }
    let limit = match sentence.max_seq_length {
        Some(limit) => limit,
        None => {
            let path = directory.join("tokenizer_config.json");
            let tokenizer: TokenizerConfig = read_json_if_present(&path)?.unwrap_or_default();
            // The conversion saturates.
            tokenizer
                .model_max_length
                .map_or(positions, |limit| limit as usize)
        }
    };
    Ok(limit.clamp(TOKENS_MIN, positions))
}

/// Pooling, and whether the vectors are scaled to length 1.
pub(super) fn read_modules(directory: &Path) -> Result<(Pooling, bool), Error> {
    let path = directory.join("modules.json");
    let Some(modules) = read_json_if_present::<Vec<ModuleConfig>>(&path)? else {
        // What sentence-transformers does with such a directory.
        tracing::warn!(
            directory = %directory.display(),
            "there is no modules.json: vectors are the mean over the tokens, not scaled to length 1"
        );
        return Ok((Pooling::Mean, false));
    };
    let (mut pooling, mut normalizes) = (None, false);
    for module in &modules {
        match module.kind.rsplit('.').next() {
            Some("Transformer") if module.path.is_empty() => {}
            Some("Pooling") => pooling = Some(read_pooling(directory, &module.path)?),
            Some("Normalize") => normalizes = true,
            _ => {
                let reason = format!("module \"{}\" is not supported", module.kind);
                return Err(Error::model_file(path, reason));
            }
        }
    }
    match pooling {
        Some(pooling) => Ok((pooling, normalizes)),
        None => Err(Error::model_file(path, "there is no pooling module")),
    }
}

fn read_pooling(directory: &Path, folder: &str) -> Result<Pooling, Error> {
    let is_inside = |part: Component| matches!(part, Component::Normal(_));
    if !Path::new(folder).components().all(is_inside) {
        let reason = "the path of a module leads out of the directory";
        return Err(Error::model_file(directory.join("modules.json"), reason));
    }
    let path = directory.join(folder).join("config.json");
    let config: BTreeMap<String, Value> = read_json(&path)?;
    // A flag for each mode, or, in later versions, the names of the modes.
    let mut modes: Vec<&str> = config
        .iter()
        .filter(|(_, value)| **value == Value::Bool(true))
        .filter_map(|(key, _)| key.strip_prefix("pooling_mode_"))
        .collect();
    match config.get("pooling_mode") {
        None => {}
        Some(Value::String(mode)) => modes.push(mode),
        Some(_) => modes.push("several"),
    }
    match modes.as_slice() {
        ["mean_tokens" | "mean"] => Ok(Pooling::Mean),
        ["cls_token" | "cls"] => Ok(Pooling::FirstToken),
        _ => Err(Error::model_file(
            path,
            "only mean or CLS pooling is supported",
        )),
    }
}
