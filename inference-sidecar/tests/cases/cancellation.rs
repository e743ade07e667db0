//! Goal: nobody's model works for a caller who has left, and a full queue says so at once.

use std::time::Duration;

use proto::client::ClientError;
use proto::wire;
use proto::wire::generate_response::Event;
use tonic::Code;

use super::sidecar::{self, PATIENCE, Sidecar, endless, greedy};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_stops_the_work() {
    let Some(model) = sidecar::language_model("a_dropped_stream_stops_the_work") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let mut client = sidecar.client().await;
    let mut stream = client.generate(endless(), PATIENCE).await.unwrap();
    for _ in 0..4 {
        assert!(!matches!(
            stream.next().await.unwrap(),
            Some(Event::Finished(_)) | None
        ));
    }
    drop(stream);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = sidecar.status().await;
    assert!(after.generation_steps > 0);
    assert_eq!((after.cancelled_requests, after.running_requests), (1, 0));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        sidecar.status().await.generation_steps,
        after.generation_steps
    );
    assert_eq!(
        sidecar
            .answer(greedy("Hello", 3))
            .await
            .finished
            .completion_tokens,
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_prompt_can_be_cancelled() {
    let Some(model) = sidecar::language_model("a_long_prompt_can_be_cancelled") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let before = sidecar.status().await.generation_steps;
    let mut client = sidecar.client().await;
    let prompt = "A buyer asked about the price. ".repeat(900);
    let stream = client.generate(greedy(&prompt, 5), PATIENCE).await.unwrap();
    sidecar
        .wait_status(|status| status.generation_steps > before)
        .await;
    drop(stream);
    sidecar
        .wait_status(|status| status.cancelled_requests == 1)
        .await;
    // 6,300 tokens are 99 steps.
    assert!(sidecar.status().await.generation_steps < before + 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passed_deadline_ends_the_stream() {
    let Some(model) = sidecar::language_model("a_passed_deadline_ends_the_stream") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &[]).await;
    let mut request = tonic::Request::new(wire::GenerateRequest::from(endless()));
    request.set_timeout(Duration::from_millis(1500));
    let mut stream = sidecar
        .raw_client()
        .await
        .generate(request)
        .await
        .unwrap()
        .into_inner();
    let status = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a deadline"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::DeadlineExceeded);
    sidecar
        .wait_status(|status| status.running_requests == 0)
        .await;
    let before = sidecar.status().await.generation_steps;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(sidecar.status().await.generation_steps, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once() {
    let Some(model) = sidecar::language_model("a_full_queue_refuses_at_once") else {
        return;
    };
    let sidecar =
        Sidecar::with_language(&model, &["--queue-size", "1", "--sequences-max", "1"]).await;
    let mut client = sidecar.client().await;
    let mut running = client.generate(endless(), PATIENCE).await.unwrap();
    assert!(matches!(
        running.next().await.unwrap(),
        Some(Event::Started(_))
    ));
    let mut waiting = client.generate(greedy("Hello", 2), PATIENCE).await.unwrap();
    // The engine looks at it before there is room: it waits all the same.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let status = sidecar.status().await;
    assert_eq!((status.running_requests, status.waiting_requests), (1, 1));

    let refused = client.generate(greedy("Hello", 2), PATIENCE).await.err();
    let Some(ClientError::Overloaded {
        retry_after_ms: Some(1..),
    }) = refused
    else {
        panic!("{refused:?}");
    };
    assert_eq!(sidecar.status().await.refused_requests, 1);

    drop(running);
    assert!(matches!(
        waiting.next().await.unwrap(),
        Some(Event::Started(_))
    ));
    drop(waiting);
    assert_eq!(
        sidecar
            .answer(greedy("Hello", 2))
            .await
            .finished
            .completion_tokens,
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_caller_that_leaves_frees_its_place() {
    let test = "a_waiting_caller_that_leaves_frees_its_place";
    let Some(model) = sidecar::language_model(test) else {
        return;
    };
    let sidecar =
        Sidecar::with_language(&model, &["--queue-size", "1", "--sequences-max", "1"]).await;
    let mut client = sidecar.client().await;
    let mut running = client.generate(endless(), PATIENCE).await.unwrap();
    assert!(matches!(
        running.next().await.unwrap(),
        Some(Event::Started(_))
    ));
    drop(client.generate(greedy("Hello", 2), PATIENCE).await.unwrap());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut waiting = client.generate(greedy("Hello", 2), PATIENCE).await.unwrap();
    drop(running);
    assert!(matches!(
        waiting.next().await.unwrap(),
        Some(Event::Started(_))
    ));
    assert_eq!(sidecar.status().await.cancelled_requests, 2);
}
