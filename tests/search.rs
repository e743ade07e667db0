//! Hybrid search over the deal room.

use tests::deal_room;
use tests::session::Session;
use tests::world;

const MODES: [&str; 3] = ["dense", "lexical", "hybrid"];

/// Goal: search finds what answers a question. A floor that catches breakage, not a target to tune for.
#[test]
fn questions_find_their_interaction() {
    let mut session = world::shared().connect();
    let questions = deal_room::questions();
    let count = questions.len();
    let mut found = |what: &str, ranked: fn(&mut Session, &serde_json::Value) -> Vec<String>| {
        let ranks: Vec<Option<usize>> = questions
            .iter()
            .map(|question| rank_of_answer(&ranked(&mut session, question), question))
            .collect();
        let within = |k: usize| ranks.iter().flatten().filter(|&&rank| rank <= k).count();
        let (top3, top10) = (within(3), within(10));
        println!(
            "measured: answers of the deal room in the top 3 {what}: {top3}, top 10: {top10}, of {count}"
        );
        assert!(top10 * 4 >= count * 3, "ranks: {ranks:?}");
    };
    found("chunks", ranked_interactions);
    found("interactions", |session, question| {
        let mut ranked = ranked_interactions(session, question);
        let mut seen = std::collections::HashSet::new();
        ranked.retain(|id| seen.insert(id.clone()));
        ranked
    });
}

/// Goal: each mode asks its own legs.
#[test]
fn modes_ask_their_legs() {
    let mut session = world::shared().connect();
    let mut ranked = |mode: &str| {
        let row = session.row(
            "select count(dense_rank), count(lexical_rank)
             from salesai.search('discount on the price of the seats', mode => $1)",
            &[&mode],
        );
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    assert_eq!(ranked("dense"), (10, 0));
    assert_eq!(ranked("lexical"), (0, 10));
    let (dense, lexical) = ranked("hybrid");
    assert!(dense > 0 && lexical > 0);
}

/// Goal: no filter lets a row through that is outside it, in any mode.
#[test]
fn filters_bind_both_legs() {
    let outside = [
        (
            "account => 'Vestra Health Network'",
            "c.account_id <> (select id from salesai.account where name = 'Vestra Health Network')",
        ),
        (
            "opportunity => 'OPP-1001'",
            "c.opportunity_id is distinct from (select id from salesai.opportunity where external_id = 'OPP-1001')",
        ),
        ("kinds => array['email', 'note']", "c.kind not in ('email', 'note')"),
        (
            "since => '2026-05-01Z', until => '2026-05-20Z'",
            "c.occurred_at < '2026-05-01Z' or c.occurred_at >= '2026-05-20Z'",
        ),
        (
            "speaker_side => 'external'",
            "not exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
                 where s.interaction_id = c.interaction_id and p.side = 'external'
                   and s.position between c.first_position and c.last_position)",
        ),
    ];
    let mut session = world::shared().connect();
    for mode in MODES {
        for (filter, is_outside) in outside {
            let row = session.row(
                &format!(
                    "select count(*), count(*) filter (where {is_outside})
                     from salesai.search('price and security of the rollout', mode => $1, {filter}) h
                     join salesai.chunk c on c.id = h.chunk_id"
                ),
                &[&mode],
            );
            assert!(row.get::<_, i64>(0) > 0, "{mode}, {filter}: nothing found");
            assert_eq!(
                row.get::<_, i64>(1),
                0,
                "{mode}, {filter}: rows outside the filter"
            );
        }
    }
}

/// Goal: the dense leg gives k rows whenever k rows qualify, however selective the filter.
#[test]
fn selective_filters_still_fill_k() {
    let mut session = world::shared().connect();
    let groups = session.rows(
        "select account_id::text, kind, count(*) from salesai.chunk group by 1, 2 order by 1, 2",
        &[],
    );
    assert!(groups.len() > 10);
    for group in groups {
        let (account, kind, count): (String, String, i64) =
            (group.get(0), group.get(1), group.get(2));
        let found: i64 = session.one(
            "select count(*) from salesai.search('the weather on Mars', $1, account => $2,
                 kinds => array[$3], mode => 'dense')",
            &[&(count as i32), &account, &kind],
        );
        assert_eq!(found, count, "account {account}, kind {kind}");
    }
}

/// Goal: no text that a user can type is an error.
#[test]
fn odd_queries_never_raise() {
    let long = "lorem \u{e9}\u{df} ".repeat(1_250);
    let odd = [
        "C++ & | ! ( :*",
        "'",
        "''",
        "\\",
        "\"",
        "%_",
        "\u{1f680}\u{1f468}\u{200d}\u{1f4bb}",
        "the of and",
        "a:b:c <-> d",
        "--",
        "$1",
        "\u{202e}abc",
        &long,
    ];
    let mut session = world::shared().connect();
    for query in odd {
        for mode in MODES {
            let found = session.try_run(
                "select * from salesai.search($1, mode => $2)",
                &[&query, &mode],
            );
            let start: String = query.chars().take(20).collect();
            assert!(found.is_ok(), "{mode}: {start:?}: {found:?}");
        }
    }
}

/// Goal: the same query gives the same rows in the same order.
#[test]
fn search_is_deterministic() {
    let mut session = world::shared().connect();
    let sql = "select array_agg(h::text) from salesai.search('liability and payment terms', 20) h";
    let first: Vec<String> = session.one(sql, &[]);
    assert_eq!(session.one::<Vec<String>>(sql, &[]), first);
}

/// The interactions of the best chunks.
fn ranked_interactions(session: &mut Session, question: &serde_json::Value) -> Vec<String> {
    let text = question["question"].as_str();
    session.column(
        "select i.external_id
         from salesai.search($1, 10, account => $2) with ordinality h
         join salesai.interaction i on i.id = h.interaction_id
         order by h.ordinality",
        &[&text, &question["account"].as_str()],
    )
}

fn rank_of_answer(ranked: &[String], question: &serde_json::Value) -> Option<usize> {
    let position = ranked
        .iter()
        .position(|external_id| question["interaction"] == **external_id);
    position.map(|position| position + 1)
}

/// Goal: each filter leaves only what it says, and something.
#[test]
fn every_filter_filters() {
    let mut session = world::shared().connect();
    for (filter, holds) in [
        (
            "sources => array[(select source from salesai.interaction where kind = 'email' limit 1)]",
            "i.source = (select source from salesai.interaction where kind = 'email' limit 1)",
        ),
        (
            "said_by => 'Priya Raman'",
            "exists (select from salesai.segment s join salesai.participant p on p.id = s.participant_id
                 where s.interaction_id = c.interaction_id and p.name = 'Priya Raman'
                   and s.position between c.first_position and c.last_position)",
        ),
        (
            "rep => 'Priya Raman'",
            "c.owner_rep_id = (select id from salesai.rep where name = 'Priya Raman')",
        ),
        (
            "team => (select name from salesai.team order by id limit 1)",
            "c.team_id = (select id from salesai.team order by id limit 1)",
        ),
        ("language => 'en'", "c.language = 'en'"),
        (
            "properties => '$.mail_kind ? (@ == \"personal\")'",
            "i.properties ->> 'mail_kind' = 'personal'",
        ),
    ] {
        for mode in MODES {
            let (found, wrong): (i64, i64) = {
                let row = session.row(
                    &format!(
                        "select count(*), count(*) filter (where not coalesce(({holds}), false))
                         from salesai.search('price and security of the rollout', mode => $1, {filter}) h
                         join salesai.chunk c on c.id = h.chunk_id
                         join salesai.interaction i on i.id = c.interaction_id"
                    ),
                    &[&mode],
                );
                (row.get(0), row.get(1))
            };
            assert!(found > 0 && wrong == 0, "{filter}, {mode}: {wrong} of {found}");
        }
    }
    session
        .refusal("select * from salesai.search('a', rep => 'Nobody')", &[])
        .assert_is("P0002", "an unknown rep");
}

/// Goal: options change the order as they say, and what is explained is what is returned.
#[test]
fn options_order_and_explain() {
    let mut session = world::shared().connect();
    let mut ids = |options: &str| -> Vec<i64> {
        session.column(
            &format!("select chunk_id from salesai.search('price and security of the rollout', 8{options})"),
            &[],
        )
    };
    let plain = ids("");
    assert_eq!(plain.len(), 8);
    for options in [
        ", fusion => 'rank'",
        ", diversity => 0.8",
        ", recency => '3 days'",
        ", around => 0.5",
    ] {
        let other = ids(options);
        assert_eq!(other.len(), 8, "{options}");
        assert_ne!(other, plain, "{options}");
    }
    let mut discussed = |options: &str| -> Vec<i64> {
        session.column(
            &format!(
                "select chunk_id from salesai.search('Summarize price and security of the rollout', 8{options})"
            ),
            &[],
        )
    };
    let passages = discussed("");
    assert_eq!(discussed(", around => 0.5"), passages);
    let facts = discussed(", around => 0");
    assert_ne!(facts, passages);
    assert_ne!(discussed(", understand => false"), passages);
    for (query, understand, words) in [
        ("Summarize the price", "true", "the price"),
        ("Summarize the price", "false", "Summarize the price"),
        // Nothing to look for would be left, or what is in quotes is meant.
        ("What did we discuss?", "true", "What did we discuss?"),
        (
            "What of \"they discuss\"?",
            "true",
            "What of they discuss ?",
        ),
        ("price -summary", "true", "price"),
    ] {
        let searched: String = session.one(
            &format!("select salesai.searched_words($1, {understand})"),
            &[&query],
        );
        assert_eq!(searched, words);
    }
    let explained: Vec<i64> = session.column(
        "select chunk_id from salesai.search_explain('price and security of the rollout', 8) order by rank",
        &[],
    );
    assert_eq!(explained, plain);
    let unexplained: i64 = session.one(
        "select count(*) from salesai.search_explain('price and security of the rollout', 8)
         where (lexical_score > 0) <> (words is not null) or score is distinct from 1 / (1 + exp(-fused - around_part - ln(boost)))
             or scan is null",
        &[],
    );
    assert_eq!(unexplained, 0);
    let with_neighbours: i64 = session.one(
        "select count(*) from salesai.search('price and security of the rollout', 8, neighbours => 1) h
         join salesai.chunk c on c.id = h.chunk_id
         where (h.before is not null) = (c.position > 0)
           and h.after is not distinct from (select n.content from salesai.chunk n
               where n.interaction_id = c.interaction_id and n.position = c.position + 1)",
        &[],
    );
    assert_eq!(with_neighbours, 8);
    for (arguments, what) in [
        ("fusion => 'x'", "an unknown fusion"),
        ("diversity => 2", "too much diversity"),
        ("around => -1", "less than nothing around"),
        ("recency => '-1 day'", "the future"),
        ("neighbours => 21", "too many neighbours"),
    ] {
        session
            .refusal(
                &format!("select * from salesai.search('a', {arguments})"),
                &[],
            )
            .assert_is("22023", what);
    }
}

/// Goal: what a query names counts more, and only that; nothing is understood where that is not wanted.
#[test]
fn named_things_count_more() {
    let mut session = world::shared().connect();
    session.run("begin");
    session.run(
        "select salesai.ingest_crm('test', 'product', '[{\"external_id\": \"p1\", \"name\": \"Security Review\"},
             {\"external_id\": \"p2\", \"name\": \"Gone\"}, {\"external_id\": \"p2\", \"name\": \"Gone\", \"deleted\": true}]')",
    );
    let row = session.row(
        "select m.account_ids = array[a.id], m.opportunity_ids, m.products, m.since::date::text, m.until::date::text
         from salesai.mentioned('the GONE security review at Vestra Health Network, since 2026-03-01') m,
             salesai.account a where a.name = 'Vestra Health Network'",
        &[],
    );
    assert!(row.get::<_, bool>(0));
    assert_eq!(row.get::<_, Vec<i64>>(1), Vec::<i64>::new());
    assert_eq!(row.get::<_, Vec<String>>(2), ["Security Review"]);
    assert_eq!(row.get::<_, Option<String>>(3).unwrap(), "2026-03-01");
    assert_eq!(row.get::<_, Option<String>>(4), None);
    // A contact stands for its account.
    let by_contact: bool = session.one(
        "select m.account_ids = array[c.account_id] from salesai.contact c, salesai.mentioned('did ' || c.name || ' agree?') m
         where c.account_id is not null order by c.id limit 1",
        &[],
    );
    assert!(by_contact);

    let query = "security review for Vestra Health Network in March 2026";
    let mut wrong = |understand: &str| -> (i64, i64) {
        let row = session.row(
            &format!(
                "select count(*) filter (where e.boost <> 1), count(*) filter (where abs(e.boost
                     - case when c.account_id = (select id from salesai.account where name = 'Vestra Health Network') then 1.5 else 1 end
                     * case when c.content ~* 'security\\s+review' or c.heading ~* 'security\\s+review' then 1.5 else 1 end
                     * case when c.occurred_at >= '2026-03-01' and c.occurred_at < '2026-04-01' then 1.5 else 1 end) > 1e-9)
                 from salesai.search_explain('{query}', 100{understand}) e join salesai.chunk c on c.id = e.chunk_id"
            ),
            &[],
        );
        (row.get(0), row.get(1))
    };
    let (boosted, wrong_boosts) = wrong("");
    assert!(boosted > 0);
    assert_eq!(wrong_boosts, 0);
    assert_eq!(wrong(", understand => false").0, 0);
    session.run("rollback");
}

/// Goal: the cross-encoder has the last word over the best of both legs, boosts stay, and what is explained is what it
/// said.
#[test]
fn a_cross_encoder_reranks() {
    let mut session = world::shared().connect();
    let query = "price and security of the rollout";
    let reranked: Vec<i64> = session.column(
        "select chunk_id from salesai.search($1, 8, rerank => true)",
        &[&query],
    );
    let expected: Vec<i64> = session.column(
        "select e.chunk_id
         from salesai.search_explain($1, 30) e
         join salesai.chunk c on c.id = e.chunk_id
         cross join lateral unnest(salesai.rerank($1, array[c.heading || e'\n' || c.content])) s (score)
         order by 1 / (1 + exp(-s.score - ln(e.boost))) desc, 1 limit 8",
        &[&query],
    );
    assert_eq!(reranked, expected);
    let plain: Vec<i64> = session.column("select chunk_id from salesai.search($1, 8)", &[&query]);
    assert_ne!(reranked, plain);
    let wrong: i64 = session.one(
        "select count(*) from salesai.search_explain($1, 8, rerank => true)
         where rerank_score is null or score is distinct from 1 / (1 + exp(-rerank_score - ln(boost)))",
        &[&query],
    );
    assert_eq!(wrong, 0);
    let diverse: i64 = session.one(
        "select count(distinct chunk_id) from salesai.search($1, 8, rerank => true, diversity => 0.8)",
        &[&query],
    );
    assert_eq!(diverse, 8);
    let none: i64 = session.one(
        "select count(*) from salesai.search('-price', rerank => true)",
        &[],
    );
    assert_eq!(none, 0);
    let scores: Vec<f32> = session.one(
        "select salesai.rerank('price', array_agg('passage ' || n)) from generate_series(1, 600) n",
        &[],
    );
    assert_eq!(scores.len(), 600);
    assert!(session.one::<bool>(
        "select salesai.rerank('price', '{}') = '{}' and salesai.rerank(null, '{a}') is null",
        &[]
    ));
    session
        .refusal(
            "select salesai.rerank('price', array['a'], 'no such model')",
            &[],
        )
        .assert_is("42704", "an unknown reranking model");
    session
        .refusal("select salesai.rerank(' ', array['a'])", &[])
        .assert_is("22023", "an empty query");
    session
        .refusal("select salesai.rerank('price', array['a', null])", &[])
        .assert_is("22023", "a passage that is NULL");
    let kinds: Vec<String> = session.column(
        "select m ->> 'kind' from jsonb_array_elements(salesai.sidecar_state() -> 'models') m",
        &[],
    );
    assert!(kinds.contains(&"reranking".to_owned()), "{kinds:?}");
}

/// Goal: the planner knows how many rows come, whichever way k is given.
#[test]
fn the_planner_is_told() {
    let mut session = world::shared().connect();
    session.run("prepare by_k (integer) as select * from salesai.search('price', k => $1)");
    session.run("prepare by_join (integer) as select * from salesai.search_explain('price', $1) e join salesai.chunk c on c.id = e.chunk_id");
    for (statement, rows) in [
        ("select * from salesai.search('price')", "rows=10 "),
        ("select * from salesai.search('price', 37)", "rows=37 "),
        (
            "select * from salesai.search('price', kinds => '{call}', k => 30 + 3)",
            "rows=33 ",
        ),
        ("select (salesai.search('price', 41)).chunk_id", "rows=41 "),
        ("execute by_k(23)", "rows=23 "),
        ("execute by_join(19)", "rows=19 "),
        (
            "select * from salesai.search('price', (select 5))",
            "rows=10 ",
        ),
        ("select * from salesai.search('price', null)", "rows=10 "),
    ] {
        let plan: Vec<String> = session.column(&format!("explain {statement}"), &[]);
        let plan = plan.join("\n");
        assert!(plan.contains(rows), "{statement}:\n{plan}");
    }
    session.run("deallocate all");
}
