use std::time::{Duration, Instant};

use super::html_to_text;

/// Goal: the text has the words and the paragraphs that a reader sees.
#[test]
fn html_reads_as_shown() {
    for (html, text) in [
        (
            "<p>Hi&nbsp;Bob,</p>\n<p>see <b>you</b>.</p>",
            "Hi Bob,\n\nsee you.",
        ),
        ("<div>a</div><div>b<br>c<br/><br/>d</div>", "a\n\nb\nc\n\nd"),
        (
            "<head><title>no</title><style>p > a {}</style></head><BODY>yes</BODY>",
            "yes",
        ),
        ("a<script>if (1 < 2) { '</p>' }</script>b", "ab"),
        ("a<!-- <p>no</p> -->b", "ab"),
        (
            "<ul><li>one<li>two</ul><table><tr><td>x</td><td>y</td></tr></table>",
            "one\ntwo\n\nx y",
        ),
        (
            "AT&amp;T 1 < 2 &copy; &nope; & co",
            "AT&T 1 < 2 © &nope; & co",
        ),
        ("a &#0; b", "a b"),
        ("<style>never closed", ""),
        ("a<b", "a"),
        ("<", "<"),
    ] {
        assert_eq!(html_to_text(html), text, "{html}");
    }
}

/// Goal: hostile HTML takes linear time.
#[test]
fn hostile_html_takes_linear_time() {
    for unit in [
        "<",
        "<p",
        "<!--",
        "<style>",
        "</",
        "<style></",
        "&",
        "&amp",
        "<a ",
        "<p>",
    ] {
        let html = unit.repeat(4 * 1024 * 1024 / unit.len());
        let start = Instant::now();
        let _ = html_to_text(&html);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{unit:?}: {:?}",
            start.elapsed()
        );
    }
}
