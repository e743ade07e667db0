//! A model call can be cancelled like any other statement.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use tests::measure::{Dice, ms, percentile, wait_until};
use tests::session::{CLOSED, Refusal, Session};
use tests::world::World;

const ROUNDS: usize = 100;
/// No figure to reach, only what tells a cancel from an answer.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);
/// Until a generation has begun; the machine may be busy.
const GENERATION_LIMIT: Duration = Duration::from_secs(60);
const INSIGHT: &str =
    "select salesai.insight('Why is the Halden Freight deal stuck, who decides, and what did we offer?',
         evidence_count => 10)";
const EMBED: &str = "select salesai.embed(array(
    select repeat('The plant in Tarrow loses eleven hours a month. ' || g, 30) from generate_series(1, 200) g))";
const SUMMARIZE: &str = "select salesai.summarize(array(
    select repeat('The plant in Tarrow loses eleven hours a month. ' || g, 5) from generate_series(1, 200) g))";

/// Goal: everything that PostgreSQL can ask of a backend reaches it in the middle of a model call.
#[test]
fn cancel_and_terminate() {
    let world = World::start_with_account("Halden Freight");
    cancels_are_quick(&world);
    statement_timeout_holds(&world);
    cancelled_generation_stops(&world);
    terminate_ends_one_backend(&world);
    let log = world.cluster.log();
    assert!(
        !log.contains("PANIC") && !log.contains("was terminated by signal"),
        "a process crashed"
    );
}

fn cancels_are_quick(world: &World) {
    let mut dice = Dice::new(7);
    let mut delays = [Vec::new(), Vec::new(), Vec::new()];
    let mut canceller = world.cluster.connect();
    let mut victim = world.cluster.connect();
    for round in 0..ROUNDS {
        let sql = [INSIGHT, EMBED, SUMMARIZE][round % 3];
        let pause = dice.between_ms(20, 300);
        let (delay, refusal) = cancel_after(&mut canceller, &mut victim, sql, |_| {
            std::thread::sleep(pause);
        });
        refusal.assert_is("57014", sql);
        assert!(
            delay < CANCEL_LIMIT,
            "{sql}: ended {delay:?} after the cancel"
        );
        delays[round % 3].push(delay);
    }
    let mut all = delays.concat();
    let [insight, embed, summarize] = &mut delays;
    for (what, delays) in [
        ("insight()", insight),
        ("embed()", embed),
        ("summarize()", summarize),
        ("all", &mut all),
    ] {
        println!(
            "measured: cancel of {what}, {} runs: p50 {}, p99 {}, max {}",
            delays.len(),
            ms(percentile(delays, 0.5)),
            ms(percentile(delays, 0.99)),
            ms(percentile(delays, 1.0)),
        );
    }
}

/// Runs `sql` on one connection and cancels it from another; returns the time from cancel to error.
fn cancel_after(
    canceller: &mut Session,
    victim: &mut Session,
    sql: &str,
    wait: impl FnOnce(&mut Session),
) -> (Duration, Refusal) {
    let pid = victim.backend_pid();
    std::thread::scope(|scope| {
        let (starting, started) = mpsc::channel();
        let running = scope.spawn(move || {
            starting.send(()).expect("tell that it starts");
            let refusal = victim.refusal(sql, &[]);
            (Instant::now(), refusal)
        });
        started.recv().expect("it starts");
        wait(canceller);
        let cancelled = Instant::now();
        assert!(canceller.one::<bool>("select pg_cancel_backend($1)", &[&pid]));
        let (ended, refusal) = running.join().expect("the cancelled thread");
        (ended.saturating_duration_since(cancelled), refusal)
    })
}

fn statement_timeout_holds(world: &World) {
    let mut session = world.cluster.connect();
    session.run("set statement_timeout = '100ms'");
    for sql in [INSIGHT, EMBED, SUMMARIZE] {
        let start = Instant::now();
        session.refusal(sql, &[]).assert_is("57014", sql);
        assert!(start.elapsed() < CANCEL_LIMIT, "{sql}");
    }
}

fn cancelled_generation_stops(world: &World) {
    for sql in [INSIGHT, SUMMARIZE] {
        stops(world, sql);
    }
}

fn stops(world: &World, sql: &str) {
    let mut canceller = world.cluster.connect();
    let mut victim = world.cluster.connect();
    wait_until("the sidecar is idle", GENERATION_LIMIT, || {
        canceller.one(
            "select running_requests = 0 from salesai.sidecar_status",
            &[],
        )
    });
    let before = generation_steps(&mut canceller);
    let (_, refusal) = cancel_after(&mut canceller, &mut victim, sql, |session| {
        wait_until("the sidecar generates", GENERATION_LIMIT, || {
            generation_steps(session) > before
        });
    });
    refusal.assert_is("57014", sql);
    let cancelled = Instant::now();
    let steps = [0, 200, 700, 3_000].map(|after_ms| {
        sleep_until(cancelled + Duration::from_millis(after_ms));
        generation_steps(&mut canceller)
    });
    println!(
        "measured: generation steps 0, 200, 700, 3000 ms after a cancel: {steps:?}: {}",
        &sql[..24]
    );
    // A step is counted as it begins; on a busy machine the sidecar may take a moment to see the closed socket.
    assert_eq!(
        steps[1], steps[3],
        "the sidecar goes on generating for nobody"
    );
}

fn terminate_ends_one_backend(world: &World) {
    let mut session = world.cluster.connect();
    let started: String = session.one("select pg_postmaster_start_time()::text", &[]);
    let mut other = world.cluster.connect();
    let mut victim = world.cluster.connect();
    let pid = victim.backend_pid();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| {
            let refusal = victim.try_run(INSIGHT, &[]);
            (refusal, victim.is_closed())
        });
        std::thread::sleep(Duration::from_millis(300));
        assert!(session.one::<bool>("select pg_terminate_backend($1)", &[&pid]));
        let (refusal, is_closed) = running.join().expect("the terminated thread");
        let refusal = refusal.expect_err("it was terminated");
        if refusal.sqlstate != CLOSED {
            refusal.assert_is("57P01", INSIGHT);
        }
        assert!(is_closed);
        let last_word = "terminating connection due to administrator command";
        assert!(world.cluster.log().contains(last_word));
    });
    wait_until("the backend is gone", CANCEL_LIMIT, || {
        session.one::<bool>(
            "select not exists (select from pg_stat_activity where pid = $1)",
            &[&pid],
        )
    });
    assert_eq!(other.one::<i32>("select 1", &[]), 1);
    other.run("select salesai.embed('still there')");
    assert_eq!(
        session.one::<String>("select pg_postmaster_start_time()::text", &[]),
        started
    );
}

fn generation_steps(session: &mut Session) -> i64 {
    session.one("select generation_steps from salesai.sidecar_status", &[])
}

fn sleep_until(time: Instant) {
    std::thread::sleep(time.saturating_duration_since(Instant::now()));
}
