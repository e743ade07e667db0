use super::split_label;

/// Goal: names as the platforms write them are labels; sentences, times and links are not.
#[test]
fn labels_are_names() {
    for (line, label) in [
        ("Alice: hi", Some("Alice")),
        ("Alice:", Some("Alice")),
        ("J. Smith: hi", Some("J. Smith")),
        ("Alice [Acme]: hi", Some("Alice [Acme]")),
        (
            "Marius van der Wijden (M): hi",
            Some("Marius van der Wijden (M)"),
        ),
        ("Tullio | Erigon: hi", Some("Tullio | Erigon")),
        ("danceratopz: hi", Some("danceratopz")),
        ("Speaker 1: hi", Some("Speaker 1")),
        ("Łukasz Rozmej: hi", Some("Łukasz Rozmej")),
        ("Smith, John: hi", Some("Smith, John")),
        ("jane.doe@acme.com: hi", Some("jane.doe@acme.com")),
        ("https://acme.com", None),
        ("see https://acme.com: it is there", None),
        ("10:30: we start", None),
        ("10:30 is the time: be there", None),
        ("10: ten", None),
        ("I agree. One thing: no", None),
        ("Really? One thing: no", None),
        ("So the thing is: no", None),
        ("one two three four five six seven: no", None),
        ("a:b", None),
        (": text", None),
        ("no label here", None),
        ("", None),
    ] {
        assert_eq!(split_label(line).map(|found| found.0), label, "{line}");
    }
    let long = format!("{}: text", "x".repeat(65));
    assert_eq!(split_label(&long), None);
}
