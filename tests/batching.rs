//! Queries that call an operator for each row, and ask about many rows at once.

use std::time::Duration;

use serde_json::Value;

use tests::cluster::{Cluster, Settings};
use tests::measure::wait_until;
use tests::session::Session;
use tests::world;

const CLASSIFY: &str = "salesai.classify(n.content, array['request', 'small talk'])";
const IS_TRUE: &str = "salesai.is_true('The writer asks for something.', n.content)";
/// Equal documents are asked about once in a batch, so many rows cost little.
const NOTES: i64 = 40;

/// Goal: whatever the shape of a query, it gives the same rows as when each row asks, and one node makes the calls.
#[test]
fn queries_give_the_same() {
    let mut session = session();
    session.run("set salesai.result_cache = on");
    let queries = [
        format!("select n.id from note n where coalesce({IS_TRUE}, true) order by 1"),
        format!("select n.id, {CLASSIFY} from note n order by 1"),
        format!("select n.id, {IS_TRUE}, {CLASSIFY} is not null from note n where {IS_TRUE} is not true order by 1"),
        format!("select n.id from note n where n.id % 2 = 0 and {CLASSIFY} = 'request' and {IS_TRUE} is not false order by 1"),
        format!("select p.name, {CLASSIFY} from note n join person p on p.id = n.person order by n.id"),
        format!("select p.name, {CLASSIFY} from person p left join note n on n.person = p.id order by p.id, n.id"),
        format!("select p.name from person p where exists (select from note n where n.person = p.id and {CLASSIFY} = 'request') order by 1"),
        format!("select p.name, (select count(*) from note n where n.person = p.id and {CLASSIFY} = 'request') from person p order by p.id"),
        format!("select p.name, a.label from person p cross join lateral
             (select {CLASSIFY} as label from note n where n.person = p.id order by n.id limit 2) a order by p.id, 2"),
        format!("with asked as materialized (select n.*, {CLASSIFY} as mood from note n)
             select n.id, mood, {IS_TRUE} from asked n order by 1"),
        format!("select {CLASSIFY} as label, count(*) from note n group by 1 order by 1"),
        "select n.person, salesai.classify(string_agg(n.content, ' ' order by n.id), array['request', 'small talk']) from note n
             group by n.person having salesai.is_true('Somebody asks.', min(n.content)) or count(*) > 0 order by 1".into(),
        format!("select count(*) filter (where {IS_TRUE}), avg({IS_TRUE}::integer) from note n"),
        format!("select n.person, string_agg({CLASSIFY}, ',' order by n.id), count(distinct {CLASSIFY}), {CLASSIFY}
             from note n group by n.person, n.content order by 1, n.content"),
        format!("select n.person, n.id % 2, max({CLASSIFY}) from note n group by grouping sets (n.person, n.id % 2, ()) having count({IS_TRUE}) >= 0 order by 1, 2"),
        "select n.person, grouping(n.person), salesai.sentiment(max(n.content)) from note n group by rollup (n.person) order by 1, 2".into(),
        format!("select distinct {CLASSIFY} from note n where n.person in (1, 2) order by 1"),
        format!("select n.id, rank() over (order by n.id), {CLASSIFY} from note n order by 1"),
        format!("select n.id, {CLASSIFY} from note n where n.id < 5 union all select n.id, {CLASSIFY} from older n order by 1"),
        "select n.id, salesai.classify(salesai.summarize(n.content), array['request', 'small talk']) from note n order by 1".into(),
        "select n.id, round(salesai.similarity('a price', n.content)::numeric, 5) from note n order by 2 desc, 1 limit 5".into(),
        "select n.id, salesai.sentiment(n.content) || n.content, n.ctid, n from note n order by 1".into(),
        "select n.id, salesai.generate('In a word: ' || n.content, max_tokens => 4) from note n where n.id < 9 order by 1".into(),
        "select n.id, salesai.embed(n.content) is null from note n order by 1".into(),
        // A subquery frees the document that it gave before.
        "select g, left(md5(salesai.embed((select string_agg(n.content, ' ') || g from note n where n.id <= g))::text), 8)
             from generate_series(1, 12) g order by 1".into(),
        format!("select g, {CLASSIFY} from generate_series(1, 2) g, note n where n.id < 4 order by 1, n.id"),
    ];
    for sql in queries {
        assert_eq!(
            together(&mut session, &sql),
            alone(&mut session, &sql),
            "{sql}"
        );
        let batches = batches(&mut session, &sql);
        let plan = session.text(&format!("explain (verbose, costs off) {sql}"));
        assert!(batches.is_some(), "{sql}\n{plan}");
    }
}

/// Goal: many rows are asked about in few calls, and what a condition refuses is not asked about again.
#[test]
fn rows_are_asked_together() {
    let mut session = session();
    let calls = |session: &mut Session, operator: &str| -> (i64, i64) {
        let row = session.row(
            "select coalesce(sum(calls), 0)::bigint, coalesce(sum(documents), 0)::bigint
             from salesai.operator_statistics() where operator = $1",
            &[&operator],
        );
        (row.get(0), row.get(1))
    };
    let sql = format!(
        "select n.id, {CLASSIFY} from note n
         where n.id % 2 = 0 and coalesce({IS_TRUE}::text, '') || n.content like '%order%'"
    );
    let before = [
        calls(&mut session, "is_true"),
        calls(&mut session, "classify"),
    ];
    session.rows(&sql, &[]);
    let after = [
        calls(&mut session, "is_true"),
        calls(&mut session, "classify"),
    ];
    let spent = |at: usize| (after[at].0 - before[at].0, after[at].1 - before[at].1);
    // Every second note, but for a fifth that have no content; a fifth of them is kept.
    assert_eq!(spent(0).1, NOTES / 2 * 4 / 5);
    assert_eq!(spent(1).1, NOTES / 2 / 5);
    assert!(spent(0).0 < NOTES / 4, "{} calls", spent(0).0);
    assert!(spent(1).0 < NOTES / 4, "{} calls", spent(1).0);
    // One that is satisfied by a row asks about no more.
    let before = calls(&mut session, "classify");
    session.rows(&format!("select {CLASSIFY} from note n limit 1"), &[]);
    assert_eq!(
        calls(&mut session, "classify"),
        (before.0 + 1, before.1 + 1)
    );
    // Also where it is looked at anew for each row of another.
    let before = calls(&mut session, "classify");
    session.rows(
        &format!("select (select {CLASSIFY} from note n where n.person = p.id and n.content <> '' limit 1) from person p"),
        &[],
    );
    assert_eq!(calls(&mut session, "classify").1, before.1 + 3);
}

/// Goal: what a query may skip is not asked about, and what cannot be asked together is asked row by row.
#[test]
fn what_may_be_skipped_is() {
    let mut session = session();
    for sql in [
        format!("select n.id from note n where n.id < 3 or {IS_TRUE} order by 1"),
        format!("select n.id, case when n.id < 3 then {CLASSIFY} end from note n order by 1"),
        format!("select n.id, coalesce(nullif('', n.id::text), {CLASSIFY}) from note n order by 1"),
        "select n.id, salesai.is_true('The writer of ' || n.id || ' asks.', n.content) from note n where n.id < 3 order by 1".into(),
        // Whether there are more rows is decided by the rank.
        format!("select * from (select n.id, {CLASSIFY} as label, n.content, rank() over (order by n.id) as r from note n) s where r <= 3 order by 1"),
        format!("select * from (select {CLASSIFY} as label, rank() over (order by n.id::bigint desc) as r from note n) s where r <= 3 order by 2"),
        "select salesai.classify('Please call.', array['request', 'small talk']) from note n where n.id < 3".into(),
        format!("select count(*) filter (where n.id < 9 and {IS_TRUE}) from note n"),
        "select salesai.is_true(count(*) || ' writers ask.', string_agg(n.content, ' ')) from note n where n.id < 3".into(),
    ] {
        assert_eq!(batches(&mut session, &sql), None, "{sql}");
        assert_eq!(together(&mut session, &sql), alone(&mut session, &sql), "{sql}");
    }
    let mut other = world::shared().connect();
    other.run("create temporary table note (id integer, content text); insert into note values (1, 'Please call.')");
    assert!(batches(&mut other, &format!("select {CLASSIFY} from note n")).is_some());
    other.run("set salesai.batch_operators = off");
    assert_eq!(
        batches(&mut other, &format!("select {CLASSIFY} from note n")),
        None
    );
}

/// Goal: plans that run in parallel or go back to a marked row give what they gave before.
#[test]
fn plans_of_all_kinds() {
    let mut session = session();
    session.run(
        "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
         set max_parallel_workers_per_gather = 2; set enable_indexscan = off; set enable_indexonlyscan = off",
    );
    let sql = "select c.id, round(salesai.similarity('a price', c.content)::numeric, 5) from salesai.chunk c where c.id % 50 = 0";
    let plan = session.text(&format!("explain {sql}"));
    assert!(
        plan.contains("SalesaiBatch") && plan.contains("Gather"),
        "{plan}"
    );
    let sorted = format!("{sql} order by 1");
    assert_eq!(
        together(&mut session, &sorted),
        alone(&mut session, &sorted)
    );
    session.run(
        "reset all; set salesai.result_cache = on; set enable_hashjoin = off; set enable_nestloop = off; set enable_sort = off;
         set enable_seqscan = off; set enable_bitmapscan = off; set enable_material = off; set app.wanted = 'on'; create index on note (person); create index on person (id);
         insert into person select * from person; analyze person",
    );
    let sql = format!(
        "select p.id, s.id from person p left join (select n.id, n.person from note n
             where current_setting('app.wanted', true) = 'on' and ({IS_TRUE} or n.id > 0)) s on s.person = p.id order by 1, 2"
    );
    let plan = session.text(&format!("explain {sql}"));
    assert!(plan.contains("Merge"), "{plan}");
    assert_eq!(together(&mut session, &sql), alone(&mut session, &sql));
}

/// Goal: statements that change rows, prepared statements, cursors and functions give what they gave before.
#[test]
fn statements_of_all_kinds() {
    let mut session = session();
    let label = |session: &mut Session, id: i32| -> Option<String> {
        session.one(
            &format!("select {CLASSIFY} from note n where n.id = $1"),
            &[&id],
        )
    };
    let expected = [1, 2].map(|id| label(&mut session, id));
    let changed = session.rows(
        &format!("update note n set label = {CLASSIFY} where n.id <= 2 returning n.id, label"),
        &[],
    );
    for row in &changed {
        let id: i32 = row.get(0);
        assert_eq!(row.get::<_, Option<String>>(1), expected[id as usize - 1]);
    }
    session.run(&format!(
        "update note n set (label, person) = (select {CLASSIFY}, p.id from person p where p.id = n.person) where n.id <= 4;
         insert into older (id, content, label) select n.id + 1000, n.content, {CLASSIFY} from note n where n.id <= 4"
    ));
    let differ: i64 = session.one(
        "select count(*) from note n join older o on o.id = n.id + 1000 where o.label is distinct from n.label",
        &[],
    );
    assert_eq!(differ, 0);
    let deleted = session.rows(
        &format!("delete from older n where n.id > 1000 and {CLASSIFY} is not null returning n.id"),
        &[],
    );
    // One has no content.
    assert_eq!(deleted.len(), 3);
    session.run(&format!(
        "merge into older o using note n on o.id = n.id + 2000
         when not matched and n.id < 4 then insert values (n.id + 2000, n.content, {CLASSIFY})"
    ));
    let merged: i64 = session.one(
        "select count(*) from older o join note n on o.id = n.id + 2000 and o.label is not distinct from n.label",
        &[],
    );
    assert_eq!(merged, 3);
    session.run(
        "prepare asked (text, integer) as select count(*) from note n where n.id <= $2 and salesai.is_true($1, n.content) is not true",
    );
    let direct: i64 = session.one(
        "select count(*) from note n where n.id <= 3 and salesai.is_true('It is about money.', n.content) is not true",
        &[],
    );
    for _ in 0..7 {
        let count: i64 = session.one("execute asked('It is about money.', 3)", &[]);
        assert_eq!(count, direct);
    }
    session.run(&format!(
        "begin; declare forward cursor for select n.id, {CLASSIFY} from note n order by n.id;
         declare both_ways scroll cursor for select n.id, {CLASSIFY} from note n where n.id <= 3 order by n.id"
    ));
    let ids: Vec<i32> = session.column("fetch 3 from forward", &[]);
    assert_eq!(ids, [1, 2, 3]);
    let ids: Vec<i32> = session.column("fetch 3 from forward", &[]);
    assert_eq!(ids, [4, 5, 6]);
    session.rows("fetch 3 from both_ways", &[]);
    let ids: Vec<i32> = session.column("fetch backward 2 from both_ways", &[]);
    assert_eq!(ids, [2, 1]);
    session.run("rollback");
    session.run(&format!(
        "do $$ declare seen integer := 0; r record; begin
             for r in select n.id, {} as label from note n where n.id <= 6 order by n.id loop
                 seen := seen + r.id; exit when r.id = 4;
             end loop;
             if seen <> 10 then raise 'seen %', seen; end if;
         end $$",
        CLASSIFY
    ));
}

/// Goal: a row that somebody else changes meanwhile is judged as it is then.
#[test]
fn changed_rows_are_judged_anew() {
    let cluster = world::shared();
    let mut owner = cluster.connect();
    owner.run(
        "create table public.shared_note (id integer primary key, content text, label text);
         insert into public.shared_note select g, 'Please send the order form.', null from generate_series(1, 3) g",
    );
    let mut other = cluster.connect();
    other.run("begin; update public.shared_note set content = 'a' where id = 2");
    let mut waiting = cluster.connect();
    let pid = waiting.backend_pid();
    let update = std::thread::spawn(move || {
        waiting.run(
            "update public.shared_note n set label = n.content || salesai.classify(n.content, array['request', 'small talk'])
             where n.content <> 'b' and (salesai.is_true('It is.', n.content || 'x') or n.id > 0)",
        );
    });
    let is_blocked =
        "select exists (select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock')";
    wait_until("the update waits", Duration::from_secs(30), || {
        owner.one(is_blocked, &[&pid])
    });
    other.run("commit");
    update.join().expect("the update");
    let labels: Vec<String> = owner.column("select label from public.shared_note order by id", &[]);
    assert!(
        labels[1].starts_with('a') && !labels[1].contains("order form"),
        "{labels:?}"
    );
    assert!(labels[0].starts_with("Please"), "{labels:?}");
    owner.run("drop table public.shared_note");
}

/// Goal: a policy's condition still comes before those of the query, and who may not call an operator is refused.
#[test]
fn rights_are_kept() {
    let cluster = world::shared();
    let mut owner = cluster.connect();
    owner.run(
        "create table public.private_note (id integer, content text, reader text);
         insert into public.private_note values (1, 'Please send the order form.', 'batch_reader'),
             (2, 'A secret: lunch was good.', 'somebody'), (3, 'Call me back.', 'batch_reader');
         create role batch_reader login; grant salesai_analyst to batch_reader;
         grant select on public.private_note to batch_reader;
         alter table public.private_note enable row level security;
         create policy own on public.private_note
             using (reader = current_user and salesai.classify(content, array['request', 'other']) <> '');
         create role batch_stranger login; create view public.counted as select salesai.token_count(s) from (values ('Hello')) v (s);
         grant select on public.counted to batch_stranger; grant execute on function salesai.token_count(text) to batch_stranger;
         create function public.told(text) returns boolean language plpgsql cost 0.0001 as
             $$ begin if $1 like '%secret%' then raise 'told %', $1; end if; return true; end $$",
    );
    let mut reader = cluster.connect_as("batch_reader");
    let sql = "select n.id from public.private_note n where public.told(n.content)
         and (salesai.is_true('The writer asks for something.', n.content) or n.id > 0) order by 1";
    assert_eq!(together(&mut reader, sql), alone(&mut reader, sql));
    let ids: Vec<i32> = reader.column(sql, &[]);
    assert_eq!(ids, [1, 3]);
    assert!(batches(&mut reader, sql).is_some());
    // Who may not look into the schema, but call a function of it.
    let mut stranger = cluster.connect_as("batch_stranger");
    let tokens: i32 = stranger.one("select * from public.counted", &[]);
    assert!(tokens > 0);
    // With the form for a document alone, each row asks.
    owner.run(
        "revoke execute on function salesai.classify(text[], text[], text, text, text, integer, double precision) from salesai_analyst",
    );
    let classify = "select salesai.classify(n.content, array['request', 'other']) from public.private_note n where n.id > 0";
    assert_eq!(reader.rows(classify, &[]).len(), 2);
    owner.run(
        "revoke execute on function salesai.classify(text, text[], text, text, text, integer) from salesai_analyst",
    );
    reader.refusal(classify, &[]).assert_is("42501", classify);
    owner.run(
        "grant execute on function salesai.classify(text[], text[], text, text, text, integer, double precision),
             salesai.classify(text, text[], text, text, text, integer) to salesai_analyst;
         drop table public.private_note; drop function public.told; drop role batch_reader;
         drop view public.counted; revoke execute on function salesai.token_count(text) from batch_stranger; drop role batch_stranger",
    );
}

/// Goal: errors are those of single rows, with their context; a cancel ends a batch; the session goes on.
#[test]
fn errors_and_cancel() {
    let mut session = session();
    let long = "repeat('far too long for any window ', 20000)";
    let sql = format!(
        "select n.id, salesai.classify(case n.id when 2 then {long} else n.content end, array['request', 'small talk']) is null
         from note n where n.id <= 4 order by 1"
    );
    let is_null: Vec<bool> = session
        .rows(&sql, &[])
        .iter()
        .map(|row| row.get(1))
        .collect();
    assert_eq!(is_null, [false, true, false, false]);
    session.run(
        "create function pg_temp.half(integer) returns integer language plpgsql as 'begin return 1 / ($1 - 3); end';
         create function pg_temp.caught(sql text) returns text language plpgsql as $$
             declare context text;
             begin
                 execute 'select count(*) from (' || sql || ' offset 0) a';
                 return null;
             exception when division_by_zero then
                 get stacked diagnostics context = pg_exception_context;
                 return context;
             end $$",
    );
    for sql in [
        format!("select {CLASSIFY}, pg_temp.half(n.id) from note n"),
        format!("select {CLASSIFY} from note n where pg_temp.half(n.id) is not null"),
        format!("select 1 from note n where {IS_TRUE} or pg_temp.half(n.id) > 9"),
        "select salesai.classify(n.content || pg_temp.half(n.id), array['a', 'b']) from note n"
            .into(),
    ] {
        let context: String = session.one("select pg_temp.caught($1)", &[&sql]);
        assert!(
            context.contains(".half(integer) line 1 at RETURN"),
            "{sql}: {context}"
        );
    }
    for (call, sqlstate) in [
        ("salesai.classify(n.content, array['a'])", "22023"),
        (
            "salesai.classify(n.content, array['a', 'b'], on_error => 'no')",
            "22023",
        ),
        (
            "salesai.classify(n.content, array['a', 'b'], model => 'no-such-model')",
            "42704",
        ),
        (
            "salesai.classify(n.content, array['a', 'b'], timeout_ms => 0)",
            "22023",
        ),
        (
            "salesai.classify(n.content, array['a', 'b'], timeout_ms => 1)",
            "57014",
        ),
    ] {
        for switch in ["on", "off"] {
            session.run(&format!("set salesai.batch_operators = {switch}"));
            let sql = format!("select {call} from note n");
            session.refusal(&sql, &[]).assert_is(sqlstate, &sql);
        }
        session.run("set salesai.batch_operators = on");
    }
    session.run("set statement_timeout = 500");
    let endless = "select salesai.summarize(repeat('The plant in Tarrow loses hours. ', 30) || g) from generate_series(1, 500) g";
    session.refusal(endless, &[]).assert_is("57014", endless);
    session.run("reset statement_timeout");
    let count = session
        .rows(&format!("select {CLASSIFY} from note n"), &[])
        .len();
    assert_eq!(count as i64, NOTES);
    let log = world::shared().log();
    assert!(!log.contains("PANIC") && !log.contains("was terminated by signal"));
}

/// Goal: more rows than a batch has, and documents of which a few fill a call, come out in their order.
#[test]
fn many_and_large() {
    let mut session = session();
    let sql = "select g, salesai.sentiment(case when g % 2 = 0 then 'We love it.' end || '') is null from generate_series(1, 3000) g";
    let rows = session.rows(sql, &[]);
    assert_eq!(rows.len(), 3000);
    for (row, number) in rows.iter().zip(1..) {
        assert_eq!(row.get::<_, i32>(0), number);
        assert_eq!(row.get::<_, bool>(1), number % 2 == 1);
    }
    let batches = batches(&mut session, sql).expect("a batching node");
    assert!((3..100).contains(&batches), "{batches} batches");
    session.run("create temporary table large as select g as id, repeat('large ', 1000000) || g as content from generate_series(1, 8) g");
    let sql = "select n.id, salesai.classify(n.content, array['a', 'b']) from large n order by 1";
    // Each is too long for the model, which is its own error.
    let rows = session.rows(sql, &[]);
    assert!(
        rows.iter()
            .all(|row| row.get::<_, Option<String>>(1).is_none())
    );
    assert_eq!(rows.len(), 8);
}

/// Goal: nothing is done where the library is not loaded before a query is planned; a session may load it.
#[test]
fn only_where_loaded() {
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
    let mut session = cluster.connect();
    session.run("create extension vector; create extension pg_salesai; create table note (id integer, content text);
         insert into note values (1, 'Please call.')");
    let mut session = cluster.connect();
    let sql = format!("select {CLASSIFY} from note n");
    let plan = session.text(&format!("explain {sql}"));
    assert!(!plan.contains("SalesaiBatch"), "{plan}");
    session.run("load 'pg_salesai'");
    let plan = session.text(&format!("explain {sql}"));
    assert!(plan.contains("SalesaiBatch"), "{plan}");
}

/// A session with tables of its own.
fn session() -> Session {
    let mut session = world::shared().connect();
    session.run(&format!(
        "create temporary table person (id integer, name text);
         insert into person values (1, 'Ada'), (2, 'Ben'), (3, 'Cleo'), (4, 'Dan');
         create temporary table note (id integer, person integer, content text, label text);
         insert into note select g, g % 3 + 1, (array['Please send the order form.', 'The weather was fine.', null,
             'Could you call me back?', 'Lunch was good.'])[g % 5 + 1] from generate_series(1, {NOTES}) g;
         create temporary table older (id integer, content text, label text);
         insert into older values (101, 'We need a discount.', null);
         create temporary table newer (check (id > 500)) inherits (older);
         insert into newer values (501, 'Can we talk on Friday?', null);
         analyze note; analyze person; analyze older"
    ));
    session
}

/// The rows of a query as text.
fn together(session: &mut Session, sql: &str) -> Vec<String> {
    session.column(&format!("select a::text from ({sql}) a"), &[])
}

fn alone(session: &mut Session, sql: &str) -> Vec<String> {
    session.run("set salesai.batch_operators = off");
    let rows = together(session, sql);
    session.run("set salesai.batch_operators = on");
    rows
}

/// Batches that the nodes of a query asked about; None where it has no such nodes.
fn batches(session: &mut Session, sql: &str) -> Option<i64> {
    let plan = session.text(&format!("explain (analyze, format json) {sql}"));
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    fn sum(node: &Value) -> Option<i64> {
        let own = node["Batches"].as_i64();
        let children = node["Plans"].as_array().into_iter().flatten();
        children
            .map(sum)
            .fold(own, |sum, child| match (sum, child) {
                (Some(sum), Some(child)) => Some(sum + child),
                (sum, child) => sum.or(child),
            })
    }
    sum(&plan[0]["Plan"])
}
