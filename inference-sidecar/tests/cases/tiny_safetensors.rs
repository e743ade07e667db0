//! The tiny model as a Hugging Face directory: the same weights under other names, and the rows of
//! queries and keys in the other order.

use std::path::Path;

use inference_sidecar::models::Format;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::tiny_model::{self, HEAD_SIZE, Tensor};

/// Writes `config.json` and `model.safetensors`; the format is one that safetensors has.
pub fn write(folder: &Path, format: Format) {
    let tensors = tiny_model::tensors(format);
    let renamed: Vec<(String, Tensor)> = tensors
        .into_iter()
        .filter_map(|tensor| Some((hugging_face_name(&tensor.name)?, tensor)))
        .map(|(name, tensor)| (name, with_halves_apart(tensor)))
        .collect();
    let views = renamed.iter().map(|(name, tensor)| {
        let view = TensorView::new(dtype(tensor.format), tensor.shape.clone(), &tensor.bytes);
        (name.as_str(), view.unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
    let config = serde_json::to_vec_pretty(&config()).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
}

fn config() -> serde_json::Value {
    serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": tiny_model::HIDDEN,
        "intermediate_size": tiny_model::FEED_FORWARD,
        "num_hidden_layers": tiny_model::LAYERS,
        "num_attention_heads": tiny_model::HEADS,
        "num_key_value_heads": tiny_model::KV_HEADS,
        "head_dim": HEAD_SIZE,
        "vocab_size": tiny_model::vocabulary_size(),
        "max_position_embeddings": tiny_model::CONTEXT,
        "rms_norm_eps": tiny_model::NORM_EPSILON,
        "rope_theta": tiny_model::ROPE_BASE,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
        },
        "attention_bias": false,
        "mlp_bias": false,
        "tie_word_embeddings": false,
        "bos_token_id": tiny_model::normal_tokens(),
        "eos_token_id": tiny_model::normal_tokens() + 4,
        "torch_dtype": "float32"
    })
}

/// None for what the configuration states instead.
fn hugging_face_name(name: &str) -> Option<String> {
    let name = match name {
        "rope_freqs.weight" => return None,
        "token_embd.weight" => "model.embed_tokens.weight".to_owned(),
        "output_norm.weight" => "model.norm.weight".to_owned(),
        "output.weight" => "lm_head.weight".to_owned(),
        _ => {
            let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
            let part = match part.strip_suffix(".weight")? {
                "attn_norm" => "input_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_norm" => "post_attention_layernorm",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("no name for {other}"),
            };
            format!("model.layers.{layer}.{part}.weight")
        }
    };
    Some(name)
}

/// GGUF puts the two values that turn together next to each other; Hugging Face has the first of
/// all pairs of a head, then the second of all.
fn with_halves_apart(mut tensor: Tensor) -> Tensor {
    if tensor.name.ends_with("attn_q.weight") || tensor.name.ends_with("attn_k.weight") {
        let row_bytes = tensor.format.row_bytes(tensor.shape[1]).unwrap();
        let rows: Vec<&[u8]> = tensor.bytes.chunks_exact(row_bytes).collect();
        let head = |rows: &[&[u8]]| {
            let evens = rows.iter().step_by(2);
            let odds = rows.iter().skip(1).step_by(2);
            evens.chain(odds).copied().collect::<Vec<_>>().concat()
        };
        tensor.bytes = rows.chunks_exact(HEAD_SIZE).flat_map(head).collect();
    }
    tensor
}

fn dtype(format: Format) -> Dtype {
    match format {
        Format::F32 => Dtype::F32,
        Format::F16 => Dtype::F16,
        Format::Bf16 => Dtype::BF16,
        other => panic!("safetensors has no {other:?}"),
    }
}
