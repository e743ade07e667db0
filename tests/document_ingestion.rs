//! Documents: read in a process of their own, stored with their text, or failed with the reason.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::config::shared_data;
use tests::session::Session;
use tests::world::{self, World, assert_settled, drain};

const PAGE: &[u8] =
    b"<html><title>t</title><h1>Pricing 2026</h1><p>The starter plan costs 90 euros a month.</p>
    <table><tr><th>Plan</th><th>Seats</th></tr><tr><td>Starter</td><td>5</td></tr></table>
    <p>Questions: sales@example.com</p></html>";
const TEXT: &str = "# Pricing 2026\n\nThe starter plan costs 90 euros a month.\n\n| Plan    | Seats |\n| ------- | ----- |\n\
    | Starter | 5     |\n\nQuestions: sales@example.com\n";

/// Goal: a page becomes segments in their places, is found by search, and its original and text come back.
#[test]
fn a_page_is_read() {
    let mut session = cluster().connect();
    let id = ingest(&mut session, "page", PAGE, "pricing.html");
    assert_eq!(
        session.one::<String>(
            "select subject from salesai.interaction where id = $1",
            &[&id]
        ),
        "pricing.html"
    );
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(
        session.column::<String>(
            "select content from salesai.segment where interaction_id = $1 order by position",
            &[&id]
        ),
        [
            "# Pricing 2026",
            "The starter plan costs 90 euros a month.",
            "| Plan | Seats |\n| Starter | 5 |",
            "Questions: [email]",
        ]
    );
    let text: String = session.one("select salesai.document_text($1)", &[&id]);
    assert_eq!(text, TEXT);
    let places: Vec<String> = session.column(
        "select substr(salesai.document_text($1), start_char + 1, end_char - start_char)
         from salesai.segment where interaction_id = $1 order by position",
        &[&id],
    );
    assert_eq!(places[1], "The starter plan costs 90 euros a month.");
    assert_eq!(places[3], "Questions: sales@example.com");
    let found: i64 = session.one(
        "select interaction_id from salesai.search('what does the starter plan cost', 1)",
        &[],
    );
    assert_eq!(found, id);
    let row = session.row(
        "select i.subject, r.media_type, salesai.original(i.id) from salesai.interaction i
         join salesai.raw_payload r on r.interaction_id = i.id where i.id = $1",
        &[&id],
    );
    assert_eq!(row.get::<_, String>(0), "Pricing 2026");
    assert_eq!(row.get::<_, String>(1), "text/html");
    assert_eq!(row.get::<_, Vec<u8>>(2), PAGE);
    // The same again changes nothing; another content is another version.
    assert_eq!(ingest(&mut session, "page", PAGE, "pricing.html"), id);
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job", &[]),
        0
    );
    ingest(&mut session, "page", b"Now in plain text.", "pricing.txt");
    drain(&mut session);
    let versions: Vec<String> = session.column(
        "select version || ': ' || content from salesai.segment where interaction_id = $1 and version = 2",
        &[&id],
    );
    assert_eq!(versions, ["2: Now in plain text."]);
}

/// Goal: a document that comes with an e-mail is an interaction of the same account, once.
#[test]
fn attachments_are_documents() {
    let mut session = cluster().connect();
    let message = "From: a@example.com\r\nTo: b@example.com\r\nDate: Mon, 02 Mar 2026 10:00:00 +0000\r\nSubject: prices\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
        --b\r\nContent-Type: text/plain\r\n\r\nSee the list.\r\n\
        --b\r\nContent-Type: text/csv; name=list.csv\r\nContent-Disposition: attachment; filename=list.csv\r\n\r\n\
        plan,price\r\nstarter,90\r\n\r\n--b--\r\n";
    let ingest = "select salesai.ingest_email('mail', 'with-list', $1)";
    let email: i64 = session.one(ingest, &[&message.as_bytes()]);
    assert_eq!(session.one::<i64>(ingest, &[&message.as_bytes()]), email);
    drain(&mut session);
    assert_settled(&mut session);
    let rows = session.rows(
        "select i.external_id, i.kind, i.subject, (i.properties ->> 'email_id')::bigint, s.content, i.version
         from salesai.interaction i join salesai.segment s on s.interaction_id = i.id
         where i.source = 'mail' and i.kind = 'document'",
        &[],
    );
    assert_eq!(rows.len(), 1);
    let text = |column: usize| rows[0].get::<_, String>(column);
    assert_eq!(
        (text(0).as_str(), text(2).as_str()),
        ("with-list/1", "list.csv")
    );
    assert_eq!(rows[0].get::<_, i64>(3), email);
    assert_eq!(text(4), "| plan | price |\n| starter | 90 |");
    assert_eq!(rows[0].get::<_, i32>(5), 1);
}

/// Goal: a document without text fails for good, with the reason and without harm to others.
#[test]
fn a_document_without_text_says_why() {
    let mut session = cluster().connect();
    let mut encrypted = vec![0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];
    encrypted.resize(512, 0);
    encrypted.extend("EncryptedPackage".encode_utf16().flat_map(u16::to_le_bytes));
    encrypted.resize(1024, 0);
    for (name, content, reason) in [
        (
            "locked.docx",
            encrypted.as_slice(),
            "the document is encrypted",
        ),
        (
            "empty.html",
            b"<p> </p>".as_slice(),
            "the document has no text",
        ),
        (
            "noise.bin",
            &[7, 0, 1, 2],
            "the format of the document is not known",
        ),
        (
            "page.pdf",
            b"no such thing",
            "the document is damaged: its content is not of the format that it is named as",
        ),
    ] {
        let id = ingest(&mut session, name, content, name);
        tests::measure::wait_until(
            "the job has failed",
            std::time::Duration::from_secs(60),
            || {
                session.one::<i64>(
                    "select count(*) from salesai.job where state <> 'failed'",
                    &[],
                ) == 0
            },
        );
        let row = session.row(
            "select e.class, e.step, e.message, i.state from salesai.job_error e
             join salesai.interaction i on i.id = e.interaction_id where i.id = $1",
            &[&id],
        );
        assert_eq!(row.get::<_, String>(0), "record_permanent");
        assert_eq!(row.get::<_, String>(1), "read");
        assert_eq!(row.get::<_, String>(2), reason);
        assert_eq!(row.get::<_, String>(3), "failed");
    }
    session.run("delete from salesai.interaction where state = 'failed'");
}

/// Goal: arguments that cannot be are refused.
#[test]
fn bad_arguments_are_refused() {
    let mut session = cluster().connect();
    for (sql, sqlstate) in [
        (
            "select salesai.ingest_document('t', 'x', '', 'a.txt')",
            "22023",
        ),
        (
            "select salesai.ingest_document('t', 'x', null, 'a.txt')",
            "22023",
        ),
        ("select salesai.ingest_document('t', 'x', 'a', '')", "22023"),
        (
            "select salesai.ingest_document('', 'x', 'a', 'a.txt')",
            "22023",
        ),
    ] {
        session.refusal(sql, &[]).assert_is(sqlstate, sql);
    }
}

/// Goal: a sidecar that is killed while it reads costs nothing but time.
#[test]
fn a_killed_sidecar_is_waited_for() {
    let world = World::start();
    let mut session = world.cluster.connect();
    world.sidecar.pause();
    let id = ingest(&mut session, "page", PAGE, "pricing.html");
    world.sidecar.kill();
    world.sidecar.launch();
    drain(&mut session);
    assert_settled(&mut session);
    assert_eq!(
        session.one::<i64>(
            "select count(*) from salesai.segment where interaction_id = $1",
            &[&id]
        ),
        4
    );
    assert_eq!(
        session.one::<i64>("select count(*) from salesai.job_error", &[]),
        0
    );
}

/// Goal: real documents arrive, or fail with their class; nothing else fails with them.
#[test]
fn real_documents() {
    let Some(dir) = shared_data("real_documents", "documents") else {
        return;
    };
    let mut session = cluster().connect();
    for name in [
        "markitdown/test.docx",
        "markitdown/test.pptx",
        "markitdown/test.pdf",
        "markitdown/test.xlsx",
        "unstructured/fake.odt",
        "unstructured/fake-doc.rtf",
        "unstructured/tests-example.xls",
        "unstructured/stanley-cups.csv",
        "unstructured/fake-text-utf-16.txt",
        "unstructured/pdf__password.pdf",
        "unstructured/pdf__single_table.pdf",
    ] {
        let content = fs::read(dir.join(name)).expect("read a document");
        let file = Path::new(name)
            .file_name()
            .expect("a name")
            .to_string_lossy();
        ingest(&mut session, name, &content, &file);
    }
    tests::measure::wait_until("all are read", std::time::Duration::from_secs(120), || {
        session.one::<i64>(
            "select count(*) from salesai.job where state <> 'failed'",
            &[],
        ) == 0
    });
    let failed: Vec<String> = session.column(
        "select i.external_id || ': ' || e.message from salesai.job_error e
         join salesai.interaction i on i.id = e.interaction_id where i.external_id like '%/%' order by 1",
        &[],
    );
    assert_eq!(
        failed,
        [
            "unstructured/pdf__password.pdf: the document is encrypted",
            "unstructured/pdf__single_table.pdf: the document has no text",
        ]
    );
    let found: Vec<String> = session.column(
        "select i.external_id from salesai.search('multi-agent conversation framework', 3) h
         join salesai.interaction i on i.id = h.interaction_id",
        &[],
    );
    assert!(
        found.iter().any(|id| id.starts_with("markitdown/test.")),
        "{found:?}"
    );
    session.run("delete from salesai.interaction where state = 'failed'");
}

/// Goal: a message of Outlook is stored as it came, with its text and its attachment.
#[test]
fn outlook_messages() {
    let Some(dir) = shared_data("outlook_messages", "mime_mail") else {
        return;
    };
    let mut session = cluster().connect();
    let message =
        fs::read(dir.join("unstructured/fake-email-attachment.msg")).expect("read a message");
    let id: i64 = session.one(
        "select salesai.ingest_email('outlook', 'with-file', $1)",
        &[&message],
    );
    drain(&mut session);
    assert_settled(&mut session);
    let row = session.row(
        "select i.subject, r.media_type, salesai.original(i.id) from salesai.interaction i
         join salesai.raw_payload r on r.interaction_id = i.id where i.id = $1",
        &[&id],
    );
    assert_eq!(row.get::<_, String>(0), "Fake email with attachment");
    assert_eq!(row.get::<_, String>(1), "application/vnd.ms-outlook");
    assert_eq!(row.get::<_, Vec<u8>>(2), message);
    let attached: Vec<String> = session.column(
        "select subject from salesai.interaction where source = 'outlook' and kind = 'document'",
        &[],
    );
    assert_eq!(attached, ["fake-attachment.txt"]);
}

fn ingest(session: &mut Session, external_id: &str, content: &[u8], file_name: &str) -> i64 {
    session.one(
        "select salesai.ingest_document('files', $1, $2, $3)",
        &[&external_id, &content, &file_name],
    )
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| world::cluster(true))
}
