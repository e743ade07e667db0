#!/usr/bin/env bash
# The model server, on a Unix socket beside that of PostgreSQL. Verbs: start stop.
. "$(dirname "$0")/env.sh"

pid_file=$state/sidecar.pid
started=$state/sidecar.started # fingerprint of what the running sidecar was started with
command=("$sidecar_bin" --socket "$sidecar_socket"
    --embedding-model "$embedding_model=$embedding_dir"
    --language-model "$language_model=$language_file")
ready_seconds_max=120
stop_seconds_max=10

start() {
    if sidecar_pid >/dev/null && [ "$(cat "$started" 2>/dev/null)" != "$(fingerprint)" ]; then
        say "The sidecar changed: restarting it"
        stop
    fi
    sidecar_pid >/dev/null || launch
    wait_until_ready
}

launch() {
    need_free_socket "$sidecar_socket"
    need_space "$state" 100 "the sidecar's log"
    rm -f "$sidecar_socket" # nobody listens there any more
    [ -f "$sidecar_log" ] || install -m 0640 -o "$run_user" /dev/null "$sidecar_log"
    say "Starting the inference sidecar (log: .salesai/sidecar.log)"
    # A session of its own, so that it outlives make and its terminal.
    # shellcheck disable=SC2016
    as_run_user sh -c 'setsid "$@" </dev/null >>"$0" 2>&1 & echo $!' "$sidecar_log" "${command[@]}" >"$pid_file"
    fingerprint >"$started"
}

wait_until_ready() {
    local start=$SECONDS said=$SECONDS message
    until message=$(as_run_user "$sidecar_bin" --socket "$sidecar_socket" --check 2>&1); do
        if ! sidecar_pid >/dev/null; then
            tail -n 10 "$sidecar_log" >&2
            die "the sidecar ended; the end of its log is above" "Mend what it names, then run 'make up' again."
        fi
        [ $((SECONDS - start)) -lt $ready_seconds_max ] ||
            die "the sidecar is not ready after $ready_seconds_max s: $message" "See 'make logs'. 'make down' stops it."
        if [ $((SECONDS - said)) -ge 5 ]; then
            said=$SECONDS
            say "Waiting for the sidecar to load its models ($((SECONDS - start)) s)"
        fi
        sleep 0.2
    done
    say "The sidecar is ready"
}

stop() {
    local pid start=$SECONDS
    if ! pid=$(sidecar_pid); then
        say "The sidecar is not running"
        rm -f "$pid_file"
        return
    fi
    say "Stopping the sidecar"
    kill -TERM "$pid" 2>/dev/null || true
    while sidecar_pid >/dev/null; do
        if [ $((SECONDS - start)) -ge $stop_seconds_max ]; then
            say "It did not stop within $stop_seconds_max s: killing it (it stores nothing, so nothing is lost)"
            kill -KILL "$pid" 2>/dev/null || true
            break
        fi
        sleep 0.1
    done
    rm -f "$pid_file"
}

# The process of the pid file, if it still is a sidecar on our socket and not another program with its number.
sidecar_pid() {
    local pid
    { read -r pid <"$pid_file"; } 2>/dev/null || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -- "$sidecar_socket" && echo "$pid"
}

fingerprint() {
    { cat "$sidecar_bin" && printf '%s\n' "${command[@]}"; } | sha256sum
}

case ${1:-} in
start) start ;;
stop) stop ;;
*) die "usage: sidecar.sh start|stop" ;;
esac
