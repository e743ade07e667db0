#!/usr/bin/env bash
# Builds and installs below `.salesai` what is named: `18` or `16` (the extension for that PostgreSQL), `sidecar`.
. "$(dirname "$0")/env.sh"

# Both versions come out as the same file, so that they can share what they depend on. cargo would take the
# one that is there for the other: a marker says whose it is, and a touched source makes cargo link again.
build_extension() {
    local major=$1 pg=$2 marker=$target/debug/pg_salesai.major
    say "Building pg_salesai for PostgreSQL $major"
    [ "$(cat "$marker" 2>/dev/null)" = "$major" ] || touch pg_salesai/src/lib.rs
    rm -f "$marker"
    PGRX_PG_CONFIG_PATH=$pg/bin/pg_config cargo build -p pg_salesai --lib --features "pg$major" --target-dir "$target" ||
        die "the extension does not build; cargo's message is above"
    echo "$major" >"$marker"
    install_file 644 "$target/debug/libpg_salesai.so" "$("$pg/bin/pg_config" --pkglibdir)/pg_salesai.so"
    install_sql "$("$pg/bin/pg_config" --sharedir)/extension"
}

# The install script is sql/schema/*.sql one after the other. Released ones come along, so that a database can
# still be made or restored at their version; scripts of versions that are gone are removed.
install_sql() {
    local extension_dir=$1 control=pg_salesai/pg_salesai.control version script file
    version=$(sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$control")
    [ -n "$version" ] || die "$control names no default_version"
    script=pg_salesai--$version.sql
    scripts=$(mktemp -d)
    trap 'rm -rf "$scripts"' EXIT
    for file in sql/schema/*.sql; do
        cat "$file"
        echo
    done >"$scripts/$script"
    find sql/released sql/upgrade -name 'pg_salesai--*.sql' -exec cp {} "$scripts" \;
    for file in "$extension_dir"/pg_salesai--*.sql; do
        [ -e "$scripts/$(basename "$file")" ] || rm -f "$file"
    done
    for file in "$scripts"/*.sql "$control"; do
        install_file 644 "$file" "$extension_dir/$(basename "$file")"
    done
    rm -rf "$scripts"
}

build_sidecar() {
    say "Building the inference sidecar"
    cargo build -p inference-sidecar --bin inference-sidecar --target-dir "$target" ||
        die "the sidecar does not build; cargo's message is above"
    mkdir -p "$state/bin"
    install_file 755 "$target/debug/inference-sidecar" "$sidecar_bin"
}

# Replaces a file in one step, so that a server which has it open is not harmed; an equal file is left alone.
install_file() { # mode, from, to
    ! cmp -s "$2" "$3" || return 0
    install -m "$1" "$2" "$3.new" && mv -f "$3.new" "$3" || die "could not install $3"
}

[ -d "$target/debug/deps" ] || {
    need_space "$target" 4000 "the first build"
    say "The first build takes 10 to 20 minutes on two cores; later ones take seconds"
}
start=$SECONDS
for part in "$@"; do
    case $part in
    18) build_extension 18 "$pg18" ;;
    16) build_extension 16 "$pg16" ;;
    sidecar) build_sidecar ;;
    *) die "build.sh does not know '$part'" "It builds: 18 16 sidecar" ;;
    esac
done
say "Built in $((SECONDS - start)) s"
