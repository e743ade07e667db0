//! Workers: how many there are, what wakes them, what they wait for, and that they leave when they are in the way.

use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{
    DRAIN_LIMIT, World, assert_settled, cluster, drain, ingest_notes, wait_until_running,
};

/// Goal: with its workers running, the extension and the database can be dropped; made again, the extension works.
#[test]
fn workers_block_no_drop() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "test", 20, "interactive");
    wait_until("there is a set", DRAIN_LIMIT, || {
        session.one::<bool>("select exists (select from salesai.embedding_set)", &[])
    });
    session.run("set lock_timeout = '20s'; drop extension pg_salesai cascade");
    session.run("create extension pg_salesai");
    ingest_notes(&mut session, "test", 1, "interactive");
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
    ingest_notes(&mut session, "test", 20, "interactive");
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
    ingest_notes(&mut session, "test", 3, "interactive");
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

/// Goal: a worker that waits for a sidecar which does not answer leaves to a command that needs its database; what it
/// held is done later, and counts as no attempt and no loss.
#[test]
fn a_waiting_worker_blocks_no_drop() {
    let world = World::start();
    stall(&world);
    let mut other = world.cluster.connect_to("postgres", "postgres");
    other.run("alter database salesai rename to renamed");
    let mut session = world.cluster.connect_to("postgres", "renamed");
    let spoilt =
        "select count(*) from salesai.job where state <> 'pending' or attempts > 0 or losses > 0";
    assert_eq!(session.one::<i64>(spoilt, &[]), 0);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job_error", &[]),
        0
    );
    drop(session);
    other.run("alter database renamed rename to salesai");
    world.sidecar.resume();
    let mut session = world.cluster.connect();
    drain(&mut session);
    assert_settled(&mut session);
    drop(session);
    stall(&world);
    other.run("drop database salesai");
}

/// Goal: the same where a worker fills a new set, answers a question or fills a column.
#[test]
fn no_work_blocks_a_drop() {
    let world = World::start();
    let mut other = world.cluster.connect_to("postgres", "postgres");
    let mut session = world.cluster.connect();
    ingest_notes(&mut session, "test", 3, "interactive");
    drain(&mut session);
    session.run(
        "create table notes (id bigint primary key, body text, mood text);
         insert into notes values (1, 'They were glad.')",
    );
    drop(session);
    for work in [
        "salesai.reembed(template => '{content}')",
        "salesai.insight_submit('Who was glad?')",
        "salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
    ] {
        let mut session = world.cluster.connect();
        drain(&mut session);
        session.run("select salesai.pause()");
        session.run(&format!("select {work}"));
        world.sidecar.pause();
        session.run("select salesai.resume()");
        // By then a worker has asked the sidecar what it serves, or more.
        session.run("select pg_sleep(1)");
        drop(session);
        other.run("alter database salesai rename to renamed");
        other.run("alter database renamed rename to salesai");
        world.sidecar.resume();
    }
}

/// Lets the sidecar stand still while it has a job.
fn stall(world: &World) {
    let mut session = world.cluster.connect();
    session.run("select salesai.pause()");
    let long = "A paragraph about the plant and its lost hours. ".repeat(400);
    for key in 0..20 {
        session.rows(
            "select salesai.ingest_note('test', gen_random_uuid()::text, $1)",
            &[&format!("{key} {long}")],
        );
    }
    session.run("select salesai.resume()");
    wait_until_running(&mut session);
    world.sidecar.pause();
    // An answer that was on its way is written down by then.
    std::thread::sleep(Duration::from_millis(200));
    wait_until_running(&mut session);
}

/// Goal: a commit wakes a worker that would else look much later.
#[test]
fn a_commit_wakes_a_worker() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    session.run("alter system set salesai.worker_poll_ms = '60s'");
    session.run("select pg_reload_conf()");
    ingest_notes(&mut session, "first", 1, "interactive");
    drain(&mut session);
    // From now on nobody looks by himself.
    let start = std::time::Instant::now();
    let mut rounds = 0;
    while start.elapsed() < Duration::from_secs(20) {
        rounds += 1;
        ingest_notes(&mut session, &format!("round-{rounds}"), 1, "interactive");
        drain(&mut session);
    }
    assert!(rounds > 1, "one note took {:?}", start.elapsed());
    println!(
        "measured: {rounds} notes one after another in {:?}, looked at each 60 s",
        start.elapsed()
    );
    assert_settled(&mut session);
}

/// Goal: where the server does not preload the library, `process()` does all of it.
#[test]
fn process_needs_no_preloaded_library() {
    let mut settings = Settings::new(Sidecar::shared().socket());
    settings.preload = false;
    let cluster = Cluster::start(&settings);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "test", 5, "interactive");
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 5);
    assert_settled(&mut session);
    let found: Vec<String> = session.column("select content from salesai.search('the plant')", &[]);
    assert_eq!(found.len(), 5, "{found:?}");
    // A new session, whose first call loads the library.
    let mut fresh = cluster.connect();
    ingest_notes(&mut fresh, "other", 1, "interactive");
    assert_eq!(fresh.one::<i32>("select salesai.process()", &[]), 1);
}
