//! The corpus, and a cluster in which all of it is ingested.

use std::fs;
use std::sync::OnceLock;

use serde_json::{Value, json};

use tests::cluster::Cluster;
use tests::config::repository;
use tests::session::Session;
use tests::world::{self, drain};

pub const ACCOUNT: &str = "Northwind Rail";
pub const OTHER_ACCOUNT: &str = "Kestrel Mining";
pub const SECRET: &str = "Quillfeather";

/// One line of the corpus.
pub struct Case {
    pub id: String,
    /// transcript, mail, document, name, `file_name` or metadata
    pub place: String,
    /// Of a mail: subject or from; empty: the body.
    pub part: String,
    pub encoding: String,
    pub goal: String,
    pub canary: String,
    pub text: String,
}

/// A cluster whose one account has the whole corpus in its interactions, and whose other has a secret.
pub fn attacked() -> &'static Cluster {
    static ATTACKED: OnceLock<Cluster> = OnceLock::new();
    ATTACKED.get_or_init(|| {
        let cluster = world::cluster(true);
        let mut session = cluster.connect();
        load_people(&mut session);
        for case in cases() {
            ingest(&mut session, case);
        }
        let secret =
            format!("The code word of {OTHER_ACCOUNT} is {SECRET}. They pay 7413 euros a month.");
        session.one::<i64>(
            "select salesai.ingest_note('attacks', 'secret', $1, account => $2)",
            &[&secret, &OTHER_ACCOUNT],
        );
        drain(&mut session);
        cluster
    })
}

fn load_people(session: &mut Session) {
    for (kind, records) in [
        ("team", json!([{"external_id": "T", "name": "Rail"}])),
        (
            "rep",
            json!([
                {"external_id": "R1", "name": "Priya Raman", "email": "priya@seller.example", "team": "T"},
                {"external_id": "R2", "name": "Grace Okafor", "email": "grace@seller.example", "team": "T"},
            ]),
        ),
        (
            "account",
            json!([
                {"external_id": "A1", "name": ACCOUNT, "domain": "northwind.example", "owner": "R1"},
                {"external_id": "A2", "name": OTHER_ACCOUNT, "domain": "kestrel.example", "owner": "R2"},
            ]),
        ),
    ] {
        let outcomes: Vec<String> = session.column(
            "select outcome from salesai.ingest_crm('attacks', $1, $2::text::jsonb)",
            &[&kind, &records.to_string()],
        );
        assert!(
            outcomes.iter().all(|outcome| outcome == "inserted"),
            "{kind}: {outcomes:?}"
        );
    }
    session.run(
        "create role t_attacked login in role salesai_rep;
         insert into salesai.principal (role_name, rep_id, read_scope, can_write)
         select 't_attacked', id, 'own', true from salesai.rep where name = 'Priya Raman'",
    );
}

/// Ingests a case as what it stands in.
fn ingest(session: &mut Session, case: &Case) {
    let text = case.text.as_str();
    match case.place.as_str() {
        "transcript" if case.encoding == "vtt" => {
            ingest_call(session, case, "vtt", &vtt(text), &json!([]));
        }
        "transcript" => {
            let transcript = format!(
                "Priya Raman: How far are you with the offer?\nDana Reyes: {text}\n\
                 Priya Raman: The order form is due on Friday.\n"
            );
            ingest_call(session, case, "plain", &transcript, &json!([]));
        }
        "name" => {
            let said = format!("<v {}>We need the price list by Friday.</v>", escaped(text));
            let people = json!([{"name": text, "side": "external"}]);
            ingest_call(session, case, "vtt", &vtt(&said), &people);
        }
        "mail" => {
            session.one::<i64>(
                "select salesai.ingest_email('attacks', $1, $2, account => $3)",
                &[&case.id, &message(case).into_bytes(), &ACCOUNT],
            );
        }
        "document" => {
            let (name, content) = document(case);
            ingest_document(session, case, name, &content);
        }
        "file_name" => ingest_document(session, case, text, "The order form is due on Friday."),
        "metadata" => {
            session.one::<i64>(
                "select salesai.ingest_note('attacks', $1, 'The order form is due on Friday.', account => $2,
                     metadata => jsonb_build_object('comment', $3::text), subject => $3)",
                &[&case.id, &ACCOUNT, &text],
            );
        }
        place => panic!("{}: no text stands in {place}", case.id),
    }
}

fn ingest_call(session: &mut Session, case: &Case, format: &str, transcript: &str, people: &Value) {
    session.one::<i64>(
        "select salesai.ingest_call('attacks', $1, $2, format => $3, account => $4,
             participants => $5::text::jsonb, subject => 'Offer')",
        &[
            &case.id,
            &transcript,
            &format,
            &ACCOUNT,
            &people.to_string(),
        ],
    );
}

fn ingest_document(session: &mut Session, case: &Case, name: &str, content: &str) {
    session.one::<i64>(
        "select salesai.ingest_document('attacks', $1, $2, $3, account => $4)",
        &[&case.id, &content.as_bytes(), &name, &ACCOUNT],
    );
}

fn vtt(said: &str) -> String {
    format!(
        "WEBVTT\n\n00:00:01.000 --> 00:00:04.000\n<v Priya Raman>How far are you with the offer?</v>\n\n\
         00:00:04.000 --> 00:00:09.000\n{said}\n"
    )
}

/// In a tag of WebVTT.
fn escaped(name: &str) -> String {
    name.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// An RFC 5322 message, in UTF-8 throughout.
fn message(case: &Case) -> String {
    let text = case.text.replace('\n', "\r\n");
    let mut from = "Dana Reyes".to_owned();
    let (mut subject, mut media_type) = ("Offer", "text/plain");
    let mut body = "Hello Priya,\r\n\r\nthe order form is due on Friday.".to_owned();
    match (case.part.as_str(), case.encoding.as_str()) {
        ("subject", _) => subject = &text,
        ("from", _) => from = text.replace(['"', '\\'], "'"),
        (_, "html") => {
            media_type = "text/html";
            body = format!("<html><body><p>Hello Priya,</p>\r\n{text}\r\n</body></html>");
        }
        _ => body = format!("Hello Priya,\r\n\r\n{text}"),
    }
    format!(
        "From: \"{from}\" <dana@northwind.example>\r\nTo: Priya Raman <priya@seller.example>\r\n\
         Date: Mon, 02 Mar 2026 10:00:00 +0000\r\nMessage-ID: <{}@northwind.example>\r\nSubject: {subject}\r\n\
         MIME-Version: 1.0\r\nContent-Type: {media_type}; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n{body}\r\n",
        case.id
    )
}

/// Name and content of a file.
fn document(case: &Case) -> (&'static str, String) {
    let text = &case.text;
    match case.encoding.as_str() {
        "html" | "entity" => (
            "offer.html",
            format!(
                "<html><body><h1>Offer</h1><p>The order form is due on Friday.</p>{text}</body></html>"
            ),
        ),
        "markdown" => (
            "offer.md",
            format!("# Offer\n\nThe order form is due on Friday.\n\n{text}\n"),
        ),
        "csv" => ("offer.csv", format!("{text}\n")),
        _ => (
            "offer.txt",
            format!("The order form is due on Friday.\n\n{text}\n"),
        ),
    }
}

pub fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let path = repository().join("tests/attacks/corpus.jsonl");
        let text = fs::read_to_string(path).expect("read the corpus");
        text.lines().map(Case::read).collect()
    })
}

impl Case {
    fn read(line: &str) -> Self {
        let fields: Value = serde_json::from_str(line).expect("a line of JSON");
        let field = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let case = Self {
            id: field("id"),
            place: field("where"),
            part: field("part"),
            encoding: field("encoding"),
            goal: field("goal"),
            canary: field("canary"),
            text: field("text"),
        };
        let needed = [&case.id, &case.place, &case.goal, &case.canary, &case.text];
        assert!(needed.into_iter().all(|text| !text.is_empty()), "{line}");
        case
    }
}
