#!/usr/bin/env bash
# Runs the router against two real servers of llama-cpp-python, one of which is killed in the middle.
# The package is built from source, which takes many minutes; it is kept in .salesai/llama-venv.
. "$(dirname "$0")/env.sh"

venv=$state/llama-venv
pin=llama-cpp-python==0.3.36

install_server() {
    [ "$(cat "$venv/.pin" 2>/dev/null)" != "$pin" ] || return 0
    command -v c++ >/dev/null || die "a C++ compiler is needed to build $pin" "Install one (apt-get install g++), then run the same command again."
    need_space "$state" 1500 "building $pin"
    say "Building $pin in $venv (many minutes)"
    rm -rf "$venv"
    python3 -m venv "$venv" &&
        CMAKE_ARGS=-DGGML_NATIVE=ON nice "$venv/bin/pip" install --quiet "${pin/==/[server]==}" ||
        die "could not build $pin; pip's message is above"
    echo "$pin" >"$venv/.pin"
}

main() {
    local start=$SECONDS
    printf 'date: %s\ncommit: %s\nmachine: %s, %s cores\nload before: %s\nserver: %s\n\n' "$(date -u +%F)" \
        "$(git describe --always --dirty)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(nproc)" "$(cut -d ' ' -f 1-3 /proc/loadavg)" "$pin"
    cargo run -q -p inference-sidecar --example upstreams -- "$venv/bin/python" "$language_file" || return 1
    printf '\nduration: %s s\n' $((SECONDS - start))
}

"$here/home.sh"
"$here/fetch.sh"
install_server
mkdir -p "$state/bench"
main 2>&1 | tee "$state/bench/upstream.log"
