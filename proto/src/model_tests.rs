//! Goal: every limit that the contract states is enforced, and a checked request survives the wire.

use super::*;
use crate::limits::BatchSize;

fn conversation(count: usize) -> Vec<wire::Message> {
    vec![
        wire::Message {
            role: "user".into(),
            content: "hello".into()
        };
        count
    ]
}

fn check_generate(change: impl FnOnce(&mut wire::GenerateRequest), expected: Option<&str>) {
    let mut request = wire::GenerateRequest {
        messages: conversation(1),
        ..wire::GenerateRequest::default()
    };
    change(&mut request);
    let error = GenerationRequest::try_from(request)
        .err()
        .map(|error| error.to_string());
    match expected {
        None => assert_eq!(error, None),
        Some(part) => assert!(
            error.as_ref().is_some_and(|e| e.contains(part)),
            "{error:?}"
        ),
    }
}

#[test]
fn generation_limits() {
    check_generate(|_| (), None);
    check_generate(
        |r| r.messages.clear(),
        Some("\"messages\" must hold 1 to 64"),
    );
    check_generate(|r| r.messages = conversation(65), Some("got 65"));
    check_generate(|r| r.messages[0].role = "tool".into(), Some("\"role\""));
    check_generate(
        |r| r.messages[0].content = "x".repeat((1 << 20) + 1),
        Some("bytes"),
    );
    check_generate(|r| r.stop = vec![String::new()], Some("\"stop\""));
    check_generate(|r| r.stop = vec!["a".into(); 9], Some("\"stop\""));
    check_generate(|r| r.json_schema = "{}".into(), None);
    check_generate(|r| r.regex = "x".repeat(65 << 10), Some("\"regex\""));
    check_generate(|r| r.choices = vec![String::new()], Some("\"choices\""));
    check_generate(|r| r.top_logprobs = 21, Some("\"top_logprobs\""));
    check_generate(|r| r.cache_salt = vec![0; 65], Some("\"cache_salt\""));
    check_generate(|r| r.caller = "x".repeat(129), Some("\"caller\""));
    check_generate(
        |r| {
            r.json_schema = "{}".into();
            r.regex = "a".into();
        },
        Some("the only one"),
    );
    check_generate(
        |r| {
            r.json_schema = "{}".into();
            r.stop = vec!["}".into()];
        },
        Some("\"stop\""),
    );
    check_generate(
        |r| r.choices = vec!["x".repeat(1024); 65],
        Some("\"choices\""),
    );
    for temperature in [-0.1, 2.1, f32::NAN] {
        let sampling = wire::Sampling {
            temperature,
            ..Default::default()
        };
        check_generate(|r| r.sampling = Some(sampling), Some("\"temperature\""));
    }
    let sampling = wire::Sampling {
        temperature: 1.0,
        top_p: 1.5,
        ..Default::default()
    };
    check_generate(|r| r.sampling = Some(sampling), Some("\"top_p\""));
    for repetition_penalty in [0.5, 2.1, f32::NAN] {
        let sampling = wire::Sampling {
            repetition_penalty,
            ..Default::default()
        };
        check_generate(
            |r| r.sampling = Some(sampling),
            Some("\"repetition_penalty\""),
        );
    }
}

#[test]
fn generation_survives_the_wire() {
    let request = GenerationRequest {
        model: ModelChoice::Named("m".into()),
        adapter: Some(AdapterChoice {
            name: "tone".into(),
            generation: Some(3),
        }),
        messages: vec![ChatMessage {
            role: Role::System,
            content: "s".into(),
        }],
        tokens_max: 7,
        sampling: Sampling::nucleus(0.5, 0.9, 3),
        stop: Vec::new(),
        constraint: Some(Constraint::Choices(vec!["yes".into(), "no".into()])),
        top_logprobs: 2,
        priority: Priority::Background,
        caller: Caller {
            name: "rep-7".into(),
            cache_salt: vec![1, 2],
        },
    };
    let wire = wire::GenerateRequest::from(request.clone());
    assert_eq!(GenerationRequest::try_from(wire), Ok(request));
}

#[test]
fn batch_limits() {
    let too_many = TextBatch::new(vec![String::new(); 513], limits::EMBED_TEXTS_MAX);
    assert!(matches!(
        too_many,
        Err(InvalidRequest::Count { count: 513, .. })
    ));
    let too_big = TextBatch::new(vec!["x".repeat(3 << 20); 2], limits::EMBED_TEXTS_MAX);
    assert!(matches!(too_big, Err(InvalidRequest::Size { .. })));
    assert!(TextBatch::new(vec![], 1).is_err());
}

#[test]
fn chunk_limits() {
    let check = |tokens_max, overlap_tokens| {
        let request = wire::ChunkRequest {
            tokens_max,
            overlap_tokens,
            ..Default::default()
        };
        ChunkingRequest::try_from(request).is_ok()
    };
    assert!(check(0, 0));
    assert!(check(8, 7));
    assert!(!check(7, 0));
    assert!(!check(8, 8));
}

#[test]
fn batches_keep_all_limits_and_every_text() {
    let batches = |count: usize, bytes: usize, tokens: usize| {
        let size = BatchSize {
            texts: 1,
            bytes,
            tokens,
        };
        let most = BatchSize {
            texts: 4,
            bytes: 4 << 20,
            tokens: 1000,
        };
        limits::batches(vec![size; count], most)
    };
    assert_eq!(batches(9, 0, 0), [0..4, 4..8, 8..9]);
    assert_eq!(batches(5, 2 << 20, 0), [0..2, 2..4, 4..5]);
    assert_eq!(batches(7, 0, 400), [0..2, 2..4, 4..6, 6..7]);
    assert!(batches(0, 0, 0).is_empty());
    // Too large alone.
    assert_eq!(batches(2, 5 << 20, 2000), [0..1, 1..2]);
}
