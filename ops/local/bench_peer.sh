#!/usr/bin/env bash
# Measures the language model beside llama.cpp, both in turn, on this machine, which should be idle.
. "$(dirname "$0")/env.sh"
. "$(dirname "$0")/llama_cpp.sh"

main() {
    describe_run
    mkdir -p "$state/models/requantized"
    "$venv/bin/python" inference-sidecar/reference/peer_speed.py "$target/debug/examples/throughput" \
        "$language_file" --requantize "$state/models/requantized"
}

"$here/home.sh"
"$here/fetch.sh"
install_llama_cpp
cargo build -q -p inference-sidecar --example throughput || die "the measuring program does not build"
mkdir -p "$state/bench"
main 2>&1 | tee "$state/bench/peer-$(date -u +%Y%m%dT%H%M%S).log"
