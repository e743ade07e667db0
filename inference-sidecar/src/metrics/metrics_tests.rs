//! Goal: what the parts record comes out under the documented names, and labels stay bounded.

use std::time::Duration;

use super::*;

/// The value of the series that starts with `series` and a blank.
fn value(text: &str, series: &str) -> String {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not in:\n{text}"))
        .to_owned()
}

#[test]
fn a_request_of_a_language_model() {
    let metrics = Metrics::new();
    let model = metrics.language("smol");
    model.requests().set_waiting(3);
    model.requests().set_running(2);
    model.requests().started(Duration::from_millis(20));
    model.prompt_admitted(100, 48);
    model.step(52);
    model.first_token(Duration::from_millis(300), Duration::from_millis(280));
    model.next_token(Duration::from_millis(30));
    model.next_token(Duration::from_millis(40));
    model.decoded(Duration::from_millis(70));
    model.preempted();
    let blocks = KvBlocks {
        total: 100,
        used: 7,
        cached: 3,
    };
    model.set_kv_blocks(blocks);
    model.drafted(7, 3);
    model
        .requests()
        .finished(Ending::Stop, Duration::from_millis(370));
    model.requests().cancelled();

    let text = metrics.render();
    for (series, expected) in [
        (r#"salesai_requests_waiting{model="smol"}"#, "3"),
        (r#"salesai_requests_running{model="smol"}"#, "2"),
        (
            r#"salesai_request_queue_time_seconds_sum{model="smol"}"#,
            "0.02",
        ),
        (
            r#"salesai_time_to_first_token_seconds_bucket{le="0.25",model="smol"}"#,
            "0",
        ),
        (
            r#"salesai_time_to_first_token_seconds_bucket{le="0.5",model="smol"}"#,
            "1",
        ),
        (
            r#"salesai_time_to_first_token_seconds_bucket{le="+Inf",model="smol"}"#,
            "1",
        ),
        (
            r#"salesai_request_prefill_time_seconds_sum{model="smol"}"#,
            "0.28",
        ),
        (
            r#"salesai_request_decode_time_seconds_sum{model="smol"}"#,
            "0.07",
        ),
        (
            r#"salesai_inter_token_latency_seconds_count{model="smol"}"#,
            "2",
        ),
        (
            r#"salesai_e2e_request_latency_seconds_count{model="smol"}"#,
            "1",
        ),
        (r#"salesai_prompt_tokens_total{model="smol"}"#, "100"),
        (r#"salesai_generation_tokens_total{model="smol"}"#, "3"),
        (r#"salesai_iteration_tokens_sum{model="smol"}"#, "52.0"),
        (r#"salesai_prefix_cache_queries_total{model="smol"}"#, "100"),
        (r#"salesai_prefix_cache_hits_total{model="smol"}"#, "48"),
        (r#"salesai_kv_cache_blocks_total{model="smol"}"#, "100"),
        (r#"salesai_kv_cache_blocks_used{model="smol"}"#, "7"),
        (r#"salesai_kv_cache_blocks_cached{model="smol"}"#, "3"),
        (r#"salesai_preemptions_total{model="smol"}"#, "1"),
        (
            r#"salesai_spec_decode_num_draft_tokens_total{model="smol"}"#,
            "7",
        ),
        (
            r#"salesai_spec_decode_num_accepted_tokens_total{model="smol"}"#,
            "3",
        ),
        (
            r#"salesai_requests_finished_total{model="smol",reason="stop"}"#,
            "1",
        ),
        (
            r#"salesai_requests_finished_total{model="smol",reason="end"}"#,
            "0",
        ),
        (r#"salesai_requests_cancelled_total{model="smol"}"#, "1"),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn everything_else() {
    let metrics = Metrics::new();
    metrics.embedding("mini").embedded(5, 60);
    metrics.embedding("mini").embedded(1, 6);
    metrics.embedding("mini").truncated(3);
    metrics.adapters().set(2, 4096);
    metrics.adapters().loaded();
    metrics.adapters().evicted();
    metrics.rejected(Rejection::NotFound);
    let upstream = metrics.upstream("gpu");
    upstream.set_outstanding_tokens(900);
    upstream.set_breaker(BreakerState::Open);
    upstream.requested();
    upstream.failed();

    let text = metrics.render();
    for (series, expected) in [
        (r#"salesai_embedding_texts_total{model="mini"}"#, "6"),
        (r#"salesai_embedding_tokens_total{model="mini"}"#, "66"),
        (
            r#"salesai_embedding_truncated_texts_total{model="mini"}"#,
            "3",
        ),
        (r#"salesai_requests_running{model="mini"}"#, "0"),
        ("salesai_adapters_loaded", "2"),
        ("salesai_adapter_bytes", "4096"),
        ("salesai_adapter_loads_total", "1"),
        ("salesai_adapter_evictions_total", "1"),
        (
            r#"salesai_requests_rejected_total{reason="not_found"}"#,
            "1",
        ),
        (
            r#"salesai_requests_rejected_total{reason="queue_full"}"#,
            "0",
        ),
        (
            r#"salesai_upstream_outstanding_tokens{upstream="gpu"}"#,
            "900",
        ),
        (r#"salesai_upstream_breaker_state{upstream="gpu"}"#, "2"),
        (r#"salesai_upstream_requests_total{upstream="gpu"}"#, "1"),
        (r#"salesai_upstream_failures_total{upstream="gpu"}"#, "1"),
    ] {
        assert_eq!(value(&text, series), expected, "{series}");
    }
    let version = format!(
        "salesai_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(value(&text, &version), "1");
    let resident: u64 = value(&text, "process_resident_memory_bytes")
        .parse()
        .unwrap();
    assert!(resident > 1 << 20);
}

#[test]
fn names_are_bounded() {
    let metrics = Metrics::new();
    for number in 0..NAMES_MAX + 50 {
        metrics.upstream(&format!("u{number}")).requested();
    }
    let text = metrics.render();
    let series = text
        .lines()
        .filter(|line| line.starts_with("salesai_upstream_requests_total{"));
    assert_eq!(series.count(), NAMES_MAX + 1);
    assert_eq!(
        value(
            &text,
            r#"salesai_upstream_requests_total{upstream="other"}"#
        ),
        "50"
    );
    assert_eq!(
        value(&text, r#"salesai_upstream_requests_total{upstream="u7"}"#),
        "1"
    );
}

#[test]
fn every_ending_and_rejection_has_its_place() {
    for (index, ending) in Ending::ALL.into_iter().enumerate() {
        assert_eq!(ending as usize, index);
    }
    for (index, rejection) in Rejection::ALL.into_iter().enumerate() {
        assert_eq!(rejection as usize, index);
    }
}
