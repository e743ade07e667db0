//! Goal: exactly the texts that obey a constraint can be written, and what cannot be followed is
//! refused without a panic and without a word of the constraint.

use proto::model::Constraint;

use super::{ConstraintCompiler, ConstraintState};
use crate::error::Error;

const END: usize = 256;

fn compile(constraint: &Constraint) -> Result<ConstraintState, Error> {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let compiler = ConstraintCompiler::of_bytes().unwrap();
    assert_send(compiler.compile(constraint)?);
    compiler.compile(constraint)
}

fn schema(text: &str) -> Constraint {
    Constraint::JsonSchema(text.to_owned())
}

fn regex(text: &str) -> Constraint {
    Constraint::Regex(text.to_owned())
}

fn choices(texts: &[&str]) -> Constraint {
    Constraint::Choices(texts.iter().map(|&text| text.to_owned()).collect())
}

/// True when `text` can be written byte by byte and may end there.
fn can_write(constraint: &Constraint, text: &str) -> bool {
    let mut state = compile(constraint).unwrap();
    let mut is_open = true;
    for byte in text.bytes() {
        let logits = masked(&mut state);
        is_open = logits[usize::from(byte)] == 0.0;
        if !is_open {
            break;
        }
        state.accept(byte.into()).unwrap();
    }
    is_open && masked(&mut state)[END] == 0.0
}

/// The masked scores of a step; checks what holds at every step.
fn masked(state: &mut ConstraintState) -> Vec<f32> {
    let mut logits = vec![0.0; END + 1];
    state.mask(&mut logits).unwrap();
    assert!(
        logits
            .iter()
            .all(|&logit| logit == 0.0 || logit == f32::NEG_INFINITY)
    );
    assert_eq!(logits[END] == 0.0, state.is_accepting());
    if state.is_complete() {
        assert!(logits[..END].iter().all(|&logit| logit < 0.0));
    }
    let mut again = vec![0.0; END + 1];
    state.mask(&mut again).unwrap();
    assert_eq!(again, logits, "a mask changes nothing");
    logits
}

fn check(constraint: &Constraint, obeying: &[&str], breaking: &[&str]) {
    for text in obeying {
        assert!(can_write(constraint, text), "{constraint:?} {text:?}");
    }
    for text in breaking {
        assert!(!can_write(constraint, text), "{constraint:?} {text:?}");
    }
}

#[test]
fn choices_are_taken_literally() {
    let texts = [
        "yes", "yes!", "a|b", "(", "\"", "'", "\\", "\\n", "\n", "/", "*/", "//", ".*", "[a-z]",
        "日本", "🙂", " ", "\u{0}", "\u{7f}", "#", "^x$", "{2}", "-",
    ];
    check(
        &choices(&texts),
        &texts,
        &["", "y", "yes!!", "a", "b", "x", "日", "n", "xx"],
    );
}

#[test]
fn a_text_ends_by_itself_when_nothing_can_follow() {
    let mut state = compile(&choices(&["ab", "abc"])).unwrap();
    for (byte, accepting, complete) in [
        (b'a', false, false),
        (b'b', true, false),
        (b'c', true, true),
    ] {
        masked(&mut state);
        state.accept(byte.into()).unwrap();
        assert_eq!(
            (state.is_accepting(), state.is_complete()),
            (accepting, complete)
        );
    }
    masked(&mut state);
    let nothing = compile(&regex("(|)")).unwrap().is_complete();
    assert!(nothing, "an empty text is complete at once");
}

#[test]
fn a_regex_matches_the_whole_text() {
    let digits = ["1", "12"];
    check(&regex("[0-9]{1,2}"), &digits, &["", "123", "a1", "1a"]);
    check(&regex("^[0-9]{1,2}$"), &digits, &["", "123", "^1$"]);
    check(&regex(r"\$"), &["$"], &["", "\\$"]);
    check(&regex(r"^\\$"), &["\\"], &["", "\\$"]);
    check(&regex("a/b|ü+"), &["a/b", "ü", "üü"], &["a", "u", ""]);
    check(&regex("(?i)yes"), &["YES", "yEs"], &["no"]);
}

#[test]
fn json_is_compact() {
    let object = r#"{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}"#;
    check(
        &schema(object),
        &[r#"{"a":1}"#],
        &[r#"{ "a":1}"#, r#"{"a": 1}"#, "{\"a\":1}\n"],
    );
    let flexible = object.replacen('{', r#"{"x-guidance":{"whitespace_flexible":true},"#, 1);
    check(&schema(&flexible), &[r#"{"a":1}"#], &[r#"{ "a":1}"#]);
}

#[test]
fn a_name_has_one_spelling() {
    let text = r#"{"properties":{"a":{"type":"integer"}},"required":["a"],"type":"object",
        "additionalProperties":{"type":"string"}}"#;
    let alias = "{\"a\":1,\"\\u0061\":\"x\"}";
    check(
        &schema(text),
        &[r#"{"a":1,"b":"x"}"#],
        &[alias, r#"{"a":1,"a":"x"}"#],
    );
}

#[test]
fn dates_exist() {
    let text = r#"{"format":"date","type":"string"}"#;
    let days = [
        "\"2024-02-29\"",
        "\"2000-02-29\"",
        "\"2023-12-31\"",
        "\"2023-02-28\"",
    ];
    let others = [
        "\"2023-02-29\"",
        "\"1900-02-29\"",
        "\"2023-04-31\"",
        "\"0000-01-01\"",
    ];
    check(&schema(text), &days, &others);
    let instants = ["\"2024-02-29T10:00:00Z\""];
    check(
        &schema(&text.replace("date", "date-time")),
        &instants,
        &["\"2023-02-29T10:00:00Z\""],
    );
}

#[test]
fn data_in_a_schema_stays_as_it_is() {
    let text = r#"{"const":{"format":"date","$ref":"x","minProperties":9}}"#;
    check(
        &schema(text),
        &[r#"{"format":"date","$ref":"x","minProperties":9}"#],
        &["{}"],
    );
    let text = r#"{"type":"object","properties":{"format":{"const":"date"},"const":{"format":"date",
        "type":"string"}},"required":["format","const"],"additionalProperties":false}"#;
    let obeying = r#"{"format":"date","const":"2024-02-29"}"#;
    check(
        &schema(text),
        &[obeying],
        &[r#"{"format":"date","const":"2023-02-29"}"#],
    );
}

#[test]
fn references_stay_inside() {
    let list = r##"{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}},
        "additionalProperties":false}},"$ref":"#/$defs/n"}"##;
    check(
        &schema(list),
        &["{}", r#"{"next":{"next":{}}}"#],
        &[r#"{"next":1}"#],
    );
    check(
        &schema(r##"{"items":{"$ref":"#"},"type":"array"}"##),
        &["[[],[[]]]"],
        &["[1]"],
    );
}

/// The reason for which `constraint` is refused; it never holds the word "secret".
fn reason(constraint: &Constraint) -> String {
    let Err(error) = compile(constraint) else {
        panic!("not refused: {constraint:?}");
    };
    let text = error.to_string();
    assert!(!text.to_lowercase().contains("secret"), "{text}");
    assert!(matches!(error, Error::ConstraintRefused { .. }), "{text}");
    text
}

#[test]
fn refusals_say_why_and_quote_nothing() {
    for (text, expected) in [
        ("{\"secret\":", "not JSON"),
        ("\"secret\"", "neither an object nor true"),
        ("false", "neither an object nor true"),
        (r#"{"type":"secret"}"#, "\"type\" is not known"),
        (
            r#"{"format":"secret","type":"string"}"#,
            "\"format\" is not known",
        ),
        (r#"{"$ref":"https://secret.example/s.json"}"#, "leads out"),
        (r#"{"$ref":"file:///secret"}"#, "leads out"),
        (r#"{"items":{"anyOf":[{"$ref":"secret"}]}}"#, "leads out"),
        (r##"{"$ref":"#/$defs/secret"}"##, "leads nowhere"),
        (r#"{"not":{"const":"secret"}}"#, "not supported: not"),
        (
            r#"{"type":"array","uniqueItems":true}"#,
            "not supported: uniqueItems",
        ),
        (
            r#"{"if":{"const":"secret"},"then":{}}"#,
            "not supported: if, then",
        ),
        (r#"{"oneOf":[{"type":"integer"},{"minimum":3}]}"#, "oneOf"),
        (
            r#"{"type":"string","pattern":"(secret"}"#,
            "regular expression",
        ),
        (
            r#"{"type":"string","pattern":"(?=secret)"}"#,
            "regular expression",
        ),
        (r#"{"minimum":5,"maximum":4,"type":"integer"}"#, "no value"),
        (r#"{"enum":[]}"#, "no value"),
        (r#"{"minProperties":3,"type":"object"}"#, "minProperties"),
        (
            r#"{"properties":{"secret":3}}"#,
            "neither object nor boolean",
        ),
        (r#"{"minLength":"secret","type":"string"}"#, "wrong type"),
        (
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"$id":"secret"}}}"##,
            "$id",
        ),
    ] {
        let reason = reason(&schema(text));
        assert!(reason.contains(expected), "{text}: {reason}");
    }
    for text in [
        "(secret",
        "(?=secret)",
        "(secret)\\1",
        "secret\\",
        "[z-a]secret",
        r"\bsecret",
    ] {
        let reason = reason(&regex(text));
        assert!(reason.contains("regular expression"), "{text}: {reason}");
    }
}

#[test]
fn nested_brackets_do_no_harm() {
    for depth in [100, 126, 127, 128, 10_000] {
        let nested = r#"{"items":"#.repeat(depth) + "{}" + &"}".repeat(depth);
        let _ = compile(&schema(&nested));
        let nested = r#"{"allOf":["#.repeat(depth / 2) + "{}" + &"]}".repeat(depth / 2);
        let _ = compile(&schema(&nested));
        let nested = "(".repeat(depth) + "a" + &")".repeat(depth);
        let _ = compile(&regex(&nested));
        let nested = "(".repeat(depth) + "a" + &")*".repeat(depth);
        let _ = compile(&regex(&nested));
    }
}

#[test]
fn large_constraints_end_in_an_answer() {
    let words: Vec<String> = (0..1024)
        .map(|n| format!("{n}").repeat(1024)[..1024].to_owned())
        .collect();
    let properties: Vec<String> = (0..4000)
        .map(|n| format!(r#""p{n}":{{"type":"string"}}"#))
        .collect();
    let enumeration = serde_json::to_string(&words[..200]).unwrap();
    let doubled: String = (0..40)
        .map(|n| {
            format!(
                r##""d{n}":{{"allOf":[{{"$ref":"#/$defs/d{m}"}},{{"$ref":"#/$defs/d{m}"}}]}},"##,
                m = n + 1
            )
        })
        .collect();
    for (name, constraint) in [
        ("repetitions", regex("((a{1,100}){1,100}){1,100}")),
        (
            "optional",
            regex(&("a?".repeat(5_000) + &"a".repeat(5_000))),
        ),
        ("alternatives", regex(&"ab|".repeat(20_000))),
        ("classes", regex(&r"\p{L}{1,50}".repeat(500))),
        ("dots", regex("(.*a){1,30}.{1,500}b")),
        ("choices", Constraint::Choices(words)),
        (
            "properties",
            schema(&format!(
                r#"{{"type":"object","properties":{{{}}}}}"#,
                properties.join(",")
            )),
        ),
        ("enum", schema(&format!(r#"{{"enum":{enumeration}}}"#))),
        (
            "doubling",
            schema(&format!(
                r##"{{"$defs":{{{doubled}"d40":{{"minimum":3}}}},"$ref":"#/$defs/d0"}}"##
            )),
        ),
        (
            "length",
            schema(r#"{"type":"string","minLength":100000,"maxLength":4000000000}"#),
        ),
        (
            "items",
            schema(r#"{"type":"array","minItems":4000000000,"items":{"type":"integer"}}"#),
        ),
        (
            "decimals",
            schema(r#"{"type":"number","multipleOf":1e-300,"maximum":1e300}"#),
        ),
    ] {
        let start = std::time::Instant::now();
        let outcome = compile(&constraint).and_then(|mut state| {
            for _ in 0..20 {
                let mut logits = vec![0.0; END + 1];
                state.mask(&mut logits)?;
                if let Some(byte) = (0..END).find(|&byte| logits[byte] == 0.0) {
                    state.accept(byte as u32)?;
                }
            }
            Ok(())
        });
        println!(
            "{name}: {:?} {:?}",
            start.elapsed(),
            outcome.map_err(|error| error.to_string())
        );
    }
}

#[test]
fn a_token_that_may_not_come_is_an_error() {
    let mut state = compile(&choices(&["yes"])).unwrap();
    assert!(matches!(
        state.accept(b'n'.into()),
        Err(Error::ConstraintFailed { .. })
    ));
    assert!(state.mask(&mut [0.0; END + 1]).is_err());
    assert!(!state.is_accepting() && !state.is_complete());
    let mut state = compile(&choices(&["yes"])).unwrap();
    assert!(state.accept(9_999).is_err());
    let mut state = compile(&choices(&["yes"])).unwrap();
    assert!(state.mask(&mut [0.0; 3]).is_err());
}
