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

# llama.cpp's own server, of the same version: its sources are in the package.
llama_server=$state/llama-server/bin/llama-server
install_llama_server() {
    [ "$(cat "$state/llama-server/.pin" 2>/dev/null)" != "$pin" ] || return 0
    local build=$state/llama-server.build cmake=$venv/bin/cmake
    need_space "$state" 2500 "building llama.cpp's server"
    say "Building llama.cpp's server (many minutes)"
    rm -rf "$build" "$state/llama-server"
    mkdir -p "$build" "$state/llama-server/bin"
    "$venv/bin/pip" install --quiet scikit-build-core cmake ninja &&
        "$venv/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation -d "$build" "$pin" &&
        tar -xzf "$build"/*.tar.gz -C "$build" --strip-components 1 &&
        "$cmake" -S "$build/vendor/llama.cpp" -B "$build/out" -G Ninja -DCMAKE_MAKE_PROGRAM="$venv/bin/ninja" \
            -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF \
            -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF ${LLAMA_CMAKE_ARGS:--DGGML_NATIVE=ON} >"$build/log" &&
        nice "$cmake" --build "$build/out" --target llama-server >>"$build/log" &&
        install -m 755 "$build/out/bin/llama-server" "$llama_server" ||
        die "could not build llama.cpp's server; see $build/log"
    rm -rf "$build"
    echo "$pin" >"$state/llama-server/.pin"
}

# The other peers of `make bench-peers`, in the same place.
install_peers() {
    "$venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6 tokenizers==0.23.2 ||
        die "could not install ONNX Runtime; pip's message is above"
}
