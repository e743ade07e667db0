#!/usr/bin/env bash
# Stops everything and deletes it: the database, what was fetched, and the build. YES=1 does not ask.
. "$(dirname "$0")/env.sh"

say "This deletes $state (the database, its key and the models) and $root/target (the build). It cannot be undone."
if [ "${YES:-}" != 1 ]; then
    [ -t 0 ] || die "nothing was deleted: there is no terminal to ask on" "Run 'make clean YES=1' to delete without being asked."
    read -r -p "Type yes to delete: " answer
    [ "$answer" = yes ] || die "nothing was deleted"
fi
"$here/server.sh" stop
"$here/sidecar.sh" stop
case $sockets in /tmp/salesai.*) rm -rf -- "$sockets" ;; esac
rm -rf -- "$state" "$root/.salesai" "$root/target"
say "Deleted. Downloads are kept in $cache"
