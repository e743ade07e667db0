//! `explain (analyze, salesai)`: what each node of a plan asked of models.

use serde_json::Value;

use tests::cluster::{Cluster, Settings};
use tests::session::Session;
use tests::world;

const NOTES: i64 = 5;
const CLASSIFY: &str = "salesai.classify(n.content, array['request', 'small talk'])";
const IS_TRUE: &str = "salesai.is_true('The writer asks for something.', n.content)";

/// Goal: operators in a select list and in a condition count for the nodes that call them, as often as there are rows,
/// with the numbers that the session's statistics have.
#[test]
fn nodes_show_what_they_asked() {
    let Some(mut session) = session("nodes_show_what_they_asked") else {
        return;
    };
    let root = plan(
        &mut session,
        &format!(
            "with wanted as materialized (select * from note n where coalesce({IS_TRUE}, true))
             select {CLASSIFY} from wanted n"
        ),
    );
    let scan = node(&root, |node| node["Relation Name"] == "note");
    assert_eq!(models(scan, "Calls"), NOTES);
    assert_eq!(models(scan, "Generations"), NOTES);
    // A node shows its children's, too.
    let rows = scan["Actual Rows"].as_f64().expect("rows") as i64;
    assert_eq!(models(&root, "Generations"), NOTES + rows);
    for (operator, share) in [("is_true", [1, 0]), ("classify", [-1, 1])] {
        let counted = session.row(
            "select coalesce(sum(generations), 0)::bigint, coalesce(sum(prompt_tokens), 0)::bigint,
                 coalesce(sum(completion_tokens), 0)::bigint
             from salesai.operator_statistics() where operator = $1",
            &[&operator],
        );
        for (column, name) in ["Generations", "Prompt Tokens", "Completion Tokens"]
            .into_iter()
            .enumerate()
        {
            let shown = models(scan, name) * share[0] + models(&root, name) * share[1];
            assert_eq!(shown, counted.get::<_, i64>(column), "{operator}: {name}");
        }
    }
    assert_eq!(models(&root, "Remembered"), 0);
    assert!(root["Models"]["Sidecar Wait"].as_f64() > Some(0.0));
    assert!(root["Models"]["Sidecar Wait"].as_f64() < root["Actual Total Time"].as_f64());
}

/// Goal: a join has what its own columns ask, each side what it asks itself, however often it is read.
#[test]
fn joins_and_subplans() {
    let Some(mut session) = session("joins_and_subplans") else {
        return;
    };
    session.run("set enable_mergejoin = off; set enable_nestloop = off");
    let root = plan(
        &mut session,
        &format!(
            "select {CLASSIFY}, b.mood from note n
             join (select id, {IS_TRUE} as mood from note n offset 0) b on b.id = n.id"
        ),
    );
    assert_eq!(root["Node Type"], "Hash Join");
    assert_eq!(models(&root, "Generations"), 2 * NOTES);
    let sides: Vec<i64> = root["Plans"]
        .as_array()
        .expect("two sides")
        .iter()
        .map(|side| models(side, "Generations"))
        .collect();
    assert!(sides == [NOTES, 0] || sides == [0, NOTES], "{sides:?}");
    let root = plan(
        &mut session,
        &format!(
            "select (select max({CLASSIFY}) from note n where n.id <= o.id) from note o where o.id <= 2"
        ),
    );
    // Of each row of the outer query, one row or two.
    assert_eq!(models(&root, "Generations"), 3);
    let outer = node(&root, |node| node["Alias"] == "o");
    let inner = node(&root, |node| node["Alias"] == "n");
    assert_eq!(models(outer, "Generations"), 3);
    assert_eq!(models(inner, "Generations"), 0, "the aggregate asks");
    let never = plan(
        &mut session,
        &format!("select {CLASSIFY} from note n where id > 1000"),
    );
    assert_eq!(models(&never, "Calls"), 0);
}

/// Goal: the other things that are asked of models are told apart.
#[test]
fn kinds_of_work() {
    let Some(mut session) = session("kinds_of_work") else {
        return;
    };
    let root = plan(
        &mut session,
        "select salesai.embed(array['a price list', 'lunch'])",
    );
    assert_eq!(models(&root, "Calls"), 1);
    assert_eq!(models(&root, "Embedded Texts"), 2);
    assert!(models(&root, "Embedded Tokens") >= 4);
    assert_eq!(models(&root, "Generations"), 0);
    let root = plan(
        &mut session,
        "select salesai.rerank('price', array['the plant in Tarrow', 'a price list', 'lunch'])",
    );
    assert_eq!(models(&root, "Calls"), 1);
    assert_eq!(models(&root, "Reranked Texts"), 3);
    let root = plan(
        &mut session,
        "select salesai.generate_stream('Say hello.', max_tokens => 4)",
    );
    assert_eq!(root["Node Type"], "ProjectSet");
    assert_eq!(models(&root, "Calls"), 1);
    assert_eq!(models(&root, "Generations"), 1);
    assert_eq!(models(&root, "Completion Tokens"), 4);
    let root = plan(
        &mut session,
        "select * from salesai.insight('Why is the Halden Freight deal stuck?', account => 'Halden Freight')",
    );
    assert_eq!(models(&root, "Generations"), 1);
    assert!(models(&root, "Embedded Texts") > 1);
    assert!(models(&root, "Calls") >= 2);
    let tokens = session.row(
        "select i.prompt_tokens::bigint, i.completion_tokens::bigint
         from salesai.insight i order by i.id desc limit 1",
        &[],
    );
    assert_eq!(models(&root, "Prompt Tokens"), tokens.get::<_, i64>(0));
    assert_eq!(models(&root, "Completion Tokens"), tokens.get::<_, i64>(1));
}

/// Goal: what was taken from the result cache asked no model.
#[test]
fn remembered_results() {
    let Some(mut session) = session("remembered_results") else {
        return;
    };
    session.run("set salesai.result_cache = on");
    let sql = "select salesai.classify(n.content || ' See you.', array['request', 'small talk']) from note n";
    let first = plan(&mut session, sql);
    assert_eq!(models(&first, "Generations"), NOTES);
    assert_eq!(models(&first, "Remembered"), 0);
    let second = plan(&mut session, sql);
    assert_eq!(models(&second, "Calls"), 0);
    assert_eq!(models(&second, "Generations"), 0);
    assert_eq!(models(&second, "Prompt Tokens"), 0);
    assert_eq!(models(&second, "Remembered"), NOTES);
}

/// Goal: each format says it; without the option nobody hears of it.
#[test]
fn formats() {
    let Some(mut session) = session("formats") else {
        return;
    };
    let sql = format!("select {CLASSIFY} from note n");
    let lines: Vec<String> = session.column(&format!("explain (analyze, salesai) {sql}"), &[]);
    let text = lines.join("\n");
    assert!(
        text.contains("\n  Models: calls=5 generations=5 prompt_tokens="),
        "{text}"
    );
    assert!(text.contains(" sidecar_wait="), "{text}");
    let lines: Vec<String> = session.column(
        &format!("explain (analyze, salesai, timing off) {sql}"),
        &[],
    );
    assert!(!lines.join("\n").contains("sidecar_wait"), "{lines:?}");
    for (format, part) in [
        ("yaml", "Models: \n      Calls: 5\n      Generations: 5\n"),
        ("xml", "<Models>\n        <Calls>5</Calls>\n"),
    ] {
        let text = explained(
            &mut session,
            &format!("analyze, salesai, format {format}"),
            &sql,
        );
        assert!(text.contains(part), "{text}");
    }
    for options in [
        "analyze",
        "analyze, salesai off",
        "analyze, salesai, salesai false",
    ] {
        let lines: Vec<String> = session.column(&format!("explain ({options}) {sql}"), &[]);
        assert!(!lines.join("\n").contains("Models"), "{options}: {lines:?}");
    }
    session.run(&format!("prepare asked as {sql}"));
    let root = plan(&mut session, "execute asked");
    assert_eq!(models(&root, "Generations"), NOTES);
    let root = plan(
        &mut session,
        &format!("create temporary table kept as {sql}"),
    );
    assert_eq!(models(&root, "Generations"), NOTES);
    let root = plan(
        &mut session,
        &format!("update note n set content = {CLASSIFY}"),
    );
    assert_eq!(models(&root, "Generations"), NOTES);
    for options in ["salesai", "salesai, verbose", "salesai, analyze off"] {
        let sql = format!("explain ({options}) {sql}");
        let refusal = session.refusal(&sql, &[]);
        assert_eq!(refusal.sqlstate, "22023", "{sql}");
        assert_eq!(refusal.message, "EXPLAIN option SALESAI requires ANALYZE");
    }
}

/// Goal: a statement that failed, was cancelled or still runs leaves nothing to the next one's numbers.
#[test]
fn failures_leave_nothing() {
    let Some(mut session) = session("failures_leave_nothing") else {
        return;
    };
    let fine = format!("select {CLASSIFY} from note n where id <= 2");
    let failing = format!("select {CLASSIFY}, 1 / (n.id - 3) from note n");
    let assert_right = |session: &mut Session, what: &str| {
        let root = plan(session, &fine);
        assert_eq!(models(&root, "Generations"), 2, "{what}");
        assert_eq!(models(&root, "Calls"), 2, "{what}");
    };
    session
        .refusal(&format!("explain (analyze, salesai) {failing}"), &[])
        .assert_is("22012", &failing);
    assert_right(&mut session, "after an error");
    // Where the error is caught, in the transaction that goes on, with the context that it had.
    session.run(
        "create function pg_temp.half(integer) returns integer language plpgsql as 'begin return 1 / ($1 - 3); end';
         create function pg_temp.caught(sql text) returns text language plpgsql as $$
             declare context text;
             begin
                 perform pg_temp.explained('analyze, salesai, format json', sql);
                 return null;
             exception when division_by_zero then
                 get stacked diagnostics context = pg_exception_context;
                 return context;
             end $$;
         begin",
    );
    let sql = format!("select {CLASSIFY}, pg_temp.half(n.id) from note n");
    let context: String = session.one("select pg_temp.caught($1)", &[&sql]);
    let context: Vec<&str> = context
        .lines()
        .filter(|line| line.starts_with("PL/pgSQL function"))
        .collect();
    assert!(
        context[0].contains(".half(integer) line 1 at RETURN"),
        "{context:?}"
    );
    assert_eq!(context.len(), 3, "{context:?}");
    assert_right(&mut session, "after a caught error");
    session.run("commit");
    session.run("set statement_timeout = 300");
    let long = "select salesai.summarize(repeat('The plant in Tarrow loses hours. ', 30) || g) from generate_series(1, 200) g";
    session
        .refusal(&format!("explain (analyze, salesai) {long}"), &[])
        .assert_is("57014", long);
    session.run("reset statement_timeout");
    assert_right(&mut session, "after a cancel");
    // A cursor that is open meanwhile, and one statement in another.
    session.run(&format!(
        "begin; declare c cursor for select {CLASSIFY} from note n; fetch 1 from c"
    ));
    assert_right(&mut session, "beside a cursor");
    session.run("fetch 1 from c");
    assert_right(&mut session, "beside a cursor that went on");
    session.run("commit");
    let nested =
        format!("select pg_temp.explained('analyze, salesai, format json', $in${fine}$in$)");
    let root = plan(&mut session, &nested);
    assert_eq!(models(&root, "Generations"), 2);
    assert_right(&mut session, "after a nested statement");
    let log = world::shared().log();
    assert!(!log.contains("PANIC") && !log.contains("was terminated by signal"));
}

/// Goal: a session that has loaded the library has the option, also where the server has not.
#[test]
fn loaded_by_the_session() {
    if session("loaded_by_the_session").is_none() {
        return;
    }
    let settings = Settings {
        worker: false,
        ..Settings::new("/nowhere.sock".into())
    };
    let cluster = Cluster::start_empty(&settings);
    cluster
        .connect()
        .run("alter system set shared_preload_libraries = vector");
    cluster.kill_all();
    cluster.launch();
    cluster
        .connect()
        .run("create extension vector; create extension pg_salesai");
    let mut session = cluster.connect();
    session
        .refusal("explain (analyze, salesai) select 1", &[])
        .assert_is("42601", "without the library");
    session.run("load 'pg_salesai'");
    let lines: Vec<String> = session.column("explain (analyze, salesai) select 1", &[]);
    assert!(lines[0].starts_with("Result"), "{lines:?}");
    let mut session = cluster.connect();
    session.run("select from salesai.operator_statistics()");
    session.run("explain (analyze, salesai) select 1");
}

/// A session with a table of notes; None where PostgreSQL knows no options of extensions.
fn session(test: &str) -> Option<Session> {
    let mut session = world::shared().connect();
    let version: i32 = session.one("select current_setting('server_version_num')::integer", &[]);
    if version < 180_000 {
        println!("skipped: {test}: EXPLAIN takes no options of extensions before PostgreSQL 18");
        session
            .refusal("explain (analyze, salesai) select 1", &[])
            .assert_is("42601", "an unknown option");
        return None;
    }
    // Each row asks in the node that has its condition; tests/batching.rs has the other way.
    session.run(
        "set salesai.batch_operators = off;
         create temporary table note (id integer, content text);
         insert into note values (1, 'Please send the order form.'), (2, 'The weather was fine.'),
             (3, 'Could you call me back?'), (4, 'Lunch was good.'), (5, 'We need a discount.');
         analyze note;
         create function pg_temp.explained(options text, sql text) returns text language plpgsql as
             $$ declare plan text; begin execute 'explain (' || options || ') ' || sql into plan; return plan; end $$",
    );
    Some(session)
}

/// The plan of a statement that was run, with the option.
fn plan(session: &mut Session, sql: &str) -> Value {
    let text = explained(session, "analyze, salesai, format json", sql);
    let mut plans: Value = serde_json::from_str(&text).expect("JSON");
    plans[0]["Plan"].take()
}

fn explained(session: &mut Session, options: &str, sql: &str) -> String {
    session.one("select pg_temp.explained($1, $2)", &[&options, &sql])
}

/// The first node for which this holds.
fn node(root: &Value, is_meant: impl Fn(&Value) -> bool + Copy) -> &Value {
    fn found(node: &Value, is_meant: impl Fn(&Value) -> bool + Copy) -> Option<&Value> {
        if is_meant(node) {
            return Some(node);
        }
        let children = node["Plans"].as_array()?;
        children.iter().find_map(|child| found(child, is_meant))
    }
    found(root, is_meant).unwrap_or_else(|| panic!("no such node in {root:#}"))
}

fn models(node: &Value, name: &str) -> i64 {
    let sum = node["Models"][name].as_i64();
    sum.unwrap_or_else(|| panic!("no {name} in {node:#}"))
}
