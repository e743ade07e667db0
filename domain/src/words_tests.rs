use super::{WordKind, content_words, is_negated, stems};

fn check_same(left: &str, right: &str) {
    assert_eq!(stems(left), stems(right), "{left} / {right}");
}

/// Goal: forms of one word meet in one stem, and numbers in one spelling.
#[test]
fn forms_of_a_word_are_one() {
    for (left, right) in [
        ("price", "prices"),
        ("price", "pricing"),
        ("price", "priced"),
        ("company", "companies"),
        ("planned", "planning"),
        ("agree", "agreed"),
        ("Acme's", "acme"),
        ("seat", "seats"),
        ("1,200", "1200"),
        ("$1,200.00", "1200"),
        ("15 percent", "15%"),
        ("fifteen per cent", "15%"),
        ("15k", "15,000"),
        ("2 million", "2000000"),
        ("twenty-five", "25"),
        ("3rd", "3"),
    ] {
        check_same(left, right);
    }
}

/// Goal: a percentage is not the same fact as a bare number.
#[test]
fn percent_is_part_of_the_number() {
    assert_ne!(stems("15%"), stems("15"));
    assert_ne!(stems("$15"), stems("15 percent"));
}

/// Goal: small words carry nothing; kinds are kept.
#[test]
fn content_words_have_kinds() {
    let words = content_words("So what did Bob say? He'd pay 15% for the seats, don't you think");
    let found: Vec<_> = words
        .iter()
        .map(|word| (word.stem.as_str(), word.kind))
        .collect();
    assert_eq!(
        found,
        [
            ("bob", WordKind::Capitalised),
            ("pay", WordKind::Plain),
            ("15%", WordKind::Number),
            ("seat", WordKind::Plain),
        ]
    );
}

/// Goal: denial is seen in all its spellings, and a plain "no" is not one.
#[test]
fn negation_is_seen() {
    for text in [
        "we don't agree",
        "they did not",
        "we can’t",
        "never again",
        "without discount",
    ] {
        assert!(is_negated(text), "{text}");
    }
    for text in ["no, we agree", "yes", "a knot"] {
        assert!(!is_negated(text), "{text}");
    }
}
