//! Any process may die at any moment; in the end every interaction is processed exactly once.

use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::process::signal;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{World, assert_settled, drain, wait_until_running};

const INTERACTIONS: usize = 12;

/// Goal: a sidecar that dies in the middle of a batch.
#[test]
fn sidecar_is_killed() {
    check(|world, _| {
        world.sidecar.kill();
        world.sidecar.launch();
    });
}

/// Goal: a worker that dies in the middle of a batch; PostgreSQL restarts all its processes.
#[test]
fn worker_is_killed() {
    check(|world, session| {
        let pid: i32 = session.one(
            "select holder_pid from salesai.job where state = 'running' limit 1",
            &[],
        );
        signal("-KILL", pid.unsigned_abs());
        wait_until("PostgreSQL notices", Duration::from_secs(30), || {
            session.is_closed()
        });
        world.cluster.wait_until_up();
    });
}

/// Goal: a server that dies in the middle of a batch, with all its processes.
#[test]
fn server_is_killed() {
    check(|world, _| {
        world.cluster.kill_all();
        world.cluster.launch();
    });
}

/// Goal: a standby starts no workers; when its primary is lost and it is promoted, its queue goes on.
#[test]
fn standby_is_promoted() {
    let sidecar = Sidecar::start();
    let settings = Settings {
        durable: true,
        ..Settings::new(sidecar.socket())
    };
    let primary = Cluster::start(&settings);
    let mut session = primary.connect();
    ingest(&mut session, 0);
    drain(&mut session);
    let standby = primary.standby();
    ingest(&mut session, 1);
    wait_until_running(&mut session);
    let written: String = session.one("select pg_current_wal_flush_lsn()::text", &[]);
    let mut replica = standby.connect();
    wait_until("the standby has it", Duration::from_secs(60), || {
        replica.one(
            "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn",
            &[&written],
        )
    });
    primary.kill_all();
    let ours: i64 = replica.one(
        "select count(*) from pg_stat_activity where backend_type like 'pg_salesai%'",
        &[],
    );
    assert_eq!(ours, 0, "a standby has no queue of its own");
    let found: String = replica.one("select content from salesai.search('budget', k => 1)", &[]);
    assert!(!found.is_empty());
    let left: i64 = replica.one("select count(*) from salesai.job", &[]);
    assert!(left > 0, "nothing was left, so this shows nothing");
    println!("{left} jobs were left when the primary was lost");
    assert!(replica.one::<bool>("select pg_promote()", &[]));
    drain(&mut replica);
    assert_settled(&mut replica);
    assert_eq!(
        replica.one::<i64>("select count(*) from salesai.interaction", &[]),
        2 * INTERACTIONS as i64
    );
}

/// Does the damage twice, each time in the middle of a batch.
fn check(damage: impl Fn(&World, &mut Session)) {
    let sidecar = Sidecar::start();
    let settings = Settings {
        durable: true,
        ..Settings::new(sidecar.socket())
    };
    let world = World {
        cluster: Cluster::start(&settings),
        sidecar,
    };
    for round in 0..2 {
        let mut session = world.cluster.connect();
        ingest(&mut session, round);
        wait_until_running(&mut session);
        let left: i64 = session.one("select count(*) from salesai.job", &[]);
        damage(&world, &mut session);
        let mut session = world.cluster.connect();
        drain(&mut session);
        assert_settled(&mut session);
        let expected = ((round + 1) * INTERACTIONS) as i64;
        assert_eq!(
            session.one::<i64>("select count(*) from salesai.interaction", &[]),
            expected
        );
        println!("round {round}: {left} jobs were left when it happened");
    }
}

fn ingest(session: &mut Session, round: usize) {
    session.run("begin");
    for key in 0..INTERACTIONS {
        let paragraph =
            format!("Paragraph about plant {key}, its lost hours and the price of the pilot.\n\n");
        session.rows(
            "select salesai.ingest_note('test', $1, $2)",
            &[&format!("crash-{round}-{key}"), &paragraph.repeat(60)],
        );
    }
    session.run("commit");
}
