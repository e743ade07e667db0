//! Goal: the rules of redaction find what they should in texts that nobody here wrote: Presidio's synthetic
//! sentences, read in place beside the checkout. Prints recall and precision of each kind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use domain::redaction::{KindSet, KnownNames, PiiKind, find_pii};
use serde_json::Value;

const RECALL_MIN: f64 = 0.95;
const PRECISION_MIN: f64 = 0.90;

/// Kinds that have a form of their own; addresses and names have none, and are reported alone.
const STRUCTURED: [PiiKind; 7] = [
    PiiKind::Email,
    PiiKind::Iban,
    PiiKind::Card,
    PiiKind::NationalId,
    PiiKind::IpAddress,
    PiiKind::BirthDate,
    PiiKind::Phone,
];

#[derive(Default)]
struct Counts {
    labelled: usize,
    missed: usize,
    found: usize,
    wrong: usize,
}

#[test]
fn presidio_sentences() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared/data/pii_presidio/synth_dataset_v2.json");
    let Ok(content) = fs::read(&file) else {
        println!("skipped: presidio_sentences: there is no ../shared/data/pii_presidio");
        return;
    };
    let sentences: Vec<Value> = serde_json::from_slice(&content).expect("a list");
    let mut counts: BTreeMap<PiiKind, Counts> = BTreeMap::new();
    for sentence in &sentences {
        count(sentence, &mut counts);
    }
    for (kind, counts) in &counts {
        let Counts {
            labelled,
            missed,
            found,
            wrong,
        } = *counts;
        println!(
            "{:>16}: recall {:.3} of {labelled}, precision {:.3} of {found}",
            kind.name(),
            1.0 - missed as f64 / labelled.max(1) as f64,
            1.0 - wrong as f64 / found.max(1) as f64,
        );
    }
    let total = |field: fn(&Counts) -> usize| -> f64 {
        STRUCTURED
            .iter()
            .map(|kind| field(&counts[kind]) as f64)
            .sum()
    };
    let recall = 1.0 - total(|c| c.missed) / total(|c| c.labelled);
    let precision = 1.0 - total(|c| c.wrong) / total(|c| c.found);
    println!("structured kinds: recall {recall:.3}, precision {precision:.3}");
    assert!(recall >= RECALL_MIN && precision >= PRECISION_MIN);
}

fn count(sentence: &Value, counts: &mut BTreeMap<PiiKind, Counts>) {
    let text = sentence["full_text"].as_str().expect("a text");
    let bytes = |chars: &Value| {
        let chars = chars.as_u64().expect("a place") as usize;
        text.char_indices()
            .nth(chars)
            .map_or(text.len(), |(byte, _)| byte)
    };
    let spans: Vec<(PiiKind, usize, usize)> = sentence["spans"]
        .as_array()
        .expect("spans")
        .iter()
        .filter_map(|span| {
            let (start, end) = (bytes(&span["start_position"]), bytes(&span["end_position"]));
            let kind = kind(
                span["entity_type"].as_str().expect("a type"),
                &text[..start],
            )?;
            Some((kind, start, end))
        })
        .collect();
    let found = find_pii(text, KindSet::all(), &KnownNames::default());
    for (kind, start, end) in &spans {
        let counts = counts.entry(*kind).or_default();
        counts.labelled += 1;
        // All of it must be gone, by whatever kind.
        let covered: usize = found
            .iter()
            .map(|f| {
                f.bytes
                    .end
                    .min(*end)
                    .saturating_sub(f.bytes.start.max(*start))
            })
            .sum();
        if covered < end - start {
            counts.missed += 1;
            if *kind != PiiKind::Address && *kind != PiiKind::Name {
                println!("missed {kind:?}: {:?} in {text:?}", &text[*start..*end]);
            }
        }
    }
    for finding in &found {
        let counts = counts.entry(finding.kind).or_default();
        counts.found += 1;
        let is_right = spans
            .iter()
            .any(|(_, start, end)| finding.bytes.start < *end && finding.bytes.end > *start);
        if !is_right {
            counts.wrong += 1;
            println!(
                "wrong {:?}: {:?} in {text:?}",
                finding.kind,
                &text[finding.bytes.clone()]
            );
        }
    }
}

/// Dates count where the sentence says that somebody was born then.
fn kind(entity: &str, before: &str) -> Option<PiiKind> {
    Some(match entity {
        "EMAIL_ADDRESS" => PiiKind::Email,
        "IBAN_CODE" => PiiKind::Iban,
        "CREDIT_CARD" => PiiKind::Card,
        "US_SSN" | "US_DRIVER_LICENSE" => PiiKind::NationalId,
        "IP_ADDRESS" => PiiKind::IpAddress,
        "PHONE_NUMBER" => PiiKind::Phone,
        "STREET_ADDRESS" => PiiKind::Address,
        "DATE_TIME" if ["born", "birth"].iter().any(|word| before.contains(word)) => {
            PiiKind::BirthDate
        }
        "PERSON" => PiiKind::Name,
        _ => return None,
    })
}
