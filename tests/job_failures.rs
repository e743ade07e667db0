//! What becomes of a job that cannot be done: whose fault it is, how long it waits, and that a late holder writes nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{DRAIN_LIMIT, assert_counted, assert_settled, cluster, drain, ingest_notes};

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
    assert_counted(&mut session);
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
    assert_counted(&mut session);
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
    ingest_notes(&mut session, "test", 3, "interactive");
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

/// Goal: a full disk is nobody's own fault: no attempt is used up, and the jobs are done by themselves when there is
/// room again.
#[test]
fn a_full_disk_uses_up_no_attempt() {
    let cluster = cluster(true);
    let mut session = cluster.connect();
    session.run(
        "create function full_disk() returns trigger language plpgsql as
         $$ begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
         create trigger full_disk before insert on salesai.chunk for each row execute function full_disk()",
    );
    ingest_notes(&mut session, "test", 3, "interactive");
    let waiting = "select count(*) from salesai.pipeline_errors e join salesai.job j using (interaction_id)
        where e.class = 'pipeline_temporary' and e.step = 'store' and e.job_state = 'pending' and e.attempt = 0
            and j.attempts = 0 and j.losses = 0";
    wait_until("the jobs wait", DRAIN_LIMIT, || {
        session.one::<i64>(waiting, &[]) == 3
    });
    session.run("drop trigger full_disk on salesai.chunk");
    drain(&mut session);
    assert_settled(&mut session);
    assert_counted(&mut session);
}

/// Goal: a sidecar that is too busy is nobody's fault either: jobs that it refuses wait, use up no attempt, and leave
/// no error.
#[test]
fn an_overloaded_sidecar_uses_up_no_attempt() {
    let sidecar = Sidecar::start_with("--queue-size", "1");
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let end = End(&is_done);
        for _ in 0..6 {
            scope.spawn(|| keep_busy(&cluster, &is_done));
        }
        let mut session = cluster.connect();
        let refused = "select exists (select from salesai.job where state = 'pending' and not_before > now())";
        wait_until("a job was refused and waits", DRAIN_LIMIT, || {
            ingest_notes(&mut session, "test", 8, "interactive");
            session.one::<bool>(refused, &[])
        });
        drop(end);
        drain(&mut session);
        let errors: Vec<String> = session.column("select message from salesai.job_error", &[]);
        assert_eq!(errors, [""; 0]);
        assert_settled(&mut session);
    });
}

/// Ends the callers, also where a test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Callers who want much at once, and take no notice of a refusal.
fn keep_busy(cluster: &Cluster, is_done: &AtomicBool) {
    let mut session = cluster.connect();
    session.run(
        "create procedure pg_temp.embed_much() language plpgsql as
         $$ begin perform salesai.embed(array_agg(repeat(n || ' lost hours ', 100))) from generate_series(1, 50) n;
            exception when others then null; end $$",
    );
    while !is_done.load(Ordering::Relaxed) {
        session.run("call pg_temp.embed_much()");
    }
}

/// Goal: jobs that were given back or failed together are not tried again together, nor before the time that the
/// sidecar asked for.
#[test]
fn retries_are_spread() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "test", 40, "interactive");
    let waits = |session: &mut Session, end: &str| -> Vec<i32> {
        session.run(
            "begin; update salesai.job set state = 'pending', not_before = now(), attempts = 0",
        );
        session.run(&format!(
            "select {end} from salesai.claim_jobs(40, 60000) c"
        ));
        let waits = session.column(
            "select (1000 * extract(epoch from not_before - now()))::integer from salesai.job order by 1",
            &[],
        );
        session.run("commit");
        waits
    };
    let ends = [
        (
            "salesai.release_job(c.job_id, c.lease_token, 10000)",
            10_000..15_500,
        ),
        (
            "salesai.fail_job(c.job_id, c.lease_token, 'record_temporary', 'embed', 'no')",
            500..2_000,
        ),
        (
            "salesai.fail_job(c.job_id, c.lease_token, 'pipeline_temporary', 'embed', 'no')",
            2_500..8_000,
        ),
        (
            "salesai.fail_job(c.job_id, c.lease_token, 'pipeline_permanent', 'embed', 'no')",
            15_000..45_500,
        ),
    ];
    for (end, range) in ends {
        let waits = waits(&mut session, end);
        assert!(
            waits.iter().all(|ms| range.contains(ms)),
            "{end}: {waits:?}"
        );
        let different: HashSet<_> = waits.iter().collect();
        assert!(different.len() > 20, "{end}: {waits:?}");
    }
}

/// Goal: who lost a lease can neither finish the job, nor store its text, nor fail it, nor give it back.
#[test]
fn a_lost_lease_writes_nothing() {
    let cluster = cluster(false);
    let mut session = cluster.connect();
    ingest_notes(&mut session, "test", 1, "interactive");
    let claim = "select job_id || ' ' || lease_token from salesai.claim_jobs(1, $1)";
    let mut late = cluster.connect();
    let old: String = late.one(claim, &[&1_i32]);
    let mut holder = cluster.connect();
    let held: String = holder.one(claim, &[&60_000_i32]);
    let (job, old) = old.split_once(' ').expect("a job and its token");
    let (same, token) = held.split_once(' ').expect("a job and its token");
    assert_eq!(job, same);
    assert_ne!(old, token);
    let state = "select md5(j::text || i::text) from salesai.job j join salesai.interaction i on i.id = j.interaction_id";
    let before: String = session.one(state, &[]);
    let ends = [
        "finish_job(JOB, '[]', '{}', 'all-MiniLM-L6-v2', 'x', 384)",
        "store_reading(JOB, '{\"segments\": []}')",
        "finish_range(JOB, '{}', '{}', 'x', 384)",
        "finish_index_build(JOB)",
        "release_job(JOB, 0)",
        "lose_job(JOB, 0)",
        "fail_lost_job(JOB)",
        "fail_job(JOB, 'record_permanent', 'embed', 'no')",
    ];
    for end in ends {
        let call = end.replace("JOB", &format!("{job}, '{old}'"));
        let said: Option<String> =
            late.one(&format!("select nullif(salesai.{call}::text, '')"), &[]);
        assert_eq!(said.as_deref().unwrap_or("false"), "false", "{end}");
        assert_eq!(session.one::<String>(state, &[]), before, "{end}");
    }
    let written = "select count(*) from (select from salesai.chunk union all select from salesai.job_error) w";
    assert_eq!(session.one::<i64>(written, &[]), 0);
    let end = format!(
        "select salesai.finish_job({job}, '{token}', '[]', '{{}}', 'all-MiniLM-L6-v2', 'x', 384)"
    );
    assert!(holder.one::<bool>(&end, &[]));
}
