//! Goal: whatever the scores are, a completed text validates against its JSON schema.
//!
//! `generator` makes 300 schemas of growing nastiness; `boon`, an independent implementation,
//! judges the texts.
//! The scores are random here: they try what no model would, such as the rarest tokens everywhere.

mod generator;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference_sidecar::error::Error;
use inference_sidecar::gguf::GgufFile;
use inference_sidecar::scheduler::{ConstraintCompiler, Sampler};
use inference_sidecar::text::ChatTokenizer;
use proto::model::{Constraint, Sampling};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::sidecar;

pub use generator::{SCHEMA_COUNT, schema};

/// Tokens of one text.
const TOKENS_MAX: usize = 200;
/// Texts per schema.
const TEXTS: u64 = 2;
/// Completed texts, in percent of all; the others reach `TOKENS_MAX`.
const COMPLETED_PERCENT_MIN: usize = 60;

/// Why schemas are refused, and how many at most: the numbers that were measured.
const REFUSED: [(&str, usize); 7] = [
    (
        "\"minProperties\" and \"maxProperties\" need all properties to be required",
        3,
    ),
    ("\"minProperties\" demands properties without a name", 1),
    ("\"patternProperties\" overlap", 4),
    ("a whole number is beyond 2 to the 53", 3),
    ("no value can satisfy it", 5),
    ("not supported: if, then, else", 1),
    ("not supported: uniqueItems", 3),
];

/// What the trial runs over.
struct Trial {
    compiler: ConstraintCompiler,
    /// The bytes of each row of scores.
    words: Vec<Vec<u8>>,
    is_end: Vec<bool>,
    /// Normal-like noise, longer than the scores, to start at random places.
    noise: Vec<f32>,
}

/// How one text came out.
enum Outcome {
    Completed(String),
    Unfinished,
}

impl Trial {
    fn over_model(tokenizer: &Arc<ChatTokenizer>, rows: usize) -> Self {
        let tokens = 0..rows as u32;
        Self {
            compiler: ConstraintCompiler::new(tokenizer, rows).unwrap(),
            words: tokens
                .clone()
                .map(|token| tokenizer.bytes(token).to_vec())
                .collect(),
            is_end: tokens.map(|token| tokenizer.is_end(token)).collect(),
            noise: noise(rows),
        }
    }

    fn over_bytes() -> Self {
        let words = (0..=u8::MAX).map(|byte| vec![byte]).chain([Vec::new()]);
        Self {
            compiler: ConstraintCompiler::of_bytes().unwrap(),
            words: words.collect(),
            is_end: (0..257).map(|token| token == 256).collect(),
            noise: noise(257),
        }
    }

    /// Random scores; what closes a text is likelier, or nothing would ever end.
    fn scores(&self, random: &mut StdRng) -> Vec<f32> {
        let start = random.random_range(0..self.noise.len() - self.words.len());
        let mut scores = self.noise[start..start + self.words.len()].to_vec();
        for (token, score) in scores.iter_mut().enumerate() {
            let word = self.words[token].as_slice();
            let closes = self.is_end[token] || word.iter().any(|byte| b"\"}]".contains(byte));
            if closes {
                *score += 4.0 + 2.0 / word.len().max(1) as f32;
            }
        }
        scores
    }

    fn write(&self, schema: &Value, seed: u64, spent: &mut Spent) -> Result<Outcome, Error> {
        let start = Instant::now();
        let mut state = self
            .compiler
            .compile(&Constraint::JsonSchema(schema.to_string()))?;
        spent.compile(start.elapsed());
        let mut sampler = Sampler::new(Sampling::nucleus(1.5, 1.0, seed), 0);
        let mut random = StdRng::seed_from_u64(seed);
        let mut text = Vec::new();
        for _ in 0..TOKENS_MAX {
            if state.is_complete() {
                return Ok(Outcome::Completed(String::from_utf8(text).unwrap()));
            }
            let mut scores = self.scores(&mut random);
            let start = Instant::now();
            state.mask(&mut scores)?;
            spent.mask(start.elapsed());
            let token = sampler.choose(&mut scores, &[], Some(&mut state))?.token;
            if self.is_end[token as usize] {
                assert!(state.is_accepting());
                return Ok(Outcome::Completed(String::from_utf8(text).unwrap()));
            }
            let word = &self.words[token as usize];
            assert!(!word.is_empty(), "a control token in constrained text");
            text.extend_from_slice(word);
            state.accept(token)?;
        }
        Ok(Outcome::Unfinished)
    }
}

/// Time spent on constraints.
#[derive(Default)]
struct Spent {
    compile: Vec<Duration>,
    mask: Vec<Duration>,
}

impl Spent {
    fn compile(&mut self, time: Duration) {
        self.compile.push(time);
    }

    fn mask(&mut self, time: Duration) {
        self.mask.push(time);
    }

    fn report(mut times: Vec<Duration>) -> String {
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let mean = times.iter().sum::<Duration>() / times.len() as u32;
        format!(
            "mean {mean:?}, median {:?}, p99 {:?}, longest {:?}",
            at(0.5),
            at(0.99),
            at(1.0)
        )
    }
}

fn noise(rows: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(1);
    let number = || {
        (0..4)
            .map(|_| random.random_range(-1.0f32..1.0))
            .sum::<f32>()
            * 1.5
    };
    std::iter::repeat_with(number).take(rows + 8191).collect()
}

/// Schemas that are refused.
pub fn refused_count() -> usize {
    REFUSED.iter().map(|(_, count)| count).sum()
}

/// The judge: all of JSON Schema, with formats.
pub struct Judge {
    schemas: boon::Schemas,
    schema: boon::SchemaIndex,
}

impl Judge {
    pub fn new(schema: &Value) -> Self {
        let mut schemas = boon::Schemas::new();
        let mut compiler = boon::Compiler::new();
        compiler.enable_format_assertions();
        compiler
            .add_resource("schema.json", schema.clone())
            .unwrap();
        let schema = compiler.compile("schema.json", &mut schemas).unwrap();
        Self { schemas, schema }
    }

    /// What is wrong with a value, if anything.
    pub fn error(&self, value: &Value) -> Option<String> {
        let judged = self.schemas.validate(value, self.schema);
        judged.err().map(|error| error.to_string())
    }
}

/// The texts' value. None for a number that JSON allows and a 64-bit float cannot hold.
pub fn parse(text: &str) -> Option<Value> {
    match serde_json::from_str(text) {
        Ok(value) => Some(value),
        Err(error) if error.to_string().starts_with("number out of range") => None,
        Err(error) => panic!("{error}: {text}"),
    }
}

fn check(trial: &Trial) {
    let mut spent = Spent::default();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures: Vec<String> = Vec::new();
    let (mut completed, mut unfinished, mut huge_numbers) = (0, 0, 0);
    for index in 0..SCHEMA_COUNT {
        let schema = schema(index);
        let judge = Judge::new(&schema);
        for text in 0..TEXTS {
            match trial.write(&schema, index as u64 * TEXTS + text, &mut spent) {
                Ok(Outcome::Unfinished) => unfinished += 1,
                Ok(Outcome::Completed(text)) => {
                    completed += 1;
                    let Some(value) = parse(&text) else {
                        huge_numbers += 1;
                        continue;
                    };
                    if let Some(error) = judge.error(&value) {
                        failures.push(format!("{index}: {schema}\n{text}\n{error}"));
                    }
                }
                Err(Error::ConstraintRefused { reason }) => {
                    *refused.entry(reason).or_default() += 1;
                    break;
                }
                Err(error) => failures.push(format!("{index}: {schema}\n{error}")),
            }
        }
    }
    println!("{completed} completed, {unfinished} unfinished, {huge_numbers} with huge numbers");
    println!("refused: {refused:#?}");
    println!("compile: {}", Spent::report(spent.compile));
    println!("mask: {}", Spent::report(spent.mask));
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
    assert!(completed * 100 >= (completed + unfinished) * COMPLETED_PERCENT_MIN);
    assert!(huge_numbers * 100 <= completed, "{huge_numbers}");
    for (reason, count) in refused {
        let measured = REFUSED.iter().find(|(known, _)| *known == reason);
        assert!(
            measured.is_some_and(|(_, most)| count <= *most),
            "{count} times: {reason}"
        );
    }
}

#[test]
fn random_texts_over_bytes_obey_their_schemas() {
    check(&Trial::over_bytes());
}

#[test]
fn random_texts_over_the_vocabulary_obey_their_schemas() {
    let test = "random_texts_over_the_vocabulary_obey_their_schemas";
    let Some(model) = sidecar::language_model(test) else {
        return;
    };
    let tokenizer = ChatTokenizer::from_gguf(&GgufFile::open(&model).unwrap()).unwrap();
    check(&Trial::over_model(&Arc::new(tokenizer), 49_152));
}
