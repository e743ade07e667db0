//! Goal: an adapter applied to the running model computes what Hugging Face computes with the adapter
//! merged into the weights, on both kinds of files, beside other adapters and none in one batch; and one
//! that overflows harms nobody else.

use std::sync::Arc;

use inference_sidecar::gguf::GgufFile;
use inference_sidecar::models::{
    Adapter, BatchPlan, BlockId, Format, KV_BLOCK_TOKENS, LanguageModel, Llama, LlamaOptions,
    LogitsOf, LowRank, Matrix, Module, SequencePlan,
};
use inference_sidecar::safetensors_model::SafetensorsModel;
use kernels::{Arena, DenseMatrix};

use super::gguf_builder::GgufBuilder;
use super::peft_fixture::{self, ADAPTERS, BASE, HeadOrder, VOCABULARY};

/// Largest difference of a logit; both sides compute in f32.
const TOLERANCE: f32 = 1e-3;

fn from_gguf() -> Llama {
    Llama::from_gguf(&gguf_file(Format::F32), &LlamaOptions::exact()).unwrap()
}

/// With the matrices in `format`.
fn gguf_file(format: Format) -> GgufFile {
    let names: Vec<String> = (0..VOCABULARY).map(|id| format!("t{id}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut builder = GgufBuilder::default()
        .text("general.architecture", "llama")
        .count("llama.block_count", BASE.layers as u32)
        .count("llama.embedding_length", BASE.hidden as u32)
        .count("llama.feed_forward_length", BASE.feed_forward as u32)
        .count("llama.attention.head_count", BASE.heads as u32)
        .count("llama.attention.head_count_kv", BASE.kv_heads as u32)
        .count("llama.context_length", peft_fixture::TOKENS_MAX as u32)
        .number(
            "llama.attention.layer_norm_rms_epsilon",
            peft_fixture::NORM_EPSILON,
        )
        .number("llama.rope.freq_base", peft_fixture::ROPE_THETA)
        .texts("tokenizer.ggml.tokens", &names);
    for weights in peft_fixture::gguf_weights(HeadOrder::Neighbours) {
        builder = match weights.rows {
            1 => builder.vector(&weights.name, &weights.values),
            _ => builder.matrix(&weights.name, format, weights.columns, &weights.values),
        };
    }
    GgufFile::parse(builder.build(), "tiny.gguf".as_ref()).unwrap()
}

fn from_directory() -> Llama {
    let model = SafetensorsModel::open(&peft_fixture::base_directory()).unwrap();
    Llama::from_safetensors(&model, &LlamaOptions::exact()).unwrap()
}

/// All sequences in one step; every one has blocks of its own.
fn logits(model: &mut Llama, batch: &[(&[u32], Option<&Arc<Adapter>>)]) -> Vec<Vec<f32>> {
    let blocks_each = peft_fixture::TOKENS_MAX / KV_BLOCK_TOKENS;
    model.reserve_kv(blocks_each * batch.len()).unwrap();
    let blocks: Vec<BlockId> = (0..(blocks_each * batch.len()) as u32)
        .map(BlockId)
        .collect();
    let sequences = batch.iter().zip(blocks.chunks(blocks_each));
    let sequences = sequences.map(|(&(tokens, adapter), blocks)| SequencePlan {
        tokens,
        position: 0,
        blocks,
        adapter,
        logits: LogitsOf::EveryToken,
    });
    let plan = BatchPlan {
        sequences: sequences.collect(),
        is_abandoned: &|| false,
    };
    let mut scores = Vec::new();
    model.forward(&plan, &mut scores).unwrap();
    let rows = scores.chunks_exact(model.vocabulary());
    rows.map(<[f32]>::to_vec).collect()
}

fn check(mut model: Llama, order: HeadOrder) {
    let adapters = ADAPTERS.map(|name| Arc::new(peft_fixture::adapter(name, order)));
    let references = ADAPTERS.map(peft_fixture::references);
    let plain_tokens = references[0][0].tokens.clone();
    let alone = logits(&mut model, &[(&plain_tokens, None)]);
    // Every adapter's first text, with texts of the base between them.
    let mut batch: Vec<(&[u32], Option<&Arc<Adapter>>)> = Vec::new();
    for (adapter, references) in adapters.iter().zip(&references) {
        batch.push((&references[0].tokens, Some(adapter)));
        batch.push((&plain_tokens, None));
    }
    let rows = logits(&mut model, &batch);
    let mut rows = rows.into_iter();
    for (name, references) in ADAPTERS.iter().zip(&references) {
        let (mut largest, mut change) = (0f32, 0f32);
        for (index, expected) in references[0].logits.chunks_exact(VOCABULARY).enumerate() {
            for (position, (a, b)) in expected.iter().zip(rows.next().unwrap()).enumerate() {
                largest = largest.max((a - b).abs());
                if references[0].tokens == plain_tokens {
                    change = change.max((a - alone[index][position]).abs());
                }
            }
        }
        println!("{name}, {order:?}: largest difference {largest:.1e}");
        assert!(largest <= TOLERANCE, "{name}: {largest}");
        if references[0].tokens == plain_tokens {
            assert!(change > 100.0 * TOLERANCE, "{name} changes hardly anything");
        }
        // The base beside adapters is the base, bit for bit.
        let beside: Vec<Vec<f32>> = rows.by_ref().take(plain_tokens.len()).collect();
        assert_eq!(beside, alone);
    }
    assert!(rows.next().is_none());
}

#[test]
fn unmerged_adapters_on_safetensors() {
    check(from_directory(), HeadOrder::Halves);
}

#[test]
fn unmerged_adapters_on_gguf() {
    check(from_gguf(), HeadOrder::Neighbours);
}

#[test]
fn adapters_side_by_side_and_twice() {
    let order = HeadOrder::Neighbours;
    let exact = from_gguf();
    let rounded = Llama::from_gguf(&gguf_file(Format::Q8_0), &LlamaOptions::cpu()).unwrap();
    for mut model in [exact, rounded] {
        let [a, b, _] = ADAPTERS.map(|name| Arc::new(peft_fixture::adapter(name, order)));
        let tokens = &peft_fixture::references(ADAPTERS[0])[1].tokens;
        let adapters = [None, Some(&a), Some(&b), None, Some(&a), Some(&a)];
        let batch = adapters.map(|adapter| (tokens.as_slice(), adapter));
        let together = logits(&mut model, &batch);
        for (sequence, found) in batch.iter().zip(together.chunks(tokens.len())) {
            assert_eq!(logits(&mut model, &[*sequence]), found);
        }
        assert_ne!(
            together[..tokens.len()],
            together[tokens.len()..2 * tokens.len()]
        );
    }
}

#[test]
fn an_adapter_that_overflows_harms_nobody_else() {
    let mut model = from_directory();
    let huge = |rows, columns| {
        let matrix = Matrix::from_f32(rows, columns, &vec![1e30; rows * columns]).unwrap();
        DenseMatrix::from_matrix(&mut Arena::default(), &matrix).unwrap()
    };
    let layer = || {
        let mut changes: [Option<LowRank>; Module::COUNT] = Default::default();
        changes[Module::Down as usize] = Some(LowRank {
            a: huge(1, BASE.feed_forward),
            b: huge(BASE.hidden, 1),
            scale: 1.0,
        });
        changes
    };
    let broken = Arc::new(Adapter::new((0..BASE.layers).map(|_| layer()).collect()));
    let tokens = &peft_fixture::references(ADAPTERS[0])[0].tokens;
    let alone = logits(&mut model, &[(tokens, None)]);
    let both = logits(&mut model, &[(tokens, Some(&broken)), (tokens, None)]);
    let (spoiled, unharmed) = both.split_at(tokens.len());
    assert!(spoiled.iter().flatten().any(|score| !score.is_finite()));
    assert_eq!(unharmed, alone);
}
