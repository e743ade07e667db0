//! What a backend costs when it has used the extension.

use std::fs;

use tests::session::Session;
use tests::world;

/// Private memory that the first insight() may add to a backend: plans of its functions, most of it.
const ADDED_KB_MAX: i64 = 8_192;

/// Goal: models live in the sidecar, not in backends.
#[test]
fn backend_stays_small() {
    let mut session = world::shared().connect();
    session.run("select 1");
    let Some(before) = private_kb(&mut session) else {
        println!(
            "skipped: backend_stays_small: /proc/<pid>/smaps_rollup of a backend cannot be read"
        );
        return;
    };
    session.run("select salesai.insight('Why is the deal stuck?', account => 'Halden Freight')");
    let after = private_kb(&mut session).expect("readable a moment ago");
    let added = after - before;
    println!(
        "measured: first insight() adds {added} kB of private memory to a backend ({before} kB before)"
    );
    assert!(added <= ADDED_KB_MAX, "{added} kB");
}

fn private_kb(session: &mut Session) -> Option<i64> {
    let pid = session.backend_pid();
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    Some(
        lines
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<i64>().ok())
            .sum(),
    )
}
