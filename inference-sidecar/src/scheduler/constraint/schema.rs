//! JSON schemas before they are compiled: what would be followed wrongly is refused or made stricter.

use serde_json::{Map, Value, json};

use super::refusal::refused;
use crate::error::Error;

/// Where llguidance takes its options from.
const OPTIONS: &str = "x-guidance";
/// Keywords whose values are data, not schemas.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];
/// Keywords whose values are schemas by name; the names may be anything.
const SCHEMAS_BY_NAME: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Properties of one object; the work per token grows with their number.
const PROPERTIES_MAX: usize = 1_000;
/// Begins each day there is, from the year 1000 on; llguidance's own "date" has a 29 February every year.
const DAYS: &str = "^(?:[1-9][0-9]{3}-(?:(?:0[13-9]|1[0-2])-|02-(?:[01]|2[0-8]))\
    |(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[2468][048]|[13579][26])00)-02-29)";

/// The schema with the options of this server in place of the caller's.
pub(super) fn prepare(text: &str) -> Result<Value, Error> {
    // The message of a syntax error names a position and quotes nothing.
    let schema: Value =
        serde_json::from_str(text).map_err(|error| refused(format!("it is not JSON: {error}")))?;
    let mut root = match schema {
        Value::Object(root) => root,
        Value::Bool(true) => Map::new(),
        _ => return Err(refused("it is neither an object nor true")),
    };
    root.remove(OPTIONS);
    let mut findings = Findings::default();
    findings.visit_schema(&mut root, true)?;
    findings.conclude()?;
    // No white space, so that a model cannot spend its tokens on it. Without "\u" each string has one
    // spelling: `"\u0061"` would be a second "a" where the schema excludes "a".
    let options = json!({
        "item_separator": ",",
        "key_separator": ":",
        "whitespace_flexible": false,
        "json_allowed_escapes": "nrbtf\\\"",
    });
    root.insert(OPTIONS.to_owned(), options);
    Ok(Value::Object(root))
}

/// What matters about a schema as a whole.
#[derive(Default)]
struct Findings {
    has_reference: bool,
    has_inner_base: bool,
}

impl Findings {
    /// References are looked up from the root, which is wrong inside of a part with its own address.
    fn conclude(self) -> Result<(), Error> {
        match self.has_reference && self.has_inner_base {
            true => Err(refused("it has a \"$ref\" and an inner \"$id\"")),
            false => Ok(()),
        }
    }

    /// Depth is bounded by the JSON parser's limit of 128.
    fn visit(&mut self, value: &mut Value) -> Result<(), Error> {
        match value {
            Value::Object(schema) => self.visit_schema(schema, false),
            Value::Array(values) => values.iter_mut().try_for_each(|value| self.visit(value)),
            _ => Ok(()),
        }
    }

    fn visit_schema(
        &mut self,
        schema: &mut Map<String, Value>,
        is_root: bool,
    ) -> Result<(), Error> {
        for (keyword, value) in schema.iter_mut() {
            match (keyword.as_str(), value) {
                (keyword, _) if DATA.contains(&keyword) => {}
                (keyword, Value::Object(named)) if SCHEMAS_BY_NAME.contains(&keyword) => {
                    named.values_mut().try_for_each(|value| self.visit(value))?;
                }
                (_, value) => self.visit(value)?,
            }
        }
        if let Some(Value::String(target)) = schema.get("$ref") {
            if target != "#" && !target.starts_with("#/") {
                return Err(refused("a \"$ref\" leads out of the schema"));
            }
            self.has_reference = true;
        }
        self.has_inner_base |= !is_root && schema.get("$id").is_some_and(Value::is_string);
        let properties = schema.get("properties").and_then(Value::as_object);
        if properties.is_some_and(|properties| properties.len() > PROPERTIES_MAX) {
            return Err(refused("an object has more than 1,000 properties"));
        }
        check_property_count(schema)?;
        demand_days(schema);
        Ok(())
    }
}

/// Two properties that the schema does not name may get the same name, and then count as one.
fn check_property_count(schema: &Map<String, Value>) -> Result<(), Error> {
    let demanded = schema.get("minProperties").and_then(Value::as_u64);
    let named = schema.get("required").and_then(Value::as_array);
    let named = named.map_or(0, Vec::len) as u64;
    let is_closed = schema.get("additionalProperties") == Some(&Value::Bool(false))
        && !schema.contains_key("patternProperties");
    match demanded.is_some_and(|demanded| demanded > named + 1) && !is_closed {
        true => Err(refused(
            "\"minProperties\" demands properties without a name",
        )),
        false => Ok(()),
    }
}

fn demand_days(schema: &mut Map<String, Value>) {
    let format = schema.get("format").and_then(Value::as_str);
    if !matches!(format, Some("date" | "date-time")) {
        return;
    }
    let demands = schema.entry("allOf").or_insert_with(|| json!([]));
    if let Value::Array(demands) = demands {
        demands.push(json!({ "type": "string", "pattern": DAYS }));
    }
}
