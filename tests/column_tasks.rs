//! Derived columns: rows that are there, that come and that change, errors, versions, and what becomes of the table.

use tests::cluster::{Cluster, DATABASE};
use tests::process;
use tests::session::Session;
use tests::world;

const MOODS: &str = "('positive', 'neutral', 'negative', 'mixed')";
const PROCESS: &str = "select salesai.process(1000)";

/// Goal: rows that are there, that come, that change, and that get another key have the value that the operator gives;
/// what is only written, is not asked again; what goes, goes from the list too.
#[test]
fn column_follows_its_source() {
    let cluster = without_workers();
    let mut session = cluster.connect();
    notes(&mut session, 5);
    let task: i64 = session.one(
        "select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
        &[],
    );
    assert_eq!(session.one::<i32>(PROCESS, &[]), 5);
    let right: bool = session.one(
        &format!("select bool_and(mood in {MOODS} and mood = salesai.sentiment(body)) from notes"),
        &[],
    );
    assert!(right);
    assert_eq!(
        state(&mut session, task),
        "idle 5 done, 0 waiting, 0 failed, 0 stale"
    );
    // The value's own column, others, and equal texts ask for nothing.
    session.run("update notes set mood = mood, seen = seen + 1; update notes set body = body");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
    // A rollback never was.
    session.run("begin; insert into notes (id, body) values (99, 'Never said.'); rollback");
    session.run(
        "insert into notes (id, body) values (6, 'We will cancel the contract.'), (7, null), (8, ' ');
         update notes set body = 'We love it more than ever.' where id = 2;
         update notes set id = 30 where id = 3;
         update notes set mood = 'mixed' where id = 1;
         delete from notes where id = 4",
    );
    assert_eq!(session.one::<i32>(PROCESS, &[]), 5);
    let right: bool = session.one(
        "select bool_and(mood is not distinct from salesai.sentiment(body)) from notes where id <> 1",
        &[],
    );
    assert!(right, "blank ones have NULL");
    let keys: Vec<String> = session.column(
        "select key[1] from salesai.column_value where task_id = $1 order by 1",
        &[&task],
    );
    assert_eq!(keys, ["1", "2", "30", "5", "6", "7", "8"]);
    // Back to what it was before a worker came: nothing is asked.
    session.run("update notes set body = body || '!' where id = 5; update notes set body = rtrim(body, '!') where id = 5");
    let before: i64 = generations(&mut session);
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    assert_eq!(generations(&mut session), before);
    restored_copy_goes_on(&cluster);
    session.run("truncate notes");
    assert_eq!(
        state(&mut session, task),
        "idle 0 done, 0 waiting, 0 failed, 0 stale"
    );
    session.run(&format!("select salesai.column_task_drop({task})"));
    let left: i64 = session.one(
        "select count(*) from pg_trigger where tgrelid = 'notes'::regclass",
        &[],
    );
    assert_eq!(left, 0);
    every_operator(&mut session);
    odd_keys(&mut session);
    disappearing_tables(&mut session);
    refusals(&mut session);
}

/// A dump has the tasks, and what is known of each row.
fn restored_copy_goes_on(cluster: &Cluster) {
    let file = cluster.dir().join("dump");
    process::run(
        cluster
            .client_program("pg_dump")
            .args(["-Fc", DATABASE, "-f"])
            .arg(&file),
    );
    cluster.connect().run("create database copy");
    process::run(
        cluster
            .client_program("pg_restore")
            .args(["--exit-on-error", "-d", "copy"])
            .arg(&file),
    );
    let mut copy = cluster.connect_to("postgres", "copy");
    assert_eq!(copy.one::<i32>(PROCESS, &[]), 0, "all is known");
    copy.run("update notes set body = 'We are angry.' where id = 2; insert into notes (id, body) values (50, 'Fine.')");
    assert_eq!(copy.one::<i32>(PROCESS, &[]), 2);
}

/// Every operator, its target made where there is none; expressions; a column that rests on another task's.
fn every_operator(session: &mut Session) {
    session.run(
        "create table calls (id bigint primary key, subject text, body text, kind varchar(20));
         insert into calls values (1, 'Renewal', 'Please send the order form. Priya decides on Friday.', null);
         select salesai.column_task('calls', 'kind', 'classify', source => 'subject || '': '' || body', labels => array['request', 'small talk']);
         select salesai.column_task('calls', 'asks', 'is_true', source => 'body', statement => 'The writer asks for something.');
         select salesai.column_task('calls', 'facts', 'extract', source => 'body', fields => array['decider', 'day']);
         select salesai.column_task('calls', 'gist', 'summarize', source => 'body');
         select salesai.column_task('calls', 'advice', 'generate', source => 'gist', instruction => 'Name the next step.')",
    );
    session.one::<i32>(PROCESS, &[]);
    let row = session.row(
        "select kind in ('request', 'small talk'), facts ? 'decider' and facts ? 'day', gist <> '' and advice <> '',
             asks is not distinct from salesai.is_true('The writer asks for something.', body),
             pg_typeof(asks)::text || ' ' || pg_typeof(facts) || ' ' || pg_typeof(gist)
         from calls",
        &[],
    );
    for place in 0..4 {
        assert!(row.get::<_, bool>(place), "value {place}");
    }
    assert_eq!(row.get::<_, &str>(4), "boolean jsonb text");
    assert_eq!(
        session.one::<i32>(PROCESS, &[]),
        0,
        "nothing asks for itself"
    );
    session.run("drop table calls");
}

/// A key is found again whatever the settings of who wrote it; names and types are anybody's.
fn odd_keys(session: &mut Session) {
    session.run(
        "create schema \"Odd %s\";
         create table \"Odd %s\".\"t'1\" (\"key\" timestamptz, \"id %1$s\" numeric(8, 2), document text, \"out\" text,
             primary key (\"id %1$s\", \"key\"));
         insert into \"Odd %s\".\"t'1\" select '2026-03-01 12:00+00'::timestamptz + g * interval '1 day', g / 4.0, 'We love it.' from generate_series(1, 9) g;
         select salesai.column_task('\"Odd %s\".\"t''1\"', 'out', 'sentiment', source => 'document');
         set timezone = 'Asia/Tokyo'; set datestyle = 'German'",
    );
    // A page at a time, in the order of the key.
    for listed in [4_i64, 4, 1] {
        let page = "select (salesai.list_column_rows(max(id), 4) ->> 'listed')::bigint from salesai.column_task";
        assert_eq!(session.one::<i64>(page, &[]), listed);
    }
    assert_eq!(session.one::<i32>(PROCESS, &[]), 9);
    session.run("update \"Odd %s\".\"t'1\" set document = 'We hate it.' where \"id %1$s\" > 1");
    session.run("reset timezone; reset datestyle");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 5);
    let right: bool = session.one(
        "select count(*) = 9 and bool_and(t.\"out\" = salesai.sentiment(t.document)) from \"Odd %s\".\"t'1\" t",
        &[],
    );
    assert!(right);
    let rows: i64 = session.one("select count(*) from salesai.column_value", &[]);
    assert_eq!(rows, 9);
    session.run("drop schema \"Odd %s\" cascade");
}

/// Renamed ones go on, dropped ones end, and what is missing is said.
fn disappearing_tables(session: &mut Session) {
    session.run("insert into notes (id, body) values (1, 'We love it.')");
    let task: i64 = session.one(
        "select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
        &[],
    );
    session.run("alter table notes rename to remarks");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    for (harm, said, mend) in [
        (
            "alter table remarks rename column body to words",
            "column \"body\"",
            "alter table remarks rename column words to body",
        ),
        (
            "alter table remarks rename column mood to tone",
            "column \"mood\"",
            "alter table remarks rename column tone to mood",
        ),
        (
            "alter table remarks disable trigger salesai_column_task_update",
            "a trigger",
            "alter table remarks enable trigger salesai_column_task_update",
        ),
        (
            "alter table remarks drop constraint notes_pkey",
            "no primary key",
            "alter table remarks add primary key (id)",
        ),
    ] {
        session.run(harm);
        session.run("insert into remarks (id, seen) values (2, 1) on conflict do nothing");
        session.run(&format!("select salesai.column_task_backfill({task})"));
        assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
        let told: String = session.one(
            "select state || ': ' || last_error from salesai.column_tasks where id = $1",
            &[&task],
        );
        assert!(
            told.starts_with("blocked: ") && told.contains(said),
            "{told}"
        );
        session.run(mend);
        session.run(&format!(
            "delete from remarks where id = 2; select salesai.column_task_resume({task})"
        ));
        session.one::<i32>(PROCESS, &[]);
        assert_eq!(
            state(session, task),
            "idle 1 done, 0 waiting, 0 failed, 0 stale",
            "{mend}"
        );
    }
    session.run("drop table remarks");
    session.one::<i32>(PROCESS, &[]);
    let left: i64 = session.one("select count(*) from salesai.column_task", &[]);
    assert_eq!(left, 0);
}

/// What cannot be kept up to date is refused at once.
fn refusals(session: &mut Session) {
    session.run(
        "create table plain (id int primary key, body text, number int, made text generated always as (body || '!') stored);
         create table keyless (body text);
         create table parts (id int primary key, body text) partition by range (id);
         create table part partition of parts for values from (0) to (9);
         create table heir () inherits (plain);
         create table alone (like plain including all);
         create view seen as select * from alone;
         create temp table fleeting (id int primary key, body text)",
    );
    for (table, arguments, sqlstate) in [
        ("keyless", "'mood', 'sentiment', 'body'", "55000"),
        ("parts", "'mood', 'sentiment', 'body'", "55000"),
        ("part", "'mood', 'sentiment', 'body'", "55000"),
        ("plain", "'mood', 'sentiment', 'body'", "55000"),
        ("seen", "'mood', 'sentiment', 'body'", "55000"),
        ("fleeting", "'mood', 'sentiment', 'body'", "55000"),
        ("salesai.account", "'mood', 'sentiment', 'name'", "55000"),
        (
            "pg_catalog.pg_class",
            "'mood', 'sentiment', 'relname'",
            "55000",
        ),
        ("alone", "'number', 'sentiment', 'body'", "55000"),
        ("alone", "'made', 'sentiment', 'body'", "55000"),
        ("alone", "'body', 'sentiment', 'body'", "55000"),
        ("alone", "'id', 'sentiment', 'body'", "55000"),
        ("alone", "'mood', 'sentiment', 'no_such_column'", "42703"),
        ("alone", "'mood', 'sentiment', 'body ||'", "42601"),
        ("alone", "'mood', 'rank', 'body'", "22023"),
        ("alone", "'mood', 'classify', 'body'", "22023"),
        (
            "alone",
            "'mood', 'sentiment', 'body', adapter => 'no-such-adapter'",
            "42704",
        ),
        ("alone", "null, 'sentiment', 'body'", "22023"),
    ] {
        let sql = format!("select salesai.column_task('{table}', {arguments})");
        session.refusal(&sql, &[]).assert_is(sqlstate, &sql);
    }
    let untouched: i64 = session.one(
        "select count(*) from pg_trigger where tgname like 'salesai_column_task%'",
        &[],
    );
    assert_eq!(untouched, 0);
    session
        .refusal("select salesai.column_task_drop(987654)", &[])
        .assert_is("P0002", "no such task");
}

/// Goal: an error is its row's, with a reason, and never another's; a change of the task asks again, with the old values
/// there until each is replaced; versions say what made a value.
#[test]
fn errors_and_versions_are_told() {
    let cluster = without_workers();
    let mut session = cluster.connect();
    notes(&mut session, 4);
    session.run(
        "alter table notes add constraint kind check (id <> 2 or mood is null);
         update notes set body = repeat('10293 ', 40000) where id = 3",
    );
    let task: i64 = session.one(
        "select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
        &[],
    );
    assert_eq!(session.one::<i32>(PROCESS, &[]), 2);
    // What the table refuses may pass, what is too long for the model does not.
    assert_eq!(
        state(&mut session, task),
        "working 2 done, 1 waiting, 1 failed, 0 stale"
    );
    for _ in 0..4 {
        assert_eq!(session.one::<i32>(PROCESS, &[]), 0, "it waits its time");
        session.run("update salesai.column_value set not_before = now() where state = 'waiting'");
        assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
    }
    let errors: Vec<String> = session.column(
        "select concat_ws(' ', key[1], state, class, code, attempts) from salesai.column_task_errors where task_id = $1 order by 1",
        &[&task],
    );
    assert_eq!(
        errors,
        [
            "2 failed record_temporary 23514 5",
            "3 failed record_permanent 54000 1"
        ]
    );
    let told: bool = session.one(
        "select not ok and state like '1, 0 blocked, 2 rows failed' from salesai.doctor() where piece = 'column_tasks'",
        &[],
    );
    assert!(told);
    session.run("alter table notes drop constraint kind");
    let retried: i64 = session.one("select salesai.column_task_retry($1)", &[&task]);
    assert_eq!(retried, 2);
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    // A change of its source asks again too.
    session.run("update notes set body = 'Short now.' where id = 3");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    // The same again is no change.
    let same: i64 = session.one(
        "select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
        &[],
    );
    assert_eq!(same, task);
    session.run(&format!("select salesai.column_task_pause({task})"));
    session.run("select salesai.column_task('notes', 'mood', 'classify', source => 'body', labels => array['risk', 'none'])");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
    assert_eq!(
        state(&mut session, task),
        "paused 0 done, 4 waiting, 0 failed, 4 stale"
    );
    let old: i64 = session.one(
        &format!("select count(*) from notes where mood in {MOODS}"),
        &[],
    );
    assert_eq!(old, 4, "old values stay");
    session.run(&format!("select salesai.column_task_resume({task})"));
    assert_eq!(session.one::<i32>(PROCESS, &[]), 4);
    let new: i64 = session.one(
        "select count(*) from notes where mood in ('risk', 'none')",
        &[],
    );
    assert_eq!(new, 4);
    let made: Vec<String> = session.column(
        "select concat_ws(' ', v.version, v.operator, v.model, length(v.model_sha256), count(r.*))
         from salesai.column_task_version v left join salesai.column_value r on r.task_id = v.task_id and r.value_version = v.version
         where v.task_id = $1 group by v.task_id, v.version order by 1",
        &[&task],
    );
    assert_eq!(
        made,
        [
            "1 sentiment smollm2-135m-instruct 64 0",
            "2 classify smollm2-135m-instruct 64 4"
        ]
    );
    // Other weights than those are noted, and asked again when somebody wants it.
    session.run("update salesai.column_task_version set model_sha256 = 'of before'; update notes set body = body || '.' where id = 1");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    assert_eq!(
        state(&mut session, task),
        "idle 4 done, 0 waiting, 0 failed, 3 stale"
    );
    // Nor does a trigger note what replication brings.
    session.run("set session_replication_role = replica; update notes set body = body || '.' where id = 1; set session_replication_role = origin");
    let before = generations(&mut session);
    session.run(&format!("select salesai.column_task_backfill({task})"));
    assert_eq!(session.one::<i32>(PROCESS, &[]), 4);
    assert_eq!(generations(&mut session) - before, 4);
    session.run(&format!("select salesai.column_task_backfill({task})"));
    assert_eq!(session.one::<i32>(PROCESS, &[]), 4);
    assert_eq!(generations(&mut session) - before, 4, "all is known");
    assert_eq!(
        state(&mut session, task),
        "idle 4 done, 0 waiting, 0 failed, 0 stale"
    );
    // So it is with another prompt.
    session.run(
        "select salesai.prompt_template_activate('classify', salesai.prompt_template_create('classify', 'Sort the document: {labels}.'), force => true);
         update notes set body = body || '!' where id = 1",
    );
    assert_eq!(session.one::<i32>(PROCESS, &[]), 1);
    assert_eq!(
        state(&mut session, task),
        "idle 4 done, 0 waiting, 0 failed, 3 stale"
    );
    for _ in 0..2 {
        session.run(&format!("select salesai.column_task_backfill({task})"));
        assert_eq!(session.one::<i32>(PROCESS, &[]), 4);
        assert_eq!(generations(&mut session) - before, 8);
        assert_eq!(
            state(&mut session, task),
            "idle 4 done, 0 waiting, 0 failed, 0 stale"
        );
    }
    // An unknown model is the task's fault, and costs its rows nothing.
    session.run("select salesai.column_task('notes', 'mood', 'sentiment', source => 'body', model => 'no-such-model')");
    assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
    let blocked: bool = session.one(
        "select t.state = 'blocked' and t.last_error like '%no-such-model%' and (select max(attempts) = 0 from salesai.column_value)
         from salesai.column_tasks t",
        &[],
    );
    assert!(blocked);
    // A source that is never the same cannot be written, and does not go on for ever.
    session.run("select salesai.column_task('notes', 'mood', 'sentiment', source => 'body || clock_timestamp()')");
    for _ in 0..5 {
        session.run("update salesai.column_value set not_before = now()");
        assert_eq!(session.one::<i32>(PROCESS, &[]), 0);
    }
    assert_eq!(
        state(&mut session, task),
        "idle 0 done, 0 waiting, 4 failed, 4 stale"
    );
}

fn without_workers() -> Cluster {
    world::cluster(false)
}

fn notes(session: &mut Session, count: i32) {
    session
        .run("create table notes (id int primary key, body text, mood text, seen int default 0)");
    session.rows(
        "insert into notes (id, body) select g, 'We are happy with offer number ' || g || '.' from generate_series(1, $1) g",
        &[&count],
    );
}

fn state(session: &mut Session, task: i64) -> String {
    session.one(
        "select format('%s %s done, %s waiting, %s failed, %s stale', state, done, waiting, failed, stale)
         from salesai.column_tasks where id = $1",
        &[&task],
    )
}

/// Texts that models wrote for this session.
fn generations(session: &mut Session) -> i64 {
    session.one(
        "select coalesce(sum(generations), 0)::bigint from salesai.operator_statistics()",
        &[],
    )
}
