#!/usr/bin/env bash
# Measures the engines beside llama.cpp, ONNX Runtime and candle, all in turn, on this machine, which should be
# idle (about an hour), and writes docs/benchmarks.md. SALESAI_BENCH_CANDLE=0 leaves candle out, whose release
# build takes many minutes; SALESAI_BENCH_LARGE=0 the file of Llama 3.1 8B's shape, which takes 4.5 GB;
# SALESAI_BENCH_ONLY=clients makes one section of the page anew (see bench.py); SALESAI_BENCH_PAGE=docs/benchmarks-amx.md
# writes another page, for another machine.
. "$(dirname "$0")/env.sh"
. "$(dirname "$0")/llama_cpp.sh"

"$here/home.sh"
"$here/fetch.sh"
"$here/build.sh" sidecar 18
install_llama_cpp
install_peers
install_llama_server
say "Building the measuring programs"
build=(cargo build -q -p inference-sidecar)
programs=(throughput embed_tokens limits verify_model adapter_steps drafts)
"${build[@]}" "${programs[@]/#/--example=}" || die "the measuring programs do not build"
options=(--servers "$sidecar_bin" "$llama_server")
if [ "${SALESAI_BENCH_CANDLE:-1}" != 0 ]; then
    "${build[@]}" --release --example candle_llama --example embed_tokens || die "candle's programs do not build"
    options+=(--candle "$target/release/examples")
fi
if [ "${SALESAI_BENCH_LARGE:-1}" != 0 ]; then
    large=$state/models/random-8b/random-8b.Q4_K.gguf
    if [ ! -e "$large" ]; then
        need_space "$state" 5000 "a model file of 8 billion weights"
        mkdir -p "$(dirname "$large")"
        python3 inference-sidecar/reference/make_llama_8b.py "$large.part" && mv "$large.part" "$large" ||
            die "could not write $large"
    fi
    options+=(--large "$large")
fi
page=${SALESAI_BENCH_PAGE:-docs/benchmarks.md}
measure() {
    "$venv/bin/python" inference-sidecar/reference/peers/bench.py "$target/debug/examples" "$language_file" \
        "$embedding_dir" "$root/../shared/data" "$page" "${options[@]}" "$@"
}

only=${SALESAI_BENCH_ONLY:-}
case $only in
'') measure ;;
sharing) ;;
*) measure --only "$only" ;;
esac
case $only in
'' | sharing)
    # Only now, so that it is beside nothing else that is measured; one that runs already stays.
    if ! server_pid >/dev/null; then
        trap '"$here/server.sh" stop' EXIT
        "$here/server.sh" start
    fi
    PGHOST=$sockets PGPORT=5432 PGUSER=postgres measure --only sharing --postgres "$pg18/bin"
    ;;
esac
say "Written: $page"
