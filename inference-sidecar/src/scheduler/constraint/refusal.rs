//! Why a constraint is refused, without a word of it: schemas may hold customer text.

use crate::error::Error;

/// A part of llguidance's message, and what it means to the caller; the first that is found counts.
const REASONS: [(&str, &str); 22] = [
    ("Unsatisfiable", "no value can satisfy it"),
    ("unsatisfiable", "no value can satisfy it"),
    (
        "oneOf constraints",
        "options of \"oneOf\" might hold together, use \"anyOf\"",
    ),
    ("Only absolute $ref", "a \"$ref\" leads out of the schema"),
    ("Reference segment", "a \"$ref\" leads nowhere"),
    (
        "circular references",
        "a recursive \"$ref\" has other keywords beside it",
    ),
    ("Unknown format", "a \"format\" is not known"),
    ("Unknown specification", "its \"$schema\" is not known"),
    ("Invalid type", "a \"type\" is not known"),
    (
        "min/maxProperties",
        "\"minProperties\" and \"maxProperties\" need all properties to be required",
    ),
    ("patternProperty", "\"patternProperties\" overlap"),
    ("multipleOf", "a \"multipleOf\" is not usable"),
    ("range", "the bounds of a number are not usable"),
    (
        "schema must be",
        "a subschema is neither object nor boolean",
    ),
    ("must be a", "a keyword has a value of the wrong type"),
    ("Expected", "a keyword has a value of the wrong type"),
    ("too big", "it is too large"),
    ("too large", "it is too large"),
    ("too many", "it is too large"),
    ("stack level", "it is nested too deeply"),
    ("Unable to determine", "a pattern is too complex"),
    (
        "regex",
        "a regular expression is not valid or not supported",
    ),
];

/// Keywords of JSON Schema that cannot be followed token by token.
const KEYWORDS: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "uniqueItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
];

/// Parts of llguidance's messages when a step exceeds a limit.
const LIMITS: [&str; 3] = ["lexer error", "parser error", "too many"];

/// What the caller learns of llguidance's `message` about a constraint.
pub(super) fn of(message: &str) -> Error {
    if let Some((_, keys)) = message.split_once("Unimplemented keys:") {
        let is_named = |keyword: &&&str| keys.contains(&format!("\"{keyword}\""));
        let named: Vec<_> = KEYWORDS.iter().filter(is_named).copied().collect();
        return refused(format!("not supported: {}", named.join(", ")));
    }
    let known = REASONS.iter().find(|(part, _)| message.contains(part));
    refused(known.map_or("it cannot be turned into a grammar", |(_, reason)| reason))
}

/// What the caller learns of llguidance's `message` about a token or a mask.
pub(super) fn of_step(message: &str) -> Error {
    let is_limit = LIMITS.iter().any(|part| message.contains(part));
    match is_limit {
        true => refused("following it takes more work than is allowed"),
        false => Error::ConstraintFailed {
            reason: "no token may follow",
        },
    }
}

pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::ConstraintRefused {
        reason: reason.into(),
    }
}
