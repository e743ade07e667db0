//! Real calls and meetings, read in place beside the checkout.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::cluster::Cluster;
use tests::config::shared_data;
use tests::meetings::{self, Meeting};
use tests::session::Session;
use tests::world::{self, assert_settled, drain};

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
    check_chunk_ends(&mut session);
}

/// No chunk ends within a sentence, unless all of it is one that is too long.
fn check_chunk_ends(session: &mut Session) {
    let split = "from salesai.chunk c
        join salesai.segment l on l.interaction_id = c.interaction_id and l.version = c.version and l.position = c.last_position
        join salesai.segment n on n.interaction_id = c.interaction_id and n.version = c.version and n.position = c.last_position + 1
        where n.turn = l.turn and c.content !~ '[.?!…][)\"]*$'";
    let sentences: Vec<String> = session.column(
        &format!("select right(c.content, 120) {split} and c.token_count <= 180"),
        &[],
    );
    let counts = session.row(
        &format!("select (select count(*) from salesai.chunk), (select count(*) {split} and c.token_count > 180)"),
        &[],
    );
    let (chunks, long): (i64, i64) = (counts.get(0), counts.get(1));
    println!("measured: {long} of {chunks} chunks end in a sentence that is too long for one");
    assert!(
        sentences.is_empty(),
        "{} of {chunks}: {sentences:#?}",
        sentences.len()
    );
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
        .map(|id| meetings::ingest(&mut session, &dir, "val", id))
        .collect();
    drain(&mut session);
    assert_settled(&mut session);
    let queries = meetings::queries(&dir, "val");
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
    // Deleted ones change nothing; one account has no id of its own, the contacts' accounts are not in the export.
    let exports: [(&str, Files); 2] = [
        (
            "salesforce",
            &[
                ("rep", "sf_user_data", "inserted 5, unchanged 5"),
                ("account", "sf_account_data", "rejected 1, unchanged 9"),
                ("contact", "sf_contact_data", "rejected 4"),
                ("product", "sf_product_2_data", "inserted 2"),
                ("opportunity", "sf_opportunity_data", "unchanged 10"),
            ],
        ),
        (
            "hubspot",
            &[
                ("rep", "owner_data", "inserted 100"),
                ("account", "company_data", "inserted 24"),
                ("contact", "contact_data", "inserted 22"),
                (
                    "stage",
                    "deal_pipeline_stage_data",
                    "inserted 69, unchanged 2",
                ),
                ("opportunity", "deal_data", "inserted 44"),
            ],
        ),
    ];
    let cluster = cluster();
    let mut session = cluster.connect();
    for (shape, files) in exports {
        let Some(dir) = shared_data("crm_exports", &format!("crm_{shape}_export")) else {
            return;
        };
        for (kind, file, outcomes) in files {
            let path = dir.join(format!("{file}.csv"));
            let text =
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let rows: i32 = session.one(
                "select jsonb_array_length(salesai.csv_records($1))",
                &[&text],
            );
            let send = "select split_part(outcome, ':', 1) || ' ' || count(*) from salesai.ingest_crm($1, $2,
                salesai.csv_records($3), $1) group by split_part(outcome, ':', 1) order by 1";
            let first: Vec<String> = session.column(send, &[&shape, kind, &text]);
            let again: Vec<String> = session.column(send, &[&shape, kind, &text]);
            println!(
                "measured: {shape} {kind}: {rows} rows: {}",
                first.join(", ")
            );
            assert_eq!(first.join(", "), *outcomes, "{shape} {kind}");
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

/// Goal: tasks, events and engagements of real exports become interactions with their text, of the right account.
#[test]
fn crm_activities() {
    // The accounts and deals that they name are in no export.
    let exports = [
        ("salesforce", "sf_task_data", 10, "description", "10 9"),
        ("salesforce", "sf_event_data", 10, "description", "20 19"),
        ("hubspot", "engagement_note_data", 1, "note body", "1 0"),
    ];
    let cluster = cluster();
    let mut session = cluster.connect();
    for (shape, file, rows, body, with_accounts) in exports {
        let Some(dir) = shared_data("crm_activities", &format!("crm_{shape}_export")) else {
            return;
        };
        let text = fs::read_to_string(dir.join(format!("{file}.csv"))).expect("an export");
        for kind in ["account", "opportunity"] {
            session.rows(
                "select * from salesai.ingest_crm($1, $2, (
                     select coalesce(jsonb_agg(distinct jsonb_build_object('external_id', a ->> $2, 'name', a ->> $2, 'stage', 'Demo'))
                         filter (where a ? $2), '[]')
                     from jsonb_array_elements(salesai.csv_records($3)) r, salesai.crm_activity($1, r) a))",
                &[&shape, &kind, &text],
            );
        }
        let send =
            "select outcome from salesai.ingest_crm($1, 'activity', salesai.csv_records($2), $1)";
        let first: Vec<String> = session.column(send, &[&shape, &text]);
        assert_eq!(first, vec!["inserted"; rows], "{file}");
        let again: Vec<String> = session.column(send, &[&shape, &text]);
        assert_eq!(again, vec!["unchanged"; rows], "{file}");
        drain(&mut session);
        let stored: String = session.one(
            "select concat_ws(' ', count(*), count(i.account_id))
             from salesai.interaction i join salesai.segment s on s.interaction_id = i.id
             where i.source = $1 and i.kind = 'crm_activity' and s.content = $2",
            &[&shape, &body],
        );
        assert_eq!(stored, with_accounts, "{file}");
    }
}

/// Kind, file and outcomes.
type Files = &'static [(&'static str, &'static str, &'static str)];

/// Goal: the exports of a sales team as CSV go in whole, whatever their columns are called, and come out as they were.
#[test]
fn crm_tables() {
    let Some(dir) = shared_data("crm_tables", "crm_maven") else {
        return;
    };
    let cluster = cluster();
    let mut session = cluster.connect();
    let mut load = |kind: &str, file: &str, record: &str| -> Vec<String> {
        let text =
            fs::read_to_string(dir.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        session.column(
            &format!(
                "select outcome || ' ' || count(*) from salesai.ingest_crm('maven', $1, (
                     select jsonb_agg(distinct {record}) from jsonb_array_elements(salesai.csv_records($2)) r))
                 group by outcome"
            ),
            &[&kind, &text],
        )
    };
    for (kind, file, record, outcome) in [
        ("team", "sales_teams.csv", "jsonb_build_object('external_id', r -> 'regional_office', 'name', r -> 'regional_office')", "inserted 3"),
        ("rep", "sales_teams.csv", "jsonb_build_object('external_id', r -> 'sales_agent', 'name', r -> 'sales_agent', 'team', r -> 'regional_office')", "inserted 35"),
        ("account", "accounts.csv", "jsonb_build_object('external_id', r -> 'account', 'name', r -> 'account', 'industry', r -> 'sector')", "inserted 85"),
        ("product", "products.csv", "jsonb_build_object('external_id', r -> 'product', 'name', r -> 'product')", "inserted 7"),
        ("opportunity", "sales_pipeline.csv", "jsonb_strip_nulls(jsonb_build_object('external_id', r -> 'opportunity_id', 'name', r -> 'product',
            'account', r -> 'account', 'owner', r -> 'sales_agent', 'stage', r -> 'deal_stage', 'amount', r -> 'close_value',
            'close_date', r -> 'close_date'))", "inserted 6694"),
    ] {
        assert_eq!(load(kind, file, record), [outcome], "{kind}");
    }
    let deals: Vec<String> = session.column(
        "select concat_ws(' ', stage, count(*)) from salesai.opportunity group by stage order by stage",
        &[],
    );
    assert_eq!(
        deals,
        ["Engaging 1372", "Lost 1808", "Prospecting 338", "Won 3176"]
    );
    let sums: String = session.one(
        "select concat_ws(' ', sum(amount)::bigint, count(*) filter (where account_id is null), count(distinct owner_rep_id), count(distinct team_id))
         from salesai.opportunity",
        &[],
    );
    assert_eq!(sums, "7417918 1159 30 3");
}

/// Whether one of the ten best chunks overlaps a relevant span.
fn is_found(session: &mut Session, meeting: &Meeting, query: &Value) -> bool {
    let chunks = session.rows(
        "select c.start_char, c.end_char from salesai.search($1, 10, account => $2) h
         join salesai.chunk c on c.id = h.chunk_id",
        &[&query["query"].as_str(), &meeting.id],
    );
    let spans = meeting.relevant_spans(query);
    chunks.iter().any(|chunk| {
        let turns = meeting.turns(chunk.get(0), chunk.get(1));
        spans
            .iter()
            .any(|(first, last)| turns.start <= *last && turns.end > *first)
    })
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
    world::cluster(true)
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
