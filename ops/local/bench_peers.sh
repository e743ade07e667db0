#!/usr/bin/env bash
# Measures the engines beside llama.cpp, ONNX Runtime and candle, all in turn, on this machine, which should be
# idle (about half an hour), and writes docs/benchmarks.md. SALESAI_BENCH_CANDLE=0 leaves candle out, whose release
# build takes many minutes.
. "$(dirname "$0")/env.sh"
. "$(dirname "$0")/llama_cpp.sh"

"$here/home.sh"
"$here/fetch.sh"
install_llama_cpp
install_peers
say "Building the measuring programs"
build=(cargo build -q -p inference-sidecar)
"${build[@]}" --example throughput --example embed_tokens --example limits --example verify_model ||
    die "the measuring programs do not build"
candle=()
if [ "${SALESAI_BENCH_CANDLE:-1}" != 0 ]; then
    "${build[@]}" --release --example candle_llama --example embed_tokens || die "candle's programs do not build"
    candle=(--candle "$target/release/examples")
fi
"$venv/bin/python" inference-sidecar/reference/peers/bench.py "$target/debug/examples" "$language_file" \
    "$embedding_dir" "$root/../shared/data" docs/benchmarks.md "${candle[@]}"
say "Written: docs/benchmarks.md"
