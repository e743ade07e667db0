//! Whether an hour of work bloats a long queue, under PostgreSQL's own autovacuum, and what a claim costs meanwhile.

use std::time::{Duration, Instant};

use tests::measure::{ms, percentile, setting};
use tests::session::Session;
use tests::world::{World, assert_settled};

use crate::queue;

/// Claims that each report is of.
const CLAIMS: usize = 50;

pub fn measure() {
    let world = crate::world();
    let mut session = world.cluster.connect();
    // A source that is paused: its jobs wait, are due, and stay.
    session.run("select salesai.pause('backlog')");
    let backlog = setting("SALESAI_CHURN_BACKLOG", 1_000_000) as i64;
    queue::fill(&world.cluster, 0..backlog, "backlog");
    say(&world, Duration::ZERO, 0);
    let minutes = setting("SALESAI_CHURN_MINUTES", 60);
    let start = Instant::now();
    let mut reported = Duration::ZERO;
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(minutes * 60) {
        for _ in 0..20 {
            // Three of four are edits of what is there.
            let key = (sent % 4 * 1_000 + sent / 4 % 250).to_string();
            session.rows(
                "select salesai.ingest_note('churn', $1, $2)",
                &[&key, &format!("Note number {sent} about the plan.")],
            );
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(400));
        if start.elapsed() - reported >= Duration::from_secs(minutes * 6) {
            reported = start.elapsed();
            say(&world, reported, sent);
        }
    }
    let left = "select pending + running from salesai.source_status where source = 'churn'";
    while session.one::<i64>(left, &[]) > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    say(&world, start.elapsed(), sent);
    let kept = "select pending from salesai.source_status where source = 'backlog'";
    assert_eq!(session.one::<i64>(kept, &[]), backlog);
    session.run("delete from salesai.interaction where source = 'backlog'");
    assert_settled(&mut session);
}

fn say(world: &World, elapsed: Duration, sent: u64) {
    let mut session = world.cluster.connect();
    let sizes: Vec<String> = session.column(
        "select format('%s %s kB', relname, pg_total_relation_size(oid) / 1024)
         from pg_class where oid in ('salesai.job'::regclass, 'salesai.job_count'::regclass) order by relname",
        &[],
    );
    let mut claims = claims(&mut session);
    println!(
        "after {:.0} min, {sent} notes: {}; claim of 8: p50 {}, p95 {}",
        elapsed.as_secs_f64() / 60.0,
        sizes.join(", "),
        ms(percentile(&mut claims, 0.5)),
        ms(percentile(&mut claims, 0.95)),
    );
}

/// Times of claims that are taken back at once.
fn claims(session: &mut Session) -> Vec<Duration> {
    session.run("set role salesai_worker");
    let claim = |session: &mut Session| {
        session.run("begin");
        let start = Instant::now();
        session.rows("select * from salesai.claim_jobs(8, 60000)", &[]);
        let elapsed = start.elapsed();
        session.run("rollback");
        elapsed
    };
    (0..CLAIMS).map(|_| claim(session)).collect()
}
