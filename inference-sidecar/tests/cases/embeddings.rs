//! Goal: vectors are those of sentence-transformers and of BERT's definition, for each shape of the
//! family, and those of candle, alone and in a batch, with several models at once; one bad text harms
//! no other.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use inference_sidecar::models::{BertEmbedder, BertPrecision, EmbeddingModel};
use proto::model::{EmbeddingRequest, ModelChoice, Priority, TextBatch, TextPurpose};
use proto::wire::Embedding;
use proto::{limits, wire};
use serde_json::{Value, json};

use super::bert_builder::{Shape, TinyBert};
use super::sidecar::{self, PATIENCE, Sidecar};

#[derive(serde::Deserialize)]
struct Fixture {
    made_with: String,
    items: Vec<Item>,
}

#[derive(serde::Deserialize)]
struct Item {
    text: String,
    vector: Vec<f32>,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/embeddings.json")).unwrap()
}

async fn embed(sidecar: &Sidecar, texts: &[&str]) -> wire::EmbedResponse {
    embed_with(
        sidecar,
        ModelChoice::Default,
        TextPurpose::Unspecified,
        texts,
    )
    .await
}

async fn embed_with(
    sidecar: &Sidecar,
    model: ModelChoice,
    purpose: TextPurpose,
    texts: &[&str],
) -> wire::EmbedResponse {
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let request = EmbeddingRequest {
        model,
        texts: TextBatch::new(texts, limits::EMBED_TEXTS_MAX).unwrap(),
        priority: Priority::Interactive,
        purpose,
        caller: String::new(),
    };
    sidecar
        .client()
        .await
        .embed(request, PATIENCE)
        .await
        .unwrap()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_match_sentence_transformers() {
    let Some(model) = sidecar::embedding_model("vectors_match_sentence_transformers") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let fixture = fixture();
    let mut lowest: f64 = 1.0;
    for item in &fixture.items {
        let response = embed(&sidecar, &[&item.text]).await;
        let [embedding] = response.embeddings.as_slice() else {
            panic!()
        };
        let cosine = cosine(&embedding.values, &item.vector);
        assert!(cosine >= 0.9999, "cosine {cosine} for {:?}", item.text);
        lowest = lowest.min(cosine);
        let length: f32 = embedding.values.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }
    println!(
        "{} texts, {}: lowest cosine {lowest:.8}",
        fixture.items.len(),
        fixture.made_with
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_equals_single_texts() {
    let Some(model) = sidecar::embedding_model("a_batch_equals_single_texts") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let fixture = fixture();
    let texts: Vec<&str> = fixture
        .items
        .iter()
        .map(|item| item.text.as_str())
        .collect();
    let batch = embed(&sidecar, &texts).await;
    assert_eq!(batch.model, "mini");
    assert_eq!(batch.model_sha256.len(), 64);
    for (text, in_batch) in texts.iter().zip(&batch.embeddings) {
        let alone = embed(&sidecar, &[text]).await.embeddings.remove(0);
        assert_eq!(alone.values, in_batch.values);
        assert_eq!(
            (alone.token_count, alone.truncated),
            (in_batch.token_count, in_batch.truncated)
        );
    }
    let long = batch.embeddings.last().unwrap();
    assert!(long.truncated && long.token_count > 256);
    assert!(
        batch
            .embeddings
            .iter()
            .filter(|embedding| embedding.truncated)
            .count()
            == 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_text_fails_alone() {
    let Some(model) = sidecar::embedding_model("a_bad_text_fails_alone") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let is_bad = |embedding: &Embedding| {
        assert_eq!(embedding.values.is_empty(), !embedding.error.is_empty());
        !embedding.error.is_empty()
    };
    let response = embed(&sidecar, &["good", "", " \n\t ", "\u{0}\u{1}", "fine"]).await;
    let bad: Vec<bool> = response.embeddings.iter().map(is_bad).collect();
    assert_eq!(bad, [false, true, true, true, false]);
    let all_bad = embed(&sidecar, &["", " "]).await;
    assert!(all_bad.embeddings.iter().all(is_bad));
    let many = vec!["the same text"; limits::EMBED_TEXTS_MAX];
    assert_eq!(
        embed(&sidecar, &many).await.embeddings.len(),
        limits::EMBED_TEXTS_MAX
    );
}

/// What tells the four published models apart, in small.
fn family() -> Vec<(&'static str, Shape)> {
    let e5_prompts = json!({"prompts": {"query": "query : ", "passage": "passage : "},
        "default_prompt_name": null});
    let bge = Shape {
        hidden: 48,
        heads: 3,
        pooling: "cls_token",
        dtype: "F16",
        sentence: Some(json!({"max_seq_length": 40, "do_lower_case": false})),
        seed: 2,
        ..Shape::mini()
    };
    let e5 = Shape {
        hidden: 24,
        heads: 2,
        layers: 3,
        prompts: Some(e5_prompts),
        name_prefix: "bert.",
        sentence: None,
        positions: 31,
        seed: 3,
        ..Shape::mini()
    };
    let gte = Shape {
        hidden: 40,
        heads: 5,
        layers: 1,
        normalizes: false,
        dtype: "BF16",
        sentence: Some(json!({"max_seq_length": null})),
        seed: 4,
        ..Shape::mini()
    };
    vec![
        ("minilm", Shape::mini()),
        ("bge", bge),
        ("e5", e5),
        ("gte", gte),
    ]
}

fn widened(values: &[f64]) -> Vec<f32> {
    values.iter().map(|&value| value as f32).collect()
}

fn length(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&value| f64::from(value).powi(2));
    squares.sum::<f64>().sqrt()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bert_family_matches_its_definition() {
    let models: Vec<_> = family()
        .into_iter()
        .map(|(name, shape)| (name, TinyBert::new(shape)))
        .collect();
    let gte_limit = json!({"model_max_length": 17});
    models[3].1.write("tokenizer_config.json", &gte_limit);
    let named = |(name, model): &(&str, TinyBert)| {
        let path = model.directory.path().display();
        ["--embedding-model".to_owned(), format!("{name}={path}")]
    };
    let arguments: Vec<String> = models.iter().flat_map(named).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let sidecar = Sidecar::ready(&arguments).await;

    let served = sidecar.client().await.models(PATIENCE).await.unwrap();
    let served: Vec<_> = served
        .iter()
        .map(|model| (model.name.as_str(), model.dimensions, model.tokens_max))
        .collect();
    assert_eq!(
        served,
        [
            ("minilm", 32, 24),
            ("bge", 48, 40),
            ("e5", 24, 31),
            ("gte", 40, 17)
        ]
    );

    let texts = [
        "price",
        "great demo . legal contract failed",
        "seats : time budget plan offer call price price",
    ];
    for (name, model) in &models {
        let mut lowest: f64 = 1.0;
        for (purpose, prompt) in [
            (TextPurpose::Unspecified, ""),
            (TextPurpose::Query, "query : "),
            (TextPurpose::Passage, "passage : "),
        ] {
            let choice = ModelChoice::Named((*name).into());
            let response = embed_with(&sidecar, choice, purpose, &texts).await;
            for (text, embedding) in texts.iter().zip(&response.embeddings) {
                let prompt = if *name == "e5" { prompt } else { "" };
                let text = format!("{prompt}{text}");
                let expected = widened(&model.vector(&text));
                let cosine = cosine(&embedding.values, &expected);
                assert!(cosine >= 0.9999, "{name} {text:?}: cosine {cosine}");
                lowest = lowest.min(cosine);
                let ratio = length(&embedding.values) / length(&expected);
                assert!(
                    (ratio - 1.0).abs() < 1e-3,
                    "{name} {text:?}: length {ratio}"
                );
                let count = text.split_whitespace().count() + 2;
                assert_eq!(embedding.token_count as usize, count);
            }
        }
        println!("{name}: lowest cosine {lowest:.8}");
    }
    // Only what the model sees is cut: prompt and special tokens count.
    let long = "price ".repeat(28);
    let choice = || ModelChoice::Named("e5".into());
    let plain = embed_with(&sidecar, choice(), TextPurpose::Unspecified, &[&long]).await;
    let query = embed_with(&sidecar, choice(), TextPurpose::Query, &[&long, " "]).await;
    assert!(!plain.embeddings[0].truncated && query.embeddings[0].truncated);
    assert_eq!(query.embeddings[0].token_count, 32);
    assert!(query.embeddings[1].values.is_empty() && !query.embeddings[1].error.is_empty());
}

/// Vectors of candle's BERT for sequences one by one: mean over the tokens, scaled to length 1.
fn candle_vectors(directory: &Path, sequences: &[Vec<u32>]) -> Vec<Vec<f32>> {
    let config = std::fs::read(directory.join("config.json")).unwrap();
    let config: Config = serde_json::from_slice(&config).unwrap();
    let bytes = std::fs::read(directory.join("model.safetensors")).unwrap();
    let weights = VarBuilder::from_buffered_safetensors(bytes, DType::F32, &Device::Cpu).unwrap();
    let model = BertModel::load(weights, &config).unwrap();
    let embed = |tokens: &Vec<u32>| {
        let ids = Tensor::new(tokens.as_slice(), &Device::Cpu).unwrap();
        let ids = ids.unsqueeze(0).unwrap();
        let kinds = ids.zeros_like().unwrap();
        let hidden = model.forward(&ids, &kinds, None).unwrap();
        let mean = hidden.mean(1).unwrap().squeeze(0).unwrap();
        let mean: Vec<f32> = mean.to_vec1().unwrap();
        let length = length(&mean) as f32;
        mean.iter().map(|value| value / length).collect()
    };
    sequences.iter().map(embed).collect()
}

/// Compares the vectors of sequences of many lengths, and checks that each is the same bit for bit alone and where others
/// are embedded in the pauses.
fn check_against_candle(directory: &Path, vocabulary: u32, precision: BertPrecision) {
    let embedder = BertEmbedder::load(directory, precision).unwrap();
    let lengths = [3, 4, 7, 16, 21, 24, 17, 60, 128, 255];
    let sequence = |(seed, length): (u32, usize)| -> Vec<u32> {
        let token = |i: u32| (i * 7919 + seed * 104_729) % vocabulary;
        (0..length.min(embedder.tokens_max()) as u32)
            .map(token)
            .collect()
    };
    let sequences: Vec<_> = (0..).zip(lengths).map(sequence).collect();
    let batch: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
    let found = embedder.embed(&batch, &mut || ()).unwrap();
    let mut meanwhile = Vec::new();
    let mut pause = || meanwhile.extend(embedder.embed(&batch[..2], &mut || ()).unwrap());
    assert_eq!(embedder.embed(&batch, &mut pause).unwrap(), found);
    assert!(meanwhile.len() > 2 && meanwhile.chunks(2).all(|pair| pair == &found[..2]));
    let (mut lowest, mut largest) = (1f64, 0f32);
    for ((expected, found), tokens) in candle_vectors(directory, &sequences)
        .iter()
        .zip(&found)
        .zip(&batch)
    {
        lowest = lowest.min(cosine(expected, found));
        for (expected, found) in expected.iter().zip(found) {
            largest = largest.max((expected - found).abs());
        }
        assert_eq!(&embedder.embed(&[tokens], &mut || ()).unwrap()[0], found);
    }
    println!("{precision:?}: lowest cosine {lowest:.9}, largest difference {largest:e}");
    let (cosine_min, difference_max) = match precision {
        // Eight bits of a number.
        BertPrecision::Bf16 => (0.9999, 5e-3),
        // Eight bits of the largest of 32.
        BertPrecision::Int8 => (0.998, 2e-2),
    };
    assert!(lowest >= cosine_min && largest < difference_max);
}

#[test]
fn vectors_match_those_of_candle() {
    let other = Shape {
        hidden: 40,
        heads: 5,
        layers: 3,
        name_prefix: "bert.",
        positions: 300,
        sentence: None,
        seed: 9,
        ..Shape::mini()
    };
    for shape in [Shape::mini(), other] {
        let model = TinyBert::new(shape.clone());
        for activation in ["gelu", "geluapproximate", "relu"] {
            let path = model.directory.path().join("config.json");
            let config = std::fs::read(path).unwrap();
            let mut config: Value = serde_json::from_slice(&config).unwrap();
            config["hidden_act"] = activation.into();
            model.write("config.json", &config);
            check_against_candle(model.directory.path(), 21, BertPrecision::Bf16);
            if shape.hidden % 32 == 0 {
                check_against_candle(model.directory.path(), 21, BertPrecision::Int8);
            }
        }
    }
}

#[test]
fn vectors_of_the_real_model_match_those_of_candle() {
    let name = "vectors_of_the_real_model_match_those_of_candle";
    if let Some(model) = sidecar::embedding_model(name) {
        for precision in [BertPrecision::Bf16, BertPrecision::Int8] {
            check_against_candle(&model, 30_522, precision);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_model_of_other_dimensions() {
    let Some(model) = sidecar::embedding_model("a_second_model_of_other_dimensions") else {
        return;
    };
    let tiny = TinyBert::new(Shape::mini());
    let named = format!("tiny={}", tiny.directory.path().display());
    let sidecar = Sidecar::with_embedding(&model, &["--embedding-model", &named]).await;
    let item = &fixture().items[1];
    let texts = [item.text.as_str(), "price failed"];
    let calls = (0..8).map(|index| {
        let name = if index % 2 == 0 { "mini" } else { "tiny" };
        let choice = ModelChoice::Named(name.into());
        embed_with(&sidecar, choice, TextPurpose::Unspecified, &texts)
    });
    for call in calls {
        let response = call.await;
        let [first, second] = response.embeddings.as_slice() else {
            panic!()
        };
        let is_tiny = response.model == "tiny";
        let dimensions = if is_tiny { 32 } else { 384 };
        assert_eq!(first.values.len(), dimensions);
        assert_eq!(second.values.len(), dimensions);
        let found = match is_tiny {
            true => cosine(&second.values, &widened(&tiny.vector("price failed"))),
            false => cosine(&first.values, &item.vector),
        };
        assert!(found >= 0.9999, "{}: {found}", response.model);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_in_memory_once() {
    let Some(model) = sidecar::embedding_model("weights_are_in_memory_once") else {
        return;
    };
    let tiny = TinyBert::new(Shape::mini());
    let without = Sidecar::with_embedding(tiny.directory.path(), &[]).await;
    let with = Sidecar::with_embedding(&model, &[]).await;
    let file = std::fs::metadata(model.join("model.safetensors"))
        .unwrap()
        .len();
    let resident = with.status().await.resident_bytes - without.status().await.resident_bytes;
    println!("{file} bytes of weights, {resident} more bytes resident");
    assert!(resident < file / 10 * 13);
}

/// Replaces names in the header of the weights; the new ones are as long as the old ones.
fn rename_tensors(model: &TinyBert, names: &[(&str, &str)]) {
    let path = model.directory.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..8 + length].to_vec()).unwrap();
    for (old, new) in names {
        assert!(header.contains(old) && old.len() == new.len());
        header = header.replace(old, new);
    }
    let renamed = [&bytes[..8], header.as_bytes(), &bytes[8 + length..]].concat();
    std::fs::write(path, renamed).unwrap();
}

#[test]
fn tensors_of_other_names_and_shapes() {
    let old = TinyBert::new(Shape::mini());
    let norms = [
        ("LayerNorm.weight\"", "LayerNorm.gamma\" "),
        ("LayerNorm.bias", "LayerNorm.beta"),
    ];
    rename_tensors(&old, &norms);
    let embedder = BertEmbedder::load(old.directory.path(), BertPrecision::Bf16).unwrap();
    let [vector] = embedder
        .embed(&[&[2, 5, 3]], &mut || ())
        .unwrap()
        .try_into()
        .unwrap();
    assert!(cosine(&vector, &widened(&old.vector("price"))) >= 0.9999);

    let check = |model: &TinyBert, expected: &str| {
        let refused = BertEmbedder::load(model.directory.path(), BertPrecision::Bf16)
            .err()
            .unwrap();
        assert!(refused.to_string().contains(expected), "{refused}");
    };
    for (name, other) in [
        ("layer.1.output.dense.bias", "layer.1.output.dense.base"),
        ("embeddings.LayerNorm.bias", "embeddings.LayerNorm.base"),
        ("word_embeddings", "word_embedding_"),
    ] {
        let model = TinyBert::new(Shape::mini());
        rename_tensors(&model, &[(name, other)]);
        check(&model, "is missing");
    }
    let wide = TinyBert::new(Shape::mini());
    let path = wide.directory.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    config["intermediate_size"] = 65.into();
    wide.write("config.json", &config);
    check(&wide, "expected [65, 32]");
}

#[test]
fn widths_that_8_bits_do_not_fit_are_refused() {
    let model = TinyBert::new(Shape {
        hidden: 40,
        ..Shape::mini()
    });
    let refused = BertEmbedder::load(model.directory.path(), BertPrecision::Int8);
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("multiples of 32"), "{refused}");
}

#[test]
fn directories_that_say_less_or_too_much() {
    let check = |name: &str, content: Value, expected: &str| {
        let model = TinyBert::new(Shape::mini());
        model.write(name, &content);
        let refused = BertEmbedder::load(model.directory.path(), BertPrecision::Bf16)
            .err()
            .unwrap();
        assert!(refused.to_string().contains(expected), "{name}: {refused}");
    };
    let pooling = "1_Pooling/config.json";
    check(pooling, json!({"pooling_mode_max_tokens": true}), "pooling");
    let two = json!({"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true});
    check(pooling, two, "pooling");
    check(pooling, json!({"pooling_mode": ["mean"]}), "pooling");
    let modules = |kind: &str, path: &str| json!([{"type": kind, "path": path}]);
    check("modules.json", json!([]), "no pooling");
    check("modules.json", modules("x.Dense", "2_Dense"), "x.Dense");
    check(
        "modules.json",
        modules("x.Pooling", "../elsewhere"),
        "leads out",
    );
    check("modules.json", modules("x.Pooling", "/etc"), "leads out");
    let lower = json!({"max_seq_length": 9, "do_lower_case": true});
    check("sentence_bert_config.json", lower, "do_lower_case");

    let named = TinyBert::new(Shape::mini());
    named.write(pooling, &json!({"pooling_mode": "cls"}));
    assert!(BertEmbedder::load(named.directory.path(), BertPrecision::Bf16).is_ok());

    // A directory without modules is one that sentence-transformers takes as well.
    let plain = TinyBert::new(Shape {
        normalizes: false,
        ..Shape::mini()
    });
    std::fs::remove_file(plain.directory.path().join("modules.json")).unwrap();
    std::fs::remove_dir_all(plain.directory.path().join("1_Pooling")).unwrap();
    let embedder = BertEmbedder::load(plain.directory.path(), BertPrecision::Bf16).unwrap();
    let [vector] = embedder
        .embed(&[&[2, 5, 3]], &mut || ())
        .unwrap()
        .try_into()
        .unwrap();
    let expected = widened(&plain.vector("price"));
    assert!(cosine(&vector, &expected) >= 0.9999);
    assert!((length(&vector) / length(&expected) - 1.0).abs() < 1e-3);
}
