//! Goal: under more load than fits, callers share the model by tokens, people come before bulk work, and
//! what does not fit is told when to come again. Orders are asserted, never times.

use std::sync::{Arc, Mutex};

use proto::client::{ClientError, Generation};
use proto::model::{Caller, GenerationRequest, Priority};
use proto::wire::generate_response::Event;
use tokio::task::JoinHandle;

use super::sidecar::{self, PATIENCE, Sidecar, greedy};

/// Who was served, in the order in which the answers ended.
type Ends = Arc<Mutex<Vec<&'static str>>>;

fn request(caller: &str, priority: Priority, tokens_max: u32) -> GenerationRequest {
    GenerationRequest {
        priority,
        caller: Caller {
            name: caller.into(),
            ..Caller::default()
        },
        ..greedy("Count from 1 to a million.", tokens_max)
    }
}

/// Asks; once this returns the request is queued.
async fn ask(sidecar: &Sidecar, request: GenerationRequest) -> Result<Generation, ClientError> {
    sidecar.client().await.generate(request, PATIENCE).await
}

/// Reads to the end, which must come.
async fn finish(mut stream: Generation) {
    loop {
        match stream.next().await.unwrap() {
            Some(Event::Finished(_)) => return,
            Some(_) => {}
            None => panic!("the answer has no end"),
        }
    }
}

fn note_end(stream: Generation, name: &'static str, ends: &Ends) -> JoinHandle<()> {
    let ends = ends.clone();
    tokio::spawn(async move {
        finish(stream).await;
        ends.lock().unwrap().push(name);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_does_not_starve_another_caller() {
    let Some(model) = sidecar::language_model("a_flood_does_not_starve_another_caller") else {
        return;
    };
    let sidecar = Sidecar::with_language(&model, &["--sequences-max", "1"]).await;
    let ends = Ends::default();
    let mut answers = Vec::new();
    for (name, count, tokens_max) in [("flood", 12, 40), ("few", 4, 4)] {
        for _ in 0..count {
            let request = request(name, Priority::Interactive, tokens_max);
            let stream = ask(&sidecar, request).await.unwrap();
            answers.push(note_end(stream, name, &ends));
        }
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let ends = ends.lock().unwrap();
    // One of the flood runs and one is next when the other caller comes; all four of that one together
    // cost less than two of the flood. In order of arrival they would be the last.
    let last_of_few = ends.iter().rposition(|&name| name == "few").unwrap();
    println!("{ends:?}");
    assert!(last_of_few < 10, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_is_served_in_order_and_the_rest_is_told() {
    let Some(model) = sidecar::language_model("what_fits_is_served_in_order_and_the_rest_is_told")
    else {
        return;
    };
    let bounds = ["--sequences-max", "1", "--queue-size", "6"];
    let sidecar = Sidecar::with_language(&model, &bounds).await;
    let ends = Ends::default();
    let mut answers = Vec::new();
    for (name, priority) in [
        ("bulk", Priority::Background),
        ("person", Priority::Interactive),
    ] {
        for _ in 0..3 {
            let stream = ask(&sidecar, request(name, priority, 60)).await.unwrap();
            answers.push(note_end(stream, name, &ends));
        }
    }
    let mut refusals = 0;
    for _ in 0..8 {
        match ask(&sidecar, request("late", Priority::Background, 2)).await {
            Ok(stream) => answers.push(note_end(stream, "late", &ends)),
            Err(ClientError::Overloaded {
                retry_after_ms: Some(1..),
            }) => refusals += 1,
            Err(error) => panic!("{error:?}"),
        }
    }
    for answer in answers {
        answer.await.unwrap();
    }
    let ends = ends.lock().unwrap().clone();
    assert!(refusals >= 1, "{ends:?}");
    assert_eq!(ends.len(), 6 + 8 - refusals);
    assert_eq!(ends[..3], ["person"; 3], "{ends:?}");
    let status = sidecar.status().await;
    assert_eq!(status.refused_requests, refusals as u64);
    assert_eq!((status.running_requests, status.waiting_requests), (0, 0));
}
