-- Queue operations: how jobs come in, whose turn it is, and what becomes of those that fail. Each is a short transaction.

create function salesai.enqueue(interaction_id bigint, version integer, lane text default 'interactive') returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.job as j (interaction_id, version, lane, source)
    select i.id, $2, $3, i.source from salesai.interaction i where i.id = $1
    on conflict on constraint job_interaction_id_kind_key do update
        set version = excluded.version, lane = excluded.lane, state = 'pending', attempts = 0, losses = 0, not_before = now(),
            created_at = now(), lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null;
    select salesai.wake_worker();
$$;
comment on function salesai.enqueue(bigint, integer, text) is 'Queues the indexing of this version; a job of an older version is replaced';

-- Adds up what lies there, at most so many rows; rows that others add up just now are left to them.
create function salesai.add_up_job_counts(rows_max integer default 1000) returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    with taken as (
        delete from salesai.job_count c
        where c.ctid in (select t.ctid from salesai.job_count t
                         -- A few rows are soon read, and adding them up leaves as many dead ones.
                         where (select count(*) from (select from salesai.job_count limit 65) few) > 64
                           -- Elsewhere a row that another has added up since is an error.
                           and current_setting('transaction_isolation') = 'read committed'
                         limit rows_max for update skip locked)
        returning c.source, c.lane, c.state, c.delta)
    insert into salesai.job_count (source, lane, state, delta)
    select t.source, t.lane, t.state, sum(t.delta) from taken t group by 1, 2, 3 having sum(t.delta) <> 0
$$;
comment on function salesai.add_up_job_counts(integer) is 'Makes few rows of many in salesai.job_count';

create function salesai.recount_jobs() returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$
    lock table salesai.job in share mode;
    -- Nor may anybody add up meanwhile.
    lock table salesai.job_count in share row exclusive mode;
    delete from salesai.job_count;
    insert into salesai.job_count (source, lane, state, delta)
    select j.source, j.lane, j.state, count(*) from salesai.job j group by 1, 2, 3;
$$;
comment on function salesai.recount_jobs() is 'Counts the jobs anew, after a restore or another change that fired no triggers';

create function salesai.check_queue_room() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    pages constant bigint := pg_relation_size('salesai.job_count') / current_setting('block_size')::bigint;
    jobs_max bigint;
    jobs bigint;
begin
    -- Where no worker does it: a job makes about three rows, and this adds up a thousand.
    if random() < 0.003 then
        perform salesai.add_up_job_counts();
    end if;
    -- Rows of a large transaction go only when it ends: the more there are, the fewer callers look, so that each reads
    -- a few pages on the average.
    if random() >= greatest(8.0 / greatest(pages, 8), 0.005) then
        return;
    end if;
    -- A call into the library, so that its settings are known.
    perform salesai.library_version();
    jobs_max := current_setting('salesai.queue_limit');
    if jobs_max = 0 then
        return;
    end if;
    select sum(c.delta) into jobs from salesai.job_count c where c.state <> 'failed';
    if jobs >= jobs_max then
        raise exception 'the queue is full' using errcode = '53400',
            detail = format('%s jobs wait; salesai.queue_limit is %s.', jobs, jobs_max),
            hint = 'Nothing was stored. Send it again later: salesai.source_status shows which source fills the queue and how long it takes.';
    end if;
end
$$;
comment on function salesai.check_queue_room() is 'Refuses new work while salesai.queue_limit jobs wait; within a large load some rows late';

-- Owner rights: pg_stat_activity hides these columns of other roles' sessions.
create function salesai.live_backends() returns table (pid integer, backend_start timestamptz, is_worker boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select a.pid, a.backend_start, a.backend_type = 'pg_salesai worker'
    from pg_stat_activity a where a.datname = current_database()
$$;
comment on function salesai.live_backends() is 'Processes connected to this database that may hold a lease';

-- A job of each source in turn, whichever comes first by chance, so that none is always the last. It reads as many rows
-- as it returns for each source and lane, however long the queue is: those are found by leaping through the index.
create function salesai.due_jobs(jobs_max integer, lanes text[]) returns table (job_id bigint, rank bigint)
language sql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
    with recursive class as (
        (select j.lane, j.priority, j.source from salesai.job j
         where j.state = 'pending' order by j.lane, j.priority, j.source limit 1)
        union all
        select n.lane, n.priority, n.source
        from class c
        cross join lateral (
            select j.lane, j.priority, j.source from salesai.job j
            where j.state = 'pending' and (j.lane, j.priority, j.source) > (c.lane, c.priority, c.source)
            order by j.lane, j.priority, j.source limit 1) n)
    select d.id, row_number() over (order by c.lane <> 'interactive', c.lane = 'maintenance', c.priority desc, d.turn, c.chance)
    from (select *, random() as chance from class) c
    cross join lateral (
        select f.id, row_number() over (order by f.not_before, f.id) as turn
        from (select j.id, j.not_before from salesai.job j
              where j.state = 'pending' and j.lane = c.lane and j.priority = c.priority and j.source = c.source
                and j.not_before <= clock_timestamp()
              order by j.not_before, j.id limit jobs_max) f) d
    where c.lane = any (lanes)
      and not exists (select from salesai.queue_pause p where p.source = '' or p.source = c.source)
    order by 2
    limit jobs_max
$$;
comment on function salesai.due_jobs(integer, text[]) is 'The next jobs to be done: interactive ones first, then by priority, then of each source in turn';

create function salesai.has_due_jobs(lanes text[]) returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from salesai.job j where j.state = 'running' and j.lane = any (lanes))
        or exists (select from salesai.due_jobs(1, lanes))
$$;
comment on function salesai.has_due_jobs(text[]) is 'Whether salesai.claim_jobs may find something';

create function salesai.claim_jobs(
    jobs_max integer, lease_ms integer, lanes text[] default '{interactive,background,maintenance}')
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint, losses integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    lost salesai.job;
begin
    for lost in
        select * from salesai.job j
        where j.state = 'running' and j.lane = any (lanes) and salesai.is_lost_too_often(j.losses + 1)
        order by j.interaction_id
    loop
        if salesai.is_lost(lost.lease_expires_at, lost.holder_pid, lost.holder_started_at) then
            perform salesai.fail_lost_job(lost.id, lost.lease_token);
        end if;
    end loop;
    return query select * from salesai.claim_among(jobs_max, lease_ms, lanes, 4 * jobs_max);
    if not found then
        -- All of those may be another session's, which has not committed yet.
        return query select * from salesai.claim_among(jobs_max, lease_ms, lanes, 64 * jobs_max);
    end if;
end
$$;
comment on function salesai.claim_jobs(integer, integer, text[]) is 'Leases due jobs to this backend';

-- A dead holder's lease need not run out, and who claims has nothing under way. It takes columns, because a row that
-- another has just claimed is looked at again as it is then.
create function salesai.is_lost(lease_expires_at timestamptz, holder_pid integer, holder_started_at timestamptz) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select $1 < clock_timestamp() or $2 = pg_backend_pid()
        or not exists (select from salesai.live_backends() b where b.pid = $2 and b.backend_start = $3)
$$;
comment on function salesai.is_lost(timestamptz, integer, timestamptz) is 'Whether a running job with this lease has no holder any more';

create function salesai.claim_among(jobs_max integer, lease_ms integer, lanes text[], window_max integer)
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid, kind text, embedding_set_id bigint, losses integer)
language sql
set search_path = pg_catalog, pg_temp
as $$
    with lost as materialized (
        select j.id
        from salesai.job j
        where j.state = 'running' and j.lane = any (lanes) and salesai.is_lost(j.lease_expires_at, j.holder_pid, j.holder_started_at)
        -- One of them may be what its holder died of: the others are not there when it happens again.
        order by j.losses, j.id
        limit 1
        for update skip locked),
    due as materialized (
        select j.id
        from salesai.due_jobs(window_max, lanes) d
        join salesai.job j on j.id = d.job_id
        where j.state = 'pending'
        order by d.rank
        limit jobs_max
        for update of j skip locked)
    update salesai.job j
    set state = 'running', lease_token = gen_random_uuid(), losses = j.losses + (j.state = 'running')::integer,
        lease_expires_at = case j.kind
            -- As long as it takes; it ends with its holder.
            when 'build_index' then 'infinity'
            else clock_timestamp() + make_interval(secs => lease_ms / 1000.0) end,
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from (select l.id from lost l union all select d.id from due d limit jobs_max) claimed
    where j.id = claimed.id
    returning j.id, j.interaction_id, j.version, j.lease_token, j.kind, j.embedding_set_id, j.losses
$$;
comment on function salesai.claim_among(integer, integer, text[], integer) is 'Leases jobs that lost their holder, then some of the next window_max';

-- Called between requests to the sidecar: however many a job needs, its lease outlasts them.
create function salesai.renew_leases(lease_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j set lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
    -- A row that somebody changes now is being replaced.
    where j.id in (select m.id from salesai.job m
                   where m.state = 'running' and m.holder_pid = pg_backend_pid() and m.lease_expires_at <> 'infinity'
                   for update skip locked)
$$;
comment on function salesai.renew_leases(integer) is 'Renews the leases of this backend';

create function salesai.pause(source text default null) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$ insert into salesai.queue_pause (source) values (coalesce($1, '')) on conflict do nothing $$;
comment on function salesai.pause(text) is 'Starts no job of this source any more, or none at all; what runs is finished, and ingestion goes on';

create function salesai.resume(source text default null) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    delete from salesai.queue_pause p where $1 is null or p.source = $1;
    select salesai.wake_worker();
$$;
comment on function salesai.resume(text) is 'Takes salesai.pause back: for this source, or for all';

-- The interaction's row is locked before the job's, as ingestion does it.
create function salesai.lock_interaction(job_id bigint) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select from salesai.interaction i
    where i.id = (select j.interaction_id from salesai.job j where j.id = $1)
    for update
$$;
comment on function salesai.lock_interaction(bigint) is 'Locks the interaction of a job';

-- Overload, a sidecar that is down: not the record's fault, so no attempt is consumed.
create function salesai.release_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j
    set state = 'pending', lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null,
        -- Not before the time that was asked for, and not all together.
        not_before = clock_timestamp() + make_interval(secs => (1 + random() / 2) * retry_ms / 1000.0)
    where j.id = $1 and j.lease_token = $2
$$;
comment on function salesai.release_job(bigint, uuid, integer) is 'Gives a leased job back without consuming an attempt';

create function salesai.is_lost_too_often(losses integer) returns boolean
language sql immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$ select losses >= 10 $$;
comment on function salesai.is_lost_too_often(integer) is 'Whether a job fails because its worker or the sidecar was lost with it so often';

create function salesai.fail_lost_job(job_id bigint, lease_token uuid) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    select salesai.fail_job(job_id, lease_token, 'record_permanent', 'run',
        'its worker or the inference sidecar died or was too slow ten times')
$$;
comment on function salesai.fail_lost_job(bigint, uuid) is 'Fails a job whose worker or sidecar was lost too often, so that others get their turn';

-- It waits twice as long each time, a quarter of an hour in all, while others go on; from now on it is worked on alone.
create function salesai.lose_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses integer;
begin
    perform salesai.lock_interaction(job_id);
    update salesai.job j set losses = j.losses + 1 where j.id = $1 and j.lease_token = $2 returning j.losses into losses;
    if salesai.is_lost_too_often(losses) then
        perform salesai.fail_lost_job(job_id, lease_token);
    elsif losses is not null then
        perform salesai.release_job(job_id, lease_token, retry_ms * (2 ^ (losses - 1))::integer);
    end if;
end
$$;
comment on function salesai.lose_job(bigint, uuid, integer) is 'Gives a leased job back that the sidecar died of, or was too slow for, as far as anybody knows';

create function salesai.fail_job(job_id bigint, lease_token uuid, class text, step text, message text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    attempts_max constant integer := 5;
    is_own_fault constant boolean := class like 'record%';
    -- Half to one and a half of it, so that what failed together is not tried again together.
    pause_s constant double precision := random() + 0.5;
    failed salesai.job;
begin
    perform salesai.lock_interaction(job_id);
    update salesai.job j
    set attempts = j.attempts + is_own_fault::integer,
        state = case when class = 'record_permanent' or is_own_fault and j.attempts + 1 >= attempts_max then 'failed' else 'pending' end,
        not_before = clock_timestamp() + make_interval(secs => pause_s * case class
            when 'pipeline_temporary' then 5 when 'pipeline_permanent' then 30 else 2 ^ j.attempts end),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where j.id = $1 and j.lease_token = $2
    returning * into failed;
    if not found then
        return;
    end if;
    -- What waits for somebody is said once.
    if not is_own_fault and exists (
        select from salesai.job_error e
        where e.job_id = $1 and e.class = fail_job.class and e.step = fail_job.step and e.message = fail_job.message) then
        return;
    end if;
    insert into salesai.job_error (interaction_id, kind, class, step, message, attempt, job_id)
    values (failed.interaction_id, failed.kind, class, step, message, failed.attempts, failed.id);
    if failed.state = 'failed' then
        update salesai.interaction i set state = 'failed' where i.id = failed.interaction_id;
    end if;
end
$$;
comment on function salesai.fail_job(bigint, uuid, text, text, text) is
    'Records a failure. record_temporary is tried again after about 1, 2, 4 and 8 s, then fails; record_permanent fails at once; pipeline_temporary is tried again after about 5 s, pipeline_permanent after 30 s, without using up an attempt. A failed job stays visible';

create function salesai.retry_errors(
    source text default null, class text default null, step text default null, interaction_id bigint default null) returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
    -- Interactions before their jobs, as everywhere.
    select from salesai.interaction i
    where i.id in (select j.interaction_id from salesai.job j
                   where (j.state = 'failed' or j.state = 'pending' and j.not_before > now())
                     and ($1 is null or j.source = $1) and ($4 is null or j.interaction_id = $4))
    order by i.id
    for update;
    with retried as (
        update salesai.job j set state = 'pending', attempts = 0, losses = 0, not_before = now(), created_at = now()
        where (j.state = 'failed' or j.state = 'pending' and j.not_before > now())
          and ($1 is null or j.source = $1) and ($4 is null or j.interaction_id = $4)
          and case when $2 is null and $3 is null then j.state = 'failed'
              else exists (
                  select from (select * from salesai.job_error e where e.job_id = j.id order by e.id desc limit 1) e
                  where ($2 is null or e.class = $2) and ($3 is null or e.step = $3)) end
        returning j.interaction_id),
    pending as (
        update salesai.interaction i set state = 'pending' from retried r where i.id = r.interaction_id returning i.id),
    woken as materialized (select salesai.wake_worker())
    select (select count(*) from retried) from woken
$$;
comment on function salesai.retry_errors(text, text, text, bigint) is
    'Queues failed jobs again, from the step that failed (what was read stays read; what could not be stored is embedded again): all, or those of a source, or whose last failure was of this class or step (then also those that wait for their next attempt); returns how many';

create function salesai.backfill(
    source text default null, since timestamptz default null, until timestamptz default null, everything boolean default false) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
    backfill_id constant bigint := nextval('salesai.backfill_id_seq');
    queued bigint;
begin
    perform salesai.check_queue_room();
    -- Interactions before their jobs, as everywhere.
    perform from salesai.interaction i
    where (source is null or i.source = source) and (since is null or i.occurred_at >= since) and (until is null or i.occurred_at < until)
      and (everything or i.processed_version is distinct from i.version)
    order by i.id
    for update;
    with asked as (
        insert into salesai.job (interaction_id, version, lane, source, backfill_id)
        select i.id, i.version, 'background', i.source, backfill_id
        from salesai.interaction i
        where (source is null or i.source = source) and (since is null or i.occurred_at >= since) and (until is null or i.occurred_at < until)
          and (everything or i.processed_version is distinct from i.version)
        order by i.id
        -- What waits already comes when it comes, and what failed is for salesai.retry_errors.
        on conflict on constraint job_interaction_id_kind_key do nothing
        returning interaction_id)
    select count(*) into queued from asked;
    if queued > 0 then
        insert into salesai.backfill (id, source, since, until, everything, queued) overriding system value
        values (backfill_id, source, since, until, everything, queued);
    end if;
    perform salesai.wake_worker();
    return queued;
end
$$;
comment on function salesai.backfill(text, timestamptz, timestamptz, boolean) is
    'Queues, in the background lane, the interactions of a source or a time that are not indexed as they are, or all of them (everything): after a restore, or to have older ones chunked by newer rules. What is indexed serves meanwhile, and chunks whose text stays keep their embeddings. Returns how many; salesai.backfills shows how far they are';
