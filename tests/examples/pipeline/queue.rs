//! What a claim costs as the queue grows.

use std::ops::Range;
use std::time::{Duration, Instant};

use tests::cluster::{Cluster, Settings};
use tests::measure::{ms, percentile};
use tests::session::Session;
use tests::sidecar::Sidecar;

pub fn measure() {
    let sidecar = Sidecar::stopped();
    let settings = Settings {
        worker: false,
        ..Settings::new(sidecar.socket())
    };
    let cluster = Cluster::start(&settings);
    let mut session = cluster.connect();
    session.run("set role salesai_worker");
    let mut jobs = 0;
    for size in [1_000, 100_000, 1_000_000] {
        for source in 0..10 {
            fill(&cluster, jobs / 10..size / 10, &format!("source {source}"));
        }
        jobs = size;
        let mut claims = Vec::new();
        let mut statuses = Vec::new();
        for _ in 0..300 {
            let start = Instant::now();
            let claimed = session.rows("select * from salesai.claim_jobs(8, 60000)", &[]);
            claims.push(start.elapsed());
            assert_eq!(claimed.len(), 8);
            let start = Instant::now();
            session.rows("select * from salesai.queue_status", &[]);
            statuses.push(start.elapsed());
            for job in claimed {
                session.rows("select salesai.release_job($1, (select lease_token from salesai.job where id = $1), 0)", &[&job.get::<_, i64>(0)]);
            }
        }
        say(size, "claim of 8", &mut claims);
        say(size, "queue_status", &mut statuses);
    }
}

/// Jobs of a source, with these numbers; interactions without anything else.
pub fn fill(cluster: &Cluster, numbers: Range<i64>, source: &str) {
    let mut session: Session = cluster.connect();
    session.rows(
        "with added as (
             insert into salesai.interaction (source, external_id, kind, occurred_at, content_hash)
             select $3, n::text, 'note', now(), '' from generate_series($1::bigint, $2::bigint - 1) n
             returning id, source)
         insert into salesai.job (interaction_id, version, source, lane) select id, 1, source, 'background' from added",
        &[&numbers.start, &numbers.end, &source],
    );
    session.run("vacuum analyze salesai.job");
    session.run("vacuum analyze salesai.interaction");
}

fn say(size: i64, name: &str, times: &mut [Duration]) {
    println!(
        "{size} jobs, {name}: p50 {}, p95 {}, longest {}",
        ms(percentile(times, 0.5)),
        ms(percentile(times, 0.95)),
        ms(percentile(times, 1.0))
    );
}
