//! SciFact (Wadden and others, 2020) as BEIR has it: claims, and the abstracts that they are about.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use serde_json::Value;
use tests::config::shared_data;
use tests::session::Session;

use crate::{by_hand, statistics};

/// How deep a ranking is looked at.
const DEPTH: usize = 10;
/// Chunks that are asked for: an abstract has one to three.
const CHUNKS: u32 = 50;

pub fn measure() {
    let Some(folder) = shared_data("scifact", "scifact") else {
        return;
    };
    let world = crate::world();
    let mut session = world.cluster.connect();
    load(&mut session, &folder);
    crate::wait_for_index(&mut session);
    let queries = queries(&folder);
    println!(
        "| search | nDCG@{DEPTH} | hit@{DEPTH} | recall@{DEPTH} | queries |\n|---|---|---|---|---|"
    );
    for (name, arguments) in crate::SYSTEMS {
        let search =
            format!("select interaction_id from salesai.search($1, {CHUNKS}, {arguments})");
        let answer = |session: &mut Session, text: &str| documents(session, &search, &[&text]);
        report(&mut session, name, &queries, answer);
    }
    // Without indexes of its own, so that nothing is passed over.
    let by_hand = by_hand::query(CHUNKS);
    let answer = |session: &mut Session, text: &str| {
        let embedding: Vec<f32> = session.one("select salesai.embed($1)::real[]", &[&text]);
        documents(session, &by_hand, &[&text, &embedding])
    };
    report(&mut session, "by hand", &queries, answer);
}

fn report(
    session: &mut Session,
    name: &str,
    queries: &[(String, HashMap<String, f64>)],
    answer: impl Fn(&mut Session, &str) -> Vec<String>,
) {
    let (mut gains, mut hits, mut recalls) = (Vec::new(), Vec::new(), Vec::new());
    for (text, relevant) in queries {
        let found = answer(session, text);
        let grades: Vec<f64> = found
            .iter()
            .map(|document| relevant.get(document).copied().unwrap_or(0.0))
            .collect();
        let mut ideal: Vec<f64> = relevant.values().copied().collect();
        ideal.sort_by(|a, b| b.total_cmp(a));
        gains.push(discounted_gain(&grades) / discounted_gain(&ideal));
        let count = grades.iter().filter(|grade| **grade > 0.0).count();
        hits.push(f64::from(u8::from(count > 0)));
        recalls.push(count as f64 / relevant.len() as f64);
    }
    let [gain, hit, recall] = [&gains, &hits, &recalls].map(|values| statistics::mean(values));
    println!("| {name} | {gain} | {hit} | {recall} | {} |", queries.len());
}

fn load(session: &mut Session, folder: &Path) {
    let mut text = String::new();
    let file = File::open(folder.join("corpus.jsonl.gz")).expect("open the abstracts");
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("read the abstracts");
    let items: Vec<Value> = text
        .lines()
        .map(|line| {
            let document: Value = serde_json::from_str(line).expect("an abstract in JSON");
            serde_json::json!({
                "source": "scifact", "external_id": document["_id"], "subject": document["title"],
                "content": document["text"],
            })
        })
        .collect();
    for items in items.chunks(500) {
        let refused: Vec<String> = session.column(
            "select message from salesai.ingest_batch('note', $1::text::jsonb) where outcome <> 'ingested'",
            &[&Value::from(items.to_vec()).to_string()],
        );
        assert!(refused.is_empty(), "{refused:?}");
    }
}

/// Texts, and the grades of their documents.
fn queries(folder: &Path) -> Vec<(String, HashMap<String, f64>)> {
    let mut grades: HashMap<String, HashMap<String, f64>> = HashMap::new();
    let judgements =
        fs::read_to_string(folder.join("qrels_train.tsv")).expect("read the judgements");
    for line in judgements.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let grade: f64 = fields[2].trim().parse().expect("a grade");
        if grade > 0.0 {
            let of_query = grades.entry(fields[0].to_owned()).or_default();
            of_query.insert(fields[1].to_owned(), grade);
        }
    }
    let text = fs::read_to_string(folder.join("queries_train.jsonl")).expect("read the queries");
    text.lines()
        .filter_map(|line| {
            let query: Value = serde_json::from_str(line).expect("a query in JSON");
            let text = query["text"]
                .as_str()
                .expect("the text of a query")
                .to_owned();
            Some((text, grades.remove(query["_id"].as_str()?)?))
        })
        .collect()
}

/// The best documents, each by its best chunk, of a query that gives chunks with their `interaction_id`, best first.
fn documents(
    session: &mut Session,
    chunks: &str,
    values: &[&(dyn postgres::types::ToSql + Sync)],
) -> Vec<String> {
    session.column(
        &format!(
            "select d.external_id from (
                 select i.external_id, min(h.place) as place
                 from (select row_number() over () as place, c.interaction_id from ({chunks}) c) h
                 join salesai.interaction i on i.id = h.interaction_id
                 group by 1) d order by d.place limit {DEPTH}"
        ),
        values,
    )
}

/// As BEIR counts it: the grade itself is the gain (Järvelin and Kekäläinen, 2002).
fn discounted_gain(grades: &[f64]) -> f64 {
    let places = (2..).zip(grades).take(DEPTH);
    places
        .map(|(place, grade)| grade / f64::from(place).log2())
        .sum()
}
