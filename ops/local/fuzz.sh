#!/usr/bin/env bash
# Fuzzes the readers of files from outside, each for FUZZ_SECONDS (3600) in all; FUZZ_TARGETS names some of them.
# What FUZZ_LOG (.salesai/fuzz.log) says has run already counts; FUZZ_SEED makes inputs repeatable.

# The stable toolchain counts coverage by LLVM's own options. Only the readers are instrumented:
# counters in all dependencies would make each run slower and find nothing.
instrumented='inference_sidecar safetensors serde_json gguf documents domain transcripts mail markup office pdf rules roxmltree zip calamine csv htmd mail_parser pdf_extract lopdf'

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

targets=${FUZZ_TARGETS:-gguf safetensors transcripts mail markup office pdf rules}
features=()
case " $targets " in *" gguf "* | *" safetensors "*) features=(--features models) ;; esac

# Apart from the other builds, because a wrapper is no part of cargo's fingerprint.
export CARGO_TARGET_DIR=$target/fuzz
SALESAI_FUZZ_COMPILES=1 RUSTC_WRAPPER=$here/fuzz.sh \
    cargo build --locked --manifest-path fuzz/Cargo.toml --bins "${features[@]}"
corpus=$CARGO_TARGET_DIR/corpus
documents=$root/../shared/data/documents/unstructured
[ -d "$documents" ] || say "No real documents beside the checkout: fuzzing begins with made ones"
SALESAI_FUZZ_CORPUS=$corpus SALESAI_FUZZ_DOCUMENTS=$([ ! -d "$documents" ] || echo "$documents") "$CARGO_TARGET_DIR/debug/seeds" -runs=0 2>/dev/null

# Real files that nobody here wrote, where they are at hand.
seed() { # target, folder of ../shared/data, names of files
    local file
    mkdir -p "$corpus/$1"
    [ -d "$root/../shared/data/$2" ] || return 0
    # Files of different folders have the same names.
    while IFS= read -r -d '' file; do
        cp --no-preserve=mode "$file" "$corpus/$1/$(sha1sum <"$file" | cut -d' ' -f1)"
    done < <(find "$root/../shared/data/$2" -type f -size -64k -name "$3" -print0)
}
seed transcripts zoom_vtt '*.vtt'
seed mail mime_mail '*'
seed mail documents '*.msg'
seed mail enron_mbox '*.mbox'
for ending in html rtf csv md txt; do seed markup documents "*.$ending"; done
for ending in docx pptx xlsx xls odt epub; do seed office documents "*.$ending"; done
seed pdf documents '*.pdf'
seed rules zoom_vtt '*.vtt'
seed rules mime_mail '*.txt'
for folder in crm_maven crm_hubspot_export crm_salesforce_export; do seed rules "$folder" '*.csv'; done

# fuzz <target>: in slices, each of which the log counts, so that a run which was stopped goes on where it was.
fuzz() {
    local name=$1 done_s slice_s started output=$CARGO_TARGET_DIR/$1.out bytes_max=65536
    # Every rule reads every text: more of them tell more than long ones.
    case $name in rules | transcripts) bytes_max=8192 ;; esac
    while
        done_s=$(awk -v name="$name" '$3 == name { s += $4 } END { print s + 0 }' "$log")
        [ "$done_s" -lt "$seconds" ]
    do
        slice_s=$((seconds - done_s < 300 ? seconds - done_s : 300))
        started=$SECONDS
        # An input has at most 64 KiB; a reader that asks for 1 GiB because of it ends the process.
        (
            ulimit -v $((1 << 20))
            "$CARGO_TARGET_DIR/debug/$name" "$corpus/$name" -max_total_time="$slice_s" -seed="${FUZZ_SEED:-0}" \
                -max_len=$bytes_max -timeout=60 -print_final_stats=1 -artifact_prefix="$CARGO_TARGET_DIR/$name-"
        ) >"$output" 2>&1 || {
            tail -n 40 "$output"
            die "$name failed; the input is $CARGO_TARGET_DIR/$name-*" \
                "Run it again: $CARGO_TARGET_DIR/debug/$name <that file>"
        }
        # Date, commit, target, seconds, inputs, covered edges, peak memory in MB.
        echo "$(date -u +%FT%TZ) $(git describe --always --dirty) $name $((SECONDS - started))" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$output")" \
            "$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$output" | tail -n 1)" \
            "$(sed -n 's/^stat::peak_rss_mb: *//p' "$output")" | tee -a "$log"
    done
}

seconds=${FUZZ_SECONDS:-3600}
log=${FUZZ_LOG:-$state/fuzz.log}
touch "$log"
pending=() failed=0
for name in $targets; do
    # One for each core.
    if [ ${#pending[@]} -ge "$(nproc)" ]; then
        wait "${pending[0]}" || failed=1
        pending=("${pending[@]:1}")
    fi
    say "$name, until it has run $seconds s"
    fuzz "$name" &
    pending+=($!)
done
for pid in "${pending[@]}"; do wait "$pid" || failed=1; done
[ "$failed" -eq 0 ] || die "fuzzing found something; see above"
say "Nothing found"
