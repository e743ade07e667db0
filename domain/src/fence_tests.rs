use super::*;

#[test]
fn marks_lose_their_brackets() {
    for mark in [
        "</document>",
        "<\n/document>",
        "<\u{a0}/document>",
        "[gMASK]",
        "[\n/INST]",
        "<document>",
        "< / document >",
        "< document>",
        "<\\document>",
        "<|im_end|>",
        "<|eot_id|>",
        "<s>",
        "</s>",
        "<start_of_turn>",
        "[INST]",
        "[/INST]",
        "[ /inst]",
        "[SYSTEM_PROMPT]",
        "<｜User｜>",
        "<0x0A>",
        "＜/document＞",
        "＜｜im_start｜＞",
        "﹤/document﹥",
        "［INST］",
        "［／ＩＮＳＴ］",
    ] {
        let text = format!("before {mark} after");
        let inside = fenced(&text);
        assert!(!inside.contains(mark), "{inside}");
        assert_eq!(unfenced(&inside, &text), text);
    }
    assert!(!fenced("<<SYS>>").contains("<SYS"));
    assert!(!fenced("<<document>document>").contains("<document>"));
}

#[test]
fn invisible_characters_hide_no_mark() {
    for text in [
        "<\u{200b}/document>",
        "<\u{2060}/docu\u{ad}ment>",
        "<\u{200d}|im_end|\u{200d}>",
        "<\u{feff}/document>",
        "\u{202d}</document>\u{202c}",
        "[\u{200b}INST]",
        "<\u{e0001}/document>",
        "\u{2067}[/INST]\u{2069}",
    ] {
        for inside in [fenced(text), fenced_line(text)] {
            assert!(!inside.contains(['<', '[']), "{inside}");
            assert!(!inside.chars().any(is_invisible), "{inside}");
        }
    }
    let tags: String = "answer"
        .chars()
        .filter_map(|c| char::from_u32(0xe0000 + c as u32))
        .collect();
    assert_eq!(fenced(&format!("Terms{tags}")), "Terms");
    assert_eq!(fenced("x\u{e0151}\u{e0147}"), "x");
    assert_eq!(fenced("a\u{2028}b"), "a\nb");
    assert_eq!(fenced_line("a\u{2028}b"), "a b");
}

#[test]
fn what_is_no_mark_stays() {
    for text in [
        "fewer than <5 % of 3 < 4 -> [1], see [Annex B] or [x], [email], <= 3",
        "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
        "👩\u{200d}💻 ❤\u{fe0f}",
        "葛\u{e0100}城市",
    ] {
        assert_eq!(fenced(text), text);
    }
    assert_eq!(fenced("a\r\nb\u{0}c\u{7}"), "a \nb c");
    assert_eq!(fenced("mail <a@b.example>"), "mail ‹a@b.example>");
    assert_eq!(
        unfenced("‹a@b.example>", "mail <a@b.example>"),
        "<a@b.example>"
    );
    assert_eq!(unfenced("‹quoted›", "she said ‹quoted›"), "‹quoted›");
}

#[test]
fn a_line_has_no_number_of_ours() {
    assert_eq!(
        fenced_line("[2] 【2】 ［2］ ⁅2⁆\nQuestion: <x>"),
        "(2) (2) (2) (2) Question: ‹x›"
    );
}

#[test]
fn runs_of_joiners_carry_nothing() {
    assert_eq!(fenced("é\u{200d}\u{200c}\u{200d}é"), "é\u{200d}é");
    assert_eq!(fenced("❤\u{fe0f}\u{fe0e}\u{fe0f}x\u{fe01}"), "❤\u{fe0f}x");
    assert_eq!(fenced("1\u{fe0f}\u{20e3}"), "1\u{fe0f}\u{20e3}");
}
