//! Constraints in llguidance's language.

use std::fmt::Write;

use llguidance::api::TopLevelGrammar;
use proto::model::Constraint;

use super::refusal::refused;
use super::schema;
use crate::error::Error;

/// Fails with `Error::ConstraintRefused` for a schema that cannot be followed exactly.
pub(super) fn of(constraint: &Constraint) -> Result<TopLevelGrammar, Error> {
    Ok(match constraint {
        Constraint::JsonSchema(text) => TopLevelGrammar::from_json_schema(schema::prepare(text)?),
        Constraint::Regex(regex) => TopLevelGrammar::from_regex(whole(regex)?),
        Constraint::Choices(choices) => TopLevelGrammar::from_regex(&alternation(choices)),
    })
}

/// The whole text must match anyway, so anchors around it go.
/// Fails for half an escape at the end, which llguidance would overlook.
fn whole(regex: &str) -> Result<&str, Error> {
    let ends_in_escape = |text: &str| (text.len() - text.trim_end_matches('\\').len()) % 2 == 1;
    if ends_in_escape(regex) {
        return Err(refused("a regular expression ends in half an escape"));
    }
    let regex = regex.strip_prefix('^').unwrap_or(regex);
    let bare = regex.strip_suffix('$');
    Ok(bare.filter(|bare| !ends_in_escape(bare)).unwrap_or(regex))
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
