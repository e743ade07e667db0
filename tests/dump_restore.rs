//! A database that was dumped and restored elsewhere is the same database.

use tests::adapter::Adapter;
use tests::cluster::{Cluster, DATABASE, Settings};
use tests::process;
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world;

const QUERIES: [&str; 5] = [
    "discount on the list price",
    "liability and governing law",
    "single sign-on and security review",
    "why did we lose the deal",
    "who signs the contract",
];
const QUESTION: &str = "Why is the Halden Freight deal stuck?";

/// Goal: rows, search results, answers, originals and sequences survive; nothing is there twice.
#[test]
fn restored_database_is_the_same() {
    let origin = world::shared();
    // Of several parts.
    Adapter::new(32, 5).register(&mut origin.connect(), "t/dump");
    origin.connect().run(
        "select salesai.prompt_template_create('agg', 'Short. {instruction}', note => 'dump');
         insert into salesai.prompt_template_case (task, documents, arguments, expectation, expected)
         values ('agg', '{a}', '{\"instruction\": \"b\"}', 'contains', '\"c\"')",
    );
    let copy = restore(origin);
    let (mut before, mut after) = (origin.connect(), copy.connect());
    assert_eq!(row_counts(&mut after), row_counts(&mut before));
    for query in QUERIES {
        assert_eq!(
            results(&mut after, query),
            results(&mut before, query),
            "{query}"
        );
    }
    assert_eq!(answer(&mut after), answer(&mut before));
    assert_eq!(originals(&mut after), originals(&mut before));
    let whole =
        "select salesai.inspect_adapter(adapter_id) ->> 'sha256' = sha256 and state = 'active'
                 from salesai.adapters where name = 't/dump'";
    assert!(after.one::<bool>(whole, &[]), "the adapter's bytes");
    ids_go_on(&mut after);
    after.run("begin; create extension if not exists pg_salesai; rollback");
    let doubled: i64 = after.one(
        "select count(*) - count(distinct role_name) from salesai.principal",
        &[],
    );
    assert_eq!(doubled, 0);
}

/// Goal: boosts that somebody changed are those of the copy, whose table has a row of its own.
#[test]
fn boosts_are_restored() {
    let settings = Settings {
        worker: false,
        ..Settings::new(Sidecar::shared().socket())
    };
    let origin = Cluster::start(&settings);
    origin
        .connect()
        .run("select salesai.rebuild_lexical_index(2, 0.5)");
    let boosts: Vec<String> = restore(&origin).connect().column(
        "select row(heading_boost, speaker_boost)::text from salesai.lexical_index",
        &[],
    );
    assert_eq!(boosts, ["(2,0.5)"]);
}

fn restore(origin: &Cluster) -> Cluster {
    // The same key file, no worker, so that nothing changes the copy.
    let settings = Settings {
        worker: false,
        ..Settings::new(Sidecar::shared().socket())
    };
    let copy = Cluster::start_empty(&settings);
    // Roles belong to the cluster, not to the database; the extension makes its own.
    let roles: Vec<String> = origin.connect().column(
        "select format('create role %I login', rolname) from pg_roles
         where rolname !~ '^(pg_|salesai_)' and rolname <> 'postgres'",
        &[],
    );
    for role in roles {
        copy.connect().run(&role);
    }
    // Written into the copy's own directory, which the servers' user may write.
    let file = copy.dir().join("dump");
    process::run(
        origin
            .client_program("pg_dump")
            .args(["-Fc", DATABASE, "-f"])
            .arg(&file),
    );
    process::run(
        copy.client_program("pg_restore")
            .args(["--exit-on-error", "-d", DATABASE])
            .arg(&file),
    );
    copy
}

fn row_counts(session: &mut Session) -> Vec<(String, i64)> {
    let tables: Vec<String> = session.column(
        // What a restore makes anew has its rows in another form; what can be made again is not dumped.
        "select relname::text from pg_class
         where relnamespace = 'salesai'::regnamespace and relkind = 'r'
           and relname !~ '^(job_count|lexical_.*|posting_list|result_cache)$' order by 1",
        &[],
    );
    assert!(
        tables
            .iter()
            .any(|table| table.starts_with("embedding_") && table != "embedding_set")
    );
    tables
        .into_iter()
        .map(|table| {
            let count = session.one(&format!("select count(*) from salesai.{table}"), &[]);
            (table, count)
        })
        .collect()
}

fn results(session: &mut Session, query: &str) -> Vec<String> {
    let rows = session.column("select h::text from salesai.search($1) h", &[&query]);
    assert!(!rows.is_empty());
    rows
}

fn answer(session: &mut Session) -> (Option<String>, Option<String>) {
    session.run("begin transaction read only");
    let row = session.row(
        "select i.answer, i.citations::text from salesai.insight($1, account => 'Halden Freight') i",
        &[&QUESTION],
    );
    session.run("commit");
    (row.get(0), row.get(1))
}

fn originals(session: &mut Session) -> String {
    session.one(
        "select md5(string_agg(md5(salesai.original(id)), '' order by id)) from salesai.interaction",
        &[],
    )
}

fn ids_go_on(session: &mut Session) {
    let highest: i64 = session.one("select max(id) from salesai.interaction", &[]);
    let next: i64 = session.one(
        "select salesai.ingest_note('test', 'after', 'Ids go on.')",
        &[],
    );
    assert!(next > highest, "id {next} after {highest}");
}
