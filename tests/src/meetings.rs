//! Real meetings (QMSum), as plain transcripts.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::session::Session;

/// A meeting as it was ingested: turn i is line i.
pub struct Meeting {
    pub id: String,
    /// Character range of each line.
    lines: Vec<(i32, i32)>,
}

/// Ingests a meeting of a part (`val` or `train`) under an account of its own, whose external id is the meeting's.
pub fn ingest(session: &mut Session, folder: &Path, part: &str, id: &str) -> Meeting {
    let mut transcript = String::new();
    let mut lines = Vec::new();
    let mut at = 0;
    for turn in turn_lines(&folder.join(format!("{part}/{id}.json"))) {
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

impl Meeting {
    /// Turns that a character range of the transcript touches.
    pub fn turns(&self, start_char: i32, end_char: i32) -> std::ops::Range<usize> {
        let first = self.lines.partition_point(|line| line.1 <= start_char);
        let end = self.lines.partition_point(|line| line.0 < end_char);
        first..end.max(first)
    }

    /// The turns that a query is about, first and last of each span, within the meeting.
    pub fn relevant_spans(&self, query: &Value) -> Vec<(usize, usize)> {
        let spans = query["relevant_turn_spans"].as_array();
        let last = self.lines.len() - 1;
        let turn =
            |span: &Value, end: usize| (span[end].as_u64().expect("a turn") as usize).min(last);
        let spans = spans.expect("the spans of a query").iter();
        spans.map(|span| (turn(span, 0), turn(span, 1))).collect()
    }
}

/// Queries of a part.
pub fn queries(folder: &Path, part: &str) -> Vec<Value> {
    let path = folder.join(format!("{part}_queries.jsonl"));
    let text = fs::read_to_string(path).expect("read the queries");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a query in JSON"))
        .collect()
}

/// The turns of a meeting, each as a line `Speaker: text` without line feed.
pub fn turn_lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("read a meeting");
    let meeting: Value = serde_json::from_str(&text).expect("a meeting in JSON");
    let turns = meeting["meeting_transcripts"].as_array();
    let turns = turns.expect("the turns of a meeting").iter();
    let said = |turn: &Value, field: &str| {
        let text = turn[field].as_str().unwrap_or_default();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let line = |turn| format!("{}: {}", said(turn, "speaker"), said(turn, "content"));
    turns.map(line).collect()
}
