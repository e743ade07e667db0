//! Goal: work goes where the fewest tokens are outstanding, equals take turns, limits and breakers hold,
//! and every place is given back.

use serde_json::json;

use super::*;

fn route(upstreams: &[u32]) -> Arc<Route> {
    let upstream = |(index, requests_max): (usize, &u32)| {
        json!({
            "kind": "llama.cpp", "url": format!("http://localhost:{}", index + 1), "model": "m",
            "requests_max": requests_max, "failures_max": 2,
        })
    };
    let upstreams: Vec<_> = upstreams.iter().enumerate().map(upstream).collect();
    let config = serde_json::from_value(json!({"model": "m", "upstream": upstreams})).unwrap();
    Arc::new(Route::new(&config, &["localhost".into()]).unwrap())
}

fn indexes(tickets: &[Ticket]) -> Vec<usize> {
    tickets.iter().map(Ticket::index).collect()
}

#[test]
fn the_fewest_tokens_win() {
    let route = route(&[10, 10, 10]);
    let first = route.choose(100, &[]).unwrap();
    let second = route.choose(30, &[]).unwrap();
    let third = route.choose(50, &[]).unwrap();
    assert_eq!((first.index(), second.index(), third.index()), (0, 1, 2));
    // 100, 30 and 50: the second gets the next ones until it has more than the third.
    let next: Vec<_> = (0..3).map(|_| route.choose(15, &[]).unwrap()).collect();
    assert_eq!(indexes(&next), [1, 1, 2]);
    drop(first);
    assert_eq!(route.choose(1, &[]).unwrap().index(), 0);
    drop((second, third, next));
    for index in 0..3 {
        let load = route.load(index);
        assert_eq!((load.running, load.outstanding_tokens), (0, 0));
    }
}

#[test]
fn equals_take_turns() {
    let route = route(&[10, 10, 10]);
    let turns: Vec<_> = (0..6)
        .map(|_| route.choose(5, &[]).unwrap().index())
        .collect();
    assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn limits_hold() {
    let route = route(&[1, 2]);
    let mut tickets: Vec<_> = (0..3).map(|_| route.choose(5, &[]).unwrap()).collect();
    assert_eq!(indexes(&tickets), [0, 1, 1]);
    assert_eq!(route.choose(5, &[]).err(), Some(Refusal::Full));
    assert_eq!(route.choose(5, &[0]).err(), Some(Refusal::Full));
    assert_eq!(route.choose(5, &[0, 1]).err(), Some(Refusal::NoneLeft));
    tickets.pop();
    assert_eq!(route.choose(5, &[]).unwrap().index(), 1);
}

#[test]
fn a_broken_upstream_gets_nothing_until_one_request_has_tried_it() {
    let route = route(&[10, 10]);
    for _ in 0..2 {
        let mut ticket = route.choose(5, &[1]).unwrap();
        ticket.failed(&Failure::FirstTokenTimeout, false);
    }
    assert_eq!(route.load(0).breaker, BreakerState::Open);
    assert_eq!(route.choose(5, &[1]).err(), Some(Refusal::NoneLeft));
    assert_eq!(route.choose(5, &[]).unwrap().index(), 1);
    std::thread::sleep(route.check_due(0).unwrap() - Instant::now());
    route.checked(0, Ok(()));
    let trial = route.choose(5, &[1]).unwrap();
    assert_eq!(route.choose(5, &[1]).err(), Some(Refusal::NoneLeft));
    // Its caller leaves: the next one may try.
    drop(trial);
    let mut trial = route.choose(5, &[1]).unwrap();
    trial.first_token();
    assert_eq!(route.load(0).breaker, BreakerState::Closed);
    assert!(route.choose(5, &[1]).is_ok());
}

#[test]
fn only_faults_count_against_an_upstream() {
    let route = route(&[10]);
    for failure in [
        Failure::Overloaded { retry_after: None },
        Failure::Rejected { detail: None },
        Failure::Deadline,
        Failure::ConstraintUnfinished,
    ] {
        for _ in 0..5 {
            route.choose(5, &[]).unwrap().failed(&failure, false);
        }
        assert_eq!(route.load(0).breaker, BreakerState::Closed, "{failure}");
    }
}
