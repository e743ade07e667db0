//! Fields to extract from a document: `name`, `name: type` or `name: type - description`.

use serde_json::{Map, Value, json};
use thiserror::Error;

/// Fields of one extraction.
pub const FIELDS_MAX: usize = 32;
/// Tokens of the answer: with these a document of some length still fits a window of 4,096.
const TOKENS_MAX: u32 = 2048;
/// Characters of a text, which are about as many tokens at most; some scripts have more.
const TEXT_CHARS_MAX: u32 = 120;
/// Items of a list, and characters of a text among them.
const ITEMS_MAX: u32 = 8;
const ITEM_CHARS_MAX: u32 = 60;

/// Why fields cannot be extracted.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    #[error("fields must be 1 to {FIELDS_MAX}")]
    Count,
    #[error("fields may together take {0} tokens to write, more than {TOKENS_MAX}")]
    TooMuch(u32),
    #[error("field \"{0}\" has no name")]
    Unnamed(String),
    #[error("field \"{0}\" occurs twice")]
    Twice(String),
    #[error("type \"{kind}\" of field \"{name}\" is unknown")]
    UnknownType { name: String, kind: String },
}

/// What is to be extracted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<Field>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    kind: Kind,
    is_list: bool,
    description: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Integer,
    Boolean,
    Date,
}

impl Fields {
    /// Reads fields as a user writes them.
    pub fn parse(fields: &[String]) -> Result<Self, FieldError> {
        if fields.is_empty() || fields.len() > FIELDS_MAX {
            return Err(FieldError::Count);
        }
        let mut parsed: Vec<Field> = Vec::new();
        for field in fields {
            let field = Field::parse(field)?;
            if parsed.iter().any(|other| other.name == field.name) {
                return Err(FieldError::Twice(field.name));
            }
            parsed.push(field);
        }
        let fields = Self(parsed);
        match fields.tokens_max() {
            tokens if tokens > TOKENS_MAX => Err(FieldError::TooMuch(tokens)),
            _ => Ok(fields),
        }
    }

    /// The JSON schema of an object that has each of them, or null where the document does not say.
    pub fn schema(&self) -> Value {
        let properties: Map<String, Value> = self
            .0
            .iter()
            .map(|field| (field.name.clone(), field.schema()))
            .collect();
        let names: Vec<&str> = self.0.iter().map(|field| field.name.as_str()).collect();
        json!({
            "type": "object",
            "properties": properties,
            "required": names,
            "additionalProperties": false,
        })
    }

    /// A line for each.
    pub(super) fn explained(&self) -> String {
        let lines = self.0.iter().map(|field| {
            let (name, kind) = (&field.name, field.kind.name());
            let list = if field.is_list { "list of " } else { "" };
            match &field.description {
                Some(description) => format!("- {name} ({list}{kind}): {description}"),
                None => format!("- {name} ({list}{kind})"),
            }
        });
        lines.collect::<Vec<String>>().join("\n")
    }

    /// Enough for the longest object of the schema, in most scripts.
    pub(super) fn tokens_max(&self) -> u32 {
        16 + self.0.iter().map(Field::tokens_max).sum::<u32>()
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Integer => "integer",
            Self::Boolean => "boolean",
            Self::Date => "date",
        }
    }
}

impl Field {
    fn parse(field: &str) -> Result<Self, FieldError> {
        let (name, rest) = field.split_once(':').unwrap_or((field, ""));
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(FieldError::Unnamed(field.trim().to_owned()));
        }
        let (kind, description) = rest.split_once(" - ").unwrap_or((rest, ""));
        let (kind, description) = (kind.trim().to_lowercase(), description.trim());
        let (single, is_list) = match kind.strip_suffix("[]") {
            Some(single) => (single.trim_end(), true),
            None => (kind.as_str(), false),
        };
        let kind = match single {
            "" | "text" | "string" => Kind::Text,
            "number" | "numeric" | "float" => Kind::Number,
            "integer" | "int" => Kind::Integer,
            "boolean" | "bool" => Kind::Boolean,
            "date" => Kind::Date,
            _ => return Err(FieldError::UnknownType { name, kind }),
        };
        Ok(Self {
            name,
            kind,
            is_list,
            description: Some(description.to_owned()).filter(|text| !text.is_empty()),
        })
    }

    /// A character is a token at most, in most scripts, and so is each mark of JSON.
    fn tokens_max(&self) -> u32 {
        let name = u32::try_from(self.name.len()).unwrap_or(u32::MAX / FIELDS_MAX as u32);
        let value = |chars_max: u32| match self.kind {
            Kind::Text => chars_max,
            Kind::Number | Kind::Integer => 32,
            Kind::Boolean => 4,
            Kind::Date => 16,
        };
        let value = match self.is_list {
            true => ITEMS_MAX * (value(ITEM_CHARS_MAX) + 4),
            false => value(TEXT_CHARS_MAX),
        };
        name.saturating_add(value + 8)
    }

    fn schema(&self) -> Value {
        let chars_max = match self.is_list {
            true => ITEM_CHARS_MAX,
            false => TEXT_CHARS_MAX,
        };
        let value = match self.kind {
            Kind::Text => json!({ "type": "string", "maxLength": chars_max }),
            Kind::Number => json!({ "type": "number", "minimum": -1e15, "maximum": 1e15 }),
            Kind::Integer => {
                json!({ "type": "integer", "minimum": -1_000_000_000_000_i64, "maximum": 1_000_000_000_000_i64 })
            }
            Kind::Boolean => json!({ "type": "boolean" }),
            Kind::Date => json!({ "type": "string", "format": "date" }),
        };
        match self.is_list {
            true => json!({ "type": "array", "items": value, "maxItems": ITEMS_MAX }),
            false => json!({ "anyOf": [value, { "type": "null" }] }),
        }
    }
}

#[cfg(test)]
#[path = "fields_tests.rs"]
mod tests;
