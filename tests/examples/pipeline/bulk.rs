//! Whether a COPY of many rows stays as fast as it began, and loses none.

use std::time::Instant;

use tests::cluster::{Cluster, Settings};
use tests::measure::setting;
use tests::sidecar::Sidecar;

/// COPY statements, each of as many rows.
const STATEMENTS: u64 = 10;

pub fn measure() {
    let sidecar = Sidecar::stopped();
    let cluster = Cluster::start(&Settings {
        // Rows come in; what becomes of them is measured as backfill.
        worker: false,
        durable: true,
        shared_buffers: "1GB",
        ..Settings::new(sidecar.socket())
    });
    let mut session = cluster.connect();
    let rows = setting("SALESAI_BULK_ROWS", 1_000_000);
    session.run(&format!(
        "alter system set salesai.queue_limit = {}",
        rows + 1
    ));
    session.run("select pg_reload_conf()");
    for statement in 0..STATEMENTS {
        let numbers = rows * statement / STATEMENTS..rows * (statement + 1) / STATEMENTS;
        let count = numbers.end - numbers.start;
        let lines: String = numbers
            .map(|number| {
                format!("note\tbulk\t{number}\tNote {number} says that plant {number} wants a pump in May.\n")
            })
            .collect();
        let start = Instant::now();
        session.copy_in(
            "copy salesai.inbox (kind, source, external_id, content) from stdin",
            &lines,
        );
        println!(
            "rows {} to {}: {:.0} rows/s",
            rows * statement / STATEMENTS,
            rows * (statement + 1) / STATEMENTS,
            count as f64 / start.elapsed().as_secs_f64()
        );
    }
    let pending: i64 = session.one("select pending from salesai.queue_status", &[]);
    let stored: i64 = session.one("select count(*) from salesai.raw_payload", &[]);
    assert_eq!((pending, stored), (rows as i64, rows as i64));
}
