//! How far another session's operators are.

use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use tests::measure::wait_until;
use tests::session::{CLOSED, Refusal, Session};
use tests::world;

const TEXTS: i64 = 300;
const LIMIT: Duration = Duration::from_secs(60);

/// Goal: other sessions of the same role see how far a call is, and of a statement that asks in batches what it did
/// before; others do not; nothing is shown once it was cancelled, terminated, or has ended.
#[test]
fn progress_is_seen() {
    let cluster = world::shared();
    let mut watcher = cluster.connect();
    watcher.run("create role t_nosy login in role salesai_rep; create role t_ops login in role salesai_rep, pg_read_all_stats");
    let mut nosy = cluster.connect_as("t_nosy");
    let mut ops = cluster.connect_as("t_ops");
    let none: Vec<i32> = ops.column("select pid from salesai.operator_progress()", &[]);
    assert!(none.is_empty(), "{none:?}");

    let summaries = format!("select salesai.summarize(array(select {}))", texts());
    let (pid, victim) = begin(cluster.connect(), summaries);
    wait_for(&mut watcher, pid, "done > 1");
    let row = ops.row(
        "select operator, texts, done, done_before, started_at < clock_timestamp() and started_at > now() - interval '2 min'
         from salesai.operator_progress() where pid = $1",
        &[&pid],
    );
    assert_eq!(row.get::<_, String>(0), "summarize");
    assert_eq!(row.get::<_, i64>(1), TEXTS);
    assert!((2..=TEXTS).contains(&row.get(2)));
    assert_eq!(row.get::<_, i64>(3), 0);
    assert!(row.get::<_, bool>(4));
    let none: Vec<i32> = nosy.column("select pid from salesai.operator_progress()", &[]);
    assert!(none.is_empty(), "{none:?}");
    watcher.one::<bool>("select pg_cancel_backend($1)", &[&pid]);
    victim
        .join()
        .expect("the thread")
        .expect_err("a cancel")
        .assert_is("57014", "cancelled");
    wait_for(&mut watcher, pid, "count(*) = 0");

    let batched = format!(
        "select salesai.summarize(t) from (select {}) s (t)",
        texts()
    );
    let (pid, victim) = begin(cluster.connect(), batched);
    wait_for(&mut watcher, pid, "done_before > 0 and done > 0");
    watcher.one::<bool>("select pg_terminate_backend($1)", &[&pid]);
    let refusal = victim
        .join()
        .expect("the thread")
        .expect_err("a closed session");
    assert!(["57P01", CLOSED].contains(&refusal.sqlstate.as_str()));
    wait_for(&mut watcher, pid, "count(*) = 0");

    // Another statement of a session that goes on begins at nothing.
    let mut session = cluster.connect();
    session.rows(
        "select salesai.sentiment(t) from (values ('Fine.'), ('Good.')) v (t)",
        &[],
    );
    let none: Vec<i32> = ops.column("select pid from salesai.operator_progress()", &[]);
    assert!(none.is_empty(), "{none:?}");
    watcher.run("drop role t_nosy; drop role t_ops");
}

fn texts() -> String {
    format!(
        "repeat('The plant in Tarrow loses eleven hours a month. ' || g, 5) from generate_series(1, {TEXTS}) g"
    )
}

/// Runs a statement on a connection of its own.
fn begin(mut session: Session, sql: String) -> (i32, JoinHandle<Result<(), Refusal>>) {
    (
        session.backend_pid(),
        spawn(move || session.try_run(&sql, &[])),
    )
}

fn wait_for(watcher: &mut Session, pid: i32, state: &str) {
    let sql = match state.starts_with("count") {
        true => format!("select {state} from salesai.operator_progress() where pid = $1"),
        false => format!(
            "select exists (select from salesai.operator_progress() where pid = $1 and {state})"
        ),
    };
    wait_until(state, LIMIT, || watcher.one(&sql, &[&pid]));
}
