#!/usr/bin/env bash
# Checks format and lints: `fmt`, `locks`, `clippy`, `scripts`, or all of them.
. "$(dirname "$0")/env.sh"

fmt() { cargo fmt --all --check || die "some Rust files are not formatted" "Run: cargo fmt --all"; }

# The fuzzers are no member of the workspace, so no other check sees their lock file grow old.
locks() {
    cargo tree -q --locked --manifest-path fuzz/Cargo.toml >/dev/null ||
        die "fuzz/Cargo.lock does not fit the workspace" "Run: cargo tree --manifest-path fuzz/Cargo.toml"
}

# pg_salesai and tests apart, so that their features do not change how the rest is built.
clippy() {
    cargo clippy --all-targets -- -D warnings &&
        PGRX_PG_CONFIG_PATH=$pg18/bin/pg_config cargo clippy -p pg_salesai --features pg18 -- -D warnings &&
        cargo clippy -p tests --all-targets -- -D warnings ||
        die "clippy has remarks; they are above"
}

scripts() {
    if command -v shellcheck >/dev/null; then
        shellcheck -S warning -x -P "$here" "$here"/*.sh .ci/run || die "shellcheck has remarks; they are above"
    else
        say "shellcheck is not installed; the shell scripts were not checked (apt-get install shellcheck)"
    fi
}

for check in "${@:-all}"; do
    case $check in
    fmt | locks | clippy | scripts) $check ;;
    all) fmt && locks && clippy && scripts ;;
    *) die "lint.sh does not know '$check'" "It checks: fmt locks clippy scripts" ;;
    esac
done
