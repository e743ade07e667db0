use super::{clean_markup, collapse_whitespace};

/// Goal: tags and entities go, everything a person could have said stays.
#[test]
fn clean_markup_keeps_only_words() {
    for (raw, clean) in [
        ("a <i>b</i> c", "a b c"),
        ("R&amp;D &lt;now&gt; &#8217;t&nbsp;is", "R&D <now> ’t is"),
        ("<00:00:01.500>late <c.yellow>sun</c>", "late sun"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
        ("I <3 you", "I <3 you"),
        ("AT&T; R&D, &unknown; &;", "AT&T; R&D, &unknown; &;"),
        ("a&#0;b", "ab"),
        ("<", "<"),
        ("& <i", "& <i"),
    ] {
        assert_eq!(clean_markup(raw), clean, "{raw}");
    }
}

/// Goal: one space between words, no control characters, whatever the white space was.
#[test]
fn collapse_whitespace_joins_lines() {
    assert_eq!(
        collapse_whitespace("\u{feff} a\r\n\tb\u{a0}\u{0}c  "),
        "a b c"
    );
    assert_eq!(collapse_whitespace(" \n "), "");
}
