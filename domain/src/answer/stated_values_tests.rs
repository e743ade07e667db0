use super::StatedValues;

fn check(one: &str, other: &str, expected: bool) {
    let (left, right) = (StatedValues::read(one), StatedValues::read(other));
    assert_eq!(
        left.contradicted_by(&right).is_some(),
        expected,
        "{one} / {other}"
    );
    assert_eq!(
        right.contradicted_by(&left).is_some(),
        expected,
        "{other} / {one}"
    );
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

/// Goal: numbers that say of what a value is are no values: tiers, phases, years and numbers of things.
#[test]
fn conditions_are_no_values() {
    check(
        "The price for 10 users is 1,000 euros.",
        "The price for 20 users is 2,000 euros.",
        false,
    );
    check(
        "The price for 10 users is 10,000 euros.",
        "The price for 500 users is 40,000 euros.",
        false,
    );
    check(
        "Phase 1 is 10,000 euros.",
        "Phase 2 is 20,000 euros.",
        false,
    );
    check(
        "The licence price is 40,000 euros in 2026.",
        "The licence price is 44,000 euros in 2027.",
        false,
    );
    check(
        "The licence price is 40,000 euros.",
        "The licence price is 44,000 euros in 2027.",
        false,
    );
    check("Invoice 10234 is paid.", "Invoice 10236 is paid.", false);
    check("invoice 10234 remains.", "invoice 10236 remains.", false);
    check(
        "It is 10,000 euros for 12 depots.",
        "It is 12,000 euros for 12 depots.",
        true,
    );
}

/// Goal: a limit is no value, however its sum is written.
#[test]
fn limits_are_no_values() {
    check("We pay up to $45,000.", "We pay $40,000.", false);
    check("Delivery is by June 30.", "Delivery is on May 12.", false);
    check("It runs until June 30.", "It runs on May 12.", false);
}
