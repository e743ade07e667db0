//! Who sees what: row-level security, roles, and what nobody may do.

use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::session::Session;
use tests::world;

/// Tables without customer data; all others have row-level security forced.
const OPEN_TABLES: [&str; 17] = [
    "product",
    "stage",
    "team",
    "rep",
    "team_member",
    "principal",
    "embedding_set",
    "model",
    "adapter",
    "redaction_policy",
    "job_count",
    "queue_pause",
    "backfill",
    "lexical_index",
    "lexical_segment",
    "lexical_language",
    "prompt_template",
];

/// Tables whose rows belong to an interaction or account, with the path to the owner.
const VISIBLE: &str = "select
    (select count(*) from salesai.interaction) || ' ' || (select count(*) from salesai.chunk) || ' ' ||
    (select count(*) from salesai.segment) || ' ' || (select count(*) from salesai.account) || ' ' ||
    (select count(*) from salesai.contact) || ' ' || (select count(*) from salesai.opportunity)";

/// Goal: a rep sees what belongs to his accounts, in every table, in search and in originals.
#[test]
fn rep_sees_own_accounts() {
    let cluster = cluster();
    let mut priya = cluster.connect_as("t_priya");
    let expected = counts_of(&mut cluster.connect(), "r.name = 'Priya Raman'");
    assert_eq!(priya.one::<String>(VISIBLE, &[]), expected);
    let strangers = "select count(*) from salesai.search('price and discount', 50, mode => $1) h
        join salesai.interaction i on i.id = h.interaction_id
        left join salesai.rep r on r.id = i.owner_rep_id where r.name is distinct from 'Priya Raman'";
    for mode in ["hybrid", "dense", "lexical"] {
        assert_eq!(priya.one::<i64>(strangers, &[&mode]), 0, "{mode}");
        let found: i64 = priya.one(
            "select count(*) from salesai.search('price', 50, mode => $1)",
            &[&mode],
        );
        assert!(found > 0, "{mode}");
    }
    let (own, foreign) = (
        interaction_of(cluster, "Priya Raman"),
        interaction_of(cluster, "Grace Okafor"),
    );
    let original = "select salesai.original($1) is not null";
    assert!(priya.one::<bool>(original, &[&own]));
    assert!(!priya.one::<bool>(original, &[&foreign]));
    priya
        .refusal(
            "select salesai.insight('why?', account => 'Copperline Foods')",
            &[],
        )
        .assert_is("P0002", "an account of somebody else does not exist");
}

/// Goal: the legs of search, which read their indexes with the rights of the worker, give a rep own chunks only, whatever
/// is asked of them.
#[test]
fn legs_of_search_give_own_rows() {
    let cluster = cluster();
    let mut priya = cluster.connect_as("t_priya");
    let mut superuser = cluster.connect();
    let vector: Vec<f32> = superuser.one("select salesai.embed('price')::real[]", &[]);
    let everything: Vec<i64> = superuser.column("select id from salesai.chunk", &[]);
    let lexical = "select chunk_id from salesai.lexical_hits('{price,discount}', '{p}', $1::text::jsonb, $2, 1000)";
    let dense = "select chunk_id from salesai.dense_hits(1, $3, $1::text::jsonb, $2, 1000)";
    for filters in [
        "{}",
        r#"{"language": "en' or true --"}"#,
        r#"{"language": "en') union select unnest($1) --"}"#,
    ] {
        for among in [None, Some(&everything)] {
            let mut found: Vec<i64> = priya.column(lexical, &[&filters, &among]);
            found.extend(priya.column::<i64>(dense, &[&filters, &among, &vector]));
            assert!(filters != "{}" || !found.is_empty());
            let strangers: i64 = superuser.one(
                "select count(*) from salesai.chunk c left join salesai.rep r on r.id = c.owner_rep_id
                 where c.id = any ($1) and r.name is distinct from 'Priya Raman'",
                &[&found],
            );
            assert_eq!(strangers, 0, "{filters}");
        }
    }
}

/// Goal: operators of the caller's own do not change what a policy decides.
#[test]
fn own_operators_widen_nothing() {
    let cluster = cluster();
    let mut owner = cluster.connect();
    owner.run(
        "create schema if not exists decoy;
         create or replace function decoy.always(text, text) returns boolean language sql as 'select true';
         drop operator if exists decoy.= (text, text);
         create operator decoy.= (function = decoy.always, leftarg = text, rightarg = text);
         grant usage on schema decoy to public",
    );
    let mut priya = cluster.connect_as("t_priya");
    let before: String = priya.one(VISIBLE, &[]);
    priya.run("set search_path = decoy, pg_catalog");
    assert!(
        priya.one::<bool>("select 'a'::text = 'b'::text", &[]),
        "the decoy works"
    );
    assert_eq!(priya.one::<String>(VISIBLE, &[]), before);
    owner.run("drop schema decoy cascade");
}

/// Goal: the dense leg still fills k when row-level security hides most rows.
#[test]
fn hidden_rows_do_not_thin_out_results() {
    let mut grace = cluster().connect_as("t_grace");
    let visible: i64 = grace.one("select count(*) from salesai.chunk", &[]);
    let k = visible.min(1_000) as i32;
    let found: i64 = grace.one(
        "select count(*) from salesai.search('trucks and depots', $1, mode => 'dense')",
        &[&k],
    );
    assert_eq!(found, i64::from(k));
}

/// Goal: a manager sees the accounts of the team.
#[test]
fn manager_sees_the_team() {
    let cluster = cluster();
    let expected = counts_of(
        &mut cluster.connect(),
        "r.name in ('Priya Raman', 'Daniel Mercer')",
    );
    assert_eq!(
        cluster.connect_as("t_manager").one::<String>(VISIBLE, &[]),
        expected
    );
}

/// Goal: an analyst reads every segment, no original, and writes nothing.
#[test]
fn analyst_reads_without_originals() {
    let cluster = cluster();
    let mut analyst = cluster.connect_as("t_analyst");
    let all: i64 = cluster
        .connect()
        .one("select count(*) from salesai.segment", &[]);
    assert_eq!(
        analyst.one::<i64>("select count(*) from salesai.segment", &[]),
        all
    );
    for sql in [
        "select * from salesai.raw_payload",
        "select * from salesai.data_key",
        "select salesai.original(1)",
        "select salesai.ingest_note('t', 'analyst', 'hello')",
        "update salesai.account set name = 'x'",
        "delete from salesai.interaction",
    ] {
        analyst.refusal(sql, &[]).assert_is("42501", sql);
    }
}

/// Goal: membership in salesai_rep alone shows nothing, and a stranger may not even ask.
#[test]
fn unknown_roles_see_nothing() {
    let cluster = cluster();
    assert_eq!(
        cluster.connect_as("t_nobody").one::<String>(VISIBLE, &[]),
        "0 0 0 0 0 0"
    );
    let mut stranger = cluster.connect_as("t_stranger");
    for sql in [
        "select * from salesai.interaction",
        "select salesai.search('a')",
        "select salesai.doctor()",
    ] {
        stranger.refusal(sql, &[]).assert_is("42501", sql);
    }
}

/// Goal: a rep writes for own accounts and not for those of others.
#[test]
fn rep_writes_own_accounts() {
    let mut priya = cluster().connect_as("t_priya");
    priya.run("begin");
    priya.run(
        "select salesai.ingest_note('t', 'own', 'Note of Priya.', account => 'Halden Freight')",
    );
    priya.run("rollback");
    priya
        .refusal(
            "select salesai.ingest_note('t', 'x', 'hi', account => 'Copperline Foods')",
            &[],
        )
        .assert_is("P0002", "account of somebody else");
    priya
        .refusal("select * from salesai.ingest_crm('t', 'team', '[{\"external_id\": \"x\", \"name\": \"x\"}]')", &[])
        .assert_is("42501", "CRM data");
}

/// Goal: answers are seen by who asked.
#[test]
fn insights_are_private() {
    let cluster = cluster();
    let id: i64 = cluster.connect_as("t_priya").one(
        "select i.insight_id from salesai.insight('Why is the deal stuck?', account => 'Halden Freight') i",
        &[],
    );
    let seen = "select count(*) from salesai.insight where id = $1";
    let cited = "select count(*) from salesai.citation where insight_id = $1";
    assert_eq!(cluster.connect_as("t_priya").one::<i64>(seen, &[&id]), 1);
    for role in ["t_grace", "t_manager", "t_analyst"] {
        let mut session = cluster.connect_as(role);
        assert_eq!(session.one::<i64>(seen, &[&id]), 0, "{role}");
        assert_eq!(session.one::<i64>(cited, &[&id]), 0, "{role}");
    }
}

/// Goal: SET ROLE changes what is seen, and a SECURITY DEFINER function does not.
#[test]
fn set_role_counts_and_definer_does_not() {
    let cluster = cluster();
    let count = "select count(*) from salesai.interaction";
    let of = |role: &str| cluster.connect_as(role).one::<i64>(count, &[]);
    let mut switch = cluster.connect_as("t_switch");
    for role in ["t_priya", "t_grace"] {
        switch.run(&format!("set role {role}"));
        assert_eq!(switch.one::<i64>(count, &[]), of(role), "{role}");
    }
    cluster.connect().run(
        "create or replace function public.t_wide() returns bigint language sql security definer
             as 'select count(*) from salesai.interaction';
         alter function public.t_wide() owner to t_analyst;
         grant execute on function public.t_wide() to public",
    );
    assert!(of("t_analyst") > of("t_grace"));
    let through: i64 = cluster
        .connect_as("t_grace")
        .one("select public.t_wide()", &[]);
    assert_eq!(through, of("t_grace"));
    cluster.connect().run("drop function public.t_wide()");
}

/// Goal: row-level security is forced on every table with customer data, embeddings included.
#[test]
fn row_level_security_is_forced() {
    let unprotected: Vec<String> = world::shared().connect().column(
        "select relname::text from pg_class
         where relnamespace = 'salesai'::regnamespace and relkind in ('r', 'p', 'm')
           and not (relrowsecurity and relforcerowsecurity) order by oid",
        &[],
    );
    assert_eq!(
        sorted(unprotected),
        sorted(OPEN_TABLES.map(str::to_owned).to_vec())
    );
}

/// Goal: of a product readers see its names; what the CRM says besides may be costs.
#[test]
fn products_show_their_names() {
    let mut session = world::shared().connect();
    for role in ["salesai_rep", "salesai_manager", "salesai_analyst"] {
        session.run(&format!("set role {role}"));
        session.rows("select id, name, code from salesai.product", &[]);
        session
            .refusal("select properties from salesai.product", &[])
            .assert_is("42501", role);
    }
    session.run("set role salesai_gateway");
    session.rows("select properties from salesai.product", &[]);
    session.run("reset role");
}

/// Goal: views run with the caller's rights, nothing is open to PUBLIC, and everything is described.
#[test]
fn catalogue() {
    let rules = [
        (
            "views without security_invoker",
            "select relname::text from pg_class where relnamespace = 'salesai'::regnamespace
             and relkind = 'v' and not coalesce('security_invoker=true' = any (reloptions), false)",
        ),
        (
            "functions open to PUBLIC",
            "select oid::regprocedure::text from pg_proc where pronamespace = 'salesai'::regnamespace
             and has_function_privilege('public', oid, 'execute')",
        ),
        (
            "tables and views open to PUBLIC",
            "select relname::text from pg_class where relnamespace = 'salesai'::regnamespace
             and relkind in ('r', 'v', 'S') and has_table_privilege('public', oid, 'select')",
        ),
        (
            "security-definer functions without a search_path",
            "select oid::regprocedure::text from pg_proc where pronamespace = 'salesai'::regnamespace
             and prosecdef and not exists (select from unnest(proconfig) c where c like 'search_path=%')",
        ),
        (
            // Whoever may execute one may attach it to a table of his own, which one of them is for.
            "triggers with the owner's rights that a role may execute",
            "select p.oid::regprocedure::text from pg_proc p where p.pronamespace = 'salesai'::regnamespace
             and p.prosecdef and p.prorettype = 'trigger'::regtype and p.proname <> 'note_changed_rows'
             and exists (select from pg_roles r where r.rolname like 'salesai\\_%' and has_function_privilege(r.oid, p.oid, 'execute'))",
        ),
        (
            "functions without a comment",
            "select oid::regprocedure::text from pg_proc where pronamespace = 'salesai'::regnamespace
             and obj_description(oid, 'pg_proc') is null",
        ),
        (
            "tables and views without a comment",
            "select relname::text from pg_class where relnamespace = 'salesai'::regnamespace
             and relkind in ('r', 'v') and obj_description(oid, 'pg_class') is null",
        ),
    ];
    let mut session = world::shared().connect();
    for (what, sql) in rules {
        assert_eq!(
            session.column::<String>(sql, &[]),
            Vec::<String>::new(),
            "{what}"
        );
    }
}

/// Goal: where the sidecar and the key are is the administrator's decision.
#[test]
fn settings_are_protected() {
    let mut priya = cluster().connect_as("t_priya");
    for setting in ["sidecar_socket", "master_key_file"] {
        let sql = format!("set salesai.{setting} = '/tmp/mine'");
        priya.refusal(&sql, &[]).assert_is("42501", &sql);
    }
    let sql = "show salesai.master_key_file";
    priya.refusal(sql, &[]).assert_is("42501", sql);
    priya.run("set salesai.timeout_ms = 5000");
}

/// The shared cluster with people in it.
fn cluster() -> &'static Cluster {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        world::shared().connect().run(
            "create role t_priya login in role salesai_rep;
             create role t_grace login in role salesai_rep;
             create role t_manager login in role salesai_manager;
             create role t_analyst login in role salesai_analyst;
             create role t_nobody login in role salesai_rep;
             create role t_switch login in role t_priya, t_grace;
             create role t_stranger login;
             insert into salesai.principal (role_name, rep_id, read_scope, can_write)
             select role_name, (select id from salesai.rep where name = rep_name), read_scope, can_write
             from (values ('t_priya', 'Priya Raman', 'own', true),
                          ('t_grace', 'Grace Okafor', 'own', true),
                          ('t_manager', 'Priya Raman', 'team', true))
                  p (role_name, rep_name, read_scope, can_write)",
        )
    });
    world::shared()
}

/// What `VISIBLE` must say for the accounts of these reps.
fn counts_of(session: &mut Session, reps: &str) -> String {
    let accounts = format!(
        "(select a.id from salesai.account a join salesai.rep r on r.id = a.owner_rep_id where {reps})"
    );
    let interactions =
        format!("(select id from salesai.interaction where account_id in {accounts})");
    session.one(
        &format!(
            "select
                (select count(*) from salesai.interaction where account_id in {accounts}) || ' ' ||
                (select count(*) from salesai.chunk where account_id in {accounts}) || ' ' ||
                (select count(*) from salesai.segment where interaction_id in {interactions}) || ' ' ||
                (select count(*) from salesai.account where id in {accounts}) || ' ' ||
                (select count(*) from salesai.contact where account_id in {accounts}) || ' ' ||
                (select count(*) from salesai.opportunity o
                 join salesai.rep r on r.id = o.owner_rep_id where {reps})"
        ),
        &[],
    )
}

fn interaction_of(cluster: &Cluster, rep: &str) -> i64 {
    cluster.connect().one(
        "select min(i.id) from salesai.interaction i join salesai.rep r on r.id = i.owner_rep_id
         where r.name = $1",
        &[&rep],
    )
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}
