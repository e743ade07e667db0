-- What an operator looks at.

-- Owner rights: how old a job is, is no secret, and row-level security would read all of them.
create function salesai.oldest_job(source text) returns timestamptz
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$ select min(j.created_at) from salesai.job j where j.source = $1 and j.state <> 'failed' $$;
comment on function salesai.oldest_job(text) is 'When the oldest job of a source was queued that is not done';

create view salesai.source_status with (security_invoker) as
with counted as (
    select c.source, coalesce(sum(c.delta) filter (where c.state = 'pending'), 0)::bigint as pending,
        coalesce(sum(c.delta) filter (where c.state = 'running'), 0)::bigint as running,
        coalesce(sum(c.delta) filter (where c.state = 'failed'), 0)::bigint as failed,
        salesai.oldest_job(c.source) as oldest_created_at
    from salesai.job_count c
    group by c.source),
finished as (
    -- Since the first of them: what began a minute ago is not slower than it is.
    select i.source, count(*) / greatest(extract(epoch from clock_timestamp() - min(i.processed_at)), 1) as per_second
    from salesai.interaction i
    where i.processed_at > now() - interval '5 minutes' group by i.source)
select c.source, c.pending, c.running, c.failed, c.oldest_created_at,
    coalesce(extract(epoch from clock_timestamp() - c.oldest_created_at), 0)::numeric(12, 3) as lag_s,
    coalesce(f.per_second, 0)::numeric(12, 3) as finished_per_s,
    ((c.pending + c.running) / f.per_second)::numeric(12, 1) as eta_s,
    exists (select from salesai.queue_pause p where p.source in ('', c.source)) as paused
from counted c
left join finished f on f.source = c.source;
comment on view salesai.source_status is
    'The queue by source; the empty one is work on embedding sets. lag_s: age of the oldest job that is not done; finished_per_s: interactions that the caller may see, since the first that was finished in the last 5 minutes; eta_s: NULL when nothing was finished in them';

create view salesai.queue_status with (security_invoker) as
select coalesce(sum(s.pending), 0)::bigint as pending, coalesce(sum(s.running), 0)::bigint as running,
    coalesce(sum(s.failed), 0)::bigint as failed, min(s.oldest_created_at) as oldest_created_at,
    coalesce(max(s.lag_s), 0)::numeric(12, 3) as lag_s,
    (sum(s.pending + s.running) filter (where s.source <> '') / nullif(sum(s.finished_per_s), 0))::numeric(12, 1) as eta_s
from salesai.source_status s;
comment on view salesai.queue_status is
    'Exact counts of all jobs, at the same cost however many there are. lag_s: age of the oldest job that is not done; eta_s: from the rate of the last 5 minutes, NULL when nothing was finished in them';

create view salesai.pipeline_errors with (security_invoker) as
select e.occurred_at, e.interaction_id, i.source, i.external_id, e.kind, e.class, e.step, e.message, e.attempt, j.state as job_state,
    j.not_before as next_attempt_at
from salesai.job_error e
left join salesai.interaction i on i.id = e.interaction_id
left join salesai.job j on j.id = e.job_id;
comment on view salesai.pipeline_errors is
    'Failures of jobs, newest and old; job_state failed: waits for salesai.retry_errors(); pending: is tried again at next_attempt_at; NULL: done since';

create view salesai.backfills with (security_invoker) as
with rate as materialized (select s.source, s.finished_per_s from salesai.source_status s)
select b.id, b.source, b.since, b.until, b.everything, b.started_at, b.started_by, b.queued,
    b.queued - l.waiting - l.failed as done, l.waiting, l.failed,
    case l.waiting when 0 then 0 else l.waiting / nullif(
        (select sum(r.finished_per_s) from rate r where b.source is null or r.source = b.source), 0) end::numeric(12, 1) as eta_s
from salesai.backfill b
cross join lateral (
    select count(*) filter (where j.state <> 'failed') as waiting, count(*) filter (where j.state = 'failed') as failed
    from salesai.job j where j.backfill_id = b.id) l;
comment on view salesai.backfills is
    'Calls of salesai.backfill and how far they are: interactions that were queued, are done (or deleted since), wait (counted) and failed; eta_s: from the rate of the last 5 minutes, NULL when nothing was finished in them';

-- Owner rights: how many entries there are is no secret.
create function salesai.index_sizes()
returns table (name text, method text, embedding_set_id bigint, entries bigint, waiting bigint, is_complete boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    with lexical as (
        select (select coalesce(sum(g.chunk_count), 0)::bigint from salesai.lexical_segment g) as entries,
            (select count(*) from salesai.lexical_delta) as waiting),
    vectors as (
        select s.id, s.index_method, salesai.embedding_count(s.id) as vectors, salesai.embedding_index_steps(s.id) = '{}' as is_complete,
            (select count(*) from salesai.embedding_delta d where d.set_id = s.id) as uncoded
        from salesai.embedding_set s)
    -- As few as are left for search to read.
    select 'lexical', 'postings', null::bigint, l.entries, l.waiting, l.waiting < 256 from lexical l
    union all
    select 'embedding_' || v.id, v.index_method, v.id, v.vectors - w.waiting, w.waiting, v.is_complete
    from vectors v
    cross join lateral (
        select case when v.index_method = 'codes' then least(v.uncoded, v.vectors) when v.is_complete then 0 else v.vectors end as waiting) w
$$;
comment on function salesai.index_sizes() is 'Entries of each index of search, and chunks or vectors that are to come';

create view salesai.index_progress with (security_invoker) as
select i.name, i.method, i.embedding_set_id, i.entries, i.waiting,
    (case when i.is_complete then 1 else coalesce(
        salesai.index_build_progress(i.name), i.entries::real / nullif(i.entries + i.waiting, 0), 0) end)::real as progress
from salesai.index_sizes() i;
comment on view salesai.index_progress is
    'Indexes of search and how far each is built, from 0 to 1: the postings of chunks, and codes or a graph (hnsw) of each embedding set. What waits for postings or codes is found too, read one by one; without its graph a set is read as a whole. Chunks that are gone stay in the postings until segments are merged';

create function salesai.embedding_eta_s(set_id bigint) returns numeric
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select case when n.embeddings >= n.chunks then 0
        when n.embeddings > s.filled_before then least(1e10,
            (n.chunks - n.embeddings) * extract(epoch from clock_timestamp() - s.filling_since) / (n.embeddings - s.filled_before))
        end::numeric(12, 1)
    from salesai.embedding_set s
    cross join lateral (
        select (select count(*) from salesai.chunk) as chunks, salesai.embedding_count(s.id) as embeddings) n
    where s.id = set_id and s.state = 'building'
$$;
comment on function salesai.embedding_eta_s(bigint) is
    'Seconds until a set that is being filled has all embeddings, at its average rate since that began; NULL before the first';

create view salesai.embedding_sets with (security_invoker) as
select s.id, s.model, s.model_sha256, s.dimensions, s.element, s.template, s.state,
    (select count(*) from salesai.chunk) as chunks, p.entries + p.waiting as embeddings, p.progress as index_progress,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state <> 'failed') as jobs,
    (select count(*) from salesai.job j where j.embedding_set_id = s.id and j.state = 'failed') as failed_jobs,
    s.switch_when_complete, s.created_at, s.activated_at, s.index_method, salesai.embedding_eta_s(s.id) as eta_s
from salesai.embedding_set s
join salesai.index_progress p on p.embedding_set_id = s.id;
comment on view salesai.embedding_sets is
    'Embedding sets and how far each is: embeddings of chunks (counted, so it takes a while on large ones; chunks are those that the caller may see), index_progress from 0 to 1, jobs that are left, eta_s: seconds until a set that is built has all embeddings';

create view salesai.sidecar_status with (security_invoker) as
select s.state ->> 'error' is null as reachable, coalesce(s.state ->> 'state', 'unreachable') as state,
    s.state ->> 'version' as version, (s.state ->> 'uptime_seconds')::bigint as uptime_s,
    (s.state ->> 'running_requests')::integer as running_requests,
    (s.state ->> 'waiting_requests')::integer as waiting_requests,
    (s.state ->> 'waiting_requests_max')::integer as waiting_requests_max,
    (s.state ->> 'refused_requests')::bigint as refused_requests,
    (s.state ->> 'cancelled_requests')::bigint as cancelled_requests,
    (s.state ->> 'generation_steps')::bigint as generation_steps,
    (s.state ->> 'resident_bytes')::bigint as resident_bytes,
    s.state -> 'models' as models, s.state ->> 'error' as error, s.state -> 'adapters' as adapters,
    (s.state ->> 'kv_blocks_total')::bigint as kv_blocks_total, (s.state ->> 'kv_blocks_used')::bigint as kv_blocks_used,
    (s.state ->> 'kv_blocks_cached')::bigint as kv_blocks_cached,
    (s.state ->> 'prefix_hit_tokens')::bigint as prefix_hit_tokens,
    (s.state ->> 'preempted_sequences')::bigint as preempted_sequences
from (select salesai.sidecar_state() as state) s;
comment on view salesai.sidecar_status is 'The inference sidecar as it is now; one row, also when it cannot be reached';

create view salesai.adapters with (security_invoker) as
with loaded as materialized (select s.item from salesai.served('adapters') s (item))
select a.name, a.generation, a.state, a.model as base, a.task, a.rank, a.content_bytes as bytes,
    (l.item ->> 'generation')::bigint as loaded_generation,
    case when (l.item ->> 'generation')::bigint = a.generation then (l.item ->> 'running_sequences')::integer end as running_sequences,
    a.parent_adapter_id, a.trained_on, a.sha256, a.created_by, a.created_at, a.activated_at, a.id as adapter_id
from salesai.adapter a
left join loaded l on l.item ->> 'name' = a.name;
comment on view salesai.adapters is
    'Every generation of every LoRA adapter. loaded_generation: what the sidecar has of this name now, NULL when nothing or when it cannot be reached; running_sequences: texts that it writes with this generation';

create view salesai.models with (security_invoker) as
with served as materialized (select s.item from salesai.served('models') s (item))
select coalesce(m.name, s.item ->> 'name') as name, coalesce(m.kind, s.item ->> 'kind') as kind,
    coalesce(m.source, case when (s.item ->> 'is_remote')::boolean then 'remote' else 'local' end) as source,
    coalesce(m.sha256, nullif(s.item ->> 'sha256', '')) as sha256,
    coalesce(m.dimensions, nullif((s.item ->> 'dimensions')::integer, 0)) as dimensions,
    coalesce(m.tokens_max, nullif((s.item ->> 'tokens_max')::integer, 0)) as tokens_max,
    coalesce(m.weight_bytes, nullif((s.item ->> 'weight_bytes')::bigint, 0)) as bytes,
    s.item is not null as is_served, coalesce((s.item ->> 'is_default')::boolean, false) as is_default, m.registered_at
from salesai.model m
full join served s on s.item ->> 'name' = m.name
    and coalesce(nullif(s.item ->> 'sha256', ''), '') = coalesce(m.sha256, '');
comment on view salesai.models is
    'The models in salesai.model and those that the sidecar serves now; is_served is false for all while it cannot be reached';

create function salesai.doctor() returns table (piece text, ok boolean, state text, remedy text)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    sidecar jsonb := salesai.sidecar_state();
    embedding_model jsonb;
    active salesai.embedding_set;
    failed bigint;
    installed_version text := (select e.extversion from pg_extension e where e.extname = 'pg_salesai');
    vector_version text := (select e.extversion from pg_extension e where e.extname = 'vector');
    key_problem text := salesai.master_key_state();
begin
    return query values
        ('server_encoding', current_setting('server_encoding') = 'UTF8', current_setting('server_encoding'),
         'Create the database with encoding UTF8.'),
        ('extension', installed_version = salesai.library_version(),
         format('schema %s, library %s', installed_version, salesai.library_version()),
         'Run alter extension pg_salesai update, and restart the server after installing a new library.'),
        ('vector', string_to_array(vector_version, '.')::int[] >= array[0, 8, 4], vector_version,
         'Install pgvector 0.8.4 or later: older versions can corrupt HNSW indexes on vacuum.'),
        ('preload', 'pg_salesai' = any (string_to_array(replace(current_setting('shared_preload_libraries'), ' ', ''), ',')),
         current_setting('shared_preload_libraries'),
         'Add pg_salesai to shared_preload_libraries and restart; without it call salesai.process() yourself.'),
        ('worker', exists (select from salesai.live_backends() b where b.is_worker),
         (select coalesce(string_agg('pid ' || b.pid, ', '), 'not running') from salesai.live_backends() b where b.is_worker),
         'Name this database in salesai.worker_databases and reload the configuration: select pg_reload_conf().'),
        ('statement_log', current_setting('log_statement') = 'none' and current_setting('log_min_duration_statement') = '-1'
            and current_setting('log_min_error_statement') in ('fatal', 'panic'),
         format('log_statement %s, log_min_duration_statement %s, log_min_error_statement %s', current_setting('log_statement'),
                current_setting('log_min_duration_statement'), current_setting('log_min_error_statement')),
         'Set log_statement = none, log_min_duration_statement = -1 and log_min_error_statement = fatal: statements carry customer text.'),
        ('master_key', key_problem is null, coalesce(key_problem, 'readable'),
         'Put 32 random bytes as 64 hex digits into the file that salesai.master_key_file names; only the server''s user may read it. Keep a copy elsewhere: without it no original can be read.'),
        ('sidecar', sidecar ->> 'error' is null and sidecar ->> 'state' = 'ready',
         coalesce(sidecar ->> 'error', sidecar ->> 'state'),
         'Start inference-sidecar on the socket that salesai.sidecar_socket names; its log says why it does not become ready.');
    select * into active from salesai.embedding_set s where s.state = 'active';
    select m into embedding_model from jsonb_array_elements(sidecar -> 'models') m where m ->> 'name' = active.model;
    return query values
        ('embedding_set', active.id is not null and (sidecar ->> 'error' is not null or embedding_model ->> 'sha256' = active.model_sha256) is true,
         case when active.id is null then 'none yet'
              when embedding_model ->> 'sha256' <> active.model_sha256 then format('made by other weights of "%s"', active.model)
              when embedding_model is null and sidecar ->> 'error' is null then format('the sidecar does not serve "%s"', active.model)
              else format('%s, %s dimensions', active.model, active.dimensions) end,
         'It is made by the first processed interaction. The sidecar must run the model that made it until salesai.reembed() has made another.');
    return query
        select 'adapters', count(*) filter (where not is_base_served) = 0,
            format('%s active, %s loaded', count(*), count(loaded_generation))
                || coalesce('; base not served: ' || string_agg(format('"%s" of "%s"', base, name), ', ') filter (where not is_base_served), ''),
            'Start the sidecar with the base models of the adapters, or take those adapters out of use by salesai.retire_adapter.'
        from (
            select a.name, a.model as base, l ->> 'generation' as loaded_generation,
                sidecar ->> 'error' is not null
                or exists (select from jsonb_array_elements(sidecar -> 'models') m where m ->> 'name' = a.model) as is_base_served
            from salesai.adapter a
            left join jsonb_array_elements(case jsonb_typeof(sidecar -> 'adapters') when 'array' then sidecar -> 'adapters' else '[]' end) l
                on l ->> 'name' = a.name
            where a.state = 'active') active_adapter;
    select coalesce(sum(c.delta), 0) into failed from salesai.job_count c where c.state = 'failed';
    return query values
        ('queue_running', not exists (select from salesai.queue_pause),
         (select coalesce('paused: ' || string_agg(coalesce(nullif(p.source, ''), 'all'), ', ' order by p.source), 'running')
          from salesai.queue_pause p),
         'Call salesai.resume() when the pause is over.'),
        ('failed_jobs', failed = 0, failed::text, 'See salesai.pipeline_errors, mend the cause, then select salesai.retry_errors().');
    return query
        select 'insight_requests', coalesce(c.oldest_due_at > now() - interval '5 minutes', true),
            format('%s wait, %s are being answered, %s failed', c.queued, c.running, c.failed),
            'Questions wait: salesai.insight_request says why (error_message). They need a worker, a sidecar and a queue that is not paused.'
        from salesai.request_counts() c;
    return query
        select 'column_tasks', count(*) filter (where t.state = 'blocked' or t.failed > 0) = 0,
            format('%s, %s blocked, %s rows failed', count(*), count(*) filter (where t.state = 'blocked'), coalesce(sum(t.failed), 0)),
            'See salesai.column_tasks and salesai.column_task_errors, mend the cause, then select salesai.column_task_resume() or salesai.column_task_retry().'
        from salesai.column_tasks t;
end
$$;
comment on function salesai.doctor() is 'Each piece that the system needs, whether it works, and how to mend it when it does not';
