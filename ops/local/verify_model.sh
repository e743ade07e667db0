#!/usr/bin/env bash
# Checks Llama weights of the user: tokenizer and template, perplexity, and agreement with llama.cpp where the
# Python package llama_cpp is installed. SALESAI_MODEL: a GGUF file or a Hugging Face directory.
# SALESAI_LLAMA_CPP_PYTHON: the Python that has the package (default: python3).
. "$(dirname "$0")/env.sh"

model=${SALESAI_MODEL:-}
python=${SALESAI_LLAMA_CPP_PYTHON:-python3}
sidecar=$root/inference-sidecar

[ -n "$model" ] || die "no model was named" "Run: make verify-model MODEL=path, with a GGUF file or a Hugging Face directory."
[ -e "$model" ] || die "there is no $model"

# Sets $llama_cpp to the options that tell the checker about llama.cpp.
run_llama_cpp() {
    if [ -d "$model" ]; then
        llama_cpp=(--no-llama-cpp "llama.cpp reads GGUF files only")
    elif ! "$python" -c 'import llama_cpp' 2>/dev/null; then
        llama_cpp=(--no-llama-cpp "$python has no llama_cpp (pip install llama-cpp-python, then set SALESAI_LLAMA_CPP_PYTHON)")
    else
        say "Reading the text with llama.cpp"
        folder=$(mktemp -d)
        trap 'rm -rf "$folder"' EXIT
        "$python" "$sidecar/reference/run_llama_cpp.py" "$model" "$sidecar/reference/perplexity.txt" "$folder" ||
            die "llama.cpp could not read $model; its message is above"
        llama_cpp=(--llama-cpp "$folder")
    fi
}

run_llama_cpp
say "Building the checker"
cargo build --locked --quiet -p inference-sidecar --example verify_model
say "Reading the model"
"$target/debug/examples/verify_model" "$model" "${llama_cpp[@]}" ||
    die "the model did not pass" "A check that failed says above what it found and what was expected."
