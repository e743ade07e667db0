#!/usr/bin/env bash
# Prepares the user of the servers and `.salesai`, where that user keeps the database.
. "$(dirname "$0")/env.sh"

# The longest socket name that every system takes has 103 bytes.
socket_bytes_max=103

make_run_user() {
    id "$run_user" >/dev/null 2>&1 && return
    say "Creating the system user $run_user, because PostgreSQL does not run as root"
    useradd --system --no-create-home --shell /usr/sbin/nologin "$run_user" ||
        die "could not create the user $run_user" "Create it yourself, or run make as an ordinary user."
}

make_state() {
    local link=$root/.salesai
    if [ ! -e "$link" ] && [ ! -L "$link" ]; then
        if as_run_user test -x "$root"; then
            mkdir "$link" || die "could not create $link" "Make the directory writable for $(id -un), then run the same command again."
        else
            state=/var/lib/salesai/$(printf %s "$root" | sha256sum | cut -c1-12)
            say "The user $run_user cannot enter $root, so .salesai is a link to $state"
            [ ! -d "$state" ] || say "It holds the data of an earlier clone at this path; 'make clean' removes them"
            mkdir -p "$state"
            ln -s "$state" "$link"
        fi
    fi
    mkdir -p "$state"
    as_run_user test -x "$state" ||
        die "the user $run_user cannot enter $state" "Open the directories above it (chmod o+x), or move the clone to a place such as /srv."
    install -d -m 0700 -o "$run_user" "$state/run"
}

make_socket_dir() {
    local dir=$state/run
    if [ "$(printf %s "$dir/.s.PGSQL.5432" | wc -c)" -le "$socket_bytes_max" ]; then
        rm -f "$state/socket_dir"
        return
    fi
    # Anyone can write in /tmp: a directory that is not ours any more is left alone.
    dir=$(cat "$state/socket_dir" 2>/dev/null || true)
    [ -n "$dir" ] && [ ! -L "$dir" ] && [ "$(stat -c '%U %a' "$dir" 2>/dev/null)" = "$run_user 700" ] && return
    dir=$(mktemp -d /tmp/salesai.XXXXXX)
    [ "$(id -u)" -ne 0 ] || chown "$run_user" "$dir"
    echo "$dir" >"$state/socket_dir"
    say "The path of $state is too long for a socket, so sockets lie in $dir"
}

make_run_user
make_state
make_socket_dir
