use super::locate_quote;

/// Goal: exact quotes score 1, near ones less, foreign ones are not found; ranges are characters.
#[test]
fn quotes_are_located() {
    let content = "Żółw: we can do 15 % on the yearly plan. Nothing more.";
    for (quote, expected) in [
        ("we can do", Some((6, 15, 1.0))),
        ("  Nothing more. ", Some((41, 54, 1.0))),
        ("WE CAN  DO 15%", Some((6, 18, 0.99))),
        ("we can do 15% on the annual plan", Some((6, 39, 0.875))),
        ("they offered twenty for monthly", None),
        ("", None),
        ("...", None),
    ] {
        let found =
            locate_quote(quote, content).map(|(range, score)| (range.start, range.end, score));
        assert_eq!(found, expected, "{quote}");
    }
    assert_eq!(locate_quote("longer than the content", "short"), None);
}
