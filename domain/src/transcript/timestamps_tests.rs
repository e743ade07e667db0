use super::{CueTimes, parse_cue_times, parse_time};

/// Goal: every spelling of a time that the platforms write is read, and nothing else.
#[test]
fn times_of_all_platforms() {
    for (text, time_ms) in [
        ("00:02:15.420", Some(135_420)),
        ("02:15.420", Some(135_420)),
        ("00:02:15,420", Some(135_420)),
        ("0:0:5.1", Some(5_100)),
        ("0:0:5.12345", Some(5_123)),
        ("123:00:00.000", Some(442_800_000)),
        ("01:02", Some(62_000)),
        ("-0:0:1.000", Some(0)),
        ("-1:00:00.000", Some(0)),
        ("5", None),
        ("1:2:3:4", None),
        ("aa:bb", None),
        ("1:+2", None),
        ("1:2.", None),
        ("1:2.x", None),
        ("", None),
        ("9999999:00:00", None),
        ("::", None),
    ] {
        assert_eq!(parse_time(text), time_ms, "{text}");
    }
}

/// Goal: settings after the times are ignored and an end before its start is repaired.
#[test]
fn cue_times_tolerate_settings_and_swaps() {
    let times = |start_ms, end_ms| Some(CueTimes { start_ms, end_ms });
    assert_eq!(
        parse_cue_times("00:01.000 --> 00:02.000 align:start line:0%"),
        times(1000, 2000)
    );
    assert_eq!(parse_cue_times("00:02.000-->00:01.000"), times(2000, 2000));
    assert_eq!(parse_cue_times("-->"), None);
    assert_eq!(parse_cue_times("00:01.000 -->"), None);
    assert_eq!(parse_cue_times("00:01.000"), None);
}
