//! Texts that kill the inference sidecar or keep it busy for ever are found, and keep no other waiting.

use std::time::Duration;

use tests::cluster::{Cluster, Settings};
use tests::faulty_socket::{BREAKING, FaultySocket, STALLING};
use tests::measure::wait_until;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{DRAIN_LIMIT, assert_settled, drain};

const NOTES: usize = 12;
const READY: &str = "select count(*) from salesai.interaction where state = 'ready'";

/// Goal: among others, one text breaks each connection and one gets no answer. The others are indexed, and use up no
/// attempt; the two wait ever longer, each alone, and fail in the end with a reason; mended, they are indexed.
#[test]
fn poisoned_texts_are_found() {
    let faulty = FaultySocket::before(Sidecar::shared().socket());
    let cluster = Cluster::start(&Settings::new(faulty.socket()));
    let mut session = cluster.connect();
    ingest_poison(&mut session);
    wait_until("the others are indexed", DRAIN_LIMIT, || {
        session.one::<i64>(READY, &[]) == NOTES as i64 - 2
    });
    session.run("select salesai.pause()");
    let is_idle = "select not exists (select from salesai.job where state = 'running')";
    wait_until("nothing runs", Duration::from_secs(60), || {
        session.one::<bool>(is_idle, &[])
    });
    let waiting =
        "select count(*) from salesai.job where state = 'pending' and attempts = 0 and losses > 0";
    assert_eq!(session.one::<i64>(waiting, &[]), 2);
    assert_eq!(errors(&mut session), [""; 0]);
    // Eight more times would take minutes.
    session.run("update salesai.job set losses = 9, not_before = now()");
    session.run("select salesai.resume()");
    wait_until("they fail", DRAIN_LIMIT, || errors(&mut session).len() == 2);
    let died = "its worker or the inference sidecar died or was too slow ten times";
    assert_eq!(
        errors(&mut session),
        [(3, died), (7, died)].map(|(key, why)| format!("{key} record_permanent run failed {why}"))
    );
    faulty.mend();
    assert_eq!(session.one::<i64>("select salesai.retry_errors()", &[]), 2);
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(session.one::<i64>(READY, &[]), NOTES as i64);
}

/// Goal: `process()` finds them as well.
#[test]
fn process_finds_poisoned_texts() {
    let faulty = FaultySocket::before(Sidecar::shared().socket());
    let mut settings = Settings::new(faulty.socket());
    settings.worker = false;
    let cluster = Cluster::start(&settings);
    let mut session = cluster.connect();
    ingest_poison(&mut session);
    wait_until("the others are indexed", DRAIN_LIMIT, || {
        session.run("select salesai.process(timeout_ms => 2000)");
        session.one::<i64>(READY, &[]) == NOTES as i64 - 2
    });
    assert_eq!(errors(&mut session), [""; 0]);
}

/// Notes 3 and 7 are poison; all are there before the first is worked on, and no call lasts long.
fn ingest_poison(session: &mut Session) {
    session.run("alter system set salesai.job_timeout_ms = 2000");
    session.run("select pg_reload_conf()");
    session.run("select salesai.pause()");
    for number in 0..NOTES {
        let word = match number {
            3 => BREAKING,
            7 => STALLING,
            _ => "bread",
        };
        session.rows(
            "select salesai.ingest_note('test', $1, $2)",
            &[
                &number.to_string(),
                &format!("Note {number} is about {word}."),
            ],
        );
    }
    session.run("select salesai.resume()");
}

fn errors(session: &mut Session) -> Vec<String> {
    session.column(
        "select concat_ws(' ', external_id, class, step, job_state, message) from salesai.pipeline_errors order by external_id",
        &[],
    )
}
