-- insight() through the queue, for slow models: a question is stored, and a worker answers it with the rights that who
-- asked has then. Leases, classes of failures and pauses are those of salesai.job.

create table salesai.insight_request (
    id bigint generated always as identity primary key,
    asked_by text not null,
    -- Whose rights it has, and who had logged in: a name may be given to another role.
    asker_id oid not null,
    login_id oid not null,
    question text not null,
    asked text not null,
    filters jsonb not null,
    options jsonb not null,
    explain boolean not null,
    state text not null default 'queued' check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
    attempts integer not null default 0,
    losses integer not null default 0,
    not_before timestamptz not null default now(),
    lease_token uuid,
    lease_expires_at timestamptz,
    holder_pid integer,
    holder_started_at timestamptz,
    error_class text check (error_class in ('record_temporary', 'record_permanent', 'pipeline_temporary', 'pipeline_permanent')),
    error_code text,
    error_message text,
    error_hint text,
    insight_id bigint references salesai.insight on delete cascade,
    details jsonb,
    created_at timestamptz not null default now(),
    created_in xid8 not null default pg_current_xact_id(),
    finished_at timestamptz,
    check ((state = 'running') = (lease_token is not null)),
    check ((state = 'done') = (insight_id is not null)),
    check ((state in ('queued', 'running')) = (finished_at is null))
);
create index insight_request_due_index on salesai.insight_request (asked_by, not_before, id) where state = 'queued';
create index insight_request_running_index on salesai.insight_request (lease_expires_at) where state = 'running';
create index insight_request_open_index on salesai.insight_request (asked_by) where state in ('queued', 'running');
create index insight_request_finished_index on salesai.insight_request (finished_at) where finished_at is not null;
create index insight_request_insight_index on salesai.insight_request (insight_id) where insight_id is not null;
comment on table salesai.insight_request is
    'Questions of salesai.insight_submit and what became of them; who asked sees them, and roles that read and write everything. error_*: the last failure, also of one that is tried again';
comment on column salesai.insight_request.asked is 'The question as it is understood: after the questions before it';
comment on column salesai.insight_request.losses is 'How often its holder died or lost its lease; a question that kills its holders fails in the end';

create function salesai.is_asker(asker_id oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$ select asker_id = (select r.oid from pg_roles r where r.rolname = salesai.current_role_name()) $$;
comment on function salesai.is_asker(oid) is 'Whether this is the session''s role, and not one that had its name';

create function salesai.check_answer_options(options jsonb) returns void
language c volatile strict parallel unsafe as 'MODULE_PATHNAME', 'check_answer_options_wrapper';
comment on function salesai.check_answer_options(jsonb) is
    'Refuses what salesai.answer_question would: a limit that makes no sense, an adapter that is not active or belongs to another model';

create function salesai.insight_submit(
    question text, account text default null, opportunity text default null, kinds text[] default null,
    since timestamptz default null, until timestamptz default null, speaker_side text default null,
    evidence_count integer default 4, model text default null, adapter text default null,
    timeout_ms integer default null, max_tokens integer default 64, seed bigint default 0,
    method text default null, explain boolean default false, conversation bigint default null)
returns bigint
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    understood record;
begin
    select * into understood from salesai.understood_question(question, account, opportunity, kinds, since, until, speaker_side,
        evidence_count, model, adapter, timeout_ms, max_tokens, seed, method, conversation);
    -- What search and the answer would refuse.
    perform salesai.search_filters(understood.filters ->> 'account', understood.filters ->> 'opportunity', kinds, since, until, speaker_side, null, null, null, null, null, null);
    perform salesai.check_answer_options(understood.options);
    return salesai.enqueue_insight(question, understood.asked, understood.filters, understood.options, coalesce(explain, false));
end
$$;
comment on function salesai.insight_submit(text, text, text, text[], timestamptz, timestamptz, text, integer, text, text, integer, integer, bigint, text, boolean, bigint) is
    'salesai.insight through the queue: checks and stores the question and returns its number for salesai.insight_result at once. A worker, or salesai.process(), answers it with the rights that the caller''s role has then. timeout_ms: for the model, default and at most salesai.job_timeout_ms';

-- Owner rights: whose rights a question has is not the caller's to say.
create function salesai.enqueue_insight(question text, asked text, filters jsonb, options jsonb, explain boolean) returns bigint
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    open_max constant integer := 1000;
    who constant text := salesai.current_role_name();
    request_id bigint;
begin
    if (select count(*) from (select from salesai.insight_request r
                              where r.asked_by = who and r.state in ('queued', 'running') limit open_max) open) >= open_max then
        raise exception 'too many questions wait' using errcode = '53400',
            detail = format('%s questions of role "%s" have no answer yet.', open_max, who),
            hint = 'Submit it again later, or cancel some by salesai.insight_cancel.';
    end if;
    insert into salesai.insight_request (asked_by, asker_id, login_id, question, asked, filters, options, explain)
    values (who, (select r.oid from pg_roles r where r.rolname = who), (select r.oid from pg_roles r where r.rolname = session_user),
        question, asked, filters, options, explain)
    returning id into request_id;
    perform salesai.wake_worker();
    return request_id;
end
$$;
comment on function salesai.enqueue_insight(text, text, jsonb, jsonb, boolean) is 'Stores a question of the session''s role; used by salesai.insight_submit';

create function salesai.insight_result(request bigint, wait_ms integer default 0) returns salesai.insight_result
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    wait_ms_max constant integer := 86400000;
    deadline timestamptz;
    pause_s double precision := 0.01;
    found record;
    result salesai.insight_result;
begin
    if wait_ms is null or wait_ms not between 0 and wait_ms_max then
        raise exception 'wait_ms must be between 0 and %', wait_ms_max using errcode = '22023';
    end if;
    deadline := clock_timestamp() + make_interval(secs => wait_ms / 1000.0);
    loop
        -- A new snapshot each time.
        select r.*, r.created_in = pg_current_xact_id_if_assigned() as is_uncommitted into found
        from salesai.insight_request r where r.id = request;
        if found.id is null then
            raise exception 'request % does not exist', request using errcode = 'P0002',
                hint = 'Give the number that salesai.insight_submit returned, as the role that asked.';
        end if;
        exit when found.state not in ('queued', 'running') or clock_timestamp() >= deadline;
        if found.is_uncommitted or current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'this transaction cannot wait for an answer' using errcode = '55000',
                detail = 'It would not see what a worker commits, or the worker does not see the question before this one commits.',
                hint = 'Commit after salesai.insight_submit, and wait at isolation level read committed.';
        end if;
        perform pg_sleep(least(pause_s, extract(epoch from deadline - clock_timestamp())));
        pause_s := least(pause_s * 1.5, 0.2);
    end loop;
    if found.state in ('queued', 'running') then
        if found.error_message is not null then
            raise notice 'request % is tried again: %', request, found.error_message;
        end if;
        return null;
    elsif found.state = 'cancelled' then
        raise exception 'request % was cancelled', request using errcode = '57014',
            hint = 'Submit the question again if an answer is wanted.';
    elsif found.state = 'failed' then
        raise exception 'request % failed', request using errcode = found.error_code,
            detail = format('%s (%s, attempts: %s).', upper(left(found.error_message, 1)) || substr(found.error_message, 2),
                found.error_class, found.attempts),
            hint = coalesce(found.error_hint, 'Submit the question again when the cause is mended.');
    end if;
    select i.answer,
        (select array_agg(row(c.number, c.claim, c.interaction_id, c.segment_id, c.speaker, c.start_ms, c.end_ms,
                c.start_char, c.end_char, c.quote, c.similarity)::salesai.insight_citation order by c.number)
         from salesai.citation c where c.insight_id = i.id),
        i.confidence, i.method, i.method = 'abstained', i.reason, i.model, i.adapter, i.prompt_tokens, i.completion_tokens,
        i.elapsed_ms, i.id, found.details
    into result
    from salesai.insight i where i.id = found.insight_id;
    return result;
end
$$;
comment on function salesai.insight_result(bigint, integer) is
    'The answer to a question of salesai.insight_submit, as salesai.insight gives it; NULL while there is none, with a notice when something keeps it. Waits up to wait_ms for it. Fails with the SQLSTATE of what failed, 57014 for one that was cancelled, P0002 for one that does not exist or is not the caller''s';

-- Owner rights: nobody but a worker changes a question, and this only what the caller sees.
create function salesai.insight_cancel(request bigint) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
-- salesai.process() holds what it answers until its transaction ends.
set lock_timeout = '5s'
as $$
declare
    is_known boolean;
begin
    update salesai.insight_request r
    set state = 'cancelled', finished_at = clock_timestamp(),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where r.id = request and r.state in ('queued', 'running')
      and (salesai.is_asker(r.asker_id) or (select salesai.reads_all() and salesai.writes()));
    if found then
        return true;
    end if;
    select true into is_known from salesai.insight_request r
    where r.id = request and (salesai.is_asker(r.asker_id) or (select salesai.reads_all() and salesai.writes()));
    if is_known is null then
        raise exception 'request % does not exist', request using errcode = 'P0002',
            hint = 'Give the number that salesai.insight_submit returned, as the role that asked.';
    end if;
    return false;
end
$$;
comment on function salesai.insight_cancel(bigint) is
    'Cancels a question of salesai.insight_submit; a model that is at it stops within about a second. False when it had ended already';

-- What a worker does, each in a short transaction. First one of each role, whichever by chance, then the second of each.
create function salesai.due_requests(requests_max integer) returns table (request_id bigint, rank bigint)
language sql volatile rows 10
set search_path = pg_catalog, pg_temp
as $$
    with recursive asker as (
        (select r.asked_by from salesai.insight_request r where r.state = 'queued' order by r.asked_by limit 1)
        union all
        select n.asked_by
        from asker a
        cross join lateral (
            select r.asked_by from salesai.insight_request r
            where r.state = 'queued' and r.asked_by > a.asked_by order by r.asked_by limit 1) n)
    select d.id, row_number() over (order by d.turn, a.chance)
    from (select *, random() as chance from asker) a
    cross join lateral (
        select f.id, row_number() over (order by f.not_before, f.id) as turn
        from (select r.id, r.not_before from salesai.insight_request r
              where r.state = 'queued' and r.asked_by = a.asked_by and r.not_before <= clock_timestamp()
                and salesai.may_act_for(r.asker_id)
              order by r.not_before, r.id limit requests_max) f) d
    where not exists (select from salesai.queue_pause p where p.source = '')
    order by 2
    limit requests_max
$$;
comment on function salesai.due_requests(integer) is 'The next questions to be answered: of each role in turn';

create function salesai.may_act_for(asker_id oid) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    -- One that is gone has no rights to act with, and is told so.
    select pg_has_role(session_user, asker_id, 'SET') or not exists (select from pg_roles r where r.oid = asker_id)
$$;
comment on function salesai.may_act_for(oid) is 'Whether this session may take this role: a worker any, salesai.process() those that its session may set';

create function salesai.has_due_requests() returns boolean
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    select exists (select from salesai.insight_request r
                   where r.state = 'running' and salesai.is_lost(r.lease_expires_at, r.holder_pid, r.holder_started_at))
        or exists (select from salesai.due_requests(1))
$$;
comment on function salesai.has_due_requests() is 'Whether salesai.claim_request may find something';

create function salesai.claim_request(lease_ms integer) returns table (request_id bigint, lease_token uuid)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    losses_max constant integer := 10;
    lost record;
begin
    -- Whoever holds it dies: it fails, so that others get their turn.
    for lost in select * from salesai.insight_request r where r.state = 'running' and r.losses >= losses_max for update skip locked loop
        if salesai.is_lost(lost.lease_expires_at, lost.holder_pid, lost.holder_started_at) then
            perform salesai.fail_request(lost.id, lost.lease_token, 'record_permanent', '58000',
                format('its worker died or was too slow %s times', losses_max), null, null);
        end if;
    end loop;
    return query
    with lost as materialized (
        select r.id from salesai.insight_request r
        where r.state = 'running' and salesai.is_lost(r.lease_expires_at, r.holder_pid, r.holder_started_at)
          and salesai.may_act_for(r.asker_id)
        limit 1
        for update skip locked),
    due as materialized (
        select r.id
        from salesai.due_requests(64) d
        join salesai.insight_request r on r.id = d.request_id
        where r.state = 'queued'
        order by d.rank
        limit 1
        for update of r skip locked)
    update salesai.insight_request r
    set state = 'running', lease_token = gen_random_uuid(), losses = r.losses + (r.state = 'running')::integer,
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0),
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from (select l.id from lost l union all select d.id from due d limit 1) claimed
    where r.id = claimed.id
    returning r.id, r.lease_token;
end
$$;
comment on function salesai.claim_request(integer) is 'Leases a question to this backend';

-- Somebody may cancel it and not commit: nobody waits long for that.
create function salesai.renew_request(request_id bigint, lease_token uuid, lease_ms integer) returns boolean
language sql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
    update salesai.insight_request r set lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0)
    where r.id = $1 and r.lease_token = $2
    returning true
$$;
comment on function salesai.renew_request(bigint, uuid, integer) is 'Renews a lease; NULL when it was lost, or the question was cancelled';

create function salesai.lock_request(request_id bigint, lease_token uuid) returns boolean
language sql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$ select true from salesai.insight_request r where r.id = $1 and r.lease_token = $2 for update $$;
comment on function salesai.lock_request(bigint, uuid) is 'Locks a leased question, so that nobody else ends it; NULL when the lease was lost';

create function salesai.leased_request(request_id bigint, lease_token uuid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select jsonb_build_object('role', r.asked_by, 'problem', salesai.asker_problem(r.asked_by, r.asker_id, r.login_id),
        'question', r.question, 'asked', r.asked, 'filters', r.filters, 'options', r.options, 'explain', r.explain)
    from salesai.insight_request r where r.id = $1 and r.lease_token = $2
$$;
comment on function salesai.leased_request(bigint, uuid) is 'What a leased question asks, and why nobody may answer it; NULL when the lease was lost';

create function salesai.asker_problem(role_name text, asker_id oid, login_id oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when not exists (select from pg_roles r where r.oid = asker_id and r.rolname = role_name)
            then format('role "%s", which asked, does not exist any more', role_name)
        when not exists (select from pg_roles r where r.oid = login_id)
            then format('the role that had logged in to ask as "%s" does not exist any more', role_name)
        when not pg_has_role(login_id, asker_id, 'SET')
            then format('who asked may not act as role "%s" any more', role_name)
        when not has_schema_privilege(asker_id, 'salesai', 'usage')
            or not has_function_privilege(asker_id, 'salesai.gather_evidence(text, jsonb, jsonb)', 'execute')
            then format('role "%s" may not use salesai any more', role_name)
    end
$$;
comment on function salesai.asker_problem(text, oid, oid) is 'Why a question has lost the rights that it was asked with; NULL when it has not';

-- The next two run with the rights of who asked. Nobody waits for their errors, so they return them.
create function salesai.gather_evidence(asked text, filters jsonb, options jsonb) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    started constant timestamptz := clock_timestamp();
    gathered record;
    code text;
    message text;
    hint text;
begin
    select * into gathered from salesai.retrieve_evidence(asked, filters, (options ->> 'evidence_count')::integer);
    return jsonb_build_object('chunk_ids', gathered.chunk_ids, 'retrieved', gathered.retrieved, 'evidence', gathered.evidence,
        'search_ms', round(1000 * extract(epoch from clock_timestamp() - started), 1));
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    return jsonb_build_object('error', jsonb_build_object('code', code, 'message', message, 'hint', nullif(hint, '')));
end
$$;
comment on function salesai.gather_evidence(text, jsonb, jsonb) is 'salesai.retrieve_evidence as JSON, and how long it took, or why it failed';

-- request: salesai.leased_request; gathered: salesai.gather_evidence; answered: salesai.answer_question.
create function salesai.keep_answer(request jsonb, gathered jsonb, answered jsonb, elapsed_ms integer) returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
-- As in salesai.finish_job.
set lock_timeout = '30s'
as $$
declare
    result salesai.insight_result := jsonb_populate_record(null::salesai.insight_result, answered);
    chunk_ids bigint[];
    insight_id bigint;
    code text;
    message text;
    hint text;
begin
    if jsonb_typeof(gathered -> 'chunk_ids') = 'array' then
        chunk_ids := array(select c::bigint from jsonb_array_elements_text(gathered -> 'chunk_ids') with ordinality e (c, place) order by place);
    end if;
    result.elapsed_ms := elapsed_ms;
    insight_id := salesai.keep_insight(request ->> 'question', result, answered, request -> 'filters', request -> 'options',
        chunk_ids, gathered -> 'evidence');
    -- What is cited cannot go away now; what was shown to the model may have gone, or changed, while it wrote.
    if salesai.evidence_digest(salesai.evidence(chunk_ids)) is distinct from salesai.evidence_digest(gathered -> 'evidence') then
        raise exception 'the evidence changed meanwhile' using errcode = '40001';
    end if;
    return jsonb_build_object('insight_id', insight_id, 'details', salesai.insight_details(
        gathered -> 'retrieved', gathered -> 'evidence', answered, (gathered ->> 'search_ms')::numeric, (request ->> 'explain')::boolean));
exception when others then
    get stacked diagnostics code = returned_sqlstate, message = message_text, hint = pg_exception_hint;
    return jsonb_build_object('error', jsonb_build_object('code', code, 'message', message, 'hint', nullif(hint, '')));
end
$$;
comment on function salesai.keep_answer(jsonb, jsonb, jsonb, integer) is
    'Keeps the answer to a question as salesai.insight does, if its evidence still says the same: {insight_id, details}, or why it failed, and then nothing is kept';

create function salesai.finish_request(request_id bigint, lease_token uuid, insight_id bigint, details jsonb) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.insight_request r
    set state = 'done', insight_id = $3, details = $4, finished_at = clock_timestamp(),
        error_class = null, error_code = null, error_message = null, error_hint = null,
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where r.id = $1 and r.lease_token = $2
    returning true
$$;
comment on function salesai.finish_request(bigint, uuid, bigint, jsonb) is 'Notes that a leased question has its answer';

create function salesai.fail_request(
    request_id bigint, lease_token uuid, class text, code text, message text, hint text, retry_ms integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
declare
    attempts_max constant integer := 5;
    is_own_fault constant boolean := class like 'record%';
    -- As in salesai.fail_job.
    pause_s constant double precision := random() + 0.5;
begin
    update salesai.insight_request r
    set attempts = r.attempts + is_own_fault::integer,
        state = f.state, finished_at = case f.state when 'failed' then clock_timestamp() end,
        not_before = clock_timestamp() + make_interval(secs => coalesce(fail_request.retry_ms / 1000.0, pause_s * case class
            when 'pipeline_temporary' then 5 when 'pipeline_permanent' then 30 else 2 ^ r.attempts end)),
        error_class = class, error_code = code, error_message = message, error_hint = hint,
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    from (select o.id, case when class = 'record_permanent' or is_own_fault and o.attempts + 1 >= attempts_max then 'failed' else 'queued' end as state
          from salesai.insight_request o where o.id = $1 and o.lease_token = $2 for update) f
    where r.id = f.id;
end
$$;
comment on function salesai.fail_request(bigint, uuid, text, text, text, text, integer) is
    'Notes that a leased question failed, in the classes of salesai.fail_job; retry_ms: when it is tried again, where the class does not say';

create function salesai.purge_requests(older_than interval default '30 days') returns bigint
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
    with gone as (delete from salesai.insight_request r where r.finished_at < now() - older_than returning 1)
    select count(*) from gone
$$;
comment on function salesai.purge_requests(interval) is
    'Deletes questions that ended longer ago; how many. Their answers stay in salesai.insight. A worker does it by itself';

-- Owner rights: how many questions wait is no secret.
create function salesai.request_counts(out queued bigint, out running bigint, out failed bigint, out oldest_due_at timestamptz)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select count(*) filter (where r.state = 'queued'), count(*) filter (where r.state = 'running'),
        count(*) filter (where r.state = 'failed'), min(r.not_before) filter (where r.state = 'queued')
    from salesai.insight_request r
$$;
comment on function salesai.request_counts() is 'Questions of salesai.insight_submit, of all roles; oldest_due_at: since when one could be answered';

create function salesai.note_outage(code text, message text, hint text) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.insight_request r
    set error_class = 'pipeline_temporary', error_code = $1, error_message = $2, error_hint = $3
    -- Once, and not what somebody is about to change.
    where r.id in (select q.id from salesai.insight_request q
                   where q.state = 'queued' and (q.error_code, q.error_message) is distinct from ($1, $2)
                   order by q.id limit 1000 for update skip locked);
    update salesai.column_task t
    set error_code = $1, error_message = $2, error_hint = $3
    where t.id in (select c.id from salesai.column_task c join salesai.due_column_tasks() d on d.id = c.id
                   where (c.error_code, c.error_message) is distinct from ($1, $2) for no key update of c skip locked)
$$;
comment on function salesai.note_outage(text, text, text) is 'Notes at the questions that wait, and at column tasks, why nobody can answer them now';
