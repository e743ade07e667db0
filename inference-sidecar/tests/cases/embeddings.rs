//! Goal: vectors are those of sentence-transformers, alone and in a batch, and one bad text harms no other.

use proto::model::{EmbeddingRequest, ModelChoice, Priority, TextBatch, TextPurpose};
use proto::wire::Embedding;
use proto::{limits, wire};

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
    let texts = texts.iter().map(|text| (*text).to_owned()).collect();
    let request = EmbeddingRequest {
        model: ModelChoice::Default,
        texts: TextBatch::new(texts, limits::EMBED_TEXTS_MAX).unwrap(),
        priority: Priority::Interactive,
        purpose: TextPurpose::Unspecified,
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
    let mut lowest: f64 = 1.0;
    for (text, in_batch) in texts.iter().zip(&batch.embeddings) {
        let alone = embed(&sidecar, &[text]).await.embeddings.remove(0);
        lowest = lowest.min(cosine(&alone.values, &in_batch.values));
        assert_eq!(
            (alone.token_count, alone.truncated),
            (in_batch.token_count, in_batch.truncated)
        );
    }
    println!("batch against single: lowest cosine {lowest:.8}");
    assert!(lowest >= 0.99999, "{lowest}");
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
