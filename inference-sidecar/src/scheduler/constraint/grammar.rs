//! Constraints in llguidance's language.

use std::fmt::Write;

use llguidance::api::TopLevelGrammar;
use proto::model::Constraint;

use super::schema;
use crate::error::Error;

/// Fails with `Error::ConstraintRefused` for a schema that cannot be followed exactly.
pub(super) fn of(constraint: &Constraint) -> Result<TopLevelGrammar, Error> {
    Ok(match constraint {
        Constraint::JsonSchema(text) => TopLevelGrammar::from_json_schema(schema::prepare(text)?),
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(regex),
        Constraint::Choices(choices) => TopLevelGrammar::from_regex(&alternation(choices)),
    })
}

/// A regular expression that matches exactly `choices`.
fn alternation(choices: &[String]) -> String {
    let mut regex = String::new();
    for (index, choice) in choices.iter().enumerate() {
        if index > 0 {
            regex.push('|');
        }
        for c in choice.chars() {
            // Only letters and digits never mean anything else in a regular expression.
            if c.is_ascii_alphanumeric() {
                regex.push(c);
            } else {
                // Writing to a string cannot fail.
                let _ = write!(regex, "\\x{{{:x}}}", u32::from(c));
            }
        }
    }
    regex
}
