#!/usr/bin/env bash
# Installs what the tests of drivers need below `.salesai/drivers`: the packages pinned in drivers/, and links to the
# programs. What cannot be installed stops nothing: the tests that need it say so and are skipped.
. "$(dirname "$0")/env.sh"

pins_dir=$here/drivers

install_packages() {
    local missing=() as_root=()
    find_program pgbouncer >/dev/null || missing+=(pgbouncer)
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    [ ${#missing[@]} -gt 0 ] || return 0

    [ "$(id -u)" -eq 0 ] || as_root=(sudo --non-interactive)
    say "Installing Debian packages: ${missing[*]}"
    # Debian starts what it installs; the tests leave that PgBouncer alone and start their own.
    "${as_root[@]}" apt-get update -q &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" ||
        say "Could not install ${missing[*]}: tests of drivers will be skipped. Install them in your system's own way."
}

# Debian keeps PgBouncer where only root looks.
find_program() { PATH=$PATH:/usr/sbin command -v "$1"; }

link_pgbouncer() {
    local program
    rm -rf "${drivers:?}/bin"
    program=$(find_program pgbouncer) || return 0
    mkdir -p "$drivers/bin"
    ln -s "$program" "$drivers/bin/pgbouncer"
}

# fill <directory> <what it depends on> <function that fills "$new">
fill() {
    local dir=$drivers/$1 pin=$2 fill_new=$3 new=$drivers/$1.new
    [ "$(cat "$dir/.pin" 2>/dev/null)" != "$pin" ] || return 0
    say "Installing drivers in $dir"
    rm -rf "$new"
    mkdir -p "$new"
    if ! $fill_new; then
        say "Could not install them; the message is above. Tests of these drivers will be skipped."
        rm -rf "$new"
        return 0
    fi
    chmod -R a+rX "$new"
    echo "$pin" >"$new/.pin"
    rm -rf "$dir"
    mv "$new" "$dir"
}

# The wheels are those of this Python.
fill_python() {
    python3 -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-cache-dir --no-deps \
        --no-compile --only-binary=:all: --require-hashes --target "$new" -r "$pins_dir/wheels.txt"
}

# npm checks each package against the lock file, and installs beside it.
fill_node_modules() {
    cp "$pins_dir/package.json" "$pins_dir/package-lock.json" "$new" &&
        npm ci --prefix "$new" --silent --ignore-scripts --no-audit --no-fund &&
        mv "$new"/node_modules/* "$new" && rm -rf "$new/node_modules"
}

install_packages
mkdir -p "$drivers"
link_pgbouncer
fill python "$(python3 --version; cat "$pins_dir/wheels.txt")" fill_python
fill node_modules "$(cat "$pins_dir/package-lock.json")" fill_node_modules
