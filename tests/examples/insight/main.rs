//! Measures answers: to the 20 questions of the deal room, whether they cite what answers, whether their confidence tells
//! that evidence is there, and what `salesai.insight` takes besides search and the sidecar; to questions about meetings
//! (QMSum val), whether they cite the turns that people marked.
//!
//! `cargo run -p tests --example insight`, with the environment of `make test`; `make bench-insight` sets it.
//! Arguments: some of either, extractive and generated.

use std::time::Duration;

use serde_json::Value;
use tests::cluster::{Cluster, Settings};
use tests::config::shared_data;
use tests::deal_room;
use tests::measure::{ms, percentile};
use tests::meetings::{self, Meeting};
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::drain;

const MEETINGS: usize = 8;

/// Shares of the questions that are answered, the surest first.
const COVERAGES: [f64; 4] = [0.1, 0.25, 0.5, 0.75];

/// What is known of an answer.
struct Answer {
    method: String,
    confidence: f64,
    /// Whether it cites the interaction that answers, and whether the words that answer stand in what it says.
    cites: bool,
    says: bool,
    overhead: Duration,
}

fn main() {
    let sidecar = Sidecar::start();
    let cluster = Cluster::start(&Settings::new(sidecar.socket()));
    let mut session = cluster.connect();
    session.run("set salesai.timeout_ms = 600000");
    deal_room::load(&mut session, |_| true);
    drain(&mut session);
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let questions = deal_room::questions();
    println!(
        "| method asked for | answered | cite the right interaction | say the words | AUROC | besides search and sidecar, p50 | p95 |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut curves = Vec::new();
    for method in [None, Some("extractive"), Some("generated")] {
        let name = method.unwrap_or("either");
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        let mut answers = Vec::new();
        for question in &questions {
            answers.push(ask(&mut session, question, method));
        }
        // The same, without what answers.
        let mut without = Vec::new();
        for question in &questions {
            session.run("begin");
            session.rows(
                "delete from salesai.interaction where external_id = $1",
                &[&question["interaction"].as_str()],
            );
            without.push(ask(&mut session, question, method));
            session.run("rollback");
        }
        let count = |is: fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
        let mut overheads: Vec<Duration> = answers.iter().map(|answer| answer.overhead).collect();
        println!(
            "| {} | {} of {} | {} | {} | {:.2} | {} | {} |",
            name,
            count(|answer| answer.method != "abstained"),
            answers.len(),
            count(|answer| answer.cites),
            count(|answer| answer.says),
            auroc(&answers, &without),
            ms(percentile(&mut overheads, 0.5)),
            ms(percentile(&mut overheads, 0.95)),
        );
        curves.push(format!(
            "| {name} | {} |",
            risk_coverage(&answers, &without).join(" | ")
        ));
    }
    println!(
        "\nOf all questions, with and without what answers, the surest: how many of these answers do not cite the right \
         interaction\n\n| method asked for | {} |\n|---|---|---|---|---|",
        COVERAGES
            .map(|share| format!("{:.0} %", share * 100.0))
            .join(" | ")
    );
    println!("{}\n", curves.join("\n"));
    meetings_cited(&mut session);
}

fn ask(session: &mut Session, question: &Value, method: Option<&str>) -> Answer {
    let row = session.row(
        "select i.method, coalesce(i.confidence, 0)::float8, coalesce(i.answer, ''),
             exists (select from unnest(i.citations) c join salesai.interaction n on n.id = c.interaction_id
                     where n.external_id = $4),
             i.elapsed_ms::float8 - (select coalesce(sum((i.details ->> step)::float8), 0)
                                     from unnest(array['search_ms', 'similarity_ms', 'generation_ms']) step)
         from salesai.insight($1, account => $2, method => $3, explain => true) i",
        &[
            &question["question"].as_str(),
            &question["account"].as_str(),
            &method,
            &question["interaction"].as_str(),
        ],
    );
    let answer: String = row.get(2);
    let words = question["answer_contains"].as_array().into_iter().flatten();
    Answer {
        method: row.get(0),
        confidence: row.get(1),
        cites: row.get(3),
        says: words
            .filter_map(Value::as_str)
            .all(|words| answer.to_lowercase().contains(&words.to_lowercase())),
        overhead: Duration::from_secs_f64(row.get::<_, f64>(4).max(0.0) / 1000.0),
    }
}

/// Extractive answers to questions about a meeting that is given.
fn meetings_cited(session: &mut Session) {
    let Some(folder) = shared_data("insight", "qmsum") else {
        return;
    };
    let queries: Vec<Value> = meetings::queries(&folder, "val")
        .into_iter()
        .filter(|query| {
            query["relevant_turn_spans"]
                .as_array()
                .is_some_and(|spans| !spans.is_empty())
        })
        .collect();
    let mut ids: Vec<&str> = queries
        .iter()
        .filter_map(|query| query["meeting_id"].as_str())
        .collect();
    ids.dedup();
    ids.truncate(MEETINGS);
    let known: Vec<Meeting> = ids
        .iter()
        .map(|id| meetings::ingest(session, &folder, "val", id))
        .collect();
    drain(session);
    let (mut asked, mut answered, mut hits, mut cited, mut relevant) = (0, 0, 0, 0, 0);
    for query in &queries {
        let Some(meeting) = known
            .iter()
            .find(|meeting| query["meeting_id"] == *meeting.id)
        else {
            continue;
        };
        let spans = meeting.relevant_spans(query);
        let places = session.rows(
            "select c.start_char, c.end_char
             from salesai.insight($1, account => $2, method => 'extractive') i, unnest(i.citations) c",
            &[&query["query"].as_str(), &meeting.id],
        );
        let is_relevant: Vec<bool> = places
            .iter()
            .map(|place| {
                let turns = meeting.turns(place.get(0), place.get(1));
                spans
                    .iter()
                    .any(|(first, last)| turns.clone().any(|turn| (*first..=*last).contains(&turn)))
            })
            .collect();
        asked += 1;
        answered += usize::from(!is_relevant.is_empty());
        hits += usize::from(is_relevant.contains(&true));
        cited += is_relevant.len();
        relevant += is_relevant.iter().filter(|is| **is).count();
    }
    println!(
        "{asked} questions about {} meetings: {answered} answered, {hits} cite a turn that people marked; {relevant} of {cited} citations do\n",
        known.len()
    );
}

/// How often an answer with its evidence is surer than one without (Mann and Whitney 1947); a tie counts half.
fn auroc(with: &[Answer], without: &[Answer]) -> f64 {
    let pairs = with.iter().flat_map(|with| {
        without
            .iter()
            .map(move |without| (with.confidence, without.confidence))
    });
    let wins = pairs.map(|(with, without)| match with.total_cmp(&without) {
        std::cmp::Ordering::Greater => 1.0,
        std::cmp::Ordering::Equal => 0.5,
        std::cmp::Ordering::Less => 0.0,
    });
    wins.sum::<f64>() / (with.len() * without.len()) as f64
}

/// The risk-coverage curve (El-Yaniv and Wiener 2010): at each of [`COVERAGES`], wrong ones among those answered.
fn risk_coverage(with: &[Answer], without: &[Answer]) -> Vec<String> {
    let mut pooled: Vec<&Answer> = with.iter().chain(without).collect();
    pooled.sort_by(|left, right| right.confidence.total_cmp(&left.confidence));
    let at = |share: f64| {
        let surest = &pooled[..(share * pooled.len() as f64).round() as usize];
        let answered = (surest.iter()).filter(|answer| answer.method != "abstained");
        let wrong = answered.clone().filter(|answer| !answer.cites).count();
        format!("{wrong} of {}", answered.count())
    };
    COVERAGES.map(at).to_vec()
}
