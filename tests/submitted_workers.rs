//! Questions through the queue when a worker dies, a model stalls, somebody cancels, or the answer fails.

use std::time::{Duration, Instant};

use tests::config::config;
use tests::measure::wait_until;
use tests::process::signal;
use tests::session::Session;
use tests::world::World;

use crate::submitted::{ACCOUNT, CANCEL_LIMIT, IS_ANSWERED, LIMIT, QUESTION, STATE};

/// Goal: a worker that dies while the model writes loses its lease, and another answers, once.
#[test]
fn killed_worker_is_replaced() {
    let world = World::start_with_account(ACCOUNT);
    let mut session = world.cluster.connect();
    let request = stall(&world, &mut session);
    let pid: i32 = session.one(
        "select holder_pid from salesai.insight_request where id = $1",
        &[&request],
    );
    signal("-KILL", pid.unsigned_abs());
    wait_until("PostgreSQL notices", Duration::from_secs(30), || {
        session.is_closed()
    });
    world.cluster.wait_until_up();
    world.sidecar.resume();
    let mut session = world.cluster.connect();
    wait_until("the request is done", LIMIT, || {
        session.one::<String>(STATE, &[&request]) == "done"
    });
    let row = session.row(
        "select losses, attempts, (select count(*) from salesai.insight i where i.question = r.question)
         from salesai.insight_request r where id = $1",
        &[&request],
    );
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (1, 0));
    assert_eq!(row.get::<_, i64>(2), 1, "exactly once");
}

/// Goal: while the model writes, the worker has no snapshot, no transaction and no lock; what was deleted meanwhile is
/// not cited.
#[test]
fn stalled_model_holds_nothing() {
    let world = World::start_with_account(ACCOUNT);
    let mut session = world.cluster.connect();
    let request = stall(&world, &mut session);
    let end = Instant::now() + config().stall;
    let (mut polls, mut busy) = (0, 0);
    while Instant::now() < end {
        let held: Vec<String> = session.column(HELD, &[]);
        busy = if held.is_empty() { 0 } else { busy + 1 };
        assert!(busy <= 5, "the worker holds {held:?} for {busy} polls");
        polls += 1;
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("measured: {polls} polls, no snapshot, transaction or lock that stayed");
    assert_eq!(session.one::<String>(STATE, &[&request]), "running");
    // The first of what search finds is part of the evidence.
    let gone: i64 = session.one(
        "delete from salesai.interaction i using salesai.insight_request r
         where r.id = $1 and i.id = (select h.interaction_id from salesai.search(r.asked, 10, mode => 'lexical') h limit 1)
         returning i.id",
        &[&request],
    );
    world.sidecar.resume();
    wait_until("the request is done", LIMIT, || {
        session.one::<String>(STATE, &[&request]) == "done"
    });
    let row = session.row(
        "select r.attempts, exists (select from salesai.citation c where c.insight_id = r.insight_id and c.interaction_id = $2),
             (select count(*) from unnest(i.evidence) e (id) where not exists (select from salesai.chunk c where c.id = e.id))
         from salesai.insight_request r join salesai.insight i on i.id = r.insight_id where r.id = $1",
        &[&request, &gone],
    );
    assert_eq!(
        row.get::<_, i32>(0),
        1,
        "what was written before was not kept"
    );
    assert!(!row.get::<_, bool>(1));
    assert_eq!(row.get::<_, i64>(2), 0, "evidence that is gone");
}

/// Goal: a question that is cancelled is not answered, and the model stops.
#[test]
fn cancelled_request_stops() {
    let world = World::start_with_account(ACCOUNT);
    let mut session = world.cluster.connect();
    session.run("select salesai.pause()");
    let waiting: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    let cancel = "select salesai.insight_cancel($1)";
    assert!(session.one::<bool>(cancel, &[&waiting]));
    assert!(
        !session.one::<bool>(cancel, &[&waiting]),
        "it has ended already"
    );
    session.run("select salesai.resume()");
    let running = stall(&world, &mut session);
    assert!(session.one::<bool>(cancel, &[&running]));
    let cancelled = Instant::now();
    wait_until("the worker gives up", CANCEL_LIMIT, || {
        session.column::<String>(WAITS, &[]).is_empty()
    });
    println!(
        "measured: a worker gives up {:?} after the cancel",
        cancelled.elapsed()
    );
    world.sidecar.resume();
    wait_until("the sidecar is idle", LIMIT, || {
        session.one(
            "select running_requests = 0 and waiting_requests = 0 from salesai.sidecar_status",
            &[],
        )
    });
    for request in [waiting, running] {
        session
            .refusal(
                "select salesai.insight_result($1, wait_ms => 1000)",
                &[&request],
            )
            .assert_is("57014", "a cancelled question");
        assert_eq!(session.one::<String>(STATE, &[&request]), "cancelled");
    }
    let kept: i64 = session.one("select count(*) from salesai.insight", &[]);
    assert_eq!(kept, 0);
    // The worker goes on.
    let next: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    assert!(session.one::<bool>(IS_ANSWERED, &[&next]));
    // Nor does it wait for one who cancels and does not commit; it was not cancelled then.
    let running = stall(&world, &mut session);
    let mut hesitant = world.cluster.connect();
    hesitant.run("begin");
    assert!(hesitant.one::<bool>(cancel, &[&running]));
    // It looks every second, and waits for a lock as long.
    std::thread::sleep(Duration::from_secs(3));
    wait_until("no worker is in a transaction", LIMIT, || {
        session.column::<String>(HELD, &[]).is_empty()
    });
    hesitant.run("rollback");
    world.sidecar.resume();
    assert!(session.one::<bool>(IS_ANSWERED, &[&running]));
}

/// Goal: failures are told: an outage as long as it lasts, what cannot be mended for good.
#[test]
fn failures_are_told() {
    let world = World::start_with_account(ACCOUNT);
    let mut session = world.cluster.connect();
    let wrong: i64 = session.one(
        "select salesai.insight_submit($1, model => 'no-such-model')",
        &[&QUESTION],
    );
    let refusal = session.refusal(
        "select salesai.insight_result($1, wait_ms => 120000)",
        &[&wrong],
    );
    refusal.assert_is("42704", "an unknown model");
    assert!(
        refusal
            .hint
            .is_some_and(|hint| hint.contains("sidecar_status"))
    );
    world.sidecar.stop();
    let request: i64 = session.one("select salesai.insight_submit($1)", &[&QUESTION]);
    wait_until("the outage is noted", LIMIT, || {
        session.one(
            "select error_code is not distinct from '58000' and error_class = 'pipeline_temporary' and state = 'queued'
             from salesai.insight_request where id = $1",
            &[&request],
        )
    });
    assert!(session.one::<bool>(
        "select salesai.insight_result($1, wait_ms => 500) is null",
        &[&request]
    ));
    world.sidecar.launch();
    let done: bool = session.one(
        "select i.method is not null from salesai.insight_result($1, wait_ms => 120000) i",
        &[&request],
    );
    assert!(done);
    let told: bool = session.one(
        "select attempts = 0 and error_code is null from salesai.insight_request where id = $1",
        &[&request],
    );
    assert!(told, "an outage uses up no attempt");
}

/// What workers hold now: snapshot, transaction, locks.
const HELD: &str = "select held from pg_stat_activity a
    cross join lateral (
        select 'backend_xmin ' || a.backend_xmin where a.backend_xmin is not null
        union all select 'backend_xid ' || a.backend_xid where a.backend_xid is not null
        union all select 'transaction since ' || a.xact_start where a.xact_start is not null
        union all select l.locktype || ' ' || l.mode from pg_locks l where l.pid = a.pid) h (held)
    where a.backend_type = 'pg_salesai worker'";
/// Workers that wait for the sidecar, where PostgreSQL knows our events (17 and later).
const WAITS: &str = "select wait_event from pg_stat_activity
    where backend_type = 'pg_salesai worker' and wait_event = 'SalesaiSidecar'";

/// Stops the sidecar while it writes the answer to a question; returns the request. A fast machine may be done when the
/// stop arrives; then it is tried again.
fn stall(world: &World, session: &mut Session) -> i64 {
    const ATTEMPTS: u32 = 20;
    const RESTED_POLLS: u32 = 15;
    let steps = "select generation_steps from salesai.sidecar_status";
    for attempt in 0..ATTEMPTS {
        let before: i64 = session.one(steps, &[]);
        let request: i64 = session.one(
            "select salesai.insight_submit('Why is the Halden Freight deal stuck, who decides, and what did we offer? ' || $1,
                 evidence_count => 10, max_tokens => 200)",
            &[&attempt.to_string()],
        );
        wait_until("the model writes", LIMIT, || {
            session.one::<i64>(steps, &[]) > before
        });
        world.sidecar.pause();
        // An answer that was on its way is kept by then, however long the disk takes.
        let mut rested = 0;
        wait_until("the workers rest", LIMIT, || {
            let held: Vec<String> = session.column(HELD, &[]);
            rested = if held.is_empty() { rested + 1 } else { 0 };
            rested == RESTED_POLLS
        });
        if session.one::<String>(STATE, &[&request]) == "running" {
            return request;
        }
        world.sidecar.resume();
        session.run("delete from salesai.insight");
    }
    panic!("the sidecar was never stalled while it wrote");
}
