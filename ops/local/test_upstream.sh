#!/usr/bin/env bash
# Runs the router against two real servers of llama-cpp-python, one of which is killed in the middle.
. "$(dirname "$0")/env.sh"
. "$(dirname "$0")/llama_cpp.sh"

main() {
    local start=$SECONDS
    describe_run
    printf 'server: %s\n\n' "$pin"
    cargo run -q -p inference-sidecar --example upstreams -- "$venv/bin/python" "$language_file" || return 1
    printf '\nduration: %s s\n' $((SECONDS - start))
}

"$here/home.sh"
"$here/fetch.sh"
install_llama_cpp
mkdir -p "$state/bench"
main 2>&1 | tee "$state/bench/upstream.log"
