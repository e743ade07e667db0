//! QMSum (Zhong and others, 2021), the meetings of `val`: questions about a meeting, and the turns that answer them. How
//! many of those turns come in the first so many tokens, with the meeting given and over all meetings at once.

use std::collections::HashSet;

use serde_json::Value;
use tests::config::shared_data;
use tests::meetings::{self, Meeting};
use tests::session::Session;

use crate::statistics;

const TOKENS: [i32; 3] = [500, 1000, 2000];
/// Enough chunks for the most tokens.
const CHUNKS: i32 = 60;

pub fn measure() {
    let Some(folder) = shared_data("qmsum", "qmsum") else {
        return;
    };
    let queries: Vec<Value> = meetings::queries(&folder, "val")
        .into_iter()
        .filter(|query| {
            !query["relevant_turn_spans"]
                .as_array()
                .is_none_or(Vec::is_empty)
        })
        .collect();
    let world = crate::world();
    let mut session = world.cluster.connect();
    let ids: HashSet<&str> = queries
        .iter()
        .filter_map(|query| query["meeting_id"].as_str())
        .collect();
    let meetings: Vec<Meeting> = ids
        .iter()
        .map(|id| meetings::ingest(&mut session, &folder, "val", id))
        .collect();
    crate::wait_for_index(&mut session);
    for (title, is_given) in [("meeting given", true), ("all meetings at once", false)] {
        println!("\n{title}: recall of relevant turns, and by how much above BM25\n");
        println!("| search | 500 tokens | 1,000 | 2,000 | queries |\n|---|---|---|---|---|");
        let mut reference: Option<Vec<Vec<f64>>> = None;
        for (name, arguments) in crate::SYSTEMS {
            let mut recalls: Vec<Vec<f64>> = vec![Vec::new(); TOKENS.len()];
            for query in &queries {
                let of_query = recall(&mut session, &meetings, query, arguments, is_given);
                for (all, recall) in recalls.iter_mut().zip(of_query) {
                    all.push(recall);
                }
            }
            let reference = reference.get_or_insert_with(|| recalls.clone());
            let cells = recalls.iter().zip(reference).map(|(ours, theirs)| {
                format!(
                    "{}, {}",
                    statistics::mean(ours),
                    statistics::gain(ours, theirs)
                )
            });
            println!(
                "| {name} | {} | {} |",
                cells.collect::<Vec<_>>().join(" | "),
                queries.len()
            );
        }
    }
}

fn recall(
    session: &mut Session,
    meetings: &[Meeting],
    query: &Value,
    arguments: &str,
    is_given: bool,
) -> [f64; TOKENS.len()] {
    let id = query["meeting_id"].as_str();
    let meeting = meetings
        .iter()
        .find(|meeting| Some(meeting.id.as_str()) == id);
    let meeting = meeting.expect("the meeting of a query");
    let account = is_given.then_some(meeting.id.as_str());
    let chunks = session.rows(
        &format!(
            "select c.start_char, c.end_char, i.external_id,
                 (sum(c.token_count) over (order by h.ordinality))::integer
             from salesai.search($1, $2, account => $3, {arguments}) with ordinality h
             join salesai.chunk c on c.id = h.chunk_id
             join salesai.interaction i on i.id = c.interaction_id
             order by h.ordinality"
        ),
        &[&query["query"].as_str(), &CHUNKS, &account],
    );
    let relevant: HashSet<usize> = meeting
        .relevant_spans(query)
        .into_iter()
        .flat_map(|(first, last)| first..=last)
        .collect();
    TOKENS.map(|tokens| {
        let found: HashSet<usize> = chunks
            .iter()
            .take_while(|chunk| chunk.get::<_, i32>(3) <= tokens)
            .filter(|chunk| chunk.get::<_, String>(2) == meeting.id)
            .flat_map(|chunk| meeting.turns(chunk.get(0), chunk.get(1)))
            .collect();
        found.intersection(&relevant).count() as f64 / relevant.len() as f64
    })
}
