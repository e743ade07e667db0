//! Goal: a request gets the same answer whatever else runs, however its prompt is cut, whether drafts
//! are read ahead, and whether it was put back or served from the prefix cache; callers share nothing without the same salt; and a
//! server that was killed leaves nobody hanging and comes back with all adapters.

use std::time::Instant;

use proto::client::{ClientError, SidecarClient};
use proto::model::{AdapterChoice, Caller, GenerationRequest, Priority, Sampling};
use proto::wire::generate_response::Event;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};
use super::smol_adapter;

/// What a request got.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Outcome {
    text: String,
    completion_tokens: u32,
}

/// 32 requests of 40 to 300 tokens, every second one sampled.
fn requests() -> Vec<GenerationRequest> {
    let request = |number: u64| {
        let filler = "The buyer asked about the price and the delivery date. ";
        let count = (number as usize * 7) % 17;
        let question = format!(
            "Note {number}. {}Tell a long story of it.",
            filler.repeat(count)
        );
        let sampling = match number.is_multiple_of(2) {
            true => Sampling::GREEDY,
            false => Sampling::nucleus(0.9, 0.95, number),
        };
        GenerationRequest {
            sampling,
            caller: Caller {
                name: format!("rep {}", number % 5),
                cache_salt: vec![1],
            },
            ..greedy(&question, 32 + number as u32 % 17)
        }
    };
    (0..32).map(request).collect()
}

/// The outcome and how many tokens of the prompt were cached.
async fn ask(sidecar: &Sidecar, request: GenerationRequest) -> (Outcome, u32) {
    ask_with(sidecar.client().await, request).await
}

async fn ask_with(mut client: SidecarClient, request: GenerationRequest) -> (Outcome, u32) {
    let mut stream = client.generate(request, PATIENCE).await.unwrap();
    let (mut text, mut cached_tokens) = (String::new(), None);
    loop {
        match stream.next().await.unwrap().unwrap() {
            Event::Started(started) => {
                assert_eq!(cached_tokens.replace(started.cached_tokens), None);
            }
            Event::Text(piece) => text.push_str(&piece),
            Event::Token(_) => {}
            Event::Finished(finished) => {
                let outcome = Outcome {
                    text,
                    completion_tokens: finished.completion_tokens,
                };
                return (outcome, cached_tokens.unwrap());
            }
        }
    }
}

async fn ask_one_by_one(sidecar: &Sidecar) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for request in requests() {
        outcomes.push(ask(sidecar, request).await.0);
    }
    outcomes
}

async fn ask_together(sidecar: &Sidecar) -> Vec<Outcome> {
    let mut answers = Vec::new();
    for request in requests() {
        answers.push(tokio::spawn(ask_with(sidecar.client().await, request)));
    }
    let mut outcomes = Vec::new();
    for answer in answers {
        outcomes.push(answer.await.unwrap().0);
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_do_not_depend_on_company() {
    let Some(model) = sidecar::language_model("answers_do_not_depend_on_company") else {
        return;
    };
    let plain = Sidecar::with_language(&model, &["--draft-tokens-max", "0"]).await;
    let alone = ask_one_by_one(&plain).await;
    let steps = plain.status().await.generation_steps;

    let sidecar = Sidecar::with_language(&model, &[]).await;
    assert_eq!(ask_one_by_one(&sidecar).await, alone);
    let before = sidecar.status().await;
    assert_eq!((before.preempted_sequences, before.kv_blocks_used), (0, 0));
    // The stories repeat themselves, so some drafts are right.
    println!("{} steps, {steps} without drafts", before.generation_steps);
    assert!(before.generation_steps < steps);
    // The second time the prompts come from the prefix cache.
    assert_eq!(ask_one_by_one(&sidecar).await, alone);
    assert!(sidecar.status().await.prefix_hit_tokens > before.prefix_hit_tokens + 1000);

    let fresh = Sidecar::with_language(&model, &[]).await;
    assert_eq!(ask_together(&fresh).await, alone);

    // Blocks for 350 tokens, so that texts under way run out of them. Odd chunks beside.
    let small = [
        "--kv-mib",
        "16",
        "--prompt-chunk-tokens",
        "37",
        "--batch-tokens-max",
        "90",
    ];
    let short = Sidecar::with_language(&model, &small).await;
    // Who meets whom differs from run to run; three without a preemption would be a wonder.
    for _ in 0..3 {
        assert_eq!(ask_together(&short).await, alone);
        if short.status().await.preempted_sequences > 0 {
            break;
        }
    }
    let status = short.status().await;
    println!("{} preemptions", status.preempted_sequences);
    assert!(status.preempted_sequences > 0);
    assert_eq!((status.kv_blocks_used, status.running_requests), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_shared_under_the_same_salt_only() {
    let Some(model) = sidecar::language_model("prompts_are_shared_under_the_same_salt_only") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let prompt = "The contract was signed in Kiel. ".repeat(20);
    let cached = async |salt: &[u8]| {
        let caller = Caller {
            name: "rep".into(),
            cache_salt: salt.to_vec(),
        };
        let request = GenerationRequest {
            caller,
            ..greedy(&prompt, 4)
        };
        ask(&sidecar, request).await
    };
    let (first, hits) = cached(b"north").await;
    assert_eq!(hits, 0);
    for (salt, shares) in [
        (&b"north"[..], true),
        (b"south", false),
        (b"", false),
        (b"", false),
        (b"south", true),
    ] {
        let (outcome, hits) = cached(salt).await;
        assert_eq!(outcome, first);
        assert_eq!(hits > 100, shares, "{salt:?}: {hits}");
    }
    let status = sidecar.status().await;
    assert_eq!(status.kv_blocks_used, 0);
    assert!(status.kv_blocks_cached > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn log_probabilities_are_those_of_the_model() {
    let Some(model) = sidecar::language_model("log_probabilities_are_those_of_the_model") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let request = GenerationRequest {
        top_logprobs: 3,
        ..greedy("What is the capital of France?", 12)
    };
    let mut client = sidecar.client().await;
    let mut stream = client.generate(request, PATIENCE).await.unwrap();
    let (mut text, mut bytes, mut tokens) = (String::new(), Vec::new(), 0);
    while let Some(event) = stream.next().await.unwrap() {
        match event {
            Event::Text(piece) => text.push_str(&piece),
            Event::Token(token) => {
                tokens += 1;
                bytes.extend_from_slice(&token.content);
                assert_eq!(token.alternatives.len(), 3);
                assert_eq!(token.alternatives[0].id, token.id);
                assert!(token.logprob <= 0.0 && token.logprob == token.alternatives[0].logprob);
                assert!(
                    token
                        .alternatives
                        .is_sorted_by(|a, b| a.logprob >= b.logprob)
                );
            }
            Event::Finished(finished) => assert_eq!(finished.completion_tokens, tokens),
            Event::Started(_) => {}
        }
    }
    assert_eq!(text.as_bytes(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn interactive_requests_overtake_background_ones() {
    let test = "interactive_requests_overtake_background_ones";
    let Some(model) = sidecar::language_model(test) else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &["--sequences-max", "1"]).await;
    let background = GenerationRequest {
        priority: Priority::Background,
        ..greedy("Write a long story about a lighthouse.", 300)
    };
    let slow = ask(&sidecar, background.clone());
    let quick = async {
        sidecar
            .wait_status(|status| status.running_requests == 1)
            .await;
        let (outcome, _) = ask(&sidecar, greedy("Hello", 3)).await;
        (outcome, sidecar.status().await.running_requests)
    };
    let ((story, _), (_, running)) = tokio::join!(slow, quick);
    assert_eq!(running, 1, "the story goes on after the quick answer");
    assert_eq!(sidecar.status().await.preempted_sequences, 1);
    // What was put back lost nothing and repeated nothing.
    assert_eq!(ask(&sidecar, background).await.0, story);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_leaves_no_stream_hanging() {
    let Some(model) = sidecar::language_model("a_killed_server_leaves_no_stream_hanging") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let mut client = sidecar.client().await;
    let mut answers = Vec::new();
    for (seed, name) in (0..).zip(ADAPTERS) {
        smol_adapter::send(&mut client, name, seed).await.unwrap();
        answers.push(ask(&sidecar, adapted(Some(name), "Hello", 8)).await.0);
    }
    assert_ne!(answers[0], answers[1]);
    let mut streams = Vec::new();
    for number in 0..64 {
        let mut client = sidecar.client().await;
        let content = format!("Count from {number} to a million.");
        let adapter = ADAPTERS.get(number % 3).copied();
        let request = adapted(adapter, &content, 500);
        streams.push(client.generate(request, PATIENCE).await.unwrap());
    }
    sidecar
        .wait_status(|status| status.running_requests == 64)
        .await;
    let folder = sidecar.kill();
    for mut stream in streams {
        let error = loop {
            match stream.next().await {
                Ok(Some(Event::Finished(_)) | None) => panic!("an unfinished text was ended"),
                Ok(Some(_)) => {}
                Err(error) => break error,
            }
        };
        let is_clear = matches!(error, ClientError::Disconnected { .. });
        assert!(is_clear, "{error:?}");
    }
    let named = format!("smol={}", model.display());
    let mut restarted = Sidecar::start_in(folder, &["--language-model", &named]);
    restarted.wait_ready().await;
    let first_call = Instant::now();
    for (seed, name) in (0..).zip(ADAPTERS) {
        let mut client = restarted.client().await;
        let request = adapted(Some(name), "Hello", 8);
        let missing = client.generate(request.clone(), PATIENCE).await.err();
        let is_clear =
            matches!(&missing, Some(ClientError::AdapterMissing { name: n }) if n == name);
        assert!(is_clear, "{missing:?}");
        smol_adapter::send(&mut client, name, seed).await.unwrap();
        assert_eq!(ask(&restarted, request).await.0, answers[seed as usize]);
    }
    let seconds = first_call.elapsed().as_secs_f64();
    println!("all adapters answer {seconds:.2} s after the first call to the restarted server");
    assert!(seconds < 10.0, "{seconds}");
}

const ADAPTERS: [&str; 2] = ["tone", "brief"];

fn adapted(adapter: Option<&str>, content: &str, tokens_max: u32) -> GenerationRequest {
    GenerationRequest {
        adapter: adapter.map(|name| AdapterChoice {
            name: name.to_owned(),
            generation: Some(1),
        }),
        ..greedy(content, tokens_max)
    }
}
