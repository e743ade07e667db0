//! Bad input is refused with the right SQLSTATE and a readable message, and leaves nothing behind.

use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::session::Session;
use tests::world;

/// What a refusal must carry beside its message.
#[derive(Clone, Copy, PartialEq)]
enum Hint {
    Given,
    Any,
}

use Hint::{Any, Given};

/// Goal: calls.
#[test]
fn calls() {
    check(&[
        ("select salesai.ingest_call('t', 'x', '')", "22023", Any),
        ("select salesai.ingest_call('t', 'x', null)", "22023", Any),
        (
            "select salesai.ingest_call('t', 'x', e' \\n\\t ')",
            "22023",
            Any,
        ),
        (
            "select salesai.ingest_call('t', 'x', e'WEBVTT\\n\\n')",
            "22023",
            Any,
        ),
        (
            "select salesai.ingest_call('t', 'x', repeat('a', 50 * 1024 * 1024))",
            "54000",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', e'WEBVTT\\n\\n1\\n00:00:xx --> 00:00:02.000\\nA: hi\\n', 'vtt')",
            "22P02",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', e'1\\n00:00:01.000 --> 00:00:02.000\\nA: hi\\n', 'vtt')",
            "22P02",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', 'A: hi', 'docx')",
            "22023",
            Given,
        ),
        (
            "select salesai.ingest_call('', 'x', 'A: hi')",
            "22023",
            Given,
        ),
        (
            "select salesai.ingest_call('t', '', 'A: hi')",
            "22023",
            Given,
        ),
        (
            "select salesai.ingest_call(null, 'x', 'A: hi')",
            "22023",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', 'A: hi', account => 'Nobody')",
            "P0002",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', 'A: hi', opportunity => 'Nothing')",
            "P0002",
            Given,
        ),
        (
            "select salesai.ingest_call('t', 'x', convert_from('\\x41ff', 'UTF8'))",
            "22021",
            Any,
        ),
        (
            r#"select salesai.ingest_call('t', 'x', 'A: hi', metadata => '{"a": "\u0000"}')"#,
            "22P05",
            Any,
        ),
        (
            "select salesai.ingest_call('t', 'x', 'A: hi', started_at => 'yesterdayish')",
            "22007",
            Any,
        ),
    ]);
}

/// Goal: notes, e-mails and CRM records.
#[test]
fn other_records() {
    check(&[
        ("select salesai.ingest_note('t', 'x', '')", "22023", Any),
        ("select salesai.ingest_note('t', 'x', null)", "22023", Any),
        (
            "select salesai.ingest_note('t', 'x', convert_from('\\xc328', 'UTF8'))",
            "22021",
            Any,
        ),
        ("select salesai.ingest_email('t', 'x', '')", "22023", Any),
        ("select salesai.ingest_email('t', 'x', null)", "22023", Any),
        (
            "select salesai.ingest_email('t', 'x', 'Just some words.')",
            "22P02",
            Given,
        ),
        (
            "select * from salesai.ingest_crm('t', 'planet', '[]')",
            "22023",
            Given,
        ),
        (
            "select * from salesai.ingest_crm('t', null, '[]')",
            "22023",
            Given,
        ),
        (
            "select * from salesai.ingest_crm('', 'team', '[]')",
            "22023",
            Any,
        ),
        (
            "select * from salesai.ingest_crm('t', 'team', '{}')",
            "22023",
            Any,
        ),
        (
            "select * from salesai.ingest_crm('t', 'team', null)",
            "22023",
            Any,
        ),
    ]);
}

/// Goal: search, insight and models.
#[test]
fn questions() {
    check(&[
        ("select * from salesai.search('')", "22023", Any),
        ("select * from salesai.search(null)", "22023", Any),
        ("select * from salesai.search(e' \\n\\t ')", "22023", Any),
        ("select * from salesai.search(e'\\uFEFF')", "22023", Any),
        ("select * from salesai.search('a', 0)", "22023", Any),
        ("select * from salesai.search('a', 1001)", "22023", Any),
        ("select * from salesai.search('a', null)", "22023", Any),
        (
            "select * from salesai.search('a', alpha => 2)",
            "22023",
            Any,
        ),
        (
            "select * from salesai.search('a', alpha => 'NaN')",
            "22023",
            Any,
        ),
        (
            "select * from salesai.search('a', rrf_k => 0)",
            "22023",
            Any,
        ),
        (
            "select * from salesai.search('a', mode => 'x')",
            "22023",
            Given,
        ),
        (
            "select * from salesai.search('a', speaker_side => 'left')",
            "22023",
            Given,
        ),
        (
            "select * from salesai.search('a', account => 'Nobody')",
            "P0002",
            Given,
        ),
        ("select salesai.embed('')", "22023", Any),
        ("select salesai.embed(array['a', null])", "22023", Any),
        (
            "select * from salesai.embedding_values(array['a'], 0)",
            "22023",
            Any,
        ),
        (
            "select * from salesai.embedding_values(array['a'], -1)",
            "22023",
            Any,
        ),
        ("select salesai.process(0)", "22023", Any),
        ("select salesai.process(timeout_ms => 0)", "22023", Any),
        ("select * from salesai.chunk('a b c', -1)", "22023", Any),
        ("select * from salesai.chunk('a b c', 3)", "22023", Any),
        ("select salesai.insight('')", "22023", Any),
        ("select salesai.insight(null)", "22023", Any),
        (
            "select salesai.insight('why?', evidence_count => 0)",
            "22023",
            Any,
        ),
        (
            "select salesai.insight('why?', timeout_ms => 0)",
            "22023",
            Any,
        ),
        (
            "select salesai.insight('why is the price high?', max_tokens => 0)",
            "22023",
            Any,
        ),
        (
            "select salesai.insight('why is the price high?', model => 'gpt-0')",
            "42704",
            Given,
        ),
        (
            "select salesai.insight('why?', account => 'Nobody')",
            "P0002",
            Given,
        ),
    ]);
}

/// Goal: a NUL inside an e-mail is tolerated or refused, never a broken row or an internal error.
#[test]
fn nul_in_an_email() {
    let mut session = cluster().connect();
    session.run("begin");
    let message = b"From: a@b.example\nSubject: nul\n\nbefore \0 after\n";
    if let Err(refusal) = session.try_run(
        "select salesai.ingest_email('t', 'nul', $1)",
        &[&message.as_slice()],
    ) {
        println!("refused: {refusal:?}");
        assert!(refusal.sqlstate.starts_with("22"), "{refusal:?}");
    }
    session.run("rollback");
}

/// Goal: ambiguous references are refused, not guessed.
#[test]
fn ambiguous_account() {
    let mut session = cluster().connect();
    session.run("begin");
    session.run(
        r#"select * from salesai.ingest_crm('t', 'account',
            '[{"external_id": "T1", "name": "Twin"}, {"external_id": "T2", "name": "twin"}]')"#,
    );
    let refusal = session.refusal(
        "select salesai.ingest_note('t', 'x', 'hi', account => 'Twin')",
        &[],
    );
    refusal.assert_is("22023", "two accounts of one name");
    assert!(refusal.hint.is_some());
    session.run("rollback");
}

fn check(cases: &[(&str, &str, Hint)]) {
    let mut session = cluster().connect();
    let before = row_counts(&mut session);
    for (sql, sqlstate, hint) in cases {
        let refusal = session.refusal(sql, &[]);
        refusal.assert_is(sqlstate, sql);
        assert!(*hint == Any || refusal.hint.is_some(), "{sql}: has no hint");
        assert_eq!(
            row_counts(&mut session),
            before,
            "{sql}: left something behind"
        );
    }
}

/// A cluster with one processed note, so that insight() has evidence.
fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = world::cluster(false);
        let mut session = cluster.connect();
        session.run(
            "select salesai.ingest_note('t', 'known', 'Why is the price high? Freight went up.')",
        );
        assert_eq!(session.one::<i32>("select salesai.process()", &[]), 1);
        cluster
    })
}

fn row_counts(session: &mut Session) -> Vec<(String, i64)> {
    let tables: Vec<String> = session.column(
        "select relname::text from pg_class
         where relnamespace = 'salesai'::regnamespace and relkind = 'r' order by 1",
        &[],
    );
    let counts = tables
        .iter()
        .map(|table| format!("select '{table}', count(*) from salesai.{table}"));
    let sql = counts.collect::<Vec<_>>().join(" union all ");
    session
        .rows(&sql, &[])
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect()
}
