//! Personal data is taken out of what search and models read, and stays readable for those who may.

use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::session::Session;
use tests::world::{self, assert_settled, drain};

const CALL: &str = "Dana: My card is 4111 1111 1111 1111, write to dana@example.com.\n\
    Ravi: Thanks, Dana. The rollout takes ten weeks.\n";
const STORED: &str = "My card is [card], write to [email].";
const SAID: &str = "My card is 4111 1111 1111 1111, write to dana@example.com.";

/// Goal: segments, chunks, search and subject have no card number or address; the original has them.
#[test]
fn stored_text_is_redacted() {
    let mut session = cluster().connect();
    let id: i64 = session.one(
        "select salesai.ingest_call('phone', 'redacted', $1, subject => 'Re: dana@example.com')",
        &[&CALL],
    );
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(
        segments(&mut session, id),
        [STORED, "Thanks, Dana. The rollout takes ten weeks."]
    );
    let stored: String = session.one(
        "select i.subject || string_agg(c.heading || c.content, '')
         from salesai.interaction i join salesai.chunk c on c.interaction_id = i.id where i.id = $1 group by i.id",
        &[&id],
    );
    assert!(stored.contains("[card]") && stored.contains("Re: [email]"));
    assert!(
        !stored.contains("4111") && !stored.contains("dana@"),
        "{stored}"
    );
    let found: i64 = session.one(
        "select count(*) from salesai.search('4111 1111 1111 1111', 50, mode => 'lexical') h
         where h.interaction_id = $1 and h.content like '%4111%'",
        &[&id],
    );
    assert_eq!(found, 0);
    assert_eq!(originals(&mut session, id)[0], SAID);
    assert_eq!(
        session.one::<Vec<u8>>("select salesai.original($1)", &[&id]),
        CALL.as_bytes()
    );
    // Places: start and end in what was said, start and end in what is stored.
    let places: Vec<i32> = session.one(
        "select redactions from salesai.segment where interaction_id = $1 and position = 0",
        &[&id],
    );
    for place in places.chunks(4) {
        let part = |text: &str, from: i32, to: i32| text[from as usize..to as usize].to_owned();
        let (said, stored) = (
            part(SAID, place[0], place[1]),
            part(STORED, place[2], place[3]),
        );
        assert!(["4111 1111 1111 1111", "dana@example.com"].contains(&said.as_str()));
        assert!(stored.starts_with('[') && stored.ends_with(']'), "{stored}");
    }
    assert_eq!(places.len(), 8);
}

/// Goal: who writes without a name is called by that of the CRM, or not at all, in what search and models read.
#[test]
fn addresses_of_speakers_are_redacted() {
    let mut session = cluster().connect();
    let outcome: String = session.one(
        r#"select outcome from salesai.ingest_crm('t', 'contact', '[{"external_id": "C9", "name": "Eve Holm", "email": "eve@holm.example"}]')"#,
        &[],
    );
    assert_eq!(outcome, "inserted");
    for (key, from) in [
        ("known", "eve@holm.example"),
        ("unknown", "adam@holm.example"),
    ] {
        session.rows(
            "select salesai.ingest_email('speakers', $1, convert_to(format(e'From: %s\\r\\nSubject: Hi\\r\\n\\r\\nThe wharf is closed.', $2::text), 'UTF8'))",
            &[&key, &from],
        );
    }
    drain(&mut session);
    let read: Vec<String> = session.column(
        "select c.content from salesai.chunk c join salesai.interaction i on i.id = c.interaction_id
         where i.source = 'speakers' order by i.id",
        &[],
    );
    assert_eq!(
        read,
        [
            "Eve Holm: The wharf is closed.",
            "[email 1]: The wharf is closed."
        ]
    );
    let speakers: Vec<String> = session.column(
        "select e -> 'segments' -> 0 ->> 'speaker'
         from jsonb_array_elements(salesai.evidence(array(
             select c.id from salesai.chunk c join salesai.interaction i on i.id = c.interaction_id
             where i.source = 'speakers' order by i.id))) e",
        &[],
    );
    assert_eq!(speakers, ["Eve Holm", "[email 1]"]);
}

/// Goal: a role sees originals as far as policies let it, and an analyst not at all.
#[test]
fn roles_see_what_policies_let_them() {
    let cluster = cluster();
    let mut session = cluster.connect();
    let id: i64 = session.one("select salesai.ingest_call('phone', 'roles', $1)", &[&CALL]);
    drain(&mut session);
    session.run(
        "create role t_auditor login in role salesai_admin;
         create role t_reader login in role salesai_analyst;
         insert into salesai.redaction_policy (role_name, kinds) values ('t_auditor', '{card,name}')",
    );
    let mut auditor = cluster.connect_as("t_auditor");
    assert_eq!(
        originals(&mut auditor, id),
        [
            "My card is [card], write to dana@example.com.",
            "Thanks, [name]. The rollout takes ten weeks."
        ]
    );
    for whole in [
        "select salesai.original($1)",
        "select salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
         from salesai.raw_payload r join salesai.data_key d using (interaction_id) where interaction_id = $1",
    ] {
        auditor.refusal(whole, &[&id]).assert_is("42501", whole);
    }
    auditor
        .refusal("select salesai.apply_redaction()", &[])
        .assert_is("42501", "a change by one who does not see all");
    let mut reader = cluster.connect_as("t_reader");
    let segment: i64 = reader.one(
        "select id from salesai.segment where interaction_id = $1 and position = 0",
        &[&id],
    );
    reader
        .refusal("select salesai.original_segment($1)", &[&segment])
        .assert_is("42501", "an original for an analyst");
    reader
        .refusal("select salesai.apply_redaction()", &[])
        .assert_is("42501", "a change by an analyst");
}

/// Goal: a source's policy counts for what arrives after it, and for what is stored once it is applied.
#[test]
fn policies_are_applied_to_what_is_stored() {
    let mut session = cluster().connect();
    let id: i64 = session.one("select salesai.ingest_call('policy', 'a', $1)", &[&CALL]);
    drain(&mut session);
    session.run(
        "insert into salesai.redaction_policy (source, kinds) values ('policy', '{name,email}')",
    );
    let next: i64 = session.one(
        "select salesai.ingest_call('policy', 'b', $1, subject => 'With Dana')",
        &[&CALL],
    );
    drain(&mut session);
    let subject: String = session.one(
        "select subject from salesai.interaction where id = $1",
        &[&next],
    );
    assert_eq!(subject, "With [name]");
    let expected = [
        "My card is 4111 1111 1111 1111, write to [email].",
        "Thanks, [name]. The rollout takes ten weeks.",
    ];
    assert_eq!(segments(&mut session, next), expected);
    let read: String = session.one(
        "select string_agg(content, ' ') from salesai.chunk where interaction_id = $1",
        &[&next],
    );
    assert!(
        read.contains("[name 1]: My card is")
            && read.contains("[name 2]: Thanks, [name].")
            && !read.contains("Dana")
            && !read.contains("Ravi"),
        "{read}"
    );
    assert_eq!(segments(&mut session, id)[0], STORED);
    let apply = "select salesai.apply_redaction('policy')";
    assert_eq!(session.one::<i64>(apply, &[]), 1);
    assert_eq!(session.one::<i64>(apply, &[]), 0);
    assert_eq!(segments(&mut session, id), expected);
    assert_eq!(originals(&mut session, id)[0], SAID);
    session.run("update salesai.redaction_policy set kinds = '{}' where source = 'policy'");
    assert_eq!(session.one::<i64>(apply, &[]), 2);
    assert_eq!(segments(&mut session, id)[0], SAID);
    let sealed: i64 = session.one(
        "select count(*) from salesai.segment where interaction_id = $1 and (sealed is not null or redactions is not null)",
        &[&id],
    );
    assert_eq!(sealed, 0);
    drain(&mut session);
    assert_settled(&mut session);
    let chunk: String = session.one(
        "select content from salesai.chunk where interaction_id = $1",
        &[&id],
    );
    assert!(chunk.contains("4111"));
}

/// Goal: redact() works on any text, and an unknown kind is refused.
#[test]
fn any_text_can_be_redacted() {
    let mut session = cluster().connect();
    assert_eq!(
        session.one::<String>("select salesai.redact('Call +49 30 901820, Dana')", &[]),
        "Call [phone], Dana"
    );
    assert_eq!(
        session.one::<String>(
            "select salesai.redact('Call +49 30 901820, Dana', '{name}', '{Dana Wills}')",
            &[]
        ),
        "Call +49 30 901820, [name]"
    );
    session
        .refusal("select salesai.redact('x', '{shoe_size}')", &[])
        .assert_is("22023", "an unknown kind");
    session
        .refusal(
            "insert into salesai.redaction_policy (source, kinds) values ('s', '{shoe_size}')",
            &[],
        )
        .assert_is("23514", "a policy with an unknown kind");
}

fn segments(session: &mut Session, id: i64) -> Vec<String> {
    session.column(
        "select content from salesai.segment where interaction_id = $1 order by position",
        &[&id],
    )
}

fn originals(session: &mut Session, id: i64) -> Vec<String> {
    session.column(
        "select salesai.original_segment(id) from salesai.segment where interaction_id = $1 order by position",
        &[&id],
    )
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| world::cluster(true))
}
