//! Goal: the lexical leg finds what scoring every chunk by BM25 finds, wherever a chunk is: in no segment yet, in one, in
//! one that was made of others; also after deletions, under filters and row-level security, and for whatever a user
//! writes.

use std::thread;
use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{self, DRAIN_LIMIT, World, drain, wait_until_running};

/// BM25 as its paper has it (k1 1.2, b 0.75), of every chunk that the caller may see; statistics are of all chunks.
const BY_DEFINITION: &str = "
    with word as (
        select c.id, u.lexeme, cardinality(u.positions) as frequency, l.length
        from every_chunk c
        cross join lateral (
            select coalesce(sum(cardinality(array_positions(w.weights, 'A'))), 0)::float8 as length from unnest(c.lexemes) w) l
        cross join lateral unnest(c.lexemes) u),
    usual as (
        select count(*)::float8 as chunks, avg(length) as length from (select distinct id, length from word) d),
    rare as (
        select w.lexeme, ln(1 + (u.chunks - count(*) + 0.5) / (count(*) + 0.5)) as idf
        from word w cross join usual u group by w.lexeme, u.chunks)
    select w.id, sum(r.idf * w.frequency / (w.frequency + 1.2 * (0.25 + 0.75 * w.length / u.length)))::float8 as score
    from word w join rare r using (lexeme) cross join usual u
    where w.lexeme in (
        select unnest(tsvector_to_array(to_tsvector(l.configuration::regconfig, $1))) from salesai.lexical_language l)
      and w.id in (select c.id from salesai.chunk c where $2::text is null or c.kind = $2)
    group by w.id order by score desc, w.id limit 20";

const BY_INDEX: &str = "
    select h.chunk_id, (r.lexical_score)::float8
    from salesai.search($1, 20, kinds => case when $2::text is null then null else array[$2] end, mode => 'lexical')
         with ordinality h
    join salesai.ranked_chunks($1, 20, case when $2::text is null then '{}' else jsonb_build_object('kinds', array[$2]::text) end,
        '{\"mode\": \"lexical\", \"alpha\": 0, \"rrf_k\": 60, \"fusion\": \"rank\"}') r on r.chunk_id = h.chunk_id
    order by r.lexical_rank";

#[test]
fn ranks_as_bm25_by_definition() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    load(&mut session, 0..150);
    compare(&mut session, "all of it is new");
    // Segments of a few chunks each, then of those, twice.
    for round in 0..8 {
        load(&mut session, 150 + 40 * round..190 + 40 * round);
        while session.one::<bool>("select salesai.merge_lexical_delta(1)", &[]) {}
        session.run("select salesai.merge_lexical_segments()");
    }
    load(&mut session, 1000..1020);
    let segments: i64 = session.one("select count(*) from salesai.lexical_segment", &[]);
    println!("{segments} segments");
    compare(&mut session, "in segments, and some new");
    session.run("delete from salesai.interaction where id % 3 = 0");
    session.run("select salesai.rebuild_lexical_index()");
    for _ in 0..3 {
        // One segment for each few chunks.
        session.run("select salesai.merge_lexical_delta(1)");
    }
    compare(&mut session, "made anew after deletions");
    session.run("set role salesai_rep");
    assert_eq!(
        session.column::<i64>(
            "select chunk_id from salesai.search('plant', mode => 'lexical')",
            &[]
        ),
        Vec::<i64>::new(),
        "a rep without accounts"
    );
}

/// Goal: merging keeps what is there and drops what is gone, over several levels; two who merge do not collide.
#[test]
fn merging_keeps_every_chunk() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    for round in 0..72 {
        load(&mut session, 2 * round..2 * round + 2);
        assert!(session.one::<bool>("select salesai.merge_lexical_delta(1)", &[]));
        while session.one::<bool>("select salesai.merge_lexical_segments()", &[]) {}
    }
    let sizes: Vec<i64> = session.column(
        "select chunk_count from salesai.lexical_segment order by 1",
        &[],
    );
    assert_eq!(sizes.iter().sum::<i64>(), 144, "{sizes:?}");
    assert!(sizes.len() <= 9, "{sizes:?}");
    compare(&mut session, "merged twice");
    session.run("delete from salesai.interaction where id % 2 = 0");
    // Somebody else is at it: nothing is done, and nobody waits.
    let mut other = cluster.connect();
    other.run("begin; select salesai.rebuild_lexical_index()");
    load(&mut session, 500..510);
    session.run("set lock_timeout = '5s'");
    assert!(!session.one::<bool>("select salesai.merge_lexical_delta(1)", &[]));
    assert!(!session.one::<bool>("select salesai.merge_lexical_segments()", &[]));
    other.run("rollback");
    for round in 0..8 {
        load(&mut session, 600 + round..601 + round);
        session.run("select salesai.merge_lexical_delta(1)");
    }
    while session.one::<bool>("select salesai.merge_lexical_segments()", &[]) {}
    compare_with_deleted(&mut session);
}

/// Goal: chunks that come without jobs are all merged once workers are awake, however many there are.
#[test]
fn workers_merge_all_that_waits() {
    let cluster = world::cluster(true);
    let mut session = cluster.connect();
    session.run("select salesai.ingest_note('test', 'n', 'A note.')");
    drain(&mut session);
    // Nobody looks again by himself while the test waits.
    session.run("alter system set salesai.worker_poll_ms = 60000");
    session.run("select pg_reload_conf()");
    insert_chunks(&mut session, 13_000);
    session.run("select salesai.wake_worker()");
    wait_until("all chunks are merged", Duration::from_secs(30), || {
        session.one::<i64>("select count(*) from salesai.lexical_delta", &[]) < 256
    });
}

/// Goal: what a batch stored is merged before the batch goes on, since search reads each chunk that is in no segment.
#[test]
fn batches_merge_as_they_go() {
    let world = World::start();
    let mut session = world.cluster.connect();
    session.run("select salesai.ingest_note('test', 'n', 'A note.')");
    drain(&mut session);
    session.run("alter system set salesai.workers_per_database = 1");
    session.run("alter system set salesai.worker_poll_ms = 60000");
    session.run("select pg_reload_conf()");
    session.run("select salesai.pause()");
    // A group of its own each.
    let long = "The plant wants the pilot before the audit. ".repeat(1600);
    for key in ["first", "second"] {
        session.rows("select salesai.ingest_note('test', $1, $2)", &[&key, &long]);
    }
    session.run("select salesai.resume()");
    // From here on the worker does not rest until both are done.
    wait_until_running(&mut session);
    insert_chunks(&mut session, 600);
    let waiting = "select pending + running from salesai.queue_status";
    wait_until("the first one is stored", DRAIN_LIMIT, || {
        session.one::<i64>(waiting, &[]) == 1
    });
    world.sidecar.pause();
    wait_until("the chunks are merged", Duration::from_secs(30), || {
        session.one::<i64>("select count(*) from salesai.lexical_delta", &[]) < 256
    });
    assert_eq!(session.one::<i64>(waiting, &[]), 1, "the second one waits");
    world.sidecar.resume();
    drain(&mut session);
}

/// Goal: a server that dies while chunks come and segments are merged finds afterwards every chunk, once.
#[test]
fn survives_a_crash() {
    let settings = Settings {
        durable: true,
        ..Settings::new(Sidecar::shared().socket())
    };
    let cluster = Cluster::start(&settings);
    for round in 0..3 {
        let mut session = cluster.connect();
        ingest(&mut session, 60 * round..60 * round + 60);
        let mut merging = cluster.connect();
        let merger = thread::spawn(move || {
            let merges = [
                "select salesai.merge_lexical_delta(1)",
                "select salesai.merge_lexical_segments()",
            ];
            let mut count = 0;
            while merges.iter().all(|sql| merging.try_run(sql, &[]).is_ok()) {
                count += 1;
            }
            count
        });
        wait_until_running(&mut session);
        thread::sleep(Duration::from_millis(200 * (round as u64 + 1)));
        cluster.kill_all();
        let merges = merger.join().expect("the merging session ends");
        cluster.launch();
        let mut session = cluster.connect();
        let left: i64 = session.one("select count(*) from salesai.job", &[]);
        println!("round {round}: killed after {merges} merges, with {left} jobs left");
        drain(&mut session);
        let chunks: i64 = session.one("select count(*) from salesai.chunk", &[]);
        assert_eq!(chunks, 60 * (round as i64 + 1));
        compare(&mut session, "after a crash");
    }
}

/// Goal: whatever is written finds something or nothing, and quotes, minus and star do what they say, in both legs.
#[test]
fn queries_are_understood() {
    let cluster = world::cluster(true);
    let mut session = cluster.connect();
    for (key, body) in [
        ("a", "The spending freeze at the plant ends in May."),
        ("b", "They freeze all spending on legal review."),
        ("c", "Negotiation of the price list went on."),
        ("d", "They negotiated a freeze of prices."),
    ] {
        session.run(&format!(
            "select salesai.ingest_note('test', '{key}', '{body}')"
        ));
    }
    drain(&mut session);
    let mut found = |query: &str, mode: &str| -> String {
        session.one(
            "select coalesce(string_agg(i.external_id, '' order by i.external_id), '')
             from salesai.search($1, mode => $2) h join salesai.interaction i on i.id = h.interaction_id",
            &[&query, &mode],
        )
    };
    assert_eq!(found("freeze", "lexical"), "abd");
    assert_eq!(found("negotia*", "lexical"), "cd");
    for mode in ["lexical", "hybrid", "dense"] {
        assert_eq!(found("\"spending freeze\"", mode), "a", "{mode}");
        assert_eq!(
            found("freeze -legal -prices", mode).replace('c', ""),
            "a",
            "{mode}"
        );
        assert_eq!(found("-freeze", mode), "", "{mode}");
    }
    for query in [
        "the",
        "& | ! ( ) :* <->",
        "'; drop table x; --",
        "\"",
        "\\",
        "%",
        "ß ñ 日本",
    ] {
        let _ = found(query, "lexical");
    }
}

/// Goal: words are stemmed by the language of what they stand in.
#[test]
fn languages_have_their_stems() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    session.run(
        "select salesai.ingest_note('test', 'de', 'Die Verhandlungen mit dem Kunden über die neuen Preise für das Werk
            in Hamburg wurden gestern von beiden Seiten ohne Ergebnis abgebrochen, weil die Rechnungen noch offen sind.')",
    );
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    let language: String = session.one("select language from salesai.chunk", &[]);
    assert_eq!(language, "de");
    let found: i64 = session.one(
        "select count(*) from salesai.search('Verhandlung Rechnung', mode => 'lexical')",
        &[],
    );
    assert_eq!(found, 1);
}

const WORDS: [&str; 24] = [
    "plant", "price", "freeze", "legal", "review", "budget", "truck", "depot", "server",
    "contract", "renewal", "discount", "seat", "rollout", "security", "manager", "factory",
    "order", "invoice", "delay", "pilot", "quarter", "region", "support",
];

/// Notes of words, some of which are much more frequent than others.
fn load(session: &mut Session, keys: std::ops::Range<usize>) {
    ingest(session, keys);
    while session.one::<i32>("select salesai.process(max_jobs => 500)", &[]) > 0 {}
}

fn ingest(session: &mut Session, keys: std::ops::Range<usize>) {
    for key in keys {
        let count = 5 + key * 7 % 40;
        let words: Vec<&str> = (0..count)
            .map(|place| {
                WORDS[(key * 31 + place * place * 7 + place) % 24 * (1 + (key + place) % 3) / 3]
            })
            .collect();
        session.rows(
            "select salesai.ingest_note('test', $1, $2)",
            &[&key.to_string(), &words.join(" ")],
        );
    }
}

/// Chunks that come without jobs.
fn insert_chunks(session: &mut Session, count: i32) {
    session.rows(
        "insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char,
             token_count, heading, content, content_hash, kind, occurred_at)
         select i.id, 1, n, 0, 0, 0, 1, 3, '', 'plant ' || n, sha256(n::text::bytea), 'note', now()
         from salesai.interaction i, generate_series(1, $1::int) n where i.external_id = 'n'",
        &[&count],
    );
}

fn compare(session: &mut Session, when: &str) {
    session.run("drop view if exists every_chunk; create view every_chunk as select id, lexemes from salesai.chunk");
    compare_scores(session, when, 1e-4);
}

/// Statistics still have the dead, until their segments are merged: scores differ, what is found does not.
fn compare_with_deleted(session: &mut Session) {
    session.run("drop view if exists every_chunk; create view every_chunk as select id, lexemes from salesai.chunk");
    compare_scores(session, "after deletions", f64::INFINITY);
}

fn compare_scores(session: &mut Session, when: &str, tolerance: f64) {
    for (number, word) in WORDS.iter().enumerate() {
        for (query, kind) in [
            ((*word).to_owned(), None),
            (
                format!(
                    "{word} {} {}",
                    WORDS[(number + 5) % 24],
                    WORDS[(number + 11) % 24]
                ),
                None,
            ),
            (format!("{word} price"), Some("note")),
            (format!("{word} price"), Some("call")),
        ] {
            let scores = |session: &mut Session, sql: &str| -> Vec<(i64, f64)> {
                let rows = session.rows(sql, &[&query, &kind]);
                rows.iter().map(|row| (row.get(0), row.get(1))).collect()
            };
            let (expected, found) = (scores(session, BY_DEFINITION), scores(session, BY_INDEX));
            assert_eq!(expected.len(), found.len(), "{when}: {query}");
            for ((_, expected), (_, found)) in expected.iter().zip(&found) {
                assert!(
                    (expected - found).abs() <= tolerance * expected,
                    "{when}: {query}: {expected} {found}"
                );
            }
        }
    }
}
