//! What an embedding model wants before a text, by the purpose of the text ("query: " for e5).
//!
//! Some published directories tell it in their README only. Then whoever installs the model writes it
//! into `config_sentence_transformers.json`:
//! `{"prompts": {"query": "query: ", "document": "passage: "}}`.

use std::collections::BTreeMap;
use std::path::Path;

use proto::model::TextPurpose;
use serde::Deserialize;

use crate::error::Error;
use crate::json_file::read_json_if_present;

/// Names under which a prompt for passages is found, the first one first.
const PASSAGE_NAMES: [&str; 3] = ["document", "passage", "corpus"];

/// The prompts of one model; empty where it wants none.
#[derive(Default)]
pub(super) struct Prompts {
    unspecified: String,
    passage: String,
    query: String,
}

/// `config_sentence_transformers.json`
#[derive(Default, Deserialize)]
struct PromptConfig {
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

impl Prompts {
    /// Reads the prompts in `directory`; there are none without the file.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("config_sentence_transformers.json");
        let config: PromptConfig = read_json_if_present(&path)?.unwrap_or_default();
        let named = |name: &str| config.prompts.get(name).cloned();
        let unspecified = match &config.default_prompt_name {
            None => String::new(),
            Some(name) => named(name).ok_or_else(|| {
                Error::model_file(&path, format!("there is no prompt \"{name}\""))
            })?,
        };
        // A purpose without a prompt of its own is treated like none.
        let passage = PASSAGE_NAMES.iter().find_map(|name| named(name));
        Ok(Self {
            passage: passage.unwrap_or_else(|| unspecified.clone()),
            query: named("query").unwrap_or_else(|| unspecified.clone()),
            unspecified,
        })
    }

    /// The words before a text of this purpose.
    pub(super) fn before(&self, purpose: TextPurpose) -> &str {
        match purpose {
            TextPurpose::Unspecified => &self.unspecified,
            TextPurpose::Passage => &self.passage,
            TextPurpose::Query => &self.query,
        }
    }
}
