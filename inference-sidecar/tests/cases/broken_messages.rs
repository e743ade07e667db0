//! Goal: whatever a client sends to whichever rpc, it gets a clear status, and a stream that runs beside
//! it ends as if nobody had been there.

use prost::Message;
use proto::limits::{COUNT_TEXTS_MAX, EMBED_TEXTS_MAX, MESSAGE_SIZE_MAX, TEXT_BYTES_MAX};
use proto::wire;
use proto::wire::generate_response::Event;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

/// Their requests have no fields, so that any bytes of a message are one.
const WITHOUT_FIELDS: [&str; 3] = ["GetStatus", "ListModels", "ListAdapters"];
/// Field 1 is a text or a message in all of them.
const WITH_FIELDS: [&str; 8] = [
    "Tokenize",
    "CountTokens",
    "Chunk",
    "Embed",
    "Generate",
    "LoadAdapter",
    "UnloadAdapter",
    "ReadDocument",
];

/// Sends a message that is not the one of the rpc.
async fn send<M: Message + 'static>(
    channel: &Channel,
    rpc: &str,
    message: M,
) -> Result<(), Status> {
    let path = format!("/salesai.inference.v1.InferenceService/{rpc}");
    let mut client = Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = ProstCodec::<_, wire::GetStatusResponse>::new();
    let path = PathAndQuery::try_from(path).unwrap();
    let answer = client.unary(Request::new(message), path, codec).await;
    answer.map(drop)
}

fn check(rpc: &str, result: Result<(), Status>, code: Code, expected: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{rpc}: {status:?}");
    let said = status.message();
    assert!(said.contains(expected), "{rpc}: {expected:?} in {said:?}");
}

fn with_texts(count: usize, bytes: usize) -> Vec<String> {
    vec!["x".repeat(bytes); count]
}

/// Every rpc gets bytes that are no message of its own, and a message that is too large.
async fn send_broken(channel: &Channel) {
    let number = wire::GetStatusResponse {
        state: 1,
        ..Default::default()
    };
    for rpc in WITH_FIELDS {
        let result = send(channel, rpc, number.clone()).await;
        check(rpc, result, Code::Internal, "decode");
    }
    let large = wire::ChunkRequest {
        text: "x".repeat(MESSAGE_SIZE_MAX + 1),
        ..Default::default()
    };
    for rpc in WITH_FIELDS.into_iter().chain(WITHOUT_FIELDS) {
        let result = send(channel, rpc, large.clone()).await;
        check(rpc, result, Code::OutOfRange, "too large");
    }
    let result = send(channel, "NoSuchCall", number).await;
    check("NoSuchCall", result, Code::Unimplemented, "");
}

/// Requests that are well formed and break a limit of the contract.
async fn send_too_much(sidecar: &Sidecar) {
    let mut client = sidecar
        .raw_client()
        .await
        .max_encoding_message_size(MESSAGE_SIZE_MAX);
    for (count, bytes) in [(0, 0), (COUNT_TEXTS_MAX + 1, 1), (1, TEXT_BYTES_MAX + 1)] {
        let texts = with_texts(count, bytes);
        let request = wire::TokenizeRequest {
            texts: texts.clone(),
            ..Default::default()
        };
        let result = client.tokenize(request).await.map(drop);
        check("Tokenize", result, Code::InvalidArgument, "\"texts\"");
        let request = wire::CountTokensRequest {
            texts,
            ..Default::default()
        };
        let result = client.count_tokens(request).await.map(drop);
        check("CountTokens", result, Code::InvalidArgument, "\"texts\"");
    }
    for (count, bytes) in [(0, 0), (EMBED_TEXTS_MAX + 1, 1), (1, TEXT_BYTES_MAX + 1)] {
        let request = wire::EmbedRequest {
            texts: with_texts(count, bytes),
            ..Default::default()
        };
        let result = client.embed(request).await.map(drop);
        check("Embed", result, Code::InvalidArgument, "\"texts\"");
    }
    for (text_bytes, tokens_max, overlap_tokens, expected) in [
        (TEXT_BYTES_MAX + 1, 32, 0, "\"text\""),
        (1, 1, 0, "\"tokens_max\""),
        (1, 32, 32, "overlap_tokens"),
        (1, 32, u32::MAX, "overlap_tokens"),
    ] {
        let request = wire::ChunkRequest {
            text: "x".repeat(text_bytes),
            tokens_max,
            overlap_tokens,
            ..Default::default()
        };
        let result = client.chunk(request).await.map(drop);
        check("Chunk", result, Code::InvalidArgument, expected);
    }
    let sampling = wire::GenerateRequest {
        sampling: Some(wire::Sampling {
            temperature: f32::NAN,
            ..Default::default()
        }),
        ..greedy("hi", 5).into()
    };
    let result = client.generate(sampling).await.map(drop);
    check("Generate", result, Code::InvalidArgument, "\"temperature\"");
    let unload = wire::UnloadAdapterRequest {
        name: "x".repeat(1000),
    };
    let result = client.unload_adapter(unload).await.map(drop);
    check("UnloadAdapter", result, Code::NotFound, "is not loaded");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_messages_disturb_nobody() {
    let test = "broken_messages_disturb_nobody";
    let (Some(embedding), Some(language)) = (
        sidecar::embedding_model(test),
        sidecar::language_model(test),
    ) else {
        return;
    };
    let named = format!("mini={}", embedding.display());
    let sidecar = Sidecar::with_language(&language, &["--embedding-model", &named]).await;
    let request = greedy("Count from 1 to a million.", 80);
    let alone = sidecar.answer(request.clone()).await.text;

    let mut stream = sidecar
        .client()
        .await
        .generate(request, PATIENCE)
        .await
        .unwrap();
    send_broken(&sidecar.channel().await).await;
    send_too_much(&sidecar).await;
    let mut text = String::new();
    while let Some(event) = stream.next().await.unwrap() {
        if let Event::Text(piece) = event {
            text.push_str(&piece);
        }
    }
    assert_eq!(text, alone);
    let status = sidecar.status().await;
    assert_eq!((status.running_requests, status.waiting_requests), (0, 0));
    assert_eq!(status.kv_blocks_used, 0);
}
