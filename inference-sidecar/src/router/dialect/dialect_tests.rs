//! Goal: each server gets exactly the body that its manual asks for, and what it cannot express is
//! refused by name. The bodies for llama.cpp are those whose answers were recorded.

use proto::model::{
    AdapterChoice, Caller, ChatMessage, Constraint, GenerationRequest, ModelChoice, Priority, Role,
    Sampling, TokenChoice,
};
use serde_json::{Value, json};

use super::*;

const SCHEMA: &str = r#"{"type": "object", "properties": {"zip": {"type": "integer"}, "city": {"type": "string", "maxLength": 12}}, "required": ["zip", "city"]}"#;

fn upstream(kind: &str, more: Value) -> UpstreamConfig {
    let mut config = json!({"kind": kind, "url": "http://localhost:1", "model": "smol"});
    let (Some(config_fields), Some(more)) = (config.as_object_mut(), more.as_object()) else {
        panic!()
    };
    config_fields.extend(more.clone());
    serde_json::from_value(config).unwrap()
}

fn greedy(content: &str, tokens_max: u32) -> GenerationRequest {
    GenerationRequest {
        model: ModelChoice::Default,
        adapter: None,
        messages: vec![ChatMessage {
            role: Role::User,
            content: content.to_owned(),
        }],
        tokens_max,
        sampling: Sampling::GREEDY,
        stop: Vec::new(),
        constraint: None,
        top_logprobs: 0,
        priority: Priority::Interactive,
        caller: Caller {
            name: "ann".into(),
            cache_salt: vec![0xab, 0x01],
        },
    }
}

/// A request that uses everything but a constraint and an adapter.
fn rich() -> GenerationRequest {
    GenerationRequest {
        sampling: Sampling {
            choice: TokenChoice::Random {
                temperature: 0.7,
                top_p: 0.9,
                min_p: 0.05,
                seed: 42,
            },
            repetition_penalty: 1.1,
        },
        stop: vec!["END".into()],
        top_logprobs: 2,
        priority: Priority::Background,
        ..greedy("Hi", 5)
    }
}

fn constrained(constraint: Constraint) -> GenerationRequest {
    GenerationRequest {
        constraint: Some(constraint),
        ..greedy("Hi", 5)
    }
}

fn with_adapter(generation: Option<u64>) -> GenerationRequest {
    let name = "tone".into();
    GenerationRequest {
        adapter: Some(AdapterChoice { name, generation }),
        ..greedy("Hi", 5)
    }
}

fn choices() -> Constraint {
    Constraint::Choices(vec!["yes".into(), "say \"maybe\"\n".into()])
}

fn sent(upstream: &UpstreamConfig, request: &GenerationRequest) -> Value {
    serde_json::from_slice(&body(upstream, request).unwrap()).unwrap()
}

/// The body must be `common` plus `expected`.
fn check(upstream: &UpstreamConfig, request: &GenerationRequest, expected: Value) {
    let mut body = sent(upstream, request);
    let fields = body.as_object_mut().unwrap();
    for common in [
        "messages",
        "max_tokens",
        "stream",
        "model",
        "top_p",
        "temperature",
    ] {
        assert!(fields.remove(common).is_some(), "{common}");
    }
    assert_eq!(body, expected, "{}", upstream.kind.name());
}

#[test]
fn vllm_fields() {
    let plain = upstream("vllm", json!({}));
    let mut expected = json!({
        "stream_options": {"include_usage": true, "continuous_usage_stats": true},
        "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "cache_salt": "ab01",
    });
    check(&plain, &greedy("Hi", 5), expected.clone());
    check(
        &upstream("vllm", json!({"priority_scheduling": true})),
        &rich(),
        json!({
            "stream_options": {"include_usage": true, "continuous_usage_stats": true},
            "top_k": -1, "min_p": 0.05, "repetition_penalty": 1.1, "cache_salt": "ab01",
            "priority": 10, "seed": 42, "stop": ["END"], "logprobs": true, "top_logprobs": 2,
        }),
    );
    let body = sent(&plain, &rich());
    assert_eq!(
        (&body["temperature"], &body["top_p"]),
        (&json!(0.7), &json!(0.9))
    );

    expected["structured_outputs"] = json!({"regex": "a+"});
    let regex = constrained(Constraint::Regex("a+".into()));
    check(&plain, &regex, expected.clone());
    expected["structured_outputs"] = json!({"choice": ["yes", "say \"maybe\"\n"]});
    check(&plain, &constrained(choices()), expected.clone());
    let older = upstream("vllm", json!({"guided_fields": true}));
    assert_eq!(sent(&older, &regex)["guided_regex"], "a+");
    assert_eq!(
        sent(&older, &constrained(choices()))["guided_choice"][0],
        "yes"
    );
}

#[test]
fn tensorrt_llm_fields() {
    let plain = upstream("tensorrt-llm", json!({}));
    let mut expected = json!({
        "stream_options": {"include_usage": true, "continuous_usage_stats": true},
        "top_k": 0, "cache_salt": "ab01",
    });
    check(&plain, &greedy("Hi", 5), expected.clone());
    check(
        &upstream(
            "tensorrt-llm",
            json!({"priority_scheduling": true, "cache_salt": false}),
        ),
        &rich(),
        json!({
            "stream_options": {"include_usage": true, "continuous_usage_stats": true},
            "top_k": 0, "min_p": 0.05, "repetition_penalty": 1.1, "priority": 0.25, "seed": 42,
            "stop": ["END"], "logprobs": true, "top_logprobs": 2,
        }),
    );
    expected["response_format"] = json!({"type": "regex", "regex": "a+"});
    check(
        &plain,
        &constrained(Constraint::Regex("a+".into())),
        expected.clone(),
    );
    let ebnf = r#"root ::= "yes" | "say \"maybe\"\n""#;
    expected["response_format"] = json!({"type": "ebnf", "ebnf": ebnf});
    check(&plain, &constrained(choices()), expected);
}

#[test]
fn the_schema_is_sent_as_it_was_written() {
    // Another order of properties would be another order in the answer.
    let request = constrained(Constraint::JsonSchema(SCHEMA.into()));
    for (kind, expected) in [
        (
            "vllm",
            format!(
                r#""response_format":{{"type":"json_schema","json_schema":{{"name":"answer","schema":{SCHEMA}}}}}"#
            ),
        ),
        (
            "tensorrt-llm",
            format!(r#""response_format":{{"type":"json","schema":{SCHEMA}}}"#),
        ),
        (
            "llama.cpp",
            format!(r#""response_format":{{"type":"json_object","schema":{SCHEMA}}}"#),
        ),
    ] {
        let upstream = upstream(kind, json!({}));
        let text = String::from_utf8(body(&upstream, &request).unwrap()).unwrap();
        assert!(text.contains(&expected), "{text}");
        for bad in ["", "{", "[1]", "true", "{} {}"] {
            let request = constrained(Constraint::JsonSchema(bad.into()));
            assert_eq!(
                body(&upstream, &request).err(),
                Some(Unsupported::Schema),
                "{bad}"
            );
        }
    }
}

#[test]
fn adapters() {
    let entry =
        json!([{"name": "tone", "generation": 3, "served_as": "tone-v3", "id": 7, "path": "/l/t"}]);
    let vllm = upstream("vllm", json!({"adapter": entry}));
    assert_eq!(sent(&vllm, &with_adapter(Some(3)))["model"], "tone-v3");
    assert_eq!(adapter_generation(&vllm, &with_adapter(None)), 3);
    assert_eq!(sent(&vllm, &greedy("Hi", 5))["model"], "smol");
    assert_eq!(
        sent(&upstream("vllm", json!({})), &with_adapter(None))["model"],
        "tone"
    );

    let tensorrt = upstream("tensorrt-llm", json!({"adapter": entry}));
    let lora = json!({"lora_name": "tone-v3", "lora_int_id": 7, "lora_path": "/l/t"});
    assert_eq!(sent(&tensorrt, &with_adapter(None))["lora_request"], lora);
    assert_eq!(sent(&tensorrt, &greedy("Hi", 5)).get("lora_request"), None);

    let llama = upstream("llama.cpp", json!({"adapter": entry}));
    assert_eq!(
        sent(&llama, &with_adapter(None))["lora"],
        json!([{"id": 7, "scale": 1.0}])
    );
    assert_eq!(sent(&llama, &greedy("Hi", 5))["lora"], json!([]));
    assert_eq!(
        sent(&upstream("llama.cpp", json!({})), &greedy("Hi", 5)).get("lora"),
        None
    );
}

#[test]
fn what_cannot_be_said_is_refused_by_name() {
    let regex = constrained(Constraint::Regex("a+".into()));
    for (kind, request, field) in [
        ("llama.cpp", regex, "regex"),
        ("llama.cpp", with_adapter(None), "adapter"),
        ("tensorrt-llm", with_adapter(None), "adapter"),
        ("vllm", with_adapter(Some(2)), "adapter_generation"),
    ] {
        let refused = body(&upstream(kind, json!({})), &request).err();
        assert_eq!(refused, Some(Unsupported::Field(field)), "{kind}");
    }
    let older = upstream(
        "vllm",
        json!({"adapter": [{"name": "tone", "generation": 1}]}),
    );
    let refused = body(&older, &with_adapter(Some(2))).err();
    assert_eq!(refused, Some(Unsupported::Field("adapter_generation")));
}

#[test]
fn nothing_is_shared_without_a_salt() {
    let mut request = greedy("Hi", 5);
    request.caller.cache_salt.clear();
    for kind in ["vllm", "tensorrt-llm"] {
        let upstream = upstream(kind, json!({}));
        let salts = [0, 1].map(|_| sent(&upstream, &request)["cache_salt"].clone());
        assert!(salts[0].is_string() && salts[0] != salts[1]);
    }
}

#[test]
fn seeds_fit_every_server() {
    let seed = |seed| {
        let request = GenerationRequest {
            sampling: Sampling::nucleus(1.0, 1.0, seed),
            ..greedy("Hi", 5)
        };
        sent(&upstream("vllm", json!({})), &request)["seed"]
            .as_u64()
            .unwrap()
    };
    assert_eq!((seed(0), seed(42)), (0, 42));
    for large in [u64::MAX, 1 << 31, 1 << 62, 1 << 63] {
        assert!(seed(large) < 1 << 31 && seed(large) == seed(large));
    }
    assert_ne!(seed(1 << 31), seed(1 << 32));
}

#[test]
fn the_recorded_requests_are_what_is_sent() {
    let upstream = upstream("llama.cpp", json!({}));
    let hello = |tokens_max| greedy("Say hello.", tokens_max);
    let answer = "größer, 日本語, 🦙🎉";
    let cases = [
        ("length", hello(12)),
        (
            "end",
            greedy("Answer with one word: what is the capital of France?", 40),
        ),
        (
            "unicode",
            GenerationRequest {
                constraint: Some(Constraint::Choices(vec![answer.into()])),
                ..greedy(&format!("Repeat: {answer}"), 40)
            },
        ),
        (
            "stop",
            GenerationRequest {
                stop: vec![" here".into(), " help".into()],
                ..hello(40)
            },
        ),
        (
            "logprobs",
            GenerationRequest {
                top_logprobs: 2,
                ..hello(4)
            },
        ),
        (
            "sampled",
            GenerationRequest {
                sampling: rich().sampling,
                ..hello(12)
            },
        ),
        (
            "schema",
            GenerationRequest {
                constraint: Some(Constraint::JsonSchema(SCHEMA.into())),
                ..greedy("Name a city and its zip code as JSON.", 60)
            },
        ),
        (
            "choices",
            GenerationRequest {
                constraint: Some(Constraint::Choices(
                    ["yes", "no", "say \"maybe\""].map(str::to_owned).into(),
                )),
                ..greedy("Is water wet?", 8)
            },
        ),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/streams");
    for (name, request) in cases {
        let recorded = std::fs::read(folder.join(format!("{name}.request.json"))).unwrap();
        let recorded: Value = serde_json::from_slice(&recorded).unwrap();
        assert_eq!(sent(&upstream, &request), recorded, "{name}");
    }
}
