//! How long search takes, and how exact it is under filters and row-level security, beside the two queries that a careful
//! user would write by hand. The chunks are real ones (QMSum), recombined: the first half of one and the second half of
//! another, with the mean of their vectors, a little perturbed.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::config::shared_data;
use tests::measure::{ms, percentile, setting};
use tests::meetings;
use tests::session::Session;

use crate::by_hand;

/// Shares of the chunks that belong to an account of their own, and to its rep.
const SHARES: [(f64, &str); 5] = [
    (0.5, "half"),
    (0.1, "tenth"),
    (0.01, "hundredth"),
    (0.001, "thousandth"),
    (0.0001, "ten-thousandth"),
];
const MEETINGS: usize = 30;
const QUERIES: usize = 60;

const COMBINE: &str = "
    create temporary table base as
        select row_number() over (order by c.id) - 1 as number, c.heading, c.content, c.token_count, e.embedding,
            string_to_array(c.content, ' ') as words
        from salesai.chunk c join salesai.embedding_1 e on e.chunk_id = c.id;
    create index on base (number);
    analyze base;
    insert into salesai.interaction (source, external_id, kind, occurred_at, content_hash, properties)
        select 'speed', n::text, 'call', now() - make_interval(mins => n), '', '{}' from generate_series(0, ($1 - 1) / 100) n;
    create temporary table combined as
        select n, i.id as interaction_id, a.heading, a.token_count, a.embedding + b.embedding as embedding,
            array_to_string(a.words[1 : cardinality(a.words) / 2] || b.words[cardinality(b.words) / 2 + 1 :], ' ') as content,
            (random() * $1)::bigint as lot
        from generate_series(0, $1 - 1) n
        join salesai.interaction i on i.source = 'speed' and i.external_id = (n / 100)::text
        join base a on a.number = (n::bigint * 7919) % (select count(*) from base)
        join base b on b.number = (n::bigint * 104729 + 13) % (select count(*) from base)";

pub fn measure() {
    let Some(folder) = shared_data("qmsum", "qmsum") else {
        return;
    };
    let chunks = setting("SALESAI_BENCH_CHUNKS", 100_000);
    let world = crate::world();
    let mut session = world.cluster.connect();
    let queries: Vec<Value> = meetings::queries(&folder, "val");
    let mut ids: Vec<&str> = queries
        .iter()
        .filter_map(|query| query["meeting_id"].as_str())
        .collect();
    ids.dedup();
    for id in ids.iter().take(MEETINGS) {
        meetings::ingest(&mut session, &folder, "val", id);
    }
    crate::wait_for_index(&mut session);
    load(&mut session, chunks);
    let step = (queries.len() / QUERIES).max(1);
    let questions: Vec<String> = queries
        .iter()
        .step_by(step)
        .take(QUERIES)
        .filter_map(|query| Some(query["query"].as_str()?.to_owned()))
        .collect();
    compare(&mut session, &questions);
    filters(&mut session, &questions);
    for (_, name) in SHARES {
        let mut rep = world
            .cluster
            .connect_as(&format!("rep_{}", name.replace('-', "_")));
        as_rep(&mut rep, &mut session, &questions, name);
    }
    upkeep(&mut session, &questions);
}

fn load(session: &mut Session, chunks: u64) {
    session.run("set maintenance_work_mem = '4GB'; set max_parallel_maintenance_workers = 1");
    session.run("select setseed(0.5)");
    for statement in COMBINE.replace("$1", &chunks.to_string()).split(";\n") {
        session.run(statement);
    }
    for (_, name) in SHARES {
        let role = name.replace('-', "_");
        session.run(&format!(
            "select * from salesai.ingest_crm('speed', 'rep', '[{{\"external_id\": \"{name}\", \"name\": \"Rep {name}\", \"email\": \"{role}@a.example\"}}]');
             select * from salesai.ingest_crm('speed', 'account', '[{{\"external_id\": \"{name}\", \"name\": \"Account {name}\", \"owner\": \"{name}\"}}]');
             create role rep_{role} login in role salesai_rep;
             insert into salesai.principal (role_name, rep_id, read_scope, can_write)
                 select 'rep_{role}', id, 'own', false from salesai.rep where external_id = '{name}'"
        ));
    }
    let mut case = String::new();
    let mut border = 0.0;
    for (share, name) in SHARES.iter().rev() {
        border += share * chunks as f64;
        case.push_str(&format!(" when lot < {border} then '{name}'"));
    }
    let start = Instant::now();
    session.run(&format!(
        "insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char,
             token_count, heading, content, content_hash, kind, occurred_at, account_id, owner_rep_id, language)
         select c.interaction_id, 1, c.n % 100, 0, 0, 0, 1, c.token_count, c.heading, c.content,
             sha256(convert_to(c.content || c.n, 'UTF8')), 'call', i.occurred_at, a.id, a.owner_rep_id, 'en'
         from combined c
         join salesai.interaction i on i.id = c.interaction_id
         left join salesai.account a on a.source = 'speed' and a.external_id = case{case} end
         order by c.n"
    ));
    let inserted = start.elapsed();
    session.run(
        "insert into salesai.embedding_1 (chunk_id, embedding)
         select k.id, l2_normalize(c.embedding + array(
             select (random() - 0.5) * 0.1 + c.n * 0 from generate_series(1, 384))::vector)
         from combined c join salesai.chunk k on k.interaction_id = c.interaction_id and k.position = c.n % 100
         on conflict do nothing",
    );
    let start = Instant::now();
    crate::wait_for_index(session);
    let indexed = start.elapsed();
    let start = Instant::now();
    session.run(
        "create index by_hand_hnsw on salesai.embedding_1 using hnsw (embedding vector_cosine_ops)",
    );
    let hnsw = start.elapsed();
    session.run("create index by_hand on salesai.chunk using gin (lexemes)");
    session.run("vacuum analyze salesai.chunk");
    session.run("vacuum analyze salesai.embedding_1");
    session.run("vacuum analyze salesai.embedding_1_codes");
    session.run("vacuum analyze salesai.posting_list");
    let count: i64 = session.one("select count(*) from salesai.chunk", &[]);
    let sizes = session.row(
        "select pg_size_pretty(pg_total_relation_size('salesai.posting_list')), pg_size_pretty(pg_relation_size('salesai.by_hand')),
             pg_size_pretty(pg_relation_size('salesai.by_hand_hnsw')), count(*),
             pg_size_pretty(pg_table_size('salesai.embedding_1_codes')) from salesai.lexical_segment",
        &[],
    );
    println!(
        "{count} chunks, inserted in {inserted:.0?}; codes and lexical index complete {indexed:.0?} later; \
         codes {}, posting lists {} in {} segments; for the queries by hand HNSW {}, built in {hnsw:.0?}, and GIN {}\n",
        sizes.get::<_, String>(4),
        sizes.get::<_, String>(0),
        sizes.get::<_, i64>(3),
        sizes.get::<_, String>(2),
        sizes.get::<_, String>(1)
    );
}

/// Hybrid search and the hand-written queries in turn.
fn compare(session: &mut Session, questions: &[String]) {
    let mut times: [Vec<Duration>; 4] = Default::default();
    let by_hand = by_hand::query(10);
    // Once, so that both find what they need in memory.
    for is_measured in [false, true] {
        for question in questions {
            let embedding: Vec<f32> = session.one("select salesai.embed($1)::real[]", &[question]);
            let embed = time(|| session.rows("select salesai.embed($1)", &[question]).len());
            let ours = time(|| {
                session
                    .rows("select * from salesai.search($1)", &[question])
                    .len()
            });
            let lexical = time(|| {
                session
                    .rows(
                        "select * from salesai.search($1, mode => 'lexical')",
                        &[question],
                    )
                    .len()
            });
            let theirs = time(|| session.rows(&by_hand, &[question, &embedding]).len());
            if is_measured {
                times[0].push(ours.saturating_sub(embed));
                times[1].push(lexical);
                times[2].push(theirs);
                times[3].push(embed);
            }
        }
    }
    println!("| query | p50 | p95 |\n|---|---|---|");
    let names = [
        "hybrid, without the query's embedding",
        "lexical leg alone",
        "by hand, vector given",
        "the query's embedding",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        println!(
            "| {name} | {} | {} |",
            ms(percentile(times, 0.5)),
            ms(percentile(times, 0.95))
        );
    }
    let ratio = |at: usize, share: f64, times: &mut [Vec<Duration>; 4]| {
        percentile(&mut times[2], share).as_secs_f64()
            / percentile(&mut times[at], share).as_secs_f64()
    };
    println!(
        "\nhybrid is {:.1} times as fast as by hand at p50, {:.1} times at p95",
        ratio(0, 0.5, &mut times),
        ratio(0, 0.95, &mut times)
    );
}

fn filters(session: &mut Session, questions: &[String]) {
    println!(
        "\n| chunks that qualify | rows of 10 | recall@10 of the dense leg | p50 | p95 |\n|---|---|---|---|---|"
    );
    report(session, questions, "all, no filter", "");
    for (_, name) in SHARES {
        report(
            session,
            questions,
            &format!("a {name}, by account"),
            &format!(", account => '{name}'"),
        );
    }
}

fn report(session: &mut Session, questions: &[String], title: &str, filter: &str) {
    let exact = |question: &str, session: &mut Session| -> Vec<i64> {
        let condition = match filter.split('\'').nth(1) {
            Some(account) => format!(
                "c.account_id = (select id from salesai.account where external_id = '{account}')"
            ),
            None => "true".to_owned(),
        };
        session.column(
            &format!(
                "select e.chunk_id from salesai.embedding_1 e join salesai.chunk c on c.id = e.chunk_id, salesai.embed($1) q
                 where {condition} order by (e.embedding <=> q) + 0, 1 limit 10"
            ),
            &[&question],
        )
    };
    let (mut rows, mut expected_rows, mut recall, mut times) = (0, 0, 0.0, Vec::new());
    for question in questions {
        let expected = exact(question, session);
        let found: Vec<i64> = session.column(
            &format!("select chunk_id from salesai.search($1, mode => 'dense', understand => false{filter})"),
            &[question],
        );
        let same = found.iter().filter(|id| expected.contains(id)).count();
        recall += same as f64 / expected.len().max(1) as f64;
        let search = format!("select * from salesai.search($1, understand => false{filter})");
        let embed = time(|| session.rows("select salesai.embed($1)", &[question]).len());
        let start = Instant::now();
        rows += session.rows(&search, &[question]).len();
        times.push(start.elapsed().saturating_sub(embed));
        expected_rows += expected.len();
    }
    println!(
        "| {title} | {:.2} of {:.2} | {:.3} | {} | {} |",
        rows as f64 / questions.len() as f64,
        expected_rows as f64 / questions.len() as f64,
        recall / questions.len() as f64,
        ms(percentile(&mut times, 0.5)),
        ms(percentile(&mut times, 0.95))
    );
}

/// The same where row-level security leaves so many.
fn as_rep(rep: &mut Session, session: &mut Session, questions: &[String], name: &str) {
    let owned: i64 = session.one(
        "select count(*) from salesai.chunk c join salesai.rep r on r.id = c.owner_rep_id where r.external_id = $1",
        &[&name],
    );
    let (mut rows, mut strangers, mut times) = (0, 0, Vec::new());
    for question in questions {
        let embed = time(|| session.rows("select salesai.embed($1)", &[question]).len());
        let mut found: Vec<i64> = Vec::new();
        let total = time(|| {
            found = rep.column(
                "select chunk_id from salesai.search($1, understand => false)",
                &[question],
            );
            found.len()
        });
        times.push(total.saturating_sub(embed));
        rows += found.len();
        strangers += session.one::<i64>(
            "select count(*) from salesai.chunk c left join salesai.rep r on r.id = c.owner_rep_id
             where c.id = any ($1) and r.external_id is distinct from $2",
            &[&found, &name],
        );
    }
    println!(
        "| a {name} ({owned}), by row-level security | {:.2} | {strangers} of others | {} | {} |",
        rows as f64 / questions.len() as f64,
        ms(percentile(&mut times, 0.5)),
        ms(percentile(&mut times, 0.95))
    );
}

/// What it takes when a tenth of the interactions goes, and search before and after its codes and rows are cleared up.
fn upkeep(session: &mut Session, questions: &[String]) {
    session.run("drop index salesai.by_hand; drop index salesai.by_hand_hnsw");
    let indexes = "select pg_size_pretty(pg_table_size('salesai.embedding_1_codes')) || ', '
        || pg_size_pretty(pg_total_relation_size('salesai.posting_list'))";
    println!("\n| upkeep | time | codes, posting lists |\n|---|---|---|");
    let steps = [
        (
            "a tenth of the interactions is deleted",
            "delete from salesai.interaction where source = 'speed' and external_id like '%7'",
        ),
        ("vacuum of chunks", "vacuum salesai.chunk"),
        ("vacuum of vectors", "vacuum salesai.embedding_1"),
        ("all codes made anew", "select salesai.code_embeddings(1)"),
        ("vacuum of codes", "vacuum salesai.embedding_1_codes"),
        (
            "lexical index made anew: queued",
            "select salesai.rebuild_lexical_index()",
        ),
    ];
    for (step, statement) in steps {
        let start = Instant::now();
        session.run(statement);
        let took = start.elapsed();
        let sizes: String = session.one(indexes, &[]);
        println!("| {step} | {took:.1?} | {sizes} |");
        if step.starts_with("a tenth") {
            crate::wait_for_index(session);
        }
    }
    let start = Instant::now();
    crate::wait_for_index(session);
    let took = start.elapsed();
    session.run("vacuum salesai.posting_list");
    let sizes: String = session.one(indexes, &[]);
    let left: i64 = session.one("select count(*) from salesai.chunk", &[]);
    println!("| and merged, of {left} chunks | {took:.1?} | {sizes} |");
    println!(
        "\n| search | rows of 10 | recall@10 of the dense leg | p50 | p95 |\n|---|---|---|---|---|"
    );
    report(session, questions, "all, after that", "");
}

fn time(work: impl FnOnce() -> usize) -> Duration {
    let start = Instant::now();
    let _ = work();
    start.elapsed()
}
