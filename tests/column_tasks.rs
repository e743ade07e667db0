//! Derived columns: kept up to date through the queue, with the rights of the table's owner, each value exactly once.

use std::time::Duration;

use tests::cluster::{Cluster, DATABASE, Settings};
use tests::measure::wait_until;
use tests::process::{self, signal};
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::World;

const LIMIT: Duration = Duration::from_secs(120);
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

/// Goal: who owns the table has the task, and nobody else; its code runs with that role's rights alone, and a right that
/// is taken away stops it visibly.
#[test]
fn rights_are_those_of_the_owner() {
    let cluster = without_workers();
    let mut admin = cluster.connect();
    admin.run(
        "create role c_owner login in role salesai_rep; create role c_other login in role salesai_rep; create role c_writer login;
         create schema own authorization c_owner; grant usage on schema own to c_writer, c_other",
    );
    let mut owner = cluster.connect_as("c_owner");
    owner.run(
        "create table own.notes (id int primary key, body text, mood text, by text, visible boolean default true);
         alter table own.notes enable row level security; alter table own.notes force row level security;
         create policy visible_ones on own.notes to c_owner using (visible) with check (true);
         create policy all_of on own.notes to c_writer using (true);
         grant select, insert, update on own.notes to c_writer;
         create function own.note_writer() returns trigger language plpgsql as $$
             begin new.by := current_user || ' ' || current_setting('role'); return new; end $$;
         create trigger who before update on own.notes for each row execute function own.note_writer();
         create function own.words(body text) returns text language plpgsql as $$
             begin
                 if current_user <> 'c_owner' then raise exception 'words for %', current_user; end if;
                 return body;
             end $$",
    );
    let sql =
        "select salesai.column_task('own.notes', 'mood', 'sentiment', source => 'own.words(body)')";
    let mut other = cluster.connect_as("c_other");
    other.refusal(sql, &[]).assert_is("42501", "not the owner");
    let task: i64 = owner.one(sql, &[]);
    // Who writes knows nothing of salesai.
    cluster.connect_as("c_writer").run(
        "insert into own.notes (id, body, visible) values (1, 'We love it.', true), (2, 'We hate it.', false)",
    );
    // The owner's trigger changes the row once more, which asks for nothing.
    assert_eq!(admin.one::<i32>(PROCESS, &[]), 2);
    let by: Vec<String> = admin.column(
        "select concat_ws(' ', id, mood is not null, by) from own.notes order by id",
        &[],
    );
    assert_eq!(by, ["1 t c_owner c_owner", "2 f"]);
    for sql in [
        "select salesai.column_task_drop($1)",
        "select salesai.column_task_pause($1)",
        "select salesai.column_task_retry($1)",
        "select salesai.column_task_backfill($1)",
    ] {
        other.refusal(sql, &[&task]).assert_is("P0002", sql);
    }
    let seen: i64 = other.one(
        "select (select count(*) from salesai.column_tasks) + (select count(*) from salesai.column_value)",
        &[],
    );
    assert_eq!(seen, 0);
    let forged = "insert into salesai.column_task (relation, owner_name, target_column, source, is_expression, key_columns, operator, arguments, options)
        values ('own.notes', 'c_owner', 'by', '1', true, '{id}', 'sentiment', '{}', '{}')";
    other
        .refusal(forged, &[])
        .assert_is("42501", "another's table");
    code_of_others_stays_theirs(&mut admin, &mut owner);
    // Rights that go.
    for (harm, said, mend) in [
        (
            "revoke salesai_rep from c_owner",
            "may not use salesai",
            "grant salesai_rep to c_owner",
        ),
        (
            "alter table own.notes owner to c_other",
            "belongs to role",
            "alter table own.notes owner to c_owner",
        ),
        (
            "revoke update on own.notes from c_owner",
            "may not read",
            "grant update on own.notes to c_owner",
        ),
    ] {
        admin.run(harm);
        admin.run("update own.notes set body = body || '!' where id = 1");
        assert_eq!(admin.one::<i32>(PROCESS, &[]), 0, "{harm}");
        let told: String = admin.one(
            "select state || ': ' || last_error from salesai.column_tasks",
            &[],
        );
        assert!(
            told.starts_with("blocked: ") && told.contains(said),
            "{told}"
        );
        admin.run(mend);
        admin.run(&format!("select salesai.column_task_resume({task})"));
        assert!(admin.one::<i32>(PROCESS, &[]) > 0, "{mend}");
    }
}

/// Nothing of the owner's code runs with the rights of a worker, of salesai or of who calls `process()`.
fn code_of_others_stays_theirs(admin: &mut Session, owner: &mut Session) {
    // Deferred triggers and held cursors would run at the end of the transaction.
    owner.run(
        "create table own.log (id int primary key, who text);
         create table own.ran (who text);
         create function own.tell() returns trigger language plpgsql as $$
             begin insert into own.ran values (current_user); return null; end $$;
         create constraint trigger late after insert on own.log deferrable initially deferred for each row execute function own.tell();
         create function own.log_it() returns trigger language plpgsql as $$
             begin insert into own.log values (new.id) on conflict do nothing; return null; end $$;
         create trigger log_it after update on own.notes for each row execute function own.log_it()",
    );
    owner.run("update own.notes set body = 'We love it, and more.' where id = 1");
    owner.run("truncate own.log, own.ran");
    assert_eq!(admin.one::<i32>(PROCESS, &[]), 0);
    let told: String = admin.one(
        "select state || ': ' || last_error from salesai.column_tasks",
        &[],
    );
    assert!(told.contains("deferred trigger"), "{told}");
    assert_eq!(admin.one::<i64>("select count(*) from own.ran", &[]), 0);
    owner.run("drop trigger log_it on own.notes; select salesai.column_task_resume(id) from salesai.column_tasks");
    assert!(admin.one::<i32>(PROCESS, &[]) > 0);
    // The trigger of salesai on a table of the owner's, with a table of the owner's in place of what changed.
    owner.run(
        "create function pg_temp.mine() returns int language plpgsql as $$ begin insert into own.ran values (current_user); return 1; end $$;
         create temp view new_rows as select pg_temp.mine() as id, 'x' as body;
         create temp view old_rows as select 1 as id, 'y' as body;
         create trigger forged after insert or update on own.notes for each row execute function salesai.note_changed_rows()",
    );
    for sql in [
        "insert into own.notes (id, body) values (9, 'x')",
        "update own.notes set body = 'y' where id = 1",
    ] {
        owner.refusal(sql, &[]).assert_is("39P01", sql);
    }
    assert_eq!(admin.one::<i64>("select count(*) from own.ran", &[]), 0);
    owner.run(
        "drop trigger forged on own.notes; drop view pg_temp.new_rows; drop view pg_temp.old_rows",
    );
}

/// Goal: while the model is at work nothing is held; a change meanwhile is asked again; a worker that dies is replaced,
/// and no row is written twice or waits for ever.
#[test]
fn workers_hold_nothing_and_lose_nothing() {
    let world = World::start();
    let mut session = world.cluster.connect();
    session.run(
        "create table notes (id int primary key, body text, mood text, writes int not null default 0);
         create function count_writes() returns trigger language plpgsql as $$
             begin new.writes := old.writes + 1; return new; end $$;
         create trigger count_writes before update of mood on notes for each row execute function count_writes();
         insert into notes select g, 'We talked about offer ' || g || '.' from generate_series(1, 40) g",
    );
    let task: i64 = session.one(
        "select salesai.column_task('notes', 'mood', 'sentiment', source => 'body')",
        &[],
    );
    let holder = stall(&world, &mut session);
    let mut busy = 0;
    for _ in 0..10 {
        let held: Vec<String> = session.column(HELD, &[]);
        busy = if held.is_empty() { 0 } else { busy + 1 };
        assert!(busy <= 5, "the worker holds {held:?} for {busy} polls");
        std::thread::sleep(Duration::from_millis(200));
    }
    // One of those that are being asked, and one that was. A crash loses it unless it is on disk.
    session.run("set synchronous_commit = on");
    let changed: Vec<i32> = session.column(
        "update notes set body = 'Changed: ' || body
         where id in (select min(key[1]::int) from salesai.column_value where state in ('running', 'done') group by state) returning id",
        &[],
    );
    assert_eq!(changed.len(), 2);
    let leased: i64 = session.one(RUNNING, &[]);
    assert!(leased > 0, "the others of its batch");
    signal("-KILL", holder.unsigned_abs());
    wait_until("PostgreSQL notices", Duration::from_secs(30), || {
        session.is_closed()
    });
    world.cluster.wait_until_up();
    world.sidecar.resume();
    let mut session = world.cluster.connect();
    wait_until("all rows are done", LIMIT, || {
        state(&mut session, task) == "idle 40 done, 0 waiting, 0 failed, 0 stale"
    });
    assert_eq!(session.one::<i64>(RIGHT, &[]), 40);
    let writes: Vec<String> = session.column(
        "select format('%s rows %s times', count(*), writes) from notes group by writes order by writes",
        &[],
    );
    assert_eq!(writes, ["39 rows 1 times", "1 rows 2 times"]);
    open_transactions(&world, &mut session, task);
}

/// Who has changed a row and does not commit holds up that row alone; nobody waits for a worker.
fn open_transactions(world: &World, session: &mut Session, task: i64) {
    let mut hesitant = world.cluster.connect();
    hesitant.run("begin; update notes set body = 'Open: ' || body where id = 1");
    session.run("update notes set body = 'Again: ' || body where id > 35");
    wait_until("the others are done", LIMIT, || {
        session.one::<i64>(
            "select count(*) from salesai.column_value where task_id = $1 and state <> 'done'",
            &[&task],
        ) == 0
    });
    hesitant.run("update notes set body = body || '.' where id = 2; commit");
    wait_until("all are done", LIMIT, || {
        session.one::<i64>(RIGHT, &[]) == 40
    });
    // Without the sidecar all waits, and says why.
    world.sidecar.stop();
    session.run("update notes set body = 'Late: ' || body where id = 3");
    wait_until("the outage is told", LIMIT, || {
        session.one::<bool>(
            "select state = 'blocked' and error_code = '58000' and waiting = 1 from salesai.column_tasks
             join salesai.column_task t using (id)",
            &[],
        )
    });
    world.sidecar.launch();
    wait_until("it goes on", LIMIT, || {
        state(session, task) == "idle 40 done, 0 waiting, 0 failed, 0 stale"
    });
    let attempts: i32 = session.one("select max(attempts) from salesai.column_value", &[]);
    assert_eq!(attempts, 0);
}

/// Rows whose value is of what they say now.
const RIGHT: &str =
    "select count(*) from notes n join salesai.column_value v on v.key = array[n.id::text]
    where n.mood in ('positive', 'neutral', 'negative', 'mixed') and v.state = 'done'
      and v.source_sha256 = encode(sha256(convert_to(n.body, 'UTF8')), 'hex')";
const RUNNING: &str = "select count(*) from salesai.column_value where state = 'running'";

/// Stops the sidecar while it is asked about rows, after others are done; who has them leased.
fn stall(world: &World, session: &mut Session) -> i32 {
    wait_until("the first rows are done", LIMIT, || {
        session.one::<bool>("select count(*) > 0 from notes where mood is not null", &[])
    });
    for _ in 0..20 {
        world.sidecar.pause();
        // What was on its way is kept by then.
        std::thread::sleep(Duration::from_millis(300));
        let holders: Vec<i32> = session.column(
            "select holder_pid from salesai.column_value where state = 'running' group by 1 having count(*) > 1",
            &[],
        );
        if let [holder, ..] = holders[..] {
            return holder;
        }
        world.sidecar.resume();
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the sidecar was never stalled while it was asked");
}

/// As in `submitted.rs`.
const HELD: &str = "select held from pg_stat_activity a
    cross join lateral (
        select 'backend_xmin ' || a.backend_xmin where a.backend_xmin is not null
        union all select 'backend_xid ' || a.backend_xid where a.backend_xid is not null
        union all select 'transaction since ' || a.xact_start where a.xact_start is not null
        union all select l.locktype || ' ' || l.mode from pg_locks l where l.pid = a.pid) h (held)
    where a.backend_type = 'pg_salesai worker'";

fn without_workers() -> Cluster {
    Cluster::start(&Settings {
        worker: false,
        ..Settings::new(Sidecar::shared().socket())
    })
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
