use super::*;

/// Goal: bounds agree with the table of the hypergeometric distribution and with common sense.
#[test]
fn bounds_of_small_populations() {
    // All were drawn: nothing is left to guess.
    assert_eq!((most(10, 10, 3, 0.05), fewest(10, 10, 3, 0.05)), (3, 3));
    // 2 of 10, 5 drawn, none found: C(8,5)/C(10,5) = 56/252 = 0.22; with 4: C(6,5)/252 = 0.024.
    assert_eq!(most(10, 5, 0, 0.22), 2);
    assert_eq!(most(10, 5, 0, 0.025), 3);
    assert_eq!(fewest(10, 5, 5, 0.22), 8);
    assert_eq!(most(0, 0, 0, 0.05), 0);
    // The rule of three: none of 300 of very many is at most about 1 %.
    let share = most(100_000, 300, 0, 0.05) as f64 / 100_000.0;
    assert!((0.0095..0.0105).contains(&share), "{share}");
}

/// Goal: a bound is broken as seldom as its risk says, and not needlessly loose.
#[test]
fn bounds_hold_as_often_as_they_say() {
    let (population, having, drawn, risk) = (2_000_usize, 100_usize, 300_usize, 0.1);
    let broken = (0..2_000_u64)
        .filter(|&seed| {
            let order = crate::cascade::shuffled(population, seed);
            let found = order[..drawn].iter().filter(|&&row| row < having).count();
            most(population, drawn, found, risk) < having
        })
        .count();
    let share = broken as f64 / 2_000.0;
    assert!((0.04..=0.12).contains(&share), "{share}");
}
