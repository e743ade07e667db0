use super::StatedValues;

fn check(one: &str, other: &str, expected: bool) {
    let (left, right) = (StatedValues::read(one), StatedValues::read(other));
    assert_eq!(left.contradict(&right), expected, "{one} / {other}");
    assert_eq!(right.contradict(&left), expected, "{other} / {one}");
}

/// Goal: different values of the same kind contradict each other, however they are written.
#[test]
fn different_values_are_found() {
    check("The price is 40,000.", "The price is 45,000 euros.", true);
    check(
        "It costs $40k a year.",
        "It costs 45 thousand dollars a year.",
        true,
    );
    check("We get 12 percent off.", "The discount is 15%.", true);
    check(
        "It renews on March 3.",
        "The renewal is on the 1st of May.",
        true,
    );
    check("It renews on 2026-03-03.", "It renews in April.", true);
    check("They sign in Q3.", "They sign on 30 November.", true);
}

/// Goal: the same value in other words, or of another kind, is no contradiction; nor is what is no certain value.
#[test]
fn what_cannot_be_compared_is_left() {
    check("The price is 40,000.", "The price is 40k euros.", false);
    check(
        "The price is 40,000 euros.",
        "The price is 45,000 dollars.",
        false,
    );
    check("It costs about 40,000.", "It costs 41,500.", false);
    check("They need 90 users.", "They need 12 depots.", false);
    check("It renews on March 3.", "It renews in March.", false);
    check("It starts in Q2.", "It starts on May 12.", false);
    check("We pay up to 45,000.", "We pay 40,000.", false);
    check("We pay more than 30,000.", "We pay 40,000.", false);
    check("It takes 3 to 4 weeks.", "It takes 6 weeks.", false);
    check(
        "We went from 40,000 to 45,000.",
        "We went to 45,000.",
        false,
    );
    check("In 2026 we start.", "In 2027 we start.", false);
    check("The call is at 10:30.", "The call is at 11:45.", false);
    check("Phase 2 is next.", "Phase 3 is next.", false);
    check("It may march on.", "In March it will.", false);
}
