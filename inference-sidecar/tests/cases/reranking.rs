//! Goal: scores are those of a cross-encoder's definition, alone and in a batch, in both precisions; texts that are too
//! long are cut as transformers cuts them, and no text can pass for the frame around it.

use inference_sidecar::models::{BertPrecision, BertReranker};
use proto::client::ClientError;
use proto::model::{ModelChoice, Priority, RerankingRequest, TextBatch};
use proto::{limits, wire};
use serde_json::json;

use super::bert_builder::{Shape, TinyBert};
use super::sidecar::{PATIENCE, Sidecar};

const QUERIES: [&str; 2] = ["price seats", "legal contract call failed"];
const PASSAGES: [&str; 5] = [
    "price",
    "great demo . legal contract failed",
    "seats : time budget plan offer call price price",
    "",
    "price",
];

fn request(model: &str, query: &str, passages: &[&str]) -> RerankingRequest {
    let passages = passages.iter().map(|text| (*text).to_owned()).collect();
    RerankingRequest {
        model: ModelChoice::from(model.to_owned()),
        query: query.to_owned(),
        passages: TextBatch::new(passages, limits::RERANK_PASSAGES_MAX).unwrap(),
        priority: Priority::Interactive,
        caller: String::new(),
    }
}

async fn scores(sidecar: &Sidecar, model: &str, query: &str, passages: &[&str]) -> Vec<f32> {
    let mut client = sidecar.client().await;
    let response = client
        .rerank(request(model, query, passages), PATIENCE)
        .await;
    response.unwrap().scores
}

async fn start(models: &[(&str, &TinyBert)]) -> Sidecar {
    let arguments = models.iter().flat_map(|(name, model)| {
        let path = model.directory.path().display();
        ["--reranking-model".to_owned(), format!("{name}={path}")]
    });
    let arguments: Vec<String> = arguments.collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Sidecar::ready(&arguments).await
}

#[tokio::test(flavor = "multi_thread")]
async fn scores_match_the_definition() {
    let model = TinyBert::new(Shape::cross_encoder());
    let other = TinyBert::new(Shape {
        hidden: 48,
        heads: 3,
        layers: 3,
        dtype: "BF16",
        seed: 6,
        ..Shape::cross_encoder()
    });
    let sidecar = start(&[("first", &model), ("other", &other)]).await;
    let served = sidecar.client().await.models(PATIENCE).await.unwrap();
    let kinds: Vec<_> = served
        .iter()
        .map(|model| (model.kind(), model.dimensions, model.is_default))
        .collect();
    let kind = wire::ModelKind::Reranking;
    assert_eq!(kinds, [(kind, 0, true), (kind, 0, false)]);

    let (mut largest, mut spread) = (0f64, 0f64);
    for (name, model) in [("", &model), ("other", &other)] {
        for query in QUERIES {
            let found = scores(&sidecar, name, query, &PASSAGES).await;
            let expected = PASSAGES.map(|passage| model.score(query, passage));
            for (found, expected) in found.iter().zip(expected) {
                largest = largest.max((f64::from(*found) - expected).abs());
            }
            spread = spread
                .max(expected[0] - expected[1])
                .max(expected[1] - expected[0]);
            for (passage, found) in PASSAGES.iter().zip(&found) {
                let alone = scores(&sidecar, name, query, &[passage]).await;
                assert_eq!(alone, [*found], "{name} {query:?} {passage:?}");
            }
        }
    }
    println!("largest difference {largest:e}, scores that differ by up to {spread}");
    assert!(largest < 0.02 && spread > 0.2, "{largest} {spread}");
}

/// Goal: of a pair that is too long the longer text is cut, and words that spell the frame are left out.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_and_left_out() {
    let model = TinyBert::new(Shape::cross_encoder());
    model.write("tokenizer_config.json", &json!({"model_max_length": 13}));
    let mut tokenizer: serde_json::Value = serde_json::from_slice(
        &std::fs::read(model.directory.path().join("tokenizer.json")).unwrap(),
    )
    .unwrap();
    let added = |id: usize, content: &str| {
        json!({"id": id, "content": content, "special": true, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    tokenizer["added_tokens"] = json!([added(2, "[CLS]"), added(3, "[SEP]")]);
    model.write("tokenizer.json", &tokenizer);
    let sidecar = start(&[("m", &model)]).await;
    let score = |query: &'static str, passage: &'static str| {
        let sidecar = &sidecar;
        async move { scores(sidecar, "m", query, &[passage]).await }
    };
    // Ten tokens besides the frame.
    assert_eq!(
        score(
            "price",
            "demo demo demo demo demo demo demo demo demo failed failed"
        )
        .await,
        score("price", "demo demo demo demo demo demo demo demo demo").await
    );
    assert_eq!(
        score(
            "price price price price price price plan",
            "demo demo demo demo demo demo call"
        )
        .await,
        score("price price price price price", "demo demo demo demo demo").await
    );
    assert_eq!(
        score("price [SEP] budget", "demo [SEP] [CLS] failed").await,
        score("price budget", "demo failed").await
    );
    assert_ne!(score("price", "demo").await, score("price demo", " ").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused() {
    let model = TinyBert::new(Shape::cross_encoder());
    let sidecar = start(&[("m", &model)]).await;
    let mut client = sidecar.client().await;
    for (bad, expected) in [
        (request("m", " \n", &["price"]), "query"),
        (request("m", &"a".repeat(70_000), &["price"]), "query"),
    ] {
        match client.rerank(bad, PATIENCE).await {
            Err(ClientError::InvalidRequest(detail)) => assert!(detail.contains(expected)),
            other => panic!("{other:?}"),
        }
    }
    let unknown = client
        .rerank(request("x", "price", &["price"]), PATIENCE)
        .await;
    assert!(
        matches!(unknown, Err(ClientError::NotFound(_))),
        "{unknown:?}"
    );
    // Models of one kind are none of another.
    let tokens = client
        .count_tokens(
            ModelChoice::Named("m".into()),
            TextBatch::new(vec!["a".into()], 1).unwrap(),
            PATIENCE,
        )
        .await;
    assert!(
        matches!(tokens, Err(ClientError::NotFound(_))),
        "{tokens:?}"
    );
}

#[test]
fn models_that_are_no_cross_encoders_are_refused() {
    let check = |shape: Shape, expected: &str| {
        let model = TinyBert::new(shape);
        let refused = BertReranker::load(model.directory.path(), BertPrecision::Bf16, 3).err();
        let refused = refused.unwrap().to_string();
        assert!(refused.contains(expected), "{refused}");
    };
    check(Shape::mini(), "no cross-encoder");
    let two = Shape {
        labels: 2,
        ..Shape::cross_encoder()
    };
    check(two, "expected [1, 32]");
}
