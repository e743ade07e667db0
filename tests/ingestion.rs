//! What ingestion stores, and that a repeated call is harmless.

use std::sync::{Barrier, OnceLock};

use tests::cluster::Cluster;
use tests::deal_room;
use tests::measure::wait_until;
use tests::session::Session;
use tests::world::{self, DRAIN_LIMIT, assert_settled, drain};

const HALDEN_THREAD: [&str; 3] = ["em-halden-01", "em-halden-02", "em-halden-03"];

/// Goal: the same payload again is the same interaction: no version, no payload, no job.
#[test]
fn same_payload_changes_nothing() {
    let mut session = cluster().connect();
    let first = note(&mut session, "same", "The pilot begins on Monday.");
    drain(&mut session);
    assert_eq!(
        note(&mut session, "same", "The pilot begins on Monday."),
        first
    );
    assert_eq!(jobs(&mut session), 0);
    assert_eq!(versions(&mut session, first), (1, 1));
    // What callers say of it is theirs, whatever its fields mean to a CRM.
    for _ in 0..2 {
        session.run(r#"select salesai.ingest_note('test', 'metadata', 'A note.', metadata => '{"updated_at": 1762250000000}')"#);
    }
}

/// Goal: a changed payload is a new version: new chunks, old segments and both originals.
#[test]
fn changed_payload_is_a_new_version() {
    let (old, new) = (
        "Price is the issue.\n\nThey want ten percent.",
        "Price is settled.",
    );
    let mut session = cluster().connect();
    let id = note(&mut session, "changed", old);
    drain(&mut session);
    assert_eq!(note(&mut session, "changed", new), id);
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(versions(&mut session, id), (2, 2));
    let segments = "select array_agg(version || ':' || content order by version, position)
        from salesai.segment where interaction_id = $1";
    assert_eq!(
        session.one::<Vec<String>>(segments, &[&id]),
        [
            "1:Price is the issue.",
            "1:They want ten percent.",
            "2:Price is settled."
        ]
    );
    let chunks =
        "select array_agg(version || ':' || content) from salesai.chunk where interaction_id = $1";
    assert_eq!(
        session.one::<Vec<String>>(chunks, &[&id]),
        ["2:Price is settled."]
    );
    let original = "select salesai.original($1, $2)";
    assert_eq!(session.one::<Vec<u8>>(original, &[&id, &1]), old.as_bytes());
    assert_eq!(session.one::<Vec<u8>>(original, &[&id, &2]), new.as_bytes());
    assert_eq!(
        session.one::<Vec<u8>>("select salesai.original($1)", &[&id]),
        new.as_bytes()
    );
    assert_eq!(session.one::<Option<Vec<u8>>>(original, &[&id, &3]), None);
}

/// Goal: a transcript that is a file of any encoding is read like its text, one by one and in a batch.
#[test]
fn transcripts_are_files() {
    let wanted = "Jürgen Müller: Das läuft für 4.000 € – bis März.";
    let said = format!("WEBVTT\n\n00:01.000 --> 00:04.000\n{wanted}\n");
    let utf16: Vec<u8> = format!("\u{feff}{said}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let windows: Vec<u8> = said
        .chars()
        .map(|c| match c {
            '€' => 0x80,
            '–' => 0x96,
            c => u8::try_from(u32::from(c)).expect("a letter of Latin 1"),
        })
        .collect();
    let mut session = cluster().connect();
    session.rows(
        "select salesai.ingest_call('files', 'utf16', salesai.decode_text($1))",
        &[&utf16],
    );
    let outcomes: Vec<String> = session.column(
        "select concat_ws(' ', external_id, outcome, error_code) from salesai.ingest_batch('call', jsonb_build_array(
            jsonb_build_object('source', 'files', 'external_id', 'windows', 'payload', encode($1, 'base64')),
            jsonb_build_object('source', 'files', 'external_id', 'program', 'payload', encode('\\x7f454c4600'::bytea, 'base64'))))",
        &[&windows],
    );
    assert_eq!(outcomes, ["windows ingested", "program refused 22021"]);
    drain(&mut session);
    let read: Vec<String> = session.column(
        "select p.name || ': ' || s.content from salesai.segment s join salesai.participant p on p.id = s.participant_id
         join salesai.interaction i on i.id = s.interaction_id where i.source = 'files'",
        &[],
    );
    assert_eq!(read, [wanted, wanted]);
}

/// Goal: originals come back byte for byte, and are not readable in the table.
#[test]
fn originals_are_sealed() {
    let mut session = cluster().connect();
    let secret = "Confidential: the walk-away price is 7,777 dollars. ".repeat(50);
    let id = note(&mut session, "sealed", &secret);
    let message = deal_room::body(&deal_room::entry("em-briarwood-01"));
    let email: i64 = session.one(
        "select salesai.ingest_email('test', 'sealed-email', $1)",
        &[&message],
    );
    assert_eq!(
        session.one::<Vec<u8>>("select salesai.original($1)", &[&email]),
        message
    );
    let row = session.row(
        "select position('7,777'::bytea in ciphertext), octet_length(ciphertext), byte_count
         from salesai.raw_payload where interaction_id = $1",
        &[&id],
    );
    assert_eq!(row.get::<_, i32>(0), 0);
    assert!(
        row.get::<_, i32>(1) < 1_000,
        "it is deflated before it is sealed"
    );
    assert_eq!(row.get::<_, i64>(2), secret.len() as i64);
    session.run(&format!(
        "begin; delete from salesai.data_key where interaction_id = {id}"
    ));
    let gone: Option<Vec<u8>> = session.one("select salesai.original($1)", &[&id]);
    assert_eq!(gone, None, "without its key an original is gone");
    session.run("rollback");
}

/// Goal: two writers of one key make one interaction, whoever comes first.
#[test]
fn concurrent_writers_make_one_interaction() {
    const KEYS: usize = 20;
    let barrier = Barrier::new(2);
    let write = |writer: usize| {
        let mut session = cluster().connect();
        (0..KEYS)
            .map(|key| {
                barrier.wait();
                // Even keys get one payload from both, odd keys two.
                let text = format!("Payload {}.", if key % 2 == 0 { 0 } else { writer });
                note(&mut session, &format!("twins-{key}"), &text)
            })
            .collect::<Vec<i64>>()
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| write(1));
        (write(0), other.join().expect("the other writer"))
    });
    assert_eq!(one, two, "both writers were told the same ids");
    let mut session = cluster().connect();
    for (key, &id) in one.iter().enumerate() {
        let expected = if key % 2 == 0 { (1, 1) } else { (2, 2) };
        assert_eq!(versions(&mut session, id), expected, "key {key}");
    }
    drain(&mut session);
    assert_settled(&mut session);
}

/// Goal: an e-mail tells its subject, thread, time, account and correspondents itself.
#[test]
fn emails() {
    let mut session = cluster_with_crm().connect();
    let mut threads = Vec::new();
    for external_id in HALDEN_THREAD {
        let entry = deal_room::entry(external_id);
        let id: i64 = session.one(
            "select salesai.ingest_email('mail', $1, $2)",
            &[&external_id, &deal_room::body(&entry)],
        );
        let row = session.row(
            "select i.subject, i.thread_key, a.name, i.occurred_at = $2::text::timestamptz,
                 (select array_agg(p.side order by p.side) from salesai.participant p where p.interaction_id = i.id)
             from salesai.interaction i left join salesai.account a on a.id = i.account_id where i.id = $1",
            &[&id, &entry["occurred_at"].as_str()],
        );
        assert_eq!(row.get::<_, Option<&str>>(0), entry["subject"].as_str());
        assert_eq!(
            row.get::<_, Option<&str>>(2),
            Some("Halden Freight"),
            "{external_id}: account by domain"
        );
        assert!(
            row.get::<_, bool>(3),
            "{external_id}: time of the Date header"
        );
        let sides: Vec<String> = row.get(4);
        assert!(sides.contains(&"internal".to_owned()) && sides.contains(&"external".to_owned()));
        assert!(
            !sides.contains(&"unknown".to_owned()),
            "{external_id}: {sides:?}"
        );
        threads.push(row.get::<_, String>(1));
    }
    assert_eq!(threads, ["em-halden-01@mail.tessellate.example"; 3]);
}

/// Goal: mails that name only the one they answer are of its thread, in whatever order they come.
#[test]
fn answers_find_their_thread() {
    let mut session = cluster().connect();
    session.run("set role salesai_gateway");
    for order in [[1, 2, 3, 4], [4, 3, 2, 1], [3, 1, 4, 2]] {
        let thread = order.map(|number: i32| number.to_string()).concat();
        for number in order {
            let answered = match number {
                1 => String::new(),
                _ => format!("In-Reply-To: <{}.{thread}@h>\r\n", number - 1),
            };
            let mail = format!(
                "From: ana@halden.example\r\nMessage-ID: <{number}.{thread}@h>\r\n{answered}\r\nMail {number}."
            );
            session.rows(
                "select salesai.ingest_email($1, $2, $3)",
                &[&thread, &number.to_string(), &mail.as_bytes()],
            );
        }
        let keys: Vec<String> = session.column(
            "select distinct thread_key from salesai.interaction where source = $1",
            &[&thread],
        );
        assert_eq!(keys, [format!("1.{thread}@h")]);
    }
}

/// Goal: of a mail only what is new is indexed; quotation and signature stay readable, and automatic mails are marked.
#[test]
fn parts_of_emails() {
    let mut session = cluster().connect();
    let reply = "From: Ana Lund <ana@halden.example>\r\nSubject: Re: Pilot\r\nMessage-ID: <2@h>\r\nReferences: <1@h>\r\n\r\n\
                 The pilot can start in May, when the scanners have arrived at the plant.\r\n\r\nBest regards,\r\nAna Lund\r\n\r\n\
                 On 3 Apr 2026, at 10:00, Bob <bob@tessellate.example> wrote:\r\n> Would a walrus help?\r\n";
    let id: i64 = session.one(
        "select salesai.ingest_email('test', 'parts', $1)",
        &[&reply.as_bytes()],
    );
    let bounce =
        "From: MAILER-DAEMON@mx.example\r\nSubject: Returned mail\r\n\r\nNo such user.\r\n";
    session.rows(
        "select salesai.ingest_email('test', 'bounce', $1)",
        &[&bounce.as_bytes()],
    );
    drain(&mut session);
    let parts: Vec<String> = session.column(
        "select part from salesai.segment where interaction_id = $1 order by position",
        &[&id],
    );
    assert_eq!(parts, ["body", "signature", "quoted"]);
    let chunks: Vec<String> = session.column(
        "select content from salesai.chunk where interaction_id = $1",
        &[&id],
    );
    assert_eq!(
        chunks,
        ["Ana Lund: The pilot can start in May, when the scanners have arrived at the plant."]
    );
    let marks: Vec<String> = session.column(
        "select concat_ws(' ', external_id, properties ->> 'mail_kind', language) from salesai.interaction
         where external_id in ('parts', 'bounce') order by 1",
        &[],
    );
    assert_eq!(marks, ["bounce bounce", "parts personal en"]);
}

/// Goal: a mail that needs a key fails with that reason; a file that a mail program calls inline is a document.
#[test]
fn encrypted_mails_and_inline_files() {
    let mut session = cluster().connect();
    let send = |session: &mut Session, key: &str, message: &str| -> i64 {
        session.one(
            "select salesai.ingest_email('inline', $1, $2)",
            &[&key, &message.replace('\n', "\r\n").into_bytes()],
        )
    };
    send(
        &mut session,
        "file",
        "From: ana@halden.example\nSubject: Offer\nContent-Type: multipart/mixed; boundary=b\n\n\
         --b\nContent-Type: text/plain\n\nSee below.\n\
         --b\nContent-Type: application/octet-stream; name=\"terms.md\"\nContent-Disposition: inline; filename=\"terms.md\"\n\n\
         # Terms\n\nThirty days.\n--b--\n",
    );
    drain(&mut session);
    let parts: Vec<String> = session.column(
        "select i.kind || ' ' || s.content from salesai.interaction i join salesai.segment s on s.interaction_id = i.id
         where i.source = 'inline' order by i.id, s.position",
        &[],
    );
    assert_eq!(
        parts,
        [
            "email See below.",
            "document # Terms",
            "document Thirty days."
        ]
    );
    let secret = send(
        &mut session,
        "secret",
        "From: ana@halden.example\nSubject: Secret\nContent-Type: multipart/encrypted; boundary=b; protocol=\"application/pgp-encrypted\"\n\n\
         --b\nContent-Type: application/pgp-encrypted\n\nVersion: 1\n--b--\n",
    );
    wait_until("the secret one has failed", DRAIN_LIMIT, || {
        session.one::<i64>("select failed from salesai.queue_status", &[]) == 1
    });
    let error: String = session.one(
        "select concat_ws(' ', class, step, message) from salesai.pipeline_errors where interaction_id = $1",
        &[&secret],
    );
    assert_eq!(error, "record_permanent read email is encrypted");
    session.rows("delete from salesai.interaction where id = $1", &[&secret]);
}

/// Goal: what people say without meaning it is not embedded, and stays in the segments.
#[test]
fn speech_is_cleaned() {
    let mut session = cluster().connect();
    let transcript = "Ana: Um, so the the rollout of the scanners, uh, takes ten weeks in each of the plants.\n\
                      Bob: Mm-hmm.\n\
                      Ana: And [inaudible] the training starts when the last of the scanners has arrived there.\n\
                      Ana: Do you agree?\n\
                      Bob: Yes.";
    let id: i64 = session.one(
        "select salesai.ingest_call('test', 'speech', $1)",
        &[&transcript],
    );
    drain(&mut session);
    let chunks: Vec<String> = session.column(
        "select content from salesai.chunk where interaction_id = $1",
        &[&id],
    );
    assert_eq!(
        chunks,
        [
            "Ana: so the rollout of the scanners, takes ten weeks in each of the plants. And the training starts \
          when the last of the scanners has arrived there. Do you agree?\nBob: Yes."
        ]
    );
    let said: String = session.one("select string_agg(content, ' ' order by position) from salesai.segment where interaction_id = $1", &[&id]);
    assert!(
        said.contains("Um, so the the rollout")
            && said.contains("Mm-hmm.")
            && said.contains("[inaudible]")
    );
}

/// Goal: participants are matched to reps and contacts, and get their side from it.
#[test]
fn participants_have_sides() {
    let mut session = cluster_with_crm().connect();
    let transcript =
        "Priya Raman: Hello.\nMarcus Feld (Halden): Hi.\nVisitor 7: Hey.\nYuki: Good morning.";
    let id: i64 = session.one(
        "select salesai.ingest_call('test', 'sides', $1, account => 'Halden Freight',
             participants => '[{\"name\": \"Yuki\", \"email\": \"yuki@tessellate.example\"}]')",
        &[&transcript],
    );
    drain(&mut session);
    let people: Vec<String> = session.column(
        "select concat_ws(' ', name, side, (rep_id is not null)::text, (contact_id is not null)::text)
         from salesai.participant where interaction_id = $1 order by name",
        &[&id],
    );
    assert_eq!(
        people,
        [
            "Marcus Feld (Halden) external false true",
            "Priya Raman internal true false",
            "Visitor 7 unknown false false",
            "Yuki internal false false",
        ]
    );
}

/// Goal: a speaker who is written a little differently is the participant that was named, unless it may be two.
#[test]
fn speakers_are_participants() {
    let mut session = cluster().connect();
    let id: i64 = session.one(
        "select salesai.ingest_call('test', 'known', $1, participants => $2::text::jsonb)",
        &[
            &"Ana Lund (Halden): Hello.\nDahl, Bob | Halden: Hi.\nana lund: Me again.\nSam: Hey.\nsam [Halden]: Who?",
            &r#"[{"name": "Ana Lund", "email": "ana@halden.example"}, {"name": "Bob Dahl"},
                {"name": "Sam"}, {"name": "SAM"}]"#,
        ],
    );
    drain(&mut session);
    let speakers: Vec<String> = session.column(
        "select p.name from salesai.segment s join salesai.participant p on p.id = s.participant_id
         where s.interaction_id = $1 order by s.position",
        &[&id],
    );
    assert_eq!(
        speakers,
        ["Ana Lund", "Bob Dahl", "Ana Lund", "Sam", "sam [Halden]"]
    );
}

/// Goal: hours of talk without a full stop are chunked where captions end, in seconds; the rows of a table stay lines.
#[test]
fn talk_without_stops_and_tables() {
    let mut session = cluster().connect();
    let captions: String = (0..20_000)
        .map(|number| format!("Ana: and then number {number} went on\n"))
        .collect();
    let id: i64 = session.one(
        "select salesai.ingest_call('test', 'endless', $1, 'plain')",
        &[&captions],
    );
    drain(&mut session);
    let sizes = session.row(
        "select avg(last_position - first_position)::integer, max(token_count) from salesai.chunk where interaction_id = $1",
        &[&id],
    );
    let (captions, tokens): (i32, i32) = (sizes.get(0), sizes.get(1));
    assert!(captions > 5 && tokens <= 180, "{captions} {tokens}");
    let table = "# Plan\n\n| Task | State |\n|---|---|\n| Sign. | Done. Really. |\n| Pay. | Late. |\n\n- Call Bob. Now.\n- Write.\n";
    let id: i64 = session.one(
        "select salesai.ingest_document('test', 'table', $1, 'plan.md')",
        &[&table.as_bytes()],
    );
    drain(&mut session);
    let content: String = session.one(
        "select content from salesai.chunk where interaction_id = $1",
        &[&id],
    );
    for line in [
        "| Sign. | Done. Really. |",
        "| Pay. | Late. |",
        "- Call Bob. Now.",
        "- Write.",
    ] {
        assert!(content.lines().any(|found| found == line), "{content}");
    }
}

/// Goal: without a worker, process() drains the queue in the caller's session.
#[test]
fn process_by_hand() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    for key in 0..3 {
        note(
            &mut session,
            &format!("by-hand-{key}"),
            "Nobody drains this queue.",
        );
    }
    assert_eq!(
        session.one::<i32>("select salesai.process(max_jobs => 2)", &[]),
        2
    );
    // An administrator may, who could write no vector, and is still nobody else afterwards.
    session.run("create role admin_by_hand in role salesai_admin; set role admin_by_hand");
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 1);
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 0);
    assert_eq!(
        session.one::<String>("select current_user::text", &[]),
        "admin_by_hand"
    );
    session
        .refusal("select salesai.process(max_jobs => 0)", &[])
        .assert_is("22023", "no jobs");
    assert_eq!(
        session.one::<String>("select current_user::text", &[]),
        "admin_by_hand"
    );
    session.run("set role salesai_rep");
    session
        .refusal("select salesai.process()", &[])
        .assert_is("42501", "a rep");
    session.run("reset role");
    assert_settled(&mut session);
}

/// Goal: what lost its job is found and queued; what is indexed is chunked anew only when asked, keeps its chunks, and
/// an administrator alone may.
#[test]
fn backfill() {
    let cluster = world::cluster(false);
    let mut session = cluster.connect();
    for key in 0..4 {
        note(&mut session, &format!("b{key}"), "A note of the plant.");
    }
    assert_eq!(
        session.one::<i32>("select salesai.process(max_jobs => 2)", &[]),
        2
    );
    // As after a restore without the queue.
    session.run("delete from salesai.job");
    let backfill = |session: &mut Session, arguments: &str| {
        session.one::<i64>(&format!("select salesai.backfill({arguments})"), &[])
    };
    assert_eq!(backfill(&mut session, "source => 'elsewhere'"), 0);
    assert_eq!(
        backfill(&mut session, "since => now() + interval '1 day'"),
        0
    );
    assert_eq!(backfill(&mut session, ""), 2);
    let progress = "select concat_ws(' ', source, everything, queued, done, waiting, failed, eta_s is null) from salesai.backfills order by id";
    assert_eq!(session.column::<String>(progress, &[]), ["f 2 0 2 0 f"]);
    assert_eq!(
        backfill(&mut session, ""),
        0,
        "what waits is not queued twice"
    );
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 2);
    assert_settled(&mut session);
    let chunks = "select array_agg(id order by id) from salesai.chunk";
    let before: Vec<i64> = session.one(chunks, &[]);
    assert_eq!(
        backfill(&mut session, "source => 'test', everything => true"),
        4
    );
    assert_eq!(
        session.one::<i32>("select salesai.process(max_jobs => 3)", &[]),
        3
    );
    assert_eq!(
        session.column::<String>(progress, &[]),
        ["f 2 2 0 0 f", "test t 4 3 1 0 f"]
    );
    assert_eq!(session.one::<i32>("select salesai.process()", &[]), 1);
    assert_eq!(session.one::<Vec<i64>>(chunks, &[]), before);
    assert_settled(&mut session);
    session.run("set role salesai_gateway");
    session
        .refusal("select salesai.backfill()", &[])
        .assert_is("42501", "the gateway");
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| world::cluster(true))
}

fn cluster_with_crm() -> &'static Cluster {
    static LOADED: OnceLock<()> = OnceLock::new();
    LOADED.get_or_init(|| deal_room::load_crm(&mut cluster().connect()));
    cluster()
}

fn note(session: &mut Session, external_id: &str, body: &str) -> i64 {
    session.one(
        "select salesai.ingest_note('test', $1, $2)",
        &[&external_id, &body],
    )
}

/// The version of an interaction, and how many originals it has.
fn versions(session: &mut Session, id: i64) -> (i32, i64) {
    let row = session.row(
        "select version, (select count(*) from salesai.raw_payload r where r.interaction_id = i.id)
         from salesai.interaction i where id = $1",
        &[&id],
    );
    (row.get(0), row.get(1))
}

fn jobs(session: &mut Session) -> i64 {
    session.one("select count(*) from salesai.job", &[])
}
