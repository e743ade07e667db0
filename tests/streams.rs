//! Answers and texts that are read while they are written.

use std::time::Duration;

use tests::deal_room;
use tests::measure::wait_until;
use tests::session::Session;
use tests::world;

/// Until the sidecar has noticed; no figure to reach.
const LIMIT: Duration = Duration::from_secs(30);
const LONG: &str =
    "select salesai.generate_stream('Tell a long story about a sales team.', max_tokens => 1500)";

/// Goal: the pieces of a text are the text.
#[test]
fn pieces_are_the_text() {
    let mut session = world::shared().connect();
    let prompt = "Write three sentences about a sales call.";
    let whole: String = session.one("select salesai.generate($1, max_tokens => 80)", &[&prompt]);
    let pieces: Vec<String> = session.column(
        "select salesai.generate_stream($1, max_tokens => 80)",
        &[&prompt],
    );
    assert!(pieces.len() > 5, "{pieces:?}");
    assert_eq!(pieces.concat(), whole);
    let label: Vec<String> = session.column(
        "select salesai.generate_stream('Colour of the sky?', choices => array['blue', 'green'])",
        &[],
    );
    assert!(["blue", "green"].contains(&label.concat().as_str()));
}

/// Goal: the sentences of a streamed answer are those of the answer, it is kept in the same way, and where there is none
/// no row comes.
#[test]
fn sentences_are_the_answer() {
    let mut session = world::shared().connect();
    let mut sentences = 0;
    for question in deal_room::questions().iter().take(6) {
        for method in [None, Some("generated"), Some("extractive")] {
            let parameters: [&(dyn postgres::types::ToSql + Sync); 3] = [
                &question["question"].as_str(),
                &question["account"].as_str(),
                &method,
            ];
            let whole = session.row(
                "select i.answer, i.citations::text, i.reason from salesai.insight($1, account => $2, method => $3, max_tokens => 120) i",
                &parameters,
            );
            let streamed: Vec<String> = session.column(
                "select salesai.insight_stream($1, account => $2, method => $3, max_tokens => 120)",
                &parameters,
            );
            sentences += streamed.len();
            let streamed = (!streamed.is_empty()).then(|| streamed.join(" "));
            assert_eq!(
                streamed,
                whole.get::<_, Option<String>>(0),
                "{question} {method:?}"
            );
            let kept = session.row(
                "select i.answer, i.reason, i.elapsed_ms >= 0, cardinality(i.evidence) > 0,
                     (select count(*) from salesai.citation c where c.insight_id = i.id), i.filters ->> 'account'
                 from salesai.insight i order by i.id desc limit 1",
                &[],
            );
            assert_eq!(kept.get::<_, Option<String>>(0), streamed);
            assert_eq!(
                kept.get::<_, Option<String>>(1),
                whole.get::<_, Option<String>>(2)
            );
            assert!(kept.get::<_, bool>(2) && kept.get::<_, bool>(3));
            assert_eq!(kept.get::<_, i64>(4) > 0, streamed.is_some());
            assert_eq!(kept.get::<_, Option<&str>>(5), question["account"].as_str());
        }
    }
    assert!(sentences > 6, "{sentences}");
    let none: Vec<String> = session.column(
        "select salesai.insight_stream('Zyxgrobl quuxwibble vornak?')",
        &[],
    );
    assert!(none.is_empty(), "{none:?}");
}

/// Goal: a cursor has a piece while the model still writes, and what nobody reads on is given up.
#[test]
fn cursors_read_as_it_is_written() {
    let mut session = world::shared().connect();
    let mut watcher = world::shared().connect();
    wait_until_idle(&mut watcher);
    for end in ["close c", "rollback; begin", "commit; begin"] {
        session.run(&format!("begin; declare c no scroll cursor for {LONG}"));
        for _ in 0..3 {
            let piece: Vec<String> = session.column("fetch 1 from c", &[]);
            assert_eq!(piece.len(), 1);
        }
        assert!(
            is_running(&mut watcher),
            "it was written before it was read"
        );
        session.run(end);
        wait_until_idle(&mut watcher);
        session.run("rollback");
    }
    // A reader that wants few rows.
    let few: Vec<String> = session.column(&format!("{LONG} limit 2"), &[]);
    assert_eq!(few.len(), 2);
    wait_until_idle(&mut watcher);
}

/// Goal: a stream ends with the statement's time, with a cancel and with its connection, and its own time is for all.
#[test]
fn streams_can_be_ended() {
    let mut session = world::shared().connect();
    let mut watcher = world::shared().connect();
    wait_until_idle(&mut watcher);
    session.run("set statement_timeout = '300ms'");
    session
        .refusal(LONG, &[])
        .assert_is("57014", "statement_timeout");
    session.run("reset statement_timeout");
    wait_until_idle(&mut watcher);
    let timed = LONG.replace("1500", "1500, timeout_ms => 300");
    session
        .refusal(&timed, &[])
        .assert_is("57014", "timeout_ms");
    session.run(&format!("begin; declare c cursor for {LONG}"));
    session.rows("fetch 2 from c", &[]);
    let pid = session.backend_pid();
    watcher.run(&format!("select pg_terminate_backend({pid})"));
    wait_until_idle(&mut watcher);
    assert!(session.is_closed());
}

/// Goal: what makes no sense is refused as elsewhere, before any row.
#[test]
fn bad_arguments() {
    let mut session = world::shared().connect();
    for (sql, sqlstate) in [
        ("select salesai.generate_stream(' ')", "22023"),
        (
            "select salesai.generate_stream('x', model => 'none')",
            "42704",
        ),
        (
            "select salesai.generate_stream('x', max_tokens => 0)",
            "22023",
        ),
        ("select salesai.insight_stream(' ')", "22023"),
        (
            "select salesai.insight_stream('Why?', method => 'guessed')",
            "22023",
        ),
        (
            "select salesai.insight_stream('Why?', evidence_count => 0)",
            "22023",
        ),
        (
            "select salesai.insight_stream('Why?', account => 'Nobody')",
            "P0002",
        ),
        (
            "select salesai.insight_stream('Why?', adapter => 'none')",
            "42704",
        ),
    ] {
        session.refusal(sql, &[]).assert_is(sqlstate, sql);
    }
    // A read-only transaction has its answer, which is not kept.
    session.run("begin read only");
    session.rows(
        "select salesai.insight_stream('Who decides at Halden Freight?')",
        &[],
    );
    session.run("rollback");
}

fn is_running(session: &mut Session) -> bool {
    session.one(
        "select running_requests > 0 from salesai.sidecar_status",
        &[],
    )
}

fn wait_until_idle(session: &mut Session) {
    wait_until("the sidecar is idle", LIMIT, || !is_running(session));
}
