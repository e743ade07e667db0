#!/usr/bin/env bash
# Measures on PostgreSQL 18, on this machine, which should be idle, and logs to docs/measurements/:
# - pipeline: backfill beside the sidecar alone, freshness, the queue, 200 kills, an hour of churn, a million rows by COPY
#   (three hours together)
# - retrieval: what search finds on SciFact and QMSum beside BM25 alone, and how long it takes on SALESAI_BENCH_CHUNKS
#   (100000) chunks beside queries written by hand (half an hour)
# - insight: answers to the sample questions: evidence, confidence, overhead
# - operators: semantic operators row by row and all together, and cascades beside the model alone
# SECTIONS="backfill queue" does some of it.
. "$(dirname "$0")/env.sh"

what=$1
log=docs/measurements/$(date -u +%F)-$what.log

main() {
    local start=$SECONDS
    describe_run
    # shellcheck disable=SC2086 # names of sections
    on_system "$pg18" cargo run -q -p tests --example "$what" -- ${SECTIONS:-}
    printf '\nduration: %s s\n' $((SECONDS - start))
}

"$here/fetch.sh" && "$here/build.sh" sidecar 18
main 2>&1 | tee -a "$log"
