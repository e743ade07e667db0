#!/usr/bin/env bash
# Loads the sample deal room, waits until it is processed, and shows what the product does with it.
. "$(dirname "$0")/env.sh"

drain_seconds_max=600

say "Loading the sample deal room (ops/deal_room)"
python3 "$here/load_deal_room.py" ops/deal_room | psql_quiet -f - >/dev/null ||
    die "could not load the deal room; the message is above" "Nothing of it was stored."

say "Waiting until every interaction is parsed, chunked and embedded"
start=$SECONDS said=''
while true; do
    counts=$(psql_quiet -F ' ' -c "select coalesce(sum(pending + running), 0), coalesce(sum(failed), 0) from salesai.queue_status") ||
        die "could not read the queue; the message is above" "See 'make logs'."
    read -r waiting failed <<<"$counts"
    if [ "$counts" != "$said" ]; then
        said=$counts
        printf '    %s jobs waiting or running, %s failed (%s s)\n' "$waiting" "$failed" $((SECONDS - start))
    fi
    [ "$failed" -eq 0 ] ||
        die "$failed jobs failed" "See why: make psql SQL='select * from salesai.pipeline_errors'"
    [ "$waiting" -gt 0 ] || break
    [ $((SECONDS - start)) -lt $drain_seconds_max ] ||
        die "$waiting jobs are still waiting after $drain_seconds_max s" \
            "See what is wrong: make psql SQL='select * from salesai.doctor()', and 'make logs'."
    sleep 0.5
done

"$pg18/bin/psql" -X -q -v ON_ERROR_STOP=1 -d "$dsn" -f "$here/tour.sql" ||
    die "the tour stopped; PostgreSQL's message is above" "See what is wrong: make psql SQL='select * from salesai.doctor()', and 'make logs'."

cat <<TEXT

Go on:  make psql      your own questions, in SQL
        make dsn       the connection string, for your tools on this machine
        make down      stop; the data stay
TEXT
