//! The queue: whose turn it is, what stops it, and that its numbers are exact.

use std::time::Duration;

use tests::measure::wait_until;
use tests::session::Session;
use tests::world::{DRAIN_LIMIT, assert_counted, assert_settled, cluster, drain, ingest_notes};

const CLAIMED: &str = "select j.source from salesai.claim_jobs($1, 60000) c
    join salesai.job j on j.id = c.job_id order by j.source, j.id";

/// Goal: a source that sends much keeps no other waiting; interactive work goes first; a pause holds one source or
/// all; a source's jobs come in their order.
#[test]
fn sources_take_turns() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "bulk", 50, "interactive");
    ingest_notes(&mut session, "crm", 2, "interactive");
    ingest_notes(&mut session, "import", 5, "background");
    // Each holder keeps what it has: one that claims again has lost its jobs.
    let mut holders = Vec::new();
    let mut claim = |count: i32| -> Vec<String> {
        let mut holder = cluster.connect();
        let sources = holder.column(CLAIMED, &[&count]);
        holders.push(holder);
        sources
    };
    assert_eq!(claim(4), ["bulk", "bulk", "crm", "crm"]);
    let first: Vec<i64> = session.column(
        "select id from salesai.job where state = 'running' and source = 'bulk' order by id",
        &[],
    );
    let oldest: Vec<i64> = session.column(
        "select id from salesai.job where source = 'bulk' order by id limit 2",
        &[],
    );
    assert_eq!(first, oldest);
    assert_counted(&mut session);
    session.run("select salesai.pause('bulk')");
    assert_eq!(claim(3), ["import"; 3]);
    session.run("select salesai.pause()");
    assert!(claim(3).is_empty());
    let paused: bool = session.one("select bool_and(paused) from salesai.source_status", &[]);
    assert!(paused);
    let doctor: String = session.one(
        "select state from salesai.doctor() where piece = 'queue_running'",
        &[],
    );
    assert_eq!(doctor, "paused: all, bulk");
    session.run("select salesai.resume('')");
    assert_eq!(claim(3), ["import"; 2]);
    session.run("select salesai.resume()");
    assert_eq!(claim(100).len(), 48);
    assert_counted(&mut session);
    for role in ["salesai_rep", "salesai_gateway", "salesai_worker"] {
        session.run(&format!("set role {role}"));
        session
            .refusal("select salesai.pause()", &[])
            .assert_is("42501", role);
        session.run("reset role");
    }
}

/// Goal: one by one, no source waits for another to be done.
#[test]
fn no_source_starves() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    for source in ["a", "b", "c"] {
        ingest_notes(&mut session, source, 40, "interactive");
    }
    let mut holders: Vec<Session> = (0..30).map(|_| cluster.connect()).collect();
    let mut served: Vec<String> = holders
        .iter_mut()
        .flat_map(|holder| holder.column::<String>(CLAIMED, &[&1]))
        .collect();
    assert_eq!(served.len(), 30);
    served.sort();
    served.dedup();
    // By chance one is left out in two of a hundred thousand runs.
    assert_eq!(served, ["a", "b", "c"]);
}

/// Goal: a job that kills its holders fails in the end, and those beside it do not wait for ever.
#[test]
fn a_job_that_kills_its_holders_fails() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "test", 1, "interactive");
    for _ in 0..11 {
        // Each holder goes away without a word.
        cluster
            .connect()
            .rows("select salesai.claim_jobs(1, 60000)", &[]);
        wait_until("the holder is gone", DRAIN_LIMIT, || {
            session.one::<i64>("select count(*) from pg_stat_activity where backend_type = 'client backend' and datname = current_database()", &[]) == 1
        });
    }
    let claimed: Vec<i64> = session.column("select job_id from salesai.claim_jobs(1, 60000)", &[]);
    assert!(claimed.is_empty());
    let error: String = session.one(
        "select concat_ws(' ', class, step, job_state) from salesai.pipeline_errors",
        &[],
    );
    assert_eq!(error, "record_permanent run failed");
    assert_counted(&mut session);
    assert_eq!(session.one::<i64>("select salesai.retry_errors()", &[]), 1);
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    assert_settled(&mut session);
    session.run("truncate salesai.interaction cascade");
    assert_counted(&mut session);
}

/// Goal: each source says how long its oldest job waits, how fast it goes, and how long the rest will take.
#[test]
fn lag_and_time_left() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "slow", 6, "background");
    let status = "select lag_s::float8, finished_per_s::float8, eta_s::float8, pending
        from salesai.source_status where source = $1";
    let of = |session: &mut Session, source: &str| {
        let row = session.row(status, &[&source]);
        let (lag, rate, eta): (f64, f64, Option<f64>) = (row.get(0), row.get(1), row.get(2));
        (lag, rate, eta, row.get::<_, i64>(3))
    };
    session.run("select pg_sleep(1.2)");
    ingest_notes(&mut session, "quick", 4, "interactive");
    let (lag, rate, eta, _) = of(&mut session, "slow");
    assert!(lag > 1.2 && rate == 0.0 && eta.is_none());
    assert!(of(&mut session, "quick").0 < lag);
    assert_eq!(
        session.one::<i32>("select salesai.process(max_jobs => 7)", &[]),
        7
    );
    session.run("select pg_sleep(1)");
    let (_, rate, eta, pending) = of(&mut session, "slow");
    // Three were finished a second ago or two.
    assert_eq!(pending, 3);
    assert!((0.2..=3.0).contains(&rate), "{rate}");
    let eta = eta.expect("a time");
    assert!((eta * rate - 3.0).abs() < 0.5, "{eta} {rate}");
    assert_eq!(of(&mut session, "quick").3, 0);
    let (whole, lag): (f64, f64) = {
        let row = session.row(
            "select eta_s::float8, lag_s::float8 from salesai.queue_status",
            &[],
        );
        (row.get(0), row.get(1))
    };
    assert!(whole > 0.0 && lag > 2.0);
}

/// Goal: with a full queue ingestion says so and stores nothing; when there is room it goes on.
#[test]
fn a_full_queue_refuses() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    session.run("set salesai.queue_limit = 3");
    ingest_notes(&mut session, "test", 3, "interactive");
    let refusal = session.refusal(
        "select salesai.ingest_note('test', 'more', 'One too many.')",
        &[],
    );
    refusal.assert_is("53400", "a full queue");
    assert!(
        refusal
            .hint
            .is_some_and(|hint| hint.contains("source_status"))
    );
    let batch = "select * from salesai.ingest_batch('note', '[{\"source\": \"test\", \"external_id\": \"x\", \"content\": \"y\"}]')";
    session
        .refusal(batch, &[])
        .assert_is("53400", "a batch into a full queue");
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.interaction", &[]),
        3
    );
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    session.run("select salesai.ingest_note('test', 'more', 'Room again.')");
    assert_counted(&mut session);
}

/// Goal: many at once: by COPY, and as JSON where bad ones keep no good one; both behind what comes one by one.
#[test]
fn bulk() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    session.run("select salesai.pause()");
    let copied = session.copy_in(
        "copy salesai.inbox (kind, source, external_id, content, subject) from stdin",
        &(0..500)
            .map(|key| format!("note\tcopy\t{key}\tNote {key} of many.\tMany\n"))
            .collect::<String>(),
    );
    assert_eq!(copied, 500);
    let outcomes: Vec<String> = session.column(
        "select concat_ws(' ', external_id, outcome, error_code) from salesai.ingest_batch('email', jsonb_build_array(
            jsonb_build_object('source', 'mail', 'external_id', 'good', 'payload',
                encode(convert_to(e'From: ana@acme.example\\r\\nSubject: Hi\\r\\n\\r\\nHello there.', 'UTF8'), 'base64')),
            jsonb_build_object('source', 'mail', 'external_id', 'no account', 'account', 'nobody', 'payload', 'RnJvbTogYUBiLmMKCmhp'),
            jsonb_build_object('source', 'mail', 'external_id', 'no base64', 'payload', '%%%'),
            jsonb_build_object('source', '', 'external_id', 'no source', 'payload', 'RnJvbTogYUBiLmMKCmhp')))",
        &[],
    );
    assert_eq!(
        outcomes,
        [
            "good ingested",
            "no account refused P0002",
            "no base64 refused 22023",
            "no source refused 22023"
        ]
    );
    let lanes: Vec<String> = session.column("select distinct lane from salesai.job", &[]);
    assert_eq!(lanes, ["background"]);
    // One bad row undoes a COPY.
    let bad = session.try_copy_in(
        "copy salesai.inbox (kind, source, external_id, content) from stdin",
        "note\tc\t1\tgood\nparrot\tc\t2\tbad\n",
    );
    bad.expect_err("an unknown kind")
        .assert_is("22023", "an unknown kind");
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.interaction", &[]),
        501
    );
    assert_counted(&mut session);
    session.run("select salesai.resume()");
    drain(&mut session);
    assert_settled(&mut session);
    assert_counted(&mut session);
    let found: i64 = session.one(
        "select count(*) from salesai.search('note 321 of many', kinds => '{note}', k => 3)",
        &[],
    );
    assert_eq!(found, 3);
}

/// Goal: counts stay exact while sessions add, roll back and add up at the same time.
#[test]
fn counts_are_exact() {
    let cluster = cluster(true);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let cluster = &cluster;
            scope.spawn(move || {
                let mut session = cluster.connect();
                for key in 0..40 {
                    session.run("begin");
                    session.rows(
                        "select salesai.ingest_note($1, $2, 'A note.')",
                        &[&format!("s{writer}"), &format!("{key}")],
                    );
                    if key % 5 == 0 {
                        session.run("select salesai.add_up_job_counts()");
                    }
                    session.run(if key % 4 == 0 { "rollback" } else { "commit" });
                }
            });
        }
        let mut session = cluster.connect();
        for _ in 0..50 {
            session.run("begin isolation level repeatable read");
            assert_counted(&mut session);
            session.run("commit");
        }
    });
    let mut session = cluster.connect();
    drain(&mut session);
    assert_counted(&mut session);
    assert_settled(&mut session);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.interaction", &[]),
        120
    );
    wait_until("the changes are added up", Duration::from_secs(30), || {
        session.one::<i64>("select count(*) from salesai.job_count", &[]) <= 64
    });
}
