//! From ingestion to a processed queue.

use tests::deal_room;
use tests::world::{self, assert_settled};

/// Goal: the worker drains the queue of the deal room, and everything is there exactly once.
#[test]
fn deal_room_is_processed() {
    let mut session = world::shared().connect();
    let expected = deal_room::manifest().len() as i64;
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.interaction", &[]),
        expected
    );
    assert_settled(&mut session);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job_error", &[]),
        0
    );
}

/// Goal: the operator's views say that everything is done and that the sidecar runs.
#[test]
fn status_views() {
    let mut session = world::shared().connect();
    let queue = session.row(
        "select pending, running, failed, lag_s::float8 from salesai.queue_status",
        &[],
    );
    let counts: [i64; 3] = [queue.get(0), queue.get(1), queue.get(2)];
    assert_eq!(counts, [0, 0, 0]);
    assert_eq!(queue.get::<_, f64>(3), 0.0);
    let sidecar = session.row(
        "select reachable, state, error, jsonb_array_length(models), waiting_requests_max > 0,
             resident_bytes > 0 from salesai.sidecar_status",
        &[],
    );
    assert!(sidecar.get::<_, bool>(0));
    assert_eq!(sidecar.get::<_, &str>(1), "ready");
    assert_eq!(sidecar.get::<_, Option<&str>>(2), None);
    assert_eq!(sidecar.get::<_, i32>(3), 3, "one model of each kind");
    assert!(sidecar.get::<_, bool>(4) && sidecar.get::<_, bool>(5));
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.pipeline_errors", &[]),
        0
    );
}

/// Goal: loading the same deal room again changes nothing.
#[test]
fn loading_twice_changes_nothing() {
    let mut session = world::shared().connect();
    let state =
        "select count(*)::text || ' ' || max(version) || ' ' || sum(id) from salesai.interaction";
    let before: String = session.one(state, &[]);
    session.run("begin");
    for entry in deal_room::manifest() {
        deal_room::ingest(&mut session, &entry);
    }
    assert_eq!(session.one::<String>(state, &[]), before);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job", &[]),
        0
    );
    session.run("rollback");
}
