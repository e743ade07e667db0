# shellcheck shell=bash
# Sourced after env.sh: llama-cpp-python and the other peers. The package is built from source, which takes many minutes;
# it is kept in .salesai/llama-venv. LLAMA_CMAKE_ARGS builds it otherwise than for all that this processor has
# (with AMX it crashed on a virtual machine).

# shellcheck disable=SC2154 # env.sh sets it
venv=$state/llama-venv
pin=llama-cpp-python==0.3.36

install_llama_cpp() {
    [ "$(cat "$venv/.pin" 2>/dev/null)" != "$pin" ] || return 0
    command -v c++ >/dev/null || die "a C++ compiler is needed to build $pin" "Install one (apt-get install g++), then run the same command again."
    need_space "$state" 1500 "building $pin"
    say "Building $pin in $venv (many minutes)"
    rm -rf "$venv"
    python3 -m venv "$venv" &&
        CMAKE_ARGS=${LLAMA_CMAKE_ARGS:--DGGML_NATIVE=ON} nice "$venv/bin/pip" install --quiet "${pin/==/[server]==}" ||
        die "could not build $pin; pip's message is above"
    echo "$pin" >"$venv/.pin"
}

# The other peers of `make bench-peers`, in the same place.
install_peers() {
    "$venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 tokenizers==0.23.2 ||
        die "could not install ONNX Runtime; pip's message is above"
}
