//! Questions through the queue: the same answers, with the rights of who asked, exactly once.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tests::cluster::Cluster;
use tests::deal_room;
use tests::measure::wait_until;
use tests::session::{CLOSED, Session};
use tests::world::{self, drain};

pub const QUESTION: &str = "Why is the Halden Freight deal stuck?";
pub const ACCOUNT: &str = "Halden Freight";
pub const LIMIT: Duration = Duration::from_secs(120);
/// No figure to reach, only what tells a cancel from an answer.
pub const CANCEL_LIMIT: Duration = Duration::from_secs(10);
/// All of an answer but when it came and which number it has.
const SAME: &str = "concat_ws(' ~ ', i.answer, i.citations::text, i.confidence, i.method, i.abstained, i.reason, i.model,
    i.adapter, i.prompt_tokens, i.completion_tokens)";
/// `is not null` of a row says that all its columns are.
pub const IS_ANSWERED: &str = "select not (salesai.insight_result($1, wait_ms => 120000) is null)";
pub const STATE: &str = "select state from salesai.insight_request where id = $1";

/// Goal: the answer is that of `insight()`, kept once, with all that `explain` shows.
#[test]
fn answer_equals_insight() {
    let mut session = world::shared().connect();
    let before: i64 = session.one("select coalesce(max(id), 0) from salesai.insight", &[]);
    let asked = Instant::now();
    let request: i64 = session.one(
        "select salesai.insight_submit($1, account => $2, explain => true, seed => 11)",
        &[&QUESTION, &ACCOUNT],
    );
    println!("measured: submitted in {:?}", asked.elapsed());
    let queued: String = session.one(
        &format!(
            "select {SAME} || ' ' || (i.details ? 'search_ms' and i.details ? 'generation_ms')
             from salesai.insight_result($1, wait_ms => 120000) i where i.insight_id > $2"
        ),
        &[&request, &before],
    );
    let kept: i64 = session.one(
        "select count(*) from salesai.insight where id > $1",
        &[&before],
    );
    assert_eq!(kept, 1);
    session.run("set salesai.result_cache = off");
    let direct: String = session.one(
        &format!(
            "select {SAME} || ' true' from salesai.insight($1, account => $2, explain => true, seed => 11) i"
        ),
        &[&QUESTION, &ACCOUNT],
    );
    assert_eq!(queued, direct);
    let replayed: bool = session.one(
        "select r.reproduced from salesai.insight_request q, salesai.insight_replay(q.insight_id) r where q.id = $1",
        &[&request],
    );
    assert!(replayed, "an answer of the queue can be made again");
}

/// Goal: what `insight()` refuses is refused at once, with the same words, and what is rolled back was never asked.
#[test]
fn arguments_are_checked_at_once() {
    let mut session = world::shared().connect();
    session.run("begin; select salesai.pause(); commit");
    for arguments in [
        "' '",
        "null",
        "'why?', account => 'Nobody & Sons'",
        "'why?', opportunity => 'nothing'",
        "'why?', speaker_side => 'left'",
        "'why?', evidence_count => 0",
        "'why?', method => 'guessed'",
        "'why?', timeout_ms => 0",
        "'why?', adapter => 'no-such-adapter'",
        "'why?', conversation => 987654321",
        "'Why is the Halden Freight deal stuck?', max_tokens => 0",
    ] {
        let direct = session.refusal(&format!("select salesai.insight({arguments})"), &[]);
        let queued = session.refusal(&format!("select salesai.insight_submit({arguments})"), &[]);
        assert_eq!(
            (direct.sqlstate, direct.message, direct.hint),
            (queued.sqlstate, queued.message, queued.hint),
            "{arguments}"
        );
    }
    session.run("begin; select salesai.insight_submit('why?'); rollback");
    let waiting: i64 = session.one(
        "select count(*) from salesai.insight_request where state in ('queued', 'running')",
        &[],
    );
    assert_eq!(waiting, 0);
    session.run("select salesai.resume()");
}

/// Goal: nobody but who asked, and who sees everything, knows of a question; and its answer rests on what they may see.
#[test]
fn rights_are_those_of_who_asked() {
    let cluster = cluster();
    let mut owner = cluster.connect();
    let mut priya = cluster.connect_as("q_priya");
    let request: i64 = priya.one(
        "select salesai.insight_submit('What did the customers say about price and discount?', evidence_count => 20)",
        &[],
    );
    let mut grace = cluster.connect_as("q_grace");
    let seen: i64 = grace.one("select count(*) from salesai.insight_request", &[]);
    assert_eq!(seen, 0);
    for sql in [
        "select salesai.insight_result($1)",
        "select salesai.insight_cancel($1)",
    ] {
        grace.refusal(sql, &[&request]).assert_is("P0002", sql);
    }
    let insight: i64 = priya.one(
        "select i.insight_id from salesai.insight_result($1, wait_ms => 120000) i",
        &[&request],
    );
    grace
        .refusal("select salesai.insight_result($1)", &[&request])
        .assert_is("P0002", "also when it is done");
    let (by, chunks): (String, i64) = {
        let row = owner.row(
            "select created_by, cardinality(evidence)::bigint from salesai.insight where id = $1",
            &[&insight],
        );
        (row.get(0), row.get(1))
    };
    assert_eq!(by, "q_priya");
    assert!(chunks > 0);
    let strangers: i64 = owner.one(
        "select count(*) from salesai.insight i cross join unnest(i.evidence) e (chunk_id)
         join salesai.chunk c on c.id = e.chunk_id left join salesai.rep r on r.id = c.owner_rep_id
         where i.id = $1 and r.name is distinct from 'Priya Raman'",
        &[&insight],
    );
    assert_eq!(strangers, 0);
    for sql in [
        "update salesai.insight_request set question = 'other'",
        "insert into salesai.insight_request (asked_by, asker_id, login_id, question, asked, filters, options, explain)
         values ('q_priya', 0, 0, '', '', '{}', '{}', false)",
        "delete from salesai.insight_request",
    ] {
        priya.refusal(sql, &[]).assert_is("42501", sql);
    }
}

/// Goal: rights that were taken away before a worker begins are gone.
#[test]
fn rights_are_those_of_when_it_is_answered() {
    let cluster = cluster();
    let mut owner = cluster.connect();
    owner.run("select salesai.pause()");
    let ask = "select salesai.insight_submit('What did the customers say about price?')";
    // Whose login may not act as that role any more.
    let mut switch = cluster.connect_as("q_switch");
    switch.run("set role q_priya");
    let switched: i64 = switch.one(ask, &[]);
    // Who is gone, and somebody else has the name.
    let gone: i64 = cluster.connect_as("q_gone").one(ask, &[]);
    let namesake: i64 = cluster.connect_as("q_namesake").one(ask, &[]);
    // Who does not see anything any more.
    let moved: i64 = cluster.connect_as("q_moved").one(ask, &[]);
    // Who may not call anything any more.
    let left: i64 = cluster.connect_as("q_left").one(ask, &[]);
    owner.run(
        "revoke q_priya from q_switch;
         drop role q_gone; create role q_gone login in role salesai_admin;
         drop role q_namesake; create role q_namesake login in role salesai_rep;
         delete from salesai.principal where role_name = 'q_moved';
         revoke salesai_rep from q_left;
         select salesai.resume()",
    );
    for (request, what) in [
        (switched, "may not act"),
        (gone, "does not exist"),
        (left, "may not use"),
    ] {
        let refusal = owner.refusal(
            "select salesai.insight_result($1, wait_ms => 120000)",
            &[&request],
        );
        refusal.assert_is("42501", what);
        let said: String = owner.one(
            "select error_message from salesai.insight_request where id = $1",
            &[&request],
        );
        assert!(said.contains(what), "{said}");
    }
    let mut other = cluster.connect_as("q_namesake");
    for sql in [
        "select salesai.insight_result($1)",
        "select salesai.insight_cancel($1)",
    ] {
        other
            .refusal(sql, &[&namesake])
            .assert_is("P0002", "another's who had the name");
    }
    let reason: Option<String> = cluster.connect_as("q_moved").one(
        "select i.reason from salesai.insight_result($1, wait_ms => 120000) i",
        &[&moved],
    );
    assert_eq!(reason.as_deref(), Some("not_permitted"));
}

/// Goal: without workers `process()` answers, for roles that its session may take, with their rights.
#[test]
fn process_answers_without_workers() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    deal_room::load(&mut session, |entry| entry["account"] == ACCOUNT);
    session.run("select salesai.process(1000)");
    session.run(
        "create role p_nobody login in role salesai_rep; create role p_admin login in role salesai_admin",
    );
    let mut nobody = cluster.connect_as("p_nobody");
    let blind: i64 = nobody.one("select salesai.insight_submit($1)", &[&QUESTION]);
    let mut admin = cluster.connect_as("p_admin");
    assert_eq!(
        admin.one::<i32>("select salesai.process()", &[]),
        0,
        "not his to act for"
    );
    assert_eq!(admin.one::<String>(STATE, &[&blind]), "queued");
    let own: i64 = admin.one(
        "select salesai.insight_submit($1, account => $2)",
        &[&QUESTION, &ACCOUNT],
    );
    assert!(admin.one::<bool>("select salesai.insight_result($1) is null", &[&own]));
    assert_eq!(admin.one::<i32>("select salesai.process()", &[]), 1);
    let answer: Option<String> =
        admin.one("select i.answer from salesai.insight_result($1) i", &[&own]);
    assert!(answer.is_some());
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 1);
    let reason: Option<String> = nobody.one(
        "select i.reason from salesai.insight_result($1) i",
        &[&blind],
    );
    assert_eq!(
        reason.as_deref(),
        Some("not_permitted"),
        "the rights of who asked"
    );
    let role: String = session.one("select current_user || ' ' || current_setting('role')", &[]);
    assert_eq!(role, "postgres none", "process() gives its own rights back");
    cancelled_process_leaves_nothing(&mut session);
    // An error of one question is its own.
    let wrong: i64 = session.one(
        "select salesai.insight_submit($1, model => 'no-such-model')",
        &[&QUESTION],
    );
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 0);
    session
        .refusal("select salesai.insight_result($1)", &[&wrong])
        .assert_is("42704", "an unknown model");
    // And so is nonsense that did not come by the front door.
    let forged: i64 = session.one(
        "select salesai.enqueue_insight('q', 'q', '{}', '{\"evidence_count\": \"x\"}', false)",
        &[],
    );
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 0);
    session
        .refusal("select salesai.insight_result($1)", &[&forged])
        .assert_is("22P02", "no number");
}

/// One that is cancelled while it acts for somebody is itself again, and the question waits as before.
fn cancelled_process_leaves_nothing(session: &mut Session) {
    session.run(
        "create role p_reader login in role salesai_analyst; set session authorization p_reader",
    );
    let request: i64 = session.one(
        "select salesai.insight_submit('Who signs at Halden Freight, and when?', max_tokens => 200, evidence_count => 10)",
        &[],
    );
    session.run("reset session authorization; set statement_timeout = '150ms'");
    let sql = "select salesai.process()";
    session.refusal(sql, &[]).assert_is("57014", sql);
    session.run("set statement_timeout = 0");
    let after: String = session.one(
        "select concat_ws(' ', current_user, current_setting('role'), current_setting('search_path'), r.state, r.attempts, r.losses)
         from salesai.insight_request r where id = $1",
        &[&request],
    );
    assert_eq!(after, "postgres none \"$user\", public queued 0 0");
    assert_eq!(session.one::<i32>(sql, &[]), 1);
    let by: String = session.one(
        "select i.created_by from salesai.insight i join salesai.insight_request r on r.insight_id = i.id where r.id = $1",
        &[&request],
    );
    assert_eq!(by, "p_reader");
}

/// Goal: waiting for an answer can be cancelled and terminated, ends by itself, and is refused where it would be in vain.
#[test]
fn waiting_ends() {
    let cluster = world::shared();
    let mut owner = cluster.connect();
    owner.run("select salesai.pause()");
    let mut session = cluster.connect();
    session.run("begin");
    let own: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    let sql = "select salesai.insight_result($1, wait_ms => 600000)";
    session
        .refusal(sql, &[&own])
        .assert_is("55000", "its own transaction");
    session.run("rollback; begin; savepoint inner_one");
    let own: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    session.run("release inner_one");
    session
        .refusal(sql, &[&own])
        .assert_is("55000", "its own transaction, a savepoint ago");
    session.run("rollback");
    let request: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    session.run("begin isolation level repeatable read");
    session
        .refusal(sql, &[&request])
        .assert_is("55000", "an old snapshot");
    session.run("rollback");
    let bad = "select salesai.insight_result($1, wait_ms => -1)";
    session.refusal(bad, &[&request]).assert_is("22023", bad);
    let start = Instant::now();
    assert!(session.one::<bool>(
        "select salesai.insight_result($1, wait_ms => 300) is null",
        &[&request]
    ));
    assert!(start.elapsed() >= Duration::from_millis(300));
    for (function, sqlstate) in [
        ("pg_cancel_backend", "57014"),
        ("pg_terminate_backend", "57P01"),
    ] {
        let mut victim = cluster.connect();
        let pid = victim.backend_pid();
        std::thread::scope(|scope| {
            let running = scope.spawn(|| victim.try_run(sql, &[&request]));
            wait_until("it waits", LIMIT, || {
                owner.one(
                    "select exists (select from pg_stat_activity where pid = $1 and wait_event = 'PgSleep')",
                    &[&pid],
                )
            });
            let start = Instant::now();
            assert!(owner.one::<bool>(&format!("select {function}($1)"), &[&pid]));
            let refusal = running
                .join()
                .expect("the waiting thread")
                .expect_err("it waited");
            assert!(start.elapsed() < CANCEL_LIMIT);
            assert!(
                [sqlstate, CLOSED].contains(&refusal.sqlstate.as_str()),
                "{refusal:?}"
            );
        });
    }
    owner.run("select salesai.resume()");
    assert!(session.one::<bool>(IS_ANSWERED, &[&request]));
}

/// Goal: a role that submits many keeps no other waiting.
#[test]
fn roles_take_turns() {
    let cluster = cluster();
    let mut owner = cluster.connect();
    owner.run("select salesai.pause()");
    let mut priya = cluster.connect_as("q_priya");
    let many: Vec<i64> = priya.column(
        "select salesai.insight_submit('Price? ' || g, method => 'extractive') from generate_series(1, 30) g",
        &[],
    );
    let mut grace = cluster.connect_as("q_grace");
    let one: i64 = grace.one(
        "select salesai.insight_submit('Price?', method => 'extractive')",
        &[],
    );
    owner.run("select salesai.resume()");
    assert!(grace.one::<bool>(IS_ANSWERED, &[&one]));
    let before: i64 = owner.one(
        "select count(*) from salesai.insight_request r, salesai.insight_request g
         where r.id = any ($1) and g.id = $2 and r.finished_at < g.finished_at",
        &[&many, &one],
    );
    // Whose turn it is, is left to chance: so many in a row come once in 65,000 runs.
    assert!(before < 16, "{before} of another's were answered first");
    wait_until("all are answered", LIMIT, || {
        priya.one::<i64>(
            "select count(*) from salesai.insight_request where id = any ($1) and state <> 'done'",
            &[&many],
        ) == 0
    });
}

/// The shared cluster with people in it.
fn cluster() -> &'static Cluster {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let mut session = world::shared().connect();
        drain(&mut session);
        session.run(
            "create role q_priya login in role salesai_rep;
             create role q_grace login in role salesai_rep;
             create role q_gone login in role salesai_rep;
             create role q_namesake login in role salesai_rep;
             create role q_moved login in role salesai_rep;
             create role q_left login in role salesai_rep;
             create role q_switch login in role q_priya;
             insert into salesai.principal (role_name, rep_id, read_scope, can_write)
             select role_name, (select id from salesai.rep where name = rep_name), 'own', true
             from (values ('q_priya', 'Priya Raman'), ('q_grace', 'Grace Okafor'), ('q_gone', 'Priya Raman'),
                          ('q_moved', 'Priya Raman'), ('q_left', 'Priya Raman')) p (role_name, rep_name)",
        );
    });
    world::shared()
}
