//! Workers that fill derived columns hold nothing while a model is at work, and lose nothing when they die.

use std::time::Duration;

use tests::measure::wait_until;
use tests::process::signal;
use tests::session::Session;
use tests::world::World;

const LIMIT: Duration = Duration::from_secs(120);

/// Goal: while the model is at work nothing is held; a change meanwhile is asked again; a worker that dies is replaced,
/// and no row is written twice or waits for ever.
#[test]
fn workers_hold_nothing_and_lose_nothing() {
    let world = World::start();
    let mut session = world.cluster.connect();
    session.run(
        "create table notes (id int primary key, body text, mood text, writes int not null default 0);
         create function count_writes() returns trigger language plpgsql as $$
             begin new.writes := old.writes + 1; return new; end $$;
         create trigger count_writes before update of mood on notes for each row execute function count_writes();
         insert into notes select g, 'We talked about offer ' || g || '.' from generate_series(1, 24) g",
    );
    session.run("select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')");
    let holder = stall(&world, &mut session);
    let mut busy = 0;
    for _ in 0..10 {
        let held: Vec<String> = session.column(HELD, &[]);
        busy = if held.is_empty() { 0 } else { busy + 1 };
        assert!(busy <= 5, "the worker holds {held:?} for {busy} polls");
        std::thread::sleep(Duration::from_millis(200));
    }
    // One of those that are being asked, and one that was. A crash loses it unless it is on disk.
    session.run("set synchronous_commit = on");
    let changed: Vec<i32> = session.column(
        "update notes set body = 'Changed: ' || body
         where id in (select min(key[1]::int) from salesai.column_value where state in ('running', 'done') group by state) returning id",
        &[],
    );
    assert_eq!(changed.len(), 2);
    let leased: i64 = session.one(RUNNING, &[]);
    assert!(leased > 0, "the others of its batch");
    signal("-KILL", holder.unsigned_abs());
    wait_until("PostgreSQL notices", Duration::from_secs(30), || {
        session.is_closed()
    });
    world.cluster.wait_until_up();
    world.sidecar.resume();
    let mut session = world.cluster.connect();
    wait_until("all rows are done", LIMIT, || {
        session.one::<bool>(ALL_DONE, &[])
    });
    assert_eq!(session.one::<i64>(RIGHT, &[]), 24);
    let writes: Vec<String> = session.column(
        "select format('%s rows %s times', count(*), writes) from notes group by writes order by writes",
        &[],
    );
    assert_eq!(writes, ["23 rows 1 times", "1 rows 2 times"]);
    open_transactions(&world, &mut session);
}

/// Who has changed a row and does not commit holds up that row alone; nobody waits for a worker.
fn open_transactions(world: &World, session: &mut Session) {
    let mut hesitant = world.cluster.connect();
    hesitant.run("begin; update notes set body = 'Open: ' || body where id = 1");
    session.run("update notes set body = 'Again: ' || body where id > 20");
    wait_until("the others are done", LIMIT, || {
        session.one::<i64>(
            "select count(*) from salesai.column_value where state <> 'done'",
            &[],
        ) == 0
    });
    hesitant.run("update notes set body = body || '.' where id = 2; commit");
    wait_until("all are done", LIMIT, || {
        session.one::<i64>(RIGHT, &[]) == 24
    });
    // Without the sidecar all waits, and says why.
    world.sidecar.stop();
    session.run("update notes set body = 'Late: ' || body where id = 3");
    wait_until("the outage is told", LIMIT, || {
        session.one::<bool>(
            "select state = 'blocked' and error_code = '58000' and waiting = 1 from salesai.column_tasks
             join salesai.column_task t using (id)",
            &[],
        )
    });
    world.sidecar.launch();
    wait_until("it goes on", LIMIT, || session.one::<bool>(ALL_DONE, &[]));
    let attempts: i32 = session.one("select max(attempts) from salesai.column_value", &[]);
    assert_eq!(attempts, 0);
}

const ALL_DONE: &str =
    "select state = 'idle' and done = 24 and stale = 0 from salesai.column_tasks";
/// Rows whose value is of what they say now.
const RIGHT: &str =
    "select count(*) from notes n join salesai.column_value v on v.key = array[n.id::text]
    where n.mood in ('positive', 'neutral', 'negative', 'mixed') and v.state = 'done'
      and v.source_sha256 = encode(sha256(convert_to(n.body, 'UTF8')), 'hex')";
const RUNNING: &str = "select count(*) from salesai.column_value where state = 'running'";

/// Stops the sidecar while it is asked about rows, after others are done; who has them leased.
fn stall(world: &World, session: &mut Session) -> i32 {
    wait_until("the first rows are done", LIMIT, || {
        session.one::<bool>("select count(*) > 0 from notes where mood is not null", &[])
    });
    for _ in 0..20 {
        world.sidecar.pause();
        // What was on its way is kept by then.
        std::thread::sleep(Duration::from_millis(300));
        let holders: Vec<i32> = session.column(
            "select holder_pid from salesai.column_value where state = 'running' group by 1 having count(*) > 1",
            &[],
        );
        if let [holder, ..] = holders[..] {
            return holder;
        }
        world.sidecar.resume();
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the sidecar was never stalled while it was asked");
}

/// As in `submitted.rs`.
const HELD: &str = "select held from pg_stat_activity a
    cross join lateral (
        select 'backend_xmin ' || a.backend_xmin where a.backend_xmin is not null
        union all select 'backend_xid ' || a.backend_xid where a.backend_xid is not null
        union all select 'transaction since ' || a.xact_start where a.xact_start is not null
        union all select l.locktype || ' ' || l.mode from pg_locks l where l.pid = a.pid) h (held)
    where a.backend_type = 'pg_salesai worker'";
