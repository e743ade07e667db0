//! Goal: counts are the tokenizer's own, and chunks are exact ranges within their budget.

use std::time::Instant;

use proto::client::ClientError;
use proto::model::{ChunkingRequest, ModelChoice, TextBatch};
use proto::wire::Chunk;
use proto::{limits, wire};

use super::sidecar::{self, PATIENCE, Sidecar};

async fn chunk(sidecar: &Sidecar, text: &str, tokens_max: u32, overlap_tokens: u32) -> Vec<Chunk> {
    let request = ChunkingRequest {
        model: ModelChoice::Default,
        text: text.to_owned(),
        tokens_max: (tokens_max > 0).then_some(tokens_max),
        overlap_tokens,
    };
    sidecar
        .client()
        .await
        .chunk(request, PATIENCE)
        .await
        .unwrap()
}

/// Checks that chunks are ordered exact ranges that leave out nothing but white space.
fn check_ranges(text: &str, chunks: &[Chunk], tokens_max: u32) {
    let chars: Vec<char> = text.chars().collect();
    let mut covered = 0;
    for chunk in chunks {
        let (start, end) = (chunk.start_char as usize, chunk.end_char as usize);
        assert!(start < end && end <= chars.len() && covered < end);
        assert!((1..=tokens_max).contains(&chunk.token_count), "{chunk:?}");
        let gap = &chars[covered.min(start)..start];
        assert!(
            gap.iter().all(|c| c.is_whitespace()),
            "text is left out before {start}"
        );
        assert!(!chars[start].is_whitespace() && !chars[end - 1].is_whitespace());
        covered = end;
    }
    assert!(chars[covered..].iter().all(|c| c.is_whitespace()));
}

fn repeats(chunks: &[Chunk]) -> bool {
    chunks
        .windows(2)
        .any(|pair| pair[1].start_char < pair[0].end_char)
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_ids() {
    let Some(model) = sidecar::embedding_model("counts_and_ids") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let texts = ["hello world", "", "Grüße 🙂"].map(str::to_owned).to_vec();
    let request = |special_tokens| wire::TokenizeRequest {
        model: String::new(),
        texts: texts.clone(),
        special_tokens,
    };
    let mut client = sidecar.raw_client().await;
    let bare = client.tokenize(request(false)).await.unwrap().into_inner();
    assert_eq!(bare.model, "mini");
    assert_eq!(bare.sequences[0].ids, [7592, 2088]);
    let framed = client.tokenize(request(true)).await.unwrap().into_inner();
    assert_eq!(framed.sequences[0].ids, [101, 7592, 2088, 102]);

    let batch = TextBatch::new(texts.clone(), limits::COUNT_TEXTS_MAX).unwrap();
    let counts = sidecar
        .client()
        .await
        .count_tokens(ModelChoice::Default, batch, PATIENCE)
        .await;
    let lengths: Vec<u32> = bare.sequences.iter().map(|s| s.ids.len() as u32).collect();
    assert_eq!(counts.unwrap(), lengths);

    let unknown = ModelChoice::Named("gpt".into());
    let batch = TextBatch::new(texts, limits::COUNT_TEXTS_MAX).unwrap();
    let refused = sidecar
        .client()
        .await
        .count_tokens(unknown, batch, PATIENCE)
        .await;
    assert!(matches!(refused, Err(ClientError::NotFound(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_exact_ranges() {
    let Some(model) = sidecar::embedding_model("chunks_are_exact_ranges") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let prose = "Anna: Können wir über den Preis sprechen? 🙂\nBen: Gerne. 価格は高すぎます。\n\n"
        .repeat(40);
    for (tokens_max, overlap) in [(8, 0), (32, 0), (64, 16), (0, 0)] {
        let chunks = chunk(&sidecar, &prose, tokens_max, overlap).await;
        assert!(chunks.len() > 3);
        assert!(overlap > 0 || !repeats(&chunks));
        let budget = if tokens_max == 0 { 254 } else { tokens_max };
        check_ranges(&prose, &chunks, budget);
    }
    let words = "price and time ".repeat(3000);
    let chunks = chunk(&sidecar, &words, 32, 8).await;
    check_ranges(&words, &chunks, 32);
    assert!(repeats(&chunks));
    assert_eq!(chunk(&sidecar, "", 32, 0).await, []);
    assert_eq!(chunk(&sidecar, " \n ", 32, 0).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunking_stays_linear() {
    let Some(model) = sidecar::embedding_model("chunking_stays_linear") else {
        return;
    };
    let sidecar = Sidecar::with_embedding(&model, &[]).await;
    let mib = 1 << 20;
    for (name, unit) in [
        (
            "prose",
            "The buyer asked for a better price, and we agreed to meet again on Monday.\n",
        ),
        ("one sentence", "and then "),
        ("one word", "a"),
        ("no spaces", "価格は高すぎます"),
        ("lines", "\n"),
        ("punctuation", "?!"),
    ] {
        let text = unit.repeat(mib / unit.len());
        let start = Instant::now();
        let chunks = chunk(&sidecar, &text, 200, 20).await;
        let seconds = start.elapsed().as_secs_f64();
        println!("1 MiB of {name}: {} chunks in {seconds:.2} s", chunks.len());
        check_ranges(&text, &chunks, 200);
        assert!(seconds < 60.0, "{name} took {seconds} s");
    }
}
