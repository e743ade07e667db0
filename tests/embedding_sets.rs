//! An edit embeds what it changed and no more; models change while search goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::measure::wait_until;
use tests::meetings::turn_lines;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::small_bert;
use tests::world::{self, DRAIN_LIMIT, assert_settled, drain};

const SMALL: &str = "small-bert";
const SEARCH: &str = "select string_agg(chunk_id::text, ' ' order by score desc, chunk_id)
    from salesai.search('spending freeze at the plant', k => 5, account => 'Acme', mode => 'dense')";

/// Goal: one sentence of a call of an hour is edited; at most two chunks are embedded again, all others keep their
/// rows, and search finds the new text.
#[test]
fn an_edit_embeds_two_chunks() {
    let cluster = world::cluster(true);
    let mut session = cluster.connect();
    // About an hour at 150 words a minute.
    let sentences: Vec<String> = (0..700)
        .map(|number| {
            let speaker = if number / 4 % 2 == 0 { "Ana" } else { "Ben" };
            format!("{speaker}: This is remark number {number}, about step {} of the plan for plant {}.", number * 7 % 90, number % 13)
        })
        .collect();
    edit_line(&mut session, "made-up", sentences, 333);
    // One turn of 15,000 characters, changed near its beginning, where longer words move all the rest.
    let talk: Vec<String> = (0..200)
        .map(|number| {
            format!(
                "This is remark number {number}, about step {} of the whole plan for it.",
                number * 7 % 90
            )
        })
        .collect();
    let talk = format!("Ana: {}", talk.join(" "));
    let changed = talk.replace(
        "number 3, about",
        "number 3, which is about a purple giraffe and about",
    );
    edit(&mut session, "talk", &talk, &changed);
    let Some(dir) = shared_data("an_edit_embeds_two_chunks", "qmsum") else {
        return;
    };
    let turns = turn_lines(&dir.join("val/education_10.json"));
    // A turn of one sentence.
    let is_short = |turn: &String| turn.len() < 200;
    let middle = turns.len() / 2;
    let edited = middle
        + turns[middle..]
            .iter()
            .position(is_short)
            .expect("a short turn");
    edit_line(&mut session, "meeting", turns, edited);
}

fn edit_line(session: &mut Session, key: &str, mut lines: Vec<String>, edited: usize) {
    let before = lines.join("\n");
    let speaker = lines[edited].split(':').next().expect("a speaker");
    lines[edited] = format!("{speaker}: A purple giraffe was never mentioned before.");
    edit(session, key, &before, &lines.join("\n"));
}

fn edit(session: &mut Session, key: &str, before: &str, after: &str) {
    let ingest = "select salesai.ingest_call('test', $1, $2, 'plain')";
    let id: i64 = session.one(ingest, &[&key, &before]);
    drain(session);
    let before: Vec<i64> = chunks(session, id);
    assert_eq!(session.one::<i64>(ingest, &[&key, &after]), id);
    drain(session);
    assert_settled(session);
    let after: Vec<i64> = chunks(session, id);
    let new = after.iter().filter(|chunk| !before.contains(chunk)).count();
    println!(
        "measured: {key}: an edit embeds {new} of {} chunks again",
        after.len()
    );
    assert!(
        (1..=2).contains(&new),
        "{new} of {} chunks are new",
        after.len()
    );
    let found: String = session.one(
        "select content from salesai.search('purple giraffe', k => 1, mode => 'dense')",
        &[],
    );
    assert!(found.contains("purple giraffe"), "{found}");
    session.run("delete from salesai.interaction");
}

fn chunks(session: &mut Session, interaction: i64) -> Vec<i64> {
    session.column(
        "select id from salesai.chunk where interaction_id = $1 order by position",
        &[&interaction],
    )
}

/// Goal: another model, of other dimensions, takes over while searches run and notes arrive. Every search answers as
/// one of the two models does, never less; then the way back, and forth again.
#[test]
fn the_model_changes_while_search_goes_on() {
    let sidecar = Sidecar::start_with_model(SMALL, small_bert::write());
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    load(&mut session);
    let old_answer: String = session.one(SEARCH, &[]);
    let is_over = AtomicBool::new(false);
    let (new_set, answers) = std::thread::scope(|scope| {
        let searches = scope.spawn(|| search_until(&cluster, &is_over));
        session.run("select salesai.pause()");
        let new_set: i64 = session.one("select salesai.reembed($1)", &[&SMALL]);
        refusals(&mut session);
        session.run("select salesai.resume()");
        for key in 0..30 {
            session.run(&format!(
                "select salesai.ingest_note('late', '{key}', 'Note {key} came while it was built.')"
            ));
        }
        wait_for_state(&mut session, new_set, "active");
        drain(&mut session);
        is_over.store(true, Ordering::Relaxed);
        (new_set, searches.join().expect("the searches"))
    });
    assert_settled(&mut session);
    let new_answer: String = session.one(SEARCH, &[]);
    assert_ne!(
        old_answer, new_answer,
        "the models rank alike, so this shows nothing"
    );
    println!(
        "measured: {} searches while the model changed",
        answers.len()
    );
    assert!(answers.len() > 10);
    for answer in &answers {
        assert!(*answer == old_answer || *answer == new_answer, "{answer}");
    }
    check_sets(&mut session, new_set);

    // The old set lacks the notes that came since: it is filled, and search goes on with the new one.
    let old_set: i64 = session.one(
        "select id from salesai.embedding_set where state = 'retired'",
        &[],
    );
    session.run("select salesai.ingest_note('late', 'last', 'One more note.')");
    drain(&mut session);
    let state: String = session.one("select salesai.activate_embedding_set($1)", &[&old_set]);
    assert_eq!(state, "building");
    wait_for_state(&mut session, old_set, "active");
    assert_settled(&mut session);
    assert_eq!(session.one::<String>(SEARCH, &[]), old_answer);
    // Nothing came meanwhile, so the way forth is one transaction.
    session.run("begin");
    let state: String = session.one("select salesai.activate_embedding_set($1)", &[&new_set]);
    assert_eq!(state, "active");
    assert_eq!(session.one::<String>(SEARCH, &[]), new_answer);
    session.run("rollback");
    assert_eq!(session.one::<String>(SEARCH, &[]), old_answer);
    session.run(&format!("select salesai.drop_embedding_set({new_set})"));
    let gone: bool = session.one(
        "select to_regclass($1) is null",
        &[&format!("salesai.embedding_{new_set}")],
    );
    assert!(gone);
}

/// Goal: the same by hand, where no worker runs, with half precision and a template, and only when told to switch.
#[test]
fn a_set_is_built_by_hand() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    for key in 0..300 {
        session.run(&format!(
            "select salesai.ingest_note('test', '{key}', 'Note {key} of the plant.')"
        ));
    }
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    session.run(
        "set salesai.embedding_element = 'halfvec'; set salesai.embedding_index = 'hnsw';
         set salesai.hnsw_m = 8; set salesai.hnsw_ef_construction = 32",
    );
    let set: i64 = session.one(
        "select salesai.reembed(template => '{kind} of {date}: {content}', activate => false)",
        &[],
    );
    // Two ranges of chunks, and the index.
    for expected in [(0, 3, 0.0), (256, 2, 0.0), (300, 1, 0.0), (300, 0, 1.0)] {
        assert_eq!(progress(&mut session, set), expected);
        let has_eta = "select eta_s is not null from salesai.embedding_sets where id = $1";
        let is_filling = expected.0 > 0 && expected.1 > 0;
        assert_eq!(session.one::<bool>(has_eta, &[&set]), is_filling);
        session.run("select salesai.process(max_jobs => 1)");
    }
    wait_for_state(&mut session, set, "ready");
    let index: String = session.one(
        "select pg_get_indexdef(to_regclass($1))",
        &[&format!("salesai.embedding_{set}_index")],
    );
    assert!(
        index.contains("halfvec_cosine_ops")
            && index.contains("m='8'")
            && index.contains("ef_construction='32'"),
        "{index}"
    );
    // What comes now goes into both.
    session.run("select salesai.ingest_note('test', 'late', 'A late note.')");
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    let state: String = session.one("select salesai.activate_embedding_set($1)", &[&set]);
    assert_eq!(state, "active");
    assert_settled(&mut session);
    let found: String = session.one(
        "select content from salesai.search('late note', k => 1, mode => 'dense')",
        &[],
    );
    assert_eq!(found, "A late note.");
}

/// Goal: while a set of a model is built that takes less, chunks fit that one too, with what it adds; the counts are those
/// of the tokenizer, and passages and questions are embedded as what they are.
#[test]
fn chunks_fit_every_model() {
    let sidecar = Sidecar::start_with_model(SMALL, small_bert::write_narrow(64));
    let settings = Settings {
        worker: false,
        ..Settings::new(sidecar.socket())
    };
    let cluster = Cluster::start(&settings);
    let mut session = cluster.connect();
    let turns: Vec<String> = (0..60)
        .map(|number| {
            let speaker = if number % 3 == 0 { "Anastasia Kowalczyk" } else { "Ben" };
            format!("{speaker}: This is remark number {number}. We should talk about the plan for plant {number} soon.")
        })
        .collect();
    let chunk = |session: &mut Session, key: &str| -> (i32, i32, bool) {
        let ingest =
            "select salesai.ingest_call('test', $1, $2, 'plain', subject => 'Weekly call')";
        let id: i64 = session.one(ingest, &[&key, &turns.join("\n")]);
        while session.one::<i32>("select salesai.process()", &[]) > 0 {}
        let row = session.row(
            "select max(token_count), max(salesai.token_count(heading || e'\n' || content)),
                bool_and(token_count = salesai.token_count(content))
             from salesai.chunk where interaction_id = $1",
            &[&id],
        );
        (row.get(0), row.get(1), row.get(2))
    };
    let (content_tokens, _, is_exact) = chunk(&mut session, "before");
    assert!((100..=180).contains(&content_tokens) && is_exact);
    let set: i64 = session.one("select salesai.reembed(model => $1)", &[&SMALL]);
    // CLS, SEP and "passage:".
    let (_, tokens, is_exact) = chunk(&mut session, "meanwhile");
    assert!((40..=64 - 4).contains(&tokens) && is_exact, "{tokens}");
    wait_for_state(&mut session, set, "active");
    let similarity: f64 = session.one(
        &format!(
            "select 1 - (e.embedding <=> v::vector) from salesai.embedding_{set} e join salesai.chunk c on c.id = e.chunk_id,
                salesai.model_embedding_values('{SMALL}', array[c.heading || e'\n' || c.content]) v
             order by c.id desc limit 1"
        ),
        &[],
    );
    assert!(similarity > 0.8 && similarity < 0.9999, "{similarity}");
    let found: String = session.one(
        "select content from salesai.search('plan for plant 7', k => 1, mode => 'dense')",
        &[],
    );
    assert!(found.contains("plant"), "{found}");
}

/// Goal: a chunk that the new model refuses keeps the set waiting, visibly, until somebody accepts the gap.
#[test]
fn a_gap_is_accepted() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    // The tokenizer drops what has no width, and without a heading nothing is left.
    session.run("select salesai.ingest_note('test', 'blank', e'\\u200b\\u2060\\u200b')");
    session.run("select salesai.ingest_note('test', 'sound', 'The plant opens in May.')");
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    assert_settled(&mut session);
    session.run("set salesai.embedding_index = 'hnsw'");
    let set: i64 = session.one("select salesai.reembed(template => '{content}')", &[]);
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    let state: String = session.one(
        "select state || ', failed: ' || failed_jobs from salesai.embedding_sets where id = $1",
        &[&set],
    );
    assert_eq!(state, "building, failed: 1");
    let error: String = session.one(
        "select class || ': ' || message from salesai.pipeline_errors where kind = 'embed'",
        &[],
    );
    assert_eq!(error, "record_permanent: the text is empty");
    let state: String = session.one(
        "select salesai.activate_embedding_set($1, accept_gaps => true)",
        &[&set],
    );
    assert_eq!(state, "building");
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    wait_for_state(&mut session, set, "active");
    let found: String = session.one(
        "select content from salesai.search('plant', k => 1, mode => 'dense')",
        &[],
    );
    assert_eq!(found, "The plant opens in May.");
    // Back to the one without gaps; forth, its gap is tried again, and has to be accepted again.
    let old: i64 = session.one(
        "select id from salesai.embedding_set where state = 'retired'",
        &[],
    );
    for (set, expected) in [(old, "active"), (set, "building"), (set, "active")] {
        let state: String = session.one(
            "select salesai.activate_embedding_set($1, accept_gaps => true)",
            &[&set],
        );
        assert_eq!(state, expected);
        while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    }
    wait_for_state(&mut session, set, "active");
    // An edit of what was refused fails, and says so.
    session.run("select salesai.ingest_note('test', 'blank', e'\\u200b\\u2060\\u2060')");
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    let errors: i64 = session.one(
        "select count(*) from salesai.pipeline_errors where kind = 'index' and message = 'the text is empty'",
        &[],
    );
    assert_eq!(errors, 1);
}

fn load(session: &mut Session) {
    session.run(
        "insert into salesai.account (source, external_id, name) values ('test', 'acme', 'Acme')",
    );
    for key in 0..400 {
        let topic = ["spending freeze", "new plant", "legal review", "price list"][key % 4];
        session.rows(
            "select salesai.ingest_note('early', $1, $2, account => 'Acme')",
            &[
                &key.to_string(),
                &format!(
                    "Note {key} is about the {topic} of plant {} in week {}.",
                    key % 17,
                    key % 52
                ),
            ],
        );
    }
    drain(session);
    assert_settled(session);
}

fn search_until(cluster: &Cluster, is_over: &AtomicBool) -> Vec<String> {
    let mut session = cluster.connect();
    let mut answers = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        answers.push(session.one(SEARCH, &[]));
        std::thread::sleep(Duration::from_millis(5));
    }
    answers
}

/// Vectors, jobs that are left and progress of the index, as the view shows them.
fn progress(session: &mut Session, set: i64) -> (i64, i64, f64) {
    let row = session.row(
        "select embeddings, jobs, index_progress::float8 from salesai.embedding_sets where id = $1",
        &[&set],
    );
    (row.get(0), row.get(1), row.get(2))
}

fn refusals(session: &mut Session) {
    let refused = |session: &mut Session, sql: &str, sqlstate: &str| {
        session.refusal(sql, &[]).assert_is(sqlstate, sql);
    };
    refused(session, "select salesai.reembed()", "55000");
    session.run("begin isolation level repeatable read");
    refused(session, "select salesai.activate_embedding_set(1)", "25001");
    session.run("rollback");
    refused(session, "select salesai.reembed('no such model')", "42704");
    refused(
        session,
        "select salesai.reembed(template => '{heading}')",
        "22023",
    );
    refused(
        session,
        "select salesai.reembed(template => '{content} {secret}')",
        "22023",
    );
    refused(
        session,
        "select salesai.activate_embedding_set(999)",
        "P0002",
    );
    refused(session, "select salesai.drop_embedding_set(999)", "P0002");
    let active: i64 = session.one(
        "select id from salesai.embedding_set where state = 'active'",
        &[],
    );
    refused(
        session,
        &format!("select salesai.drop_embedding_set({active})"),
        "55006",
    );
}

fn check_sets(session: &mut Session, new_set: i64) {
    let wrong: Vec<String> = session.column(
        "select format('%s %s: %s of %s, index %s, %s jobs', id, state, embeddings, chunks, index_progress, jobs)
         from salesai.embedding_sets
         where state = 'active' and (embeddings <> chunks or index_progress <> 1 or jobs + failed_jobs > 0)",
        &[],
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    let dimensions: i32 = session.one(
        "select dimensions from salesai.embedding_set where id = $1",
        &[&new_set],
    );
    assert_eq!(dimensions as usize, small_bert::DIMENSIONS);
    let method: String = session.one(
        "select index_method from salesai.embedding_set where id = $1",
        &[&new_set],
    );
    assert_eq!(method, "codes");
}

fn wait_for_state(session: &mut Session, set: i64, state: &str) {
    wait_until(
        &format!("embedding set {set} is {state}"),
        DRAIN_LIMIT,
        || {
            let errors: Vec<String> = session.column(
            "select step || ': ' || message from salesai.pipeline_errors where job_state is not null",
            &[],
        );
            assert!(errors.is_empty(), "{errors:?}");
            session.one::<String>(
                "select state from salesai.embedding_set where id = $1",
                &[&set],
            ) == state
        },
    );
}
