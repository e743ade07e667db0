//! Logs tell what happened, never what was said.

use tests::sidecar::Sidecar;
use tests::world;

/// A word that no program writes by itself.
const MARKER: &str = "quoxilbrandt";

/// Goal: text from statements that work, fail and time out reaches neither server's log.
#[test]
fn customer_text_stays_out_of_logs() {
    let cluster = world::shared();
    let mut session = cluster.connect();
    session.run("begin");
    for statement in [
        format!("select salesai.ingest_note('log', 'note', 'Call {MARKER} back.')"),
        format!("select salesai.embed('{MARKER}')"),
        format!(
            "select salesai.insight('What did {MARKER} say about the price?', max_tokens => 4)"
        ),
    ] {
        session.run(&statement);
    }
    session.run("rollback");
    for statement in [
        format!(
            "select salesai.ingest_call('log', 'call', e'WEBVTT\\n\\n1\\n0:x --> 0:y\\n{MARKER}: hi', 'vtt')"
        ),
        format!(
            "select salesai.insight('What did {MARKER} say about the price?', timeout_ms => 1)"
        ),
    ] {
        session
            .try_run(&statement, &[])
            .expect_err("this statement fails");
    }
    assert!(
        !cluster.log().contains(MARKER),
        "the server's log repeats customer text"
    );
    assert!(
        !Sidecar::shared().log().contains(MARKER),
        "the sidecar's log repeats customer text"
    );
}
