-- From an original to chunks and vectors. The Rust pipeline calls these one after the other, each in a short transaction;
-- the lease token fences off a holder whose lease was taken over.

create function salesai.unread_payload(interaction_id bigint, version integer)
returns table (kind text, file_name text, media_type text, content bytea)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select i.kind, i.properties ->> 'filename', r.media_type,
        salesai.unseal(r.ciphertext, d.wrapped_key, r.interaction_id, r.version)
    from salesai.interaction i
    join salesai.raw_payload r on r.interaction_id = i.id and r.version = $2
    join salesai.data_key d on d.interaction_id = i.id
    where i.id = $1 and not exists (select from salesai.segment s where s.interaction_id = i.id and s.version = $2)
$$;
comment on function salesai.unread_payload(bigint, integer) is 'The original of a job whose segments are not there yet';

-- reading: {title, media_type, duration_ms, language, segments: [{speaker, turn, start_char, end_char, start_ms, end_ms,
-- content, part}]}. Returns false when the lease was lost: then nothing is written.
create function salesai.store_reading(job_id bigint, lease_token uuid, reading jsonb, markdown text default null) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    item record;
    names text[];
    known_as jsonb;
    segments constant jsonb := reading -> 'segments';
    title constant text := left(nullif(reading ->> 'title', ''), 300);
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
    -- Who was named before, and is written a little differently here, is the same person if nobody else may be.
    with speaker as (select distinct s ->> 'speaker' as name from jsonb_array_elements(segments) s where s ->> 'speaker' is not null)
    select coalesce(jsonb_object_agg(n.name, n.same[1]), '{}') into known_as
    from (select w.name, array_agg(p.name) as same
          from speaker w
          join salesai.participant p on p.interaction_id = item.id and salesai.normalise_name(p.name) = salesai.normalise_name(w.name)
          group by w.name) n
    where cardinality(n.same) = 1
      -- "John (Acme)" and "John (Halden)" are two.
      and (select count(*) from speaker o
           where salesai.normalise_name(o.name) = salesai.normalise_name(n.name) and lower(o.name) <> salesai.normalise_name(o.name)) <= 1;
    perform salesai.store_participants(item.id, (
        select coalesce(jsonb_agg(distinct jsonb_build_object('name', s ->> 'speaker')), '[]')
        from jsonb_array_elements(segments) s where s ->> 'speaker' is not null and not known_as ? (s ->> 'speaker')));
    names := salesai.known_names(item.account_id, item.id);
    if markdown is not null then
        update salesai.raw_payload r
        set text_ciphertext = salesai.seal_text(markdown, item.wrapped_key, item.id, item.version),
            media_type = coalesce(reading ->> 'media_type', r.media_type)
        where r.interaction_id = item.id and r.version = item.version;
    end if;
    update salesai.interaction i
    set redacted_kinds = item.kinds, language = coalesce(reading ->> 'language', i.language),
        duration_ms = coalesce((reading ->> 'duration_ms')::bigint, i.duration_ms),
        -- Now that all names are known.
        subject = salesai.redact_text(
            case when title is not null and i.subject = i.properties ->> 'filename' then title else i.subject end, item.kinds, names)
    where i.id = item.id;
    insert into salesai.segment (interaction_id, version, position, turn, participant_id, start_char, end_char, start_ms,
        end_ms, content, redactions, sealed, part)
    select item.id, item.version, r.position, (s.value ->> 'turn')::integer, p.id, (s.value ->> 'start_char')::integer,
        (s.value ->> 'end_char')::integer, (s.value ->> 'start_ms')::bigint, (s.value ->> 'end_ms')::bigint, r.content,
        r.redactions, r.sealed, s.value ->> 'part'
    from jsonb_array_elements(segments) with ordinality s (value, number)
    join salesai.redact_segments(segments, item.kinds, names, item.wrapped_key, item.id, item.version) r
        on r.position = s.number - 1
    left join salesai.participant p on p.interaction_id = item.id
        and p.name = coalesce(known_as ->> (s.value ->> 'speaker'), s.value ->> 'speaker');
    return true;
end
$$;
comment on function salesai.store_reading(bigint, uuid, jsonb, text) is
    'Writes what a leased job''s original says: segments and participants, and the text of a document; all or nothing; false when the lease was lost';

create function salesai.job_segments(interaction_id bigint, version integer)
returns table (heading text, "position" integer, turn integer, speaker text, start_char integer, end_char integer, content text,
    kind text, occurred_on text, language text, part text, is_backchannel boolean)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.heading(i.id), s.position, s.turn, p.label, s.start_char, s.end_char, s.content, i.kind,
        to_char(i.occurred_at at time zone 'UTC', 'YYYY-MM-DD'), i.language, s.part,
        i.kind in ('call', 'meeting') and length(s.content) < 60 and salesai.is_backchannel(s.content)
    from salesai.interaction i
    join salesai.segment s on s.interaction_id = i.id and s.version = $2
    left join salesai.speakers($1) p on p.participant_id = s.participant_id
    where i.id = $1
    order by s.position
$$;
comment on function salesai.job_segments(bigint, integer) is 'What a job chunks and embeds';

create function salesai.indexed_chunks(interaction_id bigint) returns table (first_position integer, heading text, content text)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    active bigint := (select s.id from salesai.embedding_set s where s.state = 'active');
begin
    if active is null then
        return;
    end if;
    return query execute format(
        'select c.first_position, c.heading, c.content from salesai.chunk c
         join salesai.interaction i on i.id = c.interaction_id
         where c.interaction_id = $1
           -- The day is part of what is embedded.
           and (c.occurred_at at time zone ''UTC'')::date = (i.occurred_at at time zone ''UTC'')::date
           -- One without (a gap that was accepted) is tried again.
           and exists (select from salesai.%I e where e.chunk_id = c.id)
         order by c.position', 'embedding_' || active)
        using interaction_id;
end
$$;
comment on function salesai.indexed_chunks(bigint) is 'The chunks of the version that is indexed: those that an edit left alone keep their embeddings';

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

create function salesai.target_sets() returns table (set_id bigint, model text, model_sha256 text, template text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select t.set_id, t.model, t.model_sha256, t.template
    from (select s.id, s.model, s.model_sha256, s.template, s.state <> 'active'
          from salesai.embedding_set s where s.state in ('building', 'ready', 'active')
          union all
          -- The one to come is made by the default model.
          select null, '', '', salesai.default_template(), false
          where not exists (select from salesai.embedding_set s where s.state = 'active')) t (set_id, model, model_sha256, template, is_other)
    order by t.is_other, t.set_id
$$;
comment on function salesai.target_sets() is 'Embedding sets that new chunks go into, the active one first';

-- chunks: [{first_position, last_position, start_char, end_char, token_count, heading, content, vector}], vector: its
-- number from 0 in embeddings, absent where a chunk of the same text is there already and keeps its embedding.
-- embeddings: all vectors end to end. Returns false when the lease was lost: then nothing is written.
create function salesai.finish_job(
    job_id bigint, lease_token uuid, chunks jsonb, embeddings real[],
    model text, model_sha256 text, dimensions integer, other_sets bigint[] default '{}', made_for bigint default null) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Somebody who began to change sets and went away must not stop the workers without a word.
set lock_timeout = '30s'
as $$
declare
    done salesai.job;
    set_id bigint;
begin
    -- Who makes the first set needs the lock alone, and must not ask for it while another holds it shared too.
    perform salesai.lock_embedding_sets(alone => not exists (select from salesai.embedding_set s where s.state = 'active'));
    perform salesai.lock_interaction(job_id);
    delete from salesai.job j
    where j.id = $1 and j.state = 'running' and j.lease_token = $2
    returning * into done;
    if not found then
        return false;
    end if;
    select s.id into set_id from salesai.embedding_set s where s.state = 'active';
    if made_for is not null and made_for is distinct from set_id then
        raise exception 'another embedding set became active meanwhile' using errcode = '40001';
    end if;
    -- Without a new chunk no model was asked.
    if model is not null then
        set_id := salesai.active_embedding_set(model, model_sha256, dimensions);
    end if;
    perform salesai.store_chunks(done.interaction_id, done.version, chunks);
    perform salesai.store_summary(done.interaction_id, done.version);
    if jsonb_array_length(chunks) > 0 then
        perform salesai.store_embeddings(done.interaction_id, chunks, embeddings, set_id, dimensions);
        if exists (select from salesai.embedding_gaps(done.interaction_id, set_id)) then
            raise exception 'the chunks changed meanwhile' using errcode = '40001';
        end if;
    end if;
    -- A set that is built gets what it was not given by a job of its own.
    insert into salesai.job (kind, version, lane, embedding_set_id, first_chunk_id, last_chunk_id)
    select 'embed', 0, 'background', s.id, min(c.id), max(c.id)
    from salesai.embedding_set s
    join salesai.chunk c on c.interaction_id = done.interaction_id
    where s.state in ('building', 'ready') and s.id <> all (other_sets)
    group by s.id;
    update salesai.interaction i
    set state = 'ready', processed_version = done.version, processed_at = clock_timestamp()
    where i.id = done.interaction_id;
    return true;
end
$$;
comment on function salesai.finish_job(bigint, uuid, jsonb, real[], text, text, integer, bigint[], bigint) is
    'Writes the chunks and embeddings of a leased job and removes it, all or nothing; false when the lease was lost. made_for: the set whose template and model made the embeddings; other_sets: sets that the same transaction stores embeddings in';

-- A chunk of the same heading and content keeps its row, and with it its embeddings in all sets.
create function salesai.store_chunks(interaction_id bigint, version integer, chunks jsonb) returns void
language sql
set search_path = pg_catalog, pg_temp
as $$
    with given as materialized (
        select c.position - 1 as position, c.value ->> 'heading' as heading, c.value ->> 'content' as content,
            (c.value ->> 'token_count')::integer as token_count, (c.value ->> 'first_position')::integer as first_position,
            (c.value ->> 'last_position')::integer as last_position, (c.value ->> 'start_char')::integer as start_char,
            (c.value ->> 'end_char')::integer as end_char, h.hash, row_number() over (partition by h.hash order by c.position) as twin
        from jsonb_array_elements(chunks) with ordinality c (value, position)
        cross join lateral (select salesai.chunk_hash(c.value ->> 'heading', c.value ->> 'content') as hash) h),
    known as materialized (
        select c.id, c.content_hash as hash, row_number() over (partition by c.content_hash order by c.position) as twin
        from salesai.chunk c where c.interaction_id = $1),
    gone as (
        delete from salesai.chunk c
        using known k left join given g on g.hash = k.hash and g.twin = k.twin
        where c.id = k.id and g.hash is null),
    moved as (
        update salesai.chunk c
        set version = $2, position = g.position, first_position = g.first_position, last_position = g.last_position,
            start_char = g.start_char, end_char = g.end_char, occurred_at = i.occurred_at, account_id = i.account_id,
            opportunity_id = i.opportunity_id, owner_rep_id = i.owner_rep_id, team_id = i.team_id
        from known k
        join given g on g.hash = k.hash and g.twin = k.twin
        join salesai.interaction i on i.id = $1
        where c.id = k.id)
    insert into salesai.chunk (interaction_id, version, position, first_position, last_position, start_char, end_char,
        token_count, heading, content, content_hash, kind, occurred_at, account_id, opportunity_id, owner_rep_id, team_id, language)
    select i.id, $2, g.position, g.first_position, g.last_position, g.start_char, g.end_char, g.token_count, g.heading,
        g.content, g.hash, i.kind, i.occurred_at, i.account_id, i.opportunity_id, i.owner_rep_id, i.team_id, i.language
    from salesai.interaction i
    cross join given g
    left join known k on k.hash = g.hash and k.twin = g.twin
    where i.id = $1 and k.id is null
$$;
comment on function salesai.store_chunks(bigint, integer, jsonb) is 'Makes these the chunks of an interaction';

create function salesai.chunk_hash(heading text, content text) returns bytea
language sql stable
as $$ select pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.concat(heading, e'\n', content), 'UTF8')) $$;
comment on function salesai.chunk_hash(text, text) is 'What a chunk is known by';

create function salesai.store_embeddings(interaction_id bigint, chunks jsonb, embeddings real[], set_id bigint, dimensions integer) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($1)[g.vector * $2 + 1 : (g.vector + 1) * $2]::@extschema:vector@.%I
         from (select e.position - 1 as position, (e.value ->> ''vector'')::integer as vector
               from jsonb_array_elements($3) with ordinality e (value, position)) g
         join salesai.chunk c on c.interaction_id = $4 and c.position = g.position
         where g.vector is not null
         on conflict (chunk_id) do update set embedding = excluded.embedding',
        'embedding_' || set_id, (select s.element from salesai.embedding_set s where s.id = set_id))
        using embeddings, dimensions, chunks, interaction_id;
end
$$;
comment on function salesai.store_embeddings(bigint, jsonb, real[], bigint, integer) is
    'Stores the vectors of an interaction''s chunks in a set; chunks and embeddings as in salesai.finish_job';

create function salesai.embedding_gaps(interaction_id bigint, set_id bigint) returns setof bigint
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query execute format(
        'select c.id from salesai.chunk c
         where c.interaction_id = $1 and not exists (select from salesai.%I e where e.chunk_id = c.id)', 'embedding_' || set_id)
        using interaction_id;
end
$$;
comment on function salesai.embedding_gaps(bigint, bigint) is 'Chunks of an interaction without an embedding in this set';

-- Works on one range of chunks for a set that is built.
create function salesai.range_chunks(job_id bigint)
returns table (chunk_id bigint, heading text, content text, kind text, occurred_on text, token_count integer)
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    work salesai.job;
begin
    select * into work from salesai.job j where j.id = job_id;
    if not found then
        return;
    end if;
    return query execute format(
        'select c.id, c.heading, c.content, c.kind, to_char(c.occurred_at at time zone ''UTC'', ''YYYY-MM-DD''), c.token_count
         from salesai.chunk c
         where c.id between $1 and $2 and not exists (select from salesai.%I e where e.chunk_id = c.id)
         order by c.id limit 512', 'embedding_' || work.embedding_set_id)
        using work.first_chunk_id, work.last_chunk_id;
end
$$;
comment on function salesai.range_chunks(bigint) is 'Chunks that an embed job has still to embed, at most 512';

create function salesai.finish_range(
    job_id bigint, lease_token uuid, chunk_ids bigint[], embeddings real[], model_sha256 text, dimensions integer) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    work salesai.job;
    target salesai.embedding_set;
begin
    select * into work from salesai.job j where j.id = $1 and j.state = 'running' and j.lease_token = $2 for update;
    if not found then
        return false;
    end if;
    select * into target from salesai.embedding_set s where s.id = work.embedding_set_id;
    if target.model_sha256 <> model_sha256 and cardinality(chunk_ids) > 0 then
        raise exception 'the sidecar''s model "%" has other weights than the embedding set', target.model using
            errcode = '55000', hint = 'Start the sidecar with the weights that made the set, or drop the set.';
    end if;
    execute format(
        'insert into salesai.%I (chunk_id, embedding)
         select c.id, ($2)[(g.number - 1) * $3 + 1 : g.number * $3]::@extschema:vector@.%I
         from unnest($1) with ordinality g (id, number)
         -- Chunks may be gone by now.
         join salesai.chunk c on c.id = g.id
         on conflict (chunk_id) do nothing', 'embedding_' || target.id, target.element)
        using chunk_ids, embeddings, dimensions;
    if exists (select from salesai.range_chunks(job_id)) then
        -- More than one round takes: from the start again, where others may go first.
        perform salesai.release_job(job_id, lease_token, 0);
        return false;
    end if;
    delete from salesai.job j where j.id = job_id;
    return true;
end
$$;
comment on function salesai.finish_range(bigint, uuid, bigint[], real[], text, integer) is
    'Stores the embeddings of an embed job and removes it when nothing is left of its range; false when the lease was lost or more is left';

-- Null: the set still waits for chunks. Else what is to be run, outside any transaction.
create function salesai.index_build_steps(job_id bigint) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select salesai.embedding_index_steps(b.embedding_set_id)
    from salesai.job b
    where b.id = job_id and not exists (
        select from salesai.job j where j.embedding_set_id = b.embedding_set_id and j.kind = 'embed' and j.state <> 'failed')
$$;
comment on function salesai.index_build_steps(bigint) is 'Statements that a build_index job has to run; NULL while chunks are still embedded';

create function salesai.has_failed_ranges(job_id bigint) returns boolean
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from salesai.job b
        join salesai.job j on j.embedding_set_id = b.embedding_set_id and j.kind = 'embed' and j.state = 'failed'
        where b.id = job_id)
$$;
comment on function salesai.has_failed_ranges(bigint) is 'Whether chunks of the set of a build_index job could not be embedded';

create function salesai.finish_index_build(job_id bigint, lease_token uuid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
-- Writers of chunks queue behind who waits for the lock alone.
set lock_timeout = '5s'
as $$
declare
    target salesai.embedding_set;
begin
    -- Nobody writes chunks until this commits.
    perform salesai.lock_embedding_sets(alone => true);
    select s.* into target
    from salesai.job j join salesai.embedding_set s on s.id = j.embedding_set_id
    where j.id = $1 and j.state = 'running' and j.lease_token = $2;
    if not found then
        return false;
    end if;
    if salesai.embedding_index_steps(target.id) <> '{}'
       or exists (select from salesai.job j where j.embedding_set_id = target.id and j.kind = 'embed') then
        perform salesai.release_job(job_id, lease_token, 200);
        return false;
    end if;
    delete from salesai.job j where j.id = job_id;
    perform salesai.complete_embedding_set(target.id);
    return true;
end
$$;
comment on function salesai.finish_index_build(bigint, uuid) is
    'Makes a set that is filled and indexed active, or ready; false when the lease was lost or new chunks came, which are waited for';

create function salesai.complete_embedding_set(set_id bigint) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if (select s.switch_when_complete from salesai.embedding_set s where s.id = set_id) then
        perform salesai.switch_embedding_set(set_id);
    else
        update salesai.embedding_set s set state = 'ready' where s.id = set_id;
    end if;
end
$$;
comment on function salesai.complete_embedding_set(bigint) is 'What follows when a set is filled and indexed';

create function salesai.process(max_jobs integer default 100, timeout_ms integer default null) returns integer
language c volatile parallel unsafe
set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'process_wrapper';
comment on function salesai.process(integer, integer) is
    'Drains up to max_jobs jobs in this session, then questions of salesai.insight_submit and rows of column tasks by roles that the session may set, for servers without the background worker; returns how many were finished. Holds this statement''s transaction while the model runs';
