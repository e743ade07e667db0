//! The names of tensors in PEFT's files:
//! `base_model.model.model.layers.N.self_attn.q_proj.lora_A.weight`.

use crate::models::Module;

/// Which of the two factors of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Factor {
    A,
    B,
}

/// A linear layer of the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub layer: usize,
    pub module: Module,
}

impl Place {
    /// The name that patterns of PEFT are matched with.
    pub(super) fn path(self) -> String {
        format!("model.layers.{}.{}", self.layer, self.module.path())
    }
}

/// Where the tensor `name` belongs, or why it is refused.
pub(super) fn parse(name: &str) -> Result<(Place, Factor), String> {
    refuse_unsupported(name)?;
    let unknown = || format!("tensor \"{name}\" is not of a LoRA module of the Llama architecture");
    let path = name
        .strip_prefix("base_model.model.model.layers.")
        .ok_or_else(unknown)?;
    let (layer, path) = path.split_once('.').ok_or_else(unknown)?;
    let layer = parse_layer(layer).ok_or_else(unknown)?;
    let module = Module::ALL.into_iter().find_map(|module| {
        let factor = path.strip_prefix(module.path())?;
        Some((module, factor))
    });
    let (module, factor) = module.ok_or_else(unknown)?;
    let factor = match factor {
        ".lora_A.weight" | ".lora_A.default.weight" => Factor::A,
        ".lora_B.weight" | ".lora_B.default.weight" => Factor::B,
        _ => return Err(unknown()),
    };
    Ok((Place { layer, module }, factor))
}

/// Says what a tensor is for where another method than plain LoRA made it.
fn refuse_unsupported(name: &str) -> Result<(), String> {
    let reasons = [
        ("lora_magnitude_vector", "DoRA is not supported"),
        ("lora_embedding_", "changes of embeddings are not supported"),
        ("embed_tokens", "changes of embeddings are not supported"),
        ("lm_head", "changes of the output layer are not supported"),
        ("modules_to_save", "whole trained modules are not supported"),
        (".bias", "biases are not supported"),
        ("token_adapter", "trained tokens are not supported"),
    ];
    match reasons.iter().find(|(part, _)| name.contains(part)) {
        Some((_, reason)) => Err(format!("tensor \"{name}\": {reason}")),
        None => Ok(()),
    }
}

/// A number as Python writes it: neither sign nor leading zero.
fn parse_layer(digits: &str) -> Option<usize> {
    let layer: usize = digits.parse().ok()?;
    (layer.to_string() == digits).then_some(layer)
}
