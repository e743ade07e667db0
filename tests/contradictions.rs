//! Evidence that contradicts itself, and evidence that is not for who asks.

use std::sync::OnceLock;

use tests::cluster::Cluster;
use tests::session::Session;
use tests::world::{self, drain};

const CHANGED: &str = "What is the licence price?";
const DISPUTED: &str = "When is the renewal of the contract?";

/// Calls: of which account, when, and what is said.
const CALLS: [(&str, &str, &str); 3] = [
    (
        "Fenwick",
        "2026-03-02",
        "Ann Lee: Good to see you all again today.\nBob Ray: The licence price is 40,000 euros.\nAnn Lee: We will take that to the board.\n",
    ),
    (
        "Fenwick",
        "2026-04-10",
        "Ann Lee: The board has met on Monday.\nBob Ray: The licence price is now 45,000 euros.\nAnn Lee: That was to be expected.\n",
    ),
    (
        "Osprey",
        "2026-03-02",
        "Bob Ray: The renewal of the contract is on March 3.\nAnn Lee: The renewal of the contract is on May 1.\n",
    ),
];

/// Goal: what was said later goes before what was said earlier; both are shown in the order of time, each with its quote,
/// and details names them.
#[test]
fn changes_are_shown_in_time_order() {
    let mut session = cluster().connect();
    let row = session.row(
        "select i.answer, array(select c.quote from unnest(i.citations) c order by c.number), i.details -> 'retrieved' is null,
             i.details -> 'contradictions' = jsonb_build_array(jsonb_build_object('decided_by', 'time', 'statements',
                 (select jsonb_agg(jsonb_build_object('number', c.number, 'interaction_id', c.interaction_id,
                      'segment_id', c.segment_id, 'speaker', 'Bob Ray', 'quote', c.quote,
                      'occurred_on', case c.number when 1 then '2026-03-02' else '2026-04-10' end) order by c.number)
                  from unnest(i.citations) c where c.number <= 2))),
             i.insight_id
         from salesai.insight($1, account => 'Fenwick', method => 'extractive') i",
        &[&CHANGED],
    );
    let answer: &str = row.get(0);
    assert!(
        answer.starts_with(
            "The licence price is 40,000 euros. [1] (2026-03-02, changed later) \
             The licence price is now 45,000 euros. [2] (2026-04-10)"
        ),
        "{answer}"
    );
    assert_eq!(
        row.get::<_, Vec<String>>(1)[..2],
        [
            "The licence price is 40,000 euros.",
            "The licence price is now 45,000 euros."
        ]
    );
    assert!(row.get::<_, bool>(2));
    assert!(row.get::<_, bool>(3));
    let reproduced: bool = session.one(
        "select r.reproduced from salesai.insight_replay($1) r",
        &[&row.get::<_, i64>(4)],
    );
    assert!(reproduced);
}

/// Goal: where two say different things and nothing decides, there is no answer, in whole, streamed or through the queue;
/// both are cited and named.
#[test]
fn conflicts_are_no_answer() {
    let mut session = cluster().connect();
    let ask = "select i.answer, i.reason, array(select c.quote from unnest(i.citations) c order by c.number),
        i.details -> 'contradictions' -> 0 -> 'decided_by' = 'null', i.insight_id ";
    let options = "($1, account => 'Osprey', method => 'extractive')";
    let whole = session.row(
        &format!("{ask} from salesai.insight{options} i"),
        &[&DISPUTED],
    );
    let request: i64 = session.one(
        &format!("select salesai.insight_submit{options}"),
        &[&DISPUTED],
    );
    let queued = session.row(
        &format!("{ask} from salesai.insight_result($1, wait_ms => 60000) i"),
        &[&request],
    );
    for row in [&whole, &queued] {
        assert_eq!(row.get::<_, Option<&str>>(0), None);
        assert_eq!(row.get::<_, &str>(1), "conflicting");
        assert_eq!(
            row.get::<_, Vec<String>>(2),
            [
                "The renewal of the contract is on March 3.",
                "The renewal of the contract is on May 1."
            ]
        );
        assert!(row.get::<_, bool>(3));
    }
    let kept: i64 = session.one(
        "select count(*) from salesai.citation where insight_id = $1",
        &[&whole.get::<_, i64>(4)],
    );
    assert_eq!(kept, 2);
    let streamed: Vec<String> = session.column(
        &format!("select salesai.insight_stream{options}"),
        &[&DISPUTED],
    );
    assert_eq!(streamed, Vec::<String>::new());
}

/// Goal: who may see no interaction is told so, the same whether there are any or none; who may see all, or sees others,
/// is told that nothing matches.
#[test]
fn who_sees_nothing_is_told_so() {
    let mut session = cluster().connect();
    session.run("create role c_nobody login in role salesai_rep; create role c_analyst login in role salesai_analyst");
    let reason = |session: &mut Session| -> String {
        session.one("select i.reason from salesai.insight($1) i", &[&CHANGED])
    };
    session.run("begin; delete from salesai.interaction");
    for (role, expected) in [("c_nobody", "not_permitted"), ("c_analyst", "no_match")] {
        session.run(&format!("set local role {role}"));
        assert_eq!(reason(&mut session), expected, "{role}");
        session.run("reset role");
    }
    assert_eq!(
        reason(&mut session),
        "no_match",
        "a superuser sees an empty database"
    );
    session.run("rollback");
    let mut nobody = cluster().connect_as("c_nobody");
    assert_eq!(reason(&mut nobody), "not_permitted");
    // An account that is hidden and one that is not there are told apart by nobody.
    for account in ["Fenwick", "Nowhere"] {
        let sql = format!("select salesai.insight('{CHANGED}', account => '{account}')");
        let refusal = nobody.refusal(&sql, &[]);
        refusal.assert_is("P0002", &sql);
    }
}

/// Goal: what a mail quotes between its lines was said before by somebody else, and is no evidence of the mail.
#[test]
fn quotations_are_no_evidence() {
    let mut session = cluster().connect();
    let reply = "From: Ana Lund <ana@halden.example>\r\nSubject: Re: Pilot\r\nMessage-ID: <2@h>\r\n\r\n\
                 The walrus of the pilot eats fish.\r\n\r\n> Does the walrus swim in the lake?\r\n\r\nIt swims there all day.\r\n";
    let id: i64 = session.one(
        "select salesai.ingest_email('t', 'quoted', $1)",
        &[&reply.as_bytes()],
    );
    drain(&mut session);
    let parts: Vec<String> = session.column(
        "select part from salesai.segment where interaction_id = $1 order by position",
        &[&id],
    );
    assert_eq!(parts, ["body", "quoted", "body"]);
    let evidence: Vec<String> = session.column(
        "select s ->> 'content' from salesai.evidence(array(select c.id from salesai.chunk c where c.interaction_id = $1)) e
         cross join jsonb_array_elements(e) i cross join jsonb_array_elements(i -> 'segments') s",
        &[&id],
    );
    assert_eq!(
        evidence,
        [
            "The walrus of the pilot eats fish.",
            "It swims there all day."
        ]
    );
}

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = world::cluster(true);
        let mut session = cluster.connect();
        session.run(
            r#"select * from salesai.ingest_crm('t', 'account', '[{"external_id": "f", "name": "Fenwick"}, {"external_id": "o", "name": "Osprey"}]')"#,
        );
        for (number, (account, day, transcript)) in CALLS.iter().enumerate() {
            session.one::<i64>(
                "select salesai.ingest_call('t', $1, $2, account => $3, started_at => $4::text::timestamptz)",
                &[&number.to_string(), transcript, account, day],
            );
        }
        drain(&mut session);
        cluster
    })
}
