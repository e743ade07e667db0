//! Real meetings (QMSum), as plain transcripts.

use std::fs;
use std::path::Path;

use serde_json::Value;

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
