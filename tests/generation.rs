//! `salesai.generate`, and who the sidecar thinks is calling.

use serde_json::Value;

use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world;

/// Goal: the same call gives the same text, with and without sampling.
#[test]
fn text_is_reproducible() {
    let mut session = world::shared().connect();
    for options in [
        "temperature => 0",
        "temperature => 1.2, top_p => 0.9, seed => 7",
    ] {
        let sql = format!("select salesai.generate('Name a colour.', max_tokens => 16, {options})");
        let text: String = session.one(&sql, &[]);
        assert!(!text.is_empty());
        assert_eq!(session.one::<String>(&sql, &[]), text, "{options}");
    }
    let nothing: Option<String> = session.one("select salesai.generate(null)", &[]);
    assert_eq!(nothing, None);
}

/// Goal: many prompts have in order the texts that each has alone, constraint and sampling included; a bad one fails all.
#[test]
fn many_prompts() {
    let mut session = world::shared().connect();
    let prompts = "array['Name a colour.', null, 'Name a city.', 'Name a colour.']";
    for options in [
        "max_tokens => 8",
        "choices => array['red', 'blue', 'Paris']",
        "max_tokens => 8, temperature => 0.8, seed => 7",
    ] {
        let together: Vec<Option<String>> = session.one(
            &format!("select salesai.generate({prompts}, {options})"),
            &[],
        );
        session.run("set salesai.batch_operators = off");
        let alone: Vec<Option<String>> = session.column(
            &format!(
                "select salesai.generate(p, {options}) from unnest({prompts}) with ordinality u (p, n) order by n"
            ),
            &[],
        );
        session.run("reset salesai.batch_operators");
        assert_eq!(together, alone, "{options}");
        assert!(together[0].is_some() && together[1].is_none(), "{options}");
    }
    let empty: Vec<String> = session.one("select salesai.generate('{}'::text[])", &[]);
    assert!(empty.is_empty());
    for (arguments, sqlstate) in [
        ("array['a', ' ']", "22023"),
        ("array['a'], max_tokens => 0", "22023"),
        ("array['a'], timeout_ms => 0", "22023"),
        ("array['a'], model => 'none'", "42704"),
        ("array['a', repeat('far too long ', 20000)]", "54000"),
    ] {
        let sql = format!("select salesai.generate({arguments})");
        session.refusal(&sql, &[]).assert_is(sqlstate, &sql);
    }
}

/// Goal: bad arguments are named; a wrong model is not found.
#[test]
fn bad_arguments() {
    let mut session = world::shared().connect();
    for (arguments, sqlstate) in [
        ("' '", "22023"),
        ("'hi', temperature => 3", "22023"),
        ("'hi', top_p => 2", "22023"),
        ("'hi', max_tokens => 0", "22023"),
        ("'hi', timeout_ms => 0", "22023"),
        ("'hi', json_schema => '{}', regex => 'a'", "22023"),
        ("'hi', model => 'no-such-model'", "42704"),
    ] {
        let sql = format!("select salesai.generate({arguments})");
        session.refusal(&sql, &[]).assert_is(sqlstate, &sql);
    }
    let sql = "select salesai.generate('Tell a long story.', timeout_ms => 1)";
    session.refusal(sql, &[]).assert_is("57014", sql);
}

/// Goal: what is asked for in a schema, a regular expression or a choice comes back so, or the call fails.
#[test]
fn constraints() {
    let mut session = world::shared().connect();
    let text: String = session.one(
        r#"select salesai.generate('Describe a customer.', max_tokens => 200, temperature => 1.5, seed => 3,
             json_schema => '{"type": "object", "additionalProperties": false, "required": ["name", "size", "gone"],
                 "properties": {"name": {"type": "string", "maxLength": 12}, "size": {"type": "integer", "minimum": 1, "maximum": 999},
                                "gone": {"const": null}}}')"#,
        &[],
    );
    let value: Value = serde_json::from_str(&text).expect("the text is JSON");
    assert!(
        value["name"].is_string() && value["size"].is_u64(),
        "{text}"
    );
    assert!(
        value
            .as_object()
            .is_some_and(|object| object["gone"].is_null()),
        "{text}"
    );
    let text: String = session.one(
        "select salesai.generate('A date.', regex => '[0-9]{4}-[0-9]{2}')",
        &[],
    );
    assert!(text.len() == 7 && text.as_bytes()[4] == b'-', "{text}");
    let text: String = session.one(
        "select salesai.generate('Yes or no?', choices => array['yes', 'no'])",
        &[],
    );
    assert!(["yes", "no"].contains(&text.as_str()), "{text}");
    let sql = r#"select salesai.generate('List.', max_tokens => 4, json_schema =>
        '{"type": "array", "minItems": 50, "items": {"type": "integer"}}')"#;
    let refusal = session.refusal(sql, &[]);
    refusal.assert_is("54000", sql);
    assert!(refusal.hint.is_some_and(|hint| hint.contains("max_tokens")));
}

/// Goal: a role is always the same caller; roles share nothing; other rights are another cache, and nothing else.
#[test]
fn callers() {
    let cluster = world::shared();
    let mut owner = cluster.connect();
    owner.run(
        "create role t_caller_a login in role salesai_rep;
         create role t_caller_b login in role salesai_rep;
         create role t_caller_both login in role t_caller_a, t_caller_b;
         insert into salesai.principal (role_name, rep_id, read_scope, can_write)
         select r, (select min(id) from salesai.rep), 'own', true from unnest(array['t_caller_a', 't_caller_b']) r",
    );
    let mut a = cluster.connect_as("t_caller_a");
    let before = caller(&mut a);
    assert_eq!(caller(&mut cluster.connect_as("t_caller_a")), before);
    let other = caller(&mut cluster.connect_as("t_caller_b"));
    assert_ne!(other.0, before.0, "caller");
    assert_ne!(
        other.1, before.1,
        "salt, though both stand for the same rep"
    );
    let mut both = cluster.connect_as("t_caller_both");
    both.run("set role t_caller_a");
    assert_eq!(caller(&mut both), before);
    for change in ["read_scope = 'team'", "rep_id = null"] {
        let salt = caller(&mut a).1;
        owner.run(&format!(
            "update salesai.principal set {change} where role_name = 't_caller_a'"
        ));
        let now = caller(&mut a);
        assert_eq!(now.0, before.0, "{change}");
        assert_ne!(now.1, salt, "{change}");
    }
    owner.run("delete from salesai.principal where role_name like 't\\_caller\\_%'");
}

/// Goal: a prompt reaches neither server's log.
#[test]
fn prompts_stay_out_of_logs() {
    const MARKER: &str = "vexoprandil";
    let cluster = world::shared();
    let mut session = cluster.connect();
    session.run(&format!(
        "select salesai.generate('Repeat: {MARKER}', max_tokens => 8)"
    ));
    session
        .try_run(
            &format!("select salesai.generate('{MARKER}', timeout_ms => 1)"),
            &[],
        )
        .expect_err("this call fails");
    session
        .try_run(
            &format!("select salesai.generate('hi', json_schema => '{{\"type\": \"{MARKER}\"}}')"),
            &[],
        )
        .expect_err("this call fails");
    assert!(!cluster.log().contains(MARKER), "the server's log");
    assert!(
        !Sidecar::shared().log().contains(MARKER),
        "the sidecar's log"
    );
}

fn caller(session: &mut Session) -> (String, Vec<u8>) {
    let row = session.row("select caller, cache_salt from salesai.caller()", &[]);
    (row.get(0), row.get(1))
}
