//! Real calls and meetings, read in place beside the checkout.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::meetings::turn_lines;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::{assert_settled, drain};

/// Meetings of each kind in QMSum: academic, product, parliament.
const MEETINGS: [&str; 5] = ["Bro011", "ES2009a", "IS1006a", "TS3010b", "education_10"];
const QUERIES_MIN: usize = 20;

/// Goal: every cue of real Zoom transcripts arrives, with its speaker and turn, in its place.
#[test]
fn zoom_calls() {
    let Some(dir) = shared_data("zoom_calls", "zoom_vtt") else {
        return;
    };
    let cluster = cluster();
    let mut session = cluster.connect();
    let files = transcripts(&dir);
    assert!(files.len() >= 5);
    let mut calls = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("read a transcript");
        let name = file.display().to_string();
        let call: i64 = session.one(
            "select salesai.ingest_call('zoom', $1, $2)",
            &[&name, &text],
        );
        calls.push((call, name, text));
    }
    drain(&mut session);
    assert_settled(&mut session);
    for (call, name, text) in calls {
        assert_eq!(
            stored_counts(&mut session, call),
            expected_counts(&text),
            "{name}"
        );
        check_places(&mut session, call, &text);
    }
    println!("measured: {} Zoom calls parsed as expected", files.len());
}

/// Goal: search finds the passage of a real meeting that answers a question about it.
#[test]
fn qmsum_meetings() {
    let Some(dir) = shared_data("qmsum_meetings", "qmsum") else {
        return;
    };
    let cluster = cluster();
    let mut session = cluster.connect();
    let meetings: Vec<Meeting> = MEETINGS
        .iter()
        .map(|id| ingest_meeting(&mut session, &dir, id))
        .collect();
    drain(&mut session);
    assert_settled(&mut session);
    let queries = queries(&dir);
    let (mut asked, mut found) = (0, 0);
    for query in &queries {
        let Some(meeting) = meetings
            .iter()
            .find(|meeting| query["meeting_id"] == meeting.id)
        else {
            continue;
        };
        asked += 1;
        found += usize::from(is_found(&mut session, meeting, query));
    }
    println!("measured: QMSum passages in the top 10: {found} of {asked}");
    assert!(asked >= QUERIES_MIN);
    assert!(found * 10 >= asked * 6, "{found} of {asked}");
}

/// Goal: real exports of Salesforce and HubSpot go in under their own field names, again without a change, and a
/// record with a dangling reference is refused alone.
#[test]
fn crm_exports() {
    let exports: [(&str, &[(&str, &str)]); 2] = [
        (
            "salesforce",
            &[
                ("rep", "sf_user_data"),
                ("account", "sf_account_data"),
                ("contact", "sf_contact_data"),
                ("opportunity", "sf_opportunity_data"),
            ],
        ),
        (
            "hubspot",
            &[
                ("rep", "owner_data"),
                ("account", "company_data"),
                ("contact", "contact_data"),
                ("opportunity", "deal_data"),
            ],
        ),
    ];
    let cluster = cluster();
    let mut session = cluster.connect();
    for (shape, files) in exports {
        let Some(dir) = shared_data("crm_exports", &format!("crm_{shape}_export")) else {
            return;
        };
        for (kind, file) in files {
            let rows = load_csv(&mut session, &dir.join(format!("{file}.csv")));
            let send = "select split_part(outcome, ':', 1) || ' ' || count(*) from salesai.ingest_crm($1, $2,
                (select jsonb_agg(to_jsonb(c)) from csv c), $1) group by split_part(outcome, ':', 1) order by 1";
            let first: Vec<String> = session.column(send, &[&shape, kind]);
            let again: Vec<String> = session.column(send, &[&shape, kind]);
            println!(
                "measured: {shape} {kind}: {rows} rows: {}",
                first.join(", ")
            );
            assert!(
                rows > 0 && !again.iter().any(|outcome| outcome.starts_with("inserted")),
                "{shape} {kind}: {again:?}"
            );
            let named: i64 = session.one(
                &format!("select count(*) from salesai.{kind} where source = $1 and name <> '' and properties ? 'fields'"),
                &[&shape],
            );
            let counted = |outcomes: &[String], name: &str| -> i64 {
                let found = outcomes
                    .iter()
                    .find_map(|outcome| outcome.strip_prefix(name));
                found.map_or(0, |count| count.trim().parse().expect("a count"))
            };
            assert_eq!(named, counted(&first, "inserted"), "{shape} {kind}");
        }
    }
}

/// A CSV file as the temporary table `csv` of texts; how many rows.
fn load_csv(session: &mut Session, path: &Path) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let header = text.lines().next().expect("a header");
    let columns: Vec<String> = header
        .split(',')
        .map(|name| format!("\"{}\" text", name.trim_matches('"')))
        .collect();
    session.run(&format!(
        "drop table if exists csv; create temporary table csv ({})",
        columns.join(", ")
    ));
    session.copy_in("copy csv from stdin (format csv, header)", &text)
}

/// A meeting as it was ingested: turn i is line i.
struct Meeting {
    id: String,
    /// Character range of each line.
    lines: Vec<(i32, i32)>,
}

fn ingest_meeting(session: &mut Session, dir: &Path, id: &str) -> Meeting {
    let mut transcript = String::new();
    let mut lines = Vec::new();
    let mut at = 0;
    for turn in turn_lines(&dir.join(format!("val/{id}.json"))) {
        let line = format!("{turn}\n");
        let length = line.chars().count() as i32;
        lines.push((at, at + length));
        at += length;
        transcript.push_str(&line);
    }
    let account = format!("[{{\"external_id\": \"{id}\", \"name\": \"Meeting {id}\"}}]");
    session.rows(
        "select * from salesai.ingest_crm('qmsum', 'account', $1::text::jsonb)",
        &[&account],
    );
    session.rows(
        "select salesai.ingest_call('qmsum', $1, $2, format => 'plain', account => $1)",
        &[&id, &transcript],
    );
    Meeting {
        id: id.to_owned(),
        lines,
    }
}

/// Whether one of the ten best chunks overlaps a relevant span.
fn is_found(session: &mut Session, meeting: &Meeting, query: &Value) -> bool {
    let chunks = session.rows(
        "select c.start_char, c.end_char from salesai.search($1, 10, account => $2) h
         join salesai.chunk c on c.id = h.chunk_id",
        &[&query["query"].as_str(), &meeting.id],
    );
    let spans = query["relevant_turn_spans"]
        .as_array()
        .expect("the spans of a query");
    spans.iter().any(|span| {
        let turn = |end: usize| span[end].as_u64().expect("a turn") as usize;
        let last = meeting.lines.len() - 1;
        let (from, to) = (
            meeting.lines[turn(0).min(last)].0,
            meeting.lines[turn(1).min(last)].1,
        );
        chunks
            .iter()
            .any(|chunk| chunk.get::<_, i32>(0) < to && chunk.get::<_, i32>(1) > from)
    })
}

fn queries(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join("val_queries.jsonl")).expect("read the queries");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a query in JSON"))
        .collect()
}

/// Segments, turns and speakers.
type Counts = (i64, i64, i64);

fn stored_counts(session: &mut Session, call: i64) -> Counts {
    let row = session.row(
        "select count(*), count(distinct turn), count(distinct participant_id)
         from salesai.segment where interaction_id = $1",
        &[&call],
    );
    (row.get(0), row.get(1), row.get(2))
}

/// The same by a parser that knows nothing but Zoom's habit: `Name: text` below each arrow.
fn expected_counts(text: &str) -> Counts {
    let (mut segments, mut turns, mut names) = (0, 0, HashSet::new());
    let mut last = None;
    for block in text.replace('\r', "").split("\n\n") {
        let Some((_, said)) = block.split_once("-->") else {
            continue;
        };
        let said: Vec<&str> = said
            .lines()
            .skip(1)
            .filter(|line| !line.trim().is_empty())
            .collect();
        let Some(first) = said.first() else { continue };
        let (speaker, rest) = first.split_once(": ").unwrap_or(("", first));
        if rest.trim().is_empty() && said.len() == 1 {
            continue;
        }
        segments += 1;
        turns += i64::from(last != Some(speaker.to_owned()));
        last = Some(speaker.to_owned());
        if !speaker.is_empty() {
            names.insert(speaker.to_owned());
        }
    }
    (segments, turns, names.len() as i64)
}

/// Each segment's range of the original holds the segment's words.
fn check_places(session: &mut Session, call: i64, text: &str) {
    let characters: Vec<char> = text.chars().collect();
    let segments = session.rows(
        "select content, start_char, end_char from salesai.segment where interaction_id = $1",
        &[&call],
    );
    for segment in &segments {
        let (start, end): (i32, i32) = (segment.get(1), segment.get(2));
        let place: String = characters[start as usize..end as usize].iter().collect();
        assert!(words(&place).contains(segment.get::<_, &str>(0)), "{place}");
    }
}

fn transcripts(dir: &Path) -> Vec<PathBuf> {
    let calls = fs::read_dir(dir)
        .expect("list the calls")
        .filter_map(Result::ok);
    let mut files: Vec<PathBuf> = calls
        .map(|call| call.path().join("transcript.vtt"))
        .filter(|file| file.exists())
        .collect();
    files.sort();
    files
}

fn cluster() -> Cluster {
    Cluster::start(&Settings::new(Sidecar::shared().socket()))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
