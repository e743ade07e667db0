//! More evidence than a model reads at once: what it is shown, and what stands for the rest.

use std::sync::OnceLock;

use tests::cluster::{Cluster, Settings};
use tests::session::Session;
use tests::sidecar::Sidecar;
use tests::world::drain;

const QUESTION: &str = "What do customers say about the price of the licence?";

/// Tokens of prompt and answer.
const WINDOW: i32 = 1024;
const TOWNS: [&str; 12] = [
    "Ashgrove", "Birkdale", "Corley", "Dunmore", "Elsham", "Fenwick", "Garston", "Hexley",
    "Irving", "Jarrow", "Kirkby", "Larne",
];

/// Goal: evidence that is many times the model's window is shown as far as it fits, rather than refused.
#[test]
fn much_evidence_is_packed() {
    let mut session = world().connect();
    for method in ["generated", "extractive"] {
        let row = session.row(
            "select i.method, i.reason, i.prompt_tokens, (i.details ->> 'evidence_characters')::int, i.insight_id
             from salesai.insight($1, evidence_count => 40, method => $2, explain => true) i",
            &[&QUESTION, &method],
        );
        let (found, characters): (&str, i32) = (row.get(0), row.get(3));
        assert!([method, "abstained"].contains(&found));
        assert!(
            characters > 6 * WINDOW,
            "{characters} characters of evidence"
        );
        if let Some(tokens) = row.get::<_, Option<i32>>(2) {
            println!(
                "measured: prompt of {tokens} tokens, {found}, {:?}",
                row.get::<_, Option<&str>>(1)
            );
            assert!((WINDOW / 2..=WINDOW - 64).contains(&tokens), "{tokens}");
        }
        let reproduced: bool = session.one(
            "select r.reproduced and r.evidence = 'unchanged' from salesai.insight_replay($1) r",
            &[&row.get::<_, i64>(4)],
        );
        assert!(reproduced, "{method}");
    }
    let streamed =
        "select count(*) from (select salesai.insight_stream($1, evidence_count => 40)) s";
    session.one::<i64>(streamed, &[&QUESTION]);
}

/// Goal: where chunks of more than eight interactions are found the summary of each is evidence too, in words of the
/// original; where fewer are, none is.
#[test]
fn summaries_are_evidence_of_many() {
    let mut session = world().connect();
    let summaries = "select count(*), count(distinct e -> 'interaction_id'), count(distinct e -> 'number'),
            bool_and((e -> 'number')::int > $1),
            bool_and(exists (select from salesai.segment g where g.id = (s -> 'segment_id')::bigint and g.content = s ->> 'content'
                             and g.interaction_id = (e -> 'interaction_id')::bigint))
        from (select array_agg(first) as chunk_ids from (
            select min(c.id) as first from salesai.chunk c group by c.interaction_id order by 1 limit $1) c) f
        cross join jsonb_array_elements(salesai.evidence(f.chunk_ids)) e
        cross join jsonb_array_elements(e -> 'segments') s
        where e ? 'is_summary'";
    let row = session.row(summaries, &[&10_i64]);
    assert!(row.get::<_, i64>(0) > 10);
    assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2)), (10, 10));
    assert!(row.get::<_, bool>(3) && row.get::<_, bool>(4));
    assert_eq!(session.row(summaries, &[&8_i64]).get::<_, i64>(0), 0);
    let chosen: Vec<String> = session.column(
        "select s.content from salesai.interaction i join salesai.interaction_summary m on m.interaction_id = i.id
         join salesai.segment s on s.id = any (m.segment_ids) where i.external_id = '0' order by s.position",
        &[],
    );
    assert!(
        chosen
            .iter()
            .any(|said| said.contains("price of the licence")),
        "{chosen:?}"
    );
    assert!(
        !chosen.iter().any(|said| said.contains("Good morning")),
        "{chosen:?}"
    );
}

/// Goal: a summary is of the present version, is seen by who sees the interaction, and goes with it.
#[test]
fn summaries_follow_their_interaction() {
    let mut session = world().connect();
    let summary = "select m.version::text || ' ' || string_agg(s.content, ' ' order by s.position)
        from salesai.interaction i join salesai.interaction_summary m on m.interaction_id = i.id
        join salesai.segment s on s.id = any (m.segment_ids) and s.version = m.version
        where i.external_id = 'edited' group by m.version";
    for (version, subject) in [(1, "warranty"), (2, "escrow")] {
        let text = format!(
            "The {subject} of the pumps runs out in autumn.\n\nWe asked for a longer {subject} of the pumps."
        );
        let id: i64 = session.one("select salesai.ingest_note('t', 'edited', $1)", &[&text]);
        drain(&mut session);
        let found: String = session.one(summary, &[]);
        assert!(
            found.starts_with(&version.to_string()) && found.contains(subject),
            "{found}"
        );
        session.run("begin; set local role salesai_rep");
        let seen = "select count(*) from salesai.interaction_summary";
        assert_eq!(session.one::<i64>(seen, &[]), 0);
        session.run("reset role");
        session.rows("delete from salesai.interaction where id = $1", &[&id]);
        let left: Vec<String> = session.column(summary, &[]);
        assert_eq!(left, Vec::<String>::new());
        session.run("rollback");
    }
}

fn world() -> &'static Cluster {
    static WORLD: OnceLock<(Sidecar, Cluster)> = OnceLock::new();
    let (_, cluster) = WORLD.get_or_init(|| {
        let sidecar = Sidecar::start_with("--context-tokens", &WINDOW.to_string());
        let cluster = Cluster::start(&Settings::new(sidecar.socket()));
        let mut session = cluster.connect();
        for (number, town) in TOWNS.iter().enumerate() {
            ingest_call(&mut session, number, town);
        }
        drain(&mut session);
        (sidecar, cluster)
    });
    cluster
}

fn ingest_call(session: &mut Session, number: usize, town: &str) {
    let transcript = format!(
        "Bob Ray: Good morning from a rainy harbour, how was your journey?\n\
         Ann Lee: Our depot in {town} finds the price of the licence too high for {number}0 drivers.\n\
         Bob Ray: I understand that, and the price of the licence depends on the depot and on the drivers there.\n\
         Ann Lee: With {number}5 drivers in {town} the price of the licence would have to come down by a tenth.\n\
         Bob Ray: Let me ask our finance people whether the depot may have that price for its licence.\n\
         Ann Lee: The board in {town} decides about the licence in the first week after the holidays.\n\
         Bob Ray: Then I will send the price of the licence for the depot in {town} to you before that.\n"
    );
    session.one::<i64>(
        "select salesai.ingest_call('t', $1, $2, started_at => timestamptz '2026-03-01' + $3 * interval '1 day')",
        &[&number.to_string(), &transcript, &f64::from(number as u32)],
    );
}
