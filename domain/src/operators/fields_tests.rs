use super::*;

fn parse(fields: &[&str]) -> Result<Fields, FieldError> {
    let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
    Fields::parse(&fields)
}

#[test]
fn fields_become_a_schema() {
    let fields = parse(&[
        "buyer",
        "seats: integer - how many licences",
        "next steps: text[]",
        "due: DATE",
    ])
    .unwrap();
    let schema = fields.schema();
    assert_eq!(schema["properties"]["seats"]["anyOf"][0]["type"], "integer");
    assert_eq!(schema["properties"]["seats"]["anyOf"][1]["type"], "null");
    assert_eq!(schema["properties"]["next steps"]["type"], "array");
    assert_eq!(schema["properties"]["buyer"]["anyOf"][0]["type"], "string");
    assert_eq!(schema["properties"]["due"]["anyOf"][0]["format"], "date");
    assert_eq!(
        schema["required"],
        json!(["buyer", "seats", "next steps", "due"])
    );
    assert_eq!(
        fields.explained(),
        "- buyer (text)\n- seats (integer): how many licences\n- next steps (list of text)\n- due (date)"
    );
    let names = 5 + 5 + 10 + 3;
    assert_eq!(
        fields.tokens_max(),
        16 + names + 4 * 8 + 120 + 32 + 8 * 64 + 16
    );
}

#[test]
fn bad_fields_are_named() {
    assert_eq!(parse(&[]), Err(FieldError::Count));
    assert_eq!(parse(&["x"; FIELDS_MAX + 1]), Err(FieldError::Count));
    let lists = ["a: text[]", "b: text[]", "c: text[]", "d: text[]"];
    assert_eq!(
        parse(&lists),
        Err(FieldError::TooMuch(16 + 4 * (1 + 8 + 8 * 64)))
    );
    assert_eq!(
        parse(&[" : text"]),
        Err(FieldError::Unnamed(": text".to_owned()))
    );
    assert_eq!(
        parse(&["a", "a: date"]),
        Err(FieldError::Twice("a".to_owned()))
    );
    assert_eq!(
        parse(&["a: money"]),
        Err(FieldError::UnknownType {
            name: "a".to_owned(),
            kind: "money".to_owned()
        })
    );
}
