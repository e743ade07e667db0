-- The job queue: leases with fencing tokens, so that no transaction stays open while a model runs
-- and no result is written twice. Counts are sums of changes, so that no row is hot.

create table salesai.job (
    id bigint generated always as identity primary key,
    interaction_id bigint references salesai.interaction on delete cascade,
    kind text not null default 'index' check (kind in ('index', 'embed', 'build_index')),
    version integer not null,
    lane text not null default 'interactive' check (lane in ('interactive', 'background', 'maintenance')),
    priority integer not null default 0,
    state text not null default 'pending' check (state in ('pending', 'running', 'failed')),
    attempts integer not null default 0,
    not_before timestamptz not null default now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    holder_pid integer,
    holder_started_at timestamptz,
    created_at timestamptz not null default now(),
    source text not null default '',
    embedding_set_id bigint references salesai.embedding_set on delete cascade,
    first_chunk_id bigint,
    last_chunk_id bigint,
    losses integer not null default 0,
    backfill_id bigint,
    unique (interaction_id, kind),
    check ((kind = 'index') = (interaction_id is not null)),
    check ((kind = 'index') = (embedding_set_id is null)),
    check ((kind = 'embed') = (first_chunk_id is not null and last_chunk_id is not null))
)
-- Jobs die where claims look first, whatever share of a long queue they are.
with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
create index job_due_index on salesai.job (lane, priority, source, not_before, id) where state = 'pending';
create index job_running_index on salesai.job (lease_expires_at) where state = 'running';
create index job_oldest_index on salesai.job (source, created_at) where state <> 'failed';
create index job_embedding_set_index on salesai.job (embedding_set_id) where embedding_set_id is not null;
create index job_backfill_index on salesai.job (backfill_id) where backfill_id is not null;
comment on table salesai.job is
    'Work that waits for a model. index: an interaction''s chunks and embeddings; embed: a range of chunks for an embedding set that is built; build_index: that set''s index. A finished job is deleted; a failed one stays and can be retried';
comment on column salesai.job.source is 'The interaction''s source; sources take turns. Empty for work on embedding sets';
comment on column salesai.job.losses is 'How often its holder died or lost its lease, or the sidecar died or was too slow; since then it is worked on alone, and fails in the end';
comment on column salesai.job.backfill_id is 'The call of salesai.backfill that queued it';
comment on column salesai.job.lane is 'interactive: what arrives one by one; background: bulk loads and embedding sets, when no interactive job is due; maintenance: builds of indexes, which have a worker of their own';

create table salesai.job_error (
    id bigint generated always as identity primary key,
    interaction_id bigint references salesai.interaction on delete cascade,
    kind text not null,
    class text not null check (class in ('record_temporary', 'record_permanent', 'pipeline_temporary', 'pipeline_permanent')),
    step text not null,
    message text not null,
    attempt integer not null,
    occurred_at timestamptz not null default now(),
    job_id bigint
);
create index job_error_interaction_index on salesai.job_error (interaction_id);
create index job_error_job_index on salesai.job_error (job_id);
comment on table salesai.job_error is
    'Every failure of a job with its class; never holds customer text. record: the interaction''s own fault, which uses up attempts; pipeline: everybody''s, which does not; temporary: tried again by itself; permanent: somebody has to do something';

create table salesai.job_count (
    source text not null,
    lane text not null,
    state text not null,
    delta bigint not null
);
comment on table salesai.job_count is
    'Changes of the number of jobs: the sum is the number, exact in every snapshot. Added by each statement, added up now and then';

create table salesai.queue_pause (
    source text primary key,
    paused_at timestamptz not null default now(),
    paused_by text not null default session_user
);
comment on table salesai.queue_pause is 'Sources whose jobs are not started; the empty one stands for all (salesai.pause, salesai.resume)';

create table salesai.backfill (
    id bigint generated always as identity primary key,
    source text,
    since timestamptz,
    until timestamptz,
    everything boolean not null,
    queued bigint not null,
    started_at timestamptz not null default now(),
    started_by text not null default session_user
);
comment on table salesai.backfill is 'Calls of salesai.backfill that queued something; salesai.backfills shows how far they are';

-- Owner rights: whoever queues work counts it.
create function salesai.count_jobs() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'TRUNCATE' then
        lock table salesai.job_count in share row exclusive mode;
        delete from salesai.job_count;
    elsif tg_op = 'INSERT' then
        insert into salesai.job_count (source, lane, state, delta)
        select n.source, n.lane, n.state, count(*) from new_jobs n group by 1, 2, 3;
    elsif tg_op = 'DELETE' then
        insert into salesai.job_count (source, lane, state, delta)
        select o.source, o.lane, o.state, -count(*) from old_jobs o group by 1, 2, 3;
    else
        insert into salesai.job_count (source, lane, state, delta)
        select c.source, c.lane, c.state, sum(c.delta)
        from (select n.source, n.lane, n.state, 1 as delta from new_jobs n
              union all select o.source, o.lane, o.state, -1 from old_jobs o) c
        group by 1, 2, 3 having sum(c.delta) <> 0;
    end if;
    return null;
end
$$;
comment on function salesai.count_jobs() is 'Trigger: notes how a statement changed the number of jobs';

create trigger count_inserted after insert on salesai.job
    referencing new table as new_jobs for each statement execute function salesai.count_jobs();
create trigger count_updated after update on salesai.job
    referencing new table as new_jobs old table as old_jobs for each statement execute function salesai.count_jobs();
create trigger count_deleted after delete on salesai.job
    referencing old table as old_jobs for each statement execute function salesai.count_jobs();
create trigger count_truncated after truncate on salesai.job for each statement execute function salesai.count_jobs();
