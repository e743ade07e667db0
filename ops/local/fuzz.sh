#!/usr/bin/env bash
# Fuzzes the readers of files from outside, each for FUZZ_SECONDS (60); FUZZ_TARGETS names some of them.

# The stable toolchain counts coverage by LLVM's own options. Only the readers are instrumented:
# counters in all dependencies would make each run slower and find nothing.
instrumented='inference_sidecar safetensors serde_json gguf documents domain texts roxmltree zip calamine csv htmd mail_parser'

# rustc <arguments>: what cargo calls in place of the compiler.
rustc_with_counters() {
    local compiler=$1 name=''
    shift
    [ "${1-}" != --crate-name ] || name=$2
    case " $instrumented " in
    *" $name "*)
        set -- "$@" -Cpasses=sancov-module -Ccodegen-units=1 --cfg fuzzing \
            -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
            -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
    esac
    exec "$compiler" "$@"
}

# Before env.sh, which changes the directory.
if [ "${SALESAI_FUZZ_COMPILES:-}" = 1 ]; then rustc_with_counters "$@"; fi
. "$(dirname "$0")/env.sh"

# Apart from the other builds, because a wrapper is no part of cargo's fingerprint.
export CARGO_TARGET_DIR=$target/fuzz
SALESAI_FUZZ_COMPILES=1 RUSTC_WRAPPER=$here/fuzz.sh \
    cargo build --locked --manifest-path fuzz/Cargo.toml --bins
corpus=$CARGO_TARGET_DIR/corpus
SALESAI_FUZZ_CORPUS=$corpus "$CARGO_TARGET_DIR/debug/seeds" -runs=0 2>/dev/null

# Real files that nobody here wrote, where they are at hand.
seed() { # target, folders of ../shared/data
    local folder file
    mkdir -p "$corpus/$1"
    for folder in "${@:2}"; do
        [ -d "$root/../shared/data/$folder" ] || continue
        # Files of different folders have the same names.
        while IFS= read -r -d '' file; do
            cp --no-preserve=mode "$file" "$corpus/$1/$(sha1sum <"$file" | cut -d' ' -f1)"
        done < <(find "$root/../shared/data/$folder" -type f -size -64k -print0)
    done
}
seed documents documents
seed texts mime_mail zoom_vtt

for name in ${FUZZ_TARGETS:-gguf safetensors documents texts}; do
    say "$name, ${FUZZ_SECONDS:-60} s"
    # An input has at most 64 KiB; a reader that asks for 1 GiB because of it ends the process.
    (
        ulimit -v $((1 << 20))
        "$CARGO_TARGET_DIR/debug/$name" "$corpus/$name" -max_total_time="${FUZZ_SECONDS:-60}" \
            -max_len=65536 -timeout=10 -print_final_stats=1 -artifact_prefix="$CARGO_TARGET_DIR/$name-"
    ) ||
        die "$name failed; the input is $CARGO_TARGET_DIR/$name-*" \
            "Run it again: $CARGO_TARGET_DIR/debug/$name <that file>"
done
