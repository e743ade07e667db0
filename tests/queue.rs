//! The queue: whose turn it is, what stops it, and that its numbers are exact.

use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{DRAIN_LIMIT, assert_settled, drain};

const CLAIMED: &str = "select j.source from salesai.claim_jobs($1, 60000) c
    join salesai.job j on j.id = c.job_id order by j.source, j.id";

fn cluster(worker: bool) -> Cluster {
    Cluster::start(&Settings {
        worker,
        ..Settings::new(Sidecar::shared().socket())
    })
}

fn ingest(session: &mut Session, source: &str, count: usize, lane: &str) {
    for key in 0..count {
        session.rows(
            "select salesai.ingest_note($1, $2, 'A note about the plant.', lane => $3)",
            &[&source, &format!("{lane}-{key}"), &lane],
        );
    }
}

fn check_counts(session: &mut Session) {
    let counted = "select row(coalesce(sum(delta) filter (where state = 'pending'), 0),
            coalesce(sum(delta) filter (where state = 'running'), 0),
            coalesce(sum(delta) filter (where state = 'failed'), 0))::text from salesai.job_count";
    let real = "select row(count(*) filter (where state = 'pending'), count(*) filter (where state = 'running'),
            count(*) filter (where state = 'failed'))::text from salesai.job";
    let counted: String = session.one(counted, &[]);
    assert_eq!(counted, session.one::<String>(real, &[]));
    let shown: String = session.one(
        "select row(pending, running, failed)::text from salesai.queue_status",
        &[],
    );
    assert_eq!(counted, shown);
}

/// Goal: a source that sends much keeps no other waiting; interactive work goes first; a pause holds one source or
/// all; a source's jobs come in their order.
#[test]
fn sources_take_turns() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest(&mut session, "bulk", 50, "interactive");
    ingest(&mut session, "crm", 2, "interactive");
    ingest(&mut session, "import", 5, "background");
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
    check_counts(&mut session);
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
    check_counts(&mut session);
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
        ingest(&mut session, source, 40, "interactive");
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
    ingest(&mut session, "test", 1, "interactive");
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
    check_counts(&mut session);
    assert_eq!(session.one::<i64>("select salesai.retry_errors()", &[]), 1);
    while session.one::<i32>("select salesai.process()", &[]) > 0 {}
    assert_settled(&mut session);
    session.run("truncate salesai.interaction cascade");
    check_counts(&mut session);
}

/// Goal: each source says how long its oldest job waits, how fast it goes, and how long the rest will take.
#[test]
fn lag_and_time_left() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest(&mut session, "slow", 6, "background");
    let status = "select lag_s::float8, finished_per_s::float8, eta_s::float8, pending
        from salesai.source_status where source = $1";
    let of = |session: &mut Session, source: &str| {
        let row = session.row(status, &[&source]);
        let (lag, rate, eta): (f64, f64, Option<f64>) = (row.get(0), row.get(1), row.get(2));
        (lag, rate, eta, row.get::<_, i64>(3))
    };
    session.run("select pg_sleep(1.2)");
    ingest(&mut session, "quick", 4, "interactive");
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
    ingest(&mut session, "test", 3, "interactive");
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
    check_counts(&mut session);
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
    check_counts(&mut session);
    session.run("select salesai.resume()");
    drain(&mut session);
    assert_settled(&mut session);
    check_counts(&mut session);
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
            check_counts(&mut session);
            session.run("commit");
        }
    });
    let mut session = cluster.connect();
    drain(&mut session);
    check_counts(&mut session);
    assert_settled(&mut session);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.interaction", &[]),
        120
    );
    wait_until("the changes are added up", Duration::from_secs(30), || {
        session.one::<i64>("select count(*) from salesai.job_count", &[]) <= 64
    });
}

/// Goal: one record that cannot be stored fails alone, in the class of its own fault; the rest of its batch is done.
#[test]
fn a_poisoned_record_fails_alone() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    session.run("alter table salesai.chunk add constraint no_poison check (content !~ 'poison')");
    session.run("select salesai.pause()");
    for key in 0..16 {
        let word = if key == 7 { "poison" } else { "bread" };
        session.rows(
            "select salesai.ingest_note('test', $1, $2)",
            &[&key.to_string(), &format!("A note about {word}.")],
        );
    }
    session.run("select salesai.resume()");
    wait_until("all but one are done", DRAIN_LIMIT, || {
        session.one::<bool>(
            "select pending + running = 0 and failed = 1 from salesai.queue_status",
            &[],
        )
    });
    let error: String = session.one("select concat_ws(' ', external_id, class, step, job_state, attempt) from salesai.pipeline_errors", &[]);
    assert_eq!(error, "7 record_permanent store failed 1");
    assert_eq!(
        session.one::<i64>(
            "select count(*) from salesai.interaction where state = 'ready'",
            &[]
        ),
        15
    );
    assert_eq!(
        session.one::<i64>("select salesai.retry_errors(source => 'other')", &[]),
        0
    );
    assert_eq!(
        session.one::<i64>(
            "select salesai.retry_errors(class => 'record_temporary')",
            &[]
        ),
        0
    );
    session.run("alter table salesai.chunk drop constraint no_poison");
    assert_eq!(
        session.one::<i64>(
            "select salesai.retry_errors(source => 'test', step => 'store')",
            &[]
        ),
        1
    );
    drain(&mut session);
    assert_settled(&mut session);
    check_counts(&mut session);
}

/// Goal: the same where nobody but `process()` works, and who cancels that ends it.
#[test]
fn process_notes_a_poisoned_record() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    session.run("alter table salesai.chunk add constraint no_poison check (content !~ 'poison')");
    for (key, word) in ["poison", "bread", "milk"].iter().enumerate() {
        session.rows(
            "select salesai.ingest_note('test', $1, $2)",
            &[&key.to_string(), &format!("A note about {word}.")],
        );
    }
    session.run("begin");
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 2);
    session.run("commit");
    let error: String = session.one(
        "select concat_ws(' ', external_id, class, step, job_state) from salesai.pipeline_errors",
        &[],
    );
    assert_eq!(error, "0 record_permanent store failed");
    let ready: i64 = session.one(
        "select count(*) from salesai.interaction where state = 'ready'",
        &[],
    );
    assert_eq!(ready, 2);
    check_counts(&mut session);
    session.run("create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(60); return new; end'");
    session.run(
        "create trigger slow before insert on salesai.chunk for each row execute function slow()",
    );
    session.run("select salesai.ingest_note('test', 'slow', 'A slow note.')");
    session.run("set statement_timeout = '3s'");
    session
        .refusal("select salesai.process()", &[])
        .assert_is("57014", "a timeout while a record is stored");
    session.run("set statement_timeout = 0; drop trigger slow on salesai.chunk");
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 1);
}

/// Goal: what is everybody's fault uses up no attempt, is said once, and is tried again when it is mended.
#[test]
fn a_blocked_pipeline_waits() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    session.run("select salesai.ingest_note('test', 'first', 'It makes the embedding set.')");
    drain(&mut session);
    session.run("update salesai.embedding_set set model = 'gone'");
    ingest(&mut session, "test", 3, "interactive");
    let blocked = "select count(*) from salesai.pipeline_errors where class = 'pipeline_permanent' and job_state = 'pending' and attempt = 0 and next_attempt_at > now()";
    wait_until("the jobs are blocked", DRAIN_LIMIT, || {
        session.one::<i64>(blocked, &[]) == 3
    });
    let doctor: String = session.one(
        "select state from salesai.doctor() where piece = 'embedding_set' and not ok",
        &[],
    );
    assert!(doctor.contains("gone"), "{doctor}");
    assert_eq!(
        session.one::<i64>(
            "select salesai.retry_errors(class => 'pipeline_permanent')",
            &[]
        ),
        3
    );
    wait_until("the jobs are blocked again", DRAIN_LIMIT, || {
        session.one::<i64>(blocked, &[]) == 3
    });
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job_error", &[]),
        3,
        "each is said once"
    );
    session.run("update salesai.embedding_set set model = 'all-MiniLM-L6-v2'");
    assert_eq!(
        session.one::<i64>(
            "select salesai.retry_errors(class => 'pipeline_permanent')",
            &[]
        ),
        3
    );
    drain(&mut session);
    assert_settled(&mut session);
}

/// Goal: with its workers running, the extension and the database can be dropped; made again, the extension works.
#[test]
fn workers_block_no_drop() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    ingest(&mut session, "test", 20, "interactive");
    wait_until("there is a set", DRAIN_LIMIT, || {
        session.one::<bool>("select exists (select from salesai.embedding_set)", &[])
    });
    session.run("set lock_timeout = '20s'; drop extension pg_salesai cascade");
    session.run("create extension pg_salesai");
    ingest(&mut session, "test", 1, "interactive");
    drain(&mut session);
    assert_settled(&mut session);
    drop(session);
    let mut other = cluster.connect_to("postgres", "postgres");
    other.run("drop database salesai");
}

/// Goal: an index that is being built, which may take hours, makes room for `drop extension`.
#[test]
fn an_index_build_blocks_no_drop() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    ingest(&mut session, "test", 20, "interactive");
    drain(&mut session);
    // The last phase of a concurrent build waits for all older snapshots.
    let mut reader = cluster.connect();
    reader.run("begin isolation level repeatable read; select 1");
    session.run(
        "set salesai.embedding_index = 'hnsw'; select salesai.reembed(template => '{content}')",
    );
    wait_until("the index is being built", DRAIN_LIMIT, || {
        session.one::<bool>(
            "select exists (select from pg_stat_progress_create_index where phase like 'waiting%')",
            &[],
        )
    });
    let progress: f32 = session.one(
        "select index_progress from salesai.embedding_sets where state = 'building'",
        &[],
    );
    assert!(progress > 0.5 && progress < 1.0, "{progress}");
    session.run("set lock_timeout = '20s'; drop extension pg_salesai cascade");
    reader.run("commit");
}

/// Goal: a reload changes which databases are served and by how many workers; what they hold is finished.
#[test]
fn workers_follow_the_settings() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    let workers = |session: &mut Session, wanted: i64| {
        wait_until(&format!("there are {wanted} workers"), DRAIN_LIMIT, || {
            let count: i64 = session.one(
                "select count(*) from pg_stat_activity where backend_type = 'pg_salesai worker'",
                &[],
            );
            count == wanted
        });
    };
    workers(&mut session, 2);
    let set = |session: &mut Session, setting: &str| {
        session.run(&format!("alter system set {setting}"));
        session.run("select pg_reload_conf()");
    };
    set(&mut session, "salesai.workers_per_database = 1");
    workers(&mut session, 1);
    set(&mut session, "salesai.worker_databases = ''");
    workers(&mut session, 0);
    ingest(&mut session, "test", 3, "interactive");
    set(&mut session, "salesai.worker_databases = 'salesai'");
    set(&mut session, "salesai.workers_per_database = 3");
    workers(&mut session, 3);
    drain(&mut session);
    assert_settled(&mut session);
    // The launcher's successor finds who works already.
    let launcher = "select pid from pg_stat_activity where backend_type = 'pg_salesai launcher'";
    let old: i32 = session.one(launcher, &[]);
    session.run(&format!("select pg_terminate_backend({old})"));
    wait_until("there is another launcher", DRAIN_LIMIT, || {
        session
            .column::<i32>(launcher, &[])
            .iter()
            .any(|pid| *pid != old)
    });
    session.run("select pg_sleep(1)");
    workers(&mut session, 3);
}

/// Goal: pg_stat_activity says what a worker and a caller wait for.
#[test]
fn waits_have_names() {
    let sidecar = Sidecar::start();
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    if session.one::<i32>("select current_setting('server_version_num')::integer", &[]) < 170_000 {
        println!("extensions have no wait events of their own before PostgreSQL 17");
        return;
    }
    let shown = |session: &mut Session, event: &str| -> bool {
        session.one("select exists (select from pg_stat_activity where wait_event = $1 and wait_event_type = 'Extension')", &[&event])
    };
    wait_until("a worker waits", DRAIN_LIMIT, || {
        shown(&mut session, "SalesaiQueue")
    });
    sidecar.pause();
    std::thread::scope(|scope| {
        scope.spawn(|| cluster.connect().run("select salesai.embed('hello')"));
        wait_until("a caller waits", DRAIN_LIMIT, || {
            shown(&mut session, "SalesaiSidecar")
        });
        sidecar.resume();
    });
}
