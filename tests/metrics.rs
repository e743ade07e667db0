//! Conversation metrics, computed by hand.

use tests::session::Session;
use tests::world;

/// Ana is ours, Bob the customer. Seconds, words:
///
/// | cue | who | from..to | |
/// |---|---|---|---|
/// | 1 | Ana | 0..10 | 9 words, one question mark |
/// | 2 | Bob | 9..9.5 | back-channel: counts as speech, breaks nothing |
/// | 3 | Ana | 12..20 | 9 words, fillers "um" and "you know"; same run as cue 1, gap 2 s |
/// | 4 | Bob | 22..43 | the customer's longest story: 21 s |
/// | 5 | Ana | 42..52 | 10 words, two question marks; begins 1 s before Bob has ended |
/// | 6 | Bob | 70..80 | after 18 s of silence; a question mark of the customer does not count |
/// | 7 | Ana | 84..90 | 7 words; 4 s after Bob |
const CALL: &str = "WEBVTT

1
00:00:00.000 --> 00:00:10.000
Ana: Welcome Bob, what should this pilot prove for you?

2
00:00:09.000 --> 00:00:09.500
Bob: Mm-hm.

3
00:00:12.000 --> 00:00:20.000
Ana: Um, we can start with two plants, you know.

4
00:00:22.000 --> 00:00:43.000
Bob: We lose eleven hours a month at the Tarrow plant, and nobody can tell us where they go.

5
00:00:42.000 --> 00:00:52.000
Ana: How often does that happen? And who sees it first?

6
00:01:10.000 --> 00:01:20.000
Bob: Every week, and the shift lead sees it. Does that help you?

7
00:01:24.000 --> 00:01:30.000
Ana: Good, then we begin there on Monday.
";

/// Goal: every figure of the view is the one that its comment defines.
#[test]
fn golden_call() {
    let expected = [
        ("duration_s", 90.0),
        ("speaker_count", 2.0),
        ("turn_count", 7.0),
        // Ana 10 + 8 + 10 + 6 = 34 s, Bob 0.5 + 21 + 10 = 31.5 s.
        ("talk_share_of_speech", 0.519),
        ("talk_share_of_call", 0.378),
        // Covered: 0..10, 12..20, 22..52, 70..80, 84..90 = 64 s.
        ("silence_share", 0.289),
        ("longest_silence_s", 18.0),
        ("longest_monologue_s", 20.0),
        ("longest_customer_story_s", 21.0),
        // Ana, Bob, Ana, Bob, Ana: four switches in 1.5 minutes.
        ("switches_per_min", 2.67),
        // Gaps after Bob: 0 s (overlap) and 4 s.
        ("patience_median_s", 2.0),
        ("patience_p90_s", 3.6),
        ("question_count", 3.0),
        ("questions_per_30_min", 60.0),
        ("overtalk_s", 1.0),
        ("overtalk_count", 1.0),
        // 9 + 9 + 10 + 7 = 35 words in 34 s.
        ("words_per_minute", 62.0),
        ("filler_words", 2.0),
    ];
    let mut session = world::shared().connect();
    session.run("begin");
    let call = ingest(
        &mut session,
        "[{\"name\": \"Ana\", \"side\": \"internal\"}, {\"name\": \"Bob\", \"side\": \"external\"}]",
    );
    for (measure, value) in expected {
        assert_eq!(
            metric(&mut session, call, measure),
            Some(value),
            "{measure}"
        );
    }
    session.run("rollback");
}

/// Goal: measures that need a side are NULL when nobody's side is known; the others remain.
#[test]
fn unknown_sides() {
    let mut session = world::shared().connect();
    session.run("begin");
    let call = ingest(&mut session, "[]");
    for measure in [
        "talk_share_of_speech",
        "patience_median_s",
        "words_per_minute",
        "question_count",
    ] {
        assert_eq!(metric(&mut session, call, measure), None, "{measure}");
    }
    assert_eq!(metric(&mut session, call, "duration_s"), Some(90.0));
    assert_eq!(metric(&mut session, call, "overtalk_s"), Some(1.0));
    session.run("rollback");
}

/// Goal: every call of the deal room that has times has a row.
#[test]
fn every_timed_call_is_measured() {
    let mut session = world::shared().connect();
    let missing: i64 = session.one(
        "select count(*) from salesai.interaction i
         where i.kind = 'call' and i.duration_ms is not null
           and not exists (select from salesai.call_metrics m where m.interaction_id = i.id)",
        &[],
    );
    assert_eq!(missing, 0);
}

fn ingest(session: &mut Session, participants: &str) -> i64 {
    let call = session.one(
        "select salesai.ingest_call('test', 'metrics', $1, participants => $2::text::jsonb)",
        &[&CALL, &participants],
    );
    // In this transaction, which no worker sees into.
    session.run("select salesai.process()");
    call
}

fn metric(session: &mut Session, call: i64, measure: &str) -> Option<f64> {
    session.one(
        &format!("select {measure}::float8 from salesai.call_metrics where interaction_id = $1"),
        &[&call],
    )
}
