#!/usr/bin/env bash
# PostgreSQL 18 in `.salesai/data18`, on a Unix socket only. Verbs: start stop psql dsn.
. "$(dirname "$0")/env.sh"

started=$state/postgres.started # fingerprint of what the running server was started with

start() {
    [ -d "$data" ] || create_cluster
    [ -f "$master_key" ] ||
        die "$master_key is missing" "The stored originals are encrypted under this key: put it back from your backup." \
            "'make clean' deletes the database and starts afresh."
    write_settings
    if server_pid >/dev/null && [ "$(cat "$started" 2>/dev/null)" != "$(fingerprint)" ]; then
        say "The extension or its settings changed: restarting PostgreSQL"
        stop
    fi
    if server_pid >/dev/null; then
        as_run_user "$pg18/bin/pg_ctl" reload -s -D "$data"
        say "PostgreSQL is running"
    else
        launch
    fi
    install_extension
}

create_cluster() {
    say "Creating the database in $data"
    need_space "$state" 500 "the database"
    [ -f "$master_key" ] || create_master_key
    rm -rf "$data.new"
    install -d -m 0700 -o "$run_user" "$data.new"
    as_run_user "$pg18/bin/initdb" -D "$data.new" -U postgres --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=reject >"$state/initdb.log" 2>&1 &&
        as_run_user sh -c 'echo "include '\''salesai.conf'\''" >>"$0/postgresql.conf" && : >"$0/salesai.conf"' "$data.new" &&
        # The workers of the extension look for this database as soon as the server starts.
        echo "create database salesai" | as_run_user "$pg18/bin/postgres" --single -D "$data.new" postgres >>"$state/initdb.log" 2>&1 || {
        tail -n 20 "$state/initdb.log" >&2
        die "could not create the database; initdb's message is above" "Mend it, then run 'make up' again."
    }
    mv "$data.new" "$data"
}

# The key that wraps the key of each stored original. It is never replaced.
create_master_key() {
    (umask 077 && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$master_key.new" && echo >>"$master_key.new")
    [ "$(id -u)" -ne 0 ] || chown "$run_user" "$master_key.new"
    mv "$master_key.new" "$master_key"
}

# These files are ours and are written at each start; your own settings go into `alter system set ...`.
write_settings() {
    settings | as_run_user tee "$data/salesai.conf" >/dev/null
    printf '# Written by ops/local/server.sh\nlocal all all peer map=salesai\nlocal replication all peer map=salesai\n' |
        as_run_user tee "$data/pg_hba.conf" >/dev/null
    printf '%s\n' "$run_user" "$(id -un)" "${SUDO_USER:-root}" root | sort -u |
        sed 's/.*/salesai "&" all/; 1i # Written by ops/local/server.sh: these users may take any role' |
        as_run_user tee "$data/pg_ident.conf" >/dev/null
}

settings() {
    cat <<CONF
# Written by ops/local/server.sh
cluster_name = 'salesai'
listen_addresses = ''
unix_socket_directories = $(quoted "\"$sockets\"")
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
shared_buffers = '256MB'
maintenance_work_mem = '256MB'
shared_preload_libraries = 'pg_salesai'
# Statements carry customer text, which must not reach a log.
log_min_error_statement = fatal
salesai.sidecar_socket = $(quoted "$sidecar_socket")
salesai.worker_databases = 'salesai'
salesai.master_key_file = $(quoted "$master_key")
CONF
}

quoted() { printf "'%s'" "${1//\'/\'\'}"; }

fingerprint() {
    as_run_user cat "$data/salesai.conf" "$("$pg18/bin/pg_config" --pkglibdir)/pg_salesai.so" | sha256sum
}

launch() {
    local pid
    forget_stale_lock "$data/postmaster.pid"
    forget_stale_lock "$postgres_socket.lock"
    need_free_socket "$postgres_socket"
    need_space "$state" 100 "PostgreSQL"
    [ -f "$postgres_log" ] || install -m 0640 -o "$run_user" /dev/null "$postgres_log"
    say "Starting PostgreSQL (log: .salesai/postgres.log)"
    as_run_user "$pg18/bin/pg_ctl" start -s -w -t 120 -D "$data" -l "$postgres_log" </dev/null || {
        tail -n 20 "$postgres_log" >&2
        die "PostgreSQL did not start; the end of its log is above" "Mend what it names, then run 'make up' again."
    }
    fingerprint >"$started"
}

# After a crash the number in a lock file may belong to another program by now, or to a dead process that
# nobody collected; Postgres would refuse to start.
forget_stale_lock() {
    local pid
    { read -r pid <"$1"; } 2>/dev/null || return 0
    [ -d "/proc/$pid" ] || return 0
    case $(readlink "/proc/$pid/exe" || true) in */postgres*) return 0 ;; esac
    say "Removing $1, left by a server that is gone"
    rm -f "$1"
}

install_extension() {
    local script_sha256 installed newest
    installed=$(extension_version "extversion from pg_extension where extname = 'pg_salesai'")
    newest=$(extension_version "default_version from pg_available_extensions where name = 'pg_salesai'")
    script_sha256=$(sha256sum <"$("$pg18/bin/pg_config" --sharedir)/extension/pg_salesai--$newest.sql")
    if [ -z "$installed" ]; then
        say "Installing the extensions vector and pg_salesai $newest"
        psql_quiet -1 -c "set client_min_messages = warning" -c "create extension if not exists vector" -c "create extension pg_salesai" ||
            die "could not install the extension; PostgreSQL's message is above"
    elif [ "$installed" != "$newest" ]; then
        say "Updating pg_salesai from $installed to $newest"
        psql_quiet -c "alter extension pg_salesai update" ||
            die "could not update the extension from $installed to $newest; PostgreSQL's message is above" \
                "The database is unchanged, at $installed."
    elif [ "$(cat "$state/schema.sha256" 2>/dev/null)" != "$script_sha256" ]; then
        say "Note: sql/ changed but its version is still $installed, so this database keeps the schema it has"
        say "      ('make clean' starts afresh; a new version needs an upgrade script)"
        return
    fi
    echo "$script_sha256" >"$state/schema.sha256"
}

extension_version() {
    psql_quiet -c "select $1" || die "PostgreSQL runs but does not answer as expected; its message is above" "See 'make logs'."
}

stop() {
    if server_pid >/dev/null; then
        say "Stopping PostgreSQL"
        as_run_user "$pg18/bin/pg_ctl" stop -s -m fast -w -t 60 -D "$data" ||
            die "PostgreSQL did not stop within 60 s" "See 'make logs'. 'kill -QUIT $(server_pid)' stops it at once; committed data are safe."
    else
        say "PostgreSQL is not running"
    fi
}

need_running() { server_pid >/dev/null || die "PostgreSQL is not running" "Run 'make up' first."; }

case ${1:-} in
start) start ;;
stop) stop ;;
dsn) need_running && echo "$dsn" ;;
psql)
    need_running
    if [ -n "${SALESAI_SQL:-}" ]; then
        exec "$pg18/bin/psql" -X -v ON_ERROR_STOP=1 -d "$dsn" -c "$SALESAI_SQL"
    fi
    exec "$pg18/bin/psql" -d "$dsn"
    ;;
*) die "usage: server.sh start|stop|psql|dsn" ;;
esac
