use super::read_drafts;

fn check(generated: &str, expected: &[(&str, &[u32])]) {
    let drafts = read_drafts(generated);
    let found: Vec<(&str, &[u32])> = drafts
        .iter()
        .map(|draft| (draft.text.as_str(), draft.numbers.as_slice()))
        .collect();
    assert_eq!(found, expected, "{generated}");
}

/// Goal: marks are read wherever models put them, and leave clean sentences behind.
#[test]
fn marks_and_lists() {
    check(
        "It is 15% [1]. They agreed [2][3].",
        &[("It is 15%.", &[1]), ("They agreed.", &[2, 3])],
    );
    check(
        "It is 15%. [1] They agreed. [2, 3]",
        &[("It is 15%.", &[1]), ("They agreed.", &[2, 3])],
    );
    check(
        "[1] It is 15%.\n- [2] They agreed.",
        &[("It is 15%.", &[1]), ("They agreed.", &[2])],
    );
    check(
        "Answer: 1.5 euros.\n1. First thing.",
        &[("1.5 euros.", &[]), ("First thing.", &[])],
    );
    check("See [the plan] [x", &[("See [the plan] [x", &[])]);
    check(
        "[99999999999] Bob left. []",
        &[("[99999999999] Bob left.", &[])],
    );
    check("...\n\n[1]", &[]);
}

/// Goal: a small model that repeats itself is heard once.
#[test]
fn repeats_are_dropped() {
    check(
        "Bob agreed [1]. Bob agreed! Agreed, Bob did.",
        &[("Bob agreed.", &[1])],
    );
}
