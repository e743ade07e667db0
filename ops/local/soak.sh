#!/usr/bin/env bash
# 64 streams against a sidecar of its own for SOAK_MINUTES (10 unless said): no wrong output, no leak, no
# stall. Not part of `make test`. The log goes to docs/measurements/.
. "$(dirname "$0")/env.sh"

minutes=${SOAK_MINUTES:-10}
streams=${SOAK_STREAMS:-64}
log=docs/measurements/$(date -u +%F)-soak.log

main() {
    local start=$SECONDS
    printf 'date: %s\ncommit: %s\nmachine: %s, %s cores\nload before: %s\n' "$(date -u +%F)" \
        "$(git describe --always --dirty)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(nproc)" "$(cut -d ' ' -f 1-3 /proc/loadavg)"
    cargo run -q -p inference-sidecar --example soak -- \
        "$sidecar_bin" "$language_file" "$minutes" "$streams" "${SOAK_SEED:-1}"
    printf 'duration: %s s\n' $((SECONDS - start))
}

"$here/fetch.sh" && "$here/build.sh" sidecar
main 2>&1 | tee "$log"
