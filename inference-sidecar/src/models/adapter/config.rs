//! `adapter_config.json` of PEFT: rank, scale and modules; what this server cannot honour is refused
//! by its name, never ignored.
//!
//! Source: PEFT's `tuners/lora/config.py`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::module_pattern::{ModuleSet, Patterns, RawModuleSet, RawPatterns};

/// Fields that change nothing in what a trained adapter computes.
const IRRELEVANT: [&str; 9] = [
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "lora_dropout",
    // The name of a package and a size, used only by options that are refused.
    "megatron_core",
    "qalora_group_size",
    "peft_version",
    "revision",
    "runtime_config",
];

/// Ways to begin a training that leave the weights of the base as they are.
const PLAIN_STARTS: [&str; 2] = ["gaussian", "orthogonal"];

/// The file as PEFT writes it, as far as it is used.
#[derive(Deserialize)]
struct RawConfig {
    peft_type: String,
    r: u32,
    lora_alpha: f64,
    target_modules: Option<RawModuleSet>,
    exclude_modules: Option<RawModuleSet>,
    rank_pattern: Option<RawPatterns>,
    alpha_pattern: Option<RawPatterns>,
    use_rslora: Option<bool>,
    task_type: Option<String>,
    init_lora_weights: Option<Value>,
    bias: Option<String>,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What the file says of each module.
pub(super) struct LoraConfig {
    rank: f64,
    alpha: f64,
    is_rank_stabilised: bool,
    rank_pattern: Patterns,
    alpha_pattern: Patterns,
    targets: ModuleSet,
    excluded: Option<ModuleSet>,
}

impl LoraConfig {
    /// Reads the text of the file; the error says which option is refused.
    pub(super) fn parse(json: &str) -> Result<Self, String> {
        let raw: RawConfig = serde_json::from_str(json)
            .map_err(|error| format!("adapter_config.json is not usable: {error}"))?;
        raw.refuse_unsupported()?;
        let targets = raw.target_modules.ok_or("\"target_modules\" is missing")?;
        let excluded = raw
            .exclude_modules
            .map(|raw| ModuleSet::new("exclude_modules", raw));
        let config = Self {
            rank: f64::from(raw.r),
            alpha: raw.lora_alpha,
            is_rank_stabilised: raw.use_rslora.unwrap_or(false),
            rank_pattern: Patterns::new("rank_pattern", raw.rank_pattern.unwrap_or_default())?,
            alpha_pattern: Patterns::new("alpha_pattern", raw.alpha_pattern.unwrap_or_default())?,
            targets: ModuleSet::new("target_modules", targets)?,
            excluded: excluded.transpose()?,
        };
        for path in ["lm_head", "model.embed_tokens"] {
            if config.covers(path) {
                return Err(format!(
                    "\"target_modules\" covers \"{path}\", which is not supported"
                ));
            }
        }
        Ok(config)
    }

    /// Whether the adapter changes the module at `path`.
    pub(super) fn covers(&self, path: &str) -> bool {
        let is_excluded = |excluded: &ModuleSet| excluded.covers(path);
        self.targets.covers(path) && !self.excluded.as_ref().is_some_and(is_excluded)
    }

    /// The scale of the module at `path`, whose factors have `rank` rows and columns.
    pub(super) fn scale(&self, path: &str, rank: usize) -> Result<f32, String> {
        let expected = self.rank_pattern.value(path).unwrap_or(self.rank);
        if rank == 0 || rank as f64 != expected {
            return Err(format!(
                "\"{path}\" has rank {rank}, the configuration says {expected}"
            ));
        }
        let alpha = self.alpha_pattern.value(path).unwrap_or(self.alpha);
        let divisor = if self.is_rank_stabilised {
            expected.sqrt()
        } else {
            expected
        };
        Ok((alpha / divisor) as f32)
    }
}

impl RawConfig {
    fn refuse_unsupported(&self) -> Result<(), String> {
        if self.peft_type != "LORA" {
            return Err(format!(
                "\"peft_type\" {:?} is not supported, only \"LORA\"",
                self.peft_type
            ));
        }
        if let Some(task) = self.task_type.as_ref().filter(|task| *task != "CAUSAL_LM") {
            return Err(format!(
                "\"task_type\" {task:?} is not supported, only \"CAUSAL_LM\""
            ));
        }
        if let Some(bias) = self.bias.as_ref().filter(|bias| *bias != "none") {
            return Err(format!("\"bias\" {bias:?} is not supported, only \"none\""));
        }
        if !self.init_lora_weights.as_ref().is_none_or(is_plain_start) {
            let reason = "changes the base; convert the adapter to plain LoRA first";
            return Err(format!("\"init_lora_weights\": this start {reason}"));
        }
        let is_used = |(name, value): &(&String, &Value)| {
            !is_empty(value) && !IRRELEVANT.contains(&name.as_str())
        };
        match self.rest.iter().find(is_used) {
            Some((name, _)) => Err(format!("option \"{name}\" is not supported")),
            None => Ok(()),
        }
    }
}

fn is_plain_start(start: &Value) -> bool {
    match start {
        Value::Null | Value::Bool(_) => true,
        Value::String(name) => PLAIN_STARTS.contains(&name.as_str()),
        _ => false,
    }
}

/// Whether an option is off.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}
