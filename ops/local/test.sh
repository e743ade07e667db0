#!/usr/bin/env bash
# Runs every test layer. It needs no running server and leaves the one of `make up` alone.
. "$(dirname "$0")/env.sh"

main() {
    passed=0 failed=0 ignored=0 results=() last_result=''
    if build; then
        layer "formatting and lock files" "$here/lint.sh" fmt locks
        layer "unit tests" unit_tests
        # What models say, and how long they are waited for, does not depend on the version.
        layer "whole system, PostgreSQL 16" system_tests "$pg16" --skip attacks:: --skip cascades:: \
            --skip contradictions:: --skip insight:: --skip packing:: --skip operators::long_texts --skip submitted::stalled
        layer "whole system, PostgreSQL 18" system_tests "$pg18"
    else
        failed=1
        results+=("build: failed")
    fi
    summary
    [ "$failed" -eq 0 ]
}

build() { "$here/packages.sh" && "$here/fetch.sh" && "$here/drivers.sh" && "$here/build.sh" sidecar 16 18; }

unit_tests() { cargo test --no-fail-fast -p domain -p documents -p proto -p kernels -p inference-sidecar -p connectors; }

# layer <name> <command>: the runner's result line of the last layer is held back for the end of the output.
layer() {
    local name=$1 log="$logs/$1" status=0 start=$SECONDS
    shift
    last_result=''
    printf '\n==> %s\n' "$name"
    if [ "$1" = system_tests ]; then
        "$@" 2>&1 | tee "$log" | sed -u '/^test result:/d' || status=$?
        last_result=$(grep '^test result:' "$log" || true)
    else
        "$@" 2>&1 | tee "$log" || status=$?
    fi
    count "$log" "$status" "$1"
    if [ "$status" -eq 0 ]; then
        results+=("$name: ok, $((SECONDS - start)) s")
    else
        results+=("$name: failed, $((SECONDS - start)) s")
    fi
    say "${results[-1]}"
}

# A layer that fails without a failed test, or that should have tests and ran none, counts as one failure.
count() {
    local log=$1 layer_passed layer_failed layer_ignored
    read -r layer_passed layer_failed layer_ignored < <(awk '/^test result:/ {
            for (i = 2; i <= NF; i++) {
                if ($i == "passed;") p += $(i - 1)
                if ($i == "failed;") f += $(i - 1)
                if ($i == "ignored;") g += $(i - 1)
            }
        } END { print p + 0, f + 0, g + 0 }' "$log")
    case $3 in
    *_tests)
        if [ $((layer_passed + layer_failed)) -eq 0 ]; then
            say "no test ran"
            status=1
        fi
        ;;
    esac
    [ "$status" -eq 0 ] || [ "$layer_failed" -gt 0 ] || layer_failed=1
    passed=$((passed + layer_passed)) failed=$((failed + layer_failed)) ignored=$((ignored + layer_ignored))
}

summary() {
    local log skipped=()
    for log in "$logs"/*; do
        mapfile -t -O ${#skipped[@]} skipped < <(sed -n \
            -e 's/^test .* \.\.\. skipped: //p; s/^skipped: //p' \
            -e 's/^test \(.*\) \.\.\. ignored\(, \)\?/\1: /p' "$log" | sort -u | sed "s/^/skipped: ${log##*/}: /")
    done
    printf '\n==> summary\n'
    [ ${#skipped[@]} -eq 0 ] || printf '%s\n' "${skipped[@]}"
    printf '%s\n' "${results[@]}"
    [ -z "$last_result" ] || printf '%s\n' "$last_result"
    # A test that prints `skipped:` is among the runner's passed ones; an ignored one is not.
    echo "$((passed - (${#skipped[@]} - ignored))) passed, $failed failed, ${#skipped[@]} skipped"
}

"$here/home.sh"
state=$(realpath -m "$root/.salesai")
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
main 2>&1 | tee "$state/test.log" || exit 1
