//! Makes JSON schemas of growing nastiness, the same ones in every run.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

/// How many schemas there are.
pub const SCHEMA_COUNT: usize = 300;
/// Schemas per level of nastiness.
const LEVEL: usize = 50;

const NAMES: [&str; 16] = [
    "name",
    "deal",
    "stage",
    "amount",
    "a",
    "ab",
    "Größe",
    "ключ",
    "名前",
    "🙂",
    "with space",
    "quo\"te",
    "back\\slash",
    "new\nline",
    "",
    "$ref",
];
const TEXTS: [&str; 14] = [
    "won",
    "lost",
    "",
    " ",
    "\"",
    "\\",
    "\\\"",
    "line\nbreak",
    "tab\t",
    "日本語",
    "🙂🙃",
    "ß/ẞ",
    "</script>",
    "null",
];
const PATTERNS: [&str; 10] = [
    "^[a-z]{2,8}$",
    "^[A-Z]{3}-[0-9]{4}$",
    "[0-9]",
    "^\\d{1,3}(\\.\\d{2})?$",
    "^(yes|no|maybe)$",
    "^\\w+@\\w+\\.(com|de)$",
    "^[^\"\\\\]{1,6}$",
    "a.c",
    "^\\s*$",
    "^(ab|cd){2,3}",
];
const FORMATS: [&str; 9] = [
    "date",
    "date-time",
    "time",
    "email",
    "uuid",
    "ipv4",
    "ipv6",
    "hostname",
    "uri",
];

/// The schema of `index`, below `SCHEMA_COUNT`: the higher, the nastier.
pub fn schema(index: usize) -> Value {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(index as u64),
        level: index / LEVEL,
    };
    let depth = 1 + maker.level.min(4);
    match (maker.level, index % 10) {
        (2.., 0) => maker.recursion(),
        (3.., 1) => maker.chain(),
        (4.., 2) => maker.refused(),
        (1.., _) => maker.object(depth),
        _ => maker.any(depth),
    }
}

struct Maker {
    random: StdRng,
    /// 0 to 5.
    level: usize,
}

impl Maker {
    fn any(&mut self, depth: usize) -> Value {
        let simple = 6 + self.level.min(3);
        let kinds = if depth == 0 { simple } else { simple + 5 };
        match self.random.random_range(0..kinds) {
            0 => self.text(),
            1 => self.whole_number(),
            2 => self.number(),
            3 => json!({ "type": "boolean" }),
            4 => self.enumeration(),
            5 => json!({ "type": "null" }),
            kind if kind >= simple => match kind - simple {
                0 => self.array(depth),
                1 => self.any_of(depth),
                2 => self.tuple(depth),
                _ => self.object(depth),
            },
            6 => self.constant(),
            7 => {
                json!({ "type": ["string", "null", "integer"], "maxLength": 5, "minimum": 1, "maximum": 9 })
            }
            _ => self.choose(&[
                json!({}),
                json!(true),
                json!({ "type": "object" }),
                json!({ "type": "array", "maxItems": 2 }),
            ]),
        }
    }

    fn text(&mut self) -> Value {
        let low = self.random.random_range(0..4);
        let high = low + self.random.random_range(0..12);
        match self.random.random_range(0..4 + self.level.min(4)) {
            0 | 1 => json!({ "type": "string", "maxLength": high }),
            2 => json!({ "type": "string", "minLength": low, "maxLength": high }),
            3 => json!({ "type": "string", "description": "free \"text\"" }),
            4 => json!({ "type": "string", "pattern": self.pick(&PATTERNS) }),
            5 => json!({ "type": "string", "format": self.pick(&FORMATS) }),
            6 => json!({ "type": "string", "pattern": self.pick(&PATTERNS), "maxLength": 20 }),
            _ => json!({ "type": "string", "minLength": 50 + low, "maxLength": 3000 }),
        }
    }

    fn whole_number(&mut self) -> Value {
        let low: i64 = self.random.random_range(-2_000..2_000);
        let high = low + self.random.random_range(7..1_000_000);
        match self.random.random_range(0..4 + self.level.min(3)) {
            0 => json!({ "type": "integer" }),
            1 => json!({ "type": "integer", "minimum": low }),
            2 => json!({ "type": "integer", "maximum": high }),
            3 => json!({ "type": "integer", "minimum": low, "maximum": high }),
            4 => json!({ "type": "integer", "exclusiveMinimum": low, "exclusiveMaximum": high }),
            5 => json!({ "type": "integer", "minimum": low, "maximum": high, "multipleOf": 7 }),
            _ => json!({ "type": "integer", "minimum": 1, "multipleOf": 250 }),
        }
    }

    fn number(&mut self) -> Value {
        let low = f64::from(self.random.random_range(-9_999..9_999)) / 100.0;
        let high = low + f64::from(self.random.random_range(1..99_999)) / 1000.0;
        match self.random.random_range(0..4 + self.level.min(2)) {
            0 => json!({ "type": "number" }),
            1 => json!({ "type": "number", "minimum": low }),
            2 => json!({ "type": "number", "minimum": low, "maximum": high }),
            3 => json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1 }),
            4 => json!({ "type": "number", "exclusiveMinimum": low, "exclusiveMaximum": high }),
            _ => json!({ "type": "number", "minimum": 0, "maximum": 100, "multipleOf": 0.25 }),
        }
    }

    fn enumeration(&mut self) -> Value {
        let mut values: Vec<Value> = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            values.push(json!(self.pick(&TEXTS)));
        }
        if self.level > 1 {
            values.extend([
                json!(null),
                json!(-3),
                json!(2.5),
                json!({ "a": [1, "x"] }),
                json!([]),
            ]);
        }
        values.sort_by_key(Value::to_string);
        values.dedup();
        json!({ "enum": values })
    }

    fn constant(&mut self) -> Value {
        let long = "long \"text\" \\ 日本 ".repeat(20);
        let value = self.choose(&[
            json!("it's \"so\""),
            json!(0),
            json!(-12.5),
            json!(9_007_199_254_740_993_i64),
            json!({ "k\"ey": [null, true, { "": "" }] }),
            json!([[[]]]),
            json!(long),
            json!({ "$ref": "https://example.com", "type": "const" }),
        ]);
        json!({ "const": value })
    }

    fn array(&mut self, depth: usize) -> Value {
        let low = self.random.random_range(0..3);
        let high = low + self.random.random_range(0..3);
        json!({ "type": "array", "items": self.any(depth - 1), "minItems": low, "maxItems": high })
    }

    fn tuple(&mut self, depth: usize) -> Value {
        let first = [self.any(depth - 1), self.any(depth - 1)];
        let mut tuple = json!({ "type": "array", "prefixItems": first, "minItems": 1 });
        match self.random.random_range(0..3) {
            0 => tuple["items"] = json!(false),
            1 => tuple["maxItems"] = json!(3),
            _ => tuple["items"] = json!({ "type": "boolean" }),
        }
        tuple
    }

    fn any_of(&mut self, depth: usize) -> Value {
        let tagged = |tag: &str, value: Value| {
            json!({ "type": "object", "properties": { "kind": { "const": tag }, "value": value },
                "required": ["kind", "value"], "additionalProperties": false })
        };
        match self.random.random_range(0..2 + self.level.min(2)) {
            0 => json!({ "anyOf": [self.any(depth - 1), self.any(depth - 1), { "type": "null" }] }),
            1 => {
                json!({ "oneOf": [tagged("a", self.any(depth - 1)), tagged("b\"", self.any(depth - 1))] })
            }
            2 => json!({ "allOf": [self.object(depth - 1), { "required": ["forced"] }] }),
            _ => json!({ "type": "object", "anyOf": [
                { "properties": { "x": self.any(depth - 1) }, "required": ["x"] },
                { "properties": { "y": { "type": "integer" } }, "required": ["y"] }
            ], "maxProperties": 3 }),
        }
    }

    fn object(&mut self, depth: usize) -> Value {
        if depth == 0 {
            return json!({ "type": "object", "properties": {}, "additionalProperties": false });
        }
        let mut properties = Map::new();
        for _ in 0..self.random.random_range(0..3 + self.level) {
            let names = if self.level == 0 { 4 } else { NAMES.len() };
            let name = self.pick(&NAMES[..names]).to_owned();
            properties.insert(name, self.any(depth - 1));
        }
        let required: Vec<String> = properties
            .keys()
            .filter(|_| self.random.random_bool(0.6))
            .cloned()
            .collect();
        let mut object =
            json!({ "type": "object", "properties": properties, "required": required });
        match self.random.random_range(0..4 + self.level) {
            0..=2 => object["additionalProperties"] = json!(false),
            3 => {}
            4 => object["additionalProperties"] = self.any(0),
            5 => object["maxProperties"] = json!(required.len()),
            6 => object["minProperties"] = json!(required.len()),
            _ => {
                object["patternProperties"] =
                    json!({ "^x-": self.any(0), "[0-9]{3}$": { "type": "null" } })
            }
        }
        object
    }

    /// A structure that holds itself.
    fn recursion(&mut self) -> Value {
        let leaf = self.any(0);
        let tree = json!({ "type": "object", "additionalProperties": false, "required": ["leaf"],
            "properties": { "leaf": leaf, "left": { "$ref": "#/$defs/tree" }, "right": { "$ref": "#/$defs/tree" } } });
        let list = json!({ "anyOf": [{ "type": "null" }, { "type": "array", "prefixItems": [
            { "type": "integer" }, { "$ref": "#/$defs/list" }], "items": false, "minItems": 2 }] });
        let root = self.choose(&["#/$defs/tree", "#/$defs/list"]);
        json!({ "$defs": { "tree": tree, "list": list }, "$ref": root })
    }

    /// Deep, but not wide.
    fn chain(&mut self) -> Value {
        let mut schema = self.any(0);
        for _ in 0..self.random.random_range(10..40) {
            schema = match self.random.random_bool(0.5) {
                true => json!({ "type": "array", "items": schema, "minItems": 1, "maxItems": 1 }),
                false => {
                    json!({ "type": "object", "properties": { "n": schema }, "required": ["n"],
                    "additionalProperties": false })
                }
            };
        }
        schema
    }

    /// What no automaton of ours follows; it must be refused or obeyed, never half obeyed.
    fn refused(&mut self) -> Value {
        let text = self.text();
        self.choose(&[
            json!({ "not": text }),
            json!({ "type": "array", "items": text, "uniqueItems": true }),
            json!({ "if": { "type": "string" }, "then": text, "else": false }),
            json!({ "oneOf": [text, { "type": "string", "maxLength": 3 }] }),
            json!({ "type": "object", "minProperties": 3, "additionalProperties": text }),
            json!({ "type": "object", "propertyNames": { "maxLength": 2 } }),
        ])
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts.choose(&mut self.random).unwrap()
    }

    fn choose<T: Clone>(&mut self, values: &[T]) -> T {
        values.choose(&mut self.random).unwrap().clone()
    }
}
