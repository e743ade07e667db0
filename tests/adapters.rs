//! LoRA adapters: stored in the database, sent to the sidecar by the call that needs them.

use std::time::Duration;

use tests::adapter::Adapter;
use tests::cluster::Cluster;
use tests::session::Session;
use tests::world::{self, World};

const PART_BYTES: usize = 4 << 20;
const ASK: &str = "select salesai.generate('Write one sentence about a delivery.', max_tokens => 24, adapter => $1)";

/// Goal: a new file is a new generation, the same file again is not, and exactly one generation is active.
#[test]
fn generations() {
    let mut session = world::shared().connect();
    session.run("begin");
    let (first, second) = (Adapter::new(4, 1), Adapter::new(4, 2));
    let first_id = first.register(&mut session, "t/tone");
    assert_eq!(first.register(&mut session, "t/tone"), first_id);
    assert_eq!(states(&mut session, "t/tone"), ["1 active"]);
    let second_id = second.register(&mut session, "t/tone");
    assert_ne!(second_id, first_id);
    assert_eq!(states(&mut session, "t/tone"), ["1 retired", "2 active"]);
    session.run("select salesai.activate_adapter('t/tone', 1)");
    assert_eq!(states(&mut session, "t/tone"), ["1 active", "2 retired"]);
    let row = session.row(
        "select a.base, a.rank, a.bytes, a.created_by, b.base_sha256 = m.sha256, a.sha256 = encode(sha256($2), 'hex')
         from salesai.adapters a
         join salesai.adapter b on b.id = a.adapter_id
         join salesai.models m on m.name = a.base and m.is_default
         where a.adapter_id = $1",
        &[&first_id, &first.content],
    );
    assert_eq!(row.get::<_, &str>(0), "smollm2-135m-instruct");
    assert_eq!(row.get::<_, i32>(1), 4);
    assert_eq!(row.get::<_, i64>(2), first.content.len() as i64);
    assert_eq!(row.get::<_, &str>(3), "postgres");
    assert!(row.get::<_, bool>(4) && row.get::<_, bool>(5));
    session.run("select salesai.retire_adapter('t/tone')");
    assert_eq!(states(&mut session, "t/tone"), ["1 retired", "2 retired"]);
    session.run(&format!("select salesai.remove_adapter({first_id})"));
    let parts: i64 = session.one(
        "select count(*) from salesai.adapter_part where adapter_id = $1",
        &[&first_id],
    );
    assert_eq!(parts, 0, "the bytes go with the adapter");
    session.run("rollback");
}

/// Goal: a file that came in parts is the same adapter as one that came whole, with its lineage.
#[test]
fn parts() {
    let mut session = world::shared().connect();
    session.run("begin");
    let parent = Adapter::new(4, 1).register(&mut session, "t/parent");
    let adapter = Adapter::new(32, 3);
    let id: i64 = session.one(
        "select salesai.begin_adapter('t/parts', $1::text::jsonb, parent => 't/parent', trained_on => '{\"runs\": 1}')",
        &[&adapter.config],
    );
    let parts: Vec<&[u8]> = adapter.content.chunks(PART_BYTES).collect();
    assert!(parts.len() > 1, "this file has several parts");
    // In any order.
    for (position, part) in parts.iter().enumerate().rev() {
        add_part(&mut session, id, position, part);
    }
    assert_eq!(states(&mut session, "t/parts"), ["- receiving"]);
    session.run(&format!(
        "select salesai.finish_adapter({id}, activate => false)"
    ));
    assert_eq!(states(&mut session, "t/parts"), ["1 registered"]);
    let lineage = session.row(
        "select parent_adapter_id, trained_on ->> 'runs' from salesai.adapters where adapter_id = $1",
        &[&id],
    );
    assert_eq!(lineage.get::<_, i64>(0), parent);
    assert_eq!(lineage.get::<_, &str>(1), "1");
    assert_eq!(adapter.register(&mut session, "t/parts"), id);
    assert_eq!(states(&mut session, "t/parts"), ["1 active"]);
    session.run("rollback");
}

/// Goal: a backend that reads an adapter holds a part of it at a time, also within one transaction.
#[test]
fn reading_takes_little_memory() {
    let mut session = world::shared().connect();
    session.run("begin");
    let adapter = Adapter::new(64, 4);
    let id = adapter.register(&mut session, "t/memory");
    let used = "select sum(used_bytes)::bigint from pg_backend_memory_contexts";
    let before: i64 = session.one(used, &[]);
    for _ in 0..3 {
        session.run(&format!("select salesai.inspect_adapter({id})"));
    }
    let added = session.one::<i64>(used, &[]) - before;
    println!(
        "measured: reading {} bytes three times leaves {added} bytes",
        adapter.content.len()
    );
    assert!(added < PART_BYTES as i64, "{added} bytes");
    session.run("rollback");
}

/// Name, content, configuration and base of an adapter, and the SQLSTATE of its refusal.
type Case<'a> = (&'a str, &'a [u8], &'a str, Option<&'a str>, &'a str);

/// Many documents at once, of which the first finds the adapter missing.
fn operators_bring_it_too(world: &World, session: &mut Session) {
    world.sidecar.kill();
    world.sidecar.launch();
    let labels =
        "select salesai.classify(array(select 'Call me about ' || n from generate_series(1, 40) n),
        array['request', 'other'], adapter => 'tone')";
    let first: Vec<Option<String>> = session.one(labels, &[]);
    assert_eq!(first.iter().flatten().count(), 40);
    assert_eq!(loaded(session, "tone"), Some(1));
    assert_eq!(session.one::<Vec<Option<String>>>(labels, &[]), first);
}

/// Goal: what is not an adapter is refused with a clear error, before anyone uses it.
#[test]
fn refusals() {
    let mut session = world::shared().connect();
    let good = Adapter::new(4, 1);
    let cut = &good.content[..good.content.len() - 1];
    let call = "select salesai.register_adapter($1, $2, $3::text::jsonb, base => $4)";
    let none: Option<&str> = None;
    let huge_header = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let cases: [Case<'_>; 11] = [
        ("t/bad name", &good.content, &good.config, none, "22023"),
        ("", &good.content, &good.config, none, "22023"),
        ("t/bad", b"", &good.config, none, "22023"),
        ("t/bad", b"PK\x03\x04 not it", &good.config, none, "22023"),
        ("t/bad", &huge_header, &good.config, none, "22023"),
        ("t/bad", cut, &good.config, none, "22023"),
        ("t/bad", &good.content, "[]", none, "22023"),
        ("t/bad", &good.content, r#"{"r": 0}"#, none, "22023"),
        ("t/bad", &good.content, r#"{"r": "4"}"#, none, "22023"),
        (
            "t/bad",
            &good.content,
            r#"{"r": 4, "peft_type": "IA3"}"#,
            none,
            "22023",
        ),
        (
            "t/bad",
            &good.content,
            &good.config,
            Some("no-such-model"),
            "42704",
        ),
    ];
    for (name, content, config, base, sqlstate) in cases {
        let what = format!("{name} {} {config} {base:?}", content.len());
        session
            .refusal(call, &[&name, &content, &config, &base])
            .assert_is(sqlstate, &what);
    }
    assert_eq!(states(&mut session, "t/bad"), Vec::<String>::new());
    bad_parts(&mut session, &good);
    for (sql, sqlstate) in [
        ("select salesai.activate_adapter('t/none', 1)", "42704"),
        ("select salesai.load_adapter('t/none')", "42704"),
        ("select salesai.remove_adapter(-1)", "P0002"),
        ("select salesai.finish_adapter(-1)", "P0002"),
        (
            "select salesai.generate('hello', adapter => 't/none')",
            "42704",
        ),
        (
            "select salesai.insight('Why is the deal stuck?', account => 'Halden Freight', adapter => 't/none')",
            "42704",
        ),
    ] {
        session.refusal(sql, &[]).assert_is(sqlstate, sql);
    }
}

fn bad_parts(session: &mut Session, good: &Adapter) {
    let add = "select salesai.add_adapter_part($1, $2, $3)";
    let begin = "select salesai.begin_adapter('t/bad', $1::text::jsonb)";
    let id: i64 = session.one(begin, &[&good.config]);
    let too_large = vec![0_u8; PART_BYTES + 1];
    for (position, content) in [(0, &too_large[..]), (0, b""), (-1, b"x")] {
        session
            .refusal(add, &[&id, &position, &content])
            .assert_is("22023", "a bad part");
    }
    let finish = format!("select salesai.finish_adapter({id})");
    session.refusal(&finish, &[]).assert_is("22023", "no parts");
    add_part(session, id, 1, &good.content);
    session.refusal(&finish, &[]).assert_is("22023", "a gap");
    session.run(&format!("select salesai.remove_adapter({id})"));
    let id = good.register(session, "t/bad");
    let content = b"x".as_slice();
    session
        .refusal(add, &[&id, &0, &content])
        .assert_is("55000", "a part of a complete adapter");
    let remove = format!("select salesai.remove_adapter({id})");
    session
        .refusal(&remove, &[])
        .assert_is("55000", "an active adapter");
    session.run("select salesai.retire_adapter('t/bad')");
    session.run(&remove);
}

/// Goal: only administrators register and read nothing of the bytes; others may use adapters and see which there are.
#[test]
fn rights() {
    let cluster = world::shared();
    let mut owner = cluster.connect();
    owner.run(
        "create role t_adapter_rep login in role salesai_rep;
         create role t_adapter_admin login in role salesai_admin",
    );
    let adapter = Adapter::new(4, 9);
    let mut admin = cluster.connect_as("t_adapter_admin");
    let id = adapter.register(&mut admin, "t/rights");
    let mut rep = cluster.connect_as("t_adapter_rep");
    assert_eq!(states(&mut rep, "t/rights"), ["1 active"]);
    let register = "select salesai.register_adapter('t/mine', $1, $2::text::jsonb)";
    rep.refusal(register, &[&adapter.content, &adapter.config])
        .assert_is("42501", register);
    for sql in [
        "select salesai.begin_adapter('t/mine', '{\"r\": 4}')".to_owned(),
        format!("select salesai.add_adapter_part({id}, 0, 'x')"),
        format!("select salesai.finish_adapter({id})"),
        format!("select salesai.inspect_adapter({id})"),
        "select salesai.activate_adapter('t/rights', 1)".to_owned(),
        "select salesai.retire_adapter('t/rights')".to_owned(),
        format!("select salesai.remove_adapter({id})"),
        "select salesai.unload_adapter('t/rights')".to_owned(),
        "select salesai.register_model('mine')".to_owned(),
        "update salesai.adapter set state = 'retired'".to_owned(),
    ] {
        rep.refusal(&sql, &[]).assert_is("42501", &sql);
    }
    for session in [&mut rep, &mut admin] {
        for sql in [
            "select content from salesai.adapter_part",
            "delete from salesai.adapter_part",
            "insert into salesai.adapter (name) values ('t/mine')",
        ] {
            session.refusal(sql, &[]).assert_is("42501", sql);
        }
    }
    // Not even a grant opens the bytes.
    owner.run("begin; grant select on salesai.adapter_part to t_adapter_rep; set local role t_adapter_rep");
    let seen: i64 = owner.one("select count(*) from salesai.adapter_part", &[]);
    assert_eq!(seen, 0);
    owner.run("rollback");
    owner.run("select salesai.retire_adapter('t/rights')");
}

/// Goal: a call brings its adapter along: at first use, after a kill of the sidecar, after a new generation and
/// after a rollback; the text depends on the adapter alone.
#[test]
fn sidecar_gets_what_it_lacks() {
    let world = World::start();
    let mut session = world.cluster.connect();
    // Of several parts.
    Adapter::new(32, 1).register(&mut session, "tone");
    let plain = ask(&mut session, None);
    assert_eq!(loaded(&mut session, "tone"), None);
    let first = ask(&mut session, Some("tone"));
    assert_ne!(first, plain, "the adapter changes what the model says");
    assert_eq!(loaded(&mut session, "tone"), Some(1));

    world.sidecar.kill();
    world.sidecar.launch();
    assert_eq!(
        loaded(&mut session, "tone"),
        None,
        "the sidecar keeps nothing"
    );
    assert_eq!(ask(&mut session, Some("tone")), first);

    operators_bring_it_too(&world, &mut session);
    Adapter::new(4, 2).register(&mut session, "tone");
    let second = ask(&mut session, Some("tone"));
    assert_ne!(second, first);
    assert_eq!(loaded(&mut session, "tone"), Some(2));
    session.run("select salesai.activate_adapter('tone', 1)");
    assert_eq!(ask(&mut session, Some("tone")), first, "rolled back");
    assert_eq!(loaded(&mut session, "tone"), Some(1));

    assert!(session.one::<bool>("select salesai.unload_adapter('tone')", &[]));
    assert!(!session.one::<bool>("select salesai.unload_adapter('tone')", &[]));
    a_rep_may_use_it(&world.cluster, &first);
    many_sessions_send_it_once(&world.cluster, &first);
    session.run("select salesai.load_adapter('tone')");
    insight_says_which_generation(&mut session);
}

fn a_rep_may_use_it(cluster: &Cluster, expected: &str) {
    cluster
        .connect()
        .run("create role t_user login in role salesai_rep");
    let mut rep = cluster.connect_as("t_user");
    assert_eq!(ask(&mut rep, Some("tone")), expected);
}

/// Goal: callers that lack the same adapter at the same time wait for one transfer.
fn many_sessions_send_it_once(cluster: &Cluster, expected: &str) {
    cluster
        .connect()
        .run("select salesai.unload_adapter('tone')");
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| ask(&mut cluster.connect(), Some("tone"))))
            .collect();
        for thread in asking {
            assert_eq!(thread.join().expect("a thread that asks"), expected);
        }
    });
}

fn insight_says_which_generation(session: &mut Session) {
    session.run("select salesai.ingest_note('t', 'note', 'The customer asked for a discount of ten percent.')");
    world::drain(session);
    // In two statements: what a function stores is not seen by the statement that calls it.
    let id: i64 = session.one(
        "select insight_id from salesai.insight('What discount did the customer ask for?', adapter => 'tone')",
        &[],
    );
    let row = session.row(
        "select adapter, adapter_generation from salesai.insight where id = $1",
        &[&id],
    );
    assert_eq!(row.get::<_, &str>(0), "tone");
    assert_eq!(row.get::<_, i64>(1), 1);
}

/// Goal: a transfer to a sidecar that stands still ends by cancel and by its deadline.
#[test]
fn transfer_can_be_cancelled() {
    let world = World::start();
    let mut session = world.cluster.connect();
    Adapter::new(32, 1).register(&mut session, "tone");
    world.sidecar.pause();
    let load = "select salesai.load_adapter('tone', timeout_ms => 500)";
    session.refusal(load, &[]).assert_is("57014", load);
    let pid = session.backend_pid();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| session.refusal("select salesai.load_adapter('tone')", &[]));
        std::thread::sleep(Duration::from_millis(500));
        let cancelled: bool = world
            .cluster
            .connect()
            .one("select pg_cancel_backend($1)", &[&pid]);
        assert!(cancelled);
        let refusal = running.join().expect("the cancelled thread");
        refusal.assert_is("57014", "a cancelled transfer");
        assert!(refusal.message.contains("user request"), "{refusal:?}");
    });
    world.sidecar.resume();
    assert_eq!(session.one::<i32>("select 1", &[]), 1);
}

fn add_part(session: &mut Session, id: i64, position: usize, part: &[u8]) {
    let position = position as i32;
    session.rows(
        "select salesai.add_adapter_part($1, $2, $3)",
        &[&id, &position, &part],
    );
}

fn ask(session: &mut Session, adapter: Option<&str>) -> String {
    session.one(ASK, &[&adapter])
}

/// The generation that the sidecar has.
fn loaded(session: &mut Session, name: &str) -> Option<i64> {
    session.one(
        "select max(loaded_generation) from salesai.adapters where name = $1",
        &[&name],
    )
}

fn states(session: &mut Session, name: &str) -> Vec<String> {
    session.column(
        "select coalesce(generation::text, '-') || ' ' || state from salesai.adapters where name = $1
         order by generation",
        &[&name],
    )
}
