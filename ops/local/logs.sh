#!/usr/bin/env bash
# Follows the logs of PostgreSQL and the sidecar.
. "$(dirname "$0")/env.sh"

[ -f "$postgres_log" ] || [ -f "$sidecar_log" ] || die "there are no logs yet" "Run 'make up' first."
exec tail -n 40 -F "$postgres_log" "$sidecar_log"
