//! What models made is used again, for the same rights only.

use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world;

const QUESTION: &str = "select i.answer, i.citations::text, i.confidence::text, i.method, i.model, i.prompt_tokens::text
    from salesai.insight('Why is the Halden Freight deal stuck?', account => 'Halden Freight') i";

/// Goal: the second time, from another session, an answer asks no model, and is the same in all.
#[test]
fn a_refresh_asks_no_model() {
    let mut first = cached(world::shared().connect());
    let before = work();
    let answer = row(&mut first, QUESTION);
    assert_ne!(work(), before, "nothing was computed");
    let mut second = cached(world::shared().connect());
    let before = work();
    assert_eq!(row(&mut second, QUESTION), answer);
    assert_eq!(work(), before, "a model was asked");
    // Turned off, it is computed again.
    second.run("set salesai.result_cache = off");
    assert_eq!(row(&mut second, QUESTION), answer);
    assert_ne!(work(), before);
}

/// Goal: values of documents are remembered one by one, by operator and arguments.
#[test]
fn documents_are_remembered() {
    let mut session = cached(world::shared().connect());
    let classify = |session: &mut Session, documents: &str, labels: &str| -> Vec<String> {
        session.one(
            &format!("select salesai.classify(array[{documents}], array[{labels}])"),
            &[],
        )
    };
    let known = classify(
        &mut session,
        "'Send it to me.', 'Good weather.'",
        "'wish', 'talk'",
    );
    let mut counts = || -> (i64, i64) {
        let row = session.row(
            "select generations, remembered from salesai.operator_statistics() where operator = 'classify'",
            &[],
        );
        (row.get(0), row.get(1))
    };
    assert_eq!(counts(), (2, 0));
    let mut other = cached(world::shared().connect());
    let both = classify(
        &mut other,
        "'Good weather.', 'Call me back.'",
        "'wish', 'talk'",
    );
    assert_eq!(both[0], known[1]);
    let row = other.row(
        "select generations, remembered from salesai.operator_statistics()",
        &[],
    );
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 1));
    classify(&mut other, "'Good weather.'", "'talk', 'wish'");
    let generations: i64 = other.one("select generations from salesai.operator_statistics()", &[]);
    assert_eq!(generations, 2);
}

/// Goal: roles share nothing, nobody reads or writes the cache, and who may not write has answers all the same.
#[test]
fn rights_bind_it() {
    let mut session = cached(world::shared().connect());
    session.run("select salesai.classify('Ring me.', array['wish', 'talk'])");
    for role in ["salesai_rep", "salesai_analyst"] {
        let mut other = cached(world::shared().connect());
        other.run(&format!("set role {role}"));
        let before = work();
        other.run("select salesai.classify('Ring me.', array['wish', 'talk'])");
        assert_ne!(work(), before, "{role} had the answer of another role");
        for sql in [
            "select from salesai.result_cache",
            "insert into salesai.result_cache (key, value) values ('', '')",
            "delete from salesai.result_cache",
            "select salesai.purge_results()",
        ] {
            other.refusal(sql, &[]).assert_is("42501", sql);
        }
    }
    session.run("begin read only");
    let before = work();
    session.run("select salesai.classify('Ring me.', array['wish', 'talk'])");
    assert_eq!(work(), before);
    session.run("select salesai.classify('Ring me tomorrow.', array['wish', 'talk'])");
    session.run("commit");
}

/// Goal: schemas of a caller's own mean nothing to what runs with the worker's rights.
#[test]
fn own_types_and_operators_change_nothing() {
    let mut session = cached(world::shared().connect());
    session.run("grant temporary on database salesai to salesai_rep");
    session.run("set role salesai_rep");
    session.run(
        "create temporary table seen (who text);
         grant all on seen to public;
         create function pg_temp.spy(bytea) returns boolean language plpgsql as
             'begin insert into pg_temp.seen values (current_user); return true; end';
         grant execute on function pg_temp.spy to public;
         create domain pg_temp.bytea as pg_catalog.bytea check (pg_temp.spy(value))",
    );
    session.run("select salesai.generate_text('Say hello.', '{\"max_tokens\": 4}')");
    let seen: i64 = session.one("select count(*) from seen where who <> 'salesai_rep'", &[]);
    assert_eq!(seen, 0, "a caller's function ran with other rights");
    session.run("reset role; revoke temporary on database salesai from salesai_rep");
}

/// Goal: a replay asks the model, whatever is kept.
#[test]
fn replays_ask_the_model() {
    let mut session = cached(world::shared().connect());
    let insight: i64 = session.one(
        "select i.insight_id from salesai.insight('Who signs for Halden Freight?', account => 'Halden Freight') i",
        &[],
    );
    let before = work();
    let reproduced: bool = session.one(
        "select r.reproduced from salesai.insight_replay($1) r",
        &[&insight],
    );
    assert!(reproduced);
    assert_ne!(work(), before, "nothing was computed");
}

/// Goal: what is deleted or redacted is not answered from, and old results go by themselves.
#[test]
fn deletions_empty_it() {
    let mut session = cached(world::shared().connect());
    let classify = "select salesai.classify('Ring me.', array['wish', 'talk'])";
    let is_full = "select exists (select from salesai.result_cache)";
    for deletion in [
        "delete from salesai.interaction where id = (select min(id) from salesai.interaction)",
        "update salesai.segment set content = content where id = (select min(id) from salesai.segment)",
    ] {
        session.run(classify);
        assert!(session.one::<bool>(is_full, &[]));
        let before = work();
        session.run(classify);
        assert_eq!(work(), before);
        session.run("begin");
        session.run(deletion);
        session.run("rollback");
        session.run(classify);
        assert_ne!(work(), before, "{deletion}");
        session.run("delete from salesai.interaction where false");
        let before = work();
        session.run(classify);
        assert_eq!(work(), before, "nothing was deleted");
    }
    session.run("select salesai.purge_results('-1 day')");
    assert!(!session.one::<bool>(is_full, &[]));
}

/// Goal: the cache stays within its size; the oldest go first.
#[test]
fn it_stays_small() {
    let world = world::World::start();
    let mut session = world.cluster.connect();
    session.run(
        "insert into salesai.result_cache (key, value, epoch, made_at)
         select int4send(n), decode(repeat(md5(n::text), 30), 'hex'), e.last_value + e.is_called::integer, now() - make_interval(secs => n)
         from generate_series(1, 1000) n, salesai.result_epoch e",
    );
    let mut purge = |bytes_max: Option<i64>| -> i64 {
        session.one(
            "select salesai.purge_results(bytes_max => $1)",
            &[&bytes_max],
        )
    };
    assert_eq!(purge(None), 0);
    // A row takes some 560 bytes.
    let gone = purge(Some(200_000));
    assert!((600..700).contains(&gone), "{gone}");
    assert_eq!(purge(Some(200_000)), 0);
    let newest: i64 = session.one(
        "select count(*) from salesai.result_cache where key <= int4send(1000 - $1::bigint::integer)",
        &[&gone],
    );
    assert_eq!(newest, 1000 - gone);
}

fn cached(mut session: Session) -> Session {
    session.run("set salesai.result_cache = on");
    session
}

fn row(session: &mut Session, sql: &str) -> Vec<Option<String>> {
    let row = session.row(sql, &[]);
    (0..row.len()).map(|column| row.get(column)).collect()
}

/// Requests that the models have answered so far, by the sidecar's log.
fn work() -> usize {
    let log = Sidecar::shared().log();
    log.matches("generation ended").count() + log.matches("embedding ended").count()
}
