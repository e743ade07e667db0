#!/usr/bin/env bash
# Measures what the documents state, on this machine, which should be idle: speed of the models, latency of
# a cancel, memory of a connection. The log carries commit, machine and duration.
. "$(dirname "$0")/env.sh"

main() {
    local start=$SECONDS
    describe_run
    cargo run -q -p inference-sidecar --example throughput -- 5 "$language_file" "$embedding_dir"
    cargo run -q -p inference-sidecar --example drafts -- "$sidecar_bin" "$language_file" 5 ops/deal_room/notes/*
    for pg in "$pg16" "$pg18"; do
        printf '\n%s\n' "$("$pg/bin/postgres" --version)"
        system_tests "$pg" cancel:: memory:: search::questions real_input:: | grep 'measured:\|FAILED\|panicked' | sed 's/.*measured: //'
    done
    printf '\nduration: %s s\n' $((SECONDS - start))
}

"$here/fetch.sh" && "$here/build.sh" sidecar 16 18
mkdir -p "$state/bench"
main | tee "$state/bench/$(date -u +%Y%m%dT%H%M%S).log"
