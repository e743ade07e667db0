//! Cascades: a head decides where it may, at a precision and recall relative to the model.

use tests::session::Session;
use tests::world;

const STATEMENT: &str = "This is about business.";
/// Made of parts, so that the head has something to learn and the model something to be unsure of.
const DOCUMENTS: &str = "(select array_agg(format('%s %s, %s.', o.said, w.what, d.day) order by o.said, w.what, d.day)
    from unnest(array['Please send us', 'We are happy with', 'Could you quote', 'They rejected', 'I need to see', 'Yesterday we saw',
             'Thanks for', 'Can you call me about', 'Our team likes', 'Let me have']) o (said)
    cross join unnest(array['the order form', 'the new price', 'the contract', 'a list of defects', 'the delivery plan',
             'the training', 'the invoice', 'a reference', 'the draft', 'the support hours']) w (what)
    cross join unnest(array['by Friday', 'next week', 'before the audit', 'on the third of May', 'at noon', 'in Tarrow', 'as agreed']) d (day))";

/// Goal: precision and recall relative to the model are what was asked for, most documents are left to the head, those
/// that the model judged have its own word, and the same seed gives the same.
#[test]
fn targets_are_reached_relative_to_the_model() {
    let mut session = world::shared().connect();
    session.run("set salesai.timeout_ms = '1h'");
    session.run(&format!(
        "create temporary table d as select {DOCUMENTS} as documents;
         create temporary table o as select salesai.is_true('{STATEMENT}', documents) as oracle from d;
         create temporary table c as
             select c.*, o.oracle[c.number] as oracle
             from d, o, salesai.is_true_cascade('{STATEMENT}', d.documents, 0.6, 0.6, people => o.oracle) c"
    ));
    let row = session.row(
        "select count(*), count(*) filter (where decided_by = 'head'),
             bool_and(is_true is not distinct from oracle) filter (where decided_by = 'model'),
             count(*) filter (where is_true and oracle), count(*) filter (where is_true), count(*) filter (where oracle),
             max(model_share), min(precision_bound), min(recall_bound), count(error),
             max(people_agreement) - avg((is_true is true = oracle)::integer) filter (where oracle is not null)
         from c",
        &[],
    );
    let count = |column: usize| row.get::<_, i64>(column);
    assert_eq!(count(0), 700);
    assert!(row.get::<_, bool>(2));
    assert_eq!(count(9), 0);
    let share = row.get::<_, f32>(6);
    assert!((f64::from(share) - (700 - count(1)) as f64 / 700.0).abs() < 1e-3);
    let (precision, recall) = (
        count(3) as f64 / count(4) as f64,
        count(3) as f64 / count(5) as f64,
    );
    println!(
        "measured: is_true, 700 documents, {} of them true: the model judged {share:.2}; \
         precision {precision:.3}, recall {recall:.3}",
        count(5)
    );
    assert!(precision >= 0.6 && recall >= 0.6);
    assert!(row.get::<_, f32>(7) >= 0.6 && row.get::<_, f32>(8) >= 0.6);
    assert!(count(1) > 0, "the head decided nothing");
    assert!(row.get::<_, f64>(10).abs() < 1e-6);
    let again: bool = session.one(
        &format!(
            "select array_agg(a.is_true order by a.number) is not distinct from (select array_agg(c.is_true order by c.number) from c)
             from d, salesai.is_true_cascade('{STATEMENT}', d.documents, 0.6, 0.6) a"
        ),
        &[],
    );
    assert!(again);
}

/// Goal: classify agrees with the model as often as was asked for, and NULL and blank documents have nothing.
#[test]
fn labels_agree_with_the_model() {
    let mut session = world::shared().connect();
    session.run("set salesai.timeout_ms = '1h'");
    let labels = "array['request', 'praise', 'complaint']";
    let row = session.row(
        &format!(
            "with d as materialized (select {DOCUMENTS} || array[null, ' '] as documents),
                 o as materialized (select salesai.classify(documents, {labels}) as oracle from d)
             select count(*), count(*) filter (where c.label is not distinct from o.oracle[c.number]),
                 count(*) filter (where c.decided_by is null), count(*) filter (where c.decided_by = 'head'),
                 bool_and(c.label = any ({labels})) filter (where c.number <= 700), max(c.model_share)
             from d, o, salesai.classify_cascade(d.documents, {labels}, 0.9, 0.9) c"
        ),
        &[],
    );
    let count = |column: usize| row.get::<_, i64>(column);
    println!(
        "measured: classify, 700 documents: the model judged {:.2}",
        row.get::<_, f32>(5)
    );
    assert_eq!((count(0), count(2)), (702, 2));
    assert!(count(1) as f64 >= 0.9 * 702.0, "{}", count(1));
    assert!(count(3) > 0, "the head decided nothing");
    assert!(row.get::<_, bool>(4));
}

/// Goal: a target that the sample cannot show, or too few documents, ask the model about all, and fail nothing.
#[test]
fn it_escalates_more_rather_than_fail() {
    let mut session = world::shared().connect();
    session.run("set salesai.timeout_ms = '1h'");
    for (documents, target) in [
        (
            "array['Please call me.', 'Fine weather.', null]".to_owned(),
            0.9,
        ),
        (DOCUMENTS.to_owned(), 0.9999),
    ] {
        let all: bool = session.one(
            &format!(
                "select bool_and(decided_by is distinct from 'head' and model_share = 1 and precision_bound = 1 and recall_bound = 1)
                 from salesai.is_true_cascade('{STATEMENT}', {documents}, {target}, {target})"
            ),
            &[],
        );
        assert!(all, "{target}");
    }
    let none: i64 = session.one(
        "select count(*) from salesai.is_true_cascade('Yes.', '{}'::text[])",
        &[],
    );
    assert_eq!(none, 0);
}

/// Goal: targets that make no sense, and operators that have no cascade, are refused.
#[test]
fn bad_arguments() {
    let mut session = world::shared().connect();
    session.run("set salesai.timeout_ms = '1h'");
    for arguments in [
        "'x', array['a'], 1.0",
        "'x', array['a'], 0.9, 0",
        "'x', array['a'], 0.9, 0.9, null",
        "' ', array['a']",
    ] {
        refuse(
            &mut session,
            &format!("select salesai.is_true_cascade({arguments})"),
        );
    }
    refuse(
        &mut session,
        "select salesai.classify_cascade(array['a'], array['only'])",
    );
    refuse(
        &mut session,
        "select salesai.apply_cascade('summarize', array['a'], '{}')",
    );
}

fn refuse(session: &mut Session, sql: &str) {
    session.refusal(sql, &[]).assert_is("22023", sql);
}
