-- Queue operations. The Rust pipeline calls claim_jobs, finish_job and the two ways to fail; each is one
-- short transaction, and the lease token fences off a holder whose lease was taken over.

create function salesai.enqueue(interaction_id bigint, version integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    insert into salesai.job as j (interaction_id, version) values ($1, $2)
    on conflict on constraint job_interaction_id_kind_key do update
        set version = excluded.version, state = 'pending', attempts = 0, not_before = now(),
            lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null;
    select salesai.wake_worker();
$$;
comment on function salesai.enqueue(bigint, integer) is 'Queues the indexing of this version; a job of an older version is replaced';

-- Owner rights: pg_stat_activity hides these columns of other roles' sessions.
create function salesai.live_backends() returns table (pid integer, backend_start timestamptz, is_worker boolean)
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
    select a.pid, a.backend_start, a.backend_type = 'pg_salesai worker'
    from pg_stat_activity a where a.datname = current_database()
$$;
comment on function salesai.live_backends() is 'Processes connected to this database that may hold a lease';

create function salesai.claim_jobs(jobs_max integer, lease_ms integer)
returns table (job_id bigint, interaction_id bigint, version integer, lease_token uuid)
language sql
set search_path = pg_catalog, pg_temp
as $$
    with due as (
        select j.id
        from salesai.job j
        where (j.state = 'pending' and j.not_before <= clock_timestamp())
           -- A dead holder's lease need not run out.
           or (j.state = 'running'
               and (j.lease_expires_at < clock_timestamp()
                    or not exists (select from salesai.live_backends() b
                                   where b.pid = j.holder_pid and b.backend_start = j.holder_started_at)))
        order by j.lane desc, j.priority desc, j.id
        limit jobs_max
        for update skip locked
    )
    update salesai.job j
    set state = 'running', lease_token = gen_random_uuid(),
        lease_expires_at = clock_timestamp() + make_interval(secs => lease_ms / 1000.0),
        holder_pid = pg_backend_pid(),
        holder_started_at = (select b.backend_start from salesai.live_backends() b where b.pid = pg_backend_pid())
    from due
    where j.id = due.id
    returning j.id, j.interaction_id, j.version, j.lease_token
$$;
comment on function salesai.claim_jobs(integer, integer) is 'Leases due jobs to this backend';

create function salesai.parse_markdown(content text) returns jsonb
language c immutable strict parallel safe as 'MODULE_PATHNAME', 'parse_markdown_wrapper';
comment on function salesai.parse_markdown(text) is 'Segments of a document: headings, paragraphs, lists and tables';

create function salesai.unread_document(interaction_id bigint, version integer)
returns table (file_name text, media_type text, content bytea)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select i.properties ->> 'filename', r.media_type,
        salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.interaction i
    join salesai.raw_payload r on r.interaction_id = i.id and r.version = $2
    join salesai.data_key d on d.interaction_id = i.id
    where i.id = $1 and i.kind = 'document' and r.text_ciphertext is null
      -- Before 0.3.0 a document came with its segments.
      and not exists (select from salesai.segment s where s.interaction_id = i.id and s.version = $2)
$$;
comment on function salesai.unread_document(bigint, integer) is 'The document of a job whose text is not read yet';

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

-- Returns false when the lease was lost: then nothing is written.
create function salesai.store_document(job_id bigint, lease_token uuid, media_type text, title text, markdown text) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
begin
    perform salesai.lock_interaction(job_id);
    select j.interaction_id as id, j.version, i.account_id, salesai.redacted_kinds(i.source) as kinds, d.wrapped_key into item
    from salesai.job j
    join salesai.interaction i on i.id = j.interaction_id
    join salesai.data_key d on d.interaction_id = i.id
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    for update of j;
    if not found then
        return false;
    end if;
    names := salesai.known_names(item.account_id, item.id);
    update salesai.raw_payload r
    set text_ciphertext = salesai.seal_text(markdown, item.wrapped_key, item.id, item.version),
        media_type = store_document.media_type
    where r.interaction_id = item.id and r.version = item.version;
    update salesai.interaction i
    set redacted_kinds = item.kinds,
        subject = case when title <> '' and i.subject = i.properties ->> 'filename'
            then salesai.redact_text(left(title, 300), item.kinds, names) else i.subject end
    where i.id = item.id;
    with parsed as materialized (select salesai.parse_markdown(markdown) as segments),
    redacted as materialized (
        select r.*
        from parsed p, lateral salesai.redact_segments(p.segments, item.kinds, names, item.wrapped_key, item.id, item.version) r)
    insert into salesai.segment (interaction_id, version, position, turn, start_char, end_char, content, redactions, sealed)
    select item.id, item.version, r.position, (s.value ->> 'turn')::integer, (s.value ->> 'start_char')::integer,
        (s.value ->> 'end_char')::integer, r.content, r.redactions, r.sealed
    from parsed p
    cross join jsonb_array_elements(p.segments) with ordinality s (value, number)
    join redacted r on r.position = s.number - 1;
    return true;
end
$$;
comment on function salesai.store_document(bigint, uuid, text, text, text) is
    'Writes the text of a leased job''s document and its segments, all or nothing; false when the lease was lost';

create function salesai.job_segments(interaction_id bigint, version integer)
returns table (heading text, "position" integer, turn integer, speaker text, start_char integer, end_char integer, content text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.heading(i.id), s.position, s.turn, p.name, s.start_char, s.end_char, s.content
    from salesai.interaction i
    join salesai.segment s on s.interaction_id = i.id and s.version = $2
    left join salesai.participant p on p.id = s.participant_id
    where i.id = $1
    order by s.position
$$;
comment on function salesai.job_segments(bigint, integer) is 'What a job chunks and embeds';

create function salesai.heading(interaction_id bigint) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(' | ', i.kind, a.name, o.name, i.subject)
    from salesai.interaction i
    left join salesai.account a on a.id = i.account_id
    left join salesai.opportunity o on o.id = i.opportunity_id
    where i.id = $1
$$;
comment on function salesai.heading(bigint) is 'Kind, account, opportunity and subject of an interaction, in one line';

-- chunks: [{first_position, last_position, start_char, end_char, token_count, content}], embeddings: all
-- vectors end to end. Returns false when the lease was lost: then nothing is written.
create function salesai.finish_job(
    job_id bigint, lease_token uuid, chunks jsonb, embeddings real[],
    model text, model_sha256 text, dimensions integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    done salesai.job;
    set_id bigint;
begin
    perform salesai.lock_interaction(job_id);
    delete from salesai.job j
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    returning * into done;
    if not found then
        return false;
    end if;
    set_id := salesai.active_embedding_set(model, model_sha256, dimensions);
    delete from salesai.chunk c where c.interaction_id = done.interaction_id;
    insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char,
        end_char, token_count, heading, content, content_hash, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id)
    select i.id, done.version, c.position - 1, (c.value ->> 'first_position')::integer, (c.value ->> 'last_position')::integer,
        (c.value ->> 'start_char')::integer, (c.value ->> 'end_char')::integer, (c.value ->> 'token_count')::integer,
        salesai.heading(i.id), c.value ->> 'content',
        sha256(convert_to(salesai.heading(i.id) || e'\n' || (c.value ->> 'content'), 'UTF8')), i.kind, i.occurred_at, i.account_id, i.opportunity_id,
        i.owner_rep_id, i.team_id
    from salesai.interaction i, jsonb_array_elements(chunks) with ordinality c (value, position)
    where i.id = done.interaction_id;
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($1)[c.position * $2 + 1 : (c.position + 1) * $2]::@extschema:vector@.vector
         from salesai.chunk c where c.interaction_id = $3', 'embedding_' || set_id)
        using embeddings, dimensions, done.interaction_id;
    update salesai.interaction i
    set state = 'ready', processed_version = done.version, processed_at = clock_timestamp()
    where i.id = done.interaction_id;
    return true;
end
$$;
comment on function salesai.finish_job(bigint, uuid, jsonb, real[], text, text, integer) is
    'Writes the chunks and embeddings of a leased job and removes it, all or nothing; false when the lease was lost';

-- Overload, a sidecar that is down: not the record's fault, so no attempt is consumed.
create function salesai.release_job(job_id bigint, lease_token uuid, retry_ms integer) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    update salesai.job j
    set state = 'pending', lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null,
        not_before = clock_timestamp() + make_interval(secs => retry_ms / 1000.0)
    where j.id = $1 and j.lease_token = $2
$$;
comment on function salesai.release_job(bigint, uuid, integer) is 'Gives a leased job back without consuming an attempt';

create function salesai.fail_job(job_id bigint, lease_token uuid, class text, step text, message text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    attempts_max constant integer := 5;
    failed salesai.job;
begin
    update salesai.job j
    set attempts = j.attempts + 1,
        state = case when class = 'record_temporary' and j.attempts + 1 < attempts_max then 'pending' else 'failed' end,
        not_before = clock_timestamp() + make_interval(secs => 2 ^ j.attempts),
        lease_token = null, lease_expires_at = null, holder_pid = null, holder_started_at = null
    where j.id = $1 and j.lease_token = $2
    returning * into failed;
    if not found then
        return;
    end if;
    insert into salesai.job_error (interaction_id, kind, class, step, message, attempt)
    values (failed.interaction_id, failed.kind, class, step, message, failed.attempts);
    if failed.state = 'failed' then
        update salesai.interaction i set state = 'failed' where i.id = failed.interaction_id;
    end if;
end
$$;
comment on function salesai.fail_job(bigint, uuid, text, text, text) is
    'Records a failure. record_temporary retries after 1, 2, 4 and 8 s, then fails; the others fail at once. A failed job stays visible';

create function salesai.retry_errors() returns bigint
language sql
set search_path = pg_catalog, pg_temp
as $$
    with retried as (
        update salesai.job j set state = 'pending', attempts = 0, not_before = now()
        where j.state = 'failed' returning j.interaction_id),
    pending as (
        update salesai.interaction i set state = 'pending' from retried r where i.id = r.interaction_id returning i.id),
    woken as materialized (select salesai.wake_worker())
    select count(*) from pending, woken
$$;
comment on function salesai.retry_errors() is 'Queues all failed jobs again; returns how many';

create function salesai.process(max_jobs integer default 100, timeout_ms integer default null) returns integer
language c volatile parallel unsafe as 'MODULE_PATHNAME', 'process_wrapper';
comment on function salesai.process(integer, integer) is
    'Drains up to max_jobs jobs in this session, for servers without the background worker; returns how many were finished. Holds this statement''s transaction while the model runs';
