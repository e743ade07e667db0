//! Goal: the dense leg finds what comparing every vector finds, wherever a vector is: without a code yet, coded, changed
//! since or coded anew; also after deletions, under filters and row-level security, beside writers, and after a crash.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{DRAIN_LIMIT, drain};

/// Vectors of real notes, recombined and a little perturbed; a tenth of the chunks are a rep's own.
const LOAD: &str = "
    insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char, token_count,
        heading, content, content_hash, kind, occurred_at, account_id, owner_rep_id, language)
    select i.id, 1, n, 0, 0, 0, 1, 10, 'loaded', 'text ' || n, sha256(n::text::bytea), 'note', now(),
        case when n % 10 = 0 then a.id end, case when n % 10 = 0 then a.owner_rep_id end, 'en'
    from generate_series($1, $2) n
    join salesai.interaction i on i.external_id = 'loaded'
    join salesai.account a on a.external_id = 'own';
    insert into salesai.embedding_1 (chunk_id, embedding)
    select c.id, l2_normalize(one.embedding + other.embedding
        + array(select (random() - 0.5) * 0.1 + c.id * 0 from generate_series(1, 384))::vector)
    from salesai.chunk c
    join seed one on one.number = c.position % 24
    join seed other on other.number = c.position * 7 / 24 % 24
    where c.heading = 'loaded' and c.position between $1 and $2";

/// A cluster without a worker, or one that survives a crash, with notes and their vectors.
fn start(settings: &Settings) -> Cluster {
    let cluster = Cluster::start(settings);
    let mut session = cluster.connect();
    session.run(
        "select * from salesai.ingest_crm('test', 'rep', '[{\"external_id\": \"own\", \"name\": \"Rep\", \"email\": \"rep@a.example\"}]');
         select * from salesai.ingest_crm('test', 'account', '[{\"external_id\": \"own\", \"name\": \"Own\", \"owner\": \"own\"}]');
         create role own_rep login in role salesai_rep;
         insert into salesai.principal (role_name, rep_id, read_scope, can_write)
             select 'own_rep', id, 'own', false from salesai.rep where external_id = 'own'",
    );
    for word in [
        "plant", "price", "freeze", "legal", "review", "budget", "truck", "depot", "server",
        "contract", "renewal", "discount", "seat", "rollout", "security", "manager", "factory",
        "order", "invoice", "delay", "pilot", "quarter", "region", "support",
    ] {
        session.rows(
            "select salesai.ingest_note('test', $1, 'They spoke of the ' || $1 || ' and what comes of it.')",
            &[&word],
        );
    }
    if settings.worker {
        drain(&mut session);
    }
    while session.one::<i32>("select salesai.process(max_jobs => 500)", &[]) > 0 {}
    session.run(
        "create table seed as
             select row_number() over (order by chunk_id) - 1 as number, embedding from salesai.embedding_1;
         insert into salesai.interaction (source, external_id, kind, occurred_at, content_hash, properties)
             values ('test', 'loaded', 'note', now(), '', '{}')",
    );
    cluster
}

fn load(session: &mut Session, first: i32, last: i32) {
    session.run(&load_statements(first, last));
}

fn load_statements(first: i32, last: i32) -> String {
    let sql = LOAD.replace("$1", &first.to_string());
    sql.replace("$2", &last.to_string())
}

fn by_hand() -> Settings {
    Settings {
        worker: false,
        ..Settings::new(Sidecar::shared().socket())
    }
}

/// Twenty queries, for all chunks and for a tenth of them, as everybody and as the tenth's rep.
fn check(cluster: &Cluster, when: &str) {
    let mut session = cluster.connect();
    let mut rep = cluster.connect_as("own_rep");
    let account: i64 = session.one(
        "select id from salesai.account where external_id = 'own'",
        &[],
    );
    let own = format!("{{\"account_id\": {account}}}");
    let (mut found_count, mut expected_count) = (0, 0);
    for query in 0..20 {
        let query: Vec<f32> = session.one(
            "select l2_normalize(one.embedding + other.embedding)::real[] from seed one, seed other
             where one.number = $1 and other.number = ($1 * 5 + 3) % 24",
            &[&i64::from(query)],
        );
        for filters in ["{}", own.as_str()] {
            // Some are equally near, so what counts is how near those are that were found.
            let expected: Vec<f64> = session.column(
                "select 1 - (e.embedding <=> $1::real[]::vector) from salesai.embedding_1 e join salesai.chunk c on c.id = e.chunk_id
                 where $2::text::jsonb = '{}' or c.account_id = ($2::text::jsonb ->> 'account_id')::bigint
                 order by 1 desc limit 10",
                &[&query, &filters],
            );
            let hits = "select chunk_id, similarity from salesai.dense_hits(1, $1, $2::text::jsonb, null, 10)";
            let rows = session.rows(hits, &[&query, &filters]);
            let found: Vec<(i64, f32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
            assert_eq!(found.len(), expected.len(), "{when}");
            let farthest = expected.last().copied().unwrap_or_default() - 1e-6;
            found_count += found
                .iter()
                .filter(|(_, similarity)| f64::from(*similarity) >= farthest)
                .count();
            expected_count += expected.len();
            if filters != "{}" {
                let all = "{}";
                let rows = rep.rows(hits, &[&query, &all]);
                let seen: Vec<f32> = rows.iter().map(|row| row.get(1)).collect();
                let near: Vec<f32> = found.iter().map(|(_, similarity)| *similarity).collect();
                assert_eq!(
                    seen, near,
                    "{when}: what a rep may see is what is the account's"
                );
            }
        }
    }
    let recall = f64::from(found_count as u32) / f64::from(expected_count as u32);
    println!("measured: {when}: recall at 10 of {recall:.3}");
    assert!(recall >= 0.98, "{when}: {recall}");
    assert_eq!(all_hits(&mut session), vectors(&mut session), "{when}");
}

/// All that there is, found without a limit.
fn all_hits(session: &mut Session) -> Vec<i64> {
    session.column(
        "select h.chunk_id from seed s, salesai.dense_hits(1, s.embedding::real[], '{}', null, 1000000) h
         where s.number = 0 order by 1",
        &[],
    )
}

fn vectors(session: &mut Session) -> Vec<i64> {
    session.column("select chunk_id from salesai.embedding_1 order by 1", &[])
}

fn merge(session: &mut Session) {
    while session.one::<bool>("select salesai.merge_embedding_delta(1)", &[]) {}
}

/// Codes, and those of vectors that are not theirs any more.
fn counts(session: &mut Session) -> (i64, i64) {
    let row = session.row(
        "select code_count, stale_count from salesai.embedding_code_index",
        &[],
    );
    (row.get(0), row.get(1))
}

#[test]
fn finds_what_comparing_all_finds() {
    let cluster = start(&by_hand());
    let mut session = cluster.connect();
    check(&cluster, "nothing coded");
    load(&mut session, 1, 6000);
    merge(&mut session);
    assert_eq!(counts(&mut session), (6024, 0));
    check(&cluster, "all coded");
    load(&mut session, 6001, 6200);
    check(&cluster, "some new");
    session.run(
        "delete from salesai.chunk where heading = 'loaded' and position % 7 = 0;
         update salesai.embedding_1 e set embedding = s.embedding
         from salesai.chunk c, seed s
         where c.id = e.chunk_id and c.heading = 'loaded' and c.position % 11 = 0 and s.number = (c.position + 5) % 24",
    );
    check(&cluster, "some gone and some changed");
    merge(&mut session);
    let (coded, stale) = counts(&mut session);
    assert!(stale > 1000 && coded > 6200, "{coded} {stale}");
    check(&cluster, "changes merged");
    // What changes together with its code's renewal is not lost.
    let mut other = cluster.connect();
    other.run("begin");
    load(&mut other, 7001, 7100);
    let count: i64 = session.one("select salesai.code_embeddings(1)", &[]);
    assert_eq!(
        (count, counts(&mut session)),
        (vectors(&mut session).len() as i64, (count, 0))
    );
    other.run("commit");
    check(&cluster, "coded anew beside a writer");
    // Codes of many that are gone stand where the queries look.
    session.run(
        "insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char,
             token_count, heading, content, content_hash, kind, occurred_at, language)
         select i.id, 1, n, 0, 0, 0, 1, 10, 'alike', 'text', '', 'note', now(), 'en'
         from generate_series(100001, 103000) n join salesai.interaction i on i.external_id = 'loaded';
         insert into salesai.embedding_1 (chunk_id, embedding)
         select c.id, l2_normalize(one.embedding + other.embedding)
         from salesai.chunk c, seed one, seed other where c.heading = 'alike' and one.number = 0 and other.number = 3",
    );
    merge(&mut session);
    session.run("delete from salesai.chunk where heading = 'alike'");
    merge(&mut session);
    check(&cluster, "many alike gone");
    // Models need not scale their vectors.
    session.run("update salesai.embedding_1 set embedding = embedding * array_fill(6::real, array[384])::vector");
    session.run("select salesai.code_embeddings(1)");
    check(&cluster, "longer vectors");
    session.run("truncate salesai.embedding_1");
    assert_eq!(
        (all_hits(&mut session), counts(&mut session)),
        (Vec::new(), (0, 0))
    );
    session.run("delete from salesai.chunk");
    load(&mut session, 1, 300);
    merge(&mut session);
    check(&cluster, "begun anew");
}

/// Goal: chunks that a rep may not see take no place of his own among those that are named.
#[test]
fn hidden_chunks_take_no_place() {
    let cluster = start(&by_hand());
    let mut session = cluster.connect();
    load(&mut session, 1, 3000);
    hidden_chunks_are_passed_by(&cluster, &mut session);
    merge(&mut session);
    hidden_chunks_are_passed_by(&cluster, &mut session);
}

fn hidden_chunks_are_passed_by(cluster: &Cluster, session: &mut Session) {
    let query: Vec<f32> = session.one("select embedding::real[] from seed where number = 0", &[]);
    let own: i64 = session.one(
        "select max(id) from salesai.chunk where account_id is not null",
        &[],
    );
    for hidden in [10, 2500] {
        let mut among: Vec<i64> = session.column(
            "select e.chunk_id from salesai.embedding_1 e join salesai.chunk c on c.id = e.chunk_id
             where c.account_id is null order by e.embedding <=> $1::real[]::vector limit $2::bigint",
            &[&query, &i64::from(hidden)],
        );
        among.extend([own, own]);
        let mut rep = cluster.connect_as("own_rep");
        let dense = "select chunk_id from salesai.dense_hits(1, $1, '{}', $2, 1)";
        assert_eq!(rep.column::<i64>(dense, &[&query, &among]), [own]);
        let lexical = "select chunk_id from salesai.lexical_hits('{text}', '{}', '{}', $1, 1)";
        assert_eq!(rep.column::<i64>(lexical, &[&among]), [own]);
    }
}

/// Ends the others when its thread panics.
struct EndsOthers<'a>(&'a AtomicBool);

impl Drop for EndsOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Goal: writers, deletions and two who merge do not lose a vector, and nobody waits for long.
#[test]
fn writers_and_mergers_go_together() {
    let cluster = start(&by_hand());
    let mut session = cluster.connect();
    load(&mut session, 1, 2000);
    merge(&mut session);
    let is_over = AtomicBool::new(false);
    let first: i64 = vectors(&mut session).len() as i64;
    thread::scope(|scope| {
        // A transaction that has written reads each statement in a snapshot of its own.
        scope.spawn(|| {
            let mut session = cluster.connect();
            let mut searches = 0;
            while !is_over.load(Ordering::Relaxed) {
                session.run("begin; select pg_current_xact_id()");
                let found: i64 = session.one(
                    "select count(*) from seed s, salesai.dense_hits(1, s.embedding::real[], '{}', null, 1000000) h
                     join salesai.chunk c on c.id = h.chunk_id where s.number = 0 and c.position < 10000",
                    &[],
                );
                session.run("commit");
                assert_eq!(found, first, "search beside writers and mergers");
                searches += 1;
            }
            println!("{searches} searches");
        });
        for number in 0..2 {
            let (cluster, is_over) = (&cluster, &is_over);
            scope.spawn(move || {
                let mut session = cluster.connect();
                while !is_over.load(Ordering::Relaxed) {
                    merge(&mut session);
                    if number == 0 {
                        session.run("select salesai.code_embeddings(1)");
                    }
                }
            });
            scope.spawn(move || {
                let _ends_others = EndsOthers(is_over);
                let mut session = cluster.connect();
                session.run("set lock_timeout = '20s'");
                for round in 0..30 {
                    let first = 10_000 * (number + 1) + 50 * round;
                    load(&mut session, first, first + 49);
                    session.run(&format!(
                        "update salesai.embedding_1 e set embedding = s.embedding from salesai.chunk c, seed s
                         where c.id = e.chunk_id and c.position % 60 = {} and s.number = {}",
                        2 * round + number,
                        round % 24
                    ));
                    // In a transaction of its own: the other writer may have changed one of these.
                    session.run(&format!(
                        "delete from salesai.chunk where heading = 'loaded' and position between {first} and {first} + 9"
                    ));
                }
                if number == 1 {
                    is_over.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    merge(&mut session);
    check(&cluster, "after writers and mergers");
}

/// Goal: a server that dies while vectors come and are coded finds afterwards every vector; so does its standby.
#[test]
fn survives_a_crash() {
    let cluster = start(&Settings {
        durable: true,
        ..by_hand()
    });
    for round in 0..3 {
        let mut merging = cluster.connect();
        let merger = thread::spawn(move || {
            let mut count = 0;
            let steps = [
                "select salesai.merge_embedding_delta(1)",
                "select salesai.code_embeddings(1)",
            ];
            while steps.iter().all(|sql| merging.try_run(sql, &[]).is_ok()) {
                count += 1;
            }
            count
        });
        let mut writing = cluster.connect();
        let writer = thread::spawn(move || {
            let first = 100_000 * (round as i32 + 1);
            // Each statement is a transaction of its own: chunks without vectors may be left, and are no matter here.
            (0..)
                .take_while(|number| {
                    let sql = load_statements(first + 20 * number, first + 20 * number + 19);
                    let mut statements = sql.split(";\n");
                    statements.all(|sql| writing.try_run(sql, &[]).is_ok())
                })
                .count()
        });
        thread::sleep(Duration::from_millis(300 * (round + 1)));
        cluster.kill_all();
        let (merges, writes) = (
            merger.join().expect("the merging session ends"),
            writer.join().expect("the writing session ends"),
        );
        cluster.launch();
        println!("round {round}: killed after {merges} merges and {writes} writes");
        let mut session = cluster.connect();
        assert_eq!(all_hits(&mut session), vectors(&mut session));
        merge(&mut session);
        assert_eq!(all_hits(&mut session), vectors(&mut session));
    }
    let standby = cluster.standby();
    let mut session = standby.connect();
    assert!(session.one::<bool>("select pg_is_in_recovery()", &[]));
    assert_eq!(all_hits(&mut session), vectors(&mut session));
}

/// Goal: a set that is built is coded before it serves, also when nobody could code it on the way.
#[test]
fn a_new_set_is_coded_before_it_serves() {
    let cluster = start(&Settings::new(Sidecar::shared().socket()));
    let mut session = cluster.connect();
    load(&mut session, 1, 4500);
    let set: i64 = session.one("select salesai.reembed(template => '{content}')", &[]);
    let mut holder = cluster.connect();
    holder.run(&format!(
        "begin; select from salesai.embedding_code_index where set_id = {set} for update"
    ));
    wait_until("all is embedded", DRAIN_LIMIT, || {
        session.one::<bool>(
            "select not exists (select from salesai.missing_embeddings($1))",
            &[&set],
        )
    });
    let state = "select state || ' ' || index_progress from salesai.embedding_sets where id = $1";
    assert_eq!(session.one::<String>(state, &[&set]), "building 0");
    holder.run("commit");
    wait_until("the new set is active", DRAIN_LIMIT, || {
        session.one::<String>(state, &[&set]) == "active 1"
    });
    let coded: i64 = session.one(
        "select code_count from salesai.embedding_code_index where set_id = $1",
        &[&set],
    );
    assert_eq!(coded, 4524);
}

/// Goal: damage is said, with what to do; a set of before gets codes without a new embedding; nobody else may do that.
#[test]
fn damage_and_older_sets() {
    let cluster = start(&by_hand());
    let mut session = cluster.connect();
    load(&mut session, 1, 300);
    merge(&mut session);
    session
        .run("update salesai.embedding_1_codes set codes = substr(codes, 2) where ctid = '(0,1)'");
    let hits = "select count(*) from seed s, salesai.dense_hits(1, s.embedding::real[], '{}', null, 10) h where s.number = 0";
    session
        .refusal(hits, &[])
        .assert_is("XX002", "damaged codes");
    session.run("select salesai.code_embeddings(1)");
    check(&cluster, "after damage");
    session
        .refusal("select salesai.use_embedding_codes(1)", &[])
        .assert_is("55000", "has codes");
    session
        .refusal("select salesai.use_embedding_codes(9)", &[])
        .assert_is("P0002", "no such set");
    let short = "select salesai.dense_hits(1, '{1,2,3}', '{}', null, 10)";
    session
        .refusal(short, &[])
        .assert_is("22023", "another number of dimensions");

    // As an upgrade leaves it.
    session.run(
        "drop table salesai.embedding_1_codes;
         drop trigger note_added_embeddings on salesai.embedding_1;
         drop trigger note_changed_embeddings on salesai.embedding_1;
         drop trigger note_gone_embeddings on salesai.embedding_1;
         drop trigger note_truncated_embeddings on salesai.embedding_1;
         delete from salesai.embedding_code_index;
         delete from salesai.embedding_delta;
         update salesai.embedding_set set index_method = 'hnsw'",
    );
    let index: String = session.one(
        "select salesai.embedding_index_statement(1, online => false)",
        &[],
    );
    session.run(&index);
    check(&cluster, "by the graph");
    session.run("set role salesai_manager");
    session
        .refusal("select salesai.use_embedding_codes(1)", &[])
        .assert_is("42501", "a manager");
    session.run("reset role");
    let count: i64 = session.one("select salesai.use_embedding_codes(1)", &[]);
    assert_eq!(count, vectors(&mut session).len() as i64);
    assert!(session.one::<bool>(
        "select to_regclass('salesai.embedding_1_index') is null",
        &[]
    ));
    check(&cluster, "codes in the place of the graph");
}
