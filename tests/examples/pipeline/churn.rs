//! Whether an hour of work bloats the queue, under PostgreSQL's own autovacuum.

use std::time::{Duration, Instant};

use tests::measure::setting;
use tests::session::Session;
use tests::world::{assert_settled, drain};

pub fn measure() {
    let world = crate::world();
    let mut session = world.cluster.connect();
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
            say(&mut session, reported, sent);
        }
    }
    drain(&mut session);
    assert_settled(&mut session);
    say(&mut session, start.elapsed(), sent);
}

fn say(session: &mut Session, elapsed: Duration, sent: u64) {
    let sizes: Vec<String> = session.column(
        "select format('%s %s kB', relname, pg_total_relation_size(oid) / 1024)
         from pg_class where oid in ('salesai.job'::regclass, 'salesai.job_count'::regclass) order by relname",
        &[],
    );
    println!(
        "after {:.0} min, {sent} notes: {}",
        elapsed.as_secs_f64() / 60.0,
        sizes.join(", ")
    );
}
