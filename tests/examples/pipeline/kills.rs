//! `kill -9` of workers, sidecar and postmaster at random moments while items arrive and are worked on.

use std::time::{Duration, Instant};

use tests::measure::{Dice, setting, wait_until};
use tests::process::signal;
use tests::session::Session;
use tests::world::{World, assert_settled, drain};

pub fn measure() {
    let kills = setting("SALESAI_KILLS", 200);
    let items = setting("SALESAI_KILL_ITEMS", 20_000);
    let world = crate::world();
    let start = Instant::now();
    let mut dice = Dice::new(setting("SALESAI_SEED", 1));
    let mut counts = [0_u64; 3];
    let mut known = 0;
    for kill in 0..kills {
        let wanted = items * (kill + 1) / kills;
        let mut session = world.cluster.connect();
        ingest(&mut session, known, wanted);
        known = wanted;
        std::thread::sleep(dice.between_ms(0, 700));
        let victim = dice.between_ms(0, 3).as_millis() as usize;
        counts[victim] += 1;
        match victim {
            0 => kill_worker(&world, &mut session),
            1 => {
                world.sidecar.kill();
                world.sidecar.launch();
            }
            _ => {
                world.cluster.kill_all();
                world.cluster.launch();
            }
        }
    }
    let mut session = world.cluster.connect();
    drain(&mut session);
    assert_settled(&mut session);
    let stored: i64 = session.one("select count(*) from salesai.interaction", &[]);
    let ready: i64 = session.one(
        "select count(*) from salesai.interaction where state = 'ready'",
        &[],
    );
    let twice: i64 = session.one("select count(*) from (select from salesai.chunk group by interaction_id, content having count(*) > 1) d", &[]);
    let counted: String = session.one(
        "select row(pending, running, failed)::text from salesai.queue_status",
        &[],
    );
    println!(
        "{kills} kills ({} of a worker, {} of the sidecar, {} of the postmaster with all its processes) in {:.0} s over {items} items: {} lost, {} not ready, {twice} chunks twice, queue {counted}",
        counts[0],
        counts[1],
        counts[2],
        start.elapsed().as_secs_f64(),
        items as i64 - stored,
        stored - ready
    );
    assert_eq!(
        (stored, ready, twice, counted.as_str()),
        (items as i64, items as i64, 0, "(0,0,0)")
    );
}

fn ingest(session: &mut Session, from: u64, to: u64) {
    session.run("begin");
    for key in from..to {
        session.rows(
            "select salesai.ingest_note('kill', $1, $2)",
            &[
                &key.to_string(),
                &format!("Note {key} about plant {} and its lost hours.", key % 17),
            ],
        );
    }
    session.run("commit");
}

/// PostgreSQL then restarts all its processes.
fn kill_worker(world: &World, session: &mut Session) {
    let pids: Vec<i32> = session.column(
        "select pid from pg_stat_activity where backend_type = 'pg_salesai worker'",
        &[],
    );
    let Some(pid) = pids.first() else {
        return;
    };
    signal("-KILL", pid.unsigned_abs());
    wait_until("PostgreSQL notices", Duration::from_secs(30), || {
        session.is_closed()
    });
    world.cluster.wait_until_up();
}
