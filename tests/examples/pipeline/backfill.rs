//! A backfill beside the sidecar's own rate on the same texts, and what interactive work notices of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proto::client::SidecarClient;
use proto::limits;
use proto::model::{EmbeddingRequest, ModelChoice, Priority, TextBatch, TextPurpose};
use tests::measure::{ms, percentile, setting};
use tests::session::Session;
use tests::world::World;

use crate::corpus;

/// Texts of one request, and requests at a time: more of either is not faster.
const TEXTS: usize = 64;
const CONNECTIONS: usize = 2;
/// What a chunk of these calls holds that no other does.
const CHARS_PER_CHUNK: usize = 630;
/// Texts of one measurement of the sidecar alone.
const SAMPLE: usize = 3_000;

pub fn measure() {
    let world = crate::world();
    let mut session = world.cluster.connect();
    let calls = corpus::calls();
    let chunks_wanted = setting("SALESAI_BENCH_CHUNKS", 20_000) as i64;
    // Makes the embedding set, so that its index is there as on every later day.
    session.run("select salesai.ingest_note('test', 'first', 'A note.')");
    wait_until_done(&mut session);
    // What there is to search is much the same idle and busy.
    backfill(&mut session, &calls, chunks_wanted);
    session.run("vacuum analyze");

    let (embed, search) = interactive(&world, || std::thread::sleep(Duration::from_secs(20)));
    let mut idle = (embed, search);
    let mut rates = Vec::new();
    let (embed, search) = interactive(&world, || {
        rates.push(backfill(&mut session, &calls, chunks_wanted));
    });
    let mut busy = (embed, search);
    println!("with interactive calls beside it: {:.1} chunks/s", rates[0]);
    for (name, idle, busy) in [
        ("embed", &mut idle.0, &mut busy.0),
        ("search", &mut idle.1, &mut busy.1),
    ] {
        let (quiet, loaded) = (percentile(idle, 0.95), percentile(busy, 0.95));
        println!(
            "interactive {name}: p50 {} idle, {} beside the backfill; p95 {} and {}: {:.2} times ({} and {} calls)",
            ms(percentile(idle, 0.5)),
            ms(percentile(busy, 0.5)),
            ms(quiet),
            ms(loaded),
            loaded.as_secs_f64() / quiet.as_secs_f64(),
            idle.len(),
            busy.len()
        );
    }
    alone(&world, &mut session, &calls, chunks_wanted);
}

/// Three backfills, each between two measurements of the sidecar alone on texts of the same chunks.
fn alone(world: &World, session: &mut Session, calls: &[String], chunks_wanted: i64) {
    let texts: Vec<String> = session.column(
        "select format(e'%s | %s\\n%s', heading, occurred_at::date, content) from salesai.chunk order by hashint8(id) limit $1",
        &[&(SAMPLE as i64)],
    );
    let (mut ratios, mut rates, mut peers) = (Vec::new(), Vec::new(), Vec::new());
    let mut before = sidecar_rate(world, &texts);
    for _ in 0..setting("SALESAI_BENCH_ROUNDS", 3) {
        session.run("delete from salesai.interaction");
        session.run("vacuum analyze");
        let rate = backfill(session, calls, chunks_wanted);
        let after = sidecar_rate(world, &texts);
        let peer = (before + after) / 2.0;
        println!(
            "backfill {rate:.1} chunks/s, sidecar alone {before:.1} before and {after:.1} after: {:.3}",
            rate / peer
        );
        rates.push(rate);
        peers.push(peer);
        ratios.push(rate / peer);
        before = after;
    }
    for (name, values) in [
        ("backfill, chunks/s", &mut rates),
        ("sidecar alone, texts/s", &mut peers),
        ("ratio", &mut ratios),
    ] {
        values.sort_by(f64::total_cmp);
        println!(
            "{name}: median {:.3} ({:.3} to {:.3})",
            values[values.len() / 2],
            values[0],
            values[values.len() - 1]
        );
    }
}

/// Chunks per second from the first row of a COPY until all are done, embedded and in the index.
fn backfill(session: &mut Session, calls: &[String], chunks_wanted: i64) -> f64 {
    let before: i64 = session.one("select count(*) from salesai.chunk", &[]);
    let start = Instant::now();
    let chars: usize = calls.iter().map(String::len).sum();
    let mut round = 0;
    while ((round * chars / CHARS_PER_CHUNK) as i64) < chunks_wanted {
        let lines: String = calls
            .iter()
            .enumerate()
            .map(|(number, call)| {
                let call = call.replace('\\', "\\\\").replace('\t', " ").replace('\n', "\\n");
                format!("call\tbackfill\t{start:?}-{round}-{number}\t{call}\tplain\tCall {number} of round {round}\n")
            })
            .collect();
        session.copy_in(
            "copy salesai.inbox (kind, source, external_id, content, format, subject) from stdin",
            &lines,
        );
        round += 1;
    }
    println!(
        "{} calls of {} MB in {:.1} s by COPY",
        round * calls.len(),
        round * chars / 1_000_000,
        start.elapsed().as_secs_f64()
    );
    wait_until_done(session);
    wait_until_indexed(session);
    let elapsed = start.elapsed();
    let chunks: i64 = session.one("select count(*) from salesai.chunk", &[]);
    println!(
        "{} chunks in {:.1} s",
        chunks - before,
        elapsed.as_secs_f64()
    );
    (chunks - before) as f64 / elapsed.as_secs_f64()
}

fn wait_until_done(session: &mut Session) {
    while !session.one::<bool>(
        "select pending + running = 0 from salesai.queue_status",
        &[],
    ) {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        session.one::<i64>("select failed from salesai.queue_status", &[]),
        0
    );
}

/// Few enough are left that search reads them one by one.
fn wait_until_indexed(session: &mut Session) {
    while !session.one::<bool>(
        "select bool_and(waiting < 256) from salesai.index_progress",
        &[],
    ) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let missing = "select count(*) from salesai.embedding_sets where state = 'active' and chunks <> embeddings";
    assert_eq!(session.one::<i64>(missing, &[]), 0);
}

/// Texts per second of the sidecar alone, asked as the worker asks it.
fn sidecar_rate(world: &World, texts: &[String]) -> f64 {
    let socket = world.sidecar.socket();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for part in texts.chunks(texts.len().div_ceil(CONNECTIONS)) {
            let socket = &socket;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                runtime.expect("a runtime").block_on(async {
                    let limit = Duration::from_secs(60);
                    let mut client = SidecarClient::connect(socket, limit)
                        .await
                        .expect("connect");
                    for texts in part.chunks(TEXTS) {
                        let request = EmbeddingRequest {
                            model: ModelChoice::Default,
                            texts: TextBatch::new(texts.to_vec(), limits::EMBED_TEXTS_MAX)
                                .expect("a batch"),
                            // Its fastest way: nobody has to be let in between.
                            priority: Priority::Interactive,
                            purpose: TextPurpose::Unspecified,
                            caller: String::new(),
                        };
                        client.embed(request, limit).await.expect("embed");
                    }
                });
            });
        }
    });
    texts.len() as f64 / start.elapsed().as_secs_f64()
}

/// Times of `embed` and `search`, in turn and ten a second, while `work` goes on.
fn interactive(world: &World, work: impl FnOnce()) -> (Vec<Duration>, Vec<Duration>) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut session = world.cluster.connect();
            let (mut embeds, mut searches) = (Vec::new(), Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                for (times, sql) in [
                    (
                        &mut embeds,
                        "select salesai.embed('Why is the pilot late?')",
                    ),
                    (
                        &mut searches,
                        "select * from salesai.search('Why is the pilot late?')",
                    ),
                ] {
                    let start = Instant::now();
                    session.run(sql);
                    times.push(start.elapsed());
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            (embeds, searches)
        });
        work();
        is_over.store(true, Ordering::Relaxed);
        calls.join().expect("the calls")
    })
}
