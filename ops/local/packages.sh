#!/usr/bin/env bash
# Installs the Debian packages that a build needs and checks the Rust toolchain.
. "$(dirname "$0")/env.sh"

[ "$(uname -sm)" = "Linux x86_64" ] ||
    die "this is $(uname -sm); the pinned PostgreSQL is built for Linux x86_64" "Run it on such a machine or in such a container."

install_packages() {
    local missing=() as_root=()
    installed build-essential || command -v cc >/dev/null || missing+=(build-essential)
    installed clang || command -v clang >/dev/null || missing+=(clang)
    installed libclang-dev || [ -n "${LIBCLANG_PATH:-}" ] || missing+=(libclang-dev)
    command -v python3 >/dev/null || missing+=(python3)
    python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
    [ ${#missing[@]} -gt 0 ] || return 0

    command -v apt-get >/dev/null ||
        die "these Debian packages, or what they hold, are missing: ${missing[*]}" "There is no apt-get here: install them in your system's own way."
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            die "these packages are missing: ${missing[*]}" "Ask an administrator to run: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "Installing Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install ${missing[*]}" "Its message is above. Mend it, or install them yourself, then run the same command again."
}

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

check_rust() {
    local channel version
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' rust-toolchain.toml)
    command -v cargo >/dev/null ||
        die "cargo is not on PATH" "Install Rust with rustup (https://rustup.rs), open a new shell, then run the same command again."
    version=$(rustc --version 2>&1) && cargo --version >/dev/null 2>&1 ||
        die "Rust $channel (rust-toolchain.toml) is not installed" "Run: rustup toolchain install $channel --component rustfmt --component clippy"
    case $version in
    "rustc $channel "*) ;;
    *) say "Note: this project is built with Rust $channel; here is $version" ;;
    esac
}

install_packages
check_rust
