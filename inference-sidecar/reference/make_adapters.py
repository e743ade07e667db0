"""Writes tests/fixtures/peft/: a tiny random Llama, PEFT adapters for it, and the logits of both merged.

Usage: make_adapters.py

Nothing is downloaded. `base/` is a Hugging Face directory without a tokenizer; each folder beside it is
an adapter as `save_pretrained` writes it, with random values in both factors. `logits.safetensors` holds
for each adapter (and for "base") the logits of every position of every token sequence, computed by
transformers after `merge_and_unload`; the sequences are under "tokens.0", "tokens.1" and so on.
"""

import os
import pathlib
import shutil

# The name in the adapters' files is that of no repository.
os.environ["HF_HUB_OFFLINE"] = "1"

import peft
import safetensors.torch
import torch
import transformers

SEQUENCES = [
    [1, 17, 4, 99, 250, 3],
    [1, 200, 201, 202, 203, 204, 205, 206, 207, 208, 209, 210, 211, 212, 213, 214, 215, 216, 217, 218],
    [5],
]
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
VARIANTS = {
    "all-linear": peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
    "stabilised": peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=[*ATTENTION, "gate_proj", "down_proj"],
        rank_pattern={"q_proj": 2, r"model\.layers\.1\.mlp\..*": 6, "layers.0.self_attn.k_proj": 3},
        alpha_pattern={"v_proj": 9, "1.self_attn.o_proj": 2.5},
        task_type="CAUSAL_LM",
    ),
    "attention": peft.LoraConfig(
        r=16, lora_alpha=8, target_modules=r".*\.self_attn\.[qkvo]_proj", task_type="CAUSAL_LM"
    ),
}
# How the file of a variant is written.
FORMATS = {"all-linear": torch.float32, "stabilised": torch.bfloat16, "attention": torch.float16}

fixtures = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "peft"
shutil.rmtree(fixtures, ignore_errors=True)
torch.manual_seed(20261124)


def make_base():
    config = transformers.LlamaConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=False,
        torch_dtype="float16",
    )
    base = transformers.LlamaForCausalLM(config)
    # Wide enough that attention is not uniform and every module matters.
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            spread = 1.0 if "embed" in name else 0.2
            offset = 1.0 if "norm" in name else 0.0
            parameter.normal_(offset, spread)
    base.to(torch.float16).save_pretrained(fixtures / "base")


def load_base():
    return transformers.LlamaForCausalLM.from_pretrained(fixtures / "base", torch_dtype=torch.float32).eval()


def make_adapter(name, config):
    model = peft.get_peft_model(load_base(), config)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.normal_(0.0, 0.15)
    model.peft_config["default"].base_model_name_or_path = "tiny-llama"
    folder = fixtures / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    weights = folder / "adapter_model.safetensors"
    state = safetensors.torch.load_file(weights)
    state = {key: value.to(FORMATS[name]) for key, value in state.items()}
    safetensors.torch.save_file(state, weights, metadata={"format": "pt"})


def logits(model):
    with torch.no_grad():
        return [model(torch.tensor([tokens])).logits[0].float().contiguous() for tokens in SEQUENCES]


make_base()
tensors = {f"tokens.{i}": torch.tensor(tokens, dtype=torch.int32) for i, tokens in enumerate(SEQUENCES)}
base_logits = logits(load_base())
tensors |= {f"base.{i}": rows for i, rows in enumerate(base_logits)}
for name, config in VARIANTS.items():
    make_adapter(name, config)
    # Through the file: what PEFT itself makes of it.
    loaded = peft.PeftModel.from_pretrained(load_base(), fixtures / name)
    unmerged = logits(loaded.eval())
    merged = logits(loaded.merge_and_unload())
    for i, rows in enumerate(merged):
        assert (rows - base_logits[i]).abs().max() > 1, "an adapter that changes little proves little"
        tensors[f"{name}.{i}"] = rows
        print(
            f"{name}.{i}: merged to unmerged {(rows - unmerged[i]).abs().max():.2e},",
            f"to base {(rows - base_logits[i]).abs().max():.2e}, highest {rows.abs().max():.2f}",
        )
safetensors.torch.save_file(tensors, fixtures / "logits.safetensors")
