//! From a call of `ingest_*` until its text can be searched, on an idle system; and that call itself.

use std::time::{Duration, Instant};

use tests::measure::{ms, percentile};
use tests::session::Session;

use crate::corpus;

pub fn measure() {
    let world = crate::world();
    let mut session = world.cluster.connect();
    let mut watch = world.cluster.connect();
    session.run("select salesai.ingest_note('test', 'first', 'A note.')");
    wait(&mut watch, 1);
    let mut mails: Vec<Duration> = (0..200)
        .map(|number| {
            let mail = corpus::mail(number).into_bytes();
            let start = Instant::now();
            let id: i64 = session.one(
                "select salesai.ingest_email('mail', $1, $2)",
                &[&number.to_string(), &mail],
            );
            wait(&mut watch, id);
            start.elapsed()
        })
        .collect();
    say("mail, ingest to searchable", &mut mails);
    let mut calls: Vec<Duration> = corpus::calls()
        .iter()
        .enumerate()
        .map(|(number, call)| {
            let start = Instant::now();
            let id: i64 = session.one(
                "select salesai.ingest_call('call', $1, $2, 'plain')",
                &[&number.to_string(), &call.as_str()],
            );
            wait(&mut watch, id);
            start.elapsed()
        })
        .collect();
    say("call of an hour, ingest to searchable", &mut calls);
    session.run("select salesai.pause()");
    ingest_calls(&mut session);
}

/// The time of one call with 100 kB; the workers rest, so that nothing else uses the machine.
fn ingest_calls(session: &mut Session) {
    let call: String = corpus::calls().concat();
    let text: String = call.chars().take(100_000).collect();
    let prose = text.replace('\n', "\n\n");
    let mail = format!(
        "From: ana@halden.example\r\nSubject: Long\r\n\r\n{}",
        text.replace('\n', "\r\n\r\n")
    );
    let time = |name: &str,
                session: &mut Session,
                sql: &str,
                argument: &(dyn postgres::types::ToSql + Sync)| {
        let mut times: Vec<Duration> = (0..100)
            .map(|number| {
                let start = Instant::now();
                session.rows(sql, &[&format!("{name}-{number}"), argument]);
                start.elapsed()
            })
            .collect();
        say(&format!("{name} with 100 kB"), &mut times);
    };
    time(
        "ingest_call",
        session,
        "select salesai.ingest_call('big', $1, $2, 'plain')",
        &text,
    );
    time(
        "ingest_note",
        session,
        "select salesai.ingest_note('big', $1, $2)",
        &prose,
    );
    time(
        "ingest_email",
        session,
        "select salesai.ingest_email('big', $1, $2)",
        &mail.as_bytes(),
    );
    time(
        "ingest_document",
        session,
        "select salesai.ingest_document('big', $1, $2, 'text.txt')",
        &text.as_bytes(),
    );
}

fn wait(session: &mut Session, id: i64) {
    let sql = "select state = 'ready' from salesai.interaction where id = $1";
    while !session.one::<bool>(sql, &[&id]) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn say(name: &str, times: &mut [Duration]) {
    println!(
        "{name}: p50 {}, p95 {}, longest {} ({} times)",
        ms(percentile(times, 0.5)),
        ms(percentile(times, 0.95)),
        ms(percentile(times, 1.0)),
        times.len()
    );
}
