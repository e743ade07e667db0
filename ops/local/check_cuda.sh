#!/usr/bin/env bash
# Compiles the sidecar with its `cuda` feature where neither a GPU nor CUDA is installed. The compiler and the
# headers are the wheels pinned in cuda_wheels.txt. It runs nothing on a GPU.
#   check_cuda.sh [link]    `link` also links the binary, against stubs of the libraries that come with a GPU
. "$(dirname "$0")/env.sh"

cuda_pins=$here/cuda_wheels.txt
cuda=$state/cuda
toolkit=$cuda/nvidia/cu13

fetch_toolkit() {
    local new=$cuda.new
    ! cmp -s "$cuda_pins" "$cuda/.pins" || return 0
    say "Fetching the CUDA compiler (105 MB) to $cache/wheels"
    need_space "$cache" 150 "fetching the CUDA compiler"
    need_space "$state" 500 "unpacking the CUDA compiler"
    mkdir -p "$cache/wheels"
    python3 -m pip download --quiet --no-deps --require-hashes -d "$cache/wheels" -r "$cuda_pins" ||
        die "could not fetch the CUDA compiler with the pinned SHA-256; pip's message is above" \
            "Check the network and pip's configuration, then run the same command again."
    rm -rf "$new"
    # pip keeps the executable bits.
    python3 -m pip install --quiet --root-user-action=ignore --no-deps --no-index --no-compile --require-hashes \
        --find-links "$cache/wheels" --target "$new" -r "$cuda_pins" || die "could not unpack the CUDA compiler to $new"
    ln -s lib "$new/nvidia/cu13/lib64"
    cp "$cuda_pins" "$new/.pins"
    rm -rf "$cuda"
    mv "$new" "$cuda"
}

# A linker asks a library for names alone, so a stub has the names that cudarc declares, and no code.
make_stubs() {
    local bindings stubs=$toolkit/lib/stubs
    bindings=$(cargo metadata --locked --format-version 1 --features inference-sidecar/cuda |
        python3 -c 'import json, sys
print(next(p["manifest_path"] for p in json.load(sys.stdin)["packages"] if p["name"] == "cudarc"))')
    bindings=$(dirname "$bindings")/src
    mkdir -p "$stubs"
    ln -sf libcudart.so.13 "$toolkit/lib/libcudart.so"
    stub driver cuda libcuda.so.1
    stub nvrtc nvrtc libnvrtc.so.13
    stub curand curand libcurand.so.10
    stub cublas cublas libcublas.so.13
    stub cublaslt cublasLt libcublasLt.so.13
}

stub() { # module of cudarc, library, name that the program will ask for at run time
    grep -ohE '^pub unsafe fn [A-Za-z0-9_]+' "$bindings/$1/sys/mod.rs" | sed 's/.* //' | sort -u |
        sed 's/.*/void &(void) {}/' >"$stubs/$2.c"
    [ -s "$stubs/$2.c" ] || die "found no declarations of $2 in $bindings/$1"
    cc -shared -fPIC -w -fno-builtin -Wl,-soname,"$3" -o "$stubs/lib$2.so" "$stubs/$2.c"
}

run_cargo() { # subcommand, its further arguments
    CUDA_HOME=$toolkit CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-90} PATH=$toolkit/bin:$PATH \
        cargo "$1" --locked -p inference-sidecar --bin inference-sidecar --features cuda "${@:2}" ||
        die "the sidecar does not compile for CUDA; the errors are above"
}

mode=${1:-check}
case $mode in check | link) ;; *) die "check_cuda.sh does not know '$mode'" "It knows: link" ;; esac
command -v cc >/dev/null || die "there is no C compiler" "Run: ops/local/packages.sh"
fetch_toolkit
"$toolkit/bin/nvcc" --version | tail -n 2
need_space "$target" 3000 "compiling for CUDA"
say "Compiling for CUDA, compute capability ${CUDA_COMPUTE_CAP:-90}; the first time takes about 10 minutes on 2 cores"
run_cargo check
outcome=compiles
if [ "$mode" = link ]; then
    make_stubs
    # Named here, because cudarc names folders only that were there when it was compiled.
    run_cargo rustc -- -L "native=$toolkit/lib/stubs"
    outcome='compiles and links'
fi
say "The sidecar $outcome for CUDA; nothing was run on a GPU"
