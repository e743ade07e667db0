//! A sidecar that is down: what needs no model works, the rest says so, and the queue heals by itself.

use std::time::{Duration, Instant};

use tests::session::Session;
use tests::world::{World, assert_settled, drain};

/// Default of `salesai.connect_timeout_ms`, and what unwinding may take.
const REFUSAL_LIMIT: Duration = Duration::from_millis(1_000 + 500);

/// Goal: model calls fail fast with a hint; lexical search and ingestion go on; jobs wait unharmed and
/// are done as soon as the sidecar is back, by the same workers.
#[test]
fn outage_and_recovery() {
    let world = World::start_with_account("Halden Freight");
    let mut session = world.cluster.connect();
    let workers = worker_pids(&mut session);
    world.sidecar.stop();

    model_calls_are_refused(&mut session);
    let found: i64 = session.one(
        "select count(*) from salesai.search('spending freeze', mode => 'lexical')",
        &[],
    );
    assert!(found > 0);
    for key in 0..5 {
        session.run(&format!(
            "select salesai.ingest_note('test', 'outage-{key}', 'The sidecar is down.')"
        ));
    }
    jobs_wait_unharmed(&mut session);

    world.sidecar.launch();
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(worker_pids(&mut session), workers, "the workers lived on");
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job_error", &[]),
        0
    );
    session.run("select salesai.embed('It works again.')");
}

fn model_calls_are_refused(session: &mut Session) {
    for sql in [
        "select salesai.embed('hello')",
        "select * from salesai.search('price')",
        "select salesai.insight('Why is the deal stuck?')",
        "select salesai.token_count('hello')",
        "select * from salesai.chunk('hello')",
    ] {
        let start = Instant::now();
        let refusal = session.refusal(sql, &[]);
        let elapsed = start.elapsed();
        refusal.assert_is("58000", sql);
        assert!(
            refusal
                .hint
                .is_some_and(|hint| hint.contains("inference-sidecar")),
            "{sql}"
        );
        assert!(elapsed < REFUSAL_LIMIT, "{sql}: refused after {elapsed:?}");
    }
    let error: Option<String> = session.one("select error from salesai.sidecar_status", &[]);
    assert!(error.is_some(), "sidecar_status tells, and does not raise");
}

fn jobs_wait_unharmed(session: &mut Session) {
    // Long enough for the worker to try a few times.
    std::thread::sleep(Duration::from_secs(4));
    let harmed: i64 = session.one(
        "select count(*) from salesai.job where state <> 'pending' or attempts <> 0",
        &[],
    );
    assert_eq!(harmed, 0);
    assert_eq!(
        session.one::<i64>("select pending from salesai.queue_status", &[]),
        5
    );
}

fn worker_pids(session: &mut Session) -> Vec<i32> {
    session.column(
        "select pid from pg_stat_activity where backend_type = 'pg_salesai worker' order by pid",
        &[],
    )
}
