//! The worker holds nothing in the database while a model runs.

use std::time::{Duration, Instant};

use tests::config::config;
use tests::measure::wait_until;
use tests::session::Session;
use tests::world::{World, assert_settled, drain};

const POLL: Duration = Duration::from_millis(200);
/// A short transaction may be seen by a few polls, not by more.
const POLLS_MAX: u32 = 5;

/// Goal: while the sidecar stands still in the middle of a job, the worker has no snapshot, no
/// transaction and no lock, so that vacuum and DDL go on; then the job is done.
#[test]
fn stalled_sidecar_holds_nothing() {
    let world = World::start();
    let mut session = world.cluster.connect();
    stall_in_a_job(&world, &mut session);
    let polls = watch_worker(&mut session);
    assert!(
        session.one::<bool>(
            "select exists (select from salesai.job where state = 'running')",
            &[]
        ),
        "the sidecar was not stalled in the middle of a job"
    );
    world.sidecar.resume();
    println!(
        "measured: {polls} polls in {:?}, no snapshot, transaction or lock that stayed",
        config().stall
    );
    drain(&mut session);
    assert_settled(&mut session);
    wait_until("the worker rests", Duration::from_secs(10), || {
        held(&mut session).is_empty()
    });
}

/// Stops the sidecar while a job is with it. A fast machine may be done, or between two batches, when the
/// stop arrives; then it is tried again.
fn stall_in_a_job(world: &World, session: &mut Session) {
    const ATTEMPTS: u32 = 20;
    for attempt in 0..ATTEMPTS {
        for key in 0..20 {
            let body = format!("Paragraph about plant {key} and its lost hours.\n\n").repeat(150);
            session.rows(
                "select salesai.ingest_note('test', $1, $2)",
                &[&format!("stall-{attempt}-{key}"), &body],
            );
        }
        tests::world::wait_until_running(session);
        world.sidecar.pause();
        // An answer that was on its way is written down by then.
        std::thread::sleep(POLL);
        if session.one::<bool>(
            "select exists (select from salesai.job where state = 'running')",
            &[],
        ) {
            return;
        }
        world.sidecar.resume();
    }
    panic!("the sidecar was never stalled in the middle of a job");
}

/// Polls until the stall is over; panics when the worker holds something for long.
fn watch_worker(session: &mut Session) -> u32 {
    let end = Instant::now() + config().stall;
    let (mut polls, mut busy_polls) = (0, 0);
    while Instant::now() < end {
        let held = held(session);
        busy_polls = if held.is_empty() { 0 } else { busy_polls + 1 };
        assert!(
            busy_polls <= POLLS_MAX,
            "the worker holds {held:?} for {busy_polls} polls"
        );
        polls += 1;
        std::thread::sleep(POLL);
    }
    polls
}

/// What the worker holds now: snapshot, transaction, locks.
fn held(session: &mut Session) -> Vec<String> {
    session.column(
        "select held from pg_stat_activity a
         cross join lateral (
             select 'backend_xmin ' || a.backend_xmin where a.backend_xmin is not null
             union all select 'backend_xid ' || a.backend_xid where a.backend_xid is not null
             union all select 'transaction since ' || a.xact_start where a.xact_start is not null
             union all select l.locktype || ' ' || l.mode from pg_locks l where l.pid = a.pid) h (held)
         where a.backend_type = 'pg_salesai worker'",
        &[],
    )
}
