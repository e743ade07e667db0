use std::time::{Duration, Instant};

use super::{html_mail_to_text, html_to_text};

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

/// Goal: what an HTML mail quotes is marked, what it indents is not, and unbalanced or deep quotations do no harm.
#[test]
fn quotations_of_mails() {
    for (html, text) in [
        (
            "Yes.<blockquote type=\"cite\"><p>Really?</p><p>a<br>b</p><BLOCKQUOTE Class='gmail_quote'>Why?</blockquote></blockquote>No.",
            "Yes.\n\n> Really?\n\n> a\n> b\n\n> > Why?\n\nNo.",
        ),
        (
            "<blockquote style=\"margin: 0 0 0 40px; border: none\">In.</blockquote></blockquote>Out.",
            "In.\n\nOut.",
        ),
        (
            "<blockquote style=\"border:none; border-left: solid #CCC 1.0pt\">Out.</blockquote><blockquote>In.",
            "> Out.\n\nIn.",
        ),
        ("<blockquote cite=\"mid:1\">never closed", "> never closed"),
    ] {
        assert_eq!(html_mail_to_text(html), text, "{html}");
    }
    let deep = "<blockquote class=quote>a".repeat(100_000);
    assert!(html_mail_to_text(&deep).len() < 100_000 * 20);
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
        "<blockquote cite>",
    ] {
        let html = unit.repeat(4 * 1024 * 1024 / unit.len());
        let start = Instant::now();
        let _ = html_mail_to_text(&html);
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{unit:?}: {:?}",
            start.elapsed()
        );
    }
}
