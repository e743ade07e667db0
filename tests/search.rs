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
    let ranks: Vec<Option<usize>> = questions
        .iter()
        .map(|question| rank_of_answer(&mut session, question))
        .collect();
    let within = |k: usize| ranks.iter().flatten().filter(|&&rank| rank <= k).count();
    let (top3, top10, count) = (within(3), within(10), questions.len());
    println!(
        "measured: answers of the deal room in the top 3: {top3}, top 10: {top10}, of {count}"
    );
    assert!(top10 * 4 >= count * 3, "ranks: {ranks:?}");
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

fn rank_of_answer(session: &mut Session, question: &serde_json::Value) -> Option<usize> {
    let text = question["question"].as_str();
    let found: Vec<String> = session.column(
        "select i.external_id
         from salesai.search($1, 10, account => $2) with ordinality h
         join salesai.interaction i on i.id = h.interaction_id
         order by h.ordinality",
        &[&text, &question["account"].as_str()],
    );
    let position = found
        .iter()
        .position(|external_id| question["interaction"] == **external_id);
    position.map(|position| position + 1)
}
