#!/usr/bin/env bash
# Measures the pipeline on PostgreSQL 18, on this machine, which should be idle: backfill beside the sidecar alone,
# freshness, the queue, 200 kills, an hour of churn (about two hours together). SECTIONS="backfill queue" does some
# of them. The log goes to docs/measurements/.
. "$(dirname "$0")/env.sh"

log=docs/measurements/$(date -u +%F)-pipeline.log

main() {
    local start=$SECONDS
    describe_run
    # shellcheck disable=SC2086 # names of sections
    on_system "$pg18" cargo run -q -p tests --example pipeline -- ${SECTIONS:-}
    printf '\nduration: %s s\n' $((SECONDS - start))
}

"$here/fetch.sh" && "$here/build.sh" sidecar 18
main 2>&1 | tee -a "$log"
