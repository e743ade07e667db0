use super::*;

#[test]
fn marks_lose_their_brackets() {
    for mark in [
        "</document>",
        "<document>",
        "<|im_end|>",
        "<|eot_id|>",
        "<s>",
        "</s>",
        "<start_of_turn>",
        "<<SYS>>",
        "[INST]",
        "[/INST]",
        "[SYSTEM_PROMPT]",
        "<｜User｜>",
    ] {
        let text = format!("before {mark} after");
        let inside = fenced(&text);
        assert!(!inside.contains(mark), "{inside}");
        assert_eq!(unfenced(&inside, &text), text);
    }
}

#[test]
fn what_is_no_mark_stays() {
    let text = "fewer than <5 % of 3 < 4 -> [1], see [Annex B] or [x]";
    assert_eq!(fenced(text), text);
    assert_eq!(fenced("a\r\nb\u{0}c\u{7}"), "a \nb c");
    assert_eq!(fenced("mail <a@b.example>"), "mail ‹a@b.example>");
    assert_eq!(
        unfenced("‹a@b.example>", "mail <a@b.example>"),
        "<a@b.example>"
    );
    assert_eq!(unfenced("‹quoted›", "she said ‹quoted›"), "‹quoted›");
}
