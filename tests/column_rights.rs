//! Derived columns and rights: the owner of a table has its tasks, and its code runs with nobody else's rights.

use tests::session::Session;
use tests::world;

const PROCESS: &str = "select salesai.process(1000)";

/// Goal: who owns the table has the task, and nobody else; its code runs with that role's rights alone, and a right that
/// is taken away stops it visibly.
#[test]
fn rights_are_those_of_the_owner() {
    let cluster = world::cluster(false);
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
             end $$;
         insert into own.notes (id, body) values (3, 'We are fine.')",
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
    // The owner's trigger changes each row once more, which asks for nothing.
    assert_eq!(admin.one::<i32>(PROCESS, &[]), 4);
    let by: Vec<String> = admin.column(
        "select concat_ws(' ', id, mood is not null, by) from own.notes order by id",
        &[],
    );
    assert_eq!(by, ["1 t c_owner c_owner", "2 f", "3 t c_owner c_owner"]);
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
    rows_that_are_denied(&mut admin, &mut owner);
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

/// A right that is missing for some rows fails those, and blocks the task only where no row gets through.
fn rows_that_are_denied(admin: &mut Session, owner: &mut Session) {
    owner.run(
        "create or replace function own.words(body text) returns text language plpgsql as $$
             begin
                 if current_user <> 'c_owner' then raise exception 'words for %', current_user; end if;
                 if body like 'Sealed%' then raise insufficient_privilege using message = 'it is sealed'; end if;
                 return body;
             end $$;
         alter policy visible_ones on own.notes with check (id <> 5)",
    );
    admin.run("insert into own.notes (id, body) values (4, 'Sealed.'), (5, 'We like it.'), (6, 'We like it too.')");
    assert!(admin.one::<i32>(PROCESS, &[]) > 0);
    let errors = "select concat_ws(' ', key[1], state, class, code) from salesai.column_task_errors order by 1";
    assert_eq!(
        admin.column::<String>(errors, &[]),
        [
            "4 failed record_permanent 42501",
            "5 failed record_permanent 42501"
        ]
    );
    let state = "select state || coalesce(': ' || last_error, '') from salesai.column_tasks";
    let told: String = admin.one(state, &[]);
    assert!(told.starts_with("idle: "), "{told}");
    owner.run("select salesai.column_task_retry(id) from salesai.column_tasks");
    assert_eq!(admin.one::<i32>(PROCESS, &[]), 0);
    let told: String = admin.one(state, &[]);
    assert!(
        told.starts_with("blocked: ") && told.contains("row-level security"),
        "{told}"
    );
    owner.run(
        "alter policy visible_ones on own.notes with check (true);
         select salesai.column_task_resume(id) from salesai.column_tasks",
    );
    assert!(admin.one::<i32>(PROCESS, &[]) > 0);
    admin.run("delete from own.notes where id > 3");
    admin.one::<i32>(PROCESS, &[]);
    assert_eq!(admin.one::<String>(state, &[]), "idle");
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
    // What its code sets is gone with its rights: names would mean to the next what the owner makes of them.
    owner.run(
        "create function own.stay() returns trigger language plpgsql as $$
             begin
                 if session_user <> current_user then
                     perform set_config('search_path', 'own', false), set_config('statement_timeout', '1', false);
                 end if;
                 return new;
             end $$;
         create trigger stay before update on own.notes for each row execute function own.stay()",
    );
    let settings = "select current_setting('search_path') || current_setting('statement_timeout')";
    let before: String = admin.one(settings, &[]);
    owner.run("update own.notes set body = 'We love it, and still more.' where id = 1");
    assert!(admin.one::<i32>(PROCESS, &[]) > 0);
    assert_eq!(admin.one::<String>(settings, &[]), before);
    owner.run("drop trigger stay on own.notes");
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
