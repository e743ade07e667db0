use super::*;

/// Goal: what is spent leaves at least half of the rows to the head, and few rows are all judged.
#[test]
fn budgets_leave_most_rows() {
    assert_eq!(Budget::of(599), None);
    for rows in [600, 700, 1_000, 2_345, 10_000, 100_000] {
        let budget = Budget::of(rows).expect("a budget");
        let spent = budget.first + budget.rounds * budget.round + budget.calibration;
        assert!(spent <= rows / 2, "{rows}: {budget:?}");
        assert!(budget.rounds > 0, "{rows}: {budget:?}");
    }
}

/// Goal: an order has every number once, and each place is as likely for each number.
#[test]
fn orders_are_fair() {
    let mut first = [0; 5];
    for seed in 0..10_000 {
        let mut order = shuffled(5, seed);
        first[order[0]] += 1;
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }
    assert!(
        first.iter().all(|count| (1_850..2_150).contains(count)),
        "{first:?}"
    );
    assert_eq!(shuffled(100, 3), shuffled(100, 3));
    assert_ne!(shuffled(100, 3), shuffled(100, 4));
}
