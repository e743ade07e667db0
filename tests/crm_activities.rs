//! What a CRM logs of the work of its users, as interactions.

use tests::measure::wait_until;
use tests::session::Session;
use tests::world::{DRAIN_LIMIT, assert_settled, drain};

use crate::crm::{cluster, crm};

/// Goal: what a CRM logs is found by search under its account; late copies, deletions and HTML are as they should be.
#[test]
fn crm_activities() {
    let mut session = cluster().connect();
    crm(
        &mut session,
        "account",
        r#"[{"external_id": "ACT", "name": "Active Ltd"}]"#,
    );
    crm(
        &mut session,
        "rep",
        r#"[{"external_id": "RACT", "name": "Rita Act", "email": "rita@t.example"}]"#,
    );
    let send = |session: &mut Session, fields: &str| -> String {
        crm(
            session,
            "activity",
            &format!(r#"[{{"external_id": "TASK", "account": "ACT", {fields}}}]"#),
        )
        .remove(0)
    };
    let task = |body: &str, day: u32| {
        format!(
            r#""type": "call", "owner": "RACT", "subject": "Weighbridge", "body": "{body}", "updated_at": "2026-11-{day:02}""#
        )
    };
    let renamed = task(
        "<p>The <b>weighbridge</b> is late.</p><p>Call in May.</p>",
        13,
    )
    .replace(
        "\"Weighbridge\"",
        "\"Weighbridge II\", \"occurred_at\": \"2026-11-04\"",
    );
    for (fields, outcome) in [
        (
            task(
                "<p>The <b>weighbridge</b> is late.</p><p>Call in May.</p>",
                10,
            ),
            "inserted",
        ),
        (
            task(
                "<p>The <b>weighbridge</b> is late.</p><p>Call in May.</p>",
                12,
            ),
            "unchanged",
        ),
        (task("Never mind.", 11), "stale"),
        (renamed.clone(), "updated"),
        (renamed, "unchanged"),
        (
            r#""type": "task", "updated_at": "2026-11-13""#.to_owned(),
            "rejected: an activity needs \"external_id\" and \"subject\" or \"body\"",
        ),
    ] {
        assert_eq!(send(&mut session, &fields), outcome, "{fields}");
    }
    drain(&mut session);
    let found: Vec<String> = session.column(
        "select concat_ws('|', h.content, i.subject, (i.occurred_at at time zone 'UTC')::date, i.kind, i.properties ->> 'type', p.name, p.side)
         from salesai.search('weighbridge', account => 'ACT', kinds => '{crm_activity}') h
         join salesai.interaction i on i.id = h.interaction_id join salesai.participant p on p.interaction_id = i.id",
        &[],
    );
    assert_eq!(
        found,
        [
            "The weighbridge is late.\nCall in May.|Weighbridge II|2026-11-04|crm_activity|call|Rita Act|internal"
        ]
    );
    let gone = r#""deleted": true, "updated_at": "2026-11-14""#;
    for (fields, outcome) in [
        (gone.to_owned(), "deleted"),
        (gone.to_owned(), "unchanged"),
        (task("The weighbridge is here.", 13), "stale"),
    ] {
        assert_eq!(send(&mut session, &fields), outcome, "{fields}");
    }
    drain(&mut session);
    let hits =
        "select count(*) from salesai.search('weighbridge', account => 'ACT', mode => 'lexical')";
    assert_eq!(session.one::<i64>(hits, &[]), 0);
    let subject: Option<String> = session.one(
        "select subject from salesai.interaction where external_id = 'TASK'",
        &[],
    );
    assert_eq!(subject, None);
    let here = task("The weighbridge is here.", 15);
    assert_eq!(send(&mut session, &here), "updated");
    drain(&mut session);
    assert_eq!(session.one::<i64>(hits, &[]), 1);
    // Taken from its account, it is not that of the account's owner any more.
    crm(
        &mut session,
        "account",
        r#"[{"external_id": "ACT", "name": "Active Ltd", "owner": "RACT"}]"#,
    );
    let owner = "select (select count(*) from salesai.interaction i where i.external_id = 'TASK' and i.owner_rep_id is not null)
        + (select count(*) from salesai.chunk c join salesai.interaction i on i.id = c.interaction_id
           where i.external_id = 'TASK' and c.owner_rep_id is not null)";
    assert_eq!(session.one::<i64>(owner, &[]), 2);
    let nobodys = format!(r#"[{{"external_id": "TASK", {here}}}]"#);
    assert_eq!(crm(&mut session, "activity", &nobodys), ["updated"]);
    assert_eq!(session.one::<i64>(owner, &[]), 0);
    drain(&mut session);
    assert_settled(&mut session);
}

/// Goal: an activity that is delivered again is not changed by what was redacted in its subject since.
#[test]
fn redacted_activities() {
    let mut session = cluster().connect();
    session
        .run("insert into salesai.redaction_policy (source, kinds) values ('private', '{name}')");
    let mut send = |kind: &str, record: &str| -> String {
        session.one(
            "select outcome from salesai.ingest_crm('private', $1, $2::text::jsonb)",
            &[&kind, &record],
        )
    };
    let account = r#"[{"external_id": "P", "name": "Private Ltd"}]"#;
    assert_eq!(send("account", account), "inserted");
    let contact = r#"[{"external_id": "P", "name": "Gro Lie", "account": "P"}]"#;
    assert_eq!(send("contact", contact), "inserted");
    let task = |subject: &str| {
        format!(
            r#"[{{"external_id": "P", "account": "P", "subject": "{subject}", "body": "Soon."}}]"#
        )
    };
    assert_eq!(send("activity", &task("Call Gro Lie")), "inserted");
    drain(&mut cluster().connect());
    assert_eq!(send("activity", &task("Call Gro Lie")), "unchanged");
    assert_eq!(send("activity", &task("Call Gro Lie now")), "updated");
    let subject: String = session.one(
        "select subject from salesai.interaction where source = 'private'",
        &[],
    );
    assert_eq!(subject, "Call [name] now");
}

/// Goal: of two copies of an activity that come at the same moment, before there is a row of it, the newer one stays; and
/// no lock is kept for each, which a large export would run out of.
#[test]
fn activities_at_the_same_moment() {
    let mut newer = cluster().connect();
    let copy = |body: &str, day: u32| {
        format!(
            r#"[{{"external_id": "RACE", "subject": "Race", "body": "{body}", "updated_at": "2026-11-{day:02}"}}]"#
        )
    };
    newer.run("begin");
    assert_eq!(crm(&mut newer, "activity", &copy("New.", 12)), ["inserted"]);
    let locks =
        "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
    assert_eq!(newer.one::<i64>(locks, &[]), 0);
    std::thread::scope(|scope| {
        let older = scope.spawn(|| crm(&mut cluster().connect(), "activity", &copy("Old.", 11)));
        let waits =
            "select exists (select from pg_locks where locktype = 'transactionid' and not granted)";
        wait_until("the older copy waits", DRAIN_LIMIT, || {
            newer.one::<bool>(waits, &[])
        });
        newer.run("commit");
        assert_eq!(older.join().expect("the older copy"), ["stale"]);
    });
    drain(&mut newer);
    let kept: String = newer.one(
        "select c.content || ' ' || i.version from salesai.interaction i join salesai.chunk c on c.interaction_id = i.id where i.external_id = 'RACE'",
        &[],
    );
    assert_eq!(kept, "New. 1");
}
