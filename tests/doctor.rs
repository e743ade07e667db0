//! `salesai.doctor()` says what is broken.

use std::fs;

use tests::process;
use tests::session::Session;
use tests::world;

/// Goal: nothing is wrong with a system that works.
#[test]
fn healthy_system() {
    assert_eq!(broken(&mut world::shared().connect()), Vec::<String>::new());
}

/// Goal: each broken piece is named, alone, with a remedy.
#[test]
fn broken_pieces() {
    let dir = process::new_dir("d");
    let key = fs::read_to_string(world::shared().master_key_file()).expect("read the key");
    process::write_file(&dir.join("open.key"), &key, 0o644);
    process::write_file(&dir.join("short.key"), "0123", 0o600);
    let cases = [
        ("sidecar_socket", dir.join("nobody.sock"), "sidecar"),
        ("master_key_file", dir.join("missing.key"), "master_key"),
        ("master_key_file", dir.join("open.key"), "master_key"),
        ("master_key_file", dir.join("short.key"), "master_key"),
    ];
    for (setting, value, piece) in cases {
        let mut session = world::shared().connect();
        session.run(&format!("set salesai.{setting} = '{}'", value.display()));
        assert_eq!(
            broken(&mut session),
            [piece],
            "{setting} = {}",
            value.display()
        );
    }
}

/// Goal: a database that no worker serves, and that has embedded nothing yet, is told apart.
#[test]
fn unserved_database() {
    let cluster = world::shared();
    cluster.connect().run("create database unserved");
    let mut session = cluster.connect_to("postgres", "unserved");
    session.run("create extension vector; create extension pg_salesai");
    assert_eq!(broken(&mut session), ["worker", "embedding_set"]);
    // A question that nobody answers.
    session.run("select salesai.insight_submit('Who signs?')");
    assert_eq!(broken(&mut session), ["worker", "embedding_set"]);
    session.run("update salesai.insight_request set not_before = now() - interval '1 hour'");
    assert_eq!(
        broken(&mut session),
        ["worker", "embedding_set", "insight_requests"]
    );
    drop(session);
    cluster.connect().run("drop database unserved with (force)");
}

/// The pieces that are not ok; each has a state and a remedy in full sentences.
fn broken(session: &mut Session) -> Vec<String> {
    let rows = session.rows("select piece, ok, state, remedy from salesai.doctor()", &[]);
    assert!(rows.len() >= 9, "{} pieces", rows.len());
    let mut pieces = Vec::new();
    for row in &rows {
        let (piece, state, remedy): (&str, Option<&str>, &str) =
            (row.get(0), row.get(2), row.get(3));
        assert!(
            state.is_some_and(|state| !state.is_empty()),
            "{piece} has no state"
        );
        assert!(remedy.ends_with('.'), "{piece}: {remedy}");
        if row.get::<_, Option<bool>>(1) != Some(true) {
            println!("{piece}: {}", state.unwrap_or_default());
            pieces.push(piece.to_owned());
        }
    }
    pieces
}
