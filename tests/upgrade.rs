//! Databases of released versions become what a fresh one is, with their data.

use std::fs;
use std::process::{Command, Stdio};

use tests::cluster::{Cluster, DATABASE, Settings};
use tests::config::repository;
use tests::deal_room;
use tests::process;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world;

const QUESTION: &str = "When does the audit committee sit?";

/// All that the extension consists of, one line each: members, then what each of them is.
const DESCRIPTION: &str = "
    with extension as (select * from pg_extension where extname = 'pg_salesai'),
    member as (
        select d.classid, d.objid from pg_depend d join extension e on d.refobjid = e.oid
        where d.refclassid = 'pg_extension'::regclass and d.deptype = 'e'),
    relation as (
        select c.* from pg_class c join member m on m.classid = 'pg_class'::regclass and m.objid = c.oid),
    acl as (
        select 'function' as kind, p.oid::regprocedure::text as name, p.proacl as acl
        from pg_proc p join member m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
        union all
        select 'relation', r.oid::regclass::text, r.relacl from relation r)
    select 'member ' || pg_describe_object(m.classid, m.objid, 0) as line from member m
    union all
    select 'function ' || pg_get_functiondef(p.oid)
    from pg_proc p join member m on m.classid = 'pg_proc'::regclass and m.objid = p.oid
    where p.prokind <> 'a'
    union all
    select concat_ws(' ', 'aggregate', a.aggfnoid::regprocedure, a.aggtransfn, a.aggtranstype::regtype, a.aggfinalfn, a.agginitval, p.proparallel)
    from pg_aggregate a join pg_proc p on p.oid = a.aggfnoid join member m on m.classid = 'pg_proc'::regclass and m.objid = a.aggfnoid
    union all
    select 'comment ' || pg_describe_object(d.classoid, d.objoid, d.objsubid) || ' ' || d.description
    from pg_description d join member m on m.classid = d.classoid and m.objid = d.objoid
    union all
    select 'acl ' || a.kind || ' ' || a.name || ' ' || coalesce((select string_agg(i::text, ' ' order by i::text) from unnest(a.acl) i), 'default')
    from acl a
    union all
    select 'initial acl ' || pg_describe_object(i.classoid, i.objoid, i.objsubid) || ' '
        || (select string_agg(p::text, ' ' order by p::text) from unnest(i.initprivs) p)
    from pg_init_privs i join member m on m.classid = i.classoid and m.objid = i.objoid
    union all
    select concat_ws(' ', 'relation', r.oid::regclass, r.relkind, r.relrowsecurity, r.relforcerowsecurity, r.reloptions)
    from relation r
    union all
    select concat_ws(' ', 'column', r.oid::regclass, row_number() over (partition by r.oid order by a.attnum), a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
        a.attidentity, a.attgenerated, a.attstorage, pg_get_expr(d.adbin, d.adrelid))
    from relation r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
    union all
    select 'constraint ' || r.oid::regclass || ' ' || c.conname || ' ' || pg_get_constraintdef(c.oid)
    from relation r join pg_constraint c on c.conrelid = r.oid
    union all
    select 'index ' || pg_get_indexdef(i.indexrelid) from relation r join pg_index i on i.indrelid = r.oid
    union all
    select 'trigger ' || pg_get_triggerdef(t.oid) from relation r join pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal
    union all
    select concat_ws(' ', 'policy', r.oid::regclass, p.polname, p.polcmd, p.polpermissive, pg_get_expr(p.polqual, r.oid),
        '/', pg_get_expr(p.polwithcheck, r.oid))
    from relation r join pg_policy p on p.polrelid = r.oid
    union all
    select 'view ' || r.oid::regclass || ' ' || pg_get_viewdef(r.oid) from relation r where r.relkind = 'v'
    union all
    select 'type ' || t.oid::regtype || ' ' || (select string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' order by a.attnum)
        from pg_attribute a where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped)
    from pg_type t join member m on m.classid = 'pg_type'::regclass and m.objid = t.oid where t.typtype = 'c'
    union all
    select 'dump ' || c.name::regclass || ' ' || c.condition
    from extension e, unnest(e.extconfig, e.extcondition) c (name, condition)";

/// Goal: an upgraded database is a fresh one with the data that it had, and answers as before.
#[test]
fn oldest_release_upgraded_equals_fresh() {
    let (_cluster, mut session) = upgraded("0.1.0", |session| {
        session
            .refusal(
                "select salesai.insight('Why?', adapter => 'x', account => 'Halden Freight')",
                &[],
            )
            .assert_is("55000", "an adapter in an old schema");
    });
    let next: i64 = session.one(
        "select salesai.ingest_note('t', 'after', 'Ids go on.')",
        &[],
    );
    let highest: i64 = session.one(
        "select max(id) from salesai.interaction where id <> $1",
        &[&next],
    );
    assert!(next > highest);
}

/// Goal: the same from the release before this one.
#[test]
fn last_release_upgraded_equals_fresh() {
    upgraded("0.2.0", |_| ());
}

/// A database of a released version with data, upgraded; `check` is run before.
fn upgraded(released: &str, check: impl Fn(&mut Session)) -> (Cluster, Session) {
    let cluster = Cluster::start_empty(&Settings::new(Sidecar::shared().socket()));
    let mut session = cluster.connect();
    session.run(&format!(
        "create extension vector; create extension pg_salesai version '{released}'"
    ));
    deal_room::load(&mut session, |entry| entry["account"] == "Halden Freight");
    world::drain(&mut session);
    // The new library serves the old schema until its owner upgrades it.
    let old_answer = answer(&mut session);
    check(&mut session);
    let columns = columns(&mut session);
    let data = data(&mut session, &columns);

    session.run("alter extension pg_salesai update");

    let version: String = session.one(
        "select extversion from pg_extension where extname = 'pg_salesai'",
        &[],
    );
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    assert_eq!(self::data(&mut session, &columns), data);
    assert_eq!(answer(&mut session), old_answer);
    world::assert_settled(&mut session);
    assert_eq!(description(&mut session), fresh_description(&cluster));
    (cluster, session)
}

/// Goal: released scripts are what they were when they were released.
#[test]
fn released_scripts_are_frozen() {
    let list =
        fs::read_to_string(repository().join("sql/upgrade/frozen.txt")).expect("read the list");
    let released = fs::read_dir(repository().join("sql/released")).expect("read sql/released");
    for script in released {
        let name = script.expect("a script").file_name();
        let name = name.to_string_lossy();
        assert!(
            list.contains(&format!("  sql/released/{name}\n")),
            "{name} is not in frozen.txt"
        );
    }
    let lines: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!lines.is_empty());
    let list = process::new_dir("f").join("frozen");
    fs::write(&list, lines.join("\n") + "\n").expect("write the list");
    let check = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet"])
        .arg(&list)
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .expect("run sha256sum");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
}

fn description(session: &mut Session) -> Vec<String> {
    let mut lines: Vec<String> = session.column(DESCRIPTION, &[]);
    lines.sort();
    lines
}

fn fresh_description(cluster: &Cluster) -> Vec<String> {
    cluster.connect().run("create database fresh");
    let mut session = cluster.connect_to("postgres", "fresh");
    session.run("create extension vector; create extension pg_salesai");
    description(&mut session)
}

/// Tables with data that the released version has, and their columns.
fn columns(session: &mut Session) -> Vec<(String, String)> {
    let rows = session.rows(
        "select c.oid::regclass::text, string_agg(quote_ident(a.attname), ', ' order by a.attnum)
         from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and a.attgenerated = ''
         where c.relnamespace = 'salesai'::regnamespace and c.relkind = 'r'
           and c.relname not in ('model', 'adapter', 'adapter_part', 'insight')
         group by c.oid order by 1",
        &[],
    );
    assert!(rows.len() >= 15, "{} tables in {DATABASE}", rows.len());
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// A digest of these columns of each table.
fn data(session: &mut Session, columns: &[(String, String)]) -> Vec<String> {
    columns
        .iter()
        .map(|(table, columns)| {
            session.one(
                &format!(
                    "select count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '')
                     from (select {columns} from {table}) t"
                ),
                &[],
            )
        })
        .collect()
}

/// The first sentence, and what it cites: search has changed, and what else it finds may be another.
fn answer(session: &mut Session) -> (Option<String>, Option<String>) {
    session.run("begin transaction read only");
    let row = session.row(
        "select split_part(i.answer, ' [', 1), (i.citations)[1]::text from salesai.insight($1, account => 'Halden Freight') i",
        &[&QUESTION],
    );
    session.run("commit");
    (row.get(0), row.get(1))
}
