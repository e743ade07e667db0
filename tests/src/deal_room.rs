//! The sample deal room (ops/deal_room), loaded through the public functions.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::config::repository;
use crate::session::Session;

const CRM: [(&str, &str); 5] = [
    ("teams", "team"),
    ("reps", "rep"),
    ("accounts", "account"),
    ("contacts", "contact"),
    ("opportunities", "opportunity"),
];

/// Loads all CRM records, and the interactions that `is_wanted`; returns how many.
pub fn load(session: &mut Session, is_wanted: impl Fn(&Value) -> bool) -> usize {
    load_crm(session);
    let entries: Vec<Value> = manifest().into_iter().filter(is_wanted).collect();
    for entry in &entries {
        ingest(session, entry);
    }
    entries.len()
}

pub fn load_crm(session: &mut Session) {
    for (file, kind) in CRM {
        let records = fs::read_to_string(room().join(format!("crm/{file}.json")));
        let records = records.expect("read CRM records");
        let outcomes: Vec<String> = session.column(
            "select outcome from salesai.ingest_crm('sample', $1, $2::text::jsonb)",
            &[&kind, &records],
        );
        assert!(
            outcomes.iter().all(|outcome| outcome == "inserted"),
            "{kind}: {outcomes:?}"
        );
    }
}

/// Ingests one line of the manifest; returns the interaction's id.
pub fn ingest(session: &mut Session, entry: &Value) -> i64 {
    let body = body(entry);
    let text = || String::from_utf8(body.clone()).expect("the deal room is UTF-8");
    let field = |name: &str| entry[name].as_str();
    let (source, external_id) = (field("source"), field("external_id"));
    let (account, opportunity) = (field("account"), field("opportunity"));
    match field("kind") {
        Some("call") => session.one(
            "select salesai.ingest_call($1, $2, $3, format => $4, account => $5, opportunity => $6,
                 started_at => $7::text::timestamptz, participants => $8::text::jsonb, subject => $9)",
            &[
                &source,
                &external_id,
                &text(),
                &field("format").unwrap_or("auto"),
                &account,
                &opportunity,
                &field("occurred_at"),
                &entry["participants"].to_string(),
                &field("subject"),
            ],
        ),
        Some("email") => session.one(
            "select salesai.ingest_email($1, $2, $3, account => $4, opportunity => $5)",
            &[&source, &external_id, &body, &account, &opportunity],
        ),
        Some("note") => session.one(
            "select salesai.ingest_note($1, $2, $3, account => $4, opportunity => $5,
                 occurred_at => $6::text::timestamptz, subject => $7)",
            &[
                &source,
                &external_id,
                &text(),
                &account,
                &opportunity,
                &field("occurred_at"),
                &field("subject"),
            ],
        ),
        kind => panic!("manifest.jsonl names the kind {kind:?}"),
    }
}

/// The bytes of an interaction, as they arrive.
pub fn body(entry: &Value) -> Vec<u8> {
    let file = entry["file"].as_str().expect("the manifest names a file");
    fs::read(room().join(file)).expect("read a file of the deal room")
}

/// All lines of the manifest.
pub fn manifest() -> Vec<Value> {
    json_lines("manifest.jsonl")
}

/// One line of the manifest.
pub fn entry(external_id: &str) -> Value {
    let found = manifest()
        .into_iter()
        .find(|entry| entry["external_id"] == external_id);
    found.unwrap_or_else(|| panic!("the deal room has no {external_id}"))
}

/// Questions with the interaction that answers them.
pub fn questions() -> Vec<Value> {
    json_lines("questions.jsonl")
}

fn json_lines(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(room().join(file)).expect("read a file of the deal room");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn room() -> PathBuf {
    repository().join("ops/deal_room")
}
