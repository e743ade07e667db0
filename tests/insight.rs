//! Answers with citations, and honest abstention.

use tests::cluster::{Cluster, Settings};
use tests::deal_room;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{self, drain};

const QUESTION: &str = "Why is the Halden Freight deal stuck?";
const ACCOUNT: &str = "Halden Freight";

/// Goal: each answer is cited, each quote stands in its segment, and the segment where the original has it.
#[test]
fn citations_stand_in_the_originals() {
    let mut session = world::shared().connect();
    let mut cited = 0;
    for question in deal_room::questions().iter().take(4) {
        let insight: i64 = session.one(
            "select i.insight_id from salesai.insight($1, account => $2) i",
            &[
                &question["question"].as_str(),
                &question["account"].as_str(),
            ],
        );
        cited += check_citations(&mut session, insight);
    }
    println!("measured: citations checked: {cited}");
    assert!(cited > 0, "no answer had a citation");
}

/// Goal: an answer says how it came about, and is kept with its citations.
#[test]
fn answer_is_kept() {
    let mut session = world::shared().connect();
    let given = session.row(
        "select i.insight_id, i.answer, i.method, i.abstained, i.confidence > 0, i.model,
             i.prompt_tokens > 0, i.completion_tokens > 0, i.elapsed_ms >= 0, cardinality(i.citations)
         from salesai.insight($1, account => $2) i",
        &[&QUESTION, &ACCOUNT],
    );
    let answer: &str = given.get(1);
    assert!(
        answer.contains("[1]"),
        "an answer names its citations: {answer}"
    );
    assert!(["generated", "extractive"].contains(&given.get::<_, &str>(2)));
    assert!(!given.get::<_, bool>(3));
    assert_eq!(given.get::<_, &str>(5), "smollm2-135m-instruct");
    assert!(
        [4, 6, 7, 8]
            .iter()
            .all(|&column| given.get::<_, bool>(column))
    );
    let kept = session.row(
        "select i.answer, i.question, i.created_by, i.filters ->> 'account', i.model_sha256,
             (select count(*)::int from salesai.citation c where c.insight_id = i.id)
         from salesai.insight i where i.id = $1",
        &[&given.get::<_, i64>(0)],
    );
    assert_eq!(kept.get::<_, &str>(0), answer);
    assert_eq!(kept.get::<_, &str>(1), QUESTION);
    assert_eq!(kept.get::<_, &str>(2), "postgres");
    assert_eq!(kept.get::<_, &str>(3), ACCOUNT);
    assert_eq!(kept.get::<_, &str>(4).len(), 64);
    assert_eq!(kept.get::<_, i32>(5), given.get::<_, i32>(9));
}

/// Goal: the same question gives the same answer and the same citations.
#[test]
fn answer_is_deterministic() {
    let mut session = world::shared().connect();
    let mut ask = || -> (Option<String>, Option<String>) {
        let row = session.row(
            "select i.answer, i.citations::text from salesai.insight($1, account => $2) i",
            &[&QUESTION, &ACCOUNT],
        );
        (row.get(0), row.get(1))
    };
    assert_eq!(ask(), ask());
}

/// Goal: a read-only transaction gets its answer, and nothing is kept.
#[test]
fn read_only_transaction_keeps_nothing() {
    let mut session = world::shared().connect();
    let count = "select count(*) from salesai.insight";
    let before: i64 = session.one(count, &[]);
    session.run("begin transaction read only");
    let row = session.row(
        "select i.answer is not null, i.insight_id from salesai.insight($1, account => $2) i",
        &[&QUESTION, &ACCOUNT],
    );
    session.run("commit");
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, Option<i64>>(1), None);
    assert_eq!(session.one::<i64>(count, &[]), before);
}

/// Goal: without evidence there is no answer, and the reason is said.
#[test]
fn abstains_without_evidence() {
    let mut session = world::shared().connect();
    session.run("begin");
    session.run(
        "select * from salesai.ingest_crm('sample', 'account',
             '[{\"external_id\": \"ACC-QUIET\", \"name\": \"Quiet Harbour\"}]')",
    );
    check_abstains(&mut session, QUESTION, Some("Quiet Harbour"), &["no_match"]);
    session.run("rollback");
    let nonsense = "Zyxgrobl quuxwibble vornak?";
    check_abstains(&mut session, nonsense, None, &["no_match", "unsupported"]);
}

/// Goal: each method works without the other, and the answer says which it was.
#[test]
fn methods_work_alone() {
    let mut session = world::shared().connect();
    let mut methods = Vec::new();
    for question in deal_room::questions().iter().take(6) {
        let (text, account) = (question["question"].as_str(), question["account"].as_str());
        for wanted in ["generated", "extractive"] {
            let row = session.row(
                "select i.method, i.answer, i.reason, i.completion_tokens, i.model
                 from salesai.insight($1, account => $2, method => $3) i",
                &[&text, &account, &wanted],
            );
            let (method, answer): (String, Option<String>) = (row.get(0), row.get(1));
            assert!(
                [wanted, "abstained"].contains(&method.as_str()),
                "{text:?}: {method}"
            );
            assert_eq!(method == "abstained", answer.is_none());
            let wrote = row
                .get::<_, Option<i32>>(3)
                .is_some_and(|tokens| tokens > 0);
            assert_eq!(wrote, wanted == "generated", "{text:?}");
            assert_eq!(row.get::<_, Option<&str>>(4).is_some(), wrote);
            methods.push(method);
        }
    }
    println!("measured: methods of 6 questions, generated and extractive in turn: {methods:?}");
    assert!(methods.iter().any(|method| method == "extractive"));
    let sql = "select salesai.insight('Who?', method => 'guessed')";
    session.refusal(sql, &[]).assert_is("22023", sql);
}

/// Goal: without a language model answers are sentences of the evidence; where only a model may answer, it says so.
#[test]
fn answers_without_a_language_model() {
    let sidecar = Sidecar::start_without_language_model();
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    deal_room::load(&mut session, |entry| entry["account"] == ACCOUNT);
    drain(&mut session);
    for (method, expected) in [
        (None, ("extractive", None)),
        (Some("generated"), ("abstained", Some("model_unavailable"))),
    ] {
        let row = session.row(
            "select i.method, i.reason from salesai.insight($1, method => $2) i",
            &[&QUESTION, &method],
        );
        assert_eq!((row.get(0), row.get(1)), expected);
    }
    let sql = format!("select salesai.insight('{QUESTION}', model => 'no-such-model')");
    session.refusal(&sql, &[]).assert_is("42704", &sql);
}

/// Goal: with explain an answer says what it read and what took how long.
#[test]
fn answers_explain_themselves() {
    let mut session = world::shared().connect();
    let row = session.row(
        "select jsonb_array_length(i.details -> 'retrieved'), i.details ->> 'search_ms', i.details ->> 'similarity_ms',
             i.details ->> 'generation_ms', i.details ->> 'check_ms', i.details ->> 'evidence_characters',
             i.details::text, i.insight_id
         from salesai.insight($1, account => $2, explain => true) i",
        &[&QUESTION, &ACCOUNT],
    );
    assert_eq!(row.get::<_, i32>(0), 4);
    for column in 1..6 {
        let number: f64 = row.get::<_, &str>(column).parse().expect("a number");
        assert!(number >= 0.0);
    }
    let is_kept: bool = session.one(
        "select k.evidence = array(select (r ->> 'chunk_id')::bigint from jsonb_array_elements($1::text::jsonb -> 'retrieved') r)
         from salesai.insight k where k.id = $2",
        &[&row.get::<_, &str>(6), &row.get::<_, i64>(7)],
    );
    assert!(is_kept);
    let details: Option<String> = session.one(
        "select i.details::text from salesai.insight($1) i",
        &[&QUESTION],
    );
    assert_eq!(details, None);
}

/// Goal: a kept answer is made again from its evidence, and compared with today's; who did not ask has none to replay.
#[test]
fn answers_are_replayed() {
    let mut session = world::shared().connect();
    let mut last = 0_i64;
    for question in deal_room::questions().iter().take(4) {
        last = session.one(
            "select i.insight_id from salesai.insight($1, account => $2, seed => 7) i",
            &[
                &question["question"].as_str(),
                &question["account"].as_str(),
            ],
        );
        let row = session.row(
            "select r.reproduced, r.evidence, r.model, r.answer is not distinct from r.answer_today,
                 cardinality(r.evidence_gone) + cardinality(r.evidence_new)
             from salesai.insight_replay($1) r",
            &[&last],
        );
        assert_eq!(
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)),
            (true, "unchanged", "same", true, 0),
            "{question}"
        );
    }
    session.run("begin");
    session.rows(
        "delete from salesai.interaction where id in (
             select c.interaction_id from salesai.insight i join salesai.chunk c on c.id = any (i.evidence) where i.id = $1)",
        &[&last],
    );
    let row = session.row(
        "select r.evidence, r.method, r.kept_answer is not null, cardinality(r.evidence_gone)
         from salesai.insight_replay($1) r",
        &[&last],
    );
    assert_eq!(
        (row.get(0), row.get(1), row.get(2)),
        ("gone", "abstained", true)
    );
    assert!(row.get::<_, i32>(3) > 0);
    session.run("rollback");
    // Nor can it be asked for an account that is not there.
    session.run(
        "begin; update salesai.account set name = 'Renamed ' || id, external_id = 'renamed-' || id",
    );
    let row = session.row(
        "select r.reproduced, r.answer is not null, r.answer_today, r.evidence_new from salesai.insight_replay($1) r",
        &[&last],
    );
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1));
    assert_eq!(row.get::<_, Option<&str>>(2), None);
    assert_eq!(row.get::<_, Option<Vec<i64>>>(3), None);
    session.run("rollback");
    session.run("set role salesai_rep");
    let sql = format!("select salesai.insight_replay({last})");
    session.refusal(&sql, &[]).assert_is("P0002", &sql);
}

fn check_abstains(session: &mut Session, question: &str, account: Option<&str>, reasons: &[&str]) {
    let row = session.row(
        "select i.abstained, i.method, i.reason, i.answer, coalesce(cardinality(i.citations), 0),
             i.insight_id
         from salesai.insight($1, account => $2) i",
        &[&question, &account],
    );
    assert!(
        row.get::<_, bool>(0),
        "{question}: answered {:?}",
        row.get::<_, Option<&str>>(3)
    );
    assert_eq!(row.get::<_, &str>(1), "abstained");
    assert!(
        reasons.contains(&row.get::<_, &str>(2)),
        "reason {}",
        row.get::<_, &str>(2)
    );
    assert_eq!(row.get::<_, Option<&str>>(3), None);
    assert_eq!(row.get::<_, i32>(4), 0);
    assert!(
        row.get::<_, Option<i64>>(5).is_some(),
        "an abstention is kept as well"
    );
}

/// Returns how many citations the insight has.
fn check_citations(session: &mut Session, insight: i64) -> usize {
    let citations = session.rows(
        "select c.quote, s.content, i.kind, c.start_char, c.end_char, i.external_id,
             c.interaction_id = s.interaction_id and c.start_char = s.start_char and c.end_char = s.end_char,
             case when i.kind <> 'email' then convert_from(salesai.original(i.id, s.version), 'UTF8') end
         from salesai.citation c
         join salesai.segment s on s.id = c.segment_id
         join salesai.interaction i on i.id = c.interaction_id
         where c.insight_id = $1",
        &[&insight],
    );
    for citation in &citations {
        let (quote, content): (&str, &str) = (citation.get(0), citation.get(1));
        let external_id: &str = citation.get(5);
        assert!(
            !quote.is_empty() && content.contains(quote),
            "{external_id}: {quote}"
        );
        assert!(
            citation.get::<_, bool>(6),
            "{external_id}: place of the segment"
        );
        // The segments of an e-mail are counted in its decoded body.
        if let Some(original) = citation.get::<_, Option<&str>>(7) {
            let place = slice(original, citation.get(3), citation.get(4));
            assert!(
                words(&place).contains(&words(content)),
                "{external_id}: {place}"
            );
        }
    }
    citations.len()
}

/// Characters from `start` to `end`, end excluded.
fn slice(text: &str, start: i32, end: i32) -> String {
    text.chars()
        .skip(start as usize)
        .take((end - start) as usize)
        .collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Goal: a follow-up is understood after the question before it, looks where that looked, and is replayed as it was;
/// nobody follows somebody else's conversation.
#[test]
fn follow_ups_know_what_was_asked() {
    let mut session = world::shared().connect();
    let first: i64 = session.one(
        "select i.insight_id from salesai.insight($1, account => $2) i",
        &[&QUESTION, &ACCOUNT],
    );
    let second = session.row(
        "select i.insight_id, i.answer from salesai.insight('And what did we offer them?', conversation => $1) i",
        &[&first],
    );
    let (second, answer): (i64, Option<String>) = (second.get(0), second.get(1));
    let third: i64 = session.one(
        "select i.insight_id from salesai.insight('Who decides?', conversation => $1) i",
        &[&second],
    );
    let kept = session.row(
        "select array_agg(i.question order by i.id), bool_and(i.filters ->> 'account' = $2),
             bool_and(i.conversation = $1 and cardinality(i.evidence) > 0),
             (select count(*) from salesai.insight i join salesai.chunk c on c.id = any (i.evidence)
              left join salesai.account a on a.id = c.account_id where i.id in ($3, $4) and a.name is distinct from $2)
         from salesai.insight i where i.id in ($3, $4)",
        &[&first, &ACCOUNT, &second, &third],
    );
    assert_eq!(
        kept.get::<_, Vec<String>>(0),
        ["And what did we offer them?", "Who decides?"]
    );
    assert!(kept.get::<_, bool>(1) && kept.get::<_, bool>(2));
    assert_eq!(kept.get::<_, i64>(3), 0);
    let asked: String = session.one(
        "select asked from salesai.conversation_context($1, 'Why?')",
        &[&third],
    );
    assert_eq!(asked, "And what did we offer them? Who decides? Why?");
    let replayed = session.row(
        "select r.reproduced, r.answer from salesai.insight_replay($1) r",
        &[&second],
    );
    assert!(replayed.get::<_, bool>(0));
    assert_eq!(replayed.get::<_, Option<String>>(1), answer);
    session.run("set role salesai_rep");
    for sql in [
        "select salesai.insight('And then?', conversation => {})",
        "select salesai.insight_stream('And then?', conversation => {})",
    ] {
        let sql = sql.replace("{}", &first.to_string());
        session.refusal(&sql, &[]).assert_is("P0002", &sql);
    }
    session.run("reset role");
    session
        .refusal("select salesai.insight(' ', conversation => $1)", &[&first])
        .assert_is("22023", "a blank follow-up");
}
